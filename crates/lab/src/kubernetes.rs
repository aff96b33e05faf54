//! A real Kubernetes at the level of its API: etcd and kube-apiserver on a host of the lab, kube-proxy on others.
//!
//! There is no scheduler, no controller and no kubelet: tests write Nodes and EndpointSlices themselves, and start our
//! program directly. So every process is a child of the test, and a cluster is there in seconds. [`crate::cluster`] adds
//! what is missing to a whole one.
//!
//! The program that is all of these is made by `scripts/kubernetes.sh`; the lab does not use one whose sources differ.

pub(crate) mod certificates;

use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::str::FromStr;

use anyhow::{Context as _, Result, bail, ensure};
use kit::Duration;
use serde_json::Value;
use sys::process::Signal;

use crate::confined::{self, Capabilities};
use crate::{Host, Output, Process, built, eventually, http};

use self::certificates::Credentials;

const START_LIMIT: Duration = Duration::from_secs(120);
const REQUEST_LIMIT: Duration = Duration::from_secs(30);
const API_PORT: u16 = 6443;
/// `kubectl proxy` on the control host: the API without TLS, as the administrator, for the test itself.
const PROXY: &str = "127.0.0.1:8001";

/// Where the API server notes what controller and speakers ask of it.
const AUDIT_LOG: &str = "audit.json";

/// Addresses of ClusterIP Services.
pub const SERVICE_NETWORKS: &str = "10.96.0.0/16,fd00:96::/112";
/// The namespace of MetalLB.
pub const NAMESPACE: &str = "metallb-system";

/// Who talks to the API.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum User {
    /// May do everything.
    Administrator,
    /// The service account of MetalLB's controller, with the rights that its manifests give.
    Controller,
    /// The service account of MetalLB's speaker.
    Speaker,
}

impl User {
    const ALL: [User; 3] = [User::Administrator, User::Controller, User::Speaker];

    const fn token(self) -> &'static str {
        match self {
            User::Administrator => "administrator",
            User::Controller => "controller",
            User::Speaker => "speaker",
        }
    }

    /// What the API server calls it.
    pub fn name(self) -> String {
        match self {
            User::Administrator => "admin".to_owned(),
            User::Controller | User::Speaker => format!("system:serviceaccount:{NAMESPACE}:{}", self.token()),
        }
    }

    /// Its line in the API server's token file: token, name, uid, groups.
    fn token_line(self) -> String {
        let (token, name) = (self.token(), self.name());
        match self {
            User::Administrator => format!("{token},{name},1,\"system:masters\"\n"),
            User::Controller | User::Speaker => format!(
                "{token},{name},{token},\
                 \"system:serviceaccounts,system:serviceaccounts:{NAMESPACE},system:authenticated\"\n"
            ),
        }
    }
}

/// A face of our program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Face {
    /// Gives addresses to Services.
    Controller,
    /// Announces them; its node is named after its host.
    Speaker,
}

/// How kube-proxy does its work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ProxyMode {
    /// nftables.
    Nftables,
    /// iptables.
    Iptables,
}

impl FromStr for ProxyMode {
    type Err = anyhow::Error;

    fn from_str(name: &str) -> Result<ProxyMode> {
        match name {
            "nftables" => Ok(ProxyMode::Nftables),
            "iptables" => Ok(ProxyMode::Iptables),
            _ => bail!("{name:?} is no mode of kube-proxy; there are nftables and iptables"),
        }
    }
}

/// A request that was answered, as the audit log of the API server has it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditedRequest {
    /// Who asked, by [`User::name`].
    pub user: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch` or `delete`.
    pub verb: String,
    /// The plural of the kind, with the subresource if there is one: `services/status`.
    pub resource: String,
    /// The namespace; empty where there is none.
    pub namespace: String,
    /// The name; empty where there is none.
    pub name: String,
    /// The address it came from.
    pub from: String,
    /// The status of the answer.
    pub code: u64,
}

impl AuditedRequest {
    fn read(line: &str) -> Result<AuditedRequest> {
        let event: Value = serde_json::from_str(line)?;
        let text = |path: &str| event.pointer(path).and_then(Value::as_str).unwrap_or_default().to_owned();
        let subresource = text("/objectRef/subresource");
        let resource = text("/objectRef/resource");
        Ok(AuditedRequest {
            user: text("/user/username"),
            from: text("/sourceIPs/0"),
            verb: text("/verb"),
            resource: if subresource.is_empty() { resource } else { format!("{resource}/{subresource}") },
            namespace: text("/objectRef/namespace"),
            name: text("/objectRef/name"),
            code: event.pointer("/responseStatus/code").and_then(Value::as_u64).unwrap_or_default(),
        })
    }

    /// True for what changes nothing.
    pub fn is_read(&self) -> bool {
        matches!(self.verb.as_str(), "get" | "list" | "watch")
    }
}

/// A running API.
#[derive(Debug)]
pub struct Cluster {
    control: Host,
    address: IpAddr,
    program: PathBuf,
    api: Process,
    _etcd: Process,
    _proxy: Process,
}

impl Cluster {
    /// Starts etcd and the API server on a host, which the others reach at `address`, and waits until it is ready.
    pub fn start(control: &Host, address: IpAddr) -> Result<Cluster> {
        let program = built("kubernetes")?;
        certificates::authority_make(control, address)?;
        let tokens: String = User::ALL.into_iter().map(User::token_line).collect();
        fs::write(control.folder().join("tokens.csv"), tokens)?;
        fs::write(control.folder().join("audit.yaml"), audit_policy())?;
        for user in User::ALL {
            let credentials = format!("token: {}", user.token());
            fs::write(kubeconfig_path(control, user), kubeconfig(control, address, &credentials))?;
        }
        let etcd = etcd_start(control, &program)?;
        let api = api_start(control, &program, address)?;
        let mut kubectl = Command::new(&program);
        kubectl.args(["kubectl", "proxy", "--port=8001", "--kubeconfig"]);
        let proxy = control.spawn("kubectl-proxy", with(kubectl, kubeconfig_path(control, User::Administrator)))?;
        let cluster = Cluster { control: control.clone(), address, program, api, _etcd: etcd, _proxy: proxy };
        cluster.wait_ready()?;
        Ok(cluster)
    }

    /// The host that it runs on.
    pub fn control(&self) -> &Host {
        &self.control
    }

    /// The file that lets a program be this user.
    pub fn kubeconfig(&self, user: User) -> PathBuf {
        kubeconfig_path(&self.control, user)
    }

    /// The program that is all of Kubernetes; its first argument tells as which part it runs.
    pub fn program(&self) -> &Path {
        &self.program
    }

    /// Makes a certificate for a component, and gives back the file that lets it be this user.
    pub(crate) fn component(&self, credentials: &Credentials) -> Result<PathBuf> {
        let (certificate, key) = certificates::client_make(&self.control, credentials)?;
        let credentials_text =
            format!("client-certificate: \"{}\", client-key: \"{}\"", certificate.display(), key.display());
        let file = self.control.folder().join(format!("{}.kubeconfig", credentials.file));
        fs::write(&file, kubeconfig(&self.control, self.address, &credentials_text))?;
        Ok(file)
    }

    /// Runs `kubectl` as the administrator.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl_any(arguments)?.ok().with_context(|| format!("kubectl {}", arguments.join(" ")))
    }

    /// Runs `kubectl` as the administrator, whatever comes of it; its warnings are in the standard error.
    pub fn kubectl_any(&self, arguments: &[&str]) -> Result<Output> {
        let mut command = Command::new(&self.program);
        command.args(["kubectl", "--cache-dir=/run/kubectl", "--kubeconfig"]);
        let mut command = with(command, self.kubeconfig(User::Administrator));
        command.args(arguments);
        self.control.output(command)
    }

    /// Runs `helm` as the administrator.
    pub fn helm(&self, arguments: &[&str]) -> Result<String> {
        let mut command = crate::helm::command()?;
        command.arg("--kubeconfig").arg(self.kubeconfig(User::Administrator)).args(arguments);
        self.control.output(command)?.ok().with_context(|| format!("helm {}", arguments.join(" ")))
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &str) -> Result<()> {
        let file = self.control.folder().join("apply.yaml");
        fs::write(&file, manifests)?;
        self.apply_path(&file)
    }

    /// Applies a file or a folder of manifests.
    pub fn apply_path(&self, path: &Path) -> Result<()> {
        let path = path.to_str().context("a path that is not text")?;
        self.kubectl(&["apply", "--server-side", "--force-conflicts", "-f", path]).map(drop)
    }

    /// Sends a request to the API as the administrator and gives back the object in the answer.
    pub fn request(&self, method: &str, path: &str, body: Option<&Value>) -> Result<Value> {
        let answer = self.request_any(method, path, body)?;
        ensure!((200..300).contains(&answer.status), "{method} {path}: {} {}", answer.status, answer.body);
        serde_json::from_str(&answer.body).with_context(|| format!("{method} {path}: {}", answer.body))
    }

    fn request_any(&self, method: &str, path: &str, body: Option<&Value>) -> Result<http::Response> {
        // The kind of patch that needs nothing but the fields that change.
        let kind = if method == "PATCH" { "application/merge-patch+json" } else { "application/json" };
        let (method, path, body) = (method.to_owned(), path.to_owned(), body.map(Value::to_string));
        let server: SocketAddr = PROXY.parse()?;
        self.control.run(async move || {
            let body = body.as_deref().map(|body| (kind, body));
            let request = http::request(server, &method, &path, body);
            tokio::time::timeout(REQUEST_LIMIT.into(), request).await.context("the API does not answer")?
        })
    }

    /// An object, by its path in the API.
    pub fn get(&self, path: &str) -> Result<Value> {
        self.request("GET", path, None)
    }

    /// Makes an object; `path` is that of its list.
    pub fn create(&self, path: &str, object: &Value) -> Result<Value> {
        self.request("POST", path, Some(object))
    }

    /// Changes the fields of an object that `patch` has, also of its status by `path/status`.
    pub fn patch(&self, path: &str, patch: &Value) -> Result<Value> {
        self.request("PATCH", path, Some(patch))
    }

    /// Removes an object.
    pub fn delete(&self, path: &str) -> Result<()> {
        self.request("DELETE", path, None).map(drop)
    }

    /// The requests of controller and speakers that were answered so far, in order; a watch counts when it has ended.
    pub fn audit(&self) -> Result<Vec<AuditedRequest>> {
        let log = fs::read_to_string(self.control.folder().join(AUDIT_LOG)).unwrap_or_default();
        // The last line may be half written.
        let complete = log.split_inclusive('\n').filter(|line| line.ends_with('\n'));
        complete.map(|line| AuditedRequest::read(line).with_context(|| line.to_owned())).collect()
    }

    /// Makes a Node that is ready and has these addresses.
    pub fn add_node(&self, name: &str, addresses: &[IpAddr]) -> Result<()> {
        let addresses: Vec<_> = addresses
            .iter()
            .map(|address| serde_json::json!({"type": "InternalIP", "address": address.to_string()}))
            .collect();
        let labels = serde_json::json!({"kubernetes.io/hostname": name, "kubernetes.io/os": "linux"});
        let node = serde_json::json!({"kind": "Node", "metadata": {"name": name, "labels": labels}});
        self.create("/api/v1/nodes", &node)?;
        self.patch(
            &format!("/api/v1/nodes/{name}/status"),
            &serde_json::json!({"status": {
                "addresses": addresses,
                "conditions": [{"type": "Ready", "status": "True", "reason": "Lab", "message": "made by the lab"}],
            }}),
        )
        .map(drop)
    }

    /// Runs kube-proxy on a node.
    pub fn proxy_start(&self, node: &Host, mode: ProxyMode) -> Result<Process> {
        let mut command = Command::new(&self.program);
        command.arg("kube-proxy").args(proxy_arguments(node, mode, &self.kubeconfig(User::Administrator)));
        let proxy = node.spawn("kube-proxy", command)?;
        eventually(START_LIMIT, || {
            node.run(async || {
                let health: SocketAddr = "127.0.0.1:10256".parse()?;
                let answer = http::request(health, "GET", "/healthz", None).await?;
                ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
                Ok(())
            })
        })
        .with_context(|| format!("starting kube-proxy on {}: {}", node.name(), proxy.log()))?;
        Ok(proxy)
    }

    /// Runs our program on a host, as one of its faces, with the rights of a user and the capabilities of a container. It
    /// takes itself for the pod that [`Cluster::pod_of`] names. `more` are arguments besides those that it must have.
    pub fn ours_start(
        &self,
        host: &Host,
        program: &Path,
        (face, user): (Face, User),
        more: &[String],
    ) -> Result<Process> {
        let mut command;
        match face {
            Face::Controller => {
                command = confined::command(program, Capabilities::None);
                command.arg("controller");
            }
            Face::Speaker => {
                command = confined::command(program, Capabilities::NetRaw);
                command.args(["speaker", "--node-name", host.name()]);
            }
        }
        command.args(["--namespace", NAMESPACE, "--pod-name", &Cluster::pod_of(host, face)]);
        command.args(more).arg("--kubeconfig");
        let name = if face == Face::Controller { "controller" } else { "speaker" };
        host.spawn(name, with(command, self.kubeconfig(user)))
    }

    /// The name of the pod that our program on a host takes itself for.
    pub fn pod_of(host: &Host, face: Face) -> String {
        let name = if face == Face::Controller { "controller" } else { "speaker" };
        format!("{name}-{}", host.name())
    }

    /// Freezes the API server: connections stay open, nothing is answered.
    pub fn api_pause(&self) -> Result<()> {
        self.api.signal(Signal::Stop)
    }

    /// Ends a freeze.
    pub fn api_resume(&self) -> Result<()> {
        self.api.signal(Signal::Continue)
    }

    /// Kills the API server: connections break, new ones are refused. What is stored stays.
    pub fn api_kill(&mut self) -> Result<()> {
        self.api.kill()
    }

    /// Starts the API server again after [`Cluster::api_kill`], and waits until it is ready.
    pub fn api_restart(&mut self) -> Result<()> {
        self.api = api_start(&self.control, &self.program, self.address)?;
        self.wait_ready()
    }

    fn wait_ready(&self) -> Result<()> {
        eventually(START_LIMIT, || {
            let answer = self.request_any("GET", "/readyz", None)?;
            ensure!(answer.status == 200, "{} {}", answer.status, answer.body);
            // The namespace that everything goes to by default is made a moment later.
            self.get("/api/v1/namespaces/default").map(drop)
        })
        .context("starting the API server")
    }
}

/// The arguments of kube-proxy on a node, for the user whose kubeconfig this is.
pub(crate) fn proxy_arguments(node: &Host, mode: ProxyMode, kubeconfig: &Path) -> Vec<String> {
    let mode = match mode {
        ProxyMode::Nftables => "nftables",
        ProxyMode::Iptables => "iptables",
    };
    vec![
        // Connection tracking has limits that belong to the machine; 0 leaves them alone.
        "--conntrack-max-per-core=0".to_owned(),
        "--conntrack-min=0".to_owned(),
        format!("--proxy-mode={mode}"),
        format!("--hostname-override={}", node.name()),
        format!("--kubeconfig={}", kubeconfig.display()),
    ]
}

fn with(mut command: Command, argument: impl AsRef<std::ffi::OsStr>) -> Command {
    command.arg(argument);
    command
}

fn kubeconfig_path(control: &Host, user: User) -> PathBuf {
    control.folder().join(format!("{}.kubeconfig", user.token()))
}

/// A kubeconfig for whoever has these credentials, in the form of a field `user` of it.
fn kubeconfig(control: &Host, address: IpAddr, credentials: &str) -> String {
    let server = SocketAddr::new(address, API_PORT);
    let authority = control.folder().join(certificates::AUTHORITY);
    format!(
        "apiVersion: v1\nkind: Config\ncurrent-context: lab\n\
         clusters:\n- name: lab\n  cluster: {{server: \"https://{server}\", certificate-authority: \"{}\"}}\n\
         users:\n- name: lab\n  user: {{{credentials}}}\n\
         contexts:\n- name: lab\n  context: {{cluster: lab, user: lab, namespace: default}}\n",
        authority.display(),
    )
}

/// Notes each request of controller and speakers once, when it has been answered.
fn audit_policy() -> String {
    let users = [User::Controller.name(), User::Speaker.name()].join("\", \"");
    format!(
        "apiVersion: audit.k8s.io/v1\nkind: Policy\nomitStages: [RequestReceived, ResponseStarted]\n\
         rules:\n- {{level: Metadata, users: [\"{users}\"]}}\n- {{level: None}}\n"
    )
}

fn etcd_start(control: &Host, program: &Path) -> Result<Process> {
    let mut command = Command::new(program);
    command.args(["etcd", "--unsafe-no-fsync", "--log-level=warn", "--data-dir"]).arg(control.folder().join("etcd"));
    command.args(["--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379"]);
    command.args(["--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380"]);
    command.args(["--initial-cluster=default=http://127.0.0.1:2380"]);
    control.spawn("etcd", command)
}

fn api_start(control: &Host, program: &Path, address: IpAddr) -> Result<Process> {
    let file = |name: &str| control.folder().join(name);
    let mut command = Command::new(program);
    command.args(["kube-apiserver", "--etcd-servers=http://127.0.0.1:2379", "--authorization-mode=Node,RBAC"]);
    command.args(["--bind-address=::", "--allow-privileged", "--enable-aggregator-routing", "--profiling=false"]);
    command.arg(format!("--advertise-address={address}")).arg(format!("--service-cluster-ip-range={SERVICE_NETWORKS}"));
    command
        .arg("--kubelet-preferred-address-types=InternalIP")
        .arg(format!("--secure-port={API_PORT}"))
        .arg("--service-account-issuer=https://kubernetes.default.svc");
    for (flag, name) in [
        ("--tls-cert-file", "server.crt"),
        ("--tls-private-key-file", "server.key"),
        ("--client-ca-file", certificates::AUTHORITY),
        ("--kubelet-client-certificate", "to-kubelets.crt"),
        ("--kubelet-client-key", "to-kubelets.key"),
        ("--token-auth-file", "tokens.csv"),
        ("--audit-policy-file", "audit.yaml"),
        ("--audit-log-path", AUDIT_LOG),
        ("--service-account-key-file", certificates::ACCOUNTS_KEY),
        ("--service-account-signing-key-file", certificates::ACCOUNTS_KEY),
    ] {
        command.arg(flag).arg(file(name));
    }
    control.spawn("kube-apiserver", command)
}
