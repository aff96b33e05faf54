//! The endpoint as HTTP has it; what is answered is tested in `webhook`.

#![allow(clippy::arithmetic_side_effects)]

use api::{IPAddressPool, Object};
use axum::http::Request;
use expect_test::{Expect, expect};
use serde_json::{Value, json};
use tokio::sync::watch;

use super::*;

/// An endpoint that knows no objects, and what was asked of it.
fn endpoint() -> (Router, mpsc::Receiver<Envelope>) {
    let (questions, asked) = mpsc::channel(QUESTIONS_MAX);
    (router(Endpoint { questions, places: Semaphore::new(QUESTIONS_MAX) }), asked)
}

fn review(addresses: &str) -> String {
    let pool = json!({"metadata": {"name": "a", "namespace": "m"}, "spec": {"addresses": [addresses]}});
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1", "operation": "CREATE", "object": pool,
            "kind": {"group": "metallb.io", "version": "v1beta1", "kind": "IPAddressPool"},
        },
    })
    .to_string()
}

const POOLS: &str = "/validate-metallb-io-v1beta1-ipaddresspool";

async fn send(router: Router, method: &str, path: &str, body: impl Into<Body>) -> String {
    let request = Request::builder().method(method).uri(path).body(body.into()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    let status = response.status().as_u16();
    let kind = response.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap()).to_owned();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    format!("{status} {kind} {}", String::from_utf8_lossy(&body))
}

async fn check(method: &str, path: &str, body: impl Into<Body>, expected: Expect) {
    let (router, _asked) = endpoint();
    expected.assert_eq(&send(router, method, path, body).await);
}

#[tokio::test]
async fn what_is_no_question_is_refused() {
    check("GET", POOLS, "", expect!["405  "]).await;
    check("POST", "/", "", expect!["404  "]).await;
    check("POST", "/validate-metallb-io-v1beta2-ipaddresspool", review("192.0.2.0/24"), expect!["404  "]).await;
    check(
        "POST",
        POOLS,
        "",
        expect!["400 text/plain; charset=utf-8 the request is no review in JSON (line 1, column 0)"],
    )
    .await;
    check(
        "POST",
        POOLS,
        "{\"password\": \"hidden\"",
        expect!["400 text/plain; charset=utf-8 the request is no review in JSON (line 1, column 21)"],
    )
    .await;
    check(
        "POST",
        CONVERSION_PATH,
        "[]",
        expect![[
            r#"400 text/plain; charset=utf-8 the request is " ", not a ConversionReview of apiextensions.k8s.io"#
        ]],
    )
    .await;
    check("POST", CONVERSION_PATH, review("192.0.2.0/24"), expect![[r#"400 text/plain; charset=utf-8 the request is "admission.k8s.io/v1 AdmissionReview", not a ConversionReview of apiextensions.k8s.io"#]]).await;
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_not_kept() {
    let large = |length| json!({"padding": "x".repeat(length)}).to_string();
    check(
        "POST",
        POOLS,
        large(BODY_BYTES_MAX),
        expect!["413 text/plain; charset=utf-8 a request has 8388608 bytes at most"],
    )
    .await;
    check(
        "POST",
        CONVERSION_PATH,
        large(BODY_BYTES_MAX),
        expect!["413 text/plain; charset=utf-8 a request has 8388608 bytes at most"],
    )
    .await;
    check(
        "POST",
        POOLS,
        large(BODY_BYTES_MAX / 2),
        expect![[r#"400 text/plain; charset=utf-8 the request is " ", not an AdmissionReview of admission.k8s.io/v1"#]],
    )
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_sends_slowly_keeps_no_place() {
    let (router, _asked) = endpoint();
    let slow: Vec<_> = (0..QUESTIONS_MAX)
        .map(|_| {
            let never = Body::from_stream(futures::stream::pending::<Result<Bytes, std::io::Error>>());
            tokio::spawn(send(router.clone(), "POST", POOLS, never))
        })
        .collect();
    let next = tokio::spawn(send(router.clone(), "POST", CONVERSION_PATH, "{}"));
    sleep(BODY_TIME_MAX / 2).await;
    assert!(!next.is_finished(), "there was a place");
    sleep(BODY_TIME_MAX).await;
    assert!(next.is_finished() && next.await.unwrap().starts_with("400 "));
    for slow in slow {
        assert_eq!(slow.await.unwrap(), "408 text/plain; charset=utf-8 the request took too long to arrive");
    }
}

fn source() -> (mpsc::Sender<Change>, Source) {
    let folder = std::env::temp_dir().join("metallb-webhook-no-such-folder");
    let options = source::Options {
        kinds: Vec::new(),
        reports: Vec::new(),
        namespace: "m".to_owned(),
        identity: source::Identity { component: "metallb-controller", instance: String::new(), pod: None },
        pool_status: PoolStatus::Ignored,
        lease: None,
    };
    let (sender, changes) = mpsc::channel(16);
    let connection = source::Connection {
        state: source::ConnectionState::Connecting,
        since: jiff::Timestamp::UNIX_EPOCH,
        error: None,
        missing: std::collections::BTreeMap::new(),
    };
    let source = source::manifests::start(folder, options, StatusFiles::Owned);
    (sender, Source { changes, connection: watch::channel(connection).1, ..source })
}

fn pool(name: &str, addresses: &str) -> Object {
    let mut pool = IPAddressPool::default();
    (pool.metadata.name, pool.metadata.namespace) = (name.to_owned(), "m".to_owned());
    pool.spec.addresses = vec![addresses.to_owned()];
    Object::IPAddressPool(pool)
}

/// Allowed or not, or the status without an answer.
fn verdict(answer: &str) -> String {
    match answer.strip_prefix("200 application/json ") {
        Some(body) => serde_json::from_str::<Value>(body).unwrap()["response"]["allowed"].to_string(),
        None => answer.split(' ').next().unwrap().to_owned(),
    }
}

#[tokio::test(start_paused = true)]
async fn a_refusal_is_looked_at_twice_and_nothing_is_judged_by_half_of_the_truth() {
    let (router, asked) = endpoint();
    let (changes, source) = source();
    let health = Health::new(&[READY_OBJECTS]);
    tokio::spawn(judge(source, asked, "m".to_owned(), health.clone()));
    let ask = || send(router.clone(), "POST", POOLS, review("192.0.2.0/24"));
    changes.send(Change::Applied(pool("other", "192.0.2.0/25"))).await.unwrap();
    assert_eq!(verdict(&ask().await), "503", "not synced");
    assert_eq!(health.missing().len(), 1);
    changes.send(Change::Synced).await.unwrap();
    assert_eq!(verdict(&ask().await), "false");
    assert_eq!(health.missing(), []);
    // What it is refused for goes while it is looked at.
    let late = tokio::spawn(ask());
    sleep(SECOND_LOOK / 2).await;
    assert!(!late.is_finished());
    changes.send(Change::Deleted(pool("other", "").reference())).await.unwrap();
    assert_eq!(verdict(&late.await.unwrap()), "true");
}
