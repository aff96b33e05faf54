//! The text language of these tests: what the core is told, one thing a line, and what it says, one thing a line.
//!
//! ```text
//! interface 1 eth0 02:00:00:00:00:01 up,carrier,broadcast fe80::1
//! announce 10.0.0.9 on all
//! 1: 02:00:00:00:00:aa > ff:ff:ff:ff:ff:ff arp who-has 10.0.0.9 tell 10.0.0.1
//! +1100ms
//! ```
//!
//! A frame reads as `Frame` displays it. `+` lets time pass, with a tick at each deadline.

use std::collections::BTreeSet;
use std::fmt::Write;
use std::net::{IpAddr, Ipv6Addr};

use expect_test::Expect;
use kit::{Duration, Family, Instant, InterfaceIndex, Mac, Outbox};
use l2::wire::arp::Operation;
use l2::wire::ndp::Message;
use l2::wire::{Arp, Frame, Ndp, Payload};
use l2::{
    Action, Claimant, Coverage, Exclusion, Gateway, Input, Interface, InterfaceFlags, InterfaceSet, OUTBOX_MAX, Output,
    Protocol, Refresh, Report, Responder, Settings,
};

pub(crate) fn index(number: u32) -> InterfaceIndex {
    InterfaceIndex::new(number).unwrap()
}

/// A responder in virtual time.
pub(crate) struct Lab {
    pub(crate) responder: Responder,
    pub(crate) now: Instant,
}

impl Lab {
    pub(crate) fn new() -> Self {
        Lab::with_refresh(Refresh::Never)
    }

    pub(crate) fn with_refresh(refresh: Refresh) -> Self {
        Lab { responder: Responder::new(Settings { refresh, seed: 7 }), now: Instant::ZERO }
    }

    pub(crate) fn handle(&mut self, input: Input) -> Vec<Output> {
        let mut out = Outbox::with_limit(OUTBOX_MAX);
        self.responder.handle(self.now, input, &mut out);
        self.responder.check_invariants();
        assert_eq!(out.dropped(), 0);
        out.drain().collect()
    }

    /// Lets time pass, with a tick at each deadline, and returns what was said and when.
    pub(crate) fn pass(&mut self, span: Duration) -> Vec<(Instant, Output)> {
        let end = self.now + span;
        let mut said = Vec::new();
        while let Some(deadline) = self.responder.next_deadline().filter(|deadline| *deadline <= end) {
            self.now = self.now.max(deadline);
            said.extend(self.handle(Input::Tick).into_iter().map(|output| (self.now, output)));
        }
        self.now = end;
        said
    }

    /// Runs a script; the result has each line of it, with what the core said to it indented below.
    pub(crate) fn run(&mut self, script: &str) -> String {
        let mut text = String::new();
        for line in script.lines().map(str::trim).filter(|line| !line.is_empty()) {
            writeln!(text, "{line}").unwrap();
            if let Some(span) = line.strip_prefix('+') {
                let millis = span.strip_suffix("ms").unwrap().parse().unwrap();
                for (at, output) in self.pass(Duration::from_millis(millis)) {
                    writeln!(text, "    {}ms {}", at.since(Instant::ZERO).as_millis(), show(&output)).unwrap();
                }
            } else {
                for output in self.handle(parse_input(line)) {
                    writeln!(text, "    {}", show(&output)).unwrap();
                }
            }
        }
        text
    }
}

/// Runs a script and compares the result.
pub(crate) fn check(script: &str, expected: Expect) {
    expected.assert_eq(&Lab::new().run(script));
}

pub(crate) fn parse_input(line: &str) -> Input {
    let words: Vec<&str> = line.split_whitespace().collect();
    match words.as_slice() {
        ["interface", number, name, mac, flags, rest @ ..] => {
            Input::Interface(parse_interface(index(number.parse().unwrap()), name, mac.parse().ok(), flags, rest))
        }
        ["gone", number] => Input::InterfaceGone { index: index(number.parse().unwrap()) },
        ["failed", number, protocol] => Input::SocketFailed {
            interface: index(number.parse().unwrap()),
            protocol: Protocol::ALL.into_iter().find(|p| p.to_string() == **protocol).unwrap(),
        },
        ["announce", address, "on", names] => {
            Input::Announce { address: address.parse().unwrap(), interfaces: parse_set(names) }
        }
        ["withdraw", address] => Input::Withdraw { address: address.parse().unwrap() },
        ["hand-over", address] => Input::HandOver { address: address.parse().unwrap() },
        ["gateway", gateways @ ..] => Input::Gateways(
            gateways
                .iter()
                .map(|gateway| {
                    let (address, interface) = gateway.split_once('@').unwrap();
                    let address: IpAddr = address.parse().unwrap();
                    (Family::of(&address), Gateway { interface: index(interface.parse().unwrap()), address })
                })
                .collect(),
        ),
        ["fellows", fellows @ ..] => Input::Fellows(fellows.iter().map(|fellow| fellow.parse().unwrap()).collect()),
        ["station", address, "is-at", mac] => {
            Input::Station { address: address.parse().unwrap(), mac: mac.parse().unwrap() }
        }
        ["repeat", address] => Input::Repeat { address: address.parse().unwrap() },
        ["ask", fellow, "for", address] => {
            Input::Ask { address: address.parse().unwrap(), fellow: fellow.parse().unwrap() }
        }
        ["tick"] => Input::Tick,
        _ => {
            let (number, frame) = line.split_once(": ").unwrap_or_else(|| panic!("{line:?}"));
            Input::Frame { interface: index(number.parse().unwrap()), bytes: parse_frame(frame).encode() }
        }
    }
}

pub(crate) fn parse_set(names: &str) -> InterfaceSet {
    match names {
        "all" => InterfaceSet::All,
        names => InterfaceSet::Named(names.split(',').map(str::to_owned).collect()),
    }
}

fn parse_interface(index: InterfaceIndex, name: &str, mac: Option<Mac>, flags: &str, rest: &[&str]) -> Interface {
    let flag = |name: &str| match name {
        "up" => InterfaceFlags::UP,
        "carrier" => InterfaceFlags::CARRIER,
        "broadcast" => InterfaceFlags::BROADCAST,
        "noarp" => InterfaceFlags::NOARP,
        "none" => InterfaceFlags::NONE,
        other => panic!("{other:?} is not a flag"),
    };
    let mut interface = Interface {
        index,
        name: name.to_owned(),
        mac,
        flags: flags.split(',').map(flag).collect(),
        master: None,
        link_local: BTreeSet::new(),
        exclusion: Exclusion::Allowed,
    };
    for word in rest {
        if *word == "excluded" {
            interface.exclusion = Exclusion::Excluded;
        } else if let Some(master) = word.strip_prefix("master=") {
            interface.master = InterfaceIndex::new(master.parse().unwrap());
        } else {
            interface.link_local.insert(word.parse().unwrap());
        }
    }
    interface
}

/// Reads what `Frame` displays.
pub(crate) fn parse_frame(text: &str) -> Frame {
    let words: Vec<&str> = text.split_whitespace().collect();
    let [source, ">", destination, rest @ ..] = words.as_slice() else { panic!("{text:?}") };
    let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
    let payload = match rest {
        ["arp", rest @ ..] => Payload::Arp(parse_arp(source, destination, rest)),
        [from, ">", to, rest @ ..] => Payload::Ndp(Ndp {
            source: from.parse().unwrap(),
            destination: to.parse().unwrap(),
            message: parse_message(rest),
        }),
        _ => panic!("{text:?}"),
    };
    Frame { source, destination, payload }
}

fn parse_arp(source: Mac, destination: Mac, words: &[&str]) -> Arp {
    let mac = |word: &str| -> Mac { word.trim_matches(['(', ')']).parse().unwrap() };
    let (operation, target, target_mac, sender, sender_mac) = match words {
        ["who-has", target, "tell", sender] => (Operation::Request, target, Mac::ZERO, sender, source),
        ["who-has", target, "tell", sender, at] => (Operation::Request, target, Mac::ZERO, sender, mac(at)),
        ["who-has", target, of, "tell", sender] => (Operation::Request, target, mac(of), sender, source),
        ["who-has", target, of, "tell", sender, at] => (Operation::Request, target, mac(of), sender, mac(at)),
        ["reply", sender, "is-at", at, "to", target] => (Operation::Reply, target, destination, sender, mac(at)),
        ["reply", sender, "is-at", at, "to", target, of] => (Operation::Reply, target, mac(of), sender, mac(at)),
        _ => panic!("{words:?}"),
    };
    let (sender_address, target_address) = (sender.parse().unwrap(), target.parse().unwrap());
    Arp { operation, sender_mac, sender_address, target_mac, target_address }
}

fn parse_message(words: &[&str]) -> Message {
    let target = |word: &str| -> Ipv6Addr { word.parse().unwrap() };
    match words {
        ["neighbor", "solicitation", "who-has", address] => {
            Message::Solicitation { target: target(address), source_mac: None }
        }
        ["neighbor", "solicitation", "who-has", address, "source", mac] => {
            Message::Solicitation { target: target(address), source_mac: Some(mac.parse().unwrap()) }
        }
        ["neighbor", "advertisement", address, rest @ .., "flags", flags] => {
            let set: Vec<&str> = flags.trim_matches(['[', ']']).split(',').collect();
            Message::Advertisement {
                target: target(address),
                target_mac: rest.get(1).map(|mac| mac.parse().unwrap()),
                router: set.contains(&"router"),
                solicited: set.contains(&"solicited"),
                overriding: set.contains(&"override"),
            }
        }
        _ => panic!("{words:?}"),
    }
}

pub(crate) fn show(output: &Output) -> String {
    let list = |groups: &[Ipv6Addr]| groups.iter().map(Ipv6Addr::to_string).collect::<Vec<_>>().join(" ");
    match output {
        Output::Action(Action::Open { interface, protocol }) => format!("open {protocol} on {interface}"),
        Output::Action(Action::Close { interface, protocol }) => format!("close {protocol} on {interface}"),
        Output::Action(Action::Join { interface, groups }) => format!("join on {interface}: {}", list(groups)),
        Output::Action(Action::Leave { interface, groups }) => format!("leave on {interface}: {}", list(groups)),
        Output::Action(Action::Send { interface, frame, protocol }) => {
            let frame = Frame::decode(frame).unwrap();
            let carried = match frame.payload {
                Payload::Arp(_) => Protocol::Arp,
                Payload::Ndp(_) => Protocol::Ndp,
            };
            assert_eq!(carried, *protocol);
            format!("{interface}: {frame}")
        }
        Output::Report(Report::Coverage { interfaces, family, coverage }) => {
            let interfaces = match interfaces {
                InterfaceSet::All => "all".to_owned(),
                InterfaceSet::Named(names) => names.iter().cloned().collect::<Vec<_>>().join(","),
            };
            let coverage = match coverage {
                Coverage::Answered(names) => names.iter().cloned().collect::<Vec<_>>().join(","),
                other => format!("{other:?}"),
            };
            format!("{family} on {interfaces}: {coverage}")
        }
        Output::Report(Report::Conflict { address, interface, mac, kind, claimant }) => {
            let whose = match claimant {
                Claimant::Stranger => String::new(),
                Claimant::Fellow(fellow) => format!(" of {fellow}"),
            };
            format!("{address} claimed by {mac}{whose} on {interface} ({kind:?})")
        }
        Output::Report(Report::Unknown { mac }) => format!("who is {mac}?"),
        Output::Report(Report::Answer { address, fellow }) => format!("{address} is with {fellow}"),
    }
}

/// The frames that were sent, with their interface.
pub(crate) fn sent(outputs: &[Output]) -> Vec<(InterfaceIndex, Frame)> {
    let frame = |output: &Output| match output {
        Output::Action(Action::Send { interface, frame, .. }) => Some((*interface, Frame::decode(frame).unwrap())),
        _ => None,
    };
    outputs.iter().filter_map(frame).collect()
}

/// The address that a frame answers or announces.
pub(crate) fn subject(frame: &Frame) -> IpAddr {
    match frame.payload {
        Payload::Arp(arp) => IpAddr::V4(arp.sender_address),
        Payload::Ndp(Ndp { message: Message::Advertisement { target, .. }, .. }) => IpAddr::V6(target),
        Payload::Ndp(_) => panic!("{frame}"),
    }
}
