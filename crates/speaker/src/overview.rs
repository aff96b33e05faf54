//! Why nobody announces a Service: the chain of verdicts, asked for every node at once.
//!
//! Who announces a Service shows in its ServiceL2Status and ServiceBGPStatus (contract 1.9); as long as one is there, nothing
//! is asked. Else each node is asked by the same gates as its speaker asks, and if one passes them all, whether a speaker
//! runs on it that could. What only a node itself knows is not asked here: its interfaces, its sessions, who is a member.
//!
//! From the same facts the controller assigns addresses to nodes, where that is asked for: see `assign.rs`.

#[path = "assign.rs"]
mod assign;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use api::core::{EndpointSlice, Node, Service};
use api::{Key, KeyText, Kind, Object, ObjectRef};
use config::{Config, Peer};

use crate::backends::{Backends, SliceOwners};
use crate::core::Conflicts;
use crate::decide::{self, Exclusion, Surroundings};
use crate::drain::Standing;
use crate::facts::{NodeFacts, PoolIndex, ServiceFacts, SliceFacts};
use crate::hindrance::Hindrances;
use crate::members::{Members, Rules, Stay};
use crate::sharing::Sharing;
use crate::silence::{Silence, Stop};
use crate::verdict::{Protocol, Refusal};
use assign::Assigner;

/// What an overview is told.
#[derive(Clone, Debug)]
pub enum OverviewInput<'a> {
    /// A configuration for all nodes is in force from now on.
    Configured(Arc<Config>),
    /// The objects make no configuration, and this is why; what was in force stays.
    Refused(String),
    /// A Service is new or changed.
    ServiceApplied(&'a Service),
    /// A Service is gone.
    ServiceDeleted(&'a Key),
    /// An EndpointSlice is new or changed.
    EndpointSliceApplied(&'a EndpointSlice),
    /// An EndpointSlice is gone.
    EndpointSliceDeleted(&'a Key),
    /// A node is new or changed.
    NodeApplied(&'a Node),
    /// A node is gone, by name.
    NodeDeleted(&'a str),
    /// A ServiceL2Status, ServiceBGPStatus or ConfigurationState is new or changed.
    ReportApplied(&'a Object),
    /// One of those is gone.
    ReportDeleted(&'a ObjectRef),
    /// Something else about the Service changed.
    Mark(&'a Key),
    /// Nothing that was answered counts any more.
    MarkAll,
}

/// How a Service is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// It is not there, or not for us.
    NotOurs,
    /// It has no address.
    NoAddress,
    /// Somebody announces it.
    Announced,
    /// Nobody does, and this is why.
    Silent(Silence),
}

/// What is known of all nodes and Services.
#[derive(Debug, Default)]
pub struct Overview {
    load_balancer_class: String,
    config: Option<Arc<Config>>,
    /// Why the newest objects are not in force.
    refused: Option<String>,
    pools: PoolIndex,
    /// Boxed, for a map has room for twice as many as it holds.
    services: BTreeMap<KeyText, Box<ServiceView>>,
    /// The Service of each EndpointSlice.
    slices: SliceOwners,
    nodes: BTreeMap<String, NodeView>,
    /// The Service of each status object.
    reports: BTreeMap<(Kind, KeyText), KeyText>,
    /// What speakers make of the configuration, by node.
    speakers: BTreeMap<String, Option<String>>,
    /// Services of ours that nobody announces, and what may change that: of nodes, speakers and the configuration, only they
    /// are of interest.
    silent: BTreeMap<Key, Depends>,
    /// Services to ask for anew.
    dirty: BTreeSet<Key>,
    sharing: Sharing,
    /// Gives addresses to nodes, where this process is the one that does.
    assigner: Option<Box<Assigner>>,
}

/// What the answer about a silent Service depends on, besides the Service itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Depends {
    /// The configuration, whatever the nodes are: it has no address, or no backends.
    OnConfiguration,
    /// The configuration, the nodes, and who speaks on them.
    OnNodes,
}

#[derive(Debug, Default)]
struct ServiceView {
    facts: Option<ServiceFacts>,
    slices: Backends,
    /// How many status objects say that it is announced.
    announcers: usize,
}

impl ServiceView {
    /// Nothing is known of it.
    fn is_empty(&self) -> bool {
        self.facts.is_none() && self.slices.is_empty() && self.announcers == 0
    }
}

/// A node as it sees itself: without others, so that each election is its own.
#[derive(Debug, Default)]
struct NodeView {
    alone: BTreeMap<String, NodeFacts>,
    peers: BTreeMap<String, Arc<Peer>>,
}

impl Overview {
    /// An overview of nothing, for Services of this `loadBalancerClass`; empty for those without a class.
    pub fn new(load_balancer_class: String) -> Self {
        Overview { load_balancer_class, ..Overview::default() }
    }

    /// Takes in one thing.
    pub fn handle(&mut self, input: OverviewInput<'_>) {
        match input {
            OverviewInput::Configured(config) => self.configured(config),
            OverviewInput::Refused(why) => {
                self.refused = Some(why);
                self.mark_silent();
            }
            OverviewInput::ServiceApplied(service) => self.service_applied(service),
            OverviewInput::ServiceDeleted(key) => self.service_deleted(key),
            OverviewInput::EndpointSliceApplied(slice) => self.slice_applied(slice),
            OverviewInput::EndpointSliceDeleted(key) => {
                if let Some(service) = self.slices.remove(key) {
                    self.slice_lost(&service, &key.name);
                }
            }
            OverviewInput::NodeApplied(node) => self.node_applied(node),
            OverviewInput::NodeDeleted(name) => {
                if self.nodes.remove(name).is_some() {
                    self.nodes_changed();
                }
            }
            OverviewInput::ReportApplied(object) => self.report_applied(object),
            OverviewInput::ReportDeleted(reference) => self.report_deleted(reference),
            OverviewInput::Mark(key) => self.mark(key),
            OverviewInput::MarkAll => {
                let known = self.services.iter().filter(|(_, service)| service.facts.is_some());
                self.dirty = known.map(|(key, _)| key.key()).collect();
            }
        }
    }

    /// A Service whose answer may be another one than before, until there is none.
    pub fn next_dirty(&mut self) -> Option<Key> {
        self.dirty.pop_first()
    }

    /// Whether there is one.
    pub fn is_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    /// How a Service is.
    pub fn answer(&self, service: &Key) -> Answer {
        let Some(view) = self.services.get(&service.into()) else { return Answer::NotOurs };
        let Some(facts) = &view.facts else { return Answer::NotOurs };
        match &facts.addresses {
            _ if !is_ours(facts) => Answer::NotOurs,
            Err(Refusal::NoAddress) => Answer::NoAddress,
            Ok(_) | Err(_) if view.announcers > 0 => Answer::Announced,
            Ok(_) | Err(_) => Answer::Silent(self.silence(facts, &view.slices)),
        }
    }

    /// Whether the Service is there, and for us. Unlike [`Overview::answer`], it asks no node.
    pub fn is_ours(&self, service: &Key) -> bool {
        let facts = self.services.get(&service.into()).and_then(|view| view.facts.as_ref());
        facts.is_some_and(is_ours)
    }

    /// The uid of the Service, if it is there.
    pub fn uid(&self, service: &Key) -> Option<&str> {
        Some(self.services.get(&service.into())?.facts.as_ref()?.uid.as_str())
    }

    fn silence(&self, facts: &ServiceFacts, backends: &Backends) -> Silence {
        let Some(_config) = &self.config else { return Silence::InvalidConfiguration(self.refused.clone()) };
        if !backends.any() {
            return self.blame(vec![(self.stop_without_backends(facts), String::new())]);
        }
        let mut candidates = Vec::new();
        let mut stops = Vec::new();
        for (name, node) in &self.nodes {
            match self.ask(name, node, facts, backends) {
                Ok(()) => candidates.push(name.clone()),
                // What is missing is missing for every other node.
                Err(stop) if stop.is_everywhere() => return self.blame(vec![(stop, name.clone())]),
                Err(stop) => stops.push((stop, name.clone())),
            }
        }
        if !candidates.is_empty() {
            return self.idle(candidates);
        }
        if self.nodes.is_empty() {
            let nobody = NodeView::default();
            stops.extend(self.ask("", &nobody, facts, backends).err().map(|stop| (stop, String::new())));
        }
        self.blame(stops)
    }

    /// What stops a Service that has no backends, whatever the nodes are: there are many such, so none is asked. If a
    /// protocol would stop earlier on a node, that node is of no interest before there is something to announce.
    fn stop_without_backends(&self, facts: &ServiceFacts) -> Stop {
        let on_no_node = self.ask("", &NodeView::default(), facts, &Backends::default()).err();
        let everywhere = on_no_node.filter(Stop::is_everywhere);
        everywhere.unwrap_or_else(|| Stop::new(Protocol::Layer2, Refusal::NoEndpoints))
    }

    /// What to say if no node could announce it.
    fn blame(&self, stops: Vec<(Stop, String)>) -> Silence {
        match Silence::of(stops) {
            // What would help may be written already.
            silence if silence.is_about_configuration() && self.refused.is_some() => {
                Silence::InvalidConfiguration(self.refused.clone())
            }
            silence => silence,
        }
    }

    /// Asks one node for both protocols; the gate that it got furthest to is what stopped it.
    fn ask(&self, name: &str, node: &NodeView, facts: &ServiceFacts, backends: &Backends) -> Result<(), Stop> {
        let around = Surroundings {
            node: name,
            exclusion: Exclusion::Honoured,
            pools: &self.pools,
            nodes: &node.alone,
            members: &Members::Off,
            rules: Rules::Common,
            sharing: None,
            // What hinders a node, its speaker alone knows.
            hindrances: &Hindrances::default(),
            cut: &Hindrances::default(),
            conflicts: &Conflicts::default(),
            stay: Stay::Stays,
            peers: &node.peers,
            interfaces: &BTreeSet::new(),
            standing: Standing::Present,
        };
        let layer2 = match decide::layer2(facts, backends, &around).decision.outcome {
            // The node alone knows its interfaces.
            Ok(_) | Err(Refusal::NoSuchInterface(_)) => return Ok(()),
            Err(refusal) => Stop::new(Protocol::Layer2, refusal),
        };
        let bgp = match decide::bgp(facts, backends, &around).outcome {
            Ok(_) => return Ok(()),
            Err(refusal) => Stop::new(Protocol::Bgp, refusal),
        };
        Err(if bgp.is_further_than(&layer2) { bgp } else { layer2 })
    }

    /// These nodes could announce it, and do not.
    fn idle(&self, candidates: Vec<String>) -> Silence {
        let (with_speaker, without): (Vec<_>, Vec<_>) =
            candidates.into_iter().partition(|name| self.speakers.contains_key(name));
        let complaint = with_speaker.iter().find_map(|name| self.speakers.get(name)?.clone());
        match (complaint, with_speaker.is_empty()) {
            (Some(complaint), _) => Silence::InvalidConfiguration(Some(complaint)),
            (None, true) => Silence::NoSpeaker(without),
            (None, false) => Silence::Idle(with_speaker),
        }
    }

    fn configured(&mut self, config: Arc<Config>) {
        let is_same = self.config.as_ref() == Some(&config);
        if is_same && self.refused.is_none() {
            return;
        }
        self.pools = PoolIndex::new(&config);
        for node in self.nodes.values_mut() {
            node.select_peers(&config);
        }
        self.config = Some(config);
        self.refused = None;
        self.mark_silent();
        self.assign_all();
    }

    fn service_applied(&mut self, service: &Service) {
        let facts = ServiceFacts::read(service, &self.load_balancer_class);
        let key = service.metadata.key();
        let view = self.services.entry((&key).into()).or_default();
        if view.facts.as_ref() != Some(&facts) {
            let old = view.facts.replace(facts);
            let concerned = self.sharing.replace(&key, old.as_ref(), view.facts.as_ref());
            self.assign_anew(&concerned);
            self.mark(&key);
        }
    }

    fn service_deleted(&mut self, key: &Key) {
        self.dirty.remove(key);
        self.silent.remove(key);
        self.assign_no_more(key);
        let facts = self.services.get_mut(&key.into()).and_then(|view| view.facts.take());
        let concerned = self.sharing.replace(key, facts.as_ref(), None);
        self.assign_anew(&concerned);
        self.change(key, |_| {});
    }

    fn slice_applied(&mut self, slice: &EndpointSlice) {
        let name = &slice.metadata.name;
        let (before, service) = self.slices.apply(slice);
        if let Some(before) = before {
            self.slice_lost(&before, name);
        }
        let Some(service) = service else { return };
        let view = self.services.entry((&service).into()).or_default();
        if view.slices.set(name, SliceFacts::read(slice)) {
            self.mark(&service);
        }
    }

    fn slice_lost(&mut self, service: &Key, slice: &str) {
        self.change(service, |view| view.slices.remove(slice));
        self.mark(service);
    }

    /// Takes something away from what is known of a Service, and forgets it if that was all.
    fn change(&mut self, service: &Key, change: impl FnOnce(&mut ServiceView)) {
        let text = service.into();
        let Some(view) = self.services.get_mut(&text) else { return };
        change(view);
        if view.is_empty() {
            self.services.remove(&text);
        }
    }

    fn node_applied(&mut self, node: &Node) {
        let (name, facts) = (node.metadata.name.clone(), NodeFacts::read(node, &BTreeSet::new()));
        let view = self.nodes.entry(name.clone()).or_default();
        if view.alone.get(&name) == Some(&facts) {
            return;
        }
        view.alone.insert(name, facts);
        if let Some(config) = &self.config {
            view.select_peers(config);
        }
        self.nodes_changed();
    }

    fn report_applied(&mut self, object: &Object) {
        let reference = object.reference();
        if let Object::ConfigurationState(state) = object {
            let labels = &state.metadata.labels;
            let node = labels.get(api::STATUS_CONFIGURATION_NODE);
            let is_speaker = labels.get(api::STATUS_COMPONENT).is_some_and(|component| component == "speaker");
            let Some(node) = node.filter(|_| is_speaker) else { return };
            let is_invalid = state.status.result.as_deref() == Some("Invalid");
            let complaint = is_invalid.then(|| state.status.error_summary.clone().unwrap_or_default());
            if self.speakers.insert(node.clone(), complaint.clone()) != Some(complaint) {
                self.nodes_changed();
            }
            return;
        }
        let label = |key: &str| object.metadata().labels.get(key).cloned();
        let service = label(api::STATUS_SERVICE_NAMESPACE).zip(label(api::STATUS_SERVICE_NAME));
        let service = service.map(|(namespace, name)| Key::new(namespace, name));
        let (report, text) = ((reference.kind, KeyText::from(&reference.key)), service.as_ref().map(KeyText::from));
        if self.reports.get(&report) == text.as_ref() {
            return;
        }
        self.report_deleted(&reference);
        let (Some(service), Some(text)) = (service, text) else { return };
        let view = self.services.entry(text.clone()).or_default();
        let is_first = view.announcers == 0;
        view.announcers = view.announcers.saturating_add(1);
        self.reports.insert(report, text);
        if is_first {
            self.mark(&service);
        }
    }

    fn report_deleted(&mut self, reference: &ObjectRef) {
        // The name of the state of a speaker has its node in it.
        let node = reference.key.name.strip_prefix("speaker-");
        if reference.kind == Kind::ConfigurationState && node.is_some_and(|node| self.speakers.remove(node).is_some()) {
            self.nodes_changed();
        }
        let Some(service) = self.reports.remove(&(reference.kind, KeyText::from(&reference.key))) else { return };
        let service = service.key();
        let mut is_last = false;
        self.change(&service, |view| {
            view.announcers = view.announcers.saturating_sub(1);
            is_last = view.announcers == 0;
        });
        if is_last {
            self.mark(&service);
        }
    }

    /// Has one Service asked for, and notes whether anybody announces it.
    fn mark(&mut self, service: &Key) {
        let Some(view) = self.services.get(&service.into()) else { return };
        let Some(facts) = &view.facts else { return };
        self.dirty.insert(service.clone());
        if let Some(assigner) = &mut self.assigner {
            assigner.look_at(service);
        }
        if !is_ours(facts) || view.announcers > 0 {
            self.silent.remove(service);
            return;
        }
        let has_way = facts.addresses.is_ok() && view.slices.any();
        self.silent.insert(service.clone(), if has_way { Depends::OnNodes } else { Depends::OnConfiguration });
    }

    fn mark_silent(&mut self) {
        self.dirty.extend(self.silent.keys().cloned());
    }

    fn nodes_changed(&mut self) {
        let concerned = self.silent.iter().filter(|(_, depends)| **depends == Depends::OnNodes);
        self.dirty.extend(concerned.map(|(service, _)| service.clone()));
        if let Some(assigner) = &mut self.assigner {
            assigner.nodes_changed();
        }
    }
}

fn is_ours(facts: &ServiceFacts) -> bool {
    !matches!(facts.addresses, Err(Refusal::NotLoadBalancer | Refusal::OtherClass))
}

impl NodeView {
    fn facts(&self) -> Option<&NodeFacts> {
        self.alone.values().next()
    }

    fn select_peers(&mut self, config: &Config) {
        let Some(facts) = self.facts() else { return };
        let selected = config.peers.values().filter(|peer| peer.node_selectors.matches(&facts.labels));
        self.peers = selected.map(|peer| (peer.name.clone(), Arc::clone(peer))).collect();
    }
}
