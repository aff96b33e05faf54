//! How long clients of a layer 2 Service wait when the node that answers for it dies:
//! `cargo run --release -p lab --example node_loss PROGRAM`.
//!
//! Three nodes with our speakers, or as many as are wanted, and a client on their segment that asks both addresses of a Service
//! fifty times a second. Again and again the node that answers loses its power, link and processes at once, and gets it back.
//! Two seconds before every second crash of three, another node's speaker was started again, and before every third, another
//! node came back from the dead. Measured is the time in which no request is answered, from the client's side.
//!
//! The exit status is 1 when the median or the worst is over its budget.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use clap::Parser;
use kit::{Duration, Instant};
use lab::fleet::Fleet;
use lab::requests::{Outage, Pace, Record, RequestStream, outages};
use lab::router::RouterKind;
use lab::topology::{HostPlan, Role, Topology};
use lab::{Lab, eventually};
use netio::clock::Clock;

const MEDIAN_MAX: Duration = Duration::from_millis(600);
const WORST_MAX: Duration = Duration::from_millis(1200);
/// Fifty requests a second. Each has less than a second, after which the kernel would ask again.
const PACE: Pace = Pace { every: Duration::from_millis(20), timeout: Duration::from_millis(500) };
/// For what must come; costs nothing while it does.
const LIMIT: Duration = Duration::from_secs(60);
const CLIENT: &str = "client";
const SERVICE: &str = "web";
/// How long a node has answered that is the owner when all nodes run.
const STABLE: std::time::Duration = std::time::Duration::from_secs(4);
/// How long something else was over before the crash.
const AFTER: std::time::Duration = std::time::Duration::from_secs(2);

#[derive(Parser)]
struct Arguments {
    /// Our program.
    program: PathBuf,
    /// How often a node dies.
    #[arg(long, default_value_t = 42)]
    crashes: usize,
    /// How many nodes there are.
    #[arg(long, default_value_t = 3, value_parser = clap::value_parser!(u8).range(3..=80))]
    nodes: u8,
}

/// What another node did before a crash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Before {
    Nothing,
    Restart,
    Return,
}

impl Before {
    const ALL: [Before; 3] = [Before::Nothing, Before::Restart, Before::Return];

    fn words(self) -> &'static str {
        match self {
            Before::Nothing => "while nothing else happens",
            Before::Restart => "2 s after another speaker's restart",
            Before::Return => "2 s after another node came back from the dead",
        }
    }
}

/// A crash: what was done before it, and the outage of each address.
struct Crash {
    owner: String,
    before: Before,
    outages: Vec<(IpAddr, Duration)>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    lab::enter()?;
    let lab = Lab::new("loss")?;
    let topology = with_nodes(Topology::load("three-nodes")?, arguments.nodes)?;
    let mut fleet = Fleet::start(&lab, &topology, arguments.program, RouterKind::Embedded)?;
    let service = fleet.services().iter().find(|service| service.name == SERVICE).context("no Service web")?.clone();
    let addresses = fleet.wait_addresses(&service, LIMIT)?;
    let clock = Clock::start();
    let mut streams = Vec::new();
    for address in &addresses {
        let target = SocketAddr::new(*address, 80);
        eventually(LIMIT, || fleet.host(CLIENT)?.ask(target, PACE.timeout))?;
        streams.push((*address, RequestStream::start(fleet.host(CLIENT)?, target, PACE, clock)?));
    }
    // The first nodes to start announce until the others are there, and a kernel takes no news of an address for a second.
    eventually(LIMIT, || {
        let before = owner(&fleet, &streams)?;
        thread::sleep(STABLE);
        let now = owner(&fleet, &streams)?;
        ensure!(now == before, "{now} answers after {before}");
        Ok(())
    })?;
    let mut crashes = Vec::new();
    for number in 0..arguments.crashes {
        let crash = crash(&mut fleet, &streams, clock, Before::ALL[number % Before::ALL.len()])?;
        println!(
            "crash {:2} of {} {}: {}",
            number + 1,
            crash.owner,
            crash.before.words(),
            crash.outages.iter().map(|(address, outage)| format!("{address} {outage}")).collect::<Vec<_>>().join(", ")
        );
        crashes.push(crash);
    }
    let is_good = table(&crashes);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Three nodes become more, each like the last.
fn with_nodes(mut topology: Topology, nodes: u8) -> Result<Topology> {
    let last = topology.hosts.iter().position(|host| host.name == "node3").context("no node3")?;
    for number in (4..=nodes).rev() {
        let mut host = HostPlan { name: format!("node{number}"), ..topology.hosts[last].clone() };
        for address in host.links.iter_mut().flat_map(|link| &mut link.addresses) {
            // 10.0.0.13 and fd00::13 are those of node3.
            let text = address.to_string().replacen("13/", &format!("{}/", 10 + number), 1);
            *address = text.parse()?;
        }
        topology.hosts.insert(last + 1, host);
    }
    Ok(topology)
}

fn crash(fleet: &mut Fleet, streams: &[(IpAddr, RequestStream)], clock: Clock, before: Before) -> Result<Crash> {
    let owner = eventually(LIMIT, || owner(fleet, streams))?;
    wait_well(streams, clock.now())?;
    let nodes: Vec<String> = fleet.topology().hosts_with(Role::Node).map(|plan| plan.name.clone()).collect();
    let other = nodes.iter().rev().find(|node| **node != owner).context("no other node")?;
    match before {
        Before::Nothing => {}
        Before::Restart => {
            fleet.restart_speaker(other)?;
            thread::sleep(AFTER);
        }
        Before::Return => {
            fleet.power_cut(other)?;
            // Until no request is sent to its backend any more.
            thread::sleep(std::time::Duration::from_secs(5));
            wait_well(streams, clock.now())?;
            fleet.power_on(other)?;
            thread::sleep(AFTER);
        }
    }
    let cut = clock.now();
    fleet.power_cut(&owner)?;
    eventually(LIMIT, || {
        let now = self::owner(fleet, streams)?;
        ensure!(now != owner, "{owner} is still held for the owner");
        Ok(())
    })?;
    let moved = clock.now();
    wait_well(streams, moved)?;
    let outages = streams.iter().map(|(address, stream)| (*address, longest(&stream.records(), cut))).collect();
    fleet.power_on(&owner)?;
    // Until it answers again, as before the crash.
    eventually(LIMIT, || {
        let now = self::owner(fleet, streams)?;
        ensure!(now == owner, "{owner} is not back, but {now} answers");
        Ok(())
    })?;
    // Its node is called ready by then, and endpoints with it.
    thread::sleep(std::time::Duration::from_secs(3));
    Ok(Crash { owner, before, outages })
}

/// The node whose MAC address the client holds for all addresses.
fn owner(fleet: &Fleet, streams: &[(IpAddr, RequestStream)]) -> Result<String> {
    let mut owners = Vec::new();
    for (address, _) in streams {
        let mac = fleet.host(CLIENT)?.neighbour_mac(*address)?.context("the client holds no MAC address")?;
        owners.push(fleet.host_with_mac(mac)?.context("it is nobody's")?.to_owned());
    }
    owners.dedup();
    ensure!(owners.len() == 1, "{owners:?} answer");
    Ok(owners.remove(0))
}

/// Waits until the last requests, begun since then, were all answered.
fn wait_well(streams: &[(IpAddr, RequestStream)], since: Instant) -> Result<()> {
    const WELL: usize = 50;
    for (address, stream) in streams {
        eventually(LIMIT, || {
            let records = stream.records();
            let last: Vec<_> = records.iter().filter(|record| record.begun >= since).rev().take(WELL).collect();
            let answered = last.iter().filter(|record| record.is_answered()).count();
            ensure!(answered == WELL, "{answered} of the last {} requests to {address} were answered", last.len());
            Ok(())
        })?;
    }
    Ok(())
}

fn longest(records: &[Record], since: Instant) -> Duration {
    let records: Vec<Record> = records.iter().filter(|record| record.begun >= since).cloned().collect();
    outages(&records).iter().map(Outage::length).max().unwrap_or(Duration::ZERO)
}

/// Prints the distribution; true if all is within the budgets.
fn table(crashes: &[Crash]) -> bool {
    println!("\n{:<47} {:>6} {:>6} {:>6} {:>6} {:>6}", "outage in ms", "times", "least", "median", "p90", "worst");
    let all: Vec<&(IpAddr, Duration)> = crashes.iter().flat_map(|crash| &crash.outages).collect();
    let mut is_good = true;
    let mut row = |name: &str, outages: Vec<Duration>| {
        let mut millis: Vec<u64> = outages.iter().map(|outage| outage.as_millis()).collect();
        millis.sort_unstable();
        let Some(worst) = millis.last().copied() else { return };
        let (least, median, p90) = (millis[0], millis[millis.len() / 2], millis[millis.len() * 9 / 10]);
        println!("{name:<47} {:>6} {least:>6} {median:>6} {p90:>6} {worst:>6}", millis.len());
        is_good &= median <= MEDIAN_MAX.as_millis() && worst <= WORST_MAX.as_millis();
    };
    row("IPv4", all.iter().filter(|(address, _)| address.is_ipv4()).map(|(_, outage)| *outage).collect());
    row("IPv6", all.iter().filter(|(address, _)| address.is_ipv6()).map(|(_, outage)| *outage).collect());
    for before in Before::ALL {
        let meant = crashes.iter().filter(|crash| crash.before == before);
        let outages = meant.flat_map(|crash| crash.outages.iter().map(|(_, outage)| *outage));
        row(before.words(), outages.collect());
    }
    println!("budget: median {} ms, worst {} ms", MEDIAN_MAX.as_millis(), WORST_MAX.as_millis());
    is_good
}
