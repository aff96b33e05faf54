//! A server with limits, with TLS or without, on a port or on a socket in the file system.
//!
//! Each connection serves one request. A scrape or a probe comes every few seconds and costs a handshake more; in
//! return every connection ends by itself, and the time for all of it, a slow reader's too, is one number.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use rustls::ServerConfig;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream, UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_rustls::TlsAcceptor;

use crate::certificate::Certificates;
use crate::policy::TlsPolicy;

/// Connections at one time. Probes and scrapers need a handful; the rest wait in the kernel.
pub const CONNECTIONS_MAX: u16 = 64;
/// How long a connection may last, from its first byte to the last of the answer, unless [`TimeLimit`] says otherwise.
pub const CONNECTION_TIME_MAX: Duration = Duration::from_secs(30);
/// How long the TLS handshake may take, and after it the head of the request.
pub const HEAD_TIME_MAX: Duration = Duration::from_secs(5);
/// How large the head of a request may be. Tokens are in it, of which some have more than 8 KiB.
pub const HEAD_BYTES_MAX: usize = 32 * 1024;
/// How often to look whether connections have ended.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);
/// How long to wait when accepting fails: with no descriptors left, trying at once would only burn time.
const ACCEPT_RETRY: Duration = Duration::from_millis(100);

/// A port, or a socket in the file system, on which something is about to be served.
pub struct Server {
    listener: Listener,
    tls: Option<TlsAcceptor>,
    places: Arc<Semaphore>,
    crowded: Arc<AtomicU64>,
}

/// The connections of a server.
#[derive(Clone, Debug)]
pub struct Connections(Arc<Semaphore>);

impl Connections {
    /// Waits until none is served. New ones still find a place meanwhile.
    pub async fn ended(&self) {
        while self.0.available_permits() < usize::from(CONNECTIONS_MAX) {
            tokio::time::sleep(LOOK_INTERVAL).await;
        }
    }
}

enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener),
}

enum Stream {
    Tcp(TcpStream),
    Unix(UnixStream),
}

impl Listener {
    async fn accept(&self) -> io::Result<Stream> {
        match self {
            Listener::Tcp(listener) => listener.accept().await.map(|(stream, _)| Stream::Tcp(stream)),
            Listener::Unix(listener) => listener.accept().await.map(|(stream, _)| Stream::Unix(stream)),
        }
    }
}

impl Server {
    /// Takes the port. An error means that the address cannot be used.
    pub async fn bind(address: SocketAddr) -> io::Result<Server> {
        TcpListener::bind(address).await.map(Listener::Tcp).map(Server::new)
    }

    /// Makes a socket in the file system, for nobody but our own user. One that a process before this one has left is
    /// replaced; one that is in use is not, nor is any other file.
    pub fn bind_file(path: &Path) -> io::Result<Server> {
        match std::fs::symlink_metadata(path) {
            Ok(found) if !found.file_type().is_socket() => return Err(io::ErrorKind::AlreadyExists.into()),
            Ok(_) if std::os::unix::net::UnixStream::connect(path).is_ok() => {
                return Err(io::ErrorKind::AddrInUse.into());
            }
            Ok(_) => std::fs::remove_file(path)?,
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            Err(error) => return Err(error),
        }
        let listener = UnixListener::bind(path)?;
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))?;
        Ok(Server::new(Listener::Unix(listener)))
    }

    fn new(listener: Listener) -> Server {
        let places = Arc::new(Semaphore::new(CONNECTIONS_MAX.into()));
        Server { listener, tls: None, places, crowded: Arc::default() }
    }

    /// Serves by TLS, and only so.
    pub fn with_tls(self, policy: &TlsPolicy, certificates: Arc<Certificates>) -> Result<Server, rustls::Error> {
        let config: ServerConfig = policy.server_config(certificates)?;
        Ok(Server { tls: Some(TlsAcceptor::from(Arc::new(config))), ..self })
    }

    /// The address with the port that the kernel chose, if it was to choose; an error for a socket in the file system.
    pub fn local_address(&self) -> io::Result<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr(),
            Listener::Unix(_) => Err(io::ErrorKind::AddrNotAvailable.into()),
        }
    }

    /// The connections that it serves.
    pub fn connections(&self) -> Connections {
        Connections(self.places.clone())
    }

    /// How often a connection came while all [`CONNECTIONS_MAX`] places were taken, and had to wait.
    pub fn crowded(&self) -> Arc<AtomicU64> {
        self.crowded.clone()
    }

    /// Serves for ever.
    pub async fn run(self, router: Router) {
        loop {
            let stream = match self.listener.accept().await {
                Ok(stream) => stream,
                Err(error) => {
                    tracing::debug!(%error, "cannot accept a connection");
                    tokio::time::sleep(ACCEPT_RETRY).await;
                    continue;
                }
            };
            let place = self.place().await;
            let connection = Connection { tls: self.tls.clone(), router: router.clone(), _place: place };
            match stream {
                Stream::Tcp(stream) => tokio::spawn(connection.run(stream)),
                Stream::Unix(stream) => tokio::spawn(connection.run(stream)),
            };
        }
    }

    /// Waits for a place. The semaphore is never closed; if it were, the limit would be gone, and nothing else.
    async fn place(&self) -> Option<OwnedSemaphorePermit> {
        if let Ok(place) = self.places.clone().try_acquire_owned() {
            return Some(place);
        }
        self.crowded.fetch_add(1, Ordering::Relaxed);
        self.places.clone().acquire_owned().await.ok()
    }
}

/// How long this connection may last: for answers that take their time. It is among the extensions of each request.
#[derive(Clone, Debug)]
pub struct TimeLimit(Arc<watch::Sender<Duration>>);

impl TimeLimit {
    /// So long, from its first byte on.
    pub fn set(&self, limit: Duration) {
        self.0.send_replace(limit);
    }
}

/// Waits until the limit is over, whatever it is by then.
async fn overdue(begin: Instant, mut limit: watch::Receiver<Duration>) {
    loop {
        let at = begin.checked_add(*limit.borrow_and_update()).unwrap_or(begin);
        tokio::select! {
            () = sleep_until(at) => return,
            Ok(()) = limit.changed() => {}
        }
    }
}

struct Connection {
    tls: Option<TlsAcceptor>,
    router: Router,
    _place: Option<OwnedSemaphorePermit>,
}

impl Connection {
    async fn run(self, stream: impl AsyncRead + AsyncWrite + Unpin) {
        let (limit, limits) = watch::channel(CONNECTION_TIME_MAX);
        let limit = TimeLimit(Arc::new(limit));
        let overdue = overdue(Instant::now(), limits);
        let served = async {
            match &self.tls {
                None => self.serve(stream, limit).await,
                Some(tls) => match timeout(HEAD_TIME_MAX, tls.accept(stream)).await {
                    Ok(Ok(stream)) => self.serve(stream, limit).await,
                    // Scanners and clients that want other versions; the client has been told.
                    Ok(Err(error)) => tracing::debug!(%error, "TLS handshake failed"),
                    Err(_elapsed) => tracing::debug!("TLS handshake took too long"),
                },
            }
        };
        tokio::select! {
            // Who is busy with an answer may use up the turn, and a clock that is looked at after that says nothing.
            biased;
            () = overdue => tracing::debug!("a client took too long"),
            () = served => {}
        }
    }

    async fn serve(&self, stream: impl AsyncRead + AsyncWrite + Unpin, limit: TimeLimit) {
        let mut http = http1::Builder::new();
        http.keep_alive(false).timer(TokioTimer::new()).header_read_timeout(HEAD_TIME_MAX);
        http.max_header_size(HEAD_BYTES_MAX).max_buf_size(HEAD_BYTES_MAX);
        let service = TowerToHyperService::new(self.router.clone().layer(Extension(limit)));
        if let Err(error) = http.serve_connection(TokioIo::new(stream), service).await {
            tracing::debug!(%error, "a connection failed");
        }
    }
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let address = self.local_address().ok();
        f.debug_struct("Server").field("address", &address).field("tls", &self.tls.is_some()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
