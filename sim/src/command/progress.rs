//! For whoever watches: how far it is. Where nobody does, nothing is written.

use std::time::{Duration, Instant};

use edgefleet_sim::{happening::date, report::grouped};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};

/// Parts of a bar.
const PARTS: u64 = 1000;

/// How often a bar is drawn, at most.
const OFTEN: Duration = Duration::from_millis(100);

/// A bar on the terminal.
pub(crate) struct Progress {
    bar: ProgressBar,
    began: Instant,
    drawn: Option<Duration>,
}

impl Progress {
    /// A bar for a run in virtual time.
    pub(crate) fn of_run() -> Self {
        Self::new(PARTS)
    }

    /// A bar for so many steps.
    #[allow(clippy::disallowed_methods, reason = "how long it takes is no part of it")]
    pub(crate) fn new(steps: u64) -> Self {
        // It writes nothing where standard error is no terminal.
        let bar = ProgressBar::with_draw_target(Some(steps), ProgressDrawTarget::stderr());
        let style = ProgressStyle::with_template("{bar:24} {wide_msg}");
        bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
        Self { bar, began: Instant::now(), drawn: None }
    }

    /// A run is at a time, of all the time that it goes on.
    pub(crate) fn at(&mut self, at: Duration, end: Duration) {
        let took = self.began.elapsed();
        if self.drawn.is_some_and(|drawn| took < drawn + OFTEN) {
            return;
        }
        self.drawn = Some(took);
        let part = at.as_secs().saturating_mul(PARTS) / end.as_secs().max(1);
        self.bar.set_position(part);
        self.bar.set_message(told(at, end, took));
    }

    /// So many steps are done.
    pub(crate) fn step(&self, steps: u64, told: String) {
        self.bar.set_position(steps);
        self.bar.set_message(told);
    }

    /// Says something above the bar.
    pub(crate) fn say(&self, say: impl FnOnce()) {
        self.bar.suspend(say);
    }

    /// How long it took, when it is over.
    pub(crate) fn ends(self) -> Duration {
        self.bar.finish_and_clear();
        self.began.elapsed()
    }
}

fn told(at: Duration, end: Duration, took: Duration) -> String {
    const DAY: u64 = 24 * 60 * 60;
    let (day, days) = (at.as_secs() / DAY + 1, end.as_secs().div_ceil(DAY));
    let speed = at.as_secs_f64() / took.as_secs_f64().max(1e-9);
    format!("{} (day {day} of {days}), {} times real time", date(at), grouped(speed as u64))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_run_is_told_with_its_date_and_speed() {
        let [at, end, took] = [43 * 3600 + 12 * 60, 29 * 86_400 + 3600, 13].map(Duration::from_secs);
        assert_eq!(told(at, end, took), "2027-01-17 03:12 (day 2 of 30), 11,963 times real time");
    }
}
