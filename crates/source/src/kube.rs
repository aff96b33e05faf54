//! The Kubernetes API as a source.
//!
//! One task per kind lists and watches (`follow`); one task writes (`sink`); [`Reviews`] asks about others. A connection that is dead without
//! saying so is noticed within half a minute (`client`).
//!
//! ```no_run
//! # async fn example() -> Result<(), source::kube::ConnectError> {
//! use source::{Identity, Options, PoolStatus};
//!
//! let client = source::kube::connect(None, "metallb-speaker").await?;
//! let source = source::kube::start(
//!     client,
//!     Options {
//!         kinds: vec![api::Kind::Service, api::Kind::EndpointSlice, api::Kind::Node],
//!         namespace: "metallb-system".to_owned(),
//!         identity: Identity { component: "metallb-speaker", instance: "node-1".to_owned() },
//!         pool_status: PoolStatus::Ignored,
//!     },
//! );
//! # Ok(()) }
//! ```

mod client;
mod follow;
mod message;
mod request;
mod reviews;
mod sink;

use std::sync::Arc;

use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::connection::Reporter;
use crate::counters::Counters;
use crate::{CHANGES_WAITING_MAX, Options, Source, Tasks, Writer};

pub use client::{ConnectError, connect};
use follow::Follower;
use request::Server;
pub use reviews::{PathAccess, ReviewError, Reviews, User};
use sink::ApiSink;

/// Writes under way at one time. With one connection each, this is what an API server on two cores takes without
/// queueing.
pub const WRITES_AT_ONCE: usize = 16;

/// Starts to read and write through this client. Needs a tokio runtime around it.
pub fn start(client: ::kube::Client, options: Options) -> Source {
    let (sender, changes) = mpsc::channel(CHANGES_WAITING_MAX);
    let (reporter, connection) = Reporter::new(&options.kinds, Timestamp::now());
    let (reporter, counters, writer) = (Arc::new(reporter), Arc::new(Counters::default()), Writer::new());
    let server = Server::new(client);
    let mut tasks = JoinSet::new();
    for kind in options.kinds {
        let path = follow::path(kind, &options.namespace);
        let follower = Follower {
            reader: follow::Reader::new(kind, options.pool_status, sender.clone(), counters.clone()),
            server: server.clone(),
            path,
            reporter: reporter.clone(),
            counters: counters.clone(),
            last_error: String::new(),
        };
        tasks.spawn(follower.run());
    }
    tasks.spawn(writer.clone().run(ApiSink::new(server, options.identity), WRITES_AT_ONCE, counters.clone()));
    Source { changes, writer, connection, counters, tasks: Tasks(tasks) }
}

#[cfg(test)]
pub(crate) mod fake_api;
#[cfg(test)]
mod tests;
