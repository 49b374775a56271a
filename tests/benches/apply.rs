//! How long a bundle takes beside `kubectl apply --server-side` of the same manifests, on one API server.
//!
//! Twice each: until everything is applied, and from an operator's command until the hub, or `kubectl wait`, says that
//! everything is there and healthy. Rounds alternate, and each begins with a cluster that has none of it.

#[path = "../tests/promises/fleet_keys.rs"]
#[allow(dead_code, reason = "promises use more of it")]
mod fleet_keys;
#[path = "../tests/promises/harness.rs"]
#[allow(dead_code, reason = "promises use the rest")]
mod harness;
#[path = "../tests/real_input/phase.rs"]
mod phase;

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use edge_agent::control::Request;
use edgefleet::clock;
use fleet_broker::resources::AssignmentState;
use serde_json::json;
use tests::{
    Kubectl,
    figures::{self, Row, Target},
    kubeconfig, module_dir, wait_for,
};
use tokio::time::Instant;

use crate::{harness::Site, phase::applied_once_released};

/// Rounds, of which the median counts.
const ROUNDS: usize = 3;

/// Objects of the small bundle, its namespace included.
const OBJECTS: usize = 20;

/// Longest wait of kubectl's.
const TIMEOUT: &str = "--timeout=180s";

/// Longest wait for deletions, namespaces' included.
const DELETED_WITHIN: Duration = Duration::from_secs(180);

/// Names what is applied, at the hub too.
const APPLICATION: &str = "web";

/// What the large bundle's namespaced objects are in.
const DEFAULT: &str = "default";

fn main() -> Result<()> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(measure())
}

async fn measure() -> Result<()> {
    let large = fs::read_to_string(
        module_dir("github.com/prometheus-operator/prometheus-operator")?.join("bundle.yaml"),
    )?;
    let small = Input { name: "20 objects", manifests: Box::new(small) };
    let large = Input { name: "prometheus-operator", manifests: Box::new(move |_| large.clone()) };
    let mut rows = Vec::new();
    for input in [small, large] {
        rows.extend(compare(&input).await?);
    }
    figures::print(&rows)
}

/// What is applied: manifests, given a namespace for those that can be anywhere.
struct Input {
    name: &'static str,
    manifests: Box<dyn Fn(&str) -> String>,
}

/// Seconds until everything was applied, and until it was healthy.
#[derive(Debug, Default)]
struct Took {
    applied: Vec<f64>,
    healthy: Vec<f64>,
}

async fn compare(input: &Input) -> Result<Vec<Row>> {
    let (mut agent, mut kubectl) = (Took::default(), Took::default());
    for _ in 0..ROUNDS {
        let by_agent = applied_by_agent(input).await?;
        let (applied, healthy) = by_kubectl(input).await?;
        let whole_way = healthy_by_agent(input).await?;
        let name = input.name;
        say(&format!("{name}: applied in {by_agent:.2?}, kubectl {applied:.2?}"));
        say(&format!("{name}: healthy in {whole_way:.2?}, kubectl {healthy:.2?}"));
        agent.applied.push(by_agent.as_secs_f64());
        agent.healthy.push(whole_way.as_secs_f64());
        kubectl.applied.push(applied.as_secs_f64());
        kubectl.healthy.push(healthy.as_secs_f64());
    }
    let mut rows = Vec::new();
    for (what, agent, kubectl, target) in [
        ("applied", agent.applied, kubectl.applied, Target::AtMost(1.0)),
        ("healthy", agent.healthy, kubectl.healthy, Target::None),
    ] {
        let (agent, kubectl) = (figures::median(agent)?, figures::median(kubectl)?);
        let name = input.name;
        rows.push(Row::plain(format!("{name} {what}, by kubectl"), kubectl, "s"));
        rows.push(Row::compared(format!("{name} {what}, by the agent"), agent, "s", agent / kubectl, target));
    }
    Ok(rows)
}

/// From the end of a hold: content and permission are here before.
async fn applied_by_agent(input: &Input) -> Result<Duration> {
    let mut site = Site::start_with("apply", &[DEFAULT]).await?;
    site.tell_agent(Request::Hold { reason: "until the content is here".to_owned() }).await?;
    let manifests = (input.manifests)(&site.name);
    let bundle = site.deliver_as(APPLICATION, &manifests).await?;
    let took = applied_once_released(&site, APPLICATION).await?;
    // Deletions then meet nothing that is still being made.
    site.assigned(&bundle, AssignmentState::Updated).await?;
    delete(site, &manifests).await?;
    Ok(took)
}

/// From the manifests: built, signed, pushed, placed, fetched, applied, healthy, reported.
async fn healthy_by_agent(input: &Input) -> Result<Duration> {
    let mut site = Site::start_with("apply", &[DEFAULT]).await?;
    let manifests = (input.manifests)(&site.name);
    let begin = Instant::now();
    let bundle = site.deliver_as(APPLICATION, &manifests).await?;
    site.assigned(&bundle, AssignmentState::Updated).await?;
    let took = begin.elapsed();
    delete(site, &manifests).await?;
    Ok(took)
}

/// Applies and waits by kubectl, as a script would.
async fn by_kubectl(input: &Input) -> Result<(Duration, Duration)> {
    let kubectl = Kubectl::new(kubeconfig()?)?;
    let manifests = (input.manifests)("apply-by-kubectl");
    let begin = Instant::now();
    kubectl.run_with_input(&["apply", "--server-side", "-f", "-"], &manifests).await?;
    let applied = begin.elapsed();
    let deployments = only(&manifests, "Deployment");
    let wait = ["wait", "--for=condition=Available", TIMEOUT, "-f", "-"];
    kubectl.run_with_input(&wait, &deployments).await?;
    let healthy = begin.elapsed();
    delete_all(&kubectl, &manifests).await?;
    Ok((applied, healthy))
}

/// Ends the agent, and waits until nothing is left of what it applied.
async fn delete(site: Site, manifests: &str) -> Result<()> {
    drop(site);
    delete_all(&Kubectl::new(kubeconfig()?)?, manifests).await
}

/// An API server that fails to list the instances of a definition which is as young as here ("storage is
/// (re)initializing") waits longer and longer before it tries again, unless the definition changes.
async fn delete_all(kubectl: &Kubectl, manifests: &str) -> Result<()> {
    kubectl.run_with_input(&["delete", "--ignore-not-found", "--wait=false", "-f", "-"], manifests).await?;
    wait_for("the end of all that was applied", DELETED_WITHIN, async || {
        let left = ["get", "--ignore-not-found", "-o", "name", "-f", "-"];
        let left = kubectl.run_with_input(&left, manifests).await?;
        for definition in left.lines().filter(|name| name.starts_with("customresourcedefinition")) {
            let round = format!("bench/looked-at={}", clock::now().0);
            // It may be gone by now.
            drop(kubectl.run(&["annotate", "--overwrite", definition, &round]).await);
        }
        ensure!(left.is_empty(), "{left}");
        Ok(())
    })
    .await
}

#[allow(clippy::print_stderr, reason = "rounds take minutes; the figures alone are the answer")]
fn say(text: &str) {
    eprintln!("apply: {text}");
}

/// The documents of a kind.
fn only(manifests: &str, kind: &str) -> String {
    let line = format!("kind: {kind}");
    let documents = manifests.split("\n---\n");
    let found: Vec<&str> = documents.filter(|one| one.lines().any(|found| found == line)).collect();
    found.join("\n---\n")
}

/// A namespace and components of a deployment, a service, an account and a configuration.
fn small(namespace: &str) -> String {
    let home = format!("apiVersion: v1\nkind: Namespace\nmetadata: {}", json!({"name": namespace}));
    let objects = (0..).flat_map(|index| component(&format!("part-{index}"), namespace));
    std::iter::once(home).chain(objects).take(OBJECTS).collect::<Vec<_>>().join("\n---\n")
}

fn component(name: &str, namespace: &str) -> [String; 4] {
    let labels = json!({"app": name});
    let object = |api: &str, kind: &str, rest: String| {
        let metadata = json!({"name": name, "namespace": namespace, "labels": labels});
        format!("apiVersion: {api}\nkind: {kind}\nmetadata: {metadata}\n{rest}")
    };
    let pod =
        json!({"metadata": {"labels": labels}, "spec": {"containers": [{"name": "main", "image": "app:1"}]}});
    let deployment = json!({"replicas": 1, "selector": {"matchLabels": labels}, "template": pod});
    let service = json!({"selector": labels, "ports": [{"port": 80}]});
    [
        object("v1", "ServiceAccount", String::new()),
        object(
            "v1",
            "ConfigMap",
            format!("data: {}", json!({"settings.conf": "level = info\n".repeat(300)})),
        ),
        object("v1", "Service", format!("spec: {service}")),
        object("apps/v1", "Deployment", format!("spec: {deployment}")),
    ]
}
