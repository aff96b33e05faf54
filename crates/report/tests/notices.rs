//! Conditions that are written, kept and taken away, as scenarios: one line is one input.
//!
//! ```text
//! seen web [REASON MESSAGE]        the Service is there and shows this; `seen web uid=2` is another of the name
//! wrong web REASON MESSAGE [5]     and how many seconds it may take to heal; `others web ...` if others tell it too
//! idle web REASON MESSAGE [5]      the same where others heal first
//! another                          another Service was idle and is well
//! spared                           another one was idle and is none of our business any more
//! well web | gone web | forget
//! undo                             somebody took the condition away
//! wait 5                           seconds pass
//! echo                             the API server does and shows what was asked for
//! ```

#![allow(clippy::arithmetic_side_effects, clippy::panic, clippy::unwrap_used, clippy::indexing_slicing)]

use std::fmt::Write as _;

use api::{Condition, Key, Write};
use expect_test::{Expect, expect};
use kit::{Duration, Instant, Outbox};
use proptest::prelude::*;
use report::{Healing, Notice, Notices, Notification, TURN_MAX, ToldBy};

struct Scene {
    notices: Notices,
    now: Instant,
    /// What the API server has, and what it was asked to have.
    shown: Option<Condition>,
    asked: Vec<Option<Condition>>,
    uid: String,
    /// It was said last that the Service is well.
    is_well: bool,
    /// How many conditions and events were written.
    conditions: usize,
    events: usize,
}

const REASONS: [&str; 3] = ["NoEndpoints", "NoAdvertisement", "NoPeer"];

impl Scene {
    fn new() -> Scene {
        Scene {
            notices: Notices::new(),
            now: Instant::ZERO + Duration::from_secs(100),
            shown: None,
            asked: Vec::new(),
            uid: "1".to_owned(),
            is_well: false,
            conditions: 0,
            events: 0,
        }
    }

    fn play(&mut self, script: &str) -> String {
        script.lines().map(str::trim).map(|line| self.line(line)).collect()
    }

    fn line(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = || Key::new("shop", "web");
        let input = match words.as_slice() {
            ["seen", "web", rest @ ..] => {
                match rest {
                    [uid] => self.uid = uid.trim_start_matches("uid=").to_owned(),
                    [reason, message] => self.shown = Some(condition(reason, message)),
                    _ => {}
                }
                self.seen()
            }
            [who @ ("wrong" | "others" | "idle"), "web", reason, message, rest @ ..] => {
                let seconds = rest.first().map_or(5, |text| text.parse().unwrap());
                let notice = Notice {
                    reason: REASONS.into_iter().find(|known| known == reason).unwrap(),
                    message: (*message).into(),
                    patience: Duration::from_secs(seconds),
                    healing: if *who == "idle" { Healing::InTurn } else { Healing::Alone },
                    told_by: if *who == "others" { ToldBy::Others } else { ToldBy::Us },
                };
                Notification::Wrong { service: key(), uid: self.uid.clone(), notice }
            }
            ["another"] => {
                let service = Key::new("shop", "another");
                let wrong = Notification::Wrong { service: service.clone(), uid: "9".to_owned(), notice: idle() };
                assert_eq!(self.tell(wrong), [""; 0]);
                assert_eq!(self.tell(Notification::Well(service)), [""; 0]);
                return String::new();
            }
            ["spared"] => {
                let service = Key::new("shop", "spared");
                let wrong = Notification::Wrong { service: service.clone(), uid: "8".to_owned(), notice: idle() };
                assert_eq!(self.tell(wrong), [""; 0]);
                assert_eq!(self.tell(Notification::NotOurs(service)), [""; 0]);
                return String::new();
            }
            ["well", "web"] => Notification::Well(key()),
            ["gone", "web"] => Notification::Gone(key()),
            ["forget"] => Notification::Forget,
            ["undo"] => {
                self.shown = None;
                self.seen()
            }
            ["wait", seconds] => {
                self.now += Duration::from_secs(seconds.parse().unwrap());
                Notification::Tick
            }
            ["echo"] => {
                for asked in std::mem::take(&mut self.asked) {
                    self.shown = asked.map(|condition| condition.at("2026-01-01T00:00:00Z"));
                }
                self.seen()
            }
            _ => panic!("not a line of the language: {line:?}"),
        };
        let shows = matches!(&input, Notification::Seen { condition: Some(_), .. });
        match &input {
            Notification::Well(_) | Notification::NotOurs(_) => self.is_well = true,
            Notification::Wrong { .. } | Notification::Gone(_) | Notification::Forget => self.is_well = false,
            Notification::Seen { .. } | Notification::Tick => {}
        }
        let mut said = String::new();
        let again = (shows && self.is_well).then(|| Notification::Well(key()));
        for write in [input].into_iter().chain(again).flat_map(|input| self.tell(input)) {
            writeln!(said, "{line}: {write}").unwrap();
        }
        said
    }

    fn seen(&self) -> Notification {
        Notification::Seen { service: Key::new("shop", "web"), uid: self.uid.clone(), condition: self.shown.clone() }
    }

    fn tell(&mut self, input: Notification) -> Vec<String> {
        let mut out = Outbox::with_limit(2);
        let mut said = Vec::new();
        self.notices.handle(self.now, input, &mut out);
        loop {
            for write in out.drain() {
                said.push(match write {
                    Write::ServiceCondition { uid, condition, .. } => {
                        self.conditions += 1;
                        self.asked.push(condition.clone());
                        let text = condition.map(|it| {
                            format!("{} {} {} {:?}", it.status, it.reason, it.message, it.last_transition_time)
                        });
                        format!("condition of {uid}: {}", text.as_deref().unwrap_or("none"))
                    }
                    Write::Event(event) => {
                        self.events += 1;
                        format!("event {} {} of {}: {}", event.type_.as_str(), event.reason, event.uid, event.message)
                    }
                    other => panic!("{other:?}"),
                });
            }
            if self.notices.next_deadline().is_none_or(|due| due > self.now) {
                return said;
            }
            self.notices.handle(self.now, Notification::Tick, &mut out);
        }
    }
}

/// What is told of a Service that a speaker has still to write about.
fn idle() -> Notice {
    Notice {
        reason: "SpeakerIdle",
        message: "idle".into(),
        patience: Duration::from_secs(20),
        healing: Healing::InTurn,
        told_by: ToldBy::Us,
    }
}

fn condition(reason: &str, message: &str) -> Condition {
    Condition {
        type_: api::ANNOUNCED.to_owned(),
        status: "False".to_owned(),
        observed_generation: None,
        last_transition_time: "2025-01-01T00:00:00Z".to_owned(),
        reason: reason.to_owned(),
        message: message.to_owned(),
    }
}

fn check(script: &str, expect: Expect) {
    expect.assert_eq(&Scene::new().play(script));
}

#[test]
fn what_heals_in_time_is_not_told() {
    check(
        "seen web
         wrong web NoAdvertisement a
         wait 4
         well web
         wait 60
         wrong web NoAdvertisement a
         wait 4
         gone web
         wait 60",
        expect![""],
    );
}

#[test]
fn what_stays_wrong_is_one_condition_and_one_event_until_it_is_well() {
    check(
        "seen web
         wrong web NoAdvertisement a
         wait 5
         echo
         wrong web NoAdvertisement a
         wait 600
         well web
         echo
         wait 600",
        expect![[r#"
            wait 5: condition of 1: False NoAdvertisement a ""
            wait 5: event Warning notAnnounced of 1: a
            well web: condition of 1: none
        "#]],
    );
}

#[test]
fn the_time_begins_with_the_first_fault_and_the_last_is_told() {
    check(
        "seen web
         wrong web NoEndpoints a 20
         wait 4
         wrong web NoAdvertisement b
         wait 1
         echo
         wrong web NoPeer c
         wait 4
         wrong web NoPeer d
         wait 1
         echo
         wrong web NoPeer e
         wait 5
         echo",
        expect![[r#"
            wait 1: condition of 1: False NoAdvertisement b ""
            wait 1: event Warning notAnnounced of 1: b
            wait 1: condition of 1: False NoPeer d "2026-01-01T00:00:00Z"
            wait 1: event Warning notAnnounced of 1: d
            wait 5: condition of 1: False NoPeer e "2026-01-01T00:00:00Z"
        "#]],
    );
}

#[test]
fn what_others_tell_is_a_condition_alone() {
    check(
        "seen web
         others web NoEndpoints a
         wait 5
         echo
         wrong web NoPeer b
         wait 5",
        expect![[r#"
            wait 5: condition of 1: False NoEndpoints a ""
            wait 5: condition of 1: False NoPeer b "2026-01-01T00:00:00Z"
            wait 5: event Warning notAnnounced of 1: b
        "#]],
    );
}

#[test]
fn a_restart_writes_nothing_again() {
    check(
        "seen web NoEndpoints a
         wait 60
         wrong web NoEndpoints a
         wait 60
         wrong web NoEndpoints b
         wait 5
         echo
         well web
         wait 5",
        expect![[r#"
            wait 5: condition of 1: False NoEndpoints b "2025-01-01T00:00:00Z"
            wait 5: condition of 1: none
        "#]],
    );
}

#[test]
fn who_undoes_it_is_answered_from_time_to_time() {
    check(
        "seen web
         wrong web NoPeer a
         wait 5
         echo
         undo
         wait 9
         undo
         wait 1
         undo
         echo
         undo
         wait 14
         wait 1",
        expect![[r#"
            wait 5: condition of 1: False NoPeer a ""
            wait 5: event Warning notAnnounced of 1: a
            wait 14: condition of 1: False NoPeer a ""
        "#]],
    );
}

/// A Service that comes and goes, as with a backend that crashes on and on: what is written is bounded by the pace, and what
/// heals in time is never told.
#[test]
fn flapping_costs_a_condition_in_each_pace_and_an_event_in_each_patience_at_most() {
    for (seconds_wrong, seconds_well) in [(1, 1), (4, 1), (5, 1), (6, 1), (6, 4), (7, 20)] {
        let mut scene = Scene::new();
        scene.line("seen web");
        let began = scene.now;
        for _ in 0..100 {
            scene.line("wrong web NoEndpoints a 5");
            for _ in 0..seconds_wrong {
                scene.line("wait 1");
                scene.line("echo");
            }
            scene.line("well web");
            for _ in 0..seconds_well {
                scene.line("wait 1");
                scene.line("echo");
            }
        }
        let passed = scene.now.since(began).as_micros();
        let paces = usize::try_from(passed / report::PACE.as_micros()).unwrap();
        assert!(scene.conditions <= paces + 1, "{} in {paces} paces", scene.conditions);
        assert!(scene.events <= scene.conditions, "{} events, {} conditions", scene.events, scene.conditions);
        if seconds_wrong < 5 {
            assert_eq!((scene.conditions, scene.events), (0, 0));
        }
    }
}

#[test]
fn a_write_that_is_lost_is_repeated_and_another_service_is_another() {
    check(
        "seen web
         wrong web NoPeer a
         wait 5
         wait 14
         wait 1
         seen web uid=2
         wait 60
         wrong web NoPeer a
         wait 5
         forget
         wait 60
         wrong web NoPeer a
         wait 5",
        expect![[r#"
            wait 5: condition of 1: False NoPeer a ""
            wait 5: event Warning notAnnounced of 1: a
            wait 1: condition of 1: False NoPeer a ""
            wait 5: condition of 2: False NoPeer a ""
            wait 5: event Warning notAnnounced of 2: a
            wait 5: condition of 2: False NoPeer a ""
            wait 5: event Warning notAnnounced of 2: a
        "#]],
    );
}

/// A server that refuses every write, or cannot be reached, is asked less and less often, until it does as it is told.
#[test]
fn what_has_no_effect_is_repeated_after_longer_and_longer_pauses() {
    let mut scene = Scene::new();
    let mut times = |script: &str, seconds: u64| -> Vec<u64> {
        scene.play(script);
        let began = scene.now;
        let mut times = Vec::new();
        for second in 1..=seconds {
            let before = scene.conditions;
            scene.line("wait 1");
            if scene.conditions > before {
                assert_eq!(scene.now.since(began), Duration::from_secs(second));
                times.push(second);
            }
        }
        times
    };
    assert_eq!(
        times("seen web\nwrong web NoPeer a", 3000),
        [5, 20, 50, 110, 230, 470, 950, 1550, 2150, 2750],
        "a fault"
    );
    assert_eq!(times("wrong web NoPeer b", 40), [15], "another text was asked for at once");
    assert_eq!(times("echo\nundo", 60), [30], "it had an effect for once, and was asked for at once");
    assert_eq!(times("echo\nwell web", 60), [15, 45], "it is taken away");
}

#[test]
fn while_others_heal_in_turn_nobody_is_told() {
    check(
        "seen web
         idle web NoPeer a 20
         wait 19
         another
         wait 19
         another
         wait 19
         wait 1",
        expect![[r#"
            wait 1: condition of 1: False NoPeer a ""
            wait 1: event Warning notAnnounced of 1: a
        "#]],
    );
    // One that is not ours any more shows nothing of the others.
    check(
        "seen web
         idle web NoPeer a 20
         wait 19
         spared
         wait 1",
        expect![[r#"
            wait 1: condition of 1: False NoPeer a ""
            wait 1: event Warning notAnnounced of 1: a
        "#]],
    );
    // What does not heal in turn is told in its time, and moves nobody else.
    check(
        "seen web
         wrong web NoPeer a 20
         wait 19
         another
         wait 1",
        expect![[r#"
            wait 1: condition of 1: False NoPeer a ""
            wait 1: event Warning notAnnounced of 1: a
        "#]],
    );
    // Whoever follows knows of no turns.
    check(
        "seen web
         another
         forget
         idle web NoPeer a 20
         wait 20",
        expect![[r#"
            wait 20: condition of 1: False NoPeer a ""
            wait 20: event Warning notAnnounced of 1: a
        "#]],
    );
}

/// 5,000 Services that nobody seems to announce, and an API server that takes two and a half minutes over the status objects
/// that say who does. The last one is never announced.
#[test]
fn a_backlog_of_status_objects_tells_nobody_and_who_is_left_is_told() {
    const SERVICES: u64 = 5_000;
    let mut notices = Notices::new();
    let mut out = Outbox::with_limit(2);
    let begin = Instant::ZERO + Duration::from_secs(100);
    let key = |number: u64| Key::new("shop", format!("web-{number}"));
    for number in 0..SERVICES {
        let wrong = Notification::Wrong { service: key(number), uid: number.to_string(), notice: idle() };
        notices.handle(begin, wrong, &mut out);
    }
    let mut now = begin;
    for number in 0..SERVICES - 1 {
        now += Duration::from_millis(30);
        notices.handle(now, Notification::Tick, &mut out);
        notices.handle(now, Notification::Well(key(number)), &mut out);
        assert!(out.is_empty(), "{:?} after {number} of {SERVICES}", out.pop());
    }
    assert!(now.since(begin) > idle().patience.times(7));
    let due = std::iter::from_fn(|| {
        let due = notices.next_deadline()?;
        notices.handle(due, Notification::Tick, &mut out);
        out.is_empty().then_some(due)
    });
    assert!(due.last().is_some_and(|last| last <= now + idle().patience));
    assert_eq!(out.drain().count(), 2, "the condition and the event of the last one");
}

fn lines() -> impl Strategy<Value = String> {
    let reason = prop::sample::select(REASONS.to_vec());
    prop_oneof![
        (reason, 0_u8..3, prop::sample::select(vec![5, 20]))
            .prop_map(|(reason, message, time)| format!("wrong web {reason} {message} {time}")),
        Just("well web".to_owned()),
        Just("echo".to_owned()),
        Just("undo".to_owned()),
        Just("forget".to_owned()),
        Just("another".to_owned()),
        prop::sample::select(vec![5, 20]).prop_map(|time| format!("idle web NoPeer idle {time}")),
        (1_u8..30).prop_map(|seconds| format!("wait {seconds}")),
    ]
}

proptest! {
    /// However others heal, a fault is told when none has for as long as its patience, or at the end of all patience.
    #[test]
    fn a_fault_that_heals_in_turn_is_told_after_its_patience_or_at_the_end(
        pauses in prop::collection::vec(1_u64..25, 0..60),
        patience in prop::sample::select(vec![5_u64, 20, 400]),
    ) {
        let mut scene = Scene::new();
        scene.line("seen web");
        scene.line(&format!("idle web NoPeer a {patience}"));
        let begin = scene.now;
        let (mut healed, mut due) = (0, patience);
        for pause in &pauses {
            if healed + pause >= due {
                break;
            }
            healed += pause;
            due = (healed + patience).min(patience.max(TURN_MAX.as_micros() / 1_000_000));
        }
        let mut passed = 0;
        for is_last in pauses.iter().flat_map(|pause| (1..=*pause).map(move |at| at == *pause)).chain([false; 500]) {
            let said = scene.line("wait 1");
            passed += 1;
            prop_assert_eq!(scene.now.since(begin), Duration::from_secs(passed));
            prop_assert_eq!(said.is_empty(), passed < due, "{} s: {:?}, due after {} s", passed, said, due);
            if passed >= due {
                return Ok(());
            }
            if is_last {
                scene.line("another");
            }
        }
        prop_assert!(false, "it was never told, and should have been after {} s", due);
    }

    /// Whatever happened, it comes to rest at what was said last, and at rest nothing is written.
    #[test]
    fn it_settles_at_what_was_said_last(script in prop::collection::vec(lines(), 0..40), is_well: bool) {
        let mut scene = Scene::new();
        scene.line("seen web");
        for line in &script {
            scene.line(line);
        }
        scene.line(if is_well { "well web" } else { "wrong web NoPeer last" });
        for _ in 0..4 {
            scene.line("wait 20");
            scene.line("echo");
        }
        let shown = scene.shown.as_ref().map(|condition| (condition.reason.as_str(), condition.message.as_str()));
        prop_assert_eq!(shown, if is_well { None } else { Some(("NoPeer", "last")) });
        let before = (scene.conditions, scene.events);
        for _ in 0..4 {
            scene.line("wait 20");
            scene.line("echo");
        }
        prop_assert_eq!((scene.conditions, scene.events), before);
        prop_assert_eq!(scene.notices.next_deadline(), None);
    }
}
