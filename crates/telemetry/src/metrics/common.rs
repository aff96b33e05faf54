//! The series of both components (contract 8.2), those of the process, and those that a program adds of its own.

use std::fmt;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Mutex, PoisonError};

use super::{Metrics, SeriesType, Text, process};

/// How the newest configuration stands to the one in force.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfigState {
    /// They are the same (also when a bad one was taken back, D2).
    InForce,
    /// The newest one cannot be used; an older one is in force, or none.
    Stale,
}

/// The series of both components.
#[derive(Debug, Default)]
pub struct CommonMetrics {
    updates: AtomicU64,
    update_errors: AtomicU64,
    is_loaded: AtomicBool,
    is_stale: AtomicBool,
    more: Mutex<Vec<Observed>>,
}

/// A series whose value someone else keeps.
struct Observed {
    name: &'static str,
    type_: SeriesType,
    help: &'static str,
    value: Box<dyn Fn() -> u64 + Send>,
}

impl fmt::Debug for Observed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Observed").field("name", &self.name).finish_non_exhaustive()
    }
}

impl CommonMetrics {
    /// A change of a Service, of the configuration or of a node was worked on.
    pub fn updated(&self) {
        self.updates.fetch_add(1, Ordering::Relaxed);
    }

    /// A change was worked on, and that failed. Counts as an update too.
    pub fn update_failed(&self) {
        self.updated();
        self.update_errors.fetch_add(1, Ordering::Relaxed);
    }

    /// A configuration came. The first one that comes into force loads it for good.
    pub fn config(&self, state: ConfigState) {
        self.is_stale.store(state == ConfigState::Stale, Ordering::Relaxed);
        if state == ConfigState::InForce {
            self.is_loaded.store(true, Ordering::Relaxed);
        }
    }

    /// Adds a series of the program's own, without labels. Its value is asked for at each reading.
    ///
    /// For limits that were reached and the like: give names that begin with `metallb_` and that MetalLB does not have.
    pub fn observe(
        &self,
        name: &'static str,
        type_: SeriesType,
        help: &'static str,
        value: impl Fn() -> u64 + Send + 'static,
    ) {
        let mut more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        more.push(Observed { name, type_, help, value: Box::new(value) });
    }
}

impl Metrics for CommonMetrics {
    fn write(&self, text: &mut Text) {
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        let flag = |flag: &AtomicBool| u8::from(flag.load(Ordering::Relaxed));
        text.single(
            "metallb_k8s_client_updates_total",
            SeriesType::Counter,
            "Number of changes of Kubernetes objects that have been worked on.",
            count(&self.updates),
        );
        text.single(
            "metallb_k8s_client_update_errors_total",
            SeriesType::Counter,
            "Number of changes of Kubernetes objects that could not be worked on.",
            count(&self.update_errors),
        );
        text.single(
            "metallb_k8s_client_config_loaded_bool",
            SeriesType::Gauge,
            "1 if a configuration has been in force at least once.",
            flag(&self.is_loaded),
        );
        text.single(
            "metallb_k8s_client_config_stale_bool",
            SeriesType::Gauge,
            "1 if the newest configuration is not the one in force.",
            flag(&self.is_stale),
        );
        let more = self.more.lock().unwrap_or_else(PoisonError::into_inner);
        for Observed { name, type_, help, value } in more.iter() {
            text.single(name, *type_, help, value());
        }
        process::write(text);
    }
}
