//! Clients that others wrote read, watch and write what the hub serves: kube-rs, client-go, and Python's.

use std::ops::Range;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::{Cluster, Freeze};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, Client, ResourceExt as _};
use serde_json::{Value, json};
use tests::{HubFolder, Process, client_of_others, wait_for};

mod many;
mod mirror;

use mirror::{Contents, Mirror};

const SOON: Duration = Duration::from_secs(120);

/// Clusters at the start: some pages of every client.
const CLUSTERS: usize = 250;

/// Writes at once: a fraction of what one token may ask at once.
const WRITERS: usize = 8;

/// What each client holds is what the hub serves: after its first list, after changes, after the hub was killed and
/// began a new life in which everybody must list again, and after everything was deleted.
#[tokio::test(flavor = "multi_thread")]
async fn informers_and_reflectors_hold_what_the_hub_serves() -> Result<()> {
    let place = HubFolder::create("clients")?;
    let mut hub = start(&place).await?;
    let client = place.client().await?;
    let freezes = Api::<Freeze>::all(client.clone());
    let freeze = json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Freeze",
        "metadata": {"name": "weekend"},
        "spec": {"reason": "nobody is there"},
    });
    freezes.create(&PostParams::default(), &serde_json::from_value(freeze)?).await?;
    let clusters = Api::<Cluster>::all(client.clone());
    create(&clusters, 0..CLUSTERS).await?;

    let mut mirrors = mirrors(&place, &client)?;
    agree(&client, &mut mirrors, "at first").await?;

    create(&clusters, CLUSTERS..CLUSTERS + 30).await?;
    label(&clusters, 10..60, "north").await?;
    delete(&clusters, 0..20).await?;
    agree(&client, &mut mirrors, "after changes").await?;

    hub.kill9()?;
    let mut hub = start(&place).await?;
    label(&clusters, 40..80, "south").await?;
    delete(&clusters, 20..40).await?;
    agree(&client, &mut mirrors, "after the hub was killed").await?;

    freezes.delete("weekend", &DeleteParams::default()).await?;
    delete(&clusters, 40..CLUSTERS + 30).await?;
    agree(&client, &mut mirrors, "at the end").await?;
    ensure!(served(&client).await?.is_empty(), "everything was deleted");
    ensure!(hub.ended()?.is_none(), "the hub has ended");
    Ok(())
}

/// The official Python client writes in every way it knows, and understands every answer.
#[tokio::test(flavor = "multi_thread")]
async fn the_python_client_writes() -> Result<()> {
    let place = HubFolder::create("python")?;
    let _hub = start(&place).await?;
    let mut command = python()?;
    command.arg("write").arg(place.kubeconfig());
    let mut writing = Process::spawn("python", &command)?;
    ensure!(writing.wait(SOON).await?.success(), "it failed");
    let log = writing.log()?;
    let answers: Vec<Value> = log.lines().map(serde_json::from_str).collect::<Result<_, _>>()?;
    let codes: Vec<(&str, u64, &str)> = answers
        .iter()
        .map(|answer| {
            let text = |key: &str| answer[key].as_str().unwrap_or_default();
            (text("what"), answer["code"].as_u64().unwrap_or_default(), text("reason"))
        })
        .collect();
    let wanted = [
        ("create", 200, ""),
        ("create again", 409, "AlreadyExists"),
        ("dry run", 200, ""),
        ("get what was not kept", 404, "NotFound"),
        ("merge patch", 200, ""),
        ("JSON patch", 200, ""),
        ("JSON patch whose test fails", 422, "Invalid"),
        ("apply over another's", 409, "Conflict"),
        ("apply by force", 200, ""),
        ("replace what has changed", 409, "Conflict"),
        ("replace", 200, ""),
        ("patch with a wrong type", 422, "Invalid"),
        ("delete", 200, ""),
        ("get what was deleted", 404, "NotFound"),
    ];
    ensure!(codes == wanted, "{codes:#?}");
    let labels =
        |what: &str| answers.iter().find(|answer| answer["what"] == what).map(|found| &found["labels"]);
    ensure!(labels("JSON patch") == Some(&json!({"by": "python", "site": "south"})), "{answers:#?}");
    ensure!(labels("replace") == Some(&json!({"site": "east"})), "{answers:#?}");
    Ok(())
}

async fn start(place: &HubFolder) -> Result<Process> {
    let mut hub = Process::spawn("fleet-broker", &place.command()?)?;
    hub.printed("ready", SOON).await?;
    Ok(hub)
}

/// One of each client, each with paged and, where it can, with streamed lists.
fn mirrors(place: &HubFolder, client: &Client) -> Result<Vec<Mirror>> {
    let mut mirrors = vec![Mirror::reflector(client, false), Mirror::reflector(client, true)];
    for streamed in ["false", "true"] {
        let mut command = Command::new(client_of_others("informer")?);
        command.arg(place.kubeconfig()).env("KUBE_FEATURE_WatchListClient", streamed);
        mirrors.push(Mirror::program("informer", &command, &["clusters", "freezes"])?);
    }
    let mut command = python()?;
    command.arg("mirror").arg(place.kubeconfig());
    mirrors.push(Mirror::program("python", &command, &["clusters"])?);
    Ok(mirrors)
}

fn python() -> Result<Command> {
    let script: PathBuf = [env!("CARGO_MANIFEST_DIR"), "clients", "client.py"].iter().collect();
    let mut command = Command::new(client_of_others("python")?);
    command.arg(script);
    Ok(command)
}

async fn agree(client: &Client, mirrors: &mut [Mirror], when: &str) -> Result<()> {
    for mirror in mirrors {
        let what = format!("{} {when}", mirror.name());
        // Asked each time: the hub goes on to write what it finds out about clusters.
        wait_for(&what, SOON, async || mirror.compare(&served(client).await?)).await?;
    }
    Ok(())
}

/// What there is, by resource and name, with its version.
async fn served(client: &Client) -> Result<Contents> {
    let mut contents = Contents::new();
    let clusters = Api::<Cluster>::all(client.clone()).list(&ListParams::default()).await?;
    let freezes = Api::<Freeze>::all(client.clone()).list(&ListParams::default()).await?;
    let clusters = clusters.iter().map(|of| ("clusters", of.name_any(), of.resource_version()));
    let freezes = freezes.iter().map(|of| ("freezes", of.name_any(), of.resource_version()));
    for (resource, name, version) in clusters.chain(freezes) {
        contents.insert((resource.to_owned(), name), version.context("a version")?.parse()?);
    }
    Ok(contents)
}

fn name(number: usize) -> String {
    format!("tower-{number:04}")
}

async fn create(clusters: &Api<Cluster>, numbers: Range<usize>) -> Result<()> {
    each(numbers, async |name| {
        let cluster = json!({
            "apiVersion": "edgefleet.dev/v1alpha1",
            "kind": "Cluster",
            "metadata": {"name": name},
            "spec": {"accepted": true},
        });
        clusters.create(&PostParams::default(), &serde_json::from_value(cluster)?).await?;
        Ok(())
    })
    .await
}

async fn label(clusters: &Api<Cluster>, numbers: Range<usize>, site: &str) -> Result<()> {
    each(numbers, async |name| {
        let labels = json!({"metadata": {"labels": {"site": site}}});
        clusters.patch(&name, &PatchParams::default(), &Patch::Merge(labels)).await?;
        Ok(())
    })
    .await
}

async fn delete(clusters: &Api<Cluster>, numbers: Range<usize>) -> Result<()> {
    each(numbers, async |name| {
        clusters.delete(&name, &DeleteParams::default()).await?;
        Ok(())
    })
    .await
}

async fn each(numbers: Range<usize>, write: impl AsyncFn(String) -> Result<()>) -> Result<()> {
    stream::iter(numbers).map(|number| write(name(number))).buffer_unordered(WRITERS).try_collect().await
}
