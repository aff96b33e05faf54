//! ROUTE-REFRESH: asks for all routes again, or marks begin and end of the answer (RFC 2918, RFC 7313).

use std::fmt;

use super::error::DecodeError;
use super::reader::Reader;
use super::{AfiSafi, ErrorCode, HEADER_LEN, MessageType, header_encode};

/// The length of the body that there should be.
const BODY_LEN: usize = 4;
/// Shorter messages do not even say what they are.
pub(super) const LENGTH_MIN: usize = HEADER_LEN + 3;

/// What a ROUTE-REFRESH is for (RFC 7313 section 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RefreshSubtype {
    /// Asks for all routes again.
    Request = 0,
    /// They begin (BoRR).
    Begin = 1,
    /// They have ended (EoRR).
    End = 2,
}

/// A ROUTE-REFRESH as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Which routes.
    pub routes: AfiSafi,
    /// The number of the subtype; see [`RefreshSubtype`].
    pub subtype: u8,
    /// The length of what follows the header.
    pub body_len: usize,
}

impl RouteRefresh {
    /// One of ours.
    pub fn new(routes: AfiSafi, subtype: RefreshSubtype) -> Self {
        RouteRefresh { routes, subtype: subtype as u8, body_len: BODY_LEN }
    }

    /// Takes the body of a message; any length from that of a subtype on is read.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body, 0);
        let (afi, subtype) = (reader.u16()?, reader.u8()?);
        let safi = reader.u8().unwrap_or_default();
        Some(RouteRefresh { routes: AfiSafi { afi, safi }, subtype, body_len: body.len() })
    }

    /// What it is for; `Ok(None)` for what is to be ignored (RFC 7313 section 5: a subtype that is not known).
    ///
    /// `message` is the whole of it. The error of RFC 7313 is for peers that know it; for others the length alone is
    /// wrong (RFC 4271 section 6.1).
    pub fn validate(&self, message: &[u8], knowledge: RefreshKnowledge) -> Result<Option<RefreshSubtype>, DecodeError> {
        let known = [RefreshSubtype::Request, RefreshSubtype::Begin, RefreshSubtype::End];
        let subtype = known.into_iter().find(|subtype| *subtype as u8 == self.subtype);
        let is_mark = matches!(subtype, Some(RefreshSubtype::Begin | RefreshSubtype::End));
        if self.body_len == BODY_LEN || (subtype.is_none() && knowledge == RefreshKnowledge::Enhanced) {
            return Ok(subtype);
        }
        let problem = format!("{} bytes instead of {BODY_LEN}", self.body_len);
        let error = |code| DecodeError::new(16, "Length", code, problem);
        Err(if is_mark && knowledge == RefreshKnowledge::Enhanced {
            error(ErrorCode::ROUTE_REFRESH_LENGTH).with_data(message)
        } else {
            let length = u16::try_from(message.len()).unwrap_or(u16::MAX);
            error(ErrorCode::BAD_MESSAGE_LENGTH).with_data(&length.to_be_bytes())
        })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        header_encode(MessageType::RouteRefresh, BODY_LEN, out);
        out.extend_from_slice(&self.routes.afi.to_be_bytes());
        out.extend_from_slice(&[self.subtype, self.routes.safi]);
    }
}

/// Which of the two RFCs a session goes by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RefreshKnowledge {
    /// RFC 2918 alone: there are no subtypes.
    Plain,
    /// RFC 7313 too.
    Enhanced,
}

impl fmt::Display for RouteRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ROUTE-REFRESH {}", self.routes)?;
        match self.subtype {
            0 => f.write_str("")?,
            1 => f.write_str(", begin")?,
            2 => f.write_str(", end")?,
            subtype => write!(f, ", subtype {subtype}")?,
        }
        if self.body_len == BODY_LEN { Ok(()) } else { write!(f, " ({} bytes)", self.body_len) }
    }
}
