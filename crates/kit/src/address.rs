//! Addresses: families, MAC addresses and inclusive ranges of one family.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::str::FromStr;

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Family {
    /// IPv4.
    #[serde(rename = "ipv4")]
    V4,
    /// IPv6.
    #[serde(rename = "ipv6")]
    V6,
}

impl Family {
    /// Both families, IPv4 first.
    pub const ALL: [Family; 2] = [Family::V4, Family::V6];

    /// The family of an address. An IPv4-mapped IPv6 address counts as IPv6; see [`AddrRange::parse`] for input text.
    pub const fn of(address: &IpAddr) -> Family {
        match address {
            IpAddr::V4(_) => Family::V4,
            IpAddr::V6(_) => Family::V6,
        }
    }

    /// The other family.
    pub const fn other(self) -> Family {
        match self {
            Family::V4 => Family::V6,
            Family::V6 => Family::V4,
        }
    }

    /// The number of bits in an address.
    pub const fn bits(self) -> u8 {
        match self {
            Family::V4 => 32,
            Family::V6 => 128,
        }
    }

    /// The address with this number, in network order; `None` when an IPv4 number needs more than 32 bits.
    pub fn address(self, number: u128) -> Option<IpAddr> {
        match self {
            Family::V4 => u32::try_from(number).ok().map(|n| IpAddr::V4(Ipv4Addr::from(n))),
            Family::V6 => Some(IpAddr::V6(Ipv6Addr::from(number))),
        }
    }

    /// The number of an address, in network order.
    pub fn number(address: &IpAddr) -> u128 {
        match address {
            IpAddr::V4(v4) => u128::from(u32::from(*v4)),
            IpAddr::V6(v6) => u128::from(*v6),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Family::V4 => "IPv4",
            Family::V6 => "IPv6",
        })
    }
}

/// True for an IPv4 address whose last octet is 0 or 255, which some old equipment drops (`avoidBuggyIPs`, contract 1.1).
pub fn is_buggy(address: &IpAddr) -> bool {
    matches!(address, IpAddr::V4(v4) if matches!(v4.octets(), [.., 0 | 255]))
}

/// An Ethernet address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct Mac(pub [u8; 6]);

impl Mac {
    /// All stations.
    pub const BROADCAST: Mac = Mac([0xff; 6]);
    /// No address; in ARP, a target that is not known yet.
    pub const ZERO: Mac = Mac([0; 6]);

    /// The multicast address that carries an IPv6 group (RFC 2464 section 7).
    pub const fn multicast_for(group: Ipv6Addr) -> Mac {
        let [.., a, b, c, d] = group.octets();
        Mac([0x33, 0x33, a, b, c, d])
    }

    /// True when the group bit is set, as in broadcast.
    pub const fn is_multicast(self) -> bool {
        let [first, ..] = self.0;
        first & 1 == 1
    }
}

impl fmt::Display for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, octet) in self.0.iter().enumerate() {
            let separator = if position == 0 { "" } else { ":" };
            write!(f, "{separator}{octet:02x}")?;
        }
        Ok(())
    }
}

impl fmt::Debug for Mac {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// The text is not a MAC address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MacError(String);

impl fmt::Display for MacError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} is not a MAC address such as 02:00:5e:10:00:01", self.0)
    }
}

impl std::error::Error for MacError {}

impl FromStr for Mac {
    type Err = MacError;

    fn from_str(text: &str) -> Result<Self, MacError> {
        let mut octets = [0u8; 6];
        let mut parts = text.split(':');
        for octet in &mut octets {
            let part = parts.next().filter(|p| p.len() == 2).ok_or_else(|| MacError(text.to_owned()))?;
            *octet = u8::from_str_radix(part, 16).map_err(|_| MacError(text.to_owned()))?;
        }
        if parts.next().is_some() { Err(MacError(text.to_owned())) } else { Ok(Mac(octets)) }
    }
}

/// The addresses from `first` to `last`, both included, of one family.
///
/// Ordered by family, then first, then last address.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AddrRange {
    family: Family,
    first: u128,
    last: u128,
}

/// Why a text is not a range of addresses.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum AddrRangeError {
    /// No dash and not a prefix in CIDR form; a bare address is this too.
    #[error("invalid CIDR {0:?}")]
    NotACidr(String),
    /// An end of the range is not an address.
    #[error("invalid IP range {range:?}: {end:?} is not an IP address")]
    NotAnAddress {
        /// The whole entry.
        range: String,
        /// The end that cannot be read.
        end: String,
    },
    /// The range runs backwards.
    #[error("invalid IP range {range:?}: start {first} is after end {last}")]
    Backwards {
        /// The whole entry.
        range: String,
        /// Its first address.
        first: IpAddr,
        /// Its last address.
        last: IpAddr,
    },
    /// One end is IPv4, the other IPv6.
    #[error("invalid IP range {range:?}: start and end are of different families")]
    MixedFamilies {
        /// The whole entry.
        range: String,
    },
}

impl AddrRange {
    /// The range between two addresses of one family, in order; `None` otherwise.
    pub fn new(first: IpAddr, last: IpAddr) -> Option<Self> {
        let family = Family::of(&first);
        let (low, high) = (Family::number(&first), Family::number(&last));
        (family == Family::of(&last) && low <= high).then_some(AddrRange { family, first: low, last: high })
    }

    /// Reads an entry of a pool: a CIDR (host bits are masked off) or `start-end` with blanks allowed round the dash
    /// (contract 4.2 rules 3 and 4, vectors in 13.1). IPv4-mapped IPv6 text means the IPv4 address.
    pub fn parse(text: &str) -> Result<Self, AddrRangeError> {
        match text.split_once('-') {
            Some((first, last)) => Self::parse_dashed(text, first.trim(), last.trim()),
            None => Self::parse_cidr(text).ok_or_else(|| AddrRangeError::NotACidr(text.to_owned())),
        }
    }

    fn parse_dashed(range: &str, first: &str, last: &str) -> Result<Self, AddrRangeError> {
        let address = |end: &str| {
            end.parse::<IpAddr>()
                .map(|a| a.to_canonical())
                .map_err(|_| AddrRangeError::NotAnAddress { range: range.to_owned(), end: end.to_owned() })
        };
        let (first, last) = (address(first)?, address(last)?);
        if Family::of(&first) != Family::of(&last) {
            return Err(AddrRangeError::MixedFamilies { range: range.to_owned() });
        }
        Self::new(first, last).ok_or(AddrRangeError::Backwards { range: range.to_owned(), first, last })
    }

    fn parse_cidr(text: &str) -> Option<Self> {
        let net: IpNet = text.trim().parse().ok()?;
        let mapped = match net {
            IpNet::V6(v6) if v6.prefix_len() >= 96 => v6.addr().to_ipv4_mapped().map(|v4| (v4, v6.prefix_len())),
            IpNet::V4(_) | IpNet::V6(_) => None,
        };
        match mapped {
            Some((v4, length)) => IpNet::new(IpAddr::V4(v4), length.checked_sub(96)?).ok().map(AddrRange::from),
            None => Some(AddrRange::from(net)),
        }
    }

    /// The family of all its addresses.
    pub const fn family(&self) -> Family {
        self.family
    }

    /// The number of the first address.
    pub const fn first(&self) -> u128 {
        self.first
    }

    /// The number of the last address.
    pub const fn last(&self) -> u128 {
        self.last
    }

    /// The first address.
    pub fn first_address(&self) -> IpAddr {
        self.address_of(self.first)
    }

    /// The last address.
    pub fn last_address(&self) -> IpAddr {
        self.address_of(self.last)
    }

    fn address_of(&self, number: u128) -> IpAddr {
        // Both ends came from addresses of this family, so the number always fits.
        self.family.address(number).unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED))
    }

    /// How many addresses it holds; `u128::MAX` for all of IPv6, which holds one more than fits.
    pub const fn size(&self) -> u128 {
        self.last.saturating_sub(self.first).saturating_add(1)
    }

    /// How many of its addresses end in 0 or 255, if it is IPv4; see [`is_buggy`].
    pub fn buggy_count(&self) -> u128 {
        if self.family == Family::V6 {
            return 0;
        }
        // How many numbers from 0 to n end in 255, and how many in 0.
        let up_to = |n: u128| (n / 256).saturating_add(u128::from(n % 256 == 255));
        let zeros = |n: u128| (n / 256).saturating_add(1);
        let below = self.first.checked_sub(1).map_or(0, |n| up_to(n).saturating_add(zeros(n)));
        up_to(self.last).saturating_add(zeros(self.last)).saturating_sub(below)
    }

    /// True when the address lies in it.
    pub fn contains(&self, address: &IpAddr) -> bool {
        let number = Family::number(address);
        Family::of(address) == self.family && self.first <= number && number <= self.last
    }

    /// True when the two share an address.
    pub fn overlaps(&self, other: &AddrRange) -> bool {
        self.family == other.family && self.first <= other.last && other.first <= self.last
    }

    /// The fewest prefixes that hold exactly these addresses, ascending.
    pub fn prefixes(&self) -> Vec<IpNet> {
        let bits = u32::from(self.family.bits());
        let mut prefixes = Vec::new();
        let mut next = Some(self.first);
        while let Some(first) = next.filter(|n| *n <= self.last) {
            // The largest power of two that both divides the start (alignment) and fits in what is left.
            let left = self.last.saturating_sub(first);
            let fits = left.checked_add(1).map_or(bits, u128::ilog2);
            let host_bits = first.trailing_zeros().min(bits).min(fits);
            let length = u8::try_from(bits.saturating_sub(host_bits)).unwrap_or(u8::MAX);
            prefixes.extend(IpNet::new(self.address_of(first), length));
            next = 1u128.checked_shl(host_bits).and_then(|size| first.checked_add(size));
        }
        prefixes
    }
}

impl From<IpNet> for AddrRange {
    fn from(net: IpNet) -> Self {
        AddrRange {
            family: Family::of(&net.addr()),
            first: Family::number(&net.network()),
            last: Family::number(&net.broadcast()),
        }
    }
}

impl fmt::Display for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first_address(), self.last_address())
    }
}

impl fmt::Debug for AddrRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use proptest::prelude::*;

    fn check(entry: &str, expected: Expect) {
        let text = match AddrRange::parse(entry) {
            Ok(range) => {
                let prefixes: Vec<String> = range.prefixes().iter().map(ToString::to_string).collect();
                format!("{}; {}", prefixes.join(", "), range.size())
            }
            Err(error) => format!("error: {error}"),
        };
        expected.assert_eq(&text);
    }

    #[test]
    fn entries_of_contract_13_1() {
        check("1.2.3.4", expect![[r#"error: invalid CIDR "1.2.3.4""#]]);
        check("10.0.0.5/24", expect!["10.0.0.0/24; 256"]);
        check("10.0.0.10-10.0.0.20", expect!["10.0.0.10/31, 10.0.0.12/30, 10.0.0.16/30, 10.0.0.20/32; 11"]);
        check("10.0.0.1 - 10.0.0.3", expect!["10.0.0.1/32, 10.0.0.2/31; 3"]);
        check("fc00::-fc00::3", expect!["fc00::/126; 4"]);
        check(
            "10.0.0.3-10.0.0.1",
            expect![[r#"error: invalid IP range "10.0.0.3-10.0.0.1": start 10.0.0.3 is after end 10.0.0.1"#]],
        );
        check(
            "fc00::1-1.2.3.4",
            expect![[r#"error: invalid IP range "fc00::1-1.2.3.4": start and end are of different families"#]],
        );
        check(
            "1.2.3.4-fc00::1",
            expect![[r#"error: invalid IP range "1.2.3.4-fc00::1": start and end are of different families"#]],
        );
        check("::ffff:10.0.0.0/120", expect!["10.0.0.0/24; 256"]);
        check("fc00::/67", expect!["fc00::/67; 2305843009213693952"]);
        check("0.0.0.0/0", expect!["0.0.0.0/0; 4294967296"]);
        check("::/0", expect!["::/0; 340282366920938463463374607431768211455"]);
        check("1.2.3.4-", expect![[r#"error: invalid IP range "1.2.3.4-": "" is not an IP address"#]]);
        check("", expect![[r#"error: invalid CIDR """#]]);
    }

    #[test]
    fn buggy_addresses_of_contract_13_1_are_counted_once() {
        let usable: u128 = ["10.0.0.0/24", "10.0.2.0/32", "10.0.3.255/32", "10.0.4.0/25", "10.0.8.0/22"]
            .map(|entry| AddrRange::parse(entry).unwrap())
            .iter()
            .map(|range| range.size() - range.buggy_count())
            .sum();
        assert_eq!(usable, 1397);
    }

    #[test]
    fn mac_addresses_read_and_print() {
        let mac: Mac = "02:00:5e:10:00:ff".parse().unwrap();
        assert_eq!(mac.to_string(), "02:00:5e:10:00:ff");
        assert!("02:00:5e:10:00".parse::<Mac>().is_err());
        assert!("02:00:5e:10:00:ff:01".parse::<Mac>().is_err());
        assert!("2:00:5e:10:00:ff".parse::<Mac>().is_err());
        assert_eq!(Mac::multicast_for("ff02::1:ff00:1".parse().unwrap()).to_string(), "33:33:ff:00:00:01");
    }

    proptest! {
        #[test]
        fn prefixes_of_a_range_are_exactly_its_addresses(first in any::<u32>(), span in 0u32..5000) {
            let last = first.saturating_add(span);
            let range = AddrRange::new(Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into()).unwrap();
            let mut expected = Some(u128::from(first));
            for prefix in range.prefixes() {
                let piece = AddrRange::from(prefix);
                prop_assert_eq!(Some(piece.first()), expected);
                expected = piece.last().checked_add(1);
            }
            prop_assert_eq!(expected, Some(u128::from(last) + 1));
        }

        #[test]
        fn buggy_count_agrees_with_counting(first in any::<u32>(), span in 0u32..3000) {
            let last = first.saturating_add(span);
            let range = AddrRange::new(Ipv4Addr::from(first).into(), Ipv4Addr::from(last).into()).unwrap();
            let counted = (first..=last).filter(|n| is_buggy(&Ipv4Addr::from(*n).into())).count();
            prop_assert_eq!(range.buggy_count(), counted as u128);
        }
    }
}
