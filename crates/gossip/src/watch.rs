//! The watch over one member whose addresses this node would inherit: pings at short intervals, and a judgement of
//! silence.
//!
//! Silence has three reasons, which cost a client very different things. The node is dead: nothing reaches its
//! addresses, and every tenth of a second counts. The program is gone, or stopped: the node's kernel still forwards
//! what comes, for as long as clients know its MAC address, and moving would break every open connection; so there is
//! time to see whether the program comes back. The network loses packets, or this node itself is slow: nothing has
//! happened at all.
//!
//! They are told apart by asking the kernel of the node beside its program (`docs/adr/0007-watching-owners.md`):
//!
//! | program | kernel | so | it is dead after |
//! |---|---|---|---|
//! | answers | | it lives | |
//! | silent | answers | it is stopped, or starved of processor time | [`Patience::stopped`] |
//! | silent | says that the port is closed | it ended | [`Patience::closed`] |
//! | silent | silent | the node is dead | [`Patience::silent`], half as much again after an answer of its kernel |
//! | silent | never answered us | nobody knows | [`Patience::unknown`] |
//! | silent | silent, and so is everybody else | we may be cut off ourselves | [`Patience::alone`] |
//!
//! A node that is silent in all ways may be one of many: the network has fallen apart. So others are looked at then, for
//! once, in [`Pace::Wide`] steps.
//!
//! It knows no wire and no other member: it says what to send, and is told what came back.

use std::collections::VecDeque;
use std::fmt;

use kit::{Duration, Instant};

/// The time between pings while they are answered.
pub const INTERVAL: Duration = Duration::from_millis(100);
/// The time between pings while there is no answer.
const INTERVAL_IN_DOUBT: Duration = Duration::from_millis(25);
/// The same once it is known that the node lives, and only its program is silent.
const INTERVAL_PATIENT: Duration = Duration::from_millis(50);
/// A dead member is pinged at the short interval for so long, for it to come back as quickly as it went.
const RETURN_EAGER: Duration = Duration::from_secs(30);
/// And then at this one.
const INTERVAL_RETURN: Duration = Duration::from_secs(1);
/// The least and the most time that an answer may take before there is doubt; between them the measured time counts.
const LATE_MIN: Duration = Duration::from_millis(25);
const LATE_MAX: Duration = Duration::from_millis(500);
/// An answer that took long is believed to be the usual case only in steps: it may have been a pause.
const LATE_GROWTH: u64 = 2;
/// The time between looks whether the kernel of the node answers at all, after one that it answered and one that it did
/// not.
const KERNEL_INTERVAL: Duration = Duration::from_secs(10);
const KERNEL_INTERVAL_UNANSWERED: Duration = Duration::from_secs(1);
/// A kernel that left so many looks unanswered, while its program answered, is asked in vain: a firewall, perhaps.
const KERNEL_LOOKS_MAX: u32 = 5;
/// The time between questions to other members.
const WITNESS_INTERVAL: Duration = Duration::from_millis(100);
/// No silence is believed before so many pings were sent into it.
const PINGS_MIN: u32 = 8;
/// Pings whose answers are waited for; older ones count as lost.
const OUTSTANDING_MAX: usize = 64;

/// How long each kind of silence is borne before the member counts as dead.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Neither program nor kernel answers.
    pub silent: Duration,
    /// The kernel says that nothing listens on the port.
    pub closed: Duration,
    /// The kernel answers, the program does not.
    pub stopped: Duration,
    /// The program does not answer, and the kernel cannot be asked.
    pub unknown: Duration,
    /// Nobody answers, neither the member nor any other.
    pub alone: Duration,
}

impl Patience {
    /// Chosen in `docs/adr/0007-watching-owners.md`.
    pub const DEFAULT: Patience = Patience {
        silent: Duration::from_millis(325),
        closed: Duration::from_secs(1),
        stopped: Duration::from_millis(1300),
        unknown: Duration::from_secs(1),
        alone: Duration::from_secs(1),
    };
}

/// Which silence it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Silence {
    /// Neither program nor kernel answered: the node is dead, or cut off.
    Node,
    /// The kernel said that the port is closed: the program ended.
    Closed,
    /// The kernel answered, the program did not: it is stopped or starved.
    Stopped,
    /// The program did not answer; the kernel cannot be asked.
    Unknown,
    /// Nobody answered, so this node may be the one that is cut off. Others are not told.
    Alone,
}

impl fmt::Display for Silence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Silence::Node => "neither the speaker nor the kernel of the node answers",
            Silence::Closed => "the speaker of the node has ended",
            Silence::Stopped => "the node answers, its speaker does not",
            Silence::Unknown => "the speaker of the node does not answer",
            Silence::Alone => "no member answers: this node itself may be cut off",
        })
    }
}

/// What a watch wants done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Ping it, and tell [`Watch::sent`].
    Ping,
    /// Ping it and tell it that it counts as dead, for it to object if it lives.
    PingAccused,
    /// Ask its kernel.
    KernelProbe,
    /// Ask others to ping it, and ping them.
    AskOthers,
    /// It may not be the only one: look at others.
    Sweep,
    /// It is dead.
    Declare(Silence),
}

/// Whether every tenth of a second counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pace {
    /// It does: few are watched so.
    Close,
    /// Many are looked at.
    Wide,
}

/// Whether a member that is to be watched has answered a ping of ours before.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Proof {
    /// It has, so its silence means something.
    Answered,
    /// It has not: perhaps it never will.
    Missing,
}

/// Whether there is any other member that could answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Company {
    Others,
    Nobody,
}

/// How far the watch over a member is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum WatchState {
    /// It has not answered yet; nothing is made of its silence.
    Unproven,
    /// It answers.
    Answering,
    /// An answer is late.
    Doubtful,
    /// It was declared dead here, and is pinged until it is back.
    Declared,
}

/// The watch over one member.
#[derive(Clone, Debug)]
pub(crate) struct Watch {
    phase: Phase,
    pace: Pace,
    /// Whether anything was sent.
    is_begun: bool,
    /// Pings without an answer, the oldest first.
    outstanding: VecDeque<Outstanding>,
    round_trip: RoundTrip,
    kernel: Kernel,
    /// When the next ping is due.
    ping_due: Instant,
    /// Whether the next step may judge.
    judgement: Judgement,
}

/// After a pause of this program one step only asks: answers may not all have been read. Pauses without end must not
/// keep it from judging at all, so it is one step of two at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Judgement {
    Free,
    /// The next step does not judge.
    Withheld,
    /// The last step did not judge.
    WasWithheld,
}

#[derive(Clone, Copy, Debug)]
struct Outstanding {
    sequence: u32,
    sent: Instant,
}

#[derive(Clone, Debug)]
enum Phase {
    Unproven,
    Answering,
    Doubtful(Doubt),
    Declared { since: Instant },
}

/// What is known in a silence.
#[derive(Clone, Debug)]
struct Doubt {
    /// When the first ping was sent that has no answer.
    since: Instant,
    pings: u32,
    refused: bool,
    kernel_heard: Option<Instant>,
    /// Whether another member answered since.
    witnessed: bool,
    ask_due: Instant,
    /// Whether it was said that it may be one of many.
    sweep: Sweep,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sweep {
    Unasked,
    Asked,
}

/// What is known about the kernel of the node.
#[derive(Clone, Debug)]
struct Kernel {
    answers: bool,
    /// Looks that were not answered.
    looks: u32,
    look_due: Instant,
}

impl Watch {
    /// A watch that begins now.
    pub(crate) fn new(now: Instant, proof: Proof) -> Self {
        let phase = match proof {
            Proof::Answered => Phase::Answering,
            Proof::Missing => Phase::Unproven,
        };
        Watch {
            phase,
            pace: Pace::Close,
            is_begun: false,
            outstanding: VecDeque::new(),
            round_trip: RoundTrip::default(),
            kernel: Kernel { answers: false, looks: 0, look_due: now },
            ping_due: now,
            judgement: Judgement::Free,
        }
    }

    /// A look at a member that has answered us before, and may have fallen silent with others.
    pub(crate) fn sweeping(now: Instant) -> Self {
        let doubt = Doubt { sweep: Sweep::Asked, ..Doubt::new(now, 0) };
        Watch { phase: Phase::Doubtful(doubt), pace: Pace::Wide, ..Watch::new(now, Proof::Answered) }
    }

    pub(crate) fn pace(&self) -> Pace {
        self.pace
    }

    pub(crate) fn set_pace(&mut self, pace: Pace) {
        self.pace = pace;
    }

    pub(crate) fn state(&self) -> WatchState {
        match self.phase {
            Phase::Unproven => WatchState::Unproven,
            Phase::Answering => WatchState::Answering,
            Phase::Doubtful(_) => WatchState::Doubtful,
            Phase::Declared { .. } => WatchState::Declared,
        }
    }

    pub(crate) fn is_doubtful(&self) -> bool {
        matches!(self.phase, Phase::Doubtful(_))
    }

    /// True in a silence in which its kernel has not spoken either, and which has not made anybody look at others yet.
    pub(crate) fn is_silent_in_all_ways(&self) -> bool {
        matches!(&self.phase, Phase::Doubtful(doubt) if doubt.kernel_heard.is_none() && doubt.sweep == Sweep::Unasked)
    }

    pub(crate) fn is_begun(&self) -> bool {
        self.is_begun
    }

    /// The usual time until an answer, once there was one.
    pub(crate) fn round_trip(&self) -> Option<Duration> {
        self.round_trip.smoothed
    }

    /// When [`Watch::step`] is due.
    pub(crate) fn deadline(&self) -> Instant {
        match (&self.phase, self.outstanding.front()) {
            (Phase::Answering, Some(oldest)) => self.ping_due.min(oldest.sent + self.late()),
            _ => self.ping_due,
        }
    }

    /// Does what is due.
    pub(crate) fn step(&mut self, now: Instant, patience: &Patience, company: Company) -> Vec<Action> {
        let late = self.late();
        if matches!(self.phase, Phase::Answering)
            && let Some(oldest) = self.outstanding.front()
            && now >= oldest.sent + late
        {
            self.phase = Phase::Doubtful(Doubt::new(oldest.sent, self.outstanding.len()));
            self.ping_due = now;
        }
        if now < self.ping_due {
            return Vec::new();
        }
        match &self.phase {
            Phase::Unproven | Phase::Answering => self.routine(now),
            Phase::Doubtful(_) => self.doubtful(now, patience, company),
            Phase::Declared { since } => {
                let eager = self.pace == Pace::Close && now - *since < RETURN_EAGER;
                self.ping_next(now, if eager { INTERVAL } else { INTERVAL_RETURN });
                vec![Action::PingAccused]
            }
        }
    }

    /// The next ping is due an interval after this one was; a late one does not delay all that follow.
    fn ping_next(&mut self, now: Instant, interval: Duration) {
        self.ping_due = (self.ping_due + interval).max(now + interval.divided_by(2));
    }

    fn routine(&mut self, now: Instant) -> Vec<Action> {
        self.ping_next(now, INTERVAL);
        let mut actions = vec![Action::Ping];
        if now >= self.kernel.look_due {
            // Until the answer comes.
            self.kernel.look_due = now + KERNEL_INTERVAL_UNANSWERED;
            self.kernel.looks = self.kernel.looks.saturating_add(1);
            if self.kernel.looks > KERNEL_LOOKS_MAX {
                self.kernel.answers = false;
            }
            actions.push(Action::KernelProbe);
        }
        actions
    }

    fn doubtful(&mut self, now: Instant, patience: &Patience, company: Company) -> Vec<Action> {
        let is_withheld = self.judgement == Judgement::Withheld;
        self.judgement = if is_withheld { Judgement::WasWithheld } else { Judgement::Free };
        let mut actions = Vec::new();
        if !is_withheld && self.sweep_is_due(now, patience) {
            actions.push(Action::Sweep);
        }
        if !is_withheld && let Some(silence) = self.verdict(now, patience, company) {
            self.phase = Phase::Declared { since: now };
            self.outstanding.clear();
            self.ping_due = now + INTERVAL_IN_DOUBT;
            actions.extend([Action::Declare(silence), Action::PingAccused]);
            return actions;
        }
        let Phase::Doubtful(doubt) = &mut self.phase else { return actions };
        // While its kernel answers there is time; once that is late too, every question counts.
        let is_patient = doubt.kernel_heard.is_some_and(|heard| now - heard <= INTERVAL_PATIENT + LATE_MIN)
            && now - doubt.since > patience.silent;
        let (interval, ask_interval) = match self.pace {
            Pace::Wide => (INTERVAL, WITNESS_INTERVAL.times(3)),
            Pace::Close if is_patient => (INTERVAL_PATIENT, WITNESS_INTERVAL),
            Pace::Close => (INTERVAL_IN_DOUBT, WITNESS_INTERVAL),
        };
        let asks = now >= doubt.ask_due;
        actions.push(Action::Ping);
        if asks || self.pace == Pace::Close {
            actions.push(Action::KernelProbe);
        }
        if asks {
            doubt.ask_due = now + ask_interval;
            actions.push(Action::AskOthers);
        }
        self.ping_next(now, interval);
        actions
    }

    /// Once in a silence: when neither program nor kernel has answered for so long that the node may be dead.
    fn sweep_is_due(&mut self, now: Instant, patience: &Patience) -> bool {
        let silent = self.stretched(patience.silent);
        let Phase::Doubtful(doubt) = &mut self.phase else { return false };
        let last = doubt.kernel_heard.unwrap_or(doubt.since).max(doubt.since);
        let is_due = doubt.sweep == Sweep::Unasked && now - last >= silent && doubt.pings >= PINGS_MIN;
        if is_due {
            doubt.sweep = Sweep::Asked;
        }
        is_due
    }

    fn verdict(&self, now: Instant, patience: &Patience, company: Company) -> Option<Silence> {
        let Phase::Doubtful(doubt) = &self.phase else { return None };
        let silence = now - doubt.since;
        // A kernel that has spoken in this silence has shown that its node lives. That it died since is less likely
        // than that its answers were lost.
        let (kernel_silence, kernel_silent) = match doubt.kernel_heard {
            Some(heard) => (now - heard.max(doubt.since), patience.silent.times(3).divided_by(2)),
            None => (silence, patience.silent),
        };
        let is = |borne: Duration, silence: Duration| silence >= self.stretched(borne);
        if doubt.pings < PINGS_MIN {
            return None;
        }
        if self.kernel.answers && is(kernel_silent, kernel_silence) {
            // Without anybody else there is nobody to ask whether it is us.
            if doubt.witnessed || company == Company::Nobody {
                return Some(Silence::Node);
            }
            return is(patience.alone, silence).then_some(Silence::Alone);
        }
        if doubt.refused {
            return is(patience.closed, silence).then_some(Silence::Closed);
        }
        if self.kernel.answers {
            return is(patience.stopped, silence).then_some(Silence::Stopped);
        }
        let silence_of_unknown =
            if doubt.witnessed || company == Company::Nobody { Silence::Unknown } else { Silence::Alone };
        is(patience.unknown, silence).then_some(silence_of_unknown)
    }

    /// A ping of this number went out.
    pub(crate) fn sent(&mut self, now: Instant, sequence: u32) {
        self.is_begun = true;
        if self.outstanding.len() >= OUTSTANDING_MAX {
            self.outstanding.pop_front();
        }
        self.outstanding.push_back(Outstanding { sequence, sent: now });
        if let Phase::Doubtful(doubt) = &mut self.phase {
            doubt.pings = doubt.pings.saturating_add(1);
        }
    }

    /// The member answered the ping of this number.
    pub(crate) fn answered(&mut self, now: Instant, sequence: u32) {
        let Some(place) = self.outstanding.iter().position(|it| it.sequence == sequence) else { return };
        let answered = self.outstanding.drain(..=place).next_back();
        if let Some(answered) = answered {
            self.round_trip.measured(now, now - answered.sent);
        }
        self.heard(now);
    }

    /// The member answered somebody who was asked at this time to ping it. One that never answered us is not judged by
    /// us in any case.
    pub(crate) fn vouched(&mut self, now: Instant, asked: Instant) {
        if matches!(self.phase, Phase::Unproven) {
            return;
        }
        self.outstanding.retain(|it| it.sent > asked);
        self.heard(now);
    }

    /// It lived when the oldest of the pings that are left was sent.
    fn heard(&mut self, now: Instant) {
        let late = self.late();
        let oldest = self.outstanding.front().copied();
        match &mut self.phase {
            Phase::Declared { .. } => {}
            Phase::Unproven | Phase::Answering => self.phase = Phase::Answering,
            Phase::Doubtful(doubt) => match oldest {
                Some(oldest) if now >= oldest.sent + late => {
                    doubt.since = oldest.sent;
                    doubt.pings = u32::try_from(self.outstanding.len()).unwrap_or(u32::MAX);
                    doubt.refused = false;
                }
                _ => {
                    self.phase = Phase::Answering;
                    self.ping_due = now + INTERVAL;
                }
            },
        }
    }

    /// The kernel of the node said that nothing listens on the port.
    pub(crate) fn refused(&mut self, now: Instant) {
        let Some(oldest) = self.outstanding.front().copied() else { return };
        if matches!(self.phase, Phase::Answering) {
            self.phase = Phase::Doubtful(Doubt::new(oldest.sent, self.outstanding.len()));
            self.ping_due = now;
        }
        if let Phase::Doubtful(doubt) = &mut self.phase {
            doubt.refused = true;
            doubt.kernel_heard = Some(now);
        }
    }

    /// The kernel of the node answered.
    pub(crate) fn kernel_answered(&mut self, now: Instant) {
        self.kernel.answers = true;
        if self.kernel.looks > 0 {
            self.kernel.looks = 0;
            self.kernel.look_due = now + KERNEL_INTERVAL;
        }
        if let Phase::Doubtful(doubt) = &mut self.phase {
            doubt.kernel_heard = Some(now);
        }
    }

    /// Another member answered, so this node is not cut off.
    pub(crate) fn witnessed(&mut self) {
        if let Phase::Doubtful(doubt) = &mut self.phase {
            doubt.witnessed = true;
        }
    }

    /// This program did nothing for so long: that time is nobody's silence. Probes go out before anything is judged.
    pub(crate) fn own_pause(&mut self, now: Instant, pause: Duration) {
        for outstanding in &mut self.outstanding {
            outstanding.sent += pause;
        }
        if let Phase::Doubtful(doubt) = &mut self.phase {
            doubt.since += pause;
            doubt.kernel_heard = doubt.kernel_heard.map(|heard| heard + pause);
        }
        self.ping_due = self.ping_due.min(now);
        if self.judgement == Judgement::Free {
            self.judgement = Judgement::Withheld;
        }
    }

    /// True while it answers, and has done so a moment ago: then nobody else knows better.
    pub(crate) fn is_answering(&self) -> bool {
        matches!(self.phase, Phase::Answering) && self.round_trip.smoothed.is_some()
    }

    /// The member is alive again by its own word, or dead by another's.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.phase = Phase::Unproven;
        self.outstanding.clear();
        self.ping_due = now;
    }

    /// The member counts as dead because somebody else said so.
    pub(crate) fn declared(&mut self, now: Instant) {
        if !matches!(self.phase, Phase::Declared { .. }) {
            self.phase = Phase::Declared { since: now };
            self.outstanding.clear();
            self.ping_due = now;
        }
    }

    /// When a ping without an answer is late.
    fn late(&self) -> Duration {
        self.round_trip.late()
    }

    /// A patience for the distance of this member.
    fn stretched(&self, patience: Duration) -> Duration {
        patience + (self.late() - LATE_MIN)
    }
}

impl Doubt {
    fn new(since: Instant, outstanding: usize) -> Self {
        Doubt {
            since,
            pings: u32::try_from(outstanding).unwrap_or(u32::MAX),
            refused: false,
            kernel_heard: None,
            witnessed: false,
            // One lost packet is no reason to ask anybody.
            ask_due: since + LATE_MIN.times(2),
            sweep: Sweep::Unasked,
        }
    }
}

/// The usual time until an answer, and how much it varies (RFC 6298, section 2).
#[derive(Clone, Debug, Default)]
struct RoundTrip {
    smoothed: Option<Duration>,
    variation: Duration,
    measured: Instant,
}

impl RoundTrip {
    fn measured(&mut self, now: Instant, sample: Duration) {
        let Some(smoothed) = self.smoothed else {
            self.smoothed = Some(sample.min(LATE_MAX));
            self.variation = sample.min(LATE_MAX).divided_by(2);
            self.measured = now;
            return;
        };
        // After a pause all answers come at once, and are one sample.
        if now - self.measured < INTERVAL_IN_DOUBT {
            return;
        }
        self.measured = now;
        let sample = sample.min(self.late().times(LATE_GROWTH));
        let difference = if sample > smoothed { sample - smoothed } else { smoothed - sample };
        self.variation = (self.variation.times(3) + difference).divided_by(4);
        self.smoothed = Some((smoothed.times(7) + sample).divided_by(8));
    }

    fn late(&self) -> Duration {
        let late = self.smoothed.unwrap_or_default() + self.variation.times(4);
        late.clamp(LATE_MIN, LATE_MAX)
    }
}

#[cfg(test)]
mod tests;
