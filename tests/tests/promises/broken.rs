//! One bad object does not stop the others, and is named.

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::AssignmentState;

use crate::harness::Site;
use crate::manifests::WEB;

#[tokio::test(flavor = "multi_thread")]
async fn an_invalid_object_is_named_and_the_others_are_applied() -> Result<()> {
    let mut site = Site::start("broken").await?;
    let bundle = site.deliver(&manifests(&site.name)).await?;
    let shown = site.assigned(&bundle, AssignmentState::Failed).await?;
    ensure!(shown.worst_object == Some(format!("Service {}/bad", site.name)), "{shown:#?}");
    let message = shown.message.context("it says why")?;
    ensure!(message.contains("spec.ports[0].port") && message.contains("70000"), "{message}");
    // After the bad one in the order of applying, before it, and beside it.
    site.object("deployment", "web", |found| found["status"]["availableReplicas"] == 1).await?;
    site.get("configmap", "greeting").await?;
    site.get("service", "good").await?;
    site.gone("service", "bad").await
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
apiVersion: v1
kind: Service
metadata: {{name: bad}}
spec: {{ports: [{{port: 70000}}]}}
---
apiVersion: v1
kind: Service
metadata: {{name: good}}
spec: {{ports: [{{port: 80}}]}}
---
{WEB}
"
    )
}
