//! The sockets on which BFD packets come in: one for each port, family and VRF in which there are sessions.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::ops::Bound;
use std::os::fd::{AsFd as _, BorrowedFd};

use bfd::{Arrival, Hops, Path};
use kit::{Duration, Family, Instant, InterfaceIndex};
use sys::udp::{Received, Reception, UdpError, UdpSocket};

use crate::causes::with_causes;
use crate::clock::Clock;

/// UDP ports (RFC 5881 section 4, RFC 5883 section 5).
const PORT_SINGLE_HOP: u16 = 3784;
const PORT_ECHO: u16 = bfd::wire::ECHO_PORT;
const PORT_MULTI_HOP: u16 = 4784;
/// Longer ones are cut: nobody's control or echo packet is as long.
pub(super) const PAYLOAD_MAX: usize = 512;
/// Datagrams read from a socket in one turn. More than its buffer has room for, so that whatever came before the turn is read
/// in it.
const READS_MAX: usize = 2048;
/// Until a socket that could not be opened is tried again.
const RETRY: Duration = Duration::from_secs(5);

/// Which packets a socket is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    vrf: Option<InterfaceIndex>,
    family: Family,
    kind: Kind,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Kind {
    Control(Hops),
    Echo,
}

#[derive(Debug)]
enum Receiver {
    Open {
        socket: UdpSocket,
        /// When it was last seen to be empty: what is read later came later.
        emptied_at: Instant,
    },
    Failed {
        error: String,
        retry_at: Instant,
    },
}

/// A packet that came in; its payload is at the beginning of the caller's buffer.
#[derive(Clone, Copy, Debug)]
pub(super) struct Packet {
    pub(super) kind: Kind,
    pub(super) length: usize,
    pub(super) arrival: Arrival,
    place: Place,
    received: Received,
}

/// Whether a turn has read everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Finished,
    /// There was more than one turn takes.
    CutShort,
}

/// All receiving sockets.
#[derive(Debug, Default)]
pub(super) struct Receivers {
    by_place: BTreeMap<Place, Receiver>,
    turn: ReadTurn,
}

/// How far the reading of a turn has come.
#[derive(Debug, Default)]
struct ReadTurn {
    /// Which socket is read.
    place: Option<Place>,
    /// How much was read from it.
    reads: usize,
    is_cut_short: bool,
}

impl Place {
    /// The places at which packets for a path arrive.
    fn of(path: &Path) -> impl Iterator<Item = Place> {
        let place = |kind| Place { vrf: path.vrf, family: path.family(), kind };
        let echo = (path.hops == Hops::Single).then_some(place(Kind::Echo));
        [place(Kind::Control(path.hops))].into_iter().chain(echo)
    }

    fn port(self) -> u16 {
        match self.kind {
            Kind::Control(Hops::Single) => PORT_SINGLE_HOP,
            Kind::Control(Hops::Multi) => PORT_MULTI_HOP,
            Kind::Echo => PORT_ECHO,
        }
    }

    fn open(self, beside: &[&UdpSocket]) -> Result<UdpSocket, UdpError> {
        let reception = match self.kind {
            Kind::Control(Hops::Single) | Kind::Echo => Reception::FromLink,
            Kind::Control(Hops::Multi) => Reception::All,
        };
        UdpSocket::receiver(self.family, self.port(), self.vrf, reception, beside)
    }
}

impl Receivers {
    /// Opens the sockets that these paths need, and closes all others.
    pub(super) fn fit<'a>(&mut self, now: Instant, paths: impl Iterator<Item = &'a Path>) {
        let wanted: BTreeSet<Place> = paths.flat_map(Place::of).collect();
        self.by_place.retain(|place, _| wanted.contains(place));
        for place in wanted {
            if !self.by_place.contains_key(&place) {
                let receiver = self.open(now, place);
                self.by_place.insert(place, receiver);
            }
        }
    }

    /// Tries again what could not be opened and is due.
    pub(super) fn retry(&mut self, now: Instant) {
        let is_due = |receiver: &Receiver| matches!(receiver, Receiver::Failed { retry_at, .. } if *retry_at <= now);
        let due: Vec<Place> =
            self.by_place.iter().filter(|(_, receiver)| is_due(receiver)).map(|(place, _)| *place).collect();
        for place in due {
            let receiver = self.open(now, place);
            self.by_place.insert(place, receiver);
        }
    }

    /// What could not be opened, and what to do about it.
    pub(super) fn troubles(&self) -> impl Iterator<Item = &str> {
        self.by_place.values().filter_map(|receiver| match receiver {
            Receiver::Failed { error, .. } => Some(error.as_str()),
            Receiver::Open { .. } => None,
        })
    }

    pub(super) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.by_place.values().filter_map(|receiver| match receiver {
            Receiver::Open { socket, .. } => Some(socket.as_fd()),
            Receiver::Failed { .. } => None,
        })
    }

    /// Begins a turn of reading.
    pub(super) fn turn_begin(&mut self) {
        self.turn = ReadTurn { place: self.by_place.first_key_value().map(|(place, _)| *place), ..ReadTurn::default() };
    }

    /// The next packet of the turn; `None` when all sockets are empty, or have given as much as a turn takes.
    pub(super) fn next(&mut self, clock: Clock, buffer: &mut [u8; PAYLOAD_MAX]) -> Option<Packet> {
        loop {
            let place = self.turn.place?;
            if let Some(packet) = self.read(place, clock, buffer) {
                return Some(packet);
            }
            let mut later = self.by_place.range((Bound::Excluded(place), Bound::Unbounded));
            self.turn.place = later.next().map(|(place, _)| *place);
            self.turn.reads = 0;
        }
    }

    /// Whether the turn has read everything.
    pub(super) fn reading(&self) -> Reading {
        if self.turn.is_cut_short { Reading::CutShort } else { Reading::Finished }
    }

    /// Sends the payload of a packet back where it came from, with the TTL of a packet that was forwarded.
    pub(super) fn bounce(&self, packet: &Packet, payload: &[u8]) {
        if let Some(Receiver::Open { socket, .. }) = self.by_place.get(&packet.place) {
            // One that does not go out is one that does not come back: the neighbour will see.
            drop(socket.answer(payload, &packet.received, packet.received.ttl.saturating_sub(1)));
        }
    }

    /// Reads one packet of a socket, if there is one.
    fn read(&mut self, place: Place, clock: Clock, buffer: &mut [u8]) -> Option<Packet> {
        let receiver = self.by_place.get_mut(&place)?;
        let Receiver::Open { socket, emptied_at } = receiver else { return None };
        while self.turn.reads < READS_MAX {
            self.turn.reads = self.turn.reads.saturating_add(1);
            let before = clock.now();
            match socket.receive(buffer) {
                Ok(received) => {
                    let received_at = received_at(*emptied_at, clock.now(), received.age);
                    return Some(Packet::new(place, received, received_at));
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    *emptied_at = before;
                    return None;
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => {
                    let error = format!("could not read from UDP port {}: {source}", place.port());
                    *receiver = Receiver::Failed { error, retry_at: before + RETRY };
                    return None;
                }
            }
        }
        self.turn.is_cut_short = true;
        None
    }

    fn open(&self, now: Instant, place: Place) -> Receiver {
        // The same port in other VRFs.
        let beside = self.by_place.iter().filter_map(|(other, receiver)| match receiver {
            Receiver::Open { socket, .. } if Place { vrf: place.vrf, ..*other } == place => Some(socket),
            _ => None,
        });
        match place.open(&beside.collect::<Vec<_>>()) {
            Ok(socket) => Receiver::Open { socket, emptied_at: now },
            Err(error) => Receiver::Failed { error: describe(&error), retry_at: now + RETRY },
        }
    }
}

impl Packet {
    fn new(place: Place, received: Received, received_at: Instant) -> Packet {
        let arrival = Arrival {
            received_at,
            source: received.source.ip(),
            local: received.destination,
            interface: received.interface,
            vrf: place.vrf,
            ttl: received.ttl,
            hops: if place.kind == Kind::Control(Hops::Multi) { Hops::Multi } else { Hops::Single },
        };
        Packet { kind: place.kind, length: received.length, arrival, place, received }
    }
}

/// When the kernel got a packet. Its age is by the wall clock, which somebody may have set meanwhile; so it is believed only
/// as far as it can be true.
fn received_at(emptied_at: Instant, now: Instant, age: Duration) -> Instant {
    let received_at = Instant::ZERO + now.since(Instant::ZERO + age);
    received_at.clamp(emptied_at.min(now), now)
}

fn describe(error: &UdpError) -> String {
    let text = with_causes(error);
    match error {
        UdpError::PortInUse(_) => format!(
            "{text}; hint: another BFD daemon runs on this host, such as the one of FRR; only one can, so stop it or take \
             bfdProfile from the BGPPeers"
        ),
        UdpError::Refused { .. } => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(micros: u64) -> Instant {
        Instant::from_micros(micros)
    }

    #[test]
    fn an_age_is_believed_as_far_as_it_can_be_true() {
        let age = Duration::from_micros;
        assert_eq!(received_at(at(100), at(500), age(30)), at(470));
        assert_eq!(received_at(at(100), at(500), age(0)), at(500));
        // The wall clock was set forward, by an hour.
        assert_eq!(received_at(at(100), at(500), age(3_600_000_000)), at(100));
        assert_eq!(received_at(at(600), at(500), age(0)), at(500));
    }

    #[test]
    fn each_path_has_its_ports() {
        let vrf = InterfaceIndex::new(9);
        let ports = |path: Path| Place::of(&path).map(|place| (place.port(), place.vrf)).collect::<Vec<_>>();
        let remote = "192.0.2.1".parse().unwrap();
        assert_eq!(ports(Path::single_hop(remote)), [(3784, None), (3785, None)]);
        assert_eq!(ports(Path { vrf, ..Path::multi_hop(remote) }), [(4784, vrf)]);
    }

    #[test]
    fn a_port_in_use_has_a_hint() {
        let text = describe(&UdpError::PortInUse(3784));
        assert!(text.starts_with("UDP port 3784 is in use; hint: another BFD daemon"), "{text}");
    }
}
