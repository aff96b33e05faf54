//! BGPAdvertisement and L2Advertisement: how the addresses of pools become known (contract 1.5, 1.6).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::null_to_default;
use crate::{LabelSelector, ObjectMeta};

/// BGPAdvertisement says how the addresses of some pools are announced over BGP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BGPAdvertisement {
    /// Its name.
    pub metadata: ObjectMeta,
    /// Which addresses are announced, by which nodes, to which routers, and with which attributes.
    pub spec: BGPAdvertisementSpec,
}

/// BGPAdvertisementSpec says which addresses are announced, by which nodes, to which routers, and with which
/// attributes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.serviceSelectors) || size(self.serviceSelectors) == 0 || \
             ((!has(self.aggregationLength) || self.aggregationLength == 32) && \
             (!has(self.aggregationLengthV6) || self.aggregationLengthV6 == 128))",
    "message": "serviceSelectors and aggregationLength are mutually exclusive",
}]))]
pub struct BGPAdvertisementSpec {
    /// Length of the IPv4 prefixes to announce. With less than 32 one route stands for several addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int32", "minimum" = 1, "default" = 32))]
    pub aggregation_length: Option<i64>,

    /// Length of the IPv6 prefixes to announce. With less than 128 one route stands for several addresses.
    #[serde(rename = "aggregationLengthV6", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int32", "default" = 128))]
    pub aggregation_length_v6: Option<i64>,

    /// LOCAL_PREF of the routes towards internal peers; higher is preferred. External peers never get one.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("format" = "int32"))]
    pub local_pref: Option<i64>,

    /// MULTI_EXIT_DISC of the routes; lower is preferred, among routes of one neighbour AS. None is sent if left out. Not
    /// known to other implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0, max = 4_294_967_295_i64))]
    pub med: Option<i64>,

    /// How many more times our AS number stands in the path of the routes; the longer the path, the less it is
    /// preferred. External peers only. Not known to other implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 0, max = 16))]
    pub as_path_prepend: Option<i64>,

    /// Extended communities of the routes: rt:65000:100, soo:65000:100, bandwidth:65000:10G in bit/s, or 0x with the 16
    /// digits of any other. Not known to other implementations of MetalLB.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub extended_communities: Vec<String>,

    /// Communities of the routes: 65000:100, large:65000:1:2, or a name that a Community object defines.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub communities: Vec<String>,

    /// Pools to announce, by name. All pools if there are neither names nor selectors.
    #[serde(rename = "ipAddressPools", deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,

    /// Pools to announce, by label; together with those that are named.
    #[serde(
        rename = "ipAddressPoolSelectors",
        deserialize_with = "null_to_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// Nodes that announce, by label. All nodes if left out.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// BGPPeers to announce to, by name. All peers if left out.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,

    /// Services to announce, by label. All Services if left out. Cannot be combined with an aggregation length.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

/// L2Advertisement says how the addresses of some pools are announced on the local network segment, by ARP and NDP.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct L2Advertisement {
    /// Its name.
    pub metadata: ObjectMeta,
    /// Which addresses are announced, and by which nodes on which interfaces.
    pub spec: L2AdvertisementSpec,
}

/// L2AdvertisementSpec says which addresses are announced, and by which nodes on which interfaces.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct L2AdvertisementSpec {
    /// Pools to announce, by name. All pools if there are neither names nor selectors.
    #[serde(rename = "ipAddressPools", deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub ip_address_pools: Vec<String>,

    /// Pools to announce, by label; together with those that are named.
    #[serde(
        rename = "ipAddressPoolSelectors",
        deserialize_with = "null_to_default",
        skip_serializing_if = "Vec::is_empty"
    )]
    pub ip_address_pool_selectors: Vec<LabelSelector>,

    /// Nodes that may announce, by label. All nodes if left out.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub node_selectors: Vec<LabelSelector>,

    /// Network interfaces to announce on, by exact name. All interfaces if left out.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<String>,

    /// Services to announce, by label. All Services if left out.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,

    /// Nodes that should rather announce than others. Of the nodes that may, the one with the highest sum of weights
    /// does.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub preferred_node_selectors: Vec<PreferredNodeSelector>,

    /// How the node that announces is found among those that may and are preferred equally: "Hash" by a hash of the name
    /// of the node and the address, as ever; "Balanced" such that all have about as many addresses, which the controller
    /// sees to. "Hash" if left out. Not known to other implementations of MetalLB.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Hash", "Balanced"]))]
    pub owner_selection: Option<String>,
}

/// PreferredNodeSelector gives weight to some nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["weight", "preference"]))]
pub struct PreferredNodeSelector {
    /// How much the preference counts, from 1 to 100.
    #[schemars(extend("format" = "int32", "minimum" = 1, "maximum" = 100))]
    pub weight: i64,
    /// The nodes, by label.
    pub preference: LabelSelector,
}
