//! Sessions that end and come back while the routes stay: graceful restart (RFC 4724, RFC 8538), and configuration that
//! changes under a session.

use bgp::wire::{AfiSafi, Capability, Notification, Open, RestartFamily};
use bgp::{
    Beginning, ConnectRetry, ConnectionId, GracefulRestart, Input, Mode, Notifications, PeerConfig, Reception,
    RouteAttributes, State, StopReason,
};
use expect_test::expect;
use kit::{Asn, HoldTime, RemoteAs, RouterId};

use crate::network::{A, B, Network, config, secs};

fn restarting(beginning: Beginning, notifications: Notifications) -> PeerConfig {
    PeerConfig {
        reception: Reception::Refuse,
        graceful_restart: Some(GracefulRestart { restart_time: secs(120), beginning, notifications }),
        ..config(65001, 65000, Mode::Active)
    }
}

/// A router that keeps routes of those who restart, and does not restart itself.
fn router() -> PeerConfig {
    PeerConfig { reception: Reception::Refuse, ..config(65000, 65001, Mode::Passive) }
}

fn network(a: PeerConfig, b: PeerConfig) -> Network {
    let mut network = Network::new(a, b, 1);
    network.announce(A, "198.51.100.1/32", &RouteAttributes::default());
    network
}

/// The parts of a session that matter here.
fn captured(network: &mut Network, words: &[&str]) -> String {
    let text = network.captured();
    text.lines().filter(|line| words.iter().any(|word| line.contains(word))).map(|line| format!("{line}\n")).collect()
}

#[test]
fn rfc4724_4_1_the_first_session_says_that_we_restarted_and_later_ones_do_not() {
    let mut network = network(restarting(Beginning::Restarted, Notifications::DropRoutes), router());
    network.start();
    network.establish();
    network.reset_connections();
    network.run_for(secs(5));
    expect![[r#"
        0.020 a > b: OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast, route refresh, extended message, enhanced route refresh, graceful restart 120s restarting IPv4 unicast (kept), 4-byte AS 65001]
        0.544 a > b: OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast, route refresh, extended message, enhanced route refresh, graceful restart 120s IPv4 unicast (kept), 4-byte AS 65001]
    "#]]
    .assert_eq(&captured(&mut network, &["a > b: OPEN"]));
    // Also when the configuration is told once more.
    let again = restarting(Beginning::Restarted, Notifications::DropRoutes);
    network.input(A, Input::Configure(Box::new(again)));
    network.reset_connections();
    network.run_for(secs(5));
    assert!(!captured(&mut network, &["a > b: OPEN"]).contains("restarting"));
}

#[test]
fn rfc4724_4_1_end_of_rib_waits_until_every_route_is_known() {
    let mut network = network(restarting(Beginning::Restarted, Notifications::DropRoutes), router());
    for side in [A, B] {
        network.input(side, Input::Start);
    }
    network.run_for(secs(200));
    assert_eq!(network.hosts[A].peer.state(), State::Established);
    network.captured();
    network.announce(A, "198.51.100.2/32", &RouteAttributes::default());
    network.input(A, Input::Complete);
    network.announce(A, "198.51.100.3/32", &RouteAttributes::default());
    network.run_for(secs(1));
    expect![[r#"
        200.000 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.2/32 198.51.100.3/32
        200.000 a > b: UPDATE (empty)
    "#]]
    .assert_eq(&captured(&mut network, &["UPDATE"]));
    // What is complete stays so: the next session ends its first table by itself.
    network.reset_connections();
    network.run_for(secs(5));
    assert_eq!(captured(&mut network, &["a > b: UPDATE (empty)"]).lines().count(), 1);
}

#[test]
fn rfc4724_4_a_restart_closes_without_a_notification_where_the_peer_keeps_routes() {
    let mut network = network(restarting(Beginning::New, Notifications::DropRoutes), router());
    network.start();
    network.establish();
    assert!(network.hosts[A].peer.view().session.is_some_and(|session| session.keeps_routes));
    network.captured();
    network.input(A, Input::Stop { reason: StopReason::Restart });
    network.run_for(secs(1));
    assert_eq!(captured(&mut network, &["NOTIFICATION"]), "");
    expect![[r#"
        0.040 up: AS 65000, router 192.0.2.2
        0.040 down: closed without a NOTIFICATION, so that the peer keeps our routes
    "#]]
    .assert_eq(&network.log(A));
    expect![[r#"
        0.030 up: AS 65001, router 192.0.2.1
        0.050 down: the peer closed the connection without a NOTIFICATION
    "#]]
    .assert_eq(&network.log(B));
}

#[test]
fn rfc4724_4_all_other_ends_are_told() {
    for reason in [
        StopReason::PeerDeconfigured,
        StopReason::BfdDown,
        StopReason::AdministrativeShutdown { text: "drained".to_owned() },
    ] {
        let mut network = network(restarting(Beginning::New, Notifications::DropRoutes), router());
        network.start();
        network.establish();
        network.captured();
        network.input(A, Input::Stop { reason: reason.clone() });
        let told = captured(&mut network, &["NOTIFICATION"]);
        assert!(told.contains(&Notification::new(reason.code()).to_string()), "{reason:?}: {told}");
    }
}

#[test]
fn rfc4724_4_a_restart_is_told_where_the_peer_drops_routes_anyway() {
    let no_capability = PeerConfig { reception: Reception::Report { prefixes_max: 10 }, ..router() };
    for (ours, theirs) in [
        (restarting(Beginning::New, Notifications::DropRoutes), no_capability),
        (PeerConfig { graceful_restart: None, ..restarting(Beginning::New, Notifications::DropRoutes) }, router()),
    ] {
        let mut network = network(ours, theirs);
        network.start();
        network.establish();
        network.captured();
        network.input(A, Input::Stop { reason: StopReason::Restart });
        expect![[r#"
            0.040 a > b: NOTIFICATION Cease/Administrative Reset
        "#]]
        .assert_eq(&captured(&mut network, &["NOTIFICATION"]));
    }
}

#[test]
fn rfc4724_4_2_a_new_connection_of_a_peer_that_restarts_ends_the_old_one() {
    // The one that listens is the one under test: B, whose peer A was restarted without B having noticed.
    let mut network = network(restarting(Beginning::Restarted, Notifications::DropRoutes), router());
    network.start();
    network.establish();
    network.captured();
    let name = ConnectionId::Accepted(7);
    let (local, remote) = (network.hosts[B].address, network.hosts[A].address);
    network.input(B, Input::Connected { connection: name, local, remote });
    expect![[r#"
        0.030 up: AS 65001, router 192.0.2.1
        0.040 down: the peer was restarted and connected again
    "#]]
    .assert_eq(&network.log(B));
    assert_eq!(network.hosts[B].peer.state(), State::OpenSent);
    let captured = network.captured();
    assert!(captured.contains("b > a: OPEN") && !captured.contains("NOTIFICATION"), "{captured}");
}

#[test]
fn rfc8538_3_a_peer_that_keeps_routes_through_notifications_is_told_a_hard_reset() {
    let both = |config: PeerConfig, ours: u32, theirs: u32, mode| PeerConfig {
        local_as: Asn::new(ours).unwrap(),
        remote_as: RemoteAs::Exactly(Asn::new(theirs).unwrap()),
        mode,
        ..config
    };
    let keeping = || restarting(Beginning::New, Notifications::KeepRoutes);
    for (reason, expected) in [
        (
            StopReason::AdministrativeShutdown { text: "bye".to_owned() },
            expect![[r#"
                0.040 a > b: NOTIFICATION Cease/Hard Reset (Cease/Administrative Shutdown ("bye"))
            "#]],
        ),
        (
            StopReason::BfdDown,
            expect![[r#"
                0.040 a > b: NOTIFICATION Cease/Hard Reset (Cease/BFD Down)
            "#]],
        ),
        (
            StopReason::ConfigurationChange,
            expect![[r#"
                0.040 a > b: NOTIFICATION Cease/Other Configuration Change
            "#]],
        ),
        (
            StopReason::Restart,
            expect![[r#"
                0.040 a > b: NOTIFICATION Cease/Administrative Reset
            "#]],
        ),
    ] {
        let mut network =
            network(both(keeping(), 65001, 65000, Mode::Active), both(keeping(), 65000, 65001, Mode::Passive));
        network.start();
        network.establish();
        network.captured();
        network.input(A, Input::Stop { reason });
        expected.assert_eq(&captured(&mut network, &["NOTIFICATION"]));
    }
}

#[test]
fn rfc8538_2_only_if_both_sides_want_it() {
    // The router's capability has no N bit, so ours says nothing, and RFC 4724 holds.
    let mut network = network(restarting(Beginning::New, Notifications::KeepRoutes), router());
    network.start();
    network.establish();
    assert!(captured(&mut network, &["a > b: OPEN"]).contains("graceful restart 120s notification"));
    network.input(A, Input::Stop { reason: StopReason::PeerDeconfigured });
    let told = captured(&mut network, &["NOTIFICATION"]);
    assert!(told.contains("Cease/Peer De-configured") && !told.contains("Hard Reset"), "{told}");
}

/// A peer that is played by hand: what A says to this OPEN.
fn played(capabilities: Vec<Capability>) -> Network {
    let mut network = network(restarting(Beginning::New, Notifications::DropRoutes), router());
    network.input(A, Input::Start);
    let connection = ConnectionId::Dialed(1);
    let (local, remote) = (network.hosts[A].address, network.hosts[B].address);
    network.input(A, Input::Connected { connection, local, remote });
    let mut bytes = Vec::new();
    Open::new(Asn::new(65000).unwrap(), HoldTime::DEFAULT, RouterId::new(9).unwrap(), capabilities).encode(&mut bytes);
    bgp::wire::keepalive(&mut bytes);
    network.input(A, Input::Received { connection, bytes });
    assert_eq!(network.hosts[A].peer.state(), State::Established);
    network
}

#[test]
fn rfc4724_3_the_last_instance_of_the_capability_counts() {
    let ipv4 = RestartFamily { routes: AfiSafi::IPV4_UNICAST, flags: 0x80 };
    let some = |families| Capability::GracefulRestart { flags: 0, restart_time_secs: 60, families };
    // With families, the peer's next connection would replace this one; in the last instance there are none.
    let mut network = played(vec![some(vec![ipv4]), some(Vec::new())]);
    let view = network.hosts[A].peer.view();
    assert!(view.session.is_some_and(|session| session.keeps_routes));
    network.input(
        A,
        Input::Configure(Box::new(PeerConfig {
            mode: Mode::Both,
            ..restarting(Beginning::New, Notifications::DropRoutes)
        })),
    );
    let (local, remote) = (network.hosts[A].address, network.hosts[B].address);
    let knock = || Input::Connected { connection: ConnectionId::Accepted(1), local, remote };
    network.input(A, knock());
    assert_eq!(network.hosts[A].peer.state(), State::Established);

    let mut network = played(vec![some(Vec::new()), some(vec![ipv4])]);
    network.input(
        A,
        Input::Configure(Box::new(PeerConfig {
            mode: Mode::Both,
            ..restarting(Beginning::New, Notifications::DropRoutes)
        })),
    );
    network.input(A, knock());
    assert_eq!(network.hosts[A].peer.state(), State::OpenSent);
}

#[test]
fn a_session_lasts_when_its_configuration_changes_and_what_an_open_says_holds_from_the_next_one_on() {
    let base = || config(65001, 65000, Mode::Active);
    let mut network = network(base(), config(65000, 65001, Mode::Passive));
    network.start();
    network.establish();
    network.captured();
    let changed = PeerConfig {
        hold_time: HoldTime::from_secs(30).unwrap(),
        keepalive_time: Some(secs(2)),
        connect_retry: ConnectRetry::Every(secs(7)),
        remote_as: RemoteAs::External,
        ..base()
    };
    network.input(A, Input::Configure(Box::new(changed)));
    network.run_for(secs(60));
    let view = network.hosts[A].peer.view();
    let session = view.session.unwrap();
    assert_eq!((view.sessions, session.hold_time, session.keepalive_time), (1, HoldTime::DEFAULT, Some(secs(2))));
    // Every 1.5 to 2 s.
    let keepalives = captured(&mut network, &["a > b: KEEPALIVE"]).lines().count();
    assert!((30..=40).contains(&keepalives), "{keepalives}");
    network.reset_connections();
    network.run_for(secs(20));
    let view = network.hosts[A].peer.view();
    assert_eq!((view.sessions, view.session.unwrap().hold_time.as_secs()), (2, 30));
}

#[test]
fn another_time_between_attempts_holds_for_the_one_that_is_waited_for() {
    let every = |time| PeerConfig { connect_retry: ConnectRetry::Every(time), ..config(1, 2, Mode::Active) };
    let mut network = Network::new(every(secs(60_000)), config(2, 1, Mode::Active), 1);
    network.input(A, Input::Start);
    network.run_for(secs(10));
    assert_eq!(network.hosts[A].peer.state(), State::Active);
    let due = |network: &Network| network.hosts[A].peer.view().next_attempt.map(|at| at.since(kit::Instant::ZERO));
    assert_eq!(due(&network), Some(secs(60_000)));
    network.input(A, Input::Configure(Box::new(every(secs(30)))));
    assert_eq!(due(&network), Some(secs(30)));
    network.input(A, Input::Configure(Box::new(every(secs(5)))));
    assert_eq!(due(&network), Some(secs(10)), "it is overdue");
    network.run_for(secs(1));
    assert_eq!(due(&network), Some(secs(15)));
}
