//! What a speaker knew last, in a small file, so that one that starts while the API server cannot be reached still knows it
//! (`docs/adr/0017-remembering.md`).
//!
//! [`keep`] stands between a source and whoever decides. It writes down what passes: at the start everything, into a new
//! file that takes the place of the old one when it is complete, and from then on what changes. If the source stays silent
//! at the start, the old file is read: its objects come as if they had been listed, then [`Change::Recalled`]. When the
//! source has told everything, only the differences are passed on.
//!
//! Secrets are not written, nor are BGPPeers with a password.
//!
//! A failure to write the file is told once, and ends the writing; a disk that hangs holds changes up for the seconds until then.
//! How the file looks is in `file.rs`.

mod file;
mod journal;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::PathBuf;
use std::time::Duration;

use api::{Kind, Object, ObjectRef};
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};

use crate::backoff::later;
use crate::{CHANGES_WAITING_MAX, Change, Connection, ConnectionState, Source};
use file::{Fault, Memory};
use journal::Journal;

/// How long a source that says nothing at all is waited for at the start,
const SILENCE_MAX: Duration = Duration::from_secs(3);
/// and one that answers, but has not told everything.
const LISTING_MAX: Duration = Duration::from_secs(20);
/// How long the file may take to be written anew, or to give the next object.
const READ_TIME: Duration = Duration::from_secs(10);
/// The largest file. There are two for a moment: the chart's volume has room for both.
pub const STATE_BYTES_MAX: u64 = 24 * 1024 * 1024;

/// Where the state is kept, and of whom.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The file. Its directory has to be there.
    pub path: PathBuf,
    /// An older state is not used.
    pub max_age: Duration,
    /// Whose state it is: that of another node, namespace or cluster is not used. One line.
    pub owner: String,
}

/// Remembers what this source tells. Needs a tokio runtime around it.
pub fn keep(source: Source, settings: Settings) -> Source {
    let (sender, changes) = mpsc::channel(CHANGES_WAITING_MAX);
    let Source { changes: inner, writer, connection, owner, counters, lease, mut tasks } = source;
    let now = Instant::now();
    let keeper = Keeper {
        changes: inner,
        sender,
        connection: connection.clone(),
        journal: Journal::begin(&settings, now),
        settings,
        hasher: RandomState::new(),
        stage: Stage::Listing { passed: HashSet::new(), since: now },
    };
    tasks.0.spawn(keeper.run());
    Source { changes, writer, connection, owner, counters, lease, tasks }
}

struct Keeper {
    changes: mpsc::Receiver<Change>,
    sender: mpsc::Sender<Change>,
    connection: watch::Receiver<Connection>,
    journal: Journal,
    settings: Settings,
    hasher: RandomState,
    stage: Stage,
}

/// How far the start has come.
enum Stage {
    /// The source tells what there is. These objects it has told, by hash: what is remembered of them is of no interest.
    Listing { passed: HashSet<u64>, since: Instant },
    /// The source tells what there is, and this was remembered: see [`Recalled`].
    Recalled(Recalled),
    /// The source has told everything.
    Synced,
}

/// What is in force although the source has not told it.
#[derive(Default)]
struct Recalled {
    /// The objects that the source has not mentioned, with the hash of their content.
    unconfirmed: BTreeMap<ObjectRef, u64>,
    /// The configuration as the source tells it: put in force as a whole, when it is whole. Of each object the last change.
    held: BTreeMap<ObjectRef, Change>,
    /// All of it was read, and it was told that this is to be acted on.
    is_in_force: bool,
}

/// Nobody wants the changes any more.
struct ReaderGone;

impl Keeper {
    async fn run(mut self) {
        while self.step().await.is_ok() {}
    }

    async fn step(&mut self) -> Result<(), ReaderGone> {
        let (recall_at, write_at) = (self.recall_at(), self.journal.write_at());
        tokio::select! {
            change = self.changes.recv() => {
                let change = change.ok_or(ReaderGone)?;
                self.journal.record(&change);
                let is_synced = change == Change::Synced;
                self.pass(change).await?;
                if is_synced {
                    self.stage = Stage::Synced;
                    self.journal.synced();
                }
            }
            // The source may have begun to answer.
            () = sleep_until(recall_at) => {}
            Ok(()) = self.connection.changed() => {}
            () = sleep_until(write_at) => {}
            () = self.sender.closed() => return Err(ReaderGone),
        }
        let now = Instant::now();
        if self.recall_at().is_some_and(|at| at <= now) {
            self.recall().await?;
        }
        let is_up = self.connection.borrow().state == ConnectionState::Up;
        self.journal.work(now, is_up).await;
        Ok(())
    }

    /// When it is time to remember, as things are.
    fn recall_at(&self) -> Option<Instant> {
        let Stage::Listing { since, .. } = &self.stage else { return None };
        let answers = self.connection.borrow().state == ConnectionState::Up;
        let patience = if answers { LISTING_MAX } else { SILENCE_MAX };
        Some(later(*since, patience))
    }

    /// Passes on what the source tells, if it is new.
    async fn pass(&mut self, change: Change) -> Result<(), ReaderGone> {
        match &mut self.stage {
            Stage::Listing { passed, .. } => {
                let hasher = &self.hasher;
                each_reference(&change, &mut |reference| {
                    passed.insert(hasher.hash_one(reference));
                });
                self.send(change).await
            }
            Stage::Recalled(recalled) => match recalled.differences(&self.hasher, change) {
                Some(Change::Synced) => {
                    let recalled = std::mem::take(recalled);
                    let was_in_force = recalled.is_in_force;
                    let (together, gone) = recalled.rest();
                    if was_in_force {
                        let changes = together.is_some();
                        tracing::info!(
                            event = "stateConfirmed",
                            configuration = changes,
                            gone = gone.len(),
                            "the source has told everything; what was remembered is replaced"
                        );
                    }
                    if let Some(together) = together {
                        self.send(together).await?;
                    }
                    for reference in gone {
                        self.send(Change::Deleted(reference)).await?;
                    }
                    self.send(Change::Synced).await
                }
                Some(change) => self.send(change).await,
                None => Ok(()),
            },
            Stage::Synced => self.send(change).await,
        }
    }

    async fn send(&self, change: Change) -> Result<(), ReaderGone> {
        self.sender.send(change).await.map_err(|_closed| ReaderGone)
    }

    /// Tells what was known last, in place of the source. Comes once.
    async fn recall(&mut self) -> Result<(), ReaderGone> {
        let Stage::Listing { passed, .. } = &self.stage else { return Ok(()) };
        let path = self.settings.path.display().to_string();
        let (memories, mut recalled) = mpsc::channel(LINES_AT_ONCE);
        let settings = self.settings.clone();
        let reading = tokio::task::spawn_blocking(move || {
            let max_age = SignedDuration::try_from(settings.max_age).unwrap_or(SignedDuration::MAX);
            let title = file::title(&settings.owner);
            file::recall(&settings.path, &title, Timestamp::now(), max_age, |memory| {
                memories.blocking_send(memory).is_ok()
            })
        });
        let (mut unconfirmed, mut withheld, mut moment) = (BTreeMap::new(), Vec::new(), None);
        let is_whole = loop {
            match timeout(READ_TIME, recalled.recv()).await {
                Ok(Some(Memory::AsOf(as_of))) => moment = Some(as_of),
                Ok(Some(Memory::There(object))) => {
                    let reference = object.reference();
                    if !passed.contains(&self.hasher.hash_one(&reference)) {
                        unconfirmed.insert(reference, content(&self.hasher, &object));
                        self.send(Change::Applied(object)).await?;
                    }
                }
                Ok(Some(Memory::Withheld(reference))) => withheld.push(reference.to_string()),
                Ok(None) => break true,
                Err(_elapsed) => break false,
            }
        };
        // If it hangs, it hangs on a thread of its own.
        drop(recalled);
        let result = timeout(READ_TIME, reading).await;
        let objects = unconfirmed.len();
        let is_in_force = is_whole && matches!(result, Ok(Ok(Ok(()))));
        self.stage = Stage::Recalled(Recalled { unconfirmed, held: BTreeMap::new(), is_in_force });
        let error = match (result, moment) {
            (Ok(Ok(Ok(()))), Some(as_of)) if is_whole => {
                tracing::warn!(
                    event = "stateRecalled",
                    path,
                    %as_of,
                    objects,
                    withheld = withheld.join(", "),
                    "the source of objects is silent; going on as it was last known, but for what holds passwords"
                );
                return self.send(Change::Recalled).await;
            }
            (Ok(Ok(Err(Fault::Absent))), _) => {
                tracing::info!(path, "the source of objects is silent, and nothing is remembered; waiting for it");
                return Ok(());
            }
            (Ok(Ok(Err(fault))), _) => fault.to_string(),
            _ => "it cannot be read in time".to_owned(),
        };
        tracing::warn!(path, error, "cannot use the state that was kept; waiting for the source of objects");
        Ok(())
    }
}

/// Objects that are read ahead.
const LINES_AT_ONCE: usize = 64;

impl Recalled {
    /// What a change changes; `None` for nothing, or nothing yet.
    fn differences(&mut self, hasher: &RandomState, change: Change) -> Option<Change> {
        let reference = match &change {
            Change::Applied(object) => {
                let reference = object.reference();
                let known = self.unconfirmed.remove(&reference);
                if known.is_some_and(|known| known == content(hasher, object)) {
                    return None;
                }
                reference
            }
            Change::Deleted(reference) => {
                self.unconfirmed.remove(reference);
                reference.clone()
            }
            Change::Together(_) => {
                let Change::Together(changes) = change else { return None };
                let changes: Vec<Change> =
                    changes.into_iter().filter_map(|change| self.differences(hasher, change)).collect();
                return Change::together(changes);
            }
            _ => return Some(change),
        };
        // Of the configuration a part is a state that never was, also of more than one kind: a peer and its Secret.
        if reference.kind.is_configuration() || matches!(reference.kind, Kind::Secret | Kind::ConfigMap) {
            self.held.insert(reference, change);
            return None;
        }
        Some(change)
    }

    /// What is left to tell when the source has told everything: the configuration, and what else is gone.
    fn rest(self) -> (Option<Change>, Vec<ObjectRef>) {
        let Recalled { unconfirmed, held, is_in_force: _ } = self;
        let mut held: Vec<Change> = held.into_values().collect();
        let (configuration, gone): (Vec<_>, Vec<_>) =
            unconfirmed.into_keys().partition(|reference| reference.kind.is_configuration());
        held.extend(configuration.into_iter().map(Change::Deleted));
        (Change::together(held), gone)
    }
}

fn content(hasher: &RandomState, object: &Object) -> u64 {
    hasher.hash_one(serde_json::to_vec(object).unwrap_or_default())
}

fn each_reference(change: &Change, take: &mut impl FnMut(&ObjectRef)) {
    match change {
        Change::Applied(object) => take(&object.reference()),
        Change::Deleted(reference) => take(reference),
        Change::Together(changes) => changes.iter().for_each(|change| each_reference(change, take)),
        _ => {}
    }
}

async fn sleep_until(deadline: Option<Instant>) {
    match deadline {
        Some(deadline) => tokio::time::sleep_until(deadline).await,
        None => std::future::pending().await,
    }
}
