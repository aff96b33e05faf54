//! What sets of objects come to (contract section 4 and 13.3). One rule a file, accepted and refused, is shown under
//! `crates/metallb/tests/lint`; here are scopes, vectors, whole configurations and properties.

#![allow(
    clippy::needless_raw_string_hashes,
    clippy::arithmetic_side_effects,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used
)]

use api::{Document, Kind, Object};
use config::{Change, Finding, Objects, Scope, review, validate};
use expect_test::{Expect, expect};
use kit::{AddrRange, MacAlgorithm, MasterKeyTuple, MasterKeys, Secret, TcpAuthentication};
use proptest::prelude::*;
use serde_json::{Value, json};

/// Reads objects, one a line: `Kind [namespace/]name [label=value,...] SPEC`, where SPEC is JSON. For kinds without a spec
/// it is the other fields of the object.
fn objects(text: &str) -> Vec<Object> {
    text.lines().map(str::trim).filter(|line| !line.is_empty()).map(object).collect()
}

fn object(line: &str) -> Object {
    let (head, body) = line.find('{').map_or((line, "{}"), |at| line.split_at(at));
    let mut words = head.split_whitespace();
    let (name, key) = (words.next().unwrap(), words.next().unwrap());
    let kind = Kind::ALL.iter().copied().find(|kind| kind.name() == name).unwrap();
    let (namespace, name) = key.split_once('/').unwrap_or(("", key));
    let labels: Value = words.flat_map(|word| word.split(',')).filter_map(|pair| pair.split_once('=')).collect();
    let body: Value = serde_json::from_str(body).unwrap_or_else(|error| panic!("{line}: {error}"));
    let mut value = if kind.is_ours() { json!({"spec": body}) } else { body };
    value["apiVersion"] = json!(kind.api_version());
    value["kind"] = json!(kind.name());
    value["metadata"] = json!({"name": name, "namespace": namespace, "labels": labels});
    match api::read(&value) {
        Document::Object(read) => read.object,
        other => panic!("{line}: {other:?}"),
    }
}

fn set(text: &str) -> Objects {
    let mut set = Objects::new();
    for object in objects(text) {
        set.insert(object);
    }
    set
}

fn describe(findings: &[Finding]) -> String {
    let line = |finding: &Finding| {
        let Finding { code, severity, transient, pointer, .. } = finding;
        let transient = if *transient { ", transient" } else { "" };
        format!("{}[{code}{transient}] {pointer} of {finding}", severity.as_str())
    };
    findings.iter().map(line).collect::<Vec<_>>().join("\n")
}

fn judge(text: &str, scope: Scope<'_>) -> String {
    match validate(&set(text), scope, Some("metallb-system")) {
        Ok(accepted) if accepted.warnings.is_empty() => "accepted".to_owned(),
        Ok(accepted) => format!("accepted\n{}", describe(&accepted.warnings)),
        Err(refused) => format!("refused\n{}", describe(&refused.findings)),
    }
}

fn check(text: &str, scope: Scope<'_>, expected: Expect) {
    expected.assert_eq(&judge(text, scope));
}

const SPEAKER: Scope<'static> = Scope::Speaker { node: "one" };

const TWO_PREFERENCES: &str = r#"
    IPAddressPool web {"addresses": ["198.51.100.0/24"]}
    BGPAdvertisement a {"localPref": 1}
    BGPAdvertisement b {"localPref": 2}
"#;

#[test]
fn contract_13_3_local_preferences() {
    check(
        &format!("{TWO_PREFERENCES}\nNode one"),
        SPEAKER,
        expect![[r#"
        refused
        error[local-pref-clash] /spec/localPref of BGPAdvertisement b: invalid local preference 2: BGPAdvertisement "a" announces pool "web" to the same peer from the same node with 1"#]],
    );
    check(TWO_PREFERENCES, Scope::Everything, expect!["accepted"]);
    let other_length = TWO_PREFERENCES.replace(r#""localPref": 2"#, r#""localPref": 2, "aggregationLength": 24"#);
    check(&format!("{other_length}\nNode one"), SPEAKER, expect!["accepted"]);
}

#[test]
fn contract_4_2_rule_33_a_pool_of_both_families_clashes_unless_both_lengths_differ() {
    let pool = r#"IPAddressPool web {"addresses": ["198.51.100.0/24", "2001:db8::/64"]}"#;
    let a = r#"BGPAdvertisement a {"localPref": 1}"#;
    let is_refused = |b: &str| judge(&format!("Node one\n{pool}\n{a}\n{b}"), SPEAKER).starts_with("refused");
    assert!(is_refused(r#"BGPAdvertisement b {"localPref": 2, "aggregationLength": 24}"#));
    assert!(is_refused(r#"BGPAdvertisement b {"localPref": 2, "aggregationLengthV6": 64}"#));
    assert!(!is_refused(r#"BGPAdvertisement b {"localPref": 2, "aggregationLength": 24, "aggregationLengthV6": 64}"#));
    assert!(!is_refused(r#"BGPAdvertisement b {"localPref": 1}"#));
    assert!(!is_refused(r#"BGPAdvertisement b {"localPref": 2, "serviceSelectors": [{"matchLabels": {"a": "b"}}]}"#));
    assert!(!is_refused(r#"BGPAdvertisement b {"localPref": 2, "nodeSelectors": [{"matchLabels": {"a": "b"}}]}"#));
}

#[test]
fn contract_4_2_rule_33_other_peers_do_not_clash() {
    let text = |peers: &str| {
        format!(
            r#"
            Node one
            IPAddressPool web {{"addresses": ["198.51.100.0/24"]}}
            BGPAdvertisement a {{"localPref": 1, "peers": ["x", "y"]}}
            BGPAdvertisement b {{"localPref": 2, "peers": {peers}}}
            "#
        )
    };
    assert!(judge(&text(r#"["z"]"#), SPEAKER).starts_with("accepted"));
    assert!(judge(&text(r#"["y"]"#), SPEAKER).starts_with("refused"));
    assert!(judge(&text("[]"), SPEAKER).starts_with("refused"));
}

#[test]
fn contract_13_3_aggregation_of_a_range() {
    let text = |length: u8| {
        format!(
            r#"
            IPAddressPool web {{"addresses": ["1.2.3.10-1.2.3.20"]}}
            BGPAdvertisement all {{"aggregationLength": {length}}}
            "#
        )
    };
    check(
        &text(29),
        Scope::Everything,
        expect![[r#"
        refused
        error[aggregation-too-short] /spec/aggregationLength of BGPAdvertisement all: invalid aggregation length 29: prefix 30 in this pool is more specific than the aggregation length for addresses 1.2.3.10-1.2.3.20 (pool "web")"#]],
    );
    check(&text(30), Scope::Everything, expect!["accepted"]);
}

#[test]
fn contract_13_3_two_peers_with_one_address() {
    let peer = |name: &str, rack: &str| {
        format!(
            r#"BGPPeer {name} {{"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1",
            "nodeSelectors": [{{"matchLabels": {{"rack": "{rack}"}}}}]}}"#
        )
        .replace('\n', " ")
    };
    let same = format!("{}\n{}", peer("a", "1"), peer("b", "1"));
    let apart = format!("{}\n{}", peer("a", "1"), peer("b", "2"));
    check(
        &same,
        Scope::Everything,
        expect![[r#"
        refused
        error[peer-clash] /spec/peerAddress of BGPPeer b: a peer with address 192.0.2.1 already exists: BGPPeer "a" can run on the same node"#]],
    );
    check(
        &apart,
        Scope::Everything,
        expect![[r#"
        refused
        error[peer-clash] /spec/peerAddress of BGPPeer b: a peer with address 192.0.2.1 already exists: BGPPeer "a" can run on the same node"#]],
    );
    check(&format!("{apart}\nNode one rack=1\nNode two rack=2"), Scope::Everything, expect!["accepted"]);
    // A speaker sees only what selects its node.
    check(&format!("{apart}\nNode one rack=1"), SPEAKER, expect!["accepted"]);
    check(
        &format!("{same}\nNode one rack=1\nNode two"),
        SPEAKER,
        expect![[r#"
        refused
        error[peer-clash] /spec/peerAddress of BGPPeer b: a peer with address 192.0.2.1 already exists: BGPPeer "a" can run on the same node"#]],
    );
    check(&format!("{same}\nNode one rack=1\nNode two"), Scope::Speaker { node: "two" }, expect!["accepted"]);
}

#[test]
fn contract_13_3_hold_times() {
    let verdict = |timers: &str| {
        let peer = format!(r#"BGPPeer a {{"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", {timers}}}"#);
        judge(&peer, SPEAKER).lines().next().unwrap().to_owned()
    };
    assert_eq!(verdict(r#""holdTime": "2s""#), "refused");
    assert_eq!(verdict(r#""holdTime": "0s", "keepaliveTime": "1s""#), "refused");
    assert_eq!(verdict(r#""holdTime": "0.5s""#), "accepted");
    // Upstream accepts it, because it wraps (D21).
    assert_eq!(verdict(r#""holdTime": "90000s""#), "refused");
    assert_eq!(verdict(r#""holdTime": "0s", "keepaliveTime": "0s""#), "accepted");
}

#[test]
fn contract_13_3_unknown_pools_are_no_error() {
    check(
        r#"L2Advertisement all {"ipAddressPools": ["nobody"]}"#,
        SPEAKER,
        expect![[r#"
        accepted
        warning[unknown-name, transient] /spec/ipAddressPools/0 of L2Advertisement all: there is no IPAddressPool "nobody""#]],
    );
}

#[test]
fn contract_13_3_a_pool_by_name_and_by_label_is_attached_once() {
    let text = r#"
        IPAddressPool web tier=a {"addresses": ["198.51.100.0/24"]}
        BGPAdvertisement all {"ipAddressPools": ["web"], "ipAddressPoolSelectors": [{"matchLabels": {"tier": "a"}}]}
    "#;
    let accepted = validate(&set(text), SPEAKER, None).unwrap();
    assert_eq!(accepted.config.pools["web"].bgp_advertisements.len(), 1);
}

#[test]
fn contract_1_9_each_judges_what_it_consumes() {
    let text = r#"
        IPAddressPool web {"addresses": ["198.51.100.0/24"]}
        L2Advertisement all {"nodeSelectors": [{"matchLabels": {"a": "?"}}]}
        BGPPeer here {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "bfdProfile": "fast"}
        BGPPeer there {"myASN": 0, "nodeSelectors": [{"matchLabels": {"rack": "b"}}]}
        BGPAdvertisement there {"communities": ["gold"], "nodeSelectors": [{"matchLabels": {"rack": "b"}}]}
        BGPAdvertisement broken {"nodeSelectors": [{"matchLabels": {"rack": "?"}}]}
        Node one rack=a
        Node two rack=b
    "#;
    check(text, Scope::Controller, expect!["accepted"]);
    check(
        text,
        SPEAKER,
        expect![[r#"
        refused
        error[bfd-profile-missing, transient] /spec/bfdProfile of BGPPeer here: peer "here" referencing non existing bfd profile "fast"
        error[invalid-selector] /spec/nodeSelectors/0/matchLabels/rack of BGPAdvertisement broken: invalid selector: "?" cannot be the value of a label
        error[invalid-selector] /spec/nodeSelectors/0/matchLabels/a of L2Advertisement all: invalid selector: "?" cannot be the value of a label"#]],
    );
    check(
        text,
        Scope::Speaker { node: "two" },
        expect![[r#"
            refused
            error[bfd-profile-missing, transient] /spec/bfdProfile of BGPPeer here: peer "here" referencing non existing bfd profile "fast"
            error[my-asn] /spec/myASN of BGPPeer there: missing local ASN
            error[peer-asn] /spec/peerASN of BGPPeer there: missing peer ASN and dynamicASN
            error[peer-endpoint] /spec/peerAddress of BGPPeer there: peer has no Address or Interface specified
            error[invalid-selector] /spec/nodeSelectors/0/matchLabels/rack of BGPAdvertisement broken: invalid selector: "?" cannot be the value of a label
            error[unknown-community, transient] /spec/communities/0 of BGPAdvertisement there: invalid community "gold" in BGP advertisement: no Community defines this name
            error[invalid-selector] /spec/nodeSelectors/0/matchLabels/a of L2Advertisement all: invalid selector: "?" cannot be the value of a label"#]],
    );
    // A node that is not known yet has no labels.
    check(
        text,
        Scope::Speaker { node: "three" },
        expect![[r#"
        refused
        error[bfd-profile-missing, transient] /spec/bfdProfile of BGPPeer here: peer "here" referencing non existing bfd profile "fast"
        error[invalid-selector] /spec/nodeSelectors/0/matchLabels/rack of BGPAdvertisement broken: invalid selector: "?" cannot be the value of a label
        error[invalid-selector] /spec/nodeSelectors/0/matchLabels/a of L2Advertisement all: invalid selector: "?" cannot be the value of a label"#]],
    );
}

#[test]
fn e2e_a_secret_of_the_wrong_type_concerns_the_nodes_of_its_peer() {
    let text = r#"
        BGPPeer metallb-system/a {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "passwordSecret": {"name": "s"}, "nodeSelectors": [{"matchLabels": {"rack": "a"}}]}
        Secret metallb-system/s {"type": "Opaque", "data": {"password": "aHVudGVyMg=="}}
        Secret elsewhere/t {"type": "kubernetes.io/basic-auth", "data": {"password": "aHVudGVyMg=="}}
        Node one rack=a
        Node two rack=b
    "#;
    check(
        text,
        SPEAKER,
        expect![[r#"
        refused
        error[secret-type] /spec/passwordSecret of BGPPeer metallb-system/a: secret type mismatch: Secret "s" is not of type kubernetes.io/basic-auth"#]],
    );
    check(text, Scope::Speaker { node: "two" }, expect!["accepted"]);
    check(
        &text.replace(r#""name": "s""#, r#""name": "t""#),
        SPEAKER,
        expect![[r#"
        refused
        error[secret-missing, transient] /spec/passwordSecret of BGPPeer metallb-system/a: secret ref not found: there is no Secret "t" in namespace "metallb-system""#]],
    );
}

#[test]
fn d23_the_order_in_which_pool_and_advertisement_come_does_not_matter() {
    let pool = r#"IPAddressPool web {"addresses": ["198.51.100.0/24"]}"#;
    let advertisement = r#"BGPAdvertisement all {"aggregationLength": 20}"#;
    for (first, second) in [(pool, advertisement), (advertisement, pool)] {
        let review = review(&set(first), &Change::Create(Box::new(object(second))), "metallb-system");
        assert_eq!(review.refusals.len(), 1, "{second}");
        assert!(review.refusals[0].message.contains("invalid aggregation length 20: prefix 24"));
    }
}

#[test]
fn contract_4_3_raw_frr_configuration_is_told_and_not_ignored() {
    let text = r#"ConfigMap metallb-system/bgpextras {"data": {"extras": "router bgp 64512\n"}}"#;
    check(
        text,
        SPEAKER,
        expect![[r#"
        accepted
        warning[bgp-extras] /data/extras of ConfigMap metallb-system/bgpextras: raw FRR configuration cannot be honoured: BGP is spoken without FRR"#]],
    );
    check(text, Scope::Controller, expect!["accepted"]);
    check(r#"ConfigMap metallb-system/bgpextras {"data": {"extras": "\n"}}"#, SPEAKER, expect!["accepted"]);
    check(r#"ConfigMap metallb-system/other {"data": {"extras": "x"}}"#, SPEAKER, expect!["accepted"]);
}

#[test]
fn a_refusal_lists_its_errors_and_counts_those_it_leaves_out() {
    let pools: String = (0..12).map(|n| format!("IPAddressPool p{n:02} {{\"addresses\": []}}\n")).collect();
    let refused = validate(&set(&pools), Scope::Controller, None).unwrap_err();
    let text = refused.to_string();
    assert!(text.starts_with("IPAddressPool p00: pool has no prefixes defined; IPAddressPool p01: "), "{text}");
    assert!(text.ends_with("IPAddressPool p09: pool has no prefixes defined; and 2 more"), "{text}");
}

#[test]
fn a_whole_configuration() {
    let text = r#"
        IPAddressPool web tier=a {"addresses": ["198.51.100.5/24", "2001:db8::1-2001:db8::3"], "autoAssign": false, "avoidBuggyIPs": true, "serviceAllocation": {"priority": 7, "namespaces": ["shop"], "namespaceSelectors": [{"matchLabels": {"tenant": "red"}}]}}
        IPAddressPool plain {"addresses": ["203.0.113.0/24"]}
        L2Advertisement l2 {"ipAddressPools": ["plain"], "interfaces": ["eth1", "eth0"], "preferredNodeSelectors": [{"weight": 50, "preference": {"matchLabels": {"rack": "a"}}}]}
        BGPAdvertisement bgp {"ipAddressPoolSelectors": [{"matchLabels": {"tier": "a"}}], "aggregationLengthV6": 127, "localPref": 300, "communities": ["gold", "large:1:2:3"], "peers": ["tor"]}
        Community names {"communities": [{"name": "gold", "value": "65000:100"}]}
        BFDProfile fast {"receiveInterval": 100, "detectMultiplier": 5, "echoMode": false, "minimumTtl": 10}
        BGPPeer tor {"myASN": 64512, "peerASN": 64512, "peerAddress": "::ffff:192.0.2.1", "sourceAddress": "192.0.2.2", "holdTime": "1m30.7s", "keepaliveTime": "30.2s", "connectTime": "5s", "routerID": "10.0.0.1", "passwordSecret": {"name": "s"}, "bfdProfile": "fast", "vrf": "blue", "enableGracefulRestart": true, "dualStackAddressFamily": true, "peerPort": 1179}
        BGPPeer other {"myASN": 4200000000, "dynamicASN": "external", "localASN": 64513, "interface": "eth1", "peerAddress": "", "ebgpMultiHop": true, "password": "hunter2", "peerPort": 0, "keepaliveTime": "3s"}
        Secret s {"type": "kubernetes.io/basic-auth", "stringData": {"password": "hunter2"}}
    "#;
    let accepted = validate(&set(text), SPEAKER, None).unwrap();
    let shown = format!("{:#?}", accepted.config).replace("    ", " ");
    assert!(!shown.contains("hunter2"));
    expect![[r#"
        Config {
         pools: {
          "plain": Pool {
           name: "plain",
           ranges: [
            203.0.113.0-203.0.113.255,
           ],
           auto_assign: true,
           avoid_buggy_ips: false,
           allocation: None,
           l2_advertisements: {
            "l2": L2Advertisement {
             name: "l2",
             interfaces: {
              "eth0",
              "eth1",
             },
             node_selectors: SelectorList(
              [],
             ),
             service_selectors: SelectorList(
              [],
             ),
             preferences: [
              Preference {
               weight: 50,
               selector: Selector(
                {
                 In(
                  "rack",
                  {
                   "a",
                  },
                 ),
                },
               ),
              },
             ],
             owner_selection: Hash,
            },
           },
           bgp_advertisements: {},
          },
          "web": Pool {
           name: "web",
           ranges: [
            198.51.100.0-198.51.100.255,
            2001:db8::1-2001:db8::3,
           ],
           auto_assign: false,
           avoid_buggy_ips: true,
           allocation: Some(
            ServiceAllocation {
             priority: Some(
              7,
             ),
             namespaces: {
              "shop",
             },
             namespace_selectors: SelectorList(
              [
               Selector(
                {
                 In(
                  "tenant",
                  {
                   "red",
                  },
                 ),
                },
               ),
              ],
             ),
             service_selectors: SelectorList(
              [],
             ),
            },
           ),
           l2_advertisements: {},
           bgp_advertisements: {
            "bgp": BgpAdvertisement {
             name: "bgp",
             aggregation_length: 32,
             aggregation_length_v6: 127,
             local_pref: Some(
              300,
             ),
             med: None,
             as_path_prepend: 0,
             communities: {
              65000:100,
              large:1:2:3,
             },
             extended_communities: {},
             node_selectors: SelectorList(
              [],
             ),
             peers: {
              "tor",
             },
             service_selectors: SelectorList(
              [],
             ),
            },
           },
          },
         },
         peers: {
          "other": Peer {
           name: "other",
           my_asn: Asn(
            4200000000,
           ),
           local_asn: Some(
            Asn(
             64513,
            ),
           ),
           remote_as: External,
           endpoint: Interface(
            "eth1",
           ),
           port: 179,
           connection_mode: Active,
           source_address: None,
           hold_time: Some(
            HoldTime(
             9,
            ),
           ),
           keepalive_time: Some(
            3s,
           ),
           connect_time: None,
           router_id: None,
           node_selectors: SelectorList(
            [],
           ),
           authentication: Some(
            Password(
             ***,
            ),
           ),
           bfd: None,
           graceful_restart: None,
           ebgp_multi_hop: true,
           ttl_security_hops: None,
           vrf: None,
           dual_stack_address_family: false,
          },
          "tor": Peer {
           name: "tor",
           my_asn: Asn(
            64512,
           ),
           local_asn: None,
           remote_as: Exactly(
            Asn(
             64512,
            ),
           ),
           endpoint: Address(
            192.0.2.1,
           ),
           port: 1179,
           connection_mode: Active,
           source_address: Some(
            192.0.2.2,
           ),
           hold_time: Some(
            HoldTime(
             90,
            ),
           ),
           keepalive_time: Some(
            30s,
           ),
           connect_time: Some(
            5s,
           ),
           router_id: Some(
            RouterId(
             167772161,
            ),
           ),
           node_selectors: SelectorList(
            [],
           ),
           authentication: Some(
            Password(
             ***,
            ),
           ),
           bfd: Some(
            PeerBfd {
             name: "fast",
             profile: BfdProfile {
              receive_interval: Some(
               100ms,
              ),
              transmit_interval: None,
              detect_multiplier: Some(
               5,
              ),
              echo_interval: None,
              echo_mode: false,
              passive_mode: false,
              minimum_ttl: Some(
               10,
              ),
             },
            },
           ),
           graceful_restart: Some(
            GracefulRestart {
             time: 120s,
             notification: false,
            },
           ),
           ebgp_multi_hop: false,
           ttl_security_hops: None,
           vrf: Some(
            "blue",
           ),
           dual_stack_address_family: true,
          },
         },
         bfd_profiles: {
          "fast": BfdProfile {
           receive_interval: Some(
            100ms,
           ),
           transmit_interval: None,
           detect_multiplier: Some(
            5,
           ),
           echo_interval: None,
           echo_mode: false,
           passive_mode: false,
           minimum_ttl: Some(
            10,
           ),
          },
         },
        }"#]]
    .assert_eq(&shown);
    let password = TcpAuthentication::Password(Secret::new("hunter2"));
    assert_eq!(accepted.config.peers["tor"].authentication, Some(password));
    assert_eq!(describe(&accepted.warnings), "");
}

#[test]
fn rfc5925_keys_come_from_secrets_in_their_order() {
    let peer = r#"
        BGPPeer metallb-system/tor {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "tcpAuthenticationKeys": [
            {"sendID": 0, "receiveID": 255, "algorithm": "aes-128-cmac-96", "secretName": "new"},
            {"sendID": 255, "receiveID": 0, "algorithm": "hmac-sha-1-96", "secretName": "old"}]}
    "#
    .replace("\n            {", " {");
    let secrets = r#"
        Secret metallb-system/old {"type": "kubernetes.io/basic-auth", "data": {"password": "aHVudGVyMg=="}}
        Secret metallb-system/new {"type": "kubernetes.io/basic-auth", "stringData": {"password": "hunter3"}}
    "#;
    let accepted = validate(&set(&format!("{peer}{secrets}")), SPEAKER, Some("metallb-system")).unwrap();
    let key = |send_id, receive_id, algorithm, text| MasterKeyTuple {
        send_id,
        receive_id,
        algorithm,
        key: Secret::new(text),
    };
    let keys = MasterKeys::new(vec![
        key(0, 255, MacAlgorithm::Aes128Cmac, "hunter3"),
        key(255, 0, MacAlgorithm::HmacSha1, "hunter2"),
    ]);
    assert_eq!(accepted.config.peers["tor"].authentication, keys.map(TcpAuthentication::Keys));
    assert!(!format!("{accepted:?}").contains("hunter"), "{accepted:?}");
    // Without a Secret there is no peer without keys: the configuration is refused.
    check(
        &peer,
        SPEAKER,
        expect![[r#"
        refused
        error[secret-missing, transient] /spec/tcpAuthenticationKeys/0/secretName of BGPPeer metallb-system/tor: secret ref not found: there is no Secret "new" in namespace "metallb-system"
        error[secret-missing, transient] /spec/tcpAuthenticationKeys/1/secretName of BGPPeer metallb-system/tor: secret ref not found: there is no Secret "old" in namespace "metallb-system""#]],
    );
}

#[test]
fn admission_refuses_what_a_change_makes_wrong_and_nothing_else() {
    let broken = r#"
        IPAddressPool metallb-system/old {"addresses": ["198.51.100.0/24", "198.51.100.1/32"]}
        BGPPeer metallb-system/tor {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.1", "bfdProfile": "fast"}
        BFDProfile metallb-system/fast {}
        BFDProfile metallb-system/slow {}
    "#;
    let check = |change: Change, expected: Expect| {
        let review = review(&set(broken), &change, "metallb-system");
        let warnings = if review.warnings.is_empty() { "" } else { "\nwarnings\n" };
        expected.assert_eq(&format!("{}{warnings}{}", describe(&review.refusals), describe(&review.warnings)));
    };
    let create = |line: &str| Change::Create(Box::new(object(line)));
    // Rule 1.
    check(
        create(r#"IPAddressPool default/new {"addresses": ["203.0.113.0/24"]}"#),
        expect![
            "error[wrong-namespace] /metadata/namespace of IPAddressPool default/new: resource must be created in metallb-system namespace"
        ],
    );
    // R18: as well when it changes.
    check(
        Change::Update(Box::new(object(r#"IPAddressPool default/new {"addresses": ["203.0.113.0/24"]}"#))),
        expect![
            "error[wrong-namespace] /metadata/namespace of IPAddressPool default/new: resource must be created in metallb-system namespace"
        ],
    );
    // The object that is broken already is none of this one's business.
    check(create(r#"IPAddressPool metallb-system/new {"addresses": ["203.0.113.0/24"]}"#), expect![["

        warnings
        warning[pool-not-announced, transient]  of IPAddressPool metallb-system/new: no advertisement selects this pool: its addresses are given out, but nobody announces them"]]);
    check(
        create(r#"IPAddressPool metallb-system/new {"addresses": ["198.51.100.9/32"]}"#),
        expect![[r#"
        error[pool-overlap] /spec/addresses/0 of IPAddressPool metallb-system/old: CIDR "198.51.100.0/24" in pool "old" overlaps with already defined CIDR "198.51.100.9/32" in pool "new"
        warnings
        warning[pool-not-announced, transient]  of IPAddressPool metallb-system/new: no advertisement selects this pool: its addresses are given out, but nobody announces them"#]],
    );
    // What does not exist yet may come later.
    check(
        create(
            r#"BGPPeer metallb-system/new {"myASN": 1, "peerASN": 2, "peerAddress": "192.0.2.2", "bfdProfile": "later"}"#,
        ),
        expect![[r#"

            warnings
            error[bfd-profile-missing, transient] /spec/bfdProfile of BGPPeer metallb-system/new: peer "new" referencing non existing bfd profile "later""#]],
    );
    // D18: a peer with disableMP is validated like any other. D19: passwords, too.
    check(
        create(
            r#"BGPPeer metallb-system/new {"myASN": 0, "peerASN": 2, "peerAddress": "192.0.2.2", "disableMP": true, "password": "x", "passwordSecret": {"name": "y"}}"#,
        ),
        expect![["
            error[my-asn] /spec/myASN of BGPPeer metallb-system/new: missing local ASN
            error[password-twice] /spec/passwordSecret of BGPPeer metallb-system/new: can not have both password and secret ref
            warnings
            warning[disable-mp] /spec/disableMP of BGPPeer metallb-system/new: disableMP is deprecated and has no effect"]],
    );
    let repaired = r#"IPAddressPool metallb-system/old {"addresses": ["198.51.100.0/24"]}"#;
    check(Change::Update(Box::new(object(repaired))), expect![["

        warnings
        warning[pool-not-announced, transient]  of IPAddressPool metallb-system/old: no advertisement selects this pool: its addresses are given out, but nobody announces them"]]);
    // Rule 23.
    let delete = |line: &str| Change::Delete(object(line).reference());
    check(
        delete("BFDProfile metallb-system/fast {}"),
        expect![[
            r#"error[bfd-profile-in-use]  of BFDProfile metallb-system/fast: failed to delete BFDProfile "fast": BGPPeer "tor" uses it"#
        ]],
    );
    check(delete("BFDProfile metallb-system/slow {}"), expect![[""]]);
    check(delete("BGPPeer metallb-system/tor {}"), expect![[""]]);
}

#[test]
fn admission_lets_one_of_several_errors_be_repaired() {
    let pools = r#"
        IPAddressPool a {"addresses": ["198.51.100.0/24"]}
        IPAddressPool b {"addresses": ["198.51.100.0/24"]}
        IPAddressPool c {"addresses": ["198.51.100.0/24"]}
    "#;
    let repaired = object(r#"IPAddressPool a {"addresses": ["203.0.113.0/24"]}"#);
    let review = review(&set(pools), &Change::Update(Box::new(repaired)), "metallb-system");
    assert_eq!(describe(&review.refusals), "");
}

#[test]
fn only_what_validation_looks_at_counts_as_a_change() {
    let mut objects = Objects::new();
    let node = |labels: &str, ready: &str| {
        object(&format!(
            r#"Node one {labels} {{"status": {{"conditions": [{{"type": "Ready", "status": "{ready}"}}]}}}}"#
        ))
    };
    assert!(objects.insert(node("rack=a", "True")));
    assert!(!objects.insert(node("rack=a", "False")));
    assert!(objects.insert(node("rack=b", "False")));
    let pool = |status: Value| {
        let Object::IPAddressPool(mut pool) = object(r#"IPAddressPool web {"addresses": []}"#) else { panic!() };
        pool.status = serde_json::from_value(status).unwrap();
        pool.metadata.resource_version = "7".to_owned();
        Object::IPAddressPool(pool)
    };
    assert!(objects.insert(pool(json!(null))));
    assert!(!objects.insert(pool(json!({"assignedIPv4": 1}))));
    assert!(!objects.insert(object("Service web {}")));
    assert!(!objects.insert(object(r#"ConfigMap other {"data": {"extras": "x"}}"#)));
    assert!(objects.insert(object(r#"ConfigMap bgpextras {"data": {"extras": "x"}}"#)));
    assert!(objects.remove(&pool(json!(null)).reference()));
    assert!(!objects.remove(&pool(json!(null)).reference()));
}

#[test]
fn objects_in_two_namespaces_are_told_apart() {
    let text = "
        Community a/x {}
        Community b/x {}
    ";
    let refused = validate(&set(text), Scope::Everything, None).unwrap_err();
    assert_eq!(
        describe(&refused.findings),
        "error[same-name] /metadata/namespace of Community b/x: namespace \"a\" has a Community \"x\", too"
    );
    check(text, Scope::Everything, expect![["
        refused
        error[wrong-namespace] /metadata/namespace of Community a/x: resource must be created in metallb-system namespace
        error[wrong-namespace] /metadata/namespace of Community b/x: resource must be created in metallb-system namespace"]]);
}

/// Lines of objects that fit and clash in many ways.
fn some_objects() -> impl Strategy<Value = Vec<String>> {
    let name = || prop::sample::select(vec!["a", "b", "c"]);
    let pool = (name(), 0..4u8, 0..40u8, 0..40u8).prop_map(|(name, kind, low, high)| {
        let entry = match kind {
            0 => format!("10.0.0.{low}/{}", 24 + high % 9),
            1 => format!("10.0.0.{low}-10.0.0.{high}"),
            2 => format!("2001:db8::{low:x}-2001:db8::{high:x}"),
            _ => "rubbish".to_owned(),
        };
        format!(r#"IPAddressPool {name} tier={name} {{"addresses": ["{entry}", "10.1.{low}.0/28"]}}"#)
    });
    let advertisement = (name(), name(), 0..3u8, 20..33u8).prop_map(|(name, pool, preference, length)| {
        format!(
            r#"BGPAdvertisement {name} {{"ipAddressPools": ["{pool}"], "localPref": {preference}, "aggregationLength": {length}}}"#
        )
    });
    let peer = (name(), 1..3u8, 0..3u8, 0..3u8).prop_map(|(name, address, local, remote)| {
        format!(
            r#"BGPPeer {name} {{"myASN": {local}, "peerASN": {remote}, "peerAddress": "192.0.2.{address}", "bfdProfile": "a"}}"#
        )
    });
    let others = (name(), name()).prop_map(|(name, label)| match label {
        "a" => format!("Node {name} tier={label}"),
        "b" => format!(r#"BFDProfile {name} {{"echoMode": true}}"#),
        _ => format!(r#"Community {name} {{"communities": [{{"name": "x", "value": "1:2"}}]}}"#),
    });
    prop::collection::vec(prop_oneof![pool, advertisement, peer, others], 0..12)
}

proptest! {
    #[test]
    fn the_order_of_objects_never_matters(lines in some_objects(), seed in any::<u64>()) {
        // Of two objects with one name the last counts, so each name may be there once.
        let mut unique: Vec<(String, String)> = Vec::new();
        for line in lines {
            let key: String = line.split_whitespace().take(2).collect::<Vec<_>>().join(" ");
            if unique.iter().all(|(other, _)| *other != key) {
                unique.push((key, line));
            }
        }
        let ordered: Vec<&str> = unique.iter().map(|(_, line)| line.as_str()).collect();
        let mut shuffled = ordered.clone();
        let mut rng = kit::Rng::new(seed);
        for last in (1..shuffled.len()).rev() {
            shuffled.swap(last, rng.index(last + 1));
        }
        for scope in [Scope::Everything, Scope::Controller, Scope::Speaker { node: "a" }] {
            let a = validate(&set(&ordered.join("\n")), scope, None);
            let b = validate(&set(&shuffled.join("\n")), scope, None);
            prop_assert_eq!(a, b);
        }
    }

    #[test]
    fn pools_overlap_if_and_only_if_two_entries_share_an_address(lines in some_objects()) {
        let set = set(&lines.join("\n"));
        // The model: each pair of entries, of the pools as they were inserted last.
        let mut pools = std::collections::BTreeMap::new();
        for object in lines.iter().map(|line| object(line)) {
            if let Object::IPAddressPool(pool) = object {
                pools.insert(pool.metadata.name, pool.spec.addresses);
            }
        }
        let ranges: Vec<AddrRange> = pools.values().flatten().filter_map(|text| AddrRange::parse(text).ok()).collect();
        let pairs = (0..ranges.len()).flat_map(|a| (0..a).map(move |b| (a, b)));
        let expected = pairs.into_iter().any(|(a, b)| ranges[a].overlaps(&ranges[b]));
        let found = match validate(&set, Scope::Controller, None) {
            Ok(_) => false,
            Err(refused) => refused.findings.iter().any(|finding| finding.code == "pool-overlap"),
        };
        prop_assert_eq!(found, expected);
    }
}
