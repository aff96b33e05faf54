//! What an operator can ask of a running speaker: `metallb status bgp`, held against what routers say.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::router::RouterKind;
use lab::testing::Trial;
use lab::{Host, Lab, Output, eventually};
use serde_json::Value;

use crate::cluster::{Cluster, LIMIT, PROGRAM, v4, v6};
use crate::edge::{Edge, OURS, THEIRS, accepting, announce_routed, host_route, put_peers};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("status_of_sessions_with_frr_is_what_frr_says", sessions),
        Trial::new("status_says_what_is_waited_for_and_why_it_cannot_be_asked", waiting),
    ]
}

fn status(host: &Host, arguments: &[&str]) -> Result<Output> {
    let mut command = Command::new(PROGRAM);
    command.args(["status", "bgp"]).args(arguments);
    host.output(command)
}

fn json(host: &Host, arguments: &[&str]) -> Result<Value> {
    let text = status(host, &[arguments, &["--output", "json"]].concat())?.ok()?;
    serde_json::from_str(&text).with_context(|| text.clone())
}

/// Waits until the answer about one peer is as it should be.
fn wait_peer(host: &Host, name: &str, check: impl Fn(&Value) -> bool) -> Result<Value> {
    eventually(LIMIT, || {
        let answer = json(host, &["--peer", name])?;
        ensure!(answer["peers"].as_array().is_some_and(|peers| peers.len() == 1), "{answer:#}");
        ensure!(check(&answer["peers"][0]), "{answer:#}");
        Ok(answer)
    })
}

fn sessions(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let bfd = lab::router::Bfd { interval: kit::Duration::from_millis(300), multiplier: 100 };
    let config = accepting(&cluster, THEIRS, OURS, |peer| peer.bfd = Some(bfd))?;
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    let host = cluster.host("node-a").clone();
    cluster.put("IPAddressPool", "routed", crate::edge::ROUTED_POOL)?;
    let advertisement =
        "ipAddressPools: [routed], med: 7, asPathPrepend: 1, communities: [\"64500:1\", \"large:1:2:3\"]";
    cluster.put("BGPAdvertisement", "routed", advertisement)?;
    cluster.put("BFDProfile", "watch", "detectMultiplier: 100")?;
    put_peers(&cluster, ", connectTime: 1s, bfdProfile: watch")?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    // What we say of a route is what the router has.
    for (name, node, target) in [("four", v4(11), addresses[0]), ("six", v6(11), addresses[1])] {
        let is_settled = |peer: &Value| peer["bfd"] == "Up" && peer["routes"][0]["state"] == "announced";
        let answer = wait_peer(&host, name, is_settled)?;
        let (peer, route) = (&answer["peers"][0], &answer["peers"][0]["routes"][0]);
        ensure!(peer["state"] == "Established" && peer["established"] == 1, "{peer:#}");
        let at_router = edge.router.routes_to(&host_route(target))?.remove(0);
        ensure!(route["prefix"] == host_route(target), "{route:#}");
        ensure!(route["nextHop"] == at_router.next_hop.to_string(), "{route:#}, {at_router:?}");
        let path: Vec<String> = at_router.as_path.iter().map(ToString::to_string).collect();
        ensure!(route["asPath"] == path.join(" "), "{route:#}, {at_router:?}");
        ensure!(route["med"] == Value::from(at_router.med), "{route:#}, {at_router:?}");
        let communities: Vec<String> = at_router.communities.iter().map(ToString::to_string).collect();
        ensure!(route["communities"] == Value::from(communities), "{route:#}, {at_router:?}");
        // So are identifiers, timers and what both sides can do.
        let (session, neighbour) = (&peer["session"], edge.neighbour(node)?);
        ensure!(session["localRouterId"] == neighbour["remoteRouterId"], "{session:#}");
        ensure!(session["remoteRouterId"] == neighbour["localRouterId"], "{session:#}");
        let hold = neighbour["bgpTimerHoldTimeMsecs"].as_u64().context("no hold time")?;
        ensure!(session["holdTimeSeconds"].as_u64() == Some(hold / 1000), "{session:#}");
        let says = |side: &str, what: &str| {
            let list = session[side].as_array().into_iter().flatten();
            list.filter_map(Value::as_str).any(|capability| capability.contains(what))
        };
        ensure!(says("capabilitiesSent", &format!("4-byte AS {OURS}")), "{session:#}");
        ensure!(says("capabilitiesReceived", &format!("4-byte AS {THEIRS}")), "{session:#}");
        ensure!(peer["messages"]["sent"]["opens"] == 1 && peer["messages"]["received"]["opens"] == 1, "{peer:#}");
        ensure!(answer["bfd"][0]["state"] == "Up" && answer["bfd"][0]["peers"][0] == name, "{answer:#}");
    }
    // People get lines, and no routes unless they ask about one peer.
    let text = status(&host, &[])?.ok()?;
    let line = text.lines().find(|line| line.starts_with("four")).with_context(|| text.clone())?;
    let words: Vec<&str> = line.split_whitespace().collect();
    ensure!(words[1] == "192.168.1.254:179" && words[3] == "Established" && words[5..] == ["1/1", "Up", "-"], "{text}");
    ensure!(!text.contains("203.0.113."), "{text}");
    let text = status(&host, &["--peer", "six"])?.ok()?;
    ensure!(text.contains("2001:db8:1::") && text.contains("64500:1 large:1:2:3"), "{text}");

    // The router's operator says why; our side says it in words, and keeps it when attempts fail after that.
    let shutdown = format!("neighbor {} shutdown message maintenance until four", v4(11));
    edge.router.command(&["configure terminal", &format!("router bgp {THEIRS}"), &shutdown])?;
    let said = |peer: &Value| {
        let reason = peer["lastNotification"]["reason"].as_str().unwrap_or_default();
        reason.starts_with("received Cease") && reason.contains("maintenance until four")
    };
    let answer = wait_peer(&host, "four", |peer| said(peer) && peer["failedAttempts"].as_u64() > Some(1))?;
    ensure!(answer["peers"][0]["routes"][0]["state"] == "the session is not established", "{answer:#}");
    let text = status(&host, &[])?.ok()?;
    let line = text.lines().find(|line| line.starts_with("four")).with_context(|| text.clone())?;
    ensure!(line.contains("0/1") && line.contains("ago: "), "{text}");
    Ok(())
}

fn waiting(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let host = cluster.host("node-a").clone();
    announce_routed(&cluster)?;
    let text = eventually(LIMIT, || status(&host, &[])?.ok())?;
    ensure!(text.contains("no BGP sessions: no BGPPeer selects this node"), "{text}");
    let peer = |place: &str| format!("myASN: {OURS}, peerASN: {THEIRS}, {place}");
    cluster.put("BGPPeer", "tor", &peer("interface: tor0"))?;
    cluster.put("BGPPeer", "way-out", &peer("peerGateway: IPv4"))?;
    wait_peer(&host, "tor", |peer| peer["waitsFor"] == "a router that advertises itself on the link")?;
    wait_peer(&host, "way-out", |peer| peer["waitsFor"] == "a default route")?;
    // Names that are not there, and speakers that are not there.
    let output = status(&host, &["--peer", "tor1"])?;
    ensure!(output.status.code() == Some(1) && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.contains("node node-a has no BGPPeer \"tor1\"\nhint: did you mean \"tor\"?"), "{output:?}");
    let output = status(&host, &["--socket", "/run/metallb/other.sock"])?;
    ensure!(output.status.code() == Some(2) && output.stdout.is_empty(), "{output:?}");
    ensure!(output.stderr.contains("cannot ask the speaker at /run/metallb/other.sock"), "{output:?}");
    ensure!(output.stderr.contains("hint: run it in the pod of a speaker"), "{output:?}");
    // One that was killed leaves its socket, and the next one takes its place.
    cluster.speaker("node-a").kill()?;
    ensure!(status(&host, &[])?.status.code() == Some(2), "a speaker that was killed answers");
    cluster.speaker_begin("node-a")?;
    wait_peer(&host, "tor", |peer| peer["state"] == "Idle")?;
    let mode = host.output_ok("stat", &["-c", "%a %U", "/run/metallb/speaker.sock", "/run/metallb"])?;
    ensure!(mode == "600 root\n700 root\n", "{mode}");
    Ok(())
}
