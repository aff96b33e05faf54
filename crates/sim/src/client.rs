//! A process's end of the API: what it watches and has heard of, and what it wants written.
//!
//! As the sources of the real program do, it tells an object only when what is read of it changed, tells what is gone,
//! keeps one write of each target under way and only the newest one waiting. It knows no time: when it hears and is heard
//! is decided by the cluster.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::fmt;
use std::sync::Arc;

use api::{IPAddressPool, Key, Kind, Object, ObjectRef, Write};
use kit::Instant;

use crate::api_server::{ApiServer, Entry};
use crate::step::shown;

/// Writes under way at a time.
const WRITES_UNDER_WAY_MAX: usize = 4;

/// What happened to the objects.
#[derive(Clone, Debug)]
pub(crate) enum Change {
    /// An object is there, or is different from before.
    Applied(Arc<Object>),
    /// An object is gone.
    Deleted(ObjectRef),
    /// Every object was told once.
    Synced,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Change::Applied(object) => {
                write!(f, "{}", object.reference())?;
                let Object::Service(service) = &**object else { return Ok(()) };
                write!(f, " with {:?}", shown(&service.status.load_balancer.ingress))
            }
            Change::Deleted(reference) => write!(f, "no {reference}"),
            Change::Synced => f.write_str("that this is all"),
        }
    }
}

/// Whether the counters of pools are of interest.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum PoolStatus {
    Read,
    Ignored,
}

/// A process's end of the API.
#[derive(Debug)]
pub(crate) struct ApiClient {
    /// Tells this process from the ones before it under its name.
    pub(crate) epoch: u64,
    pub(crate) watch: Watch,
    /// What has arrived and was not looked at.
    pub(crate) inbox: VecDeque<Change>,
    pub(crate) writer: Writer,
    /// What it wrote last to each target, and when.
    pub(crate) said: BTreeMap<Target, (Write, Instant)>,
    /// When it was last told that an object is gone, or is another one.
    pub(crate) renewed: BTreeMap<Target, Instant>,
    /// Objects that are gone, as far as it was told.
    gone: BTreeSet<Target>,
    /// Until when it cannot reach the server.
    pub(crate) cut_until: Option<Instant>,
}

impl ApiClient {
    pub(crate) fn new(epoch: u64, kinds: &[Kind], pool_status: PoolStatus) -> Self {
        ApiClient {
            epoch,
            watch: Watch::new(kinds, pool_status),
            inbox: VecDeque::new(),
            writer: Writer::default(),
            said: BTreeMap::new(),
            renewed: BTreeMap::new(),
            gone: BTreeSet::new(),
            cut_until: None,
        }
    }

    /// It is told of changes. What it wrote to an object that is gone counts for nothing.
    pub(crate) fn hear(&mut self, now: Instant, changes: &[Change]) {
        for change in changes {
            let (target, is_news) = match change {
                Change::Applied(object) => {
                    let target = Target::of_object(&object.reference());
                    let was_gone = target.as_ref().is_some_and(|target| self.gone.remove(target));
                    (target, was_gone)
                }
                Change::Deleted(reference) => {
                    let target = Target::of_object(reference);
                    self.gone.extend(target.clone());
                    (target, true)
                }
                Change::Synced => continue,
            };
            if let Some(target) = target.filter(|_| is_news) {
                self.said.remove(&target);
                self.renewed.insert(target, now);
            }
        }
    }

    pub(crate) fn is_cut(&self) -> bool {
        self.cut_until.is_some()
    }

    /// True when it has heard everything and said everything.
    pub(crate) fn is_caught_up(&self, api: &ApiServer) -> bool {
        !self.is_cut() && self.inbox.is_empty() && self.writer.is_idle() && self.watch.is_current(api)
    }
}

/// What a process watches.
#[derive(Debug)]
pub(crate) struct Watch {
    feeds: BTreeMap<Kind, Feed>,
    /// The objects as they were told last.
    known: BTreeMap<ObjectRef, Arc<Object>>,
    /// Kinds that were never listed.
    missing: BTreeSet<Kind>,
    pool_status: PoolStatus,
}

/// The objects of one kind.
#[derive(Debug, Default)]
struct Feed {
    /// How much of what happened was heard; `None` when everything has to be listed.
    position: Option<usize>,
    /// The next delivery is planned.
    is_planned: bool,
}

impl Watch {
    fn new(kinds: &[Kind], pool_status: PoolStatus) -> Self {
        Watch {
            feeds: kinds.iter().map(|kind| (*kind, Feed::default())).collect(),
            known: BTreeMap::new(),
            missing: kinds.iter().copied().collect(),
            pool_status,
        }
    }

    /// True when a delivery of the kind has to be planned; it counts as planned from then on.
    pub(crate) fn plan(&mut self, api: &ApiServer, kind: Kind) -> bool {
        let Some(feed) = self.feeds.get_mut(&kind) else { return false };
        let is_behind = feed.position.is_none_or(|position| position < api.log(kind).len());
        let must_plan = is_behind && !feed.is_planned;
        feed.is_planned |= must_plan;
        must_plan
    }

    /// The planned delivery of the kind happens, or will not.
    pub(crate) fn unplan(&mut self, kind: Kind) {
        if let Some(feed) = self.feeds.get_mut(&kind) {
            feed.is_planned = false;
        }
    }

    /// The server has forgotten where the watch of the kind was.
    pub(crate) fn forget_position(&mut self, kind: Kind) {
        if let Some(feed) = self.feeds.get_mut(&kind) {
            feed.position = None;
        }
    }

    pub(crate) fn kinds(&self) -> Vec<Kind> {
        self.feeds.keys().copied().collect()
    }

    fn is_current(&self, api: &ApiServer) -> bool {
        self.feeds.iter().all(|(kind, feed)| feed.position == Some(api.log(*kind).len()))
    }

    /// What is new of the kind: the difference to a list, or at most so many things that happened.
    pub(crate) fn take(&mut self, api: &ApiServer, kind: Kind, most: usize) -> Vec<Change> {
        let Some(position) = self.feeds.get(&kind).map(|feed| feed.position) else { return Vec::new() };
        let log = api.log(kind);
        let mut changes = Vec::new();
        let heard = if let Some(position) = position {
            let new = log.get(position..).unwrap_or_default();
            for entry in new.iter().take(most) {
                self.happened(kind, entry, &mut changes);
            }
            position.saturating_add(new.len().min(most))
        } else {
            self.listed(api, kind, &mut changes);
            log.len()
        };
        if let Some(feed) = self.feeds.get_mut(&kind) {
            feed.position = Some(heard);
        }
        if self.missing.remove(&kind) && self.missing.is_empty() {
            changes.push(Change::Synced);
        }
        changes
    }

    fn listed(&mut self, api: &ApiServer, kind: Kind, changes: &mut Vec<Change>) {
        for (_, object) in api.of_kind(kind) {
            self.applied(object, changes);
        }
        let known: Vec<ObjectRef> = self.known.keys().filter(|known| known.kind == kind).cloned().collect();
        for reference in known.into_iter().filter(|known| api.get(known).is_none()) {
            self.deleted(reference, changes);
        }
    }

    fn happened(&mut self, kind: Kind, entry: &Entry, changes: &mut Vec<Change>) {
        match &entry.object {
            Some(object) => self.applied(object, changes),
            None => self.deleted(ObjectRef { kind, key: entry.key.clone() }, changes),
        }
    }

    fn applied(&mut self, object: &Arc<Object>, changes: &mut Vec<Change>) {
        let object = match &**object {
            Object::IPAddressPool(pool) if self.pool_status == PoolStatus::Ignored && pool.status.is_some() => {
                Arc::new(Object::IPAddressPool(IPAddressPool { status: None, ..pool.clone() }))
            }
            _ => Arc::clone(object),
        };
        let reference = object.reference();
        match self.known.get(&reference) {
            Some(known) if *known == object => return,
            Some(known) if known.metadata().uid != object.metadata().uid => {
                changes.push(Change::Deleted(reference.clone()));
            }
            Some(_) | None => {}
        }
        self.known.insert(reference, Arc::clone(&object));
        changes.push(Change::Applied(object));
    }

    fn deleted(&mut self, reference: ObjectRef, changes: &mut Vec<Change>) {
        if self.known.remove(&reference).is_some() {
            changes.push(Change::Deleted(reference));
        }
    }
}

/// What a status is written to.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Target {
    Service(Key),
    /// The node of a Service, which is written apart from its addresses.
    Assignment(Key),
    Pool(Key),
}

impl Target {
    /// What a write is about; `None` for what nobody here looks at.
    pub(crate) fn of(write: &Write) -> Option<Target> {
        match write {
            Write::ServiceStatus { service, .. } => Some(Target::Service(service.clone())),
            Write::AssignedNode { service, .. } => Some(Target::Assignment(service.clone())),
            Write::PoolStatus { pool, .. } => Some(Target::Pool(pool.clone())),
            Write::ServiceCondition { .. } | Write::Report { .. } | Write::ReportGone { .. } | Write::Event(_) => None,
        }
    }

    /// What is written to an object; `None` for one that has no status of ours.
    pub(crate) fn of_object(reference: &ObjectRef) -> Option<Target> {
        match reference.kind {
            Kind::Service => Some(Target::Service(reference.key.clone())),
            Kind::IPAddressPool => Some(Target::Pool(reference.key.clone())),
            _ => None,
        }
    }
}

/// What became of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// There is nothing more to do about it.
    Done,
    /// It failed, or its answer was lost, and has to be tried again.
    Again,
}

/// What a process wants written.
#[derive(Debug, Default)]
pub(crate) struct Writer {
    slots: BTreeMap<Target, Slot>,
    ready: VecDeque<Target>,
    under_way: usize,
}

#[derive(Debug)]
struct Slot {
    /// The newest one that waits; none while one is under way and no newer one came.
    waiting: Option<Write>,
}

impl Writer {
    /// Has this written, in place of an older write of the same target that still waits.
    pub(crate) fn push(&mut self, target: Target, write: Write) {
        if let Some(slot) = self.slots.get_mut(&target) {
            slot.waiting = Some(write);
        } else {
            self.ready.push_back(target.clone());
            self.slots.insert(target, Slot { waiting: Some(write) });
        }
    }

    /// The next write, as long as not too many are under way. Each comes back through [`Writer::done`].
    pub(crate) fn take(&mut self) -> Option<(Target, Write)> {
        if self.under_way >= WRITES_UNDER_WAY_MAX {
            return None;
        }
        let target = self.ready.pop_front()?;
        let write = self.slots.get_mut(&target)?.waiting.take()?;
        self.under_way = self.under_way.saturating_add(1);
        Some((target, write))
    }

    /// What became of a write. True when there is something to write again.
    pub(crate) fn done(&mut self, target: Target, write: Write, outcome: Outcome) -> bool {
        self.under_way = self.under_way.saturating_sub(1);
        let Some(slot) = self.slots.get_mut(&target) else { return false };
        if outcome == Outcome::Again {
            slot.waiting.get_or_insert(write);
        }
        let has_more = slot.waiting.is_some();
        if has_more {
            self.ready.push_back(target);
        } else {
            self.slots.remove(&target);
        }
        has_more
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use api::PoolCounters;
    use api::core::Namespace;

    fn namespace(name: &str, team: &str) -> Object {
        let mut namespace = Namespace::default();
        namespace.metadata.name = name.to_owned();
        namespace.metadata.labels.insert("team".to_owned(), team.to_owned());
        Object::Namespace(namespace)
    }

    fn words(changes: &[Change]) -> String {
        let word = |change: &Change| match change {
            Change::Applied(object) => format!("+{}", object.metadata().name),
            Change::Deleted(reference) => format!("-{}", reference.key.name),
            Change::Synced => "synced".to_owned(),
        };
        changes.iter().map(word).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn a_watch_lists_then_follows_and_tells_differences_alone() {
        let mut api = ApiServer::new(false);
        api.edit(namespace("x", "red"));
        let mut watch = Watch::new(&[Kind::Namespace, Kind::Node], PoolStatus::Read);
        assert!(watch.plan(&api, Kind::Namespace));
        assert!(!watch.plan(&api, Kind::Namespace), "it is planned");
        watch.unplan(Kind::Namespace);
        assert_eq!(words(&watch.take(&api, Kind::Namespace, 9)), "+x");
        assert_eq!(words(&watch.take(&api, Kind::Node, 9)), "synced");
        assert!(!watch.plan(&api, Kind::Namespace), "there is nothing new");

        api.edit(namespace("y", "red"));
        api.edit(namespace("x", "blue"));
        api.delete(&namespace("y", "").reference());
        assert_eq!(words(&watch.take(&api, Kind::Namespace, 2)), "+y +x");
        assert!(!watch.is_current(&api));
        watch.forget_position(Kind::Namespace);
        assert_eq!(words(&watch.take(&api, Kind::Namespace, 0)), "-y");
        api.delete(&namespace("x", "").reference());
        api.edit(namespace("x", "blue"));
        watch.forget_position(Kind::Namespace);
        assert_eq!(words(&watch.take(&api, Kind::Namespace, 0)), "-x +x", "another one of its name");
        assert!(watch.is_current(&api));
    }

    #[test]
    fn a_writer_keeps_the_newest_and_the_order() {
        let write = |assigned_ipv4| Write::PoolStatus {
            pool: Key::new("m", "p"),
            status: PoolCounters { assigned_ipv4, ..PoolCounters::default() },
        };
        let mut writer = Writer::default();
        let push = |writer: &mut Writer, write: Write| writer.push(Target::of(&write).unwrap(), write);
        push(&mut writer, write(1));
        push(&mut writer, write(2));
        let (target, first) = writer.take().unwrap();
        assert_eq!(first, write(2));
        push(&mut writer, write(3));
        assert_eq!(writer.take(), None, "the one before is under way");
        assert!(writer.done(target, first, Outcome::Again));
        let (target, second) = writer.take().unwrap();
        assert_eq!(second, write(3), "what failed does not replace what is newer");
        assert!(!writer.done(target, second, Outcome::Done));
        assert!(writer.is_idle());
    }
}
