//! Sets of numbers kept as disjoint intervals.
//!
//! An IPv6 pool has 2^64 members and allocation wants gaps, so neither a bitmap nor a plain set of addresses will do.

use std::collections::BTreeMap;

/// A set of `u128` as the fewest inclusive intervals: no two overlap or touch.
///
/// Every operation costs O(log n) in the number of intervals, plus the intervals it merges or removes.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct IntervalSet {
    /// First number of an interval to its last one.
    intervals: BTreeMap<u128, u128>,
}

impl IntervalSet {
    /// The empty set.
    pub fn new() -> Self {
        Self::default()
    }

    /// True when nothing is in it.
    pub fn is_empty(&self) -> bool {
        self.intervals.is_empty()
    }

    /// The intervals, ascending.
    pub fn intervals(&self) -> impl Iterator<Item = (u128, u128)> + '_ {
        self.intervals.iter().map(|(first, last)| (*first, *last))
    }

    /// True when the number is in it.
    pub fn contains(&self, number: u128) -> bool {
        self.interval_at(number).is_some()
    }

    /// The interval that holds the number.
    pub fn interval_at(&self, number: u128) -> Option<(u128, u128)> {
        let (first, last) = self.intervals.range(..=number).next_back()?;
        (*last >= number).then_some((*first, *last))
    }

    /// True when a number from `first` to `last` is in it.
    pub fn overlaps(&self, first: u128, last: u128) -> bool {
        self.intervals.range(..=last).next_back().is_some_and(|(_, end)| *end >= first)
    }

    /// Adds the numbers from `first` to `last`; nothing when they are out of order.
    pub fn insert(&mut self, first: u128, last: u128) {
        if first > last {
            return;
        }
        let (mut low, mut high) = (first, last);
        // Whatever overlaps or touches the new interval becomes part of it; the predecessor is the only one that can
        // start before it.
        let reach = last.saturating_add(1);
        while let Some((start, end)) = self.intervals.range(..=reach).next_back().map(|(s, e)| (*s, *e)) {
            if end.saturating_add(1) < first {
                break;
            }
            low = low.min(start);
            high = high.max(end);
            self.intervals.remove(&start);
        }
        self.intervals.insert(low, high);
    }

    /// Takes the numbers from `first` to `last` out.
    pub fn remove(&mut self, first: u128, last: u128) {
        if first > last {
            return;
        }
        while let Some((start, end)) = self.intervals.range(..=last).next_back().map(|(s, e)| (*s, *e)) {
            if end < first {
                break;
            }
            self.intervals.remove(&start);
            if let Some(below) = first.checked_sub(1).filter(|below| start <= *below) {
                self.intervals.insert(start, below);
            }
            if let Some(above) = last.checked_add(1).filter(|above| *above <= end) {
                self.intervals.insert(above, end);
            }
        }
    }

    /// The lowest number from `first` to `last` that is not in the set, in O(log n).
    pub fn first_gap(&self, first: u128, last: u128) -> Option<u128> {
        let candidate = match self.interval_at(first) {
            Some((_, end)) => end.checked_add(1)?,
            None => first,
        };
        (candidate <= last).then_some(candidate)
    }

    /// How many numbers are in it, saturating.
    pub fn count(&self) -> u128 {
        self.intervals()
            .fold(0, |sum: u128, (first, last)| sum.saturating_add(last.saturating_sub(first).saturating_add(1)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    #[test]
    fn ends_of_the_number_line_do_not_overflow() {
        let mut set = IntervalSet::new();
        set.insert(u128::MAX, u128::MAX);
        set.insert(0, 0);
        set.insert(1, u128::MAX - 1);
        assert_eq!(set.intervals().collect::<Vec<_>>(), [(0, u128::MAX)]);
        assert_eq!(set.first_gap(0, u128::MAX), None);
        set.remove(0, u128::MAX);
        assert!(set.is_empty());
    }

    proptest! {
        /// The model is a `BTreeSet` of the numbers themselves.
        #[test]
        fn agrees_with_a_plain_set(ops in prop::collection::vec((any::<bool>(), 0u128..64, 0u128..16), 0..60)) {
            let (mut set, mut model) = (IntervalSet::new(), BTreeSet::new());
            for (add, first, span) in ops {
                let last = first + span;
                if add {
                    set.insert(first, last);
                    model.extend(first..=last);
                } else {
                    set.remove(first, last);
                    model.retain(|n| !(first..=last).contains(n));
                }
                prop_assert_eq!(set.count(), model.len() as u128);
                for n in 0..100 {
                    prop_assert_eq!(set.contains(n), model.contains(&n));
                    prop_assert_eq!(set.first_gap(n, 80), (n..=80).find(|g| !model.contains(g)));
                    prop_assert_eq!(set.overlaps(n, n + 3), (n..=n + 3).any(|m| model.contains(&m)));
                }
                let pieces: Vec<_> = set.intervals().collect();
                prop_assert!(pieces.windows(2).all(|w| w[0].1 + 1 < w[1].0), "not minimal: {pieces:?}");
            }
        }
    }
}
