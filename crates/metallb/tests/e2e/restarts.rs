//! Processes that end and are started again: nothing moves, and what is lost comes back.

use anyhow::{Context as _, Result, ensure};
use lab::testing::Trial;
use lab::{Lab, eventually};

use crate::cluster::{Cluster, LIMIT, ONCE, address, at, v4, v6};
use crate::edge::{Edge, announce_routed, put_peers};
use crate::objects::Service;

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_10_2_a_controller_that_was_killed_moves_no_address", controller),
        Trial::new("answers_and_routes_return_with_a_speaker_that_was_killed_and_nothing_else_moves", speaker),
        Trial::new("speakers_hold_what_they_announce_while_the_controller_and_the_files_are_away", without_controller),
    ]
}

/// Two Services that have the only two addresses, and two that wait for one.
fn controller(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    cluster.put("IPAddressPool", "segment", "addresses: [192.168.1.240/31]")?;
    cluster.put("L2Advertisement", "segment", "ipAddressPools: [segment]")?;
    cluster.apply(&Service::v4("mike"))?;
    cluster.wait_exactly("mike", &["192.168.1.240"])?;
    cluster.apply(&Service::v4("november"))?;
    cluster.wait_exactly("november", &["192.168.1.241"])?;
    // By name, these two come first.
    for waiting in ["alpha", "bravo"] {
        cluster.apply(&Service::v4(waiting))?;
        cluster.wait_event(waiting, "AllocationFailed", "")?;
    }
    let client = cluster.client().clone();
    for round in 0..5 {
        let seen = cluster.controller().log().lines().count();
        if round == 0 {
            cluster.controller().stop()?;
        } else {
            cluster.controller().kill()?;
        }
        cluster.controller_begin()?;
        // It has looked at everything when it refuses those that wait.
        for waiting in ["alpha", "bravo"] {
            let refusal = ["AllocationFailed", waiting];
            cluster.wait_controller_log(seen, &refusal).with_context(|| format!("round {round}"))?;
        }
        cluster.wait_exactly("mike", &["192.168.1.240"])?;
        cluster.wait_exactly("november", &["192.168.1.241"])?;
        for waiting in ["alpha", "bravo"] {
            let addresses = cluster.addresses(waiting)?;
            ensure!(addresses.is_empty(), "round {round}: {waiting} has {addresses:?}");
        }
        cluster.reach(&client, "192.168.1.240:80".parse()?)?;
    }
    // The address that becomes free goes to one that waits.
    cluster.delete("mike")?;
    eventually(LIMIT, || {
        let got = [cluster.addresses("alpha")?, cluster.addresses("bravo")?].concat();
        ensure!(got == [address("192.168.1.240")], "alpha and bravo have {got:?}");
        Ok(())
    })?;
    Ok(())
}

fn speaker(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
    let edge = Edge::frr(lab, &cluster)?;
    cluster.announce_on_segment()?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    // node-a answers for the first, node-b for the second.
    cluster.apply(&Service::v4("web").wants("192.168.1.240"))?;
    cluster.apply(&Service::v6("other").wants("fc00:f853:ccd:e799::1"))?;
    cluster.apply(&Service::dual("api").from("routed"))?;
    let client = cluster.client().clone();
    let (web, other) = (address("192.168.1.240"), address("fc00:f853:ccd:e799::1"));
    let api = cluster.wait_addresses("api")?;
    let both = ["node-a", "node-b"];
    for target in &api {
        edge.wait_nodes(&cluster, *target, &both)?;
    }
    cluster.wait_owner(web, "node-a")?;
    cluster.wait_owner(other, "node-b")?;
    cluster.reach(&client, at(other, 80))?;
    let before = edge.counters()?;
    for peer in [v4(11), v4(12), v6(11), v6(12)] {
        ensure!(before[&peer].is_first(), "{peer}: {before:?}");
    }
    let files = ["web", "other", "api"].map(|service| cluster.status_file(service));

    cluster.speaker("node-a").kill()?;
    cluster.wait_silence(web).context("the speaker of node-a was killed")?;
    for target in &api {
        edge.wait_nodes(&cluster, *target, &["node-b"]).context("the speaker of node-a was killed")?;
    }
    cluster.wait_owner(other, "node-b")?;
    cluster.speaker_begin("node-a")?;
    cluster.wait_owner(web, "node-a").context("the speaker of node-a is back")?;
    for target in &api {
        edge.wait_nodes(&cluster, *target, &both).context("the speaker of node-a is back")?;
        cluster.reach(&edge.remote, at(*target, 80))?;
    }
    cluster.reach(&client, at(web, 80))?;
    client.ask(at(other, 80), ONCE).context("what node-b answers for")?;
    let after = edge.counters()?;
    for peer in [v4(12), v6(12)] {
        ensure!(after[&peer] == before[&peer], "the session of node-b with {peer} was touched: {after:?}");
    }
    let now = ["web", "other", "api"].map(|service| cluster.status_file(service));
    ensure!(now == files, "a status was written again: {now:?}, before {files:?}");
    Ok(())
}

fn without_controller(lab: &Lab) -> Result<()> {
    let mut cluster = Cluster::start(lab, &["node-a"])?;
    let edge = Edge::frr(lab, &cluster)?;
    cluster.announce_on_segment()?;
    announce_routed(&cluster)?;
    put_peers(&cluster, ", connectTime: 1s")?;
    edge.wait_sessions(&cluster)?;
    cluster.apply(&Service::dual("web"))?;
    cluster.apply(&Service::dual("api").from("routed"))?;
    let client = cluster.client().clone();
    let (web, api) = (cluster.wait_addresses("web")?, cluster.wait_addresses("api")?);
    for (target, from) in web.iter().map(|it| (it, &client)).chain(api.iter().map(|it| (it, &edge.remote))) {
        cluster.reach(from, at(*target, 80))?;
    }
    let before = edge.counters()?;
    cluster.controller().kill()?;
    // The whole directory is away, as a file system that is not mounted: that is no order to withdraw everything.
    let seen = cluster.log_length("node-a");
    let away = cluster.folder().with_extension("away");
    std::fs::rename(cluster.folder(), &away)?;
    cluster.wait_speaker_log("node-a", seen, &["cannot read", "No such file or directory"])?;
    for target in &web {
        cluster.wait_owner(*target, "node-a").context("the manifests are away")?;
        client.ask(at(*target, 80), ONCE)?;
    }
    for target in &api {
        edge.wait_nodes(&cluster, *target, &["node-a"]).context("the manifests are away")?;
        edge.remote.ask(at(*target, 80), ONCE)?;
    }
    std::fs::rename(&away, cluster.folder())?;
    // Changes count again.
    cluster.unready("web", &["node-a"])?;
    for target in &web {
        cluster.wait_silence(*target).context("the manifests are back, and no endpoint is ready")?;
    }
    ensure!(edge.counters()? == before, "a session was touched: {:?}, before {before:?}", edge.counters()?);
    Ok(())
}
