//! Addresses that are spread evenly over nodes (`ownerSelection: Balanced`, ADR 16): what the API server shows of it, how often it
//! is written, and that the rights of the manifest are enough.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use lab::kubernetes::ProxyMode;
use lab::{Lab, eventually};
use serde_json::{Value, json};

use crate::site::{LIMIT, Site, configuration, on_site, ours, service, slices};

const ANNOTATION: &str = "metallb.io/l2-assigned-node";
const SERVICES: [&str; 4] = ["one", "two", "three", "four"];

fn advertisement(selection: &str) -> Value {
    ours("L2Advertisement", "v1beta1", "segment", json!({"ipAddressPools": ["segment"], "ownerSelection": selection}))
}

/// The node that a Service shows.
fn assigned(site: &Site, service: &str) -> Result<Option<String>> {
    let object = site.object("services", service)?;
    Ok(object["metadata"]["annotations"][ANNOTATION].as_str().map(str::to_owned))
}

fn wait_assigned(site: &Site, service: &str) -> Result<String> {
    eventually(LIMIT, || assigned(site, service)?.with_context(|| format!("{service} is not assigned")))
}

/// How often each Service was written.
fn writes(site: &Site) -> Result<BTreeMap<&'static str, usize>> {
    let audit = site.cluster.audit()?;
    let of = |name: &str| {
        let is_write = |it: &&lab::kubernetes::AuditedRequest| {
            it.verb == "patch" && it.resource == "services/status" && it.name == name && it.code == 200
        };
        audit.iter().filter(is_write).count()
    };
    Ok(SERVICES.into_iter().map(|name| (name, of(name))).collect())
}

pub(crate) fn spreading(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let nodes = [&site.nodes[0], &site.nodes[1]];
        let mut leader = site.controller()?;
        site.wait_ready(&site.manager)?;
        let heir = site.second_controller()?;
        site.wait_ready(&site.client)?;
        let (_speakers, _proxies) = (site.speakers()?, site.proxies(ProxyMode::Nftables)?);
        site.apply(&configuration(5))?;
        site.apply(&[advertisement("Balanced")])?;
        for name in SERVICES {
            site.apply(&[vec![service(name, "segment")], slices(name, &nodes)?].concat())?;
        }
        let mut shown = BTreeMap::new();
        for name in SERVICES {
            shown.insert(name, wait_assigned(site, name)?);
        }
        for node in ["node1", "node2"] {
            let load = shown.values().filter(|it| *it == node).count();
            ensure!(load == 2, "{node} has {load}: {shown:?}");
        }
        for (name, node) in &shown {
            let address = site.ingress(name)?[0].to_string();
            eventually(LIMIT, || {
                let answering = &site.nodes[site.answering(&address)?];
                ensure!(answering.name() == node, "{} answers for {name}, not {node}", answering.name());
                Ok(())
            })?;
        }

        // Once each; not again when something else of the Service changes, nor by the next one that leads.
        let before = writes(site)?;
        eprintln!("measured: writes of each Service: {before:?}");
        for name in SERVICES {
            let path = format!("/api/v1/namespaces/default/services/{name}");
            site.cluster.patch(&path, &json!({"metadata": {"labels": {"a": "b"}}}))?;
        }
        leader.stop()?;
        site.apply(&[vec![service("late", "segment")], slices("late", &nodes)?].concat())?;
        wait_assigned(site, "late")?;
        let chosen = |process: &lab::Process| process.log().lines().filter(|it| it.contains("nodeChosen")).count();
        ensure!((chosen(&leader), chosen(&heir)) == (4, 1), "{}\n{}", leader.log(), heir.log());
        ensure!(writes(site)? == before, "written again: {before:?}, then {:?}", writes(site)?);
        for (name, node) in &shown {
            ensure!(assigned(site, name)?.as_ref() == Some(node), "{name} was on {node}");
        }

        // What somebody else takes away comes back, and all of it goes when nobody asks for it any more.
        let path = "/api/v1/namespaces/default/services/one";
        site.cluster.patch(path, &json!({"metadata": {"annotations": {ANNOTATION: null}}}))?;
        ensure!(wait_assigned(site, "one")? == shown["one"], "it is back, and another one");
        site.apply(&[advertisement("Hash")])?;
        for name in SERVICES.into_iter().chain(["late"]) {
            eventually(LIMIT, || {
                let left = assigned(site, name)?;
                ensure!(left.is_none(), "{name} shows {left:?}");
                Ok(())
            })?;
        }
        Ok(())
    })
}
