//! A fleet of ten thousand, and a thousand that watch it: what it takes is printed.

use std::fmt;
use std::fs;
use std::time::Instant;

use anyhow::{Context as _, Result, bail, ensure};
use edgefleet::hub::Hub;
use fleet_broker::logic::access::Role;
use fleet_broker::resources::Cluster;
use futures::future::try_join_all;
use futures::{AsyncReadExt as _, StreamExt as _, TryStreamExt as _, stream};
use http::Request;
use http::header::ACCEPT;
use kube::api::{ListParams, Patch, PatchParams, PostParams, WatchEvent, WatchParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::runtime::watcher;
use kube::{Api, Client, Config, ResourceExt as _};
use serde_json::json;
use tests::{HubFolder, Process, wait_for};
use tokio::task::JoinSet;
use tokio::time::timeout;

use crate::{SOON, WRITERS, name, start};

const CLUSTERS: usize = 10_000;

/// People and controllers with a token of their own each, and what each watches at once.
const TOKENS: usize = 10;
const WATCHES: usize = 100;

/// What a page of kubectl and client-go holds.
const PAGE: u32 = 500;

const PATH: &str = "/apis/edgefleet.dev/v1alpha1/clusters";
const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";

/// Ten thousand clusters are registered, listed, paged and streamed, and a thousand watches are told of one change,
/// each once.
#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_watch_ten_thousand_clusters() -> Result<()> {
    let place = HubFolder::create("many")?;
    let hub = start(&place).await?;
    let clients = bearers(&place).await?;
    let mut figures = Figures::default();
    let empty = resident(&hub)?;
    figures.kib("resident memory, empty", empty);

    figures.time("create 10,000 clusters, one by one", fill(&clients)).await?;
    let full = resident(&hub)?;
    figures.kib("resident memory with 10,000 clusters", full);
    figures.add("resident memory a cluster", format!("{} B", full.saturating_sub(empty) * 1024 / CLUSTERS));

    let client = &clients[0];
    let bytes = figures.time("list them at once", read(client, PATH, "application/json")).await?;
    figures.add("that list", format!("{:.1} MB", bytes.0 as f64 / 1e6));
    figures.time("list them as kubectl's table, in pages of 500", tables(client)).await?;
    let version = figures.time("list them in pages of 500", pages(client)).await?;
    figures.time("stream them to ten informers at once", try_join_all(clients.iter().map(streamed))).await?;
    let before = resident(&hub)?;
    figures.kib("resident memory after that", before);

    let mut told = figures.time("begin 1,000 watches", watch(&clients, &version)).await?;
    let watched = resident(&hub)?;
    let a_watch = watched.saturating_sub(before) / (TOKENS * WATCHES);
    figures.add("resident memory a watch, TLS included", format!("{a_watch} KiB"));
    figures.time("one change, until all 1,000 have it", change(client, &mut told)).await?;
    println!("1,000 watches of 10,000 clusters; the hub is a debug build:\n{figures}");
    Ok(())
}

/// A client for each of some tokens.
async fn bearers(place: &HubFolder) -> Result<Vec<Client>> {
    let hub = Hub::open(&place.kubeconfig()).await?;
    try_join_all((0..TOKENS).map(async |number| {
        let text = hub.create_token(&format!("bearer-{number}"), Role::Operator, None).await?;
        let file = Kubeconfig::from_yaml(&text)?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }))
    .await
}

async fn fill(clients: &[Client]) -> Result<()> {
    let of_one = async |first: usize, client: &Client| {
        let clusters = Api::<Cluster>::all(client.clone());
        let numbers = (first..CLUSTERS).step_by(TOKENS);
        stream::iter(numbers)
            .map(|number| register(&clusters, number))
            .buffer_unordered(WRITERS)
            .try_collect::<()>()
            .await
    };
    try_join_all(clients.iter().enumerate().map(|(first, client)| of_one(first, client))).await?;
    Ok(())
}

async fn register(clusters: &Api<Cluster>, number: usize) -> Result<()> {
    let cluster = json!({
        "apiVersion": "edgefleet.dev/v1alpha1",
        "kind": "Cluster",
        "metadata": {"name": name(number), "labels": {"site": format!("site-{}", number % 100)}},
        "spec": {"accepted": true},
    });
    let cluster = serde_json::from_value(cluster)?;
    // Its token may have asked too much lately.
    wait_for("a registration", SOON, async || {
        Ok(clusters.create(&PostParams::default(), &cluster).await.map(drop)?)
    })
    .await
}

/// The length of an answer, and where its list goes on.
async fn read(client: &Client, path: &str, accept: &str) -> Result<(usize, Option<String>, usize)> {
    let request = Request::get(path).header(ACCEPT, accept).body(Vec::new())?;
    let mut bytes = Vec::new();
    Box::pin(client.request_stream(request).await?).read_to_end(&mut bytes).await?;
    let answer: serde_json::Value = serde_json::from_slice(&bytes)?;
    let items = answer.get("items").or(answer.get("rows")).and_then(|items| items.as_array());
    let following = answer.pointer("/metadata/continue").and_then(|following| following.as_str());
    Ok((
        bytes.len(),
        following.filter(|text| !text.is_empty()).map(Into::into),
        items.context("items")?.len(),
    ))
}

async fn tables(client: &Client) -> Result<()> {
    let (mut path, mut rows) = (format!("{PATH}?limit={PAGE}"), 0);
    loop {
        let (_, following, found) = read(client, &path, TABLE).await?;
        rows += found;
        let Some(following) = following else { break };
        path = format!("{PATH}?limit={PAGE}&continue={following}");
    }
    ensure!(rows == CLUSTERS, "{rows} rows");
    Ok(())
}

/// Lists in pages; returns the list's version.
async fn pages(client: &Client) -> Result<String> {
    let clusters = Api::<Cluster>::all(client.clone());
    let (mut params, mut seen) = (ListParams::default().limit(PAGE), 0);
    loop {
        let page = clusters.list(&params).await?;
        seen += page.items.len();
        match page.metadata.continue_.filter(|following| !following.is_empty()) {
            Some(following) => params = ListParams::default().limit(PAGE).continue_token(&following),
            None => {
                ensure!(seen == CLUSTERS, "{seen} clusters");
                return page.metadata.resource_version.context("a list has a version");
            }
        }
    }
}

/// The first list of an informer: as a watch.
async fn streamed(client: &Client) -> Result<()> {
    let clusters = Api::<Cluster>::all(client.clone());
    let mut events = Box::pin(watcher(clusters, watcher::Config::default().streaming_lists()));
    let mut seen = 0;
    loop {
        match timeout(SOON, events.next()).await?.context("a watch goes on")?? {
            watcher::Event::InitApply(_) => seen += 1,
            watcher::Event::InitDone => break,
            watcher::Event::Init | watcher::Event::Apply(_) | watcher::Event::Delete(_) => {}
        }
    }
    ensure!(seen == CLUSTERS, "{seen} clusters");
    Ok(())
}

/// What each watch was told: it ends with an error where that was not one change and then nothing.
type Told = JoinSet<Result<u64>>;

/// Begins the watches; all of them are answered when this returns.
async fn watch(clients: &[Client], version: &str) -> Result<Told> {
    let mut told = JoinSet::new();
    for client in clients {
        let clusters = Api::<Cluster>::all(client.clone());
        let begun = stream::iter(0..WATCHES)
            .map(|_| async { clusters.watch(&WatchParams::default(), version).await })
            .buffer_unordered(WRITERS)
            .try_collect::<Vec<_>>()
            .await?;
        for mut events in begun.into_iter().map(Box::pin) {
            told.spawn(async move {
                while let Some(event) = events.next().await {
                    match event? {
                        WatchEvent::Modified(cluster) => {
                            return Ok(cluster.resource_version().context("a version")?.parse()?);
                        }
                        WatchEvent::Bookmark(_) => {}
                        other @ (WatchEvent::Added(_) | WatchEvent::Deleted(_) | WatchEvent::Error(_)) => {
                            bail!("nobody did this: {other:?}")
                        }
                    }
                }
                bail!("the watch has ended")
            });
        }
    }
    ensure!(told.len() == TOKENS * WATCHES, "{} watches", told.len());
    Ok(told)
}

/// Changes one cluster, and waits until every watch was told that version.
async fn change(client: &Client, told: &mut Told) -> Result<()> {
    let clusters = Api::<Cluster>::all(client.clone());
    let labels = json!({"metadata": {"labels": {"site": "elsewhere"}}});
    let changed = clusters.patch(&name(CLUSTERS / 2), &PatchParams::default(), &Patch::Merge(labels)).await?;
    let version: u64 = changed.resource_version().context("a version")?.parse()?;
    while let Some(one) = timeout(SOON, told.join_next()).await? {
        ensure!(one?? == version, "a watch was told something else");
    }
    Ok(())
}

/// Resident memory of a program, KiB: proc_pid_status(5).
fn resident(program: &Process) -> Result<usize> {
    let status = fs::read_to_string(format!("/proc/{}/status", program.id()))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("VmRSS")?;
    Ok(line.trim().trim_end_matches(" kB").parse()?)
}

#[allow(clippy::disallowed_methods, reason = "how long it took is a figure")]
fn now() -> Instant {
    Instant::now()
}

/// What was measured, in order.
#[derive(Default)]
struct Figures(Vec<(&'static str, String)>);

impl Figures {
    fn add(&mut self, what: &'static str, figure: String) {
        self.0.push((what, figure));
    }

    fn kib(&mut self, what: &'static str, kib: usize) {
        self.add(what, format!("{:.1} MiB", kib as f64 / 1024.0));
    }

    async fn time<T>(&mut self, what: &'static str, work: impl Future<Output = Result<T>>) -> Result<T> {
        let begin = now();
        let done = work.await.context(what)?;
        self.add(what, format!("{:.2} s", begin.elapsed().as_secs_f64()));
        Ok(done)
    }
}

impl fmt::Display for Figures {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|(what, figure)| writeln!(f, "  {what:<48} {figure:>10}"))
    }
}
