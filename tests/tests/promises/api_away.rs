//! While the API server is away, nothing is lost, the hub says so, and the agent does not knock without end.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::AssignmentState;
use serde_json::{Value, json};
use tests::wait_for;

use crate::harness::{SOON, Site, condition, condition_is};

/// More than the connections of an agent that waits between its tries, and fewer than of one that tries for each
/// object.
const OBJECTS: usize = 60;

/// Tries that an outage lasts for.
const TRIES: usize = 8;

#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_while_the_api_server_is_cut_off_is_applied_when_it_is_back() -> Result<()> {
    let mut site = Site::start("cutoff").await?;
    let first = site.deliver(&manifests(&site.name, 1)).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    let before = site.api.connections();
    site.api.cut();
    let since = now();
    let second = site.deliver(&manifests(&site.name, OBJECTS)).await?;
    println!("{} after {:.1} s", says_why(&site).await?, since.elapsed().as_secs_f64());
    site.assigned(&second, AssignmentState::Applying).await?;
    wait_for("more tries", SOON, async || {
        let tries = site.api.connections() - before;
        ensure!(tries >= TRIES, "{tries} connections");
        Ok(())
    })
    .await?;
    let tries = site.api.connections() - before;
    println!("{tries} connections in {:.1} s without the API server", since.elapsed().as_secs_f64());
    ensure!(tries < OBJECTS, "{tries} connections");
    site.api.restore();
    let since = now();
    is_complete(&site, &second).await?;
    let tries = site.api.connections() - before - tries;
    println!("complete {:.1} s after it was back, {tries} more connections", since.elapsed().as_secs_f64());
    ensure!(tries < OBJECTS, "{tries} connections");
    Ok(())
}

/// Nobody closes a connection, and nothing is answered.
#[tokio::test(flavor = "multi_thread")]
async fn a_change_that_comes_while_the_api_server_is_silent_is_applied_when_it_is_back() -> Result<()> {
    let mut site = Site::start("silent").await?;
    let first = site.deliver(&manifests(&site.name, 1)).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    let before = site.api.connections();
    site.api.silence();
    let since = now();
    let second = site.deliver(&manifests(&site.name, OBJECTS)).await?;
    println!("{} after {:.1} s", says_why(&site).await?, since.elapsed().as_secs_f64());
    site.assigned(&second, AssignmentState::Applying).await?;
    site.api.restore();
    let since = now();
    is_complete(&site, &second).await?;
    let tries = site.api.connections() - before;
    println!("complete {:.1} s after it was back, {tries} connections", since.elapsed().as_secs_f64());
    ensure!(tries < OBJECTS, "{tries} connections");
    Ok(())
}

/// Neither hub nor API server is there when the agent starts, and only the API server comes back.
#[tokio::test(flavor = "multi_thread")]
async fn an_agent_started_alone_heals_when_only_the_api_server_returns() -> Result<()> {
    let mut site = Site::start("desert").await?;
    let bundle = site.deliver(&manifests(&site.name, 2)).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    site.kill_agent()?;
    site.link.cut();
    site.api.cut();
    site.kubectl(&["delete", "configmap", "part-0"]).await?;
    site.kubectl(&["patch", "configmap", "part-1", "-p", r#"{"data":{"a":"mine"}}"#]).await?;
    site.start_agent()?;
    let status = wait_for("a status of the agent that is alone", SOON, async || {
        let status: Value = serde_json::from_str(&site.status(&["--json"])?)?;
        let conditions = status["conditions"].as_array().context("it has conditions")?;
        let away = |one: &&Value| one["type"] == "KubernetesReady" && one["status"] == "False";
        ensure!(conditions.iter().any(|one| away(&one)), "{status:#}");
        Ok(status)
    })
    .await?;
    ensure!(status["hub"]["connected"] == json!(false) && status["desired"].is_string(), "{status:#}");
    println!("{}", site.status(&[])?);

    site.api.restore();
    site.object("configmap", "part-0", |found| found["data"]["a"] == json!("b")).await?;
    site.object("configmap", "part-1", |found| found["data"]["a"] == json!("b")).await?;
    site.is_offline().await?;
    site.link.restore();
    site.condition("Connected").await?;
    site.condition("KubernetesReady").await?;
    is_complete_with(&site, &bundle, 2).await
}

/// What the hub says of an API server that is away.
async fn says_why(site: &Site) -> Result<String> {
    let away =
        site.cluster("no API server", |cluster| condition_is(cluster, "KubernetesReady", "False")).await?;
    ensure!(condition_is(&away, "Connected", "True"), "the link has nothing to do with it");
    let [status, reason, message] = condition(&away, "KubernetesReady").context("it is told")?;
    ensure!(!message.is_empty(), "{reason} without a message");
    Ok(format!("KubernetesReady {status}: {reason}: {message}"))
}

async fn is_complete(site: &Site, bundle: &str) -> Result<()> {
    is_complete_with(site, bundle, OBJECTS).await
}

async fn is_complete_with(site: &Site, bundle: &str, objects: usize) -> Result<()> {
    site.assigned(bundle, AssignmentState::Updated).await?;
    for number in 0..objects {
        site.get("configmap", &format!("part-{number}")).await?;
    }
    site.condition("KubernetesReady").await
}

#[allow(clippy::disallowed_methods, reason = "how long it took is what is printed")]
fn now() -> Instant {
    Instant::now()
}

fn manifests(namespace: &str, objects: usize) -> String {
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {namespace}}}\n");
    (0..objects).fold(namespace, |text, number| {
        format!(
            "{text}---\napiVersion: v1\nkind: ConfigMap\nmetadata: {{name: part-{number}}}\ndata: {{a: b}}\n"
        )
    })
}
