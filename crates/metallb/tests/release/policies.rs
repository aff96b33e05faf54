//! The chart's NetworkPolicies where something enforces them: kube-router, as a firewall on each node. It leaves alone what is
//! on the network of a node, as every such program does, and so the speakers. Over IPv4 alone: its version 2.1 gives its own sets of
//! IPv6 addresses other names than its rules do.

use std::collections::BTreeSet;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::backend::Backend;
use lab::cluster::Cluster;
use lab::kubernetes::User;
use lab::{Host, Process, built, eventually};

use crate::{LIMIT, Site};

/// Turns on both policies of the chart.
pub(crate) const VALUES: &str = "networkpolicies.enabled=true,networkpolicies.defaultDeny=true";

/// Addresses of Services over IPv4.
const SERVICES: &str = "10.96.0.0/16";
const CONTROL: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 100));
const CLIENT: IpAddr = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 200));
const METRICS: u16 = 9120;
const WEBHOOKS: u16 = 9443;
const HEALTH: u16 = 17472;
const API: u16 = 6443;
/// Where something on the client listens that is none of the controller's business.
const ELSEWHERE: u16 = 8443;

/// A firewall on each node, and something that could be reached, as long as this is kept.
pub(crate) struct Policies {
    _enforcers: Vec<Process>,
    _elsewhere: Backend,
}

/// What is open to whom.
#[derive(Debug, PartialEq, Eq)]
struct Doors {
    /// Ports of the controller's pod to another host.
    inward: BTreeSet<u16>,
    /// Ports of other hosts to the controller.
    outward: BTreeSet<u16>,
}

impl Policies {
    /// Starts what enforces policies, before there are any.
    pub(crate) fn enforce(cluster: &Cluster, client: &Host) -> Result<Policies> {
        let enforcers = cluster.nodes().map(|node| {
            let mut command = Command::new(built("kube-router")?);
            command.args([
                "--run-firewall=true",
                "--run-router=false",
                "--run-service-proxy=false",
                "--enable-cni=false",
            ]);
            command.args(["--health-port=0", "--service-cluster-ip-range", SERVICES]);
            command.args(["--hostname-override", node.name(), "--kubeconfig"]);
            command.arg(cluster.api().kubeconfig(User::Administrator));
            node.spawn("kube-router", command)
        });
        Ok(Policies { _enforcers: enforcers.collect::<Result<_>>()?, _elsewhere: Backend::start(client, ELSEWHERE)? })
    }
}

impl Site {
    /// Nothing goes in or out of the controller but what it needs.
    pub(crate) fn wait_closed(&self) -> Result<()> {
        self.wait_doors(&Doors { inward: BTreeSet::from([METRICS, WEBHOOKS]), outward: BTreeSet::from([API]) })
    }

    /// Without policies, everything does.
    pub(crate) fn wait_open(&self) -> Result<()> {
        let inward = BTreeSet::from([METRICS, WEBHOOKS, HEALTH]);
        self.wait_doors(&Doors { inward, outward: BTreeSet::from([API, ELSEWHERE]) })
    }

    fn wait_doors(&self, wanted: &Doors) -> Result<()> {
        eventually(LIMIT, || {
            let mut pods = self.pods()?.into_iter();
            let pod = pods.find(|pod| pod["metadata"]["labels"]["app.kubernetes.io/component"] == "controller");
            let pod = pod.context("no pod of the controller")?;
            let seen = self.doors(pod["status"]["podIP"].as_str().context("a pod without an address")?.parse()?)?;
            ensure!(seen == *wanted, "{seen:?}, not {wanted:?}");
            Ok(())
        })
    }

    fn doors(&self, pod: IpAddr) -> Result<Doors> {
        let inside = controller_process(pod)?;
        let mut doors = Doors { inward: BTreeSet::new(), outward: BTreeSet::new() };
        for port in [METRICS, WEBHOOKS, HEALTH] {
            if is_open(&self.client, None, SocketAddr::new(pod, port))? {
                doors.inward.insert(port);
            }
        }
        for target in [SocketAddr::new(CONTROL, API), SocketAddr::new(CLIENT, ELSEWHERE)] {
            if is_open(&self.client, Some(inside), target)? {
                doors.outward.insert(target.port());
            }
        }
        Ok(doors)
    }
}

/// Whether a connection comes about, from a host or from the network of a process. What is said on it is of no interest.
fn is_open(from: &Host, inside: Option<u32>, target: SocketAddr) -> Result<bool> {
    let mut command = match inside {
        Some(process) => {
            let mut command = Command::new("nsenter");
            command.arg(format!("--net=/proc/{process}/ns/net")).arg("curl");
            command
        }
        None => Command::new("curl"),
    };
    command.args(["--silent", "--output", "/dev/null", "--connect-timeout", "2", "--max-time", "4"]);
    // Zero if none came about; nothing at all if curl did not run.
    command.args(["--write-out", "%{time_connect}", &format!("http://{target}/")]);
    let output = from.output(command)?;
    let took: f64 = output.stdout.trim().parse().with_context(|| format!("curl to {target} said {output:?}"))?;
    Ok(took > 0.0)
}

/// The process of the controller in the pod with this address, as this machine sees it.
fn controller_process(pod: IpAddr) -> Result<u32> {
    for entry in fs::read_dir("/proc")? {
        let process = entry?;
        let Ok(command) = fs::read(process.path().join("cmdline")) else { continue };
        let Ok(routes) = fs::read_to_string(process.path().join("net/fib_trie")) else { continue };
        let has_address = routes.lines().any(|line| line.trim_start_matches([' ', '|', '-']) == pod.to_string());
        if command.starts_with(b"/metallb\0controller\0") && has_address {
            return Ok(process.file_name().to_string_lossy().parse()?);
        }
    }
    anyhow::bail!("no controller runs that has {pod}")
}
