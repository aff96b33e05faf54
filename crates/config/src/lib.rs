//! A set of objects becomes a validated [`Config`], or findings that say what is wrong, where, and what to do.
//!
//! The same rules serve the webhook, the linter, the controller and every speaker, so that they never disagree
//! (contract section 4). Nothing here watches, reads files or remembers: the whole set goes in, the whole answer comes
//! out. That is cheap enough to do on every change; and many changes need none of it, see [`Objects::insert`] and
//! [`Scope::reads`].
//!
//! ```
//! use config::{Objects, Scope, validate};
//!
//! let mut objects = Objects::new();
//! let mut pool = api::IPAddressPool::default();
//! pool.metadata.name = "web".to_owned();
//! pool.spec.addresses = vec!["198.51.100.1".to_owned()];
//! objects.insert(api::Object::IPAddressPool(pool));
//! let refused = validate(&objects, Scope::Controller, None).unwrap_err();
//! assert_eq!(refused.to_string(), r#"IPAddressPool web: invalid CIDR "198.51.100.1" in pool "web""#);
//! ```

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod admission;
mod advertisements;
mod attach;
mod bfd;
mod change;
mod communities;
mod finding;
mod model;
mod objects;
mod password;
mod peers;
mod pools;
mod selectors;
mod tcp_keys;
mod timers;
mod validate;

pub use admission::{Change, Review, review};
pub use change::{Effect, FieldChange, ObjectChange, PeerChange, changes};
pub use finding::{Finding, Severity};
pub use model::{
    BfdProfile, BgpAdvertisement, Config, ConnectionMode, GracefulRestart, L2Advertisement, OwnerSelection, Peer,
    PeerBfd, PeerEndpoint, Pool, Preference, ServiceAllocation,
};
pub use objects::Objects;
pub use validate::{Accepted, Refused, Scope, bgp_extras, validate};
