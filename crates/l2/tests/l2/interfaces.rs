//! Every state of an interface against every kind of frame, exhaustively, with the rules of contract 5.3 to 5.5 written
//! down a second time, as plainly as possible.

use kit::Mac;
use l2::{Exclusion, Input, Interface, InterfaceFlags, InterfaceSet, Output, Protocol};

use crate::text::{Lab, index, parse_frame, parse_set, sent};

const OWN: &str = "02:00:00:00:00:01";

/// Kinds of frames: what it is, and whether who responds must answer it.
const FRAMES: [(&str, Protocol, bool); 12] = [
    ("02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1", Protocol::Arp, true),
    ("02:00:00:00:00:aa > 02:00:00:00:00:01 arp who-has 10.0.0.9 tell 10.0.0.1", Protocol::Arp, true),
    ("02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 0.0.0.0", Protocol::Arp, true),
    ("02:00:00:00:00:aa > 02:00:00:00:00:bb arp who-has 10.0.0.9 tell 10.0.0.1", Protocol::Arp, false),
    ("02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.8 tell 10.0.0.1", Protocol::Arp, false),
    (
        "02:00:00:00:00:aa > 02:00:00:00:00:01 arp reply 10.0.0.9 is-at 02:00:00:00:00:aa to 10.0.0.9",
        Protocol::Arp,
        false,
    ),
    (
        "02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 \
         neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa",
        Protocol::Ndp,
        true,
    ),
    (
        "02:00:00:00:00:aa > 33:33:ff:00:00:09 :: > ff02::1:ff00:9 neighbor solicitation who-has fc00::9",
        Protocol::Ndp,
        true,
    ),
    (
        "02:00:00:00:00:aa > 02:00:00:00:00:01 fc00::1 > fc00::9 neighbor solicitation who-has fc00::9",
        Protocol::Ndp,
        true,
    ),
    (
        "02:00:00:00:00:aa > 33:33:ff:00:00:09 fc00::1 > ff02::1:ff00:9 neighbor solicitation who-has fc00::9",
        Protocol::Ndp,
        false,
    ),
    (
        "02:00:00:00:00:aa > 02:00:00:00:00:bb fc00::1 > fc00::9 \
         neighbor solicitation who-has fc00::9 source 02:00:00:00:00:aa",
        Protocol::Ndp,
        false,
    ),
    (
        "02:00:00:00:00:aa > 33:33:00:00:00:01 fe80::aa > ff02::1 \
         neighbor advertisement fc00::9 is-at 02:00:00:00:00:aa flags [override]",
        Protocol::Ndp,
        false,
    ),
];

const FLAGS: [InterfaceFlags; 4] =
    [InterfaceFlags::UP, InterfaceFlags::CARRIER, InterfaceFlags::BROADCAST, InterfaceFlags::NOARP];

/// Every interface there can be, as far as it matters.
fn interfaces() -> Vec<Interface> {
    let mut all = Vec::new();
    for bits in 0..1u32 << 8 {
        let bit = |n: u32| bits & 1 << n != 0;
        all.push(Interface {
            index: index(1),
            name: "eth0".to_owned(),
            mac: bit(4).then(|| OWN.parse::<Mac>().unwrap()),
            flags: FLAGS.into_iter().enumerate().filter(|(n, _)| bit(*n as u32)).map(|(_, flag)| flag).collect(),
            master: bit(5).then(|| index(9)),
            link_local: bit(6).then(|| "fe80::1".parse().unwrap()).into_iter().collect(),
            exclusion: if bit(7) { Exclusion::Excluded } else { Exclusion::Allowed },
        });
    }
    all
}

/// Contract 5.3.
fn responds(interface: &Interface, protocol: Protocol) -> bool {
    let has = |flag| interface.flags.contains(flag);
    has(InterfaceFlags::UP)
        && !has(InterfaceFlags::NOARP)
        && interface.master.is_none()
        && interface.exclusion == Exclusion::Allowed
        && interface.mac.is_some()
        && match protocol {
            Protocol::Arp => has(InterfaceFlags::BROADCAST),
            Protocol::Ndp => !interface.link_local.is_empty(),
        }
}

fn lab(interface: Option<Interface>, set: &InterfaceSet) -> Lab {
    let mut lab = Lab::new();
    if let Some(interface) = interface {
        lab.handle(Input::Interface(interface));
    }
    for address in ["10.0.0.9", "fc00::9"] {
        lab.handle(Input::Announce { address: address.parse().unwrap(), interfaces: set.clone() });
    }
    lab.pass(kit::Duration::from_secs(10));
    lab
}

#[test]
fn contract_5_3_every_interface_and_every_frame() {
    let mut cases = 0;
    let mut answered = 0;
    for interface in interfaces() {
        for (names, named) in [("all", true), ("eth0", true), ("eth1,eth2", false)] {
            let mut lab = lab(Some(interface.clone()), &parse_set(names));
            for (frame, protocol, asks) in FRAMES {
                let answers =
                    sent(&lab.handle(Input::Frame { interface: index(1), bytes: parse_frame(frame).encode() }));
                let expected = asks && named && responds(&interface, protocol);
                assert_eq!(answers.len(), usize::from(expected), "{interface:?} on {names}: {frame}");
                for (_, answer) in answers {
                    assert_eq!(answer.source.to_string(), OWN);
                    answered += 1;
                }
                cases += 1;
            }
        }
    }
    assert_eq!(cases, 256 * 3 * FRAMES.len());
    // Of 32 states each with an address, up, without NOARP, master and exclusion: half have broadcast or link-local.
    assert_eq!(answered, 8 * 2 * 6 / 2);
}

/// From every state of an interface to every other: what must be told again, and nothing else.
#[test]
fn contract_12_1_d15_every_change_of_an_interface() {
    let live = |interface: &Interface, protocol| {
        responds(interface, protocol) && interface.flags.contains(InterfaceFlags::CARRIER)
    };
    let (mut changes, mut told) = (0, 0);
    for before in interfaces() {
        let start = lab(Some(before.clone()), &InterfaceSet::All);
        for after in interfaces() {
            let mut lab = Lab { responder: start.responder.clone(), now: start.now };
            let said = lab.handle(Input::Interface(after.clone()));
            for protocol in Protocol::ALL {
                let becomes_live = !live(&before, protocol) && live(&after, protocol);
                let frames = sent(&said).iter().filter(|(_, frame)| protocol == carried(frame)).count();
                let expected = match (becomes_live, protocol) {
                    (false, _) => 0,
                    (true, Protocol::Arp) => 2,
                    (true, Protocol::Ndp) => 1,
                };
                assert_eq!(frames, expected, "{before:?} to {after:?}");
                let opens = Output::Action(l2::Action::Open { interface: index(1), protocol });
                let closes = Output::Action(l2::Action::Close { interface: index(1), protocol });
                let (was, is) = (responds(&before, protocol), responds(&after, protocol));
                assert_eq!(said.contains(&opens), !was && is, "{before:?} to {after:?}");
                assert_eq!(said.contains(&closes), was && !is, "{before:?} to {after:?}");
                told += usize::from(becomes_live);
            }
            changes += 1;
        }
    }
    assert_eq!(changes, 256 * 256);
    assert!(told > 1000, "{told}");
}

fn carried(frame: &l2::wire::Frame) -> Protocol {
    match frame.payload {
        l2::wire::Payload::Arp(_) => Protocol::Arp,
        l2::wire::Payload::Ndp(_) => Protocol::Ndp,
    }
}
