//! One peer, message by message: every input in every state, hostile streams, and what only one side can show.

use super::*;

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::net::SocketAddr;
use std::sync::Arc;

use expect_test::expect;
use kit::{Asn, HoldTime, RemoteAs, Rng, RouterId};
use proptest::prelude::*;

use crate::wire::fuzz_tests::edit;
use crate::wire::{
    AfiSafi, Announcer, AsPath, AsnSize, Capability, ErrorCode, Header, MessageLimit, NextHop, Notification, Open,
    PathAttributes, RefreshSubtype, RouteRefresh, decode,
};
use crate::{CloseReason, ConnectError, ConnectRetry, Families, OUTBOX_LIMIT, Reception, RouterIdSource};

fn config() -> PeerConfig {
    PeerConfig {
        local_as: Asn::new(65001).unwrap(),
        remote_as: RemoteAs::Exactly(Asn::new(65000).unwrap()),
        router_id: RouterIdSource::Configured(RouterId::new(1).unwrap()),
        hold_time: HoldTime::DEFAULT,
        keepalive_time: None,
        connect_retry: ConnectRetry::BackOff,
        families: Families::OfSession,
        mode: Mode::Both,
        reception: Reception::Report { prefixes_max: 1000 },
        graceful_restart: None,
    }
}

const LOCAL: ([u8; 4], u16) = ([192, 0, 2, 1], 40000);
const REMOTE: ([u8; 4], u16) = ([192, 0, 2, 2], 179);
const DIALED: ConnectionId = ConnectionId::Dialed(1);

/// A peer with a clock, and what it said.
struct Bench {
    peer: Peer,
    now: Instant,
    out: Outbox<Output>,
}

impl Bench {
    fn new(config: PeerConfig) -> Self {
        Bench {
            peer: Peer::new(config, Rng::new(1), Instant::ZERO),
            now: Instant::ZERO,
            out: Outbox::with_limit(OUTBOX_LIMIT),
        }
    }

    /// A peer in this state, over the connection that it dialed where there is one.
    fn in_state(state: State) -> Self {
        let mut bench = Bench::new(config());
        let steps = match state {
            State::Idle => vec![],
            State::Connect => vec![Input::Start],
            State::Active => {
                vec![Input::Start, Input::ConnectFailed { connection: DIALED, error: ConnectError::Refused }]
            }
            State::OpenSent => vec![Input::Start, connected(DIALED)],
            State::OpenConfirm => vec![Input::Start, connected(DIALED), received(&open())],
            State::Established => {
                vec![Input::Start, connected(DIALED), received(&open()), received(&keepalive())]
            }
        };
        for step in steps {
            bench.input(step);
        }
        assert_eq!(bench.peer.state(), state);
        bench.out.drain().for_each(drop);
        bench
    }

    fn input(&mut self, input: Input) {
        self.peer.handle(self.now, input, &mut self.out);
        assert_eq!(self.out.dropped(), 0);
    }

    /// Ticks whenever it is due, for this long.
    fn pass(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(due) = self.peer.next_deadline().filter(|due| *due <= until) {
            self.now = self.now.max(due);
            self.input(Input::Tick);
        }
        self.now = until;
    }

    /// One late tick.
    fn sleep(&mut self, span: Duration) {
        self.now += span;
        self.input(Input::Tick);
    }

    fn said(&mut self) -> String {
        self.out.drain().map(|output| describe(&output)).collect::<Vec<_>>().join("; ")
    }
}

fn describe(output: &Output) -> String {
    match output {
        Output::Dial { connection } => format!("dial {connection}"),
        Output::Close { connection } => format!("close {connection}"),
        Output::SessionUp { .. } => "up".to_owned(),
        Output::SessionDown { reason } => format!("down ({reason})"),
        Output::AttemptFailed { reason } => format!("failed ({reason})"),
        Output::RoutesAnnounced { prefixes, .. } => format!("announced {prefixes:?}"),
        Output::RoutesWithdrawn { prefixes } => format!("withdrawn {prefixes:?}"),
        Output::MalformedUpdate { disposition, errors, text, message } => {
            format!("malformed ({disposition}: {}; {text:?}, {} bytes)", errors[0], message.len())
        }
        Output::Send { connection, bytes } => {
            let mut text = format!("{connection}");
            let mut rest = bytes.as_slice();
            while let Some(header) = Header::decode(rest, MessageLimit::Extended).unwrap() {
                let (message, after) = rest.split_at(header.length);
                rest = after;
                write!(text, " < {}", decode(message, AsnSize::Four, MessageLimit::Extended).unwrap()).unwrap();
            }
            text
        }
    }
}

fn connected(connection: ConnectionId) -> Input {
    Input::Connected { connection, local: SocketAddr::from(LOCAL), remote: SocketAddr::from(REMOTE) }
}

fn received(bytes: &[u8]) -> Input {
    Input::Received { connection: DIALED, bytes: bytes.to_vec() }
}

fn open_with(asn: u32) -> Vec<u8> {
    let capabilities = vec![Capability::Multiprotocol(AfiSafi::IPV4_UNICAST)];
    let mut bytes = Vec::new();
    Open::new(Asn::new(asn).unwrap(), HoldTime::DEFAULT, RouterId::new(2).unwrap(), capabilities).encode(&mut bytes);
    bytes
}

fn open() -> Vec<u8> {
    open_with(65000)
}

fn keepalive() -> Vec<u8> {
    let mut bytes = Vec::new();
    wire::keepalive(&mut bytes);
    bytes
}

fn update() -> Vec<u8> {
    let path = PathAttributes { as_path: AsPath::sequence(Asn::new(65000)), ..PathAttributes::default() };
    let next_hop = NextHop::V4([192, 0, 2, 2].into());
    let mut bytes = Vec::new();
    Announcer::new(Family::V4, next_hop, &path, AsnSize::Four, MessageLimit::Standard)
        .announce(&["203.0.113.0/24".parse().unwrap()], &mut bytes);
    bytes
}

fn notification() -> Vec<u8> {
    let mut bytes = Vec::new();
    Notification::new(ErrorCode::ADMINISTRATIVE_RESET).encode(&mut bytes);
    bytes
}

fn refresh() -> Vec<u8> {
    let mut bytes = Vec::new();
    RouteRefresh::new(AfiSafi::IPV4_UNICAST, RefreshSubtype::Request).encode(&mut bytes);
    bytes
}

fn prefix() -> IpNet {
    "198.51.100.0/24".parse().unwrap()
}

/// Every kind of input, with a name.
fn inputs() -> Vec<(&'static str, Input)> {
    let old = ConnectionId::Dialed(77);
    vec![
        ("start", Input::Start),
        ("stop", Input::Stop { reason: StopReason::PeerDeconfigured }),
        ("stop for a restart", Input::Stop { reason: StopReason::Restart }),
        ("configure", Input::Configure(Box::new(config()))),
        ("complete", Input::Complete),
        ("tick", Input::Tick),
        ("announce", Input::Announce { prefix: prefix(), attributes: Arc::default() }),
        ("withdraw", Input::Withdraw { prefix: prefix() }),
        ("next hop", Input::NextHop { family: Family::V6, address: None }),
        ("connected", connected(DIALED)),
        ("connected, an old one", connected(old)),
        ("connected by the peer", connected(ConnectionId::Accepted(1))),
        ("connect failed", Input::ConnectFailed { connection: DIALED, error: ConnectError::Refused }),
        ("connect failed, an old one", Input::ConnectFailed { connection: old, error: ConnectError::Refused }),
        ("OPEN", received(&open())),
        ("OPEN of the wrong AS", received(&open_with(64999))),
        ("UPDATE", received(&update())),
        ("NOTIFICATION", received(&notification())),
        ("KEEPALIVE", received(&keepalive())),
        ("ROUTE-REFRESH", received(&refresh())),
        ("no marker", received(&[0; 19])),
        ("half a message", received(&open()[..25])),
        ("bytes of an old one", Input::Received { connection: old, bytes: vec![0; 19] }),
        ("written", Input::Written { connection: DIALED, count: 10 }),
        ("closed", Input::Closed { connection: DIALED, reason: CloseReason::ByPeer }),
        ("closed, an old one", Input::Closed { connection: old, reason: CloseReason::ByPeer }),
    ]
}

#[test]
fn rfc4271_8_2_2_every_input_in_every_state() {
    let mut table = String::new();
    for state in [State::Idle, State::Connect, State::Active, State::OpenSent, State::OpenConfirm, State::Established] {
        writeln!(table, "{state}").unwrap();
        for (name, input) in inputs() {
            let mut bench = Bench::in_state(state);
            bench.input(input);
            let said = bench.said();
            let after = bench.peer.state();
            let arrow = if after == state { String::new() } else { format!(" -> {after}") };
            let said = if said.is_empty() { "nothing" } else { &said };
            writeln!(table, "  {name}{arrow}: {said}").unwrap();
        }
    }
    expect![[r#"
        Idle
          start -> Connect: dial dialed#1
          stop: nothing
          stop for a restart: nothing
          configure: nothing
          complete: nothing
          tick: nothing
          announce: nothing
          withdraw: nothing
          next hop: nothing
          connected: close dialed#1
          connected, an old one: close dialed#77
          connected by the peer: accepted#1 < NOTIFICATION Cease/Connection Rejected; close accepted#1
          connect failed: nothing
          connect failed, an old one: nothing
          OPEN: nothing
          OPEN of the wrong AS: nothing
          UPDATE: nothing
          NOTIFICATION: nothing
          KEEPALIVE: nothing
          ROUTE-REFRESH: nothing
          no marker: nothing
          half a message: nothing
          bytes of an old one: nothing
          written: nothing
          closed: nothing
          closed, an old one: nothing
        Connect
          start: nothing
          stop -> Idle: close dialed#1
          stop for a restart -> Idle: close dialed#1
          configure: nothing
          complete: nothing
          tick: nothing
          announce: nothing
          withdraw: nothing
          next hop: nothing
          connected -> OpenSent: dialed#1 < OPEN AS 65001, hold 90s, id 0.0.0.1, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 65001]
          connected, an old one: close dialed#77
          connected by the peer -> OpenSent: accepted#1 < OPEN AS 65001, hold 90s, id 0.0.0.1, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 65001]
          connect failed -> Active: failed (connection refused: nothing listens on the peer's port, or it does not accept us as a neighbour)
          connect failed, an old one: nothing
          OPEN: nothing
          OPEN of the wrong AS: nothing
          UPDATE: nothing
          NOTIFICATION: nothing
          KEEPALIVE: nothing
          ROUTE-REFRESH: nothing
          no marker: nothing
          half a message: nothing
          bytes of an old one: nothing
          written: nothing
          closed -> Active: failed (the peer closed the connection without a NOTIFICATION)
          closed, an old one: nothing
        Active
          start: nothing
          stop -> Idle: nothing
          stop for a restart -> Idle: nothing
          configure: nothing
          complete: nothing
          tick: nothing
          announce: nothing
          withdraw: nothing
          next hop: nothing
          connected: close dialed#1
          connected, an old one: close dialed#77
          connected by the peer -> OpenSent: accepted#1 < OPEN AS 65001, hold 90s, id 0.0.0.1, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 65001]
          connect failed: nothing
          connect failed, an old one: nothing
          OPEN: nothing
          OPEN of the wrong AS: nothing
          UPDATE: nothing
          NOTIFICATION: nothing
          KEEPALIVE: nothing
          ROUTE-REFRESH: nothing
          no marker: nothing
          half a message: nothing
          bytes of an old one: nothing
          written: nothing
          closed: nothing
          closed, an old one: nothing
        OpenSent
          start: nothing
          stop -> Idle: dialed#1 < NOTIFICATION Cease/Peer De-configured; close dialed#1
          stop for a restart -> Idle: dialed#1 < NOTIFICATION Cease/Administrative Reset; close dialed#1
          configure: nothing
          complete: nothing
          tick: nothing
          announce: nothing
          withdraw: nothing
          next hop: nothing
          connected: nothing
          connected, an old one: close dialed#77
          connected by the peer: accepted#1 < OPEN AS 65001, hold 90s, id 0.0.0.1, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 65001]
          connect failed: nothing
          connect failed, an old one: nothing
          OPEN -> OpenConfirm: dialed#1 < KEEPALIVE
          OPEN of the wrong AS -> Active: dialed#1 < NOTIFICATION OPEN Message Error/Bad Peer AS (AS 64999); close dialed#1; failed (sent OPEN Message Error/Bad Peer AS (AS 64999): the peer is in AS 64999, but AS 65000 is configured)
          UPDATE -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in OpenSent State; close dialed#1; failed (sent Finite State Machine Error/Receive Unexpected Message in OpenSent State: a message of type Update came in state OpenSent)
          NOTIFICATION -> Active: close dialed#1; failed (received Cease/Administrative Reset)
          KEEPALIVE -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in OpenSent State; close dialed#1; failed (sent Finite State Machine Error/Receive Unexpected Message in OpenSent State: a message of type Keepalive came in state OpenSent)
          ROUTE-REFRESH -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in OpenSent State; close dialed#1; failed (sent Finite State Machine Error/Receive Unexpected Message in OpenSent State: a message of type RouteRefresh came in state OpenSent)
          no marker -> Active: dialed#1 < NOTIFICATION Message Header Error/Connection Not Synchronized; close dialed#1; failed (sent Message Header Error/Connection Not Synchronized: Marker at byte 0: not all bits are ones)
          half a message: nothing
          bytes of an old one: nothing
          written: nothing
          closed -> Active: failed (the peer closed the connection without a NOTIFICATION)
          closed, an old one: nothing
        OpenConfirm
          start: nothing
          stop -> Idle: dialed#1 < NOTIFICATION Cease/Peer De-configured; close dialed#1
          stop for a restart -> Idle: dialed#1 < NOTIFICATION Cease/Administrative Reset; close dialed#1
          configure: nothing
          complete: nothing
          tick: nothing
          announce: nothing
          withdraw: nothing
          next hop: nothing
          connected: nothing
          connected, an old one: close dialed#77
          connected by the peer: accepted#1 < OPEN AS 65001, hold 90s, id 0.0.0.1, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 65001]
          connect failed: nothing
          connect failed, an old one: nothing
          OPEN -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in OpenConfirm State; close dialed#1; failed (sent Finite State Machine Error/Receive Unexpected Message in OpenConfirm State: a message of type Open came in state OpenConfirm)
          OPEN of the wrong AS -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in OpenConfirm State; close dialed#1; failed (sent Finite State Machine Error/Receive Unexpected Message in OpenConfirm State: a message of type Open came in state OpenConfirm)
          UPDATE -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in OpenConfirm State; close dialed#1; failed (sent Finite State Machine Error/Receive Unexpected Message in OpenConfirm State: a message of type Update came in state OpenConfirm)
          NOTIFICATION -> Active: close dialed#1; failed (received Cease/Administrative Reset)
          KEEPALIVE -> Established: up
          ROUTE-REFRESH -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in OpenConfirm State; close dialed#1; failed (sent Finite State Machine Error/Receive Unexpected Message in OpenConfirm State: a message of type RouteRefresh came in state OpenConfirm)
          no marker -> Active: dialed#1 < NOTIFICATION Message Header Error/Connection Not Synchronized; close dialed#1; failed (sent Message Header Error/Connection Not Synchronized: Marker at byte 0: not all bits are ones)
          half a message: nothing
          bytes of an old one: nothing
          written: nothing
          closed -> Active: failed (the peer closed the connection without a NOTIFICATION)
          closed, an old one: nothing
        Established
          start: nothing
          stop -> Idle: dialed#1 < NOTIFICATION Cease/Peer De-configured; close dialed#1; down (sent Cease/Peer De-configured)
          stop for a restart -> Idle: dialed#1 < NOTIFICATION Cease/Administrative Reset; close dialed#1; down (sent Cease/Administrative Reset)
          configure: nothing
          complete: nothing
          tick: nothing
          announce: nothing
          withdraw: nothing
          next hop: nothing
          connected: nothing
          connected, an old one: close dialed#77
          connected by the peer: accepted#1 < NOTIFICATION Cease/Connection Collision Resolution; close accepted#1
          connect failed: nothing
          connect failed, an old one: nothing
          OPEN -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in Established State; close dialed#1; down (sent Finite State Machine Error/Receive Unexpected Message in Established State: a message of type Open came in state Established)
          OPEN of the wrong AS -> Active: dialed#1 < NOTIFICATION Finite State Machine Error/Receive Unexpected Message in Established State; close dialed#1; down (sent Finite State Machine Error/Receive Unexpected Message in Established State: a message of type Open came in state Established)
          UPDATE: announced [203.0.113.0/24]
          NOTIFICATION -> Active: close dialed#1; down (received Cease/Administrative Reset)
          KEEPALIVE: nothing
          ROUTE-REFRESH: nothing
          no marker -> Active: dialed#1 < NOTIFICATION Message Header Error/Connection Not Synchronized; close dialed#1; down (sent Message Header Error/Connection Not Synchronized: Marker at byte 0: not all bits are ones)
          half a message: nothing
          bytes of an old one: nothing
          written: nothing
          closed -> Active: down (the peer closed the connection without a NOTIFICATION)
          closed, an old one: nothing
    "#]].assert_eq(&table);
}

#[test]
fn every_deadline_in_every_state() {
    let mut table = String::new();
    for state in [State::Idle, State::Connect, State::Active, State::OpenSent, State::OpenConfirm, State::Established] {
        let mut bench = Bench::in_state(state);
        write!(table, "{state}:").unwrap();
        for _ in 0..3 {
            let Some(due) = bench.peer.next_deadline() else { break };
            bench.now = due;
            bench.input(Input::Tick);
            let at = std::time::Duration::from(due.since(Instant::ZERO)).as_secs_f64();
            write!(table, " [{at:.1}s {}]", bench.said()).unwrap();
        }
        writeln!(table).unwrap();
    }
    expect![[r#"
        Idle:
        Connect: [10.0s close dialed#1; failed (no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ)] [10.5s dial dialed#2] [20.5s close dialed#2; failed (no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ)]
        Active: [0.5s dial dialed#2] [10.5s close dialed#2; failed (no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ)] [11.4s dial dialed#3]
        OpenSent: [240.0s dialed#1 < NOTIFICATION Hold Timer Expired; close dialed#1; failed (sent Hold Timer Expired: nothing came from the peer in time)] [240.5s dial dialed#2] [250.5s close dialed#2; failed (no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ)]
        OpenConfirm: [28.6s dialed#1 < KEEPALIVE] [56.7s dialed#1 < KEEPALIVE] [79.9s dialed#1 < KEEPALIVE]
        Established: [0.0s ] [28.6s dialed#1 < KEEPALIVE] [56.7s dialed#1 < KEEPALIVE]
    "#]].assert_eq(&table);
}

#[test]
fn a_late_tick_after_a_keepalive_does_not_end_the_session() {
    let mut bench = Bench::in_state(State::Established);
    // The program did not run for two minutes; the peer's messages come first.
    bench.now += Duration::from_secs(120);
    bench.input(received(&keepalive()));
    bench.input(Input::Tick);
    assert_eq!(bench.peer.state(), State::Established);
}

#[test]
fn a_late_tick_before_a_keepalive_does_not_end_the_session_either() {
    let mut bench = Bench::in_state(State::Established);
    bench.sleep(Duration::from_secs(120));
    assert_eq!(bench.peer.state(), State::Established);
    bench.now += Duration::from_millis(900);
    bench.input(received(&keepalive()));
    bench.pass(Duration::from_secs(60));
    assert_eq!(bench.peer.state(), State::Established);
    // But the grace ends, also when that tick is late as well.
    bench.sleep(Duration::from_secs(120));
    bench.sleep(Duration::from_secs(120));
    assert_eq!(bench.peer.state(), State::Active);
}

#[test]
fn a_tick_in_time_ends_the_session_exactly_at_its_hold_time() {
    let mut bench = Bench::in_state(State::Established);
    bench.pass(Duration::from_micros(89_999_999));
    assert_eq!(bench.peer.state(), State::Established);
    bench.pass(Duration::from_micros(1));
    assert_eq!(bench.peer.state(), State::Active);
}

#[test]
fn a_stream_may_be_cut_anywhere() {
    let stream = [open(), keepalive(), update(), refresh(), keepalive(), notification()].concat();
    for size in 1..stream.len() {
        let mut bench = Bench::in_state(State::OpenSent);
        for part in stream.chunks(size) {
            bench.input(received(part));
        }
        let view = bench.peer.view();
        assert_eq!(view.counters.received.total(), 6, "parts of {size}");
        assert_eq!(view.last_down.unwrap().1.to_string(), "received Cease/Administrative Reset");
    }
}

#[test]
fn messages_wait_while_the_outbox_is_full_and_none_is_lost() {
    let mut bench = Bench::in_state(State::Established);
    bench.out = Outbox::with_limit(20);
    bench.input(received(&update().repeat(500)));
    let mut announced = 0;
    for _ in 0..500 {
        announced += bench.out.drain().filter(|output| matches!(output, Output::RoutesAnnounced { .. })).count();
        bench.sleep(Duration::ZERO);
    }
    assert_eq!((announced, bench.peer.state()), (500, State::Established));
}

#[test]
fn a_driver_that_never_empties_the_outbox_costs_bounded_memory() {
    let mut bench = Bench::in_state(State::Established);
    bench.out = Outbox::with_limit(20);
    for _ in 0..100 {
        bench.peer.handle(bench.now, received(&update().repeat(100)), &mut bench.out);
    }
    let (_, reason) = bench.peer.view().last_down.unwrap();
    assert_eq!(reason.to_string(), "sent Cease/Out of Resources: messages come faster than they are handled");
}

/// A peer that does not know AS numbers of 4 bytes.
fn old_speaker(local_as: u32) -> Bench {
    let mut bench = Bench::new(PeerConfig { local_as: Asn::new(local_as).unwrap(), ..config() });
    bench.input(Input::Announce { prefix: prefix(), attributes: Arc::default() });
    bench.input(Input::Start);
    bench.input(connected(DIALED));
    let mut bytes = Vec::new();
    Open { my_as: 65000, hold_time_secs: 90, identifier: 2, capabilities: Vec::new() }.encode(&mut bytes);
    bench.input(received(&bytes));
    bench.input(received(&keepalive()));
    bench.out.drain().for_each(drop);
    bench.pass(Duration::ZERO);
    bench
}

#[test]
fn rfc6793_4_2_2_an_old_speaker_gets_as_trans_and_as4_path() {
    let sent = |local_as| {
        let mut bench = old_speaker(local_as);
        let Some(Output::Send { bytes, .. }) = bench.out.pop() else { panic!("no UPDATE") };
        decode(&bytes, AsnSize::Two, MessageLimit::Standard).unwrap().to_string()
    };
    expect!["UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.0/24"].assert_eq(&sent(65001));
    // Contract 12.1 D32: 65536 is the first that does not fit.
    expect!["UPDATE ORIGIN IGP; AS_PATH 23456; NEXT_HOP 192.0.2.1; AS4_PATH 65536; nlri 198.51.100.0/24"]
        .assert_eq(&sent(65536));
    expect!["UPDATE ORIGIN IGP; AS_PATH 23456; NEXT_HOP 192.0.2.1; AS4_PATH 4200000000; nlri 198.51.100.0/24"]
        .assert_eq(&sent(4_200_000_000));
}

#[test]
fn rfc6793_4_2_3_an_old_speaker_is_read_with_two_bytes() {
    let mut bench = old_speaker(65001);
    bench.out.drain().for_each(drop);
    let path = PathAttributes {
        as_path: AsPath::sequence([65000, 70000].into_iter().filter_map(Asn::new)),
        ..PathAttributes::default()
    };
    let mut bytes = Vec::new();
    Announcer::new(Family::V4, NextHop::V4([192, 0, 2, 2].into()), &path, AsnSize::Two, MessageLimit::Standard)
        .announce(&["203.0.113.0/24".parse().unwrap()], &mut bytes);
    bench.input(received(&bytes));
    match bench.out.pop() {
        Some(Output::RoutesAnnounced { attributes, .. }) => assert_eq!(attributes.as_path.to_string(), "65000 70000"),
        other => panic!("{other:?}"),
    }
}

#[test]
fn rfc7606_2_and_6_an_update_treated_as_withdraw_takes_the_route_away_and_keeps_the_session() {
    let mut bench = Bench::in_state(State::Established);
    bench.input(received(&update()));
    let mut wrong = update();
    // The value of ORIGIN is the first attribute's last byte.
    wrong[26] = 9;
    bench.input(received(&wrong));
    expect![[r#"announced [203.0.113.0/24]; malformed (treated as withdraw: ORIGIN at byte 26: value 9 is undefined; "UPDATE ORIGIN 0x09; AS_PATH 65000; NEXT_HOP 192.0.2.2; nlri 203.0.113.0/24", 47 bytes); withdrawn [203.0.113.0/24]"#]].assert_eq(&bench.said());
    assert_eq!(bench.peer.view().counters.updates_treated_as_withdraw, 1);
    assert_eq!(bench.peer.state(), State::Established);
}

#[test]
fn rfc7606_6_and_rfc4271_6_3_an_update_that_cannot_be_read_ends_the_session_with_the_reason() {
    let mut bench = Bench::in_state(State::Established);
    let mut wrong = update();
    let last = wrong.len() - 4;
    wrong[last] = 33;
    bench.input(received(&wrong));
    expect![[r#"malformed (session reset: Network Layer Reachability Information at byte 43: a prefix length of 33 is more than the 32 bits of an address; "", 47 bytes); dialed#1 < NOTIFICATION UPDATE Message Error/Invalid Network Field; close dialed#1; down (sent UPDATE Message Error/Invalid Network Field: Network Layer Reachability Information at byte 43: a prefix length of 33 is more than the 32 bits of an address)"#]].assert_eq(&bench.said());
}

/// A peer in state Established with a neighbour that has these capabilities.
fn established_with(config: PeerConfig, capabilities: Vec<Capability>) -> Bench {
    let mut bench = Bench::new(config);
    let mut open = Vec::new();
    Open::new(Asn::new(65000).unwrap(), HoldTime::DEFAULT, RouterId::new(2).unwrap(), capabilities).encode(&mut open);
    for step in [Input::Start, connected(DIALED), received(&open), received(&keepalive())] {
        bench.input(step);
    }
    assert_eq!(bench.peer.state(), State::Established);
    bench.out.drain().for_each(drop);
    bench
}

#[test]
fn rfc7313_5_marks_of_a_wrong_length_end_the_session_with_the_whole_message() {
    let mark = |subtype: u8, body_len: usize| {
        let mut bytes = refresh();
        bytes.resize(19 + body_len, 0);
        bytes[17] = u8::try_from(19 + body_len).unwrap();
        bytes[21] = subtype;
        bytes
    };
    let said = |reception, bytes: &[u8]| {
        let capabilities = vec![Capability::RouteRefresh, Capability::EnhancedRouteRefresh];
        let mut bench = established_with(PeerConfig { reception, ..config() }, capabilities);
        bench.input(received(bytes));
        bench.said()
    };
    for body_len in [3, 5] {
        for subtype in [1, 2] {
            let bytes = mark(subtype, body_len);
            let said = said(Reception::Refuse, &bytes);
            let data: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
            let expected = format!("ROUTE-REFRESH Message Error/Invalid Message Length, data {data}");
            assert!(said.contains(&expected), "{said}");
        }
    }
    // Section 5: a subtype that is not known is ignored, so its length does not count.
    assert_eq!(said(Reception::Refuse, &mark(3, 7)), "");
    // A request has a length too, and without the capability all have the same one.
    let kept = Reception::Report { prefixes_max: 10 };
    for (reception, subtype) in [(Reception::Refuse, 0), (kept, 0), (kept, 1), (kept, 3)] {
        let said = said(reception, &mark(subtype, 5));
        assert!(said.contains("Message Header Error/Bad Message Length, data 0018"), "{subtype}: {said}");
    }
}

#[test]
fn rfc8654_4_and_5_large_messages_are_taken_after_we_said_so_and_sent_to_those_who_did() {
    let large = || {
        let communities = (0..5000).map(kit::Community::Standard).collect();
        let path =
            PathAttributes { as_path: AsPath::sequence(Asn::new(65000)), communities, ..PathAttributes::default() };
        let mut bytes = Vec::new();
        Announcer::new(Family::V4, NextHop::V4([192, 0, 2, 2].into()), &path, AsnSize::Four, MessageLimit::Extended)
            .announce(&["203.0.113.0/24".parse().unwrap()], &mut bytes);
        assert!(bytes.len() > 20_000);
        bytes
    };
    // The peer did not announce the capability, we did: section 4 has us take it all the same.
    let mut bench = established_with(config(), Vec::new());
    bench.input(received(&large()));
    assert_eq!(bench.said(), "announced [203.0.113.0/24]");
    // But it gets none from us: the route that fits in no other is left out.
    let many = || crate::RouteAttributes {
        communities: (0..1100).map(kit::Community::Standard).collect(),
        ..crate::RouteAttributes::default()
    };
    bench.input(Input::Announce { prefix: prefix(), attributes: Arc::new(many()) });
    bench.pass(Duration::ZERO);
    assert_eq!((bench.said().as_str(), bench.peer.route_state(&prefix())), ("", RouteState::TooLarge));
    let mut bench = established_with(config(), vec![Capability::ExtendedMessage]);
    bench.input(Input::Announce { prefix: prefix(), attributes: Arc::new(many()) });
    bench.pass(Duration::ZERO);
    assert_eq!(bench.peer.route_state(&prefix()), RouteState::Announced);
}

#[test]
fn rfc8654_4_open_and_keepalive_stay_small() {
    for (kind, expected) in [(1, "data 1001"), (4, "data 1001")] {
        let mut bench = Bench::in_state(if kind == 1 { State::OpenSent } else { State::Established });
        let mut bytes = vec![0xff; 4097];
        bytes[16..18].copy_from_slice(&4097_u16.to_be_bytes());
        bytes[18] = kind;
        bench.input(received(&bytes));
        let said = bench.said();
        assert!(said.contains("Bad Message Length") && said.contains(expected), "{kind}: {said}");
    }
}

#[test]
fn rfc5492_3_a_peer_that_knows_no_capabilities_is_tried_without() {
    let mut bench = Bench::in_state(State::OpenSent);
    let mut bytes = Vec::new();
    Notification::new(ErrorCode::UNSUPPORTED_OPTIONAL_PARAMETER).encode(&mut bytes);
    bench.input(received(&bytes));
    bench.pass(Duration::from_secs(1));
    let again = ConnectionId::Dialed(2);
    bench.input(connected(again));
    let said = bench.said();
    assert!(said.ends_with("dialed#2 < OPEN AS 65001, hold 90s, id 0.0.0.1, capabilities []"), "{said}");
    // It has a session of the old kind: AS numbers of two bytes, IPv4 alone, and messages that are not large.
    bench.input(Input::Announce { prefix: prefix(), attributes: Arc::default() });
    for bytes in [open(), keepalive()] {
        bench.input(Input::Received { connection: again, bytes });
    }
    bench.out.drain().for_each(drop);
    bench.pass(Duration::ZERO);
    let Some(Output::Send { bytes, .. }) = bench.out.pop() else { panic!("no UPDATE") };
    let text = decode(&bytes, AsnSize::Two, MessageLimit::Standard).unwrap().to_string();
    assert_eq!(text, "UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.0/24");
    let mut large = vec![0xff; 19];
    large[16..19].copy_from_slice(&[0x10, 1, 2]);
    bench.input(Input::Received { connection: again, bytes: large });
    assert!(bench.said().contains("Bad Message Length"));
    // The next session begins with all of them again.
    bench.pass(Duration::from_secs(2));
    bench.input(connected(ConnectionId::Dialed(3)));
    assert!(bench.said().contains("capabilities [IPv4 unicast"), "{}", bench.peer.state());
}

#[test]
fn passive_peers_wait_and_active_ones_turn_away() {
    let mut passive = Bench::new(PeerConfig { mode: Mode::Passive, ..config() });
    passive.input(Input::Start);
    assert_eq!((passive.said().as_str(), passive.peer.next_deadline()), ("", None));
    passive.input(connected(ConnectionId::Accepted(1)));
    assert_eq!(passive.peer.state(), State::OpenSent);
    let mut active = Bench::new(PeerConfig { mode: Mode::Active, ..config() });
    active.input(Input::Start);
    active.input(connected(ConnectionId::Accepted(1)));
    expect!["dial dialed#1; accepted#1 < NOTIFICATION Cease/Connection Rejected; close accepted#1"]
        .assert_eq(&active.said());
}

#[test]
fn a_second_connection_of_the_peer_replaces_its_first() {
    let mut bench = Bench::new(PeerConfig { mode: Mode::Passive, ..config() });
    bench.input(Input::Start);
    bench.input(connected(ConnectionId::Accepted(1)));
    bench.out.drain().for_each(drop);
    bench.input(connected(ConnectionId::Accepted(2)));
    expect!["accepted#1 < NOTIFICATION Cease/Connection Collision Resolution; close accepted#1; accepted#2 < OPEN AS 65001, hold 90s, id 0.0.0.1, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 65001]"].assert_eq(&bench.said());
    bench.input(Input::Received { connection: ConnectionId::Accepted(2), bytes: open() });
    assert_eq!(bench.peer.state(), State::OpenConfirm);
}

/// Inputs in any order, of connections that exist and that do not, with messages that are right and wrong.
fn random_input(
    bench: &mut Bench,
    open: &BTreeSet<ConnectionId>,
    dialing: &BTreeSet<ConnectionId>,
    rng: &mut Rng,
) -> Input {
    let known: Vec<ConnectionId> = open.iter().chain(dialing).copied().collect();
    let connection =
        if rng.one_in(8) { ConnectionId::Accepted(rng.below(9)) } else { rng.pick(&known).copied().unwrap_or(DIALED) };
    match rng.below(16) {
        0 => Input::Start,
        1 if rng.one_in(4) => Input::Stop { reason: StopReason::BfdDown },
        1 if rng.one_in(2) => Input::Configure(Box::new(config())),
        1 => Input::Complete,
        2 => Input::Announce { prefix: prefix(), attributes: Arc::default() },
        3 => Input::Withdraw { prefix: prefix() },
        4 => connected(rng.pick(&dialing.iter().copied().collect::<Vec<_>>()).copied().unwrap_or(connection)),
        5 => connected(ConnectionId::Accepted(100 + rng.below(1000))),
        6 => Input::ConnectFailed { connection, error: ConnectError::Refused },
        7 if rng.one_in(3) => Input::Closed { connection, reason: CloseReason::Reset },
        8 => Input::Written { connection, count: rng.index(100) },
        9 | 10 => {
            bench.now += Duration::from_millis(rng.below(50_000));
            Input::Tick
        }
        _ => {
            let all = [open_with(65000), keepalive(), update(), notification(), refresh()];
            let mut bytes = rng.pick(&all).unwrap().clone();
            if rng.one_in(10) {
                edit(&mut bytes, rng);
            }
            Input::Received { connection, bytes }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// What a driver may rely on: nothing is sent over a connection that is closed or was never there, at most one is
    /// dialed at a time, sessions go up and down in turn, and whoever dials always has something to wait for.
    #[test]
    fn no_history_breaks_what_a_driver_relies_on(seed: u64) {
        let mut rng = Rng::new(seed);
        let mut bench = Bench::new(config());
        let (mut open, mut dialing) = (BTreeSet::new(), BTreeSet::new());
        let mut is_up = false;
        for _ in 0..200 {
            let input = random_input(&mut bench, &open, &dialing, &mut rng);
            match &input {
                Input::Connected { connection, .. } => {
                    dialing.remove(connection);
                    open.insert(*connection);
                }
                Input::ConnectFailed { connection, .. } if !open.contains(connection) => {
                    dialing.remove(connection);
                }
                Input::Closed { connection, .. } => {
                    open.remove(connection);
                    dialing.remove(connection);
                }
                _ => {}
            }
            bench.input(input);
            for output in bench.out.drain() {
                match output {
                    Output::Dial { connection } => {
                        prop_assert!(dialing.is_empty(), "two attempts at once");
                        dialing.insert(connection);
                    }
                    Output::Send { connection, bytes } => {
                        prop_assert!(open.contains(&connection), "wrote to {connection}");
                        prop_assert!(bytes.len() <= 2 * SEND_WINDOW);
                    }
                    Output::Close { connection } => {
                        open.remove(&connection);
                        dialing.remove(&connection);
                    }
                    Output::SessionUp { .. } => {
                        prop_assert!(!is_up);
                        is_up = true;
                    }
                    Output::SessionDown { .. } => {
                        prop_assert!(is_up);
                        is_up = false;
                    }
                    Output::AttemptFailed { .. } => prop_assert!(!is_up),
                    Output::RoutesAnnounced { .. }
                    | Output::RoutesWithdrawn { .. }
                    | Output::MalformedUpdate { .. } => {}
                }
            }
            let state = bench.peer.state();
            prop_assert_eq!(state == State::Established, is_up);
            prop_assert!(open.len() <= 2, "{open:?}");
            // A session without hold time sends and expects nothing but routes.
            let is_quiet = bench.peer.view().session.is_some_and(|session| session.hold_time == HoldTime::NEVER);
            if state != State::Idle && !is_quiet {
                prop_assert!(bench.peer.next_deadline().is_some(), "{state} waits for nothing");
            }
        }
    }
}
