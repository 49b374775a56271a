//! One tenant's bad release is that tenant's alone: the others' go on.

use std::fs;

use anyhow::{Context as _, Result, ensure};
use edgefleet::bundle::Bundle;
use fleet_broker::{
    keys::{self, ROOT_FILE},
    resources::{AssignmentState, AssignmentStatus},
};
use protocol::{documents::Root, ids::AppId, keys::SigningKey};
use serde_json::json;

use crate::fleet_keys::KEYS;
use crate::fleet_keys::sign_root;
use crate::harness::Site;

#[tokio::test(flavor = "multi_thread")]
async fn a_release_out_of_its_tenants_scope_stops_no_other_tenant() -> Result<()> {
    let mut site = Site::start("tenants").await?;
    let (one, other) = (site.app()?, site.other_app()?);
    let first = site.deliver(&manifests(one.tenant.as_str(), 1)).await?;
    assigned(&site, &one, &first, AssignmentState::Updated).await?;
    let others = deliver(&mut site, &other, 1).await?;
    assigned(&site, &other, &others, AssignmentState::Updated).await?;
    let uid = site.get("configmap", "greeting").await?["metadata"]["uid"].clone();

    let bad = bad_releases(&mut site, &one, &other)?;
    for (bundle, why) in &bad {
        let refusal = site.operator.push(bundle).await.err().context("the hub refuses it")?;
        let text = refusal.to_string();
        ensure!(text.contains(why) && text.contains("spec.release"), "{text}");
        println!("the hub: {text}");
    }
    // Such a hub would be deceived itself; its clusters are not.
    deceive(&mut site).await?;
    for (bundle, why) in &bad {
        site.operator.push(bundle).await?;
        let name = site.place(bundle).await?;
        let shown = assigned(&site, &one, &name, AssignmentState::Rejected).await?;
        let message = shown.message.context("it says why")?;
        ensure!(message.starts_with("OutOfScope: ") && message.contains(why), "{message}");
        println!("the cluster: {name} {:?}: {message}", shown.state);

        // Neither is the other tenant's next version held up, nor what was accepted before.
        let version = u64::try_from(name.len())?;
        let others = deliver(&mut site, &other, version).await?;
        assigned(&site, &other, &others, AssignmentState::Updated).await?;
        let get = ["-n", other.tenant.as_str(), "get", "configmap", "greeting", "-o", "json"];
        let found: serde_json::Value = serde_json::from_str(&site.kubectl.run(&get).await?)?;
        ensure!(found["data"]["version"] == json!(version.to_string()), "{found:#}");
        let found = site.get("configmap", "greeting").await?;
        ensure!(found["metadata"]["uid"] == uid && found["data"]["version"] == json!("1"), "{found:#}");
    }
    site.kubectl(&["delete", "configmap", "greeting"]).await?;
    site.object("configmap", "greeting", |found| found["data"]["version"] == json!("1")).await?;
    let status: serde_json::Value = serde_json::from_str(&site.status(&["--json"])?)?;
    let running = status["applications"].as_array().into_iter().flatten();
    let versions: Vec<_> = running.map(|app| (&app["app"], &app["version"], &app["state"])).collect();
    println!("at the site: {versions:?}");

    let good = site.deliver(&manifests(one.tenant.as_str(), 2)).await?;
    assigned(&site, &one, &good, AssignmentState::Updated).await.map(drop)
}

/// Releases of `one` that reach into the other tenant's namespace, or are signed by the other tenant, and what is
/// said of them.
fn bad_releases(site: &mut Site, one: &AppId, other: &AppId) -> Result<Vec<(Bundle, String)>> {
    let plan = site.plan(one);
    let reaching = format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: reaching, namespace: {}}}\ndata: {{a: b}}\n",
        other.tenant
    );
    let reaching = site.build(&plan, &reaching, &site.signers(one.tenant.as_str()))?;
    let plan = site.plan(one);
    let text = manifests(one.tenant.as_str(), 2);
    let foreign = site.build(&plan, &text, &site.signers(other.tenant.as_str()))?;
    let outside = format!("namespace {} is outside its keys' scope", other.tenant);
    Ok(vec![(reaching, outside), (foreign, "0 of 2 signatures".to_owned())])
}

/// Gives the hub a root that lets each tenant's keys sign for both, unlike the root that its cluster joined with.
pub(crate) async fn deceive(site: &mut Site) -> Result<()> {
    let folder = site.folder.path().join(KEYS);
    let mut root: Root = keys::load_root(&folder.join(ROOT_FILE))?.root().clone();
    let namespaces: Vec<_> = root.releases.iter().flat_map(|role| role.namespaces.clone()).collect();
    let all: Vec<_> = root.releases.iter().flat_map(|role| role.keys.clone()).collect();
    for role in &mut root.releases {
        (role.namespaces, role.keys) = (namespaces.clone(), all.clone());
    }
    let signers: Vec<SigningKey> = ["root-1.key", "root-2.key"]
        .map(|name| Ok(keys::load_signing_key(&folder.join(name))?.key))
        .into_iter()
        .collect::<Result<_>>()?;
    fs::write(folder.join(ROOT_FILE), sign_root(&root, &signers.iter().collect::<Vec<_>>()))?;
    site.stop_hub().await?;
    site.start_hub().await?;
    site.condition("Connected").await
}

/// Delivers a version of an application, signed by its own tenant.
async fn deliver(site: &mut Site, app: &AppId, version: u64) -> Result<String> {
    let plan = site.plan(app);
    let tenant = app.tenant.as_str();
    let bundle = site.build(&plan, &manifests(tenant, version), &site.signers(tenant))?;
    site.operator.push(&bundle).await?;
    site.place(&bundle).await
}

async fn assigned(
    site: &Site,
    app: &AppId,
    bundle: &str,
    state: AssignmentState,
) -> Result<AssignmentStatus> {
    let namespace = app.tenant.as_str();
    tests::wait_for(&format!("{app}: {bundle} {state:?}"), crate::harness::SOON, async || {
        let shown = site.operator.assignments().await?;
        let of_tenant = shown.iter().filter(|one| one.metadata.namespace.as_deref() == Some(namespace));
        let found = of_tenant.filter_map(|one| one.status.as_ref());
        let found = found.clone().find(|status| status.bundle == bundle && status.state == state);
        found.cloned().with_context(|| format!("{shown:#?}"))
    })
    .await
}

fn manifests(namespace: &str, version: u64) -> String {
    format!(
        "
apiVersion: v1
kind: Namespace
metadata: {{name: {namespace}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {{name: greeting}}
data: {{version: '{version}'}}
"
    )
}
