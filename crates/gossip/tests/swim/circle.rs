//! What is seen of members that nobody wants watched: each watches a few others all the same, and looks at more when one of them falls
//! silent.

use std::collections::BTreeSet;

use gossip::{Cause, Input, MemberState};
use kit::{Duration, Instant};

use crate::network::{Network, Weather, millis, name, watchful};

/// Whom a host watches.
fn watched(network: &Network, host: usize) -> BTreeSet<usize> {
    let watched = network.hosts[host].membership.view().members.into_iter().filter(|it| it.watch.is_some());
    watched.map(|it| it.name.as_str().trim_start_matches("node-").parse().unwrap()).collect()
}

fn sweeps(network: &Network) -> u64 {
    network.hosts.iter().map(|host| host.membership.counters().sweeps).sum()
}

/// How long the others needed to know of a death: the first and the last.
fn known_after(network: &Network, dead: usize, cut: Instant) -> (Duration, Duration) {
    let others = (0..network.hosts.len()).filter(|host| *host != dead);
    let times: Vec<Duration> =
        others.map(|host| network.told_at(host, dead, MemberState::Dead, cut).unwrap() - cut).collect();
    (*times.iter().min().unwrap(), *times.iter().max().unwrap())
}

#[test]
fn each_watches_three_and_is_watched_by_three() {
    for count in [2, 3, 4, 5, 60] {
        let network = Network::joined_watchfully(count, Weather::FAIR, 1);
        let mut watchers = vec![0; count];
        for host in 0..count {
            let watched = watched(&network, host);
            assert_eq!(watched.len(), 3.min(count - 1), "{host} of {count} watches {watched:?}");
            watched.iter().for_each(|it| watchers[*it] += 1);
        }
        assert!(watchers.iter().all(|it| *it == 3.min(count - 1)), "{watchers:?}");
    }
}

#[test]
fn whoever_dies_unwatched_by_any_heir_is_found_in_half_a_second() {
    for seed in 0..20 {
        let mut network = Network::joined_watchfully(20, Weather::FAIR, seed);
        let cut = network.now;
        network.power_off(7);
        network.run(Duration::from_secs(3));
        let (_, last) = known_after(&network, 7, cut);
        assert!(last <= millis(500), "{last} with seed {seed}");
        assert!(network.agrees());
    }
}

#[test]
fn one_death_makes_its_three_watchers_look_at_a_few_others() {
    let mut network = Network::joined_watchfully(60, Weather::FAIR, 1);
    network.power_off(7);
    network.run(Duration::from_secs(2));
    assert_eq!(sweeps(&network), 3);
    assert!(network.false_deaths().is_empty(), "{:?}", network.false_deaths());
    // And are done with it.
    (0..60).filter(|host| *host != 7).for_each(|host| assert!(watched(&network, host).len() <= 4, "{host}"));
}

#[test]
fn lost_packets_and_pauses_are_no_reason_to_look_at_others() {
    let mut network = Network::joined_watchfully(20, Weather::LOSSY, 1);
    for _ in 0..60 {
        let host = network.below(20) as usize;
        network.pause(host, millis(300));
        network.run(Duration::from_secs(1));
    }
    assert_eq!(sweeps(&network), 0);
    assert!(network.false_deaths().is_empty(), "{:?}", network.false_deaths());
}

#[test]
fn a_member_that_answers_no_packets_is_left_to_memberlist() {
    for seed in 0..10 {
        let mut network = Network::configured(9, Weather::FAIR, seed, watchful);
        network.deaf.insert(8);
        network.join_all();
        network.run(Duration::from_secs(20));
        assert!(network.hosts.iter().all(|host| host.membership.is_member(&name(8))), "with seed {seed}");
        network.power_off(3);
        network.run(Duration::from_secs(10));
        assert!(sweeps(&network) > 0);
        let judged = network.changes.iter().find(|it| it.name == name(8) && matches!(it.cause, Cause::Watch(_)));
        assert!(judged.is_none(), "{judged:?} with seed {seed}");
    }
}

#[test]
fn whoever_dies_just_after_it_came_or_when_it_is_first_wanted_is_found_soon() {
    for seed in 0..30 {
        let mut network = Network::joined_watchfully(6, Weather::FAIR, seed);
        network.power_off(0);
        network.run(Duration::from_secs(3));
        let start = network.now;
        network.start(0);
        let delay = 1 + network.below(50);
        while network.told_at(1, 0, MemberState::Alive, start).is_none() {
            network.run(millis(1));
        }
        network.input(1, Input::Watch { members: [name(0)].into() });
        network.run(millis(delay));
        let cut = network.now;
        network.power_off(0);
        network.run(Duration::from_secs(3));
        let time = network.told_at(1, 0, MemberState::Dead, cut).unwrap() - cut;
        assert!(time <= millis(1_300), "{time}, {delay} ms after it came, with seed {seed}");
    }
}
