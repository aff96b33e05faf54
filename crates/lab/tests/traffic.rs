//! Backends, the stand-in for kube-proxy, and clients that measure.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::arithmetic_side_effects)]

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use anyhow::{Context as _, Result, ensure};
use kit::Duration;
use lab::backend::{Answer, Backend};
use lab::requests::{Outcome, Pace, RequestStream, answers_by_backend, outages};
use lab::service_proxy::{ClientAddress, Forward, Protocol, ServiceProxy};
use lab::testing::Trial;
use lab::{Host, Lab, eventually};
use netio::clock::Clock;
use tokio::net::UdpSocket;

const LIMIT: Duration = Duration::from_secs(30);
const ONCE: Duration = Duration::from_secs(1);
const V4: &str = "192.0.2.1:80";
const V6: &str = "[2001:db8::1]:80";

fn main() -> ExitCode {
    lab::testing::main([
        Trial::new("a_service_proxy_spreads_connections_over_endpoints", spread),
        Trial::new("a_service_proxy_keeps_the_client_address_when_told_to", client_address),
        Trial::new("a_service_proxy_forwards_udp", udp),
        Trial::new("the_kernel_of_a_node_answers_no_arp_and_no_ndp_for_a_service", no_kernel_answers),
        Trial::new("a_service_that_is_no_longer_forwarded_is_refused", withdrawn),
        Trial::new("an_outage_is_measured_in_milliseconds", outage),
    ])
}

/// Two nodes with a backend each, of which the first has a service proxy, and a client with routes to it.
struct Segment {
    nodes: Vec<Host>,
    client: Host,
    proxy: ServiceProxy,
    _backends: Vec<Backend>,
}

impl Segment {
    fn start(lab: &Lab) -> Result<Segment> {
        let lan = lab.switch("lan")?;
        let host = |name: &str, last: u8| {
            let host = lab.host(name)?;
            host.plug("eth0", &lan)?.address(&format!("10.0.0.{last}/24"))?.address(&format!("fd00::{last}/64"))?;
            anyhow::Ok(host)
        };
        let nodes = vec![host("node1", 1)?, host("node2", 2)?];
        let client = host("client", 200)?;
        client.set_route("192.0.2.1/32", &["10.0.0.1".parse()?])?;
        client.set_route("2001:db8::1/128", &["fd00::1".parse()?])?;
        let proxy = ServiceProxy::start(&nodes[0])?;
        let backends = nodes.iter().map(|node| Backend::start(node, 8080)).collect::<Result<_>>()?;
        Ok(Segment { nodes, client, proxy, _backends: backends })
    }

    fn forward(&self, protocol: Protocol, client: ClientAddress) -> Result<()> {
        let forward = |service: &str, endpoints: [&str; 2]| Forward {
            service: service.parse().unwrap(),
            protocol,
            endpoints: endpoints.iter().map(|endpoint| endpoint.parse().unwrap()).collect(),
            client,
        };
        self.proxy
            .set(&[forward(V4, ["10.0.0.1:8080", "10.0.0.2:8080"]), forward(V6, ["[fd00::1]:8080", "[fd00::2]:8080"])])
    }

    fn ask_until_answered(&self, service: &str) -> Result<Answer> {
        let service: SocketAddr = service.parse()?;
        eventually(LIMIT, || self.client.ask(service, ONCE))
    }
}

fn spread(lab: &Lab) -> Result<()> {
    let segment = Segment::start(lab)?;
    segment.forward(Protocol::Tcp, ClientAddress::Replaced)?;
    for (service, node) in [(V4, "10.0.0.1"), (V6, "fd00::1")] {
        segment.ask_until_answered(service)?;
        let answers = (0..8).map(|_| segment.client.ask(service.parse()?, ONCE)).collect::<Result<Vec<_>>>()?;
        let backends: Vec<_> = answers.iter().map(|answer| answer.backend.as_str()).collect();
        ensure!(backends.iter().filter(|name| **name == "node1").count() == 4, "{backends:?}");
        let clients: BTreeSet<IpAddr> = answers.iter().map(|answer| answer.client).collect();
        ensure!(clients == BTreeSet::from([node.parse()?]), "the endpoints see {clients:?}");
    }
    Ok(())
}

fn client_address(lab: &Lab) -> Result<()> {
    let segment = Segment::start(lab)?;
    segment.forward(Protocol::Tcp, ClientAddress::Kept)?;
    for (service, client) in [(V4, "10.0.0.200"), (V6, "fd00::200")] {
        let answer = segment.ask_until_answered(service)?;
        ensure!(answer.client == client.parse::<IpAddr>()?, "{answer:?}");
    }
    Ok(())
}

fn udp(lab: &Lab) -> Result<()> {
    let segment = Segment::start(lab)?;
    segment.forward(Protocol::Udp, ClientAddress::Replaced)?;
    let mut seen = BTreeSet::new();
    for (service, any) in [(V4, "0.0.0.0:0"), (V6, "[::]:0")] {
        for _ in 0..2 {
            let answer = segment.client.run(async move || {
                let socket = UdpSocket::bind(any).await?;
                socket.connect(service).await?;
                let mut packet = [0; 256];
                // Two packets of one flow: both go to one endpoint.
                let mut last = String::new();
                for _ in 0..2 {
                    socket.send(b"hello").await?;
                    let answer = tokio::time::timeout(LIMIT.into(), socket.recv(&mut packet)).await;
                    let text = String::from_utf8_lossy(&packet[..answer.context("no answer")??]).into_owned();
                    ensure!(last.is_empty() || text == last, "{text} after {last}");
                    last = text;
                }
                Answer::parse(&last)
            })?;
            seen.insert((service, answer.backend));
        }
    }
    ensure!(seen.len() == 4, "{seen:?}");
    Ok(())
}

fn no_kernel_answers(lab: &Lab) -> Result<()> {
    let segment = Segment::start(lab)?;
    segment.forward(Protocol::Tcp, ClientAddress::Replaced)?;
    segment.ask_until_answered(V4)?;
    segment.ask_until_answered(V6)?;
    // Now the addresses are on the client's link: it has to ask for them, and nobody may answer.
    segment.client.remove_route("192.0.2.1/32")?;
    segment.client.remove_route("2001:db8::1/128")?;
    segment.client.add_address("eth0", "192.0.2.200/24")?;
    segment.client.add_address("eth0", "2001:db8::200/64")?;
    for service in [V4, V6] {
        let service: SocketAddr = service.parse()?;
        ensure!(segment.client.ask(service, ONCE).is_err(), "{service} is reached");
        let mac = segment.client.neighbour_mac(service.ip())?;
        ensure!(mac.is_none(), "{mac:?} answers for {service}");
    }
    // The node's own traffic with the address as source must not show it either.
    let known = segment.nodes[1].neighbours()?;
    ensure!(known.iter().all(|one| one.address != IpAddr::from([192, 0, 2, 1])), "{known:?}");
    Ok(())
}

fn withdrawn(lab: &Lab) -> Result<()> {
    let segment = Segment::start(lab)?;
    segment.forward(Protocol::Tcp, ClientAddress::Replaced)?;
    segment.ask_until_answered(V4)?;
    segment.proxy.set(&[])?;
    eventually(LIMIT, || {
        ensure!(segment.client.ask(V4.parse()?, ONCE).is_err(), "still reached");
        Ok(())
    })
}

fn outage(lab: &Lab) -> Result<()> {
    let segment = Segment::start(lab)?;
    segment.forward(Protocol::Tcp, ClientAddress::Replaced)?;
    segment.ask_until_answered(V4)?;
    let clock = Clock::start();
    let pace = Pace { every: Duration::from_millis(20), timeout: Duration::from_millis(900) };
    let stream = RequestStream::start(&segment.client, V4.parse()?, pace, clock)?;
    let answered = |at_least: usize| {
        eventually(LIMIT, || {
            let records = stream.records();
            let answered = records.iter().filter(|record| record.is_answered()).count();
            ensure!(answered >= at_least, "{answered} of {} requests are answered", records.len());
            Ok(answered)
        })
    };
    let before = answered(10)?;
    let cut = clock.now();
    segment.client.unplug("eth0")?;
    eventually(LIMIT, || {
        let failed = stream.records().iter().filter(|record| matches!(record.outcome, Outcome::Failed(_))).count();
        ensure!(failed >= 5, "{failed} requests failed");
        Ok(())
    })?;
    segment.client.replug("eth0")?;
    let healed = clock.now();
    answered(before + 10)?;
    let records = stream.stop()?;
    let worst = outages(&records).into_iter().max_by_key(lab::requests::Outage::length).context("no outage")?;
    let (seen, real) = (worst.length().as_millis(), healed.since(cut).as_millis());
    // A request that began before the cut may fail too, and one after it may have to wait for a neighbour entry.
    ensure!(seen + 100 >= real && seen <= real + 2_000, "an outage of {real} ms was measured as {seen} ms");
    ensure!(answers_by_backend(&records).len() == 2, "{:?}", answers_by_backend(&records));
    Ok(())
}
