//! A whole Kubernetes: the API of [`crate::kubernetes`] with scheduler and controllers, and nodes that run containers.
//!
//! ```text
//!  control (API, scheduler, controllers)    node1      node2   ...    hosts of the caller
//!     | 10.0.0.100, fd00::100                | .1        | .2
//!  ---+-------------------------------------+-----------+----------- a switch of the caller
//! ```
//!
//! Nodes are hosts with control groups of their own; pods get addresses of both families; images are made here
//! ([`Image`]), there is no registry and no DNS. Commands and logs of pods come by `kubectl`. When the program ends, however
//! it ends, nothing is left: namespaces take most of it along, and a process outside removes the control groups.
//!
//! The control plane is on a host without a service proxy: it reaches webhooks at the addresses of their pods.

mod boot;
mod groups;
mod image;
pub mod metallb;
mod node;
pub mod playground;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::SystemTime;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use serde_json::Value;

pub use self::image::{Content, Image, ImageFile};
use self::node::Node;
use crate::enter::enter_and_clean;
use crate::kubernetes::certificates::{ACCOUNTS_KEY, AUTHORITY, Credentials};
use crate::kubernetes::{self, ProxyMode};
use crate::{EnterError, Host, Lab, Process, Switch, eventually};

/// The image of the lab's own program for pods: a backend with the argument `backend`, a client with `get ADDRESS:PORT`.
pub const POD_IMAGE: &str = "test.local/pod:1";
const PAUSE_IMAGE: &str = "test.local/pause:1";

/// Where pods have their addresses.
pub const POD_NETWORKS: [&str; 2] = ["10.244.0.0/16", "fd00:244::/48"];

const CONTROL_NUMBER: u8 = 100;
const LIMIT: Duration = Duration::from_secs(120);

/// As [`crate::enter()`], for programs that start whole clusters: also what no namespace holds is gone in the end.
pub fn enter() -> Result<(), EnterError> {
    let run = groups::run_name();
    enter_and_clean(|| groups::run_remove(run))
}

/// To be called first thing in `main`, before arguments are read, by programs that start whole clusters: a node is a
/// further process of the program, in which this never returns. [`crate::testing::main`] does it.
pub fn node_run_if_asked() {
    boot::run_if_asked();
}

/// What a cluster is made of.
#[derive(Clone, Debug)]
pub struct ClusterPlan {
    /// How many nodes: `node1`, `node2`...
    pub nodes: u8,
    /// What kube-proxy works with.
    pub proxy: ProxyMode,
    /// What nodes have from the start, beside [`POD_IMAGE`].
    pub images: Vec<Image>,
}

/// A running cluster. It is removed when it is dropped; [`Cluster::stop`] also tells what could not be.
#[derive(Debug)]
pub struct Cluster {
    nodes: Vec<Node>,
    archives: PathBuf,
    _components: Vec<Process>,
    api: kubernetes::Cluster,
}

impl Cluster {
    /// Starts a cluster on a switch, and waits until its nodes are ready.
    pub fn start(lab: &Lab, lan: &Switch, plan: &ClusterPlan) -> Result<Cluster> {
        ensure!((1..CONTROL_NUMBER).contains(&plan.nodes), "a cluster of {} nodes", plan.nodes);
        programs_check()?;
        let archives = lab.folder().join("images");
        fs::create_dir(&archives)?;
        let first = archives.join("first.tar");
        image::save(&[pod_images()?.as_slice(), &plan.images].concat(), &first)?;

        let control = lab.host("control")?;
        node::connect(&control, lan, CONTROL_NUMBER)?;
        let [address, _] = node::addresses(CONTROL_NUMBER)?;
        let api = kubernetes::Cluster::start(&control, address)?;
        let components = vec![controllers_start(&api)?, scheduler_start(&api)?];
        let mut cluster = Cluster { nodes: Vec::new(), archives, _components: components, api };
        for number in 1..=plan.nodes {
            let host = lab.host(&format!("node{number}"))?;
            node::connect(&host, lan, number)?;
            // Addresses of Services need a route before they are translated.
            for (everything, router) in ["0.0.0.0/0", "::/0"].into_iter().zip(node::addresses(CONTROL_NUMBER)?) {
                host.set_route(everything, &[router])?;
            }
            host.forward_packets()?;
            cluster.nodes.push(Node::start(host, number, &cluster.api, plan.proxy, &first)?);
        }
        cluster.route_pods(&control)?;
        for node in &cluster.nodes {
            cluster.route_pods(node.host())?;
        }
        for node in &cluster.nodes {
            cluster.wait_ready(node.host().name())?;
        }
        // Pods cannot be made before it.
        eventually(LIMIT, || cluster.api.get("/api/v1/namespaces/default/serviceaccounts/default"))?;
        Ok(cluster)
    }

    /// Its API, with `kubectl`.
    pub fn api(&self) -> &kubernetes::Cluster {
        &self.api
    }

    /// The hosts that are nodes.
    pub fn nodes(&self) -> impl Iterator<Item = &Host> {
        self.nodes.iter().map(Node::host)
    }

    /// Gives a host of the caller, on the same switch, the routes to pods that it needs to be answered by them.
    pub fn route_pods(&self, host: &Host) -> Result<()> {
        for (number, node) in (1_u8..).zip(&self.nodes) {
            if node.host().name() == host.name() {
                continue;
            }
            for (network, router) in node::pod_networks(number).iter().zip(node::addresses(number)?) {
                host.set_route(network, &[router])?;
            }
        }
        Ok(())
    }

    /// Imports images on all nodes that have power.
    pub fn import(&self, images: &[Image]) -> Result<()> {
        let count = fs::read_dir(&self.archives)?.count();
        let archive = self.archives.join(format!("{count}.tar"));
        image::save(images, &archive)?;
        self.nodes.iter().try_for_each(|node| {
            node.import(&archive).with_context(|| format!("importing images on {}", node.host().name()))
        })
    }

    /// Takes the power from a node: its link goes, then everything that runs on it, at once.
    pub fn power_cut(&mut self, node: &str) -> Result<()> {
        self.node(node)?.power_cut()
    }

    /// Gives a node its power back. It starts as a machine does: with its files, and nothing else.
    pub fn power_on(&mut self, node: &str) -> Result<()> {
        self.node(node)?.power_on()
    }

    /// Waits until the cluster calls a node ready.
    pub fn wait_ready(&self, node: &str) -> Result<()> {
        self.wait_node(node, "True")
    }

    /// Waits until the cluster has noticed that a node is lost.
    pub fn wait_lost(&self, node: &str) -> Result<()> {
        self.wait_node(node, "Unknown")
    }

    fn wait_node(&self, name: &str, wanted: &str) -> Result<()> {
        let node = self.nodes.iter().find(|node| node.host().name() == name);
        let log = || node.map(Node::log).unwrap_or_default();
        eventually(LIMIT, || {
            let object = self.api.get(&format!("/api/v1/nodes/{name}"))?;
            let ready = condition(&object, "Ready").context("a node without conditions")?;
            let status = ready.get("status").and_then(Value::as_str).unwrap_or_default();
            ensure!(status == wanted, "{ready}");
            Ok(())
        })
        .with_context(|| format!("waiting until {name} is ready: {wanted}; it says {:?}", log()))
    }

    fn node(&mut self, name: &str) -> Result<&mut Node> {
        self.nodes
            .iter_mut()
            .find(|node| node.host().name() == name)
            .with_context(|| format!("there is no node {name}"))
    }

    /// Ends everything, and fails when something is left.
    pub fn stop(mut self) -> Result<()> {
        self.remove()
    }

    fn remove(&mut self) -> Result<()> {
        let outcomes: Vec<_> = self.nodes.drain(..).map(|mut node| node.remove()).collect();
        outcomes.into_iter().collect()
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        // What is left is removed when the program has ended.
        drop(self.remove());
    }
}

/// A condition in the status of an object.
fn condition<'a>(object: &'a Value, kind: &str) -> Option<&'a Value> {
    let conditions = object.pointer("/status/conditions")?.as_array()?;
    conditions.iter().find(|condition| condition.get("type").is_some_and(|name| name == kind))
}

/// Nodes are given their networks here, and there is no cloud.
fn controllers_start(api: &kubernetes::Cluster) -> Result<Process> {
    let file = |name: &str| api.control().folder().join(name);
    let mut command = Command::new(api.program());
    command.args(["kube-controller-manager", "--use-service-account-credentials", "--leader-elect=false"]);
    command.arg("--controllers=*,-node-ipam-controller,-node-route-controller,-cloud-node-lifecycle-controller");
    // It makes this folder; by default that is one of the machine.
    command.arg("--flex-volume-plugin-dir").arg(file("plugins-of-volumes"));
    // A node that is lost is to be noticed soon.
    command.args(["--node-monitor-grace-period=10s", "--node-monitor-period=1s", "--profiling=false"]);
    command
        .arg("--root-ca-file")
        .arg(file(AUTHORITY))
        .arg("--service-account-private-key-file")
        .arg(file(ACCOUNTS_KEY));
    command.arg("--kubeconfig").arg(api.component(&Credentials::component("kube-controller-manager"))?);
    api.control().spawn("kube-controller-manager", command)
}

fn scheduler_start(api: &kubernetes::Cluster) -> Result<Process> {
    let mut command = Command::new(api.program());
    command.args(["kube-scheduler", "--leader-elect=false", "--profiling=false"]);
    command.arg("--kubeconfig").arg(api.component(&Credentials::component("kube-scheduler"))?);
    api.control().spawn("kube-scheduler", command)
}

fn pod_images() -> Result<[Image; 2]> {
    let program = pod_program()?;
    Ok([Image::of_program(POD_IMAGE, &program, &[])?, Image::of_program(PAUSE_IMAGE, &program, &["pause"])?])
}

/// Fails, and says what to install, when a program is missing that nodes start.
fn programs_check() -> Result<()> {
    let needed = ["/usr/bin/containerd", "/usr/sbin/runc", "/usr/lib/cni/ptp", "/usr/sbin/iptables", "/usr/sbin/nft"];
    let missing: Vec<_> = needed.into_iter().filter(|program| !Path::new(program).exists()).collect();
    ensure!(missing.is_empty(), "nodes need {}\nhint: run scripts/test-tools.sh, as root", missing.join(", "));
    Ok(())
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The program of the pods, as `scripts/pod.sh` builds it.
pub fn pod_program() -> Result<PathBuf> {
    let program = root().join(".cache/pod/pod");
    freshness_check(&program, &program.with_extension("d"), "scripts/pod.sh")?;
    Ok(program)
}

/// Fails when a program is not built, or is older than a source in its list, which cargo writes as make reads it.
fn freshness_check(program: &Path, sources: &Path, script: &str) -> Result<()> {
    let shown = program.display();
    let made = modified(program).with_context(|| format!("{shown} is not built\nhint: run {script}"))?;
    let sources = fs::read_to_string(sources).with_context(|| format!("reading {}", sources.display()))?;
    let (_, sources) = sources.split_once(": ").context("no list of sources")?;
    for source in sources.split_whitespace() {
        let is_older = modified(Path::new(source)).is_ok_and(|changed| changed <= made);
        ensure!(is_older, "{shown} is older than {source}\nhint: run {script}");
    }
    Ok(())
}

fn modified(file: &Path) -> Result<SystemTime> {
    Ok(fs::metadata(file)?.modified()?)
}
