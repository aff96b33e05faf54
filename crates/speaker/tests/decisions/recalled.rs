//! A speaker that goes by what it knew last announces it, and never says that this is all (ADR 17).

use expect_test::expect;

use crate::scenario::play;

const KNOWN: &str = "
    pool p 10.0.0.0/24
    l2 p adv
    bgp p adv
    peer r1 192.0.2.1
    configure
    node n1
    svc web 10.0.0.1
    eps web n1:ready
    svc old 10.0.0.2
    eps old n1:ready";

#[test]
fn what_was_known_last_is_announced_and_said_to_be_complete_when_it_is_confirmed() {
    let script = format!(
        "{KNOWN}
        recalled
        recalled
        wait 1
        svc web 10.0.0.1
        delete svc old
        svc new 10.0.0.3
        eps new n1:ready
        synced
        recalled
        synced"
    );
    expect![[r#"
        > recalled
          session with r1 at 192.0.2.1
          answer for 10.0.0.2 on All
          announced default/old by layer2 with [10.0.0.2] of p
          event Normal nodeAssigned on Service default/old: announcing from node "n1" with protocol "layer2"
          announced default/old by bgp with [10.0.0.2] of p
          event Normal nodeAssigned on Service default/old: announcing from node "n1" with protocol "bgp"
          answer for 10.0.0.1 on All
          announced default/web by layer2 with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
          announced default/web by bgp with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
          route 10.0.0.1/32 to r1
          route 10.0.0.2/32 to r1
        > delete svc old
          no answer for 10.0.0.2
          withdrawn default/old by layer2 with [10.0.0.2]: it is gone
          withdrawn default/old by bgp with [10.0.0.2]: it is gone
          no route 10.0.0.2/32 to r1
        > eps new n1:ready
          answer for 10.0.0.3 on All
          announced default/new by layer2 with [10.0.0.3] of p
          event Normal nodeAssigned on Service default/new: announcing from node "n1" with protocol "layer2"
          announced default/new by bgp with [10.0.0.3] of p
          event Normal nodeAssigned on Service default/new: announcing from node "n1" with protocol "bgp"
          route 10.0.0.3/32 to r1
        > synced
          r1 has all
          settled
    "#]]
    .assert_eq(&play(&script));
}

#[test]
fn what_changes_while_it_is_not_confirmed_is_told() {
    let script = format!(
        "{KNOWN}
        recalled
        peer r2 192.0.2.2
        forget peer r1
        pool p 10.0.0.0/24
        l2 p adv
        bgp p adv
        configure
        wait 1
        synced"
    );
    expect![[r#"
        > recalled
          session with r1 at 192.0.2.1
          answer for 10.0.0.2 on All
          announced default/old by layer2 with [10.0.0.2] of p
          event Normal nodeAssigned on Service default/old: announcing from node "n1" with protocol "layer2"
          announced default/old by bgp with [10.0.0.2] of p
          event Normal nodeAssigned on Service default/old: announcing from node "n1" with protocol "bgp"
          answer for 10.0.0.1 on All
          announced default/web by layer2 with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
          announced default/web by bgp with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
          route 10.0.0.1/32 to r1
          route 10.0.0.2/32 to r1
        > configure
          no session with r1
          session with r2 at 192.0.2.2
          route 10.0.0.1/32 to r2
          route 10.0.0.2/32 to r2
        > synced
          r2 has all
          settled
    "#]]
    .assert_eq(&play(&script));
}

#[test]
fn a_speaker_that_ends_unconfirmed_leaves_as_any_other() {
    let script = format!(
        "{KNOWN}
        recalled
        leave
        synced"
    );
    expect![[r#"
        > recalled
          session with r1 at 192.0.2.1
          answer for 10.0.0.2 on All
          announced default/old by layer2 with [10.0.0.2] of p
          event Normal nodeAssigned on Service default/old: announcing from node "n1" with protocol "layer2"
          announced default/old by bgp with [10.0.0.2] of p
          event Normal nodeAssigned on Service default/old: announcing from node "n1" with protocol "bgp"
          answer for 10.0.0.1 on All
          announced default/web by layer2 with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
          announced default/web by bgp with [10.0.0.1] of p
          event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "bgp"
          route 10.0.0.1/32 to r1
          route 10.0.0.2/32 to r1
        > leave
          no route 10.0.0.1/32 to r1
          no route 10.0.0.2/32 to r1
          left
        > synced
          r1 has all
          settled
    "#]]
    .assert_eq(&play(&script));
}
