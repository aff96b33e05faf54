//! Objects as users write them: mostly sensible, sometimes not.

use std::collections::BTreeMap;
use std::net::IpAddr;

use api::core::{Ingress, Namespace, Node, NodeCondition, Service, ServicePort, Taint};
use api::{
    BGPAdvertisement, BGPPeer, Community, CommunityAlias, IPAddressPool, Key, Kind, L2Advertisement, LabelSelector,
    LabelSelectorRequirement, Object, ObjectRef, PoolCounters, PreferredNodeSelector,
};
use kit::{Duration, Rng};

use crate::cluster::DRAIN_TAINT;
use crate::configuration::NAMESPACE;
use crate::names::{CLUSTER_AS, NodeId, RouterName};
use crate::step::Step;

/// Namespaces of Services.
pub(super) const NAMESPACES: [&str; 3] = ["x", "y", "z"];
/// What pods are of.
pub(super) const APPS: [&str; 2] = ["web", "db"];
/// The Services there may be.
const SERVICES: [(&str, &str); 7] =
    [("x", "a"), ("x", "b"), ("x", "c"), ("y", "a"), ("y", "b"), ("y", "c"), ("z", "a")];
/// The pools there may be.
const POOLS: [&str; 4] = ["a", "b", "c", "d"];
/// The peers there may be; the last one is where no router is.
const PEERS: [&str; 4] = ["east", "inner", "six", "lost"];

/// An edit of the configuration.
pub(super) struct Edit {
    pub(super) step: Step,
    /// What makes it valid again, if it made it invalid.
    pub(super) repair: Option<Step>,
}

impl From<Object> for Edit {
    fn from(object: Object) -> Self {
        Edit { step: Step::Put(Box::new(object)), repair: None }
    }
}

fn pick<T: Copy>(rng: &mut Rng, items: &[T], otherwise: T) -> T {
    rng.pick(items).copied().unwrap_or(otherwise)
}

/// An object is written as text in a list of pairs.
fn pairs(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(|text| (*text).to_owned()).collect()
}

fn selector(key: &str, value: &str) -> LabelSelector {
    LabelSelector { match_labels: pairs(&[(key, value)]), ..LabelSelector::default() }
}

/// Some selectors over labels with these values; mostly none.
fn selectors(rng: &mut Rng, key: &str, values: [&str; 2]) -> Vec<LabelSelector> {
    let [one, other] = values;
    match rng.below(8) {
        0 => vec![selector(key, one)],
        1 => vec![selector(key, other)],
        2 => {
            let requirement =
                LabelSelectorRequirement { key: key.to_owned(), operator: "NotIn".to_owned(), values: texts(&[one]) };
            vec![LabelSelector { match_expressions: vec![requirement], ..LabelSelector::default() }]
        }
        3 => vec![selector(key, one), selector(key, other)],
        _ => Vec::new(),
    }
}

fn named(name: &str) -> api::ObjectMeta {
    api::ObjectMeta { name: name.to_owned(), namespace: NAMESPACE.to_owned(), ..api::ObjectMeta::default() }
}

/// A namespace, with a label that pools choose by.
pub(super) fn namespace(rng: &mut Rng, name: &str) -> Step {
    let mut namespace = Namespace::default();
    namespace.metadata.name = name.to_owned();
    namespace.metadata.labels = pick(rng, &[&[("team", "red")][..], &[("team", "blue")], &[]], &[])
        .to_vec()
        .iter()
        .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
        .collect();
    Step::Put(Box::new(Object::Namespace(namespace)))
}

/// A Service is created or edited.
pub(super) fn service(rng: &mut Rng) -> Step {
    let (namespace, name) = pick(rng, &SERVICES, ("x", "a"));
    let mut service = Service::default();
    (service.metadata.namespace, service.metadata.name) = (namespace.to_owned(), name.to_owned());
    let labels = [&[][..], &[], &[("tier", "gold")], &[("tier", "tin")]];
    service.metadata.labels = pairs(pick(rng, &labels, &[]));
    let is_db = name == "b";
    service.spec.selector = pairs(&[("app", if is_db { "db" } else { "web" })]);
    stack(rng, &mut service);
    request(rng, &mut service);
    let key = pick(rng, &["", "", "", "k", "k", "z"], "");
    if !key.is_empty() {
        let prefix = if rng.one_in(6) { api::LEGACY_ANNOTATION_PREFIX } else { api::ANNOTATION_PREFIX };
        service.metadata.annotations.insert(format!("{prefix}{}", api::ALLOW_SHARED_IP), key.to_owned());
    }
    if rng.one_in(3) {
        service.spec.external_traffic_policy = Some("Local".to_owned());
    }
    let ports = [&[("TCP", 80)][..], &[("TCP", 80)], &[("UDP", 53)], &[("TCP", 443), ("TCP", 80)], &[("TCP", 8080)]];
    let port = |(protocol, port): &(&str, i32)| ServicePort { protocol: Some((*protocol).to_owned()), port: *port };
    service.spec.ports = pick(rng, &ports, &[]).iter().map(port).collect();
    service.spec.type_ = Some(if rng.one_in(14) { "ClusterIP" } else { "LoadBalancer" }.to_owned());
    if rng.one_in(25) {
        // The class of a Service cannot be changed, so it is another one.
        service.spec.load_balancer_class = Some("other".to_owned());
        return Step::Replace(Box::new(Object::Service(service)));
    }
    if rng.one_in(12) {
        return Step::Replace(Box::new(Object::Service(service)));
    }
    Step::Put(Box::new(Object::Service(service)))
}

/// A Service that asks for addresses which others may have as well: those of one family, or of both in either order. No two of
/// them have a port in common.
pub(super) fn sharer(rng: &mut Rng) -> Step {
    let number = usize::try_from(rng.below(5)).unwrap_or(0);
    let (namespace, name) = SERVICES.get(number).copied().unwrap_or(("x", "a"));
    let mut service = Service::default();
    (service.metadata.namespace, service.metadata.name) = (namespace.to_owned(), name.to_owned());
    let (v4, v6) = (pick(rng, &["10.0.0.1", "10.0.0.2"], "10.0.0.1"), pick(rng, &["fc00::1", "fc00::2"], "fc00::1"));
    let (v4_cluster, v6_cluster) = ("10.96.0.1", "fd00::1");
    let (cluster_ips, addresses) = match rng.below(6) {
        0 => (vec![v4_cluster], v4.to_owned()),
        1 | 2 => (vec![v6_cluster], v6.to_owned()),
        3 => (vec![v6_cluster, v4_cluster], format!("{v6},{v4}")),
        _ => (vec![v4_cluster, v6_cluster], format!("{v4},{v6}")),
    };
    service.spec.cluster_ips = texts(&cluster_ips);
    let policy = if cluster_ips.len() > 1 { "RequireDualStack" } else { "SingleStack" };
    service.spec.ip_family_policy = Some(policy.to_owned());
    let family = |ip: &&str| if **ip == *v4_cluster { "IPv4".to_owned() } else { "IPv6".to_owned() };
    service.spec.ip_families = cluster_ips.iter().map(family).collect();
    service.spec.selector = pairs(&[("app", "web")]);
    let annotate = |name: &str, value: String| (format!("{}{name}", api::ANNOTATION_PREFIX), value);
    service.metadata.annotations =
        [annotate(api::LOAD_BALANCER_IPS, addresses), annotate(api::ALLOW_SHARED_IP, "k".to_owned())].into();
    let port = i32::try_from(number).unwrap_or(0).saturating_add(8_000);
    service.spec.ports = vec![ServicePort { protocol: Some("TCP".to_owned()), port }];
    service.spec.type_ = Some("LoadBalancer".to_owned());
    Step::Put(Box::new(Object::Service(service)))
}

/// The families that a Service asks for, by its cluster addresses.
fn stack(rng: &mut Rng, service: &mut Service) {
    let (v4, v6) = ("10.96.0.1", "fd00::1");
    let (cluster_ips, policy, families): (&[&str], _, &[&str]) = match rng.below(20) {
        0..=7 => (&[v4], "SingleStack", &["IPv4"]),
        8..=10 => (&[v6], "SingleStack", &["IPv6"]),
        11..=13 => (&[v4, v6], "RequireDualStack", &["IPv4", "IPv6"]),
        14..=15 => (&[v4, v6], "PreferDualStack", &["IPv4", "IPv6"]),
        16..=17 => (&[v6, v4], "PreferDualStack", &["IPv6", "IPv4"]),
        18 => (&[v4], "RequireDualStack", &["IPv4"]),
        _ => (&[], "SingleStack", &[]),
    };
    service.spec.cluster_ips = texts(cluster_ips);
    service.spec.ip_family_policy = Some(policy.to_owned());
    service.spec.ip_families = texts(families);
}

/// What a Service asks for by name; mostly nothing.
fn request(rng: &mut Rng, service: &mut Service) {
    let annotations = &mut service.metadata.annotations;
    let mut annotate = |name: &str, value: &str| {
        annotations.insert(format!("{}{name}", api::ANNOTATION_PREFIX), value.to_owned());
    };
    let ips = ["10.0.0.1", "10.0.0.5", "fc00::1", "10.0.0.2,fc00::1", "10.0.0.9, fc00::21", "10.0.0.0", "192.0.2.7"];
    match rng.below(20) {
        0..=2 => annotate(api::ADDRESS_POOL, pick(rng, &POOLS, "a")),
        3 => annotate(api::ADDRESS_POOL, "nowhere"),
        4..=6 => annotate(api::LOAD_BALANCER_IPS, pick(rng, &ips, "10.0.0.1")),
        7 => {
            annotate(api::LOAD_BALANCER_IPS, pick(rng, &ips, "10.0.0.1"));
            annotate(api::ADDRESS_POOL, pick(rng, &POOLS, "a"));
        }
        8 => service.spec.load_balancer_ip = Some(pick(rng, &["10.0.0.2", "fc00::2", "web"], "web").to_owned()),
        9 => {
            annotate(api::LOAD_BALANCER_IPS, "10.0.0.1");
            service.spec.load_balancer_ip = Some("10.0.0.1".to_owned());
        }
        _ => {}
    }
}

/// A Service is deleted.
pub(super) fn service_deletion(rng: &mut Rng) -> Step {
    let (namespace, name) = pick(rng, &SERVICES, ("x", "a"));
    Step::Delete(ObjectRef { kind: Kind::Service, key: Key::new(namespace, name) })
}

/// A Node is edited: its labels and what is said about its condition.
pub(super) fn node(rng: &mut Rng, node: NodeId) -> Step {
    let mut object = Node::default();
    object.metadata.name = node.name();
    let labels =
        [&[("zone", "a")][..], &[("zone", "b")], &[], &[("zone", "a"), (api::EXCLUDE_FROM_LOAD_BALANCERS, "")]];
    object.metadata.labels = pairs(pick(rng, &labels, &[]));
    let ready = pick(rng, &["True", "True", "True", "False", "Unknown"], "True");
    let network = pick(rng, &["False", "False", "False", "True", "Unknown"], "False");
    if rng.one_in(6) {
        let (key, effect) = (DRAIN_TAINT.to_owned(), "NoSchedule".to_owned());
        object.spec.taints.push(Taint { key, effect, ..Taint::default() });
    }
    for (type_, status) in [("Ready", ready), ("NetworkUnavailable", network)] {
        object.status.conditions.push(NodeCondition { type_: type_.to_owned(), status: status.to_owned() });
    }
    Step::Put(Box::new(Object::Node(object)))
}

/// An address that somebody may have.
pub(super) fn address(rng: &mut Rng) -> IpAddr {
    let number = rng.below(12);
    let host = u8::try_from(number).unwrap_or(0);
    if rng.one_in(3) { IpAddr::from([0xfc00, 0, 0, 0, 0, 0, 0, host.into()]) } else { IpAddr::from([10, 0, 0, host]) }
}

/// Something else writes the status of a Service.
pub(super) fn foreign_status(rng: &mut Rng) -> Step {
    let (namespace, name) = pick(rng, &SERVICES, ("x", "a"));
    let statuses: [(&[&str], Option<&str>); 7] = [
        (&["192.0.2.1"], None),
        (&["10.0.0.1"], Some("a")),
        (&["10.0.0.5"], None),
        (&[], None),
        (&["web"], Some("b")),
        (&["10.0.0.1", "10.0.0.2"], None),
        (&["fc00::1", "10.0.0.1"], Some("a")),
    ];
    let (ips, pool) = pick(rng, &statuses, (&[], None));
    let mut ingress: Vec<Ingress> =
        ips.iter().map(|ip| Ingress { ip: Some((*ip).to_owned()), ..Ingress::default() }).collect();
    if rng.one_in(4) {
        ingress.push(Ingress { hostname: Some("lb.example".to_owned()), ..Ingress::default() });
    }
    Step::ForeignStatus { service: Key::new(namespace, name), ingress, pool: pool.map(str::to_owned) }
}

/// Something else insists on the status of a Service.
pub(super) fn rival(rng: &mut Rng, span: Duration) -> Step {
    let (namespace, name) = pick(rng, &SERVICES, ("x", "a"));
    let ip = Some(pick(rng, &["192.0.2.1", "10.0.0.1"], "192.0.2.1").to_owned());
    let ingress = vec![Ingress { ip, ..Ingress::default() }];
    Step::Rival { service: Key::new(namespace, name), ingress, span }
}

/// Something else writes the counters of a pool.
pub(super) fn foreign_counters(rng: &mut Rng) -> Step {
    let pool = pick(rng, &POOLS, "a").to_owned();
    Step::ForeignCounters { pool, counters: PoolCounters { assigned_ipv4: 77, ..PoolCounters::default() } }
}

/// What a cluster begins with.
pub(super) fn set_up(rng: &mut Rng) -> Vec<Object> {
    let mut objects = vec![pool(rng, "a"), community()];
    if rng.one_in(2) {
        objects.push(pool(rng, "b"));
    }
    for name in ["east", "inner", "six"] {
        if !rng.one_in(4) {
            objects.push(peer(rng, name));
        }
    }
    if !rng.one_in(6) {
        objects.push(Object::L2Advertisement(L2Advertisement { metadata: named("l1"), ..L2Advertisement::default() }));
    }
    if !rng.one_in(6) {
        objects
            .push(Object::BGPAdvertisement(BGPAdvertisement { metadata: named("b1"), ..BGPAdvertisement::default() }));
    }
    objects
}

/// The configuration is edited.
pub(super) fn edit(rng: &mut Rng) -> Edit {
    match rng.below(20) {
        0..=5 => {
            let name = pick(rng, &POOLS, "a");
            pool(rng, name).into()
        }
        6..=7 => deletion(Kind::IPAddressPool, pick(rng, &POOLS, "a")),
        8 => {
            let (from, to) = (pick(rng, &POOLS, "a"), pick(rng, &POOLS, "d"));
            Edit { step: Step::RenamePool { from: from.to_owned(), to: to.to_owned() }, repair: None }
        }
        9..=11 => layer2(rng).into(),
        12..=14 => bgp(rng).into(),
        15..=16 => {
            let name = pick(rng, &PEERS, "east");
            peer(rng, name).into()
        }
        17 => {
            let kinds = [
                (Kind::L2Advertisement, "l1"),
                (Kind::L2Advertisement, "l2"),
                (Kind::BGPAdvertisement, "b1"),
                (Kind::BGPAdvertisement, "b2"),
                (Kind::BGPPeer, "east"),
                (Kind::BGPPeer, "six"),
                (Kind::Community, "names"),
            ];
            let (kind, name) = pick(rng, &kinds, (Kind::BGPPeer, "east"));
            deletion(kind, name)
        }
        18 => community().into(),
        _ => invalid(rng),
    }
}

fn deletion(kind: Kind, name: &str) -> Edit {
    Edit { step: Step::Delete(ObjectRef { kind, key: Key::new(NAMESPACE, name) }), repair: None }
}

/// A pool. Its addresses depend on its name, so that pools of different names mostly do not overlap.
fn pool(rng: &mut Rng, name: &str) -> Object {
    let variants: &[&[&str]] = match name {
        "a" => &[&["10.0.0.0/30", "fc00::/126"], &["10.0.0.0/30"], &["10.0.0.0/31", "fc00::/127"], &["fc00::/126"]],
        "b" => &[&["10.0.0.4/31"], &["10.0.0.4/30", "fc00::10/127"], &["10.0.0.4-10.0.0.6"]],
        "c" => &[&["10.0.0.8/30", "fc00::20/126"], &["10.0.0.10/31"], &["fc00::20/126", "fc01::/64"]],
        // What "a" has, so that one of the two has to go.
        _ => &[&["10.0.0.0/30", "fc00::/126"], &["10.0.0.0/31", "10.0.0.2/31"], &["10.0.0.16/31"]],
    };
    let mut pool = IPAddressPool { metadata: named(name), ..IPAddressPool::default() };
    pool.metadata.labels = pairs(&[("kind", if rng.one_in(3) { "special" } else { "plain" })]);
    pool.spec.addresses = texts(pick(rng, variants, &["10.0.0.0/30"]));
    pool.spec.auto_assign = rng.one_in(12).then_some(false);
    pool.spec.avoid_buggy_ips = rng.one_in(5).then_some(true);
    if rng.one_in(6) {
        let namespaces = [&["x"][..], &["x", "y"], &[], &[]];
        pool.spec.service_allocation = Some(api::ServiceAllocation {
            priority: pick(rng, &[None, Some(1), Some(50)], None),
            namespaces: texts(pick(rng, &namespaces, &[])),
            namespace_selectors: selectors(rng, "team", ["red", "blue"]),
            service_selectors: selectors(rng, "tier", ["gold", "tin"]),
        });
    }
    Object::IPAddressPool(pool)
}

fn pools_of_advertisement(rng: &mut Rng) -> (Vec<String>, Vec<LabelSelector>) {
    match rng.below(6) {
        0 => (texts(&["a"]), Vec::new()),
        1 => (texts(&["b", "c"]), Vec::new()),
        2 => (Vec::new(), vec![selector("kind", "special")]),
        _ => (Vec::new(), Vec::new()),
    }
}

fn layer2(rng: &mut Rng) -> Object {
    let mut advertisement =
        L2Advertisement { metadata: named(pick(rng, &["l1", "l2"], "l1")), ..L2Advertisement::default() };
    let spec = &mut advertisement.spec;
    (spec.ip_address_pools, spec.ip_address_pool_selectors) = pools_of_advertisement(rng);
    spec.node_selectors = selectors(rng, "zone", ["a", "b"]);
    spec.service_selectors = if rng.one_in(3) { selectors(rng, "tier", ["gold", "tin"]) } else { Vec::new() };
    let interfaces = [&[][..], &[], &["eth0"], &["eth1"], &["eth1", "eth7"], &["eth7"]];
    spec.interfaces = texts(pick(rng, &interfaces, &[]));
    if rng.one_in(3) {
        let weight = i64::try_from(rng.below(100)).unwrap_or(0).saturating_add(1);
        let preference = selector("zone", pick(rng, &["a", "b"], "a"));
        spec.preferred_node_selectors = vec![PreferredNodeSelector { weight, preference }];
    }
    spec.owner_selection =
        pick(rng, &[None, Some("Hash"), Some("Balanced"), Some("Balanced")], None).map(str::to_owned);
    Object::L2Advertisement(advertisement)
}

fn bgp(rng: &mut Rng) -> Object {
    let name = pick(rng, &["b1", "b2"], "b1");
    let mut advertisement = BGPAdvertisement { metadata: named(name), ..BGPAdvertisement::default() };
    let spec = &mut advertisement.spec;
    (spec.ip_address_pools, spec.ip_address_pool_selectors) = pools_of_advertisement(rng);
    spec.node_selectors = selectors(rng, "zone", ["a", "b"]);
    if rng.one_in(3) {
        spec.aggregation_length = Some(pick(rng, &[31, 30, 32], 32));
        spec.aggregation_length_v6 = Some(pick(rng, &[127, 126, 128], 128));
    } else {
        spec.service_selectors = selectors(rng, "tier", ["gold", "tin"]);
    }
    spec.local_pref = pick(rng, &[None, None, None, Some(0), Some(150), Some(50)], None);
    let communities = [&[][..], &[], &["65000:1"], &["gold"], &["65000:2", "large:65000:1:2"]];
    spec.communities = texts(pick(rng, &communities, &[]));
    spec.med = pick(rng, &[None, None, None, Some(0), Some(20)], None);
    spec.as_path_prepend = pick(rng, &[None, None, None, Some(1), Some(3)], None);
    let extended = [&[][..], &[], &[], &["rt:65000:1"], &["0x4004fc004e9502f9", "soo:65000:2"]];
    spec.extended_communities = texts(pick(rng, &extended, &[]));
    let peers = [&[][..], &[], &[], &["east"], &["inner", "six"], &["lost"]];
    spec.peers = texts(pick(rng, &peers, &[]));
    Object::BGPAdvertisement(advertisement)
}

fn community() -> Object {
    let alias = CommunityAlias { name: Some("gold".to_owned()), value: Some("65000:999".to_owned()) };
    let mut community = Community { metadata: named("names"), ..Community::default() };
    community.spec.communities = vec![alias];
    Object::Community(community)
}

fn peer(rng: &mut Rng, name: &str) -> Object {
    let router = match name {
        "inner" => Some(RouterName::Inner),
        "six" => Some(RouterName::Six),
        "east" => Some(RouterName::East),
        _ => None,
    };
    let mut peer = BGPPeer { metadata: named(name), ..BGPPeer::default() };
    let spec = &mut peer.spec;
    spec.my_asn = CLUSTER_AS.into();
    spec.peer_address = Some(router.map_or_else(|| "192.168.0.99".to_owned(), |router| router.address().to_string()));
    let asn = router.map_or(65_009, RouterName::as_number);
    let is_internal = asn == CLUSTER_AS;
    match rng.below(8) {
        0 => spec.dynamic_asn = Some(if is_internal { "internal" } else { "external" }.to_owned()),
        1 => spec.peer_asn = Some(if rng.one_in(3) { 65_009 } else { asn.into() }),
        _ => spec.peer_asn = Some(asn.into()),
    }
    spec.hold_time = pick(rng, &[None, None, Some("9s"), Some("30s"), Some("0s")], None).map(str::to_owned);
    spec.connect_time = pick(rng, &[None, None, Some("5s")], None).map(str::to_owned);
    spec.enable_graceful_restart = rng.one_in(4).then_some(true);
    spec.dual_stack_address_family = rng.one_in(3).then_some(true);
    spec.node_selectors = selectors(rng, "zone", ["a", "b"]);
    spec.local_asn = (!is_internal && rng.one_in(6)).then_some(64_700);
    spec.peer_port = rng.one_in(12).then_some(1_179);
    Object::BGPPeer(peer)
}

/// Something that makes the configuration invalid, for the controller or for speakers, and its repair.
fn invalid(rng: &mut Rng) -> Edit {
    let broken = match rng.below(5) {
        0 => {
            let mut pool = IPAddressPool { metadata: named("c"), ..IPAddressPool::default() };
            pool.spec.addresses = texts(&["10.0.0.300/32"]);
            Object::IPAddressPool(pool)
        }
        1 => {
            let mut pool = IPAddressPool { metadata: named("c"), ..IPAddressPool::default() };
            pool.spec.addresses = texts(&["10.0.0.0/24", "fc00::/64"]);
            Object::IPAddressPool(pool)
        }
        2 => {
            let mut advertisement = BGPAdvertisement { metadata: named("b2"), ..BGPAdvertisement::default() };
            advertisement.spec.aggregation_length = Some(24);
            Object::BGPAdvertisement(advertisement)
        }
        3 => {
            let mut advertisement = L2Advertisement { metadata: named("l2"), ..L2Advertisement::default() };
            advertisement.spec.ip_address_pools = texts(&["a", "a"]);
            Object::L2Advertisement(advertisement)
        }
        _ => {
            let mut peer = BGPPeer { metadata: named("lost"), ..BGPPeer::default() };
            peer.spec.my_asn = CLUSTER_AS.into();
            peer.spec.peer_address = Some(RouterName::East.address().to_string());
            Object::BGPPeer(peer)
        }
    };
    let repair = Step::Delete(broken.reference());
    Edit { step: Step::Put(Box::new(broken)), repair: Some(repair) }
}
