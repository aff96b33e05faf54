//! What thousands of Services cost on a real API server:
//! `cargo run --release -p lab --example scale PROGRAM [SERVICES]...`.
//!
//! For each number: an API server gets so many Services and endpoint slices, and a pool. Then a controller starts, with
//! nothing known, and is measured until the status of the last Service is written: the time, its processor time, and the most
//! memory it had. Then a speaker starts, reads all of it and announces it. When nothing is written any more, the memory of both
//! is measured. Both run with the capabilities of their containers.
//!
//! The exit status is 1 when a budget is missed; budgets are for 5,000 Services (docs/performance.md).

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing)]
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use kit::Duration;
use lab::kubernetes::{AuditedRequest, Cluster, Face, NAMESPACE, User};
use lab::{Host, Lab, eventually, usage};
use netio::clock::Clock;
use serde_json::{Value, json};

/// What the Go implementation needs for 5,000 Services is 80 s, 50 s of processor time and 128 MB; its speaker 148 MB.
const BUDGET: Budget = Budget {
    services: 5_000,
    time: Duration::from_secs(8),
    processor: Duration::from_secs(5),
    controller_kib: 30 * 1024,
    speaker_kib: 30 * 1024,
};
const LIMIT: Duration = Duration::from_secs(600);
/// Of those who make objects.
const THREADS: usize = 4;
const ADDRESS: &str = "10.0.0.100";

#[derive(Parser)]
struct Arguments {
    /// Our program.
    program: PathBuf,
    /// How many Services there are.
    #[arg(default_values_t = [1, 5_000, 10_000])]
    services: Vec<usize>,
}

struct Budget {
    services: usize,
    time: Duration,
    processor: Duration,
    controller_kib: u64,
    speaker_kib: u64,
}

/// What was seen of one number of Services.
struct Figures {
    services: usize,
    time: Duration,
    processor: Duration,
    controller_peak_kib: u64,
    controller_kib: u64,
    writes: usize,
    speaker_kib: u64,
    speaker_processor: Duration,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    let program = fs::canonicalize(&arguments.program).with_context(|| arguments.program.display().to_string())?;
    lab::enter()?;
    println!(
        "{:>8} {:>12} {:>14} {:>15} {:>14} {:>8} {:>14} {:>14}",
        "services",
        "all have one",
        "controller CPU",
        "controller peak",
        "controller RSS",
        "writes",
        "speaker RSS",
        "speaker CPU"
    );
    let mut is_good = true;
    for services in arguments.services {
        let figures = measure(&program, services)?;
        println!(
            "{:>8} {:>9} ms {:>11} ms {:>11} KiB {:>10} KiB {:>8} {:>10} KiB {:>11} ms",
            figures.services,
            figures.time.as_millis(),
            figures.processor.as_millis(),
            figures.controller_peak_kib,
            figures.controller_kib,
            figures.writes,
            figures.speaker_kib,
            figures.speaker_processor.as_millis(),
        );
        is_good &= figures.are_within(&BUDGET);
    }
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

impl Figures {
    fn are_within(&self, budget: &Budget) -> bool {
        let mut is_good = true;
        let mut check = |what: &str, has: u64, may: u64| {
            if self.services == budget.services && has > may {
                println!("over its budget: {what}: {has}, and {may} at most");
                is_good = false;
            }
        };
        check("time in ms", self.time.as_millis(), budget.time.as_millis());
        check("processor time in ms", self.processor.as_millis(), budget.processor.as_millis());
        check("most memory of the controller in KiB", self.controller_peak_kib, budget.controller_kib);
        check("memory of the controller in KiB", self.controller_kib, budget.controller_kib);
        check("memory of the speaker in KiB", self.speaker_kib, budget.speaker_kib);
        is_good
    }
}

fn measure(program: &Path, services: usize) -> Result<Figures> {
    let lab = Lab::new("scale")?;
    let lan = lab.switch("lan")?;
    let host = |name: &str, address: &str| -> Result<Host> {
        let host = lab.host(name)?;
        host.plug("eth0", &lan)?.address(address)?;
        Ok(host)
    };
    let (control, manager) = (host("control", "10.0.0.100/16")?, host("manager", "10.0.0.99/16")?);
    let node = host("node1", "10.0.0.1/16")?;
    let cluster = Cluster::start(&control, ADDRESS.parse()?)?;
    prepare(&cluster, program, &node)?;
    for (host, face) in [(&manager, Face::Controller), (&node, Face::Speaker)] {
        pod(&cluster, host, face)?;
    }
    fill(&cluster, services)?;

    let clock = Clock::start();
    let begin = clock.now();
    let controller = cluster.ours_start(&manager, program, (Face::Controller, User::Controller), &[])?;
    eventually(LIMIT, || {
        let written = written(&cluster)?;
        ensure!(written == services, "{written} of {services} Services have a status: {}", controller.log());
        Ok(())
    })?;
    let time = clock.now().since(begin);
    let processor = usage::cpu(controller.id())?;
    let addresses = addresses(&cluster)?;
    ensure!(addresses.len() == services, "{services} Services have {} addresses", addresses.len());
    let controller_peak_kib = usage::peak(controller.id())?;

    let speaker = cluster.ours_start(&node, program, (Face::Speaker, User::Speaker), &[])?;
    eventually(LIMIT, || {
        let log = speaker.log();
        let announced = log.lines().filter(|line| line.contains("\"serviceAnnounced\"")).count();
        ensure!(announced == services, "{announced} of {services} are announced");
        Ok(())
    })?;
    let writes = settle(&cluster)?;
    let reports = reported(&cluster)?;
    ensure!(reports == services, "{reports} of {services} Services have a ServiceL2Status");
    Ok(Figures {
        services,
        time,
        processor,
        controller_peak_kib,
        controller_kib: usage::resident(controller.id())?,
        writes,
        speaker_kib: usage::resident(speaker.id())?,
        speaker_processor: usage::cpu(speaker.id())?,
    })
}

/// Waits until nothing is written any more: events come at a bounded rate. Returns how much was.
fn settle(cluster: &Cluster) -> Result<usize> {
    let mut last = 0;
    eventually(LIMIT, || {
        let before = std::mem::replace(&mut last, writes(cluster)?.len());
        thread::sleep(std::time::Duration::from_secs(3));
        ensure!(before == last, "{last} writes, after {before}");
        Ok(last)
    })
}

/// Definitions, rights, a node, and a pool that is announced on the segment.
fn prepare(cluster: &Cluster, program: &Path, node: &Host) -> Result<()> {
    let output = Command::new(program).arg("crds").output()?;
    ensure!(output.status.success(), "crds: {}", String::from_utf8_lossy(&output.stderr));
    cluster.apply(&format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {NAMESPACE}}}}}"))?;
    cluster.apply(&String::from_utf8(output.stdout)?)?;
    cluster.apply(&format!(
        "{{apiVersion: v1, kind: ServiceAccount, metadata: {{name: default, namespace: {NAMESPACE}}}}}"
    ))?;
    cluster.kubectl(&["wait", "--for=condition=Established", "crd", "--all", "--timeout=60s"])?;
    // Who may do what is asked of them costs the same as who may do everything.
    let subject = format!("--group=system:serviceaccounts:{NAMESPACE}");
    cluster.kubectl(&["create", "clusterrolebinding", "metallb", "--clusterrole=cluster-admin", &subject])?;
    cluster.add_node(node.name(), &["10.0.0.1".parse()?])?;
    let of_ours = |kind: &str, spec: Value| {
        json!({
            "apiVersion": "metallb.io/v1beta1", "kind": kind, "spec": spec,
            "metadata": {"name": "many", "namespace": NAMESPACE},
        })
    };
    let pool = of_ours("IPAddressPool", json!({"addresses": ["10.0.128.0/17"]}));
    cluster.apply(&format!("{pool}\n---\n{}", of_ours("L2Advertisement", json!({}))))
}

/// Makes a pod for a process: what it reports belongs to that, and without it nothing is reported.
fn pod(cluster: &Cluster, host: &Host, face: Face) -> Result<()> {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": Cluster::pod_of(host, face), "namespace": NAMESPACE},
        "spec": {"automountServiceAccountToken": false, "containers": [{"name": "metallb", "image": "metallb"}]},
    });
    cluster.create(&format!("/api/v1/namespaces/{NAMESPACE}/pods"), &pod).map(drop)
}

/// Makes the Services, with a slice each.
fn fill(cluster: &Cluster, services: usize) -> Result<()> {
    let make = |first: usize| -> Result<()> {
        for number in (first..services).step_by(THREADS) {
            let name = format!("many-{number:05}");
            let slice = json!({
                "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
                "metadata": {
                    "name": name, "namespace": "default", "labels": {"kubernetes.io/service-name": name},
                },
                "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "node1", "conditions": {"ready": true}}],
                "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
            });
            cluster.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &slice)?;
            let service = json!({
                "apiVersion": "v1", "kind": "Service", "metadata": {"name": name, "namespace": "default"},
                "spec": {
                    "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
                    "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
                },
            });
            cluster.create("/api/v1/namespaces/default/services", &service)?;
        }
        Ok(())
    };
    thread::scope(|scope| {
        let makers: Vec<_> = (0..THREADS).map(|first| scope.spawn(move || make(first))).collect();
        makers.into_iter().try_for_each(|maker| maker.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic)))
    })
}

/// What controller and speakers wrote with success, besides the Lease.
fn writes(cluster: &Cluster) -> Result<Vec<AuditedRequest>> {
    let of_ours = |user: &str| [User::Controller, User::Speaker].iter().any(|it| it.name() == user);
    let is_write = |request: &AuditedRequest| {
        of_ours(&request.user) && !request.is_read() && request.code < 300 && request.resource != "leases"
    };
    Ok(cluster.audit()?.into_iter().filter(is_write).collect())
}

/// How many Services have a status that was written.
fn written(cluster: &Cluster) -> Result<usize> {
    let statuses = writes(cluster)?.into_iter().filter(|request| request.resource == "services/status");
    Ok(statuses.map(|request| request.name).collect::<BTreeSet<_>>().len())
}

/// How many ServiceL2Statuses have a content.
fn reported(cluster: &Cluster) -> Result<usize> {
    let list = cluster.get(&format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/servicel2statuses"))?;
    let items = list["items"].as_array().context("a list without items")?;
    Ok(items.iter().filter(|item| item["status"]["node"].is_string()).count())
}

/// All addresses that Services have.
fn addresses(cluster: &Cluster) -> Result<BTreeSet<String>> {
    let list = cluster.get("/api/v1/namespaces/default/services")?;
    let items = list["items"].as_array().context("a list without items")?;
    Ok(items
        .iter()
        .filter_map(|item| item["status"]["loadBalancer"]["ingress"][0]["ip"].as_str())
        .map(str::to_owned)
        .collect())
}
