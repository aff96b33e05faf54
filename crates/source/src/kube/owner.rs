//! The pod that this process runs in: the owner of what it reports.

use std::time::Duration;

use ::kube::core::Request;
use api::OwnerReference;
use serde::Deserialize;
use tokio::sync::watch;
use tokio::task::JoinSet;

use super::request::Server;
use crate::Owner;
use crate::backoff::Backoff;

const BACKOFF: Backoff = Backoff { min: Duration::from_millis(500), max: Duration::from_secs(30) };

/// Finds out who the pod of this name is, with patience.
pub(super) fn learn(
    tasks: &mut JoinSet<()>,
    server: Server,
    namespace: String,
    pod: Option<String>,
) -> watch::Receiver<Owner> {
    let Some(pod) = pod else { return watch::channel(Owner::Nobody).1 };
    let (sender, receiver) = watch::channel(Owner::Unknown);
    tasks.spawn(async move {
        let mut failures: u32 = 0;
        loop {
            match look(&server, &namespace, &pod).await {
                Ok(owner) => {
                    // Nobody may be interested any more.
                    let _wanted = sender.send(Owner::Pod(owner));
                    return;
                }
                Err(error) => {
                    failures = failures.saturating_add(1);
                    if failures == 1 {
                        tracing::warn!(
                            pod,
                            error,
                            "cannot look up the own pod, which owns the status objects; will try again"
                        );
                    }
                    tokio::time::sleep(BACKOFF.delay(failures)).await;
                }
            }
        }
    });
    receiver
}

#[derive(Deserialize)]
struct Pod {
    metadata: Metadata,
}

#[derive(Deserialize)]
struct Metadata {
    uid: String,
}

async fn look(server: &Server, namespace: &str, pod: &str) -> Result<OwnerReference, String> {
    let request =
        Request::new(format!("/api/v1/namespaces/{namespace}/pods")).get(pod, &::kube::api::GetParams::default());
    let text = server.get(request).await.map_err(|failure| failure.to_string())?;
    let found: Pod = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
    Ok(OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Pod".to_owned(),
        name: pod.to_owned(),
        uid: found.metadata.uid,
    })
}
