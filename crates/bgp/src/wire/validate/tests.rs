//! RFC 7606 case by case: attributes go in as (flags, type, value), and what is believed comes out as text.

use super::*;
use crate::wire::{HEADER_LEN, Message, decode};
use expect_test::{Expect, expect};

/// From an external peer in AS 65001, 4-byte AS numbers, both families.
const ORIGIN: (u8, u8, &[u8]) = (0x40, 1, &[0]);
const AS_PATH: (u8, u8, &[u8]) = (0x40, 2, &[2, 1, 0, 0, 0xfd, 0xe9]);
const NEXT_HOP: (u8, u8, &[u8]) = (0x40, 3, &[192, 0, 2, 1]);
const LOCAL_PREF: (u8, u8, &[u8]) = (0x40, 5, &[0, 0, 0, 100]);
const MP_REACH: (u8, u8, &[u8]) =
    (0x80, 14, &[0, 2, 1, 16, 0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 32, 0x20, 1, 0x0d, 0xb9]);
const MP_UNREACH: (u8, u8, &[u8]) = (0x80, 15, &[0, 2, 1, 32, 0x20, 1, 0x0d, 0xba]);
/// 198.51.100.0/24
const NLRI: &[u8] = &[24, 198, 51, 100];
/// 10.0.0.0/8
const WITHDRAWN: &[u8] = &[8, 10];

type Attribute<'a> = (u8, u8, &'a [u8]);

fn context() -> UpdateContext {
    UpdateContext {
        relation: Relation::External,
        remote_as: Asn::new(65001).unwrap(),
        families: Family::ALL.into(),
        extended_next_hop: false,
    }
}

fn length(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap().to_be_bytes()
}

fn attribute_bytes(attributes: &[Attribute<'_>]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for (flags, kind, value) in attributes {
        bytes.extend([*flags, *kind]);
        let length = length(value.len());
        bytes.extend(if flags & 0x10 == 0 { &length[1..] } else { &length });
        bytes.extend(*value);
    }
    bytes
}

fn message(withdrawn: &[u8], attributes: &[u8], nlri: &[u8]) -> Vec<u8> {
    let whole = HEADER_LEN + 4 + withdrawn.len() + attributes.len() + nlri.len();
    let mut bytes = vec![0xff; 16];
    bytes.extend(length(whole));
    bytes.push(2);
    bytes.extend(length(withdrawn.len()));
    bytes.extend(withdrawn);
    bytes.extend(length(attributes.len()));
    bytes.extend(attributes);
    bytes.extend(nlri);
    bytes
}

/// What is believed of a message, or why the session ends.
fn believed(message: &[u8], asn_size: AsnSize, context: &UpdateContext) -> String {
    let result = decode(message, asn_size, crate::wire::MessageLimit::Standard).and_then(|message| match message {
        Message::Update(update) => validate(&update, context),
        other => panic!("{other}"),
    });
    match result {
        Ok(valid) => valid.to_string(),
        Err(error) => format!("reset: {error}; {}\n", error.notification),
    }
}

fn check(withdrawn: &[u8], attributes: &[Attribute<'_>], nlri: &[u8], expected: Expect) {
    expected.assert_eq(&believed(&message(withdrawn, &attribute_bytes(attributes), nlri), AsnSize::Four, &context()));
}

/// The attribute under test beside all that a route needs.
fn check_attribute(attribute: Attribute<'_>, expected: Expect) {
    check(&[], &[ORIGIN, AS_PATH, NEXT_HOP, attribute], NLRI, expected);
}

fn check_internal(attributes: &[Attribute<'_>], expected: Expect) {
    let context = UpdateContext { relation: Relation::Internal, ..context() };
    expected.assert_eq(&believed(&message(&[], &attribute_bytes(attributes), NLRI), AsnSize::Four, &context));
}

/// From a peer without 4-byte AS numbers.
fn check_old(attributes: &[Attribute<'_>], expected: Expect) {
    expected.assert_eq(&believed(&message(&[], &attribute_bytes(attributes), NLRI), AsnSize::Two, &context()));
}

#[test]
fn routes_of_both_families_and_withdrawals() {
    check(
        WITHDRAWN,
        &[MP_REACH, MP_UNREACH, ORIGIN, AS_PATH, NEXT_HOP],
        NLRI,
        expect![[r#"
            withdrawn 10.0.0.0/8 2001:dba::/32
            reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
            reachable 2001:db9::/32 via 2001:db8::1, origin IGP, path 65001
        "#]],
    );
}

#[test]
fn all_attributes_that_are_read() {
    check_attribute(
        (0x80, 4, &[0, 0, 0, 5]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001, med 5
    "#]],
    );
    check_attribute(
        (0xc0, 8, &[0xfd, 0xe9, 0, 1, 0xff, 0xff, 0xff, 1]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001, communities 65001:1 65535:65281
    "#]],
    );
    check_attribute(
        (0xc0, 32, &[0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001, communities large:1:2:3
    "#]],
    );
    check_attribute(
        (0xc0, 16, &[0, 2, 0xfd, 0xe9, 0, 0, 0, 1]),
        expect![[r#"
            reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001, extended rt:65001:1
        "#]],
    );
    check_attribute(
        (0x40, 6, &[]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001, atomic
    "#]],
    );
    check_attribute(
        (0xc0, 7, &[0, 1, 0, 0, 192, 0, 2, 9]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001, aggregator 65536 192.0.2.9
    "#]],
    );
    check_internal(
        &[ORIGIN, (0x40, 2, &[]), NEXT_HOP, LOCAL_PREF, (0x80, 9, &[1, 1, 1, 1]), (0x80, 10, &[2, 2, 2, 2])],
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path empty, local-pref 100
    "#]],
    );
}

#[test]
fn rfc4271_5_unknown_optional_attributes_are_skipped() {
    check_attribute(
        (0xc0, 200, &[1, 2, 3]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
    "#]],
    );
    check_attribute(
        (0xd0, 200, &[7; 300]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
    "#]],
    );
}

#[test]
fn rfc4271_6_3_unknown_well_known_attribute_resets() {
    check_attribute(
        (0x40, 200, &[1]),
        expect![[r#"
        reset: unknown attribute at byte 46: attribute 200 is not optional and not known; UPDATE Message Error/Unrecognized Well-known Attribute, data 40c80101
    "#]],
    );
}

#[test]
fn rfc4271_6_3_length_fields_beyond_the_message_reset() {
    let mut bytes = message(WITHDRAWN, &[], &[]);
    bytes[20] = 9;
    expect![[r#"
        reset: Withdrawn Routes Length at byte 19: 9 bytes are announced, 4 are there; UPDATE Message Error/Malformed Attribute List
    "#]]
    .assert_eq(&believed(&bytes, AsnSize::Four, &context()));
    // 23 bytes that announce 65535 bytes of attributes.
    let mut bytes = message(&[], &[], &[]);
    bytes[21..].copy_from_slice(&[0xff, 0xff]);
    expect![[r#"
        reset: Total Path Attribute Length at byte 21: 65535 bytes are announced, 0 are there; UPDATE Message Error/Malformed Attribute List
    "#]]
    .assert_eq(&believed(&bytes, AsnSize::Four, &context()));
}

#[test]
fn rfc7606_3_c_wrong_optional_or_transitive_flag_withdraws() {
    check(
        &[],
        &[(0xc0, 1, &[0]), AS_PATH, NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: ORIGIN at byte 26: flags 0xc0 contradict 0x40
    "#]],
    );
    check_attribute(
        (0x40, 4, &[0, 0, 0, 5]),
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: MULTI_EXIT_DISC at byte 46: flags 0x40 contradict 0x80
    "#]],
    );
    check_attribute(
        (0x80, 8, &[0, 0, 0, 5]),
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: COMMUNITIES at byte 46: flags 0x80 contradict 0xc0
    "#]],
    );
}

#[test]
fn rfc7606_3_c_partial_and_unused_flags_are_no_error() {
    check(
        &[],
        &[(0x6f, 1, &[0]), AS_PATH, NEXT_HOP],
        NLRI,
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
    "#]],
    );
}

#[test]
fn rfc7606_3_d_missing_mandatory_attribute_withdraws() {
    check(
        &[],
        &[AS_PATH, NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: path attributes at byte 23: ORIGIN is missing
    "#]],
    );
    check(
        &[],
        &[ORIGIN, NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: path attributes at byte 23: AS_PATH is missing
    "#]],
    );
    check(
        &[],
        &[ORIGIN, AS_PATH],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: path attributes at byte 23: NEXT_HOP is missing
    "#]],
    );
    check_internal(
        &[ORIGIN, AS_PATH, NEXT_HOP],
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: path attributes at byte 23: LOCAL_PREF is missing
    "#]],
    );
}

#[test]
fn rfc4760_3_next_hop_is_not_needed_for_mp_reach_alone() {
    check(
        &[],
        &[MP_REACH, ORIGIN, AS_PATH],
        &[],
        expect![[r#"
        reachable 2001:db9::/32 via 2001:db8::1, origin IGP, path 65001
    "#]],
    );
}

#[test]
fn rfc7606_3_e_and_7_1_origin() {
    check(
        &[],
        &[(0x40, 1, &[3]), AS_PATH, NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: ORIGIN at byte 26: value 3 is undefined
    "#]],
    );
    check(
        &[],
        &[(0x40, 1, &[0, 0]), AS_PATH, NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: ORIGIN at byte 26: the length is 2, not 1
    "#]],
    );
}

#[test]
fn rfc7606_7_2_as_path() {
    check(
        &[],
        &[ORIGIN, (0x40, 2, &[2, 2, 0, 0, 0xfd, 0xe9]), NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: AS_PATH at byte 30: a segment of 2 AS numbers goes beyond the attribute
    "#]],
    );
    check(
        &[],
        &[ORIGIN, (0x40, 2, &[3, 1, 0, 0, 0xfd, 0xe9]), NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: AS_PATH at byte 30: a confederation's segment comes from outside of it
    "#]],
    );
}

#[test]
fn rfc4271_6_3_path_that_does_not_begin_with_the_peer_withdraws() {
    check(
        &[],
        &[ORIGIN, (0x40, 2, &[2, 1, 0, 0, 0xfd, 0xea]), NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: AS_PATH at byte 30: the path does not begin with the peer's AS 65001: 65002
    "#]],
    );
    check(
        &[],
        &[ORIGIN, (0x40, 2, &[]), NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: AS_PATH at byte 30: the path does not begin with the peer's AS 65001: empty
    "#]],
    );
}

#[test]
fn rfc7607_2_as_0_in_as_path_withdraws_and_in_aggregator_is_discarded() {
    check(
        &[],
        &[ORIGIN, (0x40, 2, &[2, 2, 0, 0, 0xfd, 0xe9, 0, 0, 0, 0]), NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: AS_PATH at byte 30: AS 0 is not an AS
    "#]],
    );
    check_attribute(
        (0xc0, 7, &[0, 0, 0, 0, 192, 0, 2, 9]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: AGGREGATOR at byte 46: AS 0 is not an AS
    "#]],
    );
}

#[test]
fn rfc7606_7_3_next_hop() {
    for (next_hop, expected) in [
        (
            &[192, 0, 2][..],
            expect![[r#"
            withdrawn 198.51.100.0/24
            treated as withdraw: NEXT_HOP at byte 39: the length is 3, not 4
        "#]],
        ),
        (
            &[0, 0, 0, 0],
            expect![[r#"
            withdrawn 198.51.100.0/24
            treated as withdraw: NEXT_HOP at byte 39: 0.0.0.0 is not a host's address
        "#]],
        ),
        (
            &[224, 0, 0, 1],
            expect![[r#"
            withdrawn 198.51.100.0/24
            treated as withdraw: NEXT_HOP at byte 39: 224.0.0.1 is not a host's address
        "#]],
        ),
    ] {
        check(&[], &[ORIGIN, AS_PATH, (0x40, 3, next_hop)], NLRI, expected);
    }
}

#[test]
fn rfc7606_7_4_multi_exit_disc_of_wrong_length_withdraws() {
    check_attribute(
        (0x80, 4, &[0, 0, 5]),
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: MULTI_EXIT_DISC at byte 46: the length is 3, not 4
    "#]],
    );
}

#[test]
fn rfc7606_7_5_local_pref() {
    check_attribute(
        LOCAL_PREF,
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: LOCAL_PREF at byte 46: comes from an external peer
    "#]],
    );
    check_internal(
        &[ORIGIN, AS_PATH, NEXT_HOP, (0x40, 5, &[1])],
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: LOCAL_PREF at byte 46: the length is 1, not 4
    "#]],
    );
}

#[test]
fn rfc7606_7_6_and_7_7_aggregation_attributes_are_discarded() {
    check_attribute(
        (0x40, 6, &[1]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: ATOMIC_AGGREGATE at byte 46: the length is 1, not 0
    "#]],
    );
    check_attribute(
        (0xc0, 7, &[0xfd, 0xe9, 192, 0, 2, 9]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: AGGREGATOR at byte 46: the length is 6, not 8
    "#]],
    );
    check_old(
        &[ORIGIN, (0x40, 2, &[2, 1, 0xfd, 0xe9]), NEXT_HOP, (0xc0, 7, &[0, 0, 0xfd, 0xe9, 192, 0, 2, 9])],
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: AGGREGATOR at byte 44: the length is 8, not 6
    "#]],
    );
}

#[test]
fn rfc7606_3_f_wrong_flags_of_aggregation_attributes_are_discarded() {
    check_attribute(
        (0xc0, 6, &[]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: ATOMIC_AGGREGATE at byte 46: flags 0xc0 contradict 0x40
    "#]],
    );
}

#[test]
fn rfc7606_7_8_and_7_14_and_rfc8092_6_communities_of_wrong_length_withdraw() {
    check_attribute(
        (0xc0, 8, &[0, 0, 1]),
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: COMMUNITIES at byte 46: the length 3 is not a multiple of 4 above 0
    "#]],
    );
    check_attribute(
        (0xc0, 8, &[]),
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: COMMUNITIES at byte 46: the length 0 is not a multiple of 4 above 0
    "#]],
    );
    check_attribute(
        (0xc0, 16, &[0; 12]),
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: EXTENDED_COMMUNITIES at byte 46: the length 12 is not a multiple of 8 above 0
    "#]],
    );
    check_attribute(
        (0xc0, 25, &[0; 16]),
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: IPV6_EXTENDED_COMMUNITIES at byte 46: the length 16 is not a multiple of 20 above 0
    "#]],
    );
    check_attribute(
        (0xc0, 32, &[0; 8]),
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: LARGE_COMMUNITY at byte 46: the length 8 is not a multiple of 12 above 0
    "#]],
    );
}

#[test]
fn rfc8092_3_duplicate_large_communities_count_once() {
    let twice = [0, 0, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3].repeat(2);
    check_attribute(
        (0xc0, 32, &twice),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001, communities large:1:2:3
    "#]],
    );
}

#[test]
fn rfc7606_7_9_and_7_10_route_reflection_attributes() {
    check_attribute(
        (0x80, 9, &[1, 1, 1]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: ORIGINATOR_ID at byte 46: comes from an external peer
    "#]],
    );
    check_attribute(
        (0x80, 10, &[1]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: CLUSTER_LIST at byte 46: comes from an external peer
    "#]],
    );
    check_internal(
        &[ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF, (0x80, 9, &[1, 1, 1])],
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: ORIGINATOR_ID at byte 53: the length is 3, not 4
    "#]],
    );
    check_internal(
        &[ORIGIN, AS_PATH, NEXT_HOP, LOCAL_PREF, (0x80, 10, &[])],
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: CLUSTER_LIST at byte 53: the length 0 is not a multiple of 4 above 0
    "#]],
    );
}

#[test]
fn rfc7606_3_g_the_first_of_duplicates_counts() {
    check(
        &[],
        &[ORIGIN, AS_PATH, NEXT_HOP, (0x40, 1, &[2]), (0xc0, 200, &[]), (0xc0, 200, &[])],
        NLRI,
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: ORIGIN at byte 46: ORIGIN is there more than once
        attribute discarded: unknown attribute at byte 53: attribute 200 is there more than once
    "#]],
    );
}

#[test]
fn rfc7606_3_g_two_multiprotocol_attributes_reset() {
    check(
        &[],
        &[MP_REACH, MP_REACH, ORIGIN, AS_PATH],
        &[],
        expect![[r#"
            reset: MP_REACH_NLRI at byte 55: MP_REACH_NLRI is there more than once; UPDATE Message Error/Malformed Attribute List, data 800e1a0002011020010db8000000000000000000000001002020010db9
        "#]],
    );
    check(
        &[],
        &[MP_UNREACH, MP_UNREACH],
        &[],
        expect![[r#"
        reset: MP_UNREACH_NLRI at byte 37: MP_UNREACH_NLRI is there more than once; UPDATE Message Error/Malformed Attribute List, data 800f080002012020010dba
    "#]],
    );
}

#[test]
fn rfc7606_3_h_the_strongest_of_several_errors_holds() {
    check(
        &[],
        &[(0x40, 1, &[9]), AS_PATH, NEXT_HOP, (0x40, 6, &[1])],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: ORIGIN at byte 26: value 9 is undefined
        attribute discarded: ATOMIC_AGGREGATE at byte 46: the length is 1, not 0
    "#]],
    );
    check(
        &[],
        &[(0x40, 1, &[9]), AS_PATH, NEXT_HOP, (0x80, 14, &[0, 2])],
        NLRI,
        expect![[r#"
        reset: MP_REACH_NLRI at byte 46: 2 bytes are less than the least of 5; UPDATE Message Error/Optional Attribute Error, data 800e020002
    "#]],
    );
}

#[test]
fn rfc7606_3_j_and_5_3_prefixes_that_cannot_be_read_reset() {
    check(
        &[],
        &[ORIGIN, AS_PATH, NEXT_HOP],
        &[33, 1, 2, 3, 4, 5],
        expect![[r#"
        reset: Network Layer Reachability Information at byte 43: a prefix length of 33 is more than the 32 bits of an address; UPDATE Message Error/Invalid Network Field
    "#]],
    );
    check(
        &[24, 1, 2],
        &[],
        &[],
        expect![[r#"
        reset: Withdrawn Routes at byte 21: a /24 needs 3 bytes, 2 are left; UPDATE Message Error/Invalid Network Field
    "#]],
    );
    check(
        &[],
        &[(0x80, 15, &[0, 2, 1, 129])],
        &[],
        expect![[r#"
        reset: MP_UNREACH_NLRI at byte 29: a prefix length of 129 is more than the 128 bits of an address; UPDATE Message Error/Optional Attribute Error, data 800f0400020181
    "#]],
    );
    check(
        &[],
        &[(0x80, 15, &[0, 1, 1, 33, 1, 2, 3, 4, 5])],
        &[],
        expect![[r#"
            reset: MP_UNREACH_NLRI at byte 29: a prefix length of 33 is more than the 32 bits of an address; UPDATE Message Error/Optional Attribute Error, data 800f09000101210102030405
        "#]],
    );
}

#[test]
fn rfc7606_4_attribute_beyond_the_list_withdraws() {
    let mut bytes = attribute_bytes(&[ORIGIN, AS_PATH, NEXT_HOP]);
    bytes.extend([0x80, 4, 9, 0, 0]);
    expect![[r#"
        withdrawn 198.51.100.0/24
        treated as withdraw: path attributes at byte 43: MULTI_EXIT_DISC of 9 bytes goes beyond the list, 2 are left
    "#]]
    .assert_eq(&believed(&message(&[], &bytes, NLRI), AsnSize::Four, &context()));
}

#[test]
fn rfc7606_4_rest_too_short_for_an_attribute_withdraws() {
    let whole = attribute_bytes(&[ORIGIN, AS_PATH, NEXT_HOP]);
    for (rest, text) in
        [(&[0x40][..], "1 bytes are left"), (&[0x40, 5], "2 bytes are left"), (&[0x50, 5, 0], "3 bytes are left")]
    {
        let bytes = [whole.as_slice(), rest].concat();
        let believed = believed(&message(&[], &bytes, NLRI), AsnSize::Four, &context());
        assert!(believed.starts_with("withdrawn 198.51.100.0/24\n") && believed.contains(text), "{believed}");
    }
}

#[test]
fn rfc7606_3_j_and_4_routes_in_an_attribute_that_goes_beyond_the_list_are_not_known() {
    // The whole attribute would bring 2001:db8::/32, or take it away.
    let reach = [0x80, 14, 26, 0, 2, 1, 16, 0x20, 1, 0xd, 0xb8];
    let unreach = [0x90, 15, 0, 8, 0, 2, 1, 0x20, 0x20];
    for cut in [&reach[..], &reach[..3], &reach[..2], &unreach, &unreach[..4], &unreach[..3], &unreach[..2]] {
        let mut bytes = attribute_bytes(&[ORIGIN, AS_PATH, NEXT_HOP]);
        bytes.extend(cut);
        let believed = believed(&message(&[], &bytes, NLRI), AsnSize::Four, &context());
        assert!(believed.starts_with("reset: path attributes at byte 43"), "{believed}");
    }
}

#[test]
fn rfc7606_5_2_error_without_reachable_routes_resets() {
    check(
        WITHDRAWN,
        &[(0x40, 1, &[9])],
        &[],
        expect![[r#"
        reset: ORIGIN at byte 28: value 9 is undefined; UPDATE Message Error/Invalid ORIGIN Attribute, data 40010109
    "#]],
    );
    check(
        &[],
        &[MP_UNREACH, (0xc0, 8, &[1])],
        &[],
        expect![[r#"
        reset: COMMUNITIES at byte 37: the length 1 is not a multiple of 4 above 0; UPDATE Message Error/Optional Attribute Error, data c0080101
    "#]],
    );
    expect![[r#"
        reset: path attributes at byte 23: 1 bytes are left, too few for an attribute; UPDATE Message Error/Malformed Attribute List
    "#]]
    .assert_eq(&believed(&message(&[], &[0x40], &[]), AsnSize::Four, &context()));
}

#[test]
fn rfc7606_5_2_discard_without_reachable_routes_does_not_reset() {
    check(
        WITHDRAWN,
        &[(0x40, 6, &[1])],
        &[],
        expect![[r#"
        withdrawn 10.0.0.0/8
        attribute discarded: ATOMIC_AGGREGATE at byte 28: the length is 1, not 0
    "#]],
    );
}

#[test]
fn rfc7606_5_3_wrong_flags_or_length_of_multiprotocol_attributes_reset() {
    check(
        &[],
        &[(0xc0, 14, MP_REACH.2), ORIGIN, AS_PATH],
        &[],
        expect![[r#"
            reset: MP_REACH_NLRI at byte 26: flags 0xc0 contradict 0x80; UPDATE Message Error/Attribute Flags Error, data c00e1a0002011020010db8000000000000000000000001002020010db9
        "#]],
    );
    check(
        &[],
        &[(0x80, 15, &[0, 2])],
        &[],
        expect![[r#"
        reset: MP_UNREACH_NLRI at byte 26: 2 bytes are less than the least of 3; UPDATE Message Error/Optional Attribute Error, data 800f020002
    "#]],
    );
}

#[test]
fn rfc7606_7_11_next_hop_of_wrong_length_resets() {
    check(
        &[],
        &[(0x80, 14, &[0, 2, 1, 4, 192, 0, 2, 1, 0, 0]), ORIGIN, AS_PATH],
        &[],
        expect![[r#"
        reset: MP_REACH_NLRI at byte 30: IPv6 unicast has no next hop of 4 bytes; UPDATE Message Error/Optional Attribute Error, data 800e0a00020104c00002010000
    "#]],
    );
    check(
        &[],
        &[(0x80, 14, &[0, 2, 1, 200, 0, 0]), ORIGIN, AS_PATH],
        &[],
        expect![[r#"
        reset: MP_REACH_NLRI at byte 30: a next hop of 200 bytes goes beyond the attribute; UPDATE Message Error/Optional Attribute Error, data 800e06000201c80000
    "#]],
    );
}

#[test]
fn next_hop_in_mp_reach_that_is_no_host_withdraws() {
    let mut value = MP_REACH.2.to_vec();
    value[4..20].fill(0);
    check(
        &[],
        &[(0x80, 14, &value), ORIGIN, AS_PATH],
        &[],
        expect![[r#"
        withdrawn 2001:db9::/32
        treated as withdraw: MP_REACH_NLRI at byte 23: next hop :: is not a host's address
    "#]],
    );
}

/// An MP_REACH_NLRI with this family and next hop and the prefix 10.0.0.0/8 or a00::/8.
fn reach(afi: u8, next_hop: &[u8]) -> Vec<u8> {
    [&[0, afi, 1, length(next_hop.len())[1]], next_hop, &[0, 8, 10]].concat()
}

const GLOBAL: [u8; 16] = [0x20, 1, 0x0d, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const LINK_LOCAL: [u8; 16] = [0xfe, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];

#[test]
fn rfc2545_3_next_hop_with_and_without_link_local_address() {
    for (next_hop, expected) in [
        (
            [GLOBAL, LINK_LOCAL].concat(),
            expect![[r#"
            reachable a00::/8 via 2001:db8::1 (fe80::2), origin IGP, path 65001
        "#]],
        ),
        (
            LINK_LOCAL.to_vec(),
            expect![[r#"
            reachable a00::/8 via fe80::2, origin IGP, path 65001
        "#]],
        ),
        (
            [[0; 16], LINK_LOCAL].concat(),
            expect![[r#"
            reachable a00::/8 via fe80::2, origin IGP, path 65001
        "#]],
        ),
        (
            [LINK_LOCAL, LINK_LOCAL].concat(),
            expect![[r#"
            reachable a00::/8 via fe80::2, origin IGP, path 65001
        "#]],
        ),
    ] {
        check(&[], &[(0x80, 14, &reach(2, &next_hop)), ORIGIN, AS_PATH], &[], expected);
    }
}

#[test]
fn rfc8950_3_ipv4_with_next_hops_of_16_and_32_bytes() {
    let extended = UpdateContext { extended_next_hop: true, ..context() };
    for next_hop in [GLOBAL.to_vec(), LINK_LOCAL.to_vec(), [GLOBAL, LINK_LOCAL].concat()] {
        let attributes = attribute_bytes(&[(0x80, 14, &reach(1, &next_hop)), ORIGIN, AS_PATH]);
        let bytes = message(&[], &attributes, &[]);
        let text = believed(&bytes, AsnSize::Four, &extended);
        assert!(text.starts_with("reachable 10.0.0.0/8 via "), "{text}");
        let text = believed(&bytes, AsnSize::Four, &context());
        assert!(text.contains("was not negotiated") && text.starts_with("reset"), "{text}");
    }
    check(
        &[],
        &[(0x80, 14, &reach(1, &[192, 0, 2, 1])), ORIGIN, AS_PATH],
        &[],
        expect![[r#"
        reachable 10.0.0.0/8 via 192.0.2.1, origin IGP, path 65001
    "#]],
    );
}

#[test]
fn rfc4760_7_families_that_were_not_negotiated_are_ignored() {
    let only_v4 = UpdateContext { families: [Family::V4].into(), ..context() };
    let bytes = message(&[], &attribute_bytes(&[MP_REACH, MP_UNREACH, ORIGIN, AS_PATH, NEXT_HOP]), NLRI);
    expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
    "#]]
    .assert_eq(&believed(&bytes, AsnSize::Four, &only_v4));
    // L2VPN EVPN: nothing behind the next hop can be read.
    check(&[], &[(0x80, 14, &[0, 25, 70, 4, 1, 2, 3, 4, 0, 99, 99]), ORIGIN, AS_PATH], &[], expect![""]);
}

#[test]
fn rfc4724_2_end_of_rib() {
    check(
        &[],
        &[],
        &[],
        expect![[r#"
        end of IPv4 unicast
    "#]],
    );
    check(
        &[],
        &[(0x80, 15, &[0, 2, 1])],
        &[],
        expect![[r#"
        end of IPv6 unicast
    "#]],
    );
    check(
        WITHDRAWN,
        &[(0x80, 15, &[0, 2, 1])],
        &[],
        expect![[r#"
        withdrawn 10.0.0.0/8
    "#]],
    );
}

#[test]
fn rfc6793_6_as4_attributes_from_a_new_speaker_are_discarded() {
    check_attribute(
        (0xc0, 17, &[2, 1, 0, 1, 0, 0]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: AS4_PATH at byte 46: comes from a peer with 4-byte AS numbers
    "#]],
    );
    check_attribute(
        (0xc0, 18, &[0, 1, 0, 0, 1, 1, 1, 1]),
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        attribute discarded: AS4_AGGREGATOR at byte 46: comes from a peer with 4-byte AS numbers
    "#]],
    );
}

const OLD_PATH: (u8, u8, &[u8]) = (0x40, 2, &[2, 2, 0xfd, 0xe9, 0x5b, 0xa0]);

#[test]
fn rfc6793_4_2_3_as4_attributes_from_an_old_speaker_are_merged() {
    check_old(
        &[ORIGIN, OLD_PATH, NEXT_HOP, (0xc0, 17, &[2, 1, 0, 1, 0x11, 0x70])],
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 70000
    "#]],
    );
    check_old(
        &[
            ORIGIN,
            OLD_PATH,
            NEXT_HOP,
            (0xc0, 7, &[0x5b, 0xa0, 1, 1, 1, 1]),
            (0xc0, 17, &[2, 1, 0, 1, 0x11, 0x70]),
            (0xc0, 18, &[0, 1, 0x11, 0x70, 1, 1, 1, 1]),
        ],
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 70000, aggregator 70000 1.1.1.1
    "#]],
    );
}

#[test]
fn rfc6793_4_2_3_as4_attributes_older_than_an_aggregate_are_ignored() {
    check_old(
        &[
            ORIGIN,
            OLD_PATH,
            NEXT_HOP,
            (0xc0, 7, &[0, 9, 1, 1, 1, 1]),
            (0xc0, 17, &[2, 1, 0, 1, 0x11, 0x70]),
            (0xc0, 18, &[0, 1, 0x11, 0x70, 2, 2, 2, 2]),
        ],
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 23456, aggregator 9 1.1.1.1
    "#]],
    );
    // Without AS4_AGGREGATOR, an aggregate says nothing about AS4_PATH.
    check_old(
        &[ORIGIN, OLD_PATH, NEXT_HOP, (0xc0, 7, &[0, 9, 1, 1, 1, 1]), (0xc0, 17, &[2, 1, 0, 1, 0x11, 0x70])],
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 70000, aggregator 9 1.1.1.1
    "#]],
    );
}

#[test]
fn rfc6793_6_malformed_as4_attributes_are_discarded() {
    for (value, expected) in [
        (
            &[][..],
            expect![[r#"
                reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 23456
                attribute discarded: AS4_PATH at byte 46: the length is 0
            "#]],
        ),
        (
            &[2, 2, 0, 1, 0x11, 0x70],
            expect![[r#"
                reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 23456
                attribute discarded: AS4_PATH at byte 46: a segment of 2 AS numbers goes beyond the attribute
            "#]],
        ),
        (
            &[2, 1, 0, 0, 0, 0],
            expect![[r#"
                reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 23456
                attribute discarded: AS4_PATH at byte 46: AS 0 is not an AS
            "#]],
        ),
    ] {
        check_old(&[ORIGIN, OLD_PATH, NEXT_HOP, (0xc0, 17, value)], expected);
    }
    check_old(
        &[ORIGIN, OLD_PATH, NEXT_HOP, (0xc0, 18, &[0, 1, 1, 1, 1, 1])],
        expect![[r#"
            reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 23456
            attribute discarded: AS4_AGGREGATOR at byte 46: the length is 6, not 8
        "#]],
    );
}

#[test]
fn rfc6793_3_confederation_segments_in_as4_path_are_left_out() {
    check_old(
        &[ORIGIN, OLD_PATH, NEXT_HOP, (0xc0, 17, &[3, 1, 0, 0, 0, 7, 2, 1, 0, 1, 0x11, 0x70])],
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001 70000
    "#]],
    );
}

#[test]
fn rfc8092_6_reserved_numbers_are_no_error() {
    check_attribute(
        (0xc0, 32, &[0, 0, 0, 0, 0, 0, 0, 2, 0, 0, 0, 3, 0xff, 0xff, 0xff, 0xff, 0, 0, 0, 0, 0, 0, 0, 0]),
        expect![[r#"
            reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001, communities large:0:2:3 large:4294967295:0:0
        "#]],
    );
}

#[test]
fn rfc7606_5_2_an_empty_mp_reach_is_no_reachable_route() {
    let empty = &MP_REACH.2[..21];
    check(
        &[],
        &[(0x80, 14, empty), (0x40, 1, &[9]), AS_PATH],
        &[],
        expect![[r#"
        reset: ORIGIN at byte 50: value 9 is undefined; UPDATE Message Error/Invalid ORIGIN Attribute, data 40010109
    "#]],
    );
}

#[test]
fn rfc7606_5_1_multiprotocol_attributes_may_be_anywhere_and_together() {
    check(
        WITHDRAWN,
        &[ORIGIN, MP_UNREACH, AS_PATH, NEXT_HOP, MP_REACH],
        NLRI,
        expect![[r#"
        withdrawn 10.0.0.0/8 2001:dba::/32
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
        reachable 2001:db9::/32 via 2001:db8::1, origin IGP, path 65001
    "#]],
    );
}

#[test]
fn rfc4271_4_3_a_prefix_in_both_fields_is_processed() {
    check(
        NLRI,
        &[ORIGIN, AS_PATH, NEXT_HOP],
        NLRI,
        expect![[r#"
        withdrawn 198.51.100.0/24
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
    "#]],
    );
}

#[test]
fn rfc4271_5_attributes_may_be_out_of_order() {
    check(
        &[],
        &[NEXT_HOP, AS_PATH, ORIGIN],
        NLRI,
        expect![[r#"
        reachable 198.51.100.0/24 via 192.0.2.1, origin IGP, path 65001
    "#]],
    );
}
