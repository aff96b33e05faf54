//! The webhooks of a controller: a port where the API server asks about changes of objects, and for conversion.
//!
//! They have watches and a loop of their own, so that neither they nor the giving of addresses wait for each other. What is
//! answered is decided in `webhook`; which certificate is shown, in [`certificate`].

mod certificate;

use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use netio::clock::Clock;
use serve::{Certificates, Connections, Server, TlsPolicy};
use source::kube::{Client, Registrations, WebhookNames};
use source::manifests::StatusFiles;
use source::{Change, PoolStatus, Source};
use telemetry::health::Health;
use tokio::sync::{Semaphore, mpsc, oneshot};
use tokio::time::{sleep, timeout};
use webhook::{Answer, CONVERSION_PATH, KINDS, Question, Reviewer, VALIDATION_PATHS};

use crate::arguments::{ControllerFlags, WebhookFlags};
use crate::process::{self, Reach};

use self::certificate::Keeper;

/// Where the API server asks (contract 7.2).
const PORT: u16 = 9443;
/// How large a question may be. Of an object there may be two in it, each of 1.5 MiB at most; of peers to convert, a page.
const BODY_BYTES_MAX: usize = 8 * 1024 * 1024;
/// How long a question may take to arrive.
const BODY_TIME_MAX: Duration = Duration::from_secs(5);
/// Questions that arrive at one time, and those that wait for their answer; others wait before that.
const QUESTIONS_MAX: usize = 16;
/// After how long a refusal is looked at again before it is told: what it is about may be gone, and the watch a little behind.
const SECOND_LOOK: Duration = Duration::from_millis(300);
/// Changes taken in before questions get their turn again.
const CHANGES_PER_TURN: usize = 64;
/// How often to look whether somebody has made a certificate.
const DIRECTORY_INTERVAL: Duration = Duration::from_secs(2);

/// How long questions are still answered when the process ends: API servers and kube-proxy learn by a watch that it does.
const DRAIN_TIME: Duration = Duration::from_secs(2);
/// How long the last answers may take after that.
const LAST_ANSWERS_TIME: Duration = Duration::from_secs(2);

/// The checks behind `/readyz`: all objects are known, and the API server can ask.
const READY_OBJECTS: &str = "webhook objects";
const READY_CERTIFICATE: &str = "webhook certificate";

/// Follows what changes are judged by.
pub(crate) async fn source(flags: &ControllerFlags, namespace: &str) -> Result<(Source, Option<Client>)> {
    let flags = &flags.common;
    let instance = if flags.pod_name.is_empty() { "controller" } else { flags.pod_name.as_str() };
    let (component, status) = ("metallb-controller", PoolStatus::Ignored);
    process::source(flags, component, instance, Some(namespace), &KINDS, Vec::new(), status, None, StatusFiles::Owned)
        .await
}

/// Webhooks that are served, as soon as there is a certificate.
pub(crate) struct Webhooks {
    shown: Arc<OnceLock<Arc<Certificates>>>,
    connections: Connections,
}

impl Webhooks {
    /// When the certificate ends that is shown.
    pub(crate) fn certificate_end(&self) -> Option<SystemTime> {
        self.shown.get().and_then(|certificates| certificates.end())
    }

    /// Goes on answering until nobody has reason to ask this process, and until all answers are out.
    pub(crate) async fn drain(&self) {
        if self.shown.get().is_some() {
            sleep(DRAIN_TIME).await;
            let _late = timeout(LAST_ANSWERS_TIME, self.connections.ended()).await;
        }
    }
}

/// Serves the webhooks. Fails when the port or the flags cannot be used; everything else is waited for.
pub(crate) async fn start(
    flags: &ControllerFlags,
    namespace: &str,
    source: Source,
    health: &Health,
) -> Result<Webhooks> {
    for check in [READY_OBJECTS, READY_CERTIFICATE] {
        health.unready(check, "not done yet");
    }
    let policy = flags.common.tls.policy()?;
    let server = process::bind(Reach::Everywhere, PORT).await.with_context(|| {
        format!("cannot serve the webhooks on port {PORT}; --webhook-mode=disabled does without them")
    })?;
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    tokio::spawn(judge(source, asked, namespace.to_owned(), health.clone()));
    let (shown, certificates) = oneshot::channel();
    let WebhookFlags { cert_service_name, webhook_secret, cert_dir, disable_cert_rotation, .. } = &flags.webhook;
    if *disable_cert_rotation {
        tokio::spawn(certificate::directory(cert_dir.clone(), shown, health.clone()));
    } else {
        let client = source::kube::connect(flags.common.kubeconfig.as_deref(), "metallb-controller").await?;
        let names = WebhookNames {
            namespace: namespace.to_owned(),
            service: cert_service_name.clone(),
            secret: webhook_secret.clone(),
        };
        tokio::spawn(Keeper::new(Registrations::new(client, names), shown, health.clone()).run());
    }
    let webhooks = Webhooks { shown: Arc::default(), connections: server.connections() };
    let endpoint = Endpoint { questions, places: Semaphore::new(QUESTIONS_MAX) };
    tokio::spawn(serve(server, policy, certificates, webhooks.shown.clone(), endpoint, health.clone()));
    Ok(webhooks)
}

/// Answers as soon as there is a certificate to show.
async fn serve(
    server: Server,
    policy: TlsPolicy,
    certificates: oneshot::Receiver<Arc<Certificates>>,
    shown: Arc<OnceLock<Arc<Certificates>>>,
    endpoint: Endpoint,
    health: Health,
) {
    let Ok(certificates) = certificates.await else { return };
    match server.with_tls(&policy, shown.get_or_init(|| certificates).clone()) {
        Ok(server) => {
            tracing::info!(op = "startup", port = PORT, tls = %policy, "serving webhooks");
            health.ready(READY_CERTIFICATE);
            server.run(router(endpoint)).await;
        }
        // The flags were read at the start.
        Err(error) => health.failed(format!("cannot serve the webhooks: {error}")),
    }
}

/// A question, and where its answer goes: none before all objects are known.
type Envelope = (Question, oneshot::Sender<Option<Answer>>);

/// Takes in objects and answers questions, for ever.
async fn judge(mut source: Source, mut asked: mpsc::Receiver<Envelope>, namespace: String, health: Health) {
    let clock = Clock::start();
    let mut reviewer = Reviewer::new(namespace);
    let mut is_synced = false;
    let mut changes = Vec::with_capacity(CHANGES_PER_TURN);
    loop {
        tokio::select! {
            // A question is judged by all that is known.
            biased;
            count = source.changes.recv_many(&mut changes, CHANGES_PER_TURN) => {
                if count == 0 {
                    return;
                }
                for change in changes.drain(..) {
                    if change == Change::Synced {
                        is_synced = true;
                        health.ready(READY_OBJECTS);
                    }
                    learn(&mut reviewer, change);
                }
            }
            Some((question, reply)) = asked.recv() => {
                // Who asked may have gone.
                let _sent = reply.send(is_synced.then(|| reviewer.answer(clock.now(), &question)));
            }
            Ok(()) = source.connection.changed(), if !is_synced => {
                health.unready(READY_OBJECTS, source.connection.borrow_and_update().to_string());
            }
        }
    }
}

/// Takes in a change of what questions are judged by.
fn learn(reviewer: &mut Reviewer, change: Change) {
    match change {
        Change::Applied(object) => reviewer.applied(object),
        Change::Deleted(reference) => reviewer.deleted(&reference),
        Change::Together(changes) => changes.into_iter().for_each(|change| learn(reviewer, change)),
        Change::Synced | Change::Recalled | Change::ReportsSynced | Change::Leading(_) | Change::Following => {}
    }
}

/// What the handlers share.
struct Endpoint {
    questions: mpsc::Sender<Envelope>,
    places: Semaphore,
}

/// Why there is no answer.
type Refused = (StatusCode, String);

fn router(endpoint: Endpoint) -> Router {
    let mut router = Router::new().route(CONVERSION_PATH, post(convert));
    for (_, path) in VALIDATION_PATHS {
        router = router.route(path, post(review));
    }
    router.with_state(Arc::new(endpoint))
}

async fn review(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Result<Response, Refused> {
    let body = endpoint.body(request).await?;
    let question = Question::read(&body).map_err(|error| (StatusCode::BAD_REQUEST, error.to_string()))?;
    drop(body);
    let mut answer = endpoint.ask(question.clone()).await?;
    if answer.refusal().is_some() {
        sleep(SECOND_LOOK).await;
        answer = endpoint.ask(question).await?;
    }
    if let Some(reason) = answer.refusal() {
        tracing::info!(event = "changeRefused", limited = true, reason, "refused a change of an object");
    }
    Ok(json(answer.to_json()))
}

async fn convert(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Result<Response, Refused> {
    let body = endpoint.body(request).await?;
    // Thousands of peers take their time.
    let converted = tokio::task::spawn_blocking(move || webhook::convert(&body)).await;
    match converted {
        Ok(Ok(answer)) => Ok(json(answer)),
        Ok(Err(error)) => Err((StatusCode::BAD_REQUEST, error.to_string())),
        Err(_panicked) => Err((StatusCode::INTERNAL_SERVER_ERROR, "cannot convert this".to_owned())),
    }
}

fn json(text: String) -> Response {
    ([(header::CONTENT_TYPE, "application/json")], Body::from(text)).into_response()
}

impl Endpoint {
    /// Reads a question, as large as it may be and as fast as it must.
    async fn body(&self, request: Request) -> Result<Bytes, Refused> {
        let late = |_elapsed| (StatusCode::REQUEST_TIMEOUT, "the request took too long to arrive".to_owned());
        // The semaphore is never closed; if it were, the limit would be gone, and nothing else.
        let _place = self.places.acquire().await;
        let read = axum::body::to_bytes(request.into_body(), BODY_BYTES_MAX);
        let too_large = |_| (StatusCode::PAYLOAD_TOO_LARGE, format!("a request has {BODY_BYTES_MAX} bytes at most"));
        timeout(BODY_TIME_MAX, read).await.map_err(late)?.map_err(too_large)
    }

    async fn ask(&self, question: Question) -> Result<Answer, Refused> {
        let (reply, answer) = oneshot::channel();
        // Neither end goes before the process does.
        let asked = self.questions.send((question, reply)).await;
        let answer = match asked {
            Ok(()) => answer.await.ok().flatten(),
            Err(_) => None,
        };
        answer.ok_or_else(|| (StatusCode::SERVICE_UNAVAILABLE, "not all objects are known yet".to_owned()))
    }
}

#[cfg(test)]
mod tests;
