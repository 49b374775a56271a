//! A revoked cluster is refused for ever, and left alone.

use std::fs;

use anyhow::{Result, ensure};
use fleet_broker::{resources::AssignmentState, serve::KUBECONFIG};
use protocol::ids::ClusterId;
use serde_json::json;
use tests::{Kubectl, wait_for};

use crate::{
    harness::{SOON, Site, condition},
    manifests::TWO_WEBS,
};

const REASON: &str = "stolen from the mast";

#[tokio::test(flavor = "multi_thread")]
async fn a_revoked_cluster_is_refused_for_ever_and_goes_on_healing_what_it_runs() -> Result<()> {
    let mut site = Site::start("revoked").await?;
    let cluster = ClusterId::new(&*site.name)?;
    let manifests =
        format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n---\n{TWO_WEBS}", site.name);
    let bundle = site.deliver(&manifests).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;

    let revoked = site.operator.revoke(&cluster, REASON).await?;
    ensure!(revoked.was_connected && revoked.reason == REASON, "{revoked:?}");
    site.is_offline().await?;
    is_shown(&site).await?;
    is_told_at_the_site(&site).await?;

    site.kubectl(&["scale", "deployment/web", "--replicas=5"]).await?;
    site.object("deployment", "web", |found| found["spec"]["replicas"] == json!(2)).await?;

    // Neither a restart of the hub nor a new object of the same name changes anything, and the first reason stays.
    site.stop_hub().await?;
    site.start_hub().await?;
    is_shown(&site).await?;
    delete_object(&site).await?;
    site.operator.add_cluster(&cluster, &[("stage".to_owned(), "test".to_owned())]).await?;
    let again = site.operator.revoke(&cluster, "another").await?;
    ensure!(!again.was_connected && again.reason == REASON && again.key == revoked.key, "{again:?}");
    is_shown(&site).await?;
    site.stop_agent().await?;
    site.start_agent()?;
    is_told_at_the_site(&site).await?;
    ensure!(site.get("deployment", "web").await?["spec"]["replicas"] == json!(2), "it was left alone");

    // A new machine joins as the cluster; the revoked key stays out.
    site.stop_agent().await?;
    let stolen = site.folder.path().join("stolen");
    fs::rename(site.state().folder(), &stolen)?;
    site.join().await?;
    site.start_agent()?;
    site.condition("Connected").await?;
    site.condition_gone("Revoked").await?;
    site.stop_agent().await?;
    site.is_offline().await?;
    fs::remove_dir_all(site.state().folder())?;
    fs::rename(&stolen, site.state().folder())?;
    site.start_agent()?;
    is_told_at_the_site(&site).await
}

/// Deletes the Cluster object as an operator does.
async fn delete_object(site: &Site) -> Result<()> {
    let kubeconfig = site.folder.path().join("hub").join(KUBECONFIG);
    Kubectl::new(kubeconfig)?.run(&["delete", "cluster", &site.name]).await.map(drop)
}

/// The hub says that the cluster is revoked and why, and does not see it.
async fn is_shown(site: &Site) -> Result<()> {
    let shown = |cluster: &_| {
        condition(cluster, "Revoked") == Some(["True", "KeyRevoked", REASON])
            && condition(cluster, "Connected").is_some_and(|[status, ..]| status == "False")
    };
    site.cluster("revoked", shown).await.map(drop)
}

/// The agent says at the site that it was refused, why, and what to do.
async fn is_told_at_the_site(site: &Site) -> Result<()> {
    wait_for("the refusal at the site", SOON, async || {
        let text = site.status(&[])?;
        let told = ["not connected", "revoked", REASON, "ask for a join code"];
        ensure!(told.iter().all(|part| text.contains(part)), "{text}");
        Ok(())
    })
    .await
}
