//! Whether a speaker says in time that somebody else claims an address that it announces.
//!
//! It knows strangers alone: two nodes that both announce an address may settle that between them, and nobody needs to hear of it.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kit::{Duration, Instant, Mac};
use l2::wire::ndp::Message;
use l2::wire::{Frame, Ndp, Payload};

use crate::violation::{Invariant, Violation, hold};

/// In this time a claim is seen for what it is.
const SEEN: Duration = Duration::from_secs(1);
/// A conflict is an Event at least so often.
const EVENT_INTERVAL: Duration = Duration::from_secs(60);

/// What a speaker has heard of strangers, and told of conflicts.
#[derive(Debug, Default)]
pub(crate) struct Alarms {
    /// Since when claims were not told of.
    claimed: BTreeMap<IpAddr, Instant>,
    /// When a conflict was told of last: in the logs, and as an Event.
    told: BTreeMap<IpAddr, Instant>,
    events: BTreeMap<IpAddr, Instant>,
}

/// Which address a frame says is its sender's.
pub(crate) fn claimed_by(frame: &Frame) -> Option<(IpAddr, Mac)> {
    match frame.payload {
        Payload::Arp(arp) => Some((IpAddr::V4(arp.sender_address), arp.sender_mac)),
        Payload::Ndp(Ndp { message: Message::Advertisement { target, target_mac, .. }, .. }) => {
            Some((IpAddr::V6(target), target_mac?))
        }
        Payload::Ndp(Ndp { source, message: Message::Solicitation { source_mac, .. }, .. }) => {
            Some((IpAddr::V6(source), source_mac?))
        }
    }
}

impl Alarms {
    /// A stranger claims an address that is announced.
    pub(crate) fn claimed(&mut self, now: Instant, address: IpAddr) {
        if self.told.get(&address).is_none_or(|told| now - *told > SEEN) {
            self.claimed.entry(address).or_insert(now);
        }
    }

    /// The address is not announced any more, or somewhere else: whatever was claimed there does not matter.
    pub(crate) fn moved(&mut self, address: &IpAddr) {
        self.claimed.remove(address);
    }

    /// What is heard has changed.
    pub(crate) fn disturbed(&mut self) {
        self.claimed.clear();
    }

    /// A conflict about the address is told of.
    pub(crate) fn told(&mut self, now: Instant, address: IpAddr) {
        self.claimed.remove(&address);
        self.told.insert(address, now);
    }

    /// What was made of that is known: whether there was an Event.
    pub(crate) fn taken_in(&mut self, now: Instant, address: IpAddr, is_event: bool) -> Result<(), Violation> {
        if is_event {
            self.events.insert(address, now);
        }
        let is_known = self.events.get(&address).is_some_and(|event| now - *event <= EVENT_INTERVAL);
        hold(is_known, Invariant::ConflictIsTold, || format!("no Event says that somebody else claims {address}"))
    }

    /// Nothing has been left out for too long.
    pub(crate) fn check(&self, now: Instant) -> Result<(), Violation> {
        let late = self.claimed.iter().find(|(_, since)| now - **since > SEEN);
        hold(late.is_none(), Invariant::ConflictIsTold, || format!("a stranger's claim is not told of: {late:?}"))
    }
}
