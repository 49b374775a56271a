//! A client's own copy of what the hub serves.

use std::collections::BTreeMap;
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use fleet_broker::resources::Cluster;
use futures::StreamExt as _;
use kube::runtime::reflector::{self, Store};
use kube::runtime::{WatchStreamExt as _, watcher};
use kube::{Api, Client, ResourceExt as _};
use serde::Deserialize;
use tests::Process;
use tokio::task::JoinSet;

/// The kinds that are compared.
const RESOURCES: [&str; 2] = ["clusters", "freezes"];

/// The versions of objects, by resource and name.
pub(crate) type Contents = BTreeMap<(String, String), u64>;

/// A client that keeps up.
pub(crate) enum Mirror {
    /// kube-rs, in this process.
    Reflector(Reflector),
    /// Another's program, which prints what it learns.
    Program(Printed),
}

/// What kube-rs holds, and the task that fills it.
pub(crate) struct Reflector {
    name: &'static str,
    store: Store<Cluster>,
    task: JoinSet<()>,
}

/// What a program has printed, up to a line.
pub(crate) struct Printed {
    name: String,
    program: Process,
    resources: Vec<&'static str>,
    read: usize,
    synced: Vec<String>,
    contents: Contents,
}

#[derive(Deserialize)]
struct Line {
    event: String,
    resource: String,
    #[serde(default)]
    key: String,
    #[serde(default)]
    version: String,
}

impl Mirror {
    /// A reflector of kube-rs.
    pub(crate) fn reflector(client: &Client, is_streamed: bool) -> Self {
        let config = watcher::Config::default().page_size(100);
        let (name, config) = match is_streamed {
            true => ("a streaming reflector", watcher::Config::default().streaming_lists()),
            false => ("a reflector", config),
        };
        let (store, writer) = reflector::store();
        let clusters = Api::<Cluster>::all(client.clone());
        let mut task = JoinSet::new();
        task.spawn(async move {
            let reflecting = watcher(clusters, config).default_backoff().reflect(writer);
            reflecting.for_each(|_| async {}).await;
        });
        Self::Reflector(Reflector { name, store, task })
    }

    /// A program that follows these resources, and prints each change as a line of JSON.
    pub(crate) fn program(name: &str, command: &Command, resources: &[&'static str]) -> Result<Self> {
        let program = Process::spawn(name, command)?;
        Ok(Self::Program(Printed {
            name: format!("{name} {:?}", command.get_envs().next().unwrap_or_default()),
            program,
            resources: resources.to_vec(),
            read: 0,
            synced: Vec::new(),
            contents: Contents::new(),
        }))
    }

    pub(crate) fn name(&self) -> String {
        match self {
            Self::Reflector(reflector) => reflector.name.to_owned(),
            Self::Program(printed) => printed.name.clone(),
        }
    }

    /// Whether it holds what is served.
    pub(crate) fn compare(&mut self, served: &Contents) -> Result<()> {
        let (held, resources) = match self {
            Self::Reflector(reflector) => {
                ensure!(reflector.task.try_join_next().is_none(), "it has ended");
                (held_by(&reflector.store)?, &RESOURCES[..1])
            }
            Self::Program(printed) => {
                printed.read()?;
                (printed.contents.clone(), &*printed.resources)
            }
        };
        let of = |contents: &Contents| -> Contents {
            let known = contents.iter().filter(|((resource, _), _)| resources.contains(&resource.as_str()));
            known.map(|(key, version)| (key.clone(), *version)).collect()
        };
        let (served, held) = (of(served), of(&held));
        let missing: Vec<_> = served.iter().filter(|(key, at)| held.get(*key) != Some(at)).take(3).collect();
        let surplus: Vec<_> = held.keys().filter(|key| !served.contains_key(*key)).take(3).collect();
        ensure!(missing.is_empty() && surplus.is_empty(), "it misses {missing:?} and still has {surplus:?}");
        Ok(())
    }
}

impl Printed {
    /// Reads what was printed since, and checks that each line follows from those before.
    fn read(&mut self) -> Result<()> {
        ensure!(self.program.ended()?.is_none(), "it has ended");
        let log = self.program.log()?;
        let new = &log[self.read..];
        let whole = new.rfind('\n').map_or(0, |end| end + 1);
        self.read += whole;
        for text in new[..whole].lines().filter(|line| line.starts_with('{')) {
            let line: Line = serde_json::from_str(text).with_context(|| text.to_owned())?;
            self.follow(line).with_context(|| format!("DISORDER: {text}"))?;
        }
        for resource in &self.resources {
            ensure!(self.synced.iter().any(|synced| synced == resource), "{resource} are not synced");
        }
        Ok(())
    }

    fn follow(&mut self, line: Line) -> Result<()> {
        if line.event == "synced" {
            self.synced.push(line.resource);
            return Ok(());
        }
        if !RESOURCES.contains(&line.resource.as_str()) {
            return Ok(());
        }
        let (key, version) = ((line.resource, line.key), line.version.parse()?);
        match (line.event.as_str(), self.contents.get(&key)) {
            ("added", None) => drop(self.contents.insert(key, version)),
            // A list after a watch tells again what has not changed.
            ("updated", Some(before)) if *before <= version => drop(self.contents.insert(key, version)),
            ("deleted", Some(before)) if *before <= version => drop(self.contents.remove(&key)),
            (event, before) => bail!("{event} after {before:?}"),
        }
        Ok(())
    }
}

fn held_by(store: &Store<Cluster>) -> Result<Contents> {
    let one = |cluster: &std::sync::Arc<Cluster>| {
        let version = cluster.resource_version().context("a version")?.parse()?;
        Ok((("clusters".to_owned(), cluster.name_any()), version))
    };
    store.state().iter().map(one).collect()
}
