//! Deadlines as data: a core keeps its timers in a [`TimerTable`] and shows the driver only the earliest one.

use std::collections::{BTreeMap, BTreeSet};

use crate::Instant;

/// Named deadlines, each set at most once; setting, clearing and asking for the earliest cost O(log n).
#[derive(Clone, Debug)]
pub struct TimerTable<K> {
    by_name: BTreeMap<K, Instant>,
    by_time: BTreeSet<(Instant, K)>,
}

impl<K: Ord + Clone> TimerTable<K> {
    /// A table in which nothing is set.
    pub fn new() -> Self {
        TimerTable { by_name: BTreeMap::new(), by_time: BTreeSet::new() }
    }

    /// Sets the timer, replacing an earlier deadline of the same name.
    pub fn set(&mut self, name: K, deadline: Instant) {
        self.clear(&name);
        self.by_time.insert((deadline, name.clone()));
        self.by_name.insert(name, deadline);
    }

    /// Stops the timer, if it is running.
    pub fn clear(&mut self, name: &K) {
        if let Some((name, deadline)) = self.by_name.remove_entry(name) {
            self.by_time.remove(&(deadline, name));
        }
    }

    /// Stops all timers.
    pub fn clear_all(&mut self) {
        self.by_name.clear();
        self.by_time.clear();
    }

    /// When the timer fires, if it is running.
    pub fn get(&self, name: &K) -> Option<Instant> {
        self.by_name.get(name).copied()
    }

    /// The earliest deadline of all.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.by_time.first().map(|(deadline, _)| *deadline)
    }

    /// Takes out one timer whose deadline has come, the earliest first.
    pub fn pop_expired(&mut self, now: Instant) -> Option<K> {
        if self.next_deadline()? > now {
            return None;
        }
        let (_, name) = self.by_time.pop_first()?;
        self.by_name.remove(&name);
        Some(name)
    }

    /// How many timers are running.
    pub fn len(&self) -> usize {
        self.by_name.len()
    }

    /// True when no timer is running.
    pub fn is_empty(&self) -> bool {
        self.by_name.is_empty()
    }
}

impl<K: Ord + Clone> Default for TimerTable<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Duration;

    fn at(secs: u64) -> Instant {
        Instant::ZERO + Duration::from_secs(secs)
    }

    #[test]
    fn timers_expire_in_order_and_once() {
        let mut timers = TimerTable::new();
        timers.set("keepalive", at(30));
        timers.set("hold", at(90));
        assert_eq!(timers.pop_expired(at(29)), None);
        assert_eq!(timers.pop_expired(at(90)), Some("keepalive"));
        assert_eq!(timers.pop_expired(at(90)), Some("hold"));
        assert_eq!(timers.pop_expired(at(90)), None);
    }

    #[test]
    fn setting_again_moves_the_deadline() {
        let mut timers = TimerTable::new();
        timers.set("hold", at(10));
        timers.set("hold", at(20));
        assert_eq!((timers.len(), timers.next_deadline()), (1, Some(at(20))));
        timers.clear(&"hold");
        assert_eq!((timers.len(), timers.next_deadline()), (0, None));
    }
}
