//! Speakers that end and nodes that are drained, while a client behind a router asks all the time: nothing is lost.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::requests::{Outcome, Pace, RequestStream};
use lab::router::{Programs, Router, RouterConfig, RouterKind};
use lab::testing::Trial;
use lab::{Lab, eventually};
use netio::clock::Clock;
use sys::process::Signal;

use crate::cluster::{Cluster, LIMIT, Setup, at, v4, v6};
use crate::edge::{Edge, OURS, THEIRS, accepting, announce_routed, host_route, newer, put_peers};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("rfc_4724_frr_forwards_while_a_speaker_restarts_and_is_killed", |lab| {
            restart(lab, RouterKind::Frr, Programs::default())
        }),
        Trial::new("rfc_4724_bird_forwards_while_a_speaker_restarts_and_is_killed", |lab| {
            restart(lab, RouterKind::Bird, Programs::default())
        }),
        Trial::new("rfc_4724_gobgp_keeps_routes_while_a_speaker_restarts_and_is_killed", |lab| {
            restart(lab, RouterKind::GoBgp, Programs::default())
        }),
        Trial::new("rfc_4724_frr_10_forwards_while_a_speaker_restarts_and_is_killed", |lab| {
            restart(lab, RouterKind::Frr, newer())
        }),
        Trial::new("rfc_4724_bird_3_forwards_while_a_speaker_restarts_and_is_killed", |lab| {
            restart(lab, RouterKind::Bird, newer())
        }),
        Trial::new("rfc_4724_gobgp_4_keeps_routes_while_a_speaker_restarts_and_is_killed", |lab| {
            restart(lab, RouterKind::GoBgp, newer())
        }),
        Trial::new("rfc_4724_all_speakers_are_restarted_one_after_the_other_and_no_request_is_lost", rolling),
        Trial::new("rfc_8326_a_speaker_that_ends_is_the_last_choice_before_it_withdraws", end),
        Trial::new("rfc_8326_a_drained_node_is_the_last_choice_before_it_withdraws", drain),
    ]
}

/// A client that asks both addresses of a Service.
struct Clients(Vec<RequestStream>);

impl Clients {
    fn start(edge: &Edge, addresses: &[IpAddr]) -> Result<Clients> {
        let clock = Clock::start();
        let pace = Pace { every: Duration::from_millis(20), timeout: Duration::from_millis(900) };
        let start = |target: &IpAddr| RequestStream::start(&edge.remote, at(*target, 80), pace, clock);
        let clients = Clients(addresses.iter().map(start).collect::<Result<_>>()?);
        clients.wait_more(50)?;
        Ok(clients)
    }

    /// Waits until so many more requests of each were answered.
    fn wait_more(&self, count: usize) -> Result<()> {
        for stream in &self.0 {
            let before = stream.records().len();
            eventually(LIMIT, || {
                let now = stream.records().len();
                ensure!(now >= before + count, "{now} requests are over, {before} were");
                Ok(())
            })?;
        }
        Ok(())
    }

    /// Every request was answered, but for those that the router moved to another node halfway, which knows nothing
    /// about them: that takes one at most whenever its ways change.
    fn finish(self, changes: usize) -> Result<()> {
        for stream in self.0 {
            let records = stream.stop()?;
            let failed: Vec<_> = records.iter().filter(|record| !record.is_answered()).collect();
            let was_moved = |outcome: &Outcome| matches!(outcome, Outcome::Failed(why) if why.contains("reset"));
            let is_good = failed.len() <= changes && failed.iter().all(|record| was_moved(&record.outcome));
            ensure!(is_good, "{} of {} requests failed: {failed:?}", failed.len(), records.len());
        }
        Ok(())
    }
}

/// How FRR marks routes whose speaker is away; the others have no mark to look at.
fn wait_stale(router: &Router, addresses: &[IpAddr], stale: bool) -> Result<()> {
    if router.kind() != RouterKind::Frr {
        return Ok(());
    }
    eventually(LIMIT, || {
        for address in addresses {
            let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
            let text = router.command(&[&format!("show bgp {family} unicast {} json", host_route(*address))])?;
            ensure!(text.contains("\"stale\":true") == stale, "stale is not {stale}: {text}");
        }
        Ok(())
    })
}

fn restart(lab: &Lab, kind: RouterKind, programs: Programs) -> Result<()> {
    // One node: there is no other way that could hide a withdrawal.
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let config = RouterConfig { programs, ..accepting(&cluster, THEIRS, OURS, |_| {})? };
    let edge = Edge::start(lab, &cluster, 254, kind, &config)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s, enableGracefulRestart: true")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    cluster.apply(&Service::dual("gone").from("routed"))?;
    let (web, gone) = (cluster.wait_addresses("web")?, cluster.wait_addresses("gone")?);
    let is_forwarding = kind != RouterKind::GoBgp;
    for target in web.iter().chain(&gone) {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
        if is_forwarding {
            cluster.reach(&edge.remote, at(*target, 80))?;
        }
    }
    let clients = if is_forwarding { Some(Clients::start(&edge, &web)?) } else { None };
    let routes = edge.router.routes()?;
    for round in 0..2 {
        let how = if round == 0 { "stopped" } else { "killed" };
        if round == 0 {
            let status = cluster.speaker("node-a").stop()?;
            ensure!(status.success(), "the speaker ends with {status}");
        } else {
            cluster.speaker("node-a").kill()?;
        }
        eventually(LIMIT, || {
            for peer in [v4(11), v6(11)] {
                let session = edge.session(peer)?;
                ensure!(!session.is_established(), "the speaker was {how}: {session:?}");
            }
            Ok(())
        })?;
        wait_stale(&edge.router, &web, true).with_context(|| how.to_owned())?;
        if let Some(clients) = &clients {
            clients.wait_more(100)?;
        }
        let now = edge.router.routes()?;
        ensure!(now == routes || round > 0, "the speaker was {how}: {now:?}, before {routes:?}");
        if round > 0 {
            // What ended while the speaker was away is swept when it has told everything.
            cluster.delete("gone")?;
        }
        cluster.speaker_begin("node-a")?;
        edge.wait_sessions(&cluster).with_context(|| format!("after it was {how}"))?;
        wait_stale(&edge.router, &web, false).with_context(|| format!("after it was {how}"))?;
        for target in &web {
            edge.wait_nodes(&cluster, *target, &["node-a"])?;
        }
    }
    for target in &gone {
        edge.wait_nodes(&cluster, *target, &[]).context("End-of-RIB sweeps what was not announced again")?;
    }
    if let Some(clients) = clients {
        clients.wait_more(50)?;
        clients.finish(0).context("while the speaker restarted")?;
    }
    // A BGPPeer that is deleted is another matter: the routes go at once.
    cluster.remove("BGPPeer", "four")?;
    cluster.remove("BGPPeer", "six")?;
    for target in &web {
        edge.wait_nodes(&cluster, *target, &[]).context("the BGPPeers are deleted")?;
    }
    Ok(())
}

/// An upgrade: every speaker is stopped and started again, one after the other, twice. The router spreads flows over all
/// nodes meanwhile, and its ways never change.
fn rolling(lab: &Lab) -> Result<()> {
    const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
    let mut cluster = Cluster::start(lab, &NODES)?;
    let edge = Edge::frr(lab, &cluster)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s, enableGracefulRestart: true")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &NODES)?;
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    let clients = Clients::start(&edge, &addresses)?;
    for _ in 0..2 {
        for (node, number) in NODES.into_iter().zip(11..) {
            let status = cluster.speaker(node).stop()?;
            ensure!(status.success(), "the speaker of {node} ends with {status}");
            eventually(LIMIT, || {
                for peer in [v4(number), v6(number)] {
                    let session = edge.session(peer)?;
                    ensure!(!session.is_established(), "the speaker of {node} has ended: {session:?}");
                }
                Ok(())
            })?;
            clients.wait_more(50)?;
            cluster.speaker_begin(node)?;
            edge.wait_sessions(&cluster)?;
            wait_stale(&edge.router, &addresses, false)?;
        }
    }
    clients.wait_more(50)?;
    clients.finish(0).context("while all speakers were restarted")
}

/// Waits until a node's routes are the last choice at FRR: those of the other are not.
fn wait_lowered(edge: &Edge, addresses: &[IpAddr], node: [IpAddr; 2]) -> Result<()> {
    eventually(LIMIT, || {
        for address in addresses {
            for route in edge.router.routes_to(&host_route(*address))? {
                let communities: Vec<String> = route.communities.iter().map(ToString::to_string).collect();
                let is_lowered = communities == ["65535:0"] && route.med == Some(u32::MAX);
                ensure!(is_lowered == node.contains(&route.next_hop), "{route:?}");
            }
        }
        Ok(())
    })
}

/// Waits until the kernel of the router sends packets to one node alone.
fn wait_only(edge: &Edge, addresses: &[IpAddr], node: [IpAddr; 2]) -> Result<()> {
    eventually(LIMIT, || {
        for address in addresses {
            let route = edge.router.host().route_to(&host_route(*address))?;
            let hops: Vec<_> = route.iter().flat_map(|route| &route.next_hops).filter_map(|hop| hop.via).collect();
            ensure!(hops.len() == 1 && node.contains(&hops[0]), "{address} goes to {hops:?}");
        }
        Ok(())
    })
}

fn two_nodes(lab: &Lab, arguments: &[&str]) -> Result<(Cluster, Edge, Vec<IpAddr>, Clients)> {
    let mut setup = Setup::nodes(&["node-a", "node-b"]);
    setup.speaker = arguments.iter().map(|argument| (*argument).to_owned()).collect();
    let mut cluster = Cluster::start_with(lab, setup)?;
    let edge = Edge::frr(lab, &cluster)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a", "node-b"])?;
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    let clients = Clients::start(&edge, &addresses)?;
    Ok((cluster, edge, addresses, clients))
}

fn end(lab: &Lab) -> Result<()> {
    let (mut cluster, edge, addresses, clients) = two_nodes(lab, &["--bgp-drain-time", "5s"])?;
    let clock = Clock::start();
    let asked = clock.now();
    cluster.speaker("node-a").signal(Signal::Terminate)?;
    wait_lowered(&edge, &addresses, [v4(11), v6(11)])?;
    wait_only(&edge, &addresses, [v4(12), v6(12)]).context("no router was configured for this")?;
    for peer in [v4(11), v6(11)] {
        let session = edge.session(peer)?;
        ensure!(session.is_established(), "before the time is over: {session:?}");
    }
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-b"]).context("the time is over")?;
    }
    edge.wait_error(v4(11), "Cease/Administrative Shutdown")?;
    let status = cluster.speaker("node-a").wait(LIMIT)?;
    ensure!(status.success(), "the speaker ends with {status}");
    let took = clock.now().since(asked);
    ensure!(took >= Duration::from_secs(5), "the speaker has ended after {took}");
    cluster.speaker_begin("node-a")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a", "node-b"]).context("the speaker is back")?;
    }
    // A second signal does not wait.
    cluster.speaker("node-a").signal(Signal::Terminate)?;
    wait_lowered(&edge, &addresses, [v4(11), v6(11)])?;
    let asked = clock.now();
    cluster.speaker("node-a").signal(Signal::Interrupt)?;
    cluster.speaker("node-a").wait(LIMIT)?;
    let took = clock.now().since(asked);
    ensure!(took < Duration::from_secs(4), "the speaker has ended after {took}");
    clients.wait_more(50)?;
    // It left twice, and came back once.
    clients.finish(3).context("while one of two speakers ended")
}

fn drain(lab: &Lab) -> Result<()> {
    let taint = "node.kubernetes.io/unschedulable";
    let (mut cluster, edge, addresses, clients) =
        two_nodes(lab, &["--bgp-drain-time=5s", "--bgp-drain-taints", taint])?;
    let before = edge.counters()?;
    cluster.taint("node-a", taint)?;
    wait_lowered(&edge, &addresses, [v4(11), v6(11)])?;
    wait_only(&edge, &addresses, [v4(12), v6(12)])?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-b"]).context("the node is drained")?;
    }
    cluster.untaint("node-a", taint)?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a", "node-b"]).context("the node is back")?;
    }
    wait_lowered(&edge, &addresses, [address_of_none(), address_of_none()])?;
    // The label of contract 6.1 does the same.
    cluster.label("node-b", "node.kubernetes.io/exclude-from-external-load-balancers", "")?;
    wait_lowered(&edge, &addresses, [v4(12), v6(12)])?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("node-b is labelled")?;
    }
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    clients.wait_more(50)?;
    clients.finish(3).context("while one of two nodes was drained")
}

/// An address that no node has.
fn address_of_none() -> IpAddr {
    IpAddr::V4(std::net::Ipv4Addr::UNSPECIFIED)
}
