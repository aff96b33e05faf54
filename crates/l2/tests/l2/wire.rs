//! Frames: what they look like on the wire, and every rule by which they are discarded.

use std::net::Ipv6Addr;

use expect_test::{Expect, expect};
use l2::wire::ndp::solicited_node;
use l2::wire::{Discard, Frame};

use crate::text::parse_frame;

const REQUEST: &str = "02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1";
const SOLICITATION: &str = "02:00:00:00:00:aa > 33:33:ff:00:00:09 fe80::aa > ff02::1:ff00:9 \
                            neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa";
const PROBE: &str = "02:00:00:00:00:aa > 33:33:ff:00:00:09 :: > ff02::1:ff00:9 neighbor solicitation who-has fc00::9";
const ADVERTISEMENT: &str = "02:00:00:00:00:aa > 02:00:00:00:00:01 fe80::aa > fe80::1 \
                             neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [router,solicited,override]";

/// Offsets into the frames.
const ETHER_TYPE: usize = 12;
const ARP: usize = 14;
const IPV6: usize = 14;
const ICMP: usize = 54;
const OPTIONS: usize = 78;

fn dump(bytes: &[u8]) -> String {
    bytes.chunks(16).map(|line| line.iter().map(|b| format!("{b:02x}")).collect::<String>() + "\n").collect()
}

/// Decodes the frame after a change to it.
fn changed(frame: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<Frame, Discard> {
    let mut bytes = parse_frame(frame).encode();
    change(&mut bytes);
    Frame::decode(&bytes)
}

fn with_checksum(mut bytes: Vec<u8>) -> Vec<u8> {
    bytes[ICMP + 2..ICMP + 4].fill(0);
    let mut sum = bytes.len() as u32 - ICMP as u32 + 58;
    for pair in bytes[IPV6 + 8..].chunks(2) {
        sum += u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0));
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[ICMP + 2..ICMP + 4].copy_from_slice(&(!(sum as u16)).to_be_bytes());
    bytes
}

/// Decodes the frame after a change to it, with lengths and checksum made right again.
fn changed_rightly(frame: &str, change: impl FnOnce(&mut Vec<u8>)) -> Result<Frame, Discard> {
    let mut bytes = parse_frame(frame).encode();
    change(&mut bytes);
    let length = (bytes.len() - ICMP) as u16;
    bytes[IPV6 + 4..IPV6 + 6].copy_from_slice(&length.to_be_bytes());
    Frame::decode(&with_checksum(bytes))
}

fn check_bytes(frame: &str, expected: Expect) {
    let bytes = parse_frame(frame).encode();
    expected.assert_eq(&dump(&bytes));
    assert_eq!(Frame::decode(&bytes).unwrap().to_string(), frame.split_whitespace().collect::<Vec<_>>().join(" "));
    let mut padded = bytes.clone();
    padded.resize(bytes.len() + 40, 0xee);
    assert_eq!(Frame::decode(&padded), Frame::decode(&bytes), "padding is no part of the packet");
}

#[test]
fn rfc_826_the_packet_format() {
    check_bytes(
        REQUEST,
        expect![[r#"
            ffffffffffff0200000000aa08060001
            0800060400010200000000aa0a000001
            0000000000000a000009
        "#]],
    );
    check_bytes(
        "02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 10.0.0.1",
        expect![[r#"
            0200000000aa02000000000108060001
            0800060400020200000000010a000009
            0200000000aa0a000001
        "#]],
    );
}

#[test]
fn rfc_4861_4_3_and_4_4_the_message_formats_and_rfc_2464_6_the_link_layer_option() {
    check_bytes(
        SOLICITATION,
        expect![[r#"
            3333ff0000090200000000aa86dd6000
            000000203afffe800000000000000000
            0000000000aaff020000000000000000
            0001ff00000987007bb700000000fc00
            00000000000000000000000000090101
            0200000000aa
        "#]],
    );
    check_bytes(
        ADVERTISEMENT,
        expect![[r#"
            0200000000010200000000aa86dd6000
            000000203afffe800000000000000000
            0000000000aafe800000000000000000
            00000000000188009942e0000000fc00
            00000000000000000000000000090201
            0200000000aa
        "#]],
    );
    check_bytes(
        PROBE,
        expect![[r#"
            3333ff0000090200000000aa86dd6000
            000000183aff00000000000000000000
            000000000000ff020000000000000000
            0001ff00000987007e9500000000fc00
            0000000000000000000000000009
        "#]],
    );
}

#[test]
fn frames_read_as_they_display() {
    for text in [
        REQUEST,
        "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 (ff:ff:ff:ff:ff:ff) tell 10.0.0.9",
        "02:00:00:00:00:01 > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1 (02:00:00:00:00:02)",
        "02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 0.0.0.0",
        "02:00:00:00:00:01 > 02:00:00:00:00:aa arp reply 10.0.0.9 is-at 02:00:00:00:00:01 to 0.0.0.0 (00:00:00:00:00:00)",
        PROBE,
        "02:00:00:00:00:01 > 33:33:00:00:00:01 fe80::1 > ff02::1 neighbor advertisement fc00::9 flags []",
    ] {
        assert_eq!(Frame::decode(&parse_frame(text).encode()).unwrap().to_string(), text);
    }
}

#[test]
fn other_frames_are_discarded() {
    assert_eq!(changed(REQUEST, |b| b.truncate(13)), Err(Discard::EthernetTruncated));
    assert_eq!(changed(REQUEST, |b| b[ETHER_TYPE..14].copy_from_slice(&[8, 0])), Err(Discard::EtherType(0x0800)));
    // IEEE 802.1Q: a tag that the kernel did not strip is of a VLAN that is not this interface's.
    let tag = |b: &mut Vec<u8>| drop(b.splice(12..12, [0x81, 0x00, 0x00, 0x05]));
    assert_eq!(changed(REQUEST, tag), Err(Discard::EtherType(0x8100)));
    assert_eq!(changed(SOLICITATION, tag), Err(Discard::EtherType(0x8100)));
    assert_eq!(changed(SOLICITATION, |b| b[IPV6] = 0x40), Err(Discard::Ipv6Version(4)));
    assert_eq!(changed(SOLICITATION, |b| b[IPV6 + 6] = 0), Err(Discard::NextHeader(0)));
    assert_eq!(changed(SOLICITATION, |b| b[IPV6 + 5] = 33), Err(Discard::Ipv6Truncated));
    assert_eq!(changed(SOLICITATION, |b| b[ICMP] = 134), Err(Discard::IcmpType(134)));
    assert_eq!(changed(SOLICITATION, |b| b[ICMP] = 137), Err(Discard::IcmpType(137)));
}

#[test]
fn rfc_826_only_ethernet_and_ipv4_requests_and_replies() {
    assert_eq!(changed(REQUEST, |b| b.truncate(41)), Err(Discard::ArpTruncated));
    for at in 0..6 {
        assert_eq!(changed(REQUEST, |b| b[ARP + at] ^= 0x10), Err(Discard::ArpKind), "byte {at}");
    }
    assert_eq!(changed(REQUEST, |b| b[ARP + 7] = 0), Err(Discard::ArpOperation(0)));
    assert_eq!(changed(REQUEST, |b| b[ARP + 7] = 3), Err(Discard::ArpOperation(3)));
    assert_eq!(changed(REQUEST, |b| b[ARP + 6] = 1), Err(Discard::ArpOperation(0x101)));
}

#[test]
fn rfc_4861_7_1_the_hop_limit_is_255() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        for hop_limit in 0..=254 {
            assert_eq!(changed(frame, |b| b[IPV6 + 7] = hop_limit), Err(Discard::HopLimit(hop_limit)));
        }
        assert!(changed(frame, |b| b[IPV6 + 7] = 255).is_ok());
    }
}

#[test]
fn rfc_4861_7_1_the_checksum_is_valid() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        let length = parse_frame(frame).encode().len();
        // Of everything that the checksum covers, each single bit counts: both addresses and the message but for its
        // type, which is looked at before.
        for at in (IPV6 + 8..length).filter(|at| *at != ICMP) {
            for bit in 0..8 {
                let result = changed(frame, |b| b[at] ^= 1 << bit);
                let before_checksum = Err(Discard::SourceMulticast);
                assert!(
                    result == Err(Discard::Checksum) || result == before_checksum,
                    "byte {at} bit {bit}: {result:?}"
                );
            }
        }
    }
}

#[test]
fn rfc_4861_7_1_the_code_is_0() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        assert_eq!(changed_rightly(frame, |b| b[ICMP + 1] = 1), Err(Discard::Code(1)));
    }
}

#[test]
fn rfc_4861_7_1_the_icmp_length_is_at_least_24() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        for length in 4..24 {
            let result = changed_rightly(frame, |b| b.truncate(ICMP + length));
            assert_eq!(result, Err(Discard::NdpTruncated(length)));
        }
        assert!(changed_rightly(frame, |b| b.truncate(ICMP + 24)).is_ok());
    }
}

#[test]
fn rfc_4861_7_1_the_target_is_not_multicast() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        assert_eq!(changed_rightly(frame, |b| b[ICMP + 8] = 0xff), Err(Discard::TargetMulticast));
    }
}

#[test]
fn rfc_4861_7_1_no_option_has_length_0() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        for kind in 0..=255 {
            let append = |b: &mut Vec<u8>| b.extend([kind, 0, 0, 0, 0, 0, 0, 0]);
            assert_eq!(changed_rightly(frame, append), Err(Discard::OptionLengthZero), "option {kind}");
        }
    }
}

#[test]
fn options_do_not_reach_beyond_the_message() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        assert_eq!(changed_rightly(frame, |b| b.extend([14, 2, 0, 0, 0, 0, 0, 0])), Err(Discard::OptionTruncated));
        assert_eq!(changed_rightly(frame, |b| b.extend([14])), Err(Discard::OptionTruncated));
    }
}

#[test]
fn rfc_2464_6_a_link_layer_address_option_is_8_bytes_long() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        let longer = |b: &mut Vec<u8>| {
            b[OPTIONS + 1] = 2;
            b.extend([0; 8]);
        };
        assert_eq!(changed_rightly(frame, longer), Err(Discard::LinkLayerOptionLength(16)));
    }
}

#[test]
fn rfc_4861_7_1_1_a_probe_goes_to_a_solicited_node_address() {
    assert!(Frame::decode(&parse_frame(PROBE).encode()).is_ok());
    for destination in ["ff02::1", "ff02::1:fe00:9", "ff05::1:ff00:9", "ff02::2:ff00:9", "fc00::9", "fe80::1"] {
        let address: Ipv6Addr = destination.parse().unwrap();
        let result = changed_rightly(PROBE, |b| b[IPV6 + 24..ICMP].copy_from_slice(&address.octets()));
        assert_eq!(result, Err(Discard::ProbeDestination), "{destination}");
    }
}

#[test]
fn rfc_4861_7_1_1_a_probe_has_no_source_link_layer_option() {
    let append = |b: &mut Vec<u8>| b.extend([1, 1, 2, 0, 0, 0, 0, 0xaa]);
    assert_eq!(changed_rightly(PROBE, append), Err(Discard::ProbeWithLinkLayer));
}

#[test]
fn rfc_4861_7_1_2_a_solicited_advertisement_is_not_multicast() {
    let to_all =
        |b: &mut Vec<u8>| b[IPV6 + 24..ICMP].copy_from_slice(&[0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1]);
    assert_eq!(changed_rightly(ADVERTISEMENT, to_all), Err(Discard::SolicitedToMulticast));
    let unsolicited = |b: &mut Vec<u8>| {
        to_all(b);
        b[ICMP + 4] = 0x20;
    };
    assert!(changed_rightly(ADVERTISEMENT, unsolicited).is_ok());
}

#[test]
fn rfc_4291_2_7_the_source_is_not_multicast() {
    for frame in [SOLICITATION, ADVERTISEMENT] {
        assert_eq!(changed_rightly(frame, |b| b[IPV6 + 8] = 0xff), Err(Discard::SourceMulticast));
    }
}

#[test]
fn rfc_4861_7_1_what_is_reserved_or_unknown_is_ignored() {
    let plain = Frame::decode(&parse_frame(SOLICITATION).encode());
    let reserved = |b: &mut Vec<u8>| b[ICMP + 4..ICMP + 8].fill(0xff);
    assert_eq!(changed_rightly(SOLICITATION, reserved), plain);
    // A nonce (RFC 7527), a prefix that does not belong here, a target link-layer address that means nothing here, and a
    // second source link-layer address.
    let more = |b: &mut Vec<u8>| {
        b.extend([14, 1, 1, 2, 3, 4, 5, 6]);
        b.extend([3, 4].into_iter().chain([0; 30]));
        b.extend([2, 3].into_iter().chain([0; 22]));
        b.extend([1, 1, 2, 0, 0, 0, 0, 0xbb]);
    };
    assert_eq!(changed_rightly(SOLICITATION, more), plain);
    let plain = Frame::decode(&parse_frame(ADVERTISEMENT).encode());
    assert_eq!(changed_rightly(ADVERTISEMENT, |b| b[ICMP + 4..ICMP + 8].copy_from_slice(&[0xff; 4])), plain);
}

#[test]
fn rfc_4291_2_7_1_the_solicited_node_group_has_the_low_24_bits() {
    let group = |address: &str| solicited_node(address.parse().unwrap()).to_string();
    assert_eq!(group("fc00::1234:56ab:cdef"), "ff02::1:ffab:cdef");
    assert_eq!(group("::"), "ff02::1:ff00:0");
    assert_eq!(kit::Mac::multicast_for(solicited_node("fc00::9".parse().unwrap())).to_string(), "33:33:ff:00:00:09");
}
