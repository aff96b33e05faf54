//! Addresses on a segment: who answers by ARP and NDP, as the kernel of a client finds out (contract 5).

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kit::Mac;
use lab::capture::Capture;
use lab::testing::Trial;
use lab::{Lab, NeighbourState, eventually};
use sha2::{Digest as _, Sha256};

use crate::cluster::{Cluster, LIMIT, ONCE, address, at, v4, v6};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_5_1_the_elected_node_answers_by_arp_and_ndp_and_the_next_when_it_may_not", election),
        Trial::new(
            "contract_5_1_the_traffic_policy_says_which_nodes_may_answer_and_what_backends_see",
            traffic_policies,
        ),
        Trial::new("contract_5_1_readiness_of_endpoints_and_deletion_of_the_service_end_the_answers", readiness),
        Trial::new("contract_5_1_advertisements_choose_nodes_services_and_preferences", selectors),
        Trial::new(
            "contract_12_1_d13_the_kernels_unicast_solicitations_are_answered_for_minutes",
            unicast_solicitations,
        ),
    ]
}

/// The node label that keeps a node away from load balancers.
const EXCLUDE: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// The nodes in the order in which they are elected for an address: by SHA-256 of `<node>#<address>`.
pub(crate) fn election_order<'a>(nodes: &[&'a str], address: IpAddr) -> Vec<&'a str> {
    let mut nodes = nodes.to_vec();
    nodes.sort_by_key(|node| Sha256::digest(format!("{node}#{address}")));
    nodes
}

fn election(lab: &Lab) -> Result<()> {
    let nodes = ["node-a", "node-b", "node-c"];
    // The vectors of the contract.
    let vectors =
        [("192.168.1.240", ["node-a", "node-c", "node-b"]), ("fc00:f853:ccd:e799::1", ["node-b", "node-a", "node-c"])];
    for (text, order) in vectors {
        ensure!(election_order(&nodes, address(text)) == order, "the test computes another order for {text}");
    }
    let mut cluster = Cluster::start(lab, &nodes)?;
    cluster.announce_on_segment()?;
    cluster.apply(&Service::v4("web").wants("192.168.1.240"))?;
    cluster.apply(&Service::v6("api").wants("fc00:f853:ccd:e799::1"))?;
    let client = cluster.client().clone();
    for (service, (text, order)) in ["web", "api"].into_iter().zip(vectors) {
        let target = address(text);
        cluster.wait_owner(target, order[0])?;
        let answer = cluster.reach(&client, at(target, 80))?;
        ensure!(answer.backend == order[0], "{answer:?} where {} answers for {target}", order[0]);
        // Programs read the node out of this text (contract 12.3).
        let message = format!("announcing from node {:?} with protocol \"layer2\"", order[0]);
        cluster.wait_event(service, "nodeAssigned", &message)?;
    }
    for (text, order) in vectors {
        let target = address(text);
        cluster.label(order[0], EXCLUDE, "")?;
        cluster.wait_owner(target, order[1]).context("the first is labelled for exclusion")?;
        cluster.network_unavailable(order[1], true)?;
        cluster.wait_owner(target, order[2]).context("the network of the second is unavailable")?;
        cluster.mark_ready(order[2], false)?;
        cluster.network_unavailable(order[1], false)?;
        cluster.wait_owner(target, order[1]).context("the network of the second is back")?;
        cluster.network_unavailable(order[1], true)?;
        cluster.wait_owner(target, order[2]).context("it is gone again, and the third is still not ready")?;
        cluster.mark_ready(order[2], true)?;
        cluster.network_unavailable(order[1], false)?;
        cluster.wait_owner(target, order[1]).context("the network of the second is back for good")?;
        cluster.unlabel(order[0], EXCLUDE)?;
        cluster.wait_owner(target, order[0]).context("the first is not labelled any more")?;
        cluster.reach(&client, at(target, 80))?;
    }
    // Nobody but the owner says anything now: the kernel asks ten times, and hears one voice.
    let capture = Capture::start(&client, "eth0", "arp or icmp6")?;
    for (text, order) in vectors {
        for _ in 0..10 {
            cluster.wait_owner(address(text), order[0])?;
        }
        let macs = eventually(LIMIT, || {
            let macs = claimants(&capture, address(text));
            ensure!(!macs.is_empty(), "tcpdump has not shown an answer for {text} yet");
            Ok(macs)
        })?;
        ensure!(macs == [cluster.host(order[0]).mac("eth0")?], "{macs:?} answer for {text}:\n{}", capture.text());
    }
    Ok(())
}

/// The MAC addresses that claimed an address, each once.
fn claimants(capture: &Capture, address: IpAddr) -> Vec<Mac> {
    let claims = capture.claims().into_iter().filter(|claim| claim.address == address);
    let mut macs: Vec<Mac> = claims.map(|claim| claim.mac).collect();
    macs.sort();
    macs.dedup();
    macs
}

fn traffic_policies(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b", "node-c"])?;
    cluster.announce_on_segment()?;
    let client = cluster.client().clone();
    // Cluster: the first address is node-a's by the election, wherever the backends are; they see the node.
    let wants = "192.168.1.240,fc00:f853:ccd:e799::1";
    cluster.apply(&Service::dual("web").wants(wants).on(&["node-b"]))?;
    let (four, six) = (address("192.168.1.240"), address("fc00:f853:ccd:e799::1"));
    for (target, seen) in [(four, v4(11)), (six, v6(11))] {
        // One node answers for both addresses: the first one decides.
        cluster.wait_owner(target, "node-a").context("with external traffic policy Cluster")?;
        let answer = cluster.reach(&client, at(target, 80))?;
        ensure!(answer.backend == "node-b" && answer.client == seen, "Cluster: {answer:?} for {target}");
    }
    // Local: a node with a backend answers; backends see the client.
    cluster.apply(&Service::dual("web").wants(wants).on(&["node-b"]).local())?;
    for (target, seen) in [(four, v4(200)), (six, v6(200))] {
        cluster.wait_owner(target, "node-b").context("with external traffic policy Local")?;
        let answer = eventually(LIMIT, || {
            let answer = cluster.reach(&client, at(target, 80))?;
            ensure!(answer.backend == "node-b" && answer.client == seen, "Local: {answer:?} for {target}");
            Ok(answer)
        })?;
        ensure!(answer.backend == "node-b");
    }
    // Among the nodes with a backend the election is the same: of c and b, c is first for this address.
    cluster.apply(&Service::dual("web").wants(wants).on(&["node-b", "node-c"]).local())?;
    cluster.wait_owner(four, "node-c").context("with backends on b and c")?;
    cluster.unready("web", &["node-c"])?;
    cluster.wait_owner(four, "node-b").context("with the backend on c not ready")?;
    cluster.unready("web", &["node-b", "node-c"])?;
    cluster.wait_silence(four).context("with no backend ready")?;
    cluster.wait_silence(six).context("with no backend ready")?;
    cluster.unready("web", &[])?;
    cluster.wait_owner(four, "node-c").context("with all backends ready again")?;
    cluster.reach(&client, at(four, 80))?;
    Ok(())
}

fn readiness(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    cluster.announce_on_segment()?;
    let client = cluster.client().clone();
    // One Service with ports of both protocols.
    cluster.apply(&Service::dual("web").and_port("UDP", 53))?;
    cluster.apply(&Service::dual("other"))?;
    let (web, other) = (cluster.wait_addresses("web")?, cluster.wait_addresses("other")?);
    for target in web.iter().chain(&other) {
        cluster.reach(&client, at(*target, 80))?;
    }
    for target in &web {
        cluster.reach_udp(&client, at(*target, 53)).context("the UDP port beside the TCP port")?;
    }
    cluster.unready("web", &["node-a", "node-b"])?;
    for target in &web {
        cluster.wait_silence(*target).context("no endpoint is ready")?;
    }
    cluster.unready("web", &["node-a"])?;
    for target in &web {
        let answer = cluster.reach(&client, at(*target, 80)).context("one endpoint is ready again")?;
        ensure!(answer.backend == "node-b", "{answer:?}");
        let answer = cluster.reach_udp(&client, at(*target, 53)).context("one endpoint is ready again")?;
        ensure!(answer.backend == "node-b", "over UDP {answer:?}");
    }
    ensure!(cluster.addresses("web")? == web, "readiness has changed the addresses of web");
    cluster.delete("web")?;
    for target in &web {
        cluster.wait_silence(*target).context("web is deleted")?;
    }
    // What stays was never touched.
    for target in &other {
        ensure!(client.ask(at(*target, 80), ONCE).is_ok(), "other is not reached at {target}");
    }
    ensure!(cluster.addresses("other")? == other, "the deletion of web has changed the addresses of other");
    Ok(())
}

fn selectors(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b", "node-c"])?;
    cluster.put("IPAddressPool", "segment", crate::cluster::SEGMENT_POOL)?;
    let target = address("192.168.1.240");
    cluster.apply(&Service::v4("web").wants("192.168.1.240").label("tier", "front"))?;
    cluster.wait_addresses("web")?;
    cluster.wait_silence(target).context("the pool has no advertisement")?;
    let labels = |labels: &str| format!("nodeSelectors: [{{matchLabels: {{{labels}}}}}]");
    cluster.put("L2Advertisement", "segment", &labels("announce: \"yes\""))?;
    cluster.wait_silence(target).context("no node has the label that the advertisement asks for")?;
    cluster.label("node-b", "announce", "yes")?;
    cluster.wait_owner(target, "node-b").context("node-b got the label")?;
    cluster.label("node-c", "announce", "yes")?;
    cluster.wait_owner(target, "node-c").context("node-c got it too, and is before node-b in the election")?;
    cluster.unlabel("node-c", "announce")?;
    cluster.wait_owner(target, "node-b").context("node-c lost it")?;
    // Preferences come before the election, and do not select.
    let prefer = |preference: &str| format!("preferredNodeSelectors: [{{weight: 10, preference: {{{preference}}}}}]");
    let labelled = prefer("matchLabels: {announce: \"yes\"}");
    cluster.put("L2Advertisement", "segment", &labelled)?;
    cluster.wait_owner(target, "node-b").context("node-b is preferred")?;
    cluster.label("node-b", EXCLUDE, "")?;
    cluster.wait_owner(target, "node-a").context("the preferred node is excluded")?;
    cluster.unlabel("node-b", EXCLUDE)?;
    cluster.wait_owner(target, "node-b").context("the preferred node is not excluded any more")?;
    let everybody = prefer("matchExpressions: [{key: kubernetes.io/hostname, operator: Exists}]");
    cluster.put("L2Advertisement", "segment", &everybody)?;
    cluster.wait_owner(target, "node-a").context("everybody is preferred, so the election decides")?;
    cluster.put("L2Advertisement", "segment", &labelled)?;
    cluster.wait_owner(target, "node-b").context("node-b alone is preferred again")?;
    cluster.unlabel("node-b", "announce")?;
    cluster.wait_owner(target, "node-a").context("nobody is preferred, so the election decides")?;
    // Service selectors.
    cluster.put("L2Advertisement", "segment", "serviceSelectors: [{matchLabels: {tier: back}}]")?;
    cluster.wait_silence(target).context("the advertisement is for other Services")?;
    cluster.apply(&Service::v4("web").wants("192.168.1.240").label("tier", "back"))?;
    cluster.wait_owner(target, "node-a").context("the Service got the label")?;
    Ok(())
}

/// A kernel that trusts a neighbour for half a second, not half a minute, asks as often in ten seconds as another does in
/// ten minutes. UDP tells it nothing about the neighbour, so it has to ask.
fn unicast_solicitations(lab: &Lab) -> Result<()> {
    const PROBES: usize = 12;
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    cluster.announce_on_segment()?;
    let client = cluster.client().clone();
    for family in ["ipv4", "ipv6"] {
        client.sysctl(&format!("net/{family}/neigh/eth0/base_reachable_time_ms"), "500")?;
        client.sysctl(&format!("net/{family}/neigh/eth0/delay_first_probe_time"), "0")?;
        client.sysctl(&format!("net/{family}/neigh/eth0/retrans_time_ms"), "1000")?;
    }
    cluster.apply(&Service::dual("dns").port("UDP", 53))?;
    let addresses = cluster.wait_addresses("dns")?;
    for target in &addresses {
        cluster.reach_udp(&client, at(*target, 53))?;
    }
    let owner = election_order(&["node-a", "node-b"], addresses[0])[0];
    let mac = cluster.host(owner).mac("eth0")?;
    let capture = Capture::start(&client, "eth0", "arp or icmp6")?;
    eventually(LIMIT, || {
        for target in &addresses {
            client.ask_udp(at(*target, 53), ONCE).with_context(|| format!("a request to {target} is lost"))?;
            let neighbours = client.neighbours()?;
            let entry = neighbours.iter().find(|one| one.address == *target).context("no neighbour entry")?;
            let is_sure = entry.mac == Some(mac) && entry.state != NeighbourState::Failed;
            ensure!(is_sure, "the client doubts the neighbour: {entry:?}");
        }
        let counts: Vec<usize> = addresses.iter().map(|target| unicast_questions(&capture, *target)).collect();
        ensure!(counts.iter().all(|count| *count >= PROBES), "the kernel has asked {counts:?} times by unicast");
        Ok(())
    })?;
    for target in &addresses {
        let asked = unicast_questions(&capture, *target);
        let answered = capture.claims().iter().filter(|claim| claim.address == *target && claim.mac == mac).count();
        // The last one may be on its way.
        ensure!(answered + 1 >= asked, "{answered} answers to {asked} unicast questions about {target}");
        let to_all = questions(&capture, *target).into_iter().filter(|to| to.0[0] & 1 == 1).count();
        ensure!(to_all == 0, "the client had to ask everybody about {target} {to_all} times:\n{}", capture.text());
    }
    Ok(())
}

fn unicast_questions(capture: &Capture, address: IpAddr) -> usize {
    questions(capture, address).into_iter().filter(|to| to.0[0] & 1 == 0).count()
}

/// To whom the questions about an address went.
fn questions(capture: &Capture, address: IpAddr) -> Vec<Mac> {
    let (arp, ndp) = (format!("who-has {address} tell"), format!("who has {address},"));
    let text = capture.text();
    let about = text.lines().filter(|line| line.contains(&arp) || line.contains(&ndp));
    about.filter_map(|line| line.split_once(" > ")?.1.split_once(',')?.0.parse().ok()).collect()
}
