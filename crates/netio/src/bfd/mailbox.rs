//! What passes between the BFD thread and the rest of the program.
//!
//! The thread may have real-time precedence over whoever holds a lock, and then waiting for the lock could take as long as
//! the scheduler likes. So it never waits: it only tries, and does the rest at its next turn. Everything is a table by
//! client and not a queue: it cannot overflow, and who comes late finds the latest.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, TryLockError};

use bfd::{Change, DownReason, Path, Profile, Refusal};
use kit::{Duration, InterfaceIndex};
use sys::wait::WakeUp;

use super::{Event, Status};

/// Links that may wait to be told as down. More are forgotten: timers notice too.
const LINKS_DOWN_MAX: usize = 256;
/// Remarks that may wait to be logged. More are counted only.
const REMARKS_MAX: usize = 32;
/// When the thread tries again what somebody else just looked at.
pub(super) const TRY_AGAIN: Duration = Duration::from_millis(1);

/// Which of a client's successive paths something is about. News of an earlier one would be taken for news of this one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Generation(pub(super) u64);

/// What a client wants to have watched.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Wish {
    pub(super) generation: Generation,
    pub(super) path: Path,
    pub(super) profile: Profile,
}

/// For the thread.
#[derive(Debug)]
pub(super) struct Inbox<K> {
    /// What clients want that the thread does not know yet; `None` for nothing any more.
    pub(super) wishes: BTreeMap<K, Option<Wish>>,
    pub(super) links_down: BTreeSet<InterfaceIndex>,
    pub(super) is_over: bool,
}

/// From the thread.
#[derive(Debug)]
pub(super) struct Outbox<K> {
    pub(super) news: BTreeMap<K, News>,
    pub(super) remarks: Remarks,
    /// The thread does nothing any more.
    pub(super) has_ended: bool,
}

/// What a client has not been told yet. Of several changes it is told the last two at most: that its session went down, and
/// that it is up again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) generation: Generation,
    refused: Option<Refusal>,
    down: Option<DownReason>,
    is_up: bool,
}

/// Something to be logged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Remark {
    /// Something does not work.
    Trouble(String),
    /// Packets are discarded.
    Discarded { discard: bfd::Discard, source: Option<std::net::IpAddr>, more: u64 },
}

/// What is to be logged, with a limit.
#[derive(Debug, Default)]
pub(super) struct Remarks {
    list: Vec<Remark>,
}

/// The two ends have this in common.
#[derive(Debug)]
pub(super) struct Shared<K> {
    pub(super) inbox: Mutex<Inbox<K>>,
    pub(super) outbox: Mutex<Outbox<K>>,
    pub(super) status: Mutex<Status<K>>,
    pub(super) thread: WakeUp,
    pub(super) task: Arc<WakeUp>,
}

impl<K> Default for Inbox<K> {
    fn default() -> Self {
        Inbox { wishes: BTreeMap::new(), links_down: BTreeSet::new(), is_over: false }
    }
}

impl<K> Inbox<K> {
    pub(super) fn link_down(&mut self, interface: InterfaceIndex) {
        if self.links_down.len() < LINKS_DOWN_MAX {
            self.links_down.insert(interface);
        }
    }
}

impl<K> Default for Outbox<K> {
    fn default() -> Self {
        Outbox { news: BTreeMap::new(), remarks: Remarks::default(), has_ended: false }
    }
}

impl<K: Ord> Outbox<K> {
    pub(super) fn is_empty(&self) -> bool {
        self.news.is_empty() && self.remarks.list.is_empty() && !self.has_ended
    }

    pub(super) fn changed(&mut self, client: K, generation: Generation, change: Change) {
        let news = self.news_of(client, generation);
        match change {
            Change::Up => news.is_up = true,
            Change::Down(reason) => (news.down, news.is_up) = (Some(reason), false),
        }
    }

    pub(super) fn refused(&mut self, client: K, generation: Generation, refusal: Refusal) {
        self.news_of(client, generation).refused = Some(refusal);
    }

    fn news_of(&mut self, client: K, generation: Generation) -> &mut News {
        let nothing = News { generation, refused: None, down: None, is_up: false };
        let news = self.news.entry(client).or_insert(nothing);
        if news.generation != generation {
            *news = nothing;
        }
        news
    }

    /// Adds what is newer.
    pub(super) fn append(&mut self, newer: &mut Outbox<K>) {
        while let Some((client, news)) = newer.news.pop_first() {
            match self.news.get_mut(&client) {
                Some(older) if older.generation == news.generation => older.append(news),
                Some(older) => *older = news,
                None => drop(self.news.insert(client, news)),
            }
        }
        for remark in newer.remarks.list.drain(..) {
            self.remarks.push(remark);
        }
        self.has_ended |= newer.has_ended;
    }
}

impl News {
    fn append(&mut self, newer: News) {
        self.refused = newer.refused.or(self.refused);
        if newer.down.is_some() {
            self.down = newer.down;
            self.is_up = newer.is_up;
        }
        self.is_up |= newer.is_up;
    }

    /// What the client is told, in order.
    pub(super) fn events(self) -> impl Iterator<Item = Event> {
        let up = self.is_up.then_some(Event::Up);
        [self.refused.map(Event::Refused), self.down.map(Event::Down), up].into_iter().flatten()
    }
}

impl Remarks {
    pub(super) fn push(&mut self, remark: Remark) {
        if self.list.len() < REMARKS_MAX {
            self.list.push(remark);
        }
    }

    pub(super) fn drain(&mut self) -> impl Iterator<Item = Remark> {
        self.list.drain(..)
    }
}

/// Waits for a lock, which is held for moments only. Not for the thread.
pub(super) fn wait_for<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Whoever panicked while holding it left a table, which is never half of something.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Takes a lock if it is free.
pub(super) fn try_for<T>(mutex: &Mutex<T>) -> Option<MutexGuard<'_, T>> {
    match mutex.try_lock() {
        Ok(guard) => Some(guard),
        Err(TryLockError::Poisoned(error)) => Some(error.into_inner()),
        Err(TryLockError::WouldBlock) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DOWN: Change = Change::Down(DownReason::DetectionExpired);
    const OTHER_DOWN: Change = Change::Down(DownReason::PathDown);

    fn told(changes: &[(u64, Change)]) -> Vec<Event> {
        let mut outbox = Outbox::default();
        for (generation, change) in changes {
            outbox.changed("a", Generation(*generation), *change);
        }
        // In one piece, and in two that meet in the mailbox.
        for at in 0..=changes.len() {
            let (mut before, mut after) = (Outbox::default(), Outbox::default());
            let (first, second) = changes.split_at(at);
            for (outbox, changes) in [(&mut before, first), (&mut after, second)] {
                for (generation, change) in changes {
                    outbox.changed("a", Generation(*generation), *change);
                }
            }
            before.append(&mut after);
            assert_eq!((&before.news, after.is_empty()), (&outbox.news, true), "cut at {at}");
        }
        outbox.news.remove("a").map(|news| news.events().collect()).unwrap_or_default()
    }

    #[test]
    fn of_many_changes_the_last_failure_and_what_is_now_are_told() {
        let (down, other) = (Event::Down(DownReason::DetectionExpired), Event::Down(DownReason::PathDown));
        let up = Event::Up;
        assert_eq!(told(&[]), []);
        assert_eq!(told(&[(1, Change::Up)]), [up]);
        assert_eq!(told(&[(1, DOWN)]), [down]);
        assert_eq!(told(&[(1, Change::Up), (1, DOWN)]), [down]);
        assert_eq!(told(&[(1, DOWN), (1, Change::Up)]), [down, up]);
        assert_eq!(told(&[(1, DOWN), (1, Change::Up), (1, OTHER_DOWN), (1, Change::Up)]), [other, up]);
        // Another path: what was said of the first is of no interest any more.
        assert_eq!(told(&[(1, DOWN), (1, Change::Up), (2, DOWN)]), [down]);
    }

    #[test]
    fn remarks_have_a_limit() {
        let mut outbox: Outbox<u8> = Outbox::default();
        for number in 0..100 {
            outbox.remarks.push(Remark::Trouble(number.to_string()));
        }
        assert_eq!(outbox.remarks.drain().count(), REMARKS_MAX);
    }

    #[test]
    fn a_lock_that_is_held_is_not_waited_for() {
        let mutex = Mutex::new(1);
        let held = wait_for(&mutex);
        assert!(try_for(&mutex).is_none());
        drop(held);
        assert!(try_for(&mutex).is_some());
    }
}
