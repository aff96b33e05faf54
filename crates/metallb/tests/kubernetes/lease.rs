//! Two controllers and one Lease: whoever leads ends in order, is killed, is paused, is cut off, each time while it gives
//! out addresses. The other one goes on, and no address is given to two Services or taken from one.

use std::collections::{BTreeMap, BTreeSet};
use std::thread;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::kubernetes::{AuditedRequest, Cluster, Face, NAMESPACE, User};
use lab::{Host, Lab, Process, eventually};
use netio::clock::Clock;
use serde_json::{Value, json};
use sys::process::Signal;

use crate::site::{LIMIT, Site, on_site, ours, service};

/// Services of each round. Together they need all the addresses that there are but a few.
const ROUND: usize = 60;
const ROUNDS: usize = 5;
const SPARE: usize = 4;
/// How long a Lease is valid, and somewhat more for a busy machine.
const LEASE_AND_MORE: Duration = Duration::from_secs(20);
/// How long one that does not lead any more is watched.
const WATCHED: Duration = Duration::from_secs(4);

pub(crate) fn takeovers(lab: &Lab) -> Result<()> {
    on_site(lab, |site| {
        let mut pair = [Some(site.controller()?), None];
        site.wait_ready(&site.manager)?;
        pair[1] = Some(site.second_controller()?);
        site.wait_ready(&site.client)?;
        let size = ROUND * ROUNDS + SPARE;
        let v4 = format!("10.77.0.0-10.77.{}.{}", (size - 1) / 256, (size - 1) % 256);
        let pool = json!({"addresses": [v4, format!("fd77::-fd77::{:x}", size - 1)]});
        site.apply(&[ours("IPAddressPool", "v1beta1", "many", pool)])?;
        let mut known = Known::default();

        known.add(site, 0)?;
        let mut leader = known.settle(site)?;

        // Ends in order.
        known.add(site, 1)?;
        let clock = Clock::start();
        pair[leader].take().context("none leads")?.stop()?;
        let next = wait_leader(site, |holder| holder != leader)?;
        let taken = clock.now().as_micros() / 1000;
        eprintln!("measured: {taken} ms from SIGTERM to the next leader");
        ensure!(taken < 3_000, "the next one waited for the Lease: {taken} ms");
        leader = known.settle(site)?;
        ensure!(leader == next, "another one leads");
        eprintln!("measured: all addresses {} ms after SIGTERM", clock.now().as_micros() / 1000);
        pair[1 - leader] = Some(start(site, 1 - leader)?);

        // Is killed.
        known.add(site, 2)?;
        let clock = Clock::start();
        pair[leader].take().context("none leads")?.kill()?;
        leader = 1 - leader;
        wait_leader(site, |holder| holder == leader)?;
        let taken = clock.now();
        eprintln!("measured: {} ms from SIGKILL to the next leader", taken.as_micros() / 1000);
        ensure!(taken.as_micros() < LEASE_AND_MORE.as_micros(), "too late");
        known.settle(site)?;
        pair[1 - leader] = Some(start(site, 1 - leader)?);

        // Is paused in the midst of it, and wakes up when another one has led for a while.
        known.add(site, 3)?;
        let paused = pair[leader].as_ref().context("none leads")?;
        paused.signal(Signal::Stop)?;
        let clock = Clock::start();
        let next = wait_leader(site, |holder| holder != leader)?;
        eprintln!("measured: {} ms from SIGSTOP to the next leader", clock.now().as_micros() / 1000);
        known.settle(site)?;
        let before = site.cluster.audit()?.len();
        paused.signal(Signal::Continue)?;
        writes_nothing(site, leader, before)?;
        ensure!(known.settle(site)? == next, "it took the Lease back");
        eventually(LIMIT, || ensure_said(paused, "leaderLost"))?;
        leader = next;

        // Is cut off from the API server.
        known.add(site, 4)?;
        let cut_off = host(site, leader);
        cut_off.down("eth0")?;
        let clock = Clock::start();
        let next = wait_leader(site, |holder| holder != leader)?;
        eprintln!("measured: {} ms from the cut to the next leader", clock.now().as_micros() / 1000);
        eventually(LIMIT, || ensure_said(pair[leader].as_ref().context("none leads")?, "leaderLost"))?;
        known.settle(site)?;
        let before = site.cluster.audit()?.len();
        cut_off.up("eth0")?;
        writes_nothing(site, leader, before)?;
        ensure!(known.settle(site)? == next, "it took the Lease back");
        eprintln!("measured: {} Services fenced", fenced(site)?);
        counted(site, size)
    })
}

/// The hosts of the two controllers.
fn host(site: &Site, controller: usize) -> &Host {
    if controller == 0 { &site.manager } else { &site.client }
}

fn start(site: &Site, controller: usize) -> Result<Process> {
    let process = if controller == 0 { site.controller()? } else { site.second_controller()? };
    site.wait_ready(host(site, controller))?;
    Ok(process)
}

fn ensure_said(process: &Process, event: &str) -> Result<()> {
    ensure!(process.log().contains(event), "it did not say {event}");
    Ok(())
}

/// Where the Lease is that controllers share.
pub(crate) fn lease_path() -> String {
    format!("/apis/coordination.k8s.io/v1/namespaces/{NAMESPACE}/leases/metallb-controller")
}

/// Waits until the Lease is held by one that is wanted.
fn wait_leader(site: &Site, is_wanted: impl Fn(usize) -> bool) -> Result<usize> {
    let path = lease_path();
    let names = [0, 1].map(|number| Cluster::pod_of(host(site, number), Face::Controller));
    eventually(LIMIT, || {
        let lease = site.cluster.get(&path)?;
        let holder = lease["spec"]["holderIdentity"].as_str().unwrap_or_default();
        let pod = holder.split_once('_').map(|(pod, _)| pod).unwrap_or_default();
        let number = names.iter().position(|name| name == pod).with_context(|| format!("{holder:?} holds it"))?;
        ensure!(is_wanted(number), "{holder:?} still holds it");
        Ok(number)
    })
}

/// What Services have.
#[derive(Default)]
struct Known {
    wanted: usize,
    addresses: BTreeMap<String, Vec<String>>,
}

impl Known {
    /// More Services, and in the midst of their getting addresses this returns.
    fn add(&mut self, site: &Site, round: usize) -> Result<()> {
        let services: Vec<Value> = (0..ROUND).map(|number| service(&format!("s{round}-{number:02}"), "many")).collect();
        site.apply(&services)?;
        self.wanted += ROUND;
        eventually(LIMIT, || {
            let some = assigned(site)?.len();
            ensure!(some > self.addresses.len(), "none of the new ones has an address");
            Ok(())
        })
    }

    /// Waits until all have addresses; none has one of another, and none has others than before. Returns who leads.
    fn settle(&mut self, site: &Site) -> Result<usize> {
        let now = eventually(LIMIT, || {
            let now = assigned(site)?;
            ensure!(now.len() == self.wanted, "{} of {} have addresses", now.len(), self.wanted);
            Ok(now)
        })?;
        let all: Vec<&String> = now.values().flatten().collect();
        let different: BTreeSet<&String> = all.iter().copied().collect();
        ensure!(all.len() == 2 * self.wanted && different.len() == all.len(), "an address is given twice: {now:?}");
        for (service, before) in &self.addresses {
            ensure!(now.get(service) == Some(before), "{service} had {before:?}, and has {:?}", now.get(service));
        }
        self.addresses = now;
        wait_leader(site, |_| true)
    }
}

/// The addresses of those Services that have some.
fn assigned(site: &Site) -> Result<BTreeMap<String, Vec<String>>> {
    let list = site.cluster.get("/api/v1/namespaces/default/services")?;
    let mut all = BTreeMap::new();
    for service in list["items"].as_array().context("a list without items")? {
        let entries = service["status"]["loadBalancer"]["ingress"].as_array().cloned().unwrap_or_default();
        let addresses: Vec<String> =
            entries.iter().filter_map(|entry| entry["ip"].as_str()).map(str::to_owned).collect();
        if !addresses.is_empty() {
            all.insert(service["metadata"]["name"].as_str().context("no name")?.to_owned(), addresses);
        }
    }
    Ok(all)
}

/// A controller that does not lead any more writes nothing; what it sent before it knew is refused, but for events, which
/// tell what was.
fn writes_nothing(site: &Site, controller: usize, before: usize) -> Result<()> {
    let address = if controller == 0 { "10.0.0.99" } else { "10.0.0.200" };
    let since = || anyhow::Ok(site.cluster.audit()?.split_off(before));
    eventually(LIMIT, || {
        ensure!(since()?.iter().any(|request| request.from == address), "it does not come back");
        Ok(())
    })?;
    thread::sleep(WATCHED.into());
    let requests = since()?;
    let is_its_write = |request: &&AuditedRequest| {
        request.from == address && !request.is_read() && !["leases", "events"].contains(&request.resource.as_str())
    };
    let writes: Vec<_> = requests.iter().filter(is_its_write).collect();
    ensure!(writes.iter().all(|request| request.code == 409), "it wrote: {writes:?}");
    eprintln!("measured: {} late writes, all refused", writes.len());
    Ok(())
}

/// How many Services bear the mark of a fence.
fn fenced(site: &Site) -> Result<usize> {
    let list = site.cluster.get("/api/v1/namespaces/default/services")?;
    let items = list["items"].as_array().context("a list without items")?;
    let is_fenced = |service: &&Value| service["metadata"]["annotations"].get("metallb.io/fenced-by").is_some();
    Ok(items.iter().filter(is_fenced).count())
}

/// The counters of the pool are right in the end, and each Service's status was accepted once or twice.
fn counted(site: &Site, size: usize) -> Result<()> {
    let in_use = ROUND * ROUNDS;
    eventually(LIMIT, || {
        let status = site.object("ipaddresspools", "many")?["status"].clone();
        ensure!(status["assignedIPv4"] == in_use && status["availableIPv4"] == size - in_use, "{status}");
        Ok(())
    })?;
    let audit = site.cluster.audit()?;
    let of = |resource: &str| {
        let ours = |request: &&AuditedRequest| request.user == User::Controller.name() && request.code < 300;
        audit.iter().filter(ours).filter(|request| request.resource == resource && !request.is_read()).count()
    };
    eprintln!(
        "measured: {in_use} Services took {} writes of statuses and {} of the Lease",
        of("services/status"),
        of("leases")
    );
    Ok(())
}
