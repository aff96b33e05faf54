//! Speakers that find and watch each other by memberlist (contract 5.2), while a client asks all the time: nodes that lose
//! their power, speakers that end, and members of HashiCorp's library among them.

use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use gossip::Key;
use kit::{Duration, Instant, Mac};
use lab::requests::{Pace, Record, RequestStream, outages};
use lab::testing::Trial;
use lab::{Host, Lab, Process, built, eventually};
use netio::clock::Clock;

use crate::cluster::{Cluster, LIMIT, MEMBER_SECRET, Setup, address, at};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_5_2_a_node_without_power_is_succeeded_within_a_second_or_so", power),
        Trial::new("contract_12_2_r9_a_node_whose_only_link_flaps_does_not_take_its_addresses_back_each_time", flaps),
        Trial::new("a_node_dies_while_the_source_of_objects_is_away", without_source),
        Trial::new("speakers_that_end_and_begin_one_after_the_other_lose_no_request", rolling),
        Trial::new("contract_5_2_members_of_go_count_and_are_believed", mixed),
        Trial::new("a_speaker_with_another_key_is_refused_and_says_so", other_key),
    ]
}

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
/// Fifty requests a second.
const PACE: Pace = Pace { every: Duration::from_millis(20), timeout: Duration::from_millis(900) };
/// Very generous: those who watch each other wait longer when they do not get the processor themselves. `make bench` measures.
const OUTAGE_MAX: Duration = Duration::from_secs(10);
const V4: &str = "192.168.1.240";
const V6: &str = "fc00:f853:ccd:e799::1";

/// A cluster with a Service, whose both addresses node-a answers; node-c is its heir.
struct Scene {
    cluster: Cluster,
    client: Host,
    clock: Clock,
    streams: Vec<RequestStream>,
}

fn start(lab: &Lab) -> Result<Scene> {
    let mut cluster = Cluster::start_with(lab, Setup::members(&NODES))?;
    cluster.announce_on_segment()?;
    cluster.apply(&Service::dual("web").wants(&format!("{V4},{V6}")))?;
    let (client, clock) = (cluster.client().clone(), Clock::start());
    for node in NODES {
        for other in NODES.into_iter().filter(|other| *other != node) {
            cluster.wait_speaker_log(node, 0, &["memberChanged", other, "alive"])?;
        }
    }
    let mut streams = Vec::new();
    for target in targets() {
        cluster.wait_owner(target, "node-a")?;
        cluster.reach(&client, at(target, 80))?;
        streams.push(RequestStream::start(&client, at(target, 80), PACE, clock)?);
    }
    let scene = Scene { cluster, client, clock, streams };
    scene.wait_well(Instant::ZERO)?;
    Ok(scene)
}

fn targets() -> [IpAddr; 2] {
    [address(V4), address(V6)]
}

impl Scene {
    /// Waits until the last requests of each stream, begun since then, were all answered.
    fn wait_well(&self, since: Instant) -> Result<()> {
        const WELL: usize = 30;
        for stream in &self.streams {
            eventually(LIMIT, || {
                let records = stream.records();
                let last: Vec<_> = records.iter().filter(|record| record.begun >= since).rev().take(WELL).collect();
                let answered = last.iter().filter(|record| record.is_answered()).count();
                ensure!(answered == WELL, "{answered} of the last {} answered, last {:?}", last.len(), last.first());
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until the client holds the MAC address of this node for both addresses, without making it ask.
    fn wait_held(&self, node: &str) -> Result<()> {
        let mac: Mac = self.cluster.host(node).mac("eth0")?;
        for target in targets() {
            eventually(LIMIT, || {
                let held = self.client.neighbour_mac(target)?;
                ensure!(held == Some(mac), "the client holds {held:?} for {target}, not {mac} of {node}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The longest outage since then, which must not be too long.
    fn outage(&self, since: Instant, what: &str) -> Result<()> {
        for (stream, target) in self.streams.iter().zip(targets()) {
            let records: Vec<Record> = stream.records().into_iter().filter(|record| record.begun >= since).collect();
            let longest = outages(&records).iter().map(lab::requests::Outage::length).max().unwrap_or(Duration::ZERO);
            eprintln!("measured: {what}: {} ms without an answer of {target}", longest.as_millis());
            ensure!(longest > Duration::ZERO, "{what}: nothing was lost, so nothing was measured");
            ensure!(longest <= OUTAGE_MAX, "{what}: {longest} without an answer of {target}");
        }
        Ok(())
    }

    /// One of them found out by watching, not by memberlist's slow probes, that another one is dead.
    fn found_by_watching(&mut self, watchers: &[&str], dead: &str) -> Result<()> {
        const WATCHED: &str = "neither the speaker nor the kernel of the node answers";
        eventually(LIMIT, || {
            let mut found = Vec::new();
            for watcher in watchers {
                let log = self.cluster.speaker(watcher).log();
                let is_meant = |line: &&str| ["memberChanged", dead, "dead"].iter().all(|piece| line.contains(piece));
                found.extend(log.lines().filter(is_meant).map(str::to_owned));
            }
            ensure!(found.iter().any(|line| line.contains(WATCHED)), "{watchers:?} say {found:?}");
            Ok(())
        })
    }

    /// Every request since then was answered, but for those that were under way while an address moved: the node to which
    /// their packets go in the middle of it does not know their connection, and says so at once.
    fn nothing_lost(&self, since: Instant, what: &str) -> Result<()> {
        for (stream, target) in self.streams.iter().zip(targets()) {
            let records = stream.records();
            let failed = |record: &&Record| record.begun >= since && !record.is_answered();
            let (reset, lost): (Vec<_>, Vec<_>) = records.iter().filter(failed).partition(|record| record.is_reset());
            let begun: Vec<_> = lost.iter().map(|record| record.begun.since(since).as_millis()).collect();
            let first = lost.first();
            ensure!(lost.is_empty(), "{what}: requests to {target}, begun {begun:?} ms later, were lost: {first:?}");
            eprintln!("measured: {what}: {} connections to {target} were cut by a move", reset.len());
            ensure!(reset.len() <= CUT_BY_MOVES_MAX, "{what}: to {target} too many were cut: {}", reset.len());
        }
        Ok(())
    }
}

/// Connections to one address that moves may cut: on a busy machine several are under way at one time.
const CUT_BY_MOVES_MAX: usize = 20;

fn power(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    let cut = scene.clock.now();
    scene.cluster.power_off("node-a")?;
    // Nobody in the cluster says that the node is not ready.
    scene.wait_held("node-c").context("node-a has no power")?;
    scene.wait_well(scene.clock.now())?;
    scene.outage(cut, "a node has lost its power")?;
    scene.found_by_watching(&["node-b", "node-c"], "node-a")?;
    let back = scene.clock.now();
    scene.cluster.power_on("node-a")?;
    scene.wait_held("node-a").context("node-a has power again")?;
    scene.wait_well(scene.clock.now())?;
    scene.nothing_lost(back, "a node has power again")?;
    // The heir of the heir, while the owner and its heir die together.
    let cut = scene.clock.now();
    scene.cluster.power_off("node-a")?;
    scene.cluster.power_off("node-c")?;
    scene.wait_held("node-b").context("node-a and node-c have no power")?;
    scene.wait_well(scene.clock.now())?;
    scene.outage(cut, "two of three nodes have lost their power")
}

/// Gossip goes over the same link, so that the node and the others find each other dead, and alive, each time.
fn flaps(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    let node = scene.cluster.host("node-a").clone();
    for round in 0..3 {
        let [seen_a, seen] = ["node-a", "node-c"].map(|node| scene.cluster.log_length(node));
        let cut = scene.clock.now();
        node.unplug("eth0")?;
        scene.cluster.wait_speaker_log("node-c", seen, &["memberChanged", "node-a", "dead"])?;
        for other in ["node-b", "node-c"] {
            scene.cluster.wait_speaker_log("node-a", seen_a, &["memberChanged", other, "dead"])?;
        }
        let back = scene.clock.now();
        node.replug("eth0")?;
        scene.cluster.wait_speaker_log("node-c", seen, &["memberChanged", "node-a", "alive"])?;
        scene.wait_held("node-c").with_context(|| format!("round {round}: the link is back"))?;
        scene.wait_well(scene.clock.now())?;
        if round == 0 {
            scene.outage(cut, "the only link is gone")?;
        }
        scene.nothing_lost(back, "the only link is back")?;
        for other in ["node-b", "node-c"] {
            scene.cluster.wait_speaker_log("node-a", seen_a, &["memberChanged", other, "alive"])?;
        }
    }
    let log = scene.cluster.speaker("node-c").log();
    let announced = log.lines().filter(|line| line.contains("serviceAnnounced")).count();
    ensure!(announced == 1, "node-c announced {announced} times:\n{log}");
    Ok(())
}

fn without_source(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    let seen = scene.cluster.log_length("node-c");
    let away = scene.cluster.folder().with_extension("away");
    std::fs::rename(scene.cluster.folder(), &away)?;
    scene.cluster.wait_speaker_log("node-c", seen, &["cannot read", "No such file or directory"])?;
    let cut = scene.clock.now();
    scene.cluster.power_off("node-a")?;
    scene.wait_held("node-c")?;
    scene.wait_well(scene.clock.now())?;
    scene.outage(cut, "a node has lost its power, and objects cannot be read")?;
    std::fs::rename(&away, scene.cluster.folder())?;
    Ok(())
}

/// As in an upgrade. Whoever takes over has announced before the other stops.
fn rolling(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    let begun = scene.clock.now();
    for round in 0..2 {
        for node in NODES {
            let asked = scene.clock.now();
            let status = scene.cluster.speaker(node).stop()?;
            ensure!(status.success(), "the speaker of {node} ends with {status}");
            let took = scene.clock.now().since(asked);
            eprintln!("measured: the speaker of {node} took {} ms to end", took.as_millis());
            let heir = if node == "node-a" { "node-c" } else { "node-a" };
            scene.wait_held(heir).with_context(|| format!("round {round}: the speaker of {node} has ended"))?;
            scene.wait_well(scene.clock.now())?;
            scene.cluster.speaker_begin(node)?;
            scene.cluster.wait_speaker_log(node, 0, &["\"settled\""])?;
            scene.wait_held("node-a").with_context(|| format!("round {round}: the speaker of {node} is back"))?;
            scene.wait_well(scene.clock.now())?;
        }
    }
    scene.nothing_lost(begun, "all speakers were started again, twice")
}

/// A member of HashiCorp's library takes the place of a speaker, as in a cluster that changes over. It joins another node.
pub(crate) fn go_member(cluster: &Cluster, name: &str, other: &str) -> Result<Process> {
    let key = Key::from_secret(MEMBER_SECRET.as_bytes())?;
    let mut command = Command::new(built("memberlist")?);
    let [at, other] = [name, other].map(|node| cluster.addresses_of_node(node)[0]);
    command.args(["member", name, &at.to_string(), "7946", &format!("join={other}:7946")]);
    command.arg(format!("key={}", key.bytes().iter().map(|byte| format!("{byte:02x}")).collect::<String>()));
    cluster.host(name).spawn("memberlist", command)
}

fn mixed(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    // A client that asks all the time has its kernel ask as well, so that nobody's answer would never be known.
    scene.streams.clear();
    scene.cluster.speaker("node-a").stop()?;
    scene.wait_held("node-c").context("the speaker of node-a has ended")?;
    let mut seen = scene.cluster.log_length("node-c");
    // It announces nothing, but is a member: the others leave its addresses to it.
    let mut member = go_member(&scene.cluster, "node-a", "node-b")?;
    let withdrawn = ["serviceWithdrawn", "notOwner"];
    scene.cluster.wait_speaker_log("node-c", seen, &withdrawn).context("a member of Go has joined as node-a")?;
    for target in targets() {
        scene.cluster.wait_silence(target).context("a member of Go is to answer, and it does not")?;
    }
    member.stop()?;
    scene.cluster.wait_speaker_log("node-c", seen, &["memberChanged", "node-a", "left"])?;
    for target in targets() {
        scene.cluster.wait_owner(target, "node-c").context("the member of Go has left")?;
    }
    seen = scene.cluster.log_length("node-c");
    let mut member = go_member(&scene.cluster, "node-a", "node-b")?;
    scene.cluster.wait_speaker_log("node-c", seen, &withdrawn).context("it is back")?;
    let cut = scene.clock.now();
    scene.cluster.host("node-a").unplug("eth0")?;
    member.kill()?;
    scene.cluster.wait_speaker_log("node-c", seen, &["serviceAnnounced"])?;
    let took = scene.clock.now().since(cut);
    eprintln!("measured: a node with a member of Go was succeeded {} ms after it had lost its power", took.as_millis());
    ensure!(took <= OUTAGE_MAX, "it took {took}");
    Ok(())
}

fn other_key(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    let (seen_a, seen_b) = (scene.cluster.log_length("node-a"), scene.cluster.log_length("node-b"));
    scene.cluster.speaker("node-c").stop()?;
    scene.cluster.wait_speaker_log("node-a", seen_a, &["memberChanged", "node-c", "left"])?;
    scene.cluster.member_secret("node-c", "another")?;
    scene.cluster.speaker_begin("node-c")?;
    for (node, seen) in [("node-a", seen_a), ("node-b", seen_b)] {
        let line = scene.cluster.wait_speaker_log(node, seen, &["was dropped", "key"])?;
        ensure!(line.contains("\"level\":\"warn\"") && line.contains("hint"), "{line}");
    }
    scene.cluster.wait_speaker_log("node-c", 0, &["could not join"])?;
    for node in ["node-a", "node-c"] {
        let log = scene.cluster.speaker(node).log();
        ensure!(!log.contains(MEMBER_SECRET) && !log.contains("another"), "{node} logs a secret");
    }
    // With the right one it takes part again.
    scene.cluster.speaker("node-c").stop()?;
    scene.cluster.member_secret("node-c", MEMBER_SECRET)?;
    let seen = scene.cluster.log_length("node-a");
    scene.cluster.speaker_begin("node-c")?;
    scene.cluster.wait_speaker_log("node-a", seen, &["memberChanged", "node-c", "alive"])?;
    scene.wait_held("node-a")?;
    scene.wait_well(scene.clock.now())
}
