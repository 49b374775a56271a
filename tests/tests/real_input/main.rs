//! What other projects publish is delivered as they publish it: shown as it is, upgraded, and taken away again.
//!
//! A target of its own: an APIService without a server, which metrics-server brings, keeps the API server from
//! ending any namespace, and other tests wait for that.

#[path = "../promises/harness.rs"]
#[allow(dead_code, reason = "promises use the rest")]
mod harness;
mod prometheus;

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::PathBuf,
};

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::{AssignmentState, AssignmentStatus};
use tests::{module_dir, wait_for};

use harness::{FAR_KINDS, PART_OF, SOON, Site};

/// Where add-ons live.
const SYSTEM: &str = "kube-system";

/// The label of APIServices that the API server makes for definitions, and takes away with them.
const AUTOMANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";

#[tokio::test(flavor = "multi_thread")]
async fn metrics_server_is_shown_as_it_is_and_pruned() -> Result<()> {
    let mut site = Site::start_with("metrics", &[SYSTEM]).await?;
    let manifests = metrics_server()?;
    let before = uids(&site, "metrics-server").await?;
    let first = site.deliver_as("metrics-server", &manifests).await?;

    // Pods of this cluster do not answer, so the API that they should serve does not either.
    let shown = site
        .assignment("all but the API that nobody serves", |status| {
            let api = status.worst_object.as_deref() == Some("APIService v1beta1.metrics.k8s.io");
            status.bundle == first && api && condition(status, "Applied") == Some("True")
        })
        .await?;
    ensure!(shown.state == AssignmentState::Applying, "{shown:#?}");
    ensure!(condition(&shown, "Available") == Some("False"), "{shown:#?}");
    site.in_system(&[
        "wait",
        "deployment/metrics-server-v0.8.0",
        "--for=condition=Available",
        "--timeout=60s",
    ])
    .await?;
    let answer = site
        .assignment("the API server's reason", |status| {
            status.message.as_deref().is_some_and(|message| message.starts_with("FailedDiscoveryCheck: "))
        })
        .await?;
    println!("{}", answer.message.unwrap_or_default());
    ensure!(members(&site, "metrics-server").await? == named(&site, &manifests).await?);

    let mut documents = manifests.split("\n---\n");
    let kept = documents.find(|one| one.contains("kind: ServiceAccount\nmetadata:"));
    shrinks_to(&mut site, "metrics-server", &manifests, kept.context("it has an account")?, &before).await
}

#[tokio::test(flavor = "multi_thread")]
async fn node_problem_detector_is_refused_as_kubectl_refuses_it_then_mended_and_pruned() -> Result<()> {
    let mut site = Site::start_with("npd", &[SYSTEM]).await?;
    let published = addon("node-problem-detector/npd.yaml")?;
    let before = uids(&site, "npd").await?;

    // As it is published, its DaemonSet has a field that no DaemonSet has.
    let dry = ["apply", "--server-side", "--dry-run=server", "-f", "-"];
    let refusal = site.kubectl.run_with_input(&dry, &published).await.expect_err("kubectl refuses it too");
    let field = ".spec.template.spec.nodeSelectors: field not declared in schema";
    ensure!(format!("{refusal:#}").contains(field), "{refusal:#}");
    let first = site.deliver_as("npd", &published).await?;
    let shown = site.assigned(&first, AssignmentState::Failed).await?;
    ensure!(
        shown.worst_object.as_deref() == Some("DaemonSet kube-system/node-problem-detector"),
        "{shown:#?}"
    );
    ensure!(shown.message.as_deref().is_some_and(|message| message.contains(field)), "{shown:#?}");
    ensure!(members(&site, "npd").await?.len() == 2, "what could be applied was not");

    let mended = published.replace("nodeSelectors:", "nodeSelector:");
    let second = site.deliver_as("npd", &mended).await?;
    site.assigned(&second, AssignmentState::Updated).await?;
    ensure!(members(&site, "npd").await? == named(&site, &mended).await?);
    let kept = mended.split("\n---\n").next().unwrap_or_default();
    shrinks_to(&mut site, "npd", &mended, kept, &before).await
}

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_api_is_available_and_pruned() -> Result<()> {
    let mut site = Site::start("gateway").await?;
    let folder = module_dir("sigs.k8s.io/gateway-api")?.join("config/crd");
    let manifests = site.kubectl.run(&["kustomize", folder.to_str().context("a path in UTF-8")?]).await?;
    // What another test deleted may be on its way out still.
    let definitions = named(&site, &manifests).await?;
    wait_for("the end of older definitions", SOON, async || {
        let there = uids(&site, "gateway-api").await?;
        let left: Vec<_> = definitions.iter().filter(|name| there.contains_key(*name)).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })
    .await?;
    let before = uids(&site, "gateway-api").await?;
    let first = site.deliver_as("gateway-api", &manifests).await?;
    let shown = site.assigned(&first, AssignmentState::Updated).await?;
    ensure!(condition(&shown, "Available") == Some("True"), "{shown:#?}");
    ensure!(members(&site, "gateway-api").await? == definitions);
    site.kubectl.run(&["get", "gateways.gateway.networking.k8s.io", "--all-namespaces"]).await?;

    // Two stay, because no more than ten may be deleted at once.
    let kept: Vec<&str> = manifests.split("\n---\n").filter(|one| is_kept(one)).collect();
    ensure!(kept.len() == 2, "{} of gateways and their classes", kept.len());
    shrinks_to(&mut site, "gateway-api", &manifests, &kept.join("\n---\n"), &before).await
}

fn is_kept(document: &str) -> bool {
    let names =
        ["gatewayclasses", "gateways"].map(|plural| format!("  name: {plural}.gateway.networking.k8s.io"));
    document.lines().any(|line| names.iter().any(|name| name == line))
}

/// Delivers a release that holds less: what it left out is gone, what it kept is as it was, and so is all else.
#[allow(clippy::print_stdout, reason = "how much was pruned is what is printed")]
async fn shrinks_to(
    site: &mut Site,
    application: &str,
    all: &str,
    kept: &str,
    before: &BTreeMap<String, String>,
) -> Result<()> {
    let (all, kept_names) = (named(site, all).await?, named(site, kept).await?);
    let applied = uids(site, application).await?;
    let max_deletes = u32::try_from(all.len())?;
    let bundle = site.publish_deleting(application, kept, Some(max_deletes)).await?;
    let bundle = site.place(&bundle).await?;
    // It is not up to date before what it left out is gone.
    site.assigned(&bundle, AssignmentState::Updated).await?;
    let after = uids(site, application).await?;
    for name in &all {
        let expected = applied.get(name).filter(|_| kept_names.contains(name));
        ensure!(after.get(name) == expected, "{name}: {:?} where {expected:?} should be", after.get(name));
    }
    ensure!(members(site, application).await? == kept_names);
    let lost: Vec<_> = before.iter().filter(|(name, uid)| after.get(*name) != Some(uid)).collect();
    ensure!(lost.is_empty(), "what was there before is gone or new: {lost:?}");
    println!("{application}: {} of {} objects pruned", all.len() - kept_names.len(), all.len());
    Ok(())
}

/// metrics-server with the figures that `cluster/gce/gci/configure-helper.sh` of the same module puts in.
fn metrics_server() -> Result<String> {
    let figures = [
        ("{{ base_metrics_server_cpu }}", "40m"),
        ("{{ base_metrics_server_memory }}", "35Mi"),
        ("{{ metrics_server_memory_per_node }}", "4"),
        ("{{ metrics_server_min_cluster_size }}", "5"),
    ];
    let mut paths: Vec<PathBuf> = fs::read_dir(addons()?.join("metrics-server"))?
        .map(|entry| Ok(entry?.path()))
        .collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    let texts: Vec<String> = paths.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let text = figures.iter().fold(texts.join("\n---\n"), |text, (from, to)| text.replace(from, to));
    ensure!(!text.contains("{{"), "metrics-server has a placeholder that is not known here");
    Ok(text)
}

fn addon(file: &str) -> Result<String> {
    Ok(fs::read_to_string(addons()?.join(file))?)
}

fn addons() -> Result<PathBuf> {
    Ok(module_dir("k8s.io/kubernetes")?.join("cluster/addons"))
}

/// What manifests hold, as kubectl names it.
async fn named(site: &Site, manifests: &str) -> Result<BTreeSet<String>> {
    let columns = r#"jsonpath={.kind} {.metadata.namespace}/{.metadata.name}{"\n"}"#;
    let arguments = ["create", "--dry-run=client", "--validate=false", "-f", "-", "-o", columns];
    let printed = site.kubectl.run_with_input(&arguments, manifests).await?;
    Ok(printed.lines().filter(|line| !line.is_empty()).map(str::to_owned).collect())
}

/// The application's objects on the cluster.
async fn members(site: &Site, application: &str) -> Result<BTreeSet<String>> {
    Ok(applied(site, application).await?.into_keys().collect())
}

async fn applied(site: &Site, application: &str) -> Result<BTreeMap<String, String>> {
    let selector = format!("{PART_OF}={}", site.apply_set_of(application)?);
    listed(site, &["--all-namespaces"], &selector).await
}

/// What is there and not about to go, with its identity; apart from what the API server keeps for itself and what
/// other tests apply meanwhile.
async fn uids(site: &Site, application: &str) -> Result<BTreeMap<String, String>> {
    let others = format!("!{AUTOMANAGED},!{PART_OF}");
    let mut found = listed(site, &["--namespace", SYSTEM], &others).await?;
    found.extend(applied(site, application).await?);
    Ok(found)
}

async fn listed(site: &Site, scope: &[&str], selector: &str) -> Result<BTreeMap<String, String>> {
    let columns = r#"jsonpath={range .items[*]}{.kind} {.metadata.namespace}/{.metadata.name} {.metadata.uid} {.metadata.deletionTimestamp}{"\n"}{end}"#;
    let arguments = [&["get", FAR_KINDS, "-l", selector, "-o", columns], scope].concat();
    let printed = site.kubectl.run(&arguments).await?;
    let line = |line: &str| match line.split(' ').collect::<Vec<_>>()[..] {
        [kind, name, uid, ""] => Some((format!("{kind} {name}"), uid.to_owned())),
        [..] => None,
    };
    Ok(printed.lines().filter_map(line).collect())
}

fn condition<'a>(status: &'a AssignmentStatus, kind: &str) -> Option<&'a str> {
    status.conditions.iter().find(|one| one.type_ == kind).map(|one| one.status.as_str())
}

impl Site {
    async fn in_system(&self, arguments: &[&str]) -> Result<String> {
        self.kubectl.run(&[&["--namespace", SYSTEM], arguments].concat()).await
    }
}
