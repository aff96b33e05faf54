//! What is known about the interfaces, from the messages of the kernel: a list of everything, then news.
//!
//! No socket and no time here: the monitor brings the datagrams and sends the requests.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;

use kit::InterfaceIndex;

use super::message::{Body, Link, List, Message, parse, request};
use super::{Change, Interface, InterfaceAddress};

/// The interfaces as the kernel tells them, and which of them the caller has not been told about.
#[derive(Debug)]
pub(super) struct Inventory {
    phase: Phase,
    sequence: u32,
    known: Known,
    /// What is known from the lists so far; becomes `known` when they are complete.
    listed: Known,
    told: BTreeMap<InterfaceIndex, Interface>,
    /// Interfaces that may differ from what was told.
    changed: BTreeSet<InterfaceIndex>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// A list was asked for with the present sequence number.
    Listing(List),
    /// The lists are complete; only news arrive.
    Following,
}

#[derive(Clone, Debug, Default)]
struct Known {
    links: BTreeMap<InterfaceIndex, Link>,
    addresses: BTreeMap<InterfaceIndex, BTreeMap<(IpAddr, u8), InterfaceAddress>>,
}

/// What the monitor has to do after a datagram.
#[derive(Debug)]
pub(super) enum Next {
    Nothing,
    Send(Vec<u8>),
    /// A request failed: begin again.
    Fail(io::Error),
}

impl Inventory {
    pub(super) fn new() -> Self {
        Inventory {
            phase: Phase::Following,
            sequence: 0,
            known: Known::default(),
            listed: Known::default(),
            told: BTreeMap::new(),
            changed: BTreeSet::new(),
        }
    }

    /// Begins to read everything anew, and returns the first request.
    pub(super) fn begin(&mut self) -> Vec<u8> {
        self.listed = Known::default();
        self.ask(List::Links)
    }

    /// True when there is nothing that was asked for and has not come.
    pub(super) fn is_complete(&self) -> bool {
        self.phase == Phase::Following
    }

    /// Takes in a datagram.
    pub(super) fn receive(&mut self, datagram: &[u8]) -> Next {
        let mut next = Next::Nothing;
        for message in parse(datagram) {
            match self.take(message) {
                Next::Nothing => {}
                other => next = other,
            }
        }
        next
    }

    /// The interfaces as they are known.
    pub(super) fn interfaces(&self) -> BTreeMap<InterfaceIndex, Interface> {
        self.known.links.keys().filter_map(|index| Some((*index, self.known.interface(*index)?))).collect()
    }

    /// Something about an interface that the caller has not been told yet.
    pub(super) fn next_change(&mut self) -> Option<Change> {
        while let Some(index) = self.changed.pop_first() {
            let interface = self.known.interface(index);
            if self.told.get(&index) == interface.as_ref() {
                continue;
            }
            let Some(interface) = interface else {
                self.told.remove(&index);
                return Some(Change::Gone(index));
            };
            self.told.insert(index, interface.clone());
            return Some(Change::Set(interface));
        }
        None
    }

    fn ask(&mut self, list: List) -> Vec<u8> {
        self.phase = Phase::Listing(list);
        // 0 is the number of news.
        self.sequence = self.sequence.checked_add(1).unwrap_or(1);
        request(list, self.sequence)
    }

    fn take(&mut self, message: Message) -> Next {
        match (self.phase, message.body) {
            (Phase::Listing(_), Body::Done | Body::Error(_)) if message.sequence != self.sequence => Next::Nothing,
            (Phase::Listing(_), Body::Error(errno)) => Next::Fail(io::Error::from_raw_os_error(errno)),
            (Phase::Listing(_), Body::Done) if message.is_interrupted => Next::Send(self.begin()),
            (Phase::Listing(List::Links), Body::Done) => Next::Send(self.ask(List::Addresses)),
            (Phase::Listing(List::Addresses), Body::Done) => {
                self.phase = Phase::Following;
                let before = std::mem::replace(&mut self.known, std::mem::take(&mut self.listed));
                self.changed.extend(before.links.keys().chain(self.known.links.keys()));
                Next::Nothing
            }
            // News that come between the answers are as true as these, in the order in which they come.
            (Phase::Listing(_), body) => {
                self.listed.apply(body);
                Next::Nothing
            }
            (Phase::Following, body) => {
                self.changed.extend(self.known.apply(body));
                Next::Nothing
            }
        }
    }
}

impl Known {
    /// Takes in a message, and returns the interface that it is about.
    fn apply(&mut self, body: Body) -> Option<InterfaceIndex> {
        match body {
            Body::Link(link) => {
                let index = link.index;
                self.links.insert(index, link);
                Some(index)
            }
            Body::LinkGone(index) => {
                self.links.remove(&index);
                self.addresses.remove(&index);
                Some(index)
            }
            Body::Address(index, address) => {
                let key = (address.address, address.prefix_length);
                self.addresses.entry(index).or_default().insert(key, address);
                Some(index)
            }
            Body::AddressGone(index, address) => {
                if let Some(addresses) = self.addresses.get_mut(&index) {
                    addresses.remove(&(address.address, address.prefix_length));
                    if addresses.is_empty() {
                        self.addresses.remove(&index);
                    }
                }
                Some(index)
            }
            Body::Done | Body::Error(_) | Body::Other => None,
        }
    }

    fn interface(&self, index: InterfaceIndex) -> Option<Interface> {
        let link = self.links.get(&index)?;
        Some(Interface {
            index,
            name: link.name.clone(),
            mac: link.mac,
            flags: link.flags,
            master: link.master,
            addresses: self.addresses.get(&index).into_iter().flat_map(|known| known.values().copied()).collect(),
        })
    }
}

/// Entry point for a fuzzer: datagrams, each behind its length in two bytes.
pub fn fuzz_netlink(mut bytes: &[u8]) {
    let mut inventory = Inventory::new();
    let _ = inventory.begin();
    while let Some((length, rest)) = bytes.split_first_chunk::<2>() {
        let length = usize::from(u16::from_be_bytes(*length)).min(rest.len());
        let (datagram, rest) = rest.split_at_checked(length).unwrap_or((rest, &[]));
        if let Next::Fail(_) = inventory.receive(datagram) {
            let _ = inventory.begin();
        }
        while inventory.next_change().is_some() {}
        bytes = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::super::message::build::*;
    use super::*;

    /// Shows changes as text.
    fn changes(inventory: &mut Inventory) -> Vec<String> {
        let mut changes = Vec::new();
        while let Some(change) = inventory.next_change() {
            changes.push(match change {
                Change::Set(interface) => {
                    let addresses: Vec<String> = interface
                        .addresses
                        .iter()
                        .map(|a| format!("{}/{} {:?}", a.address, a.prefix_length, a.state))
                        .collect();
                    format!("{} {} {:?} {}", interface.index, interface.name, interface.flags, addresses.join(" "))
                }
                Change::Gone(index) => format!("{index} gone"),
            });
        }
        changes
    }

    fn v6(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    /// Answers the requests with these interfaces and addresses.
    fn list(inventory: &mut Inventory, links: &[Vec<u8>], addresses: &[Vec<u8>]) {
        for (kind, bodies) in [(NEW_LINK, links), (NEW_ADDRESS, addresses)] {
            let sequence = inventory.sequence;
            for body in bodies {
                inventory.receive(&message(kind, 2, sequence, body));
            }
            inventory.receive(&message(DONE, 2, sequence, &[0; 4]));
        }
        assert!(inventory.is_complete());
    }

    #[test]
    fn lists_then_news() {
        let mut inventory = Inventory::new();
        inventory.begin();
        list(
            &mut inventory,
            &[link(1, "lo", 0), link(2, "eth0", UP)],
            &[address(2, v6("10.0.0.1"), 24, 0), address(2, v6("fe80::2"), 64, TENTATIVE)],
        );
        assert_eq!(
            changes(&mut inventory),
            ["1 lo <> ", "2 eth0 <up,carrier,broadcast> 10.0.0.1/24 Ready fe80::2/64 Tentative"]
        );
        inventory.receive(&message(NEW_ADDRESS, 0, 0, &address(2, v6("fe80::2"), 64, 0)));
        inventory.receive(&message(NEW_LINK, 0, 0, &link(2, "lan0", UP)));
        assert_eq!(changes(&mut inventory), ["2 lan0 <up,carrier,broadcast> 10.0.0.1/24 Ready fe80::2/64 Ready"]);
        inventory.receive(&message(NEW_LINK, 0, 0, &link(2, "lan0", UP)));
        assert!(changes(&mut inventory).is_empty());
        inventory.receive(&message(DEL_ADDRESS, 0, 0, &address(2, v6("10.0.0.1"), 24, 0)));
        inventory.receive(&message(DEL_LINK, 0, 0, &link(1, "lo", 0)));
        assert_eq!(changes(&mut inventory), ["1 gone", "2 lan0 <up,carrier,broadcast> fe80::2/64 Ready"]);
    }

    #[test]
    fn an_interface_that_comes_again_has_no_old_addresses() {
        let mut inventory = Inventory::new();
        inventory.begin();
        list(&mut inventory, &[link(2, "eth0", UP)], &[address(2, v6("10.0.0.1"), 24, 0)]);
        changes(&mut inventory);
        inventory.receive(&message(DEL_LINK, 0, 0, &link(2, "eth0", UP)));
        inventory.receive(&message(NEW_LINK, 0, 0, &link(2, "eth0", UP)));
        assert_eq!(changes(&mut inventory), ["2 eth0 <up,carrier,broadcast> "]);
    }

    #[test]
    fn reading_anew_tells_only_what_differs() {
        let mut inventory = Inventory::new();
        inventory.begin();
        list(&mut inventory, &[link(1, "lo", 0), link(2, "eth0", UP), link(3, "eth1", UP)], &[]);
        changes(&mut inventory);
        inventory.begin();
        assert!(!inventory.is_complete());
        assert_eq!(inventory.interfaces().len(), 3, "what was known stays known");
        list(&mut inventory, &[link(1, "lo", 0), link(3, "eth1", 0), link(4, "eth2", UP)], &[]);
        assert_eq!(changes(&mut inventory), ["2 gone", "3 eth1 <> ", "4 eth2 <up,carrier,broadcast> "]);
    }

    #[test]
    fn news_between_the_answers_count() {
        let mut inventory = Inventory::new();
        inventory.begin();
        inventory.receive(&message(NEW_LINK, 2, inventory.sequence, &link(2, "eth0", UP)));
        inventory.receive(&message(DEL_LINK, 0, 0, &link(2, "eth0", UP)));
        inventory.receive(&message(NEW_LINK, 0, 0, &link(3, "eth1", UP)));
        list(&mut inventory, &[], &[]);
        assert_eq!(changes(&mut inventory), ["3 eth1 <up,carrier,broadcast> "]);
    }

    #[test]
    fn an_interrupted_list_is_asked_for_again() {
        let mut inventory = Inventory::new();
        inventory.begin();
        inventory.receive(&message(NEW_LINK, 2, 1, &link(2, "eth0", UP)));
        let next = inventory.receive(&message(DONE, 2 | INTERRUPTED, 1, &[0; 4]));
        assert!(matches!(next, Next::Send(request) if request == super::request(List::Links, 2)));
        inventory.receive(&message(DONE, 2, 1, &[0; 4]));
        assert!(!inventory.is_complete(), "the end of an earlier list means nothing");
        list(&mut inventory, &[link(3, "eth1", UP)], &[]);
        assert_eq!(changes(&mut inventory), ["3 eth1 <up,carrier,broadcast> "]);
    }

    #[test]
    fn a_request_that_fails_is_said() {
        let mut inventory = Inventory::new();
        inventory.begin();
        let next = inventory.receive(&message(ERROR, 0, 1, &(-16i32).to_ne_bytes()));
        assert!(matches!(next, Next::Fail(error) if error.raw_os_error() == Some(16)));
    }

    #[test]
    fn datagrams_edited_at_random() {
        let mut rng = kit::Rng::new(16);
        let seeds = [
            message(NEW_LINK, 2, 1, &link(2, "eth0", UP)),
            message(DONE, 2, 1, &[0; 4]),
            message(NEW_ADDRESS, 2, 2, &address(2, v6("fe80::2"), 64, 0)),
            message(DONE, 2, 2, &[0; 4]),
            message(DEL_LINK, 0, 0, &link(2, "eth0", UP)),
        ];
        let edits = if cfg!(debug_assertions) { 20_000 } else { 500_000 };
        for _ in 0..edits {
            let mut bytes = Vec::new();
            for seed in &seeds {
                let mut datagram = seed.clone();
                if rng.one_in(2) {
                    let at = rng.index(datagram.len());
                    datagram[at] = rng.next_u64() as u8;
                }
                datagram.truncate(datagram.len() - if rng.one_in(8) { rng.index(datagram.len()) } else { 0 });
                bytes.extend((datagram.len() as u16).to_be_bytes());
                bytes.extend(datagram);
            }
            fuzz_netlink(&bytes);
        }
    }
}
