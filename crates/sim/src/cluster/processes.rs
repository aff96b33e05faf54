//! Processes come and go, hear of objects, and have things written.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::core::{Ingress, Node, NodeAddress, NodeCondition};
use api::{Key, Kind, Object, Write};
use kit::{Duration, Family, Instant};

use super::{Cluster, Event, Frozen, Rival};
use crate::Sabotage;
use crate::api_server::Applied;
use crate::client::{ApiClient, Outcome, PoolStatus, Target};
use crate::controller_process::{self, ControllerProcess};
use crate::machine::Machine;
use crate::names::{NodeId, ProcessId};
use crate::speaker_process::{self, Effect, SpeakerProcess};
use crate::step::{Exit, shown};
use crate::tcp::Side;
use crate::violation::{Invariant, Violation, hold};

/// How long it takes a process to look into its inbox.
const WAKE: Duration = Duration::from_millis(3);
/// How long a write takes to the API server, and its answer back.
const WRITE: Duration = Duration::from_millis(30);
/// How long a write waits that failed, at most.
const WRITE_RETRY: Duration = Duration::from_secs(2);
/// How long a process takes to start, at most.
const START: Duration = Duration::from_secs(3);
/// How often a process that was asked to end looks whether it may.
const END_PAUSE: Duration = Duration::from_millis(5);
/// How long a machine takes to start, at most.
const BOOT: Duration = Duration::from_secs(20);
/// How long it takes the cluster to notice that a machine is gone.
const NODE_LOST: Duration = Duration::from_secs(40);
/// How long it takes a router's kernel to notice that a machine is gone.
const PEER_LOST: Duration = Duration::from_secs(200);
/// How long it takes a router to hear from a machine that has started again.
const PEER_BACK: Duration = Duration::from_secs(10);
/// After this time a controller may repeat what it has not seen to arrive.
const REPEAT_PAUSE: Duration = Duration::from_secs(60);
/// For this time a controller that has met somebody else's status insists on its own.
const CALM: Duration = Duration::from_secs(600);
/// How long it takes somebody who insists on a status to notice that it was overwritten.
const RIVAL: Duration = Duration::from_millis(250);
/// How often it may be in 40 seconds. With pauses that double it is seven times; the rest is for changes of the Service.
const OVERWRITTEN_MAX: u32 = 20;
/// How often a sabotaged controller repeats itself.
const REPEAT: Duration = Duration::from_secs(30);

/// Processes and their cores.
impl Cluster {
    /// Lets the controller do something, and has written what it wants.
    pub(super) fn with_controller(
        &mut self,
        act: impl FnOnce(&mut ControllerProcess, Instant) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let Some(controller) = self.controller.as_mut() else { return Ok(()) };
        let result = act(controller, self.now);
        let writes = std::mem::take(&mut controller.writes);
        for write in writes {
            self.write(ProcessId::Controller, write)?;
        }
        result
    }

    /// Lets a speaker do something, and has carried out what it wants.
    pub(super) fn with_speaker(
        &mut self,
        node: NodeId,
        act: impl FnOnce(&mut SpeakerProcess, Instant) -> Result<(), Violation>,
    ) -> Result<(), Violation> {
        let Some(speaker) = self.machines.get_mut(&node).and_then(|machine| machine.speaker.as_mut()) else {
            return Ok(());
        };
        let mut result = act(speaker, self.now);
        if speaker.has_news() {
            // What the segment shows is no matter of the API.
            self.frozen.remove(&ProcessId::Speaker(node));
            result = result.and_then(|()| speaker.take_in_news(self.now));
        }
        let effects = std::mem::take(&mut speaker.effects);
        for effect in effects {
            match effect {
                Effect::Write(write) => self.write(ProcessId::Speaker(node), write)?,
                Effect::Frame { interface, bytes } => self.frame_leaves(node, interface, bytes),
                Effect::Session(effect) => self.session_effect(node, effect)?,
                Effect::Statement(hindrances) => self.stated(node, hindrances),
                Effect::LookUp(mac) => self.look_up(node, mac),
            }
        }
        result
    }

    /// A process starts, unless one of its name runs, or its machine does not.
    pub(super) fn start(&mut self, process: ProcessId) -> Result<(), Violation> {
        if self.clients.contains_key(&process) {
            return Ok(());
        }
        let (kinds, pool_status) = match process {
            ProcessId::Controller => (controller_process::KINDS.as_slice(), PoolStatus::Read),
            ProcessId::Speaker(node) if self.machines.get(&node).is_some_and(|machine| machine.is_on) => {
                (speaker_process::KINDS.as_slice(), PoolStatus::Ignored)
            }
            ProcessId::Speaker(_) => return Ok(()),
        };
        self.say(|| format!("{process} starts"));
        self.epochs = self.epochs.saturating_add(1);
        self.clients.insert(process, ApiClient::new(self.epochs, kinds, pool_status));
        self.is_active();
        for kind in kinds {
            self.plan_delivery(process, *kind);
        }
        match process {
            ProcessId::Controller => {
                self.controller = Some(ControllerProcess::new(&self.climate, self.sabotage));
                Ok(())
            }
            ProcessId::Speaker(node) => {
                let life = (self.epochs, self.rng.next_u64());
                let speaker = SpeakerProcess::new(node, life, &self.climate, self.sabotage);
                let Some(machine) = self.machines.get_mut(&node) else { return Ok(()) };
                machine.speaker = Some(speaker);
                self.statements.remove(&node);
                let members = self.members_at_first();
                self.with_speaker(node, |speaker, now| speaker.members_changed(now, members))?;
                for lan in node.lans() {
                    let interface = self.machines.get(&node).and_then(|machine| machine.interface(*lan));
                    if interface.is_some() {
                        self.with_speaker(node, |speaker, now| speaker.interface_changed(now, *lan, interface))?;
                    }
                }
                let ways = self.machines.get(&node).map(Machine::ways_out).unwrap_or_default();
                self.with_speaker(node, |speaker, now| speaker.ways_changed(now, ways))
            }
        }
    }

    /// A process ends. Its kernel, if it lives on, closes its connections.
    pub(super) fn stop(&mut self, process: ProcessId, exit: Exit) -> Result<(), Violation> {
        if !self.clients.contains_key(&process) {
            return Ok(());
        }
        self.is_active();
        match process {
            ProcessId::Controller => self.controller = None,
            ProcessId::Speaker(node) => {
                if exit == Exit::Ordered {
                    self.with_speaker(node, SpeakerProcess::finish)?;
                }
                self.member_gone(node);
                for connection in self.connections.between(Some(node), None) {
                    self.close(connection, Side::Node);
                }
                if let Some(machine) = self.machines.get_mut(&node) {
                    machine.speaker = None;
                }
            }
        }
        self.clients.remove(&process);
        self.frozen.remove(&process);
        Ok(())
    }

    /// A process ends, and another one takes its place a little later.
    pub(super) fn restart(&mut self, process: ProcessId, exit: Exit) -> Result<(), Violation> {
        let Some(epoch) = self.clients.get(&process).map(|client| client.epoch) else { return Ok(()) };
        if let (ProcessId::Speaker(node), Exit::Ordered) = (process, exit) {
            // What it announces until it ends is its own affair.
            self.frozen.remove(&process);
            self.with_speaker(node, SpeakerProcess::leave)?;
            self.member_gone(node);
            return self.may_end(process, epoch);
        }
        self.stop(process, exit)?;
        let span = self.up_to(START);
        self.plan_in(span, Event::Start(process));
        Ok(())
    }

    /// A process that was asked to end does so, if there is nothing that it waits for.
    pub(super) fn may_end(&mut self, process: ProcessId, epoch: u64) -> Result<(), Violation> {
        let ProcessId::Speaker(node) = process else { return Ok(()) };
        if self.clients.get(&process).is_none_or(|client| client.epoch != epoch) {
            return Ok(());
        }
        self.is_active();
        if self.speaker(node).is_some_and(|speaker| speaker.has_left(self.now)) {
            self.stop(process, Exit::Ordered)?;
            let span = self.up_to(START);
            self.plan_in(span, Event::Start(process));
        } else {
            self.plan_in(END_PAUSE, Event::MayEnd { process, epoch });
        }
        Ok(())
    }
}

/// Machines.
impl Cluster {
    /// A machine joins, with its Node.
    pub(super) fn join(&mut self, node: NodeId) {
        if self.machines.contains_key(&node) {
            return;
        }
        self.machines.insert(node, Machine::new(node));
        let mut object = Node::default();
        object.metadata.name = node.name();
        object.metadata.labels.insert("zone".to_owned(), if node.0 % 2 == 1 { "a" } else { "b" }.to_owned());
        object.status.conditions.push(NodeCondition { type_: "Ready".to_owned(), status: "True".to_owned() });
        object.status.addresses = node_addresses(node);
        self.edit(Object::Node(object));
        let span = self.up_to(START);
        self.plan_in(span, Event::Start(ProcessId::Speaker(node)));
    }

    /// A machine leaves, and its Node is deleted.
    pub(super) fn leave(&mut self, node: NodeId) {
        if self.machines.contains_key(&node) {
            self.power_off(node);
            self.machines.remove(&node);
            self.delete(&api::ObjectRef { kind: Kind::Node, key: api::Key::new("", node.name()) });
        }
    }

    /// A machine loses power: nobody says goodbye.
    pub(super) fn power_off(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| machine.is_on) else { return };
        machine.is_on = false;
        machine.speaker = None;
        let boots = machine.boots;
        let process = ProcessId::Speaker(node);
        self.clients.remove(&process);
        self.frozen.remove(&process);
        self.member_gone(node);
        self.disturb(Some(node), None);
        for connection in self.connections.between(Some(node), None) {
            if let Some(connection) = self.connections.get_mut(connection) {
                connection.end_mut(Side::Node).is_open = false;
            }
            self.plan_in(PEER_LOST, Event::Reset { connection, side: Side::Router });
        }
        self.plan_in(NODE_LOST, Event::NodeLost { node, boots });
        self.is_active();
    }

    /// A machine gets power.
    pub(super) fn power_on(&mut self, node: NodeId) {
        let Some(machine) = self.machines.get_mut(&node).filter(|machine| !machine.is_on) else { return };
        machine.is_on = true;
        machine.boots = machine.boots.saturating_add(1);
        let boots = machine.boots;
        let span = self.up_to(BOOT);
        self.plan_in(span, Event::Booted { node, boots });
        // Whatever a router still sends to it is answered by a reset.
        for connection in self.connections.between(Some(node), None) {
            let span = span + self.up_to(PEER_BACK);
            self.plan_in(span, Event::Reset { connection, side: Side::Router });
        }
        self.is_active();
    }

    /// A machine has started: the cluster is told, and its speaker starts.
    pub(super) fn booted(&mut self, node: NodeId, boots: u64) -> Result<(), Violation> {
        if !self.machines.get(&node).is_some_and(|machine| machine.is_on && machine.boots == boots) {
            return Ok(());
        }
        self.set_ready(node, "True");
        self.start(ProcessId::Speaker(node))
    }

    /// The cluster has noticed that a machine does not answer.
    pub(super) fn node_lost(&mut self, node: NodeId, boots: u64) {
        if self.machines.get(&node).is_some_and(|machine| !machine.is_on && machine.boots == boots) {
            self.set_ready(node, "Unknown");
        }
    }

    pub(super) fn set_ready(&mut self, node: NodeId, status: &str) {
        let Some(mut object) = self.api.node(&node.name()).cloned() else { return };
        object.status.conditions.retain(|condition| condition.type_ != "Ready");
        object.status.conditions.push(NodeCondition { type_: "Ready".to_owned(), status: status.to_owned() });
        self.say(|| format!("{node} is Ready: {status}"));
        self.edit(Object::Node(object));
    }
}

/// What processes hear.
impl Cluster {
    /// Plans the next delivery of a kind, if there is something new and none is planned.
    pub(super) fn plan_delivery(&mut self, process: ProcessId, kind: Kind) {
        let Some(client) = self.clients.get_mut(&process) else { return };
        if client.watch.plan(&self.api, kind) {
            let epoch = client.epoch;
            let span = self.up_to(self.climate.lag);
            self.plan_in(span, Event::Deliver { process, epoch, kind });
        }
    }

    /// News arrive. Whoever is cut off hears of them later.
    pub(super) fn deliver(&mut self, process: ProcessId, epoch: u64, kind: Kind) {
        let most = self.rng.index(4).saturating_add(1);
        let Some(client) = self.clients.get_mut(&process).filter(|client| client.epoch == epoch) else { return };
        client.watch.unplan(kind);
        if client.is_cut() {
            return;
        }
        let changes = client.watch.take(&self.api, kind, most);
        let was_empty = client.inbox.is_empty();
        client.inbox.extend(changes);
        if was_empty && !client.inbox.is_empty() {
            let span = self.up_to(WAKE);
            self.plan_in(span, Event::Wake { process, epoch });
        }
        self.is_active();
        self.plan_delivery(process, kind);
    }

    /// A process takes in what has arrived, or a part of it.
    pub(super) fn wake(&mut self, process: ProcessId, epoch: u64) -> Result<(), Violation> {
        let batch = self.rng.index(self.climate.batch).saturating_add(1);
        let Some(client) = self.clients.get_mut(&process).filter(|client| client.epoch == epoch) else {
            return Ok(());
        };
        let taken = batch.min(client.inbox.len());
        let changes: Vec<_> = client.inbox.drain(..taken).collect();
        let is_last = client.inbox.is_empty();
        client.hear(self.now, &changes);
        if !is_last {
            let span = self.up_to(WAKE);
            self.plan_in(span, Event::Wake { process, epoch });
        }
        self.is_active();
        self.say(|| {
            let words: Vec<String> = changes.iter().map(ToString::to_string).collect();
            format!("{process} hears {}", words.join(", "))
        });
        match process {
            ProcessId::Controller => {
                self.with_controller(|controller, now| controller.objects_changed(now, changes, is_last))
            }
            ProcessId::Speaker(node) => {
                let had_none = self.speaker(node).is_some_and(|speaker| speaker.configuration().is_none());
                self.with_speaker(node, |speaker, now| speaker.objects_changed(now, changes, is_last))?;
                if had_none {
                    self.joins(node);
                }
                Ok(())
            }
        }
    }

    /// A process cannot reach the API for a while. What it means then must not change.
    pub(super) fn cut(&mut self, process: ProcessId, span: Duration) -> Result<(), Violation> {
        let until = self.now + span;
        let Some(client) = self.clients.get_mut(&process) else { return Ok(()) };
        client.cut_until = client.cut_until.max(Some(until));
        let has_heard_all = client.inbox.is_empty();
        self.schedule.plan(until, Event::Uncut(process));
        self.is_active();
        let frozen = match process {
            ProcessId::Controller => self
                .controller
                .as_ref()
                .filter(|controller| controller.next_deadline().is_none_or(|deadline| deadline > self.now))
                .map(|controller| Frozen::Controller(controller.books().clone())),
            ProcessId::Speaker(node) => self
                .speaker(node)
                .filter(|speaker| speaker.is_settled())
                .map(|speaker| Frozen::Speaker(speaker.claims().clone())),
        };
        if let Some(frozen) = frozen.filter(|_| has_heard_all) {
            self.frozen.entry(process).or_insert(frozen);
        }
        if let (Some(Sabotage::WithdrawWhenCut), ProcessId::Speaker(node)) = (self.sabotage, process) {
            self.with_speaker(node, SpeakerProcess::give_up)?;
        }
        Ok(())
    }

    /// A process may reach the API again: some watches go on where they were, others begin anew.
    pub(super) fn uncut(&mut self, process: ProcessId) -> Result<(), Violation> {
        let Some(client) = self.clients.get_mut(&process) else { return Ok(()) };
        if client.cut_until.is_none_or(|until| until > self.now) {
            return Ok(());
        }
        client.cut_until = None;
        let epoch = client.epoch;
        for kind in client.watch.kinds() {
            if self.rng.one_in(3) {
                client.watch.forget_position(kind);
            }
        }
        let kinds = client.watch.kinds();
        self.say(|| format!("{process} can reach the API again"));
        self.is_active();
        self.check_frozen(process)?;
        for kind in kinds {
            self.plan_delivery(process, kind);
        }
        self.plan_in(Duration::ZERO, Event::WriterTurn { process, epoch });
        Ok(())
    }

    fn check_frozen(&mut self, process: ProcessId) -> Result<(), Violation> {
        let (same, before, after) = match (self.frozen.remove(&process), process) {
            (Some(Frozen::Controller(before)), _) => {
                let Some(controller) = &self.controller else { return Ok(()) };
                (before == *controller.books(), format!("{before:?}"), format!("{:?}", controller.books()))
            }
            (Some(Frozen::Speaker(before)), ProcessId::Speaker(node)) => {
                let Some(speaker) = self.speaker(node) else { return Ok(()) };
                (before == *speaker.claims(), format!("{before:?}"), format!("{:?}", speaker.claims()))
            }
            (Some(Frozen::Speaker(_)), ProcessId::Controller) | (None, _) => return Ok(()),
        };
        hold(same, Invariant::LosingTheApiIsInert, || {
            format!("{process} was cut off with {before} and came back with {after}")
        })
    }
}

/// What processes write.
impl Cluster {
    /// A process wants something written.
    pub(super) fn write(&mut self, process: ProcessId, write: Write) -> Result<(), Violation> {
        self.say(|| format!("{process} says {}", words(&write)));
        if self.sabotage == Some(Sabotage::LoseCounters) && matches!(write, Write::PoolStatus { .. }) {
            return Ok(());
        }
        let Some(target) = Target::of(&write) else { return Ok(()) };
        if self.sabotage == Some(Sabotage::WriteTwice) && matches!(target, Target::Pool(_)) {
            self.accept_write(process, &target, write.clone())?;
        }
        self.accept_write(process, &target, write)
    }

    fn accept_write(&mut self, process: ProcessId, target: &Target, write: Write) -> Result<(), Violation> {
        let Some(client) = self.clients.get_mut(&process) else { return Ok(()) };
        let before = client.said.insert(target.clone(), (write.clone(), self.now));
        // What is written to another object of the same name is news, whatever it is.
        let is_renewed = client.renewed.get(target) == Some(&self.now);
        let is_news = before.is_none_or(|(before, at)| before != write || self.now - at >= REPEAT_PAUSE) || is_renewed;
        // Who insists on a status that something else wrote must not wait until it hears of its own write.
        let is_contested = self.foreign_writes.get(target).is_some_and(|at| self.now - *at < CALM);
        hold(is_news || is_contested, Invariant::WritesAreNews, || {
            format!("{process} says once more {}", words(&write))
        })?;
        client.writer.push(target.clone(), write);
        let epoch = client.epoch;
        let span = self.up_to(WAKE);
        self.plan_in(span, Event::WriterTurn { process, epoch });
        Ok(())
    }

    /// A process sends what waits, as far as not too much is under way.
    pub(super) fn writer_turn(&mut self, process: ProcessId, epoch: u64) {
        loop {
            let Some(client) = self.clients.get_mut(&process) else { return };
            if client.epoch != epoch || client.is_cut() || self.sabotage == Some(Sabotage::NeverWrite) {
                return;
            }
            let Some((target, write)) = client.writer.take() else { return };
            let span = self.up_to(WRITE);
            self.plan_in(span, Event::WriteArrives { process, epoch, target, write });
        }
    }

    /// A write reaches the server, or does not. It does so even when the process that sent it is no more.
    pub(super) fn write_arrives(&mut self, process: ProcessId, epoch: u64, target: Target, write: Write) {
        let is_cut = self.clients.get(&process).is_some_and(|client| client.epoch == epoch && client.is_cut());
        let meets_another = self.rng.one_in(self.climate.conflict_one_in);
        let outcome = if is_cut || meets_another {
            Outcome::Again
        } else {
            self.apply(&write);
            Outcome::Done
        };
        self.is_active();
        let span = self.up_to(WRITE);
        self.plan_in(span, Event::WriteAnswered { process, epoch, target, write, outcome });
    }

    fn apply(&mut self, write: &Write) {
        self.writes = self.writes.saturating_add(1);
        self.is_active();
        let kind = match write {
            Write::ServiceStatus { ingress, .. } => {
                self.remember_shown(ingress);
                Kind::Service
            }
            Write::AssignedNode { .. } => Kind::Service,
            Write::PoolStatus { .. } => Kind::IPAddressPool,
            Write::ServiceCondition { .. } | Write::Report { .. } | Write::ReportGone { .. } | Write::Event(_) => {
                return;
            }
        };
        let applied = self.api.apply(write);
        self.say(|| format!("the API server takes {}: {applied:?}", words(write)));
        if applied == Applied::Changed {
            self.tell_all(kind);
            if let Write::ServiceStatus { service, .. } = write
                && self.rivals.contains_key(service)
            {
                self.plan_in(RIVAL, Event::RivalWrites(service.clone()));
            }
        }
        if self.sabotage == Some(Sabotage::RepeatWrites) {
            self.plan_in(REPEAT, Event::WriteAgain { write: write.clone() });
        }
    }

    /// Somebody else insists on the status of a Service for a while.
    pub(super) fn rival_comes(&mut self, service: &Key, ingress: &[Ingress], span: Duration) -> Result<(), Violation> {
        let until = self.now + span;
        self.rivals.insert(service.clone(), Rival { ingress: ingress.to_vec(), until, overwritten: 0 });
        self.rival_writes(service)
    }

    /// Somebody who insists on the status of a Service writes it. Who was overwritten more and more often in a short time
    /// has met somebody without patience.
    pub(super) fn rival_writes(&mut self, service: &Key) -> Result<(), Violation> {
        let Some(rival) = self.rivals.get_mut(service).filter(|rival| self.now < rival.until) else {
            self.rivals.remove(service);
            return Ok(());
        };
        rival.overwritten = rival.overwritten.saturating_add(1);
        let (overwritten, ingress) = (rival.overwritten, rival.ingress.clone());
        hold(overwritten <= OVERWRITTEN_MAX, Invariant::RivalsArePatient, || {
            format!("the status of {service} was overwritten {overwritten} times")
        })?;
        self.foreign_status(service, &ingress, None);
        Ok(())
    }

    /// Something else writes the status of a Service.
    pub(super) fn foreign_status(&mut self, service: &Key, ingress: &[Ingress], pool: Option<&str>) {
        self.say(|| format!("someone else writes the status of {service}"));
        self.api.set_status(service, None, ingress, pool);
        self.remember_shown(ingress);
        self.foreign_writes.insert(Target::Service(service.clone()), self.now);
        self.tell_all(Kind::Service);
    }

    /// These addresses will be asked for at rest.
    pub(super) fn remember_shown(&mut self, ingress: &[Ingress]) {
        let address = |entry: &Ingress| entry.ip.as_deref()?.parse::<IpAddr>().ok();
        self.ever_shown.extend(ingress.iter().filter_map(address));
    }

    /// A write is repeated for no reason.
    pub(super) fn write_again(&mut self, write: Write) {
        self.apply(&write);
    }

    /// The answer to a write arrives. It may be lost on the way, and then the write is repeated.
    pub(super) fn write_answered(
        &mut self,
        process: ProcessId,
        epoch: u64,
        target: Target,
        write: Write,
        outcome: Outcome,
    ) {
        let Some(client) = self.clients.get_mut(&process).filter(|client| client.epoch == epoch) else { return };
        let outcome = if client.is_cut() { Outcome::Again } else { outcome };
        client.writer.done(target, write, outcome);
        let span = if outcome == Outcome::Again { self.up_to(WRITE_RETRY) } else { Duration::ZERO };
        self.plan_in(span, Event::WriterTurn { process, epoch });
        self.is_active();
    }

    /// Every process hears of what happened to the objects of a kind, each in its time.
    pub(super) fn tell_all(&mut self, kind: Kind) {
        let processes: BTreeSet<ProcessId> = self.clients.keys().copied().collect();
        for process in processes {
            self.plan_delivery(process, kind);
        }
        self.is_active();
    }

    pub(super) fn speaker(&self, node: NodeId) -> Option<&SpeakerProcess> {
        self.machines.get(&node)?.speaker.as_ref()
    }
}

/// The addresses of a machine, as its Node shows them.
fn node_addresses(node: NodeId) -> Vec<NodeAddress> {
    let places = node.lans().iter().flat_map(|lan| Family::ALL.map(|family| lan.address_of(family, node)));
    places.map(|address| NodeAddress { type_: "InternalIP".to_owned(), address: address.to_string() }).collect()
}

/// A write in one line.
fn words(write: &Write) -> String {
    match write {
        Write::ServiceStatus { service, ingress, pool, .. } => {
            format!("{service} := {:?} of {}", shown(ingress), pool.as_deref().unwrap_or("no pool"))
        }
        Write::PoolStatus { pool, status } => format!(
            "pool {} := {}+{} in use, {}+{} free",
            pool.name, status.assigned_ipv4, status.assigned_ipv6, status.available_ipv4, status.available_ipv6
        ),
        Write::AssignedNode { service, node, .. } => format!("{service} := on {node:?}"),
        Write::ServiceCondition { service, .. } => format!("condition of {service}"),
        Write::Report { object, .. } => format!("report {object}"),
        Write::ReportGone { object, .. } => format!("no report {object}"),
        Write::Event(event) => format!("event {} {}: {}", event.reason, event.object, event.message),
    }
}
