//! TCP connections of BGP sessions: a [`Transport`] executes what the cores want and reports what happened.
//!
//! The caller owns the cores ([`bgp::Peer`]) and calls them in one task. Here are only sockets: each connection has a
//! task that moves bytes through bounded channels. It knows nothing of messages, and takes no decision but which
//! connections to let in.
//!
//! # One task, many peers
//!
//! ```no_run
//! use std::collections::BTreeMap;
//!
//! use bgp::{Output, Peer};
//! use kit::Outbox;
//! use netio::bgp::{Endpoint, Transport};
//! use netio::clock::Clock;
//!
//! async fn drive(mut peers: BTreeMap<String, (Endpoint, Peer)>) {
//!     let clock = Clock::start();
//!     let mut transport = Transport::new();
//!     let mut out = Outbox::with_limit(bgp::OUTBOX_LIMIT);
//!     loop {
//!         let deadline = peers.values().filter_map(|(_, peer)| peer.next_deadline()).min();
//!         let (name, input) = tokio::select! {
//!             event = transport.next() => event,
//!             () = clock.sleep_until(deadline) => {
//!                 let due = |(_, (_, peer)): &(&String, &(Endpoint, Peer))| peer.next_deadline() == deadline;
//!                 let Some((name, _)) = peers.iter().find(due) else { continue };
//!                 (name.clone(), bgp::Input::Tick)
//!             }
//!         };
//!         let Some((endpoint, peer)) = peers.get_mut(&name) else { continue };
//!         peer.handle(clock.now(), input, &mut out);
//!         for output in out.drain() {
//!             match transport.execute(&name, endpoint, output) {
//!                 Some(Output::SessionUp { remote_as, .. }) => tracing::info!(peer = name, %remote_as, "session up"),
//!                 Some(Output::SessionDown { reason }) => tracing::warn!(peer = name, %reason, "session down"),
//!                 _ => {}
//!             }
//!         }
//!     }
//! }
//! ```

mod connection;
mod listener;

use std::collections::{HashMap, VecDeque};
use std::hash::Hash;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use bgp::{CloseReason, ConnectionId, Input, Output};
use kit::{Family, TcpAuthentication};
use sys::tcp::TcpOptionError;
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::sync::oneshot;
use tokio::task::{AbortHandle, JoinSet};

pub use listener::{ListenError, ListenerId};

use listener::{Accepted, Listener};

/// Events of all connections that may wait. With the largest of [`connection::READ_MAX`] bytes this is 4 MB; a
/// connection whose event does not fit stops reading until it does.
const EVENTS_MAX: usize = 256;

/// Writes that may wait for one connection. A core stops at 64 KiB of them, and the smallest has 19 bytes.
const WRITES_MAX: usize = 4096;

/// How long [`Transport::finish`] waits for what was sent last.
const FINISH_TIMEOUT: Duration = Duration::from_secs(3);

/// Where a peer is, and how its packets look.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// Address and port of the peer. A link-local address has the index of its interface as scope.
    pub address: SocketAddr,
    /// Our address, if it is configured; else the kernel's choice.
    pub source: Option<IpAddr>,
    /// The interface or VRF to use and no other.
    pub device: Option<String>,
    /// The TCP MD5 password (RFC 2385), or the keys of TCP-AO (RFC 5925).
    pub authentication: Option<TcpAuthentication>,
    /// How far packets go.
    pub ttl: Ttl,
}

impl Endpoint {
    /// A peer without anything special.
    pub fn new(address: SocketAddr) -> Self {
        Endpoint { address, source: None, device: None, authentication: None, ttl: Ttl::System }
    }
}

/// How far packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ttl {
    /// As far as the system's default. MetalLB's sessions are like that (contract 6.4).
    System,
    /// So many hops and no more; 1 is what routers use towards a neighbour of another AS.
    Hops(u8),
    /// From and to a peer that is this many hops away and no more: everything goes with 255, and what comes with less
    /// than that and the distance allow is dropped by the kernel (RFC 5082).
    Security {
        /// 1 for a neighbour on the link.
        hops: u8,
    },
}

impl Ttl {
    fn set(self, socket: &impl std::os::fd::AsFd, family: Family) -> Result<(), TcpOptionError> {
        match self {
            Ttl::System => Ok(()),
            Ttl::Hops(hops) => sys::tcp::ttl_set(socket, family, hops),
            Ttl::Security { hops } => {
                sys::tcp::ttl_set(socket, family, u8::MAX)?;
                sys::tcp::ttl_minimum_set(socket, family, u8::MAX.saturating_sub(hops.saturating_sub(1)))
            }
        }
    }
}

/// The connections of all peers, which are named by keys of the caller's.
///
/// It must live in a tokio runtime. When it is dropped, all connections are, without a word to the peers; see
/// [`Transport::finish`].
#[derive(Debug)]
pub struct Transport<K> {
    connections: HashMap<(K, ConnectionId), Connection>,
    listeners: HashMap<ListenerId, Listener<K>>,
    tasks: JoinSet<()>,
    events: mpsc::Sender<Event<K>>,
    incoming: mpsc::Receiver<Event<K>>,
    /// What the transport itself has to report: at most the end of each connection.
    news: VecDeque<(K, Input)>,
    /// How many connections were accepted.
    accepted: u64,
    /// How many listeners there were.
    listened: u64,
}

/// The caller's end of a connection's task. When it is dropped, the task writes out what waits, and closes.
#[derive(Debug)]
struct Connection {
    writes: mpsc::Sender<Vec<u8>>,
    /// Never used: that it is gone tells the task to hurry.
    _open: oneshot::Sender<()>,
    task: AbortHandle,
    state: ConnectionState,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum ConnectionState {
    Dialing,
    Open,
}

/// What tasks report.
#[derive(Debug)]
enum Event<K> {
    /// Something for a core.
    Peer { peer: K, connection: ConnectionId, input: Input },
    /// Somebody knocks.
    Accepted { listener: ListenerId, accepted: Accepted },
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Transport<K> {
    /// One without connections.
    pub fn new() -> Self {
        let (events, incoming) = mpsc::channel(EVENTS_MAX);
        Transport {
            connections: HashMap::new(),
            listeners: HashMap::new(),
            tasks: JoinSet::new(),
            events,
            incoming,
            news: VecDeque::new(),
            accepted: 0,
            listened: 0,
        }
    }

    /// Does what a core wants, and returns what is not about connections.
    pub fn execute(&mut self, peer: &K, endpoint: &Endpoint, output: Output) -> Option<Output> {
        match output {
            Output::Dial { connection } => self.dial(peer, connection, endpoint),
            Output::Send { connection, bytes } => self.send(peer, connection, bytes),
            Output::Close { connection } => self.close(peer, connection),
            other => return Some(other),
        }
        None
    }

    /// The next thing that a core must be told. Safe to cancel: nothing is lost when another branch of a `select!`
    /// is taken.
    pub async fn next(&mut self) -> (K, Input) {
        loop {
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            // The transport holds a sender itself, so there is always another event to wait for.
            let Some(event) = self.incoming.recv().await else { std::future::pending().await };
            while self.tasks.try_join_next().is_some() {}
            match event {
                Event::Peer { peer, connection, input } => {
                    if let Some(news) = self.report(peer, connection, input) {
                        return news;
                    }
                }
                Event::Accepted { listener, accepted } => self.admit(listener, accepted),
            }
        }
    }

    /// Opens a connection.
    pub fn dial(&mut self, peer: &K, id: ConnectionId, endpoint: &Endpoint) {
        let endpoint = endpoint.clone();
        self.spawn(peer, id, ConnectionState::Dialing, |line, work| connection::dial(endpoint, line, work));
    }

    /// Writes to a connection; without effect if there is none. A connection for which too much waits is dropped, for
    /// a stream with a hole is worth nothing; a core keeps far from that.
    pub fn send(&mut self, peer: &K, id: ConnectionId, bytes: Vec<u8>) {
        let key = (peer.clone(), id);
        // A task that has ended takes no writes either; it has reported why.
        if let Some(connection) = self.connections.get(&key)
            && let Err(TrySendError::Full(_)) = connection.writes.try_send(bytes)
        {
            connection.task.abort();
            self.connections.remove(&key);
            let reason = CloseReason::Failed("too much waits to be written".to_owned());
            self.news.push_back((key.0, Input::Closed { connection: id, reason }));
        }
    }

    /// Writes out what was sent before and closes, or gives up dialing.
    pub fn close(&mut self, peer: &K, id: ConnectionId) {
        if let Some(connection) = self.connections.remove(&(peer.clone(), id))
            && connection.state == ConnectionState::Dialing
        {
            connection.task.abort();
        }
    }

    /// Waits until what was sent before each `close` is out, for three seconds at most. What is still open then is
    /// dropped.
    pub async fn finish(mut self) {
        self.connections.clear();
        self.listeners.clear();
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH_TIMEOUT, all).await.is_err() {
            tracing::debug!("not all connections were closed in time");
        }
    }

    /// Starts the task of a connection, and keeps this end of it.
    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        peer: &K,
        id: ConnectionId,
        state: ConnectionState,
        task: impl FnOnce(connection::Line<K>, connection::Work) -> F,
    ) {
        let (writes, queue) = mpsc::channel(WRITES_MAX);
        let (open, closing) = oneshot::channel();
        let line = connection::Line { peer: peer.clone(), id, events: self.events.clone() };
        let task = self.tasks.spawn(task(line, connection::Work { queue, closing }));
        self.connections.insert((peer.clone(), id), Connection { writes, _open: open, task, state });
    }

    /// Passes on what a task reported, unless its connection was closed meanwhile.
    fn report(&mut self, peer: K, id: ConnectionId, input: Input) -> Option<(K, Input)> {
        let key = (peer, id);
        let connection = self.connections.get_mut(&key)?;
        match &input {
            Input::Connected { .. } => connection.state = ConnectionState::Open,
            Input::ConnectFailed { .. } | Input::Closed { .. } => {
                self.connections.remove(&key);
            }
            _ => {}
        }
        Some((key.0, input))
    }
}

impl<K: Clone + Eq + Hash + Send + Sync + 'static> Default for Transport<K> {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests;
