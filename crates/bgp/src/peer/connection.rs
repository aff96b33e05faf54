//! A connection's bytes: messages are cut out of the stream and handed to the part of the state that is due.

use std::net::SocketAddr;

use super::{Moment, Peer, Phase, Refusal, Timer, opening, session};
use crate::negotiation::{Direction, LocalOpen, Negotiated};
use crate::view::{ConnectionView, DownReason};
use crate::wire::{
    AsnSize, Disposition, ErrorCode, Header, Message, MessageLimit, MessageType, RefreshKnowledge, decode,
};
use crate::{ConnectionId, Output};

/// What may wait of a peer's bytes, when the driver does not empty the outbox: more than it gives at a time.
const INBOUND_MAX: usize = 256 * 1024;
/// The outputs that one message may lead to, with room to spare; with less in the outbox, messages wait.
const OUTPUTS_PER_MESSAGE_MAX: usize = 8;

/// A connection with its part of the stream.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: ConnectionId,
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
    /// What we said, or say, in our OPEN.
    pub(super) local_open: LocalOpen,
    /// How large the peer's messages may be.
    message_limit: MessageLimit,
    /// The begin of a message whose end has not come.
    inbound: Vec<u8>,
    /// Bytes that the kernel has not taken.
    pub(super) in_flight: usize,
}

impl Connection {
    pub(super) fn new(id: ConnectionId, local: SocketAddr, remote: SocketAddr, local_open: LocalOpen) -> Self {
        let message_limit = local_open.message_limit();
        Connection { id, local, remote, local_open, message_limit, inbound: Vec::new(), in_flight: 0 }
    }
}

impl Peer {
    pub(super) fn received(&mut self, moment: &mut Moment<'_>, id: ConnectionId, bytes: &[u8]) {
        let Some(connection) = self.connection_mut(id) else { return };
        if connection.inbound.len().saturating_add(bytes.len()) > INBOUND_MAX {
            self.refuse(
                moment,
                id,
                Refusal::new(ErrorCode::OUT_OF_RESOURCES, "messages come faster than they are handled"),
            );
            return;
        }
        connection.inbound.extend_from_slice(bytes);
        self.messages(moment, id);
    }

    /// Handles all whole messages, as long as there is room for what they lead to. The rest waits for the next tick.
    pub(super) fn messages(&mut self, moment: &mut Moment<'_>, id: ConnectionId) {
        let Some(connection) = self.connection_mut(id) else { return };
        let inbound = std::mem::take(&mut connection.inbound);
        let limit = connection.message_limit;
        let mut rest = inbound.as_slice();
        while self.connection_mut(id).is_some() {
            let header = match Header::decode(rest, limit) {
                Ok(Some(header)) if header.length <= rest.len() => header,
                Ok(_) => break,
                Err(error) => {
                    self.refuse(moment, id, error.into());
                    break;
                }
            };
            if moment.out.room() < OUTPUTS_PER_MESSAGE_MAX {
                self.timers.set(Timer::Work, moment.now);
                break;
            }
            let (message, after) = rest.split_at_checked(header.length).unwrap_or((rest, &[]));
            rest = after;
            self.message(moment, id, header.kind, message, limit);
        }
        let rest = rest.to_vec();
        if let Some(connection) = self.connection_mut(id) {
            connection.inbound = rest;
        }
    }

    /// Hands a message to the state that the connection is in. Which messages a state takes is in RFC 4271 section
    /// 8.2.2; the subcodes for all others are in RFC 6608 section 3.
    fn message(
        &mut self,
        moment: &mut Moment<'_>,
        id: ConnectionId,
        kind: MessageType,
        bytes: &[u8],
        limit: MessageLimit,
    ) {
        self.history.counters.received.count(kind, 1);
        let stage = self.stage(id);
        let unexpected = match (stage, kind) {
            (_, MessageType::Notification)
            | (Stage::OpenSent, MessageType::Open)
            | (Stage::OpenConfirm, MessageType::Keepalive)
            | (Stage::Established, MessageType::Keepalive | MessageType::Update | MessageType::RouteRefresh) => None,
            (Stage::OpenSent, _) => Some(ErrorCode::UNEXPECTED_IN_OPEN_SENT),
            (Stage::OpenConfirm, _) => Some(ErrorCode::UNEXPECTED_IN_OPEN_CONFIRM),
            (Stage::Established, _) => Some(ErrorCode::UNEXPECTED_IN_ESTABLISHED),
        };
        if let Some(code) = unexpected {
            let detail = format!("a message of type {kind:?} came in state {stage:?}");
            self.refuse(moment, id, Refusal::new(code, detail));
            return;
        }
        match decode(bytes, self.asn_size(), limit) {
            Ok(Message::Open(open)) => self.open_received(moment, id, open),
            Ok(Message::Keepalive) if stage == Stage::OpenConfirm => self.establish(moment, id),
            Ok(Message::Keepalive) => self.keepalive_received(moment),
            Ok(Message::Update(update)) => self.update_received(moment, id, &update, bytes),
            Ok(Message::RouteRefresh(refresh)) => match refresh.validate(bytes, self.refresh_knowledge()) {
                Ok(subtype) => self.refresh_received(moment, refresh.routes, subtype),
                Err(error) => self.refuse(moment, id, error.into()),
            },
            Ok(Message::Notification(notification)) => {
                moment.out.push(Output::Close { connection: id });
                self.notification_received(&notification);
                self.connection_ended(moment, id, DownReason::Remote { notification });
            }
            Err(error) => {
                if kind == MessageType::Update {
                    let errors = vec![error.clone()];
                    let (disposition, text, message) = (Disposition::Reset, String::new(), bytes.to_vec());
                    moment.out.push(Output::MalformedUpdate { disposition, errors, text, message });
                }
                self.refuse(moment, id, error.into());
            }
        }
    }

    fn stage(&self, id: ConnectionId) -> Stage {
        match &self.phase {
            Phase::Established(_) => Stage::Established,
            Phase::Idle => Stage::OpenSent,
            Phase::Opening(opening) => match opening.handshake(id.direction()).map(|handshake| &handshake.progress) {
                Some(opening::Progress::OpenConfirm(_)) => Stage::OpenConfirm,
                Some(opening::Progress::OpenSent) | None => Stage::OpenSent,
            },
        }
    }

    fn asn_size(&self) -> AsnSize {
        match &self.phase {
            Phase::Established(session) => session.negotiated.asn_size,
            Phase::Idle | Phase::Opening(_) => AsnSize::Four,
        }
    }

    fn refresh_knowledge(&self) -> RefreshKnowledge {
        match &self.phase {
            Phase::Established(session) => session.negotiated.refresh,
            Phase::Idle | Phase::Opening(_) => RefreshKnowledge::Plain,
        }
    }

    /// The connections on which messages may come.
    pub fn connections(&self) -> impl Iterator<Item = ConnectionView<'_>> {
        let directions = [Direction::Dialed, Direction::Accepted].into_iter();
        directions.filter_map(|direction| self.connection_towards(direction)).map(|connection| {
            let (negotiated, is_established) = match &self.phase {
                Phase::Idle => (None, false),
                Phase::Opening(opening) => {
                    (opening.handshake(connection.id.direction()).and_then(opening::Handshake::negotiated), false)
                }
                Phase::Established(session) => (Some(&session.negotiated), true),
            };
            ConnectionView {
                id: connection.id,
                local: connection.local,
                remote: connection.remote,
                open_sent: &connection.local_open.open,
                open_received: negotiated.map(Negotiated::open_received),
                is_established,
                unread: &connection.inbound,
            }
        })
    }

    /// The kernel took bytes.
    pub(super) fn written(&mut self, moment: &mut Moment<'_>, id: ConnectionId, count: usize) {
        let Some(connection) = self.connection_mut(id) else { return };
        connection.in_flight = connection.in_flight.saturating_sub(count);
        let is_idle = connection.in_flight == 0;
        if let Phase::Established(session) = &self.phase {
            let time = session.send_hold_time();
            session::send_hold_restart(&mut self.timers, moment.now, time, is_idle);
            self.work_schedule(moment.now);
        }
    }
}

/// The states in which a connection has messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    OpenSent,
    OpenConfirm,
    Established,
}
