//! An agent that may not watch a kind says so, at the hub and at the site, applies what it may, and says no more of it
//! once it may.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::AssignmentState;
use serde_json::{Value, json};

use crate::{harness::Site, manifests::greeting};

const CONDITION: &str = "WatchFailed";

const API_GROUP: &str = "rbac.authorization.k8s.io";

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_may_not_be_watched_is_told() -> Result<()> {
    let mut site = Site::start("unwatched").await?;
    let bundle = site.deliver(&greeting(&site.name, "hello")).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;

    site.stop_agent().await?;
    site.kubectl(&["create", "serviceaccount", "agent"]).await?;
    allow(&site, &["get", "create", "patch", "update", "delete"]).await?;
    let token = site.kubectl(&["create", "token", "agent", "--duration", "1h"]).await?;
    use_token(&site, token.trim())?;
    site.start_agent()?;
    let told = site.told(CONDITION).await?;
    ensure!(told.starts_with("changes of ConfigMap.v1 are not seen: "), "{told}");
    ensure!(told.contains("configmaps is forbidden") && told.contains(&site.name), "{told}");
    let here = site.status(&[])?;
    ensure!(here.contains(CONDITION) && here.contains("configmaps is forbidden"), "{here}");
    println!("{told}");

    // What may be done without watching is done.
    let bundle = site.deliver(&greeting(&site.name, "again")).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("again")).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;

    allow(&site, &["get", "list", "watch", "create", "patch", "update", "delete"]).await?;
    site.condition_gone(CONDITION).await?;
    site.kubectl(&["patch", "configmap", "greeting", "-p", r#"{"data":{"GREETING":"mine"}}"#]).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("again")).await?;
    Ok(())
}

/// Has the agent speak to the API server as whoever holds `token`.
fn use_token(site: &Site, token: &str) -> Result<()> {
    let path = site.folder.path().join("kubeconfig");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    *config.pointer_mut("/users/0/user").context("a kubeconfig has a user")? = json!({"token": token});
    Ok(fs::write(path, config.to_string())?)
}

/// Lets the account `agent` do this with config maps, and everything with namespaces. Its role and binding are the whole
/// cluster's, and go with the site's namespace.
async fn allow(site: &Site, verbs: &[&str]) -> Result<()> {
    let namespace = site.get("namespace", &site.name).await?;
    let owner = json!({"apiVersion": "v1", "kind": "Namespace", "name": site.name, "uid": namespace["metadata"]["uid"]});
    let name = format!("{}-agent", site.name);
    let metadata = json!({"name": name, "ownerReferences": [owner]});
    let role = json!({
        "apiVersion": format!("{API_GROUP}/v1"),
        "kind": "ClusterRole",
        "metadata": metadata,
        "rules": [
            {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs},
        ],
    });
    let binding = json!({
        "apiVersion": format!("{API_GROUP}/v1"),
        "kind": "ClusterRoleBinding",
        "metadata": metadata,
        "roleRef": {"apiGroup": API_GROUP, "kind": "ClusterRole", "name": name},
        "subjects": [{"kind": "ServiceAccount", "namespace": site.name, "name": "agent"}],
    });
    let both = json!({"apiVersion": "v1", "kind": "List", "items": [role, binding]});
    site.kubectl.run_with_input(&["apply", "--server-side", "-f", "-"], &both.to_string()).await.map(drop)
}
