//! Echo packets on their way out and back (RFC 5881 section 4).
//!
//! They go to the neighbour's link-layer address, and in them is our own IP address, so that the neighbour forwards them
//! back to us. The kernel would neither send such a packet over a link nor take it in from there, so both is done with packet
//! sockets. The two link-layer addresses are learnt from the neighbour's control packets, which are seen by the same sockets:
//! that needs no question to the kernel, works for both families, and follows when they change.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::net::IpAddr;
use std::ops::Bound;
use std::os::fd::{AsFd as _, BorrowedFd};

use bfd::wire::{Datagram, Discriminator, ECHO_LEN, ECHO_PORT, EchoDatagram};
use kit::{Duration, Family, Instant, InterfaceIndex};
use sys::packet::{Capture, FRAME_MAX, PacketSocket};

use super::receivers::Reading;
use crate::causes::with_causes;

const HEADER_LEN: usize = 14;
/// Frames read from a socket in one turn.
const READS_MAX: usize = 2048;
/// Until a socket that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);
/// What control packets come with that were not forwarded.
const TTL_FROM_LINK: u8 = 255;

/// The links over which echo packets go.
#[derive(Debug, Default)]
pub(super) struct EchoLinks {
    links: BTreeMap<(InterfaceIndex, Family), Link>,
    turn: ReadTurn,
}

/// An echo packet that has come back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Returned {
    pub(super) payload: [u8; ECHO_LEN],
    pub(super) ttl: u8,
}

/// Whether a packet went out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Sending {
    Done,
    Impossible,
}

/// How far the reading of a turn has come.
#[derive(Debug, Default)]
struct ReadTurn {
    /// Which socket is read.
    link: Option<(InterfaceIndex, Family)>,
    /// How much was read from it.
    reads: usize,
    is_cut_short: bool,
}

#[derive(Debug)]
struct Link {
    socket: Result<PacketSocket, Failure>,
    neighbours: BTreeMap<IpAddr, Neighbour>,
}

#[derive(Debug)]
struct Failure {
    error: String,
    retry_at: Instant,
}

#[derive(Debug, Default)]
struct Neighbour {
    sessions: BTreeSet<Discriminator>,
    /// The Ethernet header of frames to it, once it is known.
    header: Option<[u8; HEADER_LEN]>,
}

impl Link {
    fn open(now: Instant, interface: InterfaceIndex, family: Family) -> Result<PacketSocket, Failure> {
        PacketSocket::open(interface, Capture::Bfd(family)).map_err(|error| Failure {
            error: format!("no echo packets over interface {interface}: {}", with_causes(&error)),
            retry_at: now + RETRY,
        })
    }
}

impl EchoLinks {
    /// Sends an echo packet of a session, if it is known where to: that is learnt from the neighbour's next control packet.
    pub(super) fn send(
        &mut self,
        now: Instant,
        session: Discriminator,
        (interface, remote): (InterfaceIndex, IpAddr),
        datagram: &EchoDatagram,
    ) -> Sending {
        let family = Family::of(&remote);
        let link = self
            .links
            .entry((interface, family))
            .or_insert_with(|| Link { socket: Link::open(now, interface, family), neighbours: BTreeMap::new() });
        if link.socket.as_ref().is_err_and(|failure| failure.retry_at <= now) {
            link.socket = Link::open(now, interface, family);
        }
        let neighbour = link.neighbours.entry(remote).or_default();
        neighbour.sessions.insert(session);
        let (Ok(socket), Some(header)) = (&link.socket, neighbour.header) else { return Sending::Impossible };
        let (mut frame, packet) = ([0; FRAME_MAX], datagram.bytes());
        for (to, from) in frame.iter_mut().zip(header.iter().chain(packet)) {
            *to = *from;
        }
        if let Some(frame) = frame.get(..HEADER_LEN.saturating_add(packet.len())) {
            // A packet that does not go out is one that does not come back: that is what echo packets are for.
            drop(socket.send(frame));
        }
        Sending::Done
    }

    /// A session sends no more. Sockets that nobody uses are closed.
    pub(super) fn stop(&mut self, session: Discriminator) {
        self.links.retain(|_, link| {
            link.neighbours.retain(|_, neighbour| {
                neighbour.sessions.remove(&session);
                !neighbour.sessions.is_empty()
            });
            !link.neighbours.is_empty()
        });
    }

    /// What does not work, and what to do about it.
    pub(super) fn troubles(&self) -> impl Iterator<Item = &str> {
        self.links.values().filter_map(|link| link.socket.as_ref().err().map(|failure| failure.error.as_str()))
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.links.values().filter_map(|link| link.socket.as_ref().ok().map(PacketSocket::as_fd))
    }

    /// Begins a turn of reading.
    pub(super) fn turn_begin(&mut self) {
        self.turn = ReadTurn { link: self.links.first_key_value().map(|(link, _)| *link), ..ReadTurn::default() };
    }

    /// The next echo packet that has come back; `None` at the end of the turn.
    pub(super) fn next(&mut self, now: Instant, buffer: &mut [u8; FRAME_MAX]) -> Option<Returned> {
        loop {
            let place = self.turn.link?;
            if let Some(returned) = self.read(now, place, buffer) {
                return Some(returned);
            }
            let mut later = self.links.range((Bound::Excluded(place), Bound::Unbounded));
            self.turn.link = later.next().map(|(link, _)| *link);
            self.turn.reads = 0;
        }
    }

    /// Whether the turn has read everything.
    pub(super) fn reading(&self) -> Reading {
        if self.turn.is_cut_short { Reading::CutShort } else { Reading::Finished }
    }

    /// Reads until an echo packet comes, or nothing more.
    fn read(&mut self, now: Instant, place: (InterfaceIndex, Family), buffer: &mut [u8]) -> Option<Returned> {
        let link = self.links.get_mut(&place)?;
        let Ok(socket) = &link.socket else { return None };
        while self.turn.reads < READS_MAX {
            self.turn.reads = self.turn.reads.saturating_add(1);
            match socket.receive(buffer) {
                Ok(length) => {
                    let frame = buffer.get(..length).unwrap_or_default();
                    let returned = frame_read(frame, &mut link.neighbours);
                    if returned.is_some() {
                        return returned;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return None,
                // Said once when the interface goes down; it works again when that is up.
                Err(error) if matches!(error.kind(), io::ErrorKind::Interrupted | io::ErrorKind::NetworkDown) => {}
                Err(error) => {
                    let error = format!("no echo packets over interface {}: {error}", place.0);
                    link.socket = Err(Failure { error, retry_at: now + RETRY });
                    return None;
                }
            }
        }
        self.turn.is_cut_short = true;
        None
    }
}

/// An echo packet of ours in a frame. From control packets is learnt where their senders are.
fn frame_read(frame: &[u8], neighbours: &mut BTreeMap<IpAddr, Neighbour>) -> Option<Returned> {
    let (header, packet) = frame.split_first_chunk::<HEADER_LEN>()?;
    let datagram = Datagram::decode(packet)?;
    if datagram.port == ECHO_PORT {
        // What has our own address as its source too; all else is another system's, on its way through this host.
        let is_ours = datagram.source == datagram.destination;
        let payload = datagram.payload.try_into().ok()?;
        return is_ours.then_some(Returned { payload, ttl: datagram.ttl });
    }
    if datagram.ttl == TTL_FROM_LINK
        && let Some(neighbour) = neighbours.get_mut(&datagram.source)
    {
        neighbour.header = Some(answer_header(header));
    }
    None
}

/// The Ethernet header of a frame to the sender of one with this header.
fn answer_header(header: &[u8; HEADER_LEN]) -> [u8; HEADER_LEN] {
    let [a, b, c, d, e, f, g, h, i, j, k, l, kind @ ..] = *header;
    let [m, n] = kind;
    [g, h, i, j, k, l, a, b, c, d, e, f, m, n]
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: [u8; HEADER_LEN] = [2, 0, 0, 0, 0, 1, 2, 0, 0, 0, 0, 2, 0x08, 0x00];

    fn frame(datagram: &[u8]) -> Vec<u8> {
        [HEADER.as_slice(), datagram].concat()
    }

    fn neighbours(address: &str) -> BTreeMap<IpAddr, Neighbour> {
        BTreeMap::from([(address.parse().unwrap(), Neighbour::default())])
    }

    /// An echo packet of this address, as it comes back.
    fn returned(local: &str) -> Vec<u8> {
        let mut bytes = EchoDatagram::new(local.parse().unwrap(), &[7; 20]).bytes().to_vec();
        let ttl_at = if local.contains(':') { 7 } else { 8 };
        bytes[ttl_at] = 254;
        bytes
    }

    #[test]
    fn an_echo_packet_that_comes_back_is_given_out_with_its_ttl() {
        for local in ["192.0.2.1", "2001:db8::1"] {
            let frame = frame(&returned(local));
            assert_eq!(frame_read(&frame, &mut BTreeMap::new()), Some(Returned { payload: [7; 20], ttl: 254 }));
            for length in 0..frame.len() {
                assert_eq!(frame_read(&frame[..length], &mut BTreeMap::new()), None);
            }
        }
        // A neighbour's own, on its way through us.
        let mut foreign = returned("192.0.2.2");
        foreign[16..20].copy_from_slice(&[192, 0, 2, 9]);
        assert_eq!(frame_read(&frame(&foreign), &mut BTreeMap::new()), None);
    }

    #[test]
    fn link_layer_addresses_are_learnt_from_control_packets_of_known_neighbours_on_the_link() {
        let control = |ttl: u8, source: [u8; 4]| {
            let mut bytes = returned("192.0.2.1");
            bytes[8] = ttl;
            bytes[12..16].copy_from_slice(&source);
            bytes[22..24].copy_from_slice(&3784u16.to_be_bytes());
            frame(&bytes)
        };
        let mut neighbours = neighbours("192.0.2.2");
        let header = |neighbours: &BTreeMap<IpAddr, Neighbour>| neighbours.values().next().unwrap().header;
        for other in [control(254, [192, 0, 2, 2]), control(255, [192, 0, 2, 3])] {
            assert_eq!(frame_read(&other, &mut neighbours), None);
            assert_eq!(header(&neighbours), None);
        }
        assert_eq!(neighbours.len(), 1, "strangers take no room");
        assert_eq!(frame_read(&control(255, [192, 0, 2, 2]), &mut neighbours), None);
        assert_eq!(header(&neighbours), Some([2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1, 0x08, 0x00]));
    }
}
