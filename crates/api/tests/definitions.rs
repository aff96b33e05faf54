//! The CustomResourceDefinitions against contract section 1, against the rules for structural schemas, and against the
//! types they are made from.

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use api::crd::{KINDS, definitions};
use api::{Document, Object};
use expect_test::{Expect, expect};
use serde_json::{Map, Value, json};

/// Name, version and schema of every version of every definition.
fn schemas() -> Vec<(String, String, Value)> {
    let mut schemas = Vec::new();
    for definition in definitions() {
        let kind = definition["spec"]["names"]["kind"].as_str().unwrap().to_owned();
        for version in definition["spec"]["versions"].as_array().unwrap() {
            let name = version["name"].as_str().unwrap().to_owned();
            schemas.push((kind.clone(), name, version["schema"]["openAPIV3Schema"].clone()));
        }
    }
    schemas
}

/// The fields of a schema, one a line, with all that is said about them but the description.
fn fields(path: &str, schema: &Value, is_required: bool, lines: &mut Vec<String>) {
    let mut said = Vec::new();
    for (key, value) in schema.as_object().unwrap() {
        match key.as_str() {
            "properties" | "items" | "description" | "required" => {}
            "x-kubernetes-validations" => {
                for rule in value.as_array().unwrap() {
                    said.push(format!("CEL {}", rule["message"]));
                }
            }
            "type" => said.insert(0, value.as_str().unwrap().to_owned()),
            key => said.push(format!("{} {value}", key.trim_start_matches("x-kubernetes-"))),
        }
    }
    if is_required {
        said.push("required".to_owned());
    }
    lines.push(format!("{path}: {}", said.join(", ")));
    if schema["x-kubernetes-map-type"] == "atomic" && !path.ends_with("passwordSecret") && path.contains("elector") {
        // A label selector; they are all alike, see `label_selectors_are_those_of_kubernetes`.
        return;
    }
    if let Some(items) = schema.get("items") {
        fields(&format!("{path}[]"), items, false, lines);
    }
    let required: Vec<&str> = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for (name, property) in schema["properties"].as_object().into_iter().flatten() {
        fields(&format!("{path}.{name}"), property, required.contains(&name.as_str()), lines);
    }
}

fn check_fields(kind: &str, version: &str, expected: Expect) {
    let (_, _, schema) = schemas().into_iter().find(|(k, v, _)| k == kind && v == version).unwrap();
    let mut lines = Vec::new();
    for part in ["spec", "status"] {
        let is_required = schema["required"].as_array().is_some_and(|names| names.contains(&json!(part)));
        fields(part, &schema["properties"][part], is_required, &mut lines);
    }
    expected.assert_eq(&lines.join("\n"));
}

#[test]
fn contract_1_1_ip_address_pool() {
    check_fields(
        "IPAddressPool",
        "v1beta1",
        expect![[r#"
        spec: object, required
        spec.addresses: array, required
        spec.addresses[]: string
        spec.autoAssign: boolean, default true
        spec.avoidBuggyIPs: boolean, default false
        spec.serviceAllocation: object
        spec.serviceAllocation.namespaceSelectors: array
        spec.serviceAllocation.namespaceSelectors[]: object, map-type "atomic"
        spec.serviceAllocation.namespaces: array
        spec.serviceAllocation.namespaces[]: string
        spec.serviceAllocation.priority: integer
        spec.serviceAllocation.serviceSelectors: array
        spec.serviceAllocation.serviceSelectors[]: object, map-type "atomic"
        status: object
        status.assignedIPv4: integer, format "int64", required
        status.assignedIPv6: integer, format "int64", required
        status.availableIPv4: integer, format "int64", required
        status.availableIPv6: integer, format "int64", required"#]],
    );
}

#[test]
fn contract_1_2_bgp_peer() {
    check_fields(
        "BGPPeer",
        "v1beta2",
        expect![[r#"
            spec: object
            spec.bfdProfile: string
            spec.connectTime: string, CEL "connect time should be between 1 seconds to 65535", CEL "connect time should contain a whole number of seconds"
            spec.connectionMode: string, enum ["active","passive","both"]
            spec.disableMP: boolean, default false
            spec.dualStackAddressFamily: boolean, default false
            spec.dynamicASN: string, enum ["internal","external"]
            spec.ebgpMultiHop: boolean
            spec.enableGracefulRestart: boolean, CEL "EnableGracefulRestart cannot be changed after creation"
            spec.gracefulRestartNotification: boolean
            spec.gracefulRestartTime: string
            spec.holdTime: string
            spec.interface: string
            spec.keepaliveTime: string
            spec.localASN: integer, format "int64", maximum 4294967295, minimum 1
            spec.myASN: integer, format "int64", maximum 4294967295, minimum 0, required
            spec.nodeSelectors: array
            spec.nodeSelectors[]: object, map-type "atomic"
            spec.password: string
            spec.passwordSecret: object, map-type "atomic"
            spec.passwordSecret.name: string
            spec.passwordSecret.namespace: string
            spec.peerASN: integer, format "int64", maximum 4294967295, minimum 0
            spec.peerAddress: string
            spec.peerGateway: string, enum ["IPv4","IPv6"]
            spec.peerPort: integer, default 179, maximum 16384, minimum 1
            spec.peerRange: string
            spec.peerRangeLimit: integer, maximum 1000, minimum 1
            spec.routerID: string
            spec.sourceAddress: string
            spec.tcpAuthenticationKeys: array
            spec.tcpAuthenticationKeys[]: object
            spec.tcpAuthenticationKeys[].algorithm: string, enum ["hmac-sha-1-96","aes-128-cmac-96"], required
            spec.tcpAuthenticationKeys[].receiveID: integer, maximum 255, minimum 0, required
            spec.tcpAuthenticationKeys[].secretName: string, required
            spec.tcpAuthenticationKeys[].sendID: integer, maximum 255, minimum 0, required
            spec.ttlSecurityHops: integer, maximum 254, minimum 1
            spec.vrf: string
            status: object"#]],
    );
}

#[test]
fn contract_1_3_bgp_peer_v1beta1_also_holds_what_only_v1beta2_has() {
    check_fields(
        "BGPPeer",
        "v1beta1",
        expect![[r#"
            spec: object
            spec.bfdProfile: string
            spec.connectTime: string, CEL "connect time should be between 1 seconds to 65535", CEL "connect time should contain a whole number of seconds"
            spec.connectionMode: string, enum ["active","passive","both"]
            spec.disableMP: boolean
            spec.dualStackAddressFamily: boolean
            spec.dynamicASN: string, enum ["internal","external"]
            spec.ebgpMultiHop: boolean
            spec.enableGracefulRestart: boolean, CEL "EnableGracefulRestart cannot be changed after creation"
            spec.gracefulRestartNotification: boolean
            spec.gracefulRestartTime: string
            spec.holdTime: string
            spec.interface: string
            spec.keepaliveTime: string
            spec.localASN: integer, format "int64", maximum 4294967295, minimum 1
            spec.myASN: integer, format "int64", maximum 4294967295, minimum 0, required
            spec.nodeSelectors: array
            spec.nodeSelectors[]: object
            spec.nodeSelectors[].matchExpressions: array
            spec.nodeSelectors[].matchExpressions[]: object
            spec.nodeSelectors[].matchExpressions[].key: string, required
            spec.nodeSelectors[].matchExpressions[].operator: string, required
            spec.nodeSelectors[].matchExpressions[].values: array, minItems 1, required
            spec.nodeSelectors[].matchExpressions[].values[]: string
            spec.nodeSelectors[].matchLabels: object, additionalProperties {"type":"string"}
            spec.password: string
            spec.passwordSecret: object, map-type "atomic"
            spec.passwordSecret.name: string
            spec.passwordSecret.namespace: string
            spec.peerASN: integer, format "int64", maximum 4294967295, minimum 0, required
            spec.peerAddress: string, required
            spec.peerGateway: string, enum ["IPv4","IPv6"]
            spec.peerPort: integer, maximum 16384, minimum 0
            spec.peerRange: string
            spec.peerRangeLimit: integer, maximum 1000, minimum 1
            spec.routerID: string
            spec.sourceAddress: string
            spec.tcpAuthenticationKeys: array
            spec.tcpAuthenticationKeys[]: object
            spec.tcpAuthenticationKeys[].algorithm: string, enum ["hmac-sha-1-96","aes-128-cmac-96"], required
            spec.tcpAuthenticationKeys[].receiveID: integer, maximum 255, minimum 0, required
            spec.tcpAuthenticationKeys[].secretName: string, required
            spec.tcpAuthenticationKeys[].sendID: integer, maximum 255, minimum 0, required
            spec.ttlSecurityHops: integer, maximum 254, minimum 1
            spec.vrf: string
            status: object"#]],
    );
}

#[test]
fn contract_1_5_bgp_advertisement() {
    check_fields(
        "BGPAdvertisement",
        "v1beta1",
        expect![[r#"
            spec: object, CEL "serviceSelectors and aggregationLength are mutually exclusive"
            spec.aggregationLength: integer, default 32, format "int32", minimum 1
            spec.aggregationLengthV6: integer, default 128, format "int32"
            spec.asPathPrepend: integer, maximum 16, minimum 0
            spec.communities: array
            spec.communities[]: string
            spec.extendedCommunities: array
            spec.extendedCommunities[]: string
            spec.ipAddressPoolSelectors: array
            spec.ipAddressPoolSelectors[]: object, map-type "atomic"
            spec.ipAddressPools: array
            spec.ipAddressPools[]: string
            spec.localPref: integer, format "int32"
            spec.med: integer, format "int64", maximum 4294967295, minimum 0
            spec.nodeSelectors: array
            spec.nodeSelectors[]: object, map-type "atomic"
            spec.peers: array
            spec.peers[]: string
            spec.serviceSelectors: array
            spec.serviceSelectors[]: object, map-type "atomic"
            status: object"#]],
    );
}

#[test]
fn contract_1_6_l2_advertisement() {
    check_fields(
        "L2Advertisement",
        "v1beta1",
        expect![[r#"
        spec: object
        spec.interfaces: array
        spec.interfaces[]: string
        spec.ipAddressPoolSelectors: array
        spec.ipAddressPoolSelectors[]: object, map-type "atomic"
        spec.ipAddressPools: array
        spec.ipAddressPools[]: string
        spec.nodeSelectors: array
        spec.nodeSelectors[]: object, map-type "atomic"
        spec.ownerSelection: string, enum ["Hash","Balanced"]
        spec.preferredNodeSelectors: array
        spec.preferredNodeSelectors[]: object
        spec.preferredNodeSelectors[].preference: object, map-type "atomic", required
        spec.preferredNodeSelectors[].weight: integer, format "int32", maximum 100, minimum 1, required
        spec.serviceSelectors: array
        spec.serviceSelectors[]: object, map-type "atomic"
        status: object"#]],
    );
}

#[test]
fn contract_1_7_bfd_profile() {
    check_fields(
        "BFDProfile",
        "v1beta1",
        expect![["
        spec: object
        spec.detectMultiplier: integer, maximum 255, minimum 2
        spec.echoInterval: integer, maximum 60000, minimum 10
        spec.echoMode: boolean
        spec.minimumTtl: integer, maximum 254, minimum 1
        spec.passiveMode: boolean
        spec.receiveInterval: integer, maximum 60000, minimum 10
        spec.transmitInterval: integer, maximum 60000, minimum 10
        status: object"]],
    );
}

#[test]
fn contract_1_8_community() {
    check_fields(
        "Community",
        "v1beta1",
        expect![["
        spec: object
        spec.communities: array
        spec.communities[]: object
        spec.communities[].name: string
        spec.communities[].value: string
        status: object"]],
    );
}

#[test]
fn contract_1_9_status_kinds() {
    check_fields(
        "ServiceL2Status",
        "v1beta1",
        expect![[r#"
        spec: object
        status: object
        status.interfaces: array
        status.interfaces[]: object
        status.interfaces[].name: string
        status.node: string, CEL "Value is immutable"
        status.serviceName: string, CEL "Value is immutable"
        status.serviceNamespace: string, CEL "Value is immutable""#]],
    );
    check_fields(
        "ServiceBGPStatus",
        "v1beta1",
        expect![[r#"
        spec: object
        status: object
        status.node: string, CEL "Value is immutable"
        status.peers: array
        status.peers[]: string
        status.serviceName: string, CEL "Value is immutable"
        status.serviceNamespace: string, CEL "Value is immutable""#]],
    );
    check_fields(
        "ConfigurationState",
        "v1beta1",
        expect![[r#"
        spec: object
        status: object
        status.conditions: array, list-map-keys ["type"], list-type "map"
        status.conditions[]: object
        status.conditions[].lastTransitionTime: string, format "date-time", required
        status.conditions[].message: string, maxLength 32768, required
        status.conditions[].observedGeneration: integer, format "int64", minimum 0
        status.conditions[].reason: string, maxLength 1024, minLength 1, pattern "^[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?$", required
        status.conditions[].status: string, enum ["True","False","Unknown"], required
        status.conditions[].type: string, maxLength 316, pattern "^([a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*/)?(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])$", required
        status.errorSummary: string
        status.result: string, enum ["Valid","Invalid","Unknown"]"#]],
    );
}

#[test]
fn label_selectors_are_those_of_kubernetes() {
    let (_, _, schema) = schemas().into_iter().find(|(kind, ..)| kind == "L2Advertisement").unwrap();
    let mut selector = schema["properties"]["spec"]["properties"]["nodeSelectors"]["items"].clone();
    let mut lines = Vec::new();
    selector["x-kubernetes-map-type"] = json!("atomic, as a whole");
    fields("selector", &selector, false, &mut lines);
    expect![[r#"
        selector: object, map-type "atomic, as a whole"
        selector.matchExpressions: array, list-type "atomic"
        selector.matchExpressions[]: object
        selector.matchExpressions[].key: string, required
        selector.matchExpressions[].operator: string, required
        selector.matchExpressions[].values: array, list-type "atomic"
        selector.matchExpressions[].values[]: string
        selector.matchLabels: object, additionalProperties {"type":"string"}"#]]
    .assert_eq(&lines.join("\n"));
}

#[test]
fn contract_1_versions_and_columns() {
    let mut lines = Vec::new();
    for definition in definitions() {
        let spec = &definition["spec"];
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        lines.push(format!("{} {}", text(&definition["metadata"]["name"]), text(&spec["scope"])));
        for version in spec["versions"].as_array().unwrap() {
            let line = format!(
                "  {} served {} storage {} subresources {} {}",
                text(&version["name"]),
                version["served"],
                version["storage"],
                version["subresources"],
                text(&version["deprecationWarning"])
            );
            lines.push(line.trim_end().to_owned());
            for column in version["additionalPrinterColumns"].as_array().into_iter().flatten() {
                let priority = column.get("priority").map(|p| format!(" priority {p}")).unwrap_or_default();
                let (name, path, type_) = (text(&column["name"]), text(&column["jsonPath"]), text(&column["type"]));
                lines.push(format!("    {name}: {path} {type_}{priority}"));
            }
        }
    }
    expect![[r#"
        bfdprofiles.metallb.io Namespaced
          v1beta1 served true storage true subresources {"status":{}}
            Passive Mode: .spec.passiveMode boolean
            Transmit Interval: .spec.transmitInterval integer
            Receive Interval: .spec.receiveInterval integer
            Multiplier: .spec.detectMultiplier integer
        bgpadvertisements.metallb.io Namespaced
          v1beta1 served true storage true subresources {"status":{}}
            IPAddressPools: .spec.ipAddressPools string
            IPAddressPool Selectors: .spec.ipAddressPoolSelectors string
            Peers: .spec.peers string
            Node Selectors: .spec.nodeSelectors string priority 10
        bgppeers.metallb.io Namespaced
          v1beta1 served true storage false subresources {"status":{}} metallb.io/v1beta1 BGPPeer is deprecated in favour of metallb.io/v1beta2 BGPPeer
            Address: .spec.peerAddress string
            ASN: .spec.peerASN string
            BFD Profile: .spec.bfdProfile string
            Multi Hops: .spec.ebgpMultiHop string
          v1beta2 served true storage true subresources {"status":{}}
            Address: .spec.peerAddress string
            ASN: .spec.peerASN string
            BFD Profile: .spec.bfdProfile string
            Multi Hops: .spec.ebgpMultiHop string
        communities.metallb.io Namespaced
          v1beta1 served true storage true subresources {"status":{}}
        configurationstates.metallb.io Namespaced
          v1beta1 served true storage true subresources {"status":{}}
            Result: .status.result string
            ErrorSummary: .status.errorSummary string
            Age: .metadata.creationTimestamp date
        ipaddresspools.metallb.io Namespaced
          v1beta1 served true storage true subresources {"status":{}}
            Auto Assign: .spec.autoAssign boolean
            Avoid Buggy IPs: .spec.avoidBuggyIPs boolean
            Addresses: .spec.addresses string
        l2advertisements.metallb.io Namespaced
          v1beta1 served true storage true subresources {"status":{}}
            IPAddressPools: .spec.ipAddressPools string
            IPAddressPool Selectors: .spec.ipAddressPoolSelectors string
            Interfaces: .spec.interfaces string
            Node Selectors: .spec.nodeSelectors string priority 10
        servicebgpstatuses.metallb.io Namespaced
          v1beta1 served true storage true subresources {"status":{}}
            Node: .status.node string
            Service Name: .status.serviceName string
            Service Namespace: .status.serviceNamespace string
        servicel2statuses.metallb.io Namespaced
          v1beta1 served true storage true subresources {"status":{}}
            Allocated Node: .status.node string
            Service Name: .status.serviceName string
            Service Namespace: .status.serviceNamespace string"#]].assert_eq(&lines.join("\n"));
}

/// What a structural schema may hold (apiextensions.k8s.io/v1), of what we use.
const KEYWORDS: [&str; 20] = [
    "additionalProperties",
    "default",
    "description",
    "enum",
    "format",
    "items",
    "maxLength",
    "maximum",
    "minItems",
    "minLength",
    "minimum",
    "pattern",
    "properties",
    "required",
    "type",
    "x-kubernetes-list-map-keys",
    "x-kubernetes-list-type",
    "x-kubernetes-map-type",
    "x-kubernetes-preserve-unknown-fields",
    "x-kubernetes-validations",
];

fn check_structure(path: &str, schema: &Value) {
    let fields = schema.as_object().unwrap_or_else(|| panic!("{path} is no schema"));
    for key in fields.keys() {
        assert!(KEYWORDS.contains(&key.as_str()), "{path} has {key}");
    }
    let type_ = schema["type"].as_str().unwrap_or_else(|| panic!("{path} has no type"));
    assert!(["object", "array", "string", "integer", "boolean"].contains(&type_), "{path} is {type_}");
    assert_eq!(type_ == "array", fields.contains_key("items"), "{path}");
    assert!(!(fields.contains_key("properties") && fields.contains_key("additionalProperties")), "{path}");
    if let Some(default) = fields.get("default") {
        let fits = match type_ {
            "boolean" => default.is_boolean(),
            "integer" => default.is_i64(),
            other => panic!("{path}: no default is meant for {other}"),
        };
        assert!(fits, "{path}: default {default}");
    }
    let properties = fields.get("properties").and_then(Value::as_object);
    for name in schema["required"].as_array().into_iter().flatten() {
        assert!(properties.unwrap().contains_key(name.as_str().unwrap()), "{path} requires {name}");
    }
    for key in schema["x-kubernetes-list-map-keys"].as_array().into_iter().flatten() {
        assert!(schema["items"]["required"].as_array().unwrap().contains(key), "{path}");
    }
    for (name, property) in properties.into_iter().flatten() {
        assert!(name == "metadata" || property["description"].is_string(), "{path}.{name} is not described");
        check_structure(&format!("{path}.{name}"), property);
    }
    for part in ["items", "additionalProperties"] {
        if let Some(part) = fields.get(part) {
            check_structure(&format!("{path}[]"), part);
        }
    }
}

#[test]
fn every_schema_is_structural_and_every_field_is_described() {
    for (kind, version, schema) in schemas() {
        check_structure(&format!("{kind} {version}"), &schema);
    }
    assert_eq!(definitions().len(), KINDS.len());
    assert_eq!(definitions(), definitions());
}

/// A value that fills every field of a schema.
fn sample(schema: &Value) -> Value {
    if let Some(allowed) = schema["enum"].as_array() {
        return allowed[0].clone();
    }
    match schema["type"].as_str().unwrap() {
        "object" if schema["additionalProperties"].is_object() => {
            json!({"key": sample(&schema["additionalProperties"])})
        }
        "object" => {
            let properties = schema["properties"].as_object().into_iter().flatten();
            Value::Object(properties.map(|(name, schema)| (name.clone(), sample(schema))).collect::<Map<_, _>>())
        }
        "array" => json!([sample(&schema["items"])]),
        "string" => json!("text"),
        "integer" => json!(schema["maximum"].as_i64().unwrap_or(7)),
        "boolean" => json!(true),
        other => panic!("{other}"),
    }
}

#[test]
fn every_field_of_a_schema_is_read_by_its_type_and_written_back() {
    for (kind, version, schema) in schemas() {
        let mut value = sample(&schema);
        value["apiVersion"] = json!(format!("metallb.io/{version}"));
        value["kind"] = json!(kind);
        value["metadata"] = json!({"name": "full"});
        let Document::Object(read) = api::read(&value) else { panic!("{kind} {version} cannot be read: {value}") };
        let errors: Vec<_> = read.violations.iter().filter(|v| v.severity == api::Severity::Error).collect();
        assert!(errors.is_empty(), "{kind} {version}: {errors:?}");
        let written = read.object.to_value().unwrap();
        for part in ["spec", "status"] {
            let expected = Some(&value[part]).filter(|part| **part != json!({}));
            assert_eq!(written.get(part), expected, "{kind} {version} {part}");
        }
    }
}

#[test]
fn an_object_with_only_what_is_required_stays_as_small() {
    let pool = json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool", "metadata": {"name": "a"},
        "spec": {"addresses": []}});
    let Document::Object(read) = api::read(&pool) else { panic!("cannot be read") };
    assert_eq!(read.object.to_value().unwrap(), json!({"metadata": {"name": "a"}, "spec": {"addresses": []}}));
    assert!(matches!(&read.object, Object::IPAddressPool(pool) if pool.spec.auto_assign.is_none()));
}
