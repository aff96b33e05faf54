//! The members that are known, with the order in which they are probed.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;

use kit::{Duration, Instant, Rng};

use crate::watch::Proof;
use crate::wire::{Alive, Health};
use crate::{MemberState, Name, scale};

/// A member as it is seen here.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    /// What it last said of itself.
    pub(crate) node: Alive,
    pub(crate) condition: Condition,
    pub(crate) since: Instant,
    /// Whether it has answered a ping of ours since it came.
    pub(crate) proof: Proof,
}

/// What is made of a member.
#[derive(Clone, Debug)]
pub(crate) enum Condition {
    Alive,
    Suspect(Suspicion),
    Dead,
    Left,
}

impl Member {
    pub(crate) fn state(&self) -> MemberState {
        match self.condition {
            Condition::Alive => MemberState::Alive,
            Condition::Suspect(_) => MemberState::Suspect,
            Condition::Dead => MemberState::Dead,
            Condition::Left => MemberState::Left,
        }
    }

    pub(crate) fn health(&self) -> Health {
        match self.condition {
            Condition::Alive => Health::Alive,
            Condition::Suspect(_) => Health::Suspect,
            Condition::Dead => Health::Dead,
            Condition::Left => Health::Left,
        }
    }

    /// Where its packets go.
    pub(crate) fn address(&self) -> SocketAddr {
        canonical(self.node.address)
    }
}

/// An IPv4 address may be written in sixteen bytes; a socket wants it in four.
pub(crate) fn canonical(address: SocketAddr) -> SocketAddr {
    SocketAddr::new(address.ip().to_canonical(), address.port())
}

/// A suspicion: it ends earlier the more members share it.
#[derive(Clone, Debug)]
pub(crate) struct Suspicion {
    /// Who suspects; the first, and those that confirmed it.
    from: BTreeSet<Name>,
    /// How many confirmations are wanted; no more are counted.
    expected: u32,
    min: Duration,
    max: Duration,
    start: Instant,
}

/// Whether a confirmation says something new.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Confirmed {
    Newly,
    Before,
}

impl Suspicion {
    /// A suspicion in a cluster of this size. Its time is counted in probe intervals; some of them pass before all who
    /// will share it can know, so two fewer confirmations are expected than intervals.
    pub(crate) fn new(now: Instant, from: Name, members: usize, mult: u32, max_mult: u32, probe: Duration) -> Self {
        let expected = mult.saturating_sub(2);
        // Neither the suspect nor we can confirm.
        let others = u32::try_from(members.saturating_sub(2)).unwrap_or(u32::MAX);
        let min = scale::suspicion_min(mult, members, probe);
        Suspicion {
            from: BTreeSet::from([from]),
            expected: if others < expected { 0 } else { expected },
            min,
            max: min.times(max_mult.into()),
            start: now,
        }
    }

    pub(crate) fn confirm(&mut self, from: Name) -> Confirmed {
        if self.confirmations() >= self.expected || !self.from.insert(from) {
            return Confirmed::Before;
        }
        Confirmed::Newly
    }

    pub(crate) fn confirmations(&self) -> u32 {
        u32::try_from(self.from.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Gives the suspect all of its time again.
    pub(crate) fn restart(&mut self, now: Instant) {
        self.start = now;
    }

    /// When it becomes certainty.
    pub(crate) fn deadline(&self) -> Instant {
        self.start + scale::suspicion_time(self.confirmations(), self.expected, self.min, self.max)
    }
}

/// Up to this size all members are looked at when some are chosen.
const SMALL: usize = 64;

/// All members, this one included.
#[derive(Clone, Debug)]
pub(crate) struct Members {
    by_name: BTreeMap<Name, Member>,
    /// The order of probing.
    ring: Vec<Name>,
    next: usize,
}

/// A step around the ring.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    Member(Name),
    /// All were passed: time to remove the dead, and to shuffle.
    Wrapped,
}

impl Members {
    pub(crate) fn new(ourselves: Member) -> Self {
        let name = ourselves.node.node.clone();
        Members { by_name: BTreeMap::from([(name.clone(), ourselves)]), ring: vec![name], next: 0 }
    }

    pub(crate) fn len(&self) -> usize {
        self.by_name.len()
    }

    pub(crate) fn get(&self, name: &Name) -> Option<&Member> {
        self.by_name.get(name)
    }

    pub(crate) fn get_mut(&mut self, name: &Name) -> Option<&mut Member> {
        self.by_name.get_mut(name)
    }

    pub(crate) fn iter(&self) -> impl Iterator<Item = (&Name, &Member)> {
        self.by_name.iter()
    }

    /// Adds a member at a random place of the ring, so that it is not always the last to be probed.
    pub(crate) fn insert(&mut self, member: Member, rng: &mut Rng) {
        let name = member.node.node.clone();
        if self.by_name.insert(name.clone(), member).is_none() {
            let place = rng.index(self.ring.len());
            self.ring.push(name);
            let last = self.ring.len().saturating_sub(1);
            self.ring.swap(place, last);
        }
    }

    /// The next in the ring, whoever it is.
    pub(crate) fn advance(&mut self) -> Next {
        if let Some(name) = self.ring.get(self.next) {
            self.next = self.next.saturating_add(1);
            Next::Member(name.clone())
        } else {
            self.next = 0;
            Next::Wrapped
        }
    }

    /// Forgets those who are dead or left and were told so for `keep`; shuffles the ring. Gives back who was forgotten.
    pub(crate) fn reap(&mut self, now: Instant, keep: Duration, rng: &mut Rng) -> Vec<Name> {
        let is_over = |member: &Member| {
            matches!(member.condition, Condition::Dead | Condition::Left) && now - member.since > keep
        };
        let over: Vec<Name> = self.iter().filter(|(_, member)| is_over(member)).map(|(name, _)| name.clone()).collect();
        for name in &over {
            self.by_name.remove(name);
        }
        self.ring.retain(|name| self.by_name.contains_key(name));
        // Fisher and Yates.
        for at in (1..self.ring.len()).rev() {
            let with = rng.index(at.saturating_add(1));
            self.ring.swap(at, with);
        }
        over
    }

    /// Gives all suspects so much more time, and says when it ends now.
    pub(crate) fn suspicions_shift(&mut self, by: Duration) -> Vec<(Name, Instant)> {
        let shifted = |(name, member): (&Name, &mut Member)| match &mut member.condition {
            Condition::Suspect(suspicion) => {
                suspicion.start += by;
                Some((name.clone(), suspicion.deadline()))
            }
            Condition::Alive | Condition::Dead | Condition::Left => None,
        };
        self.by_name.iter_mut().filter_map(shifted).collect()
    }

    /// At most `count` members that are wanted, by chance. If many of all are asked for, none is missed; else the
    /// search ends before it has seen all.
    pub(crate) fn random(&self, count: usize, rng: &mut Rng, wanted: impl Fn(&Member) -> bool) -> Vec<Name> {
        let mut found: Vec<Name> = Vec::new();
        if self.ring.len() <= SMALL.max(count.saturating_mul(4)) {
            let mut all: Vec<&Name> = self.ring.iter().filter(|name| self.get(name).is_some_and(&wanted)).collect();
            while found.len() < count && !all.is_empty() {
                found.push(all.swap_remove(rng.index(all.len())).clone());
            }
            return found;
        }
        for _ in 0..self.ring.len().saturating_mul(3) {
            if found.len() >= count {
                break;
            }
            let Some(name) = rng.pick(&self.ring) else { break };
            if !found.contains(name) && self.get(name).is_some_and(&wanted) {
                found.push(name.clone());
            }
        }
        found
    }
}
