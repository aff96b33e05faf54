//! The controller assigns addresses to nodes (ADR 16): what it writes, when, and what it never does.

// `expect_test` writes the hashes when it updates a snapshot.
#![allow(clippy::needless_raw_string_hashes)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt::Write as _;

use api::Write;
use expect_test::{Expect, expect};
use kit::{Duration, Instant, Outbox, Rng};
use speaker::Overview;

use crate::overview::Scene;

/// An API server, and a controller that assigns, in the language of `overview.rs`, and:
///
/// ```text
/// lead                     a controller begins, and is told of everything
/// hold                     what is written from now on arrives later: `arrive`
/// wait 20                  seconds pass
/// ```
struct Board {
    scene: Scene,
    /// What there is: the last line about each thing.
    objects: BTreeMap<String, String>,
    /// The nodes that Services show.
    shown: BTreeMap<String, String>,
    under_way: VecDeque<(String, Option<String>)>,
    holds: bool,
    now: Instant,
    said: String,
    writes: usize,
}

impl Board {
    fn new() -> Board {
        Board {
            scene: Scene::new(),
            objects: BTreeMap::new(),
            shown: BTreeMap::new(),
            under_way: VecDeque::new(),
            holds: false,
            now: Instant::ZERO,
            said: String::new(),
            writes: 0,
        }
    }

    fn play(&mut self, script: &str) -> &mut Board {
        script.lines().map(str::trim).filter(|line| !line.is_empty()).for_each(|line| self.line(line));
        self
    }

    fn line(&mut self, line: &str) {
        let before = self.said.len();
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["lead"] => self.lead(),
            ["hold"] => self.holds = true,
            ["arrive"] => {
                self.holds = false;
                self.arrive();
            }
            ["wait", seconds] => {
                let until = self.now + Duration::from_secs(seconds.parse().unwrap());
                while let Some(due) = self.scene.overview.assign_deadline().filter(|due| *due <= until) {
                    self.now = self.now.max(due);
                    self.work();
                }
                self.now = until;
            }
            ["svc", name, ..] => {
                self.objects.insert(format!("svc {name}"), line.to_owned());
                self.show(name);
            }
            ["shows", name, node] => {
                self.shown.insert((*name).to_owned(), (*node).to_owned());
                self.show(name);
            }
            ["shows", name] => {
                self.shown.remove(*name);
                self.show(name);
            }
            ["delete" | "gone", kind, name] => {
                self.objects.remove(&format!("{kind} {name}"));
                if *kind == "svc" {
                    self.shown.remove(*name);
                }
                self.scene.line(line);
            }
            [kind @ ("pool" | "node" | "eps" | "speaker"), name, ..] => {
                self.objects.insert(format!("{kind} {name}"), line.to_owned());
                self.scene.line(line);
            }
            ["l2", _, name, ..] => {
                self.objects.insert(format!("zl2 {name}"), line.to_owned());
                self.scene.line(line);
            }
            _ => drop(self.scene.line(line)),
        }
        self.work();
        if self.said.len() > before {
            let said = self.said.split_off(before);
            writeln!(self.said, "> {line}\n{}", said.trim_end()).unwrap();
        }
    }

    /// Another controller begins: it knows what there is, and nothing else.
    fn lead(&mut self) {
        let mut scene = Scene::new();
        let objects: Vec<String> = self.objects.values().cloned().collect();
        for line in objects.iter().filter(|line| !line.starts_with("svc")) {
            scene.line(line);
        }
        self.scene = scene;
        let services: Vec<String> =
            self.objects.keys().filter_map(|key| key.strip_prefix("svc ")).map(str::to_owned).collect();
        for name in &services {
            self.show(name);
        }
        self.scene.line("configure");
        self.scene.overview.begin_assigning();
    }

    fn show(&mut self, name: &str) {
        let assigned = self.shown.get(name).map(|node| format!(" assigned={node}")).unwrap_or_default();
        if let Some(line) = self.objects.get(&format!("svc {name}")) {
            self.scene.line(&format!("{line}{assigned}"));
        }
    }

    fn arrive(&mut self) {
        while let Some((name, node)) = self.under_way.pop_front() {
            if self.objects.contains_key(&format!("svc {name}")) {
                match node {
                    Some(node) => self.shown.insert(name.clone(), node),
                    None => self.shown.remove(&name),
                };
                self.show(&name);
            }
        }
    }

    /// What is due now, and what follows from it.
    fn work(&mut self) {
        let mut out = Outbox::with_limit(8);
        for step in 0.. {
            assert!(step < 10_000, "it does not come to rest");
            let is_due = |overview: &Overview| overview.assign_deadline().is_some_and(|due| due <= self.now);
            if !is_due(&self.scene.overview) {
                return;
            }
            self.scene.overview.assign(self.now, &mut out);
            for write in out.drain() {
                let Write::AssignedNode { service, uid, node } = write else { panic!("{write:?}") };
                assert_eq!(uid, format!("uid-{}", service.name));
                writeln!(self.said, "  {} -> {}", service.name, node.as_deref().unwrap_or("-")).unwrap();
                self.writes += 1;
                self.under_way.push_back((service.name, node));
            }
            assert_eq!(out.dropped(), 0);
            if !self.holds {
                self.arrive();
            }
        }
    }

    /// How many addresses the nodes have, as far as Services show it.
    fn loads(&self) -> BTreeMap<&str, usize> {
        let mut loads = BTreeMap::new();
        self.shown.values().for_each(|node| *loads.entry(node.as_str()).or_default() += 1);
        loads
    }
}

/// For 10.0.0.1 the order of the hash is n2, n3, n1; for 10.0.0.4 it is n1, n3, n2.
const USUAL: &str = "pool p 10.0.0.0/24
    l2 p a balanced
    node n1
    node n2
    node n3
    speaker n1
    speaker n2
    speaker n3
    svc web 10.0.0.1
    eps web n1:ready
    ";

/// What is said after that.
fn check(script: &str, expected: Expect) {
    let mut board = Board::new();
    board.play(USUAL);
    assert_eq!(board.said, "", "who does not lead says nothing");
    expected.assert_eq(&board.play(script).said);
}

#[test]
fn an_address_is_assigned_once_and_not_again_after_a_restart() {
    check(
        "lead
         svc web 10.0.0.1 app=web
         eps web n2:ready
         wait 1000
         lead
         wait 1000",
        expect![[r#"
            > lead
              web -> n2
        "#]],
    );
}

#[test]
fn a_service_that_is_gone_or_has_no_address_or_is_not_ours_is_not_assigned() {
    check(
        "lead
         svc web -
         svc web 10.0.0.1
         svc web 10.0.0.1 type=ClusterIP
         svc web 10.0.0.1
         svc web 10.1.0.1
         svc web 10.0.0.1
         svc web 10.0.0.1 class=other
         shows web n9
         svc web 10.0.0.1
         wait 60
         delete svc web",
        expect![[r#"
            > lead
              web -> n2
            > svc web -
              web -> -
            > svc web 10.0.0.1
              web -> n2
            > svc web 10.0.0.1 type=ClusterIP
              web -> -
            > svc web 10.0.0.1
              web -> n2
            > svc web 10.1.0.1
              web -> -
            > svc web 10.0.0.1
              web -> n2
            > wait 60
              web -> n2
        "#]],
    );
}

#[test]
fn it_ends_where_nobody_asks_for_it() {
    check(
        "lead
         l2 p b services=app=db
         configure
         l2 p a
         configure
         l2 p b services=app=web balanced
         configure
         svc web 10.0.0.1 app=web
         svc web 10.0.0.1 app=web share",
        expect![[r#"
            > lead
              web -> n2
            > configure
              web -> -
            > svc web 10.0.0.1 app=web
              web -> n2
            > svc web 10.0.0.1 app=web share
              web -> -
        "#]],
    );
}

#[test]
fn a_node_counts_when_it_is_ready_with_a_speaker_for_a_while_and_until_it_is_not_for_a_while() {
    check(
        "gone speaker n2
         lead
         node n3 !ready
         wait 19
         node n3
         wait 60
         node n3 !ready
         wait 19
         wait 1
         node n3
         speaker n2
         wait 1000
         gone speaker n1
         wait 20",
        expect![[r#"
            > lead
              web -> n3
            > wait 1
              web -> n1
            > wait 20
              web -> n2
        "#]],
    );
}

#[test]
fn what_a_speaker_itself_sees_counts_at_once() {
    check(
        "lead
         node n2 exclude
         node n2
         node n3 !network
         node n1 exclude
         delete node n2
         node n3",
        expect![[r#"
            > lead
              web -> n2
            > node n2 exclude
              web -> n3
            > node n3 !network
              web -> n2
            > node n3
              web -> n3
        "#]],
    );
}

#[test]
fn a_cluster_that_starts_is_not_filled_from_one_end() {
    let mut board = Board::new();
    board.play(USUAL).play("gone speaker n1\ngone speaker n2\ngone speaker n3\nlead");
    (2..=12).for_each(|n| board.line(&format!("svc s{n} 10.0.0.{n}")));
    (2..=12).for_each(|n| board.line(&format!("eps s{n} n1:ready")));
    board.play("speaker n1\nwait 15\nspeaker n2\nwait 15\nspeaker n3\nwait 19");
    assert_eq!(board.writes, 0);
    board.play("wait 1");
    assert_eq!(board.writes, 12);
    assert!(board.loads().values().all(|load| *load <= 5), "{:?}", board.loads());
    // One that comes and goes does not keep the others from counting for ever.
    board.play("node n4\nspeaker n4\nnode n5\nspeaker n5");
    for _ in 0..10 {
        board.play("gone speaker n5\nwait 5\nspeaker n5\nwait 5");
    }
    assert_eq!(board.loads(), ["n1", "n2", "n3", "n4"].map(|node| (node, 3)).into());
}

#[test]
fn services_that_share_an_address_are_on_one_node() {
    check(
        "svc web 10.0.0.1 share
         shows web n3
         svc dns 10.0.0.1 share
         eps dns n2:ready
         lead
         svc ntp 10.0.0.1 share
         node n3 exclude
         delete svc web
         svc dns 10.0.0.1 share local
         eps dns n1:ready
         eps dns n3:ready",
        expect![[r#"
            > lead
              dns -> n3
            > svc ntp 10.0.0.1 share
              ntp -> n3
            > node n3 exclude
              dns -> n2
              ntp -> n2
              web -> n2
            > eps dns n1:ready
              dns -> n1
              ntp -> n1
        "#]],
    );
}

#[test]
fn policy_local_goes_where_endpoints_are_and_stays_where_it_was_while_there_are_none() {
    check(
        "svc web 10.0.0.1 local
         lead
         eps web n1:notready
         eps web n1:notready n2:ready n3:ready
         eps web n1:ready n2:ready n3:ready
         delete eps web
         eps web n1:ready n2:ready n3:ready",
        expect![[r#"
            > lead
              web -> n1
            > eps web n1:notready n2:ready n3:ready
              web -> n2
        "#]],
    );
}

#[test]
fn the_preferred_nodes_alone_are_eligible_while_there_are_some() {
    check(
        "l2 p a balanced prefer=5:zone=x prefer=1:zone=y
         node n1 zone=x
         node n3 zone=y
         lead
         node n1 zone=x exclude
         node n1 zone=x
         node n1",
        expect![[r#"
            > lead
              web -> n1
            > node n1 zone=x exclude
              web -> n3
            > node n1 zone=x
              web -> n1
            > node n1
              web -> n3
        "#]],
    );
}

#[test]
fn somebody_elses_choice_is_taken_over_where_it_is_possible_and_undone_where_not() {
    check(
        "lead
         shows web n1
         shows web n9
         wait 60
         shows web
         wait 60
         svc two 10.0.0.4
         eps two n1:ready
         shows two n1
         wait 60",
        expect![[r#"
            > lead
              web -> n2
            > shows web n9
              web -> n1
            > shows web
              web -> n1
            > eps two n1:ready
              two -> n3
            > wait 60
              two -> n3
        "#]],
    );
}

#[test]
fn what_does_not_show_is_asked_for_again() {
    check(
        "hold
         lead
         node n2 exclude
         svc web 10.0.0.1 app=web
         wait 59
         wait 1
         arrive
         wait 1000",
        expect![[r#"
            > lead
              web -> n2
            > node n2 exclude
              web -> n3
            > wait 1
              web -> n3
        "#]],
    );
}

#[test]
fn what_was_under_way_for_an_earlier_leader_is_taken_over() {
    check(
        "shows web n3
         lead
         shows web n1
         wait 100",
        expect![[""]],
    );
}

#[test]
fn a_change_of_many_is_written_at_a_pace() {
    let mut board = Board::new();
    board.play(USUAL);
    (2..=201).for_each(|n| board.line(&format!("svc s{n} 10.0.0.{n}")));
    (2..=201).for_each(|n| board.line(&format!("eps s{n} n1:ready")));
    board.play("lead");
    assert_eq!(board.writes, 50);
    board.play("wait 1");
    assert_eq!(board.writes, 100);
    board.play("wait 2");
    assert_eq!(board.writes, 200);
    board.play("wait 1000");
    assert_eq!(board.writes, 201);
    assert!(board.loads().values().all(|load| *load <= 83), "{:?}", board.loads());
}

#[test]
fn those_that_share_an_address_are_written_together() {
    let mut board = Board::new();
    board.play(USUAL);
    for n in 2..=81 {
        for name in ["a", "z"] {
            board.line(&format!("svc {name}{n} 10.0.0.{n} share"));
            board.line(&format!("eps {name}{n} n1:ready"));
        }
    }
    board.play("lead");
    assert_eq!(board.writes, 100, "fifty at this pace, and with each of them the other one");
    for n in 2..=81 {
        assert_eq!(board.shown.get(&format!("a{n}")), board.shown.get(&format!("z{n}")), "{n}");
    }
}

#[test]
fn contract_12_1_d10_what_two_could_want_on_different_nodes_is_neither_assigned_nor_counted() {
    check(
        "pool p 10.0.0.0/24 fc00::/120
         configure
         svc web 10.0.0.1,fc00::1 share
         svc dns fc00::1 share
         eps dns n2:ready
         lead
         delete svc dns
         svc dns fc00::1 share
         svc web 10.0.0.1 share
         svc web fc00::1,10.0.0.1 share
         svc web 10.0.0.1,fc00::1 share
         delete svc web",
        expect![[r#"
            > lead
              web -> n2
            > svc web 10.0.0.1 share
              dns -> n1
            > svc web fc00::1,10.0.0.1 share
              web -> n1
            > svc web 10.0.0.1,fc00::1 share
              dns -> -
            > delete svc web
              dns -> n2
        "#]],
    );
}

/// A random line.
fn line(rng: &mut Rng) -> String {
    let pick = |rng: &mut Rng, words: &[&str]| (*rng.pick(words).unwrap()).to_owned();
    let node = pick(rng, &["n1", "n2", "n3", "n4", "n5"]);
    let service = rng.below(14) + 1;
    let zone = pick(rng, &["", "zone=a", "zone=b"]);
    match rng.below(24) {
        0..=7 => {
            let shared = if rng.one_in(8) { 1 } else { service };
            let options = pick(rng, &["", "", "", "local", "app=web", "type=ClusterIP"]);
            format!("svc s{service} 10.0.0.{shared} {options}")
        }
        8..=10 => format!("eps s{service} {node}:ready {}", pick(rng, &["", "n1:ready", "n2:notready", "n3:ready"])),
        11 => format!("delete svc s{service}"),
        12 => format!("delete eps s{service}"),
        13 | 14 => format!("node {node} {zone} {}", pick(rng, &["", "", "exclude", "!ready", "!network"])),
        15 => format!("{} {node}", pick(rng, &["speaker", "gone speaker", "delete node"])),
        16 => format!("l2 p a {}\nconfigure", pick(rng, &["balanced", "balanced", "", "balanced prefer=5:zone=a"])),
        17 => {
            format!("l2 p b {}\nconfigure", pick(rng, &["nodes=zone=b", "services=app=web balanced", "nodes=zone=c"]))
        }
        18 => format!("shows s{service} {}", pick(rng, &["n1", "n2", "n9", ""])),
        19 => pick(rng, &["hold", "arrive"]),
        20 => "lead".to_owned(),
        _ => format!("wait {}", pick(rng, &["0", "1", "7", "20", "100"])),
    }
}

/// Whatever happened: in the end all is as it should be, another controller would write nothing, and calm stays calm.
#[test]
fn random_histories_come_to_rest_and_a_restart_writes_nothing() {
    let mut balanced = 0;
    for seed in 0..1000 {
        let mut rng = Rng::new(seed);
        let mut history = vec!["pool p 10.0.0.0/24\nl2 p a balanced".to_owned()];
        history.extend(["n1", "n2", "n3"].map(|node| format!("node {node}\nspeaker {node}")));
        history.push("lead".to_owned());
        history.extend((0..50).map(|_| line(&mut rng)));
        history.push("arrive\nwait 200".to_owned());
        let mut board = Board::new();
        board.play(&history.join("\n"));
        let (writes, shown) = (board.writes, board.shown.clone());
        board.play("wait 200\nlead\nwait 200");
        let again: BTreeSet<_> = board.shown.iter().filter(|(name, node)| shown.get(*name) != Some(node)).collect();
        assert_eq!((board.writes, &board.shown), (writes, &shown), "seed {seed}: {again:?}\n{}", history.join("\n"));
        balanced += shown.len();
    }
    assert!(balanced > 1_000, "only {balanced} Services were assigned in the end");
}
