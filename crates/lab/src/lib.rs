//! Hosts as network namespaces, and what runs on them: routers, clients, clusters, probes.
//!
//! Behind `metallb lab` and the end-to-end tests. A program calls [`enter`] first thing in `main` and then builds as many
//! [`Lab`]s as it wants; tests leave that to `testing::main` (feature `testing`).
//!
//! Everything here blocks, and is meant for plain threads. Async code runs inside a host ([`Host::run`]), on a thread that
//! lives in the host's namespaces, so a socket opened there is a socket of that host. Never call a blocking function of
//! the lab from async code.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! lab::enter()?;
//! let lab = lab::Lab::new("two-hosts")?;
//! let (lan, a, b) = (lab.switch("lan")?, lab.host("a")?, lab.host("b")?);
//! a.plug("eth0", &lan)?.address("10.0.0.1/24")?.address("fd00::1/64")?;
//! b.plug("eth0", &lan)?.address("10.0.0.2/24")?.address("fd00::2/64")?;
//! let hello = a.run(async || Ok(tokio::net::TcpStream::connect("10.0.0.2:80").await.is_ok()))?;
//! # Ok(()) }
//! ```
//!
//! From the ground up: [`enter()`], [`Lab`], [`Host`], [`Switch`]; on hosts a [`router`], [`backend`]s behind a
//! [`service_proxy`], [`requests`] and [`capture`]s; a whole [`topology`] as a [`fleet`]; and with it the [`demo`] and the
//! [`shell`]. A real Kubernetes API is in `kubernetes`, a whole cluster with it in `cluster`, our chart beside them in `helm`
//! (feature `testing`).

mod account;
pub mod backend;
#[cfg(feature = "testing")]
mod built;
pub mod capture;
#[cfg(feature = "testing")]
pub mod cluster;
pub mod command;
pub mod confined;
pub mod demo;
mod enter;
mod eventually;
pub mod fleet;
mod folder;
#[cfg(feature = "testing")]
pub mod helm;
mod host;
pub mod http;
#[cfg(feature = "testing")]
pub mod kubernetes;
pub mod manifests;
pub mod requests;
pub mod router;
#[cfg(feature = "testing")]
pub mod scrape;
pub mod service_proxy;
pub mod shell;
mod switch;
#[cfg(feature = "testing")]
pub mod testing;
pub mod topology;
#[cfg(feature = "testing")]
pub mod usage;

#[cfg(feature = "testing")]
pub use built::built;
pub use enter::{EnterError, WORK, enter};
pub use eventually::eventually;
pub use folder::Lab;
pub use host::interface::Interface;
pub use host::neighbour::{Neighbour, NeighbourState};
pub use host::process::{Output, Process};
pub use host::route::{Route, RouteNextHop};
pub use host::{Host, Task};
pub use switch::Switch;
