//! The metrics endpoint of both components, and how a scrape gets the numbers of the one loop without making it wait.
//!
//! A scrape sends the loop an envelope, and the loop puts a report in it when it gets round to it; everything else
//! happens elsewhere: who may ask, the encryption, and the text. That is megabytes with thousands of Services, so it is
//! written on a thread of its own, no faster than it is sent. The loop is asked by one scrape at a time.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, Result};
use serve::Certificates;
use source::kube::{Client, PathAccess, ReviewError, Reviews, User};
use source::{Connection, ConnectionState, Counters, Source, Writer};
use telemetry::logs::Logs;
use telemetry::metrics::{
    Access, CertificateReport, Collect, Guard, Late, Metrics, PIECES_WAITING_MAX, ProcessReport, Responses, Reviewer,
    SourceReport, render_into, router,
};
use tokio::sync::{Mutex, mpsc, oneshot, watch};
use tokio::time::timeout;

use crate::arguments::CommonFlags;
use crate::process::{self, Reach};

/// How long a scrape waits for its turn and for the loop's answer. Prometheus gives up after ten seconds by default.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(8);

/// Where a scrape wants its report.
pub(crate) type Envelope<R> = oneshot::Sender<R>;

/// The loop's end: scrapes that want a report.
pub(crate) struct Scrapes<R>(mpsc::Receiver<Envelope<R>>);

impl<R> Scrapes<R> {
    /// The next scrape. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Envelope<R> {
        match self.0.recv().await {
            Some(envelope) => envelope,
            // Nobody serves metrics.
            None => std::future::pending().await,
        }
    }
}

/// Serves `/metrics` as contract 7.3 says, unless the flags say not to.
///
/// Without an API server, that is with a directory of manifests, nobody knows tokens and rights: then only this host can ask.
pub(crate) async fn serve<R: Metrics + Send + 'static>(
    flags: &CommonFlags,
    logs: &Logs,
    source: &Source,
    api: Option<&Client>,
) -> Result<Scrapes<R>> {
    let (envelopes, scrapes) = mpsc::channel(1);
    if flags.port == 0 {
        return Ok(Scrapes(scrapes));
    }
    let policy = flags.tls.policy()?;
    let left_out = policy.left_out();
    if !left_out.is_empty() {
        tracing::warn!(
            op = "startup",
            leftOut = left_out.join(", "),
            hint = "TLS is spoken with the others that the flags name",
            "some cipher suites or curves of the flags are not served"
        );
    }
    let directory = (!flags.metrics_cert_dir.is_empty()).then_some(flags.metrics_cert_dir.as_str());
    let certificates = match directory {
        None => Certificates::self_signed()?,
        Some(directory) => Certificates::directory(directory.as_ref())
            .context("cannot serve the metrics with the certificate of --metrics-cert-dir")?,
    };
    let (reach, access) = match api {
        Some(client) => (Reach::Everywhere, Access::Reviewed(Guard::new(ApiServer(Reviews::new(client.clone()))))),
        None => (Reach::Loopback, Access::Anyone),
    };
    let server = process::bind(reach, flags.port)
        .await
        .with_context(|| format!("cannot serve the metrics on port {} (--port)", flags.port))?
        .with_tls(&policy, certificates.clone())?;
    let responses = Arc::new(Responses::default());
    let surroundings = Surroundings {
        connection: source.connection.clone(),
        counters: source.counters.clone(),
        writer: source.writer.clone(),
        log_lines_dropped: logs.dropped(),
        connections_crowded: server.crowded(),
        responses: responses.clone(),
        certificates: directory.map(|_| certificates.clone()),
    };
    tokio::spawn(certificates.watch());
    let collector = Collector { envelopes: Mutex::new(envelopes), surroundings };
    tokio::spawn(server.run(router(collector, access, responses)));
    tracing::info!(op = "startup", port = flags.port, tls = %policy, reach = ?reach, "serving metrics");
    Ok(Scrapes(scrapes))
}

/// The API server knows users and their rights.
struct ApiServer(Reviews);

impl Reviewer for ApiServer {
    type User = User;
    type Error = ReviewError;

    async fn user(&self, token: &str) -> Result<Option<User>, ReviewError> {
        self.0.user(token).await
    }

    async fn may_read(&self, user: &User) -> Result<bool, ReviewError> {
        self.0.is_allowed(user, PathAccess { verb: "get", path: "/metrics" }).await
    }
}

struct Collector<R> {
    /// Who holds it has its scrape worked on.
    envelopes: Mutex<mpsc::Sender<Envelope<R>>>,
    surroundings: Surroundings,
}

impl<R: Metrics + Send + 'static> Collect for Collector<R> {
    async fn collect(&self) -> Result<mpsc::Receiver<String>, Late> {
        timeout(ANSWER_TIME_MAX, self.answer()).await.unwrap_or(Err(Late))
    }
}

impl<R: Metrics + Send + 'static> Collector<R> {
    async fn answer(&self) -> Result<mpsc::Receiver<String>, Late> {
        let envelopes = self.envelopes.lock().await;
        let (envelope, report) = oneshot::channel();
        envelopes.send(envelope).await.map_err(|_| Late)?;
        let report = report.await.map_err(|_| Late)?;
        drop(envelopes);
        let process = self.surroundings.report();
        let (sender, pieces) = mpsc::channel(PIECES_WAITING_MAX);
        tokio::task::spawn_blocking(move || render_into(&[&report, &process], sender));
        Ok(pieces)
    }
}

/// What can be read without the loop.
struct Surroundings {
    connection: watch::Receiver<Connection>,
    counters: Arc<Counters>,
    writer: Writer,
    log_lines_dropped: Arc<AtomicU64>,
    connections_crowded: Arc<AtomicU64>,
    responses: Arc<Responses>,
    certificates: Option<Arc<Certificates>>,
}

impl Surroundings {
    fn report(&self) -> ProcessReport {
        let certificate = |certificates: &Arc<Certificates>| CertificateReport {
            reads: certificates.reads(),
            read_errors: certificates.read_errors(),
            end: certificates.end().map(seconds_since_1970),
        };
        ProcessReport {
            source: self.source_report(),
            log_lines_dropped: self.log_lines_dropped.load(Ordering::Relaxed),
            connections_crowded: self.connections_crowded.load(Ordering::Relaxed),
            responses: self.responses.clone(),
            certificate: self.certificates.as_ref().map(certificate),
        }
    }

    fn source_report(&self) -> SourceReport {
        let connection = self.connection.borrow();
        let counters = &self.counters;
        SourceReport {
            is_up: connection.state == ConnectionState::Up,
            kinds_missing: count(connection.missing.len()),
            unreadable: counters.unreadable.get(),
            read_failures: counters.read_failures.get(),
            written: counters.written.get(),
            write_retries: counters.write_retries.get(),
            write_refusals: counters.write_refusals.get(),
            statuses_dropped: counters.statuses_dropped.get(),
            events_dropped: counters.events_dropped.get(),
            writes_waiting: count(self.writer.waiting()),
        }
    }
}

/// A time as metrics have it.
pub(crate) fn seconds_since_1970(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A number of things as a count.
pub(crate) fn count(number: usize) -> u64 {
    u64::try_from(number).unwrap_or(u64::MAX)
}
