//! Which node each address is assigned to, so that all nodes have about as many: consistent hashing with bounded loads
//! (Mirrokni, Thorup and Zadimoghaddam, 2016), with memory (ADR 16).
//!
//! An address stays where it is for as long as its node is eligible and within the bound. Else it goes to the first node in
//! its order of contract 5.1 that has room, which is the one that took over when its node died. A bound is that of the nodes
//! that are eligible for the address: no such node has more than a quarter above their average, or one above it.
//!
//! Addresses with the same eligible nodes are a *class*: in nearly every cluster there is one, and what a change costs depends on
//! how many there are and not on the number of addresses.
//!
//! It does not know why a node is eligible, what a Service is, or who carries out what is decided here.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use crate::election::digest;

/// The addresses that are assigned.
#[derive(Debug, Default)]
pub(crate) struct Balance {
    addresses: BTreeMap<IpAddr, Placed>,
    classes: BTreeMap<ClassId, Class>,
    by_nodes: BTreeMap<Arc<[Arc<str>]>, ClassId>,
    nodes: BTreeMap<Arc<str>, Load>,
    /// Addresses to look at.
    dirty: BTreeSet<IpAddr>,
    /// Classes of which a node may have too many.
    unchecked: BTreeSet<ClassId>,
    classes_made: u64,
}

type ClassId = u64;

#[derive(Debug)]
struct Placed {
    class: ClassId,
    /// None until it has one.
    node: Option<Arc<str>>,
}

#[derive(Debug)]
struct Class {
    /// In their order.
    nodes: Arc<[Arc<str>]>,
    /// Where its addresses are.
    placed: BTreeMap<Arc<str>, BTreeSet<IpAddr>>,
    /// Those that have no node yet.
    homeless: BTreeSet<IpAddr>,
}

#[derive(Debug, Default)]
struct Load {
    addresses: usize,
    /// The classes that it is eligible for.
    classes: BTreeSet<ClassId>,
}

/// How many addresses a node may have, where so many nodes have so many of them together.
fn bound(addresses: usize, nodes: usize) -> usize {
    let average = |number: usize| number.checked_div(nodes).unwrap_or(0);
    let more = average(addresses.saturating_mul(5)).checked_div(4).unwrap_or(0);
    addresses.div_ceil(nodes.max(1)).max(more)
}

impl Balance {
    /// The address is to be on one of these nodes, in their order; for the first time, it is on that node already.
    pub(crate) fn set(&mut self, address: IpAddr, eligible: &[&str], shown: Option<&str>) {
        let class = self.class_of(eligible);
        let node = match self.addresses.get(&address) {
            Some(placed) if placed.class == class => return,
            Some(placed) => placed.node.clone(),
            None => shown.map(Arc::from),
        };
        self.remove(address);
        // Where nobody is eligible there is no better node.
        let node = node.filter(|node| eligible.is_empty() || eligible.binary_search(&&**node).is_ok());
        self.addresses.insert(address, Placed { class, node: None });
        if let Some(node) = node {
            self.place(address, Some(node));
        } else if let Some(class) = self.classes.get_mut(&class) {
            class.homeless.insert(address);
            self.dirty.insert(address);
        }
    }

    /// Somebody else wants the address to be on that node. It is, if that may be and there is room, or nobody is eligible.
    pub(crate) fn adopt(&mut self, address: IpAddr, node: &str) {
        let Some(class) = self.addresses.get(&address).and_then(|placed| self.classes.get(&placed.class)) else {
            return;
        };
        let may_have = |it: &&Arc<str>| ***it == *node && self.load(it) < self.bound(class);
        let node = match class.nodes.iter().find(may_have) {
            Some(node) => Arc::clone(node),
            None if class.nodes.is_empty() => Arc::from(node),
            None => return,
        };
        self.place(address, Some(node));
    }

    /// The address is not to be assigned any more.
    pub(crate) fn remove(&mut self, address: IpAddr) {
        self.place(address, None);
        self.dirty.remove(&address);
        let Some(placed) = self.addresses.remove(&address) else { return };
        let Some(class) = self.classes.get_mut(&placed.class) else { return };
        class.homeless.remove(&address);
        if class.homeless.is_empty() && class.placed.is_empty() {
            self.drop_class(placed.class);
        }
    }

    /// Where the address is; none while that is not decided.
    pub(crate) fn node(&self, address: &IpAddr) -> Option<&str> {
        self.addresses.get(address)?.node.as_deref()
    }

    /// How many addresses each node has.
    pub(crate) fn loads(&self) -> impl Iterator<Item = (&str, usize)> {
        self.nodes.iter().map(|(node, load)| (&**node, load.addresses))
    }

    /// Gives nodes to those that have none, one address at a time, and says which; none when all have one that can.
    pub(crate) fn next_placement(&mut self) -> Option<IpAddr> {
        while let Some(address) = self.dirty.pop_first() {
            if self.node(&address).is_none()
                && let Some(node) = self.first_with_room(address)
            {
                self.place(address, Some(node));
                return Some(address);
            }
        }
        None
    }

    /// Moves what is too many on a node, one address at a time, and says which; none when all is well. Those that have no
    /// node come first.
    pub(crate) fn next_move(&mut self) -> Option<IpAddr> {
        while let Some(class) = self.unchecked.first().copied() {
            // If one has too many, another has room: no average is above the bound.
            let place = self.excess(class).and_then(|address| Some((address, self.first_with_room(address)?)));
            let Some((address, node)) = place else {
                self.unchecked.remove(&class);
                continue;
            };
            self.place(address, Some(node));
            return Some(address);
        }
        None
    }

    /// Whether [`Balance::next_placement`] may find something.
    pub(crate) fn may_place(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// Whether [`Balance::next_move`] may find something.
    pub(crate) fn may_move(&self) -> bool {
        !self.unchecked.is_empty()
    }

    /// An address of the class that is on a node with too many: the one that has least reason to be there.
    fn excess(&self, class: ClassId) -> Option<IpAddr> {
        let class = self.classes.get(&class)?;
        let limit = self.bound(class);
        let (node, addresses) =
            class.placed.iter().find(|(node, _)| !class.nodes.is_empty() && self.load(node) > limit)?;
        addresses.iter().copied().max_by_key(|address| digest(node, address))
    }

    /// The first node in the order of an address that has room for one more.
    fn first_with_room(&self, address: IpAddr) -> Option<Arc<str>> {
        let class = self.addresses.get(&address).and_then(|placed| self.classes.get(&placed.class))?;
        let limit = self.bound(class);
        let with_room = class.nodes.iter().filter(|node| self.load(node) < limit);
        with_room.min_by_key(|node| digest(node, &address)).cloned()
    }

    /// How many addresses a node that is eligible for this class may have. Those that have no node yet are counted, so that it
    /// is the same for the first and the last of them.
    fn bound(&self, class: &Class) -> usize {
        let placed: usize = class.nodes.iter().map(|node| self.load(node)).sum();
        bound(placed.saturating_add(class.homeless.len()), class.nodes.len())
    }

    fn load(&self, node: &str) -> usize {
        self.nodes.get(node).map_or(0, |load| load.addresses)
    }

    /// Puts an address on a node, or on none.
    fn place(&mut self, address: IpAddr, node: Option<Arc<str>>) {
        let Some(placed) = self.addresses.get_mut(&address) else { return };
        let before = std::mem::replace(&mut placed.node, node.clone());
        let Some(class) = self.classes.get_mut(&placed.class) else { return };
        match &before {
            Some(before) => {
                if let Some(addresses) = class.placed.get_mut(before) {
                    addresses.remove(&address);
                    if addresses.is_empty() {
                        class.placed.remove(before);
                    }
                }
            }
            None => {
                class.homeless.remove(&address);
            }
        }
        if let Some(node) = &node {
            class.placed.entry(Arc::clone(node)).or_default().insert(address);
        }
        if let Some(before) = before {
            self.count(&before, |number| number.saturating_sub(1));
        }
        if let Some(node) = node {
            self.count(&node, |number| number.saturating_add(1));
        }
    }

    /// The node has another number of addresses: the bound of its classes is another one, or it is above it.
    fn count(&mut self, node: &Arc<str>, change: impl FnOnce(usize) -> usize) {
        let load = self.nodes.entry(Arc::clone(node)).or_default();
        load.addresses = change(load.addresses);
        self.unchecked.extend(&load.classes);
        if load.addresses == 0 && load.classes.is_empty() {
            self.nodes.remove(node);
        }
    }

    /// The class with these nodes.
    fn class_of(&mut self, nodes: &[&str]) -> ClassId {
        // Most often it is there, and its names need not be made.
        let nodes: Arc<[Arc<str>]> = nodes
            .iter()
            .map(|node| self.nodes.get_key_value(*node).map_or_else(|| Arc::from(*node), |(node, _)| Arc::clone(node)))
            .collect();
        if let Some(class) = self.by_nodes.get(&nodes) {
            return *class;
        }
        self.classes_made = self.classes_made.saturating_add(1);
        let class = self.classes_made;
        for node in nodes.iter() {
            self.nodes.entry(Arc::clone(node)).or_default().classes.insert(class);
        }
        self.by_nodes.insert(Arc::clone(&nodes), class);
        self.classes.insert(class, Class { nodes, placed: BTreeMap::new(), homeless: BTreeSet::new() });
        class
    }

    fn drop_class(&mut self, id: ClassId) {
        self.unchecked.remove(&id);
        let Some(class) = self.classes.remove(&id) else { return };
        self.by_nodes.remove(&class.nodes);
        for node in class.nodes.iter() {
            let Some(load) = self.nodes.get_mut(node) else { continue };
            load.classes.remove(&id);
            if load.addresses == 0 && load.classes.is_empty() {
                self.nodes.remove(node);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap as Map;

    use kit::Rng;

    use super::*;

    const NODES: [&str; 6] = ["n1", "n2", "n3", "n4", "n5", "n6"];

    fn address(number: u64) -> IpAddr {
        format!("10.0.{}.{}", number / 200, number % 200 + 1).parse().unwrap()
    }

    fn settle(balance: &mut Balance) -> Vec<IpAddr> {
        std::iter::from_fn(|| balance.next_placement().or_else(|| balance.next_move())).collect()
    }

    fn loads(balance: &Balance) -> Vec<usize> {
        balance.loads().map(|(_, load)| load).collect()
    }

    fn balance_of(addresses: u64, nodes: &[&str]) -> Balance {
        let mut balance = Balance::default();
        (0..addresses).for_each(|number| balance.set(address(number), nodes, None));
        settle(&mut balance);
        balance
    }

    #[test]
    fn the_bound_is_a_quarter_above_the_average_or_the_average_rounded_up() {
        let cases =
            [(0, 4, 0), (1, 4, 1), (4, 4, 1), (5, 4, 2), (12, 4, 3), (16, 4, 5), (17, 4, 5), (100, 4, 31), (7, 1, 8)];
        for (addresses, nodes, expected) in cases {
            assert_eq!(bound(addresses, nodes), expected, "{addresses} on {nodes}");
            assert!(bound(addresses, nodes) * nodes >= addresses, "there is room for all");
        }
        assert_eq!(bound(usize::MAX, 0), usize::MAX);
    }

    #[test]
    fn twelve_on_four_nodes_are_three_each_and_what_a_dead_node_had_goes_to_its_heirs_and_stays_there() {
        let mut balance = balance_of(12, &NODES[..4]);
        assert_eq!(loads(&balance), [3, 3, 3, 3]);
        let before: Map<IpAddr, String> =
            (0..12).map(|number| (address(number), balance.node(&address(number)).unwrap().to_owned())).collect();
        (0..12).for_each(|number| balance.set(address(number), &NODES[..3], None));
        let moved = settle(&mut balance);
        assert_eq!((moved.len(), loads(&balance)), (3, vec![5, 3, 4]));
        assert!(moved.iter().all(|address| before[address] == "n4"), "{moved:?}");
        // It returns, and gets what the others have too many.
        (0..12).for_each(|number| balance.set(address(number), &NODES[..4], None));
        assert_eq!((settle(&mut balance).len(), loads(&balance)), (3, vec![3, 3, 3, 3]));
    }

    #[test]
    fn a_node_that_comes_gets_what_exceeds_the_bound_and_no_more() {
        let mut balance = balance_of(300, &NODES[..3]);
        (0..300).for_each(|number| balance.set(address(number), &NODES[..4], None));
        let moved = settle(&mut balance).len();
        // The bound is 93; three nodes with 100 each keep that many.
        assert_eq!((moved, loads(&balance).iter().max()), (21, Some(&93)));
    }

    #[test]
    fn where_there_is_room_everything_is_where_the_hash_would_have_it() {
        let balance = balance_of(1, &NODES);
        let first = NODES.into_iter().min_by_key(|node| digest(node, &address(0)));
        assert_eq!(balance.node(&address(0)), first);
    }

    #[test]
    fn what_is_shown_is_taken_over_if_it_may_be_and_kept_where_nobody_is_eligible() {
        let mut balance = Balance::default();
        balance.set(address(0), &["n1", "n2"], Some("n2"));
        balance.set(address(1), &[], Some("n7"));
        balance.set(address(2), &[], None);
        balance.set(address(3), &["n1", "n2"], Some("n7"));
        let nodes =
            |balance: &Balance| (0..4).map(|n| balance.node(&address(n)).map(str::to_owned)).collect::<Vec<_>>();
        assert_eq!(settle(&mut balance), [address(3)]);
        assert_eq!(nodes(&balance), [Some("n2".into()), Some("n7".into()), None, Some("n1".into())]);
        balance.set(address(1), &["n1", "n2", "n7"], None);
        balance.set(address(2), &["n1", "n2", "n7"], None);
        assert_eq!(settle(&mut balance), [address(2)]);
        assert_eq!(nodes(&balance)[1], Some("n7".into()));
    }

    #[test]
    fn another_one_is_adopted_if_it_is_eligible_and_has_room() {
        let mut balance = balance_of(4, &NODES[..4]);
        let mine = balance.node(&address(0)).unwrap().to_owned();
        for other in ["n1", "n2", "n3", "n4", "n9"] {
            balance.adopt(address(0), other);
            assert_eq!(balance.node(&address(0)), Some(mine.as_str()), "all are full, or strange");
        }
        let free = balance.node(&address(1)).unwrap().to_owned();
        balance.remove(address(1));
        balance.adopt(address(0), &free);
        assert_eq!(balance.node(&address(0)), Some(free.as_str()));
    }

    /// What is kept by node and by class is what the addresses say.
    fn check_books(balance: &Balance) {
        let mut loads: Map<&str, usize> = Map::new();
        for (address, placed) in &balance.addresses {
            let class = &balance.classes[&placed.class];
            match &placed.node {
                Some(node) => {
                    *loads.entry(node).or_default() += 1;
                    assert!(class.placed[node].contains(address) && !class.homeless.contains(address));
                }
                None => assert!(class.homeless.contains(address)),
            }
        }
        let kept: Map<&str, usize> = balance.loads().filter(|(_, load)| *load > 0).collect();
        assert_eq!(kept, loads);
        let members = |class: &Class| class.homeless.len() + class.placed.values().map(BTreeSet::len).sum::<usize>();
        assert_eq!(balance.classes.values().map(members).sum::<usize>(), balance.addresses.len());
        assert!(balance.classes.values().all(|class| members(class) > 0), "a class of nothing");
        assert_eq!(balance.by_nodes.len(), balance.classes.len());
    }

    fn random_nodes(rng: &mut Rng) -> Vec<&'static str> {
        let most = rng.one_in(2);
        NODES.into_iter().filter(|_| if most { !rng.one_in(8) } else { rng.one_in(2) }).collect()
    }

    /// Whatever happened: when nothing is left to do, all are within their bounds, and nothing was moved that need not be.
    #[test]
    fn random_histories_are_calm_within_the_bound_and_move_nothing_needlessly() {
        for seed in 0..300 {
            let mut rng = Rng::new(seed);
            let mut balance = Balance::default();
            let kinds: Vec<Vec<&str>> = (0..=rng.below(4)).map(|_| random_nodes(&mut rng)).collect();
            let mut eligible: Map<IpAddr, Vec<&str>> = Map::new();
            for _ in 0..60 {
                let here = address(rng.below(40));
                match rng.below(10) {
                    0..=4 => {
                        let nodes =
                            if rng.one_in(6) { random_nodes(&mut rng) } else { rng.pick(&kinds).unwrap().clone() };
                        balance.set(here, &nodes, rng.pick(&NODES).copied().filter(|_| rng.one_in(2)));
                        eligible.insert(here, nodes);
                    }
                    5 | 6 => {
                        balance.remove(here);
                        eligible.remove(&here);
                    }
                    7 => balance.adopt(here, rng.pick(&NODES).unwrap()),
                    // A node comes, or goes.
                    _ => {
                        let node = *rng.pick(&NODES).unwrap();
                        let comes = rng.one_in(2);
                        for (address, nodes) in &mut eligible {
                            nodes.retain(|it| *it != node);
                            if comes {
                                nodes.push(node);
                                nodes.sort_unstable();
                            }
                            balance.set(*address, nodes, None);
                        }
                    }
                }
                check_books(&balance);
                if rng.one_in(2) {
                    step_to_calm(&mut balance, &eligible, seed);
                }
            }
        }
    }

    fn step_to_calm(balance: &mut Balance, eligible: &Map<IpAddr, Vec<&str>>, seed: u64) {
        for step in 0.. {
            assert!(step < 10_000, "seed {seed}: it does not come to rest");
            let before: Map<IpAddr, Option<String>> =
                eligible.keys().map(|address| (*address, balance.node(address).map(str::to_owned))).collect();
            let load = |node: &str| before.values().filter(|it| it.as_deref() == Some(node)).count();
            let waiting = |nodes: &Vec<&str>| {
                before.iter().filter(|(address, node)| node.is_none() && eligible[*address] == *nodes).count()
            };
            let limit = |address: &IpAddr| {
                let nodes = &eligible[address];
                bound(nodes.iter().map(|node| load(node)).sum::<usize>() + waiting(nodes), nodes.len())
            };
            let Some(moved) = balance.next_placement().or_else(|| balance.next_move()) else {
                for (address, node) in &before {
                    let nodes = &eligible[address];
                    let is_well = match node.as_deref() {
                        Some(node) => nodes.is_empty() || (nodes.contains(&node) && load(node) <= limit(address)),
                        None => nodes.is_empty(),
                    };
                    assert!(is_well, "seed {seed}: {address} on {node:?} of {nodes:?}");
                }
                assert!(!balance.may_place() && !balance.may_move());
                return;
            };
            let others = before.keys().filter(|address| **address != moved);
            assert!(others.clone().all(|it| balance.node(it) == before[it].as_deref()), "seed {seed}: one at a time");
            if let Some(node) = &before[&moved] {
                assert!(load(node) > limit(&moved), "seed {seed}: {moved} need not have left {node}");
            }
            let with_room = eligible[&moved].iter().filter(|node| load(node) < limit(&moved));
            let first = with_room.min_by_key(|node| digest(node, &moved)).copied();
            assert_eq!(balance.node(&moved), first, "seed {seed}: the first in the order that has room");
        }
    }
}
