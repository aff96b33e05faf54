//! Messages as a whole: headers, OPENs, and that writing and reading agree.

use super::*;
use expect_test::{Expect, expect};
use ipnet::IpNet;
use kit::{Asn, Community, Family, HoldTime, RouterId};
use proptest::prelude::*;
use std::net::{Ipv4Addr, Ipv6Addr};

fn hex(text: &str) -> Vec<u8> {
    let digits: Vec<char> = text.chars().filter(char::is_ascii_hexdigit).collect();
    digits.chunks(2).map(|pair| u8::from_str_radix(&pair.iter().collect::<String>(), 16).unwrap()).collect()
}

/// A message of a type with this body.
fn message(kind: u8, body: &str) -> Vec<u8> {
    let body = hex(body);
    let mut bytes = vec![0xff; 16];
    bytes.extend(u16::try_from(body.len() + HEADER_LEN).unwrap().to_be_bytes());
    bytes.push(kind);
    bytes.extend(body);
    bytes
}

fn text(bytes: &[u8]) -> String {
    match decode(bytes, AsnSize::Four, MessageLimit::Standard) {
        Ok(message) => message.to_string(),
        Err(error) => format!("{error}; {}", error.notification),
    }
}

fn check(kind: u8, body: &str, expected: Expect) {
    expected.assert_eq(&text(&message(kind, body)));
}

/// An OPEN with these capabilities in one parameter.
fn open(capabilities: &str) -> Vec<u8> {
    let length = hex(capabilities).len();
    message(1, &format!("04 fde9 005a c0000201 {:02x} 02 {length:02x} {capabilities}", length + 2))
}

/// An UPDATE with these fields.
fn update(withdrawn: &str, attributes: &str, nlri: &str) -> Vec<u8> {
    let [withdrawn_len, attributes_len] = [withdrawn, attributes].map(|field| hex(field).len());
    message(2, &format!("{withdrawn_len:04x} {withdrawn} {attributes_len:04x} {attributes} {nlri}"))
}

/// One message of each shape: what the fuzzer begins with.
pub(crate) fn samples() -> Vec<Vec<u8>> {
    vec![
        message(1, "04 fde9 005a c0000201 00"),
        open("010400010001 010400020001 0200 4600 0600 410400011170 4006007800010180 0506000100010002 450400010103"),
        message(1, "04 fde9 00b4 c0000201 ff ff 0009 02 0006 010400010001"),
        update("", "", ""),
        update("08 0a", "400101 00 400206 02010000fde9 400304 c0000201 c00804 fde90001", "18 c63364"),
        update(
            "",
            "800e1a 000201 10 20010db8000000000000000000000001 00 20 20010db9 400101 00 400206 02010000fde9
             c0200c 000000010000000200000003 c01008 0002fde900000001",
            "",
        ),
        update(
            "",
            "800904 01010101 800a04 02020202 400504 00000064 800404 00000005 400600 c00708 0000fde9c0000209 400101 00
             400200 400304 c0000201 c01106 020100010000 c01208 00010000c0000209 c0c803 010203",
            "18 c63364 20 cb007101",
        ),
        update("", "800f08 000201 20 20010db8", ""),
        message(3, "0400"),
        message(3, "0602 05 6c61746572"),
        message(3, "0609 0602 05 6c61746572"),
        message(4, ""),
        message(5, "00010001"),
        hex(BIRD_OPEN),
        hex(FRR_OPEN),
        hex(FRR_UPDATE),
    ]
}

/// As BIRD 2.0.12 and FRR 8.4.4 sent them; FRR gives each capability a parameter of its own, and AS_PATH a length of two
/// bytes that needs one.
const BIRD_OPEN: &str = "ffffffffffffffffffffffffffffffff00350104fde80009c00002031802160104000100010200400200784104
    0000fde846004700";
const FRR_OPEN: &str = "ffffffffffffffffffffffffffffffff005f0104fde80009c00002024202060104000100010202800002020200
    02024600020641040000fde802020600020645040001010102074905036672720002044002c0780209470700010180000000";
const FRR_UPDATE: &str = "ffffffffffffffffffffffffffffffff003c0200000020400101005002000a02020000fde80000fde9400304
    c0000202c008040001000120c6336401";

#[test]
fn samples_are_what_they_should_be() {
    let all: Vec<String> = samples().iter().map(|sample| text(sample)).collect();
    expect![[r#"
        OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities []
        OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast, IPv6 unicast, route refresh, enhanced route refresh, extended message, 4-byte AS 70000, graceful restart 120s IPv4 unicast (kept), extended next hop IPv4 unicast over IPv6, add-path (4 bytes)]
        OPEN AS 65001, hold 180s, id 192.0.2.1, capabilities [IPv4 unicast]
        UPDATE (empty)
        UPDATE withdraw 10.0.0.0/8; ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; COMMUNITIES 65001:1; nlri 198.51.100.0/24
        UPDATE MP_REACH_NLRI IPv6 unicast next-hop 2001:db8::1: 2001:db9::/32; ORIGIN IGP; AS_PATH 65001; LARGE_COMMUNITY large:1:2:3; EXTENDED_COMMUNITIES rt:65001:1;
        UPDATE ORIGINATOR_ID 1.1.1.1; CLUSTER_LIST 0x02020202; LOCAL_PREF 100; MULTI_EXIT_DISC 5; ATOMIC_AGGREGATE; AGGREGATOR 65001 192.0.2.9; ORIGIN IGP; AS_PATH empty; NEXT_HOP 192.0.2.1; AS4_PATH 65536; AS4_AGGREGATOR 65536 192.0.2.9; attribute 200 0x010203; nlri 198.51.100.0/24 203.0.113.1/32
        UPDATE MP_UNREACH_NLRI IPv6 unicast: 2001:db8::/32;
        NOTIFICATION Hold Timer Expired
        NOTIFICATION Cease/Administrative Shutdown ("later")
        NOTIFICATION Cease/Hard Reset (Cease/Administrative Shutdown ("later"))
        KEEPALIVE
        ROUTE-REFRESH IPv4 unicast
        OPEN AS 65000, hold 9s, id 192.0.2.3, capabilities [IPv4 unicast, route refresh, graceful restart 120s, 4-byte AS 65000, enhanced route refresh, long-lived graceful restart (0 bytes)]
        OPEN AS 65000, hold 9s, id 192.0.2.2, capabilities [IPv4 unicast, route refresh (old) (0 bytes), route refresh, enhanced route refresh, 4-byte AS 65000, extended message, add-path (4 bytes), FQDN (5 bytes), graceful restart 120s restarting notification, long-lived graceful restart (7 bytes)]
        UPDATE ORIGIN IGP; AS_PATH 65000 65001; NEXT_HOP 192.0.2.2; COMMUNITIES 1:1; nlri 198.51.100.1/32"#]].assert_eq(&all.join("\n"));
}

#[test]
fn rfc4271_6_1_headers() {
    let keepalive = message(4, "");
    assert_eq!(Header::decode(&keepalive[..18], MessageLimit::Standard), Ok(None));
    for (offset, value, expected) in [
        (15, 0, expect!["Marker at byte 0: not all bits are ones; Message Header Error/Connection Not Synchronized"]),
        (
            17,
            18,
            expect![
                "Length at byte 16: 18 bytes are not a message of type 4; Message Header Error/Bad Message Length, data 0012"
            ],
        ),
        (
            17,
            20,
            expect![
                "Length at byte 16: 20 bytes are not a message of type 4; Message Header Error/Bad Message Length, data 0014"
            ],
        ),
        (
            16,
            0x10,
            expect![
                "Length at byte 16: 4115 bytes are not a message of type 4; Message Header Error/Bad Message Length, data 1013"
            ],
        ),
        (18, 0, expect!["Type at byte 18: type 0 is unknown; Message Header Error/Bad Message Type, data 00"]),
        (18, 6, expect!["Type at byte 18: type 6 is unknown; Message Header Error/Bad Message Type, data 06"]),
        (
            18,
            1,
            expect![
                "Length at byte 16: 19 bytes are not a message of type 1; Message Header Error/Bad Message Length, data 0013"
            ],
        ),
        (
            18,
            2,
            expect![
                "Length at byte 16: 19 bytes are not a message of type 2; Message Header Error/Bad Message Length, data 0013"
            ],
        ),
        (
            18,
            3,
            expect![
                "Length at byte 16: 19 bytes are not a message of type 3; Message Header Error/Bad Message Length, data 0013"
            ],
        ),
        (
            18,
            5,
            expect![
                "Length at byte 16: 19 bytes are not a message of type 5; Message Header Error/Bad Message Length, data 0013"
            ],
        ),
    ] {
        let mut bytes = keepalive.clone();
        bytes[offset] = value;
        let error = Header::decode(&bytes, MessageLimit::Standard).unwrap_err();
        expected.assert_eq(&format!("{error}; {}", error.notification));
    }
}

#[test]
fn rfc4271_4_1_the_largest_message_has_4096_bytes() {
    let mut bytes = message(3, &format!("0602{}", "00".repeat(MESSAGE_MAX - 21)));
    assert_eq!(bytes.len(), MESSAGE_MAX);
    assert!(Header::decode(&bytes, MessageLimit::Standard).is_ok());
    bytes[16..18].copy_from_slice(&4097_u16.to_be_bytes());
    assert_eq!(
        Header::decode(&bytes, MessageLimit::Standard).unwrap_err().notification.error,
        ErrorCode::BAD_MESSAGE_LENGTH
    );
}

#[test]
fn rfc4271_6_2_another_version_is_told_ours() {
    check(
        1,
        "03 fde9 005a c0000201 00",
        expect!["version at byte 19: version 3 is not 4; OPEN Message Error/Unsupported Version Number, data 0004"],
    );
    let error = decode(&message(1, "05 fde9 005a c0000201 00"), AsnSize::Four, MessageLimit::Standard).unwrap_err();
    assert_eq!(error.notification.data, [0, 4]);
}

#[test]
fn rfc4271_6_2_unknown_parameters_and_wrong_lengths() {
    check(
        1,
        "04 fde9 005a c0000201 03 01 01 00",
        expect![
            "Optional Parameters at byte 29: parameter type 1 is unknown; OPEN Message Error/Unsupported Optional Parameter"
        ],
    );
    check(
        1,
        "04 fde9 005a c0000201 04 02 06 0104",
        expect!["Optional Parameters at byte 29: a parameter goes beyond the end; OPEN Message Error/Unspecific"],
    );
    check(
        1,
        "04 fde9 005a c0000201 04 02 02 0104",
        expect![
            "Optional Parameters at byte 29: a capability goes beyond its parameter; OPEN Message Error/Unspecific"
        ],
    );
    check(
        1,
        "04 fde9 005a c0000201 05 02 02 0200",
        expect!["Optional Parameters at byte 28: 5 bytes are announced, 4 are there; OPEN Message Error/Unspecific"],
    );
    check(
        1,
        "04 fde9 005a c0000201 00 00",
        expect!["Optional Parameters at byte 28: 0 bytes are announced, 1 are there; OPEN Message Error/Unspecific"],
    );
}

#[test]
fn rfc5492_4_capabilities_may_be_in_one_parameter_or_many_and_twice() {
    check(
        1,
        "04 fde9 005a c0000201 0e 02 06 010400010001 02 04 0200 0200",
        expect!["OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast, route refresh, route refresh]"],
    );
}

#[test]
fn rfc5492_3_unknown_or_misshapen_capabilities_are_kept_apart() {
    check(
        1,
        "04 fde9 005a c0000201 11 02 0f 0103000100 c803010203 4103000001",
        expect![
            "OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [capability 1 (3 bytes), capability 200 (3 bytes), capability 65 (3 bytes)]"
        ],
    );
}

#[test]
fn rfc9072_2_extended_parameters() {
    // Also with a first length that is not 255, which means nothing.
    check(
        1,
        "04 fde9 005a c0000201 ff ff 0009 02 0006 010400010001",
        expect!["OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast]"],
    );
    check(
        1,
        "04 fde9 005a c0000201 01 ff 0009 02 0006 010400010001",
        expect!["OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [IPv4 unicast]"],
    );
    check(1, "04 fde9 005a c0000201 ff ff 0000", expect!["OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities []"]);
    check(
        1,
        "04 fde9 005a c0000201 ff ff 0009 02 0007 010400010001",
        expect!["Optional Parameters at byte 32: a parameter goes beyond the end; OPEN Message Error/Unspecific"],
    );
    check(
        1,
        "04 fde9 005a c0000201 ff ff 0008 02 0006 010400010001",
        expect!["Optional Parameters at byte 28: 8 bytes are announced, 9 are there; OPEN Message Error/Unspecific"],
    );
    check(
        1,
        "04 fde9 005a c0000201 ff ff 00",
        expect!["Optional Parameters at byte 28: the extended length is missing; OPEN Message Error/Unspecific"],
    );
    check(
        1,
        "04 fde9 005a c0000201 ff ff 0004 ff 0001 00",
        expect![
            "Optional Parameters at byte 32: parameter type 255 is unknown; OPEN Message Error/Unsupported Optional Parameter"
        ],
    );
    // Not in second place.
    check(
        1,
        "04 fde9 005a c0000201 06 02 02 0200 ff 00",
        expect![
            "Optional Parameters at byte 33: parameter type 255 is unknown; OPEN Message Error/Unsupported Optional Parameter"
        ],
    );
}

#[test]
fn rfc9072_2_long_capabilities_are_written_in_the_extended_form() {
    for count in [0, 1, 126, 127, 128, 600] {
        let open = Open {
            my_as: 65001,
            hold_time_secs: 90,
            identifier: 1,
            capabilities: vec![Capability::RouteRefresh; count],
        };
        let mut bytes = Vec::new();
        open.encode(&mut bytes);
        assert_eq!(bytes.get(29) == Some(&255), count > 126, "{count}");
        assert_eq!(decode(&bytes, AsnSize::Four, MessageLimit::Standard), Ok(Message::Open(open)));
    }
}

#[test]
fn rfc8950_4_rfc4724_3_rfc8538_2_capabilities_read_well() {
    let bytes = open("0506000100010002 4006c07800010180 400a4001 00010100 00020100");
    expect!["OPEN AS 65001, hold 90s, id 192.0.2.1, capabilities [extended next hop IPv4 unicast over IPv6, graceful restart 120s restarting notification IPv4 unicast (kept), graceful restart 1s notification IPv4 unicast IPv6 unicast]"].assert_eq(&text(&bytes));
}

#[test]
fn our_open_announces_four_byte_numbers() {
    let open = Open::new(
        Asn::new(70000).unwrap(),
        HoldTime::DEFAULT,
        RouterId::new(1).unwrap(),
        vec![Capability::RouteRefresh],
    );
    let mut bytes = Vec::new();
    open.encode(&mut bytes);
    expect!["OPEN AS 23456, hold 90s, id 0.0.0.1, capabilities [route refresh, 4-byte AS 70000]"]
        .assert_eq(&text(&bytes));
}

fn asn() -> impl Strategy<Value = Asn> {
    prop_oneof![1..100_u32, 65000..65536_u32, 65536..=u32::MAX]
        .prop_filter_map("not AS_TRANS", |number| Asn::new(number).filter(|asn| asn.get() != u32::from(Asn::TRANS)))
}

fn community() -> impl Strategy<Value = Community> {
    prop_oneof![
        any::<u32>().prop_map(Community::Standard),
        any::<(u32, u32, u32)>().prop_map(|(a, b, c)| Community::Large(a, b, c))
    ]
}

/// Attributes of a route from an external peer, which is the first of the path.
fn attributes() -> impl Strategy<Value = PathAttributes> {
    let origin = prop_oneof![Just(Origin::Igp), Just(Origin::Egp), Just(Origin::Incomplete)];
    let path = (proptest::collection::vec(asn(), 0..5), proptest::collection::vec(asn(), 0..4));
    let aggregator = proptest::option::of(
        (asn(), any::<u32>()).prop_map(|(asn, address)| Aggregator { asn, address: address.into() }),
    );
    let communities = proptest::collection::btree_set(community(), 0..20);
    let extended = proptest::collection::btree_set(any::<[u8; 8]>().prop_map(kit::ExtendedCommunity), 0..5);
    (origin, path, any::<Option<u32>>(), any::<bool>(), aggregator, communities, extended).prop_map(
        |(
            origin,
            (sequence, set),
            multi_exit_disc,
            atomic_aggregate,
            aggregator,
            communities,
            extended_communities,
        )| {
            let mut as_path = AsPath::sequence([Asn::new(65001).unwrap()].into_iter().chain(sequence));
            if !set.is_empty() {
                as_path.0.push(Segment { kind: SegmentKind::Set, asns: set });
            }
            PathAttributes {
                origin,
                as_path,
                multi_exit_disc,
                local_pref: None,
                atomic_aggregate,
                aggregator,
                communities,
                extended_communities,
            }
        },
    )
}

fn prefixes() -> impl Strategy<Value = (Family, Vec<IpNet>)> {
    let v4 = (any::<u32>(), 0..=32_u8).prop_map(|(a, l)| IpNet::new(Ipv4Addr::from(a).into(), l).unwrap().trunc());
    let v6 = (any::<u128>(), 0..=128_u8).prop_map(|(a, l)| IpNet::new(Ipv6Addr::from(a).into(), l).unwrap().trunc());
    prop_oneof![
        proptest::collection::vec(v4, 1..1500).prop_map(|prefixes| (Family::V4, prefixes)),
        proptest::collection::vec(v6, 1..600).prop_map(|prefixes| (Family::V6, prefixes)),
    ]
}

/// Cuts a stream into messages and believes them.
fn believe(bytes: &[u8], asn_size: AsnSize) -> Vec<ValidUpdate> {
    let context = UpdateContext {
        relation: Relation::External,
        remote_as: Asn::new(65001).unwrap(),
        families: Family::ALL.into(),
        extended_next_hop: true,
    };
    let mut rest = bytes;
    let mut updates = Vec::new();
    while let Some(header) = Header::decode(rest, MessageLimit::Standard).unwrap() {
        let (message, after) = rest.split_at(header.length);
        rest = after;
        let Message::Update(update) = decode(message, asn_size, MessageLimit::Standard).unwrap() else {
            panic!("not an UPDATE")
        };
        let valid = validate(&update, &context).unwrap();
        assert_eq!(valid.issues, []);
        updates.push(valid);
    }
    assert!(rest.is_empty());
    updates
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn what_is_announced_is_what_is_believed(
        attributes in attributes(),
        (family, prefixes) in prefixes(),
        two: bool,
        extended: bool,
    ) {
        let asn_size = if two { AsnSize::Two } else { AsnSize::Four };
        let next_hop = if family == Family::V6 || extended {
            NextHop::V6 { address: "2001:db8::1".parse().unwrap(), link_local: extended.then(|| "fe80::1".parse().unwrap()) }
        } else {
            NextHop::V4(Ipv4Addr::new(192, 0, 2, 1))
        };
        let announcer = Announcer::new(family, next_hop, &attributes, asn_size, MessageLimit::Standard);
        let mut bytes = Vec::new();
        let mut rest = prefixes.as_slice();
        while !rest.is_empty() {
            let left = announcer.announce(rest, &mut bytes);
            prop_assert!(left.len() < rest.len());
            rest = left;
        }
        let mut got = Vec::new();
        for update in believe(&bytes, asn_size) {
            prop_assert_eq!(&*update.attributes, &attributes);
            for reachable in update.reachable {
                prop_assert_eq!(reachable.next_hop, next_hop);
                got.extend(reachable.prefixes);
            }
        }
        prop_assert_eq!(got, prefixes);
    }

    #[test]
    fn what_is_withdrawn_is_what_is_believed((family, prefixes) in prefixes()) {
        let mut bytes = Vec::new();
        let mut rest = prefixes.as_slice();
        while !rest.is_empty() {
            rest = withdraw(family, rest, &mut bytes);
        }
        let got: Vec<IpNet> = believe(&bytes, AsnSize::Four).into_iter().flat_map(|update| update.withdrawn).collect();
        prop_assert_eq!(got, prefixes);
    }

    #[test]
    fn opens_and_refreshes_are_read_as_written(my_as: u16, hold: u16, identifier: u32, asn: u32, afi: u16, safi: u8, time in 0..4096_u16) {
        let routes = AfiSafi { afi, safi };
        let open = Open {
            my_as,
            hold_time_secs: hold,
            identifier,
            capabilities: vec![
                Capability::Multiprotocol(routes),
                Capability::FourOctetAs(asn),
                Capability::ExtendedNextHop(vec![ExtendedNextHop { routes, next_hop_afi: afi }]),
                Capability::GracefulRestart { flags: 0xc, restart_time_secs: time, families: vec![RestartFamily { routes, flags: safi }] },
                Capability::Other { code: 73, value: vec![safi; usize::from(safi)] },
                Capability::ExtendedMessage,
                Capability::EnhancedRouteRefresh,
            ],
        };
        let refresh = RouteRefresh { routes, subtype: safi, body_len: 4 };
        let (mut bytes, mut more) = (Vec::new(), Vec::new());
        open.encode(&mut bytes);
        refresh.encode(&mut more);
        prop_assert_eq!(decode(&bytes, AsnSize::Four, MessageLimit::Standard), Ok(Message::Open(open)));
        prop_assert_eq!(decode(&more, AsnSize::Four, MessageLimit::Standard), Ok(Message::RouteRefresh(refresh)));
    }
}

#[test]
fn rfc7606_5_1_mp_reach_nlri_is_the_first_attribute() {
    let next_hop = NextHop::V6 { address: "2001:db8::1".parse().unwrap(), link_local: None };
    let path = PathAttributes { as_path: AsPath::sequence(Asn::new(65001)), ..PathAttributes::default() };
    let mut bytes = Vec::new();
    Announcer::new(Family::V6, next_hop, &path, AsnSize::Four, MessageLimit::Standard)
        .announce(&["2001:db8::/32".parse().unwrap()], &mut bytes);
    expect!["UPDATE MP_REACH_NLRI IPv6 unicast next-hop 2001:db8::1: 2001:db8::/32; ORIGIN IGP; AS_PATH 65001;"]
        .assert_eq(&text(&bytes));
}

#[test]
fn rfc6793_4_2_2_as4_attributes_go_to_old_speakers_when_they_are_needed() {
    let announce = |path: &[u32]| {
        let path = path.iter().filter_map(|asn| Asn::new(*asn));
        let attributes = PathAttributes { as_path: AsPath::sequence(path), ..PathAttributes::default() };
        let mut bytes = Vec::new();
        let next_hop = NextHop::V4(Ipv4Addr::new(192, 0, 2, 1));
        Announcer::new(Family::V4, next_hop, &attributes, AsnSize::Two, MessageLimit::Standard)
            .announce(&["10.0.0.0/8".parse().unwrap()], &mut bytes);
        decode(&bytes, AsnSize::Two, MessageLimit::Standard).unwrap().to_string()
    };
    expect!["UPDATE ORIGIN IGP; AS_PATH 23456; NEXT_HOP 192.0.2.1; AS4_PATH 70000; nlri 10.0.0.0/8"]
        .assert_eq(&announce(&[70000]));
    expect!["UPDATE ORIGIN IGP; AS_PATH 65001; NEXT_HOP 192.0.2.1; nlri 10.0.0.0/8"].assert_eq(&announce(&[65001]));
}
