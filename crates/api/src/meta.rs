//! Object metadata and label selectors (Kubernetes meta/v1), as far as MetalLB uses them.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{ANNOTATION_PREFIX, LEGACY_ANNOTATION_PREFIX};

/// Namespace and name of an object; the namespace is empty for cluster-wide kinds.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Key {
    /// The namespace, or nothing.
    pub namespace: String,
    /// The name.
    pub name: String,
}

impl Key {
    /// The key of these two.
    pub fn new(namespace: impl Into<String>, name: impl Into<String>) -> Self {
        Key { namespace: namespace.into(), name: name.into() }
    }
}

impl fmt::Display for Key {
    /// `namespace/name`, as MetalLB writes it in events, metrics and logs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() { f.write_str(&self.name) } else { write!(f, "{}/{}", self.namespace, self.name) }
    }
}

/// A [`Key`] as one piece of text, for tables of thousands: it takes a third of the room.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct KeyText(Box<str>);

impl KeyText {
    /// The key again: neither a namespace nor a name can hold a slash.
    pub fn key(&self) -> Key {
        let (namespace, name) = self.0.split_once('/').unwrap_or(("", &self.0));
        Key::new(namespace, name)
    }
}

impl From<&Key> for KeyText {
    fn from(key: &Key) -> Self {
        let slash = if key.namespace.is_empty() { "" } else { "/" };
        KeyText([&key.namespace, slash, &key.name].concat().into())
    }
}

/// The part of an object's metadata that MetalLB reads.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct ObjectMeta {
    /// Unique in its kind and namespace.
    pub name: String,
    /// Empty for cluster-wide kinds.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub namespace: String,
    /// Tells two objects of one name apart.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub uid: String,
    /// Opaque; changes with every write.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub resource_version: String,
    /// Changes with every write to the spec.
    #[serde(skip_serializing_if = "is_zero")]
    pub generation: i64,
    /// Labels, all of them.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// Annotations with one of our prefixes. Others are dropped when read: some tools keep a copy of the whole object
    /// in one, and nothing here looks at them.
    #[serde(deserialize_with = "only_ours", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// The objects whose end is the end of this one too. Kept where somebody here looks at it: see `source::slim`.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    pub owner_references: Vec<OwnerReference>,
    /// Who wrote the addresses in the status of a Service, by the name that the API server keeps with the fields; empty if
    /// it knows of nobody. Only read.
    #[serde(rename = "managedFields", deserialize_with = "ingress_writer", skip_serializing)]
    #[schemars(skip)]
    pub ingress_writer: String,
}

/// An object whose end is the end of another too.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
pub struct OwnerReference {
    /// Its API version.
    pub api_version: String,
    /// Its kind.
    pub kind: String,
    /// Its name.
    pub name: String,
    /// Its uid.
    pub uid: String,
}

impl ObjectMeta {
    /// Namespace and name.
    pub fn key(&self) -> Key {
        Key::new(self.namespace.clone(), self.name.clone())
    }
}

// serde asks for a function over a reference.
#[expect(clippy::trivially_copy_pass_by_ref)]
fn is_zero(number: &i64) -> bool {
    *number == 0
}

/// Kubernetes writes absent lists and maps as `null` in places.
pub(crate) fn null_to_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(d: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(d)?.unwrap_or_default())
}

/// The manager that wrote `status.loadBalancer.ingress` last.
fn ingress_writer<'de, D: Deserializer<'de>>(d: D) -> Result<String, D::Error> {
    let managers: Vec<Manager> = null_to_default(d)?;
    let wrote = |manager: &Manager| manager.fields.status.load_balancer.ingress.is_some();
    let last = managers.into_iter().filter(wrote).max_by(|a, b| a.time.cmp(&b.time));
    Ok(last.map(|manager| manager.manager).unwrap_or_default())
}

/// An entry of `managedFields`.
#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Manager {
    manager: String,
    time: String,
    #[serde(rename = "fieldsV1")]
    fields: ManagedObject,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ManagedObject {
    #[serde(rename = "f:status")]
    status: ManagedStatus,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ManagedStatus {
    #[serde(rename = "f:loadBalancer")]
    load_balancer: ManagedLoadBalancer,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ManagedLoadBalancer {
    #[serde(rename = "f:ingress")]
    ingress: Option<IgnoredAny>,
}

fn only_ours<'de, D: Deserializer<'de>>(d: D) -> Result<BTreeMap<String, String>, D::Error> {
    let mut annotations: BTreeMap<String, String> = null_to_default(d)?;
    annotations.retain(|key, _| key.starts_with(ANNOTATION_PREFIX) || key.starts_with(LEGACY_ANNOTATION_PREFIX));
    Ok(annotations)
}

/// A selector over labels as it is written: `matchLabels` and `matchExpressions`, all of which have to hold.
/// An empty selector matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("x-kubernetes-map-type" = "atomic"))]
pub struct LabelSelector {
    /// Conditions on labels, all of which have to hold.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub match_expressions: Vec<LabelSelectorRequirement>,
    /// Labels that must be there with exactly these values.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
}

/// One condition on a label.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase", default)]
#[schemars(extend("required" = ["key", "operator"]))]
pub struct LabelSelectorRequirement {
    /// The label's key.
    pub key: String,
    /// `In`, `NotIn`, `Exists` or `DoesNotExist`.
    pub operator: String,
    /// The values to compare with: at least one for `In` and `NotIn`, none for the other two.
    #[serde(deserialize_with = "null_to_default", skip_serializing_if = "Vec::is_empty")]
    #[schemars(extend("x-kubernetes-list-type" = "atomic"))]
    pub values: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn foreign_annotations_are_dropped_and_nulls_read_as_empty() {
        let meta: ObjectMeta = serde_json::from_str(
            r#"{"name":"web","labels":null,"annotations":{"metallb.io/address-pool":"p","kubectl.kubernetes.io/x":"y"}}"#,
        )
        .unwrap();
        assert_eq!(meta.annotations.keys().collect::<Vec<_>>(), ["metallb.io/address-pool"]);
        assert!(meta.labels.is_empty());
    }
}
