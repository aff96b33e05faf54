//! Bytes to frames and back: Ethernet with ARP (RFC 826) or with Neighbor Solicitations and Advertisements (RFC 4861).
//!
//! Decoding is total and does not allocate. It is also the validation: of the rules of RFC 4861 sections 7.1.1 and 7.1.2
//! each is a variant of [`Discard`], so that a [`Frame`] is a frame to believe. Whether it concerns us is not decided here.
//!
//! Not understood, on purpose: VLAN tags (the kernel strips those of the interface's own VLAN), IPv6 extension headers
//! (no host puts them before Neighbor Discovery, and RFC 6980 forbids the one that would matter), everything else.

pub mod arp;
mod checksum;
mod ethernet;
pub mod ndp;

use std::fmt;

use kit::Mac;

pub use arp::Arp;
pub use ndp::Ndp;

/// An Ethernet frame with a payload that is understood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Frame {
    /// Where it comes from.
    pub source: Mac,
    /// Where it goes to.
    pub destination: Mac,
    /// What is in it.
    pub payload: Payload,
}

/// What a frame carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Payload {
    /// EtherType 0x0806.
    Arp(Arp),
    /// EtherType 0x86dd, next header 58.
    Ndp(Ndp),
}

/// Why the bytes are not a frame to believe. All are discarded in silence, as the RFCs want.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Discard {
    /// Not even an Ethernet header.
    #[error("the frame is shorter than an Ethernet header")]
    EthernetTruncated,
    /// Neither ARP nor IPv6; 0x8100 is a VLAN tag.
    #[error("EtherType {0:#06x} is neither ARP nor IPv6")]
    EtherType(u16),
    /// Shorter than ARP for Ethernet and IPv4.
    #[error("the ARP packet is truncated")]
    ArpTruncated,
    /// The hardware or protocol type, or one of the address lengths, is not that of Ethernet and IPv4.
    #[error("the ARP packet is not about Ethernet and IPv4")]
    ArpKind,
    /// Neither request nor reply.
    #[error("ARP operation {0} is neither request nor reply")]
    ArpOperation(u16),
    /// Shorter than an IPv6 header, or than its payload length says.
    #[error("the IPv6 packet is truncated")]
    Ipv6Truncated,
    /// The version is not 6.
    #[error("IP version {0} under the EtherType of IPv6")]
    Ipv6Version(u8),
    /// Another protocol, or an extension header.
    #[error("next header {0} is not ICMPv6")]
    NextHeader(u8),
    /// Another ICMPv6 message.
    #[error("ICMPv6 type {0} is neither solicitation nor advertisement")]
    IcmpType(u8),
    /// RFC 4861 7.1.1, 7.1.2: it may have been forwarded by a router.
    #[error("hop limit {0} instead of 255")]
    HopLimit(u8),
    /// RFC 4861 7.1.1, 7.1.2.
    #[error("wrong ICMPv6 checksum")]
    Checksum,
    /// RFC 4861 7.1.1, 7.1.2.
    #[error("ICMPv6 code {0} instead of 0")]
    Code(u8),
    /// RFC 4861 7.1.1, 7.1.2.
    #[error("ICMPv6 message of {0} bytes instead of at least 24")]
    NdpTruncated(usize),
    /// RFC 4861 7.1.1, 7.1.2.
    #[error("the target is a multicast address")]
    TargetMulticast,
    /// RFC 4861 7.1.1, 7.1.2.
    #[error("an option has length 0")]
    OptionLengthZero,
    /// An option reaches beyond the message.
    #[error("an option is truncated")]
    OptionTruncated,
    /// RFC 2464 section 6: a link-layer address option is 8 bytes long on Ethernet.
    #[error("a link-layer address option of {0} bytes instead of 8")]
    LinkLayerOptionLength(usize),
    /// RFC 4861 7.1.1.
    #[error("unspecified source, but the destination is not a solicited-node address")]
    ProbeDestination,
    /// RFC 4861 7.1.1.
    #[error("unspecified source, but a source link-layer address option")]
    ProbeWithLinkLayer,
    /// RFC 4291 section 2.7: a multicast address is never a source.
    #[error("the source is a multicast address")]
    SourceMulticast,
    /// RFC 4861 7.1.2.
    #[error("solicited advertisement to a multicast address")]
    SolicitedToMulticast,
}

impl Discard {
    /// False for frames that may be right, but are of another kind than those that are understood here.
    pub const fn is_malformed(self) -> bool {
        !matches!(
            self,
            Discard::EtherType(_)
                | Discard::ArpKind
                | Discard::ArpOperation(_)
                | Discard::NextHeader(_)
                | Discard::IcmpType(_)
        )
    }
}

impl Frame {
    /// Reads a frame from the Ethernet header on. Padding at the end is allowed.
    pub fn decode(bytes: &[u8]) -> Result<Frame, Discard> {
        let header = ethernet::Header::decode(bytes)?;
        let payload = match header.ether_type {
            ethernet::ARP => Payload::Arp(Arp::decode(header.payload)?),
            ethernet::IPV6 => Payload::Ndp(Ndp::decode(header.payload)?),
            other => return Err(Discard::EtherType(other)),
        };
        Ok(Frame { source: header.source, destination: header.destination, payload })
    }

    /// Writes the frame from the Ethernet header on, without padding (the NIC does that).
    pub fn encode(&self) -> Vec<u8> {
        let (ether_type, payload) = match &self.payload {
            Payload::Arp(arp) => (ethernet::ARP, arp.encode()),
            Payload::Ndp(ndp) => (ethernet::IPV6, ndp.encode()),
        };
        ethernet::encode(self.destination, self.source, ether_type, &payload)
    }
}

/// Like tcpdump. An ARP address inside the packet is shown where it differs from what the Ethernet header suggests.
impl fmt::Display for Frame {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ", self.source, self.destination)?;
        match &self.payload {
            Payload::Arp(arp) => arp.describe(f, self.source, self.destination),
            Payload::Ndp(ndp) => ndp.fmt(f),
        }
    }
}

/// The `N` bytes that begin `offset` bytes into `bytes`.
fn array<const N: usize>(bytes: &[u8], offset: usize) -> Option<[u8; N]> {
    bytes.get(offset..)?.first_chunk().copied()
}

/// The byte that lies `offset` bytes into `bytes`.
fn byte(bytes: &[u8], offset: usize) -> Option<u8> {
    bytes.get(offset).copied()
}

/// Entry point for a fuzzer: what can be decoded must survive a round trip.
///
/// # Panics
///
/// When it does not.
pub fn fuzz_frame(bytes: &[u8]) {
    if let Ok(frame) = Frame::decode(bytes) {
        let again = Frame::decode(&frame.encode());
        assert_eq!(again, Ok(frame), "decoded, encoded and decoded again");
    }
}
