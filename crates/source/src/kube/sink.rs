//! Writes to the API server.
//!
//! A Service's status and the annotation that names its pool go in one merge patch of `services/status`, as the pool
//! annotation always went through that subresource (contract 2.1, 12.3). The patch names the uid of the Service it is
//! meant for, so that a successor of the same name never gets it; it names no resource version, since a status that is
//! not written because someone changed a label would be lost. What others wrote beside it stays.
//!
//! The condition of a Service goes by server-side apply under a name of its own, so that it is taken away again without a
//! look at the conditions of others.

use std::time::Duration;

use ::kube::api::{DeleteParams, Patch, PatchParams, PostParams, Preconditions};
use ::kube::core::Request;
use api::core::Ingress;
use api::{ALLOCATED_FROM_POOL, Condition, Key, Kind, ObjectRef, Report, ReportParts};
use http::header::{ACCEPT, HeaderValue};
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::sync::watch;

use super::request::{Built, Failure, Server};
use crate::events::EventWrite;
use crate::queue::{Job, Outcome, Status};
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
}

impl Sink for ApiSink {
    async fn perform(&self, job: &Job) -> Outcome {
        let work = async {
            match job {
                Job::Status(status) => self.status(status).await,
                Job::Event(write) => self.event(write).await,
            }
        };
        let result = tokio::time::timeout(WRITE_TIMEOUT, work).await.unwrap_or_else(|_elapsed| {
            Err(Failure::Unreachable(format!("a write took longer than {} s", WRITE_TIMEOUT.as_secs())))
        });
        match result {
            Ok(()) => Outcome::Done,
            Err(failure) => {
                let outcome = judge(&failure);
                tell(job, &failure, outcome);
                outcome
            }
        }
    }
}

impl ApiSink {
    pub(super) fn new(server: Server, identity: Identity, owner: watch::Receiver<Owner>) -> ApiSink {
        ApiSink { server, identity, owner }
    }

    async fn status(&self, status: &Status) -> Result<(), Failure> {
        let (path, key, patch) = match status {
            Status::Service { uid, .. } | Status::Condition { uid, .. } if uid.is_empty() => {
                return Err(Failure::Unreadable(
                    "a status without a uid could reach any Service of the name".to_owned(),
                ));
            }
            Status::Service { service, uid, ingress, pool } => {
                let path = format!("/api/v1/namespaces/{}/services", service.namespace);
                (path, service, service_patch(uid, ingress, pool.as_deref()))
            }
            Status::Condition { service, uid, condition } => {
                return self.condition(service, uid, condition.as_ref()).await;
            }
            Status::Pool { pool, counters } => {
                let path = super::follow::path(Kind::IPAddressPool, &pool.namespace);
                (path, pool, json!({ "status": counters }))
            }
            Status::Report { object, report, parts } => return self.report(object, report, *parts).await,
            Status::ReportGone { object, uid } => return self.delete(object, uid).await,
        };
        let params = PatchParams { field_manager: Some(self.identity.component.to_owned()), ..PatchParams::default() };
        let request = Request::new(path).patch_subresource("status", &key.name, &params, &Patch::Merge(&patch));
        self.server.get(small(request)).await.map(drop)
    }

    /// Applies our condition of a Service, or nothing, which takes away the one that was.
    async fn condition(&self, service: &Key, uid: &str, condition: Option<&Condition>) -> Result<(), Failure> {
        let params = PatchParams::apply(CONDITION_MANAGER).force();
        let now = seconds(Timestamp::now());
        let path = format!("/api/v1/namespaces/{}/services", service.namespace);
        let patch = Patch::Apply(condition_patch(service, uid, condition, &now));
        let request = Request::new(path).patch_subresource("status", &service.name, &params, &patch);
        self.server.get(small(request)).await.map(drop)
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

/// Asks for a short answer.
fn small(mut request: Built) -> Built {
    if let Ok(request) = &mut request {
        request.headers_mut().insert(ACCEPT, SMALL_ANSWER);
    }
    request
}

fn service_patch(uid: &str, ingress: &[Ingress], pool: Option<&str>) -> Value {
    json!({
        "metadata": { "uid": uid, "annotations": { ALLOCATED_FROM_POOL: pool } },
        // In a merge patch, null removes; a list replaces the list that was there.
        "status": { "loadBalancer": { "ingress": (!ingress.is_empty()).then_some(ingress) } },
    })
}

fn condition_patch(service: &Key, uid: &str, condition: Option<&Condition>, now: &str) -> Value {
    let mut patch = json!({
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": { "namespace": service.namespace, "name": service.name, "uid": uid },
    });
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
