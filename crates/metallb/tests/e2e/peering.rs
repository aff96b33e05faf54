//! Every way to a neighbour, and every attribute of a route, as real routers see them (contract 1.2, 6.4, and our own
//! fields).

use std::fmt::Write as _;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kit::{Duration, Secret};
use lab::confined::Capabilities;
use lab::router::{Opening, PeerPlace, Router, RouterKind, RouterPeer, RouterRoute};
use lab::testing::Trial;
use lab::{Lab, eventually, usage};
use serde_json::Value;

use crate::cluster::{Cluster, LIMIT, Setup, at, v4, v6};
use crate::edge::{Edge, OURS, THEIRS, accepting, announce_routed, host_route, put_peers};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_1_2_frr_at_the_other_end_of_an_unnumbered_link", |lab| unnumbered(lab, RouterKind::Frr)),
        Trial::new("contract_1_2_bird_at_the_other_end_of_an_unnumbered_link", |lab| unnumbered(lab, RouterKind::Bird)),
        Trial::new("rfc_5082_ttl_security_on_both_sides", ttl_security),
        Trial::new("contract_6_4_local_asn_and_dynamic_asn_as_routers_see_them", as_numbers),
        Trial::new("rfc_7313_routers_ask_for_all_routes_again", refresh),
        Trial::new("a_router_with_a_hundred_thousand_routes_disturbs_no_other_session", many_routes),
        Trial::new("med_prepended_paths_and_extended_communities_as_routers_see_them", attributes),
        Trial::new("routers_that_call_are_let_in_by_address_and_by_range", callers),
        Trial::new("the_default_gateway_is_a_peer_and_followed_where_it_moves", gateway),
        Trial::new("changes_that_need_no_new_session_keep_it", changes),
        Trial::new("contract_6_4_sessions_are_bound_to_source_addresses_and_devices", bound),
    ]
}

/// Waits until all routes of a router to these addresses are as they should be, one from each node.
fn wait_routes(
    router: &Router,
    addresses: &[IpAddr],
    count: usize,
    check: impl Fn(&RouterRoute) -> bool,
) -> Result<Vec<RouterRoute>> {
    eventually(LIMIT, || {
        let mut all = Vec::new();
        for address in addresses {
            let routes = router.routes_to(&host_route(*address))?;
            ensure!(routes.len() == count && routes.iter().all(&check), "{} has {routes:?}", router.kind());
            all.extend(routes);
        }
        Ok(all)
    })
}

fn unnumbered(lab: &Lab, kind: RouterKind) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let mut config = accepting(&cluster, THEIRS, OURS, |_| {})?;
    // The link without addresses is the only way for BGP; the segment is the way back for answers.
    let mut peer = config.peers.remove(0).dual_stack();
    peer.place = PeerPlace::Interface("tor0".to_owned());
    config.peers = vec![peer];
    let edge = Edge::start(lab, &cluster, 254, kind, &config)?;
    announce_routed(&cluster)?;
    let peer = format!("myASN: {OURS}, dynamicASN: external, interface: tor0, connectTime: 1s");
    cluster.put("BGPPeer", "tor", &peer)?;
    cluster.wait_speaker_log("node-a", 0, &["peerAdded", "tor0"])?;
    edge.router.host().cable_to("tor0", cluster.host("node-a"), "tor0")?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    // RFC 8950: IPv4 goes over the IPv6 address of the link, since there is no other.
    let is_link_local = |route: &RouterRoute| match route.next_hop {
        IpAddr::V6(next_hop) => next_hop.is_unicast_link_local() && route.as_path == [OURS],
        IpAddr::V4(_) => false,
    };
    if kind == RouterKind::Frr {
        plug_again_if_missed(&edge.router)?;
    }
    wait_routes(&edge.router, &addresses, 1, is_link_local)?;
    for target in &addresses {
        cluster.reach(&edge.remote, at(*target, 80)).context("over the unnumbered link")?;
    }
    cluster.wait_speaker_log("node-a", 0, &["routerFound", "fe80::"])?;
    // Identifier by contract 6.4: there is no IPv4 address on this interface, so it is made of the node's name.
    if kind == RouterKind::Frr {
        let text = edge.router.command(&["show bgp neighbors tor0 json"])?;
        let neighbour: Value = serde_json::from_str(&text)?;
        ensure!(neighbour["tor0"]["remoteRouterId"] == "171.77.153.120", "{}", neighbour["tor0"]["remoteRouterId"]);
    }
    // The link goes down and comes back: the session does too.
    let seen = cluster.log_length("node-a");
    cluster.host("node-a").down("tor0")?;
    wait_routes(&edge.router, &addresses, 0, |_| true).context("the link is down")?;
    cluster.host("node-a").up("tor0")?;
    wait_routes(&edge.router, &addresses, 1, is_link_local).context("the link is up again")?;
    cluster.wait_speaker_log("node-a", seen, &["sessionUp", "fe80::"])?;
    // A global address on the link makes no difference: the router may have none of its network.
    let seen = cluster.log_length("node-a");
    cluster.host("node-a").add_address("tor0", "2001:db8:77::2/64")?;
    cluster.apply(&Service::dual("api").from("routed"))?;
    let more = cluster.wait_addresses("api")?;
    wait_routes(&edge.router, &more, 1, is_link_local).context("after an address was added")?;
    wait_routes(&edge.router, &addresses, 1, is_link_local)?;
    let log = cluster.speaker("node-a").log();
    ensure!(!log.lines().skip(seen).any(|line| line.contains("session")), "the session was touched: {log}");
    Ok(())
}

/// FRR 8.4 was seen once to refuse its neighbour on an interface that came after it, for a minute. In 70 runs since, most of them
/// on a machine with far too much to do, it was not seen again, so why is not known. It would fit that zebra reports a neighbour
/// to bgpd only once, when it first hears its advertisement: what bgpd does not make use of then it is not told again until the
/// link goes down, however often the neighbour advertises itself (at once, after 3 and 6 s, then every ten). So the link is taken
/// down and up once, as its operator would, and what FRR knows is told.
fn plug_again_if_missed(router: &Router) -> Result<()> {
    let session = || {
        let text = router.command(&["show bgp neighbors tor0 json"])?;
        let neighbour: Value = serde_json::from_str(&text)?;
        ensure!(neighbour["tor0"]["bgpState"] == "Established", "{}", neighbour["tor0"]["bgpState"]);
        Ok(())
    };
    if let Err(error) = eventually(Duration::from_secs(25), session) {
        let facts =
            ["show interface tor0", "show bgp neighbors tor0", "show ipv6 nd ra-interfaces", "show bgp nexthop"];
        let facts = router.command(&facts)?;
        let counters = router.host().output_ok("cat", &["/proc/net/dev_snmp6/tor0"])?;
        eprintln!("FRR has missed its neighbour ({error:#}); its link is taken down and up\n{facts}\n{counters}");
        router.host().down("tor0")?;
        router.host().up("tor0")?;
    }
    Ok(())
}

fn ttl_security(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let mut config = accepting(&cluster, THEIRS, OURS, |_| {})?;
    // One side checks, or both do: FRR with IPv4, both with IPv6.
    for peer in [v4(11), v6(11)] {
        writeln!(config.extra, " neighbor {peer} ttl-security hops 1")?;
    }
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s")?;
    let six = format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: \"{}\", connectTime: 1s", v6(254));
    cluster.put("BGPPeer", "six", &format!("{six}, ttlSecurityHops: 1"))?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    for target in cluster.wait_addresses("web")? {
        edge.wait_nodes(&cluster, target, &["node-a"])?;
    }
    // FRR without it sends with a TTL of 1 to a neighbour of another AS, which could come from anywhere: its messages
    // are dropped, and it sends them again and again.
    let seen = cluster.log_length("node-a");
    let in_bgp = format!("router bgp {THEIRS}");
    let off = format!("no neighbor {} ttl-security hops 1", v6(11));
    edge.router.command(&["configure terminal", &in_bgp, &off])?;
    let connection = format!("dst [{}]", v6(11));
    eventually(LIMIT, || {
        let sockets = edge.router.host().output_ok("ss", &["-tinH", "state", "established", &connection])?;
        ensure!(sockets.contains("backoff:"), "{sockets}");
        Ok(())
    })?;
    ensure!(!edge.session(v6(11))?.is_established(), "{:?}", edge.session(v6(11))?);
    let peer = v6(254).to_string();
    let log = cluster.speaker("node-a").log();
    let is_up = |line: &str| line.contains("sessionUp") && line.contains(&peer);
    ensure!(!log.lines().skip(seen).any(is_up), "the session is up");
    cluster.put("BGPPeer", "six", &six)?;
    edge.wait_sessions(&cluster).context("nobody checks IPv6 any more")
}

fn as_numbers(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    let config = accepting(&cluster, 64_999, 64_999, |_| {})?;
    let inside = Edge::start(lab, &cluster, 253, RouterKind::Bird, &config)?;
    announce_routed(&cluster)?;
    // Our AS is 64999, and FRR is shown another one, which takes its place in the path.
    let external = format!("myASN: 64999, localASN: {OURS}, connectTime: 1s");
    cluster.put("BGPPeer", "four", &format!("{external}, peerASN: {THEIRS}, peerAddress: {}", v4(254)))?;
    cluster.put("BGPPeer", "six", &format!("{external}, dynamicASN: external, peerAddress: \"{}\"", v6(254)))?;
    for (name, router) in [("four-inside", v4(253)), ("six-inside", v6(253))] {
        cluster.put("BGPPeer", name, &format!("myASN: 64999, dynamicASN: internal, peerAddress: \"{router}\""))?;
    }
    edge.wait_sessions(&cluster)?;
    inside.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    wait_routes(&edge.router, &addresses, 1, |route| route.as_path == [OURS]).context("localASN")?;
    wait_routes(&inside.router, &addresses, 1, |route| route.as_path.is_empty() && route.local_pref == Some(100))
        .context("dynamicASN: internal")?;
    // A router of the wrong kind is refused.
    let seen = cluster.log_length("node-a");
    let wrong = format!("{external}, dynamicASN: external, peerAddress: {}", v4(253));
    cluster.put("BGPPeer", "four-inside", &wrong.replace(&format!("localASN: {OURS}, "), ""))?;
    cluster.wait_speaker_log("node-a", seen, &["failed to establish BGP session", "another than our own AS"])?;
    wait_routes(&edge.router, &addresses, 1, |route| route.as_path == [OURS])?;
    Ok(())
}

fn refresh(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    let config = accepting(&cluster, 64_600, OURS, |_| {})?;
    let second = Edge::start(lab, &cluster, 253, RouterKind::Bird, &config)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, "")?;
    for (name, router) in [("second-four", v4(253)), ("second-six", v6(253))] {
        cluster.put("BGPPeer", name, &format!("myASN: {OURS}, peerASN: 64600, peerAddress: \"{router}\""))?;
    }
    edge.wait_sessions(&cluster)?;
    second.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for edge in [&edge, &second] {
        wait_routes(&edge.router, &addresses, 1, |route| route.as_path == [OURS])?;
    }
    let before = edge.counters()?;
    edge.router.command(&["clear bgp ipv4 unicast * soft in", "clear bgp ipv6 unicast * soft in"])?;
    for peer in [v4(11), v6(11)] {
        eventually(LIMIT, || {
            let neighbour = edge.neighbour(peer)?;
            let statistics = &neighbour["messageStats"];
            // It asks once, and reads the marks before and after the routes.
            let (asked, marks) = (&statistics["routeRefreshSent"], &statistics["routeRefreshRecv"]);
            ensure!(asked == 1 && marks == 2, "{peer}: {statistics}");
            Ok(())
        })?;
    }
    for name in ["peer0", "peer1"] {
        second.router.command(&["reload", "in", name])?;
    }
    for edge in [&edge, &second] {
        wait_routes(&edge.router, &addresses, 1, |route| route.as_path == [OURS])?;
        edge.wait_sessions(&cluster)?;
    }
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    Ok(())
}

fn many_routes(lab: &Lab) -> Result<()> {
    const ROUTES: u32 = 100_000;
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    let mut config = accepting(&cluster, 64_600, OURS, |_| {})?;
    let network = |n: u32| format!("{}/32", std::net::Ipv4Addr::from(0x0b00_0000 + n)).parse();
    config.announce = (0..ROUTES).map(network).collect::<Result<_, _>>()?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", holdTime: 3s, keepaliveTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    let before = usage::resident(cluster.speaker("node-a").id())?;
    let many = Edge::start(lab, &cluster, 253, RouterKind::Bird, &config)?;
    for (name, router) in [("many-four", v4(253)), ("many-six", v6(253))] {
        cluster.put("BGPPeer", name, &format!("myASN: {OURS}, peerASN: 64600, peerAddress: \"{router}\""))?;
    }
    many.wait_sessions(&cluster)?;
    let sent = |times: u32| {
        eventually(LIMIT, || {
            let text = many.router.command(&["show", "protocols", "all", "peer0"])?;
            let line = text.lines().find(|line| line.contains("Export updates:")).context(text.clone())?;
            let accepted: u32 = line.split_whitespace().last().unwrap_or_default().parse().context(line.to_owned())?;
            ensure!(accepted >= times * ROUTES, "{line}");
            Ok(())
        })
    };
    sent(1)?;
    for round in 2..5 {
        many.router.command(&["reload", "out", "peer0"])?;
        sent(round)?;
    }
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for edge in [&edge, &many] {
        wait_routes(&edge.router, &addresses, 1, |route| route.as_path == [OURS])?;
    }
    // Not one is kept, and the session with a hold time of three seconds has not noticed.
    let after = usage::resident(cluster.speaker("node-a").id())?;
    ensure!(after < before + 16 * 1024, "the speaker had {before} KiB and has {after}");
    for (peer, counters) in edge.counters()? {
        ensure!(counters.is_first(), "{peer}: {counters:?}");
    }
    ensure!(cluster.host("node-a").route_to("11.0.0.7/32")?.is_none(), "a route that was received is in the kernel");
    Ok(())
}

fn attributes(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let edge = Edge::frr(lab, &cluster)?;
    let config = accepting(&cluster, 64_600, OURS, |_| {})?;
    let second = Edge::start(lab, &cluster, 253, RouterKind::Bird, &config)?;
    cluster.put("IPAddressPool", "routed", crate::edge::ROUTED_POOL)?;
    let advertisement = "ipAddressPools: [routed], med: 50, asPathPrepend: 2, \
                         extendedCommunities: [\"rt:64512:7\", \"soo:192.0.2.1:9\", \"bandwidth:64512:10G\"]";
    cluster.put("BGPAdvertisement", "routed", advertisement)?;
    put_peers(&cluster, "")?;
    for (name, router) in [("second-four", v4(253)), ("second-six", v6(253))] {
        cluster.put("BGPPeer", name, &format!("myASN: {OURS}, peerASN: 64600, peerAddress: \"{router}\""))?;
    }
    edge.wait_sessions(&cluster)?;
    second.wait_sessions(&cluster)?;
    let before = edge.counters()?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for edge in [&edge, &second] {
        wait_routes(&edge.router, &addresses, 2, |route| route.med == Some(50) && route.as_path == [OURS, OURS, OURS])?;
    }
    for address in &addresses {
        let family = if address.is_ipv4() { "ipv4" } else { "ipv6" };
        let shown = edge.router.command(&[&format!("show bgp {family} unicast {}", host_route(*address))])?;
        for text in ["RT:64512:7", "SoO:192.0.2.1:9", "LB:64512:1250000000 (10.000 Gbps)"] {
            ensure!(shown.contains(text), "no {text} at FRR: {shown}");
        }
        let shown = second.router.command(&["show", "route", "all", "for", &address.to_string()])?;
        for text in ["(rt, 64512, 7)", "(ro, 192.0.2.1, 9)", "(unknown 0x4, 64512, 1318388473)"] {
            ensure!(shown.contains(text), "no {text} at BIRD: {shown}");
        }
    }
    // One node is preferred: the other's routes are longer, or have a higher MED.
    let of_node = |node: &str| format!("nodeSelectors: [{{matchLabels: {{kubernetes.io/hostname: {node}}}}}]");
    for (field, value) in [("med", 70), ("asPathPrepend", 1)] {
        cluster.put("BGPAdvertisement", "routed", &format!("ipAddressPools: [routed], {}", of_node("node-a")))?;
        let other = format!("ipAddressPools: [routed], {field}: {value}, {}", of_node("node-b"));
        cluster.put("BGPAdvertisement", "other", &other)?;
        eventually(LIMIT, || {
            for address in &addresses {
                let route = edge.router.host().route_to(&host_route(*address))?;
                let hops: Vec<_> = route.iter().flat_map(|route| &route.next_hops).filter_map(|hop| hop.via).collect();
                ensure!(hops.len() == 1 && [v4(11), v6(11)].contains(&hops[0]), "{field}: {address} goes to {hops:?}");
            }
            Ok(())
        })?;
    }
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    Ok(())
}

fn callers(lab: &Lab) -> Result<()> {
    let setup = Setup { capabilities: Capabilities::NetRawAndBindService, ..Setup::nodes(&["node-a"]) };
    let mut cluster = Cluster::start_with(lab, setup)?;
    let calling = |peer: &mut RouterPeer| {
        peer.opening = Opening::Dials;
        peer.password = Some(Secret::new("who-is-there"));
    };
    let config = accepting(&cluster, THEIRS, OURS, calling)?;
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    // Nobody listens unasked.
    put_peers(&cluster, ", password: who-is-there, nodeSelectors: [{matchLabels: {no: where}}]")?;
    let sockets = cluster.host("node-a").output_ok("ss", &["-ltnH", "sport = 179"])?;
    ensure!(sockets.trim().is_empty(), "a speaker listens unasked: {sockets}");
    put_peers(&cluster, ", password: who-is-there, connectionMode: passive")?;
    edge.wait_sessions(&cluster)?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    // By range: FRR calls from addresses that no BGPPeer names.
    let seen = cluster.log_length("node-a");
    cluster.remove("BGPPeer", "four")?;
    let range = format!("myASN: {OURS}, dynamicASN: external, peerRange: 192.168.1.192/26, password: who-is-there");
    cluster.put("BGPPeer", "range", &format!("{range}, peerRangeLimit: 1"))?;
    cluster.wait_speaker_log("node-a", seen, &["sessionUp", "192.168.1.254", "external"])?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("by range")?;
    }
    // The second is one too many, until the first is gone.
    let config = accepting(&cluster, 64_600, OURS, calling)?;
    let mut second = Edge::start(lab, &cluster, 253, RouterKind::Bird, &config)?;
    cluster.wait_speaker_log("node-a", 0, &["192.168.1.253", "as many routers as may have connected already"])?;
    cluster.put("BGPPeer", "range", &format!("{range}, peerRangeLimit: 2"))?;
    for edge in [&edge, &second] {
        edge.router.wait_established(&[v4(11)], LIMIT).context("the limit is two")?;
        edge.wait_nodes(&cluster, addresses[0], &["node-a"])?;
    }
    second.router.stop()?;
    cluster.wait_speaker_log("node-a", 0, &["sessionDown", "192.168.1.253"])?;
    edge.wait_nodes(&cluster, addresses[0], &["node-a"])?;
    // Without a BGPPeer that listens there is no socket.
    cluster.remove("BGPPeer", "range")?;
    put_peers(&cluster, ", password: who-is-there")?;
    eventually(LIMIT, || {
        let sockets = cluster.host("node-a").output_ok("ss", &["-ltnH", "sport = 179"])?;
        ensure!(sockets.trim().is_empty(), "a speaker listens still: {sockets}");
        Ok(())
    })
}

fn gateway(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    let config = accepting(&cluster, THEIRS, OURS, |_| {})?;
    let second = Edge::start(lab, &cluster, 253, RouterKind::Bird, &config)?;
    announce_routed(&cluster)?;
    for (name, family) in [("four", "IPv4"), ("six", "IPv6")] {
        cluster.put("BGPPeer", name, &format!("myASN: {OURS}, peerASN: {THEIRS}, peerGateway: {family}"))?;
    }
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    let lead_to = |cluster: &Cluster, number: u8| {
        cluster.host("node-a").set_route("0.0.0.0/0", &[v4(number)])?;
        cluster.host("node-a").set_route("::/0", &[v6(number)])
    };
    // The default routes come after the configuration, and lead elsewhere later.
    for (number, here, there) in [(254, &edge, &second), (253, &second, &edge)] {
        lead_to(&cluster, number)?;
        for target in &addresses {
            here.wait_nodes(&cluster, *target, &["node-a"]).with_context(|| format!("the gateway is {number}"))?;
            there.wait_nodes(&cluster, *target, &[])?;
        }
        cluster.wait_speaker_log("node-a", 0, &["sessionUp", &v4(number).to_string()])?;
    }
    Ok(())
}

fn changes(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    announce_routed(&cluster)?;
    put_peers(&cluster, "")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web").from("routed"))?;
    let addresses = cluster.wait_addresses("web")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &["node-a"])?;
    }
    let before = edge.counters()?;
    for (more, fields) in [
        (", connectTime: 7s", "\"fields\":\"connectTime\",\"effect\":\"soft\""),
        (", keepaliveTime: 1s, holdTime: 60s", "\"nextSession\":\"holdTime\""),
        (", nodeSelectors: [{matchLabels: {kubernetes.io/hostname: node-a}}]", "nodeSelectors"),
        (", enableGracefulRestart: true", "\"nextSession\":\"enableGracefulRestart\""),
        (", ebgpMultiHop: true", "ebgpMultiHop"),
        ("", "ebgpMultiHop"),
    ] {
        let seen = cluster.log_length("node-a");
        put_peers(&cluster, more)?;
        for piece in fields.split(',') {
            cluster.wait_speaker_log("node-a", seen, &["peerChanged", "goes on", piece]).context(more)?;
        }
        cluster.wait_speaker_log("node-a", seen, &["configChange", "BGPPeer four"]).context(more)?;
    }
    // Under another name: the new one is made first, which is refused as long as there are two.
    let seen = cluster.log_length("node-a");
    let peer = format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: {}", v4(254));
    cluster.put("BGPPeer", "renamed", &peer)?;
    cluster.wait_speaker_log("node-a", seen, &["already exists"])?;
    cluster.remove("BGPPeer", "four")?;
    cluster.wait_speaker_log("node-a", seen, &["peerChanged", "goes on", "name"])?;
    let to_renamed = "ipAddressPools: [routed], peers: [renamed, six], communities: [\"64500:77\"]";
    cluster.put("BGPAdvertisement", "routed", to_renamed)?;
    let has_community = |route: &RouterRoute| route.communities.iter().any(|it| it.to_string() == "64500:77");
    wait_routes(&edge.router, &addresses, 1, has_community).context("what is announced to the new name")?;
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    // And one that does end the session is called so beforehand.
    let seen = cluster.log_length("node-a");
    cluster.put("BGPPeer", "renamed", &format!("{peer}, routerID: 10.1.1.1"))?;
    let line = ["configChange", "BGPPeer renamed", "\"effect\":\"reset\""];
    cluster.wait_speaker_log("node-a", seen, &line)?;
    edge.wait_error(v4(11), "Cease/Other Configuration Change").or_else(|_| edge.wait_sessions(&cluster))?;
    eventually(LIMIT, || {
        let id = edge.neighbour(v4(11))?["remoteRouterId"].clone();
        ensure!(id == "10.1.1.1", "the identifier is {id}");
        Ok(())
    })?;
    ensure!(edge.counters()?[&v6(11)] == before[&v6(11)], "the other session was touched");
    Ok(())
}

fn bound(lab: &Lab) -> Result<()> {
    let cluster = Cluster::start(lab, &["node-a"])?;
    let mut config = accepting(&cluster, THEIRS, OURS, |_| {})?;
    let mut elsewhere = config.peers[0].clone();
    elsewhere.place = PeerPlace::Address(v4(77));
    config.peers.push(elsewhere);
    let edge = Edge::start(lab, &cluster, 254, RouterKind::Frr, &config)?;
    announce_routed(&cluster)?;
    let peer = format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: {}, connectTime: 1s", v4(254));
    // Contract 6.4: an address that is not on the host is tried until it is.
    cluster.put("BGPPeer", "four", &format!("{peer}, sourceAddress: {}", v4(77)))?;
    let line = ["failed to establish BGP session", "the source address 192.168.1.77 is not on this host"];
    cluster.wait_speaker_log("node-a", 0, &line)?;
    cluster.host("node-a").add_address("eth0", "192.168.1.77/24")?;
    edge.router.wait_established(&[v4(77)], LIMIT).context("the source address is there now")?;
    // No kernel of ours has VRFs to test with; any interface binds the same way.
    cluster.put("BGPPeer", "four", &format!("{peer}, vrf: red"))?;
    cluster.wait_speaker_log("node-a", 0, &["failed to establish", "there is no interface or VRF red on this host"])?;
    cluster.put("BGPPeer", "four", &format!("{peer}, vrf: eth0"))?;
    edge.router.wait_established(&[v4(11)], LIMIT).context("bound to eth0")?;
    Ok(())
}
