//! What a source counts. The program shows these as metrics; nothing here knows how.

use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub struct Counter(AtomicU64);

impl Counter {
    /// The number now.
    pub fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }

    pub(crate) fn increment(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, more: u64) {
        self.0.fetch_add(more, Ordering::Relaxed);
    }
}

/// What a source counts, since its start.
#[derive(Debug, Default)]
pub struct Counters {
    /// Objects, or files of objects, that could not be read.
    pub unreadable: Counter,
    /// Times a list or watch failed.
    pub read_failures: Counter,
    /// Writes that were done.
    pub written: Counter,
    /// Writes that failed and were tried again.
    pub write_retries: Counter,
    /// Writes that were refused for good: the object is gone or is another one, or the server does not accept it.
    pub write_refusals: Counter,
    /// Writes that were dropped because [`crate::Writer::STATUSES_WAITING_MAX`] others were waiting.
    pub statuses_dropped: Counter,
    /// Events that were dropped because [`crate::Writer::EVENTS_WAITING_MAX`] others were waiting, or after too many
    /// tries.
    pub events_dropped: Counter,
}
