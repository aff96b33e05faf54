//! The set of objects that a configuration is made of.
//!
//! It grows and shrinks by single objects, as a watch reports them, and keeps of each only what validation looks at: so
//! that the heartbeat of a node or the counters of a pool do not count as changes.

use std::collections::BTreeMap;
use std::sync::Arc;

use api::core::{ConfigMap, NodeAddress, Secret};
use api::{
    BFDProfile, BGPAdvertisement, BGPPeer, Community, IPAddressPool, Key, Kind, L2Advertisement, Object, ObjectMeta,
    ObjectRef,
};
use kit::Labels;

/// Everything that validation looks at, by namespace and name. Cheap to clone.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Objects {
    pub(crate) pools: BTreeMap<Key, Arc<IPAddressPool>>,
    pub(crate) peers: BTreeMap<Key, Arc<BGPPeer>>,
    pub(crate) bgp_advertisements: BTreeMap<Key, Arc<BGPAdvertisement>>,
    pub(crate) l2_advertisements: BTreeMap<Key, Arc<L2Advertisement>>,
    pub(crate) bfd_profiles: BTreeMap<Key, Arc<BFDProfile>>,
    pub(crate) communities: BTreeMap<Key, Arc<Community>>,
    pub(crate) secrets: BTreeMap<Key, Arc<Secret>>,
    pub(crate) config_maps: BTreeMap<Key, Arc<ConfigMap>>,
    pub(crate) nodes: BTreeMap<String, Arc<KnownNode>>,
    pub(crate) namespaces: BTreeMap<String, Arc<Labels>>,
}

/// What validation looks at of a node.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct KnownNode {
    pub(crate) labels: Labels,
    pub(crate) addresses: Vec<NodeAddress>,
}

impl Objects {
    /// No objects.
    pub fn new() -> Self {
        Self::default()
    }

    /// Puts an object in, in the place of the one of its kind and name. True when that changes anything that validation
    /// looks at; never for Services, EndpointSlices and the kinds of status, which it does not look at.
    pub fn insert(&mut self, object: Object) -> bool {
        let key = object.metadata().key();
        match object {
            Object::IPAddressPool(IPAddressPool { metadata, spec, status: _ }) => {
                put(&mut self.pools, key, IPAddressPool { metadata: trim(metadata), spec, status: None })
            }
            Object::BGPPeer(BGPPeer { metadata, spec }) => {
                put(&mut self.peers, key, BGPPeer { metadata: trim(metadata), spec })
            }
            Object::BGPAdvertisement(BGPAdvertisement { metadata, spec }) => {
                put(&mut self.bgp_advertisements, key, BGPAdvertisement { metadata: trim(metadata), spec })
            }
            Object::L2Advertisement(L2Advertisement { metadata, spec }) => {
                put(&mut self.l2_advertisements, key, L2Advertisement { metadata: trim(metadata), spec })
            }
            Object::BFDProfile(BFDProfile { metadata, spec }) => {
                put(&mut self.bfd_profiles, key, BFDProfile { metadata: trim(metadata), spec })
            }
            Object::Community(Community { metadata, spec }) => {
                put(&mut self.communities, key, Community { metadata: trim(metadata), spec })
            }
            Object::Secret(secret) => {
                put(&mut self.secrets, key, Secret { metadata: trim(secret.metadata.clone()), ..secret })
            }
            // Of all others nothing is looked at, and programs keep what changes all the time in them (R2).
            Object::ConfigMap(config_map) if config_map.metadata.name != ConfigMap::BGP_EXTRAS => false,
            Object::ConfigMap(ConfigMap { metadata, data }) => {
                put(&mut self.config_maps, key, ConfigMap { metadata: trim(metadata), data })
            }
            Object::Node(node) => {
                let known = KnownNode { labels: node.metadata.labels, addresses: node.status.addresses };
                put(&mut self.nodes, key.name, known)
            }
            Object::Namespace(namespace) => put(&mut self.namespaces, key.name, namespace.metadata.labels),
            Object::Service(_)
            | Object::EndpointSlice(_)
            | Object::ServiceL2Status(_)
            | Object::ServiceBGPStatus(_)
            | Object::ConfigurationState(_) => false,
        }
    }

    /// Takes an object out. True when it was there and validation looks at its kind.
    pub fn remove(&mut self, reference: &ObjectRef) -> bool {
        let key = &reference.key;
        match reference.kind {
            Kind::IPAddressPool => self.pools.remove(key).is_some(),
            Kind::BGPPeer => self.peers.remove(key).is_some(),
            Kind::BGPAdvertisement => self.bgp_advertisements.remove(key).is_some(),
            Kind::L2Advertisement => self.l2_advertisements.remove(key).is_some(),
            Kind::BFDProfile => self.bfd_profiles.remove(key).is_some(),
            Kind::Community => self.communities.remove(key).is_some(),
            Kind::Secret => self.secrets.remove(key).is_some(),
            Kind::ConfigMap => self.config_maps.remove(key).is_some(),
            Kind::Node => self.nodes.remove(&key.name).is_some(),
            Kind::Namespace => self.namespaces.remove(&key.name).is_some(),
            Kind::Service
            | Kind::EndpointSlice
            | Kind::ServiceL2Status
            | Kind::ServiceBGPStatus
            | Kind::ConfigurationState => false,
        }
    }
}

fn put<K: Ord, T: PartialEq>(map: &mut BTreeMap<K, Arc<T>>, key: K, new: T) -> bool {
    if map.get(&key).is_some_and(|old| **old == new) {
        return false;
    }
    map.insert(key, Arc::new(new));
    true
}

/// Keeps of the metadata what matters: the rest changes with every write.
fn trim(metadata: ObjectMeta) -> ObjectMeta {
    let ObjectMeta { name, namespace, labels, .. } = metadata;
    ObjectMeta { name, namespace, labels, ..ObjectMeta::default() }
}
