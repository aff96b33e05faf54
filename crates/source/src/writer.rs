//! The way back: takes what is to be written, never blocks, and has it written in order and with patience.
//!
//! What is kept and what goes first is decided in [`crate::queue`]; this file adds the lock, the clock and the task.

use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use api::Write;
use futures::stream::{FuturesUnordered, StreamExt};
use jiff::Timestamp;
use lease::Term;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::counters::Counters;
use crate::queue::{Job, Outcome, Queue, STATUSES_READY, Turn};

/// Takes what is to be written. Cheap to clone; all clones feed one queue.
#[derive(Clone)]
pub struct Writer(Arc<Shared>);

struct Shared {
    queue: Mutex<Queue>,
    /// Something was added.
    added: Notify,
    /// Something was written.
    finished: Notify,
}

impl Writer {
    /// Statuses that wait at most. More targets than this are refused, counted and logged.
    pub const STATUSES_WAITING_MAX: usize = crate::queue::STATUSES_WAITING_MAX;
    /// Events that wait at most. More are dropped, counted and logged.
    pub const EVENTS_WAITING_MAX: usize = crate::events::EVENTS_WAITING_MAX;

    pub(crate) fn new() -> Writer {
        Writer(Arc::new(Shared { queue: Mutex::default(), added: Notify::new(), finished: Notify::new() }))
    }

    /// Has this written. Never blocks and never fails: a later status of the same target replaces one that waits; equal
    /// events become one with a count; while the source is away everything waits.
    pub fn write(&self, write: Write) {
        self.queue().push(write, Instant::now(), Timestamp::now());
        self.0.added.notify_one();
    }

    /// From now on this process is the one that writes, in this term. What waited is forgotten.
    pub fn begin(&self, term: Term) {
        self.queue().begin(Turn::Term(term));
        self.0.finished.notify_waiters();
    }

    /// From now on nothing is written: what waits and what comes is forgotten.
    pub fn pause(&self) {
        self.queue().begin(Turn::Never);
        self.0.finished.notify_waiters();
    }

    /// Waits until everything is written, at most this long. Returns how many writes were not done by then.
    pub async fn flush(&self, within: Duration) -> usize {
        // What is left is the answer, whether in time or not.
        let _in_time = tokio::time::timeout(within, self.until(|queue| queue.len() == 0)).await;
        self.queue().len()
    }

    /// Whether a status would not wait long for its turn. Who can decide later should, while there is no room: what failed for
    /// a reason of its own and waits for another try takes none.
    pub fn has_room(&self) -> bool {
        self.queue().ready() < STATUSES_READY
    }

    /// Waits until there is room for many.
    pub async fn room(&self) {
        self.until(|queue| queue.ready() <= STATUSES_READY / 2).await;
    }

    async fn until(&self, holds: impl Fn(&Queue) -> bool) {
        loop {
            let finished = self.0.finished.notified();
            tokio::pin!(finished);
            // Before looking: a write that finishes in between counts.
            finished.as_mut().enable();
            if holds(&self.queue()) {
                return;
            }
            finished.await;
        }
    }

    /// How many writes are waiting or under way.
    pub fn waiting(&self) -> usize {
        self.queue().len()
    }

    fn queue(&self) -> MutexGuard<'_, Queue> {
        // A panic elsewhere does not make the queue wrong: each of its methods leaves it whole.
        self.0.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Has `sink` do what is written here, at most `concurrency` at a time. Never ends.
    pub(crate) async fn run<S: Sink>(self, sink: S, concurrency: usize, counters: Arc<Counters>) {
        let mut under_way = FuturesUnordered::new();
        loop {
            while under_way.len() < concurrency {
                let Some((job, turn)) = self.take() else { break };
                let sink = &sink;
                under_way.push(async move {
                    let outcome = sink.perform(&job, turn).await;
                    (job, turn, outcome)
                });
            }
            let deadline = if under_way.len() < concurrency { self.queue().next_deadline() } else { None };
            tokio::select! {
                Some((job, turn, outcome)) = under_way.next() => {
                    self.finish(job, turn, outcome, &counters);
                }
                () = self.0.added.notified() => {}
                () = sleep_until(deadline) => {}
            }
        }
    }

    fn take(&self) -> Option<(Job, Turn)> {
        let mut queue = self.queue();
        let job = queue.take(Instant::now()).map(|job| (job, queue.turn()));
        drop(queue);
        if job.is_none() {
            // What was ready may only have been found to wait for another part of its Service, which makes room, too.
            self.0.finished.notify_waiters();
        }
        job
    }

    fn finish(&self, job: Job, turn: Turn, outcome: Outcome, counters: &Counters) {
        match outcome {
            Outcome::Done => counters.written.increment(),
            Outcome::Refused => counters.write_refusals.increment(),
            Outcome::Later { .. } | Outcome::Unreachable { .. } => counters.write_retries.increment(),
        }
        let mut queue = self.queue();
        let was_open = queue.is_open();
        queue.done(job, turn, outcome, Instant::now());
        match (was_open, queue.is_open()) {
            (true, false) => tracing::warn!(waiting = queue.len(), "writing is paused: no answer"),
            (false, true) => tracing::info!(waiting = queue.len(), "writing goes on"),
            _ => {}
        }
        let (statuses, events) = queue.take_dropped();
        drop(queue);
        if statuses > 0 {
            counters.statuses_dropped.add(statuses);
            tracing::error!(
                dropped = statuses,
                limit = Self::STATUSES_WAITING_MAX,
                "too many statuses wait to be written"
            );
        }
        if events > 0 {
            counters.events_dropped.add(events);
            tracing::warn!(dropped = events, "events were dropped");
        }
        self.0.finished.notify_waiters();
    }
}

impl fmt::Debug for Writer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Writer").field("waiting", &self.waiting()).finish_non_exhaustive()
    }
}

/// Where writes end up.
pub(crate) trait Sink {
    /// Tries once, if it is still the turn of this job.
    fn perform(&self, job: &Job, turn: Turn) -> impl Future<Output = Outcome> + Send;
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
mod tests {
    use api::{Key, PoolCounters};

    use super::*;

    struct Accepting;

    impl Sink for Accepting {
        async fn perform(&self, _job: &Job, _turn: Turn) -> Outcome {
            Outcome::Done
        }
    }

    #[tokio::test(start_paused = true)]
    async fn there_is_room_again_when_half_of_what_was_ready_is_written() {
        let writer = Writer::new();
        for number in 0..STATUSES_READY {
            assert!(writer.has_room(), "{number}");
            let pool = Key::new("metallb-system", format!("pool-{number}"));
            writer.write(Write::PoolStatus { pool, status: PoolCounters::default() });
        }
        assert!(!writer.has_room());
        let waited = tokio::time::timeout(Duration::from_hours(1), writer.room()).await;
        assert!(waited.is_err(), "nobody writes");
        tokio::spawn(writer.clone().run(Accepting, 16, Arc::default()));
        writer.room().await;
        assert!(writer.has_room());
        assert_eq!(writer.flush(Duration::from_secs(1)).await, 0);
    }
}
