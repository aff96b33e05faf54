//! How long clients of a layer 2 Service wait when the node that answers for it dies:
//! `cargo run --release -p lab --example node_loss PROGRAM`.
//!
//! Three nodes with our speakers, and a client on their segment that asks both addresses of a Service fifty times a second.
//! Again and again the node that answers loses its power, link and processes at once, and gets it back; before every second
//! crash, another node's speaker was started again two seconds before. Measured is the time in which no request is
//! answered, from the client's side.
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
use lab::requests::{Outage, Outcome, Pace, Record, RequestStream, outages};
use lab::router::RouterKind;
use lab::topology::Topology;
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

#[derive(Parser)]
struct Arguments {
    /// Our program.
    program: PathBuf,
    /// How often a node dies.
    #[arg(long, default_value_t = 40)]
    crashes: usize,
}

/// A crash: what was done before it, and the outage of each address.
struct Crash {
    after_restart: bool,
    outages: Vec<(IpAddr, Duration)>,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    lab::enter()?;
    let lab = Lab::new("loss")?;
    let topology = Topology::load("three-nodes")?;
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
    let mut crashes = Vec::new();
    for number in 0..arguments.crashes {
        let crash = crash(&mut fleet, &streams, clock, number % 2 == 1)?;
        println!(
            "crash {:2}{}: {}",
            number + 1,
            if crash.after_restart { ", 2 s after a restart of another speaker" } else { "" },
            crash.outages.iter().map(|(address, outage)| format!("{address} {outage}")).collect::<Vec<_>>().join(", ")
        );
        crashes.push(crash);
    }
    let is_good = table(&crashes);
    Ok(if is_good { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn crash(fleet: &mut Fleet, streams: &[(IpAddr, RequestStream)], clock: Clock, after_restart: bool) -> Result<Crash> {
    let owner = eventually(LIMIT, || owner(fleet, streams))?;
    wait_well(streams, clock.now())?;
    if after_restart {
        let mut others = ["node3", "node2", "node1"].into_iter().filter(|node| *node != owner);
        fleet.restart_speaker(others.next().context("no other node")?)?;
        thread::sleep(std::time::Duration::from_secs(2));
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
    Ok(Crash { after_restart, outages })
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
            let answered = last.iter().filter(|record| matches!(record.outcome, Outcome::Answered(_))).count();
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
    println!("\n{:<44} {:>6} {:>6} {:>6} {:>6} {:>6}", "outage in ms", "times", "least", "median", "p90", "worst");
    let all: Vec<&(IpAddr, Duration)> = crashes.iter().flat_map(|crash| &crash.outages).collect();
    let mut is_good = true;
    let mut row = |name: &str, outages: Vec<Duration>| {
        let mut millis: Vec<u64> = outages.iter().map(|outage| outage.as_millis()).collect();
        millis.sort_unstable();
        let Some(worst) = millis.last().copied() else { return };
        let (least, median, p90) = (millis[0], millis[millis.len() / 2], millis[millis.len() * 9 / 10]);
        println!("{name:<44} {:>6} {least:>6} {median:>6} {p90:>6} {worst:>6}", millis.len());
        is_good &= median <= MEDIAN_MAX.as_millis() && worst <= WORST_MAX.as_millis();
    };
    row("IPv4", all.iter().filter(|(address, _)| address.is_ipv4()).map(|(_, outage)| *outage).collect());
    row("IPv6", all.iter().filter(|(address, _)| address.is_ipv6()).map(|(_, outage)| *outage).collect());
    let of = |after_restart: bool| {
        let meant = crashes.iter().filter(|crash| crash.after_restart == after_restart);
        meant.flat_map(|crash| crash.outages.iter().map(|(_, outage)| *outage)).collect()
    };
    row("while nothing else happens", of(false));
    row("2 s after a restart of another speaker", of(true));
    println!("budget: median {} ms, worst {} ms", MEDIAN_MAX.as_millis(), WORST_MAX.as_millis());
    is_good
}
