//! The vocabulary that every core speaks: time that is passed in, timers that are data, randomness that has a seed,
//! queues that have a limit, and the words of the field (addresses, AS numbers, labels, secrets).
//!
//! Nothing here reads a clock, opens a socket, spawns or logs, and nothing here knows Kubernetes or a protocol.
//!
//! ```
//! use kit::{Duration, Instant, TimerTable};
//!
//! let start = Instant::ZERO;
//! let mut timers = TimerTable::new();
//! timers.set("hold", start + Duration::from_secs(90));
//! assert_eq!(timers.next_deadline(), Some(start + Duration::from_secs(90)));
//! ```

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod address;
mod authentication;
mod extended_community;
mod interface;
mod interval;
mod labels;
mod outbox;
mod rng;
mod routing;
mod secret;
mod time;
mod timers;

pub use address::{AddrRange, AddrRangeError, Family, Mac, MacError, is_buggy};
pub use authentication::{MacAlgorithm, MasterKeyTuple, MasterKeys, TcpAuthentication};
pub use extended_community::{ExtendedCommunity, ExtendedCommunityError};
pub use interface::InterfaceIndex;
pub use interval::IntervalSet;
pub use labels::{Labels, Requirement, Selector, SelectorList};
pub use outbox::Outbox;
pub use rng::Rng;
pub use routing::{Asn, Community, CommunityError, HoldTime, HoldTimeError, RemoteAs, RouterId, RouterIdError};
pub use secret::Secret;
pub use time::{Duration, Instant};
pub use timers::TimerTable;
