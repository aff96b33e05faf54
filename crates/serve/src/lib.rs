//! Servers of HTTP and HTTPS: for metrics, probes and webhooks.
//!
//! - [`Server`] holds the limits: connections at one time, the time for each, the size of a request's head. Each
//!   connection serves one request, so that nobody keeps a place without using it.
//! - [`TlsPolicy`] is what the flags `--tls-min-version`, `--tls-cipher-suites` and `--tls-curve-preferences` ask for
//!   (contract 7.1).
//! - [`Certificates`] are self-signed, given, or read from a directory and read again when they change.
//! - [`Issued`] is a certificate with the authority that signed it, for callers that are told whom to believe.
//!
//! Nothing here knows what is served, or to whom.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use serve::{Certificates, Server, TlsPolicy};
//!
//! let policy = TlsPolicy::new("".parse()?, "".parse()?, "".parse()?)?;
//! let certificates = Certificates::directory("/etc/metrics".as_ref())?;
//! tokio::spawn(certificates.clone().watch());
//! let server = Server::bind("[::]:9120".parse()?).await?.with_tls(&policy, certificates)?;
//! server.run(axum::Router::new()).await;
//! # Ok(()) }
//! ```

#![cfg_attr(test, allow(clippy::arithmetic_side_effects))]

mod authority;
mod certificate;
mod policy;
mod server;

pub use authority::{CERTIFICATE_TIME, Issued, UnusableError};
pub use certificate::{CertificateError, Certificates, PemError, RELOAD_INTERVAL};
pub use policy::{CipherSuites, Curves, TlsPolicy, TlsPolicyError, TlsVersion};
pub use server::{CONNECTION_TIME_MAX, CONNECTIONS_MAX, Connections, HEAD_BYTES_MAX, HEAD_TIME_MAX, Server, TimeLimit};
