//! What the outside sees of the program: logs ([`logs`]), metrics ([`metrics`]) and health ([`health`]).
//!
//! Names and forms are those of MetalLB (contract 7 and 8), so that log pipelines, dashboards and probes keep working.
//! Nothing here decides anything, and nothing here knows where a number comes from.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use telemetry::health::Health;
//! use telemetry::logs::{Format, Level, Output};
//! use telemetry::metrics::SpeakerMetrics;
//!
//! let logs = telemetry::logs::init(Level::Info, Format::Json, Output::Stdout)?;
//! tracing::info!(op = "startup", node = "node-1", "speaker starting");
//!
//! let metrics = SpeakerMetrics::new();
//! let session = metrics.bgp_session("10.0.0.1:179".parse()?, None);
//! session.up();
//!
//! let health = Health::new(&["config", "objects"]);
//! tokio::spawn(telemetry::health::bind("127.0.0.1:17472".parse()?).await?.run(health.clone()));
//! health.ready("config");
//! health.unready("objects", "waiting for Service, Node");
//!
//! drop(logs); // writes what is left
//! # Ok(()) }
//! ```

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::needless_raw_string_hashes, clippy::string_slice))]

pub mod health;
pub mod limit;
pub mod logs;
pub mod metrics;
