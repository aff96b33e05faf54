//! The condition and the event of a Service that has no address or that nobody announces, as `kubectl` shows them.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use lab::{Lab, eventually};
use serde_json::{Value, json};

use crate::site::{LIMIT, SEGMENT, Site, configuration, on_bare_site, on_site, ours, service, slices};

const L2_ADVERTISEMENT: &str = "/apis/metallb.io/v1beta1/namespaces/metallb-system/l2advertisements/segment";

/// The condition of another writer, which stays whatever happens to ours.
const FOREIGN: &str = "example.com/Audited";

/// Our conditions of a Service.
fn conditions(site: &Site, service: &str) -> Result<Vec<Value>> {
    let object = site.object("services", service)?;
    let all = object["status"]["conditions"].as_array().cloned().unwrap_or_default();
    Ok(all.into_iter().filter(|condition| condition["type"] != FOREIGN).collect())
}

/// Waits until a Service shows one condition, with this reason and something of the message.
fn wait_condition(site: &Site, service: &str, reason: &str, piece: &str) -> Result<Value> {
    eventually(LIMIT, || {
        let conditions = conditions(site, service)?;
        let [condition] = conditions.as_slice() else { anyhow::bail!("{reason} wanted: {conditions:?}") };
        let is_false = condition["type"] == "metallb.io/Announced" && condition["status"] == "False";
        ensure!(is_false && condition["reason"] == reason, "{reason} wanted: {condition}");
        let message = condition["message"].as_str().unwrap_or_default();
        ensure!(message.contains(piece), "{piece:?} wanted: {condition}");
        Ok(condition.clone())
    })
}

fn wait_none(site: &Site, service: &str) -> Result<()> {
    eventually(LIMIT, || {
        let conditions = conditions(site, service)?;
        ensure!(conditions.is_empty(), "no condition wanted: {conditions:?}");
        Ok(())
    })
}

/// How often the status of a Service was written.
fn writes(site: &Site, service: &str) -> Result<usize> {
    let is_write = |it: &&lab::kubernetes::AuditedRequest| {
        it.verb == "patch" && it.resource == "services/status" && it.name == service && it.code == 200
    };
    Ok(site.cluster.audit()?.iter().filter(is_write).count())
}

pub(crate) fn conditions_of_services(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let nodes = [&site.nodes[0], &site.nodes[1]];
        site.apply(&configuration(4))?;
        site.apply(&[vec![service("lan", "segment")], slices("lan", &nodes)?].concat())?;
        let foreign = json!({
            "type": FOREIGN, "status": "True", "reason": "Seen", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
        });
        let path = "/api/v1/namespaces/default/services/lan";
        site.cluster.patch(&format!("{path}/status"), &json!({"status": {"conditions": [foreign]}}))?;

        // No speaker runs anywhere.
        let _controller = site.controller()?;
        site.wait_ingress("lan", &SEGMENT)?;
        wait_condition(site, "lan", "NoSpeaker", "node1, node2 could announce it, but no speaker runs there")?;
        let described = eventually(LIMIT, || {
            let text = site.cluster.kubectl(&["describe", "service", "lan"])?;
            ensure!(text.contains("notAnnounced"), "{text}");
            Ok(text)
        })?;
        eprintln!("kubectl describe service lan:\n{described}");
        let _speakers = site.speakers()?;
        wait_none(site, "lan")?;
        site.wait_ingress("lan", &SEGMENT)?;

        // The first gate that fails, while the time of the condition is that of its status.
        site.cluster.delete(L2_ADVERTISEMENT)?;
        let before = wait_condition(site, "lan", "NoAdvertisement", "create an L2Advertisement or a BGPAdvertisement")?;
        let selectors = json!([{"matchLabels": {"kubernetes.io/hostname": "node9"}}]);
        let advertisement = |spec: Value| ours("L2Advertisement", "v1beta1", "segment", spec);
        site.apply(&[advertisement(json!({"nodeSelectors": selectors}))])?;
        let after = wait_condition(site, "lan", "NodeNotSelected", "node1, node2: ")?;
        ensure!(before["lastTransitionTime"] == after["lastTransitionTime"], "{before} {after}");
        site.apply(&[advertisement(json!({"nodeSelectors": []}))])?;
        wait_none(site, "lan")?;

        // Without an address: told by AllocationFailed, and healed with a new request.
        site.apply(&[vec![service("wrong", "none")], slices("wrong", &nodes)?].concat())?;
        let condition = wait_condition(site, "wrong", "UnknownPool", "unknown pool \"none\"")?;
        let reasons: Vec<String> = site.events("wrong")?.into_iter().map(|(reason, ..)| reason).collect();
        ensure!(reasons == ["AllocationFailed"], "{reasons:?}");
        eprintln!("measured: {condition}");
        site.apply(&[service("wrong", "segment")])?;
        wait_none(site, "wrong")?;

        // At rest nothing is written, and a Service that is none of ours any more loses it.
        site.apply(&[service("wrong", "none")])?;
        site.cluster.delete(L2_ADVERTISEMENT)?;
        wait_condition(site, "lan", "NoAdvertisement", "")?;
        let (lan, wrong) = (writes(site, "lan")?, writes(site, "wrong")?);
        site.apply(&[service("late", "nowhere")])?;
        wait_condition(site, "late", "UnknownPool", "")?;
        site.cluster.patch(path, &json!({"metadata": {"labels": {"a": "b"}}}))?;
        site.apply(&[service("later", "nowhere")])?;
        wait_condition(site, "later", "UnknownPool", "")?;
        ensure!((writes(site, "lan")?, writes(site, "wrong")?) == (lan, wrong), "written at rest");
        site.cluster.patch(path, &json!({"spec": {"type": "ClusterIP"}}))?;
        wait_none(site, "lan")?;
        let object = site.object("services", "lan")?;
        ensure!(object["status"]["conditions"] == json!([foreign]), "the condition of another writer: {object}");
        successor(site)
    })
}

/// A condition that is meant for a Service never reaches its successor: the API server refuses it for good.
fn successor(site: &Site) -> Result<()> {
    let condition = json!({
        "type": "metallb.io/Announced", "status": "False", "reason": "NoPeer", "message": "m",
        "lastTransitionTime": "2026-01-01T00:00:00Z",
    });
    let applied = json!({
        "apiVersion": "v1", "kind": "Service",
        "metadata": {"namespace": "default", "name": "lan", "uid": "00000000-0000-0000-0000-000000000000"},
        "status": {"conditions": [condition]},
    });
    let file = site.cluster.control().folder().join("successor.json");
    fs::write(&file, applied.to_string())?;
    let file = file.to_str().context("a path that is no text")?;
    let apply = ["apply", "--server-side", "--subresource=status", "--field-manager=metallb-conditions", "-f", file];
    let output = site.cluster.kubectl_any(&apply)?;
    ensure!(!output.status.success(), "applied to another Service: {}", output.stdout);
    eprintln!("measured: to a successor it says {}", output.stderr);
    // So it says 422. A conflict, 409, would be tried again.
    ensure!(output.stderr.contains("is invalid: metadata.uid: "), "{}", output.stderr);
    Ok(())
}

/// Of two controllers one tells, and who takes over writes nothing that is told already.
pub(crate) fn takeover(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let nodes = [&site.nodes[0], &site.nodes[1]];
        let mut leader = site.controller()?;
        site.wait_ready(&site.manager)?;
        let heir = site.second_controller()?;
        site.wait_ready(&site.client)?;
        let _speakers = site.speakers()?;
        site.apply(&configuration(4))?;
        site.cluster.delete(L2_ADVERTISEMENT)?;
        site.apply(&[vec![service("lan", "segment"), service("wrong", "none")], slices("lan", &nodes)?].concat())?;
        wait_condition(site, "lan", "NoAdvertisement", "")?;
        let advertisement = ours("L2Advertisement", "v1beta1", "segment", json!({"ipAddressPools": ["segment"]}));
        site.apply(std::slice::from_ref(&advertisement))?;
        wait_none(site, "lan")?;
        site.cluster.delete(L2_ADVERTISEMENT)?;
        wait_condition(site, "lan", "NoAdvertisement", "")?;
        wait_condition(site, "wrong", "UnknownPool", "")?;
        let has_said = |heir: &lab::Process| heir.log().lines().any(|line| line.contains("\"event\":\"condition"));
        ensure!(has_said(&leader) && !has_said(&heir), "who stands by speaks: {}", heir.log());

        let told = || -> Result<_> {
            let events: Vec<_> =
                site.events("lan")?.into_iter().filter(|(reason, ..)| reason == "notAnnounced").collect();
            Ok((writes(site, "lan")?, writes(site, "wrong")?, events))
        };
        let before = told()?;
        leader.stop()?;
        // Told after all that could be told of the others.
        site.apply(&[service("late", "nowhere")])?;
        wait_condition(site, "late", "UnknownPool", "")?;
        ensure!(told()? == before, "told again: {before:?}, then {:?}", told()?);
        ensure!(has_said(&heir), "{}", heir.log());
        site.apply(&[advertisement])?;
        wait_none(site, "lan")
    })
}

/// With the rights of an older chart, nothing else is disturbed: addresses are given, and who gets none is told why.
pub(crate) fn fewer_rights(lab: &Lab) -> Result<()> {
    on_bare_site(lab, |site| {
        site.grant()?;
        site.define()?;
        let role = "/apis/rbac.authorization.k8s.io/v1/clusterroles/metallb-system:controller";
        let rules = site.cluster.get(role)?["rules"].as_array().cloned().context("a role without rules")?;
        let kept: Vec<Value> =
            rules.into_iter().filter(|rule| rule["resources"] != json!(["endpointslices"])).collect();
        site.cluster.patch(role, &json!({"rules": kept}))?;
        site.apply(&configuration(4))?;
        site.apply(&[service("lan", "segment"), service("wrong", "none")])?;
        let controller = site.controller()?;
        site.wait_ready(&site.manager)?;
        site.wait_ingress("lan", &SEGMENT)?;
        wait_condition(site, "wrong", "UnknownPool", "unknown pool \"none\"")?;
        ensure!(conditions(site, "lan")?.is_empty(), "nobody can know why lan is not announced");
        let warnings = || controller.log().lines().filter(|line| line.contains("cannot list resource")).count();
        ensure!(warnings() == 1, "{} warnings: {}", warnings(), controller.log());
        let denied = site.cluster.audit()?.into_iter().filter(|it| it.code == 403);
        let others: Vec<_> = denied.filter(|it| it.resource != "endpointslices").collect();
        ensure!(others.is_empty(), "{others:?}");
        // When the right comes, so does what it is for.
        site.cluster.apply(&crate::manifest::rights())?;
        wait_condition(site, "lan", "NoEndpoints", "no backend can take traffic")?;
        Ok(())
    })
}
