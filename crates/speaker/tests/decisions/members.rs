//! Elections among the members of memberlist (contract 5.1, 5.2): who takes part, who watches whom, and how addresses
//! pass from one to the other. For 10.0.0.1 the order is n2, n3, n1; for 10.0.0.4 it is n1, n3, n2.

use crate::scenario::play;
use expect_test::{Expect, expect};

const START: &str = "
    node n1
    node n2
    node n3
    pool p 10.0.0.0/24 fc00::/120
    l2 p all
    members joining
    configure
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
fn who_has_not_found_the_others_takes_nothing_from_them() {
    check(
        "why web\n members n1 n2 n3\n why web",
        expect![[r#"
        > synced
          settled
        web layer2 Election: the speaker has not found the other speakers yet (notJoined)
        web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        > members n1 n2 n3
          answer for 10.0.0.4 on All
          announced default/own by layer2 with [10.0.0.4] of p
          event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
          watch {"n2", "n3"}
        web layer2 Election: node "n2" announces it (notOwner)
        web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
    "#]],
    );
}

#[test]
fn a_member_that_dies_is_succeeded_at_once_whatever_the_cluster_says_of_its_node() {
    check(
        "members n1 n2 n3
         members n1 n2
         members n1
         node n2 !ready
         members n1 n2 n3",
        expect![[r#"
            > synced
              settled
            > members n1 n2 n3
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
            > members n1 n2
              watch {"n2"}
            > members n1
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > members n1 n2 n3
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2", "n3"}
        "#]],
    );
}

#[test]
fn contract_5_1_readiness_is_nothing_where_there_is_memberlist() {
    check(
        "members n1 n2 n3
         node n1 !ready
         node n3 !ready
         why own
         why web
         node n3 exclude",
        expect![[r#"
            > synced
              settled
            > members n1 n2 n3
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
            own layer2 announced
            own bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            web layer2 Election: node "n2" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > node n3 exclude
              watch {"n2"}
        "#]],
    );
}

#[test]
fn who_ends_hands_over_what_others_can_take_and_answers_to_the_last_for_the_rest() {
    check(
        "members n1 n2 n3
         svc here 10.0.0.5 local
         eps here n1:ready
         leave
         members n2 n3
         members n2",
        expect![[r#"
            > synced
              settled
            > members n1 n2 n3
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
              watch {"n2", "n3"}
            > eps here n1:ready
              answer for 10.0.0.5 on All
              announced default/here by layer2 with [10.0.0.5] of p
              event Normal nodeAssigned on Service default/here: announcing from node "n1" with protocol "layer2"
            > leave
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: node "n3" announces it
              watch {}
              left
        "#]],
    );
}

#[test]
fn who_ends_without_memberlist_answers_to_the_last() {
    expect![[r#"
        > synced
          answer for 10.0.0.4 on All
          announced default/own by layer2 with [10.0.0.4] of p
          event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
          settled
        > leave
          left
    "#]]
    .assert_eq(&play(&format!("{}\nleave", START.replace("members joining", ""))));
}

#[test]
fn what_ends_is_not_handed_over() {
    check(
        "members n1 n2 n3\n eps own n1:notready",
        expect![[r#"
        > synced
          settled
        > members n1 n2 n3
          answer for 10.0.0.4 on All
          announced default/own by layer2 with [10.0.0.4] of p
          event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
          watch {"n2", "n3"}
        > eps own n1:notready
          no answer for 10.0.0.4
          withdrawn default/own by layer2 with [10.0.0.4]: no backend can take traffic
    "#]],
    );
}
