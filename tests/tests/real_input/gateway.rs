//! gateway-api: definitions, and an admission policy that guards them.

use std::path::Path;

use anyhow::{Context as _, Result, ensure};
use tests::{module_dir, older_module_dir};

use super::{harness::Site, shrinks_to, uids, upgrades_to};

#[tokio::test(flavor = "multi_thread")]
async fn the_gateway_api_is_available_upgraded_and_pruned() -> Result<()> {
    let mut site = Site::start("gateway").await?;
    let older = kustomized(&site, &older_module_dir("sigs.k8s.io/gateway-api")?).await?;
    let manifests = kustomized(&site, &module_dir("sigs.k8s.io/gateway-api")?).await?;
    let before = uids(&site, "gateway-api").await?;
    upgrades_to(&mut site, "gateway-api", &older).await?;
    upgrades_to(&mut site, "gateway-api", &manifests).await?;
    site.kubectl.run(&["get", "gateways.gateway.networking.k8s.io", "--all-namespaces"]).await?;

    let kept: Vec<&str> = manifests.split("\n---\n").filter(|one| is_kept(one)).collect();
    ensure!(kept.len() == 2, "{} of gateways and their classes", kept.len());
    shrinks_to(&mut site, "gateway-api", &manifests, &kept.join("\n---\n"), &before).await
}

fn is_kept(document: &str) -> bool {
    let names =
        ["gatewayclasses", "gateways"].map(|plural| format!("  name: {plural}.gateway.networking.k8s.io"));
    document.lines().any(|line| names.iter().any(|name| name == line))
}

async fn kustomized(site: &Site, module: &Path) -> Result<String> {
    let folder = module.join("config/crd");
    site.kubectl.run(&["kustomize", folder.to_str().context("a path in UTF-8")?]).await
}
