//! IPAddressPool (contract 1.1).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::meta::null_to_default;
use crate::{LabelSelector, ObjectMeta};

/// IPAddressPool is a set of addresses that Services of type LoadBalancer may get.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["spec"]))]
pub struct IPAddressPool {
    /// Name and labels; advertisements select pools by them.
    pub metadata: ObjectMeta,
    /// Which addresses the pool holds, and which Services may use them.
    pub spec: IPAddressPoolSpec,
    /// How full it is; absent until the controller has written it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<PoolCounters>,
}

/// IPAddressPoolSpec says which addresses the pool holds and which Services may use them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["addresses"]))]
pub struct IPAddressPoolSpec {
    /// The addresses: prefixes in CIDR form (198.51.100.0/24) and ranges (198.51.100.10-198.51.100.20), of both IP
    /// families if wanted. No two pools may share an address.
    #[serde(deserialize_with = "null_to_default")]
    pub addresses: Vec<String>,

    /// Whether Services that name neither this pool nor one of its addresses may get an address from it.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = true))]
    pub auto_assign: Option<bool>,

    /// Whether to leave out IPv4 addresses that end in .0 or .255, which some old equipment drops.
    #[serde(rename = "avoidBuggyIPs", skip_serializing_if = "Option::is_none")]
    #[schemars(extend("default" = false))]
    pub avoid_buggy_ips: Option<bool>,

    /// Pins the pool to some namespaces and Services. Pinned pools are tried before all others.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub service_allocation: Option<ServiceAllocation>,
}

/// ServiceAllocation says which Services may use a pinned pool, and how early it is tried. A Service has to match both
/// by its namespace and by its labels; what is left out matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceAllocation {
    /// Where the pool stands among the pinned ones: lower numbers are tried first, 0 or nothing comes last.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer")]
    pub priority: Option<i64>,

    /// Namespaces whose Services may use the pool.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub namespaces: Vec<String>,

    /// Namespaces whose Services may use the pool, by label; together with those that are named.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub namespace_selectors: Vec<LabelSelector>,

    /// Services that may use the pool, by label.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub service_selectors: Vec<LabelSelector>,
}

/// IPAddressPoolStatus says how many distinct addresses of the pool are in use and free. Numbers that do not fit stop
/// at 9223372036854775807.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
#[schemars(extend("required" = ["assignedIPv4", "assignedIPv6", "availableIPv4", "availableIPv6"]))]
pub struct PoolCounters {
    /// IPv4 addresses in use.
    #[serde(rename = "assignedIPv4")]
    pub assigned_ipv4: i64,
    /// IPv6 addresses in use.
    #[serde(rename = "assignedIPv6")]
    pub assigned_ipv6: i64,
    /// Usable IPv4 addresses that are not in use.
    #[serde(rename = "availableIPv4")]
    pub available_ipv4: i64,
    /// Usable IPv6 addresses that are not in use.
    #[serde(rename = "availableIPv6")]
    pub available_ipv6: i64,
}
