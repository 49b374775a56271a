//! Chance, of one seed. Everything is computed in integers: the same on every machine and in every build.

use std::time::Duration;

use rand_core::{Rng as _, SeedableRng as _};
use rand_pcg::Pcg64Mcg;

/// Parts in which chances are given.
pub const MILLION: u64 = 1_000_000;

/// One stream of random numbers.
#[derive(Debug, Clone)]
pub struct Chance(Pcg64Mcg);

impl Chance {
    /// The stream of a seed.
    pub fn new(seed: u64) -> Self {
        Self(Pcg64Mcg::seed_from_u64(seed))
    }

    /// A stream of its own for somebody, so that what others draw changes nothing for them.
    pub fn split(&mut self) -> Self {
        Self::new(self.0.next_u64())
    }

    /// A number below `bound`, which is not zero. Each is as likely but for a part in 2^64 (Lemire, 2019, without the
    /// rejection).
    pub fn below(&mut self, bound: u64) -> u64 {
        let wide = u128::from(self.0.next_u64()) * u128::from(bound);
        u64::try_from(wide >> 64).expect("below the bound")
    }

    /// Whether something happens that does so `parts` times in a million.
    pub fn happens(&mut self, parts: u32) -> bool {
        parts > 0 && self.below(MILLION) < u64::from(parts)
    }

    /// A time between two, in microseconds.
    pub fn between(&mut self, shortest: Duration, longest: Duration) -> Duration {
        let span = longest.saturating_sub(shortest).as_micros();
        shortest + Duration::from_micros(self.below(u64::try_from(span).unwrap_or(u64::MAX).max(1)))
    }

    /// A time until something that happens once in `every` on average.
    pub fn until_next(&mut self, every: Duration) -> Duration {
        self.between(Duration::ZERO, every * 2)
    }

    /// Random bytes.
    pub fn bytes<const N: usize>(&mut self) -> [u8; N] {
        let mut bytes = [0; N];
        self.0.fill_bytes(&mut bytes);
        bytes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_is_a_stream_and_chances_are_kept() {
        let draw = |seed| {
            let mut chance = Chance::new(seed);
            (0..8).map(|_| chance.below(100)).collect::<Vec<_>>()
        };
        assert_eq!(draw(7), draw(7));
        assert_ne!(draw(7), draw(8));
        let mut chance = Chance::new(7);
        let hits = (0..10_000).filter(|_| chance.happens(100_000)).count();
        assert!((900..1_100).contains(&hits), "{hits} of 10,000 at one in ten");
        assert!((0..1_000).all(|_| chance.below(3) < 3));
    }
}
