//! What a person changes by hand is put back and named; who keeps on is left alone and named; what is left to others
//! stays as they set it.

use std::time::Instant;

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::{AssignmentState, AssignmentStatus};
use serde_json::{Value, json};

use crate::harness::Site;

/// Times within ten minutes that a field is taken back from the same manager.
const TAKEN_BACK: u64 = 3;

#[tokio::test(flavor = "multi_thread")]
async fn what_a_person_scales_and_sets_is_healed_and_named() -> Result<()> {
    let mut site = Site::start("scaled").await?;
    let bundle = site.deliver(&manifests(&site.name, 1)).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;

    let since = now();
    site.kubectl(&["scale", "deployment/web", "--replicas=5"]).await?;
    site.object("deployment", "web", |found| found["spec"]["replicas"] == json!(2)).await?;
    println!("scaled back {:.2} s after a person scaled it", since.elapsed().as_secs_f64());
    is_healed(&site, &format!("Deployment {}/web was changed by kubectl and healed (times: 1)", site.name))
        .await?;
    println!("the hub knew {:.2} s after a person scaled it", since.elapsed().as_secs_f64());

    let since = now();
    site.kubectl(&["set", "image", "deployment/web", "web=example.com/mine:9"]).await?;
    site.object("deployment", "web", |found| image(found) == "example.com/web:1").await?;
    println!("the image was back {:.2} s after a person set it", since.elapsed().as_secs_f64());
    is_healed(
        &site,
        &format!("Deployment {}/web was changed by kubectl-set and healed (times: 2)", site.name),
    )
    .await?;
    println!("the hub knew {:.2} s after a person set it", since.elapsed().as_secs_f64());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_who_keeps_on_is_left_alone_and_named() -> Result<()> {
    let mut site = Site::start("fought").await?;
    let bundle = site.deliver(&manifests(&site.name, 1)).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    for time in 1..=TAKEN_BACK {
        site.kubectl(&["scale", "deployment/web", &format!("--replicas={}", 4 + time)]).await?;
        site.object("deployment", "web", |found| found["spec"]["replicas"] == json!(2)).await?;
        is_healed(&site, &format!("healed (times: {time})")).await?;
    }

    site.kubectl(&["scale", "deployment/web", "--replicas=9"]).await?;
    let shown = site.assigned(&bundle, AssignmentState::Failed).await?;
    let message = shown.message.context("it says why")?;
    let expected = "Conflicted: kubectl keeps changing .spec.replicas; it is left alone for a while";
    ensure!(message == expected, "{message}");
    ensure!(shown.worst_object == Some(format!("Deployment {}/web", site.name)));
    let drifted = drift(&site.assigned(&bundle, AssignmentState::Failed).await?)?;
    ensure!(drifted == ["True".to_owned(), format!("Deployment {}/web was changed by kubectl", site.name)]);
    ensure!(site.get("deployment", "web").await?["spec"]["replicas"] == json!(9));
    println!("after {TAKEN_BACK} times: {message}");

    // The person gives in: nothing is left to fight about.
    site.kubectl(&["scale", "deployment/web", "--replicas=2"]).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_left_to_others_stays_as_they_set_it() -> Result<()> {
    let mut site = Site::start("ignored").await?;
    let first = deliver(&mut site, 1).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    site.kubectl(&["scale", "deployment/web", "--replicas=5"]).await?;
    site.kubectl(&["set", "image", "deployment/web", "web=example.com/mine:9"]).await?;
    let found = site.object("deployment", "web", |found| image(found) == "example.com/web:1").await?;
    ensure!(found["spec"]["replicas"] == json!(5), "{found:#}");
    is_healed(&site, "was changed by kubectl-set and healed (times: 1)").await?;

    // Nor does the next version take it.
    let second = deliver(&mut site, 2).await?;
    site.assigned(&second, AssignmentState::Updated).await?;
    let found = site.get("deployment", "web").await?;
    ensure!(image(&found) == "example.com/web:2" && found["spec"]["replicas"] == json!(5), "{found:#}");
    Ok(())
}

/// The first of its kind on the cluster: the watch that tells of its end began with nothing to list.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_right_after_it_came_is_made_again() -> Result<()> {
    let mut site = Site::start("deleted").await?;
    let limits = "apiVersion: v1\nkind: LimitRange\nmetadata: {name: first}\nspec: {limits: []}";
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}", site.name);
    site.deliver(&format!("{namespace}\n---\n{limits}\n")).await?;
    let uid = |found: &Value| found["metadata"]["uid"].clone();
    let first = uid(&site.get_again("limitrange", "first").await?);
    site.kubectl(&["delete", "limitrange", "first"]).await?;
    site.object("limitrange", "first", |found| uid(found) != first).await.map(drop)
}

/// Delivers a version that leaves the number of replicas to others.
async fn deliver(site: &mut Site, version: u64) -> Result<String> {
    let app = site.app()?;
    let mut plan = site.plan(&app);
    let ignored = "Deployment/web:/spec/replicas".parse();
    plan.ignore.push(ignored.map_err(anyhow::Error::msg)?);
    let bundle = site.build(&plan, &manifests(&site.name, version), &site.signers(&site.name))?;
    site.operator.push(&bundle).await?;
    site.place(&bundle).await
}

/// Waits until the hub shows that everything is as it should be again, and who had changed it.
async fn is_healed(site: &Site, message: &str) -> Result<()> {
    let healed = |status: &AssignmentStatus| {
        let told = drift(status).is_ok_and(|[holds, text]| holds == "False" && text.contains(message));
        status.state == AssignmentState::Updated && told
    };
    site.assignment(message, healed).await.map(drop)
}

fn drift(shown: &AssignmentStatus) -> Result<[String; 2]> {
    let found =
        shown.conditions.iter().find(|one| one.type_ == "Drifted").context("it says who changed what")?;
    Ok([found.status.clone(), found.message.clone()])
}

fn image(deployment: &Value) -> &Value {
    &deployment["spec"]["template"]["spec"]["containers"][0]["image"]
}

#[allow(clippy::disallowed_methods, reason = "how long it took is what is printed")]
fn now() -> Instant {
    Instant::now()
}

fn manifests(namespace: &str, version: u64) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: apps/v1
kind: Deployment
metadata: {{name: web}}
spec:
  replicas: 2
  selector: {{matchLabels: {{app: web}}}}
  template:
    metadata: {{labels: {{app: web}}}}
    spec: {{containers: [{{name: web, image: 'example.com/web:{version}'}}]}}
"
    )
}
