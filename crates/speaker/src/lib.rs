//! What a speaker decides, as a pure function of what it knows: which addresses this node answers for on the local
//! segment, which routes it gives to which router, and for every Service why or why not.
//!
//! [`Speaker`] is told of Services, endpoints, nodes, configuration and interfaces, and leaves the differences in its
//! outbox: what to begin and what to stop announcing. Every decision is a chain of [`Gate`]s (contract 5.1, 6.1); events,
//! logs, metrics and `why` only render it.
//!
//! What BFD says about the path to a router, and what follows from that for its BGP session, is in [`watch`].
//!
//! It knows no packet, no session state and no clock: `l2`, `bgp` and `bfd` carry out what is decided here.

// `expect-test` writes its snapshots with hashes.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::needless_raw_string_hashes))]

mod backends;
mod balance;
mod contest;
#[path = "speaker.rs"]
mod core;
mod decide;
mod drain;
mod election;
mod facts;
mod fitness;
mod hindrance;
mod layer2;
mod members;
mod overview;
mod routes;
mod sharing;
mod silence;
mod verdict;
pub mod watch;

pub use core::{Input, Options, Output, Rival, Speaker};
pub use decide::{BgpGrant, Exclusion, Layer2Grant};
pub use drain::DrainOptions;
pub use election::{Rank, digest};
pub use fitness::{CALM, HOLD_FIRST, HOLD_MAX, LOSS_MIN, Link, RETURN_TIME};
pub use hindrance::{Hindrance, Hindrances};
pub use members::{Members, Statement};
pub use overview::{Answer, Overview, OverviewInput};
pub use silence::Silence;
pub use verdict::{Decision, Gate, Loss, Protocol, Refusal, Verdict};
