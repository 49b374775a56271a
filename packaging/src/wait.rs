//! Waiting for a level.

use std::{
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

/// Between two looks; short beside anything that is waited for, long beside the cost of a look.
const LOOK_INTERVAL: Duration = Duration::from_millis(200);

/// The time since some moment, which only goes forward.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stopwatch(Instant);

impl Stopwatch {
    #[allow(
        clippy::disallowed_methods,
        reason = "deadlines and progress are this program's only use of time"
    )]
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    pub(crate) fn elapsed(self) -> Duration {
        self.0.elapsed()
    }
}

/// Looks again and again until `look` returns a value. After `deadline` the error names `what` was waited for and
/// what the last look found instead.
#[allow(clippy::disallowed_methods, reason = "the only thread has nothing to do between two looks")]
pub(crate) fn wait_for<T>(what: &str, deadline: Duration, mut look: impl FnMut() -> Result<T>) -> Result<T> {
    let watch = Stopwatch::start();
    loop {
        match look() {
            Ok(value) => return Ok(value),
            Err(reason) if watch.elapsed() >= deadline => {
                return Err(reason).with_context(|| {
                    format!("{what}: not within {} s; the last look found", deadline.as_secs())
                });
            }
            Err(_) => thread::sleep(LOOK_INTERVAL),
        }
    }
}
