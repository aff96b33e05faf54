//! NOTIFICATION: why a side ends the session (RFC 4271 section 4.5; RFC 4486, 6608, 7313, 8538, 9003, 9384, 9687).
//!
//! It knows the names that IANA gives to codes, not when a code is due.

use std::fmt;

use super::{MessageType, header_encode};

/// A code with its subcode. Any pair may arrive; the known ones have a name.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ErrorCode {
    /// What kind of error.
    pub code: u8,
    /// Which one; 0 is "unspecific".
    pub subcode: u8,
}

/// Lists the known pairs once: constant, numbers, IANA's name.
macro_rules! error_codes {
    ($($(#[$doc:meta])* $constant:ident = $code:literal / $subcode:literal, $name:literal;)*) => {
        impl ErrorCode {
            $($(#[$doc])* pub const $constant: ErrorCode = ErrorCode { code: $code, subcode: $subcode };)*

            /// All pairs that have a name.
            pub const KNOWN: &[ErrorCode] = &[$(ErrorCode::$constant),*];

            fn subcode_name(self) -> Option<&'static str> {
                match (self.code, self.subcode) {
                    $(($code, $subcode) => Some($name),)*
                    _ => None,
                }
            }
        }
    };
}

error_codes! {
    /// RFC 4271 section 6.1.
    CONNECTION_NOT_SYNCHRONIZED = 1 / 1, "Connection Not Synchronized";
    /// RFC 4271 section 6.1.
    BAD_MESSAGE_LENGTH = 1 / 2, "Bad Message Length";
    /// RFC 4271 section 6.1.
    BAD_MESSAGE_TYPE = 1 / 3, "Bad Message Type";
    /// RFC 4271 section 6.2: an OPEN that is wrong in a way that has no subcode.
    OPEN_UNSPECIFIC = 2 / 0, "Unspecific";
    /// RFC 4271 section 6.2.
    UNSUPPORTED_VERSION = 2 / 1, "Unsupported Version Number";
    /// RFC 4271 section 6.2, RFC 7607.
    BAD_PEER_AS = 2 / 2, "Bad Peer AS";
    /// RFC 4271 section 6.2, RFC 6286.
    BAD_BGP_IDENTIFIER = 2 / 3, "Bad BGP Identifier";
    /// RFC 4271 section 6.2.
    UNSUPPORTED_OPTIONAL_PARAMETER = 2 / 4, "Unsupported Optional Parameter";
    /// RFC 4271 section 6.2.
    UNACCEPTABLE_HOLD_TIME = 2 / 6, "Unacceptable Hold Time";
    /// RFC 5492 section 3.
    UNSUPPORTED_CAPABILITY = 2 / 7, "Unsupported Capability";
    /// RFC 9234 section 4.2.
    ROLE_MISMATCH = 2 / 11, "Role Mismatch";
    /// RFC 4271 section 6.3.
    MALFORMED_ATTRIBUTE_LIST = 3 / 1, "Malformed Attribute List";
    /// RFC 4271 section 6.3.
    UNRECOGNIZED_WELL_KNOWN_ATTRIBUTE = 3 / 2, "Unrecognized Well-known Attribute";
    /// RFC 4271 section 6.3.
    MISSING_WELL_KNOWN_ATTRIBUTE = 3 / 3, "Missing Well-known Attribute";
    /// RFC 4271 section 6.3.
    ATTRIBUTE_FLAGS_ERROR = 3 / 4, "Attribute Flags Error";
    /// RFC 4271 section 6.3.
    ATTRIBUTE_LENGTH_ERROR = 3 / 5, "Attribute Length Error";
    /// RFC 4271 section 6.3.
    INVALID_ORIGIN = 3 / 6, "Invalid ORIGIN Attribute";
    /// RFC 4271 section 6.3.
    INVALID_NEXT_HOP = 3 / 8, "Invalid NEXT_HOP Attribute";
    /// RFC 4271 section 6.3.
    OPTIONAL_ATTRIBUTE_ERROR = 3 / 9, "Optional Attribute Error";
    /// RFC 4271 section 6.3.
    INVALID_NETWORK_FIELD = 3 / 10, "Invalid Network Field";
    /// RFC 4271 section 6.3.
    MALFORMED_AS_PATH = 3 / 11, "Malformed AS_PATH";
    /// RFC 4271 section 6.5.
    HOLD_TIMER_EXPIRED = 4 / 0, "";
    /// RFC 6608 section 3.
    UNEXPECTED_IN_OPEN_SENT = 5 / 1, "Receive Unexpected Message in OpenSent State";
    /// RFC 6608 section 3.
    UNEXPECTED_IN_OPEN_CONFIRM = 5 / 2, "Receive Unexpected Message in OpenConfirm State";
    /// RFC 6608 section 3.
    UNEXPECTED_IN_ESTABLISHED = 5 / 3, "Receive Unexpected Message in Established State";
    /// RFC 4486 section 4.
    MAXIMUM_PREFIXES_REACHED = 6 / 1, "Maximum Number of Prefixes Reached";
    /// RFC 4486 section 4.
    ADMINISTRATIVE_SHUTDOWN = 6 / 2, "Administrative Shutdown";
    /// RFC 4486 section 4.
    PEER_DECONFIGURED = 6 / 3, "Peer De-configured";
    /// RFC 4486 section 4.
    ADMINISTRATIVE_RESET = 6 / 4, "Administrative Reset";
    /// RFC 4486 section 4.
    CONNECTION_REJECTED = 6 / 5, "Connection Rejected";
    /// RFC 4486 section 4.
    OTHER_CONFIGURATION_CHANGE = 6 / 6, "Other Configuration Change";
    /// RFC 4486 section 4.
    CONNECTION_COLLISION = 6 / 7, "Connection Collision Resolution";
    /// RFC 4486 section 4.
    OUT_OF_RESOURCES = 6 / 8, "Out of Resources";
    /// RFC 8538 section 3.
    HARD_RESET = 6 / 9, "Hard Reset";
    /// RFC 9384 section 3.
    BFD_DOWN = 6 / 10, "BFD Down";
    /// RFC 7313 section 5.
    ROUTE_REFRESH_LENGTH = 7 / 1, "Invalid Message Length";
    /// RFC 9687 section 5.
    SEND_HOLD_TIMER_EXPIRED = 8 / 0, "";
}

impl ErrorCode {
    fn code_name(self) -> Option<&'static str> {
        match self.code {
            1 => Some("Message Header Error"),
            2 => Some("OPEN Message Error"),
            3 => Some("UPDATE Message Error"),
            4 => Some("Hold Timer Expired"),
            5 => Some("Finite State Machine Error"),
            6 => Some("Cease"),
            7 => Some("ROUTE-REFRESH Message Error"),
            8 => Some("Send Hold Timer Expired"),
            _ => None,
        }
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code_name() {
            Some(name) => f.write_str(name)?,
            None => write!(f, "unknown error {}", self.code)?,
        }
        match self.subcode_name() {
            Some("") => Ok(()),
            Some(name) => write!(f, "/{name}"),
            None if self.subcode == 0 => Ok(()),
            None => write!(f, "/unknown subcode {}", self.subcode),
        }
    }
}

impl fmt::Debug for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{} ({self})", self.code, self.subcode)
    }
}

/// The longest text that a shutdown communication carries, in bytes of UTF-8 (RFC 9003 section 2).
pub const SHUTDOWN_TEXT_MAX: usize = 255;

/// How many bytes of data a NOTIFICATION prints.
const DATA_SHOWN_MAX: usize = 32;

/// A NOTIFICATION as it is on the wire.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notification {
    /// Code and subcode.
    pub error: ErrorCode,
    /// What belongs to that code; at most what a message holds.
    pub data: Vec<u8>,
}

impl Notification {
    /// One without data.
    pub fn new(error: ErrorCode) -> Self {
        Notification { error, data: Vec::new() }
    }

    /// One with data; what does not fit in a message is cut off.
    pub fn with_data(error: ErrorCode, data: &[u8]) -> Self {
        let data = data.get(..DATA_MAX).unwrap_or(data);
        Notification { error, data: data.to_vec() }
    }

    /// A Cease with a text for the operator of the other side (RFC 9003 section 2), cut at a character's boundary.
    pub fn with_text(error: ErrorCode, text: &str) -> Self {
        if text.is_empty() {
            return Notification::new(error);
        }
        let mut end = text.len().min(SHUTDOWN_TEXT_MAX);
        while !text.is_char_boundary(end) {
            end = end.saturating_sub(1);
        }
        let text = text.as_bytes().get(..end).unwrap_or_default();
        let mut data = vec![u8::try_from(end).unwrap_or(u8::MAX)];
        data.extend_from_slice(text);
        Notification { error, data }
    }

    /// The text of the other side's operator, if there is a well-formed one. RFC 9003 section 2: its length is that
    /// of the rest of the message, and it is UTF-8.
    pub fn text(&self) -> Option<&str> {
        if !matches!(self.error, ErrorCode::ADMINISTRATIVE_SHUTDOWN | ErrorCode::ADMINISTRATIVE_RESET) {
            return None;
        }
        let (length, text) = self.data.split_first()?;
        if usize::from(*length) != text.len() || text.is_empty() {
            return None;
        }
        std::str::from_utf8(text).ok()
    }

    /// This one as the reason of a hard reset (RFC 8538 section 3.1).
    #[must_use]
    pub fn hard_reset(&self) -> Notification {
        let head = [self.error.code, self.error.subcode];
        Notification::with_data(ErrorCode::HARD_RESET, &[&head, self.data.as_slice()].concat())
    }

    /// What a hard reset encapsulates (RFC 8538 section 3.1).
    pub fn encapsulated(&self) -> Option<Notification> {
        match (self.error, self.data.as_slice()) {
            (ErrorCode::HARD_RESET, [code, subcode, data @ ..]) => {
                Some(Notification { error: ErrorCode { code: *code, subcode: *subcode }, data: data.to_vec() })
            }
            _ => None,
        }
    }

    /// Takes the body of a message. Every body of two bytes or more is a NOTIFICATION: RFC 4271 section 6.4 has no
    /// answer to a wrong one.
    pub(super) fn decode(body: &[u8]) -> Option<Self> {
        match body {
            [code, subcode, data @ ..] => {
                Some(Notification { error: ErrorCode { code: *code, subcode: *subcode }, data: data.to_vec() })
            }
            _ => None,
        }
    }

    /// Appends the message.
    pub fn encode(&self, out: &mut Vec<u8>) {
        let data = self.data.get(..DATA_MAX).unwrap_or(&self.data);
        header_encode(MessageType::Notification, data.len().saturating_add(2), out);
        out.extend_from_slice(&[self.error.code, self.error.subcode]);
        out.extend_from_slice(data);
    }
}

/// What is left of a message after its header and the two codes.
const DATA_MAX: usize = super::MESSAGE_MAX - super::HEADER_LEN - 2;

impl fmt::Display for Notification {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.error.fmt(f)?;
        if let Some(text) = self.text() {
            // Debug escapes control characters, so that a peer cannot write lines into our log.
            return write!(f, " ({text:?})");
        }
        if let Some(inner) = self.encapsulated()
            && inner.error != ErrorCode::HARD_RESET
        {
            return write!(f, " ({inner})");
        }
        match (self.error, self.data.as_slice()) {
            (_, []) => Ok(()),
            (ErrorCode::MAXIMUM_PREFIXES_REACHED, [afi_high, afi_low, safi, a, b, c, d]) => {
                let afi_safi = super::AfiSafi { afi: u16::from_be_bytes([*afi_high, *afi_low]), safi: *safi };
                write!(f, " ({afi_safi}, limit {})", u32::from_be_bytes([*a, *b, *c, *d]))
            }
            // Some speakers send the number as it is in the field, others all four bytes.
            (ErrorCode::BAD_PEER_AS, [high, low]) => write!(f, " (AS {})", u16::from_be_bytes([*high, *low])),
            (ErrorCode::BAD_PEER_AS, [a, b, c, d]) => write!(f, " (AS {})", u32::from_be_bytes([*a, *b, *c, *d])),
            (_, data) => {
                f.write_str(", data ")?;
                for byte in data.iter().take(DATA_SHOWN_MAX) {
                    write!(f, "{byte:02x}")?;
                }
                if data.len() > DATA_SHOWN_MAX { write!(f, "... ({} bytes)", data.len()) } else { Ok(()) }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(code: u8, subcode: u8, data: &[u8], expected: Expect) {
        let notification = Notification::with_data(ErrorCode { code, subcode }, data);
        expected.assert_eq(&notification.to_string());
    }

    #[test]
    fn notifications_read_like_their_rfc() {
        check(4, 0, &[], expect!["Hold Timer Expired"]);
        check(2, 6, &[], expect!["OPEN Message Error/Unacceptable Hold Time"]);
        check(2, 2, &[0xfd, 0xe9], expect!["OPEN Message Error/Bad Peer AS (AS 65001)"]);
        check(2, 2, &[0xfa, 0x56, 0xea, 0x01], expect!["OPEN Message Error/Bad Peer AS (AS 4200000001)"]);
        check(5, 2, &[], expect!["Finite State Machine Error/Receive Unexpected Message in OpenConfirm State"]);
        check(6, 0, &[], expect!["Cease"]);
        check(
            6,
            1,
            &[0, 1, 1, 0, 0, 0, 10],
            expect!["Cease/Maximum Number of Prefixes Reached (IPv4 unicast, limit 10)"],
        );
        check(6, 42, &[], expect!["Cease/unknown subcode 42"]);
        check(99, 1, &[], expect!["unknown error 99/unknown subcode 1"]);
        check(3, 5, &[0x40, 1, 2, 0, 0], expect!["UPDATE Message Error/Attribute Length Error, data 4001020000"]);
        check(8, 0, &[], expect!["Send Hold Timer Expired"]);
        check(6, 9, &[6, 2, 2, b'h', b'i'], expect![[r#"Cease/Hard Reset (Cease/Administrative Shutdown ("hi"))"#]]);
    }

    #[test]
    fn a_hard_reset_in_a_hard_reset_ends_there() {
        let data: Vec<u8> = [6u8, 9].repeat(2000);
        assert!(Notification::with_data(ErrorCode::HARD_RESET, &data).to_string().len() < 200);
    }

    #[test]
    fn rfc9003_2_shutdown_text_is_utf8_of_the_length_that_it_says() {
        check(6, 2, b"\x05later", expect![[r#"Cease/Administrative Shutdown ("later")"#]]);
        check(6, 4, b"\x06a\nb\x1b[m", expect![[r#"Cease/Administrative Reset ("a\nb\u{1b}[m")"#]]);
        check(6, 2, b"\x09later", expect!["Cease/Administrative Shutdown, data 096c61746572"]);
        check(6, 2, b"\x02\xff\xfe", expect!["Cease/Administrative Shutdown, data 02fffe"]);
        check(6, 2, b"\x00", expect!["Cease/Administrative Shutdown, data 00"]);
        let long = Notification::with_data(ErrorCode::ADMINISTRATIVE_SHUTDOWN, &[&[255][..], &[b'x'; 255]].concat());
        assert_eq!(long.text().map(str::len), Some(255));
    }

    #[test]
    fn rfc9003_2_shutdown_text_is_cut_between_characters() {
        let text = "ä".repeat(200);
        let notification = Notification::with_text(ErrorCode::ADMINISTRATIVE_SHUTDOWN, &text);
        assert_eq!(notification.data.first(), Some(&254));
        assert_eq!(notification.text(), Some("ä".repeat(127).as_str()));
        assert!(Notification::with_text(ErrorCode::ADMINISTRATIVE_SHUTDOWN, "").data.is_empty());
    }

    #[test]
    fn every_known_code_has_a_name_of_its_own() {
        let names: std::collections::BTreeSet<String> = ErrorCode::KNOWN.iter().map(ToString::to_string).collect();
        assert_eq!(names.len(), ErrorCode::KNOWN.len());
        assert!(names.iter().all(|name| !name.contains("unknown")), "{names:?}");
    }
}
