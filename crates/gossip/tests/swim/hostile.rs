//! A member that is told nonsense: it does not panic, keeps its limits, and goes on.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use gossip::wire::{Alive, Compression, Dead, IndirectPing, Message, Ping, Source, Suspect, Versions};
use gossip::{CloseReason, Config, ConnectionId, Input, Keyring, Membership, Name, OUTBOX_LIMIT, Output, WatchState};
use kit::{Duration, Instant, Outbox, Rng};

/// Debug builds take long for each.
const INPUTS: u64 = if cfg!(debug_assertions) { 60_000 } else { 1_000_000 };

fn name(number: u64) -> Name {
    Name::new(&format!("node-{number}")).unwrap()
}

fn address(number: u64) -> SocketAddr {
    SocketAddr::new([10, 0, 0, u8::try_from(number % 200).unwrap() + 1].into(), 7946)
}

/// Some message about some member of a dozen.
fn message(rng: &mut Rng) -> Message {
    let node = name(rng.below(12));
    let from = name(rng.below(12));
    let incarnation = match rng.below(8) {
        0 => u32::MAX - u32::try_from(rng.below(3)).unwrap(),
        _ => u32::try_from(rng.below(6)).unwrap(),
    };
    let sequence = u32::try_from(rng.below(1 << 32)).unwrap();
    let source = rng.one_in(2).then(|| Source { address: address(rng.below(20)), node: Some(from.clone()) });
    match rng.below(8) {
        0 => Message::Ping(Ping { sequence, node: rng.one_in(2).then_some(node), source }),
        1 => Message::IndirectPing(IndirectPing {
            sequence,
            target: address(rng.below(20)),
            node: Some(node),
            nack: rng.one_in(2),
            source,
        }),
        2 => Message::Ack { sequence },
        3 => Message::Nack { sequence },
        4 => Message::Suspect(Suspect { incarnation, node, from }),
        5 => Message::Dead(Dead { incarnation, node, from }),
        _ => Message::Alive(Alive {
            incarnation,
            node,
            address: address(rng.below(14)),
            meta: vec![7; rng.index(20)],
            versions: (!rng.one_in(5)).then_some(Versions::OURS),
        }),
    }
}

fn edited(rng: &mut Rng, bytes: Vec<u8>) -> Vec<u8> {
    let mut bytes = bytes;
    for _ in 0..rng.below(4) {
        let at = rng.index(bytes.len());
        match rng.below(3) {
            0 if !bytes.is_empty() => bytes[at] = rng.next_u64().to_le_bytes()[0],
            1 => bytes.truncate(at),
            _ => bytes.insert(at, rng.next_u64().to_le_bytes()[0]),
        }
    }
    bytes
}

fn connection(rng: &mut Rng) -> ConnectionId {
    let number = rng.below(40);
    if rng.one_in(2) { ConnectionId::Dialed(number) } else { ConnectionId::Accepted(number) }
}

fn input(rng: &mut Rng) -> Input {
    match rng.below(24) {
        0..=10 => {
            let bytes = message(rng).encode();
            Input::Packet { from: address(rng.below(20)), bytes: edited(rng, bytes) }
        }
        11 => Input::Peers { addresses: (0..rng.below(20)).map(address).collect() },
        12 => Input::Watch { members: (0..rng.below(40)).map(name).collect::<BTreeSet<_>>() },
        13 => Input::Refused { address: address(rng.below(20)) },
        14 => Input::KernelAnswered { address: address(rng.below(20)).ip() },
        15 => Input::Accepted { connection: connection(rng), remote: address(rng.below(20)) },
        16 => Input::Connected { connection: connection(rng) },
        17 => Input::Closed { connection: connection(rng), reason: CloseReason::ByPeer },
        18 => {
            let bytes = message(rng).encode();
            Input::Received { connection: connection(rng), bytes: edited(rng, bytes) }
        }
        19 if rng.one_in(2000) => Input::Leave,
        _ => Input::Tick,
    }
}

#[test]
fn whatever_it_is_told_a_member_keeps_its_limits() {
    let mut rng = Rng::new(7946);
    let new = |rng: &mut Rng, now: Instant| {
        let config = Config::new(name(0), address(0), Keyring::plaintext());
        Membership::new(config, Rng::new(rng.next_u64()), now)
    };
    let mut now = Instant::ZERO;
    let mut member = new(&mut rng, now);
    let mut out = Outbox::with_limit(OUTBOX_LIMIT);
    for step in 0..INPUTS {
        if step % 20_000 == 0 {
            member = new(&mut rng, now);
        }
        now += match rng.below(20) {
            0 => Duration::from_millis(rng.below(3000)),
            1..=5 => member.next_deadline().map_or(Duration::ZERO, |deadline| deadline - now),
            _ => Duration::from_micros(rng.below(5000)),
        };
        member.handle(now, input(&mut rng), &mut out);
        assert_eq!(out.dropped(), 0);
        for output in out.drain() {
            if let Output::Send { bytes, .. } | Output::Ping { bytes, .. } = output {
                assert!(bytes.len() <= 1400, "a packet of {} bytes", bytes.len());
            }
        }
        if step % 100 == 0 {
            let view = member.view();
            // Edits make new names.
            assert!(view.members.len() <= 200 && view.queued <= 200, "{} {}", view.members.len(), view.queued);
            assert!(view.connections <= 150, "{}", view.connections);
            assert!(view.members.iter().filter(|it| it.watch.is_some()).count() <= 16);
        }
    }
}

#[test]
fn a_tick_ends_whatever_waits() {
    let mut rng = Rng::new(1);
    let config = Config::new(name(0), address(0), Keyring::plaintext());
    let mut member = Membership::new(config, Rng::new(1), Instant::ZERO);
    let mut out = Outbox::with_limit(OUTBOX_LIMIT);
    let mut now = Instant::ZERO;
    for _ in 0..INPUTS / 20 {
        member.handle(now, input(&mut rng), &mut out);
        out.drain().for_each(drop);
        now = member.next_deadline().unwrap().max(now);
        member.handle(now, Input::Tick, &mut out);
        out.drain().for_each(drop);
        assert!(member.next_deadline().is_none_or(|deadline| deadline > now), "due again at once");
    }
}

#[test]
fn connections_without_a_word_are_closed() {
    let config = Config::new(name(0), address(0), Keyring::plaintext());
    let mut member = Membership::new(config, Rng::new(1), Instant::ZERO);
    let mut out = Outbox::with_limit(OUTBOX_LIMIT);
    let mut refused = 0;
    for number in 0..1000 {
        let input = Input::Accepted { connection: ConnectionId::Accepted(number), remote: address(1) };
        member.handle(Instant::ZERO, input, &mut out);
        refused += out.drain().filter(|output| matches!(output, Output::Close { .. })).count();
    }
    assert_eq!((refused, member.view().connections), (1000 - 128, 128));
    member.handle(Instant::ZERO + Duration::from_secs(11), Input::Tick, &mut out);
    assert_eq!(member.view().connections, 0);
}

#[test]
fn streams_that_never_end_share_a_limit() {
    let config = Config::new(name(0), address(0), Keyring::plaintext());
    let mut member = Membership::new(config, Rng::new(1), Instant::ZERO);
    let mut out = Outbox::with_limit(OUTBOX_LIMIT);
    // A compressed message that claims a megabyte: it is waited for.
    let head = b"\x09\x82\xa4Algo\x00\xa3Buf\xc6\x00\x10\x00\x00".to_vec();
    for number in 0..100 {
        let connection = ConnectionId::Accepted(number);
        member.handle(Instant::ZERO, Input::Accepted { connection, remote: address(1) }, &mut out);
        member.handle(Instant::ZERO, Input::Received { connection, bytes: head.clone() }, &mut out);
        for _ in 0..60 {
            let bytes = vec![0; 16 * 1024];
            member.handle(Instant::ZERO, Input::Received { connection, bytes }, &mut out);
        }
        out.drain().for_each(drop);
    }
    let view = member.view();
    assert!(view.counters.streams_refused >= 80, "{}", view.counters.streams_refused);
    assert!(view.connections <= 20, "{}", view.connections);
}

#[test]
fn members_are_not_pinged_for_others_without_end() {
    let config = Config::new(name(0), address(0), Keyring::plaintext());
    let mut member = Membership::new(config, Rng::new(1), Instant::ZERO);
    let mut out = Outbox::with_limit(OUTBOX_LIMIT);
    let mut sent = 0;
    for sequence in 0..1000 {
        let ask = IndirectPing { sequence, target: address(2), node: None, nack: true, source: None };
        let bytes = Message::IndirectPing(ask).encode();
        member.handle(Instant::ZERO, Input::Packet { from: address(1), bytes }, &mut out);
        sent += out.drain().count();
    }
    assert_eq!((sent, member.counters().relays_refused), (256, 744));
}

/// The number of a packet's first ping, by its key in msgpack.
fn ping_of(bytes: &[u8]) -> Option<u32> {
    let at = bytes.windows(6).position(|it| it == b"\xa5SeqNo")? + 6;
    Some(match bytes[at] {
        0xce => u32::from_be_bytes(bytes[at + 1..at + 5].try_into().unwrap()),
        0xcd => u32::from(u16::from_be_bytes(bytes[at + 1..at + 3].try_into().unwrap())),
        0xcc => u32::from(bytes[at + 1]),
        small => u32::from(small),
    })
}

#[test]
fn crowds_that_come_answer_fall_silent_and_flap_are_looked_at_within_limits() {
    const CROWD: u64 = 1_200;
    let mut config = Config::new(name(0), address(0), Keyring::plaintext());
    config.profile.compression = Compression::Off;
    let mut member = Membership::new(config, Rng::new(1), Instant::ZERO);
    let mut out = Outbox::with_limit(OUTBOX_LIMIT);
    let place = |number: u64| SocketAddr::new([10, 2, (number / 250) as u8, (number % 250) as u8 + 1].into(), 7946);
    let come = |number: u64, incarnation: u32| {
        let node = Name::new(&format!("crowd-{number}")).unwrap();
        let (meta, versions) = (Vec::new(), Some(Versions::OURS));
        let alive = Alive { incarnation, node, address: place(number), meta, versions };
        Input::Packet { from: place(number), bytes: Message::Alive(alive).encode() }
    };
    for number in 1..=CROWD {
        member.handle(Instant::ZERO, come(number, 1), &mut out);
        out.drain().for_each(drop);
    }
    let (silent_from, end) = (Duration::from_secs(30), Duration::from_secs(45));
    let (mut now, mut most, mut flaps) = (Instant::ZERO, 0, 1);
    while now < Instant::ZERO + end {
        now = member.next_deadline().unwrap().max(now);
        let mut inputs = vec![Input::Tick];
        let is_silent = now >= Instant::ZERO + silent_from;
        if is_silent && now >= Instant::ZERO + silent_from + Duration::from_millis(100 * u64::from(flaps)) {
            flaps += 1;
            inputs.extend((1..=20).map(|number| come(number, flaps)));
        }
        while let Some(input) = inputs.pop() {
            member.handle(now, input, &mut out);
            assert_eq!(out.dropped(), 0);
            let answers = out.drain().filter_map(|output| match output {
                Output::Send { to, bytes } | Output::Ping { to, bytes } => {
                    Some(Input::Packet { from: to, bytes: Message::Ack { sequence: ping_of(&bytes)? }.encode() })
                }
                _ => None,
            });
            let answers: Vec<Input> = answers.collect();
            inputs.extend(answers.into_iter().filter(|_| !is_silent));
        }
        if is_silent {
            let states = member.view().members.into_iter().filter_map(|it| it.watch).map(|watch| watch.state);
            most = most.max(states.filter(|state| *state == WatchState::Doubtful).count());
        }
    }
    assert!(most > 200 && most <= 16 + 3 + 256, "{most} silent members were looked at at a time");
    assert!(member.names().count() <= 1 + 20, "all that are silent are known to be dead");
}

#[test]
fn nobody_is_told_of_a_death_that_was_denied() {
    let mut config = Config::new(name(0), address(0), Keyring::plaintext());
    config.profile.compression = Compression::Off;
    let mut member = Membership::new(config, Rng::new(1), Instant::ZERO);
    let mut out = Outbox::with_limit(OUTBOX_LIMIT);
    let lives = |number: u64, incarnation: u32| {
        let (node, meta, versions) = (name(number), Vec::new(), Some(Versions::OURS));
        let alive = Alive { incarnation, node, address: address(number), meta, versions };
        Input::Packet { from: address(number), bytes: Message::Alive(alive).encode() }
    };
    member.handle(Instant::ZERO, lives(1, 1), &mut out);
    member.handle(Instant::ZERO, lives(2, 1), &mut out);
    let mut now = Instant::ZERO;
    // Both answer for a while, then one.
    while member.is_member(&name(1)) {
        now = member.next_deadline().unwrap();
        let silent = now >= Instant::ZERO + Duration::from_secs(3);
        member.handle(now, Input::Tick, &mut out);
        for output in out.drain().collect::<Vec<_>>() {
            if let Output::Send { to, bytes } | Output::Ping { to, bytes } = output
                && let Some(sequence) = ping_of(&bytes).filter(|_| !silent || to == address(2))
            {
                let bytes = Message::Ack { sequence }.encode();
                member.handle(now, Input::Packet { from: to, bytes }, &mut out);
            }
        }
    }
    out.drain().for_each(drop);
    member.handle(now, lives(1, 2), &mut out);
    let end = now + Duration::from_millis(400);
    let dead = Message::Dead(Dead { incarnation: 1, node: name(1), from: name(0) }).encode();
    let mut told = 0;
    while member.next_deadline().unwrap() <= end {
        for output in out.drain() {
            if let Output::Send { bytes, .. } | Output::Ping { bytes, .. } = output {
                told += usize::from(bytes.windows(dead.len()).any(|it| it == dead));
            }
        }
        now = member.next_deadline().unwrap();
        member.handle(now, Input::Tick, &mut out);
    }
    assert_eq!(told, 0);
}
