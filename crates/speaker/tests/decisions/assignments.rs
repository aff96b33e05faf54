//! What speakers make of the nodes that addresses are assigned to (ADR 16). For 10.0.0.1 the order of the hash is n2, n3, n1;
//! for 10.0.0.4 it is n1, n3, n2.

// `expect_test` writes the hashes when it updates a snapshot.
#![allow(clippy::needless_raw_string_hashes)]

use std::collections::BTreeSet;
use std::net::IpAddr;

use expect_test::{Expect, expect};
use kit::Rng;
use speaker::{Options, Rank};

use crate::scenario::{Scenario, play};

const START: &str = "
    node n1 ip:10.9.0.1 zone=a
    node n2 ip:10.9.0.2 zone=a
    node n3 ip:10.9.0.3 zone=b
    pool p 10.0.0.0/24 fc00::/120
    l2 p all balanced
    configure
    members n1=ok n2=ok n3=ok
    svc web 10.0.0.1
    eps web n2:ready
    synced
";

/// What is said after the start.
fn check(script: &str, expected: Expect) {
    let (start, all) = (play(START), play(&format!("{START}{script}")));
    expected.assert_eq(all.strip_prefix(&start).unwrap());
}

#[test]
fn the_assigned_node_announces_and_an_assignment_to_another_hands_over() {
    check(
        "svc web 10.0.0.1 assigned=n1
         svc web 10.0.0.1 assigned=n1 app=web
         svc web 10.0.0.1 assigned=n3
         why web",
        expect![[r#"
            > svc web 10.0.0.1 assigned=n1
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > svc web 10.0.0.1 assigned=n3
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n3" announces it
              watch {"n2", "n3"}
            web layer2 Election: node "n3" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn where_the_assigned_node_is_no_candidate_the_hash_finds_its_heir() {
    check(
        "svc web 10.0.0.1 assigned=n1
         members n1=ok
         svc web 10.0.0.1 assigned=n3
         members n1=ok n3=ok
         members n1=ok n2=ok
         why web
         node n2 exclude
         svc web 10.0.0.1 assigned=nowhere",
        expect![[r#"
            > svc web 10.0.0.1 assigned=n1
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > members n1=ok n3=ok
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n3" announces it
              watch {"n3"}
            > members n1=ok n2=ok
              watch {"n2"}
            web layer2 Election: node "n2" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > node n2 exclude
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
              fellows {10.9.0.3}
        "#]],
    );
}

#[test]
fn a_preference_comes_before_an_assignment() {
    check(
        "svc web 10.0.0.1 assigned=n1
         l2 p all balanced prefer=50:zone=b
         configure
         l2 p all balanced prefer=50:zone=a
         configure",
        expect![[r#"
            > svc web 10.0.0.1 assigned=n1
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > configure
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n3" announces it
              watch {"n3"}
            > configure
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
        "#]],
    );
}

#[test]
fn nobody_follows_an_assignment_as_long_as_one_member_does_not() {
    check(
        "svc web 10.0.0.1 assigned=n1
         members n1=ok n2=ok n3
         why web
         members n1=ok n2=ok
         members n1=ok n2
         members n1 n2=ok",
        expect![[r#"
            > svc web 10.0.0.1 assigned=n1
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > members n1=ok n2=ok n3
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2", "n3"}
            web layer2 Election: node "n2" announces it (notOwner)
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            > members n1=ok n2=ok
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > members n1=ok n2
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2"}
            > members n1 n2=ok
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
        "#]],
    );
}

#[test]
fn an_assignment_is_nothing_where_nobody_asked_for_it() {
    check(
        "svc web 10.0.0.1 assigned=n1
         l2 p all
         configure
         l2 p other services=app=web balanced
         configure
         svc web 10.0.0.1 assigned=n1 app=web",
        expect![[r#"
            > svc web 10.0.0.1 assigned=n1
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > configure
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2", "n3"}
            > svc web 10.0.0.1 assigned=n1 app=web
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
        "#]],
    );
}

#[test]
fn without_memberlist_assignments_count() {
    let alone = START.replace("members n1=ok n2=ok n3=ok", "");
    expect![[r#"
        > synced
          fellows {10.9.0.2, 10.9.0.3}
          settled
        > svc web 10.0.0.1 assigned=n1
          answer for 10.0.0.1 on All
          announced default/web by layer2 with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
        > node n1 ip:10.9.0.1 !ready
          no answer for 10.0.0.1 when another machine has announced it
          withdrawn default/web by layer2 with [10.0.0.1]: the node is not ready, and others are
        > node n2 !ready
          fellows {10.9.0.3}
        > node n3 !ready
          answer for 10.0.0.1 on All
          announced default/web by layer2 with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
          fellows {}
    "#]]
    .assert_eq(&play(&format!(
        "{alone} svc web 10.0.0.1 assigned=n1
         node n1 ip:10.9.0.1 !ready
         node n2 !ready
         node n3 !ready"
    )));
}

#[test]
fn a_hindered_node_is_replaced_by_the_first_of_the_hash_that_is_able() {
    check(
        "svc web 10.0.0.1 assigned=n3
         members n1=ok n2=network:10.0.0.0/24 n3=network:10.0.0.0/24
         members n1=ok n2=ok n3=network:10.0.0.0/24
         members n1=ok n2=ok n3=ok",
        expect![[r#"
            > members n1=ok n2=network:10.0.0.0/24 n3=network:10.0.0.0/24
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > members n1=ok n2=ok n3=network:10.0.0.0/24
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2"}
            > members n1=ok n2=ok n3=ok
              watch {"n2", "n3"}
        "#]],
    );
}

/// Two sides of a cluster that was cut announce an address: the assigned node keeps it, though it is the last of the hash.
#[test]
fn two_owners_are_settled_by_the_assignment() {
    check(
        "members n1=ok
         svc web 10.0.0.1 assigned=n1
         conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         svc web 10.0.0.1 assigned=n3
         conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         answered 10.9.0.2
         wait 4",
        expect![[r#"
            > members n1=ok
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              say again where 10.0.0.1 is
            > conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              ask 10.9.0.2 for 10.0.0.1
            > answered 10.9.0.2
              no answer for 10.0.0.1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.1]: node "n2" announces it
              watch {"n2"}
            > wait 4
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
        "#]],
    );
    check(
        "members n1=ok
         svc web 10.0.0.1 assigned=n3
         svc own 10.0.0.4 assigned=n3
         eps own n1:ready
         conflict 10.0.0.4 on eth0 by 02:00:00:00:00:b3 of 10.9.0.3
         answered 10.9.0.3",
        expect![[r#"
            > members n1=ok
              answer for 10.0.0.1 on All
              announced default/web by layer2 with [10.0.0.1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > eps own n1:ready
              answer for 10.0.0.4 on All
              announced default/own by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/own: announcing from node "n1" with protocol "layer2"
            > conflict 10.0.0.4 on eth0 by 02:00:00:00:00:b3 of 10.9.0.3
              event Warning addressConflict on Service default/own: node "n3" (02:00:00:00:00:b3) answers for 10.0.0.4 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.3 for 10.0.0.4
            > answered 10.9.0.3
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/own by layer2 with [10.0.0.4]: node "n3" announces it
              watch {"n3"}
        "#]],
    );
}

/// However the members are mixed and wherever the address is assigned: one of those that know of each other announces.
#[test]
fn all_speakers_old_and_new_agree_on_one_owner() {
    const NODES: [&str; 5] = ["n1", "n2", "n3", "n4", "n5"];
    const HINDERED: &str = "network:10.0.0.0/24";
    let mut by_assignment = 0;
    for seed in 0..400 {
        let mut rng = Rng::new(seed);
        let statements: &[&str] = if rng.one_in(3) { &["", "ok", HINDERED] } else { &["ok", "ok", HINDERED] };
        let said: Vec<(&str, &str)> = NODES.iter().map(|node| (*node, *rng.pick(statements).unwrap())).collect();
        let members: Vec<String> = said
            .iter()
            .map(|(node, says)| if says.is_empty() { (*node).to_owned() } else { format!("{node}={says}") })
            .collect();
        let address = format!("10.0.0.{}", rng.below(200) + 1);
        let assigned = *rng.pick(&["n1", "n2", "n3", "n4", "n5", "n6"]).unwrap();
        let counts = said.iter().all(|(_, says)| !says.is_empty());
        let rank = |node: &str| {
            let rank = Rank::new(0, node, &address.parse::<IpAddr>().unwrap());
            if counts && node == assigned { rank.assigned() } else { rank }
        };
        let first = said.iter().min_by_key(|(node, _)| rank(node)).unwrap();
        let mut owners: BTreeSet<&str> = if first.1.is_empty() { BTreeSet::from([first.0]) } else { BTreeSet::new() };
        for (node, says) in said.iter().filter(|(_, says)| !says.is_empty()) {
            let mut scenario = Scenario::new(Options { node: (*node).to_owned(), ..Options::default() });
            let carrier = if *says == HINDERED { "!carrier" } else { "" };
            let script = format!(
                "pool p 10.0.0.0/24\nl2 p all balanced\nlink eth1 10.0.0.0/24 {carrier}\nlink eth2 192.0.2.0/24\nconfigure
                 wait 1\n{}\nmembers {}\nsvc web {address} assigned={assigned}\neps web n1:ready\nsynced\nwhy web",
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
        assert_eq!(
            owners,
            BTreeSet::from([expected]),
            "seed {seed}: {members:?} for {address}, assigned to {assigned}"
        );
        by_assignment += u32::from(counts && expected == assigned);
    }
    assert!(by_assignment > 50, "only {by_assignment} assignments counted");
}
