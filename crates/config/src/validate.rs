//! The whole set of objects to a configuration, or to everything that is wrong with it (contract section 4).

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use api::core::ConfigMap;
use api::{Key, Kind, ObjectRef};
use kit::Labels;
use serde::Serialize;

use crate::advertisements::{self, PoolChoice};
use crate::attach::{self, Read};
use crate::communities::aliases;
use crate::finding::{Finding, Report, Severity};
use crate::objects::Objects;
use crate::pools::{self, Space};
use crate::selectors::selector_list;
use crate::{BfdProfile, BgpAdvertisement, Config, L2Advertisement, Peer, Pool, bfd, peers, tcp_keys};

/// Findings that [`Refused`] prints; the rest is counted.
const FINDINGS_SHOWN: usize = 10;

/// For whom the objects are judged: each judges what it consumes (contract 1.9, 4.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope<'a> {
    /// The linter and the webhook: all objects, all nodes.
    Everything,
    /// The controller: pools, communities and namespaces. What is wrong elsewhere does not concern it.
    Controller,
    /// The speaker of a node: everything but the BGPPeers and BGPAdvertisements that do not select the node. A node
    /// that is not among the objects has no labels.
    Speaker {
        /// The node.
        node: &'a str,
    },
}

impl Scope<'_> {
    /// True when objects of this kind are looked at. Namespaces and the labels of Services are not: selectors stay
    /// selectors in the [`Config`], so when the labels of a namespace change, nothing has to be validated anew.
    pub fn reads(self, kind: Kind) -> bool {
        match kind {
            Kind::IPAddressPool | Kind::Community => true,
            Kind::BGPPeer
            | Kind::BGPAdvertisement
            | Kind::L2Advertisement
            | Kind::BFDProfile
            | Kind::Secret
            | Kind::ConfigMap
            | Kind::Node => self != Scope::Controller,
            Kind::Namespace => self == Scope::Everything,
            Kind::Service
            | Kind::EndpointSlice
            | Kind::ServiceL2Status
            | Kind::ServiceBGPStatus
            | Kind::ConfigurationState => false,
        }
    }
}

/// A configuration that can be used.
#[derive(Clone, Debug, PartialEq)]
pub struct Accepted {
    /// It.
    pub config: Config,
    /// What is surely not meant as it is written, though it can be used.
    pub warnings: Vec<Finding>,
}

/// A set of objects that makes no configuration. Its text lists the errors, for conditions and logs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// Everything that is wrong: at least one error, and perhaps warnings.
    pub findings: Vec<Finding>,
}

impl Refused {
    /// The findings that are errors.
    pub fn errors(&self) -> impl Iterator<Item = &Finding> {
        self.findings.iter().filter(|finding| finding.severity == Severity::Error)
    }
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, finding) in self.errors().take(FINDINGS_SHOWN).enumerate() {
            if position > 0 {
                f.write_str("; ")?;
            }
            finding.fmt(f)?;
        }
        match self.errors().count().saturating_sub(FINDINGS_SHOWN) {
            0 => Ok(()),
            more => write!(f, "; and {more} more"),
        }
    }
}

impl std::error::Error for Refused {}

/// What the rules judge by.
pub(crate) struct Context<'a> {
    pub(crate) objects: &'a Objects,
    pub(crate) scope: Scope<'a>,
    pub(crate) namespace: Option<&'a str>,
    /// Pools by name alone, as advertisements name them.
    pub(crate) pools: BTreeMap<&'a str, &'a Key>,
    /// Peers by name alone.
    pub(crate) peers: BTreeMap<&'a str, &'a Key>,
    nodes: Vec<&'a Labels>,
}

/// What a node without labels, or one that is not known, has.
static NO_LABELS: Labels = Labels::new();

impl<'a> Context<'a> {
    fn new(objects: &'a Objects, scope: Scope<'a>, namespace: Option<&'a str>) -> Self {
        let nodes = match scope {
            Scope::Speaker { node } => vec![objects.nodes.get(node).map_or(&NO_LABELS, |node| &node.labels)],
            Scope::Everything | Scope::Controller => objects.nodes.values().map(|node| &node.labels).collect(),
        };
        let pools = objects.pools.keys().map(|key| (key.name.as_str(), key)).collect();
        let peers = objects.peers.keys().map(|key| (key.name.as_str(), key)).collect();
        Context { objects, scope, namespace, pools, peers, nodes }
    }

    /// The labels of the nodes that are judged for.
    pub(crate) fn nodes(&self) -> impl Iterator<Item = &'a Labels> {
        self.nodes.iter().copied()
    }

    pub(crate) fn knows_no_nodes(&self) -> bool {
        self.nodes.is_empty()
    }
}

/// Judges a set of objects by all the rules at once.
///
/// `namespace` is the namespace of MetalLB; without one, objects may be in any. Everything that is wrong is told, not
/// only what is found first, in an order that depends on the objects alone. A refusal leaves whatever configuration was
/// in force before; that is up to the caller.
pub fn validate(objects: &Objects, scope: Scope<'_>, namespace: Option<&str>) -> Result<Accepted, Refused> {
    let context = Context::new(objects, scope, namespace);
    let mut findings = Vec::new();
    check_namespaces(&context, &mut findings);
    let config = match scope {
        Scope::Controller => {
            let pools = read_pools(&context, &mut findings);
            aliases(objects, &mut findings);
            config_of(pools, BTreeMap::new(), BTreeMap::new())
        }
        Scope::Everything | Scope::Speaker { .. } => read_everything(&context, &mut findings),
    };
    findings.sort_by(|a, b| (&a.object, &a.pointer, a.code).cmp(&(&b.object, &b.pointer, b.code)));
    if findings.iter().any(|finding| finding.severity == Severity::Error) {
        Err(Refused { findings })
    } else {
        Ok(Accepted { config, warnings: findings })
    }
}

fn read_everything(context: &Context<'_>, findings: &mut Vec<Finding>) -> Config {
    let objects = context.objects;
    let profiles = read_profiles(context, findings);
    let peers = read_peers(context, &profiles, findings);
    findings.extend(peers::clashes(&peers, context));
    findings.extend(tcp_keys::overlaps(&peers, context));
    let aliases = aliases(objects, findings);
    let mut pools = read_pools(context, findings);

    let mut l2: Read<L2Advertisement> = BTreeMap::new();
    for (key, written) in &objects.l2_advertisements {
        let mut report = Report::new(ObjectRef { kind: Kind::L2Advertisement, key: key.clone() });
        let (choice, advertisement) = advertisements::layer2(written, context, &mut report);
        warn_of_no_pool(&choice, context, &mut report);
        findings.extend(report.into_findings());
        l2.insert(key.clone(), (choice, Arc::new(advertisement)));
    }
    let mut bgp: Read<BgpAdvertisement> = BTreeMap::new();
    for (key, written) in &objects.bgp_advertisements {
        let reference = ObjectRef { kind: Kind::BGPAdvertisement, key: key.clone() };
        if !concerns_us(&written.spec.node_selectors, &reference, context) {
            continue;
        }
        let mut report = Report::new(reference);
        let (choice, advertisement) = advertisements::bgp(written, &aliases, context, &mut report);
        warn_of_no_pool(&choice, context, &mut report);
        findings.extend(report.into_findings());
        if let Some(advertisement) = advertisement {
            bgp.insert(key.clone(), (choice, Arc::new(advertisement)));
        }
    }
    warn_of_twins(Kind::L2Advertisement, objects.l2_advertisements.iter().map(|(key, it)| (key, &it.spec)), findings);
    warn_of_twins(Kind::BGPAdvertisement, objects.bgp_advertisements.iter().map(|(key, it)| (key, &it.spec)), findings);
    attach::attach(&mut pools, &l2, &bgp, context);
    findings.extend(attach::check(&pools, &bgp, &peers, context));
    if context.scope == Scope::Everything {
        warn_of_silent_pools(&pools, findings);
    }
    findings.extend(objects.config_maps.values().filter_map(|config_map| bgp_extras(config_map)));
    config_of(pools, peers, profiles)
}

fn config_of(
    pools: BTreeMap<Key, Pool>,
    peers: BTreeMap<Key, Peer>,
    bfd_profiles: BTreeMap<String, BfdProfile>,
) -> Config {
    Config {
        pools: pools.into_values().map(|pool| (pool.name.clone(), Arc::new(pool))).collect(),
        peers: peers.into_values().map(|peer| (peer.name.clone(), Arc::new(peer))).collect(),
        bfd_profiles,
    }
}

fn read_pools(context: &Context<'_>, findings: &mut Vec<Finding>) -> BTreeMap<Key, Pool> {
    let objects = context.objects;
    let mut pools = BTreeMap::new();
    let mut space = Space::default();
    for (key, written) in &objects.pools {
        let mut report = Report::new(ObjectRef { kind: Kind::IPAddressPool, key: key.clone() });
        let pool = pools::pool(key, written, &mut space, &mut report);
        if context.scope == Scope::Everything {
            pools::namespaces(&pool, objects, &mut report);
        }
        findings.extend(report.into_findings());
        pools.insert(key.clone(), pool);
    }
    if context.scope.reads(Kind::Node) {
        findings.extend(space.node_addresses(objects));
    }
    pools
}

fn read_profiles(context: &Context<'_>, findings: &mut Vec<Finding>) -> BTreeMap<String, BfdProfile> {
    let mut profiles = BTreeMap::new();
    for (key, written) in &context.objects.bfd_profiles {
        let mut report = Report::new(ObjectRef { kind: Kind::BFDProfile, key: key.clone() });
        profiles.insert(key.name.clone(), bfd::profile(written, &mut report));
        findings.extend(report.into_findings());
    }
    profiles
}

fn read_peers(
    context: &Context<'_>,
    profiles: &BTreeMap<String, BfdProfile>,
    findings: &mut Vec<Finding>,
) -> BTreeMap<Key, Peer> {
    let mut peers = BTreeMap::new();
    for (key, written) in &context.objects.peers {
        let reference = ObjectRef { kind: Kind::BGPPeer, key: key.clone() };
        if !concerns_us(&written.spec.node_selectors, &reference, context) {
            continue;
        }
        let mut report = Report::new(reference);
        if let Some(peer) = peers::peer(written, profiles, context, &mut report) {
            peers.insert(key.clone(), peer);
        }
        findings.extend(report.into_findings());
    }
    peers
}

/// False when the selectors leave out the node that is judged for. Selectors that cannot be read leave nothing out:
/// what is wrong with them has to be told.
fn concerns_us(selectors: &[api::LabelSelector], reference: &ObjectRef, context: &Context<'_>) -> bool {
    if !matches!(context.scope, Scope::Speaker { .. }) {
        return true;
    }
    let mut report = Report::new(reference.clone());
    let selectors = selector_list(selectors, "/spec/nodeSelectors", &mut report);
    !report.into_findings().is_empty() || context.nodes().any(|labels| selectors.matches(labels))
}

/// Rule 1, where the namespace of MetalLB is known. Where it is not, one name in two namespaces is ambiguous.
fn check_namespaces(context: &Context<'_>, findings: &mut Vec<Finding>) {
    let Objects { pools, peers, bgp_advertisements, l2_advertisements, bfd_profiles, communities, .. } =
        context.objects;
    let keys: [(Kind, Vec<&Key>); 6] = [
        (Kind::IPAddressPool, pools.keys().collect()),
        (Kind::BGPPeer, peers.keys().collect()),
        (Kind::BGPAdvertisement, bgp_advertisements.keys().collect()),
        (Kind::L2Advertisement, l2_advertisements.keys().collect()),
        (Kind::BFDProfile, bfd_profiles.keys().collect()),
        (Kind::Community, communities.keys().collect()),
    ];
    for (kind, keys) in keys.into_iter().filter(|(kind, _)| context.scope.reads(*kind)) {
        let mut seen: BTreeMap<&str, &str> = BTreeMap::new();
        for key in keys {
            let mut report = Report::new(ObjectRef { kind, key: key.clone() });
            match (context.namespace, seen.insert(&key.name, &key.namespace)) {
                (Some(namespace), _) => outside(key, namespace, &mut report),
                (None, Some(other)) => {
                    let message = format!("namespace {other:?} has a {kind} {:?}, too", key.name);
                    report.error("same-name", "/metadata/namespace", message).hint(
                        "MetalLB reads one namespace only; objects of two installations have to be checked apart",
                    );
                }
                (None, None) => {}
            }
            findings.extend(report.into_findings());
        }
    }
}

/// Objects without a namespace are meant to be in the right one.
pub(crate) fn outside(key: &Key, namespace: &str, report: &mut Report) {
    if !key.namespace.is_empty() && key.namespace != namespace {
        report
            .error(
                "wrong-namespace",
                "/metadata/namespace",
                format!("resource must be created in {namespace} namespace"),
            )
            .hint(format!("objects in other namespaces, such as {:?}, are not read", key.namespace));
    }
}

fn warn_of_no_pool(choice: &PoolChoice, context: &Context<'_>, report: &mut Report) {
    if !context.objects.pools.is_empty() && choice.pools(context).is_empty() {
        report
            .warning(
                "advertisement-without-pool",
                "/spec",
                "the advertisement selects no pool, so it announces nothing",
            )
            .hint("check the names and labels of the pools")
            .transient();
    }
}

/// Two advertisements that say the same (D20: whatever their names).
fn warn_of_twins<'a, T: Serialize + 'a>(
    kind: Kind,
    advertisements: impl Iterator<Item = (&'a Key, &'a T)>,
    findings: &mut Vec<Finding>,
) {
    let mut seen: BTreeMap<String, &str> = BTreeMap::new();
    for (key, spec) in advertisements {
        let said = serde_json::to_string(spec).unwrap_or_default();
        if let Some(other) = seen.get(&said) {
            let mut report = Report::new(ObjectRef { kind, key: key.clone() });
            report
                .warning("same-advertisement", "/spec", format!("{kind} {other:?} says the same"))
                .hint("remove one of them");
            findings.extend(report.into_findings());
        }
        seen.insert(said, &key.name);
    }
}

fn warn_of_silent_pools(pools: &BTreeMap<Key, Pool>, findings: &mut Vec<Finding>) {
    for (key, pool) in pools {
        if pool.l2_advertisements.is_empty() && pool.bgp_advertisements.is_empty() {
            let mut report = Report::new(ObjectRef { kind: Kind::IPAddressPool, key: key.clone() });
            report
                .warning(
                    "pool-not-announced",
                    "",
                    "no advertisement selects this pool: its addresses are given out, but nobody announces them",
                )
                .hint("create an L2Advertisement or a BGPAdvertisement")
                .transient();
            findings.extend(report.into_findings());
        }
    }
}

/// Raw FRR configuration, which cannot be honoured, because there is no FRR (contract 4.3).
///
/// It is told and never ignored, but it does not make the configuration unusable: the speaker of a cluster that changes
/// over must not fall silent for it.
pub fn bgp_extras(config_map: &ConfigMap) -> Option<Finding> {
    let extras = config_map.data.get(ConfigMap::EXTRAS_KEY)?;
    if config_map.metadata.name != ConfigMap::BGP_EXTRAS || extras.trim().is_empty() {
        return None;
    }
    let mut report = Report::new(ObjectRef { kind: Kind::ConfigMap, key: config_map.metadata.key() });
    report
        .warning("bgp-extras", "/data/extras", "raw FRR configuration cannot be honoured: BGP is spoken without FRR")
        .hint("say it with BGPPeers, BGPAdvertisements and BFDProfiles, then delete the ConfigMap");
    report.into_findings().pop()
}
