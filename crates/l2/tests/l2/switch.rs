//! A switch that forgets stations after 300 s and a router that keeps them for 1,200 s, over hours of virtual time: whatever the
//! router sends to an address goes to the port of the node that has it, and is never flooded, dropped or sent to another.
//!
//! The nodes only receive through this segment: their answers take another way, so the switch learns nothing of them but by
//! what the core sends.

use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;

use kit::{Duration, Instant, Mac, Rng};
use l2::wire::ndp::{Message, solicited_node};
use l2::wire::{Frame, Ndp, Payload};
use l2::{Input, InterfaceSet, Refresh};

use crate::text::{Lab, index, parse_frame, parse_input, sent, subject};

/// IEEE 802.1D-2004 table 7-5.
const STATION_AGE: Duration = Duration::from_secs(300);
const ENTRY_AGE: Duration = Duration::from_secs(1_200);
/// RFC 4861 section 10.
const REACHABLE: Duration = Duration::from_secs(30);
const DELAY_FIRST_PROBE: Duration = Duration::from_secs(5);
const RETRANSMIT: Duration = Duration::from_secs(1);
const PROBES_MAX: u32 = 3;

const ADDRESSES: [&str; 2] = ["10.0.0.9", "fc00::9"];
const NODES: usize = 3;
const ROUTER_PORT: usize = NODES;
const ROUTER_MAC: &str = "02:00:00:00:00:aa";
/// From a crash until the heir is told.
const DETECTION: Duration = Duration::from_millis(400);
/// Rounds this long after a transition are refreshes.
const SETTLED: Duration = Duration::from_secs(10);

/// What a router does about stations that it knows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Habit {
    /// It forgets them when it has not heard of them for [`ENTRY_AGE`].
    Ages,
    /// The same, and it hears nothing but answers to its own questions.
    AgesDeaf,
    /// It probes those that it uses and has not heard of for [`REACHABLE`] (RFC 4861 section 7.3).
    Probes,
}

/// What becomes of the frames with which an address is refreshed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Loss {
    None,
    EverySecondRefresh,
}

/// A station that the router knows.
#[derive(Clone, Copy, Debug)]
struct Entry {
    mac: Mac,
    heard: Instant,
    /// When it probes next, and how often it has.
    probe: Option<(Instant, u32)>,
}

struct Segment {
    now: Instant,
    nodes: Vec<Lab>,
    has_power: [bool; NODES],
    /// Which port leads to a station, and when that was learnt.
    stations: BTreeMap<Mac, (usize, Instant)>,
    habit: Habit,
    router: BTreeMap<IpAddr, Entry>,
    /// Who has each address: two while it is handed over, none before the heir of a dead node knows.
    owners: BTreeMap<IpAddr, Vec<usize>>,
    since: Instant,
    loss: Loss,
    /// Of each address the last refresh, and how many there were.
    refreshes: BTreeMap<IpAddr, (Instant, u32)>,
}

fn mac(node: usize) -> Mac {
    Mac([2, 0, 0, 0, 0, u8::try_from(node + 1).unwrap()])
}

fn node(refresh: Refresh, now: Instant, number: usize) -> Lab {
    let mut lab = Lab::with_refresh(refresh);
    lab.now = now;
    lab.handle(parse_input(&format!("interface 1 eth0 {} up,carrier,broadcast fe80::{}", mac(number), number + 1)));
    lab
}

impl Segment {
    fn new(refresh: Refresh, habit: Habit, loss: Loss) -> Segment {
        let now = Instant::ZERO;
        let mut segment = Segment {
            now,
            nodes: (0..NODES).map(|number| node(refresh, now, number)).collect(),
            has_power: [true; NODES],
            stations: BTreeMap::new(),
            habit,
            router: BTreeMap::new(),
            owners: BTreeMap::new(),
            since: now,
            loss,
            refreshes: BTreeMap::new(),
        };
        for address in ADDRESSES {
            segment.announce(0, address.parse().unwrap());
            segment.use_address(address.parse().unwrap());
        }
        segment
    }

    fn announce(&mut self, node: usize, address: IpAddr) {
        self.owners.entry(address).or_default().push(node);
        self.since = self.now;
        self.tell(node, Input::Announce { address, interfaces: InterfaceSet::All });
    }

    fn tell(&mut self, node: usize, input: Input) {
        if self.has_power[node] {
            self.nodes[node].now = self.now;
            let frames = sent(&self.nodes[node].handle(input)).into_iter().map(|(_, frame)| (node, frame)).collect();
            self.deliver(frames);
        }
    }

    /// Frames arrive at the switch, and what follows from them.
    fn deliver(&mut self, mut frames: VecDeque<(usize, Frame)>) {
        while let Some((from, frame)) = frames.pop_front() {
            if from != ROUTER_PORT && self.is_lost(&frame) {
                continue;
            }
            self.stations.insert(frame.source, (from, self.now));
            let ports: Vec<usize> = match self.port_of(frame.destination) {
                Some(port) => vec![port],
                None => (0..=ROUTER_PORT).filter(|port| *port != from).collect(),
            };
            for port in ports {
                if port == ROUTER_PORT {
                    self.router_hears(&frame);
                } else if self.has_power[port] {
                    self.nodes[port].now = self.now;
                    let input = Input::Frame { interface: index(1), bytes: frame.encode() };
                    frames.extend(sent(&self.nodes[port].handle(input)).into_iter().map(|(_, frame)| (port, frame)));
                }
            }
        }
    }

    fn port_of(&self, station: Mac) -> Option<usize> {
        let (port, learnt) = self.stations.get(&station)?;
        (self.now.since(*learnt) < STATION_AGE).then_some(*port)
    }

    /// Every second refresh of an address is lost, all its frames: never two in a row.
    fn is_lost(&mut self, frame: &Frame) -> bool {
        let is_for_all = frame.destination.0[0] & 1 == 1;
        let is_question = matches!(frame.payload, Payload::Ndp(Ndp { message: Message::Solicitation { .. }, .. }));
        if self.loss == Loss::None || !is_for_all || is_question || self.now.since(self.since) < SETTLED {
            return false;
        }
        let (last, count) = self.refreshes.entry(subject(frame)).or_insert((Instant::ZERO, 0));
        if *last != self.now {
            (*last, *count) = (self.now, *count + 1);
        }
        *count % 2 == 1
    }

    fn router_hears(&mut self, frame: &Frame) {
        let (address, told, is_answer) = match frame.payload {
            Payload::Arp(arp) => (IpAddr::V4(arp.sender_address), arp.sender_mac, frame.destination == router_mac()),
            Payload::Ndp(Ndp { message: Message::Advertisement { target, target_mac, solicited, .. }, .. }) => {
                (IpAddr::V6(target), target_mac.unwrap_or(frame.source), solicited)
            }
            Payload::Ndp(_) => return,
        };
        let is_known = self.router.contains_key(&address);
        if is_answer || (is_known && self.habit != Habit::AgesDeaf) {
            self.router.insert(address, Entry { mac: told, heard: self.now, probe: None });
        }
    }

    /// The router asks for an address: a station that it knows, or everybody.
    fn ask(&mut self, address: IpAddr, station: Option<Mac>) {
        let router = ROUTER_MAC;
        let text = match address {
            IpAddr::V4(_) => {
                let to = station.map_or_else(|| "ff:ff:ff:ff:ff:ff".to_owned(), |mac| mac.to_string());
                format!("{router} > {to} arp who-has {address} tell 10.0.0.1")
            }
            IpAddr::V6(v6) => {
                let group = solicited_node(v6);
                let (to, to_mac) = match station {
                    Some(mac) => (v6.to_string(), mac),
                    None => (group.to_string(), Mac::multicast_for(group)),
                };
                format!("{router} > {to_mac} fc00::1 > {to} neighbor solicitation who-has {address} source {router}")
            }
        };
        self.deliver([(ROUTER_PORT, parse_frame(&text))].into());
    }

    /// The router has a packet for an address.
    fn use_address(&mut self, address: IpAddr) {
        match self.router.get_mut(&address) {
            None => self.ask(address, None),
            Some(entry) => {
                if self.habit == Habit::Probes && entry.probe.is_none() && self.now.since(entry.heard) >= REACHABLE {
                    entry.probe = Some((self.now + DELAY_FIRST_PROBE, 0));
                }
            }
        }
        // Frames of the router, whatever they are for.
        self.stations.insert(router_mac(), (ROUTER_PORT, self.now));
    }

    fn router_deadline(&self) -> Option<Instant> {
        let of = |entry: &Entry| match (self.habit, entry.probe) {
            (Habit::Probes, Some((at, _))) => Some(at),
            (Habit::Probes, None) => None,
            (Habit::Ages | Habit::AgesDeaf, _) => Some(entry.heard + ENTRY_AGE),
        };
        self.router.values().filter_map(of).min()
    }

    fn router_tick(&mut self) {
        for (address, entry) in self.router.clone() {
            match (self.habit, entry.probe) {
                (Habit::Probes, Some((at, probes))) if at <= self.now => {
                    if probes == PROBES_MAX {
                        self.router.remove(&address);
                        self.ask(address, None);
                    } else {
                        let probe = Some((self.now + RETRANSMIT, probes + 1));
                        self.router.insert(address, Entry { probe, ..entry });
                        self.ask(address, Some(entry.mac));
                    }
                }
                (Habit::Ages | Habit::AgesDeaf, _) if entry.heard + ENTRY_AGE <= self.now => {
                    self.router.remove(&address);
                    self.ask(address, None);
                }
                _ => {}
            }
        }
    }

    /// Where a frame of the router to an address would go now, if that is wrong.
    fn hole(&self) -> Option<String> {
        self.owners.iter().filter(|(_, owners)| !owners.is_empty()).find_map(|(address, owners)| {
            let at = self.now.since(Instant::ZERO);
            let Some(entry) = self.router.get(address) else {
                return Some(format!("{at}: the router knows no station for {address}"));
            };
            match self.port_of(entry.mac) {
                Some(port) if owners.contains(&port) => None,
                port => Some(format!("{at}: {address} is at {owners:?}, frames to {} go to {port:?}", entry.mac)),
            }
        })
    }

    /// Lets time pass; the first hole ends it.
    fn pass(&mut self, until: Instant) -> Result<(), String> {
        loop {
            let nodes = (0..NODES).filter(|node| self.has_power[*node]);
            let next_node = nodes.filter_map(|node| Some((self.nodes[node].responder.next_deadline()?, node))).min();
            let due = [next_node.map(|(at, _)| at), self.router_deadline()].into_iter().flatten().min();
            let Some(due) = due.filter(|due| *due <= until) else { break };
            // A switch forgets between two events, and that shows at the next.
            self.now = self.now.max(due);
            self.hole().map_or(Ok(()), Err)?;
            match next_node {
                Some((at, node)) if at <= due => self.tell(node, Input::Tick),
                _ => self.router_tick(),
            }
            self.hole().map_or(Ok(()), Err)?;
        }
        self.now = until;
        self.hole().map_or(Ok(()), Err)
    }

    /// All addresses move to another node.
    fn move_to(&mut self, refresh: Refresh, heir: usize, how: Move) -> Result<(), String> {
        let old = self.owners.values().next().unwrap()[0];
        match how {
            Move::Crash => {
                self.has_power[old] = false;
                self.owners.values_mut().for_each(Vec::clear);
                self.pass(self.now + DETECTION)?;
                for address in ADDRESSES {
                    self.announce(heir, address.parse().unwrap());
                }
                self.hole().map_or(Ok(()), Err)?;
                self.pass(self.now + Duration::from_secs(60))?;
                self.nodes[old] = node(refresh, self.now, old);
                self.has_power[old] = true;
                self.pass(self.now + Duration::from_secs(1))
            }
            Move::HandOver { after } => {
                // Nobody knows which of the two hears of it first.
                let mut steps = [(Duration::ZERO, old), (after, heir)];
                if self.now.as_micros().is_multiple_of(2) {
                    steps = [(Duration::ZERO, heir), (after, old)];
                }
                for (wait, node) in steps {
                    self.pass(self.now + wait)?;
                    for address in ADDRESSES {
                        let address = address.parse().unwrap();
                        if node == heir {
                            self.announce(heir, address);
                        } else {
                            self.tell(old, Input::HandOver { address });
                        }
                    }
                    self.hole().map_or(Ok(()), Err)?;
                }
                self.pass(self.now + Duration::from_millis(10))?;
                self.owners.values_mut().for_each(|owners| owners.retain(|owner| *owner == heir));
                self.hole().map_or(Ok(()), Err)
            }
        }
    }
}

fn router_mac() -> Mac {
    ROUTER_MAC.parse().unwrap()
}

#[derive(Clone, Copy, Debug)]
enum Move {
    Crash,
    HandOver { after: Duration },
}

/// Some hours with traffic that comes and rests; gives the first hole.
fn hours(seed: u64, refresh: Refresh, habit: Habit, loss: Loss) -> Result<Segment, String> {
    let mut random = Rng::new(seed);
    let mut segment = Segment::new(refresh, habit, loss);
    let end = Instant::ZERO + Duration::from_secs(8 * 3_600);
    while segment.now < end {
        match random.below(8) {
            // A router that hears no news learns of no move, by design.
            0 if habit != Habit::AgesDeaf => {
                let owner = segment.owners.values().next().unwrap()[0];
                let others: Vec<usize> = (0..NODES).filter(|node| *node != owner).collect();
                let how = match random.below(2) {
                    0 => Move::Crash,
                    _ => Move::HandOver { after: Duration::from_micros(random.below(50_000)) },
                };
                segment.move_to(refresh, *random.pick(&others).unwrap(), how)?;
            }
            1..=4 => {
                for address in ADDRESSES {
                    segment.use_address(address.parse().unwrap());
                }
            }
            _ => {}
        }
        let rest = if random.below(4) == 0 { random.below(4_000_000) } else { random.below(20_000) };
        segment.pass(segment.now + Duration::from_millis(rest))?;
    }
    Ok(segment)
}

#[test]
fn what_a_router_sends_goes_to_the_owner_for_ever() {
    for seed in 0..60 {
        for habit in [Habit::Ages, Habit::AgesDeaf, Habit::Probes] {
            for loss in [Loss::None, Loss::EverySecondRefresh] {
                if let Err(hole) = hours(seed, Refresh::DEFAULT, habit, loss) {
                    panic!("seed {seed}, {habit:?}, loss {loss:?}: {hole}");
                }
            }
        }
    }
}

/// The segment is one in which that takes something: without refreshes, as the Go implementation has it, every router finds
/// a hole, and with refreshes that are too rare, one of which is lost, so it does.
#[test]
fn without_refreshes_there_are_holes() {
    let rare = Refresh::Every(Duration::from_secs(200));
    for seed in 0..20 {
        for habit in [Habit::Ages, Habit::AgesDeaf, Habit::Probes] {
            assert!(hours(seed, Refresh::Never, habit, Loss::None).is_err(), "seed {seed}, {habit:?}");
            assert!(hours(seed, rare, habit, Loss::EverySecondRefresh).is_err(), "seed {seed}, {habit:?}");
        }
    }
}
