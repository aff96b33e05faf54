//! An address that Services share although each has others as well, while a client asks for all of them (contract 12.1 D10): one
//! node answers for it, and it moves without a lost request when a Service joins or leaves.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Instant, Mac};
use lab::requests::{Pace, Record, RequestStream};
use lab::testing::Trial;
use lab::{Host, Lab, eventually};
use netio::clock::Clock;

use crate::cluster::{Cluster, LIMIT, Setup, address, at};
use crate::conflicts::answerers_for;
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::new("contract_12_1_d10_the_second_address_of_a_service_that_another_shares_has_one_owner", shared)]
}

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
/// Fifty requests a second.
const PACE: Pace = Pace { every: Duration::from_millis(20), timeout: Duration::from_millis(900) };
/// Connections to one address that moves may cut: on a busy machine several are under way at one time.
const CUT_BY_MOVES_MAX: usize = 20;
/// The hash has node-a first for this one.
const V4: &str = "192.168.1.240";
/// For this one the order is node-b, node-a, node-c.
const V6: &str = "fc00:f853:ccd:e799::1";

struct Scene {
    cluster: Cluster,
    client: Host,
    clock: Clock,
    streams: Vec<(IpAddr, RequestStream)>,
}

impl Scene {
    /// Asks for both addresses of the Service from now on, again and again.
    fn ask(&mut self) -> Result<()> {
        for target in [V4, V6].map(address) {
            let stream = RequestStream::start(&self.client, at(target, 80), PACE, self.clock)?;
            self.streams.push((target, stream));
        }
        self.wait_well()
    }

    /// Waits until the last requests of each stream, begun from now on, were all answered.
    fn wait_well(&self) -> Result<()> {
        const WELL: usize = 30;
        let since = self.clock.now();
        for (target, stream) in &self.streams {
            eventually(LIMIT, || {
                let records = stream.records();
                let last = records.iter().filter(|record| record.begun >= since).rev().take(WELL);
                let answered = last.filter(|record| record.is_answered()).count();
                ensure!(answered == WELL, "{answered} of the last {WELL} answered for {target}");
                Ok(())
            })?;
        }
        Ok(())
    }

    fn mac(&self, node: &str) -> Result<Mac> {
        self.cluster.host(node).mac("eth0")
    }

    /// Waits until the client holds this node for an address, without making it ask.
    fn wait_held(&self, target: &str, node: &str) -> Result<()> {
        let (target, mac) = (address(target), self.mac(node)?);
        eventually(LIMIT, || {
            let held = self.client.neighbour_mac(target)?;
            ensure!(held == Some(mac), "the client holds {held:?} for {target}, not {mac} of {node}");
            Ok(())
        })
    }

    /// Waits until this node alone answers a client that asks anew, several times. It must not be asking meanwhile.
    fn wait_alone(&self, target: &str, node: &str) -> Result<()> {
        let wanted = self.mac(node)?;
        eventually(LIMIT, || {
            let macs = answerers_for(&self.cluster, &[address(target)], 5)?;
            ensure!(macs == [wanted], "{macs:?} answer for {target}, not {wanted} of {node} alone");
            Ok(())
        })
    }

    /// Waits until the metrics of a node say that it announces these addresses of `web`, and no others.
    fn wait_counted(&self, node: &str, addresses: &[&str]) -> Result<()> {
        eventually(LIMIT, || {
            let metrics = self.cluster.host(node).output_ok("curl", &["-sk", "https://127.0.0.1:9120/metrics"])?;
            let is_meant = |line: &&str| line.starts_with("metallb_speaker_announced{") && line.contains("default/web");
            let found: Vec<&str> = metrics.lines().filter(is_meant).collect();
            let are_all =
                addresses.iter().all(|address| found.iter().any(|line| line.contains(&format!("{address:?}"))));
            ensure!(are_all && found.len() == addresses.len(), "{node} counts {found:?}, and not {addresses:?}");
            Ok(())
        })
    }

    /// Every request since then was answered, but for those that were under way while an address moved.
    fn nothing_lost(&self, since: Instant, of: &[&str], what: &str) -> Result<()> {
        let meant = of.iter().map(|target| address(target)).collect::<Vec<_>>();
        for (target, stream) in self.streams.iter().filter(|(target, _)| meant.contains(target)) {
            let records = stream.records();
            let failed = |record: &&Record| record.begun >= since && !record.is_answered();
            let (reset, lost): (Vec<_>, Vec<_>) = records.iter().filter(failed).partition(|record| record.is_reset());
            ensure!(lost.is_empty(), "{what}: {} requests to {target} were lost: {:?}", lost.len(), lost.first());
            eprintln!("measured: {what}: {} connections to {target} were cut by a move", reset.len());
            ensure!(reset.len() <= CUT_BY_MOVES_MAX, "{what}: to {target} too many were cut: {}", reset.len());
        }
        Ok(())
    }
}

fn start(lab: &Lab) -> Result<Scene> {
    let mut cluster = Cluster::start_with(lab, Setup::members(&NODES))?;
    cluster.announce_on_segment()?;
    cluster.apply(&Service::dual("web").shares("edge").wants(&format!("{V4},{V6}")))?;
    for node in NODES {
        for other in NODES.into_iter().filter(|other| *other != node) {
            cluster.wait_speaker_log(node, 0, &["memberChanged", other, "alive"])?;
        }
    }
    let (client, clock) = (cluster.client().clone(), Clock::start());
    for target in [V4, V6].map(address) {
        cluster.wait_owner(target, "node-a")?;
        cluster.reach(&client, at(target, 80))?;
    }
    Ok(Scene { cluster, client, clock, streams: Vec::new() })
}

fn shared(lab: &Lab) -> Result<()> {
    let mut scene = start(lab)?;
    scene.ask()?;

    // Another Service has the second address alone: that elects for itself from now on.
    let joined = scene.clock.now();
    scene.cluster.apply(&Service::v6("dns").port("TCP", 53).shares("edge").wants(V6))?;
    scene.wait_held(V6, "node-b").context("another Service shares the address")?;
    scene.wait_held(V4, "node-a").context("another Service shares the other address")?;
    scene.wait_well()?;
    scene.nothing_lost(joined, &[V4, V6], "another Service shares an address")?;
    scene.cluster.reach(&scene.client.clone(), at(address(V6), 53))?;
    scene.cluster.wait_event("web", "nodeAssigned", &format!("node \"node-b\" with protocol \"layer2\": {V6}"))?;
    scene.cluster.wait_event("web", "nodeAssigned", &format!("node \"node-a\" with protocol \"layer2\": {V4}"))?;
    scene.wait_counted("node-a", &[V4])?;
    scene.wait_counted("node-b", &[V6])?;
    scene.wait_counted("node-c", &[])?;
    scene.streams.clear();
    scene.wait_alone(V6, "node-b")?;
    scene.wait_alone(V4, "node-a")?;

    // Each address has heirs of its own.
    scene.ask()?;
    let cut = scene.clock.now();
    scene.cluster.power_off("node-b")?;
    scene.wait_held(V6, "node-a").context("node-b has no power")?;
    scene.wait_well()?;
    scene.nothing_lost(cut, &[V4], "the owner of the other address has no power")?;
    let back = scene.clock.now();
    scene.cluster.power_on("node-b")?;
    scene.wait_held(V6, "node-b").context("node-b has power again")?;
    scene.wait_well()?;
    scene.nothing_lost(back, &[V4, V6], "the owner of the other address has power again")?;

    // The other Service leaves, and the first address elects for both again.
    let left = scene.clock.now();
    scene.cluster.delete("dns")?;
    scene.wait_held(V6, "node-a").context("nobody shares the address any more")?;
    scene.wait_well()?;
    scene.nothing_lost(left, &[V4, V6], "nobody shares the address any more")?;
    scene.wait_counted("node-a", &[V4, V6])?;
    scene.wait_counted("node-b", &[])?;
    scene.streams.clear();
    scene.wait_alone(V6, "node-a")
}
