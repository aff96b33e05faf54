//! Who each speaker believes to be alive and able, where they know of each other by memberlist.
//!
//! What members say to each other is tested where it is implemented, in `gossip`. Here they come to know what is true, each
//! in its time: who has joined, what they say of themselves, and who can be reached over the front link.

use std::collections::BTreeSet;

use kit::Duration;
use speaker::{Hindrances, Members, Statement};

use super::{Cluster, Event, Membership};
use crate::names::{Lan, NodeId, ProcessId};
use crate::violation::Violation;

/// How long a speaker looks for the others, at most.
const JOIN: Duration = Duration::from_secs(2);
/// How long it takes until a member has heard of one that came, went, or cannot be reached.
const HEAR: Duration = Duration::from_secs(3);

impl Cluster {
    /// What a speaker knows of the others when it starts.
    pub(super) fn members_at_first(&self) -> Members {
        match self.climate.membership {
            Membership::Nodes => Members::Off,
            Membership::Memberlist => Members::Joining,
        }
    }

    /// A speaker that has a configuration looks for the others.
    pub(super) fn joins(&mut self, node: NodeId) {
        let Some(epoch) = self.clients.get(&ProcessId::Speaker(node)).map(|client| client.epoch) else { return };
        let is_ready = self.speaker(node).is_some_and(|speaker| speaker.configuration().is_some());
        if self.climate.membership == Membership::Memberlist && is_ready && !self.members.contains(&node) {
            let span = self.up_to(JOIN);
            self.plan_in(span, Event::Joined { node, epoch });
        }
    }

    /// A speaker has found the others, or has given up looking.
    pub(super) fn joined(&mut self, node: NodeId, epoch: u64) {
        let is_there = self.clients.get(&ProcessId::Speaker(node)).is_some_and(|client| client.epoch == epoch);
        let stays = self.speaker(node).is_some_and(|speaker| !speaker.leaves());
        if is_there && stays && self.members.insert(node) {
            self.say(|| format!("the speaker of {node} is a member"));
            self.members_changed();
        }
    }

    /// A speaker takes no part any more.
    pub(super) fn member_gone(&mut self, node: NodeId) {
        if self.members.remove(&node) {
            self.members_changed();
        }
    }

    /// Who takes part, or can be reached, has changed. Everybody hears of it.
    pub(super) fn members_changed(&mut self) {
        if self.climate.membership == Membership::Nodes {
            return;
        }
        self.is_active();
        for node in self.members.clone() {
            let Some(epoch) = self.clients.get(&ProcessId::Speaker(node)).map(|client| client.epoch) else { continue };
            let span = self.up_to(HEAR);
            self.plan_in(span, Event::MembersHeard { node, epoch });
        }
    }

    /// A speaker says what keeps its node from announcing.
    pub(super) fn stated(&mut self, node: NodeId, hindrances: Hindrances) {
        self.say(|| format!("the speaker of {node} is hindered by {hindrances:?}"));
        // What it announces may depend on it.
        self.frozen.remove(&ProcessId::Speaker(node));
        self.statements.insert(node, hindrances);
        self.members_changed();
    }

    /// A speaker hears who is there.
    pub(super) fn members_heard(&mut self, node: NodeId, epoch: u64) -> Result<(), Violation> {
        let process = ProcessId::Speaker(node);
        if self.clients.get(&process).is_none_or(|client| client.epoch != epoch) || !self.members.contains(&node) {
            return Ok(());
        }
        let is_reached = |node: NodeId| self.machines.get(&node).is_some_and(|it| it.is_connected(Lan::Front));
        let is_blocked =
            |one: NodeId, other: NodeId| self.blocked.contains_key(&one) || self.blocked.contains_key(&other);
        let is_heard = |other: &&NodeId| {
            **other == node || (is_reached(node) && is_reached(**other) && !is_blocked(node, **other))
        };
        let alive: BTreeSet<NodeId> = self.members.iter().filter(is_heard).copied().collect();
        let statement = |node: NodeId| Statement::Made(self.statements.get(&node).cloned().unwrap_or_default());
        let members = Members::Alive(alive.iter().map(|node| (node.name(), statement(*node))).collect());
        self.is_active();
        self.say(|| format!("the speaker of {node} finds alive: {alive:?}"));
        // Who is elected may depend on it.
        self.frozen.remove(&process);
        self.with_speaker(node, |speaker, now| speaker.members_changed(now, members))
    }
}
