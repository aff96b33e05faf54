//! The speaker's state and its one entry point.

#[path = "conflict.rs"]
mod conflict;
#[path = "hinder.rs"]
mod hinder;
#[path = "leave.rs"]
mod leave;
#[path = "service_state.rs"]
mod service_state;
#[path = "settle_peers.rs"]
mod settle_peers;
#[path = "tell.rs"]
mod tell;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::IpAddr;
use std::ops::Bound;
use std::sync::Arc;

use api::core::{EndpointSlice, Node, Service};
use api::{Key, Report, Write};
use bgp::RouteAttributes;
use config::{Config, Peer, PeerChange};
use ipnet::IpNet;
use kit::{Family, Instant, InterfaceIndex, Outbox};
use l2::InterfaceSet;

use crate::backends::SliceOwners;
use crate::decide::{self, BgpGrant, Exclusion, Layer2Grant, Surroundings};
use crate::drain::{Departure, DrainOptions};
use crate::facts::{NodeFacts, PoolIndex, ServiceFacts, SliceFacts};
use crate::fitness::{Fitness, Link};
use crate::hindrance::Hindrances;
use crate::layer2::Holdings;
use crate::members::{Members, Places, Rules, Watching};
use crate::routes::Routes;
use crate::sharing::Sharing;
pub(crate) use conflict::Conflicts;
pub use conflict::Rival;
use service_state::ServiceState;

use crate::verdict::{Decision, Loss, Protocol, Refusal};

/// How many Services are decided in one step; the rest wait for the next tick, so that packets and keepalives never
/// wait behind a full pass.
const DECISIONS_PER_STEP: usize = 256;

/// What one decision may leave in the outbox at most: two protocols, each with a few addresses and an event.
const OUTPUTS_PER_DECISION: usize = 32;

/// What is fixed for the life of a speaker.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// The node it runs on.
    pub node: String,
    /// The `loadBalancerClass` it serves; empty for Services without a class.
    pub load_balancer_class: String,
    /// What the exclusion label on nodes means.
    pub exclusion: Exclusion,
    /// How the node leaves BGP.
    pub drain: DrainOptions,
}

/// What a speaker is told.
#[derive(Clone, Debug)]
#[expect(
    clippy::large_enum_variant,
    reason = "an input is made, handled and dropped; a box would cost more than the copy"
)]
pub enum Input {
    /// A configuration is in force from now on.
    Configured(Arc<Config>),
    /// A Service is new or changed.
    ServiceApplied(Service),
    /// A Service is gone.
    ServiceDeleted(Key),
    /// An EndpointSlice is new or changed.
    EndpointSliceApplied(EndpointSlice),
    /// An EndpointSlice is gone.
    EndpointSliceDeleted(Key),
    /// A node is new or changed.
    NodeApplied(Node),
    /// A node is gone, by name.
    NodeDeleted(String),
    /// The interfaces of this host that may announce, by name: all of them.
    Interfaces(BTreeSet<String>),
    /// The interfaces of this host: all of them.
    Links(Vec<Link>),
    /// The interfaces by which the default routes of this host leave: all next hops of all routes.
    Gateways(BTreeMap<Family, BTreeSet<InterfaceIndex>>),
    /// What is known of the other speakers; before the first time, there is no memberlist.
    Members(Members),
    /// Another machine answers for an address that this node announces.
    Conflict(Rival),
    /// Another node has answered what [`Output::AddressAsk`] asked for.
    Answered {
        /// Its address.
        fellow: IpAddr,
    },
    /// Everything has been told as it last was known: from now on it may be decided, until [`Input::Synced`] says that it is
    /// so. There may be more than is known.
    Recalled,
    /// Everything that exists has been told once: from now on it may be decided.
    Synced,
    /// This process is to end: [`Output::Left`] says when it may.
    Leave {
        /// Peers that keep our routes when it ends, by name: they notice nothing before.
        kept: BTreeSet<String>,
    },
    /// The deadline has come.
    Tick,
}

/// What a speaker wants done.
#[derive(Clone, Debug, PartialEq)]
pub enum Output {
    /// Answer for the address on these interfaces, and say so on the segment.
    AddressAnnounce {
        /// The address.
        address: IpAddr,
        /// Where.
        interfaces: InterfaceSet,
    },
    /// Stop answering for the address.
    AddressWithdraw {
        /// The address.
        address: IpAddr,
    },
    /// Answer for the address until another machine has announced it.
    AddressHandOver {
        /// The address.
        address: IpAddr,
    },
    /// Tell everybody once more that the address is here.
    AddressRepeat {
        /// The address.
        address: IpAddr,
    },
    /// Ask another node whether it answers for the address.
    AddressAsk {
        /// The address.
        address: IpAddr,
        /// An address of that node.
        fellow: IpAddr,
    },
    /// The addresses of the other nodes are these from now on.
    Fellows(BTreeSet<IpAddr>),
    /// This, and no more, keeps this node from announcing: the other speakers have to know.
    State(Hindrances),
    /// Find out quickly when one of these nodes dies, and of no others.
    Watch(BTreeSet<String>),
    /// Begin a session with the peer.
    PeerAdd(Arc<Peer>),
    /// End the session with the peer, by name of its BGPPeer.
    PeerRemove(String),
    /// Treat the peer like this from now on; its session lasts.
    PeerChange {
        /// Its name until now.
        from: String,
        /// What it is from now on.
        peer: Arc<Peer>,
        /// What that is about.
        change: PeerChange,
    },
    /// End the session with the peer and begin another; its routes will be told again.
    PeerReset {
        /// What it is from now on.
        peer: Arc<Peer>,
        /// What that is about.
        change: PeerChange,
    },
    /// Every route that a peer should have at the begin was told, by name of its BGPPeer.
    PeerComplete(String),
    /// Give a route to a peer, in place of an earlier one with the same prefix.
    RouteAnnounce {
        /// Name of the BGPPeer.
        peer: String,
        /// The prefix.
        prefix: IpNet,
        /// How it looks.
        attributes: Arc<RouteAttributes>,
    },
    /// Take a route back from a peer.
    RouteWithdraw {
        /// Name of the BGPPeer.
        peer: String,
        /// The prefix.
        prefix: IpNet,
    },
    /// The node began to announce the Service, or announces other addresses of it.
    ServiceAnnounced {
        /// The Service.
        service: Key,
        /// How.
        protocol: Protocol,
        /// Its addresses.
        addresses: Vec<IpAddr>,
        /// The pool they are from.
        pool: String,
    },
    /// The node stopped announcing the Service, or announces other addresses of it: [`Output::ServiceAnnounced`] follows then.
    ServiceWithdrawn {
        /// The Service.
        service: Key,
        /// How it was announced.
        protocol: Protocol,
        /// The addresses it was announced with.
        addresses: Vec<IpAddr>,
        /// Why.
        loss: Loss,
    },
    /// Something to write.
    Write(Write),
    /// This is to be shown from now on (contract 1.9).
    Say(Report),
    /// This is to be shown no more.
    Unsay(Report),
    /// All that was known at the start is decided and told. Once.
    Settled,
    /// This process has nothing more to tell: it may end. Once, after [`Input::Leave`].
    Left,
}

/// The decisions of one node.
#[derive(Debug, Default)]
pub struct Speaker {
    options: Options,
    pools: PoolIndex,
    config: Option<Arc<Config>>,
    synced: Synced,
    /// Boxed, for a map has room for twice as many as it holds.
    services: BTreeMap<Key, Box<ServiceState>>,
    /// The Service of each EndpointSlice.
    slices: SliceOwners,
    nodes: BTreeMap<String, NodeFacts>,
    members: Members,
    rules: Rules,
    sharing: Sharing,
    watching: Watching,
    conflicts: Conflicts,
    fitness: Fitness,
    interfaces: BTreeSet<String>,
    /// Peers that have a session on this node.
    peers: BTreeMap<String, Arc<Peer>>,
    /// What is to be done to sessions, and was not told yet.
    peer_steps: VecDeque<Output>,
    /// Peers that may not have been told all of their routes yet.
    incomplete: BTreeSet<String>,
    departure: Departure,
    holdings: Holdings,
    routes: Routes,
    /// Services to decide anew.
    dirty: BTreeSet<Key>,
    /// The peers may have to change: the configuration or this node's labels did.
    peers_due: bool,
}

/// How far the start has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
enum Synced {
    #[default]
    Listing,
    /// What was known last is acted on. Nothing is said to be complete.
    Recalled,
    Settling,
    Settled,
}

impl Speaker {
    /// A speaker that knows nothing yet.
    pub fn new(options: Options) -> Self {
        Speaker { options, ..Speaker::default() }
    }

    /// Takes in one thing and leaves in `out` what follows from it.
    ///
    /// Nothing is decided before both a configuration and [`Input::Synced`] have come, or [`Input::Recalled`]: a speaker that
    /// does not know everything yet must not take an address from a node that does.
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Outbox<Output>) {
        match input {
            Input::Configured(config) => self.configure(config),
            Input::ServiceApplied(service) => self.apply_service(&service),
            Input::ServiceDeleted(key) => self.delete_service(&key, out),
            Input::EndpointSliceApplied(slice) => self.apply_slice(&slice),
            Input::EndpointSliceDeleted(key) => {
                if let Some(service) = self.slices.remove(&key) {
                    self.lose_slice(service, &key.name);
                }
            }
            Input::NodeApplied(node) => {
                self.conflicts.node_applied(&node);
                let facts = NodeFacts::read(&node, &self.options.drain.taints);
                self.change_node(now, &node.metadata.name, Some(facts));
            }
            Input::NodeDeleted(name) => {
                self.conflicts.node_deleted(&name);
                self.change_node(now, &name, None);
            }
            Input::Interfaces(names) => self.change_interfaces(names),
            Input::Links(links) => self.fitness.links(links),
            Input::Gateways(gateways) => self.fitness.gateways(gateways),
            Input::Members(members) => self.change_members(members),
            Input::Conflict(rival) => self.conflict(now, &rival, out),
            Input::Answered { fellow } => self.answered(now, fellow),
            Input::Recalled => self.synced = self.synced.max(Synced::Recalled),
            Input::Synced => self.synced = self.synced.max(Synced::Settling),
            Input::Leave { kept } => self.leave(now, kept),
            Input::Tick => {}
        }
        self.depart(now);
        self.assess(now, out);
        self.listen(now, out);
        self.work(out);
        self.left(out);
    }

    /// The origin while work is left over, so that the next tick comes at once; else when the node has left, or when
    /// another one is to be asked.
    pub fn next_deadline(&self) -> Option<Instant> {
        let is_busy = !self.dirty.is_empty()
            || self.routes.is_dirty()
            || (!self.incomplete.is_empty() && self.synced != Synced::Recalled)
            || !self.peer_steps.is_empty();
        let waits = || {
            [self.departure.deadline(), self.conflicts.deadline(), self.fitness.deadline()].into_iter().flatten().min()
        };
        if self.may_decide() && is_busy { Some(Instant::ZERO) } else { waits() }
    }

    /// What was decided for a Service, by protocol; `None` for a Service that is not known or not decided yet.
    pub fn explain(&self, service: &Key) -> Option<(&Decision<Layer2Grant>, &Decision<BgpGrant>)> {
        let state = self.services.get(service)?;
        Some((state.layer2.as_ref()?, state.bgp.as_ref()?))
    }

    /// The same for all Services behind this one, by name: for those who take them in portions.
    pub fn explain_after(
        &self,
        after: Option<&Key>,
    ) -> impl Iterator<Item = (&Key, &Decision<Layer2Grant>, &Decision<BgpGrant>)> {
        let start = after.map_or(Bound::Unbounded, Bound::Excluded);
        let behind = self.services.range::<Key, _>((start, Bound::Unbounded));
        behind.filter_map(|(key, state)| Some((key, state.layer2.as_ref()?, state.bgp.as_ref()?)))
    }

    /// The Services this node announces with a protocol.
    pub fn announced(&self, protocol: Protocol) -> impl Iterator<Item = &Key> {
        self.services.iter().filter(move |(_, state)| state.is_announced(protocol)).map(|(key, _)| key)
    }

    /// The peers on this node that were given a route of the Service (contract 1.9, ServiceBGPStatus).
    pub fn peers_of(&self, service: &Key) -> BTreeSet<&str> {
        let grant = self.services.get(service).and_then(|state| granted(state.bgp.as_ref()));
        grant.map(|grant| self.routes.peers_of(grant.routes.keys())).unwrap_or_default()
    }

    fn may_decide(&self) -> bool {
        self.synced != Synced::Listing && self.config.is_some()
    }

    fn configure(&mut self, config: Arc<Config>) {
        self.peers_due = true;
        self.fitness.configured();
        let old = self.config.replace(Arc::clone(&config));
        self.pools = PoolIndex::new(&config);
        // Services of pools that did not change stay as they are. A Service without a pool may have one now.
        let changed: BTreeSet<&str> = match &old {
            None => config.pools.keys().map(String::as_str).collect(),
            Some(old) => old
                .pools
                .keys()
                .chain(config.pools.keys())
                .filter(|name| old.pools.get(*name) != config.pools.get(*name))
                .map(String::as_str)
                .collect(),
        };
        if changed.is_empty() {
            return;
        }
        for (key, state) in &self.services {
            if state.pool().is_none_or(|pool| changed.contains(pool)) {
                self.dirty.insert(key.clone());
            }
        }
    }

    fn apply_service(&mut self, service: &Service) {
        let facts = ServiceFacts::read(service, &self.options.load_balancer_class);
        let key = service.metadata.key();
        let state = self.services.entry(key.clone()).or_default();
        if state.facts.as_ref() != Some(&facts) {
            let old = state.facts.replace(facts);
            self.dirty.extend(self.sharing.replace(&key, old.as_ref(), state.facts.as_ref()));
            self.dirty.insert(key);
        }
    }

    fn delete_service(&mut self, key: &Key, out: &mut Outbox<Output>) {
        self.dirty.remove(key);
        let Some(state) = self.services.get_mut(key) else { return };
        let (layer2, bgp) = (state.layer2.take(), state.bgp.take());
        let (shown_interfaces, shown_peers) = (state.shown_interfaces.take(), std::mem::take(&mut state.shown_peers));
        let facts = state.facts.take();
        let places = std::mem::take(&mut state.places);
        if state.slices.is_empty() {
            self.services.remove(key);
        }
        self.dirty.extend(self.sharing.replace(key, facts.as_ref(), None));
        self.watching.replace(&self.options.node, &places, &Places::default());
        if shown_interfaces.is_some() {
            out.push(Output::Unsay(self.report_layer2(key, Vec::new())));
        }
        if !shown_peers.is_empty() {
            out.push(Output::Unsay(self.report_bgp(key, Vec::new())));
        }
        self.settle_layer2(key, layer2.as_ref(), None, out);
        self.settle_bgp(key, bgp.as_ref(), None, out);
    }

    fn apply_slice(&mut self, slice: &EndpointSlice) {
        let name = &slice.metadata.name;
        let (before, service) = self.slices.apply(slice);
        if let Some(before) = before {
            self.lose_slice(before, name);
        }
        let Some(service) = service else { return };
        let state = self.services.entry(service.clone()).or_default();
        if state.slices.set(name, SliceFacts::read(slice)) {
            self.dirty.insert(service);
        }
    }

    fn lose_slice(&mut self, service: Key, slice: &str) {
        let Some(state) = self.services.get_mut(&service) else { return };
        state.slices.remove(slice);
        if state.facts.is_some() {
            self.dirty.insert(service);
        } else if state.slices.is_empty() {
            self.services.remove(&service);
        }
    }

    fn change_node(&mut self, now: Instant, name: &str, facts: Option<NodeFacts>) {
        if self.nodes.get(name) == facts.as_ref() {
            return;
        }
        if name == self.options.node {
            self.node_stands(now, facts.as_ref());
        }
        match facts {
            Some(facts) => self.nodes.insert(name.to_owned(), facts),
            None => self.nodes.remove(name),
        };
        if name == self.options.node {
            self.peers_due = true;
            self.fitness.configured();
            self.dirty.extend(self.services.keys().cloned());
        } else {
            self.reconsider(name);
        }
    }

    /// Another node has changed: its Services are decided anew, and those that it may get.
    fn reconsider(&mut self, node: &str) {
        if !self.may_decide() {
            // All Services are to be decided anyway; looking at each for each node would be quadratic.
            return;
        }
        let around = self.surroundings();
        let affected = self.services.iter().filter(|(_, state)| state.is_affected_by(node, &around));
        let affected: Vec<Key> = affected.map(|(key, _)| key.clone()).collect();
        self.dirty.extend(affected);
    }

    /// Others have joined, died or left (contract 5.1).
    fn change_members(&mut self, members: Members) {
        let old = std::mem::replace(&mut self.members, members);
        match old.difference(&self.members) {
            Some(nodes) => nodes.iter().for_each(|node| self.reconsider(node)),
            None if old != self.members => self.dirty.extend(self.services.keys().cloned()),
            None => {}
        }
        let rules = self.members.rules(&self.options.node);
        if std::mem::replace(&mut self.rules, rules) != rules {
            let concerned = self.services.iter().filter(|(_, state)| state.depends_on_rules());
            self.dirty.extend(concerned.map(|(key, _)| key.clone()));
        }
    }

    fn change_interfaces(&mut self, names: BTreeSet<String>) {
        if self.interfaces == names {
            return;
        }
        self.interfaces = names;
        let restricted = self.services.iter().filter(|(_, state)| state.depends_on_interfaces());
        self.dirty.extend(restricted.map(|(key, _)| key.clone()));
    }

    fn surroundings(&self) -> Surroundings<'_> {
        Surroundings {
            node: &self.options.node,
            exclusion: self.options.exclusion,
            pools: &self.pools,
            nodes: &self.nodes,
            members: &self.members,
            rules: self.rules,
            sharing: Some(&self.sharing).filter(|_| self.rules == Rules::Ours),
            hindrances: self.fitness.told(),
            cut: self.fitness.cut(),
            conflicts: &self.conflicts,
            stay: self.stay(),
            peers: &self.peers,
            interfaces: &self.interfaces,
            standing: self.departure.node,
        }
    }

    /// Decides what is due and tells the differences, in bounded steps.
    fn work(&mut self, out: &mut Outbox<Output>) {
        if !self.may_decide() {
            return;
        }
        if !self.settle_peers(out) {
            return;
        }
        for _ in 0..DECISIONS_PER_STEP {
            if out.room() < OUTPUTS_PER_DECISION {
                return;
            }
            let Some(key) = self.dirty.pop_first() else { break };
            self.decide(&key, out);
        }
        if self.dirty.is_empty() {
            self.routes.settle(&self.peers, &self.departure, out);
            if self.members != Members::Off
                && let Some(nodes) = self.watching.news()
            {
                out.push(Output::Watch(nodes));
            }
            if let Some(addresses) = self.conflicts.fellows(&self.options.node) {
                out.push(Output::Fellows(addresses));
            }
            while out.room() > 0
                && let Some(key) = self.routes.pop_regiven()
            {
                self.show_peers(&key, out);
            }
        }
        self.complete_peers(out);
        let is_done = self.dirty.is_empty() && !self.routes.is_dirty();
        if self.synced == Synced::Settling && is_done && out.room() > 0 {
            self.synced = Synced::Settled;
            out.push(Output::Settled);
        }
    }

    fn decide(&mut self, key: &Key, out: &mut Outbox<Output>) {
        let Some(state) = self.services.get(key) else { return };
        let Some(facts) = &state.facts else { return };
        let around = self.surroundings();
        let backends = &state.slices;
        let mut layer2 = decide::layer2(facts, backends, &around);
        let bgp = decide::bgp(facts, backends, &around);
        let Some(state) = self.services.get_mut(key) else { return };
        let old_places = std::mem::replace(&mut state.places, std::mem::take(&mut layer2.places));
        self.watching.replace(&self.options.node, &old_places, &state.places);
        let old_layer2 = state.layer2.replace(layer2.decision.clone());
        let old_bgp = state.bgp.replace(bgp.clone());
        self.settle_layer2(key, old_layer2.as_ref(), Some(&layer2), out);
        self.settle_bgp(key, old_bgp.as_ref(), Some(&bgp), out);
        self.show_interfaces(key, out);
    }
}

fn granted<T>(decision: Option<&Decision<T>>) -> Option<&T> {
    decision.and_then(|decision| decision.outcome.as_ref().ok())
}

fn refusal<T>(decision: Option<&Decision<T>>) -> Option<&Refusal> {
    decision.and_then(|decision| decision.outcome.as_ref().err())
}
