//! The task of one connection: it makes it, reads, writes, and lets go of it in order.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use bgp::{CloseReason, ConnectError, ConnectionId, Input};
use kit::{Family, TcpAuthentication};
use sys::tcp;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::{mpsc, oneshot};

use super::{Endpoint, Event};
use crate::causes::with_causes;

/// The most bytes of one event.
pub(super) const READ_MAX: usize = 16 * 1024;
/// The most writes that are taken together.
const WRITES_AT_ONCE: usize = 64;
/// How long closing may take: to write out what waits, and then for the peer to have read it. Closing a socket that
/// holds unread bytes sends a reset, and a reset may overtake our NOTIFICATION.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a task reports to, and as whom.
#[derive(Debug)]
pub(super) struct Line<K> {
    pub(super) peer: K,
    pub(super) id: ConnectionId,
    pub(super) events: mpsc::Sender<Event<K>>,
}

impl<K: Clone> Line<K> {
    /// Waits while too many events wait. Nobody listens any more when the program ends.
    async fn report(&self, input: Input) {
        let event = Event::Peer { peer: self.peer.clone(), connection: self.id, input };
        if self.events.send(event).await.is_err() {
            tracing::trace!("an event came after the end");
        }
    }
}

/// What a task is to do.
#[derive(Debug)]
pub(super) struct Work {
    /// What to write; closed when no more will come.
    pub(super) queue: mpsc::Receiver<Vec<u8>>,
    /// Resolves when the connection is to be closed.
    pub(super) closing: oneshot::Receiver<()>,
}

/// Connects, and then moves bytes.
pub(super) async fn dial<K: Clone>(endpoint: Endpoint, line: Line<K>, work: Work) {
    match connect(&endpoint).await {
        Ok((stream, local, remote)) => serve(stream, local, remote, line, work).await,
        Err(error) => line.report(Input::ConnectFailed { connection: line.id, error }).await,
    }
}

async fn connect(endpoint: &Endpoint) -> Result<(TcpStream, SocketAddr, SocketAddr), ConnectError> {
    let socket = prepare(endpoint)?;
    let stream = socket.connect(endpoint.address).await.map_err(|error| connect_error(&error))?;
    let ends = stream.local_addr().and_then(|local| Ok((local, stream.peer_addr()?)));
    let (local, remote) = ends.map_err(|error| connect_error(&error))?;
    Ok((stream, local, remote))
}

/// A socket with all options in place: what signs packets must be there before the first one.
fn prepare(endpoint: &Endpoint) -> Result<TcpSocket, ConnectError> {
    let family = Family::of(&endpoint.address.ip());
    let socket = match family {
        Family::V4 => TcpSocket::new_v4(),
        Family::V6 => TcpSocket::new_v6(),
    }
    .map_err(|error| ConnectError::Socket(error.to_string()))?;
    let option = |error: tcp::TcpOptionError| ConnectError::Socket(with_causes(&error));
    if let Some(device) = &endpoint.device {
        tcp::device_set(&socket, device).map_err(|error| match error {
            tcp::TcpOptionError::Device(name) => ConnectError::Device(name),
            other => option(other),
        })?;
    }
    endpoint.ttl.set(&socket, family).map_err(option)?;
    tcp::precedence_set(&socket, family).map_err(option)?;
    match &endpoint.authentication {
        Some(TcpAuthentication::Password(password)) => {
            tcp::md5_password_set(&socket, endpoint.address.ip(), password).map_err(option)?;
        }
        Some(TcpAuthentication::Keys(keys)) => {
            tcp::ao_keys_set(&socket, endpoint.address.ip(), keys).map_err(option)?;
        }
        None => {}
    }
    socket.set_nodelay(true).map_err(|error| ConnectError::Socket(error.to_string()))?;
    if let Some(source) = endpoint.source {
        socket.bind(source_address(source, endpoint.address)).map_err(|error| match error.kind() {
            io::ErrorKind::AddrNotAvailable => ConnectError::SourceAddress(source),
            _ => ConnectError::Socket(error.to_string()),
        })?;
    }
    Ok(socket)
}

/// Our end, on any port. A link-local address of ours is on the interface of the peer's.
fn source_address(source: std::net::IpAddr, peer: SocketAddr) -> SocketAddr {
    let mut address = SocketAddr::new(source, 0);
    if let (SocketAddr::V6(ours), SocketAddr::V6(theirs)) = (&mut address, peer)
        && ours.ip().is_unicast_link_local()
    {
        ours.set_scope_id(theirs.scope_id());
    }
    address
}

fn connect_error(error: &io::Error) -> ConnectError {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => ConnectError::Refused,
        io::ErrorKind::TimedOut => ConnectError::NoAnswer,
        io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => {
            ConnectError::Unreachable(error.to_string())
        }
        _ => ConnectError::Other(error.to_string()),
    }
}

/// Moves bytes until either side ends the connection.
pub(super) async fn serve<K: Clone>(
    stream: TcpStream,
    local: SocketAddr,
    remote: SocketAddr,
    line: Line<K>,
    mut work: Work,
) {
    line.report(Input::Connected { connection: line.id, local, remote }).await;
    let (mut reader, mut writer) = stream.into_split();
    // A peer that reads nothing must not keep a connection that is to be closed.
    let overdue = async {
        let _closed = work.closing.await;
        tokio::time::sleep(CLOSE_TIMEOUT).await;
    };
    let end = tokio::select! {
        () = overdue => None,
        reason = read(&mut reader, &line) => Some(reason),
        result = write(&mut writer, &line, &mut work.queue) => match result {
            Ok(()) => None,
            // The peer has closed its side; perhaps it said why, and that is still to be read.
            Err(error) => {
                let rest = tokio::time::timeout(CLOSE_TIMEOUT, read(&mut reader, &line)).await;
                Some(rest.unwrap_or_else(|_| close_reason(&error)))
            }
        },
    };
    match end {
        Some(reason) => line.report(Input::Closed { connection: line.id, reason }).await,
        None => let_go(reader, writer).await,
    }
}

async fn read<K: Clone>(reader: &mut OwnedReadHalf, line: &Line<K>) -> CloseReason {
    loop {
        let mut bytes = Vec::with_capacity(READ_MAX);
        match reader.read_buf(&mut bytes).await {
            Ok(0) => return CloseReason::ByPeer,
            Ok(_) => line.report(Input::Received { connection: line.id, bytes }).await,
            Err(error) => return close_reason(&error),
        }
    }
}

/// Writes until the queue is closed and empty.
async fn write<K: Clone>(
    writer: &mut OwnedWriteHalf,
    line: &Line<K>,
    queue: &mut mpsc::Receiver<Vec<u8>>,
) -> io::Result<()> {
    let mut writes = Vec::new();
    while queue.recv_many(&mut writes, WRITES_AT_ONCE).await > 0 {
        let bytes = writes.drain(..).flatten().collect::<Vec<u8>>();
        let mut rest = bytes.as_slice();
        while !rest.is_empty() {
            let count = writer.write(rest).await?;
            rest = rest.get(count..).unwrap_or_default();
            if !queue.is_closed() {
                line.report(Input::Written { connection: line.id, count }).await;
            }
        }
    }
    Ok(())
}

/// Says that no more will come, and waits until the peer has read all of it and closed too.
async fn let_go(mut reader: OwnedReadHalf, mut writer: OwnedWriteHalf) {
    let farewell = async {
        writer.shutdown().await?;
        let mut bytes = [0; 1024];
        while reader.read(&mut bytes).await? > 0 {}
        io::Result::Ok(())
    };
    match tokio::time::timeout(CLOSE_TIMEOUT, farewell).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::trace!(%error, "the connection ended while it was closed"),
        Err(_) => tracing::trace!("the peer did not close the connection in time"),
    }
}

fn close_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            CloseReason::Reset
        }
        _ => CloseReason::Failed(error.to_string()),
    }
}
