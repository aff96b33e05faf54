//! Bidirectional Forwarding Detection as a sans-IO core: is the path to a neighbour alive, known within milliseconds.
//!
//! [`Registry`] is the core. It is told which paths to watch and every packet that arrives; it says which packets to send,
//! and when a session comes up or goes down and why. It opens no socket, reads no clock and draws no random number of its
//! own, and it knows neither BGP nor Kubernetes: with a driver of some hundred lines it serves any program.
//!
//! RFC 5880 (asynchronous mode, echo, demand mode of the neighbour), RFC 5881 (one hop, IPv4 and IPv6), RFC 5883 (several
//! hops), RFC 7419 (common intervals); contract sections 1.7 and 8.4. `docs/rfc/bfd.md` has every clause. There is no
//! authentication: packets that carry it are discarded, as RFC 5880 wants from a session without.
//!
//! # Driving the registry
//!
//! ```
//! use bfd::{Change, Input, Output, Path, Profile, Registry, wire::EchoKey};
//! use kit::{Instant, Outbox, Rng};
//!
//! // Seed and key come from the system's random numbers.
//! let mut registry = Registry::new(Rng::new(1), EchoKey::new([7; 16]));
//! let mut out = Outbox::with_limit(bfd::OUTBOX_MAX);
//! let path = Path::single_hop("192.0.2.1".parse().expect("an address"));
//! let mut now = Instant::ZERO;
//! registry.handle(now, Input::Watch { client: &"router", path, profile: Profile::default() }, &mut out);
//! // Then, again and again: read what the sockets have, and tick when the deadline has come.
//! now = registry.next_deadline().expect("an active session sends at once");
//! registry.handle(now, Input::Tick, &mut out);
//! for output in out.drain() {
//!     match output {
//!         Output::SendControl { packet, .. } => assert_eq!(packet.encode().len(), 24),
//!         Output::Changed { client, change: Change::Down(reason) } => println!("{client} is down: {reason}"),
//!         _ => {}
//!     }
//! }
//! ```
//!
//! Packets go in before ticks: a driver that has slept first tells everything that the kernel kept for it, with the times
//! at which it came. Then a late program never takes a living neighbour for dead.

// `expect-test` writes its snapshots with hashes.
#![cfg_attr(
    test,
    allow(clippy::arithmetic_side_effects, clippy::cast_possible_truncation, clippy::needless_raw_string_hashes)
)]

mod discard;
mod echo;
mod event;
mod profile;
mod registry;
mod session;
mod timing;
mod view;
pub mod wire;

pub use discard::Discard;
pub use echo::EchoState;
pub use event::{Arrival, Change, DownReason, Forwarding, Input, Output};
pub use profile::{EchoMode, Hops, INTERVAL_MAX, INTERVAL_MIN, Path, Profile, Refusal, Role};
pub use registry::{CLIENTS_MAX, DISCARD_REPORT_INTERVAL, OUTBOX_MAX, Registry, SESSIONS_MAX};
pub use view::{Counters, SessionView};
