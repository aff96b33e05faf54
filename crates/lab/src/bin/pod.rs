//! What runs in the containers of a lab's clusters: one static program that is a backend, a client, and the process that
//! holds a pod's namespaces.

use std::fs;
use std::io::Write as _;
use std::net::{Ipv6Addr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use kit::Duration;
use lab::{backend, http};
use sys::process::{Signal, SignalsHeld, child_reap};
use tokio::net::{TcpListener, UdpSocket};
use tokio::task::LocalSet;

const REQUEST_LIMIT: Duration = Duration::from_secs(5);

/// The program in the containers of a lab's clusters.
#[derive(Debug, Parser)]
enum Face {
    /// Holds the namespaces of a pod until it is told to end, and reaps what is left in them.
    Pause,
    /// Answers HTTP and UDP with the name of its pod and the address of whoever asks.
    Backend {
        /// The port, in both families.
        #[arg(long, default_value_t = 8080)]
        port: u16,
    },
    /// Asks a server by HTTP and prints the answer.
    Get {
        /// Its address and port.
        server: SocketAddr,
        /// What to ask for.
        #[arg(default_value = "/")]
        path: String,
    },
}

fn main() -> ExitCode {
    let outcome = match Face::parse() {
        Face::Pause => pause(),
        Face::Backend { port } => run(backend_run(port)),
        Face::Get { server, path } => run(get(server, path)),
    };
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // Without a standard error there is nobody to tell.
            drop(writeln!(std::io::stderr(), "{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(work: impl Future<Output = Result<()>>) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, work)
}

fn pause() -> Result<()> {
    let held = SignalsHeld::hold(&[Signal::Interrupt, Signal::Terminate, Signal::Child])?;
    loop {
        match held.wait()? {
            (Signal::Child, _) => while child_reap().is_some() {},
            _ => return Ok(()),
        }
    }
}

async fn backend_run(port: u16) -> Result<()> {
    let name = fs::read_to_string("/proc/sys/kernel/hostname").context("reading the name of the pod")?;
    let any = SocketAddr::from((Ipv6Addr::UNSPECIFIED, port));
    let (listener, socket) = (TcpListener::bind(any).await?, UdpSocket::bind(any).await?);
    let name = name.trim_end().to_owned();
    tokio::select! {
        ended = backend::serve_tcp(listener, name.clone()) => ended,
        ended = backend::serve_udp(socket, name) => ended,
        // The first process of a container ends by a signal only if it waits for it.
        ended = terminated() => ended,
    }
}

async fn terminated() -> Result<()> {
    let mut signals = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    signals.recv().await.context("no more signals")
}

async fn get(server: SocketAddr, path: String) -> Result<()> {
    let answer = tokio::time::timeout(REQUEST_LIMIT.into(), http::request(server, "GET", &path, None)).await;
    let answer = answer.with_context(|| format!("{server} did not answer within {REQUEST_LIMIT}"))??;
    std::io::stdout().write_all(answer.body.as_bytes())?;
    ensure!(answer.status == 200, "{server} answered {}", answer.status);
    Ok(())
}
