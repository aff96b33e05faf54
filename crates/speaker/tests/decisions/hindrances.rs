//! A node that loses its carrier, its address on the network or its way out stops being the first choice, and so others
//! see it (contract 12.2 R9). For 10.0.0.1 the order is n2, n3, n1; for 10.0.0.4 it is n1, n3, n2.

use std::collections::BTreeSet;
use std::net::IpAddr;

use expect_test::{Expect, expect};
use kit::Rng;
use speaker::{Options, Rank};

use crate::scenario::{Scenario, play};

const START: &str = "
    node n1
    node n2
    node n3
    pool p 10.0.0.0/24 fc00::/120
    l2 p all
    gateway 4 eth0
    link eth0 192.0.2.0/24
    link eth1 10.0.0.0/24 fc00::/64
    configure
    members n1=ok n2=ok n3=ok
    svc web 10.0.0.1
    eps web n2:ready
    svc own 10.0.0.4
    eps own n2:ready
    synced
";

fn check(script: &str, expected: Expect) {
    expected.assert_eq(&play(&format!("{START}{script}")));
}

#[test]
fn r9_a_loss_that_lasts_counts_and_what_is_back_counts_after_a_while() {
    check(
        "link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 299ms
         wait 1ms
         why own
         why web
         link eth1 10.0.0.0/24 fc00::/64
         wait 9
         wait 1",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1ms
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            own layer2 Election: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more (nodeHindered)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web layer2 Election: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more (nodeHindered)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > wait 1
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
        "#]],
    );
}

#[test]
fn r9_a_carrier_that_flaps_does_not_flap_the_owner() {
    check(
        "link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 200ms
         link eth1 10.0.0.0/24 fc00::/64
         wait 1
         link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 300ms
         link eth1 10.0.0.0/24 fc00::/64
         wait 9
         link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 1
         link eth1 10.0.0.0/24 fc00::/64
         wait 19
         wait 1
         wait 60
         link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 300ms
         link eth1 10.0.0.0/24 fc00::/64
         wait 39
         wait 1
         wait 600
         link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 300ms
         link eth1 10.0.0.0/24 fc00::/64
         wait 9
         wait 1",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 300ms
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > wait 1
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
            > wait 300ms
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > wait 1
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
            > wait 300ms
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > wait 1
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
        "#]],
    );
}

#[test]
fn r9_an_address_on_the_network_is_missed_if_it_was_there() {
    check(
        "link eth1 fc00::/64
         wait 1
         link eth2 10.0.0.0/24 !carrier
         link eth2 10.0.0.0/24
         wait 10",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > wait 10
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
        "#]],
    );
    // This node was never on the network of the pool: it has lost nothing.
    let elsewhere = START.replace("10.0.0.0/24 fc00::/64", "198.51.100.0/24");
    expect![[r#"
        > synced
          answer for 10.0.0.4 on All
          announced default/own by layer2 with [10.0.0.4] of p
          event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
          watch {"n2", "n3"}
          settled
        own layer2 announced
        own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
    "#]]
    .assert_eq(&play(&format!("{elsewhere} link eth1 198.51.100.0/24 !carrier\n wait 1\n why own")));
}

#[test]
fn r9_a_wider_mask_is_no_loss_and_a_narrower_one_is() {
    // It is missed as the wider one from then on.
    check(
        "link eth1 10.0.0.0/23 fc00::/64
         wait 1
         link eth1 10.0.0.0/23 fc00::/64 !carrier
         wait 1",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/23 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/23 any more
        "#]],
    );
    // It takes a while.
    check(
        "link eth1 fc00::/64
         wait 1
         link eth1 10.0.0.0/16 fc00::/64 !carrier
         wait 1
         link eth1 10.0.0.0/16 fc00::/64
         wait 10",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/16 any more; no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
            > wait 10
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
        "#]],
    );
    // Part of the network is not reached any more, by this mask or another number; until it is back.
    check(
        "link eth1 10.0.0.0/25 fc00::/64
         wait 1
         link eth1 10.1.0.0/24 fc00::/64
         wait 1
         link eth1 10.0.0.0/24 fc00::/64
         wait 10",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network 10.0.0.0/25 any more
            > wait 10
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
        "#]],
    );
    // A network within the other, on a link of its own.
    check(
        "link eth2 10.0.0.0/8
         wait 1
         link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 1",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
        "#]],
    );
}

#[test]
fn r9_what_is_on_the_host_and_no_segment_is_not_missed() {
    check(
        "link eth7 10.0.0.4/32
         link eth8 10.0.0.0/28 noarp
         link eth9 10.0.0.0/25 !up
         wait 1
         link eth7 gone
         link eth8 gone
         link eth9 gone
         wait 1
         why own",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            own layer2 announced
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn r9_every_way_out_is_missed() {
    check(
        "link eth0 192.0.2.0/24 !carrier
         wait 1
         gateway 4 eth1
         wait 10
         gateway 4 none
         wait 1",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: no default route for IPv4 works any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no default route for IPv4 works any more
            > wait 10
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
            > wait 1
              tell the others: no default route for IPv4 works any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no default route for IPv4 works any more
        "#]],
    );
}

#[test]
fn r9_one_way_out_of_several_is_enough() {
    check(
        "gateway 4 eth0 eth1
         link eth0 192.0.2.0/24 !carrier
         wait 1
         gateway 4 eth0
         wait 1
         gateway 4 eth0 eth1
         wait 10
         link eth2 198.51.100.0/24
         link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 1",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: no default route for IPv4 works any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no default route for IPv4 works any more
            > wait 10
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more; no default route for IPv4 works any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
        "#]],
    );
}

#[test]
fn r9_the_interfaces_of_advertisements_count() {
    check(
        "l2 p all interfaces=eth5,eth6
         configure
         wait 1
         why own
         l2 p more interfaces=eth1
         configure
         why own
         wait 10
         link eth1 10.0.0.0/24 fc00::/64 !linklocal
         wait 1
         svc dual 10.0.0.4,fc00::1
         eps dual n2:ready
         why dual
         why own",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > configure
              no answer for 10.0.0.4
              withdrawn default/own by layer2 with [10.0.0.4]: the node has none of the interfaces eth5, eth6
              event Warning announceFailed on Service default/own: failed to announce from node "n1" with protocol "layer2": the node has none of the interfaces eth5, eth6
            > wait 1
              tell the others: IPv4 addresses are answered on no interface of L2Advertisement "all"; IPv6 addresses are answered on no interface of L2Advertisement "all"
            own layer2 Election: others are to announce it, for here IPv4 addresses are answered on no interface of L2Advertisement "all" (nodeHindered)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > configure
              event Warning announceFailed on Service default/own: failed to announce from node "n1" with protocol "layer2": the node has none of the interfaces eth1, eth5, eth6
            own layer2 Interface: the node has none of the interfaces eth1, eth5, eth6 (noSuchInterface)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > wait 1
              tell the others: IPv4 addresses are answered on no interface of L2Advertisement "all"; IPv6 addresses are answered on no interface of L2Advertisement "all"; IPv6 addresses are answered on no interface of L2Advertisement "more"; no interface reaches network fc00::/64 any more
            dual layer2 Election: others are to announce it, for here no interface reaches network fc00::/64 any more (nodeHindered)
            dual bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            own layer2 Interface: the node has none of the interfaces eth1, eth5, eth6 (noSuchInterface)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn r9_only_those_that_say_they_are_able_take_over() {
    check(
        "members n1=ok n2=network:10.0.0.0/24 n3=ok
         why web
         members n1=ok n2=network:10.0.0.0/24 n3
         members n1=ok n2=network:10.0.0.0/24 n3=network:10.0.0.0/24
         members n1=ok n2=network:10.0.0.0/24 n3=out6
         members n1=ok n2=advertisement4:all n3=advertisement4:all
         members n1=ok n2=ok n3=ok",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > members n1=ok n2=network:10.0.0.0/24 n3=ok
              watch {"n3"}
            web layer2 Election: node "n3" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > members n1=ok n2=network:10.0.0.0/24 n3
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > members n1=ok n2=network:10.0.0.0/24 n3=out6
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n3" announces it
              watch {"n3"}
            > members n1=ok n2=advertisement4:all n3=advertisement4:all
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > members n1=ok n2=ok n3=ok
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2", "n3"}
        "#]],
    );
    // Where nobody can take over, nothing moves.
    check(
        "members n1 n2 n3
         link eth1 10.0.0.0/24 !carrier
         wait 1
         why own
         members n1 n2=network:10.0.0.0/24 n3=network:10.0.0.0/24
         why own
         members n1 n2=network:10.0.0.0/24 n3=ok
         why own",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
            own layer2 announced
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            own layer2 announced
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > members n1 n2=network:10.0.0.0/24 n3=ok
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            own layer2 Election: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more (nodeHindered)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

/// Gossip goes over the same link, and whoever is cut off takes all others for dead. They have taken over long ago.
#[test]
fn r9_who_was_cut_off_listens_before_it_announces() {
    check(
        "link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 300ms
         members n1=ok n3=ok
         members n1=ok
         why own
         wait 100
         link eth1 10.0.0.0/24 fc00::/64
         wait 1
         members n1=ok n2=ok n3=ok
         wait 8
         wait 1",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 300ms
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > members n1=ok n3=ok
              watch {"n3"}
            > members n1=ok
              watch {}
            own layer2 Election: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more (nodeHindered)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > members n1=ok n2=ok n3=ok
              watch {"n2", "n3"}
            > wait 1
              tell the others: nothing hinders this node
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
        "#]],
    );
    // The others are dead indeed.
    check(
        "link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 300ms
         members n1=ok
         wait 100
         link eth1 10.0.0.0/24 fc00::/64
         wait 2
         wait 1",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 300ms
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > members n1=ok
              watch {}
            > wait 1
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
        "#]],
    );
    // There are no others: nothing to wait for.
    check(
        "delete node n2
         delete node n3
         members n1=ok
         link eth1 10.0.0.0/24 fc00::/64 !carrier
         wait 1
         link eth1 10.0.0.0/24 fc00::/64
         why own",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > delete node n2
              watch {"n3"}
            > delete node n3
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
            own layer2 announced
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
    // Without a way out a node still reaches its segment.
    check(
        "members n1=ok
         gateway 4 none
         wait 1
         why own",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > members n1=ok
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > wait 1
              tell the others: no default route for IPv4 works any more
            own layer2 announced
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn r9_the_only_node_that_is_left_announces() {
    check(
        "delete node n3
         link eth1 10.0.1.0/24
         wait 1
         members n1=ok
         why own
         delete node n2
         node n2
         why own
         node n2 exclude",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > delete node n3
              watch {"n2"}
            > wait 1
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            > members n1=ok
              watch {}
            own layer2 Election: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more (nodeHindered)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > delete node n2
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > node n2
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
            own layer2 Election: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more (nodeHindered)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > node n2 exclude
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
        "#]],
    );
}

#[test]
fn r9_one_that_becomes_able_takes_over_whatever_its_rank() {
    // n1 is the first for 10.0.0.5, and n2 has none of the next two places.
    check(
        "node n4
         node n5
         node n6
         svc own 10.0.0.5
         link eth1 10.0.0.0/24 fc00::/64 !carrier
         members n1 n2 n3 n4 n5 n6
         wait 300ms
         why own
         members n1 n2=ok n3 n4 n5 n6
         why own",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > svc own 10.0.0.5
              no answer for 10.0.0.4
              answer for 10.0.0.5 on All
              withdrawn default/own by layer2 with [10.0.0.4]: its addresses changed
              announced default/own by layer2 with [10.0.0.5] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
            > members n1 n2 n3 n4 n5 n6
              watch {}
            > wait 300ms
              tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
            own layer2 announced
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > members n1 n2=ok n3 n4 n5 n6
              no answer for 10.0.0.5 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.5]: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more
              watch {"n2"}
            own layer2 Election: others are to announce it, for here no interface reaches network 10.0.0.0/24 any more (nodeHindered)
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn without_memberlist_nobody_would_hear_so_nothing_moves() {
    let alone = START.replace("members n1=ok n2=ok n3=ok", "");
    expect![[r#"
        > synced
          answer for 10.0.0.4 on All
          announced default/own by layer2 with [10.0.0.4] of p
          event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
          settled
        > wait 1
          tell the others: no interface reaches network 10.0.0.0/24 any more; no interface reaches network fc00::/64 any more
        own layer2 announced
        own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
    "#]].assert_eq(&play(&format!("{alone} link eth1 10.0.0.0/24 !carrier\n wait 1\n why own")));
}

#[test]
fn what_is_gone_from_the_configuration_is_not_waited_for() {
    check(
        "l2 p more interfaces=eth5
         configure
         wait 1
         pool p 10.0.0.0/24 fc00::/120
         l2 p all
         configure",
        expect![[r#"
            > synced
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
              settled
            > wait 1
              tell the others: IPv4 addresses are answered on no interface of L2Advertisement "more"; IPv6 addresses are answered on no interface of L2Advertisement "more"
            > configure
              tell the others: nothing hinders this node
        "#]],
    );
}

/// Old speakers, ours, and hindered ones: however they are mixed, one of those that know of each other announces.
#[test]
fn r9_all_speakers_old_and_new_agree_on_one_owner() {
    const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
    const HINDERED: &str = "network:10.0.0.0/24";
    let mut substitutes = 0;
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let said: Vec<(&str, &str)> =
            NODES.iter().map(|node| (*node, *rng.pick(&["", "ok", "ok", HINDERED]).unwrap())).collect();
        let members: Vec<String> = said
            .iter()
            .map(|(node, says)| if says.is_empty() { (*node).to_owned() } else { format!("{node}={says}") })
            .collect();
        let address = format!("10.0.0.{}", rng.below(200) + 1);
        let rank = |node: &str| Rank::new(0, node, &address.parse::<IpAddr>().unwrap());
        // A speaker of the Go implementation does not read what others say.
        let first = said.iter().min_by_key(|(node, _)| rank(node)).unwrap();
        let mut owners: BTreeSet<&str> = if first.1.is_empty() { BTreeSet::from([first.0]) } else { BTreeSet::new() };
        for (node, says) in said.iter().filter(|(_, says)| !says.is_empty()) {
            let mut scenario = Scenario::new(Options { node: (*node).to_owned(), ..Options::default() });
            let carrier = if *says == HINDERED { "!carrier" } else { "" };
            let script = format!(
                "pool p 10.0.0.0/24\nl2 p all\nlink eth1 10.0.0.0/24 {carrier}\nlink eth2 192.0.2.0/24\nconfigure
                 wait 1\n{}\nmembers {}\nsvc web {address}\neps web n1:ready\nsynced\nwhy web",
                NODES.map(|node| format!("node {node}")).join("\n"),
                members.join(" "),
            );
            if scenario.play(&script).contains("web layer2 announced") {
                owners.insert(node);
            }
        }
        let able = said.iter().filter(|(_, says)| *says == "ok").map(|(node, _)| *node);
        let expected =
            if first.1 == HINDERED { able.min_by_key(|node| rank(node)).unwrap_or(first.0) } else { first.0 };
        assert_eq!(owners, BTreeSet::from([expected]), "seed {seed}: {members:?} for {address}");
        substitutes += u32::from(expected != first.0);
    }
    assert!(substitutes > 50, "only {substitutes} elections were about something");
}
