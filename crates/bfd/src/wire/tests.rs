//! Packets both ways, every rule of reception that needs the packet only, and bytes that are no packets.

use std::net::IpAddr;
use std::num::NonZeroU8;

use expect_test::{Expect, expect};
use kit::{Duration, Rng};

use super::*;
use crate::Discard;

/// Debug builds take long for each; release builds do a million in a second.
const EDITED: u64 = if cfg!(debug_assertions) { 100_000 } else { 1_000_000 };

fn packet() -> ControlPacket {
    ControlPacket {
        diagnostic: Diagnostic::None,
        state: State::Up,
        poll: false,
        final_bit: false,
        control_plane_independent: false,
        demand: false,
        detect_multiplier: NonZeroU8::new(3).unwrap(),
        my_discriminator: Discriminator::new(0x0102_0304).unwrap(),
        your_discriminator: Discriminator::new(0x0506_0708),
        desired_min_tx: Duration::from_millis(300),
        required_min_rx: Duration::from_millis(50),
        required_min_echo_rx: Duration::ZERO,
    }
}

fn hex(bytes: &[u8]) -> String {
    let word = |word: &[u8]| word.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    bytes.chunks(4).map(word).collect::<Vec<_>>().join(" ")
}

fn check(packet: ControlPacket, expected: Expect) {
    let bytes = packet.encode();
    assert_eq!(ControlPacket::decode(&bytes), Ok((packet, None)));
    expected.assert_eq(&format!("{}\n{packet}\n", hex(&bytes)));
}

#[test]
fn rfc5880_4_1_the_packet_format() {
    check(
        packet(),
        expect![[r#"
            20c00318 01020304 05060708 000493e0 0000c350 00000000
            Up my=16909060 your=84281096 tx=300ms rx=50ms echo=0ns x3
        "#]],
    );
    check(
        ControlPacket {
            diagnostic: Diagnostic::DetectionExpired,
            state: State::Down,
            poll: true,
            your_discriminator: None,
            desired_min_tx: Duration::from_secs(1),
            required_min_echo_rx: Duration::from_millis(50),
            ..packet()
        },
        expect![[r#"
            21600318 01020304 00000000 000f4240 0000c350 0000c350
            Down poll my=16909060 your=0 tx=1s rx=50ms echo=50ms x3 (detection time expired)
        "#]],
    );
    check(
        ControlPacket {
            diagnostic: Diagnostic::AdministrativelyDown,
            state: State::AdminDown,
            final_bit: true,
            control_plane_independent: true,
            demand: true,
            detect_multiplier: NonZeroU8::MAX,
            ..packet()
        },
        expect![[r#"
            271aff18 01020304 05060708 000493e0 0000c350 00000000
            AdminDown final control-plane-independent demand my=16909060 your=84281096 tx=300ms rx=50ms echo=0ns x255 (administratively down)
        "#]],
    );
}

#[test]
fn rfc5880_4_1_every_diagnostic_has_five_bits() {
    for code in 0..=u8::MAX {
        let diagnostic = Diagnostic::from_code(code);
        assert_eq!(diagnostic.code(), code & 0x1f);
        let packet = ControlPacket { diagnostic, ..packet() };
        assert_eq!(ControlPacket::decode(&packet.encode()), Ok((packet, None)));
    }
}

#[test]
fn rfc5880_4_1_every_state_and_flag_is_read() {
    for state in State::ALL {
        for flags in 0..16u8 {
            let is_set = |bit| flags & bit != 0;
            let packet = ControlPacket {
                state,
                poll: is_set(1),
                final_bit: is_set(2),
                control_plane_independent: is_set(4),
                demand: is_set(8),
                ..packet()
            };
            assert_eq!(ControlPacket::decode(&packet.encode()), Ok((packet, None)));
        }
    }
}

#[test]
fn intervals_that_do_not_fit_are_cut() {
    let packet = ControlPacket { desired_min_tx: Duration::MAX, ..packet() };
    let (read, _) = ControlPacket::decode(&packet.encode()).unwrap();
    assert_eq!(read.desired_min_tx, crate::INTERVAL_MAX);
}

/// What becomes of the packet when one of its bytes is changed.
fn decoded(at: usize, byte: u8) -> Result<(), Discard> {
    let mut bytes = packet().encode();
    bytes[at] = byte;
    ControlPacket::decode(&bytes).map(|_| ())
}

#[test]
fn rfc5880_6_8_6_the_version_is_1() {
    for version in 0..8 {
        let expected = if version == 1 { Ok(()) } else { Err(Discard::Version) };
        assert_eq!(decoded(0, version << 5), expected, "version {version}");
    }
}

#[test]
fn rfc5880_6_8_6_the_length_is_24_or_with_authentication_26_at_least() {
    for length in 0..24 {
        assert_eq!(decoded(3, length), Err(Discard::LengthTooShort), "{length}");
    }
    let mut bytes = [packet().encode().as_slice(), &[1, 9, 0, 0, 0, 0, 0, 0, 0]].concat();
    bytes[1] |= 0x04;
    for (length, expected) in [(24, false), (25, false), (26, true), (33, true)] {
        bytes[3] = length;
        let kind = expected.then_some(Some(AuthenticationType(1))).ok_or(Discard::LengthTooShort);
        assert_eq!(ControlPacket::decode(&bytes).map(|(_, kind)| kind), kind, "{length}");
    }
}

#[test]
fn rfc5880_6_8_6_the_length_is_within_the_payload() {
    for length in 25..=u8::MAX {
        assert_eq!(decoded(3, length), Err(Discard::LengthBeyondPayload), "{length}");
    }
    let longer = [packet().encode().as_slice(), &[0xff; 8]].concat();
    assert_eq!(ControlPacket::decode(&longer), Ok((packet(), None)), "what follows the packet means nothing");
}

#[test]
fn rfc5880_6_8_6_the_multiplier_is_not_zero() {
    assert_eq!(decoded(2, 0), Err(Discard::DetectMultiplierZero));
    assert_eq!(decoded(2, 1), Ok(()));
}

#[test]
fn rfc5880_6_8_6_the_multipoint_bit_is_not_set() {
    assert_eq!(decoded(1, 0xc1), Err(Discard::Multipoint));
}

#[test]
fn rfc5880_6_8_6_the_senders_discriminator_is_not_zero() {
    let mut bytes = packet().encode();
    bytes[4..8].fill(0);
    assert_eq!(ControlPacket::decode(&bytes), Err(Discard::MyDiscriminatorZero));
}

#[test]
fn rfc5880_6_8_6_the_first_rule_that_is_broken_is_told() {
    // Each of these breaks all later rules too.
    let order = [
        (0, 0x00, Discard::Version),
        (3, 0x00, Discard::LengthTooShort),
        (3, 0xff, Discard::LengthBeyondPayload),
        (2, 0x00, Discard::DetectMultiplierZero),
        (1, 0xc1, Discard::Multipoint),
        (7, 0x00, Discard::MyDiscriminatorZero),
    ];
    for (first, (_, _, expected)) in order.iter().enumerate() {
        let mut bytes = packet().encode();
        bytes[4..8].copy_from_slice(&[0, 0, 0, 1]);
        for (at, byte, _) in order.iter().skip(first).rev() {
            bytes[*at] = *byte;
        }
        assert_eq!(ControlPacket::decode(&bytes), Err(*expected));
    }
}

#[test]
fn an_echo_packet_counts_only_with_the_right_tag() {
    let (key, other) = (EchoKey::new([1; 16]), EchoKey::new([2; 16]));
    let echo = EchoPacket { discriminator: Discriminator::new(7).unwrap(), sequence: u64::MAX };
    let payload = echo.encode(&key);
    assert_eq!(EchoPacket::decode(&payload), Some(echo));
    assert!(echo.is_signed(&payload, &key));
    assert!(!echo.is_signed(&payload, &other));
    for bit in 0..payload.len() * 8 {
        let mut forged = payload;
        forged[bit / 8] ^= 1 << (bit % 8);
        let is_taken = EchoPacket::decode(&forged).is_some_and(|read| read.is_signed(&forged, &key));
        assert!(!is_taken, "bit {bit}");
    }
    assert_eq!(EchoPacket::decode(&payload[..ECHO_LEN - 1]), None);
    assert_eq!(EchoPacket::decode(&[payload.as_slice(), &[0]].concat()), None);
    assert_eq!(EchoPacket::decode(&[0; ECHO_LEN]), None, "a discriminator of zero");
    assert_eq!(format!("{key:?}"), "EchoKey(***)");
}

fn datagram(local: &str) -> Vec<u8> {
    let payload: [u8; ECHO_LEN] = std::array::from_fn(|at| at as u8);
    EchoDatagram::new(local.parse().unwrap(), &payload).bytes().to_vec()
}

#[test]
fn rfc5881_4_echo_packets_go_to_port_3785_of_our_own_address() {
    expect![[r#"
        45c00030 00004000 ff11f6f9 c0000201 c0000201 0ec90ec9 001c03bd 00010203 04050607 08090a0b 0c0d0e0f 10111213
    "#]]
    .assert_eq(&(hex(&datagram("192.0.2.1")) + "\n"));
    expect![[r#"
        6c000000 001c11ff 20010db8 00000000 00000000 00000001 20010db8 00000000 00000000 00000001 0ec90ec9 001c2c4c 00010203 04050607 08090a0b 0c0d0e0f 10111213
    "#]]
    .assert_eq(&(hex(&datagram("2001:db8::1")) + "\n"));
    for local in ["192.0.2.1", "2001:db8::1"] {
        let bytes = datagram(local);
        let address: IpAddr = local.parse().unwrap();
        let read = Datagram::decode(&bytes).unwrap();
        assert_eq!((read.source, read.destination, read.ttl, read.port), (address, address, 255, ECHO_PORT));
        assert_eq!(read.payload.len(), ECHO_LEN);
    }
}

#[test]
fn other_datagrams_are_not_taken_for_echo_packets() {
    for local in ["192.0.2.1", "2001:db8::1"] {
        let whole = datagram(local);
        for length in 0..whole.len() {
            assert_eq!(Datagram::decode(&whole[..length]), None, "{local} cut to {length}");
        }
        let protocol = if local.contains(':') { 6 } else { 9 };
        for (at, byte) in [(0, 0x55), (protocol, 6)] {
            let mut other = whole.clone();
            other[at] = byte;
            assert_eq!(Datagram::decode(&other), None);
        }
    }
    let mut fragment = datagram("192.0.2.1");
    fragment[6] = 0x20;
    assert_eq!(Datagram::decode(&fragment), None);
    let mut options = datagram("192.0.2.1");
    options[0] = 0x46;
    options[3] += 4;
    options.splice(20..20, [1, 1, 1, 1]);
    assert_eq!(Datagram::decode(&options).unwrap().payload.len(), ECHO_LEN, "IPv4 options are skipped");
    let mut padded = datagram("192.0.2.1");
    padded.extend([0; 18]);
    assert_eq!(Datagram::decode(&padded).unwrap().payload.len(), ECHO_LEN, "Ethernet's padding is no part of it");
}

fn samples() -> Vec<Vec<u8>> {
    let echo = EchoPacket { discriminator: Discriminator::new(7).unwrap(), sequence: 1 };
    let mut authenticated = [packet().encode().as_slice(), &[1, 6, 1, 2, 3, 4]].concat();
    authenticated[1] |= 0x04;
    authenticated[3] = 30;
    vec![
        packet().encode().to_vec(),
        authenticated,
        echo.encode(&EchoKey::new([0; 16])).to_vec(),
        datagram("192.0.2.1"),
        datagram("2001:db8::1"),
    ]
}

#[test]
fn packets_cut_at_every_length_do_not_panic() {
    for sample in samples() {
        for length in 0..=sample.len() {
            fuzz_wire(&sample[..length]);
        }
    }
    for length in 0..CONTROL_LEN {
        assert_eq!(ControlPacket::decode(&packet().encode()[..length]), Err(Discard::Truncated));
    }
}

#[test]
fn packets_with_random_edits_do_not_panic() {
    let samples = samples();
    let mut random = Rng::new(5880);
    for _ in 0..EDITED {
        let mut bytes = random.pick(&samples).unwrap().clone();
        for _ in 0..=random.below(4) {
            let at = random.index(bytes.len());
            match random.below(5) {
                0 => bytes[at] ^= 1 << random.below(8),
                1 => bytes[at] = random.next_u64().to_le_bytes()[0],
                2 if bytes.len() > 1 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, random.next_u64().to_le_bytes()[0]),
                _ => bytes[at] = 0xff,
            }
        }
        fuzz_wire(&bytes);
    }
}
