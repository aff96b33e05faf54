//! Packet sockets as a stream of inputs for the l2 core, and the executor of its actions.
//!
//! [`L2Io`] owns the sockets, the tasks that read them and the multicast memberships. It decides nothing: which sockets
//! there are, and what is sent, is said by the core. The loop around both is the same few lines everywhere:
//!
//! ```no_run
//! # async fn run() -> Result<(), netio::interfaces::MonitorError> {
//! use kit::Outbox;
//! use l2::{Input, OUTBOX_MAX, Output, Refresh, Responder, Settings};
//! use netio::clock::Clock;
//! use netio::interfaces::{Change, Exclusions, Monitor};
//! use netio::packet::L2Io;
//!
//! let (clock, exclusions) = (Clock::start(), Exclusions::none());
//! let mut monitor = Monitor::start().await?;
//! let settings = Settings { refresh: Refresh::DEFAULT, seed: 0 };
//! let (mut responder, mut io, mut out) = (Responder::new(settings), L2Io::new(), Outbox::with_limit(OUTBOX_MAX));
//! loop {
//!     let deadline = responder.next_deadline().map(|deadline| clock.deadline(deadline));
//!     let input = tokio::select! {
//!         change = monitor.next() => match change {
//!             Change::Set(interface) => Input::Interface(interface.for_responder(&exclusions)),
//!             Change::Gone(index) => Input::InterfaceGone { index },
//!         },
//!         input = io.recv() => input,
//!         () = async { tokio::time::sleep_until(deadline.unwrap()).await }, if deadline.is_some() => Input::Tick,
//!         // And what the speaker wants: `Input::Announce` and `Input::Withdraw`; and `Input::Gateways`.
//!     };
//!     responder.handle(clock.now(), input, &mut out);
//!     for output in out.drain() {
//!         match output {
//!             Output::Action(action) => io.execute(action),
//!             Output::Report(report) => println!("for the speaker: {report:?}"),
//!         }
//!     }
//! }
//! # }
//! ```

mod groups;

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use kit::InterfaceIndex;
use l2::{Action, Input, Protocol};
use sys::packet::{Capture, FRAME_MAX, PacketSocket};
use tokio::io::unix::AsyncFd;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::causes::with_causes;
use crate::watch::watch;
use groups::Groups;

/// Frames that wait for the core, from all interfaces. What does not fit is dropped and counted; who asked asks again.
pub const FRAMES_WAITING_MAX: usize = 4096;
/// A reader lets others have their turn after this many frames.
const FRAMES_PER_TURN: usize = 64;

/// The sockets of the l2 core. All methods need a tokio runtime.
#[derive(Debug)]
pub struct L2Io {
    sockets: BTreeMap<(InterfaceIndex, Protocol), OpenSocket>,
    groups: BTreeMap<InterfaceIndex, Groups>,
    events: (mpsc::Sender<Event>, mpsc::Receiver<Event>),
    /// Sockets that could not be opened, until the core is told.
    unopened: VecDeque<(InterfaceIndex, Protocol)>,
    /// Tells the readers of one socket and of its successor apart.
    last_serial: u64,
    drops: Arc<Drops>,
}

#[derive(Debug)]
struct OpenSocket {
    serial: u64,
    socket: Arc<AsyncFd<PacketSocket>>,
    reader: JoinHandle<()>,
}

impl Drop for OpenSocket {
    fn drop(&mut self) {
        self.reader.abort();
    }
}

#[derive(Debug)]
enum Event {
    Frame { interface: InterfaceIndex, bytes: Vec<u8> },
    Failed { socket: (InterfaceIndex, Protocol), serial: u64 },
}

#[derive(Debug, Default)]
struct Drops {
    received: AtomicU64,
    sent: AtomicU64,
}

/// Frames that were lost in this program, which should stay at zero.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct DropCounters {
    /// Arrived while [`FRAMES_WAITING_MAX`] frames waited.
    pub received: u64,
    /// Could not be sent: the interface was full, down or gone.
    pub sent: u64,
}

impl L2Io {
    /// No sockets yet.
    pub fn new() -> Self {
        L2Io {
            sockets: BTreeMap::new(),
            groups: BTreeMap::new(),
            events: mpsc::channel(FRAMES_WAITING_MAX),
            unopened: VecDeque::new(),
            last_serial: 0,
            drops: Arc::default(),
        }
    }

    /// Does what the core says. Never waits; what fails is logged, and told to the core where it can do something.
    pub fn execute(&mut self, action: Action) {
        match action {
            Action::Open { interface, protocol } => self.open(interface, protocol),
            Action::Close { interface, protocol } => self.close((interface, protocol)),
            Action::Join { interface, groups } => {
                if let Some(memberships) = self.groups.get(&interface) {
                    memberships.join(groups);
                }
            }
            Action::Leave { interface, groups } => {
                if let Some(memberships) = self.groups.get(&interface) {
                    memberships.leave(groups);
                }
            }
            Action::Send { interface, protocol, frame } => self.send((interface, protocol), &frame),
        }
    }

    /// The next frame, or a socket that failed. Dropping the future loses nothing.
    pub async fn recv(&mut self) -> Input {
        loop {
            if let Some((interface, protocol)) = self.unopened.pop_front() {
                return Input::SocketFailed { interface, protocol };
            }
            // This struct holds a sender, so that the channel never ends.
            match self.events.1.recv().await {
                Some(Event::Frame { interface, bytes }) => return Input::Frame { interface, bytes },
                Some(Event::Failed { socket, serial }) => {
                    if self.sockets.get(&socket).is_some_and(|open| open.serial == serial) {
                        self.close(socket);
                        let (interface, protocol) = socket;
                        return Input::SocketFailed { interface, protocol };
                    }
                }
                None => std::future::pending().await,
            }
        }
    }

    /// What was lost so far.
    pub fn drops(&self) -> DropCounters {
        DropCounters {
            received: self.drops.received.load(Ordering::Relaxed),
            sent: self.drops.sent.load(Ordering::Relaxed),
        }
    }

    fn open(&mut self, interface: InterfaceIndex, protocol: Protocol) {
        let capture = match protocol {
            Protocol::Arp => Capture::Arp,
            Protocol::Ndp => Capture::NeighborDiscovery,
        };
        let socket = match open_socket(interface, capture) {
            Ok(socket) => Arc::new(socket),
            Err(error) => {
                tracing::warn!(interface = interface.get(), %protocol, error, "packet socket not opened");
                self.unopened.push_back((interface, protocol));
                return;
            }
        };
        if protocol == Protocol::Ndp {
            self.groups.insert(interface, Groups::start(interface, Arc::clone(&socket)));
        }
        self.last_serial = self.last_serial.saturating_add(1);
        let serial = self.last_serial;
        let (sender, drops) = (self.events.0.clone(), Arc::clone(&self.drops));
        let reader = Reader { name: (interface, protocol), serial, socket: Arc::clone(&socket), sender, drops };
        let reader = tokio::spawn(reader.run());
        self.sockets.insert((interface, protocol), OpenSocket { serial, socket, reader });
    }

    fn close(&mut self, socket: (InterfaceIndex, Protocol)) {
        self.sockets.remove(&socket);
        if let (interface, Protocol::Ndp) = socket {
            self.groups.remove(&interface);
        }
    }

    fn send(&mut self, socket: (InterfaceIndex, Protocol), frame: &[u8]) {
        let Some(open) = self.sockets.get(&socket) else { return };
        if let Err(error) = open.socket.get_ref().send(frame) {
            self.drops.sent.fetch_add(1, Ordering::Relaxed);
            tracing::debug!(interface = socket.0.get(), protocol = %socket.1, error = %error, "frame not sent");
        }
    }
}

impl Default for L2Io {
    fn default() -> Self {
        Self::new()
    }
}

fn open_socket(interface: InterfaceIndex, capture: Capture) -> Result<AsyncFd<PacketSocket>, String> {
    let socket = PacketSocket::open(interface, capture).map_err(|error| with_causes(&error))?;
    watch(socket).map_err(|error| with_causes(&error))
}

/// The task that moves the frames of one socket into the channel.
struct Reader {
    name: (InterfaceIndex, Protocol),
    serial: u64,
    socket: Arc<AsyncFd<PacketSocket>>,
    sender: mpsc::Sender<Event>,
    drops: Arc<Drops>,
}

impl Reader {
    async fn run(self) {
        let (interface, protocol) = self.name;
        let error = self.read().await;
        tracing::warn!(interface = interface.get(), %protocol, error = %error, "packet socket failed");
        // Waits for room: this must not be lost. Nobody listens only when the whole of L2Io is gone.
        let _ = self.sender.send(Event::Failed { socket: self.name, serial: self.serial }).await;
    }

    /// Reads until the socket fails for good.
    async fn read(&self) -> io::Error {
        let mut buffer = [0; FRAME_MAX];
        loop {
            let mut ready = match self.socket.readable().await {
                Ok(ready) => ready,
                Err(error) => return error,
            };
            for _ in 0..FRAMES_PER_TURN {
                match ready.try_io(|socket| socket.get_ref().receive(&mut buffer)) {
                    Ok(Ok(length)) => self.pass_on(buffer.get(..length).unwrap_or_default()),
                    // The interface is down, or gone. The socket works again if it comes back, and netlink tells.
                    Ok(Err(error)) if error.kind() == io::ErrorKind::NetworkDown => {}
                    Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                    Ok(Err(error)) => return error,
                    Err(_would_block) => break,
                }
            }
        }
    }

    fn pass_on(&self, frame: &[u8]) {
        let event = Event::Frame { interface: self.name.0, bytes: frame.to_vec() };
        if self.sender.try_send(event).is_err() {
            self.drops.received.fetch_add(1, Ordering::Relaxed);
        }
    }
}
