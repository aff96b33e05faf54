//! Whom to believe: what others say about a member, against what is known.
//!
//! Each member has an incarnation, which only it raises. Of two statements about the same incarnation the worse is
//! believed; a member denies a wrong one with the next incarnation.

use kit::Instant;

use super::{Membership, Moment, Timer};
use crate::event::{Cause, MemberState, Report};
use crate::member::{Condition, Confirmed, Member, Suspicion};
use crate::watch::Proof;
use crate::wire::{Alive, Dead, Health, MEMBERS_MAX, Message, NodeState, Suspect};
use crate::{Meta, Name, Silence};

impl Membership {
    /// Somebody is said to live.
    pub(super) fn alive_heard(&mut self, moment: &mut Moment<'_>, alive: Alive) {
        let mut alive = alive;
        if alive.address.port() == 0 {
            alive.address.set_port(self.config.address.port());
        }
        let ip = alive.address.ip().to_canonical();
        let is_impossible = alive.versions.is_some_and(|versions| !versions.are_possible());
        if is_impossible || ip.is_unspecified() || ip.is_multicast() {
            return;
        }
        if self.is_ourselves(&alive.node) {
            return self.we_are_alive(moment, &alive);
        }
        let Some(known) = self.members.get(&alive.node) else { return self.joined(moment, alive) };
        let has_moved = known.node.address != alive.address;
        if has_moved && !matches!(known.condition, Condition::Left) {
            let report = Report::Conflict { name: alive.node.clone(), known: known.address(), other: alive.address };
            return moment.report(report);
        }
        if alive.incarnation > known.node.incarnation || has_moved {
            self.alive_believed(moment, alive);
        }
    }

    /// A member that was not known.
    fn joined(&mut self, moment: &mut Moment<'_>, alive: Alive) {
        if alive.incarnation == 0 {
            return;
        }
        if self.members.len() >= MEMBERS_MAX {
            self.counters.members_refused = self.counters.members_refused.saturating_add(1);
            return moment.report(Report::TooManyMembers { name: alive.node });
        }
        let name = alive.node.clone();
        self.members.insert(
            Member { node: alive.clone(), condition: Condition::Alive, since: moment.now, proof: Proof::Missing },
            &mut self.rng,
        );
        self.queue.push(name.clone(), Message::Alive(alive).encode());
        self.changed(&name, Cause::Itself);
        self.circle_enter(moment, &name);
        self.watch_begin(moment, &name);
    }

    fn alive_believed(&mut self, moment: &mut Moment<'_>, alive: Alive) {
        let name = alive.node.clone();
        self.timers.clear(&Timer::Suspicion(name.clone()));
        self.urgent.retain(|urgent| urgent.about != name);
        self.queue.push(name.clone(), Message::Alive(alive.clone()).encode());
        let Some(member) = self.members.get_mut(&name) else { return };
        let was_alive = matches!(member.condition, Condition::Alive);
        let was_member = member.state().is_member();
        let has_moved = member.node.address != alive.address;
        if member.node.meta != alive.meta {
            self.meta_changes = self.meta_changes.saturating_add(1);
        }
        // Old members do not say their versions each time.
        let versions = alive.versions.or(member.node.versions);
        member.node = Alive { versions, ..alive };
        if !was_alive {
            member.condition = Condition::Alive;
            member.since = moment.now;
        }
        if !was_member || has_moved {
            self.circle_enter(moment, &name);
        }
        if !was_alive || has_moved {
            self.changed(&name, Cause::Itself);
            self.watch_restart(moment, &name);
        }
    }

    /// Somebody says that we live, which we know; unless it is about a former life of ours, or about somebody else of
    /// our name.
    fn we_are_alive(&mut self, moment: &mut Moment<'_>, alive: &Alive) {
        let Some(ourselves) = self.members.get(&alive.node) else { return };
        if !self.presence.is_member() {
            return;
        }
        let node = &ourselves.node;
        if node.address != alive.address {
            let report = Report::Conflict { name: alive.node.clone(), known: node.address, other: alive.address };
            return moment.report(report);
        }
        let is_same =
            alive.incarnation == node.incarnation && alive.meta == node.meta && alive.versions == node.versions;
        if alive.incarnation >= node.incarnation && !is_same {
            self.deny(alive.incarnation);
        }
    }

    /// Somebody is said to have failed, perhaps.
    pub(super) fn suspect_heard(&mut self, moment: &mut Moment<'_>, suspect: Suspect) {
        let by = suspect.from.clone();
        let cause = if self.is_ourselves(&by) { Cause::Probe } else { Cause::Member(by) };
        self.suspected(moment, suspect, cause);
    }

    pub(super) fn suspected(&mut self, moment: &mut Moment<'_>, suspect: Suspect, cause: Cause) {
        let Some(member) = self.members.get_mut(&suspect.node) else { return };
        let name = suspect.node.clone();
        if suspect.incarnation < member.node.incarnation {
            if name == self.config.name {
                self.deny_again(moment, &suspect.from);
            }
            return;
        }
        match &mut member.condition {
            Condition::Suspect(suspicion) => {
                if suspicion.confirm(suspect.from.clone()) == Confirmed::Newly {
                    let deadline = suspicion.deadline();
                    self.timers.set(Timer::Suspicion(name.clone()), deadline);
                    self.queue.push(name, Message::Suspect(suspect).encode());
                }
            }
            Condition::Dead | Condition::Left => {}
            Condition::Alive if name == self.config.name => {
                moment.report(Report::Accused { by: suspect.from, state: MemberState::Suspect });
                self.deny(suspect.incarnation);
            }
            Condition::Alive => self.suspicion_begin(moment.now, suspect, cause),
        }
    }

    fn suspicion_begin(&mut self, now: Instant, suspect: Suspect, cause: Cause) {
        let profile = &self.config.profile;
        let suspicion = Suspicion::new(
            now,
            suspect.from.clone(),
            self.members.len(),
            profile.suspicion_mult,
            profile.suspicion_max_timeout_mult,
            profile.probe_interval,
        );
        let name = suspect.node.clone();
        let Some(member) = self.members.get_mut(&name) else { return };
        self.timers.set(Timer::Suspicion(name.clone()), suspicion.deadline());
        member.node.incarnation = suspect.incarnation;
        member.condition = Condition::Suspect(suspicion);
        member.since = now;
        self.queue.push(name.clone(), Message::Suspect(suspect).encode());
        self.changed(&name, cause);
    }

    /// A suspect did not object in time.
    pub(super) fn suspicion_end(&mut self, moment: &mut Moment<'_>, name: &Name) {
        let is_answering = self.watch_answers(name);
        let Some(member) = self.members.get_mut(name) else { return };
        let Condition::Suspect(suspicion) = &mut member.condition else { return };
        if is_answering {
            // Its denial was lost, but it answers us: it is asked for another one with each ping.
            suspicion.restart(moment.now);
            let deadline = suspicion.deadline();
            return self.timers.set(Timer::Suspicion(name.clone()), deadline);
        }
        let cause = Cause::SuspicionTimeout { confirmations: suspicion.confirmations() };
        let dead = Dead { incarnation: member.node.incarnation, node: name.clone(), from: self.config.name.clone() };
        self.died(moment, dead, cause);
    }

    /// Somebody is said to have failed, or says itself that it leaves.
    pub(super) fn dead_heard(&mut self, moment: &mut Moment<'_>, dead: Dead) {
        let Some(member) = self.members.get(&dead.node) else { return };
        if dead.incarnation < member.node.incarnation || !member.state().is_member() {
            if self.is_ourselves(&dead.node) {
                self.deny_again(moment, &dead.from);
            }
            return;
        }
        if self.is_ourselves(&dead.node) {
            if self.presence.is_member() {
                moment.report(Report::Accused { by: dead.from, state: MemberState::Dead });
                let alive = self.deny(dead.incarnation);
                self.tell_everybody(moment, &dead.node, &Message::Alive(alive));
            }
            return;
        }
        let by_itself = dead.node == dead.from;
        if !by_itself && self.watch_answers(&dead.node) {
            // It answered us a moment ago. Whoever says that it is dead does not reach it, or does not run properly; it
            // will deny that itself, if it is asked.
            let Dead { incarnation, node, from } = dead;
            return self.suspect_heard(moment, Suspect { incarnation, node, from });
        }
        let cause = if by_itself { Cause::Itself } else { Cause::Member(dead.from.clone()) };
        self.died(moment, dead, cause);
    }

    /// A member other than this one is dead, or has left.
    pub(super) fn died(&mut self, moment: &mut Moment<'_>, dead: Dead, cause: Cause) {
        let name = dead.node.clone();
        if cause != Cause::Watch(Silence::Alone) {
            self.queue.push(name.clone(), Message::Dead(dead.clone()).encode());
        }
        self.timers.clear(&Timer::Suspicion(name.clone()));
        let Some(member) = self.members.get_mut(&name) else { return };
        member.node.incarnation = dead.incarnation;
        member.condition = if dead.node == dead.from { Condition::Left } else { Condition::Dead };
        member.since = moment.now;
        self.changed(&name, cause);
        self.watch_dead(moment, &name);
        self.circle_leave(moment, &name);
        self.join_soon(moment.now);
    }

    /// Says that we live, in an incarnation after the one that was accused.
    fn deny(&mut self, accused: u32) -> Alive {
        self.awareness.worsen(1);
        self.counters.denials = self.counters.denials.saturating_add(1);
        self.incarnation_next(accused)
    }

    /// Says something else about ourselves than before: in the next incarnation, or nobody would believe it.
    pub(super) fn meta_set(&mut self, moment: &mut Moment<'_>, meta: Meta) {
        if self.config.meta == meta {
            return;
        }
        self.config.meta = meta;
        if self.presence.is_member() {
            let alive = self.incarnation_next(self.incarnation);
            let name = self.config.name.clone();
            self.tell_everybody(moment, &name, &Message::Alive(alive));
        }
    }

    /// Says how we are, in an incarnation after that one.
    fn incarnation_next(&mut self, known: u32) -> Alive {
        self.incarnation = self.incarnation.max(known).saturating_add(1);
        let name = self.config.name.clone();
        let alive = self.ourselves();
        if let Some(ourselves) = self.members.get_mut(&name) {
            ourselves.node = alive.clone();
        }
        self.queue.push(name, Message::Alive(alive.clone()).encode());
        alive
    }

    /// Tells a member that has missed it that we live.
    fn deny_again(&mut self, moment: &mut Moment<'_>, to: &Name) {
        if !self.presence.is_member() || self.is_ourselves(to) {
            return;
        }
        if let Some(member) = self.members.get(to) {
            let (to, checksum) = (member.address(), member.checksum());
            let alive = Message::Alive(self.ourselves());
            self.send_parts(moment, to, vec![alive.encode()], checksum);
        }
    }

    /// What we say about ourselves.
    fn ourselves(&self) -> Alive {
        Alive {
            incarnation: self.incarnation,
            node: self.config.name.clone(),
            address: self.config.address,
            meta: self.config.meta.clone().into_bytes(),
            versions: Some(crate::wire::Versions::OURS),
        }
    }

    /// What another member knows of all. Who is dead there may have come back without its knowledge; so it is only
    /// suspected, and can deny.
    pub(super) fn merge(&mut self, moment: &mut Moment<'_>, nodes: Vec<NodeState>) {
        for NodeState { node, health } in nodes {
            let (incarnation, name) = (node.incarnation, node.node.clone());
            match health {
                Health::Alive => self.alive_heard(moment, node),
                Health::Left => {
                    self.dead_heard(moment, Dead { incarnation, node: name.clone(), from: name });
                }
                Health::Suspect | Health::Dead => {
                    let from = self.config.name.clone();
                    self.suspect_heard(moment, Suspect { incarnation, node: name, from });
                }
            }
        }
    }
}
