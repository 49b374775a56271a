//! A bundle that was signed and placed arrives, runs, and is known to run.

use std::time::Instant;

use anyhow::{Result, ensure};
use fleet_broker::resources::AssignmentState;
use serde_json::{Value, json};

use crate::harness::Site;
use crate::manifests::{TWO_WEBS, WEB_SERVICE};

#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_arrives_and_is_healthy() -> Result<()> {
    let mut site = Site::start("arrives").await?;
    let group = format!("{}.example.com", site.name);
    let bundle = site.deliver(&manifests(&site.name, &group)).await?;

    // All but the custom resource, which nobody has answered for yet.
    let shown = site
        .assignment("only the custom resource to be waited for", |status| {
            let applied = status.conditions.iter().any(|one| one.type_ == "Applied" && one.status == "True");
            applied && status.worst_object.as_deref().is_some_and(|object| object.starts_with("Tower "))
        })
        .await?;
    ensure!(shown.state == AssignmentState::Applying, "{shown:#?}");
    let answered = r#"{"status":{"conditions":[{"type":"Ready","status":"True","reason":"Up"}]}}"#;
    site.kubectl(&["patch", "tower", "mast", "--subresource=status", "--type=merge", "-p", answered]).await?;
    let since = now();
    site.assigned(&bundle, AssignmentState::Updated).await?;
    println!("the hub knew {:.2} s after the last object was healthy", since.elapsed().as_secs_f64());

    for kind in ["Joined", "Connected", "Synced", "Available", "ClockSynced"] {
        site.condition(kind).await?;
    }
    site.kubectl(&["wait", "deployment/web", "--for=condition=Available", "--timeout=1s"]).await?;
    let apply_set = site.apply_set()?;
    let definition = format!("towers.{group}");
    let namespace = site.name.clone();
    let objects = [
        ("namespace", namespace.as_str()),
        ("customresourcedefinition", definition.as_str()),
        ("configmap", "greeting"),
        ("deployment", "web"),
        ("service", "web"),
        ("tower", "mast"),
    ];
    for (kind, name) in objects {
        is_ours(&site.get(kind, name).await?, &apply_set)?;
    }
    Ok(())
}

/// Anybody can tell whose an object is: by the label of KEP-3659, and by the manager of its fields.
fn is_ours(object: &Value, apply_set: &str) -> Result<()> {
    let label = &object["metadata"]["labels"]["applyset.kubernetes.io/part-of"];
    ensure!(*label == json!(apply_set), "{object:#}");
    let managers = object["metadata"]["managedFields"].as_array().into_iter().flatten();
    let applied = managers.filter(|entry| entry["operation"] == json!("Apply"));
    let names: Vec<&Value> = applied.map(|entry| &entry["manager"]).collect();
    ensure!(names == [&json!("edgefleet")], "{object:#}");
    Ok(())
}

#[allow(clippy::disallowed_methods, reason = "how long it took is what is printed")]
fn now() -> Instant {
    Instant::now()
}

fn manifests(namespace: &str, group: &str) -> String {
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
---
{WEB_SERVICE}
---
apiVersion: {group}/v1
kind: Tower
metadata: {{name: mast}}
spec: {{height: 30}}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {{name: towers.{group}}}
spec:
  group: {group}
  scope: Namespaced
  names: {{kind: Tower, plural: towers, singular: tower}}
  versions:
    - name: v1
      served: true
      storage: true
      subresources: {{status: {{}}}}
      schema:
        openAPIV3Schema:
          type: object
          x-kubernetes-preserve-unknown-fields: true
"
    )
}
