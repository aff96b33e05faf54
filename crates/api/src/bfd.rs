//! BFDProfile (contract 1.7).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ObjectMeta;

/// BFDProfile is a set of timing values for the failure detection between nodes and routers (BFD).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct BFDProfile {
    /// Its name; BGPPeers refer to it.
    pub metadata: ObjectMeta,
    /// The timing. Intervals are in milliseconds.
    pub spec: BFDProfileSpec,
}

/// BFDProfileSpec holds the timing. Intervals are in milliseconds.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct BFDProfileSpec {
    /// Shortest interval between packets that this end can handle, in milliseconds. 300 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 10, max = 60000))]
    pub receive_interval: Option<i64>,

    /// Shortest interval between packets that this end wants to send, in milliseconds. 300 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 10, max = 60000))]
    pub transmit_interval: Option<i64>,

    /// Number of packets that may be missed before the other end counts as dead. 3 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 2, max = 255))]
    pub detect_multiplier: Option<i64>,

    /// Interval of echo packets, in milliseconds, both for sending and for receiving. 50 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 10, max = 60000))]
    pub echo_interval: Option<i64>,

    /// Whether to send echo packets. Works for routers one hop away and for pools without IPv6 addresses.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub echo_mode: Option<bool>,

    /// Whether to wait for the other end to begin.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub passive_mode: Option<bool>,

    /// Lowest TTL that packets from routers more than one hop away may have. 254 if left out.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "crate::crd::plain_integer", range(min = 1, max = 254))]
    pub minimum_ttl: Option<i64>,
}
