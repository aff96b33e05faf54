//! Addresses that Services share although not all of them have the same addresses: one node announces each, and all find the
//! same one (contract 12.1 D10, ADR 3).
//!
//! The order of the hash is n1, n3, n2 for 10.0.0.4; n1, n2, n3 for 10.0.0.3; n2, n3, n1 for 10.0.0.1; n2, n1, n3 for fc00::1.

// `expect_test` writes the hashes when it updates a snapshot.
#![allow(clippy::needless_raw_string_hashes)]

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::net::IpAddr;

use expect_test::{Expect, expect};
use kit::{Family, Rng};
use speaker::{Options, Output, digest};

use crate::scenario::{Scenario, play, play_reports};

const NODES: [&str; 3] = ["n1", "n2", "n3"];
const START: &str = "
    pool p 10.0.0.0/24 fc00::/120
    l2 p all balanced
    node n1 ip:10.9.0.1
    node n2 ip:10.9.0.2
    node n3 ip:10.9.0.3
    link eth0 192.0.2.0/24
    link eth1 10.0.0.0/24 fc00::/64
    gateway 4 eth0
    gateway 6 eth0
    configure
";

/// All speakers of a cluster, which hear of the same things and of each other, in the language of `scenario.rs` and:
///
/// ```text
/// lose n1 6                    the node has no way out for IPv6 any more
/// find n1 6                    it has one again
/// go                           there is a member without a statement, on a node that is no candidate
/// no-go                        there is none any more
/// ```
struct Cluster {
    speakers: BTreeMap<&'static str, Scenario>,
    lost: BTreeSet<(String, Family)>,
    has_go: bool,
    owners: BTreeMap<IpAddr, BTreeSet<&'static str>>,
}

impl Cluster {
    fn start() -> Cluster {
        let speaker = |node: &'static str| {
            let mut scenario = Scenario::new(Options { node: node.into(), ..Options::default() });
            START.lines().map(str::trim).for_each(|line| drop(scenario.feed(line)));
            (node, scenario)
        };
        let mut cluster = Cluster {
            speakers: NODES.into_iter().map(speaker).collect(),
            lost: BTreeSet::new(),
            has_go: false,
            owners: BTreeMap::new(),
        };
        cluster.tell_members();
        cluster.tell("synced");
        cluster
    }

    /// Tells every speaker, and returns what changes hands how.
    fn tell(&mut self, line: &str) -> String {
        let mut said = String::new();
        for (node, speaker) in &mut self.speakers {
            for output in speaker.feed(line) {
                let change = match output {
                    Output::AddressAnnounce { address, .. } => {
                        let is_new = self.owners.entry(address).or_default().insert(node);
                        assert!(is_new, "{line}: {node} is told twice to announce {address}");
                        (address, "announces")
                    }
                    Output::AddressWithdraw { address } => (address, "withdraws"),
                    Output::AddressHandOver { address } => (address, "hands over"),
                    _ => continue,
                };
                if change.1 != "announces" {
                    assert!(self.owners.entry(change.0).or_default().remove(node), "{line}: {node} has no {change:?}");
                }
                writeln!(said, "  {node} {} {}", change.1, change.0).unwrap();
            }
        }
        self.owners.retain(|_, owners| !owners.is_empty());
        said
    }

    fn line(&mut self, line: &str) -> String {
        let family = |text: &str| if text == "4" { Family::V4 } else { Family::V6 };
        match line.split_whitespace().collect::<Vec<_>>().as_slice() {
            [word @ ("lose" | "find"), node, version] => {
                let way = if *word == "lose" { "none" } else { "eth0" };
                let (_, speaker) = self.speakers.iter_mut().find(|(name, _)| *name == node).unwrap();
                assert!(speaker.feed(&format!("gateway {version} {way}")).iter().all(|it| !is_about_an_address(it)));
                match *word {
                    "lose" => self.lost.insert(((*node).to_owned(), family(version))),
                    _ => self.lost.remove(&((*node).to_owned(), family(version))),
                };
                // Those who hear of it before the node itself has judged it give way to nobody yet.
                self.tell_members() + &self.tell("wait 1000")
            }
            [word @ ("go" | "no-go")] => {
                self.has_go = *word == "go";
                self.tell_members()
            }
            _ => self.tell(line),
        }
    }

    fn tell_members(&mut self) -> String {
        let member = |node: &&str| {
            let out = |(other, family): &(String, Family)| {
                (other == node).then(|| if *family == Family::V4 { "out4" } else { "out6" })
            };
            let lost: Vec<&str> = self.lost.iter().filter_map(out).collect();
            if lost.is_empty() { format!("{node}=ok") } else { format!("{node}={}", lost.join("+")) }
        };
        let members: Vec<String> = NODES.iter().map(member).collect();
        self.tell(&format!("members {} {}", members.join(" "), if self.has_go { "n9" } else { "" }))
    }

    fn owners(&self) -> String {
        self.owners.iter().fold("  =".to_owned(), |text, (address, owners)| format!("{text} {address} on {owners:?}"))
    }
}

fn is_about_an_address(output: &Output) -> bool {
    matches!(output, Output::AddressAnnounce { .. } | Output::AddressWithdraw { .. } | Output::AddressHandOver { .. })
}

/// What changes hands in a cluster, and who has what then.
fn check(script: &str, expected: Expect) {
    let mut cluster = Cluster::start();
    let mut said = String::new();
    for line in script.lines().map(str::trim) {
        let changes = cluster.line(line);
        if !changes.is_empty() {
            writeln!(said, "> {line}\n{changes}{}", cluster.owners()).unwrap();
        }
    }
    expected.assert_eq(&said);
}

/// The same for what the speaker of n1 says.
fn check_n1(script: &str, expected: Expect) {
    let start = format!("{START}members n1=ok n2=ok n3=ok\nsynced\n");
    let (before, all) = (play(&start), play(&format!("{start}{script}")));
    expected.assert_eq(all.strip_prefix(&before).unwrap());
}

#[test]
fn contract_12_1_d10_a_service_that_joins_a_sharing_moves_that_address_and_its_leaving_moves_it_back() {
    check(
        "svc web 10.0.0.4,fc00::1 share
         eps web n2:ready
         eps dns n2:ready
         svc dns fc00::1 share
         eps dns n2:notready
         eps dns n2:ready
         delete svc dns
         svc dns fc00::1 share
         svc dns - share
         svc dns fc00::1 share
         svc dns fc00::1 share type=ClusterIP",
        expect![[r#"
            > eps web n2:ready
              n1 announces 10.0.0.4
              n1 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > svc dns fc00::1 share
              n1 hands over fc00::1
              n2 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
            > delete svc dns
              n1 announces fc00::1
              n2 hands over fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > svc dns fc00::1 share
              n1 hands over fc00::1
              n2 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
            > svc dns - share
              n1 announces fc00::1
              n2 hands over fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > svc dns fc00::1 share
              n1 hands over fc00::1
              n2 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
            > svc dns fc00::1 share type=ClusterIP
              n1 announces fc00::1
              n2 hands over fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
        "#]],
    );
}

/// The Services of one address are decided in the order of their names.
#[test]
fn contract_12_1_d10_a_move_is_a_hand_over_whichever_service_is_decided_first() {
    for name in ["aaa", "zzz"] {
        let mut cluster = Cluster::start();
        for line in ["svc web 10.0.0.4,fc00::1 share", "eps web n2:ready", &format!("eps {name} n2:ready")] {
            cluster.line(line);
        }
        let steps = [
            (format!("svc {name} 10.0.0.3,fc00::1 share"), "n2"),
            ("svc web 10.0.0.4 share".to_owned(), "n1"),
            ("svc web 10.0.0.4,fc00::1 share".to_owned(), "n2"),
            (format!("svc {name} 10.0.0.3 share"), "n1"),
            (format!("svc {name} 10.0.0.3,fc00::1 share"), "n2"),
            (format!("delete svc {name}"), "n1"),
            (format!("svc {name} 10.0.0.3,fc00::1 share\nsvc web 10.0.0.1,fc00::1 share"), "n2"),
            // On n2 this Service goes on with its first address.
            ("svc web 10.0.0.1 share".to_owned(), "n1"),
        ];
        for (line, owner) in steps {
            let changes: String = line.lines().map(|line| cluster.line(line)).collect();
            assert!(changes.contains(&format!("  {owner} announces fc00::1\n")), "{line}:\n{changes}");
            assert!(changes.contains(" hands over fc00::1\n"), "{line}:\n{changes}");
            assert_eq!(cluster.owners[&"fc00::1".parse::<IpAddr>().unwrap()], BTreeSet::from([owner]), "{line}");
        }
    }
}

#[test]
fn contract_12_1_d10_what_ends_with_its_last_service_ends_at_once() {
    check(
        "svc web 10.0.0.4,fc00::1 share
         eps web n2:ready
         svc dns fc00::1 share
         delete svc web
         eps dns n2:ready
         delete svc dns",
        expect![[r#"
            > eps web n2:ready
              n1 announces 10.0.0.4
              n1 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > svc dns fc00::1 share
              n1 hands over fc00::1
              n2 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
            > delete svc web
              n1 withdraws 10.0.0.4
              n2 withdraws fc00::1
              =
            > eps dns n2:ready
              n2 announces fc00::1
              = fc00::1 on {"n2"}
            > delete svc dns
              n2 withdraws fc00::1
              =
        "#]],
    );
}

#[test]
fn contract_5_1_services_with_the_same_first_address_are_on_its_node_with_all_of_theirs() {
    check(
        "eps web n2:ready
         eps dns n2:ready
         eps ntp n2:ready
         svc web 10.0.0.4 share
         svc dns 10.0.0.4,fc00::1 share
         svc ntp 10.0.0.4,fc00::1 share",
        expect![[r#"
            > svc web 10.0.0.4 share
              n1 announces 10.0.0.4
              = 10.0.0.4 on {"n1"}
            > svc dns 10.0.0.4,fc00::1 share
              n1 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
        "#]],
    );
}

#[test]
fn contract_12_1_d10_a_lost_way_for_one_family_parts_no_two_owners_of_the_other() {
    check(
        "eps web n2:ready
         eps dns n2:ready
         svc web 10.0.0.4,fc00::1
         lose n1 6
         find n1 6
         svc web 10.0.0.4,fc00::1 share
         svc dns 10.0.0.4 share
         lose n1 6
         find n1 6
         svc dns fc00::1 share
         lose n2 4
         lose n2 6
         find n2 6",
        expect![[r#"
            > svc web 10.0.0.4,fc00::1
              n1 announces 10.0.0.4
              n1 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > lose n1 6
              n3 announces 10.0.0.4
              n3 announces fc00::1
              n1 hands over 10.0.0.4
              n1 hands over fc00::1
              = 10.0.0.4 on {"n3"} fc00::1 on {"n3"}
            > find n1 6
              n3 hands over 10.0.0.4
              n3 hands over fc00::1
              n1 announces 10.0.0.4
              n1 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > lose n1 6
              n3 announces fc00::1
              n1 hands over fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n3"}
            > find n1 6
              n3 hands over fc00::1
              n1 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > svc dns fc00::1 share
              n1 hands over fc00::1
              n2 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
            > lose n2 6
              n1 announces fc00::1
              n2 hands over fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > find n2 6
              n1 hands over fc00::1
              n2 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
        "#]],
    );
}

#[test]
fn contract_12_1_d10_with_a_speaker_of_go_each_service_elects_as_it_does() {
    check(
        "svc web 10.0.0.4,fc00::1 share
         svc dns fc00::1 share
         eps web n2:ready
         eps dns n2:ready
         go
         no-go",
        expect![[r#"
            > eps web n2:ready
              n1 announces 10.0.0.4
              n2 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
            > go
              n1 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1", "n2"}
            > no-go
              n1 hands over fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
        "#]],
    );
}

#[test]
fn contract_12_1_d10_services_of_others_and_of_other_types_count_for_nothing() {
    check(
        "svc web 10.0.0.4,fc00::1 share
         eps web n2:ready
         eps dns n2:ready
         svc dns fc00::1 share class=x
         svc dns fc00::1 share type=ClusterIP
         svc dns fc00::1 share",
        expect![[r#"
            > eps web n2:ready
              n1 announces 10.0.0.4
              n1 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n1"}
            > svc dns fc00::1 share
              n1 hands over fc00::1
              n2 announces fc00::1
              = 10.0.0.4 on {"n1"} fc00::1 on {"n2"}
        "#]],
    );
}

#[test]
fn adr_16_no_assignment_moves_an_address_about_which_two_could_contradict_each_other() {
    check(
        "eps web n2:ready
         eps dns n2:ready
         svc web 10.0.0.4,fc00::1 share assigned=n3
         svc dns fc00::1 share assigned=n1
         svc dns fc00::1 share assigned=n3
         svc dns fc00::1,10.0.0.9 share assigned=n3
         delete svc web",
        expect![[r#"
            > svc web 10.0.0.4,fc00::1 share assigned=n3
              n3 announces 10.0.0.4
              n3 announces fc00::1
              = 10.0.0.4 on {"n3"} fc00::1 on {"n3"}
            > svc dns fc00::1 share assigned=n1
              n2 announces fc00::1
              n3 hands over fc00::1
              = 10.0.0.4 on {"n3"} fc00::1 on {"n2"}
            > svc dns fc00::1,10.0.0.9 share assigned=n3
              n2 announces 10.0.0.9
              = 10.0.0.4 on {"n3"} 10.0.0.9 on {"n2"} fc00::1 on {"n2"}
            > delete svc web
              n2 hands over 10.0.0.9
              n2 hands over fc00::1
              n3 withdraws 10.0.0.4
              n3 announces 10.0.0.9
              n3 announces fc00::1
              = 10.0.0.9 on {"n3"} fc00::1 on {"n3"}
        "#]],
    );
}

/// One Service is written after the other.
#[test]
fn adr_16_services_that_share_their_first_address_move_together_when_the_first_or_the_last_of_them_is_written() {
    check(
        "eps web n2:ready
         eps dns n2:ready
         svc web 10.0.0.4 share assigned=n2
         svc dns 10.0.0.4 share
         svc dns 10.0.0.4 share assigned=n2
         svc dns 10.0.0.4 share assigned=n3
         svc web 10.0.0.4 share assigned=n3
         svc web 10.0.0.4 share assigned=n1
         svc dns 10.0.0.4 share assigned=n1",
        expect![[r#"
            > svc web 10.0.0.4 share assigned=n2
              n2 announces 10.0.0.4
              = 10.0.0.4 on {"n2"}
            > svc web 10.0.0.4 share assigned=n3
              n2 hands over 10.0.0.4
              n3 announces 10.0.0.4
              = 10.0.0.4 on {"n3"}
            > svc web 10.0.0.4 share assigned=n1
              n1 announces 10.0.0.4
              n3 hands over 10.0.0.4
              = 10.0.0.4 on {"n1"}
        "#]],
    );
}

#[test]
fn a_node_says_which_addresses_of_a_service_it_announces() {
    check_n1(
        "svc web 10.0.0.4,fc00::1 share
         eps web n2:ready
         svc dns fc00::1 share
         eps dns n2:ready
         svc ntp 10.0.0.1,fc00::a share
         eps ntp n2:ready
         svc smtp fc00::a share
         why web
         why dns
         why ntp",
        expect![[r#"
            > eps web n2:ready
              answer for 10.0.0.4 on All
              answer for fc00::1 on All
              announced default/web by layer2 with [10.0.0.4, fc00::1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > svc dns fc00::1 share
              no answer for fc00::1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4, fc00::1]: node "n2" announces it
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2": 10.0.0.4
              watch {"n2"}
            > eps ntp n2:ready
              watch {"n2", "n3"}
            > svc smtp fc00::a share
              answer for fc00::a on All
              announced default/ntp by layer2 with [fc00::a] of p
              event Normal nodeAssigned on Service default/ntp: announcing from node "n1" with protocol "layer2": fc00::a
            web layer2 announced
            web bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            dns layer2 Election: node "n2" announces it (notOwner)
            dns bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
            ntp layer2 announced
            ntp bgp Advertisement: no advertisement selects pool "p" (noMatchingAdvertisement)
        "#]],
    );
}

#[test]
fn contract_12_3_the_node_of_the_first_address_alone_shows_a_service() {
    let start = format!("{START}members n1=ok n2=ok n3=ok\nsynced\n");
    let script = "svc web 10.0.0.4,fc00::1 share
        eps web n2:ready
        svc dns fc00::1 share
        svc ntp 10.0.0.1,fc00::a share
        eps ntp n2:ready
        svc smtp fc00::a share
        eps smtp n2:ready
        delete svc smtp
        delete svc web";
    expect![[r#"
        > eps web n2:ready
        show layer2 web []
        > eps smtp n2:ready
        show layer2 smtp []
        > delete svc smtp
        show no layer2 smtp []
        > delete svc web
        show no layer2 web []
    "#]]
    .assert_eq(&play_reports(&format!("{start}{script}")));
}

/// Of fc00::1 this node is the first heir, of fc00::3 the second one, and owner of the first addresses.
#[test]
fn a_node_watches_those_before_it_in_each_election() {
    check_n1(
        "svc web 10.0.0.4,fc00::3 share
         eps web n2:ready
         svc dns fc00::3 share
         members n1=ok n3=ok
         members n1=ok
         members n1=ok n2=ok n3=ok
         node n3 exclude
         delete svc dns",
        expect![[r#"
            > eps web n2:ready
              answer for 10.0.0.4 on All
              answer for fc00::3 on All
              announced default/web by layer2 with [10.0.0.4, fc00::3] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > svc dns fc00::3 share
              no answer for fc00::3 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4, fc00::3]: node "n2" announces it
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2": 10.0.0.4
              watch {"n2", "n3"}
            > members n1=ok n3=ok
              watch {"n3"}
            > members n1=ok
              answer for fc00::3 on All
              withdrawn default/web by layer2 with [10.0.0.4]: its addresses changed
              announced default/web by layer2 with [10.0.0.4, fc00::3] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
            > members n1=ok n2=ok n3=ok
              no answer for fc00::3 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4, fc00::3]: node "n2" announces it
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2": 10.0.0.4
              watch {"n2", "n3"}
            > node n3 exclude
              watch {"n2"}
              fellows {10.9.0.2}
            > delete svc dns
              answer for fc00::3 on All
              withdrawn default/web by layer2 with [10.0.0.4]: its addresses changed
              announced default/web by layer2 with [10.0.0.4, fc00::3] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
        "#]],
    );
}

#[test]
fn of_two_that_answer_for_an_address_the_first_in_its_own_election_stays() {
    check_n1(
        "members n1=ok n3=ok
         svc web 10.0.0.4,fc00::1 share
         eps web n3:ready
         svc dns fc00::1 share
         eps dns n3:ready
         conflict 10.0.0.4 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         wait 0
         conflict fc00::1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
         answered 10.9.0.2
         wait 4",
        expect![[r#"
            > eps web n3:ready
              answer for 10.0.0.4 on All
              answer for fc00::1 on All
              announced default/web by layer2 with [10.0.0.4, fc00::1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > eps dns n3:ready
              announced default/dns by layer2 with [fc00::1] of p
              event Normal nodeAssigned on Service default/dns: announcing from node "n1" with protocol "layer2"
            > conflict 10.0.0.4 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for 10.0.0.4 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              say again where 10.0.0.4 is
            > conflict fc00::1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2
              event Warning addressConflict on Service default/dns: node "n2" (02:00:00:00:00:b2) answers for fc00::1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              event Warning addressConflict on Service default/web: node "n2" (02:00:00:00:00:b2) answers for fc00::1 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.2 for fc00::1
            > answered 10.9.0.2
              withdrawn default/dns by layer2 with [fc00::1]: node "n2" announces it
              no answer for fc00::1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4, fc00::1]: node "n2" announces it
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2": 10.0.0.4
              watch {"n2"}
            > wait 4
              answer for fc00::1 on All
              announced default/dns by layer2 with [fc00::1] of p
              event Normal nodeAssigned on Service default/dns: announcing from node "n1" with protocol "layer2"
              withdrawn default/web by layer2 with [10.0.0.4]: its addresses changed
              announced default/web by layer2 with [10.0.0.4, fc00::1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
              watch {}
        "#]],
    );
}

/// The order of the hash is n4, n2, n3, n5, n1 for fc00::3, and n1 is the first for 10.0.0.5.
#[test]
fn a_node_that_only_the_segment_shows_is_asked_while_this_one_could_have_its_address_and_not_while_it_has_others() {
    check_n1(
        "node n4 ip:10.9.0.4
         node n5
         members n1=ok
         svc web 10.0.0.5,fc00::3 share
         svc dns fc00::3 share
         eps web n3:ready
         conflict fc00::3 on eth0 by 02:00:00:00:00:b4 of 10.9.0.4
         answered 10.9.0.4
         wait 1
         answered 10.9.0.4
         members n1=ok n2=ok n3=ok n5=ok
         wait 1",
        expect![[r#"
            > node n4 ip:10.9.0.4
              fellows {10.9.0.2, 10.9.0.3, 10.9.0.4}
            > eps web n3:ready
              answer for 10.0.0.5 on All
              answer for fc00::3 on All
              announced default/web by layer2 with [10.0.0.5, fc00::3] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > conflict fc00::3 on eth0 by 02:00:00:00:00:b4 of 10.9.0.4
              event Warning addressConflict on Service default/web: node "n4" (02:00:00:00:00:b4) answers for fc00::3 as well, seen on interface "eth0"; hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)
              ask 10.9.0.4 for fc00::3
            > answered 10.9.0.4
              no answer for fc00::3 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.5, fc00::3]: node "n4" announces it
              announced default/web by layer2 with [10.0.0.5] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2": 10.0.0.5
              watch {"n4"}
            > wait 1
              ask 10.9.0.4 for fc00::3
            > members n1=ok n2=ok n3=ok n5=ok
              watch {}
        "#]],
    );
}

#[test]
fn whoever_ends_hands_over_what_it_has_of_a_service() {
    check_n1(
        "svc web 10.0.0.4,fc00::1 share
         eps web n2:ready
         svc dns fc00::1 share
         leave r1",
        expect![[r#"
            > eps web n2:ready
              answer for 10.0.0.4 on All
              answer for fc00::1 on All
              announced default/web by layer2 with [10.0.0.4, fc00::1] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2"
            > svc dns fc00::1 share
              no answer for fc00::1 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4, fc00::1]: node "n2" announces it
              announced default/web by layer2 with [10.0.0.4] of p
              event Normal nodeAssigned on Service default/web: announcing from node "n1" with protocol "layer2": 10.0.0.4
              watch {"n2"}
            > leave r1
              no answer for 10.0.0.4 when another machine has announced it
              withdrawn default/web by layer2 with [10.0.0.4]: node "n3" announces it
              watch {}
              left
        "#]],
    );
}

/// A Service of the model.
#[derive(Clone, Debug, Default)]
struct Modelled {
    addresses: Vec<IpAddr>,
    assigned: Option<String>,
    has_endpoints: bool,
}

/// All of a cluster, as plainly as possible.
#[derive(Default)]
struct Model {
    services: BTreeMap<String, Modelled>,
    lost: BTreeSet<(String, Family)>,
    has_go: bool,
}

impl Model {
    /// Who is elected by an address, for these.
    fn elected(&self, elector: IpAddr, judged: &[IpAddr], assigned: Option<&String>) -> &'static str {
        let mut order = NODES;
        order.sort_by_key(|node| (assigned.is_none_or(|assigned| assigned != node), digest(node, &elector)));
        let is_able = |node: &&&str| {
            !judged.iter().any(|address| self.lost.contains(&((**node).to_owned(), Family::of(address))))
        };
        order.iter().find(is_able).copied().unwrap_or(order[0])
    }

    /// Who is to have each address.
    fn owners(&self) -> BTreeMap<IpAddr, BTreeSet<&'static str>> {
        let mut owners: BTreeMap<IpAddr, BTreeSet<&'static str>> = BTreeMap::new();
        let holders = |address: &IpAddr| -> Vec<&Modelled> {
            self.services.values().filter(|other| other.addresses.contains(address)).collect()
        };
        let is_whole = |address: &IpAddr| {
            let holders = holders(address);
            self.has_go || holders.iter().all(|other| other.addresses == holders[0].addresses)
        };
        for service in self.services.values().filter(|service| service.has_endpoints) {
            let whole: Vec<IpAddr> = service.addresses.iter().copied().filter(is_whole).collect();
            let agrees = |address: &IpAddr| {
                self.has_go || holders(address).iter().all(|other| other.addresses[0] == service.addresses[0])
            };
            let first = service.addresses[0];
            // Where they are assigned to different nodes, all take the same.
            let of_first = self.services.values().filter(|other| other.addresses.first() == Some(&first));
            let assigned = of_first.filter_map(|other| other.assigned.as_ref()).min();
            let assigned = assigned.filter(|_| !self.has_go && agrees(&first));
            for address in &service.addresses {
                let owner = match (whole.contains(address), agrees(address)) {
                    (true, _) => self.elected(first, &whole, assigned),
                    (false, true) => self.elected(first, &[*address], assigned),
                    (false, false) => self.elected(*address, &[*address], None),
                };
                owners.entry(*address).or_default().insert(owner);
            }
        }
        owners
    }
}

/// Whatever happens: each address that somebody could announce has one owner, who is the model's; and whoever loses it to another
/// hands it over.
#[test]
fn contract_12_1_d10_each_address_has_one_owner_whatever_services_share_it() {
    let lists = [
        "10.0.0.1,fc00::1",
        "10.0.0.4,fc00::1",
        "fc00::1",
        "10.0.0.4",
        "fc00::1,10.0.0.4",
        "fc00::a,10.0.0.4",
        "10.0.0.4,fc00::a",
        "fc00::a",
        "10.0.0.4,fc00::1,fc00::a",
        "10.0.0.4,fc00::a,fc00::1",
    ];
    let mut several = 0;
    for seed in 0..300 {
        let (mut rng, mut cluster, mut model) = (Rng::new(seed), Cluster::start(), Model::default());
        let mut history = String::new();
        for _ in 0..30 {
            let name = (*rng.pick(&["s1", "s2", "s3", "s4", "s5"]).unwrap()).to_owned();
            let service = model.services.entry(name.clone()).or_default();
            let line = match rng.below(10) {
                0..=4 => {
                    let list = *rng.pick(&lists).unwrap();
                    service.addresses = list.split(',').map(|address| address.parse().unwrap()).collect();
                    service.assigned = rng.one_in(3).then(|| (*rng.pick(&NODES).unwrap()).to_owned());
                    let assigned = service.assigned.iter().map(|node| format!("assigned={node}"));
                    format!("svc {name} {list} share {}", assigned.collect::<String>())
                }
                5 => {
                    *service = Modelled::default();
                    format!("delete svc {name}\neps {name} n1:notready")
                }
                6 | 7 => {
                    service.has_endpoints = rng.one_in(2);
                    format!("eps {name} n1:{}", if service.has_endpoints { "ready" } else { "notready" })
                }
                8 if model.lost.is_empty() && !model.has_go => {
                    let (node, version) = (*rng.pick(&NODES).unwrap(), *rng.pick(&["4", "6"]).unwrap());
                    let family = if version == "4" { Family::V4 } else { Family::V6 };
                    model.lost.insert((node.to_owned(), family));
                    format!("lose {node} {version}")
                }
                8 if !model.has_go => {
                    let (node, family) = model.lost.pop_first().unwrap();
                    format!("find {node} {}", if family == Family::V4 { "4" } else { "6" })
                }
                _ if model.lost.is_empty() => {
                    model.has_go = !model.has_go;
                    if model.has_go { "go".to_owned() } else { "no-go".to_owned() }
                }
                _ => continue,
            };
            writeln!(history, "{line}").unwrap();
            let before = cluster.owners.clone();
            let changes: String = line.lines().map(|line| cluster.line(line)).collect();
            for (address, old) in before {
                let new = cluster.owners.get(&address);
                let gone = old.iter().find(|node| new.is_some_and(|new| !new.contains(*node)));
                let is_ordered = gone.is_none_or(|node| changes.contains(&format!("{node} hands over {address}\n")));
                assert!(is_ordered, "seed {seed}:\n{history}{changes}");
            }
            let mut alike = model.services.clone();
            alike.retain(|_, service| !service.addresses.is_empty());
            let model = Model { services: alike, lost: model.lost.clone(), has_go: model.has_go };
            assert_eq!(cluster.owners, model.owners(), "seed {seed}:\n{history}");
            several += cluster.owners.values().filter(|owners| owners.len() > 1).count();
            assert!(model.has_go || cluster.owners.values().all(|owners| owners.len() == 1), "seed {seed}:\n{history}");
        }
    }
    assert!(several > 0, "by the rules of Go two owners are possible");
}
