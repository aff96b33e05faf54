//! What the watch makes of each kind of silence.

use gossip::{Cause, Input, MemberState, Meta, Silence};
use kit::{Duration, Instant};

use crate::network::{Echo, Network, Weather, millis, name};

/// Three members that all watch each other, at some moment of their lives.
fn watched(count: usize, weather: Weather, seed: u64) -> Network {
    let mut network = Network::joined(count, weather, seed);
    network.watch_all();
    let phase = network.below(1_000_000);
    network.run(Duration::from_secs(2) + Duration::from_micros(phase));
    network
}

fn death(network: &Network, observer: usize, of: usize, from: Instant) -> Option<(Duration, Silence)> {
    let is_it = |it: &&crate::network::Change| {
        it.observer == observer && it.name == name(of) && it.state == MemberState::Dead && it.at >= from
    };
    let change = network.changes.iter().find(is_it)?;
    let Cause::Watch(silence) = change.cause else { panic!("not found by the watch: {change:?}") };
    Some((change.at - from, silence))
}

#[test]
fn a_node_without_power_is_found_in_less_than_half_a_second() {
    for seed in 0..50 {
        let mut network = watched(3, Weather::FAIR, seed);
        let cut = network.now;
        network.power_off(0);
        network.run(Duration::from_secs(2));
        let first = [1, 2].iter().filter_map(|heir| network.told_at(*heir, 0, MemberState::Dead, cut)).min().unwrap();
        let last = [1, 2].iter().map(|heir| network.told_at(*heir, 0, MemberState::Dead, cut).unwrap()).max().unwrap();
        assert!(first - cut >= millis(325), "{} with seed {seed}", first - cut);
        assert!(last - cut <= millis(450), "{} with seed {seed}", last - cut);
        assert!(network.agrees());
    }
}

#[test]
fn of_two_nodes_the_one_that_is_left_needs_no_witness() {
    let mut network = watched(2, Weather::FAIR, 1);
    let cut = network.now;
    network.power_off(0);
    network.run(Duration::from_secs(2));
    let (time, silence) = death(&network, 1, 0, cut).unwrap();
    assert!((time <= millis(450), silence) == (true, Silence::Node), "{time} {silence:?}");
}

#[test]
fn when_all_others_die_at_once_it_takes_a_second() {
    let mut network = watched(3, Weather::FAIR, 1);
    let cut = network.now;
    network.power_off(0);
    network.power_off(1);
    network.run(Duration::from_secs(2));
    for dead in [0, 1] {
        let (time, _) = death(&network, 2, dead, cut).unwrap();
        assert!(time >= millis(900) && time <= millis(1200), "{time}");
    }
}

#[test]
fn of_many_nodes_several_may_die_at_once() {
    let mut network = watched(8, Weather::FAIR, 1);
    let cut = network.now;
    for dead in 0..4 {
        network.power_off(dead);
    }
    network.run(Duration::from_secs(2));
    for (observer, dead) in (4..8).flat_map(|observer| (0..4).map(move |dead| (observer, dead))) {
        let time = network.told_at(observer, dead, MemberState::Dead, cut).unwrap() - cut;
        assert!(time <= millis(450), "{time}");
    }
}

#[test]
fn a_program_that_ended_is_waited_for_a_second() {
    let mut network = watched(3, Weather::FAIR, 2);
    let end = network.now;
    network.end(0);
    network.run(Duration::from_secs(3));
    let times = [1, 2].map(|heir| network.told_at(heir, 0, MemberState::Dead, end).unwrap() - end);
    assert!(times.iter().all(|time| (millis(1000)..millis(1200)).contains(time)), "{times:?}");
    let first = network.changes.iter().find(|change| change.state == MemberState::Dead).unwrap();
    assert_eq!(first.cause, Cause::Watch(Silence::Closed));
}

#[test]
fn a_program_that_restarts_within_a_moment_is_not_missed() {
    for seed in 0..20 {
        let mut network = watched(3, Weather::FAIR, seed);
        network.end(0);
        network.run(millis(700));
        network.start(0);
        network.run(Duration::from_secs(5));
        let others: Vec<_> =
            network.changes.iter().filter(|it| it.observer != 0 && it.state != MemberState::Suspect).collect();
        let deaths: Vec<_> = others.iter().filter(|it| it.state == MemberState::Dead).collect();
        assert!(deaths.is_empty(), "with seed {seed}: {deaths:?}");
        network.assert_all_alive();
    }
}

#[test]
fn a_node_that_dies_after_its_program_is_found_at_once() {
    let mut network = watched(3, Weather::FAIR, 2);
    network.end(0);
    network.run(millis(300));
    let cut = network.now;
    network.power_off(0);
    network.run(Duration::from_secs(3));
    let time = network.told_at(1, 0, MemberState::Dead, cut).unwrap() - cut;
    assert!(time <= millis(600), "{time}");
}

#[test]
fn a_stopped_program_is_waited_for_a_second() {
    for (pause, dies) in [(500, false), (1200, false), (1900, true)] {
        let mut network = watched(3, Weather::FAIR, 3);
        let start = network.now;
        network.pause(0, millis(pause));
        network.run(Duration::from_secs(6));
        assert_eq!(network.told_at(1, 0, MemberState::Dead, start).is_some(), dies, "{pause} ms");
        network.assert_all_alive();
    }
}

#[test]
fn whoever_was_declared_dead_and_lives_is_back_within_a_tenth_of_a_second() {
    for seed in 0..20 {
        let mut network = watched(4, Weather::FAIR, seed);
        let start = network.now;
        network.pause(0, millis(1900));
        network.run(millis(1900));
        let resumed = network.now;
        network.run(Duration::from_secs(1));
        for other in 1..4 {
            let dead = network.told_at(other, 0, MemberState::Dead, start).unwrap();
            assert!(dead - start <= millis(1450), "{}", dead - start);
            let back = network.told_at(other, 0, MemberState::Alive, resumed).unwrap() - resumed;
            assert!(back <= millis(100), "back after {back} with seed {seed}");
        }
    }
}

/// Its word is passed on by others when it has fallen silent already.
#[test]
fn a_member_that_falls_silent_after_a_word_is_found_as_quickly() {
    for seed in 0..100 {
        let mut network = watched(3, Weather::LOSSY, seed);
        network.input(0, Input::Meta(Meta::new(b"a word").unwrap()));
        let moment = network.below(30_000);
        network.run(Duration::from_micros(moment));
        let silent = network.now;
        network.pause(0, Duration::from_secs(3));
        network.run(Duration::from_secs(3));
        let first = (1..3).filter_map(|heir| network.told_at(heir, 0, MemberState::Dead, silent)).min();
        let time = first.map(|first| first - silent);
        assert!(time.is_some_and(|time| time <= millis(1600)), "{time:?} with seed {seed}");
    }
}

#[test]
fn our_own_pause_is_nobodys_silence() {
    for pause in [50, 300, 500, 3000, 20_000] {
        for seed in 0..4 {
            let mut network = watched(3, Weather::FAIR, seed);
            network.pause(0, millis(pause));
            network.run(millis(pause) + Duration::from_secs(3));
            let accused: Vec<_> = network.changes.iter().filter(|it| it.observer == 0 && it.name != name(0)).collect();
            assert!(accused.is_empty(), "after {pause} ms, with seed {seed}: {accused:?}");
        }
    }
}

#[test]
fn a_death_during_our_own_pause_is_found_after_it() {
    let mut network = watched(2, Weather::FAIR, 4);
    network.pause(1, millis(400));
    network.run(millis(10));
    network.power_off(0);
    network.run(millis(390));
    let resumed = network.now;
    network.run(Duration::from_secs(2));
    let (time, _) = death(&network, 1, 0, resumed).unwrap();
    assert!(time <= millis(450), "{time}");
}

#[test]
fn a_node_that_is_cut_off_accuses_others_late_and_only_to_itself() {
    let mut network = watched(4, Weather::FAIR, 5);
    let cut = network.now;
    network.hosts[0].island = 1;
    network.run(Duration::from_secs(5));
    for other in 1..4 {
        let time = network.told_at(other, 0, MemberState::Dead, cut).unwrap() - cut;
        assert!(time <= millis(450), "{time}");
        let (time, silence) = death(&network, 0, other, cut).unwrap();
        assert!(time >= Duration::from_secs(1), "{time}");
        assert_eq!(silence, Silence::Alone);
    }
    let healed = network.now;
    network.hosts[0].island = 0;
    network.run(millis(400));
    network.assert_all_alive();
    let flaps: Vec<_> = network
        .changes
        .iter()
        .filter(|it| it.at >= healed && it.observer != 0 && it.name != name(0))
        .filter(|it| it.state == MemberState::Dead)
        .collect();
    assert!(flaps.is_empty(), "{flaps:?}");
}

#[test]
fn a_cut_between_two_that_reach_a_third_is_no_death() {
    let mut network = watched(3, Weather::FAIR, 6);
    network.cuts.insert((0, 1));
    network.run(Duration::from_secs(60));
    assert!(network.false_deaths().is_empty(), "{:?}", network.false_deaths());
    network.assert_all_alive();
}

#[test]
fn islands_heal_without_anybody_being_accused_on_its_own() {
    for seed in 0..20 {
        let mut network = watched(6, Weather::FAIR, seed);
        for host in 3..6 {
            network.hosts[host].island = 1;
        }
        network.run(Duration::from_secs(3));
        let healed = network.now;
        for host in &mut network.hosts {
            host.island = 0;
        }
        network.run(Duration::from_secs(1));
        network.assert_all_alive();
        let is_flap = |it: &&crate::network::Change| {
            let number = |text: &str| text.trim_start_matches("node-").parse::<usize>().unwrap();
            it.at >= healed && it.state == MemberState::Dead && (it.observer < 3) == (number(it.name.as_str()) < 3)
        };
        let flaps: Vec<_> = network.changes.iter().filter(is_flap).collect();
        assert!(flaps.is_empty(), "with seed {seed}: {flaps:?}");
    }
}

#[test]
fn without_kernel_probes_silence_takes_a_second() {
    let deaf = Weather { echo: Echo::Dropped, ..Weather::FAIR };
    let mut network = watched(3, deaf, 7);
    network.pause(1, millis(800));
    network.run(Duration::from_secs(3));
    assert!(network.false_deaths().is_empty());
    let cut = network.now;
    network.power_off(0);
    network.run(Duration::from_secs(3));
    let first = network.changes.iter().find(|it| it.state == MemberState::Dead).unwrap();
    assert_eq!(first.cause, Cause::Watch(Silence::Unknown));
    assert!((millis(1000)..millis(1200)).contains(&(first.at - cut)), "{}", first.at - cut);
}

#[test]
fn twenty_per_cent_of_loss_is_no_death_and_hides_none() {
    for seed in 0..3 {
        let mut network = watched(5, Weather::LOSSY, seed);
        network.run(Duration::from_secs(100));
        assert!(network.false_deaths().is_empty(), "with seed {seed}: {:?}", network.false_deaths());
        let cut = network.now;
        network.power_off(0);
        network.run(Duration::from_secs(2));
        for other in 1..5 {
            let time = network.told_at(other, 0, MemberState::Dead, cut).unwrap() - cut;
            assert!(time <= millis(600), "{time} with seed {seed}");
        }
    }
}

#[test]
fn a_far_member_gets_the_time_that_its_answers_need() {
    let far = Weather { latency: (40_000, 60_000), ..Weather::FAIR };
    let mut network = watched(3, far, 8);
    network.run(Duration::from_secs(60));
    assert!(network.changes.iter().all(|it| it.state == MemberState::Alive), "{:?}", network.changes);
    let cut = network.now;
    network.power_off(0);
    network.run(Duration::from_secs(3));
    let time = network.told_at(1, 0, MemberState::Dead, cut).unwrap() - cut;
    assert!(time <= millis(900), "{time}");
}

#[test]
fn whoever_is_not_wanted_any_more_is_not_pinged() {
    let mut network = watched(3, Weather::FAIR, 9);
    for host in 0..3 {
        network.input(host, Input::Watch { members: [].into() });
    }
    let before = network.hosts[0].membership.counters().packets_sent;
    network.run(Duration::from_secs(10));
    let sent = network.hosts[0].membership.counters().packets_sent - before;
    assert!(sent <= 30, "{sent} packets in ten seconds");
}

#[test]
fn in_a_large_cluster_each_watches_a_few() {
    let mut network = Network::joined(60, Weather::FAIR, 10);
    network.watch_all();
    network.run(Duration::from_secs(2));
    let mut watchers = vec![0; 60];
    for host in &network.hosts {
        let view = host.membership.view();
        let watched: Vec<_> = view.members.iter().filter(|it| it.watch.is_some()).collect();
        assert_eq!(watched.len(), 16);
        for member in watched {
            watchers[member.name.as_str().trim_start_matches("node-").parse::<usize>().unwrap()] += 1;
        }
    }
    assert!(watchers.iter().all(|count| *count >= 4), "{watchers:?}");
}
