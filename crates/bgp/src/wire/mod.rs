//! Messages on the wire (RFC 4271 section 4 and what extends it).
//!
//! `decode` gives what was sent: unknown parts stay raw, nothing is judged but lengths. `validate` gives what we
//! believe of it, with a disposition for each error (RFC 7606). Both never panic, whatever the bytes are, and
//! allocate in proportion to the message at most.
//!
//! It knows no session: what may be said when, and to whom, is decided in [`crate::Peer`].

mod as_path;
mod attribute;
mod capability;
mod error;
mod fuzz;
mod multiprotocol;
mod notification;
mod open;
mod prefix;
mod reader;
mod route_refresh;
mod update;
mod validate;

use std::fmt;

pub use as_path::{AsPath, AsnSize, Segment, SegmentKind};
pub use attribute::{Aggregator, AttributeType, LOCAL_PREF_DEFAULT, Origin, PathAttributes, RawAttribute};
pub use capability::{AfiSafi, Capability, ExtendedNextHop, RestartFamily};
pub use error::{DecodeError, Disposition};
#[doc(hidden)]
pub use fuzz::fuzz_message;
pub use multiprotocol::NextHop;
pub use notification::{ErrorCode, Notification, SHUTDOWN_TEXT_MAX};
pub use open::{Open, ValidOpen};
pub(crate) use prefix::family_of;
pub use route_refresh::{RefreshKnowledge, RefreshSubtype, RouteRefresh};
pub use update::{Announcer, Cut, Update, end_of_rib, withdraw};
pub use validate::{Issue, Reachable, Relation, UpdateContext, ValidUpdate, validate};

use reader::Reader;

/// The largest message (RFC 4271 section 4), unless both sides know larger ones.
pub const MESSAGE_MAX: usize = 4096;
/// The largest message between speakers that know larger ones (RFC 8654 section 4).
pub const EXTENDED_MESSAGE_MAX: usize = 65_535;

/// The part that all messages have: marker, length, type.
pub const HEADER_LEN: usize = 19;

const MARKER: [u8; 16] = [0xff; 16];

/// How large a message may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageLimit {
    /// [`MESSAGE_MAX`].
    Standard,
    /// [`EXTENDED_MESSAGE_MAX`], except for OPEN and KEEPALIVE (RFC 8654 section 4).
    Extended,
}

impl MessageLimit {
    /// Bytes.
    pub fn bytes(self) -> usize {
        match self {
            MessageLimit::Standard => MESSAGE_MAX,
            MessageLimit::Extended => EXTENDED_MESSAGE_MAX,
        }
    }
}

/// The message types of RFC 4271 section 4.1 and RFC 2918.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum MessageType {
    /// The first message of each side.
    Open = 1,
    /// Routes.
    Update = 2,
    /// The last message.
    Notification = 3,
    /// Nothing but a sign of life.
    Keepalive = 4,
    /// Asks for all routes again.
    RouteRefresh = 5,
}

impl MessageType {
    const ALL: [MessageType; 5] = [
        MessageType::Open,
        MessageType::Update,
        MessageType::Notification,
        MessageType::Keepalive,
        MessageType::RouteRefresh,
    ];

    /// The lengths that a whole message of this type can have (RFC 4271 section 6.1). What is wrong with a
    /// ROUTE-REFRESH that is longer depends on its subtype (RFC 7313 section 5).
    fn accepts(self, length: usize, limit: MessageLimit) -> bool {
        match self {
            MessageType::Open => (29..=MESSAGE_MAX).contains(&length),
            MessageType::Update => (23..=limit.bytes()).contains(&length),
            MessageType::Notification => (21..=limit.bytes()).contains(&length),
            MessageType::Keepalive => length == HEADER_LEN,
            MessageType::RouteRefresh => (route_refresh::LENGTH_MIN..=limit.bytes()).contains(&length),
        }
    }
}

/// A header that can be believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// What follows.
    pub kind: MessageType,
    /// The length of the whole message, within the limit.
    pub length: usize,
}

impl Header {
    /// Reads the header at the begin of `bytes`; `Ok(None)` when there are too few (RFC 4271 section 6.1).
    pub fn decode(bytes: &[u8], limit: MessageLimit) -> Result<Option<Header>, DecodeError> {
        let mut reader = Reader::new(bytes, 0);
        let (Some(marker), Some(length), Some(kind)) = (reader.array::<16>(), reader.u16(), reader.u8()) else {
            return Ok(None);
        };
        if marker != MARKER {
            let problem = "not all bits are ones";
            return Err(DecodeError::new(0, "Marker", ErrorCode::CONNECTION_NOT_SYNCHRONIZED, problem));
        }
        let bad_length = || {
            let problem = format!("{length} bytes are not a message of type {kind}");
            DecodeError::new(16, "Length", ErrorCode::BAD_MESSAGE_LENGTH, problem).with_data(&length.to_be_bytes())
        };
        if !(HEADER_LEN..=limit.bytes()).contains(&usize::from(length)) {
            return Err(bad_length());
        }
        let Some(kind) = MessageType::ALL.into_iter().find(|known| *known as u8 == kind) else {
            let problem = format!("type {kind} is unknown");
            return Err(DecodeError::new(18, "Type", ErrorCode::BAD_MESSAGE_TYPE, problem).with_data(&[kind]));
        };
        let length = usize::from(length);
        if kind.accepts(length, limit) { Ok(Some(Header { kind, length })) } else { Err(bad_length()) }
    }
}

/// A message as it was sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Message<'a> {
    /// The first message of each side.
    Open(Open),
    /// Routes.
    Update(Update<'a>),
    /// The last message.
    Notification(Notification),
    /// Nothing but a sign of life.
    Keepalive,
    /// Asks for all routes again.
    RouteRefresh(RouteRefresh),
}

/// Reads one whole message, its header included. AS numbers in an UPDATE have the size that was negotiated, and so has
/// the message.
pub fn decode(bytes: &[u8], asn_size: AsnSize, limit: MessageLimit) -> Result<Message<'_>, DecodeError> {
    let cut = || {
        let length = u16::try_from(bytes.len()).unwrap_or(u16::MAX);
        DecodeError::new(bytes.len().min(16), "Length", ErrorCode::BAD_MESSAGE_LENGTH, "the message is not whole")
            .with_data(&length.to_be_bytes())
    };
    let header = Header::decode(bytes, limit)?.filter(|header| header.length == bytes.len()).ok_or_else(cut)?;
    let body = bytes.get(HEADER_LEN..).unwrap_or_default();
    match header.kind {
        MessageType::Open => Open::decode(body).map(Message::Open),
        MessageType::Update => Update::decode(body, asn_size).map(Message::Update),
        MessageType::Notification => Notification::decode(body).map(Message::Notification).ok_or_else(cut),
        MessageType::Keepalive => Ok(Message::Keepalive),
        MessageType::RouteRefresh => RouteRefresh::decode(body).map(Message::RouteRefresh).ok_or_else(cut),
    }
}

/// Appends a KEEPALIVE.
pub fn keepalive(out: &mut Vec<u8>) {
    header_encode(MessageType::Keepalive, 0, out);
}

/// Appends the header of a message with a body of this length.
fn header_encode(kind: MessageType, body_len: usize, out: &mut Vec<u8>) {
    let length = u16::try_from(body_len.saturating_add(HEADER_LEN)).unwrap_or(u16::MAX);
    out.extend_from_slice(&MARKER);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind as u8);
}

impl fmt::Display for Message<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Message::Open(open) => open.fmt(f),
            Message::Update(update) => update.fmt(f),
            Message::Notification(notification) => write!(f, "NOTIFICATION {notification}"),
            Message::Keepalive => f.write_str("KEEPALIVE"),
            Message::RouteRefresh(refresh) => refresh.fmt(f),
        }
    }
}

#[cfg(test)]
pub(crate) use fuzz::tests as fuzz_tests;
#[cfg(test)]
mod tests;
