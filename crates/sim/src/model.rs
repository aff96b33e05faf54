//! What should be announced: contract 5.1, 6.1 and 6.2, read anew and as plainly as possible.
//!
//! It looks at everything each time, remembers nothing, and gives no reasons: it is what the speaker's decisions are
//! compared with.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use api::core::{Node, Service};
use config::{BgpAdvertisement, Config, L2Advertisement, OwnerSelection, Peer, PeerEndpoint, Pool};
use ipnet::IpNet;
use kit::{Community, ExtendedCommunity, Family};
use speaker::{Exclusion, Hindrance, Hindrances};

use crate::api_server::ApiServer;
use crate::cluster::Climate;
use crate::ledger::is_served;
use crate::machine::Machine;
use crate::names::{Lan, NodeId, RouterName};
use crate::router::Route;
use crate::sessions::router_of;

/// What one node sees.
#[derive(Clone, Copy)]
pub(crate) struct View<'a> {
    pub(crate) node: NodeId,
    pub(crate) config: &'a Config,
    pub(crate) api: &'a ApiServer,
    pub(crate) climate: &'a Climate,
    /// The members of memberlist; `None` where there is none.
    pub(crate) members: Option<&'a BTreeSet<NodeId>>,
    /// What keeps each of them from announcing.
    pub(crate) plights: &'a BTreeMap<NodeId, Plight>,
}

/// A route as it should arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ExpectedRoute {
    next_hop: IpAddr,
    as_path: bgp::wire::AsPath,
    local_pref: Option<u32>,
    multi_exit_disc: Option<u32>,
    communities: BTreeSet<Community>,
    extended_communities: BTreeSet<ExtendedCommunity>,
}

impl ExpectedRoute {
    pub(crate) fn is(&self, route: &Route) -> bool {
        let attributes = bgp::wire::PathAttributes {
            as_path: self.as_path.clone(),
            local_pref: self.local_pref,
            multi_exit_disc: self.multi_exit_disc,
            communities: self.communities.clone(),
            extended_communities: self.extended_communities.clone(),
            ..bgp::wire::PathAttributes::default()
        };
        route.next_hop == self.next_hop && *route.attributes == attributes
    }
}

/// Where the endpoints of a Service are that can take traffic: on which nodes, and whether there is one at all.
fn endpoints(api: &ApiServer, service: &Service) -> (BTreeSet<String>, bool) {
    let of_service = api.slices().filter(|slice| {
        slice.metadata.namespace == service.metadata.namespace
            && slice.metadata.labels.get(api::SERVICE_NAME) == Some(&service.metadata.name)
    });
    let usable: Vec<_> = of_service
        .flat_map(|slice| &slice.endpoints)
        .filter(|endpoint| {
            let conditions = endpoint.conditions;
            let takes_traffic = conditions.ready.unwrap_or(true) || conditions.serving.unwrap_or(false);
            takes_traffic && !endpoint.addresses.is_empty()
        })
        .collect();
    (usable.iter().filter_map(|endpoint| endpoint.node_name.clone()).collect(), !usable.is_empty())
}

fn is_local(service: &Service) -> bool {
    service.spec.external_traffic_policy.as_deref() == Some("Local")
}

fn may_announce(node: &Node, climate: &Climate) -> bool {
    let is_excluded =
        climate.exclusion == Exclusion::Honoured && node.metadata.labels.contains_key(api::EXCLUDE_FROM_LOAD_BALANCERS);
    node.condition("NetworkUnavailable") != Some("True") && !is_excluded
}

/// The addresses that a Service shows, and the one pool they are from.
fn addresses<'a>(config: &'a Config, climate: &Climate, service: &Service) -> Option<(Vec<IpAddr>, &'a Pool)> {
    let shown = service.status.load_balancer.ingress.iter().filter_map(|entry| entry.ip.as_deref());
    let addresses: Option<Vec<IpAddr>> = shown.map(|text| text.parse().ok()).collect();
    let is_ours = is_served(service, climate.class);
    let addresses = addresses.filter(|addresses| is_ours && !addresses.is_empty())?;
    let pool = config.pools.values().find(|pool| addresses.iter().all(|address| pool.contains(address)))?;
    Some((addresses, pool))
}

/// What elects the owner of one of a Service's addresses (ADR 3).
struct Elector {
    address: IpAddr,
    /// The addresses that the owner has to be able to announce.
    judged: Vec<IpAddr>,
    /// Whether the controller may choose the owner: nobody who shares the address could be given another one.
    is_balanced: bool,
}

/// The address lists of all Services that have the address and may share it.
fn sharers(api: &ApiServer, climate: &Climate, address: &IpAddr) -> BTreeSet<Vec<IpAddr>> {
    let may_share =
        |service: &&Service| is_served(service, climate.class) && service.annotation(api::ALLOW_SHARED_IP).is_some();
    let lists = api.services().filter(may_share).filter_map(|service| {
        let shown = service.status.load_balancer.ingress.iter().filter_map(|entry| entry.ip.as_deref());
        shown.map(|text| text.parse().ok()).collect::<Option<Vec<IpAddr>>>()
    });
    lists.filter(|addresses| addresses.contains(address)).collect()
}

fn elector(view: View<'_>, service: &Service, addresses: &[IpAddr], address: &IpAddr) -> Elector {
    let lists = |address: &IpAddr| match service.annotation(api::ALLOW_SHARED_IP) {
        Some(_) => sharers(view.api, view.climate, address),
        None => BTreeSet::from([addresses.to_vec()]),
    };
    let agree = |address: &IpAddr| lists(address).iter().all(|list| list.first() == addresses.first());
    let first = addresses.first().unwrap_or(address);
    let is_balanced = agree(address) && agree(first);
    let judged: Vec<IpAddr> = if lists(address).len() > 1 {
        vec![*address]
    } else {
        addresses.iter().copied().filter(|other| lists(other).len() <= 1).collect()
    };
    Elector { address: if agree(address) { *first } else { *address }, judged, is_balanced }
}

/// The links on which the node answers for which addresses because of this Service (contract 5.1, 5.3).
pub(crate) fn layer2(view: View<'_>, service: &Service) -> Option<(Vec<IpAddr>, BTreeSet<Lan>)> {
    let (addresses, pool) = addresses(view.config, view.climate, service)?;
    let labels = &service.metadata.labels;
    let matching: Vec<&L2Advertisement> =
        pool.l2_advertisements.values().map(|it| &**it).filter(|it| it.service_selectors.matches(labels)).collect();
    let (local_nodes, has_endpoints) = endpoints(view.api, service);
    let may_share = service.annotation(api::ALLOW_SHARED_IP).is_some();
    if !has_endpoints || (may_share && matching.iter().any(|it| !it.service_selectors.is_empty())) {
        return None;
    }
    let selecting = |node: &Node| -> Vec<&L2Advertisement> {
        matching.iter().copied().filter(|it| it.node_selectors.matches(&node.metadata.labels)).collect()
    };
    let candidates = view.api.nodes().filter(|node| {
        let is_member = |members: &BTreeSet<NodeId>| {
            NodeId::of_name(&node.metadata.name).is_some_and(|node| members.contains(&node))
        };
        may_announce(node, view.climate)
            && view.members.is_none_or(is_member)
            && (!is_local(service) || local_nodes.contains(&node.metadata.name))
            && !selecting(node).is_empty()
    });
    let candidates: Vec<&Node> = candidates.collect();
    let here = view.node.name();
    let is_owned = |address: &IpAddr| {
        let elector = elector(view, service, &addresses, address);
        let is_balanced = matching.iter().any(|it| it.owner_selection == OwnerSelection::Balanced);
        let elector = Elector { is_balanced: elector.is_balanced && is_balanced, ..elector };
        owner(view, service, &elector, &candidates, &selecting).is_some_and(|owner| owner.metadata.name == here)
    };
    let owned: Vec<IpAddr> = addresses.iter().copied().filter(is_owned).collect();
    let here = selecting(candidates.iter().copied().find(|node| node.metadata.name == here)?);
    let names = here.iter().flat_map(|it| &it.interfaces);
    let is_anywhere = here.iter().any(|it| it.interfaces.is_empty());
    let named: BTreeSet<&str> = names.map(String::as_str).collect();
    let lans = view.node.lans().iter().copied().filter(|lan| is_anywhere || named.contains(lan.interface()));
    Some((owned, lans.collect()))
}

/// Who of these candidates is elected, each with the advertisements that select it.
fn owner<'a>(
    view: View<'_>,
    service: &Service,
    elector: &Elector,
    candidates: &[&'a Node],
    selecting: &dyn Fn(&Node) -> Vec<&'a L2Advertisement>,
) -> Option<&'a Node> {
    let rank = |node: &&Node| {
        let preferences = selecting(node).into_iter().flat_map(|it| &it.preferences);
        let met = preferences.filter(|it| it.selector.matches(&node.metadata.labels));
        let score: u64 = met.map(|it| u64::from(it.weight.get())).sum();
        // Who is not Ready comes last, and is better than nobody. Among members that means nothing.
        let is_dead = view.members.is_none() && node.condition("Ready").is_some_and(|ready| ready != "True");
        // The controller chooses among those that are preferred equally (ADR 16).
        let is_assigned = elector.is_balanced
            && service.metadata.annotations.get(api::LAYER2_ASSIGNED_NODE) == Some(&node.metadata.name);
        (is_dead, Reverse(score), !is_assigned, speaker::digest(&node.metadata.name, &elector.address))
    };
    let mut candidates = candidates.to_vec();
    candidates.sort_by_key(rank);
    // Contract 12.2 R9: who cannot announce makes room for the first who can, if there is one and they hear each other.
    let is_able = |node: &Node| {
        let plight = NodeId::of_name(&node.metadata.name).and_then(|node| view.plights.get(&node));
        view.members.is_none() || plight.is_none_or(|plight| !plight.hinders(&elector.judged, &selecting(node)))
    };
    let able = candidates.iter().copied().find(|node| is_able(node));
    able.or(candidates.first().copied())
}

/// What keeps a node from announcing (contract 12.2 R9).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plight {
    /// L2Advertisements none of whose interfaces works there, by family of what they announce.
    advertisements: BTreeSet<(Family, String)>,
    /// Families without a default route.
    ways: BTreeSet<Family>,
}

/// What is in the way of a machine whose Node has these labels, by the configuration that is in force there.
pub(crate) fn plight(config: &Config, node: &Node, machine: &Machine) -> Plight {
    let works = |advertisement: &L2Advertisement| {
        let names = &advertisement.interfaces;
        let allows = |lan: &Lan| names.is_empty() || names.iter().any(|name| name == lan.interface());
        Lan::ALL.iter().any(|lan| machine.is_connected(*lan) && allows(lan))
    };
    let mut advertisements = BTreeSet::new();
    for pool in config.pools.values() {
        let here = pool.l2_advertisements.values().filter(|it| it.node_selectors.matches(&node.metadata.labels));
        for advertisement in here.filter(|it| !works(it)) {
            let families = Family::ALL.into_iter().filter(|family| pool.has_family(*family));
            advertisements.extend(families.map(|family| (family, advertisement.name.clone())));
        }
    }
    let ways = machine.ways_out();
    Plight { advertisements, ways: Family::ALL.into_iter().filter(|family| !ways.contains_key(family)).collect() }
}

impl Plight {
    /// Whether one of the addresses cannot be announced by any of these advertisements.
    fn hinders(&self, addresses: &[IpAddr], selecting: &[&L2Advertisement]) -> bool {
        addresses.iter().any(|address| {
            let family = Family::of(address);
            self.ways.contains(&family)
                || selecting.iter().all(|it| self.advertisements.contains(&(family, it.name.clone())))
        })
    }

    /// Whether this is what a speaker says.
    pub(crate) fn is(&self, told: &Hindrances) -> bool {
        let advertisements = self
            .advertisements
            .iter()
            .map(|(family, name)| Hindrance::Advertisement { family: *family, name: name.clone() });
        let ways = self.ways.iter().map(|family| Hindrance::WayOut(*family));
        *told == Hindrances::new(advertisements.chain(ways).collect())
    }
}

/// The address of a Service that is to be spread evenly, and the nodes that it may be on (ADR 16); none if the hash counts.
pub(crate) fn eligible(
    api: &ApiServer,
    config: &Config,
    climate: &Climate,
    service: &Service,
) -> Option<(IpAddr, BTreeSet<String>)> {
    let (addresses, pool) = addresses(config, climate, service)?;
    let labels = &service.metadata.labels;
    let matching: Vec<&L2Advertisement> =
        pool.l2_advertisements.values().map(|it| &**it).filter(|it| it.service_selectors.matches(labels)).collect();
    let may_share = service.annotation(api::ALLOW_SHARED_IP).is_some();
    let is_refused = may_share && matching.iter().any(|it| !it.service_selectors.is_empty());
    if is_refused || matching.iter().all(|it| it.owner_selection == OwnerSelection::Hash) {
        return None;
    }
    // Those who share it could be given different nodes.
    let first = addresses.first()?;
    if may_share && sharers(api, climate, first).iter().any(|list| list.first() != Some(first)) {
        return None;
    }
    let (local_nodes, has_endpoints) = endpoints(api, service);
    let mut scores: BTreeMap<String, u64> = BTreeMap::new();
    for node in api.nodes().filter(|_| has_endpoints) {
        let name = &node.metadata.name;
        // It knows of no `--ignore-exclude-lb`.
        let is_excluded = node.metadata.labels.contains_key(api::EXCLUDE_FROM_LOAD_BALANCERS);
        let is_ready = node.condition("Ready").is_none_or(|ready| ready == "True");
        let may = is_ready && !is_excluded && may_announce(node, climate);
        let selecting = || matching.iter().filter(|it| it.node_selectors.matches(&node.metadata.labels));
        if may && selecting().next().is_some() && (!is_local(service) || local_nodes.contains(name)) {
            let met =
                selecting().flat_map(|it| &it.preferences).filter(|it| it.selector.matches(&node.metadata.labels));
            scores.insert(name.clone(), met.map(|it| u64::from(it.weight.get())).sum());
        }
    }
    let best = scores.values().max().copied();
    let nodes = scores.into_iter().filter(|(_, score)| Some(*score) == best).map(|(node, _)| node).collect();
    Some((*first, nodes))
}

/// The routes that the node gives to its routers because of this Service, with the advertisements that ask for them
/// (contract 6.1, 6.2).
pub(crate) fn routes<'a>(view: View<'a>, service: &Service) -> BTreeMap<IpNet, Vec<&'a BgpAdvertisement>> {
    let mut routes: BTreeMap<IpNet, Vec<&BgpAdvertisement>> = BTreeMap::new();
    let Some((addresses, pool)) = addresses(view.config, view.climate, service) else { return routes };
    let Some(node) = view.api.node(&view.node.name()).filter(|node| may_announce(node, view.climate)) else {
        return routes;
    };
    let (local_nodes, has_endpoints) = endpoints(view.api, service);
    let is_drained = node.spec.taints.iter().any(|taint| Some(taint.key.as_str()) == view.climate.drain_taint);
    if is_drained || !has_endpoints || (is_local(service) && !local_nodes.contains(&node.metadata.name)) {
        return routes;
    }
    let all = pool.bgp_advertisements.values().map(|it| &**it);
    let matching: Vec<&BgpAdvertisement> = all
        .filter(|it| it.node_selectors.matches(&node.metadata.labels))
        .filter(|it| it.service_selectors.matches(&service.metadata.labels))
        .collect();
    if matching.iter().any(|one| matching.iter().any(|other| clash(one, other, pool))) {
        return routes;
    }
    for address in addresses {
        for advertisement in &matching {
            let length = match Family::of(&address) {
                Family::V4 => advertisement.aggregation_length,
                Family::V6 => advertisement.aggregation_length_v6,
            };
            let Ok(prefix) = IpNet::new(address, length) else { continue };
            routes.entry(prefix.trunc()).or_default().push(advertisement);
        }
    }
    routes
}

/// Contract 4.2 rules 33 and 35.
fn clash(one: &BgpAdvertisement, other: &BgpAdvertisement, pool: &Pool) -> bool {
    let meet =
        one.peers.is_empty() || other.peers.is_empty() || one.peers.iter().any(|peer| other.peers.contains(peer));
    let (same_v4, same_v6) =
        (one.aggregation_length == other.aggregation_length, one.aggregation_length_v6 == other.aggregation_length_v6);
    let same_aggregation = match (pool.has_family(Family::V4), pool.has_family(Family::V6)) {
        (true, true) => same_v4 || same_v6,
        (true, false) => same_v4,
        (false, _) => same_v6,
    };
    one.local_pref != other.local_pref && meet && same_aggregation
}

/// The peers that a node has sessions with, and the router behind each.
pub(crate) fn peers(view: View<'_>) -> impl Iterator<Item = (&Peer, RouterName)> {
    let node = view.api.node(&view.node.name());
    view.config.peers.values().filter_map(move |peer| {
        let is_selected = node.is_some_and(|node| peer.node_selectors.matches(&node.metadata.labels));
        router_of(peer).filter(|_| is_selected).map(|router| (&**peer, router))
    })
}

/// What the router behind a peer should have from the node.
pub(crate) fn table(view: View<'_>, peer: &Peer, router: RouterName) -> BTreeMap<IpNet, ExpectedRoute> {
    let PeerEndpoint::Address(there) = peer.endpoint else { return BTreeMap::new() };
    let own_as = peer.local_as();
    let is_internal = own_as == router.asn();
    let mut table: BTreeMap<IpNet, ExpectedRoute> = BTreeMap::new();
    let mut prepends: BTreeMap<IpNet, u8> = BTreeMap::new();
    for (prefix, advertisements) in view.api.services().flat_map(|service| routes(view, service)) {
        let family = Family::of(&prefix.addr());
        if family != Family::of(&there) && !peer.dual_stack_address_family {
            continue;
        }
        for advertisement in advertisements.iter().filter(|it| it.peers.is_empty() || it.peers.contains(&peer.name)) {
            let route = table.entry(prefix).or_insert_with(|| ExpectedRoute {
                next_hop: view.node.address(family),
                as_path: bgp::wire::AsPath::default(),
                local_pref: None,
                multi_exit_disc: None,
                communities: BTreeSet::new(),
                extended_communities: BTreeSet::new(),
            });
            // What is preferred most counts: the lowest of these two.
            let lower = route.multi_exit_disc.into_iter().chain(advertisement.med).min();
            route.multi_exit_disc = lower;
            let prepend = prepends.entry(prefix).or_insert(advertisement.as_path_prepend);
            *prepend = (*prepend).min(advertisement.as_path_prepend);
            route.extended_communities.extend(&advertisement.extended_communities);
            // Of several preferences for one route the highest counts.
            route.local_pref = route.local_pref.max(advertisement.local_pref);
            route.communities.extend(&advertisement.communities);
        }
    }
    for (prefix, route) in &mut table {
        if is_internal {
            route.local_pref.get_or_insert(bgp::wire::LOCAL_PREF_DEFAULT);
        } else {
            route.local_pref = None;
            let times = usize::from(prepends.get(prefix).copied().unwrap_or(0)).saturating_add(1);
            route.as_path = bgp::wire::AsPath::sequence(std::iter::repeat_n(own_as, times));
            route.extended_communities.retain(|community| community.is_transitive());
        }
    }
    table
}
