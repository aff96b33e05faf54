//! What is tried out on a cluster at rest: a restart, a change of one route, the loss of an owner.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::core::Service;
use api::{Key, Object};
use kit::{Duration, Family};

use super::rest::ROUNDS;
use super::{Claim, Cluster, Manner, Membership};
use crate::model;
use crate::names::{Lan, NodeId, ProcessId, RouterName};
use crate::router::Table;
use crate::step::{Exit, Step};
use crate::violation::{Invariant, Violation, hold};

/// In this time everybody has heard that a node is lost, the new owner has announced itself, and the old one is silent.
const TAKEOVER: Duration = Duration::from_secs(20);

/// How long a node is hindered: until it is mended.
const HINDERED: Duration = Duration::from_secs(60);

/// How long a stranger claims an address: shorter than the time after which it may be defended again.
const STRANGE: Duration = Duration::from_millis(8_500);

/// How long a cable is out.
const REPLUG: Duration = Duration::from_secs(3);

/// Something to try out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exam {
    /// A restart of the controller changes nothing.
    ControllerRestart,
    /// A restart of a speaker changes nothing.
    SpeakerRestart,
    /// One changed route takes one UPDATE.
    OneUpdate,
    /// When a node is lost that answers for addresses, the network hears of the new owners.
    Takeover,
    /// When an interface is back, or has another Ethernet address, the network hears of it.
    Replug,
    /// A node that cannot announce leaves its addresses to one that can.
    Hinder,
    /// Somebody who does not belong to the cluster claims an address: that is told of, and the address is kept.
    Stranger,
    /// Nodes that hear each other on the links alone, and not by memberlist, agree on one owner.
    Blocked,
}

impl Exam {
    /// The one for a seed.
    pub fn of_seed(seed: u64) -> Exam {
        match seed % 6 {
            0 => Exam::ControllerRestart,
            1 => Exam::SpeakerRestart,
            2 => Exam::OneUpdate,
            3 => Exam::Takeover,
            4 => Exam::Replug,
            _ => Exam::Hinder,
        }
    }

    /// One more for some seeds.
    pub fn another_of_seed(seed: u64) -> Option<Exam> {
        match seed % 5 {
            1 => Some(Exam::Stranger),
            3 => Some(Exam::Blocked),
            _ => None,
        }
    }
}

impl Cluster {
    /// Tries something out on the cluster, which has to be at rest.
    pub fn pass(&mut self, exam: Exam) -> Result<(), Violation> {
        // Who starts while the configuration is invalid cannot know the one before; then nothing can be compared.
        if !self.is_valid_everywhere() {
            return Ok(());
        }
        self.say(|| format!("* exam: {exam:?}"));
        match exam {
            Exam::ControllerRestart => self.restarts_controller(),
            Exam::SpeakerRestart => self.restarts_speaker(),
            Exam::OneUpdate => self.changes_one_route(),
            Exam::Takeover => self.loses_an_owner(),
            Exam::Replug => self.replugs_an_interface(),
            Exam::Hinder => self.hinders_an_owner(),
            Exam::Stranger => self.meets_a_stranger(),
            Exam::Blocked => self.loses_memberlist(),
        }
    }

    /// Neither statuses nor counters change; nothing is even written.
    fn restarts_controller(&mut self) -> Result<(), Violation> {
        let (before, writes) = (self.statuses(), self.writes);
        self.restart(ProcessId::Controller, Exit::Crash)?;
        self.rest()?;
        let after = self.statuses();
        hold(before == after && writes == self.writes, Invariant::RestartIsInert, || {
            format!("with {} writes, statuses went from {before:?} to {after:?}", self.writes.saturating_sub(writes))
        })
    }

    pub(super) fn statuses(&self) -> BTreeMap<Key, Vec<String>> {
        let shown = |service: &Service| {
            let ingress = &service.status.load_balancer.ingress;
            ingress.iter().filter_map(|entry| entry.ip.clone()).collect()
        };
        self.api.services().map(|service| (service.metadata.key(), shown(service))).collect()
    }

    /// Who answers and who has which routes is as before.
    fn restarts_speaker(&mut self) -> Result<(), Violation> {
        let running: Vec<NodeId> =
            self.machines.iter().filter(|(_, machine)| machine.speaker.is_some()).map(|(node, _)| *node).collect();
        let Some(node) = self.rng.pick(&running).copied() else { return Ok(()) };
        let (tables, writes) = (self.tables(), self.writes);
        let exit = if self.rng.one_in(2) { Exit::Ordered } else { Exit::Crash };
        self.disturb(Some(node), None);
        self.restart(ProcessId::Speaker(node), exit)?;
        // Answers are compared with what they should be, which does not depend on who was restarted.
        self.rest()?;
        let after = self.tables();
        hold(tables == after && writes == self.writes, Invariant::RestartIsInert, || {
            format!("a restart of {node} changed the routes from {tables:?} to {after:?}")
        })
    }

    /// The pods of one Service go away and come back. Each router is told of each prefix that this changes, once.
    fn changes_one_route(&mut self) -> Result<(), Violation> {
        let services: Vec<Service> = self.api.services().filter(|service| self.is_routed(service)).cloned().collect();
        let Some(service) = self.rng.pick(&services).cloned() else { return Ok(()) };
        let slices: Vec<Object> = self
            .api
            .slices()
            .filter(|slice| slice.metadata.labels.get(api::SERVICE_NAME) == Some(&service.metadata.name))
            .filter(|slice| slice.metadata.namespace == service.metadata.namespace)
            .cloned()
            .map(Object::EndpointSlice)
            .collect();
        let (before, updates) = (self.tables(), self.updates());
        for slice in &slices {
            self.delete(&slice.reference());
        }
        self.rest()?;
        let (between, updates_between) = (self.tables(), self.updates());
        check_updates(&service, (&before, &updates), (&between, &updates_between))?;
        for slice in slices {
            self.edit(slice);
        }
        self.rest()?;
        check_updates(&service, (&between, &updates_between), (&self.tables(), &self.updates()))
    }

    fn is_routed(&self, service: &Service) -> bool {
        // Routes are nobody's but the node's own.
        let unhindered = BTreeMap::new();
        self.machines.iter().any(|(node, machine)| {
            let config = machine.speaker.as_ref().and_then(|speaker| speaker.configuration());
            config.is_some_and(|config| !model::routes(self.view(*node, config, &unhindered), service).is_empty())
        })
    }

    fn updates(&self) -> BTreeMap<(RouterName, NodeId), u64> {
        let of = |(name, node): &(RouterName, NodeId)| self.routers.get(name).map_or(0, |router| router.updates(*node));
        self.tables().into_keys().map(|place| (place, of(&place))).collect()
    }

    /// A node that answers is no longer ready, or loses power where that is what counts. Where another one can answer, it does, and says so without being asked.
    fn loses_an_owner(&mut self) -> Result<(), Violation> {
        let before = self.expected_answers();
        let owns = |node: &NodeId| {
            self.machines.get(node).is_some_and(|machine| {
                machine.is_on && before.iter().any(|((lan, _), macs)| macs.contains(&machine.mac(*lan)))
            })
        };
        let owners: Vec<NodeId> = self.machines.keys().copied().filter(owns).collect();
        let Some(lost) = self.rng.pick(&owners).copied() else { return Ok(()) };
        match self.climate.membership {
            Membership::Nodes => self.set_ready(lost, "Unknown"),
            Membership::Memberlist => self.power_off(lost),
        }
        self.run_for(TAKEOVER)?;
        for ((lan, address), macs) in self.expected_answers() {
            // Where two answered (see `check_single_owners`) the one that is left has nothing new to say.
            let is_new = before.get(&(lan, address)).is_none_or(|before| before.is_disjoint(&macs));
            let told = self.asker.told(lan, address);
            let is_told = told.is_some_and(|mac| macs.contains(&mac));
            hold(!is_new || is_told, Invariant::TakeoverIsTold, || {
                format!("{macs:?} answers for {address} on {lan:?} since {lost} is lost, but {told:?} was told last")
            })?;
        }
        match self.climate.membership {
            Membership::Nodes => self.set_ready(lost, "True"),
            Membership::Memberlist => self.power_on(lost),
        }
        self.rest()
    }
}

impl Cluster {
    /// An interface with addresses loses its cable and gets it back, or gets another Ethernet address. Either way it says
    /// anew which addresses are there.
    fn replugs_an_interface(&mut self) -> Result<(), Violation> {
        let places = self.expected_answers();
        let has_one = |(node, lan): &(NodeId, Lan)| {
            let mac = self.machines.get(node).map(|machine| machine.mac(*lan));
            places.iter().any(|((at, _), macs)| at == lan && mac.is_some_and(|mac| macs.contains(&mac)))
        };
        let interfaces = self.machines.keys().flat_map(|node| node.lans().iter().map(|lan| (*node, *lan)));
        let interfaces: Vec<(NodeId, Lan)> = interfaces.filter(has_one).collect();
        let Some((node, lan)) = self.rng.pick(&interfaces).copied() else { return Ok(()) };
        let before = self.machines.get(&node).map(|machine| machine.mac(lan));
        self.asker.forget_told();
        if self.rng.one_in(2) {
            self.unplug(node, lan, REPLUG);
        } else {
            self.swap_mac(node, lan);
        }
        self.run_for(TAKEOVER)?;
        // Who was without a link counts as that for a while.
        self.rest()?;
        let after = self.machines.get(&node).map(|machine| machine.mac(lan));
        for ((at, address), macs) in places {
            // Where two answer (see `check_single_owners`) the other one has nothing new to say.
            let is_here = at == lan && macs.into_iter().map(Some).eq([before]);
            let told = self.asker.told(lan, address);
            hold(!is_here || told == after, Invariant::TakeoverIsTold, || {
                format!("{address} is at {after:?} on {lan:?} again, but {told:?} was told last")
            })?;
        }
        Ok(())
    }

    /// A node that answers loses the cable of an interface over which nobody gossips, or a default route. Where another node can
    /// announce, it does, and says so; where none can, nothing moves.
    fn hinders_an_owner(&mut self) -> Result<(), Violation> {
        if self.climate.membership == Membership::Nodes {
            // Nobody would hear of it.
            return Ok(());
        }
        let before = self.expected_answers();
        let owns = |node: &NodeId, lan: Lan| {
            let mac = self.machines.get(node).map(|machine| machine.mac(lan));
            before.iter().any(|((at, _), macs)| *at == lan && mac.is_some_and(|mac| macs.contains(&mac)))
        };
        let owners = self.machines.keys().filter(|node| Lan::ALL.into_iter().any(|lan| owns(node, lan)));
        let owners: Vec<NodeId> = owners.copied().collect();
        let Some(node) = self.rng.pick(&owners).copied() else { return Ok(()) };
        self.asker.forget_told();
        if owns(&node, Lan::Back) && self.rng.one_in(2) {
            self.unplug(node, Lan::Back, HINDERED);
        } else {
            let family = self.rng.pick(&Family::ALL).copied().unwrap_or(Family::V4);
            self.lose_way(node, family, HINDERED);
        }
        self.run_for(TAKEOVER)?;
        self.check_answers()?;
        for ((lan, address), macs) in self.expected_answers() {
            let is_new = before.get(&(lan, address)).is_none_or(|before| before.is_disjoint(&macs));
            let told = self.asker.told(lan, address);
            hold(!is_new || told.is_some_and(|mac| macs.contains(&mac)), Invariant::TakeoverIsTold, || {
                format!(
                    "{macs:?} answers for {address} on {lan:?} since {node} is hindered, but {told:?} was told last"
                )
            })?;
        }
        self.rest()
    }
}

impl Cluster {
    /// Somebody claims an address of the cluster every second. Whoever answers for it goes on, and says once to everybody that
    /// it does; that it is told of is seen by the speaker itself.
    fn meets_a_stranger(&mut self) -> Result<(), Violation> {
        let places = self.expected_answers().into_iter().filter(|(_, macs)| macs.len() == 1);
        let places: Vec<(Lan, IpAddr)> = places.map(|(place, _)| place).collect();
        let Some((lan, address)) = self.rng.pick(&places).copied() else { return Ok(()) };
        let manner = self.rng.pick(&Manner::ALL).copied().unwrap_or(Manner::Tells);
        // The last rounds of those that moved last, and then nobody has claimed it for a while.
        self.run_for(ROUNDS)?;
        self.asker.count_tellings();
        let claim = Claim { lan, address, manner, every: Duration::from_secs(1) };
        self.take(&Step::Stranger(claim, STRANGE))?;
        self.run_for(STRANGE)?;
        let times = self.asker.tellings().get(&(lan, address)).copied().unwrap_or_default();
        let refresh = if self.climate.refresh == l2::Refresh::Never { 0 } else { l2::frames_per_round(&address) };
        hold((1..=refresh.saturating_add(1)).contains(&times), Invariant::DefenceIsMeasured, || {
            format!("{address} was claimed on {lan:?}, and told of {times} times")
        })?;
        self.check_answers()?;
        self.rest()
    }

    /// Memberlist does not get through to one node, so that it, and all others, take the other side for dead. On the links they
    /// hear each other.
    fn loses_memberlist(&mut self) -> Result<(), Violation> {
        let nodes: Vec<NodeId> = self.members.iter().copied().collect();
        let Some(node) = self.rng.pick(&nodes).copied().filter(|_| nodes.len() > 1) else { return Ok(()) };
        self.take(&Step::Block(node, HINDERED))?;
        self.run_for(TAKEOVER)?;
        self.check_agreed()?;
        self.rest()
    }
}

/// What routers have, and how many UPDATEs they got so far.
type Told<'a> = (&'a BTreeMap<(RouterName, NodeId), Table>, &'a BTreeMap<(RouterName, NodeId), u64>);

/// A router that knows of a change was told by at least one UPDATE and at most one for each prefix; the others by none.
fn check_updates(service: &Service, before: Told<'_>, after: Told<'_>) -> Result<(), Violation> {
    for (place, new) in after.0 {
        let (old, sent) = (before.0.get(place), |told: Told<'_>| told.1.get(place).copied().unwrap_or_default());
        let old = old.cloned().unwrap_or_default();
        let changed = |prefix: &&ipnet::IpNet| old.get(*prefix) != new.get(*prefix);
        let prefixes: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).filter(changed).collect();
        let updates = sent(after).saturating_sub(sent(before));
        let limits = (prefixes.len().min(1) as u64, prefixes.len() as u64);
        hold((limits.0..=limits.1).contains(&updates), Invariant::UpdatesAreNews, || {
            format!("{} changed {prefixes:?} at {place:?}, which took {updates} UPDATEs", service.metadata.key())
        })?;
    }
    Ok(())
}
