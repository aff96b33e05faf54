//! Which addresses Services share, and what elects the owner of each: one that everybody finds, whichever of the Services is
//! looked at (ADR 3).
//!
//! It goes by what the API says of Services and by nothing that flaps. It does not know who is elected.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::{Key, KeyText};

use crate::facts::ServiceFacts;

/// What an address has in common with the others of its Service.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bond {
    /// They have one owner, elected by the Service's first address: all Services that have it have the same addresses.
    Whole,
    /// It is elected by that first address too, but other addresses are no reason for it to be elsewhere: not all of its
    /// Services have them.
    First,
    /// It elects by itself: its Services have different first addresses.
    Apart,
}

/// The addresses of the Services that may share them.
#[derive(Debug, Default)]
pub(crate) struct Sharing {
    /// All of them in one set, in the order of what they have in common: the first and the last Service of an address say
    /// whether all have the same addresses, or the same first one.
    holders: BTreeSet<(IpAddr, Holder)>,
    /// The nodes that Services with this first address are assigned to, and how many to each.
    assigned: BTreeMap<(IpAddr, Box<str>), usize>,
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Holder {
    /// Before all Services.
    Begin,
    /// A Service with these addresses.
    Service(Arc<[IpAddr]>, KeyText),
    /// Behind all Services.
    End,
}

/// What counts of a Service.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Counted<'a> {
    /// None if it may not share.
    addresses: &'a [IpAddr],
    assigned: Option<&'a str>,
}

impl<'a> Counted<'a> {
    fn of(facts: Option<&'a ServiceFacts>) -> Self {
        let facts = facts.filter(|facts| facts.may_share);
        let counted = |facts: &'a ServiceFacts| {
            let addresses = facts.addresses.as_deref().ok()?;
            Some(Counted { addresses, assigned: facts.assigned.as_deref() })
        };
        facts.and_then(counted).unwrap_or_default()
    }
}

impl Sharing {
    /// Replaces what is known of a Service, and says which others are concerned: what elects the owner of an address of theirs is
    /// something else now.
    pub(crate) fn replace(
        &mut self,
        service: &Key,
        old: Option<&ServiceFacts>,
        new: Option<&ServiceFacts>,
    ) -> BTreeSet<Key> {
        let (old, new) = (Counted::of(old), Counted::of(new));
        if old == new {
            return BTreeSet::new();
        }
        let state =
            |sharing: &Sharing, address: &IpAddr| (sharing.bond(address), sharing.assigned(address).map(str::to_owned));
        let touched: BTreeSet<IpAddr> = old.addresses.iter().chain(new.addresses).copied().collect();
        let before: Vec<_> = touched.iter().map(|address| state(self, address)).collect();
        self.remove(service, old);
        self.insert(service, new);
        let changed = touched.iter().zip(before).filter(|(address, before)| state(self, address) != *before);
        let concerned = changed.flat_map(|(address, _)| self.services(address).collect::<Vec<Key>>());
        concerned.filter(|other| other != service).collect()
    }

    fn remove(&mut self, service: &Key, counted: Counted<'_>) {
        let holder = Holder::Service(counted.addresses.into(), service.into());
        for address in counted.addresses {
            self.holders.remove(&(*address, holder.clone()));
        }
        if let (Some(first), Some(node)) = (counted.addresses.first(), counted.assigned) {
            let key = (*first, node.into());
            let left = self.assigned.get(&key).map_or(0, |number| number.saturating_sub(1));
            match left {
                0 => self.assigned.remove(&key),
                left => self.assigned.insert(key, left),
            };
        }
    }

    fn insert(&mut self, service: &Key, counted: Counted<'_>) {
        let holder = Holder::Service(counted.addresses.into(), service.into());
        self.holders.extend(counted.addresses.iter().map(|address| (*address, holder.clone())));
        if let (Some(first), Some(node)) = (counted.addresses.first(), counted.assigned) {
            let number = self.assigned.entry((*first, node.into())).or_default();
            *number = number.saturating_add(1);
        }
    }

    /// The node that the Services with this first address are assigned to. While they show different ones, for they are written
    /// one by one, all go by the same of them.
    pub(crate) fn assigned(&self, first: &IpAddr) -> Option<&str> {
        let ((address, node), _) = self.assigned.range((*first, Box::default())..).next()?;
        (address == first).then_some(&**node)
    }

    /// The Services that may share an address, and have it.
    pub(crate) fn services(&self, address: &IpAddr) -> impl Iterator<Item = Key> {
        self.of(address).map(|(_, service)| service.key())
    }

    /// What an address has in common with the others of each Service that may share it.
    pub(crate) fn bond(&self, address: &IpAddr) -> Bond {
        let mut holders = self.of(address).map(|(addresses, _)| addresses);
        match (holders.next(), holders.next_back()) {
            (Some(one), Some(other)) if one.first() != other.first() => Bond::Apart,
            (Some(one), Some(other)) if one != other => Bond::First,
            (Some(_) | None, _) => Bond::Whole,
        }
    }

    fn of(&self, address: &IpAddr) -> impl DoubleEndedIterator<Item = (&[IpAddr], &KeyText)> {
        let range = self.holders.range((*address, Holder::Begin)..(*address, Holder::End));
        range.filter_map(|(_, holder)| match holder {
            Holder::Service(addresses, service) => Some((&**addresses, service)),
            Holder::Begin | Holder::End => None,
        })
    }
}

#[cfg(test)]
mod tests {
    use api::core::Service;

    use super::*;

    fn facts(addresses: &str) -> ServiceFacts {
        let mut facts = ServiceFacts::read(&Service::default(), "");
        facts.may_share = true;
        facts.addresses = Ok(addresses.split(',').map(|address| address.parse().unwrap()).collect());
        facts
    }

    /// Services that come and go, in a table.
    #[derive(Default)]
    struct Table {
        sharing: Sharing,
        services: BTreeMap<String, ServiceFacts>,
    }

    impl Table {
        /// The Service has these addresses now, or none; the names of the others that are concerned.
        fn put(&mut self, name: &str, new: Option<ServiceFacts>) -> String {
            let old = self.services.remove(name);
            let concerned = self.sharing.replace(&Key::new("", name), old.as_ref(), new.as_ref());
            self.services.extend(new.map(|facts| (name.to_owned(), facts)));
            concerned.into_iter().map(|key| key.name).collect::<Vec<_>>().join(" ")
        }

        fn bond(&self, address: &str) -> Bond {
            self.sharing.bond(&address.parse().unwrap())
        }
    }

    #[test]
    fn contract_12_1_d10_what_an_address_has_in_common_with_others() {
        let mut table = Table::default();
        // Who comes, who is concerned, and the bonds of 10.0.0.1, fc00::1 and fc00::2.
        let rows = [
            ("a", "10.0.0.1,fc00::1", "", [Bond::Whole, Bond::Whole, Bond::Whole]),
            ("b", "10.0.0.1,fc00::1", "", [Bond::Whole, Bond::Whole, Bond::Whole]),
            ("c", "10.0.0.1,fc00::2", "a b", [Bond::First, Bond::Whole, Bond::Whole]),
            ("d", "10.0.0.1", "", [Bond::First, Bond::Whole, Bond::Whole]),
            ("e", "fc00::1", "a b", [Bond::First, Bond::Apart, Bond::Whole]),
            ("f", "fc00::1", "", [Bond::First, Bond::Apart, Bond::Whole]),
            ("g", "fc00::2,10.0.0.1", "a b c d", [Bond::Apart, Bond::Apart, Bond::Apart]),
            ("g", "fc00::2", "a b c d", [Bond::First, Bond::Apart, Bond::Apart]),
            ("c", "10.0.0.9", "g", [Bond::First, Bond::Apart, Bond::Whole]),
            ("d", "10.0.0.8", "a b", [Bond::Whole, Bond::Apart, Bond::Whole]),
        ];
        for (name, addresses, concerned, bonds) in rows {
            assert_eq!(table.put(name, Some(facts(addresses))), concerned, "{name} {addresses}");
            assert_eq!(["10.0.0.1", "fc00::1", "fc00::2"].map(|it| table.bond(it)), bonds, "{name} {addresses}");
        }
        // One that may share no more, and one that is gone.
        assert_eq!(table.put("e", Some(ServiceFacts { may_share: false, ..facts("fc00::1") })), "");
        assert_eq!(table.put("f", None), "a b");
        assert_eq!(table.bond("fc00::1"), Bond::Whole);
        for name in ["a", "b", "c", "d", "e", "g"] {
            table.put(name, None);
        }
        assert!(table.sharing.holders.is_empty() && table.sharing.assigned.is_empty());
    }

    #[test]
    fn adr_16_services_that_share_their_first_address_go_by_one_assignment() {
        let mut table = Table::default();
        let facts = |addresses: &str, node: Option<&str>| {
            Some(ServiceFacts { assigned: node.map(Into::into), ..facts(addresses) })
        };
        let rows = [
            ("a", facts("10.0.0.1", Some("n2")), "", Some("n2")),
            ("b", facts("10.0.0.1,fc00::1", None), "a", Some("n2")),
            ("c", facts("10.0.0.1", Some("n3")), "", Some("n2")),
            ("b", facts("10.0.0.1,fc00::1", Some("n1")), "a c", Some("n1")),
            ("a", facts("10.0.0.1", Some("n1")), "", Some("n1")),
            // It has the address, and another one elects for it.
            ("d", facts("fc00::1,10.0.0.1", Some("n0")), "a b c", Some("n1")),
            ("d", None, "a b c", Some("n1")),
            ("a", facts("10.0.0.1", None), "", Some("n1")),
            ("b", None, "a c", Some("n3")),
            ("c", facts("10.0.0.1", None), "a", None),
        ];
        for (name, facts, concerned, node) in rows {
            assert_eq!(table.put(name, facts), concerned, "{name}");
            assert_eq!(table.sharing.assigned(&"10.0.0.1".parse().unwrap()), node, "{name}");
        }
        assert!(table.sharing.assigned.is_empty());
    }

    /// What a change costs does not grow with how many share the address, but where it changes what all of them do.
    #[test]
    fn contract_12_1_d10_one_of_two_hundred_concerns_itself_alone() {
        let mut table = Table::default();
        let own = |number: usize| Some(facts(&format!("10.0.0.{number},fc00::1")));
        let concerned: Vec<usize> =
            (0..200).map(|number| table.put(&format!("s{number}"), own(number)).split_whitespace().count()).collect();
        assert_eq!(concerned.iter().sum::<usize>(), 1, "the second one is news for the first");
        assert_eq!(table.put("s7", own(207)), "");
        assert_eq!(table.put("s8", None), "");
        for number in 9..200 {
            assert_eq!(table.put(&format!("s{number}"), None), "");
        }
        let left = (0..7).map(|number| table.put(&format!("s{number}"), None)).collect::<Vec<_>>();
        assert_eq!(left.iter().filter(|concerned| !concerned.is_empty()).count(), 1, "{left:?}");
    }
}
