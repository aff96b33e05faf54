//! Addresses of Services from end to end: requested, shared, moved, of another class; and both ways of announcing at once.

use anyhow::{Context as _, Result, ensure};
use lab::testing::Trial;
use lab::{Lab, eventually};

use crate::cluster::{Cluster, LIMIT, ONCE, Setup, address, at};
use crate::edge::{Edge, announce_routed, put_peers};
use crate::objects::{Service, object};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_3_3_a_requested_address_is_given_or_refused_and_the_present_one_kept", requested),
        Trial::new("contract_3_4_tcp_and_udp_services_share_an_address_on_one_node", sharing),
        Trial::new("contract_3_5_a_pool_that_is_edited_moves_a_service_with_its_answers_and_routes", pool_edit),
        Trial::new("contract_6_1_one_service_by_arp_and_bgp_each_ends_by_itself", both_protocols),
        Trial::new("contract_2_3_only_services_of_the_class_are_served_and_flags_have_one_dash", class),
    ]
}

fn requested(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    cluster.announce_on_segment()?;
    announce_routed(&cluster)?;
    let client = cluster.client().clone();
    // No class is configured, so a Service with one is not ours. It would be the first to get an address.
    cluster.apply(&Service::v4("classy").class("example.com/theirs"))?;
    cluster.apply(&Service::v4("web").wants("192.168.1.245"))?;
    cluster.wait_exactly("web", &["192.168.1.245"])?;
    cluster.reach(&client, "192.168.1.245:80".parse()?)?;
    let status = cluster.status_file("web");
    ensure!(status.contains("metallb.io/ip-allocated-from-pool: segment"), "{status}");
    // Of one family each, in the order of the request.
    cluster.apply(&Service::dual("dual").wants("fc00:f853:ccd:e799::5, 192.168.1.246"))?;
    let addresses = cluster.wait_addresses("dual")?;
    ensure!(addresses.contains(&address("192.168.1.246")) && addresses.contains(&address("fc00:f853:ccd:e799::5")));
    for target in addresses {
        cluster.reach(&client, at(target, 80))?;
    }
    // Taken, outside of every pool, and from a pool that is never used by itself.
    cluster.apply(&Service::v4("taken").wants("192.168.1.245"))?;
    cluster.wait_event("taken", "AllocationFailed", "192.168.1.245")?;
    cluster.apply(&Service::v4("outside").wants("10.1.1.1"))?;
    cluster.wait_event("outside", "AllocationFailed", "10.1.1.1")?;
    cluster.apply(&Service::v4("by-name").wants("203.0.113.5"))?;
    cluster.wait_exactly("by-name", &["203.0.113.5"])?;
    for service in ["taken", "outside"] {
        ensure!(cluster.addresses(service)?.is_empty(), "{service} has {:?}", cluster.addresses(service)?);
    }
    // D7: asking for what is not to be had costs nothing.
    cluster.apply(&Service::v4("web").wants("10.1.1.1"))?;
    cluster.wait_event("web", "AllocationFailed", "10.1.1.1")?;
    cluster.wait_exactly("web", &["192.168.1.245"])?;
    client.ask("192.168.1.245:80".parse()?, ONCE).context("the present address is kept")?;
    // Asking for one that is free moves the Service, and lets the other have the old one.
    cluster.apply(&Service::v4("web").wants("192.168.1.247"))?;
    cluster.wait_exactly("web", &["192.168.1.247"])?;
    cluster.wait_exactly("taken", &["192.168.1.245"])?;
    cluster.reach(&client, "192.168.1.247:80".parse()?)?;
    cluster.reach(&client, "192.168.1.245:80".parse()?)?;
    // The last pool goes, and no address is left.
    for pool in ["routed", "segment"] {
        cluster.remove("IPAddressPool", pool)?;
    }
    for service in ["web", "dual", "taken", "by-name"] {
        cluster.wait_exactly(service, &[]).with_context(|| format!("all pools are removed, and {service}"))?;
        cluster.wait_event(service, "ClearAssignment", "")?;
    }
    for target in ["192.168.1.245", "192.168.1.247"] {
        cluster.wait_silence(address(target)).context("all pools are removed")?;
    }
    ensure!(cluster.addresses("classy")?.is_empty(), "classy has {:?}", cluster.addresses("classy")?);
    let events = cluster.events()?;
    ensure!(events.iter().all(|event| event["name"] != "classy"), "an event for classy: {events:?}");
    Ok(())
}

fn sharing(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b", "node-c"])?;
    cluster.announce_on_segment()?;
    let client = cluster.client().clone();
    let target = address("192.168.1.240");
    let tcp = Service::v4("dns-tcp").port("TCP", 53).shares("dns").wants("192.168.1.240");
    let udp = Service::v4("dns-udp").port("UDP", 53).shares("dns").wants("192.168.1.240");
    // Their endpoints are on different nodes, and neither is on the one that answers.
    cluster.apply(&tcp.clone().on(&["node-b"]))?;
    cluster.apply(&udp.on(&["node-c"]))?;
    cluster.wait_exactly("dns-tcp", &["192.168.1.240"])?;
    cluster.wait_exactly("dns-udp", &["192.168.1.240"])?;
    cluster.wait_owner(target, "node-a")?;
    let messages = ["dns-tcp", "dns-udp"].map(|service| cluster.wait_event(service, "nodeAssigned", "layer2"));
    let [one, other] = messages;
    let (one, other) = (one?, other?);
    ensure!(one == other && one.contains("node-a"), "{one:?} and {other:?}");
    let answer = cluster.reach(&client, at(target, 53))?;
    ensure!(answer.backend == "node-b", "over TCP {answer:?}");
    let answer = cluster.reach_udp(&client, at(target, 53))?;
    ensure!(answer.backend == "node-c", "over UDP {answer:?}");
    sharing_over_ipv6(&mut cluster)?;
    // A port that is in use, or another key, is refused; and the others stay.
    cluster.apply(&Service::v4("again").port("TCP", 53).shares("dns").wants("192.168.1.240"))?;
    cluster.wait_event("again", "AllocationFailed", "192.168.1.240")?;
    cluster.apply(&Service::v4("stranger").port("TCP", 54).shares("other").wants("192.168.1.240"))?;
    cluster.wait_event("stranger", "AllocationFailed", "192.168.1.240")?;
    // One goes, and the address stays; the one that asked for the same port has it now.
    cluster.delete("dns-tcp")?;
    cluster.wait_exactly("again", &["192.168.1.240"])?;
    cluster.wait_owner(target, "node-a")?;
    cluster.reach_udp(&client, at(target, 53)).context("the other one of two is deleted")?;
    cluster.delete("again")?;
    cluster.delete("dns-udp")?;
    // The last one is gone: the stranger with its own key gets the address.
    cluster.wait_exactly("stranger", &["192.168.1.240"])?;
    cluster.reach(&client, at(target, 54))?;
    Ok(())
}

/// The same with IPv6, where node-b is the first by the election.
fn sharing_over_ipv6(cluster: &mut Cluster) -> Result<()> {
    const TARGET: &str = "fc00:f853:ccd:e799::1";
    let client = cluster.client().clone();
    for (name, protocol, node) in [("six-tcp", "TCP", "node-a"), ("six-udp", "UDP", "node-c")] {
        cluster.apply(&Service::v6(name).port(protocol, 53).shares("six").wants(TARGET).on(&[node]))?;
        cluster.wait_exactly(name, &[TARGET])?;
    }
    let target = address(TARGET);
    cluster.wait_owner(target, "node-b")?;
    let messages = ["six-tcp", "six-udp"].map(|service| cluster.wait_event(service, "nodeAssigned", "layer2"));
    let [one, other] = messages;
    let (one, other) = (one?, other?);
    ensure!(one == other && one.contains("node-b"), "{one:?} and {other:?}");
    let answer = cluster.reach(&client, at(target, 53))?;
    ensure!(answer.backend == "node-a", "over TCP {answer:?}");
    let answer = cluster.reach_udp(&client, at(target, 53))?;
    ensure!(answer.backend == "node-c", "over UDP {answer:?}");
    Ok(())
}

fn pool_edit(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let edge = Edge::frr(lab, &cluster)?;
    put_peers(&cluster, "")?;
    edge.wait_sessions(&cluster)?;
    let client = cluster.client().clone();
    cluster.put("L2Advertisement", "both", "")?;
    cluster.put("BGPAdvertisement", "both", "")?;
    cluster.put("IPAddressPool", "first", "addresses: [192.168.1.240/31]")?;
    cluster.put("IPAddressPool", "second", "addresses: [192.168.1.244/31], autoAssign: false")?;
    cluster.apply(&Service::v4("web"))?;
    cluster.apply(&Service::v4("steady").from("second"))?;
    let nodes = ["node-a", "node-b"];
    let (old, new, steady) = (address("192.168.1.240"), address("192.168.1.248"), address("192.168.1.244"));
    for target in [old, steady] {
        cluster.reach(&client, at(target, 80))?;
        edge.wait_nodes(&cluster, target, &nodes)?;
        cluster.reach(&edge.remote, at(target, 80))?;
    }
    let (before, status) = (edge.counters()?, cluster.status_file("steady"));
    cluster.put("IPAddressPool", "first", "addresses: [192.168.1.248/31]")?;
    cluster.wait_exactly("web", &["192.168.1.248"])?;
    cluster.wait_event("web", "ClearAssignment", "")?;
    cluster.reach(&client, at(new, 80))?;
    edge.wait_nodes(&cluster, new, &nodes)?;
    cluster.reach(&edge.remote, at(new, 80))?;
    cluster.wait_silence(old).context("the pool does not have the old address any more")?;
    edge.wait_nodes(&cluster, old, &[])?;
    // A pool that grows, or is divided anew, moves nothing.
    cluster.put("IPAddressPool", "first", "addresses: [192.168.1.240/31, 192.168.1.248/30]")?;
    cluster.wait_pool("first", 1, 5)?;
    // In one file, so that the address is in a pool at every moment.
    let divided = [
        object("IPAddressPool", "first", "addresses: [192.168.1.240/31, 192.168.1.250/31]"),
        object("IPAddressPool", "third", "addresses: [192.168.1.248/31], autoAssign: false"),
    ];
    cluster.write("IPAddressPool-first", &divided.join("---\n"))?;
    cluster.wait_pool("third", 1, 1)?;
    cluster.wait_pool("first", 0, 4)?;
    cluster.apply(&Service::v4("next"))?;
    cluster.wait_exactly("next", &["192.168.1.240"])?;
    cluster.wait_exactly("web", &["192.168.1.248"])?;
    client.ask(at(new, 80), ONCE)?;
    // All pools go: nobody has an address, and nobody answers.
    cluster.remove("IPAddressPool", "first")?;
    cluster.wait_exactly("web", &[])?;
    cluster.wait_silence(new)?;
    edge.wait_nodes(&cluster, new, &[])?;
    client.ask(at(steady, 80), ONCE)?;
    ensure!(cluster.status_file("steady") == status, "steady was written again: {}", cluster.status_file("steady"));
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    Ok(())
}

fn both_protocols(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let edge = Edge::frr(lab, &cluster)?;
    put_peers(&cluster, "")?;
    edge.wait_sessions(&cluster)?;
    cluster.announce_on_segment()?;
    cluster.put("BGPAdvertisement", "segment", "ipAddressPools: [segment]")?;
    cluster.apply(&Service::dual("web"))?;
    let client = cluster.client().clone();
    let addresses = cluster.wait_addresses("web")?;
    let nodes = ["node-a", "node-b"];
    let reached = |cluster: &mut Cluster, when: &'static str| {
        for target in &addresses {
            edge.wait_nodes(cluster, *target, &nodes).context(when)?;
            cluster.reach(&edge.remote, at(*target, 80)).context(when)?;
        }
        Ok::<_, anyhow::Error>(())
    };
    reached(&mut cluster, "both advertisements")?;
    for target in &addresses {
        cluster.reach(&client, at(*target, 80))?;
    }
    for protocol in ["layer2", "bgp"] {
        cluster.wait_event("web", "nodeAssigned", protocol)?;
    }
    let before = edge.counters()?;
    for _ in 0..2 {
        cluster.remove("L2Advertisement", "segment")?;
        for target in &addresses {
            cluster.wait_silence(*target).context("the L2Advertisement is deleted")?;
        }
        // The router has a route to each node, so it needs no ARP for the address.
        reached(&mut cluster, "the L2Advertisement is deleted")?;
        cluster.put("L2Advertisement", "segment", "ipAddressPools: [segment]")?;
        for target in &addresses {
            cluster.reach(&client, at(*target, 80)).context("the L2Advertisement is back")?;
        }
    }
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    cluster.remove("BGPAdvertisement", "segment")?;
    for target in &addresses {
        edge.wait_nodes(&cluster, *target, &[]).context("the BGPAdvertisement is deleted")?;
        client.ask(at(*target, 80), ONCE).context("the BGPAdvertisement is deleted")?;
    }
    Ok(())
}

fn class(lab: &Lab) -> Result<()> {
    let mut setup = Setup::nodes(&["node-a"]);
    setup.controller = ["-lb-class", "example.com/ours", "-log-level=debug"].map(str::to_owned).to_vec();
    setup.speaker =
        ["-lb-class=example.com/ours", "-log-level", "debug", "-ignore-exclude-lb"].map(str::to_owned).to_vec();
    let mut cluster = Cluster::start_with(lab, setup)?;
    cluster.announce_on_segment()?;
    let client = cluster.client().clone();
    // By name, the others come first; they would get the first addresses.
    cluster.apply(&Service::v4("a-none"))?;
    cluster.apply(&Service::v4("b-theirs").class("example.com/theirs"))?;
    cluster.apply(&Service::v4("ours").class("example.com/ours"))?;
    cluster.wait_exactly("ours", &["192.168.1.240"])?;
    cluster.reach(&client, "192.168.1.240:80".parse()?)?;
    for service in ["a-none", "b-theirs"] {
        ensure!(cluster.addresses(service)?.is_empty(), "{service} has {:?}", cluster.addresses(service)?);
        let events = cluster.events()?;
        ensure!(events.iter().all(|event| event["name"] != service), "an event for {service}: {events:?}");
    }
    // The label counts for nothing with the flag.
    cluster.label("node-a", "node.kubernetes.io/exclude-from-external-load-balancers", "true")?;
    cluster.apply(&Service::v4("second").class("example.com/ours"))?;
    cluster.wait_exactly("second", &["192.168.1.241"])?;
    for target in ["192.168.1.240", "192.168.1.241"] {
        cluster.wait_owner(address(target), "node-a").context("with -ignore-exclude-lb")?;
    }
    // D16: a Service that loses its class with its type gives its address back.
    eventually(LIMIT, || cluster.reach(&client, "192.168.1.241:80".parse()?).map(drop))?;
    let manifest = Service::v4("second").manifest().replace("type: LoadBalancer", "type: ClusterIP");
    cluster.write("service-second", &manifest)?;
    cluster.wait_exactly("second", &[])?;
    cluster.wait_silence(address("192.168.1.241")).context("the Service is of type ClusterIP")?;
    Ok(())
}
