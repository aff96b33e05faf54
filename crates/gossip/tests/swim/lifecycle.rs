//! The life of members: joining, leaving, restarting, and what becomes of each when others are wrong about it.

use std::collections::BTreeSet;

use gossip::{Cause, Input, MemberState, Meta, Report};
use kit::Duration;

use crate::network::{Network, Weather, millis, name};

#[test]
fn members_join_and_know_each_other() {
    for count in [1, 2, 3, 10, 40] {
        let network = Network::joined(count, Weather::FAIR, 1);
        assert!(network.agrees());
    }
}

#[test]
fn all_speakers_are_joined_within_a_second() {
    let mut network = Network::new(10, Weather::FAIR, 1);
    network.join_all();
    network.run(Duration::from_secs(1));
    network.assert_all_alive();
}

#[test]
fn a_speaker_that_starts_later_is_joined_by_its_own_list() {
    let mut network = Network::joined(4, Weather::FAIR, 3);
    network.power_off(3);
    network.run(Duration::from_secs(60));
    assert!(network.agrees(), "the dead is forgotten");
    network.start(3);
    network.run(millis(500));
    network.assert_all_alive();
}

#[test]
fn an_address_that_nobody_has_is_tried_again_less_and_less_often() {
    let mut network = Network::joined(3, Weather::FAIR, 3);
    network.end(2);
    network.run(Duration::from_secs(60));
    network.reports.clear();
    network.run(Duration::from_secs(60));
    let failed = |(_, host, report): &&(_, usize, Report)| *host == 0 && matches!(report, Report::JoinFailed { .. });
    let attempts = network.reports.iter().filter(failed).count();
    assert!((3..=6).contains(&attempts), "{attempts} attempts in a minute");
}

#[test]
fn islands_that_were_apart_for_long_find_each_other_again() {
    let mut network = Network::joined(6, Weather::FAIR, 5);
    for host in 3..6 {
        network.hosts[host].island = 1;
    }
    network.run(Duration::from_secs(120));
    for host in &network.hosts {
        assert_eq!(host.membership.names().count(), 3);
    }
    for host in &mut network.hosts {
        host.island = 0;
    }
    network.run(Duration::from_secs(20));
    network.assert_all_alive();
}

#[test]
fn whoever_leaves_is_known_to_have_left_at_once() {
    for (weather, limit) in [(Weather::FAIR, 5), (Weather::LOSSY, 400)] {
        let mut network = Network::joined(5, weather, 7);
        network.watch_all();
        network.run(millis(1500));
        let start = network.now;
        network.input(2, Input::Leave);
        network.run(millis(limit));
        assert!(network.left.contains(&2));
        for other in [0, 1, 3, 4] {
            assert!(network.told_at(other, 2, MemberState::Left, start).is_some());
        }
    }
}

#[test]
fn leaving_takes_a_second_at_most_when_nobody_answers() {
    let mut network = Network::joined(3, Weather::FAIR, 7);
    network.hosts[1].island = 1;
    network.input(1, Input::Leave);
    network.run(millis(900));
    assert!(!network.left.contains(&1));
    network.run(millis(150));
    assert!(network.left.contains(&1));
}

#[test]
fn whoever_is_alone_leaves_at_once() {
    let mut network = Network::new(1, Weather::FAIR, 7);
    network.input(0, Input::Leave);
    assert!(network.left.contains(&0));
    assert_eq!(network.hosts[0].membership.names().count(), 0);
}

#[test]
fn whoever_left_comes_back_as_a_new_program() {
    let mut network = Network::joined(3, Weather::FAIR, 9);
    network.watch_all();
    network.input(1, Input::Leave);
    network.run(millis(200));
    network.end(1);
    network.run(Duration::from_secs(5));
    let start = network.now;
    network.start(1);
    network.run(millis(300));
    for other in [0, 2] {
        assert!(network.told_at(other, 1, MemberState::Alive, start).is_some());
    }
    network.assert_all_alive();
}

#[test]
fn a_program_that_ended_and_was_started_again_denies_its_death() {
    let mut network = Network::joined(4, Weather::FAIR, 11);
    network.watch_all();
    network.run(Duration::from_secs(2));
    network.end(1);
    network.run(Duration::from_secs(10));
    let start = network.now;
    network.start(1);
    network.run(millis(500));
    for other in [0, 2, 3] {
        assert!(network.told_at(other, 1, MemberState::Alive, start).is_some());
    }
    network.assert_all_alive();
}

#[test]
fn memberlist_alone_finds_a_dead_node_by_suspicion() {
    let mut network = Network::joined(3, Weather::FAIR, 13);
    let cut = network.now;
    network.power_off(0);
    network.run(Duration::from_secs(10));
    let suspected = network.told_at(1, 0, MemberState::Suspect, cut).unwrap() - cut;
    let dead = network.told_at(1, 0, MemberState::Dead, cut).unwrap() - cut;
    assert!(dead - suspected >= millis(3500), "suspected after {suspected}, dead after {dead}");
    assert!(dead < Duration::from_secs(8));
    let by_timeout = |change: &&crate::network::Change| matches!(change.cause, Cause::SuspicionTimeout { .. });
    assert!(network.changes.iter().any(|change| by_timeout(&change)));
}

#[test]
fn a_stopped_program_denies_the_suspicion_when_it_runs_again() {
    let mut network = Network::joined(3, Weather::FAIR, 15);
    network.pause(0, Duration::from_secs(3));
    network.run(Duration::from_secs(10));
    let states: Vec<MemberState> =
        network.changes.iter().filter(|it| it.observer == 1 && it.name == name(0)).map(|it| it.state).collect();
    assert_eq!(states, [MemberState::Suspect, MemberState::Alive]);
    assert!(network.false_deaths().is_empty());
}

#[test]
fn the_names_of_members_are_those_that_metallb_counts() {
    let mut network = Network::joined(3, Weather::FAIR, 15);
    network.pause(0, Duration::from_secs(5));
    network.run(Duration::from_secs(3));
    let names: BTreeSet<_> = network.hosts[1].membership.names().cloned().collect();
    assert_eq!(names, [name(0), name(1), name(2)].into(), "contract 5.2: suspects are members");
}

#[test]
fn a_hundred_members_hear_of_a_death_that_a_few_found() {
    let mut network = Network::joined(100, Weather::FAIR, 17);
    for watcher in [1, 2] {
        network.input(watcher, Input::Watch { members: [name(0)].into() });
    }
    network.run(Duration::from_secs(2));
    let cut = network.now;
    network.power_off(0);
    network.run(Duration::from_secs(2));
    for other in 1..100 {
        let known = network.told_at(other, 0, MemberState::Dead, cut).unwrap() - cut;
        assert!(known < millis(450), "node {other} after {known}");
    }
}

/// What a member says of itself, as each of these sees it.
fn metas(network: &Network, of: usize, seen_by: &[usize]) -> Vec<Vec<u8>> {
    let meta = |observer: &usize| {
        let mut metas = network.hosts[*observer].membership.metas();
        metas.find(|(name, _)| **name == network.hosts[of].name).map(|(_, meta)| meta.to_vec()).unwrap_or_default()
    };
    seen_by.iter().map(meta).collect()
}

#[test]
fn what_a_member_says_of_itself_is_known_to_all_at_once_and_is_no_change_of_its_state() {
    for (weather, limit) in [(Weather::FAIR, 5), (Weather::LOSSY, 2_000)] {
        let mut network = Network::joined(5, weather, 7);
        network.watch_all();
        network.run(millis(1500));
        network.changes.clear();
        let changes: Vec<u64> = network.hosts.iter().map(|host| host.membership.meta_changes()).collect();
        for word in ["one", "two", ""] {
            network.input(2, Input::Meta(Meta::new(word.as_bytes()).unwrap()));
            network.run(millis(limit));
            assert_eq!(metas(&network, 2, &[0, 1, 2, 3, 4]), vec![word.as_bytes(); 5], "{word}");
        }
        assert!(weather.loss_percent > 0 || network.changes.is_empty(), "{:?}", network.changes);
        for (host, before) in network.hosts.iter().zip(changes) {
            let expected = if host.name == network.hosts[2].name { 0 } else { 3 };
            assert_eq!(host.membership.meta_changes() - before, expected, "{}", host.name);
        }
    }
}

#[test]
fn what_was_said_while_nobody_heard_is_known_when_the_member_is_back() {
    let mut network = Network::joined(3, Weather::FAIR, 13);
    network.watch_all();
    network.run(millis(1500));
    network.hosts[2].island = 1;
    network.run(Duration::from_secs(2));
    network.input(2, Input::Meta(Meta::new(b"alone").unwrap()));
    network.run(Duration::from_secs(5));
    assert_eq!(network.hosts[0].membership.metas().count(), 2, "it counts as dead");
    network.hosts[2].island = 0;
    // Never as it was before.
    while network.hosts[0].membership.metas().count() == 2 {
        network.run(millis(1));
    }
    assert_eq!(metas(&network, 2, &[0]), [b"alone"]);
    network.run(Duration::from_secs(20));
    network.assert_all_alive();
    assert_eq!(metas(&network, 2, &[0, 1]), [b"alone", b"alone"]);
}

#[test]
fn a_new_program_says_of_itself_what_it_says_and_not_what_the_former_said() {
    let mut network = Network::joined(3, Weather::FAIR, 17);
    network.input(1, Input::Meta(Meta::new(b"former").unwrap()));
    network.run(Duration::from_secs(1));
    network.end(1);
    network.start(1);
    network.run(Duration::from_secs(1));
    assert_eq!(metas(&network, 1, &[0, 1, 2]), [b""; 3]);
}
