//! Words of inter-domain routing that configuration and protocol share.

use std::fmt;
use std::net::Ipv4Addr;
use std::num::NonZeroU32;
use std::str::FromStr;

use crate::Duration;

/// An autonomous system number: 1 to 4294967295. Zero is not one (RFC 7607).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Asn(NonZeroU32);

impl Asn {
    /// The number that stands for a 4-byte one towards a peer that knows only 2 bytes (RFC 6793 section 9).
    pub const TRANS: u16 = 23456;

    /// The AS with this number; `None` for zero.
    pub const fn new(number: u32) -> Option<Self> {
        match NonZeroU32::new(number) {
            Some(number) => Some(Asn(number)),
            None => None,
        }
    }

    /// The number.
    pub const fn get(self) -> u32 {
        self.0.get()
    }

    /// The number if it fits in 2 bytes.
    pub fn as_two_bytes(self) -> Option<u16> {
        u16::try_from(self.get()).ok()
    }
}

impl fmt::Display for Asn {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Which AS the other side of a session may be in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RemoteAs {
    /// Exactly this one.
    Exactly(Asn),
    /// Ours, whatever it is (`dynamicASN: internal`).
    Internal,
    /// Any but ours (`dynamicASN: external`).
    External,
}

impl RemoteAs {
    /// True when a peer in AS `remote` may talk to us in AS `local`.
    pub fn admits(self, local: Asn, remote: Asn) -> bool {
        match self {
            RemoteAs::Exactly(expected) => expected == remote,
            RemoteAs::Internal => local == remote,
            RemoteAs::External => local != remote,
        }
    }
}

impl fmt::Display for RemoteAs {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            RemoteAs::Exactly(asn) => asn.fmt(f),
            RemoteAs::Internal => f.write_str("internal"),
            RemoteAs::External => f.write_str("external"),
        }
    }
}

/// A BGP identifier: any 4 bytes but zero (RFC 6286 section 2.1). It prints as an IPv4 address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouterId(NonZeroU32);

/// The text is not a BGP identifier.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RouterIdError(String);

impl fmt::Display for RouterIdError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid router ID {:?}: it must be an IPv4 address other than 0.0.0.0", self.0)
    }
}

impl std::error::Error for RouterIdError {}

impl RouterId {
    /// The identifier with this value in network order; `None` for zero.
    pub const fn new(value: u32) -> Option<Self> {
        match NonZeroU32::new(value) {
            Some(value) => Some(RouterId(value)),
            None => None,
        }
    }

    /// The value in network order.
    pub const fn get(self) -> u32 {
        self.0.get()
    }
}

impl FromStr for RouterId {
    type Err = RouterIdError;

    fn from_str(text: &str) -> Result<Self, RouterIdError> {
        text.parse::<Ipv4Addr>()
            .ok()
            .and_then(|address| RouterId::new(u32::from(address)))
            .ok_or_else(|| RouterIdError(text.to_owned()))
    }
}

impl fmt::Display for RouterId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        Ipv4Addr::from(self.get()).fmt(f)
    }
}

/// A BGP hold time in whole seconds: 0 (never) or 3 to 65535 (RFC 4271 section 4.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct HoldTime(u16);

/// A hold time that RFC 4271 does not allow.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HoldTimeError(u64);

impl fmt::Display for HoldTimeError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "invalid hold time {}s: must be 0 or >=3s, and at most 65535s", self.0)
    }
}

impl std::error::Error for HoldTimeError {}

impl HoldTime {
    /// The session never expires and sends no KEEPALIVEs.
    pub const NEVER: HoldTime = HoldTime(0);
    /// What RFC 4271 section 10 suggests, and MetalLB's native mode uses: 90 s.
    pub const DEFAULT: HoldTime = HoldTime(90);

    /// The hold time of this many seconds.
    pub const fn from_secs(secs: u64) -> Result<Self, HoldTimeError> {
        match secs {
            1 | 2 | 65_536.. => Err(HoldTimeError(secs)),
            #[expect(clippy::cast_possible_truncation, reason = "the arm above has everything that does not fit")]
            secs => Ok(HoldTime(secs as u16)),
        }
    }

    /// Seconds; 0 means never.
    pub const fn as_secs(self) -> u16 {
        self.0
    }

    /// The span after which the session expires; `None` when it never does.
    pub fn expiry(self) -> Option<Duration> {
        (self.0 != 0).then(|| Duration::from_secs(u64::from(self.0)))
    }
}

impl fmt::Display for HoldTime {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}s", self.0)
    }
}

/// A BGP community as MetalLB writes it: `65000:100` (RFC 1997) or `large:65000:1:2` (RFC 8092).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Community {
    /// Four bytes: the AS in the high half, its value in the low one.
    Standard(u32),
    /// Twelve bytes: global administrator and two values of its own.
    Large(u32, u32, u32),
}

/// Why a text is not a community (contract 4.2 rule 24).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CommunityError {
    /// Neither `a:b` nor four parts.
    #[error("invalid community format: {0:?} is neither <u16>:<u16> nor large:<u32>:<u32>:<u32>")]
    Format(String),
    /// Four parts, but the first is not `large`.
    #[error("invalid community format: expected community to be of format large:<u32>:<u32>:<u32>, got {0:?}")]
    NotLarge(String),
    /// A part is not a decimal number that fits.
    #[error("invalid community value: invalid section {section:?} of community {community:?}: must be 0 to {max}")]
    Section {
        /// The whole text.
        community: String,
        /// The part that is wrong.
        section: String,
        /// The largest number that fits there.
        max: u32,
    },
}

impl FromStr for Community {
    type Err = CommunityError;

    fn from_str(text: &str) -> Result<Self, CommunityError> {
        let number =
            |section: &str, max: u32| {
                // Rust's parser takes a leading plus sign, which is no part of the grammar.
                section.parse::<u32>().ok().filter(|n| *n <= max && !section.starts_with('+')).ok_or_else(|| {
                    CommunityError::Section { community: text.to_owned(), section: section.to_owned(), max }
                })
            };
        let parts: Vec<&str> = text.split(':').collect();
        match parts.as_slice() {
            [high, low] => {
                let max = u32::from(u16::MAX);
                Ok(Community::Standard(number(high, max)? << 16 | number(low, max)?))
            }
            ["large", a, b, c] => {
                Ok(Community::Large(number(a, u32::MAX)?, number(b, u32::MAX)?, number(c, u32::MAX)?))
            }
            [_, _, _, _] => Err(CommunityError::NotLarge(text.to_owned())),
            _ => Err(CommunityError::Format(text.to_owned())),
        }
    }
}

impl fmt::Display for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Community::Standard(value) => write!(f, "{}:{}", value >> 16, value & 0xffff),
            Community::Large(a, b, c) => write!(f, "large:{a}:{b}:{c}"),
        }
    }
}

impl fmt::Debug for Community {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(community: &str, expected: Expect) {
        expected.assert_eq(&match community.parse::<Community>() {
            Ok(parsed) => parsed.to_string(),
            Err(error) => format!("error: {error}"),
        });
    }

    #[test]
    fn communities_follow_contract_4_2_rule_24() {
        check("65000:100", expect!["65000:100"]);
        check("0:0", expect!["0:0"]);
        check("large:4294967295:1:2", expect!["large:4294967295:1:2"]);
        check(
            "65536:1",
            expect![[
                r#"error: invalid community value: invalid section "65536" of community "65536:1": must be 0 to 65535"#
            ]],
        );
        check(
            "0xff:1",
            expect![[
                r#"error: invalid community value: invalid section "0xff" of community "0xff:1": must be 0 to 65535"#
            ]],
        );
        check(
            "+1:1",
            expect![[
                r#"error: invalid community value: invalid section "+1" of community "+1:1": must be 0 to 65535"#
            ]],
        );
        check(
            "1:2:3",
            expect![[r#"error: invalid community format: "1:2:3" is neither <u16>:<u16> nor large:<u32>:<u32>:<u32>"#]],
        );
        check(
            "large:1:2",
            expect![[
                r#"error: invalid community format: "large:1:2" is neither <u16>:<u16> nor large:<u32>:<u32>:<u32>"#
            ]],
        );
        check(
            "small:1:2:3",
            expect![[
                r#"error: invalid community format: expected community to be of format large:<u32>:<u32>:<u32>, got "small:1:2:3""#
            ]],
        );
    }

    #[test]
    fn hold_times_of_one_and_two_seconds_do_not_exist() {
        let allowed: Vec<u64> =
            [0, 1, 2, 3, 90, 65_535, 65_536].into_iter().filter(|s| HoldTime::from_secs(*s).is_ok()).collect();
        assert_eq!(allowed, [0, 3, 90, 65_535]);
        assert_eq!(HoldTime::NEVER.expiry(), None);
    }

    #[test]
    fn a_router_id_is_ipv4_and_not_zero() {
        assert_eq!("10.0.0.1".parse::<RouterId>().unwrap().to_string(), "10.0.0.1");
        assert!("0.0.0.0".parse::<RouterId>().is_err());
        assert!("fc00::1".parse::<RouterId>().is_err());
    }

    #[test]
    fn remote_as_admits_what_it_says() {
        let (ours, theirs) = (Asn::new(64512).unwrap(), Asn::new(4_200_000_000).unwrap());
        assert!(RemoteAs::Exactly(theirs).admits(ours, theirs));
        assert!(!RemoteAs::Exactly(theirs).admits(ours, ours));
        assert!(RemoteAs::Internal.admits(ours, ours) && !RemoteAs::Internal.admits(ours, theirs));
        assert!(RemoteAs::External.admits(ours, theirs) && !RemoteAs::External.admits(ours, ours));
        assert_eq!(Asn::new(0), None);
    }
}
