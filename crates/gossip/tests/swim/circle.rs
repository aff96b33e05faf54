//! What is seen of members that nobody wants watched: each watches a few others all the same, and looks at more when one of
//! them falls silent.

use std::collections::BTreeSet;

use gossip::{Cause, Input, MemberState, Name};
use kit::{Duration, Instant};

use crate::network::{Network, Weather, millis, name, plain, watchful};

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
            for it in watched {
                watchers[it] += 1;
            }
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

/// Members whose packets do not arrive any more though they did before: connections do.
#[test]
fn a_member_that_answers_no_packets_any_more_is_left_to_memberlist() {
    let mixed = |name: Name, address| {
        if name.as_str() == "node-0" { watchful(name, address) } else { plain(name, address) }
    };
    for seed in 0..10 {
        // Among others that watch nobody, as Go's do.
        let mut network = Network::configured(9, Weather::FAIR, seed, mixed);
        network.join_all();
        network.run(Duration::from_secs(20));
        let seen = watched(&network, 0);
        let deaf = (1..9).find(|host| !seen.contains(host)).unwrap();
        network.deaf.insert(deaf);
        network.run(Duration::from_secs(120));
        network.power_off(*seen.first().unwrap());
        network.run(Duration::from_secs(10));
        assert!(sweeps(&network) > 0);
        let judged = network.changes.iter().find(|it| it.name == name(deaf) && it.state == MemberState::Dead);
        assert!(judged.is_none(), "{judged:?} with seed {seed}");
    }
}

#[test]
fn a_network_that_falls_apart_right_after_a_death_is_seen_all_the_same() {
    for (count, gap) in [(12, 0), (12, 500), (12, 900), (12, 1_100), (40, 500), (40, 700)] {
        let mut network = Network::joined_watchfully(count, Weather::FAIR, gap);
        let dead = count - 1;
        // Those that look at others because of the death are a part of their own then.
        let part: Vec<usize> = (0..dead).filter(|host| watched(&network, *host).contains(&dead)).collect();
        network.power_off(dead);
        network.run(millis(gap));
        let cut = network.now;
        for host in &part {
            network.hosts[*host].island = 1;
        }
        network.run(Duration::from_secs(10));
        let others = (0..dead).filter(|host| !part.contains(host));
        let pairs = others.flat_map(|other| part.iter().map(move |host| (*host, other)));
        let times = pairs.map(|(host, other)| network.told_at(host, other, MemberState::Dead, cut).unwrap() - cut);
        let last = times.max().unwrap();
        assert!(last <= Duration::from_secs(2), "{last} with {count} nodes and {gap} ms between the two");
    }
}

#[test]
fn whoever_was_cut_off_alone_tells_nobody_that_all_others_are_dead() {
    for count in [5, 60] {
        let mut network = Network::joined_watchfully(count, Weather::FAIR, 3);
        network.hosts[0].island = 1;
        network.run(Duration::from_secs(4));
        assert_eq!(network.hosts[0].membership.names().count(), 1, "it takes all others for dead");
        network.hosts[0].island = 0;
        let back = network.now;
        network.changes.clear();
        let denials = |network: &Network| -> u64 {
            network.hosts[1..].iter().map(|host| host.membership.counters().denials).sum()
        };
        let before = denials(&network);
        network.run(Duration::from_secs(40));
        let accused = network.changes.iter().find(|it| it.name != name(0) && it.observer != 0);
        assert!(accused.is_none(), "{accused:?} with {count} nodes");
        assert_eq!(denials(&network), before);
        let seen = (1..count).map(|other| network.told_at(0, other, MemberState::Alive, back).unwrap() - back).max();
        let known = (1..count).map(|other| network.told_at(other, 0, MemberState::Alive, back).unwrap() - back).max();
        assert!(seen.max(known) <= Some(millis(1_500)), "{seen:?} {known:?}");
    }
}

#[test]
fn whoever_leaves_looks_at_nobody_and_tells_nothing_but_that() {
    let mut network = Network::joined_watchfully(12, Weather::FAIR, 1);
    let watcher = (0..11).find(|host| watched(&network, *host).contains(&11)).unwrap();
    network.power_off(11);
    while sweeps(&network) == 0 {
        network.run(millis(1));
    }
    network.run(millis(20));
    network.input(watcher, Input::Leave);
    network.run(Duration::from_secs(1));
    let sent = |network: &Network| network.hosts[watcher].membership.counters().packets_sent;
    let before = sent(&network);
    network.start(11);
    network.run(Duration::from_secs(5));
    // Answers to those that do not know yet, and gossip.
    assert!(sent(&network) - before <= 100, "{} packets after it left", sent(&network) - before);
    assert!(watched(&network, watcher).is_empty());
}
