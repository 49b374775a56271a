//! How long to wait before trying again: doubling, capped, and spread so that a fleet does not knock as one.

use std::time::Duration;

use protocol::{ids::Digest, planted::Bug};

/// First wait after a failure.
pub const FIRST: Duration = Duration::from_secs(1);

/// Longest wait. An operator who has mended something waits at most this long to see it.
pub const LONGEST: Duration = Duration::from_secs(300);

/// The wait after the `failures`th failure in a row (1 for the first) of whatever `seed` names. The same seed
/// waits the same; different seeds spread over the upper half of the doubled time.
pub fn wait(failures: u32, seed: &str) -> Duration {
    let longest = if Bug::WaitWithoutEnd.is_planted() { Duration::MAX } else { LONGEST };
    let doubled = FIRST.saturating_mul(1 << failures.saturating_sub(1).min(16)).min(longest);
    let digest = Digest::of(format!("{seed}#{failures}").as_bytes());
    let share = u32::from(digest.as_bytes()[0]);
    doubled / 2 + doubled / 2 * share / 255
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_and_stop_at_the_longest() {
        for failures in 1..40 {
            let full = FIRST.saturating_mul(1 << (failures - 1).min(16)).min(LONGEST);
            let waited = wait(failures, "tower-1 Deployment radio/gateway");
            assert!(full / 2 <= waited && waited <= full, "{failures}: {waited:?}");
        }
        assert_ne!(wait(9, "tower-1"), wait(9, "tower-2"));
    }
}
