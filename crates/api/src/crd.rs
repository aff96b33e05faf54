//! The CustomResourceDefinitions, made from the types (contract 1): what the API server checks, fills in and shows.
//!
//! Field names, ranges, defaults, enums and CEL rules stand at the fields; what concerns a kind as a whole stands here.
//! The result is structural (no references, one type per value) and the same whenever it is made.
//!
//! # The two versions of BGPPeer
//!
//! `v1beta2` is stored. Between it and the deprecated `v1beta1` the API server does not convert but changes the version
//! alone (`strategy: None`, the default): all fields that `v1beta1` has exist in `v1beta2` under the same names. The
//! other way round this would lose fields, because the API server drops what a version's schema does not have; so the
//! schema of `v1beta1` also holds the fields that only `v1beta2` has. Nothing is lost in either direction, absent stays
//! absent (D24), and no webhook has to be up for a peer to be read.
//!
//! The conversion is left unsaid in the definition: applied over one that asks for a conversion webhook, as that of the
//! Go implementation does, `strategy: None` would be refused by server-side apply because of the certificate that
//! someone else wrote there. Such clusters are served by [`crate::conversion`] until their webhook is taken away.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Map, Value, json};

use crate::{
    BFDProfile, BGPAdvertisement, BGPPeer, Community, ConfigurationState, GROUP, IPAddressPool, Kind, L2Advertisement,
    ServiceBGPStatus, ServiceL2Status, v1beta1,
};

/// The version of BGPPeer in use, as in `apiVersion:`.
pub const PEER_API_VERSION: &str = "metallb.io/v1beta2";
/// The deprecated version of BGPPeer, as in `apiVersion:`.
pub const PEER_DEPRECATED_API_VERSION: &str = "metallb.io/v1beta1";

/// The kinds that are defined, in the order of [`definitions`].
pub const KINDS: [Kind; 9] = [
    Kind::BFDProfile,
    Kind::BGPAdvertisement,
    Kind::BGPPeer,
    Kind::Community,
    Kind::ConfigurationState,
    Kind::IPAddressPool,
    Kind::L2Advertisement,
    Kind::ServiceBGPStatus,
    Kind::ServiceL2Status,
];

/// All CustomResourceDefinitions (apiextensions.k8s.io/v1), in the order of their names.
pub fn definitions() -> Vec<Value> {
    KINDS.iter().map(|kind| definition(*kind)).collect()
}

fn definition(kind: Kind) -> Value {
    let singular = kind.name().to_lowercase();
    let mut versions = Vec::new();
    if kind == Kind::BGPPeer {
        let mut version = version_of(kind, "v1beta1", peer_v1beta1_schema());
        if let Some(fields) = version.as_object_mut() {
            fields.insert("storage".to_owned(), json!(false));
            fields.insert("deprecated".to_owned(), json!(true));
            fields.insert(
                "deprecationWarning".to_owned(),
                json!("metallb.io/v1beta1 BGPPeer is deprecated in favour of metallb.io/v1beta2 BGPPeer"),
            );
        }
        versions.push(version);
    }
    versions.push(version_of(kind, kind.version(), schema_of(kind)));
    let spec = json!({
        "group": GROUP,
        "names": {
            "kind": kind.name(),
            "listKind": format!("{}List", kind.name()),
            "plural": kind.plural(),
            "singular": singular,
        },
        "scope": "Namespaced",
        "versions": versions,
    });
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": format!("{}.{GROUP}", kind.plural())},
        "spec": spec,
    })
}

fn version_of(kind: Kind, name: &str, schema: Value) -> Value {
    let mut version = json!({
        "name": name,
        "served": true,
        "storage": true,
        "schema": {"openAPIV3Schema": schema},
        "subresources": {"status": {}},
    });
    let columns: Vec<Value> = columns(kind).iter().map(Column::to_value).collect();
    if !columns.is_empty() {
        insert(&mut version, "additionalPrinterColumns", Value::Array(columns));
    }
    version
}

/// A column that `kubectl get` shows: name, JSON path, type, and the priority (above 0: with `-o wide` only).
struct Column(&'static str, &'static str, &'static str, u8);

impl Column {
    fn to_value(&self) -> Value {
        let Column(name, path, type_, priority) = self;
        let mut column = json!({"name": name, "jsonPath": path, "type": type_});
        if *priority > 0 {
            insert(&mut column, "priority", json!(priority));
        }
        column
    }
}

fn columns(kind: Kind) -> &'static [Column] {
    match kind {
        Kind::IPAddressPool => &[
            Column("Auto Assign", ".spec.autoAssign", "boolean", 0),
            Column("Avoid Buggy IPs", ".spec.avoidBuggyIPs", "boolean", 0),
            Column("Addresses", ".spec.addresses", "string", 0),
        ],
        Kind::BGPPeer => &[
            Column("Address", ".spec.peerAddress", "string", 0),
            Column("ASN", ".spec.peerASN", "string", 0),
            Column("BFD Profile", ".spec.bfdProfile", "string", 0),
            Column("Multi Hops", ".spec.ebgpMultiHop", "string", 0),
        ],
        Kind::BGPAdvertisement => &[
            Column("IPAddressPools", ".spec.ipAddressPools", "string", 0),
            Column("IPAddressPool Selectors", ".spec.ipAddressPoolSelectors", "string", 0),
            Column("Peers", ".spec.peers", "string", 0),
            Column("Node Selectors", ".spec.nodeSelectors", "string", 10),
        ],
        Kind::L2Advertisement => &[
            Column("IPAddressPools", ".spec.ipAddressPools", "string", 0),
            Column("IPAddressPool Selectors", ".spec.ipAddressPoolSelectors", "string", 0),
            Column("Interfaces", ".spec.interfaces", "string", 0),
            Column("Node Selectors", ".spec.nodeSelectors", "string", 10),
        ],
        Kind::BFDProfile => &[
            Column("Passive Mode", ".spec.passiveMode", "boolean", 0),
            Column("Transmit Interval", ".spec.transmitInterval", "integer", 0),
            Column("Receive Interval", ".spec.receiveInterval", "integer", 0),
            Column("Multiplier", ".spec.detectMultiplier", "integer", 0),
        ],
        Kind::ServiceL2Status => &[
            Column("Allocated Node", ".status.node", "string", 0),
            Column("Service Name", ".status.serviceName", "string", 0),
            Column("Service Namespace", ".status.serviceNamespace", "string", 0),
        ],
        Kind::ServiceBGPStatus => &[
            Column("Node", ".status.node", "string", 0),
            Column("Service Name", ".status.serviceName", "string", 0),
            Column("Service Namespace", ".status.serviceNamespace", "string", 0),
        ],
        Kind::ConfigurationState => &[
            Column("Result", ".status.result", "string", 0),
            Column("ErrorSummary", ".status.errorSummary", "string", 0),
            Column("Age", ".metadata.creationTimestamp", "date", 0),
        ],
        Kind::Community
        | Kind::Service
        | Kind::EndpointSlice
        | Kind::Node
        | Kind::Namespace
        | Kind::Secret
        | Kind::ConfigMap => &[],
    }
}

/// The schema of the present version of a kind of ours; the empty schema for others.
pub(crate) fn schema_of(kind: Kind) -> Value {
    match kind {
        Kind::IPAddressPool => object_schema::<IPAddressPool>(),
        Kind::BGPPeer => object_schema::<BGPPeer>(),
        Kind::BGPAdvertisement => object_schema::<BGPAdvertisement>(),
        Kind::L2Advertisement => object_schema::<L2Advertisement>(),
        Kind::BFDProfile => object_schema::<BFDProfile>(),
        Kind::Community => object_schema::<Community>(),
        Kind::ServiceL2Status => object_schema::<ServiceL2Status>(),
        Kind::ServiceBGPStatus => object_schema::<ServiceBGPStatus>(),
        Kind::ConfigurationState => object_schema::<ConfigurationState>(),
        Kind::Service | Kind::EndpointSlice | Kind::Node | Kind::Namespace | Kind::Secret | Kind::ConfigMap => {
            json!({})
        }
    }
}

/// The schema of `v1beta1`: its own fields, and those that it merely holds for `v1beta2`; see the top of this file.
pub(crate) fn peer_v1beta1_schema() -> Value {
    let mut schema = schema_of(Kind::BGPPeer);
    let mut own = structural_schema::<v1beta1::BGPPeerSpec>();
    let held = schema.pointer_mut("/properties/spec/properties").map(Value::take).unwrap_or_default();
    if let (Some(own), Value::Object(held)) = (own.get_mut("properties").and_then(Value::as_object_mut), held) {
        for (name, mut field) in held {
            // A default would turn absent into present behind the reader's back.
            field.as_object_mut().map(|field| field.remove("default"));
            own.entry(name).or_insert(field);
        }
    }
    if let Some(spec) = schema.pointer_mut("/properties/spec") {
        *spec = own;
    }
    schema
}

/// The schema of a whole object of a kind of ours.
fn object_schema<T: JsonSchema>() -> Value {
    let mut schema = structural_schema::<T>();
    if let Some(properties) = schema.get_mut("properties").and_then(Value::as_object_mut) {
        properties.insert(
            "apiVersion".to_owned(),
            described("The group and version of the kind, such as metallb.io/v1beta1."),
        );
        properties.insert("kind".to_owned(), described("The kind of the object."));
        // The API server knows the metadata of all objects, and allows nothing to be said about them here.
        properties.insert("metadata".to_owned(), json!({"type": "object"}));
        for part in ["spec", "status"] {
            let schema =
                properties.entry(part).or_insert_with(|| json!({"type": "object", "description": "Not used."}));
            schema.as_object_mut().map(|schema| schema.remove("default"));
        }
    }
    schema
}

fn described(description: &str) -> Value {
    json!({"type": "string", "description": description})
}

/// The schema of a type in the form that CustomResourceDefinitions demand.
pub(crate) fn structural_schema<T: JsonSchema>() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.meta_schema = None;
        settings.inline_subschemas = true;
    });
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    make_structural(&mut schema);
    schema
}

/// Rewrites what the schema generator says in JSON Schema and a structural schema cannot say.
fn make_structural(schema: &mut Value) {
    let Some(fields) = schema.as_object_mut() else { return };
    fields.remove("title");
    drop_null(fields);
    if let Some(Value::String(description)) = fields.get_mut("description") {
        *description = description.replace('\n', " ").replace('`', "");
    }
    let required: Vec<String> = fields
        .get("required")
        .and_then(Value::as_array)
        .map(|names| names.iter().filter_map(Value::as_str).map(str::to_owned).collect())
        .unwrap_or_default();
    if let Some(properties) = fields.get_mut("properties").and_then(Value::as_object_mut) {
        for (name, property) in properties {
            make_structural(property);
            if required.contains(name) {
                property.as_object_mut().map(|property| property.remove("default"));
            }
        }
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = fields.get_mut(part) {
            make_structural(part);
        }
    }
}

/// "This or null" becomes "this": to the API server a field that is null is one that is absent.
fn drop_null(fields: &mut Map<String, Value>) {
    if let Some(Value::Array(types)) = fields.get("type")
        && let Some(type_) = types.iter().find(|type_| *type_ != "null").cloned()
    {
        fields.insert("type".to_owned(), type_);
    }
    let Some(Value::Array(choices)) = fields.remove("anyOf") else { return };
    if let Some(Value::Object(choice)) = choices.into_iter().find(|choice| choice.get("type") != Some(&json!("null"))) {
        for (key, value) in choice {
            fields.entry(key).or_insert(value);
        }
    }
}

/// An integer of no stated width, as the definitions of MetalLB have for fields that need none.
pub(crate) fn plain_integer(_: &mut SchemaGenerator) -> Schema {
    json_schema!({"type": "integer"})
}

fn insert(object: &mut Value, key: &str, value: Value) {
    if let Some(fields) = object.as_object_mut() {
        fields.insert(key.to_owned(), value);
    }
}
