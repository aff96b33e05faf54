//! Where objects come from and where status goes.
//!
//! There are two sources: the Kubernetes API ([`kube`]) and a directory of manifests ([`manifests`]). Both give the
//! same [`Change`]s through one bounded channel and take the same writes through a [`Writer`], so that nobody behind
//! this seam knows which one it talks to.
//!
//! What holds for both:
//!
//! - An object is sent when what we read of it changed, and only then: the heartbeat of a node ends here.
//! - Something that is gone becomes [`Change::Deleted`], also when it went while nobody watched. An object that was
//!   replaced by another one of its name is deleted first.
//! - One object that cannot be read is reported and left as it was; it never holds up another one.
//! - Losing the source deletes nothing. Changes stop, [`Connection`] says so, and on return only differences are sent.
//! - A slow reader slows the source down (the channel is bounded); nothing is dropped on that way.
//!
//! This crate decides nothing: what the objects mean is known in `config`, `controller` and `speaker`.
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use source::{Change, Identity, Options, PoolStatus, Source};
//!
//! let options = Options {
//!     kinds: vec![api::Kind::Service, api::Kind::Node],
//!     reports: Vec::new(),
//!     namespace: "metallb-system".to_owned(),
//!     identity: Identity { component: "metallb-controller", instance: "controller-1".to_owned(), pod: None },
//!     pool_status: PoolStatus::Read,
//!     lease: None,
//! };
//! let client = source::kube::connect(None, "metallb-controller").await?;
//! let Source { mut changes, writer, tasks, .. } = source::kube::start(client, options);
//! while let Some(change) = changes.recv().await {
//!     match change {
//!         Change::Applied(object) => println!("{} is there", object.reference()),
//!         Change::Deleted(reference) => println!("{reference} is gone"),
//!         Change::Together(changes) => println!("{} changes at once", changes.len()),
//!         Change::Synced => break,
//!         Change::Recalled | Change::ReportsSynced | Change::Leading(_) | Change::Following => {}
//!     }
//! }
//! let unwritten = writer.flush(std::time::Duration::from_secs(2)).await;
//! drop(tasks);
//! # Ok(()) }
//! ```

// `expect_test` writes the hashes when it updates a snapshot.
#![cfg_attr(test, allow(clippy::arithmetic_side_effects, clippy::needless_raw_string_hashes))]

mod backoff;
mod connection;
mod counters;
mod events;
pub mod kube;
pub mod manifests;
mod queue;
mod seen;
pub mod state;
mod writer;
pub mod yaml;

use std::sync::Arc;

use api::{Kind, Object, ObjectRef, OwnerReference};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use ::lease::Term;
pub use connection::{Connection, ConnectionState};
pub use counters::{Counter, Counters};
pub use kube::Lease;
pub use writer::Writer;

/// Changes that wait for the reader; the source waits when there are that many.
pub const CHANGES_WAITING_MAX: usize = 64;

/// What happened to the objects.
#[derive(Clone, Debug, PartialEq)]
#[expect(clippy::large_enum_variant, reason = "nearly all are of the large one; a box for each would cost more")]
pub enum Change {
    /// An object is there, or is different from before. Its resource version and generation are not kept: they change
    /// without the rest, so what is known of them would be out of date.
    Applied(Object),
    /// An object is gone.
    Deleted(ObjectRef),
    /// These, two at least, became known at the same moment, so that a part of them is a state that never was: a pool that gave a range
    /// away, without the one that got it. Has no others of its kind in it.
    Together(Vec<Change>),
    /// The source is silent, and all that was known of it when it last was not has been sent ([`state`]). Comes once at most,
    /// and before [`Change::Synced`]: by then the differences have been sent.
    Recalled,
    /// Every object of every kind asked for has been sent once. Comes exactly once. Who decides before it decides on
    /// half of the truth.
    Synced,
    /// Every object that [`Options::reports`] asks for has been sent once. Comes exactly once, before or after
    /// [`Change::Synced`].
    ReportsSynced,
    /// From now on this process is the one that writes, and every Service has been told as it was when that began. Comes
    /// only if [`Options::lease`] asks for one.
    Leading(Term),
    /// Another process writes now, or may begin to.
    Following,
}

impl Change {
    /// These, as one; `None` if there are none.
    fn together(mut changes: Vec<Change>) -> Option<Change> {
        if changes.len() > 1 { Some(Change::Together(changes)) } else { changes.pop() }
    }
}

/// What to read, and in whose name to write.
#[derive(Clone, Debug)]
pub struct Options {
    /// The kinds to read.
    pub kinds: Vec<Kind>,
    /// The kinds of reports to read. Nothing else waits for them: a cluster that lacks them is served all the same.
    pub reports: Vec<Reports>,
    /// The namespace of MetalLB: Secrets, ConfigMaps and the kinds of `metallb.io` are read there alone. Manifests can
    /// do without one: where it is empty, those of any namespace are read.
    pub namespace: String,
    /// Who writes.
    pub identity: Identity,
    /// Whether the counters of a pool are of interest.
    pub pool_status: PoolStatus,
    /// The Lease that this process has to have before it writes; none if nobody else does. Manifests have none.
    pub lease: Option<LeaseOptions>,
}

/// A Lease that one of several processes has at a time (contract 12.2 R6).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeaseOptions {
    /// Its name, in the namespace of MetalLB.
    pub name: &'static str,
    /// Who asks for it: the pod. A process takes over at once what an earlier process of this name had, so it has to be
    /// empty where two could have the same.
    pub holder: String,
}

/// The objects of one kind that this process writes whole, or has to make room for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reports {
    /// The kind.
    pub kind: Kind,
    /// Labels that they have, as in `key=value`; empty for all of the kind.
    pub label_selector: String,
}

/// Whether the status of IPAddressPools and the conditions of Services are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolStatus {
    /// It is: who writes it wants to know when someone else has.
    Read,
    /// It is not: with every address that is given out somewhere it changes, and that must not wake every node (R1).
    Ignored,
}

/// Who writes: shown as the source of events and as the owner of fields.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identity {
    /// `metallb-controller` or `metallb-speaker` (contract 3.6).
    pub component: &'static str,
    /// The pod or the node.
    pub instance: String,
    /// The pod whose end is the end of its reports too (contract 1.9); none outside of a pod.
    pub pod: Option<String>,
}

/// The owner of the reports of this process: with its end they go too (contract 1.9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Owner {
    /// The pod has not been found yet.
    #[default]
    Unknown,
    /// There is none: not in a pod.
    Nobody,
    /// The pod.
    Pod(OwnerReference),
}

/// A running source.
#[derive(Debug)]
pub struct Source {
    /// What happens to the objects. The source stops when this is dropped.
    pub changes: mpsc::Receiver<Change>,
    /// Takes what is to be written.
    pub writer: Writer,
    /// How the source itself is.
    pub connection: watch::Receiver<Connection>,
    /// Who owns the reports of this process.
    pub owner: watch::Receiver<Owner>,
    /// What was counted, for metrics.
    pub counters: Arc<Counters>,
    /// The Lease, if there is one.
    pub lease: Option<Lease>,
    /// The work behind all this.
    pub tasks: Tasks,
}

/// The tasks of a source; they end when this is dropped. Call [`Writer::flush`] before.
#[derive(Debug)]
pub struct Tasks(JoinSet<()>);

impl Tasks {
    /// Waits until one of them ends, which none does by itself while [`Source::changes`] is held.
    pub async fn ended(&mut self) {
        // How it ended does not matter: a panic was told by the panic hook.
        let _how = self.0.join_next().await;
    }
}

/// True for kinds that are read in the namespace of MetalLB alone.
pub(crate) fn is_read_in_own_namespace(kind: Kind) -> bool {
    matches!(kind, Kind::Secret | Kind::ConfigMap) || kind.group() == api::GROUP
}

/// Drops what nobody here should keep: metadata that is out of date as soon as it is read, owners, the values of Secrets that
/// hold no BGP password, and what the controller shows of pools and Services if it is not wanted.
pub(crate) fn slim(object: &mut Object, pool_status: PoolStatus) {
    let kind = object.kind();
    let metadata = object.metadata_mut();
    metadata.resource_version.clear();
    metadata.generation = 0;
    if !is_report(kind) {
        metadata.owner_references = Vec::new();
    }
    match object {
        Object::Secret(secret) if secret.type_.as_deref() != Some(PASSWORD_SECRET_TYPE) => {
            secret.data.clear();
            secret.string_data.clear();
        }
        Object::IPAddressPool(pool) if pool_status == PoolStatus::Ignored => pool.status = None,
        Object::Service(service) if pool_status == PoolStatus::Ignored => service.status.conditions.clear(),
        _ => {}
    }
}

/// True for kinds that MetalLB writes whole; the owner of such an object is of interest.
pub(crate) fn is_report(kind: Kind) -> bool {
    matches!(kind, Kind::ServiceL2Status | Kind::ServiceBGPStatus | Kind::ConfigurationState)
}

/// The type of the Secrets that hold BGP passwords (contract 7.7).
const PASSWORD_SECRET_TYPE: &str = "kubernetes.io/basic-auth";

#[cfg(test)]
mod parity;
#[cfg(test)]
mod testing;
