//! The sockets from which control packets go out: one for each session, with a port of its own (RFC 5881 section 4).

use std::collections::BTreeMap;
use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};

use bfd::wire::{ControlPacket, Discriminator};
use bfd::{Hops, Path};
use kit::{InterfaceIndex, Rng};
use sys::udp::{UdpError, UdpSocket};

use crate::causes::with_causes;

/// Source ports (RFC 5881 section 4).
const PORT_MIN: u16 = 49152;
const PORTS: u64 = 16384;
/// Ports tried at random before the session waits for its next packet.
const ATTEMPTS: usize = 32;
/// What every packet is sent with (RFC 5881 section 5); over several hops too, so that receivers can tell how far it came.
const TTL: u8 = 255;

/// The sending sockets by session.
#[derive(Debug, Default)]
pub(super) struct Senders {
    by_session: BTreeMap<Discriminator, Sender>,
}

/// There is one from a session's first packet to its end.
#[derive(Debug)]
struct Sender {
    /// `None` if it could not be opened, until the next packet.
    socket: Option<UdpSocket>,
    to: SocketAddr,
    /// Why the last packet did not go out.
    error: Option<String>,
}

impl Senders {
    /// Sends a packet. What fails is told by [`Senders::troubles`]; the session does not mind, for a packet may be lost.
    pub(super) fn send(&mut self, session: Discriminator, path: &Path, packet: &ControlPacket, random: &mut Rng) {
        let sender = self.by_session.entry(session).or_insert_with(|| Sender::new(path));
        match sender.send(path, packet, random) {
            Ok(()) => sender.error = None,
            // As long as it lasts, it is the same trouble.
            Err(_) if sender.error.is_some() => {}
            Err(error) => sender.error = Some(format!("could not send to {path}: {error}")),
        }
    }

    /// Closes the socket of a session.
    pub(super) fn close(&mut self, session: Discriminator) {
        self.by_session.remove(&session);
    }

    /// What cannot be sent at the moment.
    pub(super) fn troubles(&self) -> impl Iterator<Item = &str> {
        self.by_session.values().filter_map(|sender| sender.error.as_deref())
    }
}

impl Sender {
    fn new(path: &Path) -> Self {
        let port = match path.hops {
            Hops::Single => 3784,
            Hops::Multi => 4784,
        };
        Sender { socket: None, to: endpoint(path.remote, port, path.interface), error: None }
    }

    fn send(&mut self, path: &Path, packet: &ControlPacket, random: &mut Rng) -> Result<(), String> {
        let socket = match &mut self.socket {
            Some(socket) => socket,
            none => none.insert(open(path, random).map_err(|error| with_causes(&error))?),
        };
        match socket.send(&packet.encode(), self.to) {
            Err(error) if is_serious(&error) => Err(error.to_string()),
            _ => Ok(()),
        }
    }
}

fn open(path: &Path, random: &mut Rng) -> Result<UdpSocket, UdpError> {
    let unspecified = match path.remote {
        IpAddr::V4(_) => Ipv4Addr::UNSPECIFIED.into(),
        IpAddr::V6(_) => Ipv6Addr::UNSPECIFIED.into(),
    };
    let device = path.interface.or(path.vrf);
    let mut attempt = |_| {
        let port = PORT_MIN.saturating_add(u16::try_from(random.below(PORTS)).unwrap_or(0));
        let local = endpoint(path.local.unwrap_or(unspecified), port, path.interface);
        UdpSocket::sender(local, device, TTL)
    };
    let mut last = attempt(0);
    for number in 1..ATTEMPTS {
        if !matches!(last, Err(UdpError::PortInUse(_))) {
            break;
        }
        last = attempt(number);
    }
    last
}

/// A link-local address is one of an interface.
fn endpoint(address: IpAddr, port: u16, interface: Option<InterfaceIndex>) -> SocketAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, port, 0, interface.map_or(0, InterfaceIndex::get)).into()
        }
        _ => SocketAddr::new(address, port),
    }
}

/// A full queue is no trouble: the packet is lost, like others.
fn is_serious(error: &io::Error) -> bool {
    const ENOBUFS: i32 = 105;
    error.kind() != io::ErrorKind::WouldBlock && error.raw_os_error() != Some(ENOBUFS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rfc5881_4_each_session_has_a_source_port_of_its_own_of_49152_to_65535() {
        let mut random = Rng::new(1);
        let path = Path::single_hop("127.0.0.1".parse().unwrap());
        let sockets: Vec<UdpSocket> = (0..500).map(|_| open(&path, &mut random).unwrap()).collect();
        let mut ports: Vec<u16> = sockets.iter().map(|socket| socket.port().unwrap()).collect();
        assert!(ports.iter().all(|port| *port >= PORT_MIN));
        ports.sort_unstable();
        ports.dedup();
        assert_eq!(ports.len(), 500);
    }

    #[test]
    fn an_address_that_is_not_ours_is_a_trouble_until_it_is() {
        let mut senders = Senders::default();
        // Not the seed of the test above, which may hold that seed's ports at the same time.
        let mut random = Rng::new(2);
        let session = Discriminator::new(1).unwrap();
        let packet = bfd_packet();
        let foreign =
            Path { local: Some("192.0.2.7".parse().unwrap()), ..Path::single_hop("127.0.0.1".parse().unwrap()) };
        senders.send(session, &foreign, &packet, &mut random);
        let troubles: Vec<String> = senders.troubles().map(str::to_owned).collect();
        assert_eq!(troubles.len(), 1);
        assert!(troubles[0].starts_with("could not send to 127.0.0.1 from 192.0.2.7: could not bind"), "{troubles:?}");
        senders.send(session, &foreign, &packet, &mut random);
        assert_eq!(senders.troubles().count(), 1);
        let ours = Path { local: None, ..foreign };
        senders.send(session, &ours, &packet, &mut random);
        assert_eq!(senders.troubles().count(), 0);
        senders.close(session);
        assert!(senders.by_session.is_empty());
    }

    fn bfd_packet() -> ControlPacket {
        let mut bytes = [0; 24];
        bytes[0] = 0x20;
        bytes[1] = 0x40;
        bytes[2] = 3;
        bytes[3] = 24;
        bytes[7] = 1;
        ControlPacket::decode(&bytes).unwrap().0
    }

    #[test]
    fn a_link_local_address_has_its_interface() {
        let address = |text: &str| text.parse::<IpAddr>().unwrap();
        let interface = InterfaceIndex::new(7);
        assert_eq!(endpoint(address("fe80::1"), 3784, interface).to_string(), "[fe80::1%7]:3784");
        assert_eq!(endpoint(address("2001:db8::1"), 3784, interface).to_string(), "[2001:db8::1]:3784");
        assert_eq!(endpoint(address("192.0.2.1"), 4784, interface).to_string(), "192.0.2.1:4784");
    }
}
