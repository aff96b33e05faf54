//! ROUTE-REFRESH: asks for all routes again (RFC 2918; subtypes of RFC 7313).

use std::fmt;

use super::reader::Reader;
use super::{AfiSafi, MessageType, header_encode};

/// A ROUTE-REFRESH as it was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RouteRefresh {
    /// Which routes.
    pub routes: AfiSafi,
    /// 0 asks; 1 and 2 mark begin and end of the answer (RFC 7313).
    pub subtype: u8,
}

impl RouteRefresh {
    /// Takes the body of a message, 4 bytes.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        let mut reader = Reader::new(body, 0);
        let (afi, subtype, safi) = (reader.u16()?, reader.u8()?, reader.u8()?);
        reader.is_empty().then_some(RouteRefresh { routes: AfiSafi { afi, safi }, subtype })
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        header_encode(MessageType::RouteRefresh, 4, out);
        out.extend_from_slice(&self.routes.afi.to_be_bytes());
        out.extend_from_slice(&[self.subtype, self.routes.safi]);
    }
}

impl fmt::Display for RouteRefresh {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ROUTE-REFRESH {}", self.routes)?;
        match self.subtype {
            0 => Ok(()),
            1 => f.write_str(", begin"),
            2 => f.write_str(", end"),
            subtype => write!(f, ", subtype {subtype}"),
        }
    }
}
