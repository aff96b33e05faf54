//! What controller and speaker have in common as processes: where objects come from, how they end, what they say when
//! they cannot go on.

use std::io::{self, ErrorKind};
use std::net::{Ipv4Addr, Ipv6Addr};
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use api::Kind;
use serve::Server;
use source::kube::Client;
use source::manifests::StatusFiles;
use source::{Connection, Identity, LeaseOptions, PoolStatus, Source};
use telemetry::health::Health;
use telemetry::logs::{Format, Logs, Output};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::arguments::CommonFlags;

/// Where a pod finds the namespace it runs in.
const NAMESPACE_FILE: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// How long the last writes may take when the program ends.
pub(crate) const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Turns a result into a status, and says on standard error what went wrong: one line, and a hint where there is one.
pub(crate) fn exit_status(result: Result<()>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say_error(&error);
            ExitCode::FAILURE
        }
    }
}

#[expect(clippy::print_stderr, reason = "the last words of the program, when logging may not have begun")]
fn say_error(error: &anyhow::Error) {
    eprintln!("error: {error:#}");
}

/// Starts to log, as both components do: JSON lines on standard output. Keep the value until the end.
pub(crate) fn start_logs(flags: &CommonFlags) -> Result<Logs> {
    Ok(telemetry::logs::init(flags.log_level, Format::Json, Output::Stdout)?)
}

/// Says which flags were given that have no effect yet.
pub(crate) fn warn_of_unused(flags: &[&str]) {
    if !flags.is_empty() {
        tracing::warn!(op = "startup", flags = flags.join(" "), "these flags have no effect in this version");
    }
}

/// The checks behind `/readyz`.
pub(crate) const READY_OBJECTS: &str = "objects";

/// Who can reach a port of the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reach {
    /// Everybody who can reach the pod.
    Everywhere,
    /// This host alone: a speaker shares the network with its node.
    Loopback,
}

/// Takes a port.
pub(crate) async fn bind(reach: Reach, port: u16) -> io::Result<Server> {
    match reach {
        Reach::Loopback => Server::bind((Ipv4Addr::LOCALHOST, port).into()).await,
        Reach::Everywhere => match Server::bind((Ipv6Addr::UNSPECIFIED, port).into()).await {
            // A host without IPv6 still has the other half of "everywhere".
            Err(error) if error.kind() != ErrorKind::AddrInUse => {
                Server::bind((Ipv4Addr::UNSPECIFIED, port).into()).await
            }
            served => served,
        },
    }
}

/// Serves the probes of the kubelet. Fails when the port cannot be used.
pub(crate) async fn serve_health(reach: Reach, port: u16) -> Result<Health> {
    let health = Health::new(&[READY_OBJECTS]);
    let server = bind(reach, port)
        .await
        .with_context(|| format!("cannot serve the health probes on port {port} (--health-probe-port)"))?;
    tokio::spawn(server.run(telemetry::health::router(health.clone())));
    Ok(health)
}

/// Tells the probes how the source is: what it still waits for at the start.
pub(crate) fn report_source(health: &Health, connection: &Connection) {
    if connection.missing.is_empty() {
        health.ready(READY_OBJECTS);
    } else {
        health.unready(READY_OBJECTS, connection.to_string());
    }
}

/// The namespace of MetalLB: as the flag says, else as the pod's service account says (contract 7.1).
///
/// A directory of manifests has no such namespace unless the flag gives one: there, objects of any namespace count.
pub(crate) fn namespace(flags: &CommonFlags) -> Result<Option<String>> {
    if !flags.namespace.is_empty() {
        return Ok(Some(flags.namespace.clone()));
    }
    if flags.manifests.is_some() {
        return Ok(None);
    }
    match std::fs::read_to_string(NAMESPACE_FILE) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(_) => Err(anyhow!(
            "the namespace of MetalLB is not known: not in a pod, so give --namespace or METALLB_NAMESPACE"
        )),
    }
}

/// Starts the source that the flags ask for, and gives the way to the Kubernetes API, if it is that.
#[expect(clippy::too_many_arguments, reason = "what a component is, once; a struct would only repeat the names")]
pub(crate) async fn source(
    flags: &CommonFlags,
    component: &'static str,
    instance: &str,
    namespace: Option<&str>,
    kinds: &[Kind],
    reports: Vec<source::Reports>,
    pool_status: PoolStatus,
    lease: Option<LeaseOptions>,
    status_files: StatusFiles,
) -> Result<(Source, Option<Client>)> {
    let options = source::Options {
        kinds: kinds.to_vec(),
        reports,
        namespace: namespace.unwrap_or_default().to_owned(),
        identity: Identity {
            component,
            instance: instance.to_owned(),
            pod: (!flags.pod_name.is_empty()).then(|| flags.pod_name.clone()),
        },
        pool_status,
        lease,
    };
    if let Some(directory) = &flags.manifests {
        return Ok((source::manifests::start(directory.clone(), options, status_files), None));
    }
    let client = source::kube::connect(flags.kubeconfig.as_deref(), component)
        .await
        .context("cannot connect to the Kubernetes API")?;
    Ok((source::kube::start(client.clone(), options), Some(client)))
}

/// The signals that end the program in order.
pub(crate) struct Shutdown {
    terminate: Signal,
    interrupt: Signal,
    quit: Signal,
}

impl Shutdown {
    /// Begins to listen; from now on none of the signals ends the program by itself.
    pub(crate) fn listen() -> Result<Self> {
        let on = |kind| signal(kind).context("cannot listen for signals");
        Ok(Shutdown {
            terminate: on(SignalKind::terminate())?,
            interrupt: on(SignalKind::interrupt())?,
            quit: on(SignalKind::quit())?,
        })
    }

    /// Waits for one of them and returns its name. Safe to cancel.
    pub(crate) async fn wait(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.quit.recv() => "SIGQUIT",
        }
    }
}
