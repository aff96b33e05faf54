//! Questions to the API server about others: who is behind a token, and may they? (TokenReview and SubjectAccessReview;
//! contract 7.3.)
//!
//! Each call is one request; remembering answers is the business of whoever asks.

use std::collections::BTreeMap;
use std::fmt;

use ::kube::api::PostParams;
use ::kube::core::Request;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;

use super::request::{Failure, Server};

/// Where the questions go.
const TOKEN_REVIEWS: &str = "/apis/authentication.k8s.io/v1/tokenreviews";
const ACCESS_REVIEWS: &str = "/apis/authorization.k8s.io/v1/subjectaccessreviews";

/// Someone the API server knows, as it describes them.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(default)]
pub struct User {
    /// The name: `system:serviceaccount:monitoring:prometheus`.
    #[serde(deserialize_with = "null_to_empty")]
    pub username: String,
    #[serde(deserialize_with = "null_to_empty")]
    uid: String,
    #[serde(deserialize_with = "null_to_empty")]
    groups: Vec<String>,
    #[serde(deserialize_with = "null_to_empty")]
    extra: BTreeMap<String, Vec<String>>,
}

/// What someone wants to do with a path that is no object of the API, like `get` on `/metrics`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PathAccess<'a> {
    /// In lower case.
    pub verb: &'a str,
    /// From its slash on.
    pub path: &'a str,
}

/// The API server gave no answer, or none that helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot have the API server review {what}: {reason}")]
pub struct ReviewError {
    what: &'static str,
    reason: String,
}

/// Asks the API server. Needs the right to create `tokenreviews` and `subjectaccessreviews`.
#[derive(Clone)]
pub struct Reviews(Server);

#[derive(Deserialize)]
struct Review<S> {
    status: S,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct TokenStatus {
    authenticated: bool,
    user: User,
    error: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct AccessStatus {
    allowed: bool,
}

impl Reviews {
    /// Asks through this client.
    pub fn new(client: ::kube::Client) -> Reviews {
        Reviews(Server::new(client))
    }

    /// Who is behind a bearer token; none if the server does not accept it.
    pub async fn user(&self, token: &str) -> Result<Option<User>, ReviewError> {
        let question = json!({
            "apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": token},
        });
        let Review { status } = self.ask::<TokenStatus>("a token", TOKEN_REVIEWS, &question).await?;
        if !status.authenticated {
            tracing::debug!(error = status.error, "the API server does not accept a token");
            return Ok(None);
        }
        Ok(Some(status.user))
    }

    /// Whether the user may.
    pub async fn is_allowed(&self, user: &User, access: PathAccess<'_>) -> Result<bool, ReviewError> {
        let question = json!({
            "apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview",
            "spec": {
                "user": user.username, "uid": user.uid, "groups": user.groups, "extra": user.extra,
                "nonResourceAttributes": {"verb": access.verb, "path": access.path},
            },
        });
        Ok(self.ask::<AccessStatus>("access", ACCESS_REVIEWS, &question).await?.status.allowed)
    }

    async fn ask<S: for<'de> Deserialize<'de>>(
        &self,
        what: &'static str,
        path: &str,
        question: &serde_json::Value,
    ) -> Result<Review<S>, ReviewError> {
        let failed = |reason: Failure| ReviewError { what, reason: reason.to_string() };
        let request = Request::new(path).create(&PostParams::default(), question.to_string().into_bytes());
        let answer = self.0.get(request).await.map_err(failed)?;
        // The text of the error would hold parts of the answer, and with it of the token.
        let nonsense = |_| failed(Failure::Unreadable("the answer is no review".to_owned()));
        serde_json::from_slice(&answer).map_err(nonsense)
    }
}

impl fmt::Debug for Reviews {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Reviews")
    }
}

fn null_to_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ::kube::client::{Body, Client};
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::BoxError;

    use super::*;

    /// Method with path, and body, of each request.
    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// A server that gives one answer, and what it was asked.
    fn server(code: u16, answer: &str) -> (Reviews, Asked) {
        let (asked, answer) = (Asked::default(), answer.to_owned());
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (log, answer) = (log.clone(), answer.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await?.to_bytes();
                log.lock().unwrap().push((line, serde_json::from_slice(&body).unwrap()));
                Ok::<_, BoxError>(Response::builder().status(code).body(Body::from(answer.into_bytes())).unwrap())
            }
        });
        (Reviews::new(Client::new(service, "default")), asked)
    }

    const PROMETHEUS: &str = r#"{"kind": "TokenReview", "spec": {"token": "t"}, "status": {"authenticated": true,
        "audiences": ["x"], "user": {"username": "prometheus", "uid": "7", "groups": ["a", "b"],
        "extra": {"authentication.kubernetes.io/pod-name": ["p-0"]}}}}"#;

    #[tokio::test]
    async fn the_user_of_a_token_is_asked_about_as_the_server_describes_them() {
        let (reviews, asked) = server(201, PROMETHEUS);
        let user = reviews.user("t").await.unwrap().unwrap();
        assert_eq!(user.username, "prometheus");
        assert_eq!(
            asked.lock().unwrap().pop().unwrap(),
            (
                "POST /apis/authentication.k8s.io/v1/tokenreviews".to_owned(),
                json!({"apiVersion": "authentication.k8s.io/v1", "kind": "TokenReview", "spec": {"token": "t"}})
            )
        );
        for (answer, allowed) in [
            (r#"{"status": {"allowed": true}}"#, true),
            (r#"{"status": {"allowed": false, "denied": true, "reason": "no"}}"#, false),
            (r#"{"status": {}}"#, false),
        ] {
            let (reviews, asked) = server(201, answer);
            let access = PathAccess { verb: "get", path: "/metrics" };
            assert_eq!(reviews.is_allowed(&user, access).await, Ok(allowed));
            let (line, question) = asked.lock().unwrap().pop().unwrap();
            assert_eq!(line, "POST /apis/authorization.k8s.io/v1/subjectaccessreviews");
            assert_eq!(
                question["spec"],
                json!({
                    "user": "prometheus", "uid": "7", "groups": ["a", "b"],
                    "extra": {"authentication.kubernetes.io/pod-name": ["p-0"]},
                    "nonResourceAttributes": {"verb": "get", "path": "/metrics"},
                })
            );
        }
    }

    #[tokio::test]
    async fn a_token_that_is_not_accepted_has_no_user() {
        for answer in [
            r#"{"status": {"error": "service account token has expired"}}"#,
            r#"{"status": {"authenticated": false, "user": {"username": "someone"}}}"#,
            r#"{"status": {}}"#,
        ] {
            assert_eq!(server(201, answer).0.user("t").await, Ok(None), "{answer}");
        }
        let bare = r#"{"status": {"authenticated": true, "user": {"username": "x", "groups": null, "extra": null}}}"#;
        let user = User { username: "x".to_owned(), ..User::default() };
        assert_eq!(server(201, bare).0.user("t").await, Ok(Some(user)));
    }

    #[tokio::test]
    async fn no_answer_is_an_error_without_the_token() {
        for (code, answer, expected) in [
            (
                403,
                r#"{"message": "tokenreviews is forbidden"}"#,
                "cannot have the API server review a token: the API server said 403: tokenreviews is forbidden",
            ),
            (
                201,
                r#"{"spec": {"token": "hidden"}, "status": "hidden"}"#,
                "cannot have the API server review a token: cannot understand the API server: the answer is no review",
            ),
        ] {
            assert_eq!(server(code, answer).0.user("hidden").await.unwrap_err().to_string(), expected);
        }
    }
}
