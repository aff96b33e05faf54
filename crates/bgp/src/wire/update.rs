//! UPDATE: routes and their withdrawal, as sent (RFC 4271 section 4.3), and the packing of ours.

use std::fmt;

use ipnet::IpNet;
use kit::Family;

use super::attribute::{self, FLAG_EXTENDED_LENGTH, RawAttribute};
use super::error::DecodeError;
use super::multiprotocol::NextHop;
use super::reader::Reader;
use super::{
    AfiSafi, AsnSize, AttributeType, ErrorCode, HEADER_LEN, MESSAGE_MAX, MessageLimit, MessageType, PathAttributes,
    header_encode, prefix,
};

/// An UPDATE as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Update<'a> {
    /// How AS numbers are written in it.
    pub asn_size: AsnSize,
    /// IPv4 routes that are gone.
    pub withdrawn: Vec<IpNet>,
    /// The attributes, in order, up to where the list breaks off.
    pub attributes: Vec<RawAttribute<'a>>,
    /// Where the list breaks off before its end (RFC 7606 section 4); the routes behind it are known all the same.
    pub attributes_cut: Option<Cut>,
    /// IPv4 routes that are there.
    pub nlri: Vec<IpNet>,
}

impl<'a> Update<'a> {
    /// Takes the body of a message. An error here means that the routes are not known, so the session cannot go on
    /// (RFC 7606 section 3 (j)).
    pub(super) fn decode(body: &'a [u8], asn_size: AsnSize) -> Result<Update<'a>, DecodeError> {
        let mut reader = Reader::new(body, HEADER_LEN);
        let mut withdrawn = field(&mut reader, "Withdrawn Routes Length")?;
        let mut attribute_bytes = field(&mut reader, "Total Path Attribute Length")?;
        let network = |field, fault: super::error::Fault| {
            DecodeError::new(fault.offset, field, ErrorCode::INVALID_NETWORK_FIELD, fault.problem)
        };
        let withdrawn =
            prefix::decode_all(&mut withdrawn, Family::V4).map_err(|fault| network("Withdrawn Routes", fault))?;
        let nlri = prefix::decode_all(&mut reader, Family::V4)
            .map_err(|fault| network("Network Layer Reachability Information", fault))?;
        let mut attributes = Vec::new();
        let attributes_cut = attributes_decode(&mut attribute_bytes, &mut attributes).err();
        Ok(Update { asn_size, withdrawn, attributes, attributes_cut, nlri })
    }
}

/// Where a list of attributes breaks off.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cut {
    /// The attribute that is not whole; `None` when not even its type is there.
    pub kind: Option<AttributeType>,
    /// What is wrong.
    pub error: DecodeError,
}

/// A field that is preceded by its length of two bytes (RFC 4271 section 6.3: too large is a malformed list).
fn field<'a>(reader: &mut Reader<'a>, name: &'static str) -> Result<Reader<'a>, DecodeError> {
    let offset = reader.offset();
    let length = reader.u16();
    length.and_then(|length| reader.sub(usize::from(length))).ok_or_else(|| {
        let problem = match length {
            Some(length) => format!("{length} bytes are announced, {} are there", reader.remaining()),
            None => "the message ends too early".to_owned(),
        };
        DecodeError::new(offset, name, ErrorCode::MALFORMED_ATTRIBUTE_LIST, problem)
    })
}

/// Splits the list. RFC 7606 section 4: an attribute beyond the end, or a rest that is too short for one.
fn attributes_decode<'a>(reader: &mut Reader<'a>, out: &mut Vec<RawAttribute<'a>>) -> Result<(), Cut> {
    while !reader.is_empty() {
        let start = *reader;
        let cut = |kind, problem: &str| {
            let code = ErrorCode::MALFORMED_ATTRIBUTE_LIST;
            Cut { kind, error: DecodeError::new(start.offset(), "path attributes", code, problem) }
        };
        let rest = |kind| cut(kind, &format!("{} bytes are left, too few for an attribute", start.remaining()));
        let flags = reader.u8().ok_or_else(|| rest(None))?;
        let kind = AttributeType(reader.u8().ok_or_else(|| rest(None))?);
        let length = if flags & FLAG_EXTENDED_LENGTH == 0 {
            reader.u8().map(usize::from)
        } else {
            reader.u16().map(usize::from)
        };
        let length = length.ok_or_else(|| rest(Some(kind)))?;
        let value_offset = reader.offset();
        let left = reader.remaining();
        let beyond = || cut(Some(kind), &format!("{kind} of {length} bytes goes beyond the list, {left} are left"));
        let value = reader.take(length).ok_or_else(beyond)?;
        let whole_len = value_offset.saturating_sub(start.offset()).saturating_add(length);
        let whole = { start }.take(whole_len).unwrap_or(value);
        out.push(RawAttribute { flags, kind, value_offset, value, whole });
    }
    Ok(())
}

impl fmt::Display for Update<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("UPDATE")?;
        let is_empty = self.withdrawn.is_empty() && self.attributes.is_empty() && self.nlri.is_empty();
        if is_empty && self.attributes_cut.is_none() {
            // RFC 4724 section 2: End-of-RIB for IPv4.
            return f.write_str(" (empty)");
        }
        if !self.withdrawn.is_empty() {
            f.write_str(" withdraw")?;
            self.withdrawn.iter().try_for_each(|prefix| write!(f, " {prefix}"))?;
            f.write_str(";")?;
        }
        for attribute in &self.attributes {
            f.write_str(" ")?;
            attribute.format(self.asn_size, f)?;
            f.write_str(";")?;
        }
        if let Some(cut) = &self.attributes_cut {
            write!(f, " [{}];", cut.error)?;
        }
        if !self.nlri.is_empty() {
            f.write_str(" nlri")?;
            self.nlri.iter().try_for_each(|prefix| write!(f, " {prefix}"))?;
        }
        Ok(())
    }
}

/// What a message has besides its header: two lengths.
const FIXED_LEN: usize = HEADER_LEN + 4;

/// Writes UPDATEs for routes of one family that have all attributes in common.
#[derive(Clone, Debug)]
pub struct Announcer {
    /// For routes that go into MP_REACH_NLRI: what stands before them there.
    reach: Option<Vec<u8>>,
    attributes: Vec<u8>,
    limit: MessageLimit,
}

impl Announcer {
    /// IPv4 routes with an IPv4 next hop go into the message's own field, all others into MP_REACH_NLRI, the very
    /// first attribute (RFC 7606 section 5.1).
    pub fn new(
        family: Family,
        next_hop: NextHop,
        attributes: &PathAttributes,
        asn_size: AsnSize,
        limit: MessageLimit,
    ) -> Self {
        let mut bytes = Vec::new();
        let reach = if let (Family::V4, NextHop::V4(address)) = (family, next_hop) {
            attributes.encode(Some(address), asn_size, &mut bytes);
            None
        } else {
            attributes.encode(None, asn_size, &mut bytes);
            let next_hop = next_hop.encoded();
            let routes = AfiSafi::unicast(family);
            let mut reach = routes.afi.to_be_bytes().to_vec();
            reach.extend_from_slice(&[routes.safi, u8::try_from(next_hop.len()).unwrap_or(u8::MAX)]);
            reach.extend_from_slice(&next_hop);
            reach.push(0);
            Some(reach)
        };
        Announcer { reach, attributes: bytes, limit }
    }

    /// Appends one message with as many of the prefixes as fit, and returns the others. If it returns all of them,
    /// nothing was appended: not even one fits beside the attributes.
    ///
    /// RFC 8654 section 5 asks to be sparing with large messages: one goes out for a route that fits in no other.
    pub fn announce<'p>(&self, prefixes: &'p [IpNet], out: &mut Vec<u8>) -> &'p [IpNet] {
        let reach_len = self.reach.as_ref().map_or(0, |reach| reach.len().saturating_add(4));
        let used = FIXED_LEN.saturating_add(reach_len).saturating_add(self.attributes.len());
        let within = |limit: usize, prefixes| prefixes_encode(prefixes, limit.saturating_sub(used));
        let one = prefixes.get(..1).unwrap_or_default();
        let encoded = within(MESSAGE_MAX, prefixes).or_else(|| {
            let (nlri, _) = within(self.limit.bytes(), one)?;
            Some((nlri, prefixes.get(1..).unwrap_or_default()))
        });
        let Some((nlri, rest)) = encoded else { return prefixes };
        let mut attributes = Vec::new();
        let mut plain: &[u8] = &nlri;
        if let Some(reach) = &self.reach {
            attribute::write(AttributeType::MP_REACH_NLRI, &[reach, nlri.as_slice()].concat(), &mut attributes);
            plain = &[];
        }
        attributes.extend_from_slice(&self.attributes);
        update_encode(&[], &attributes, plain, out);
        rest
    }
}

/// Appends one message that withdraws as many of the prefixes as fit, all of one family, and returns the others.
pub fn withdraw<'p>(family: Family, prefixes: &'p [IpNet], out: &mut Vec<u8>) -> &'p [IpNet] {
    // The attribute's header of up to 4 bytes and its family take room only for IPv6; the difference is not worth it.
    let Some((nlri, rest)) = prefixes_encode(prefixes, MESSAGE_MAX.saturating_sub(FIXED_LEN).saturating_sub(7)) else {
        return prefixes;
    };
    match family {
        Family::V4 => update_encode(&nlri, &[], &[], out),
        Family::V6 => update_encode(&[], &unreach(family, &nlri), &[], out),
    }
    rest
}

/// Appends the End-of-RIB marker of a family (RFC 4724 section 2).
pub fn end_of_rib(family: Family, out: &mut Vec<u8>) {
    match family {
        Family::V4 => update_encode(&[], &[], &[], out),
        Family::V6 => update_encode(&[], &unreach(family, &[]), &[], out),
    }
}

fn unreach(family: Family, nlri: &[u8]) -> Vec<u8> {
    let routes = AfiSafi::unicast(family);
    let [high, low] = routes.afi.to_be_bytes();
    let mut attributes = Vec::new();
    attribute::write(AttributeType::MP_UNREACH_NLRI, &[&[high, low, routes.safi], nlri].concat(), &mut attributes);
    attributes
}

/// As many prefixes as `room` bytes hold; `None` if that is not even one.
fn prefixes_encode(prefixes: &[IpNet], room: usize) -> Option<(Vec<u8>, &[IpNet])> {
    let mut bytes = Vec::new();
    let mut rest = prefixes;
    while let [prefix, others @ ..] = rest {
        if bytes.len().saturating_add(prefix::encoded_len(prefix)) > room {
            break;
        }
        prefix::encode(prefix, &mut bytes);
        rest = others;
    }
    (rest.len() < prefixes.len()).then_some((bytes, rest))
}

fn update_encode(withdrawn: &[u8], attributes: &[u8], nlri: &[u8], out: &mut Vec<u8>) {
    let length = [withdrawn, attributes, nlri].iter().map(|part| part.len()).fold(4, usize::saturating_add);
    header_encode(MessageType::Update, length, out);
    for field in [withdrawn, attributes] {
        out.extend_from_slice(&u16::try_from(field.len()).unwrap_or(u16::MAX).to_be_bytes());
        out.extend_from_slice(field);
    }
    out.extend_from_slice(nlri);
}
