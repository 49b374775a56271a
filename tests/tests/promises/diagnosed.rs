//! What `edgefleet doctor` says of a site's API server is so.

use std::{fs, path::Path};

use anyhow::{Context as _, Result, ensure};
use edge_agent::config::Kubernetes;
use edgefleet::doctor::{self, Verdict, probe};
use serde_json::{Value, json};
use tests::Namespace;

use crate::harness::Site;

#[tokio::test(flavor = "multi_thread")]
async fn an_api_server_that_is_well_or_lets_nobody_in_or_is_away_is_told_apart() -> Result<()> {
    let site = Site::start("diagnosed").await?;
    let kubeconfig = site.folder.path().join("kubeconfig");
    ensure!(verdicts(&kubeconfig).await? == [Verdict::Ok, Verdict::Ok], "with the agent's own rights");

    let (namespace, nobody) = (Namespace::create("diagnosed").await?, site.folder.path().join("nobody"));
    namespace.kubectl(&["create", "serviceaccount", "nobody"]).await?;
    let token = namespace.kubectl(&["create", "token", "nobody"]).await?;
    fs::write(&nobody, of_bearer(&kubeconfig, token.trim())?)?;
    ensure!(verdicts(&nobody).await? == [Verdict::Ok, Verdict::Warning], "without rights");
    fs::write(&nobody, of_bearer(&kubeconfig, "wrong")?)?;
    ensure!(verdicts(&nobody).await? == [Verdict::Wrong], "without an identity");

    site.api.cut();
    ensure!(verdicts(&kubeconfig).await? == [Verdict::Wrong], "while it is away");
    site.api.restore();
    Ok(())
}

async fn verdicts(kubeconfig: &Path) -> Result<Vec<Verdict>> {
    let found = probe::api_server(&Kubernetes::Kubeconfig(kubeconfig.to_owned())).await;
    let (server, _) = found.context("it is not simulated")?;
    let findings = doctor::api_server("the site's", &server);
    Ok(findings.iter().map(|finding| finding.verdict).collect())
}

/// The same kubeconfig for somebody with a token.
fn of_bearer(kubeconfig: &Path, token: &str) -> Result<String> {
    let mut config: Value = serde_json::from_str(&fs::read_to_string(kubeconfig)?)?;
    config["users"][0]["user"] = json!({"token": token});
    Ok(config.to_string())
}
