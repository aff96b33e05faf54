//! Every pair of state and input, and what has to hold when several candidates share one record.

use std::fmt::Write as _;

use expect_test::{Expect, expect};
use kit::{Duration, Instant};

use super::*;
use crate::OUTPUTS_PER_INPUT;

const NAME: &str = "c1";
const PROCESS: &str = "p1";

fn at(millis: u64) -> Instant {
    Instant::ZERO + Duration::from_millis(millis)
}

fn record(holder: &str, process: &str, open: &[&str]) -> Record {
    Record {
        holder: holder.to_owned(),
        process: process.to_owned(),
        duration: LEASE,
        renewed: "now".to_owned(),
        open: open.iter().map(|name| Target::new(name)).collect(),
        ..Record::default()
    }
}

fn sighting(version: &str, record: Record) -> Sighting {
    Sighting { version: Version(version.to_owned()), record }
}

/// A candidate with its clock.
struct Bench {
    candidate: Candidate,
    now: u64,
}

impl Bench {
    fn new() -> Bench {
        Bench { candidate: Candidate::new(NAME, PROCESS, 1), now: 0 }
    }

    fn tell(&mut self, input: Input) -> Vec<Output> {
        let mut out = Outbox::with_limit(OUTPUTS_PER_INPUT);
        self.candidate.handle(at(self.now), input, &mut out);
        assert_eq!(out.dropped(), 0);
        out.drain().collect()
    }

    fn wait(&mut self, millis: u64) -> &mut Bench {
        self.now += millis;
        self
    }

    /// Brings a new one into a state.
    fn in_state(state: &str) -> Bench {
        let mut bench = Bench::new();
        bench.tell(Input::Tick);
        let mut steps = |inputs: &[Input]| inputs.iter().for_each(|input| drop(bench.tell(input.clone())));
        let acquired = |open: &[&str]| {
            [Input::Read(Some(sighting("1", record("", "", open)))), Input::Written(Version("2".to_owned()))]
        };
        match state {
            "reading" => {}
            "waiting to read" => steps(&[Input::ReadFailed]),
            "standing by" => steps(&[Input::Read(Some(sighting("1", record("c2", "p2", &["a"]))))]),
            "taking" => steps(&acquired(&[])[..1]),
            "fencing" => steps(&acquired(&["a"])),
            "leading" => steps(&acquired(&[])),
            "renewing" => {
                steps(&acquired(&[]));
                steps(&[Input::Open { term: Term(1), ticket: Ticket(1), target: Target::new("a") }]);
            }
            "unsure" => {
                steps(&acquired(&[]));
                steps(&[Input::Open { term: Term(1), ticket: Ticket(1), target: Target::new("a") }]);
                steps(&[Input::WriteUnanswered]);
            }
            "giving back" => {
                steps(&acquired(&[]));
                steps(&[Input::Release]);
            }
            "gone" => {
                steps(&acquired(&[]));
                steps(&[Input::Release, Input::Written(Version("3".to_owned()))]);
            }
            other => panic!("no state {other}"),
        }
        bench.wait(100);
        bench
    }
}

const STATES: [&str; 10] = [
    "reading",
    "waiting to read",
    "standing by",
    "taking",
    "fencing",
    "leading",
    "renewing",
    "unsure",
    "giving back",
    "gone",
];

fn inputs() -> Vec<(&'static str, Input)> {
    let open = |term, target: &str| Input::Open { term: Term(term), ticket: Ticket(7), target: Target::new(target) };
    vec![
        ("sees it free", Input::Seen(sighting("8", record("", "", &[])))),
        ("reads that it is another's", Input::Read(Some(sighting("8", record("c2", "p2", &["x"]))))),
        ("reads that it is its own", Input::Read(Some(sighting("8", record(NAME, PROCESS, &[]))))),
        ("reads that there is none", Input::Read(None)),
        ("read in vain", Input::ReadFailed),
        ("written", Input::Written(Version("9".to_owned()))),
        ("write refused", Input::WriteRefused),
        ("write unanswered", Input::WriteUnanswered),
        ("open b", open(1, "b")),
        ("open b for an old term", open(0, "b")),
        ("close a", Input::Close { term: Term(1), target: Target::new("a") }),
        ("release", Input::Release),
        ("tick", Input::Tick),
    ]
}

fn words(output: &Output) -> String {
    let names = |targets: &BTreeSet<Target>| targets.iter().map(Target::as_str).collect::<Vec<_>>().join("+");
    match output {
        Output::Read => "read".to_owned(),
        Output::Write { record, over } => {
            let over = over.as_ref().map_or("nothing", |version| version.0.as_str());
            let holder = if record.holder.is_empty() { "nobody" } else { &record.holder };
            format!("write {holder}[{}] over {over}", names(&record.open))
        }
        Output::Opened(tickets) => format!("opened {}", tickets.len()),
        Output::Denied(_) => "denied".to_owned(),
        Output::Fence { targets, .. } => format!("fence {}", names(targets)),
        Output::Lead(term) => format!("LEAD {}", term.0),
        Output::Follow => "FOLLOW".to_owned(),
        Output::Released => "released".to_owned(),
    }
}

fn check(state: &str, expected: &Expect) {
    let mut text = String::new();
    for (name, input) in inputs() {
        let mut bench = Bench::in_state(state);
        let outputs: Vec<String> = bench.tell(input).iter().map(words).collect();
        let leads = if bench.candidate.leads().is_some() { " (leads)" } else { "" };
        if outputs.is_empty() && state != "leading" {
            continue;
        }
        writeln!(text, "{name}: {}{leads}", outputs.join(", ")).unwrap();
    }
    expected.assert_eq(&text);
}

#[test]
fn every_input_in_every_state() {
    let expected: [Expect; STATES.len()] = [
        expect![[r#"
            reads that it is its own: write c1[] over 8
            reads that there is none: write c1[] over nothing
            open b: denied
            open b for an old term: denied
        "#]],
        expect![[r#"
            open b: denied
            open b for an old term: denied
        "#]],
        expect![[r#"
            sees it free: write c1[] over 8
            open b: denied
            open b for an old term: denied
            release: released
        "#]],
        expect![[r#"
            written: LEAD 1 (leads)
            write refused: read
            open b: denied
            open b for an old term: denied
        "#]],
        expect![[r#"
            open b: denied
            open b for an old term: denied
            close a: LEAD 1 (leads)
            release: write nobody[a] over 2
        "#]],
        expect![[r#"
            sees it free:  (leads)
            reads that it is another's:  (leads)
            reads that it is its own:  (leads)
            reads that there is none:  (leads)
            read in vain:  (leads)
            written:  (leads)
            write refused:  (leads)
            write unanswered:  (leads)
            open b: write c1[b] over 2 (leads)
            open b for an old term: denied (leads)
            close a:  (leads)
            release: write nobody[] over 2
            tick:  (leads)
        "#]],
        expect![[r#"
            written: opened 1 (leads)
            write refused: read (leads)
            open b for an old term: denied (leads)
        "#]],
        expect![[r#"
            open b for an old term: denied (leads)
        "#]],
        expect![[r#"
            written: released
            write refused: read
            open b: denied
            open b for an old term: denied
        "#]],
        expect![[r#"
            open b: denied
            open b for an old term: denied
        "#]],
    ];
    for (state, expected) in STATES.iter().zip(&expected) {
        check(state, expected);
    }
}

fn written(bench: &mut Bench, version: &str) -> String {
    bench.tell(Input::Written(Version(version.to_owned()))).iter().map(words).collect::<Vec<_>>().join(", ")
}

#[test]
fn a_record_is_free_when_it_has_not_changed_for_its_duration() {
    let mut bench = Bench::in_state("standing by");
    let deadline = bench.candidate.next_deadline();
    assert_eq!(deadline, Some(at(0) + LEASE), "since it was seen first");
    bench.wait(9_000);
    let mut renewed = record("c2", "p2", &[]);
    renewed.renewed = "later".to_owned();
    bench.tell(Input::Seen(sighting("2", renewed.clone())));
    // Somebody else changes a label: that is no sign of life.
    bench.wait(5_000).tell(Input::Seen(sighting("3", renewed)));
    assert_eq!(bench.candidate.next_deadline(), Some(at(9_100) + LEASE));
    bench.wait(4_999);
    assert!(bench.tell(Input::Tick).is_empty());
    assert_eq!(bench.wait(1).tell(Input::Tick).iter().map(words).collect::<Vec<_>>(), ["write c1[] over 3"]);
    assert_eq!(written(&mut bench, "4"), "LEAD 1");
}

#[test]
fn who_leads_stops_in_time_whatever_it_waits_for() {
    for waits_for in ["nothing", "a renewal", "a read"] {
        let mut bench = Bench::in_state("leading");
        match waits_for {
            "a renewal" => drop(bench.wait(2_500).tell(Input::Tick)),
            "a read" => {
                bench.wait(2_500).tell(Input::Tick);
                bench.tell(Input::WriteUnanswered);
                bench.wait(1_000).tell(Input::Tick);
            }
            _ => {}
        }
        bench.now = GIVE_UP.as_millis() - 1;
        assert!(bench.candidate.leads().is_some(), "{waits_for}");
        assert!(bench.candidate.next_deadline().is_some_and(|deadline| deadline <= at(0) + GIVE_UP), "{waits_for}");
        bench.now = GIVE_UP.as_millis();
        assert!(bench.tell(Input::Tick).contains(&Output::Follow), "{waits_for}");
        assert!(bench.candidate.leads().is_none());
    }
}

#[test]
fn who_wakes_up_late_stops_before_anything_else() {
    for (name, input) in inputs() {
        let mut bench = Bench::in_state("renewing");
        bench.wait(60_000);
        let outputs = bench.tell(input);
        assert_eq!(outputs.first(), Some(&Output::Follow), "{name}");
        assert!(!outputs.iter().any(|output| matches!(output, Output::Opened(_))), "{name}: {outputs:?}");
    }
}

#[test]
fn what_is_open_is_stored_before_it_is_opened_and_inherited() {
    let mut bench = Bench::in_state("renewing");
    assert_eq!(written(&mut bench, "3"), "opened 1");
    // A second one joins, the first one is done; that is stored when there is something to store.
    bench.tell(Input::Close { term: Term(1), target: Target::new("a") });
    let open = Input::Open { term: Term(1), ticket: Ticket(2), target: Target::new("b") };
    assert_eq!(bench.tell(open).iter().map(words).collect::<Vec<_>>(), ["write c1[b] over 3"]);
    assert_eq!(written(&mut bench, "4"), "opened 1");
    let given_back: Vec<_> = bench.tell(Input::Release).iter().map(words).collect();
    assert_eq!(given_back, ["write nobody[b] over 4"], "what has no answer yet is left to the next one");
}

#[test]
fn a_leader_is_ready_when_all_is_fenced() {
    let mut bench = Bench::new();
    bench.tell(Input::Tick);
    bench.tell(Input::Read(Some(sighting("1", record("", "", &["a", "b"])))));
    assert_eq!(written(&mut bench, "2"), "fence a+b");
    let close = |target| Input::Close { term: Term(1), target: Target::new(target) };
    assert!(bench.tell(close("a")).is_empty());
    assert!(bench.candidate.leads().is_none());
    assert_eq!(bench.tell(close("b")), [Output::Lead(Term(1))]);
    assert!(bench.candidate.leads().is_some());
}

#[test]
fn a_restarted_pod_takes_over_from_itself_and_others_wait() {
    for (holder, waits) in [(NAME, false), ("c2", true)] {
        let mut bench = Bench::new();
        bench.tell(Input::Tick);
        let outputs = bench.tell(Input::Read(Some(sighting("1", record(holder, "earlier", &[])))));
        assert_eq!(outputs.is_empty(), waits, "{holder}: {outputs:?}");
    }
}

#[test]
fn no_more_is_open_than_the_record_has_room_for() {
    let mut bench = Bench::in_state("leading");
    let mut denied = 0;
    for number in 0..OPEN_MAX + 10 {
        let target = Target::new(&format!("t{number}"));
        let outputs = bench.tell(Input::Open { term: Term(1), ticket: Ticket(number as u64), target });
        denied += outputs.iter().filter(|output| matches!(output, Output::Denied(_))).count();
        if outputs.iter().any(|output| matches!(output, Output::Write { .. })) {
            bench.tell(Input::Written(Version(format!("v{number}"))));
        }
    }
    assert_eq!(denied, 10);
    let again = Input::Open { term: Term(1), ticket: Ticket(9_999), target: Target::new("t0") };
    assert!(!bench.tell(again).contains(&Output::Denied(Ticket(9_999))), "what is open may be opened again");
}
