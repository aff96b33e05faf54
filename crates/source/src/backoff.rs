//! How long to wait before another try: twice as long each time, up to a limit, each time a little different, so that
//! the nodes of a cluster do not all come back to the API server at one moment.

use std::hash::{BuildHasher, Hasher, RandomState};
use std::time::Duration;

use tokio::time::Instant;

/// The shortest and the longest wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Backoff {
    pub(crate) min: Duration,
    pub(crate) max: Duration,
}

impl Backoff {
    /// The wait after this many failures in a row (1 for the first): `min` doubled with each failure but the first,
    /// at most `max`, of which between the half and the whole is taken.
    pub(crate) fn delay(self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(16);
        let whole = self.min.saturating_mul(1_u32.checked_shl(doublings).unwrap_or(u32::MAX)).min(self.max);
        whole.mul_f64(0.5 + random_fraction() / 2.0)
    }
}

/// A span later, and for ever where that is too far to say.
pub(crate) fn later(now: Instant, span: Duration) -> Instant {
    now.checked_add(span).unwrap_or(now)
}

/// A number, different each time. Not for keys.
pub(crate) fn random() -> u64 {
    RandomState::new().build_hasher().finish()
}

/// A number from 0 to below 1.
fn random_fraction() -> f64 {
    // 32 bits are exact in an f64.
    f64::from(u32::try_from(random() >> 32).unwrap_or(0)) / (f64::from(u32::MAX) + 1.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_the_limit_and_differ() {
        let backoff = Backoff { min: Duration::from_millis(100), max: Duration::from_secs(1) };
        for (failures, whole_ms) in [(0, 100), (1, 100), (2, 200), (3, 400), (4, 800), (5, 1_000), (u32::MAX, 1_000)] {
            for _ in 0..50 {
                let delay = backoff.delay(failures);
                assert!(delay >= Duration::from_millis(whole_ms / 2), "{failures}: {delay:?}");
                assert!(delay <= Duration::from_millis(whole_ms), "{failures}: {delay:?}");
            }
        }
        let delays: std::collections::BTreeSet<_> = (0..20).map(|_| backoff.delay(5)).collect();
        assert!(delays.len() > 10, "no jitter: {delays:?}");
    }
}
