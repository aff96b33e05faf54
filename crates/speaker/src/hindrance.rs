//! What keeps a node from announcing addresses on its segments, and how that is written into memberlist's metadata, of
//! which speakers of the Go implementation have none.
//!
//! It does not know how a hindrance is found (`fitness.rs`) or what follows from it (`contest.rs`).

use std::collections::BTreeSet;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use ipnet::IpNet;
use kit::Family;

/// What memberlist takes as metadata of a member at most.
const BYTES_MAX: usize = 512;
/// The first bytes: who speaks, and in which version.
const HEADER: &[u8] = b"mlb\x01";

const KIND_ADVERTISEMENT: u8 = 1;
const KIND_NETWORK: u8 = 2;
const KIND_WAY_OUT: u8 = 3;
const KIND_EVERYTHING: u8 = 4;

/// One thing that keeps a node from announcing some addresses (contract 12.2 R9).
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Hindrance {
    /// Addresses of the family can be answered on none of the interfaces that an L2Advertisement allows.
    Advertisement {
        /// The family.
        family: Family,
        /// Its name.
        name: String,
    },
    /// The node was on this network, and has no interface left that reaches it.
    Network(IpNet),
    /// The node had a default route of the family, and has none that works.
    WayOut(Family),
    /// There is more than can be told.
    Everything,
}

impl fmt::Display for Hindrance {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Hindrance::Advertisement { family, name } => {
                write!(f, "{family} addresses are answered on no interface of L2Advertisement {name:?}")
            }
            Hindrance::Network(network) => write!(f, "no interface reaches network {network} any more"),
            Hindrance::WayOut(family) => write!(f, "no default route for {family} works any more"),
            Hindrance::Everything => f.write_str("more is lost than can be told"),
        }
    }
}

/// All that keeps a node from announcing addresses, as the other speakers are told: never more than fits.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hindrances(BTreeSet<Hindrance>);

impl Hindrances {
    /// All of these; [`Hindrance::Everything`] in their place when they are too many to be told.
    pub fn new(all: BTreeSet<Hindrance>) -> Self {
        let length = all.iter().map(|hindrance| entry(hindrance).len()).sum::<usize>().saturating_add(HEADER.len());
        if length > BYTES_MAX { Hindrances(BTreeSet::from([Hindrance::Everything])) } else { Hindrances(all) }
    }

    /// Whether nothing is in the way.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// One by one.
    pub fn iter(&self) -> impl Iterator<Item = &Hindrance> {
        self.0.iter()
    }

    /// Those that another set does not have.
    pub fn without<'a>(&'a self, other: &'a Hindrances) -> impl Iterator<Item = &'a Hindrance> {
        self.0.difference(&other.0)
    }

    /// What keeps the node from announcing an address that these advertisements are for.
    pub(crate) fn of_address<'a>(
        &self,
        address: &IpAddr,
        mut advertisements: impl Iterator<Item = &'a str>,
    ) -> Option<&Hindrance> {
        if self.0.is_empty() {
            return None;
        }
        let family = Family::of(address);
        let is_met = |hindrance: &&Hindrance| match hindrance {
            Hindrance::Network(network) => network.contains(address),
            Hindrance::WayOut(lost) => *lost == family,
            Hindrance::Everything => true,
            Hindrance::Advertisement { .. } => false,
        };
        let of_advertisement = |name: &str| self.0.get(&Hindrance::Advertisement { family, name: name.to_owned() });
        self.0.iter().find(is_met).or_else(|| {
            // One advertisement with an interface that answers is enough.
            let first = of_advertisement(advertisements.next()?)?;
            advertisements.all(|name| of_advertisement(name).is_some()).then_some(first)
        })
    }

    /// As metadata of a member: at most 512 bytes.
    pub fn encode(&self) -> Vec<u8> {
        HEADER.iter().copied().chain(self.0.iter().flat_map(entry)).collect()
    }

    /// Reads the metadata of a member; `None` if it is none of ours, or of another version.
    pub fn decode(bytes: &[u8]) -> Option<Hindrances> {
        let mut rest = bytes.strip_prefix(HEADER)?;
        let mut all = BTreeSet::new();
        while let [kind, length, more @ ..] = rest {
            let (content, behind) = more.split_at_checked(usize::from(*length))?;
            // A kind that a later version has is not understood, and no reason to disbelieve the others.
            if (KIND_ADVERTISEMENT..=KIND_EVERYTHING).contains(kind) {
                all.insert(hindrance(*kind, content)?);
            }
            rest = behind;
        }
        rest.is_empty().then_some(Hindrances(all))
    }
}

const fn family_byte(family: Family) -> u8 {
    match family {
        Family::V4 => 4,
        Family::V6 => 6,
    }
}

fn family_of(byte: u8) -> Option<Family> {
    Family::ALL.into_iter().find(|family| family_byte(*family) == byte)
}

/// One hindrance: kind, length, content.
fn entry(hindrance: &Hindrance) -> Vec<u8> {
    let (kind, content) = match hindrance {
        Hindrance::Advertisement { family, name } => {
            let mut content = vec![family_byte(*family)];
            content.extend_from_slice(name.as_bytes());
            (KIND_ADVERTISEMENT, content)
        }
        Hindrance::Network(network) => {
            let mut content = vec![network.prefix_len()];
            match network.network() {
                IpAddr::V4(address) => content.extend(address.octets()),
                IpAddr::V6(address) => content.extend(address.octets()),
            }
            (KIND_NETWORK, content)
        }
        Hindrance::WayOut(family) => (KIND_WAY_OUT, vec![family_byte(*family)]),
        Hindrance::Everything => (KIND_EVERYTHING, Vec::new()),
    };
    match u8::try_from(content.len()) {
        Ok(length) => [vec![kind, length], content].concat(),
        // A name that no object can have (RFC 1123 in Kubernetes: 253 bytes).
        Err(_) => vec![KIND_EVERYTHING, 0],
    }
}

fn hindrance(kind: u8, content: &[u8]) -> Option<Hindrance> {
    match (kind, content) {
        (KIND_ADVERTISEMENT, [family, name @ ..]) => {
            Some(Hindrance::Advertisement { family: family_of(*family)?, name: String::from_utf8(name.to_vec()).ok()? })
        }
        (KIND_NETWORK, [length, octets @ ..]) => {
            let v4 = <[u8; 4]>::try_from(octets).map(Ipv4Addr::from).map(IpAddr::V4).ok();
            let v6 = || <[u8; 16]>::try_from(octets).map(Ipv6Addr::from).map(IpAddr::V6).ok();
            Some(Hindrance::Network(IpNet::new(v4.or_else(v6)?, *length).ok()?.trunc()))
        }
        (KIND_WAY_OUT, [family]) => Some(Hindrance::WayOut(family_of(*family)?)),
        (KIND_EVERYTHING, []) => Some(Hindrance::Everything),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use kit::Rng;

    use super::*;

    fn advertisement(family: Family, name: &str) -> Hindrance {
        Hindrance::Advertisement { family, name: name.to_owned() }
    }

    fn some() -> BTreeSet<Hindrance> {
        BTreeSet::from([
            advertisement(Family::V4, "segment"),
            advertisement(Family::V6, "segment"),
            Hindrance::Network("192.0.2.0/24".parse().unwrap()),
            Hindrance::Network("2001:db8::/64".parse().unwrap()),
            Hindrance::WayOut(Family::V6),
        ])
    }

    #[test]
    fn what_is_told_is_what_is_read() {
        for all in [BTreeSet::new(), some(), BTreeSet::from([Hindrance::Everything])] {
            let told = Hindrances::new(all.clone());
            assert_eq!(Hindrances::decode(&told.encode()), Some(Hindrances(all)));
        }
    }

    #[test]
    fn what_does_not_fit_is_everything() {
        let name = |n: usize| advertisement(Family::V4, &format!("{n:0>97}"));
        // Each takes 100 bytes.
        let told = Hindrances::new((0..5).map(name).collect());
        assert_eq!((told.0.len(), told.encode().len()), (5, 504));
        let told = Hindrances::new((0..6).map(name).collect());
        assert_eq!(told, Hindrances(BTreeSet::from([Hindrance::Everything])));
        let long = Hindrances::new(BTreeSet::from([advertisement(Family::V4, &"a".repeat(300))]));
        assert_eq!(Hindrances::decode(&long.encode()), Some(Hindrances(BTreeSet::from([Hindrance::Everything]))));
    }

    #[test]
    fn others_metadata_says_nothing_and_later_kinds_are_passed_over() {
        for strange in
            ["", "m", "mlb", "mlb\x02", "something else", "mlb\x01\x01", "mlb\x01\x01\x05abc", "mlb\x01\x03\x01\x05"]
        {
            assert_eq!(Hindrances::decode(strange.as_bytes()), None, "{strange:?}");
        }
        assert_eq!(Hindrances::decode(b"mlb\x01"), Some(Hindrances::default()));
        let later = Hindrances::decode(b"mlb\x01\x09\x03xyz\x03\x01\x04");
        assert_eq!(later, Some(Hindrances(BTreeSet::from([Hindrance::WayOut(Family::V4)]))));
    }

    #[test]
    fn mutated_metadata_is_read_or_not_and_nothing_else() {
        let mut rng = Rng::new(1);
        let good = Hindrances(some()).encode();
        for _ in 0..100_000 {
            let mut bytes = good.clone();
            for _ in 0..=rng.below(3) {
                let place = rng.index(bytes.len());
                bytes[place] = u8::try_from(rng.below(256)).unwrap();
            }
            bytes.truncate(rng.index(bytes.len() + 1));
            if let Some(read) = Hindrances::decode(&bytes) {
                assert_eq!(Hindrances::decode(&read.encode()), Some(read));
            }
        }
    }

    #[test]
    fn r9_which_addresses_a_hindrance_is_about() {
        let cases = [
            (advertisement(Family::V4, "one"), "192.0.2.1", "one", true),
            (advertisement(Family::V4, "one"), "192.0.2.1", "two", false),
            // Two advertisements allow the interfaces of both.
            (advertisement(Family::V4, "one"), "192.0.2.1", "one two", false),
            (advertisement(Family::V4, "one"), "192.0.2.1", "two one", false),
            (advertisement(Family::V6, "one"), "192.0.2.1", "one", false),
            (Hindrance::Network("192.0.2.0/24".parse().unwrap()), "192.0.2.1", "one", true),
            (Hindrance::Network("192.0.2.0/24".parse().unwrap()), "192.0.3.1", "one", false),
            (Hindrance::Network("2001:db8::/64".parse().unwrap()), "2001:db8::1", "one two", true),
            (Hindrance::WayOut(Family::V4), "192.0.2.1", "one", true),
            (Hindrance::WayOut(Family::V4), "2001:db8::1", "one", false),
            (Hindrance::Everything, "2001:db8::1", "one", true),
        ];
        for (hindrance, address, advertisements, expected) in cases {
            let all = Hindrances::new(BTreeSet::from([hindrance.clone()]));
            let met = all.of_address(&address.parse().unwrap(), advertisements.split_whitespace());
            assert_eq!(met.is_some(), expected, "{hindrance} and {address} by {advertisements}");
        }
        let both =
            Hindrances::new(BTreeSet::from([advertisement(Family::V4, "one"), advertisement(Family::V4, "two")]));
        assert!(both.of_address(&"192.0.2.1".parse().unwrap(), ["one", "two"].into_iter()).is_some());
    }
}
