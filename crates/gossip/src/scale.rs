//! How memberlist's times and counts grow with the number of members.

use kit::Duration;

/// Below so many members, exchanges are as frequent as configured.
const PUSH_PULL_SCALE_FROM: usize = 32;

fn float(count: usize) -> f64 {
    f64::from(u32::try_from(count).unwrap_or(u32::MAX))
}

/// The whole part of a number that is not negative.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "Rust's conversion saturates")]
fn whole(number: f64) -> u64 {
    number as u64
}

/// How often a message is sent on: the multiplier times the logarithm of the number of members.
pub(crate) fn retransmit_limit(mult: u32, members: usize) -> u32 {
    let scale = whole(float(members.saturating_add(1)).log10().ceil());
    mult.saturating_mul(u32::try_from(scale).unwrap_or(u32::MAX))
}

/// The shortest time that a suspect has to object.
pub(crate) fn suspicion_min(mult: u32, members: usize, probe_interval: Duration) -> Duration {
    let scale = float(members.max(1)).log10().max(1.0);
    probe_interval.times(u64::from(mult)).times(whole(scale * 1000.0)).divided_by(1000)
}

/// How long a suspect has, all in all, once `confirmations` of the `expected` others have suspected it too: from `max`
/// down to `min`, by the logarithm.
pub(crate) fn suspicion_time(confirmations: u32, expected: u32, min: Duration, max: Duration) -> Duration {
    if expected == 0 {
        return min;
    }
    let share = (f64::from(confirmations) + 1.0).ln() / (f64::from(expected) + 1.0).ln();
    let millis = |time: Duration| f64::from(u32::try_from(time.as_millis()).unwrap_or(u32::MAX));
    let time = millis(max) - share * (millis(max) - millis(min));
    Duration::from_millis(whole(time.max(0.0))).max(min)
}

/// The time between exchanges of all members.
pub(crate) fn push_pull_interval(interval: Duration, members: usize) -> Duration {
    if members <= PUSH_PULL_SCALE_FROM {
        return interval;
    }
    let doublings = float(members).log2() - float(PUSH_PULL_SCALE_FROM).log2();
    interval.times(whole(doublings.ceil()).saturating_add(1))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_sent_on_by_the_logarithm() {
        for (members, limit) in [(1, 4), (3, 4), (9, 4), (10, 8), (99, 8), (100, 12), (1000, 16)] {
            assert_eq!(retransmit_limit(4, members), limit, "{members}");
        }
        assert_eq!(retransmit_limit(4, 0), 0);
    }

    #[test]
    fn suspects_get_more_time_in_larger_clusters() {
        let second = Duration::from_secs(1);
        for (members, millis) in [(1, 4000), (3, 4000), (10, 4000), (100, 8000), (1000, 12_000), (50, 6792)] {
            assert_eq!(suspicion_min(4, members, second), Duration::from_millis(millis), "{members}");
        }
    }

    #[test]
    fn each_confirmation_shortens_the_time_less_than_the_one_before() {
        let (min, max) = (Duration::from_secs(2), Duration::from_secs(30));
        let time = |confirmations| suspicion_time(confirmations, 3, min, max).as_millis();
        assert_eq!([0, 1, 2, 3, 4].map(time), [30_000, 16_000, 7810, 2000, 2000]);
        assert_eq!(suspicion_time(0, 0, min, max), min);
    }

    #[test]
    fn exchanges_become_rarer_in_larger_clusters() {
        let secs = |members| push_pull_interval(Duration::from_secs(30), members).as_secs();
        assert_eq!([3, 32, 33, 64, 65, 1000].map(secs), [30, 30, 60, 60, 90, 180]);
    }
}
