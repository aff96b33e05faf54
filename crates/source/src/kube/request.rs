//! One request to the API server, with a limit in time and size, and its failure in words.

use std::error::Error;
use std::fmt;
use std::time::Duration;

use ::kube::client::{Body, Client};
use http_body_util::BodyExt;

use super::message::Status;

/// How long the server may take until it begins to answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(30);
/// How long the whole of an answer may take, except that of a watch.
const BODY_TIMEOUT: Duration = Duration::from_mins(1);
/// How large an answer may be, except that of a watch. A page of a list stays far below.
const BODY_BYTES_MAX: usize = 256 * 1024 * 1024;
/// How much is read of an error.
const ERROR_BYTES_MAX: usize = 64 * 1024;
/// The longest pause that a server may ask for.
const RETRY_AFTER_MAX: Duration = Duration::from_mins(5);

/// Why a request did not do what it should.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Failure {
    /// No answer, or not all of it.
    Unreachable(String),
    /// The server said no.
    Refused { code: u16, message: String, retry_after: Option<Duration> },
    /// The answer makes no sense.
    Unreadable(String),
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Failure::Unreachable(why) => f.write_str(why),
            Failure::Refused { code, message, .. } => write!(f, "the API server said {code}: {message}"),
            Failure::Unreadable(why) => write!(f, "cannot understand the API server: {why}"),
        }
    }
}

impl From<Status> for Failure {
    fn from(status: Status) -> Self {
        let retry_after = match status.details.retry_after_seconds {
            0 => None,
            seconds => Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX)),
        };
        Failure::Refused { code: status.code, message: status.message, retry_after }
    }
}

/// The API server.
#[derive(Clone)]
pub(super) struct Server(Client);

/// A request as kube builds it.
pub(super) type Built = Result<http::Request<Vec<u8>>, ::kube::core::request::Error>;

impl Server {
    pub(super) fn new(client: Client) -> Server {
        Server(client)
    }

    /// Sends the request and waits for the head of a good answer.
    pub(super) async fn open(&self, request: Built) -> Result<Body, Failure> {
        let request = request.map_err(|error| Failure::Unreadable(words(&error)))?;
        let sent = tokio::time::timeout(ANSWER_TIMEOUT, self.0.send(request.map(Body::from))).await;
        let response = match sent {
            Err(_elapsed) => return Err(Failure::Unreachable(format!("no answer for {} s", ANSWER_TIMEOUT.as_secs()))),
            Ok(Err(error)) => return Err(Failure::Unreachable(words(&error))),
            Ok(Ok(response)) => response,
        };
        if response.status().is_success() {
            return Ok(response.into_body());
        }
        let code = response.status().as_u16();
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok()?.parse().ok());
        let text = within(BODY_TIMEOUT, read_all(response.into_body(), ERROR_BYTES_MAX)).await.unwrap_or_default();
        let mut status = serde_json::from_slice::<Status>(&text).unwrap_or_default();
        if status.message.is_empty() {
            status.message = String::from_utf8_lossy(&text).trim().chars().take(256).collect();
        }
        status.code = code;
        status.details.retry_after_seconds = header.unwrap_or(status.details.retry_after_seconds);
        Err(status.into())
    }

    /// Sends the request and reads the whole of a good answer.
    pub(super) async fn get(&self, request: Built) -> Result<Vec<u8>, Failure> {
        let body = self.open(request).await?;
        within(BODY_TIMEOUT, read_all(body, BODY_BYTES_MAX)).await
    }
}

async fn within<T>(limit: Duration, work: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    match tokio::time::timeout(limit, work).await {
        Ok(result) => result,
        Err(_elapsed) => Err(Failure::Unreachable(format!("the answer took longer than {} s", limit.as_secs()))),
    }
}

async fn read_all(mut body: Body, bytes_max: usize) -> Result<Vec<u8>, Failure> {
    let mut all = Vec::new();
    while let Some(data) = next_data(&mut body).await? {
        if all.len().saturating_add(data.len()) > bytes_max {
            return Err(Failure::Unreadable(format!("the answer is larger than {bytes_max} bytes")));
        }
        all.extend_from_slice(&data);
    }
    Ok(all)
}

/// The next piece of an answer; none at its end.
pub(super) async fn next_data(
    body: &mut Body,
) -> Result<Option<impl AsRef<[u8]> + std::ops::Deref<Target = [u8]>>, Failure> {
    loop {
        match body.frame().await {
            None => return Ok(None),
            Some(Err(error)) => return Err(Failure::Unreachable(words(&error))),
            Some(Ok(frame)) => {
                if let Ok(data) = frame.into_data() {
                    return Ok(Some(data));
                }
            }
        }
    }
}

/// An error with its causes, each once.
fn words(error: &(dyn Error + 'static)) -> String {
    // Of the outermost one, kube's, the name tells nothing.
    let error = match error.downcast_ref() {
        Some(::kube::Error::Service(inner)) => inner.as_ref(),
        _ => error,
    };
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let more = error.to_string();
        if !text.contains(&more) {
            text.push_str(": ");
            text.push_str(&more);
        }
        cause = error.source();
    }
    text
}
