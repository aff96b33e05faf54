//! The node leaves, or this process does: what that does to the decisions. How it goes is in `drain.rs`.

use std::collections::BTreeSet;

use kit::{Duration, Instant, Outbox};

use super::{Output, Speaker, Synced};
use crate::decide::Exclusion;
use crate::drain::Standing;
use crate::facts::NodeFacts;
use crate::members::{Members, Stay};

impl Speaker {
    /// This node is drained, or is no longer. Before it has announced anything there is nothing to be gentle about.
    pub(super) fn node_stands(&mut self, now: Instant, facts: Option<&NodeFacts>) {
        let is_excluded = |facts: &NodeFacts| facts.excluded && self.options.exclusion == Exclusion::Honoured;
        let leaves = facts.is_some_and(|facts| is_excluded(facts) || facts.drained.is_some());
        let has_announced = matches!(self.synced, Synced::Recalled | Synced::Settled);
        let time = if has_announced { self.options.drain.time } else { Duration::ZERO };
        let standing = if leaves { self.departure.node.leave(now, time) } else { Standing::Present };
        if standing != self.departure.node {
            self.departure.node = standing;
            self.routes.all_changed();
        }
    }

    /// This process is to end.
    pub(super) fn leave(&mut self, now: Instant, kept: BTreeSet<String>) {
        if self.departure.process == Standing::Present {
            self.departure.kept = kept;
            self.departure.process = Standing::Present.leave(now, self.options.drain.time);
            self.routes.all_changed();
            if self.stay() == Stay::Leaves {
                self.dirty.extend(self.services.keys().cloned());
            }
        }
    }

    /// Whoever was leaving may have left by now.
    pub(super) fn depart(&mut self, now: Instant) {
        let (node, process) = (self.departure.node.at(now), self.departure.process.at(now));
        if node != self.departure.node {
            self.departure.node = node;
            self.dirty.extend(self.services.keys().cloned());
        }
        if process != self.departure.process {
            self.departure.process = process;
            self.routes.all_changed();
        }
    }

    /// Whether this process takes part in elections for much longer. Without memberlist nobody would hear that it does not.
    pub(super) fn stay(&self) -> Stay {
        match (self.departure.process, &self.members) {
            (Standing::Present, _) | (_, Members::Off) => Stay::Stays,
            (Standing::Leaving { .. } | Standing::Gone, Members::Joining | Members::Alive(_)) => Stay::Leaves,
        }
    }

    /// Says that this process may end, when all routes that it takes with it are withdrawn.
    pub(super) fn left(&mut self, out: &mut Outbox<Output>) {
        let is_told = || self.dirty.is_empty() && !self.routes.is_dirty();
        let is_gone = self.departure.process == Standing::Gone && (!self.may_decide() || is_told());
        if is_gone && !self.departure.told && out.room() > 0 {
            self.departure.told = true;
            out.push(Output::Left);
        }
    }
}
