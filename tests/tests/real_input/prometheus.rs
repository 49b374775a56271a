//! The largest input: prometheus-operator's bundle, 4.2 MB of definitions for the most part.

use std::{fs, time::Duration};

use anyhow::{Context as _, Result, ensure};
use edge_agent::control::Request;
use fleet_broker::resources::AssignmentState;
use tests::{module_dir, older_module_dir};
use tokio::time::Instant;

use super::{condition, harness::Site, members, named, phase::applied_once_released, shrinks_to, uids};

const APPLICATION: &str = "prometheus-operator";

/// Where it is published, twice here: 0.83 and 0.85.
const MODULE: &str = "github.com/prometheus-operator/prometheus-operator";

/// All of it in one file.
const BUNDLE: &str = "bundle.yaml";

/// Where `bundle.yaml` puts what belongs to a namespace.
const NAMESPACE: &str = "default";

#[tokio::test(flavor = "multi_thread")]
async fn prometheus_operator_is_available_upgraded_and_pruned() -> Result<()> {
    let mut site = Site::start_with("prometheus", &[NAMESPACE]).await?;
    let older = fs::read_to_string(older_module_dir(MODULE)?.join(BUNDLE))?;
    let newer = fs::read_to_string(module_dir(MODULE)?.join(BUNDLE))?;
    let before = uids(&site, APPLICATION).await?;

    site.tell_agent(Request::Hold { reason: "until the content is here".to_owned() }).await?;
    let first = site.deliver_as(APPLICATION, &older).await?;
    let by_agent = applied_once_released(&site, APPLICATION).await?;
    let shown = site.assigned(&first, AssignmentState::Updated).await?;
    ensure!(condition(&shown, "Available") == Some("True"), "{shown:#?}");
    ensure!(members(&site, APPLICATION).await? == named(&site, &older).await?);

    let second = site.deliver_as(APPLICATION, &newer).await?;
    let shown = site.assigned(&second, AssignmentState::Updated).await?;
    ensure!(condition(&shown, "Available") == Some("True"), "{shown:#?}");
    ensure!(members(&site, APPLICATION).await? == named(&site, &newer).await?);

    // One of its definitions alone is 1.4 MB.
    let full = with_every_version(&newer)?;
    let third = site.deliver_as(APPLICATION, &full).await?;
    site.assigned(&third, AssignmentState::Updated).await?;
    site.kubectl
        .run(&["get", "alertmanagerconfigs.v1beta1.monitoring.coreos.com", "--all-namespaces"])
        .await?;
    let kept = full.split("\n---\n").find(|one| one.contains("kind: ServiceAccount\n"));
    shrinks_to(&mut site, APPLICATION, &full, kept.context("it has an account")?, &before).await?;
    tell(older.len(), by_agent, applied_by_kubectl(&site).await?);
    Ok(())
}

/// How long kubectl takes to apply the same. It is on its way out when this returns.
async fn applied_by_kubectl(site: &Site) -> Result<Duration> {
    let path = older_module_dir(MODULE)?.join(BUNDLE);
    let path = path.to_str().context("a path in UTF-8")?;
    let begin = Instant::now();
    // One of its objects is still kept, as the newer bundle has it.
    site.kubectl.run(&["apply", "--server-side", "--force-conflicts", "-f", path]).await?;
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

/// The bundle with the other definitions that the project publishes: with a version more, for whoever runs the
/// webhook that converts between them.
fn with_every_version(bundle: &str) -> Result<String> {
    let mut texts = Vec::new();
    for entry in fs::read_dir(module_dir(MODULE)?.join("example/prometheus-operator-crd-full"))? {
        let text = fs::read_to_string(entry?.path())?;
        texts.push(text.trim_start_matches("---\n").to_owned());
    }
    let rest = bundle.split("\n---\n").filter(|one| !one.contains("\nkind: CustomResourceDefinition\n"));
    texts.extend(rest.map(str::to_owned));
    Ok(texts.join("\n---\n"))
}
