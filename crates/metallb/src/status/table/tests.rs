//! Answers as people see them.

use expect_test::expect;

use super::super::model::{BfdThreadStatus, FamilyStatus, MessagesStatus, RouteStatus, SpeakerStatus};
use super::*;

fn speaker() -> SpeakerStatus {
    SpeakerStatus {
        node: "node-1".to_owned(),
        version: "1.2.3".to_owned(),
        time: "2026-03-04T12:00:00Z".to_owned(),
        peer_names: vec!["rack".to_owned(), "spine".to_owned(), "tor".to_owned()],
        bfd_thread: Some(BfdThreadStatus {
            precedence: "ordinary".to_owned(),
            longest_delay_ms: 4.25,
            troubles: vec!["port 3784 is in use".to_owned()],
        }),
    }
}

fn established() -> PeerStatus {
    let some = |text: &str| Some(text.to_owned());
    let counts = |n: u64| Counts { opens: 1, updates: n, notifications: 0, keepalives: 40, route_refreshes: 0 };
    let route = |prefix: &str| RouteStatus {
        prefix: prefix.to_owned(),
        state: "announced".to_owned(),
        next_hop: some("192.0.2.11"),
        as_path: some("64512 64512"),
        local_pref: None,
        med: Some(7),
        communities: vec!["64512:1".to_owned(), "large:1:2:3".to_owned()],
    };
    PeerStatus {
        name: "rack".to_owned(),
        router: "192.0.2.1:179".to_owned(),
        local_as: 64512,
        remote_as: "64500".to_owned(),
        state: "Established".to_owned(),
        since: some("2026-03-04T10:58:00Z"),
        established: 2,
        last_down: Some(Ending { time: "2026-03-04T10:57:55Z".to_owned(), reason: "sent Cease/BFD Down".to_owned() }),
        last_notification: Some(Ending {
            time: "2026-03-04T10:57:55Z".to_owned(),
            reason: "sent Cease/BFD Down".to_owned(),
        }),
        session: Some(SessionStatus {
            local: "192.0.2.11:40000".to_owned(),
            remote: "192.0.2.1:179".to_owned(),
            local_router_id: "192.0.2.11".to_owned(),
            remote_router_id: "192.0.2.1".to_owned(),
            remote_as: 64500,
            hold_time_seconds: 90,
            keepalive_time_seconds: Some(30),
            keeps_routes: false,
            capabilities_sent: vec!["IPv4 unicast".to_owned(), "4-byte AS 64512".to_owned()],
            capabilities_received: vec!["IPv4 unicast".to_owned(), "route refresh".to_owned()],
        }),
        bfd_profile: some("fast"),
        bfd: some("Up"),
        families: vec![
            FamilyStatus { family: "IPv4".to_owned(), wanted: 2, announced: 1, blocked: None },
            FamilyStatus {
                family: "IPv6".to_owned(),
                wanted: 1,
                announced: 0,
                blocked: some("the session carries the other address family only"),
            },
        ],
        messages: MessagesStatus {
            sent: counts(5),
            received: counts(0),
            updates_treated_as_withdraw: 0,
            attributes_discarded: 3,
        },
        routes: vec![
            route("198.51.100.1/32"),
            RouteStatus {
                prefix: "198.51.100.2/32".to_owned(),
                state: "waiting to be sent".to_owned(),
                ..RouteStatus::default()
            },
        ],
        ..PeerStatus::default()
    }
}

fn down() -> PeerStatus {
    PeerStatus {
        name: "spine".to_owned(),
        router: "[2001:db8::1]:179".to_owned(),
        vrf: Some("red".to_owned()),
        local_as: 64512,
        remote_as: "external".to_owned(),
        state: "Idle".to_owned(),
        since: Some("2026-03-04T11:59:57Z".to_owned()),
        waits_for: Some("the path to work again (BFD)".to_owned()),
        failed_attempts: 3,
        established: 1,
        last_down: Some(Ending { time: "2026-03-04T11:59:57Z".to_owned(), reason: "sent Cease/BFD Down".to_owned() }),
        bfd_profile: Some("fast".to_owned()),
        bfd: Some("Down".to_owned()),
        ..PeerStatus::default()
    }
}

fn bfd() -> BfdStatus {
    BfdStatus {
        peers: vec!["rack".to_owned()],
        remote: "192.0.2.1".to_owned(),
        hops: "single".to_owned(),
        state: "Up".to_owned(),
        since: "2026-03-02T10:57:56Z".to_owned(),
        last_down: Some("nothing was heard from the neighbour for the detection time".to_owned()),
        remote_state: Some("Up".to_owned()),
        diagnostic: "no diagnostic".to_owned(),
        remote_diagnostic: Some("neighbor signaled session down".to_owned()),
        transmit_interval_ms: Some(50.0),
        detection_time_ms: Some(150.0),
        detect_multiplier: 3,
        echo: "off".to_owned(),
        control_packets_received: 1000,
        control_packets_sent: 1001,
        ups: 2,
        downs: 1,
        ..BfdStatus::default()
    }
}

fn status() -> Status {
    let listening = PeerStatus {
        name: "tor".to_owned(),
        router: "198.51.100.0/24".to_owned(),
        remote_as: "64500".to_owned(),
        state: "Listening".to_owned(),
        waits_for: Some("a router that connects".to_owned()),
        ..PeerStatus::default()
    };
    let unheard = BfdStatus {
        peers: vec!["spine".to_owned()],
        remote: "fe80::1".to_owned(),
        interface: Some("eth0".to_owned()),
        remote_state: None,
        state: "Down".to_owned(),
        last_down: None,
        transmit_interval_ms: None,
        detection_time_ms: None,
        ..bfd()
    };
    Status { speaker: speaker(), peers: vec![established(), down(), listening], bfd: vec![bfd(), unheard] }
}

#[test]
fn one_line_for_each_session() {
    expect![[r"
        node node-1 at 2026-03-04T12:00:00Z

        PEER   ROUTER                    AS        STATE        FOR   ROUTES  BFD   WHY
        rack   192.0.2.1:179             64500     Established  1h2m  1/3     Up    -
        spine  [2001:db8::1]:179 in red  external  Idle         3s    0/0     Down  waits for the path to work again (BFD); 3s ago: sent Cease/BFD Down
        tor    198.51.100.0/24           64500     Listening          0/0     -     waits for a router that connects

        BFD           HOPS    STATE  FOR   EVERY  DETECTED IN  ECHO  UP/DOWN  WENT DOWN LAST
        192.0.2.1     single  Up     2d1h  50 ms  150 ms       off   2/1      nothing was heard from the neighbour for the detection time
        fe80::1%eth0  single  Down   2d1h  -      -            off   2/1      -

        BFD runs with ordinary precedence; it was 4.25 ms late at most
        trouble: port 3784 is in use
    "]].assert_eq(&overview(&status()));
}

#[test]
fn everything_about_one_peer() {
    let of = |peer, bfd| Status { speaker: speaker(), peers: vec![peer], bfd };
    expect![[r"
        node node-1 at 2026-03-04T12:00:00Z

        BGPPeer rack
          router                192.0.2.1:179, AS 64500
          our AS                64512
          state                 Established for 1h2m (since 2026-03-04T10:58:00Z)
          sessions so far       2
          went down last        1h2m ago (2026-03-04T10:57:55Z): sent Cease/BFD Down
          last NOTIFICATION     1h2m ago (2026-03-04T10:57:55Z): sent Cease/BFD Down
          our end               192.0.2.11:40000, identifier 192.0.2.11
          router's end          192.0.2.1:179, identifier 192.0.2.1, AS 64500
          timers                hold 90s, keepalive 30s
          when we restart       our routes go
          capabilities sent     IPv4 unicast; 4-byte AS 64512
          capabilities received IPv4 unicast; route refresh
          messages sent         OPEN 1, UPDATE 5, NOTIFICATION 0, KEEPALIVE 40, ROUTE-REFRESH 0
          messages received     OPEN 1, UPDATE 0, NOTIFICATION 0, KEEPALIVE 40, ROUTE-REFRESH 0
          errors received       3 attributes ignored
          IPv4 routes           1 of 2 announced
          IPv6 routes           0 of 1 announced: the session carries the other address family only
          BFD                   Up, profile fast

        BFD
          path                  192.0.2.1, single hop
          state                 Up for 2d1h (since 2026-03-02T10:57:56Z)
          router's state        Up, diagnostic: neighbor signaled session down
          went down last        nothing was heard from the neighbour for the detection time
          our packets every     50 ms
          router silent for     150 ms at most
          our multiplier        3
          echo packets          off
          packets               1001 sent, 1000 received
          came up, went down    2 times, 1 times

        PREFIX           NEXT HOP    AS PATH      LOCAL PREF  MED  COMMUNITIES          STATE
        198.51.100.1/32  192.0.2.11  64512 64512  -           7    64512:1 large:1:2:3  announced
        198.51.100.2/32  -           -            -           -    -                    waiting to be sent
    "]]
    .assert_eq(&details(&of(established(), vec![bfd()])));
    expect![[r"
        node node-1 at 2026-03-04T12:00:00Z

        BGPPeer spine
          router                [2001:db8::1]:179 in red, AS external
          our AS                64512
          state                 Idle for 3s (since 2026-03-04T11:59:57Z)
          waits for             the path to work again (BFD)
          failed attempts       3
          sessions so far       1
          went down last        3s ago (2026-03-04T11:59:57Z): sent Cease/BFD Down
          messages sent         OPEN 0, UPDATE 0, NOTIFICATION 0, KEEPALIVE 0, ROUTE-REFRESH 0
          messages received     OPEN 0, UPDATE 0, NOTIFICATION 0, KEEPALIVE 0, ROUTE-REFRESH 0
          BFD                   Down, profile fast

        no routes
    "]]
    .assert_eq(&details(&of(down(), Vec::new())));
}

#[test]
fn a_node_without_peers_says_so() {
    expect![[r"
        node node-1 at 2026-03-04T12:00:00Z

        no BGP sessions: no BGPPeer selects this node
    "]]
    .assert_eq(&overview(&Status { speaker: speaker(), ..Status::default() }));
}

#[test]
fn ages_have_two_units() {
    let status = status();
    for (time, expected) in [
        ("2026-03-04T12:00:00Z", "0s"),
        ("2026-03-04T12:00:09Z", "0s"),
        ("2026-03-04T11:59:01Z", "59s"),
        ("2026-03-04T11:58:59Z", "1m1s"),
        ("2026-03-04T10:00:00Z", "2h0m"),
        ("2026-03-01T11:00:00Z", "3d1h"),
        ("yesterday", "?"),
    ] {
        assert_eq!(age(&status, time), expected, "{time}");
    }
}

#[test]
fn what_is_written_can_be_read() {
    let (status, text) = (status(), serde_json::to_string(&status()).unwrap());
    assert_eq!(serde_json::from_str::<Status>(&text).unwrap(), status);
    assert!(text.starts_with(r#"{"node":"node-1","version":"1.2.3","#), "{text}");
}
