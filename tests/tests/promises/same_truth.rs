//! `edgefleet status CLUSTER` at the hub and `edge-agent status` at the site say the same, and what the hub cannot
//! know it does not say.

use std::{collections::BTreeMap, process::Command};

use anyhow::{Context as _, Result, ensure};
use edge_agent::control::{self, Request};
use fleet_broker::{resources::AssignmentState, serve::KUBECONFIG};
use serde_json::{Value, json};
use tests::{program, wait_for};

use crate::{
    harness::{SOON, Site},
    manifests::{TWO_WEBS, greeting},
    tenants::deceive,
};

/// Conditions of a cluster that the hub judges by itself.
const JUDGED: [&str; 5] = ["Joined", "Connected", "Synced", "Available", "ClockSynced"];

/// What both places have to agree on.
#[derive(Debug, PartialEq)]
struct Told {
    connected: bool,
    desired: String,
    /// The state, as the hub names it, and what is wrong, by application.
    applications: BTreeMap<String, (String, String)>,
    /// What the agent says of its site: status, reason and message.
    conditions: BTreeMap<String, [String; 3]>,
}

#[tokio::test(flavor = "multi_thread")]
async fn the_hub_and_the_site_say_the_same() -> Result<()> {
    let mut site = Site::start("truth").await?;
    let good = format!("{}---\n{TWO_WEBS}\n", greeting(&site.name, "hello"));
    let bundle = site.deliver(&good).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    agree(&site, "healthy", "Updated", "").await?;

    let service = "apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {ports: [{port: 70000}]}";
    let bundle = site.deliver(&format!("{good}---\n{service}\n")).await?;
    site.assigned(&bundle, AssignmentState::Failed).await?;
    agree(&site, "degraded", "Failed", "70000").await?;

    // No honest hub would send it.
    deceive(&mut site).await?;
    let elsewhere = site.other_app()?.tenant;
    let reaching = greeting(elsewhere.as_str(), "hello")
        .replace("greeting}", &format!("greeting, namespace: {elsewhere}}}"));
    let bundle = site.deliver(&reaching).await?;
    site.assigned(&bundle, AssignmentState::Rejected).await?;
    agree(&site, "rejected", "Rejected", &format!("namespace {elsewhere}")).await?;

    let bundle = site.deliver(&good).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    ask(&site, Request::Hold { reason: "crane on site".to_owned() }).await?;
    site.condition("Held").await?;
    let told = agree(&site, "held", "Updated", "").await?;
    ensure!(told.conditions["Held"][2] == "crane on site", "{told:#?}");
    ask(&site, Request::Release).await?;
    site.condition_gone("Held").await?;

    site.api.cut();
    site.cluster("no API server", |cluster| {
        crate::harness::condition_is(cluster, "KubernetesReady", "False")
    })
    .await?;
    agree(&site, "without its API server", "Updated", "").await?;
    site.api.restore();
    site.condition("KubernetesReady").await?;
    agree(&site, "healthy again", "Updated", "").await?;

    site.link.cut();
    site.is_offline().await?;
    knows_nothing(&site).await?;
    site.link.restore();
    site.condition("Connected").await?;
    agree(&site, "back", "Updated", "").await?;
    Ok(())
}

/// Waits until both say the same, and that it is so.
async fn agree(site: &Site, what: &str, state: &str, why: &str) -> Result<Told> {
    wait_for(&format!("one truth while it is {what}"), SOON, async || {
        let there: Value = serde_json::from_str(&site.status(&["--json"])?)?;
        let here: Value = serde_json::from_str(&at_hub(site, &["--format", "json"])?)?;
        let (said, heard) = (from_site(&there)?, from_hub(&here)?);
        ensure!(said == heard, "the site says {said:#?}\nand the hub {heard:#?}");
        let found = said.applications.values().all(|(found, text)| found == state && text.contains(why));
        ensure!(found && said.connected, "{said:#?}");
        Ok(said)
    })
    .await
}

/// The hub does not say that a cluster is well, or is not, of which it hears nothing.
async fn knows_nothing(site: &Site) -> Result<()> {
    let told = from_hub(&serde_json::from_str(&at_hub(site, &["--format", "json"])?)?)?;
    ensure!(!told.connected, "{told:#?}");
    let cluster = site.cluster("the cluster", |_| true).await?;
    let conditions = cluster.status.context("it has a status")?.conditions;
    for condition in conditions.iter().filter(|one| !["Joined", "Connected"].contains(&&*one.type_)) {
        let unknown = condition.status == "Unknown" && condition.reason == "Offline";
        ensure!(unknown && condition.message.contains(" as of 2"), "{condition:#?}");
    }
    let text = at_hub(site, &[])?;
    ensure!(text.contains("? Available: Offline: True as of 2"), "{text}");
    Ok(())
}

fn at_hub(site: &Site, form: &[&str]) -> Result<String> {
    let mut command = Command::new(program("edgefleet")?);
    command.args(["status", &site.name, "--kubeconfig"]).arg(site.folder.path().join("hub").join(KUBECONFIG));
    let output = command.args(form).output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

fn from_hub(status: &Value) -> Result<Told> {
    let applications = list(status, "applications")?.iter().map(|one| {
        let object = text(one, "object");
        let colon = if object.is_empty() { "" } else { ": " };
        (text(one, "application"), (text(one, "state"), format!("{object}{colon}{}", text(one, "message"))))
    });
    ensure!(status["desired"] == status["observed"], "{status:#}");
    Ok(Told {
        connected: status["connected"] == json!(true),
        desired: text(status, "observed"),
        applications: applications.collect(),
        conditions: conditions(status)?,
    })
}

fn from_site(status: &Value) -> Result<Told> {
    let applications = list(status, "applications")?.iter().map(|one| {
        let state = match one["state"].as_str().unwrap_or_default() {
            "Available" => "Updated",
            "Applying" | "Progressing" => "Applying",
            "Degraded" => "Failed",
            other => other,
        };
        (text(one, "app"), (state.to_owned(), text(one, "message")))
    });
    Ok(Told {
        connected: status["hub"]["connected"] == json!(true),
        desired: text(status, "desired"),
        applications: applications.collect(),
        conditions: conditions(status)?,
    })
}

fn conditions(status: &Value) -> Result<BTreeMap<String, [String; 3]>> {
    let all = list(status, "conditions")?.iter();
    let own = all.filter(|one| !JUDGED.contains(&one["type"].as_str().unwrap_or_default()));
    Ok(own
        .map(|one| (text(one, "type"), ["status", "reason", "message"].map(|key| text(one, key))))
        .collect())
}

fn list<'a>(status: &'a Value, key: &str) -> Result<&'a Vec<Value>> {
    status[key].as_array().with_context(|| format!("no {key} in {status:#}"))
}

fn text(of: &Value, key: &str) -> String {
    of[key].as_str().unwrap_or_default().to_owned()
}

async fn ask(site: &Site, request: Request) -> Result<()> {
    let socket = site.state().control();
    tokio::task::spawn_blocking(move || control::ask(&socket, &request)).await??;
    Ok(())
}
