//! The echo function of one session (RFC 5880 sections 6.4, 6.8.5, 6.8.8 and 6.8.9): when packets go out, and when their
//! absence means that the path is broken.
//!
//! A neighbour that says it returns echo packets may still not do so: a filter, a check of source addresses, another
//! interface. So failures count only after a first packet has come back; until then the control packets alone watch the
//! path. What a neighbour has once returned is expected of it for good, as long as it is the same one.

use kit::{Duration, Instant, Rng};

use crate::timing::{Grace, jittered};

/// How far the echo function has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum EchoState {
    /// No echo packets are sent.
    Off,
    /// They are sent, and none has returned yet.
    Probing,
    /// They return, and the session goes down when they stop.
    Active,
}

/// The echo packets of one session.
#[derive(Clone, Debug)]
pub(crate) struct Echo {
    state: EchoState,
    interval: Duration,
    next_at: Option<Instant>,
    /// The number of the last packet that was sent; numbers are never used again.
    sent: u64,
    /// The highest number that came back.
    returned: u64,
    /// When the first packet was sent after the last return, and its number. Counting from there, a time in which nothing was
    /// sent, because this program did not run, is not a failure of the path.
    unanswered_since: Option<(Instant, u64)>,
    grace: Grace,
}

/// What an echo packet that came back means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Return {
    Counted,
    /// Seen before, or never sent.
    Replayed,
}

impl Echo {
    pub(crate) fn new() -> Self {
        Echo {
            state: EchoState::Off,
            interval: Duration::ZERO,
            next_at: None,
            sent: 0,
            returned: 0,
            unanswered_since: None,
            grace: Grace::default(),
        }
    }

    pub(crate) fn state(&self) -> EchoState {
        self.state
    }

    /// Echo packets go out at this interval from now on; where none went out before, the function begins in `state`.
    pub(crate) fn run(&mut self, now: Instant, interval: Duration, state: EchoState) {
        self.interval = interval;
        if self.state == EchoState::Off {
            self.state = state;
            self.next_at = Some(now);
        }
    }

    /// No more echo packets.
    pub(crate) fn stop(&mut self) {
        self.state = EchoState::Off;
        self.next_at = None;
        self.unanswered_since = None;
        self.grace = Grace::default();
    }

    /// The number of the packet to be sent now, if one is due.
    pub(crate) fn due(&mut self, now: Instant, random: &mut Rng) -> Option<u64> {
        if self.next_at? > now {
            return None;
        }
        self.next_at = Some(now + jittered(self.interval, u8::MAX, random));
        self.sent = self.sent.saturating_add(1);
        self.unanswered_since.get_or_insert((now, self.sent));
        Some(self.sent)
    }

    /// The last packet that was due did not go out.
    pub(crate) fn unsent(&mut self) {
        if self.unanswered_since.is_some_and(|(_, first)| first == self.sent) {
            self.unanswered_since = None;
        }
    }

    /// A packet came back.
    pub(crate) fn returned(&mut self, sequence: u64) -> Return {
        if self.state == EchoState::Off || sequence <= self.returned || sequence > self.sent {
            return Return::Replayed;
        }
        self.returned = sequence;
        self.unanswered_since = None;
        self.grace = Grace::default();
        self.state = EchoState::Active;
        Return::Counted
    }

    /// True when so many packets are missing that the path counts as broken (RFC 5880 section 6.8.5).
    pub(crate) fn has_failed(&mut self, now: Instant, detect_multiplier: u8) -> bool {
        let fails_at = self.fails_at(detect_multiplier);
        fails_at.is_some_and(|deadline| self.grace.has_expired(now, deadline, self.interval))
    }

    fn fails_at(&self, detect_multiplier: u8) -> Option<Instant> {
        let (since, _) = self.unanswered_since.filter(|_| self.state == EchoState::Active)?;
        Some(since + self.interval.times(detect_multiplier.into()))
    }

    /// When something is due.
    pub(crate) fn next_deadline(&self, detect_multiplier: u8) -> Option<Instant> {
        let fails_at = self.fails_at(detect_multiplier).map(|deadline| self.grace.deadline(deadline));
        self.next_at.into_iter().chain(fails_at).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(50);

    fn at(ms: u64) -> Instant {
        Instant::ZERO + Duration::from_millis(ms)
    }

    /// Sends whatever is due until then, in steps of a millisecond, and returns how many that was.
    fn send_until(echo: &mut Echo, random: &mut Rng, from_ms: u64, until_ms: u64) -> usize {
        (from_ms..until_ms).filter(|ms| echo.due(at(*ms), random).is_some()).count()
    }

    #[test]
    fn nothing_fails_before_a_first_packet_has_returned() {
        let (mut echo, mut random) = (Echo::new(), Rng::new(1));
        echo.run(at(0), INTERVAL, EchoState::Probing);
        send_until(&mut echo, &mut random, 0, 10_000);
        assert_eq!(echo.state(), EchoState::Probing);
        assert!(!echo.has_failed(at(10_000), 3));
    }

    #[test]
    fn rfc5880_6_8_5_missing_packets_fail_after_the_multiplier_times_the_interval() {
        let (mut echo, mut random) = (Echo::new(), Rng::new(1));
        echo.run(at(0), INTERVAL, EchoState::Probing);
        assert_eq!(echo.due(at(0), &mut random), Some(1));
        assert_eq!(echo.returned(1), Return::Counted);
        assert_eq!(echo.state(), EchoState::Active);
        let sent_at = echo.next_deadline(3).unwrap();
        assert_eq!(echo.due(sent_at, &mut random), Some(2));
        let fails_at = sent_at + INTERVAL.times(3);
        assert!(!echo.has_failed(Instant::from_micros(fails_at.as_micros() - 1), 3));
        assert!(echo.has_failed(fails_at, 3));
    }

    #[test]
    fn what_was_returned_before_is_expected_from_the_first_packet_on() {
        let (mut echo, mut random) = (Echo::new(), Rng::new(1));
        echo.run(at(0), INTERVAL, EchoState::Active);
        assert_eq!(echo.due(at(0), &mut random), Some(1));
        assert!(!echo.has_failed(at(149), 3));
        assert!(echo.has_failed(at(150), 3));
        echo.stop();
        assert!(!echo.has_failed(at(1000), 3));
        assert_eq!(echo.next_deadline(3), None);
    }

    #[test]
    fn a_packet_that_did_not_go_out_is_not_missing() {
        let (mut echo, mut random) = (Echo::new(), Rng::new(1));
        echo.run(at(0), INTERVAL, EchoState::Active);
        for ms in [0, 100, 200] {
            echo.due(at(ms), &mut random);
            echo.unsent();
        }
        assert!(!echo.has_failed(at(250), 3));
        // This one did, and the next one does not make it better.
        echo.due(at(300), &mut random);
        echo.due(at(400), &mut random);
        echo.unsent();
        assert!(!echo.has_failed(at(449), 3));
        assert!(echo.has_failed(at(450), 3));
    }

    #[test]
    fn a_time_in_which_nothing_was_sent_is_not_a_failure() {
        let (mut echo, mut random) = (Echo::new(), Rng::new(1));
        echo.run(at(0), INTERVAL, EchoState::Probing);
        echo.due(at(0), &mut random);
        echo.returned(1);
        assert!(!echo.has_failed(at(60_000), 3));
        assert_eq!(echo.due(at(60_000), &mut random), Some(2));
        assert!(!echo.has_failed(at(60_100), 3));
    }

    #[test]
    fn every_packet_counts_once_and_only_if_it_was_sent() {
        let (mut echo, mut random) = (Echo::new(), Rng::new(1));
        assert_eq!(echo.returned(0), Return::Replayed);
        echo.run(at(0), INTERVAL, EchoState::Probing);
        send_until(&mut echo, &mut random, 0, 200);
        assert_eq!(echo.returned(1000), Return::Replayed);
        assert_eq!(echo.returned(2), Return::Counted);
        assert_eq!(echo.returned(2), Return::Replayed);
        assert_eq!(echo.returned(1), Return::Replayed, "overtaken on the way");
        assert_eq!(echo.returned(3), Return::Counted);
        echo.stop();
        assert_eq!(echo.returned(4), Return::Replayed, "no longer sending");
        echo.run(at(200), INTERVAL, EchoState::Probing);
        assert_eq!(echo.returned(3), Return::Replayed, "numbers are never used again");
    }

    #[test]
    fn rfc5880_6_8_9_packets_are_sent_at_three_quarters_of_the_interval_at_the_soonest() {
        let (mut echo, mut random) = (Echo::new(), Rng::new(1));
        echo.run(at(0), INTERVAL, EchoState::Probing);
        let sent = send_until(&mut echo, &mut random, 0, 50_000);
        assert!((1000..=1334).contains(&sent), "{sent}");
    }
}
