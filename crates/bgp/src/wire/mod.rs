//! Messages on the wire (RFC 4271 section 4 and what extends it).
//!
//! `decode` gives what was sent: unknown parts stay raw, nothing is judged but lengths. `validate` gives what we
//! believe of it, with a disposition for each error (RFC 7606). Both never panic, whatever the bytes are, and
//! allocate in proportion to the message at most.
//!
//! It knows no session: what may be said when, and to whom, is decided in [`crate::Peer`].

mod attribute;
mod capability;
mod notification;
mod reader;

pub use attribute::{
    Aggregator, AsPath, ExtendedCommunity, LOCAL_PREF_DEFAULT, Origin, PathAttributes, Segment, SegmentKind,
};
pub use capability::{AfiSafi, Capability, ExtendedNextHop, RestartFamily};
pub use notification::{ErrorCode, Notification, SHUTDOWN_TEXT_MAX};

/// The largest message (RFC 4271 section 4).
pub const MESSAGE_MAX: usize = 4096;

/// The part that all messages have: marker, length, type.
pub const HEADER_LEN: usize = 19;

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

/// Appends the header of a message with a body of this length.
fn header_encode(kind: MessageType, body_len: usize, out: &mut Vec<u8>) {
    let length = u16::try_from(body_len.saturating_add(HEADER_LEN)).unwrap_or(u16::MAX);
    out.extend_from_slice(&[0xff; 16]);
    out.extend_from_slice(&length.to_be_bytes());
    out.push(kind as u8);
}
