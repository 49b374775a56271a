//! The hub comes back as it was: after a stop in order, and after a kill right behind its answer.

use anyhow::{Result, ensure};
use fleet_broker::resources::AssignmentState;
use serde_json::json;

use crate::harness::Site;
use crate::manifests::greeting;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_delivered_after_the_hub_was_restarted() -> Result<()> {
    let mut site = Site::start("restart").await?;
    let first = site.deliver(&greeting(&site.name, "one")).await?;
    site.assigned(&first, AssignmentState::Updated).await?;

    site.stop_hub().await?;
    site.start_hub().await?;
    site.condition("Connected").await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    let second = site.deliver(&greeting(&site.name, "two")).await?;
    site.assigned(&second, AssignmentState::Updated).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("two")).await?;
    Ok(())
}

/// How often the hub is killed. An agent that is cut off soon after it connected waits longer each time.
const KILLS: u32 = 4;

/// Whatever was answered is on disk: a new version is on its way although the hub was killed right after it said yes.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_killed_hub_answered_still_happens() -> Result<()> {
    let mut site = Site::start("hub-killed").await?;
    site.stop_hub().await?;
    site.start_hub_program().await?;
    let mut last = String::new();
    for number in 0..KILLS {
        let said = format!("number {number}");
        let bundle = site.deliver(&greeting(&site.name, &said)).await?;
        if number % 2 == 1 {
            site.assignment("the hub to sign it", |status| status.bundle == bundle).await?;
        }
        site.kill_hub()?;
        // The agent goes on alone meanwhile.
        if number > 0 {
            site.kubectl(&["delete", "configmap", "greeting"]).await?;
            site.get_again("configmap", "greeting").await?;
        }
        site.start_hub_program().await?;
        site.assigned(&bundle, AssignmentState::Updated).await?;
        site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!(said)).await?;
        last = bundle;
    }
    let status = site.agent_status().await?;
    let refused: Vec<_> = status.conditions.iter().filter(|one| one.kind.starts_with("Refused")).collect();
    ensure!(refused.is_empty(), "the agent found fault with what it was told: {refused:#?}");
    println!("{KILLS} kills, each behind an answer; {last} runs");
    Ok(())
}
