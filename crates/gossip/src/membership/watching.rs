//! Looking closely at the members whose addresses this node would inherit: a [`Watch`] over each, and what it wants
//! done.

use std::collections::BTreeSet;
use std::net::{IpAddr, SocketAddr};

use kit::Instant;

use super::probe::Awaited;
use super::{Membership, Moment, Timer};
use crate::broadcast::For;
use crate::event::{Cause, Output};
use crate::member::{Condition, Member};
use crate::watch::{Action, Company, Pace, Watch, WatchState};
use crate::wire::{Checksum, Dead, IndirectPing, Message, Suspect};
use crate::{Name, Silence};

/// The most members that are watched because the speaker wants it, at ten pings a second each. In a large cluster every
/// member has still so many watchers, on average, and what one of them finds, all hear at once.
pub(super) const WATCHED_MAX: usize = 16;
/// How many others are asked when a watched member is silent.
const WITNESSES: usize = 3;

/// A member that is watched.
#[derive(Clone, Debug)]
pub(super) struct Watched {
    pub(super) watch: Watch,
    address: SocketAddr,
    /// How it was silent when it was declared dead here.
    declared: Option<Silence>,
}

impl Watched {
    pub(super) fn new(watch: Watch, address: SocketAddr) -> Self {
        Watched { watch, address, declared: None }
    }

    /// What only we take for dead is no news for others: it may be us.
    pub(super) fn is_alone(&self) -> bool {
        self.declared == Some(Silence::Alone)
    }
}

impl Membership {
    pub(super) fn watch_set(&mut self, moment: &mut Moment<'_>, members: BTreeSet<Name>) {
        self.wanted = self.nearest(members);
        let over: Vec<Name> = self.watches.keys().filter(|name| !self.is_watched_still(name)).cloned().collect();
        for name in over {
            self.watch_release(moment, &name);
        }
        for name in self.wanted.clone() {
            self.watch_begin(moment, &name);
        }
    }

    /// The members that this node watches if it cannot watch all. Each node chooses others.
    fn nearest(&self, members: BTreeSet<Name>) -> BTreeSet<Name> {
        let members = members.into_iter().filter(|name| !self.is_ourselves(name));
        let mut ranked: Vec<(u64, Name)> = members.map(|name| (distance(&self.config.name, &name), name)).collect();
        ranked.sort();
        ranked.into_iter().take(WATCHED_MAX).map(|(_, name)| name).collect()
    }

    /// A watch goes on over one who was declared dead, until it is back: its addresses are not its own meanwhile, so
    /// nobody wants it watched.
    pub(super) fn is_watched_still(&self, name: &Name) -> bool {
        let is_dead = || matches!(self.members.get(name).map(|it| &it.condition), Some(Condition::Dead));
        self.is_wanted(name) || is_dead()
    }

    /// By the speaker, or as one of the circle.
    fn is_wanted(&self, name: &Name) -> bool {
        self.wanted.contains(name) || self.circle.is_guarded(name)
    }

    /// Begins a watch if it is wanted.
    pub(super) fn watch_begin(&mut self, moment: &mut Moment<'_>, name: &Name) {
        if !self.is_wanted(name) {
            return;
        }
        if let Some(watched) = self.watches.get_mut(name) {
            return watched.watch.set_pace(Pace::Close);
        }
        let Some(member) = self.members.get(name).filter(|member| member.state().is_member()) else { return };
        let watched = Watched::new(Watch::new(moment.now, member.proof), member.address());
        self.watches.insert(name.clone(), watched);
        self.watch_timer_set(name);
    }

    /// Nobody wants it watched any more. One that is silent is not let out of sight.
    pub(super) fn watch_release(&mut self, moment: &mut Moment<'_>, name: &Name) {
        match self.watches.get_mut(name) {
            Some(watched) if watched.watch.is_doubtful() => watched.watch.set_pace(Pace::Wide),
            _ => self.watch_end(moment, name),
        }
    }

    pub(super) fn watch_end(&mut self, moment: &mut Moment<'_>, name: &Name) {
        if let Some(watched) = self.watches.remove(name) {
            self.timers.clear(&Timer::Watch(name.clone()));
            if watched.watch.is_begun() {
                moment.out.push(Output::Release { address: watched.address });
            }
        }
    }

    /// A member lives by its own word, perhaps somewhere else. The word may have been under way for long, so it says nothing
    /// about a silence, and takes nothing from what is known of one that answers.
    pub(super) fn watch_restart(&mut self, moment: &mut Moment<'_>, name: &Name) {
        let (address, is_wanted) = (self.address_of(name), self.is_wanted(name));
        match self.watches.get_mut(name) {
            Some(watched) if Some(watched.address) == address && (is_wanted || watched.watch.is_doubtful()) => {
                if watched.watch.state() == WatchState::Declared {
                    watched.watch.restart(moment.now);
                }
                watched.declared = None;
                self.watch_timer_set(name);
            }
            _ => {
                self.watch_end(moment, name);
                self.watch_begin(moment, name);
            }
        }
    }

    /// A member is dead, or has left.
    pub(super) fn watch_dead(&mut self, moment: &mut Moment<'_>, name: &Name) {
        if let Some(Condition::Left) = self.members.get(name).map(|member| &member.condition) {
            return self.watch_end(moment, name);
        }
        let Some(watched) = self.watches.get_mut(name) else { return };
        let is_seen = watched.watch.pace() == Pace::Close && watched.watch.is_silent_in_all_ways();
        watched.watch.declared(moment.now);
        self.watch_timer_set(name);
        if is_seen {
            // Others were quicker to see what we see too.
            self.sweep_begin(moment);
        }
    }

    pub(super) fn watch_timer_set(&mut self, name: &Name) {
        if let Some(watched) = self.watches.get(name) {
            self.timers.set(Timer::Watch(name.clone()), watched.watch.deadline());
        }
    }

    /// True if a watched member answered a moment ago.
    pub(super) fn watch_answers(&self, name: &Name) -> bool {
        self.watches.get(name).is_some_and(|watched| watched.watch.is_answering())
    }

    pub(super) fn watch_step(&mut self, moment: &mut Moment<'_>, name: &Name) {
        // Which costs a look at all members.
        let is_judged = self.watches.get(name).is_some_and(|it| it.watch.is_doubtful());
        let company = if is_judged { self.company(name) } else { Company::Others };
        let Some(watched) = self.watches.get_mut(name) else { return };
        let address = watched.address;
        for action in watched.watch.step(moment.now, &self.config.patience, company) {
            match action {
                Action::Ping => self.watch_ping(moment, name, address),
                Action::PingAccused => self.watch_ping_accused(moment, name, address),
                Action::KernelProbe => moment.out.push(Output::KernelProbe { address }),
                Action::AskOthers => self.watch_ask(moment, name, address),
                Action::Sweep => self.sweep_begin(moment),
                Action::Declare(silence) => self.watch_declare(moment, name, silence),
            }
        }
        self.watch_timer_set(name);
    }

    /// Whether anybody else could answer us. Those that fell silent all together with everybody may well live.
    fn company(&self, name: &Name) -> Company {
        let may_live = |other: &Name, member: &Member| match member.condition {
            Condition::Alive | Condition::Suspect(_) => true,
            Condition::Dead => self.is_declared_alone(other),
            Condition::Left => false,
        };
        let is_other = |other: &Name| other != name && !self.is_ourselves(other);
        let mut others = self.members.iter().filter(|(other, _)| is_other(other));
        if others.any(|(other, member)| may_live(other, member)) { Company::Others } else { Company::Nobody }
    }

    /// A member that is dead only here, because nobody at all answered.
    pub(super) fn is_declared_alone(&self, name: &Name) -> bool {
        self.watches.get(name).is_some_and(Watched::is_alone)
    }

    fn watch_ping(&mut self, moment: &mut Moment<'_>, name: &Name, to: SocketAddr) {
        if matches!(self.members.get(name).map(|member| &member.condition), Some(Condition::Suspect(_))) {
            return self.watch_ping_accused(moment, name, to);
        }
        let is_silent = self.watches.get(name).is_some_and(|watched| watched.watch.is_doubtful());
        let sequence = self.watch_sequence(moment.now, name);
        let ping = Message::Ping(self.ping(sequence, name));
        // What would be lost with the ping would count as told.
        let parts = if is_silent { vec![ping.encode()] } else { self.with_company(&ping, For::Company(to)) };
        self.ping_parts(moment, name, to, parts);
    }

    /// A ping for a member that counts as suspect or dead, which says so.
    fn watch_ping_accused(&mut self, moment: &mut Moment<'_>, name: &Name, to: SocketAddr) {
        let Some(member) = self.members.get(name) else { return };
        let (incarnation, node, from) = (member.node.incarnation, name.clone(), self.config.name.clone());
        let suspect = Message::Suspect(Suspect { incarnation, node, from });
        let sequence = self.watch_sequence(moment.now, name);
        let ping = Message::Ping(self.ping(sequence, name));
        let parts =
            if self.is_declared_alone(name) { vec![ping.encode()] } else { vec![ping.encode(), suspect.encode()] };
        self.ping_parts(moment, name, to, parts);
    }

    fn watch_sequence(&mut self, now: Instant, name: &Name) -> u32 {
        let sequence = self.sequence_next();
        self.expected.insert(sequence, Awaited::Watch(name.clone()));
        if let Some(watched) = self.watches.get_mut(name) {
            watched.watch.sent(now, sequence);
        }
        sequence
    }

    fn ping_parts(&mut self, moment: &mut Moment<'_>, name: &Name, to: SocketAddr, parts: Vec<Vec<u8>>) {
        let bytes = self.dress().packet(parts, Checksum::Absent);
        self.counters.packet_sent(bytes.len());
        // Of the few that are watched all the time, each has a socket, which says that its port is closed.
        let is_close = self.watches.get(name).is_some_and(|watched| watched.watch.pace() == Pace::Close);
        moment.out.push(if is_close { Output::Ping { to, bytes } } else { Output::Send { to, bytes } });
    }

    /// Pings some others, and has them ping the silent one: the way to it may be broken, or the way to us.
    fn watch_ask(&mut self, moment: &mut Moment<'_>, name: &Name, target: SocketAddr) {
        let vouch = self.sequence_next();
        self.expected.insert(vouch, Awaited::Vouch { name: name.clone(), asked: moment.now });
        for helper in self.helpers(name, WITNESSES) {
            let Some(to) = self.address_of(&helper) else { continue };
            let ping = self.ping_awaited(&helper, Awaited::Witness);
            let ask = Message::IndirectPing(IndirectPing {
                sequence: vouch,
                target,
                node: Some(name.clone()),
                nack: false,
                source: Some(self.source()),
            });
            self.send_parts(moment, to, vec![ping.encode(), ask.encode()], Checksum::Absent);
        }
    }

    fn watch_declare(&mut self, moment: &mut Moment<'_>, name: &Name, silence: Silence) {
        let Some(member) = self.members.get(name).filter(|member| member.state().is_member()) else { return };
        self.counters.watch_declared = self.counters.watch_declared.saturating_add(1);
        let dead = Dead { incarnation: member.node.incarnation, node: name.clone(), from: self.config.name.clone() };
        if let Some(watched) = self.watches.get_mut(name) {
            watched.declared = Some(silence);
        }
        let news = Message::Dead(dead.clone());
        self.died(moment, dead, Cause::Watch(silence));
        // The speaker first, then all others. The dead itself is pinged with the accusation in any case.
        self.changes_tell(moment);
        if silence != Silence::Alone {
            self.tell_everybody(moment, name, &news);
        }
    }

    pub(super) fn watch_answered(&mut self, moment: &mut Moment<'_>, name: &Name, sequence: u32) {
        if self.is_declared_alone(name) {
            return self.watch_company_back(moment, name);
        }
        if let Some(watched) = self.watches.get_mut(name) {
            watched.watch.answered(moment.now, sequence);
            self.watch_timer_set(name);
            self.sweep_heard(moment, name);
        }
    }

    /// One is heard again that was dead only here. Nobody was told, so it does not have to deny it.
    fn watch_company_back(&mut self, moment: &mut Moment<'_>, name: &Name) {
        let Some(member) = self.members.get_mut(name) else { return };
        if matches!(member.condition, Condition::Dead) {
            member.condition = Condition::Alive;
            member.since = moment.now;
            self.circle_enter(moment, name);
            self.changed(name, Cause::Itself);
            self.watch_restart(moment, name);
        }
    }

    pub(super) fn watch_vouched(&mut self, moment: &mut Moment<'_>, name: &Name, asked: Instant) {
        if let Some(watched) = self.watches.get_mut(name) {
            watched.watch.vouched(moment.now, asked);
            self.watch_timer_set(name);
            self.sweep_heard(moment, name);
        }
    }

    /// A member answered us: for all silent ones but itself, that says that we are not cut off.
    pub(super) fn witnessed(&mut self, by: &Name) {
        for (name, watched) in &mut self.watches {
            if name != by {
                watched.watch.witnessed();
            }
        }
    }

    pub(super) fn refused(&mut self, moment: &mut Moment<'_>, address: SocketAddr) {
        self.watches_at(moment.now, |watched| watched.address == address, Watch::refused);
    }

    pub(super) fn kernel_answered(&mut self, moment: &mut Moment<'_>, address: IpAddr) {
        self.watches_at(moment.now, |watched| watched.address.ip() == address, Watch::kernel_answered);
    }

    fn watches_at(&mut self, now: Instant, is_meant: impl Fn(&Watched) -> bool, tell: fn(&mut Watch, Instant)) {
        let meant: Vec<Name> =
            self.watches.iter().filter(|(_, watched)| is_meant(watched)).map(|(name, _)| name.clone()).collect();
        for name in meant {
            if let Some(watched) = self.watches.get_mut(&name) {
                tell(&mut watched.watch, now);
            }
            self.watch_timer_set(&name);
        }
    }
}

/// How far two members are from each other, for the choice of watchers.
fn distance(from: &Name, to: &Name) -> u64 {
    digest(from.as_str().bytes().chain([0]).chain(to.as_str().bytes()))
}

/// FNV-1a, which spreads names well enough.
pub(super) fn digest(bytes: impl Iterator<Item = u8>) -> u64 {
    bytes.fold(0xcbf2_9ce4_8422_2325, |hash: u64, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0000_0100_0000_01b3))
}
