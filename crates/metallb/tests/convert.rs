//! `metallb convert` as people run it (contract 1, legacy).

#![allow(clippy::panic, clippy::unwrap_used, clippy::needless_raw_string_hashes)]

use std::io::Write;
use std::process::{Command, Output, Stdio};

use expect_test::{Expect, expect};

/// Every field that there was.
const ALL: &str = "apiVersion: v1
kind: ConfigMap
metadata:
  namespace: lb
  name: config
data:
  config: |
    peers:
    - my-asn: 64512
      peer-asn: 64500
      peer-address: 10.0.0.254
      source-address: 10.0.0.1
      peer-port: 1179
      hold-time: 30s
      keepalive-time: 10s
      router-id: 10.0.0.1
      node-selectors:
      - match-labels:
          rack: a
        match-expressions:
        - key: kubernetes.io/hostname
          operator: In
          values: [n1, n2]
      - match-labels: {rack: b}
      password: s3cret
      bfd-profile: Fast
      ebgp-multihop: true
    - my-asn: 64512
      peer-asn: 64501
      peer-address: 10.0.0.253
    bgp-communities:
      no-export: 65535:65281
      customer: \"64512:100\"
    address-pools:
    - name: default
      protocol: layer2
      addresses:
      - 192.0.2.0/28
      - 198.51.100.10-198.51.100.20
    - name: routed
      protocol: bgp
      addresses: [203.0.113.0/24, \"2001:db8::/64\"]
      auto-assign: false
      avoid-buggy-ips: true
      bgp-advertisements:
      - aggregation-length: 32
        aggregation-length-v6: 128
        localpref: 100
        communities: [no-export, \"64512:1\"]
      - aggregation-length: 24
    - name: plain
      protocol: bgp
      addresses: [198.18.0.0/24]
    bfd-profiles:
    - name: Fast
      receive-interval: 100
      transmit-interval: 150
      detect-multiplier: 4
      echo-interval: 60
      echo-mode: false
      passive-mode: false
      minimum-ttl: 250
";

fn metallb(arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_metallb"))
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
    child.wait_with_output().unwrap()
}

fn text(bytes: &[u8]) -> &str {
    std::str::from_utf8(bytes).unwrap()
}

fn check(input: &str, status: i32, expected: &Expect) {
    let output = metallb(&["convert", "-"], input);
    assert_eq!(output.status.code(), Some(status), "{}", text(&output.stderr));
    expected.assert_eq(&format!("{}{}", text(&output.stdout), text(&output.stderr)));
}

#[test]
fn every_field_there_was_is_taken_over() {
    check(
        ALL,
        0,
        &expect![[r#"
            ---
            apiVersion: metallb.io/v1beta1
            kind: BFDProfile
            metadata:
              name: fast
              namespace: lb
            spec:
              detectMultiplier: 4
              echoInterval: 60
              echoMode: false
              minimumTtl: 250
              passiveMode: false
              receiveInterval: 100
              transmitInterval: 150
            ---
            apiVersion: metallb.io/v1beta2
            kind: BGPPeer
            metadata:
              name: peer1
              namespace: lb
            spec:
              bfdProfile: fast
              ebgpMultiHop: true
              holdTime: 30s
              keepaliveTime: 10s
              myASN: 64512
              nodeSelectors:
              - matchExpressions:
                - key: kubernetes.io/hostname
                  operator: In
                  values:
                  - n1
                  - n2
                matchLabels:
                  rack: a
              - matchLabels:
                  rack: b
              password: s3cret
              peerASN: 64500
              peerAddress: "10.0.0.254"
              peerPort: 1179
              routerID: "10.0.0.1"
              sourceAddress: "10.0.0.1"
            ---
            apiVersion: metallb.io/v1beta2
            kind: BGPPeer
            metadata:
              name: peer2
              namespace: lb
            spec:
              myASN: 64512
              peerASN: 64501
              peerAddress: "10.0.0.253"
            ---
            apiVersion: metallb.io/v1beta1
            kind: IPAddressPool
            metadata:
              name: default
              namespace: lb
            spec:
              addresses:
              - 192.0.2.0/28
              - 198.51.100.10-198.51.100.20
            ---
            apiVersion: metallb.io/v1beta1
            kind: L2Advertisement
            metadata:
              name: l2advertisement1
              namespace: lb
            spec:
              ipAddressPools:
              - default
            ---
            apiVersion: metallb.io/v1beta1
            kind: IPAddressPool
            metadata:
              name: routed
              namespace: lb
            spec:
              addresses:
              - 203.0.113.0/24
              - 2001:db8::/64
              autoAssign: false
              avoidBuggyIPs: true
            ---
            apiVersion: metallb.io/v1beta1
            kind: BGPAdvertisement
            metadata:
              name: bgpadvertisement1
              namespace: lb
            spec:
              aggregationLength: 32
              aggregationLengthV6: 128
              communities:
              - no-export
              - "64512:1"
              ipAddressPools:
              - routed
              localPref: 100
            ---
            apiVersion: metallb.io/v1beta1
            kind: BGPAdvertisement
            metadata:
              name: bgpadvertisement2
              namespace: lb
            spec:
              aggregationLength: 24
              ipAddressPools:
              - routed
            ---
            apiVersion: metallb.io/v1beta1
            kind: IPAddressPool
            metadata:
              name: plain
              namespace: lb
            spec:
              addresses:
              - 198.18.0.0/24
            ---
            apiVersion: metallb.io/v1beta1
            kind: BGPAdvertisement
            metadata:
              name: bgpadvertisement3
              namespace: lb
            spec:
              ipAddressPools:
              - plain
            ---
            apiVersion: metallb.io/v1beta1
            kind: Community
            metadata:
              name: communities
              namespace: lb
            spec:
              communities:
              - name: customer
                value: 64512:100
              - name: no-export
                value: 65535:65281
            stdin:55:13: warning: "Fast" is no name that Kubernetes allows; it becomes "fast"
            11 objects; check them with `metallb lint`
        "#]],
    );
}

#[test]
fn the_linter_finds_nothing_wrong_with_it() {
    let converted = metallb(&["convert", "-"], ALL);
    let linted = metallb(&["lint", "--namespace", "lb", "-"], text(&converted.stdout));
    assert_eq!(linted.status.code(), Some(0), "{}{}", text(&linted.stdout), text(&linted.stderr));
}

#[test]
fn the_configuration_may_come_without_its_config_map_and_into_another_namespace() {
    let input = "address-pools:\n- {name: a, protocol: layer2, addresses: [10.0.0.0/24]}\n";
    let of = |arguments: &[&str]| text(&metallb(arguments, input).stdout).to_owned();
    assert_eq!(of(&["convert", "-"]).matches("namespace: metallb-system").count(), 2);
    assert_eq!(of(&["convert", "--namespace", "lb", "-"]).matches("namespace: lb").count(), 2);
}

#[test]
fn what_is_wrong_is_told_with_its_place_and_nothing_is_printed() {
    check(
        "apiVersion: v1
kind: ConfigMap
data:
  config: |
    address-pools:
    - name: My Pool
      protocol: arp
      addreses: [10.0.0.0/24]
    peers:
    - my-asn: '64512'
      peer-address: 10.0.0.1
      password: [s3cret]
",
        1,
        &expect![[r#"
            stdin:6:7: error: an address pool needs "addresses"
            stdin:6:13: warning: "My Pool" is no name that Kubernetes allows; it becomes "my-pool"
            hint: change the annotation metallb.io/address-pool of Services that ask for it
            stdin:7:17: error: the protocol is neither layer2 nor bgp
            stdin:8:7: error: unknown field "addreses"
            hint: did you mean "addresses"?
            stdin:10:7: error: a peer needs "peer-asn"
            stdin:10:15: error: this has to be a number
            stdin:12:7: error: this has to be a text
            6 of these are errors: nothing was converted
        "#]],
    );
}

#[test]
fn what_is_no_configuration_is_told() {
    for (input, expected) in [
        (
            "",
            expect![[r"
            stdin:1:1: error: there is nothing in it
            1 of these are errors: nothing was converted
        "]],
        ),
        (
            "kind: Deployment\n",
            expect![[r"
            stdin:1:1: error: this is no configuration of MetalLB
            hint: expected a ConfigMap, or the fields address-pools, peers, bgp-communities and bfd-profiles
            1 of these are errors: nothing was converted
        "]],
        ),
        (
            "kind: ConfigMap\ndata: {conf: x}\n",
            expect![[r"
            stdin:2:1: error: the ConfigMap has no key config
            hint: the configuration is a text under the key config of its data
            1 of these are errors: nothing was converted
        "]],
        ),
        (
            "kind: ConfigMap\ndata:\n  config: |\n    peers:\n    - a: [\n",
            expect![[r"
                stdin:5:10: error: unclosed bracket '['
                1 of these are errors: nothing was converted
            "]],
        ),
        (
            "kind: ConfigMap\ndata: {config: 'peers: 1'}\n",
            expect![[r"
            stdin:2:8: error: this has to be a list
            1 of these are errors: nothing was converted
        "]],
        ),
        (
            "peers: [\n",
            expect![[r"
            stdin:1:8: error: unclosed bracket '['
            1 of these are errors: nothing was converted
        "]],
        ),
    ] {
        check(input, 1, &expected);
    }
    let output = metallb(&["convert", "no-such-file"], "");
    assert_eq!(output.status.code(), Some(2));
    assert!(text(&output.stderr).starts_with("metallb convert: cannot read no-such-file: "), "{output:?}");
}

#[test]
fn the_help_has_examples() {
    let output = metallb(&["convert", "--help"], "");
    assert!(text(&output.stdout).contains("kubectl get configmap"), "{}", text(&output.stdout));
}
