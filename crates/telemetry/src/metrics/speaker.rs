//! The speaker's series (contract 8.3), with the counters of BGP messages that FRR mode has (contract 8.4).
//!
//! `vrf` is a label of sessions in a VRF alone: those outside of one are selected by `peer`, as in native mode.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::live::{Handle, Live};
use super::{CommonMetrics, Metrics, SeriesType, Text};

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

/// Service, protocol, node and address.
type Announcement = (String, Protocol, String, IpAddr);

/// Peer and VRF of a session, as in the labels.
type SessionName = (String, String);

/// The speaker's series.
#[derive(Debug)]
pub struct SpeakerMetrics {
    common: CommonMetrics,
    announced: Mutex<BTreeSet<Announcement>>,
    l2_addresses: Live<IpAddr, L2Numbers>,
    bgp_sessions: Live<SessionName, BgpNumbers>,
}

impl Default for SpeakerMetrics {
    fn default() -> Self {
        SpeakerMetrics::new()
    }
}

impl SpeakerMetrics {
    /// Nothing has happened yet.
    pub fn new() -> SpeakerMetrics {
        SpeakerMetrics {
            common: CommonMetrics::default(),
            announced: Mutex::default(),
            l2_addresses: Live::new(),
            bgp_sessions: Live::new(),
        }
    }

    /// The series that the controller has too.
    pub fn common(&self) -> &CommonMetrics {
        &self.common
    }

    /// This node announces an address of a Service (`namespace/name`).
    pub fn announced(&self, service: &str, protocol: Protocol, node: &str, ip: IpAddr) {
        self.announcements().insert((service.to_owned(), protocol, node.to_owned(), ip));
    }

    /// It does no longer.
    pub fn withdrawn(&self, service: &str, protocol: Protocol, node: &str, ip: IpAddr) {
        self.announcements().remove(&(service.to_owned(), protocol, node.to_owned(), ip));
    }

    /// An address that is answered for on the local segment. Its series are there while the returned value is.
    pub fn l2_address(&self, ip: IpAddr) -> L2Address {
        L2Address(self.l2_addresses.begin(ip))
    }

    /// A BGP session, in this VRF if it is in one. Its series are there while the returned value is.
    pub fn bgp_session(&self, peer: SocketAddr, vrf: Option<&str>) -> BgpSession {
        BgpSession(self.bgp_sessions.begin((peer.to_string(), vrf.unwrap_or_default().to_owned())))
    }

    fn announcements(&self) -> MutexGuard<'_, BTreeSet<Announcement>> {
        self.announced.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[derive(Debug, Default)]
struct L2Numbers {
    requests_received: AtomicU64,
    responses_sent: AtomicU64,
    gratuitous_sent: AtomicU64,
}

/// An address that is answered for on the local segment.
#[derive(Debug)]
pub struct L2Address(Handle<IpAddr, L2Numbers>);

impl L2Address {
    /// Someone asked for the address.
    pub fn request_received(&self) {
        add(&self.0.value.requests_received, 1);
    }

    /// An answer was sent.
    pub fn response_sent(&self) {
        add(&self.0.value.responses_sent, 1);
    }

    /// This many packets were sent without being asked for. A round of ARP on one interface counts 2, one of NDP 1.
    pub fn gratuitous_sent(&self, packets: u64) {
        add(&self.0.value.gratuitous_sent, packets);
    }
}

/// A message of BGP (RFC 4271 section 4, RFC 2918).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BgpMessage {
    /// OPEN.
    Open,
    /// UPDATE.
    Update,
    /// NOTIFICATION.
    Notification,
    /// KEEPALIVE.
    Keepalive,
    /// ROUTE-REFRESH.
    RouteRefresh,
}

#[derive(Debug, Default)]
struct BgpNumbers {
    is_up: AtomicBool,
    announced: AtomicU64,
    pending: AtomicU64,
    opens_sent: AtomicU64,
    opens_received: AtomicU64,
    notifications_sent: AtomicU64,
    updates_sent: AtomicU64,
    updates_received: AtomicU64,
    keepalives_sent: AtomicU64,
    keepalives_received: AtomicU64,
    route_refresh_sent: AtomicU64,
    total_sent: AtomicU64,
    total_received: AtomicU64,
}

/// A BGP session, from its configuration to its removal, through all its connections.
#[derive(Debug)]
pub struct BgpSession(Handle<SessionName, BgpNumbers>);

impl BgpSession {
    /// The session is established.
    pub fn up(&self) {
        self.0.value.is_up.store(true, Ordering::Relaxed);
    }

    /// The session is not established any more.
    pub fn down(&self) {
        self.0.value.is_up.store(false, Ordering::Relaxed);
    }

    /// How many prefixes the peer has been sent, and how many it should have.
    pub fn prefixes(&self, announced: u64, wanted: u64) {
        self.0.value.announced.store(announced, Ordering::Relaxed);
        self.0.value.pending.store(wanted, Ordering::Relaxed);
    }

    /// A message was sent.
    pub fn sent(&self, message: BgpMessage) {
        let numbers = &self.0.value;
        add(&numbers.total_sent, 1);
        let of_its_type = match message {
            BgpMessage::Open => &numbers.opens_sent,
            BgpMessage::Update => &numbers.updates_sent,
            BgpMessage::Notification => &numbers.notifications_sent,
            BgpMessage::Keepalive => &numbers.keepalives_sent,
            BgpMessage::RouteRefresh => &numbers.route_refresh_sent,
        };
        add(of_its_type, 1);
    }

    /// A message was received. FRR has no series of their own for notifications and route refreshes.
    pub fn received(&self, message: BgpMessage) {
        let numbers = &self.0.value;
        add(&numbers.total_received, 1);
        match message {
            BgpMessage::Open => add(&numbers.opens_received, 1),
            BgpMessage::Update => add(&numbers.updates_received, 1),
            BgpMessage::Keepalive => add(&numbers.keepalives_received, 1),
            BgpMessage::Notification | BgpMessage::RouteRefresh => {}
        }
    }
}

fn add(counter: &AtomicU64, more: u64) {
    counter.fetch_add(more, Ordering::Relaxed);
}

type L2Reading = fn(&L2Numbers) -> &AtomicU64;

const L2_SERIES: [(&str, &str, L2Reading); 3] = [
    (
        "metallb_layer2_requests_received",
        "Number of ARP requests and neighbour solicitations received for addresses that are answered for here.",
        |address| &address.requests_received,
    ),
    ("metallb_layer2_responses_sent", "Number of ARP and NDP answers sent.", |address| &address.responses_sent),
    ("metallb_layer2_gratuitous_sent", "Number of unsolicited ARP and NDP packets sent.", |address| {
        &address.gratuitous_sent
    }),
];

type BgpReading = fn(&BgpNumbers) -> u64;

fn read(counter: &AtomicU64) -> u64 {
    counter.load(Ordering::Relaxed)
}

const BGP_SERIES: [(&str, SeriesType, &str, BgpReading); 13] = [
    ("metallb_bgp_session_up", SeriesType::Gauge, "1 if the BGP session is established.", |session| {
        session.is_up.load(Ordering::Relaxed).into()
    }),
    (
        "metallb_bgp_announced_prefixes_total",
        SeriesType::Gauge,
        "Number of prefixes announced to the peer.",
        |session| read(&session.announced),
    ),
    (
        "metallb_bgp_pending_prefixes_total",
        SeriesType::Gauge,
        "Number of prefixes that should be announced to the peer.",
        |session| read(&session.pending),
    ),
    ("metallb_bgp_opens_sent", SeriesType::Counter, "Number of OPEN messages sent.", |session| {
        read(&session.opens_sent)
    }),
    ("metallb_bgp_opens_received", SeriesType::Counter, "Number of OPEN messages received.", |session| {
        read(&session.opens_received)
    }),
    ("metallb_bgp_notifications_sent", SeriesType::Counter, "Number of NOTIFICATION messages sent.", |session| {
        read(&session.notifications_sent)
    }),
    ("metallb_bgp_updates_total", SeriesType::Counter, "Number of UPDATE messages sent.", |session| {
        read(&session.updates_sent)
    }),
    ("metallb_bgp_updates_total_received", SeriesType::Counter, "Number of UPDATE messages received.", |session| {
        read(&session.updates_received)
    }),
    ("metallb_bgp_keepalives_sent", SeriesType::Counter, "Number of KEEPALIVE messages sent.", |session| {
        read(&session.keepalives_sent)
    }),
    ("metallb_bgp_keepalives_received", SeriesType::Counter, "Number of KEEPALIVE messages received.", |session| {
        read(&session.keepalives_received)
    }),
    ("metallb_bgp_route_refresh_sent", SeriesType::Counter, "Number of ROUTE-REFRESH messages sent.", |session| {
        read(&session.route_refresh_sent)
    }),
    ("metallb_bgp_total_sent", SeriesType::Counter, "Number of BGP messages sent.", |session| {
        read(&session.total_sent)
    }),
    ("metallb_bgp_total_received", SeriesType::Counter, "Number of BGP messages received.", |session| {
        read(&session.total_received)
    }),
];

impl Metrics for SpeakerMetrics {
    fn write(&self, text: &mut Text) {
        let name = "metallb_speaker_announced";
        text.family(name, SeriesType::Gauge, "Services with an address that is announced from this node.");
        for (service, protocol, node, ip) in self.announcements().clone() {
            let ip = ip.to_string();
            let labels = [("service", &*service), ("protocol", protocol.as_str()), ("node", &*node), ("ip", &*ip)];
            text.series(&labels, 1_u64);
        }
        let addresses = self.l2_addresses.youngest();
        for (name, help, counter) in L2_SERIES {
            text.family(name, SeriesType::Counter, help);
            for (ip, numbers) in &addresses {
                text.series(&[("ip", &ip.to_string())], read(counter(numbers)));
            }
        }
        let sessions = self.bgp_sessions.youngest();
        for (name, type_, help, value) in BGP_SERIES {
            text.family(name, type_, help);
            for ((peer, vrf), numbers) in &sessions {
                text.series(&[("peer", peer), ("vrf", vrf)], value(numbers));
            }
        }
        self.common.write(text);
    }
}

#[cfg(test)]
mod tests {
    use expect_test::expect;

    use super::*;

    /// All but the series of the process and the help.
    fn text(metrics: &SpeakerMetrics) -> String {
        let text = metrics.render();
        let ours = text.split("# HELP process_").next().unwrap();
        ours.lines().filter(|line| !line.starts_with("# HELP")).map(|line| line.to_owned() + "\n").collect()
    }

    fn values(metrics: &SpeakerMetrics, prefix: &str) -> Vec<String> {
        text(metrics).lines().filter(|line| line.starts_with(prefix)).map(str::to_owned).collect()
    }

    #[test]
    fn names_types_and_labels_are_those_of_the_contract() {
        let metrics = SpeakerMetrics::new();
        metrics.announced("shop/web", Protocol::Layer2, "node-1", "10.0.0.1".parse().unwrap());
        metrics.announced("shop/web", Protocol::Bgp, "node-1", "fc00::1".parse().unwrap());
        let address = metrics.l2_address("10.0.0.1".parse().unwrap());
        address.request_received();
        address.response_sent();
        address.gratuitous_sent(2);
        let session = metrics.bgp_session("10.0.0.254:179".parse().unwrap(), None);
        session.up();
        session.prefixes(1, 2);
        for message in [BgpMessage::Open, BgpMessage::Keepalive, BgpMessage::Update, BgpMessage::Update] {
            session.sent(message);
            session.received(message);
        }
        session.sent(BgpMessage::Notification);
        session.sent(BgpMessage::RouteRefresh);
        session.received(BgpMessage::Notification);
        let _in_vrf = metrics.bgp_session("[fc00::254]:1179".parse().unwrap(), Some("red"));
        expect![[r##"
            # TYPE metallb_speaker_announced gauge
            metallb_speaker_announced{service="shop/web",protocol="layer2",node="node-1",ip="10.0.0.1"} 1
            metallb_speaker_announced{service="shop/web",protocol="bgp",node="node-1",ip="fc00::1"} 1
            # TYPE metallb_layer2_requests_received counter
            metallb_layer2_requests_received{ip="10.0.0.1"} 1
            # TYPE metallb_layer2_responses_sent counter
            metallb_layer2_responses_sent{ip="10.0.0.1"} 1
            # TYPE metallb_layer2_gratuitous_sent counter
            metallb_layer2_gratuitous_sent{ip="10.0.0.1"} 2
            # TYPE metallb_bgp_session_up gauge
            metallb_bgp_session_up{peer="10.0.0.254:179"} 1
            metallb_bgp_session_up{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_announced_prefixes_total gauge
            metallb_bgp_announced_prefixes_total{peer="10.0.0.254:179"} 1
            metallb_bgp_announced_prefixes_total{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_pending_prefixes_total gauge
            metallb_bgp_pending_prefixes_total{peer="10.0.0.254:179"} 2
            metallb_bgp_pending_prefixes_total{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_opens_sent counter
            metallb_bgp_opens_sent{peer="10.0.0.254:179"} 1
            metallb_bgp_opens_sent{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_opens_received counter
            metallb_bgp_opens_received{peer="10.0.0.254:179"} 1
            metallb_bgp_opens_received{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_notifications_sent counter
            metallb_bgp_notifications_sent{peer="10.0.0.254:179"} 1
            metallb_bgp_notifications_sent{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_updates_total counter
            metallb_bgp_updates_total{peer="10.0.0.254:179"} 2
            metallb_bgp_updates_total{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_updates_total_received counter
            metallb_bgp_updates_total_received{peer="10.0.0.254:179"} 2
            metallb_bgp_updates_total_received{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_keepalives_sent counter
            metallb_bgp_keepalives_sent{peer="10.0.0.254:179"} 1
            metallb_bgp_keepalives_sent{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_keepalives_received counter
            metallb_bgp_keepalives_received{peer="10.0.0.254:179"} 1
            metallb_bgp_keepalives_received{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_route_refresh_sent counter
            metallb_bgp_route_refresh_sent{peer="10.0.0.254:179"} 1
            metallb_bgp_route_refresh_sent{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_total_sent counter
            metallb_bgp_total_sent{peer="10.0.0.254:179"} 6
            metallb_bgp_total_sent{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_bgp_total_received counter
            metallb_bgp_total_received{peer="10.0.0.254:179"} 5
            metallb_bgp_total_received{peer="[fc00::254]:1179",vrf="red"} 0
            # TYPE metallb_k8s_client_updates_total counter
            metallb_k8s_client_updates_total 0
            # TYPE metallb_k8s_client_update_errors_total counter
            metallb_k8s_client_update_errors_total 0
            # TYPE metallb_k8s_client_config_loaded_bool gauge
            metallb_k8s_client_config_loaded_bool 0
            # TYPE metallb_k8s_client_config_stale_bool gauge
            metallb_k8s_client_config_stale_bool 0
        "##]]
        .assert_eq(&text(&metrics));
    }

    #[test]
    fn an_announcement_has_a_series_until_it_is_withdrawn() {
        let metrics = SpeakerMetrics::new();
        let ip = "10.0.0.1".parse().unwrap();
        metrics.announced("shop/web", Protocol::Layer2, "node-1", ip);
        metrics.announced("shop/web", Protocol::Layer2, "node-1", ip);
        metrics.announced("shop/db", Protocol::Layer2, "node-1", ip);
        metrics.withdrawn("shop/web", Protocol::Layer2, "node-1", ip);
        metrics.withdrawn("shop/never", Protocol::Bgp, "node-1", ip);
        assert_eq!(
            values(&metrics, "metallb_speaker_announced"),
            ["metallb_speaker_announced{service=\"shop/db\",protocol=\"layer2\",node=\"node-1\",ip=\"10.0.0.1\"} 1"]
        );
    }

    #[test]
    fn series_of_a_session_go_with_it_and_never_with_its_predecessor_d33() {
        let metrics = SpeakerMetrics::new();
        let peer = "10.0.0.254:179".parse().unwrap();
        let old = metrics.bgp_session(peer, None);
        old.up();
        let new = metrics.bgp_session(peer, None);
        let up = || values(&metrics, "metallb_bgp_session_up{");
        assert_eq!(up(), ["metallb_bgp_session_up{peer=\"10.0.0.254:179\"} 0"]);
        new.up();
        old.down();
        drop(old);
        assert_eq!(up(), ["metallb_bgp_session_up{peer=\"10.0.0.254:179\"} 1"]);
        drop(new);
        assert_eq!(up(), [""; 0]);
    }

    #[test]
    fn series_of_an_address_go_with_it() {
        let metrics = SpeakerMetrics::new();
        let address = metrics.l2_address("10.0.0.1".parse().unwrap());
        assert_eq!(values(&metrics, "metallb_layer2_").len(), 3);
        drop(address);
        assert_eq!(values(&metrics, "metallb_layer2_").len(), 0);
    }
}
