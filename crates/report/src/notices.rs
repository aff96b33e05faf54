//! What is wrong with Services, told where people look: one condition and one event each.
//!
//! [`Notices`] knows what should be said of each Service and which condition it shows, and leaves in its outbox what has to
//! be written. It says nothing of what heals by itself soon enough, and nothing of a Service that is well: then the
//! condition goes. Why something is wrong is decided elsewhere.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{Condition, Event, EventType, Key, KeyText, Kind, ObjectRef, Write};
use kit::{Duration, Instant, Outbox, TimerTable};

/// Two writes of one condition are at least this far apart, whoever undoes the first.
pub const PACE: Duration = Duration::from_secs(5);

/// How long after it began a fault is told that heals in turn, whoever heals meanwhile.
pub const TURN_MAX: Duration = Duration::from_secs(300);

/// The longest pause between two writes of the same, if the first shows no effect: the API server may refuse it on and on.
const REPEAT_MAX: Duration = Duration::from_secs(600);

/// The reason of the event.
const NOT_ANNOUNCED: &str = "notAnnounced";

/// The longest text, in bytes: that of an event (Kubernetes refuses more than 1,024).
const MESSAGE_BYTES_MAX: usize = 1_024;

/// What is wrong with a Service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notice {
    /// A word that programs read, in CamelCase.
    pub reason: &'static str,
    /// A sentence that people read: what it is, and what to do.
    pub message: Arc<str>,
    /// How long it may take to heal by itself.
    pub patience: Duration,
    /// Whether others heal first.
    pub healing: Healing,
    /// Whether an event tells it too.
    pub told_by: ToldBy,
}

/// How a fault heals by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Healing {
    /// Whatever becomes of others.
    Alone,
    /// As others do, one after the other, so that its turn may still come while they do. The patience begins anew each time
    /// that one of them is well, but ends [`TURN_MAX`] after the fault began.
    InTurn,
}

/// Who tells of it in an event.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ToldBy {
    /// Nobody else: it is told here.
    Us,
    /// Whoever found it.
    Others,
}

/// What the notices are told.
#[derive(Clone, Debug)]
pub enum Notification {
    /// The Service is there and shows this condition, if any. If it does, whether it is well has to be told after that, even
    /// if that was told before: nothing is remembered of those that are well and show nothing.
    Seen {
        /// The Service.
        service: Key,
        /// Its uid.
        uid: String,
        /// Its condition [`api::ANNOUNCED`].
        condition: Option<Condition>,
    },
    /// The Service is gone.
    Gone(Key),
    /// This is wrong with the Service.
    Wrong {
        /// The Service.
        service: Key,
        /// Its uid.
        uid: String,
        /// What it is.
        notice: Notice,
    },
    /// All is well with the Service.
    Well(Key),
    /// It is none of our business: there is nothing to say of it, and it says nothing of others.
    NotOurs(Key),
    /// Nobody knows any more what is wrong with any Service: what they show stays as it is.
    Forget,
    /// The deadline has come.
    Tick,
}

/// The notices of one process.
#[derive(Debug, Default)]
pub struct Notices {
    /// Those of which there is anything to remember: nearly all Services are well and show nothing.
    services: BTreeMap<KeyText, Box<Entry>>,
    dirty: BTreeSet<KeyText>,
    timers: TimerTable<KeyText>,
    /// When a fault that heals in turn was healed last.
    healed: Option<Instant>,
}

/// What is remembered of a Service.
#[derive(Debug, Default)]
struct Entry {
    uid: Box<str>,
    /// Boxed, as is what was written: for most it is only a matter of patience.
    shown: Option<Box<Condition>>,
    /// None while nobody has said.
    verdict: Option<Verdict>,
    written: Option<Box<Written>>,
    /// The reason that the last event had.
    told: &'static str,
}

/// The last write that was asked for.
#[derive(Debug)]
struct Written {
    at: Instant,
    condition: Option<Condition>,
    /// How often the same was asked for before, without effect.
    repeats: u32,
}

#[derive(Clone, Debug)]
enum Verdict {
    Well,
    Wrong {
        notice: Notice,
        /// Since when what is shown is not what should be.
        since: Instant,
    },
}

impl Verdict {
    fn heals_in_turn(&self) -> bool {
        matches!(self, Verdict::Wrong { notice, .. } if notice.healing == Healing::InTurn)
    }
}

impl Notice {
    /// When it is told, if it should be since then and one was last healed in turn at that time.
    fn due(&self, since: Instant, healed: Option<Instant>) -> Instant {
        match (self.healing, healed) {
            // A later turn is found out when this time has come, so that one that heals costs nothing at all others.
            (Healing::InTurn, Some(healed)) => {
                (since.max(healed) + self.patience).min(since + TURN_MAX.max(self.patience))
            }
            (Healing::InTurn, None) | (Healing::Alone, _) => since + self.patience,
        }
    }
}

/// What to do about a Service.
enum Step {
    Nothing,
    /// There is nothing to remember of it.
    Forget,
    Wait(Instant),
    Write(Option<Condition>),
}

impl Notices {
    /// No notices.
    pub fn new() -> Self {
        Notices::default()
    }

    /// Takes in one thing and leaves in `out` what has to be written.
    pub fn handle(&mut self, now: Instant, input: Notification, out: &mut Outbox<Write>) {
        match input {
            Notification::Seen { service, uid, condition } => self.seen(KeyText::from(&service), &uid, condition),
            Notification::Gone(service) => {
                let service = KeyText::from(&service);
                self.services.remove(&service);
                self.dirty.remove(&service);
                self.timers.clear(&service);
            }
            Notification::Wrong { service, uid, notice } => self.wrong(now, KeyText::from(&service), &uid, notice),
            Notification::Well(service) => {
                let service = KeyText::from(&service);
                let entry = self.services.get(&service);
                if entry.and_then(|entry| entry.verdict.as_ref()).is_some_and(Verdict::heals_in_turn) {
                    self.healed = Some(now);
                }
                self.nothing_wrong(service);
            }
            Notification::NotOurs(service) => self.nothing_wrong(KeyText::from(&service)),
            Notification::Forget => {
                self.services.retain(|_, entry| {
                    (entry.verdict, entry.written, entry.told) = (None, None, "");
                    entry.shown.is_some()
                });
                self.dirty.clear();
                (self.timers, self.healed) = (TimerTable::new(), None);
            }
            Notification::Tick => {}
        }
        while let Some(service) = self.timers.pop_expired(now) {
            self.dirty.insert(service);
        }
        self.work(now, out);
    }

    /// When [`Notification::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.dirty.is_empty() { self.timers.next_deadline() } else { Some(Instant::ZERO) }
    }

    /// How many Services show what is wrong with them, by reason: for the metrics. Costs O(n) in the number of Services.
    pub fn told(&self) -> BTreeMap<&'static str, u64> {
        let mut numbers = BTreeMap::new();
        for entry in self.services.values() {
            if let Some(Verdict::Wrong { notice, .. }) = &entry.verdict
                && entry.shown.is_some()
            {
                let number: &mut u64 = numbers.entry(notice.reason).or_default();
                *number = number.saturating_add(1);
            }
        }
        numbers
    }

    fn nothing_wrong(&mut self, service: KeyText) {
        if let Some(entry) = self.services.get_mut(&service) {
            (entry.verdict, entry.told) = (Some(Verdict::Well), "");
            self.dirty.insert(service);
        }
    }

    fn seen(&mut self, service: KeyText, uid: &str, condition: Option<Condition>) {
        if condition.is_none() && !self.services.contains_key(&service) {
            return;
        }
        let entry = Entry::of(&mut self.services, &service, uid);
        if entry.shown.as_deref() != condition.as_ref() {
            if let Some(written) = entry.written.as_deref_mut().filter(|written| written.says(condition.as_ref())) {
                written.repeats = 0;
            }
            entry.shown = condition.map(Box::new);
        }
        self.dirty.insert(service);
    }

    fn wrong(&mut self, now: Instant, service: KeyText, uid: &str, notice: Notice) {
        let entry = Entry::of(&mut self.services, &service, uid);
        let since = match &entry.verdict {
            // What is said changes; since when it should be said does not.
            Some(Verdict::Wrong { since, notice: before }) if !says(entry.shown.as_deref(), before) => *since,
            Some(Verdict::Wrong { .. } | Verdict::Well) | None => now,
        };
        entry.verdict = Some(Verdict::Wrong { notice, since });
        self.dirty.insert(service);
    }

    fn work(&mut self, now: Instant, out: &mut Outbox<Write>) {
        // A condition and an event.
        while out.room() >= 2 {
            let Some(service) = self.dirty.pop_first() else { return };
            self.settle(now, service, out);
        }
    }

    fn settle(&mut self, now: Instant, service: KeyText, out: &mut Outbox<Write>) {
        let Some(entry) = self.services.get_mut(&service) else { return };
        match entry.step(now, self.healed) {
            Step::Nothing => self.timers.clear(&service),
            Step::Forget => {
                self.timers.clear(&service);
                self.services.remove(&service);
            }
            Step::Wait(until) => self.timers.set(service, until),
            Step::Write(condition) => {
                let before = entry.written.as_deref().filter(|written| written.says(condition.as_ref()));
                let repeats = before.map_or(0, |written| written.repeats.saturating_add(1));
                let written = Written { at: now, condition: condition.clone(), repeats };
                let again = now + written.pause();
                entry.written = Some(Box::new(written));
                out.push(Write::ServiceCondition { service: service.key(), uid: entry.uid.to_string(), condition });
                if let Some(Verdict::Wrong { notice, .. }) = &entry.verdict
                    && entry.told != notice.reason
                {
                    entry.told = notice.reason;
                    // Before a restart, it was told by whoever wrote the condition.
                    let is_shown = entry.shown.as_ref().is_some_and(|shown| shown.reason == notice.reason);
                    if notice.told_by == ToldBy::Us && !is_shown {
                        out.push(Write::Event(event(service.key(), &entry.uid, notice)));
                    }
                }
                // A write that shows no effect is repeated: another writer may have undone it unseen.
                self.timers.set(service, again);
            }
        }
    }
}

impl Written {
    /// Whether this is what was asked for, besides its time.
    fn says(&self, condition: Option<&Condition>) -> bool {
        self.condition.as_ref().map(content) == condition.map(content)
    }

    /// How long its effect is waited for, before the same is asked for again.
    fn pause(&self) -> Duration {
        crate::RECHECK.times(1_u64.checked_shl(self.repeats).unwrap_or(u64::MAX)).min(REPEAT_MAX)
    }
}

impl Entry {
    /// What is remembered of the Service of this name and uid, from now on; nothing of an earlier one of the name.
    fn of<'a>(services: &'a mut BTreeMap<KeyText, Box<Entry>>, service: &KeyText, uid: &str) -> &'a mut Entry {
        let entry = services.entry(service.clone()).or_default();
        if *entry.uid != *uid {
            **entry = Entry { uid: uid.into(), ..Entry::default() };
        }
        entry
    }

    fn step(&self, now: Instant, healed: Option<Instant>) -> Step {
        let (condition, due) = match &self.verdict {
            None | Some(Verdict::Well) if self.shown.is_none() => return self.rest(now),
            None => return Step::Nothing,
            Some(Verdict::Well) => (None, now),
            Some(Verdict::Wrong { notice, .. }) if says(self.shown.as_deref(), notice) => return Step::Nothing,
            Some(Verdict::Wrong { notice, since }) => (Some(self.condition(notice)), notice.due(*since, healed)),
        };
        let paced = self
            .written
            .as_deref()
            .map(|written| written.at + if written.says(condition.as_ref()) { written.pause() } else { PACE });
        let due = paced.map_or(due, |paced| due.max(paced));
        if due > now { Step::Wait(due) } else { Step::Write(condition) }
    }

    /// It shows nothing, as it should: how lately something was written is all that counts.
    fn rest(&self, now: Instant) -> Step {
        let until = self.written.as_deref().map(|written| written.at + written.pause());
        until.filter(|until| *until > now).map_or(Step::Forget, Step::Wait)
    }

    fn condition(&self, notice: &Notice) -> Condition {
        // Its time is that of the last change of its status, by convention, and not of its reason.
        let since = self.shown.as_ref().filter(|shown| shown.status == "False");
        Condition {
            type_: api::ANNOUNCED.to_owned(),
            status: "False".to_owned(),
            observed_generation: None,
            last_transition_time: since.map(|shown| shown.last_transition_time.clone()).unwrap_or_default(),
            reason: notice.reason.to_owned(),
            message: text(notice).to_owned(),
        }
    }
}

/// What a condition says besides its time.
fn content(condition: &Condition) -> (&str, &str, &str) {
    (&condition.status, &condition.reason, &condition.message)
}

/// Whether a condition says what a notice does.
fn says(shown: Option<&Condition>, notice: &Notice) -> bool {
    shown.is_some_and(|shown| content(shown) == ("False", notice.reason, text(notice)))
}

fn text(notice: &Notice) -> &str {
    let end = notice.message.floor_char_boundary(MESSAGE_BYTES_MAX);
    notice.message.get(..end).unwrap_or_default()
}

fn event(service: Key, uid: &str, notice: &Notice) -> Event {
    Event {
        object: ObjectRef { kind: Kind::Service, key: service },
        uid: uid.to_owned(),
        type_: EventType::Warning,
        reason: NOT_ANNOUNCED,
        message: text(notice).to_owned(),
    }
}
