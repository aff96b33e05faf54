//! Annotations and labels with a meaning for MetalLB (contract 2.1, 2.2).

use std::collections::BTreeMap;

/// Prefix of the annotations in use.
pub const ANNOTATION_PREFIX: &str = "metallb.io/";
/// Prefix of the annotations of old; still honoured where the new key is absent.
pub const LEGACY_ANNOTATION_PREFIX: &str = "metallb.universe.tf/";

/// Service: the pool to allocate from.
pub const ADDRESS_POOL: &str = "address-pool";
/// Service: the addresses it wants, separated by commas.
pub const LOAD_BALANCER_IPS: &str = "loadBalancerIPs";
/// Service: the sharing key.
pub const ALLOW_SHARED_IP: &str = "allow-shared-ip";
/// Service: the pool its addresses come from; written by the controller only.
pub const ALLOCATED_FROM_POOL: &str = "metallb.io/ip-allocated-from-pool";
/// Service: the node that the controller gave its first address to, under an L2Advertisement with `ownerSelection: Balanced`;
/// written by the controller only.
pub const LAYER2_ASSIGNED_NODE: &str = "metallb.io/l2-assigned-node";
/// The annotation of a Service by which a controller makes sure that no write of the one before it arrives any more; gone
/// with the next status.
pub const FENCED_BY: &str = "metallb.io/fenced-by";
/// The annotation of the controller's Lease that names the Services to which writes may be under way.
pub const LEASE_OPEN: &str = "metallb.io/open-writes";

/// Service: the type of the condition that tells why nobody announces it; only there while that is so.
pub const ANNOUNCED: &str = "metallb.io/Announced";

/// Node: its presence keeps the node from announcing anything.
pub const EXCLUDE_FROM_LOAD_BALANCERS: &str = "node.kubernetes.io/exclude-from-external-load-balancers";
/// EndpointSlice: the Service it belongs to.
pub const SERVICE_NAME: &str = "kubernetes.io/service-name";

/// Status objects: the node that wrote them.
pub const STATUS_NODE: &str = "metallb.io/node";
/// Status objects: the name of the Service they tell about.
pub const STATUS_SERVICE_NAME: &str = "metallb.io/service-name";
/// Status objects: the namespace of the Service they tell about.
pub const STATUS_SERVICE_NAMESPACE: &str = "metallb.io/service-namespace";

/// ConfigurationStates: `controller` or `speaker`.
pub const STATUS_COMPONENT: &str = "metallb.io/component-type";
/// ConfigurationStates of speakers: the node.
pub const STATUS_CONFIGURATION_NODE: &str = "metallb.io/node-name";

/// The value of one of our annotations, by its name without prefix.
///
/// The key with the present prefix wins if it is there at all, even when it is empty; the legacy key counts only where
/// the other is absent (contract 2.1).
pub fn annotation<'a>(annotations: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    // There are few; looking at each spares making the key.
    let get = |prefix| annotations.iter().find(|(key, _)| key.strip_prefix(prefix) == Some(name)).map(|(_, v)| &**v);
    get(ANNOTATION_PREFIX).or_else(|| get(LEGACY_ANNOTATION_PREFIX))
}

/// The annotations with the legacy prefix, each of which is worth a warning.
pub fn deprecated_annotations(annotations: &BTreeMap<String, String>) -> impl Iterator<Item = &str> {
    annotations.keys().map(String::as_str).filter(|key| key.starts_with(LEGACY_ANNOTATION_PREFIX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn annotations(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
        pairs.iter().map(|(k, v)| ((*k).to_owned(), (*v).to_owned())).collect()
    }

    #[test]
    fn the_present_prefix_wins_even_when_empty() {
        let both = annotations(&[("metallb.io/address-pool", ""), ("metallb.universe.tf/address-pool", "old")]);
        assert_eq!(annotation(&both, ADDRESS_POOL), Some(""));
        let legacy = annotations(&[("metallb.universe.tf/address-pool", "old")]);
        assert_eq!(annotation(&legacy, ADDRESS_POOL), Some("old"));
        assert_eq!(annotation(&BTreeMap::new(), ADDRESS_POOL), None);
    }

    #[test]
    fn unknown_legacy_annotations_count_as_deprecated() {
        let some = annotations(&[("metallb.universe.tf/whatever", "x"), ("metallb.io/address-pool", "p")]);
        assert_eq!(deprecated_annotations(&some).collect::<Vec<_>>(), ["metallb.universe.tf/whatever"]);
    }
}
