//! The routes that we want a peer to have, and how far each of them got.

use std::collections::BTreeSet;
use std::fmt;

use kit::{Community, ExtendedCommunity};

/// The attributes of a wanted route, as configuration gives them. The session adds the rest: ORIGIN, AS_PATH, NEXT_HOP.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RouteAttributes {
    /// LOCAL_PREF towards a peer in our own AS, [`crate::wire::LOCAL_PREF_DEFAULT`] if absent; never sent to others.
    pub local_pref: Option<u32>,
    /// MULTI_EXIT_DISC, which is left out if absent.
    pub multi_exit_disc: Option<u32>,
    /// How often our AS is in the path beyond the one time that it has to be; never towards our own AS, where the path
    /// is empty.
    pub prepend: u8,
    /// COMMUNITIES (RFC 1997) and LARGE_COMMUNITY (RFC 8092).
    pub communities: BTreeSet<Community>,
    /// EXTENDED_COMMUNITIES (RFC 4360); those that are not transitive go to our own AS alone.
    pub extended_communities: BTreeSet<ExtendedCommunity>,
}

/// GRACEFUL_SHUTDOWN (RFC 8326 section 5).
pub const GRACEFUL_SHUTDOWN: Community = Community::Standard(0xffff_0000);

impl RouteAttributes {
    /// The same route as the last choice of whoever has another: before planned work, so that traffic goes elsewhere
    /// while this way still works (RFC 8326 section 4).
    ///
    /// The community asks those who honour it. LOCAL_PREF does inside our AS what section 4.1 has the receiver do. The
    /// highest MULTI_EXIT_DISC works at routers that know nothing of all that, among routes of one neighbour AS, which
    /// those of the nodes of a cluster are.
    #[must_use]
    pub fn lowered(&self) -> RouteAttributes {
        let mut lowered = self.clone();
        lowered.communities.insert(GRACEFUL_SHUTDOWN);
        lowered.local_pref = Some(0);
        lowered.multi_exit_disc = Some(u32::MAX);
        lowered
    }
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
