//! Neighbor Solicitation and Advertisement (RFC 4861 sections 4.3, 4.4, 4.6.1, 7.1.1, 7.1.2) in IPv6 over Ethernet
//! (RFC 2464).

use std::fmt;
use std::net::Ipv6Addr;

use kit::Mac;

use super::{Discard, array, byte, checksum};

/// Next header of ICMPv6.
pub(super) const ICMPV6: u8 = 58;
/// Every node on the link (RFC 4291 section 2.7.1).
pub const ALL_NODES: Ipv6Addr = Ipv6Addr::new(0xff02, 0, 0, 0, 0, 0, 0, 1);

const IPV6_HEADER_LENGTH: usize = 40;
const HOP_LIMIT: u8 = 255;
const NEIGHBOR_SOLICITATION: u8 = 135;
const NEIGHBOR_ADVERTISEMENT: u8 = 136;
const MESSAGE_LENGTH_MIN: usize = 24;
const SOURCE_LINK_LAYER: u8 = 1;
const TARGET_LINK_LAYER: u8 = 2;
/// Of a link-layer address option for Ethernet (RFC 2464 section 6).
const LINK_LAYER_OPTION_LENGTH: usize = 8;

const ROUTER: u8 = 0x80;
const SOLICITED: u8 = 0x40;
const OVERRIDE: u8 = 0x20;

/// The multicast group of those who may have this address (RFC 4291 section 2.7.1).
pub const fn solicited_node(address: Ipv6Addr) -> Ipv6Addr {
    let [.., a, b, c] = address.octets();
    Ipv6Addr::from_octets([0xff, 0x02, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0xff, a, b, c])
}

/// An IPv6 packet with a message of Neighbor Discovery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ndp {
    /// Source of the IPv6 packet; unspecified in a probe for duplicates (RFC 4862 section 5.4.2).
    pub source: Ipv6Addr,
    /// Destination of the IPv6 packet.
    pub destination: Ipv6Addr,
    /// What is said.
    pub message: Message,
}

/// A message of Neighbor Discovery, without the options that mean nothing in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Message {
    /// Who has the target?
    Solicitation {
        /// The address asked for.
        target: Ipv6Addr,
        /// From the source link-layer address option.
        source_mac: Option<Mac>,
    },
    /// I have the target.
    Advertisement {
        /// The address told about.
        target: Ipv6Addr,
        /// From the target link-layer address option.
        target_mac: Option<Mac>,
        /// The sender is a router.
        router: bool,
        /// This answers a solicitation.
        solicited: bool,
        /// What is known otherwise is to be replaced.
        overriding: bool,
    },
}

impl Ndp {
    pub(super) fn decode(bytes: &[u8]) -> Result<Ndp, Discard> {
        let header: &[u8; IPV6_HEADER_LENGTH] = bytes.first_chunk().ok_or(Discard::Ipv6Truncated)?;
        let [first, _, _, _, length_high, length_low, next_header, hop_limit, ..] = *header;
        let version = first >> 4;
        if version != 6 {
            return Err(Discard::Ipv6Version(version));
        }
        if next_header != ICMPV6 {
            return Err(Discard::NextHeader(next_header));
        }
        let length = usize::from(u16::from_be_bytes([length_high, length_low]));
        let message =
            bytes.get(IPV6_HEADER_LENGTH..).and_then(|rest| rest.get(..length)).ok_or(Discard::Ipv6Truncated)?;
        let address = |offset| array::<16>(header, offset).map(Ipv6Addr::from_octets).ok_or(Discard::Ipv6Truncated);
        let (source, destination) = (address(8)?, address(24)?);
        if source.is_multicast() {
            return Err(Discard::SourceMulticast);
        }
        let message = Message::decode(source, destination, hop_limit, message)?;
        Ok(Ndp { source, destination, message })
    }

    pub(super) fn encode(&self) -> Vec<u8> {
        let mut message = self.message.encode();
        let sum = checksum::icmpv6(self.source, self.destination, &message);
        if let Some(field) = message.get_mut(2..4) {
            field.copy_from_slice(&sum.to_be_bytes());
        }
        // A message of ours is 24 or 32 bytes long.
        let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
        let version_class_flow = [0x60, 0, 0, 0];
        [
            &version_class_flow[..],
            &length,
            &[ICMPV6, HOP_LIMIT],
            &self.source.octets(),
            &self.destination.octets(),
            &message,
        ]
        .concat()
    }
}

impl Message {
    /// RFC 4861 sections 7.1.1 and 7.1.2. What those do not name as a reason is none: the reserved field, unknown
    /// options, and known options without a meaning here are ignored.
    fn decode(source: Ipv6Addr, destination: Ipv6Addr, hop_limit: u8, bytes: &[u8]) -> Result<Message, Discard> {
        let truncated = Discard::NdpTruncated(bytes.len());
        let kind = byte(bytes, 0).ok_or(truncated)?;
        if !matches!(kind, NEIGHBOR_SOLICITATION | NEIGHBOR_ADVERTISEMENT) {
            return Err(Discard::IcmpType(kind));
        }
        if hop_limit != HOP_LIMIT {
            return Err(Discard::HopLimit(hop_limit));
        }
        if checksum::icmpv6(source, destination, bytes) != 0 {
            return Err(Discard::Checksum);
        }
        let fixed: &[u8; MESSAGE_LENGTH_MIN] = bytes.first_chunk().ok_or(truncated)?;
        let [_, code, _, _, flags, ..] = *fixed;
        if code != 0 {
            return Err(Discard::Code(code));
        }
        let target = array::<16>(fixed, 8).map(Ipv6Addr::from_octets).ok_or(truncated)?;
        if target.is_multicast() {
            return Err(Discard::TargetMulticast);
        }
        let options = bytes.get(MESSAGE_LENGTH_MIN..).unwrap_or_default();
        if kind == NEIGHBOR_SOLICITATION {
            let source_mac = link_layer_address(options, SOURCE_LINK_LAYER)?;
            if source.is_unspecified() && !is_solicited_node(destination) {
                return Err(Discard::ProbeDestination);
            }
            if source.is_unspecified() && source_mac.is_some() {
                return Err(Discard::ProbeWithLinkLayer);
            }
            return Ok(Message::Solicitation { target, source_mac });
        }
        let target_mac = link_layer_address(options, TARGET_LINK_LAYER)?;
        let solicited = flags & SOLICITED != 0;
        if solicited && destination.is_multicast() {
            return Err(Discard::SolicitedToMulticast);
        }
        let (router, overriding) = (flags & ROUTER != 0, flags & OVERRIDE != 0);
        Ok(Message::Advertisement { target, target_mac, router, solicited, overriding })
    }

    /// The message with a checksum of 0.
    fn encode(&self) -> Vec<u8> {
        let (kind, flags, target, option, mac) = match *self {
            Message::Solicitation { target, source_mac } => {
                (NEIGHBOR_SOLICITATION, 0, target, SOURCE_LINK_LAYER, source_mac)
            }
            Message::Advertisement { target, target_mac, router, solicited, overriding } => {
                let bit = |set: bool, bit: u8| if set { bit } else { 0 };
                let flags = bit(router, ROUTER) | bit(solicited, SOLICITED) | bit(overriding, OVERRIDE);
                (NEIGHBOR_ADVERTISEMENT, flags, target, TARGET_LINK_LAYER, target_mac)
            }
        };
        let mut bytes = vec![kind, 0, 0, 0, flags, 0, 0, 0];
        bytes.extend(target.octets());
        if let Some(mac) = mac {
            bytes.extend([option, 1]);
            bytes.extend(mac.0);
        }
        bytes
    }
}

/// Walks through all options, as RFC 4861 wants each to have a length, and returns the first of this type.
fn link_layer_address(mut options: &[u8], wanted: u8) -> Result<Option<Mac>, Discard> {
    let mut found = None;
    while let [kind, length, ..] = *options {
        if length == 0 {
            return Err(Discard::OptionLengthZero);
        }
        // In units of 8 bytes.
        let length = usize::from(length) << 3;
        let (option, rest) = options.split_at_checked(length).ok_or(Discard::OptionTruncated)?;
        if kind == wanted {
            if length != LINK_LAYER_OPTION_LENGTH {
                return Err(Discard::LinkLayerOptionLength(length));
            }
            found = found.or_else(|| array(option, 2).map(Mac));
        }
        options = rest;
    }
    if options.is_empty() { Ok(found) } else { Err(Discard::OptionTruncated) }
}

fn is_solicited_node(address: Ipv6Addr) -> bool {
    address == solicited_node(address)
}

impl fmt::Display for Ndp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} > {} ", self.source, self.destination)?;
        match self.message {
            Message::Solicitation { target, source_mac } => {
                write!(f, "neighbor solicitation who-has {target}")?;
                source_mac.map_or(Ok(()), |mac| write!(f, " source {mac}"))
            }
            Message::Advertisement { target, target_mac, router, solicited, overriding } => {
                write!(f, "neighbor advertisement {target}")?;
                if let Some(mac) = target_mac {
                    write!(f, " is-at {mac}")?;
                }
                let flags = [(router, "router"), (solicited, "solicited"), (overriding, "override")];
                let set: Vec<&str> = flags.into_iter().filter(|(set, _)| *set).map(|(_, name)| name).collect();
                write!(f, " flags [{}]", set.join(","))
            }
        }
    }
}
