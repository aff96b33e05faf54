//! Our codec against two others, on random messages.

#![allow(clippy::unwrap_used, clippy::panic, reason = "this is a test")]

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use bgp::wire::{
    AfiSafi, Aggregator, Announcer, AsPath, AsnSize, AttributeType, Capability, ErrorCode, ExtendedNextHop, Message,
    MessageLimit, NextHop, Notification, Open, Origin, PathAttributes, RawAttribute, RefreshSubtype, RestartFamily,
    RouteRefresh, Segment, SegmentKind, decode, end_of_rib, keepalive, withdraw,
};
use ipnet::IpNet;
use kit::{Asn, Community, ExtendedCommunity, Family, HoldTime, Rng, RouterId};
use oracle::{Meaning, PEER_AS, Session, Verdict, netgauze, netgauze_again, ours, rustbgpd, rustbgpd_again};

const SENT: u64 = 30_000;
const EDITED: u64 = 400_000;

fn session(rng: &mut Rng) -> Session {
    Session { is_internal: rng.one_in(2), four_bytes: rng.one_in(2) }
}

fn number(rng: &mut Rng) -> u32 {
    u32::try_from(rng.below(1 << 32)).unwrap()
}

fn asn(rng: &mut Rng, is_four: bool) -> Asn {
    let number = 1 + rng.below(if is_four { 1 << 20 } else { 64_000 });
    Asn::new(u32::try_from(number).unwrap()).unwrap()
}

fn many<T>(rng: &mut Rng, limit: u64, mut one: impl FnMut(&mut Rng) -> T) -> Vec<T> {
    (0..rng.below(limit)).map(|_| one(rng)).collect()
}

/// A network of hosts: netgauze refuses others.
fn prefix(rng: &mut Rng, family: Family) -> IpNet {
    let net = match family {
        Family::V4 => {
            let address = Ipv4Addr::from(0x0100_0000 + number(rng) % 0x7e00_0000);
            IpNet::new(address.into(), u8::try_from(8 + rng.below(25)).unwrap())
        }
        Family::V6 => {
            let address = u128::from(rng.next_u64()) << 64 | u128::from(rng.next_u64());
            let address = Ipv6Addr::from(0x2000 << 112 | address >> 3);
            IpNet::new(address.into(), u8::try_from(3 + rng.below(126)).unwrap())
        }
    };
    net.unwrap().trunc()
}

/// Attributes as a router might have them: also those that a speaker of ours never sends.
fn attributes(rng: &mut Rng, session: Session) -> PathAttributes {
    let segment = |rng: &mut Rng| Segment {
        kind: SegmentKind::Sequence,
        asns: (0..=rng.below(4)).map(|_| asn(rng, session.four_bytes)).collect(),
    };
    let mut path = many(rng, 3, segment);
    if !session.is_internal {
        path.insert(0, Segment { kind: SegmentKind::Sequence, asns: vec![Asn::new(PEER_AS).unwrap()] });
    }
    let community = |rng: &mut Rng| match rng.below(3) {
        0 => Community::Large(number(rng), number(rng), number(rng)),
        _ => Community::Standard(number(rng)),
    };
    PathAttributes {
        origin: *rng.pick(&[Origin::Igp, Origin::Egp, Origin::Incomplete]).unwrap(),
        as_path: AsPath(path),
        multi_exit_disc: rng.one_in(2).then(|| number(rng)),
        local_pref: session.is_internal.then(|| number(rng)),
        atomic_aggregate: rng.one_in(4),
        aggregator: rng
            .one_in(4)
            .then(|| Aggregator { asn: asn(rng, session.four_bytes), address: Ipv4Addr::new(192, 0, 2, 1) }),
        communities: many(rng, 5, community).into_iter().collect(),
        extended_communities: many(rng, 3, |rng| ExtendedCommunity(rng.next_u64().to_be_bytes())).into_iter().collect(),
    }
}

fn next_hop(rng: &mut Rng, family: Family) -> NextHop {
    let v6 = |rng: &mut Rng| Ipv6Addr::from(0x2001_0db8_u128 << 96 | u128::from(rng.next_u64()));
    let local = |rng: &mut Rng| Ipv6Addr::from(0xfe80_u128 << 112 | u128::from(rng.next_u64()));
    match (family, rng.below(4)) {
        (Family::V4, 0 | 1) => NextHop::V4(Ipv4Addr::new(192, 0, 2, u8::try_from(1 + rng.below(200)).unwrap())),
        (_, 2) => NextHop::V6 { address: v6(rng), link_local: Some(local(rng)) },
        (_, 3) => NextHop::V6 { address: local(rng), link_local: None },
        _ => NextHop::V6 { address: v6(rng), link_local: None },
    }
}

fn update(rng: &mut Rng, session: Session) -> Vec<u8> {
    let family = *rng.pick(&Family::ALL).unwrap();
    let mut out = Vec::new();
    match rng.below(8) {
        0 => end_of_rib(family, &mut out),
        1 => {
            let mut prefixes = many(rng, 6, |rng| prefix(rng, family));
            prefixes.push(prefix(rng, family));
            withdraw(family, &prefixes, &mut out);
        }
        _ => {
            let size = if session.four_bytes { AsnSize::Four } else { AsnSize::Two };
            let next_hop = next_hop(rng, family);
            let attributes = attributes(rng, session);
            let mut prefixes = many(rng, 6, |rng| prefix(rng, family));
            prefixes.push(prefix(rng, family));
            let announcer = Announcer::new(family, next_hop, &attributes, size, MessageLimit::Standard);
            announcer.announce(&prefixes, &mut out);
        }
    }
    out
}

/// The messages that are no UPDATE.
fn other(rng: &mut Rng) -> Vec<u8> {
    let families = Family::ALL.map(AfiSafi::unicast);
    let mut out = Vec::new();
    match rng.below(4) {
        0 => {
            let mut capabilities: Vec<Capability> =
                families.iter().filter(|_| rng.one_in(2)).map(|it| Capability::Multiprotocol(*it)).collect();
            let more = [
                Capability::RouteRefresh,
                Capability::EnhancedRouteRefresh,
                Capability::ExtendedMessage,
                Capability::ExtendedNextHop(vec![ExtendedNextHop::IPV4_OVER_IPV6]),
                Capability::GracefulRestart {
                    flags: u8::try_from(rng.below(4)).unwrap() << 2,
                    restart_time_secs: u16::try_from(rng.below(4096)).unwrap(),
                    families: families.iter().map(|it| RestartFamily { routes: *it, flags: 0x80 }).collect(),
                },
            ];
            capabilities.extend(more.into_iter().filter(|_| rng.one_in(2)));
            // netgauze wants an address that a host can have.
            let router_id = "192.0.2.0".parse::<Ipv4Addr>().unwrap().to_bits() | (number(rng) & 0xff);
            let router_id = RouterId::new(router_id).unwrap();
            Open::new(asn(rng, true), HoldTime::DEFAULT, router_id, capabilities).encode(&mut out);
        }
        1 => {
            let codes = [
                ErrorCode::HOLD_TIMER_EXPIRED,
                ErrorCode::PEER_DECONFIGURED,
                ErrorCode::CONNECTION_COLLISION,
                ErrorCode::BAD_PEER_AS,
            ];
            let shutdown = Notification::with_text(ErrorCode::ADMINISTRATIVE_SHUTDOWN, "for maintenance, until nine");
            let plain = Notification::new(*rng.pick(&codes).unwrap());
            if rng.one_in(3) { shutdown } else { plain }.encode(&mut out);
        }
        2 => {
            let subtypes = [RefreshSubtype::Request, RefreshSubtype::Begin, RefreshSubtype::End];
            let (family, subtype) = (*rng.pick(&families).unwrap(), *rng.pick(&subtypes).unwrap());
            RouteRefresh::new(family, subtype).encode(&mut out);
        }
        _ => keepalive(&mut out),
    }
    out
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[test]
fn what_we_write_is_read_by_others_and_written_the_same() {
    let mut rng = Rng::new(4271);
    for _ in 0..SENT {
        let bytes = other(&mut rng);
        assert_eq!(rustbgpd_again(&bytes).as_deref(), Ok(&*bytes), "{}", hex(&bytes));
        assert_eq!(netgauze_again(&bytes, true).as_deref(), Ok(&*bytes), "{}", hex(&bytes));
    }
}

#[test]
fn updates_that_we_write_mean_the_same_to_others() {
    let mut rng = Rng::new(4760);
    for _ in 0..SENT {
        let session = session(&mut rng);
        let bytes = update(&mut rng, session);
        let expected = ours(&bytes, session);
        assert!(matches!(&expected, Verdict::Update(meaning) if !meaning.has_discarded), "{expected:?}");
        assert_eq!(rustbgpd(&bytes, session), expected, "{session:?} {}", hex(&bytes));
        assert_eq!(netgauze(&bytes, session), Ok(expected), "{session:?} {}", hex(&bytes));
    }
}

/// Changes a few bytes, and mends the length.
fn edit(message: &mut Vec<u8>, rng: &mut Rng) {
    for _ in 0..=rng.below(3) {
        let at = 19 + rng.index(message.len() - 19);
        let byte = rng.next_u64().to_le_bytes()[0];
        match rng.below(5) {
            0 => message[at] = byte,
            1 => message[at] ^= 1 << rng.below(8),
            2 => message.insert(at, byte),
            3 if message.len() > 24 => drop(message.remove(at)),
            _ => message[at] = message[at].wrapping_add(1),
        }
    }
    let length = u16::try_from(message.len()).unwrap().to_be_bytes();
    message[16..18].copy_from_slice(&length);
}

#[test]
fn updates_with_faults_cost_the_same_as_with_a_codec_that_knows_rfc_7606() {
    let mut rng = Rng::new(7606);
    let mut agreed: BTreeMap<&str, u64> = BTreeMap::new();
    let mut differed: BTreeMap<&str, u64> = BTreeMap::new();
    for _ in 0..EDITED {
        let session = session(&mut rng);
        let mut bytes = update(&mut rng, session);
        edit(&mut bytes, &mut rng);
        let (mine, theirs) = (ours(&bytes, session), rustbgpd(&bytes, session));
        if mine == theirs {
            *agreed.entry(name(&mine)).or_default() += 1;
            // The third knows nothing of RFC 7606, but what is right has one meaning.
            let third = netgauze(&bytes, session);
            if let (Verdict::Update(Meaning { has_discarded: false, .. }), Ok(third)) = (&mine, third) {
                *agreed.entry("fine, with netgauze").or_default() += 1;
                assert_eq!(third, mine, "{session:?} {}", hex(&bytes));
            }
            continue;
        }
        let Some(why) = explained(&bytes, session) else {
            panic!("{session:?} {}\n ours   {mine:?}\n theirs {theirs:?}", hex(&bytes));
        };
        *differed.entry(why).or_default() += 1;
    }
    println!("agreed {agreed:#?}, differed {differed:#?}");
    for verdict in ["reset", "withdraw", "discard", "fine", "fine, with netgauze"] {
        assert!(agreed.get(verdict).is_some_and(|count| *count > 100), "{verdict} was hardly seen: {agreed:?}");
    }
    assert_eq!(differed.len(), 10, "an explanation is not needed any more: {differed:#?}");
    assert!(differed.values().sum::<u64>() < EDITED / 20, "they differ too often: {differed:#?}");
}

/// Where the two differ because the RFCs leave it open, or one of them knows more.
fn explained(bytes: &[u8], session: Session) -> Option<&'static str> {
    let size = if session.four_bytes { AsnSize::Four } else { AsnSize::Two };
    let Ok(Message::Update(update)) = decode(bytes, size, MessageLimit::Extended) else { return None };
    let has = |matches: &dyn Fn(&RawAttribute<'_>) -> bool| update.attributes.iter().any(matches);
    let unicast = Family::ALL.map(AfiSafi::unicast);
    let family = |it: &RawAttribute<'_>| match (it.kind, it.value) {
        (AttributeType::MP_REACH_NLRI | AttributeType::MP_UNREACH_NLRI, [high, low, safi, ..]) => {
            Some(AfiSafi { afi: u16::from_be_bytes([*high, *low]), safi: *safi })
        }
        _ => None,
    };
    if has(&|it| family(it).is_some_and(|family| !unicast.contains(&family))) {
        return Some(
            "families that were not negotiated are ignored here (RFC 4760 7); unknown ones are an error there",
        );
    }
    // Optional, transitive, partial.
    let flags = |it: &RawAttribute<'_>, number: u8, flags: u8| it.kind.0 == number && it.flags & 0xc0 != flags;
    if has(&|it| [(6, 0x40), (7, 0xc0), (17, 0xc0), (18, 0xc0)].iter().any(|(kind, right)| flags(it, *kind, *right))) {
        return Some(
            "wrong flags of these discard here (RFC 7606 3 (f), RFC 6793 6), and withdraw there (RFC 7606 3 (c))",
        );
    }
    if has(&|it| it.flags & 0x20 != 0 && matches!(it.kind.0, 1..=6 | 9 | 10 | 14 | 15)) {
        return Some("the Partial flag is never an error here (RFC 7606 3 (c)), and one there where it should be 0");
    }
    let is_ours = |kind: u8| matches!(kind, 1..=10 | 14..=18 | 25 | 32);
    if has(&|it| !is_ours(it.kind.0)) {
        return Some("attributes that only one knows; an unknown well-known one resets here, and withdraws there");
    }
    if !session.is_internal && has(&|it| matches!(it.kind.0, 5 | 9 | 10)) {
        return Some("discarded from an external peer before it is looked at (RFC 7606 7.5, 7.9, 7.10)");
    }
    if session.is_internal && !has(&|it| it.kind == AttributeType::LOCAL_PREF) {
        return Some("LOCAL_PREF is mandatory inside an AS here (RFC 4271 5.1.5), and not there");
    }
    if session.is_internal && !update.nlri.is_empty() && !has(&|it| it.kind == AttributeType::NEXT_HOP) {
        return Some("NEXT_HOP is mandatory inside an AS here (RFC 4271 5.1.3), and not there");
    }
    let second = |it: &RawAttribute<'_>| match it.value {
        [_, _, _, 32, rest @ ..] if it.kind == AttributeType::MP_REACH_NLRI => rest.get(16..18).map(<[u8]>::to_vec),
        _ => None,
    };
    if has(&|it| second(it).is_some_and(|bytes| bytes[0] != 0xfe || bytes[1] & 0xc0 != 0x80)) {
        return Some("a second next hop that is not link-local is not looked at here");
    }
    if has(&|it| it.kind == AttributeType::NEXT_HOP && it.value.first() == Some(&0)) {
        return Some("0.0.0.0/8 has no hosts here, and only 0.0.0.0 is none there");
    }
    let width = if session.four_bytes { 4 } else { 2 };
    if has(&|it| it.kind == AttributeType::AS_PATH && segments(it.value, width).any(|kind| kind != 2)) {
        return Some("sets withdraw there (RFC 9774)");
    }
    None
}

/// The types of the segments of a path.
fn segments(mut path: &[u8], width: usize) -> impl Iterator<Item = u8> {
    std::iter::from_fn(move || {
        let [kind, count, rest @ ..] = path else { return None };
        path = rest.get(usize::from(*count) * width..).unwrap_or_default();
        Some(*kind)
    })
}

fn name(verdict: &Verdict) -> &'static str {
    match verdict {
        Verdict::Reset => "reset",
        Verdict::Withdraw(_) => "withdraw",
        Verdict::Update(Meaning { has_discarded: true, .. }) => "discard",
        Verdict::Update(_) => "fine",
        Verdict::Other => "other",
    }
}
