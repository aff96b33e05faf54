//! Any order of events: after each, nothing that must hold is broken, nobody waits who could be helped, and no address
//! moved that need not.

use std::collections::BTreeMap;

use api::Key;
use controller::{Outcome, Settings};
use kit::Duration;
use proptest::prelude::*;

use crate::world::Cluster;

/// What happens, as a line of a scenario, and whether addresses of Services that it does not name may change.
#[derive(Clone, Debug)]
enum Event {
    Service(String),
    Delete(usize),
    Foreign(usize, &'static str),
    Configuration(Vec<&'static str>),
    Namespace(&'static str),
    Pass(u32),
    Restart,
}

const SERVICES: [&str; 8] = ["x/a", "x/b", "x/c", "x/d", "y/a", "y/b", "y/c", "z/a"];

/// Pool sets; each is in force as a whole.
const POOLS: [&[&str]; 10] = [
    &["a 10.0.0.0/32 fc00::/128"],
    &["a 10.0.0.0/32 fc00::/127 ns x,y", "b 10.0.0.1/32 label app=web", "c fc00::2/128"],
    &["a 10.0.0.0/30 fc00::/127", "b 10.0.0.4/31"],
    &["a 10.0.0.0/30", "b 10.0.0.4/31 fc00::/127", "c fc00::2/127 no-auto"],
    &["renamed 10.0.0.0/30 fc00::/127", "b 10.0.0.4/31"],
    &["a 10.0.0.0/31 ns x", "b 10.0.0.2/31 ns-label team=red priority 1", "c 10.0.0.4/31 fc00::/127 label app=web"],
    &["a 10.0.0.0/31 ns x,y", "b 10.0.0.2/31 priority 3", "c 10.0.0.4/31 fc00::/127 label app=web priority 2"],
    &["b 10.0.0.0/32 avoid-buggy", "a 10.0.0.1/32"],
    &["a fc00::/126"],
    &[],
];

fn service() -> impl Strategy<Value = String> {
    let stack =
        prop::sample::select(vec!["v4", "v4", "v6", "dual", "dual", "prefer-v4", "prefer-v6", "cluster-ips None"]);
    let request = prop::sample::select(vec![
        "",
        "",
        "",
        "",
        "",
        "from a",
        "from b",
        "from nowhere",
        "ip 10.0.0.1",
        "ip 10.0.0.4",
        "ip fc00::1",
        "ip 10.0.0.2,fc00::1",
        "ip 10.0.0.2 from a",
        "ip web",
    ]);
    let sharing = prop::sample::select(vec!["", "", "key k", "key k", "key z", "key k local app=web"]);
    let ports = prop::sample::select(vec!["tcp/80", "tcp/80", "udp/53", "tcp/80 tcp/443", ""]);
    let rest =
        prop::sample::select(vec!["", "", "", "label app=web", "ip-mode", "type ClusterIP", "class other", "new"]);
    (0..SERVICES.len(), stack, request, sharing, ports, rest).prop_map(
        |(name, stack, request, sharing, ports, rest)| {
            format!("svc {} {stack} {request} {sharing} {ports} {rest}", SERVICES[name])
        },
    )
}

fn event() -> impl Strategy<Value = Event> {
    let foreign = prop::sample::select(vec!["192.0.2.1", "10.0.0.1 of a", "10.0.0.0", "-", "web", "10.0.0.1,10.0.0.2"]);
    let namespace = prop::sample::select(vec!["x team=red", "x team=blue", "y team=red", "y", "z team=red"]);
    prop_oneof![
        12 => service().prop_map(Event::Service),
        3 => (0..SERVICES.len()).prop_map(Event::Delete),
        1 => (0..SERVICES.len(), foreign).prop_map(|(name, status)| Event::Foreign(name, status)),
        2 => prop::sample::select(POOLS.to_vec()).prop_map(|pools| Event::Configuration(pools.to_vec())),
        2 => namespace.prop_map(Event::Namespace),
        2 => prop::sample::select(vec![1, 3, 700]).prop_map(Event::Pass),
        2 => Just(Event::Restart),
    ]
}

/// The addresses of the Services in `before` that an event about `named` has changed for others than it names.
fn moved(before: &BTreeMap<Key, Vec<String>>, after: &BTreeMap<Key, Vec<String>>, named: &str) -> Vec<String> {
    let others = before.iter().filter(|(key, addresses)| key.to_string() != named && !addresses.is_empty());
    let lost = others.filter(|(key, addresses)| {
        // A second address may come beside the first.
        after.get(*key).is_some_and(|now| !now.starts_with(addresses))
    });
    lost.map(|(key, addresses)| format!("{key} lost {addresses:?}, has {:?}", after[key])).collect()
}

/// The Services whose wishes may come true when another gives something up.
fn wishes(cluster: &Cluster) -> Vec<String> {
    let wishes = |key: &&Key| {
        let decision = cluster.controller.explain(key);
        decision.is_some_and(|decision| matches!(decision.outcome, Outcome::Wanting(_)))
    };
    cluster.services.keys().filter(wishes).map(ToString::to_string).collect()
}

fn run(events: Vec<Event>) -> Result<(), TestCaseError> {
    let mut cluster = Cluster::new(Settings {
        namespace: "metallb-system".into(),
        load_balancer_class: None,
        pool_status_pace: Duration::ZERO,
    });
    for line in ["pool a 10.0.0.0/30 fc00::/127", "pool b 10.0.0.4/31", "config", "sync"] {
        cluster.step(line);
    }
    let mut pools = vec!["a", "b"];
    // A status that something else wrote and that was not yet set back is not what a Service has.
    let mut is_disturbed = false;
    for event in events {
        let (before, was_disturbed) = (cluster.addresses(), is_disturbed);
        let wishes = wishes(&cluster);
        let named = match event {
            Event::Service(line) => {
                cluster.step(&line);
                Some(line.split(' ').nth(1).unwrap().to_owned())
            }
            Event::Delete(name) => {
                if before.keys().any(|key| key.to_string() == SERVICES[name]) {
                    cluster.step(&format!("delete {}", SERVICES[name]));
                }
                Some(SERVICES[name].to_owned())
            }
            Event::Foreign(name, status) => {
                if before.keys().any(|key| key.to_string() == SERVICES[name]) {
                    cluster.step(&format!("foreign {} {status}", SERVICES[name]));
                    is_disturbed = true;
                }
                Some(SERVICES[name].to_owned())
            }
            Event::Configuration(new) => {
                for pool in pools.drain(..) {
                    cluster.step(&format!("no-pool {pool}"));
                }
                for pool in &new {
                    cluster.step(&format!("pool {pool}"));
                }
                pools.extend(new.iter().map(|pool| pool.split(' ').next().unwrap()));
                cluster.step("config");
                None
            }
            Event::Namespace(line) => {
                cluster.step(&format!("namespace {line}"));
                None
            }
            Event::Pass(seconds) => {
                cluster.step(&format!("+{seconds}s"));
                is_disturbed &= seconds < 700;
                Some(String::new())
            }
            Event::Restart => {
                // Until then all that others wrote is set back.
                cluster.step("+700s");
                is_disturbed = false;
                let addresses = cluster.addresses();
                cluster.output.clear();
                cluster.step("restart");
                prop_assert!(!cluster.output.contains(":="), "a restart wrote:\n{}", cluster.output);
                prop_assert_eq!(&cluster.addresses(), &addresses);
                None
            }
        };
        if let Some(named) = named.filter(|_| !was_disturbed && !is_disturbed) {
            let mut moved = moved(&before, &cluster.addresses(), &named);
            moved.retain(|text| !wishes.iter().any(|wish| text.starts_with(&format!("{wish} "))));
            prop_assert!(moved.is_empty(), "{moved:?}\n{}", cluster.output);
        }
    }
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn nothing_breaks_nobody_is_forgotten_and_nothing_moves(events in prop::collection::vec(event(), 1..60)) {
        run(events)?;
    }
}
