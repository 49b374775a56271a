//! A process of agents. Each is the production's, with its link and its journal on disk; a simulated cluster stands where
//! its Kubernetes would.

use std::{
    cell::Cell, collections::BTreeMap, ffi::OsString, path::PathBuf, rc::Rc, sync::Arc, time::Duration,
};

use anyhow::{Context as _, Result, bail};
use edge_agent::{
    boundary::Boundaries,
    cluster::{
        Cluster, ClusterError, Request, Response, WatchEvent,
        sim::{Action, Edit, LiveCluster, Settings, SimCluster},
    },
    config::{Config, Kubernetes, StateDir},
    driver::Seen,
    join,
    logic::object::{Gvk, ObjectRef},
    run_seen,
};
use futures::stream::LocalBoxStream;
use protocol::enrol::JoinCode;
use serde_json::{Value, json};
use tokio::{
    sync::{Semaphore, watch},
    task::{LocalSet, spawn_local},
    time::{MissedTickBehavior, interval},
};

use super::{
    fleet::APPLICATION,
    process, runtime,
    tally::{Order, Said, VERSIONS, What},
};
use crate::charter::TENANT;

/// Clusters of one process that join at once. A hub lets 256 join at once in all.
const JOINING: usize = 16;

/// How often the number of reports is told.
const COUNT_EVERY: Duration = Duration::from_millis(200);

/// Runs agents as it is told, until nobody tells it anything any more.
pub(super) fn run(told: &[OsString]) -> Result<()> {
    let [folder] = told else { bail!("a process of agents is told one folder") };
    let local = LocalSet::new();
    local.block_on(&runtime()?, Crowd::new(folder.into()).obey())
}

/// The agents of one process.
struct Crowd {
    folder: PathBuf,
    settings: Arc<Settings>,
    joining: Rc<Semaphore>,
    reports: Rc<Cell<u64>>,
    sites: BTreeMap<usize, Site>,
}

impl Crowd {
    fn new(folder: PathBuf) -> Self {
        // Nobody wants to wait for a simulated image to be pulled.
        let ready_after = Duration::from_millis(200)..=Duration::from_secs(2);
        Self {
            folder,
            settings: Arc::new(Settings { ready_after, ..Settings::default() }),
            joining: Rc::new(Semaphore::new(JOINING)),
            reports: Rc::default(),
            sites: BTreeMap::new(),
        }
    }

    async fn obey(mut self) -> Result<()> {
        let mut orders = process::told()?;
        let mut counts = interval(COUNT_EVERY);
        counts.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut told = 0;
        loop {
            tokio::select! {
                line = orders.next_line() => match line.context("cannot hear what to do")? {
                    None => return Ok(()),
                    Some(line) => self.order(serde_json::from_str(&line)?)?,
                },
                _ = counts.tick() => {
                    let count = self.reports.get();
                    if std::mem::replace(&mut told, count) != count {
                        process::say(&Said::Reports(count))?;
                    }
                }
            }
        }
    }

    fn order(&mut self, order: Order) -> Result<()> {
        match order {
            Order::Join { cluster, code } => {
                let code: JoinCode = code.parse()?;
                let site = Site::new(cluster, &self.settings);
                self.sites.insert(cluster, site.clone());
                let state = StateDir::new(&self.folder.join(code.cluster.as_str()));
                let (joining, reports) = (Rc::clone(&self.joining), Rc::clone(&self.reports));
                spawn_local(async move {
                    let Err(error) = site.live(code, state, &joining, reports).await else { return };
                    site.tell(What::Failed { reason: format!("{error:#}") });
                });
            }
            Order::Edit { cluster } => self.sites.get(&cluster).context("it joined before")?.is_edited(),
        }
        Ok(())
    }
}

/// One site: its cluster, which the agent asks through this, so that what happens there is seen.
#[derive(Clone)]
struct Site {
    number: usize,
    cluster: LiveCluster,
    /// Somebody changed an object, and the agent did not take it back yet.
    edited: Rc<Cell<bool>>,
}

impl Site {
    fn new(number: usize, settings: &Arc<Settings>) -> Self {
        let cluster = LiveCluster::new(SimCluster::new(Arc::clone(settings)));
        let namespace =
            ObjectRef { gvk: Gvk::new("v1", "Namespace"), namespace: None, name: TENANT.to_owned() };
        cluster.edit(edit(namespace, json!({})));
        Self { number, cluster, edited: Rc::default() }
    }

    /// Joins, and runs the agent from then on.
    async fn live(
        &self,
        code: JoinCode,
        state: StateDir,
        joining: &Semaphore,
        reports: Rc<Cell<u64>>,
    ) -> Result<()> {
        let place = joining.acquire().await?;
        self.tell(What::Asks);
        let config = join::join(&code, &state, Kubernetes::Simulated).await?;
        drop(place);
        self.tell(What::Joined);
        let config = Config::load(&config)?;
        let seen = watch::Sender::default();
        let follow = self.follow(seen.subscribe(), reports);
        let agent = run_seen(config, self.clone(), Boundaries::default(), seen, std::future::pending());
        tokio::select! {
            ended = agent => ended?,
            () = follow => {}
        }
        bail!("its agent ended")
    }

    /// Tells how it is with the hub, for as long as the agent runs.
    async fn follow(&self, mut seen: watch::Receiver<Seen>, reports: Rc<Cell<u64>>) {
        let (mut is_up, mut counted) = (false, 0);
        while seen.changed().await.is_ok() {
            let (connected, count) = {
                let seen = seen.borrow_and_update();
                (seen.hub.connected, seen.reports)
            };
            reports.set(reports.get() + count - counted);
            counted = count;
            if connected != is_up {
                is_up = connected;
                self.tell(if is_up { What::Up } else { What::Down });
            }
        }
    }

    /// Somebody changes an object by hand.
    fn is_edited(&self) {
        let gvk = Gvk::new("v1", "ConfigMap");
        let name = format!("{APPLICATION}-settings");
        let object = ObjectRef { gvk, namespace: Some(TENANT.to_owned()), name };
        self.edited.replace(true);
        self.tell(What::Edited);
        self.cluster.edit(edit(object, json!({"data": {"level": "debug"}})));
    }

    fn tell(&self, what: What) {
        // Whoever started this process is gone if this fails, and so is this process.
        let _told = process::say(&Said::Happened { cluster: self.number, at: process::now(), what });
    }
}

impl Cluster for Site {
    async fn send(&self, request: Request) -> Result<Response, ClusterError> {
        let applied = applied(&request);
        let answer = self.cluster.send(request).await;
        match applied {
            Some(Applied::Workload { version }) if answer.is_ok() => self.tell(What::Applied { version }),
            Some(Applied::Settings) if answer.is_ok() && self.edited.replace(false) => {
                self.tell(What::Healed)
            }
            Some(Applied::Workload { .. } | Applied::Settings) | None => {}
        }
        answer
    }

    fn watch(&self, kind: Gvk, label_selector: String, seed: u64) -> LocalBoxStream<'static, WatchEvent> {
        self.cluster.watch(kind, label_selector, seed)
    }
}

/// What a request applies, as far as anybody waits for it.
#[derive(Debug, PartialEq, Eq)]
enum Applied {
    /// The last object of a release.
    Workload { version: u64 },
    /// The object that people change.
    Settings,
}

fn applied(request: &Request) -> Option<Applied> {
    let Request::Apply { object, body, dry_run: false, .. } = request else { return None };
    if object.gvk.kind == "ConfigMap" && object.name == format!("{APPLICATION}-settings") {
        return Some(Applied::Settings);
    }
    let image = body.pointer("/spec/template/spec/containers/0/image").and_then(Value::as_str)?;
    let version = image.rsplit_once(':')?.1.parse().ok()?;
    VERSIONS.contains(&version).then_some(Applied::Workload { version })
}

fn edit(object: ObjectRef, patch: Value) -> Edit {
    let action = Action::Merge(patch);
    Edit { manager: "kubectl-edit".to_owned(), subresource: String::new(), object, action }
}

#[cfg(test)]
mod tests {
    use edgefleet::manifest::{self, Rules};
    use edgefleet::source::SourceText;
    use protocol::ids::Name;

    use super::*;
    use crate::charter::manifests;

    /// What is waited for is what the manifests hold.
    #[test]
    fn what_a_release_applies_is_recognised() {
        for version in VERSIONS {
            let namespace = Name::new(TENANT).unwrap();
            let rules = Rules { namespace, cluster_scoped: Default::default(), plaintext_secrets: false };
            let text = SourceText { name: "it".to_owned(), text: manifests(APPLICATION, version) };
            let objects = manifest::parse(&[text], &rules).unwrap().objects;
            let found = |dry_run: bool| {
                let request = |body: Value| {
                    let object = ObjectRef::of(&body).unwrap();
                    applied(&Request::Apply { object, body, force: false, dry_run })
                };
                let found = objects.iter().map(|object| object.value.clone());
                found.filter_map(request).collect::<Vec<_>>()
            };
            assert_eq!(found(false), [Applied::Settings, Applied::Workload { version }]);
            assert_eq!(found(true), []);
        }
    }
}
