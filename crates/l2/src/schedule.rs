//! When the network is told without asking, address by address, on one interface (contract 5.6): rounds after a
//! transition, a slow refresh for as long as the address is announced, and defences; all of it paced.
//!
//! An address that has not been told at all goes before one that is told again, so that taking over one more address is
//! as fast while ten thousand others are still in their rounds. Frames are not known here; what each address costs is.

use std::collections::BTreeMap;
use std::net::IpAddr;

use kit::{Duration, Instant, Rng, TimerTable};

use crate::Protocol;

/// How often an address is announced after a transition (contract 5.6: rounds at 0, 1.1, 2.2, 3.3 and 4.4 s).
pub const ROUNDS: u8 = 5;
/// Time between two rounds of an address (contract 5.6).
pub const ROUND_INTERVAL: Duration = Duration::from_millis(1100);
/// At most [`FRAMES_PER_PACE`] unsolicited frames to everybody leave an interface in this time.
pub const PACE: Duration = Duration::from_millis(10);
/// 24,000 frames a second: both ARP frames of 10,000 addresses within a second, with a sixth of it to spare for timers that are late,
/// and less than a fiftieth of a gigabit.
pub const FRAMES_PER_PACE: u32 = 240;
/// Of those, a refresh may take this many: 2,000 frames a second. Nobody waits for a refresh, so it never comes in bursts;
/// where it would need more, it takes longer than its interval.
pub const REFRESH_FRAMES_PER_PACE: u32 = 20;

/// The most that one round of one address takes.
const FRAMES_PER_ROUND_MAX: u32 = 2;
/// Between two refreshes of an address lie 75 to 100 per cent of the interval, so that the addresses, and the nodes, spread.
const REFRESH_PERCENT_MIN: u64 = 75;
/// The first one comes after 25 to 100 per cent, so that addresses that were announced together spread from the beginning.
const FIRST_REFRESH_PERCENT_MIN: u64 = 25;

/// How often the network is told of an address about which nothing has happened.
///
/// Switches forget which port leads to a station after 300 s (IEEE 802.1D-2004 table 7-5), routers often keep the station of an
/// address for 1,200 s and more. In between, a router sends what no switch knows a way for, and a node that only receives
/// through it (its answers take another way) is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refresh {
    /// Not at all, as in the Go implementation.
    Never,
    /// At least this often.
    Every(Duration),
}

impl Refresh {
    /// Twice in 300 s, and once even if one of them is lost.
    pub const DEFAULT: Refresh = Refresh::Every(Duration::from_secs(120));
}

/// How many frames one round of the address takes on an interface: ARP is sent as a request and as a reply.
pub const fn frames_per_round(address: &IpAddr) -> u32 {
    match Protocol::of(address) {
        Protocol::Arp => FRAMES_PER_ROUND_MAX,
        Protocol::Ndp => 1,
    }
}

/// What is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// Everybody is told of the address.
    Round(IpAddr),
    /// The address is defended, by one frame (RFC 5227 section 2.4).
    Defence(IpAddr),
    /// Everybody is asked for the address.
    Question(IpAddr),
}

/// What is to be told, by address.
#[derive(Clone, Debug)]
pub(crate) struct Schedule {
    refresh: Refresh,
    random: Rng,
    rounds_left: BTreeMap<IpAddr, u8>,
    /// Those whose first round is still to come.
    first: TimerTable<IpAddr>,
    /// Those with later rounds.
    again: TimerTable<IpAddr>,
    /// Those whose rounds are over.
    refreshes: TimerTable<IpAddr>,
    defences: TimerTable<IpAddr>,
    questions: TimerTable<IpAddr>,
    /// When the present pace began, and how many frames it has taken.
    pace_start: Instant,
    pace_frames: u32,
}

impl Schedule {
    pub(crate) fn new(refresh: Refresh, seed: u64) -> Self {
        Schedule {
            refresh,
            random: Rng::new(seed),
            rounds_left: BTreeMap::new(),
            first: TimerTable::new(),
            again: TimerTable::new(),
            refreshes: TimerTable::new(),
            defences: TimerTable::new(),
            questions: TimerTable::new(),
            pace_start: Instant::ZERO,
            pace_frames: 0,
        }
    }

    /// Begins with the first round, also when rounds of an earlier transition are left.
    pub(crate) fn start(&mut self, now: Instant, address: IpAddr) {
        self.stop(&address);
        self.first.set(address, now);
        self.rounds_left.insert(address, ROUNDS);
    }

    /// Has the address defended once, unless it is about to be told to everybody anyway.
    pub(crate) fn defend(&mut self, now: Instant, address: IpAddr) {
        if self.first.get(&address).is_none() {
            self.defences.set(address, now);
        }
    }

    /// Has everybody asked for the address once.
    pub(crate) fn inquire(&mut self, now: Instant, address: IpAddr) {
        self.questions.set(address, now);
    }

    /// Has everybody told once more at that time. False if that happens anyway within [`ROUND_INTERVAL`].
    pub(crate) fn repeat(&mut self, at: Instant, address: IpAddr) -> bool {
        if self.rounds_left.contains_key(&address) {
            return false;
        }
        self.refreshes.clear(&address);
        self.again.set(address, at);
        self.rounds_left.insert(address, 1);
        true
    }

    /// Forgets what is left to tell.
    pub(crate) fn stop(&mut self, address: &IpAddr) {
        self.rounds_left.remove(address);
        self.first.clear(address);
        self.again.clear(address);
        self.refreshes.clear(address);
        self.defences.clear(address);
        self.questions.clear(address);
    }

    /// When [`Schedule::take_due`] will have something.
    pub(crate) fn next_deadline(&self) -> Option<Instant> {
        let soonest = |tables: &[&TimerTable<IpAddr>]| tables.iter().filter_map(|table| table.next_deadline()).min();
        let paced = |due: Option<Instant>, limit: u32| {
            due.map(|due| if self.pace_is_full(limit) { due.max(self.pace_start + PACE) } else { due })
        };
        let urgent = paced(soonest(&[&self.first, &self.defences, &self.questions, &self.again]), FRAMES_PER_PACE);
        let refresh = paced(self.refreshes.next_deadline(), REFRESH_FRAMES_PER_PACE);
        urgent.into_iter().chain(refresh).min()
    }

    /// What has come due, if the pace allows it; the next round of its address is scheduled.
    pub(crate) fn take_due(&mut self, now: Instant) -> Option<Due> {
        if now.since(self.pace_start) >= PACE {
            self.pace_start = now;
            self.pace_frames = 0;
        }
        if self.pace_is_full(FRAMES_PER_PACE) {
            return None;
        }
        if let Some(address) = self.first.pop_expired(now) {
            return Some(self.told(now, address));
        }
        if let Some(address) = self.defences.pop_expired(now) {
            self.pace_frames = self.pace_frames.saturating_add(1);
            return Some(Due::Defence(address));
        }
        if let Some(address) = self.questions.pop_expired(now) {
            self.pace_frames = self.pace_frames.saturating_add(1);
            return Some(Due::Question(address));
        }
        if let Some(address) = self.again.pop_expired(now) {
            return Some(self.told(now, address));
        }
        if self.pace_is_full(REFRESH_FRAMES_PER_PACE) {
            return None;
        }
        self.refreshes.pop_expired(now).map(|address| self.told(now, address))
    }

    /// Counts a round of the address and schedules the next one: from now on, not from when it was due. So rounds that had
    /// to wait for the pace keep their distance.
    fn told(&mut self, now: Instant, address: IpAddr) -> Due {
        self.pace_frames = self.pace_frames.saturating_add(frames_per_round(&address));
        let rounds = self.rounds_left.remove(&address);
        let left = rounds.unwrap_or(0).saturating_sub(1);
        if left > 0 {
            self.rounds_left.insert(address, left);
            self.again.set(address, now + ROUND_INTERVAL);
        } else if let Refresh::Every(interval) = self.refresh {
            let percent_min = if rounds.is_some() { FIRST_REFRESH_PERCENT_MIN } else { REFRESH_PERCENT_MIN };
            self.refreshes.set(address, now + self.random.jitter(interval, percent_min, 100));
        }
        Due::Round(address)
    }

    fn pace_is_full(&self, limit: u32) -> bool {
        self.pace_frames.saturating_add(FRAMES_PER_ROUND_MAX) > limit
    }

    /// What is scheduled is scheduled once.
    pub(crate) fn check_invariants(&self) {
        assert_eq!(self.rounds_left.len(), self.first.len().saturating_add(self.again.len()));
        for (address, left) in &self.rounds_left {
            assert!((1..=ROUNDS).contains(left), "{address} has {left} rounds left");
            assert_ne!(self.first.get(address).is_some(), self.again.get(address).is_some(), "{address} in both");
            assert_eq!(self.refreshes.get(address), None, "{address} has rounds left");
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
            while let Some(due) = schedule.take_due(now) {
                let Due::Round(address) = due else { panic!("{due:?}") };
                taken.push((now.since(Instant::ZERO).as_millis(), address));
            }
            schedule.check_invariants();
        }
        taken
    }

    #[test]
    fn contract_5_6_five_rounds_at_0_1100_2200_3300_4400_ms() {
        let mut schedule = Schedule::new(Refresh::Never, 0);
        schedule.start(Instant::ZERO, v4(1));
        let times: Vec<u64> = run(&mut schedule).into_iter().map(|(ms, _)| ms).collect();
        assert_eq!(times, [0, 1100, 2200, 3300, 4400]);
        assert_eq!(schedule.next_deadline(), None);
    }

    #[test]
    fn a_new_transition_begins_again_and_a_stop_ends() {
        let mut schedule = Schedule::new(Refresh::Never, 0);
        schedule.start(Instant::ZERO, v4(1));
        assert_eq!(schedule.take_due(Instant::ZERO), Some(Due::Round(v4(1))));
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
        let mut schedule = Schedule::new(Refresh::Never, 0);
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
        assert_eq!(first_told.values().max(), Some(&830));
        assert_eq!(per_pace.values().max(), Some(&FRAMES_PER_PACE));
    }

    #[test]
    fn an_address_that_was_never_told_goes_before_rounds_that_are_overdue() {
        let mut schedule = Schedule::new(Refresh::Never, 0);
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
        assert_eq!(schedule.take_due(late), Some(Due::Round(v4(5000))));
    }

    /// Runs for a time, and returns when each address was told, in microseconds.
    fn run_until(schedule: &mut Schedule, end: Instant) -> BTreeMap<IpAddr, Vec<u64>> {
        let mut told: BTreeMap<IpAddr, Vec<u64>> = BTreeMap::new();
        while let Some(now) = schedule.next_deadline().filter(|now| *now <= end) {
            while let Some(due) = schedule.take_due(now) {
                let Due::Round(address) = due else { panic!("{due:?}") };
                told.entry(address).or_default().push(now.as_micros());
            }
        }
        schedule.check_invariants();
        told
    }

    #[test]
    fn an_address_is_refreshed_for_ever_never_later_than_the_interval() {
        let interval = Duration::from_secs(120);
        let mut schedule = Schedule::new(Refresh::Every(interval), 7);
        schedule.start(Instant::ZERO, v4(1));
        let told = run_until(&mut schedule, Instant::ZERO + Duration::from_secs(86_400));
        let told = &told[&v4(1)];
        let gaps: Vec<u64> = told.windows(2).map(|pair| pair[1] - pair[0]).collect();
        assert_eq!(gaps[..4], [1_100_000; 4]);
        let interval = interval.as_micros();
        assert!((interval / 4..=interval).contains(&gaps[4]), "{}", gaps[4]);
        assert!(gaps[5..].iter().all(|gap| (interval * 3 / 4..=interval).contains(gap)), "{gaps:?}");
        assert!(gaps.len() > 86_400 / 120);
        // Whatever is lost on the way, two in a row or not: a table that forgets after 300 s is told in time.
        assert!(told.windows(3).all(|three| three[2] - three[0] < 300_000_000));
        schedule.stop(&v4(1));
        assert_eq!(schedule.next_deadline(), None);
    }

    #[test]
    fn refreshes_of_ten_thousand_addresses_do_not_come_in_bursts() {
        let mut schedule = Schedule::new(Refresh::DEFAULT, 7);
        for n in 0..10_000 {
            schedule.start(Instant::ZERO, v4(n));
        }
        let told = run_until(&mut schedule, Instant::ZERO + Duration::from_secs(600));
        let mut per_second: BTreeMap<u64, u32> = BTreeMap::new();
        for rounds in told.values() {
            assert!(rounds[5..].windows(2).all(|pair| pair[1] - pair[0] <= 120_100_000), "{rounds:?}");
            for micros in rounds.iter().filter(|micros| **micros > 60_000_000) {
                *per_second.entry(micros / 1_000_000).or_default() += 2;
            }
        }
        // 10,000 addresses in 105 s on average, two frames each.
        let most = per_second.values().max().unwrap();
        assert!(*most < 320, "{most} frames in a second");
    }

    #[test]
    fn refreshes_that_are_due_together_are_paced_and_do_not_hold_up_what_is_urgent() {
        let mut schedule = Schedule::new(Refresh::Every(Duration::from_secs(10)), 7);
        for n in 0..1_000 {
            schedule.start(Instant::ZERO, v4(n));
        }
        run_until(&mut schedule, Instant::ZERO + Duration::from_secs(5));
        // The process was stopped for a minute.
        let mut now = Instant::ZERO + Duration::from_secs(60);
        schedule.start(now, v4(5_000));
        assert_eq!(schedule.take_due(now), Some(Due::Round(v4(5_000))));
        let mut frames = 2;
        let (end, mut per_pace) = (now + Duration::from_millis(600), Vec::new());
        while now <= end {
            while let Some(Due::Round(_)) = schedule.take_due(now) {
                frames += 2;
            }
            per_pace.push(std::mem::take(&mut frames));
            now = schedule.next_deadline().unwrap().max(now + PACE);
        }
        assert_eq!(per_pace.iter().max(), Some(&REFRESH_FRAMES_PER_PACE));
        assert!(per_pace.iter().sum::<u32>() >= 1_100, "{per_pace:?}");
    }

    #[test]
    fn a_defence_is_one_frame_and_changes_nothing_else() {
        let mut schedule = Schedule::new(Refresh::Never, 7);
        schedule.start(Instant::ZERO, v4(1));
        schedule.defend(Instant::ZERO, v4(1));
        assert_eq!(schedule.take_due(Instant::ZERO), Some(Due::Round(v4(1))));
        let later = Instant::ZERO + Duration::from_millis(700);
        assert_eq!(schedule.take_due(later), None);
        schedule.defend(later, v4(1));
        assert_eq!(schedule.next_deadline(), Some(later));
        assert_eq!(schedule.take_due(later), Some(Due::Defence(v4(1))));
        assert_eq!(schedule.next_deadline(), Some(Instant::ZERO + ROUND_INTERVAL));
        schedule.check_invariants();
    }
}
