//! Captures that somebody asked for: what passes between the sessions and their connections is copied for those who read along.
//!
//! No session waits for a reader: what does not fit into its queue is lost, and counted. While nobody reads, all that this
//! costs is to look whether somebody does.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use bgp::capture::{Capture, head};
use bgp::{ConnectionView, Input, Output};
use kit::Instant;
use tokio::sync::mpsc;
use tokio::sync::mpsc::error::TrySendError;

use super::{SessionId, Sessions};
use crate::capture::server::{Counts, Refusal, Request};

/// Captures at one time. People make them, and a program that does may make more than it ends.
const CAPTURES_MAX: usize = 4;

/// The captures that go on.
#[derive(Default)]
pub(super) struct Captures(Vec<Running>);

struct Running {
    /// Only this BGPPeer.
    peer: Option<String>,
    /// Messages that are still wanted.
    left: u64,
    begin: Instant,
    begin_unix_micros: u64,
    capture: Capture<SessionId>,
    pieces: mpsc::Sender<Vec<u8>>,
    counts: Arc<Counts>,
}

impl Running {
    fn unix_micros(&self, now: Instant) -> u64 {
        self.begin_unix_micros.saturating_add((now - self.begin).as_micros())
    }

    fn concerns(&self, peer: &str) -> bool {
        self.peer.as_ref().is_none_or(|wanted| wanted == peer)
    }

    /// Gives the reader what there is; false when the capture is over.
    fn flush(&mut self) -> bool {
        let mut recording = self.capture.take();
        let (packets, messages) = (recording.packets, recording.messages);
        if packets == 0 {
            return !self.pieces.is_closed();
        }
        self.counts.packets.fetch_add(packets, Ordering::Relaxed);
        match self.pieces.try_send(std::mem::take(&mut recording.bytes)) {
            Ok(()) => {
                self.left = self.left.saturating_sub(messages);
                self.left > 0
            }
            Err(TrySendError::Full(_)) => {
                self.counts.lost.fetch_add(packets, Ordering::Relaxed);
                self.capture.lost(&recording);
                true
            }
            Err(TrySendError::Closed(_)) => false,
        }
    }
}

impl Captures {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// A session is told something.
    pub(super) fn input(&mut self, now: Instant, id: SessionId, peer: &str, input: &Input) {
        for running in self.0.iter_mut().filter(|running| running.concerns(peer)) {
            running.capture.input(running.unix_micros(now), id, peer, input);
        }
    }

    /// A session wants something done.
    pub(super) fn output(&mut self, now: Instant, id: SessionId, peer: &str, output: &Output) {
        for running in self.0.iter_mut().filter(|running| running.concerns(peer)) {
            running.capture.output(running.unix_micros(now), id, output);
        }
    }

    /// Gives the readers what there is. Captures that nobody reads any more, or that have what was wanted, end.
    pub(super) fn flush(&mut self) {
        self.0.retain_mut(Running::flush);
    }

    fn begin<'a>(
        &mut self,
        now: Instant,
        unix_micros: u64,
        request: Request,
        connections: impl Iterator<Item = (SessionId, &'a str, ConnectionView<'a>)>,
    ) {
        let what = request.peer.as_ref().map_or_else(|| "all BGPPeers".to_owned(), |peer| format!("BGPPeer {peer}"));
        let comment = format!(
            "BGP messages of {what} as a speaker of MetalLB saw them; the headers of IP and TCP around them are made up"
        );
        tracing::info!(event = "captureBegan", peer = request.peer, "BGP messages are captured");
        let mut running = Running {
            peer: request.peer,
            left: request.count,
            begin: now,
            begin_unix_micros: unix_micros,
            capture: Capture::new(),
            pieces: request.pieces,
            counts: request.counts,
        };
        for (id, peer, connection) in connections {
            if running.concerns(peer) {
                running.capture.join(unix_micros, id, peer, &connection);
            }
        }
        // What was before the capture is not among the messages that are wanted.
        let begin = running.capture.take();
        running.counts.packets.fetch_add(begin.packets, Ordering::Relaxed);
        let program = format!("MetalLB {}", env!("CARGO_PKG_VERSION"));
        // The queue is empty, and long enough for both.
        for piece in [head(&program, &comment), begin.bytes] {
            if !piece.is_empty() {
                let _ = running.pieces.try_send(piece);
            }
        }
        if request.begun.send(Ok(())).is_ok() {
            self.0.push(running);
        }
    }
}

impl Sessions {
    /// Begins a capture, or says why not.
    pub(in super::super) fn capture(&mut self, now: Instant, unix_micros: u64, request: Request) {
        self.captures.flush();
        let refusal = if self.captures.0.len() >= CAPTURES_MAX {
            Some(Refusal::TooMany)
        } else if let Some(peer) = &request.peer
            && !self.by_name.contains_key(peer)
        {
            let names = self.names().map(str::to_owned).collect();
            Some(Refusal::UnknownPeer { peer: peer.clone(), node: self.node.clone(), names })
        } else {
            None
        };
        if let Some(refusal) = refusal {
            // Who asked may have gone.
            let _ = request.begun.send(Err(refusal));
            return;
        }
        let connections = self.sessions.iter().flat_map(|(id, session)| {
            session.core.connections().map(|connection| (*id, session.peer.name.as_str(), connection))
        });
        self.captures.begin(now, unix_micros, request, connections);
    }
}

#[cfg(test)]
mod tests {
    use std::net::SocketAddr;

    use bgp::ConnectionId;
    use bgp::capture::Block;
    use tokio::sync::oneshot;

    use super::*;
    use crate::capture::server::PIECES_WAITING_MAX;

    fn begin(captures: &mut Captures, peer: Option<&str>, count: u64) -> (mpsc::Receiver<Vec<u8>>, Arc<Counts>) {
        let (pieces, file) = mpsc::channel(PIECES_WAITING_MAX);
        let (begun, mut answer) = oneshot::channel();
        let counts = Arc::new(Counts::default());
        let request = Request { peer: peer.map(str::to_owned), count, pieces, counts: Arc::clone(&counts), begun };
        captures.begin(Instant::ZERO, 1_000_000, request, std::iter::empty());
        assert!(matches!(answer.try_recv(), Ok(Ok(()))));
        (file, counts)
    }

    fn ends() -> (SocketAddr, SocketAddr) {
        ("192.0.2.1:40000".parse().unwrap(), "192.0.2.2:179".parse().unwrap())
    }

    fn connected() -> Input {
        let (local, remote) = ends();
        Input::Connected { connection: ConnectionId::Dialed(1), local, remote }
    }

    fn keepalive() -> Input {
        let mut bytes = Vec::new();
        bgp::wire::keepalive(&mut bytes);
        Input::Received { connection: ConnectionId::Dialed(1), bytes }
    }

    /// What has been written: for each packet how many were lost before it.
    fn packets(file: &mut mpsc::Receiver<Vec<u8>>) -> Vec<u64> {
        let mut bytes = Vec::new();
        while let Ok(piece) = file.try_recv() {
            bytes.extend(piece);
        }
        let (mut rest, mut lost) = (bytes.as_slice(), Vec::new());
        while let Some((block, after)) = Block::decode(rest).unwrap() {
            rest = after;
            if let Block::Packet(packet) = block {
                lost.push(packet.lost);
            }
        }
        assert!(rest.is_empty());
        lost
    }

    #[test]
    fn who_does_not_read_loses_packets_and_learns_how_many() {
        let mut captures = Captures::default();
        let (mut slow, counts) = begin(&mut captures, None, u64::MAX);
        let (mut other, _) = begin(&mut captures, Some("elsewhere"), u64::MAX);
        captures.input(Instant::ZERO, SessionId(1), "rack", &connected());
        captures.flush();
        for _ in 0..100 {
            captures.input(Instant::ZERO, SessionId(1), "rack", &keepalive());
            captures.flush();
        }
        // The head of the file and the three packets of the connection take a place each.
        let taken = PIECES_WAITING_MAX - 2;
        assert_eq!(packets(&mut slow), vec![0; taken + 3]);
        captures.input(Instant::ZERO, SessionId(1), "rack", &keepalive());
        captures.flush();
        assert_eq!(packets(&mut slow), [100 - taken as u64]);
        assert_eq!(counts.lost.load(Ordering::Relaxed), 100 - taken as u64);
        assert_eq!(counts.packets.load(Ordering::Relaxed), 104);
        assert_eq!(packets(&mut other), [0; 0]);
    }

    #[test]
    fn a_capture_ends_with_its_reader_or_when_it_has_what_was_wanted() {
        let mut captures = Captures::default();
        let (mut counted, _) = begin(&mut captures, Some("rack"), 2);
        let (left, _) = begin(&mut captures, None, u64::MAX);
        captures.input(Instant::ZERO, SessionId(1), "rack", &connected());
        captures.input(Instant::ZERO, SessionId(1), "rack", &keepalive());
        captures.flush();
        assert_eq!(captures.0.len(), 2);
        drop(left);
        captures.input(Instant::ZERO, SessionId(1), "rack", &keepalive());
        captures.flush();
        assert!(captures.is_empty());
        assert_eq!(packets(&mut counted).len(), 5);
        assert!(counted.is_closed());
    }
}
