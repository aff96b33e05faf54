//! The speaker's series (contract 8.3), with the counters of BGP messages that FRR mode has (contract 8.4).
//!
//! MetalLB's native and FRR modes share three names of BGP series, and each has more. Here is the union, with the labels
//! of FRR mode: `peer` as `address:port`, an IPv6 address without brackets, and `vrf`, which is `default` outside of
//! one. So `{peer="..."}` finds a session in the default VRF in dashboards for either mode.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};

use super::family::{self, Family, flag, number};
use super::{BfdReport, Metrics, Origin, Text, Work};

/// What the default VRF is called in FRR.
pub(super) const DEFAULT_VRF: &str = "default";

/// How an address is announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Protocol {
    /// On the local segment.
    Layer2,
    /// To routers.
    Bgp,
}

impl Protocol {
    /// As in labels and events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Protocol::Layer2 => "layer2",
            Protocol::Bgp => "bgp",
        }
    }
}

/// What a speaker knows when a scrape comes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SpeakerReport {
    /// What was worked on.
    pub work: Work,
    /// The name of the node.
    pub node: String,
    /// The Services that this node announces; none twice with one protocol.
    pub announced: Vec<AnnouncedService>,
    /// How many Services it does not announce, and why.
    pub refused: RefusedServices,
    /// The addresses that are answered for on the local segment.
    pub layer2: Vec<Layer2Address>,
    /// Frames that went nowhere.
    pub frames: FrameCounts,
    /// What about the host stands in the way of traffic: names in the code, and interfaces.
    pub host_findings: Vec<(&'static str, String)>,
    /// What keeps this node from announcing addresses on its segments.
    pub hindrances: Vec<String>,
    /// The BGP sessions. Of two with the same labels the last counts.
    pub sessions: Vec<BgpSession>,
    /// BFD, where a path is watched.
    pub bfd: Option<BfdReport>,
}

/// A Service that is announced.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AnnouncedService {
    /// `namespace/name`.
    pub service: String,
    /// How.
    pub protocol: Protocol,
    /// With which addresses; none twice.
    pub addresses: Vec<IpAddr>,
}

/// How many Services are not announced, by protocol and reason. The reasons are names in the code.
pub type RefusedServices = BTreeMap<(Protocol, &'static str), u64>;

/// An address that is answered for on the local segment, and what has happened to it since it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer2Address {
    /// The address.
    pub ip: IpAddr,
    /// Requests and solicitations for it.
    pub requests_received: u64,
    /// Answers to them.
    pub responses_sent: u64,
    /// Packets sent without being asked for. A round of ARP on one interface counts 2, one of NDP 1.
    pub gratuitous_sent: u64,
    /// Packets sent without being asked for to a router alone.
    pub gateways_told: u64,
    /// Packets in which another machine claimed the address.
    pub foreign_claims: u64,
}

/// ARP and NDP frames that went nowhere.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FrameCounts {
    /// Received, and against the rules.
    pub malformed: u64,
    /// Received while too many waited.
    pub dropped_received: u64,
    /// Not sent because the interface could not.
    pub dropped_sent: u64,
}

/// BGP messages of each type (RFC 4271 section 4, RFC 2918).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BgpMessages {
    /// OPEN.
    pub opens: u64,
    /// UPDATE.
    pub updates: u64,
    /// NOTIFICATION.
    pub notifications: u64,
    /// KEEPALIVE.
    pub keepalives: u64,
    /// ROUTE-REFRESH.
    pub route_refreshes: u64,
}

impl BgpMessages {
    fn total(&self) -> u64 {
        [self.opens, self.updates, self.notifications, self.keepalives, self.route_refreshes]
            .into_iter()
            .fold(0, u64::saturating_add)
    }
}

/// A BGP session, from its configuration to its removal, through all its connections.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpSession {
    /// The address and port that we connect to.
    pub peer: SocketAddr,
    /// The VRF it is in, if it is in one.
    pub vrf: Option<String>,
    /// It is established.
    pub is_up: bool,
    /// Prefixes that the peer has from us.
    pub prefixes_announced: u64,
    /// Prefixes that it should have.
    pub prefixes_wanted: u64,
    /// Messages that we sent.
    pub sent: BgpMessages,
    /// Messages that came, also those that were wrong.
    pub received: BgpMessages,
    /// How often it was established.
    pub established: u64,
    /// Attempts that failed since it was last up.
    pub failed_attempts: u64,
    /// UPDATEs whose routes were taken as withdrawn because of an error (RFC 7606).
    pub updates_treated_as_withdraw: u64,
    /// Attributes that were ignored because of an error (RFC 7606).
    pub attributes_discarded: u64,
}

impl BgpSession {
    fn labels(&self) -> [String; 2] {
        let vrf = self.vrf.as_deref().unwrap_or(DEFAULT_VRF);
        // As MetalLB's FRR mode writes it, also where that is ambiguous: dashboards compare texts.
        [format!("{}:{}", self.peer.ip(), self.peer.port()), vrf.to_owned()]
    }
}

pub(super) const ANNOUNCED: [Family<(), 4>; 1] = [Family::gauge(
    Origin::MetalLb,
    "metallb_speaker_announced",
    "1 for each address of a Service that this node announces.",
    |()| 1.0,
)
.by(["service", "protocol", "node", "ip"])];

pub(super) const REFUSED: [Family<u64, 2>; 1] = [Family::gauge(
    Origin::Ours,
    "metallb_speaker_services_not_announced",
    "Number of Services of type LoadBalancer that this node does not announce, by protocol and reason. \
     noMatchingAdvertisement and notOwner are everyday ones.",
    |count| number(*count),
)
.by(["protocol", "reason"])];

const fn of_address(
    origin: Origin,
    name: &'static str,
    help: &'static str,
    value: fn(&Layer2Address) -> f64,
) -> Family<Layer2Address, 1> {
    Family::counter(origin, name, help, value).by(["ip"])
}

pub(super) const LAYER2: [Family<Layer2Address, 1>; 5] = [
    of_address(
        Origin::MetalLb,
        "metallb_layer2_requests_received",
        "Number of ARP requests and neighbor solicitations received for addresses that are announced here.",
        |address| number(address.requests_received),
    ),
    of_address(Origin::MetalLb, "metallb_layer2_responses_sent", "Number of ARP and NDP answers sent.", |address| {
        number(address.responses_sent)
    }),
    of_address(
        Origin::MetalLb,
        "metallb_layer2_gratuitous_sent",
        "Number of unsolicited ARP and NDP packets sent.",
        |address| number(address.gratuitous_sent),
    ),
    of_address(
        Origin::Ours,
        "metallb_layer2_gateway_sent_total",
        "Number of unsolicited ARP and NDP packets sent to the router of the default route alone.",
        |address| number(address.gateways_told),
    ),
    of_address(
        Origin::Ours,
        "metallb_layer2_foreign_claims_total",
        "Number of ARP and NDP packets in which another machine claimed an address that is announced here.",
        |address| number(address.foreign_claims),
    ),
];

pub(super) const FRAMES: [Family<FrameCounts, 0>; 1] = [Family::counter(
    Origin::Ours,
    "metallb_layer2_frames_malformed_total",
    "Number of ARP and NDP frames received that break the rules and were ignored.",
    |frames| number(frames.malformed),
)];

pub(super) const FRAMES_DROPPED: [Family<u64, 1>; 1] = [Family::counter(
    Origin::Ours,
    "metallb_layer2_frames_dropped_total",
    "Number of ARP and NDP frames dropped: received while too many waited, or not sent because the interface could not.",
    |count| number(*count),
)
.by(["direction"])];

pub(super) const HOST: [Family<(), 2>; 1] = [Family::gauge(
    Origin::Ours,
    "metallb_layer2_host_check_failed",
    "1 for each setting of the host that stands in the way of traffic for announced addresses, by check and interface.",
    |()| 1.0,
)
.by(["check", "interface"])];

pub(super) const HINDRANCES: [Family<(), 1>; 1] = [Family::gauge(
    Origin::Ours,
    "metallb_layer2_node_hindered",
    "1 for each thing that keeps this node from announcing addresses on its segments, so that other nodes do.",
    |()| 1.0,
)
.by(["hindrance"])];

const fn of_session(family: Family<BgpSession, 0>) -> Family<BgpSession, 2> {
    family.by(["peer", "vrf"])
}

pub(super) const BGP: [Family<BgpSession, 2>; 18] = [
    of_session(Family::gauge(
        Origin::NativeAndFrr,
        "metallb_bgp_session_up",
        "1 if the BGP session is established.",
        |session| flag(session.is_up),
    )),
    of_session(Family::gauge(
        Origin::NativeAndFrr,
        "metallb_bgp_announced_prefixes_total",
        "Number of prefixes that the peer has been told.",
        |session| number(session.prefixes_announced),
    )),
    of_session(Family::gauge(
        Origin::Native,
        "metallb_bgp_pending_prefixes_total",
        "Number of prefixes that the peer should be told.",
        |session| number(session.prefixes_wanted),
    )),
    of_session(Family::counter(
        Origin::NativeAndFrr,
        "metallb_bgp_updates_total",
        "Number of UPDATE messages sent.",
        |session| number(session.sent.updates),
    )),
    of_session(Family::counter(
        Origin::Frr,
        "metallb_bgp_updates_total_received",
        "Number of UPDATE messages received.",
        |session| number(session.received.updates),
    )),
    of_session(Family::counter(Origin::Frr, "metallb_bgp_opens_sent", "Number of OPEN messages sent.", |session| {
        number(session.sent.opens)
    })),
    of_session(Family::counter(
        Origin::Frr,
        "metallb_bgp_opens_received",
        "Number of OPEN messages received.",
        |session| number(session.received.opens),
    )),
    of_session(Family::counter(
        Origin::Frr,
        "metallb_bgp_notifications_sent",
        "Number of NOTIFICATION messages sent.",
        |session| number(session.sent.notifications),
    )),
    of_session(Family::counter(
        Origin::Ours,
        "metallb_bgp_notifications_received",
        "Number of NOTIFICATION messages received.",
        |session| number(session.received.notifications),
    )),
    of_session(Family::counter(
        Origin::Frr,
        "metallb_bgp_keepalives_sent",
        "Number of KEEPALIVE messages sent.",
        |session| number(session.sent.keepalives),
    )),
    of_session(Family::counter(
        Origin::Frr,
        "metallb_bgp_keepalives_received",
        "Number of KEEPALIVE messages received.",
        |session| number(session.received.keepalives),
    )),
    of_session(Family::counter(
        Origin::Frr,
        "metallb_bgp_route_refresh_sent",
        "Number of ROUTE-REFRESH messages sent; none, for no route is accepted from peers.",
        |session| number(session.sent.route_refreshes),
    )),
    of_session(Family::counter(Origin::Frr, "metallb_bgp_total_sent", "Number of BGP messages sent.", |session| {
        number(session.sent.total())
    })),
    of_session(Family::counter(
        Origin::Frr,
        "metallb_bgp_total_received",
        "Number of BGP messages received.",
        |session| number(session.received.total()),
    )),
    of_session(Family::counter(
        Origin::Ours,
        "metallb_bgp_established_total",
        "Number of times that the session was established.",
        |session| number(session.established),
    )),
    of_session(Family::gauge(
        Origin::Ours,
        "metallb_bgp_failed_attempts",
        "Number of attempts to get a session that failed since it was last up.",
        |session| number(session.failed_attempts),
    )),
    of_session(Family::counter(
        Origin::Ours,
        "metallb_bgp_updates_treated_as_withdraw_total",
        "Number of UPDATE messages received whose routes were taken as withdrawn because of an error (RFC 7606).",
        |session| number(session.updates_treated_as_withdraw),
    )),
    of_session(Family::counter(
        Origin::Ours,
        "metallb_bgp_attributes_discarded_total",
        "Number of path attributes received that were ignored because of an error (RFC 7606).",
        |session| number(session.attributes_discarded),
    )),
];

impl Metrics for SpeakerReport {
    fn write(&self, text: &mut Text) {
        family::write(text, &ANNOUNCED, |row| {
            for announced in &self.announced {
                for ip in &announced.addresses {
                    let labels = [&announced.service, announced.protocol.as_str(), &self.node, &ip.to_string()];
                    row(labels, &());
                }
            }
        });
        family::write(text, &REFUSED, |row| {
            for ((protocol, reason), count) in &self.refused {
                row([protocol.as_str(), reason], count);
            }
        });
        family::write(text, &LAYER2, |row| {
            for address in &self.layer2 {
                row([&address.ip.to_string()], address);
            }
        });
        family::write_one(text, &FRAMES, &self.frames);
        family::write(text, &FRAMES_DROPPED, |row| {
            row(["received"], &self.frames.dropped_received);
            row(["sent"], &self.frames.dropped_sent);
        });
        family::write(text, &HOST, |row| {
            for (check, interface) in &self.host_findings {
                row([check, interface], &());
            }
        });
        family::write(text, &HINDRANCES, |row| {
            for hindrance in &self.hindrances {
                row([hindrance], &());
            }
        });
        let sessions: BTreeMap<[String; 2], &BgpSession> =
            self.sessions.iter().map(|session| (session.labels(), session)).collect();
        family::write(text, &BGP, |row| {
            for ([peer, vrf], session) in &sessions {
                row([peer, vrf], session);
            }
        });
        if let Some(bfd) = &self.bfd {
            bfd.write(text);
        }
        self.work.write(text);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::super::render;
    use super::*;

    fn session(peer: &str, vrf: Option<&str>) -> BgpSession {
        BgpSession {
            peer: peer.parse().unwrap(),
            vrf: vrf.map(str::to_owned),
            is_up: false,
            prefixes_announced: 0,
            prefixes_wanted: 0,
            sent: BgpMessages::default(),
            received: BgpMessages::default(),
            established: 0,
            failed_attempts: 0,
            updates_treated_as_withdraw: 0,
            attributes_discarded: 0,
        }
    }

    fn values(report: &SpeakerReport, prefix: &str) -> String {
        let text = render(&[report]);
        text.lines().filter(|line| line.starts_with(prefix)).map(|line| line.to_owned() + "\n").collect()
    }

    #[test]
    fn each_address_of_a_service_has_a_series_for_each_protocol() {
        let announced = |protocol, addresses: &[&str]| AnnouncedService {
            service: "shop/web".to_owned(),
            protocol,
            addresses: addresses.iter().map(|address| address.parse().unwrap()).collect(),
        };
        let report = SpeakerReport {
            node: "node-1".to_owned(),
            announced: vec![
                announced(Protocol::Layer2, &["10.0.0.1", "fc00::1"]),
                announced(Protocol::Bgp, &["10.0.0.1"]),
            ],
            refused: RefusedServices::from([((Protocol::Bgp, "noPeer"), 2), ((Protocol::Layer2, "notOwner"), 3)]),
            ..SpeakerReport::default()
        };
        expect![[r#"
            metallb_speaker_announced{service="shop/web",protocol="layer2",node="node-1",ip="10.0.0.1"} 1
            metallb_speaker_announced{service="shop/web",protocol="layer2",node="node-1",ip="fc00::1"} 1
            metallb_speaker_announced{service="shop/web",protocol="bgp",node="node-1",ip="10.0.0.1"} 1
            metallb_speaker_services_not_announced{protocol="layer2",reason="notOwner"} 3
            metallb_speaker_services_not_announced{protocol="bgp",reason="noPeer"} 2
        "#]]
        .assert_eq(&values(&report, "metallb_speaker_"));
    }

    #[test]
    fn labels_of_sessions_are_those_of_frr_mode() {
        let report = SpeakerReport {
            sessions: vec![
                BgpSession { is_up: true, ..session("10.0.0.254:179", None) },
                session("10.0.0.254:179", Some("red")),
                session("[fc00::254]:1179", None),
            ],
            ..SpeakerReport::default()
        };
        expect![[r#"
            metallb_bgp_session_up{peer="10.0.0.254:179",vrf="default"} 1
            metallb_bgp_session_up{peer="10.0.0.254:179",vrf="red"} 0
            metallb_bgp_session_up{peer="fc00::254:1179",vrf="default"} 0
        "#]]
        .assert_eq(&values(&report, "metallb_bgp_session_up"));
    }

    #[test]
    fn of_two_sessions_with_the_same_labels_the_last_counts_d33() {
        let report = SpeakerReport {
            sessions: vec![
                session("10.0.0.254:179", None),
                BgpSession { is_up: true, ..session("10.0.0.254:179", None) },
            ],
            ..SpeakerReport::default()
        };
        expect![[r#"
            metallb_bgp_session_up{peer="10.0.0.254:179",vrf="default"} 1
        "#]]
        .assert_eq(&values(&report, "metallb_bgp_session_up"));
    }

    #[test]
    fn messages_are_counted_by_type_and_in_all() {
        let counts = |first| BgpMessages {
            opens: first,
            updates: first + 1,
            notifications: first + 2,
            keepalives: first + 3,
            route_refreshes: first + 4,
        };
        let report = SpeakerReport {
            sessions: vec![BgpSession { sent: counts(1), received: counts(11), ..session("10.0.0.254:179", None) }],
            ..SpeakerReport::default()
        };
        let text = values(&report, "metallb_bgp_").replace("{peer=\"10.0.0.254:179\",vrf=\"default\"}", "");
        expect![[r#"
            metallb_bgp_session_up 0
            metallb_bgp_announced_prefixes_total 0
            metallb_bgp_pending_prefixes_total 0
            metallb_bgp_updates_total 2
            metallb_bgp_updates_total_received 12
            metallb_bgp_opens_sent 1
            metallb_bgp_opens_received 11
            metallb_bgp_notifications_sent 3
            metallb_bgp_notifications_received 13
            metallb_bgp_keepalives_sent 4
            metallb_bgp_keepalives_received 14
            metallb_bgp_route_refresh_sent 5
            metallb_bgp_total_sent 15
            metallb_bgp_total_received 65
            metallb_bgp_established_total 0
            metallb_bgp_failed_attempts 0
            metallb_bgp_updates_treated_as_withdraw_total 0
            metallb_bgp_attributes_discarded_total 0
        "#]]
        .assert_eq(&text);
    }
}
