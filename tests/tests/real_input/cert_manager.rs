//! cert-manager: a Helm chart with definitions and webhooks, rendered before it is signed.

use std::{
    fs,
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use tests::{module_dir, older_module_dir, tool};

use super::{SYSTEM, harness::Site, shrinks_to, uids, upgrades_to};

const APPLICATION: &str = "cert-manager";

const MODULE: &str = "github.com/cert-manager/cert-manager";

#[tokio::test(flavor = "multi_thread")]
async fn cert_manager_is_available_upgraded_and_pruned() -> Result<()> {
    let mut site = Site::start_with("cert-manager", &[APPLICATION, SYSTEM]).await?;
    let older = rendered(&older_module_dir(MODULE)?, site.folder.path())?;
    let newer = rendered(&module_dir(MODULE)?, site.folder.path())?;
    let before = uids(&site, APPLICATION).await?;
    upgrades_to(&mut site, APPLICATION, &older).await?;
    upgrades_to(&mut site, APPLICATION, &newer).await?;

    // Its pods do not answer here, so that its webhooks refuse every object of its kinds: which they are is told.
    let issuer = format!(
        "{{apiVersion: cert-manager.io/v1, kind: Issuer, metadata: {{name: self, namespace: {}}}, spec: {{selfSigned: {{}}}}}}",
        site.name
    );
    let namespace = format!("{{apiVersion: v1, kind: Namespace, metadata: {{name: {}}}}}", site.name);
    let bundle = site.deliver_as("issuers", &format!("{namespace}\n---\n{issuer}")).await?;
    let shown = site
        .assignment("an issuer that no webhook admits", |status| {
            let issuer = status.worst_object.as_deref() == Some(&*format!("Issuer {}/self", site.name));
            status.bundle == bundle && issuer
        })
        .await?;
    let said = shown.message.as_deref().unwrap_or_default();
    tell(said);
    ensure!(
        said.starts_with("WebhookDown: an admission webhook of the cluster does not answer: "),
        "{shown:#?}"
    );
    ensure!(said.contains("webhook.cert-manager.io"), "{shown:#?}");

    let kept = newer.split("\n---\n").filter(|one| one.contains("\nkind: Namespace\n"));
    let kept: Vec<&str> = kept.collect();
    shrinks_to(&mut site, APPLICATION, &newer, &kept.join("\n---\n"), &before).await
}

#[allow(clippy::print_stdout, reason = "the words are what is printed")]
fn tell(said: &str) {
    println!("{APPLICATION}: {said}");
}

/// The chart as its project releases it, and as `helm install` with its definitions would apply it: packaged with
/// the version, then rendered. Hooks are left out: what they check here is told by conditions.
fn rendered(module: &Path, folder: &Path) -> Result<String> {
    let text = |path: &Path| path.to_str().map(str::to_owned).context("a path in UTF-8");
    let version =
        text(module)?.rsplit_once('@').context("a module's folder ends in its version")?.1.to_owned();
    let chart = text(&module.join("deploy/charts/cert-manager"))?;
    let destination = text(folder)?;
    let package = ["package", &chart, "--version", &version, "--app-version", &version, "--destination"];
    helm(folder, &[&package[..], &[&destination]].concat())?;
    let packaged = text(&folder.join(format!("cert-manager-{version}.tgz")))?;
    let template = ["template", APPLICATION, &packaged, "--namespace", APPLICATION];
    let chart = helm(folder, &[&template[..], &["--set", "crds.enabled=true", "--no-hooks"]].concat())?;
    // A namespace is for whoever installs to make: the project publishes one.
    let namespace = fs::read_to_string(module.join("deploy/manifests/namespace.yaml"))?;
    Ok(format!("{namespace}\n---\n{chart}"))
}

/// Runs Helm, which keeps what it keeps in `folder`. Returns what it printed.
fn helm(folder: &Path, arguments: &[&str]) -> Result<String> {
    let mut command = Command::new(tool("helm")?);
    for variable in ["HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"] {
        command.env(variable, folder.join("helm"));
    }
    let output = command.args(arguments).stdin(Stdio::null()).output().context("start helm")?;
    ensure!(output.status.success(), "helm {arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
