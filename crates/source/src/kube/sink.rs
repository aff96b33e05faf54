//! Writes to the API server.
//!
//! A Service's status and the annotation that names its pool go in one merge patch of `services/status`, as the pool
//! annotation always went through that subresource (contract 2.1, 12.3). The patch names the uid of the Service it is
//! meant for, so that a successor of the same name never gets it. What others wrote beside it stays.
//!
//! The condition of a Service goes by server-side apply under a name of its own, so that it is taken away again without a
//! look at the conditions of others.
//!
//! The node that a Service is assigned to goes by a merge patch of `services/status` too: it needs no other right.
//!
//! With a Lease, nothing is written that was wanted in an earlier term. What is written to a Service then also
//! names the resource version that was known before the Lease named the Service (`lease`); if it has another one meanwhile,
//! the write is tried again. Without, a status that is not written because someone changed a label would be a needless
//! try. The queue has only one write of a Service under way.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use ::kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use ::kube::core::Request;
use ::lease::Term;
use api::core::Ingress;
use api::{ALLOCATED_FROM_POOL, Condition, FENCED_BY, Key, Kind, LAYER2_ASSIGNED_NODE, ObjectRef, Report, ReportParts};
use http::header::{ACCEPT, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::{Semaphore, SemaphorePermit, watch};

use super::lease::{Guard, target};
use super::message::Named;
use super::request::{Built, Failure, Server};
use super::versions::Versions;
use crate::events::EventWrite;
use crate::queue::{Job, Outcome, Status, Turn};
use crate::writer::Sink;
use crate::{Identity, Owner};

/// The owner of our condition in the status of Services.
const CONDITION_MANAGER: &str = "metallb-conditions";
/// Where events go that are about objects without a namespace.
const DEFAULT_NAMESPACE: &str = "default";
/// Asks for the metadata of what was written instead of the whole object, which nobody looks at here.
const SMALL_ANSWER: HeaderValue =
    HeaderValue::from_static("application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json");
/// How long one write may take.
const WRITE_TIMEOUT: Duration = Duration::from_secs(20);

/// Writes to this server, in this name.
pub(super) struct ApiSink {
    server: Server,
    identity: Identity,
    owner: watch::Receiver<Owner>,
    exclusive: Option<Exclusive>,
    /// One for each write that may be under way.
    permits: Semaphore,
    /// How often the server did not answer: what waits for a permit meanwhile is not sent.
    silences: AtomicU64,
}

/// What it takes to write alone.
pub(super) struct Exclusive {
    pub(super) guard: Guard,
    pub(super) versions: Arc<Versions>,
}

/// Why nothing was written.
enum Undone {
    Failed(Failure),
    /// It is another's turn to write.
    NotOurs,
    /// It is our turn, but too much is under way.
    Busy,
    /// The server was silent while this waited.
    Held,
}

impl From<Failure> for Undone {
    fn from(failure: Failure) -> Self {
        Undone::Failed(failure)
    }
}

impl Sink for ApiSink {
    async fn perform(&self, job: &Job, turn: Turn) -> Outcome {
        let work = async {
            if let (
                Job::Status(
                    Status::Service { service, uid, .. }
                    | Status::Assignment { service, uid, .. }
                    | Status::Condition { service, uid, .. },
                ),
                Some(exclusive),
                Turn::Term(term),
            ) = (job, &self.exclusive, turn)
            {
                return self.service_alone(exclusive, term, service, uid, job).await;
            }
            let _permit = self.permit().await?;
            if !self.is_ours(turn) {
                return Err(Undone::NotOurs);
            }
            self.pool_or_other(job).await.map_err(Undone::Failed)
        };
        let result = tokio::time::timeout(WRITE_TIMEOUT, work).await.unwrap_or_else(|_elapsed| {
            Err(Failure::Unreachable(format!("a write took longer than {} s", WRITE_TIMEOUT.as_secs())).into())
        });
        match result {
            Ok(()) => Outcome::Done,
            Err(Undone::NotOurs) => {
                tracing::debug!("not written: this controller does not lead any more");
                Outcome::Refused
            }
            Err(Undone::Busy) => Outcome::Later { after: None },
            Err(Undone::Held) => Outcome::Unreachable { after: None },
            Err(Undone::Failed(failure)) => {
                let outcome = judge(&failure);
                if matches!(outcome, Outcome::Unreachable { .. }) {
                    self.silences.fetch_add(1, Ordering::Relaxed);
                }
                tell(job, &failure, outcome);
                outcome
            }
        }
    }
}

impl ApiSink {
    pub(super) fn new(
        server: Server,
        identity: Identity,
        owner: watch::Receiver<Owner>,
        exclusive: Option<Exclusive>,
    ) -> ApiSink {
        ApiSink {
            server,
            identity,
            owner,
            exclusive,
            permits: Semaphore::new(super::WRITES_AT_ONCE),
            silences: AtomicU64::new(0),
        }
    }

    /// Waits until one more may be sent.
    async fn permit(&self) -> Result<SemaphorePermit<'_>, Undone> {
        let silences = self.silences.load(Ordering::Relaxed);
        let permit = self.permits.acquire().await.map_err(|_closed| Undone::Held)?;
        if self.silences.load(Ordering::Relaxed) == silences { Ok(permit) } else { Err(Undone::Held) }
    }

    /// Whether it is still the turn that something was wanted in.
    fn is_ours(&self, turn: Turn) -> bool {
        match (&self.exclusive, turn) {
            (None, _) => true,
            (Some(exclusive), Turn::Term(term)) => exclusive.guard.holds(term),
            (Some(_), Turn::Always | Turn::Never) => false,
        }
    }

    /// Writes a part of a Service such that it cannot arrive in the time of another controller: the rule of `lease`.
    async fn service_alone(
        &self,
        exclusive: &Exclusive,
        term: Term,
        service: &Key,
        uid: &str,
        job: &Job,
    ) -> Result<(), Undone> {
        let Exclusive { guard, versions } = exclusive;
        let object = of(Kind::Service, service);
        let Some((_, version)) = versions.of(&object).filter(|(known, _)| known == uid) else {
            return Err(not_shown().into());
        };
        if !guard.open(term, target(service)).await {
            return Err(if guard.holds(term) { Undone::Busy } else { Undone::NotOurs });
        }
        let _permit = self.permit().await?;
        if !guard.holds(term) {
            return Err(Undone::NotOurs);
        }
        let result = self.send(job, Some(&version)).await;
        match &result {
            Ok(answer) => {
                let named: Named = serde_json::from_slice(answer).unwrap_or_default();
                versions.written(&object, uid, &version, &named.metadata.resource_version);
                guard.close(term, target(service)).await;
            }
            // It has another version now, or is gone: no earlier try can arrive either. After any other answer one may.
            Err(Failure::Refused { code: 404 | 409, .. }) => guard.close(term, target(service)).await,
            Err(_) => {}
        }
        result.map(drop).map_err(Undone::Failed)
    }

    /// Counters name the version of their pool, so that those of an earlier controller do not replace newer ones. If they
    /// come first, they are set back.
    async fn pool_or_other(&self, job: &Job) -> Result<(), Failure> {
        let (Some(Exclusive { versions, .. }), Job::Status(Status::Pool { pool, .. })) = (&self.exclusive, job) else {
            return self.send(job, None).await.map(drop);
        };
        let object = of(Kind::IPAddressPool, pool);
        let Some((uid, version)) = versions.of(&object) else { return self.send(job, None).await.map(drop) };
        let answer = self.send(job, Some(&version)).await?;
        let named: Named = serde_json::from_slice(&answer).unwrap_or_default();
        versions.written(&object, &uid, &version, &named.metadata.resource_version);
        Ok(())
    }

    async fn send(&self, job: &Job, version: Option<&str>) -> Result<Vec<u8>, Failure> {
        match job {
            Job::Status(status) => self.status(status, version).await,
            Job::Event(write) => self.event(write).await.map(|()| Vec::new()),
        }
    }

    /// Returns the answer, of which the metadata of a Service is of interest.
    async fn status(&self, status: &Status, version: Option<&str>) -> Result<Vec<u8>, Failure> {
        let (path, key, patch) = match status {
            Status::Service { uid, .. } | Status::Assignment { uid, .. } | Status::Condition { uid, .. }
                if uid.is_empty() =>
            {
                return Err(Failure::Unreadable(
                    "a status without a uid could reach any Service of the name".to_owned(),
                ));
            }
            Status::Service { service, uid, ingress, pool } => {
                let path = format!("/api/v1/namespaces/{}/services", service.namespace);
                (path, service, service_patch(uid, version, ingress, pool.as_deref()))
            }
            Status::Assignment { service, uid, node } => {
                let path = format!("/api/v1/namespaces/{}/services", service.namespace);
                (path, service, assignment_patch(uid, version, node.as_deref()))
            }
            Status::Condition { service, uid, condition } => {
                return self.condition(service, uid, version, condition.as_ref()).await;
            }
            Status::Pool { pool, counters } => {
                let path = super::follow::path(Kind::IPAddressPool, &pool.namespace);
                let patch = match version {
                    Some(version) => json!({ "metadata": { "resourceVersion": version }, "status": counters }),
                    None => json!({ "status": counters }),
                };
                (path, pool, patch)
            }
            Status::Report { object, report, parts } => {
                return self.report(object, report, *parts).await.map(|()| Vec::new());
            }
            Status::ReportGone { object, uid } => {
                return self.delete(object, uid).await.map(|()| Vec::new());
            }
        };
        let params = PatchParams { field_manager: Some(self.identity.component.to_owned()), ..PatchParams::default() };
        let request = Request::new(path).patch_subresource("status", &key.name, &params, &Patch::Merge(&patch));
        self.server.get(small(request)).await
    }

    /// Applies our condition of a Service, or nothing, which takes away the one that was.
    async fn condition(
        &self,
        service: &Key,
        uid: &str,
        version: Option<&str>,
        condition: Option<&Condition>,
    ) -> Result<Vec<u8>, Failure> {
        let params = PatchParams::apply(CONDITION_MANAGER).force();
        let now = seconds(Timestamp::now());
        let path = format!("/api/v1/namespaces/{}/services", service.namespace);
        let patch = Patch::Apply(condition_patch(service, uid, version, condition, &now));
        let request = Request::new(path).patch_subresource("status", &service.name, &params, &patch);
        self.server.get(small(request)).await
    }

    /// Has an object say something, by server-side apply: what others wrote beside it stays. The object comes first and
    /// its status second, as it always was (contract 1.9).
    async fn report(&self, object: &ObjectRef, report: &Report, parts: ReportParts) -> Result<(), Failure> {
        let manager = match report {
            Report::Configuration { component, .. } => component.field_manager(),
            Report::Layer2 { .. } | Report::Bgp { .. } => self.identity.component,
        };
        let params = PatchParams::apply(manager).force();
        let path = || Request::new(super::follow::path(object.kind, &object.key.namespace));
        let head = |metadata: Value| json!({ "apiVersion": object.kind.api_version(), "kind": object.kind.name(), "metadata": metadata });
        let name = &object.key.name;
        if parts == ReportParts::Whole {
            let mut metadata = json!({ "name": name, "labels": report.labels() });
            let owner = self.owner.borrow().clone();
            if let (Owner::Pod(owner), Some(metadata)) = (owner, metadata.as_object_mut()) {
                metadata.insert("ownerReferences".to_owned(), json!([owner]));
            }
            self.server.get(small(path().patch(name, &params, &Patch::Apply(&head(metadata))))).await?;
        }
        let mut status = head(json!({ "name": name }));
        if let Some(fields) = status.as_object_mut() {
            fields.insert("status".to_owned(), report.status(&seconds(Timestamp::now())));
        }
        self.server
            .get(small(path().patch_subresource("status", name, &params, &Patch::Apply(&status))))
            .await
            .map(drop)
    }

    async fn delete(&self, object: &ObjectRef, uid: &str) -> Result<(), Failure> {
        let only_it = Preconditions { uid: Some(uid.to_owned()), resource_version: None };
        let params = DeleteParams { preconditions: Some(only_it), ..DeleteParams::default() };
        let path = Request::new(super::follow::path(object.kind, &object.key.namespace));
        match self.server.get(path.delete(&object.key.name, &params)).await {
            // Gone already, or another one of the same name.
            Err(Failure::Refused { code: 404 | 409, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    async fn event(&self, write: &EventWrite) -> Result<(), Failure> {
        let namespace = match write.event.object.key.namespace.as_str() {
            "" => DEFAULT_NAMESPACE,
            namespace => namespace,
        };
        let path = Request::new(format!("/api/v1/namespaces/{namespace}/events"));
        if write.is_repeat {
            let patch = json!({ "count": write.count, "lastTimestamp": seconds(write.last) });
            let request = path.patch(&write.name, &PatchParams::default(), &Patch::Merge(&patch));
            match self.server.get(request).await {
                // Events live for an hour only, or someone tidied up: begin a new one.
                Err(Failure::Refused { code: 404, .. }) => {}
                other => return other.map(drop),
            }
        }
        let body = self.event_object(write, namespace).to_string().into_bytes();
        match self.server.get(path.create(&PostParams::default(), body)).await {
            // An earlier try arrived after all.
            Err(Failure::Refused { code: 409, .. }) => Ok(()),
            other => other.map(drop),
        }
    }

    fn event_object(&self, write: &EventWrite, namespace: &str) -> Value {
        let object = &write.event.object;
        let mut involved = json!({
            "apiVersion": object.kind.api_version(),
            "kind": object.kind.name(),
            "name": object.key.name,
        });
        for (field, value) in [("namespace", &object.key.namespace), ("uid", &write.event.uid)] {
            if let (Some(involved), false) = (involved.as_object_mut(), value.is_empty()) {
                involved.insert(field.to_owned(), json!(value));
            }
        }
        json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": { "name": write.name, "namespace": namespace },
            "involvedObject": involved,
            "type": write.event.type_.as_str(),
            "reason": write.event.reason,
            "message": write.event.message,
            "count": write.count,
            "firstTimestamp": seconds(write.first),
            "lastTimestamp": seconds(write.last),
            "source": { "component": self.identity.component, "host": self.identity.instance },
            "reportingComponent": self.identity.component,
            "reportingInstance": self.identity.instance,
        })
    }
}

fn of(kind: Kind, key: &Key) -> ObjectRef {
    ObjectRef { kind, key: key.clone() }
}

/// What an object is that is gone, or is another one of the name.
fn not_shown() -> Failure {
    Failure::Refused { code: 404, message: "the watch does not show it".to_owned(), retry_after: None }
}

/// Asks for a short answer.
pub(super) fn small(mut request: Built) -> Built {
    if let Ok(request) = &mut request {
        request.headers_mut().insert(ACCEPT, SMALL_ANSWER);
    }
    request
}

fn service_patch(uid: &str, version: Option<&str>, ingress: &[Ingress], pool: Option<&str>) -> Value {
    let metadata = match version {
        Some(version) => json!({
            "uid": uid, "resourceVersion": version, "annotations": { ALLOCATED_FROM_POOL: pool, FENCED_BY: null },
        }),
        None => json!({ "uid": uid, "annotations": { ALLOCATED_FROM_POOL: pool } }),
    };
    json!({
        "metadata": metadata,
        // In a merge patch, null removes; a list replaces the list that was there.
        "status": { "loadBalancer": { "ingress": (!ingress.is_empty()).then_some(ingress) } },
    })
}

fn assignment_patch(uid: &str, version: Option<&str>, node: Option<&str>) -> Value {
    // Null removes it.
    let mut metadata = json!({ "uid": uid, "annotations": { LAYER2_ASSIGNED_NODE: node } });
    if let (Some(metadata), Some(version)) = (metadata.as_object_mut(), version) {
        metadata.insert("resourceVersion".to_owned(), json!(version));
    }
    json!({ "metadata": metadata })
}

fn condition_patch(service: &Key, uid: &str, version: Option<&str>, condition: Option<&Condition>, now: &str) -> Value {
    let mut metadata = json!({ "namespace": service.namespace, "name": service.name, "uid": uid });
    if let (Some(metadata), Some(version)) = (metadata.as_object_mut(), version) {
        metadata.insert("resourceVersion".to_owned(), json!(version));
    }
    let mut patch = json!({ "apiVersion": "v1", "kind": "Service", "metadata": metadata });
    if let (Some(patch), Some(condition)) = (patch.as_object_mut(), condition) {
        patch.insert("status".to_owned(), json!({ "conditions": [condition.clone().at(now)] }));
    }
    patch
}

/// A time as Kubernetes writes it, in whole seconds.
fn seconds(time: Timestamp) -> String {
    Timestamp::from_second(time.as_second()).unwrap_or(time).to_string()
}

/// What to do after a failure.
fn judge(failure: &Failure) -> Outcome {
    match failure {
        Failure::Unreachable(_) => Outcome::Unreachable { after: None },
        // It cannot be put into words for the server.
        Failure::Unreadable(_) => Outcome::Refused,
        Failure::Refused { code, retry_after, .. } => match code {
            // Too much to do, starting, stopping, or our credentials are being renewed.
            401 | 429 | 502 | 503 | 504 => Outcome::Unreachable { after: *retry_after },
            400 | 404 | 405 | 413 | 415 | 422 => Outcome::Refused,
            // 409: someone wrote in the same moment. 403: a role may be on its way.
            _ => Outcome::Later { after: *retry_after },
        },
    }
}

fn tell(job: &Job, failure: &Failure, outcome: Outcome) {
    let (what, object): (&str, &Key) = match job {
        Job::Status(Status::Pool { pool, .. }) => ("pool status", pool),
        Job::Status(Status::Service { service, .. }) => ("service status", service),
        Job::Status(Status::Assignment { service, .. }) => ("assigned node of service", service),
        Job::Status(Status::Condition { service, .. }) => ("service condition", service),
        Job::Status(Status::Report { object, .. } | Status::ReportGone { object, .. }) => {
            (object.kind.name(), &object.key)
        }
        Job::Event(write) => ("event", &write.event.object.key),
    };
    // The server checks the uid of a patch as a field that must not change.
    let is_gone = match failure {
        Failure::Refused { code, message, .. } => *code == 404 || (*code == 422 && message.contains("metadata.uid")),
        Failure::Unreachable(_) | Failure::Unreadable(_) => false,
    };
    match outcome {
        Outcome::Refused if is_gone => {
            tracing::debug!(what, %object, error = %failure, "not written: the object is gone or is another one");
        }
        Outcome::Refused => {
            tracing::error!(limited = true, what, %object, error = %failure, "not written, and not tried again");
        }
        Outcome::Later { .. } => {
            tracing::warn!(limited = true, what, %object, error = %failure, "not written yet; will try again");
        }
        // Told once for all, by the writer.
        Outcome::Unreachable { .. } | Outcome::Done => {
            tracing::debug!(what, %object, error = %failure, "not written yet");
        }
    }
}
