//! When to dial again.
//!
//! RFC 4271 section 8.1.1 leaves this open (ConnectRetryTimer, IdleHoldTimer, damping of oscillations); here it is one
//! delay that grows with every failure in a row.

use kit::{Duration, Rng};

use crate::ConnectRetry;

/// The first delay; each failure in a row doubles it.
const FIRST: Duration = Duration::from_millis(500);
/// The longest delay while nobody answers: an attempt costs one packet, and the router may be back any time.
const SILENT_MAX: Duration = Duration::from_secs(30);
/// The longest delay while the two sides disagree: every attempt is a line in the router's log.
const REFUSED_MAX: Duration = Duration::from_secs(120);
/// A session that lasted this long was no failure.
pub(crate) const STABLE_AFTER: Duration = Duration::from_secs(60);

/// A configured time that is shorter counts as this: attempts must let time pass.
const EVERY_MIN: Duration = Duration::from_millis(100);

impl ConnectRetry {
    /// The configured time between attempts, if there is one.
    pub(crate) fn interval(self) -> Option<Duration> {
        match self {
            ConnectRetry::BackOff => None,
            ConnectRetry::Every(interval) => Some(interval.max(EVERY_MIN)),
        }
    }
}

/// How the last attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cause {
    /// There was no connection.
    Silent,
    /// There was one, but no session, or none that lasted.
    Refused,
    /// A session was lost that had lasted.
    Lost,
}

/// Failures in a row.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct BackOff {
    failures: u32,
}

impl BackOff {
    /// How many attempts failed since a session lasted.
    pub(crate) fn failures(self) -> u32 {
        self.failures
    }

    /// The time until the next attempt, counted from now, when the last one began `ago`.
    ///
    /// With a configured time, attempts begin exactly so far apart, and a session that is lost later than that is
    /// dialed again at once. Otherwise there is jitter of 75 to 100 per cent (RFC 4271 section 10).
    pub(crate) fn next(&mut self, retry: ConnectRetry, cause: Cause, ago: Duration, rng: &mut Rng) -> Duration {
        let steps = match cause {
            Cause::Lost => 0,
            Cause::Silent | Cause::Refused => self.failures,
        };
        self.failures = match cause {
            Cause::Lost => 0,
            Cause::Silent | Cause::Refused => self.failures.saturating_add(1),
        };
        if let Some(interval) = retry.interval() {
            return interval - ago;
        }
        let longest = if cause == Cause::Silent { SILENT_MAX } else { REFUSED_MAX };
        let delay = FIRST.times(1_u64.checked_shl(steps).unwrap_or(u64::MAX)).min(longest);
        rng.jitter(delay, 75, 100)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(retry: ConnectRetry, cause: Cause, ago: Duration, expected: Expect) {
        let (mut back_off, mut rng) = (BackOff::default(), Rng::new(1));
        let delays: Vec<String> = (0..12)
            .map(|_| {
                let delay = back_off.next(retry, cause, ago, &mut rng);
                format!("{:.1}", std::time::Duration::from(delay).as_secs_f64())
            })
            .collect();
        expected.assert_eq(&delays.join(" "));
    }

    #[test]
    fn delays_grow_to_a_limit_that_depends_on_the_cause() {
        let none = Duration::ZERO;
        check(
            ConnectRetry::BackOff,
            Cause::Silent,
            none,
            expect!["0.5 0.9 1.6 3.7 6.4 14.4 29.9 26.4 23.2 23.5 29.4 25.1"],
        );
        check(
            ConnectRetry::BackOff,
            Cause::Refused,
            none,
            expect!["0.5 0.9 1.6 3.7 6.4 14.4 31.9 56.4 92.9 94.0 117.6 100.3"],
        );
        check(ConnectRetry::BackOff, Cause::Lost, none, expect!["0.5 0.5 0.4 0.5 0.4 0.4 0.5 0.4 0.4 0.4 0.5 0.4"]);
    }

    #[test]
    fn a_configured_time_is_kept_exactly() {
        let every = ConnectRetry::Every(Duration::from_secs(7));
        check(every, Cause::Silent, Duration::from_secs(3), expect!["4.0 4.0 4.0 4.0 4.0 4.0 4.0 4.0 4.0 4.0 4.0 4.0"]);
        check(every, Cause::Lost, Duration::from_secs(300), expect!["0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0 0.0"]);
    }

    #[test]
    fn no_time_at_all_is_not_taken_at_its_word() {
        assert_eq!(ConnectRetry::Every(Duration::ZERO).interval(), Some(EVERY_MIN));
    }

    #[test]
    fn a_session_that_lasted_forgives_all_failures() {
        let (mut back_off, mut rng) = (BackOff::default(), Rng::new(1));
        for _ in 0..100 {
            back_off.next(ConnectRetry::BackOff, Cause::Refused, Duration::ZERO, &mut rng);
        }
        assert_eq!(back_off.failures(), 100);
        let delay = back_off.next(ConnectRetry::BackOff, Cause::Lost, Duration::ZERO, &mut rng);
        assert!(delay <= FIRST && back_off.failures() == 0, "{delay}");
    }
}
