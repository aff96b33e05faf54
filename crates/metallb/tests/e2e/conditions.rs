//! The condition and the event of a Service that has no address or that nobody announces, on manifests: for each thing that
//! is missing on the way to the client, until it gets its answer.

use anyhow::{Result, ensure};
use lab::testing::Trial;
use lab::{Lab, eventually};

use crate::cluster::{Cluster, LIMIT, at};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![Trial::new("what_is_missing_is_told_at_the_service_until_it_is_there", missing)]
}

const EXCLUDED: &str = "node.kubernetes.io/exclude-from-external-load-balancers";

/// Waits until a Service shows this reason, and something of the message.
fn wait_condition(cluster: &Cluster, service: &str, reason: &str, piece: &str) -> Result<()> {
    eventually(LIMIT, || {
        let status = cluster.status_file(service);
        let wanted = format!("reason: {reason}\n");
        ensure!(status.contains(&wanted) && status.contains("type: metallb.io/Announced"), "{reason} wanted: {status}");
        // Long texts are folded, and quotes in them have a backslash.
        let flat = status.split_whitespace().collect::<Vec<_>>().join(" ").replace('\\', "");
        ensure!(flat.contains(piece), "{piece:?} wanted: {status}");
        Ok(())
    })
}

/// Waits until a Service shows no condition.
fn wait_none(cluster: &Cluster, service: &str) -> Result<()> {
    eventually(LIMIT, || {
        let status = cluster.status_file(service);
        ensure!(!status.contains("conditions"), "no condition wanted: {status}");
        ensure!(status.contains("ip: "), "its address wanted: {status}");
        Ok(())
    })
}

fn missing(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let client = cluster.client().clone();
    cluster.apply(&Service::v4("web"))?;
    wait_condition(&cluster, "web", "NoPools", "create an IPAddressPool")?;
    cluster.wait_event("web", "AllocationFailed", "hint: create an IPAddressPool")?;

    cluster.put("IPAddressPool", "segment", "addresses: [192.168.1.240-192.168.1.249]")?;
    wait_condition(&cluster, "web", "NoAdvertisement", "no advertisement selects pool \"segment\"")?;
    cluster.wait_event("web", "notAnnounced", "create an L2Advertisement or a BGPAdvertisement")?;

    let elsewhere = "nodeSelectors: [{matchLabels: {zone: c}}]";
    cluster.put("L2Advertisement", "segment", elsewhere)?;
    wait_condition(&cluster, "web", "NodeNotSelected", "node-a, node-b: no advertisement for the Service")?;
    // What is invalid is not in force, and so does not help.
    cluster.put("L2Advertisement", "segment", "nodeSelectors: [{matchExpressions: [{key: a, operator: Nor}]}]")?;
    wait_condition(&cluster, "web", "InvalidConfiguration", "configuration error: ")?;
    cluster.put("L2Advertisement", "segment", "interfaces: [eth9]")?;
    wait_condition(&cluster, "web", "SpeakerIdle", "an interface may be missing")?;

    cluster.put("L2Advertisement", "segment", "")?;
    wait_none(&cluster, "web")?;
    let target = cluster.wait_addresses("web")?[0];
    cluster.reach(&client, at(target, 80))?;

    cluster.label("node-a", EXCLUDED, "")?;
    cluster.label("node-b", EXCLUDED, "")?;
    wait_condition(&cluster, "web", "ExcludedByLabel", "node-a, node-b: the node is labelled to be excluded")?;
    cluster.unlabel("node-b", EXCLUDED)?;
    wait_none(&cluster, "web")?;

    cluster.unready("web", &["node-a", "node-b"])?;
    wait_condition(&cluster, "web", "NoEndpoints", "no backend can take traffic")?;
    cluster.unready("web", &[])?;
    wait_none(&cluster, "web")?;
    cluster.reach(&client, at(target, 80))?;

    // BGP is another way, with gates of its own.
    cluster.remove("L2Advertisement", "segment")?;
    cluster.put("BGPAdvertisement", "segment", "")?;
    wait_condition(&cluster, "web", "NoPeer", "create a BGPPeer")?;
    // A peer is enough: whether it answers is shown elsewhere.
    cluster.put("BGPPeer", "router", "myASN: 64512, peerASN: 64500, peerAddress: 192.168.1.254")?;
    wait_none(&cluster, "web")?;

    cluster.apply(&Service::v4("well"))?;
    wait_none(&cluster, "well")?;
    quiet_restart(&mut cluster)
}

/// A restart of the controller and hand-overs tell nothing, and what was well all the time was never told anything.
fn quiet_restart(cluster: &mut Cluster) -> Result<()> {
    let told = |cluster: &Cluster| -> Result<usize> {
        Ok(cluster.events()?.iter().filter(|event| event["reason"] == "notAnnounced").count())
    };
    let before = told(cluster)?;
    cluster.remove("BGPAdvertisement", "segment")?;
    cluster.put("L2Advertisement", "segment", "")?;
    wait_none(cluster, "web")?;
    cluster.unlabel("node-a", EXCLUDED)?;
    for excluded in ["node-a", "node-b"] {
        cluster.label(excluded, EXCLUDED, "")?;
        let heir = if excluded == "node-a" { "node-b" } else { "node-a" };
        let target = cluster.wait_addresses("web")?[0];
        cluster.wait_owner(target, heir)?;
        cluster.unlabel(excluded, EXCLUDED)?;
    }
    cluster.controller().kill()?;
    cluster.controller_begin()?;
    // Long enough for everything that might be told.
    cluster.apply(&Service::v4("late").from("none"))?;
    wait_condition_of_pending(cluster, "late")?;
    wait_none(cluster, "web")?;
    wait_none(cluster, "well")?;
    let after = told(cluster)?;
    ensure!(after == before, "{} events too many: {:?}", after.saturating_sub(before), cluster.events()?);
    let about_well = cluster.events()?.iter().filter(|event| event["name"] == "well").count();
    let announced = cluster.wait_event("well", "nodeAssigned", "");
    ensure!(about_well > 0 && announced.is_ok(), "events about it: {about_well}");
    Ok(())
}

fn wait_condition_of_pending(cluster: &Cluster, service: &str) -> Result<()> {
    wait_condition(cluster, service, "UnknownPool", "unknown pool \"none\"")?;
    let once = cluster.events()?.iter().filter(|event| event["name"] == service).count();
    ensure!(once == 1, "{once} events about {service}: AllocationFailed has told it");
    Ok(())
}
