//! What holds for any history: members converge when trouble ends, nobody is declared dead for a loss that is bounded,
//! and each change is told exactly once (which the network checks in every test).

use gossip::{Input, MemberState};
use kit::{Duration, Instant};
use proptest::prelude::*;

use crate::network::{Network, Power, Program, Weather, millis};

/// Something that happens to a cluster.
#[derive(Clone, Debug)]
enum Op {
    /// Time passes.
    Wait(u64),
    PowerOff(usize),
    /// The program ends.
    End(usize),
    Start(usize),
    Pause(usize, u64),
    Leave(usize),
    /// A host goes to an island.
    Island(usize, u32),
    Cut(usize, usize),
    Loss(u64),
}

fn op(hosts: usize) -> impl Strategy<Value = Op> {
    let host = 0..hosts;
    prop_oneof![
        8 => (1..3000_u64).prop_map(Op::Wait),
        2 => host.clone().prop_map(Op::PowerOff),
        2 => host.clone().prop_map(Op::End),
        3 => host.clone().prop_map(Op::Start),
        3 => (host.clone(), 10..4000_u64).prop_map(|(host, time)| Op::Pause(host, time)),
        1 => host.clone().prop_map(Op::Leave),
        2 => (host.clone(), 0..2_u32).prop_map(|(host, island)| Op::Island(host, island)),
        1 => (host.clone(), host).prop_map(|(a, b)| Op::Cut(a.min(b), a.max(b))),
        2 => (0..40_u64).prop_map(Op::Loss),
    ]
}

/// Trouble that a live cluster must bear: loss in each direction, and pauses of half a second.
fn bearable(hosts: usize) -> impl Strategy<Value = Op> {
    prop_oneof![
        6 => (1..5000_u64).prop_map(Op::Wait),
        4 => (0..hosts, 10..=500_u64).prop_map(|(host, time)| Op::Pause(host, time)),
        2 => (0..=20_u64).prop_map(Op::Loss),
    ]
}

fn apply(network: &mut Network, op: &Op) {
    match *op {
        Op::Wait(time) => network.run(millis(time)),
        Op::PowerOff(host) => network.power_off(host),
        Op::End(host) => network.end(host),
        Op::Start(host) => {
            if network.hosts[host].program == Program::Ended {
                network.start(host);
                network.watch_all();
            }
        }
        Op::Pause(host, time) => network.pause(host, millis(time)),
        Op::Leave(host) => network.input(host, Input::Leave),
        Op::Island(host, island) => network.hosts[host].island = island,
        Op::Cut(a, b) => drop(network.cuts.insert((a, b))),
        Op::Loss(percent) => network.weather.loss_percent = percent,
    }
}

/// Ends all trouble. Who left has to be started anew, as Kubernetes does.
fn heal(network: &mut Network) {
    network.weather = Weather::FAIR;
    network.cuts.clear();
    for host in &mut network.hosts {
        host.island = 0;
    }
    for host in network.leaving.clone() {
        if network.hosts[host].program != Program::Ended {
            network.end(host);
            network.start(host);
        }
    }
    network.join_all();
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(if cfg!(debug_assertions) { 40 } else { 500 }))]

    #[test]
    fn whatever_happened_members_agree_in_the_end(
        seed: u64,
        count in 2..7_usize,
        ops in prop::collection::vec(op(7), 1..40),
    ) {
        let mut network = Network::joined(count, Weather::FAIR, seed);
        network.watch_all();
        network.run(Duration::from_secs(1));
        for op in &ops {
            let is_possible = match op {
                Op::Wait(_) | Op::Loss(_) => true,
                Op::PowerOff(a) | Op::End(a) | Op::Start(a) | Op::Pause(a, _) | Op::Leave(a) | Op::Island(a, _) => *a < count,
                Op::Cut(a, b) => a != b && *b < count,
            };
            if is_possible {
                apply(&mut network, op);
            }
        }
        heal(&mut network);
        // The longest pause.
        network.run(millis(4000));
        // Dials that found nobody are tried again after ten seconds at most, which time out, and fifteen more.
        let end = network.now + Duration::from_secs(60);
        while network.now < end && !network.agrees() {
            network.run(Duration::from_secs(1));
        }
        prop_assert!(network.agrees(), "not in agreement {:?} after the end", Duration::from_secs(60));
        // And it stays so.
        network.changes.clear();
        network.run(Duration::from_secs(10));
        prop_assert!(network.agrees());
        prop_assert!(network.false_deaths().is_empty(), "{:?}", network.false_deaths());
    }

    #[test]
    fn nobody_dies_of_loss_and_short_pauses(
        seed: u64,
        count in 3..7_usize,
        ops in prop::collection::vec(bearable(3), 1..40),
    ) {
        let mut network = Network::joined(count, Weather::FAIR, seed);
        network.watch_all();
        network.run(Duration::from_secs(1));
        for op in &ops {
            apply(&mut network, op);
        }
        network.run(Duration::from_secs(5));
        prop_assert!(network.false_deaths().is_empty(), "{:?}", network.false_deaths());
    }

    #[test]
    fn a_dead_node_is_found_whatever_else_happens(
        seed: u64,
        count in 3..7_usize,
        ops in prop::collection::vec(bearable(3), 1..10),
    ) {
        let mut network = Network::joined(count, Weather::FAIR, seed);
        network.watch_all();
        network.run(Duration::from_secs(1));
        for op in &ops {
            apply(&mut network, op);
        }
        network.run(Duration::from_secs(2));
        let cut: Instant = network.now;
        network.power_off(0);
        network.run(millis(1200));
        let runs = |host: &usize| network.hosts[*host].power == Power::On;
        for other in (1..count).filter(runs) {
            prop_assert!(network.told_at(other, 0, MemberState::Dead, cut).is_some(), "node {other} did not find it");
        }
    }
}
