//! Which routes go to which peer: contract 6.1 to 6.3, situation by situation.

use crate::scenario::{Scenario, play};
use expect_test::{Expect, expect};
use kit::Duration;
use speaker::{DrainOptions, Options};

const TWO_PEERS: &str = "
    node n1 zone=a
    node n2 zone=b
    pool p 10.0.0.0/24 fc00::/120
    bgp p all
    peer r1 192.0.2.1
    peer r2 192.0.2.2
    configure
    synced
";

fn check(script: &str, expected: Expect) {
    expected.assert_eq(&play(&format!("{TWO_PEERS}{script}")));
}

#[test]
fn a_service_with_endpoints_is_a_route_to_every_peer() {
    check(
        "svc web 10.0.0.1
         eps web n2:ready
         eps web n2:notready
         why web",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n2:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > eps web n2:notready
              withdrawn default/web by bgp with [10.0.0.1]: no backend can take traffic
              no route 10.0.0.1/32 to r1
              no route 10.0.0.1/32 to r2
            web layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web bgp Endpoints: no backend can take traffic (noEndpoints)
        "#]],
    );
}

#[test]
fn policy_local_needs_an_endpoint_here() {
    check(
        "svc web 10.0.0.1 local
         eps web n2:ready
         why web
         eps web n2:ready n1:terminating",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            web layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web bgp LocalEndpoints: no backend on this node can take traffic (noLocalEndpoints)
            > eps web n2:ready n1:terminating
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
        "#]],
    );
}

#[test]
fn a_session_carries_its_own_family_unless_dual() {
    check(
        "svc web 10.0.0.1,fc00::1
         eps web n1:ready
         peer r6 2001:db8::1
         peer r2 192.0.2.2 dual
         configure
         svc six fc00::2
         eps six n1:ready
         forget peer r6
         forget peer r2
         configure
         why six",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1, fc00::1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > configure
              session with r2 at 192.0.2.2 begins anew: dualStackAddressFamily
              session with r6 at 2001:db8::1
              route 10.0.0.1/32 to r2
              route fc00::1/128 to r2
              route fc00::1/128 to r6
              r2 has all
              r6 has all
            > eps six n1:ready
              announced default/six by bgp with [fc00::2] of p
              event Normal nodeAssigned on Service default/six: announcing from node "n1" with protocol "bgp"
              route fc00::2/128 to r2
              route fc00::2/128 to r6
            > configure
              no session with r2
              no session with r6
              withdrawn default/six by bgp with [fc00::2]: none of its peers has a session on this node
            six layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            six bgp Peer: none of its peers has a session on this node (noPeer)
        "#]],
    );
}

#[test]
fn aggregates_merge_services_and_attributes() {
    check(
        "bgp p all length=24 communities=65000:1 pref=50
         bgp p more length=24 communities=65000:2 pref=50 peers=r1
         configure
         svc web 10.0.0.1
         eps web n1:ready
         svc db 10.0.0.2
         eps db n1:ready
         delete svc web
         bgp p all length=24 communities=65000:3 pref=60 peers=r2
         configure
         delete svc db",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.0/24 to r1 pref 50 communities {65000:1, 65000:2}
              route 10.0.0.0/24 to r2 pref 50 communities {65000:1}
            > eps db n1:ready
              announced default/db by bgp with [10.0.0.2] of p
              event Normal nodeAssigned on Service default/db: announcing from node "n1" with protocol "bgp"
            > delete svc web
              withdrawn default/web by bgp with [10.0.0.1]: it is gone
            > configure
              route 10.0.0.0/24 to r1 pref 50 communities {65000:2}
              route 10.0.0.0/24 to r2 pref 60 communities {65000:3}
            > delete svc db
              withdrawn default/db by bgp with [10.0.0.2]: it is gone
              no route 10.0.0.0/24 to r1
              no route 10.0.0.0/24 to r2
        "#]],
    );
}

#[test]
fn peers_follow_this_nodes_labels() {
    check(
        "svc web 10.0.0.1
         eps web n1:ready
         peer r2 192.0.2.2 nodes=zone=b
         configure
         node n1 zone=b
         node n1 zone=b exclude
         node n1 zone=b !network
         why web",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > configure
              no session with r2
            > node n1 zone=b
              session with r2 at 192.0.2.2
              route 10.0.0.1/32 to r2
              r2 has all
            > node n1 zone=b exclude
              withdrawn default/web by bgp with [10.0.0.1]: the node is labelled to be excluded from load balancers
              no route 10.0.0.1/32 to r1
              no route 10.0.0.1/32 to r2
            web layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web bgp NodeNetwork: the node's network is unavailable (nodeNetworkUnavailable)
        "#]],
    );
}

#[test]
fn advertisements_name_peers_and_nodes() {
    check(
        "bgp p all peers=r2,unknown
         configure
         svc web 10.0.0.1
         eps web n1:ready
         bgp p all peers=unknown
         configure
         why web
         bgp p all nodes=zone=b
         configure
         why web",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r2
            > configure
              withdrawn default/web by bgp with [10.0.0.1]: none of its peers has a session on this node
              no route 10.0.0.1/32 to r2
            web layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web bgp Peer: none of its peers has a session on this node (noPeer)
            web layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web bgp NodeSelected: no advertisement for the Service selects this node (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn clashing_local_preferences_announce_nothing() {
    check(
        "bgp p all services=app=web pref=100
         bgp p more services=tier=front pref=200
         configure
         svc web 10.0.0.1 app=web
         eps web n1:ready
         svc web 10.0.0.1 app=web tier=front
         why web
         bgp p more services=tier=front pref=200 peers=r1
         bgp p all services=app=web pref=100 peers=r2
         configure",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1 pref 100
              route 10.0.0.1/32 to r2 pref 100
            > svc web 10.0.0.1 app=web tier=front
              withdrawn default/web by bgp with [10.0.0.1]: advertisements "all" and "more" want different localPref for the same route
              no route 10.0.0.1/32 to r1
              no route 10.0.0.1/32 to r2
            web layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web bgp LocalPreference: advertisements "all" and "more" want different localPref for the same route (conflictingAdvertisements)
            > configure
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1 pref 200
              route 10.0.0.1/32 to r2 pref 100
        "#]],
    );
}

#[test]
fn a_changed_peer_is_a_new_session_and_gets_everything() {
    check(
        "svc web 10.0.0.1
         eps web n1:ready
         peer r1 192.0.2.9
         configure",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > configure
              session with r1 at 192.0.2.9 begins anew: peerAddress
              route 10.0.0.1/32 to r1
              r1 has all
        "#]],
    );
}

#[test]
fn a_change_that_needs_no_new_session_keeps_it() {
    check(
        "svc web 10.0.0.1,fc00::1
         eps web n1:ready
         peer r1 192.0.2.1 hold=9
         configure
         peer r1 192.0.2.1 hold=9 nodes=zone=a
         configure
         peer r1 192.0.2.1 dual
         configure
         peer r1 192.0.2.1
         configure",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1, fc00::1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > configure
              session with r1 goes on: holdTime (soft)
            > configure
              session with r1 goes on: nodeSelectors (nothing)
            > configure
              session with r1 at 192.0.2.1 begins anew: dualStackAddressFamily holdTime nodeSelectors
              route 10.0.0.1/32 to r1
              route fc00::1/128 to r1
              r1 has all
            > configure
              session with r1 goes on: dualStackAddressFamily (soft)
              no route fc00::1/128 to r1
        "#]],
    );
}

#[test]
fn a_renamed_peer_keeps_its_session_and_gets_what_advertisements_to_its_new_name_say() {
    check(
        "bgp p all
         bgp p more peers=r9 communities=1:1
         configure
         svc web 10.0.0.1
         eps web n1:ready
         forget peer r1
         peer r9 192.0.2.1
         configure
         forget peer r2
         peer r8 192.0.2.2 port=1179
         configure",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > configure
              session with r1 goes on, now r9: name (nothing)
              route 10.0.0.1/32 to r9 communities {1:1}
            > configure
              no session with r2
              session with r8 at 192.0.2.2
              route 10.0.0.1/32 to r8
              r8 has all
        "#]],
    );
}

#[test]
fn preferences_are_merged_to_the_most_preferred() {
    check(
        "bgp p all services=app=web med=30 prepend=3 extended=rt:1:1
         bgp p more services=app=web med=20 prepend=5 extended=rt:2:2
         configure
         svc web 10.0.0.1 app=web
         eps web n1:ready
         bgp p more services=app=web
         configure",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1 med 20 prepend 3 extended {rt:1:1, rt:2:2}
              route 10.0.0.1/32 to r2 med 20 prepend 3 extended {rt:1:1, rt:2:2}
            > configure
              route 10.0.0.1/32 to r1 med 30 extended {rt:1:1}
              route 10.0.0.1/32 to r2 med 30 extended {rt:1:1}
        "#]],
    );
}

fn drained(script: &str, expected: Expect) {
    let drain = DrainOptions { time: Duration::from_secs(10), taints: ["maintenance".to_owned()].into() };
    let mut scenario = Scenario::new(Options { node: "n1".into(), drain, ..Options::default() });
    let begin = "svc web 10.0.0.1\neps web n1:ready\n";
    scenario.play(&format!("{TWO_PEERS}{begin}"));
    expected.assert_eq(&scenario.play(script));
}

#[test]
fn rfc8326_4_2_routes_of_a_drained_node_are_the_last_choice_before_they_are_withdrawn() {
    drained(
        "node n1 zone=a taint:other
         node n1 zone=a taint:maintenance
         svc db 10.0.0.2
         eps db n1:ready
         wait 9
         wait 1
         why web
         node n1 zone=a",
        expect![[r#"
            > node n1 zone=a taint:maintenance
              route 10.0.0.1/32 to r1 pref 0 med 4294967295 communities {65535:0}
              route 10.0.0.1/32 to r2 pref 0 med 4294967295 communities {65535:0}
            > eps db n1:ready
              announced default/db by bgp with [10.0.0.2] of p
              event Normal nodeAssigned on Service default/db: announcing from node "n1" with protocol "bgp"
              route 10.0.0.2/32 to r1 pref 0 med 4294967295 communities {65535:0}
              route 10.0.0.2/32 to r2 pref 0 med 4294967295 communities {65535:0}
            > wait 1
              withdrawn default/db by bgp with [10.0.0.2]: the node is drained: it has the taint maintenance
              withdrawn default/web by bgp with [10.0.0.1]: the node is drained: it has the taint maintenance
              no route 10.0.0.1/32 to r1
              no route 10.0.0.1/32 to r2
              no route 10.0.0.2/32 to r1
              no route 10.0.0.2/32 to r2
            web layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web bgp NodeLabel: the node is drained: it has the taint maintenance (nodeDrained)
            > node n1 zone=a
              announced default/db by bgp with [10.0.0.2] of p
              event Normal nodeAssigned on Service default/db: announcing from node "n1" with protocol "bgp"
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
              route 10.0.0.2/32 to r1
              route 10.0.0.2/32 to r2
        "#]],
    );
}

#[test]
fn an_excluded_node_leaves_in_the_same_way_and_can_come_back_meanwhile() {
    drained(
        "node n1 zone=a exclude
         wait 5
         node n1 zone=a
         wait 100
         node n1 zone=a exclude
         node n1 zone=a exclude !network
         wait 100",
        expect![[r"
            > node n1 zone=a exclude
              route 10.0.0.1/32 to r1 pref 0 med 4294967295 communities {65535:0}
              route 10.0.0.1/32 to r2 pref 0 med 4294967295 communities {65535:0}
            > node n1 zone=a
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > node n1 zone=a exclude
              route 10.0.0.1/32 to r1 pref 0 med 4294967295 communities {65535:0}
              route 10.0.0.1/32 to r2 pref 0 med 4294967295 communities {65535:0}
            > node n1 zone=a exclude !network
              withdrawn default/web by bgp with [10.0.0.1]: the node's network is unavailable
              no route 10.0.0.1/32 to r1
              no route 10.0.0.1/32 to r2
        "]],
    );
}

#[test]
fn a_node_that_is_drained_from_the_begin_announces_nothing() {
    let drain = DrainOptions { time: Duration::from_secs(10), taints: ["maintenance".to_owned()].into() };
    let mut scenario = Scenario::new(Options { node: "n1".into(), drain, ..Options::default() });
    let script = "svc web 10.0.0.1\neps web n1:ready\nnode n1 taint:maintenance\nwhy web";
    let begin = TWO_PEERS.replace("synced", "");
    expect![[r#"
        web: nothing decided
        > synced
          session with r1 at 192.0.2.1
          session with r2 at 192.0.2.2
          r1 has all
          r2 has all
          settled
        web layer2 Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        web bgp NodeLabel: the node is drained: it has the taint maintenance (nodeDrained)
    "#]]
    .assert_eq(&scenario.play(&format!("{begin}{script}\nsynced\nwait 20\nwhy web")));
}

#[test]
fn rfc8326_4_2_a_speaker_that_ends_leaves_the_peers_that_do_not_keep_its_routes() {
    drained(
        "leave r1
         svc db 10.0.0.2
         eps db n1:ready
         wait 10
         svc late 10.0.0.3
         eps late n1:ready",
        expect![[r#"
            > leave r1
              route 10.0.0.1/32 to r2 pref 0 med 4294967295 communities {65535:0}
            > eps db n1:ready
              announced default/db by bgp with [10.0.0.2] of p
              event Normal nodeAssigned on Service default/db: announcing from node "n1" with protocol "bgp"
              route 10.0.0.2/32 to r1
              route 10.0.0.2/32 to r2 pref 0 med 4294967295 communities {65535:0}
            > wait 10
              no route 10.0.0.1/32 to r2
              no route 10.0.0.2/32 to r2
              left
            > eps late n1:ready
              announced default/late by bgp with [10.0.0.3] of p
              event Normal nodeAssigned on Service default/late: announcing from node "n1" with protocol "bgp"
              route 10.0.0.3/32 to r1
        "#]],
    );
}

#[test]
fn a_speaker_without_a_time_to_leave_ends_at_once() {
    check(
        "leave",
        expect![[r"
        > synced
          session with r1 at 192.0.2.1
          session with r2 at 192.0.2.2
          r1 has all
          r2 has all
          settled
        > leave
          left
    "]],
    );
    let mut scenario = Scenario::new(Options { node: "n1".into(), ..Options::default() });
    assert_eq!(scenario.play("leave"), "> leave\n  left\n", "before anything was known");
}

#[test]
fn services_sharing_an_address_are_one_route() {
    check(
        "svc web 10.0.0.1
         eps web n1:ready
         svc dns 10.0.0.1
         eps dns n1:ready
         delete svc web
         delete svc dns",
        expect![[r#"
            > synced
              session with r1 at 192.0.2.1
              session with r2 at 192.0.2.2
              r1 has all
              r2 has all
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > eps dns n1:ready
              announced default/dns by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/dns: announcing from node "n1" with protocol "bgp"
            > delete svc web
              withdrawn default/web by bgp with [10.0.0.1]: it is gone
            > delete svc dns
              withdrawn default/dns by bgp with [10.0.0.1]: it is gone
              no route 10.0.0.1/32 to r1
              no route 10.0.0.1/32 to r2
        "#]],
    );
}
