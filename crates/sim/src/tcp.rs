//! The connections between nodes and routers: two ends, and what is on its way to each.
//!
//! When things arrive, and whether the way is open, is decided by the cluster.

use std::collections::{BTreeMap, VecDeque};

use bgp::ConnectionId;
use kit::Instant;

use crate::names::{NodeId, RouterName};
use crate::sessions::SessionId;

/// A side of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Side {
    Node,
    Router,
}

impl Side {
    pub(crate) fn other(self) -> Side {
        match self {
            Side::Node => Side::Router,
            Side::Router => Side::Node,
        }
    }
}

/// Something on its way.
#[derive(Debug)]
pub(crate) enum Segment {
    /// The answer to the request to connect.
    Accepted,
    /// A part of the stream.
    Bytes(Vec<u8>),
    /// The end of the stream.
    Fin,
}

/// One side of a connection.
#[derive(Debug)]
pub(crate) struct End {
    /// The program there has it open.
    pub(crate) is_open: bool,
    /// What is on its way to it.
    pub(crate) inbound: VecDeque<Segment>,
    /// When the last of that arrives at the earliest: nothing overtakes.
    pub(crate) last_arrival: Instant,
    /// Bytes that the program wrote and that do not get away.
    pub(crate) unwritten: usize,
}

impl End {
    fn new(now: Instant) -> Self {
        End { is_open: true, inbound: VecDeque::new(), last_arrival: now, unwritten: 0 }
    }
}

/// A connection.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) node: NodeId,
    pub(crate) session: SessionId,
    pub(crate) dialed: ConnectionId,
    pub(crate) router: RouterName,
    /// Nothing gets through, and nobody is told.
    pub(crate) is_stalled: bool,
    node_end: End,
    router_end: End,
}

impl Connection {
    pub(crate) fn end(&self, side: Side) -> &End {
        match side {
            Side::Node => &self.node_end,
            Side::Router => &self.router_end,
        }
    }

    pub(crate) fn end_mut(&mut self, side: Side) -> &mut End {
        match side {
            Side::Node => &mut self.node_end,
            Side::Router => &mut self.router_end,
        }
    }
}

/// All connections, by number.
#[derive(Debug, Default)]
pub(crate) struct Connections {
    connections: BTreeMap<u64, Connection>,
    last: u64,
}

impl Connections {
    /// A connection that the router has just accepted.
    pub(crate) fn accept(
        &mut self,
        now: Instant,
        node: NodeId,
        session: SessionId,
        dialed: ConnectionId,
        router: RouterName,
    ) -> u64 {
        self.last = self.last.saturating_add(1);
        let (node_end, router_end) = (End::new(now), End::new(now));
        let connection = Connection { node, session, dialed, router, is_stalled: false, node_end, router_end };
        self.connections.insert(self.last, connection);
        self.last
    }

    pub(crate) fn get(&self, number: u64) -> Option<&Connection> {
        self.connections.get(&number)
    }

    pub(crate) fn get_mut(&mut self, number: u64) -> Option<&mut Connection> {
        self.connections.get_mut(&number)
    }

    pub(crate) fn remove(&mut self, number: u64) {
        self.connections.remove(&number);
    }

    /// The number of the connection that a session calls by this name.
    pub(crate) fn of_session(&self, session: SessionId, dialed: ConnectionId) -> Option<u64> {
        let is_it = |connection: &Connection| connection.session == session && connection.dialed == dialed;
        self.connections.iter().find(|(_, connection)| is_it(connection)).map(|(number, _)| *number)
    }

    /// The numbers of the connections between these two; of any node or router where none is named.
    pub(crate) fn between(&self, node: Option<NodeId>, router: Option<RouterName>) -> Vec<u64> {
        let is_one = |connection: &Connection| {
            node.is_none_or(|node| connection.node == node) && router.is_none_or(|router| connection.router == router)
        };
        self.connections.iter().filter(|(_, connection)| is_one(connection)).map(|(number, _)| *number).collect()
    }
}
