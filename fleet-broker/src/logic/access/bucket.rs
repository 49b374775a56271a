//! A token bucket: so many at once, then so many in a time.

use std::time::Duration;

/// How much a bucket holds, and how fast it fills again.
#[derive(Clone, Copy, Debug)]
pub struct Rate {
    /// How many may come at once.
    pub burst: u32,
    /// After how long there is one more.
    pub every: Duration,
}

/// A bucket, full when it is new. What it holds follows from when it will be full again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Bucket {
    full_at: Duration,
}

impl Bucket {
    /// Takes one out, or says how long to wait for one.
    ///
    /// # Errors
    /// The wait, when the bucket is empty.
    pub fn take(&mut self, now: Duration, rate: Rate) -> Result<(), Duration> {
        let full_at = self.full_at.max(now) + rate.every;
        let wait = full_at.saturating_sub(now + rate.every * rate.burst);
        if wait > Duration::ZERO {
            return Err(wait);
        }
        self.full_at = full_at;
        Ok(())
    }

    /// Whether it holds all it can.
    pub fn is_full(&self, now: Duration) -> bool {
        self.full_at <= now
    }
}
