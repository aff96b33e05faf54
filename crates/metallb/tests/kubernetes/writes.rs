//! How much is written, and what it costs: one status for each allocation, nothing for heartbeats.

use std::collections::BTreeMap;
use std::thread;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::kubernetes::AuditedRequest;
use lab::{Lab, Process, eventually, usage};
use netio::clock::Clock;
use serde_json::{Value, json};

use crate::site::{LIMIT, Site, addresses_of, on_site, ours, peer};

const FEW: usize = 20;
const MANY: usize = 1_000;
const HEARTBEATS: Duration = Duration::from_secs(60);

pub(crate) fn writes(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let begin = Clock::start();
        let router = site.frr(None)?;
        let (controller, speakers) = (site.controller()?, site.speakers()?);
        let processes: Vec<&Process> = speakers.iter().chain([&controller]).collect();
        site.apply(&[
            ours("IPAddressPool", "v1beta1", "many", json!({"addresses": ["198.18.0.0/21"]})),
            ours("BGPAdvertisement", "v1beta1", "many", json!({})),
            peer(0, |_| {}),
        ])?;
        let peers: Vec<_> = site.nodes.iter().map(|node| Ok(addresses_of(node)?[0])).collect::<Result<_>>()?;
        router.wait_established(&peers, LIMIT)?;
        report_memory(&processes, "without Services")?;

        let few: Vec<Value> = (0..FEW).map(many_service).chain((0..FEW).map(many_slice)).collect();
        site.apply(&few)?;
        wait_assigned(site, FEW)?;
        eventually(LIMIT, || {
            let routes = router.routes()?.len();
            ensure!(routes == FEW * 2, "the router has {routes} routes");
            Ok(())
        })?;
        settle(site)?;
        one_status_each(site, FEW, &begin)?;

        heartbeats(site, &processes)?;

        let clock = Clock::start();
        for number in FEW..MANY {
            site.cluster.create("/apis/discovery.k8s.io/v1/namespaces/default/endpointslices", &many_slice(number))?;
            site.cluster.create("/api/v1/namespaces/default/services", &many_service(number))?;
        }
        let made = clock.now();
        wait_assigned(site, MANY)?;
        eprintln!(
            "measured: {} Services were made in {} ms; {} ms later all had an address",
            MANY - FEW,
            made.as_micros() / 1000,
            clock.now().since(made).as_millis()
        );
        eventually(LIMIT, || {
            let routes = router.routes()?.len();
            ensure!(routes == MANY * 2, "the router has {routes} routes");
            Ok(())
        })?;
        settle(site)?;
        one_status_each(site, MANY, &begin)?;
        report_memory(&processes, "with 1,000 Services")
    })
}

fn name(number: usize) -> String {
    format!("many-{number:04}")
}

fn many_service(number: usize) -> Value {
    json!({
        "apiVersion": "v1", "kind": "Service", "metadata": {"name": name(number), "namespace": "default"},
        "spec": {
            "type": "LoadBalancer", "allocateLoadBalancerNodePorts": false,
            "ports": [{"port": 80, "targetPort": 8080, "protocol": "TCP"}],
        },
    })
}

fn many_slice(number: usize) -> Value {
    json!({
        "apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice", "addressType": "IPv4",
        "metadata": {
            "name": name(number), "namespace": "default", "labels": {"kubernetes.io/service-name": name(number)},
        },
        "endpoints": [{"addresses": ["10.0.0.1"], "nodeName": "node1", "conditions": {"ready": true}}],
        "ports": [{"port": 8080, "protocol": "TCP", "name": ""}],
    })
}

fn wait_assigned(site: &Site, count: usize) -> Result<()> {
    eventually(LIMIT, || {
        let list = site.cluster.get("/api/v1/namespaces/default/services")?;
        let is_assigned = |item: &&Value| item["status"]["loadBalancer"]["ingress"][0]["ip"].is_string();
        let assigned = list["items"].as_array().context("a list without items")?.iter().filter(is_assigned).count();
        ensure!(assigned == count, "{assigned} of {count} Services have an address");
        Ok(())
    })
}

/// What controller and speakers wrote so far, besides the Lease.
fn written(site: &Site) -> Result<Vec<AuditedRequest>> {
    Ok(site.cluster.audit()?.into_iter().filter(|request| !request.is_read() && !is_lease(request)).collect())
}

/// The controller says that it lives, and which Services it is about to write.
fn is_lease(request: &AuditedRequest) -> bool {
    request.resource == "leases"
}

/// Waits until nothing has been written for a few seconds.
fn settle(site: &Site) -> Result<()> {
    let mut last = usize::MAX;
    eventually(LIMIT, || {
        let now = written(site)?.len();
        let before = std::mem::replace(&mut last, now);
        if now != before {
            thread::sleep(Duration::from_secs(3).into());
        }
        ensure!(now == before, "still writing: {now} writes after {before}");
        Ok(())
    })
}

/// Each Service's status was written exactly once, at the first try, and the pool's counters at their pace.
fn one_status_each(site: &Site, count: usize, begin: &Clock) -> Result<()> {
    let mut by_service: BTreeMap<String, Vec<u64>> = BTreeMap::new();
    for request in written(site)?.into_iter().filter(|request| request.resource == "services/status") {
        by_service.entry(request.name).or_default().push(request.code);
    }
    ensure!(by_service.len() == count, "the statuses of {} Services were written", by_service.len());
    let more: Vec<_> = by_service.iter().filter(|(_, codes)| **codes != [200]).collect();
    ensure!(more.is_empty(), "not one write each: {more:?}");
    let pools = written(site)?.iter().filter(|request| request.resource == "ipaddresspools/status").count();
    eprintln!("measured: {count} allocations, {pools} writes of the pool's counters");
    // One each second at most, and those that were repeated because something failed.
    let seconds = usize::try_from(begin.now().as_micros() / 1_000_000)?;
    ensure!((1..=seconds + 2).contains(&pools), "the counters of the pool were written {pools} times in {seconds} s");
    Ok(())
}

/// For a minute the nodes show that they are alive, as kubelets do, but more often. Nobody of ours writes, or lists
/// anything, and next to no time is spent.
fn heartbeats(site: &Site, processes: &[&Process]) -> Result<()> {
    let requests_before = site.cluster.audit()?.len();
    let spent = || processes.iter().map(|process| usage::cpu(process.id())).collect::<Result<Vec<Duration>>>();
    let spent_before = spent()?;
    for node in &site.nodes {
        site.cluster.create(
            "/apis/coordination.k8s.io/v1/namespaces/default/leases",
            &json!({"kind": "Lease", "metadata": {"name": node.name()}, "spec": {"holderIdentity": node.name()}}),
        )?;
    }
    let clock = Clock::start();
    let mut beats = 0;
    while clock.now().as_micros() < HEARTBEATS.as_micros() {
        beats += 1;
        let time = format!("2026-01-01T00:{:02}:{:02}.000000Z", beats / 60, beats % 60);
        for node in &site.nodes {
            let name = node.name();
            let condition = json!({
                "type": "Ready", "status": "True", "reason": "Lab", "message": "made by the lab",
                "lastHeartbeatTime": time.replace(".000000", ""),
            });
            let status = json!({"status": {"conditions": [condition]}});
            site.cluster.patch(&format!("/api/v1/nodes/{name}/status"), &status)?;
            let lease = json!({"spec": {"renewTime": time}});
            site.cluster.patch(&format!("/apis/coordination.k8s.io/v1/namespaces/default/leases/{name}"), &lease)?;
        }
        thread::sleep(Duration::from_secs(1).into());
    }
    let requests = site.cluster.audit()?.split_off(requests_before);
    // Speakers look for each other's pods, ever more rarely: less than once in ten seconds each, so soon after their start.
    let is_search = |request: &AuditedRequest| request.verb == "list" && request.resource == "pods";
    let searches = requests.iter().filter(|request| is_search(request)).count();
    ensure!(searches <= 6 * site.nodes.len(), "{searches} lists of pods during {beats} heartbeats");
    // A watch may have come to its planned end meanwhile.
    let others = requests.iter().filter(|request| request.verb != "watch" && !is_search(request));
    let (renewals, other): (Vec<_>, Vec<_>) = others.partition(|request| is_lease(request));
    eprintln!("measured: {} renewals of the controller's Lease during {beats} heartbeats", renewals.len());
    ensure!(renewals.len() <= beats / 2 + 1, "too many renewals: {renewals:?}");
    ensure!(other.is_empty(), "requests during {beats} heartbeats: {other:?}");
    for ((process, before), after) in processes.iter().zip(spent_before).zip(spent()?) {
        let millis = (after - before).as_millis();
        eprintln!("measured: a {} spent {millis} ms of processor time in a minute of heartbeats", process.name());
        ensure!(millis < 3_000, "{} spent {millis} ms of processor time doing nothing", process.name());
    }
    Ok(())
}

fn report_memory(processes: &[&Process], when: &str) -> Result<()> {
    for process in processes {
        eprintln!("measured {when}: a {} has {} KiB resident", process.name(), usage::resident(process.id())?);
    }
    Ok(())
}
