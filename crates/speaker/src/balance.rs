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
        match node {
            Some(node) => self.place(address, Some(node)),
            None => {
                if let Some(class) = self.classes.get_mut(&class) {
                    class.homeless.insert(address);
                }
                self.dirty.insert(address);
            }
        }
    }

    /// Somebody else wants the address to be on that node. It is, if that may be and there is room.
    pub(crate) fn adopt(&mut self, address: IpAddr, node: &str) {
        let Some(class) = self.addresses.get(&address).and_then(|placed| self.classes.get(&placed.class)) else { return };
        let Some(node) = class.nodes.iter().find(|it| &***it == node).cloned() else { return };
        let limit = self.bound(class);
        if self.load(&node) < limit {
            self.place(address, Some(node));
        }
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

    /// Moves what has to be moved, one address at a time, and says which; none when all is well.
    pub(crate) fn next_move(&mut self) -> Option<IpAddr> {
        while let Some(address) = self.dirty.pop_first() {
            if self.node(&address).is_none()
                && let Some(node) = self.first_with_room(address)
            {
                self.place(address, Some(node));
                return Some(address);
            }
        }
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

    /// Whether [`Balance::next_move`] may find something.
    pub(crate) fn has_work(&self) -> bool {
        !self.dirty.is_empty() || !self.unchecked.is_empty()
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
