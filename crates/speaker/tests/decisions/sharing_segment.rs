//! What the segment shows of addresses that Services share: links that are lost, and nodes that nothing else shows.

use std::fmt::Write as _;

use crate::scenario::play;

const START: &str = "
    pool p 10.0.0.0/24 fc00::/120
    l2 p all
    node n1 ip:10.9.0.1
    node n2 ip:10.9.0.2
    node n3 ip:10.9.0.3
    node n4 ip:10.9.0.4
    link eth0 192.0.2.0/24
    link eth1 10.0.0.0/24
    link eth2 fc00::/64
    gateway 4 eth0
    gateway 6 eth0
    configure
    members n1=ok
    synced
";

/// What is said after a line of the script.
fn said(script: &str, line: &str) -> String {
    let all = play(&format!("{START}{script}"));
    let behind = all.split_once(&format!("> {line}\n")).map(|(_, rest)| rest.to_owned());
    behind.unwrap_or_else(|| panic!("nothing was said after {line:?}:\n{all}"))
}

#[test]
fn a_node_that_is_cut_off_from_one_of_two_addresses_decides_anew_when_it_is_alone_no_more() {
    let script = "svc web 10.0.0.4,fc00::1 share\nsvc dns fc00::1 share\neps web n2:ready\n\
        link eth2 fc00::/64 !carrier\nwait 20\nmembers n1=ok n9=ok";
    let cut = said(script, "wait 20");
    assert!(cut.contains("no answer for fc00::1") && !cut.contains("no answer for 10.0.0.4"), "{cut}");
    assert!(cut.contains("\n> members n1=ok n9=ok\n  answer for fc00::1"), "{cut}");
}

/// By the hash n4 is before n1 for both addresses; it is heard for one of them.
#[test]
fn a_node_that_is_heard_for_one_address_counts_for_no_other_and_is_not_forgotten_when_that_elects_for_itself() {
    let web = "svc web 10.0.0.2,fc00::3 share\neps web n3:ready";
    let heard = "conflict fc00::3 on eth2 by 02:00:00:00:00:b4 of 10.9.0.4\nanswered 10.9.0.4";
    let apart = said(&format!("{web}\nsvc dns fc00::3 share\n{heard}"), "answered 10.9.0.4");
    assert!(apart.contains("no answer for fc00::3") && !apart.contains("no answer for 10.0.0.2"), "{apart}");
    let joined = said(&format!("{web}\n{heard}\nsvc dns fc00::3 share"), "svc dns fc00::3 share");
    assert!(!joined.contains("  answer for fc00::3"), "{joined}");
}

#[test]
fn all_services_of_an_address_that_is_heard_elsewhere_give_it_up_however_many() {
    let mut script = String::from("svc web 10.0.0.2\neps web n3:ready\n");
    for number in 10..20 {
        writeln!(script, "svc s{number} 10.0.0.3 share\neps s{number} n3:ready").unwrap();
    }
    script += "conflict 10.0.0.2 on eth1 by 02:00:00:00:00:b4 of 10.9.0.4\nanswered 10.9.0.4\n\
        conflict 10.0.0.3 on eth1 by 02:00:00:00:00:b4 of 10.9.0.4";
    let said = said(&script, "answered 10.9.0.4");
    assert!(said.contains("no answer for 10.0.0.3"), "{said}");
}

#[test]
fn a_node_that_is_heard_is_asked_as_long_as_any_service_has_the_address() {
    let script = "svc aaa 10.0.0.2 share\neps aaa n3:ready\neps mmm n3:ready\n\
        conflict 10.0.0.2 on eth1 by 02:00:00:00:00:b4 of 10.9.0.4\nanswered 10.9.0.4\n\
        svc mmm 10.0.0.2 share\ndelete svc aaa\nwait 1\nwait 4";
    let said = said(script, "answered 10.9.0.4");
    assert!(said.contains("> wait 4\n  answer for 10.0.0.2"), "{said}");
}
