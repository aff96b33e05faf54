//! How to reach the API server: which one, as whom, and when to give a connection up.
//!
//! The client is put together by hand, of kube's parts, for one reason: the ready-made one sets no TCP keepalive, and a
//! watch over a connection that died without a word (a node that vanished, a firewall that forgot) would hang for
//! minutes.

use std::path::Path;
use std::time::Duration;

use ::kube::Config;
use ::kube::client::{Body, Client, ClientBuilder, ConfigExt};
use ::kube::config::{KubeConfigOptions, Kubeconfig};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use sha2::{Digest, Sha256};
use tower::BoxError;
use tower::util::MapErrLayer;

use super::WRITES_AT_ONCE;

/// How long the TCP handshake may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection without traffic is probed after this time,
const KEEPALIVE_TIME: Duration = Duration::from_secs(8);
/// at this pace,
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(4);
/// and given up after this many probes without an answer: after 20 seconds in all.
const KEEPALIVE_RETRIES: u32 = 3;
/// A connection with traffic is given up when nothing was acknowledged for this long.
const UNACKNOWLEDGED_TIMEOUT: Duration = Duration::from_secs(20);
/// Connections without work are closed after this time.
const POOL_IDLE_TIMEOUT: Duration = Duration::from_mins(1);

/// Why there is no way to the API server. The causes are in the text and no sources: their own texts hold their sources
/// already, so that a chain of them would say everything twice.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: {reason}")]
    Kubeconfig {
        /// Which one.
        path: String,
        /// Why.
        reason: ::kube::config::KubeconfigError,
    },
    /// Neither runs this in a cluster nor is there a kubeconfig.
    #[error("not in a cluster ({cluster}) and no kubeconfig ({kubeconfig}); name one by --kubeconfig")]
    NoConfiguration {
        /// Why not as a pod.
        cluster: ::kube::config::InClusterError,
        /// Why not by the default kubeconfig.
        kubeconfig: ::kube::config::KubeconfigError,
    },
    /// The configuration asks for a proxy.
    #[error("the API server is to be reached through the proxy {0}, which is not supported; unset it")]
    Proxy(String),
    /// Certificates, keys or credentials cannot be used.
    #[error("cannot use the credentials or certificates: {0}")]
    Credentials(Box<::kube::Error>),
}

impl From<::kube::Error> for ConnectError {
    fn from(error: ::kube::Error) -> ConnectError {
        ConnectError::Credentials(Box::new(error))
    }
}

/// A client for the API server: of this kubeconfig; else, in a pod, of its service account; else of the default
/// kubeconfig (`KUBECONFIG`, `~/.kube/config`). Does not talk to the server yet.
///
/// `user_agent` is what the server's audit log shows.
pub async fn connect(kubeconfig: Option<&Path>, user_agent: &str) -> Result<Client, ConnectError> {
    client(configuration(kubeconfig).await?, user_agent)
}

/// Tells the cluster that [`connect`] leads to from others, without a word to it: by the address of its API server, which
/// is the same in many clusters, and by whom its certificates are from.
pub async fn cluster_name(kubeconfig: Option<&Path>) -> Result<String, ConnectError> {
    Ok(name_of(&configuration(kubeconfig).await?))
}

fn name_of(config: &Config) -> String {
    let mut authorities = Sha256::new();
    for certificate in config.root_cert.iter().flatten() {
        authorities.update(certificate);
    }
    let digest = authorities.finalize();
    let digits = digest.iter().take(8).fold(String::new(), |digits, byte| digits + &format!("{byte:02x}"));
    format!("{} {digits}", config.cluster_url)
}

async fn configuration(kubeconfig: Option<&Path>) -> Result<Config, ConnectError> {
    match kubeconfig {
        Some(path) => from_file(path).await,
        None => from_surroundings().await,
    }
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let failed = |reason| ConnectError::Kubeconfig { path: path.display().to_string(), reason };
    let kubeconfig = Kubeconfig::read_from(path).map_err(failed)?;
    Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await.map_err(failed)
}

async fn from_surroundings() -> Result<Config, ConnectError> {
    match Config::incluster_env() {
        Ok(config) => Ok(config),
        Err(cluster) => Config::from_kubeconfig(&KubeConfigOptions::default())
            .await
            .map_err(|kubeconfig| ConnectError::NoConfiguration { cluster, kubeconfig }),
    }
}

pub(super) fn client(mut config: Config, user_agent: &str) -> Result<Client, ConnectError> {
    if let Some(proxy) = config.proxy_url {
        // Host and port alone: the rest may hold a password.
        return Err(ConnectError::Proxy(proxy.host().unwrap_or_default().to_owned()));
    }
    if let (Ok(name), Ok(value)) = ("user-agent".parse(), user_agent.parse()) {
        config.headers.push((name, value));
    }
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    tcp.set_keepalive(Some(KEEPALIVE_TIME));
    tcp.set_keepalive_interval(Some(KEEPALIVE_INTERVAL));
    tcp.set_keepalive_retries(Some(KEEPALIVE_RETRIES));
    tcp.set_tcp_user_timeout(Some(UNACKNOWLEDGED_TIMEOUT));
    let tls = config.rustls_https_connector_with_connector(tcp)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(WRITES_AT_ONCE)
        .build::<_, Body>(tls);
    let builder = ClientBuilder::new(http, config.default_namespace.clone())
        .with_layer(&MapErrLayer::new(BoxError::from))
        .with_layer(&config.extra_headers_layer()?);
    let base = config.base_uri_layer();
    Ok(match config.auth_layer()? {
        Some(auth) => builder.with_layer(&auth).with_layer(&base).build(),
        None => builder.with_layer(&base).build(),
    })
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::TcpListener;

    use ::kube::api::ListParams;
    use ::kube::core::Request;

    use super::*;
    use crate::kube::request::Server;

    fn kubeconfig(cluster: &str) -> Kubeconfig {
        Kubeconfig::from_yaml(&format!(
            "{{apiVersion: v1, kind: Config, current-context: x, clusters: [{{name: c, cluster: {{{cluster}}}}}], \
             users: [{{name: u, user: {{token: hidden}}}}], contexts: [{{name: x, context: {{cluster: c, user: u}}}}]}}"
        ))
        .unwrap()
    }

    async fn client_of(cluster: &str) -> Result<Client, ConnectError> {
        let options = KubeConfigOptions::default();
        client(Config::from_custom_kubeconfig(kubeconfig(cluster), &options).await.unwrap(), "metallb-speaker/1.0")
    }

    #[tokio::test]
    async fn requests_carry_who_we_are() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = client_of(&format!("server: 'http://{}'", listener.local_addr().unwrap())).await.unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut bytes = vec![0; 4_096];
            let length = stream.read(&mut bytes).unwrap();
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\n{}").unwrap();
            String::from_utf8_lossy(&bytes[..length]).to_lowercase()
        });
        let answer = Server::new(client).get(Request::new("/api/v1/nodes").list(&ListParams::default())).await;
        assert_eq!(answer, Ok(b"{}".to_vec()));
        let request = server.join().unwrap();
        assert!(request.starts_with("get /api/v1/nodes"), "{request}");
        assert!(request.contains("user-agent: metallb-speaker/1.0\r\n"), "{request}");
        assert!(request.contains("authorization: bearer hidden\r\n"), "{request}");
    }

    #[tokio::test]
    async fn clusters_have_names_by_address_and_authority() {
        let name = async |cluster: &str| {
            let options = KubeConfigOptions::default();
            name_of(&Config::from_custom_kubeconfig(kubeconfig(cluster), &options).await.unwrap())
        };
        let one = name("server: 'https://10.96.0.1'").await;
        assert_eq!(one, "https://10.96.0.1/ e3b0c44298fc1c14");
        let authority = "certificate-authority-data: \
            LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCkFBQUEKLS0tLS1FTkQgQ0VSVElGSUNBVEUtLS0tLQo=";
        let other = name(&format!("server: 'https://10.96.0.1', {authority}")).await;
        assert!(other != one && other.starts_with("https://10.96.0.1/ "), "{other}");
    }

    #[tokio::test]
    async fn an_unreachable_server_is_told_in_words() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let client = client_of(&format!("server: 'http://{address}'")).await.unwrap();
        let failure = Server::new(client).get(Request::new("/").list(&ListParams::default())).await.unwrap_err();
        assert_eq!(failure.to_string(), "client error (Connect): tcp connect error: Connection refused (os error 111)");
    }

    #[tokio::test]
    async fn a_proxy_is_refused_without_its_password() {
        let error =
            client_of("server: 'http://10.0.0.1', proxy-url: 'http://user:hidden@proxy.example:3128'").await.err();
        assert_eq!(
            error.unwrap().to_string(),
            "the API server is to be reached through the proxy proxy.example, which is not supported; unset it"
        );
    }

    #[tokio::test]
    async fn a_kubeconfig_that_is_not_there_is_named() {
        let error = connect(Some(Path::new("no-such-kubeconfig")), "x").await.err().unwrap();
        assert!(error.to_string().starts_with("cannot use the kubeconfig no-such-kubeconfig: "), "{error}");
        assert!(std::error::Error::source(&error).is_none(), "the reason would be told twice");
    }
}
