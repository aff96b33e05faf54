//! Path attributes.

use std::collections::BTreeSet;
use std::net::Ipv4Addr;

use kit::{Asn, Community};

/// LOCAL_PREF of a route that has none of its own: RFC 4271 demands one towards internal peers, and 100 is what
/// routers assume. Our decision on contract 12.1 D31.
pub const LOCAL_PREF_DEFAULT: u32 = 100;

/// How a route came into BGP (RFC 4271 section 5.1.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Origin {
    /// From inside its AS.
    #[default]
    Igp,
    /// From the protocol of RFC 904.
    Egp,
    /// Some other way.
    Incomplete,
}

/// A kind of AS path segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SegmentKind {
    /// Unordered (deprecated by RFC 9774, still received).
    Set,
    /// In order, the nearest AS first.
    Sequence,
    /// A sequence within a confederation (RFC 5065).
    ConfederationSequence,
    /// A set within a confederation (RFC 5065).
    ConfederationSet,
}

/// A part of an AS path: 1 to 255 numbers.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Segment {
    /// How to read the numbers.
    pub kind: SegmentKind,
    /// The numbers.
    pub asns: Vec<Asn>,
}

/// The ASes that a route came through.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AsPath(pub Vec<Segment>);

/// Who formed an aggregate (RFC 4271 section 5.1.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Aggregator {
    /// Its AS.
    pub asn: Asn,
    /// Its BGP identifier.
    pub address: Ipv4Addr,
}

/// An extended community, uninterpreted (RFC 4360).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ExtendedCommunity(pub [u8; 8]);

/// The attributes of a route, without its next hop, as far as they are understood here.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct PathAttributes {
    /// ORIGIN.
    pub origin: Origin,
    /// AS_PATH, with the numbers of AS4_PATH in place.
    pub as_path: AsPath,
    /// MULTI_EXIT_DISC.
    pub multi_exit_disc: Option<u32>,
    /// LOCAL_PREF; only from internal peers.
    pub local_pref: Option<u32>,
    /// ATOMIC_AGGREGATE is present.
    pub atomic_aggregate: bool,
    /// AGGREGATOR, with the number of AS4_AGGREGATOR in place.
    pub aggregator: Option<Aggregator>,
    /// COMMUNITIES and LARGE_COMMUNITY.
    pub communities: BTreeSet<Community>,
    /// EXTENDED_COMMUNITIES.
    pub extended_communities: BTreeSet<ExtendedCommunity>,
}
