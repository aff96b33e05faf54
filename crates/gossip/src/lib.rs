//! HashiCorp's memberlist as a sans-IO core: who is a member, who failed, and who must be believed about it.
//!
//! - [`wire`] turns bytes into messages and back.
//! - [`Membership`] is one member: SWIM with Lifeguard, as memberlist v0.5.1 does it, and a watch over the members
//!   whose addresses this node would inherit, which finds a dead node in less than half a second.
//!
//! The core reads no clock, opens no socket, draws no random number of its own and holds no cryptography: time comes
//! with every input, packets and streams come and go as inputs and outputs, the generator comes with the constructor,
//! and keys are something that can [`Seal`]. It knows nothing of Services. Contract 5.2;
//! `docs/protocols/memberlist.md`.
//!
//! # Driving a member
//!
//! ```
//! use std::collections::BTreeSet;
//!
//! use gossip::{Config, Input, Keyring, Membership, Name, OUTBOX_LIMIT, Output};
//! use kit::{Instant, Outbox, Rng};
//!
//! let name = Name::new("node-a").expect("a name");
//! let config = Config::new(name, "10.0.0.1:7946".parse().expect("an address"), Keyring::plaintext());
//! let mut membership = Membership::new(config, Rng::new(1), Instant::ZERO);
//! let mut out = Outbox::with_limit(OUTBOX_LIMIT);
//! // Addresses of all speakers, from the API: those that are no members are contacted.
//! let addresses = BTreeSet::from(["10.0.0.2:7946".parse().expect("an address")]);
//! membership.handle(Instant::ZERO, Input::Peers { addresses }, &mut out);
//! // The driver executes the outputs, here by opening a connection and telling `Input::Connected`...
//! assert!(matches!(out.pop(), Some(Output::Dial { .. })));
//! // ... and calls again with `Input::Tick` when the deadline has come.
//! assert!(membership.next_deadline().is_some());
//! ```

// `expect-test` writes its snapshots with hashes.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::needless_raw_string_hashes))]

mod awareness;
mod broadcast;
mod config;
mod duration;
mod event;
mod key;
mod member;
mod membership;
mod name;
mod profile;
mod scale;
mod view;
mod watch;
pub mod wire;

pub use config::{Config, Label, Meta, TooLong, Vigilance};
pub use event::{Cause, CloseReason, ConnectionId, Input, MemberChange, MemberState, OUTBOX_LIMIT, Output, Report};
pub use key::{EmptySecret, KEY_LEN, KEYS_MAX, Key, Keyring, NONCE_LEN, Seal, TAG_LEN, TooManyKeys};
pub use membership::Membership;
pub use name::{NAME_MAX, Name, NameError};
pub use profile::{FieldError, Outgoing, Profile, ProfileError, TcpPings};
pub use view::{Counters, MemberView, MembershipView, WatchView};
pub use watch::{INTERVAL, Patience, Silence, WatchState};
