//! Health: is the process alive, and is it ready, with the reason if not (contract 7.1, 7.4).
//!
//! `/healthz` is for liveness: it fails when a restart would help. `/readyz` is for readiness: it fails as long as
//! something is missing that the process needs for its work (R12), and its body says what.
//!
//! Both are values that the program sets. Losing the API server makes nobody unready: what is announced stays.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;
use axum::serve::Listener;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::Sleep;

/// Connections at one time. Probes need one or two.
const CONNECTIONS_MAX: usize = 64;
/// How long a connection may last. A probe takes milliseconds.
const CONNECTION_TIME_MAX: Duration = Duration::from_secs(10);

/// Something that is missing for the process to be ready.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unready {
    /// The name of the check.
    pub check: &'static str,
    /// What is missing, in words.
    pub reason: String,
}

impl fmt::Display for Unready {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.check, self.reason)
    }
}

/// The health of the process; clones are the same.
#[derive(Clone, Debug)]
pub struct Health(Arc<Mutex<Checks>>);

#[derive(Debug, Default)]
struct Checks {
    /// What is missing, by the name of the check.
    missing: BTreeMap<&'static str, String>,
    failure: Option<String>,
}

impl Health {
    /// A process that is alive, and not ready before each of these checks was reported as such.
    pub fn new(checks: &[&'static str]) -> Health {
        let missing = checks.iter().map(|check| (*check, "not done yet".to_owned())).collect();
        Health(Arc::new(Mutex::new(Checks { missing, failure: None })))
    }

    /// This check is fine.
    pub fn ready(&self, check: &'static str) {
        self.checks().missing.remove(check);
    }

    /// This check is not fine, for this reason.
    pub fn unready(&self, check: &'static str, reason: impl Into<String>) {
        self.checks().missing.insert(check, reason.into());
    }

    /// The process cannot go on for this reason: it should be restarted.
    pub fn failed(&self, reason: impl Into<String>) {
        self.checks().failure = Some(reason.into());
    }

    /// What is missing for the process to be ready, by the names of the checks. A process that has failed misses all.
    pub fn missing(&self) -> Vec<Unready> {
        let checks = self.checks();
        let failure = checks.failure.iter().map(|reason| Unready { check: "alive", reason: reason.clone() });
        let missing = checks.missing.iter().map(|(check, reason)| Unready { check, reason: reason.clone() });
        failure.chain(missing).collect()
    }

    /// Why the process should be restarted, if it should.
    pub fn failure(&self) -> Option<String> {
        self.checks().failure.clone()
    }

    fn checks(&self) -> MutexGuard<'_, Checks> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A port on which health is about to be served.
#[derive(Debug)]
pub struct Server(BoundedListener);

/// Takes the port for [`Server::run`]. An error means that the address cannot be used.
pub async fn bind(address: SocketAddr) -> io::Result<Server> {
    let listener = TcpListener::bind(address).await?;
    Ok(Server(BoundedListener { listener, connections: Arc::new(Semaphore::new(CONNECTIONS_MAX)) }))
}

impl Server {
    /// Serves `/healthz` and `/readyz`, for ever.
    pub async fn run(self, health: Health) {
        // Accepting never fails for good: the listener waits and tries again.
        let _never = axum::serve(self.0, router(health)).await;
    }
}

/// The two paths.
pub fn router(health: Health) -> Router {
    Router::new().route("/healthz", get(healthz)).route("/readyz", get(readyz)).with_state(health)
}

async fn healthz(State(health): State<Health>) -> (StatusCode, String) {
    match health.failure() {
        None => (StatusCode::OK, "ok\n".to_owned()),
        Some(reason) => (StatusCode::INTERNAL_SERVER_ERROR, format!("{reason}\n")),
    }
}

async fn readyz(State(health): State<Health>) -> (StatusCode, String) {
    let missing = health.missing();
    if missing.is_empty() {
        return (StatusCode::OK, "ok\n".to_owned());
    }
    (StatusCode::SERVICE_UNAVAILABLE, missing.iter().map(|missing| format!("{missing}\n")).collect())
}

/// Takes a limited number of connections, each for a limited time: the controller's port is open to the cluster, and
/// who holds connections open must not make the probes fail.
#[derive(Debug)]
struct BoundedListener {
    listener: TcpListener,
    connections: Arc<Semaphore>,
}

impl Listener for BoundedListener {
    type Io = BoundedStream;
    type Addr = SocketAddr;

    async fn accept(&mut self) -> (Self::Io, Self::Addr) {
        // The semaphore is never closed; if it were, the limit would be gone, and nothing else.
        let permit = self.connections.clone().acquire_owned().await.ok();
        let (stream, address) = Listener::accept(&mut self.listener).await;
        let end = Box::pin(tokio::time::sleep(CONNECTION_TIME_MAX));
        (BoundedStream { stream, end, _permit: permit }, address)
    }

    fn local_addr(&self) -> io::Result<Self::Addr> {
        self.listener.local_addr()
    }
}

/// A connection that ends after its time.
struct BoundedStream {
    stream: TcpStream,
    end: Pin<Box<Sleep>>,
    _permit: Option<OwnedSemaphorePermit>,
}

impl BoundedStream {
    fn check_time(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        match self.end.as_mut().poll(cx) {
            Poll::Ready(()) => Err(io::ErrorKind::TimedOut.into()),
            Poll::Pending => Ok(()),
        }
    }
}

impl AsyncRead for BoundedStream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buffer: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        self.check_time(cx)?;
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

impl AsyncWrite for BoundedStream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        self.check_time(cx)?;
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    #[test]
    fn ready_when_every_check_is() {
        let health = Health::new(&["objects", "config"]);
        let texts = |health: &Health| health.missing().iter().map(ToString::to_string).collect::<Vec<_>>();
        assert_eq!(texts(&health), ["config: not done yet", "objects: not done yet"]);
        health.ready("config");
        health.clone().unready("objects", "waiting for Service, Node");
        assert_eq!(texts(&health), ["objects: waiting for Service, Node"]);
        health.ready("objects");
        assert_eq!(texts(&health), [""; 0]);
        health.unready("config", "pool \"a\" overlaps \"b\"");
        assert_eq!(texts(&health), ["config: pool \"a\" overlaps \"b\""]);
        health.failed("a task ended");
        assert_eq!(texts(&health)[0], "alive: a task ended");
    }

    async fn server(health: &Health) -> SocketAddr {
        let server = bind("127.0.0.1:0".parse().unwrap()).await.unwrap();
        let address = server.0.listener.local_addr().unwrap();
        tokio::spawn(server.run(health.clone()));
        address
    }

    /// The status and the body of an answer.
    async fn get(address: SocketAddr, path: &str) -> String {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").as_bytes())
            .await
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        format!("{} {}", head.split(' ').nth(1).unwrap(), body.trim_end().replace('\n', ", "))
    }

    #[tokio::test]
    async fn the_endpoints_say_what_is_wrong() {
        let health = Health::new(&["objects", "config"]);
        let address = server(&health).await;
        assert_eq!(get(address, "/healthz").await, "200 ok");
        assert_eq!(get(address, "/readyz").await, "503 config: not done yet, objects: not done yet");
        health.ready("config");
        health.ready("objects");
        assert_eq!(get(address, "/readyz").await, "200 ok");
        health.failed("a task ended");
        assert_eq!(get(address, "/healthz").await, "500 a task ended");
        assert_eq!(get(address, "/readyz").await, "503 alive: a task ended");
        assert_eq!(get(address, "/metrics").await, "404 ");
    }

    #[tokio::test]
    async fn connections_that_say_nothing_do_not_make_probes_fail_for_long() {
        let health = Health::new(&[]);
        let address = server(&health).await;
        let mut idle = Vec::new();
        for _ in 0..CONNECTIONS_MAX {
            idle.push(TcpStream::connect(address).await.unwrap());
        }
        // All places are taken: this one waits for its turn.
        let mut probe = tokio::spawn(get(address, "/healthz"));
        assert!(tokio::time::timeout(Duration::from_millis(50), &mut probe).await.is_err());
        tokio::time::pause();
        tokio::time::advance(CONNECTION_TIME_MAX).await;
        tokio::time::resume();
        assert_eq!(probe.await.unwrap(), "200 ok");
    }

    #[tokio::test]
    async fn an_address_in_use_is_an_error() {
        let taken = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let result = bind(taken.local_addr().unwrap()).await;
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::AddrInUse);
    }
}
