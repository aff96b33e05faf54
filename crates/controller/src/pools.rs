//! The counters in the status of each IPAddressPool (contract 1.1, 3.5): written when they change, but not more often than
//! once in a while, and set back, with growing pauses, when something else wrote them.

use std::collections::{BTreeMap, BTreeSet};

use api::{Key, PoolCounters, Write};
use ipam::{Allocator, PoolName, PoolUsage};
use kit::{Duration, Instant, Outbox, TimerTable};

use crate::controller::Timer;
use crate::ledger::{CALM, REPEAT_PAUSE, RESTORE_PAUSE, pause, remember};

/// What is known about the status of every pool.
#[derive(Clone, Debug, Default)]
pub(crate) struct Pools {
    /// Time between two writes of one pool's counters.
    pace: Duration,
    books: BTreeMap<PoolName, Book>,
    /// Pools whose status may have to be written.
    changed: BTreeSet<PoolName>,
}

/// The status of one pool.
#[derive(Clone, Debug, Default)]
struct Book {
    /// The cluster has shown it. A pool can be in force without, while what is left is no valid configuration.
    is_there: bool,
    /// What the cluster showed last.
    seen: Option<PoolCounters>,
    /// What was written last, or seen to be right already.
    written: Option<PoolCounters>,
    /// What was shown at the newest write, which may be shown until that is seen to arrive.
    before: Option<PoolCounters>,
    /// What we wrote lately: it may pass by even after that.
    ours: Vec<PoolCounters>,
    /// How long the newest write may take to arrive.
    in_flight_until: Instant,
    /// When it was written last.
    last_written: Option<Instant>,
    /// The status was wrong for longer than a write takes to arrive.
    must_restore: bool,
    /// How often it was set back since the last calm.
    restored: u32,
    last_restored: Instant,
}

impl Pools {
    pub(crate) fn new(pace: Duration) -> Self {
        Pools { pace, ..Pools::default() }
    }

    /// The cluster shows this status.
    pub(crate) fn seen(
        &mut self,
        now: Instant,
        pool: PoolName,
        status: Option<PoolCounters>,
        timers: &mut TimerTable<Timer>,
    ) {
        let book = self.books.entry(pool.clone()).or_default();
        if !std::mem::replace(&mut book.is_there, true) {
            // What was written while there was none was written to nobody.
            book.written = None;
        }
        book.seen = status;
        let timer = Timer::Pool(pool.clone());
        if book.written.is_none() {
            // A pool that was created again under its name may be no change of the configuration.
            self.changed.insert(pool);
        } else if book.written == book.seen {
            timers.clear(&timer);
            book.before = status;
        } else if now < book.in_flight_until && book.is_old(status) {
            set_earlier(timers, timer, book.in_flight_until);
        } else {
            if now.since(book.last_restored) >= CALM {
                book.restored = 0;
            }
            set_earlier(timers, timer, now + pause(book.restored).max(RESTORE_PAUSE));
        }
    }

    /// Another controller writes from now on: what was written here says nothing any more.
    pub(crate) fn resign(&mut self) {
        for (pool, book) in &mut self.books {
            *book = Book { is_there: book.is_there, seen: book.seen, ..Book::default() };
            self.changed.insert(pool.clone());
        }
    }

    /// The pool is gone, and its status with it. What was written lately may still reach another pool of its name.
    pub(crate) fn gone(&mut self, now: Instant, pool: PoolName, timers: &mut TimerTable<Timer>) {
        timers.clear(&Timer::Pool(pool.clone()));
        timers.clear(&Timer::PoolPace(pool.clone()));
        let Some(Book { ours, in_flight_until, .. }) = self.books.remove(&pool) else { return };
        if now < in_flight_until {
            timers.set(Timer::Pool(pool.clone()), in_flight_until);
            self.books.insert(pool, Book { ours, in_flight_until, ..Book::default() });
        }
    }

    /// The pool is not configured, or not yet. What it shows stays known for as long as it is there.
    fn out_of_force(&mut self, now: Instant, pool: PoolName, timers: &mut TimerTable<Timer>) {
        let shown = self.books.get(&pool).filter(|book| book.is_there).map(|book| book.seen);
        self.gone(now, pool.clone(), timers);
        if let Some(seen) = shown {
            let book = self.books.entry(pool).or_default();
            (book.is_there, book.seen) = (true, seen);
        }
    }

    /// The counters may be written again.
    pub(crate) fn pace_over(&mut self, pool: PoolName) {
        self.changed.insert(pool);
    }

    /// The pause after a wrong status is over.
    pub(crate) fn pause_over(&mut self, pool: PoolName) {
        if self.books.get(&pool).is_some_and(Book::is_blank) {
            self.books.remove(&pool);
        }
        if let Some(book) = self.books.get_mut(&pool).filter(|book| book.is_there && book.seen != book.written) {
            book.must_restore = true;
            self.changed.insert(pool);
        }
    }

    /// True when a status may have to be written.
    pub(crate) fn has_changes(&self) -> bool {
        !self.changed.is_empty()
    }

    /// Writes the status of each pool whose counters are not what was written last, each at most once.
    pub(crate) fn write(
        &mut self,
        now: Instant,
        allocator: &mut Allocator,
        namespace: &str,
        timers: &mut TimerTable<Timer>,
        out: &mut Outbox<Write>,
    ) {
        self.changed.append(&mut allocator.take_touched());
        while out.room() > 0 {
            let Some(pool) = self.changed.pop_first() else { break };
            let Some(usage) = allocator.usage(&pool) else {
                self.out_of_force(now, pool, timers);
                continue;
            };
            let status = counters(&usage);
            let book = self.books.entry(pool.clone()).or_default();
            let is_right = book.written.or(book.seen) == Some(status) && !book.must_restore;
            if is_right {
                book.written = Some(status);
                continue;
            }
            if let Some(earliest) = book.last_written.map(|last| last + self.pace).filter(|earliest| *earliest > now) {
                set_earlier(timers, Timer::PoolPace(pool), earliest);
                continue;
            }
            let must_restore = std::mem::take(&mut book.must_restore);
            (book.written, book.last_written) = (Some(status), Some(now));
            if must_restore {
                book.restored = book.restored.saturating_add(1);
                book.last_restored = now;
            }
            book.expect(now, status);
            if book.is_there {
                // It may arrive and be overwritten unseen.
                timers.set(Timer::Pool(pool.clone()), now + pause(book.restored).max(REPEAT_PAUSE));
            }
            out.push(Write::PoolStatus { pool: Key::new(namespace, &*pool), status });
        }
    }
}

impl Book {
    /// True for a pool that is gone.
    fn is_blank(&self) -> bool {
        !self.is_there && self.written.is_none()
    }

    /// A write goes out.
    fn expect(&mut self, now: Instant, written: PoolCounters) {
        if now >= self.in_flight_until {
            self.ours.clear();
        }
        self.in_flight_until = now + REPEAT_PAUSE;
        self.before = self.seen;
        remember(&mut self.ours, written);
    }

    /// True for what may be shown while the newest write is on its way.
    fn is_old(&self, status: Option<PoolCounters>) -> bool {
        self.before == status || status.is_some_and(|status| self.ours.contains(&status))
    }
}

fn set_earlier(timers: &mut TimerTable<Timer>, timer: Timer, due: Instant) {
    if timers.get(&timer).is_none_or(|planned| due < planned) {
        timers.set(timer, due);
    }
}

/// Counts as the status shows them: `i64`, saturating.
fn counters(usage: &PoolUsage) -> PoolCounters {
    let count = |number: u128| i64::try_from(number).unwrap_or(i64::MAX);
    let (v4, v6) = (usage.in_use_ipv4 as u128, usage.in_use_ipv6 as u128);
    PoolCounters {
        assigned_ipv4: count(v4),
        assigned_ipv6: count(v6),
        available_ipv4: count(usage.usable_ipv4.saturating_sub(v4)),
        available_ipv6: count(usage.usable_ipv6.saturating_sub(v6)),
    }
}
