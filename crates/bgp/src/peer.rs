//! One neighbour: the state machine of RFC 4271 section 8 over at most one connection each way, and its timers.
//!
//! The life of a peer: [`opening`] makes connections and exchanges OPENs until one of them is established, [`session`]
//! keeps it alive and sends routes. Here is what both share: inputs come in, timers fire, connections end.
//!
//! It does not know sockets: a connection is a name that came with an input.

mod connection;
mod opening;
mod session;

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use kit::{Duration, Family, Instant, Outbox, Rng, TimerTable};

use crate::backoff::{BackOff, Cause, STABLE_AFTER};
use crate::negotiation::{Direction, LocalOpen, Negotiated, Offer, Refusal, RoutesKept, keepalive_time};
use crate::rib_out::Wanted;
use crate::view::{Counters, DownReason, FamilyView, MessageCounts, PeerView, RouteView, SessionView, State};
use crate::wire::{self, Disposition, Issue, MessageType, Notification};
use crate::{Beginning, ConnectionId, Input, Mode, Output, PeerConfig, RouteState, StopReason};

use connection::Connection;
use opening::{Handshake, Opening, Outgoing};
use session::Session;

/// How late a tick may be before we must assume that we were asleep: then the peer's messages may be waiting unread,
/// and it gets [`HOLD_GRACE`] more.
const HOLD_TICK_LATE: Duration = Duration::from_millis(200);
/// What a peer gets beyond its hold time after we were asleep: time to read what it sent meanwhile.
const HOLD_GRACE: Duration = Duration::from_secs(1);
/// How much of a connection's bytes may wait for the kernel before nothing but a NOTIFICATION is added. With one
/// message more, it bounds the memory that a peer costs that does not read.
const SEND_WINDOW: usize = 64 * 1024;

/// One neighbour: its connections, its session, and the routes that it should have from us.
#[derive(Debug)]
pub struct Peer {
    config: PeerConfig,
    rng: Rng,
    phase: Phase,
    timers: TimerTable<Timer>,
    wanted: Wanted,
    /// What our next OPEN has.
    offer: Offer,
    /// Next hops that the driver supplied.
    next_hops: BTreeMap<Family, IpAddr>,
    /// How often we dialed.
    dials: u64,
    last_dial: Instant,
    back_off: BackOff,
    history: History,
}

/// What remains of the past.
#[derive(Debug)]
struct History {
    since: Instant,
    sessions: u64,
    last_down: Option<(Instant, DownReason)>,
    last_notification: Option<(Instant, DownReason)>,
    counters: Counters,
}

impl History {
    fn ended(&mut self, now: Instant, reason: &DownReason) {
        if let DownReason::Local { .. } | DownReason::Remote { .. } = reason {
            self.last_notification = Some((now, reason.clone()));
        }
        self.last_down = Some((now, reason.clone()));
    }
}

/// How far the peer is. Each part has what only it needs.
#[derive(Debug)]
enum Phase {
    /// Stopped (RFC state Idle).
    Idle,
    /// RFC states Connect, Active, OpenSent and OpenConfirm.
    Opening(Opening),
    /// RFC state Established.
    Established(Box<Session>),
}

/// What may be running. Timers of a connection carry its direction, of which there is at most one each.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Dial again.
    ConnectRetry,
    /// Stop waiting for the connection that is being made.
    ConnectTimeout,
    /// The peer was silent for too long.
    Hold(Direction),
    /// The same, after the time to read up.
    HoldGrace(Direction),
    /// Say that we are there.
    Keepalive(Direction),
    /// The connection took nothing for too long (RFC 9687).
    SendHold,
    /// There is more to send.
    Work,
}

impl Timer {
    /// All timers of a connection.
    fn of_connection(direction: Direction) -> [Timer; 3] {
        [Timer::Hold(direction), Timer::HoldGrace(direction), Timer::Keepalive(direction)]
    }
}

/// The present: when it is, and where outputs go.
struct Moment<'a> {
    now: Instant,
    out: &'a mut Outbox<Output>,
}

impl Peer {
    /// A peer that is stopped. The generator spreads its timers.
    pub fn new(config: PeerConfig, rng: Rng, now: Instant) -> Self {
        Peer {
            config,
            rng,
            phase: Phase::Idle,
            timers: TimerTable::new(),
            wanted: Wanted::default(),
            offer: Offer::Everything,
            next_hops: BTreeMap::new(),
            dials: 0,
            last_dial: now,
            back_off: BackOff::default(),
            history: History {
                since: now,
                sessions: 0,
                last_down: None,
                last_notification: None,
                counters: Counters::default(),
            },
        }
    }

    /// How it is configured.
    pub fn config(&self) -> &PeerConfig {
        &self.config
    }

    /// Tells the peer something that happened. The outputs are to be executed in order, and the outbox emptied, before
    /// the next call.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Outbox<Output>) {
        let before = self.state();
        let moment = &mut Moment { now, out };
        match input {
            Input::Start => self.start(moment),
            Input::Stop { reason } => self.stop(moment, &reason),
            Input::Configure(config) => self.configure(moment, *config),
            Input::Complete => {
                self.wanted.complete();
                self.work_schedule(moment.now);
            }
            Input::Tick => self.tick(moment),
            Input::Announce { prefix, attributes } => {
                let prefix = prefix.trunc();
                if self.wanted.announce(prefix, attributes) {
                    self.wanted_changed(moment, prefix);
                }
            }
            Input::Withdraw { prefix } => {
                let prefix = prefix.trunc();
                if self.wanted.withdraw(&prefix) {
                    self.wanted_changed(moment, prefix);
                }
            }
            Input::NextHop { family, address } => self.next_hop_changed(moment, family, address),
            Input::Connected { connection, local, remote } => self.connected(moment, connection, local, remote),
            Input::ConnectFailed { connection, error } => {
                self.dial_ended(moment, connection, DownReason::Connect(error));
            }
            Input::Received { connection, bytes } => self.received(moment, connection, &bytes),
            Input::Written { connection, count } => self.written(moment, connection, count),
            Input::Closed { connection, reason } => {
                self.connection_ended(moment, connection, DownReason::Closed(reason));
            }
        }
        if self.state() != before {
            self.history.since = now;
        }
    }

    /// When `Input::Tick` is due; `None` while the peer waits for nothing but other inputs.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// The state of the connection that got farthest.
    pub fn state(&self) -> State {
        match &self.phase {
            Phase::Idle => State::Idle,
            Phase::Opening(opening) => opening.state(),
            Phase::Established(_) => State::Established,
        }
    }

    /// True when everything that the peer should be told has been taken by the kernel, or there is no session to tell it.
    pub fn is_quiet(&self) -> bool {
        match &self.phase {
            Phase::Established(session) => !session.rib_out.has_work(&self.wanted) && session.connection.in_flight == 0,
            Phase::Idle | Phase::Opening(_) => true,
        }
    }

    /// How far a route got.
    pub fn route_state(&self, prefix: &IpNet) -> RouteState {
        let prefix = prefix.trunc();
        match (self.wanted.get(&prefix), &self.phase) {
            (None, _) => RouteState::NotWanted,
            (Some(wanted), Phase::Established(session)) => session.rib_out.route_state(&prefix, wanted),
            (Some(_), _) => RouteState::NoSession,
        }
    }

    /// The routes that the peer should have behind this prefix, in order: for those who take them in portions.
    pub fn routes_after(&self, prefix: Option<&IpNet>) -> impl Iterator<Item = RouteView> {
        let sent = |prefix: &IpNet| match &self.phase {
            Phase::Established(session) => session.rib_out.sent(prefix),
            Phase::Idle | Phase::Opening(_) => None,
        };
        let view = move |prefix: IpNet| RouteView { prefix, state: self.route_state(&prefix), sent: sent(&prefix) };
        self.wanted.after(prefix).map(view)
    }

    /// Everything that an operator may ask, but for the routes.
    pub fn view(&self) -> PeerView {
        let families = Family::ALL.map(|family| self.family_view(family));
        let sum = |of: fn(&FamilyView) -> usize| families.iter().map(of).fold(0, usize::saturating_add);
        PeerView {
            state: self.state(),
            since: self.history.since,
            next_attempt: self.timers.get(&Timer::ConnectRetry),
            failed_attempts: self.back_off.failures(),
            sessions: self.history.sessions,
            last_down: self.history.last_down.clone(),
            last_notification: self.history.last_notification.clone(),
            counters: self.history.counters,
            prefixes_wanted: sum(|view| view.wanted),
            prefixes_announced: sum(|view| view.announced),
            prefixes_received: match &self.phase {
                Phase::Established(session) => session.rib_in.len(),
                Phase::Idle | Phase::Opening(_) => 0,
            },
            session: self.session_view(),
            families,
        }
    }

    fn family_view(&self, family: Family) -> FamilyView {
        let (announced, blocked) = match &self.phase {
            Phase::Established(session) => (session.rib_out.announced(family), session.rib_out.next_hop(family).err()),
            Phase::Idle | Phase::Opening(_) => (0, Some(RouteState::NoSession)),
        };
        FamilyView { family, wanted: self.wanted.count(family), announced, blocked }
    }

    fn session_view(&self) -> Option<SessionView> {
        let (connection, negotiated) = match &self.phase {
            Phase::Idle => None,
            Phase::Opening(opening) => opening.confirmed(),
            Phase::Established(session) => Some((&*session.connection, &session.negotiated)),
        }?;
        Some(SessionView {
            local: connection.local,
            remote: connection.remote,
            local_router_id: connection.local_open.router_id,
            remote_router_id: negotiated.remote_router_id,
            remote_as: negotiated.remote_as,
            hold_time: negotiated.hold_time,
            keepalive_time: negotiated.keepalive_time,
            keeps_routes: negotiated.routes_kept != RoutesKept::Never,
            capabilities_sent: connection.local_open.open.capabilities.clone(),
            capabilities_received: negotiated.capabilities_received.clone(),
        })
    }

    fn tick(&mut self, moment: &mut Moment<'_>) {
        let mut has_work = false;
        while let Some(deadline) = self.timers.next_deadline()
            && let Some(timer) = self.timers.pop_expired(moment.now)
        {
            match timer {
                Timer::ConnectRetry => self.dial(moment),
                Timer::ConnectTimeout => self.dial_timed_out(moment),
                Timer::Hold(direction) => self.hold_expired(moment, direction, deadline),
                Timer::HoldGrace(direction) => self.hold_ended(moment, direction),
                Timer::Keepalive(direction) => self.keepalive_due(moment, direction),
                Timer::SendHold => self.send_hold_expired(moment),
                // Once per tick, and after all else, however much there is to send.
                Timer::Work => has_work = true,
            }
        }
        if has_work {
            for direction in [Direction::Dialed, Direction::Accepted] {
                if let Some(id) = self.connection_towards(direction).map(|connection| connection.id) {
                    self.messages(moment, id);
                }
            }
            self.work(moment);
        }
    }

    /// RFC 4271 section 6.5, with patience for a tick that comes late: the peer may have spoken while we slept.
    fn hold_expired(&mut self, moment: &mut Moment<'_>, direction: Direction, deadline: Instant) {
        if moment.now - deadline > HOLD_TICK_LATE {
            self.timers.set(Timer::HoldGrace(direction), moment.now + HOLD_GRACE);
        } else {
            self.hold_ended(moment, direction);
        }
    }

    fn hold_ended(&mut self, moment: &mut Moment<'_>, direction: Direction) {
        if let Some(connection) = self.connection_towards(direction) {
            let id = connection.id;
            self.refuse(
                moment,
                id,
                Refusal::new(wire::ErrorCode::HOLD_TIMER_EXPIRED, "nothing came from the peer in time"),
            );
        }
    }

    /// Starts the hold timer anew: the peer showed that it lives.
    fn hold_restart(&mut self, now: Instant, direction: Direction, time: Option<Duration>) {
        self.timers.clear(&Timer::HoldGrace(direction));
        match time {
            Some(time) => self.timers.set(Timer::Hold(direction), now + time),
            None => self.timers.clear(&Timer::Hold(direction)),
        }
    }

    /// The connection of a direction, if it has got that far.
    fn connection_towards(&self, direction: Direction) -> Option<&Connection> {
        let connection = match &self.phase {
            Phase::Idle => None,
            Phase::Opening(opening) => opening.handshake(direction).map(|handshake| &*handshake.connection),
            Phase::Established(session) => Some(&*session.connection),
        }?;
        (connection.id.direction() == direction).then_some(connection)
    }

    fn connection_mut(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        let connection = match &mut self.phase {
            Phase::Idle => None,
            Phase::Opening(opening) => {
                opening.handshake_mut(id.direction()).map(|handshake| &mut *handshake.connection)
            }
            Phase::Established(session) => Some(&mut *session.connection),
        }?;
        (connection.id == id).then_some(connection)
    }

    /// Sends messages over a connection that exists.
    fn send(&mut self, moment: &mut Moment<'_>, id: ConnectionId, bytes: Vec<u8>) {
        if let Some(connection) = self.connection_mut(id) {
            connection.in_flight = connection.in_flight.saturating_add(bytes.len());
            moment.out.push(Output::Send { connection: id, bytes });
        }
        if self.timers.get(&Timer::SendHold).is_none()
            && let Phase::Established(session) = &self.phase
        {
            self.timers.set(Timer::SendHold, moment.now + session.send_hold_time());
        }
    }

    fn keepalive_due(&mut self, moment: &mut Moment<'_>, direction: Direction) {
        let Some((id, in_flight)) =
            self.connection_towards(direction).map(|connection| (connection.id, connection.in_flight))
        else {
            return;
        };
        // What waits already will be the sign of life; behind it a KEEPALIVE would only cost memory.
        if in_flight < SEND_WINDOW {
            let mut bytes = Vec::new();
            wire::keepalive(&mut bytes);
            self.history.counters.sent.count(MessageType::Keepalive, 1);
            self.send(moment, id, bytes);
        }
        self.keepalive_restart(moment.now, direction);
    }

    /// The next KEEPALIVE is due an interval from now, with jitter of 75 to 100 per cent (RFC 4271 section 10), but not
    /// within a second (section 4.4).
    fn keepalive_restart(&mut self, now: Instant, direction: Direction) {
        let interval = match &self.phase {
            Phase::Idle => None,
            Phase::Opening(opening) => opening.handshake(direction).and_then(Handshake::keepalive_time),
            Phase::Established(session) => session.negotiated.keepalive_time,
        };
        if let Some(interval) = interval {
            let jittered = self.rng.jitter(interval, 75, 100).max(Duration::from_secs(1));
            self.timers.set(Timer::Keepalive(direction), now + jittered);
        }
    }

    /// Ends a connection for a reason of ours, and says so to the peer.
    fn refuse(&mut self, moment: &mut Moment<'_>, id: ConnectionId, refusal: Refusal) {
        let Refusal { notification, detail } = refusal;
        self.notify_and_close(moment, id, &notification);
        self.connection_ended(moment, id, DownReason::Local { notification, detail });
    }

    /// A NOTIFICATION and the end of a connection, also of one that is not ours yet.
    fn notify_and_close(&mut self, moment: &mut Moment<'_>, id: ConnectionId, notification: &Notification) {
        let mut bytes = Vec::new();
        notification.encode(&mut bytes);
        self.history.counters.sent.count(MessageType::Notification, 1);
        moment.out.push(Output::Send { connection: id, bytes });
        moment.out.push(Output::Close { connection: id });
    }

    /// A connection is gone; its part of the state goes with it.
    fn connection_ended(&mut self, moment: &mut Moment<'_>, id: ConnectionId, reason: DownReason) {
        if self.connection_mut(id).is_none() {
            // An old one, or one that is still being made.
            self.dial_ended(moment, id, reason);
            return;
        }
        for timer in Timer::of_connection(id.direction()) {
            self.timers.clear(&timer);
        }
        match &mut self.phase {
            Phase::Idle => {}
            Phase::Opening(opening) => {
                opening.remove(id.direction());
                self.attempt_ended(moment, Cause::Refused, reason);
            }
            Phase::Established(_) => {
                let lasted = moment.now - self.history.since;
                self.session_ended();
                self.history.ended(moment.now, &reason);
                moment.out.push(Output::SessionDown { reason });
                let cause = if lasted >= STABLE_AFTER { Cause::Lost } else { Cause::Refused };
                self.phase = Phase::Opening(Opening::resting());
                self.retry_later(moment.now, cause);
            }
        }
    }

    /// Takes another configuration. Nothing that was negotiated changes under a session that lasts.
    fn configure(&mut self, moment: &mut Moment<'_>, config: PeerConfig) {
        let before = std::mem::replace(&mut self.config, config);
        if let Some(restart) = &mut self.config.graceful_restart
            && self.history.sessions > 0
        {
            restart.beginning = Beginning::New;
        }
        if before.keepalive_time != self.config.keepalive_time
            && let Phase::Established(session) = &mut self.phase
        {
            let direction = session.connection.id.direction();
            session.negotiated.keepalive_time =
                keepalive_time(self.config.keepalive_time, session.negotiated.hold_time);
            self.keepalive_restart(moment.now, direction);
        }
        if before.connect_retry != self.config.connect_retry && self.timers.get(&Timer::ConnectRetry).is_some() {
            let delay = self.config.connect_retry.interval().map(|interval| interval - (moment.now - self.last_dial));
            self.timers.set(Timer::ConnectRetry, moment.now + delay.unwrap_or_default());
        }
    }

    /// RFC 4271 section 8.2.2, ManualStop: every connection is told, whatever its state. What the peer is told also
    /// says whether it keeps our routes.
    fn stop(&mut self, moment: &mut Moment<'_>, reason: &StopReason) {
        let plain = match reason {
            StopReason::AdministrativeShutdown { text } => Notification::with_text(reason.code(), text),
            _ => Notification::new(reason.code()),
        };
        let routes_kept = match &self.phase {
            Phase::Established(session) => session.negotiated.routes_kept,
            Phase::Idle | Phase::Opening(_) => RoutesKept::Never,
        };
        let farewell = match (routes_kept, reason.keeps_routes()) {
            // RFC 4724 section 4: a NOTIFICATION would take the routes away.
            (RoutesKept::WithoutNotification, true) => None,
            // RFC 8538 section 3: only this takes them away.
            (RoutesKept::WithoutHardReset, false) => Some(plain.hard_reset()),
            _ => Some(plain),
        };
        let down = farewell
            .clone()
            .map_or(DownReason::Quietly, |notification| DownReason::Local { notification, detail: String::new() });
        for direction in [Direction::Dialed, Direction::Accepted] {
            let Some(id) = self.connection_towards(direction).map(|connection| connection.id) else { continue };
            match &farewell {
                Some(notification) => self.notify_and_close(moment, id, notification),
                None => moment.out.push(Output::Close { connection: id }),
            }
            self.history.ended(moment.now, &down);
        }
        match &self.phase {
            Phase::Opening(Opening { outgoing: Outgoing::Dialing(id), .. }) => {
                moment.out.push(Output::Close { connection: *id });
            }
            Phase::Established(_) => moment.out.push(Output::SessionDown { reason: down }),
            Phase::Idle | Phase::Opening(_) => {}
        }
        self.timers.clear_all();
        self.phase = Phase::Idle;
        self.back_off = BackOff::default();
        self.offer = Offer::Everything;
    }

    /// RFC 5492 section 3: a peer that does not know the parameter which holds capabilities gets none.
    fn notification_received(&mut self, notification: &Notification) {
        if notification.error == wire::ErrorCode::UNSUPPORTED_OPTIONAL_PARAMETER
            && let Phase::Opening(opening) = &self.phase
            && opening.carries_ipv4()
        {
            self.offer = Offer::Nothing;
        }
    }

    /// Whether we open connections.
    fn dials(&self) -> bool {
        matches!(self.config.mode, Mode::Active | Mode::Both)
    }
}

impl MessageCounts {
    fn count(&mut self, kind: MessageType, number: u64) {
        let counter = match kind {
            MessageType::Open => &mut self.opens,
            MessageType::Update => &mut self.updates,
            MessageType::Notification => &mut self.notifications,
            MessageType::Keepalive => &mut self.keepalives,
            MessageType::RouteRefresh => &mut self.route_refreshes,
        };
        *counter = counter.saturating_add(number);
    }
}

impl Counters {
    fn issues_count(&mut self, issues: &[Issue]) {
        let discarded = issues.iter().filter(|issue| issue.disposition == Disposition::Discard).count();
        let discarded = u64::try_from(discarded).unwrap_or(u64::MAX);
        self.attributes_discarded = self.attributes_discarded.saturating_add(discarded);
        if issues.iter().any(|issue| issue.disposition == Disposition::Withdraw) {
            self.updates_treated_as_withdraw = self.updates_treated_as_withdraw.saturating_add(1);
        }
    }
}

impl ConnectionId {
    /// Which side opened it.
    pub(crate) fn direction(self) -> Direction {
        match self {
            ConnectionId::Dialed(_) => Direction::Dialed,
            ConnectionId::Accepted(_) => Direction::Accepted,
        }
    }
}

#[cfg(test)]
mod tests;
