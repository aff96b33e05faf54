//! A long run of our members beside HashiCorp's, while every host loses a part of what comes to it:
//! `cargo run --release -p lab --example memberlist_loss [SECONDS] [PERCENT]`, by default 600 seconds and 20 per cent.
//!
//! It needs `scripts/memberlist.sh`. The exit status is 1 when one of ours declared a living member dead, or when a
//! node without power is not found in two seconds at the end.

#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a benchmark may panic"
)]
#![allow(dead_code, reason = "the cluster is shared with the tests, which use more of it")]
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::thread;

use anyhow::{Context as _, Result, ensure};
use gossip::MemberState;
use kit::Duration;
use lab::Lab;

#[path = "../tests/memberlist/cluster.rs"]
mod cluster;

use cluster::Maker::{Go, Ours};
use cluster::{Cluster, Secrecy};

const MEMBERS: [cluster::Maker; 6] = [Ours, Go, Ours, Go, Ours, Ours];
/// The time between two rows.
const ROW: Duration = Duration::from_secs(60);
/// In this time a node without power is to be found at the end.
const BUDGET: Duration = Duration::from_secs(2);

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let mut argument = |default: u32| arguments.next().map_or(Ok(default), |text| text.parse());
    let seconds = argument(600).context("SECONDS is no number")?;
    let percent = argument(20).context("PERCENT is no number")?;
    lab::enter()?;
    let lab = Lab::new("loss")?;
    let mut cluster = Cluster::start(&lab, Secrecy::Encrypted, &MEMBERS)?;
    thread::sleep(std::time::Duration::from_secs(2));
    cluster.lose(percent)?;
    println!("{percent}% loss at each of {} hosts, of which 4 run our members and 2 HashiCorp's\n", MEMBERS.len());
    println!(
        "  seconds  false deaths, ours  false deaths, Go  suspicions, ours    of one of ours: packets/s  CPU us/s"
    );
    let start = cluster.clock.now();
    while cluster.clock.now() - start < Duration::from_secs(seconds.into()) {
        let before = (cluster.members[0].seen()?.counters.packets_sent, processor_time()?);
        thread::sleep(ROW.into());
        row(&cluster, start, before)?;
    }
    let deaths = cluster.false_deaths()?;
    ensure!(deaths.is_empty(), "living members were declared dead: {deaths:?}");
    let cut = cluster.power_off(5)?;
    let (first, last) = cluster.told(5, MemberState::Dead, cut)?;
    println!("\nA node without power was known to be dead after {first} to {last}.");
    ensure!(last <= BUDGET, "that is more than {BUDGET}");
    Ok(())
}

/// What this program has used, in microseconds: our members, their drivers, and the little that the lab does meanwhile.
fn processor_time() -> Result<u64> {
    let stat = std::fs::read_to_string("/proc/self/stat")?;
    let fields = stat.rsplit(')').next().context("no name in it")?;
    let ticks = fields.split_whitespace().skip(11).take(2).map(str::parse::<u64>).sum::<Result<u64, _>>()?;
    // The kernel counts a hundred a second.
    Ok(ticks * 10_000)
}

fn row(cluster: &Cluster, start: kit::Instant, before: (u64, u64)) -> Result<()> {
    let ours = cluster.false_deaths()?.len();
    let left = |log: String| log.lines().filter(|line| line.starts_with("left ")).count();
    let go: usize = cluster.go().map(|(_, member)| left(member.log())).sum();
    let mut suspicions = 0;
    for (_, member) in cluster.ours() {
        let is_suspicion = |it: &&(kit::Instant, gossip::MemberChange)| it.1.state == MemberState::Suspect;
        suspicions += member.seen()?.changes.iter().filter(is_suspicion).count();
    }
    let seconds = (cluster.clock.now() - start).as_secs();
    let rate = (cluster.members[0].seen()?.counters.packets_sent - before.0) / ROW.as_secs();
    let processor = (processor_time()? - before.1) / ROW.as_secs() / u64::try_from(cluster.ours().count())?;
    println!("  {seconds:7}  {ours:18}  {go:16}  {suspicions:16}    {rate:25}  {processor:8}");
    Ok(())
}
