//! How routes get to the peer.

use std::net::IpAddr;

use bgp::wire::{AfiSafi, RefreshSubtype, RouteRefresh};
use bgp::{Families, Input, Mode, PeerConfig, Reception, RouteAttributes, RouteState};
use expect_test::expect;
use kit::{Community, Duration, Family};

use crate::network::{A, B, Network, config, secs};

fn attributes(communities: &[&str], local_pref: Option<u32>) -> RouteAttributes {
    let communities = communities.iter().map(|text| text.parse::<Community>().unwrap()).collect();
    RouteAttributes { local_pref, communities, ..RouteAttributes::default() }
}

fn external() -> Network {
    let mut network = Network::new(config(65001, 65000, Mode::Active), config(65000, 65001, Mode::Passive), 1);
    network.start();
    network.establish();
    network.captured();
    network
}

fn both_families(config: PeerConfig) -> PeerConfig {
    PeerConfig { families: Families::Both, ..config }
}

const V6: [&str; 2] = ["2001:db8::1", "2001:db8::2"];

fn over_v6(a: PeerConfig, b: PeerConfig) -> Network {
    Network::over(V6.map(|address| address.parse().unwrap()), a, b, 1)
}

#[test]
fn external_peers_get_our_as_and_no_local_pref() {
    let mut network = external();
    network.announce(A, "198.51.100.1/32", &attributes(&["65001:1", "large:65001:1:2"], Some(200)));
    network.run_for(secs(1));
    expect![[r#"
        0.040 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; COMMUNITIES 65001:1; LARGE_COMMUNITY large:65001:1:2; nlri 198.51.100.1/32
    "#]].assert_eq(&network.captured());
    expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path 65001, communities 65001:1 large:65001:1:2
    "#]]
    .assert_eq(&network.table(B));
}

#[test]
fn rfc4271_5_1_5_internal_peers_get_an_empty_path_and_always_a_local_pref() {
    let mut network = Network::new(config(65000, 65000, Mode::Active), config(65000, 65000, Mode::Passive), 1);
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.announce(A, "198.51.100.2/32", &attributes(&[], Some(0)));
    network.announce(A, "198.51.100.3/32", &attributes(&["65535:65281"], Some(4_294_967_295)));
    network.start();
    network.run_for(secs(1));
    expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path empty, local-pref 100
        198.51.100.2/32 via 192.0.2.1, origin IGP, path empty, local-pref 0
        198.51.100.3/32 via 192.0.2.1, origin IGP, path empty, local-pref 4294967295, communities 65535:65281
    "#]]
    .assert_eq(&network.table(B));
}

#[test]
fn prepend_med_and_extended_communities_go_to_external_peers() {
    let mut network = external();
    let route = RouteAttributes {
        multi_exit_disc: Some(0),
        prepend: 2,
        extended_communities: ["rt:65001:7", "bandwidth:65001:10G"].map(|text| text.parse().unwrap()).into(),
        ..attributes(&["65001:1"], None)
    };
    network.announce(A, "198.51.100.1/32", &route);
    network.run_for(secs(1));
    expect![[r#"
        0.040 a > b: UPDATE ORIGIN IGP; AS_PATH 65001 65001 65001; NEXT_HOP 192.0.2.1; MULTI_EXIT_DISC 0; COMMUNITIES 65001:1; EXTENDED_COMMUNITIES rt:65001:7 bandwidth:65001:10G; nlri 198.51.100.1/32
    "#]].assert_eq(&network.captured());
}

#[test]
fn rfc4271_5_1_2_the_path_to_internal_peers_is_empty_whatever_is_prepended() {
    let mut network = Network::new(config(65000, 65000, Mode::Active), config(65000, 65000, Mode::Passive), 1);
    let route = RouteAttributes { prepend: 3, multi_exit_disc: Some(7), ..RouteAttributes::default() };
    network.announce(A, "198.51.100.1/32", &route);
    network.start();
    network.run_for(secs(1));
    expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path empty, med 7, local-pref 100
    "#]]
    .assert_eq(&network.table(B));
}

#[test]
fn rfc4360_6_communities_that_are_not_transitive_stay_in_our_as() {
    let route = RouteAttributes {
        extended_communities: ["0x4004fde94e9502f9", "soo:65001:1"].map(|text| text.parse().unwrap()).into(),
        ..RouteAttributes::default()
    };
    for (remote_as, expected) in [
        (
            65000,
            expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path 65001, extended soo:65001:1
    "#]],
        ),
        (
            65001,
            expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path empty, local-pref 100, extended soo:65001:1 0x4004fde94e9502f9
    "#]],
        ),
    ] {
        let (a, b) = (config(65001, remote_as, Mode::Active), config(remote_as, 65001, Mode::Passive));
        let mut network = Network::new(a, b, 1);
        network.announce(A, "198.51.100.1/32", &route);
        network.start();
        network.run_for(secs(1));
        expected.assert_eq(&network.table(B));
    }
}

#[test]
fn rfc8326_4_2_a_lowered_route_has_the_community_and_the_least_preference() {
    for (remote_as, expected) in [
        (
            65000,
            expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path 65001, med 4294967295, communities 65001:1 65535:0
    "#]],
        ),
        (
            65001,
            expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path empty, med 4294967295, local-pref 0, communities 65001:1 65535:0
    "#]],
        ),
    ] {
        let (a, b) = (config(65001, remote_as, Mode::Active), config(remote_as, 65001, Mode::Passive));
        let mut network = Network::new(a, b, 1);
        network.announce(A, "198.51.100.1/32", &attributes(&["65001:1"], Some(200)).lowered());
        network.start();
        network.run_for(secs(1));
        expected.assert_eq(&network.table(B));
    }
}

#[test]
fn one_changed_route_is_one_update() {
    let mut network = external();
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.run_for(secs(1));
    network.announce(A, "198.51.100.1/32", &attributes(&["1:1"], None));
    network.run_for(secs(1));
    // The same again is no change.
    network.announce(A, "198.51.100.1/32", &attributes(&["1:1"], None));
    network.run_for(secs(1));
    network.withdraw(A, "198.51.100.1/32");
    network.withdraw(A, "198.51.100.1/32");
    network.withdraw(A, "198.51.100.9/32");
    network.run_for(secs(1));
    expect![[r#"
        0.040 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.1/32
        1.040 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; COMMUNITIES 1:1; nlri 198.51.100.1/32
        3.040 a > b: UPDATE withdraw 198.51.100.1/32;
    "#]]
    .assert_eq(&network.captured());
    assert_eq!(network.hosts[A].peer.view().counters.sent.updates, 3);
}

#[test]
fn rfc4271_9_2_a_change_that_the_peer_cannot_see_is_not_sent() {
    let updates = |mut network: Network, preferences: &[Option<u32>]| {
        network.start();
        network.establish();
        for local_pref in preferences {
            network.announce(A, "198.51.100.1/32", &attributes(&["1:1"], *local_pref));
            network.run_for(secs(1));
            let state = network.hosts[A].peer.route_state(&"198.51.100.1/32".parse().unwrap());
            assert_eq!(state, RouteState::Announced, "{local_pref:?}");
        }
        network.hosts[A].peer.view().counters.sent.updates
    };
    // External peers get no LOCAL_PREF.
    let network = Network::new(config(65001, 65000, Mode::Active), config(65000, 65001, Mode::Passive), 1);
    assert_eq!(updates(network, &[None, Some(150), Some(200), None]), 1);
    // Internal ones get 100 in place of none.
    let network = Network::new(config(65000, 65000, Mode::Active), config(65000, 65000, Mode::Passive), 1);
    assert_eq!(updates(network, &[None, Some(100), Some(200), None]), 3);
}

#[test]
fn changes_that_come_together_go_together() {
    let mut network = external();
    for n in 0..4 {
        network.announce(A, &format!("198.51.100.{n}/32"), &attributes(&[], None));
    }
    network.announce(A, "198.51.100.4/32", &attributes(&["1:1"], None));
    network.announce(A, "198.51.100.5/32", &attributes(&["1:1"], None));
    network.announce(A, "198.51.100.6/32", &attributes(&[], None));
    network.withdraw(A, "198.51.100.6/32");
    network.run_for(secs(1));
    expect![[r#"
        0.040 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.0/32 198.51.100.1/32 198.51.100.2/32 198.51.100.3/32
        0.040 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; COMMUNITIES 1:1; nlri 198.51.100.4/32 198.51.100.5/32
    "#]].assert_eq(&network.captured());
    for n in 0..4 {
        network.withdraw(A, &format!("198.51.100.{n}/32"));
    }
    network.run_for(secs(1));
    expect![[r#"
        1.040 a > b: UPDATE withdraw 198.51.100.0/32 198.51.100.1/32 198.51.100.2/32 198.51.100.3/32;
    "#]]
    .assert_eq(&network.captured());
}

#[test]
fn host_bits_of_a_wanted_prefix_are_ignored() {
    let mut network = external();
    network.announce(A, "198.51.100.77/24", &attributes(&[], None));
    network.run_for(secs(1));
    assert_eq!(network.hosts[A].peer.route_state(&"198.51.100.0/24".parse().unwrap()), RouteState::Announced);
    network.withdraw(A, "198.51.100.1/24");
    network.run_for(secs(1));
    assert_eq!((network.table(B).as_str(), network.hosts[A].peer.view().prefixes_wanted), ("", 0));
}

#[test]
fn a_table_is_packed_and_sent_again_after_the_session_was_lost() {
    let mut network = external();
    for n in 0..5000_u32 {
        let prefix = ipnet::IpNet::new(IpAddr::from((0xc612_0000 + n).to_be_bytes()), 32).unwrap();
        network.input(A, Input::Announce { prefix, attributes: std::sync::Arc::default() });
    }
    network.run_for(secs(1));
    assert_eq!(network.hosts[B].table.len(), 5000);
    let first = network.hosts[A].peer.view().counters.sent.updates;
    assert!(first <= 10, "5000 prefixes of 5 bytes fit in 7 messages, or 10 in parts: {first}");
    network.reset_connections();
    assert_eq!(network.hosts[B].table.len(), 0);
    network.run_for(secs(2));
    assert_eq!(network.hosts[B].table.len(), 5000);
    assert_eq!(network.hosts[A].peer.view().counters.sent.updates, 2 * first);
    assert_eq!(network.hosts[A].peer.view().prefixes_announced, 5000);
}

#[test]
fn routes_can_be_looked_at_in_portions_as_the_peer_has_them() {
    let mut network = external();
    network.announce(A, "198.51.100.1/32", &attributes(&["64512:1"], Some(7)));
    network.run_for(secs(1));
    network.announce(A, "2001:db8::/48", &attributes(&[], None));
    let view = |network: &Network, after: Option<&str>| {
        let after = after.map(|prefix| prefix.parse().unwrap());
        let line = |route: bgp::RouteView| {
            let sent =
                route.sent.map(|sent| format!(" via {}, {}", sent.next_hop, sent.attributes)).unwrap_or_default();
            format!("{} {}{sent}\n", route.prefix, route.state)
        };
        network.hosts[A].peer.routes_after(after.as_ref()).map(line).collect::<String>()
    };
    expect![[r#"
        198.51.100.1/32 announced via 192.0.2.1, origin IGP, path 65001, communities 64512:1
        2001:db8::/48 the session carries the other address family only
    "#]]
    .assert_eq(&view(&network, None));
    expect![[r#"
        2001:db8::/48 the session carries the other address family only
    "#]]
    .assert_eq(&view(&network, Some("198.51.100.1/32")));
    network.reset_connections();
    expect![[r#"
        198.51.100.1/32 the session is not established
        2001:db8::/48 the session is not established
    "#]]
    .assert_eq(&view(&network, None));
}

#[test]
fn what_is_wanted_while_there_is_no_session_is_sent_when_there_is_one() {
    let mut network = external();
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.announce(A, "198.51.100.2/32", &attributes(&[], None));
    network.run_for(secs(1));
    network.reset_connections();
    network.withdraw(A, "198.51.100.1/32");
    network.announce(A, "198.51.100.3/32", &attributes(&[], None));
    let state = |network: &Network, prefix: &str| network.hosts[A].peer.route_state(&prefix.parse().unwrap());
    assert_eq!(state(&network, "198.51.100.1/32"), RouteState::NotWanted);
    assert_eq!(state(&network, "198.51.100.2/32"), RouteState::NoSession);
    network.run_for(secs(2));
    expect![[r#"
        198.51.100.2/32 via 192.0.2.1, origin IGP, path 65001
        198.51.100.3/32 via 192.0.2.1, origin IGP, path 65001
    "#]]
    .assert_eq(&network.table(B));
    assert_eq!(state(&network, "198.51.100.2/32"), RouteState::Announced);
}

#[test]
fn rfc2545_3_ipv6_over_ipv6() {
    let mut network = over_v6(config(65001, 65000, Mode::Active), config(65000, 65001, Mode::Passive));
    network.start();
    network.establish();
    network.captured();
    network.announce(A, "2001:db8:1::/48", &attributes(&["1:1"], None));
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.run_for(secs(1));
    network.withdraw(A, "2001:db8:1::/48");
    network.run_for(secs(1));
    expect![[r#"
        0.040 a > b: UPDATE MP_REACH_NLRI IPv6 unicast next-hop 2001:db8::1: 2001:db8:1::/48; ORIGIN IGP; AS_PATH 65001; COMMUNITIES 1:1;
        1.040 a > b: UPDATE MP_UNREACH_NLRI IPv6 unicast: 2001:db8:1::/48;
    "#]].assert_eq(&network.captured());
    let state = network.hosts[A].peer.route_state(&"198.51.100.1/32".parse().unwrap());
    assert_eq!(state, RouteState::FamilyNotConfigured);
}

#[test]
fn both_families_over_ipv4_with_a_supplied_next_hop() {
    let mut network = Network::new(
        both_families(config(65001, 65000, Mode::Active)),
        both_families(config(65000, 65001, Mode::Passive)),
        1,
    );
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.announce(A, "2001:db8:1::/48", &attributes(&[], None));
    network.start();
    network.establish();
    network.run_for(secs(1));
    let state = |network: &Network| network.hosts[A].peer.route_state(&"2001:db8:1::/48".parse().unwrap());
    assert_eq!(state(&network), RouteState::NoNextHop);
    expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path 65001
    "#]]
    .assert_eq(&network.table(B));
    for address in ["2001:db8::1", "2001:db8::7"] {
        network.input(A, Input::NextHop { family: Family::V6, address: Some(address.parse().unwrap()) });
        network.run_for(secs(1));
        assert_eq!(state(&network), RouteState::Announced);
    }
    expect![[r#"
        198.51.100.1/32 via 192.0.2.1, origin IGP, path 65001
        2001:db8:1::/48 via 2001:db8::7, origin IGP, path 65001
    "#]]
    .assert_eq(&network.table(B));
    network.captured();
    network.input(A, Input::NextHop { family: Family::V6, address: None });
    network.run_for(secs(1));
    expect![[r#"
        3.040 a > b: UPDATE MP_UNREACH_NLRI IPv6 unicast: 2001:db8:1::/48;
    "#]]
    .assert_eq(&network.captured());
    assert_eq!(network.hosts[A].log.len(), 1, "no session was lost");
}

#[test]
fn rfc8950_4_ipv4_over_ipv6_needs_no_ipv4_address() {
    let mut network =
        over_v6(both_families(config(65001, 65000, Mode::Active)), both_families(config(65000, 65001, Mode::Passive)));
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.start();
    network.run_for(secs(1));
    expect![[r#"
        0.010 b > a: OPEN AS 65000, hold 90s, id 0.0.253.232, capabilities [IPv4 unicast, IPv6 unicast, route refresh, extended next hop IPv4 unicast over IPv6, extended message, 4-byte AS 65000]
        0.020 a > b: OPEN AS 65001, hold 90s, id 0.0.253.233, capabilities [IPv4 unicast, IPv6 unicast, route refresh, extended next hop IPv4 unicast over IPv6, extended message, 4-byte AS 65001]
        0.020 a > b: KEEPALIVE
        0.030 b > a: KEEPALIVE
        0.040 a > b: UPDATE MP_REACH_NLRI IPv4 unicast next-hop 2001:db8::1: 198.51.100.1/32; ORIGIN IGP; AS_PATH 65001;
    "#]].assert_eq(&network.captured());
    network.withdraw(A, "198.51.100.1/32");
    network.run_for(secs(1));
    expect![[r#"
        1.000 a > b: UPDATE withdraw 198.51.100.1/32;
    "#]]
    .assert_eq(&network.captured());
}

#[test]
fn rfc2545_3_a_link_local_session_has_its_own_address_as_next_hop() {
    let addresses = ["fe80::1", "fe80::2"].map(|address| address.parse().unwrap());
    let mut network =
        Network::over(addresses, config(65001, 65000, Mode::Active), config(65000, 65001, Mode::Passive), 1);
    network.announce(A, "2001:db8:1::/48", &attributes(&[], None));
    network.start();
    network.run_for(secs(1));
    expect![
        "0.040 a > b: UPDATE MP_REACH_NLRI IPv6 unicast next-hop fe80::1: 2001:db8:1::/48; ORIGIN IGP; AS_PATH 65001;"
    ]
    .assert_eq(network.capture.last().unwrap());
    // A global address on the link makes no difference: the peer may have none of its network.
    network.captured();
    network.input(A, Input::NextHop { family: Family::V6, address: Some("2001:db8::1".parse().unwrap()) });
    network.run_for(secs(1));
    expect![""].assert_eq(&network.captured());
}

#[test]
fn rfc8950_4_over_link_local_addresses_ipv4_goes_that_way_too() {
    let addresses = ["fe80::1", "fe80::2"].map(|address| address.parse().unwrap());
    let mut network = Network::over(
        addresses,
        both_families(config(65001, 65000, Mode::Active)),
        both_families(config(65000, 65001, Mode::Passive)),
        1,
    );
    // Even where the interface has an IPv4 address: the other end of an unnumbered link need not know it.
    network.input(A, Input::NextHop { family: Family::V4, address: Some("192.0.2.1".parse().unwrap()) });
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.start();
    network.run_for(secs(1));
    expect![
        "0.040 a > b: UPDATE MP_REACH_NLRI IPv4 unicast next-hop fe80::1: 198.51.100.1/32; ORIGIN IGP; AS_PATH 65001;"
    ]
    .assert_eq(network.capture.last().unwrap());
    expect![[r#"
        198.51.100.1/32 via fe80::1, origin IGP, path 65001
    "#]]
    .assert_eq(&network.table(B));
}

#[test]
fn a_family_that_the_peer_does_not_have_is_skipped_and_counted() {
    let mut network =
        Network::new(both_families(config(65001, 65000, Mode::Active)), config(65000, 65001, Mode::Passive), 1);
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.announce(A, "2001:db8:1::/48", &attributes(&[], None));
    network.start();
    network.run_for(secs(1));
    expect![[r#"
        [
            FamilyView {
                family: V4,
                wanted: 1,
                announced: 1,
                blocked: None,
            },
            FamilyView {
                family: V6,
                wanted: 1,
                announced: 0,
                blocked: Some(
                    FamilyNotNegotiated,
                ),
            },
        ]
    "#]]
    .assert_debug_eq(&network.hosts[A].peer.view().families);
}

#[test]
fn rfc4724_2_end_of_rib_follows_the_first_table() {
    let speaker =
        |local, remote, mode| PeerConfig { reception: Reception::Refuse, ..both_families(config(local, remote, mode)) };
    let mut network = Network::new(speaker(65001, 65000, Mode::Active), speaker(65000, 65001, Mode::Passive), 1);
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.start();
    network.run_for(secs(1));
    network.announce(A, "198.51.100.2/32", &attributes(&[], None));
    network.run_for(secs(1));
    expect![[r#"
        0.010 b > a: OPEN AS 65000, hold 90s, id 192.0.2.2, capabilities [IPv4 unicast, IPv6 unicast, route refresh, extended message, enhanced route refresh, graceful restart 0s, 4-byte AS 65000]
        0.020 a > b: OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast, IPv6 unicast, route refresh, extended message, enhanced route refresh, graceful restart 0s, 4-byte AS 65001]
        0.020 a > b: KEEPALIVE
        0.030 b > a: KEEPALIVE
        0.030 b > a: UPDATE (empty)
        0.030 b > a: UPDATE MP_UNREACH_NLRI IPv6 unicast;
        0.040 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.1/32
        0.040 a > b: UPDATE (empty)
        0.040 a > b: UPDATE MP_UNREACH_NLRI IPv6 unicast;
        1.000 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.2/32
    "#]].assert_eq(&network.captured());
}

#[test]
fn a_speaker_refuses_all_routes() {
    let speaker = PeerConfig { reception: Reception::Refuse, ..config(65001, 65000, Mode::Active) };
    let mut network = Network::new(speaker, config(65000, 65001, Mode::Passive), 1);
    network.announce(B, "203.0.113.0/24", &attributes(&[], None));
    network.start();
    network.run_for(secs(1));
    let view = network.hosts[A].peer.view();
    assert_eq!((view.counters.received.updates, view.prefixes_received, network.table(A).as_str()), (1, 0, ""));
}

#[test]
fn rfc4271_9_2_a_route_that_does_not_fit_is_not_sent() {
    let mut network = external();
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.announce(A, "198.51.100.2/32", &attributes(&[], None));
    network.run_for(secs(1));
    network.captured();
    let many =
        RouteAttributes { communities: (0..17_000).map(Community::Standard).collect(), ..RouteAttributes::default() };
    network.announce(A, "198.51.100.1/32", &many);
    network.run_for(secs(1));
    expect![[r#"
        1.040 a > b: UPDATE withdraw 198.51.100.1/32;
    "#]]
    .assert_eq(&network.captured());
    let view = network.hosts[A].peer.view();
    assert_eq!((view.prefixes_wanted, view.prefixes_announced), (2, 1));
    assert_eq!(network.hosts[A].peer.route_state(&"198.51.100.1/32".parse().unwrap()), RouteState::TooLarge);
    network.announce(A, "198.51.100.1/32", &attributes(&[], None));
    network.run_for(secs(1));
    assert_eq!(network.hosts[B].table.len(), 2);
}

#[test]
fn rfc2918_4_a_refresh_sends_all_of_the_family_again() {
    let mut network = external();
    for n in 0..3000_u32 {
        let prefix = ipnet::IpNet::new(IpAddr::from((0xc612_0000 + n).to_be_bytes()), 32).unwrap();
        network.input(A, Input::Announce { prefix, attributes: std::sync::Arc::default() });
    }
    network.run_for(secs(1));
    let before = network.hosts[A].peer.view().counters.sent.updates;
    let mut bytes = Vec::new();
    for subtype in [0, 1, 2, 9] {
        RouteRefresh { routes: AfiSafi::IPV4_UNICAST, subtype, body_len: 4 }.encode(&mut bytes);
    }
    RouteRefresh::new(AfiSafi::IPV6_UNICAST, RefreshSubtype::Request).encode(&mut bytes);
    let connection = bgp::ConnectionId::Dialed(1);
    network.input(A, Input::Received { connection, bytes: bytes.clone() });
    network.run_for(secs(1));
    let view = network.hosts[A].peer.view();
    assert_eq!((view.counters.sent.updates, view.prefixes_announced), (2 * before, 3000));
    assert_eq!(view.counters.received.route_refreshes, 5);
    // A peer that never stops asking still gets the whole table.
    for _ in 0..200 {
        network.input(A, Input::Received { connection, bytes: bytes.clone() });
        network.run_for(Duration::from_micros(1));
    }
    network.run_for(secs(1));
    let view = network.hosts[A].peer.view();
    assert_eq!((view.prefixes_announced, network.hosts[B].table.len()), (3000, 3000));
    assert_eq!(network.hosts[A].log.len(), 1, "no session was lost");
}

/// Two speakers that hold no routes of each other: both announce the capabilities for that.
fn refusing() -> Network {
    let speaker = |local, remote, mode| PeerConfig { reception: Reception::Refuse, ..config(local, remote, mode) };
    let mut network = Network::new(speaker(65001, 65000, Mode::Active), speaker(65000, 65001, Mode::Passive), 1);
    for n in 1..4 {
        network.announce(A, &format!("198.51.100.{n}/32"), &attributes(&[], None));
    }
    network
}

fn ask(network: &mut Network, routes: AfiSafi) {
    let mut bytes = Vec::new();
    RouteRefresh::new(routes, RefreshSubtype::Request).encode(&mut bytes);
    network.input(A, Input::Received { connection: bgp::ConnectionId::Dialed(1), bytes });
}

#[test]
fn rfc7313_4_marks_go_before_and_after_all_routes_of_the_family() {
    let mut network = refusing();
    network.start();
    network.run_for(secs(1));
    network.captured();
    ask(&mut network, AfiSafi::IPV4_UNICAST);
    network.run_for(secs(1));
    expect![[r#"
        1.000 a > b: ROUTE-REFRESH IPv4 unicast, begin
        1.000 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.1/32 198.51.100.2/32 198.51.100.3/32
        1.000 a > b: ROUTE-REFRESH IPv4 unicast, end
    "#]].assert_eq(&network.captured());
    assert_eq!(network.hosts[A].peer.view().counters.sent.route_refreshes, 2);
    // A request while one is answered is answered after it; more of them are one.
    for _ in 0..5 {
        ask(&mut network, AfiSafi::IPV4_UNICAST);
    }
    network.announce(A, "198.51.100.9/32", &attributes(&[], None));
    network.run_for(secs(1));
    expect![[r#"
        2.000 a > b: ROUTE-REFRESH IPv4 unicast, begin
        2.000 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.1/32 198.51.100.2/32 198.51.100.3/32 198.51.100.9/32
        2.000 a > b: ROUTE-REFRESH IPv4 unicast, end
    "#]].assert_eq(&network.captured());
    // A family that is not ours is nothing to be marked.
    ask(&mut network, AfiSafi::IPV6_UNICAST);
    network.run_for(secs(1));
    assert_eq!(network.captured(), "");
}

#[test]
fn rfc7313_4_no_mark_goes_before_end_of_rib() {
    let mut network = refusing();
    for side in [A, B] {
        network.input(side, Input::Start);
    }
    network.run_for(secs(1));
    network.captured();
    ask(&mut network, AfiSafi::IPV4_UNICAST);
    network.run_for(secs(1));
    assert_eq!(network.captured(), "");
    network.input(A, Input::Complete);
    network.run_for(secs(1));
    expect![[r#"
        2.000 a > b: UPDATE (empty)
        2.000 a > b: ROUTE-REFRESH IPv4 unicast, begin
        2.000 a > b: UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 198.51.100.1/32 198.51.100.2/32 198.51.100.3/32
        2.000 a > b: ROUTE-REFRESH IPv4 unicast, end
    "#]].assert_eq(&network.captured());
}

#[test]
fn rfc7313_4_marks_of_the_peer_are_for_those_who_hold_its_routes() {
    let mut network = refusing();
    network.start();
    network.run_for(secs(1));
    network.captured();
    for subtype in [1, 2, 3, 255] {
        let mut bytes = Vec::new();
        RouteRefresh { routes: AfiSafi::IPV4_UNICAST, subtype, body_len: 4 }.encode(&mut bytes);
        network.input(A, Input::Received { connection: bgp::ConnectionId::Dialed(1), bytes });
    }
    network.run_for(secs(1));
    assert_eq!((network.captured().as_str(), network.hosts[A].log.len()), ("", 1));
}

#[test]
fn rfc8654_4_and_5_a_large_message_is_for_a_route_that_fits_in_no_other() {
    let mut network = external();
    let large = RouteAttributes { communities: (0..1100).map(Community::Standard).collect(), ..Default::default() };
    for n in 1..3 {
        network.announce(A, &format!("198.51.100.{n}/32"), &large);
    }
    network.run_for(secs(1));
    assert_eq!(network.hosts[B].table.len(), 2);
    assert_eq!(network.hosts[A].peer.view().counters.sent.updates, 2, "each for itself");
    assert_eq!(network.hosts[B].table.first_key_value().unwrap().1.1.communities.len(), 1100);
    // Small ones stay small, however many there are.
    network.captured();
    for n in 0..5000_u32 {
        let prefix = ipnet::IpNet::new(IpAddr::from((0xc612_0000 + n).to_be_bytes()), 32).unwrap();
        network.input(A, Input::Announce { prefix, attributes: std::sync::Arc::default() });
    }
    network.run_for(secs(1));
    assert_eq!(network.hosts[B].table.len(), 5002);
    assert!(network.hosts[A].peer.view().counters.sent.updates >= 2 + 7);
}

#[test]
fn rfc4271_9_1_2_routes_through_our_own_as_or_to_ourselves_are_not_used() {
    let mut network = external();
    network.announce(B, "203.0.113.0/24", &attributes(&[], None));
    network.run_for(secs(1));
    assert_eq!(network.hosts[A].table.len(), 1);
    let connection = bgp::ConnectionId::Dialed(1);
    let send = |network: &mut Network, path: &[u32], next_hop: [u8; 4]| {
        let path = bgp::wire::AsPath::sequence(path.iter().filter_map(|asn| kit::Asn::new(*asn)));
        let path = bgp::wire::PathAttributes { as_path: path, ..Default::default() };
        let next_hop = bgp::wire::NextHop::V4(next_hop.into());
        let mut bytes = Vec::new();
        bgp::wire::Announcer::new(
            Family::V4,
            next_hop,
            &path,
            bgp::wire::AsnSize::Four,
            bgp::wire::MessageLimit::Standard,
        )
        .announce(&["203.0.113.0/24".parse().unwrap()], &mut bytes);
        network.input(A, Input::Received { connection, bytes });
        network.hosts[A].table.len()
    };
    assert_eq!(send(&mut network, &[65000, 65001], [192, 0, 2, 2]), 0, "a loop replaces the route");
    assert_eq!(send(&mut network, &[65000], [192, 0, 2, 2]), 1);
    assert_eq!(send(&mut network, &[65000], [192, 0, 2, 1]), 0, "a route to ourselves replaces the route");
    assert_eq!(send(&mut network, &[65000, 7], [192, 0, 2, 9]), 1);
    assert_eq!(network.hosts[A].peer.view().prefixes_received, 1);
}
