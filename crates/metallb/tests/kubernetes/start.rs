//! Controller and speakers start before anything else: without rights, without definitions, without configuration. They
//! wait, say for what, and work as soon as it is there, in whatever order it comes.

use anyhow::{Context as _, Result, ensure};
use lab::{Host, Lab, Process, eventually};
use serde_json::Value;

use crate::site::{LIMIT, ROUTED, SEGMENT, Site, configuration, definitions, on_bare_site, service, slices};

pub(crate) fn start(lab: &Lab) -> Result<()> {
    on_bare_site(lab, |site| {
        let router = site.frr(None)?;
        let mut processes = vec![(site.manager.clone(), site.controller()?)];
        for node in &site.nodes {
            processes.push((node.clone(), site.speaker(node)?));
        }
        site.apply(
            &[vec![service("lan", "segment"), service("routed", "routed")], slices("routed", &[&site.nodes[0]])?]
                .concat(),
        )?;
        for (host, process) in &mut processes {
            waits(site, host, process, "forbidden")?;
        }
        site.grant()?;
        for (host, process) in &mut processes {
            waits(site, host, process, "install the CustomResourceDefinitions of MetalLB")?;
        }
        // Each definition is followed by the objects of its kind; the advertisements come first and the pools last.
        let definitions = definitions()?;
        let mut definitions: Vec<&str> = definitions.split("---\n").filter(|text| !text.trim().is_empty()).collect();
        ensure!(definitions.len() == 9, "{} definitions", definitions.len());
        definitions.sort_by_key(|text| text.contains("name: ipaddresspools.metallb.io"));
        for definition in definitions {
            site.cluster.apply(definition)?;
            let definition: Value = serde_saphyr::from_str(definition)?;
            let name = definition["metadata"]["name"].as_str().context("a definition without a name")?;
            let condition = ["wait", "--for=condition=Established", "--timeout=60s", "crd", name];
            site.cluster.kubectl(&condition)?;
            let is_of_kind = |object: &Value| object["kind"] == definition["spec"]["names"]["kind"];
            let objects: Vec<Value> = configuration(4).into_iter().filter(is_of_kind).collect();
            if !objects.is_empty() {
                site.apply(&objects)?;
            }
        }
        site.wait_ingress("lan", &SEGMENT)?;
        site.wait_ingress("routed", &ROUTED)?;
        site.wait_routes(&router, &[0, 1])?;
        for (host, process) in &mut processes {
            site.wait_ready(host)?;
            ensure!(process.ended()?.is_none(), "{} ended", process.name());
        }
        Ok(())
    })
}

/// It runs, is alive, is not ready, and its log and its probe say why.
fn waits(site: &Site, host: &Host, process: &mut Process, why: &str) -> Result<()> {
    eventually(LIMIT, || {
        let (status, text) = site.probe(host, "/readyz")?;
        ensure!(status == 503 && text.contains(why), "{} on {}: {status} {text}", process.name(), host.name());
        ensure!(process.log().contains(why), "{why:?} is not in the log of {}", process.name());
        Ok(())
    })?;
    let (status, text) = site.probe(host, "/healthz")?;
    ensure!(status == 200, "{} on {}: {status} {text}", process.name(), host.name());
    let ended = process.ended()?;
    ensure!(ended.is_none(), "{} ended: {ended:?}", process.name());
    Ok(())
}
