//! The status files: `status/<kind>.<namespace>.<name>.yaml`, with the kind in lower case. Each holds the status of one
//! object and, of a Service, the annotations that name its pool and its node. They are written whole, in one step, so that
//! readers see the old one or the new one. Addresses, node and condition of a Service are written apart from each other, so
//! each leaves in the file what the others have written.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use api::core::LoadBalancerStatus;
use api::{ALLOCATED_FROM_POOL, Condition, Key, Kind, LAYER2_ASSIGNED_NODE, Object, ObjectRef, PoolCounters, Report};
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::folder::Signature;
use crate::backoff::random;
use crate::queue::{Status, Target};

/// Names of files that are being written begin like this.
const TEMPORARY_PREFIX: &str = ".tmp-";
/// A file that is being written for longer than this was left behind.
const TEMPORARY_AGE_MAX: Duration = Duration::from_mins(1);
/// Times of files are as fine as this, or finer: after a change this young another one may not show.
const TIME_GRAIN: Duration = Duration::from_millis(100);
/// The longest status file, in bytes.
const FILE_BYTES_MAX: u64 = 1024 * 1024;

impl Target {
    /// The target of statuses for this object, if its kind has one.
    pub(super) fn of(reference: &ObjectRef) -> Option<Target> {
        match reference.kind {
            Kind::Service => Some(Target::Service(reference.key.clone())),
            Kind::IPAddressPool => Some(Target::Pool(reference.key.clone())),
            kind if crate::is_report(kind) => Some(Target::Report(reference.clone())),
            _ => None,
        }
    }

    fn kind_and_key(&self) -> (Kind, &Key) {
        match self {
            Target::Service(key) | Target::Assignment(key) | Target::Condition(key) => (Kind::Service, key),
            Target::Pool(key) => (Kind::IPAddressPool, key),
            Target::Report(object) => (object.kind, &object.key),
        }
    }

    /// The name of the file; none for names that no API server would take, and that might lead elsewhere.
    fn file_name(&self) -> Option<String> {
        let (kind, Key { namespace, name }) = self.kind_and_key();
        // A namespace has no dot, so the parts can be told apart.
        let is_harmless = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_alphanumeric() || c == '-');
        let are_harmless = is_harmless(namespace) && name.split('.').all(is_harmless);
        are_harmless.then(|| format!("{}.{namespace}.{name}.yaml", kind.name().to_lowercase()))
    }

    fn from_file_name(name: &str) -> Option<Target> {
        let (kind, rest) = name.strip_suffix(".yaml")?.split_once('.')?;
        let (namespace, name) = rest.split_once('.')?;
        let key = Key::new(namespace, name);
        let kind = Kind::ALL.iter().find(|known| known.name().to_lowercase() == kind)?;
        Target::of(&ObjectRef { kind: *kind, key })
    }
}

/// Held by who writes a part of the status of a Service: the others are read before.
static PARTS: Mutex<()> = Mutex::new(());

/// What a status file holds.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct StatusFile {
    metadata: api::ObjectMeta,
    status: Value,
}

#[derive(Debug)]
struct Entry {
    signature: Signature,
    /// What it says; none if it cannot be read.
    content: Option<Content>,
}

#[derive(Debug)]
struct Content {
    uid: String,
    status: StatusContent,
}

#[derive(Debug)]
enum StatusContent {
    Service(OfService),
    Pool(PoolCounters),
    Report(Box<Object>),
}

/// What is written of a Service.
#[derive(Debug, Default)]
struct OfService {
    /// Its addresses and their pool; none before they were written for the first time: then the manifest's count.
    addresses: Option<(LoadBalancerStatus, Option<String>)>,
    /// The node that they are assigned to.
    node: Option<String>,
    conditions: Vec<Condition>,
}

/// The status of a Service as it stands in a file.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ServiceStatusFields {
    load_balancer: Option<LoadBalancerStatus>,
    /// Read apart: what is wrong with them must not hide the addresses.
    conditions: Value,
}

impl ServiceStatusFields {
    /// Of the conditions, ours; anything else is dropped.
    fn ours(&self) -> Vec<Condition> {
        let all = self.conditions.as_array().into_iter().flatten();
        let readable = all.filter_map(|condition| Condition::deserialize(condition).ok());
        readable.filter(|condition| condition.type_ == api::ANNOUNCED).collect()
    }
}

/// The folder of the status files.
#[derive(Debug)]
pub(super) struct StatusFolder {
    directory: PathBuf,
    /// When the folder itself changed last: every status file is renamed into it, and that shows there.
    changed: Option<SystemTime>,
    entries: HashMap<Target, Entry>,
}

impl StatusFolder {
    pub(super) fn new(directory: PathBuf) -> StatusFolder {
        StatusFolder { directory, changed: None, entries: HashMap::new() }
    }

    /// Reads what has changed. True if something has.
    pub(super) fn poll(&mut self, now: SystemTime) -> bool {
        let changed = fs::metadata(&self.directory).and_then(|metadata| metadata.modified()).ok();
        let is_old = changed.is_none_or(|at| now.duration_since(at).is_ok_and(|age| age > TIME_GRAIN));
        if changed == self.changed {
            return false;
        }
        // While it is young, the next look looks again.
        self.changed = if is_old { changed } else { None };
        let present = match self.list() {
            Ok(present) => present,
            // There is none yet, or it cannot be read: what is known stays.
            Err(error) if error.kind() == io::ErrorKind::NotFound => return false,
            Err(error) => {
                tracing::error!(%error, "cannot read the status files");
                return false;
            }
        };
        let before = self.entries.len();
        self.entries.retain(|target, _| present.contains_key(target));
        let mut has_changed = self.entries.len() != before;
        for (target, (name, signature)) in present {
            if self.entries.get(&target).is_some_and(|entry| entry.signature == signature) {
                continue;
            }
            let content = read(&self.directory.join(&name), &target);
            if let Err(error) = &content {
                tracing::error!(file = name, %error, "cannot read a status file");
            }
            self.entries.insert(target, Entry { signature, content: content.ok() });
            has_changed = true;
        }
        has_changed
    }

    /// Lays the status of this object over it, unless it is that of a predecessor of the same name.
    pub(super) fn lay_over(&self, object: &mut Object) {
        let content = Target::of(&object.reference()).and_then(|target| self.entries.get(&target)?.content.as_ref());
        let Some(content) = content.filter(|content| content.uid == object.metadata().uid) else { return };
        match (object, &content.status) {
            (Object::Service(service), StatusContent::Service(OfService { addresses, node, conditions })) => {
                service.status.conditions.clone_from(conditions);
                let annotations = &mut service.metadata.annotations;
                match node {
                    Some(node) => annotations.insert(LAYER2_ASSIGNED_NODE.to_owned(), node.clone()),
                    None => annotations.remove(LAYER2_ASSIGNED_NODE),
                };
                if let Some((load_balancer, pool)) = addresses {
                    service.status.load_balancer.clone_from(load_balancer);
                    match pool {
                        Some(pool) => service.metadata.annotations.insert(ALLOCATED_FROM_POOL.to_owned(), pool.clone()),
                        None => service.metadata.annotations.remove(ALLOCATED_FROM_POOL),
                    };
                }
            }
            (Object::IPAddressPool(pool), StatusContent::Pool(counters)) => pool.status = Some(*counters),
            _ => {}
        }
    }

    /// The objects that are there in whole.
    pub(super) fn reports(&self) -> impl Iterator<Item = &Object> {
        self.entries.values().filter_map(|entry| match &entry.content.as_ref()?.status {
            StatusContent::Report(object) => Some(object.as_ref()),
            StatusContent::Service(_) | StatusContent::Pool(_) => None,
        })
    }

    /// Removes the file of this object.
    pub(super) fn remove(&mut self, target: &Target) {
        self.entries.remove(target);
        if let Some(name) = target.file_name() {
            remove(&self.directory.join(name));
        }
    }

    /// Removes the files of statuses whose objects are not there, and what was left behind by a crash.
    pub(super) fn remove_others(&mut self, known: &HashMap<Target, String>, now: SystemTime) {
        let is_other = |target: &&Target| !matches!(target, Target::Report(_)) && !known.contains_key(target);
        let others: Vec<Target> = self.entries.keys().filter(is_other).cloned().collect();
        for target in &others {
            tracing::debug!(?target, "removing the status of an object that is gone");
            self.remove(target);
        }
        for entry in fs::read_dir(&self.directory).into_iter().flatten().flatten() {
            let is_temporary = entry.file_name().to_string_lossy().starts_with(TEMPORARY_PREFIX);
            let changed = entry.metadata().and_then(|metadata| metadata.modified()).ok();
            let age = changed.and_then(|at| now.duration_since(at).ok()).unwrap_or_default();
            if is_temporary && age > TEMPORARY_AGE_MAX {
                remove(&entry.path());
            }
        }
    }

    fn list(&self) -> io::Result<HashMap<Target, (String, Signature)>> {
        let mut present = HashMap::new();
        for entry in fs::read_dir(&self.directory)? {
            let entry = entry?;
            let Ok(name) = entry.file_name().into_string() else { continue };
            let Some(target) = Target::from_file_name(&name) else { continue };
            match entry.metadata() {
                Ok(metadata) => {
                    present.insert(target, (name, Signature::of(&metadata)));
                }
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        Ok(present)
    }
}

fn remove(path: &Path) {
    if let Err(error) = fs::remove_file(path)
        && error.kind() != io::ErrorKind::NotFound
    {
        tracing::error!(file = %path.display(), %error, "cannot remove a status file");
    }
}

fn read(path: &Path, target: &Target) -> io::Result<Content> {
    if fs::metadata(path)?.len() > FILE_BYTES_MAX {
        return Err(io::Error::other(format!("it is longer than {FILE_BYTES_MAX} bytes")));
    }
    let text = fs::read_to_string(path)?;
    let StatusFile { mut metadata, status } = serde_saphyr::from_str(&text).map_err(io::Error::other)?;
    let status = match target {
        Target::Service(_) | Target::Assignment(_) | Target::Condition(_) => {
            let fields: ServiceStatusFields = serde_json::from_value(status)?;
            let (conditions, annotations) = (fields.ours(), &mut metadata.annotations);
            let (pool, node) = (annotations.remove(ALLOCATED_FROM_POOL), annotations.remove(LAYER2_ASSIGNED_NODE));
            StatusContent::Service(OfService { addresses: fields.load_balancer.map(|it| (it, pool)), node, conditions })
        }
        Target::Pool(_) => StatusContent::Pool(serde_json::from_value(status)?),
        Target::Report(reference) => {
            let object = Object::from_value(reference.kind, json!({ "metadata": &metadata, "status": status }))?;
            StatusContent::Report(Box::new(object))
        }
    };
    Ok(Content { uid: metadata.uid, status })
}

/// Removes the file of a report, if it is still the one with this uid.
pub(super) fn remove_report(directory: &Path, object: &ObjectRef, uid: &str) -> io::Result<()> {
    let target = Target::Report(object.clone());
    let Some(path) = target.file_name().map(|name| directory.join(name)) else { return Ok(()) };
    match read(&path, &target) {
        Ok(content) if content.uid == uid => remove(&path),
        Ok(_) => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        Err(error) => return Err(error),
    }
    Ok(())
}

/// The uid of a report: those of different nodes are different objects.
fn report_uid(object: &ObjectRef, report: &Report) -> String {
    format!("manifest/{}/{}/{}", object.kind, object.key, report.node().unwrap_or("controller"))
}

/// Makes the folder for statuses, but not the one that it is in: a directory of manifests that is away for a moment would be
/// back, and empty, as if everybody wanted everything deleted.
pub(super) fn make_folder(directory: &Path) -> io::Result<()> {
    match fs::create_dir(directory) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        made => made,
    }
}

/// Writes a status file in one step, and to the disk: it is a ledger.
pub(super) fn write(directory: &Path, status: &Status, uid: &str) -> io::Result<()> {
    let target = status.target();
    let Some(name) = target.file_name() else {
        return Err(io::Error::new(io::ErrorKind::InvalidInput, "the name of the object cannot be that of a file"));
    };
    make_folder(directory)?;
    let alone = matches!(target, Target::Service(_) | Target::Assignment(_) | Target::Condition(_))
        .then(|| PARTS.lock().unwrap_or_else(PoisonError::into_inner));
    let path = directory.join(name);
    let before = alone.as_ref().and_then(|_| read(&path, &target).ok()).filter(|content| content.uid == uid);
    let text = serde_saphyr::to_string(&content(status, uid, before)).map_err(io::Error::other)?;
    let temporary = directory.join(format!("{TEMPORARY_PREFIX}{:016x}", random()));
    let result = (|| {
        let mut file = File::create_new(&temporary)?;
        file.write_all(text.as_bytes())?;
        file.sync_data()?;
        fs::rename(&temporary, path)
    })();
    if result.is_err() {
        remove(&temporary);
    }
    result
}

/// What the file says, given what it said before of the same object.
fn content(status: &Status, uid: &str, before: Option<Content>) -> Value {
    let target = status.target();
    let (kind, key) = target.kind_and_key();
    let mut metadata = json!({ "namespace": key.namespace, "name": key.name, "uid": uid });
    let mut add = |field: &str, value: Value| {
        if let Some(fields) = metadata.as_object_mut() {
            fields.insert(field.to_owned(), value);
        }
    };
    let mut of_service = match before.map(|content| content.status) {
        Some(StatusContent::Service(of_service)) => of_service,
        Some(StatusContent::Pool(_) | StatusContent::Report(_)) | None => OfService::default(),
    };
    let status = match status {
        Status::Service { ingress, pool, .. } => {
            of_service.addresses = Some((LoadBalancerStatus { ingress: ingress.clone() }, pool.clone()));
            service_status(&of_service)
        }
        Status::Assignment { node, .. } => {
            of_service.node.clone_from(node);
            service_status(&of_service)
        }
        Status::Condition { condition, .. } => {
            let now = Timestamp::now().to_string();
            of_service.conditions = condition.iter().map(|condition| condition.clone().at(&now)).collect();
            service_status(&of_service)
        }
        Status::Pool { counters, .. } => json!(counters),
        Status::Report { object, report, .. } => {
            add("uid", json!(report_uid(object, report)));
            add("labels", json!(report.labels()));
            report.status(&Timestamp::now().to_string())
        }
        Status::ReportGone { .. } => Value::Null,
    };
    let pool = of_service.addresses.and_then(|(_, pool)| pool);
    let annotations = [(ALLOCATED_FROM_POOL, pool), (LAYER2_ASSIGNED_NODE, of_service.node)];
    let annotations: BTreeMap<&str, String> =
        annotations.into_iter().filter_map(|(name, value)| Some((name, value?))).collect();
    if !annotations.is_empty() {
        add("annotations", json!(annotations));
    }
    json!({ "apiVersion": kind.api_version(), "kind": kind.name(), "metadata": metadata, "status": status })
}

fn service_status(of_service: &OfService) -> Value {
    let mut status = serde_json::Map::new();
    if let Some((load_balancer, _)) = &of_service.addresses {
        status.insert("loadBalancer".to_owned(), json!(load_balancer));
    }
    if !of_service.conditions.is_empty() {
        status.insert("conditions".to_owned(), json!(of_service.conditions));
    }
    status.into()
}
