//! Where captures are asked for: the speaker's socket answers with a file that grows, until it has what was wanted.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Query as Parameters, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use serde::Deserialize;
use serve::TimeLimit;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant, sleep_until, timeout};

/// Where captures are asked for. The number changes when something is taken away or means something else.
pub(crate) const CAPTURE_PATH: &str = "/v1/bgp/capture";
/// How long a capture may last.
pub(crate) const SECONDS_MAX: u64 = 3600;
/// Portions that may wait for the reader. Each is what one read or one write of a connection has, 16 KiB as a rule; nothing
/// but KEEPALIVEs would make 80 KiB of that, with their headers.
pub(crate) const PIECES_WAITING_MAX: usize = 64;
/// How long who asks waits for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(8);
/// How long a reader may take for the rest when the time of its capture is over.
const REST_TIME_MAX: Duration = Duration::from_secs(10);

/// What somebody wants captured.
#[derive(Debug)]
pub(crate) struct Request {
    /// Only this BGPPeer.
    pub(crate) peer: Option<String>,
    /// So many messages.
    pub(crate) count: u64,
    /// Where the file goes.
    pub(crate) pieces: mpsc::Sender<Vec<u8>>,
    /// What is to be said at the end.
    pub(crate) counts: Arc<Counts>,
    /// Where it is said whether the capture begins.
    pub(crate) begun: oneshot::Sender<Result<(), Refusal>>,
}

/// What was counted so far.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    /// All packets,
    pub(crate) packets: AtomicU64,
    /// and those for which there was no room.
    pub(crate) lost: AtomicU64,
}

/// Why there is no capture.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// As many as there may be.
    #[error("as many captures as there may be; end another one first")]
    TooMany,
    /// There is no such BGPPeer.
    #[error("node {node} has no BGPPeer {peer:?}\nhint: {}", crate::status::hint(.peer, .names))]
    UnknownPeer {
        /// The one that was wanted.
        peer: String,
        /// Where.
        node: String,
        /// Those that there are.
        names: Vec<String>,
    },
}

impl Refusal {
    fn status(&self) -> StatusCode {
        match self {
            Refusal::TooMany => StatusCode::SERVICE_UNAVAILABLE,
            Refusal::UnknownPeer { .. } => StatusCode::NOT_FOUND,
        }
    }
}

/// The loop's end: who asks.
pub(crate) struct Requests(mpsc::Receiver<Request>);

impl Requests {
    /// The next one. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Request {
        match self.0.recv().await {
            Some(request) => request,
            // Nobody can ask.
            None => std::future::pending().await,
        }
    }
}

/// The path on the speaker's socket, and who asks there.
pub(crate) fn router() -> (Router, Requests) {
    let (sender, requests) = mpsc::channel(1);
    (Router::new().route(CAPTURE_PATH, get(capture)).with_state(sender), Requests(requests))
}

#[derive(Deserialize)]
struct Asked {
    peer: Option<String>,
    seconds: Option<u64>,
    count: Option<u64>,
}

async fn capture(
    State(requests): State<mpsc::Sender<Request>>,
    Extension(limit): Extension<TimeLimit>,
    Parameters(asked): Parameters<Asked>,
) -> Response {
    let time = Duration::from_secs(asked.seconds.unwrap_or(SECONDS_MAX).clamp(1, SECONDS_MAX));
    let (pieces, file) = mpsc::channel(PIECES_WAITING_MAX);
    let (begun, answer) = oneshot::channel();
    let counts = Arc::new(Counts::default());
    let count = asked.count.unwrap_or(u64::MAX).max(1);
    let request = Request { peer: asked.peer, count, pieces, counts: Arc::clone(&counts), begun };
    let asking = async {
        requests.send(request).await.ok()?;
        answer.await.ok()
    };
    match timeout(TURN_TIME_MAX, asking).await {
        Ok(Some(Ok(()))) => {}
        Ok(Some(Err(refusal))) => return (refusal.status(), format!("{refusal}\n")).into_response(),
        Ok(None) | Err(_) => {
            return (StatusCode::SERVICE_UNAVAILABLE, "the speaker is busy; try again\n").into_response();
        }
    }
    let until = Instant::now().checked_add(time).unwrap_or_else(Instant::now);
    limit.set(time.saturating_add(TURN_TIME_MAX).saturating_add(REST_TIME_MAX));
    let file = File { pieces: file, counts, until, stage: Stage::Growing };
    ([(CONTENT_TYPE, "application/octet-stream")], Body::from_stream(stream::unfold(file, File::next))).into_response()
}

/// A file in the making.
struct File {
    pieces: mpsc::Receiver<Vec<u8>>,
    counts: Arc<Counts>,
    until: Instant,
    stage: Stage,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Stage {
    Growing,
    /// The time is over; what waits is still written.
    Closing,
    Over,
}

impl File {
    /// The next piece; the last says how many packets there were.
    async fn next(mut self) -> Option<(Result<Vec<u8>, Infallible>, File)> {
        loop {
            if self.stage == Stage::Over {
                return None;
            }
            tokio::select! {
                piece = self.pieces.recv() => {
                    let piece = piece.unwrap_or_else(|| {
                        self.stage = Stage::Over;
                        self.tail()
                    });
                    return Some((Ok(piece), self));
                }
                () = sleep_until(self.until), if self.stage == Stage::Growing => {
                    self.pieces.close();
                    self.stage = Stage::Closing;
                }
            }
        }
    }

    fn tail(&self) -> Vec<u8> {
        let micros = u64::try_from(jiff::Timestamp::now().as_microsecond()).unwrap_or_default();
        let count = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        bgp::capture::tail(micros, count(&self.counts.packets), count(&self.counts.lost))
    }
}
