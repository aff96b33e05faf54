//! What three codecs make of the same BGP message: ours, and two that others wrote.
//!
//! Each answer is brought into one form, so that they can be compared: what is wrong with the message as a whole, or which
//! routes it brings and takes with which attributes.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

mod netgauze;
mod ours;
mod rustbgpd;

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use ipnet::IpNet;

pub use netgauze::{netgauze, netgauze_again};
pub use ours::ours;
pub use rustbgpd::{rustbgpd, rustbgpd_again};

/// The AS of a peer that is in another one than we are.
pub const PEER_AS: u32 = 65001;

/// Under which agreement the message is read.
#[derive(Clone, Copy, Debug)]
pub struct Session {
    /// Both sides are in one AS.
    pub is_internal: bool,
    /// AS numbers have four bytes.
    pub four_bytes: bool,
}

/// What becomes of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The session ends.
    Reset,
    /// It is taken as a withdrawal of all its routes (RFC 7606 section 2).
    Withdraw(BTreeSet<IpNet>),
    /// It means this. Attributes may have been discarded.
    Update(Meaning),
    /// It is no UPDATE.
    Other,
}

/// What an UPDATE means.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Meaning {
    /// An attribute was left out because of an error.
    pub has_discarded: bool,
    /// Routes that go.
    pub withdrawn: BTreeSet<IpNet>,
    /// Routes that come, with the next hop and the link-local one.
    pub announced: BTreeMap<IpNet, (IpAddr, Option<IpAddr>)>,
    /// Their attributes; none without routes.
    pub attributes: Option<Attributes>,
}

/// Attributes that all three know.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Attributes {
    /// ORIGIN as a number.
    pub origin: u8,
    /// The segments: type and numbers.
    pub path: Vec<(u8, Vec<u32>)>,
    /// MULTI_EXIT_DISC.
    pub med: Option<u32>,
    /// LOCAL_PREF.
    pub local_pref: Option<u32>,
    /// COMMUNITIES.
    pub communities: BTreeSet<u32>,
    /// LARGE_COMMUNITY.
    pub large: BTreeSet<(u32, u32, u32)>,
}

impl Meaning {
    /// Withdrawn and announced in one message is announced (RFC 4271 section 4.3); attributes without a route mean
    /// nothing.
    pub(crate) fn settled(mut self) -> Meaning {
        self.withdrawn.retain(|prefix| !self.announced.contains_key(prefix));
        if self.announced.is_empty() {
            self.attributes = None;
        }
        self
    }
}
