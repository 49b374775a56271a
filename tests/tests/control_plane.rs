//! The cluster that the other tests rely on behaves as one with machines: workloads of every kind run, pods
//! that are told to fail do so, rights are enforced, published manifests are taken, and nothing outlives it.

use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tests::{Namespace, Process, kubectl, module_dir, tool, wait_for};

/// A workload runs within about two seconds on an idle machine.
const SOON: Duration = Duration::from_secs(60);

#[tokio::test]
async fn a_deployment_becomes_available() -> Result<()> {
    let spec = json!({ "replicas": 3, "selector": selector(), "template": pod_template("Always") });
    runs("apps/v1", "Deployment", spec, "/status/availableReplicas", 3).await
}

#[tokio::test]
async fn a_stateful_set_becomes_ready() -> Result<()> {
    let template = pod_template("Always");
    let spec = json!({ "replicas": 2, "serviceName": "test", "selector": selector(), "template": template });
    runs("apps/v1", "StatefulSet", spec, "/status/readyReplicas", 2).await
}

#[tokio::test]
async fn a_daemon_set_becomes_ready_on_both_nodes() -> Result<()> {
    let spec = json!({ "selector": selector(), "template": pod_template("Always") });
    runs("apps/v1", "DaemonSet", spec, "/status/numberReady", 2).await
}

#[tokio::test]
async fn a_job_completes() -> Result<()> {
    let spec = json!({ "template": pod_template("Never") });
    runs("batch/v1", "Job", spec, "/status/succeeded", 1).await
}

#[tokio::test]
async fn a_pod_told_to_fail_fails_alone() -> Result<()> {
    let namespace = Namespace::create("pods").await?;
    for name in ["well", "ill"] {
        let spec = &pod_template("Never")["spec"];
        let pod = json!({ "apiVersion": "v1", "kind": "Pod", "metadata": { "name": name }, "spec": spec });
        namespace.apply(&pod.to_string()).await?;
        reaches(&namespace, "Pod", name, "/status/phase", &json!("Running")).await?;
    }
    let label = "pod-container-running-failed.stage.kwok.x-k8s.io=true";
    namespace.kubectl(&["label", "pod", "ill", label]).await?;
    reaches(&namespace, "Pod", "ill", "/status/phase", &json!("Failed")).await?;
    reaches(&namespace, "Pod", "well", "/status/phase", &json!("Running")).await
}

#[tokio::test]
async fn a_service_account_may_do_nothing_unless_told() -> Result<()> {
    let namespace = Namespace::create("rights").await?;
    namespace.kubectl(&["create", "serviceaccount", "agent"]).await?;
    let user = format!("--as=system:serviceaccount:{}:agent", namespace.name());

    let refusal = namespace.kubectl(&["get", "configmaps", &user]).await.unwrap_err();
    ensure!(format!("{refusal:#}").contains("forbidden"), "{refusal:#}");

    let account = format!("--serviceaccount={}:agent", namespace.name());
    namespace.kubectl(&["create", "rolebinding", "agent", "--clusterrole=view", &account]).await?;
    wait_for("the right to read", SOON, async || namespace.kubectl(&["get", "configmaps", &user]).await)
        .await?;
    Ok(())
}

#[tokio::test]
async fn published_custom_resources_are_served() -> Result<()> {
    let crds = module_dir("sigs.k8s.io/gateway-api")?.join("config/crd");
    let crds = crds.to_str().context("a path in UTF-8")?;
    kubectl(&["apply", "--server-side", "-k", crds]).await?;
    wait_for("gateways", SOON, async || kubectl(&["get", "gateways.gateway.networking.k8s.io", "-A"]).await)
        .await?;
    // The API server may still be opening the storage of a kind that is this young; it deletes it when it has.
    kubectl(&["delete", "--wait=false", "-k", crds]).await?;
    Ok(())
}

#[tokio::test]
async fn a_killed_control_plane_leaves_no_process() -> Result<()> {
    let command = "echo serving $KUBECONFIG; exec sleep 600";
    let mut plane =
        Process::spawn("control-plane", Command::new(tool("control-plane")?).args(["sh", "-c", command]))?;
    plane.printed("serving ", SOON).await?;
    let log = plane.log()?;
    let kubeconfig = log.lines().find_map(|line| line.strip_prefix("serving ")).context("no kubeconfig")?;
    let folder = kubeconfig.trim_end_matches("/admin.kubeconfig");
    ensure!(processes_naming(folder)?.len() == 5, "they run: {:?}", processes_naming(folder)?);

    plane.kill9()?;
    wait_for("end of every component", SOON, async || {
        let left = processes_naming(folder)?;
        ensure!(left.is_empty(), "still running: {left:?}");
        Ok(())
    })
    .await?;
    // Killed, it could not remove its folder.
    std::fs::remove_dir_all(folder).context("remove what it left")
}

/// Creates an object and waits until the number at `pointer` of its status is what it shall be.
async fn runs(version: &str, kind: &str, spec: Value, pointer: &str, number: u64) -> Result<()> {
    let namespace = Namespace::create("workloads").await?;
    let object = json!({ "apiVersion": version, "kind": kind, "metadata": { "name": "test" }, "spec": spec });
    namespace.apply(&object.to_string()).await?;
    reaches(&namespace, kind, "test", pointer, &json!(number)).await
}

async fn reaches(namespace: &Namespace, kind: &str, name: &str, pointer: &str, value: &Value) -> Result<()> {
    wait_for(&format!("{kind} {name}: {pointer} = {value}"), SOON, async || {
        let text = namespace.kubectl(&["get", kind, name, "-o", "json"]).await?;
        let object: Value = serde_json::from_str(&text)?;
        ensure!(object.pointer(pointer) == Some(value), "status {}", object["status"]);
        Ok(())
    })
    .await
}

fn selector() -> Value {
    json!({ "matchLabels": { "app": "test" } })
}

fn pod_template(restart: &str) -> Value {
    json!({
        "metadata": { "labels": { "app": "test" } },
        "spec": {
            "restartPolicy": restart,
            "containers": [{ "name": "main", "image": "example.org/none:1" }],
        },
    })
}

/// The processes with this text in an argument, by the names they were called by.
fn processes_naming(text: &str) -> Result<Vec<String>> {
    let mut names = Vec::new();
    for entry in std::fs::read_dir("/proc")? {
        // A process may end while we look, and much in /proc is not one.
        let Ok(line) = std::fs::read_to_string(entry?.path().join("cmdline")) else { continue };
        if line.contains(text) {
            names.extend(line.split('\0').next().map(str::to_owned));
        }
    }
    Ok(names)
}
