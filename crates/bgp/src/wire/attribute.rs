//! Path attributes: their types and values, read one by one and written all together (RFC 4271 section 4.3).
//!
//! Here is what a value says. Which attributes a route needs, and what a wrong one costs, is in `validate.rs`.

use std::collections::BTreeSet;
use std::fmt;
use std::net::Ipv4Addr;

use kit::{Asn, Community, ExtendedCommunity};

use super::error::Fault;
use super::multiprotocol;
use super::reader::Reader;
use super::{AsPath, AsnSize};

/// LOCAL_PREF of a route that has none of its own: RFC 4271 demands one towards internal peers, and 100 is what
/// routers assume. This is our decision on contract 12.1 D31.
pub const LOCAL_PREF_DEFAULT: u32 = 100;

/// The attribute is optional: a speaker may not know it.
pub(super) const FLAG_OPTIONAL: u8 = 0x80;
/// The attribute is passed on by those who do not know it.
pub(super) const FLAG_TRANSITIVE: u8 = 0x40;
/// The length takes two bytes.
pub(super) const FLAG_EXTENDED_LENGTH: u8 = 0x10;

/// The type of an attribute. Any may arrive; those that are read here have a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AttributeType(pub u8);

impl AttributeType {
    /// RFC 4271 section 5.1.1.
    pub const ORIGIN: AttributeType = AttributeType(1);
    /// RFC 4271 section 5.1.2.
    pub const AS_PATH: AttributeType = AttributeType(2);
    /// RFC 4271 section 5.1.3.
    pub const NEXT_HOP: AttributeType = AttributeType(3);
    /// RFC 4271 section 5.1.4.
    pub const MULTI_EXIT_DISC: AttributeType = AttributeType(4);
    /// RFC 4271 section 5.1.5.
    pub const LOCAL_PREF: AttributeType = AttributeType(5);
    /// RFC 4271 section 5.1.6.
    pub const ATOMIC_AGGREGATE: AttributeType = AttributeType(6);
    /// RFC 4271 section 5.1.7.
    pub const AGGREGATOR: AttributeType = AttributeType(7);
    /// RFC 1997.
    pub const COMMUNITIES: AttributeType = AttributeType(8);
    /// RFC 4456.
    pub const ORIGINATOR_ID: AttributeType = AttributeType(9);
    /// RFC 4456.
    pub const CLUSTER_LIST: AttributeType = AttributeType(10);
    /// RFC 4760.
    pub const MP_REACH_NLRI: AttributeType = AttributeType(14);
    /// RFC 4760.
    pub const MP_UNREACH_NLRI: AttributeType = AttributeType(15);
    /// RFC 4360.
    pub const EXTENDED_COMMUNITIES: AttributeType = AttributeType(16);
    /// RFC 6793.
    pub const AS4_PATH: AttributeType = AttributeType(17);
    /// RFC 6793.
    pub const AS4_AGGREGATOR: AttributeType = AttributeType(18);
    /// RFC 5701.
    pub const IPV6_EXTENDED_COMMUNITIES: AttributeType = AttributeType(25);
    /// RFC 8092.
    pub const LARGE_COMMUNITY: AttributeType = AttributeType(32);

    /// The name, and the Optional and Transitive flags, that its RFC gives it; `None` for one that is not read here.
    pub(super) fn known(self) -> Option<(&'static str, u8)> {
        const WELL_KNOWN: u8 = FLAG_TRANSITIVE;
        const NON_TRANSITIVE: u8 = FLAG_OPTIONAL;
        const TRANSITIVE: u8 = FLAG_OPTIONAL | FLAG_TRANSITIVE;
        Some(match self {
            AttributeType::ORIGIN => ("ORIGIN", WELL_KNOWN),
            AttributeType::AS_PATH => ("AS_PATH", WELL_KNOWN),
            AttributeType::NEXT_HOP => ("NEXT_HOP", WELL_KNOWN),
            AttributeType::MULTI_EXIT_DISC => ("MULTI_EXIT_DISC", NON_TRANSITIVE),
            AttributeType::LOCAL_PREF => ("LOCAL_PREF", WELL_KNOWN),
            AttributeType::ATOMIC_AGGREGATE => ("ATOMIC_AGGREGATE", WELL_KNOWN),
            AttributeType::AGGREGATOR => ("AGGREGATOR", TRANSITIVE),
            AttributeType::COMMUNITIES => ("COMMUNITIES", TRANSITIVE),
            AttributeType::ORIGINATOR_ID => ("ORIGINATOR_ID", NON_TRANSITIVE),
            AttributeType::CLUSTER_LIST => ("CLUSTER_LIST", NON_TRANSITIVE),
            AttributeType::MP_REACH_NLRI => ("MP_REACH_NLRI", NON_TRANSITIVE),
            AttributeType::MP_UNREACH_NLRI => ("MP_UNREACH_NLRI", NON_TRANSITIVE),
            AttributeType::EXTENDED_COMMUNITIES => ("EXTENDED_COMMUNITIES", TRANSITIVE),
            AttributeType::AS4_PATH => ("AS4_PATH", TRANSITIVE),
            AttributeType::AS4_AGGREGATOR => ("AS4_AGGREGATOR", TRANSITIVE),
            AttributeType::IPV6_EXTENDED_COMMUNITIES => ("IPV6_EXTENDED_COMMUNITIES", TRANSITIVE),
            AttributeType::LARGE_COMMUNITY => ("LARGE_COMMUNITY", TRANSITIVE),
            _ => return None,
        })
    }

    /// The name for messages.
    pub fn name(self) -> &'static str {
        self.known().map_or("unknown attribute", |(name, _)| name)
    }
}

impl fmt::Display for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.known() {
            Some((name, _)) => f.write_str(name),
            None => write!(f, "attribute {}", self.0),
        }
    }
}

impl fmt::Debug for AttributeType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// How a route came into BGP (RFC 4271 section 5.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// From inside its AS.
    #[default]
    Igp = 0,
    /// From the protocol of RFC 904.
    Egp = 1,
    /// Some other way.
    Incomplete = 2,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Origin::Igp => "IGP",
            Origin::Egp => "EGP",
            Origin::Incomplete => "incomplete",
        })
    }
}

/// Who formed an aggregate (RFC 4271 section 5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub address: Ipv4Addr,
}

/// The attributes of a route, without its next hop, as far as they are understood here.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, with the numbers of AS4_PATH in place.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub multi_exit_disc: Option<u32>,
    /// LOCAL_PREF; from internal peers only.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE is present.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, with the number of AS4_AGGREGATOR in place.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES and LARGE_COMMUNITY.
    pub communities: BTreeSet<Community>,
    /// EXTENDED_COMMUNITIES.
    pub extended_communities: BTreeSet<ExtendedCommunity>,
}

impl PathAttributes {
    /// Appends all attributes in the order of their types; NEXT_HOP among them if it is given.
    pub(super) fn encode(&self, next_hop: Option<Ipv4Addr>, size: AsnSize, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        write(AttributeType::ORIGIN, &[self.origin as u8], out);
        self.as_path.encode(size, &mut value);
        write(AttributeType::AS_PATH, &value, out);
        if let Some(next_hop) = next_hop {
            write(AttributeType::NEXT_HOP, &next_hop.octets(), out);
        }
        if let Some(med) = self.multi_exit_disc {
            write(AttributeType::MULTI_EXIT_DISC, &med.to_be_bytes(), out);
        }
        if let Some(local_pref) = self.local_pref {
            write(AttributeType::LOCAL_PREF, &local_pref.to_be_bytes(), out);
        }
        if self.atomic_aggregate {
            write(AttributeType::ATOMIC_AGGREGATE, &[], out);
        }
        if let Some(aggregator) = &self.aggregator {
            write(AttributeType::AGGREGATOR, &aggregator.encoded(size), out);
        }
        self.communities_encode(out);
        if size == AsnSize::Two {
            self.four_byte_attributes_encode(out);
        }
        let large: Vec<u8> = self.communities.iter().filter_map(large_bytes).flatten().collect();
        write_unless_empty(AttributeType::LARGE_COMMUNITY, &large, out);
    }

    fn communities_encode(&self, out: &mut Vec<u8>) {
        let standard: Vec<u8> = self.communities.iter().filter_map(standard_bytes).flatten().collect();
        write_unless_empty(AttributeType::COMMUNITIES, &standard, out);
        let extended: Vec<u8> = self.extended_communities.iter().flat_map(|community| community.0).collect();
        write_unless_empty(AttributeType::EXTENDED_COMMUNITIES, &extended, out);
    }

    /// What a peer without 4-byte AS numbers passes on to those with them (RFC 6793 section 4.2.2): only what it
    /// could not read itself.
    fn four_byte_attributes_encode(&self, out: &mut Vec<u8>) {
        if !self.as_path.fits_two_bytes() {
            let mut value = Vec::new();
            self.as_path.without_confederations().encode(AsnSize::Four, &mut value);
            write(AttributeType::AS4_PATH, &value, out);
        }
        if let Some(aggregator) = self.aggregator.filter(|aggregator| aggregator.asn.as_two_bytes().is_none()) {
            write(AttributeType::AS4_AGGREGATOR, &aggregator.encoded(AsnSize::Four), out);
        }
    }
}

impl Aggregator {
    fn encoded(self, size: AsnSize) -> Vec<u8> {
        let mut value = Vec::new();
        size.write(self.asn, &mut value);
        value.extend_from_slice(&self.address.octets());
        value
    }
}

fn standard_bytes(community: &Community) -> Option<[u8; 4]> {
    match community {
        Community::Standard(value) => Some(value.to_be_bytes()),
        Community::Large(..) => None,
    }
}

fn large_bytes(community: &Community) -> Option<Vec<u8>> {
    match community {
        Community::Standard(_) => None,
        Community::Large(a, b, c) => Some([a, b, c].into_iter().flat_map(|part| part.to_be_bytes()).collect()),
    }
}

/// Appends an attribute with the flags that its RFC gives it.
pub(super) fn write(kind: AttributeType, value: &[u8], out: &mut Vec<u8>) {
    let flags = kind.known().map_or(FLAG_OPTIONAL, |(_, flags)| flags);
    if let Ok(length) = u8::try_from(value.len()) {
        out.extend_from_slice(&[flags, kind.0, length]);
    } else {
        out.extend_from_slice(&[flags | FLAG_EXTENDED_LENGTH, kind.0]);
        out.extend_from_slice(&u16::try_from(value.len()).unwrap_or(u16::MAX).to_be_bytes());
    }
    out.extend_from_slice(value);
}

fn write_unless_empty(kind: AttributeType, value: &[u8], out: &mut Vec<u8>) {
    if !value.is_empty() {
        write(kind, value, out);
    }
}

/// An attribute as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RawAttribute<'a> {
    /// The flags, all eight bits.
    pub flags: u8,
    /// The type.
    pub kind: AttributeType,
    /// Where the value begins in the message.
    pub value_offset: usize,
    /// The value.
    pub value: &'a [u8],
    /// Flags, type, length and value: what a NOTIFICATION returns.
    pub whole: &'a [u8],
}

impl<'a> RawAttribute<'a> {
    /// A reader of the value.
    pub(super) fn reader(&self) -> Reader<'a> {
        Reader::new(self.value, self.value_offset)
    }

    /// The value as a number of 4 bytes.
    pub(super) fn number(&self) -> Result<u32, Fault> {
        self.array().map(u32::from_be_bytes)
    }

    /// The value as exactly `N` bytes.
    pub(super) fn array<const N: usize>(&self) -> Result<[u8; N], Fault> {
        let length = self.value.len();
        self.value.try_into().map_err(|_| self.fault(format!("the length is {length}, not {N}")))
    }

    /// The value as items of `N` bytes, at least one (RFC 7606 sections 7.8 and 7.14, RFC 8092 section 6).
    pub(super) fn items<const N: usize>(&self) -> Result<&'a [[u8; N]], Fault> {
        match self.value.as_chunks::<N>() {
            (items @ [_, ..], []) => Ok(items),
            _ => Err(self.fault(format!("the length {} is not a multiple of {N} above 0", self.value.len()))),
        }
    }

    /// ORIGIN (RFC 7606 section 7.1).
    pub(super) fn origin(&self) -> Result<Origin, Fault> {
        let [value] = self.array::<1>()?;
        [Origin::Igp, Origin::Egp, Origin::Incomplete]
            .into_iter()
            .find(|origin| *origin as u8 == value)
            .ok_or_else(|| self.fault(format!("value {value} is undefined")))
    }

    /// AS_PATH or AS4_PATH.
    pub(super) fn as_path(&self, size: AsnSize) -> Result<AsPath, Fault> {
        AsPath::decode(&mut self.reader(), size)
    }

    /// AGGREGATOR or AS4_AGGREGATOR (RFC 7606 section 7.7; RFC 7607 section 2).
    pub(super) fn aggregator(&self, size: AsnSize) -> Result<Aggregator, Fault> {
        let mut reader = self.reader();
        let wanted = size.bytes().saturating_add(4);
        match (size.read(&mut reader), reader.array(), reader.is_empty()) {
            (Some(number), Some(address), true) => {
                let asn = Asn::new(number).ok_or_else(|| self.fault("AS 0 is not an AS"))?;
                Ok(Aggregator { asn, address: Ipv4Addr::from_octets(address) })
            }
            _ => Err(self.fault(format!("the length is {}, not {wanted}", self.value.len()))),
        }
    }

    /// COMMUNITIES (RFC 7606 section 7.8).
    pub(super) fn communities(&self) -> Result<impl Iterator<Item = Community> + use<'a>, Fault> {
        let items = self.items::<4>()?;
        Ok(items.iter().map(|item| Community::Standard(u32::from_be_bytes(*item))))
    }

    /// LARGE_COMMUNITY (RFC 8092 section 6 for its length); what is there twice counts once (section 3).
    pub(super) fn large_communities(&self) -> Result<impl Iterator<Item = Community> + use<'a>, Fault> {
        let items = self.items::<12>()?;
        Ok(items.iter().filter_map(|item| {
            let mut reader = Reader::new(item, 0);
            Some(Community::Large(reader.u32()?, reader.u32()?, reader.u32()?))
        }))
    }

    pub(super) fn fault(&self, problem: impl Into<String>) -> Fault {
        Fault::new(self.value_offset, problem)
    }

    /// Prints the value if it can be read, else its bytes.
    pub(super) fn format(&self, size: AsnSize, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.kind {
            AttributeType::ORIGIN => self.origin().map(|origin| origin.to_string()),
            AttributeType::AS_PATH => self.as_path(size).map(|path| path.to_string()),
            AttributeType::AS4_PATH => self.as_path(AsnSize::Four).map(|path| path.to_string()),
            AttributeType::NEXT_HOP | AttributeType::ORIGINATOR_ID => {
                self.number().map(|number| Ipv4Addr::from(number).to_string())
            }
            AttributeType::MULTI_EXIT_DISC | AttributeType::LOCAL_PREF => {
                self.number().map(|number| number.to_string())
            }
            AttributeType::AGGREGATOR => self.aggregator(size).map(|aggregator| aggregator.to_string()),
            AttributeType::AS4_AGGREGATOR => self.aggregator(AsnSize::Four).map(|aggregator| aggregator.to_string()),
            AttributeType::COMMUNITIES => self.communities().map(join),
            AttributeType::LARGE_COMMUNITY => self.large_communities().map(join),
            AttributeType::EXTENDED_COMMUNITIES => {
                self.items().map(|items| join(items.iter().map(|item| ExtendedCommunity(*item))))
            }
            AttributeType::MP_REACH_NLRI => multiprotocol::Reach::decode(self).map(|reach| reach.to_string()),
            AttributeType::MP_UNREACH_NLRI => multiprotocol::Unreach::decode(self).map(|unreach| unreach.to_string()),
            _ if self.value.is_empty() => Ok(String::new()),
            _ => Err(self.fault("")),
        };
        write!(f, "{}", self.kind)?;
        match text {
            Ok(text) if text.is_empty() => Ok(()),
            Ok(text) => write!(f, " {text}"),
            Err(_) => {
                f.write_str(" 0x")?;
                self.value.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
            }
        }
    }
}

fn join(items: impl Iterator<Item = impl fmt::Display>) -> String {
    items.map(|item| item.to_string()).collect::<Vec<_>>().join(" ")
}

impl fmt::Display for Aggregator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.asn, self.address)
    }
}

impl fmt::Display for PathAttributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "origin {}, path {}", self.origin, self.as_path)?;
        if let Some(med) = self.multi_exit_disc {
            write!(f, ", med {med}")?;
        }
        if let Some(local_pref) = self.local_pref {
            write!(f, ", local-pref {local_pref}")?;
        }
        if self.atomic_aggregate {
            f.write_str(", atomic")?;
        }
        if let Some(aggregator) = self.aggregator {
            write!(f, ", aggregator {aggregator}")?;
        }
        if !self.communities.is_empty() {
            write!(f, ", communities {}", join(self.communities.iter()))?;
        }
        if !self.extended_communities.is_empty() {
            write!(f, ", extended {}", join(self.extended_communities.iter()))?;
        }
        Ok(())
    }
}
