//! BGPPeer between its two versions (contract 1.4, D24).

#![allow(clippy::arithmetic_side_effects, clippy::indexing_slicing, clippy::panic, clippy::unwrap_used)]

use api::conversion::{KEPT_FIELDS, convert};
use api::crd::{PEER_API_VERSION, PEER_DEPRECATED_API_VERSION};
use proptest::prelude::*;
use serde_json::{Map, Value, json};

fn peer(api_version: &str, spec: Value) -> Value {
    json!({
        "apiVersion": api_version,
        "kind": "BGPPeer",
        "metadata": {"name": "tor", "ownerReferences": [{"uid": "1"}], "annotations": {"example.com/kept": "x"}},
        "spec": spec,
        "status": {},
    })
}

fn up(object: &Value) -> Value {
    convert(object.clone(), PEER_API_VERSION).unwrap()
}

fn down(object: &Value) -> Value {
    convert(object.clone(), PEER_DEPRECATED_API_VERSION).unwrap()
}

#[test]
fn d24_absent_timers_stay_absent() {
    let old = peer(PEER_DEPRECATED_API_VERSION, json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"}));
    let new = up(&old);
    assert_eq!(new, peer(PEER_API_VERSION, json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"})));
    assert_eq!(down(&new), old);
}

#[test]
fn d24_a_v1beta1_read_modify_write_keeps_what_only_v1beta2_has() {
    let spec = json!({"myASN": 1, "interface": "eth1", "dynamicASN": "external", "vrf": "blue", "holdTime": "90s",
        "passwordSecret": {"name": "tor"},
        "nodeSelectors": [{"matchExpressions": [{"key": "edge", "operator": "Exists"}]}]});
    let mut old = down(&peer(PEER_API_VERSION, spec.clone()));
    // What v1beta1 requires is there, so that the object can be written back.
    assert_eq!((&old["spec"]["peerASN"], &old["spec"]["peerAddress"]), (&json!(0), &json!("")));
    assert_eq!(old["spec"].get("vrf"), None);
    old["spec"]["holdTime"] = json!("30s");
    let mut expected = spec;
    expected["holdTime"] = json!("30s");
    assert_eq!(up(&old), peer(PEER_API_VERSION, expected));
}

#[test]
fn what_is_changed_in_v1beta1_wins_over_what_was_kept() {
    let selectors = json!([{"matchExpressions": [{"key": "edge", "operator": "Exists"}]}]);
    let new =
        peer(PEER_API_VERSION, json!({"myASN": 1, "peerASN": 2, "interface": "eth1", "nodeSelectors": selectors}));
    let mut old = down(&new);
    let changed = json!([{"matchLabels": {"rack": "a"}}]);
    old["spec"]["nodeSelectors"] = changed.clone();
    let new = up(&old);
    assert_eq!(new["spec"]["nodeSelectors"], changed);
    assert_eq!(new["spec"]["interface"], "eth1");
}

#[test]
fn port_0_of_v1beta1_is_the_usual_port() {
    let old = peer(PEER_DEPRECATED_API_VERSION, json!({"myASN": 1, "peerPort": 0}));
    assert_eq!(up(&old)["spec"].get("peerPort"), None);
    let old = peer(PEER_DEPRECATED_API_VERSION, json!({"myASN": 1, "peerPort": 1179}));
    assert_eq!(up(&old)["spec"]["peerPort"], 1179);
}

#[test]
fn a_foreign_annotation_in_our_place_is_dropped_without_harm() {
    for junk in [json!("{"), json!("[]"), json!(7), json!("{\"myASN\": 9, \"unknown\": 1}")] {
        let mut old = peer(PEER_DEPRECATED_API_VERSION, json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"}));
        old["metadata"]["annotations"][KEPT_FIELDS] = junk;
        let new = up(&old);
        assert_eq!(new, peer(PEER_API_VERSION, json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1"})));
    }
}

#[test]
fn the_password_is_not_copied_into_an_annotation() {
    let old = down(&peer(PEER_API_VERSION, json!({"myASN": 1, "vrf": "blue", "password": "hunter2"})));
    assert!(!old["metadata"].to_string().contains("hunter2"));
}

#[test]
fn other_kinds_and_versions_are_refused() {
    let pool = json!({"apiVersion": "metallb.io/v1beta1", "kind": "IPAddressPool"});
    assert_eq!(
        convert(pool, PEER_API_VERSION).unwrap_err().to_string(),
        "IPAddressPool cannot be converted: only BGPPeer of metallb.io has more than one version"
    );
    let newer = peer("metallb.io/v1", json!({}));
    assert_eq!(convert(newer, PEER_API_VERSION).unwrap_err().to_string(), "BGPPeer has no version \"metallb.io/v1\"");
    let known = peer(PEER_API_VERSION, json!({}));
    assert_eq!(convert(known, "metallb.io/v1").unwrap_err().to_string(), "BGPPeer has no version \"metallb.io/v1\"");
    assert!(convert(json!(7), PEER_API_VERSION).is_err());
}

fn selectors() -> impl Strategy<Value = Value> {
    let values = prop::collection::vec("[a-z]{1,3}", 0..3);
    let expression = ("[a-z]{1,3}", prop::sample::select(vec!["In", "Exists"]), prop::option::of(values)).prop_map(
        |(key, operator, values)| {
            let mut expression = json!({"key": key, "operator": operator});
            if let Some(values) = values {
                expression["values"] = json!(values);
            }
            expression
        },
    );
    let selector = prop_oneof![
        Just(json!({})),
        prop::collection::vec(expression, 0..3).prop_map(|list| json!({"matchExpressions": list})),
        "[a-z]{1,3}".prop_map(|value| json!({"matchLabels": {"rack": value}})),
    ];
    prop::collection::vec(selector, 0..3).prop_map(Value::Array)
}

/// Any spec: each field is there or not, independent of what makes sense.
fn spec(fields: Vec<(&'static str, BoxedStrategy<Value>)>) -> BoxedStrategy<Value> {
    let fields: Vec<_> = fields
        .into_iter()
        .map(|(name, values)| prop::option::of(values).prop_map(move |value| (name, value)))
        .collect();
    fields
        .prop_map(|fields| {
            let set = fields.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?)));
            Value::Object(set.collect::<Map<_, _>>())
        })
        .boxed()
}

fn text() -> BoxedStrategy<Value> {
    "[a-z0-9]{0,4}".prop_map(Value::from).boxed()
}

fn v1beta1_fields() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    vec![
        ("myASN", (0..3u32).prop_map(Value::from).boxed()),
        ("peerASN", (0..3u32).prop_map(Value::from).boxed()),
        ("peerAddress", text()),
        ("peerPort", (1..3u32).prop_map(Value::from).boxed()),
        ("sourceAddress", text()),
        ("holdTime", text()),
        ("keepaliveTime", text()),
        ("routerID", text()),
        ("password", text()),
        ("bfdProfile", text()),
        ("ebgpMultiHop", any::<bool>().prop_map(Value::from).boxed()),
        ("nodeSelectors", selectors().boxed()),
    ]
}

fn v1beta2_fields() -> Vec<(&'static str, BoxedStrategy<Value>)> {
    let mut fields = v1beta1_fields();
    for name in ["connectTime", "vrf", "dynamicASN", "interface"] {
        fields.push((name, text()));
    }
    for name in ["enableGracefulRestart", "disableMP", "dualStackAddressFamily"] {
        fields.push((name, any::<bool>().prop_map(Value::from).boxed()));
    }
    fields.push(("localASN", (0..3u32).prop_map(Value::from).boxed()));
    let key = |name: Value| json!([{"sendID": 1, "receiveID": 2, "algorithm": "hmac-sha-1-96", "secretName": name}]);
    fields.push(("tcpAuthenticationKeys", text().prop_map(key).boxed()));
    fields.push(("passwordSecret", text().prop_map(|name| json!({"name": name})).boxed()));
    fields
}

proptest! {
    #[test]
    fn v1beta2_survives_the_way_down_and_up(spec in spec(v1beta2_fields())) {
        let new = peer(PEER_API_VERSION, spec);
        prop_assert_eq!(up(&down(&new)), new);
    }

    #[test]
    fn v1beta1_survives_the_way_up_and_down(spec in spec(v1beta1_fields())) {
        let mut old = peer(PEER_DEPRECATED_API_VERSION, spec);
        // What v1beta1 requires is always there, and its selectors always have values.
        old["spec"]["peerASN"] = json!(2);
        old["spec"]["peerAddress"] = json!("192.0.2.1");
        old["spec"]["nodeSelectors"] = json!([{"matchExpressions": [{"key": "a", "operator": "In", "values": ["b"]}]}]);
        prop_assert_eq!(down(&up(&old)), old);
    }
}
