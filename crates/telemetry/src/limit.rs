//! A limit to how often something is told, with a count of what was left out. Pure: it is told the time.

use std::time::Duration;

use tokio::time::Instant;

/// Lets a few through at once, and then one after each interval.
#[derive(Debug)]
pub struct Limiter {
    burst: u32,
    interval: Duration,
    left: u32,
    refilled: Option<Instant>,
    suppressed: u64,
}

impl Limiter {
    /// At most `burst` at once, and one more for each `interval`.
    pub const fn new(burst: u32, interval: Duration) -> Limiter {
        Limiter { burst, interval, left: burst, refilled: None, suppressed: 0 }
    }

    /// Whether one may pass now; if so, how many have not since the last one that did.
    pub fn admit(&mut self, now: Instant) -> Option<u64> {
        let since = *self.refilled.get_or_insert(now);
        let intervals = now.saturating_duration_since(since).as_nanos().checked_div(self.interval.as_nanos());
        let more = u32::try_from(intervals.unwrap_or(u128::MAX)).unwrap_or(u32::MAX);
        if more > 0 {
            self.left = self.left.saturating_add(more).min(self.burst);
            self.refilled = since.checked_add(self.interval.saturating_mul(more)).or(Some(now));
        }
        if self.left == 0 {
            self.suppressed = self.suppressed.saturating_add(1);
            return None;
        }
        self.left = self.left.saturating_sub(1);
        Some(std::mem::take(&mut self.suppressed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_one_per_interval() {
        let start = Instant::now();
        let mut limiter = Limiter::new(2, Duration::from_secs(10));
        let at = |seconds| start + Duration::from_secs(seconds);
        let passed: Vec<_> = [0, 0, 0, 1, 9, 10, 11, 35, 35, 35, 1_000, 1_000, 1_000]
            .into_iter()
            .map(|seconds| (seconds, limiter.admit(at(seconds))))
            .filter_map(|(seconds, suppressed)| Some((seconds, suppressed?)))
            .collect();
        assert_eq!(passed, [(0, 0), (0, 0), (10, 3), (35, 1), (35, 0), (1_000, 1), (1_000, 0)]);
    }

    #[test]
    fn time_that_stands_or_goes_back_lets_nothing_through() {
        let start = Instant::now() + Duration::from_hours(1);
        let mut limiter = Limiter::new(1, Duration::from_secs(1));
        assert_eq!(limiter.admit(start), Some(0));
        assert_eq!(limiter.admit(start), None);
        assert_eq!(limiter.admit(start - Duration::from_mins(1)), None);
        assert_eq!(limiter.admit(start + Duration::from_secs(1)), Some(2));
    }
}
