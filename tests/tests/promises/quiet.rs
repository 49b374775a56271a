//! A cluster that goes quiet is offline: not failed, not healthy, not gone.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use edge_agent::config::Config;
use fleet_broker::resources::{ApplicationClusters, AssignmentState, Cluster};
use serde_json::json;

use crate::harness::{APPLICATION, Site, condition, condition_is};
use crate::manifests::greeting;

/// The shortest that an agent takes: how soon the hub notices that nothing comes.
const KEEPALIVE_SECONDS: u16 = 5;

#[tokio::test(flavor = "multi_thread")]
async fn a_cluster_that_goes_quiet_is_offline_and_nothing_else() -> Result<()> {
    let mut site = Site::start("quiet").await?;
    let mut config = Config::load(&site.state().config())?;
    config.keepalive_seconds = KEEPALIVE_SECONDS;
    fs::write(site.state().config(), config.to_text()?)?;
    site.kill_agent()?;
    site.start_agent()?;
    let first = site.deliver(&greeting(&site.name, "one")).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    let everything =
        |cluster: &Cluster| shows(cluster, [("True", "LinkUp"), ("True", "UpToDate"), ("True", "Healthy")]);
    site.cluster("a cluster that is as it should be", everything).await?;

    // Neither end is told: only the silence tells.
    site.link.silence();
    let unknown = ("Unknown", "Offline");
    let quiet = |cluster: &Cluster| shows(cluster, [("False", "Offline"), unknown, unknown]);
    site.cluster("a quiet cluster", quiet).await?;
    let shown = site.assigned(&first, AssignmentState::Updated).await?;
    ensure!(shown.message.is_none(), "{shown:#?}");
    counts(&site, |counts| counts.updated == 1 && counts.available == 1).await?;

    // What it cannot know of is put off, and is no fault of what it runs.
    let second = site.deliver(&greeting(&site.name, "two")).await?;
    let shown = site.assigned(&second, AssignmentState::Deferred).await?;
    println!("put off: {:?}", shown.message);
    let behind = |cluster: &Cluster| shows(cluster, [("False", "Offline"), ("False", "Behind"), unknown]);
    let cluster = site.cluster("a quiet cluster that is behind", behind).await?;
    println!("Synced: {:?}", condition(&cluster, "Synced"));
    counts(&site, |counts| counts.updated == 0 && counts.available == 0).await?;

    site.link.restore();
    site.assigned(&second, AssignmentState::Updated).await?;
    site.cluster("a cluster that is as it should be", everything).await?;
    Ok(())
}

/// A reboot without a link makes no difference to what runs.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_started_without_a_link_goes_on_healing() -> Result<()> {
    let mut site = Site::start("unlinked").await?;
    let bundle = site.deliver(&greeting(&site.name, "one")).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    site.link.cut();
    site.is_offline().await?;
    for start in 1..=3 {
        site.kill_agent()?;
        site.kubectl(&["patch", "configmap", "greeting", "-p", r#"{"data":{"GREETING":"mine"}}"#]).await?;
        site.start_agent()?;
        site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("one")).await?;
        println!("healed after start {start} without a link");
        // And while it runs.
        site.kubectl(&["delete", "configmap", "greeting"]).await?;
        site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("one")).await?;
    }
    let shown = site.assigned(&bundle, AssignmentState::Updated).await?;
    ensure!(shown.message.is_none(), "{shown:#?}");
    site.is_offline().await?;
    site.link.restore();
    site.condition("Connected").await?;
    let told = |status: &fleet_broker::resources::AssignmentStatus| {
        let drifted = status.conditions.iter().find(|one| one.type_ == "Drifted");
        status.state == AssignmentState::Updated
            && drifted.is_some_and(|one| one.status == "False" && one.message.contains("ConfigMap"))
    };
    let shown = site.assignment("a report of what was healed meanwhile", told).await?;
    let drifted = shown.conditions.iter().find(|one| one.type_ == "Drifted").context("it is there")?;
    println!("{}", drifted.message);
    Ok(())
}

/// Whether connected, synced and available are each as they should be: status and reason.
fn shows(cluster: &Cluster, wanted: [(&str, &str); 3]) -> bool {
    let kinds = ["Connected", "Synced", "Available"];
    let is = |(kind, (status, reason)): (&str, (&str, &str))| {
        condition_is(cluster, kind, status)
            && condition(cluster, kind).is_some_and(|[_, found, _]| found == reason)
    };
    kinds.into_iter().zip(wanted).all(is)
}

/// Waits until the application counts one cluster, offline and not failed, that is as `wanted`.
async fn counts(site: &Site, wanted: impl Fn(&ApplicationClusters) -> bool) -> Result<()> {
    tests::wait_for("counts of the application", crate::harness::SOON, async || {
        let applications = site.operator.applications().await?;
        let found = applications.iter().find(|one| one.metadata.name.as_deref() == Some(APPLICATION));
        let counts = found.and_then(|one| one.status.as_ref()?.clusters).context("it has counts")?;
        ensure!(
            counts.desired == 1 && counts.failed == 0 && counts.offline == 1 && wanted(&counts),
            "{counts:?}"
        );
        Ok(())
    })
    .await
}
