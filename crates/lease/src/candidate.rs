//! One of those who want to lead.

use std::collections::{BTreeMap, BTreeSet};

use kit::{Instant, Outbox, Rng};

use crate::record::{Record, Sighting, Target, Term, Version};
use crate::{GIVE_UP, LEASE, OPEN_MAX, RENEW_EVERY, RETRY};

/// Renewals and retries come between this and all of their time, so that candidates do not fall in step.
const JITTER_PERCENT: u64 = 80;

/// Tells one [`Input::Open`] from another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ticket(pub u64);

/// What happened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Input {
    /// A watch showed the record, perhaps as it was some time ago.
    Seen(Sighting),
    /// The answer to [`Output::Read`]: what was there after it was asked, or that nothing was.
    Read(Option<Sighting>),
    /// There is no answer to [`Output::Read`].
    ReadFailed,
    /// [`Output::Write`] was done, and the record has this version now.
    Written(Version),
    /// [`Output::Write`] was not done: the record is not what it was meant for.
    WriteRefused,
    /// It is not known whether [`Output::Write`] was done, or will be.
    WriteUnanswered,
    /// Somebody knows the version of a target and wants to write to it.
    Open {
        /// In which term.
        term: Term,
        /// Who asks; answered by [`Output::Opened`] or [`Output::Denied`], unless [`Output::Follow`] comes first.
        ticket: Ticket,
        /// Where it wants to write. One write at a time goes to a target.
        target: Target,
    },
    /// The last write to a target was answered, or the target was fenced: none is under way.
    Close {
        /// In which term it was opened, or was to be fenced.
        term: Term,
        /// Which target.
        target: Target,
    },
    /// The process ends.
    Release,
    /// Time has passed.
    Tick,
}

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Output {
    /// Read the record, as it is now.
    Read,
    /// Store this record in place of that of this version; make it if there is none. One request is under way at a time.
    Write {
        /// What it says.
        record: Record,
        /// What it replaces.
        over: Option<Version>,
    },
    /// These writes may be sent.
    Opened(Vec<Ticket>),
    /// This write must not be sent.
    Denied(Ticket),
    /// Change these targets, and say so by [`Input::Close`].
    Fence {
        /// In which term.
        term: Term,
        /// Which targets.
        targets: BTreeSet<Target>,
    },
    /// This process leads: what it reads from now on is all that its predecessors have done.
    Lead(Term),
    /// It does not any more. Who waits for [`Output::Opened`] waits in vain.
    Follow,
    /// The record was given back; nothing more will come.
    Released,
}

/// Wants to lead.
#[derive(Clone, Debug)]
pub struct Candidate {
    name: String,
    process: String,
    rng: Rng,
    knowledge: Knowledge,
    /// What is known may be out of date: it has to be read before anything is written.
    must_read: bool,
    /// When to read at the earliest.
    read_at: Instant,
    pending: Option<Pending>,
    state: State,
    terms: Term,
    is_leaving: bool,
}

/// What is known of the record.
#[derive(Clone, Debug)]
enum Knowledge {
    Nothing,
    /// It is not there. Whoever held the last one may believe to do so until then.
    Absent {
        until: Instant,
        last: Record,
    },
    Present {
        sighting: Sighting,
        /// When it was first seen so, by our clock.
        since: Instant,
        /// It is left over from an earlier process in our place, which has ended.
        is_inherited: bool,
    },
}

/// The request that has not been answered yet.
#[derive(Clone, Debug)]
enum Pending {
    Read,
    Write { purpose: Purpose, sent: Instant, record: Record, opening: BTreeMap<Ticket, Target> },
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Purpose {
    Acquire,
    Renew,
    Release,
}

#[derive(Clone, Debug)]
enum State {
    Standby,
    Leading(Leadership),
    Gone,
}

#[derive(Clone, Debug)]
struct Leadership {
    term: Term,
    /// Nothing more may be done from then on.
    until: Instant,
    renew_at: Instant,
    /// Predecessors may have writes to these under way.
    inherited: BTreeSet<Target>,
    /// We may have.
    open: BTreeSet<Target>,
    /// We want to.
    opening: BTreeMap<Ticket, Target>,
}

impl Leadership {
    /// Nothing of predecessors is left.
    fn is_ready(&self) -> bool {
        self.inherited.is_empty()
    }

    fn admits(&self, target: &Target) -> bool {
        let has_room = self.open.len().saturating_add(self.opening.len()) < OPEN_MAX;
        self.is_ready() && (has_room || self.open.contains(target))
    }
}

impl Candidate {
    /// One that knows nothing yet. `name` is the pod's; `process` is different for each process, whatever its name.
    pub fn new(name: &str, process: &str, seed: u64) -> Self {
        Candidate {
            name: name.to_owned(),
            process: process.to_owned(),
            rng: Rng::new(seed),
            knowledge: Knowledge::Nothing,
            must_read: true,
            read_at: Instant::ZERO,
            pending: None,
            state: State::Standby,
            terms: Term::default(),
            is_leaving: false,
        }
    }

    /// Takes in one thing and leaves in `out` what follows from it, at most [`crate::OUTPUTS_PER_INPUT`].
    pub fn handle(&mut self, now: Instant, input: Input, out: &mut Outbox<Output>) {
        self.give_up(now, out);
        match input {
            Input::Seen(sighting) => self.seen(now, sighting),
            Input::Read(found) => self.read(now, found, out),
            Input::ReadFailed => {
                if self.pending.take_if(|pending| matches!(pending, Pending::Read)).is_some() {
                    self.read_later(now);
                }
            }
            Input::Written(version) => self.written(now, version, out),
            Input::WriteRefused => {
                if self.take_back() {
                    (self.must_read, self.read_at) = (true, now);
                }
            }
            Input::WriteUnanswered => {
                if self.take_back() {
                    self.read_later(now);
                }
            }
            Input::Open { term, ticket, target } => self.open(term, ticket, target, out),
            Input::Close { term, target } => self.close(term, &target, out),
            Input::Release => self.is_leaving = true,
            Input::Tick => {}
        }
        self.advance(now, out);
    }

    /// When [`Input::Tick`] is due.
    pub fn next_deadline(&self) -> Option<Instant> {
        let (until, renew_at) = match &self.state {
            State::Leading(leadership) => (Some(leadership.until), Some(leadership.renew_at)),
            State::Standby => (None, self.free_at()),
            State::Gone => (None, None),
        };
        let request = match (&self.pending, self.must_read) {
            (Some(_), _) => None,
            (None, true) => Some(self.read_at),
            (None, false) => renew_at,
        };
        until.into_iter().chain(request).min()
    }

    /// The term in which this process leads, and until when it does if nothing more is heard; `None` while it does not.
    pub fn leads(&self) -> Option<(Term, Instant)> {
        match &self.state {
            State::Leading(leadership) if leadership.is_ready() && !self.is_leaving => {
                Some((leadership.term, leadership.until))
            }
            State::Leading(_) | State::Standby | State::Gone => None,
        }
    }

    /// From when on the record may be taken.
    fn free_at(&self) -> Option<Instant> {
        match &self.knowledge {
            Knowledge::Nothing => None,
            Knowledge::Absent { until, .. } => Some(*until),
            Knowledge::Present { sighting: Sighting { record, .. }, since, is_inherited } => {
                let is_free = record.holder.is_empty() || *is_inherited || record.process == self.process;
                Some(if is_free { *since } else { *since + record.validity() })
            }
        }
    }

    fn seen(&mut self, now: Instant, sighting: Sighting) {
        // Who leads learns by its own writes: what a watch shows may be from before. So it is with who is about to.
        let is_writing = matches!(self.pending, Some(Pending::Write { .. }));
        if matches!(self.state, State::Standby) && !is_writing {
            self.learn(now, sighting);
        }
    }

    fn read(&mut self, now: Instant, found: Option<Sighting>, out: &mut Outbox<Output>) {
        if self.pending.take_if(|pending| matches!(pending, Pending::Read)).is_none() {
            return;
        }
        self.must_read = false;
        let is_ours = found.as_ref().is_some_and(|found| found.record.process == self.process);
        match &mut self.state {
            // A write of ours arrived although its answer did not, or somebody changed what is not ours.
            State::Leading(leadership) if is_ours => leadership.renew_at = now,
            State::Leading(_) => self.follow(out),
            State::Standby | State::Gone => {}
        }
        match found {
            Some(sighting) => self.learn(now, sighting),
            None => self.learn_absence(now),
        }
    }

    fn learn(&mut self, now: Instant, new: Sighting) {
        match &mut self.knowledge {
            // Somebody changed something else of the object.
            Knowledge::Present { sighting, .. } if sighting.record == new.record => sighting.version = new.version,
            knowledge => {
                let is_first = matches!(knowledge, Knowledge::Nothing);
                let is_inherited = is_first && new.record.holder == self.name;
                *knowledge = Knowledge::Present { sighting: new, since: now, is_inherited };
            }
        }
    }

    fn learn_absence(&mut self, now: Instant) {
        let until = self.free_at().unwrap_or(now);
        match std::mem::replace(&mut self.knowledge, Knowledge::Nothing) {
            Knowledge::Nothing => self.knowledge = Knowledge::Absent { until, last: Record::default() },
            Knowledge::Present { sighting, .. } => {
                self.knowledge = Knowledge::Absent { until, last: sighting.record };
            }
            absent @ Knowledge::Absent { .. } => self.knowledge = absent,
        }
    }

    fn written(&mut self, now: Instant, version: Version, out: &mut Outbox<Output>) {
        let Some(Pending::Write { purpose, sent, record, opening }) =
            self.pending.take_if(|pending| matches!(pending, Pending::Write { .. }))
        else {
            return;
        };
        let inherited = record.open.clone();
        let sighting = Sighting { version, record };
        self.knowledge = Knowledge::Present { sighting, since: now, is_inherited: false };
        let renew_at = sent + self.rng.jitter(RENEW_EVERY, JITTER_PERCENT, 100);
        match (purpose, &mut self.state) {
            (Purpose::Acquire, State::Standby) if !self.is_leaving && now < sent + GIVE_UP => {
                self.terms = Term(self.terms.0.saturating_add(1));
                self.state = State::Leading(Leadership {
                    term: self.terms,
                    until: sent + GIVE_UP,
                    renew_at,
                    inherited: inherited.clone(),
                    open: BTreeSet::new(),
                    opening: BTreeMap::new(),
                });
                out.push(if inherited.is_empty() {
                    Output::Lead(self.terms)
                } else {
                    Output::Fence { term: self.terms, targets: inherited }
                });
            }
            (Purpose::Renew, State::Leading(leadership)) => {
                (leadership.until, leadership.renew_at) = (sent + GIVE_UP, renew_at);
                let tickets: Vec<Ticket> = opening.keys().copied().collect();
                leadership.open.extend(opening.into_values());
                if !tickets.is_empty() {
                    out.push(Output::Opened(tickets));
                }
            }
            (Purpose::Release, _) => {
                self.state = State::Gone;
                out.push(Output::Released);
            }
            // The answer came too late to lead on, or the process is about to end: what is known now says what to do.
            (Purpose::Acquire | Purpose::Renew, _) => {}
        }
    }

    /// A write was not done, or not that we know: what it was to open is still to be opened.
    fn take_back(&mut self) -> bool {
        let Some(Pending::Write { mut opening, .. }) =
            self.pending.take_if(|pending| matches!(pending, Pending::Write { .. }))
        else {
            return false;
        };
        if let State::Leading(leadership) = &mut self.state {
            leadership.opening.append(&mut opening);
        }
        true
    }

    fn read_later(&mut self, now: Instant) {
        (self.must_read, self.read_at) = (true, now + self.rng.jitter(RETRY, JITTER_PERCENT, 100));
    }

    fn open(&mut self, term: Term, ticket: Ticket, target: Target, out: &mut Outbox<Output>) {
        match &mut self.state {
            State::Leading(leadership) if leadership.term == term && !self.is_leaving && leadership.admits(&target) => {
                leadership.opening.insert(ticket, target);
            }
            State::Leading(_) | State::Standby | State::Gone => out.push(Output::Denied(ticket)),
        }
    }

    fn close(&mut self, term: Term, target: &Target, out: &mut Outbox<Output>) {
        if let State::Leading(leadership) = &mut self.state
            && leadership.term == term
        {
            leadership.open.remove(target);
            if leadership.inherited.remove(target) && leadership.is_ready() {
                out.push(Output::Lead(leadership.term));
            }
        }
    }

    fn give_up(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if matches!(&self.state, State::Leading(leadership) if now >= leadership.until) {
            self.follow(out);
        }
    }

    fn follow(&mut self, out: &mut Outbox<Output>) {
        self.state = State::Standby;
        out.push(Output::Follow);
    }

    /// Asks for what is to be done next, if nothing is under way.
    fn advance(&mut self, now: Instant, out: &mut Outbox<Output>) {
        if self.pending.is_some() || matches!(self.state, State::Gone) {
            return;
        }
        if self.must_read {
            if now >= self.read_at {
                self.pending = Some(Pending::Read);
                out.push(Output::Read);
            }
            return;
        }
        let is_free = self.free_at().is_some_and(|at| at <= now);
        match &self.state {
            State::Leading(_) if self.is_leaving => self.write(now, Purpose::Release, out),
            State::Leading(leadership) if leadership.renew_at <= now || !leadership.opening.is_empty() => {
                self.write(now, Purpose::Renew, out);
            }
            // It was taken by a write of ours that had been given up.
            State::Standby if self.is_leaving && self.is_ours() => self.write(now, Purpose::Release, out),
            State::Standby if self.is_leaving => {
                self.state = State::Gone;
                out.push(Output::Released);
            }
            State::Standby if is_free => self.write(now, Purpose::Acquire, out),
            State::Leading(_) | State::Standby | State::Gone => {}
        }
    }

    fn is_ours(&self) -> bool {
        matches!(&self.knowledge, Knowledge::Present { sighting, .. } if sighting.record.process == self.process)
    }

    fn write(&mut self, now: Instant, purpose: Purpose, out: &mut Outbox<Output>) {
        let (known, over) = match &self.knowledge {
            // It has to be read first.
            Knowledge::Nothing => return,
            Knowledge::Absent { last, .. } => (last, None),
            Knowledge::Present { sighting, .. } => (&sighting.record, Some(sighting.version.clone())),
        };
        let mut opening = BTreeMap::new();
        let open = match &mut self.state {
            State::Leading(leadership) => {
                opening = std::mem::take(&mut leadership.opening);
                let (inherited, ours) = (leadership.inherited.iter(), leadership.open.iter());
                inherited.chain(ours).chain(opening.values()).cloned().collect()
            }
            State::Standby | State::Gone => known.open.clone(),
        };
        let changes_hands = purpose == Purpose::Acquire && over.is_some() && known.process != self.process;
        let transitions = known.transitions.saturating_add(u32::from(changes_hands));
        let record = match purpose {
            Purpose::Acquire | Purpose::Renew => Record {
                holder: self.name.clone(),
                process: self.process.clone(),
                duration: LEASE,
                transitions,
                renewed: String::new(),
                open,
            },
            Purpose::Release => Record { transitions, open, duration: LEASE, ..Record::default() },
        };
        out.push(Output::Write { record: record.clone(), over });
        self.pending = Some(Pending::Write { purpose, sent: now, record, opening });
    }
}

#[cfg(test)]
mod tests;
