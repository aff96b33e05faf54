//! Telling everybody: rounds of gossip, what travels in packets that are sent anyway, and what cannot wait for either.

use std::net::SocketAddr;

use kit::{Duration, Instant};

use super::watching::Watched;
use super::{Membership, Moment, Timer};
use crate::broadcast::For;
use crate::event::Output;
use crate::member::{Condition, Member};
use crate::wire::{COMPOUND_OVERHEAD, Checksum, Dead, Message, PARTS_MAX};
use crate::{Name, scale};

/// How many members are told at once what cannot wait; the others hear of it by gossip, a round or two later.
const URGENT_MAX: usize = 128;
/// Whoever makes us send such messages must not make us send without end: one in this time, and a few ahead of it.
const URGENT_INTERVAL: Duration = Duration::from_millis(100);
const URGENT_AHEAD: Duration = Duration::from_millis(800);
/// How often each of them is told: the first packet to a member may be lost, and gossip misses one now and then.
const URGENT_TIMES: u32 = 2;

/// What everybody is to be told at once.
#[derive(Clone, Debug)]
pub(super) struct Urgent {
    pub(super) about: Name,
    message: Vec<u8>,
    /// How often it is still to be told.
    times: u32,
}

/// Members understand checksums from this version of the protocol on.
const CHECKSUM_FROM: u8 = 5;

impl Urgent {
    /// The room that it takes in a packet.
    fn size(&self) -> usize {
        self.message.len().saturating_add(COMPOUND_OVERHEAD)
    }
}

impl Member {
    pub(super) fn protocol_max(&self) -> u8 {
        self.node.versions.map_or(0, |versions| versions.protocol_max)
    }

    /// Whether packets to it have a checksum. As in Go, those that answer do not, for they go to an address and to no
    /// member.
    pub(super) fn checksum(&self) -> Checksum {
        if self.protocol_max() >= CHECKSUM_FROM { Checksum::Added } else { Checksum::Absent }
    }
}

impl Membership {
    /// A round of gossip.
    pub(super) fn gossip(&mut self, moment: &mut Moment<'_>) {
        let profile = self.config.profile;
        self.timers.set(Timer::Gossip, moment.now + profile.gossip_interval);
        if self.queue.len() == 0 {
            return;
        }
        let (now, ourselves) = (moment.now, self.config.name.clone());
        let watches = &self.watches;
        let is_told = |member: &Member| match member.condition {
            _ if member.node.node == ourselves => false,
            Condition::Alive | Condition::Suspect(_) => true,
            // The dead too: one that is not can deny.
            Condition::Dead if watches.get(&member.node.node).is_some_and(Watched::is_alone) => false,
            Condition::Dead => now - member.since <= profile.gossip_to_the_dead_time,
            Condition::Left => false,
        };
        for name in self.members.random(profile.gossip_nodes, &mut self.rng, is_told) {
            let Some(member) = self.members.get(&name) else { continue };
            let (to, checksum) = (member.address(), member.checksum());
            let parts = match member.condition {
                // What we say of others may be as old as the cut between us, so it is not told anything else.
                Condition::Dead => {
                    let (incarnation, from) = (member.node.incarnation, ourselves.clone());
                    vec![Message::Dead(Dead { incarnation, node: name, from }).encode()]
                }
                Condition::Alive | Condition::Suspect(_) | Condition::Left => {
                    let room = profile.udp_buffer_size.saturating_sub(COMPOUND_OVERHEAD);
                    let room = room.saturating_sub(self.dress().overhead());
                    self.queue.take(room, COMPOUND_OVERHEAD, self.retransmit_limit(), For::Gossip)
                }
            };
            for parts in parts.chunks(PARTS_MAX) {
                self.send_parts(moment, to, parts.to_vec(), checksum);
            }
        }
    }

    /// Sends a message that is for one member, with what else is on its way, as far as it fits.
    pub(super) fn send(&mut self, moment: &mut Moment<'_>, to: SocketAddr, message: &Message, purpose: For) {
        let parts = self.with_company(message, purpose);
        self.send_parts(moment, to, parts, Checksum::Absent);
    }

    pub(super) fn with_company(&mut self, message: &Message, purpose: For) -> Vec<Vec<u8>> {
        let bytes = message.encode();
        if self.queue.len() == 0 {
            return vec![bytes];
        }
        let taken = bytes.len().saturating_add(COMPOUND_OVERHEAD).saturating_add(self.dress().overhead());
        let room = self.config.profile.udp_buffer_size.saturating_sub(taken);
        let mut parts = vec![bytes];
        parts.extend(self.queue.take(room, COMPOUND_OVERHEAD, self.retransmit_limit(), purpose));
        parts.truncate(PARTS_MAX);
        parts
    }

    pub(super) fn send_parts(
        &mut self,
        moment: &mut Moment<'_>,
        to: SocketAddr,
        parts: Vec<Vec<u8>>,
        checksum: Checksum,
    ) {
        let bytes = self.dress().packet(parts, checksum);
        self.counters.packet_sent(bytes.len());
        moment.out.push(Output::Send { to, bytes });
    }

    /// Tells everybody at once what there is to say about a member, up to a limit. Whoever is missed hears of it by gossip.
    pub(super) fn tell_everybody(&mut self, moment: &mut Moment<'_>, about: &Name, message: &Message) {
        self.urgent.retain(|urgent| urgent.about != *about);
        self.urgent.push_front(Urgent { about: about.clone(), message: message.encode(), times: URGENT_TIMES });
        if !self.urgent_wait(moment.now).is_zero() {
            return self.timers.set(Timer::Urgent, moment.now + self.urgent_wait(moment.now));
        }
        self.tell_urgent(moment);
    }

    /// How long it must not be told yet.
    fn urgent_wait(&self, now: Instant) -> Duration {
        self.urgent_from - (now + URGENT_AHEAD)
    }

    /// Tells everybody what is urgent: as much of it as goes into a packet.
    pub(super) fn tell_urgent(&mut self, moment: &mut Moment<'_>) {
        let overhead = COMPOUND_OVERHEAD.saturating_add(self.dress().overhead());
        let mut room = self.config.profile.udp_buffer_size.saturating_sub(overhead);
        let mut parts: Vec<Vec<u8>> = Vec::new();
        let mut again: Vec<Urgent> = Vec::new();
        while parts.len() < PARTS_MAX
            && let Some(urgent) = self.urgent.pop_front_if(|urgent| parts.is_empty() || urgent.size() <= room)
        {
            room = room.saturating_sub(urgent.size());
            parts.push(urgent.message.clone());
            again.push(Urgent { times: urgent.times.saturating_sub(1), ..urgent });
        }
        if parts.is_empty() {
            return;
        }
        self.urgent.extend(again.into_iter().filter(|urgent| urgent.times > 0));
        self.urgent_from = self.urgent_from.max(moment.now) + URGENT_INTERVAL;
        if !self.urgent.is_empty() {
            self.timers.set(Timer::Urgent, moment.now + self.urgent_wait(moment.now).max(URGENT_INTERVAL));
        }
        let ourselves = self.config.name.clone();
        let is_told = |member: &Member| member.state().is_member() && member.node.node != ourselves;
        let names: Vec<Name> = self.members.random(URGENT_MAX, &mut self.rng, is_told);
        for name in names {
            if let Some(member) = self.members.get(&name) {
                let (to, checksum) = (member.address(), member.checksum());
                self.send_parts(moment, to, parts.clone(), checksum);
            }
        }
    }

    fn retransmit_limit(&self) -> u32 {
        scale::retransmit_limit(self.config.profile.retransmit_mult, self.members.len())
    }

    pub(super) fn address_of(&self, name: &Name) -> Option<SocketAddr> {
        self.members.get(name).map(Member::address)
    }
}
