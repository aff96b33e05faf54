//! Somebody else answers for an address that this node announces: what is said about it, and who gives way.
//!
//! A stranger is reported; `l2` defends the address as far as it may. Another node of the cluster announces the address
//! because it does not know of this one, or this one not of it: the election decides as if both knew. The first of the two
//! tells everybody again. The other asks the first whether it answers for the address, and counts it among the living for as
//! long as it does, so that the election has its usual result and everything that follows from it. Whoever claims an address and
//! does not answer hears nobody, such as a node whose link carries frames out and none in: it gets nothing, and everybody is told
//! again.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::core::Node;
use api::{EventType, Key};
use kit::{Duration, Instant, Mac, Outbox};

use super::{Output, Speaker};
use crate::contest;
use crate::members::{Liveness, Members};

/// A conflict is an Event of the Service at most once in this time.
const EVENT_INTERVAL: Duration = Duration::from_secs(60);
/// Addresses whose conflicts are told as Events in [`EVENT_INTERVAL`]; the logs and metrics have all of them.
const EVENTS_MAX: usize = 64;
/// Services that share an address of which that many are told.
const SERVICES_TOLD_MAX: usize = 8;
/// How often a node that only the segment shows is asked whether it still answers.
const ASK_INTERVAL: Duration = Duration::from_secs(1);
/// How long it may be silent: three questions.
const SILENCE_MAX: Duration = Duration::from_millis(3500);

/// Another machine answers for an address that this node announces.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rival {
    /// The address.
    pub address: IpAddr,
    /// The name of the interface on which it was seen.
    pub interface: String,
    /// Its Ethernet address.
    pub mac: Mac,
    /// An address of the node that it is, if it is one: see [`Output::Fellows`].
    pub fellow: Option<IpAddr>,
}

/// What is known of conflicts.
#[derive(Debug, Default)]
pub(crate) struct Conflicts {
    /// The other nodes by their addresses, and the addresses of each.
    by_address: BTreeMap<IpAddr, String>,
    by_node: BTreeMap<String, BTreeSet<IpAddr>>,
    /// The addresses have changed since they were told.
    news: bool,
    heard: BTreeMap<String, Heard>,
    /// When each address was last told as an Event.
    told: BTreeMap<IpAddr, Instant>,
}

/// A node that has an address although memberlist, or its condition, says that it is not alive.
#[derive(Debug)]
struct Heard {
    /// What it is asked for.
    address: IpAddr,
    /// What it said is its own, and the Services that have it. It counts for no other address: there it may be in the way of
    /// somebody who is able.
    claimed: BTreeMap<IpAddr, Vec<Key>>,
    fellow: IpAddr,
    ask_at: Instant,
    until: Instant,
    proof: Proof,
}

/// Whether a node is there for those who ask it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Proof {
    /// It said that the address is its own.
    Claim,
    /// The same, and it was asked since and is silent.
    ClaimAsked,
    /// It answers.
    Answer,
}

impl Conflicts {
    /// A node has these addresses now.
    pub(super) fn node_applied(&mut self, node: &Node) {
        let parsed = node.status.addresses.iter().filter_map(|entry| entry.address.parse().ok());
        self.replace(&node.metadata.name, parsed.collect());
    }

    pub(super) fn node_deleted(&mut self, name: &str) {
        self.replace(name, BTreeSet::new());
    }

    fn replace(&mut self, name: &str, addresses: BTreeSet<IpAddr>) {
        let old = self.by_node.remove(name).unwrap_or_default();
        if old != addresses {
            self.news = true;
            for address in &old {
                self.by_address.remove(address);
            }
        }
        for address in &addresses {
            self.by_address.insert(*address, name.to_owned());
        }
        if !addresses.is_empty() {
            self.by_node.insert(name.to_owned(), addresses);
        }
    }

    /// The addresses of the other nodes, if they are others than were told last.
    pub(super) fn fellows(&mut self, here: &str) -> Option<BTreeSet<IpAddr>> {
        let others = || self.by_address.iter().filter(|(_, name)| *name != here).map(|(address, _)| *address);
        let news = self.news.then(|| others().collect());
        self.news = false;
        news
    }

    /// Whether the segment shows that the node is alive, and has one of these addresses.
    pub(crate) fn hears(&self, node: &str, addresses: &[IpAddr]) -> bool {
        let is_claimed = |heard: &Heard| addresses.iter().any(|address| heard.claimed.contains_key(address));
        self.heard.get(node).is_some_and(|heard| heard.proof == Proof::Answer && is_claimed(heard))
    }

    pub(super) fn deadline(&self) -> Option<Instant> {
        self.heard.values().map(|heard| heard.ask_at.min(heard.until)).min()
    }

    /// True if an Event may be written about the address.
    fn may_tell(&mut self, now: Instant, address: IpAddr) -> bool {
        self.told.retain(|_, told| now.since(*told) < EVENT_INTERVAL);
        if self.told.contains_key(&address) || self.told.len() >= EVENTS_MAX {
            return false;
        }
        self.told.insert(address, now);
        true
    }
}

impl Speaker {
    /// Another machine answers for an address as well.
    pub(super) fn conflict(&mut self, now: Instant, rival: &Rival, out: &mut Outbox<Output>) {
        let holders: Vec<Key> = self.holdings.holders(&rival.address).take(SERVICES_TOLD_MAX).collect();
        let node = rival.fellow.and_then(|fellow| self.conflicts.by_address.get(&fellow)).cloned();
        if !holders.is_empty() && self.conflicts.may_tell(now, rival.address) {
            let message = message(rival, node.as_deref());
            for service in &holders {
                self.event(service, EventType::Warning, "addressConflict", message.clone(), out);
            }
        }
        let (Some(node), Some(fellow), Some(service)) = (node, rival.fellow, holders.first()) else { return };
        match self.first_of(&node, service, &rival.address) {
            Some(First::Here) => out.push(Output::AddressRepeat { address: rival.address }),
            Some(First::There) => {
                let address = rival.address;
                // It is asked at once. What is known of it stays so until it is silent.
                let claimed = BTreeMap::new();
                let new = || Heard { address, claimed, fellow, ask_at: now, until: now, proof: Proof::Claim };
                let heard = self.conflicts.heard.entry(node).or_insert_with(new);
                (heard.address, heard.fellow, heard.until) = (address, fellow, now + SILENCE_MAX);
                let is_new = heard.claimed.insert(address, holders.clone()).is_none();
                if is_new && heard.proof == Proof::Answer {
                    // All of them, not only those that are told: the others would answer on.
                    self.dirty.extend(self.holdings.holders(&address));
                }
                if heard.proof == Proof::ClaimAsked {
                    // It claims several, and has not answered. Who believed this claim is sent here again, too.
                    out.push(Output::AddressRepeat { address });
                }
            }
            None => {}
        }
    }

    /// A node that was asked for an address has answered.
    pub(super) fn answered(&mut self, now: Instant, fellow: IpAddr) {
        let Some(node) = self.conflicts.by_address.get(&fellow).cloned() else { return };
        let Some(heard) = self.conflicts.heard.get_mut(&node) else { return };
        heard.until = now + SILENCE_MAX;
        if std::mem::replace(&mut heard.proof, Proof::Answer) != Proof::Answer {
            self.reconsider(&node);
        }
    }

    /// Asks the nodes that only the segment shows, and forgets those that are silent.
    pub(super) fn listen(&mut self, now: Instant, out: &mut Outbox<Output>) {
        let silent: Vec<String> =
            self.conflicts.heard.iter().filter(|(_, heard)| heard.until <= now).map(|(node, _)| node.clone()).collect();
        for node in silent {
            self.conflicts.heard.remove(&node);
            self.reconsider(&node);
        }
        self.forget_known();
        for heard in self.conflicts.heard.values_mut().filter(|heard| heard.ask_at <= now) {
            heard.ask_at = now + ASK_INTERVAL;
            match heard.proof {
                Proof::Claim => heard.proof = Proof::ClaimAsked,
                // Who believed it is sent here again.
                Proof::ClaimAsked => out.push(Output::AddressRepeat { address: heard.address }),
                Proof::Answer => {}
            }
            out.push(Output::AddressAsk { address: heard.address, fellow: heard.fellow });
        }
    }

    /// Who counts for no less than this node by other news needs not be asked any more, nor who has nothing that this node might
    /// have.
    fn forget_known(&mut self) {
        if self.conflicts.heard.is_empty() {
            return;
        }
        let liveness = |node: &str| {
            let is_ready = self.nodes.get(node).is_some_and(|facts| facts.ready);
            self.members.liveness(node, is_ready)
        };
        let here = match self.members {
            Members::Off => liveness(&self.options.node).unwrap_or(Liveness::NotReady),
            Members::Joining | Members::Alive(_) => Liveness::Alive,
        };
        let is_known = |node: &str| liveness(node).is_some_and(|there| there <= here);
        let around = self.surroundings();
        let is_first = |address: &IpAddr, service: &Key| {
            let state = self.services.get(service)?;
            let places = contest::places_for(address, &state.places, state.facts.as_ref()?, &around)?;
            Some(places.contains(&self.options.node))
        };
        // The places of one that is to be decided are those of elections that it may not have any more.
        let is_heir =
            |address: &IpAddr, service: &Key| self.dirty.contains(service) || is_first(address, service) == Some(true);
        // Services may have come to the address since, and gone from it.
        let is_contested = |(address, services): (&IpAddr, &Vec<Key>)| {
            services.iter().any(|service| is_heir(address, service))
                || self.sharing.services(address).any(|service| is_heir(address, &service))
        };
        let matters = |node: &str, heard: &Heard| !is_known(node) && heard.claimed.iter().any(is_contested);
        let heard = self.conflicts.heard.iter();
        let is_over = |(node, heard): &(&String, &Heard)| heard.proof == Proof::Answer && !matters(node, heard);
        let forgotten: Vec<String> = heard.filter(is_over).map(|(node, _)| node.clone()).collect();
        for node in forgotten {
            self.conflicts.heard.remove(&node);
            // Elections may have counted on it until now, be they none that this node could win.
            self.reconsider(&node);
        }
    }

    /// Which of two nodes that both announce an address of a Service comes first in its election.
    fn first_of(&self, other: &str, service: &Key, address: &IpAddr) -> Option<First> {
        let facts = self.services.get(service)?.facts.as_ref()?;
        let around = self.surroundings();
        let is_there = contest::precedes(other, around.node, facts, address, &around)?;
        Some(if is_there { First::There } else { First::Here })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum First {
    Here,
    There,
}

fn message(rival: &Rival, node: Option<&str>) -> String {
    let Rival { address, interface, mac, .. } = rival;
    match node {
        Some(node) => format!(
            "node {node:?} ({mac}) answers for {address} as well, seen on interface {interface:?}; \
             hint: see whether the speakers reach each other by memberlist (port 7946, TCP and UDP)"
        ),
        None => format!(
            "another machine ({mac}) answers for {address} as well, seen on interface {interface:?}; \
             hint: find that machine and give it another address, or take this one out of the IPAddressPool"
        ),
    }
}
