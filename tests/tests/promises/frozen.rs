//! A freeze stops every start, and nothing that keeps running what runs.

use anyhow::Result;
use fleet_broker::resources::{AssignmentState, FreezeSpec};
use serde_json::json;

use crate::harness::{APPLICATION, Site, name_of};
use crate::manifests::greeting;
use crate::restored::waits;

#[tokio::test(flavor = "multi_thread")]
async fn a_freeze_stops_starts_and_no_healing() -> Result<()> {
    let mut site = Site::start("frozen").await?;
    let first = site.deliver(&greeting(&site.name, "hello")).await?;
    site.assigned(&first, AssignmentState::Updated).await?;

    let reason = "trade fair".to_owned();
    let everything = FreezeSpec { reason, tenant: None, cluster_selector: None };
    site.operator.put_freeze("fleet", &everything).await?;
    let second = site.publish(APPLICATION, &greeting(&site.name, "changed")).await?;
    site.place(&second).await?;
    waits(&site, APPLICATION, "1 cluster waits, frozen by fleet (trade fair)").await?;
    let before = site.get("configmap", "greeting").await?["metadata"]["uid"].clone();
    site.kubectl(&["delete", "configmap", "greeting"]).await?;
    site.object("configmap", "greeting", |found| {
        found["data"]["GREETING"] == json!("hello") && found["metadata"]["uid"] != before
    })
    .await?;

    site.operator.delete_freeze("fleet", "the fair is over").await?;
    site.assigned(&name_of(&second), AssignmentState::Updated).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("changed")).await?;
    Ok(())
}
