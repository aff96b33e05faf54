//! Several candidates, one record, and a network that delays and loses: at no moment do two of them lead, and no write of
//! one that did is accepted once another one leads.
//!
//! Clocks run at different rates, processes pause and restart, requests arrive up to a minute late.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may panic")]

use std::collections::{BTreeMap, BTreeSet};

use kit::{Duration, Instant, Outbox, Rng};
use lease::{Candidate, Input, OUTPUTS_PER_INPUT, Output, Record, Sighting, Target, Term, Ticket, Version};

const CANDIDATES: usize = 3;
const TARGETS: u64 = 4;
const SEEDS: u64 = 150;
/// Of simulated time for each seed.
const RUN: u64 = 240_000_000;
/// Real time is in microseconds; a clock shows so many thousandths of it.
const RATES: [u64; 3] = [1_000, 1_150, 870];

/// What happens at some time. The first number is the candidate, the second its process: what is meant for one that has
/// ended does not arrive.
#[derive(Clone, Debug)]
enum Happening {
    Deadline(usize, u64),
    Arrives(usize, u64, Input),
    /// The answer to a request about the record, or that there is none: only the newest one is waited for.
    Answered(usize, u64, u64, Input),
    /// A request about the record reaches the server.
    Read(usize, u64, u64),
    Store(usize, u64, u64, Record, Option<Version>),
    /// A write to a target reaches the server, or one that only fences it.
    Change(usize, u64, Change),
    /// A process looks for something to write.
    Work(usize, u64),
}

#[derive(Clone, Debug)]
struct Change {
    term: Term,
    target: Target,
    /// `None` for a fence, which is meant for any version.
    version: Option<u64>,
}

struct Process {
    candidate: Candidate,
    number: u64,
    rate: u64,
    paused_until: u64,
    ended: bool,
    /// By ticket: where a write wants to go, and the version known when that was asked.
    wanted: BTreeMap<u64, (Term, Target, u64)>,
    tickets: u64,
    /// The request about the record that is under way.
    request: u64,
    term: Option<Term>,
}

struct World {
    rng: Rng,
    now: u64,
    queue: BTreeMap<(u64, u64), Happening>,
    count: u64,
    processes: Vec<Process>,
    record: Option<(u64, Record)>,
    targets: BTreeMap<Target, u64>,
    versions: u64,
    /// The process whose term began last.
    leader: Option<(usize, u64)>,
    led: BTreeSet<usize>,
    takeovers: u64,
    accepted: u64,
    refused: u64,
    fenced: u64,
}

impl World {
    fn new(seed: u64) -> World {
        let mut world = World {
            rng: Rng::new(seed),
            now: 1,
            queue: BTreeMap::new(),
            count: 0,
            processes: Vec::new(),
            record: None,
            targets: (0..TARGETS).map(|number| (Target::new(&format!("t{number}")), 0)).collect(),
            versions: 1,
            leader: None,
            led: BTreeSet::new(),
            takeovers: 0,
            accepted: 0,
            refused: 0,
            fenced: 0,
        };
        for number in 0..CANDIDATES {
            let process = world.process(number, 0);
            world.processes.push(process);
            world.begin(number);
        }
        world
    }

    fn process(&mut self, candidate: usize, number: u64) -> Process {
        let seed = self.rng.next_u64();
        Process {
            candidate: Candidate::new(&format!("c{candidate}"), &format!("c{candidate}p{number}"), seed),
            number,
            rate: RATES[candidate % RATES.len()],
            paused_until: 0,
            ended: false,
            wanted: BTreeMap::new(),
            tickets: 0,
            request: 0,
            term: None,
        }
    }

    fn begin(&mut self, candidate: usize) {
        let number = self.processes[candidate].number;
        self.later(0, Happening::Deadline(candidate, number));
        self.later(100_000, Happening::Work(candidate, number));
    }

    fn later(&mut self, micros: u64, happening: Happening) {
        self.count += 1;
        self.queue.insert((self.now + micros, self.count), happening);
    }

    /// Nearly always a moment, at times seconds, once in a while a minute.
    fn delay(&mut self) -> u64 {
        match self.rng.below(40) {
            0 => self.rng.below(60_000_000),
            1..=4 => self.rng.below(5_000_000),
            _ => 1_000 + self.rng.below(20_000),
        }
    }

    fn is_lost(&mut self) -> bool {
        self.rng.one_in(25)
    }

    /// The time on a clock.
    fn clock(&self, candidate: usize) -> Instant {
        Instant::ZERO + Duration::from_micros(self.now * self.processes[candidate].rate / 1_000)
    }

    /// What is sent to a candidate, unless it gets lost.
    fn answer(&mut self, happening: Happening) {
        if !self.is_lost() {
            let delay = self.delay();
            self.later(delay, happening);
        }
    }

    fn run(&mut self) {
        while let Some(((at, _), happening)) = self.queue.pop_first() {
            if at > RUN {
                break;
            }
            self.now = at;
            self.happen(happening);
            self.check();
        }
    }

    /// The first invariant.
    fn check(&self) {
        let leads = |candidate: &usize| {
            let process = &self.processes[*candidate];
            !process.ended && process.candidate.leads().is_some_and(|(_, until)| self.clock(*candidate) < until)
        };
        let leading: Vec<usize> = (0..CANDIDATES).filter(leads).collect();
        assert!(leading.len() <= 1, "at {}: {leading:?} lead", self.now);
    }

    fn happen(&mut self, happening: Happening) {
        match happening {
            Happening::Deadline(candidate, process) => self.tell(candidate, process, Input::Tick),
            Happening::Arrives(candidate, process, input) => self.tell(candidate, process, input),
            Happening::Answered(candidate, process, request, input) => {
                if self.processes[candidate].number == process && self.processes[candidate].request == request {
                    self.processes[candidate].request += 1;
                    self.tell(candidate, process, input);
                }
            }
            Happening::Read(candidate, process, request) => {
                let input = Input::Read(self.sighting());
                self.answer(Happening::Answered(candidate, process, request, input));
            }
            Happening::Store(candidate, process, request, record, over) => {
                let input = self.store(record, over.as_ref());
                self.answer(Happening::Answered(candidate, process, request, input));
            }
            Happening::Change(candidate, process, change) => self.change(candidate, process, &change),
            Happening::Work(candidate, process) => self.work(candidate, process),
        }
    }

    fn sighting(&self) -> Option<Sighting> {
        let (version, record) = self.record.clone()?;
        Some(Sighting { version: Version(version.to_string()), record })
    }

    fn store(&mut self, record: Record, over: Option<&Version>) -> Input {
        let is_as_expected =
            self.record.as_ref().map(|(version, _)| version.to_string()) == over.map(|it| it.0.clone());
        if !is_as_expected {
            return Input::WriteRefused;
        }
        self.versions += 1;
        self.record = Some((self.versions, Record { renewed: self.versions.to_string(), ..record }));
        // Watches show it to all, in order or not.
        for watcher in 0..CANDIDATES {
            let (number, seen) = (self.processes[watcher].number, self.sighting().unwrap());
            self.answer(Happening::Arrives(watcher, number, Input::Seen(seen)));
        }
        Input::Written(Version(self.versions.to_string()))
    }

    fn change(&mut self, candidate: usize, process: u64, change: &Change) {
        let Change { term, target, version } = change;
        let now = self.targets[target];
        let is_accepted = version.is_none_or(|version| version == now);
        if is_accepted {
            self.versions += 1;
            self.targets.insert(target.clone(), self.versions);
        }
        match version {
            None => self.fenced += 1,
            Some(_) if is_accepted => {
                // The second invariant.
                assert_eq!(Some((candidate, process)), self.leader, "at {}: {change:?} of another's time", self.now);
                self.accepted += 1;
            }
            Some(_) => self.refused += 1,
        }
        let input = Input::Close { term: *term, target: target.clone() };
        self.answer(Happening::Arrives(candidate, process, input));
    }

    /// A process writes somewhere if it may, pauses, or ends and comes again.
    fn work(&mut self, candidate: usize, process: u64) {
        if self.processes[candidate].number != process {
            return;
        }
        match self.rng.below(400) {
            0 => {
                self.processes[candidate].paused_until = self.now + self.rng.below(40_000_000);
            }
            1 => {
                let next = self.process(candidate, process + 1);
                self.processes[candidate] = next;
                return self.begin(candidate);
            }
            2 => self.tell(candidate, process, Input::Release),
            _ => {}
        }
        let target = Target::new(&format!("t{}", self.rng.below(TARGETS)));
        let version = self.targets[&target];
        let it = &mut self.processes[candidate];
        // One write at a time goes to a target.
        let is_busy = it.wanted.values().any(|(_, busy, _)| *busy == target);
        if let (Some(term), false) = (it.term, is_busy) {
            it.tickets += 1;
            let ticket = it.tickets;
            it.wanted.insert(ticket, (term, target.clone(), version));
            self.tell(candidate, process, Input::Open { term, ticket: Ticket(ticket), target });
        }
        if self.processes[candidate].ended {
            let next = self.process(candidate, process + 1);
            self.processes[candidate] = next;
            return self.begin(candidate);
        }
        let pause = 50_000 + self.rng.below(400_000);
        self.later(pause, Happening::Work(candidate, process));
    }

    fn tell(&mut self, candidate: usize, process: u64, input: Input) {
        let it = &self.processes[candidate];
        if it.number != process {
            return;
        }
        if self.now < it.paused_until {
            let rest = it.paused_until - self.now;
            let happening = Happening::Arrives(candidate, process, input);
            return self.later(rest, happening);
        }
        if let Input::Close { term, target } = &input {
            self.processes[candidate].wanted.retain(|_, (of, wanted, _)| of != term || wanted != target);
        }
        let (now, mut out) = (self.clock(candidate), Outbox::with_limit(OUTPUTS_PER_INPUT));
        self.processes[candidate].candidate.handle(now, input, &mut out);
        assert_eq!(out.dropped(), 0);
        for output in out.drain().collect::<Vec<_>>() {
            self.carry_out(candidate, process, output);
        }
        if let Some(deadline) = self.processes[candidate].candidate.next_deadline() {
            let wait = deadline.since(now).as_micros() * 1_000 / self.processes[candidate].rate + 1;
            self.later(wait, Happening::Deadline(candidate, process));
        }
    }

    /// A request, or after a while that it has no answer.
    fn request(&mut self, candidate: usize, process: u64, request: u64, happening: Happening, no_answer: Input) {
        self.answer(happening);
        self.later(2_000_000, Happening::Answered(candidate, process, request, no_answer));
    }

    fn carry_out(&mut self, candidate: usize, process: u64, output: Output) {
        let request = self.processes[candidate].request;
        match output {
            Output::Read => {
                let read = Happening::Read(candidate, process, request);
                self.request(candidate, process, request, read, Input::ReadFailed);
            }
            Output::Write { record, over } => {
                let store = Happening::Store(candidate, process, request, record, over);
                self.request(candidate, process, request, store, Input::WriteUnanswered);
            }
            Output::Opened(tickets) => {
                for Ticket(ticket) in tickets {
                    let (term, target, version) = self.processes[candidate].wanted[&ticket].clone();
                    let change = Change { term, target, version: Some(version) };
                    let delay = self.delay();
                    self.later(delay, Happening::Change(candidate, process, change));
                }
            }
            Output::Denied(Ticket(ticket)) => {
                self.processes[candidate].wanted.remove(&ticket);
            }
            Output::Fence { term, targets } => {
                for target in targets {
                    let change = Change { term, target, version: None };
                    let delay = self.rng.below(500_000);
                    self.later(delay, Happening::Change(candidate, process, change));
                }
            }
            Output::Lead(term) => {
                self.takeovers += 1;
                self.leader = Some((candidate, process));
                self.led.insert(candidate);
                self.processes[candidate].term = Some(term);
            }
            Output::Follow => {
                self.processes[candidate].term = None;
                self.processes[candidate].wanted.clear();
            }
            Output::Released => {
                self.processes[candidate].term = None;
                self.processes[candidate].ended = true;
            }
        }
    }
}

#[test]
fn two_never_lead_and_no_write_of_a_predecessor_is_accepted() {
    let (mut takeovers, mut accepted, mut refused, mut fenced, mut led) = (0, 0, 0, 0, BTreeSet::new());
    for seed in 0..SEEDS {
        let mut world = World::new(seed);
        world.run();
        takeovers += world.takeovers;
        accepted += world.accepted;
        refused += world.refused;
        fenced += world.fenced;
        led.append(&mut world.led);
    }
    // The runs are worth something.
    assert_eq!(led.len(), CANDIDATES);
    assert!(takeovers > SEEDS * 4, "{takeovers} takeovers");
    assert!(accepted > SEEDS * 100, "{accepted} writes accepted");
    assert!(refused > 50 && fenced > 50, "{refused} writes refused, {fenced} targets fenced");
}
