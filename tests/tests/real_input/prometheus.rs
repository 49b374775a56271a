//! The largest input: prometheus-operator's bundle, 4.2 MB of definitions for the most part.

use std::{fs, path::PathBuf, time::Duration};

use anyhow::{Context as _, Result, ensure};
use edge_agent::control::Request;
use fleet_broker::resources::AssignmentState;
use tests::module_dir;
use tokio::time::Instant;

use super::{condition, harness::Site, members, named, phase::applied_once_released, shrinks_to, uids};

const APPLICATION: &str = "prometheus-operator";

/// Where `bundle.yaml` puts what belongs to a namespace.
const NAMESPACE: &str = "default";

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_operator_is_available_upgraded_and_pruned() -> Result<()> {
    let mut site = Site::start_with("prometheus", &[NAMESPACE]).await?;
    let (bundle, full) = (bundle()?, with_every_version()?);
    let before = uids(&site, APPLICATION).await?;

    site.tell_agent(Request::Hold { reason: "until the content is here".to_owned() }).await?;
    let first = site.deliver_as(APPLICATION, &bundle).await?;
    let by_agent = applied_once_released(&site, APPLICATION).await?;
    let shown = site.assigned(&first, AssignmentState::Updated).await?;
    ensure!(condition(&shown, "Available") == Some("True"), "{shown:#?}");
    ensure!(members(&site, APPLICATION).await? == named(&site, &bundle).await?);

    // One of its definitions alone is 1.4 MB.
    let second = site.deliver_as(APPLICATION, &full).await?;
    site.assigned(&second, AssignmentState::Updated).await?;
    site.kubectl
        .run(&["get", "alertmanagerconfigs.v1beta1.monitoring.coreos.com", "--all-namespaces"])
        .await?;
    let kept = full.split("\n---\n").find(|one| one.contains("kind: ServiceAccount\n"));
    shrinks_to(&mut site, APPLICATION, &full, kept.context("it has an account")?, &before).await?;
    tell(bundle.len(), by_agent, applied_by_kubectl(&site).await?);
    Ok(())
}

/// How long kubectl takes to apply the same. It is on its way out when this returns.
async fn applied_by_kubectl(site: &Site) -> Result<Duration> {
    let path = module()?.join("bundle.yaml");
    let path = path.to_str().context("a path in UTF-8")?;
    let begin = Instant::now();
    site.kubectl.run(&["apply", "--server-side", "-f", path]).await?;
    let took = begin.elapsed();
    site.kubectl.run(&["delete", "--wait=false", "-f", path]).await?;
    Ok(took)
}

#[allow(clippy::print_stdout, reason = "the figures are what is printed")]
fn tell(bytes: usize, by_agent: Duration, by_kubectl: Duration) {
    let (agent, kubectl) = (by_agent.as_secs_f64(), by_kubectl.as_secs_f64());
    println!(
        "{APPLICATION}: {bytes} bytes applied by the agent in {agent:.2} s, by kubectl in {kubectl:.2} s"
    );
}

fn bundle() -> Result<String> {
    Ok(fs::read_to_string(module()?.join("bundle.yaml"))?)
}

/// The bundle with the other definitions that the project publishes: with a version more, for whoever runs the
/// webhook that converts between them. No other version of the module is published to where tests may fetch from.
fn with_every_version() -> Result<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(module()?.join("example/prometheus-operator-crd-full"))? {
        let text = fs::read_to_string(entry?.path())?;
        texts.push(text.trim_start_matches("---\n").to_owned());
    }
    let bundle = bundle()?;
    let rest = bundle.split("\n---\n").filter(|one| !one.contains("\nkind: CustomResourceDefinition\n"));
    texts.extend(rest.map(str::to_owned));
    Ok(texts.join("\n---\n"))
}

fn module() -> Result<PathBuf> {
    module_dir("github.com/prometheus-operator/prometheus-operator")
}
