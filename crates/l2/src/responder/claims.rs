//! Other machines that say that an address is theirs: when that is a conflict, and what is done about it.
//!
//! An address moves between hosts on purpose, and for a moment two of them answer for it. So a claim is a conflict only if
//! it is not over after [`CONFLICT_GRACE`]: if the address is still to be announced here, and, where the other host is one
//! of those that announce with us, if that one still answers for it when it is asked.
//!
//! Everybody who heard such a claim believes it, also when it is over. So who keeps the address tells everybody again; and who
//! gives one up asks all for it first, which the new owner takes as a reason to tell everybody as well.
//!
//! Against others the address is defended as RFC 5227 section 2.4 (c) allows it, by one frame for each conflict. Among the
//! hosts that announce with us somebody else knows who comes first, and says so by [`crate::Input::Repeat`].

use std::net::IpAddr;

use kit::{Duration, Instant, InterfaceIndex, Mac, Outbox};

use super::{CLAIM_INTERVAL, Responder, Stage, Timer, reschedule, send};
use crate::answer;
use crate::link::Placement;
use crate::{ClaimKind, Claimant, InterfaceSet, Output, Protocol, Report};

/// How long two hosts may answer for an address when it moves. Those that have to know hear of it within that time.
pub const CONFLICT_GRACE: Duration = Duration::from_millis(800);
/// DEFEND_INTERVAL of RFC 5227 section 1.1: a conflict that was not heard of for as long is over.
pub const DEFEND_INTERVAL: Duration = Duration::from_secs(10);
/// An address is repeated at most once in this time, however often somebody says so.
pub const REPEAT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the other host may take to answer whether it still has the address.
const ANSWER_TIME: Duration = Duration::from_millis(200);
/// Addresses that are asked for at one time.
const QUESTIONS_MAX: usize = 64;
/// Stations that claim one address in one moment, beside the last, of which it is known which.
const EARLIER_MAX: usize = 3;
/// Stations that are asked about in [`DEFEND_INTERVAL`].
const UNKNOWN_MAX: usize = 64;

/// What another machine said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Claim {
    pub(super) interface: InterfaceIndex,
    pub(super) mac: Mac,
    pub(super) kind: ClaimKind,
    pub(super) audience: Audience,
}

/// To whom it was said.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Audience {
    /// To this host alone: whoever does that has heard of it.
    Us,
    Everybody,
}

/// Another machine has claimed an address within the last [`DEFEND_INTERVAL`].
#[derive(Clone, Copy, Debug)]
pub(super) struct Conflict {
    /// The newest claim.
    claim: Claim,
    /// Earlier ones of other stations, while it is not known who they are.
    earlier: [Option<Claim>; EARLIER_MAX],
    /// When it came.
    last: Instant,
    /// How many are not counted yet.
    claims: u64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// It may be over in a moment.
    Grace,
    /// One of the hosts that announce with us claims the address, and may have ceased to.
    Doubtful,
    /// It is real, and was reported then.
    Real { reported: Instant },
}

impl Conflict {
    /// Keeps a claim beside the newest one.
    fn remember(&mut self, claim: Claim) {
        let is_kept = self.earlier.iter().flatten().any(|earlier| earlier.mac == claim.mac);
        if let Some(room) = self.earlier.iter_mut().find(|it| it.is_none()).filter(|_| !is_kept) {
            *room = Some(claim);
        }
    }

    /// The newest claim, and earlier ones of other stations.
    fn all(&self) -> impl Iterator<Item = Claim> + use<> {
        std::iter::once(self.claim).chain(self.earlier.into_iter().flatten())
    }
}

impl Responder {
    pub(super) fn claim(&mut self, now: Instant, address: IpAddr, claim: Claim, out: &mut Outbox<Output>) {
        // What is said to everybody says nothing about whether its sender hears what it is asked.
        if claim.audience == Audience::Us
            && let Some(fellow) = self.fellows.at(claim.mac)
            && self.questions.remove(&address)
        {
            out.push(Output::Report(Report::Answer { address, fellow }));
        }
        let Some(announcement) = self.announced_on(claim.interface, &address) else { return };
        if announcement.stage == Stage::HandingOver {
            return self.withdraw(now, address, out);
        }
        match &mut announcement.conflict {
            Some(conflict) if now.since(conflict.last) < DEFEND_INTERVAL => {
                if conflict.state == State::Grace {
                    conflict.remember(conflict.claim);
                }
                conflict.claim = claim;
                conflict.last = now;
                conflict.claims = conflict.claims.saturating_add(1);
                match conflict.state {
                    State::Grace => {}
                    State::Doubtful => self.conflict_established(now, address, out),
                    State::Real { .. } => self.conflict_goes_on(now, address, out),
                }
            }
            conflict => {
                let earlier = [None; EARLIER_MAX];
                *conflict = Some(Conflict { claim, earlier, last: now, claims: 1, state: State::Grace });
                self.timers.set(Timer::Conflict(address), now + CONFLICT_GRACE);
            }
        }
        // Each time, for a host may have several stations, and several hosts may claim the address.
        self.ask_about(now, claim.mac, out);
    }

    /// Whoever knows more than the segment has shown so far may say whose station this is.
    fn ask_about(&mut self, now: Instant, mac: Mac, out: &mut Outbox<Output>) {
        if self.fellows.at(mac).is_some() {
            return;
        }
        self.unknown.retain(|_, asked| now.since(*asked) < DEFEND_INTERVAL);
        if self.unknown.len() < UNKNOWN_MAX && !self.unknown.contains_key(&mac) {
            self.unknown.insert(mac, now);
            out.push(Output::Report(Report::Unknown { mac }));
        }
    }

    /// The grace is over, and the address is still to be announced here.
    pub(super) fn grace_over(&mut self, now: Instant, address: IpAddr, out: &mut Outbox<Output>) {
        let Some(announcement) = self.addresses.get_mut(&address) else { return };
        let Some(conflict) = &mut announcement.conflict else { return };
        // A stranger is not forgotten because one of ours claims the address, too.
        let stranger = conflict.all().find(|claim| self.fellows.at(claim.mac).is_none());
        conflict.claim = stranger.unwrap_or(conflict.claim);
        let claim = conflict.claim;
        let is_fellow = self.fellows.at(claim.mac).is_some();
        let Some(announcement) = self.announced_on(claim.interface, &address) else {
            // It is announced elsewhere by now, where nobody has claimed it.
            return self.claim_is_over(address);
        };
        let Some(conflict) = &mut announcement.conflict else { return };
        if is_fellow {
            conflict.state = State::Doubtful;
            self.timers.set(Timer::Unanswered(address), now + ANSWER_TIME);
            return self.ask(address, (claim.interface, claim.mac), out);
        }
        self.conflict_established(now, address, out);
        // RFC 5227 section 2.4 (c): only if there was no other conflict in the last DEFEND_INTERVAL, which is what makes
        // this one new.
        let Some(link) = self.links.get_mut(&claim.interface) else { return };
        link.schedule.defend(now, address);
        reschedule(&mut self.timers, claim.interface, link);
    }

    /// The other host has ceased to claim the address, and so it is here alone.
    pub(super) fn unanswered(&mut self, now: Instant, address: IpAddr) {
        let conflict = self.addresses.get(&address).and_then(|announcement| announcement.conflict.as_ref());
        if conflict.is_some_and(|conflict| conflict.state == State::Doubtful) {
            self.repeat(now, address);
        }
    }

    /// Another machine asks everybody for the address. If it is a host that announces with us, it has given the address up.
    pub(super) fn asked_by(&mut self, now: Instant, address: IpAddr, mac: Mac) {
        if self.fellows.at(mac).is_some() {
            self.repeat(now, address);
        }
    }

    fn claim_is_over(&mut self, address: IpAddr) {
        if let Some(announcement) = self.addresses.get_mut(&address) {
            announcement.conflict = None;
        }
        self.conflict_forget(address);
    }

    pub(super) fn conflict_forget(&mut self, address: IpAddr) {
        self.timers.clear(&Timer::Conflict(address));
        self.timers.clear(&Timer::Unanswered(address));
    }

    /// Asks one station for the address.
    fn ask(&self, address: IpAddr, (interface, mac): (InterfaceIndex, Mac), out: &mut Outbox<Output>) {
        let Some(face) = self.links.get(&interface).map(|link| &link.face) else { return };
        let Placement::Live(own) = face.placement(Protocol::of(&address), &InterfaceSet::All) else { return };
        let link_local = face.interface.link_local_source();
        if let Some(frame) = answer::question(own, link_local, address, Some(mac)) {
            out.push(send(interface, &address, &frame));
        }
    }

    fn conflict_established(&mut self, now: Instant, address: IpAddr, out: &mut Outbox<Output>) {
        let Some(announcement) = self.addresses.get_mut(&address) else { return };
        let Some(conflict) = &mut announcement.conflict else { return };
        conflict.state = State::Real { reported: now };
        let claims = std::mem::take(&mut conflict.claims);
        let claim = conflict.claim;
        announcement.counters.foreign_claims = announcement.counters.foreign_claims.saturating_add(claims);
        out.push(self.conflict_report(address, claim));
    }

    fn conflict_goes_on(&mut self, now: Instant, address: IpAddr, out: &mut Outbox<Output>) {
        let Some(announcement) = self.addresses.get_mut(&address) else { return };
        let Some(conflict) = &mut announcement.conflict else { return };
        let State::Real { reported } = &mut conflict.state else { return };
        let is_news = now.since(*reported) >= CLAIM_INTERVAL;
        if is_news {
            *reported = now;
        }
        let claims = std::mem::take(&mut conflict.claims);
        let claim = conflict.claim;
        announcement.counters.foreign_claims = announcement.counters.foreign_claims.saturating_add(claims);
        if is_news {
            out.push(self.conflict_report(address, claim));
        }
    }

    fn conflict_report(&self, address: IpAddr, claim: Claim) -> Output {
        let claimant = self.fellows.at(claim.mac).map_or(Claimant::Stranger, Claimant::Fellow);
        let Claim { interface, mac, kind, audience: _ } = claim;
        Output::Report(Report::Conflict { address, interface, mac, kind, claimant })
    }

    /// Tells everybody once more where an address is: at once, or when [`REPEAT_INTERVAL`] is over. It is never left out, for
    /// between the last time and now somebody else may have been believed.
    pub(super) fn repeat(&mut self, now: Instant, address: IpAddr) {
        let Some(announcement) = self.addresses.get_mut(&address) else { return };
        let at = announcement.repeated.map_or(now, |repeated| now.max(repeated + REPEAT_INTERVAL));
        let is_waiting = announcement.repeated.is_some_and(|repeated| repeated > now);
        if is_waiting || announcement.stage == Stage::HandingOver {
            return;
        }
        let protocol = Protocol::of(&address);
        for (index, link) in &mut self.links {
            if matches!(link.face.placement(protocol, &announcement.interfaces), Placement::Live(_))
                && link.schedule.repeat(at, address)
            {
                announcement.repeated = Some(at);
                reschedule(&mut self.timers, *index, link);
            }
        }
    }

    /// Asks another host whether it has the address, wherever it may be heard.
    pub(super) fn ask_fellow(&mut self, address: IpAddr, fellow: IpAddr, out: &mut Outbox<Output>) {
        if self.questions.len() >= QUESTIONS_MAX {
            self.questions.pop_first();
        }
        self.questions.insert(address);
        for mac in self.fellows.stations(&fellow) {
            for interface in self.links.keys() {
                self.ask(address, (*interface, mac), out);
            }
        }
    }
}
