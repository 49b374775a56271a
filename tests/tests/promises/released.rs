//! What a released version wrote, today's opens: nothing is lost, and what ran goes on.
//!
//! `tests/released/VERSION` holds, compressed, a whole site as that version left it: the hub's folder with its store,
//! the agent's with its journal, the keys, and in `said.json` what both held. Before the workspace's version is
//! raised, the version that ends adds its own:
//!
//! ```text
//! tests/run -p edge-agent -p fleet-broker -p tests --test promises what_this_version_writes -- --ignored
//! ```

use std::{
    collections::BTreeMap,
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use edge_agent::{
    config::{Config, Kubernetes, StateDir},
    control::{self, Reply, Request},
    journal::{Journal, MAX_BYTES},
};
use edgefleet::{bundle::Bundle, clock};
use fleet_broker::{
    keys::ROOT_FILE,
    pki::CERTIFICATE_LIFETIME,
    resources::{AssignmentState, AssignmentStatus},
    store::Store,
};
use protocol::ids::{AppId, ClusterId, Digest};
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::wait_for;

use crate::fleet_keys::KEYS;
use crate::harness::{SOON, Site, name_of};
use crate::manifests::greeting;
use crate::tenants::deceive;

/// How long the releases of a kept site are good for: whenever it is opened, they are over, which must not matter.
const RELEASE_SECONDS: u64 = 180;

/// Hardest that zstd compresses: it is done once.
const LEVEL: i32 = 19;

/// Longest list of numbers that is shown as it is; longer ones are bytes, and shown by their digest.
const NUMBERS: usize = 15;

/// What the store keeps beside objects and blobs.
const DOCUMENTS: [&str; 10] = [
    "agreement",
    "api-token",
    "desired",
    "hub",
    "identity",
    "recovery",
    "removals",
    "report",
    "revocation",
    "token",
];

#[tokio::test(flavor = "multi_thread")]
#[ignore = "writes files: what the version that ends leaves to those after it"]
async fn what_this_version_writes() -> Result<()> {
    let mut site = Site::start("released").await?;
    let mut said = live(&mut site).await?;
    let (name, folder) = (site.name.clone(), site.folder.path().to_owned());
    site.stop_agent().await?;
    site.stop_hub().await?;
    portable(&site.state())?;
    said["name"] = json!(name);
    said["journal"] = journal(&site.state().journal())?;
    said["store"] = store(&folder.join("hub/hub.sqlite")).await?;
    let kept = releases().join(env!("CARGO_PKG_VERSION"));
    if kept.exists() {
        fs::remove_dir_all(&kept)?;
    }
    for part in ["hub", "agent", KEYS] {
        pack(&folder.join(part), &kept.join(part))?;
    }
    fs::write(kept.join("said.json"), format!("{said:#}\n"))?;
    println!("kept {}", kept.display());
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_every_release_wrote_is_taken_up() -> Result<()> {
    let mut versions = 0;
    for version in fs::read_dir(releases())? {
        let folder = version?.path();
        if folder.is_dir() {
            taken_up(&folder).await.with_context(|| format!("what {} holds", folder.display()))?;
            versions += 1;
        }
    }
    ensure!(versions > 0, "no release is kept");
    Ok(())
}

async fn taken_up(kept: &Path) -> Result<()> {
    let said: Value = serde_json::from_slice(&fs::read(kept.join("said.json"))?)?;
    let folder = TempDir::with_prefix("released")?;
    unpack(kept, folder.path())?;
    let name = said["name"].as_str().context("it has a name")?.to_owned();
    let state = StateDir::new(&folder.path().join("agent"));
    nothing_lost(&said["journal"], &journal(&state.journal())?)?;
    nothing_lost(&said["store"], &store(&folder.path().join("hub/hub.sqlite")).await?)?;

    let mut site = Site::open(name, folder, CERTIFICATE_LIFETIME).await?;
    let reserved = said["store"]["reserved"].as_u64().context("versions were reserved")?;
    versions_go_on(&site, reserved).await?;
    site.lead_agent()?;
    site.start_agent()?;
    site.condition("Connected").await?;
    goes_on(&mut site, &said).await
}

/// Fills a site with one of everything, and returns what its hub and its agent say of it.
async fn live(site: &mut Site) -> Result<Value> {
    let (app, other) = (site.app()?, site.other_app()?);
    let tenant = app.tenant.to_string();
    let parameters = json!([{
        "name": "greeting", "enum": ["one", "two"], "default": "one",
        "targets": [{"kind": "ConfigMap", "name": "greeting", "pointer": "/data/GREETING"}],
    }]);
    let web = publish(site, &app, &greeting(&tenant, "one"), parameters).await?;
    place(site, &web, json!({"parameters": {"greeting": "two"}})).await?;
    assigned(site, &web, AssignmentState::Updated).await?;
    let gone = publish(site, &AppId::new(&tenant, "gone")?, &configmap("gone", "1"), json!([])).await?;
    place(site, &gone, json!({})).await?;
    assigned(site, &gone, AssignmentState::Updated).await?;
    let second = publish(site, &other, &greeting(other.tenant.as_str(), "one"), json!([])).await?;
    place(site, &second, json!({})).await?;
    assigned(site, &second, AssignmentState::Updated).await?;
    let waits = AppId::new(&tenant, "waits")?;
    let third = publish(site, &waits, &configmap("waits", "1"), json!([])).await?;
    place(site, &third, json!({"dependsOn": [{"application": app.name.as_str()}]})).await?;
    assigned(site, &third, AssignmentState::Updated).await?;

    site.kubectl(&["delete", "configmap", "greeting"]).await?;
    let healed = |status: &AssignmentStatus| {
        status.conditions.iter().any(|one| one.type_ == "Drifted" && one.status == "False")
    };
    site.assignment("healed", healed).await?;
    site.remove(&gone).await?;
    site.gone("configmap", "gone").await?;
    reject(site, &waits).await?;
    let another = ClusterId::new("another")?;
    site.operator.add_cluster(&another, &[("stage".to_owned(), "later".to_owned())]).await?;
    site.operator.join_code(&another).await?;
    ask(site, Request::Hold { reason: "crane on site".to_owned() }).await?;
    site.condition("Held").await?;
    wait_for("all reports acknowledged", SOON, async || {
        let status = site.agent_status().await?;
        ensure!(status.reports_waiting == 0, "{status}");
        Ok(())
    })
    .await?;
    Ok(json!({"agent": agent(site).await?, "shown": shown(site).await?}))
}

/// Has the cluster refuse a release. No honest hub would send it.
async fn reject(site: &mut Site, app: &AppId) -> Result<()> {
    let root = site.folder.path().join(KEYS).join(ROOT_FILE);
    let honest = fs::read(&root)?;
    deceive(site).await?;
    let elsewhere = site.other_app()?.tenant;
    let reaching = configmap("waits", "2").replace("waits}", &format!("waits, namespace: {elsewhere}}}"));
    let bad = publish(site, app, &reaching, json!([])).await;
    let bad = bad.context("publish what reaches too far")?;
    place(site, &bad, json!({})).await?;
    assigned(site, &bad, AssignmentState::Rejected).await?;
    site.stop_hub().await?;
    fs::write(root, honest)?;
    site.start_hub().await?;
    site.condition("Connected").await
}

/// The hub's versions go on behind those that an earlier version may have given out.
async fn versions_go_on(site: &Site, reserved: u64) -> Result<()> {
    site.operator.add_cluster(&ClusterId::new("newest")?, &[]).await?;
    let clusters = site.operator.clusters().await?;
    let newest = clusters.iter().find(|one| one.metadata.name.as_deref() == Some("newest"));
    let version = newest.and_then(|one| one.metadata.resource_version.as_deref()).context("its version")?;
    ensure!(version.parse::<u64>()? > reserved, "{version} may have been given out: {reserved} were");
    Ok(())
}

/// The agent keeps to its hold, heals when that is over, says so, and takes the next release.
async fn goes_on(site: &mut Site, said: &Value) -> Result<()> {
    nothing_lost(&said["agent"], &agent(site).await?)?;
    // Nothing of the site is on this cluster.
    ensure!(site.get("configmap", "greeting").await.is_err(), "the hold did not keep");
    ask(site, Request::Release).await?;
    site.object("configmap", "greeting", |found| found["data"]["GREETING"] == json!("two")).await?;
    site.get_again("configmap", "waits").await?;
    ensure!(site.get("configmap", "gone").await.is_err(), "what was removed is back");
    wait_for("what the hub showed", SOON, async || nothing_lost(&said["shown"], &shown(site).await?)).await?;
    let told = |status: &AssignmentStatus| {
        status.conditions.iter().any(|one| one.type_ == "Drifted" && one.message.contains("greeting"))
    };
    site.assignment("healing", told).await?;
    let app = site.app()?;
    let mut plan = site.plan(&app);
    (plan.counter, plan.version) = (1000, "1000.0.0".to_owned());
    let next = site.build(&plan, &greeting(&site.name, "next"), &site.signers(&site.name))?;
    site.operator.push(&next).await?;
    place(site, &next, json!({"parameters": null})).await?;
    assigned(site, &next, AssignmentState::Updated).await
}

async fn publish(site: &mut Site, app: &AppId, manifests: &str, parameters: Value) -> Result<Bundle> {
    let mut plan = site.plan(app);
    plan.parameters = serde_json::from_value(parameters)?;
    plan.not_after = clock::now().plus(RELEASE_SECONDS);
    let bundle = site.build(&plan, manifests, &site.signers(app.tenant.as_str()))?;
    site.operator.push(&bundle).await?;
    Ok(bundle)
}

/// Has a bundle run, with this beside it in the application's specification.
async fn place(site: &Site, bundle: &Bundle, beside: Value) -> Result<()> {
    let AppId { tenant, name } = &bundle.release().app;
    let mut application = json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Application",
        "metadata": {"namespace": tenant.as_str(), "name": name.as_str()},
        "spec": {
            "bundle": name_of(bundle),
            "placement": {"clusterSelector": {"matchLabels": {"stage": "test"}}},
        },
    });
    for (key, value) in beside.as_object().into_iter().flatten() {
        application["spec"][key] = value.clone();
    }
    Ok(site.operator.put_application(application).await?)
}

async fn assigned(site: &Site, bundle: &Bundle, state: AssignmentState) -> Result<()> {
    site.assigned(&name_of(bundle), state).await.map(drop)
}

async fn ask(site: &Site, request: Request) -> Result<()> {
    let socket = site.state().control();
    match tokio::task::spawn_blocking(move || control::ask(&socket, &request)).await?? {
        Reply::Done => Ok(()),
        other @ (Reply::Status(_) | Reply::Report { .. } | Reply::Failed { .. }) => Err(anyhow!("{other:?}")),
    }
}

/// What the agent says of itself, as far as another cluster and another day change nothing of it.
async fn agent(site: &Site) -> Result<Value> {
    let status = site.agent_status().await?;
    let apps = status.applications.iter().map(|app| (&app.app, json!([app.version, app.desired])));
    let hold = status.hold.as_ref().map(|hold| json!([hold.reason, hold.since.0]));
    Ok(json!({"hold": hold, "applications": apps.collect::<BTreeMap<_, _>>()}))
}

/// How the hub shows every application.
async fn shown(site: &Site) -> Result<Value> {
    let shown = site.operator.assignments().await?;
    let lines = shown.iter().map(|one| {
        let status = one.status.as_ref().map(|status| json!([status.bundle, status.state]));
        (format!("{:?}/{:?}", one.metadata.namespace, one.metadata.name), status)
    });
    Ok(json!(lines.collect::<BTreeMap<_, _>>()))
}

/// All that a store holds.
async fn store(path: &Path) -> Result<Value> {
    let store = Store::open(path)?;
    let loaded = store.load().await?;
    let mut objects = BTreeMap::new();
    let mut blobs = BTreeMap::new();
    for object in &loaded.objects {
        let value: Value = serde_json::from_str(object.text.get())?;
        let pack = value.pointer("/spec/pack").and_then(Value::as_str);
        if let Some(digest) = pack.and_then(|pack| pack.strip_prefix("sha256:")) {
            let digest: Digest = digest.parse()?;
            let info = store.blob(*digest.as_bytes()).await?.context("a bundle's content is there")?;
            let frame = store.read_blob(*digest.as_bytes(), 0, usize::try_from(info.zstd_len)?).await?;
            ensure!(
                Digest::of(&zstd::decode_all(frame.as_slice())?) == digest,
                "content {digest} is damaged"
            );
            blobs.insert(digest.to_string(), info.len);
        }
        let key = format!("{} {}/{}", object.kind, object.namespace, object.name);
        objects.insert(key, json!([object.version, value]));
    }
    let mut documents = BTreeMap::new();
    for kind in DOCUMENTS {
        let found = store.documents(kind).await?;
        documents.extend(
            found.iter().map(|(key, bytes)| (format!("{kind} {key}"), Digest::of(bytes).to_string())),
        );
    }
    let reserved = loaded.reserved_version;
    drop(store);
    let log = path.with_extension("sqlite-wal");
    wait_for("end of the store", SOON, async || {
        ensure!(!log.exists(), "its log is there");
        Ok(())
    })
    .await?;
    Ok(json!({"reserved": reserved, "objects": objects, "documents": documents, "blobs": blobs}))
}

/// All that a journal holds.
fn journal(path: &Path) -> Result<Value> {
    let (_, held) = Journal::open(path, MAX_BYTES)?;
    let mut rows = BTreeMap::new();
    for row in &held.rows {
        rows.insert(
            serde_json::to_string(&legible(serde_json::to_value(row.key())?))?,
            legible(serde_json::to_value(row)?),
        );
    }
    let content = held.content.iter().map(|held| (held.target.to_string(), json!([held.have, held.total])));
    Ok(json!({"rows": rows, "content": content.collect::<BTreeMap<_, _>>()}))
}

/// The same with a digest for bytes.
fn legible(value: Value) -> Value {
    match value {
        Value::Array(items) if items.len() > NUMBERS && items.iter().all(Value::is_u64) => {
            let bytes: Vec<u8> = items.iter().filter_map(|item| u8::try_from(item.as_u64()?).ok()).collect();
            json!(format!("{} bytes sha256:{}", bytes.len(), Digest::of(&bytes)))
        }
        Value::Array(items) => items.into_iter().map(legible).collect(),
        Value::Object(fields) => fields.into_iter().map(|(key, value)| (key, legible(value))).collect(),
        plain @ (Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_)) => plain,
    }
}

/// All of `old` is in `new`, which may say more.
fn nothing_lost(old: &Value, new: &Value) -> Result<()> {
    match (old, new) {
        (Value::Object(old), Value::Object(new)) => {
            for (key, value) in old {
                let found = new.get(key).with_context(|| format!("{key} is lost"))?;
                nothing_lost(value, found).with_context(|| format!("in {key}"))?;
            }
        }
        (Value::Array(old), Value::Array(new)) if old.len() == new.len() => {
            for (old, new) in old.iter().zip(new) {
                nothing_lost(old, new)?;
            }
        }
        _ => ensure!(old == new, "{old} became {new}"),
    }
    Ok(())
}

/// Takes the paths of this run out of the agent's configuration.
fn portable(state: &StateDir) -> Result<()> {
    let mut config = Config::load(&state.config())?;
    (config.state, config.kubernetes) = (PathBuf::new(), Kubernetes::Kubeconfig("../kubeconfig".into()));
    Ok(fs::write(state.config(), config.to_text()?)?)
}

fn releases() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("released")
}

fn configmap(name: &str, version: &str) -> String {
    format!("apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: {name}}}\ndata: {{version: '{version}'}}\n")
}

fn pack(from: &Path, to: &Path) -> Result<()> {
    fs::create_dir_all(to)?;
    for entry in fs::read_dir(from)? {
        let entry = entry?;
        let mut name = entry.file_name();
        name.push(".zst");
        fs::write(to.join(name), zstd::encode_all(fs::File::open(entry.path())?, LEVEL)?)?;
    }
    Ok(())
}

/// Nobody but their owner may read keys.
fn unpack(from: &Path, to: &Path) -> Result<()> {
    for part in ["hub", "agent", KEYS] {
        fs::create_dir_all(to.join(part))?;
        for entry in fs::read_dir(from.join(part))? {
            let packed = entry?.path();
            let path = to.join(part).join(packed.file_stem().context("a packed file has a name")?);
            fs::write(&path, zstd::decode_all(fs::File::open(&packed)?)?)?;
            fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
        }
    }
    Ok(())
}
