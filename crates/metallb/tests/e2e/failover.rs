//! Nodes that are lost and come back, while a client asks all the time.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Instant, Mac};
use lab::requests::{Pace, RequestStream};
use lab::testing::Trial;
use lab::{Host, Lab, eventually};
use netio::clock::Clock;

use crate::cluster::{Cluster, LIMIT, address, at};
use crate::edge::{Edge, announce_routed, put_peers};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::new("the_services_of_a_node_that_loses_its_power_move_and_come_back", power)]
}

const PACE: Pace = Pace { every: Duration::from_millis(25), timeout: Duration::from_millis(900) };

/// Waits until the last requests, begun since then, were all answered.
fn wait_well(stream: &RequestStream, since: Instant) -> Result<()> {
    const WELL: usize = 20;
    eventually(LIMIT, || {
        let records = stream.records();
        let last: Vec<_> = records.iter().filter(|record| record.begun >= since).rev().take(WELL).collect();
        let answered = last.iter().filter(|record| record.is_answered()).count();
        ensure!(answered == WELL, "{answered} of the last {} requests answered, last {:?}", last.len(), last.first());
        Ok(())
    })
}

/// Waits until a client holds this MAC address for an address, without making it ask.
fn wait_held(client: &Host, target: IpAddr, mac: Mac) -> Result<()> {
    eventually(LIMIT, || {
        let held = client.neighbour_mac(target)?;
        ensure!(held == Some(mac), "{} holds {held:?} for {target}, not {mac}", client.name());
        Ok(())
    })
}

fn power(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b", "node-c"])?;
    let edge = Edge::frr(lab, &cluster)?;
    cluster.announce_on_segment()?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", holdTime: 3s, keepaliveTime: 1s, connectTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    let client = cluster.client().clone();
    let (four, six) = ("192.168.1.240", "fc00:f853:ccd:e799::1");
    cluster.apply(&Service::dual("web").wants(&format!("{four},{six}")))?;
    cluster.apply(&Service::dual("api").from("routed"))?;
    let on_segment = [address(four), address(six)];
    let routed = cluster.wait_addresses("api")?;
    let nodes = ["node-a", "node-b", "node-c"];
    let clock = Clock::start();
    let mut streams = Vec::new();
    for target in on_segment {
        cluster.wait_owner(target, "node-a")?;
        cluster.reach(&client, at(target, 80))?;
        streams.push(RequestStream::start(&client, at(target, 80), PACE, clock)?);
    }
    for target in &routed {
        edge.wait_nodes(&cluster, *target, &nodes)?;
        cluster.reach(&edge.remote, at(*target, 80))?;
        streams.push(RequestStream::start(&edge.remote, at(*target, 80), PACE, clock)?);
    }
    for stream in &streams {
        wait_well(stream, Instant::ZERO).context("before")?;
    }

    cluster.power_off("node-a")?;
    // The router notices by itself; the others on the segment when the cluster says that the node is not ready.
    for target in &routed {
        edge.wait_nodes(&cluster, *target, &["node-b", "node-c"]).context("node-a has no power")?;
    }
    cluster.mark_ready("node-a", false)?;
    for target in on_segment {
        wait_held(&client, target, cluster.host("node-c").mac("eth0")?).context("node-a is not ready")?;
    }
    let moved = clock.now();
    for stream in &streams {
        wait_well(stream, moved).context("after node-a was lost")?;
    }
    cluster.power_on("node-a")?;
    cluster.mark_ready("node-a", true)?;
    for target in on_segment {
        wait_held(&client, target, cluster.host("node-a").mac("eth0")?).context("node-a is ready again")?;
    }
    for target in &routed {
        edge.wait_nodes(&cluster, *target, &nodes).context("node-a is back")?;
    }
    let back = clock.now();
    for stream in &streams {
        wait_well(stream, back).context("after node-a came back")?;
    }
    cluster.wait_exactly("web", &[four, six])?;
    ensure!(cluster.addresses("api")? == routed, "api has {:?}", cluster.addresses("api")?);
    Ok(())
}
