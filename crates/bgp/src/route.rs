//! The routes that we want a peer to have, and how far each of them got.

use std::collections::BTreeSet;
use std::fmt;

use kit::Community;

/// The attributes of a wanted route, as configuration gives them. The session adds the rest: ORIGIN, AS_PATH, NEXT_HOP.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteAttributes {
    /// LOCAL_PREF towards a peer in our own AS, [`crate::wire::LOCAL_PREF_DEFAULT`] if absent; never sent to others.
    pub local_pref: Option<u32>,
    /// COMMUNITIES (RFC 1997) and LARGE_COMMUNITY (RFC 8092).
    pub communities: BTreeSet<Community>,
}

/// How far a wanted route got on its way to the peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum RouteState {
    /// Nobody wants it announced to this peer.
    NotWanted,
    /// There is no session.
    NoSession,
    /// It will be sent as soon as the connection takes it.
    Queued,
    /// The peer has it.
    Announced,
    /// The session carries the other family only (`dualStackAddressFamily` is off).
    FamilyNotConfigured,
    /// The peer did not announce support for this family.
    FamilyNotNegotiated,
    /// We have no address of this family that could be the next hop.
    NoNextHop,
    /// The attributes alone do not fit in one UPDATE (RFC 4271 section 9.2).
    TooLarge,
}

impl fmt::Display for RouteState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            RouteState::NotWanted => "not wanted on this session",
            RouteState::NoSession => "the session is not established",
            RouteState::Queued => "waiting to be sent",
            RouteState::Announced => "announced",
            RouteState::FamilyNotConfigured => "the session carries the other address family only",
            RouteState::FamilyNotNegotiated => "the peer does not support this address family",
            RouteState::NoNextHop => "there is no local address of this family to be the next hop",
            RouteState::TooLarge => "the attributes do not fit in one UPDATE message",
        })
    }
}
