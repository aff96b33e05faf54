//! BGPPeer from `v1beta1` to `v1beta2` and back, without loss (contract 1.4, D24).
//!
//! Works on JSON, so that whatever it does not know (owners, managed fields, annotations of others) stays as it is.
//! Absent fields stay absent: a peer without timers does not become one that never expires.
//!
//! On the way down, fields of `v1beta2` that `v1beta1` cannot hold are kept in the annotation [`KEPT_FIELDS`]. On the
//! way up they return, unless someone has given the field another value in `v1beta1` meanwhile.
//!
//! The definitions that [`crate::crd`] prints do not need any of this; it is for definitions that ask for a conversion
//! webhook, and for manifests.

use serde_json::{Map, Value, json};

use crate::crd::{PEER_API_VERSION, PEER_DEPRECATED_API_VERSION};

/// Annotation of a `v1beta1` BGPPeer: the fields of its spec that only `v1beta2` can hold, as JSON.
pub const KEPT_FIELDS: &str = "metallb.io/v1beta2-fields";

/// Fields of the spec that `v1beta1` does not have.
const NEW_FIELDS: [&str; 17] = [
    "connectTime",
    "connectionMode",
    "disableMP",
    "dualStackAddressFamily",
    "dynamicASN",
    "enableGracefulRestart",
    "gracefulRestartNotification",
    "gracefulRestartTime",
    "interface",
    "localASN",
    "passwordSecret",
    "peerGateway",
    "peerRange",
    "peerRangeLimit",
    "tcpAuthenticationKeys",
    "ttlSecurityHops",
    "vrf",
];

/// Fields of the spec that both have, but for which `v1beta1` cannot hold every value.
const NARROWER_FIELDS: [&str; 3] = ["nodeSelectors", "peerASN", "peerAddress"];

/// Why an object cannot be converted.
#[derive(Debug, thiserror::Error)]
pub enum ConversionError {
    /// Only BGPPeers have more than one version.
    #[error("{0} cannot be converted: only BGPPeer of metallb.io has more than one version")]
    Kind(String),
    /// There are two versions.
    #[error("BGPPeer has no version {0:?}")]
    Version(String),
}

/// Converts a BGPPeer to the version `api_version`, such as `metallb.io/v1beta1`. An object of that version is returned
/// as it is.
pub fn convert(mut object: Value, api_version: &str) -> Result<Value, ConversionError> {
    let text = |key: &str| object.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
    let (present, kind) = (text("apiVersion"), text("kind"));
    if kind != "BGPPeer" {
        return Err(ConversionError::Kind(kind));
    }
    match (present.as_str(), api_version) {
        (PEER_DEPRECATED_API_VERSION, PEER_API_VERSION) => up(&mut object),
        (PEER_API_VERSION, PEER_DEPRECATED_API_VERSION) => down(&mut object),
        (PEER_API_VERSION | PEER_DEPRECATED_API_VERSION, same) if present == same => {}
        (PEER_API_VERSION | PEER_DEPRECATED_API_VERSION, other) => {
            return Err(ConversionError::Version(other.to_owned()));
        }
        _ => return Err(ConversionError::Version(present)),
    }
    Ok(object)
}

fn up(object: &mut Value) {
    let kept = take_kept(object);
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        // The port 0 of v1beta1 stands for the usual one, which v1beta2 expresses by leaving the field out.
        if spec.get("peerPort") == Some(&json!(0)) {
            spec.remove("peerPort");
        }
        for (name, value) in kept {
            let is_unchanged = spec.get(&name) == lower(&name, Some(&value)).as_ref();
            if !is_unchanged {
                continue;
            }
            if value.is_null() {
                spec.remove(&name);
            } else {
                spec.insert(name, value);
            }
        }
    }
    set_version(object, PEER_API_VERSION);
}

fn down(object: &mut Value) {
    let mut kept = Map::new();
    if let Some(Value::Object(spec)) = object.get_mut("spec") {
        for name in NEW_FIELDS.iter().chain(&NARROWER_FIELDS) {
            let value = spec.get(*name).cloned();
            let lowered = lower(name, value.as_ref());
            if lowered == value {
                continue;
            }
            match lowered {
                Some(lowered) => spec.insert((*name).to_owned(), lowered),
                None => spec.remove(*name),
            };
            kept.insert((*name).to_owned(), value.unwrap_or_default());
        }
    }
    if !kept.is_empty() {
        put_kept(object, kept);
    }
    set_version(object, PEER_DEPRECATED_API_VERSION);
}

/// What `v1beta1` shows for a field that has this value in `v1beta2`; `None` for nothing.
fn lower(name: &str, value: Option<&Value>) -> Option<Value> {
    let value = value.filter(|value| !value.is_null());
    match name {
        // Those two are required; the empty value lets a reader of v1beta1 write the object back.
        "peerASN" => Some(value.cloned().unwrap_or(json!(0))),
        "peerAddress" => Some(value.cloned().unwrap_or(json!(""))),
        "nodeSelectors" => value.filter(|selectors| fits_in_v1beta1(selectors)).cloned(),
        _ => None,
    }
}

/// True when every condition of the selectors has values, as `v1beta1` demands.
fn fits_in_v1beta1(selectors: &Value) -> bool {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    list(selectors).iter().all(|selector| {
        selector.get("matchExpressions").map(list).unwrap_or_default().iter().all(|expression| {
            expression.get("values").and_then(Value::as_array).is_some_and(|values| !values.is_empty())
        })
    })
}

fn set_version(object: &mut Value, api_version: &str) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert("apiVersion".to_owned(), json!(api_version));
    }
}

/// Removes the annotation, and returns the fields it held; none if it is not what we wrote.
fn take_kept(object: &mut Value) -> Map<String, Value> {
    let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) else { return Map::new() };
    let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) else { return Map::new() };
    let Some(text) = annotations.remove(KEPT_FIELDS) else { return Map::new() };
    if annotations.is_empty() {
        metadata.remove("annotations");
    }
    let mut kept: Map<String, Value> =
        text.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default();
    kept.retain(|name, _| NEW_FIELDS.contains(&name.as_str()) || NARROWER_FIELDS.contains(&name.as_str()));
    kept
}

fn put_kept(object: &mut Value, kept: Map<String, Value>) {
    let Some(fields) = object.as_object_mut() else { return };
    let metadata = fields.entry("metadata").or_insert_with(|| json!({}));
    let Some(metadata) = metadata.as_object_mut() else { return };
    let annotations = metadata.entry("annotations").or_insert_with(|| json!({}));
    if annotations.is_null() {
        *annotations = json!({});
    }
    if let Some(annotations) = annotations.as_object_mut() {
        annotations.insert(KEPT_FIELDS.to_owned(), json!(Value::Object(kept).to_string()));
    }
}
