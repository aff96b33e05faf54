//! The Secret with the key of the speakers' memberlist: made once, when it is not there, and never changed
//! (contract 7.7).

use std::time::Duration;

use ::kube::api::{GetParams, PostParams};
use ::kube::core::Request;
use serde::Deserialize;
use serde_json::json;

use super::request::{Failure, Server};
use crate::backoff::Backoff;

const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(1) };

/// The key in the Secret's data.
const DATA_KEY: &str = "secretkey";

/// Which Secret, and to whom it belongs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MemberKey {
    /// The namespace of MetalLB.
    pub namespace: String,
    /// The Secret's name.
    pub secret: String,
    /// The Deployment with which it goes; it must be there.
    pub deployment: String,
}

impl MemberKey {
    /// Makes sure that the Secret is there: with this text if it has to be made. Comes back when it is, however long that
    /// takes.
    pub async fn ensure(&self, client: ::kube::Client, key: &str) {
        let server = Server::new(client);
        let mut failures: u32 = 0;
        let mut last_error = String::new();
        loop {
            match self.attempt(&server, key).await {
                Ok(Made::Now) => {
                    return tracing::info!(
                        secret = self.secret,
                        "made the Secret with the key of the speakers' memberlist"
                    );
                }
                Ok(Made::Before) => return,
                Err(failure) => {
                    let error = failure.to_string();
                    if error != last_error {
                        tracing::warn!(
                            secret = self.secret,
                            deployment = self.deployment,
                            error,
                            "cannot make sure of the Secret with the key of the speakers' memberlist; will try again"
                        );
                        last_error = error;
                    }
                    failures = failures.saturating_add(1);
                    tokio::time::sleep(RETRY.delay(failures)).await;
                }
            }
        }
    }

    async fn attempt(&self, server: &Server, key: &str) -> Result<Made, Failure> {
        let secrets = format!("/api/v1/namespaces/{}/secrets", self.namespace);
        match server.get(Request::new(&secrets).get(&self.secret, &GetParams::default())).await {
            Ok(_) => return Ok(Made::Before),
            Err(Failure::Refused { code: 404, .. }) => {}
            Err(failure) => return Err(failure),
        }
        let deployments = format!("/apis/apps/v1/namespaces/{}/deployments", self.namespace);
        let owner = server.get(Request::new(&deployments).get(&self.deployment, &GetParams::default())).await?;
        let owner: Deployment =
            serde_json::from_slice(&owner).map_err(|_| Failure::Unreadable("it shows no Deployment".to_owned()))?;
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {
                "name": self.secret, "namespace": self.namespace,
                "ownerReferences": [{
                    "apiVersion": "apps/v1", "kind": "Deployment", "name": self.deployment, "uid": owner.metadata.uid,
                }],
            },
            "stringData": {DATA_KEY: key},
        });
        match server.get(Request::new(&secrets).create(&PostParams::default(), secret.to_string().into_bytes())).await {
            Ok(_) => Ok(Made::Now),
            // Another controller was quicker.
            Err(Failure::Refused { code: 409, .. }) => Ok(Made::Before),
            Err(failure) => Err(failure),
        }
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Made {
    Now,
    Before,
}

#[derive(Deserialize)]
struct Deployment {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use ::kube::client::{Body, Client};
    use http::Response;
    use http_body_util::BodyExt;
    use serde_json::Value;
    use tower::BoxError;

    use super::*;

    type Asked = Arc<Mutex<Vec<(String, Value)>>>;

    /// A server that answers each line of `answers`, `METHOD path-end code`, in turn.
    fn server(answers: &[(u16, &'static str)]) -> (Client, Asked) {
        let (asked, mut answers) = (Asked::default(), answers.to_vec());
        answers.reverse();
        let (log, answers) = (asked.clone(), Arc::new(Mutex::new(answers)));
        let service = tower::service_fn(move |request: http::Request<Body>| {
            let (log, answers) = (log.clone(), answers.clone());
            async move {
                let line = format!("{} {}", request.method(), request.uri().path());
                let body = request.into_body().collect().await?.to_bytes();
                log.lock().unwrap().push((line, serde_json::from_slice(&body).unwrap_or_default()));
                let (code, text) = answers.lock().unwrap().pop().unwrap();
                Ok::<_, BoxError>(Response::builder().status(code).body(Body::from(text.as_bytes().to_vec())).unwrap())
            }
        });
        (Client::new(service, "default"), asked)
    }

    fn key() -> MemberKey {
        MemberKey {
            namespace: "metallb-system".to_owned(),
            secret: "memberlist".to_owned(),
            deployment: "controller".to_owned(),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn contract_7_7_the_secret_is_made_once_and_goes_with_the_deployment() {
        let deployment = r#"{"metadata": {"uid": "u-1"}}"#;
        let (client, asked) =
            server(&[(403, "{}"), (404, "{}"), (404, "{}"), (404, "{}"), (200, deployment), (201, "{}")]);
        key().ensure(client, "AAECAwQFBgcICQoLDA0ODw").await;
        let asked = asked.lock().unwrap();
        let lines: Vec<&str> = asked.iter().map(|(line, _)| line.as_str()).collect();
        let (get, owner) = (
            "GET /api/v1/namespaces/metallb-system/secrets/memberlist",
            "GET /apis/apps/v1/namespaces/metallb-system/deployments/controller",
        );
        assert_eq!(lines, [get, get, owner, get, owner, "POST /api/v1/namespaces/metallb-system/secrets"]);
        let (_, made) = asked.last().unwrap();
        assert_eq!(made["stringData"]["secretkey"], "AAECAwQFBgcICQoLDA0ODw");
        assert_eq!(made["metadata"]["ownerReferences"][0]["uid"], "u-1");
    }

    #[tokio::test]
    async fn what_is_there_is_left_alone() {
        let (client, asked) = server(&[(200, "{}")]);
        key().ensure(client, "x").await;
        assert_eq!(asked.lock().unwrap().len(), 1);
        let (client, asked) = server(&[(404, "{}"), (200, r#"{"metadata": {"uid": "u"}}"#), (409, "{}")]);
        key().ensure(client, "x").await;
        assert_eq!(asked.lock().unwrap().len(), 3);
    }
}
