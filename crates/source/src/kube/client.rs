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

/// Why there is no way to the API server.
#[derive(Debug, thiserror::Error)]
pub enum ConnectError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: {source}")]
    Kubeconfig {
        /// Which one.
        path: String,
        /// Why.
        source: ::kube::config::KubeconfigError,
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
    Credentials(#[from] Box<::kube::Error>),
}

/// A client for the API server: of this kubeconfig; else, in a pod, of its service account; else of the default
/// kubeconfig (`KUBECONFIG`, `~/.kube/config`). Does not talk to the server yet.
///
/// `user_agent` is what the server's audit log shows.
pub async fn connect(kubeconfig: Option<&Path>, user_agent: &str) -> Result<Client, ConnectError> {
    let config = match kubeconfig {
        Some(path) => from_file(path).await?,
        None => from_surroundings().await?,
    };
    client(config, user_agent)
}

async fn from_file(path: &Path) -> Result<Config, ConnectError> {
    let failed = |source| ConnectError::Kubeconfig { path: path.display().to_string(), source };
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
    let tls = config.rustls_https_connector_with_connector(tcp).map_err(Box::new)?;
    let http = hyper_util::client::legacy::Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(POOL_IDLE_TIMEOUT)
        .pool_max_idle_per_host(WRITES_AT_ONCE)
        .build::<_, Body>(tls);
    let builder = ClientBuilder::new(http, config.default_namespace.clone())
        .with_layer(&MapErrLayer::new(BoxError::from))
        .with_layer(&config.extra_headers_layer().map_err(Box::new)?);
    let base = config.base_uri_layer();
    Ok(match config.auth_layer().map_err(Box::new)? {
        Some(auth) => builder.with_layer(&auth).with_layer(&base).build(),
        None => builder.with_layer(&base).build(),
    })
}
