//! The core: which address is answered on which interface, and with what.
//!
//! It does not decide which node announces an address, or what to do about another machine that claims it: it reports.

mod claims;
mod frames;

use std::collections::{BTreeMap, BTreeSet};
use std::net::{IpAddr, Ipv6Addr};
use std::ops::Bound;

use kit::{Duration, Family, Instant, InterfaceIndex, Mac, Outbox, TimerTable};

use crate::answer;
use crate::fellow::Fellows;
use crate::gateway::Gateways;
use crate::link::{Face, GroupChanges, Link, Placement, Socket};
use crate::schedule::{Due, Refresh, frames_per_round};
use crate::wire::Frame;
use crate::{Action, Coverage, Input, Interface, InterfaceSet, Obstacle, Output, Protocol, Report};

use claims::Conflict;
pub use claims::{CONFLICT_GRACE, DEFEND_INTERVAL, REPEAT_INTERVAL};

/// How many outputs fit between two calls of [`Responder::handle`]; the driver takes all of them out each time.
pub const OUTBOX_MAX: usize = 4096;
/// Announcements and reports wait for the next tick beyond this; the rest of the outbox is for what must not be lost.
const OUTBOX_BATCH: usize = 3072;
/// Time until a socket that failed is asked for again.
pub const SOCKET_RETRY: Duration = Duration::from_secs(5);
/// A conflict is reported at most once in this time.
pub const CLAIM_INTERVAL: Duration = Duration::from_secs(1);
/// How long an address is answered that another machine is to announce. It is told of that at the same time as we are,
/// so it announces within a moment; if it is not told, it is late.
pub const HAND_OVER_MAX: Duration = Duration::from_secs(2);

/// What is fixed for the life of a responder.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How often the network is told of addresses about which nothing has happened.
    pub refresh: Refresh,
    /// Spreads the refreshes of different hosts; any number will do.
    pub seed: u64,
}

/// Answers for the addresses that are announced, on all interfaces of a host.
///
/// A frame costs O(log n) in the number of addresses and interfaces; a change of an interface O(n).
#[derive(Clone, Debug)]
pub struct Responder {
    settings: Settings,
    links: BTreeMap<InterfaceIndex, Link>,
    /// Boxed, for a map has room for twice as many as it holds.
    addresses: BTreeMap<IpAddr, Box<Announcement>>,
    /// Every Ethernet address of this host, and how many interfaces have it.
    own_macs: BTreeMap<Mac, usize>,
    gateways: Gateways,
    fellows: Fellows,
    /// Addresses that were asked for and not answered yet.
    questions: BTreeSet<IpAddr>,
    /// Stations that were asked about.
    unknown: BTreeMap<Mac, Instant>,
    /// What has been reported for each set of interfaces in use.
    scopes: BTreeMap<(InterfaceSet, Family), Scope>,
    /// Of these it must be looked at again.
    unreported: BTreeSet<(InterfaceSet, Family)>,
    timers: TimerTable<Timer>,
    /// Frames that broke the rules.
    malformed: u64,
}

/// An address that is announced.
#[derive(Clone, Debug)]
struct Announcement {
    interfaces: InterfaceSet,
    counters: Counters,
    conflict: Option<Conflict>,
    repeated: Option<Instant>,
    stage: Stage,
}

/// Whether an address is to be kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Kept,
    /// Another machine is to announce it, and has not done so yet.
    HandingOver,
}

/// What has happened to an address since it was announced (contract 8.3).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Requests and solicitations that were answered: `metallb_layer2_requests_received`.
    pub requests: u64,
    /// Answers sent: `metallb_layer2_responses_sent`.
    pub responses: u64,
    /// Unsolicited frames sent, two for each interface and round of ARP, one of NDP: `metallb_layer2_gratuitous_sent`.
    pub gratuitous: u64,
    /// Unsolicited frames sent to a router alone.
    pub gateway_frames: u64,
    /// Frames in which another machine claimed the address, as part of a conflict.
    pub foreign_claims: u64,
}

impl Counters {
    fn add(&mut self, more: &Counters) {
        self.requests = self.requests.saturating_add(more.requests);
        self.responses = self.responses.saturating_add(more.responses);
        self.gratuitous = self.gratuitous.saturating_add(more.gratuitous);
        self.gateway_frames = self.gateway_frames.saturating_add(more.gateway_frames);
        self.foreign_claims = self.foreign_claims.saturating_add(more.foreign_claims);
    }
}

#[derive(Clone, Debug)]
struct Scope {
    addresses: usize,
    reported: Option<Coverage>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Rounds are due on the interface.
    Announce(InterfaceIndex),
    /// A failed socket is asked for again.
    Reopen(InterfaceIndex, Protocol),
    /// Nobody has announced the address that was to be handed over.
    HandOver(IpAddr),
    /// A claim may have become a conflict.
    Conflict(IpAddr),
    /// Who claimed an address was asked for it, and has not answered.
    Unanswered(IpAddr),
    /// Reports did not fit in the outbox.
    Report,
}

impl Responder {
    /// A responder that knows no interface and answers for nothing.
    pub fn new(settings: Settings) -> Self {
        Responder {
            settings,
            gateways: Gateways::default(),
            fellows: Fellows::default(),
            questions: BTreeSet::new(),
            unknown: BTreeMap::new(),
            links: BTreeMap::new(),
            addresses: BTreeMap::new(),
            own_macs: BTreeMap::new(),
            scopes: BTreeMap::new(),
            unreported: BTreeSet::new(),
            timers: TimerTable::new(),
            malformed: 0,
        }
    }

    /// Takes one input. `out` is empty before and is emptied after (see [`OUTBOX_MAX`]).
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Frame { interface, bytes } => self.frame(now, interface, &bytes, out),
            Input::Interface(interface) => self.interface_set(now, interface, out),
            Input::InterfaceGone { index } => self.interface_gone(now, index, out),
            Input::SocketFailed { interface, protocol } => self.socket_failed(now, interface, protocol, out),
            Input::Announce { address, interfaces } => self.announce(now, address, interfaces, out),
            Input::Withdraw { address } => self.withdraw(now, address, out),
            Input::HandOver { address } => self.hand_over(now, address),
            Input::Gateways(gateways) => self.gateways.replace(&gateways),
            Input::Fellows(addresses) => self.fellows.replace(&addresses),
            Input::Station { address, mac } => self.fellows.heard(address, mac),
            Input::Repeat { address } => self.repeat(now, address),
            Input::Ask { address, fellow } => self.ask_fellow(address, fellow, out),
            Input::Tick => {}
        }
        self.run_timers(now, out);
    }

    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        self.timers.next_deadline()
    }

    /// Where addresses of this family are, or would be, answered that are announced on these interfaces.
    pub fn coverage(&self, interfaces: &InterfaceSet, family: Family) -> Coverage {
        let protocol = Protocol::for_family(family);
        let faces =
            || self.links.values().map(|link| &link.face).filter(|face| interfaces.contains(&face.interface.name));
        let answering = faces().filter(|face| face.obstacle(protocol).is_none());
        let names: BTreeSet<String> = answering.map(|face| face.interface.name.clone()).collect();
        match interfaces {
            _ if !names.is_empty() => Coverage::Answered(names),
            InterfaceSet::Named(_) if faces().next().is_none() => Coverage::Absent,
            InterfaceSet::All | InterfaceSet::Named(_) => Coverage::Obstructed,
        }
    }

    /// Every interface with what keeps it from answering for addresses of this family, if anything.
    pub fn obstacles(&self, family: Family) -> impl Iterator<Item = (&Interface, Option<Obstacle>)> {
        let protocol = Protocol::for_family(family);
        self.links.values().map(move |link| (&link.face.interface, link.face.obstacle(protocol)))
    }

    /// The interfaces on which addresses of this family are answered, or would be if the kernel spoke IPv6 there.
    pub fn meant(&self, family: Family) -> impl Iterator<Item = &Interface> {
        let sets: Vec<&InterfaceSet> =
            self.scopes.keys().filter(|(_, other)| *other == family).map(|(interfaces, _)| interfaces).collect();
        self.obstacles(family).filter_map(move |(interface, obstacle)| {
            let is_able = matches!(obstacle, None | Some(Obstacle::NoLinkLocal));
            (is_able && sets.iter().any(|set| set.contains(&interface.name))).then_some(interface)
        })
    }

    /// The addresses that are announced, in order, with what has happened to them.
    pub fn counters(&self) -> impl Iterator<Item = (IpAddr, Counters)> + '_ {
        self.counters_after(None)
    }

    /// The same, of the addresses behind this one: for those who take them in portions.
    pub fn counters_after(&self, after: Option<IpAddr>) -> impl Iterator<Item = (IpAddr, Counters)> + '_ {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.addresses.range((start, Bound::Unbounded));
        behind.map(|(address, announcement)| (*address, announcement.counters))
    }

    /// How many addresses are still answered for those who are to announce them.
    pub fn handing_over(&self) -> usize {
        self.addresses.values().filter(|announcement| announcement.stage == Stage::HandingOver).count()
    }

    /// How many frames arrived that break the rules of ARP or NDP, and were ignored.
    pub fn malformed_frames(&self) -> u64 {
        self.malformed
    }
}

/// Addresses come and go.
impl Responder {
    fn announce(&mut self, now: Instant, address: IpAddr, interfaces: InterfaceSet, out: &mut Outbox<Output>) {
        if self.addresses.get(&address).is_some_and(|announcement| announcement.stage == Stage::HandingOver) {
            // Others may have heard of the one that was to have it.
            self.withdraw(now, address, out);
        }
        let before = self.addresses.get(&address).map(|announcement| announcement.interfaces.clone());
        if before.as_ref() == Some(&interfaces) {
            return;
        }
        self.replace(now, address, before.as_ref(), Some(&interfaces), out);
        let announcement = self.addresses.entry(address).or_insert_with(|| {
            Box::new(Announcement {
                interfaces: interfaces.clone(),
                counters: Counters::default(),
                conflict: None,
                repeated: None,
                stage: Stage::Kept,
            })
        });
        announcement.interfaces = interfaces;
    }

    fn withdraw(&mut self, now: Instant, address: IpAddr, out: &mut Outbox<Output>) {
        if let Some(announcement) = self.addresses.remove(&address) {
            self.timers.clear(&Timer::HandOver(address));
            self.conflict_forget(address);
            self.replace(now, address, Some(&announcement.interfaces), None, out);
        }
    }

    fn hand_over(&mut self, now: Instant, address: IpAddr) {
        let Some(announcement) = self.addresses.get_mut(&address) else { return };
        if announcement.stage == Stage::HandingOver {
            return;
        }
        announcement.stage = Stage::HandingOver;
        announcement.conflict = None;
        self.timers.set(Timer::HandOver(address), now + HAND_OVER_MAX);
        let protocol = Protocol::of(&address);
        for (index, link) in &mut self.links {
            link.schedule.stop(&address);
            if matches!(link.face.placement(protocol, &announcement.interfaces), Placement::Live(_)) {
                // Whoever has it already tells everybody, also those who heard of us last: see `claims.rs`.
                link.schedule.inquire(now, address);
            }
            reschedule(&mut self.timers, *index, link);
        }
        self.conflict_forget(address);
    }

    /// Moves an address from one set of interfaces to another.
    fn replace(
        &mut self,
        now: Instant,
        address: IpAddr,
        before: Option<&InterfaceSet>,
        after: Option<&InterfaceSet>,
        out: &mut Outbox<Output>,
    ) {
        let protocol = Protocol::of(&address);
        for (index, link) in &mut self.links {
            let stands = |interfaces: Option<&InterfaceSet>| {
                interfaces.map_or(Placement::Absent, |interfaces| link.face.placement(protocol, interfaces))
            };
            let placements = (stands(before), stands(after));
            let mut changes = GroupChanges::default();
            link.place(now, address, placements, &mut changes);
            push_groups(*index, changes, out);
            reschedule(&mut self.timers, *index, link);
        }
        let family = Family::of(&address);
        if let Some(interfaces) = before {
            self.scope_release(interfaces, family);
        }
        if let Some(interfaces) = after {
            let key = (interfaces.clone(), family);
            let scope = self.scopes.entry(key.clone()).or_insert(Scope { addresses: 0, reported: None });
            scope.addresses = scope.addresses.saturating_add(1);
            if scope.reported.is_none() {
                self.unreported.insert(key);
                self.report(now, out);
            }
        }
    }

    fn scope_release(&mut self, interfaces: &InterfaceSet, family: Family) {
        let key = (interfaces.clone(), family);
        if let Some(scope) = self.scopes.get_mut(&key) {
            scope.addresses = scope.addresses.saturating_sub(1);
            if scope.addresses == 0 {
                self.scopes.remove(&key);
            }
        }
    }
}

/// Interfaces come, go and change.
impl Responder {
    fn interface_set(&mut self, now: Instant, interface: Interface, out: &mut Outbox<Output>) {
        let index = interface.index;
        let known = self.links.get(&index).map(|link| &link.face.interface);
        if known == Some(&interface) {
            return;
        }
        let previous_mac = known.and_then(|known| known.mac);
        self.mac_release(previous_mac);
        self.mac_hold(interface.mac);
        let Settings { refresh, seed } = self.settings;
        let seed = seed ^ u64::from(index.get());
        self.links.entry(index).or_insert_with(|| Link::new(interface.clone(), refresh, seed));
        self.change(now, index, |face| face.interface = interface, out);
    }

    fn interface_gone(&mut self, now: Instant, index: InterfaceIndex, out: &mut Outbox<Output>) {
        let Some(link) = self.links.remove(&index) else { return };
        self.mac_release(link.face.interface.mac);
        self.timers.clear(&Timer::Announce(index));
        for protocol in Protocol::ALL {
            self.timers.clear(&Timer::Reopen(index, protocol));
            if link.face.socket(protocol) == Socket::Open {
                out.push(Output::Action(Action::Close { interface: index, protocol }));
            }
        }
        self.report_all(now, out);
    }

    fn socket_failed(&mut self, now: Instant, index: InterfaceIndex, protocol: Protocol, out: &mut Outbox<Output>) {
        if self.links.get(&index).is_some_and(|link| link.face.socket(protocol) == Socket::Open) {
            self.change(now, index, |face| face.set_socket(protocol, Socket::Failed), out);
            self.timers.set(Timer::Reopen(index, protocol), now + SOCKET_RETRY);
        }
    }

    /// Makes a change to an interface and everything that follows from it.
    fn change(
        &mut self,
        now: Instant,
        index: InterfaceIndex,
        change: impl FnOnce(&mut Face),
        out: &mut Outbox<Output>,
    ) {
        let Some(link) = self.links.get_mut(&index) else { return };
        let before = link.face.clone();
        change(&mut link.face);
        for protocol in Protocol::ALL {
            link.face.want_socket(protocol);
            if link.face.socket(protocol) != Socket::Failed {
                self.timers.clear(&Timer::Reopen(index, protocol));
            }
            let opens = |face: &Face| face.socket(protocol) == Socket::Open;
            match (opens(&before), opens(&link.face)) {
                (false, true) => out.push(Output::Action(Action::Open { interface: index, protocol })),
                (true, false) => out.push(Output::Action(Action::Close { interface: index, protocol })),
                (true, true) | (false, false) => {}
            }
        }
        let mut changes = GroupChanges::default();
        for (address, announcement) in &self.addresses {
            let protocol = Protocol::of(address);
            let stood = before.placement(protocol, &announcement.interfaces);
            let stands = link.face.placement(protocol, &announcement.interfaces);
            link.place(now, *address, (stood, stands), &mut changes);
            if announcement.stage == Stage::HandingOver {
                link.schedule.stop(address);
            }
        }
        if link.face.socket(Protocol::Ndp) != Socket::Open {
            // Closing the socket has left them all.
            changes.leave.clear();
        }
        push_groups(index, changes, out);
        reschedule(&mut self.timers, index, link);
        self.report_all(now, out);
    }

    fn mac_hold(&mut self, mac: Option<Mac>) {
        if let Some(mac) = mac {
            let interfaces = self.own_macs.entry(mac).or_insert(0);
            *interfaces = interfaces.saturating_add(1);
        }
    }

    fn mac_release(&mut self, mac: Option<Mac>) {
        let Some(mac) = mac else { return };
        let Some(interfaces) = self.own_macs.get_mut(&mac) else { return };
        *interfaces = interfaces.saturating_sub(1);
        if *interfaces == 0 {
            self.own_macs.remove(&mac);
        }
    }
}

/// Time passes.
impl Responder {
    fn run_timers(&mut self, now: Instant, out: &mut Outbox<Output>) {
        while out.len() < OUTBOX_BATCH {
            match self.timers.pop_expired(now) {
                Some(Timer::Announce(index)) => self.announce_due(now, index, out),
                Some(Timer::Reopen(index, protocol)) => {
                    self.change(now, index, |face| face.set_socket(protocol, Socket::Closed), out);
                }
                Some(Timer::HandOver(address)) => self.withdraw(now, address, out),
                Some(Timer::Conflict(address)) => self.grace_over(now, address, out),
                Some(Timer::Unanswered(address)) => self.unanswered(now, address),
                Some(Timer::Report) => self.report(now, out),
                None => break,
            }
        }
    }

    fn announce_due(&mut self, now: Instant, index: InterfaceIndex, out: &mut Outbox<Output>) {
        let Some(link) = self.links.get_mut(&index) else { return };
        let Some(own) = link.face.interface.mac else { return };
        let link_local = link.face.interface.link_local_source();
        while out.len() < OUTBOX_BATCH
            && let Some(due) = link.schedule.take_due(now)
        {
            let mut counters = Counters::default();
            let (address, frames) = match due {
                Due::Round(address) => {
                    counters.gratuitous = u64::from(frames_per_round(&address));
                    let mut frames = answer::announcement(own, link_local, address);
                    if let Some(frame) = self.gateways.tell(now, index, (own, link_local), address) {
                        counters.gateway_frames = 1;
                        frames.push(frame);
                    }
                    (address, frames)
                }
                Due::Defence(address) => {
                    counters.gratuitous = 1;
                    (address, answer::defence(own, link_local, address).into_iter().collect())
                }
                Due::Question(address) => {
                    (address, answer::question(own, link_local, address, None).into_iter().collect())
                }
            };
            for frame in frames {
                out.push(send(index, &address, &frame));
            }
            if let Some(announcement) = self.addresses.get_mut(&address) {
                announcement.counters.add(&counters);
            }
        }
        reschedule(&mut self.timers, index, link);
    }

    /// Reports what an interface has changed.
    fn report_all(&mut self, now: Instant, out: &mut Outbox<Output>) {
        self.unreported = self.scopes.keys().cloned().collect();
        self.report(now, out);
    }

    /// Reports every coverage that differs from what was reported last, as far as the outbox goes.
    fn report(&mut self, now: Instant, out: &mut Outbox<Output>) {
        while out.len() < OUTBOX_BATCH
            && let Some(key) = self.unreported.pop_first()
        {
            let coverage = self.coverage(&key.0, key.1);
            let Some(scope) = self.scopes.get_mut(&key) else { continue };
            if scope.reported.as_ref() != Some(&coverage) {
                scope.reported = Some(coverage.clone());
                let (interfaces, family) = key;
                out.push(Output::Report(Report::Coverage { interfaces, family, coverage }));
            }
        }
        if !self.unreported.is_empty() {
            self.timers.set(Timer::Report, now);
        }
    }
}

fn send(interface: InterfaceIndex, address: &IpAddr, frame: &Frame) -> Output {
    Output::Action(Action::Send { interface, protocol: Protocol::of(address), frame: frame.encode() })
}

/// Leaving comes first: what is left and joined in one go must end up joined.
fn push_groups(interface: InterfaceIndex, changes: GroupChanges, out: &mut Outbox<Output>) {
    if !changes.leave.is_empty() {
        out.push(Output::Action(Action::Leave { interface, groups: changes.leave }));
    }
    if !changes.join.is_empty() {
        out.push(Output::Action(Action::Join { interface, groups: changes.join }));
    }
}

fn reschedule(timers: &mut TimerTable<Timer>, index: InterfaceIndex, link: &Link) {
    match link.schedule.next_deadline() {
        Some(deadline) => timers.set(Timer::Announce(index), deadline),
        None => timers.clear(&Timer::Announce(index)),
    }
}

impl Responder {
    /// What must hold between any two inputs; tests and the simulator call it after each.
    ///
    /// # Panics
    ///
    /// When something does not hold.
    pub fn check_invariants(&self) {
        for (index, link) in &self.links {
            link.schedule.check_invariants();
            assert_eq!(self.timers.get(&Timer::Announce(*index)), link.schedule.next_deadline(), "{index:?}");
            let mut groups: BTreeMap<Ipv6Addr, usize> = BTreeMap::new();
            for (address, announcement) in &self.addresses {
                let placement = link.face.placement(Protocol::of(address), &announcement.interfaces);
                if let (IpAddr::V6(v6), true) = (address, placement != Placement::Absent) {
                    let users = groups.entry(crate::wire::ndp::solicited_node(*v6)).or_insert(0);
                    *users = users.saturating_add(1);
                }
            }
            assert_eq!(groups, link.groups, "groups on {index:?}");
            for protocol in Protocol::ALL {
                let wanted = link.face.interface.obstacle(protocol).is_none();
                assert_eq!(wanted, link.face.socket(protocol) != Socket::Closed, "{protocol} on {index:?}");
                let is_awaited = self.timers.get(&Timer::Reopen(*index, protocol)).is_some();
                assert_eq!(is_awaited, link.face.socket(protocol) == Socket::Failed, "{protocol} on {index:?}");
            }
        }
        for (address, announcement) in &self.addresses {
            let is_awaited = self.timers.get(&Timer::HandOver(*address)).is_some();
            assert_eq!(is_awaited, announcement.stage == Stage::HandingOver, "{address}");
        }
        let scoped: usize = self.scopes.values().map(|scope| scope.addresses).sum();
        assert_eq!(scoped, self.addresses.len());
    }
}
