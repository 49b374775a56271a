//! Killed at any boundary it passes, the hub starts again by itself, and everything it answered is there.
//!
//! A boundary is a place where a power cut is worth trying: around each file of the first start, within and around
//! each transaction of the store, before each answer. One life after another, on one folder, the hub is started so
//! that it aborts at the next boundary, while a client works through a script, an agent joins and reports, and two
//! watchers follow. The life after it compares, and is not cut. A life that gets through the whole script has no such
//! boundary, and was the last.

mod delivery;
mod ledger;
mod watcher;

use std::{
    collections::BTreeMap,
    os::unix::process::ExitStatusExt as _,
    process::Command,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use edge_agent::{
    config::{Kubernetes, StateDir},
    join::{self, JoinError},
};
use edgefleet::hub::Hub;
use fleet_broker::resources::Cluster;
use futures::future::try_join_all;
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use protocol::{enrol::JoinCode, ids::Digest};
use rustix::process::Signal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tests::{HubFolder, Process, program, wait_for};

use crate::harness::{SOON, condition_is};
use delivery::Delivery;
use ledger::{Ledger, Write};
use watcher::{Versions, Watcher};

/// Hubs that are tried at once: each mostly waits, for its disk, its client, or its agent.
const LANES: u64 = 3;

/// The fleet of every hub.
const FLEET: &str = "everywhere";

/// Bytes of what is uploaded: several rows of the store, as noise does not compress.
const CONTENT_BYTES: u64 = 200_000;

/// The code that answers a write over something newer.
const CONFLICT: u16 = 409;

/// How a life ended: at which kind of boundary, unless it got through.
type Death = Option<String>;

#[tokio::test(flavor = "multi_thread")]
async fn a_first_start_cut_off_anywhere_is_made_up_for() -> Result<()> {
    let mut kinds = BTreeMap::<String, u64>::new();
    for boundary in 1.. {
        let place = HubFolder::create(FLEET)?;
        let Some(kind) = ready(&mut start(&place, boundary)?).await? else { break };
        *kinds.entry(kind).or_default() += 1;
        let mut hub = start(&place, 0)?;
        let ended = ready(&mut hub).await.with_context(|| format!("after boundary {boundary}"))?;
        ensure!(ended.is_none(), "after boundary {boundary} the hub aborted without being asked to");
        Api::<Cluster>::all(place.client().await?).list(&ListParams::default()).await?;
    }
    println!("{} boundaries of a first start, killed at each: {kinds:?}", kinds.values().sum::<u64>());
    for kind in ["File", "Rename", "Renamed", "Migrate", "Row", "Commit", "Committed"] {
        ensure!(kinds.contains_key(kind), "never killed at a {kind}: {kinds:?}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_hub_killed_at_any_boundary_answered_is_there() -> Result<()> {
    let begin = now();
    let lanes = try_join_all((1..=LANES).map(run)).await?;
    let mut kinds = BTreeMap::<&str, u64>::new();
    lanes
        .iter()
        .flat_map(|trial| &trial.kills)
        .for_each(|(kind, count)| *kinds.entry(kind).or_default() += count);
    let (total, spent) = (kinds.values().sum::<u64>(), begin.elapsed().as_secs());
    let answers: u64 = lanes.iter().map(|trial| trial.ledger.answers).sum();
    let events: u64 = lanes.iter().flat_map(|trial| &trial.watchers).map(|watcher| watcher.events).sum();
    println!(
        "{total} boundaries, killed at each, {answers} answers kept, {events} events, in {spent} s: {kinds:?}"
    );
    let told: usize = lanes.iter().map(|trial| trial.delivery.told()).sum();
    ensure!(told > 0, "no cluster was told anything");
    for kind in ["Row", "Piece", "Reserve", "Commit", "Committed", "Seen"] {
        ensure!(kinds.contains_key(kind), "never killed at a {kind}: {kinds:?}");
    }
    Ok(())
}

/// Every [`LANES`]th boundary, from `first` on, until a life gets through the whole script. Between two lives that end
/// early comes a whole one, which compares, and leaves to the next what this one found.
async fn run(first: u64) -> Result<Trial> {
    let mut trial = Trial::new()?;
    trial.live(0).await.context("the first life")?;
    let mut boundary = first;
    while let Some(kind) = trial.live(boundary).await.with_context(|| format!("until boundary {boundary}"))? {
        let after = trial.live(0).await.with_context(|| format!("after boundary {boundary}: {kind}"))?;
        ensure!(after.is_none(), "the hub aborted although it was not asked to");
        *trial.kills.entry(kind).or_default() += 1;
        boundary += LANES;
    }
    trial.ledger.look_again();
    trial.live(0).await.context("the last life")?;
    Ok(trial)
}

/// One hub, and what was learned of it.
struct Trial {
    place: HubFolder,
    ledger: Ledger,
    delivery: Delivery,
    watchers: Vec<Watcher>,
    /// How many lives there were.
    lives: u64,
    /// The join code that was answered, and not used for certain.
    code: Option<(JoinCode, StateDir)>,
    /// Whether it was tried in a life that ended.
    is_tried: bool,
    /// The code that was used last.
    used: Option<JoinCode>,
    /// The site that joined last.
    site: Option<StateDir>,
    kills: BTreeMap<String, u64>,
}

impl Trial {
    fn new() -> Result<Self> {
        let versions = Versions::default();
        let watchers = ["", "half=yes"].map(|labels| Watcher::new(labels, versions.clone())).into();
        let place = HubFolder::create(FLEET)?;
        let delivery = Delivery::new(FLEET, place.folder())?;
        Ok(Self {
            place,
            ledger: Ledger::new(versions),
            delivery,
            watchers,
            lives: 0,
            code: None,
            is_tried: false,
            used: None,
            site: None,
            kills: BTreeMap::new(),
        })
    }

    /// One life of the hub: what the one before answered is compared, then comes the script.
    async fn live(&mut self, boundary: u64) -> Result<Death> {
        self.lives += 1;
        self.ledger.begin_life();
        let mut hub = start(&self.place, boundary)?;
        if let Some(kind) = ready(&mut hub).await? {
            return Ok(Some(kind));
        }
        let client = self.place.client().await?;
        let following: Vec<_> = self
            .watchers
            .drain(..)
            .map(|watcher| tokio::spawn(watcher.follow(Api::all(client.clone()))))
            .collect();
        let outcome = self.script(&client).await;
        // What fails is the hub's end, or worth to be told.
        let death = match &outcome {
            Ok(()) => {
                hub.terminate()?;
                match hub.wait(SOON).await? {
                    status if status.success() => None,
                    // At a boundary that it came to after the script, by itself.
                    _ => Some(aborted(&mut hub).await.context("the hub did not stop in order")?),
                }
            }
            Err(_) => aborted(&mut hub).await.ok(),
        };
        hub.kill9()?;
        for watcher in following {
            self.watchers.push(watcher.await?.context("a watcher")?);
        }
        if death.is_none() {
            outcome.context("the hub lives")?;
            self.watchers.iter().try_for_each(|watcher| self.ledger.saw_all(watcher))?;
        }
        Ok(death)
    }

    async fn script(&mut self, client: &Client) -> Result<()> {
        let clusters = Api::<Cluster>::all(client.clone());
        let list = clusters.list(&ListParams::default()).await?;
        self.ledger.compare(&list)?;
        all_told(client, &list.items).await?;
        let operator = Hub::open(&self.place.kubeconfig()).await?;
        self.delivery.compare(&operator, &list.items).await?;
        self.same_content(client).await?;
        self.join().await?;
        self.report(&clusters).await?;
        let name = format!("c-{}", self.lives);
        let half = if self.lives.is_multiple_of(2) { "yes" } else { "no" };
        let body = json!({
            "apiVersion": "edgefleet.dev/v1alpha1", "kind": "Cluster",
            "metadata": {"name": name, "labels": {"half": half}}, "spec": {"accepted": false},
        });
        self.ledger.begin(Write::new(&name, None, Some(&body)));
        self.ledger
            .answered(&clusters.create(&PostParams::default(), &serde_json::from_value(body)?).await?)?;

        let patch = json!({"metadata": {"labels": {"half": "yes"}}, "spec": {"accepted": true}});
        self.ledger.begin_patch(&name, &patch);
        let patched = clusters.patch(&name, &PatchParams::default(), &Patch::Merge(&patch)).await?;
        self.ledger.answered(&patched)?;

        self.replace(&clusters, &name).await?;
        self.upload(client).await?;
        self.delivery.deliver(&operator, self.lives).await?;
        self.code(client, &name).await?;
        if let Some(old) = self.ledger.oldest(&name) {
            self.ledger.begin(Write::new(&old, None, None).over(&self.ledger));
            clusters.delete(&old, &DeleteParams::default()).await?;
            self.ledger.deleted(&old);
        }
        self.ledger.compare(&clusters.list(&ListParams::default()).await?)?;
        let newest = self.ledger.newest();
        wait_for("watchers", SOON, async || {
            ensure!(self.ledger.is_seen(newest, 2), "they have not seen {newest}");
            Ok(())
        })
        .await
    }

    /// Replaces a cluster, again where its status was written in between: then nothing has happened.
    async fn replace(&mut self, clusters: &Api<Cluster>, name: &str) -> Result<()> {
        loop {
            let mut replaced = clusters.get(name).await?;
            let labels = replaced.metadata.labels.get_or_insert_default();
            labels.insert("life".to_owned(), self.lives.to_string());
            let body = serde_json::to_value(&replaced)?;
            self.ledger.begin(Write::new(name, None, Some(&body)).over(&self.ledger));
            match clusters.replace(name, &PostParams::default(), &replaced).await {
                Ok(answer) => return self.ledger.answered(&answer),
                Err(kube::Error::Api(status)) if status.code == CONFLICT => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Uploads content that no life before had.
    async fn upload(&mut self, client: &Client) -> Result<()> {
        let bytes = content(self.lives);
        let digest = Digest::of(&bytes);
        self.ledger.uploading(digest);
        let request = http::Request::put(format!("/blobs/sha256/{digest}")).body(bytes)?;
        client.request_text(request).await?;
        self.ledger.uploaded(digest);
        Ok(())
    }

    /// What was uploaded is there and whole; what was cut off is so, or not there at all.
    async fn same_content(&mut self, client: &Client) -> Result<()> {
        for (digest, is_answered) in self.ledger.contents() {
            let request = http::Request::get(format!("/blobs/sha256/{digest}")).body(Vec::new())?;
            let mut frame = Vec::new();
            match client.request_stream(request).await {
                Ok(stream) => {
                    futures::AsyncReadExt::read_to_end(&mut Box::pin(stream), &mut frame).await?;
                    let plain = zstd::decode_all(frame.as_slice());
                    ensure!(
                        plain.is_ok_and(|plain| Digest::of(&plain) == digest),
                        "LOST: content {digest} is damaged"
                    );
                    self.ledger.looked_for(digest, true);
                }
                Err(kube::Error::Api(status)) if status.code == 404 => {
                    ensure!(!is_answered, "LOST: content {digest}");
                    self.ledger.looked_for(digest, false);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    async fn code(&mut self, client: &Client, name: &str) -> Result<()> {
        (self.code, self.is_tried) = (None, false);
        let uri = format!("/apis/edgefleet.dev/v1alpha1/clusters/{name}/join");
        let answer: Value = client.request(http::Request::post(uri).body(Vec::new())?).await?;
        let code = answer.pointer("/status/code").and_then(Value::as_str).context("a code")?;
        let code: JoinCode = code.parse().map_err(|_| anyhow!("{code} is no code"))?;
        self.code = Some((code, StateDir::new(&self.place.folder().join(name))));
        Ok(())
    }

    /// The code of the life before serves, once.
    async fn join(&mut self) -> Result<()> {
        if let Some(used) = &self.used {
            let again = TempDir::new()?;
            match join_with(used, &StateDir::new(again.path())).await {
                Err(JoinError::Refused { .. }) => {}
                Err(error) => return Err(error.into()),
                Ok(()) => return Err(anyhow!("LOST: that a code was used")),
            }
        }
        let Some((code, state)) = self.code.clone() else { return Ok(()) };
        let was_tried = std::mem::replace(&mut self.is_tried, true);
        match join_with(&code, &state).await {
            Ok(()) => (self.used, self.site) = (Some(code), Some(state)),
            // The life before may have ended between using it up and saying so.
            Err(JoinError::Refused { .. }) if was_tried => self.used = Some(code),
            Err(JoinError::Refused { message }) => return Err(anyhow!("LOST: a join code: {message}")),
            Err(error) => return Err(error.into()),
        }
        (self.code, self.is_tried) = (None, false);
        Ok(())
    }

    /// Runs the agent of the site that joined last until the hub shows its report.
    async fn report(&mut self, clusters: &Api<Cluster>) -> Result<()> {
        let Some(state) = self.site.clone() else { return Ok(()) };
        let name = state.folder().file_name().and_then(|name| name.to_str()).context("its name")?.to_owned();
        if !self.ledger.knows(&name) {
            return Ok(());
        }
        let mut command = Command::new(program("edge-agent")?);
        command.args(["run", "--config"]).arg(state.config());
        let mut agent = Process::spawn("edge-agent", &command)?;
        let told = wait_for("a report", SOON, async || {
            // An error that is not the hub's `no` is its end.
            let Ok(cluster) = clusters.get(&name).await else { return Ok(false) };
            let status = cluster.status.as_ref().context("a status")?;
            ensure!(status.last_report_time.is_some() && status.agent.is_some(), "{status:?}");
            // The desired state is the hub's word in its lives before too: an agent refuses another under its number.
            let refused = status.conditions.iter().any(|one| one.type_.starts_with("Refused"));
            ensure!(!refused, "LOST: that another desired state was signed: {status:?}");
            ensure!(condition_is(&cluster, "Synced", "True"), "{status:?}");
            Ok(true)
        })
        .await?;
        ensure!(told, "the hub is gone");
        agent.terminate()?;
        agent.wait(SOON).await?;
        self.ledger.reported(&name);
        Ok(())
    }
}

/// Every cluster that is there has one event which tells who made it, once: that is written with it.
async fn all_told(client: &Client, clusters: &[Cluster]) -> Result<()> {
    let path = "/api/v1/events?fieldSelector=reason%3DCreated";
    let events: Value = client.request(http::Request::get(path).body(Vec::new())?).await?;
    let events = events["items"].as_array().context("a list of events")?;
    for cluster in clusters {
        let uid = cluster.metadata.uid.as_deref().context("its uid")?;
        let told: Vec<&Value> = events.iter().filter(|event| event["involvedObject"]["uid"] == uid).collect();
        let once = matches!(told.as_slice(), [event] if event["count"] == 1);
        ensure!(once, "LOST, or told twice: who made {:?}: {told:?}", cluster.metadata.name);
    }
    Ok(())
}

/// Starts the hub, which aborts at its `boundary`th boundary; at 0 it only counts them.
fn start(place: &HubFolder, boundary: u64) -> Result<Process> {
    let mut command = place.command()?;
    command.env("EDGEFLEET_HUB_ABORT_AT", boundary.to_string());
    Process::spawn("fleet-broker", &command)
}

async fn join_with(code: &JoinCode, state: &StateDir) -> Result<(), JoinError> {
    join::join(code, state, Kubernetes::Simulated).await.map(drop)
}

/// Waits until the hub is ready, or has aborted: then, at what kind of boundary.
async fn ready(hub: &mut Process) -> Result<Death> {
    wait_for("a hub", SOON, async || {
        if hub.ended()?.is_some() {
            return Ok(Some(kind_of(hub)?));
        }
        ensure!(hub.log()?.contains("ready"), "it is not ready");
        Ok(None)
    })
    .await
}

/// Waits until the hub has aborted, and says at what kind of boundary.
async fn aborted(hub: &mut Process) -> Result<String> {
    let status = hub.wait(Duration::from_secs(5)).await?;
    ensure!(status.signal() == Some(Signal::ABORT.as_raw()), "{status}");
    kind_of(hub)
}

fn kind_of(hub: &Process) -> Result<String> {
    let log = hub.log()?;
    let kind = log.lines().find_map(|line| line.split_once("aborted at boundary "));
    let kind = kind.and_then(|(_, at)| at.split_once(": ")).map(|(_, kind)| kind.to_owned());
    kind.with_context(|| format!("the hub ended by itself: {log}"))
}

/// Noise from a seed.
fn content(seed: u64) -> Vec<u8> {
    (0..CONTENT_BYTES / 32)
        .flat_map(|n| *Digest::of(&[seed.to_be_bytes(), n.to_be_bytes()].concat()).as_bytes())
        .collect()
}

#[allow(clippy::disallowed_methods, reason = "how long it took is what is printed")]
fn now() -> Instant {
    Instant::now()
}
