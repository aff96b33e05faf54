//! What membership costs and how quickly and calmly it finds the dead, in virtual time:
//! `cargo run --release -p gossip --example swim_figures [traffic] [detection] [calm]`.
//!
//! Each table has memberlist's own timing beside the watch. The exit status is 1 when a budget is missed: a node
//! without power is found in 450 ms, and no living node is declared dead, whatever the network and the scheduler do.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark may panic"
)]
#![allow(dead_code, reason = "the network is shared with the tests, which use more of it")]
#![expect(clippy::print_stdout, reason = "the tables are what it is run for")]

use std::collections::BTreeSet;
use std::process::ExitCode;
use std::sync::OnceLock;

use gossip::{Input, MemberState};
use kit::{Duration, Instant};

#[path = "../tests/swim/network.rs"]
mod network;

use network::{Network, Weather, millis};

/// A node without power is to be found in this time, in a calm network.
const BUDGET: Duration = Duration::from_millis(450);

/// Into how many parts the time is cut in which the processor time is measured.
const STRETCHES: u64 = 10;

/// Whether owners are watched, or memberlist's own timing is left alone with them.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Mode {
    Memberlist,
    Watch,
}

impl Mode {
    const BOTH: [Mode; 2] = [Mode::Memberlist, Mode::Watch];

    fn network(self, count: usize, weather: Weather, seed: u64) -> Network {
        match self {
            Mode::Memberlist => Network::joined(count, weather, seed),
            Mode::Watch => Network::joined_watchfully(count, weather, seed),
        }
    }

    fn text(self) -> &'static str {
        match self {
            Mode::Memberlist => "memberlist",
            Mode::Watch => "watch",
        }
    }
}

#[expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
fn clock() -> u64 {
    static START: OnceLock<std::time::Instant> = OnceLock::new();
    START.get_or_init(std::time::Instant::now).elapsed().as_nanos() as u64
}

/// Every address has an owner and an heir: the first two of all nodes in an order of its own.
fn watch_as_heirs(network: &mut Network, addresses: usize) {
    let count = network.hosts.len();
    let mut watched = vec![BTreeSet::new(); count];
    for _ in 0..addresses {
        let owner = network.below(count as u64) as usize;
        let heir = (owner + 1 + network.below(count as u64 - 1) as usize) % count;
        watched[heir].insert(network::name(owner));
    }
    for (host, members) in watched.into_iter().enumerate() {
        network.input(host, Input::Watch { members });
    }
}

fn traffic() {
    println!("Cost of a node while nothing happens (5 addresses a node; core only, without encryption)\n");
    println!("  nodes  mode        packets/s out  bytes/s out  most packets/s  CPU us per second");
    for (count, seconds) in [(3, 300), (100, 60), (1000, 20)] {
        for mode in Mode::BOTH {
            let mut network = mode.network(count, Weather::FAIR, 1);
            if mode == Mode::Watch {
                watch_as_heirs(&mut network, 5 * count);
            }
            // What was said about joining has been said then.
            network.run(Duration::from_secs(if count > 100 { 60 } else { 10 }));
            let sent = |network: &Network| -> Vec<(u64, u64)> {
                let counters = network.hosts.iter().map(|host| host.membership.counters());
                counters.map(|it| (it.packets_sent, it.bytes_sent)).collect()
            };
            let before = sent(&network);
            network.clock = clock;
            // The cheapest of several stretches: in the others something else ran on this machine.
            let stretch = Duration::from_micros(seconds * 1_000_000 / STRETCHES);
            let spent = (0..STRETCHES).map(|_| {
                network.spent = 0;
                network.run(stretch);
                network.spent as f64 / 1000.0 / count as f64 / stretch.as_micros() as f64 * 1e6
            });
            let spent = spent.fold(f64::INFINITY, f64::min);
            let rates: Vec<(f64, f64)> = sent(&network)
                .iter()
                .zip(&before)
                .map(|(now, before)| ((now.0 - before.0) as f64, (now.1 - before.1) as f64))
                .map(|(packets, bytes)| (packets / seconds as f64, bytes / seconds as f64))
                .collect();
            let mean = |of: fn(&(f64, f64)) -> f64| rates.iter().map(of).sum::<f64>() / count as f64;
            let most = rates.iter().map(|it| it.0).fold(0.0, f64::max);
            println!(
                "  {count:5}  {:10}  {:13.1}  {:11.0}  {most:14.1}  {spent:17.0}",
                mode.text(),
                mean(|it| it.0),
                mean(|it| it.1)
            );
        }
    }
}

struct Times(Vec<Duration>);

impl Times {
    fn at(&self, percent: usize) -> u64 {
        let place = (self.0.len() * percent).div_ceil(100).clamp(1, self.0.len()) - 1;
        self.0[place].as_millis()
    }
}

/// How long it takes until the heirs, and until all, know that a node is dead.
fn detection(count: usize, mode: Mode, weather: Weather, runs: u64) -> (Times, Times) {
    let (mut heirs, mut all) = (Vec::new(), Vec::new());
    for seed in 0..runs {
        let mut network = mode.network(count, Weather { loss_percent: 0, ..weather }, seed);
        if mode == Mode::Watch {
            watch_as_heirs(&mut network, 5 * count);
        }
        network.weather = weather;
        let phase = network.below(1_000_000);
        network.run(Duration::from_secs(3) + Duration::from_micros(phase));
        // One that owns an address: of others, nobody needs to know quickly.
        let watched = |host: &network::Host| host.membership.view().members.into_iter().filter(|it| it.watch.is_some());
        let owners: BTreeSet<_> = network.hosts.iter().flat_map(watched).map(|it| it.name).collect();
        let owners: Vec<usize> =
            (0..count).filter(|it| mode == Mode::Memberlist || owners.contains(&network::name(*it))).collect();
        let victim = owners[network.below(owners.len() as u64) as usize];
        let is_heir = |host: &network::Host| {
            let view = host.membership.view();
            view.members.iter().any(|it| it.name == network::name(victim) && it.watch.is_some())
        };
        let is_heir: Vec<bool> = network.hosts.iter().map(|host| mode == Mode::Memberlist || is_heir(host)).collect();
        let cut: Instant = network.now;
        network.power_off(victim);
        network.run(Duration::from_secs(if mode == Mode::Watch { 5 } else { 60 }));
        for observer in (0..count).filter(|it| *it != victim) {
            let Some(at) = network.told_at(observer, victim, MemberState::Dead, cut) else {
                panic!("node {observer} never heard of the death, with seed {seed}");
            };
            all.push(at - cut);
            if is_heir[observer] {
                heirs.push(at - cut);
            }
        }
    }
    heirs.sort();
    all.sort();
    (Times(heirs), Times(all))
}

fn detections() -> bool {
    println!("\nTime until a node without power is known to be dead, in ms\n");
    println!("  nodes  loss  mode        heirs: median   p99   max    all: median   p99   max");
    let mut is_kept = true;
    for (count, runs) in [(3, 300), (20, 60), (100, 10)] {
        for weather in [Weather::FAIR, Weather::LOSSY] {
            for mode in Mode::BOTH {
                let (heirs, all) = detection(count, mode, weather, runs);
                println!(
                    "  {count:5}  {:3}%  {:10}  {:13}  {:5}  {:5}  {:12}  {:5}  {:5}",
                    weather.loss_percent,
                    mode.text(),
                    heirs.at(50),
                    heirs.at(99),
                    heirs.at(100),
                    all.at(50),
                    all.at(99),
                    all.at(100)
                );
                is_kept &= mode != Mode::Watch || weather.loss_percent > 0 || heirs.at(100) <= BUDGET.as_millis();
            }
        }
    }
    is_kept
}

/// What disturbs living nodes.
#[derive(Clone, Copy)]
struct Trouble {
    text: &'static str,
    weather: Weather,
    /// The least and the most time of a pause of a program, and the mean time between them.
    pauses: Option<(Duration, Duration, Duration)>,
    bearing: Bearing,
}

/// What the watch is to make of a node in trouble.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Bearing {
    Life,
    /// Its program does not run for longer than clients may wait.
    Death,
}

fn troubles() -> [Trouble; 9] {
    let half = millis(500);
    let pauses = Some((half, half, Duration::from_secs(5)));
    // Just shorter than a silence that is borne, and longer.
    let (borne, long) = (millis(1_000), millis(1_500));
    let borne = Some((borne, borne, Duration::from_secs(20)));
    let long = Some((long, long, Duration::from_secs(20)));
    // A third of the time something else runs, up to 150 ms at a time.
    let slow = Some((millis(1), millis(150), millis(225)));
    let plain = |text, weather, pauses| Trouble { text, weather, pauses, bearing: Bearing::Life };
    [
        plain("20% loss", Weather::LOSSY, None),
        plain("pauses of 500 ms", Weather::FAIR, pauses),
        plain("slow scheduling", Weather::FAIR, slow),
        plain("20% loss and pauses", Weather::LOSSY, pauses),
        plain("20% loss and slow scheduling", Weather::LOSSY, slow),
        plain("pauses of 1 s", Weather::FAIR, borne),
        plain("20% loss and pauses of 1 s", Weather::LOSSY, borne),
        Trouble { bearing: Bearing::Death, ..plain("pauses of 1.5 s", Weather::FAIR, long) },
        plain("no kernel probes, pauses of 500 ms", Weather { echo: network::Echo::Dropped, ..Weather::FAIR }, pauses),
    ]
}

/// Lets living nodes be disturbed, and counts who was declared dead, or suspected.
fn alarms(trouble: &Trouble, mode: Mode, count: usize, time: Duration, seed: u64) -> (usize, usize) {
    let mut network = mode.network(count, Weather { loss_percent: 0, ..trouble.weather }, seed);
    network.weather = trouble.weather;
    if mode == Mode::Watch {
        network.watch_all();
    }
    let end = network.now + time;
    while network.now < end {
        match trouble.pauses {
            None => network.run(Duration::from_secs(60)),
            Some((least, most, between)) => {
                let span = (most - least).as_micros();
                let pause = least + Duration::from_micros(network.below(span + 1));
                let host = network.below(count as u64) as usize;
                network.pause(host, pause);
                let gap = Duration::from_micros(network.below(between.times(2).as_micros() / count as u64));
                network.run(gap);
            }
        }
    }
    let suspected = network.changes.iter().filter(|change| change.state == MemberState::Suspect).count();
    (network.false_deaths().len(), suspected)
}

fn calm() -> bool {
    let (count, time, seeds) = (5, Duration::from_secs(1800), 4);
    let hours = time.as_secs() as f64 * seeds as f64 / 3600.0;
    println!("\nLiving nodes that were declared dead, and suspected, by any of {count} nodes in {hours} hours\n");
    println!("  trouble                             mode        dead  suspected");
    let mut is_kept = true;
    for trouble in troubles() {
        for mode in Mode::BOTH {
            let runs = (0..seeds).map(|seed| alarms(&trouble, mode, count, time, seed));
            let (dead, suspected) = runs.fold((0, 0), |sum, it| (sum.0 + it.0, sum.1 + it.1));
            println!("  {:34}  {:10}  {dead:4}  {suspected:9}", trouble.text, mode.text());
            is_kept &= mode != Mode::Watch || trouble.bearing == Bearing::Death || dead == 0;
        }
    }
    is_kept
}

fn main() -> ExitCode {
    // Names of tables; without any, all are made.
    let only: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted = |table: &str| only.is_empty() || only.iter().any(|it| it == table);
    if is_wanted("traffic") {
        traffic();
    }
    let is_quick = !is_wanted("detection") || detections();
    let is_calm = !is_wanted("calm") || calm();
    if is_quick && is_calm { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}
