//! Finding members that failed: one is pinged each interval; if it does not answer, others are asked to ping it, and it
//! is pinged over TCP; if none of that helps, it is suspected. And the other side of it: answering pings, and pinging
//! for others.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;

use kit::Instant;

use super::{Membership, Moment, Timer};
use crate::TcpPings;
use crate::broadcast::For;
use crate::event::{ConnectionId, Report};
use crate::member::{Condition, Next, canonical};
use crate::wire::{IndirectPing, Message, Ping, Suspect};
use crate::{Cause, Name};

/// Answers that are waited for at a time; the oldest are forgotten beyond that.
const EXPECTED_MAX: usize = 16_384;
/// Members that are pinged for others at a time.
const RELAYS_MAX: usize = 256;
/// From this version of the protocol on, members answer pings over TCP, and say so when they got no answer for others.
const TCP_PING_FROM: u8 = 3;
const NACK_FROM: u8 = 4;

/// What an answer is for.
#[derive(Clone, Debug)]
pub(super) enum Awaited {
    /// A member was pinged for another one, who gave this number to its question.
    Relay { to: SocketAddr, sequence: u32, nack: bool },
    /// A watched member was pinged.
    Watch(Name),
    /// A member was pinged by others for a watch.
    Vouch { name: Name, asked: Instant },
    /// Another member was pinged, to see whether anybody answers us.
    Witness(Name),
    /// A member that is new was pinged.
    Greeting(Name),
    /// A member was told that we leave.
    Farewell(Name),
}

/// Answers that are waited for, by the number of the ping.
#[derive(Clone, Debug, Default)]
pub(super) struct Expected {
    by_sequence: BTreeMap<u32, Awaited>,
    /// Numbers wrap around, so they do not tell which is the oldest.
    order: VecDeque<u32>,
    relays: usize,
}

impl Expected {
    pub(super) fn insert(&mut self, sequence: u32, awaited: Awaited) {
        self.order.push_back(sequence);
        if self.order.len() > EXPECTED_MAX
            && let Some(oldest) = self.order.pop_front()
        {
            self.remove(oldest);
        }
        self.relays = self.relays.saturating_add(usize::from(matches!(awaited, Awaited::Relay { .. })));
        self.by_sequence.insert(sequence, awaited);
    }

    pub(super) fn remove(&mut self, sequence: u32) -> Option<Awaited> {
        let awaited = self.by_sequence.remove(&sequence)?;
        self.relays = self.relays.saturating_sub(usize::from(matches!(awaited, Awaited::Relay { .. })));
        Some(awaited)
    }
}

/// The probe that is going on.
#[derive(Clone, Debug)]
pub(super) struct Probe {
    sequence: u32,
    name: Name,
    sent: Instant,
    stage: ProbeStage,
}

#[derive(Clone, Debug)]
enum ProbeStage {
    Direct,
    /// Others were asked.
    Indirect {
        nacks_expected: u32,
        nacks: u32,
        tcp: TcpAnswer,
    },
}

/// What came of a ping over TCP.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum TcpAnswer {
    NotYet,
    Came,
}

impl Membership {
    /// The next member of the ring is pinged, if the last probe has ended.
    pub(super) fn probe_next(&mut self, moment: &mut Moment<'_>) {
        let interval = self.config.profile.probe_interval;
        if let Some(end) = self.timers.get(&Timer::ProbeEnd) {
            // Not well, we give others more time, and probe less often.
            return self.timers.set(Timer::Probe, end);
        }
        self.timers.set(Timer::Probe, moment.now + interval);
        if let Some(name) = self.ring_next(moment) {
            self.probe_begin(moment, name);
        }
    }

    fn ring_next(&mut self, moment: &mut Moment<'_>) -> Option<Name> {
        for _ in 0..=self.members.len() {
            match self.members.advance() {
                Next::Wrapped => {
                    let keep = self.config.profile.gossip_to_the_dead_time;
                    for name in self.members.reap(moment.now, keep, &mut self.rng) {
                        self.watch_end(moment, &name);
                    }
                }
                Next::Member(name) => {
                    if !self.is_ourselves(&name) && self.is_member(&name) {
                        return Some(name);
                    }
                }
            }
        }
        None
    }

    fn probe_begin(&mut self, moment: &mut Moment<'_>, name: Name) {
        let Some(member) = self.members.get(&name) else { return };
        let (to, checksum, incarnation) = (member.address(), member.checksum(), member.node.incarnation);
        let is_suspect = matches!(member.condition, Condition::Suspect(_));
        let sequence = self.sequence_next();
        let ping = Message::Ping(self.ping(sequence, &name));
        if is_suspect {
            // It should hear at once that it is suspected.
            let from = self.config.name.clone();
            let suspect = Message::Suspect(Suspect { incarnation, node: name.clone(), from });
            self.send_parts(moment, to, vec![ping.encode(), suspect.encode()], checksum);
        } else {
            self.send(moment, to, &ping, For::Gossip);
        }
        let profile = &self.config.profile;
        let end = moment.now + self.awareness.stretched(profile.probe_interval);
        self.timers.set(Timer::ProbeTimeout, moment.now + profile.probe_timeout);
        self.timers.set(Timer::ProbeEnd, end);
        self.probe = Some(Probe { sequence, name, sent: moment.now, stage: ProbeStage::Direct });
    }

    /// The member did not answer in time: others may reach it, or TCP.
    pub(super) fn probe_indirectly(&mut self, moment: &mut Moment<'_>) {
        let Some(probe) = &self.probe else { return };
        let (name, sequence) = (probe.name.clone(), probe.sequence);
        let Some(member) = self.members.get(&name) else { return };
        let (target, understood) = (member.node.address, member.protocol_max());
        let helpers = self.helpers(&name, self.config.profile.indirect_checks);
        let mut nacks_expected: u32 = 0;
        for helper in helpers {
            let Some(member) = self.members.get(&helper) else { continue };
            let (to, nack) = (member.address(), member.protocol_max() >= NACK_FROM);
            nacks_expected = nacks_expected.saturating_add(u32::from(nack));
            let source = Some(self.source());
            let ping = IndirectPing { sequence, target, node: Some(name.clone()), nack, source };
            self.send(moment, to, &Message::IndirectPing(ping), For::Gossip);
        }
        if self.config.profile.tcp_pings == TcpPings::Fallback && understood >= TCP_PING_FROM {
            self.ping_over_tcp(moment, canonical(target), &name, sequence);
        }
        if let Some(probe) = &mut self.probe {
            probe.stage = ProbeStage::Indirect { nacks_expected, nacks: 0, tcp: TcpAnswer::NotYet };
        }
    }

    /// Members that can ping another for us.
    pub(super) fn helpers(&mut self, name: &Name, count: usize) -> Vec<Name> {
        let ourselves = &self.config.name;
        self.members.random(count, &mut self.rng, |member| {
            matches!(member.condition, Condition::Alive) && member.node.node != *ourselves && member.node.node != *name
        })
    }

    /// The time of a probe is over, and no answer came over UDP.
    pub(super) fn probe_end(&mut self, moment: &mut Moment<'_>) {
        let Some(probe) = self.probe.take() else { return };
        self.timers.clear(&Timer::ProbeTimeout);
        let (nacks_expected, nacks) = match probe.stage {
            ProbeStage::Indirect { tcp: TcpAnswer::Came, .. } => {
                self.awareness.improve();
                self.unproven(moment.now, &probe.name);
                return moment.report(Report::UdpBlocked { name: probe.name });
            }
            ProbeStage::Indirect { nacks_expected, nacks, .. } => (nacks_expected, nacks),
            ProbeStage::Direct => (0, 0),
        };
        self.counters.probes_failed = self.counters.probes_failed.saturating_add(1);
        // Helpers that did not even say that they failed are a sign that we are the one who does not hear.
        self.awareness.worsen(if nacks_expected > 0 { nacks_expected.saturating_sub(nacks) } else { 1 });
        let Some(member) = self.members.get(&probe.name) else { return };
        let suspect =
            Suspect { incarnation: member.node.incarnation, node: probe.name.clone(), from: self.config.name.clone() };
        self.suspected(moment, suspect, Cause::Probe);
    }

    /// The question to a member whether it is there, with what its answer is for.
    pub(super) fn ping_awaited(&mut self, name: &Name, awaited: fn(Name) -> Awaited) -> Message {
        let sequence = self.sequence_next();
        self.expected.insert(sequence, awaited(name.clone()));
        Message::Ping(self.ping(sequence, name))
    }

    /// A member answered a ping.
    pub(super) fn acked(&mut self, moment: &mut Moment<'_>, sequence: u32) {
        if let Some(probe) = self.probe.take_if(|probe| probe.sequence == sequence) {
            self.timers.clear(&Timer::ProbeTimeout);
            self.timers.clear(&Timer::ProbeEnd);
            self.awareness.improve();
            self.ping_over_tcp_end(moment, sequence);
            self.watch_vouched(moment, &probe.name, probe.sent);
            self.proven(&probe.name);
            return self.witnessed(&probe.name);
        }
        match self.expected.remove(sequence) {
            None => {}
            Some(Awaited::Relay { to, sequence: asked, .. }) => {
                self.timers.clear(&Timer::Relay(sequence));
                self.send(moment, to, &Message::Ack { sequence: asked }, For::Company(to));
            }
            Some(Awaited::Watch(name)) => {
                self.watch_answered(moment, &name, sequence);
                self.proven(&name);
                self.witnessed(&name);
            }
            Some(Awaited::Vouch { name, asked }) => self.watch_vouched(moment, &name, asked),
            Some(Awaited::Witness(name) | Awaited::Greeting(name)) => {
                self.proven(&name);
                self.witnessed(&name);
            }
            Some(Awaited::Farewell(name)) => self.farewell_heard(moment, &name),
        }
    }

    /// A helper got no answer either, and says so.
    pub(super) fn nacked(&mut self, sequence: u32) {
        if let Some(Probe { stage: ProbeStage::Indirect { nacks, .. }, .. }) =
            self.probe.as_mut().filter(|probe| probe.sequence == sequence)
        {
            *nacks = nacks.saturating_add(1);
        }
    }

    /// The probed member answered over TCP.
    pub(super) fn acked_over_tcp(&mut self, sequence: u32) {
        if let Some(Probe { stage: ProbeStage::Indirect { tcp, .. }, .. }) =
            self.probe.as_mut().filter(|probe| probe.sequence == sequence)
        {
            *tcp = TcpAnswer::Came;
        }
    }

    /// Somebody asks whether we are there.
    pub(super) fn ping_answer(&mut self, moment: &mut Moment<'_>, from: SocketAddr, ping: &Ping) {
        if ping.node.as_ref().is_some_and(|name| !self.is_ourselves(name)) {
            return;
        }
        let to = ping.source.as_ref().map_or(from, |source| canonical(source.address));
        self.send(moment, to, &Message::Ack { sequence: ping.sequence }, For::Company(to));
    }

    /// Somebody asks us to ping another.
    pub(super) fn relay(&mut self, moment: &mut Moment<'_>, from: SocketAddr, ask: &IndirectPing) {
        if self.expected.relays >= RELAYS_MAX {
            self.counters.relays_refused = self.counters.relays_refused.saturating_add(1);
            return;
        }
        let mut target = canonical(ask.target);
        if target.port() == 0 {
            target.set_port(self.config.address.port());
        }
        let to = ask.source.as_ref().map_or(from, |source| canonical(source.address));
        let sequence = self.sequence_next();
        self.expected.insert(sequence, Awaited::Relay { to, sequence: ask.sequence, nack: ask.nack });
        self.timers.set(Timer::Relay(sequence), moment.now + self.config.profile.probe_timeout);
        let ping = Ping { sequence, node: ask.node.clone(), source: Some(self.source()) };
        self.send(moment, target, &Message::Ping(ping), For::Company(target));
    }

    /// The member that we pinged for another did not answer.
    pub(super) fn relay_end(&mut self, moment: &mut Moment<'_>, sequence: u32) {
        if let Some(Awaited::Relay { to, sequence, nack: true }) = self.expected.remove(sequence) {
            self.send(moment, to, &Message::Nack { sequence }, For::Company(to));
        }
    }

    /// The connection that carries a probe's ping, if one does.
    fn ping_over_tcp_end(&mut self, moment: &mut Moment<'_>, sequence: u32) {
        let connection: Option<ConnectionId> = self.connection_of_ping(sequence);
        if let Some(connection) = connection {
            self.stream_close(moment, connection);
        }
    }
}
