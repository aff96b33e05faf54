//! Manifests with their status laid over them, as one set of objects; and what has changed in it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use api::{Kind, Object, ObjectRef};

use super::folder::Folder;
use super::status::StatusFolder;
use super::{STATUS_FOLDER, StatusFiles};
use crate::counters::Counters;
use crate::queue::Target;
use crate::seen::{Observation, Seen};
use crate::{Change, Options};

/// The namespace of objects that name none and are not MetalLB's own.
const DEFAULT_NAMESPACE: &str = "default";
/// The namespace of objects that name none and are MetalLB's own, where it is not said which one that is.
const USUAL_OWN_NAMESPACE: &str = "metallb-system";

/// The objects that a status can be written for, with their uids: what the writing side has to know of the reading
/// side.
#[derive(Clone, Debug, Default)]
pub(super) struct Known(Arc<Mutex<HashMap<Target, String>>>);

impl Known {
    pub(super) fn lock(&self) -> MutexGuard<'_, HashMap<Target, String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The directory with all that is in it.
#[derive(Debug)]
pub(super) struct Overlay {
    folder: Folder,
    statuses: StatusFolder,
    options: Options,
    status_files: StatusFiles,
    known: Known,
    seen: BTreeMap<Kind, Seen>,
    /// What was told of the present objects: that one is in two files, or that one is in the wrong namespace.
    told: BTreeSet<String>,
    counters: Arc<Counters>,
}

impl Overlay {
    pub(super) fn new(
        directory: PathBuf,
        options: Options,
        status_files: StatusFiles,
        known: Known,
        counters: Arc<Counters>,
    ) -> Overlay {
        Overlay {
            statuses: StatusFolder::new(directory.join(STATUS_FOLDER)),
            folder: Folder::new(directory),
            seen: kinds(&options).map(|kind| (kind, Seen::default())).collect(),
            options,
            status_files,
            known,
            told: BTreeSet::new(),
            counters,
        }
    }

    pub(super) fn directory(&self) -> &Path {
        self.folder.directory()
    }

    /// True when everything that is there has been taken into account.
    pub(super) fn is_settled(&self) -> bool {
        self.folder.is_settled()
    }

    /// Looks at the directory, and says what has changed. When it cannot be read, nothing has.
    pub(super) fn poll(&mut self, now: SystemTime) -> io::Result<Vec<Change>> {
        let (changed, broken) = self.folder.poll(now)?;
        self.counters.unreadable.add(u64::try_from(broken).unwrap_or(u64::MAX));
        if !self.statuses.poll(now) && changed == 0 {
            return Ok(Vec::new());
        }
        let changes = self.changes();
        if self.status_files == StatusFiles::Owned {
            self.remove_statuses(&changes, now);
        }
        Ok(changes)
    }

    /// Removes the statuses of objects that have just gone, and, when nothing hides an object, of all that are not
    /// there.
    fn remove_statuses(&mut self, changes: &[Change], now: SystemTime) {
        for change in changes {
            if let Change::Deleted(reference) = change
                && let Some(target) = Target::of(reference)
            {
                self.statuses.remove(&target);
            }
        }
        if self.folder.is_complete() {
            self.statuses.remove_others(&self.known.lock(), now);
        }
    }

    fn changes(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut files: HashMap<ObjectRef, String> = HashMap::new();
        let mut known = HashMap::new();
        let mut told = BTreeSet::new();
        for seen in self.seen.values_mut() {
            seen.begin_list();
        }
        for (file, object) in self.folder.objects() {
            let Some(seen) = self.seen.get_mut(&object.kind()) else { continue };
            let mut object = object.clone();
            if let Err(message) = complete(&mut object, &self.options.namespace) {
                told.insert(format!("{file}: {message}"));
                continue;
            }
            let reference = object.reference();
            if let Some(first) = files.get(&reference) {
                told.insert(format!("{file}: {reference} is in {first} already, which counts"));
                continue;
            }
            files.insert(reference.clone(), file.to_owned());
            self.statuses.lay_over(&mut object);
            if let Some(target) = Target::of(&reference) {
                known.insert(target, object.metadata().uid.clone());
            }
            crate::slim(&mut object, self.options.pool_status);
            match seen.applied(&object) {
                Observation::Same => {}
                Observation::Changed => changes.push(Change::Applied(object)),
                Observation::Replaced => changes.extend([Change::Deleted(reference), Change::Applied(object)]),
            }
        }
        for object in self.statuses.reports() {
            let Some(seen) = self.seen.get_mut(&object.kind()) else { continue };
            let mut object = object.clone();
            crate::slim(&mut object, self.options.pool_status);
            match seen.applied(&object) {
                Observation::Same => {}
                Observation::Changed => changes.push(Change::Applied(object)),
                Observation::Replaced => changes.extend([Change::Deleted(object.reference()), Change::Applied(object)]),
            }
        }
        for (kind, seen) in &mut self.seen {
            let gone = seen.end_list().into_iter().map(|key| Change::Deleted(ObjectRef { kind: *kind, key }));
            changes.extend(gone);
        }
        for message in told.difference(&self.told) {
            tracing::warn!(message, "an object of a manifest is not used");
        }
        self.told = told;
        *self.known.lock() = known;
        changes
    }
}

fn kinds(options: &Options) -> impl Iterator<Item = Kind> {
    options.kinds.iter().copied().chain(options.reports.iter().map(|reports| reports.kind))
}

/// Fills in what an API server would; an error for an object that would not be read from one.
fn complete(object: &mut Object, own_namespace: &str) -> Result<(), String> {
    let kind = object.kind();
    let reference = object.reference();
    let metadata = object.metadata_mut();
    if !kind.is_namespaced() {
        metadata.namespace.clear();
    } else if crate::is_read_in_own_namespace(kind) {
        if metadata.namespace.is_empty() {
            let own_namespace = if own_namespace.is_empty() { USUAL_OWN_NAMESPACE } else { own_namespace };
            own_namespace.clone_into(&mut metadata.namespace);
        } else if metadata.namespace != own_namespace && !own_namespace.is_empty() {
            return Err(format!("{reference} is not in the namespace {own_namespace}, where MetalLB looks for it"));
        }
    } else if metadata.namespace.is_empty() {
        DEFAULT_NAMESPACE.clone_into(&mut metadata.namespace);
    }
    if metadata.uid.is_empty() {
        metadata.uid = format!("manifest/{kind}/{}", metadata.key());
    }
    Ok(())
}
