//! How soon BFD notices that a router died, and whether it takes a living one for dead while the machine is busy:
//! `cargo run --release -p lab --example bfd_timing`.
//!
//! Three parts. A router (BIRD) is killed again and again, and each time is measured until our client hears of it. Two of
//! our drivers watch each other at 3 x 50 ms, in both families, while twice as many threads as there are processors do nothing but
//! compute; each of the two would take the other's lateness for its death. And the same at 3 x 10 ms with nothing else
//! going on. What the thread gets of the scheduler is shown, for it makes the difference: `ulimit -r 1` lets it run before
//! all others.
//!
//! Each part is left out when its argument is 0, so that one of them can be had alone, for as long as it is wanted:
//! `ulimit -r 1; cargo run --release -p lab --example bfd_timing -- --runs 0 --busy-minutes 30 --idle-minutes 0`.
//!
//! The exit status is 1 when a death took longer than its budget, or a living neighbour was taken for dead at 3 x 50 ms.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::unwrap_used)]
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, sync_channel};
use std::thread;

use anyhow::{Context as _, Result, bail, ensure};
use bfd::{Path, Profile};
use clap::Parser;
use kit::{Duration, Instant};
use lab::router::{Router, RouterConfig, RouterKind};
use lab::{Host, Lab, Task};
use netio::bfd::{Bfd, Event, Reader};
use netio::clock::Clock;

/// From the death of the router to the news of it, at 3 x 50 ms.
const BUDGET: Duration = Duration::from_millis(200);
/// Until a session must be up.
const PATIENCE: Duration = Duration::from_secs(30);

#[derive(Parser)]
struct Arguments {
    /// How often the router is killed.
    #[arg(long, default_value_t = 40)]
    runs: usize,
    /// For how long the machine is kept busy.
    #[arg(long, default_value_t = 10)]
    busy_minutes: u64,
    /// For how long it is watched when it is not.
    #[arg(long, default_value_t = 2)]
    idle_minutes: u64,
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    lab::enter()?;
    let lab = Lab::new("bfd")?;
    let (lan, node, router) = (lab.switch("lan")?, lab.host("node")?, lab.host("router")?);
    for (host, last) in [(&node, 1), (&router, 2)] {
        host.plug("eth0", &lan)?.address(&format!("10.0.0.{last}/24"))?.address(&format!("fd00::{last}/64"))?;
    }
    let is_quick = arguments.runs == 0 || deaths(&node, &router, arguments.runs)?;
    let alarms = |interval_ms, minutes, threads| match minutes {
        0 => Ok(0),
        minutes => alarms(&node, &router, interval_ms, Duration::from_secs(60 * minutes), || busy_loops(threads)),
    };
    let processors = thread::available_parallelism().map_or(1, usize::from);
    let while_busy = alarms(50, arguments.busy_minutes, 2 * processors)?;
    alarms(10, arguments.idle_minutes, 0)?;
    Ok(if is_quick && while_busy == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// A driver on a host, and what its clients are told, with the time.
struct Driver {
    told: Receiver<(Instant, String, Event)>,
    reader: Reader<String>,
    clock: Clock,
    _task: Task<()>,
}

impl Driver {
    fn start(host: &Host, paths: Vec<(Path, Profile)>) -> Result<Driver> {
        let clock = Clock::start();
        let ((tell, told), (give, given)) = (sync_channel(4096), sync_channel(1));
        let task = host.start_task("bfd", async move || {
            let mut bfd = Bfd::start(clock)?;
            give.send(bfd.reader())?;
            for (path, profile) in paths {
                bfd.watch(path.to_string(), path, profile);
            }
            loop {
                let (client, event) = bfd.next().await;
                tell.send((clock.now(), client, event))?;
            }
        })?;
        Ok(Driver { told, reader: given.recv()?, clock, _task: task })
    }

    /// What is told next, if it is told in time.
    fn next(&self, limit: Duration) -> Result<Option<(Instant, String, Event)>> {
        match self.told.recv_timeout(limit.into()) {
            Ok(told) => Ok(Some(told)),
            Err(RecvTimeoutError::Timeout) => Ok(None),
            Err(RecvTimeoutError::Disconnected) => bail!("the driver has ended"),
        }
    }

    fn wait(&self, wanted: impl Fn(Event) -> bool) -> Result<Instant> {
        loop {
            let (at, _, event) = self.next(PATIENCE)?.context("nothing was told in time")?;
            if wanted(event) {
                return Ok(at);
            }
        }
    }

    fn precedence(&self) -> Result<String> {
        Ok(format!("{:?}", self.reader.status().precedence.context("the thread has not run yet")?))
    }
}

fn profile(interval_ms: u64) -> Profile {
    let interval = Duration::from_millis(interval_ms);
    Profile { receive_interval: interval, transmit_interval: interval, ..Profile::default() }
}

fn paths(last: u8, interval_ms: u64) -> Vec<(Path, Profile)> {
    let path = |remote: String| (Path::single_hop(remote.parse().unwrap()), profile(interval_ms));
    vec![path(format!("10.0.0.{last}")), path(format!("fd00::{last}"))]
}

/// Kills a router so many times; false when the budget was missed.
fn deaths(node: &Host, host: &Host, runs: usize) -> Result<bool> {
    println!("== a router is killed, 3 x 50 ms");
    let mut config = RouterConfig::new(64500, "10.0.0.2")?;
    config.extra =
        "protocol bfd { interface \"*\" { interval 50 ms; multiplier 3; }; neighbor 10.0.0.1 dev \"eth0\"; }\n"
            .to_owned();
    let driver = Driver::start(node, paths(2, 50).into_iter().take(1).collect())?;
    let (mut spans, mut early) = (Vec::new(), 0);
    while spans.len() < runs {
        ensure!(early < runs, "the session does not stay up: BIRD gets no time on this machine");
        let mut router = Router::start(host, RouterKind::Bird, &config)?;
        driver.wait(|event| event == Event::Up)?;
        // Until the intervals are negotiated, and not always to the same point of one.
        thread::sleep(std::time::Duration::from_millis(1500 + 17 * spans.len() as u64 % 50));
        if driver.next(Duration::ZERO)?.is_some() {
            early += 1;
            router.kill()?;
            while driver.next(Duration::from_secs(1))?.is_some() {}
            continue;
        }
        let killed_at = driver.clock.now();
        router.kill()?;
        spans.push(driver.wait(|event| matches!(event, Event::Down(_)))?.since(killed_at));
    }
    spans.sort_unstable();
    let at = |percent: usize| spans[(spans.len() - 1) * percent / 100];
    println!("   {} runs: {} to {}, median {}, 90 % within {}", spans.len(), at(0), at(100), at(50), at(90));
    println!("   {early} more in which the living router was taken for dead");
    println!("   thread: {}, longest delay {}", driver.precedence()?, driver.reader.status().delay_max);
    let is_quick = at(100) <= BUDGET;
    println!("   budget {BUDGET}: {}", if is_quick { "kept" } else { "missed" });
    Ok(is_quick)
}

/// Two drivers watch each other; how often one takes the other for dead.
fn alarms(node: &Host, router: &Host, interval_ms: u64, span: Duration, load: impl FnOnce() -> Load) -> Result<usize> {
    let drivers = [Driver::start(node, paths(2, interval_ms))?, Driver::start(router, paths(1, interval_ms))?];
    for driver in &drivers {
        for _ in 0..2 {
            driver.wait(|event| event == Event::Up)?;
        }
    }
    let load = load();
    println!("== {} busy threads, 3 x {interval_ms} ms, {} min", load.threads.len(), span.as_secs() / 60);
    thread::sleep(span.into());
    let mut alarms = Vec::new();
    for driver in &drivers {
        // What was told is in its channel.
        while let Some((at, client, event)) = driver.next(Duration::ZERO)? {
            if let Event::Down(reason) = event {
                alarms.push(format!("{client} after {}: {reason}", at.since(Instant::ZERO)));
            }
        }
    }
    drop(load);
    println!("   {} false alarms", alarms.len());
    alarms.iter().take(10).for_each(|alarm| println!("   {alarm}"));
    for driver in &drivers {
        println!("   thread: {}, longest delay {}", driver.precedence()?, driver.reader.status().delay_max);
    }
    Ok(alarms.len())
}

/// Threads that do nothing but compute, until this is dropped.
struct Load {
    is_over: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<u64>>,
}

fn busy_loops(count: usize) -> Load {
    let is_over = Arc::new(AtomicBool::new(false));
    let spin = |is_over: Arc<AtomicBool>| {
        move || {
            let mut number = 1u64;
            while !is_over.load(Ordering::Relaxed) {
                for _ in 0..1_000_000 {
                    number = std::hint::black_box(number.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1));
                }
            }
            number
        }
    };
    let threads = (0..count).map(|_| thread::spawn(spin(Arc::clone(&is_over)))).collect();
    Load { is_over, threads }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            drop(thread.join());
        }
    }
}
