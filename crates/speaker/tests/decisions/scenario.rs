//! A small language for situations: one line is one input, and what the speaker says is printed line by line.
//!
//! ```text
//! node n1 zone=a !ready !network exclude      a node with labels and conditions
//! node n1 taint:maintenance                   a node with a taint
//! node n1 ip:10.9.0.1                         a node with an address
//! pool p 10.0.0.0/24 fc00::/120               a pool of the next configuration
//! l2 p adv interfaces=eth1 nodes=zone=a services=app=web prefer=50:zone=a balanced
//! bgp p adv peers=r1 length=24 pref=100 med=1 prepend=2 communities=65000:1 extended=rt:1:1 nodes=zone=a services=app=web
//! peer r1 192.0.2.1 dual nodes=zone=a hold=9 port=1179
//! configure                                   the pools and peers named so far come into force
//! svc web 10.0.0.1,fc00::1 local share app=web class=x type=ClusterIP assigned=n2
//! eps web n1:ready n2:notready n3:terminating
//! interfaces eth0 eth1
//! members joining                             memberlist, of which no other member is known yet
//! members n1 n2=ok n3=network:10.0.0.0/24+advertisement4:adv+out6     these are alive, and say this of themselves
//! link eth1 10.0.0.0/24 !carrier              an interface of this node with its networks
//! link eth1 gone                              it is no more
//! gateway 4 eth1                              the default route for IPv4 leaves by it, or by any of several
//! gateway 4 none                              there is none
//! recalled                                    what came before is what was known last
//! synced
//! delete svc web
//! conflict 10.0.0.1 on eth0 by 02:00:00:00:00:aa      a stranger answers for an address
//! conflict 10.0.0.1 on eth0 by 02:00:00:00:00:b2 of 10.9.0.2    a node does
//! answered 10.9.0.2                           that node answers when it is asked
//! leave r1,r2                                 the process ends; these peers keep the routes
//! wait 10                                     seconds pass; 300ms are milliseconds
//! why web
//! ```

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::sync::Arc;

use api::Key;
use api::core::{
    Endpoint, EndpointConditions, EndpointSlice, Ingress, Node, NodeAddress, NodeCondition, Service, Taint,
};
use config::{
    BgpAdvertisement, Config, ConnectionMode, L2Advertisement, OwnerSelection, Peer, PeerEndpoint, Pool, Preference,
};
use kit::{
    AddrRange, Asn, Duration, Family, HoldTime, Instant, InterfaceIndex, Mac, Outbox, RemoteAs, Selector, SelectorList,
};
use l2::{Exclusion, Interface, InterfaceFlags};
use speaker::{
    Hindrance, Hindrances, Input, Link, Loss, Members, Options, Output, Protocol, Rival, Speaker, Statement, Verdict,
};

/// Plays the script on the speaker of node `n1` and returns what it says.
pub(crate) fn play(script: &str) -> String {
    let mut scenario = Scenario::new(Options { node: "n1".into(), ..Options::default() });
    scenario.play(script)
}

/// The same, but what is shown in status objects is printed and nothing else.
pub(crate) fn play_reports(script: &str) -> String {
    let mut scenario = Scenario::new(Options { node: "n1".into(), ..Options::default() });
    scenario.shows_reports = true;
    scenario.play(script)
}

fn is_report(output: &Output) -> bool {
    matches!(output, Output::Say(_) | Output::Unsay(_))
}

/// A speaker with the draft of its next configuration.
pub(crate) struct Scenario {
    pub(crate) speaker: Speaker,
    draft: Config,
    /// Whether what is shown in status objects is printed, in place of everything else.
    shows_reports: bool,
    links: BTreeMap<String, Link>,
    gateways: BTreeMap<Family, BTreeSet<InterfaceIndex>>,
    now: Instant,
}

impl Scenario {
    pub(crate) fn new(options: Options) -> Self {
        Scenario {
            speaker: Speaker::new(options),
            draft: Config::default(),
            shows_reports: false,
            links: BTreeMap::new(),
            gateways: BTreeMap::new(),
            now: Instant::ZERO,
        }
    }

    pub(crate) fn play(&mut self, script: &str) -> String {
        let mut said = String::new();
        for line in script.lines().map(str::trim) {
            if let Some(name) = line.strip_prefix("why ") {
                said.push_str(&self.why(name));
                continue;
            }
            let outputs: Vec<Output> =
                self.feed(line).into_iter().filter(|it| is_report(it) == self.shows_reports).collect();
            if !outputs.is_empty() {
                writeln!(said, "> {line}").unwrap();
            }
            for output in outputs {
                writeln!(said, "{}", show(&output)).unwrap();
            }
        }
        said
    }

    /// An interface on which everything is answered.
    pub(crate) fn interface(name: &str) -> Interface {
        link(name, &[]).interface
    }

    /// The configuration that comes into force next.
    pub(crate) fn draft(&self) -> Arc<Config> {
        Arc::new(self.draft.clone())
    }

    /// Plays one line.
    pub(crate) fn feed(&mut self, line: &str) -> Vec<Output> {
        let words: Vec<&str> = line.split_whitespace().collect();
        let input = match words.as_slice() {
            [] => None,
            ["pool", name, ranges @ ..] => self.pool(name, ranges),
            ["l2", pool, name, rest @ ..] => self.l2(pool, name, rest),
            ["bgp", pool, name, rest @ ..] => self.bgp(pool, name, rest),
            ["peer", name, address, rest @ ..] => self.peer(name, address, rest),
            ["forget", "pool", name] => {
                self.draft.pools.remove(*name);
                None
            }
            ["forget", "peer", name] => {
                self.draft.peers.remove(*name);
                None
            }
            ["configure"] => Some(Input::Configured(Arc::new(self.draft.clone()))),
            ["node", name, rest @ ..] => Some(Input::NodeApplied(node(name, rest))),
            ["svc", name, addresses, rest @ ..] => Some(Input::ServiceApplied(service(name, addresses, rest))),
            ["eps", name, rest @ ..] => Some(Input::EndpointSliceApplied(slice(name, rest))),
            ["interfaces", names @ ..] => {
                Some(Input::Interfaces(names.iter().map(|name| (*name).to_owned()).collect()))
            }
            ["members", "joining"] => Some(Input::Members(Members::Joining)),
            ["members", names @ ..] => {
                Some(Input::Members(Members::Alive(names.iter().map(|text| member(text)).collect())))
            }
            ["recalled"] => Some(Input::Recalled),
            ["synced"] => Some(Input::Synced),
            ["conflict", address, "on", interface, "by", mac, of @ ..] => Some(Input::Conflict(Rival {
                address: address.parse().unwrap(),
                interface: (*interface).to_owned(),
                mac: mac.parse().unwrap(),
                fellow: of.get(1).map(|fellow| fellow.parse().unwrap()),
            })),
            ["answered", fellow] => Some(Input::Answered { fellow: fellow.parse().unwrap() }),
            ["leave", rest @ ..] => {
                let kept = rest.iter().flat_map(|names| names.split(',')).map(str::to_owned).collect();
                Some(Input::Leave { kept })
            }
            ["link", name, rest @ ..] => {
                self.links.remove(*name);
                if *rest != ["gone"] {
                    self.links.insert((*name).to_owned(), link(name, rest));
                }
                Some(Input::Links(self.links.values().cloned().collect()))
            }
            ["gateway", family, interfaces @ ..] => {
                let family = if *family == "4" { Family::V4 } else { Family::V6 };
                self.gateways.remove(&family);
                if *interfaces != ["none"] {
                    self.gateways.insert(family, interfaces.iter().map(|interface| index(interface)).collect());
                }
                Some(Input::Gateways(self.gateways.clone()))
            }
            ["wait", time] => {
                self.now += match time.strip_suffix("ms") {
                    Some(millis) => Duration::from_millis(millis.parse().unwrap()),
                    None => Duration::from_secs(time.parse().unwrap()),
                };
                Some(Input::Tick)
            }
            ["delete", "svc", name] => Some(Input::ServiceDeleted(Key::new("default", *name))),
            ["delete", "eps", name] => Some(Input::EndpointSliceDeleted(Key::new("default", *name))),
            ["delete", "node", name] => Some(Input::NodeDeleted((*name).to_owned())),
            _ => panic!("not a line of the language: {line:?}"),
        };
        input.map(|input| self.outputs(input)).unwrap_or_default()
    }

    /// Gives one input, then ticks until nothing is left to do.
    pub(crate) fn tell(&mut self, input: Input) -> String {
        self.outputs(input).iter().map(|output| show(output) + "\n").collect()
    }

    fn outputs(&mut self, input: Input) -> Vec<Output> {
        let mut out = Outbox::with_limit(64);
        let mut outputs = Vec::new();
        self.speaker.handle(self.now, input, &mut out);
        outputs.extend(out.drain());
        while self.speaker.next_deadline().is_some_and(|due| due <= self.now) {
            self.speaker.handle(self.now, Input::Tick, &mut out);
            outputs.extend(out.drain());
        }
        assert_eq!(out.dropped(), 0, "the speaker minds the room it has");
        outputs
    }

    fn why(&self, name: &str) -> String {
        let Some((layer2, bgp)) = self.speaker.explain(&Key::new("default", name)) else {
            return format!("{name}: nothing decided\n");
        };
        let tell = |chain: Vec<(speaker::Gate, Verdict<'_>)>| {
            let refused = chain.iter().find_map(|(gate, verdict)| match verdict {
                Verdict::Refused(refusal) => Some(format!("{gate:?}: {refusal} ({})", refusal.reason())),
                Verdict::Passed | Verdict::NotReached => None,
            });
            refused.unwrap_or_else(|| "announced".to_owned())
        };
        format!(
            "{name} layer2 {}\n{name} bgp {}\n",
            tell(layer2.chain(Protocol::Layer2)),
            tell(bgp.chain(Protocol::Bgp))
        )
    }

    fn pool(&mut self, name: &str, ranges: &[&str]) -> Option<Input> {
        let pool = pool(name, ranges);
        self.draft.pools.insert(name.to_owned(), Arc::new(pool));
        None
    }

    fn edit_pool(&mut self, name: &str, edit: impl FnOnce(&mut Pool)) {
        edit(Arc::make_mut(self.draft.pools.get_mut(name).expect("a pool of this name")));
    }

    fn l2(&mut self, pool: &str, name: &str, rest: &[&str]) -> Option<Input> {
        let options = Words::read(rest);
        let preference = |text: &String| {
            let (weight, selector) = text.split_once(':').expect("weight:selector");
            Preference { weight: weight.parse().unwrap(), selector: selectors([selector]).0.remove(0) }
        };
        let advertisement = L2Advertisement {
            name: name.to_owned(),
            interfaces: options.list("interfaces"),
            node_selectors: options.selectors("nodes"),
            service_selectors: options.selectors("services"),
            preferences: options.all("prefer").iter().map(preference).collect(),
            owner_selection: if options.has("balanced") { OwnerSelection::Balanced } else { OwnerSelection::Hash },
        };
        self.edit_pool(pool, |pool| {
            pool.l2_advertisements.insert(name.to_owned(), Arc::new(advertisement));
        });
        None
    }

    fn bgp(&mut self, pool: &str, name: &str, rest: &[&str]) -> Option<Input> {
        let options = Words::read(rest);
        let number = |key: &str| options.all(key).first().map(|text| text.parse::<u32>().unwrap());
        let advertisement = BgpAdvertisement {
            name: name.to_owned(),
            aggregation_length: number("length").map_or(32, |n| u8::try_from(n).unwrap()),
            aggregation_length_v6: number("length6").map_or(128, |n| u8::try_from(n).unwrap()),
            local_pref: number("pref"),
            med: number("med"),
            as_path_prepend: number("prepend").map_or(0, |n| u8::try_from(n).unwrap()),
            extended_communities: options.list("extended").iter().map(|text| text.parse().unwrap()).collect(),
            communities: options.list("communities").iter().map(|text| text.parse().unwrap()).collect(),
            node_selectors: options.selectors("nodes"),
            peers: options.list("peers"),
            service_selectors: options.selectors("services"),
        };
        self.edit_pool(pool, |pool| {
            pool.bgp_advertisements.insert(name.to_owned(), Arc::new(advertisement));
        });
        None
    }

    fn peer(&mut self, name: &str, address: &str, rest: &[&str]) -> Option<Input> {
        let options = Words::read(rest);
        let mut peer = peer(name, address);
        peer.dual_stack_address_family = options.has("dual");
        peer.node_selectors = options.selectors("nodes");
        let number = |key: &str| options.all(key).first().map(|text| text.parse::<u16>().unwrap());
        peer.hold_time = number("hold").map(|secs| HoldTime::from_secs(u64::from(secs)).unwrap());
        peer.port = number("port").unwrap_or(179);
        self.draft.peers.insert(name.to_owned(), Arc::new(peer));
        None
    }
}

/// A name, and what that node says of itself.
pub(crate) fn member(text: &str) -> (String, Statement) {
    let Some((name, says)) = text.split_once('=') else { return (text.to_owned(), Statement::Missing) };
    let advertisement = |family, name: &str| Hindrance::Advertisement { family, name: name.to_owned() };
    let hindrance = |word: &str| match word.split_once(':').unwrap_or((word, "")) {
        ("network", network) => Hindrance::Network(network.parse().unwrap()),
        ("advertisement4", name) => advertisement(Family::V4, name),
        ("advertisement6", name) => advertisement(Family::V6, name),
        ("out4", _) => Hindrance::WayOut(Family::V4),
        ("out6", _) => Hindrance::WayOut(Family::V6),
        _ => panic!("not a hindrance: {word}"),
    };
    let all = says.split('+').filter(|word| *word != "ok").map(hindrance).collect();
    (name.to_owned(), Statement::Made(Hindrances::new(all)))
}

/// The number of the interface `eth1` is 2.
fn index(interface: &str) -> InterfaceIndex {
    let number: u32 = interface.trim_start_matches("eth").parse().unwrap();
    InterfaceIndex::new(number + 1).unwrap()
}

fn link(name: &str, words: &[&str]) -> Link {
    let mut flags = InterfaceFlags::BROADCAST;
    if !words.contains(&"!up") {
        flags = flags | InterfaceFlags::UP;
    }
    if !words.contains(&"!carrier") {
        flags = flags | InterfaceFlags::CARRIER;
    }
    if words.contains(&"noarp") {
        flags = flags | InterfaceFlags::NOARP;
    }
    let interface = Interface {
        index: index(name),
        name: name.to_owned(),
        mac: Some(Mac([2, 0, 0, 0, 0, 1])),
        flags,
        master: None,
        link_local: if words.contains(&"!linklocal") { BTreeSet::new() } else { ["fe80::1".parse().unwrap()].into() },
        exclusion: Exclusion::Allowed,
    };
    Link { interface, networks: words.iter().filter_map(|word| word.parse().ok()).collect() }
}

pub(crate) fn pool(name: &str, ranges: &[&str]) -> Pool {
    Pool {
        name: name.to_owned(),
        ranges: ranges.iter().map(|range| AddrRange::parse(range).unwrap()).collect(),
        auto_assign: true,
        avoid_buggy_ips: false,
        allocation: None,
        l2_advertisements: BTreeMap::new(),
        bgp_advertisements: BTreeMap::new(),
    }
}

pub(crate) fn peer(name: &str, address: &str) -> Peer {
    Peer {
        name: name.to_owned(),
        my_asn: Asn::new(64512).unwrap(),
        local_asn: None,
        remote_as: RemoteAs::External,
        endpoint: PeerEndpoint::Address(address.parse().unwrap()),
        port: 179,
        connection_mode: ConnectionMode::Active,
        source_address: None,
        hold_time: None,
        keepalive_time: None,
        connect_time: None,
        router_id: None,
        node_selectors: SelectorList::default(),
        authentication: None,
        bfd: None,
        graceful_restart: None,
        ebgp_multi_hop: false,
        ttl_security_hops: None,
        vrf: None,
        dual_stack_address_family: false,
    }
}

/// `key=value` words; the key of a label selector is written `nodes=zone=a`.
struct Words<'a>(Vec<&'a str>);

impl<'a> Words<'a> {
    fn read(words: &[&'a str]) -> Self {
        Words(words.to_vec())
    }

    fn has(&self, word: &str) -> bool {
        self.0.contains(&word)
    }

    fn all(&self, key: &str) -> Vec<String> {
        let value = |word: &&str| word.strip_prefix(key)?.strip_prefix('=').map(str::to_owned);
        self.0.iter().filter_map(value).collect()
    }

    fn list(&self, key: &str) -> BTreeSet<String> {
        self.all(key).iter().flat_map(|text| text.split(',').map(str::to_owned)).collect()
    }

    fn selectors(&self, key: &str) -> SelectorList {
        selectors(self.all(key).iter().map(String::as_str))
    }
}

fn selectors<'a>(texts: impl IntoIterator<Item = &'a str>) -> SelectorList {
    let selector = |text: &str| {
        let (key, value) = text.split_once('=').expect("key=value");
        Selector::label(key, value)
    };
    SelectorList(texts.into_iter().map(selector).collect())
}

pub(crate) fn node(name: &str, words: &[&str]) -> Node {
    let mut node = Node::default();
    node.metadata.name = name.to_owned();
    let mut condition = |type_: &str, status: &str| {
        node.status.conditions.push(NodeCondition { type_: type_.to_owned(), status: status.to_owned() });
    };
    condition("Ready", if words.contains(&"!ready") { "Unknown" } else { "True" });
    if words.contains(&"!network") {
        condition("NetworkUnavailable", "True");
    }
    for word in words {
        if let Some(key) = word.strip_prefix("taint:") {
            let taint = Taint { key: key.to_owned(), value: String::new(), effect: "NoSchedule".to_owned() };
            node.spec.taints.push(taint);
        } else if let Some(address) = word.strip_prefix("ip:") {
            node.status.addresses.push(NodeAddress { type_: "InternalIP".to_owned(), address: address.to_owned() });
        } else if *word == "exclude" {
            node.metadata.labels.insert(api::EXCLUDE_FROM_LOAD_BALANCERS.to_owned(), String::new());
        } else if let Some((key, value)) = word.split_once('=') {
            node.metadata.labels.insert(key.to_owned(), value.to_owned());
        }
    }
    node
}

pub(crate) fn service(name: &str, addresses: &str, words: &[&str]) -> Service {
    let mut service = Service::default();
    service.metadata.name = name.to_owned();
    service.metadata.namespace = "default".to_owned();
    service.metadata.uid = format!("uid-{name}");
    service.spec.type_ = Some("LoadBalancer".to_owned());
    let ingress = |text: &str| match text.strip_prefix("name:") {
        Some(name) => Ingress { hostname: Some(name.to_owned()), ..Ingress::default() },
        None => Ingress { ip: Some(text.to_owned()), ..Ingress::default() },
    };
    service.status.load_balancer.ingress = addresses.split(',').filter(|a| *a != "-").map(ingress).collect();
    for word in words {
        match word.split_once('=') {
            Some(("class", class)) => service.spec.load_balancer_class = Some(class.to_owned()),
            Some(("type", type_)) => service.spec.type_ = Some(type_.to_owned()),
            Some(("assigned", node)) => {
                service.metadata.annotations.insert(api::LAYER2_ASSIGNED_NODE.to_owned(), node.to_owned());
            }
            Some((key, value)) => {
                service.metadata.labels.insert(key.to_owned(), value.to_owned());
            }
            None if *word == "local" => service.spec.external_traffic_policy = Some("Local".to_owned()),
            None if *word == "share" => {
                service.metadata.annotations.insert("metallb.io/allow-shared-ip".to_owned(), "k".to_owned());
            }
            None => panic!("not an option of a Service: {word}"),
        }
    }
    service
}

pub(crate) fn slice(service: &str, words: &[&str]) -> EndpointSlice {
    let mut slice = EndpointSlice { address_type: "IPv4".to_owned(), ..EndpointSlice::default() };
    slice.metadata.name = service.to_owned();
    slice.metadata.namespace = "default".to_owned();
    slice.metadata.labels.insert(api::SERVICE_NAME.to_owned(), service.to_owned());
    slice.endpoints = words
        .iter()
        .map(|word| {
            let (node, state) = word.split_once(':').expect("node:state");
            let (ready, serving) = match state {
                "ready" => (Some(true), None),
                "unset" => (None, None),
                "notready" => (Some(false), Some(false)),
                "terminating" => (Some(false), Some(true)),
                _ => panic!("not a state of an endpoint: {state}"),
            };
            Endpoint {
                addresses: vec!["10.244.0.1".to_owned()],
                conditions: EndpointConditions { ready, serving },
                node_name: Some(node.to_owned()),
            }
        })
        .collect();
    slice
}

fn show(output: &Output) -> String {
    match output {
        Output::AddressAnnounce { address, interfaces } => format!("  answer for {address} on {interfaces:?}"),
        Output::AddressWithdraw { address } => format!("  no answer for {address}"),
        Output::AddressHandOver { address } => {
            format!("  no answer for {address} when another machine has announced it")
        }
        Output::AddressRepeat { address } => format!("  say again where {address} is"),
        Output::AddressAsk { address, fellow } => format!("  ask {fellow} for {address}"),
        Output::Fellows(addresses) => format!("  fellows {addresses:?}"),
        Output::State(hindrances) => {
            let all: Vec<String> = hindrances.iter().map(ToString::to_string).collect();
            format!(
                "  tell the others: {}",
                if all.is_empty() { "nothing hinders this node".to_owned() } else { all.join("; ") }
            )
        }
        Output::Watch(nodes) => format!("  watch {nodes:?}"),
        Output::PeerAdd(peer) => format!("  session with {} at {}", peer.name, peer.endpoint),
        Output::PeerRemove(name) => format!("  no session with {name}"),
        Output::PeerChange { from, peer, change } => {
            let renamed = if *from == peer.name { String::new() } else { format!(", now {}", peer.name) };
            format!("  session with {from} goes on{renamed}: {} ({})", change.field_names(), change.effect())
        }
        Output::PeerReset { peer, change } => {
            format!("  session with {} at {} begins anew: {}", peer.name, peer.endpoint, change.field_names())
        }
        Output::PeerComplete(name) => format!("  {name} has all"),
        Output::RouteAnnounce { peer, prefix, attributes } => {
            let mut text = format!("  route {prefix} to {peer}");
            if let Some(preference) = attributes.local_pref {
                write!(text, " pref {preference}").unwrap();
            }
            if let Some(med) = attributes.multi_exit_disc {
                write!(text, " med {med}").unwrap();
            }
            if attributes.prepend > 0 {
                write!(text, " prepend {}", attributes.prepend).unwrap();
            }
            if !attributes.communities.is_empty() {
                write!(text, " communities {:?}", attributes.communities).unwrap();
            }
            if !attributes.extended_communities.is_empty() {
                write!(text, " extended {:?}", attributes.extended_communities).unwrap();
            }
            text
        }
        Output::RouteWithdraw { peer, prefix } => format!("  no route {prefix} to {peer}"),
        Output::ServiceAnnounced { service, protocol, addresses, pool } => {
            format!("  announced {service} by {protocol} with {addresses:?} of {pool}")
        }
        Output::ServiceWithdrawn { service, protocol, addresses, loss } => {
            let why = match loss {
                Loss::Deleted => "it is gone".to_owned(),
                Loss::Changed => "its addresses changed".to_owned(),
                Loss::Refused(refusal) => refusal.to_string(),
            };
            format!("  withdrawn {service} by {protocol} with {addresses:?}: {why}")
        }
        Output::Say(report) => format!("show {}", said(report)),
        Output::Unsay(report) => format!("show no {}", said(report)),
        Output::Write(api::Write::Event(event)) => {
            format!("  event {} {} on {}: {}", event.type_.as_str(), event.reason, event.object, event.message)
        }
        Output::Write(write) => format!("  write {write:?}"),
        Output::Settled => "  settled".to_owned(),
        Output::Left => "  left".to_owned(),
    }
}

fn said(report: &api::Report) -> String {
    match report {
        api::Report::Layer2 { service, interfaces, .. } => format!("layer2 {} {interfaces:?}", service.name),
        api::Report::Bgp { service, peers, .. } => format!("bgp {} {peers:?}", service.name),
        api::Report::Configuration { .. } => unreachable!("the speaker's decisions judge no configuration"),
    }
}
