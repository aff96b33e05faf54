//! Controller and speakers are killed and started again: what was given stays where it is, and traffic goes on.

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::{Lab, Process, eventually};
use serde_json::Value;

use crate::lease::lease_path;
use crate::site::{LIMIT, ROUTED, SEGMENT, Site, configuration, on_site, service, slices};
use crate::traffic::{HICCUP, Traffic};

/// Those with addresses are later in the order of names than those that wait for them.
const SERVICES: [(&str, &str); 4] =
    [("a-waits", "segment"), ("b-waits", "routed"), ("lan", "segment"), ("routed", "routed")];

pub(crate) fn restarts(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let router = site.frr(None)?;
        let _proxies = site.proxies(lab::kubernetes::ProxyMode::Nftables)?;
        let (mut controller, mut speakers) = (site.controller()?, site.speakers()?);
        // One address of each family in each pool.
        site.apply(&configuration(1))?;
        for (name, addresses) in [("lan", SEGMENT), ("routed", ROUTED)] {
            site.apply(
                &[
                    vec![service(name, SERVICES[usize::from(name == "routed") + 2].1)],
                    slices(name, &[&site.nodes[0], &site.nodes[1]])?,
                ]
                .concat(),
            )?;
            site.wait_ingress(name, &addresses)?;
        }
        site.apply(&[service("a-waits", "segment"), service("b-waits", "routed")])?;
        wait_refusals(site, 1)?;
        for (client, addresses) in [(&site.client, SEGMENT), (&site.far_client, ROUTED)] {
            for address in addresses {
                site.wait_answer(client, address)?;
            }
        }
        site.wait_routes(&router, &[0, 1])?;
        // What the Lease names as being written, the next leader would fence.
        eventually(LIMIT, || {
            let open = site.cluster.get(&lease_path())?["metadata"]["annotations"]["metallb.io/open-writes"].take();
            ensure!(open.is_null(), "{open} are being written");
            Ok(())
        })?;
        let versions = versions(site)?;

        let traffic = Traffic::everywhere(site)?;
        for restarts in 1..=5 {
            controller.kill()?;
            controller = site.controller()?;
            // A new process tells anew who gets nothing; then it has decided.
            wait_refusals(site, restarts + 1)?;
        }
        let owner = site.answering(SEGMENT[0])?;
        for (node, speaker) in site.nodes.iter().zip(&mut speakers) {
            restart(site, node, speaker)?;
            site.wait_routes(&router, &[0, 1])?;
        }
        ensure!(site.answering(SEGMENT[0])? == owner, "another node answers after the restart");
        controller.kill()?;
        restart(site, &site.nodes[owner], &mut speakers[owner])?;
        controller = site.controller()?;
        wait_refusals(site, 7)?;
        site.wait_routes(&router, &[0, 1])?;
        traffic.finish("one after the other is killed and restarted", HICCUP)?;

        // All at once. Nobody announces for a moment: the router drops the routes with the sessions, while hosts on the
        // segment keep what they know.
        let (segment, routed) = (Traffic::on_the_segment(site)?, Traffic::behind_the_router(site)?);
        controller.kill()?;
        speakers.iter_mut().try_for_each(Process::kill)?;
        let (_controller, _speakers) = (site.controller()?, site.speakers()?);
        wait_refusals(site, 8)?;
        site.wait_routes(&router, &[0, 1])?;
        for address in ROUTED {
            site.wait_answer(&site.far_client, address)?;
        }
        segment.finish("all are killed at once", HICCUP)?;
        routed.finish("all are killed at once", Duration::from_secs(30))?;
        ensure!(site.answering(SEGMENT[0])? == owner, "another node answers after the restart");

        // Contract 10.2: no address moved. Indeed nothing was written at all.
        let after = self::versions(site)?;
        ensure!(after == versions, "resource versions of the Services: {versions:?}, then {after:?}");
        site.cluster.kubectl(&["delete", "service", "lan", "routed"])?;
        site.wait_ingress("a-waits", &SEGMENT)?;
        site.wait_ingress("b-waits", &ROUTED)
    })
}

fn restart(site: &Site, node: &lab::Host, speaker: &mut Process) -> Result<()> {
    speaker.kill()?;
    *speaker = site.speaker(node)?;
    site.wait_ready(node)
}

/// Waits until so many controllers have told the waiting Services that there is nothing for them.
fn wait_refusals(site: &Site, count: usize) -> Result<()> {
    for name in ["a-waits", "b-waits"] {
        eventually(LIMIT, || {
            let events = site.events(name)?;
            let told = events.iter().filter(|(reason, message, _)| {
                reason == "AllocationFailed" && message.contains("no available IPs in pool")
            });
            ensure!(told.count() == count, "{name} was told {events:?}");
            Ok(())
        })?;
        ensure!(site.ingress(name)?.is_empty(), "{name} has an address");
    }
    Ok(())
}

fn versions(site: &Site) -> Result<Vec<String>> {
    let version = |(name, _): &(&str, &str)| {
        let object: Value = site.object("services", name)?;
        object["metadata"]["resourceVersion"].as_str().map(str::to_owned).context("no version")
    };
    SERVICES.iter().map(version).collect()
}
