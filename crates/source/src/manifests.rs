//! A directory of manifests as a source: ordinary Kubernetes YAML, for hosts without Kubernetes, for the lab, and for
//! the address of the control plane itself.
//!
//! Every file `*.yaml`, `*.yml` and `*.json` of the directory is read (not those of folders in it, and none whose name
//! begins with a dot). Files may be changed at any time and by any means, also by a ConfigMap's swap of links: a change
//! counts when the file has been still for [`SETTLE_TIME`], so that one which is being written is not read in halves.
//! A file with an error is reported with its place, and its last good version stays in force.
//!
//! What is written stands beside, in `status/`: one file for each object that has a status, and `events.log`. The
//! status is laid over the manifest when it is read: it is the ledger that outlives a restart of the controller. Of all
//! processes that read a directory, one owns the status files ([`StatusFiles`]).
//!
//! What the API server would fill in is filled in here: an object without a namespace is in MetalLB's own if it is of a
//! kind that is read there alone, else in `default`; one without a uid gets one that is made of its name.
//!
//! ```no_run
//! # async fn example() {
//! use source::manifests::StatusFiles;
//! use source::{Identity, Options, PoolStatus};
//!
//! let options = Options {
//!     kinds: vec![api::Kind::Service, api::Kind::IPAddressPool],
//!     reports: Vec::new(),
//!     namespace: "metallb-system".to_owned(),
//!     identity: Identity { component: "metallb-controller", instance: "host-1".to_owned(), pod: None },
//!     pool_status: PoolStatus::Read,
//!     lease: None,
//! };
//! let source = source::manifests::start("manifests".into(), options, StatusFiles::Owned);
//! # }
//! ```

mod event_log;
mod folder;
mod overlay;
mod sink;
mod status;

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use api::Kind;
use jiff::Timestamp;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use crate::connection::Reporter;
use crate::counters::Counters;
use crate::{CHANGES_WAITING_MAX, Change, Options, Owner, Source, Tasks, Writer};
use overlay::{Known, Overlay};
use sink::FileSink;

/// The directory is looked at this often.
pub const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// A file counts when nothing has changed in it for this long, or when two looks in a row find it the same.
pub const SETTLE_TIME: Duration = Duration::from_millis(200);
/// Files of a directory that are read; the rest is reported.
pub const FILES_MAX: usize = 10_000;

/// Writes under way at one time: waiting for the disk can be shared.
const WRITES_AT_ONCE: usize = 8;
/// The folder for what is written, in the directory of the manifests.
const STATUS_FOLDER: &str = "status";

/// Who may change the status files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatusFiles {
    /// This process: the controller. It removes the status of objects that are gone, so that a successor of the same
    /// name does not inherit it.
    Owned,
    /// Another one. Statuses are read, and what is written here are events and reports alone.
    ReadOnly,
}

/// Starts to read this directory, and to write beside it. Needs a tokio runtime around it.
pub fn start(directory: PathBuf, options: Options, status_files: StatusFiles) -> Source {
    let (sender, changes) = mpsc::channel(CHANGES_WAITING_MAX);
    let (reporter, connection) = Reporter::new(&options.kinds, Timestamp::now());
    let (counters, writer) = (Arc::new(Counters::default()), Writer::new());
    let known = Known::default();
    let sink = FileSink::new(directory.join(STATUS_FOLDER), options.identity.clone(), known.clone());
    let (kinds, reports_due) = (options.kinds.clone(), !options.reports.is_empty());
    let overlay = Overlay::new(directory, options, status_files, known, counters.clone());
    let mut tasks = JoinSet::new();
    let poller = Poller { overlay, kinds, sender, reporter, counters: counters.clone(), reports_due };
    tasks.spawn(poller.run());
    tasks.spawn(writer.clone().run(sink, WRITES_AT_ONCE, counters.clone()));
    let owner = watch::channel(Owner::Nobody).1;
    Source { changes, writer, connection, owner, counters, lease: None, tasks: Tasks(tasks) }
}

/// Looks at the directory from time to time.
struct Poller {
    overlay: Overlay,
    kinds: Vec<Kind>,
    sender: mpsc::Sender<Change>,
    reporter: Reporter,
    counters: Arc<Counters>,
    /// It has to be told that the reports are all there.
    reports_due: bool,
}

impl Poller {
    async fn run(mut self) {
        let mut ticks = tokio::time::interval(POLL_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                () = self.sender.closed() => return,
            }
            // Reading files blocks, so it is done elsewhere; what is known of them goes there and comes back.
            let mut overlay = self.overlay;
            let looked = tokio::task::spawn_blocking(move || {
                let result = overlay.poll(SystemTime::from(Timestamp::now()));
                (overlay, result)
            });
            let Ok((overlay, result)) = looked.await else { return };
            self.overlay = overlay;
            let (sender, reporter) = (&self.sender, &self.reporter);
            match result {
                Ok(changes) => {
                    // Whoever writes a file, or renames a directory, changes all that is in it at once.
                    if let Some(change) = Change::together(changes)
                        && sender.send(change).await.is_err()
                    {
                        return;
                    }
                    self.answered().await;
                }
                Err(error) => {
                    self.counters.read_failures.increment();
                    for kind in &self.kinds {
                        reporter.unreachable(*kind, words(&self.overlay, &error), Timestamp::now());
                    }
                }
            }
        }
    }

    async fn answered(&mut self) {
        for kind in &self.kinds {
            self.reporter.answered(*kind, Timestamp::now());
        }
        if self.overlay.is_settled() {
            if std::mem::take(&mut self.reports_due) {
                // If nobody wants to know, the next tick ends this.
                let _wanted = self.sender.send(Change::ReportsSynced).await;
            }
            for kind in &self.kinds {
                if self.reporter.listed(*kind) {
                    // If nobody wants to know, the next tick ends this.
                    let _wanted = self.sender.send(Change::Synced).await;
                }
            }
        }
    }
}

fn words(overlay: &Overlay, error: &io::Error) -> String {
    format!("cannot read {}: {error}", overlay.directory().display())
}

#[cfg(test)]
mod tests;
