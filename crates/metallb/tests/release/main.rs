//! The chart on a whole cluster: scheduler, kubelets and containers, our image, no capability and no right that the chart does
//! not give. A release comes, changes, goes and comes again; pools and addresses stay. At first its NetworkPolicies are enforced.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::print_stderr,
    reason = "a test may panic, and tells what it measured"
)]

mod policies;

use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::cluster::{self, Cluster, ClusterPlan};
use lab::kubernetes::{NAMESPACE, ProxyMode};
use lab::testing::Trial;
use lab::{Host, Lab, eventually, helm};
use policies::Policies;
use serde_json::{Value, json};

/// For everything that must come: costs nothing while it does.
const LIMIT: Duration = Duration::from_secs(180);
const ONE_REQUEST: Duration = Duration::from_secs(2);
/// What the Service gets.
const ADDRESSES: [&str; 2] = ["10.0.0.210", "fd00::210"];

/// Our image, without a registry.
const VALUES: &str = "controller.image.repository=test.local/metallb,controller.image.pullPolicy=Never,\
                      speaker.image.repository=test.local/metallb,speaker.image.pullPolicy=Never";

/// Configuration, backends and a Service. Nothing of it belongs to the release.
const OBJECTS: &str = include_str!("objects.yaml");

fn main() -> ExitCode {
    cluster::node_run_if_asked();
    lab::testing::main([Trial::new("a_release_comes_changes_and_goes_and_services_are_served", release)])
}

struct Site {
    cluster: Cluster,
    client: Host,
}

fn release(lab: &Lab) -> Result<()> {
    let lan = lab.switch("lan")?;
    let client = lab.host("client")?;
    client.plug("eth0", &lan)?.address("10.0.0.200/24")?.address("fd00::200/64")?;
    let plan = ClusterPlan { nodes: 2, proxy: ProxyMode::Nftables, images: vec![cluster::metallb::image()?] };
    let cluster = Cluster::start(lab, &lan, &plan)?;
    cluster.route_pods(&client)?;
    let site = Site { cluster, client };
    site.through_its_life().map_err(|error| anyhow::anyhow!("{error:#}\n{}", site.state()))
}

impl Site {
    fn through_its_life(&self) -> Result<()> {
        let _enforced = Policies::enforce(&self.cluster, &self.client)?;
        self.helm("install", &["--create-namespace", "--set", policies::VALUES])?;
        Site::confined()?;
        self.cluster.api().apply(OBJECTS)?;
        self.kubectl(&["rollout", "status", "deployment/web", "--timeout=180s"])?;
        self.served().context("after the installation")?;
        self.members()?;
        self.wait_closed().context("with the policies of the chart")?;
        let pool =
            self.kubectl(&["get", "ipaddresspool", "segment", "-n", NAMESPACE, "-o", "jsonpath={.metadata.uid}"])?;

        self.helm("upgrade", &["--set", "controller.logLevel=debug,speaker.logLevel=debug"])?;
        for pod in self.pods()? {
            let arguments = pod["spec"]["containers"][0]["args"].to_string();
            ensure!(arguments.contains("--log-level=debug"), "not upgraded: {arguments}");
        }
        self.served().context("after the upgrade")?;
        self.wait_open().context("without policies")?;

        self.helm("uninstall", &[])?;
        eventually(LIMIT, || {
            let left = self.kubectl(&["get", "pods", "-n", NAMESPACE, "-o", "name"])?;
            ensure!(left.is_empty(), "pods are left: {left}");
            Ok(())
        })?;
        ensure!(self.ingress()? == ADDRESSES, "the Service has {:?}", self.ingress()?);
        self.helm("install", &[])?;
        self.served().context("after the second installation")?;
        let same =
            self.kubectl(&["get", "ipaddresspool", "segment", "-n", NAMESPACE, "-o", "jsonpath={.metadata.uid}"])?;
        ensure!(same == pool, "the pool is another one");
        self.nothing_failed()
    }

    /// A command of helm on the release; it waits until pods are as they should be.
    fn helm(&self, command: &str, more: &[&str]) -> Result<()> {
        let chart = helm::chart();
        let mut arguments = vec![command, "metallb", "--namespace", NAMESPACE, "--wait", "--timeout=180s"];
        if command != "uninstall" {
            arguments.extend([chart.to_str().context("a path that is not text")?, "--set", VALUES]);
            arguments.extend(["--set-string", "controller.image.tag=1,speaker.image.tag=1"]);
        }
        self.cluster.api().helm(&[&arguments, more].concat()).map(drop)
    }

    fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster.api().kubectl(arguments)
    }

    fn pods(&self) -> Result<Vec<Value>> {
        let list = self.cluster.api().get(&format!("/api/v1/namespaces/{NAMESPACE}/pods"))?;
        Ok(list["items"].as_array().context("a list without items")?.clone())
    }

    fn ingress(&self) -> Result<Vec<String>> {
        let service = self.cluster.api().get("/api/v1/namespaces/default/services/web")?;
        let entries = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        Ok(entries.iter().filter_map(|entry| entry["ip"].as_str()).map(str::to_owned).collect())
    }

    /// The Service has its addresses, and a client on the segment is answered at each.
    fn served(&self) -> Result<()> {
        eventually(LIMIT, || {
            let has = self.ingress()?;
            ensure!(has == ADDRESSES, "the Service has {has:?}");
            for address in ADDRESSES {
                let address: IpAddr = address.parse()?;
                self.client.forget_neighbour(address)?;
                self.client.ask(SocketAddr::new(address, 80), ONE_REQUEST)?;
            }
            Ok(())
        })?;
        self.asked()
    }

    /// The API server asks the controller about objects, through the Service that the chart has.
    fn asked(&self) -> Result<()> {
        let pools = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/ipaddresspools?dryRun=All");
        let nonsense = json!({
            "apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool",
            "metadata": {"name": "nonsense", "namespace": NAMESPACE}, "spec": {"addresses": ["nonsense"]},
        });
        eventually(LIMIT, || match self.cluster.api().create(&pools, &nonsense) {
            Err(error) if format!("{error:#}").contains("invalid CIDR") => Ok(()),
            Err(error) => Err(error),
            Ok(_) => Err(anyhow::anyhow!("nobody was asked")),
        })
    }

    /// Speakers waited for the Secret that the controller made, and found each other with its key.
    fn members(&self) -> Result<()> {
        eventually(LIMIT, || {
            for pod in self.pods()? {
                let name = pod["metadata"]["name"].as_str().context("a pod without a name")?;
                if !name.contains("speaker") {
                    continue;
                }
                let log = self.kubectl(&["logs", "-n", NAMESPACE, name])?;
                let mut lines = log.lines();
                ensure!(
                    lines.any(|line| line.contains("memberlist begins") && line.contains("\"encrypted\":true")),
                    "{log}"
                );
                ensure!(lines.any(|line| line.contains("memberChanged") && line.contains("\"alive\"")), "{log}");
            }
            Ok(())
        })
    }

    /// Contract 7.5: our processes have the capability of packet sockets, or none; no way to get others; and a filter of
    /// system calls.
    fn confined() -> Result<()> {
        const NET_RAW: u64 = 1 << 13;
        let mut found = BTreeMap::new();
        for entry in fs::read_dir("/proc")? {
            let process = entry?.path();
            let Ok(command) = fs::read(process.join("cmdline")) else { continue };
            let words: Vec<&[u8]> = command.split(|byte| *byte == 0).collect();
            let [b"/metallb", face, ..] = words.as_slice() else { continue };
            let status = fs::read_to_string(process.join("status"))?;
            let field = |name: &str| {
                let line = status.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
                line.map(str::trim).with_context(|| format!("no {name} in {status}"))
            };
            let capabilities = if *face == b"speaker" { NET_RAW } else { 0 };
            for set in ["CapPrm", "CapEff", "CapBnd"] {
                let has = u64::from_str_radix(field(set)?, 16)?;
                ensure!(has == capabilities, "{set} of a {} is {has:x}", String::from_utf8_lossy(face));
            }
            ensure!(field("NoNewPrivs")? == "1" && field("Seccomp")? == "2", "{status}");
            *found.entry(String::from_utf8_lossy(face).into_owned()).or_insert(0) += 1;
        }
        let wanted = BTreeMap::from([("controller".to_owned(), 1), ("speaker".to_owned(), 2)]);
        ensure!(found == wanted, "found the processes {found:?}");
        Ok(())
    }

    fn nothing_failed(&self) -> Result<()> {
        for pod in self.pods()? {
            let restarts = &pod["status"]["containerStatuses"][0]["restartCount"];
            ensure!(*restarts == 0, "{} was started again: {restarts}", pod["metadata"]["name"]);
        }
        Ok(())
    }

    fn state(&self) -> String {
        let mut text = String::new();
        for arguments in [
            &["get", "pods,services,deployments,daemonsets", "-A", "-o", "wide"][..],
            &["describe", "pods", "-n", NAMESPACE][..],
            &["logs", "-n", NAMESPACE, "--tail=30", "--prefix", "-l", "app.kubernetes.io/name=metallb"][..],
        ] {
            let answer = self.cluster.api().kubectl_any(arguments);
            let answer = answer.map_or_else(|error| format!("{error:#}"), |output| output.stdout + &output.stderr);
            text.push_str(&answer);
        }
        text
    }
}
