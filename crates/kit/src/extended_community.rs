//! Extended communities (RFC 4360): eight bytes, and the texts for those that a load balancer has a use for.

use std::fmt;
use std::net::Ipv4Addr;
use std::str::FromStr;

use crate::Asn;

/// An extended community. Any eight bytes are one.
///
/// The texts are `rt:64512:100` and `soo:64512:100` (route target and route origin, RFC 4360 sections 4 and 5; also
/// with an IPv4 address, or with an AS number of four bytes as RFC 5668 has it), `bandwidth:64512:10G` (link bandwidth
/// in bit/s, draft-ietf-idr-link-bandwidth, in the transitive form that FRR sends by default too), and `0x` with 16
/// digits for everything else.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// In the first byte: the community does not leave the AS (RFC 4360 section 2).
const NON_TRANSITIVE: u8 = 0x40;
/// In the first byte: what the value begins with.
const TWO_BYTE_AS: u8 = 0x00;
const IPV4_ADDRESS: u8 = 0x01;
const FOUR_BYTE_AS: u8 = 0x02;
/// In the second byte.
const ROUTE_TARGET: u8 = 0x02;
const ROUTE_ORIGIN: u8 = 0x03;
const LINK_BANDWIDTH: u8 = 0x04;

/// What letters behind a bandwidth stand for.
const UNITS: [(&str, u64); 4] = [("T", 1_000_000_000_000), ("G", 1_000_000_000), ("M", 1_000_000), ("k", 1_000)];

/// The largest bandwidth, in bit/s: more than any link has, and exact in a text.
const BANDWIDTH_MAX: u64 = 1_000_000_000_000_000;

/// Why a text is not an extended community.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ExtendedCommunityError {
    /// It looks like none of them.
    #[error(
        "invalid extended community {0:?}: it is none of rt:<as>:<number>, soo:<as>:<number>, \
         bandwidth:<as>:<bits per second> and 0x with 16 digits"
    )]
    Format(String),
    /// The administrator is neither an AS number nor an IPv4 address.
    #[error("invalid extended community {0:?}: {1:?} is neither an AS number nor an IPv4 address")]
    Administrator(String, String),
    /// The number does not fit.
    #[error("invalid extended community {community:?}: {section:?} must be a number from 0 to {max}")]
    Number {
        /// The whole text.
        community: String,
        /// The part that is wrong.
        section: String,
        /// The largest number that fits there.
        max: u64,
    },
}

impl ExtendedCommunity {
    /// False when it must not leave our AS (RFC 4360 section 6).
    pub fn is_transitive(self) -> bool {
        let [kind, ..] = self.0;
        kind & NON_TRANSITIVE == 0
    }
}

impl FromStr for ExtendedCommunity {
    type Err = ExtendedCommunityError;

    fn from_str(text: &str) -> Result<Self, ExtendedCommunityError> {
        let format = || ExtendedCommunityError::Format(text.to_owned());
        if let Some(digits) = text.strip_prefix("0x") {
            let is_whole = digits.len() == 16 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
            let value = u64::from_str_radix(digits, 16).ok().filter(|_| is_whole).ok_or_else(format)?;
            return Ok(ExtendedCommunity(value.to_be_bytes()));
        }
        match text.split(':').collect::<Vec<_>>().as_slice() {
            ["rt", administrator, number] => with_number(text, ROUTE_TARGET, administrator, number),
            ["soo", administrator, number] => with_number(text, ROUTE_ORIGIN, administrator, number),
            ["bandwidth", asn, bandwidth] => link_bandwidth(text, asn, bandwidth),
            _ => Err(format()),
        }
    }
}

/// A decimal number up to `max`; Rust's parser would take a plus sign too.
fn number(community: &str, section: &str, max: u64) -> Result<u64, ExtendedCommunityError> {
    section.parse::<u64>().ok().filter(|number| *number <= max && !section.starts_with('+')).ok_or_else(|| {
        ExtendedCommunityError::Number { community: community.to_owned(), section: section.to_owned(), max }
    })
}

/// RFC 4360 sections 3.1 and 3.2, RFC 5668 section 2: the longer the administrator, the shorter the number.
fn with_number(
    text: &str,
    subtype: u8,
    administrator: &str,
    section: &str,
) -> Result<ExtendedCommunity, ExtendedCommunityError> {
    let short = |kind: u8, head: [u8; 4]| {
        let number = number(text, section, u64::from(u16::MAX))?;
        let [.., e, f] = number.to_be_bytes();
        let [a, b, c, d] = head;
        Ok(ExtendedCommunity([kind, subtype, a, b, c, d, e, f]))
    };
    if let Ok(address) = administrator.parse::<Ipv4Addr>() {
        return short(IPV4_ADDRESS, address.octets());
    }
    let asn = administrator.parse::<u32>().ok().filter(|_| !administrator.starts_with('+')).and_then(Asn::new);
    let asn = asn.ok_or_else(|| ExtendedCommunityError::Administrator(text.to_owned(), administrator.to_owned()))?;
    match asn.as_two_bytes() {
        None => short(FOUR_BYTE_AS, asn.get().to_be_bytes()),
        Some(two) => {
            let number = number(text, section, u64::from(u32::MAX))?;
            let ([a, b], [.., c, d, e, f]) = (two.to_be_bytes(), number.to_be_bytes());
            Ok(ExtendedCommunity([TWO_BYTE_AS, subtype, a, b, c, d, e, f]))
        }
    }
}

/// The draft has bytes per second as an IEEE number of four bytes.
fn link_bandwidth(text: &str, asn: &str, section: &str) -> Result<ExtendedCommunity, ExtendedCommunityError> {
    let asn = number(text, asn, u64::from(u16::MAX))?;
    let (digits, unit) = UNITS
        .into_iter()
        .find_map(|(letter, unit)| section.strip_suffix(letter).map(|digits| (digits, unit)))
        .unwrap_or((section, 1));
    let bits = number(text, digits, BANDWIDTH_MAX).ok().and_then(|number| number.checked_mul(unit));
    let bits = bits.filter(|bits| *bits <= BANDWIDTH_MAX).ok_or_else(|| ExtendedCommunityError::Number {
        community: text.to_owned(),
        section: section.to_owned(),
        max: BANDWIDTH_MAX,
    })?;
    #[expect(clippy::cast_precision_loss, reason = "24 bits of precision is what the community has")]
    let bytes = (bits as f32 / 8.0).to_be_bytes();
    let ([.., a, b], [c, d, e, f]) = (asn.to_be_bytes(), bytes);
    Ok(ExtendedCommunity([TWO_BYTE_AS, LINK_BANDWIDTH, a, b, c, d, e, f]))
}

impl fmt::Display for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [kind, subtype, a, b, c, d, e, g] = self.0;
        let name = match subtype {
            ROUTE_TARGET => "rt",
            ROUTE_ORIGIN => "soo",
            _ => "",
        };
        let (two, last) = (u16::from_be_bytes([a, b]), u16::from_be_bytes([e, g]));
        match kind {
            TWO_BYTE_AS if !name.is_empty() && two != 0 => {
                write!(f, "{name}:{two}:{}", u32::from_be_bytes([c, d, e, g]))
            }
            IPV4_ADDRESS if !name.is_empty() => write!(f, "{name}:{}:{last}", Ipv4Addr::from_octets([a, b, c, d])),
            FOUR_BYTE_AS if !name.is_empty() && two != 0 => {
                write!(f, "{name}:{}:{last}", u32::from_be_bytes([a, b, c, d]))
            }
            TWO_BYTE_AS
                if subtype == LINK_BANDWIDTH
                    && let Some(bits) = bandwidth(f32::from_be_bytes([c, d, e, g])) =>
            {
                let unit = UNITS.into_iter().find(|(_, unit)| bits >= *unit && bits.is_multiple_of(*unit));
                let (letter, unit) = unit.unwrap_or(("", 1));
                write!(f, "bandwidth:{two}:{}{letter}", bits.checked_div(unit).unwrap_or(bits))
            }
            _ => write!(f, "0x{:016x}", u64::from_be_bytes(self.0)),
        }
    }
}

/// Bits per second, if bytes per second are a whole number of them that has a text.
fn bandwidth(bytes: f32) -> Option<u64> {
    let bits = f64::from(bytes) * 8.0;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "the range was looked at")]
    let whole = (0.0..=1e15).contains(&bits).then_some(bits as u64)?;
    #[expect(clippy::cast_precision_loss, reason = "numbers up to 1e15 are exact")]
    let is_whole = (whole as f64).to_bits() == bits.to_bits();
    is_whole.then_some(whole)
}

impl fmt::Debug for ExtendedCommunity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(text: &str, expected: Expect) {
        expected.assert_eq(&match text.parse::<ExtendedCommunity>() {
            Ok(community) => format!("{:016x} {community}", u64::from_be_bytes(community.0)),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn rfc4360_3_and_rfc5668_2_every_text() {
        check("rt:64512:100", expect!["0002fc0000000064 rt:64512:100"]);
        check("rt:64512:4294967295", expect!["0002fc00ffffffff rt:64512:4294967295"]);
        check("soo:4200000001:7", expect!["0203fa56ea010007 soo:4200000001:7"]);
        check("rt:192.0.2.1:65535", expect!["0102c0000201ffff rt:192.0.2.1:65535"]);
        // 10 Gbit/s are 1.25e9 bytes/s: 0x4e9502f9.
        check("bandwidth:64512:10G", expect!["0004fc004e9502f9 bandwidth:64512:10G"]);
        check("bandwidth:64512:8", expect!["0004fc003f800000 bandwidth:64512:8"]);
        check("0x4004fc004e9502f9", expect!["4004fc004e9502f9 0x4004fc004e9502f9"]);
    }

    #[test]
    fn other_texts_are_refused_with_what_is_wrong() {
        check(
            "rt:64512",
            expect![[
                r#"error: invalid extended community "rt:64512": it is none of rt:<as>:<number>, soo:<as>:<number>, bandwidth:<as>:<bits per second> and 0x with 16 digits"#
            ]],
        );
        check(
            "rt:0:1",
            expect![[r#"error: invalid extended community "rt:0:1": "0" is neither an AS number nor an IPv4 address"#]],
        );
        check(
            "rt:4200000001:65536",
            expect![[
                r#"error: invalid extended community "rt:4200000001:65536": "65536" must be a number from 0 to 65535"#
            ]],
        );
        check(
            "rt:1:+1",
            expect![[r#"error: invalid extended community "rt:1:+1": "+1" must be a number from 0 to 4294967295"#]],
        );
        check(
            "bandwidth:64512:10X",
            expect![[
                r#"error: invalid extended community "bandwidth:64512:10X": "10X" must be a number from 0 to 1000000000000000"#
            ]],
        );
        check(
            "bandwidth:64512:18446744073709551615T",
            expect![[
                r#"error: invalid extended community "bandwidth:64512:18446744073709551615T": "18446744073709551615T" must be a number from 0 to 1000000000000000"#
            ]],
        );
        check(
            "0x12",
            expect![[
                r#"error: invalid extended community "0x12": it is none of rt:<as>:<number>, soo:<as>:<number>, bandwidth:<as>:<bits per second> and 0x with 16 digits"#
            ]],
        );
    }

    #[test]
    fn a_text_reads_back_as_the_same_bytes() {
        let mut rng = crate::Rng::new(4360);
        for _ in 0..100_000 {
            let mut bytes = rng.next_u64().to_be_bytes();
            if !rng.one_in(4) {
                bytes[0] &= 0x43;
                bytes[1] &= 0x07;
            }
            let community = ExtendedCommunity(bytes);
            assert_eq!(community.to_string().parse(), Ok(community));
        }
    }

    #[test]
    fn rfc4360_2_the_first_byte_says_whether_it_leaves_the_as() {
        assert!("rt:1:1".parse::<ExtendedCommunity>().unwrap().is_transitive());
        assert!(!"0x4004fc004e9502f9".parse::<ExtendedCommunity>().unwrap().is_transitive());
    }
}
