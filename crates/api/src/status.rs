//! The kinds that MetalLB writes: ServiceL2Status, ServiceBGPStatus and ConfigurationState (contract 1.9).

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::ObjectMeta;
use crate::meta::null_to_default;

/// ServiceL2Status says which node announces a Service on the local network segment.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServiceL2Status {
    /// A generated name; the labels name node and Service.
    pub metadata: ObjectMeta,
    /// Which node announces the Service, and where; empty for a moment after the object was created.
    #[serde(deserialize_with = "null_to_default")]
    pub status: ServiceL2StatusFields,
}

/// MetalLBServiceL2Status says which node announces the Service, and where.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceL2StatusFields {
    /// The node that announces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "Value is immutable"}]))]
    pub node: Option<String>,
    /// Name of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "Value is immutable"}]))]
    pub service_name: Option<String>,
    /// Namespace of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "Value is immutable"}]))]
    pub service_namespace: Option<String>,
    /// The interfaces it is announced on, if not on all.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub interfaces: Vec<InterfaceInfo>,
}

/// InterfaceInfo is a network interface of the node.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct InterfaceInfo {
    /// Its name.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// ServiceBGPStatus says to which peers a node announces a Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ServiceBGPStatus {
    /// A generated name; the labels name node and Service.
    pub metadata: ObjectMeta,
    /// To which peers the node announces the Service; empty for a moment after the object was created.
    #[serde(deserialize_with = "null_to_default")]
    pub status: ServiceBGPStatusFields,
}

/// MetalLBServiceBGPStatus says to which peers the node announces the Service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ServiceBGPStatusFields {
    /// The node that announces.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "Value is immutable"}]))]
    pub node: Option<String>,
    /// Name of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "Value is immutable"}]))]
    pub service_name: Option<String>,
    /// Namespace of the Service.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{"rule": "self == oldSelf", "message": "Value is immutable"}]))]
    pub service_namespace: Option<String>,
    /// Names of the BGPPeers that it is announced to.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub peers: Vec<String>,
}

/// ConfigurationState says whether the controller or a speaker accepts the configuration.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(default)]
pub struct ConfigurationState {
    /// `controller`, or `speaker-` and the name of the node.
    pub metadata: ObjectMeta,
    /// Whether the configuration is in use, and if not, why.
    #[serde(deserialize_with = "null_to_default")]
    pub status: ConfigurationStateStatus,
}

/// ConfigurationStateStatus says whether the configuration is in use, and if not, why.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ConfigurationStateStatus {
    /// "Valid" if the configuration is in use, "Invalid" if the one before it still is, "Unknown" before anything was
    /// looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(extend("enum" = ["Valid", "Invalid", "Unknown"]))]
    pub result: Option<String>,

    /// What is wrong with the configuration, one problem a line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_summary: Option<String>,

    /// The verdict of each part that reads configuration.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "map", "x-kubernetes-list-map-keys" = ["type"]))]
    pub conditions: Vec<Condition>,
}

/// Condition is one verdict (Kubernetes meta/v1).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["lastTransitionTime", "message", "reason", "status", "type"]))]
pub struct Condition {
    /// Which verdict it is.
    #[serde(rename = "type")]
    #[schemars(length(max = 316), extend("pattern" = CONDITION_TYPE))]
    pub type_: String,
    /// "True", "False" or "Unknown".
    #[schemars(extend("enum" = ["True", "False", "Unknown"]))]
    pub status: String,
    /// The generation of the object that was looked at.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schemars(range(min = 0))]
    pub observed_generation: Option<i64>,
    /// When the verdict was reached.
    #[schemars(extend("format" = "date-time"))]
    pub last_transition_time: String,
    /// A word that programs read.
    #[schemars(length(min = 1, max = 1024), extend("pattern" = CONDITION_REASON))]
    pub reason: String,
    /// A sentence that people read; may be empty.
    #[schemars(length(max = 32768))]
    pub message: String,
}

impl Condition {
    /// With this time, if it has none yet.
    #[must_use]
    pub fn at(mut self, now: &str) -> Condition {
        if self.last_transition_time.is_empty() {
            now.clone_into(&mut self.last_transition_time);
        }
        self
    }
}

/// A word, with an optional DNS name before a slash.
const CONDITION_TYPE: &str =
    r"^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$";
/// A word in CamelCase.
const CONDITION_REASON: &str = r"^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$";
