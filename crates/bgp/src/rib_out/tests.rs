//! Parts of the work and their limits; what goes out in whole sessions is in `tests/sessions`.

use super::*;
use crate::wire::MESSAGE_MAX;
use std::net::{IpAddr, Ipv4Addr};

fn path() -> SessionPath {
    SessionPath {
        relation: Relation::External,
        local_as: Asn::new(65001).unwrap(),
        asn_size: AsnSize::Four,
        message_limit: MessageLimit::Standard,
        next_hop_v4: Ok(NextHop::V4(Ipv4Addr::new(192, 0, 2, 1))),
        next_hop_v6: Err(RouteState::FamilyNotConfigured),
    }
}

fn prefix(n: u32) -> IpNet {
    IpNet::new(IpAddr::from((0x0a00_0000 + n).to_be_bytes()), 32).unwrap()
}

fn wanted(count: u32, communities: impl Fn(u32) -> u32) -> Wanted {
    let mut wanted = Wanted::default();
    for n in 0..count {
        let communities = [kit::Community::Standard(communities(n))].into();
        wanted.announce(prefix(n), Arc::new(RouteAttributes { communities, ..RouteAttributes::default() }));
    }
    wanted
}

const PLENTY: usize = 1 << 30;

#[test]
fn a_part_of_the_work_is_bounded_however_large_the_table() {
    let wanted = wanted(50_000, |_| 1);
    let mut rib = AdjRibOut::new(path(), vec![Family::V4], RefreshKnowledge::Plain);
    let mut parts = 0;
    while rib.has_work(&wanted) {
        let before = rib.announced(Family::V4);
        rib.flush(&wanted, PLENTY, &mut Vec::new());
        assert!(rib.announced(Family::V4) - before <= BATCH);
        parts += 1;
    }
    // One full message in each part: 807 prefixes.
    assert_eq!((rib.announced(Family::V4), parts), (50_000, 50_000_usize.div_ceil(807)));
}

#[test]
fn a_part_of_the_work_writes_one_message_more_than_there_is_room_at_most() {
    // Every route has attributes of its own: one message each.
    let wanted = wanted(3000, |n| n);
    let mut rib = AdjRibOut::new(path(), Vec::new(), RefreshKnowledge::Plain);
    let mut messages = 0;
    while rib.has_work(&wanted) {
        let mut bytes = Vec::new();
        messages += rib.flush(&wanted, 500, &mut bytes).updates;
        assert!(bytes.len() < 500 + MESSAGE_MAX && !bytes.is_empty() || !rib.has_work(&wanted), "{}", bytes.len());
    }
    assert_eq!((rib.announced(Family::V4), messages), (3000, 3000));
}

#[test]
fn an_update_is_filled_before_the_next_begins() {
    let wanted = wanted(900, |_| 1);
    let mut rib = AdjRibOut::new(path(), Vec::new(), RefreshKnowledge::Plain);
    let mut bytes = Vec::new();
    // 4096 less header, lengths and 34 bytes of attributes leave room for 807 prefixes of 5 bytes.
    assert_eq!(rib.flush(&wanted, PLENTY, &mut bytes).updates, 2);
    let first = usize::from(u16::from_be_bytes([bytes[16], bytes[17]]));
    assert!((MESSAGE_MAX - 4..=MESSAGE_MAX).contains(&first), "{first}");
}

/// Also while the peer takes little at a time, and when some routes among them look different.
#[test]
fn every_update_of_a_large_table_is_full_but_the_last() {
    for (different, updates) in [(0, 124..=124), (100, 124..=300)] {
        let wanted = wanted(100_000, |n| u32::from(different > 0 && n % 1000 < different));
        for room in [500, 20_000, PLENTY] {
            let mut rib = AdjRibOut::new(path(), Vec::new(), RefreshKnowledge::Plain);
            let mut sent = 0;
            while rib.has_work(&wanted) {
                sent += rib.flush(&wanted, room, &mut Vec::new()).updates;
            }
            assert_eq!(rib.announced(Family::V4), 100_000, "{different}, {room} bytes");
            assert!(updates.contains(&sent), "{sent} UPDATEs: {different}, {room} bytes");
        }
    }
}

#[test]
fn a_change_during_the_first_pass_goes_out_once() {
    let mut wanted = wanted(3000, |_| 1);
    let mut rib = AdjRibOut::new(path(), Vec::new(), RefreshKnowledge::Plain);
    rib.flush(&wanted, PLENTY, &mut Vec::new());
    // One that was sent already and one that was not.
    for n in [5, 2500] {
        wanted.announce(prefix(n), Arc::default());
        rib.touch(prefix(n));
    }
    let mut bytes = Vec::new();
    while rib.has_work(&wanted) {
        rib.flush(&wanted, PLENTY, &mut bytes);
    }
    let count = |n: u32| bytes.windows(5).filter(|w| w[0] == 32 && w[1..] == (0x0a00_0000 + n).to_be_bytes()).count();
    assert_eq!((count(5), count(2500), count(2501), rib.announced(Family::V4)), (1, 1, 1, 3000));
}

#[test]
fn what_was_never_sent_is_not_withdrawn() {
    let mut wanted = wanted(10, |_| 1);
    let mut rib = AdjRibOut::new(path(), Vec::new(), RefreshKnowledge::Plain);
    wanted.withdraw(&prefix(3));
    rib.touch(prefix(3));
    rib.touch(prefix(77));
    assert_eq!(rib.flush(&wanted, PLENTY, &mut Vec::new()).updates, 1);
    assert_eq!(rib.announced(Family::V4), 9);
}
