//! What announcing routes costs, beside FRR, BIRD and GoBGP, and how soon a router knows of Services:
//! `cargo run --release -p lab --example routes PROGRAM`.
//!
//! Two parts. The program itself is started with 2,000 and 10,000 Services, and then one thing after another is changed. And
//! our BGP (the core and its driver, for hundreds of thousands of Services would measure something else), FRR, BIRD and
//! GoBGP each announce the same routes to the same sink, over one session and over eight.
//!
//! The exit status is 1 when a budget is missed. What is measured several times counts by its best, since whatever else
//! the machine does only makes it worse; changes count by their median.

#![allow(clippy::arithmetic_side_effects, clippy::cast_precision_loss, clippy::indexing_slicing, clippy::unwrap_used)]
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

mod announcer;
mod api;
mod dump;
mod objects;
mod sink;
mod speaker;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use dump::{Announcer, Figures, measure};
use kit::Duration;
use lab::router::RouterKind;
use speaker::Source;

/// From the start of a speaker with 2,000 Services until its router has all routes.
const START_MAX: Duration = Duration::from_secs(1);
/// From one change among 10,000 routes until the router has heard of it.
const CHANGE_MAX: Duration = Duration::from_millis(10);
/// The same when the endpoint of a Service with the policy `Local` goes.
const WITHDRAWAL_MAX: Duration = Duration::from_millis(100);
const CHANGED_SERVICES: u32 = 10_000;
const CHANGES: u32 = 50;
/// Differences of time and of processor time, in milliseconds, that are those of the scheduler.
const NOISE: (f64, f64) = (2.0, 1.0);

#[derive(Parser)]
#[command(args_conflicts_with_subcommands = true)]
struct Arguments {
    /// Our program.
    program: Option<PathBuf>,
    /// How often each is measured.
    #[arg(long, default_value_t = 3)]
    runs: usize,
    #[command(subcommand)]
    inside: Option<Inside>,
}

#[derive(Subcommand)]
enum Inside {
    /// The announcer that is measured: the lab starts it.
    #[command(hide = true)]
    Announce { routes: u32, local_as: u32, remote_as: u32, peers: Vec<IpAddr> },
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    if let Some(Inside::Announce { routes, local_as, remote_as, peers }) = arguments.inside {
        announcer::run(routes, local_as, remote_as, &peers)?;
        return Ok(ExitCode::SUCCESS);
    }
    lab::enter()?;
    let program = arguments.program.context("which program is ours?")?;
    let is_quick = speakers(&program, arguments.runs)?;
    let is_ahead = compare(arguments.runs)?;
    Ok(if is_quick && is_ahead { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn millis(time: Duration) -> f64 {
    time.as_micros() as f64 / 1000.0
}

fn mebibytes(kib: u64) -> f64 {
    kib as f64 / 1024.0
}

/// The program itself; true when it is within its budgets.
fn speakers(program: &Path, runs: usize) -> Result<bool> {
    let mut is_good = true;
    println!("{:<48} {:>7} {:>7} {:>8} {:>9}", "start of a speaker", "ms", "budget", "RSS MiB", "peak MiB");
    for (services, source, budget) in
        [(2000, Source::Manifests, Some(START_MAX)), (2000, Source::Api, Some(START_MAX)), (10_000, Source::Api, None)]
    {
        let mut starts = Vec::new();
        for _ in 0..runs {
            starts.push(speaker::start(program, services, source)?);
        }
        let best = starts.iter().min_by_key(|start| start.time).context("no runs")?;
        is_good &= budget.is_none_or(|budget| best.time <= budget);
        println!(
            "{:<48} {:>7.0} {:>7} {:>8.1} {:>9.1}",
            format!("{services} Services {source}"),
            millis(best.time),
            budget.map_or_else(String::new, |budget| budget.as_millis().to_string()),
            mebibytes(best.resident),
            mebibytes(best.peak)
        );
    }
    let changes = speaker::changes(program, CHANGED_SERVICES, CHANGES)?;
    println!(
        "\n{:<48} {:>7} {:>7} {:>7} {:>7} {:>7}",
        format!("a change among {CHANGED_SERVICES} Services: one UPDATE, in ms"),
        "times",
        "least",
        "median",
        "worst",
        "budget"
    );
    for (name, mut times, budget) in [
        ("a Service goes or comes", changes.services, CHANGE_MAX),
        ("the endpoint of a Service goes or comes", changes.endpoints, WITHDRAWAL_MAX),
    ] {
        times.sort_unstable();
        let (least, median, worst) = (times[0], times[times.len() / 2], times[times.len() - 1]);
        is_good &= median <= budget;
        println!(
            "{name:<48} {:>7} {:>7.1} {:>7.1} {:>7.1} {:>7}",
            times.len(),
            millis(least),
            millis(median),
            millis(worst),
            budget.as_millis()
        );
    }
    println!();
    Ok(is_good)
}

/// Our BGP beside that of others; true when it is within its budgets.
fn compare(runs: usize) -> Result<bool> {
    println!(
        "{:>7} {:>5}  {:<6} {:>9} {:>8} {:>9} {:>9} {:>12}",
        "routes", "peers", "", "time ms", "UPDATEs", "peak MiB", "CPU ms", "CPU, all ms"
    );
    let mut missed = Vec::new();
    for (routes, peers) in [(1000, 1), (1000, 8), (10_000, 1), (10_000, 8), (100_000, 1), (100_000, 8)] {
        let mut all = Vec::new();
        for who in Announcer::ALL {
            let mut best = measure(who, routes, peers)?;
            for _ in 1..runs {
                best = best.best(measure(who, routes, peers)?);
            }
            println!(
                "{routes:>7} {peers:>5}  {:<6} {:>9.1} {:>8} {:>9.1} {:>9.1} {:>12.1}",
                who.to_string(),
                millis(best.time),
                best.updates,
                mebibytes(best.peak),
                millis(best.cpu),
                millis(best.cpu_all)
            );
            all.push((who, best));
        }
        let [(_, ours), others @ ..] = all.as_slice() else { continue };
        let faults = others.iter().flat_map(|(who, theirs)| faults(ours, *who, theirs));
        missed.extend(faults.map(|fault| format!("{routes} routes to {peers} peers: {fault}")));
    }
    println!("budget: no more than FRR and GoBGP in time, peak and CPU; no more than 1.5 times BIRD");
    for fault in &missed {
        println!("missed: {fault}");
    }
    Ok(missed.is_empty())
}

/// Where we need more than we may beside this one.
fn faults(ours: &Figures, who: Announcer, theirs: &Figures) -> Vec<String> {
    let factor = if who == Announcer::Daemon(RouterKind::Bird) { 1.5 } else { 1.0 };
    let compared = [
        ("ms", millis(ours.time), millis(theirs.time), NOISE.0),
        ("MiB", mebibytes(ours.peak), mebibytes(theirs.peak), 0.0),
        ("ms of CPU", millis(ours.cpu), millis(theirs.cpu), NOISE.1),
    ];
    let too_much = compared.into_iter().filter(|(_, ours, theirs, noise)| *ours > theirs * factor + noise);
    too_much.map(|(unit, ours, theirs, _)| format!("{ours:.1} {unit}, {who} {theirs:.1}")).collect()
}
