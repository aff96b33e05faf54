//! Installs MetalLB on a whole cluster again and again: `cargo run --release -p lab --example installs [ROUNDS]`.
//!
//! In each round the cluster has nothing of MetalLB, not even its definitions. Then Helm installs the chart while a pool, an
//! advertisement, backends and a Service are applied in a random order at the same time. A client on the segment is answered at
//! both addresses of the Service before everything is taken away again. What is measured is the time from the command of
//! Helm to that answer.

#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use kit::{Duration, Rng};
use lab::cluster::{self, Cluster, ClusterPlan, metallb};
use lab::kubernetes::{NAMESPACE, ProxyMode};
use lab::{Host, Lab, eventually};
use netio::clock::Clock;

const LIMIT: Duration = Duration::from_secs(180);
const ONE_REQUEST: Duration = Duration::from_secs(2);
const ADDRESSES: [&str; 2] = ["10.0.0.210", "fd00::210"];
/// The objects of the test of the release.
const OBJECTS: &str = include_str!("../../metallb/tests/release/objects.yaml");

/// Installs MetalLB on a whole cluster again and again, with objects applied in a random order meanwhile.
#[derive(Debug, Parser)]
struct Arguments {
    /// How often
    #[arg(default_value_t = 20)]
    rounds: u64,
}

fn main() -> ExitCode {
    cluster::node_run_if_asked();
    match Arguments::try_parse().map_err(anyhow::Error::from).and_then(|arguments| run(arguments.rounds)) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            println!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(rounds: u64) -> Result<()> {
    cluster::enter()?;
    let lab = Lab::new("installs")?;
    let lan = lab.switch("lan")?;
    let client = lab.host("client")?;
    client.plug("eth0", &lan)?.address("10.0.0.200/24")?.address("fd00::200/64")?;
    let plan = ClusterPlan { nodes: 2, proxy: ProxyMode::Nftables, images: vec![metallb::image()?] };
    let cluster = Cluster::start(&lab, &lan, &plan)?;
    cluster.route_pods(&client)?;
    let mut rng = Rng::new(20);
    for round in 1..=rounds {
        let objects = shuffled(&mut rng);
        let kinds = kinds(&objects);
        let clock = Clock::start();
        thread::scope(|scope| {
            let applied = scope.spawn(|| eventually(LIMIT, || cluster.api().apply(&objects)));
            metallb::install(&cluster, &[])?;
            applied.join().map_err(|_panic| anyhow::anyhow!("applying the objects panicked"))?
        })
        .with_context(|| format!("round {round}, {kinds}"))?;
        served(&client).with_context(|| format!("round {round}, {kinds}"))?;
        println!("{round:>3}  answered after {:>6} ms  {kinds}", clock.now().as_micros() / 1000);
        take_away(&cluster).with_context(|| format!("after round {round}"))?;
    }
    Ok(())
}

/// The objects as one text, in a random order.
fn shuffled(rng: &mut Rng) -> String {
    let mut left: Vec<&str> = OBJECTS.split("\n---\n").collect();
    let mut objects = Vec::with_capacity(left.len());
    while !left.is_empty() {
        objects.push(left.swap_remove(rng.index(left.len())));
    }
    objects.join("\n---\n")
}

fn kinds(objects: &str) -> String {
    let kinds: Vec<&str> = objects.lines().filter_map(|line| line.strip_prefix("kind: ")).collect();
    kinds.join(", ")
}

/// A client is answered at each address.
fn served(client: &Host) -> Result<()> {
    eventually(LIMIT, || {
        for address in ADDRESSES {
            let address: IpAddr = address.parse()?;
            client.forget_neighbour(address)?;
            client.ask(SocketAddr::new(address, 80), ONE_REQUEST)?;
        }
        Ok(())
    })
}

/// The cluster has nothing of MetalLB any more.
fn take_away(cluster: &Cluster) -> Result<()> {
    let api = cluster.api();
    api.kubectl(&["delete", "service/web", "deployment/web"])?;
    api.helm(&["uninstall", "metallb", "--namespace", NAMESPACE, "--wait", "--timeout=180s"])?;
    let definitions = api.kubectl(&["get", "customresourcedefinitions", "-o", "name"])?;
    let ours: Vec<&str> = definitions.lines().filter(|name| name.ends_with(".metallb.io")).collect();
    if !ours.is_empty() {
        api.kubectl(&[&["delete"], ours.as_slice()].concat())?;
    }
    api.kubectl(&["delete", "namespace", NAMESPACE])?;
    eventually(LIMIT, || {
        let pods = api.kubectl(&["get", "pods", "-A", "-o", "name"])?;
        ensure!(!pods.contains("metallb") && !pods.contains("web"), "pods are left: {pods}");
        Ok(())
    })
}
