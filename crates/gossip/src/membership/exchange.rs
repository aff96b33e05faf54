//! Connections: comparing all members with another one, which is also how members join, and pings over TCP.
//!
//! Each connection carries one message in each direction. Whoever dialed speaks first.

use std::net::SocketAddr;

use kit::{Duration, Instant};

use super::join::Outcome;
use super::{Membership, Moment, Timer};
use crate::event::{CloseReason, ConnectionId, Output, Report};
use crate::member::Condition;
use crate::wire::{Direction, NodeState, PushPull, STREAM_BYTES_MAX, StreamMessage, StreamReader, Versions};
use crate::{Name, scale};

/// Connections from others at a time; memberlist takes 128 exchanges.
const ACCEPTED_MAX: usize = 128;
/// How much of what others send may wait to be understood, over all connections.
const BUFFERED_MAX: usize = STREAM_BYTES_MAX.saturating_mul(4);

/// A connection.
#[derive(Clone, Debug)]
pub(super) struct Stream {
    remote: SocketAddr,
    role: Role,
    reader: StreamReader,
}

#[derive(Clone, Debug)]
enum Role {
    /// We dialed to compare members.
    Exchange(Purpose),
    /// We dialed to ping.
    Ping { name: Name, sequence: u32 },
    /// The other side dialed.
    Accepted,
}

/// Why members are compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// To become members of the same cluster.
    Join,
    /// To find what gossip has missed.
    Routine,
}

impl Membership {
    /// Compares members with one of them.
    pub(super) fn push_pull(&mut self, moment: &mut Moment<'_>) {
        let Some(interval) = self.config.profile.push_pull_interval else { return };
        let interval = scale::push_pull_interval(interval, self.members.len());
        self.timers.set(Timer::PushPull, moment.now + interval);
        let ourselves = self.config.name.clone();
        let with = self.members.random(1, &mut self.rng, |member| {
            matches!(member.condition, Condition::Alive) && member.node.node != ourselves
        });
        if let Some(address) = with.first().and_then(|name| self.address_of(name)) {
            self.exchange_dial(moment, address, Purpose::Routine);
        }
    }

    pub(super) fn exchange_dial(&mut self, moment: &mut Moment<'_>, address: SocketAddr, purpose: Purpose) {
        let timeout = self.config.profile.tcp_timeout;
        self.dial(moment, address, Role::Exchange(purpose), timeout);
    }

    pub(super) fn ping_over_tcp(&mut self, moment: &mut Moment<'_>, address: SocketAddr, name: &Name, sequence: u32) {
        // It is of no use after the probe.
        let time = self.timers.get(&Timer::ProbeEnd).map_or(self.config.profile.probe_interval, |end| end - moment.now);
        self.dial(moment, address, Role::Ping { name: name.clone(), sequence }, time);
    }

    fn dial(&mut self, moment: &mut Moment<'_>, address: SocketAddr, role: Role, timeout: Duration) {
        self.dials = self.dials.saturating_add(1);
        let connection = ConnectionId::Dialed(self.dials);
        self.stream_insert(
            moment.now,
            connection,
            Stream { remote: address, role, reader: StreamReader::new(Direction::Answer) },
            timeout,
        );
        moment.out.push(Output::Dial { connection, address });
    }

    fn stream_insert(&mut self, now: Instant, connection: ConnectionId, stream: Stream, timeout: Duration) {
        self.streams.insert(connection, stream);
        self.timers.set(Timer::Stream(connection), now + timeout);
    }

    pub(super) fn accepted(&mut self, moment: &mut Moment<'_>, connection: ConnectionId, remote: SocketAddr) {
        let accepted = self.streams.values().filter(|stream| matches!(stream.role, Role::Accepted)).count();
        if accepted >= ACCEPTED_MAX {
            self.counters.streams_refused = self.counters.streams_refused.saturating_add(1);
            return moment.out.push(Output::Close { connection });
        }
        let stream = Stream { remote, role: Role::Accepted, reader: StreamReader::new(Direction::Dialed) };
        self.stream_insert(moment.now, connection, stream, self.config.profile.tcp_timeout);
    }

    /// A connection that we dialed is there: we speak first.
    pub(super) fn connected(&mut self, moment: &mut Moment<'_>, connection: ConnectionId) {
        let Some(stream) = self.streams.get(&connection) else { return };
        let message = match &stream.role {
            Role::Exchange(purpose) => StreamMessage::PushPull(self.our_list(*purpose)),
            Role::Ping { name, sequence } => StreamMessage::Ping(self.ping(*sequence, name)),
            Role::Accepted => return,
        };
        let bytes = self.dress().stream(&message, Direction::Dialed);
        moment.out.push(Output::Write { connection, bytes });
    }

    /// All that we know.
    fn our_list(&self, purpose: Purpose) -> PushPull {
        let nodes = self.members.iter().filter(|(name, _)| !self.is_declared_alone(name));
        let nodes = nodes.map(|(_, member)| NodeState { node: member.node.clone(), health: member.health() });
        PushPull { join: purpose == Purpose::Join, nodes: nodes.collect() }
    }

    pub(super) fn received(&mut self, moment: &mut Moment<'_>, connection: ConnectionId, bytes: &[u8]) {
        let buffered = self.streams.values().map(|stream| stream.reader.buffered()).fold(0, usize::saturating_add);
        let Some(mut stream) = self.streams.remove(&connection) else { return };
        if buffered.saturating_add(bytes.len()) > BUFFERED_MAX {
            self.counters.streams_refused = self.counters.streams_refused.saturating_add(1);
            self.timers.clear(&Timer::Stream(connection));
            moment.out.push(Output::Close { connection });
            return self.stream_failed(moment, &stream, "too much waits in all connections together");
        }
        match stream.reader.read(bytes, &self.guard()) {
            Ok(None) => {
                self.streams.insert(connection, stream);
            }
            Ok(Some((message, key))) => {
                self.key_used(key);
                self.timers.clear(&Timer::Stream(connection));
                self.stream_message(moment, connection, &stream, message);
                moment.out.push(Output::Close { connection });
            }
            Err(error) => {
                self.counters.streams_dropped = self.counters.streams_dropped.saturating_add(1);
                self.timers.clear(&Timer::Stream(connection));
                moment.report(Report::StreamDropped { from: stream.remote, error: error.clone() });
                if let Role::Accepted = stream.role {
                    self.answer(moment, connection, &StreamMessage::Error(error.to_string()));
                }
                moment.out.push(Output::Close { connection });
                self.stream_failed(moment, &stream, &error.to_string());
            }
        }
    }

    fn answer(&mut self, moment: &mut Moment<'_>, connection: ConnectionId, message: &StreamMessage) {
        let bytes = self.dress().stream(message, Direction::Answer);
        moment.out.push(Output::Write { connection, bytes });
    }

    /// The message of a connection has come.
    fn stream_message(
        &mut self,
        moment: &mut Moment<'_>,
        connection: ConnectionId,
        stream: &Stream,
        message: StreamMessage,
    ) {
        match (&stream.role, message) {
            (Role::Accepted, StreamMessage::PushPull(theirs)) => {
                let ours = self.our_list(if theirs.join { Purpose::Join } else { Purpose::Routine });
                self.answer(moment, connection, &StreamMessage::PushPull(ours));
                self.list_heard(moment, theirs);
            }
            (Role::Accepted, StreamMessage::Ping(ping)) => {
                if ping.node.as_ref().is_none_or(|name| self.is_ourselves(name)) {
                    self.answer(moment, connection, &StreamMessage::Ack { sequence: ping.sequence });
                }
            }
            (Role::Exchange(purpose), StreamMessage::PushPull(theirs)) => {
                let members = theirs.nodes.len();
                self.list_heard(moment, theirs);
                if *purpose == Purpose::Join {
                    moment.report(Report::Joined { address: stream.remote, members });
                    self.join_ended(moment, stream.remote, Outcome::Joined);
                }
            }
            (Role::Ping { sequence, .. }, StreamMessage::Ack { sequence: answered }) => {
                if *sequence == answered {
                    self.acked_over_tcp(answered);
                }
            }
            (_, StreamMessage::Error(text)) => self.stream_failed(moment, stream, &format!("it says: {text}")),
            _ => self.stream_failed(moment, stream, "it answers with another kind of message"),
        }
    }

    fn list_heard(&mut self, moment: &mut Moment<'_>, list: PushPull) {
        if let Some(report) = self.incompatibility(&list.nodes) {
            return moment.report(report);
        }
        self.merge(moment, list.nodes);
    }

    /// Whether all members, here and there, understand each other. If not, the lists are not merged.
    fn incompatibility(&self, theirs: &[NodeState]) -> Option<Report> {
        const UNSAID: Versions = Versions { protocol_min: 0, protocol_max: 0, protocol: 0, delegate: [0; 3] };
        let all = || {
            let ours = self.members.iter().map(|(_, member)| (&member.node, member.health()));
            theirs.iter().map(|it| (&it.node, it.health)).chain(ours)
        };
        let said =
            || all().filter(|(_, health)| *health == crate::wire::Health::Alive).filter_map(|(node, _)| node.versions);
        let least = said().map(|versions| versions.protocol_min).max().unwrap_or(0);
        let most = said().map(|versions| versions.protocol_max).min().unwrap_or(u8::MAX);
        let delegate = |versions: Versions| {
            let [min, max, current] = versions.delegate;
            (min, max, current)
        };
        let delegate_least = said().map(|versions| delegate(versions).0).max().unwrap_or(0);
        let delegate_most = said().map(|versions| delegate(versions).1).min().unwrap_or(u8::MAX);
        let (node, versions) =
            all().map(|(node, _)| (node, node.versions.unwrap_or(UNSAID))).find(|(_, versions)| {
                !(least..=most).contains(&versions.protocol)
                    || !(delegate_least..=delegate_most).contains(&delegate(*versions).2)
            })?;
        Some(Report::Incompatible { name: node.node.clone(), version: versions.protocol, least, most })
    }

    /// A connection ended without a message.
    pub(super) fn closed(&mut self, moment: &mut Moment<'_>, connection: ConnectionId, reason: &CloseReason) {
        let Some(stream) = self.streams.remove(&connection) else { return };
        self.timers.clear(&Timer::Stream(connection));
        self.stream_failed(moment, &stream, &reason.to_string());
    }

    pub(super) fn stream_timed_out(&mut self, moment: &mut Moment<'_>, connection: ConnectionId) {
        let Some(stream) = self.streams.remove(&connection) else { return };
        moment.out.push(Output::Close { connection });
        self.stream_failed(moment, &stream, "it took too long");
    }

    fn stream_failed(&mut self, moment: &mut Moment<'_>, stream: &Stream, problem: &str) {
        if let Role::Exchange(Purpose::Join) = stream.role {
            let problem = problem.to_owned();
            moment.report(Report::JoinFailed { address: stream.remote, problem });
            self.join_ended(moment, stream.remote, Outcome::Failed);
        }
    }

    pub(super) fn connection_of_ping(&self, sequence: u32) -> Option<ConnectionId> {
        let is_it = |stream: &Stream| matches!(&stream.role, Role::Ping { sequence: it, .. } if *it == sequence);
        self.streams.iter().find(|(_, stream)| is_it(stream)).map(|(connection, _)| *connection)
    }

    pub(super) fn stream_close(&mut self, moment: &mut Moment<'_>, connection: ConnectionId) {
        if self.streams.remove(&connection).is_some() {
            self.timers.clear(&Timer::Stream(connection));
            moment.out.push(Output::Close { connection });
        }
    }
}
