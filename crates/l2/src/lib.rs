//! ARP and NDP: who answers for an announced address on which interface, and when the network is told without asking.
//!
//! [`Responder`] is the core. It is told which interfaces there are, which addresses to announce where, and every frame
//! that arrives; it says which frames to send, which sockets to hold open and which multicast groups to join. It knows no
//! Service, no election and no socket: which node announces an address is decided by the speaker, and bytes are moved by
//! `netio`.
//!
//! Contract sections 5.3 to 5.7 and 8.3. RFCs 826, 5227 (ARP), 4861, 4862, 2464 (NDP): `docs/rfc/l2.md` has every clause.

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod answer;
mod fellow;
mod gateway;
pub mod host;
mod interface;
mod link;
mod message;
mod responder;
mod schedule;
pub mod wire;

pub use gateway::Gateway;
pub use interface::{Coverage, Exclusion, Interface, InterfaceFlags, InterfaceSet, Obstacle, Protocol};
pub use message::{Action, ClaimKind, Claimant, Input, Output, Report};
pub use responder::{
    CLAIM_INTERVAL, CONFLICT_GRACE, Counters, DEFEND_INTERVAL, HAND_OVER_MAX, OUTBOX_MAX, REPEAT_INTERVAL, Responder,
    SOCKET_RETRY, Settings,
};
pub use schedule::{FRAMES_PER_PACE, PACE, REFRESH_FRAMES_PER_PACE, ROUND_INTERVAL, ROUNDS, Refresh, frames_per_round};
