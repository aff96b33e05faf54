//! The path `/metrics`: asks who it is, has the series collected, and counts what it answers.

use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use axum::Router;
use axum::body::Body;
use axum::extract::State;
use axum::http::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, WWW_AUTHENTICATE};
use axum::http::{HeaderName, HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use futures::stream;
use tokio::sync::mpsc;

use super::access::{Access, Reviewer, Verdict};

/// The text format of Prometheus.
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

/// Whoever was to tell the numbers did not in time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the numbers were not told in time")]
pub struct Late;

/// Collects the series for a scrape.
pub trait Collect: Send + Sync + 'static {
    /// All of them in the text format, of which each piece follows when there is room for it.
    fn collect(&self) -> impl Future<Output = Result<mpsc::Receiver<String>, Late>> + Send;
}

/// How often each status was answered.
#[derive(Debug, Default)]
pub struct Responses([AtomicU64; CODES.len()]);

/// The statuses that are answered.
const CODES: [StatusCode; 6] = [
    StatusCode::OK,
    StatusCode::UNAUTHORIZED,
    StatusCode::FORBIDDEN,
    StatusCode::TOO_MANY_REQUESTS,
    StatusCode::INTERNAL_SERVER_ERROR,
    StatusCode::SERVICE_UNAVAILABLE,
];

impl Responses {
    fn count(&self, status: StatusCode) {
        if let Some((_, count)) = CODES.iter().zip(&self.0).find(|(code, _)| **code == status) {
            count.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Each status with its count.
    pub(super) fn counts(&self) -> [(u16, u64); CODES.len()] {
        let mut counts = CODES.map(|code| (code.as_u16(), 0));
        for ((_, count), counter) in counts.iter_mut().zip(&self.0) {
            *count = counter.load(Ordering::Relaxed);
        }
        counts
    }
}

struct Endpoint<C, R: Reviewer> {
    collect: C,
    access: Access<R>,
    responses: Arc<Responses>,
}

/// Serves `/metrics` to those who may read it.
pub fn router<C: Collect, R: Reviewer>(collect: C, access: Access<R>, responses: Arc<Responses>) -> Router {
    let endpoint = Arc::new(Endpoint { collect, access, responses });
    Router::new().route("/metrics", get(scrape::<C, R>)).with_state(endpoint)
}

async fn scrape<C: Collect, R: Reviewer>(State(endpoint): State<Arc<Endpoint<C, R>>>, headers: HeaderMap) -> Response {
    let response = endpoint.answer(&headers).await;
    endpoint.responses.count(response.status());
    response
}

impl<C: Collect, R: Reviewer> Endpoint<C, R> {
    async fn answer(&self, headers: &HeaderMap) -> Response {
        let verdict = match &self.access {
            Access::Anyone => Verdict::Admitted,
            Access::Reviewed(guard) => guard.check(bearer_token(headers)).await,
        };
        let challenge: (HeaderName, HeaderValue) = (WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        match verdict {
            Verdict::Admitted => self.series().await,
            // RFC 9110 section 15.5.2: it says how to authenticate.
            Verdict::Unauthenticated => {
                (StatusCode::UNAUTHORIZED, [challenge], "send a bearer token of this cluster\n").into_response()
            }
            Verdict::Forbidden => {
                let text = "the token's user may not read this: it needs the verb get on the nonResourceURL /metrics\n";
                (StatusCode::FORBIDDEN, text).into_response()
            }
            Verdict::TooMany => {
                (StatusCode::TOO_MANY_REQUESTS, "too many unknown tokens; try again later\n").into_response()
            }
            Verdict::Failed(error) => {
                // Anyone can make us ask.
                tracing::warn!(limited = true, error = %error, "cannot find out who may read the metrics");
                let text = "the token cannot be reviewed; the log says why\n";
                (StatusCode::INTERNAL_SERVER_ERROR, text).into_response()
            }
        }
    }

    async fn series(&self) -> Response {
        match self.collect.collect().await {
            Ok(pieces) => {
                let next = async |mut pieces: mpsc::Receiver<String>| {
                    let piece = pieces.recv().await?;
                    Some((Ok::<_, Infallible>(piece), pieces))
                };
                ([(CONTENT_TYPE, TEXT)], Body::from_stream(stream::unfold(pieces, next))).into_response()
            }
            Err(error) => (StatusCode::SERVICE_UNAVAILABLE, format!("{error}\n")).into_response(),
        }
    }
}

/// RFC 6750 section 2.1; the name of the scheme is in any case.
fn bearer_token(headers: &HeaderMap) -> Option<&str> {
    let (scheme, token) = headers.get(AUTHORIZATION)?.to_str().ok()?.trim().split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
}

#[cfg(test)]
mod tests {
    use axum::http::Request;
    use expect_test::expect;
    use tower::ServiceExt;

    use super::super::access::Guard;
    use super::super::access::tests::Fake;
    use super::*;

    struct Numbers;

    impl Collect for Numbers {
        async fn collect(&self) -> Result<mpsc::Receiver<String>, Late> {
            let (sender, receiver) = mpsc::channel(2);
            for piece in ["a ", "1\n"] {
                sender.send(piece.to_owned()).await.unwrap();
            }
            Ok(receiver)
        }
    }

    struct Busy;

    impl Collect for Busy {
        async fn collect(&self) -> Result<mpsc::Receiver<String>, Late> {
            Err(Late)
        }
    }

    /// Status, interesting headers and body.
    async fn get(router: &Router, path: &str, authorization: Option<&str>) -> String {
        let mut request = Request::get(path);
        if let Some(value) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        let response = router.clone().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let header = |name| response.headers().get(name).map_or(String::new(), |value| format!(" {value:?}"));
        let head = format!("{}{}{}", response.status().as_u16(), header(CONTENT_TYPE), header(WWW_AUTHENTICATE));
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        format!("{head} {}", String::from_utf8_lossy(&body))
    }

    #[tokio::test]
    async fn contract_7_3_who_gets_what() {
        let (fake, responses) = (Fake::new(), Arc::new(Responses::default()));
        let router = router(Numbers, Access::Reviewed(Guard::new(fake.clone())), responses.clone());
        let mut seen = Vec::new();
        for authorization in [
            Some("Bearer good"),
            Some(" bearer  good "),
            Some("Bearer other"),
            Some("Bearer bad"),
            Some("Basic good"),
            Some("good"),
            Some("Bearer "),
            None,
        ] {
            seen.push(format!("{authorization:?}: {}", get(&router, "/metrics", authorization).await));
        }
        fake.set_away(true);
        seen.push(format!("no answer: {}", get(&router, "/metrics", Some("Bearer new")).await));
        expect![[r#"
            Some("Bearer good"): 200 "text/plain; version=0.0.4; charset=utf-8" a 1
            Some(" bearer  good "): 200 "text/plain; version=0.0.4; charset=utf-8" a 1
            Some("Bearer other"): 403 "text/plain; charset=utf-8" the token's user may not read this: it needs the verb get on the nonResourceURL /metrics
            Some("Bearer bad"): 401 "text/plain; charset=utf-8" "Bearer" send a bearer token of this cluster
            Some("Basic good"): 401 "text/plain; charset=utf-8" "Bearer" send a bearer token of this cluster
            Some("good"): 401 "text/plain; charset=utf-8" "Bearer" send a bearer token of this cluster
            Some("Bearer "): 401 "text/plain; charset=utf-8" "Bearer" send a bearer token of this cluster
            None: 401 "text/plain; charset=utf-8" "Bearer" send a bearer token of this cluster
            no answer: 500 "text/plain; charset=utf-8" the token cannot be reviewed; the log says why
        "#]]
        .assert_eq(&seen.concat());
        assert_eq!(responses.counts(), [(200, 2), (401, 5), (403, 1), (429, 0), (500, 1), (503, 0)]);
        assert_eq!(get(&router, "/", Some("Bearer good")).await, "404 ");
    }

    #[tokio::test]
    async fn anyone_is_asked_for_nothing() {
        let router = router(Numbers, Access::<Fake>::Anyone, Arc::default());
        assert!(get(&router, "/metrics", None).await.starts_with("200"));
    }

    #[tokio::test]
    async fn numbers_that_do_not_come_are_no_answer() {
        let router = router(Busy, Access::<Fake>::Anyone, Arc::default());
        assert_eq!(
            get(&router, "/metrics", None).await,
            "503 \"text/plain; charset=utf-8\" the numbers were not told in time\n"
        );
    }
}
