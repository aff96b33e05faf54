//! What a speaker keeps of the objects it is told of: the few facts that decide, read once.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;

use api::core::{EndpointSlice, Node, Service};
use kit::{AddrRange, Family, Labels};

use crate::Refusal;

/// A Service as the decision sees it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ServiceFacts {
    pub(crate) uid: String,
    pub(crate) labels: Labels,
    /// Its addresses as the controller wrote them, or what is wrong with them.
    pub(crate) addresses: Result<Vec<IpAddr>, Refusal>,
    /// `externalTrafficPolicy: Local`.
    pub(crate) local_only: bool,
    /// The annotation allow-shared-ip is there, whatever its value.
    pub(crate) may_share: bool,
    /// The node that the controller has assigned it to, whether that counts or not.
    pub(crate) assigned: Option<Box<str>>,
}

impl ServiceFacts {
    pub(crate) fn read(service: &Service, served_class: &str) -> Self {
        ServiceFacts {
            uid: service.metadata.uid.clone(),
            labels: service.metadata.labels.clone(),
            addresses: addresses(service, served_class),
            local_only: service.spec.external_traffic_policy.as_deref() == Some("Local"),
            may_share: service.annotation(api::ALLOW_SHARED_IP).is_some(),
            assigned: service.metadata.annotations.get(api::LAYER2_ASSIGNED_NODE).map(|node| node.as_str().into()),
        }
    }
}

fn addresses(service: &Service, served_class: &str) -> Result<Vec<IpAddr>, Refusal> {
    if service.spec.type_.as_deref() != Some("LoadBalancer") {
        return Err(Refusal::NotLoadBalancer);
    }
    // Contract 2.3: without the flag only Services without a class are ours, with it only those of exactly that class.
    if service.spec.load_balancer_class.as_deref().unwrap_or_default() != served_class {
        return Err(Refusal::OtherClass);
    }
    let ingress = &service.status.load_balancer.ingress;
    // Contract 2.3: a name is no address to announce. Beside addresses it is somebody's remark, which the controller
    // leaves alone.
    let written: Vec<&str> =
        ingress.iter().filter_map(|entry| entry.ip.as_deref()).filter(|ip| !ip.is_empty()).collect();
    match (written.as_slice(), ingress.first()) {
        ([], Some(entry)) => Err(Refusal::InvalidAddress(entry.hostname.clone().unwrap_or_default())),
        ([], None) => Err(Refusal::NoAddress),
        (written, _) => {
            // No room to spare: there are thousands of these.
            let mut addresses = Vec::with_capacity(written.len());
            for text in written {
                let address: Result<IpAddr, _> = text.parse();
                addresses.push(address.map_err(|_| Refusal::InvalidAddress((*text).to_owned()))?.to_canonical());
            }
            Ok(addresses)
        }
    }
}

/// The usable backends of one EndpointSlice.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct SliceFacts {
    /// Nodes that have one, in order.
    nodes: Vec<String>,
    /// There is one, on whatever node.
    pub(crate) any: bool,
}

impl SliceFacts {
    pub(crate) fn read(slice: &EndpointSlice) -> Self {
        let usable =
            || slice.endpoints.iter().filter(|endpoint| endpoint.is_usable() && !endpoint.addresses.is_empty());
        let mut nodes: Vec<String> = usable().filter_map(|endpoint| endpoint.node_name.clone()).collect();
        nodes.sort_unstable();
        nodes.dedup();
        nodes.shrink_to_fit();
        SliceFacts { nodes, any: usable().next().is_some() }
    }

    /// There is one on this node.
    pub(crate) fn is_on(&self, node: &str) -> bool {
        self.nodes.binary_search_by(|it| it.as_str().cmp(node)).is_ok()
    }
}

/// A node as the decision sees it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct NodeFacts {
    pub(crate) labels: Labels,
    /// Condition `NetworkUnavailable` is True; unknown and absent mean available (contract 2.2).
    pub(crate) network_unavailable: bool,
    /// The exclusion label is there, whatever its value.
    pub(crate) excluded: bool,
    /// Condition `Ready` is True, or nobody has said yet.
    pub(crate) ready: bool,
    /// The key of a taint that says that the node is drained, if it has one.
    pub(crate) drained: Option<String>,
}

impl NodeFacts {
    pub(crate) fn read(node: &Node, drain_taints: &BTreeSet<String>) -> Self {
        let drained = node.spec.taints.iter().find(|taint| drain_taints.contains(&taint.key));
        NodeFacts {
            labels: node.metadata.labels.clone(),
            network_unavailable: node.condition("NetworkUnavailable") == Some("True"),
            excluded: node.metadata.labels.contains_key(api::EXCLUDE_FROM_LOAD_BALANCERS),
            ready: node.condition("Ready").is_none_or(|status| status == "True"),
            drained: drained.map(|taint| taint.key.clone()),
        }
    }
}

/// Finds the pool of an address in O(log n).
#[derive(Clone, Debug, Default)]
pub(crate) struct PoolIndex {
    by_first: BTreeMap<(Family, u128), (AddrRange, Arc<config::Pool>)>,
}

impl PoolIndex {
    pub(crate) fn new(config: &config::Config) -> Self {
        let ranges = config.pools.values().flat_map(|pool| pool.ranges.iter().map(move |range| (*range, pool.clone())));
        PoolIndex { by_first: ranges.map(|(range, pool)| ((range.family(), range.first()), (range, pool))).collect() }
    }

    pub(crate) fn pool_of(&self, address: &IpAddr) -> Option<&Arc<config::Pool>> {
        let (family, number) = (Family::of(address), Family::number(address));
        let (_, (range, pool)) = self.by_first.range(..=(family, number)).next_back()?;
        range.contains(address).then_some(pool)
    }
}
