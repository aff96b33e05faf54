//! A seeded cluster of the real cores in virtual time, with what must hold checked after each step.
//!
//! [`Plan`] is one run: a [`History`] of Services, pools, nodes, endpoints and faults, done to a [`Cluster`] that has the
//! controller and speakers that ship, each with its responder and its BGP sessions, an API server that they hear from
//! late, routers made of the same BGP core, and hosts that ask for addresses. All of it is a pure function of the seed.
//!
//! What must hold is listed in [`Invariant`]. Some of it is checked with each input of a core: no address is given twice
//! or moves that need not, a session ends for its own reasons alone. The rest is checked when the cluster has come to rest:
//! who answers for which address, and which routes routers have, is compared with a model that reads contract sections
//! 3, 5 and 6 anew; statuses and counters with a recount. [`Exam`]s then try out restarts and failovers.
//!
//! A [`Sabotage`] is a defect put in on purpose, to see that each of these checks can fail.
//!
//! ```
//! use sim::{KeepsTrace, Plan};
//!
//! if let Err(failure) = Plan::of_seed(1).run(KeepsTrace::No) {
//!     panic!("{failure}");
//! }
//! ```

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod alarms;
mod api_server;
mod asker;
mod assigner;
mod client;
mod cluster;
mod configuration;
mod controller_process;
mod history;
pub mod ledger;
mod machine;
mod model;
mod names;
mod router;
mod run;
mod sabotage;
mod schedule;
mod sessions;
mod speaker_process;
mod step;
mod tcp;
mod trace;
mod violation;

pub use cluster::{Claim, Climate, Cluster, Exam, KeepsTrace, Manner, Membership, Tampering};
pub use history::History;
pub use names::{CLUSTER_AS, Lan, NODES_MAX, NodeId, ProcessId, RouterName};
pub use router::{Route, Table};
pub use run::{Failure, Plan};
pub use sabotage::Sabotage;
pub use step::{Exit, PodState, Step};
pub use violation::{Invariant, Violation};
