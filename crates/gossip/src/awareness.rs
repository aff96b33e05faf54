//! How well this member does itself (Lifeguard's local health): the worse, the longer others get for their answers.

use kit::Duration;

/// The health score: 0 is well.
#[derive(Clone, Debug)]
pub(crate) struct Awareness {
    score: u32,
    /// The score stays below this.
    max: u32,
}

impl Awareness {
    pub(crate) fn new(max: u32) -> Self {
        Awareness { score: 0, max }
    }

    pub(crate) fn improve(&mut self) {
        self.score = self.score.saturating_sub(1);
    }

    pub(crate) fn worsen(&mut self, by: u32) {
        self.score = self.score.saturating_add(by).min(self.max.saturating_sub(1));
    }

    pub(crate) fn score(&self) -> u32 {
        self.score
    }

    /// A time that this member's health stretches.
    pub(crate) fn stretched(&self, time: Duration) -> Duration {
        time.times(u64::from(self.score).saturating_add(1))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_score_stays_between_its_bounds_and_stretches_times() {
        let mut awareness = Awareness::new(8);
        awareness.improve();
        assert_eq!((awareness.score(), awareness.stretched(Duration::from_secs(1))), (0, Duration::from_secs(1)));
        awareness.worsen(3);
        assert_eq!(awareness.stretched(Duration::from_secs(1)), Duration::from_secs(4));
        awareness.worsen(100);
        assert_eq!(awareness.score(), 7);
        awareness.improve();
        assert_eq!(awareness.score(), 6);
    }
}
