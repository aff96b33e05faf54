//! The speaker's socket: whoever may open it asks by HTTP, and is told line by line.
//!
//! It is for `metallb status` and `metallb capture` in the same pod, and for `curl --unix-socket`. The loop of the speaker is asked by one reader
//! at a time, and writes no faster than that one reads; who does not read is let go by the server.

use std::convert::Infallible;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Query as Parameters, State};
use axum::http::StatusCode;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use serde::Deserialize;
use serve::Server;
use tokio::sync::mpsc;
use tokio::time::timeout;

use super::model::Line;
use crate::capture::{self, server::Requests};

/// Where sessions are asked for. The number changes when something is taken away or means something else.
pub(crate) const BGP_PATH: &str = "/v1/bgp";
/// Portions that may wait for the reader. Each has 256 routes at most, or 32 sessions.
const PIECES_WAITING_MAX: usize = 2;
/// How long a reader waits for its turn.
const TURN_TIME_MAX: Duration = Duration::from_secs(8);

/// Some lines of an answer.
#[derive(Debug)]
pub(crate) struct Piece(String);

impl Piece {
    pub(crate) fn of(lines: &[Line]) -> Piece {
        let mut text = String::new();
        for line in lines {
            // There are no maps with other keys than texts in it, which is all that could fail.
            text.push_str(&serde_json::to_string(line).unwrap_or_default());
            text.push('\n');
        }
        Piece(text)
    }

    /// The lines.
    pub(crate) fn into_text(self) -> String {
        self.0
    }
}

/// What somebody asks.
#[derive(Debug)]
pub(crate) struct Query {
    /// Only this BGPPeer, and with its routes.
    pub(crate) peer: Option<String>,
    /// Where the answer goes.
    pub(crate) pieces: mpsc::Sender<Piece>,
}

/// The loop's end: who asks.
pub(crate) struct Queries(mpsc::Receiver<Query>);

impl Queries {
    /// The next one. Safe to cancel.
    pub(crate) async fn next(&mut self) -> Query {
        match self.0.recv().await {
            Some(query) => query,
            // Nobody can ask.
            None => std::future::pending().await,
        }
    }
}

/// Serves the socket at this path; nowhere for an empty one. That it cannot be made is no reason not to announce: then it
/// is logged, and nobody can ask.
pub(crate) fn serve(path: &Path) -> (Queries, Requests) {
    let (sender, queries) = mpsc::channel(1);
    let (captures, requests) = capture::server::router();
    let asked = (Queries(queries), requests);
    if path.as_os_str().is_empty() {
        return asked;
    }
    match make(path) {
        Ok(server) => {
            tokio::spawn(server.run(router(sender).merge(captures)));
            tracing::info!(op = "startup", socket = %path.display(), "serving the status of BGP");
        }
        Err(error) => tracing::warn!(
            op = "startup",
            socket = %path.display(),
            error = %error,
            hint = "mount a directory that can be written, or choose another path by --status-socket",
            "cannot serve the status of BGP"
        ),
    }
    asked
}

fn make(path: &Path) -> std::io::Result<Server> {
    use std::os::unix::fs::DirBuilderExt as _;
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        std::fs::DirBuilder::new().mode(0o700).create(folder)?;
    }
    Server::bind_file(path)
}

fn router(queries: mpsc::Sender<Query>) -> Router {
    Router::new().route(BGP_PATH, get(bgp)).with_state(Arc::new(queries))
}

#[derive(Deserialize)]
struct Asked {
    peer: Option<String>,
}

async fn bgp(State(queries): State<Arc<mpsc::Sender<Query>>>, Parameters(asked): Parameters<Asked>) -> Response {
    let (pieces, answer) = mpsc::channel(PIECES_WAITING_MAX);
    let query = Query { peer: asked.peer, pieces };
    if !matches!(timeout(TURN_TIME_MAX, queries.send(query)).await, Ok(Ok(()))) {
        return (StatusCode::SERVICE_UNAVAILABLE, "the speaker is busy; try again\n").into_response();
    }
    let next = async |mut answer: mpsc::Receiver<Piece>| {
        let piece = answer.recv().await?;
        Some((Ok::<_, Infallible>(piece.into_text()), answer))
    };
    ([(CONTENT_TYPE, "application/x-ndjson")], Body::from_stream(stream::unfold(answer, next))).into_response()
}
