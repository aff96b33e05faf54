//! Who answers on the local segment: contract 5.1, 5.3 and 5.7, situation by situation.

use crate::scenario::{self, play};
use expect_test::{Expect, expect};

const THREE_NODES: &str = "
    node n1 zone=a
    node n2 zone=a
    node n3 zone=b
    interfaces eth0 eth1
    pool p 10.0.0.0/24 fc00::/120
    l2 p all
    configure
    synced
";

fn check(script: &str, expected: Expect) {
    expected.assert_eq(&play(&format!("{THREE_NODES}{script}")));
}

#[test]
fn the_elected_node_announces_and_says_so_once() {
    check(
        "svc web 10.0.0.4
         eps web n2:ready
         eps web n2:ready n3:ready
         svc web 10.0.0.4 app=web",
        expect![[r#"
            > synced
              settled
            > eps web n2:ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
        "#]],
    );
}

#[test]
fn another_node_does_not_announce_but_says_who_does() {
    check(
        "svc web 10.0.0.1
         eps web n2:ready
         why web",
        expect![[r#"
            > synced
              settled
            web layer2 Election: node "n2" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn the_owner_moves_when_nodes_come_and_go_and_only_then() {
    check(
        "svc web 10.0.0.1
         eps web n2:ready
         why web
         delete node n3
         node n2 !ready
         node n3
         delete node n3
         node n2",
        expect![[r#"
            > synced
              settled
            web layer2 Election: node "n2" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > node n2 !ready
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > node n3
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n3" announces it
            > delete node n3
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > node n2
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
        "#]],
    );
}

#[test]
fn an_excluded_node_withdraws_and_comes_back() {
    check(
        "svc web 10.0.0.4
         eps web n2:ready
         node n1 exclude
         why web
         node n1 !network
         why web
         node n1",
        expect![[r#"
            > synced
              settled
            > eps web n2:ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > node n1 exclude
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4]: the node is labelled to be excluded from load balancers
            web layer2 NodeLabel: the node is labelled to be excluded from load balancers (nodeLabeledExcludeBalancers)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web layer2 NodeNetwork: the node's network is unavailable (nodeNetworkUnavailable)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > node n1
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
        "#]],
    );
}

#[test]
fn without_a_usable_endpoint_nobody_announces() {
    check(
        "svc web 10.0.0.4
         why web
         eps web n1:notready
         why web
         eps web n1:terminating
         eps web n1:unset
         delete eps web",
        expect![[r#"
            > synced
              settled
            web layer2 Endpoints: no backend can take traffic (noEndpoints)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web layer2 Endpoints: no backend can take traffic (noEndpoints)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > eps web n1:terminating
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > delete eps web
              no answer for 10.0.0.4
              withdrawn default/web by layer2 with [10.0.0.4]: no backend can take traffic
        "#]],
    );
}

#[test]
fn policy_local_elects_among_nodes_with_endpoints() {
    check(
        "svc web 10.0.0.1 local
         eps web n1:ready n2:notready
         eps web n2:ready
         why web",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready n2:notready
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > eps web n2:ready
              no answer for 10.0.0.1
              withdrawn default/web by layer2 with [10.0.0.1]: no backend on this node can take traffic
            web layer2 LocalEndpoints: no backend on this node can take traffic (noLocalEndpoints)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn policy_local_elects_among_what_several_advertisements_select() {
    // One for all nodes and one for n3 alone: wherever the backend is announces; then n1 is not selected any more.
    check(
        "l2 p more nodes=zone=b
         configure
         svc web 10.0.0.1 local
         eps web n1:ready
         eps web n3:ready
         why web
         eps web n1:ready
         l2 p all nodes=zone=b
         configure
         why web",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > eps web n3:ready
              no answer for 10.0.0.1
              withdrawn default/web by layer2 with [10.0.0.1]: no backend on this node can take traffic
            web layer2 LocalEndpoints: no backend on this node can take traffic (noLocalEndpoints)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > eps web n1:ready
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > configure
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: no advertisement for the Service selects this node
            web layer2 NodeSelected: no advertisement for the Service selects this node (noMatchingAdvertisement)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn a_node_that_is_not_ready_answers_where_no_other_can() {
    check(
        "svc web 10.0.0.4
         eps web n2:ready
         node n1 !ready
         why web
         node n2 !ready
         node n3 !ready
         node n3
         node n3 !network
         node n2
         why web",
        expect![[r#"
            > synced
              settled
            > eps web n2:ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > node n1 !ready
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4]: the node is not ready, and others are
            web layer2 NodeReady: the node is not ready, and others are (nodeNotReady)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > node n3 !ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > node n3
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4]: the node is not ready, and others are
            > node n3 !network
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > node n2
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4]: the node is not ready, and others are
            web layer2 NodeReady: the node is not ready, and others are (nodeNotReady)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn node_selectors_filter_and_preferences_order() {
    check(
        "svc web 10.0.0.7
         eps web n1:ready
         why web
         l2 p all nodes=zone=a
         configure
         l2 p all prefer=10:zone=b
         configure
         why web
         l2 p more prefer=20:zone=a
         configure
         l2 p more prefer=20:zone=a nodes=zone=b
         configure
         why web",
        expect![[r#"
            > synced
              settled
            web layer2 Election: node "n3" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > configure
              answer for 10.0.0.7 on All
              announced default/web by layer2 with [10.0.0.7] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > configure
              no answer for 10.0.0.7 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.7]: node "n3" announces it
            web layer2 Election: node "n3" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > configure
              answer for 10.0.0.7 on All
              announced default/web by layer2 with [10.0.0.7] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > configure
              no answer for 10.0.0.7 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.7]: node "n3" announces it
            web layer2 Election: node "n3" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn service_selectors_limit_advertisements() {
    check(
        "svc web 10.0.0.4 app=web
         eps web n1:ready
         l2 p all services=app=db
         configure
         why web
         svc web 10.0.0.4 app=db
         svc web 10.0.0.4 app=db share
         why web",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > configure
              no answer for 10.0.0.4
              withdrawn default/web by layer2 with [10.0.0.4]: the advertisements of pool "p" do not select the Service
            web layer2 Advertisement: the advertisements of pool "p" do not select the Service (noMatchingAdvertisement)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > svc web 10.0.0.4 app=db
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > svc web 10.0.0.4 app=db share
              no answer for 10.0.0.4
              withdrawn default/web by layer2 with [10.0.0.4]: the address may be shared, and an advertisement of it has serviceSelectors
            web layer2 Sharing: the address may be shared, and an advertisement of it has serviceSelectors (sharedIPWithServiceSelector)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn interfaces_are_the_union_of_the_matching_advertisements() {
    check(
        "svc web 10.0.0.4
         eps web n1:ready
         l2 p all interfaces=eth0
         configure
         l2 p more interfaces=eth1,eth9
         configure
         interfaces eth0
         interfaces
         why web
         interfaces eth9
         l2 p more
         configure",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > configure
              answer for 10.0.0.4 on Named({"eth0"})
            > configure
              answer for 10.0.0.4 on Named({"eth0", "eth1", "eth9"})
            > interfaces
              no answer for 10.0.0.4
              withdrawn default/web by layer2 with [10.0.0.4]: the node has none of the interfaces eth0, eth1, eth9
              event Warning announceFailed on Service default/web: failed to announce from node "n1" with protocol "layer2": the node has none of the interfaces eth0, eth1, eth9
            web layer2 Interface: the node has none of the interfaces eth0, eth1, eth9 (noSuchInterface)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > interfaces eth9
              answer for 10.0.0.4 on Named({"eth0", "eth1", "eth9"})
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > configure
              answer for 10.0.0.4 on All
        "#]],
    );
}

#[test]
fn weights_of_several_advertisements_add_up() {
    check(
        "svc web 10.0.0.7
         eps web n1:ready
         l2 p all prefer=60:zone=b
         l2 p more prefer=50:zone=a
         configure
         l2 p third prefer=60:zone=a
         configure
         l2 p third
         configure
         why web",
        expect![[r#"
            > synced
              settled
            > configure
              answer for 10.0.0.7 on All
              announced default/web by layer2 with [10.0.0.7] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > configure
              no answer for 10.0.0.7 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.7]: node "n3" announces it
            web layer2 Election: node "n3" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn a_preference_counts_for_the_services_that_its_advertisement_selects() {
    check(
        "svc web 10.0.0.7 app=web
         eps web n1:ready
         l2 p more prefer=10:zone=a services=app=db
         configure
         why web
         svc web 10.0.0.7 app=db
         svc web 10.0.0.7 app=web",
        expect![[r#"
            > synced
              settled
            web layer2 Election: node "n3" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > svc web 10.0.0.7 app=db
              answer for 10.0.0.7 on All
              announced default/web by layer2 with [10.0.0.7] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > svc web 10.0.0.7 app=web
              no answer for 10.0.0.7 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.7]: node "n3" announces it
        "#]],
    );
}

#[test]
fn a_preferred_node_that_is_not_selected_never_announces() {
    check(
        "svc web 10.0.0.4
         l2 p all nodes=zone=b prefer=50:zone=a
         configure
         eps web n1:ready
         why web
         node n3 zone=b exclude
         why web",
        expect![[r#"
            > synced
              settled
            web layer2 NodeSelected: no advertisement for the Service selects this node (noMatchingAdvertisement)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web layer2 NodeSelected: no advertisement for the Service selects this node (noMatchingAdvertisement)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn advertisements_with_both_selectors_choose_pairs() {
    check(
        "l2 p all services=app=web nodes=zone=a
         l2 p more services=app=db nodes=zone=b
         l2 p third services=app=api nodes=zone=c
         configure
         svc web 10.0.0.4 app=web
         eps web n1:ready
         svc db 10.0.0.5 app=db
         eps db n1:ready
         why db
         svc api 10.0.0.6 app=api
         eps api n1:ready
         why api
         node n1 zone=b
         svc db 10.0.0.4 app=db
         svc web 10.0.0.7 app=web",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            db layer2 NodeSelected: no advertisement for the Service selects this node (noMatchingAdvertisement)
            db bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            api layer2 NodeSelected: no advertisement for the Service selects this node (noMatchingAdvertisement)
            api bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > node n1 zone=b
              answer for 10.0.0.5 on All
              announced default/db by layer2 with [10.0.0.5] of p
              event Normal nodeAssigned on Service default/db: announcing from node "n1" with protocol "layer2"
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4]: no advertisement for the Service selects this node
            > svc db 10.0.0.4 app=db
              answer for 10.0.0.4 on All
              no answer for 10.0.0.5
              withdrawn default/db by layer2 with [10.0.0.5]: its addresses changed
              announced default/db by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/db: announcing from node "n1" with protocol "layer2"
        "#]],
    );
}

#[test]
fn interfaces_come_from_the_advertisements_that_select_the_node() {
    check(
        "svc web 10.0.0.4
         l2 p all interfaces=eth0 nodes=zone=a
         l2 p more interfaces=eth1 nodes=zone=b
         configure
         eps web n1:ready
         node n1 zone=b
         node n1 zone=c",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready
              answer for 10.0.0.4 on Named({"eth0"})
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > node n1 zone=b
              answer for 10.0.0.4 on Named({"eth1"})
            > node n1 zone=c
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4]: no advertisement for the Service selects this node
        "#]],
    );
}

#[test]
fn an_address_is_answered_as_long_as_a_service_holds_it() {
    check(
        "svc web 10.0.0.4
         eps web n1:ready
         svc dns 10.0.0.4
         eps dns n1:ready
         delete svc web
         svc dns 10.0.0.4 type=ClusterIP
         why dns",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > eps dns n1:ready
              announced default/dns by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/dns: announcing from node "n1" with protocol "layer2"
            > delete svc web
              withdrawn default/web by layer2 with [10.0.0.4]: it is gone
            > svc dns 10.0.0.4 type=ClusterIP
              no answer for 10.0.0.4
              withdrawn default/dns by layer2 with [10.0.0.4]: the Service is not of type LoadBalancer
            dns layer2 Type: the Service is not of type LoadBalancer (notLoadBalancer)
            dns bgp Type: the Service is not of type LoadBalancer (notLoadBalancer)
        "#]],
    );
}

#[test]
fn all_addresses_follow_the_first() {
    check(
        "svc web 10.0.0.4,fc00::1
         eps web n1:ready
         svc web 10.0.0.4
         svc web fc00::1
         why web",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready
              answer for 10.0.0.4 on All
              answer for fc00::1 on All
              announced default/web by layer2 with [10.0.0.4, fc00::1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > svc web 10.0.0.4
              no answer for fc00::1
              withdrawn default/web by layer2 with [10.0.0.4, fc00::1]: its addresses changed
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > svc web fc00::1
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4]: node "n2" announces it
            web layer2 Election: node "n2" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn contract_2_3_a_name_alone_is_no_address_and_beside_addresses_it_does_no_harm() {
    check(
        "eps web n1:ready
         svc web name:lb.example
         why web
         svc web 10.0.0.4,name:lb.example
         why web",
        expect![[r#"
            > synced
              settled
            web layer2 Address: the Service's status holds "lb.example", which is no address (invalidIP)
            web bgp Address: the Service's status holds "lb.example", which is no address (invalidIP)
            > svc web 10.0.0.4,name:lb.example
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            web layer2 announced
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn a_bad_or_foreign_address_is_named() {
    check(
        "svc web 10.0.0.4,banana
         eps web n1:ready
         why web
         svc web 192.0.2.1
         why web
         pool q 192.0.2.0/24
         l2 q all
         configure
         svc web 192.0.2.1,10.0.0.4
         why web
         svc web -
         why web
         svc web 10.0.0.4 class=other
         why web",
        expect![[r#"
            > synced
              settled
            web layer2 Address: the Service's status holds "banana", which is no address (invalidIP)
            web bgp Address: the Service's status holds "banana", which is no address (invalidIP)
            web layer2 Pool: no pool holds 192.0.2.1 (ipNotAllowed)
            web bgp Pool: no pool holds 192.0.2.1 (ipNotAllowed)
            web layer2 Pool: the Service's addresses are from different pools (ipNotAllowed)
            web bgp Pool: the Service's addresses are from different pools (ipNotAllowed)
            web layer2 Address: the Service has no address (noIPAllocated)
            web bgp Address: the Service has no address (noIPAllocated)
            web layer2 Class: the Service's loadBalancerClass is served by someone else (otherLoadBalancerClass)
            web bgp Class: the Service's loadBalancerClass is served by someone else (otherLoadBalancerClass)
        "#]],
    );
}

#[test]
fn a_pool_that_goes_withdraws_its_services_alone() {
    check(
        "pool q 192.0.2.0/24
         l2 q all
         configure
         svc web 10.0.0.4
         eps web n1:ready
         svc db 192.0.2.2
         eps db n1:ready
         forget pool q
         configure
         why db",
        expect![[r#"
            > synced
              settled
            > eps web n1:ready
              answer for 10.0.0.4 on All
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > eps db n1:ready
              answer for 192.0.2.2 on All
              announced default/db by layer2 with [192.0.2.2] of q
              event Normal nodeAssigned on Service default/db: announcing from node "n1" with protocol "layer2"
            > configure
              no answer for 192.0.2.2
              withdrawn default/db by layer2 with [192.0.2.2]: no pool holds 192.0.2.2
            db layer2 Pool: no pool holds 192.0.2.2 (ipNotAllowed)
            db bgp Pool: no pool holds 192.0.2.2 (ipNotAllowed)
        "#]],
    );
}

#[test]
fn nothing_is_decided_before_everything_is_known() {
    let script = "
        svc web 10.0.0.4
        eps web n1:ready
        node n1
        synced
        why web
        pool p 10.0.0.0/24
        l2 p all
        configure
    ";
    expect![[r#"
        web: nothing decided
        > configure
          answer for 10.0.0.4 on All
          announced default/web by layer2 with [10.0.0.4] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
          settled
    "#]]
    .assert_eq(&play(script));
}

#[test]
fn a_slice_that_changes_its_service_is_taken_from_the_old_one() {
    let mut scenario = scenario::Scenario::new(speaker::Options { node: "n1".into(), ..Default::default() });
    scenario.play(THREE_NODES);
    scenario.play("svc web 10.0.0.4\nsvc db 10.0.0.5\neps web n1:ready");
    let mut slice = scenario::slice("web", &["n1:ready"]);
    slice.metadata.labels.insert(api::SERVICE_NAME.to_owned(), "db".to_owned());
    let said = scenario.tell(speaker::Input::EndpointSliceApplied(slice));
    expect![[r#"
          answer for 10.0.0.5 on All
          announced default/db by layer2 with [10.0.0.5] of p
          event Normal nodeAssigned on Service default/db: announcing from node "n1" with protocol "layer2"
        show layer2 db []
          no answer for 10.0.0.4
          withdrawn default/web by layer2 with [10.0.0.4]: no backend can take traffic
        show no layer2 web []
        web layer2 Endpoints: no backend can take traffic (noEndpoints)
        web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        db layer2 announced
        db bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
    "#]]
    .assert_eq(&(said + &scenario.play("why web\nwhy db")));
}
