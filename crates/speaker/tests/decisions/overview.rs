//! Why nobody announces a Service, gate by gate; and that the overview and the speakers never disagree.

// `expect_test` writes the hashes when it updates a snapshot.
#![allow(clippy::needless_raw_string_hashes)]

use std::collections::BTreeMap;

use api::{Component, ConfigurationVerdict, Key, Object, ObjectRef, Report};
use expect_test::{Expect, expect};
use proptest::prelude::*;
use serde_json::json;
use speaker::{Answer, Options, Output, Overview, OverviewInput, Silence, Speaker};

use crate::scenario::{Scenario, node, service, slice};

/// The overview of a cluster, in the language of `scenario.rs`, and:
///
/// ```text
/// speaker n1 [invalid TEXT]     a speaker runs on the node, and what it makes of the configuration
/// refuse TEXT                   the objects make no configuration
/// announced web n1              a ServiceL2Status; `silent web n1` takes it away
/// gone speaker n1
/// why web
/// asked                         the Services whose answer may have changed
/// ```
pub(crate) struct Scene {
    pub(crate) overview: Overview,
    scenario: Scenario,
}

impl Scene {
    pub(crate) fn new() -> Scene {
        Scene { overview: Overview::new(String::new()), scenario: Scenario::new(Options::default()) }
    }

    fn play(&mut self, script: &str) -> String {
        script.lines().map(str::trim).filter(|line| !line.is_empty()).map(|line| self.line(line)).collect()
    }

    pub(crate) fn line(&mut self, line: &str) -> String {
        let words: Vec<&str> = line.split_whitespace().collect();
        let key = |name: &str| Key::new("default", name);
        let layer2 = |service: &str, node: &str| {
            object(&Report::Layer2 { node: node.to_owned(), service: key(service), interfaces: Vec::new() })
        };
        match words.as_slice() {
            ["configure"] => self.overview.handle(OverviewInput::Configured(self.scenario.draft())),
            ["refuse", words @ ..] => self.overview.handle(OverviewInput::Refused(words.join(" "))),
            ["node", name, rest @ ..] => self.overview.handle(OverviewInput::NodeApplied(&node(name, rest))),
            ["svc", name, addresses, rest @ ..] => {
                self.overview.handle(OverviewInput::ServiceApplied(&service(name, addresses, rest)));
            }
            ["eps", name, rest @ ..] => {
                self.overview.handle(OverviewInput::EndpointSliceApplied(&slice(name, rest)));
            }
            ["delete", "svc", name] => self.overview.handle(OverviewInput::ServiceDeleted(&key(name))),
            ["delete", "eps", name] => self.overview.handle(OverviewInput::EndpointSliceDeleted(&key(name))),
            ["delete", "node", name] => self.overview.handle(OverviewInput::NodeDeleted(name)),
            ["speaker", node, rest @ ..] => {
                self.overview.handle(OverviewInput::ReportApplied(&object(&state(node, rest))));
            }
            ["gone", "speaker", node] => {
                self.overview.handle(OverviewInput::ReportDeleted(&object(&state(node, &[])).reference()));
            }
            ["announced", service, node] => {
                self.overview.handle(OverviewInput::ReportApplied(&layer2(service, node)));
            }
            ["silent", service, node] => {
                self.overview.handle(OverviewInput::ReportDeleted(&layer2(service, node).reference()));
            }
            ["why", name] => return format!("{name}: {}\n", why(&self.overview, name)),
            ["asked"] => {
                let asked: Vec<String> = std::iter::from_fn(|| self.overview.next_dirty()).map(|it| it.name).collect();
                return format!("asked: {}\n", asked.join(" "));
            }
            _ => drop(self.scenario.feed(line)),
        }
        String::new()
    }
}

fn why(overview: &Overview, name: &str) -> String {
    match overview.answer(&Key::new("default", name)) {
        Answer::Silent(silence) => format!(
            "{} ({} s): {silence}; hint: {}",
            silence.reason(),
            silence.patience().as_secs(),
            silence.hint().unwrap_or("-")
        ),
        other => format!("{other:?}"),
    }
}

fn state(node: &str, words: &[&str]) -> Report {
    let verdict = match words {
        ["invalid", text @ ..] => ConfigurationVerdict::Invalid(text.join(" ")),
        _ => ConfigurationVerdict::Valid { warnings: String::new() },
    };
    Report::Configuration { component: Component::Speaker(node.to_owned()), verdict }
}

/// The object that says this.
fn object(report: &Report) -> Object {
    let reference = report.object("metallb-system");
    let value = json!({
        "metadata": {
            "name": reference.key.name, "namespace": reference.key.namespace, "labels": report.labels(),
        },
        "status": report.status("2026-01-01T00:00:00Z"),
    });
    Object::from_value(report.kind(), value).unwrap()
}

fn check(script: &str, expect: Expect) {
    expect.assert_eq(&Scene::new().play(script));
}

/// What all situations have unless they say otherwise.
const USUAL: &str = "pool p 10.0.0.0/24
    node n1 zone=a
    node n2 zone=b
    speaker n1
    speaker n2
    svc web 10.0.0.1
    eps web n1:ready
    ";

/// One situation for each gate.
#[test]
fn each_gate_has_its_reason() {
    let situations = [
        ("", "no advertisement at all"),
        ("l2 p a services=app=db", "for other Services"),
        ("bgp p a services=app=db", "the same with BGP"),
        ("l2 p a\nsvc web 10.1.0.1", "an address of no pool"),
        ("pool q 10.1.0.0/24\nl2 p a\nsvc web 10.0.0.1,10.1.0.1", "addresses of two pools"),
        ("l2 p a\nsvc web name:example.com", "a name"),
        ("l2 p a\neps web n1:notready", "backends that are not ready"),
        ("l2 p a\neps web", "no backends"),
        ("l2 p a services=app=web\nsvc web 10.0.0.1 app=web share", "shared, with selectors"),
        ("l2 p a nodes=zone=c", "for other nodes"),
        ("l2 p a\nnode n1 exclude\nnode n2 exclude", "all nodes are excluded"),
        ("l2 p a\nnode n1 exclude\nnode n2 !network", "each for a reason of its own"),
        ("l2 p a nodes=zone=a\nsvc web 10.0.0.1 local\neps web n2:ready", "backends on other nodes"),
        ("bgp p a", "no peer"),
        ("bgp p a peers=r2\npeer r1 192.0.2.1", "another peer"),
        ("bgp p a\npeer r1 192.0.2.1 nodes=zone=c", "a peer of other nodes"),
        ("l2 p a nodes=zone=c\nbgp p b", "both ways, each with a gate"),
        ("l2 p a\ndelete node n1\ndelete node n2", "no nodes"),
        ("l2 p a\ngone speaker n1\ngone speaker n2", "no speakers"),
        ("l2 p a nodes=zone=a\ngone speaker n1", "the speaker is elsewhere"),
        ("l2 p a", "the speakers do not"),
        ("l2 p a\nspeaker n1 invalid configuration error: peer", "a speaker has no configuration"),
    ];
    let mut all = String::new();
    for (script, title) in situations {
        let said = Scene::new().play(&format!("{USUAL}{script}\nconfigure\nwhy web"));
        all.extend([title, "\n    ", said.trim_end().trim_start_matches("web: "), "\n"]);
    }
    expect![[r#"
        no advertisement at all
            NoAdvertisement (5 s): no advertisement selects pool "p"; hint: create an L2Advertisement or a BGPAdvertisement that selects the pool
        for other Services
            ServiceNotSelected (5 s): the advertisements of pool "p" do not select the Service; hint: change the serviceSelectors or the labels of the Service
        the same with BGP
            ServiceNotSelected (5 s): the advertisements of pool "p" do not select the Service; hint: change the serviceSelectors or the labels of the Service
        an address of no pool
            NotInPool (5 s): no pool holds 10.1.0.1; hint: add the address to an IPAddressPool, or let the controller reassign it
        addresses of two pools
            SeveralPools (5 s): the Service's addresses are from different pools; hint: delete one of the addresses from the status; both must be from one pool
        a name
            InvalidAddress (5 s): the Service's status holds "example.com", which is no address; hint: something else writes this Service's status: find it and stop it
        backends that are not ready
            NoEndpoints (20 s): no backend can take traffic; hint: start a pod that the Service selects and that is ready
        no backends
            NoEndpoints (20 s): no backend can take traffic; hint: start a pod that the Service selects and that is ready
        shared, with selectors
            SharedWithServiceSelector (5 s): the address may be shared, and an advertisement of it has serviceSelectors; hint: remove allow-shared-ip from the Service or serviceSelectors from the L2Advertisement
        for other nodes
            NodeNotSelected (5 s): n1, n2: no advertisement for the Service selects this node; hint: change the nodeSelectors of the advertisement or the labels of the node
        all nodes are excluded
            ExcludedByLabel (5 s): n1, n2: the node is labelled to be excluded from load balancers; hint: remove the label node.kubernetes.io/exclude-from-external-load-balancers, or run with --ignore-exclude-lb
        each for a reason of its own
            ExcludedByLabel (5 s): n1: the node is labelled to be excluded from load balancers; n2: the node's network is unavailable; hint: remove the label node.kubernetes.io/exclude-from-external-load-balancers, or run with --ignore-exclude-lb
        backends on other nodes
            NoLocalEndpoints (20 s): n1: no backend on this node can take traffic; n2: no advertisement for the Service selects this node; hint: run a backend on this node, or set externalTrafficPolicy: Cluster on the Service
        no peer
            NoPeer (5 s): n1, n2: none of its peers has a session on this node; hint: create a BGPPeer that selects this node and that the advertisement names
        another peer
            NoPeer (5 s): n1, n2: none of its peers has a session on this node; hint: create a BGPPeer that selects this node and that the advertisement names
        a peer of other nodes
            NoPeer (5 s): n1, n2: none of its peers has a session on this node; hint: create a BGPPeer that selects this node and that the advertisement names
        both ways, each with a gate
            NoPeer (5 s): n1, n2: none of its peers has a session on this node; hint: create a BGPPeer that selects this node and that the advertisement names
        no nodes
            NoNodes (5 s): the cluster has no nodes; hint: add a node
        no speakers
            NoSpeaker (20 s): n1, n2 could announce it, but no speaker runs there; hint: look at the DaemonSet of the speakers, its events and its nodeSelector, or select other nodes
        the speaker is elsewhere
            NoSpeaker (20 s): n1 could announce it, but no speaker runs there; hint: look at the DaemonSet of the speakers, its events and its nodeSelector, or select other nodes
        the speakers do not
            SpeakerIdle (20 s): n1, n2 could announce it, but the speaker there does not; hint: look at the events of the Service and the log of that speaker: an interface may be missing there, or the node drained
        a speaker has no configuration
            InvalidConfiguration (5 s): configuration error: peer; hint: correct what the ConfigurationStates of MetalLB complain about
    "#]].assert_eq(&all);
}

#[test]
fn of_many_nodes_and_reasons_few_are_named() {
    check(
        "pool p 10.0.0.0/24
         l2 p a nodes=zone=a
         node n1 zone=a exclude
         node n2 zone=a exclude
         node n3 zone=a exclude
         node n4 zone=a exclude
         node n5 zone=a !network
         node n6 zone=b
         svc web 10.0.0.1
         eps web n1:ready
         configure
         why web",
        expect![[r#"
            web: ExcludedByLabel (5 s): n1, n2, n3 and 1 more: the node is labelled to be excluded from load balancers; n5: the node's network is unavailable; n6: no advertisement for the Service selects this node; hint: remove the label node.kubernetes.io/exclude-from-external-load-balancers, or run with --ignore-exclude-lb
        "#]],
    );
}

#[test]
fn who_is_announced_is_not_asked_about_whatever_else_is_wrong() {
    check(
        &format!(
            "{USUAL}
             configure
             announced web n9
             why web
             silent web n9
             why web
             svc web 10.0.0.1 type=ClusterIP
             why web
             svc web 10.0.0.1 class=other
             why web
             svc web -
             why web
             delete svc web
             why web"
        ),
        expect![[r#"
            web: Announced
            web: NoAdvertisement (5 s): no advertisement selects pool "p"; hint: create an L2Advertisement or a BGPAdvertisement that selects the pool
            web: NotOurs
            web: NotOurs
            web: NoAddress
            web: NotOurs
        "#]],
    );
}

#[test]
fn a_configuration_that_is_not_in_force_is_told_where_it_might_help() {
    check(
        &format!(
            "{USUAL}
             refuse configuration error: peer r1
             why web
             configure
             why web
             refuse configuration error: peer r1
             why web
             l2 p a
             configure
             eps web n1:notready
             refuse configuration error: peer r1
             why web
             configure
             why web"
        ),
        expect![[r#"
            web: InvalidConfiguration (5 s): configuration error: peer r1; hint: correct what the ConfigurationStates of MetalLB complain about
            web: NoAdvertisement (5 s): no advertisement selects pool "p"; hint: create an L2Advertisement or a BGPAdvertisement that selects the pool
            web: InvalidConfiguration (5 s): configuration error: peer r1; hint: correct what the ConfigurationStates of MetalLB complain about
            web: NoEndpoints (20 s): no backend can take traffic; hint: start a pod that the Service selects and that is ready
            web: NoEndpoints (20 s): no backend can take traffic; hint: start a pod that the Service selects and that is ready
        "#]],
    );
}

/// The cost grows with what changed: of what all have in common, only those are asked that nobody announces.
#[test]
fn only_what_may_have_changed_is_asked_again() {
    check(
        &format!(
            "{USUAL}
             l2 p a
             configure
             svc db 10.0.0.2
             eps db n1:ready
             svc bare 10.0.0.4
             svc new -
             eps new n1:ready
             svc none 10.0.0.3 type=ClusterIP
             announced web n1
             asked
             asked
             node n1 zone=c
             asked
             node n1 zone=c
             asked
             speaker n1 invalid x
             asked
             configure
             asked
             l2 p a nodes=zone=c
             configure
             asked
             refuse x
             asked
             configure
             asked
             configure
             asked
             eps web n2:ready
             asked
             eps db n2:ready
             asked
             eps bare n2:ready
             asked
             delete node n2
             asked
             eps bare n2:notready
             asked
             gone speaker n1
             asked
             announced web n2
             asked
             silent web n1
             asked
             silent web n2
             asked"
        ),
        expect![[r#"
            asked: bare db new none web
            asked: 
            asked: db
            asked: 
            asked: db
            asked: 
            asked: bare db new
            asked: bare db new
            asked: bare db new
            asked: 
            asked: web
            asked: db
            asked: bare
            asked: bare db
            asked: bare
            asked: db
            asked: 
            asked: web
            asked: 
        "#]],
    );
}

/// Without backends, it is the same whatever the nodes and the protocols are.
#[test]
fn of_a_service_without_backends_no_node_is_asked() {
    for advertisements in ["l2 p a", "bgp p a", "l2 p a nodes=zone=x\nbgp p a nodes=zone=x"] {
        for nodes in ["", "delete node n1\ndelete node n2", "node n1 exclude\nnode n2 !network"] {
            let mut scene = Scene::new();
            scene.play(&format!("{USUAL}\n{advertisements}\nconfigure\neps web\n{nodes}"));
            let said = why(&scene.overview, "web");
            assert!(said.starts_with("NoEndpoints (20 s)"), "{advertisements:?} {nodes:?}: {said}");
        }
    }
    check(
        "pool p 10.0.0.0/24
         svc web 10.0.0.1
         why web
         configure
         why web
         l2 p a services=app=web
         configure
         why web
         svc web 10.9.0.1
         why web",
        expect![[r#"
            web: InvalidConfiguration (5 s): no configuration is in force; hint: correct what the ConfigurationStates of MetalLB complain about
            web: NoAdvertisement (5 s): no advertisement selects pool "p"; hint: create an L2Advertisement or a BGPAdvertisement that selects the pool
            web: ServiceNotSelected (5 s): the advertisements of pool "p" do not select the Service; hint: change the serviceSelectors or the labels of the Service
            web: NotInPool (5 s): no pool holds 10.9.0.1; hint: add the address to an IPAddressPool, or let the controller reassign it
        "#]],
    );
}

/// A cluster of speakers, each on its node, and what they show.
struct Fleet {
    scenarios: BTreeMap<String, Scenario>,
    /// What each node says, by object: of some objects there is one for all nodes.
    said: BTreeMap<(ObjectRef, String), Report>,
}

impl Fleet {
    fn new() -> Fleet {
        let scenario =
            |node: &str| (node.to_owned(), Scenario::new(Options { node: node.to_owned(), ..Options::default() }));
        Fleet { scenarios: ["n1", "n2", "n3"].map(scenario).into(), said: BTreeMap::new() }
    }

    /// Tells all speakers, and the overview what they show from then on.
    fn feed(&mut self, line: &str, overview: &mut Overview) {
        let before = self.said.clone();
        for (node, scenario) in &mut self.scenarios {
            for output in scenario.feed(line) {
                match output {
                    Output::Say(report) => {
                        self.said.insert((report.object("metallb-system"), node.clone()), report);
                    }
                    Output::Unsay(report) => {
                        self.said.remove(&(report.object("metallb-system"), node.clone()));
                    }
                    _ => {}
                }
            }
        }
        let is_shown = |reference: &ObjectRef| self.said.keys().any(|(other, _)| other == reference);
        for (reference, _) in before.keys().filter(|(reference, _)| !is_shown(reference)) {
            overview.handle(OverviewInput::ReportDeleted(reference));
        }
        for report in self.said.values() {
            overview.handle(OverviewInput::ReportApplied(&object(report)));
        }
    }

    fn announces(&self, service: &str) -> bool {
        let key = Key::new("default", service);
        let is_announced = |speaker: &Speaker| {
            speaker.explain(&key).is_some_and(|(layer2, bgp)| layer2.outcome.is_ok() || bgp.outcome.is_ok())
        };
        self.scenarios.values().any(|scenario| is_announced(&scenario.speaker))
    }
}

fn lines() -> impl Strategy<Value = String> {
    let node = prop::sample::select(vec!["n1", "n2", "n3"]);
    let service = prop::sample::select(vec!["web", "db"]);
    let node_words =
        prop::sample::select(vec!["", "zone=a", "zone=b", "zone=a exclude", "zone=a !network", "zone=b !ready"]);
    let states = prop::sample::select(vec!["ready", "notready", "terminating"]);
    let addresses = prop::sample::select(vec!["10.0.0.1", "10.0.0.2", "10.1.0.1", "10.0.0.3,fc00::1", "-"]);
    let service_words =
        prop::sample::select(vec!["", "local", "app=web", "app=web share", "share", "type=ClusterIP", "class=x"]);
    let advertisement = prop::sample::select(vec!["", "nodes=zone=a", "services=app=web", "nodes=zone=c"]);
    prop_oneof![
        (node.clone(), node_words).prop_map(|(node, words)| format!("node {node} {words}")),
        node.clone().prop_map(|node| format!("delete node {node}")),
        (service.clone(), addresses, service_words).prop_map(|(name, at, words)| format!("svc {name} {at} {words}")),
        (service.clone(), node, states).prop_map(|(name, node, state)| format!("eps {name} {node}:{state}")),
        service.clone().prop_map(|name| format!("delete eps {name}")),
        service.prop_map(|name| format!("delete svc {name}")),
        advertisement.clone().prop_map(|words| format!("l2 p a {words}")),
        (advertisement, prop::sample::select(vec!["", "peers=r2"]))
            .prop_map(|(words, peers)| format!("bgp p a {words} {peers}")),
        prop::sample::select(vec!["peer r1 192.0.2.1", "peer r2 fc00::9 nodes=zone=b", "forget peer r1"])
            .prop_map(str::to_owned),
        prop::sample::select(vec!["pool p 10.0.0.0/24 fc00::/120", "pool p 10.1.0.0/24", "pool q 10.2.0.0/24"])
            .prop_map(str::to_owned),
        Just("configure".to_owned()),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    /// What is announced is never silent, what is not always is, and the gates say so without a look at what is shown.
    #[test]
    fn the_overview_and_the_speakers_never_disagree(script in prop::collection::vec(lines(), 1..60)) {
        let start = "pool p 10.0.0.0/24 fc00::/120\nl2 p a\npeer r1 192.0.2.1\nnode n1 zone=a\nnode n2 zone=b\n\
                     svc web 10.0.0.1\neps web n1:ready\nconfigure\nsynced";
        let mut fleet = Fleet::new();
        let (mut seeing, mut blind) = (Scene::new(), Scene::new());
        for line in start.lines().map(str::to_owned).chain(script) {
            fleet.feed(&line, &mut seeing.overview);
            if line != "synced" {
                seeing.line(&line);
                blind.line(&line);
            }
        }
        for name in ["web", "db"] {
            let key = Key::new("default", name);
            let (seen, foreseen) = (seeing.overview.answer(&key), blind.overview.answer(&key));
            if fleet.announces(name) {
                prop_assert_eq!(seen, Answer::Announced);
                prop_assert!(matches!(foreseen, Answer::Silent(Silence::NoSpeaker(_))), "{:?}", foreseen);
            } else {
                prop_assert_ne!(seen, Answer::Announced);
                prop_assert!(!matches!(foreseen, Answer::Silent(Silence::NoSpeaker(_))), "{:?}", foreseen);
            }
        }
    }
}
