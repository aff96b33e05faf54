//! Health: is the process alive, and is it ready, with the reason if not (contract 7.1, 7.4).
//!
//! `/healthz` is for liveness: it fails when a restart would help. `/readyz` is for readiness: it fails as long as
//! something is missing that the process needs for its work (R12), and its body says what.
//!
//! Both are values that the program sets. Losing the API server makes nobody unready: what is announced stays.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::Router;
use axum::extract::State;
use axum::http::StatusCode;
use axum::routing::get;

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

/// The two paths, to be served on a port that others may reach: `serve` has the limits.
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

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use axum::http::Request;
    use tower::ServiceExt;

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

    /// The status and the body of an answer.
    async fn get(health: &Health, path: &str) -> String {
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = router(health.clone()).oneshot(request).await.unwrap();
        let status = response.status().as_u16();
        let body = axum::body::to_bytes(response.into_body(), 1 << 20).await.unwrap();
        format!("{status} {}", String::from_utf8_lossy(&body).trim_end().replace('\n', ", "))
    }

    #[tokio::test]
    async fn the_endpoints_say_what_is_wrong() {
        let health = Health::new(&["objects", "config"]);
        assert_eq!(get(&health, "/healthz").await, "200 ok");
        assert_eq!(get(&health, "/readyz").await, "503 config: not done yet, objects: not done yet");
        health.ready("config");
        health.ready("objects");
        assert_eq!(get(&health, "/readyz").await, "200 ok");
        health.failed("a task ended");
        assert_eq!(get(&health, "/healthz").await, "500 a task ended");
        assert_eq!(get(&health, "/readyz").await, "503 alive: a task ended");
        assert_eq!(get(&health, "/metrics").await, "404 ");
    }
}
