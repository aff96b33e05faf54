//! From nothing to a session: dialing, accepting, the exchange of OPENs, and collisions (RFC 4271 sections 6.8 and 8).

use std::net::SocketAddr;

use kit::{Duration, Family, Instant};

use super::{Connection, LocalOpen, Moment, Negotiated, Peer, Phase, Session, Timer};
use crate::backoff::Cause;
use crate::negotiation::{Direction, Offer, collision_winner, negotiate};
use crate::view::{DownReason, State};
use crate::wire::{self, ErrorCode, MessageType, Notification, Open};
use crate::{Beginning, CloseReason, ConnectError, ConnectionId, Mode, Output};

/// How long an attempt to connect may take. A configured retry time that is shorter holds instead.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the peer's OPEN may take (RFC 4271 section 8.2.2: "a large value", four minutes).
const OPEN_HOLD_TIME: Duration = Duration::from_secs(240);

/// A peer without a session yet: one connection each way at most.
#[derive(Debug)]
pub(super) struct Opening {
    pub(super) outgoing: Outgoing,
    pub(super) incoming: Option<Handshake>,
}

/// Our own attempt.
#[derive(Debug)]
pub(super) enum Outgoing {
    /// None: we do not dial, or the peer's own connection goes first.
    Resting,
    /// The retry timer runs.
    Waiting,
    /// A connection is being made.
    Dialing(ConnectionId),
    /// There is one.
    Open(Handshake),
}

/// A connection on which OPENs are exchanged. Ours is out.
#[derive(Debug)]
pub(super) struct Handshake {
    pub(super) connection: Box<Connection>,
    pub(super) progress: Progress,
}

/// How far a handshake is.
#[derive(Debug)]
pub(super) enum Progress {
    /// Waiting for the peer's OPEN.
    OpenSent,
    /// It came and was accepted; waiting for a KEEPALIVE.
    OpenConfirm(Box<Negotiated>),
}

impl Handshake {
    pub(super) fn keepalive_time(&self) -> Option<Duration> {
        self.negotiated()?.keepalive_time
    }

    pub(super) fn negotiated(&self) -> Option<&Negotiated> {
        match &self.progress {
            Progress::OpenSent => None,
            Progress::OpenConfirm(negotiated) => Some(negotiated),
        }
    }
}

impl Opening {
    pub(super) fn resting() -> Self {
        Opening { outgoing: Outgoing::Resting, incoming: None }
    }

    pub(super) fn handshake(&self, direction: Direction) -> Option<&Handshake> {
        match (direction, &self.outgoing) {
            (Direction::Accepted, _) => self.incoming.as_ref(),
            (Direction::Dialed, Outgoing::Open(handshake)) => Some(handshake),
            (Direction::Dialed, _) => None,
        }
    }

    pub(super) fn handshake_mut(&mut self, direction: Direction) -> Option<&mut Handshake> {
        match (direction, &mut self.outgoing) {
            (Direction::Accepted, _) => self.incoming.as_mut(),
            (Direction::Dialed, Outgoing::Open(handshake)) => Some(handshake),
            (Direction::Dialed, _) => None,
        }
    }

    /// Takes a handshake out; nothing of its direction remains.
    pub(super) fn remove(&mut self, direction: Direction) -> Option<Handshake> {
        match direction {
            Direction::Accepted => self.incoming.take(),
            Direction::Dialed => match std::mem::replace(&mut self.outgoing, Outgoing::Resting) {
                Outgoing::Open(handshake) => Some(handshake),
                other => {
                    self.outgoing = other;
                    None
                }
            },
        }
    }

    /// True when a connection is to carry IPv4, which needs no capability.
    pub(super) fn carries_ipv4(&self) -> bool {
        [Direction::Dialed, Direction::Accepted].into_iter().any(|direction| {
            let families = self.handshake(direction).map(|handshake| &handshake.connection.local_open.families);
            families.is_some_and(|families| families.contains(&Family::V4))
        })
    }

    /// The handshake whose OPEN was accepted, if there is one.
    pub(super) fn confirmed(&self) -> Option<(&Connection, &Negotiated)> {
        [Direction::Dialed, Direction::Accepted].into_iter().find_map(|direction| {
            let handshake = self.handshake(direction)?;
            Some((&*handshake.connection, handshake.negotiated()?))
        })
    }

    pub(super) fn state(&self) -> State {
        if self.confirmed().is_some() {
            State::OpenConfirm
        } else if self.incoming.is_some() || matches!(self.outgoing, Outgoing::Open(_)) {
            State::OpenSent
        } else if matches!(self.outgoing, Outgoing::Dialing(_)) {
            State::Connect
        } else {
            State::Active
        }
    }
}

impl Peer {
    /// RFC 4271 section 8.2.2, ManualStart, with or without passive establishment.
    pub(super) fn start(&mut self, moment: &mut Moment<'_>) {
        if !matches!(self.phase, Phase::Idle) {
            return;
        }
        self.phase = Phase::Opening(Opening::resting());
        if self.dials() {
            self.dial(moment);
        }
    }

    /// Dials, unless that is under way, or a connection of the peer's has got as far as its OPEN. One that has not is
    /// no reason to wait: if both come to something, it is a collision.
    pub(super) fn dial(&mut self, moment: &mut Moment<'_>) {
        let Phase::Opening(opening) = &mut self.phase else { return };
        if opening.confirmed().is_some() {
            opening.outgoing = Outgoing::Resting;
            return;
        }
        let (Outgoing::Resting | Outgoing::Waiting) = opening.outgoing else { return };
        self.dials = self.dials.saturating_add(1);
        let connection = ConnectionId::Dialed(self.dials);
        opening.outgoing = Outgoing::Dialing(connection);
        self.last_dial = moment.now;
        let timeout = self.config.connect_retry.interval().map_or(CONNECT_TIMEOUT, |time| time.min(CONNECT_TIMEOUT));
        self.timers.set(Timer::ConnectTimeout, moment.now + timeout);
        moment.out.push(Output::Dial { connection });
    }

    pub(super) fn dial_timed_out(&mut self, moment: &mut Moment<'_>) {
        if let Phase::Opening(Opening { outgoing: Outgoing::Dialing(id), .. }) = &self.phase {
            let id = *id;
            moment.out.push(Output::Close { connection: id });
            self.dial_ended(moment, id, DownReason::Connect(ConnectError::NoAnswer));
        }
    }

    /// There will be no connection of this name.
    pub(super) fn dial_ended(&mut self, moment: &mut Moment<'_>, id: ConnectionId, reason: DownReason) {
        if let Phase::Opening(opening) = &mut self.phase
            && matches!(opening.outgoing, Outgoing::Dialing(dialing) if dialing == id)
        {
            opening.outgoing = Outgoing::Resting;
            self.timers.clear(&Timer::ConnectTimeout);
            self.attempt_ended(moment, Cause::Silent, reason);
        }
    }

    /// An attempt is over. If it was not the last one under way, the other one decides.
    pub(super) fn attempt_ended(&mut self, moment: &mut Moment<'_>, cause: Cause, reason: DownReason) {
        let Phase::Opening(Opening { outgoing: outgoing @ (Outgoing::Resting | Outgoing::Waiting), incoming: None }) =
            &self.phase
        else {
            return;
        };
        let is_waiting = matches!(outgoing, Outgoing::Waiting);
        self.history.ended(moment.now, &reason);
        moment.out.push(Output::AttemptFailed { reason });
        // The retry timer may be running since an attempt of our own failed.
        if !is_waiting {
            self.retry_later(moment.now, cause);
        }
    }

    /// Sets the retry timer, if we dial at all.
    pub(super) fn retry_later(&mut self, now: Instant, cause: Cause) {
        let delay = self.back_off.next(self.config.connect_retry, cause, now - self.last_dial, &mut self.rng);
        if self.dials()
            && let Phase::Opening(opening) = &mut self.phase
        {
            opening.outgoing = Outgoing::Waiting;
            self.timers.set(Timer::ConnectRetry, now + delay);
        }
    }

    /// A connection is there: ours goes on if it is the one that was dialed, the peer's if we accept any now.
    pub(super) fn connected(
        &mut self,
        moment: &mut Moment<'_>,
        id: ConnectionId,
        local: SocketAddr,
        remote: SocketAddr,
    ) {
        if self.connection_mut(id).is_some() {
            return;
        }
        self.old_session_end(moment, id);
        let is_ours = match (&self.phase, id) {
            (Phase::Opening(opening), ConnectionId::Dialed(_)) => {
                matches!(opening.outgoing, Outgoing::Dialing(dialing) if dialing == id)
            }
            (Phase::Opening(_), ConnectionId::Accepted(_)) => self.config.mode != Mode::Active,
            (Phase::Idle | Phase::Established(_), _) => false,
        };
        if !is_ours {
            self.turn_away(moment, id);
            return;
        }
        // A peer has one connection to us at a time; if it makes another, it has given up the first.
        if let ConnectionId::Accepted(_) = id
            && let Some(before) = self.connection_towards(Direction::Accepted).map(|connection| connection.id)
        {
            self.drop_loser(moment, before);
        }
        let local_open = LocalOpen::new(&self.config, local, self.offer);
        let mut bytes = Vec::new();
        local_open.open.encode(&mut bytes);
        let connection = Box::new(Connection::new(id, local, remote, local_open));
        let handshake = Handshake { connection, progress: Progress::OpenSent };
        let Phase::Opening(opening) = &mut self.phase else { return };
        match id.direction() {
            Direction::Dialed => {
                opening.outgoing = Outgoing::Open(handshake);
                self.timers.clear(&Timer::ConnectTimeout);
            }
            Direction::Accepted => opening.incoming = Some(handshake),
        }
        self.history.counters.sent.count(MessageType::Open, 1);
        self.send(moment, id, bytes);
        self.hold_restart(moment.now, id.direction(), Some(OPEN_HOLD_TIME));
    }

    /// RFC 4724 section 4.2: when a peer that restarts connects again, its old session has ended, without a word.
    fn old_session_end(&mut self, moment: &mut Moment<'_>, id: ConnectionId) {
        if let (ConnectionId::Accepted(_), Phase::Established(session)) = (id, &self.phase)
            && session.negotiated.peer_restarts
            && session.connection.id != id
            && self.config.mode != Mode::Active
        {
            let old = session.connection.id;
            moment.out.push(Output::Close { connection: old });
            self.connection_ended(moment, old, DownReason::Closed(CloseReason::Replaced));
        }
    }

    /// Closes a connection that came when none was wanted. A peer that knocks is told (RFC 4486 section 4); next to
    /// an established session it is the newer one that goes (RFC 4271 section 6.8).
    fn turn_away(&mut self, moment: &mut Moment<'_>, id: ConnectionId) {
        match (id, &self.phase) {
            (ConnectionId::Dialed(_), _) => moment.out.push(Output::Close { connection: id }),
            (ConnectionId::Accepted(_), Phase::Established(_)) => {
                self.notify_and_close(moment, id, &Notification::new(ErrorCode::CONNECTION_COLLISION));
            }
            (ConnectionId::Accepted(_), _) => {
                self.notify_and_close(moment, id, &Notification::new(ErrorCode::CONNECTION_REJECTED));
            }
        }
    }

    /// RFC 4271 section 8.2.2, OpenSent, Event 19: judge the OPEN, settle a collision, answer with a KEEPALIVE.
    pub(super) fn open_received(&mut self, moment: &mut Moment<'_>, id: ConnectionId, open: Open) {
        let Some(connection) = self.connection_mut(id) else { return };
        let local_open = connection.local_open.clone();
        let negotiated = match negotiate(&self.config, &local_open, open) {
            Ok(negotiated) => negotiated,
            Err(refusal) => {
                self.refuse(moment, id, refusal);
                return;
            }
        };
        if let Some(other) = self.confirmed_besides(id) {
            let local = (local_open.router_id, self.config.local_as);
            let remote = (negotiated.remote_router_id, negotiated.remote_as);
            let winner = collision_winner(local, remote);
            if winner != id.direction() {
                self.drop_loser(moment, id);
                return;
            }
            self.drop_loser(moment, other);
        }
        // Without a hold time the wait for the KEEPALIVE would have no end.
        let hold_time = negotiated.hold_time.expiry().unwrap_or(OPEN_HOLD_TIME);
        let Phase::Opening(opening) = &mut self.phase else { return };
        if let Some(handshake) = opening.handshake_mut(id.direction()) {
            handshake.progress = Progress::OpenConfirm(Box::new(negotiated));
        }
        self.hold_restart(moment.now, id.direction(), Some(hold_time));
        let mut bytes = Vec::new();
        wire::keepalive(&mut bytes);
        self.history.counters.sent.count(MessageType::Keepalive, 1);
        self.send(moment, id, bytes);
        self.keepalive_restart(moment.now, id.direction());
    }

    /// The other connection, if its OPEN was accepted already (RFC 4271 section 6.8).
    fn confirmed_besides(&self, id: ConnectionId) -> Option<ConnectionId> {
        let Phase::Opening(opening) = &self.phase else { return None };
        opening.confirmed().map(|(connection, _)| connection.id).filter(|confirmed| *confirmed != id)
    }

    /// Closes a connection for the sake of another: no failure, and nothing that an operator needs to know.
    fn drop_loser(&mut self, moment: &mut Moment<'_>, id: ConnectionId) {
        self.notify_and_close(moment, id, &Notification::new(ErrorCode::CONNECTION_COLLISION));
        for timer in Timer::of_connection(id.direction()) {
            self.timers.clear(&timer);
        }
        if let Phase::Opening(opening) = &mut self.phase {
            opening.remove(id.direction());
        }
    }

    /// RFC 4271 section 8.2.2, OpenConfirm, Event 26: the session is up. Whatever else was under way ends.
    pub(super) fn establish(&mut self, moment: &mut Moment<'_>, id: ConnectionId) {
        let Phase::Opening(opening) = &mut self.phase else { return };
        let Some(handshake) = opening.remove(id.direction()) else { return };
        let Handshake { connection, progress: Progress::OpenConfirm(negotiated) } = handshake else { return };
        let dialing = match opening.outgoing {
            Outgoing::Dialing(dialing) => Some(dialing),
            Outgoing::Resting | Outgoing::Waiting | Outgoing::Open(_) => None,
        };
        for direction in [Direction::Dialed, Direction::Accepted] {
            if let Some(loser) = self.connection_towards(direction).map(|connection| connection.id) {
                self.drop_loser(moment, loser);
            }
        }
        if let Some(dialing) = dialing {
            moment.out.push(Output::Close { connection: dialing });
        }
        self.timers.clear(&Timer::ConnectTimeout);
        self.timers.clear(&Timer::ConnectRetry);
        moment
            .out
            .push(Output::SessionUp { remote_as: negotiated.remote_as, remote_router_id: negotiated.remote_router_id });
        // RFC 4724 section 4.2: later sessions of this process do not follow a restart of it.
        if let Some(restart) = &mut self.config.graceful_restart {
            restart.beginning = Beginning::New;
        }
        self.offer = Offer::Everything;
        self.history.sessions = self.history.sessions.saturating_add(1);
        let hold_time = negotiated.hold_time.expiry();
        let session = Session::new(&self.config, &self.next_hops, connection, *negotiated);
        self.phase = Phase::Established(Box::new(session));
        self.hold_restart(moment.now, id.direction(), hold_time);
        self.work_schedule(moment.now);
    }
}
