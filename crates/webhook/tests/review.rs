//! AdmissionReviews in, AdmissionReviews out (contract 4.2 and 4.4).

// `expect_test` writes the hashes when it updates a snapshot.
#![allow(
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::needless_raw_string_hashes,
    clippy::panic,
    clippy::unwrap_used
)]

use api::{Kind, Object};
use expect_test::{Expect, expect};
use kit::{Duration, Instant};
use serde_json::{Value, json};
use webhook::{EXPECTED_MAX, EXPECTED_TIME, Question, Reviewer, VALIDATION_PATHS};

const NAMESPACE: &str = "metallb-system";
const NOW: Instant = Instant::from_micros(0);

fn object(kind: Kind, name: &str, spec: Value) -> Value {
    json!({
        "apiVersion": kind.api_version(), "kind": kind.name(),
        "metadata": {"name": name, "namespace": NAMESPACE, "uid": "1", "managedFields": [{"manager": "kubectl"}]},
        "spec": spec,
    })
}

fn pool(name: &str, addresses: &str) -> Value {
    object(Kind::IPAddressPool, name, json!({"addresses": [addresses]}))
}

/// A review of a change to this object, as the API server writes it.
fn review_of(operation: &str, object: &Value) -> Value {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (group, version) = text("/apiVersion").split_once('/').unwrap_or(("", "v1"));
    let gone = operation == "DELETE";
    json!({
        "apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview",
        "request": {
            "uid": "u1",
            "kind": {"group": group, "version": version, "kind": text("/kind")},
            "resource": {"group": group, "version": version, "resource": "whatever"},
            "name": text("/metadata/name"), "namespace": text("/metadata/namespace"),
            "operation": operation,
            "userInfo": {"username": "admin", "groups": ["system:masters"]},
            "object": if gone { Value::Null } else { object.clone() },
            "oldObject": if gone { object.clone() } else { Value::Null },
            "dryRun": false,
            "options": {"apiVersion": "meta.k8s.io/v1", "kind": "CreateOptions"},
        },
    })
}

fn reviewer(objects: &[Value]) -> Reviewer {
    let mut reviewer = Reviewer::new(NAMESPACE.to_owned());
    for object in objects {
        reviewer.applied(read(object));
    }
    reviewer
}

fn read(object: &Value) -> Object {
    let kind = Kind::find(object["apiVersion"].as_str().unwrap(), object["kind"].as_str().unwrap()).unwrap();
    Object::from_value(kind, object.clone()).unwrap()
}

fn ask(reviewer: &mut Reviewer, now: Instant, review: &Value) -> String {
    let question = Question::read(review.to_string().as_bytes()).unwrap();
    reviewer.answer(now, &question).to_json()
}

/// Only the response, in lines.
fn shown(answer: &str) -> String {
    let answer: Value = serde_json::from_str(answer).unwrap();
    assert_eq!(
        (answer["apiVersion"].as_str(), answer["kind"].as_str(), answer["response"]["uid"].as_str()),
        (Some("admission.k8s.io/v1"), Some("AdmissionReview"), Some("u1"))
    );
    let response = &answer["response"];
    let mut lines = Vec::new();
    if response["allowed"] == true {
        lines.push("allowed".to_owned());
    } else {
        lines.push(format!("{} {}", response["status"]["code"], response["status"]["reason"].as_str().unwrap()));
        lines.push(response["status"]["message"].as_str().unwrap().to_owned());
    }
    let warnings = response["warnings"].as_array().cloned().unwrap_or_default();
    lines.extend(warnings.iter().map(|warning| format!("Warning: {}", warning.as_str().unwrap())));
    lines.join("\n")
}

fn check(objects: &[Value], operation: &str, object: &Value, expected: Expect) {
    let answer = ask(&mut reviewer(objects), NOW, &review_of(operation, object));
    expected.assert_eq(&shown(&answer));
}

#[test]
fn the_whole_answer() {
    let mut reviewer = reviewer(&[]);
    expect![[
        r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"allowed":true,"uid":"u1"}}"#
    ]]
    .assert_eq(&ask(&mut reviewer, NOW, &review_of("CREATE", &pool("a", "192.0.2.0/24"))));
    expect![[r#"{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","response":{"allowed":false,"status":{"code":403,"message":"IPAddressPool metallb-system/b: invalid CIDR \"192.0.2.1\" in pool \"b\" (at /spec/addresses/0)\nhint: for a single address write 192.0.2.1/32","reason":"Forbidden"},"uid":"u1"}}"#]].assert_eq(&ask(&mut reviewer, NOW, &review_of("CREATE", &pool("b", "192.0.2.1"))));
}

#[test]
fn an_object_is_judged_with_all_others_whatever_the_kind() {
    let others = [pool("a", "192.0.2.0/24")];
    check(&others, "CREATE", &pool("b", "198.51.100.0/24"), expect!["allowed"]);
    check(
        &others,
        "CREATE",
        &pool("b", "192.0.2.128/25"),
        expect![[r#"
        403 Forbidden
        IPAddressPool metallb-system/b: CIDR "192.0.2.128/25" in pool "b" overlaps with already defined CIDR "192.0.2.0/24" in pool "a" (at /spec/addresses/0)
        hint: an address can be in one pool only; shorten or remove one of the two"#]],
    );
    // D23: the pool comes after the advertisement that does not go with it.
    let coarse = object(Kind::BGPAdvertisement, "coarse", json!({"aggregationLength": 20}));
    check(
        &[coarse],
        "CREATE",
        &pool("a", "192.0.2.0/24"),
        expect![[r#"
        403 Forbidden
        BGPAdvertisement metallb-system/coarse: invalid aggregation length 20: prefix 24 in this pool is more specific than the aggregation length for addresses 192.0.2.0/24 (pool "a") (at /spec/aggregationLength)
        hint: use 24 or more, or select other pools: one route would attract addresses that are not in the pool"#]],
    );
    // D18, D19.
    let peer = json!({"myASN": 1, "peerASN": 2, "peerAddress": "x", "disableMP": true, "password": "hidden",
        "passwordSecret": {"name": "s"}});
    check(
        &[],
        "CREATE",
        &object(Kind::BGPPeer, "tor", peer),
        expect![[r#"
        403 Forbidden
        BGPPeer metallb-system/tor: can not have both password and secret ref (at /spec/passwordSecret)
        hint: remove password, and keep passwordSecret
        BGPPeer metallb-system/tor: invalid BGPPeer address "x" (at /spec/peerAddress)
        hint: write an IP address, without a prefix length or port
        Warning: BGPPeer metallb-system/tor: disableMP is deprecated and has no effect; hint: remove it"#]],
    );
    // Node labels decide whether two peers meet.
    let peer = |name: &str, rack: &str| {
        let selectors = json!([{"matchLabels": {"rack": rack}}]);
        let spec = json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "nodeSelectors": selectors});
        object(Kind::BGPPeer, name, spec)
    };
    let node = json!({"apiVersion": "v1", "kind": "Node", "metadata": {"name": "n1", "labels": {"rack": "a"}}});
    check(
        &[peer("one", "a"), node.clone()],
        "CREATE",
        &peer("two", "a"),
        expect![[r#"
        403 Forbidden
        BGPPeer metallb-system/two: a peer with address 192.0.2.1 already exists: BGPPeer "one" can run on the same node (at /spec/peerAddress)
        hint: remove one of them, or give them nodeSelectors without a common node"#]],
    );
    check(&[peer("one", "a"), node], "CREATE", &peer("two", "b"), expect!["allowed"]);
    let community =
        |name: &str| object(Kind::Community, name, json!({"communities": [{"name": "gold", "value": "1:2"}]}));
    check(
        &[community("a")],
        "CREATE",
        &community("b"),
        expect![[r#"
        403 Forbidden
        Community metallb-system/b: duplicate definition of community "gold", which Community "a" defines, too (at /spec/communities/0/name)
        hint: use another name, or remove one of them"#]],
    );
}

#[test]
fn only_what_a_change_brings_is_refused() {
    let broken = [pool("a", "192.0.2.0/24"), pool("b", "192.0.2.0/25")];
    check(&broken, "CREATE", &pool("c", "198.51.100.0/24"), expect!["allowed"]);
    check(&broken, "UPDATE", &pool("b", "203.0.113.0/24"), expect!["allowed"]);
    check(
        &broken,
        "UPDATE",
        &pool("b", "192.0.2.0/26"),
        expect![[r#"
        403 Forbidden
        IPAddressPool metallb-system/b: CIDR "192.0.2.0/26" in pool "b" overlaps with already defined CIDR "192.0.2.0/24" in pool "a" (at /spec/addresses/0)
        hint: an address can be in one pool only; shorten or remove one of the two"#]],
    );
    check(&broken, "DELETE", &broken[0], expect!["allowed"]);
}

#[test]
fn what_is_named_may_come_later() {
    let peer = json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "bfdProfile": "later",
        "passwordSecret": {"name": "later"}});
    check(
        &[],
        "CREATE",
        &object(Kind::BGPPeer, "tor", peer),
        expect![[r#"
        allowed
        Warning: BGPPeer metallb-system/tor: peer "tor" referencing non existing bfd profile "later"; hint: create the BFDProfile, or remove bfdProfile"#]],
    );
    let advertisement = json!({"ipAddressPools": ["later"], "communities": ["later"]});
    check(
        &[],
        "CREATE",
        &object(Kind::BGPAdvertisement, "a", advertisement),
        expect![[r#"
            allowed
            Warning: BGPAdvertisement metallb-system/a: invalid community "later" in BGP advertisement: no Community defines this name; hint: define it in a Community, or write the community itself, such as 65000:100"#]],
    );
}

#[test]
fn rule_1_and_r18_objects_elsewhere_are_refused() {
    let mut elsewhere = pool("a", "192.0.2.0/24");
    elsewhere["metadata"]["namespace"] = json!("default");
    check(
        &[],
        "CREATE",
        &elsewhere,
        expect![[r#"
        403 Forbidden
        IPAddressPool default/a: resource must be created in metallb-system namespace (at /metadata/namespace)
        hint: objects in other namespaces, such as "default", are not read"#]],
    );
    check(
        &[],
        "UPDATE",
        &elsewhere,
        expect![[r#"
        403 Forbidden
        IPAddressPool default/a: resource must be created in metallb-system namespace (at /metadata/namespace)
        hint: objects in other namespaces, such as "default", are not read"#]],
    );
    check(&[], "DELETE", &elsewhere, expect!["allowed"]);
}

#[test]
fn rule_23_a_profile_in_use_stays() {
    let profile = object(Kind::BFDProfile, "fast", json!({}));
    let peer = object(
        Kind::BGPPeer,
        "tor",
        json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "bfdProfile": "fast"}),
    );
    check(
        &[profile.clone(), peer],
        "DELETE",
        &profile,
        expect![[r#"
        403 Forbidden
        BFDProfile metallb-system/fast: failed to delete BFDProfile "fast": BGPPeer "tor" uses it
        hint: take bfdProfile out of the BGPPeer first"#]],
    );
    check(std::slice::from_ref(&profile), "DELETE", &profile, expect!["allowed"]);
}

#[test]
fn an_object_that_goes_is_not_held_up() {
    let mut going = pool("a", "nonsense");
    going["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
    check(&[], "UPDATE", &going, expect!["allowed"]);
}

#[test]
fn other_kinds_and_operations_pass() {
    for kind in Kind::ALL.iter().filter(|kind| !VALIDATION_PATHS.iter().any(|(judged, _)| judged == *kind)) {
        check(&[], "CREATE", &object(*kind, "x", json!({})), expect!["allowed"]);
    }
    check(&[], "CREATE", &json!({"apiVersion": "apps/v1", "kind": "Deployment"}), expect!["allowed"]);
    check(&[], "CONNECT", &pool("a", "nonsense"), expect!["allowed"]);
}

#[test]
fn a_peer_of_the_old_version_is_judged_like_the_new() {
    let mut old = object(Kind::BGPPeer, "tor", json!({"myASN": 1, "peerASN": 2, "peerAddress": "x", "peerPort": 0}));
    old["apiVersion"] = json!("metallb.io/v1beta1");
    check(
        &[],
        "CREATE",
        &old,
        expect![[r#"
        403 Forbidden
        BGPPeer metallb-system/tor: invalid BGPPeer address "x" (at /spec/peerAddress)
        hint: write an IP address, without a prefix length or port"#]],
    );
}

#[test]
fn what_a_schema_should_have_kept_out_is_refused_with_its_place() {
    check(
        &[],
        "CREATE",
        &object(Kind::IPAddressPool, "a", json!({"addresses": 7})),
        expect![[r#"
        403 Forbidden
        /spec/addresses: addresses must be a list, not a number"#]],
    );
    check(
        &[],
        "CREATE",
        &object(Kind::BGPPeer, "a", json!({"myASN": "hidden", "password": ["hidden"]})),
        expect![[r#"
        403 Forbidden
        /spec/myASN: myASN must be a whole number, not text
        /spec/password: password must be text, not a list"#]],
    );
    let mut nothing = review_of("CREATE", &pool("a", "192.0.2.0/24"));
    nothing["request"]["object"] = Value::Null;
    expect![[r#"
        403 Forbidden
        not a Kubernetes object: apiVersion is missing"#]]
    .assert_eq(&shown(&ask(&mut reviewer(&[]), NOW, &nothing)));
    // Unknown fields and nulls are the API server's business.
    let odd = object(Kind::IPAddressPool, "a", json!({"addresses": ["192.0.2.0/24"], "new": 1, "autoAssign": null}));
    check(&[], "CREATE", &odd, expect!["allowed"]);
}

#[test]
fn many_findings_are_counted_and_text_fits_into_a_header() {
    let spec: Vec<String> = (0..12).map(|number| format!("192.0.2.{number}")).collect();
    check(
        &[],
        "CREATE",
        &object(Kind::IPAddressPool, "a", json!({"addresses": spec})),
        expect![[r#"
            403 Forbidden
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.0" in pool "a" (at /spec/addresses/0)
            hint: for a single address write 192.0.2.0/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.1" in pool "a" (at /spec/addresses/1)
            hint: for a single address write 192.0.2.1/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.10" in pool "a" (at /spec/addresses/10)
            hint: for a single address write 192.0.2.10/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.11" in pool "a" (at /spec/addresses/11)
            hint: for a single address write 192.0.2.11/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.2" in pool "a" (at /spec/addresses/2)
            hint: for a single address write 192.0.2.2/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.3" in pool "a" (at /spec/addresses/3)
            hint: for a single address write 192.0.2.3/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.4" in pool "a" (at /spec/addresses/4)
            hint: for a single address write 192.0.2.4/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.5" in pool "a" (at /spec/addresses/5)
            hint: for a single address write 192.0.2.5/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.6" in pool "a" (at /spec/addresses/6)
            hint: for a single address write 192.0.2.6/32
            IPAddressPool metallb-system/a: invalid CIDR "192.0.2.7" in pool "a" (at /spec/addresses/7)
            hint: for a single address write 192.0.2.7/32
            and 2 more"#]],
    );
    let selectors: Vec<Value> = (0..12).map(|number| json!({"matchLabels": {"x": number.to_string()}})).collect();
    let namespaces: Vec<String> = (0..12).map(|number| format!("no\n{number}")).collect();
    let spec = json!({"addresses": ["192.0.2.0/24"],
        "serviceAllocation": {"namespaces": namespaces, "namespaceSelectors": selectors}});
    let namespace = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "shop"}});
    check(
        &[namespace],
        "CREATE",
        &object(Kind::IPAddressPool, "a", spec),
        expect![[r#"
            allowed
            Warning: IPAddressPool metallb-system/a: no namespace matches, so no Service can use the pool; hint: check the names and labels of the namespaces"#]],
    );
}

fn allow(reviewer: &mut Reviewer, now: Instant, review: &Value) {
    let answer = ask(reviewer, now, review);
    assert!(answer.contains("\"allowed\":true"), "{answer}");
}

#[test]
fn what_was_allowed_counts_before_it_is_seen() {
    let refused = "overlaps with already defined CIDR";
    let first = review_of("CREATE", &pool("a", "192.0.2.0/24"));
    let second = review_of("CREATE", &pool("b", "192.0.2.0/25"));
    let later = NOW + EXPECTED_TIME;

    let mut both = reviewer(&[]);
    allow(&mut both, NOW, &first);
    assert!(ask(&mut both, NOW, &second).contains(refused));
    // It never came: something else has refused it.
    allow(&mut both, later, &second);

    // It came, and what is there is what counts.
    let mut seen = reviewer(&[]);
    allow(&mut seen, NOW, &first);
    seen.applied(read(&pool("a", "198.51.100.0/24")));
    allow(&mut seen, NOW, &second);

    // It came and went.
    let mut gone = reviewer(&[]);
    allow(&mut gone, NOW, &first);
    gone.deleted(&read(&pool("a", "192.0.2.0/24")).reference());
    allow(&mut gone, NOW, &second);

    // Nothing came of a dry run, or of what was refused.
    let mut dry = reviewer(&[]);
    let mut run = first.clone();
    run["request"]["dryRun"] = json!(true);
    allow(&mut dry, NOW, &run);
    allow(&mut dry, NOW, &second);
    assert!(ask(&mut dry, NOW, &first).contains(refused));
    allow(&mut dry, NOW, &review_of("UPDATE", &pool("b", "192.0.2.0/26")));

    // A deletion counts as well.
    let profile = object(Kind::BFDProfile, "fast", json!({}));
    let peer = object(
        Kind::BGPPeer,
        "tor",
        json!({"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "bfdProfile": "fast"}),
    );
    let mut deleted = reviewer(std::slice::from_ref(&profile));
    allow(&mut deleted, NOW, &review_of("DELETE", &profile));
    assert!(ask(&mut deleted, NOW, &review_of("CREATE", &peer)).contains("non existing bfd profile"));
}

#[test]
fn there_is_a_limit_to_what_is_expected() {
    let mut reviewer = reviewer(&[]);
    let pool_of = |number: usize| pool(&format!("p{number}"), &format!("10.0.{}.{}/32", number / 256, number % 256));
    for number in 0..=EXPECTED_MAX {
        assert!(ask(&mut reviewer, NOW, &review_of("CREATE", &pool_of(number))).contains("\"allowed\":true"));
    }
    let again = |number: usize| pool("again", pool_of(number)["spec"]["addresses"][0].as_str().unwrap());
    assert!(ask(&mut reviewer, NOW, &review_of("CREATE", &again(0))).contains("\"allowed\":false"));
    assert!(ask(&mut reviewer, NOW, &review_of("CREATE", &again(EXPECTED_MAX))).contains("\"allowed\":true"));
    assert!(Duration::from_secs(1) < EXPECTED_TIME, "a watch may be a second behind");
}

#[test]
fn what_is_no_review_has_no_answer_and_no_text_of_it() {
    let check = |body: &str, expected: Expect| {
        expected.assert_eq(&Question::read(body.as_bytes()).unwrap_err().to_string());
    };
    let good = review_of("CREATE", &pool("a", "192.0.2.0/24"));
    let edited = |pointer: &str, value: Value| {
        let mut review = good.clone();
        *review.pointer_mut(pointer).unwrap() = value;
        review.to_string()
    };
    check("", expect!["the request is no review in JSON (line 1, column 0)"]);
    check("[", expect!["the request is no review in JSON (line 1, column 1)"]);
    check("{}", expect![[r#"the request is " ", not an AdmissionReview of admission.k8s.io/v1"#]]);
    check(
        r#"{"password": "hidden"}"#,
        expect![[r#"the request is " ", not an AdmissionReview of admission.k8s.io/v1"#]],
    );
    check(
        &edited("/kind", json!("ConversionReview")),
        expect![[
            r#"the request is "admission.k8s.io/v1 ConversionReview", not an AdmissionReview of admission.k8s.io/v1"#
        ]],
    );
    check(
        &edited("/apiVersion", json!("admission.k8s.io/v1beta1")),
        expect![[
            r#"the request is "admission.k8s.io/v1beta1 AdmissionReview", not an AdmissionReview of admission.k8s.io/v1"#
        ]],
    );
    check(&edited("/request", Value::Null), expect!["the review has no request, or one without uid"]);
    check(&edited("/request/uid", json!("")), expect!["the review has no request, or one without uid"]);
    check(&edited("/request/uid", json!(["hidden"])), expect!["the request is no review in JSON (line 1, column 594)"]);
    check(
        &edited("/request/operation", json!("STEAL")),
        expect![[r#"the request is to "STEAL", which is no operation"#]],
    );
}

/// Whatever comes, it is an answer or an error, and never the end of the program.
#[test]
fn mutated_bytes_do_no_harm() {
    let mut rng = kit::Rng::new(1);
    let reviews = [
        review_of("CREATE", &pool("a", "192.0.2.0/24")).to_string(),
        review_of("DELETE", &object(Kind::BFDProfile, "a", json!({}))).to_string(),
        json!({"apiVersion": "apiextensions.k8s.io/v1", "kind": "ConversionReview", "request": {"uid": "u1",
            "desiredAPIVersion": "metallb.io/v1beta1", "objects": [object(Kind::BGPPeer, "a", json!({"vrf": "x"}))]}})
        .to_string(),
    ];
    let mut reviewer = reviewer(&[]);
    let (mut answers, mut errors) = (0, 0);
    for _ in 0..20_000 {
        let mut bytes = rng.pick(&reviews).unwrap().clone().into_bytes();
        for _ in 0..=rng.below(3) {
            let at = rng.index(bytes.len());
            match rng.below(20) {
                0 => bytes.truncate(at.max(1)),
                1..6 => bytes[at] = u8::try_from(rng.below(256)).unwrap(),
                6..10 if bytes.len() > 1 => drop(bytes.remove(at)),
                // Another letter or digit in its place makes another text, and not nonsense.
                _ if bytes[at].is_ascii_alphanumeric() => bytes[at] = *rng.pick(b"abnx017").unwrap(),
                _ => {}
            }
        }
        let converted = webhook::convert(&bytes).is_ok();
        match Question::read(&bytes) {
            Ok(question) => {
                reviewer.answer(NOW, &question);
                answers += 1;
            }
            Err(_) if converted => answers += 1,
            Err(_) => errors += 1,
        }
    }
    assert!(answers > 100 && errors > 100, "{answers} answers, {errors} errors");
}
