//! Where the pods with certain labels are: how speakers find each other (contract 5.2).
//!
//! Speakers may list pods and not watch them, so they are listed: at the start, and then ever more rarely. A pod that comes
//! later finds those that are there by its own first list.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::time::Duration;

use ::kube::api::ListParams;
use ::kube::core::Request;
use serde::{Deserialize, Deserializer};
use tokio::sync::watch;

use super::message::Page;
use super::request::{Failure, Server};
use crate::backoff::Backoff;

/// Pods per page.
const PAGE_PODS: u32 = 250;
/// Pods that are read at most.
pub const PODS_MAX: usize = 8_192;
/// The waits between two lists: growing from the first to the second. The address of a pod that has just started may not
/// be known yet; five minutes are MetalLB's.
const PACE: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_mins(5) };
/// The waits between two attempts while they fail.
const RETRY: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };

/// The addresses of pods, as they were listed last.
#[derive(Debug)]
pub struct Pods {
    addresses: watch::Receiver<Option<BTreeSet<IpAddr>>>,
    task: tokio::task::JoinHandle<()>,
}

impl Drop for Pods {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Pods {
    /// Begins to list the pods of a namespace that have these labels. Needs the right to list pods there.
    pub fn follow(client: ::kube::Client, namespace: &str, labels: &str) -> Pods {
        let (sender, addresses) = watch::channel(None);
        let lister = Lister {
            server: Server::new(client),
            path: format!("/api/v1/namespaces/{namespace}/pods"),
            labels: labels.to_owned(),
        };
        let task = tokio::spawn(lister.run(sender));
        Pods { addresses, task }
    }

    /// Waits until the addresses are others than before, and gives them. Safe to cancel.
    pub async fn next(&mut self) -> BTreeSet<IpAddr> {
        loop {
            if self.addresses.changed().await.is_err() {
                // The task never ends by itself.
                std::future::pending::<()>().await;
            }
            if let Some(addresses) = self.addresses.borrow_and_update().clone() {
                return addresses;
            }
        }
    }
}

struct Lister {
    server: Server,
    path: String,
    labels: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct Pod {
    status: PodStatus,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct PodStatus {
    phase: String,
    #[serde(rename = "podIP")]
    pod_ip: String,
    #[serde(rename = "podIPs", deserialize_with = "null_to_empty")]
    pod_ips: Vec<PodIp>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PodIp {
    ip: String,
}

fn null_to_empty<'de, D: Deserializer<'de>>(d: D) -> Result<Vec<PodIp>, D::Error> {
    Ok(Option::deserialize(d)?.unwrap_or_default())
}

impl Pod {
    /// Its addresses, of both families; none once it has ended.
    fn addresses(&self) -> impl Iterator<Item = IpAddr> {
        let has_ended = matches!(self.status.phase.as_str(), "Succeeded" | "Failed");
        let texts = self.status.pod_ips.iter().map(|one| one.ip.as_str()).chain([self.status.pod_ip.as_str()]);
        texts.filter(move |_| !has_ended).filter_map(|text| text.parse().ok())
    }
}

impl Lister {
    async fn run(self, found: watch::Sender<Option<BTreeSet<IpAddr>>>) {
        let (mut rounds, mut failures): (u32, u32) = (0, 0);
        let mut last_error = String::new();
        loop {
            let wait = match self.list().await {
                Ok(addresses) => {
                    if !std::mem::take(&mut last_error).is_empty() {
                        tracing::info!("can list the pods of the speakers again");
                    }
                    failures = 0;
                    rounds = rounds.saturating_add(1);
                    found.send_if_modified(|known| {
                        let is_new = known.as_ref() != Some(&addresses);
                        *known = Some(addresses);
                        is_new
                    });
                    PACE.delay(rounds)
                }
                Err(failure) => {
                    let error = failure.to_string();
                    if last_error != error {
                        tracing::warn!(
                            error,
                            path = self.path,
                            "cannot list the pods of the speakers, so new ones are not found; will try again"
                        );
                        last_error = error;
                    }
                    failures = failures.saturating_add(1);
                    RETRY.delay(failures)
                }
            };
            tokio::time::sleep(wait).await;
        }
    }

    async fn list(&self) -> Result<BTreeSet<IpAddr>, Failure> {
        let (mut addresses, mut continue_token) = (BTreeSet::new(), None);
        loop {
            let params = ListParams {
                limit: Some(PAGE_PODS),
                continue_token,
                label_selector: Some(self.labels.clone()),
                ..ListParams::default()
            };
            let text = self.server.get(Request::new(&self.path).list(&params)).await?;
            let page: Page<'_> =
                serde_json::from_slice(&text).map_err(|error| Failure::Unreadable(error.to_string()))?;
            for item in &page.items {
                // One pod that cannot be read does not hide the others.
                let pod: Pod = serde_json::from_str(item.get()).unwrap_or_default();
                addresses.extend(pod.addresses());
            }
            if page.metadata.r#continue.is_empty() || addresses.len() >= PODS_MAX {
                return Ok(addresses);
            }
            continue_token = Some(page.metadata.r#continue);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::{Arc, Mutex};

    use ::kube::client::{Body, Client};
    use http::{Request as HttpRequest, Response};
    use tower::BoxError;

    use super::*;

    fn addresses(text: &str) -> BTreeSet<IpAddr> {
        text.split_whitespace().map(|word| word.parse().unwrap()).collect()
    }

    /// A server that gives these answers, the last one again and again, and what it was asked.
    fn server(answers: &[(u16, &str)]) -> (Client, Arc<Mutex<Vec<String>>>) {
        let asked = Arc::new(Mutex::new(Vec::new()));
        let answers: VecDeque<(u16, String)> = answers.iter().map(|(code, text)| (*code, (*text).to_owned())).collect();
        let (log, answers) = (Arc::clone(&asked), Arc::new(Mutex::new(answers)));
        let service = tower::service_fn(move |request: HttpRequest<Body>| {
            log.lock().unwrap().push(request.uri().to_string());
            let mut answers = answers.lock().unwrap();
            let (code, text) = if answers.len() > 1 { answers.pop_front().unwrap() } else { answers[0].clone() };
            async move { Ok::<_, BoxError>(Response::builder().status(code).body(Body::from(text.into_bytes())).unwrap()) }
        });
        (Client::new(service, "default"), asked)
    }

    const PAGE_ONE: &str = r#"{"metadata": {"continue": "more"}, "items": [
        {"status": {"phase": "Running", "podIP": "10.0.0.1", "podIPs": [{"ip": "10.0.0.1"}, {"ip": "fd00::1"}]}},
        {"status": {"phase": "Pending", "podIPs": null}}]}"#;
    const PAGE_TWO: &str = r#"{"metadata": {}, "items": [
        {"status": {"phase": "Failed", "podIP": "10.0.0.9"}}, {"status": 7}, {"status": {"podIP": "10.0.0.2"}}]}"#;

    #[tokio::test(start_paused = true)]
    async fn contract_5_2_pods_are_found_by_their_labels_on_all_pages() {
        let (client, asked) = server(&[(200, PAGE_ONE), (200, PAGE_TWO)]);
        let mut pods = Pods::follow(client, "metallb-system", "app=metallb,component=speaker");
        assert_eq!(pods.next().await, addresses("10.0.0.1 fd00::1 10.0.0.2"));
        let asked = asked.lock().unwrap();
        assert!(asked[0].contains("/api/v1/namespaces/metallb-system/pods?"), "{asked:?}");
        assert!(asked[0].contains("labelSelector=app%3Dmetallb%2Ccomponent%3Dspeaker"), "{asked:?}");
        assert!(asked[1].contains("continue=more"), "{asked:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_the_same_is_not_told_again_and_asked_for_ever_more_rarely() {
        let (client, asked) = server(&[(500, "{}"), (200, PAGE_TWO)]);
        let mut pods = Pods::follow(client, "metallb-system", "a=b");
        assert_eq!(pods.next().await, addresses("10.0.0.2"));
        assert!(tokio::time::timeout(Duration::from_hours(1), pods.next()).await.is_err());
        let before = asked.lock().unwrap().len();
        assert!((15..60).contains(&before), "{before} lists in an hour");
    }
}
