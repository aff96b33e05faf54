//! Hosts that do not belong to the cluster and say that an address of it is theirs; and speakers that hear each other on the
//! links although memberlist does not get through.

use std::fmt;
use std::net::IpAddr;

use kit::{Duration, Family, Instant, Mac};
use l2::wire::arp::Operation;
use l2::wire::ndp::{ALL_NODES, Message, solicited_node};
use l2::wire::{Arp, Frame, Ndp, Payload};

use super::{Cluster, Event};
use crate::names::{Lan, NodeId, ProcessId};
use crate::violation::Violation;

/// How long the kernel of a machine takes to say whose station it knows.
const LOOK_UP: Duration = Duration::from_millis(20);

/// What the Ethernet addresses of strangers begin with, and no machine's.
const STRANGE: u8 = 0x0a;

/// How a stranger says that an address is its own.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Manner {
    /// It tells everybody, by the request form of an ARP announcement, or an unsolicited Neighbor Advertisement.
    Tells,
    /// It tells everybody, by the reply form of an ARP announcement, or an unsolicited Neighbor Advertisement.
    Replies,
    /// It asks for something else, in the name of the address.
    Asks,
}

impl Manner {
    /// All of them.
    pub const ALL: [Manner; 3] = [Manner::Tells, Manner::Replies, Manner::Asks];
}

/// What a stranger claims, where and how.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claim {
    /// The link that it is on.
    pub lan: Lan,
    /// The address.
    pub address: IpAddr,
    /// How it says so.
    pub manner: Manner,
    /// The time from one frame to the next.
    pub every: Duration,
}

impl fmt::Display for Claim {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Claim { lan, address, manner, every } = self;
        write!(f, "a stranger on {} claims {address} every {every} ({manner:?})", lan.interface())
    }
}

/// A stranger that is there.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stranger {
    claim: Claim,
    until: Instant,
}

/// Whether a frame comes from a stranger.
pub(super) fn is_strange(frame: &Frame) -> bool {
    frame.source.0.first() == Some(&STRANGE)
}

impl Claim {
    /// The Ethernet address of the stranger. It is no machine's, and begins as none of theirs does.
    pub(crate) fn mac(&self) -> Mac {
        match self.lan {
            Lan::Front => Mac([STRANGE, 0, 0, 0, 0, 99]),
            Lan::Back => Mac([STRANGE, 0, 0, 0, 1, 99]),
        }
    }

    /// The frame that it sends.
    pub(crate) fn frame(&self) -> Frame {
        let source = self.mac();
        match (self.address, self.lan.client(Family::of(&self.address))) {
            (IpAddr::V4(own), IpAddr::V4(other)) => {
                let (operation, target_address) = match self.manner {
                    Manner::Tells => (Operation::Request, own),
                    Manner::Replies => (Operation::Reply, own),
                    Manner::Asks => (Operation::Request, other),
                };
                let arp = Arp {
                    operation,
                    sender_mac: source,
                    sender_address: own,
                    target_mac: Mac::BROADCAST,
                    target_address,
                };
                Frame { source, destination: Mac::BROADCAST, payload: Payload::Arp(arp) }
            }
            (IpAddr::V6(target), _) if self.manner != Manner::Asks => {
                let message = Message::Advertisement {
                    target,
                    target_mac: Some(source),
                    router: false,
                    solicited: false,
                    overriding: true,
                };
                let ndp = Ndp { source: target, destination: ALL_NODES, message };
                Frame { source, destination: Mac::multicast_for(ALL_NODES), payload: Payload::Ndp(ndp) }
            }
            (IpAddr::V6(own), _) => {
                // Only who has joined the group of what is asked for hears it, so it asks for the address itself.
                let group = solicited_node(own);
                let message = Message::Solicitation { target: own, source_mac: Some(source) };
                let ndp = Ndp { source: own, destination: group, message };
                Frame { source, destination: Mac::multicast_for(group), payload: Payload::Ndp(ndp) }
            }
            (IpAddr::V4(_), IpAddr::V6(_)) => unreachable!("the address of a family is of that family"),
        }
    }
}

impl Cluster {
    /// A stranger comes to a link and claims an address there for a while.
    pub(super) fn stranger_comes(&mut self, claim: Claim, span: Duration) {
        let until = self.now + span;
        self.strangers = self.strangers.saturating_add(1);
        let stranger = Stranger { claim, until };
        self.plan_in(Duration::ZERO, Event::StrangerClaims { stranger, number: self.strangers });
    }

    /// A stranger says once more that an address is its own, unless it is gone.
    pub(super) fn stranger_claims(&mut self, stranger: Stranger, number: u64) {
        if number <= self.strangers_gone || self.now >= stranger.until {
            return;
        }
        let frame = stranger.claim.frame();
        self.send_frame(stranger.claim.lan, None, frame, frame.encode());
        self.plan_in(stranger.claim.every, Event::StrangerClaims { stranger, number });
    }

    /// All strangers go away.
    pub(super) fn strangers_go(&mut self) {
        self.strangers_gone = self.strangers;
    }

    /// Memberlist does not get through to or from a node for a while; everything else does.
    pub(super) fn block(&mut self, node: NodeId, span: Duration) {
        let until = self.now + span;
        let blocked = self.blocked.entry(node).or_insert(until);
        *blocked = until.max(*blocked);
        self.schedule.plan(until, Event::Unblocked);
        self.members_changed();
    }

    /// Memberlist may get through again.
    pub(super) fn unblocked(&mut self) {
        let before = self.blocked.len();
        self.blocked.retain(|_, until| *until > self.now);
        if self.blocked.len() != before {
            self.members_changed();
        }
    }

    /// A speaker wants to know whose station this is, and asks its kernel.
    pub(super) fn look_up(&mut self, node: NodeId, mac: Mac) {
        if let Some(client) = self.clients.get(&ProcessId::Speaker(node)) {
            let epoch = client.epoch;
            self.plan_in(LOOK_UP, Event::LookedUp { node, epoch, mac });
        }
    }

    /// A speaker hears whose station it is, if a machine has it.
    pub(super) fn looked_up(&mut self, node: NodeId, epoch: u64, mac: Mac) -> Result<(), Violation> {
        if self.clients.get(&ProcessId::Speaker(node)).is_none_or(|client| client.epoch != epoch) {
            return Ok(());
        }
        let mut places = self.machines.iter().flat_map(|(other, machine)| {
            let has_it = move |lan: &&Lan| machine.mac(**lan) == mac;
            other.lans().iter().filter(has_it).map(|lan| lan.address_of(Family::V4, *other))
        });
        let Some(address) = places.next() else { return Ok(()) };
        self.with_speaker(node, |speaker, now| speaker.station(now, address, mac))
    }
}
