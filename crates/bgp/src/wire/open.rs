//! OPEN: who a speaker is and what it can do (RFC 4271 section 4.2; RFC 5492, 6286, 6793, 7607, 9072).

use std::fmt;
use std::net::Ipv4Addr;

use kit::{Asn, HoldTime, RouterId};

use super::error::DecodeError;
use super::reader::Reader;
use super::{AsnSize, Capability, ErrorCode, HEADER_LEN, MessageType, header_encode};

/// The version of BGP that there is.
const VERSION: u8 = 4;

const PARAMETER_CAPABILITIES: u8 = 2;
/// As the first parameter's type: lengths of 2 bytes follow (RFC 9072 section 2).
const PARAMETER_EXTENDED: u8 = 255;

/// An OPEN as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    /// "My Autonomous System", AS_TRANS if it does not fit.
    pub my_as: u16,
    /// The hold time that is offered, in seconds.
    pub hold_time_secs: u16,
    /// The BGP identifier.
    pub identifier: u32,
    /// All capabilities, in order.
    pub capabilities: Vec<Capability>,
}

/// An OPEN that can be believed; whether it is the one that we want is another question.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ValidOpen {
    /// The sender's AS.
    pub asn: Asn,
    /// How the sender writes AS numbers, if we do so too.
    pub asn_size: AsnSize,
    /// What it offers.
    pub hold_time: HoldTime,
    /// Its BGP identifier.
    pub router_id: RouterId,
    /// What it can do.
    pub capabilities: Vec<Capability>,
}

impl Open {
    /// Our OPEN. The capability of 4-byte AS numbers is added to the others (RFC 6793 section 4.1).
    pub fn new(asn: Asn, hold_time: HoldTime, router_id: RouterId, mut capabilities: Vec<Capability>) -> Self {
        capabilities.push(Capability::FourOctetAs(asn.get()));
        Open {
            my_as: asn.as_two_bytes().unwrap_or(Asn::TRANS),
            hold_time_secs: hold_time.as_secs(),
            identifier: router_id.get(),
            capabilities,
        }
    }

    /// Our OPEN towards a peer that knows no capabilities (RFC 5492 section 3).
    pub fn plain(asn: Asn, hold_time: HoldTime, router_id: RouterId) -> Self {
        Open { capabilities: Vec::new(), ..Open::new(asn, hold_time, router_id, Vec::new()) }
    }

    /// Takes the body of a message.
    pub(super) fn decode(body: &[u8]) -> Result<Open, DecodeError> {
        let mut reader = Reader::new(body, HEADER_LEN);
        let version = reader.u8().ok_or_else(|| too_short(&reader))?;
        if version != VERSION {
            // RFC 4271 section 6.2: the data is the version that we do support.
            let problem = format!("version {version} is not 4");
            return Err(DecodeError::new(HEADER_LEN, "version", ErrorCode::UNSUPPORTED_VERSION, problem)
                .with_data(&u16::from(VERSION).to_be_bytes()));
        }
        let my_as = reader.u16().ok_or_else(|| too_short(&reader))?;
        let hold_time_secs = reader.u16().ok_or_else(|| too_short(&reader))?;
        let identifier = reader.u32().ok_or_else(|| too_short(&reader))?;
        let capabilities = parameters_decode(&mut reader)?;
        Ok(Open { my_as, hold_time_secs, identifier, capabilities })
    }

    /// Judges the fields by themselves.
    pub fn validate(self) -> Result<ValidOpen, DecodeError> {
        let four = self.capabilities.iter().find_map(|capability| match capability {
            Capability::FourOctetAs(asn) => Some(*asn),
            _ => None,
        });
        let (number, asn_size) = match four {
            Some(asn) => (asn, AsnSize::Four),
            None => (u32::from(self.my_as), AsnSize::Two),
        };
        // AS_TRANS is no AS (RFC 6793 section 9), 0 is none either (RFC 7607 section 2).
        let asn = Asn::new(number).filter(|asn| asn.get() != u32::from(Asn::TRANS)).ok_or_else(|| {
            DecodeError::new(20, "My Autonomous System", ErrorCode::BAD_PEER_AS, format!("AS {number} is reserved"))
                .with_data(&self.my_as.to_be_bytes())
        })?;
        let hold_time = HoldTime::from_secs(u64::from(self.hold_time_secs))
            .map_err(|error| DecodeError::new(22, "Hold Time", ErrorCode::UNACCEPTABLE_HOLD_TIME, error.to_string()))?;
        let router_id = RouterId::new(self.identifier).ok_or_else(|| {
            let problem = "0.0.0.0 is not an identifier";
            DecodeError::new(24, "BGP Identifier", ErrorCode::BAD_BGP_IDENTIFIER, problem)
        })?;
        Ok(ValidOpen { asn, asn_size, hold_time, router_id, capabilities: self.capabilities })
    }

    /// Appends the message: all capabilities in one parameter (RFC 5492 section 4), in the extended form if they
    /// need it (RFC 9072 section 2).
    pub fn encode(&self, out: &mut Vec<u8>) {
        let mut value = Vec::new();
        self.capabilities.iter().for_each(|capability| capability.encode(&mut value));
        let mut parameters = Vec::new();
        let parameter_len = value.len().saturating_add(2);
        if value.is_empty() {
            parameters.push(0);
        } else if let (Ok(total), Ok(length)) = (u8::try_from(parameter_len), u8::try_from(value.len())) {
            parameters.extend_from_slice(&[total, PARAMETER_CAPABILITIES, length]);
        } else {
            let length = u16::try_from(value.len()).unwrap_or(u16::MAX);
            parameters.extend_from_slice(&[u8::MAX, PARAMETER_EXTENDED]);
            parameters.extend_from_slice(&length.saturating_add(3).to_be_bytes());
            parameters.push(PARAMETER_CAPABILITIES);
            parameters.extend_from_slice(&length.to_be_bytes());
        }
        parameters.extend_from_slice(&value);
        header_encode(MessageType::Open, parameters.len().saturating_add(9), out);
        out.push(VERSION);
        out.extend_from_slice(&self.my_as.to_be_bytes());
        out.extend_from_slice(&self.hold_time_secs.to_be_bytes());
        out.extend_from_slice(&self.identifier.to_be_bytes());
        out.extend_from_slice(&parameters);
    }
}

fn too_short(reader: &Reader<'_>) -> DecodeError {
    DecodeError::new(reader.offset(), "OPEN", ErrorCode::OPEN_UNSPECIFIC, "the message ends too early")
}

/// Reads the optional parameters of both forms. The extended one may be used at any length, and then the length of
/// the other form means nothing but "not empty" (RFC 9072 section 2).
fn parameters_decode(reader: &mut Reader<'_>) -> Result<Vec<Capability>, DecodeError> {
    let malformed = |offset: usize, problem: &str| {
        DecodeError::new(offset, "Optional Parameters", ErrorCode::OPEN_UNSPECIFIC, problem)
    };
    let offset = reader.offset();
    let length = reader.u8().ok_or_else(|| too_short(reader))?;
    let mut ahead = *reader;
    let extended = length != 0 && ahead.u8() == Some(PARAMETER_EXTENDED);
    let length = if extended {
        *reader = ahead;
        reader.u16().ok_or_else(|| malformed(offset, "the extended length is missing"))?
    } else {
        u16::from(length)
    };
    if usize::from(length) != reader.remaining() {
        let problem = format!("{length} bytes are announced, {} are there", reader.remaining());
        return Err(malformed(offset, &problem));
    }
    let mut capabilities = Vec::new();
    while !reader.is_empty() {
        let offset = reader.offset();
        let kind = reader.u8();
        let length = if extended { reader.u16() } else { reader.u8().map(u16::from) };
        let value = length.and_then(|length| reader.take(usize::from(length)));
        let (Some(kind), Some(value)) = (kind, value) else {
            return Err(malformed(offset, "a parameter goes beyond the end"));
        };
        if kind != PARAMETER_CAPABILITIES {
            let problem = format!("parameter type {kind} is unknown");
            let code = ErrorCode::UNSUPPORTED_OPTIONAL_PARAMETER;
            return Err(DecodeError::new(offset, "Optional Parameters", code, problem));
        }
        Capability::decode_all(value, &mut capabilities)
            .ok_or_else(|| malformed(offset, "a capability goes beyond its parameter"))?;
    }
    Ok(capabilities)
}

impl fmt::Display for Open {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let identifier = Ipv4Addr::from(self.identifier);
        write!(f, "OPEN AS {}, hold {}s, id {identifier}, capabilities [", self.my_as, self.hold_time_secs)?;
        for (index, capability) in self.capabilities.iter().enumerate() {
            write!(f, "{}{capability}", if index == 0 { "" } else { ", " })?;
        }
        f.write_str("]")
    }
}
