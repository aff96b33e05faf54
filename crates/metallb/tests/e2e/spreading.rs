//! Addresses that the controller spreads evenly over nodes (`ownerSelection: Balanced`, ADR 16), while clients ask for all of
//! them: a node that dies and comes back, a controller that starts again, and a member that elects by the hash alone.

use std::collections::BTreeMap;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Instant};
use lab::requests::{Pace, Record, RequestStream, outages};
use lab::testing::Trial;
use lab::{Host, Lab, eventually};
use netio::clock::Clock;
use speaker::Rank;

use crate::cluster::{Cluster, LIMIT, Setup, at, resolve};
use crate::members::go_member;
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("adr_16_a_node_that_dies_and_returns_moves_its_share_and_no_more", death_and_return),
        Trial::new("adr_16_as_long_as_a_member_of_go_is_there_the_hash_alone_counts", mixed),
    ]
}

const NODES: [&str; 4] = ["node-a", "node-b", "node-c", "node-d"];
const SERVICES: usize = 12;
/// Ten requests a second to each address.
const PACE: Pace = Pace { every: Duration::from_millis(100), timeout: Duration::from_millis(900) };
/// Generous: the machine may be busy, and whoever does not get the processor is patient with others. Less than memberlist needs.
const OUTAGE_MAX: Duration = Duration::from_secs(5);
/// Connections that moves may cut.
const CUT_BY_MOVES_MAX: usize = 20;
const BALANCED: &str = "ipAddressPools: [segment], ownerSelection: Balanced";

struct Scene {
    cluster: Cluster,
    client: Host,
    clock: Clock,
    addresses: BTreeMap<String, IpAddr>,
    streams: BTreeMap<String, RequestStream>,
}

fn start(lab: &Lab) -> Result<Scene> {
    let mut cluster = Cluster::start_with(lab, Setup::members(&NODES))?;
    cluster.put("IPAddressPool", "segment", "addresses: [192.168.1.230-192.168.1.249]")?;
    cluster.put("L2Advertisement", "segment", BALANCED)?;
    let mut addresses = BTreeMap::new();
    for number in 0..SERVICES {
        let name = format!("web-{number:02}");
        cluster.apply(&Service::v4(&name))?;
        addresses.insert(name.clone(), cluster.wait_addresses(&name)?[0]);
    }
    let (client, clock) = (cluster.client().clone(), Clock::start());
    let scene = Scene { cluster, client, clock, addresses, streams: BTreeMap::new() };
    scene.wait_assigned(&[("node-a", 3), ("node-b", 3), ("node-c", 3), ("node-d", 3)])?;
    scene.wait_owners()?;
    Ok(scene)
}

impl Scene {
    /// The node that each Service shows.
    fn assigned(&self) -> BTreeMap<String, String> {
        let node = |name: &String| {
            let status = self.cluster.status_file(name);
            let line = status.lines().find_map(|line| line.trim().strip_prefix("metallb.io/l2-assigned-node: "));
            line.map(|node| (name.clone(), node.to_owned()))
        };
        self.addresses.keys().filter_map(node).collect()
    }

    /// Waits until every Service shows one of these nodes, and none of them more often than that.
    fn wait_assigned(&self, most: &[(&str, usize)]) -> Result<BTreeMap<String, String>> {
        eventually(LIMIT.times(2), || {
            let assigned = self.assigned();
            ensure!(assigned.len() == SERVICES, "{} of {SERVICES} are assigned", assigned.len());
            for node in NODES {
                let limit = most.iter().find(|(name, _)| *name == node).map_or(0, |(_, limit)| *limit);
                let load = assigned.values().filter(|it| *it == node).count();
                ensure!(load <= limit, "{node} has {load}, and not {limit} at most: {assigned:?}");
            }
            Ok(assigned)
        })
    }

    /// Waits until the node that each Service shows answers for it.
    fn wait_owners(&self) -> Result<()> {
        self.assigned().iter().try_for_each(|(name, node)| self.cluster.wait_owner(self.addresses[name], node))
    }

    fn ask_all(&mut self) -> Result<()> {
        for (name, address) in &self.addresses {
            self.cluster.reach(&self.client, at(*address, 80))?;
            let stream = RequestStream::start(&self.client, at(*address, 80), PACE, self.clock)?;
            self.streams.insert(name.clone(), stream);
        }
        self.wait_well(Instant::ZERO)
    }

    /// Waits until the last requests of each stream, begun since then, were all answered.
    fn wait_well(&self, since: Instant) -> Result<()> {
        const WELL: usize = 10;
        for (name, stream) in &self.streams {
            eventually(LIMIT, || {
                let records = stream.records();
                let last = records.iter().filter(|record| record.begun >= since).rev().take(WELL);
                let answered = last.filter(|record| record.is_answered()).count();
                ensure!(answered == WELL, "{answered} of the last {WELL} answered for {name}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until the client holds another node than this one for a Service, without making it ask.
    fn wait_heir(&self, name: &str, dead: &str) -> Result<&'static str> {
        let address = self.addresses[name];
        eventually(LIMIT, || {
            let held = self.client.neighbour_mac(address)?;
            let is_held = |node: &&str| self.cluster.host(node).mac("eth0").ok() == held;
            let node = NODES.into_iter().find(is_held).with_context(|| format!("{held:?} is held for {address}"))?;
            ensure!(node != dead, "{dead} is held for {address}");
            Ok(node)
        })
    }

    /// Every request since then was answered, but for those that were under way while their address moved.
    fn nothing_lost(&self, since: Instant, but: &[&String], what: &str) -> Result<()> {
        let mut cut = 0;
        for (name, stream) in self.streams.iter().filter(|(name, _)| !but.contains(name)) {
            let records = stream.records();
            let failed = |record: &&Record| record.begun >= since && !record.is_answered();
            let (reset, lost): (Vec<_>, Vec<_>) = records.iter().filter(failed).partition(|record| record.is_reset());
            ensure!(lost.is_empty(), "{what}: {} requests to {name} were lost: {:?}", lost.len(), lost.first());
            cut += reset.len();
        }
        eprintln!("measured: {what}: {cut} connections were cut by moves");
        ensure!(cut <= CUT_BY_MOVES_MAX, "{what}: {cut} connections were cut");
        Ok(())
    }
}

fn death_and_return(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    scene.ask_all()?;
    let before = scene.assigned();
    let of_dead: Vec<&String> = before.iter().filter(|(_, node)| *node == "node-d").map(|(name, _)| name).collect();

    // It dies: its three are answered by others, and nobody asks the controller.
    let cut = scene.clock.now();
    scene.cluster.power_off("node-d")?;
    let mut heirs: BTreeMap<String, &str> = BTreeMap::new();
    for name in &of_dead {
        heirs.insert((*name).clone(), scene.wait_heir(name, "node-d")?);
    }
    scene.wait_well(scene.clock.now())?;
    for name in &of_dead {
        let records: Vec<Record> = scene.streams[*name].records().into_iter().filter(|it| it.begun >= cut).collect();
        let longest = outages(&records).iter().map(lab::requests::Outage::length).max().unwrap_or(Duration::ZERO);
        eprintln!("measured: a node has died: {} ms without an answer of {name}", longest.as_millis());
        ensure!(longest <= OUTAGE_MAX, "{longest} without an answer of {name}");
    }
    scene.nothing_lost(cut, &of_dead, "a node has died, and these were on others")?;
    ensure!(scene.assigned() == before, "the node is Ready, as far as anybody said");

    // Its Node says so: where the heirs have room nothing moves, and what was on others stays there.
    let marked = scene.clock.now();
    scene.cluster.mark_ready("node-d", false)?;
    let after = scene.wait_assigned(&[("node-a", 5), ("node-b", 5), ("node-c", 5)])?;
    scene.wait_owners()?;
    scene.wait_well(scene.clock.now())?;
    scene.nothing_lost(marked, &[], "the addresses of a dead node are assigned to others")?;
    let moved = |from: &BTreeMap<String, String>, to: &BTreeMap<String, String>| {
        from.iter().filter(|(name, node)| to[*name] != **node).map(|(name, _)| name.clone()).collect::<Vec<_>>()
    };
    ensure!(moved(&before, &after).iter().collect::<Vec<_>>() == of_dead, "{before:?} became {after:?}");
    let kept = of_dead.iter().filter(|name| heirs[**name] == after[**name]).count();
    eprintln!("measured: {kept} of 3 addresses stay with the node that had taken them over");
    ensure!(kept >= 1, "{heirs:?}, and then {after:?}");

    // It returns: it gets what the others have too many.
    let back = scene.clock.now();
    scene.cluster.power_on("node-d")?;
    scene.cluster.mark_ready("node-d", true)?;
    let again = scene.wait_assigned(&[("node-a", 3), ("node-b", 3), ("node-c", 3), ("node-d", 3)])?;
    scene.wait_owners()?;
    scene.wait_well(scene.clock.now())?;
    scene.nothing_lost(back, &[], "a node is back")?;
    ensure!(moved(&after, &again).len() == 3, "{after:?} became {again:?}");

    // Another controller takes over what it finds.
    scene.cluster.controller().stop()?;
    let seen = scene.cluster.controller().log().lines().count();
    scene.cluster.controller_begin()?;
    scene.cluster.apply(&Service::v4("late"))?;
    let late = scene.cluster.wait_addresses("late")?[0];
    let chosen = scene.cluster.wait_controller_log(seen, &["nodeChosen"])?;
    ensure!(chosen.contains("default/late"), "{chosen}");
    ensure!(scene.assigned() == again, "{again:?} became {:?}", scene.assigned());
    eventually(LIMIT, || {
        ensure!(resolve(&scene.client, late)?.is_some(), "nobody answers for {late}");
        Ok(())
    })?;

    // Nobody asks for it any more.
    let ended = scene.clock.now();
    scene.cluster.put("L2Advertisement", "segment", "ipAddressPools: [segment]")?;
    eventually(LIMIT, || {
        let left = scene.assigned();
        ensure!(left.is_empty(), "{left:?} are assigned still");
        Ok(())
    })?;
    for address in scene.addresses.values() {
        scene.cluster.wait_owner(*address, first_by_hash(*address, &NODES))?;
    }
    scene.wait_well(scene.clock.now())?;
    scene.nothing_lost(ended, &[], "addresses are not assigned any more")
}

fn first_by_hash<'a>(address: IpAddr, nodes: &[&'a str]) -> &'a str {
    nodes.iter().min_by_key(|node| Rank::new(0, node, &address)).copied().unwrap_or_default()
}

/// It would announce by the hash, so all do.
fn mixed(lab: &Lab) -> Result<()> {
    const OF_GO: &str = "node-a";
    let mut scene = start(lab)?;
    let assigned = scene.assigned();
    scene.cluster.speaker(OF_GO).stop()?;
    let seen = scene.cluster.log_length("node-b");
    let mut member = go_member(&scene.cluster, OF_GO, "node-b")?;
    scene.cluster.wait_speaker_log("node-b", seen, &["memberChanged", OF_GO, "alive"])?;
    let mut otherwise = 0;
    for (name, address) in &scene.addresses {
        let first = first_by_hash(*address, &NODES);
        otherwise += usize::from(assigned[name] != first && first != OF_GO);
        if first == OF_GO {
            // It is a member, and does not answer.
            scene.cluster.wait_silence(*address).with_context(|| format!("{name} is left to the member of Go"))?;
        } else {
            scene.cluster.wait_owner(*address, first)?;
        }
    }
    ensure!(otherwise > 0, "no assignment differs from the hash: {assigned:?}");
    member.stop()?;
    for (name, node) in assigned.iter().filter(|(_, node)| *node != OF_GO) {
        scene.cluster.wait_owner(scene.addresses[name], node).context("the member of Go has left")?;
    }
    Ok(())
}
