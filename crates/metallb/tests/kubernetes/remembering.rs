//! Speakers start while the API server cannot be reached. They announce what they knew last, and put right what has changed when it
//! is back; what they knew too long ago they do not announce (ADR 17).

use std::net::IpAddr;

use anyhow::{Result, ensure};
use kit::Duration;
use lab::kubernetes::ProxyMode;
use lab::{Host, Lab, Process, eventually};
use netio::clock::Clock;

use crate::site::{LIMIT, ROUTED, SEGMENT, SERVICE_PORT, Site, configuration, on_site, service, slices};

/// Clients are answered again this long after all speakers start anew: three seconds of silence, and the search for others.
const BACK_WITHIN: Duration = Duration::from_secs(20);
/// The address of the Service that is deleted.
const GONE: &str = "10.0.0.211";
const PARTITION: &str = "table inet partition { \
     chain input { type filter hook input priority 0; iifname eth0 tcp dport 6443 drop; }; \
     chain output { type filter hook output priority 0; oifname eth0 tcp sport 6443 drop; }; }";

pub(crate) fn remembering(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let router = site.frr(None)?;
        let _proxies = site.proxies(ProxyMode::Nftables)?;
        let _controller = site.controller()?;
        let mut speakers = start(site)?;
        site.apply(&configuration(4))?;
        let nodes = [&site.nodes[0], &site.nodes[1]];
        let objects = [vec![service("lan", "segment"), service("routed", "routed")], slices("lan", &nodes)?];
        site.apply(&[objects.concat(), slices("routed", &nodes)?].concat())?;
        site.wait_ingress("lan", &SEGMENT)?;
        site.apply(&[vec![service("gone", "segment")], slices("gone", &nodes)?].concat())?;
        site.wait_ingress("gone", &[GONE, "fd00::211"])?;
        all_answer(site)?;
        wait_claims(&site.client, GONE, 1)?;
        for node in &site.nodes {
            let file = site.state_file(node);
            eventually(LIMIT, || {
                let text = std::fs::read_to_string(&file)?;
                ensure!(text.contains("default/gone") && text.ends_with("Z\n"), "{} is not complete", file.display());
                Ok(())
            })?;
        }

        // Nothing can be learnt, and nobody is left who knows.
        let nft = |script: &str| site.cluster.control().output_ok("nft", &[script]);
        nft(PARTITION)?;
        kill(&mut speakers)?;
        site.cluster.kubectl(&["delete", "service", "gone"])?;
        let mut speakers = start(site)?;
        let clock = Clock::start();
        all_answer(site)?;
        wait_claims(&site.client, GONE, 1)?;
        site.wait_routes(&router, &[0, 1])?;
        let took = clock.now().since(kit::Instant::ZERO);
        eprintln!(
            "measured: all that was known is announced {} ms after two speakers began without the API",
            took.as_millis()
        );
        ensure!(took < BACK_WITHIN, "it took {took}");
        for (node, speaker) in site.nodes.iter().zip(&speakers) {
            eventually(LIMIT, || {
                let (status, text) = site.probe(node, "/readyz")?;
                ensure!(status == 503 && text.contains("waiting for Service"), "{status} {text}");
                Ok(())
            })?;
            ensure!(speaker.log().contains("stateRecalled"), "{}", speaker.log());
        }

        // What has changed meanwhile is put right, and the rest is not touched.
        nft("delete table inet partition")?;
        for node in &site.nodes {
            site.wait_ready(node)?;
        }
        wait_claims(&site.client, GONE, 0)?;
        all_answer(site)?;
        site.check_routes(&router, &[0, 1])?;
        for speaker in &speakers {
            let log = speaker.log();
            ensure!(log.contains("stateConfirmed"), "{log}");
            let withdrawn: Vec<&str> = log.lines().filter(|line| line.contains("serviceWithdrawn")).collect();
            ensure!(withdrawn.iter().all(|line| line.contains("default/gone")), "{withdrawn:?}");
            ensure!(!log.contains("sessionDown"), "{log}");
        }

        // A state that is too old is none.
        nft(PARTITION)?;
        kill(&mut speakers)?;
        for node in &site.nodes {
            make_old(site, node)?;
        }
        let said_before: Vec<usize> = speakers.iter().map(|speaker| speaker.log().len()).collect();
        let speakers = start(site)?;
        for (speaker, said_before) in speakers.iter().zip(said_before) {
            let said = || speaker.log().split_off(said_before);
            eventually(LIMIT, || {
                ensure!(said().contains("too long ago"), "it does not say that the state is old: {}", said());
                Ok(())
            })?;
            ensure!(!said().contains("serviceAnnounced"), "{}", said());
        }
        wait_claims(&site.client, SEGMENT[0], 0)?;
        nft("delete table inet partition")?;
        all_answer(site)?;
        site.wait_routes(&router, &[0, 1])
    })
}

fn start(site: &Site) -> Result<Vec<Process>> {
    site.nodes.iter().map(|node| site.speaker_that_remembers(node)).collect()
}

fn kill(speakers: &mut [Process]) -> Result<()> {
    speakers.iter_mut().try_for_each(Process::kill)
}

/// Lets months pass for a state.
fn make_old(site: &Site, node: &Host) -> Result<()> {
    let file = site.state_file(node);
    let text = std::fs::read_to_string(&file)?;
    let line =
        |line: &str| if line.starts_with("= ") { "= 2026-01-01T00:00:00Z\n".to_owned() } else { format!("{line}\n") };
    std::fs::write(&file, text.lines().map(line).collect::<String>())?;
    Ok(())
}

fn all_answer(site: &Site) -> Result<()> {
    for (client, addresses) in [(&site.client, SEGMENT), (&site.far_client, ROUTED)] {
        for address in addresses {
            site.wait_answer(client, address)?;
        }
    }
    Ok(())
}

/// Waits until so many machines claim an address on the segment: one, or none.
fn wait_claims(client: &Host, address: &str, machines: usize) -> Result<()> {
    let address: IpAddr = address.parse()?;
    eventually(LIMIT, || {
        client.forget_neighbour(address)?;
        drop(client.ask((address, SERVICE_PORT).into(), Duration::from_millis(1_300)));
        let found = usize::from(client.neighbour_mac(address)?.is_some());
        ensure!(found == machines, "{found} machines answer for {address}");
        Ok(())
    })
}
