//! One member: what it knows of all others, and what it tells them.
//!
//! Here is what all parts share: inputs come in, timers fire, packets go out. The parts: [`merge`] decides whom to
//! believe, [`probe`] finds members that failed, [`spread`] tells everybody, [`exchange`] compares whole lists over
//! TCP, [`join`] and [`leave`] are what they say, [`watching`] looks closely at the members whose addresses this
//! node would inherit and at a few others, its [`circle`], and [`sweep`] at many when the network may have fallen apart.
//!
//! It knows no socket and no clock, and nothing of Services: who announces what is decided by the speaker.

mod circle;
mod exchange;
mod join;
mod leave;
mod merge;
mod probe;
mod spread;
mod sweep;
mod watching;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;

use kit::{Duration, Instant, Outbox, Rng, TimerTable};

use crate::awareness::Awareness;
use crate::broadcast::Queue;
use crate::event::{ConnectionId, Input, MemberChange, Output, Report};
use crate::member::{Condition, Member, Members};
use crate::view::{Counters, MemberView, MembershipView, WatchView};
use crate::watch::Proof;
use crate::wire::{self, Alive, Dress, Guard, Message, Ping, Source, Versions};
use crate::{Cause, Config, Name};

use circle::{Circle, Strangers};
use exchange::Stream;
use join::Peers;
use leave::Presence;
use probe::{Expected, Probe};
use spread::Urgent;
use sweep::Sweep;
use watching::Watched;

/// A tick that comes so late means that this program did not run: time that must not be held against others.
const OWN_PAUSE_MIN: Duration = Duration::from_millis(20);
/// The room in the outbox that is left for what must not be lost; changes beyond it wait for the next tick.
const OUTBOX_RESERVE: usize = 1024;

/// One member of the cluster: this node.
#[derive(Clone, Debug)]
pub struct Membership {
    config: Config,
    rng: Rng,
    members: Members,
    presence: Presence,
    /// Our last incarnation.
    incarnation: u32,
    queue: Queue,
    awareness: Awareness,
    timers: TimerTable<Timer>,
    /// The number of our last ping.
    sequence: u32,
    expected: Expected,
    probe: Option<Probe>,
    streams: BTreeMap<ConnectionId, Stream>,
    /// How often we dialed.
    dials: u64,
    peers: Peers,
    /// Whom the speaker wants watched.
    wanted: BTreeSet<Name>,
    watches: BTreeMap<Name, Watched>,
    circle: Circle,
    strangers: Strangers,
    sweep: Sweep,
    /// What everybody is to be told at once, and was not told often enough; one of each member.
    urgent: VecDeque<Urgent>,
    /// The next time that everybody may be told something at once.
    urgent_from: Instant,
    /// Changes that are not told yet.
    changes: VecDeque<MemberChange>,
    counters: Counters,
    /// How often what a member says about itself has changed.
    meta_changes: u64,
}

/// What may be running.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// The probed member did not answer: ask others.
    ProbeTimeout,
    /// Nor did it answer those. At the same time it comes before the next probe.
    ProbeEnd,
    /// Probe the next member.
    Probe,
    /// A round of gossip.
    Gossip,
    /// An exchange of all members.
    PushPull,
    /// A suspect did not object.
    Suspicion(Name),
    /// A member that we pinged for another did not answer.
    Relay(u32),
    /// A connection takes too long.
    Stream(ConnectionId),
    /// Contact a speaker that is no member.
    Join,
    /// Tell those again that we leave who have not answered.
    Leave,
    /// Look at a watched member.
    Watch(Name),
    /// Ping the next member that has not answered yet.
    Greet,
    /// Count the answers of those that were looked at.
    Sweep,
    /// Tell everybody what could not be told at once.
    Urgent,
    /// More changes are to be told.
    Changes,
}

/// The present: when it is, and where outputs go.
struct Moment<'a> {
    now: Instant,
    out: &'a mut Outbox<Output>,
}

impl Moment<'_> {
    fn report(&mut self, report: Report) {
        self.out.push(Output::Report(report));
    }
}

impl Membership {
    /// A member that knows nobody but itself. The generator decides whom it talks to, and spreads its timers.
    pub fn new(config: Config, rng: Rng, now: Instant) -> Self {
        let mut rng = rng;
        let node = Alive {
            incarnation: 1,
            node: config.name.clone(),
            address: config.address,
            meta: config.meta.clone().into_bytes(),
            versions: Some(Versions::OURS),
        };
        let ourselves = Member { node, condition: Condition::Alive, since: now, proof: Proof::Missing };
        let profile = config.profile;
        let mut timers = TimerTable::new();
        let mut begin = |timer, interval: Duration| {
            let spread = Duration::from_micros(rng.below(interval.as_micros()));
            timers.set(timer, now + interval + spread);
        };
        begin(Timer::Probe, profile.probe_interval);
        begin(Timer::Gossip, profile.gossip_interval);
        if let Some(interval) = profile.push_pull_interval {
            begin(Timer::PushPull, interval);
        }
        Membership {
            members: Members::new(ourselves),
            presence: Presence::Member,
            incarnation: 1,
            queue: Queue::default(),
            awareness: Awareness::new(profile.awareness_max_multiplier),
            timers,
            // Not from one: whoever sends us answers without having seen our pings has to guess.
            sequence: u32::try_from(rng.below(1 << 31)).unwrap_or_default(),
            expected: Expected::default(),
            probe: None,
            streams: BTreeMap::new(),
            dials: 0,
            peers: Peers::default(),
            wanted: BTreeSet::new(),
            watches: BTreeMap::new(),
            circle: Circle::default(),
            strangers: Strangers::default(),
            sweep: Sweep::new(now),
            urgent: VecDeque::new(),
            urgent_from: now,
            changes: VecDeque::new(),
            counters: Counters::default(),
            meta_changes: 0,
            rng,
            config,
        }
    }

    /// Tells the member something that happened. The outputs are to be executed in order, and the outbox emptied,
    /// before the next call.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Outbox<Output>) {
        let moment = &mut Moment { now, out };
        match input {
            Input::Tick => self.tick(moment),
            Input::Packet { from, bytes } => self.packet(moment, from, &bytes),
            Input::Peers { addresses } => self.peers_set(moment, addresses),
            Input::Watch { members } => self.watch_set(moment, members),
            Input::Leave => self.leave(moment),
            Input::Keyring(keyring) => self.config.keyring = keyring,
            Input::Meta(meta) => self.meta_set(moment, meta),
            Input::Refused { address } => self.refused(moment, address),
            Input::KernelAnswered { address } => self.kernel_answered(moment, address),
            Input::Accepted { connection, remote } => self.accepted(moment, connection, remote),
            Input::Connected { connection } => self.connected(moment, connection),
            Input::Received { connection, bytes } => self.received(moment, connection, &bytes),
            Input::Closed { connection, reason } => self.closed(moment, connection, &reason),
        }
        self.changes_tell(moment);
    }

    /// When `Input::Tick` is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    fn tick(&mut self, moment: &mut Moment<'_>) {
        let Some(deadline) = self.timers.next_deadline() else { return };
        let pause = moment.now - deadline;
        if pause >= OWN_PAUSE_MIN {
            self.own_pause(moment.now, pause);
        }
        while let Some(timer) = self.timers.pop_expired(moment.now) {
            match timer {
                Timer::Probe => self.probe_next(moment),
                Timer::ProbeTimeout => self.probe_indirectly(moment),
                Timer::ProbeEnd => self.probe_end(moment),
                Timer::Gossip => self.gossip(moment),
                Timer::PushPull => self.push_pull(moment),
                Timer::Suspicion(name) => self.suspicion_end(moment, &name),
                Timer::Relay(sequence) => self.relay_end(moment, sequence),
                Timer::Stream(connection) => self.stream_timed_out(moment, connection),
                Timer::Join => self.join_due(moment),
                Timer::Leave => self.leave_again(moment),
                Timer::Watch(name) => self.watch_step(moment, &name),
                Timer::Greet => self.greet(moment),
                Timer::Sweep => self.sweep_step(moment),
                Timer::Urgent => self.tell_urgent(moment),
                // Told after every input.
                Timer::Changes => {}
            }
        }
    }

    /// This program did not run for so long. What others said meanwhile has been read; what they did not say, they
    /// could not: we were not there to ask.
    fn own_pause(&mut self, now: Instant, pause: Duration) {
        self.counters.own_pauses = self.counters.own_pauses.saturating_add(1);
        for timer in [Timer::ProbeTimeout, Timer::ProbeEnd] {
            if let Some(deadline) = self.timers.get(&timer) {
                self.timers.set(timer, deadline + pause);
            }
        }
        for (name, deadline) in self.members.suspicions_shift(pause) {
            self.timers.set(Timer::Suspicion(name), deadline);
        }
        let watched: Vec<Name> = self.watches.keys().cloned().collect();
        for name in watched {
            if let Some(watched) = self.watches.get_mut(&name) {
                watched.watch.own_pause(now, pause);
            }
            self.watch_timer_set(&name);
        }
    }

    /// A UDP packet: each of its messages stands for itself.
    fn packet(&mut self, moment: &mut Moment<'_>, from: SocketAddr, bytes: &[u8]) {
        self.counters.packet_received(bytes.len());
        let opened = match wire::open(bytes, &self.guard()) {
            Ok(opened) => opened,
            Err(error) => {
                self.counters.packets_dropped = self.counters.packets_dropped.saturating_add(1);
                return moment.report(Report::PacketDropped { from, error });
            }
        };
        self.key_used(opened.key);
        let mut first_error = None;
        for message in opened.messages {
            match message {
                Ok(message) => self.message(moment, from, message),
                Err(error) => first_error = first_error.or(Some(error)),
            }
        }
        if let Some(error) = first_error {
            self.counters.packets_dropped = self.counters.packets_dropped.saturating_add(1);
            moment.report(Report::PacketDropped { from, error });
        }
    }

    fn message(&mut self, moment: &mut Moment<'_>, from: SocketAddr, message: Message) {
        match message {
            Message::Ping(ping) => self.ping_answer(moment, from, &ping),
            Message::IndirectPing(ping) => self.relay(moment, from, &ping),
            Message::Ack { sequence } => self.acked(moment, sequence),
            Message::Nack { sequence } => self.nacked(sequence),
            Message::Suspect(suspect) => self.suspect_heard(moment, suspect),
            Message::Alive(alive) => self.alive_heard(moment, alive),
            Message::Dead(dead) => self.dead_heard(moment, dead),
            Message::User(_) => {}
        }
    }

    /// What packets and streams must have for us to believe them.
    fn guard(&self) -> Guard<'_> {
        Guard {
            label: self.config.label.as_bytes(),
            keyring: &self.config.keyring,
            plaintext: self.config.profile.incoming,
        }
    }

    /// How our packets and streams look.
    fn dress(&self) -> Dress<'_> {
        let key = match self.config.profile.outgoing {
            crate::Outgoing::Encrypted => self.config.keyring.first(),
            crate::Outgoing::Plaintext => None,
        };
        Dress { label: self.config.label.as_bytes(), key, compression: self.config.profile.compression }
    }

    /// Counts what came with which key: while a key is changed, an operator waits for the old one not to be used.
    fn key_used(&mut self, key: Option<usize>) {
        let counter = match key {
            Some(0) => return,
            Some(_) => &mut self.counters.opened_with_other_key,
            None if self.config.keyring.is_empty() => return,
            None => &mut self.counters.plaintext_taken,
        };
        *counter = counter.saturating_add(1);
    }

    fn sequence_next(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Where answers to our pings go.
    fn source(&self) -> Source {
        Source { address: self.config.address, node: Some(self.config.name.clone()) }
    }

    /// The question to a member whether it is there.
    fn ping(&self, sequence: u32, name: &Name) -> Ping {
        Ping { sequence, node: Some(name.clone()), source: Some(self.source()) }
    }

    fn is_ourselves(&self, name: &Name) -> bool {
        *name == self.config.name
    }

    /// Notes that the state of a member is another than before.
    fn changed(&mut self, name: &Name, cause: Cause) {
        if let Some(member) = self.members.get(name) {
            let (address, state, since) = (member.address(), member.state(), member.since);
            self.changes.push_back(MemberChange { name: name.clone(), address, state, since, cause });
        }
    }

    fn changes_tell(&mut self, moment: &mut Moment<'_>) {
        while moment.out.room() > OUTBOX_RESERVE
            && let Some(change) = self.changes.pop_front()
        {
            moment.out.push(Output::MemberChanged(change));
        }
        if !self.changes.is_empty() {
            self.timers.set(Timer::Changes, moment.now);
        }
    }

    /// Names of all who count as members, this node included, until it leaves.
    pub fn names(&self) -> impl Iterator<Item = &Name> {
        self.members.iter().filter(|(_, member)| member.state().is_member()).map(|(name, _)| name)
    }

    /// What all who count as members say about themselves.
    pub fn metas(&self) -> impl Iterator<Item = (&Name, &[u8])> {
        let members = self.members.iter().filter(|(_, member)| member.state().is_member());
        members.map(|(name, member)| (name, member.node.meta.as_slice()))
    }

    /// Another number whenever a member that was known says something else about itself; newcomers are
    /// [`Output::MemberChanged`].
    pub fn meta_changes(&self) -> u64 {
        self.meta_changes
    }

    /// True if somebody of this name counts as a member.
    pub fn is_member(&self, name: &Name) -> bool {
        self.members.get(name).is_some_and(|member| member.state().is_member())
    }

    /// What has been counted.
    pub fn counters(&self) -> Counters {
        self.counters
    }

    /// Everything that an operator may ask.
    pub fn view(&self) -> MembershipView {
        let member = |(name, member): (&Name, &Member)| MemberView {
            name: name.clone(),
            address: member.address(),
            state: member.state(),
            since: member.since,
            incarnation: member.node.incarnation,
            watch: self
                .watches
                .get(name)
                .map(|watched| WatchView { state: watched.watch.state(), round_trip: watched.watch.round_trip() }),
        };
        MembershipView {
            name: self.config.name.clone(),
            members: self.members.iter().map(member).collect(),
            missing: self.missing().collect(),
            health_score: self.awareness.score(),
            queued: self.queue.len(),
            connections: self.streams.len(),
            is_encrypted: !self.config.keyring.is_empty(),
            counters: self.counters,
        }
    }
}
