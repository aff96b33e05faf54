//! The paths to BGP peers that BFD watches, and what becomes of a BGP session when its path fails or works again (contract
//! 1.7, RFC 5882).
//!
//! It knows neither sockets nor BFD's own state machine: [`watch`] says which session of BFD a peer wants, and a [`Guard`]
//! turns what that session reports into orders for the BGP session.

use std::net::IpAddr;

use bfd::{Change, EchoMode, Hops, Path, Profile, Role};
use config::{BfdProfile, Peer};
use kit::{Duration, Instant, InterfaceIndex, RemoteAs};

/// How long a BGP session waits, after its path has failed, for BFD to see the path work again, which over a path that
/// works takes three packets at one a second. Then it begins without: FRR for one looks no different when its operator
/// switches BFD off.
pub const HELD_MAX: Duration = Duration::from_secs(5);

/// Where a peer was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Its address.
    pub remote: IpAddr,
    /// The interface, where the address means nothing without it.
    pub interface: Option<InterfaceIndex>,
    /// The VRF that the session is bound to.
    pub vrf: Option<InterfaceIndex>,
    /// How far away it is.
    pub distance: Distance,
}

/// Whether routers are between a peer and this node, as far as this node's own networks tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Distance {
    /// Its address is in a network of this node.
    OnLink,
    /// It is not.
    Beyond,
}

/// The BFD session that a peer wants; `None` if it wants none.
///
/// BFD differs between one hop and several (RFC 5881, RFC 5883), and both sides have to agree. What makes the difference is
/// what it is in FRR: `ebgpMultiHop`; TTL security for more than one hop; and for a peer in our own AS, where `ebgpMultiHop`
/// is not allowed, whether it is on the link.
pub fn watch(peer: &Peer, place: &Place) -> Option<(Path, Profile)> {
    let profile = profile(&peer.bfd.as_ref()?.profile);
    let is_internal = match peer.remote_as {
        RemoteAs::Internal => true,
        RemoteAs::Exactly(remote) => remote == peer.local_as(),
        RemoteAs::External => false,
    };
    let is_far = peer.ebgp_multi_hop
        || peer.ttl_security_hops.is_some_and(|hops| hops.get() > 1)
        || (is_internal && place.distance == Distance::Beyond);
    // A link-local address goes no farther than its link, whatever else is said.
    let hops = if is_far && place.interface.is_none() { Hops::Multi } else { Hops::Single };
    let Place { remote, interface, vrf, distance: _ } = *place;
    Some((Path { remote, local: peer.source_address, interface, vrf, hops }, profile))
}

/// A profile with FRR's values where it says nothing (contract 1.7).
fn profile(written: &BfdProfile) -> Profile {
    let default = Profile::default();
    Profile {
        receive_interval: written.receive_interval.unwrap_or(default.receive_interval),
        transmit_interval: written.transmit_interval.unwrap_or(default.transmit_interval),
        detect_multiplier: written.detect_multiplier.unwrap_or(default.detect_multiplier),
        echo: if written.echo_mode { EchoMode::On } else { EchoMode::Off },
        echo_interval: written.echo_interval.unwrap_or(default.echo_interval),
        role: if written.passive_mode { Role::Passive } else { Role::Active },
        minimum_ttl: written.minimum_ttl.map_or(default.minimum_ttl, std::num::NonZeroU8::get),
    }
}

/// What is known of the path of one BGP session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Guard {
    /// BFD says nothing: it was never up on this path, it was switched off, or the wait for it is over. BGP does as without
    /// it (RFC 5882 sections 3.2 and 4.1).
    #[default]
    Silent,
    /// The path works.
    Up,
    /// The path has failed. BGP is stopped until it works again, and no longer than this.
    Held {
        /// When the wait is over.
        until: Instant,
    },
}

/// What a guard is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// The session of BFD has changed.
    Changed(Change),
    /// There is no session of BFD any more, or another one, of which nothing is known.
    Forgotten,
    /// The deadline may have come.
    Tick,
}

/// What is to be done to the BGP session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// End it, at once and without keeping routes.
    Stop,
    /// Begin it.
    Start,
}

impl Guard {
    /// Takes in a report. An order comes once.
    pub fn handle(&mut self, now: Instant, report: Report) -> Option<Order> {
        let before = *self;
        *self = match report {
            Report::Changed(Change::Up) => Guard::Up,
            Report::Changed(Change::Down(reason)) if reason.is_failure() => Guard::Held { until: now + HELD_MAX },
            Report::Changed(Change::Down(_)) | Report::Forgotten => Guard::Silent,
            Report::Tick => match before {
                Guard::Held { until } if until <= now => Guard::Silent,
                same => same,
            },
        };
        match (before.is_held(), self.is_held()) {
            (false, true) => Some(Order::Stop),
            (true, false) => Some(Order::Start),
            (false, false) | (true, true) => None,
        }
    }

    /// When [`Report::Tick`] is due.
    pub fn deadline(self) -> Option<Instant> {
        match self {
            Guard::Held { until } => Some(until),
            Guard::Silent | Guard::Up => None,
        }
    }

    /// Whether the BGP session is kept from beginning.
    pub fn is_held(self) -> bool {
        matches!(self, Guard::Held { .. })
    }
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU8;

    use bfd::DownReason;
    use bfd::wire::Diagnostic;
    use config::{ConnectionMode, PeerBfd, PeerEndpoint};
    use expect_test::{Expect, expect};
    use kit::{Asn, SelectorList};

    use super::*;

    fn peer() -> Peer {
        Peer {
            name: "router".to_owned(),
            my_asn: Asn::new(64512).unwrap(),
            local_asn: None,
            remote_as: RemoteAs::External,
            endpoint: PeerEndpoint::Address("192.0.2.1".parse().unwrap()),
            port: 179,
            connection_mode: ConnectionMode::Active,
            source_address: None,
            hold_time: None,
            keepalive_time: None,
            connect_time: None,
            router_id: None,
            node_selectors: SelectorList::default(),
            authentication: None,
            bfd: Some(PeerBfd { name: "default".to_owned(), profile: BfdProfile::default() }),
            graceful_restart: None,
            ebgp_multi_hop: false,
            ttl_security_hops: None,
            vrf: None,
            dual_stack_address_family: false,
        }
    }

    fn place(remote: &str, distance: Distance) -> Place {
        Place { remote: remote.parse().unwrap(), interface: None, vrf: None, distance }
    }

    fn path(edit: impl Fn(&mut Peer, &mut Place), expected: Expect) {
        let (mut peer, mut place) = (peer(), place("192.0.2.1", Distance::Beyond));
        edit(&mut peer, &mut place);
        let path = watch(&peer, &place).map(|(path, _)| path.to_string());
        expected.assert_eq(&path.unwrap_or_else(|| "not watched".to_owned()));
    }

    #[test]
    fn contract_1_2_what_a_path_is_follows_from_the_peer() {
        path(|peer, _| peer.bfd = None, expect!["not watched"]);
        path(|_, _| {}, expect!["192.0.2.1"]);
        path(|peer, _| peer.ebgp_multi_hop = true, expect!["192.0.2.1 over several hops"]);
        path(|peer, _| peer.ttl_security_hops = NonZeroU8::new(1), expect!["192.0.2.1"]);
        path(|peer, _| peer.ttl_security_hops = NonZeroU8::new(2), expect!["192.0.2.1 over several hops"]);
        let inside = RemoteAs::Exactly(Asn::new(64512).unwrap());
        path(|peer, _| peer.remote_as = inside, expect!["192.0.2.1 over several hops"]);
        path(|peer, _| peer.remote_as = RemoteAs::Internal, expect!["192.0.2.1 over several hops"]);
        path(|peer, place| (peer.remote_as, place.distance) = (inside, Distance::OnLink), expect!["192.0.2.1"]);
        path(|peer, _| peer.source_address = "192.0.2.9".parse().ok(), expect!["192.0.2.1 from 192.0.2.9"]);
        path(|_, place| place.vrf = InterfaceIndex::new(7), expect!["192.0.2.1 in VRF 7"]);
        path(
            |peer, place| {
                peer.ebgp_multi_hop = true;
                (place.remote, place.interface) = ("fe80::1".parse().unwrap(), InterfaceIndex::new(3));
            },
            expect!["fe80::1 on interface 3"],
        );
    }

    #[test]
    fn contract_1_7_a_profile_has_the_values_of_frr_where_it_says_nothing() {
        assert_eq!(profile(&BfdProfile::default()), Profile::default());
        let all = BfdProfile {
            receive_interval: Some(Duration::from_millis(50)),
            transmit_interval: Some(Duration::from_millis(60)),
            detect_multiplier: NonZeroU8::new(5),
            echo_interval: Some(Duration::from_millis(70)),
            echo_mode: true,
            passive_mode: true,
            minimum_ttl: NonZeroU8::new(9),
        };
        let expected = Profile {
            receive_interval: Duration::from_millis(50),
            transmit_interval: Duration::from_millis(60),
            detect_multiplier: NonZeroU8::new(5).unwrap(),
            echo: EchoMode::On,
            echo_interval: Duration::from_millis(70),
            role: Role::Passive,
            minimum_ttl: 9,
        };
        assert_eq!(profile(&all), expected);
    }

    const UP: Report = Report::Changed(Change::Up);

    fn down(reason: DownReason) -> Report {
        Report::Changed(Change::Down(reason))
    }

    /// All that a guard can be told, at 100 s, in all that it can be.
    #[test]
    fn rfc5882_4_every_report_in_every_state() {
        let at = |secs| Instant::ZERO + Duration::from_secs(secs);
        let held = |secs| Guard::Held { until: at(secs) };
        let failures = [
            down(DownReason::DetectionExpired),
            down(DownReason::EchoFailed),
            down(DownReason::NeighborSignaledDown(Diagnostic::None)),
            down(DownReason::PathDown),
        ];
        let no_failures = [down(DownReason::NeighborAdminDown), down(DownReason::AdminDown), Report::Forgotten];
        let (silent, up) = (Guard::Silent, Guard::Up);
        let mut rows = vec![
            (silent, UP, up, None),
            (up, UP, up, None),
            (held(104), UP, up, Some(Order::Start)),
            (silent, Report::Tick, silent, None),
            (up, Report::Tick, up, None),
            (held(104), Report::Tick, held(104), None),
            (held(100), Report::Tick, silent, Some(Order::Start)),
        ];
        for failure in failures {
            rows.push((up, failure, held(105), Some(Order::Stop)));
            // What was between two looks is not told: it was up for a moment.
            rows.push((silent, failure, held(105), Some(Order::Stop)));
            rows.push((held(104), failure, held(105), None));
        }
        for end in no_failures {
            rows.push((up, end, silent, None));
            rows.push((silent, end, silent, None));
            rows.push((held(104), end, silent, Some(Order::Start)));
        }
        for (before, report, after, order) in rows {
            let mut guard = before;
            let given = guard.handle(at(100), report);
            assert_eq!((guard, given), (after, order), "{before:?} {report:?}");
            assert_eq!(guard.deadline().is_some(), guard.is_held());
        }
    }

    #[test]
    fn rfc5882_4_1_a_router_without_bfd_is_no_reason_to_be_without_bgp() {
        let mut guard = Guard::default();
        assert_eq!((guard.handle(Instant::ZERO, Report::Tick), guard.is_held()), (None, false));
        assert_eq!(guard.handle(Instant::ZERO, UP), None);
        assert_eq!(guard.handle(Instant::ZERO, down(DownReason::DetectionExpired)), Some(Order::Stop));
        // It does not come back, and BGP tries by itself.
        let due = guard.deadline().unwrap();
        assert_eq!(due, Instant::ZERO + HELD_MAX);
        assert_eq!((guard.handle(due, Report::Tick), guard), (Some(Order::Start), Guard::Silent));
    }
}
