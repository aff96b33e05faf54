//! Which routes go to which peer: contract 6.1 to 6.3, situation by situation.

use crate::scenario::play;
use expect_test::{Expect, expect};

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
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1, fc00::1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > configure
              no session with r2
              session with r2 at 192.0.2.2
              session with r6 at 2001:db8::1
              route 10.0.0.1/32 to r2
              route fc00::1/128 to r2
              route fc00::1/128 to r6
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
              withdrawn default/web by bgp with [10.0.0.1]: it is gone or moved
            > configure
              route 10.0.0.0/24 to r1 pref 50 communities {65000:2}
              route 10.0.0.0/24 to r2 pref 60 communities {65000:3}
            > delete svc db
              withdrawn default/db by bgp with [10.0.0.2]: it is gone or moved
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
              settled
            > eps web n1:ready
              announced default/web by bgp with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
              route 10.0.0.1/32 to r1
              route 10.0.0.1/32 to r2
            > configure
              no session with r1
              session with r1 at 192.0.2.9
              route 10.0.0.1/32 to r1
        "#]],
    );
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
              withdrawn default/web by bgp with [10.0.0.1]: it is gone or moved
            > delete svc dns
              withdrawn default/dns by bgp with [10.0.0.1]: it is gone or moved
              no route 10.0.0.1/32 to r1
              no route 10.0.0.1/32 to r2
        "#]],
    );
}
