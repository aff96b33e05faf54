//! Adj-RIB-Out: what a peer should have, what it was sent, and the messages that make one the other.
//!
//! Work is done in parts of bounded size, so that nothing else of the process waits for a large table. It knows no
//! connection: the caller says how many bytes may go out, and calls again.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ipnet::IpNet;
use kit::{Asn, Family};

use crate::prefix_map::PrefixMap;
use crate::wire::{
    self, AfiSafi, Announcer, AsPath, AsnSize, LOCAL_PREF_DEFAULT, MessageLimit, NextHop, PathAttributes,
    RefreshKnowledge, RefreshSubtype, Relation, RouteRefresh, family_of,
};
use crate::{RouteAttributes, RouteState, SentRoute};

/// How many prefixes are looked at in one part of the work.
const BATCH: usize = 1024;

/// What the peer should have; it outlives sessions.
#[derive(Clone, Debug, Default)]
pub(crate) struct Wanted {
    routes: PrefixMap<Arc<RouteAttributes>>,
    counts: FamilyCounts,
    is_complete: bool,
}

impl Wanted {
    /// True if that changed anything.
    pub(crate) fn announce(&mut self, prefix: IpNet, attributes: Arc<RouteAttributes>) -> bool {
        if let Some(before) = self.routes.insert(prefix, Arc::clone(&attributes)) {
            return before != attributes;
        }
        self.counts.add(family_of(&prefix));
        true
    }

    /// True if that changed anything.
    pub(crate) fn withdraw(&mut self, prefix: &IpNet) -> bool {
        let was_there = self.routes.remove(prefix).is_some();
        if was_there {
            self.counts.remove(family_of(prefix));
        }
        was_there
    }

    /// Everything that the peer should have at first is there: from now on an End-of-RIB is true.
    pub(crate) fn complete(&mut self) {
        self.is_complete = true;
    }

    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&Arc<RouteAttributes>> {
        self.routes.get(prefix)
    }

    pub(crate) fn count(&self, family: Family) -> usize {
        self.counts.get(family)
    }

    /// The prefixes behind this one, in order.
    pub(crate) fn after(&self, prefix: Option<&IpNet>) -> impl Iterator<Item = IpNet> {
        self.routes.after(prefix).map(|(prefix, _)| prefix)
    }
}

/// A number for each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct FamilyCounts {
    v4: usize,
    v6: usize,
}

impl FamilyCounts {
    fn get(self, family: Family) -> usize {
        match family {
            Family::V4 => self.v4,
            Family::V6 => self.v6,
        }
    }

    fn set(&mut self, family: Family, number: usize) {
        match family {
            Family::V4 => self.v4 = number,
            Family::V6 => self.v6 = number,
        }
    }

    fn add(&mut self, family: Family) {
        self.set(family, self.get(family).saturating_add(1));
    }

    fn remove(&mut self, family: Family) {
        self.set(family, self.get(family).saturating_sub(1));
    }
}

/// What a session adds to every route of ours.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SessionPath {
    pub(crate) relation: Relation,
    pub(crate) local_as: Asn,
    pub(crate) asn_size: AsnSize,
    /// How large an UPDATE may be.
    pub(crate) message_limit: MessageLimit,
    /// The next hop of each family, or why there is none.
    pub(crate) next_hop_v4: Result<NextHop, RouteState>,
    pub(crate) next_hop_v6: Result<NextHop, RouteState>,
}

impl SessionPath {
    pub(crate) fn next_hop(&self, family: Family) -> Result<NextHop, RouteState> {
        match family {
            Family::V4 => self.next_hop_v4,
            Family::V6 => self.next_hop_v6,
        }
    }

    /// RFC 4271 section 5.1: inside our AS the path is empty and LOCAL_PREF is there; outside the path is our AS and
    /// LOCAL_PREF is not there. RFC 4360 section 6: communities that are not transitive stay inside.
    fn attributes(&self, route: &RouteAttributes) -> PathAttributes {
        let (as_path, local_pref) = match self.relation {
            Relation::Internal => (AsPath::default(), Some(route.local_pref.unwrap_or(LOCAL_PREF_DEFAULT))),
            Relation::External => {
                let times = usize::from(route.prepend).saturating_add(1);
                (AsPath::sequence(std::iter::repeat_n(self.local_as, times)), None)
            }
        };
        let stays =
            |community: &&kit::ExtendedCommunity| self.relation == Relation::Internal || community.is_transitive();
        PathAttributes {
            as_path,
            local_pref,
            multi_exit_disc: route.multi_exit_disc,
            communities: route.communities.clone(),
            extended_communities: route.extended_communities.iter().filter(stays).copied().collect(),
            ..PathAttributes::default()
        }
    }

    /// True when the peer cannot tell one from the other.
    fn looks_the_same(&self, one: &RouteAttributes, other: &RouteAttributes) -> bool {
        one == other || self.attributes(one) == self.attributes(other)
    }
}

/// What one session has sent, and still has to look at.
#[derive(Debug)]
pub(crate) struct AdjRibOut {
    path: SessionPath,
    sent: PrefixMap<Sent>,
    counts: FamilyCounts,
    /// Prefixes that may differ from what was sent.
    dirty: BTreeSet<IpNet>,
    walk: Walk,
    /// Grows when everything of a family has to be sent again; what was sent in an earlier epoch counts as different.
    epochs: FamilyCounts,
    end_of_rib: EndOfRib,
    refreshes: Refreshes,
}

/// Answers to requests of the peer between marks (RFC 7313 section 4): one at a time, and none before End-of-RIB.
#[derive(Debug)]
struct Refreshes {
    knowledge: RefreshKnowledge,
    requested: BTreeSet<Family>,
    /// The begin was marked, the end was not.
    running: Option<Family>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Sent {
    attributes: Arc<RouteAttributes>,
    epoch: usize,
    outcome: Outcome,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Announced,
    TooLarge,
}

/// A pass over everything that is wanted.
#[derive(Clone, Debug)]
enum Walk {
    Done,
    /// After this prefix, or at the begin.
    After(Option<IpNet>, Again),
}

/// Whether a pass must follow the present one: a peer that asks again and again must not make it begin anew each
/// time, or the last prefixes would never be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Again {
    No,
    Yes,
}

/// Markers that follow the first pass.
#[derive(Clone, Debug)]
enum EndOfRib {
    Due(Vec<Family>),
    Done,
}

/// Prefixes of one part of the work that have to go out. A prefix may be looked at twice in one part, as a change and
/// in the pass over all; so these are sets.
#[derive(Default)]
struct Batch {
    withdraw: BTreeMap<Family, BTreeSet<IpNet>>,
    announce: BTreeMap<(Family, Arc<RouteAttributes>), BTreeSet<IpNet>>,
}

/// Where messages go.
struct Writer<'a> {
    bytes: &'a mut Vec<u8>,
    /// With this many bytes or more, no further message is begun.
    room: usize,
    written: Written,
}

/// How many messages were written.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) updates: u64,
    pub(crate) refreshes: u64,
}

impl Writer<'_> {
    fn has_room(&self) -> bool {
        self.bytes.len() < self.room
    }

    fn count(&mut self) {
        self.written.updates = self.written.updates.saturating_add(1);
    }

    fn mark(&mut self, family: Family, subtype: RefreshSubtype) {
        RouteRefresh::new(AfiSafi::unicast(family), subtype).encode(self.bytes);
        self.written.refreshes = self.written.refreshes.saturating_add(1);
    }
}

impl AdjRibOut {
    /// A session that has sent nothing; `end_of_rib` are the families whose first pass ends with a marker.
    pub(crate) fn new(path: SessionPath, end_of_rib: Vec<Family>, refresh: RefreshKnowledge) -> Self {
        AdjRibOut {
            path,
            sent: PrefixMap::default(),
            counts: FamilyCounts::default(),
            dirty: BTreeSet::new(),
            walk: Walk::After(None, Again::No),
            epochs: FamilyCounts::default(),
            end_of_rib: if end_of_rib.is_empty() { EndOfRib::Done } else { EndOfRib::Due(end_of_rib) },
            refreshes: Refreshes { knowledge: refresh, requested: BTreeSet::new(), running: None },
        }
    }

    /// What is wanted for the prefix changed.
    pub(crate) fn touch(&mut self, prefix: IpNet) {
        self.dirty.insert(prefix);
    }

    /// The peer asks for everything of the family (RFC 2918 section 4).
    pub(crate) fn refresh(&mut self, family: Family) {
        match self.refreshes.knowledge {
            RefreshKnowledge::Plain => self.send_again(family),
            RefreshKnowledge::Enhanced => {
                self.refreshes.requested.insert(family);
            }
        }
    }

    /// Everything of the family has to be sent again.
    fn send_again(&mut self, family: Family) {
        self.epochs.add(family);
        self.walk = match self.walk {
            Walk::Done => Walk::After(None, Again::No),
            Walk::After(at, _) => Walk::After(at, Again::Yes),
        };
    }

    /// Takes new next hops; what they change is sent again, or withdrawn where there is none any more.
    pub(crate) fn path_changed(&mut self, path: SessionPath) {
        for family in Family::ALL {
            if path.next_hop(family) != self.path.next_hop(family) {
                self.send_again(family);
                self.dirty.extend(self.sent.prefixes_of(family));
            }
        }
        self.path = path;
    }

    /// True when `flush` would look at something.
    pub(crate) fn has_work(&self, wanted: &Wanted) -> bool {
        let has_to_end = match self.end_of_rib {
            EndOfRib::Due(_) => wanted.is_complete,
            EndOfRib::Done => self.refreshes.running.is_some() || !self.refreshes.requested.is_empty(),
        };
        !self.is_up_to_date() || has_to_end
    }

    fn is_up_to_date(&self) -> bool {
        self.dirty.is_empty() && matches!(self.walk, Walk::Done)
    }

    pub(crate) fn announced(&self, family: Family) -> usize {
        self.counts.get(family)
    }

    pub(crate) fn next_hop(&self, family: Family) -> Result<NextHop, RouteState> {
        self.path.next_hop(family)
    }

    /// A route as the peer has it; `None` if it has none to this prefix.
    pub(crate) fn sent(&self, prefix: &IpNet) -> Option<SentRoute> {
        let sent = self.sent.get(prefix).filter(|sent| sent.outcome == Outcome::Announced)?;
        let next_hop = self.path.next_hop(family_of(prefix)).ok()?;
        Some(SentRoute { next_hop, attributes: self.path.attributes(&sent.attributes) })
    }

    /// How far a wanted route got.
    pub(crate) fn route_state(&self, prefix: &IpNet, wanted: &Arc<RouteAttributes>) -> RouteState {
        let family = family_of(prefix);
        if let Err(blocked) = self.path.next_hop(family) {
            return blocked;
        }
        match self.sent.get(prefix) {
            Some(sent) if self.is_current(sent, family, wanted) => match sent.outcome {
                Outcome::Announced => RouteState::Announced,
                Outcome::TooLarge => RouteState::TooLarge,
            },
            _ => RouteState::Queued,
        }
    }

    /// RFC 4271 section 9.2: what would look as it did before is not sent again.
    fn is_current(&self, sent: &Sent, family: Family, wanted: &Arc<RouteAttributes>) -> bool {
        let is_same = || self.path.looks_the_same(&sent.attributes, wanted);
        sent.epoch == self.epochs.get(family) && (Arc::ptr_eq(&sent.attributes, wanted) || is_same())
    }

    /// Does one part of the work: appends messages as long as there are fewer than `room` bytes, and returns how many
    /// messages. What is left stays for the next call.
    pub(crate) fn flush(&mut self, wanted: &Wanted, room: usize, bytes: &mut Vec<u8>) -> Written {
        let mut out = Writer { bytes, room, written: Written::default() };
        self.refresh_begin(&mut out);
        let batch = self.batch(wanted);
        for (family, prefixes) in batch.withdraw {
            self.withdraw(family, prefixes, &mut out);
        }
        for ((family, attributes), prefixes) in batch.announce {
            let prefixes: Vec<IpNet> = prefixes.into_iter().collect();
            self.announce(family, &attributes, &prefixes, &mut out);
        }
        if self.is_up_to_date() {
            self.end(wanted, &mut out);
        }
        out.written
    }

    /// RFC 7313 section 4: a mark precedes the answer to a request. Never before End-of-RIB.
    fn refresh_begin(&mut self, out: &mut Writer<'_>) {
        if matches!(self.end_of_rib, EndOfRib::Done)
            && self.refreshes.running.is_none()
            && let Some(family) = self.refreshes.requested.pop_first()
        {
            out.mark(family, RefreshSubtype::Begin);
            self.refreshes.running = Some(family);
            self.send_again(family);
        }
    }

    /// What follows when all is sent: End-of-RIB, once, if that is really all (RFC 4724 section 2); or the mark that
    /// ends an answer (RFC 7313 section 4).
    fn end(&mut self, wanted: &Wanted, out: &mut Writer<'_>) {
        if wanted.is_complete
            && let EndOfRib::Due(families) = std::mem::replace(&mut self.end_of_rib, EndOfRib::Done)
        {
            for family in families {
                wire::end_of_rib(family, out.bytes);
                out.count();
            }
        }
        if let Some(family) = self.refreshes.running.take() {
            out.mark(family, RefreshSubtype::End);
        }
    }

    /// The next prefixes, changes before the pass over all, sorted by what has to be said about them.
    fn batch(&mut self, wanted: &Wanted) -> Batch {
        let mut batch = Batch::default();
        let mut looked_at = 0_usize;
        while looked_at < BATCH
            && let Some(prefix) = self.dirty.pop_first()
        {
            self.sort_in(prefix, wanted.get(&prefix), &mut batch);
            looked_at = looked_at.saturating_add(1);
        }
        while looked_at < BATCH
            && let Walk::After(at, again) = self.walk
        {
            let mut count = 0_usize;
            let mut last = None;
            for (prefix, attributes) in wanted.routes.after(at.as_ref()).take(BATCH.saturating_sub(looked_at)) {
                self.sort_in(prefix, Some(attributes), &mut batch);
                count = count.saturating_add(1);
                last = Some(prefix);
            }
            looked_at = looked_at.saturating_add(count);
            self.walk = match (last, again) {
                (Some(last), again) => Walk::After(Some(last), again),
                (None, Again::Yes) => Walk::After(None, Again::No),
                (None, Again::No) => Walk::Done,
            };
        }
        batch
    }

    fn sort_in(&self, prefix: IpNet, wanted: Option<&Arc<RouteAttributes>>, batch: &mut Batch) {
        let family = family_of(&prefix);
        let wanted = wanted.filter(|_| self.path.next_hop(family).is_ok());
        match (wanted, self.sent.get(&prefix)) {
            (Some(wanted), Some(sent)) if self.is_current(sent, family, wanted) => {}
            (Some(wanted), _) => {
                batch.announce.entry((family, Arc::clone(wanted))).or_default().insert(prefix);
            }
            (None, Some(_)) => {
                batch.withdraw.entry(family).or_default().insert(prefix);
            }
            (None, None) => {}
        }
    }

    fn withdraw(&mut self, family: Family, prefixes: impl IntoIterator<Item = IpNet>, out: &mut Writer<'_>) {
        // What never reached the peer needs no word.
        let (told, silent): (Vec<IpNet>, Vec<IpNet>) = prefixes
            .into_iter()
            .partition(|prefix| self.sent.get(prefix).is_some_and(|sent| sent.outcome == Outcome::Announced));
        for prefix in silent {
            self.sent.remove(&prefix);
        }
        let mut rest = told.as_slice();
        while !rest.is_empty() && out.has_room() {
            let left = wire::withdraw(family, rest, out.bytes);
            out.count();
            for prefix in done(rest, left) {
                self.sent.remove(prefix);
                self.counts.remove(family);
            }
            rest = left;
        }
        self.dirty.extend(rest);
    }

    fn announce(
        &mut self,
        family: Family,
        attributes: &Arc<RouteAttributes>,
        prefixes: &[IpNet],
        out: &mut Writer<'_>,
    ) {
        let Ok(next_hop) = self.path.next_hop(family) else { return };
        let SessionPath { asn_size, message_limit, .. } = self.path;
        let announcer = Announcer::new(family, next_hop, &self.path.attributes(attributes), asn_size, message_limit);
        // Of a large table only its last message is not full: what is left behind full ones waits for the next part.
        let may_wait = !self.is_up_to_date();
        let mut rest = prefixes;
        while !rest.is_empty() && out.has_room() {
            let length = out.bytes.len();
            let left = announcer.announce(rest, out.bytes);
            if left.len() == rest.len() {
                self.too_large(family, attributes, rest, out);
                return;
            }
            if left.is_empty() && rest.len() < prefixes.len() && may_wait {
                out.bytes.truncate(length);
                break;
            }
            out.count();
            for prefix in done(rest, left) {
                self.record(*prefix, family, attributes, Outcome::Announced);
            }
            rest = left;
        }
        self.dirty.extend(rest);
    }

    /// RFC 4271 section 9.2: a route that does not fit in a message is not advertised; what the peer had for it
    /// before is no longer right.
    fn too_large(
        &mut self,
        family: Family,
        attributes: &Arc<RouteAttributes>,
        prefixes: &[IpNet],
        out: &mut Writer<'_>,
    ) {
        // All at once: what stayed behind would be forgotten below. It is one part of the work at most.
        let mut all = Writer { bytes: out.bytes, room: usize::MAX, written: out.written };
        self.withdraw(family, prefixes.iter().copied(), &mut all);
        out.written = all.written;
        for prefix in prefixes {
            self.record(*prefix, family, attributes, Outcome::TooLarge);
        }
    }

    fn record(&mut self, prefix: IpNet, family: Family, attributes: &Arc<RouteAttributes>, outcome: Outcome) {
        let sent = Sent { attributes: Arc::clone(attributes), epoch: self.epochs.get(family), outcome };
        let before = self.sent.insert(prefix, sent).map(|sent| sent.outcome);
        match (before == Some(Outcome::Announced), outcome == Outcome::Announced) {
            (false, true) => self.counts.add(family),
            (true, false) => self.counts.remove(family),
            _ => {}
        }
    }
}

/// The part of `all` that is no longer in its tail `left`.
fn done<'p>(all: &'p [IpNet], left: &[IpNet]) -> &'p [IpNet] {
    all.get(..all.len().saturating_sub(left.len())).unwrap_or_default()
}

#[cfg(test)]
mod tests;
