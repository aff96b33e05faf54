//! Leaving in order: every member is told, and pinged with it, so that its answer says that it knows.

use std::collections::BTreeSet;

use kit::{Duration, Instant};

use super::probe::Awaited;
use super::{Membership, Moment, Timer};
use crate::Name;
use crate::event::Output;
use crate::member::{Condition, Member};
use crate::wire::{Checksum, Dead, Message};

/// How many members are told directly; in a larger cluster the others hear of it from them.
const TOLD_MAX: usize = 256;
/// The time between attempts.
const AGAIN: Duration = Duration::from_millis(50);
/// How long leaving takes at most, as in MetalLB.
const TIME_MAX: Duration = Duration::from_secs(1);

/// Whether this node belongs to the cluster.
#[derive(Clone, Debug)]
pub(super) enum Presence {
    Member,
    Leaving {
        /// Who has not answered.
        waiting: BTreeSet<Name>,
        end: Instant,
    },
    Left,
}

impl Presence {
    pub(super) fn is_member(&self) -> bool {
        matches!(self, Presence::Member)
    }
}

impl Membership {
    pub(super) fn leave(&mut self, moment: &mut Moment<'_>) {
        match self.presence {
            Presence::Member => {}
            Presence::Leaving { .. } => return,
            Presence::Left => return moment.out.push(Output::Left),
        }
        let name = self.config.name.clone();
        if let Some(ourselves) = self.members.get_mut(&name) {
            ourselves.condition = Condition::Left;
            ourselves.since = moment.now;
        }
        let farewell = self.farewell();
        self.queue.push(name, farewell.encode());
        let is_told = |member: &Member| member.state().is_member();
        let waiting = self.members.random(TOLD_MAX, &mut self.rng, is_told).into_iter().collect();
        self.presence = Presence::Leaving { waiting, end: moment.now + TIME_MAX };
        // Who leaves finds nobody at fault any more.
        for timer in [
            Timer::Probe,
            Timer::ProbeTimeout,
            Timer::ProbeEnd,
            Timer::PushPull,
            Timer::Join,
            Timer::Greet,
            Timer::Sweep,
            Timer::Urgent,
        ] {
            self.timers.clear(&timer);
        }
        self.probe = None;
        for name in self.watches.keys().cloned().collect::<Vec<_>>() {
            self.watch_end(moment, &name);
        }
        self.wanted.clear();
        self.circle.clear();
        self.urgent.clear();
        self.leave_again(moment);
    }

    fn farewell(&self) -> Message {
        let name = self.config.name.clone();
        Message::Dead(Dead { incarnation: self.incarnation, node: name.clone(), from: name })
    }

    /// Tells those who have not answered.
    pub(super) fn leave_again(&mut self, moment: &mut Moment<'_>) {
        let Presence::Leaving { waiting, end } = &self.presence else { return };
        let names: Vec<Name> = waiting.iter().filter(|name| self.is_member(name)).cloned().collect();
        if names.is_empty() || moment.now >= *end {
            self.presence = Presence::Left;
            self.timers.clear(&Timer::Leave);
            return moment.out.push(Output::Left);
        }
        self.timers.set(Timer::Leave, moment.now + AGAIN);
        let farewell = self.farewell().encode();
        for name in names {
            let Some(to) = self.address_of(&name) else { continue };
            let ping = self.ping_awaited(&name, Awaited::Farewell);
            self.send_parts(moment, to, vec![farewell.clone(), ping.encode()], Checksum::Absent);
        }
    }

    /// A member answered the ping that came with our farewell.
    pub(super) fn farewell_heard(&mut self, moment: &mut Moment<'_>, name: &Name) {
        if let Presence::Leaving { waiting, .. } = &mut self.presence
            && waiting.remove(name)
            && waiting.is_empty()
        {
            self.leave_again(moment);
        }
    }
}
