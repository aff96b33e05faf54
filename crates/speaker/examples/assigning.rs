//! What it costs the controller to spread ten thousand addresses over a hundred nodes (ADR 16), and what one change costs then:
//! `cargo run --release -p speaker --example assigning`.
//!
//! Time is that of the core alone; writes come back at once. Fifty a second are asked for, so the first row is spread over
//! minutes in truth. The exit status is 1 when a row takes longer than its budget.

#![allow(clippy::arithmetic_side_effects, clippy::unwrap_used)]
#![expect(clippy::disallowed_methods, reason = "a benchmark reads the clock")]
#![expect(clippy::print_stdout, reason = "the table is what it is run for")]

use std::collections::BTreeMap;
use std::net::Ipv4Addr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::core::{Endpoint, EndpointSlice, Ingress, Node, Service};
use api::{Component, ConfigurationState, ConfigurationVerdict, Key, Object, ObjectMeta, Report, Write};
use config::{Config, L2Advertisement, OwnerSelection, Pool};
use kit::{AddrRange, Outbox};
use speaker::{Overview, OverviewInput};

const SERVICES: u32 = 10_000;
const NODES: u32 = 100;

/// Where the endpoints of Services are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Endpoints {
    Anywhere,
    /// `externalTrafficPolicy: Local`, on three nodes each: nearly every Service has eligible nodes of its own.
    OnThreeNodes,
}

struct Bench {
    overview: Overview,
    endpoints: Endpoints,
    assigned: BTreeMap<u32, String>,
    now: kit::Instant,
    writes: usize,
}

fn name(number: u32) -> String {
    format!("node-{number:03}")
}

fn service(number: u32, endpoints: Endpoints, assigned: Option<&String>) -> Service {
    let mut service = Service::default();
    (service.metadata.namespace, service.metadata.name) = ("default".into(), format!("web-{number:05}"));
    service.spec.type_ = Some("LoadBalancer".into());
    if endpoints == Endpoints::OnThreeNodes {
        service.spec.external_traffic_policy = Some("Local".into());
    }
    let address = Ipv4Addr::from(u32::from(Ipv4Addr::new(10, 0, 0, 0)) + number);
    service.status.load_balancer.ingress = vec![Ingress { ip: Some(address.to_string()), ..Ingress::default() }];
    if let Some(node) = assigned {
        service.metadata.annotations.insert(api::LAYER2_ASSIGNED_NODE.into(), node.clone());
    }
    service
}

fn slice(number: u32, endpoints: Endpoints) -> EndpointSlice {
    let nodes = match endpoints {
        Endpoints::Anywhere => vec![0],
        Endpoints::OnThreeNodes => vec![number % NODES, number / 7 % NODES, number / 31 % NODES],
    };
    let mut slice = EndpointSlice { address_type: "IPv4".into(), ..EndpointSlice::default() };
    (slice.metadata.namespace, slice.metadata.name) = ("default".into(), format!("web-{number:05}"));
    slice.metadata.labels.insert(api::SERVICE_NAME.into(), format!("web-{number:05}"));
    let endpoint = |node: u32| Endpoint {
        addresses: vec!["10.244.0.1".into()],
        node_name: Some(name(node)),
        ..Endpoint::default()
    };
    slice.endpoints = nodes.into_iter().map(endpoint).collect();
    slice
}

fn node(number: u32) -> Node {
    let mut node = Node::default();
    node.metadata.name = name(number);
    node
}

fn speaker_of(number: u32) -> Object {
    let verdict = ConfigurationVerdict::Valid { warnings: String::new() };
    let report = Report::Configuration { component: Component::Speaker(name(number)), verdict };
    let key = report.object("metallb-system").key;
    let metadata = ObjectMeta { name: key.name, labels: report.labels(), ..ObjectMeta::default() };
    Object::ConfigurationState(ConfigurationState { metadata, ..ConfigurationState::default() })
}

fn config() -> Arc<Config> {
    let advertisement =
        L2Advertisement { name: "all".into(), owner_selection: OwnerSelection::Balanced, ..L2Advertisement::default() };
    let pool = Pool {
        name: "web".into(),
        ranges: vec![AddrRange::parse("10.0.0.0/16").unwrap()],
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
        l2_advertisements: [("all".to_owned(), Arc::new(advertisement))].into(),
        bgp_advertisements: BTreeMap::new(),
    };
    Arc::new(Config { pools: [("web".to_owned(), Arc::new(pool))].into(), ..Config::default() })
}

impl Bench {
    fn new(endpoints: Endpoints) -> Bench {
        let mut overview = Overview::new(String::new());
        overview.handle(OverviewInput::Configured(config()));
        for number in 0..NODES {
            overview.handle(OverviewInput::NodeApplied(&node(number)));
            overview.handle(OverviewInput::ReportApplied(&speaker_of(number)));
        }
        for number in 0..SERVICES {
            overview.handle(OverviewInput::ServiceApplied(&service(number, endpoints, None)));
            overview.handle(OverviewInput::EndpointSliceApplied(&slice(number, endpoints)));
        }
        overview.begin_assigning();
        Bench { overview, endpoints, assigned: BTreeMap::new(), now: kit::Instant::ZERO, writes: 0 }
    }

    /// Lets all happen that follows, and tells how long the core took for it.
    fn settle(&mut self) -> Duration {
        let (mut spent, mut out) = (Duration::ZERO, Outbox::with_limit(512));
        while let Some(due) = self.overview.assign_deadline() {
            self.now = self.now.max(due);
            let begun = Instant::now();
            self.overview.assign(self.now, &mut out);
            spent += begun.elapsed();
            for write in out.drain() {
                let Write::AssignedNode { service: Key { name, .. }, node: Some(node), .. } = write else { continue };
                let number: u32 = name.trim_start_matches("web-").parse().unwrap();
                self.assigned.insert(number, node);
                self.writes += 1;
                spent += self.tell(number);
            }
        }
        spent
    }

    fn tell(&mut self, number: u32) -> Duration {
        let service = service(number, self.endpoints, self.assigned.get(&number));
        let begun = Instant::now();
        self.overview.handle(OverviewInput::ServiceApplied(&service));
        begun.elapsed()
    }

    fn largest(&self) -> usize {
        self.overview.assigned_addresses().map(|(_, load)| load).max().unwrap_or(0)
    }
}

fn main() -> ExitCode {
    let mut is_over = false;
    let mut row = |what: &str, bench: &Bench, spent: Duration, writes: usize, budget: Duration| {
        println!("| {what} | {:.1} ms | {writes} | {} |", spent.as_secs_f64() * 1e3, bench.largest());
        is_over |= spent > budget;
    };
    println!(
        "{SERVICES} Services, {NODES} nodes\n\n| what | time in the core | writes | most on one node |\n|---|---|---|---|"
    );
    for endpoints in [Endpoints::Anywhere, Endpoints::OnThreeNodes] {
        let kind = if endpoints == Endpoints::Anywhere { "" } else { ", policy Local on three nodes" };
        let mut bench = Bench::new(endpoints);
        let spent = bench.settle();
        row(&format!("all are assigned{kind}"), &bench, spent, bench.writes, Duration::from_secs(10));
        let before = bench.writes;
        let gone = slice(7, endpoints);
        bench.overview.handle(OverviewInput::EndpointSliceDeleted(&gone.metadata.key()));
        let mut spent = bench.settle();
        bench.overview.handle(OverviewInput::ServiceDeleted(&Key::new("default", "web-00008")));
        bench.assigned.remove(&8);
        spent += bench.settle();
        row(
            &format!("one has no endpoints, one is gone{kind}"),
            &bench,
            spent,
            bench.writes - before,
            Duration::from_millis(50),
        );
        let before = bench.writes;
        let mut excluded = node(3);
        excluded.metadata.labels.insert(api::EXCLUDE_FROM_LOAD_BALANCERS.into(), String::new());
        bench.overview.handle(OverviewInput::NodeApplied(&excluded));
        let spent = bench.settle();
        row(&format!("a node is excluded{kind}"), &bench, spent, bench.writes - before, Duration::from_secs(2));
        let before = bench.writes;
        bench.overview.handle(OverviewInput::NodeApplied(&node(3)));
        let spent = bench.settle();
        row(&format!("it is back{kind}"), &bench, spent, bench.writes - before, Duration::from_secs(2));
    }
    if is_over { ExitCode::FAILURE } else { ExitCode::SUCCESS }
}
