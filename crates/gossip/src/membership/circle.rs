//! The circle of all members. Each member watches the few that come after it, whatever the speaker wants: so wherever the
//! network falls apart, somebody in each part has somebody of the other before its eyes.
//!
//! And getting to know members: a member whose silence is to mean something must have answered before. Each is pinged once
//! when it comes, a few times if the answer gets lost.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use kit::{Duration, Instant, Rng, TimerTable};

use super::probe::Awaited;
use super::{Membership, Moment, Timer};
use crate::broadcast::For;
use crate::watch::Proof;
use crate::{Name, Vigilance};

/// How many members are watched whatever the speaker wants. One would do for the network's falling apart to be seen on both
/// sides; with three, members of small clusters all know each other, and in large ones most members of a part see it
/// themselves.
const GUARDED: usize = 3;
/// The time between pings for those that have not answered yet.
const GREET_INTERVAL: Duration = Duration::from_millis(20);
/// The time until one is pinged again; it doubles.
const GREET_AGAIN: Duration = Duration::from_millis(200);
/// How often one is pinged before it is left alone.
const GREETINGS_MAX: u32 = 5;

/// All members but this one, in an order in which neither racks nor names are neighbours.
#[derive(Clone, Debug, Default)]
pub(super) struct Circle {
    places: BTreeSet<(u64, Name)>,
    guarded: BTreeSet<Name>,
}

impl Circle {
    /// Those that come after a member.
    fn after(&self, name: &Name) -> BTreeSet<Name> {
        let place = place(name);
        let behind = self.places.range((Bound::Excluded(&place), Bound::Unbounded));
        behind.chain(self.places.range(..&place)).take(GUARDED).map(|(_, name)| name.clone()).collect()
    }

    pub(super) fn is_guarded(&self, name: &Name) -> bool {
        self.guarded.contains(name)
    }

    pub(super) fn clear(&mut self) {
        self.guarded.clear();
    }
}

fn place(name: &Name) -> (u64, Name) {
    (Rng::new(super::watching::digest(name.as_str().bytes())).next_u64(), name.clone())
}

/// Members that have not answered a ping of ours.
#[derive(Clone, Debug, Default)]
pub(super) struct Strangers {
    /// When each is to be pinged.
    due: TimerTable<Name>,
    /// How often each was.
    greetings: BTreeMap<Name, u32>,
}

impl Strangers {
    fn add(&mut self, now: Instant, name: &Name) {
        self.greetings.insert(name.clone(), 0);
        self.due.set(name.clone(), now);
    }

    fn remove(&mut self, name: &Name) {
        self.greetings.remove(name);
        self.due.clear(name);
    }

    /// The next to be pinged.
    fn next(&mut self, now: Instant) -> Option<Name> {
        let name = self.due.pop_expired(now)?;
        let greetings = self.greetings.get(&name).copied().unwrap_or_default();
        if greetings.saturating_add(1) < GREETINGS_MAX {
            self.greetings.insert(name.clone(), greetings.saturating_add(1));
            self.due.set(name.clone(), now + GREET_AGAIN.times(1 << greetings));
        } else {
            self.greetings.remove(&name);
        }
        Some(name)
    }
}

impl Membership {
    /// A member is here that was not, or that moved: what is known of its answers is nothing.
    pub(super) fn circle_enter(&mut self, moment: &mut Moment<'_>, name: &Name) {
        if let Some(member) = self.members.get_mut(name) {
            member.proof = Proof::Missing;
        }
        if self.config.vigilance == Vigilance::Wanted || !self.presence.is_member() {
            return;
        }
        self.circle.places.insert(place(name));
        self.greet_soon(moment.now, name);
        self.guard_next(moment);
    }

    /// A member is gone.
    pub(super) fn circle_leave(&mut self, moment: &mut Moment<'_>, name: &Name) {
        self.strangers.remove(name);
        if self.circle.places.remove(&place(name)) {
            self.guard_next(moment);
        }
    }

    fn guard_next(&mut self, moment: &mut Moment<'_>) {
        if !self.presence.is_member() {
            return;
        }
        let guarded = self.circle.after(&self.config.name);
        let before = std::mem::replace(&mut self.circle.guarded, guarded.clone());
        for name in before.difference(&guarded) {
            if !self.is_watched_still(name) {
                self.watch_release(moment, name);
            }
        }
        for name in guarded.difference(&before) {
            self.watch_begin(moment, name);
        }
    }

    /// It is not known whether a member answers pings: it is pinged.
    fn greet_soon(&mut self, now: Instant, name: &Name) {
        self.strangers.add(now, name);
        let last = self.timers.get(&Timer::Greet).unwrap_or(now + GREET_INTERVAL);
        self.timers.set(Timer::Greet, last.min(now + GREET_INTERVAL));
    }

    /// Pings the next of those that have not answered yet.
    pub(super) fn greet(&mut self, moment: &mut Moment<'_>) {
        let name = self.strangers.next(moment.now);
        if let Some(due) = self.strangers.due.next_deadline() {
            self.timers.set(Timer::Greet, due.max(moment.now + GREET_INTERVAL));
        }
        let Some(name) = name else { return };
        if let Some(to) = self.address_of(&name) {
            let ping = self.ping_awaited(&name, Awaited::Greeting);
            self.send(moment, to, &ping, For::Company(to));
        }
    }

    /// A member answers over TCP and not over UDP: what it answered once says nothing any more.
    pub(super) fn unproven(&mut self, now: Instant, name: &Name) {
        let is_watchful = self.config.vigilance == Vigilance::Circle;
        if let Some(member) = self.members.get_mut(name) {
            member.proof = Proof::Missing;
            if is_watchful {
                self.greet_soon(now, name);
            }
        }
    }

    /// A member answered a ping of ours: if it will not, that means something.
    pub(super) fn proven(&mut self, name: &Name) {
        if let Some(member) = self.members.get_mut(name)
            && member.proof == Proof::Missing
        {
            member.proof = Proof::Answered;
            self.strangers.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(number: usize) -> Name {
        Name::new(&format!("rack-{}-node-{number}", number / 10)).unwrap()
    }

    fn circle(members: impl Iterator<Item = usize>, but: usize) -> Circle {
        let places = members.filter(|member| *member != but).map(|member| place(&name(member))).collect();
        Circle { places, ..Circle::default() }
    }

    #[test]
    fn wherever_it_falls_apart_both_sides_see_it() {
        let mut rng = Rng::new(1);
        for count in [2, 3, 5, 8, 40] {
            let after: Vec<BTreeSet<Name>> =
                (0..count).map(|member| circle(0..count, member).after(&name(member))).collect();
            for run in 0..200 {
                // By chance, or along the racks.
                let border = 1 + rng.index(count - 1);
                let is_here: Vec<bool> =
                    (0..count).map(|member| if run % 2 == 0 { member < border } else { rng.one_in(3) }).collect();
                let sees_other_side = |side: bool| {
                    let on_side = (0..count).filter(|member| is_here[*member] == side);
                    let mut seen = on_side.flat_map(|member| after[member].iter());
                    seen.any(|seen| (0..count).any(|member| name(member) == *seen && is_here[member] != side))
                };
                let has_both = is_here.contains(&true) && is_here.contains(&false);
                assert!(!has_both || (sees_other_side(true) && sees_other_side(false)), "{is_here:?}");
            }
        }
    }

    #[test]
    fn neighbours_by_name_are_no_neighbours_in_the_circle() {
        let count = 100;
        let is_close = |member: usize| {
            let after = circle(0..count, member).after(&name(member));
            after.contains(&name((member + 1) % count))
        };
        let close = (0..count).filter(|member| is_close(*member)).count();
        // By chance it would be three.
        assert!(close <= 10, "{close} of {count}");
    }

    #[test]
    fn strangers_are_greeted_again_after_longer_and_longer() {
        let mut strangers = Strangers::default();
        strangers.add(Instant::ZERO, &name(1));
        strangers.add(Instant::ZERO + Duration::from_millis(300), &name(2));
        let mut greeted = Vec::new();
        while let Some(due) = strangers.due.next_deadline() {
            let name = strangers.next(due).unwrap();
            greeted.push(format!("{name} {}", due.since(Instant::ZERO).as_millis()));
        }
        let expected = [
            "rack-0-node-1 0",
            "rack-0-node-1 200",
            "rack-0-node-2 300",
            "rack-0-node-2 500",
            "rack-0-node-1 600",
            "rack-0-node-2 900",
            "rack-0-node-1 1400",
            "rack-0-node-2 1700",
            "rack-0-node-1 3000",
            "rack-0-node-2 3300",
        ];
        assert_eq!(greeted, expected);
        assert!(strangers.greetings.is_empty());
    }
}
