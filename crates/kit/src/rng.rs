//! Randomness with a seed (xoshiro256++ by Blackman and Vigna, seeded through SplitMix64).
//!
//! It spreads timers and explores simulations; it is not for keys.

use crate::Duration;

/// A small, fast generator; the same seed gives the same sequence on every machine.
#[derive(Clone, Debug)]
pub struct Rng([u64; 4]);

impl Rng {
    /// A generator that is determined by `seed` alone.
    pub fn new(seed: u64) -> Self {
        let mut state = seed;
        let mut split_mix = || {
            state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let mut z = state;
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^ (z >> 31)
        };
        Rng([split_mix(), split_mix(), split_mix(), split_mix()])
    }

    /// The next 64 bits.
    pub fn next_u64(&mut self) -> u64 {
        let [a, b, c, d] = &mut self.0;
        let result = a.wrapping_add(*d).rotate_left(23).wrapping_add(*a);
        let shifted = *b << 17;
        *c ^= *a;
        *d ^= *b;
        *b ^= *c;
        *a ^= *d;
        *c ^= shifted;
        *d = d.rotate_left(45);
        result
    }

    /// A number below `bound`; 0 when the bound is 0. The bias is below 2^-64 times the bound.
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.next_u64()).wrapping_mul(u128::from(bound));
        u64::try_from(wide >> 64).unwrap_or(0)
    }

    /// An index into something of `len` items; 0 when it is empty.
    pub fn index(&mut self, len: usize) -> usize {
        usize::try_from(self.below(len as u64)).unwrap_or(0)
    }

    /// True once in `n` times on average; never for 0.
    pub fn one_in(&mut self, n: u64) -> bool {
        n != 0 && self.below(n) == 0
    }

    /// One of the items, or none if there are none.
    pub fn pick<'a, T>(&mut self, items: &'a [T]) -> Option<&'a T> {
        items.get(self.index(items.len()))
    }

    /// A span between `percent_low` and `percent_high` percent of `span`, both included.
    ///
    /// RFC 4271 section 10 asks for 75 to 100 per cent on BGP timers.
    pub fn jitter(&mut self, span: Duration, percent_low: u64, percent_high: u64) -> Duration {
        let steps = percent_high.saturating_sub(percent_low).saturating_mul(1000);
        let per_mille_of_percent = percent_low.saturating_mul(1000).saturating_add(self.below(steps.saturating_add(1)));
        Duration::from_micros(
            u64::try_from(u128::from(span.as_micros()).saturating_mul(u128::from(per_mille_of_percent)) / 100_000)
                .unwrap_or(u64::MAX),
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_same_seed_gives_the_same_sequence() {
        let (mut a, mut b, mut c) = (Rng::new(7), Rng::new(7), Rng::new(8));
        let (x, y, z) = (a.next_u64(), b.next_u64(), c.next_u64());
        assert_eq!(x, y);
        assert_ne!(x, z);
    }

    #[test]
    fn below_reaches_every_value_and_no_other() {
        let mut rng = Rng::new(1);
        let mut seen = [0u32; 5];
        for _ in 0..5000 {
            seen[rng.index(5)] += 1;
        }
        assert!(seen.iter().all(|n| (800..1200).contains(n)), "{seen:?}");
        assert_eq!(rng.below(0), 0);
    }

    #[test]
    fn jitter_stays_between_its_bounds() {
        let mut rng = Rng::new(3);
        let (mut low, mut high) = (Duration::MAX, Duration::ZERO);
        for _ in 0..10_000 {
            let jittered = rng.jitter(Duration::from_secs(100), 75, 100);
            low = low.min(jittered);
            high = high.max(jittered);
        }
        assert!(low >= Duration::from_secs(75) && low < Duration::from_secs(76), "{low}");
        assert!(high <= Duration::from_secs(100) && high > Duration::from_secs(99), "{high}");
    }
}
