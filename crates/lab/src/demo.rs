//! The demonstration: Services get addresses, clients reach them by ARP, NDP and BGP, a node loses its power and gets it
//! back, and all the while somebody asks.

use std::collections::BTreeMap;
use std::io::Write;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use anyhow::{Context as _, Result, anyhow, bail, ensure};
use kit::{Duration, Family, Instant};

use crate::account::{Account, millis, table};
use crate::fleet::Fleet;
use crate::fleet::upkeep::{NODE_GRACE, NODE_RETURN};
use crate::requests::{Outage, Outcome, Pace, Record, RequestStream, answers_by_backend, disturbances, outages};
use crate::router::RouterKind;
use crate::topology::{HostPlan, Role, Topology};
use crate::{Lab, eventually};

/// For everything that has to happen sooner or later. Generous: it is used up only when something is broken.
const LIMIT: Duration = Duration::from_secs(30);
/// How long all is watched before something is done to it.
const WATCH: Duration = Duration::from_secs(2);
const ASK_LIMIT: Duration = Duration::from_secs(1);
/// Answers in a row after which a stream counts as well.
const WELL: usize = 40;
/// Without a failure for this long, a disturbance is over.
const QUIET: Duration = Duration::from_secs(1);
const PACE: Pace = Pace { every: Duration::from_millis(25), timeout: Duration::from_millis(900) };

/// What to show.
#[derive(Clone, Debug)]
pub struct Demo {
    /// Our program.
    pub program: PathBuf,
    /// The hosts.
    pub topology: Topology,
    /// What routers run.
    pub router: RouterKind,
}

/// A client, a Service's address, and the requests between them.
struct Path {
    client: String,
    service: String,
    target: SocketAddr,
    way: &'static str,
    stream: RequestStream,
}

/// Runs the demonstration and writes the account of it. An error means that something was not reached.
pub fn run(demo: &Demo, out: &mut dyn Write) -> Result<()> {
    let lab = Lab::new("demo")?;
    let outcome = show(&lab, demo, &mut Account::new(out));
    outcome.map_err(|error| anyhow!("{error:#}\nThe logs end with\n{}", lab.log_tails()))
}

fn show(lab: &Lab, demo: &Demo, account: &mut Account<'_>) -> Result<()> {
    account.paragraph(&demo.topology.about)?;
    account.paragraph(&format!("{}\n", map(&demo.topology)))?;
    let mut fleet = Fleet::start(lab, &demo.topology, demo.program.clone(), demo.router)?;
    account.say("controller and speakers are started")?;
    let targets = targets(&fleet, account)?;
    let paths = begin(&fleet, account, targets)?;
    routes_tell(&fleet, account)?;

    std::thread::sleep(WATCH.into());
    let victim = announcer(&fleet, &paths)?;
    account.say(&format!("{victim} loses its power: its links and all its processes are gone at once"))?;
    let cut = account.clock().now();
    fleet.power_cut(&victim)?;
    account.detail(&format!("the cluster calls it not ready {NODE_GRACE} later"))?;
    eventually(LIMIT, || paths.iter().try_for_each(|path| path.is_well_since(cut + PACE.timeout)))?;
    account.say(&format!("every request is answered again; {}", worst_since(&paths, cut)))?;
    for path in &paths {
        path.tell(&fleet, account)?;
    }
    routes_tell(&fleet, account)?;

    account.say(&format!("{victim} gets its power back"))?;
    let back = account.clock().now();
    fleet.power_on(&victim)?;
    account.detail(&format!("the cluster calls it ready {NODE_RETURN} later"))?;
    eventually(LIMIT, || answers_again(&paths, &victim, back))?;
    std::thread::sleep(WATCH.into());
    let end = account.clock().now();
    eventually(LIMIT, || paths.iter().try_for_each(|path| path.is_well_since(end)))?;
    account.say(&format!("{victim} takes part again; {}", worst_since(&paths, back)))?;
    routes_tell(&fleet, account)?;
    summary(account, paths)
}

/// The worst that happened to any client since then, as text.
fn worst_since(paths: &[Path], since: Instant) -> String {
    let records = |path: &Path| -> Vec<Record> {
        path.stream.records().into_iter().filter(|record| record.begun >= since).collect()
    };
    let worst = paths.iter().filter_map(|path| longest(&outages(&records(path)))).max();
    worst.map_or("no request failed".to_owned(), |worst| format!("the longest outage was {}", millis(worst)))
}

/// Hosts and addresses as a table.
pub(crate) fn map(topology: &Topology) -> String {
    let row = |plan: &HostPlan| {
        let links = plan.links.iter().map(|link| {
            let addresses: Vec<_> = link.addresses.iter().map(|address| address.addr().to_string()).collect();
            format!("{}: {}", link.segment, addresses.join(" "))
        });
        vec![plan.name.clone(), plan.role.to_string(), links.collect::<Vec<_>>().join(", ")]
    };
    table(&["host", "role", "segment: addresses"], &topology.hosts.iter().map(row).collect::<Vec<_>>())
}

/// Waits for the Services' addresses, and gives back what can be asked for.
fn targets(fleet: &Fleet, account: &mut Account<'_>) -> Result<Vec<(String, SocketAddr)>> {
    let mut targets = Vec::new();
    for service in fleet.services() {
        let addresses = fleet.wait_addresses(service, LIMIT)?;
        let text: Vec<_> = addresses.iter().map(ToString::to_string).collect();
        account.say(&format!("Service {} has {}", service.name, text.join(" and ")))?;
        let port = service.ports.iter().find(|(protocol, _)| protocol == "TCP").map(|(_, port)| *port);
        let port = port.with_context(|| format!("Service {} has no TCP port", service.name))?;
        targets.extend(addresses.iter().map(|address| (service.name.clone(), SocketAddr::new(*address, port))));
    }
    ensure!(!targets.is_empty(), "the topology has no Service of type LoadBalancer");
    Ok(targets)
}

/// Asks once from everywhere, and then begins to ask all the time.
fn begin(fleet: &Fleet, account: &mut Account<'_>, targets: Vec<(String, SocketAddr)>) -> Result<Vec<Path>> {
    let mut reached = Vec::new();
    for client in fleet.topology().hosts_with(Role::Client) {
        for (service, target) in &targets {
            let Some(way) = way(client, target.ip()) else { continue };
            let host = fleet.host(&client.name)?;
            let answer = eventually(LIMIT, || host.ask(*target, ASK_LIMIT))
                .with_context(|| format!("{} does not reach Service {service} at {target}", client.name))?;
            let who = who_answers(fleet, &client.name, target.ip())?;
            let text =
                format!("{} reaches {service} at {}{who}; {} served it", client.name, target.ip(), answer.backend);
            account.say(&text)?;
            reached.push((client.name.clone(), service.clone(), *target, way));
        }
    }
    ensure!(!reached.is_empty(), "no client has a way to any Service");
    let path = |(client, service, target, way): (String, String, SocketAddr, &'static str)| {
        let stream = RequestStream::start(fleet.host(&client)?, target, PACE, account.clock())?;
        Ok(Path { client, service, target, way, stream })
    };
    reached.into_iter().map(path).collect()
}

/// How a client gets to an address; `None` when it has no route.
fn way(client: &HostPlan, address: IpAddr) -> Option<&'static str> {
    let on_link = client.links.iter().flat_map(|link| &link.addresses).any(|network| network.contains(&address));
    let family = Family::of(&address);
    match (on_link, family) {
        (true, Family::V4) => Some("ARP"),
        (true, Family::V6) => Some("NDP"),
        (false, _) => client.routers.iter().any(|router| Family::of(router) == family).then_some("router"),
    }
}

/// Which MAC address the client holds for an address of its own segment, and whose it is.
fn who_answers(fleet: &Fleet, client: &str, address: IpAddr) -> Result<String> {
    let Some(mac) = fleet.host(client)?.neighbour_mac(address)? else { return Ok(String::new()) };
    let host = fleet.host_with_mac(mac)?.unwrap_or("nobody we know");
    Ok(format!(", where {mac} of {host} answers"))
}

/// The routes of the routers to Services, as the kernel has them.
fn routes_tell(fleet: &Fleet, account: &mut Account<'_>) -> Result<()> {
    for router in fleet.routers() {
        let learnt = router.routes()?;
        for family in Family::ALL {
            for route in router.host().routes(family)? {
                if !learnt.iter().any(|one| one.prefix == route.destination) {
                    continue;
                }
                let hop = |hop: &crate::RouteNextHop| {
                    let name = hop.via.and_then(|via| fleet.host_with_address(via)).unwrap_or("?");
                    hop.via.map(|via| format!("{via} ({name})"))
                };
                let hops: Vec<_> = route.next_hops.iter().filter_map(hop).collect();
                let name = router.host().name();
                account.detail(&format!("{name} routes {} through {}", route.destination, hops.join(", ")))?;
            }
        }
    }
    Ok(())
}

/// The node that answers for the first address which is asked for on a segment; any node if there is none.
fn announcer(fleet: &Fleet, paths: &[Path]) -> Result<String> {
    for path in paths.iter().filter(|path| path.way != "router") {
        if let Some(mac) = fleet.host(&path.client)?.neighbour_mac(path.target.ip())?
            && let Some(host) = fleet.host_with_mac(mac)?
        {
            return Ok(host.to_owned());
        }
    }
    let node = fleet.topology().hosts_with(Role::Node).next().context("there is no node")?;
    Ok(node.name.clone())
}

/// Succeeds when a backend on this node has answered since then: for any path, since one node answers for an address on
/// a segment.
fn answers_again(paths: &[Path], node: &str, since: Instant) -> Result<()> {
    let by_node = |record: &Record| matches!(&record.outcome, Outcome::Answered(answer) if answer.backend == node);
    let answered = |path: &Path| path.stream.records().iter().any(|record| record.begun >= since && by_node(record));
    if paths.iter().any(answered) { Ok(()) } else { bail!("{node} has not answered since it is back") }
}

fn longest(outages: &[Outage]) -> Option<Duration> {
    outages.iter().map(Outage::length).max()
}

impl Path {
    /// Succeeds when the last requests since then were all answered.
    fn is_well_since(&self, since: Instant) -> Result<()> {
        let records: Vec<_> = self.stream.records().into_iter().filter(|record| record.begun >= since).collect();
        let last: Vec<_> = records.iter().rev().take(WELL).collect();
        let answered = last.iter().filter(|record| record.is_answered()).count();
        let name = format!("{} to {} at {}", self.client, self.service, self.target.ip());
        let reason = records.iter().rev().find_map(|record| match &record.outcome {
            Outcome::Failed(reason) => Some(reason.clone()),
            Outcome::Answered(_) => None,
        });
        ensure!(answered == WELL, "{name}: {answered} of the last {} requests answered ({reason:?})", last.len());
        Ok(())
    }

    fn tell(&self, fleet: &Fleet, account: &mut Account<'_>) -> Result<()> {
        let outage = longest(&outages(&self.stream.records())).map_or("no outage".to_owned(), millis);
        let who = who_answers(fleet, &self.client, self.target.ip())?;
        account.detail(&format!("{} to {} at {}: {outage}{who}", self.client, self.service, self.target.ip()))
    }
}

fn summary(account: &mut Account<'_>, paths: Vec<Path>) -> Result<()> {
    let mut rows = Vec::new();
    let mut unreached = Vec::new();
    for path in paths {
        let records = path.stream.stop()?;
        let by: BTreeMap<String, usize> = answers_by_backend(&records);
        let answered: usize = by.values().sum();
        if answered == 0 {
            unreached.push(format!("{} to {}", path.client, path.target));
        }
        let by: Vec<String> = by.iter().map(|(node, count)| format!("{node} {count}")).collect();
        rows.push(vec![
            path.client,
            path.service,
            path.target.ip().to_string(),
            path.way.to_owned(),
            records.len().to_string(),
            by.join(", "),
            records.len().saturating_sub(answered).to_string(),
            longest(&disturbances(&records, QUIET)).map_or("-".to_owned(), millis),
            longest(&outages(&records)).map_or("-".to_owned(), millis),
        ]);
    }
    let head = ["from", "Service", "address", "way", "requests", "answered by", "failed", "during", "longest outage"];
    account.paragraph(&table(&head, &rows))?;
    ensure!(unreached.is_empty(), "not reached: {}", unreached.join(", "));
    account.paragraph("Every Service was reached from every client, while a node was lost and came back.")
}
