//! A node that is alive, and whose segment is not: gossip goes over one network, and clients are on another (contract 12.2
//! R9).

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Instant};
use lab::requests::{Outage, Pace, Record, RequestStream, outages};
use lab::testing::Trial;
use lab::{Host, Lab, Switch, eventually};
use netio::clock::Clock;
use speaker::{HOLD_FIRST, Rank};

use crate::cluster::{Cluster, LIMIT, Setup, address, ask_quickly, at};
use crate::members::go_member;
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new(
            "contract_12_2_r9_a_node_without_its_link_network_or_way_out_is_succeeded_and_comes_back_once",
            moves,
        ),
        Trial::new("contract_12_2_r9_a_default_route_over_several_routers_is_a_way_out_while_one_of_them_is", several),
        Trial::new("contract_12_2_r9_a_member_of_go_neither_takes_over_nor_is_in_the_way", mixed),
    ]
}

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
const PACE: Pace = Pace { every: Duration::from_millis(20), timeout: Duration::from_millis(900) };
/// Generous: the machine may be busy, and whoever does not get the processor is patient with others. Less than memberlist needs.
const OUTAGE_MAX: Duration = Duration::from_secs(5);
const V4: &str = "10.9.0.240";
const V6: &str = "fc00:9::f0";
const POOL: &str = "addresses: [10.9.0.240-10.9.0.249, \"fc00:9::f0-fc00:9::ff\"]";

/// A cluster with a Service on a network that only `eth1` of each node is on.
struct Scene {
    cluster: Cluster,
    client: Host,
    clock: Clock,
    streams: Vec<RequestStream>,
    /// The nodes in the order of the election.
    order: [&'static str; 3],
    _switch: Switch,
}

/// Numbers as on the other segment.
fn network_address(node: &str) -> Result<IpAddr> {
    let number = NODES.iter().position(|it| *it == node).context("no node")?;
    Ok(address(&format!("10.9.0.{}", 11 + number)))
}

fn targets() -> [IpAddr; 2] {
    [address(V4), address(V6)]
}

fn start(lab: &Lab) -> Result<Scene> {
    let mut cluster = Cluster::start_with(lab, Setup::members(&NODES))?;
    let (switch, client) = (lab.switch("wire")?, lab.host("far")?);
    client.plug("eth0", &switch)?.address("10.9.0.200/24")?.address("fc00:9::200/64")?;
    ask_quickly(&client, "eth0")?;
    for (node, number) in NODES.into_iter().zip(11..) {
        let host = cluster.host(node);
        let eth1 = host.plug("eth1", &switch)?;
        eth1.address(&format!("10.9.0.{number}/24"))?.address(&format!("fc00:9::{number}/64"))?;
        host.set_route("0.0.0.0/0", &["192.168.1.254".parse()?])?;
    }
    cluster.put("IPAddressPool", "wire", POOL)?;
    cluster.put("L2Advertisement", "wire", "ipAddressPools: [wire]")?;
    cluster.apply(&Service::dual("web").wants(&format!("{V4},{V6}")))?;
    for node in NODES {
        for other in NODES.into_iter().filter(|other| *other != node) {
            cluster.wait_speaker_log(node, 0, &["memberChanged", other, "alive"])?;
        }
    }
    let mut order = NODES;
    order.sort_by_key(|node| Rank::new(0, node, &address(V4)));
    let clock = Clock::start();
    let mut scene = Scene { cluster, client, clock, streams: Vec::new(), order, _switch: switch };
    for target in targets() {
        scene.cluster.reach(&scene.client, at(target, 80))?;
        scene.streams.push(RequestStream::start(&scene.client, at(target, 80), PACE, clock)?);
    }
    scene.wait_held(order[0])?;
    scene.wait_well()?;
    Ok(scene)
}

impl Scene {
    /// Waits until the client holds the MAC address of this node for both addresses, without making it ask.
    fn wait_held(&self, node: &str) -> Result<()> {
        let mac = self.cluster.host(node).mac("eth1")?;
        for target in targets() {
            eventually(LIMIT, || {
                let held = self.client.neighbour_mac(target)?;
                ensure!(held == Some(mac), "the client holds {held:?} for {target}, not {mac} of {node}");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Waits until the last requests of each stream, begun from now on, were all answered.
    fn wait_well(&self) -> Result<()> {
        const WELL: usize = 30;
        let since = self.clock.now();
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

    fn records(&self, since: Instant) -> impl Iterator<Item = (IpAddr, Vec<Record>)> {
        let of = move |stream: &RequestStream| {
            stream.records().into_iter().filter(|record| record.begun >= since).collect::<Vec<_>>()
        };
        targets().into_iter().zip(self.streams.iter().map(of))
    }

    /// The longest outage since then.
    fn outage(&self, since: Instant, what: &str) -> Result<()> {
        for (target, records) in self.records(since) {
            let longest = outages(&records).iter().map(Outage::length).max().unwrap_or(Duration::ZERO);
            eprintln!("measured: {what}: {} ms without an answer of {target}", longest.as_millis());
            ensure!(longest <= OUTAGE_MAX, "{what}: {longest} without an answer of {target}");
        }
        Ok(())
    }

    /// Every request since then was answered, but for those under way while the address moved.
    fn nothing_lost(&self, since: Instant, what: &str) -> Result<()> {
        for (target, records) in self.records(since) {
            let lost: Vec<_> = records.iter().filter(|record| !record.is_answered() && !record.is_reset()).collect();
            ensure!(lost.is_empty(), "{what}: {} requests to {target} were lost: {:?}", lost.len(), lost.first());
        }
        Ok(())
    }

    /// How often the node began to announce, in the lines of its log after these.
    fn announced(&mut self, node: &str, after: usize) -> usize {
        let log = self.cluster.speaker(node).log();
        log.lines().skip(after).filter(|line| line.contains("serviceAnnounced")).count()
    }

    /// What keeps a node from announcing, as its metrics have it.
    fn wait_hindrances(&self, node: &str, wanted: &[&str]) -> Result<()> {
        eventually(LIMIT, || {
            let metrics = self.cluster.host(node).output_ok("curl", &["-sk", "https://127.0.0.1:9120/metrics"])?;
            let found: Vec<&str> = metrics
                .lines()
                .filter_map(|line| line.strip_prefix("metallb_layer2_node_hindered{hindrance=\""))
                .filter_map(|rest| rest.strip_suffix("\"} 1"))
                .collect();
            ensure!(found == wanted, "{node} is hindered by {found:?}, not {wanted:?}");
            Ok(())
        })
    }
}

fn moves(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    let [owner, heir, third] = scene.order;
    let host = scene.cluster.host(owner).clone();

    // The cable of the segment is out; gossip goes on.
    let [seen, seen_heir] = [owner, heir].map(|node| scene.cluster.log_length(node));
    let cut = scene.clock.now();
    host.unplug("eth1")?;
    scene.wait_held(heir).context("the owner's link is gone")?;
    scene.wait_well()?;
    scene.outage(cut, "the owner's link is gone")?;
    let [v4, v6] = ["10.9.0.0/24", "fc00:9::/64"].map(|it| format!("no interface reaches network {it} any more"));
    scene.cluster.wait_speaker_log(owner, seen, &["nodeHindered", &v4])?;
    scene.cluster.wait_speaker_log(owner, seen, &["serviceWithdrawn", "nodeHindered"])?;
    scene.wait_hindrances(owner, &[&v4, &v6])?;

    // It comes back, goes once more, and comes back: the address stays where it is, for twice the time.
    host.replug("eth1")?;
    std::thread::sleep(std::time::Duration::from_secs(2));
    host.unplug("eth1")?;
    std::thread::sleep(std::time::Duration::from_secs(1));
    let back = scene.clock.now();
    host.replug("eth1")?;
    scene.wait_held(owner).context("the owner's link is back")?;
    let took = scene.clock.now().since(back);
    eprintln!(
        "measured: a node was the owner again {} ms after its link was back for the second time",
        took.as_millis()
    );
    ensure!(took >= HOLD_FIRST.times(2), "the owner came back after {took}");
    scene.wait_well()?;
    scene.nothing_lost(back, "the owner's link is back")?;
    scene.wait_hindrances(owner, &[])?;
    // Before and after the link was away.
    let announced = (scene.announced(owner, seen), scene.announced(heir, seen_heir));
    ensure!(announced == (1, 1), "the owner and its heir announced {announced:?} times, not once each");

    // Its address on the network is gone. It still answers until the heir does.
    let gone = scene.clock.now();
    host.remove_address("eth1", network_address(owner)?)?;
    scene.wait_held(heir).context("the owner's address is gone")?;
    scene.wait_well()?;
    scene.outage(gone, "the owner's address is gone")?;

    // The heir loses every way out, and there is a third.
    let gone = scene.clock.now();
    scene.cluster.host(heir).output_ok("ip", &["route", "del", "default"])?;
    scene.wait_held(third).context("the heir's way out is gone")?;
    scene.wait_well()?;
    scene.nothing_lost(gone, "the heir's way out is gone")?;
    scene.wait_hindrances(heir, &["no default route for IPv4 works any more"])?;
    for node in NODES {
        let log = scene.cluster.speaker(node).log();
        ensure!(!log.lines().any(|line| line.contains("memberChanged") && line.contains("\"dead\"")), "{node}:\n{log}");
    }
    Ok(())
}

/// One default route of several next hops (ECMP), in both families: what counts is whether any of them can be used.
fn several(lab: &Lab) -> Result<()> {
    let scene = start(lab)?;
    let owner = scene.order[0];
    let host = scene.cluster.host(owner).clone();
    let networks = ["10.9.0.0/24", "fc00:9::/64"].map(|it| format!("no interface reaches network {it} any more"));
    let ways = ["IPv4", "IPv6"].map(|it| format!("no default route for {it} works any more"));
    let route = |four: [&str; 2], six: [&str; 2]| {
        host.set_route("0.0.0.0/0", &four.map(address))?;
        host.set_route("::/0", &six.map(address))
    };

    // Over both segments: one of them is enough.
    route(["192.168.1.254", "10.9.0.254"], ["fc00:f853:ccd:e799::254", "fc00:9::254"])?;
    host.unplug("eth1")?;
    scene.wait_hindrances(owner, &networks.each_ref().map(String::as_str)).context("one next hop is left")?;
    host.replug("eth1")?;
    scene.wait_hindrances(owner, &[])?;

    // Over the one that goes: none is left.
    let seen = scene.cluster.log_length(owner);
    route(["10.9.0.253", "10.9.0.254"], ["fc00:9::253", "fc00:9::254"])?;
    host.unplug("eth1")?;
    let all: Vec<&str> = networks.iter().chain(&ways).map(String::as_str).collect();
    scene.wait_hindrances(owner, &all).context("no next hop is left")?;
    host.replug("eth1")?;
    scene.wait_hindrances(owner, &[])?;

    // A route with one next hop less, and none.
    route(["192.168.1.254", "10.9.0.254"], ["fc00:f853:ccd:e799::254", "fc00:9::254"])?;
    host.set_route("0.0.0.0/0", &[address("10.9.0.254")])?;
    host.output_ok("ip", &["-6", "route", "del", "default"])?;
    scene.wait_hindrances(owner, &[&ways[1]]).context("IPv6 has no route")?;
    let lines = scene.cluster.wait_speaker_log(owner, seen, &["nodeHindered", &ways[1]])?;
    ensure!(!lines.is_empty());
    Ok(())
}

/// A member of Go does not read what others say: it would leave the address to the owner.
fn mixed(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    let [owner, heir, third] = scene.order;
    scene.cluster.speaker(heir).stop()?;
    let seen = scene.cluster.log_length(owner);
    let mut member = go_member(&scene.cluster, heir, owner)?;
    scene.cluster.wait_speaker_log(owner, seen, &["memberChanged", heir, "alive"])?;
    let cut = scene.clock.now();
    scene.cluster.host(owner).unplug("eth1")?;
    scene.wait_held(third).context("the owner's link is gone, and its heir is of Go")?;
    scene.wait_well()?;
    scene.outage(cut, "the owner's link is gone, and its heir is of Go")?;
    // When the owner dies the heir is the first of all, and it is believed: nobody announces beside it.
    let seen = scene.cluster.log_length(third);
    scene.cluster.power_off(owner)?;
    scene.cluster.wait_speaker_log(third, seen, &["memberChanged", owner, "dead"])?;
    scene.cluster.wait_speaker_log(third, seen, &["serviceWithdrawn", "notOwner"])?;
    member.stop()?;
    scene.wait_held(third).context("the member of Go has left")
}
