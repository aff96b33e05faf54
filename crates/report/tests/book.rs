//! Reports that are said, seen, undone and left over, as scenarios: one line is one input.
//!
//! ```text
//! say l2 web eth0,eth1 | say bgp web r1,r2 | say state ok | say state bad TEXT
//! unsay l2 web
//! seen l2 NAME web on n2 eth0 [owner pod-2]     an object somebody wrote; `gone l2 NAME`
//! settled | wait 15
//! echo                                          the API server does and shows what was asked for
//! ```

#![allow(clippy::arithmetic_side_effects, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::collections::BTreeMap;
use std::fmt::Write as _;

use api::{Component, ConfigurationVerdict, Key, Kind, Object, ObjectRef, Report, ReportParts, Write};
use expect_test::{Expect, expect};
use kit::{Duration, Instant, Outbox};
use report::{Book, Input};

const TIME: &str = "2026-01-01T00:00:00Z";

struct Scene {
    book: Book,
    now: Instant,
    writes: Vec<Write>,
    server: BTreeMap<ObjectRef, Object>,
    uids: u32,
}

impl Scene {
    fn new() -> Scene {
        let book = Book::new("m".into(), Some("n1".into()));
        let mut scene = Scene { book, now: Instant::ZERO, writes: Vec::new(), server: BTreeMap::new(), uids: 0 };
        scene.tell(Input::Listed);
        scene.tell(Input::Owner("pod-1".into()));
        scene
    }

    fn tell(&mut self, input: Input) {
        let mut out = Outbox::with_limit(8);
        self.book.handle(self.now, input, &mut out);
        self.writes.extend(out.drain());
        while self.book.next_deadline().is_some_and(|deadline| deadline <= self.now) {
            self.book.handle(self.now, Input::Tick, &mut out);
            self.writes.extend(out.drain());
        }
        assert_eq!(out.dropped(), 0);
    }

    /// What an object of the server looks like.
    fn object(&mut self, reference: &ObjectRef, report: &Report, owner: &str) -> Object {
        self.uids += 1;
        let mut value = serde_json::json!({
            "metadata": {
                "name": reference.key.name, "namespace": "m", "uid": format!("u{}", self.uids), "labels": report.labels(),
                "ownerReferences": [{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": owner}],
            },
            "status": report.status(TIME),
        });
        if report.status(TIME).get("serviceName").is_some_and(|name| name == "half") {
            value["status"] = serde_json::json!({});
        }
        Object::from_value(reference.kind, value).unwrap()
    }

    /// Does everything that was asked for since the last time.
    fn echo(&mut self) {
        for write in std::mem::take(&mut self.writes) {
            match write {
                Write::Report { object, report, .. } => {
                    let made = self.object(&object, &report, "pod-1");
                    self.server.insert(object, made.clone());
                    self.tell(Input::Seen(made));
                }
                Write::ReportGone { object, uid } => {
                    if self.server.get(&object).is_some_and(|there| there.metadata().uid == uid) {
                        self.server.remove(&object);
                        self.tell(Input::Gone(object));
                    }
                }
                other => panic!("{other:?}"),
            }
        }
    }

    fn play(&mut self, line: &str) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["say", "state", "unknown"] => self.tell(Input::Say(state(ConfigurationVerdict::Unknown))),
            ["say", "state", "ok"] => {
                self.tell(Input::Say(state(ConfigurationVerdict::Valid { warnings: String::new() })));
            }
            ["say", "state", "bad", text] => {
                self.tell(Input::Say(state(ConfigurationVerdict::Invalid((*text).into()))));
            }
            ["say", what @ ..] => self.tell(Input::Say(report("n1", what))),
            ["unsay", what @ ..] => self.tell(Input::Unsay(report("n1", what))),
            ["seen", kind, name, service, "on", node, rest @ ..] => {
                let list = rest.first().copied().filter(|word| *word != "owner").unwrap_or_default();
                let report = report(node, &[kind, service, list]);
                let reference = ObjectRef { kind: report.kind(), key: Key::new("m", *name) };
                let owner = line.split_once("owner ").map_or("pod-1", |(_, owner)| owner);
                let object = self.object(&reference, &report, owner);
                self.server.insert(reference, object.clone());
                self.tell(Input::Seen(object));
            }
            ["gone", kind, name] => {
                let kind = if *kind == "l2" { Kind::ServiceL2Status } else { Kind::ServiceBGPStatus };
                let reference = ObjectRef { kind, key: Key::new("m", *name) };
                self.server.remove(&reference);
                self.tell(Input::Gone(reference));
            }
            ["settled"] => self.tell(Input::Settled),
            ["echo"] => self.echo(),
            ["wait", seconds] => {
                self.now += Duration::from_secs(seconds.parse().unwrap());
                self.tell(Input::Tick);
            }
            _ => panic!("{line:?}"),
        }
    }
}

fn report(node: &str, words: &[&str]) -> Report {
    let list = words.get(2).copied().unwrap_or_default().split(',').filter(|it| !it.is_empty()).map(str::to_owned);
    let (node, service) = (node.to_owned(), Key::new("shop", words[1]));
    match words[0] {
        "l2" => Report::Layer2 { node, service, interfaces: list.collect() },
        "bgp" => Report::Bgp { node, service, peers: list.collect() },
        other => panic!("{other:?}"),
    }
}

fn state(verdict: ConfigurationVerdict) -> Report {
    Report::Configuration { component: Component::Speaker("n1".into()), verdict }
}

fn show(write: &Write) -> String {
    match write {
        Write::Report { object, report, parts } => {
            let parts = if *parts == ReportParts::Whole { "whole" } else { "status" };
            format!("write {} {parts} {}", object.key.name, report.status(TIME))
        }
        Write::ReportGone { object, uid } => format!("delete {} {uid}", object.key.name),
        other => panic!("{other:?}"),
    }
}

fn check(script: &str, expect: Expect) {
    let mut scene = Scene::new();
    let mut said = String::new();
    for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
        let before = scene.writes.len();
        scene.play(line);
        let new = if line == "echo" { &scene.writes[..] } else { &scene.writes[before..] };
        if !new.is_empty() {
            writeln!(said, "> {line}").unwrap();
        }
        for write in new {
            writeln!(said, "{}", show(write)).unwrap();
        }
    }
    expect.assert_eq(&said);
}

#[test]
fn contract_1_9_what_is_said_is_written_once_and_on_change_alone() {
    check(
        "settled
         say l2 web
         say l2 web
         echo
         say l2 web
         say l2 web eth0
         echo
         say bgp web r1
         echo
         say bgp web r1,r2
         echo
         unsay bgp web
         unsay l2 web
         echo
         wait 100",
        expect![[r#"
            > say l2 web
            write l2-shop.web whole {"node":"n1","serviceName":"web","serviceNamespace":"shop"}
            > say l2 web eth0
            write l2-shop.web status {"interfaces":[{"name":"eth0"}],"node":"n1","serviceName":"web","serviceNamespace":"shop"}
            > say bgp web r1
            write bgp-shop.web.n1 whole {"node":"n1","peers":["r1"],"serviceName":"web","serviceNamespace":"shop"}
            > say bgp web r1,r2
            write bgp-shop.web.n1 status {"node":"n1","peers":["r1","r2"],"serviceName":"web","serviceNamespace":"shop"}
            > unsay bgp web
            delete bgp-shop.web.n1 u4
            > unsay l2 web
            delete l2-shop.web u2
        "#]],
    );
}

#[test]
fn contract_1_9_the_state_of_the_configuration_is_written_when_it_changes() {
    check(
        "say state ok
         echo
         say state ok
         say state bad why
         echo
         say state bad why
         say state ok
         echo",
        expect![[r#"
            > say state ok
            write speaker-n1 whole {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","reason":"Reconciled","status":"True","type":"configReconcilerValid"}],"result":"Valid"}
            > say state bad why
            write speaker-n1 status {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"why","reason":"ConfigurationError","status":"False","type":"configReconcilerValid"}],"errorSummary":"why","result":"Invalid"}
            > say state ok
            write speaker-n1 status {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","reason":"Reconciled","status":"True","type":"configReconcilerValid"}],"result":"Valid"}
        "#]],
    );
}

#[test]
fn a_restarted_process_does_not_take_back_what_it_said() {
    check(
        "say state unknown
         echo
         say state ok
         echo
         say state unknown
         say state ok",
        expect![[r#"
            > say state unknown
            write speaker-n1 whole {"result":"Unknown"}
            > say state ok
            write speaker-n1 status {"conditions":[{"lastTransitionTime":"2026-01-01T00:00:00Z","message":"","reason":"Reconciled","status":"True","type":"configReconcilerValid"}],"result":"Valid"}
        "#]],
    );
}

#[test]
fn what_somebody_deleted_or_changed_is_written_again() {
    check(
        "settled
         say bgp web r1
         echo
         gone bgp bgp-shop.web.n1
         echo
         seen bgp bgp-shop.web.n1 web on n1 r9
         echo",
        expect![[r#"
            > say bgp web r1
            write bgp-shop.web.n1 whole {"node":"n1","peers":["r1"],"serviceName":"web","serviceNamespace":"shop"}
            > gone bgp bgp-shop.web.n1
            write bgp-shop.web.n1 whole {"node":"n1","peers":["r1"],"serviceName":"web","serviceNamespace":"shop"}
            > seen bgp bgp-shop.web.n1 web on n1 r9
            write bgp-shop.web.n1 status {"node":"n1","peers":["r1"],"serviceName":"web","serviceNamespace":"shop"}
        "#]],
    );
}

#[test]
fn a_write_without_effect_is_repeated_after_a_while_and_not_before() {
    check(
        "settled
         say bgp web r1
         wait 14
         wait 1
         wait 15
         echo
         wait 100",
        expect![[r#"
            > say bgp web r1
            write bgp-shop.web.n1 whole {"node":"n1","peers":["r1"],"serviceName":"web","serviceNamespace":"shop"}
            > wait 1
            write bgp-shop.web.n1 whole {"node":"n1","peers":["r1"],"serviceName":"web","serviceNamespace":"shop"}
            > wait 15
            write bgp-shop.web.n1 whole {"node":"n1","peers":["r1"],"serviceName":"web","serviceNamespace":"shop"}
        "#]],
    );
}

#[test]
fn contract_12_3_there_is_never_a_second_status_of_a_service_on_the_segment() {
    check(
        "seen l2 l2-abcde web on n2
         seen l2 l2-shop.web web on n3
         say l2 web
         settled
         gone l2 l2-abcde
         gone l2 l2-shop.web
         echo
         seen l2 l2-fghij web on n2",
        expect![[r#"
            > say l2 web
            delete l2-shop.web u2
            > settled
            delete l2-abcde u1
            > gone l2 l2-shop.web
            write l2-shop.web whole {"node":"n1","serviceName":"web","serviceNamespace":"shop"}
            > seen l2 l2-fghij web on n2
            delete l2-fghij u4
        "#]],
    );
}

#[test]
fn contract_1_9_a_speaker_that_does_not_announce_deletes_its_own_alone() {
    check(
        "seen l2 l2-abcde web on n2
         seen l2 l2-fghij web on n1
         seen bgp bgp-abcde web on n2 r1
         seen bgp bgp-fghij web on n1 r1
         settled",
        expect![[r"
            > settled
            delete l2-fghij u2
            delete bgp-fghij u4
        "]],
    );
}

#[test]
fn nothing_is_deleted_before_all_is_said_and_what_is_right_stays_as_it_is() {
    check(
        "seen l2 l2-shop.web web on n1
         seen l2 l2-shop.db db on n1
         say l2 web
         settled",
        expect![[r"
            > settled
            delete l2-shop.db u2
        "]],
    );
}

#[test]
fn nothing_is_written_before_it_is_known_what_is_there_and_whose_it_will_be() {
    let mut book = Book::new("m".into(), Some("n1".into()));
    let mut out = Outbox::with_limit(8);
    for input in [Input::Say(report("n1", &["l2", "web"])), Input::Settled, Input::Owner(String::new())] {
        book.handle(Instant::ZERO, input, &mut out);
        assert!(out.is_empty() && book.next_deadline().is_none());
    }
    book.handle(Instant::ZERO, Input::Listed, &mut out);
    assert_eq!(out.drain().count(), 1);
}

#[test]
fn a_new_pod_becomes_the_owner() {
    check(
        "seen l2 l2-shop.web web on n1 owner pod-0
         say l2 web
         settled
         echo",
        expect![[r#"
            > say l2 web
            write l2-shop.web whole {"node":"n1","serviceName":"web","serviceNamespace":"shop"}
        "#]],
    );
}

#[test]
fn contract_1_9_an_object_without_content_is_filled_in() {
    check(
        "settled
         seen bgp bgp-shop.half.n1 half on n1 r1
         say bgp half r1",
        expect![[r#"
            > seen bgp bgp-shop.half.n1 half on n1 r1
            delete bgp-shop.half.n1 u1
            > say bgp half r1
            write bgp-shop.half.n1 status {"node":"n1","peers":["r1"],"serviceName":"half","serviceNamespace":"shop"}
        "#]],
    );
}

/// Found by the simulator: two nodes that both answer for a Service, each by its own configuration, undid what the other
/// wrote as quickly as the API server allowed.
#[test]
fn two_that_say_the_same_of_themselves_do_not_keep_the_api_server_busy() {
    let mut scene = Scene::new();
    scene.play("settled");
    scene.play("say l2 web");
    let mut writes = 0;
    let mut fight = |scene: &mut Scene, rounds: u32| {
        for _ in 0..rounds {
            for write in std::mem::take(&mut scene.writes) {
                writes += 1;
                scene.play(match write {
                    // The other one has put its own in the place of ours before we saw that.
                    Write::Report { .. } => "seen l2 l2-shop.web web on n2",
                    _ => "gone l2 l2-shop.web",
                });
            }
            scene.now += Duration::from_millis(100);
            scene.tell(Input::Tick);
        }
        std::mem::take(&mut writes)
    };
    let (first, later) = (fight(&mut scene, 600), fight(&mut scene, 6000));
    assert!((8..=14).contains(&first), "{first} writes in the first minute");
    assert!((9..=11).contains(&later), "{later} writes in the ten minutes after it");

    // When the other one gives in, its own goes within a minute, and ours is there within another one.
    for _ in 0..2 {
        scene.play("wait 60");
        scene.echo();
    }
    let ours: Vec<_> = scene.server.values().filter_map(Report::read).collect();
    assert_eq!(ours, [report("n1", &["l2", "web"])]);
}
