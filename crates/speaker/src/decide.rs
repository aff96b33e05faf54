//! The two decisions about one Service on this node: each a walk through the gates of [`crate::Protocol::gates`].

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use config::{BgpAdvertisement, L2Advertisement, Peer, Pool};
use ipnet::IpNet;
use kit::Family;
use l2::InterfaceSet;

use crate::backends::Backends;
use crate::contest::{Contest, Subject};
use crate::core::Conflicts;
use crate::drain::Standing;
use crate::facts::{NodeFacts, PoolIndex, ServiceFacts};
use crate::hindrance::Hindrances;
use crate::members::{Liveness, Members, Places, Rules, Stay};
use crate::sharing::Sharing;
use crate::verdict::{Decision, Refusal};

/// What this node answers for on the local segment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Layer2Grant {
    /// The addresses, in the order of the Service's status. Not all of them, where another node is elected for one that Services
    /// share.
    pub addresses: Vec<IpAddr>,
    /// Where they are answered.
    pub interfaces: InterfaceSet,
    /// The pool they are from.
    pub pool: String,
}

/// What this node gives to its routers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BgpGrant {
    /// The addresses, in the order of the Service's status.
    pub addresses: Vec<IpAddr>,
    /// The prefixes they are announced as, each with the advertisements that ask for it.
    pub routes: BTreeMap<IpNet, Vec<Arc<BgpAdvertisement>>>,
    /// The pool they are from.
    pub pool: String,
}

/// All that a decision depends on besides the Service itself.
pub(crate) struct Surroundings<'a> {
    pub(crate) node: &'a str,
    pub(crate) exclusion: Exclusion,
    pub(crate) pools: &'a PoolIndex,
    pub(crate) nodes: &'a BTreeMap<String, NodeFacts>,
    pub(crate) members: &'a Members,
    /// What [`Members::rules`] says of them.
    pub(crate) rules: Rules,
    /// Which addresses are shared, if that counts by these rules.
    pub(crate) sharing: Option<&'a Sharing>,
    /// What keeps this node from announcing.
    pub(crate) hindrances: &'a Hindrances,
    /// What of that cuts it off, so that it may not know who else is there.
    pub(crate) cut: &'a Hindrances,
    /// Who is alive whatever the members say.
    pub(crate) conflicts: &'a Conflicts,
    /// Whether this process takes part in elections for much longer.
    pub(crate) stay: Stay,
    pub(crate) peers: &'a BTreeMap<String, Arc<Peer>>,
    pub(crate) interfaces: &'a BTreeSet<String>,
    /// How far this node has left BGP.
    pub(crate) standing: Standing,
}

impl Surroundings<'_> {
    /// Whether memberlist knows of no other speaker.
    pub(crate) fn is_alone(&self) -> bool {
        matches!(self.members, Members::Alive(members) if members.keys().all(|name| name == self.node))
    }
}

/// What the label [`api::EXCLUDE_FROM_LOAD_BALANCERS`] on a node means.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Exclusion {
    /// The node announces nothing.
    #[default]
    Honoured,
    /// Nothing (`--ignore-exclude-lb`).
    Ignored,
}

/// The addresses of the Service and the one pool they are from: the gates that both protocols begin with.
pub(crate) fn addresses_and_pool<'a>(
    service: &'a ServiceFacts,
    pools: &'a PoolIndex,
) -> Result<(&'a [IpAddr], &'a Arc<Pool>), Refusal> {
    let addresses = service.addresses.as_ref().map_err(Clone::clone)?;
    let mut found: Option<&Arc<Pool>> = None;
    for address in addresses {
        let pool = pools.pool_of(address).ok_or(Refusal::NotInPool(*address))?;
        if found.is_some_and(|other| other.name != pool.name) {
            return Err(Refusal::SeveralPools);
        }
        found = Some(pool);
    }
    found.map(|pool| (addresses.as_slice(), pool)).ok_or(Refusal::NoAddress)
}

/// What stands between a node as such and announcing anything.
pub(crate) fn node_refusal(node: &NodeFacts, exclusion: Exclusion) -> Option<Refusal> {
    if node.network_unavailable {
        Some(Refusal::NetworkUnavailable)
    } else if node.excluded && exclusion == Exclusion::Honoured {
        Some(Refusal::ExcludedByLabel)
    } else {
        None
    }
}

/// What was decided for a Service on the local segment.
pub(crate) struct Layer2 {
    pub(crate) decision: Decision<Layer2Grant>,
    /// The first places of its elections, as far as it came to one.
    pub(crate) places: Places,
    /// The addresses that the elections did not give to this node, where there were several.
    pub(crate) elsewhere: Vec<(IpAddr, Refusal)>,
}

/// Whether this node answers for the Service on the local segment (contract 5.1).
pub(crate) fn layer2(service: &ServiceFacts, backends: &Backends, around: &Surroundings<'_>) -> Layer2 {
    let (mut places, mut elsewhere) = (Vec::new(), Vec::new());
    let outcome = try_layer2(service, backends, around, &mut places, &mut elsewhere);
    Layer2 { decision: Decision { outcome }, places: Places::new(places), elsewhere }
}

fn try_layer2(
    service: &ServiceFacts,
    backends: &Backends,
    around: &Surroundings<'_>,
    places: &mut Vec<Vec<String>>,
    elsewhere: &mut Vec<(IpAddr, Refusal)>,
) -> Result<Layer2Grant, Refusal> {
    let subject = Subject::of(service, around.pools, around.sharing)?;
    if !backends.any() {
        return Err(Refusal::NoEndpoints);
    }
    subject.may_elect()?;
    let here = around.nodes.get(around.node).ok_or(Refusal::NodeUnknown)?;
    let selecting: Vec<&L2Advertisement> =
        subject.advertisements.iter().copied().filter(|it| it.node_selectors.matches(&here.labels)).collect();
    if selecting.is_empty() {
        return Err(Refusal::NodeNotSelected);
    }
    if let Some(refusal) = node_refusal(here, around.exclusion) {
        return Err(refusal);
    }
    if service.local_only && !backends.on(around.node) {
        return Err(Refusal::NoLocalEndpoints);
    }
    if *around.members == Members::Joining {
        return Err(Refusal::NotJoined);
    }
    let mut addresses = subject.addresses.to_vec();
    let mut first_refusal = None;
    for contest in subject.contests() {
        if let Err(refusal) = elect(contest, backends, here, around, places) {
            if contest.addresses().len() < subject.addresses.len() {
                elsewhere.extend(contest.addresses().iter().map(|address| (*address, refusal.clone())));
            }
            addresses.retain(|address| !contest.addresses().contains(address));
            first_refusal.get_or_insert(refusal);
        }
    }
    match first_refusal {
        Some(refusal) if addresses.is_empty() => Err(refusal),
        Some(_) | None => {
            let interfaces = interfaces(&selecting, around.interfaces)?;
            Ok(Layer2Grant { addresses, interfaces, pool: subject.pool.name.clone() })
        }
    }
}

/// Whether this node is the first in an election; its places are added to the others.
fn elect(
    contest: Contest<'_>,
    backends: &Backends,
    here: &NodeFacts,
    around: &Surroundings<'_>,
    places: &mut Vec<Vec<String>>,
) -> Result<(), Refusal> {
    let first = contest.first_places(backends, around);
    places.push(first.iter().map(|candidate| candidate.node.to_owned()).collect());
    let hindrance =
        || contest.hindrance(around.hindrances, here).filter(|_| matches!(around.members, Members::Alive(_)));
    match first.first() {
        Some(owner) if owner.node == around.node => match contest.cut_off(backends, here, around) {
            Some(hindrance) => Err(Refusal::Hindered(hindrance.clone())),
            None => Ok(()),
        },
        // Nobody can take over, so this node answers to the last.
        None if around.stay == Stay::Leaves => Ok(()),
        Some(owner) if owner.liveness == Liveness::Alive && *around.members == Members::Off && !here.ready => {
            Err(Refusal::NodeNotReady)
        }
        Some(owner) => {
            let not_elected = || Refusal::NotElected(Some(owner.node.to_owned()));
            Err(hindrance().cloned().map_or_else(not_elected, Refusal::Hindered))
        }
        None => Err(Refusal::NotElected(None)),
    }
}

/// The interfaces that the advertisements allow together, as far as they exist here (contract 5.3, D11).
fn interfaces(selecting: &[&L2Advertisement], present: &BTreeSet<String>) -> Result<InterfaceSet, Refusal> {
    if selecting.iter().any(|it| it.interfaces.is_empty()) {
        return Ok(InterfaceSet::All);
    }
    let named: BTreeSet<String> = selecting.iter().flat_map(|it| it.interfaces.iter().cloned()).collect();
    if named.is_disjoint(present) { Err(Refusal::NoSuchInterface(named)) } else { Ok(InterfaceSet::Named(named)) }
}

/// Which routes this node announces for the Service (contract 6.1, 6.2).
pub(crate) fn bgp(service: &ServiceFacts, backends: &Backends, around: &Surroundings<'_>) -> Decision<BgpGrant> {
    Decision { outcome: try_bgp(service, backends, around) }
}

fn try_bgp(service: &ServiceFacts, backends: &Backends, around: &Surroundings<'_>) -> Result<BgpGrant, Refusal> {
    let (addresses, pool) = addresses_and_pool(service, around.pools)?;
    if pool.bgp_advertisements.is_empty() {
        return Err(Refusal::NoAdvertisement(pool.name.clone()));
    }
    let matching: Vec<&Arc<BgpAdvertisement>> =
        pool.bgp_advertisements.values().filter(|it| it.service_selectors.matches(&service.labels)).collect();
    if matching.is_empty() {
        return Err(Refusal::ServiceNotSelected(pool.name.clone()));
    }
    let here = around.nodes.get(around.node).ok_or(Refusal::NodeUnknown)?;
    let selecting: Vec<&Arc<BgpAdvertisement>> =
        matching.into_iter().filter(|it| it.node_selectors.matches(&here.labels)).collect();
    if selecting.is_empty() {
        return Err(Refusal::NodeNotSelected);
    }
    if let Some((one, other)) = local_preference_clash(&selecting, pool) {
        return Err(Refusal::ConflictingAdvertisements(one.name.clone(), other.name.clone()));
    }
    if let Some(refusal) = bgp_node_refusal(here, around) {
        return Err(refusal);
    }
    if service.local_only && !backends.on(around.node) {
        return Err(Refusal::NoLocalEndpoints);
    }
    if !backends.any() {
        return Err(Refusal::NoEndpoints);
    }
    let routes = routes(addresses, &selecting);
    let reaches_a_peer = |prefix: &IpNet, advertisements: &[Arc<BgpAdvertisement>]| {
        around.peers.values().any(|peer| {
            peer.carries(Family::of(&prefix.addr())) && advertisements.iter().any(|it| is_for(it, &peer.name))
        })
    };
    if !routes.iter().any(|(prefix, advertisements)| reaches_a_peer(prefix, advertisements)) {
        return Err(Refusal::NoPeer);
    }
    Ok(BgpGrant { addresses: addresses.to_vec(), routes, pool: pool.name.clone() })
}

/// A node that leaves still announces until it has left: its routes are the last choice then.
fn bgp_node_refusal(here: &NodeFacts, around: &Surroundings<'_>) -> Option<Refusal> {
    match (node_refusal(here, around.exclusion), around.standing) {
        (Some(Refusal::ExcludedByLabel), Standing::Leaving { .. }) => None,
        (Some(refusal), _) => Some(refusal),
        (None, Standing::Gone) => here.drained.clone().map(Refusal::Drained),
        (None, Standing::Present | Standing::Leaving { .. }) => None,
    }
}

fn routes(addresses: &[IpAddr], selecting: &[&Arc<BgpAdvertisement>]) -> BTreeMap<IpNet, Vec<Arc<BgpAdvertisement>>> {
    let mut routes: BTreeMap<IpNet, Vec<Arc<BgpAdvertisement>>> = BTreeMap::new();
    for address in addresses {
        for advertisement in selecting {
            let length = advertisement.aggregation_length_of(Family::of(address));
            // The configuration was validated, so the length always fits the family.
            if let Ok(prefix) = IpNet::new(*address, length) {
                routes.entry(prefix.trunc()).or_default().push(Arc::clone(advertisement));
            }
        }
    }
    routes
}

/// True when the advertisement is meant for the peer.
pub(crate) fn is_for(advertisement: &BgpAdvertisement, peer: &str) -> bool {
    advertisement.peers.is_empty() || advertisement.peers.contains(peer)
}

/// Two advertisements of one Service that want different local preferences for the same route (contract 4.2 rule 35).
fn local_preference_clash<'a>(
    selecting: &[&'a Arc<BgpAdvertisement>],
    pool: &Pool,
) -> Option<(&'a BgpAdvertisement, &'a BgpAdvertisement)> {
    let mut rest = selecting.iter();
    while let Some(one) = rest.next() {
        if let Some(other) = rest.clone().find(|other| one.clashes_with(other, pool)) {
            return Some((one, other));
        }
    }
    None
}
