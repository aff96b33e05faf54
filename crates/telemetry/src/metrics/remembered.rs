//! A bounded memory of answers, each for a time. Pure: it is told the time.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::time::Instant;

/// Answers by what was asked. When it is full, what is closest to its end makes room.
#[derive(Debug)]
pub(super) struct Remembered<K, V> {
    entries: BTreeMap<K, (V, Instant)>,
    max: usize,
}

impl<K: Ord + Clone, V> Remembered<K, V> {
    pub(super) const fn new(max: usize) -> Self {
        Remembered { entries: BTreeMap::new(), max }
    }

    /// The answer, while its time lasts.
    pub(super) fn get(&self, now: Instant, key: &K) -> Option<&V> {
        self.entries.get(key).filter(|(_, end)| now < *end).map(|(value, _)| value)
    }

    /// True if there was an answer that has not made room yet, whether its time lasts or not.
    pub(super) fn knows(&self, key: &K) -> bool {
        self.entries.contains_key(key)
    }

    /// Keeps an answer for a time.
    pub(super) fn insert(&mut self, now: Instant, key: K, value: V, time: Duration) {
        if self.entries.len() >= self.max && !self.knows(&key) {
            let next_to_end = self.entries.iter().min_by_key(|(_, (_, end))| *end).map(|(key, _)| key.clone());
            next_to_end.and_then(|key| self.entries.remove(&key));
        }
        self.entries.insert(key, (value, now.checked_add(time).unwrap_or(now)));
    }

    /// Forgets an answer.
    pub(super) fn remove(&mut self, key: &K) {
        self.entries.remove(key);
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[test]
    fn an_answer_lasts_for_its_time_and_is_known_longer() {
        let start = Instant::now();
        let mut remembered = Remembered::new(2);
        remembered.insert(start, "a", 1, SECOND);
        for (after_ms, answer) in [(0, Some(&1)), (999, Some(&1)), (1_000, None), (90_000, None)] {
            let now = start + Duration::from_millis(after_ms);
            assert_eq!((remembered.get(now, &"a"), remembered.knows(&"a")), (answer, true), "after {after_ms} ms");
        }
        remembered.insert(start + 2 * SECOND, "a", 2, SECOND);
        assert_eq!(remembered.get(start + 2 * SECOND, &"a"), Some(&2));
        remembered.remove(&"a");
        assert!(!remembered.knows(&"a"));
    }

    #[test]
    fn what_is_closest_to_its_end_makes_room() {
        let start = Instant::now();
        let mut remembered = Remembered::new(3);
        for (key, seconds) in [("long", 30), ("short", 1), ("middle", 10)] {
            remembered.insert(start, key, (), SECOND * seconds);
        }
        remembered.insert(start, "middle", (), 20 * SECOND);
        assert!(remembered.knows(&"short"), "who is there already needs no room");
        remembered.insert(start, "new", (), 5 * SECOND);
        remembered.insert(start, "newer", (), 40 * SECOND);
        let known: Vec<_> =
            ["long", "short", "middle", "new", "newer"].into_iter().filter(|key| remembered.knows(key)).collect();
        assert_eq!((known, remembered.len()), (vec!["long", "middle", "newer"], 3));
    }
}
