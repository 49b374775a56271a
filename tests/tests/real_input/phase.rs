//! The agent's own part of a delivery: applying what is here already.

use std::time::Duration;

use anyhow::{Result, ensure};
use edge_agent::control::{self, Reply, Request};
use tests::wait_for;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

use crate::harness::{SOON, Site};

/// Between two looks at an agent whose applying is timed: short beside the least that is timed.
const LOOK_INTERVAL: Duration = Duration::from_millis(5);

/// How long the agent takes from the end of a hold until everything is applied; the content is here before.
pub(crate) async fn applied_once_released(site: &Site, application: &str) -> Result<Duration> {
    let app = format!("{}/{application}", site.name);
    wait_for("content that waits for the end of the hold", SOON, async || {
        let status = site.agent_status().await?;
        let held = status.applications.iter().any(|one| one.app == app && one.message.contains("on hold"));
        ensure!(held, "{status:#?}");
        Ok(())
    })
    .await?;
    let begin = Instant::now();
    site.tell_agent(Request::Release).await?;
    let applying = async {
        let mut looks = interval(LOOK_INTERVAL);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            looks.tick().await;
            let status = site.agent_status().await?;
            let one = status.applications.iter().find(|one| one.app == app);
            if one.is_some_and(|one| one.desired > 0 && one.applied == one.desired) {
                return Ok(begin.elapsed());
            }
        }
    };
    timeout(SOON, applying).await?
}

impl Site {
    /// Says something to the agent at its control socket.
    pub(crate) async fn tell_agent(&self, request: Request) -> Result<()> {
        let socket = self.state().control();
        let reply = tokio::task::spawn_blocking(move || control::ask(&socket, &request)).await??;
        ensure!(matches!(reply, Reply::Done), "{reply:?}");
        Ok(())
    }
}
