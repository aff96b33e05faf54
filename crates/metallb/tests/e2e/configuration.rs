//! Manifests with errors: they are told with their place, and what is in force stays in force until they are repaired
//! (contract 4.1).

use anyhow::{Context as _, Result, ensure};
use lab::testing::Trial;
use lab::{Host, Lab};

use crate::cluster::{Cluster, ONCE, at};
use crate::edge::{Edge, OURS, THEIRS, announce_routed, put_peers};
use crate::objects::{NAMESPACE, Service};

pub(crate) fn trials() -> Vec<Trial> {
    vec![
        Trial::new("contract_4_1_a_file_with_an_error_changes_nothing_until_it_is_repaired", invalid_files),
        Trial::new("contract_4_1_an_invalid_configuration_changes_nothing_until_it_is_repaired", invalid_configuration),
    ]
}

/// A cluster with a Service on the segment and one behind a router, both reached.
struct Busy {
    cluster: Cluster,
    edge: Edge,
    client: Host,
    web: Vec<std::net::IpAddr>,
    api: Vec<std::net::IpAddr>,
    counters: std::collections::BTreeMap<std::net::IpAddr, crate::edge::SessionCounters>,
}

impl Busy {
    fn start(lab: &Lab) -> Result<Busy> {
        let mut cluster = Cluster::start(lab, &["node-a", "node-b"])?;
        let edge = Edge::frr(lab, &cluster)?;
        cluster.put("IPAddressPool", "segment", "addresses: [192.168.1.240/31, \"fc00:f853:ccd:e799::2/127\"]")?;
        cluster.put("L2Advertisement", "segment", "ipAddressPools: [segment]")?;
        announce_routed(&cluster)?;
        put_peers(&cluster, "")?;
        edge.wait_sessions(&cluster)?;
        cluster.apply(&Service::dual("web"))?;
        cluster.apply(&Service::dual("api").from("routed"))?;
        let (web, api) = (cluster.wait_addresses("web")?, cluster.wait_addresses("api")?);
        let client = cluster.client().clone();
        for target in &web {
            cluster.reach(&client, at(*target, 80))?;
        }
        for target in &api {
            edge.wait_nodes(&cluster, *target, &["node-a", "node-b"])?;
            cluster.reach(&edge.remote, at(*target, 80))?;
        }
        let counters = edge.counters()?;
        Ok(Busy { cluster, edge, client, web, api, counters })
    }

    /// Fails unless all goes on as before.
    fn goes_on(&self) -> Result<()> {
        for target in &self.web {
            self.client.ask(at(*target, 80), ONCE).with_context(|| format!("web at {target}"))?;
        }
        for target in &self.api {
            self.edge.wait_nodes(&self.cluster, *target, &["node-a", "node-b"])?;
            self.edge.remote.ask(at(*target, 80), ONCE).with_context(|| format!("api at {target}"))?;
        }
        for (service, addresses) in [("web", &self.web), ("api", &self.api)] {
            let now = self.cluster.addresses(service)?;
            ensure!(now == *addresses, "{service} has {now:?}, not {addresses:?}");
        }
        let now = self.edge.counters()?;
        ensure!(now == self.counters, "a session was touched: {now:?}, before {:?}", self.counters);
        Ok(())
    }

    /// Waits until the controller and the speaker of a node have said this.
    fn wait_told(&self, seen: Seen, pieces: &[&str]) -> Result<()> {
        self.cluster.wait_controller_log(seen.controller, pieces).context("the log of the controller")?;
        self.cluster.wait_speaker_log("node-a", seen.speaker, pieces)?;
        Ok(())
    }

    fn seen(&mut self) -> Seen {
        Seen { controller: self.cluster.controller().log().lines().count(), speaker: self.cluster.log_length("node-a") }
    }
}

/// How much had been logged at some time.
#[derive(Clone, Copy)]
struct Seen {
    controller: usize,
    speaker: usize,
}

fn invalid_files(lab: &Lab) -> Result<()> {
    let mut busy = Busy::start(lab)?;
    // Half a pool: the bracket is not closed.
    let seen = busy.seen();
    let broken = format!(
        "apiVersion: metallb.io/v1beta1\nkind: IPAddressPool\nmetadata: {{name: segment, namespace: {NAMESPACE}}}\n\
         spec:\n  addresses: [192.168.1.240/30\n  autoAssign: true\n"
    );
    busy.cluster.write("IPAddressPool-segment", &broken)?;
    busy.wait_told(
        seen,
        &["cannot use a manifest; its last good version stays in force", "IPAddressPool-segment.yaml:6:"],
    )?;
    busy.goes_on().context("a pool with a syntax error")?;
    // What was in force still gives addresses, and is announced.
    busy.cluster.apply(&Service::v4("late"))?;
    for target in busy.cluster.wait_addresses("late")? {
        busy.cluster.reach(&busy.client, at(target, 80)).context("a new Service beside a pool with a syntax error")?;
    }
    // A field that does not exist, in another file: its object is not used at all, and nothing else suffers.
    let seen = busy.seen();
    busy.cluster.put("IPAddressPool", "typo", "addreses: [192.168.1.244/31]")?;
    busy.wait_told(seen, &["IPAddressPool-typo.yaml:4:", "addreses"])?;
    // A Service with an error holds up no other one.
    let seen = busy.seen();
    let wrong = Service::v4("wrong").manifest().replace("port: 80", "port: eighty");
    busy.cluster.write("service-wrong", &wrong)?;
    busy.wait_told(seen, &["service-wrong.yaml:", "Service default/wrong"])?;
    busy.goes_on().context("a pool with an unknown field, and a Service with an error")?;
    // Repaired, and larger than before.
    busy.cluster.remove("IPAddressPool", "typo")?;
    busy.cluster.put("IPAddressPool", "segment", "addresses: [192.168.1.240/30, \"fc00:f853:ccd:e799::2/127\"]")?;
    busy.cluster.apply(&Service::v4("wrong").wants("192.168.1.243"))?;
    busy.cluster.wait_exactly("wrong", &["192.168.1.243"]).context("everything is repaired")?;
    busy.cluster.reach(&busy.client, "192.168.1.243:80".parse()?)?;
    busy.goes_on().context("everything is repaired")
}

fn invalid_configuration(lab: &Lab) -> Result<()> {
    let mut busy = Busy::start(lab)?;
    let refused = "failed to parse the configuration";
    let seen = busy.seen();
    busy.cluster.put("IPAddressPool", "wide", "addresses: [192.168.1.240-192.168.1.249]")?;
    let line = [refused, "IPAddressPool metallb-system/", "/spec/addresses/0", "overlaps with already defined CIDR"];
    busy.wait_told(seen, &line)?;
    busy.goes_on().context("a pool that overlaps another")?;
    // A valid change waits as well: there is no half of a configuration. What is in force still serves.
    busy.cluster.put("IPAddressPool", "valid", "addresses: [192.168.1.250/32], autoAssign: false")?;
    busy.cluster.apply(&Service::v4("late"))?;
    for target in busy.cluster.wait_addresses("late")? {
        busy.cluster.reach(&busy.client, at(target, 80)).context("a new Service beside an invalid configuration")?;
    }
    busy.cluster.apply(&Service::v4("waits").wants("192.168.1.250"))?;
    busy.cluster.wait_event("waits", "AllocationFailed", "192.168.1.250")?;
    busy.cluster.remove("IPAddressPool", "wide")?;
    busy.cluster.wait_exactly("waits", &["192.168.1.250"]).context("the overlap is gone")?;
    busy.goes_on().context("the overlap is gone")?;

    // What speakers alone read holds up speakers alone.
    let seen = busy.seen();
    let peer = format!("myASN: {OURS}, peerASN: {THEIRS}, peerAddress: 192.168.1.253");
    busy.cluster.put("BGPPeer", "third", &format!("{peer}, passwordSecret: {{name: nowhere}}"))?;
    let line = [refused, "BGPPeer metallb-system/third", "/spec/passwordSecret", "secret ref not found"];
    busy.cluster.wait_speaker_log("node-a", seen.speaker, &line)?;
    busy.goes_on().context("a peer with a Secret that does not exist")?;
    busy.cluster.apply(&Service::dual("more").from("routed"))?;
    for target in busy.cluster.wait_addresses("more")? {
        busy.edge.wait_nodes(&busy.cluster, target, &["node-a", "node-b"]).context("a new Service meanwhile")?;
    }
    busy.cluster.put("BGPAdvertisement", "routed", "ipAddressPools: [routed], communities: [\"64500:1\"]")?;
    // The advertisement waits for the repair, like everything that speakers read.
    let seen = busy.seen();
    busy.cluster.remove("BGPPeer", "third")?;
    busy.cluster.wait_speaker_log("node-a", seen.speaker, &["configLoaded"])?;
    let prefix = crate::edge::host_route(busy.api[0]);
    lab::eventually(crate::cluster::LIMIT, || {
        let routes = busy.edge.router.routes_to(&prefix)?;
        ensure!(routes.iter().all(|route| route.communities.len() == 1), "not the new advertisement: {routes:?}");
        Ok(())
    })?;
    busy.goes_on().context("the peer is gone")
}
