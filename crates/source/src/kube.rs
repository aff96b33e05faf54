//! The Kubernetes API as a source.
//!
//! One task per kind lists and watches (`follow`); one task writes (`sink`), in turn with other processes if there is a
//! Lease (`lease`); [`Reviews`] asks about others, and [`Registrations`] is about webhooks. A connection that is dead without
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
//!         reports: Vec::new(),
//!         namespace: "metallb-system".to_owned(),
//!         identity: Identity { component: "metallb-speaker", instance: "node-1".to_owned(), pod: None },
//!         pool_status: PoolStatus::Ignored,
//!         lease: None,
//!     },
//! );
//! # Ok(()) }
//! ```

mod client;
mod follow;
mod lease;
mod member_key;
mod message;
mod owner;
mod pods;
mod registrations;
mod request;
mod reviews;
mod sink;
mod turn;
mod versions;

use std::sync::Arc;

use api::Kind;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use crate::connection::Reporter;
use crate::counters::Counters;
use crate::{CHANGES_WAITING_MAX, Change, Options, Source, Tasks, Writer};

pub use ::kube::Client;
pub use client::{ConnectError, cluster_name, connect};
use follow::Follower;
use lease::Guard;
pub use lease::Lease;
pub use member_key::MemberKey;
pub use pods::{PODS_MAX, Pods};
pub use registrations::{Bundles, Registration, RegistrationError, Registrations, Seen, WebhookNames, Written};
use request::Server;
pub use reviews::{PathAccess, ReviewError, Reviews, User};
use sink::{ApiSink, Exclusive};
use turn::Turn;
use versions::Versions;

/// Writes under way at one time. With one connection each, this is what an API server on two cores takes without
/// queueing.
pub const WRITES_AT_ONCE: usize = 16;
/// Writes that are prepared at one time: with a Lease, as many are announced in it at once.
const WRITES_PREPARED: usize = 128;

/// Starts to read and write through this client. Needs a tokio runtime around it.
pub fn start(client: ::kube::Client, options: Options) -> Source {
    let (sender, changes) = mpsc::channel(CHANGES_WAITING_MAX);
    let (reporter, connection) = Reporter::new(&options.kinds, Timestamp::now());
    let (reporter, counters, writer) = (Arc::new(reporter), Arc::new(Counters::default()), Writer::new());
    let server = Server::new(client);
    let mut tasks = JoinSet::new();
    // Reports have a reporter of their own, so that nothing else waits for them.
    let versions = Arc::new(Versions::default());
    let lease = options.lease.as_ref().map(|lease| lease::start(&mut tasks, server.clone(), &options.namespace, lease));
    let report_kinds: Vec<Kind> = options.reports.iter().map(|reports| reports.kind).collect();
    let reports_reporter = Arc::new(Reporter::new(&report_kinds, Timestamp::now()).0);
    let main = options.kinds.iter().map(|kind| (*kind, String::new(), Change::Synced, &reporter));
    let reports = options
        .reports
        .iter()
        .map(|reports| (reports.kind, reports.label_selector.clone(), Change::ReportsSynced, &reports_reporter));
    for (kind, label_selector, synced, reporter) in main.chain(reports) {
        let follower = Follower {
            reader: follow::Reader::new(kind, options.pool_status, sender.clone(), counters.clone())
                .with_versions(lease.is_some().then(|| versions.clone())),
            turn: guard(lease.as_ref()).filter(|_| kind == Kind::Service).map(|guard| Turn::new(guard.standing())),
            server: server.clone(),
            path: follow::path(kind, &options.namespace),
            label_selector,
            synced,
            reporter: reporter.clone(),
            counters: counters.clone(),
            last_error: String::new(),
        };
        tasks.spawn(follower.run());
    }
    let owner = owner::learn(&mut tasks, server.clone(), options.namespace.clone(), options.identity.pod.clone());
    let exclusive = guard(lease.as_ref()).map(|guard| Exclusive { guard: guard.clone(), versions });
    let sink = ApiSink::new(server, options.identity, owner.clone(), exclusive);
    let at_once = if lease.is_some() { WRITES_PREPARED } else { WRITES_AT_ONCE };
    tasks.spawn(writer.clone().run(sink, at_once, counters.clone()));
    let lease = lease.map(|(lease, _)| lease);
    Source { changes, writer, connection, owner, counters, lease, tasks: Tasks(tasks) }
}

fn guard(lease: Option<&(Lease, Guard)>) -> Option<&Guard> {
    lease.map(|(_, guard)| guard)
}

#[cfg(test)]
pub(crate) mod fake_api;
#[cfg(test)]
mod tests;
