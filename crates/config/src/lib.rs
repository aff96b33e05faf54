//! A set of objects becomes a validated [`Config`], or findings that say what is wrong, where, and what to do.
//!
//! The same rules serve the webhook, the linter, the controller and every speaker, so that they never disagree
//! (contract section 4). Nothing here watches, reads files or remembers: the whole set goes in, the whole answer comes out.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod finding;
mod model;

pub use finding::{Finding, Severity};
pub use model::{
    BfdProfile, BgpAdvertisement, Config, L2Advertisement, Peer, PeerEndpoint, Pool, Preference, ServiceAllocation,
};
