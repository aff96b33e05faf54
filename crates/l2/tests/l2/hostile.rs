//! Hostile bytes: frames cut at every length and edited at random never panic, and never make us say something wrong.
//!
//! A debug build tries tens of thousands, a release build a million.

use std::net::IpAddr;

use kit::Rng;
use l2::wire::{Frame, Payload, fuzz_frame};
use l2::{Input, Output, Protocol};

use crate::text::{Lab, index, parse_frame, sent, subject};

const EDITED: u32 = if cfg!(debug_assertions) { 50_000 } else { 1_000_000 };

const SEEDS: [&str; 6] = [
    "02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1",
    "02:00:00:00:00:aa > 02:00:00:00:00:01 arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.1",
    "02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 \
     neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa",
    "02:00:00:00:00:aa > 33:33:ff:00:00:09 :: > ff02::1:ff00:9 neighbor solicitation who-has fc00::9",
    "02:00:00:00:00:aa > 02:00:00:00:00:01 fc00::1 > fc00::9 neighbor solicitation who-has fc00::9",
    "02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 \
     neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]",
];

fn host() -> Lab {
    let mut lab = Lab::new();
    lab.run(
        "
        interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
        announce 10.0.0.9 on all
        announce fc00::9 on all
        +10000ms
        ",
    );
    lab
}

/// Feeds bytes to the decoder and to the core; the answers, all of which must make sense.
fn feed(lab: &mut Lab, bytes: &[u8]) -> usize {
    fuzz_frame(bytes);
    let mut out = kit::Outbox::with_limit(4);
    lab.responder.handle(lab.now, Input::Frame { interface: index(1), bytes: bytes.to_vec() }, &mut out);
    assert_eq!(out.dropped(), 0);
    let said: Vec<Output> = out.drain().collect();
    let answers = sent(&said);
    for (_, answer) in &answers {
        let ours: [IpAddr; 2] = ["10.0.0.9".parse().unwrap(), "fc00::9".parse().unwrap()];
        assert!(ours.contains(&subject(answer)), "{answer}");
        assert_eq!(answer.source.to_string(), "02:00:00:00:00:01");
        let to_all = answer.destination.to_string() == "33:33:00:00:00:01";
        assert!(to_all || !answer.destination.is_multicast(), "{answer}");
    }
    answers.len()
}

/// Makes the checksum right, so that edits reach what lies behind it.
fn mend(bytes: &mut [u8]) {
    if bytes.len() < 58 || bytes[12..14] != [0x86, 0xdd] {
        return;
    }
    let length = usize::from(u16::from_be_bytes([bytes[18], bytes[19]]));
    let Some(message) = bytes.get(54..54 + length) else { return };
    if length < 4 {
        return;
    }
    let words = |bytes: &[u8]| -> u32 {
        bytes.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(*pair.get(1).unwrap_or(&0))).sum()
    };
    let old = u32::from(bytes[56]) << 8 | u32::from(bytes[57]);
    let mut sum = words(&bytes[22..54]) + words(message) - old + length as u32 + 58;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    bytes[56..58].copy_from_slice(&(!(sum as u16)).to_be_bytes());
}

#[test]
fn frames_cut_at_every_length() {
    let mut lab = host();
    let mut answered = 0;
    for seed in SEEDS {
        let bytes = parse_frame(seed).encode();
        for length in 0..=bytes.len() {
            let answers = feed(&mut lab, &bytes[..length]);
            assert!(answers == 0 || length == bytes.len(), "{length} bytes of {seed}");
            answered += answers;
        }
    }
    assert_eq!(answered, 4);
}

#[test]
fn frames_edited_at_random() {
    let mut rng = Rng::new(826);
    let mut lab = host();
    let (mut understood, mut answered) = (0, 0);
    for _ in 0..EDITED {
        let mut bytes = parse_frame(rng.pick(&SEEDS).unwrap()).encode();
        for _ in 0..=rng.below(3) {
            let at = rng.index(bytes.len());
            match rng.below(6) {
                0 => bytes[at] = rng.next_u64() as u8,
                1 => bytes[at] ^= 1 << rng.below(8),
                2 => bytes.truncate(at.max(1)),
                3 => bytes.insert(at, rng.next_u64() as u8),
                4 => bytes.extend([rng.below(16) as u8, rng.below(4) as u8, 0, 0, 0, 0, 0, 0]),
                _ => bytes[at] = *rng.pick(&[0x00, 0x7f, 0x80, 0xff]).unwrap(),
            }
        }
        if rng.one_in(2) {
            mend(&mut bytes);
        }
        understood += u32::from(Frame::decode(&bytes).is_ok());
        answered += feed(&mut lab, &bytes) as u32;
    }
    lab.responder.check_invariants();
    println!("{EDITED} edited frames: {understood} understood, {answered} answered");
    assert!(understood > EDITED / 20 && answered > EDITED / 50, "{understood} understood, {answered} answered");
}

#[test]
fn random_bytes() {
    let mut rng = Rng::new(4861);
    let mut lab = host();
    for _ in 0..EDITED / 5 {
        let bytes: Vec<u8> = (0..rng.below(120)).map(|_| rng.next_u64() as u8).collect();
        assert_eq!(feed(&mut lab, &bytes), 0);
    }
}

#[test]
fn an_answer_is_never_larger_in_number_than_what_was_asked() {
    for seed in SEEDS {
        let frame = parse_frame(seed);
        let answers = feed(&mut host(), &frame.encode());
        let protocol = match frame.payload {
            Payload::Arp(_) => Protocol::Arp,
            Payload::Ndp(_) => Protocol::Ndp,
        };
        assert!(answers <= 1, "{protocol}: {seed}");
    }
}
