//! Addresses for Services: pools, sharing, families, priorities (contract section 3).
//!
//! [`Allocator`] owns which Service has which addresses. It gives the lowest address in a pool's order that will do, and
//! says no with a [`Refusal`] that names what is in the way. What a Service is, what its status says and what is told to
//! whom, it does not know: that is the controller's.
//!
//! ```
//! use std::sync::Arc;
//! use ipam::{Allocator, Client, LabelText, Pool, Ports, Stack, Want};
//! use kit::{AddrRange, Family};
//!
//! let mut allocator = Allocator::new();
//! let ranges = vec![AddrRange::parse("192.0.2.8/30").unwrap()];
//! allocator.replace(vec![Pool { name: "a".into(), ranges, auto_assign: true, avoid_buggy_ips: false, pinning: None }]);
//!
//! let client = Arc::new(Client {
//!     holder: "default/web".into(),
//!     labels: LabelText::default(),
//!     sharing: None,
//!     ports: Ports::default(),
//! });
//! let want = Want { stack: Stack::Single(Family::V4), addresses: None, pool: None, previous: None };
//! let grant = allocator.allocate(&client, &want).unwrap();
//! assert_eq!(grant.addresses.to_string(), r#"["192.0.2.8"]"#);
//! ```

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod allocator;
mod client;
mod invariants;
mod layout;
mod pool;
mod refusal;
mod replace;
mod search;
mod seats;
mod space;

pub use allocator::{Allocator, Audience, Grant, Holding, PoolUsage, Vacancy};
pub use client::{
    Addresses, Backend, Client, Families, Holder, LabelText, Port, Ports, Protocol, Sharing, Stack, Want,
};
pub use pool::{Pinning, Pool, PoolName};
pub use refusal::{Difference, Misplaced, NotAccepted, PoolReport, PoolVerdict, Refusal};
pub use replace::Replaced;
