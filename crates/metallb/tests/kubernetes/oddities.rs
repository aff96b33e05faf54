//! Objects that cannot be read or make no sense, from before the definitions were strict, or by other writers: they are
//! told about, and nobody else is held up.

use std::process::Command;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use ipnet::IpNet;
use lab::kubernetes::NAMESPACE;
use lab::router::Router;
use lab::{Lab, Process, eventually};
use netio::clock::Clock;
use serde_json::{Value, json};

use crate::site::{LIMIT, ROUTED, SEGMENT, Site, configuration, on_site, ours, pool, service, slices};

/// The pool that odd Services ask for.
const ODD: [&str; 2] = ["203.0.113.1", "2001:db8:9::1"];
const SERVICES: &str = "/api/v1/namespaces/default/services";

pub(crate) fn oddities(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        // What is stored stays as it was written when the definition becomes strict.
        loosen(site)?;
        site.apply(&[
            ours("BGPPeer", "v1beta2", "a-junk", json!({"myASN": "many", "peerAddress": 7, "nodeSelectors": "all"})),
            ours("IPAddressPool", "v1beta1", "a-junk", json!({"addresses": "203.0.113.0/24"})),
            ours(
                "IPAddressPool",
                "v1beta1",
                "later",
                json!({
                    "addresses": ["203.0.113.128/25"], "autoAssign": false, "flavour": {"of": "a later version"},
                }),
            ),
        ])?;
        site.define()?;
        odd_objects(site)?;

        let router = site.frr(None)?;
        let (controller, speakers) = (site.controller()?, site.speakers()?);
        let nodes = [&site.nodes[0], &site.nodes[1]];
        let mut objects = configuration(4);
        objects.push(pool("odd", ODD, 9));
        objects.push(ours("BGPAdvertisement", "v1beta1", "odd", json!({"ipAddressPools": ["odd"]})));
        objects.extend(slices("a-hostname", &nodes)?);
        objects.extend([service("lan", "segment"), service("routed", "routed")]);
        objects.extend([slices("lan", &nodes)?, slices("routed", &nodes)?].concat());
        site.apply(&objects)?;
        site.wait_ingress("lan", &SEGMENT)?;
        site.wait_ingress("routed", &ROUTED)?;
        site.wait_routes(&router, &[0, 1])?;
        wait_said(&controller, &["cannot read an object", "IPAddressPool", "metallb-system/a-junk"])?;
        for speaker in &speakers {
            wait_said(speaker, &["cannot read an object", "BGPPeer", "metallb-system/a-junk"])?;
        }
        judged(site, &router)?;
        overwritten(site)?;
        insisted(site)?;
        successors(site)?;

        // A good object becomes unreadable: what was known of it stays in force.
        let sessions = router.sessions()?;
        loosen(site)?;
        let path = format!("/apis/metallb.io/v1beta2/namespaces/{NAMESPACE}/bgppeers/router-v4");
        site.cluster.patch(&path, &json!({"spec": {"peerPort": "none"}}))?;
        for speaker in &speakers {
            wait_said(speaker, &["cannot read an object", "BGPPeer", "metallb-system/router-v4"])?;
        }
        site.apply(&[vec![service("more", "routed")], slices("more", &nodes)?].concat())?;
        eventually(LIMIT, || {
            let addresses = site.ingress("more")?;
            ensure!(addresses.len() == 2, "Service more has {addresses:?}");
            for address in addresses {
                let routes = router.routes_to(&IpNet::from(address).to_string())?;
                ensure!(routes.len() == 2, "{routes:?}");
            }
            Ok(())
        })?;
        ensure!(router.sessions()? == sessions, "{:?}, then {:?}", sessions, router.sessions());
        Ok(())
    })
}

/// Definitions of BGPPeer and IPAddressPool that take anything.
fn loosen(site: &Site) -> Result<()> {
    let output = Command::new(env!("CARGO_BIN_EXE_metallb")).args(["crds", "--output", "json"]).output()?;
    let mut list: Value = serde_json::from_slice(&output.stdout)?;
    for definition in list["items"].as_array_mut().context("no items")? {
        for version in definition["spec"]["versions"].as_array_mut().context("no versions")? {
            let anything = json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true});
            version["schema"]["openAPIV3Schema"] = anything;
        }
    }
    site.cluster.apply(&list.to_string())?;
    // The API server takes a moment to follow.
    eventually(LIMIT, || {
        let probe =
            json!({"apiVersion": "metallb.io/v1beta2", "kind": "BGPPeer", "metadata": {"name": "x"}, "spec": 1});
        let path = format!("/apis/metallb.io/v1beta2/namespaces/{NAMESPACE}/bgppeers?dryRun=All");
        site.cluster.create(&path, &probe).map(drop)
    })
}

/// Services, slices and nodes that are of no use to us, or to anybody.
fn odd_objects(site: &Site) -> Result<()> {
    let odd = |name: &str, edit: &dyn Fn(&mut Value)| {
        let mut service = service(name, "odd");
        edit(&mut service);
        service
    };
    site.apply(&[
        odd("a-class-of-others", &|service| service["spec"]["loadBalancerClass"] = json!("others.example/lb")),
        odd("a-external", &|service| {
            service["spec"] = json!({"type": "ExternalName", "externalName": "web.example"});
        }),
        odd("a-garbage", &|service| {
            service["metadata"]["annotations"] = json!({"metallb.io/loadBalancerIPs": "not, an, address"});
        }),
        odd("a-hostname", &|_| {}),
        odd("a-single", &|service| service["spec"]["ipFamilyPolicy"] = json!("SingleStack")),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "FQDN",
            "metadata": {"name": "a-name", "namespace": "default", "labels": {"kubernetes.io/service-name": "lan"}},
            "endpoints": [{"addresses": ["web.example"]}], "ports": [],
        }),
        json!({
            "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
            "metadata": {"name": "a-stray", "namespace": "default"}, "endpoints": [], "ports": [],
        }),
        json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "a-bare-node"}}),
    ])?;
    // Fields that this API server does not know, from manifests of a later one.
    let file = site.cluster.control().folder().join("later.json");
    let mut later = service("a-later", "odd");
    later["spec"]["somethingOfALaterVersion"] = json!({"a": [1]});
    std::fs::write(&file, later.to_string())?;
    site.cluster.kubectl(&["apply", "--validate=false", "-f", file.to_str().context("a path")?])?;
    let status = json!({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}});
    for name in ["a-class-of-others", "a-hostname"] {
        site.cluster.patch(&format!("{SERVICES}/{name}/status"), &status)?;
    }
    Ok(())
}

/// What became of the odd Services.
fn judged(site: &Site, router: &Router) -> Result<()> {
    let others = site.object("services", "a-class-of-others")?;
    ensure!(others["status"]["loadBalancer"]["ingress"] == json!([{"hostname": "lb.example"}]), "{others}");
    ensure!(others["metadata"]["annotations"].get("metallb.io/ip-allocated-from-pool").is_none(), "{others}");
    for name in ["a-hostname", "a-later", "a-single"] {
        eventually(LIMIT, || {
            ensure!(!site.ingress(name)?.is_empty(), "Service {name} has no address");
            Ok(())
        })?;
    }
    // The name that somebody wrote stays beside the addresses, and does not keep them from being announced.
    let hostname = site.object("services", "a-hostname")?;
    ensure!(hostname["status"]["loadBalancer"]["ingress"][2] == json!({"hostname": "lb.example"}), "{hostname}");
    for address in site.ingress("a-hostname")? {
        eventually(LIMIT, || {
            let routes = router.routes_to(&IpNet::from(address).to_string())?;
            ensure!(routes.len() == 2, "routes to {address}: {routes:?}");
            Ok(())
        })?;
    }
    ensure!(site.ingress("a-garbage")?.is_empty(), "Service a-garbage has an address");
    eventually(LIMIT, || {
        let events = site.events("a-garbage")?;
        ensure!(events.iter().any(|(reason, ..)| reason == "AllocationFailed"), "{events:?}");
        Ok(())
    })
}

/// Another writer replaces a status by a name: it is named and set back, and the Service is announced as before.
fn overwritten(site: &Site) -> Result<()> {
    site.cluster.patch(
        &format!("{SERVICES}/routed/status?fieldManager=servicelb"),
        &json!({"status": {"loadBalancer": {"ingress": [{"hostname": "lb.example"}]}}}),
    )?;
    site.wait_ingress("routed", &ROUTED)?;
    eventually(LIMIT, || {
        let events = site.events("routed")?;
        // Who it was is told by the name under which it wrote.
        let names = |(reason, message, _): &(String, String, String)| {
            reason == "StatusOverwritten" && message.starts_with("\"servicelb\" set the status")
        };
        ensure!(events.iter().any(names), "{events:?}");
        Ok(())
    })
}

/// One that insists, as the load balancer of k3s does, is left alone after a while; nothing is written any more.
fn insisted(site: &Site) -> Result<()> {
    let clock = Clock::start();
    let foreign = json!({"status": {"loadBalancer": {"ingress": [{"ip": "10.0.0.1"}]}}});
    let path = format!("{SERVICES}/routed/status?fieldManager=k3s");
    eventually(LIMIT, || {
        site.cluster.patch(&path, &foreign)?;
        let events = site.events("routed")?;
        let tells =
            |(_, message, _): &(String, String, String)| message.starts_with("\"k3s\" keeps setting the status");
        ensure!(events.iter().any(tells), "{events:?}");
        Ok(())
    })?;
    eprintln!("measured: who insists is left alone after {} ms", clock.now().as_micros() / 1000);
    let version = || anyhow::Ok(site.object("services", "routed")?["metadata"]["resourceVersion"].clone());
    let before = version()?;
    thread::sleep(kit::Duration::from_secs(5).into());
    ensure!(version()? == before, "the status was written again");
    // The other one ends, and takes its address with it.
    site.cluster.patch(&path, &json!({"status": {"loadBalancer": {"ingress": null}}}))?;
    site.wait_ingress("routed", &ROUTED)
}

/// A status that is meant for a Service never reaches its successor of the same name: what the sink of the controller
/// relies on, and what comes of it when one follows the other quickly.
fn successors(site: &Site) -> Result<()> {
    let stale = json!({"metadata": {"uid": "00000000-0000-0000-0000-000000000000"}, "status": {"loadBalancer": {}}});
    let refusal = format!("{:#}", site.cluster.patch(&format!("{SERVICES}/lan/status"), &stale).unwrap_err());
    ensure!(refusal.contains(" 409 ") || refusal.contains(" 422 "), "{refusal}");
    for round in 0..10 {
        let pool = ["segment", "routed"][round % 2];
        site.cluster.create(SERVICES, &service("successor", pool))?;
        if round < 9 {
            site.cluster.delete(&format!("{SERVICES}/successor"))?;
        }
    }
    eventually(LIMIT, || {
        let object = site.object("services", "successor")?;
        let pool = &object["metadata"]["annotations"]["metallb.io/ip-allocated-from-pool"];
        let count = object["status"]["loadBalancer"]["ingress"].as_array().map_or(0, Vec::len);
        ensure!(pool == "routed" && count == 2, "{object}");
        Ok(())
    })
}

/// Waits for a line of the log with all these texts.
fn wait_said(process: &Process, texts: &[&str]) -> Result<()> {
    eventually(LIMIT, || {
        let log = process.log();
        let said = log.lines().any(|line| texts.iter().all(|text| line.contains(text)));
        ensure!(said, "no line with {texts:?} in {log}");
        Ok(())
    })
}
