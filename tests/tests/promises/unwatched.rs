//! An agent that may not watch a kind says so, at the hub and at the site, applies what it may, and says no more of it
//! once it may.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::AssignmentState;
use serde_json::{Value, json};

use crate::{
    harness::{SOON, Site},
    manifests::greeting,
};

const CONDITION: &str = "WatchFailed";

/// Rights of an agent that runs namespaces and config maps.
struct Rights<'a> {
    site: &'a Site,
    /// The name of the role and its binding, which belong to the whole cluster.
    name: String,
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kind_that_may_not_be_watched_is_told() -> Result<()> {
    let mut site = Site::start("unwatched").await?;
    let bundle = site.deliver(&greeting(&site.name, "hello")).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;

    site.stop_agent().await?;
    let token = Rights::of(&site).give().await?;
    use_token(&site, &token)?;
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

    Rights::of(&site).widen().await?;
    site.condition_gone(CONDITION).await?;
    site.kubectl(&["patch", "configmap", "greeting", "-p", r#"{"data":{"GREETING":"mine"}}"#]).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("again")).await?;
    Rights::of(&site).take().await
}

/// Has the agent speak to the API server as whoever holds `token`.
fn use_token(site: &Site, token: &str) -> Result<()> {
    let path = site.folder.path().join("kubeconfig");
    let mut config: Value = serde_json::from_str(&fs::read_to_string(&path)?)?;
    *config.pointer_mut("/users/0/user").context("a kubeconfig has a user")? = json!({"token": token});
    Ok(fs::write(path, config.to_string())?)
}

impl<'a> Rights<'a> {
    fn of(site: &'a Site) -> Self {
        Self { site, name: format!("{}-agent", site.name) }
    }

    /// Makes an account that may do everything but list and watch config maps, and returns a token of it.
    async fn give(&self) -> Result<String> {
        let Self { site, name } = self;
        let account = format!("{}:agent", site.name);
        site.kubectl(&["create", "serviceaccount", "agent"]).await?;
        self.put_role("get,create,patch,update,delete").await?;
        let binding =
            ["create", "clusterrolebinding", name, "--clusterrole", name, "--serviceaccount", &account];
        site.kubectl(&binding).await?;
        let token = site.kubectl(&["create", "token", "agent", "--duration", "1h"]).await?;
        Ok(token.trim().to_owned())
    }

    async fn widen(&self) -> Result<()> {
        self.put_role("get,list,watch,create,patch,update,delete").await
    }

    async fn put_role(&self, verbs: &str) -> Result<()> {
        let verbs: Vec<&str> = verbs.split(',').collect();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1",
            "kind": "ClusterRole",
            "metadata": {"name": self.name},
            "rules": [
                {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["*"]},
                {"apiGroups": [""], "resources": ["configmaps"], "verbs": verbs},
            ],
        });
        let arguments = ["apply", "--server-side", "-f", "-"];
        self.site.kubectl.run_with_input(&arguments, &role.to_string()).await.map(drop)
    }

    async fn take(&self) -> Result<()> {
        let wait = format!("--timeout={}s", SOON.as_secs());
        self.site.kubectl(&["delete", "clusterrole,clusterrolebinding", &self.name, &wait]).await.map(drop)
    }
}
