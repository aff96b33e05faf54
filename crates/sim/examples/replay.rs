//! Runs seeds and tells what happened.
//!
//! - `cargo run -p sim --example replay -- 17` prints what happens under seed 17, up to where something goes wrong;
//! - with `--shrink` behind it, steps are left out as long as the same thing goes wrong;
//! - `0..10000` in place of the seed runs many, and prints a line for each that fails.
//!
//! It ends with status 1 when something went wrong.

use std::io::{self, Write};
use std::ops::Range;
use std::process::ExitCode;

use sim::{KeepsTrace, Plan};

fn main() -> io::Result<ExitCode> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let shrinks = arguments.iter().any(|text| text == "--shrink");
    let first = arguments.first().map(String::as_str).unwrap_or_default();
    let mut out = io::stdout().lock();
    if let Ok(seed) = first.parse() {
        replay(seed, shrinks, &mut out)
    } else if let Some(seeds) = range(first) {
        sweep(seeds, &mut out)
    } else {
        writeln!(io::stderr(), "usage: replay SEED [--shrink] | FROM..TO")?;
        Ok(ExitCode::from(2))
    }
}

fn range(text: &str) -> Option<Range<u64>> {
    let (from, to) = text.split_once("..")?;
    Some(from.parse().ok()?..to.parse().ok()?)
}

fn replay(seed: u64, shrinks: bool, out: &mut impl Write) -> io::Result<ExitCode> {
    let plan = if shrinks { Plan::of_seed(seed).shrink() } else { Plan::of_seed(seed) };
    match plan.run(KeepsTrace::Yes) {
        Ok(cluster) => {
            for line in cluster.trace() {
                writeln!(out, "{line}")?;
            }
            writeln!(out, "seed {seed}: all is well")?;
            Ok(ExitCode::SUCCESS)
        }
        Err(failure) => {
            writeln!(out, "{failure}")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn sweep(seeds: Range<u64>, out: &mut impl Write) -> io::Result<ExitCode> {
    // What a core says when it finds itself broken is in the line of its seed.
    std::panic::set_hook(Box::new(|_| {}));
    let mut failed = false;
    for seed in seeds {
        if let Err(failure) = Plan::of_seed(seed).run(KeepsTrace::No) {
            failed = true;
            writeln!(out, "seed {seed}: after {} steps it is {}", failure.steps, failure.violation)?;
        }
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}
