//! BFD between speakers and routers: what a router's death or a node's does to routes, and what profiles do (contract 1.7,
//! 10.3, RFC 5882).

use std::fmt::Write as _;
use std::net::IpAddr;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Instant};
use lab::confined::Capabilities;
use lab::router::{Bfd, Opening, PeerPlace, Router, RouterConfig, RouterKind, RouterPeer};
use lab::testing::Trial;
use lab::{Host, Lab, eventually};
use netio::clock::Clock;
use serde_json::Value;

use crate::cluster::{Cluster, LIMIT, Setup, address, at, v4, v6};
use crate::edge::{Edge, OURS, THEIRS, accepting, announce_routed, host_route, put_peers};
use crate::metrics::wait_values;
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("bfd_of_frr_is_killed_and_its_other_routers_lose_the_routes_at_once", killed),
        Trial::new("bfd_of_frr_notices_a_node_without_power", |lab| power(lab, RouterKind::Frr)),
        Trial::new("bfd_of_bird_notices_a_node_without_power", |lab| power(lab, RouterKind::Bird)),
        Trial::new("contract_10_3_bfd_profiles_change_without_a_flap", profiles),
        Trial::new("rfc5882_4_1_bgp_runs_with_a_router_that_has_no_bfd", silent),
        Trial::new("rfc5882_4_3_a_restart_with_bfd_keeps_the_routes_at_frr", |lab| restart(lab, RouterKind::Frr)),
        Trial::new("rfc5882_4_3_a_restart_with_bfd_keeps_the_routes_at_bird", |lab| restart(lab, RouterKind::Bird)),
        Trial::new("rfc5882_4_3_bfd_of_a_killed_speaker_keeps_the_routes_at_frr", |lab| kill(lab, RouterKind::Frr)),
        Trial::new("rfc5882_4_3_bfd_of_a_killed_speaker_keeps_the_routes_at_bird", |lab| kill(lab, RouterKind::Bird)),
        Trial::new("contract_1_2_bfd_over_several_hops_outside_and_inside_of_the_as", several_hops),
        Trial::new("contract_10_3_bfd_over_an_unnumbered_link", unnumbered),
        Trial::new("bfd_with_routers_that_call_from_a_range", callers),
    ]
}

/// Soon, but not sooner than a busy machine can.
const QUICK: Bfd = Bfd { interval: Duration::from_millis(100), multiplier: 5 };
/// The same as a BFDProfile.
const QUICK_PROFILE: &str = "receiveInterval: 100, transmitInterval: 100, detectMultiplier: 5";
/// Never, on a busy machine.
const PATIENT: Bfd = Bfd { interval: Duration::from_millis(300), multiplier: 100 };
/// The same as a BFDProfile.
const PATIENT_PROFILE: &str = "detectMultiplier: 100";

/// Without BFD a router that is silent is given up after this: what both sides offer (`HoldTime::DEFAULT`).
const HOLD_TIME: Duration = Duration::from_secs(90);

/// A router that knows of the nodes only what the router at the edge tells it, so it loses a route when that one does.
struct Core {
    router: Router,
    addresses: Vec<IpAddr>,
}

impl Core {
    /// Lines for the router at the edge are added to its configuration; `Core::start` is for afterwards.
    fn announce(config: &mut RouterConfig, kind: RouterKind) -> Result<()> {
        for (number, neighbour) in ["10.254.0.2", "fd00:254::2"].into_iter().enumerate() {
            if kind == RouterKind::Bird {
                let family = if number == 0 { "ipv4" } else { "ipv6" };
                writeln!(
                    config.extra,
                    "protocol bgp core{number} {{ local as {THEIRS}; neighbor {neighbour} as 64600; connect retry time 1;
                     connect delay time 0; error wait time 1, 2;
                     {family} {{ import none; export where source = RTS_BGP; next hop self; }}; }}"
                )?;
            } else {
                let mut peer = RouterPeer::accept(&host_route(address(neighbour)), 64_600)?;
                peer.opening = Opening::Dials;
                config.peers.push(peer);
            }
        }
        Ok(())
    }

    fn start(edge: &Edge, services: &[IpAddr]) -> Result<Core> {
        let mut config = RouterConfig::new(64_600, "10.254.0.2")?;
        for neighbour in ["10.254.0.1/32", "fd00:254::1/128"] {
            config.peers.push(RouterPeer::accept(neighbour, THEIRS)?);
        }
        let router = Router::start(&edge.remote, RouterKind::Embedded, &config)?;
        Ok(Core { router, addresses: services.to_vec() })
    }

    fn wait_routes(&self, count: usize) -> Result<()> {
        eventually(LIMIT, || {
            for target in &self.addresses {
                let routes = self.router.routes_to(&host_route(*target))?;
                ensure!(routes.len() == count, "the router behind has {routes:?} to {target}");
            }
            Ok(())
        })
    }

    /// Waits until the routes are gone, and says how long after `since` that was: well before the hold time.
    fn wait_lost(&self, clock: Clock, since: Instant) -> Result<Duration> {
        loop {
            let left: Vec<_> = self
                .addresses
                .iter()
                .map(|target| self.router.routes_to(&host_route(*target)))
                .collect::<Result<Vec<_>>>()?
                .concat();
            let elapsed = clock.now() - since;
            if left.is_empty() {
                return Ok(elapsed);
            }
            ensure!(elapsed < LIMIT, "after {elapsed} the router behind still has {left:?}");
            thread::sleep(std::time::Duration::from_millis(5));
        }
    }
}

/// A node, a router at the edge that watches it, and a Service that both families have routes to.
fn watched(
    lab: &Lab,
    kind: RouterKind,
    (bfd, profile): (Bfd, &str),
    more: &str,
) -> Result<(Cluster, Edge, Core, Vec<IpAddr>)> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let mut config = accepting(&cluster, THEIRS, OURS, |peer| peer.bfd = Some(bfd))?;
    if kind == RouterKind::Bird && !more.is_empty() {
        // BIRD has to be told that BFD shares the fate of a speaker that restarts.
        config.peers.clear();
        bird_peers(&mut config, bfd)?;
    }
    Core::announce(&mut config, kind)?;
    let edge = Edge::start(lab, &cluster, 254, kind, &config)?;
    announce_routed(&cluster)?;
    cluster.put("BFDProfile", "watch", profile)?;
    put_peers(&cluster, &format!(", connectTime: 1s, bfdProfile: watch{more}"))?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    let core = Core::start(&edge, &addresses)?;
    wait_up(&cluster, &[v4(254), v6(254)])?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    core.wait_routes(1)?;
    Ok((cluster, edge, core, addresses))
}

fn bird_peers(config: &mut RouterConfig, bfd: Bfd) -> Result<()> {
    let (interval, multiplier) = (bfd.interval.as_millis(), bfd.multiplier);
    writeln!(
        config.extra,
        "protocol bfd {{ interface \"*\" {{ interval {interval} ms; multiplier {multiplier}; }}; }}"
    )?;
    for (number, (node, family)) in [(v4(11), "ipv4"), (v6(11), "ipv6")].into_iter().enumerate() {
        writeln!(
            config.extra,
            "protocol bgp node{number} {{ local as {THEIRS}; neighbor {node} as {OURS}; passive on; bfd graceful;
             graceful restart on; {family} {{ import all; export none; }}; }}"
        )?;
    }
    Ok(())
}

/// Waits until the speaker's metrics say so of these sessions.
fn wait_state(cluster: &Cluster, peers: &[IpAddr], is_up: bool) -> Result<()> {
    for peer in peers {
        let (text, value) = (peer.to_string(), if is_up { 1.0 } else { 0.0 });
        let labels = [("peer", text.as_str()), ("vrf", "default")];
        wait_values(cluster.host("node-a"), &[("metallb_bfd_session_up", &labels, Some(value))])?;
    }
    Ok(())
}

fn wait_up(cluster: &Cluster, peers: &[IpAddr]) -> Result<()> {
    wait_state(cluster, peers, true)
}

/// Says what was measured: no limit of a test, but worth knowing.
#[expect(clippy::print_stdout, reason = "for whoever runs the test")]
fn tell(what: &str, elapsed: Duration) {
    println!("measured: {what}: {elapsed}");
}

fn killed(lab: &Lab) -> Result<()> {
    let (cluster, mut edge, core, addresses) = watched(lab, RouterKind::Frr, (QUICK, QUICK_PROFILE), "")?;
    let (seen, clock) = (cluster.log_length("node-a"), Clock::start());
    let since = clock.now();
    edge.router.kill_bfd()?;
    let elapsed = core.wait_lost(clock, since)?;
    tell("bfdd of FRR is killed, 5 x 100 ms, until the router behind has lost both routes", elapsed);
    ensure!(elapsed < HOLD_TIME, "not before the hold time: {elapsed}");
    for peer in [v4(254), v6(254)] {
        let peer = peer.to_string();
        let line = ["bfdDown", &peer, "nothing was heard from the neighbour", "the BGP session ends"];
        cluster.wait_speaker_log("node-a", seen, &line)?;
        cluster.wait_speaker_log("node-a", seen, &["sessionDown", &peer, "sent Cease", "BFD Down"])?;
        let labels = [("peer", peer.as_str()), ("vrf", "default")];
        wait_values(cluster.host("node-a"), &[("metallb_bfd_session_up", &labels, Some(0.0))])?;
    }
    // A router that does no BFD any more is no reason to be without BGP for ever (RFC 5882 section 4.1).
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("without BFD")?;
    }
    core.wait_routes(1)?;
    wait_state(&cluster, &[v4(254), v6(254)], false)
}

fn power(lab: &Lab, kind: RouterKind) -> Result<()> {
    let (mut cluster, edge, core, addresses) = watched(lab, kind, (QUICK, QUICK_PROFILE), "")?;
    let clock = Clock::start();
    let since = clock.now();
    cluster.host("node-a").unplug("eth0")?;
    let elapsed = core.wait_lost(clock, since)?;
    tell(&format!("a node's cable is cut, {kind}, 5 x 100 ms, until the router behind has lost both routes"), elapsed);
    ensure!(elapsed < HOLD_TIME, "not before the hold time: {elapsed}");
    // Our end has noticed too, and has nobody to tell.
    for peer in [v4(254), v6(254)] {
        cluster.wait_speaker_log("node-a", 0, &["sessionDown", &peer.to_string(), "BFD Down"])?;
    }
    let seen = cluster.log_length("node-a");
    cluster.host("node-a").replug("eth0")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("the cable is in again")?;
    }
    core.wait_routes(1)?;
    cluster.wait_speaker_log("node-a", seen, &["bfdUp"])?;
    // The power goes: nobody says anything, and neither does the kernel of the node.
    let since = clock.now();
    cluster.power_off("node-a")?;
    let elapsed = core.wait_lost(clock, since)?;
    tell(&format!("a node loses its power, {kind}, 5 x 100 ms, until the router behind has lost both routes"), elapsed);
    cluster.power_on("node-a")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("the power is back")?;
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    wait_up(&cluster, &[v4(254), v6(254)])
}

/// What FRR shows of its sessions with the node.
fn wait_shown(router: &Router, peers: &[IpAddr], expected: &[(&str, Value)]) -> Result<()> {
    eventually(LIMIT, || {
        let text = router.command(&["show bfd peers json"])?;
        let shown: Vec<Value> = serde_json::from_str(&text).with_context(|| text.clone())?;
        for peer in peers {
            let entry = shown.iter().find(|entry| entry["peer"] == peer.to_string());
            let entry = entry.with_context(|| format!("no {peer} in {text}"))?;
            for (key, value) in expected {
                ensure!(entry[key] == *value, "{key} of {peer} is not {value}: {entry}");
            }
        }
        Ok(())
    })
}

/// The UDP ports that are open on a host.
fn udp_ports(host: &Host) -> Result<String> {
    host.output_ok("ss", &["-ulnH"])
}

fn profiles(lab: &Lab) -> Result<()> {
    let (mut cluster, edge, _core, _) = watched(lab, RouterKind::Frr, (PATIENT, PATIENT_PROFILE), "")?;
    let ours = [v4(11), v6(11)];
    // Nodes of Kubernetes do, and then they also return the echo packets of routers.
    cluster.host("node-a").forward_packets()?;
    let timers = |receive: u64, transmit: u64, echo: u64, multiplier: u64| {
        [
            ("status", "up".into()),
            ("remote-receive-interval", receive.into()),
            ("remote-transmit-interval", transmit.into()),
            ("remote-echo-receive-interval", echo.into()),
            ("remote-detect-multiplier", multiplier.into()),
        ]
    };
    wait_shown(&edge.router, &ours, &timers(300, 300, 50, 100))?;
    let before = edge.counters()?;
    for (profile, expected) in [
        (
            "receiveInterval: 600, transmitInterval: 700, detectMultiplier: 90, echoInterval: 80",
            timers(600, 700, 80, 90),
        ),
        ("receiveInterval: 200, transmitInterval: 1000, detectMultiplier: 120", timers(200, 1000, 50, 120)),
        ("detectMultiplier: 100, passiveMode: true", timers(300, 300, 50, 100)),
    ] {
        cluster.put("BFDProfile", "watch", profile)?;
        wait_shown(&edge.router, &ours, &expected).with_context(|| profile.to_owned())?;
    }
    // Another profile of the same peer, and more Services, change nothing either (contract 10.3).
    cluster.put("BFDProfile", "other", "detectMultiplier: 80")?;
    put_peers(&cluster, ", connectTime: 1s, bfdProfile: other")?;
    wait_shown(&edge.router, &ours, &timers(300, 300, 50, 80))?;
    cluster.apply(&Service::dual("more").from("routed"))?;
    for target in cluster.wait_addresses("more")? {
        edge.wait_nodes(&cluster, target, &["node-a"])?;
    }
    let log = cluster.speaker("node-a").log();
    ensure!(!log.contains("bfdDown") && !log.contains("sessionDown"), "a session was touched: {log}");
    ensure!(log.matches("\"event\":\"bfdUp\"").count() == 2, "not once for each family: {log}");
    for peer in ours {
        ensure!(edge.counters()?[&peer] == before[&peer], "{:?}, before {before:?}", edge.counters()?);
    }
    // The router's operator switches BFD off: that is no failure (RFC 5882 section 3.2).
    for profile in ["profile peer0", "profile peer1"] {
        edge.router.command(&["configure terminal", "bfd", profile, "shutdown"])?;
    }
    cluster.wait_speaker_log("node-a", 0, &["bfdDown", "192.168.1.254", "administratively down"])?;
    wait_state(&cluster, &[v4(254), v6(254)], false)?;
    // Ours does too, and is silent from then on; BGP goes on throughout.
    ensure!(udp_ports(cluster.host("node-a"))?.contains(":3784"), "{}", udp_ports(cluster.host("node-a"))?);
    put_peers(&cluster, ", connectTime: 1s")?;
    eventually(LIMIT, || {
        let ports = udp_ports(cluster.host("node-a"))?;
        ensure!(!ports.contains(":3784"), "{ports}");
        Ok(())
    })?;
    let peer = [("peer", "192.168.1.254")];
    wait_values(cluster.host("node-a"), &[("metallb_bfd_session_up", &peer, None)])?;
    for peer in ours {
        ensure!(edge.counters()?[&peer] == before[&peer], "{:?}, before {before:?}", edge.counters()?);
    }
    let log = cluster.speaker("node-a").log();
    ensure!(!log.contains("sessionDown"), "a session was touched: {log}");
    Ok(())
}

fn silent(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    let host = cluster.host("node-a").clone();
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    let ports = udp_ports(&host)?;
    ensure!(!ports.contains(":3784") && !ports.contains(":4784"), "without a profile: {ports}");
    cluster.put("BFDProfile", "watch", QUICK_PROFILE)?;
    let before = edge.counters()?;
    put_peers(&cluster, ", connectTime: 1s, bfdProfile: watch")?;
    // The sessions that are there stay, and so would new ones.
    wait_state(&cluster, &[v4(254), v6(254)], false)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    for target in cluster.wait_addresses("web")? {
        edge.wait_nodes(&cluster, target, &["node-a"])?;
    }
    ensure!(edge.counters()? == before, "{:?}, before {before:?}", edge.counters()?);
    cluster.remove("BGPPeer", "four")?;
    edge.wait_error(v4(11), "Cease/Peer De-configured")?;
    let peer = [("peer", "192.168.1.254")];
    wait_values(&host, &[("metallb_bfd_session_up", &peer, None)])?;
    put_peers(&cluster, ", connectTime: 1s, bfdProfile: watch")?;
    edge.wait_sessions(&cluster).context("a session that begins while BFD is down")
}

fn restart(lab: &Lab, kind: RouterKind) -> Result<()> {
    let more = ", enableGracefulRestart: true";
    let (mut cluster, edge, core, addresses) = watched(lab, kind, (PATIENT, PATIENT_PROFILE), more)?;
    let before = core.router.routes()?;
    let status = cluster.speaker("node-a").stop()?;
    ensure!(status.success(), "the speaker ends with {status}");
    if kind == RouterKind::Frr {
        wait_shown(&edge.router, &[v4(11), v6(11)], &[("status", "down".into())])?;
    }
    eventually(LIMIT, || {
        for peer in [v4(11), v6(11)] {
            ensure!(!edge.session(peer)?.is_established(), "{:?}", edge.session(peer)?);
        }
        Ok(())
    })?;
    for target in &addresses {
        ensure!(edge.router.routes_to(&host_route(*target))?.len() == 1, "the router has forgotten {target}");
    }
    cluster.speaker_begin("node-a")?;
    edge.wait_sessions(&cluster)?;
    wait_up(&cluster, &[v4(254), v6(254)])?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    ensure!(core.router.routes()? == before, "{:?}, before {before:?}", core.router.routes()?);
    Ok(())
}

/// A speaker that is killed says nothing: its connections close, and then BFD at the router runs out of time. Our packets say that
/// BFD and BGP share their fate (the C bit is 0), so that is no failure of the path, which goes on forwarding.
fn kill(lab: &Lab, kind: RouterKind) -> Result<()> {
    let more = ", enableGracefulRestart: true";
    let (mut cluster, edge, core, addresses) = watched(lab, kind, (QUICK, QUICK_PROFILE), more)?;
    let before = core.router.routes()?;
    cluster.speaker("node-a").kill()?;
    eventually(LIMIT, || {
        for peer in [v4(11), v6(11)] {
            ensure!(!edge.session(peer)?.is_established(), "{:?}", edge.session(peer)?);
        }
        let (command, is_down): (_, fn(&str) -> bool) = match kind {
            RouterKind::Frr => (vec!["show bfd peers brief"], |text| text.matches(" down ").count() == 2),
            _ => (vec!["show", "bfd", "sessions"], |text| !text.contains(" Up ")),
        };
        let answer = edge.router.command(&command)?;
        ensure!(is_down(&answer), "BFD is not down yet: {answer}");
        Ok(())
    })?;
    // What BFD says has been heard by then, and the routes are there, with what they are for.
    std::thread::sleep(std::time::Duration::from_secs(2));
    for target in &addresses {
        ensure!(edge.router.routes_to(&host_route(*target))?.len() == 1, "the router has forgotten {target}");
        cluster.reach(&edge.remote, at(*target, 80)).context("the speaker was killed")?;
    }
    ensure!(core.router.routes()? == before, "{:?}, before {before:?}", core.router.routes()?);
    cluster.speaker_begin("node-a")?;
    edge.wait_sessions(&cluster)?;
    wait_up(&cluster, &[v4(254), v6(254)])?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    ensure!(core.router.routes()? == before, "{:?}, before {before:?}", core.router.routes()?);
    Ok(())
}

fn several_hops(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    // The router at the edge only passes packets on; the one behind it has the sessions.
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Embedded, &RouterConfig::new(THEIRS, "192.168.1.254")?)?;
    let mut config = RouterConfig::new(THEIRS, "10.254.0.2")?;
    let mut outside = RouterPeer::accept(&host_route(v4(11)), OURS)?;
    let mut inside = RouterPeer::accept(&host_route(v6(11)), THEIRS)?;
    for peer in [&mut outside, &mut inside] {
        peer.bfd = Some(PATIENT);
    }
    outside.multi_hop = true;
    config.peers = vec![outside, inside];
    let far = Router::start(&edge.remote, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    cluster.put("BFDProfile", "watch", PATIENT_PROFILE)?;
    let peer = "connectTime: 1s, bfdProfile: watch";
    let outside = format!("{peer}, myASN: {OURS}, peerASN: {THEIRS}, peerAddress: 10.254.0.2, ebgpMultiHop: true");
    let inside = format!("{peer}, myASN: {THEIRS}, peerASN: {THEIRS}, peerAddress: \"fd00:254::2\"");
    cluster.put("BGPPeer", "outside", &outside)?;
    cluster.put("BGPPeer", "inside", &inside)?;
    let peers = [address("10.254.0.2"), address("fd00:254::2")];
    wait_up(&cluster, &peers)?;
    wait_shown(&far, &[v4(11), v6(11)], &[("status", "up".into()), ("multihop", true.into())])?;
    far.wait_established(&[v4(11), v6(11)], LIMIT)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    for target in cluster.wait_addresses("web")? {
        eventually(LIMIT, || {
            let routes = far.routes_to(&host_route(target))?;
            ensure!(routes.len() == 1, "{target}: {routes:?}");
            Ok(())
        })?;
    }
    let ports = udp_ports(cluster.host("node-a"))?;
    ensure!(ports.contains(":4784") && !ports.contains(":3784"), "{ports}");
    // Packets that come from farther away than that do not count.
    let seen = cluster.log_length("node-a");
    cluster.put("BFDProfile", "watch", &format!("{PATIENT_PROFILE}, minimumTtl: 200"))?;
    cluster.wait_speaker_log("node-a", seen, &["peerChanged", "bfdProfile", "soft"])?;
    wait_up(&cluster, &peers)
}

fn unnumbered(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let mut config = accepting(&cluster, THEIRS, OURS, |_| {})?;
    let mut peer = config.peers.remove(0).dual_stack();
    peer.place = PeerPlace::Interface("tor0".to_owned());
    peer.bfd = Some(PATIENT);
    config.peers = vec![peer];
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    cluster.put("BFDProfile", "watch", PATIENT_PROFILE)?;
    let peer = format!("myASN: {OURS}, dynamicASN: external, interface: tor0, connectTime: 1s, bfdProfile: watch");
    cluster.put("BGPPeer", "tor", &peer)?;
    edge.router.host().cable_to("tor0", cluster.host("node-a"), "tor0")?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    let wait_routes = |count: usize| {
        eventually(LIMIT, || {
            for target in &addresses {
                let routes = edge.router.routes_to(&host_route(*target))?;
                ensure!(routes.len() == count, "{target}: {routes:?}");
            }
            Ok(())
        })
    };
    wait_routes(1)?;
    let up = cluster.wait_speaker_log("node-a", 0, &["bfdUp", "fe80::"])?;
    wait_values(cluster.host("node-a"), &[("metallb_bfd_session_up", &[("vrf", "default")], Some(1.0))]).context(up)?;
    // The link goes: that is known at once, without waiting for thirty seconds of silence.
    let seen = cluster.log_length("node-a");
    cluster.host("node-a").down("tor0")?;
    cluster.wait_speaker_log("node-a", seen, &["bfdDown", "the interface is down"])?;
    wait_routes(0)?;
    cluster.host("node-a").up("tor0")?;
    wait_routes(1)?;
    cluster.wait_speaker_log("node-a", seen, &["bfdUp", "fe80::"])?;
    Ok(())
}

fn callers(lab: &Lab) -> Result<()> {
    let setup = Setup { capabilities: Capabilities::NetRawAndBindService, ..Setup::nodes(&["node-a"]) };
    let mut cluster = Cluster::start_with(lab, setup)?;
    let config = accepting(&cluster, THEIRS, OURS, |peer| {
        peer.bfd = Some(QUICK);
        peer.opening = Opening::Dials;
    })?;
    let mut edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    cluster.put("BFDProfile", "watch", QUICK_PROFILE)?;
    let range =
        |network: &str| format!("myASN: {OURS}, peerASN: {THEIRS}, peerRange: \"{network}\", bfdProfile: watch");
    for (name, network) in [("four", "192.168.1.0/24"), ("six", "fc00:f853:ccd:e799::/64")] {
        cluster.put("BGPPeer", name, &format!("{}, connectionMode: passive", range(network)))?;
    }
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    wait_up(&cluster, &[v4(254), v6(254)])?;
    let seen = cluster.log_length("node-a");
    edge.router.kill_bfd()?;
    for peer in [v4(254), v6(254)] {
        cluster.wait_speaker_log("node-a", seen, &["sessionDown", &peer.to_string(), "BFD Down"])?;
    }
    // They call again, and are new.
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("without BFD")?;
    }
    Ok(())
}
