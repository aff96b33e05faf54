//! What goes over the connections of peers, as a file that Wireshark and tcpdump read: the messages are the real ones, with
//! the real addresses and ports, and the headers of IP and TCP around them are made up.
//!
//! It stands where a core is told of its connections and says what it wants: what is captured is what the core saw, when it
//! saw it, so that it can be played to another one (`tests/replay.rs`). What the network did (retransmissions, TTL, TCP MD5) is
//! not in it. A message has a packet of its own, unless it is larger than [`SEGMENT_MAX`].
//!
//! It knows no clock and no file: time comes with each event, in microseconds since 1970, and [`Capture::take`] gives what the
//! file grows by. Where that goes nowhere in time, [`Capture::lost`] has the next packet say so.

mod pcapng;
mod segment;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use crate::wire::{Header, MessageLimit, keepalive};
use crate::{CloseReason, ConnectionId, ConnectionView, Input, Output};

pub use pcapng::{BLOCK_MAX, Block, BlockError, Direction, Packet, head, tail};

use segment::{ACK, FIN, PUSH, RESET, SYN, Segment};

/// The most payload of one packet: an IPv4 packet has 65535 bytes at most, and a message may have as many.
pub const SEGMENT_MAX: usize = 16 * 1024;

/// A capture of the connections of some peers, which are named by keys of the caller's.
#[derive(Debug)]
pub struct Capture<K> {
    streams: BTreeMap<(K, ConnectionId), Stream>,
    recording: Recording,
    /// Packets that were lost before the next one.
    lost: u64,
}

/// What a file grows by.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Recording {
    /// Whole blocks of the file.
    pub bytes: Vec<u8>,
    /// How many packets that is,
    pub packets: u64,
    /// and how many messages of BGP.
    pub messages: u64,
    /// How many packets it says are missing.
    missing: u64,
}

/// One connection.
#[derive(Debug)]
struct Stream {
    local: SocketAddr,
    remote: SocketAddr,
    sent: Half,
    received: Half,
}

/// One direction of a connection.
#[derive(Debug, Default)]
struct Half {
    /// The sequence number of the next byte; it wraps.
    next: u32,
    /// The begin of a message whose end has not come: 65535 bytes at most.
    pending: Vec<u8>,
}

/// What is the same for the packets of one event.
struct Moment<'a> {
    unix_micros: u64,
    comment: &'a str,
}

impl<K: Ord + Copy> Capture<K> {
    /// One of nothing so far.
    pub fn new() -> Self {
        Capture { streams: BTreeMap::new(), recording: Recording::default(), lost: 0 }
    }

    /// Takes in a connection that there was before the capture began. What both sides agreed on is written as if they did so
    /// now, for without it what follows cannot be read; each such packet says that it is rebuilt.
    pub fn join(&mut self, unix_micros: u64, key: K, peer: &str, connection: &ConnectionView<'_>) {
        let comment = format!("BGPPeer {peer}; rebuilt: this happened before the capture began");
        let moment = Moment { unix_micros, comment: &comment };
        self.open(&moment, (key, connection.id), connection.local, connection.remote);
        let mut confirmation = Vec::new();
        keepalive(&mut confirmation);
        let open = |open: &crate::wire::Open| {
            let mut bytes = Vec::new();
            open.encode(&mut bytes);
            bytes
        };
        let stream = (key, connection.id);
        self.bytes(&moment, stream, Direction::Sent, &open(connection.open_sent));
        if let Some(received) = &connection.open_received {
            self.bytes(&moment, stream, Direction::Received, &open(received));
            self.bytes(&moment, stream, Direction::Sent, &confirmation);
            if connection.is_established {
                self.bytes(&moment, stream, Direction::Received, &confirmation);
            }
        }
        if let Some(stream) = self.streams.get_mut(&stream) {
            stream.received.pending.extend_from_slice(connection.unread);
        }
    }

    /// A peer is told something.
    pub fn input(&mut self, unix_micros: u64, key: K, peer: &str, input: &Input) {
        let moment = Moment { unix_micros, comment: "" };
        match input {
            Input::Connected { connection, local, remote } => {
                let comment = format!("BGPPeer {peer}");
                self.open(&Moment { comment: &comment, ..moment }, (key, *connection), *local, *remote);
            }
            Input::Received { connection, bytes } => {
                self.bytes(&moment, (key, *connection), Direction::Received, bytes);
            }
            Input::Closed { connection, reason } => {
                let flags = match reason {
                    CloseReason::ByPeer | CloseReason::Replaced => FIN | ACK,
                    CloseReason::Reset | CloseReason::Failed(_) => RESET | ACK,
                };
                let comment = reason.to_string();
                let moment = Moment { comment: &comment, ..moment };
                self.close(&moment, (key, *connection), Direction::Received, flags);
            }
            _ => {}
        }
    }

    /// A peer wants something done.
    pub fn output(&mut self, unix_micros: u64, key: K, output: &Output) {
        let moment = Moment { unix_micros, comment: "" };
        match output {
            Output::Send { connection, bytes } => self.bytes(&moment, (key, *connection), Direction::Sent, bytes),
            Output::Close { connection } => self.close(&moment, (key, *connection), Direction::Sent, FIN | ACK),
            _ => {}
        }
    }

    /// What the file has grown by since this was called last.
    pub fn take(&mut self) -> Recording {
        std::mem::take(&mut self.recording)
    }

    /// What was taken did not get into the file.
    pub fn lost(&mut self, recording: &Recording) {
        self.lost = self.lost.saturating_add(recording.packets).saturating_add(recording.missing);
    }

    /// The three packets of a new connection.
    fn open(&mut self, moment: &Moment<'_>, key: (K, ConnectionId), local: SocketAddr, remote: SocketAddr) {
        let stream = Stream { local, remote, sent: Half::default(), received: Half::default() };
        self.streams.insert(key, stream);
        let (first, second) = match key.1 {
            ConnectionId::Dialed(_) => (Direction::Sent, Direction::Received),
            ConnectionId::Accepted(_) => (Direction::Received, Direction::Sent),
        };
        self.packet(moment, key, first, SYN, &[]);
        self.packet(&Moment { comment: "", ..*moment }, key, second, SYN | ACK, &[]);
        self.packet(&Moment { comment: "", ..*moment }, key, first, ACK, &[]);
    }

    /// More bytes of one direction; each message that is whole becomes a packet.
    fn bytes(&mut self, moment: &Moment<'_>, key: (K, ConnectionId), direction: Direction, bytes: &[u8]) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let mut waiting = std::mem::take(&mut stream.half(direction).pending);
        waiting.extend_from_slice(bytes);
        let mut rest = waiting.as_slice();
        loop {
            let length = match Header::decode(rest, MessageLimit::Extended) {
                Ok(Some(header)) if header.length <= rest.len() => header.length,
                Ok(_) => break,
                // No message: it is shown as it is, and the session ends by it.
                Err(_) => rest.len(),
            };
            let (message, after) = rest.split_at_checked(length).unwrap_or((rest, &[]));
            rest = after;
            self.recording.messages = self.recording.messages.saturating_add(1);
            self.payload(moment, key, direction, message);
        }
        if let Some(stream) = self.streams.get_mut(&key) {
            stream.half(direction).pending = rest.to_vec();
        }
    }

    fn payload(&mut self, moment: &Moment<'_>, key: (K, ConnectionId), direction: Direction, bytes: &[u8]) {
        for part in bytes.chunks(SEGMENT_MAX) {
            self.packet(moment, key, direction, PUSH | ACK, part);
        }
    }

    /// The end of a connection, after what there is of the last message.
    fn close(&mut self, moment: &Moment<'_>, key: (K, ConnectionId), direction: Direction, flags: u8) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let cut = std::mem::take(&mut stream.received.pending);
        self.payload(&Moment { comment: "", ..*moment }, key, Direction::Received, &cut);
        self.packet(moment, key, direction, flags, &[]);
        self.streams.remove(&key);
    }

    fn packet(&mut self, moment: &Moment<'_>, key: (K, ConnectionId), direction: Direction, flags: u8, payload: &[u8]) {
        let Some(stream) = self.streams.get_mut(&key) else { return };
        let (source, destination) = match direction {
            Direction::Sent => (stream.local, stream.remote),
            Direction::Received => (stream.remote, stream.local),
        };
        let acknowledged = if flags & ACK == 0 { 0 } else { stream.half(direction.opposite()).next };
        let half = stream.half(direction);
        let lost = std::mem::take(&mut self.lost);
        self.recording.missing = self.recording.missing.saturating_add(lost);
        let data = Segment { source, destination, sequence: half.next, acknowledged, flags, payload }.encode();
        // Both ends of a connection count for one byte (RFC 9293 section 3.4).
        let ends = u32::from(flags & (SYN | FIN) != 0);
        half.next = half.next.wrapping_add(u32::try_from(payload.len()).unwrap_or_default()).wrapping_add(ends);
        let packet = Packet {
            unix_micros: moment.unix_micros,
            direction,
            comment: (!moment.comment.is_empty()).then_some(moment.comment),
            lost,
            data: &data,
        };
        packet.encode(&mut self.recording.bytes);
        self.recording.packets = self.recording.packets.saturating_add(1);
    }
}

impl<K: Ord + Copy> Default for Capture<K> {
    fn default() -> Self {
        Self::new()
    }
}

impl Stream {
    fn half(&mut self, direction: Direction) -> &mut Half {
        match direction {
            Direction::Sent => &mut self.sent,
            Direction::Received => &mut self.received,
        }
    }
}

#[cfg(test)]
mod tests;
