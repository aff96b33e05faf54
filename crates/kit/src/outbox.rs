//! The bounded queue in which a core leaves what the driver has to do.

use std::collections::VecDeque;

/// What a core wants done, in order, up to a limit.
///
/// A core that may produce much (a full table, say) asks [`Outbox::room`] first and goes on at its next tick. What is
/// pushed beyond the limit is dropped and counted: a bug to be seen in tests, a bounded loss in production.
#[derive(Clone, Debug)]
pub struct Outbox<T> {
    items: VecDeque<T>,
    limit: usize,
    dropped: u64,
}

impl<T> Outbox<T> {
    /// An empty outbox that holds at most `limit` items.
    pub fn with_limit(limit: usize) -> Self {
        Outbox { items: VecDeque::new(), limit, dropped: 0 }
    }

    /// Appends an item, or counts it as dropped when the outbox is full.
    pub fn push(&mut self, item: T) {
        if self.items.len() < self.limit {
            self.items.push_back(item);
        } else {
            self.dropped = self.dropped.saturating_add(1);
        }
    }

    /// Takes the oldest item.
    pub fn pop(&mut self) -> Option<T> {
        self.items.pop_front()
    }

    /// Takes all items, the oldest first.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.items.drain(..)
    }

    /// How many more items fit.
    pub fn room(&self) -> usize {
        self.limit.saturating_sub(self.items.len())
    }

    /// How many items wait.
    pub fn len(&self) -> usize {
        self.items.len()
    }

    /// True when nothing waits.
    pub fn is_empty(&self) -> bool {
        self.items.is_empty()
    }

    /// How many items were lost to the limit since the outbox was made.
    pub fn dropped(&self) -> u64 {
        self.dropped
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_does_not_fit_is_counted() {
        let mut out = Outbox::with_limit(2);
        for n in 1..=3 {
            out.push(n);
        }
        assert_eq!((out.room(), out.dropped()), (0, 1));
        assert_eq!(out.drain().collect::<Vec<_>>(), [1, 2]);
        assert_eq!(out.room(), 2);
    }
}
