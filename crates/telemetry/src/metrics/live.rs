//! Things that live and end, with their numbers, by a name that others may have had before.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// The things that live now: by name, and for each name by age.
#[derive(Debug)]
pub(super) struct Live<K, V>(Arc<Mutex<Inner<K, V>>>);

#[derive(Debug)]
struct Inner<K, V> {
    count: u64,
    things: BTreeMap<(K, u64), Arc<V>>,
}

impl<K: Ord + Clone, V: Default> Live<K, V> {
    pub(super) fn new() -> Live<K, V> {
        Live(Arc::new(Mutex::new(Inner { count: 0, things: BTreeMap::new() })))
    }

    /// A thing that lives until the handle is dropped.
    pub(super) fn begin(&self, name: K) -> Handle<K, V> {
        let mut inner = lock(&self.0);
        inner.count = inner.count.saturating_add(1);
        let id = (name, inner.count);
        let value = Arc::new(V::default());
        inner.things.insert(id.clone(), value.clone());
        Handle { live: self.0.clone(), id, value }
    }

    /// The youngest thing of each name, in the order of the names.
    pub(super) fn youngest(&self) -> Vec<(K, Arc<V>)> {
        let inner = lock(&self.0);
        let by_name: BTreeMap<&K, &Arc<V>> = inner.things.iter().map(|((name, _), value)| (name, value)).collect();
        by_name.into_iter().map(|(name, value)| (name.clone(), value.clone())).collect()
    }
}

/// Keeps a thing alive.
#[derive(Debug)]
pub(super) struct Handle<K: Ord, V> {
    live: Arc<Mutex<Inner<K, V>>>,
    id: (K, u64),
    pub(super) value: Arc<V>,
}

impl<K: Ord, V> Drop for Handle<K, V> {
    fn drop(&mut self) {
        lock(&self.live).things.remove(&self.id);
    }
}

fn lock<K, V>(inner: &Mutex<Inner<K, V>>) -> MutexGuard<'_, Inner<K, V>> {
    inner.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU64, Ordering};

    use super::*;

    #[test]
    fn the_youngest_of_a_name_counts_whichever_goes_first() {
        let live: Live<&str, AtomicU64> = Live::new();
        let values = || live.youngest().iter().map(|(k, v)| (*k, v.load(Ordering::Relaxed))).collect::<Vec<_>>();
        let begin = |name, value| {
            let handle = live.begin(name);
            handle.value.store(value, Ordering::Relaxed);
            handle
        };
        let (old, other) = (begin("a", 1), begin("b", 2));
        assert_eq!(values(), [("a", 1), ("b", 2)]);
        let young = begin("a", 3);
        assert_eq!(values(), [("a", 3), ("b", 2)]);
        drop(old);
        assert_eq!(values(), [("a", 3), ("b", 2)], "the end of the predecessor takes nothing along");
        let younger = begin("a", 4);
        drop(younger);
        assert_eq!(values(), [("a", 3), ("b", 2)]);
        drop((young, other));
        assert_eq!(values(), []);
    }
}
