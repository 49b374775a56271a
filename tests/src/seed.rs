//! Chance that can be repeated.

use std::hash::{BuildHasher, Hasher, RandomState};

use crate::setting::setting;

/// Repeats a run when it is set to the seed that run printed.
const SEED: &str = "EDGEFLEET_TEST_SEED";

/// The seed of this test: another on every run, unless `EDGEFLEET_TEST_SEED` says which. It is printed, so
/// that a failure can be repeated.
///
/// # Panics
///
/// When the variable holds anything but a number.
#[allow(clippy::print_stderr, reason = "the test runner shows it beside the failure")]
pub fn seed() -> u64 {
    let seed = match setting(SEED) {
        Some(text) => text.parse().unwrap_or_else(|_| panic!("{SEED} is a whole number, not {text:?}")),
        None => RandomState::new().build_hasher().finish(),
    };
    eprintln!("seed {seed}: {SEED}={seed} repeats this run");
    seed
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_runs_get_different_seeds() {
        if setting(SEED).is_none() {
            assert_ne!(seed(), seed());
        }
    }
}
