//! TCP between nodes and routers: connecting, bytes that take their time, and everything that can go wrong.

use std::net::SocketAddr;

use bgp::wire::{AsnSize, Header, MessageLimit, MessageType, decode};
use bgp::{CloseReason, ConnectError, ConnectionId, Input};
use kit::{Duration, Family};

use super::{Cluster, Event};
use crate::Sabotage;
use crate::names::{Lan, NodeId, RouterName};
use crate::router::{self, PORT};
use crate::sessions::{Effect, SessionId};
use crate::tcp::{Segment, Side};
use crate::violation::{Invariant, Violation, hold};

/// How long a packet takes.
const PACKET: Duration = Duration::from_millis(4);
/// How long it takes until something is sent again that did not get through.
const RETRANSMISSION: Duration = Duration::from_secs(2);
/// How long it takes until a node hears from a router that has lost everything.
const ROUTER_RESET: Duration = Duration::from_secs(5);
/// The port that nodes connect from; it does not matter here.
const EPHEMERAL: u16 = 40_000;

/// What sessions and routers want done.
impl Cluster {
    /// Does what a session of a node wants.
    pub(super) fn session_effect(&mut self, node: NodeId, effect: Effect) -> Result<(), Violation> {
        match effect {
            Effect::Dial { session, connection, to } => {
                self.dialing.insert((session, connection));
                let span = self.up_to(PACKET);
                self.plan_in(span, Event::Syn { node, session, connection, to });
            }
            Effect::Send { session, connection, bytes } => {
                if let Some(number) = self.connections.of_session(session, connection) {
                    if is_update(&bytes) && self.sabotage == Some(Sabotage::RepeatUpdates) {
                        self.send(number, Side::Node, bytes.clone());
                    }
                    self.send(number, Side::Node, bytes);
                }
            }
            Effect::Close { session, connection } => {
                self.dialing.remove(&(session, connection));
                if let Some(number) = self.connections.of_session(session, connection) {
                    self.close(number, Side::Node);
                }
            }
            Effect::Up { peer } => {
                self.is_active();
                self.say(|| format!("{node} has a session with {}", peer.name));
                if let Some(router) = crate::sessions::router_of(&peer)
                    && self.is_way_open(node, router)
                    && !self.has_earlier_connection(node, router)
                    && self.disturbed.get(&(node, router)).is_some_and(|until| *until < self.now)
                {
                    self.disturbed.remove(&(node, router));
                }
            }
            Effect::Down { peer, reason } => {
                self.is_active();
                self.say(|| format!("{node} lost its session with {}: {reason}", peer.name));
                let router = crate::sessions::router_of(&peer);
                let is_excused = router.is_some_and(|router| self.disturbed.contains_key(&(node, router)));
                hold(is_excused, Invariant::SessionsAreLeftAlone, || {
                    format!("{node} lost its session with {} and nothing was wrong: {reason}", peer.name)
                })?;
            }
        }
        Ok(())
    }

    /// Lets a router do what is due.
    pub(super) fn tick_router(&mut self, router: RouterName) -> Result<(), Violation> {
        let due = self.routers.get(&router).map(|it| it.due(self.now)).unwrap_or_default();
        for node in due {
            self.tell_router(router, node, Input::Tick)?;
        }
        Ok(())
    }

    fn tell_router(&mut self, name: RouterName, node: NodeId, input: Input) -> Result<(), Violation> {
        let Some(router) = self.routers.get_mut(&name) else { return Ok(()) };
        for effect in router.tell(self.now, node, input)? {
            match effect {
                router::Effect::Send { connection, bytes } => self.send(connection, Side::Router, bytes),
                router::Effect::Close { connection } => self.close(connection, Side::Router),
            }
        }
        Ok(())
    }
}

/// What becomes of packets.
impl Cluster {
    /// True when there is more than one connection between a node and a router. The OPEN of one that a pulled cable held up may
    /// still arrive, and the router, which does not know yet that the node has established the other one, then drops that
    /// (RFC 4271 section 6.8).
    fn has_earlier_connection(&self, node: NodeId, router: RouterName) -> bool {
        self.connections.between(Some(node), Some(router)).len() > 1
    }

    /// True when packets get through between a node and a router, as far as cables and power are concerned.
    fn is_way_open(&self, node: NodeId, router: RouterName) -> bool {
        let is_connected = self.machines.get(&node).is_some_and(|machine| machine.is_connected(Lan::Front));
        is_connected && !self.routers_down.contains_key(&router)
    }

    /// A request to connect arrives, or is lost.
    pub(super) fn syn(
        &mut self,
        node: NodeId,
        session: SessionId,
        connection: ConnectionId,
        to: SocketAddr,
    ) -> Result<(), Violation> {
        // To an address where nobody is, nobody answers.
        let Some(name) = RouterName::of_address(&to.ip()).filter(|name| self.is_way_open(node, *name)) else {
            return Ok(());
        };
        if to.port() != PORT {
            let span = self.up_to(PACKET);
            self.plan_in(span, Event::Refused { node, session, connection });
            return Ok(());
        }
        let number = self.connections.accept(self.now, node, session, connection, name);
        self.push(number, Side::Node, Segment::Accepted);
        let local = SocketAddr::new(name.address(), PORT);
        let remote = SocketAddr::new(node.address(Family::of(&name.address())), EPHEMERAL);
        let connection = ConnectionId::Accepted(number);
        self.tell_router(name, node, Input::Connected { connection, local, remote })
    }

    /// A request to connect was refused.
    pub(super) fn refused(
        &mut self,
        node: NodeId,
        session: SessionId,
        connection: ConnectionId,
    ) -> Result<(), Violation> {
        if !self.dialing.remove(&(session, connection)) {
            return Ok(());
        }
        let input = Input::ConnectFailed { connection, error: ConnectError::Refused };
        self.with_speaker(node, |speaker, now| speaker.session_input(now, session, input))
    }

    /// A program writes to its side of a connection.
    fn send(&mut self, number: u64, from: Side, bytes: Vec<u8>) {
        let Some(connection) = self.connections.get(number).filter(|it| it.end(from).is_open) else { return };
        let (node, router) = (connection.node, connection.router);
        let is_stuck = connection.is_stalled || !self.is_way_open(node, router);
        self.say(|| messages(node, router, from, &bytes));
        if is_update(&bytes) {
            self.is_active();
        }
        let count = bytes.len();
        if is_stuck {
            if let Some(connection) = self.connections.get_mut(number) {
                let end = connection.end_mut(from);
                end.unwritten = end.unwritten.saturating_add(count);
            }
        } else {
            self.plan_in(Duration::ZERO, Event::Written { connection: number, side: from, count });
        }
        // A stream has no borders of messages.
        let cut = if self.rng.one_in(8) { self.rng.index(bytes.len()) } else { 0 };
        let (first, rest) = bytes.split_at_checked(cut).unwrap_or((&bytes, &[]));
        for part in [first, rest].into_iter().filter(|part| !part.is_empty()) {
            self.push(number, from.other(), Segment::Bytes(part.to_vec()));
        }
    }

    /// A program closes its side of a connection.
    pub(super) fn close(&mut self, number: u64, from: Side) {
        let Some(connection) = self.connections.get_mut(number) else { return };
        if !std::mem::replace(&mut connection.end_mut(from).is_open, false) {
            return;
        }
        if connection.end(from.other()).is_open {
            self.push(number, from.other(), Segment::Fin);
        } else {
            self.connections.remove(number);
        }
    }

    /// Something is on its way to a side: nothing overtakes.
    fn push(&mut self, number: u64, to: Side, segment: Segment) {
        let span = self.up_to(PACKET);
        let Some(connection) = self.connections.get_mut(number) else { return };
        let end = connection.end_mut(to);
        end.last_arrival = end.last_arrival.max(self.now + span);
        end.inbound.push_back(segment);
        let at = end.last_arrival;
        self.schedule.plan(at, Event::Arrive { connection: number, side: to });
    }

    /// The next thing on its way to a side arrives, if it gets through.
    pub(super) fn arrive(&mut self, number: u64, side: Side) -> Result<(), Violation> {
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        let (node, router) = (connection.node, connection.router);
        if connection.is_stalled || !self.is_way_open(node, router) {
            return Ok(());
        }
        let Some(connection) = self.connections.get_mut(number) else { return Ok(()) };
        let Some(segment) = connection.end_mut(side).inbound.pop_front() else { return Ok(()) };
        if !connection.end(side).is_open {
            return Ok(());
        }
        let (session, dialed) = (connection.session, connection.dialed);
        match segment {
            Segment::Accepted => {
                if !self.dialing.remove(&(session, dialed)) {
                    // Nobody waits for it any more.
                    self.close(number, Side::Node);
                    return Ok(());
                }
                let remote = SocketAddr::new(router.address(), PORT);
                let local = SocketAddr::new(node.address(Family::of(&router.address())), EPHEMERAL);
                let input = Input::Connected { connection: dialed, local, remote };
                self.with_speaker(node, |speaker, now| speaker.session_input(now, session, input))
            }
            Segment::Bytes(bytes) => {
                self.tell_end(number, side, |connection| Input::Received { connection, bytes: bytes.clone() })
            }
            Segment::Fin => self.end_closed(number, side, CloseReason::ByPeer),
        }
    }

    /// A side learns that its connection was reset.
    pub(super) fn reset(&mut self, number: u64, side: Side) -> Result<(), Violation> {
        self.end_closed(number, side, CloseReason::Reset)
    }

    /// The connection of a side is no more, not by its own program.
    fn end_closed(&mut self, number: u64, side: Side, reason: CloseReason) -> Result<(), Violation> {
        let Some(connection) = self.connections.get_mut(number).filter(|it| it.end(side).is_open) else {
            return Ok(());
        };
        connection.end_mut(side).is_open = false;
        connection.end_mut(side).inbound.clear();
        let (node, session, dialed) = (connection.node, connection.session, connection.dialed);
        let result = if side == Side::Node && self.dialing.remove(&(session, dialed)) {
            let input = Input::ConnectFailed { connection: dialed, error: ConnectError::Refused };
            self.with_speaker(node, |speaker, now| speaker.session_input(now, session, input))
        } else {
            self.tell_end(number, side, |connection| Input::Closed { connection, reason: reason.clone() })
        };
        if self.connections.get(number).is_some_and(|it| !it.end(side.other()).is_open) {
            self.connections.remove(number);
        }
        result
    }

    /// The kernel took bytes.
    pub(super) fn written(&mut self, number: u64, side: Side, count: usize) -> Result<(), Violation> {
        if self.connections.get(number).is_none_or(|connection| !connection.end(side).is_open) {
            return Ok(());
        }
        self.tell_end(number, side, |connection| Input::Written { connection, count })
    }

    fn tell_end(&mut self, number: u64, side: Side, input: impl Fn(ConnectionId) -> Input) -> Result<(), Violation> {
        let Some(connection) = self.connections.get(number) else { return Ok(()) };
        let (node, router, session) = (connection.node, connection.router, connection.session);
        match side {
            Side::Node => {
                let input = input(connection.dialed);
                self.with_speaker(node, |speaker, now| speaker.session_input(now, session, input))
            }
            Side::Router => self.tell_router(router, node, input(ConnectionId::Accepted(number))),
        }
    }
}

/// What goes wrong.
impl Cluster {
    /// Something is wrong between these, so their sessions may end.
    pub(super) fn disturb(&mut self, node: Option<NodeId>, router: Option<RouterName>) {
        let nodes: Vec<NodeId> =
            self.machines.keys().copied().filter(|it| node.is_none_or(|node| node == *it)).collect();
        for name in RouterName::ALL.into_iter().filter(|it| router.is_none_or(|router| router == *it)) {
            let until = self.now + PACKET;
            self.disturbed.extend(nodes.iter().map(|node| ((*node, name), until)));
        }
        self.is_active();
    }

    /// The connections between these break, and both sides are told.
    pub(super) fn break_connections(&mut self, node: NodeId, router: RouterName) {
        self.disturb(Some(node), Some(router));
        for connection in self.connections.between(Some(node), Some(router)) {
            for side in [Side::Node, Side::Router] {
                let span = self.up_to(PACKET);
                self.plan_in(span, Event::Reset { connection, side });
            }
        }
    }

    /// Nothing gets through for a while, and nobody is told.
    pub(super) fn stall(&mut self, node: NodeId, router: RouterName, span: Duration) {
        self.disturb(Some(node), Some(router));
        for number in self.connections.between(Some(node), Some(router)) {
            if let Some(connection) = self.connections.get_mut(number) {
                connection.is_stalled = true;
                self.plan_in(span, Event::Unstall { connection: number });
            }
        }
    }

    pub(super) fn unstall(&mut self, number: u64) {
        if let Some(connection) = self.connections.get_mut(number)
            && std::mem::replace(&mut connection.is_stalled, false)
        {
            let (node, router) = (connection.node, connection.router);
            self.release(Some(node), Some(router));
        }
    }

    /// What could not get through does now, as it is sent again.
    pub(super) fn release(&mut self, node: Option<NodeId>, router: Option<RouterName>) {
        self.is_active();
        for number in self.connections.between(node, router) {
            for side in [Side::Node, Side::Router] {
                let span = self.up_to(RETRANSMISSION);
                let Some(connection) = self.connections.get_mut(number) else { continue };
                let end = connection.end_mut(side);
                let (waiting, count) = (end.inbound.len(), std::mem::take(&mut end.unwritten));
                end.last_arrival = end.last_arrival.max(self.now + span);
                let at = end.last_arrival;
                for _ in 0..waiting {
                    self.schedule.plan(at, Event::Arrive { connection: number, side });
                }
                if count > 0 {
                    self.plan_in(Duration::ZERO, Event::Written { connection: number, side, count });
                }
            }
        }
    }

    /// A router loses power for a while.
    pub(super) fn router_down(&mut self, name: RouterName, span: Duration) {
        let until = self.now + span;
        self.disturb(None, Some(name));
        if let Some(router) = self.routers.get_mut(&name) {
            router.restart();
        }
        for number in self.connections.between(None, Some(name)) {
            if let Some(connection) = self.connections.get_mut(number) {
                connection.end_mut(Side::Router).is_open = false;
            }
        }
        let down = self.routers_down.entry(name).or_insert(until);
        *down = until.max(*down);
        self.schedule.plan(until, Event::RouterBack(name));
    }

    /// A router may have power again. It knows nothing of its connections, and says so when it hears from them.
    pub(super) fn router_back(&mut self, name: RouterName) {
        if self.routers_down.get(&name).is_none_or(|until| *until > self.now) {
            return;
        }
        self.routers_down.remove(&name);
        self.is_active();
        for connection in self.connections.between(None, Some(name)) {
            let span = self.up_to(ROUTER_RESET);
            self.plan_in(span, Event::Reset { connection, side: Side::Node });
        }
    }
}

/// True for routes, as opposed to everything that goes on all the time with a router that there can be no session with.
fn is_update(bytes: &[u8]) -> bool {
    let header = Header::decode(bytes, MessageLimit::Extended);
    header.is_ok_and(|header| header.is_some_and(|header| header.kind == MessageType::Update))
}

/// The messages in a piece of a stream, in one line.
fn messages(node: NodeId, router: RouterName, from: Side, bytes: &[u8]) -> String {
    let mut text = match from {
        Side::Node => format!("{node} > {router}:"),
        Side::Router => format!("{router} > {node}:"),
    };
    let mut rest = bytes;
    while let Ok(Some(header)) = Header::decode(rest, MessageLimit::Extended) {
        let Some((message, after)) = rest.split_at_checked(header.length) else { break };
        rest = after;
        let message = decode(message, AsnSize::Four, MessageLimit::Extended);
        let message = message.map_or_else(|error| error.to_string(), |it| it.to_string());
        text.push(' ');
        text.push_str(&message);
    }
    text
}
