//! The API server goes away for half a minute: frozen, dead, or behind a network that drops everything. What is announced
//! stays announced, and afterwards everything is as if it had never been away.

use std::net::IpAddr;
use std::thread;

use anyhow::{Result, ensure};
use kit::Duration;
use lab::kubernetes::ProxyMode;
use lab::router::Router;
use lab::{Host, Lab, Process, eventually};
use netio::clock::Clock;
use serde_json::json;

use crate::site::{LIMIT, ROUTED, SEGMENT, SERVICE_PORT, Site, configuration, on_site, service, slices};
use crate::traffic::{HICCUP, Traffic};

/// How long the API server is away.
const AWAY: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// What runs while the API server is away.
struct Running {
    router: Router,
    controller: Process,
    speakers: Vec<Process>,
    _proxies: Vec<Process>,
}

pub(crate) fn freeze(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let mut running = begin(site)?;
        let traffic = Traffic::everywhere(site)?;
        site.cluster.api_pause()?;
        hold(site, &mut running, AWAY, &[0, 1])?;
        site.cluster.api_resume()?;
        let clock = Clock::start();
        hold(site, &mut running, LOOK_EVERY, &[0, 1])?;
        traffic.finish("the API server is frozen", HICCUP)?;
        takes_effect(site, &running)?;
        eprintln!("measured: changes are in force {} ms after the freeze", clock.now().as_micros() / 1000);
        Ok(())
    })
}

pub(crate) fn kill(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let mut running = begin(site)?;
        let owner = site.answering(SEGMENT[0])?;
        let other = 1 - owner;
        let traffic = Traffic::everywhere(site)?;
        site.nothing_was_denied()?;
        site.cluster.api_kill()?;
        hold(site, &mut running, LOOK_EVERY, &[0, 1])?;
        // A speaker that starts now knows nothing: it waits, and says for what. Its routes are gone with its sessions.
        let said_before = running.speakers[other].log().len();
        running.speakers[other].kill()?;
        running.speakers[other] = site.speaker(&site.nodes[other])?;
        site.wait_routes(&running.router, &[owner])?;
        hold(site, &mut running, AWAY, &[owner])?;
        let (status, text) = site.probe(&site.nodes[other], "/readyz")?;
        ensure!(status == 503 && text.contains("waiting for Service"), "{status} {text}");
        let (status, _) = site.probe(&site.nodes[other], "/healthz")?;
        ensure!(status == 200, "a speaker that waits is alive, but says {status}");
        let log = running.speakers[other].log().split_off(said_before);
        ensure!(log.contains("cannot reach the source of objects"), "it does not say that it waits: {log}");
        ensure!(!log.contains("serviceAnnounced"), "{log}");

        let clock = Clock::start();
        site.cluster.api_restart()?;
        eprintln!("measured: the API server took {} ms to start", clock.now().as_micros() / 1000);
        site.wait_routes(&running.router, &[0, 1])?;
        eprintln!("measured: the waiting speaker announced within {} ms more", clock.now().as_micros() / 1000);
        traffic.finish("the API server is dead", HICCUP)?;
        site.forgive_denials()?;
        let clock = Clock::start();
        takes_effect(site, &running)?;
        eprintln!("measured: changes are in force {} ms after its return", clock.now().as_micros() / 1000);
        Ok(())
    })
}

pub(crate) fn partition(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let mut running = begin(site)?;
        site.apply(&[vec![service("gone", "segment")], slices("gone", &[&site.nodes[0]])?].concat())?;
        site.wait_ingress("gone", &["10.0.0.211", "fd00::211"])?;
        wait_claimed(&site.client, "10.0.0.211")?;
        let traffic = Traffic::everywhere(site)?;
        let control = site.cluster.control().clone();
        let nft = |script: &str| control.output_ok("nft", &[script]);
        nft("table inet partition { \
             chain input { type filter hook input priority 0; iifname eth0 tcp dport 6443 drop; }; \
             chain output { type filter hook output priority 0; oifname eth0 tcp sport 6443 drop; }; }")?;
        hold(site, &mut running, LOOK_EVERY, &[0, 1])?;
        // Only the test itself still reaches the API.
        site.apply(&slices("routed", &[&site.nodes[0]])?)?;
        site.cluster.kubectl(&["delete", "service", "gone"])?;
        site.apply(&[vec![service("meanwhile", "segment")], slices("meanwhile", &[&site.nodes[0]])?].concat())?;
        hold(site, &mut running, AWAY, &[0, 1])?;
        traffic.finish("the API server cannot be reached", HICCUP)?;
        ensure!(site.ingress("meanwhile")?.is_empty(), "the controller reaches the API server");

        nft("delete table inet partition")?;
        let clock = Clock::start();
        site.wait_routes(&running.router, &[0])?;
        // It may be the address that has become free.
        eventually(LIMIT, || {
            let has = site.ingress("meanwhile")?;
            ensure!(has.len() == 2, "Service meanwhile has {has:?}");
            Ok(())
        })?;
        eprintln!("measured: changes are in force {} ms after the partition", clock.now().as_micros() / 1000);
        let pool = || site.object("ipaddresspools", "segment");
        eventually(LIMIT, || {
            let status = pool()?["status"].clone();
            ensure!(status["assignedIPv4"] == 2, "{status}");
            Ok(())
        })
    })
}

/// The owner of addresses loses its power while nobody can say so: the other speaker finds out by itself.
pub(crate) fn death(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let mut running = begin(site)?;
        let owner = site.answering(SEGMENT[0])?;
        let heir = &site.nodes[1 - owner];
        for address in SEGMENT {
            site.wait_answer(&site.client, address)?;
        }
        site.nothing_was_denied()?;
        site.cluster.api_kill()?;
        let clock = Clock::start();
        site.nodes[owner].unplug("eth0")?;
        running.speakers[owner].kill()?;
        for address in SEGMENT {
            eventually(LIMIT, || {
                let held = site.client.neighbour_mac(address.parse()?)?;
                ensure!(held == Some(heir.mac("eth0")?), "the client holds {held:?} for {address}");
                Ok(())
            })?;
        }
        let took = clock.now().since(kit::Instant::ZERO);
        eprintln!("measured: the other node has announced all after {} ms, without the API", took.as_millis());
        ensure!(took < Duration::from_secs(5), "it took {took}");
        site.cluster.api_restart()?;
        site.forgive_denials()?;
        eventually(LIMIT, || {
            let events = site.events("lan")?;
            let message = format!("announcing from node {:?} with protocol \"layer2\"", heir.name());
            ensure!(events.iter().any(|(_, text, _)| *text == message), "{events:?}");
            Ok(())
        })
    })
}

/// Both Services served by both nodes, and reached.
fn begin(site: &Site) -> Result<Running> {
    let router = site.frr(None)?;
    let proxies = site.proxies(ProxyMode::Nftables)?;
    let (controller, speakers) = (site.controller()?, site.speakers()?);
    site.apply(&configuration(4))?;
    let nodes = [&site.nodes[0], &site.nodes[1]];
    let mut routed = service("routed", "routed");
    routed["spec"]["externalTrafficPolicy"] = json!("Local");
    site.apply(&[vec![service("lan", "segment"), routed], slices("lan", &nodes)?, slices("routed", &nodes)?].concat())?;
    site.wait_ingress("lan", &SEGMENT)?;
    site.wait_ingress("routed", &ROUTED)?;
    site.wait_routes(&router, &[0, 1])?;
    for (client, addresses) in [(&site.client, SEGMENT), (&site.far_client, ROUTED)] {
        for address in addresses {
            site.wait_answer(client, address)?;
        }
    }
    Ok(Running { router, controller, speakers, _proxies: proxies })
}

/// Looks for a while whether the routes are there that should be, through these nodes, and everything runs.
fn hold(site: &Site, running: &mut Running, how_long: Duration, nodes: &[usize]) -> Result<()> {
    let clock = Clock::start();
    while clock.now().as_micros() < how_long.as_micros() {
        thread::sleep(LOOK_EVERY.min(how_long).into());
        site.check_routes(&running.router, nodes)?;
        for process in running.speakers.iter_mut().chain([&mut running.controller]) {
            let ended = process.ended()?;
            ensure!(ended.is_none(), "{} ended: {ended:?}", process.name());
        }
    }
    Ok(())
}

/// A new Service gets an address and answers; a node without endpoint is no next hop any more.
fn takes_effect(site: &Site, running: &Running) -> Result<()> {
    site.apply(&[vec![service("after", "segment")], slices("after", &[&site.nodes[0]])?].concat())?;
    site.apply(&slices("routed", &[&site.nodes[0]])?)?;
    site.wait_ingress("after", &["10.0.0.211", "fd00::211"])?;
    // Whether a backend answers already is kube-proxy's part, which can take a minute to come back.
    for address in ["10.0.0.211", "fd00::211"] {
        wait_claimed(&site.client, address)?;
    }
    site.wait_routes(&running.router, &[0])
}

/// Waits until somebody answers for an address on the segment, whatever becomes of packets to it.
fn wait_claimed(client: &Host, address: &str) -> Result<()> {
    let address: IpAddr = address.parse()?;
    eventually(LIMIT, || {
        client.forget_neighbour(address)?;
        drop(client.ask((address, SERVICE_PORT).into(), Duration::from_millis(300)));
        let mac = client.neighbour_mac(address)?;
        ensure!(mac.is_some(), "nobody answers for {address}");
        Ok(())
    })
}
