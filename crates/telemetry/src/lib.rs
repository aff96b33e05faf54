//! What the outside sees of the program: logs ([`logs`]), metrics ([`metrics`]) and health ([`health`]).
//!
//! Names and forms are those of MetalLB (contract 7 and 8), so that log pipelines, dashboards and probes keep working.
//! Nothing here decides anything, and nothing here knows where a number comes from.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use telemetry::health::Health;
//! use telemetry::logs::{Format, Level, Output};
//! use telemetry::metrics::{ControllerReport, PoolReport, render};
//!
//! let logs = telemetry::logs::init(Level::Info, Format::Json, Output::Stdout)?;
//! tracing::info!(op = "startup", node = "node-1", "speaker starting");
//!
//! let health = Health::new(&["config", "objects"]);
//! let server = serve::Server::bind("127.0.0.1:17472".parse()?).await?;
//! tokio::spawn(server.run(telemetry::health::router(health.clone())));
//! health.ready("config");
//! health.unready("objects", "waiting for Service, Node");
//!
//! let pool = PoolReport { name: "production".to_owned(), ipv4_total: 256, ..PoolReport::default() };
//! let report = ControllerReport { pools: vec![pool], ..ControllerReport::default() };
//! let text = render(&[&report]);
//!
//! drop(logs); // writes what is left
//! # Ok(()) }
//! ```

#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::needless_raw_string_hashes, clippy::string_slice))]

pub mod health;
pub mod limit;
pub mod logs;
pub mod metrics;
