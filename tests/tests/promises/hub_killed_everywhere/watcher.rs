//! A watcher as client-go has it: it lists, watches from there, resumes by version, and lists again where it must.

use std::{
    collections::{BTreeMap, BTreeSet},
    pin::pin,
    sync::{Arc, Mutex, MutexGuard},
};

use anyhow::{Context as _, Result, anyhow, ensure};
use fleet_broker::resources::Cluster;
use futures::StreamExt as _;
use kube::{
    Api,
    api::{ListParams, WatchEvent, WatchParams},
};
use serde_json::Value;

/// The code with which a watch from a version that is too old is answered.
const GONE: u16 = 410;

/// What anybody has seen under each version: it is one thing for ever. Clones share it.
#[derive(Debug, Clone, Default)]
pub(super) struct Versions(Arc<Mutex<Seen>>);

#[derive(Debug, Default)]
struct Seen {
    content: BTreeMap<u64, String>,
    /// Clusters whose deletion was begun.
    deleting: BTreeSet<String>,
    /// How far each watcher is.
    at: BTreeMap<String, u64>,
}

/// One watcher, through all lives of a hub.
#[derive(Debug)]
pub(super) struct Watcher {
    /// What it selects.
    pub(super) labels: &'static str,
    /// The version of its last list.
    pub(super) listed: u64,
    /// How many events it had.
    pub(super) events: u64,
    versions: Versions,
    /// It has seen everything up to here, unless it must list.
    since: Option<u64>,
    newest: u64,
    objects: BTreeMap<String, u64>,
    /// Versions of this list's events.
    seen: BTreeSet<u64>,
}

impl Versions {
    /// Notes an object under its version, which nothing else may ever have had.
    pub(super) fn note(&self, value: &Value) -> Result<u64> {
        let version = version_of(value)?;
        let text = value.to_string();
        let known = self.lock().content.entry(version).or_insert_with(|| text.clone()).clone();
        ensure!(known == text, "LOST: version {version} was {known}, and is {text}");
        Ok(version)
    }

    /// The deletion of an object is begun.
    pub(super) fn deleting(&self, name: &str) {
        self.lock().deleting.insert(name.to_owned());
    }

    /// How many watchers are at this version.
    pub(super) fn are_at(&self, version: u64) -> usize {
        self.lock().at.values().filter(|at| **at >= version).count()
    }

    fn lock(&self) -> MutexGuard<'_, Seen> {
        self.0.lock().expect("nobody panics while it is locked")
    }
}

impl Watcher {
    pub(super) fn new(labels: &'static str, versions: Versions) -> Self {
        let (objects, seen) = (BTreeMap::new(), BTreeSet::new());
        Self { labels, listed: 0, events: 0, versions, since: None, newest: 0, objects, seen }
    }

    /// Follows a hub until it ends. Only what contradicts itself is an error.
    pub(super) async fn follow(mut self, clusters: Api<Cluster>) -> Result<Self> {
        loop {
            if self.since.is_none() {
                let Ok(list) = clusters.list(&ListParams::default().labels(self.labels)).await else {
                    return Ok(self);
                };
                let version: u64 = list.metadata.resource_version.as_deref().context("a version")?.parse()?;
                let objects = list.items.iter().map(serde_json::to_value).collect::<Result<Vec<_>, _>>()?;
                self.replace(version, &objects)?;
            }
            let since = self.since.context("it has listed")?.to_string();
            let params = WatchParams::default().labels(self.labels).disable_bookmarks();
            let events = match clusters.watch(&params, &since).await {
                Ok(events) => events,
                Err(kube::Error::Api(status)) if status.code == GONE => {
                    self.since = None;
                    continue;
                }
                Err(_) => return Ok(self),
            };
            let mut events = pin!(events);
            while let Some(event) = events.next().await {
                match event {
                    Ok(WatchEvent::Error(status)) if status.code == GONE => self.since = None,
                    Ok(event) => self.event(&event)?,
                    Err(_) => return Ok(self),
                }
            }
        }
    }

    /// Whether it is told of what has these labels.
    pub(super) fn selects(&self, labels: &Value) -> bool {
        self.labels.split_once('=').is_none_or(|(name, value)| labels[name] == value)
    }

    /// Whether it was told of this version.
    pub(super) fn saw(&self, version: u64) -> bool {
        self.seen.contains(&version)
    }

    /// A list takes the place of what it knew: nothing in it is older, and nothing is gone that nobody deleted.
    fn replace(&mut self, version: u64, list: &[Value]) -> Result<()> {
        ensure!(version >= self.newest, "LOST: listed {version}, behind {}", self.newest);
        let mut objects = BTreeMap::new();
        for value in list {
            objects.insert(name_of(value), self.versions.note(value)?);
        }
        for (name, known) in &self.objects {
            match objects.get(name) {
                Some(listed) => ensure!(listed >= known, "LOST: {name} went back from {known} to {listed}"),
                None => ensure!(self.versions.lock().deleting.contains(name), "LOST: {name}, which was seen"),
            }
        }
        (self.objects, self.listed, self.seen) = (objects, version, BTreeSet::new());
        self.reach(version);
        Ok(())
    }

    /// An event is newer than all before it, and says what becomes of what is known.
    fn event(&mut self, event: &WatchEvent<Cluster>) -> Result<()> {
        let (WatchEvent::Added(cluster) | WatchEvent::Modified(cluster) | WatchEvent::Deleted(cluster)) =
            event
        else {
            return Err(anyhow!("an event that was not asked for: {event:?}"));
        };
        let value = serde_json::to_value(cluster)?;
        let (name, version) = (name_of(&value), version_of(&value)?);
        ensure!(version > self.newest, "LOST: {name} at {version} came after {}", self.newest);
        let is_known = self.objects.contains_key(&name);
        let is_added = matches!(event, WatchEvent::Added(_));
        ensure!(is_known != is_added, "LOST: an event before this one: {event:?}");
        if matches!(event, WatchEvent::Deleted(_)) {
            self.objects.remove(&name);
        } else {
            self.versions.note(&value)?;
            self.objects.insert(name, version);
        }
        self.events += 1;
        self.seen.insert(version);
        self.reach(version);
        Ok(())
    }

    fn reach(&mut self, version: u64) {
        (self.since, self.newest) = (Some(version), version);
        self.versions.lock().at.insert(self.labels.to_owned(), version);
    }
}

/// The version of an object.
pub(super) fn version_of(value: &Value) -> Result<u64> {
    let version = value.pointer("/metadata/resourceVersion").and_then(Value::as_str);
    Ok(version.with_context(|| format!("{value:#} has a version"))?.parse()?)
}

fn name_of(value: &Value) -> String {
    value["metadata"]["name"].as_str().unwrap_or_default().to_owned()
}
