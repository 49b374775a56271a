//! What happened to a cluster's application is seen at the hub, by whoever asks, once and counted.

use anyhow::{Context as _, Result, ensure};
use fleet_broker::{resources::AssignmentState, serve::KUBECONFIG};
use serde_json::{Value, json};
use tests::{Kubectl, wait_for};

use crate::{
    harness::{APPLICATION, SOON, Site},
    manifests::{TWO_WEBS, greeting},
    tenants::deceive,
};

/// How often somebody changes what the agent then heals.
const CHANGES: u64 = 2;

#[tokio::test(flavor = "multi_thread")]
async fn drift_healed_and_a_bad_release_are_seen_in_events() -> Result<()> {
    let mut site = Site::start("told").await?;
    let manifests = format!("{}---\n{TWO_WEBS}\n", greeting(&site.name, "hello"));
    let good = site.deliver(&manifests).await?;
    site.assigned(&good, AssignmentState::Updated).await?;

    for time in 1..=CHANGES {
        site.kubectl(&["scale", "deployment/web", "--replicas=5"]).await?;
        site.object("deployment", "web", |found| found["spec"]["replicas"] == json!(2)).await?;
        let healed = format!("Deployment {}/web was changed by kubectl and healed", site.name);
        told(&site, &format!("healed {time} times"), |event| {
            event["message"] == json!(healed) && event["count"] == json!(time)
        })
        .await?;
    }

    // No honest hub would send it.
    deceive(&mut site).await?;
    let elsewhere = site.other_app()?.tenant;
    let reaching = greeting(elsewhere.as_str(), "hello")
        .replace("greeting}", &format!("greeting, namespace: {elsewhere}}}"));
    let bad = site.deliver(&reaching).await?;
    let shown = site.assigned(&bad, AssignmentState::Rejected).await?;
    let why = shown.message.context("it says why")?;
    told(&site, "rejected", |event| event["message"] == json!(why) && event["count"] == json!(1)).await?;

    let hub = hub(&site)?;
    let assignment = format!("{APPLICATION}.{}", site.name);
    let described = hub.run(&["describe", "assignment", "-n", &site.name, &assignment]).await?;
    println!("{}", described.split_once("Events:").map_or("", |(_, events)| events));
    for part in [
        "Offered",
        &format!("bundle {good} is available"),
        "Healed",
        &format!("(x{CHANGES} over "),
        "Warning",
        "Rejected",
        &why,
    ] {
        ensure!(described.contains(part), "{part} is not in {described}");
    }
    for reason in ["Healed", "Rejected"] {
        ensure!(
            described.matches(&format!(" {reason} ")).count() == 1,
            "{reason} is told more than once: {described}"
        );
    }
    let described = hub.run(&["describe", "cluster", &site.name]).await?;
    ensure!(described.contains("Joined") && described.contains("Connected"), "{described}");
    Ok(())
}

fn hub(site: &Site) -> Result<Kubectl> {
    Kubectl::new(site.folder.path().join("hub").join(KUBECONFIG))
}

/// Waits until there is such an event in the site's tenant.
async fn told(site: &Site, what: &str, wanted: impl Fn(&Value) -> bool) -> Result<()> {
    let hub = hub(site)?;
    wait_for(what, SOON, async || {
        let events: Value =
            serde_json::from_str(&hub.run(&["get", "events", "-n", &site.name, "-o", "json"]).await?)?;
        ensure!(events["items"].as_array().into_iter().flatten().any(&wanted), "{events:#}");
        Ok(())
    })
    .await
}
