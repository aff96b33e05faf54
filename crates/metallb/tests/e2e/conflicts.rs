//! Two machines answer for one address: two nodes whose speakers do not hear each other, and a stranger.

use std::net::{IpAddr, Ipv4Addr};

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, InterfaceIndex, Mac};
use l2::wire::arp::Operation;
use l2::wire::{Arp, Frame, Payload};
use lab::capture::Capture;
use lab::testing::Trial;
use lab::{Host, Lab};
use netio::clock::Clock;
use sys::packet::PacketSocket;

use crate::cluster::{Cluster, Setup, address, at, resolve};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("two_nodes_that_only_the_segment_connects_agree_on_one_owner", memberlist_cut),
        Trial::new("a_stranger_that_claims_an_address_is_told_by_event_metric_and_log", stranger),
    ]
}

const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
pub(crate) const V4: &str = "192.168.1.240";
const V6: &str = "fc00:f853:ccd:e799::1";

/// All nodes know each other, and `node-a` is the owner; `node-c` comes next.
pub(crate) fn start(lab: &Lab, speaker_flags: &[&str]) -> Result<Cluster> {
    start_with(lab, &NODES, speaker_flags)
}

/// The same with these nodes, `node-a` one of them.
pub(crate) fn start_with(lab: &Lab, nodes: &[&'static str], speaker_flags: &[&str]) -> Result<Cluster> {
    let speaker = speaker_flags.iter().map(|flag| (*flag).to_owned()).collect();
    let mut cluster = Cluster::start_with(lab, Setup { speaker, ..Setup::members(nodes) })?;
    cluster.announce_on_segment()?;
    cluster.apply(&Service::dual("web").wants(&format!("{V4},{V6}")))?;
    for node in nodes {
        for other in nodes.iter().filter(|other| *other != node) {
            cluster.wait_speaker_log(node, 0, &["memberChanged", other, "alive"])?;
        }
    }
    let client = cluster.client().clone();
    for target in targets() {
        cluster.wait_owner(target, "node-a")?;
        cluster.reach(&client, at(target, 80))?;
    }
    Ok(cluster)
}

pub(crate) fn targets() -> [IpAddr; 2] {
    [address(V4), address(V6)]
}

/// The stations that answered when the client asked anew, so many times for each target.
pub(crate) fn answerers(cluster: &Cluster, times: usize) -> Result<Vec<Mac>> {
    answerers_for(cluster, &targets(), times)
}

/// The same for these addresses.
pub(crate) fn answerers_for(cluster: &Cluster, targets: &[IpAddr], times: usize) -> Result<Vec<Mac>> {
    let capture = Capture::start(cluster.client(), "eth0", "arp or icmp6")?;
    // What earlier captures on this host saw is there as well.
    let before = capture.claims().len();
    for target in targets {
        for _ in 0..times {
            resolve(cluster.client(), *target)?;
        }
    }
    let own = cluster.client().mac("eth0")?;
    let claims = capture.claims().into_iter().skip(before);
    let answers = claims.filter(|it| targets.contains(&it.address) && it.destination == own);
    let mut macs: Vec<Mac> = answers.map(|claim| claim.mac).collect();
    macs.sort();
    macs.dedup();
    Ok(macs)
}

fn memberlist_cut(lab: &Lab) -> Result<()> {
    let mut cluster = start(lab, &[])?;
    let (a, c) = (cluster.host("node-a").mac("eth0")?, cluster.host("node-c").mac("eth0")?);
    let [seen_a, seen_c] = ["node-a", "node-c"].map(|node| cluster.log_length(node));
    for rule in [
        "add table inet cut",
        "add chain inet cut in { type filter hook input priority 0; }",
        "add chain inet cut out { type filter hook output priority 0; }",
        "add rule inet cut in meta l4proto { tcp, udp } th dport 7946 drop",
        "add rule inet cut in meta l4proto { tcp, udp } th sport 7946 drop",
        "add rule inet cut out meta l4proto { tcp, udp } th dport 7946 drop",
        "add rule inet cut out meta l4proto { tcp, udp } th sport 7946 drop",
    ] {
        cluster.host("node-a").output_ok("nft", &[rule])?;
    }
    let clock = Clock::start();
    cluster.wait_speaker_log("node-c", seen_c, &["memberChanged", "node-a", "dead"])?;
    // node-c would be next, and announces. node-a says that it is still there, and node-c gives way.
    let other = cluster.wait_speaker_log("node-c", seen_c, &["serviceAnnounced", "layer2"])?;
    cluster.wait_speaker_log("node-c", seen_c, &["serviceWithdrawn", "notOwner"]).context(other)?;
    let took = clock.now().since(kit::Instant::ZERO);
    eprintln!("measured: {} ms from the cut to one owner", took.as_millis());
    ensure!(took < Duration::from_secs(15), "it took {took}");
    cluster.wait_speaker_log("node-c", seen_c, &["addressConflict", &a.to_string()])?;
    cluster.wait_speaker_log("node-a", seen_a, &["addressConflict", &c.to_string()])?;
    for node in ["node-a", "node-c"] {
        cluster.wait_event("web", "addressConflict", &format!("node {node:?}"))?;
    }
    for target in targets() {
        cluster.wait_owner(target, "node-a")?;
    }
    let macs = answerers(&cluster, 10)?;
    ensure!(macs == [a], "{macs:?} answer, not {a} alone");
    // It stays so: node-c asks, and node-a answers.
    let seen = cluster.log_length("node-c");
    std::thread::sleep(std::time::Duration::from_secs(8));
    let log = cluster.speaker("node-c").log();
    ensure!(!log.lines().skip(seen).any(|line| line.contains("serviceAnnounced")), "node-c took the address again");
    // Now node-a is really gone, and memberlist has nothing new to say.
    let gone = clock.now();
    cluster.power_off("node-a")?;
    for target in targets() {
        cluster.wait_owner(target, "node-c")?;
    }
    let took = clock.now().since(gone);
    eprintln!("measured: {} ms until a node that only the segment showed was succeeded", took.as_millis());
    ensure!(took < Duration::from_secs(15), "it took {took}");
    Ok(())
}

fn claim(host: &Host, target: &str) -> Result<()> {
    let (mac, target): (Mac, Ipv4Addr) = (host.mac("eth0")?, target.parse()?);
    let arp = Arp {
        operation: Operation::Reply,
        sender_mac: mac,
        sender_address: target,
        target_mac: Mac::BROADCAST,
        target_address: target,
    };
    let frame = Frame { source: mac, destination: Mac::BROADCAST, payload: Payload::Arp(arp) };
    let index = InterfaceIndex::new(host.interface_index("eth0")?).context("no index")?;
    host.run(async move || Ok(PacketSocket::open(index, sys::packet::Capture::Arp)?.send(&frame.encode())?))
}

fn stranger(lab: &Lab) -> Result<()> {
    let cluster = start(lab, &[])?;
    let thief = lab.host("thief")?;
    thief.plug("eth0", cluster.segment())?;
    let mac = thief.mac("eth0")?;
    let seen = cluster.log_length("node-a");
    claim(&thief, V4)?;
    cluster.wait_speaker_log("node-a", seen, &["addressConflict", V4, &mac.to_string()])?;
    let message = cluster.wait_event("web", "addressConflict", &mac.to_string())?;
    ensure!(message.contains("hint: find that machine"), "{message}");
    let metrics = cluster.host("node-a").output_ok("curl", &["-sk", "https://127.0.0.1:9120/metrics"])?;
    let series = format!("metallb_layer2_foreign_claims_total{{ip=\"{V4}\"}} 1");
    ensure!(metrics.contains(&series), "no {series} in {metrics}");
    // node-a has defended it, and the client has followed.
    cluster.wait_owner(address(V4), "node-a")?;
    Ok(())
}
