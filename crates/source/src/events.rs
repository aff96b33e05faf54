//! Events on their way out: the same event again raises a count instead of making another object, and no more leave
//! than the API server should have to take.
//!
//! Pure: it is told the time, and gives back what to write. A *series* is one event (object, reason, message) with its
//! repeats; of a series at most one write is under way, and repeats that come meanwhile are counted in the next one.

use std::collections::{BTreeMap, VecDeque};
use std::hash::{BuildHasher, RandomState};
use std::time::Duration;

use api::Event;
use jiff::Timestamp;
use tokio::time::Instant;

use crate::backoff::{Backoff, later};
use crate::queue::{Outcome, give_back};

/// Repeats within this time after the last one raise the count; later ones start over.
pub(crate) const SERIES_WINDOW: Duration = Duration::from_mins(10);
/// Series remembered for their repeats.
pub(crate) const SERIES_MAX: usize = 16_384;
/// Events that wait to be written; more are dropped and counted.
pub(crate) const EVENTS_WAITING_MAX: usize = 16_384;
/// The time between two events in the long run: 50 a second. A cluster's nodes share one API server.
const EVENT_SPACING: Duration = Duration::from_millis(20);
/// Events at once after a quiet time.
const EVENTS_BURST: u32 = 250;
/// Tries of one write, after which the event is dropped: events are talk, not state.
const TRIES_MAX: u32 = 8;
/// The longest message an event may have, in bytes (Kubernetes refuses more than 1,024).
const MESSAGE_BYTES_MAX: usize = 1_024;
/// The longest name of an object, in bytes.
const NAME_BYTES_MAX: usize = 253;

const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(1) };

/// One event to write, with its repeats.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct EventWrite {
    /// Which series it belongs to.
    series: u64,
    pub(crate) event: Event,
    /// The name of the event object: the same for all writes of a series.
    pub(crate) name: String,
    /// How often it happened.
    pub(crate) count: u32,
    pub(crate) first: Timestamp,
    pub(crate) last: Timestamp,
    /// Whether the event object was written before.
    pub(crate) is_repeat: bool,
}

/// What is known of a series.
#[derive(Debug)]
struct Series {
    /// The event, while it waits to be written; boxed, for most series are at rest.
    event: Option<Box<Event>>,
    count: u32,
    /// The count that was written last; 0 for none.
    written: u32,
    failures: u32,
    first: Timestamp,
    last: Timestamp,
    last_seen: Instant,
    is_busy: bool,
    nonce: u64,
}

#[derive(Debug)]
pub(crate) struct Events {
    hasher: RandomState,
    /// A map that gives back the room of what leaves it: at times there are thousands of series.
    series: BTreeMap<u64, Series>,
    waiting: VecDeque<u64>,
    delayed: VecDeque<(Instant, u64)>,
    /// The theoretical arrival time of the generic cell rate algorithm: how far the allowance is used up.
    allowance_used_until: Option<Instant>,
    in_flight: usize,
    dropped: u64,
}

impl Default for Events {
    fn default() -> Self {
        Events {
            hasher: RandomState::new(),
            series: BTreeMap::new(),
            waiting: VecDeque::new(),
            delayed: VecDeque::new(),
            allowance_used_until: None,
            in_flight: 0,
            dropped: 0,
        }
    }
}

impl Events {
    /// Takes an event, or the repeat of one.
    pub(crate) fn push(&mut self, mut event: Event, now: Instant, wall: Timestamp) {
        truncate(&mut event.message, MESSAGE_BYTES_MAX);
        let id = self.hasher.hash_one((&event.object, &event.uid, event.type_, event.reason, &event.message));
        if let Some(series) = self.series.get_mut(&id)
            && (series.is_busy || now.saturating_duration_since(series.last_seen) < SERIES_WINDOW)
        {
            series.count = series.count.saturating_add(1);
            series.last = wall;
            series.last_seen = now;
            if series.is_busy {
                return;
            }
            series.is_busy = true;
            series.event = Some(Box::new(event));
            self.waiting.push_back(id);
            return;
        }
        if self.len() >= EVENTS_WAITING_MAX {
            self.dropped = self.dropped.saturating_add(1);
            return;
        }
        self.forget_some(now);
        let series = Series {
            event: Some(Box::new(event)),
            count: 1,
            written: 0,
            failures: 0,
            first: wall,
            last: wall,
            last_seen: now,
            is_busy: true,
            nonce: self.hasher.hash_one((id, wall.as_nanosecond())),
        };
        self.series.insert(id, series);
        self.waiting.push_back(id);
    }

    /// The next event to write, if one may leave now. Each that is taken comes back through [`Events::done`].
    pub(crate) fn take(&mut self, now: Instant) -> Option<EventWrite> {
        self.wake_delayed(now);
        if self.allowed_from().is_some_and(|from| now < from) {
            return None;
        }
        let id = self.waiting.pop_front()?;
        give_back(&mut self.waiting);
        let series = self.series.get_mut(&id)?;
        let event = *series.event.take()?;
        let used_until = self.allowance_used_until.map_or(now, |until| until.max(now));
        self.allowance_used_until = Some(later(used_until, EVENT_SPACING));
        self.in_flight = self.in_flight.saturating_add(1);
        Some(EventWrite {
            series: id,
            name: object_name(&event.object.key.name, series.nonce),
            count: series.count,
            first: series.first,
            last: series.last,
            is_repeat: series.written > 0,
            event,
        })
    }

    /// What became of a write.
    pub(crate) fn done(&mut self, write: EventWrite, outcome: Outcome, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        let Some(series) = self.series.get_mut(&write.series) else { return };
        match outcome {
            Outcome::Done => {
                series.written = write.count;
                series.failures = 0;
                if series.count > series.written {
                    series.event = Some(Box::new(write.event));
                    self.waiting.push_back(write.series);
                } else {
                    series.is_busy = false;
                }
            }
            Outcome::Refused => {
                self.series.remove(&write.series);
            }
            Outcome::Unreachable { .. } => {
                series.event = Some(Box::new(write.event));
                self.waiting.push_back(write.series);
            }
            Outcome::Later { after } => {
                series.failures = series.failures.saturating_add(1);
                if series.failures >= TRIES_MAX {
                    self.series.remove(&write.series);
                    self.dropped = self.dropped.saturating_add(1);
                } else {
                    let wait = RETRY.delay(series.failures).max(after.unwrap_or_default());
                    series.event = Some(Box::new(write.event));
                    self.delayed.push_back((later(now, wait), write.series));
                }
            }
        }
    }

    /// When [`Events::take`] should be asked again, if nothing else happens.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let allowed = if self.waiting.is_empty() { None } else { self.allowed_from() };
        allowed.into_iter().chain(self.delayed.iter().map(|(at, _)| *at)).min()
    }

    /// How many are waiting or under way.
    pub(crate) fn len(&self) -> usize {
        self.waiting.len().saturating_add(self.delayed.len()).saturating_add(self.in_flight)
    }

    /// How many were dropped since the last call.
    pub(crate) fn take_dropped(&mut self) -> u64 {
        std::mem::take(&mut self.dropped)
    }

    /// From when on another one may leave.
    fn allowed_from(&self) -> Option<Instant> {
        self.allowance_used_until.and_then(|until| until.checked_sub(EVENT_SPACING.saturating_mul(EVENTS_BURST)))
    }

    fn wake_delayed(&mut self, now: Instant) {
        let mut still_delayed = VecDeque::new();
        for (at, id) in self.delayed.drain(..) {
            if at <= now {
                self.waiting.push_back(id);
            } else {
                still_delayed.push_back((at, id));
            }
        }
        self.delayed = still_delayed;
    }

    /// Makes room for a series: those whose window has passed go first, then all that are at rest.
    fn forget_some(&mut self, now: Instant) {
        if self.series.len() < SERIES_MAX {
            return;
        }
        self.series
            .retain(|_, series| series.is_busy || now.saturating_duration_since(series.last_seen) < SERIES_WINDOW);
        if self.series.len() >= SERIES_MAX {
            self.series.retain(|_, series| series.is_busy);
        }
    }
}

/// The name of an event object: that of the object it is about, and something that no other event has.
fn object_name(object: &str, nonce: u64) -> String {
    let suffix = format!(".{nonce:016x}");
    let mut name = object.to_owned();
    truncate(&mut name, NAME_BYTES_MAX.saturating_sub(suffix.len()));
    name.push_str(&suffix);
    name
}

/// Cuts text to at most this many bytes, between two characters.
fn truncate(text: &mut String, bytes_max: usize) {
    if text.len() > bytes_max {
        let end = (0..=bytes_max).rev().find(|at| text.is_char_boundary(*at)).unwrap_or(0);
        text.truncate(end);
    }
}

#[cfg(test)]
mod tests {
    use api::{EventType, Key, Kind, ObjectRef};

    use super::*;

    fn event(service: &str, message: &str) -> Event {
        Event {
            object: ObjectRef { kind: Kind::Service, key: Key::new("shop", service) },
            uid: "u".to_owned(),
            type_: EventType::Normal,
            reason: "IPAllocated",
            message: message.to_owned(),
        }
    }

    fn wall(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    fn now() -> Instant {
        Instant::now()
    }

    #[test]
    fn a_repeat_raises_the_count_of_the_same_object() {
        let (mut events, start) = (Events::default(), now());
        events.push(event("web", "hello"), start, wall(1));
        let first = events.take(start).unwrap();
        assert_eq!((first.count, first.is_repeat, first.last), (1, false, wall(1)));
        assert_eq!(events.take(start), None);
        events.done(first.clone(), Outcome::Done, start);

        events.push(event("web", "hello"), start, wall(2));
        let second = events.take(start).unwrap();
        assert_eq!((second.count, second.is_repeat), (2, true));
        assert_eq!((second.first, second.last), (wall(1), wall(2)));
        assert_eq!(second.name, first.name);
    }

    #[test]
    fn other_objects_reasons_and_messages_are_other_series() {
        let (mut events, start) = (Events::default(), now());
        let another_reason = Event { reason: "AllocationFailed", ..event("web", "hello") };
        let another_uid = Event { uid: "v".to_owned(), ..event("web", "hello") };
        for each in [event("web", "hello"), event("web", "bye"), event("db", "hello"), another_reason, another_uid] {
            events.push(each, start, wall(1));
        }
        let names: std::collections::BTreeSet<_> =
            std::iter::from_fn(|| events.take(start)).map(|write| (write.count, write.name)).collect();
        assert_eq!(names.len(), 5);
        assert!(names.iter().all(|(count, _)| *count == 1));
    }

    #[test]
    fn repeats_while_a_write_is_under_way_are_written_once_after_it() {
        let (mut events, start) = (Events::default(), now());
        events.push(event("web", "hello"), start, wall(1));
        let first = events.take(start).unwrap();
        for second in 2..=40 {
            events.push(event("web", "hello"), start, wall(second));
        }
        assert_eq!(events.take(start), None, "one write of a series at a time");
        events.done(first, Outcome::Done, start);
        let repeat = events.take(start).unwrap();
        assert_eq!((repeat.count, repeat.last), (40, wall(40)));
        events.done(repeat, Outcome::Done, start);
        assert_eq!(events.len(), 0);
    }

    #[test]
    fn after_the_window_a_new_object_is_made() {
        let (mut events, start) = (Events::default(), now());
        events.push(event("web", "hello"), start, wall(1));
        let first = events.take(start).unwrap();
        events.done(first.clone(), Outcome::Done, start);
        let much_later = start + SERIES_WINDOW;
        events.push(event("web", "hello"), much_later, wall(601));
        let second = events.take(much_later).unwrap();
        assert_eq!((second.count, second.is_repeat), (1, false));
        assert_ne!(second.name, first.name);
    }

    #[test]
    fn events_leave_at_a_limited_rate_after_a_burst() {
        let (mut events, start) = (Events::default(), now());
        for n in 0..1_000 {
            events.push(event(&format!("web-{n}"), "hello"), start, wall(1));
        }
        let drain = |events: &mut Events, at| std::iter::from_fn(|| events.take(at)).count();
        let at_once = drain(&mut events, start);
        assert!((EVENTS_BURST as usize..=EVENTS_BURST as usize + 1).contains(&at_once), "{at_once}");
        let deadline = events.next_deadline().unwrap();
        assert!(deadline > start && deadline <= start + Duration::from_millis(20));
        assert_eq!(drain(&mut events, start + EVENT_SPACING * 100), 100);
    }

    #[test]
    fn a_full_queue_drops_and_says_so() {
        let (mut events, start) = (Events::default(), now());
        for n in 0..EVENTS_WAITING_MAX + 3 {
            events.push(event(&format!("web-{n}"), "hello"), start, wall(1));
        }
        assert_eq!(events.take_dropped(), 3);
        assert_eq!(events.take_dropped(), 0);
        assert_eq!(events.len(), EVENTS_WAITING_MAX);
    }

    #[test]
    fn the_memory_for_repeats_is_bounded() {
        let (mut events, mut at) = (Events::default(), now());
        for n in 0..SERIES_MAX * 2 {
            events.push(event(&format!("web-{n}"), "hello"), at, wall(1));
            at += Duration::from_millis(20);
            while let Some(write) = events.take(at) {
                events.done(write, Outcome::Done, at);
            }
            assert!(events.series.len() <= SERIES_MAX);
        }
    }

    #[test]
    fn a_write_that_keeps_failing_is_dropped_in_the_end() {
        let (mut events, mut at) = (Events::default(), now());
        events.push(event("web", "hello"), at, wall(1));
        let mut tries = 0;
        while let Some(write) = events.take(at) {
            tries += 1;
            events.done(write, Outcome::Later { after: None }, at);
            at += RETRY.max;
        }
        assert_eq!(tries, TRIES_MAX);
        assert_eq!((events.len(), events.take_dropped()), (0, 1));
    }

    #[test]
    fn an_unreachable_server_costs_no_tries() {
        let (mut events, start) = (Events::default(), now());
        events.push(event("web", "hello"), start, wall(1));
        for _ in 0..TRIES_MAX * 2 {
            let write = events.take(start).unwrap();
            events.done(write, Outcome::Unreachable { after: None }, start);
        }
        assert_eq!(events.len(), 1);
    }

    #[test]
    fn a_refused_event_starts_over_with_its_next_repeat() {
        let (mut events, start) = (Events::default(), now());
        events.push(event("web", "hello"), start, wall(1));
        let write = events.take(start).unwrap();
        events.done(write, Outcome::Refused, start);
        assert_eq!(events.len(), 0);
        events.push(event("web", "hello"), start, wall(2));
        assert!(!events.take(start).unwrap().is_repeat);
    }

    #[test]
    fn long_messages_and_names_are_cut_between_characters() {
        let (mut events, start) = (Events::default(), now());
        events.push(event(&"n".repeat(253), &"ü".repeat(600)), start, wall(1));
        let write = events.take(start).unwrap();
        assert_eq!(write.event.message.len(), 1_024);
        assert_eq!(write.name.len(), 253);
    }
}
