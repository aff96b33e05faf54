//! UDP in IPv4 and IPv6, for echo packets: they go to ourselves, so no ordinary socket can send or receive them.
//!
//! Extension headers of IPv6 and fragments are not understood: neither is ever put around a packet this small.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use super::ECHO_LEN;

/// The UDP port of echo packets (RFC 5881 section 4).
pub const ECHO_PORT: u16 = 3785;
/// What an echo packet is sent with. Its return has one less, from a router that counts itself.
const TTL: u8 = 255;

const UDP: u8 = 17;
const UDP_HEADER_LEN: usize = 8;
/// The length field of an echo packet's UDP header.
const UDP_LEN: u16 = 28;
const _: () = assert!(UDP_LEN as usize == UDP_HEADER_LEN + ECHO_LEN);
const IPV4_HEADER_LEN: usize = 20;
const IPV6_HEADER_LEN: usize = 40;
/// Precedence "internetwork control", as for BGP.
const TRAFFIC_CLASS: u8 = 0xc0;

/// A UDP datagram from its IP header on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Datagram<'a> {
    /// Source address.
    pub source: IpAddr,
    /// Destination address.
    pub destination: IpAddr,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Destination port.
    pub port: u16,
    /// What is in it.
    pub payload: &'a [u8],
}

impl<'a> Datagram<'a> {
    /// Reads a datagram from its IP header on; `None` if it is something else. Checksums are not looked at: what is in an
    /// echo packet has a tag.
    pub fn decode(bytes: &'a [u8]) -> Option<Datagram<'a>> {
        let (source, destination, ttl, udp) = match bytes.first()? >> 4 {
            4 => ipv4_decode(bytes)?,
            6 => ipv6_decode(bytes)?,
            _ => return None,
        };
        let port = u16::from_be_bytes(*udp.get(2..)?.first_chunk()?);
        let length = u16::from_be_bytes(*udp.get(4..)?.first_chunk()?);
        let payload = udp.get(UDP_HEADER_LEN..usize::from(length))?;
        Some(Datagram { source, destination, ttl, port, payload })
    }
}

type Headers<'a> = (IpAddr, IpAddr, u8, &'a [u8]);

fn ipv4_decode(bytes: &[u8]) -> Option<Headers<'_>> {
    let header: &[u8; IPV4_HEADER_LEN] = bytes.first_chunk()?;
    let header_len = usize::from(header[0] & 0x0f).saturating_mul(4);
    let total_len = usize::from(u16::from_be_bytes([header[2], header[3]]));
    let is_fragment = u16::from_be_bytes([header[6], header[7]]) & 0x3fff != 0;
    if header_len < IPV4_HEADER_LEN || is_fragment || header[9] != UDP {
        return None;
    }
    let address = |at: usize| Some(IpAddr::V4(Ipv4Addr::from(*header.get(at..)?.first_chunk::<4>()?)));
    Some((address(12)?, address(16)?, header[8], bytes.get(header_len..total_len)?))
}

fn ipv6_decode(bytes: &[u8]) -> Option<Headers<'_>> {
    let header: &[u8; IPV6_HEADER_LEN] = bytes.first_chunk()?;
    let payload_len = usize::from(u16::from_be_bytes([header[4], header[5]]));
    if header[6] != UDP {
        return None;
    }
    let address = |at: usize| Some(IpAddr::V6(Ipv6Addr::from(*header.get(at..)?.first_chunk::<16>()?)));
    Some((address(8)?, address(24)?, header[7], bytes.get(IPV6_HEADER_LEN..)?.get(..payload_len)?))
}

/// An echo packet as it is handed to the link: from our address to our address, so that the neighbour forwards it back
/// (RFC 5881 section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EchoDatagram {
    bytes: [u8; IPV6_HEADER_LEN + UDP_HEADER_LEN + ECHO_LEN],
    length: usize,
}

impl EchoDatagram {
    /// The echo packet `payload` of a session whose address on our side is `local`.
    pub fn new(local: IpAddr, payload: &[u8; ECHO_LEN]) -> Self {
        let mut datagram = EchoDatagram { bytes: [0; IPV6_HEADER_LEN + UDP_HEADER_LEN + ECHO_LEN], length: 0 };
        let udp = udp_encode(local, payload);
        match local {
            IpAddr::V4(local) => datagram.append(&ipv4_header(local)),
            IpAddr::V6(local) => datagram.append(&ipv6_header(local)),
        }
        datagram.append(&udp);
        datagram
    }

    /// The bytes from the IP header on.
    pub fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }

    fn append(&mut self, part: &[u8]) {
        let free = self.bytes.iter_mut().skip(self.length);
        for (to, from) in free.zip(part) {
            *to = *from;
        }
        self.length = self.length.saturating_add(part.len());
    }
}

fn udp_encode(local: IpAddr, payload: &[u8; ECHO_LEN]) -> [u8; UDP_HEADER_LEN + ECHO_LEN] {
    let mut udp = [0; UDP_HEADER_LEN + ECHO_LEN];
    let [port_high, port_low] = ECHO_PORT.to_be_bytes();
    let [length_high, length_low] = UDP_LEN.to_be_bytes();
    let header = [port_high, port_low, port_high, port_low, length_high, length_low];
    for (to, from) in udp.iter_mut().zip(header) {
        *to = from;
    }
    for (to, from) in udp.iter_mut().skip(UDP_HEADER_LEN).zip(payload) {
        *to = *from;
    }
    // The pseudo-header: both addresses, the protocol, the length.
    let addresses = match local {
        IpAddr::V4(local) => words(&local.octets()),
        IpAddr::V6(local) => words(&local.octets()),
    };
    let pseudo = addresses.saturating_mul(2).saturating_add(u64::from(UDP)).saturating_add(u64::from(UDP_LEN));
    // A sum of zero is sent as all ones, for zero says that there is none (RFC 768).
    let checksum = match checksum(pseudo.saturating_add(words(&udp))) {
        0 => u16::MAX,
        checksum => checksum,
    };
    [udp[6], udp[7]] = checksum.to_be_bytes();
    udp
}

fn ipv4_header(local: Ipv4Addr) -> [u8; IPV4_HEADER_LEN] {
    const LENGTH: u16 = UDP_LEN + 20;
    const _: () = assert!(LENGTH as usize == UDP_LEN as usize + IPV4_HEADER_LEN);
    let length = LENGTH.to_be_bytes();
    let [a, b, c, d] = local.octets();
    let mut header = [
        0x45,
        TRAFFIC_CLASS,
        length[0],
        length[1], //
        0,
        0,
        0x40,
        0, // not to be fragmented
        TTL,
        UDP,
        0,
        0, //
        a,
        b,
        c,
        d, //
        a,
        b,
        c,
        d,
    ];
    [header[10], header[11]] = checksum(words(&header)).to_be_bytes();
    header
}

fn ipv6_header(local: Ipv6Addr) -> [u8; IPV6_HEADER_LEN] {
    let length = UDP_LEN.to_be_bytes();
    let begin = [0x60 | (TRAFFIC_CLASS >> 4), TRAFFIC_CLASS << 4, 0, 0, length[0], length[1], UDP, TTL];
    let mut header = [0; IPV6_HEADER_LEN];
    let content = begin.into_iter().chain(local.octets()).chain(local.octets());
    for (to, from) in header.iter_mut().zip(content) {
        *to = from;
    }
    header
}

/// The sum of the big-endian 16-bit words.
fn words(bytes: &[u8]) -> u64 {
    let (pairs, rest) = bytes.as_chunks::<2>();
    let last = rest.first().map_or(0, |byte| u64::from(*byte) << 8);
    pairs.iter().fold(last, |sum, pair| sum.saturating_add(u64::from(u16::from_be_bytes(*pair))))
}

/// The Internet checksum of a sum of words (RFC 1071).
fn checksum(mut sum: u64) -> u16 {
    loop {
        match u16::try_from(sum) {
            Ok(folded) => return !folded,
            Err(_) => sum = (sum & 0xffff).saturating_add(sum >> 16),
        }
    }
}
