//! A map from prefixes to values of which few are different: routes with their attributes.
//!
//! Memory is what it is for. Each of the peers of a node has maps of all its routes, so an entry is a prefix of its own
//! family's size with the number of its value, and a value that many prefixes have is held once. The order is that of
//! [`IpNet`].

use std::collections::BTreeMap;
use std::ops::Bound;

use ipnet::{IpNet, Ipv4Net, Ipv6Net};
use kit::Family;

/// The map.
#[derive(Clone, Debug)]
pub(crate) struct PrefixMap<T> {
    v4: BTreeMap<Ipv4Net, ValueId>,
    v6: BTreeMap<Ipv6Net, ValueId>,
    values: Values<T>,
}

/// Names a value while some prefix has it. Memory ends long before the numbers do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct ValueId(u32);

/// Every value that some prefix has, once.
#[derive(Clone, Debug)]
struct Values<T> {
    ids: BTreeMap<T, ValueId>,
    slots: Vec<Slot<T>>,
    /// Slots without a value.
    free: Vec<ValueId>,
}

#[derive(Clone, Debug)]
struct Slot<T> {
    value: Option<T>,
    /// How many prefixes have it.
    uses: usize,
}

impl<T> Default for PrefixMap<T> {
    fn default() -> Self {
        let values = Values { ids: BTreeMap::new(), slots: Vec::new(), free: Vec::new() };
        PrefixMap { v4: BTreeMap::new(), v6: BTreeMap::new(), values }
    }
}

impl<T: Clone + Ord> PrefixMap<T> {
    /// The value of the prefix.
    pub(crate) fn get(&self, prefix: &IpNet) -> Option<&T> {
        let id = match prefix {
            IpNet::V4(prefix) => self.v4.get(prefix),
            IpNet::V6(prefix) => self.v6.get(prefix),
        }?;
        self.values.get(*id)
    }

    /// Gives the prefix a value, and gives back what it had.
    pub(crate) fn insert(&mut self, prefix: IpNet, value: T) -> Option<T> {
        let id = self.values.take(value);
        let before = match prefix {
            IpNet::V4(prefix) => self.v4.insert(prefix, id),
            IpNet::V6(prefix) => self.v6.insert(prefix, id),
        }?;
        self.values.release(before)
    }

    /// Takes the prefix out, and gives back what it had.
    pub(crate) fn remove(&mut self, prefix: &IpNet) -> Option<T> {
        let before = match prefix {
            IpNet::V4(prefix) => self.v4.remove(prefix),
            IpNet::V6(prefix) => self.v6.remove(prefix),
        }?;
        self.values.release(before)
    }

    /// The entries behind this prefix, or all, in order.
    pub(crate) fn after(&self, prefix: Option<&IpNet>) -> impl Iterator<Item = (IpNet, &T)> {
        let (v4, v6) = match prefix {
            None => (Some(Bound::Unbounded), Bound::Unbounded),
            Some(IpNet::V4(prefix)) => (Some(Bound::Excluded(*prefix)), Bound::Unbounded),
            // IPv4 is before all of IPv6.
            Some(IpNet::V6(prefix)) => (None, Bound::Excluded(*prefix)),
        };
        let v4 = v4.into_iter().flat_map(|begin| self.v4.range((begin, Bound::Unbounded)));
        let v4 = v4.map(|(prefix, id)| (IpNet::V4(*prefix), *id));
        let v6 = self.v6.range((v6, Bound::Unbounded)).map(|(prefix, id)| (IpNet::V6(*prefix), *id));
        v4.chain(v6).filter_map(|(prefix, id)| Some((prefix, self.values.get(id)?)))
    }

    /// The prefixes of a family, in order.
    pub(crate) fn prefixes_of(&self, family: Family) -> impl Iterator<Item = IpNet> {
        let v4 = (family == Family::V4).then(|| self.v4.keys().copied().map(IpNet::V4));
        let v6 = (family == Family::V6).then(|| self.v6.keys().copied().map(IpNet::V6));
        v4.into_iter().flatten().chain(v6.into_iter().flatten())
    }
}

impl<T: Clone + Ord> Values<T> {
    fn get(&self, id: ValueId) -> Option<&T> {
        self.slots.get(id.index())?.value.as_ref()
    }

    /// The number of a value, for one more prefix.
    fn take(&mut self, value: T) -> ValueId {
        if let Some(id) = self.ids.get(&value).copied() {
            if let Some(slot) = self.slots.get_mut(id.index()) {
                slot.uses = slot.uses.saturating_add(1);
            }
            return id;
        }
        let slot = Slot { value: Some(value.clone()), uses: 1 };
        let id = if let Some(id) = self.free.pop() {
            if let Some(empty) = self.slots.get_mut(id.index()) {
                *empty = slot;
            }
            id
        } else {
            let id = ValueId(u32::try_from(self.slots.len()).unwrap_or(u32::MAX));
            self.slots.push(slot);
            id
        };
        self.ids.insert(value, id);
        id
    }

    /// One prefix less has the value, which is given back.
    fn release(&mut self, id: ValueId) -> Option<T> {
        let slot = self.slots.get_mut(id.index())?;
        slot.uses = slot.uses.saturating_sub(1);
        if slot.uses > 0 {
            return slot.value.clone();
        }
        let value = slot.value.take()?;
        self.ids.remove(&value);
        self.free.push(id);
        Some(value)
    }
}

impl ValueId {
    fn index(self) -> usize {
        usize::try_from(self.0).unwrap_or(usize::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few enough that they meet, of both families and all kinds of length.
    fn prefixes() -> impl Strategy<Value = IpNet> {
        let text = prop::sample::select(vec![
            "0.0.0.0/0",
            "10.0.0.0/8",
            "10.0.0.0/32",
            "10.0.0.1/32",
            "10.0.1.0/24",
            "255.255.255.255/32",
            "::/0",
            "2001:db8::/32",
            "2001:db8::/128",
            "2001:db8::1/128",
            "fe80::/10",
        ]);
        text.prop_map(|text| text.parse().unwrap())
    }

    #[derive(Clone, Debug)]
    enum Op {
        Insert(IpNet, u8),
        Remove(IpNet),
    }

    fn op() -> impl Strategy<Value = Op> {
        prop_oneof![
            (prefixes(), 0..4_u8).prop_map(|(prefix, value)| Op::Insert(prefix, value)),
            prefixes().prop_map(Op::Remove),
        ]
    }

    proptest! {
        #[test]
        fn it_is_an_ordinary_map_and_holds_each_value_once(ops in prop::collection::vec(op(), 0..60), from in prefixes()) {
            let (mut map, mut model) = (PrefixMap::default(), BTreeMap::new());
            for op in ops {
                match op {
                    Op::Insert(prefix, value) => assert_eq!(map.insert(prefix, value), model.insert(prefix, value)),
                    Op::Remove(prefix) => assert_eq!(map.remove(&prefix), model.remove(&prefix)),
                }
                assert!(map.after(None).map(|(prefix, value)| (prefix, *value)).eq(model.clone()));
                let behind = model.range((Bound::Excluded(from), Bound::Unbounded)).map(|(prefix, value)| (*prefix, value));
                assert!(map.after(Some(&from)).eq(behind));
                for family in Family::ALL {
                    let of_family = model.keys().filter(|prefix| Family::of(&prefix.addr()) == family).copied();
                    assert!(map.prefixes_of(family).eq(of_family));
                }
                assert_eq!(map.get(&from), model.get(&from));
                let different: std::collections::BTreeSet<u8> = model.values().copied().collect();
                assert!(map.values.ids.keys().copied().eq(different.iter().copied()));
                // Slots are used again: there are no more than the values that there can be at once.
                assert_eq!(map.values.slots.len() - map.values.free.len(), different.len());
                assert!(map.values.slots.len() <= 5);
            }
        }
    }

    #[test]
    fn an_entry_of_a_table_is_small() {
        // The figures of docs/performance.md rest on this: what 100,000 routes cost at each of eight peers.
        assert_eq!(size_of::<Ipv4Net>() + size_of::<ValueId>(), 9);
        assert_eq!(size_of::<Ipv6Net>() + size_of::<ValueId>(), 21);
    }
}
