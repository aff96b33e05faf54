//! Where a Service that shares may sit down: the addresses in use under each sharing identity, and which ports are taken
//! there.
//!
//! A thousand addresses may carry the same key and all have TCP/80 taken; looking at each for every newcomer would make
//! allocation slower the more there are. So for each identity and port the addresses that have the port taken are kept
//! as runs: stretches of that identity's addresses without one that is free for the port. The first free one is then
//! behind the end of one run, in O(log n).

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;
use std::sync::Arc;

use kit::Family;

use crate::{PoolName, Port, Ports, Sharing};

/// An address by its place in a pool.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Place {
    pub(crate) pool: PoolName,
    pub(crate) position: u128,
}

/// One identity in one family; places of different groups have nothing to do with each other.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Group {
    pub(crate) sharing: Arc<Sharing>,
    pub(crate) family: Family,
}

/// Every address that is in use and may be shared.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seats {
    /// The addresses of each group, with the ports taken there.
    places: BTreeMap<(Group, Place), BTreeSet<Port>>,
    /// For each group and port: first place of a run to its last. Runs are as long as can be.
    runs: BTreeMap<(Group, Port, Place), Place>,
}

impl Seats {
    /// An address comes into use; nobody sits there yet.
    pub(crate) fn open(&mut self, group: &Group, place: &Place) {
        let (before, after) = (self.before(group, place), self.after(group, place));
        for port in self.taken_at_both(group, before.as_ref(), after.as_ref()) {
            self.split(group, port, place);
        }
        self.places.insert((group.clone(), place.clone()), BTreeSet::new());
    }

    /// An address goes out of use; nobody sits there any more.
    pub(crate) fn close(&mut self, group: &Group, place: &Place) {
        self.places.remove(&(group.clone(), place.clone()));
        let (before, after) = (self.before(group, place), self.after(group, place));
        for port in self.taken_at_both(group, before.as_ref(), after.as_ref()) {
            self.join(group, port, before.as_ref(), after.as_ref());
        }
    }

    /// Ports are taken at an address in use.
    pub(crate) fn sit(&mut self, group: &Group, place: &Place, ports: &Ports) {
        let Some(taken) = self.places.get_mut(&(group.clone(), place.clone())) else { return };
        taken.extend(ports.iter());
        let (before, after) = (self.before(group, place), self.after(group, place));
        for port in ports.iter() {
            self.runs.insert((group.clone(), port, place.clone()), place.clone());
            self.join(group, port, before.as_ref(), Some(place));
            self.join(group, port, Some(place), after.as_ref());
        }
    }

    /// Ports are given up at an address in use.
    pub(crate) fn leave(&mut self, group: &Group, place: &Place, ports: &Ports) {
        for port in ports.iter() {
            self.split(group, port, place);
        }
        if let Some(taken) = self.places.get_mut(&(group.clone(), place.clone())) {
            for port in ports.iter() {
                taken.remove(&port);
            }
        }
    }

    /// True when the port is taken at an address in use.
    pub(crate) fn is_taken(&self, group: &Group, place: &Place, port: Port) -> bool {
        self.taken_at(group, place).is_some_and(|taken| taken.contains(&port))
    }

    /// The first address of the group in `pool` or any pool behind it where none of the ports is taken.
    pub(crate) fn find_from(&self, group: &Group, ports: &Ports, pool: &PoolName) -> Option<Place> {
        let start = Place { pool: pool.clone(), position: 0 };
        let first = if self.taken_at(group, &start).is_some() { start } else { self.after(group, &start)? };
        self.find(group, ports, first)
    }

    /// The same in any pool behind `pool`.
    pub(crate) fn find_behind(&self, group: &Group, ports: &Ports, pool: &PoolName) -> Option<Place> {
        self.find(group, ports, self.after(group, &Place { pool: pool.clone(), position: u128::MAX })?)
    }

    fn find(&self, group: &Group, ports: &Ports, mut place: Place) -> Option<Place> {
        // Each round ends or jumps over a whole run.
        while let Some((_, last)) = ports.iter().find_map(|port| self.run_at(group, port, &place)) {
            place = self.after(group, &last)?;
        }
        Some(place)
    }

    fn taken_at(&self, group: &Group, place: &Place) -> Option<&BTreeSet<Port>> {
        self.places.get(&(group.clone(), place.clone()))
    }

    /// The ports of the runs that reach from one place to the next: those taken at both. Costs as much as the shorter
    /// of the two lists is long.
    fn taken_at_both(&self, group: &Group, before: Option<&Place>, after: Option<&Place>) -> Vec<Port> {
        let taken = |place: Option<&Place>| place.and_then(|place| self.taken_at(group, place));
        let (Some(one), Some(other)) = (taken(before), taken(after)) else { return Vec::new() };
        let (short, long) = if one.len() <= other.len() { (one, other) } else { (other, one) };
        short.iter().copied().filter(|port| long.contains(port)).collect()
    }

    /// The run of the port that covers the place: its first and last place.
    fn run_at(&self, group: &Group, port: Port, place: &Place) -> Option<(Place, Place)> {
        let ((run_group, run_port, first), last) =
            self.runs.range(..=(group.clone(), port, place.clone())).next_back()?;
        (run_group == group && *run_port == port && last >= place).then(|| (first.clone(), last.clone()))
    }

    /// Takes the place out of the run of the port that covers it, if any does.
    fn split(&mut self, group: &Group, port: Port, place: &Place) {
        let Some((first, last)) = self.run_at(group, port, place) else { return };
        self.runs.remove(&(group.clone(), port, first.clone()));
        if let Some(after) = self.after(group, place).filter(|after| *after <= last) {
            self.runs.insert((group.clone(), port, after), last);
        }
        if let Some(before) = self.before(group, place).filter(|before| *before >= first) {
            self.runs.insert((group.clone(), port, first), before);
        }
    }

    /// Makes one run of two if one ends at `left` and the other begins at `right`, the next place of the group.
    fn join(&mut self, group: &Group, port: Port, left: Option<&Place>, right: Option<&Place>) {
        let (Some(left), Some(right)) = (left, right) else { return };
        let Some((first, last)) = self.run_at(group, port, left) else { return };
        if last != *left {
            return;
        }
        if let Some(last) = self.runs.remove(&(group.clone(), port, right.clone())) {
            self.runs.insert((group.clone(), port, first), last);
        }
    }

    /// The last address of the group before the place.
    fn before(&self, group: &Group, place: &Place) -> Option<Place> {
        let ((found, before), _) = self.places.range(..(group.clone(), place.clone())).next_back()?;
        (found == group).then(|| before.clone())
    }

    /// The first address of the group after the place.
    fn after(&self, group: &Group, place: &Place) -> Option<Place> {
        let after_place = (Bound::Excluded((group.clone(), place.clone())), Bound::Unbounded);
        let ((found, after), _) = self.places.range(after_place).next()?;
        (found == group).then(|| after.clone())
    }

    /// Checks that the runs say what the places say, and are as long as can be. Costs O(n).
    pub(crate) fn check_invariants(&self) {
        let mut expected: BTreeMap<(Group, Port, Place), Place> = BTreeMap::new();
        let mut open: BTreeMap<(Group, Port), Place> = BTreeMap::new();
        for ((group, place), taken) in &self.places {
            open.retain(|(open_group, port), _| open_group == group && taken.contains(port));
            for port in taken {
                let first = open.entry((group.clone(), *port)).or_insert_with(|| place.clone());
                expected.insert((group.clone(), *port, first.clone()), place.clone());
            }
        }
        assert_eq!(self.runs, expected, "runs of taken ports disagree with the places");
    }

    /// The ports taken at each address of each group.
    pub(crate) fn taken(&self) -> impl Iterator<Item = (&Group, &Place, &BTreeSet<Port>)> {
        self.places.iter().map(|((group, place), taken)| (group, place, taken))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Backend, Protocol};
    use proptest::prelude::*;

    fn group(key: u8) -> Group {
        Group {
            sharing: Arc::new(Sharing { key: format!("k{key}").into(), backend: Backend::Cluster }),
            family: Family::V4,
        }
    }

    fn place(number: u8) -> Place {
        // Two pools, so that runs reach from one into the next.
        Place { pool: format!("p{}", number / 8).into(), position: u128::from(number % 8) }
    }

    fn port(number: u8) -> Port {
        Port { protocol: Protocol::Tcp, number: number.into() }
    }

    #[derive(Clone, Debug)]
    enum Op {
        Sit(u8, u8, Vec<u8>),
        Leave(u8, u8),
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            3 => (0..2u8, 0..16u8, prop::collection::vec(0..4u8, 1..4)).prop_map(|(k, p, ports)| Op::Sit(k, p, ports)),
            1 => (0..2u8, 0..16u8).prop_map(|(k, p)| Op::Leave(k, p)),
        ];
        prop::collection::vec(op, 0..80)
    }

    proptest! {
        /// The model is a list of who sits where; finding is looking at one address after the other.
        #[test]
        fn finding_agrees_with_looking_everywhere(ops in ops()) {
            let mut seats = Seats::default();
            let mut model: BTreeMap<(u8, u8), Vec<Ports>> = BTreeMap::new();
            for op in ops {
                match op {
                    Op::Sit(key, at, numbers) => {
                        let ports: Ports = numbers.into_iter().map(port).collect();
                        let sitting = model.entry((key, at)).or_default();
                        if sitting.iter().any(|other| other.iter().any(|port| ports.contains(port))) {
                            continue;
                        }
                        if sitting.is_empty() {
                            seats.open(&group(key), &place(at));
                        }
                        seats.sit(&group(key), &place(at), &ports);
                        sitting.push(ports);
                    }
                    Op::Leave(key, at) => {
                        let Some(sitting) = model.get_mut(&(key, at)) else { continue };
                        let Some(ports) = sitting.pop() else { continue };
                        seats.leave(&group(key), &place(at), &ports);
                        if sitting.is_empty() {
                            seats.close(&group(key), &place(at));
                        }
                    }
                }
                model.retain(|_, sitting| !sitting.is_empty());
                seats.check_invariants();
                for wanted in [vec![0], vec![1, 2], vec![0, 1, 2, 3]] {
                    let ports: Ports = wanted.into_iter().map(port).collect();
                    for (key, from) in [(0, 0), (1, 0), (0, 8)] {
                        let expected = (from..16).find(|at| {
                            model.get(&(key, *at)).is_some_and(|sitting| {
                                !sitting.iter().any(|other| other.iter().any(|port| ports.contains(port)))
                            })
                        });
                        let found = seats.find_from(&group(key), &ports, &place(from).pool);
                        prop_assert_eq!(found, expected.map(place));
                    }
                    let behind = seats.find_behind(&group(0), &ports, &place(0).pool);
                    prop_assert_eq!(behind, seats.find_from(&group(0), &ports, &place(8).pool));
                }
            }
        }
    }
}
