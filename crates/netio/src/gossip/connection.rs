//! The task of one connection: it makes it, moves bytes, and lets go of it in order.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use gossip::{CloseReason, ConnectionId, Input};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::mpsc;

use super::Event;

/// The most bytes of one event.
const READ_MAX: usize = 16 * 1024;
/// How long the other side has to read what was written last, and to close.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);

/// Where a task reports to, and as whom.
#[derive(Debug)]
pub(super) struct Line {
    pub(super) id: ConnectionId,
    pub(super) events: mpsc::Sender<Event>,
}

impl Line {
    /// Waits while too many events wait. Nobody listens any more when the program ends.
    async fn report(&self, input: Input) {
        if self.events.send(Event::Input(input)).await.is_err() {
            tracing::trace!("an event came after the end");
        }
    }

    async fn closed(&self, reason: CloseReason) {
        self.report(Input::Closed { connection: self.id, reason }).await;
    }
}

/// Connects, and then moves bytes. How long that may take is said by the core.
pub(super) async fn dial(address: SocketAddr, line: Line, writes: mpsc::Receiver<Vec<u8>>) {
    match TcpStream::connect(address).await {
        Ok(stream) => {
            line.report(Input::Connected { connection: line.id }).await;
            serve(stream, line, writes).await;
        }
        Err(error) => line.closed(close_reason(&error)).await,
    }
}

/// Moves bytes until either side ends the connection; ours does by closing `writes`.
pub(super) async fn serve(stream: TcpStream, line: Line, mut writes: mpsc::Receiver<Vec<u8>>) {
    let (mut reader, mut writer) = stream.into_split();
    let end = tokio::select! {
        reason = read(&mut reader, &line) => Some(reason),
        result = write(&mut writer, &mut writes) => result.err().map(|error| close_reason(&error)),
    };
    match end {
        Some(reason) => line.closed(reason).await,
        None => let_go(reader, writer).await,
    }
}

async fn read(reader: &mut OwnedReadHalf, line: &Line) -> CloseReason {
    loop {
        let mut bytes = Vec::with_capacity(READ_MAX);
        match reader.read_buf(&mut bytes).await {
            Ok(0) => return CloseReason::ByPeer,
            Ok(_) => line.report(Input::Received { connection: line.id, bytes }).await,
            Err(error) => return close_reason(&error),
        }
    }
}

async fn write(writer: &mut OwnedWriteHalf, writes: &mut mpsc::Receiver<Vec<u8>>) -> io::Result<()> {
    while let Some(bytes) = writes.recv().await {
        writer.write_all(&bytes).await?;
    }
    Ok(())
}

/// Says that no more will come, and waits until the other side has read all of it and closed too: closing a socket that
/// holds unread bytes sends a reset, which may overtake what was written.
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
        Err(_) => tracing::trace!("the other side did not close the connection in time"),
    }
}

pub(super) fn close_reason(error: &io::Error) -> CloseReason {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => CloseReason::Refused,
        io::ErrorKind::TimedOut => CloseReason::NoAnswer,
        io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionAborted => {
            CloseReason::ByPeer
        }
        _ => CloseReason::Failed(error.to_string()),
    }
}
