//! How sessions begin, live and end.

use bgp::{ConnectRetry, Input, Mode, Reception, State, StopReason};
use expect_test::expect;
use kit::{Duration, HoldTime, RemoteAs, RouterId};

use crate::network::{A, B, Network, Weather, config, secs};

fn pair() -> Network {
    Network::new(config(65001, 65000, Mode::Active), config(65000, 65001, Mode::Passive), 1)
}

#[test]
fn a_session_begins_with_open_and_keepalive() {
    let mut network = pair();
    network.start();
    network.run_for(secs(1));
    expect![[r#"
        0.010 b > a: OPEN AS 65000, hold 90s, id 192.0.2.2, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 65000]
        0.020 a > b: OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 65001]
        0.020 a > b: KEEPALIVE
        0.030 b > a: KEEPALIVE
    "#]]
    .assert_eq(&network.captured());
    expect![[r#"
        0.040 up: AS 65000, router 192.0.2.2
    "#]]
    .assert_eq(&network.log(A));
    expect![[r#"
        0.030 up: AS 65001, router 192.0.2.1
    "#]]
    .assert_eq(&network.log(B));
}

#[test]
fn rfc4271_4_4_keepalives_keep_a_session_for_hours() {
    let mut network = pair();
    network.start();
    network.run_for(secs(4 * 3600));
    for side in [A, B] {
        let view = network.hosts[side].peer.view();
        assert_eq!((view.state, view.sessions), (State::Established, 1), "{:?}", network.hosts[side].log);
        // A third of 90 s, less a quarter at most: 480 to 640 in four hours.
        let sent = view.counters.sent.keepalives;
        assert!((480..=642).contains(&sent), "{sent}");
        assert_eq!(view.counters.received.keepalives, network.hosts[1 - side].peer.view().counters.sent.keepalives);
    }
}

#[test]
fn rfc4271_4_4_keepalives_are_never_less_than_a_second_apart() {
    let quick = |local, remote, mode| bgp::PeerConfig {
        hold_time: HoldTime::from_secs(3).unwrap(),
        keepalive_time: Some(Duration::from_millis(100)),
        ..config(local, remote, mode)
    };
    let mut network = Network::new(quick(1, 2, Mode::Active), quick(2, 1, Mode::Passive), 3);
    network.start();
    network.run_for(secs(101));
    let sent = network.hosts[A].peer.view().counters.sent.keepalives;
    assert!((99..=102).contains(&sent), "{sent}");
    assert_eq!(network.hosts[A].peer.view().sessions, 1);
}

#[test]
fn rfc4271_4_2_hold_time_0_means_no_keepalives_and_no_end() {
    let never = bgp::PeerConfig { hold_time: HoldTime::NEVER, ..config(65001, 65000, Mode::Active) };
    let mut network = Network::new(never, config(65000, 65001, Mode::Passive), 1);
    network.start();
    network.establish();
    network.weather = Weather::Cut;
    network.run_for(secs(24 * 3600));
    for side in [A, B] {
        let view = network.hosts[side].peer.view();
        assert_eq!((view.state, view.counters.sent.keepalives), (State::Established, 1));
        assert_eq!(view.session.unwrap().keepalive_time, None);
    }
}

#[test]
fn rfc4271_6_5_silence_ends_the_session_after_the_hold_time() {
    let mut network = pair();
    network.start();
    network.establish();
    network.weather = Weather::Cut;
    network.run_for(secs(125));
    expect![[r#"
        0.040 up: AS 65000, router 192.0.2.2
        90.040 down: sent Hold Timer Expired: nothing came from the peer in time
        100.458 failed: no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ
        110.898 failed: no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ
        121.691 failed: no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ
    "#]].assert_eq(&network.log(A));
    expect![[r#"
        0.030 up: AS 65001, router 192.0.2.1
        90.030 down: sent Hold Timer Expired: nothing came from the peer in time
    "#]]
    .assert_eq(&network.log(B));
    network.weather = Weather::Fair;
    network.run_for(secs(35));
    assert_eq!(network.hosts[A].peer.state(), State::Established, "{}", network.log(A));
}

#[test]
fn a_lost_connection_is_made_again_within_half_a_second() {
    let mut network = pair();
    network.start();
    network.run_for(secs(100));
    network.reset_connections();
    network.run_for(secs(1));
    expect![[r#"
        0.040 up: AS 65000, router 192.0.2.2
        100.000 down: the connection was reset by the peer
        100.458 up: AS 65000, router 192.0.2.2
    "#]]
    .assert_eq(&network.log(A));
    expect![[r#"
        0.030 up: AS 65001, router 192.0.2.1
        100.000 down: the connection was reset by the peer
        100.448 up: AS 65001, router 192.0.2.1
    "#]]
    .assert_eq(&network.log(B));
}

#[test]
fn sessions_that_never_last_are_tried_ever_less_often() {
    let wrong = bgp::PeerConfig { remote_as: RemoteAs::Internal, ..config(65001, 65000, Mode::Active) };
    let mut network = Network::new(wrong, config(65000, 65001, Mode::Passive), 1);
    network.start();
    network.run_for(secs(3600));
    let attempts = network.hosts[A].log.len();
    // 0.5 s doubled up to 120 s, with jitter.
    assert!((35..=50).contains(&attempts), "{attempts}");
    expect!["0.020 failed: sent OPEN Message Error/Bad Peer AS (AS 65000): the peer is in AS 65000, but our own AS 65001 is configured"].assert_eq(&network.hosts[A].log[0]);
    expect!["0.030 failed: received OPEN Message Error/Bad Peer AS (AS 65000)"].assert_eq(&network.hosts[B].log[0]);
}

#[test]
fn what_a_peer_said_once_is_remembered_when_it_only_closes_connections_afterwards() {
    let wrong = bgp::PeerConfig { remote_as: RemoteAs::Internal, ..config(65001, 65000, Mode::Active) };
    let mut network = Network::new(wrong, config(65000, 65001, Mode::Passive), 1);
    network.start();
    network.run_for(secs(1));
    network.weather = Weather::Cut;
    network.run_for(secs(60));
    let view = network.hosts[A].peer.view();
    expect!["no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ"].assert_eq(&format!("{}", view.last_down.unwrap().1));
    expect![
        "sent OPEN Message Error/Bad Peer AS (AS 65000): the peer is in AS 65000, but our own AS 65001 is configured"
    ]
    .assert_eq(&format!("{}", view.last_notification.unwrap().1));
}

#[test]
fn a_configured_connect_time_is_kept_exactly() {
    let every = bgp::PeerConfig { connect_retry: ConnectRetry::Every(secs(7)), ..config(1, 2, Mode::Active) };
    // The other side does not listen.
    let mut network = Network::new(every, config(2, 1, Mode::Active), 1);
    network.input(A, Input::Start);
    network.run_for(secs(22));
    expect![[r#"
        0.020 failed: connection refused: nothing listens on the peer's port, or it does not accept us as a neighbour
        7.020 failed: connection refused: nothing listens on the peer's port, or it does not accept us as a neighbour
        14.020 failed: connection refused: nothing listens on the peer's port, or it does not accept us as a neighbour
        21.020 failed: connection refused: nothing listens on the peer's port, or it does not accept us as a neighbour
    "#]]
    .assert_eq(&network.log(A));
    network.weather = Weather::Cut;
    network.run_for(secs(14));
    expect!["35.000 failed: no answer to the connection request: the peer is down, a firewall drops the packets, or the TCP MD5 passwords or TCP-AO keys differ"].assert_eq(network.hosts[A].log.last().unwrap());
}

#[test]
fn rfc4486_4_and_rfc9003_2_a_stop_tells_the_peer_why() {
    for (reason, expected) in [
        (
            StopReason::AdministrativeShutdown { text: String::new() },
            expect!["0.050 down: received Cease/Administrative Shutdown"],
        ),
        (
            StopReason::AdministrativeShutdown { text: "upgrade".to_owned() },
            expect![[r#"0.050 down: received Cease/Administrative Shutdown ("upgrade")"#]],
        ),
        (StopReason::PeerDeconfigured, expect!["0.050 down: received Cease/Peer De-configured"]),
        (StopReason::ConfigurationChange, expect!["0.050 down: received Cease/Other Configuration Change"]),
        (StopReason::BfdDown, expect!["0.050 down: received Cease/BFD Down"]),
    ] {
        let mut network = pair();
        network.start();
        network.establish();
        network.input(A, Input::Stop { reason });
        network.run_for(secs(1));
        expected.assert_eq(network.hosts[B].log.last().unwrap());
        assert_eq!(network.hosts[A].peer.state(), State::Idle);
        assert_eq!(network.hosts[A].peer.next_deadline(), None, "a stopped peer waits for nothing");
        network.input(A, Input::Start);
        network.establish();
    }
}

#[test]
fn a_stop_while_connecting_leaves_nothing_behind() {
    for millis in 0..60 {
        let mut network = pair();
        network.start();
        network.run_for(Duration::from_millis(millis));
        let stop = Input::Stop { reason: StopReason::PeerDeconfigured };
        network.input(A, stop.clone());
        network.input(B, stop);
        network.run_for(secs(300));
        for side in [A, B] {
            assert_eq!(network.hosts[side].peer.state(), State::Idle, "after {millis} ms");
            assert_eq!(network.hosts[side].peer.next_deadline(), None, "after {millis} ms");
        }
    }
}

#[test]
fn rfc6286_2_2_our_own_identifier_is_refused_inside_the_as_and_accepted_outside() {
    let same = |local, remote, mode| bgp::PeerConfig {
        router_id: bgp::RouterIdSource::Configured(RouterId::new(7).unwrap()),
        ..config(local, remote, mode)
    };
    let mut network = Network::new(same(65000, 65000, Mode::Active), same(65000, 65000, Mode::Passive), 1);
    network.start();
    network.run_for(secs(1));
    expect!["0.020 failed: sent OPEN Message Error/Bad BGP Identifier: the peer has our own router ID 0.0.0.7"]
        .assert_eq(&network.hosts[A].log[0]);
    let mut network = Network::new(same(65000, 65001, Mode::Active), same(65001, 65000, Mode::Passive), 1);
    network.start();
    network.establish();
}

#[test]
fn dynamic_as_admits_what_it_says() {
    for (remote_as, as_of_peer, up) in [
        (RemoteAs::Internal, 65001, true),
        (RemoteAs::Internal, 65000, false),
        (RemoteAs::External, 65000, true),
        (RemoteAs::External, 65001, false),
    ] {
        let dynamic = bgp::PeerConfig { remote_as, ..config(65001, 1, Mode::Active) };
        let mut network = Network::new(dynamic, config(as_of_peer, 65001, Mode::Passive), 1);
        network.start();
        network.run_for(secs(1));
        assert_eq!(network.hosts[A].peer.state() == State::Established, up, "{remote_as} and AS {as_of_peer}");
    }
}

#[test]
fn rfc6793_4_as_numbers_of_four_bytes() {
    let mut network =
        Network::new(config(4_200_000_001, 70_000, Mode::Active), config(70_000, 4_200_000_001, Mode::Passive), 1);
    network.start();
    network.run_for(secs(1));
    expect![[r#"
        0.010 b > a: OPEN AS 23456, hold 90s, id 192.0.2.2, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 70000]
        0.020 a > b: OPEN AS 23456, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 4200000001]
        0.020 a > b: KEEPALIVE
        0.030 b > a: KEEPALIVE
    "#]].assert_eq(&network.captured());
    expect![[r#"
        0.040 up: AS 70000, router 192.0.2.2
    "#]]
    .assert_eq(&network.log(A));
}

#[test]
fn rfc4486_4_more_prefixes_than_allowed_end_the_session() {
    let limited =
        bgp::PeerConfig { reception: Reception::Report { prefixes_max: 2 }, ..config(65000, 65001, Mode::Passive) };
    let mut network = Network::new(config(65001, 65000, Mode::Active), limited, 1);
    for prefix in ["10.0.0.0/8", "11.0.0.0/8", "12.0.0.0/8"] {
        network.announce(A, prefix, &bgp::RouteAttributes::default());
    }
    network.start();
    network.run_for(Duration::from_millis(200));
    expect![[r#"
        0.040 up: AS 65000, router 192.0.2.2
        0.060 down: received Cease/Maximum Number of Prefixes Reached (IPv4 unicast, limit 2)
    "#]]
    .assert_eq(&network.log(A));
    expect![[r#"
        0.030 up: AS 65001, router 192.0.2.1
        0.050 down: sent Cease/Maximum Number of Prefixes Reached (IPv4 unicast, limit 2): the peer announces more than 2 prefixes
    "#]].assert_eq(&network.log(B));
    assert!(network.hosts[B].table.is_empty());
}

/// A session without hold time whose other side takes nothing more.
fn deaf() -> Network {
    let never = bgp::PeerConfig { hold_time: HoldTime::NEVER, ..config(65001, 65000, Mode::Active) };
    let mut network = Network::new(never, config(65000, 65001, Mode::Passive), 1);
    network.start();
    network.establish();
    network.deaf = Some(B);
    network
}

#[test]
fn a_peer_that_reads_nothing_costs_bounded_memory() {
    let mut network = deaf();
    for n in 0..40_000_u32 {
        let prefix = ipnet::IpNet::new(std::net::IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 32).unwrap();
        network.input(A, Input::Announce { prefix, attributes: std::sync::Arc::default() });
    }
    network.run_for(secs(60));
    let bytes: usize = network.hosts[A].peer.view().prefixes_announced * 5;
    assert!((50_000..65_536).contains(&bytes), "about a window of 64 KiB: {bytes}");
    assert_eq!(network.hosts[A].peer.next_deadline().map(|due| due > network.now), Some(true), "no busy waiting");
}

#[test]
fn rfc9687_4_3_a_connection_that_takes_nothing_for_eight_minutes_ends() {
    let mut network = deaf();
    network.announce(A, "10.0.0.0/8", &bgp::RouteAttributes::default());
    network.run_for(secs(490));
    expect![[r#"
        0.040 up: AS 65000, router 192.0.2.2
        480.040 down: sent Send Hold Timer Expired: the peer took nothing from the connection in time
    "#]]
    .assert_eq(&network.log(A));
    // Not so one that takes everything, however long it has nothing to take.
    let mut network = deaf();
    network.deaf = None;
    network.announce(A, "10.0.0.0/8", &bgp::RouteAttributes::default());
    network.run_for(secs(3600));
    assert_eq!(network.hosts[A].peer.view().sessions, 1);
    assert_eq!(network.hosts[A].peer.state(), State::Established);
}

#[test]
fn views_say_what_was_agreed() {
    let mut network = pair();
    network.start();
    network.establish();
    expect![[r#"
        PeerView {
            state: Established,
            since: Instant(
                40000,
            ),
            next_attempt: None,
            failed_attempts: 0,
            sessions: 1,
            last_down: None,
            last_notification: None,
            counters: Counters {
                sent: MessageCounts {
                    opens: 1,
                    updates: 0,
                    notifications: 0,
                    keepalives: 1,
                    route_refreshes: 0,
                },
                received: MessageCounts {
                    opens: 1,
                    updates: 0,
                    notifications: 0,
                    keepalives: 1,
                    route_refreshes: 0,
                },
                updates_treated_as_withdraw: 0,
                attributes_discarded: 0,
            },
            prefixes_wanted: 0,
            prefixes_announced: 0,
            prefixes_received: 0,
            session: Some(
                SessionView {
                    local: 192.0.2.1:179,
                    remote: 192.0.2.2:179,
                    local_router_id: RouterId(
                        3221225985,
                    ),
                    remote_router_id: RouterId(
                        3221225986,
                    ),
                    remote_as: Asn(
                        65000,
                    ),
                    hold_time: HoldTime(
                        90,
                    ),
                    keepalive_time: Some(
                        30s,
                    ),
                    keeps_routes: false,
                    capabilities_sent: [
                        Multiprotocol(
                            AfiSafi {
                                afi: 1,
                                safi: 1,
                            },
                        ),
                        RouteRefresh,
                        ExtendedMessage,
                        FourOctetAs(
                            65001,
                        ),
                    ],
                    capabilities_received: [
                        Multiprotocol(
                            AfiSafi {
                                afi: 1,
                                safi: 1,
                            },
                        ),
                        RouteRefresh,
                        ExtendedMessage,
                        FourOctetAs(
                            65000,
                        ),
                    ],
                },
            ),
            families: [
                FamilyView {
                    family: V4,
                    wanted: 0,
                    announced: 0,
                    blocked: None,
                },
                FamilyView {
                    family: V6,
                    wanted: 0,
                    announced: 0,
                    blocked: Some(
                        FamilyNotConfigured,
                    ),
                },
            ],
        }
    "#]]
    .assert_debug_eq(&network.hosts[A].peer.view());
}
