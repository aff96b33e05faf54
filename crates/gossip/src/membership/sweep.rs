//! When a watched node falls silent, the network may have fallen apart: then others are gone too that nobody on this side
//! watches. Some members by chance are looked at, in wide steps, and more of them the fewer answer.

use kit::{Duration, Instant};

use super::watching::Watched;
use super::{Membership, Moment, Timer};
use crate::member::Member;
use crate::watch::{Pace, Proof, Watch, WatchState};
use crate::{Name, Vigilance};

/// How many are looked at first.
const FIRST: usize = 32;
/// So many of its own part should look at each silent member, on average.
const WATCHERS: usize = 16;
/// How many silent members are looked at by one member at a time, at ten pings a second each.
const AT_ONCE_MAX: usize = 256;
/// The time between counts of the answers, which far members need, and between sweeps.
const STEP: Duration = Duration::from_millis(200);

/// Whether others are looked at.
#[derive(Clone, Copy, Debug)]
pub(super) struct Sweep {
    state: State,
    /// Whether another one was asked for meanwhile: the network may fall apart right after a node died.
    next: Next,
}

#[derive(Clone, Copy, Debug)]
enum State {
    /// Not before then.
    Rests {
        until: Instant,
    },
    Runs(Count),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Next {
    Unasked,
    Asked,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default)]
struct Count {
    asked: usize,
    answered: usize,
}

impl Sweep {
    pub(super) fn new(now: Instant) -> Self {
        Sweep { state: State::Rests { until: now }, next: Next::Unasked }
    }
}

impl Count {
    /// How many are to be asked, all in all. If all members of a part ask so many of all members by chance, of whom one in so
    /// many is in their part, then each of the others has [`WATCHERS`].
    fn wanted(self) -> usize {
        let one_in = self.asked.saturating_add(1).checked_div(self.answered.saturating_add(1)).unwrap_or(1);
        WATCHERS.saturating_mul(one_in.saturating_add(1)).max(FIRST)
    }

    fn is_enough(self) -> bool {
        self.asked >= self.wanted()
    }
}

impl Membership {
    /// A watched node is silent in all ways.
    pub(super) fn sweep_begin(&mut self, moment: &mut Moment<'_>) {
        if self.config.vigilance == Vigilance::Wanted {
            return;
        }
        match self.sweep.state {
            State::Rests { until } if moment.now >= until => {
                self.counters.sweeps = self.counters.sweeps.saturating_add(1);
                self.sweep = Sweep { state: State::Runs(Count::default()), next: Next::Unasked };
                self.sweep_step(moment);
            }
            State::Rests { until } => {
                self.sweep.next = Next::Asked;
                self.timers.set(Timer::Sweep, until);
            }
            State::Runs(_) => self.sweep.next = Next::Asked,
        }
    }

    /// Looks at more members, if that is called for, until nobody is left whose silence is not judged.
    pub(super) fn sweep_step(&mut self, moment: &mut Moment<'_>) {
        let State::Runs(mut count) = self.sweep.state else {
            if self.sweep.next == Next::Asked {
                self.sweep_begin(moment);
            }
            return;
        };
        if count.is_enough() && self.sweep.next == Next::Asked {
            self.sweep.next = Next::Unasked;
            count = Count::default();
        }
        let is_open = |watch: &Watch| watch.pace() == Pace::Wide && watch.is_doubtful();
        let silent = self.watches.values().filter(|watched| is_open(&watched.watch)).count();
        let more = count.wanted().saturating_sub(count.asked).min(AT_ONCE_MAX.saturating_sub(silent));
        let watches = &self.watches;
        let may_be_silent = |member: &Member| {
            let is_known = member.state().is_member() && member.proof == Proof::Answered;
            is_known && !watches.contains_key(&member.node.node)
        };
        let names: Vec<Name> = self.members.random(more, &mut self.rng, may_be_silent);
        if names.is_empty() && silent == 0 {
            let until = moment.now + STEP;
            self.sweep.state = State::Rests { until };
            if self.sweep.next == Next::Asked {
                self.timers.set(Timer::Sweep, until);
            }
            return;
        }
        count.asked = count.asked.saturating_add(names.len());
        self.sweep.state = State::Runs(count);
        self.timers.set(Timer::Sweep, moment.now + STEP);
        for name in names {
            if let Some(address) = self.address_of(&name) {
                self.watches.insert(name.clone(), Watched::new(Watch::sweeping(moment.now), address));
                self.watch_timer_set(&name);
            }
        }
    }

    /// A member was heard of: one that was only looked at is left alone again.
    pub(super) fn sweep_heard(&mut self, moment: &mut Moment<'_>, name: &Name) {
        let is_over = |watch: &Watch| watch.pace() == Pace::Wide && watch.state() == WatchState::Answering;
        if self.watches.get(name).is_some_and(|watched| is_over(&watched.watch)) {
            if let State::Runs(count) = &mut self.sweep.state {
                count.answered = count.answered.saturating_add(1);
            }
            self.watch_end(moment, name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_fewer_answer_the_more_are_asked() {
        let table = [(0, 0), (32, 32), (32, 20), (32, 16), (32, 8), (32, 3), (32, 1), (32, 0), (256, 0), (256, 2)];
        let wanted = table.map(|(asked, answered)| Count { asked, answered }.wanted());
        assert_eq!(wanted, [32, 32, 32, 32, 64, 144, 272, 544, 4128, 1376]);
    }
}
