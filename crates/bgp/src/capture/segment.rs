//! The made-up headers of IP (RFC 791, 8200) and TCP (RFC 9293) around a piece of a connection.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

pub(super) const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
pub(super) const RESET: u8 = 0x04;
pub(super) const PUSH: u8 = 0x08;
pub(super) const ACK: u8 = 0x10;

const PROTOCOL_TCP: u8 = 6;
const TTL: u8 = 255;
const IPV4_HEADER_LEN: usize = 20;
const TCP_HEADER_LEN: usize = 20;

/// A packet from one end of a connection to the other.
pub(super) struct Segment<'a> {
    pub(super) source: SocketAddr,
    pub(super) destination: SocketAddr,
    pub(super) sequence: u32,
    pub(super) acknowledged: u32,
    pub(super) flags: u8,
    pub(super) payload: &'a [u8],
}

impl Segment<'_> {
    /// The packet from the header of IP on. Checksums are right, so that no reader complains.
    pub(super) fn encode(&self) -> Vec<u8> {
        let length = self.payload.len().saturating_add(TCP_HEADER_LEN);
        match (self.source.ip().to_canonical(), self.destination.ip().to_canonical()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let addresses = [source.octets(), destination.octets()].concat();
                let [high, low] = short(length.saturating_add(IPV4_HEADER_LEN)).to_be_bytes();
                let mut header = vec![0x45, 0, high, low, 0, 0, 0x40, 0, TTL, PROTOCOL_TCP];
                let [high, low] = checksum([header.as_slice(), &addresses]).to_be_bytes();
                header.extend_from_slice(&[high, low]);
                header.extend_from_slice(&addresses);
                self.tcp(&addresses, header)
            }
            (source, destination) => {
                let addresses = [mapped(source).octets(), mapped(destination).octets()].concat();
                let [high, low] = short(length).to_be_bytes();
                let mut header = vec![0x60, 0, 0, 0, high, low, PROTOCOL_TCP, TTL];
                header.extend_from_slice(&addresses);
                self.tcp(&addresses, header)
            }
        }
    }

    /// Appends the header of TCP and the payload.
    fn tcp(&self, addresses: &[u8], mut packet: Vec<u8>) -> Vec<u8> {
        let mut before = Vec::with_capacity(TCP_HEADER_LEN);
        before.extend_from_slice(&self.source.port().to_be_bytes());
        before.extend_from_slice(&self.destination.port().to_be_bytes());
        before.extend_from_slice(&self.sequence.to_be_bytes());
        before.extend_from_slice(&self.acknowledged.to_be_bytes());
        // Five words of header; the window is as large as it can be without options.
        before.extend_from_slice(&[0x50, self.flags, 0xff, 0xff]);
        let length = short(self.payload.len().saturating_add(TCP_HEADER_LEN));
        let pseudo = [length.to_be_bytes(), [0, PROTOCOL_TCP]].concat();
        let sum = checksum([addresses, &pseudo, &before, self.payload]);
        packet.extend_from_slice(&before);
        packet.extend_from_slice(&sum.to_be_bytes());
        // No urgent data.
        packet.extend_from_slice(&[0, 0]);
        packet.extend_from_slice(self.payload);
        packet
    }
}

fn mapped(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

/// Payloads are cut long before that.
fn short(length: usize) -> u16 {
    u16::try_from(length).unwrap_or(u16::MAX)
}

/// The checksum of the Internet (RFC 1071) over parts of which all but the last have an even length.
fn checksum<const N: usize>(parts: [&[u8]; N]) -> u16 {
    let words = parts.iter().flat_map(|part| part.chunks(2));
    let word = |pair: &[u8]| match pair {
        [high, low] => u64::from(u16::from_be_bytes([*high, *low])),
        [high] => u64::from(u16::from_be_bytes([*high, 0])),
        _ => 0,
    };
    let mut sum = words.map(word).fold(0, u64::wrapping_add);
    while sum > 0xffff {
        sum = (sum & 0xffff).wrapping_add(sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}
