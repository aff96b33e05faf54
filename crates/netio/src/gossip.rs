//! The sockets of memberlist: a [`Transport`] executes what the core wants and says what happened.
//!
//! It owns the UDP socket and the listening TCP socket of the member's address, a UDP socket for each watched member
//! (so that the kernel tells when its port is closed), and the connections. It decides nothing. The loop around it and
//! the core:
//!
//! ```no_run
//! # async fn drive(name: gossip::Name, address: std::net::SocketAddr) -> Result<(), netio::gossip::BindError> {
//! use gossip::{Config, Keyring, Membership, OUTBOX_LIMIT, Output};
//! use kit::{Outbox, Rng};
//! use netio::clock::Clock;
//! use netio::gossip::Transport;
//!
//! let clock = Clock::start();
//! let mut transport = Transport::bind(address)?;
//! let config = Config::new(name, address, Keyring::plaintext());
//! let mut membership = Membership::new(config, Rng::new(transport.seed()), clock.now());
//! let mut out = Outbox::with_limit(OUTBOX_LIMIT);
//! loop {
//!     let input = tokio::select! {
//!         input = transport.next(&clock, membership.next_deadline()) => input,
//!         // And what the speaker says: `Input::Peers`, `Input::Watch`, `Input::Leave`.
//!     };
//!     membership.handle(clock.now(), input, &mut out);
//!     for output in out.drain() {
//!         match transport.execute(output) {
//!             Some(Output::MemberChanged(change)) => tracing::info!(member = %change.name, state = %change.state, "member"),
//!             Some(Output::Left) => return Ok(transport.finish().await),
//!             _ => {}
//!         }
//!     }
//! }
//! # }
//! ```

mod cipher;
mod connection;
mod echo;

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use aws_lc_rs::rand;
use gossip::{CloseReason, ConnectionId, Input, Output};
use kit::Instant;
use socket2::{Domain, Protocol, SockRef, Socket, Type};
use tokio::net::{TcpListener, TcpStream, UdpSocket};
use tokio::sync::mpsc::{self, error::TrySendError};
use tokio::task::{AbortHandle, JoinSet};

use crate::clock::Clock;

pub use cipher::{AesGcm, new_secret};

use connection::Line;
use echo::Prober;

/// Events of all connections and probes that may wait.
const EVENTS_MAX: usize = 256;
/// Writes that may wait for one connection, which carries one message.
const WRITES_MAX: usize = 8;
/// Connections at a time. The core takes fewer.
const CONNECTIONS_MAX: usize = 256;
/// Connections that the kernel keeps for us. While this program does not run, others that cannot use ICMP see by them
/// that the host lives, twenty times a second each.
const BACKLOG: i32 = 1024;
/// How long to wait when accepting fails: when there are no descriptors left, trying at once would only burn time.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);
/// The largest packet that UDP has.
const PACKET_MAX: usize = 65_536;
/// Room for packets that come while the program does something else.
const RECEIVE_BUFFER: usize = 1 << 20;
/// After so many packets a deadline that has come is no longer kept waiting.
const BEFORE_TICK_MAX: u32 = 256;
/// How long [`Transport::finish`] waits for what was sent last.
const FINISH_TIMEOUT: Duration = Duration::from_secs(1);

/// Why there are no sockets.
#[derive(Debug, thiserror::Error)]
#[error("could not open the memberlist socket {address} ({protocol})")]
pub struct BindError {
    address: SocketAddr,
    protocol: &'static str,
    #[source]
    source: io::Error,
}

/// What was lost in this program or in the kernel, and not in the network.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounters {
    /// Packets that could not be sent.
    pub packets: u64,
    /// Connections that were turned away because there were too many.
    pub connections: u64,
}

/// The sockets of one member. All methods need a tokio runtime.
#[derive(Debug)]
pub struct Transport {
    local: SocketAddr,
    socket: UdpSocket,
    buffer: Vec<u8>,
    /// Sockets that are connected to one address each.
    pings: HashMap<SocketAddr, PingSocket>,
    prober: Prober,
    connections: HashMap<ConnectionId, Connection>,
    /// Tasks of connections.
    tasks: JoinSet<()>,
    /// Tasks that only listen.
    listeners: JoinSet<()>,
    events: mpsc::Sender<Event>,
    incoming: mpsc::Receiver<Event>,
    /// What the transport itself has to report.
    news: VecDeque<Input>,
    /// How many connections were accepted.
    accepted: u64,
    /// Inputs since the deadline came.
    before_tick: u32,
    drops: DropCounters,
}

/// A UDP socket whose errors are about one member.
#[derive(Debug)]
struct PingSocket {
    socket: Arc<UdpSocket>,
    reader: AbortHandle,
}

impl Drop for PingSocket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

/// Our end of a connection's task. When it is dropped, the task writes out what waits, and closes.
#[derive(Debug)]
struct Connection {
    writes: mpsc::Sender<Vec<u8>>,
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
enum Event {
    /// Something for the core.
    Input(Input),
    /// A kernel answered an ICMP echo.
    Echo { from: IpAddr },
    /// Somebody knocks.
    Accepted { stream: TcpStream, remote: SocketAddr },
}

impl Transport {
    /// Opens the sockets of this address; a port of 0 is the kernel's choice.
    pub fn bind(address: SocketAddr) -> Result<Self, BindError> {
        let failed = |protocol| move |source| BindError { address, protocol, source };
        let listener = listen(address).map_err(failed("TCP"))?;
        let local = listener.local_addr().map_err(failed("TCP"))?;
        let socket = receive(local).map_err(failed("UDP"))?;
        let (events, incoming) = mpsc::channel(EVENTS_MAX);
        let mut listeners = JoinSet::new();
        listeners.spawn(accept(listener, events.clone()));
        Ok(Transport {
            local,
            socket,
            buffer: vec![0; PACKET_MAX],
            pings: HashMap::new(),
            prober: Prober::new(events.clone()),
            connections: HashMap::new(),
            tasks: JoinSet::new(),
            listeners,
            events,
            incoming,
            news: VecDeque::new(),
            accepted: 0,
            before_tick: 0,
            drops: DropCounters::default(),
        })
    }

    /// The address of the sockets.
    pub fn local_address(&self) -> SocketAddr {
        self.local
    }

    /// A number for the core's generator that differs on every start.
    pub fn seed(&self) -> u64 {
        let mut seed = [0; 8];
        if rand::fill(&mut seed).is_err() {
            tracing::debug!("no random bytes for a seed");
        }
        u64::from_le_bytes(seed)
    }

    /// What was lost here.
    pub fn drops(&self) -> DropCounters {
        self.drops
    }

    /// Does what the core wants, and returns what is not about sockets. Never waits.
    pub fn execute(&mut self, output: Output) -> Option<Output> {
        match output {
            Output::Send { to, bytes } => self.send(to, &bytes),
            Output::Ping { to, bytes } => self.ping(to, &bytes),
            Output::KernelProbe { address } => self.prober.ask(address),
            Output::Release { address } => {
                self.pings.remove(&address);
                self.prober.release(address.ip());
            }
            Output::Dial { connection, address } => {
                self.spawn(connection, ConnectionState::Dialing, |line, writes| {
                    connection::dial(address, line, writes)
                });
            }
            Output::Write { connection, bytes } => self.write(connection, bytes),
            Output::Close { connection } => {
                if let Some(closed) = self.connections.remove(&connection)
                    && closed.state == ConnectionState::Dialing
                {
                    closed.task.abort();
                }
            }
            other => return Some(other),
        }
        None
    }

    /// The next thing that the core must be told: what has arrived, and [`Input::Tick`] when the deadline has come and
    /// nothing else waits. Safe to cancel: nothing is lost when another branch of a `select!` is taken.
    pub async fn next(&mut self, clock: &Clock, deadline: Option<Instant>) -> Input {
        loop {
            let is_due = deadline.is_some_and(|deadline| deadline <= clock.now());
            if !is_due {
                self.before_tick = 0;
            } else if self.before_tick >= BEFORE_TICK_MAX {
                self.before_tick = 0;
                return Input::Tick;
            }
            if let Some(news) = self.news.pop_front() {
                return news;
            }
            let event = tokio::select! {
                // What came while the program did not run is read before anybody is found to be silent.
                biased;
                received = self.socket.recv_from(&mut self.buffer) => match received {
                    Ok((length, from)) => {
                        let bytes = self.buffer.get(..length).unwrap_or_default().to_vec();
                        Event::Input(Input::Packet { from, bytes })
                    }
                    Err(error) => {
                        tracing::debug!(%error, "receiving a packet");
                        tokio::task::yield_now().await;
                        continue;
                    }
                },
                // The transport holds a sender itself, so there is always another event to wait for.
                Some(event) = self.incoming.recv() => event,
                () = clock.sleep_until(deadline) => {
                    self.before_tick = 0;
                    return Input::Tick;
                }
            };
            self.before_tick = self.before_tick.saturating_add(1);
            if let Some(input) = self.event(event) {
                return input;
            }
        }
    }

    /// Closes the sockets, and waits until what was written to connections is out, for a second at most.
    pub async fn finish(mut self) {
        self.connections.clear();
        self.pings.clear();
        self.listeners.shutdown().await;
        let all = async { while self.tasks.join_next().await.is_some() {} };
        if tokio::time::timeout(FINISH_TIMEOUT, all).await.is_err() {
            tracing::debug!("not all connections were closed in time");
        }
    }

    /// Passes on what a task reported, unless its connection was closed meanwhile.
    fn event(&mut self, event: Event) -> Option<Input> {
        while self.tasks.try_join_next().is_some() {}
        while self.listeners.try_join_next().is_some() {}
        let input = match event {
            Event::Accepted { stream, remote } => return self.admit(stream, remote),
            Event::Echo { from } => {
                self.prober.answered(from);
                Input::KernelAnswered { address: from }
            }
            Event::Input(input) => input,
        };
        match &input {
            Input::Connected { connection } => self.connections.get_mut(connection)?.state = ConnectionState::Open,
            Input::Received { connection, .. } => drop(self.connections.get(connection)?),
            Input::Closed { connection, .. } => drop(self.connections.remove(connection)?),
            _ => {}
        }
        Some(input)
    }

    /// Makes a connection of what was accepted. Its task speaks after this.
    fn admit(&mut self, stream: TcpStream, remote: SocketAddr) -> Option<Input> {
        if self.connections.len() >= CONNECTIONS_MAX {
            self.drops.connections = self.drops.connections.saturating_add(1);
            return None;
        }
        self.accepted = self.accepted.saturating_add(1);
        let connection = ConnectionId::Accepted(self.accepted);
        self.spawn(connection, ConnectionState::Open, |line, writes| connection::serve(stream, line, writes));
        Some(Input::Accepted { connection, remote })
    }

    fn spawn<F: Future<Output = ()> + Send + 'static>(
        &mut self,
        connection: ConnectionId,
        state: ConnectionState,
        task: impl FnOnce(Line, mpsc::Receiver<Vec<u8>>) -> F,
    ) {
        let (writes, queue) = mpsc::channel(WRITES_MAX);
        let task = self.tasks.spawn(task(Line { id: connection, events: self.events.clone() }, queue));
        self.connections.insert(connection, Connection { writes, task, state });
    }

    /// A connection for which too much waits is dropped; the core writes one message to each.
    fn write(&mut self, id: ConnectionId, bytes: Vec<u8>) {
        if let Some(connection) = self.connections.get(&id)
            && let Err(TrySendError::Full(_)) = connection.writes.try_send(bytes)
        {
            connection.task.abort();
            self.connections.remove(&id);
            let reason = CloseReason::Failed("too much waits to be written".to_owned());
            self.news.push_back(Input::Closed { connection: id, reason });
        }
    }

    /// Sends from the common socket. The socket is asked directly: the reactor would have to hear first that it is
    /// ready.
    fn send(&mut self, to: SocketAddr, bytes: &[u8]) {
        let sent = SockRef::from(&self.socket).send_to(bytes, &to.into());
        self.sent(sent, to);
    }

    /// Sends from a socket that is connected to the address, so that a closed port is told.
    fn ping(&mut self, to: SocketAddr, bytes: &[u8]) {
        if !self.pings.contains_key(&to) {
            match self.ping_socket(to) {
                Ok(socket) => drop(self.pings.insert(to, socket)),
                Err(error) => {
                    tracing::debug!(%error, address = %to, "no socket for pings: the common one is used");
                    return self.send(to, bytes);
                }
            }
        }
        let Some(socket) = self.pings.get(&to).map(|ping| Arc::clone(&ping.socket)) else { return };
        let mut sent = SockRef::from(&*socket).send(bytes);
        if is_refused(&sent) {
            // What is told is about an earlier packet; this one was not sent.
            self.news.push_back(Input::Refused { address: to });
            sent = SockRef::from(&*socket).send(bytes);
        }
        self.sent(sent, to);
    }

    fn ping_socket(&mut self, to: SocketAddr) -> io::Result<PingSocket> {
        let socket = std::net::UdpSocket::bind(SocketAddr::new(self.local.ip(), 0))?;
        socket.set_nonblocking(true)?;
        socket.connect(to)?;
        let socket = Arc::new(UdpSocket::from_std(socket)?);
        let reader = self.listeners.spawn(refusals(Arc::clone(&socket), to, self.events.clone()));
        Ok(PingSocket { socket, reader })
    }

    fn sent(&mut self, result: io::Result<usize>, to: SocketAddr) {
        if let Err(error) = result {
            self.drops.packets = self.drops.packets.saturating_add(1);
            tracing::debug!(%error, %to, "a packet was not sent");
        }
    }
}

fn is_refused<T>(result: &io::Result<T>) -> bool {
    result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
}

/// Waits for the kernel to tell that the port is closed. Answers come to the common socket.
async fn refusals(socket: Arc<UdpSocket>, address: SocketAddr, events: mpsc::Sender<Event>) {
    let mut buffer = [0; 16];
    loop {
        let received = socket.recv(&mut buffer).await;
        if is_refused(&received) {
            // A refusal that does not fit is like one that was lost.
            drop(events.try_send(Event::Input(Input::Refused { address })));
        }
        if received.is_err() {
            tokio::task::yield_now().await;
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = Socket::new(Domain::for_address(address), Type::STREAM.nonblocking(), Some(Protocol::TCP))?;
    socket.set_reuse_address(true)?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    socket.bind(&address.into())?;
    socket.listen(BACKLOG)?;
    TcpListener::from_std(socket.into())
}

fn receive(address: SocketAddr) -> io::Result<UdpSocket> {
    let socket = Socket::new(Domain::for_address(address), Type::DGRAM.nonblocking(), Some(Protocol::UDP))?;
    if address.is_ipv6() {
        socket.set_only_v6(true)?;
    }
    // The kernel gives what it allows.
    socket.set_recv_buffer_size(RECEIVE_BUFFER)?;
    socket.bind(&address.into())?;
    UdpSocket::from_std(socket.into())
}

async fn accept(listener: TcpListener, events: mpsc::Sender<Event>) {
    loop {
        match listener.accept().await {
            Ok((stream, remote)) => {
                if events.send(Event::Accepted { stream, remote }).await.is_err() {
                    return;
                }
            }
            Err(error) => {
                tracing::debug!(%error, "could not accept a connection");
                tokio::time::sleep(ACCEPT_RETRY).await;
            }
        }
    }
}

#[cfg(test)]
mod tests;
