//! What the hub answered, and so must keep.

use std::collections::{BTreeMap, BTreeSet};

use anyhow::{Context as _, Result, ensure};
use fleet_broker::resources::Cluster;
use kube::core::ObjectList;
use protocol::ids::Digest;
use serde_json::{Value, json};

use super::watcher::{Versions, Watcher, version_of};

/// A write that was begun: what there is of the object before it and after it.
#[derive(Debug, Clone)]
pub(super) struct Write {
    name: String,
    before: Option<Value>,
    after: Option<Value>,
}

/// An object that was answered.
#[derive(Debug, Clone)]
struct Known {
    /// What somebody decided about it.
    said: Value,
    /// Its identity; empty while nobody was told.
    uid: String,
    /// At least this one.
    version: u64,
}

/// Everything that was answered.
#[derive(Debug)]
pub(super) struct Ledger {
    /// How many answers there were.
    pub(super) answers: u64,
    clusters: BTreeMap<String, Known>,
    begun: Option<Write>,
    /// Content that no life has looked for yet, and whether its upload was answered.
    contents: BTreeMap<Digest, bool>,
    /// Content that was there.
    kept: BTreeSet<Digest>,
    /// Clusters that the hub said have reported.
    reported: BTreeSet<String>,
    versions: Versions,
    /// Versions answered in this life, and the labels of what they are of.
    recent: Vec<(u64, Value)>,
}

impl Write {
    pub(super) fn new(name: &str, before: Option<Value>, after: Option<&Value>) -> Self {
        Self { name: name.to_owned(), before, after: after.map(said) }
    }

    /// The same, over what the ledger knows.
    pub(super) fn over(self, ledger: &Ledger) -> Self {
        let before = ledger.clusters.get(&self.name).map(|known| known.said.clone());
        Self { before, ..self }
    }
}

impl Ledger {
    pub(super) fn new(versions: Versions) -> Self {
        Self {
            answers: 0,
            clusters: BTreeMap::new(),
            begun: None,
            contents: BTreeMap::new(),
            kept: BTreeSet::new(),
            reported: BTreeSet::new(),
            versions,
            recent: Vec::new(),
        }
    }

    /// The hub has been started again.
    pub(super) fn begin_life(&mut self) {
        self.recent.clear();
    }

    /// Whether there is such a cluster, for certain.
    pub(super) fn knows(&self, name: &str) -> bool {
        self.clusters.contains_key(name)
    }

    /// A write is sent; from now on it may have happened.
    pub(super) fn begin(&mut self, write: Write) {
        if write.after.is_none() {
            self.versions.deleting(&write.name);
        }
        self.begun = Some(write);
    }

    /// A merge patch is sent.
    pub(super) fn begin_patch(&mut self, name: &str, patch: &Value) {
        let before = self.clusters.get(name).map(|known| known.said.clone());
        let mut after = before.clone().unwrap_or_default();
        for (key, value) in patch["metadata"]["labels"].as_object().into_iter().flatten() {
            after["labels"][key] = value.clone();
        }
        for (key, value) in patch["spec"].as_object().into_iter().flatten() {
            after["spec"][key] = value.clone();
        }
        self.begin(Write { name: name.to_owned(), before, after: Some(after) });
    }

    /// The write that was begun was answered with this.
    pub(super) fn answered(&mut self, cluster: &Cluster) -> Result<()> {
        self.answers += 1;
        let value = serde_json::to_value(cluster)?;
        let begun = self.begun.take().context("a write was begun")?;
        ensure!(begun.after.as_ref() == Some(&said(&value)), "the answer to {begun:?} is {value:#}");
        let version = self.versions.note(&value)?;
        ensure!(version > self.newest(), "LOST: versions went back to {version}");
        self.recent.push((version, value["metadata"]["labels"].clone()));
        self.know(&begun.name, &value);
        Ok(())
    }

    pub(super) fn deleted(&mut self, name: &str) {
        self.answers += 1;
        self.begun = None;
        self.clusters.remove(name);
        self.reported.remove(name);
    }

    /// Everything that was answered is in the list, exactly, and nothing else; what was begun wholly or not at all.
    pub(super) fn compare(&mut self, list: &ObjectList<Cluster>) -> Result<()> {
        let version: u64 = list.metadata.resource_version.as_deref().context("a version")?.parse()?;
        ensure!(version >= self.newest(), "LOST: the list is of {version}, {} was answered", self.newest());
        let begun = self.begun.take();
        let mut found = BTreeMap::new();
        for cluster in &list.items {
            let value = serde_json::to_value(cluster)?;
            self.versions.note(&value)?;
            found.insert(cluster.metadata.name.clone().unwrap_or_default(), value);
        }
        if let Some(begun) = begun {
            let is = found.get(&begun.name).map(said);
            ensure!(is == begun.before || is == begun.after, "LOST: half of {begun:?}: {is:?}");
            match found.get(&begun.name).cloned() {
                Some(value) => self.know(&begun.name, &value),
                None => drop(self.clusters.remove(&begun.name)),
            }
        }
        for (name, known) in &self.clusters {
            let value = found.remove(name).with_context(|| format!("LOST: {name}"))?;
            let is_same = said(&value) == known.said && value["metadata"]["uid"] == json!(known.uid);
            ensure!(is_same && version_of(&value)? >= known.version, "LOST: {known:?} is {value:#}");
            let is_reported = !value["status"]["lastReportTime"].is_null();
            ensure!(is_reported || !self.reported.contains(name), "LOST: the report of {name}");
        }
        ensure!(found.is_empty(), "LOST: {:?} were deleted", found.keys());
        Ok(())
    }

    /// The watcher has seen every answer of a life without a kill.
    pub(super) fn saw_all(&self, watcher: &Watcher) -> Result<()> {
        for (version, labels) in &self.recent {
            let is_due = *version > watcher.listed && watcher.selects(labels);
            ensure!(
                !is_due || watcher.saw(*version),
                "LOST: the watcher of {:?} missed {version}",
                watcher.labels
            );
        }
        Ok(())
    }

    /// Whether so many watchers have come to this version.
    pub(super) fn is_seen(&self, version: u64, by: usize) -> bool {
        self.versions.are_at(version) >= by
    }

    /// The newest version that was answered.
    pub(super) fn newest(&self) -> u64 {
        self.clusters.values().map(|known| known.version).max().unwrap_or_default()
    }

    /// A cluster to delete: all but the newest two are old.
    pub(super) fn oldest(&self, newest: &str) -> Option<String> {
        let age = |name: &String| self.clusters[name].version;
        let old = self.clusters.keys().filter(|name| *name != newest).min_by_key(|name| age(name));
        old.filter(|_| self.clusters.len() > 3).cloned()
    }

    pub(super) fn uploading(&mut self, digest: Digest) {
        self.contents.entry(digest).or_insert(false);
    }

    pub(super) fn uploaded(&mut self, digest: Digest) {
        self.contents.insert(digest, true);
    }

    /// The content was looked for, and is there or is not.
    pub(super) fn looked_for(&mut self, digest: Digest, is_there: bool) {
        self.contents.remove(&digest);
        if is_there {
            self.kept.insert(digest);
        }
    }

    /// All content is looked for again.
    pub(super) fn look_again(&mut self) {
        self.contents.extend(self.kept.iter().map(|digest| (*digest, true)));
    }

    pub(super) fn contents(&self) -> Vec<(Digest, bool)> {
        self.contents.iter().map(|(digest, is_answered)| (*digest, *is_answered)).collect()
    }

    pub(super) fn reported(&mut self, name: &str) {
        self.reported.insert(name.to_owned());
    }

    fn know(&mut self, name: &str, value: &Value) {
        let uid = value["metadata"]["uid"].as_str().unwrap_or_default().to_owned();
        let version = version_of(value).unwrap_or_default();
        self.clusters.insert(name.to_owned(), Known { said: said(value), uid, version });
    }
}

/// What somebody decided about a cluster; its status is the hub's.
fn said(value: &Value) -> Value {
    json!({"labels": value["metadata"]["labels"], "spec": value["spec"]})
}
