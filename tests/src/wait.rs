//! Waiting for a level, never for time.

use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use tokio::time::{MissedTickBehavior, interval, timeout};

/// Between two looks; short beside anything that is waited for, long beside the cost of a look.
const LOOK_INTERVAL: Duration = Duration::from_millis(50);

/// Looks again and again until `look` returns a value, and returns that. When the deadline passes first, the
/// error names `what` was waited for and carries what the last look found instead.
///
/// # Errors
///
/// After `deadline`; a look that takes longer than what is left of it is abandoned.
pub async fn wait_for<T>(
    what: &str,
    deadline: Duration,
    mut look: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let mut last = anyhow!("the first look did not end");
    let looking = async {
        let mut ticks = interval(LOOK_INTERVAL);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            ticks.tick().await;
            match look().await {
                Ok(value) => return value,
                Err(reason) => last = reason,
            }
        }
    };
    let reached = timeout(deadline, looking).await;
    match reached {
        Ok(value) => Ok(value),
        Err(_) => Err(last).with_context(|| format!("{what}: not within {deadline:?}; the last look found")),
    }
}

#[cfg(test)]
mod tests {
    use anyhow::ensure;

    use super::*;

    #[tokio::test]
    async fn returns_what_the_condition_found() -> Result<()> {
        let mut looks = 0;
        let found = wait_for("three looks", Duration::from_secs(10), async || {
            looks += 1;
            ensure!(looks == 3, "{looks} looks");
            Ok(looks)
        });
        assert_eq!(found.await?, 3);
        Ok(())
    }

    #[tokio::test]
    async fn says_what_the_last_look_found() {
        let deadline = Duration::from_millis(1);
        let error = wait_for::<()>("rain", deadline, async || Err(anyhow!("sun"))).await.unwrap_err();
        assert_eq!(format!("{error:#}"), "rain: not within 1ms; the last look found: sun");
    }

    #[tokio::test]
    async fn abandons_a_look_that_hangs() {
        let deadline = Duration::from_millis(1);
        let error = wait_for::<()>("an end", deadline, async || std::future::pending().await).await;
        assert!(format!("{:#}", error.unwrap_err()).contains("the first look did not end"));
    }
}
