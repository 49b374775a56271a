//! The agent needs the hub for news only.

use anyhow::Result;
use fleet_broker::resources::AssignmentState;
use serde_json::json;

use crate::harness::Site;
use crate::manifests::TWO_WEBS;

#[tokio::test(flavor = "multi_thread")]
async fn what_is_changed_by_hand_is_healed_while_the_link_is_cut() -> Result<()> {
    let mut site = Site::start("offline").await?;
    let manifests = manifests(&site.name);
    let bundle = site.deliver(&manifests).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    let uid = site.get("configmap", "greeting").await?["metadata"]["uid"].clone();

    site.link.cut();
    site.is_offline().await?;
    site.kubectl(&["scale", "deployment/web", "--replicas=5"]).await?;
    site.kubectl(&["delete", "configmap", "greeting"]).await?;
    site.object("deployment", "web", |found| found["spec"]["replicas"] == json!(2)).await?;
    site.object("configmap", "greeting", |found| {
        found["data"]["GREETING"] == json!("hello") && found["metadata"]["uid"] != uid
    })
    .await?;

    site.link.restore();
    site.condition("Connected").await?;
    site.assignment("a report of who changed what", |status| {
        let drifted = status.conditions.iter().find(|one| one.type_ == "Drifted");
        let told = |text: &str| drifted.is_some_and(|one| one.message.contains(text));
        status.state == AssignmentState::Updated
            && drifted.is_some_and(|one| one.status == "False")
            && told(&format!("Deployment {}/web was changed by kubectl", site.name))
    })
    .await?;
    Ok(())
}

fn manifests(namespace: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: greeting}}
data: {{GREETING: hello}}
---
{TWO_WEBS}
"
    )
}
