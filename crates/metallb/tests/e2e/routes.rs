//! Routes by BGP, as FRR shows them (contract 6).

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use lab::router::RouterRoute;
use lab::testing::Trial;
use lab::{Host, Lab, Process, eventually};

use crate::cluster::{Cluster, LIMIT, address, at, v4, v6};
use crate::edge::{Edge, OURS, THEIRS, accepting, announce_routed, host_route, put_peers};
use crate::objects::Service;
use lab::router::RouterKind;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_6_6_frr_shows_every_attribute_of_ebgp_routes", ebgp),
        Trial::new("contract_6_6_frr_shows_the_local_preference_of_ibgp_routes_and_100_without_one", ibgp),
        Trial::new("contract_6_1_policy_readiness_conditions_and_selectors_choose_the_next_hops", next_hops),
        Trial::new("frr_spreads_the_flows_of_a_client_over_all_nodes", |lab| spread(lab, RouterKind::Frr)),
        Trial::new("bird_spreads_the_flows_of_a_client_over_all_nodes", |lab| spread(lab, RouterKind::Bird)),
        Trial::new("contract_6_2_one_session_carries_both_families_where_the_peer_says_so", dual_stack),
        Trial::new("contract_6_2_many_changes_of_services_never_touch_a_session", stability),
    ]
}

/// The AS of one node, where the others have [`OURS`].
const OTHER: u32 = 64_777;

/// What a router learns of a Service with both families: its IPv4 and its IPv6 route.
fn routes_to(edge: &Edge, addresses: &[IpAddr]) -> Result<Vec<RouterRoute>> {
    let mut routes = Vec::new();
    for target in addresses {
        let of_target = edge.router.routes_to(&host_route(*target))?;
        ensure!(!of_target.is_empty(), "FRR has no route to {target}");
        routes.extend(of_target);
    }
    Ok(routes)
}

fn communities(route: &RouterRoute) -> Vec<String> {
    route.communities.iter().map(ToString::to_string).collect()
}

/// Waits until all routes to a network have exactly these communities.
fn wait_communities(edge: &Edge, prefix: &str, wanted: &[&str]) -> Result<()> {
    eventually(LIMIT, || {
        let routes = edge.router.routes_to(prefix)?;
        let well = !routes.is_empty() && routes.iter().all(|route| communities(route) == wanted);
        ensure!(well, "FRR has {routes:?} for {prefix}, not {wanted:?}");
        Ok(())
    })
}

/// What BGP says on the wire, in the words of tcpdump.
fn wire_capture(router: &Host) -> Result<Process> {
    let mut command = Command::new("tcpdump");
    command.args(["-v", "-n", "-l", "--immediate-mode", "-i", "eth0", "tcp port 179"]);
    let capture = router.spawn("wire", command)?;
    eventually(LIMIT, || {
        ensure!(capture.log().contains("listening on"), "tcpdump says {:?}", capture.log());
        Ok(())
    })?;
    Ok(capture)
}

fn ebgp(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let mut config = accepting(&cluster, THEIRS, OURS, |_| {})?;
    config.announce = vec!["192.0.2.0/24".parse()?, "2001:db8:2::/64".parse()?];
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    let wire = wire_capture(edge.router.host())?;
    cluster.put("Community", "names", "communities: [{name: alias, value: \"64500:300\"}]")?;
    cluster.put("IPAddressPool", "routed", crate::edge::ROUTED_POOL)?;
    let host_routes = "ipAddressPools: [routed], localPref: 250, communities: ";
    cluster.put(
        "BGPAdvertisement",
        "host-routes",
        &format!("{host_routes} [\"64500:100\", \"large:4200000001:1:2\", alias]"),
    )?;
    let aggregate = "ipAddressPools: [routed], aggregationLength: 28, aggregationLengthV6: 124, communities: ";
    cluster.put("BGPAdvertisement", "aggregate", &format!("{aggregate} [\"65535:65281\"]"))?;
    put_peers(&cluster, "")?;
    cluster.put(
        "BGPPeer",
        "four",
        &format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: {}, routerID: 10.9.9.9", v4(254)),
    )?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    ensure!(addresses == [address("203.0.113.0"), address("2001:db8:1::")], "{addresses:?}");

    // Next hop self, from every node.
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a", "node-b"])?;
    }
    for route in routes_to(&edge, &addresses)? {
        ensure!(route.as_path == [OURS], "the AS path of an eBGP route: {route:?}");
        ensure!(route.origin == "IGP", "{route:?}");
        ensure!(route.med.is_none(), "a MED that nobody asked for: {route:?}");
        ensure!(communities(&route) == ["64500:100", "64500:300", "large:4200000001:1:2"], "{route:?}");
    }
    let aggregates = [("203.0.113.0/28", [v4(11), v4(12)]), ("2001:db8:1::/124", [v6(11), v6(12)])];
    for (prefix, next_hops) in &aggregates {
        edge.router.wait_next_hops(prefix, next_hops, LIMIT).context("the aggregate")?;
        wait_communities(&edge, prefix, &["65535:65281"])?;
    }
    // Packets follow, over each node.
    for target in &addresses {
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    // RFC 4271 5.1.5: no LOCAL_PREF to an external peer, whatever the advertisement says.
    let said = wire.log();
    ensure!(said.contains("AS Path (2)"), "tcpdump has seen no route:\n{said}");
    ensure!(!said.contains("Local Preference (5)"), "LOCAL_PREF over eBGP:\n{said}");

    // Identifiers: the configured one, and by itself the node's IPv4 address, also over IPv6.
    for (peer, id) in [(v4(11), "10.9.9.9"), (v4(12), "10.9.9.9"), (v6(11), "192.168.1.11"), (v6(12), "192.168.1.12")] {
        let neighbour = edge.neighbour(peer)?;
        ensure!(neighbour["remoteRouterId"] == id, "{peer} calls itself {}, not {id}", neighbour["remoteRouterId"]);
    }
    received_routes_are_ignored(&cluster, &edge)?;

    // Attributes change in place.
    let before = edge.counters()?;
    cluster.put("BGPAdvertisement", "host-routes", &format!("{host_routes} [\"64500:999\"]"))?;
    for target in &addresses {
        wait_communities(&edge, &host_route(*target), &["64500:999"])?;
    }
    // An aggregate goes, and comes beside routes that are there.
    cluster.remove("BGPAdvertisement", "aggregate")?;
    for (prefix, _) in &aggregates {
        edge.router.wait_next_hops(prefix, &[], LIMIT).context("the aggregate is advertised no more")?;
    }
    cluster.put("BGPAdvertisement", "aggregate", &format!("{aggregate} [\"64500:28\"]"))?;
    for (prefix, next_hops) in &aggregates {
        edge.router.wait_next_hops(prefix, next_hops, LIMIT).context("the aggregate is advertised again")?;
        wait_communities(&edge, prefix, &["64500:28"])?;
    }
    for target in &addresses {
        wait_communities(&edge, &host_route(*target), &["64500:999"])?;
    }
    cluster.delete("web")?;
    for (prefix, _) in &aggregates {
        edge.router.wait_next_hops(prefix, &[], LIMIT).context("the only Service of the aggregate is deleted")?;
    }
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &[]).context("the Service is deleted")?;
    }
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    Ok(())
}

/// What FRR sends is taken, and comes nowhere.
fn received_routes_are_ignored(cluster: &Cluster, edge: &Edge) -> Result<()> {
    for (peer, family) in [(v4(11), "ipv4Unicast"), (v6(11), "ipv6Unicast")] {
        eventually(LIMIT, || {
            let neighbour = edge.neighbour(peer)?;
            let sent = &neighbour["addressFamilyInfo"][family]["sentPrefixCounter"];
            ensure!(sent.as_u64() >= Some(1), "FRR has sent {sent} routes to {peer}");
            Ok(())
        })?;
    }
    for prefix in ["192.0.2.0/24", "2001:db8:2::/64"] {
        let route = cluster.host("node-a").route_to(prefix)?;
        ensure!(route.is_none(), "a received route is in the node's kernel: {route:?}");
    }
    Ok(())
}

fn ibgp(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    // The router would carry both families over each session.
    let config = accepting(&cluster, OURS, OURS, |peer| *peer = peer.clone().dual_stack())?;
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    let wire = wire_capture(edge.router.host())?;
    announce_routed(&cluster)?;
    for (name, router) in [("four", v4(254)), ("six", v6(254))] {
        cluster.put("BGPPeer", name, &format!("myASN: {OURS}, peerASN: {OURS}, peerAddress: \"{router}\""))?;
    }
    edge.wait_sessions(&cluster)?;
    let before = edge.counters()?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    let wait_local_pref = |wanted: u32| {
        eventually(LIMIT, || {
            let routes = routes_to(&edge, &addresses)?;
            let all = routes.iter().all(|route| route.local_pref == Some(wanted));
            ensure!(all && routes.len() == 2, "local preference {wanted} wanted: {routes:?}");
            Ok(routes)
        })
    };
    for (route, next_hop) in
        wait_local_pref(100).context("no localPref in the advertisement")?.iter().zip([v4(11), v6(11)])
    {
        ensure!(route.as_path.is_empty() && route.origin == "IGP", "over iBGP: {route:?}");
        ensure!(route.next_hop == next_hop, "next hop self over iBGP: {route:?}");
    }
    cluster.put("BGPAdvertisement", "routed", "ipAddressPools: [routed], localPref: 250")?;
    wait_local_pref(250).context("with localPref 250")?;
    for target in &addresses {
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    ensure!(wire.log().contains("Local Preference (5)"), "tcpdump has seen no LOCAL_PREF over iBGP:\n{}", wire.log());
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    // Both families over the session of one.
    cluster.remove("BGPPeer", "six")?;
    let four = format!("myASN: {OURS}, peerASN: {OURS}, peerAddress: {}, dualStackAddressFamily: true", v4(254));
    cluster.put("BGPPeer", "four", &four)?;
    let attributes = "ipAddressPools: [routed], localPref: 300, communities: [\"64500:7\", \"large:64500:1:7\"]";
    cluster.put("BGPAdvertisement", "routed", attributes)?;
    for route in wait_local_pref(300).context("over one session")? {
        ensure!(communities(&route) == ["64500:7", "large:64500:1:7"], "over one session: {route:?}");
    }
    ensure!(!edge.session(v6(11))?.is_established(), "the session over IPv6 is there");
    Ok(())
}

/// Equal routes to all nodes (ECMP): each connection goes to one of them, and none is left out. With the policy `Local` who
/// answers is where the router sent it.
fn spread(lab: &Lab, kind: RouterKind) -> Result<()> {
    const NODES: [&str; 3] = ["node-a", "node-b", "node-c"];
    const FLOWS: usize = 90;
    let mut cluster = Cluster::start(lab, &NODES)?;
    let config = accepting(&cluster, THEIRS, OURS, |_| {})?;
    let edge = Edge::start(lab, &cluster, 254, kind, &config)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, "")?;
    cluster.apply(&Service::dual("web").from("routed").local())?;
    for target in cluster.wait_addresses("web")? {
        edge.wait_nodes(&cluster, target, &NODES)?;
        let mut counts = BTreeMap::new();
        for _ in 0..FLOWS {
            let answer = cluster.reach(&edge.remote, at(target, 80))?;
            *counts.entry(answer.backend).or_insert(0) += 1;
        }
        // A third each; chance leaves one of them less than a tenth once in many million runs.
        let is_spread = NODES.iter().all(|node| counts.get(*node).is_some_and(|count| *count >= FLOWS / 10));
        ensure!(is_spread, "{target}: {counts:?} of {FLOWS} flows");
    }
    Ok(())
}

fn next_hops(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b", "node-c"])?;
    let edge = Edge::frr(lab, &cluster)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, "")?;
    edge.wait_sessions(&cluster)?;
    let before = edge.counters()?;
    let all = ["node-a", "node-b", "node-c"];
    let web = Service::dual("web").from("routed");
    cluster.apply(&web.clone().on(&["node-b"]))?;
    let addresses = cluster.wait_addresses("web")?;
    let wait = |cluster: &Cluster, nodes: &[&str], when: &'static str| {
        addresses.iter().try_for_each(|target| edge.wait_nodes(cluster, *target, nodes)).context(when)
    };
    // Contract 6.1 rows 6 and 7, and what backends see of the client.
    wait(&cluster, &all, "Cluster, with an endpoint on node-b")?;
    let answer = cluster.reach(&edge.remote, at(addresses[0], 80))?;
    ensure!(answer.backend == "node-b", "{answer:?}");
    cluster.apply(&web.clone().local().on(&["node-b"]))?;
    wait(&cluster, &["node-b"], "Local, with an endpoint on node-b")?;
    for (target, client) in addresses.iter().zip(["10.254.0.2", "fd00:254::2"]) {
        eventually(LIMIT, || {
            let answer = cluster.reach(&edge.remote, at(*target, 80))?;
            ensure!(answer.client == address(client) && answer.backend == "node-b", "Local: {answer:?}");
            Ok(())
        })?;
    }
    cluster.apply(&web.clone().local())?;
    wait(&cluster, &all, "Local, with endpoints everywhere")?;
    cluster.unready("web", &["node-a", "node-c"])?;
    wait(&cluster, &["node-b"], "Local, with two of three endpoints not ready")?;
    cluster.unready("web", &all)?;
    wait(&cluster, &[], "Local, with no endpoint ready")?;
    cluster.unready("web", &["node-a"])?;
    wait(&cluster, &["node-b", "node-c"], "Local, with two endpoints ready again")?;
    cluster.unready("web", &[])?;
    wait(&cluster, &all, "Local, with endpoints everywhere again")?;
    cluster.apply(&web.clone().local().on(&["node-b", "node-c"]))?;
    wait(&cluster, &["node-b", "node-c"], "Local, with the endpoint on node-a gone")?;
    cluster.apply(&web.clone())?;
    wait(&cluster, &all, "Cluster again")?;
    cluster.unready("web", &all)?;
    wait(&cluster, &[], "Cluster, with no endpoint ready")?;
    cluster.unready("web", &[])?;
    wait(&cluster, &all, "Cluster, with all endpoints ready again")?;

    // Rows 4 and 5: a node's condition and label take that node away, and no other.
    cluster.network_unavailable("node-a", true)?;
    wait(&cluster, &["node-b", "node-c"], "the network of node-a is unavailable")?;
    cluster.label("node-b", "node.kubernetes.io/exclude-from-external-load-balancers", "")?;
    wait(&cluster, &["node-c"], "node-b is labelled for exclusion besides")?;
    cluster.network_unavailable("node-a", false)?;
    cluster.unlabel("node-b", "node.kubernetes.io/exclude-from-external-load-balancers")?;
    wait(&cluster, &all, "condition and label are gone")?;

    // Rows 1 and 2: selectors of the advertisement.
    cluster.put(
        "BGPAdvertisement",
        "routed",
        "ipAddressPools: [routed], nodeSelectors: [{matchLabels: {rack: one}}]",
    )?;
    wait(&cluster, &[], "no node has the label that the advertisement asks for")?;
    cluster.label("node-b", "rack", "one")?;
    wait(&cluster, &["node-b"], "node-b got the label")?;
    // A second Service, of a pool whose advertisement is for another node.
    cluster.put("IPAddressPool", "other", "addresses: [198.51.100.0/28, \"2001:db8:2::/124\"], autoAssign: false")?;
    let on = |node: &str| {
        format!("ipAddressPools: [other], nodeSelectors: [{{matchLabels: {{kubernetes.io/hostname: {node}}}}}]")
    };
    cluster.put("BGPAdvertisement", "other", &on("node-c"))?;
    cluster.apply(&Service::dual("api").from("other").shares("other"))?;
    let others = cluster.wait_addresses("api")?;
    // Another one shares its addresses: it is one route to each.
    let shared = others.iter().map(ToString::to_string).collect::<Vec<_>>().join(",");
    cluster.apply(&Service::dual("dns").port("UDP", 53).shares("other").wants(&shared))?;
    ensure!(cluster.wait_addresses("dns")? == others, "dns has {:?}, not {shared}", cluster.addresses("dns")?);
    for target in &others {
        edge.wait_nodes(&cluster, *target, &["node-c"]).context("the other pool is for node-c")?;
        cluster.reach(&edge.remote, at(*target, 80))?;
        cluster.reach_udp(&edge.remote, at(*target, 53))?;
    }
    cluster.delete("api")?;
    for target in &others {
        cluster.reach_udp(&edge.remote, at(*target, 53)).context("the other one of two that share is deleted")?;
        edge.wait_nodes(&cluster, *target, &["node-c"]).context("the other one of two that share is deleted")?;
    }
    wait(&cluster, &["node-b"], "the other pool is for node-c")?;
    // An update that matches nobody.
    cluster.put("BGPAdvertisement", "other", &on("nobody"))?;
    for target in &others {
        edge.wait_nodes(&cluster, *target, &[]).context("the other pool is for nobody")?;
    }
    wait(&cluster, &["node-b"], "the other pool is for nobody")?;
    cluster.put(
        "BGPAdvertisement",
        "routed",
        "ipAddressPools: [routed], serviceSelectors: [{matchLabels: {tier: back}}]",
    )?;
    wait(&cluster, &[], "the advertisement is for other Services")?;
    cluster.apply(&web.label("tier", "back"))?;
    wait(&cluster, &all, "the Service got the label")?;
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);

    // The peers' own node selectors begin and end sessions.
    put_peers(&cluster, ", nodeSelectors: [{matchLabels: {rack: one}}]")?;
    wait(&cluster, &["node-b"], "the peers are for node-b alone")?;
    for (peer, up) in [(v4(11), false), (v6(11), false), (v4(12), true), (v6(12), true), (v4(13), false)] {
        let session = edge.session(peer)?;
        ensure!(session.is_established() == up, "with the peers for node-b alone: {session:?}");
    }
    cluster.label("node-c", "rack", "one")?;
    wait(&cluster, &["node-b", "node-c"], "node-c got the label of the peers")?;
    Ok(())
}

fn dual_stack(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let mut config = accepting(&cluster, THEIRS, OURS, |peer| *peer = peer.clone().dual_stack())?;
    // node-a over IPv4 alone, node-b over IPv6 alone, and later over IPv4 with an AS of its own.
    let place = lab::router::PeerPlace::Address;
    config.peers.retain(|peer| [v4(11), v4(12), v6(12)].map(place).contains(&peer.place));
    for peer in config.peers.iter_mut().filter(|peer| peer.place == place(v4(12))) {
        peer.remote_as = kit::Asn::new(OTHER).context("an AS number is not 0")?;
    }
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    for (name, node, router) in [("four", "node-a", v4(254)), ("six", "node-b", v6(254))] {
        let selector = format!("nodeSelectors: [{{matchLabels: {{kubernetes.io/hostname: {node}}}}}]");
        let peer = format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: \"{router}\", {selector}");
        cluster.put("BGPPeer", name, &format!("{peer}, dualStackAddressFamily: true"))?;
    }
    edge.router.wait_established(&[v4(11), v6(12)], LIMIT)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    for target in cluster.wait_addresses("web")? {
        edge.wait_nodes(&cluster, target, &["node-a", "node-b"]).context("each over a session of one family")?;
        cluster.reach(&edge.remote, at(target, 80))?;
    }
    // Without the flag a session carries its own family.
    for (name, node, router) in [("four", "node-a", v4(254)), ("six", "node-b", v6(254))] {
        let selector = format!("nodeSelectors: [{{matchLabels: {{kubernetes.io/hostname: {node}}}}}]");
        cluster.put(
            "BGPPeer",
            name,
            &format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: \"{router}\", {selector}"),
        )?;
    }
    let four = address("203.0.113.0");
    edge.wait_nodes(&cluster, four, &["node-a"])?;
    edge.wait_nodes(&cluster, address("2001:db8:1::"), &["node-b"])?;
    // Two BGPPeers for one router: each node has an AS of its own.
    let peer = format!("myASN: {OTHER}, peerASN: {THEIRS}, peerAddress: {}", v4(254));
    let selector = "nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node-b}}]";
    cluster.put("BGPPeer", "other", &format!("{peer}, {selector}"))?;
    edge.wait_nodes(&cluster, four, &["node-a", "node-b"]).context("node-b is in an AS of its own")?;
    let mut paths: Vec<_> =
        edge.router.routes_to(&host_route(four))?.into_iter().map(|route| (route.next_hop, route.as_path)).collect();
    paths.sort();
    ensure!(paths == [(v4(11), vec![OURS]), (v4(12), vec![OTHER])], "{paths:?}");
    Ok(())
}

/// Hold times of three seconds, so that a keepalive that waits behind a Service would show.
fn stability(lab: &Lab) -> Result<()> {
    const SERVICES: usize = 12;
    const ROUNDS: usize = 5;
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let edge = Edge::frr(lab, &cluster)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", holdTime: 3s, keepaliveTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("steady").from("routed"))?;
    let steady = cluster.wait_addresses("steady")?;
    for target in &steady {
        edge.wait_nodes(&cluster, *target, &["node-a", "node-b"])?;
    }
    let before = edge.counters()?;
    let last = format!("web{}", SERVICES - 1);
    for round in 0..ROUNDS {
        for number in 0..SERVICES {
            let service = Service::dual(&format!("web{number}")).from("routed");
            cluster.apply(&if round % 2 == 0 { service } else { service.local().on(&["node-b"]) })?;
        }
        let nodes: &[&str] = if round % 2 == 0 { &["node-a", "node-b"] } else { &["node-b"] };
        for target in cluster.wait_addresses(&last)? {
            edge.wait_nodes(&cluster, target, nodes).with_context(|| format!("round {round}"))?;
        }
        cluster.put(
            "BGPAdvertisement",
            "routed",
            &format!("ipAddressPools: [routed], communities: [\"64500:{round}\"]"),
        )?;
        wait_communities(&edge, &host_route(steady[0]), &[&format!("64500:{round}")])?;
        cluster.put("IPAddressPool", "more", &format!("addresses: [198.51.100.{round}/32]"))?;
    }
    for number in 0..SERVICES {
        cluster.delete(&format!("web{number}"))?;
    }
    eventually(LIMIT, || {
        let routes = edge.router.routes()?;
        ensure!(routes.len() == 4, "routes of Services that are deleted: {routes:?}");
        Ok(())
    })?;
    ensure!(cluster.addresses("steady")? == steady, "steady has {:?}", cluster.addresses("steady")?);
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    let established = before.values().all(crate::edge::SessionCounters::is_first);
    ensure!(established, "a session was established more than once: {before:?}");
    Ok(())
}
