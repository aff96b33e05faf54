//! What is to be said, what is said, and the difference.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::{ConfigurationVerdict, KeyText, Kind, Object, ObjectRef, Report, ReportParts, Write};
use kit::{Duration, Instant, Outbox, TimerTable};

/// A write that showed no effect is repeated after this time: another writer may have undone it unseen.
pub const RECHECK: Duration = Duration::from_secs(15);

/// Writes of one object that may follow each other closely. Another node that goes by another configuration, or is of
/// another memberlist, says that the Service is its own, and each would undo what the other wrote without end.
const HASTY_WRITES: u32 = 6;
/// The pause after as many, which doubles with each further one.
const PAUSE: Duration = Duration::from_secs(1);
/// The longest pause.
const PAUSE_MAX: Duration = Duration::from_secs(60);
/// After this time without a write all is forgotten.
const CALM: Duration = Duration::from_secs(120);

/// What one input may leave in the outbox at most, besides what waits for the next tick.
pub const OUTPUTS_PER_INPUT: usize = 64;

/// What the book is told.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an input is made, handled and dropped; a box would cost more than the copy"
)]
pub enum Input {
    /// This is to be said from now on, in place of what the same object said before.
    Say(Report),
    /// This is to be said no more; what the report says besides its kind, node and Service does not matter.
    Unsay(Report),
    /// An object is there, or says something else than before.
    Seen(Object),
    /// An object is gone.
    Gone(ObjectRef),
    /// Who owns the objects: the uid of the pod, empty outside of one.
    Owner(String),
    /// Somebody else writes from now on, until the owner is told again.
    Resigned,
    /// All objects that are there have been seen.
    Listed,
    /// All that is to be said at the start has been said: what is left over from before may go.
    Settled,
    /// The deadline has come.
    Tick,
}

/// Reports of one process.
#[derive(Debug)]
pub struct Book {
    namespace: String,
    /// The uid of the pod that owns the objects, empty for none. Nothing is written before it is known.
    owner: Option<String>,
    /// Boxed, for a map has room for twice as many as it holds.
    pages: BTreeMap<Name, Box<Page>>,
    /// ServiceL2Statuses that are there, by Service: at most one may be.
    layer2: BTreeMap<KeyText, Vec<Name>>,
    /// The node whose reports are ours; none for the controller.
    node: Option<String>,
    dirty: BTreeSet<Name>,
    timers: TimerTable<Name>,
    /// All that is to be said at the start has been said.
    said: bool,
    /// All objects that are there have been seen.
    listed: bool,
}

/// What an object is called, in tables of thousands.
type Name = (Kind, KeyText);

fn name_of(object: &ObjectRef) -> Name {
    (object.kind, KeyText::from(&object.key))
}

fn reference((kind, text): &Name) -> ObjectRef {
    ObjectRef { kind: *kind, key: text.key() }
}

/// One object. There are as many as Services; what is wanted, asked for and seen is the same for nearly all, and kept once.
#[derive(Debug, Default)]
struct Page {
    wanted: Option<Arc<Report>>,
    seen: Option<Seen>,
    /// What was asked for and has not been seen yet.
    asked: Option<Box<Ask>>,
    pace: Pace,
}

/// How often an object was written lately.
#[derive(Clone, Copy, Debug, Default)]
struct Pace {
    writes: u32,
    last: Instant,
}

impl Pace {
    /// When the next write may be.
    fn due(self) -> Instant {
        let Some(doublings) = self.writes.checked_sub(HASTY_WRITES) else { return Instant::ZERO };
        self.last + PAUSE.times(1_u64.checked_shl(doublings).unwrap_or(u64::MAX)).min(PAUSE_MAX)
    }

    fn count(&mut self, now: Instant) {
        let so_far = if now.since(self.last) >= CALM { 0 } else { self.writes };
        (self.writes, self.last) = (so_far.saturating_add(1), now);
    }
}

#[derive(Debug)]
struct Seen {
    uid: Box<str>,
    /// What it says; none if that is not what would be written here for anything.
    report: Option<Arc<Report>>,
    /// The labels that count here, as lines `key=value`: a map for three would be mostly room.
    labels: Box<str>,
    owners: Box<[Box<str>]>,
}

/// The labels by which the objects are looked up.
const LABELS: [&str; 5] = [
    api::STATUS_NODE,
    api::STATUS_SERVICE_NAME,
    api::STATUS_SERVICE_NAMESPACE,
    api::STATUS_COMPONENT,
    api::STATUS_CONFIGURATION_NODE,
];

impl Seen {
    /// What an object of the API says. Is it what is wanted, that is not kept twice.
    fn of(object: &Object, wanted: Option<&Arc<Report>>) -> Self {
        let metadata = object.metadata();
        let labels = metadata.labels.iter().filter(|(key, _)| LABELS.contains(&key.as_str()));
        let labels: Vec<&str> = labels.flat_map(|(key, value)| [key, "=", value, "\n"]).collect();
        let report = Report::read(object);
        Seen {
            uid: metadata.uid.as_str().into(),
            report: report.map(|report| wanted.filter(|it| ***it == report).cloned().unwrap_or_else(|| report.into())),
            labels: labels.concat().into(),
            owners: metadata.owner_references.iter().map(|owner| owner.uid.as_str().into()).collect(),
        }
    }

    fn label(&self, key: &str) -> Option<&str> {
        self.labels.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix('='))
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Ask {
    Write(Arc<Report>, ReportParts),
    Delete(Box<str>),
}

impl Book {
    /// An empty book for objects in this namespace. `node` is the speaker's, none for the controller.
    pub fn new(namespace: String, node: Option<String>) -> Self {
        Book {
            namespace,
            owner: None,
            pages: BTreeMap::new(),
            layer2: BTreeMap::new(),
            node,
            dirty: BTreeSet::new(),
            timers: TimerTable::new(),
            said: false,
            listed: false,
        }
    }

    /// Takes in one thing and leaves in `out` what has to be written.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Outbox<Write>) {
        match input {
            Input::Say(report) => self.say(report),
            Input::Unsay(report) => {
                let object = name_of(&report.object(&self.namespace));
                if let Some(page) = self.pages.get_mut(&object) {
                    page.wanted = None;
                    self.dirty.insert(object);
                }
            }
            Input::Seen(object) => self.seen(&object),
            Input::Gone(object) => self.gone(name_of(&object)),
            Input::Owner(uid) => {
                self.owner = Some(uid);
                self.dirty.extend(self.pages.keys().cloned());
            }
            Input::Resigned => {
                self.owner = None;
                self.timers = TimerTable::new();
                self.pages.values_mut().for_each(|page| page.asked = None);
            }
            Input::Listed => self.listed = true,
            Input::Settled => {
                self.said = true;
                self.dirty.extend(self.pages.keys().cloned());
            }
            Input::Tick => {
                while let Some(object) = self.timers.pop_expired(now) {
                    if let Some(page) = self.pages.get_mut(&object) {
                        page.asked = None;
                        self.dirty.insert(object);
                    }
                }
            }
        }
        self.work(now, out);
    }

    /// When [`Input::Tick`] is due: the origin while work is left over.
    pub fn next_deadline(&self) -> Option<Instant> {
        if self.may_write() && !self.dirty.is_empty() { Some(Instant::ZERO) } else { self.timers.next_deadline() }
    }

    /// Before all this is known, a write may turn out not to have been needed.
    fn may_write(&self) -> bool {
        self.listed && self.owner.is_some()
    }

    fn say(&mut self, report: Report) {
        let object = name_of(&report.object(&self.namespace));
        let of_service = report.service().filter(|_| object.0 == Kind::ServiceL2Status);
        let others = of_service.and_then(|service| self.layer2.get(&service.into()));
        self.dirty.extend(others.into_iter().flatten().cloned());
        let page = self.pages.entry(object.clone()).or_default();
        let seen = page.seen.as_ref().and_then(|seen| seen.report.clone()).filter(|seen| **seen == report);
        page.wanted = Some(seen.unwrap_or_else(|| report.into()));
        self.dirty.insert(object);
    }

    fn seen(&mut self, object: &Object) {
        let name = name_of(&object.reference());
        let page = self.pages.entry(name.clone()).or_default();
        let seen = Seen::of(object, page.wanted.as_ref());
        let service = layer2_service(&name, &seen);
        page.seen = Some(seen);
        if let Some(service) = service {
            let objects = self.layer2.entry((&service).into()).or_default();
            if !objects.contains(&name) {
                objects.reserve_exact(1);
                objects.push(name.clone());
            }
        }
        self.dirty.insert(name);
    }

    fn gone(&mut self, name: Name) {
        let Some(page) = self.pages.get_mut(&name) else { return };
        let seen = page.seen.take();
        page.asked = None;
        if let Some(service) = seen.and_then(|seen| layer2_service(&name, &seen))
            && let Some(objects) = self.layer2.get_mut(&(&service).into())
        {
            objects.retain(|object| *object != name);
            if objects.is_empty() {
                self.layer2.remove(&(&service).into());
            }
            // What this one stood in the way of may be written now.
            let ours = Report::Layer2 { node: String::new(), service, interfaces: Vec::new() };
            self.dirty.insert(name_of(&ours.object(&self.namespace)));
        }
        self.dirty.insert(name);
    }

    fn work(&mut self, now: Instant, out: &mut Outbox<Write>) {
        if !self.may_write() {
            return;
        }
        for _ in 0..OUTPUTS_PER_INPUT {
            if out.room() == 0 {
                return;
            }
            let Some(object) = self.dirty.pop_first() else { return };
            self.settle(now, object, out);
        }
    }

    /// Brings one object nearer to what it should be, by one write at most.
    fn settle(&mut self, now: Instant, object: Name, out: &mut Outbox<Write>) {
        let ask = self.needed(&object).map(Box::new);
        let pacer = self.pacer(&object);
        let due = self.pages.get(&pacer).map_or(Instant::ZERO, |page| page.pace.due());
        let Some(page) = self.pages.get_mut(&object) else { return };
        if page.asked != ask && ask.is_some() && now < due {
            page.asked = None;
            self.timers.set(object, due);
            return;
        }
        if page.asked != ask {
            match ask.as_deref() {
                Some(Ask::Write(report, parts)) => {
                    let report = Report::clone(report);
                    out.push(Write::Report { object: reference(&object), report, parts: *parts });
                    self.timers.set(object.clone(), now + RECHECK);
                }
                Some(Ask::Delete(uid)) => {
                    out.push(Write::ReportGone { object: reference(&object), uid: uid.to_string() });
                    self.timers.set(object.clone(), now + RECHECK);
                }
                None => self.timers.clear(&object),
            }
            let is_write = ask.is_some();
            page.asked = ask;
            if let Some(pacer) = self.pages.get_mut(&pacer).filter(|_| is_write) {
                pacer.pace.count(now);
            }
        }
        let Some(page) = self.pages.get(&object) else { return };
        if page.wanted.is_none() && page.seen.is_none() {
            self.pages.remove(&object);
            self.timers.clear(&object);
        }
    }

    /// The object whose writes count: our own for all that say who answers for a Service.
    fn pacer(&self, object: &Name) -> Name {
        let seen = self.pages.get(object).and_then(|page| page.seen.as_ref());
        match (&self.node, seen.and_then(|seen| layer2_service(object, seen))) {
            (Some(node), Some(service)) => {
                let ours = Report::Layer2 { node: node.clone(), service, interfaces: Vec::new() };
                name_of(&ours.object(&self.namespace))
            }
            _ => object.clone(),
        }
    }

    /// What has to be written for one object now.
    fn needed(&self, object: &Name) -> Option<Ask> {
        let page = self.pages.get(object)?;
        match (&page.wanted, &page.seen) {
            (None, None) => None,
            (Some(wanted), None) => {
                self.has_room(object, wanted).then(|| Ask::Write(wanted.clone(), ReportParts::Whole))
            }
            (None, Some(seen)) => self.is_to_go(object, seen).then(|| Ask::Delete(seen.uid.clone())),
            (Some(wanted), Some(seen)) => {
                // The node in its status can never change (contract 1.9): an object of another's has to go first.
                let node = seen.report.as_ref().map_or(seen.label(api::STATUS_NODE), |report| report.node());
                let is_of_another = object.0 != Kind::ConfigurationState && node.is_some() && node != wanted.node();
                let is_owner = |owner: &String| owner.is_empty() || seen.owners.iter().any(|it| **it == **owner);
                let is_owned = self.owner.as_ref().is_none_or(is_owner);
                let is_framed = is_owned && wanted.labels().iter().all(|(key, value)| seen.label(key) == Some(value));
                if is_of_another {
                    Some(Ask::Delete(seen.uid.clone()))
                } else if !is_framed {
                    Some(Ask::Write(wanted.clone(), ReportParts::Whole))
                } else if seen.report.as_ref() != Some(wanted) && !is_unknown(wanted) {
                    Some(Ask::Write(wanted.clone(), ReportParts::Status))
                } else {
                    None
                }
            }
        }
    }

    /// A ServiceL2Status is made when no other of its Service is there.
    fn has_room(&self, object: &Name, wanted: &Report) -> bool {
        let of_service = wanted.service().filter(|_| object.0 == Kind::ServiceL2Status);
        of_service.is_none_or(|service| !self.layer2.contains_key(&service.into()))
    }

    /// Whether an object that we have nothing to say by is ours to delete: one of this node, or, where this node answers
    /// for the Service, any of the Service (contract 1.9). What lacks a label is nobody's.
    fn is_to_go(&self, object: &Name, seen: &Seen) -> bool {
        let (Some(node), true) = (&self.node, self.said) else { return false };
        if object.0 == Kind::ConfigurationState {
            return false;
        }
        let Some(service) = service_of(seen) else { return false };
        let says = |service: api::Key| {
            let ours = Report::Layer2 { node: node.clone(), service, interfaces: Vec::new() };
            self.pages.get(&name_of(&ours.object(&self.namespace))).is_some_and(|page| page.wanted.is_some())
        };
        let is_of_this_node = seen.label(api::STATUS_NODE) == Some(node);
        is_of_this_node || (object.0 == Kind::ServiceL2Status && says(service))
    }
}

/// Before it has looked, a process that was restarted does not take back what it said.
fn is_unknown(report: &Report) -> bool {
    matches!(report, Report::Configuration { verdict: ConfigurationVerdict::Unknown, .. })
}

fn layer2_service(name: &Name, seen: &Seen) -> Option<api::Key> {
    if name.0 == Kind::ServiceL2Status { service_of(seen) } else { None }
}

/// The Service that the labels name; none if they are not complete (contract 2.2).
fn service_of(seen: &Seen) -> Option<api::Key> {
    seen.label(api::STATUS_NODE)?;
    let label = |key: &str| seen.label(key).map(str::to_owned);
    Some(api::Key::new(label(api::STATUS_SERVICE_NAMESPACE)?, label(api::STATUS_SERVICE_NAME)?))
}
