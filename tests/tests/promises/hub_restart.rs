//! The hub comes back as it was.

use anyhow::Result;
use fleet_broker::resources::AssignmentState;
use serde_json::json;

use crate::harness::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_new_version_is_delivered_after_the_hub_was_restarted() -> Result<()> {
    let mut site = Site::start("restart").await?;
    let first = site.deliver(&manifests(&site.name, "one")).await?;
    site.assigned(&first, AssignmentState::Updated).await?;

    site.stop_hub().await?;
    site.start_hub().await?;
    site.condition("Connected").await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    let second = site.deliver(&manifests(&site.name, "two")).await?;
    site.assigned(&second, AssignmentState::Updated).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("two")).await?;
    Ok(())
}

fn manifests(namespace: &str, greeting: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: greeting}}
data: {{GREETING: {greeting}}}
"
    )
}
