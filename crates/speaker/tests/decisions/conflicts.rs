//! Two machines answer for one address. For 10.0.0.1 the order of the election is n2, n3, n1; for 10.0.0.4 it is n1, n3, n2.

use crate::scenario::play;
use expect_test::{Expect, expect};

const START: &str = "
    node n1 ip:10.9.0.1
    node n2 ip:10.9.0.2 ip:fd00::2
    node n3
    pool p 10.0.0.0/24 fc00::/120
    l2 p all
    members n1
    configure
    svc web 10.0.0.1
    eps web n2:ready
    svc own 10.0.0.4
    eps own n2:ready
    synced
";

/// What is said after the start.
fn check(script: &str, expected: Expect) {
    let (start, all) = (play(START), play(&format!("{START}{script}")));
    expected.assert_eq(all.strip_prefix(&start).unwrap());
}

#[test]
fn the_addresses_of_the_other_nodes_are_told_when_they_change() {
    expect![[r#"
        > synced
          answer for 10.0.0.4 on All
          announced default/own by layer2 with [10.0.0.4] of p
          event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
          answer for 10.0.0.1 on All
          announced default/web by layer2 with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
          fellows {10.9.0.2, fd00::2}
          settled
    "#]]
    .assert_eq(&play(START));
    check(
        "node n2 ip:10.9.0.2 ip:fd00::2 zone=a
         node n2 ip:10.9.0.7
         node n3 ip:10.9.0.3
         delete node n2",
        expect![[r"
            > node n2 ip:10.9.0.7
              fellows {10.9.0.7}
            > node n3 ip:10.9.0.3
              fellows {10.9.0.3, 10.9.0.7}
            > delete node n2
              fellows {10.9.0.3}
        "]],
    );
}

#[test]
fn a_stranger_is_an_event_once_a_minute_and_changes_nothing() {
    check(
        "conflict 10.0.0.4 on eth0 by 02:00:00:00:00:aa
         conflict 10.0.0.4 on eth0 by 02:00:00:00:00:aa
         wait 59
         conflict 10.0.0.4 on eth0 by 02:00:00:00:00:aa
         wait 1
         conflict 10.0.0.4 on eth0 by 02:00:00:00:00:aa
         conflict 10.0.0.9 on eth0 by 02:00:00:00:00:aa",
        expect![[r#"
            > conflict 10.0.0.4 on eth0 by 02:00:00:00:00:aa
              event Warning addressConflict on Service default/own: another machine (02:00:00:00:00:aa) answers for 10.0.0.4 as well, seen on interface "eth0"; hint: find that machine and give it another address, or take this one out of the IPAddressPool
            > conflict 10.0.0.4 on eth0 by 02:00:00:00:00:aa
              event Warning addressConflict on Service default/own: another machine (02:00:00:00:00:aa) answers for 10.0.0.4 as well, seen on interface "eth0"; hint: find that machine and give it another address, or take this one out of the IPAddressPool
        "#]],
    );
}

#[test]
fn the_first_of_two_nodes_says_again_where_the_address_is() {
    check(
        "conflict 10.0.0.4 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         conflict 10.0.0.4 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         node n2 ip:10.9.0.2 exclude
         conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2",
        expect![[r#"
            > conflict 10.0.0.4 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/own: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.4 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              say again where 10.0.0.4 is
            > conflict 10.0.0.4 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              say again where 10.0.0.4 is
            > node n2 ip:10.9.0.2 exclude
              fellows {10.9.0.2}
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              say again where 10.0.0.1 is
        "#]],
    );
}

#[test]
fn the_second_of_two_nodes_gives_way_for_as_long_as_the_first_answers() {
    check(
        "conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         answered 10.9.0.2
         wait 1
         answered 10.9.0.2
         wait 1
         answered 10.9.0.2
         wait 1
         wait 1
         why web
         wait 1
         wait 1
         why web",
        expect![[r#"
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.2 for 10.0.0.1
            > answered 10.9.0.2
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2"}
            > wait 1
              ask 10.9.0.2 for 10.0.0.1
            > wait 1
              ask 10.9.0.2 for 10.0.0.1
            > wait 1
              ask 10.9.0.2 for 10.0.0.1
            > wait 1
              ask 10.9.0.2 for 10.0.0.1
            web layer2 Election: node "n2" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > wait 1
              ask 10.9.0.2 for 10.0.0.1
            > wait 1
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            web layer2 announced
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

/// Its link carries frames out and none in: it claims and never answers.
#[test]
fn a_node_that_claims_and_does_not_answer_gets_nothing_and_everybody_is_told_again() {
    check(
        "conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         wait 1
         conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         wait 1
         wait 1
         wait 1
         wait 1
         why web",
        expect![[r#"
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.2 for 10.0.0.1
            > wait 1
              say again where 10.0.0.1 is
              ask 10.9.0.2 for 10.0.0.1
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              say again where 10.0.0.1 is
            > wait 1
              say again where 10.0.0.1 is
              ask 10.9.0.2 for 10.0.0.1
            > wait 1
              say again where 10.0.0.1 is
              ask 10.9.0.2 for 10.0.0.1
            > wait 1
              say again where 10.0.0.1 is
              ask 10.9.0.2 for 10.0.0.1
            web layer2 announced
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn a_node_that_memberlist_finds_again_needs_no_questions_any_more() {
    check(
        "conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         answered 10.9.0.2
         members n1 n2
         wait 4
         wait 1
         members n1",
        expect![[r#"
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.2 for 10.0.0.1
            > answered 10.9.0.2
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2"}
            > members n1
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
        "#]],
    );
}

#[test]
fn a_node_that_memberlist_finds_again_while_it_answers_is_not_asked_any_more() {
    check(
        "conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         answered 10.9.0.2
         wait 1
         answered 10.9.0.2
         members n1 n2
         wait 1
         wait 1",
        expect![[r#"
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.2 for 10.0.0.1
            > answered 10.9.0.2
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2"}
            > wait 1
              ask 10.9.0.2 for 10.0.0.1
        "#]],
    );
}

#[test]
fn a_node_whose_address_could_not_come_here_is_not_asked_any_more() {
    check(
        "conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         answered 10.9.0.2
         wait 1
         answered 10.9.0.2
         delete svc web
         wait 1
         wait 1",
        expect![[r#"
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.2 for 10.0.0.1
            > answered 10.9.0.2
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2"}
            > wait 1
              ask 10.9.0.2 for 10.0.0.1
            > delete svc web
              watch {}
        "#]],
    );
}

/// The order for 10.0.0.1 is n2, n3, n1: it would have this one, too, if it counted for more than what it claims.
#[test]
fn a_node_that_only_the_segment_shows_counts_for_what_it_claims() {
    check(
        "svc other 10.0.0.1,10.0.0.7
         eps other n2:ready
         conflict 10.0.0.7 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         answered 10.9.0.2
         why web
         why other
         conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2",
        expect![[r#"
            > eps other n2:ready
              answer for 10.0.0.7 on All
              announced default/other by layer2 with [10.0.0.1, 10.0.0.7] of p
              event Normal nodeAssigned on Service default/other: announcing from node "n1" with protocol "layer2"
            > conflict 10.0.0.7 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/other: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.7 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.2 for 10.0.0.7
            > answered 10.9.0.2
              no answer for 10.0.0.7 when another machine has announced it
              withdrawn default/other by layer2 with [10.0.0.1, 10.0.0.7]: node "n2" announces it
              watch {"n2"}
            web layer2 announced
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            other layer2 Election: node "n2" announces it (notOwner)
            other bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
        "#]],
    );
}

/// It is the first that is alive, and is hindered. Of the others only those come into question that say that they are able, or
/// show it.
#[test]
fn a_node_that_answers_is_able_to() {
    check(
        "members n1=ok n2=out4
         node n3 ip:10.9.0.3
         conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b3 of 10.9.0.3
         answered 10.9.0.3
         why web",
        expect![[r#"
            > node n3 ip:10.9.0.3
              fellows {10.9.0.2, 10.9.0.3, fd00::2}
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b3 of 10.9.0.3
              event Warning addressConflict on Service default/web: node "n3" (02:00:00:00:00:b3) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.3 for 10.0.0.1
            > answered 10.9.0.3
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n3" announces it
              watch {"n3"}
            web layer2 Election: node "n3" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn events_are_bounded_whatever_is_claimed() {
    let services = (10..110).map(|n| format!("svc s{n} 10.0.0.{n}\neps s{n} n2:ready\n"));
    let conflicts = (10..110).map(|n| format!("conflict 10.0.0.{n} on eth0 by 02:00:00:00:00:aa\n"));
    let script: String = std::iter::once(START.to_owned()).chain(services).chain(conflicts).collect();
    assert_eq!(play(&script).matches("addressConflict").count(), 64);
}
