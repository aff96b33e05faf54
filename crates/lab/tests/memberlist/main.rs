//! Our members beside those of HashiCorp's library, as during an upgrade: on hosts of their own, with real sockets.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may panic"
)]
#![expect(clippy::print_stdout, reason = "how long it took is worth a line")]

mod cluster;

use std::process::ExitCode;
use std::thread;

use anyhow::{Result, ensure};
use gossip::{Input, MemberState, Meta, Silence};
use kit::{Duration, Family};
use lab::testing::Trial;
use lab::{Lab, eventually};
use sys::process::Signal;

use cluster::Maker::{Go, Ours};
use cluster::Secrecy::{Encrypted, Plaintext};
use cluster::{Cluster, LIMIT, Maker, Secrecy};

fn main() -> ExitCode {
    lab::testing::main([
        Trial::new("three_members_join_leave_crash_and_come_back_in_plaintext", |lab| life(lab, Plaintext)),
        Trial::new("three_members_join_leave_crash_and_come_back_encrypted", |lab| life(lab, Encrypted)),
        Trial::new("five_members_of_whom_two_are_ours", |lab| sizes(lab, Encrypted, &[Go, Ours, Go, Ours, Go])),
        Trial::new("twenty_members_half_of_them_ours", |lab| {
            let makers: Vec<Maker> = (0..20).map(|number| if number % 2 == 0 { Ours } else { Go }).collect();
            sizes(lab, Encrypted, &makers)
        }),
        Trial::new("three_members_over_ipv6", over_ipv6),
        Trial::new("what_a_member_of_ours_says_of_itself_is_known_to_go", metadata),
        Trial::new("a_node_without_power_is_found_by_ours_and_believed_by_go", power),
        Trial::new("a_stopped_go_member_is_waited_for", stopped),
        Trial::new("a_killed_go_member_is_told_by_its_kernel", killed),
        Trial::new("go_alone_finds_our_death", go_finds),
        Trial::new("a_minute_of_twenty_per_cent_loss_kills_nobody", |lab| loss(lab, Duration::from_secs(60))),
    ])
}

/// Waits until all members of Go have said this.
fn go_said(cluster: &Cluster, line: &str) -> Result<()> {
    eventually(LIMIT, || {
        for (_, member) in cluster.go() {
            ensure!(member.log().lines().any(|it| it == line), "{} has not said {line:?}", member.name);
        }
        Ok(())
    })
}

fn life(lab: &Lab, secrecy: Secrecy) -> Result<()> {
    let mut cluster = Cluster::start(lab, secrecy, &[Ours, Go, Go])?;
    // Ours leaves, and comes back as a new program.
    cluster.members[0].leave()?;
    go_said(&cluster, "left node-0")?;
    cluster.agrees()?;
    cluster.program_start(0, Ours)?;
    cluster.agrees()?;
    // One of Go leaves, and comes back.
    let start = cluster.clock.now();
    cluster.members[1].leave()?;
    cluster.told(1, MemberState::Left, start)?;
    cluster.agrees()?;
    cluster.program_start(1, Go)?;
    cluster.agrees()?;
    // An upgrade: Go's program ends and ours takes its place.
    cluster.members[2].leave()?;
    cluster.program_start(2, Ours)?;
    cluster.agrees()?;
    // Ours crashes.
    cluster.members[2].end()?;
    cluster.agrees()?;
    cluster.program_start(2, Ours)?;
    cluster.agrees()?;
    for (_, member) in cluster.ours() {
        let seen = member.seen()?;
        ensure!(seen.counters.packets_dropped == 0, "{}: {:?}", member.name, seen.reports);
        ensure!(seen.counters.streams_dropped == 0, "{}: {:?}", member.name, seen.reports);
    }
    for (_, member) in cluster.go() {
        let errors: Vec<String> = member.log().lines().filter(|it| it.contains("[ERR]")).map(str::to_owned).collect();
        let is_expected = |line: &String| line.contains("connection refused") || line.contains("Failed fallback");
        ensure!(errors.iter().all(is_expected), "{}: {errors:?}", member.name);
    }
    Ok(())
}

fn sizes(lab: &Lab, secrecy: Secrecy, makers: &[Maker]) -> Result<()> {
    let mut cluster = Cluster::start(lab, secrecy, makers)?;
    // Nobody is accused while nothing happens.
    thread::sleep(std::time::Duration::from_secs(5));
    let deaths = cluster.false_deaths()?;
    ensure!(deaths.is_empty(), "{deaths:?}");
    let last = makers.len() - 1;
    cluster.power_off(last)?;
    cluster.agrees()?;
    cluster.members[0].leave()?;
    cluster.agrees()
}

/// As memberlist's `UpdateNode`: each word is told once, and nobody takes it for anything else.
fn metadata(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, Encrypted, &[Ours, Go, Go, Ours])?;
    for word in ["one", "two", ""] {
        cluster.members[0].tell(Input::Meta(Meta::new(word.as_bytes())?))?;
        go_said(&cluster, &format!("updated node-0 {word:?}"))?;
    }
    // Whoever comes later is told what is said now, and hears the next word.
    cluster.members[2].leave()?;
    cluster.members[0].tell(Input::Meta(Meta::new(b"three")?))?;
    cluster.program_start(2, Go)?;
    cluster.agrees()?;
    cluster.members[0].tell(Input::Meta(Meta::new(b"four")?))?;
    go_said(&cluster, "updated node-0 \"four\"")?;
    cluster.agrees()?;
    let deaths = cluster.false_deaths()?;
    ensure!(deaths.is_empty(), "{deaths:?}");
    for (_, member) in cluster.go() {
        let log = member.log();
        let count = |word: &str| log.lines().filter(|line| *line == format!("updated node-0 {word:?}")).count();
        ensure!(count("four") == 1 && count("three") <= 1, "{} was told more than once:\n{log}", member.name);
    }
    Ok(())
}

fn over_ipv6(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start_over(lab, Family::V6, Encrypted, &[Ours, Go, Ours])?;
    thread::sleep(std::time::Duration::from_secs(2));
    let start = cluster.clock.now();
    cluster.members[1].end()?;
    let (first, _) = cluster.told(1, MemberState::Dead, start)?;
    ensure!(first >= Duration::from_millis(900), "{first}: its kernel was not heard");
    cluster.program_start(1, Go)?;
    cluster.agrees()?;
    let cut = cluster.power_off(2)?;
    let (first, last) = cluster.told(2, MemberState::Dead, cut)?;
    ensure!(last <= Duration::from_millis(1500), "{first} to {last}");
    cluster.agrees()
}

/// Ours watch; what they find, Go believes at once.
fn power(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, Encrypted, &[Ours, Go, Ours, Go, Ours])?;
    thread::sleep(std::time::Duration::from_secs(2));
    for (number, maker) in [(3, Go), (4, Ours)] {
        let name = cluster.members[number].name.clone();
        let cut = cluster.power_off(number)?;
        let (first, last) = cluster.told(number, MemberState::Dead, cut)?;
        go_said(&cluster, &format!("left {name}"))?;
        let all = cluster.clock.now() - cut;
        println!("\n{maker:?} without power: known to ours after {first} to {last}, to Go after {all} at most");
        ensure!(first >= Duration::from_millis(300), "{first}: nobody can know so early");
        ensure!(last <= Duration::from_millis(1500), "{last}");
        ensure!(all <= Duration::from_secs(3), "{all}");
        cluster.agrees()?;
    }
    let deaths = cluster.false_deaths()?;
    ensure!(deaths.is_empty(), "{deaths:?}");
    Ok(())
}

fn stopped(lab: &Lab) -> Result<()> {
    let cluster = Cluster::start(lab, Encrypted, &[Ours, Go, Ours])?;
    thread::sleep(std::time::Duration::from_secs(2));
    cluster.members[1].signal(Signal::Stop)?;
    thread::sleep(std::time::Duration::from_millis(600));
    cluster.members[1].signal(Signal::Continue)?;
    thread::sleep(std::time::Duration::from_secs(2));
    let deaths = cluster.false_deaths()?;
    ensure!(deaths.is_empty(), "{deaths:?}");
    // Longer than we wait: it is declared dead, denies that when it runs again, and is back.
    let start = cluster.clock.now();
    cluster.members[1].signal(Signal::Stop)?;
    let (first, last) = cluster.told(1, MemberState::Dead, start)?;
    println!("\nstopped: dead after {first} to {last}");
    ensure!(first >= Duration::from_millis(1200), "{first}");
    let resumed = cluster.clock.now();
    cluster.members[1].signal(Signal::Continue)?;
    let (_, back) = cluster.told(1, MemberState::Alive, resumed)?;
    println!("\nstopped: back after {back}");
    ensure!(back <= Duration::from_secs(2), "{back}");
    cluster.agrees()
}

fn killed(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, Plaintext, &[Ours, Go, Ours])?;
    thread::sleep(std::time::Duration::from_secs(2));
    // Back within a moment: nothing has happened.
    cluster.members[1].end()?;
    thread::sleep(std::time::Duration::from_millis(300));
    cluster.program_start(1, Go)?;
    cluster.agrees()?;
    thread::sleep(std::time::Duration::from_secs(2));
    let deaths = cluster.false_deaths()?;
    ensure!(deaths.is_empty(), "{deaths:?}");
    let start = cluster.clock.now();
    cluster.members[1].end()?;
    let (first, last) = cluster.told(1, MemberState::Dead, start)?;
    println!("\nkilled: dead after {first} to {last}");
    ensure!(first >= Duration::from_millis(900) && last <= Duration::from_millis(2500), "{first} to {last}");
    let seen = cluster.members[0].seen()?;
    let is_closed = seen.changes.iter().any(|(_, it)| it.cause == gossip::Cause::Watch(Silence::Closed));
    let told =
        cluster.members[2].seen()?.changes.iter().any(|(_, it)| it.cause == gossip::Cause::Watch(Silence::Closed));
    ensure!(is_closed || told, "{:?}", seen.changes);
    Ok(())
}

/// By memberlist's own means, for nobody else of ours is there to watch.
fn go_finds(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, Encrypted, &[Ours, Go, Go])?;
    let cut = cluster.power_off(0)?;
    go_said(&cluster, "left node-0")?;
    println!("\nours without power: known to Go alone after {}", cluster.clock.now() - cut);
    cluster.agrees()
}

/// Every host loses a fifth of what comes to it.
fn loss(lab: &Lab, time: Duration) -> Result<()> {
    let mut cluster = Cluster::start(lab, Encrypted, &[Ours, Go, Ours, Go, Ours, Ours])?;
    thread::sleep(std::time::Duration::from_secs(2));
    cluster.lose(20)?;
    thread::sleep(time.into());
    let deaths = cluster.false_deaths()?;
    ensure!(deaths.is_empty(), "{deaths:?}");
    let cut = cluster.power_off(5)?;
    let (first, last) = cluster.told(5, MemberState::Dead, cut)?;
    println!("\nunder loss, without power: known to ours after {first} to {last}");
    ensure!(last <= Duration::from_secs(2), "{last}");
    cluster.agrees()
}
