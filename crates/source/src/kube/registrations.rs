//! What an API server is told of webhooks, and the Secret with their certificate (contract 4.4, 7.7).
//!
//! The registrations are those webhooks of MetalLB's webhook configuration, and of its definition of BGPPeer, that name our
//! Service; all others are left alone. Everything is written by a patch of the fields it is about, which holds only for the
//! version that was read: who comes second reads again. What should be in there is decided elsewhere.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use ::kube::api::{GetParams, Patch, PatchParams, PostParams, WatchParams};
use ::kube::core::Request;
use k8s_openapi::ByteString;
use serde::{Deserialize, Deserializer};
use serde_json::{Value, json};
use tokio::sync::Notify;
use tokio::task::JoinSet;

use super::request::{Failure, Server, next_data};
use crate::Tasks;
use crate::backoff::Backoff;

/// The owner of the fields that are written (contract 4.4).
const FIELD_MANAGER: &str = "MetalLB";
/// How long a watch is asked to last, in seconds.
const WATCH_SECONDS: u32 = 290;
/// How long after its time a watch may end.
const WATCH_OVERTIME: Duration = Duration::from_secs(30);
const BACKOFF: Backoff = Backoff { min: Duration::from_secs(1), max: Duration::from_secs(30) };

/// Where an API server reads whom to trust.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registration {
    /// The ValidatingWebhookConfiguration.
    Validation,
    /// The definition of BGPPeer, if it asks for conversion by a webhook.
    Conversion,
}

impl Registration {
    /// Both.
    pub const ALL: [Registration; 2] = [Registration::Validation, Registration::Conversion];

    const fn path(self) -> &'static str {
        match self {
            Registration::Validation => "/apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations",
            Registration::Conversion => "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Registration::Validation => "metallb-webhook-configuration",
            Registration::Conversion => "bgppeers.metallb.io",
        }
    }
}

/// Which objects they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookNames {
    /// The namespace of MetalLB.
    pub namespace: String,
    /// The Service that the API server calls.
    pub service: String,
    /// The Secret with the certificate.
    pub secret: String,
}

/// What is known of an object, as it was at one moment.
#[derive(Clone, PartialEq, Eq)]
pub struct Seen<T> {
    /// The moment; none if there is no such object.
    version: Option<String>,
    /// What it holds.
    pub value: T,
}

/// What came of a write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Written {
    /// It is there.
    Done,
    /// Somebody else has written since it was read; read again.
    Overtaken,
}

/// The API server gave no answer, or none that helps.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("cannot {verb} {what}: {reason}")]
pub struct RegistrationError {
    verb: &'static str,
    what: String,
    reason: String,
}

/// Reads and writes them.
#[derive(Clone)]
pub struct Registrations {
    server: Server,
    names: WebhookNames,
}

#[derive(Deserialize)]
struct Metadata {
    #[serde(rename = "resourceVersion")]
    resource_version: String,
}

#[derive(Deserialize)]
struct Secret {
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_to_empty")]
    data: BTreeMap<String, ByteString>,
}

#[derive(Deserialize)]
struct Configuration {
    metadata: Metadata,
    #[serde(default, deserialize_with = "null_to_empty")]
    webhooks: Vec<Webhook>,
}

#[derive(Deserialize)]
struct Webhook {
    name: String,
    #[serde(rename = "clientConfig")]
    client_config: ClientConfig,
}

#[derive(Deserialize)]
struct Definition {
    metadata: Metadata,
    spec: DefinitionSpec,
}

#[derive(Deserialize)]
struct DefinitionSpec {
    conversion: Option<Conversion>,
}

#[derive(Deserialize)]
struct Conversion {
    webhook: Option<ConversionWebhook>,
}

#[derive(Deserialize)]
struct ConversionWebhook {
    #[serde(rename = "clientConfig")]
    client_config: Option<ClientConfig>,
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(rename = "caBundle")]
    bundle: Option<ByteString>,
    service: Option<ServiceReference>,
}

#[derive(Deserialize)]
struct ServiceReference {
    namespace: String,
    name: String,
}

/// The bundles of a registration: the name of the webhook, and the authorities in PEM.
pub type Bundles = Vec<(String, String)>;

impl Registrations {
    /// Talks through this client.
    pub fn new(client: ::kube::Client, names: WebhookNames) -> Registrations {
        Registrations { server: Server::new(client), names }
    }

    /// The name that the API server calls us by.
    pub fn server_name(&self) -> String {
        format!("{}.{}.svc", self.names.service, self.names.namespace)
    }

    /// The texts in the Secret; none if there is no Secret. What is no text is left out.
    pub async fn secret(&self) -> Result<Seen<BTreeMap<String, String>>, RegistrationError> {
        let found: Option<Secret> = self.get(&self.secret_path(), &self.names.secret).await?;
        let Some(secret) = found else { return Ok(Seen { version: None, value: BTreeMap::new() }) };
        let text = |(key, ByteString(bytes))| Some((key, String::from_utf8(bytes).ok()?));
        let value = secret.data.into_iter().filter_map(text).collect();
        Ok(Seen { version: Some(secret.metadata.resource_version), value })
    }

    /// Writes these texts into the Secret, which is made if it is not there; others in it stay.
    pub async fn secret_write<T>(
        &self,
        seen: &Seen<T>,
        texts: &BTreeMap<&str, String>,
    ) -> Result<Written, RegistrationError> {
        let data: BTreeMap<_, _> =
            texts.iter().map(|(key, text)| (*key, ByteString(text.clone().into_bytes()))).collect();
        let (path, name) = (self.secret_path(), &self.names.secret);
        if let Some(version) = &seen.version {
            let patch = json!({"metadata": {"resourceVersion": version}, "data": data});
            return self.patch(&path, name, &Patch::Merge(&patch)).await;
        }
        let object =
            json!({"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": {"name": name}, "data": data});
        let params = PostParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PostParams::default() };
        let request = Request::new(&path).create(&params, object.to_string().into_bytes());
        written("create", name, self.server.get(request).await)
    }

    /// The bundles of a registration: none if it is not there, or does not ask us.
    pub async fn bundles(&self, registration: Registration) -> Result<Seen<Bundles>, RegistrationError> {
        let (path, name) = (registration.path(), registration.name());
        let (version, configs): (_, Vec<(String, ClientConfig)>) = match registration {
            Registration::Validation => match self.get::<Configuration>(path, name).await? {
                None => (None, Vec::new()),
                Some(found) => {
                    let configs = found.webhooks.into_iter().map(|webhook| (webhook.name, webhook.client_config));
                    (Some(found.metadata.resource_version), configs.collect())
                }
            },
            Registration::Conversion => match self.get::<Definition>(path, name).await? {
                None => (None, Vec::new()),
                Some(found) => {
                    let webhook = found.spec.conversion.and_then(|conversion| conversion.webhook);
                    let config = webhook.and_then(|webhook| webhook.client_config);
                    let configs = config.into_iter().map(|config| (name.to_owned(), config));
                    (Some(found.metadata.resource_version), configs.collect())
                }
            },
        };
        let ours = |config: &ClientConfig| {
            config
                .service
                .as_ref()
                .is_some_and(|service| service.name == self.names.service && service.namespace == self.names.namespace)
        };
        let bundle = |config: ClientConfig| {
            // What is no text holds no authority in PEM.
            config.bundle.and_then(|ByteString(bytes)| String::from_utf8(bytes).ok()).unwrap_or_default()
        };
        let value = configs.into_iter().filter(|(_, config)| ours(config)).map(|(name, config)| (name, bundle(config)));
        Ok(Seen { version, value: value.collect() })
    }

    /// Has all webhooks of the registration that ask us trust these authorities, in PEM.
    pub async fn bundles_write(
        &self,
        registration: Registration,
        seen: &Seen<Bundles>,
        authorities: &str,
    ) -> Result<Written, RegistrationError> {
        let config = json!({"caBundle": ByteString(authorities.as_bytes().to_vec())});
        let metadata = json!({"resourceVersion": seen.version});
        let (path, name) = (registration.path(), registration.name());
        match registration {
            Registration::Validation => {
                let webhooks: Vec<Value> =
                    seen.value.iter().map(|(name, _)| json!({"name": name, "clientConfig": config})).collect();
                let patch = json!({"metadata": metadata, "webhooks": webhooks});
                // Such a patch finds the items of the list by their names.
                self.patch(path, name, &Patch::Strategic(&patch)).await
            }
            Registration::Conversion => {
                let spec = json!({"conversion": {"webhook": {"clientConfig": config}}});
                self.patch(path, name, &Patch::Merge(&json!({"metadata": metadata, "spec": spec}))).await
            }
        }
    }

    /// Tells whenever something about the Secret or a registration may have changed, and for the first time soon. Ends with
    /// the tasks.
    pub fn watch(&self) -> (Arc<Notify>, Tasks) {
        let changed = Arc::new(Notify::new());
        let mut tasks = JoinSet::new();
        let objects = Registration::ALL
            .map(|registration| (registration.path().to_owned(), registration.name().to_owned()))
            .into_iter()
            .chain([(self.secret_path(), self.names.secret.clone())]);
        for (path, name) in objects {
            tasks.spawn(follow(self.server.clone(), path, name, changed.clone()));
        }
        (changed, Tasks(tasks))
    }

    fn secret_path(&self) -> String {
        format!("/api/v1/namespaces/{}/secrets", self.names.namespace)
    }

    async fn get<T: for<'de> Deserialize<'de>>(&self, path: &str, name: &str) -> Result<Option<T>, RegistrationError> {
        let failed = |reason: String| RegistrationError { verb: "read", what: name.to_owned(), reason };
        match self.server.get(Request::new(path).get(name, &GetParams::default())).await {
            // The text of the error would hold parts of the answer, and with it of a key.
            Ok(text) => {
                serde_json::from_slice(&text).map(Some).map_err(|_| failed("it is not what it should be".into()))
            }
            Err(Failure::Refused { code: 404, .. }) => Ok(None),
            Err(failure) => Err(failed(failure.to_string())),
        }
    }

    async fn patch(&self, path: &str, name: &str, patch: &Patch<&Value>) -> Result<Written, RegistrationError> {
        let params = PatchParams { field_manager: Some(FIELD_MANAGER.to_owned()), ..PatchParams::default() };
        written("patch", name, self.server.get(Request::new(path).patch(name, &params, patch)).await)
    }
}

impl fmt::Debug for Registrations {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Registrations").field("names", &self.names).finish_non_exhaustive()
    }
}

/// What came of a write of this object.
fn written(verb: &'static str, what: &str, result: Result<Vec<u8>, Failure>) -> Result<Written, RegistrationError> {
    match result {
        Ok(_) => Ok(Written::Done),
        // Another one was quicker; or it is gone, and the next look will tell.
        Err(Failure::Refused { code: 404 | 409, .. }) => Ok(Written::Overtaken),
        Err(failure) => Err(RegistrationError { verb, what: what.to_owned(), reason: failure.to_string() }),
    }
}

/// Watches one object. What comes is not read: a watch begins by telling what is there, so that whatever changed while
/// nobody watched is noticed as well.
async fn follow(server: Server, path: String, name: String, changed: Arc<Notify>) {
    let mut failures: u32 = 0;
    loop {
        let params = WatchParams {
            timeout: Some(WATCH_SECONDS),
            field_selector: Some(format!("metadata.name={name}")),
            bookmarks: false,
            ..WatchParams::default()
        };
        let limit = Duration::from_secs(WATCH_SECONDS.into()).saturating_add(WATCH_OVERTIME);
        let watched = tokio::time::timeout(limit, async {
            let mut body = server.open(Request::new(&path).watch(&params, "0")).await?;
            while next_data(&mut body).await?.is_some() {
                changed.notify_one();
            }
            Ok::<(), Failure>(())
        });
        match watched.await {
            Ok(Ok(())) | Err(_) => failures = 0,
            Ok(Err(failure)) => {
                failures = failures.saturating_add(1);
                tracing::debug!(name, error = %failure, "cannot watch");
            }
        }
        // It may have changed or not.
        changed.notify_one();
        tokio::time::sleep(BACKOFF.delay(failures)).await;
    }
}

fn null_to_empty<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use ::kube::client::{Body, Client};
    use expect_test::{Expect, expect};
    use http::{Request, Response};
    use http_body_util::BodyExt;
    use tower::BoxError;

    use super::*;

    /// Method, path and body of each request.
    type Asked = Arc<Mutex<Vec<String>>>;

    /// A server that gives one answer, and what it was asked.
    fn server(code: u16, answer: &Value) -> (Registrations, Asked) {
        let (asked, answer) = (Asked::default(), answer.to_string());
        let log = asked.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let (log, answer) = (log.clone(), answer.clone());
            async move {
                let kind = request.headers().get("content-type").map_or("", |kind| kind.to_str().unwrap());
                let line = format!("{} {} {kind}", request.method(), request.uri());
                let body = request.into_body().collect().await?.to_bytes();
                log.lock().unwrap().push(format!("{line}\n{}", String::from_utf8_lossy(&body)).trim_end().to_owned());
                Ok::<_, BoxError>(Response::builder().status(code).body(Body::from(answer.into_bytes())).unwrap())
            }
        });
        let names =
            WebhookNames { namespace: "m".to_owned(), service: "hooks".to_owned(), secret: "certificate".to_owned() };
        (Registrations::new(Client::new(service, "default"), names), asked)
    }

    fn check(asked: &Asked, expected: Expect) {
        expected.assert_eq(&std::mem::take(&mut *asked.lock().unwrap()).join("\n"));
    }

    fn config(service: &str, bundle: Option<&str>) -> Value {
        json!({"service": {"name": service, "namespace": "m", "path": "/x", "port": 443}, "caBundle": bundle})
    }

    #[tokio::test]
    async fn contract_7_7_the_secret_is_read_patched_and_made() {
        let (registrations, asked) = server(
            200,
            &json!({"metadata": {"resourceVersion": "7", "name": "certificate"}, "data": {"a": "QQ==", "b": "/w=="}}),
        );
        assert_eq!(registrations.server_name(), "hooks.m.svc");
        let seen = registrations.secret().await.unwrap();
        assert_eq!(seen.value, BTreeMap::from([("a".to_owned(), "A".to_owned())]), "what is no text is left out");
        let texts = BTreeMap::from([("tls.crt", "C".to_owned())]);
        assert_eq!(registrations.secret_write(&seen, &texts).await, Ok(Written::Done));
        check(
            &asked,
            expect![[r#"
            GET /api/v1/namespaces/m/secrets/certificate
            PATCH /api/v1/namespaces/m/secrets/certificate?&fieldManager=MetalLB application/merge-patch+json
            {"data":{"tls.crt":"Qw=="},"metadata":{"resourceVersion":"7"}}"#]],
        );
        // As the manifests have it: there, and empty.
        let (registrations, _) = server(200, &json!({"metadata": {"resourceVersion": "7"}, "data": null}));
        assert!(registrations.secret().await.unwrap().value.is_empty());
        let (missing, asked) = server(404, &json!({"code": 404}));
        let seen = missing.secret().await.unwrap();
        assert!(seen.value.is_empty());
        let (registrations, made) = server(201, &json!({}));
        assert_eq!(registrations.secret_write(&seen, &texts).await, Ok(Written::Done));
        check(
            &made,
            expect![[r#"
            POST /api/v1/namespaces/m/secrets?&fieldManager=MetalLB application/json
            {"apiVersion":"v1","data":{"tls.crt":"Qw=="},"kind":"Secret","metadata":{"name":"certificate"},"type":"Opaque"}"#]],
        );
        check(&asked, expect!["GET /api/v1/namespaces/m/secrets/certificate"]);
    }

    #[tokio::test]
    async fn contract_4_4_only_webhooks_that_ask_us_are_told_whom_to_trust() {
        let (registrations, asked) = server(
            200,
            &json!({"metadata": {"resourceVersion": "7"}, "webhooks": [
                {"name": "one", "clientConfig": config("hooks", Some("QQ=="))},
                {"name": "other", "clientConfig": config("others", None)},
                {"name": "far", "clientConfig": {"url": "https://example.com"}},
                {"name": "two", "clientConfig": config("hooks", None)},
            ]}),
        );
        let seen = registrations.bundles(Registration::Validation).await.unwrap();
        let text = |name: &str, bundle: &str| (name.to_owned(), bundle.to_owned());
        assert_eq!(seen.value, [text("one", "A"), text("two", "")]);
        registrations.bundles_write(Registration::Validation, &seen, "B").await.unwrap();
        check(
            &asked,
            expect![[r#"
            GET /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/metallb-webhook-configuration
            PATCH /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations/metallb-webhook-configuration?&fieldManager=MetalLB application/strategic-merge-patch+json
            {"metadata":{"resourceVersion":"7"},"webhooks":[{"clientConfig":{"caBundle":"Qg=="},"name":"one"},{"clientConfig":{"caBundle":"Qg=="},"name":"two"}]}"#]],
        );

        let conversion = json!({"strategy": "Webhook", "webhook": {"clientConfig": config("hooks", Some("QQ=="))}});
        let (registrations, asked) =
            server(200, &json!({"metadata": {"resourceVersion": "8"}, "spec": {"conversion": conversion}}));
        let seen = registrations.bundles(Registration::Conversion).await.unwrap();
        assert_eq!(seen.value, [text("bgppeers.metallb.io", "A")]);
        registrations.bundles_write(Registration::Conversion, &seen, "B").await.unwrap();
        check(
            &asked,
            expect![[r#"
            GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions/bgppeers.metallb.io
            PATCH /apis/apiextensions.k8s.io/v1/customresourcedefinitions/bgppeers.metallb.io?&fieldManager=MetalLB application/merge-patch+json
            {"metadata":{"resourceVersion":"8"},"spec":{"conversion":{"webhook":{"clientConfig":{"caBundle":"Qg=="}}}}}"#]],
        );

        for (code, registration, answer) in [
            (200, Registration::Conversion, json!({"metadata": {"resourceVersion": "8"}, "spec": {}})),
            (
                200,
                Registration::Conversion,
                json!({"metadata": {"resourceVersion": "8"}, "spec": {"conversion": {"strategy": "None"}}}),
            ),
            (200, Registration::Validation, json!({"metadata": {"resourceVersion": "8"}, "webhooks": null})),
            (404, Registration::Validation, json!({})),
            (404, Registration::Conversion, json!({})),
        ] {
            let seen = server(code, &answer).0.bundles(registration).await.unwrap();
            assert!(seen.value.is_empty(), "{answer}");
        }
    }

    #[tokio::test]
    async fn who_comes_second_is_told_so_and_what_fails_is_told_without_keys() {
        let seen = Seen { version: Some("7".to_owned()), value: Vec::new() };
        let texts = BTreeMap::from([("tls.key", "hidden".to_owned())]);
        for code in [404, 409] {
            let (registrations, _) = server(code, &json!({"code": code}));
            assert_eq!(registrations.secret_write(&seen, &texts).await, Ok(Written::Overtaken));
            let written = registrations.bundles_write(Registration::Validation, &seen, "B").await;
            assert_eq!(written, Ok(Written::Overtaken));
        }
        let (forbidden, _) = server(403, &json!({"code": 403, "message": "no"}));
        let texts_of = |error: RegistrationError| error.to_string();
        assert_eq!(
            forbidden.secret().await.err().map(texts_of).unwrap(),
            "cannot read certificate: the API server said 403: no"
        );
        assert_eq!(
            forbidden.secret_write(&seen, &texts).await.map_err(texts_of),
            Err("cannot patch certificate: the API server said 403: no".to_owned())
        );
        let (nonsense, _) = server(200, &json!({"metadata": "hidden", "data": "hidden"}));
        assert_eq!(
            nonsense.secret().await.err().map(texts_of).unwrap(),
            "cannot read certificate: it is not what it should be"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn single_objects_are_watched_and_every_end_of_a_watch_is_a_reason_to_look() {
        let (registrations, asked) = server(200, &json!({}));
        let (changed, tasks) = registrations.watch();
        changed.notified().await;
        changed.notified().await;
        drop(tasks);
        let mut lines = std::mem::take(&mut *asked.lock().unwrap());
        lines.sort();
        lines.dedup();
        expect![[r#"
            GET /api/v1/namespaces/m/secrets?&watch=true&timeoutSeconds=290&fieldSelector=metadata.name%3Dcertificate&resourceVersion=0
            GET /apis/admissionregistration.k8s.io/v1/validatingwebhookconfigurations?&watch=true&timeoutSeconds=290&fieldSelector=metadata.name%3Dmetallb-webhook-configuration&resourceVersion=0
            GET /apis/apiextensions.k8s.io/v1/customresourcedefinitions?&watch=true&timeoutSeconds=290&fieldSelector=metadata.name%3Dbgppeers.metallb.io&resourceVersion=0"#]].assert_eq(&lines.join("\n"));
    }
}
