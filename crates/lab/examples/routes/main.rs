//! What announcing routes costs, beside FRR, BIRD and GoBGP:
//! `cargo run --release -p lab --example routes PROGRAM`.

#![allow(clippy::arithmetic_side_effects, clippy::cast_precision_loss, clippy::indexing_slicing, clippy::unwrap_used)]
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

mod announcer;
mod api;
mod dump;
mod objects;
mod sink;
mod speaker;
mod usage;

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::{Parser, Subcommand};

use dump::{Announcer, Figures, measure};
use kit::Duration;
use speaker::Source;

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
    let is_quick = std::env::var_os("DUMP").is_some() || speakers(&program, arguments.runs)?;
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
    println!("{:<48} {:>8} {:>9} {:>8}", "start of a speaker", "ms", "RSS MiB", "peak MiB");
    for (services, source) in [(2000, Source::Manifests), (2000, Source::Api), (10_000, Source::Api)] {
        for _ in 0..runs {
            let start = speaker::start(program, services, source)?;
            println!(
                "{:<48} {:>8.0} {:>9.1} {:>8.1}",
                format!("{services} Services, {source}"),
                millis(start.time),
                mebibytes(start.resident),
                mebibytes(start.peak)
            );
        }
    }
    let changes = speaker::changes(program, 10_000, 50)?;
    for (name, mut times) in [("service", changes.services), ("endpoint", changes.endpoints)] {
        times.sort_unstable();
        println!(
            "{name}: {:.1} {:.1} {:.1}",
            millis(times[0]),
            millis(times[times.len() / 2]),
            millis(times[times.len() - 1])
        );
    }
    is_good &= true;
    Ok(is_good)
}

fn compare(runs: usize) -> Result<bool> {
    println!(
        "{:>7} {:>5}  {:<6} {:>9} {:>8} {:>9} {:>9} {:>12}",
        "routes", "peers", "", "time ms", "UPDATEs", "peak MiB", "CPU ms", "CPU, all ms"
    );
    for (routes, peers) in [(1000, 1), (1000, 8), (10_000, 1), (10_000, 8), (100_000, 1), (100_000, 8)] {
        for who in Announcer::ALL {
            let mut best: Option<Figures> = None;
            for _ in 0..runs {
                let figures = measure(who, routes, peers)?;
                best = Some(best.map_or(figures, |best| best.best(figures)));
            }
            let Some(figures) = best else { continue };
            println!(
                "{routes:>7} {peers:>5}  {:<6} {:>9.1} {:>8} {:>9.1} {:>9.1} {:>12.1}",
                who.to_string(),
                millis(figures.time),
                figures.updates,
                mebibytes(figures.peak),
                millis(figures.cpu),
                millis(figures.cpu_all)
            );
        }
    }
    Ok(true)
}
