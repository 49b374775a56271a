//! A hub that can be lost: restored from a backup, it learns what its clusters run, and moves none of them back.

use std::{fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};
use edgefleet::{
    bundle::Bundle,
    hub::{Hub, Recovery},
};
use fleet_broker::{
    backup,
    keys::ROOT_FILE,
    resources::{AssignmentState, Decision},
    serve,
};
use protocol::{
    ids::{AppId, ClusterId},
    topics::Downward,
};
use serde_json::{Value, json};
use tests::{Kubectl, Process, wait_for};

use crate::{
    fleet_keys::KEYS,
    harness::{APPLICATION, SOON, Site, condition, name_of, program},
    relay::Relay,
};

/// The other application of these sites, which is removed after the backup.
const EXTRA: &str = "extra";

/// The path of the hub's own resources.
const GROUP: &str = "/apis/edgefleet.dev/v1alpha1";

#[tokio::test(flavor = "multi_thread")]
async fn a_restored_hub_moves_no_cluster_back() -> Result<()> {
    let mut site = Site::start("restored").await?;
    let first = publish(&mut site, "one")?;
    site.operator.push(&first).await?;
    run(&site, &first, "info").await?;
    site.assigned(&name_of(&first), AssignmentState::Updated).await?;
    let extra = site.publish(EXTRA, &configmap(EXTRA, "a: b")).await?;
    site.place(&extra).await?;
    site.assigned(&name_of(&extra), AssignmentState::Updated).await?;
    let spare = ClusterId::new(format!("{}-spare", site.name))?;
    site.operator.add_cluster(&spare, &[]).await?;
    let code = site.operator.join_code(&spare).await?.to_string();
    let file = take_backup(&site).await?;

    // Three changes that the backup knows nothing of.
    let second = publish(&mut site, "two")?;
    site.operator.push(&second).await?;
    run(&site, &second, "info").await?;
    run(&site, &second, "debug").await?;
    site.remove(&extra).await?;
    let is_second = |found: &Value| found["data"] == json!({"GREETING": "two", "LEVEL": "debug"});
    let before = site.object("configmap", "greeting", is_second).await?;
    site.gone("configmap", EXTRA).await?;
    site.assigned(&name_of(&second), AssignmentState::Updated).await?;
    let version = version_of(&hub_kubectl(&site)?).await?;

    let watch = watch_objects(&site).await?;
    lose_hub(&mut site).await?;
    let restored = restore(&mut site, &file).await?;
    println!("restored, knows {} clusters", restored.clusters);
    let recovery = heard_of(&site).await?;
    ensure!(recovery.accepted.is_none() && recovery.joined == 1, "{recovery:#?}");
    let found: Vec<_> = recovery.found_otherwise.iter().map(|found| &*found.application).collect();
    ensure!(
        found == [&*format!("{}/{EXTRA}", site.name), &*format!("{}/{APPLICATION}", site.name)],
        "{found:?}"
    );
    println!("the hub: {}; otherwise than recorded: {found:?}", recovery.message);
    expired(&site, version).await?;
    join_fails(&site, &code).await?;

    // What it does not know is named, and stays.
    let shown = site.assignment("an unknown bundle", |status| status.bundle.starts_with("sha256:")).await?;
    ensure!(shown.message.as_ref().is_some_and(|message| message.contains("push it again")), "{shown:#?}");
    site.operator.push(&second).await?;
    site.assigned(&name_of(&second), AssignmentState::Updated).await?;
    // Nothing changes, whoever asks for it, before it is accepted.
    let third = publish(&mut site, "three")?;
    site.operator.push(&third).await?;
    run(&site, &third, "info").await?;
    waits(&site, APPLICATION, "nothing changes until `edgefleet restore --accept`").await?;
    let now = site.get("configmap", "greeting").await?;
    ensure!(now["metadata"] == before["metadata"] && now["data"] == before["data"], "{now:#}");

    let accepted = site.operator.accept_recovery("all of it is as it should be").await?;
    ensure!(accepted.is_some_and(|accepted| accepted.accepted.is_some()), "it is accepted");
    site.assigned(&name_of(&third), AssignmentState::Updated).await?;
    let is_third = |found: &Value| found["data"] == json!({"GREETING": "three", "LEVEL": "info"});
    let after = site.object("configmap", "greeting", is_third).await?;
    ensure!(after["metadata"]["uid"] == before["metadata"]["uid"], "it was made anew");
    waits(&site, EXTRA, "otherwise than this old record says").await?;
    changed_once(&site, &watch).await?;
    refused_nothing(&site).await
}

#[tokio::test(flavor = "multi_thread")]
async fn a_store_that_was_put_back_is_noticed_and_moves_no_cluster_back() -> Result<()> {
    let mut site = Site::start("put-back").await?;
    let first = site.deliver(&crate::manifests::greeting(&site.name, "one")).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    site.stop_hub().await?;
    let store = site.folder.path().join("hub").join(backup::STORE_FILE);
    let image = fs::read(&store)?;
    site.start_hub().await?;
    let second = site.deliver(&crate::manifests::greeting(&site.name, "two")).await?;
    site.assigned(&second, AssignmentState::Updated).await?;
    let before = site.get("configmap", "greeting").await?;

    site.stop_hub().await?;
    fs::write(&store, image)?;
    site.start_hub().await?;
    let recovery = heard_of(&site).await?;
    ensure!(recovery.message.contains("rolled back") && recovery.accepted.is_none(), "{recovery:#?}");
    println!("the hub: {}", recovery.message);
    waits(&site, APPLICATION, "rolled back").await?;
    site.operator.accept_recovery("the disk was put back").await?;
    waits(&site, APPLICATION, "otherwise than this old record says").await?;
    let now = site.get("configmap", "greeting").await?;
    ensure!(now["metadata"] == before["metadata"] && now["data"] == before["data"], "{now:#}");
    let third = site.deliver(&crate::manifests::greeting(&site.name, "three")).await?;
    site.assigned(&third, AssignmentState::Updated).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("three")).await.map(drop)
}

/// What a lost hub said is said again by whoever carries messages.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_lost_hub_said_is_not_believed_any_more() -> Result<()> {
    let mut site = Site::start("lost-head").await?;
    let first = site.deliver(&crate::manifests::greeting(&site.name, "one")).await?;
    site.assigned(&first, AssignmentState::Updated).await?;
    let file = take_backup(&site).await?;
    let authority = serve::certificate_authority(&site.folder.path().join("hub"), &site.name)?;
    let relay =
        Relay::start(&authority, site.hub_address(), ClusterId::new(&*site.name)?, &site.state()).await?;
    site.link.lead_to(relay.address());
    relay.hears(Downward::Head, 0).await?;
    site.condition("Connected").await?;

    // News that nobody but the broker has.
    relay.withhold(&[Downward::Head, Downward::Desired]);
    let seen = relay.heard(Downward::Desired).len();
    site.deliver(&crate::manifests::greeting(&site.name, "two")).await?;
    let desired = relay.hears(Downward::Desired, seen).await?;
    let head = relay.heard(Downward::Head).last().cloned().context("the hub said it")?;
    let before = site.get("configmap", "greeting").await?;
    lose_hub(&mut site).await?;
    relay.withhold(&[]);
    restore(&mut site, &file).await?;
    heard_of(&site).await?;
    relay.say(Downward::Head, &head).await?;
    relay.say(Downward::Desired, &desired).await?;
    for kind in ["RefusedReplay", "RefusedUnannounced"] {
        println!("{kind}: {}", site.told(kind).await?);
    }
    let now = site.get("configmap", "greeting").await?;
    ensure!(now["metadata"] == before["metadata"] && now["data"] == before["data"], "{now:#}");
    site.operator.accept_recovery("nothing was lost").await?;
    let third = site.deliver(&crate::manifests::greeting(&site.name, "three")).await?;
    site.assigned(&third, AssignmentState::Updated).await.map(drop)
}

/// A version of the application: a greeting and a level, which is a parameter.
fn publish(site: &mut Site, greeting: &str) -> Result<Bundle> {
    let app: AppId = site.app()?;
    let mut plan = site.plan(&app);
    plan.parameters = serde_json::from_value(json!([{
        "name": "level",
        "enum": ["info", "debug"],
        "default": "info",
        "targets": [{"kind": "ConfigMap", "name": "greeting", "pointer": "/data/LEVEL"}],
    }]))?;
    let namespace = format!("apiVersion: v1\nkind: Namespace\nmetadata: {{name: {}}}\n---\n", site.name);
    let manifests =
        format!("{namespace}{}", configmap("greeting", &format!("GREETING: {greeting}, LEVEL: info")));
    site.build(&plan, &manifests, &site.signers(&site.name))
}

fn configmap(name: &str, data: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{{data}}}\n")
}

/// Has the application run a bundle with a level.
async fn run(site: &Site, bundle: &Bundle, level: &str) -> Result<()> {
    let application = json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"namespace": site.name, "name": APPLICATION},
        "spec": {
            "bundle": name_of(bundle),
            "parameters": {"level": level},
            "placement": {"clusterSelector": {"matchLabels": {"stage": "test"}}, "onUnmatch": "Leave"},
        },
    });
    Ok(site.operator.put_application(application).await?)
}

#[allow(clippy::print_stdout, reason = "what was seen is for whoever reads along")]
async fn take_backup(site: &Site) -> Result<PathBuf> {
    let path = site.folder.path().join("hub.backup");
    site.operator.backup(&mut fs::File::create_new(&path)?).await?;
    let manifest = backup::verify(&path)?;
    println!("a backup of {} bytes", manifest.files.iter().map(|file| file.len).sum::<u64>());
    Ok(path)
}

/// Hub and folder are gone for good.
async fn lose_hub(site: &mut Site) -> Result<()> {
    site.stop_hub().await?;
    Ok(fs::remove_dir_all(site.folder.path().join("hub"))?)
}

async fn restore(site: &mut Site, file: &std::path::Path) -> Result<backup::Restored> {
    let restored = backup::restore(file, &site.folder.path().join("hub")).await?;
    ensure!(
        fs::read(&restored.root)? == fs::read(site.folder.path().join(KEYS).join(ROOT_FILE))?,
        "its root"
    );
    site.start_hub().await?;
    site.operator = Hub::open(&restored.directory.join(serve::KUBECONFIG)).await?;
    Ok(restored)
}

/// Waits until the hub knows what the cluster holds.
async fn heard_of(site: &Site) -> Result<Recovery> {
    site.condition("Adopted").await?;
    wait_for("all clusters to be heard of", SOON, async || {
        let recovery = site.operator.recovery().await?.context("the hub is in another life")?;
        ensure!(!recovery.not_heard_of.contains(&site.name), "{recovery:#?}");
        Ok(recovery)
    })
    .await
}

/// Waits until an application is held for this reason.
#[allow(clippy::print_stdout, reason = "what was seen is for whoever reads along")]
/// Waits until the hub says that an application waits for this.
pub(crate) async fn waits(site: &Site, name: &str, why: &str) -> Result<()> {
    let reason = wait_for(&format!("{name} to wait"), SOON, async || {
        let applications = site.operator.applications().await?;
        let named = applications.into_iter().find(|one| one.metadata.name.as_deref() == Some(name));
        let status = named.and_then(|one| one.status).context("it has a status")?;
        let reason = status.reason.unwrap_or_default();
        ensure!(status.decision == Some(Decision::Hold) && reason.contains(why), "{reason}");
        Ok(reason)
    })
    .await?;
    println!("{name}: {reason}");
    Ok(())
}

fn hub_kubectl(site: &Site) -> Result<Kubectl> {
    Kubectl::new(site.folder.path().join("hub").join(serve::KUBECONFIG))
}

async fn version_of(kubectl: &Kubectl) -> Result<u64> {
    let list = kubectl.run(&["get", "--raw", &format!("{GROUP}/applications")]).await?;
    let list: Value = serde_json::from_str(&list)?;
    Ok(list["metadata"]["resourceVersion"].as_str().context("a list has a version")?.parse()?)
}

/// Who watched the lost hub, up to a version that the restored one never gave out, is told to list again.
#[allow(clippy::print_stdout, reason = "what was seen is for whoever reads along")]
async fn expired(site: &Site, version: u64) -> Result<()> {
    let kubectl = hub_kubectl(site)?;
    let now = version_of(&kubectl).await?;
    ensure!(now > version, "{now} after {version}");
    let path = format!("{GROUP}/applications?watch=1&timeoutSeconds=1&resourceVersion={version}");
    let answer = kubectl.run(&["get", "--raw", &path]).await;
    let text = answer.unwrap_or_else(|error| format!("{error:#}"));
    ensure!(text.contains("too old resource version"), "{text}");
    // And then it works.
    let path = format!("{GROUP}/applications?watch=1&timeoutSeconds=1&resourceVersion={now}");
    kubectl.run(&["get", "--raw", &path]).await?;
    println!("a watch from version {version}: {}", text.trim());
    Ok(())
}

async fn join_fails(site: &Site, code: &str) -> Result<()> {
    let mut command = Command::new(program("edge-agent")?);
    command.args(["join", code, "--state"]).arg(site.folder.path().join("spare"));
    command.arg("--kubeconfig").arg(site.folder.path().join("kubeconfig"));
    let mut joining = Process::spawn("edge-agent-join", &command)?;
    ensure!(!joining.wait(SOON).await?.success(), "an old code still works");
    let log = joining.log()?;
    ensure!(log.contains("this join code is not valid"), "{log}");
    Ok(())
}

/// Writes down everything that happens to the site's objects from now on.
async fn watch_objects(site: &Site) -> Result<Process> {
    let line = "jsonpath={.type} {.object.metadata.name} {.object.data.GREETING}{\"\\n\"}";
    let mut command = site.kubectl.command(&["--namespace", &site.name, "get", "configmaps", "--watch"]);
    command.args(["--output-watch-events", "-o", line]);
    let mut watch = Process::spawn("watch", &command)?;
    watch.printed("ADDED greeting two", SOON).await?;
    Ok(watch)
}

/// All that happened to the site's objects is the one change that was accepted.
#[allow(clippy::print_stdout, reason = "what was seen is for whoever reads along")]
async fn changed_once(site: &Site, watch: &Process) -> Result<()> {
    let seen = wait_for("the change", SOON, async || {
        let log = watch.log()?;
        ensure!(log.contains("MODIFIED greeting three"), "{log}");
        Ok(log)
    })
    .await?;
    let ours: Vec<&str> = seen.lines().filter(|line| !line.contains("kube-root-ca.crt")).collect();
    ensure!(ours == ["ADDED greeting two", "MODIFIED greeting three"], "{}: {seen}", site.name);
    println!("watched all the time: {ours:?}");
    Ok(())
}

async fn refused_nothing(site: &Site) -> Result<()> {
    let cluster = site.cluster("the cluster", |_| true).await?;
    let status = site.agent_status().await?;
    let refused: Vec<_> = status.conditions.iter().filter(|one| one.kind.starts_with("Refused")).collect();
    ensure!(refused.is_empty(), "the agent found fault with what it was told: {refused:#?}");
    ensure!(condition(&cluster, "Adopted").is_some_and(|[status, ..]| status == "True"), "{cluster:#?}");
    Ok(())
}
