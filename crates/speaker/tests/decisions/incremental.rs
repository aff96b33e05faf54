//! Whatever happened and in whatever order: what a speaker does now is what a speaker would do that was told only of how
//! things are now; and what Services do never touches a session.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use bgp::RouteAttributes;
use ipnet::IpNet;
use kit::Rng;
use l2::InterfaceSet;
use speaker::{Options, Output, Protocol};

use crate::scenario::Scenario;

/// What the drivers would be doing after the outputs so far.
#[derive(Debug, Default, PartialEq)]
struct World {
    answers: BTreeMap<IpAddr, InterfaceSet>,
    sessions: BTreeMap<String, Arc<config::Peer>>,
    routes: BTreeMap<(String, IpNet), Arc<RouteAttributes>>,
    announced: BTreeMap<(api::Key, Protocol), Vec<IpAddr>>,
    shown: BTreeMap<api::ObjectRef, api::Report>,
    watched: BTreeSet<String>,
    /// Peers that have all of their routes.
    complete: BTreeSet<String>,
}

impl World {
    fn apply(&mut self, output: Output) {
        match output {
            Output::AddressAnnounce { address, interfaces } => {
                let old = self.answers.insert(address, interfaces.clone());
                assert_ne!(old, Some(interfaces), "told twice to answer for {address}");
            }
            Output::AddressWithdraw { address } | Output::AddressHandOver { address } => {
                assert!(self.answers.remove(&address).is_some(), "{address} was not answered");
            }
            Output::Watch(nodes) => {
                assert_ne!(self.watched, nodes, "told twice whom to watch");
                self.watched = nodes;
            }
            Output::PeerAdd(peer) => {
                assert!(self.sessions.insert(peer.name.clone(), peer).is_none(), "a session that is there already");
            }
            Output::PeerRemove(name) => {
                assert!(self.sessions.remove(&name).is_some(), "{name} had no session");
                self.routes.retain(|(peer, _), _| *peer != name);
                self.complete.remove(&name);
            }
            Output::PeerReset { peer, .. } => {
                self.routes.retain(|(name, _), _| *name != peer.name);
                self.complete.remove(&peer.name);
                let old = self.sessions.insert(peer.name.clone(), peer);
                assert!(old.is_some(), "there was no session");
            }
            Output::PeerChange { from, peer, change } => {
                assert!(change.effect() < config::Effect::Reset);
                assert!(self.sessions.remove(&from).is_some(), "{from} had no session");
                let routes = std::mem::take(&mut self.routes);
                let renamed = |name: String| if name == from { peer.name.clone() } else { name };
                self.routes = routes.into_iter().map(|((name, prefix), it)| ((renamed(name), prefix), it)).collect();
                self.complete = self.complete.iter().cloned().map(renamed).collect();
                assert!(self.sessions.insert(peer.name.clone(), peer).is_none(), "two sessions of one name");
            }
            Output::PeerComplete(name) => {
                assert!(self.sessions.contains_key(&name) && self.complete.insert(name));
            }
            Output::RouteAnnounce { peer, prefix, attributes } => {
                assert!(self.sessions.contains_key(&peer), "a route for {peer}, which has no session");
                let old = self.routes.insert((peer, prefix), Arc::clone(&attributes));
                assert_ne!(old, Some(attributes), "told twice to announce {prefix}");
            }
            Output::RouteWithdraw { peer, prefix } => {
                assert!(self.routes.remove(&(peer, prefix)).is_some(), "{prefix} was not announced");
            }
            Output::ServiceAnnounced { service, protocol, addresses, .. } => {
                assert!(self.announced.insert((service, protocol), addresses).is_none());
            }
            Output::ServiceWithdrawn { service, protocol, addresses, .. } => {
                assert_eq!(self.announced.remove(&(service, protocol)), Some(addresses));
            }
            Output::Say(report) => {
                let old = self.shown.insert(report.object("m"), report.clone());
                assert_ne!(old, Some(report), "shown twice");
            }
            Output::Unsay(report) => {
                assert!(self.shown.remove(&report.object("m")).is_some(), "{report:?} was not shown");
            }
            Output::AddressRepeat { .. } | Output::AddressAsk { .. } | Output::Fellows(_) | Output::State(_) => {}
            Output::Write(_) | Output::Settled | Output::Left => {}
        }
    }

    /// What is shown is what is done (contract 1.9), on the segment by the node that has the Service's first address.
    fn check_shown(&self, firsts: &BTreeMap<String, IpAddr>) {
        let has_first = |((service, protocol), addresses): &(&(api::Key, Protocol), &Vec<IpAddr>)| {
            *protocol == Protocol::Layer2 && firsts.get(&service.name) == addresses.first()
        };
        let expected = self.announced.iter().filter(has_first).count();
        let mut layer2 = 0;
        for report in self.shown.values() {
            match report {
                api::Report::Layer2 { service, .. } => {
                    layer2 += 1;
                    assert!(self.announced.contains_key(&(service.clone(), Protocol::Layer2)), "{report:?}");
                }
                api::Report::Bgp { service, peers, .. } => {
                    let addresses = &self.announced[&(service.clone(), Protocol::Bgp)];
                    let has = |prefix: &IpNet| addresses.iter().any(|address| prefix.contains(address));
                    let given: BTreeSet<&String> =
                        self.routes.keys().filter(|(_, prefix)| has(prefix)).map(|(peer, _)| peer).collect();
                    assert!(
                        peers.iter().all(|peer| given.contains(peer)) && !peers.is_empty(),
                        "{report:?}: {given:?}"
                    );
                }
                api::Report::Configuration { .. } => panic!("{report:?}"),
            }
        }
        assert_eq!(layer2, expected);
    }

    fn sessions_touched(output: &Output) -> bool {
        matches!(
            output,
            Output::PeerAdd(_) | Output::PeerRemove(_) | Output::PeerReset { .. } | Output::PeerChange { .. }
        )
    }
}

/// A random line of the scenarios' language.
fn line(rng: &mut Rng) -> String {
    let pick = |rng: &mut Rng, words: &[&str]| (*rng.pick(words).unwrap()).to_owned();
    let node = pick(rng, &["n1", "n2", "n3", "n4", "n5"]);
    let service = pick(rng, &["s1", "s2", "s3", "s4"]);
    let labels = pick(rng, &["", "zone=a", "zone=b", "zone=a exclude", "!ready", "!network", "zone=b !ready"]);
    match rng.below(19) {
        0 | 1 => format!("node {node} {labels}"),
        2 => format!("delete node {node}"),
        3..=5 => {
            let addresses = pick(rng, &["10.0.0.1", "10.0.0.2", "10.0.0.1,fc00::1", "fc00::2", "192.0.2.1", "-"]);
            let options = pick(rng, &["", "local", "share", "app=web", "app=db", "type=ClusterIP", "class=x"]);
            let assigned = pick(rng, &["", "", "assigned=n1", "assigned=n2", "assigned=n9"]);
            format!("svc {service} {addresses} {options} {assigned}")
        }
        6 => format!("delete svc {service}"),
        7 | 8 => {
            let state = pick(rng, &["ready", "notready", "terminating"]);
            let other = pick(rng, &["n1:ready", "n2:notready", ""]);
            format!("eps {service} {node}:{state} {other}")
        }
        9 => format!("delete eps {service}"),
        13 | 14 => members(rng),
        16..=18 => fitness(rng),
        10 => format!("interfaces {}", pick(rng, &["eth0", "eth1", "eth0 eth1", ""])),
        11 => {
            let selectors = pick(rng, &["", "nodes=zone=a", "services=app=web", "interfaces=eth0", "prefer=9:zone=b"]);
            format!("l2 p {} {selectors} {}\nconfigure", pick(rng, &["one", "two"]), pick(rng, &["", "balanced"]))
        }
        12 => {
            let name = pick(rng, &["one", "two"]);
            let options = pick(
                rng,
                &["", "length=24", "nodes=zone=a", "services=app=web", "peers=r1", "pref=7", "communities=1:1"],
            );
            format!("bgp p {name} {options}\nconfigure")
        }
        _ => {
            let options = pick(
                rng,
                &[
                    "192.0.2.1",
                    "192.0.2.1 dual",
                    "192.0.2.2",
                    "192.0.2.1 nodes=zone=a",
                    "192.0.2.1 hold=9",
                    "192.0.2.2 port=1179",
                ],
            );
            let forget = pick(rng, &["", "forget peer r1\n", "forget peer r2\n"]);
            format!("{forget}peer {} {options}\nconfigure", pick(rng, &["r1", "r2"]))
        }
    }
}

/// Who is alive, and says what.
fn members(rng: &mut Rng) -> String {
    let says = |name: &str, rng: &mut Rng| {
        let says = ["", "=ok", "=network:10.0.0.0/31", "=advertisement6:one", "=out4", "=advertisement4:one"];
        rng.one_in(4).then(String::new).unwrap_or_else(|| format!("{name}{}", rng.pick(&says).unwrap()))
    };
    let others: Vec<String> = ["n2", "n3", "n4", "n5"].into_iter().map(|name| says(name, rng)).collect();
    if rng.one_in(8) { "members joining".to_owned() } else { format!("members n1 {}", others.join(" ")) }
}

/// Others that say nothing.
const OLD: &str = "n2 n3 n4 n5";

/// A random line about who is there and able, and nothing else.
fn election(rng: &mut Rng) -> String {
    let node = *rng.pick(&["n2", "n3", "n4", "n5"]).unwrap();
    match rng.below(8) {
        0 | 1 => format!("node {node} {}", rng.pick(&["", "", "", "zone=a", "exclude"]).unwrap()),
        2 => format!("delete node {node}\n{}", rng.pick(&["", "node n2\nnode n3\nnode n4\nnode n5"]).unwrap()),
        3 => format!("members n1 {}", rng.pick(&["", "n2=ok", "n5=out4", OLD, OLD]).unwrap()),
        4 => format!("members n1 {}", OLD.replace(node, &format!("{node}=ok"))),
        5 => members(rng),
        _ => fitness(rng),
    }
}

/// Links and ways out that come and go, and time that passes. Nothing is ever there that was not there at the start: a
/// speaker that is told of the present alone does not know what to miss.
fn fitness(rng: &mut Rng) -> String {
    let pick = |rng: &mut Rng, words: &[&str]| (*rng.pick(words).unwrap()).to_owned();
    let state = pick(rng, &["", "", "!carrier", "!up"]);
    let change = match rng.below(5) {
        0 => format!("link eth0 192.0.2.0/24 {state}"),
        1 | 2 => format!("link eth1 10.0.0.0/24 fc00::/64 {state}"),
        3 => format!("link eth1 {}", pick(rng, &["10.0.0.0/24", "fc00::/64", "gone"])),
        _ => format!("gateway {} {}", pick(rng, &["4", "6"]), pick(rng, &["eth0", "eth0 eth1", "eth1", "none"])),
    };
    format!("{change}\nwait {}", pick(rng, &["100ms", "300ms", "2", "10", "400"]))
}

/// What a node has before anything is lost.
const FIT: &str =
    "link eth0 192.0.2.0/24\nlink eth1 10.0.0.0/24 fc00::/64\ngateway 4 eth0\ngateway 6 eth0\nconfigure\n";

/// Whatever is lost counts after it, and what is back counts as lost no more.
const LATER: &str = "wait 1000";

const START: &str = "pool p 10.0.0.0/24 fc00::/120\nl2 p one\nbgp p one\npeer r1 192.0.2.1\nnode n1\n";

fn run(script: &str) -> World {
    let mut scenario = Scenario::new(Options { node: "n1".into(), ..Options::default() });
    let mut world = World::default();
    let mut firsts = BTreeMap::new();
    for line in script.lines() {
        if let ["svc", name, addresses, ..] = line.split_whitespace().collect::<Vec<_>>().as_slice()
            && let Some(first) = addresses.split(',').next().and_then(|first| first.parse().ok())
        {
            firsts.insert((*name).to_owned(), first);
        }
        let outputs = scenario.feed(line);
        let mut whole: BTreeSet<&str> = BTreeSet::new();
        for output in &outputs {
            match output {
                Output::PeerComplete(name) => drop(whole.insert(name)),
                Output::RouteAnnounce { peer, .. } => assert!(!whole.contains(peer.as_str()), "{peer} had all"),
                _ => {}
            }
        }
        for output in outputs {
            let may_touch_sessions = ["configure", "node n1", "delete node n1", "synced"].iter();
            assert!(
                !World::sessions_touched(&output) || may_touch_sessions.clone().any(|start| line.starts_with(start)),
                "{line} touched a session"
            );
            world.apply(output);
        }
        world.check_shown(&firsts);
        assert_eq!(world.complete, world.sessions.keys().cloned().collect(), "{line}");
    }
    world
}

/// The last word on each object, in an order that has nothing to do with the history.
fn condensed(history: &[String]) -> String {
    let mut last: BTreeMap<String, String> = BTreeMap::new();
    for line in history.iter().flat_map(|lines| lines.lines()) {
        let words: Vec<&str> = line.split_whitespace().collect();
        match words.as_slice() {
            ["delete", kind, name] => {
                last.remove(&format!("{kind} {name}"));
            }
            ["configure"] | ["wait", _] => {}
            ["forget", kind, name] => {
                last.remove(&format!("{kind} {name}"));
            }
            [kind @ ("interfaces" | "members"), ..] => {
                last.insert((*kind).into(), line.into());
            }
            [kind @ ("l2" | "bgp"), _, name, ..] => {
                last.insert(format!("zz {kind} {name}"), line.into());
            }
            [kind, name, ..] => {
                last.insert(format!("{kind} {name}"), line.into());
            }
            [] | [_] => {}
        }
    }
    let present = last.into_values().chain(["configure", "synced", LATER].map(str::to_owned));
    FIT.to_owned() + &present.collect::<Vec<_>>().join("\n")
}

/// Services whose first places are others of the nodes.
const SERVICES: &str = "svc s1 10.0.0.1\neps s1 n1:ready\nsvc s2 10.0.0.2\neps s2 n1:ready\nsvc s3 10.0.0.4\neps s3 n1:ready\n\
    svc s4 10.0.0.5,fc00::5\neps s4 n1:ready\nnode n2\nnode n3\nnode n4\nnode n5";

#[test]
fn the_present_alone_decides() {
    check(2_000, "", line);
}

#[test]
fn r9_the_present_alone_decides_elections() {
    check(500, SERVICES, election);
}

/// The same Services, assigned to other nodes than their first ones.
const ASSIGNED: &str = "l2 p one balanced\nconfigure\nsvc s1 10.0.0.1 assigned=n1\neps s1 n1:ready\n\
    svc s2 10.0.0.2 assigned=n2\neps s2 n1:ready\nsvc s3 10.0.0.4 assigned=n3\neps s3 n1:ready\n\
    svc s4 10.0.0.5,fc00::5 assigned=n1\neps s4 n1:ready\nnode n2\nnode n3\nnode n4\nnode n5";

/// A random line about elections, of which all members know the assignments half of the time.
fn assigned_election(rng: &mut Rng) -> String {
    let service = *rng.pick(&["s1 10.0.0.1", "s2 10.0.0.2", "s3 10.0.0.4", "s4 10.0.0.5,fc00::5"]).unwrap();
    let node = *rng.pick(&["n1", "n2", "n3", "n4", "n5"]).unwrap();
    match rng.below(4) {
        0 => format!("svc {service} {}", rng.pick(&["", &format!("assigned={node}")]).unwrap()),
        1 => format!(
            "members n1 {}",
            OLD.replace(node, "").split_whitespace().map(|it| format!("{it}=ok ")).collect::<String>()
        ),
        2 => format!("l2 p one {}\nconfigure", rng.pick(&["", "balanced", "balanced prefer=9:zone=a"]).unwrap()),
        _ => election(rng),
    }
}

#[test]
fn adr_16_the_present_alone_decides_where_addresses_are_assigned() {
    check(500, ASSIGNED, assigned_election);
}

/// Services that share addresses in all ways: the only one, the first one, the second one, all.
const SHARING: &str = "node n2\nnode n3\nnode n4\nnode n5\neps s1 n1:ready\neps s2 n1:ready\neps s3 n1:ready\n\
    eps s4 n1:ready\nmembers n1 n2=ok n3=ok n4=ok n5=ok";

/// A random line about who shares what, and now and then about elections.
fn sharing(rng: &mut Rng) -> String {
    let pick = |rng: &mut Rng, words: &[&str]| (*rng.pick(words).unwrap()).to_owned();
    let service = pick(rng, &["s1", "s2", "s3", "s4"]);
    let addresses = ["10.0.0.1,fc00::1", "10.0.0.2,fc00::1", "fc00::1", "10.0.0.1", "fc00::1,10.0.0.1", "10.0.0.3"];
    match rng.below(12) {
        0..=5 => {
            let options =
                pick(rng, &["share", "share", "share", "", "share class=x", "share assigned=n2", "share local"]);
            format!("svc {service} {} {options}", pick(rng, &addresses))
        }
        6 => format!("delete svc {service}"),
        7 => format!("eps {service} {}", pick(rng, &["n1:ready", "n2:ready", "n1:notready"])),
        8 => format!("l2 p one {}\nconfigure", pick(rng, &["", "balanced", "interfaces=eth0"])),
        9 => format!("members n1 {}", pick(rng, &[OLD, "n2=ok n3=ok n4=ok n5=ok", "n3=ok n4=out6", "n2=out4 n5=ok"])),
        10 => format!("interfaces {}", pick(rng, &["eth0", "eth1"])),
        _ if rng.one_in(2) => election(rng),
        // Alone and without some of its links, and then maybe not alone any more.
        _ => format!(
            "link eth1 {}\nwait 2\nmembers n1\n{}",
            pick(rng, &["10.0.0.0/24", "10.0.0.0/24", "fc00::/64", "10.0.0.0/24 fc00::/64"]),
            pick(rng, &["members n1 n9=ok", "", "node n2 exclude\nnode n3 exclude\nmembers n1 n9=ok"])
        ),
    }
}

#[test]
fn contract_12_1_d10_the_present_alone_decides_where_addresses_are_shared() {
    check(1_000, SHARING, sharing);
}

fn check(seeds: u64, start: &str, line: fn(&mut Rng) -> String) {
    for seed in 0..seeds {
        let mut rng = Rng::new(seed);
        let synced_at = rng.below(10);
        let mut history = vec![FIT.to_owned(), START.to_owned(), "configure".to_owned(), start.to_owned()];
        for step in 0..40 {
            if step == synced_at {
                history.push("synced".to_owned());
            }
            history.push(line(&mut rng));
        }
        history.push(LATER.to_owned());
        let lived = run(&history.join("\n"));
        let told = run(&condensed(&history));
        assert_eq!(lived, told, "seed {seed}:\n{}", history.join("\n"));
    }
}

#[test]
fn the_small_outbox_of_a_scenario_is_minded_with_many_services() {
    let mut scenario = Scenario::new(Options { node: "n1".into(), ..Options::default() });
    let mut world = World::default();
    for line in START.lines() {
        scenario.feed(line).into_iter().for_each(|output| world.apply(output));
    }
    let names: BTreeSet<String> = (1..=200).map(|n| format!("s{n}")).collect();
    for (n, name) in names.iter().enumerate() {
        scenario.feed(&format!("svc {name} 10.0.0.{n},fc00::{n:x}"));
        scenario.feed(&format!("eps {name} n1:ready"));
    }
    for line in ["configure", "synced"] {
        scenario.feed(line).into_iter().for_each(|output| world.apply(output));
    }
    assert_eq!(world.answers.len(), 400);
    assert_eq!(world.routes.len(), 200);

    // The decisions in portions are all decisions.
    let (mut told, mut after) = (BTreeSet::new(), None);
    loop {
        let portion: Vec<_> = scenario.speaker.explain_after(after.as_ref()).take(7).collect();
        let Some((last, _, _)) = portion.last() else { break };
        after = Some((*last).clone());
        for (key, layer2, bgp) in portion {
            assert!(layer2.outcome.is_ok() && bgp.outcome.is_ok(), "{key}");
            assert!(told.insert(key.name.clone()), "{key} twice");
        }
    }
    assert_eq!(told, names);
}
