//! Changing over: what the Go implementation leaves in the API (contract 1.9, 2, 3, 7.7) is taken over. Every address,
//! annotation, pool and secret stays, and nothing is written where nothing differs.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::kubernetes::{AuditedRequest, NAMESPACE, User};
use lab::{Lab, Process, eventually};
use serde_json::{Value, json};

use crate::site::{LIMIT, Site, configuration, on_site, ours, service, slices};

/// How long nothing may be written.
const QUIET: Duration = Duration::from_secs(5);
/// Addresses of each family in the pool of the segment, of which [`left_behind`] uses some.
const SIZE: u8 = 8;
const IN_USE: (u8, u8) = (7, 4);

/// A Service as it was left: what it asks for, and what it has.
struct Left {
    name: &'static str,
    annotations: Value,
    spec: Value,
    ingress: &'static [&'static str],
}

/// One of each sort.
fn left_behind() -> Vec<Left> {
    let dual = json!({"ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"]});
    let single = json!({"ipFamilyPolicy": "SingleStack", "ipFamilies": ["IPv4"]});
    let of = |name, annotations, spec: &Value, ingress| Left { name, annotations, spec: spec.clone(), ingress };
    let with = |spec: &Value, field: &str, value: Value| {
        let mut spec = spec.clone();
        spec[field] = value;
        spec
    };
    vec![
        of("both", json!({"metallb.universe.tf/address-pool": "segment"}), &dual, &["10.0.0.213", "fd00::213"]),
        // Not the first address that is free.
        of("one", json!({}), &single, &["10.0.0.215"]),
        of("asked", json!({"metallb.universe.tf/loadBalancerIPs": "10.0.0.214"}), &single, &["10.0.0.214"]),
        of("asked-in-spec", json!({}), &with(&single, "loadBalancerIP", json!("10.0.0.212")), &["10.0.0.212"]),
        of(
            "asked-both",
            json!({"metallb.io/loadBalancerIPs": "fd00::216,10.0.0.216"}),
            &dual,
            &["10.0.0.216", "fd00::216"],
        ),
        of("shared-1", json!({"metallb.universe.tf/allow-shared-ip": "key"}), &dual, &["10.0.0.211", "fd00::211"]),
        of(
            "shared-2",
            json!({"metallb.io/allow-shared-ip": "key"}),
            &with(&dual, "ports", json!([{"port": 81, "targetPort": 8080, "protocol": "TCP"}])),
            &["10.0.0.211", "fd00::211"],
        ),
        // A second address was added to that of IPv6.
        of(
            "grown",
            json!({}),
            &json!({"ipFamilyPolicy": "PreferDualStack", "ipFamilies": ["IPv6", "IPv4"]}),
            &["fd00::217", "10.0.0.217"],
        ),
    ]
}

pub(crate) fn changeover(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        leave(site)?;
        let before = objects(site)?;
        // What is in the Secret of the webhooks here is no certificate, which they would replace.
        let arguments = ["--webhook-mode=disabled", "--ml-secret-name=memberlist", "--deployment=controller"];
        let (controller, speakers) = (site.controller_on(&site.manager, &arguments)?, site.speakers()?);
        site.wait_ready(&site.manager)?;
        eventually(LIMIT, || {
            ensure!(controller.log().contains("configLoaded"), "no configuration yet");
            let announces = |speaker: &Process| speaker.log().contains("serviceAnnounced");
            ensure!(speakers.iter().any(announces), "nothing is announced yet");
            Ok(())
        })?;
        wait_states(site)?;
        thread::sleep(QUIET.into());
        for (path, was) in &before {
            let is = site.cluster.get(path)?;
            let version = |object: &Value| object["metadata"]["resourceVersion"].clone();
            ensure!(version(&is) == version(was), "{path} was written: {was}, now {is}");
        }
        let written: BTreeSet<String> =
            site.cluster.audit()?.into_iter().filter(|it| !it.is_read()).map(|it| it.resource).collect();
        let of_reports = |resource: &str| {
            ["configurationstates", "servicel2statuses", "servicebgpstatuses", "events", "leases"]
                .iter()
                .any(|kind| resource.starts_with(kind))
        };
        let other: Vec<_> = written.iter().filter(|resource| !of_reports(resource)).collect();
        ensure!(other.is_empty(), "written: {other:?}");
        reports_are_ours(site)?;
        goes_on(site)
    })
}

/// Puts into the API what the Go implementation has there when it is stopped.
fn leave(site: &Site) -> Result<()> {
    site.apply(&configuration(SIZE))?;
    for left in left_behind() {
        let mut object = service(left.name, "segment");
        object["metadata"]["annotations"] = left.annotations;
        for (field, value) in left.spec.as_object().context("no spec")? {
            object["spec"][field] = value.clone();
        }
        site.apply(&[object])?;
        site.apply(&slices(left.name, &[&site.nodes[0], &site.nodes[1]])?)?;
        let ingress: Vec<Value> = left.ingress.iter().map(|ip| json!({"ip": ip})).collect();
        site.cluster.patch(
            &format!("/api/v1/namespaces/default/services/{}/status?fieldManager=controller", left.name),
            &json!({
                "metadata": {"annotations": {"metallb.io/ip-allocated-from-pool": "segment"}},
                "status": {"loadBalancer": {"ingress": ingress}},
            }),
        )?;
    }
    for (pool, used) in [("segment", IN_USE), ("routed", (0, 0))] {
        let status = json!({"status": {
            "assignedIPv4": used.0, "assignedIPv6": used.1,
            "availableIPv4": SIZE - used.0, "availableIPv6": SIZE - used.1,
        }});
        let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/ipaddresspools/{pool}/status");
        site.cluster.patch(&format!("{path}?fieldManager=controller"), &status)?;
    }
    let secret = |name: &str, data: Value| json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "namespace": NAMESPACE}, "stringData": data});
    site.apply(&[
        secret("memberlist", json!({"secretkey": "AAECAwQFBgcICQoLDA0ODw"})),
        secret("metallb-webhook-cert", json!({"ca.crt": "a", "ca.key": "b", "tls.crt": "c", "tls.key": "d"})),
    ])?;
    leave_reports(site)
}

/// Status objects with the names that the API server made up, and states of pods that are gone.
fn leave_reports(site: &Site) -> Result<()> {
    let owner =
        json!([{"apiVersion": "v1", "kind": "Pod", "name": "gone", "uid": "00000000-0000-0000-0000-000000000001"}]);
    let mut objects = Vec::new();
    for (name, labels) in [
        ("controller", json!({"metallb.io/component-type": "controller"})),
        ("speaker-node1", json!({"metallb.io/component-type": "speaker", "metallb.io/node-name": "node1"})),
    ] {
        let mut state = ours("ConfigurationState", "v1beta1", name, json!({}));
        state["metadata"]["labels"] = labels;
        objects.push(state);
    }
    for node in ["node1", "node2"] {
        let mut status = ours("ServiceL2Status", "v1beta1", &format!("l2-{node}x"), json!({}));
        status["metadata"]["labels"] = json!({
            "metallb.io/node": node, "metallb.io/service-name": "one", "metallb.io/service-namespace": "default",
        });
        objects.push(status);
    }
    for object in &mut objects {
        object["metadata"]["ownerReferences"] = owner.clone();
        let (name, kind) = (object["metadata"]["name"].clone(), object["kind"].clone());
        let is_state = kind == "ConfigurationState";
        let plural = if is_state { "configurationstates" } else { "servicel2statuses" };
        let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/{plural}");
        object.as_object_mut().context("no object")?.remove("spec");
        site.cluster.create(&path, object)?;
        let node = object["metadata"]["labels"]["metallb.io/node"].clone();
        let status = if is_state {
            json!({"result": "Valid", "conditions": [{
                "type": if name == "controller" { "poolReconcilerValid" } else { "configReconcilerValid" },
                "status": "True", "reason": "Reconciled", "message": "", "lastTransitionTime": "2026-01-01T00:00:00Z",
            }]})
        } else {
            json!({"node": node, "serviceName": "one", "serviceNamespace": "default"})
        };
        let path = format!("{path}/{}/status?fieldManager=configReconciler", name.as_str().context("no name")?);
        site.cluster.patch(&path, &json!({"status": status}))?;
    }
    Ok(())
}

/// What has to stay, by its path.
fn objects(site: &Site) -> Result<BTreeMap<String, Value>> {
    let mut paths: Vec<String> =
        left_behind().iter().map(|left| format!("/api/v1/namespaces/default/services/{}", left.name)).collect();
    for secret in ["memberlist", "metallb-webhook-cert"] {
        paths.push(format!("/api/v1/namespaces/{NAMESPACE}/secrets/{secret}"));
    }
    let kinds = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}");
    for object in ["ipaddresspools/segment", "ipaddresspools/routed", "l2advertisements/segment"] {
        paths.push(format!("{kinds}/{object}"));
    }
    paths.into_iter().map(|path| Ok((path.clone(), site.cluster.get(&path)?))).collect()
}

/// Waits until each part has said what it makes of the configuration, as the pod that it is now.
fn wait_states(site: &Site) -> Result<()> {
    eventually(LIMIT, || {
        for name in ["controller", "speaker-node1", "speaker-node2"] {
            let state = site.object("configurationstates", name)?;
            ensure!(state["status"]["result"] == "Valid", "{state}");
            let owners = state["metadata"]["ownerReferences"].as_array().context("no owner")?;
            ensure!(owners.iter().any(|owner| owner["name"] != "gone"), "{state}");
        }
        Ok(())
    })
}

/// There is one ServiceL2Status for each Service, also for the one that had two.
fn reports_are_ours(site: &Site) -> Result<()> {
    eventually(LIMIT, || {
        let path = format!("/apis/metallb.io/v1beta1/namespaces/{NAMESPACE}/servicel2statuses");
        let list = site.cluster.get(&path)?;
        let mut services: Vec<&str> = list["items"]
            .as_array()
            .context("no items")?
            .iter()
            .filter_map(|status| status["metadata"]["labels"]["metallb.io/service-name"].as_str())
            .collect();
        services.sort_unstable();
        let mut wanted: Vec<&str> = left_behind().iter().map(|left| left.name).collect();
        wanted.sort_unstable();
        ensure!(services == wanted, "{services:?}, not {wanted:?}");
        Ok(())
    })
}

/// What comes now gets what is free.
fn goes_on(site: &Site) -> Result<()> {
    site.apply(&[service("new", "segment")])?;
    site.wait_ingress("new", &["10.0.0.210", "fd00::210"])?;
    let statuses = |it: &AuditedRequest| it.resource == "services/status" && it.user == User::Controller.name();
    let written: Vec<String> = site.cluster.audit()?.into_iter().filter(statuses).map(|it| it.name).collect();
    ensure!(written == ["new"], "statuses written: {written:?}");
    Ok(())
}
