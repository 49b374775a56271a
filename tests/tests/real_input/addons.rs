//! What the Kubernetes project publishes as add-ons.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::{AssignmentState, AssignmentStatus};
use tests::{module_dir, older_module_dir};

use super::{SYSTEM, condition, harness::Site, members, named, shrinks_to, uids, upgrades_to};

#[tokio::test(flavor = "multi_thread")]
async fn metrics_server_is_shown_as_it_is_upgraded_and_pruned() -> Result<()> {
    let mut site = Site::start_with("metrics", &[SYSTEM]).await?;
    let older = metrics_server(&older_addons()?)?;
    let manifests = metrics_server(&addons()?)?;
    let before = uids(&site, "metrics-server").await?;
    let first = site.deliver_as("metrics-server", &older).await?;
    is_all_but_served(&site, &first).await?;
    ensure!(members(&site, "metrics-server").await? == named(&site, &older).await?);

    // The Deployment is named after its version, so that the old one is pruned.
    let second = site.deliver_as("metrics-server", &manifests).await?;
    is_all_but_served(&site, &second).await?;
    site.in_system(&[
        "wait",
        "deployment/metrics-server-v0.8.0",
        "--for=condition=Available",
        "--timeout=60s",
    ])
    .await?;
    ensure!(members(&site, "metrics-server").await? == named(&site, &manifests).await?);

    let mut documents = manifests.split("\n---\n");
    let kept = documents.find(|one| one.contains("kind: ServiceAccount\nmetadata:"));
    shrinks_to(&mut site, "metrics-server", &manifests, kept.context("it has an account")?, &before).await
}

/// Pods of this cluster do not answer, so the API that they should serve does not either.
async fn is_all_but_served(site: &Site, bundle: &str) -> Result<()> {
    let shown = site
        .assignment("all but the API that nobody serves", |status| {
            let api = status.worst_object.as_deref() == Some("APIService v1beta1.metrics.k8s.io");
            let said =
                status.message.as_deref().is_some_and(|text| text.starts_with("FailedDiscoveryCheck: "));
            let applying = status.state == AssignmentState::Applying;
            status.bundle == bundle && applying && api && said && condition(status, "Applied") == Some("True")
        })
        .await?;
    ensure!(condition(&shown, "Available") == Some("False"), "{shown:#?}");
    tell("metrics-server", &shown);
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn node_problem_detector_is_refused_as_kubectl_refuses_it_then_mended_and_pruned() -> Result<()> {
    let mut site = Site::start_with("npd", &[SYSTEM]).await?;
    let published = fs::read_to_string(addons()?.join("node-problem-detector/npd.yaml"))?;
    let before = uids(&site, "npd").await?;
    let older = fs::read_to_string(older_addons()?.join("node-problem-detector/npd.yaml"))?;
    upgrades_to(&mut site, "npd", &older).await?;

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
    tell("node-problem-detector", &shown);
    ensure!(members(&site, "npd").await? == named(&site, &older).await?, "the old DaemonSet goes on");

    // Mended it still selects its pods by another version than before, which no DaemonSet may: one has to make room.
    let mended = published.replace("nodeSelectors:", "nodeSelector:");
    let third = site.deliver_as("npd", &mended).await?;
    let shown = site
        .assignment("a DaemonSet that cannot be changed", |status| {
            let said = status.message.as_deref().unwrap_or_default();
            status.bundle == third
                && said.contains("field is immutable; delete this object, and it is made anew")
        })
        .await?;
    tell("node-problem-detector", &shown);
    site.in_system(&["delete", "daemonset", "node-problem-detector"]).await?;
    site.assigned(&third, AssignmentState::Updated).await?;
    ensure!(members(&site, "npd").await? == named(&site, &mended).await?);
    let kept = mended.split("\n---\n").next().unwrap_or_default();
    shrinks_to(&mut site, "npd", &mended, kept, &before).await
}

#[tokio::test(flavor = "multi_thread")]
async fn fluentd_is_available_upgraded_and_pruned() -> Result<()> {
    let mut site = Site::start_with("fluentd", &[SYSTEM]).await?;
    let before = uids(&site, "fluentd").await?;
    upgrades_to(&mut site, "fluentd", &fluentd("fluentd-gcp-configmap-old.yaml", "fluentd-gcp-config-old")?)
        .await?;
    let manifests = fluentd("fluentd-gcp-configmap.yaml", "fluentd-gcp-config")?;
    upgrades_to(&mut site, "fluentd", &manifests).await?;
    let kept = manifests.split("\n---\n").find(|one| one.contains("kind: ServiceAccount\n"));
    shrinks_to(&mut site, "fluentd", &manifests, kept.context("it has an account")?, &before).await
}

/// What the hub shows of what cannot be well here: the product's words, and nothing of the test's.
#[allow(clippy::print_stdout, reason = "the words are what is printed")]
fn tell(application: &str, shown: &AssignmentStatus) {
    let object = shown.worst_object.as_deref().unwrap_or_default();
    println!("{application}: {object}: {}", shown.message.as_deref().unwrap_or_default());
}

/// metrics-server with the figures that `cluster/gce/gci/configure-helper.sh` of the same module puts in.
fn metrics_server(addons: &Path) -> Result<String> {
    let figures = [
        ("{{ base_metrics_server_cpu }}", "40m"),
        ("{{ base_metrics_server_memory }}", "35Mi"),
        ("{{ metrics_server_memory_per_node }}", "4"),
        ("{{ metrics_server_min_cluster_size }}", "5"),
    ];
    let mut paths: Vec<PathBuf> =
        fs::read_dir(addons.join("metrics-server"))?.map(|entry| Ok(entry?.path())).collect::<Result<_>>()?;
    paths.retain(|path| path.extension().is_some_and(|end| end == "yaml"));
    paths.sort();
    filled_in(&paths, &figures)
}

/// fluentd with one of the two configurations that are published: for the older names of what logs come from, and for
/// the newer. The same script puts the figures in.
fn fluentd(configuration: &str, name: &str) -> Result<String> {
    let figures = [
        ("{{ exporter_sd_endpoint }}", "https://logging.googleapis.com"),
        ("{{ exporter_sd_resource_model }}", "new"),
        ("{{ fluentd_container_runtime_service }}", "containerd"),
        ("{{ fluentd_gcp_configmap_name }}", name),
        ("{{ fluentd_gcp_version }}", "1.6.17"),
        ("{{ fluentd_gcp_yaml_version }}", "v3.2.0"),
        ("{{ prometheus_to_sd_endpoint }}", "https://monitoring.googleapis.com/"),
        ("{{ prometheus_to_sd_prefix }}", "custom.googleapis.com"),
    ];
    let folder = addons()?.join("fluentd-gcp");
    let files = [
        configuration,
        "event-exporter.yaml",
        "fluentd-gcp-ds-sa.yaml",
        "fluentd-gcp-ds.yaml",
        "scaler-deployment.yaml",
        "scaler-policy.yaml",
        "scaler-rbac.yaml",
    ];
    filled_in(&files.map(|file| folder.join(file)), &figures)
}

fn filled_in(paths: &[PathBuf], figures: &[(&str, &str)]) -> Result<String> {
    let texts: Vec<String> = paths.iter().map(fs::read_to_string).collect::<Result<_, _>>()?;
    let text = figures.iter().fold(texts.join("\n---\n"), |text, (from, to)| text.replace(from, to));
    ensure!(!text.contains("{{"), "there is a placeholder that is not known here");
    Ok(text)
}

fn addons() -> Result<PathBuf> {
    Ok(module_dir("k8s.io/kubernetes")?.join("cluster/addons"))
}

fn older_addons() -> Result<PathBuf> {
    Ok(older_module_dir("k8s.io/kubernetes")?.join("cluster/addons"))
}
