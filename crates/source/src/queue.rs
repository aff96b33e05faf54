//! What waits to be written. Pure: it is told the time, and gives back what to write next.
//!
//! - Of one target (the status of one Service, of one pool) only the latest write is kept, and at most one is under
//!   way: writes of a target keep their order.
//! - Statuses go before events.
//! - Of a Service its addresses go first, then the node that they are assigned to, then its condition, and one at a time:
//!   they are written to one object.
//! - A write that fails for a reason of its own is tried again after a while, alone. When the server cannot be reached
//!   or asks for a pause, everything waits, and a single write probes from time to time whether it is back.
//! - Where only one of several processes writes, what waits belongs to a *term* of it, and is forgotten with that.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use api::core::Ingress;
use api::{Condition, Key, ObjectRef, PoolCounters, Report, ReportParts, Write};
use jiff::Timestamp;
use lease::Term;
use tokio::time::Instant;

use crate::backoff::{Backoff, later};
use crate::events::{EventWrite, Events};

/// Statuses that wait to be written; more targets than this are refused and counted. A cluster has fewer Services.
pub(crate) const STATUSES_WAITING_MAX: usize = 131_072;

/// Statuses that are ready to be written, from which on whoever has more should wait: what waits to be decided takes less
/// memory than what waits to be written.
pub(crate) const STATUSES_READY: usize = 256;

/// So much room a queue of the waiting keeps when they are gone.
const ROOM_KEPT: usize = 64;

/// How long a status waits that failed for a reason of its own.
const RETRY: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_mins(1) };
/// How long everything waits when the server cannot be reached. Short enough to be back soon after it.
const PAUSE: Backoff = Backoff { min: Duration::from_millis(250), max: Duration::from_secs(10) };

/// What a status is written to. Of the parts of one Service, the lesser goes before the greater.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Target {
    Service(Key),
    /// The annotation that names the node which the addresses are assigned to.
    Assignment(Key),
    /// Our condition in the status of a Service: another field of another owner than its addresses.
    Condition(Key),
    Pool(Key),
    Report(ObjectRef),
}

impl Target {
    /// What else is written to the same Service.
    fn other_parts(&self) -> Option<[Target; 2]> {
        match self {
            Target::Service(service) => Some([Target::Assignment(service.clone()), Target::Condition(service.clone())]),
            Target::Assignment(service) => Some([Target::Service(service.clone()), Target::Condition(service.clone())]),
            Target::Condition(service) => Some([Target::Service(service.clone()), Target::Assignment(service.clone())]),
            Target::Pool(_) | Target::Report(_) => None,
        }
    }
}

/// A status to write: what [`Write`] is besides events.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Service { service: Key, uid: String, ingress: Vec<Ingress>, pool: Option<String> },
    Assignment { service: Key, uid: String, node: Option<String> },
    Condition { service: Key, uid: String, condition: Option<Condition> },
    Pool { pool: Key, counters: PoolCounters },
    Report { object: ObjectRef, report: Report, parts: ReportParts },
    ReportGone { object: ObjectRef, uid: String },
}

impl Status {
    pub(crate) fn target(&self) -> Target {
        match self {
            Status::Service { service, .. } => Target::Service(service.clone()),
            Status::Assignment { service, .. } => Target::Assignment(service.clone()),
            Status::Condition { service, .. } => Target::Condition(service.clone()),
            Status::Pool { pool, .. } => Target::Pool(pool.clone()),
            Status::Report { object, .. } | Status::ReportGone { object, .. } => Target::Report(object.clone()),
        }
    }
}

/// Something to write now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Job {
    Status(Status),
    Event(EventWrite),
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// It is written.
    Done,
    /// It will never be: the target is gone, or is another one, or the content is not accepted.
    Refused,
    /// It failed for a reason of its own; not before `after`, if the server named a time.
    Later { after: Option<Duration> },
    /// The server did not answer, or cannot take anything now.
    Unreachable { after: Option<Duration> },
}

#[derive(Debug)]
struct Waiting {
    /// The latest one; none while it is under way and no newer one came. Boxed, for a map has room for twice as many as it
    /// holds.
    status: Option<Box<Status>>,
    failures: u32,
    is_under_way: bool,
    /// It is ready and waits for another part of its Service.
    is_held: bool,
}

#[derive(Debug, Default)]
enum Gate {
    #[default]
    Open,
    Closed {
        until: Instant,
        failures: u32,
        is_probing: bool,
    },
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    /// A map that gives back the room of what leaves it: at times there are thousands of targets.
    statuses: BTreeMap<Target, Waiting>,
    ready: VecDeque<Target>,
    /// By the time of the next try; the number keeps equal times apart.
    delayed: BTreeMap<(Instant, u64), Target>,
    delayed_count: u64,
    events: Events,
    gate: Gate,
    statuses_dropped: u64,
    turn: Turn,
}

/// Whether this process writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Always: nobody else does.
    #[default]
    Always,
    /// Not now: what comes is not kept.
    Never,
    /// In this term.
    Term(Term),
}

impl Queue {
    /// Forgets what waits, and what is under way as well; what comes from now on belongs to this turn.
    pub(crate) fn begin(&mut self, turn: Turn) {
        let gate = std::mem::take(&mut self.gate);
        // Its probe is one of those that do not count any more.
        let gate = match gate {
            Gate::Closed { until, failures, .. } => Gate::Closed { until, failures, is_probing: false },
            Gate::Open => Gate::Open,
        };
        *self = Queue { gate, turn, statuses_dropped: self.statuses_dropped, ..Queue::default() };
    }

    /// To which turn belongs what is taken now.
    pub(crate) fn turn(&self) -> Turn {
        self.turn
    }

    /// Takes something to write.
    pub(crate) fn push(&mut self, write: Write, now: Instant, wall: Timestamp) {
        if self.turn == Turn::Never {
            return;
        }
        let status = match write {
            Write::Event(event) => return self.events.push(event, now, wall),
            Write::ServiceStatus { service, uid, ingress, pool } => Status::Service { service, uid, ingress, pool },
            Write::AssignedNode { service, uid, node } => Status::Assignment { service, uid, node },
            Write::ServiceCondition { service, uid, condition } => Status::Condition { service, uid, condition },
            Write::PoolStatus { pool, status: counters } => Status::Pool { pool, counters },
            Write::Report { object, report, parts } => Status::Report { object, report, parts },
            Write::ReportGone { object, uid } => Status::ReportGone { object, uid },
        };
        let target = status.target();
        if let Some(waiting) = self.statuses.get_mut(&target) {
            waiting.status = Some(Box::new(status));
        } else if self.statuses.len() < STATUSES_WAITING_MAX {
            self.ready.push_back(target.clone());
            let status = Some(Box::new(status));
            self.statuses.insert(target, Waiting { status, failures: 0, is_under_way: false, is_held: false });
        } else {
            self.statuses_dropped = self.statuses_dropped.saturating_add(1);
        }
    }

    /// The next thing to write, if there is one for now. Each that is taken comes back through [`Queue::done`].
    pub(crate) fn take(&mut self, now: Instant) -> Option<Job> {
        if let Gate::Closed { until, is_probing, .. } = self.gate
            && (is_probing || now < until)
        {
            return None;
        }
        let job = self.take_status(now).or_else(|| self.events.take(now).map(Job::Event))?;
        if let Gate::Closed { is_probing, .. } = &mut self.gate {
            *is_probing = true;
        }
        Some(job)
    }

    fn take_status(&mut self, now: Instant) -> Option<Job> {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            self.ready.push_back(entry.remove());
        }
        while let Some(target) = self.ready.pop_front() {
            give_back(&mut self.ready);
            let is_held = self.has_to_wait(&target);
            let Some(waiting) = self.statuses.get_mut(&target) else { continue };
            waiting.is_held = is_held;
            if !is_held {
                waiting.is_under_way = true;
                return waiting.status.take().map(|status| Job::Status(*status));
            }
        }
        None
    }

    /// Whether another part of its Service goes first.
    fn has_to_wait(&self, target: &Target) -> bool {
        let goes_first =
            |other: &Target| self.statuses.get(other).is_some_and(|waiting| other < target || waiting.is_under_way);
        target.other_parts().is_some_and(|others| others.iter().any(goes_first))
    }

    /// What became of a write of this turn.
    pub(crate) fn done(&mut self, job: Job, turn: Turn, outcome: Outcome, now: Instant) {
        if turn != self.turn {
            return;
        }
        self.move_gate(outcome, now);
        match job {
            Job::Status(status) => self.status_done(status, outcome, now),
            Job::Event(write) => self.events.done(write, outcome, now),
        }
    }

    fn status_done(&mut self, status: Status, outcome: Outcome, now: Instant) {
        let target = status.target();
        let other_parts = target.other_parts();
        let Some(waiting) = self.statuses.get_mut(&target) else { return };
        waiting.is_under_way = false;
        match outcome {
            Outcome::Done | Outcome::Refused => {
                waiting.failures = 0;
                if waiting.status.is_some() {
                    self.ready.push_back(target);
                } else {
                    self.statuses.remove(&target);
                }
            }
            Outcome::Unreachable { .. } => {
                waiting.status.get_or_insert_with(|| Box::new(status));
                // At the end: a target that is the only one to get no answer must not probe for all of them.
                self.ready.push_back(target);
            }
            Outcome::Later { after } => {
                waiting.status.get_or_insert_with(|| Box::new(status));
                waiting.failures = waiting.failures.saturating_add(1);
                let wait = RETRY.delay(waiting.failures).max(after.unwrap_or_default());
                self.delayed_count = self.delayed_count.wrapping_add(1);
                self.delayed.insert((later(now, wait), self.delayed_count), target);
            }
        }
        for other in other_parts.into_iter().flatten() {
            if let Some(waiting) = self.statuses.get_mut(&other)
                && std::mem::take(&mut waiting.is_held)
            {
                self.ready.push_back(other);
            }
        }
    }

    fn move_gate(&mut self, outcome: Outcome, now: Instant) {
        let Outcome::Unreachable { after } = outcome else {
            self.gate = Gate::Open;
            return;
        };
        let failures = match self.gate {
            Gate::Open => 1,
            Gate::Closed { failures, is_probing: true, .. } => failures.saturating_add(1),
            // One of those that were under way when the gate closed.
            Gate::Closed { is_probing: false, .. } => return,
        };
        let wait = PAUSE.delay(failures).max(after.unwrap_or_default());
        self.gate = Gate::Closed { until: later(now, wait), failures, is_probing: false };
    }

    /// When [`Queue::take`] should be asked again, if nothing else happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let work = if self.ready.is_empty() {
            let delayed = self.delayed.first_key_value().map(|((at, _), _)| *at);
            delayed.into_iter().chain(self.events.next_deadline()).min()
        } else {
            None
        };
        match self.gate {
            Gate::Open => work,
            Gate::Closed { is_probing: true, .. } => None,
            Gate::Closed { until, .. } if self.len() > 0 => Some(work.map_or(until, |at| at.max(until))),
            Gate::Closed { .. } => None,
        }
    }

    /// False while the server is given a pause.
    pub(crate) fn is_open(&self) -> bool {
        matches!(self.gate, Gate::Open)
    }

    /// How many statuses wait for nothing but their turn.
    pub(crate) fn ready(&self) -> usize {
        self.ready.len()
    }

    /// How many writes are waiting or under way.
    pub(crate) fn len(&self) -> usize {
        self.statuses.len().saturating_add(self.events.len())
    }

    /// How many statuses and how many events were dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> (u64, u64) {
        (std::mem::take(&mut self.statuses_dropped), self.events.take_dropped())
    }
}

/// Gives back most of the room that is not used any more, once that is three quarters of all.
pub(crate) fn give_back<T>(queue: &mut VecDeque<T>) {
    if queue.capacity() > ROOM_KEPT && queue.len() < queue.capacity() / 4 {
        queue.shrink_to(queue.capacity() / 2);
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Map;

    use api::core::Ingress;
    use api::{Event, EventType, Kind, ObjectRef, PoolCounters};

    use super::*;

    fn status(service: &str, ip: &str) -> Write {
        Write::ServiceStatus {
            service: Key::new("shop", service),
            uid: "u".to_owned(),
            ingress: vec![Ingress { ip: Some(ip.to_owned()), ..Ingress::default() }],
            pool: None,
        }
    }

    fn node(service: &str) -> Write {
        Write::AssignedNode { service: Key::new("shop", service), uid: "u".to_owned(), node: Some("n1".to_owned()) }
    }

    #[test]
    fn what_waits_for_another_try_takes_no_room() {
        let mut bench = Bench::new();
        for n in 0..STATUSES_READY {
            bench.push(status(&format!("web-{n}"), "10.0.0.1"));
        }
        assert_eq!(bench.queue.ready(), STATUSES_READY);
        assert_eq!(bench.take_all().len(), STATUSES_READY);
        assert_eq!(bench.queue.ready(), 0, "they are under way");
        for _ in 0..STATUSES_READY {
            bench.done(Outcome::Later { after: None });
        }
        assert_eq!((bench.queue.ready(), bench.queue.len()), (0, STATUSES_READY));
        bench.wait(3_600);
        assert_eq!(bench.take_all().len(), STATUSES_READY);
    }

    #[test]
    fn the_room_of_a_crowd_is_given_back() {
        let mut bench = Bench::new();
        for n in 0..4_096 {
            bench.push(status(&format!("web-{n}"), "10.0.0.1"));
        }
        assert!(bench.queue.ready.capacity() >= 4_096);
        bench.take_all();
        assert!(bench.queue.ready.capacity() <= ROOM_KEPT, "{}", bench.queue.ready.capacity());
    }

    fn pool(name: &str) -> Write {
        Write::PoolStatus { pool: Key::new("metallb-system", name), status: PoolCounters::default() }
    }

    fn event(service: &str) -> Write {
        Write::Event(Event {
            object: ObjectRef { kind: Kind::Service, key: Key::new("shop", service) },
            uid: "u".to_owned(),
            type_: EventType::Normal,
            reason: "IPAllocated",
            message: "hello".to_owned(),
        })
    }

    /// A queue with a clock, in words: `web=10.0.0.1` for a status, `pool:p`, `event:web`.
    struct Bench {
        queue: Queue,
        now: Instant,
        under_way: Vec<Job>,
    }

    impl Bench {
        fn new() -> Bench {
            Bench { queue: Queue::default(), now: Instant::now(), under_way: Vec::new() }
        }

        fn push(&mut self, write: Write) {
            self.queue.push(write, self.now, Timestamp::UNIX_EPOCH);
        }

        /// Takes one job and says which.
        fn take(&mut self) -> String {
            let Some(job) = self.queue.take(self.now) else { return "-".to_owned() };
            let text = match &job {
                Job::Status(Status::Service { service, ingress, .. }) => {
                    format!("{}={}", service.name, ingress[0].ip.as_deref().unwrap())
                }
                Job::Status(Status::Pool { pool, .. }) => format!("pool:{}", pool.name),
                Job::Status(Status::Condition { service, .. }) => format!("condition:{}", service.name),
                Job::Status(Status::Assignment { service, .. }) => format!("node:{}", service.name),
                Job::Status(other) => format!("{other:?}"),
                Job::Event(write) => format!("event:{}", write.event.object.key.name),
            };
            self.under_way.push(job);
            text
        }

        fn take_all(&mut self) -> Vec<String> {
            std::iter::repeat_with(|| self.take()).take_while(|text| text != "-").collect()
        }

        /// Finishes the oldest job under way.
        fn done(&mut self, outcome: Outcome) {
            let job = self.under_way.remove(0);
            let turn = self.queue.turn();
            self.queue.done(job, turn, outcome, self.now);
        }

        fn wait(&mut self, seconds: u64) {
            self.now += Duration::from_secs(seconds);
        }
    }

    const LATER: Outcome = Outcome::Later { after: None };
    const AWAY: Outcome = Outcome::Unreachable { after: None };

    #[test]
    fn a_later_status_replaces_the_one_that_waits() {
        let mut bench = Bench::new();
        for write in [status("web", "10.0.0.1"), status("db", "10.0.0.2"), status("web", "10.0.0.3"), pool("p")] {
            bench.push(write);
        }
        assert_eq!(bench.take_all(), ["web=10.0.0.3", "db=10.0.0.2", "pool:p"]);
    }

    #[test]
    fn writes_of_one_target_keep_their_order() {
        let mut bench = Bench::new();
        bench.push(status("web", "10.0.0.1"));
        assert_eq!(bench.take(), "web=10.0.0.1");
        bench.push(status("web", "10.0.0.2"));
        bench.push(status("web", "10.0.0.3"));
        assert_eq!(bench.take(), "-", "the first is still under way");
        bench.done(Outcome::Done);
        assert_eq!(bench.take(), "web=10.0.0.3");
        bench.done(Outcome::Done);
        assert_eq!((bench.take().as_str(), bench.queue.len()), ("-", 0));
    }

    #[test]
    fn a_write_that_failed_does_not_overwrite_a_newer_one() {
        for failure in [LATER, AWAY] {
            let mut bench = Bench::new();
            bench.push(status("web", "10.0.0.1"));
            bench.take();
            bench.push(status("web", "10.0.0.2"));
            bench.done(failure);
            bench.wait(60);
            assert_eq!(bench.take(), "web=10.0.0.2");
            bench.done(Outcome::Done);
            assert_eq!(bench.queue.len(), 0);
        }
    }

    fn condition(service: &str) -> Write {
        Write::ServiceCondition { service: Key::new("shop", service), uid: "u".to_owned(), condition: None }
    }

    #[test]
    fn a_condition_goes_after_the_addresses_of_its_service() {
        for (failures, last) in
            [(&[][..], Outcome::Done), (&[LATER], Outcome::Refused), (&[AWAY, LATER], Outcome::Done)]
        {
            let mut bench = Bench::new();
            bench.push(condition("web"));
            bench.push(status("web", "10.0.0.1"));
            assert_eq!(bench.take_all(), ["web=10.0.0.1"]);
            for failure in failures {
                bench.done(*failure);
                bench.wait(60);
                assert_eq!(bench.take_all(), ["web=10.0.0.1"], "tried again");
            }
            bench.push(status("web", "10.0.0.2"));
            bench.done(Outcome::Done);
            assert_eq!(bench.take_all(), ["web=10.0.0.2"], "there are newer addresses");
            bench.done(last);
            assert_eq!(bench.take_all(), ["condition:web"]);
            bench.done(LATER);
            bench.push(status("web", "10.0.0.3"));
            bench.wait(60);
            assert_eq!(bench.take_all(), ["web=10.0.0.3"], "addresses that came meanwhile go first");
            bench.done(Outcome::Done);
            assert_eq!(bench.take_all(), ["condition:web"]);
            bench.done(Outcome::Done);
            assert_eq!((bench.queue.len(), bench.queue.next_deadline()), (0, None));
        }
    }

    #[test]
    fn the_parts_of_a_service_go_in_their_order_and_one_at_a_time() {
        for outcome in [Outcome::Done, Outcome::Refused] {
            let mut bench = Bench::new();
            for write in [condition("web"), node("web"), status("web", "10.0.0.1"), node("db")] {
                bench.push(write);
            }
            assert_eq!(bench.take_all(), ["web=10.0.0.1", "node:db"]);
            bench.done(outcome);
            assert_eq!(bench.take_all(), ["node:web"]);
            bench.push(status("web", "10.0.0.2"));
            assert_eq!(bench.take_all(), [""; 0], "the node is under way");
            bench.done(outcome);
            bench.done(LATER);
            assert_eq!(bench.take_all(), ["web=10.0.0.2"]);
            bench.done(outcome);
            assert_eq!(bench.take_all(), [""; 0], "the condition waits for the node, which waits to be tried again");
            bench.wait(60);
            assert_eq!(bench.take_all(), ["node:web"]);
            bench.push(node("web"));
            bench.done(outcome);
            assert_eq!(bench.take_all(), ["node:web"], "there is a newer one");
            bench.done(outcome);
            assert_eq!(bench.take_all(), ["condition:web"]);
            bench.done(outcome);
            assert_eq!((bench.queue.len(), bench.queue.next_deadline()), (0, None));
        }
    }

    #[test]
    fn nothing_else_waits_for_a_condition_or_with_it() {
        let mut bench = Bench::new();
        for write in [status("web", "10.0.0.1"), condition("web"), condition("db"), event("web")] {
            bench.push(write);
        }
        assert_eq!(bench.take_all(), ["web=10.0.0.1", "condition:db", "event:web"]);
    }

    #[test]
    fn addresses_wait_for_a_condition_that_is_under_way_and_for_no_other() {
        for outcome in [Outcome::Done, Outcome::Refused, LATER, AWAY] {
            let mut bench = Bench::new();
            bench.push(condition("web"));
            assert_eq!(bench.take_all(), ["condition:web"]);
            bench.push(status("web", "10.0.0.1"));
            bench.push(condition("web"));
            assert_eq!(bench.take_all(), [""; 0]);
            bench.done(outcome);
            bench.wait(60);
            assert_eq!(bench.take_all(), ["web=10.0.0.1"], "{outcome:?}");
            bench.done(Outcome::Done);
            assert_eq!(bench.take_all(), ["condition:web"]);
            bench.done(Outcome::Done);
            assert_eq!((bench.queue.len(), bench.queue.next_deadline()), (0, None));
        }
    }

    #[test]
    fn statuses_go_before_events() {
        let mut bench = Bench::new();
        bench.push(event("web"));
        bench.push(status("web", "10.0.0.1"));
        assert_eq!(bench.take_all(), ["web=10.0.0.1", "event:web"]);
    }

    #[test]
    fn a_target_that_fails_waits_alone() {
        let mut bench = Bench::new();
        bench.push(status("web", "10.0.0.1"));
        bench.take();
        bench.done(LATER);
        bench.push(status("db", "10.0.0.2"));
        assert_eq!(bench.take_all(), ["db=10.0.0.2"]);
        let deadline = bench.queue.next_deadline().unwrap();
        assert!(deadline > bench.now && deadline <= bench.now + RETRY.min);
        bench.now = deadline;
        assert_eq!(bench.take(), "web=10.0.0.1");
    }

    #[test]
    fn waits_grow_and_start_over_after_success() {
        let mut bench = Bench::new();
        bench.push(status("web", "10.0.0.1"));
        let mut waits = Vec::new();
        for _ in 0..12 {
            bench.take();
            bench.done(LATER);
            waits.push(bench.queue.next_deadline().unwrap() - bench.now);
            bench.now = bench.queue.next_deadline().unwrap();
        }
        assert!(waits[0] <= RETRY.min && waits[11] >= RETRY.max / 2, "{waits:?}");
        bench.take();
        bench.push(status("web", "10.0.0.2"));
        bench.done(Outcome::Done);
        bench.take();
        bench.done(LATER);
        assert!(bench.queue.next_deadline().unwrap() - bench.now <= RETRY.min);
    }

    #[test]
    fn the_server_names_the_time_of_the_next_try() {
        let after = Some(Duration::from_mins(5));
        for outcome in [Outcome::Later { after }, Outcome::Unreachable { after }] {
            let mut bench = Bench::new();
            bench.push(status("web", "10.0.0.1"));
            bench.take();
            bench.done(outcome);
            assert_eq!(bench.queue.next_deadline(), Some(bench.now + Duration::from_mins(5)));
            bench.wait(299);
            assert_eq!(bench.take(), "-");
            bench.wait(1);
            assert_eq!(bench.take(), "web=10.0.0.1");
        }
    }

    #[test]
    fn while_the_server_is_away_one_write_probes_and_the_rest_waits() {
        let mut bench = Bench::new();
        for name in ["a", "b", "c", "d"] {
            bench.push(status(name, "10.0.0.1"));
        }
        assert_eq!((bench.take(), bench.take()), ("a=10.0.0.1".to_owned(), "b=10.0.0.1".to_owned()));
        bench.done(AWAY);
        bench.done(AWAY);
        assert!(!bench.queue.is_open());
        assert_eq!(bench.take(), "-");
        for _ in 0..20 {
            bench.now = bench.queue.next_deadline().unwrap();
            assert_eq!(bench.take_all().len(), 1, "one probe");
            assert_eq!(bench.queue.next_deadline(), None, "nothing to do but to wait for the probe");
            bench.done(AWAY);
            assert!(bench.queue.next_deadline().unwrap() - bench.now <= PAUSE.max, "never longer than the limit");
        }
        bench.push(status("a", "10.0.0.9"));
        bench.now = bench.queue.next_deadline().unwrap();
        bench.take();
        bench.done(Outcome::Done);
        assert!(bench.queue.is_open());
        assert_eq!(bench.take_all().len(), 3);
    }

    #[test]
    fn each_probe_is_another_target() {
        let mut bench = Bench::new();
        bench.push(status("stuck", "10.0.0.1"));
        bench.push(status("fine", "10.0.0.2"));
        assert_eq!(bench.take(), "stuck=10.0.0.1");
        bench.done(AWAY);
        bench.wait(60);
        assert_eq!(bench.take(), "fine=10.0.0.2");
        bench.done(Outcome::Done);
        assert_eq!(bench.take(), "stuck=10.0.0.1");
    }

    #[test]
    fn any_answer_opens_the_gate() {
        for outcome in [Outcome::Done, Outcome::Refused, LATER] {
            let mut bench = Bench::new();
            bench.push(status("web", "10.0.0.1"));
            bench.take();
            bench.done(AWAY);
            bench.wait(60);
            bench.take();
            bench.done(outcome);
            assert!(bench.queue.is_open(), "{outcome:?}");
        }
    }

    #[test]
    fn too_many_targets_are_refused_and_counted() {
        let mut bench = Bench::new();
        for n in 0..STATUSES_WAITING_MAX + 2 {
            bench.push(pool(&n.to_string()));
        }
        bench.push(pool("0"));
        assert_eq!(bench.queue.take_dropped(), (2, 0));
        assert_eq!(bench.queue.len(), STATUSES_WAITING_MAX);
    }

    #[test]
    fn random_operations_lose_no_last_write_and_never_overlap() {
        for seed in 0..300 {
            let mut random: u64 = seed;
            let mut below = |n: u64| {
                random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
                (random >> 33) % n
            };
            let mut bench = Bench::new();
            let (mut latest, mut written): (Map<String, String>, Map<String, String>) = Default::default();
            let finish = |bench: &mut Bench, outcome, written: &mut Map<String, String>| {
                if let (Outcome::Done, Job::Status(Status::Service { service, ingress, .. })) =
                    (outcome, &bench.under_way[0])
                {
                    written.insert(service.name.clone(), ingress[0].ip.clone().unwrap());
                }
                bench.done(outcome);
            };
            for step in 0..200 {
                match below(7) {
                    6 => bench.push(node(&format!("s{}", below(4)))),
                    5 => bench.push(condition(&format!("s{}", below(4)))),
                    0 | 1 => {
                        let (name, ip) = (format!("s{}", below(4)), step.to_string());
                        bench.push(status(&name, &ip));
                        latest.insert(name, ip);
                    }
                    2 => {
                        bench.take();
                        let services: std::collections::HashSet<_> = bench
                            .under_way
                            .iter()
                            .map(|job| match job {
                                Job::Status(
                                    Status::Service { service, .. }
                                    | Status::Assignment { service, .. }
                                    | Status::Condition { service, .. },
                                ) => service,
                                Job::Status(_) | Job::Event(_) => panic!(),
                            })
                            .collect();
                        assert_eq!(services.len(), bench.under_way.len(), "two writes of one Service at a time");
                    }
                    3 if !bench.under_way.is_empty() => {
                        let outcome = [Outcome::Done, LATER, AWAY].into_iter().nth(usize::try_from(below(4)).unwrap());
                        let outcome = outcome.unwrap_or(Outcome::Done);
                        finish(&mut bench, outcome, &mut written);
                    }
                    _ => bench.wait(below(3)),
                }
            }
            while bench.queue.len() > 0 {
                bench.wait(60);
                bench.take_all();
                while !bench.under_way.is_empty() {
                    finish(&mut bench, Outcome::Done, &mut written);
                }
            }
            assert_eq!(latest, written, "seed {seed}");
        }
    }
}
