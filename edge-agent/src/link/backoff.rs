//! How long to wait before the next attempt. No clock, no chance: the seed is an argument.

use std::time::Duration;

/// Waiting times that double from `first` to `cap`, each shortened by up to half, by chance, so that a
/// fleet cut off together does not come back together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Backoff {
    /// The longest the first wait can be.
    pub first: Duration,
    /// The longest any wait can be.
    pub cap: Duration,
    /// Differs between agents, and between starts of one agent.
    pub seed: u64,
}

impl Backoff {
    /// The wait after `failures` attempts in a row that failed; the first is 1.
    pub fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(31);
        let longest = self.first.saturating_mul(1 << doublings).min(self.cap);
        let half = longest / 2;
        let chance = mix(self.seed.wrapping_add(u64::from(failures))) % 1_000;
        half + half * u32::try_from(chance).unwrap_or(0) / 1_000
    }
}

/// SplitMix64: spreads neighbouring numbers over all of them.
fn mix(number: u64) -> u64 {
    let mut z = number.wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn agents_with_other_seeds_wait_differently() {
        let wait =
            |seed| Backoff { first: Duration::from_secs(1), cap: Duration::from_secs(60), seed }.delay(7);
        let waits: std::collections::BTreeSet<_> = (0..100).map(wait).collect();
        assert!(waits.len() > 90, "{} different waits of 100", waits.len());
    }

    proptest! {
        #[test]
        fn a_wait_is_between_half_and_all_of_its_doubling(
            failures in 1_u32.., first in 1_u64..10_000, cap in 1_u64..600_000, seed: u64,
        ) {
            let (first, cap) = (Duration::from_millis(first), Duration::from_millis(cap));
            let longest = first.saturating_mul(1 << (failures - 1).min(31)).min(cap);
            let delay = Backoff { first, cap, seed }.delay(failures);
            prop_assert!(delay >= longest / 2 && delay <= longest, "{delay:?} of {longest:?}");
        }
    }
}
