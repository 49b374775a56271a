//! Killed at any moment, the agent goes on from its journal to the same end.

use anyhow::Result;
use fleet_broker::resources::AssignmentState;

use crate::harness::Site;

/// Enough that a kill falls into the middle of them.
const OBJECTS: usize = 60;

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_right_after_a_push_reaches_the_same_state() -> Result<()> {
    let mut site = Site::start("killed").await?;
    let bundle = site.deliver(&manifests(&site.name)).await?;
    site.kill_agent()?;
    site.start_agent()?;
    is_complete(&site, &bundle).await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_while_it_applies_reaches_the_same_state() -> Result<()> {
    let mut site = Site::start("halfway").await?;
    let bundle = site.deliver(&manifests(&site.name)).await?;
    site.object("configmap", "part-5", |_| true).await?;
    site.kill_agent()?;
    site.start_agent()?;
    is_complete(&site, &bundle).await
}

/// The hub's word goes with the agent's life: what was not yet applied is applied from the journal alone.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_killed_before_it_could_apply_goes_on_without_the_hub() -> Result<()> {
    let mut site = Site::start("alone").await?;
    site.api.cut();
    let bundle = site.deliver(&manifests(&site.name)).await?;
    site.assigned(&bundle, AssignmentState::Applying).await?;
    site.kill_agent()?;
    site.link.cut();
    site.api.restore();
    site.start_agent()?;
    site.object("configmap", &format!("part-{}", OBJECTS - 1), |_| true).await?;
    site.link.restore();
    is_complete(&site, &bundle).await
}

async fn is_complete(site: &Site, bundle: &str) -> Result<()> {
    site.assigned(bundle, AssignmentState::Updated).await?;
    for number in 0..OBJECTS {
        site.get("configmap", &format!("part-{number}")).await?;
    }
    Ok(())
}

fn manifests(namespace: &str) -> String {
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    (0..OBJECTS).fold(namespace, |text, number| {
        format!(
            "{text}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: part-{number}}}\ndata: {{a: b}}\n"
        )
    })
}
