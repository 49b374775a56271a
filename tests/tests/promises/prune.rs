//! What a new version no longer holds is deleted, nothing else is, and never too much at once.

use anyhow::{Result, ensure};
use fleet_broker::resources::AssignmentState;
use tests::wait_for;

use crate::harness::{APPLICATION, SOON, Site};

/// One more than may be deleted at once, whatever the share of it.
const TOO_MANY: usize = 11;

#[tokio::test(flavor = "multi_thread")]
async fn only_what_was_applied_and_left_out_is_deleted() -> Result<()> {
    let mut site = Site::start("prune").await?;
    let first = site.deliver(&manifests(&site.name, &["kept", "dropped"])).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    site.kubectl(&["create", "configmap", "foreign", "--from-literal=a=b"]).await?;
    let uid = |object: serde_json::Value| object["metadata"]["uid"].clone();
    let (kept, foreign) =
        (uid(site.get("configmap", "kept").await?), uid(site.get("configmap", "foreign").await?));

    let second = site.deliver(&manifests(&site.name, &["kept"])).await?;
    site.assigned(&second, AssignmentState::Updated).await?;
    site.gone("configmap", "dropped").await?;
    ensure!(uid(site.get("configmap", "kept").await?) == kept, "what is kept was made anew");
    ensure!(uid(site.get("configmap", "foreign").await?) == foreign, "what is not ours was touched");
    Ok(())
}

/// The object has the name of ours, but somebody else made it after ours was deleted while nobody looked.
#[tokio::test(flavor = "multi_thread")]
async fn a_namesake_is_not_deleted() -> Result<()> {
    let mut site = Site::start("namesake").await?;
    let first = site.deliver(&manifests(&site.name, &["kept", "dropped"])).await?;
    site.assigned(&first, AssignmentState::Updated).await?;

    site.kill_agent()?;
    site.kubectl(&["delete", "configmap", "dropped"]).await?;
    site.kubectl(&["create", "configmap", "dropped", "--from-literal=by=hand"]).await?;
    let second = site.deliver(&manifests(&site.name, &["kept"])).await?;
    site.start_agent()?;
    site.assignment("nothing left to delete", |status| {
        let applied = status.conditions.iter().any(|one| one.type_ == "Applied" && one.status == "True");
        status.bundle == second && applied
    })
    .await?;
    let found = site.get("configmap", "dropped").await?;
    ensure!(found["data"]["by"] == "hand", "{found:#}");
    Ok(())
}

/// Whatever its cluster cannot reach meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn an_application_that_is_to_go_is_shown_until_it_is_gone() -> Result<()> {
    let mut site = Site::start("leaving").await?;
    let bundle = site.publish(APPLICATION, &manifests(&site.name, &["kept"])).await?;
    let name = site.place(&bundle).await?;
    site.assigned(&name, AssignmentState::Updated).await?;

    site.api.cut();
    site.remove(&bundle).await?;
    site.assigned(&name, AssignmentState::Removing).await?;
    site.link.cut();
    site.is_offline().await?;
    site.assigned(&name, AssignmentState::Removing).await?;
    site.get("configmap", "kept").await?;

    site.api.restore();
    site.gone("configmap", "kept").await?;
    site.assigned(&name, AssignmentState::Removing).await?;
    site.link.restore();
    wait_for("the end of the assignment", SOON, async || {
        let shown = site.operator.assignments().await?;
        ensure!(shown.is_empty(), "{shown:#?}");
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn too_much_is_not_deleted_at_once() -> Result<()> {
    let mut site = Site::start("guard").await?;
    let numbered: Vec<String> = (0..TOO_MANY).map(|number| format!("dropped-{number}")).collect();
    let all: Vec<&str> = ["kept"].into_iter().chain(numbered.iter().map(String::as_str)).collect();
    let first = site.deliver(&manifests(&site.name, &all)).await?;
    site.assigned(&first, AssignmentState::Updated).await?;

    let second = site.deliver(&manifests(&site.name, &["kept"])).await?;
    let refusal = format!("{TOO_MANY} objects would be deleted, 10 are allowed");
    site.assignment(&refusal, |status| {
        let applied = status.conditions.iter().find(|one| one.type_ == "Applied");
        status.bundle == second
            && status.state == AssignmentState::Failed
            && applied.is_some_and(|one| one.status == "False" && one.message.contains(&refusal))
            && status.message.as_ref().is_some_and(|message| message.starts_with("PruneRefused: "))
    })
    .await?;

    // One fewer may be deleted: until then nothing was, and afterwards all but the one that came back is gone.
    for name in &numbered {
        site.get("configmap", name).await?;
    }
    let third = site.deliver(&manifests(&site.name, &["kept", "dropped-0"])).await?;
    site.assigned(&third, AssignmentState::Updated).await?;
    for name in &numbered[1..] {
        site.gone("configmap", name).await?;
    }
    site.get("configmap", "dropped-0").await?;
    Ok(())
}

fn manifests(namespace: &str, names: &[&str]) -> String {
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    names.iter().fold(namespace, |text, name| {
        format!("{text}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{a: b}}\n")
    })
}
