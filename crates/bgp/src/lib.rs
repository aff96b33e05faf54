//! BGP-4 as a sans-IO core: what a speaker says to one router, and what it makes of the answers.
//!
//! - [`wire`] turns bytes into messages and back: `decode` says what was sent, `validate` what we believe of it.
//! - [`Peer`] is one neighbour: its connections, its session, and the routes that it should have from us.
//! - [`capture`] writes what goes over its connections down, for bug reports.
//! - [`discovery`] finds the neighbour at the other end of a link (unnumbered peering).
//!
//! The core reads no clock, opens no socket and draws no random number of its own: time comes with every input,
//! bytes come and go as inputs and outputs, and the generator comes with the constructor. It knows nothing of
//! Services and pools; what is announced is decided elsewhere. `docs/rfc/bgp.md` lists every clause that is claimed.
//!
//! # Driving a peer
//!
//! ```
//! use bgp::{Families, Input, Mode, Output, Peer, PeerConfig, Reception, ConnectRetry, RouterIdSource};
//! use kit::{Asn, HoldTime, Instant, Outbox, RemoteAs, Rng, RouterId};
//!
//! let config = PeerConfig {
//!     local_as: Asn::new(65001).expect("not zero"),
//!     remote_as: RemoteAs::Exactly(Asn::new(65000).expect("not zero")),
//!     router_id: RouterIdSource::Configured("192.0.2.1".parse::<RouterId>().expect("an address")),
//!     hold_time: HoldTime::DEFAULT,
//!     keepalive_time: None,
//!     connect_retry: ConnectRetry::BackOff,
//!     families: Families::OfSession,
//!     mode: Mode::Active,
//!     reception: Reception::Refuse,
//!     graceful_restart: None,
//! };
//! let mut peer = Peer::new(config, Rng::new(1), Instant::ZERO);
//! let mut out = Outbox::with_limit(bgp::OUTBOX_LIMIT);
//! peer.handle(Instant::ZERO, Input::Start, &mut out);
//! // When all routes that there are at the begin were announced, the peer may be told that these are all.
//! peer.handle(Instant::ZERO, Input::Complete, &mut out);
//! // The driver executes the outputs, here by opening a socket and telling `Input::Connected`...
//! assert!(matches!(out.pop(), Some(Output::Dial { .. })));
//! // ... and calls again with `Input::Tick` when the deadline has come.
//! assert!(peer.next_deadline().is_some());
//! ```

// `expect-test` writes its snapshots with hashes.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::needless_raw_string_hashes))]

mod backoff;
pub mod capture;
mod config;
pub mod discovery;
mod event;
mod negotiation;
mod peer;
mod prefix_map;
mod rib_in;
mod rib_out;
mod route;
mod view;
pub mod wire;

pub use config::{
    Beginning, ConnectRetry, Families, GracefulRestart, Mode, Notifications, PeerConfig, RESTART_TIME_MAX, Reception,
    RouterIdSource,
};
pub use event::{CloseReason, ConnectError, ConnectionId, Input, OUTBOX_LIMIT, Output, StopReason};
pub use peer::Peer;
pub use route::{GRACEFUL_SHUTDOWN, RouteAttributes, RouteState};
pub use view::{
    ConnectionView, Counters, DownReason, FamilyView, MessageCounts, PeerView, RouteView, SentRoute, SessionView, State,
};
