//! When the network is told without asking: the rounds of each address on one interface (contract 5.6), paced.
//!
//! An address that has not been told at all goes before one that is told again, so that taking over one more address is
//! as fast while ten thousand others are still in their rounds. Frames are not known here; what each address costs is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kit::{Duration, Instant, TimerTable};

use crate::Protocol;

/// How often an address is announced after a transition (contract 5.6: rounds at 0, 1.1, 2.2, 3.3 and 4.4 s).
pub const ROUNDS: u8 = 5;
/// Time between two rounds of an address (contract 5.6).
pub const ROUND_INTERVAL: Duration = Duration::from_millis(1100);
/// At most [`FRAMES_PER_PACE`] unsolicited frames leave an interface in this time.
pub const PACE: Duration = Duration::from_millis(10);
/// 20,000 frames a second: both ARP frames of 10,000 addresses within a second, and less than a fiftieth of a gigabit.
pub const FRAMES_PER_PACE: u32 = 200;

/// The most that one round of one address takes.
const FRAMES_PER_ROUND_MAX: u32 = 2;

/// How many frames one round of the address takes on an interface: ARP is sent as a request and as a reply.
pub const fn frames_per_round(address: &IpAddr) -> u32 {
    match Protocol::of(address) {
        Protocol::Arp => FRAMES_PER_ROUND_MAX,
        Protocol::Ndp => 1,
    }
}

/// The rounds that are left, by address.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    rounds_left: BTreeMap<IpAddr, u8>,
    /// Those whose first round is still to come.
    first: TimerTable<IpAddr>,
    /// Those with later rounds.
    again: TimerTable<IpAddr>,
    /// When the present pace began, and how many frames it has taken.
    pace_start: Instant,
    pace_frames: u32,
}

impl Schedule {
    pub(crate) fn new() -> Self {
        Schedule {
            rounds_left: BTreeMap::new(),
            first: TimerTable::new(),
            again: TimerTable::new(),
            pace_start: Instant::ZERO,
            pace_frames: 0,
        }
    }

    /// Begins with the first round, also when rounds of an earlier transition are left.
    pub(crate) fn start(&mut self, now: Instant, address: IpAddr) {
        self.again.clear(&address);
        self.first.set(address, now);
        self.rounds_left.insert(address, ROUNDS);
    }

    /// Forgets the rounds that are left.
    pub(crate) fn stop(&mut self, address: &IpAddr) {
        self.rounds_left.remove(address);
        self.first.clear(address);
        self.again.clear(address);
    }

    /// When [`Schedule::take_due`] will have something.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let due = [self.first.next_deadline(), self.again.next_deadline()].into_iter().flatten().min()?;
        if self.pace_is_full() { Some(due.max(self.pace_start + PACE)) } else { Some(due) }
    }

    /// An address whose round has come, if the pace allows it; its next round is scheduled.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<IpAddr> {
        if now.since(self.pace_start) >= PACE {
            self.pace_start = now;
            self.pace_frames = 0;
        }
        if self.pace_is_full() {
            return None;
        }
        let address = self.first.pop_expired(now).or_else(|| self.again.pop_expired(now))?;
        self.pace_frames = self.pace_frames.saturating_add(frames_per_round(&address));
        let left = self.rounds_left.remove(&address).unwrap_or(0).saturating_sub(1);
        if left > 0 {
            self.rounds_left.insert(address, left);
            // From now, not from when it was due: rounds that had to wait for the pace keep their distance.
            self.again.set(address, now + ROUND_INTERVAL);
        }
        Some(address)
    }

    fn pace_is_full(&self) -> bool {
        self.pace_frames.saturating_add(FRAMES_PER_ROUND_MAX) > FRAMES_PER_PACE
    }

    /// What is scheduled is scheduled once, with rounds left.
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.rounds_left.len(), self.first.len().saturating_add(self.again.len()));
        for (address, left) in &self.rounds_left {
            assert!((1..=ROUNDS).contains(left), "{address} has {left} rounds left");
            assert_ne!(self.first.get(address).is_some(), self.again.get(address).is_some(), "{address} in both");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn v4(n: u32) -> IpAddr {
        IpAddr::V4(std::net::Ipv4Addr::from(0x0a00_0000 + n))
    }

    /// Runs until nothing is left, and returns when each address was taken, in milliseconds.
    fn run(schedule: &mut Schedule) -> Vec<(u64, IpAddr)> {
        let mut taken = Vec::new();
        while let Some(now) = schedule.next_deadline() {
            while let Some(address) = schedule.take_due(now) {
                taken.push((now.since(Instant::ZERO).as_millis(), address));
            }
            schedule.check_invariants();
        }
        taken
    }

    #[test]
    fn contract_5_6_five_rounds_at_0_1100_2200_3300_4400_ms() {
        let mut schedule = Schedule::new();
        schedule.start(Instant::ZERO, v4(1));
        let times: Vec<u64> = run(&mut schedule).into_iter().map(|(ms, _)| ms).collect();
        assert_eq!(times, [0, 1100, 2200, 3300, 4400]);
        assert_eq!(schedule.next_deadline(), None);
    }

    #[test]
    fn a_new_transition_begins_again_and_a_stop_ends() {
        let mut schedule = Schedule::new();
        schedule.start(Instant::ZERO, v4(1));
        assert_eq!(schedule.take_due(Instant::ZERO), Some(v4(1)));
        let later = Instant::ZERO + Duration::from_millis(700);
        assert_eq!(schedule.take_due(later), None);
        schedule.start(later, v4(1));
        schedule.check_invariants();
        let times: Vec<u64> = run(&mut schedule).into_iter().map(|(ms, _)| ms).collect();
        assert_eq!(times, [700, 1800, 2900, 4000, 5100]);
        schedule.start(later, v4(1));
        schedule.stop(&v4(1));
        schedule.check_invariants();
        assert_eq!(schedule.next_deadline(), None);
    }

    #[test]
    fn ten_thousand_addresses_are_all_told_once_within_a_second_and_never_more_than_the_pace() {
        let mut schedule = Schedule::new();
        for n in 0..10_000 {
            schedule.start(Instant::ZERO, v4(n));
        }
        let taken = run(&mut schedule);
        assert_eq!(taken.len(), 10_000 * usize::from(ROUNDS));
        let mut first_told = BTreeMap::new();
        let mut per_pace: BTreeMap<u64, u32> = BTreeMap::new();
        for (ms, address) in taken {
            first_told.entry(address).or_insert(ms);
            *per_pace.entry(ms / PACE.as_millis()).or_default() += frames_per_round(&address);
        }
        assert_eq!(first_told.len(), 10_000);
        assert_eq!(first_told.values().max(), Some(&990));
        assert_eq!(per_pace.values().max(), Some(&FRAMES_PER_PACE));
    }

    #[test]
    fn an_address_that_was_never_told_goes_before_rounds_that_are_overdue() {
        let mut schedule = Schedule::new();
        for n in 0..1000 {
            schedule.start(Instant::ZERO, v4(n));
        }
        let mut now = Instant::ZERO;
        while schedule.first.next_deadline().is_some() {
            now = schedule.next_deadline().unwrap();
            while schedule.take_due(now).is_some() {}
        }
        let late = now + ROUND_INTERVAL + ROUND_INTERVAL;
        schedule.start(late, v4(5000));
        assert_eq!(schedule.take_due(late), Some(v4(5000)));
    }
}
