//! What the controller decides: which Service gets which addresses, and what is written and told about it (contract
//! section 3).
//!
//! [`Controller`] is told about the configuration, Services, namespaces and pools, and leaves [`api::Write`]s. It reads
//! no clock and talks to nobody. Addresses are chosen by `ipam`; here is why, when and for whom: what a Service asks for,
//! whether what it has is still right, who waits for what, and whether the status that the cluster shows is ours.
//!
//! - Nothing is written before both a valid configuration and the complete initial list are there. Then existing
//!   assignments are claimed first, so a restart moves nothing. From then on memory is the truth and status its copy.
//! - Each event touches the Services it concerns: a freed address is offered to those who wait for it, the longest
//!   waiting first, until it is taken.
//! - What a Service has stays as long as it is *valid*: the pool holds it and accepts the Service, sharing allows it, the
//!   families fit. A *wish* (for another address or pool) that cannot be met does not make it invalid: the Service keeps
//!   what it has and is told (D7).

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod controller;
mod converge;
mod decide;
mod demand;
mod events;
mod explain;
mod invariants;
mod ledger;
mod pools;
mod problem;
mod waiting;

pub use controller::{Controller, Input, OUTPUTS_PER_STEP, Settings, Stats};
pub use demand::RequestError;
pub use explain::{Complaint, Decision, Outcome};
pub use problem::{Cause, Problem};
