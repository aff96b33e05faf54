//! The speaker of one machine: its decisions, its responder and its sessions, driven as the real program drives them, by
//! one loop in one order.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use api::{Key, Kind, Object, ObjectRef, Write};
use bgp::RouteAttributes;
use config::{Config, Peer};
use ipnet::IpNet;
use kit::{Duration, Family, Instant, InterfaceIndex, Mac, Outbox};
use l2::wire::ndp::{ALL_NODES, Message};
use l2::wire::{Frame, Payload};
use l2::{Action, Claimant, HAND_OVER_MAX, InterfaceSet, Report, Responder};
use speaker::{DrainOptions, Hindrances, Input, Link, Loss, Members, Options, Output, Protocol, Rival, Speaker};

use crate::Sabotage;
use crate::alarms::{Alarms, claimed_by};
use crate::client::Change;
use crate::cluster::Climate;
use crate::configuration::{Configuration, Reader, Verdict};
use crate::names::{Lan, NodeId};
use crate::sessions::{self, Sessions};
use crate::violation::{Invariant, Violation, hold};

/// What a speaker reads, as far as it is simulated.
pub(crate) const KINDS: [Kind; 8] = [
    Kind::Service,
    Kind::EndpointSlice,
    Kind::Node,
    Kind::IPAddressPool,
    Kind::L2Advertisement,
    Kind::BGPAdvertisement,
    Kind::BGPPeer,
    Kind::Community,
];

/// What a speaker wants done.
#[derive(Debug)]
pub(crate) enum Effect {
    Write(Write),
    Frame {
        interface: InterfaceIndex,
        bytes: Vec<u8>,
    },
    Session(sessions::Effect),
    /// The other speakers are to know this of the node.
    Statement(Hindrances),
    /// The kernel may know whose station this is.
    LookUp(Mac),
}

/// What a speaker has said that it does, by the outputs so far.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Claims {
    pub(crate) answers: BTreeMap<IpAddr, InterfaceSet>,
    pub(crate) peers: BTreeMap<String, Arc<Peer>>,
    pub(crate) routes: BTreeMap<(String, IpNet), Arc<RouteAttributes>>,
    pub(crate) announced: BTreeMap<(Key, Protocol), Vec<IpAddr>>,
}

impl Claims {
    fn rename_peer(&mut self, from: &str, to: &str) {
        let routes = std::mem::take(&mut self.routes).into_iter();
        self.routes = routes
            .map(|((peer, prefix), route)| ((if peer == from { to.to_owned() } else { peer }, prefix), route))
            .collect();
    }
}

/// How far the end of a process has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Leaving {
    /// Nobody asked for it.
    No,
    /// Routers were told, and are given time to use other ways.
    Asked,
    /// What was decided is told to the routers, by then at the latest.
    Telling { until: Instant },
}

/// How long the last words to routers may take before their sessions end, and others until they have announced what this
/// process gives up.
const TELLING_TIME: Duration = Duration::from_secs(2);

/// What a speaker does that never leaves the network alone.
const ALL_THE_TIME: l2::Refresh = l2::Refresh::Every(Duration::from_secs(10));

/// The sockets of the responder.
#[derive(Debug, Default)]
struct Sockets {
    open: BTreeSet<(InterfaceIndex, l2::Protocol)>,
    groups: BTreeMap<InterfaceIndex, BTreeSet<Ipv6Addr>>,
}

/// The speaker of one machine.
#[derive(Debug)]
pub(crate) struct SpeakerProcess {
    node: NodeId,
    core: Speaker,
    configuration: Configuration,
    responder: Responder,
    sockets: Sockets,
    sessions: Sessions,
    out: Outbox<Output>,
    l2_out: Outbox<l2::Output>,
    links: BTreeMap<Lan, l2::Interface>,
    is_synced: bool,
    leaving: Leaving,
    claims: Claims,
    /// Addresses that are answered for until another machine has announced them, and until when at most.
    handing_over: BTreeMap<IpAddr, (InterfaceSet, Instant)>,
    /// The nodes that it wants watched.
    watched: BTreeSet<String>,
    /// What the segment has shown and the decisions have not heard yet.
    news: VecDeque<Input>,
    alarms: Alarms,
    sabotage: Option<Sabotage>,
    pub(crate) effects: Vec<Effect>,
}

/// What an input is about, as far as it says what may follow from it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Cause {
    Configuration,
    /// The node that the speaker runs on.
    OwnNode,
    Synced,
    /// A Service, endpoints, another node.
    Other,
    /// Nothing at all happened.
    Tick,
}

impl SpeakerProcess {
    /// A speaker that has just started.
    pub(crate) fn new(node: NodeId, (epoch, seed): (u64, u64), climate: &Climate, sabotage: Option<Sabotage>) -> Self {
        let options = Options {
            node: node.name(),
            load_balancer_class: climate.class.unwrap_or_default().to_owned(),
            exclusion: climate.exclusion,
            drain: DrainOptions {
                time: climate.drain_time,
                taints: climate.drain_taint.into_iter().map(str::to_owned).collect(),
            },
        };
        SpeakerProcess {
            node,
            core: Speaker::new(options),
            configuration: Configuration::new(Reader::Speaker(node.name()), sabotage),
            responder: Responder::new(l2::Settings {
                refresh: if sabotage == Some(Sabotage::RefreshAllTheTime) { ALL_THE_TIME } else { climate.refresh },
                seed,
            }),
            sockets: Sockets::default(),
            sessions: Sessions::new(node, epoch, seed),
            out: Outbox::with_limit(climate.speaker_outbox),
            l2_out: Outbox::with_limit(if sabotage == Some(Sabotage::TinyOutbox) { 1 } else { l2::OUTBOX_MAX }),
            links: BTreeMap::new(),
            is_synced: false,
            leaving: Leaving::No,
            claims: Claims::default(),
            handing_over: BTreeMap::new(),
            watched: BTreeSet::new(),
            news: VecDeque::new(),
            alarms: Alarms::default(),
            sabotage,
            effects: Vec::new(),
        }
    }

    pub(crate) fn core(&self) -> &Speaker {
        &self.core
    }

    pub(crate) fn configuration(&self) -> Option<&Arc<Config>> {
        self.configuration.in_force()
    }

    pub(crate) fn claims(&self) -> &Claims {
        &self.claims
    }

    pub(crate) fn sessions(&self) -> &Sessions {
        &self.sessions
    }

    /// True when every object was told to it.
    pub(crate) fn is_synced(&self) -> bool {
        self.is_synced
    }

    /// True when every object was told to it and nothing is left to decide.
    pub(crate) fn is_settled(&self) -> bool {
        self.is_synced && self.core.next_deadline().is_none()
    }

    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let deadlines = [self.core.next_deadline(), self.responder.next_deadline(), self.sessions.next_deadline()];
        deadlines.into_iter().flatten().min()
    }

    /// Lets every core whose deadline has come do what is due.
    pub(crate) fn tick(&mut self, now: Instant) -> Result<(), Violation> {
        self.alarms.check(now)?;
        let is_due = |deadline: Option<Instant>| deadline.is_some_and(|deadline| deadline <= now);
        if is_due(self.sessions.next_deadline()) {
            self.with_sessions(|sessions, effects| sessions.tick(now, effects))?;
        }
        if is_due(self.responder.next_deadline()) {
            self.segment(now, l2::Input::Tick)?;
        }
        if is_due(self.core.next_deadline()) {
            self.decide(now, Input::Tick)?;
        }
        Ok(())
    }

    /// Takes in changes of objects; the configuration is looked at when no other change waits.
    pub(crate) fn objects_changed(
        &mut self,
        now: Instant,
        changes: Vec<Change>,
        is_last: bool,
    ) -> Result<(), Violation> {
        for change in changes {
            match change {
                Change::Applied(object) => self.object_applied(now, &object)?,
                Change::Deleted(reference) => self.object_deleted(now, &reference)?,
                Change::Synced => {
                    self.is_synced = true;
                    self.validate(now)?;
                    self.decide(now, Input::Synced)?;
                }
            }
        }
        if self.is_synced && is_last {
            self.validate(now)?;
        }
        Ok(())
    }

    fn object_applied(&mut self, now: Instant, object: &Object) -> Result<(), Violation> {
        match object {
            Object::Service(service) => {
                if self.sabotage == Some(Sabotage::MissServices) && service.metadata.name == "c" {
                    return Ok(());
                }
                self.decide(now, Input::ServiceApplied(service.clone()))?;
                if self.sabotage == Some(Sabotage::ResetSessionsForServices) {
                    self.reset_sessions(now)?;
                }
                Ok(())
            }
            Object::EndpointSlice(slice) => self.decide(now, Input::EndpointSliceApplied(slice.clone())),
            Object::Node(node) => {
                if self.sabotage == Some(Sabotage::KnowNoOtherNode) && node.metadata.name != self.node.name() {
                    return Ok(());
                }
                self.configuration.apply(object);
                self.decide(now, Input::NodeApplied(node.clone()))
            }
            other => {
                self.configuration.apply(other);
                Ok(())
            }
        }
    }

    fn object_deleted(&mut self, now: Instant, reference: &ObjectRef) -> Result<(), Violation> {
        self.configuration.delete(reference);
        match reference.kind {
            Kind::Service => self.decide(now, Input::ServiceDeleted(reference.key.clone())),
            Kind::EndpointSlice => self.decide(now, Input::EndpointSliceDeleted(reference.key.clone())),
            Kind::Node => self.decide(now, Input::NodeDeleted(reference.key.name.clone())),
            _ => Ok(()),
        }
    }

    fn validate(&mut self, now: Instant) -> Result<(), Violation> {
        match self.configuration.validate() {
            Some(Verdict::Changed(config)) => self.decide(now, Input::Configured(config)),
            Some(Verdict::Refused) => {
                let before = self.claims.clone();
                if self.sabotage == Some(Sabotage::TakeInvalidConfigurations) {
                    self.decide(now, Input::Configured(Arc::default()))?;
                }
                hold(before == self.claims, Invariant::InvalidConfigurationIsInert, || {
                    format!("{} had {before:?} and has {:?}", self.node, self.claims)
                })
            }
            Some(Verdict::Same(_)) | None => Ok(()),
        }
    }

    /// The kernel tells of an interface as it is now; `None` when it is gone.
    pub(crate) fn interface_changed(
        &mut self,
        now: Instant,
        lan: Lan,
        interface: Option<l2::Interface>,
    ) -> Result<(), Violation> {
        self.alarms.disturbed();
        let input = if let Some(interface) = interface {
            self.links.insert(lan, interface.clone());
            l2::Input::Interface(interface)
        } else {
            self.links.remove(&lan);
            self.sockets.open.retain(|(index, _)| *index != lan.index());
            self.sockets.groups.remove(&lan.index());
            l2::Input::InterfaceGone { index: lan.index() }
        };
        self.segment(now, input)?;
        let names = self.links.values().map(|interface| interface.name.clone());
        self.decide(now, Input::Interfaces(names.collect()))?;
        let link =
            |(lan, interface): (&Lan, &l2::Interface)| Link { interface: interface.clone(), networks: lan.networks() };
        self.decide(now, Input::Links(self.links.iter().map(link).collect()))
    }

    /// The kernel tells by which interfaces the default routes leave.
    pub(crate) fn ways_changed(
        &mut self,
        now: Instant,
        ways: BTreeMap<Family, BTreeSet<InterfaceIndex>>,
    ) -> Result<(), Violation> {
        self.decide(now, Input::Gateways(ways))
    }

    /// A socket of the responder dies.
    pub(crate) fn socket_failed(&mut self, now: Instant, lan: Lan, protocol: l2::Protocol) -> Result<(), Violation> {
        if !self.sockets.open.remove(&(lan.index(), protocol)) {
            return Ok(());
        }
        self.alarms.disturbed();
        if protocol == l2::Protocol::Ndp {
            self.sockets.groups.remove(&lan.index());
        }
        self.segment(now, l2::Input::SocketFailed { interface: lan.index(), protocol })
    }

    /// True when a frame gets past the interface's filter to a socket.
    pub(crate) fn hears(&self, lan: Lan, own: Mac, frame: &Frame) -> bool {
        let protocol = match frame.payload {
            Payload::Arp(_) => l2::Protocol::Arp,
            Payload::Ndp(_) => l2::Protocol::Ndp,
        };
        let is_joined = || {
            let mut joined = self.sockets.groups.get(&lan.index()).into_iter().flatten();
            joined.any(|group| Mac::multicast_for(*group) == frame.destination)
        };
        self.sockets.open.contains(&(lan.index(), protocol))
            && (frame.destination == own
                || frame.destination == Mac::BROADCAST
                || frame.destination == Mac::multicast_for(ALL_NODES)
                || is_joined())
    }

    /// A frame arrives that [`SpeakerProcess::hears`].
    pub(crate) fn frame(&mut self, now: Instant, lan: Lan, bytes: Vec<u8>) -> Result<(), Violation> {
        self.segment(now, l2::Input::Frame { interface: lan.index(), bytes })
    }

    /// The same, from somebody who does not belong to the cluster.
    pub(crate) fn foreign_frame(&mut self, now: Instant, lan: Lan, frame: &Frame) -> Result<(), Violation> {
        self.alarms.check(now)?;
        if let Some((address, _)) = claimed_by(frame)
            && self.claims.answers.get(&address).is_some_and(|interfaces| interfaces.contains(lan.interface()))
        {
            self.alarms.claimed(now, address);
        }
        self.frame(now, lan, frame.encode())
    }

    /// The kernel knows whose station this is.
    pub(crate) fn station(&mut self, now: Instant, address: IpAddr, mac: Mac) -> Result<(), Violation> {
        self.segment(now, l2::Input::Station { address, mac })
    }

    /// True when the segment has shown something that the decisions have not heard of.
    pub(crate) fn has_news(&self) -> bool {
        !self.news.is_empty()
    }

    /// The decisions hear what the segment has shown.
    pub(crate) fn take_in_news(&mut self, now: Instant) -> Result<(), Violation> {
        while let Some(input) = self.news.pop_front() {
            let conflict = if let Input::Conflict(rival) = &input { Some(rival.address) } else { None };
            // What was taken in before may have ended the announcement.
            let conflict = conflict.filter(|address| self.claims.answers.contains_key(address));
            let events = self.conflict_events();
            self.decide(now, input)?;
            if let Some(address) = conflict {
                self.alarms.taken_in(now, address, self.conflict_events() > events)?;
            }
        }
        Ok(())
    }

    fn conflict_events(&self) -> usize {
        let is_one =
            |effect: &&Effect| matches!(effect, Effect::Write(Write::Event(it)) if it.reason == "addressConflict");
        self.effects.iter().filter(is_one).count()
    }

    /// What a report of the responder means for the decisions, as in the real program.
    fn report(&mut self, now: Instant, report: Report) -> Result<(), Violation> {
        match report {
            Report::Coverage { .. } => {}
            Report::Unknown { mac } => self.effects.push(Effect::LookUp(mac)),
            Report::Answer { fellow, .. } => self.news.push_back(Input::Answered { fellow }),
            Report::Conflict { .. } if self.sabotage == Some(Sabotage::HideConflicts) => {}
            Report::Conflict { address, interface, mac, claimant, .. } => {
                self.alarms.told(now, address);
                let fellow = if let Claimant::Fellow(fellow) = claimant { Some(fellow) } else { None };
                let interface = Lan::of_index(interface).map(Lan::interface).unwrap_or_default().to_owned();
                self.news.push_back(Input::Conflict(Rival { address, interface, mac, fellow }));
                if self.sabotage == Some(Sabotage::FightStrangers) {
                    self.segment(now, l2::Input::Repeat { address })?;
                }
            }
        }
        Ok(())
    }

    /// Something happens to a connection of a session.
    pub(crate) fn session_input(
        &mut self,
        now: Instant,
        session: sessions::SessionId,
        input: bgp::Input,
    ) -> Result<(), Violation> {
        self.with_sessions(|sessions, effects| sessions.tell(now, session, input, effects))
    }

    /// Is asked to end.
    pub(crate) fn leave(&mut self, now: Instant) -> Result<(), Violation> {
        if self.leaving != Leaving::No {
            return Ok(());
        }
        self.leaving = Leaving::Asked;
        self.decide(now, Input::Leave { kept: BTreeSet::new() })
    }

    /// True when it was asked to end.
    pub(crate) fn leaves(&self) -> bool {
        self.leaving != Leaving::No
    }

    /// What is known of the other speakers changes.
    pub(crate) fn members_changed(&mut self, now: Instant, members: Members) -> Result<(), Violation> {
        self.decide(now, Input::Members(members))
    }

    /// True when nothing is left to wait for.
    pub(crate) fn has_left(&self, now: Instant) -> bool {
        match self.leaving {
            Leaving::No | Leaving::Asked => false,
            Leaving::Telling { until } => {
                until <= now || (self.sessions.is_quiet() && self.responder.handing_over() == 0)
            }
        }
    }

    /// Ends in order.
    pub(crate) fn finish(&mut self, now: Instant) -> Result<(), Violation> {
        self.with_sessions(|sessions, effects| sessions.finish(now, effects))
    }

    fn with_sessions(
        &mut self,
        act: impl FnOnce(&mut Sessions, &mut Vec<sessions::Effect>) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let mut effects = Vec::new();
        let result = act(&mut self.sessions, &mut effects);
        self.effects.extend(effects.into_iter().map(Effect::Session));
        result
    }

    /// What a speaker would do that took the loss of the API for the loss of everything.
    pub(crate) fn give_up(&mut self, now: Instant) -> Result<(), Violation> {
        for address in std::mem::take(&mut self.claims.answers).into_keys() {
            self.segment(now, l2::Input::Withdraw { address })?;
        }
        Ok(())
    }

    fn reset_sessions(&mut self, now: Instant) -> Result<(), Violation> {
        for peer in self.claims.peers.values().cloned().collect::<Vec<_>>() {
            self.with_sessions(|sessions, effects| sessions.remove(now, &peer.name, effects))?;
            self.effects.push(Effect::Session(sessions::Effect::Down {
                peer: Arc::clone(&peer),
                reason: bgp::DownReason::Closed(bgp::CloseReason::ByPeer),
            }));
            self.with_sessions(|sessions, effects| sessions.add(now, peer, effects))?;
        }
        Ok(())
    }
}

/// What the cores say.
impl SpeakerProcess {
    /// Gives the decisions one input, and has carried out what they want.
    fn decide(&mut self, now: Instant, input: Input) -> Result<(), Violation> {
        let had_work = self.core.next_deadline().is_some_and(|deadline| deadline <= now);
        let cause = self.cause_of(&input);
        self.core.handle(now, input, &mut self.out);
        hold(self.out.dropped() == 0, Invariant::OutboxIsLargeEnough, || {
            format!("the decisions of {} said too much", self.node)
        })?;
        let outputs: Vec<Output> = self.out.drain().collect();
        hold(cause != Cause::Tick || had_work || outputs.is_empty(), Invariant::LosingTheApiIsInert, || {
            format!("nothing happened, but {} said {outputs:?}", self.node)
        })?;
        for output in outputs {
            if self.sabotage == Some(Sabotage::RepeatAnnouncements) {
                self.carry_out(now, cause, output.clone())?;
            }
            self.carry_out(now, cause, output)?;
        }
        Ok(())
    }

    fn cause_of(&self, input: &Input) -> Cause {
        match input {
            Input::Configured(_) => Cause::Configuration,
            Input::NodeApplied(node) if node.metadata.name == self.node.name() => Cause::OwnNode,
            Input::NodeDeleted(name) if *name == self.node.name() => Cause::OwnNode,
            Input::Synced => Cause::Synced,
            Input::Tick => Cause::Tick,
            _ => Cause::Other,
        }
    }

    fn carry_out(&mut self, now: Instant, cause: Cause, output: Output) -> Result<(), Violation> {
        let node = self.node;
        let consistent = |condition, detail: &dyn Fn() -> String| {
            hold(condition, Invariant::SpeakerIsConsistent, || format!("{node}: {}", detail()))
        };
        match output {
            Output::AddressAnnounce { address, interfaces } => {
                let old = self.claims.answers.insert(address, interfaces.clone());
                consistent(old.as_ref() != Some(&interfaces), &|| format!("told twice to answer for {address}"))?;
                self.handing_over.remove(&address);
                self.alarms.moved(&address);
                self.segment(now, l2::Input::Announce { address, interfaces })
            }
            Output::AddressWithdraw { address } => {
                let was_there = self.claims.answers.remove(&address).is_some();
                consistent(was_there, &|| format!("{address} was not answered for"))?;
                self.alarms.moved(&address);
                if self.sabotage == Some(Sabotage::ForgetAddressWithdrawals) {
                    return Ok(());
                }
                self.segment(now, l2::Input::Withdraw { address })
            }
            Output::AddressHandOver { address } => {
                let interfaces = self.claims.answers.remove(&address);
                consistent(interfaces.is_some(), &|| format!("{address} was not answered for"))?;
                self.alarms.moved(&address);
                let until = now + HAND_OVER_MAX;
                self.handing_over.extend(interfaces.map(|interfaces| (address, (interfaces, until))));
                if self.sabotage == Some(Sabotage::ForgetAddressWithdrawals) {
                    return Ok(());
                }
                self.segment(now, l2::Input::HandOver { address })
            }
            Output::State(hindrances) => {
                if self.sabotage != Some(Sabotage::HideHindrances) {
                    self.effects.push(Effect::Statement(hindrances));
                }
                Ok(())
            }
            Output::Watch(nodes) => {
                consistent(!nodes.contains(&node.name()), &|| "wants itself watched".to_owned())?;
                let old = std::mem::replace(&mut self.watched, nodes);
                consistent(old != self.watched, &|| format!("told twice to watch {old:?}"))
            }
            Output::AddressRepeat { address } => self.segment(now, l2::Input::Repeat { address }),
            Output::AddressAsk { address, fellow } => self.segment(now, l2::Input::Ask { address, fellow }),
            Output::Fellows(addresses) => self.segment(now, l2::Input::Fellows(addresses)),
            Output::PeerAdd(peer) => {
                self.check_session_change(cause, &peer.name)?;
                let is_new = self.claims.peers.insert(peer.name.clone(), Arc::clone(&peer)).is_none();
                consistent(is_new, &|| format!("a second session with {}", peer.name))?;
                self.with_sessions(|sessions, effects| sessions.add(now, peer, effects))
            }
            Output::PeerRemove(name) => {
                self.check_session_change(cause, &name)?;
                let was_there = self.claims.peers.remove(&name).is_some();
                consistent(was_there, &|| format!("no session with {name} to end"))?;
                self.claims.routes.retain(|(peer, _), _| *peer != name);
                self.with_sessions(|sessions, effects| sessions.remove(now, &name, effects))
            }
            Output::PeerChange { from, peer, .. } => {
                self.check_session_change(cause, &peer.name)?;
                let old = self.claims.peers.remove(&from);
                consistent(old.is_some(), &|| format!("no session with {from} to change"))?;
                let is_new = self.claims.peers.insert(peer.name.clone(), Arc::clone(&peer)).is_none();
                consistent(is_new, &|| format!("a second session with {}", peer.name))?;
                self.claims.rename_peer(&from, &peer.name);
                self.with_sessions(|sessions, effects| sessions.change(now, &from, peer, effects))
            }
            Output::PeerReset { peer, .. } => {
                self.check_session_change(cause, &peer.name)?;
                let old = self.claims.peers.insert(peer.name.clone(), Arc::clone(&peer));
                consistent(old.is_some(), &|| format!("no session with {} to begin anew", peer.name))?;
                let is_due = old.is_some_and(|old| needs_reset(&old, &peer));
                hold(is_due, Invariant::SessionsAreLeftAlone, || {
                    format!("{node} begins its session with {} anew and need not", peer.name)
                })?;
                self.claims.routes.retain(|(name, _), _| *name != peer.name);
                self.with_sessions(|sessions, effects| sessions.reset(now, peer, effects))
            }
            Output::PeerComplete(name) => {
                consistent(self.claims.peers.contains_key(&name), &|| format!("all told to {name}, no peer"))?;
                self.with_sessions(|sessions, effects| sessions.complete(now, &name, effects))
            }
            Output::RouteAnnounce { peer, prefix, attributes } => {
                consistent(self.claims.peers.contains_key(&peer), &|| format!("a route for {peer}, no peer"))?;
                let old = self.claims.routes.insert((peer.clone(), prefix), Arc::clone(&attributes));
                consistent(old.as_ref() != Some(&attributes), &|| format!("told twice to announce {prefix}"))?;
                self.with_sessions(|sessions, effects| sessions.announce(now, &peer, prefix, attributes, effects))
            }
            Output::RouteWithdraw { peer, prefix } => {
                let was_there = self.claims.routes.remove(&(peer.clone(), prefix)).is_some();
                consistent(was_there, &|| format!("{prefix} was not announced to {peer}"))?;
                if self.sabotage == Some(Sabotage::ForgetRouteWithdrawals) {
                    return Ok(());
                }
                self.with_sessions(|sessions, effects| sessions.withdraw(now, &peer, prefix, effects))
            }
            Output::Write(write) => {
                self.effects.push(Effect::Write(write));
                Ok(())
            }
            Output::ServiceAnnounced { service, protocol, addresses, .. } => {
                let is_new = self.claims.announced.insert((service.clone(), protocol), addresses).is_none();
                consistent(is_new, &|| format!("told twice that {service} is announced by {protocol}"))
            }
            Output::ServiceWithdrawn { service, protocol, addresses, loss } => {
                let before = self.claims.announced.remove(&(service.clone(), protocol));
                consistent(before == Some(addresses), &|| format!("{service} was announced with {before:?}"))?;
                let has_reason = match loss {
                    Loss::Refused(refusal) => !refusal.to_string().is_empty(),
                    Loss::Deleted | Loss::Changed => true,
                };
                hold(has_reason, Invariant::RefusalsHaveReasons, || {
                    format!("{node} withdraws {service} and does not say why")
                })
            }
            Output::Say(_) | Output::Unsay(_) => Ok(()),
            Output::Settled => {
                self.sessions.settled();
                Ok(())
            }
            Output::Left => {
                self.leaving = Leaving::Telling { until: now + TELLING_TIME };
                Ok(())
            }
        }
    }

    /// A session begins or ends because a peer was configured, or because the labels of the node select others.
    fn check_session_change(&self, cause: Cause, peer: &str) -> Result<(), Violation> {
        let may = matches!(cause, Cause::Configuration | Cause::OwnNode | Cause::Synced);
        hold(may, Invariant::SessionsAreLeftAlone, || {
            format!("{} changes its session with {peer} because of {cause:?}", self.node)
        })?;
        let in_force = self.configuration.in_force().and_then(|config| config.peers.get(peer));
        let is_the_same = in_force.is_some() && self.claims.peers.get(peer) == in_force;
        hold(cause != Cause::Configuration || !is_the_same, Invariant::SessionsAreLeftAlone, || {
            format!("{} changes its session with {peer}, which is configured as before", self.node)
        })
    }

    /// Gives the responder one input, and has carried out what it wants.
    fn segment(&mut self, now: Instant, input: l2::Input) -> Result<(), Violation> {
        let changes_nothing = matches!(input, l2::Input::Frame { .. } | l2::Input::Tick);
        self.responder.handle(now, input, &mut self.l2_out);
        hold(self.l2_out.dropped() == 0, Invariant::OutboxIsLargeEnough, || {
            format!("the responder of {} said too much", self.node)
        })?;
        if !changes_nothing {
            self.responder.check_invariants();
            assert_ne!(self.sabotage, Some(Sabotage::BreakACore), "the core is broken");
        }
        while let Some(output) = self.l2_out.pop() {
            match output {
                l2::Output::Action(action) => self.act(now, action)?,
                l2::Output::Report(report) => self.report(now, report)?,
            }
        }
        Ok(())
    }

    fn act(&mut self, now: Instant, action: Action) -> Result<(), Violation> {
        let node = self.node;
        let consistent = |condition, detail: &str| {
            hold(condition, Invariant::SpeakerIsConsistent, || format!("the responder of {node}: {detail}"))
        };
        let sockets = &mut self.sockets;
        match action {
            Action::Open { interface, protocol } => {
                consistent(sockets.open.insert((interface, protocol)), "opens a socket twice")
            }
            Action::Close { interface, protocol } => {
                sockets.open.remove(&(interface, protocol));
                if protocol == l2::Protocol::Ndp {
                    sockets.groups.remove(&interface);
                }
                Ok(())
            }
            Action::Join { interface, groups } => {
                let is_open = sockets.open.contains(&(interface, l2::Protocol::Ndp));
                consistent(is_open, "joins a group without a socket")?;
                let joined = sockets.groups.entry(interface).or_default();
                groups.into_iter().try_for_each(|group| consistent(joined.insert(group), "joins a group twice"))
            }
            Action::Leave { interface, groups } => {
                let joined = sockets.groups.entry(interface).or_default();
                let leave = |group| consistent(joined.remove(group), "leaves a group that it has not joined");
                groups.iter().try_for_each(leave)
            }
            Action::Send { interface, protocol, frame } => {
                consistent(sockets.open.contains(&(interface, protocol)), "sends without a socket")?;
                let Ok(decoded) = Frame::decode(&frame) else { return consistent(false, "sends what nobody can read") };
                self.check_frame(now, interface, &decoded)?;
                if self.sabotage != Some(Sabotage::NeverAnnounce) || !decoded.destination.is_multicast() {
                    self.effects.push(Effect::Frame { interface, bytes: frame });
                }
                Ok(())
            }
        }
    }

    /// What a frame says is that an address is here, unless it asks. It has to be one that is announced on that interface; to
    /// one who asked it may also be one that is handed over.
    fn check_frame(&self, now: Instant, interface: InterfaceIndex, frame: &Frame) -> Result<(), Violation> {
        let address = match frame.payload {
            Payload::Arp(arp) if arp.sender_address.is_unspecified() => return Ok(()),
            Payload::Arp(arp) => IpAddr::V4(arp.sender_address),
            Payload::Ndp(ndp) => match ndp.message {
                Message::Advertisement { target, .. } => IpAddr::V6(target),
                Message::Solicitation { .. } => return Ok(()),
            },
        };
        let name = Lan::of_index(interface).map(Lan::interface).unwrap_or_default();
        let is_meant = self.claims.answers.get(&address).is_some_and(|interfaces| interfaces.contains(name));
        let is_answer = !frame.destination.is_multicast();
        let handed_over = self.handing_over.get(&address).filter(|(_, until)| is_answer && now <= *until);
        let is_meant = is_meant || handed_over.is_some_and(|(interfaces, _)| interfaces.contains(name));
        hold(is_meant, Invariant::FramesAreMeant, || format!("{} says on {name}: {frame}", self.node))
    }
}

/// True when a session with the one cannot go on as one with the other: they differ in more than what holds at once or
/// waits for the next session.
fn needs_reset(old: &Peer, new: &Peer) -> bool {
    let soft = Peer {
        hold_time: new.hold_time,
        keepalive_time: new.keepalive_time,
        connect_time: new.connect_time,
        node_selectors: new.node_selectors.clone(),
        bfd: new.bfd.clone(),
        graceful_restart: new.graceful_restart,
        ebgp_multi_hop: new.ebgp_multi_hop,
        dual_stack_address_family: old.dual_stack_address_family && new.dual_stack_address_family,
        ..old.clone()
    };
    soft != *new
}
