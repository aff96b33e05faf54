//! ServiceL2Status, ServiceBGPStatus and ConfigurationState (contract 1.9), as `kubectl` shows them.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::{Cluster, Face, NAMESPACE};
use lab::{Lab, eventually};
use serde_json::{Value, json};

use crate::site::{LIMIT, SEGMENT, Site, configuration, on_site, ours, service, slices};

const REPORTS: &str = "/apis/metallb.io/v1beta1/namespaces/metallb-system";

/// The objects of a kind, each checked for labels and owner.
fn reports(site: &Site, plural: &str) -> Result<Vec<Value>> {
    let list = site.cluster.get(&format!("{REPORTS}/{plural}"))?;
    Ok(list["items"].as_array().context("a list without items")?.clone())
}

/// Whose an object is: the pod in its owner references.
fn owner(object: &Value) -> &str {
    object["metadata"]["ownerReferences"][0]["name"].as_str().unwrap_or_default()
}

/// Waits until the ServiceL2Statuses are these: Service, node, interfaces.
fn wait_layer2(site: &Site, wanted: &[(&str, &str, &[&str])]) -> Result<()> {
    eventually(LIMIT, || {
        let objects = reports(site, "servicel2statuses")?;
        let mut seen = Vec::new();
        for object in &objects {
            let (status, labels) = (&object["status"], &object["metadata"]["labels"]);
            ensure!(labels["metallb.io/node"] == status["node"], "{object}");
            ensure!(labels["metallb.io/service-name"] == status["serviceName"], "{object}");
            ensure!(labels["metallb.io/service-namespace"] == "default", "{object}");
            let node = status["node"].as_str().unwrap_or_default();
            ensure!(owner(object) == format!("speaker-{node}"), "{object}");
            let interfaces: Vec<&str> =
                status["interfaces"].as_array().into_iter().flatten().filter_map(|it| it["name"].as_str()).collect();
            seen.push((status["serviceName"].as_str().unwrap_or_default(), node, interfaces));
        }
        let seen: Vec<(&str, &str, &[&str])> = seen.iter().map(|(one, two, three)| (*one, *two, &three[..])).collect();
        ensure!(seen == wanted, "{seen:?}, not {wanted:?}");
        Ok(())
    })
}

/// Waits until the ServiceBGPStatuses of a Service are these: node, peers.
fn wait_bgp(site: &Site, service: &str, wanted: &[(&str, &[&str])]) -> Result<()> {
    eventually(LIMIT, || {
        let objects = reports(site, "servicebgpstatuses")?;
        let mut seen = Vec::new();
        for object in objects.iter().filter(|object| object["status"]["serviceName"] == service) {
            let node = object["status"]["node"].as_str().unwrap_or_default();
            ensure!(owner(object) == format!("speaker-{node}"), "{object}");
            let peers: Vec<&str> =
                object["status"]["peers"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
            seen.push((node, peers));
        }
        seen.sort();
        let seen: Vec<(&str, &[&str])> = seen.iter().map(|(node, peers)| (*node, &peers[..])).collect();
        ensure!(seen == wanted, "{seen:?}, not {wanted:?}");
        Ok(())
    })
}

/// Waits until a number has not changed for a second, and returns it.
fn wait_still(number: impl Fn() -> Result<usize>) -> Result<usize> {
    let mut last = number()?;
    eventually(LIMIT, || {
        std::thread::sleep(Duration::from_secs(1));
        let before = std::mem::replace(&mut last, number()?);
        ensure!(before == last, "from {before} to {last}");
        Ok(last)
    })
}

pub(crate) fn announcements(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        site.apply(&configuration(4))?;
        let nodes = [&site.nodes[0], &site.nodes[1]];
        let both = [slices("lan", &nodes)?, slices("routed", &nodes)?].concat();
        site.apply(&[vec![service("lan", "segment"), service("routed", "routed")], both].concat())?;
        // What the Go implementation leaves behind: names of its own, and pods that are gone.
        for (node, service) in [("node1", "lan"), ("node2", "lan"), ("node1", "gone")] {
            let labels = json!({
                "metallb.io/node": node, "metallb.io/service-name": service, "metallb.io/service-namespace": "default",
            });
            let status = json!({"node": node, "serviceName": service, "serviceNamespace": "default"});
            for (kind, plural, prefix) in
                [("ServiceL2Status", "servicel2statuses", "l2-"), ("ServiceBGPStatus", "servicebgpstatuses", "bgp-")]
            {
                let object = json!({
                    "apiVersion": "metallb.io/v1beta1", "kind": kind,
                    "metadata": {"generateName": prefix, "labels": labels, "namespace": NAMESPACE},
                });
                let made = site.cluster.create(&format!("{REPORTS}/{plural}"), &object)?;
                let name = made["metadata"]["name"].as_str().context("no name")?;
                site.cluster.patch(&format!("{REPORTS}/{plural}/{name}/status"), &json!({"status": status}))?;
            }
        }
        // With memberlist addresses would move, and that would be written, when a speaker is away for more than a second.
        let speaker = |node| site.speaker_alone(node);
        let (_controller, mut speakers) =
            (site.controller()?, site.nodes.iter().map(speaker).collect::<Result<Vec<_>>>()?);
        site.wait_ingress("lan", &SEGMENT)?;

        let first = site.cluster.kubectl(&["get", "services"])?;
        let owner_of_lan = eventually(LIMIT, || {
            let objects = reports(site, "servicel2statuses")?;
            ensure!(objects.len() == 1, "{objects:?}\n{first}");
            Ok(objects[0]["status"]["node"].as_str().context("no node")?.to_owned())
        })?;
        wait_layer2(site, &[("lan", &owner_of_lan, &[])])?;
        wait_bgp(site, "routed", &[("node1", &["router-v4", "router-v6"]), ("node2", &["router-v4", "router-v6"])])?;
        wait_bgp(site, "gone", &[])?;
        wait_bgp(site, "lan", &[])?;
        let shown = site.cluster.kubectl(&["get", "servicel2statuses", "-n", NAMESPACE])?;
        ensure!(shown.contains("ALLOCATED NODE") && shown.contains(&owner_of_lan), "{shown}");

        // A restart of the speakers writes nothing. The controller's lease is renewed by the clock.
        let writes = || -> Result<Vec<String>> {
            let requests = site.cluster.audit()?;
            let written = requests.iter().filter(|it| !["get", "list", "watch"].contains(&it.verb.as_str()));
            let written = written.filter(|it| it.resource != "leases");
            Ok(written.map(|it| format!("{} {} {} by {}", it.verb, it.resource, it.name, it.user)).collect())
        };
        let count = || Ok::<_, anyhow::Error>(writes()?.len());
        let before = wait_still(count)?;
        for (number, node) in site.nodes.iter().enumerate() {
            speakers[number].kill()?;
            speakers[number] = speaker(node)?;
            site.wait_ready(node)?;
        }
        wait_layer2(site, &[("lan", &owner_of_lan, &[])])?;
        wait_still(count)?;
        let written = writes()?.split_off(before);
        let events = 3; // nodeAssigned of each announcement: lan on one node, routed on two.
        ensure!(written.len() <= events, "a restart that changed nothing wrote {written:#?}");

        // Interfaces, when they are restricted; what somebody changed is set right; what somebody deleted comes back.
        site.apply(&[ours(
            "L2Advertisement",
            "v1beta1",
            "segment",
            json!({"ipAddressPools": ["segment"], "interfaces": ["eth0", "eth7"]}),
        )])?;
        wait_layer2(site, &[("lan", &owner_of_lan, &["eth0"])])?;
        let path = format!("{REPORTS}/servicel2statuses/l2-default.lan");
        site.cluster.patch(&format!("{path}/status"), &json!({"status": {"interfaces": [{"name": "eth9"}]}}))?;
        wait_layer2(site, &[("lan", &owner_of_lan, &["eth0"])])?;
        site.cluster.delete(&path)?;
        wait_layer2(site, &[("lan", &owner_of_lan, &["eth0"])])?;

        // A peer less, a node less, a Service less.
        site.cluster.delete(&format!("/apis/metallb.io/v1beta2/namespaces/{NAMESPACE}/bgppeers/router-v6"))?;
        wait_bgp(site, "routed", &[("node1", &["router-v4"]), ("node2", &["router-v4"])])?;
        let other = if owner_of_lan == "node1" { "node2" } else { "node1" };
        let advertisement = |spec: Value| ours("BGPAdvertisement", "v1beta1", "routed", spec);
        let on_other = json!([{"matchLabels": {"kubernetes.io/hostname": other}}]);
        site.apply(&[advertisement(json!({"ipAddressPools": ["routed"], "nodeSelectors": on_other}))])?;
        wait_bgp(site, "routed", &[(other, &["router-v4"])])?;
        site.apply(&[advertisement(json!({"ipAddressPools": ["routed"], "nodeSelectors": []}))])?;
        wait_bgp(site, "routed", &[("node1", &["router-v4"]), ("node2", &["router-v4"])])?;
        let excluded = json!({"metadata": {"labels": {"node.kubernetes.io/exclude-from-external-load-balancers": ""}}});
        site.cluster.patch(&format!("/api/v1/nodes/{owner_of_lan}"), &excluded)?;
        wait_layer2(site, &[("lan", other, &["eth0"])])?;
        wait_bgp(site, "routed", &[(other, &["router-v4"])])?;
        site.cluster.kubectl(&["delete", "services", "lan", "routed"])?;
        wait_layer2(site, &[])?;
        wait_bgp(site, "routed", &[])
    })
}

/// Waits until the ConfigurationState of a part has this result, and these pieces in its summary.
fn wait_state(site: &Site, name: &str, result: &str, pieces: &[&str]) -> Result<()> {
    eventually(LIMIT, || {
        let object = site.cluster.get(&format!("{REPORTS}/configurationstates/{name}"))?;
        let status = &object["status"];
        ensure!(status["result"] == result, "{name} is not {result}: {object}");
        let summary = status["errorSummary"].as_str().unwrap_or_default();
        ensure!(pieces.iter().all(|piece| summary.contains(piece)), "{name} does not say {pieces:?}: {object}");
        let condition = &status["conditions"][0];
        let (type_, field) = if name == "controller" {
            ("poolReconcilerValid", "metallb.io/component-type")
        } else {
            ("configReconcilerValid", "metallb.io/node-name")
        };
        ensure!(condition["type"] == type_ && condition["message"].as_str() == Some(summary), "{object}");
        let wanted = if result == "Valid" { ("True", "Reconciled") } else { ("False", "ConfigurationError") };
        ensure!((condition["status"] == wanted.0) && (condition["reason"] == wanted.1), "{object}");
        ensure!(object["metadata"]["labels"][field].is_string(), "{object}");
        Ok(())
    })
}

pub(crate) fn configuration_states(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let (_controller, _speakers) = (site.controller()?, site.speakers()?);
        site.apply(&configuration(4))?;
        let parts = ["controller", "speaker-node1", "speaker-node2"];
        for part in parts {
            wait_state(site, part, "Valid", &[])?;
        }
        let object = site.cluster.get(&format!("{REPORTS}/configurationstates/speaker-node1"))?;
        ensure!(owner(&object) == Cluster::pod_of(&site.nodes[0], Face::Speaker), "{object}");
        let managers: Vec<&str> = object["metadata"]["managedFields"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(|field| field["manager"].as_str())
            .collect();
        ensure!(managers.contains(&"configReconciler"), "{managers:?}");

        // A profile that is not there concerns the speaker whose peer names it, and nobody else.
        let peer = format!("/apis/metallb.io/v1beta2/namespaces/{NAMESPACE}/bgppeers/router-v4");
        let on_node1 = json!({"spec": {
            "bfdProfile": "none", "nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": "node1"}}],
        }});
        site.cluster.patch(&peer, &on_node1)?;
        let message = ["configuration error: ", "referencing non existing bfd profile", "router-v4"];
        wait_state(site, "speaker-node1", "Invalid", &message)?;
        let others_are_well = || {
            wait_state(site, "controller", "Valid", &[])?;
            wait_state(site, "speaker-node2", "Valid", &[])
        };
        others_are_well()?;
        // All states are deleted: they come back as they were, the invalid one too.
        let deleted = site.cluster.kubectl(&["delete", "configurationstates", "--all", "-n", NAMESPACE])?;
        ensure!(parts.iter().all(|part| deleted.contains(part)), "deleted were {deleted}");
        wait_state(site, "speaker-node1", "Invalid", &message)?;
        others_are_well()?;
        // A second error beside it; each is told, and the state is good when both are mended.
        let communities = json!({"ipAddressPools": ["routed"], "communities": ["no-such-alias"]});
        site.apply(&[ours("BGPAdvertisement", "v1beta1", "routed", communities)])?;
        wait_state(site, "speaker-node1", "Invalid", &["referencing non existing bfd profile", "no-such-alias"])?;
        wait_state(site, "speaker-node2", "Invalid", &["no-such-alias"])?;
        site.apply(&[ours("BFDProfile", "v1beta1", "none", json!({}))])?;
        wait_state(site, "speaker-node1", "Invalid", &["no-such-alias"])?;
        site.apply(&[ours(
            "BGPAdvertisement",
            "v1beta1",
            "routed",
            json!({"ipAddressPools": ["routed"], "communities": []}),
        )])?;
        for part in parts {
            wait_state(site, part, "Valid", &[])?;
        }
        // At the other node, for states that change often are written more slowly.
        errors_of_one_node(site, &peer)?;
        // What is the controller's is told by the controller, too.
        site.apply(&[ours("IPAddressPool", "v1beta1", "overlapping", json!({"addresses": ["10.0.0.210/32"]}))])?;
        for part in ["controller", "speaker-node1"] {
            wait_state(site, part, "Invalid", &["overlaps with already defined CIDR"])?;
        }
        site.cluster.delete(&format!("{REPORTS}/configurationstates/controller"))?;
        wait_state(site, "controller", "Invalid", &["overlaps with already defined CIDR"])
    })
}

/// A Secret of the wrong type, and two peers with one address, both of concern to node2 alone: the other node and the
/// controller have nothing to complain about.
fn errors_of_one_node(site: &Site, peer: &str) -> Result<()> {
    let only_node2 = |result: &str, pieces: &[&str]| {
        wait_state(site, "speaker-node2", result, pieces)?;
        wait_state(site, "speaker-node1", "Valid", &[])?;
        wait_state(site, "controller", "Valid", &[])
    };
    let secret = |type_: &str| {
        json!({
            "apiVersion": "v1", "kind": "Secret", "type": type_,
            "metadata": {"name": "router", "namespace": NAMESPACE}, "stringData": {"password": "a-password"},
        })
    };
    site.apply(&[secret("Opaque")])?;
    let on_node2 = json!({"spec": {
        "passwordSecret": {"name": "router"}, "nodeSelectors": [{"matchLabels": {"kubernetes.io/hostname": "node2"}}],
    }});
    site.cluster.patch(peer, &on_node2)?;
    only_node2("Invalid", &["secret type mismatch", "kubernetes.io/basic-auth"])?;
    // The type of a Secret cannot be changed.
    site.cluster.kubectl(&["delete", "secret", "router", "-n", NAMESPACE])?;
    site.apply(&[secret("kubernetes.io/basic-auth")])?;
    only_node2("Valid", &[])?;

    // The second is for nodes of a rack where none is, until node2 moves into it.
    let mut second = crate::site::peer(0, |spec| {
        spec["nodeSelectors"] = json!([{"matchLabels": {"rack": "two"}}]);
    });
    second["metadata"]["name"] = json!("in-rack-two");
    site.apply(&[second])?;
    only_node2("Valid", &[])?;
    let rack = |name: Value| json!({"metadata": {"labels": {"rack": name}}});
    site.cluster.patch("/api/v1/nodes/node2", &rack(json!("two")))?;
    only_node2("Invalid", &["already exists", "router-v4", "in-rack-two"])?;
    site.cluster.patch("/api/v1/nodes/node2", &rack(Value::Null))?;
    only_node2("Valid", &[])
}
