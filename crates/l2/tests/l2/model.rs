//! Random histories against a small model: interfaces come, go and change, sockets fail, addresses are announced and
//! withdrawn, frames arrive, time passes. The model knows the present only; what the core says must fit it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};

use kit::{Duration, Family, Instant, InterfaceIndex, Mac};
use l2::wire::ndp::Message;
use l2::wire::ndp::solicited_node;
use l2::wire::{Frame, Ndp, Payload};
use l2::{
    Action, Exclusion, Gateway, HAND_OVER_MAX, Input, Interface, InterfaceFlags, InterfaceSet, Output, Protocol,
    ROUNDS, Refresh, frames_per_round,
};
use proptest::prelude::*;

use crate::text::{Lab, index, parse_frame, subject};

/// Two IPv6 addresses share a solicited-node group.
const ADDRESSES: [&str; 5] = ["10.0.0.8", "10.0.0.9", "fc00::9", "fc00:1::9", "fc00::a"];
const NAMES: [&str; 3] = ["eth0", "eth1", "bond0"];
/// Who asks most of the questions.
const ROUTERS: [&str; 2] = ["10.0.0.1", "fc00::1"];

fn gateways(number: u32, routers: &[&str]) -> Input {
    let gateway = |text: &&str| {
        let address: IpAddr = text.parse().unwrap();
        (Family::of(&address), Gateway { interface: index(number), address })
    };
    Input::Gateways(routers.iter().map(gateway).collect())
}

#[derive(Clone, Debug)]
enum Op {
    Tell(Input),
    Ask { interface: u32, address: usize, question: Question },
    Pass { millis: u64 },
}

#[derive(Clone, Copy, Debug)]
enum Question {
    Broadcast,
    Unicast,
    Probe,
    Foreign,
}

fn interface() -> impl Strategy<Value = Interface> {
    let flags = prop_oneof![
        4 => Just(InterfaceFlags::UP | InterfaceFlags::CARRIER | InterfaceFlags::BROADCAST),
        1 => Just(InterfaceFlags::UP | InterfaceFlags::BROADCAST),
        1 => Just(InterfaceFlags::UP | InterfaceFlags::CARRIER),
        1 => Just(InterfaceFlags::BROADCAST),
        1 => Just(InterfaceFlags::UP | InterfaceFlags::CARRIER | InterfaceFlags::BROADCAST | InterfaceFlags::NOARP),
    ];
    let mac = prop_oneof![8 => (1..4u8).prop_map(Some), 1 => Just(None)];
    let link_local =
        prop::collection::btree_set((1..3u16).prop_map(|n| Ipv6Addr::new(0xfe80, 0, 0, 0, 0, 0, 0, n)), 0..3);
    let master = prop_oneof![8 => Just(None), 1 => Just(Some(index(9)))];
    let exclusion = prop_oneof![8 => Just(Exclusion::Allowed), 1 => Just(Exclusion::Excluded)];
    (1..4u32, prop::sample::select(&NAMES[..]), mac, flags, master, link_local, exclusion).prop_map(
        |(number, name, mac, flags, master, link_local, exclusion)| Interface {
            index: index(number),
            name: name.to_owned(),
            mac: mac.map(|n| Mac([2, 0, 0, 0, 0, n])),
            flags,
            master,
            link_local,
            exclusion,
        },
    )
}

fn op() -> impl Strategy<Value = Op> {
    let address = || prop::sample::select(&ADDRESSES[..]).prop_map(|text| text.parse::<IpAddr>().unwrap());
    let names = prop::collection::btree_set(prop::sample::select(&NAMES[..]).prop_map(str::to_owned), 0..3);
    let interfaces = prop_oneof![Just(InterfaceSet::All), names.prop_map(InterfaceSet::Named)];
    let question =
        prop::sample::select(vec![Question::Broadcast, Question::Unicast, Question::Probe, Question::Foreign]);
    prop_oneof![
        4 => interface().prop_map(|interface| Op::Tell(Input::Interface(interface))),
        1 => (1..4u32).prop_map(|n| Op::Tell(Input::InterfaceGone { index: index(n) })),
        1 => (1..4u32, prop::sample::select(&Protocol::ALL[..]))
            .prop_map(|(n, protocol)| Op::Tell(Input::SocketFailed { interface: index(n), protocol })),
        4 => (address(), interfaces).prop_map(|(address, interfaces)| Op::Tell(Input::Announce { address, interfaces })),
        2 => address().prop_map(|address| Op::Tell(Input::Withdraw { address })),
        2 => address().prop_map(|address| Op::Tell(Input::HandOver { address })),
        1 => (1..4u32, prop::sample::subsequence(&ROUTERS[..], 0..=2)).prop_map(|(n, routers)| Op::Tell(gateways(n, &routers))),
        8 => (1..4u32, 0..ADDRESSES.len(), question)
            .prop_map(|(interface, address, question)| Op::Ask { interface, address, question }),
        3 => (0..3000u64).prop_map(|millis| Op::Pass { millis }),
    ]
}

#[derive(Clone, Default)]
struct Model {
    interfaces: BTreeMap<InterfaceIndex, Interface>,
    failed: BTreeSet<(InterfaceIndex, Protocol)>,
    announced: BTreeMap<IpAddr, InterfaceSet>,
    /// Until when those are answered that another machine is to announce.
    handed_over: BTreeMap<IpAddr, Instant>,
    gateways: BTreeMap<Family, Gateway>,
}

impl Model {
    fn expire(&mut self, now: Instant) {
        let over: Vec<IpAddr> =
            self.handed_over.iter().filter(|(_, until)| **until <= now).map(|(address, _)| *address).collect();
        for address in over {
            self.handed_over.remove(&address);
            self.announced.remove(&address);
        }
    }

    fn tell(&mut self, now: Instant, input: &Input) {
        match input.clone() {
            Input::Interface(interface) => {
                self.interfaces.insert(interface.index, interface);
            }
            Input::InterfaceGone { index } => {
                self.interfaces.remove(&index);
            }
            Input::SocketFailed { interface, protocol } if self.open().contains(&(interface, protocol)) => {
                self.failed.insert((interface, protocol));
            }
            Input::Announce { address, interfaces } => {
                self.handed_over.remove(&address);
                self.announced.insert(address, interfaces);
            }
            Input::Withdraw { address } => {
                self.handed_over.remove(&address);
                self.announced.remove(&address);
            }
            Input::HandOver { address } if self.announced.contains_key(&address) => {
                self.handed_over.entry(address).or_insert(now + HAND_OVER_MAX);
            }
            Input::HandOver { .. } => {}
            Input::SocketFailed { .. }
            | Input::Frame { .. }
            | Input::Fellows(_)
            | Input::Station { .. }
            | Input::Repeat { .. }
            | Input::Ask { .. }
            | Input::Tick => {}
            Input::Gateways(gateways) => self.gateways = gateways,
        }
        // A socket that is not wanted has not failed.
        let wanted: BTreeSet<_> = self.wanted();
        self.failed.retain(|socket| wanted.contains(socket));
    }

    fn wanted(&self) -> BTreeSet<(InterfaceIndex, Protocol)> {
        let wants = |interface: &Interface, protocol| {
            let has = |flag| interface.flags.contains(flag);
            let usable = has(InterfaceFlags::UP) && !has(InterfaceFlags::NOARP) && interface.mac.is_some();
            let free = interface.master.is_none() && interface.exclusion == Exclusion::Allowed;
            let able = match protocol {
                Protocol::Arp => has(InterfaceFlags::BROADCAST),
                Protocol::Ndp => !interface.link_local.is_empty(),
            };
            usable && free && able
        };
        let pairs = self.interfaces.values().flat_map(|i| Protocol::ALL.into_iter().map(move |p| (i, p)));
        pairs.filter(|(interface, protocol)| wants(interface, *protocol)).map(|(i, p)| (i.index, p)).collect()
    }

    fn open(&self) -> BTreeSet<(InterfaceIndex, Protocol)> {
        self.wanted().difference(&self.failed).copied().collect()
    }

    fn answers(&self, index: InterfaceIndex, address: &IpAddr) -> bool {
        self.open().contains(&(index, Protocol::of(address)))
            && self.announced.get(address).is_some_and(|set| set.contains(&self.interfaces[&index].name))
    }

    /// With which MAC each address is answered where.
    fn live(&self) -> BTreeMap<(InterfaceIndex, IpAddr), Mac> {
        let mut live = BTreeMap::new();
        for interface in self.interfaces.values().filter(|i| i.flags.contains(InterfaceFlags::CARRIER)) {
            for address in self.announced.keys().filter(|address| self.answers(interface.index, address)) {
                live.insert((interface.index, *address), interface.mac.unwrap());
            }
        }
        live
    }

    fn groups(&self) -> BTreeSet<(InterfaceIndex, Ipv6Addr)> {
        let mut groups = BTreeSet::new();
        for index in self.interfaces.keys() {
            for address in self.announced.keys().filter(|address| self.answers(*index, address)) {
                if let IpAddr::V6(v6) = address {
                    groups.insert((*index, solicited_node(*v6)));
                }
            }
        }
        groups
    }
}

/// What a driver would hold after the actions so far, and the rounds since an address last became live.
#[derive(Default)]
struct Driver {
    open: BTreeSet<(InterfaceIndex, Protocol)>,
    groups: BTreeSet<(InterfaceIndex, Ipv6Addr)>,
    frames: BTreeMap<(InterfaceIndex, IpAddr), u32>,
    router_frames: u64,
}

/// The address that a frame asks everybody for, if it does.
fn question_of(frame: &Frame) -> Option<IpAddr> {
    let address = match frame.payload {
        Payload::Arp(arp) if arp.sender_address.is_unspecified() => IpAddr::V4(arp.target_address),
        Payload::Ndp(Ndp { message: Message::Solicitation { target, .. }, .. }) => IpAddr::V6(target),
        Payload::Arp(_) | Payload::Ndp(_) => return None,
    };
    ADDRESSES.iter().any(|text| text.parse() == Ok(address)).then_some(address)
}

/// The router that a frame is for, if it is for one.
fn router_of(frame: &Frame) -> Option<IpAddr> {
    match frame.payload {
        Payload::Arp(arp) => (arp.sender_address != arp.target_address).then_some(IpAddr::V4(arp.target_address)),
        Payload::Ndp(Ndp { message: Message::Solicitation { target, .. }, .. }) => Some(IpAddr::V6(target)),
        Payload::Ndp(ndp) => (!ndp.destination.is_multicast()).then_some(IpAddr::V6(ndp.destination)),
    }
}

impl Driver {
    fn execute(&mut self, output: Output, model: &mut Model) {
        match output {
            Output::Action(Action::Open { interface, protocol }) => {
                assert!(self.open.insert((interface, protocol)), "opened twice");
                model.failed.remove(&(interface, protocol));
            }
            Output::Action(Action::Close { interface, protocol }) => {
                assert!(self.open.remove(&(interface, protocol)), "closed twice");
                if protocol == Protocol::Ndp {
                    self.groups.retain(|(joined_on, _)| *joined_on != interface);
                }
            }
            Output::Action(Action::Join { interface, groups }) => {
                assert!(self.open.contains(&(interface, Protocol::Ndp)));
                for group in groups {
                    assert!(self.groups.insert((interface, group)), "joined twice");
                }
            }
            Output::Action(Action::Leave { interface, groups }) => {
                for group in groups {
                    assert!(self.groups.remove(&(interface, group)), "left without having joined");
                }
            }
            Output::Action(Action::Send { interface, protocol, frame }) => {
                assert!(self.open.contains(&(interface, protocol)), "sent without a socket");
                let frame = Frame::decode(&frame).unwrap();
                if let Some(address) = question_of(&frame) {
                    assert!(model.handed_over.contains_key(&address), "{frame}");
                    assert_eq!(model.live().get(&(interface, address)), Some(&frame.source), "{frame}");
                    return;
                }
                if let Some(address) = router_of(&frame) {
                    let expected = Gateway { interface, address };
                    assert_eq!(model.gateways.get(&Family::of(&address)), Some(&expected), "{frame}");
                    let names_no_address =
                        matches!(frame.payload, Payload::Ndp(Ndp { message: Message::Solicitation { .. }, .. }));
                    let is_live = |(key, mac): (&(InterfaceIndex, IpAddr), &Mac)| {
                        key.0 == interface && *mac == frame.source && (names_no_address || key.1 == subject(&frame))
                    };
                    assert!(model.live().iter().any(is_live), "told a router what is not so: {frame}");
                    self.router_frames += 1;
                    return;
                }
                let key = (interface, subject(&frame));
                assert_eq!(model.live().get(&key), Some(&frame.source), "told what is not so: {frame}");
                *self.frames.entry(key).or_default() += 1;
            }
            Output::Report(_) => {}
        }
    }
}

/// A question for the address, and whether it is one that must be answered.
fn question(model: &Model, index: InterfaceIndex, address: &str, question: Question) -> (Frame, bool) {
    let own = model.interfaces.get(&index).and_then(|interface| interface.mac).unwrap_or(Mac([2, 0, 0, 0, 0, 0x77]));
    let asker = "02:00:00:00:00:aa";
    let text = match (address.contains(':'), question) {
        (false, Question::Broadcast) => format!("{asker} > ff:ff:ff:ff:ff:ff arp who-has {address} tell 10.0.0.1"),
        (false, Question::Unicast) => format!("{asker} > {own} arp who-has {address} tell 10.0.0.1"),
        (false, Question::Probe) => format!("{asker} > ff:ff:ff:ff:ff:ff arp who-has {address} tell 0.0.0.0"),
        (false, Question::Foreign) => format!("{asker} > 02:00:00:00:00:bb arp who-has {address} tell 10.0.0.1"),
        (true, kind) => {
            let group = solicited_node(address.parse().unwrap());
            let group_mac = Mac::multicast_for(group);
            match kind {
                Question::Broadcast => {
                    format!(
                        "{asker} > {group_mac} fc00::1 > {group} neighbor solicitation who-has {address} source {asker}"
                    )
                }
                Question::Unicast => {
                    format!("{asker} > {own} fc00::1 > {address} neighbor solicitation who-has {address}")
                }
                Question::Probe => {
                    format!("{asker} > {group_mac} :: > {group} neighbor solicitation who-has {address}")
                }
                Question::Foreign => format!(
                    "{asker} > 02:00:00:00:00:bb fc00::1 > {address} neighbor solicitation who-has {address} source {asker}"
                ),
            }
        }
    };
    (parse_frame(&text), !matches!(question, Question::Foreign))
}

fn run(ops: Vec<Op>, refresh: Refresh) {
    let (mut lab, mut model, mut driver) = (Lab::with_refresh(refresh), Model::default(), Driver::default());
    for op in ops {
        let live = model.live();
        match op {
            Op::Tell(input) => {
                if let Input::Announce { address, .. } = &input
                    && model.handed_over.contains_key(address)
                {
                    // It is announced anew, wherever it stands.
                    driver.frames.retain(|(_, told), _| told != address);
                }
                model.tell(lab.now, &input);
                let now_live = model.live();
                driver.frames.retain(|key, _| now_live.contains_key(key) && live.get(key) == now_live.get(key));
                for output in lab.handle(input) {
                    driver.execute(output, &mut model);
                }
            }
            Op::Pass { millis } => pass(&mut lab, &mut model, &mut driver, Duration::from_millis(millis)),
            Op::Ask { interface, address, question: kind } => {
                let address = ADDRESSES[address];
                let (frame, asks) = question(&model, index(interface), address, kind);
                let said = lab.handle(Input::Frame { interface: index(interface), bytes: frame.encode() });
                let answers = crate::text::sent(&said);
                let expected = asks && model.answers(index(interface), &address.parse().unwrap());
                assert_eq!(answers.len(), usize::from(expected), "{frame}");
                for (_, answer) in answers {
                    assert_eq!(subject(&answer), address.parse::<IpAddr>().unwrap());
                    assert_eq!(Some(answer.source), model.interfaces[&index(interface)].mac);
                    let to_all = matches!((kind, frame.payload), (Question::Probe, Payload::Ndp(_)));
                    assert_eq!(answer.destination.is_multicast(), to_all, "{answer}");
                }
            }
        }
        assert_eq!(driver.open, model.open());
        assert_eq!(driver.groups, model.groups());
    }
    // Failed sockets come back, and then all rounds of what is live end.
    pass(&mut lab, &mut model, &mut driver, Duration::from_secs(20));
    assert!(model.failed.is_empty());
    let told = |driver: &Driver, key: &(InterfaceIndex, IpAddr)| {
        driver.frames.get(key).copied().unwrap_or(0) / frames_per_round(&key.1)
    };
    let live: Vec<_> = model.live().into_keys().collect();
    let counted: u64 = lab.responder.counters().map(|(_, counters)| counters.gateway_frames).sum();
    assert!(counted <= driver.router_frames);
    match refresh {
        Refresh::Never => {
            assert_eq!(lab.responder.next_deadline(), None);
            assert!(live.iter().all(|key| told(&driver, key) == u32::from(ROUNDS)), "{:?}", driver.frames);
        }
        Refresh::Every(interval) => {
            let before: Vec<u32> = live.iter().map(|key| told(&driver, key)).collect();
            pass(&mut lab, &mut model, &mut driver, interval);
            for (key, before) in live.iter().zip(before) {
                assert!(told(&driver, key) > before, "{key:?} is not refreshed");
            }
        }
    }
}

fn pass(lab: &mut Lab, model: &mut Model, driver: &mut Driver, span: Duration) {
    for (at, output) in lab.pass(span) {
        model.expire(at);
        let live = model.live();
        driver.execute(output, model);
        let now_live = model.live();
        driver.frames.retain(|key, _| now_live.contains_key(key) && live.get(key) == now_live.get(key));
    }
    model.expire(lab.now);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 512, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn any_history_fits_the_model(ops in prop::collection::vec(op(), 1..60)) {
        run(ops, Refresh::Never);
    }

    #[test]
    fn any_history_with_refreshes_fits_the_model(ops in prop::collection::vec(op(), 1..60)) {
        run(ops, Refresh::Every(Duration::from_secs(10)));
    }
}
