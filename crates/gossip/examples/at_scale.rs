//! Who owns which address while many nodes come and go, in virtual time: `cargo run --release -p gossip --example at_scale`, or with
//! `NODES ADDRESSES CHANGES SEEDS` for one size.
//!
//! Clocks drift, packets get lost, nodes die and come back, and the network falls in two parts. What must hold is checked with every
//! change; the exit status is 101 when it does not, and 1 when an heir needs more time than it may.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::cast_possible_truncation,
    clippy::cast_possible_wrap,
    clippy::cast_precision_loss,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark may panic"
)]
#![allow(dead_code, reason = "the network is shared with the tests, which use more of it")]
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::process::ExitCode;

use kit::Duration;

#[path = "../tests/swim/network.rs"]
mod network;
#[path = "../tests/swim/scale.rs"]
mod scale;

use scale::{Figures, Plan, joined, live_in};

/// In this time an heir knows, also where several died at once, and there is one owner again when the network falls apart or heals.
const BUDGET: Duration = Duration::from_secs(2);
/// The same among more nodes than this, where hundreds of deaths have to get about at once.
const BUDGET_OF_CROWDS: Duration = Duration::from_secs(5);
const CROWD: u64 = 300;
/// So many histories begin with the same nodes that have just joined each other.
const SEEDS_PER_JOINING: u64 = 50;
/// Nodes, addresses, nodes that die or come back, and seeds.
const SIZES: [[u64; 4]; 4] = [[5, 50, 10, 2_000], [20, 200, 20, 200], [100, 1_000, 40, 20], [1_000, 10_000, 20, 1]];

fn main() -> ExitCode {
    let arguments: Vec<u64> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let sizes = <[u64; 4]>::try_from(arguments).map_or(SIZES.to_vec(), |size| vec![size]);
    println!(
        "  nodes  addresses  seeds  heirs that knew: times  median   p99   max   parted: median   max    whole   packets/s: churn  parted"
    );
    let mut is_quick = true;
    for [nodes, addresses, changes, seeds] in sizes {
        let plan =
            |seed| Plan { nodes: nodes as usize, addresses: addresses as usize, changes: changes as usize, seed };
        let mut network = None;
        let all: Vec<Figures> = (0..seeds)
            .map(|seed| {
                if seed % SEEDS_PER_JOINING == 0 {
                    network = Some(joined(nodes as usize, seed));
                }
                live_in(network.clone().unwrap(), plan(seed))
            })
            .collect();
        let mut times: Vec<Duration> = all.iter().flat_map(|it| it.takeovers.iter().copied()).collect();
        times.sort();
        let at = |percent: usize| times[(times.len() * percent).div_ceil(100).clamp(1, times.len()) - 1].as_millis();
        let most = |of: fn(&Figures) -> u64| all.iter().map(of).max().unwrap();
        println!(
            "  {nodes:5}  {addresses:9}  {seeds:5}  {:22}  {:6}  {:4}  {:4}  {:12.2} s  {:4.2} s  {:4.2} s  {:17}  {:6}",
            times.len(),
            at(50),
            at(99),
            at(100),
            middle(all.iter().map(|it| it.parted).collect()).as_millis() as f64 / 1000.0,
            most(|it| it.parted.as_millis()) as f64 / 1000.0,
            most(|it| it.healed.as_millis()) as f64 / 1000.0,
            most(|it| it.packets_churn),
            most(|it| it.packets_parted),
        );
        is_quick &= times.last().is_none_or(|last| *last <= BUDGET);
        let budget = if nodes > CROWD { BUDGET_OF_CROWDS } else { BUDGET };
        let slow = all.iter().position(|it| it.parted.max(it.healed) > budget);
        if let Some(seed) = slow {
            println!("  with seed {seed} an address had not one owner for {}", all[seed].parted.max(all[seed].healed));
            is_quick = false;
        }
    }
    if is_quick { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

fn middle(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}
