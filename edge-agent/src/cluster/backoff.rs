//! How long to wait before the next try.

use std::time::Duration;

/// First wait. An API server that was restarted answers again after about 3 s.
const FIRST: Duration = Duration::from_secs(1);

/// Longest wait: what an operator is willing to wait after repairing a cluster.
const LONGEST: Duration = Duration::from_secs(60);

/// Waits that double from [`FIRST`] to [`LONGEST`], each spread over its upper half so that many watches
/// do not come back at once. The same seed gives the same waits.
pub(super) struct Backoff {
    state: u64,
    next: Duration,
}

impl Backoff {
    pub(super) fn new(seed: u64) -> Self {
        Self { state: seed, next: FIRST }
    }

    /// The wait before the next try.
    pub(super) fn wait(&mut self) -> Duration {
        let wait = self.next;
        self.next = (wait * 2).min(LONGEST);
        wait / 2 + wait.mul_f64(self.chance() / 2.0)
    }

    /// What was tried succeeded: the next failure starts again.
    pub(super) fn reset(&mut self) {
        self.next = FIRST;
    }

    /// A number from 0 to 1 (SplitMix64).
    fn chance(&mut self) -> f64 {
        self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^= mixed >> 31;
        (mixed >> 11) as f64 / (1_u64 << 53) as f64
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_within_their_bounds() {
        let mut backoff = Backoff::new(7);
        let mut bound = FIRST;
        for _ in 0..10 {
            let wait = backoff.wait();
            assert!(wait >= bound / 2 && wait <= bound, "{wait:?} of {bound:?}");
            bound = (bound * 2).min(LONGEST);
        }
        backoff.reset();
        assert!(backoff.wait() <= FIRST);
    }

    #[test]
    fn the_seed_decides() {
        let waits = |seed| {
            let mut backoff = Backoff::new(seed);
            [backoff.wait(), backoff.wait(), backoff.wait()]
        };
        assert_eq!(waits(1), waits(1));
        assert_ne!(waits(1), waits(2));
    }
}
