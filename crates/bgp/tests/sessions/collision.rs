//! Both sides connect at once (RFC 4271 section 6.8).

use bgp::{ConnectionId, Mode, PeerConfig, RouterIdSource, State};
use expect_test::expect;
use kit::{Duration, RouterId};

use crate::network::{A, B, Network, Weather, config, secs};

fn both(local: u32, remote: u32, router_id: u32) -> PeerConfig {
    PeerConfig {
        router_id: RouterIdSource::Configured(RouterId::new(router_id).unwrap()),
        ..config(local, remote, Mode::Both)
    }
}

/// The connections that both sides have left when they start at once.
fn survivors(a: PeerConfig, b: PeerConfig) -> [Vec<ConnectionId>; 2] {
    let mut network = Network::new(a, b, 1);
    network.start();
    network.run_for(secs(2));
    for side in [A, B] {
        let host = &network.hosts[side];
        assert_eq!((host.peer.state(), host.log.len()), (State::Established, 1), "{:?}", host.log);
    }
    [A, B].map(|side| network.hosts[side].open.iter().copied().collect())
}

const A_DIALED: [[ConnectionId; 1]; 2] = [[ConnectionId::Dialed(1)], [ConnectionId::Accepted(1)]];
const B_DIALED: [[ConnectionId; 1]; 2] = [[ConnectionId::Accepted(1)], [ConnectionId::Dialed(1)]];

#[test]
fn rfc4271_6_8_the_connection_of_the_higher_identifier_stays() {
    assert_eq!(survivors(both(1, 2, 20), both(2, 1, 10)), A_DIALED);
    assert_eq!(survivors(both(1, 2, 10), both(2, 1, 20)), B_DIALED);
    // Compared as numbers, not as text.
    assert_eq!(survivors(both(1, 2, 0x0900_0000), both(2, 1, 0x0a00_0000)), B_DIALED);
}

#[test]
fn rfc6286_2_3_with_equal_identifiers_the_connection_of_the_higher_as_stays() {
    assert_eq!(survivors(both(2, 1, 10), both(1, 2, 10)), A_DIALED);
    assert_eq!(survivors(both(1, 2, 10), both(2, 1, 10)), B_DIALED);
}

#[test]
fn rfc4271_6_8_the_exchange() {
    let mut network = Network::new(both(1, 2, 20), both(2, 1, 10), 1);
    network.start();
    network.run_for(secs(2));
    expect![[r#"
        0.010 b > a: OPEN AS 2, hold 90s, id 0.0.0.10, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 2]
        0.010 a > b: OPEN AS 1, hold 90s, id 0.0.0.20, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 1]
        0.020 a > b: OPEN AS 1, hold 90s, id 0.0.0.20, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 1]
        0.020 a > b: KEEPALIVE
        0.020 b > a: OPEN AS 2, hold 90s, id 0.0.0.10, capabilities [IPv4 unicast, route refresh, extended message, 4-byte AS 2]
        0.020 b > a: KEEPALIVE
        0.030 b > a: NOTIFICATION Cease/Connection Collision Resolution
        0.030 b > a: KEEPALIVE
        0.030 a > b: NOTIFICATION Cease/Connection Collision Resolution
    "#]]
    .assert_eq(&network.captured());
    expect![[r#"
        0.040 up: AS 2, router 0.0.0.10
    "#]]
    .assert_eq(&network.log(A));
    expect![[r#"
        0.030 up: AS 1, router 0.0.0.20
    "#]]
    .assert_eq(&network.log(B));
}

#[test]
fn rfc4271_6_8_any_order_of_arrival_ends_in_one_session() {
    for (seed, router_id) in (0..500).zip([9, 10, 11].into_iter().cycle()) {
        let mut network = Network::new(both(1, 2, 10), both(2, 1, router_id), seed);
        network.latency_ms = (1, 400);
        network.start();
        network.run_for(secs(30));
        for side in [A, B] {
            let view = network.hosts[side].peer.view();
            assert_eq!(view.state, State::Established, "seed {seed}: {:?}", network.hosts[side].log);
        }
        let [a, b] = [A, B].map(|side| network.hosts[side].peer.view().session.unwrap());
        assert_eq!((a.local_router_id, a.remote_router_id), (b.remote_router_id, b.local_router_id), "seed {seed}");
        // One connection, one session: what one side sends reaches the other.
        network.announce(A, "10.0.0.0/8", &bgp::RouteAttributes::default());
        network.announce(B, "11.0.0.0/8", &bgp::RouteAttributes::default());
        network.run_for(secs(1));
        assert_eq!((network.hosts[A].table.len(), network.hosts[B].table.len()), (1, 1), "seed {seed}");
    }
}

#[test]
fn rfc4271_6_8_an_established_session_is_not_disturbed_by_a_new_connection() {
    let mut network = Network::new(both(1, 2, 10), both(2, 1, 20), 1);
    network.start();
    network.run_for(secs(10));
    let late = ConnectionId::Accepted(99);
    let [local, remote] = [network.hosts[A].address, network.hosts[B].address];
    network.captured();
    network.input(A, bgp::Input::Connected { connection: late, local, remote });
    expect![[r#"
        10.000 a > b: NOTIFICATION Cease/Connection Collision Resolution
    "#]]
    .assert_eq(&network.captured());
    network.run_for(Duration::from_millis(100));
    assert_eq!((network.hosts[A].peer.state(), network.hosts[A].log.len()), (State::Established, 1));
}

#[test]
fn a_connection_that_never_says_anything_does_not_keep_us_from_dialing() {
    let mut network = Network::new(both(1, 2, 10), config(2, 1, Mode::Passive), 1);
    let [local, remote] = [network.hosts[A].address, network.hosts[B].address];
    network.weather = Weather::Cut;
    network.start();
    network.run_for(Duration::from_millis(10_100));
    // The first attempt has failed; before the second, something connects and is silent.
    network.input(A, bgp::Input::Connected { connection: ConnectionId::Accepted(99), local, remote });
    network.weather = Weather::Fair;
    network.run_for(secs(2));
    assert_eq!(network.hosts[A].peer.state(), State::Established, "{}", network.log(A));
}
