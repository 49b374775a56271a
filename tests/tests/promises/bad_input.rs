//! What only a cluster can refuse is named at the hub, with what to do; all else of the release is applied, and
//! what was missing is used as soon as it is there.

use anyhow::{Result, ensure};
use fleet_broker::resources::AssignmentState;

use crate::harness::Site;
use crate::manifests::WEB;

/// Longest data of a ConfigMap that an API server takes.
const CONFIG_BYTES: usize = 1 << 20;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_cluster_refuses_is_named_and_the_rest_is_applied() -> Result<()> {
    let mut site = Site::start_with("input", &["input-*"]).await?;
    let namespace = site.name.clone();
    let absent = format!("{namespace}-absent");
    let large = "x".repeat(CONFIG_BYTES);
    let cases = [
        (
            "apiVersion: apps/v1beta1\nkind: Deployment\nmetadata: {name: bad}\nspec: {}".to_owned(),
            format!("Deployment {namespace}/bad"),
            "UnknownKind: the cluster does not serve Deployment.v1beta1.apps: write a version that `kubectl \
             api-versions` lists"
                .to_owned(),
        ),
        (
            format!(
                "apiVersion: example.com/v1\nkind: Mast\nmetadata: {{name: bad, namespace: {namespace}}}"
            ),
            format!("Mast {namespace}/bad"),
            "UnknownKind: the cluster does not serve Mast.v1.example.com: write a version that `kubectl \
             api-versions` lists, or install its CustomResourceDefinition"
                .to_owned(),
        ),
        (
            format!(
                "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bad}}\ndata: {{a: b, large: {large}}}"
            ),
            format!("ConfigMap {namespace}/bad"),
            format!("Invalid: ConfigMap {namespace}/bad is invalid: "),
        ),
        (
            format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: bad, namespace: {absent}}}"),
            format!("ConfigMap {absent}/bad"),
            format!(
                "NamespaceMissing: namespace {absent} of ConfigMap {absent}/bad does not exist: create it, or add \
                 it to a bundle"
            ),
        ),
    ];
    let mut bundle = String::new();
    for (number, (bad, object, message)) in cases.iter().enumerate() {
        bundle = site.deliver(&manifests(&namespace, bad, number)).await?;
        let shown = site.assigned(&bundle, AssignmentState::Failed).await?;
        ensure!(shown.worst_object.as_ref() == Some(object), "{shown:#?}");
        ensure!(shown.message.as_ref().is_some_and(|found| found.starts_with(message)), "{shown:#?}");
        // Before the bad one in the order of applying, and behind it.
        site.get("configmap", &format!("good-{number}")).await?;
        site.object("deployment", "web", |found| found["status"]["availableReplicas"] == 1).await?;
        println!("{}", shown.message.unwrap_or_default());
    }

    // The last of them was only early.
    site.kubectl(&["create", "namespace", &absent]).await?;
    let healed = site.assigned(&bundle, AssignmentState::Updated).await;
    site.kubectl(&["delete", "namespace", &absent, "--wait=false"]).await?;
    healed.map(drop)
}

fn manifests(namespace: &str, bad: &str, number: usize) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: good-{number}}}
---
{bad}
---
{WEB}
"
    )
}
