//! Interfaces of a node: which of them answer, and what happens when links, addresses and interfaces change (contract 5.3,
//! 5.6).

use std::fs;
use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use kit::Mac;
use lab::capture::Capture;
use lab::testing::Trial;
use lab::{Host, Lab, Switch, eventually};

use crate::cluster::{Cluster, LIMIT, SEGMENT_POOL, Setup, address, ask_quickly, at, resolve, wait_mac, wait_nobody};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_5_3_the_interfaces_of_the_advertisements_answer_and_no_others", selector),
        Trial::new("contract_5_3_excluded_interfaces_never_answer", exclusion),
        Trial::new("contract_12_1_d15_a_link_that_is_back_is_told_to_the_segment", links),
        Trial::new("contract_12_1_d14_a_new_mac_address_is_told_to_the_segment", mac_change),
        Trial::new("settings_of_the_kernel_that_are_in_the_way_are_told_once_and_shown_until_they_are_right", checks),
    ]
}

const FOUR: &str = "192.168.1.240";
const SIX: &str = "fc00:f853:ccd:e799::1";

/// Gives every node one more interface, on a segment of its own that a second client is on.
fn second_segment(lab: &Lab, cluster: &Cluster, interface: &str) -> Result<(Switch, Host)> {
    let (switch, client) = (lab.switch("segment2")?, lab.host("client2")?);
    client.plug("eth0", &switch)?.address("192.168.1.201/24")?.address("fc00:f853:ccd:e799::201/64")?;
    ask_quickly(&client, "eth0")?;
    for node in cluster.node_names() {
        let host = cluster.host(node);
        host.plug(interface, &switch)?;
        // The way back to the second client: its network is that of the other segment.
        for way in ["192.168.1.201/32", "fc00:f853:ccd:e799::201/128"] {
            host.output_ok("ip", &["route", "add", way, "dev", interface])?;
        }
    }
    Ok((switch, client))
}

fn selector(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let (switch, client2) = second_segment(lab, &cluster, "eth1")?;
    let client = cluster.client().clone();
    let owner = cluster.host("node-a").clone();
    let (eth0, eth1) = (owner.mac("eth0")?, owner.mac("eth1")?);
    let addresses = [address(FOUR), address(SIX)];
    cluster.put("IPAddressPool", "segment", SEGMENT_POOL)?;
    cluster.apply(&Service::dual("web").wants(&format!("{FOUR},{SIX}")))?;
    let wait = |when: &'static str, first: Option<Mac>, second: Option<Mac>| {
        for target in addresses {
            for (client, wanted) in [(&client, first), (&client2, second)] {
                match wanted {
                    Some(mac) => wait_mac(client, target, mac),
                    None => wait_nobody(client, target),
                }
                .with_context(|| format!("{when}: {} asks for {target}", client.name()))?;
            }
        }
        Ok::<_, anyhow::Error>(())
    };
    cluster.put("L2Advertisement", "one", "ipAddressPools: [segment]")?;
    wait("all interfaces", Some(eth0), Some(eth1))?;
    for (client, target) in [&client, &client2].into_iter().flat_map(|client| addresses.map(|it| (client, it))) {
        cluster.reach(client, at(target, 80))?;
    }
    cluster.put("L2Advertisement", "one", "ipAddressPools: [segment], interfaces: [eth1]")?;
    wait("eth1 alone", None, Some(eth1))?;
    cluster.put("L2Advertisement", "one", "ipAddressPools: [segment], interfaces: [eth0]")?;
    wait("eth0 alone", Some(eth0), None)?;
    cluster.put("L2Advertisement", "two", "ipAddressPools: [segment], interfaces: [eth1]")?;
    wait("eth0 by one advertisement, eth1 by another", Some(eth0), Some(eth1))?;
    cluster.remove("L2Advertisement", "two")?;

    // D11: a name that the node does not have withdraws the address, and is told.
    cluster.put("L2Advertisement", "one", "ipAddressPools: [segment], interfaces: [eth2]")?;
    wait("an interface that does not exist", None, None)?;
    let message = cluster.wait_event("web", "announceFailed", "eth2")?;
    ensure!(message.contains("node-a") && message.contains("layer2"), "{message:?}");
    cluster.wait_speaker_log("node-a", 0, &["serviceWithdrawn", "noSuchInterface"])?;
    // An interface that comes to have the name announces at once.
    owner.plug("eth2", &switch)?;
    wait("the interface exists now", None, Some(owner.mac("eth2")?))?;
    owner.remove_interface("eth2")?;
    wait("the interface is gone again", None, None)?;
    cluster.put("L2Advertisement", "one", "ipAddressPools: [segment]")?;
    wait("all interfaces again", Some(eth0), Some(eth1))?;
    Ok(())
}

fn exclusion(lab: &Lab) -> Result<()> {
    let file = lab.folder().join("excludel2.yaml");
    fs::write(&file, "announcedInterfacesToExclude: [\"^eth[1-9]$\"]\n")?;
    let mut setup = Setup::nodes(&["node-a"]);
    setup.speaker = vec!["--exclude-interfaces-file".to_owned(), file.display().to_string()];
    let mut cluster = Cluster::start_with(lab, setup)?;
    let (_switch, client2) = second_segment(lab, &cluster, "eth1")?;
    cluster.announce_on_segment()?;
    cluster.apply(&Service::dual("web"))?;
    for target in cluster.wait_addresses("web")? {
        cluster.wait_owner(target, "node-a")?;
        wait_nobody(&client2, target).context("eth1 is excluded")?;
    }
    // To an advertisement, an interface that never answers is one that the node does not have.
    cluster.put("L2Advertisement", "segment", "ipAddressPools: [segment], interfaces: [eth1]")?;
    cluster.wait_event("web", "announceFailed", "eth1")?;
    Ok(())
}

/// How often each form of an unsolicited announcement of these two addresses from this MAC address was seen: an ARP
/// request and an ARP reply to all for the first, a Neighbor Advertisement to all nodes for the second.
fn told(capture: &Capture, four: IpAddr, six: IpAddr, mac: Mac) -> [usize; 3] {
    let text = capture.text();
    let count = |pieces: &[String]| text.lines().filter(|line| pieces.iter().all(|piece| line.contains(piece))).count();
    let from = |to: &str| format!("{mac} > {to},");
    [
        count(&[from("ff:ff:ff:ff:ff:ff"), format!("Request who-has {four} "), format!("tell {four},")]),
        count(&[from("ff:ff:ff:ff:ff:ff"), format!("Reply {four} is-at {mac}")]),
        count(&[from("33:33:00:00:00:01"), "neighbor advertisement".to_owned(), format!("tgt is {six},")]),
    ]
}

/// Waits until each form was seen more often than before.
fn wait_told(capture: &Capture, [four, six]: [IpAddr; 2], mac: Mac, before: [usize; 3]) -> Result<()> {
    eventually(LIMIT, || {
        let now = told(capture, four, six, mac);
        let each = now.iter().zip(before).all(|(now, before)| *now > before);
        ensure!(each, "ARP requests, replies and advertisements of {mac}: {now:?}, before {before:?}");
        Ok(())
    })
}

fn links(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let client = cluster.client().clone();
    let capture = Capture::start(&client, "eth0", "arp or icmp6")?;
    cluster.announce_on_segment()?;
    cluster.apply(&Service::dual("web").wants(&format!("{FOUR},{SIX}")))?;
    let addresses = [address(FOUR), address(SIX)];
    let owner = cluster.host("node-a").clone();
    let mac = owner.mac("eth0")?;
    wait_told(&capture, addresses, mac, [0; 3]).context("the addresses are new")?;
    for target in addresses {
        cluster.reach(&client, at(target, 80))?;
    }
    // The cable is out: nothing of the node comes through, so what is counted now is all from before.
    owner.unplug("eth0")?;
    for target in addresses {
        cluster.wait_silence(target).context("the cable is out")?;
    }
    let before = told(&capture, addresses[0], addresses[1], mac);
    owner.replug("eth0")?;
    wait_told(&capture, addresses, mac, before).context("the cable is back")?;
    for target in addresses {
        cluster.wait_owner(target, "node-a").context("the cable is back")?;
        cluster.reach(&client, at(target, 80))?;
    }
    // Down and up by the administrator: IPv6 loses its addresses, and the link-local one comes back by itself.
    owner.down("eth0")?;
    for target in addresses {
        cluster.wait_silence(target).context("the interface is down")?;
    }
    cluster.wait_speaker_log("node-a", 0, &["announced addresses are answered on no interface", "eth0: it is down"])?;
    let before = told(&capture, addresses[0], addresses[1], mac);
    owner.up("eth0")?;
    wait_told(&capture, addresses, mac, before).context("the interface is up")?;
    for target in addresses {
        cluster.wait_owner(target, "node-a").context("the interface is up")?;
    }
    Ok(())
}

fn mac_change(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let client = cluster.client().clone();
    cluster.announce_on_segment()?;
    cluster.apply(&Service::dual("web").wants(&format!("{FOUR},{SIX}")))?;
    let addresses = [address(FOUR), address(SIX)];
    for target in addresses {
        cluster.reach(&client, at(target, 80))?;
    }
    let capture = Capture::start(&client, "eth0", "arp or icmp6")?;
    let new: Mac = "02:00:00:00:aa:aa".parse().unwrap();
    cluster.host("node-a").set_mac("eth0", new)?;
    wait_told(&capture, addresses, new, [0; 3])?;
    for target in addresses {
        // The client is told: it does not have to find out.
        eventually(LIMIT, || {
            let held = client.neighbour_mac(target)?;
            ensure!(held == Some(new), "the client holds {held:?} for {target}");
            Ok(())
        })?;
        cluster.reach(&client, at(target, 80))?;
        ensure!(resolve(&client, target)? == Some(new), "another answers for {target}");
    }
    Ok(())
}

/// The checks that a node shows as failed, with their interfaces.
fn failed_checks(node: &Host) -> Result<Vec<String>> {
    let metrics = node.output_ok("curl", &["-sk", "https://127.0.0.1:9120/metrics"])?;
    let series = metrics.lines().filter_map(|line| line.strip_prefix("metallb_layer2_host_check_failed"));
    Ok(series.filter(|series| series.starts_with('{')).map(str::to_owned).collect())
}

fn wait_failed_checks(node: &Host, wanted: &[&str]) -> Result<()> {
    eventually(LIMIT, || {
        let failed = failed_checks(node)?;
        ensure!(failed == wanted, "{failed:?} fail, not {wanted:?}");
        Ok(())
    })
}

fn checks(lab: &Lab) -> Result<()> {
    const ARP: &str = r#"{check="noStrictARP",interface="eth0"} 1"#;
    const ARP1: &str = r#"{check="noStrictARP",interface="eth1"} 1"#;
    const WAY: &str = r#"{check="strictReversePath",interface="eth1"} 1"#;
    const IPV6: &str = r#"{check="ipv6Disabled",interface="eth1"} 1"#;
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    second_segment(lab, &cluster, "eth1")?;
    let node = cluster.host("node-a").clone();
    for setting in ["all/rp_filter", "eth0/rp_filter", "eth1/rp_filter", "all/arp_ignore", "all/arp_announce"] {
        node.sysctl(&format!("net/ipv4/conf/{setting}"), "0")?;
    }
    cluster.announce_on_segment()?;
    cluster.apply(&Service::dual("web").wants(&format!("{FOUR},{SIX}")))?;
    cluster.wait_owner(address(FOUR), "node-a")?;
    wait_failed_checks(&node, &[])?;
    // kube-proxy in IPVS mode has a dummy interface of this name, which not every kernel can make; what counts is the name.
    node.output_ok("ip", &["link", "add", "kube-ipvs0", "type", "bridge"])?;
    let line = cluster.wait_speaker_log("node-a", 0, &["hostCheck", "noStrictARP", "eth0"])?;
    ensure!(line.contains("strictARP: true"), "{line}");
    wait_failed_checks(&node, &[ARP, ARP1])?;
    node.sysctl("net/ipv4/conf/all/arp_ignore", "1")?;
    wait_failed_checks(&node, &[ARP, ARP1])?;
    node.sysctl("net/ipv4/conf/all/arp_announce", "2")?;
    wait_failed_checks(&node, &[])?;
    // Answers to clients behind the router leave by eth0.
    node.sysctl("net/ipv4/conf/eth1/rp_filter", "1")?;
    node.sysctl("net/ipv4/conf/eth0/rp_filter", "1")?;
    node.set_route("0.0.0.0/0", &["192.168.1.254".parse()?])?;
    let line = cluster.wait_speaker_log("node-a", 0, &["hostCheck", "strictReversePath", "eth1"])?;
    ensure!(line.contains("net.ipv4.conf.eth1.rp_filter"), "{line}");
    wait_failed_checks(&node, &[WAY])?;
    node.sysctl("net/ipv4/conf/eth1/rp_filter", "2")?;
    wait_failed_checks(&node, &[])?;
    node.sysctl("net/ipv6/conf/eth1/disable_ipv6", "1")?;
    cluster.wait_speaker_log("node-a", 0, &["hostCheck", "ipv6Disabled", "eth1"])?;
    wait_failed_checks(&node, &[IPV6])?;
    // Each was logged once for each interface, however often it was looked at.
    let log = cluster.speaker("node-a").log();
    let told = log.lines().filter(|line| line.contains("hostCheck")).count();
    ensure!(told == 4, "{told} lines");
    Ok(())
}
