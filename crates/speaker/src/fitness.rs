//! Whether this node can announce addresses on its segments, found from its interfaces, networks and default routes, and
//! damped: a loss counts when it lasts, and what is back counts as lost for a while, the longer the more often it was lost
//! (contract 12.2 R9).
//!
//! It knows no other node, and not what follows: see `contest.rs`.

use std::collections::{BTreeMap, BTreeSet};

use config::Config;
use ipnet::IpNet;
use kit::{Duration, Family, Instant, InterfaceIndex, Labels};
use l2::{Interface, InterfaceFlags, Protocol};

use crate::hindrance::{Hindrance, Hindrances};

/// What lasts less long is not told: addresses that are set anew, a bond that changes its port.
pub const LOSS_MIN: Duration = Duration::from_millis(300);
/// How long what is back counts as lost, at first and at most. It doubles with each loss.
pub const HOLD_FIRST: Duration = Duration::from_secs(10);
/// See [`HOLD_FIRST`].
pub const HOLD_MAX: Duration = Duration::from_secs(320);
/// How long a node that was cut off waits to hear of others when its link is back, before it takes itself for the only one.
/// memberlist finds them in a second or so.
pub const RETURN_TIME: Duration = Duration::from_secs(3);
/// What was not lost for so long begins with [`HOLD_FIRST`] again.
pub const CALM: Duration = Duration::from_secs(600);
/// Networks that are remembered; a node is on a few.
const NETWORKS_MAX: usize = 1024;

/// An interface of this host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link {
    /// How it is.
    pub interface: Interface,
    /// The networks of its addresses.
    pub networks: BTreeSet<IpNet>,
}

impl Link {
    /// Addresses of the family may be answered there: if it has carrier.
    fn may_answer(&self, family: Family) -> bool {
        self.interface.obstacle(Protocol::for_family(family)).is_none()
    }

    fn answers(&self, family: Family) -> bool {
        self.may_answer(family) && self.works()
    }

    fn works(&self) -> bool {
        self.interface.flags.contains(InterfaceFlags::UP | InterfaceFlags::CARRIER)
    }
}

/// What is known of the ways from and to this node, and what is told of it.
#[derive(Debug, Default)]
pub(crate) struct Fitness {
    links: Option<Vec<Link>>,
    gateways: BTreeMap<Family, BTreeSet<InterfaceIndex>>,
    /// Networks on which this node was.
    networks: BTreeSet<IpNet>,
    /// Families that had a default route.
    ways_out: BTreeSet<Family>,
    losses: BTreeMap<Hindrance, Loss>,
    told: Hindrances,
    /// Of those, what cuts this node off so that it may not know who else is there: links that are away, or just back.
    cut: Hindrances,
    /// Something has changed that was not looked at.
    news: bool,
}

/// Something that is lost, or was lately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Loss {
    phase: Phase,
    /// How long it counts when it is back; nothing before it has counted.
    hold: Duration,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It is lost, and counts from then on.
    Noticed { counts_at: Instant },
    /// It is lost, and counts.
    Lost,
    /// It is back since a moment ago, and counts as lost until the other time.
    Returning { until: Instant, held: Instant },
    /// It is back, and counts as lost until then.
    Held { until: Instant },
    /// It counts no more; it is forgotten then.
    Back { until: Instant },
}

/// What a look has brought.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Nothing.
    Same,
    /// Something else is true of this node, and nothing else to be told.
    Known,
    /// Something else is to be told.
    Told,
}

impl Loss {
    fn counts(self) -> bool {
        matches!(self.phase, Phase::Lost | Phase::Returning { .. } | Phase::Held { .. })
    }

    fn cuts(self) -> bool {
        matches!(self.phase, Phase::Lost | Phase::Returning { .. })
    }

    fn deadline(self) -> Option<Instant> {
        match self.phase {
            Phase::Noticed { counts_at: at }
            | Phase::Returning { until: at, .. }
            | Phase::Held { until: at }
            | Phase::Back { until: at } => Some(at),
            Phase::Lost => None,
        }
    }

    fn noticed(now: Instant, hold: Duration) -> Loss {
        Loss { phase: Phase::Noticed { counts_at: now + LOSS_MIN }, hold }
    }

    /// It counts from now on, once more.
    fn counted(self) -> Loss {
        Loss { phase: Phase::Lost, hold: self.hold.times(2).clamp(HOLD_FIRST, HOLD_MAX) }
    }

    /// It is lost now. In each phase.
    fn while_lost(self, now: Instant) -> Loss {
        match self.phase {
            Phase::Noticed { counts_at } if counts_at <= now => self.counted(),
            Phase::Noticed { .. } | Phase::Lost => self,
            Phase::Returning { .. } | Phase::Held { .. } => self.counted(),
            Phase::Back { .. } => Loss::noticed(now, self.hold),
        }
    }

    /// It is there now. `None` when there is nothing to remember.
    fn while_there(self, now: Instant) -> Option<Loss> {
        let back = Loss { phase: Phase::Back { until: now + CALM }, ..self };
        match self.phase {
            // It did not count. Earlier times are remembered.
            Phase::Noticed { .. } => Some(back).filter(|_| !self.hold.is_zero()),
            Phase::Lost => {
                let phase = Phase::Returning { until: now + RETURN_TIME, held: now + self.hold };
                Some(Loss { phase, ..self })
            }
            Phase::Returning { until, held } if until <= now => {
                Some(Loss { phase: Phase::Held { until: held }, ..self })
            }
            Phase::Held { until } if until <= now => Some(back),
            Phase::Back { until } if until <= now => None,
            Phase::Returning { .. } | Phase::Held { .. } | Phase::Back { .. } => Some(self),
        }
    }
}

impl Fitness {
    /// These are all interfaces now.
    pub(crate) fn links(&mut self, links: Vec<Link>) {
        self.news |= self.links.as_ref() != Some(&links);
        self.links = Some(links);
    }

    /// The default routes of this host leave by these now: all next hops of all routes.
    pub(crate) fn gateways(&mut self, gateways: BTreeMap<Family, BTreeSet<InterfaceIndex>>) {
        self.news |= self.gateways != gateways;
        self.gateways = gateways;
    }

    /// The configuration, or a label of this node, is another.
    pub(crate) fn configured(&mut self) {
        self.news = true;
    }

    /// What the other speakers are told.
    pub(crate) fn told(&self) -> &Hindrances {
        &self.told
    }

    /// What of that cuts this node off.
    pub(crate) fn cut(&self) -> &Hindrances {
        &self.cut
    }

    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.losses.values().filter_map(|loss| loss.deadline()).min()
    }

    /// Looks at everything, if anything has changed or is due.
    pub(crate) fn assess(&mut self, now: Instant, config: &Config, labels: &Labels) -> Outcome {
        let is_due = self.deadline().is_some_and(|at| at <= now);
        if self.links.is_none() || !(self.news || is_due) {
            return Outcome::Same;
        }
        self.news = false;
        self.remember();
        let lost = self.lost(config, labels);
        let before = std::mem::take(&mut self.losses);
        for (hindrance, loss) in before {
            let is_lost = lost.contains(&hindrance);
            let after = if is_lost { Some(loss.while_lost(now)) } else { loss.while_there(now) };
            if let Some(after) = after.filter(|_| is_lost || is_meant(&hindrance, config, labels)) {
                self.losses.insert(hindrance, after);
            }
        }
        for hindrance in lost {
            self.losses.entry(hindrance).or_insert(Loss::noticed(now, Duration::ZERO));
        }
        let those = |which: fn(&(&Hindrance, &Loss)) -> bool| {
            let some = self.losses.iter().filter(which).map(|(hindrance, _)| hindrance.clone());
            Hindrances::new(some.collect())
        };
        let told = those(|(_, loss)| loss.counts());
        let cut = those(|(hindrance, loss)| loss.cuts() && !matches!(hindrance, Hindrance::WayOut(_)));
        let outcome = match (told != self.told, cut != self.cut) {
            (true, _) => Outcome::Told,
            (false, true) => Outcome::Known,
            (false, false) => Outcome::Same,
        };
        (self.told, self.cut) = (told, cut);
        outcome
    }

    /// Notes what this node has, so that it is missed when it is gone. A node that never was on a network is no worse for it.
    ///
    /// A network that got a wider mask is that one from then on. As long as an interface has the narrower one as well, that
    /// may be another segment, and is missed.
    fn remember(&mut self) {
        let links = || self.links.iter().flatten();
        let has = |network: &IpNet| links().any(|link| link.networks.contains(network));
        let has_wider = |network: &IpNet| {
            let mut working = links().filter(|link| link.answers(family(network)));
            working.any(|link| link.networks.iter().any(|wider| wider.contains(network)))
        };
        self.networks.retain(|network| has(network) || !has_wider(network));
        for link in self.links.iter().flatten() {
            let networks =
                link.networks.iter().filter(|network| link.may_answer(family(network)) && is_network(network));
            for network in networks {
                if self.networks.len() < NETWORKS_MAX {
                    self.networks.insert(*network);
                }
            }
        }
        self.ways_out.extend(self.gateways.keys());
    }

    /// Everything that is missing now.
    fn lost(&self, config: &Config, labels: &Labels) -> BTreeSet<Hindrance> {
        let mut lost = BTreeSet::new();
        let links = || self.links.iter().flatten();
        for advertisement in advertisements(config, labels) {
            for family in Family::ALL.into_iter().filter(|family| has_family(config, &advertisement.name, *family)) {
                let allows = |link: &Link| {
                    advertisement.interfaces.is_empty() || advertisement.interfaces.contains(&link.interface.name)
                };
                if !links().any(|link| allows(link) && link.answers(family)) {
                    lost.insert(Hindrance::Advertisement { family, name: advertisement.name.clone() });
                }
            }
        }
        for network in self.networks.iter().filter(|network| is_pooled(network, config)) {
            if !links().any(|link| link.answers(family(network)) && link.networks.contains(network)) {
                lost.insert(Hindrance::Network(*network));
            }
        }
        for family in &self.ways_out {
            let leads = |index: &InterfaceIndex| links().any(|link| link.interface.index == *index && link.works());
            if !self.gateways.get(family).into_iter().flatten().any(leads) {
                lost.insert(Hindrance::WayOut(*family));
            }
        }
        lost
    }
}

/// The L2Advertisements that this node may announce by.
fn advertisements<'a>(config: &'a Config, labels: &'a Labels) -> impl Iterator<Item = &'a config::L2Advertisement> {
    let all = config.pools.values().flat_map(|pool| pool.l2_advertisements.values());
    all.map(AsRef::as_ref).filter(|advertisement| advertisement.node_selectors.matches(labels))
}

/// Whether a pool of the advertisement has addresses of the family.
fn has_family(config: &Config, advertisement: &str, family: Family) -> bool {
    let pools = config.pools.values().filter(|pool| pool.l2_advertisements.contains_key(advertisement));
    pools.flat_map(|pool| &pool.ranges).any(|range| range.family() == family)
}

/// Whether addresses of the network are for Services on the local segment.
fn is_pooled(network: &IpNet, config: &Config) -> bool {
    let (first, last) = (Family::number(&network.network()), Family::number(&network.broadcast()));
    let pools = config.pools.values().filter(|pool| !pool.l2_advertisements.is_empty());
    pools
        .flat_map(|pool| &pool.ranges)
        .any(|range| range.family() == family(network) && range.first() <= last && first <= range.last())
}

/// Whether the hindrance still means anything: what is gone from the configuration is not waited for.
fn is_meant(hindrance: &Hindrance, config: &Config, labels: &Labels) -> bool {
    match hindrance {
        Hindrance::Advertisement { family, name } => {
            advertisements(config, labels).any(|it| it.name == *name) && has_family(config, name, *family)
        }
        Hindrance::Network(network) => is_pooled(network, config),
        Hindrance::WayOut(_) | Hindrance::Everything => true,
    }
}

fn family(network: &IpNet) -> Family {
    Family::of(&network.addr())
}

/// More than one address, and not link-local: an address of its own says nothing about a segment.
fn is_network(network: &IpNet) -> bool {
    let is_link_local = match network {
        IpNet::V4(network) => network.addr().is_link_local(),
        IpNet::V6(network) => network.addr().is_unicast_link_local(),
    };
    network.prefix_len() < network.max_prefix_len() && !is_link_local
}

#[cfg(test)]
mod tests {
    use std::fmt::Write as _;

    use expect_test::{Expect, expect};

    use super::*;

    fn at(seconds: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(seconds)
    }

    /// Every phase, with what was lost being lost or there, before its deadline and after.
    fn check(hold: Duration, expected: Expect) {
        let phases = [
            ("noticed", Phase::Noticed { counts_at: at(100) }),
            ("lost", Phase::Lost),
            ("returning", Phase::Returning { until: at(100), held: at(107) }),
            ("held", Phase::Held { until: at(100) }),
            ("back", Phase::Back { until: at(100) }),
        ];
        let show = |loss: Option<Loss>| match loss {
            None => "forgotten".to_owned(),
            Some(Loss { phase, hold }) => {
                let phase = match phase {
                    Phase::Noticed { counts_at } => format!("noticed, counts at {counts_at:?}"),
                    Phase::Lost => "lost".to_owned(),
                    Phase::Returning { until, held } => format!("returning until {until:?}, held until {held:?}"),
                    Phase::Held { until } => format!("held until {until:?}"),
                    Phase::Back { until } => format!("back until {until:?}"),
                };
                format!("{phase}, hold {hold}")
            }
        };
        let mut lines = String::new();
        // What never counted was only noticed.
        for (name, phase) in phases.into_iter().take(if hold.is_zero() { 1 } else { 5 }) {
            for now in [at(99), at(100)] {
                let loss = Loss { phase, hold };
                writeln!(lines, "{name} at {now:?}, lost: {}", show(Some(loss.while_lost(now)))).unwrap();
                writeln!(lines, "{name} at {now:?}, there: {}", show(loss.while_there(now))).unwrap();
            }
        }
        expected.assert_eq(&lines);
    }

    #[test]
    fn r9_every_phase_at_every_time() {
        check(
            Duration::ZERO,
            expect![[r"
                noticed at Instant(99000000), lost: noticed, counts at Instant(100000000), hold 0ns
                noticed at Instant(99000000), there: forgotten
                noticed at Instant(100000000), lost: lost, hold 10s
                noticed at Instant(100000000), there: forgotten
            "]],
        );
        check(
            HOLD_FIRST,
            expect![[r#"
                noticed at Instant(99000000), lost: noticed, counts at Instant(100000000), hold 10s
                noticed at Instant(99000000), there: back until Instant(699000000), hold 10s
                noticed at Instant(100000000), lost: lost, hold 20s
                noticed at Instant(100000000), there: back until Instant(700000000), hold 10s
                lost at Instant(99000000), lost: lost, hold 10s
                lost at Instant(99000000), there: returning until Instant(102000000), held until Instant(109000000), hold 10s
                lost at Instant(100000000), lost: lost, hold 10s
                lost at Instant(100000000), there: returning until Instant(103000000), held until Instant(110000000), hold 10s
                returning at Instant(99000000), lost: lost, hold 20s
                returning at Instant(99000000), there: returning until Instant(100000000), held until Instant(107000000), hold 10s
                returning at Instant(100000000), lost: lost, hold 20s
                returning at Instant(100000000), there: held until Instant(107000000), hold 10s
                held at Instant(99000000), lost: lost, hold 20s
                held at Instant(99000000), there: held until Instant(100000000), hold 10s
                held at Instant(100000000), lost: lost, hold 20s
                held at Instant(100000000), there: back until Instant(700000000), hold 10s
                back at Instant(99000000), lost: noticed, counts at Instant(99300000), hold 10s
                back at Instant(99000000), there: back until Instant(100000000), hold 10s
                back at Instant(100000000), lost: noticed, counts at Instant(100300000), hold 10s
                back at Instant(100000000), there: forgotten
            "#]],
        );
        check(
            HOLD_MAX,
            expect![[r#"
                noticed at Instant(99000000), lost: noticed, counts at Instant(100000000), hold 320s
                noticed at Instant(99000000), there: back until Instant(699000000), hold 320s
                noticed at Instant(100000000), lost: lost, hold 320s
                noticed at Instant(100000000), there: back until Instant(700000000), hold 320s
                lost at Instant(99000000), lost: lost, hold 320s
                lost at Instant(99000000), there: returning until Instant(102000000), held until Instant(419000000), hold 320s
                lost at Instant(100000000), lost: lost, hold 320s
                lost at Instant(100000000), there: returning until Instant(103000000), held until Instant(420000000), hold 320s
                returning at Instant(99000000), lost: lost, hold 320s
                returning at Instant(99000000), there: returning until Instant(100000000), held until Instant(107000000), hold 320s
                returning at Instant(100000000), lost: lost, hold 320s
                returning at Instant(100000000), there: held until Instant(107000000), hold 320s
                held at Instant(99000000), lost: lost, hold 320s
                held at Instant(99000000), there: held until Instant(100000000), hold 320s
                held at Instant(100000000), lost: lost, hold 320s
                held at Instant(100000000), there: back until Instant(700000000), hold 320s
                back at Instant(99000000), lost: noticed, counts at Instant(99300000), hold 320s
                back at Instant(99000000), there: back until Instant(100000000), hold 320s
                back at Instant(100000000), lost: noticed, counts at Instant(100300000), hold 320s
                back at Instant(100000000), there: forgotten
            "#]],
        );
    }
}
