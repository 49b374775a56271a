//! The hub: the production's fleet core, with a store in memory.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use fleet_broker::{
    logic::fleet::{
        Application, BundleRecord, ClusterRecord, Effect, Event, Fleet, RestoreError, messages,
        recovery::{Record, Recovery},
    },
    resources::{AssignmentState, ClusterStatus},
};
use protocol::{
    documents::Encoding,
    ids::{AppId, ClusterId, Digest, Incarnation},
    limits,
    time::{Now, UnixSeconds},
    topics::{Downward, Upward},
};
use serde_json::json;

use crate::{
    charter::{Charter, Published, START},
    stored::{self, Store},
};

/// How often the hub looks at the time, as its controller does.
pub const TICK: Duration = Duration::from_millis(500);

/// What the hub sends.
#[derive(Debug)]
pub enum Sent {
    /// A message to a cluster.
    Message(ClusterId, Downward, Vec<u8>),
    /// A connection is ended.
    Kick(ClusterId),
}

/// How one application is on one cluster, as people see it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// What it should run.
    pub bundle: String,
    /// How far it is.
    pub state: AssignmentState,
}

/// What is kept of a hub elsewhere.
#[derive(Clone)]
pub struct Backup {
    at: UnixSeconds,
    store: Store,
    clusters: BTreeMap<ClusterId, ClusterRecord>,
    applications: BTreeMap<AppId, Application>,
}

/// A hub.
pub struct Hub {
    charter: Arc<Charter>,
    fleet: Fleet,
    store: Store,
    /// What operators wrote: a hub that starts reads it again.
    clusters: BTreeMap<ClusterId, ClusterRecord>,
    applications: BTreeMap<AppId, Application>,
    contents: BTreeMap<Digest, Arc<[u8]>>,
    connected: BTreeSet<ClusterId>,
    /// What came and was not handled yet.
    waiting: Vec<Event>,
    /// How often it was restored.
    life: u32,
    /// When this process began.
    started: Duration,
    /// How far its clock is from a right one, in seconds.
    pub clock: i64,
    view: BTreeMap<(AppId, ClusterId), Seen>,
    statuses: BTreeMap<ClusterId, ClusterStatus>,
    reasons: BTreeMap<AppId, String>,
    news: Vec<(AppId, ClusterId)>,
    /// The first thing it did that its store does not bear out.
    broken: Option<String>,
}

impl Hub {
    /// A hub that begins, with all releases published.
    ///
    /// # Errors
    /// Never: its store is empty.
    pub fn new(charter: Arc<Charter>) -> Result<Self, RestoreError> {
        let content = |published: &Published| (published.pack, Arc::clone(&published.packed));
        let mut hub = Self {
            fleet: fleet(&charter, 0),
            contents: charter.releases.iter().map(content).collect(),
            charter,
            store: BTreeMap::new(),
            clusters: BTreeMap::new(),
            applications: BTreeMap::new(),
            connected: BTreeSet::new(),
            waiting: Vec::new(),
            life: 0,
            started: Duration::ZERO,
            clock: 0,
            view: BTreeMap::new(),
            statuses: BTreeMap::new(),
            reasons: BTreeMap::new(),
            news: Vec::new(),
            broken: None,
        };
        drop(hub.start(Duration::ZERO)?);
        Ok(hub)
    }

    /// Registers a cluster that has joined.
    pub fn register(&mut self, at: Duration, id: &ClusterId, key: protocol::keys::PublicKey) -> Vec<Sent> {
        let record = ClusterRecord { accepted: true, ..ClusterRecord::default() };
        self.clusters.insert(id.clone(), record.clone());
        let registered = Event::Cluster(id.clone(), Some(record));
        self.handle(at, vec![registered, Event::Enrolled(id.clone(), key)])
    }

    /// An operator has every cluster run a release.
    pub fn place(&mut self, at: Duration, published: &Published) -> Vec<Sent> {
        let generation = self.applications.get(&published.app).map_or(1, |before| before.generation + 1);
        let spec = json!({"bundle": published.bundle, "placement": {"clusterSelector": {}}});
        let spec = serde_json::from_value(spec).expect("it is an Application's");
        let application = Application { spec, generation, approval: None };
        self.applications.insert(published.app.clone(), application.clone());
        self.handle(at, vec![Event::Application(published.app.clone(), Some(application))])
    }

    /// A cluster's connection is up.
    pub fn connect(&mut self, id: &ClusterId) {
        self.connected.insert(id.clone());
        self.waiting.push(Event::Connected(id.clone()));
    }

    /// A cluster's connection is down.
    pub fn disconnect(&mut self, id: &ClusterId) {
        self.connected.remove(id);
        self.waiting.push(Event::Gone(id.clone()));
    }

    /// A cluster says something.
    pub fn hear(&mut self, id: &ClusterId, topic: Upward, bytes: Vec<u8>) {
        self.waiting.push(Event::Said(id.clone(), topic, bytes));
    }

    /// Handles together what came since the last time, as the controller does.
    pub fn turn(&mut self, at: Duration) -> Vec<Sent> {
        let waiting = std::mem::take(&mut self.waiting);
        let heard = waiting.into_iter().map(|event| self.fleet.hear(event)).collect();
        self.handle(at, heard)
    }

    /// Time passes.
    pub fn tick(&mut self, at: Duration) -> Vec<Sent> {
        self.handle(at, vec![Event::Tick])
    }

    /// Whether the next tick does more than to look at the time.
    pub fn has_due(&self) -> bool {
        self.fleet.has_due()
    }

    /// How people see an application on a cluster.
    pub fn seen(&self, app: &AppId, id: &ClusterId) -> Option<&Seen> {
        self.view.get(&(app.clone(), id.clone()))
    }

    /// All that people see of applications on clusters.
    pub fn shown(&self) -> impl Iterator<Item = (&ClusterId, AssignmentState)> {
        self.view.iter().map(|((_, id), seen)| (id, seen.state))
    }

    /// Clusters whose connections are up, as the hub knows.
    pub fn connected(&self) -> impl Iterator<Item = &ClusterId> {
        self.connected.iter()
    }

    /// What people read of a cluster and of the applications, when they look for what is wrong.
    pub fn says(&self, id: &ClusterId) -> Vec<String> {
        let conditions = self.statuses.get(id).into_iter().flat_map(|status| &status.conditions);
        let conditions = conditions.map(|one| {
            format!("the hub says: {} {:?} {}: {}", one.type_, one.status, one.reason, one.message)
        });
        let reasons = self.reasons.iter().map(|(app, reason)| format!("the hub says: {app}: {reason}"));
        conditions.chain(reasons).collect()
    }

    /// What people see otherwise than when this was last asked.
    pub fn news(&mut self) -> Vec<(AppId, ClusterId)> {
        std::mem::take(&mut self.news)
    }

    /// What it did that its store does not bear out.
    ///
    /// # Errors
    /// The first such thing.
    pub fn check(&mut self) -> Result<(), String> {
        self.broken.take().map_or(Ok(()), Err)
    }

    /// Ends the process; all connections with it.
    pub fn end(&mut self) {
        self.connected.clear();
        self.waiting.clear();
    }

    /// Starts it again from what it stored.
    ///
    /// # Errors
    /// When it does not take up what it stored itself.
    pub fn start(&mut self, at: Duration) -> Result<Vec<Sent>, RestoreError> {
        self.started = at;
        self.fleet = fleet(&self.charter, self.life);
        for ((kind, key), bytes) in &self.store {
            self.fleet.restore(*kind, key, bytes)?;
        }
        let bundle = |published: &Published| {
            let record = BundleRecord { release: published.envelope.clone() };
            Event::Bundle(published.app.tenant.clone(), published.bundle.clone(), Some(record))
        };
        let bundles = self.charter.releases.iter().map(bundle);
        let clusters =
            self.clusters.iter().map(|(id, record)| Event::Cluster(id.clone(), Some(record.clone())));
        let applications =
            self.applications.iter().map(|(id, one)| Event::Application(id.clone(), Some(one.clone())));
        let events = bundles.chain(clusters).chain(applications).collect();
        Ok(self.handle(at, events))
    }

    /// What would be restored.
    pub fn backup(&self, at: Duration) -> Backup {
        Backup {
            at: self.now(at).wall,
            store: self.store.clone(),
            clusters: self.clusters.clone(),
            applications: self.applications.clone(),
        }
    }

    /// Has its store be that of a backup, as `edgefleet restore` does, for the next start.
    pub fn restore(&mut self, at: Duration, backup: Backup) {
        self.life += 1;
        let records = backup.applications.iter().map(|(app, application)| Record::of(app, application));
        let now = self.now(at).wall;
        let recovery =
            Recovery::restored(incarnation(self.life), now, backup.at, records.collect()).document();
        (self.store, self.clusters, self.applications) = (backup.store, backup.clusters, backup.applications);
        self.store.extend(recovery.bytes.map(|bytes| ((recovery.kind, recovery.key), bytes)));
        self.view.clear();
        self.statuses.clear();
        self.reasons.clear();
        self.news.clear();
    }

    /// An operator accepts what it learned.
    pub fn accept(&mut self, at: Duration) -> Vec<Sent> {
        self.handle(at, vec![Event::Accept("all clusters were looked at".to_owned())])
    }

    /// Which life it leads, as its heads say.
    pub fn incarnation(&self) -> Incarnation {
        self.fleet.standing().map_or(incarnation(self.life), |standing| standing.recovery.incarnation)
    }

    /// Whether it waits for that.
    pub fn is_paused(&self) -> bool {
        self.fleet.standing().is_some_and(|standing| standing.recovery.accepted.is_none())
    }

    fn now(&self, at: Duration) -> Now {
        let wall = UnixSeconds(wall(at).0.saturating_add_signed(self.clock));
        Now { monotonic: at.saturating_sub(self.started), wall }
    }

    /// Handles what happens together as the controller does: store, then send, then show.
    fn handle(&mut self, at: Duration, events: Vec<Event>) -> Vec<Sent> {
        let now = self.now(at);
        let mut sent = Vec::new();
        let mut effects: Vec<Effect> =
            events.into_iter().flat_map(|event| self.fleet.handle(now, event)).collect();
        loop {
            effects.extend(self.fleet.settle(now));
            effects.extend(self.fleet.show());
            let due = std::mem::take(&mut effects);
            for effect in due {
                if let Err(broken) = self.look_at(&effect) {
                    self.broken.get_or_insert(broken);
                }
                self.carry_out(effect, &mut sent);
            }
            if self.fleet.has_more() {
                effects = self.fleet.handle(now, Event::More);
            } else if !self.fleet.has_to_show() {
                return sent;
            }
        }
    }

    /// Looks at what it is about to do, beside what it stored until now.
    fn look_at(&self, effect: &Effect) -> Result<(), String> {
        match effect {
            Effect::Store(documents) => {
                documents.iter().try_for_each(|document| stored::check_stored(&self.store, document))
            }
            Effect::Push(id, Downward::Desired, _) if stored::is_paused(&self.store) => {
                Err(format!("the hub tells {id} what to run before an operator accepted what it learned"))
            }
            Effect::Push(id, topic, bytes) => stored::check_sent(&self.store, id, *topic, bytes),
            Effect::ApplicationStatus(_, status) => {
                let counts = status.clusters.as_ref();
                counts.map_or(Ok(()), |counts| stored::check_counts(counts, self.clusters.len()))
            }
            Effect::SendContent { .. }
            | Effect::Kick(_)
            | Effect::ClusterStatus(..)
            | Effect::Assignment(..)
            | Effect::Occurred(_) => Ok(()),
        }
    }

    fn carry_out(&mut self, effect: Effect, sent: &mut Vec<Sent>) {
        match effect {
            Effect::Store(documents) => {
                for document in documents {
                    let key = (document.kind, document.key);
                    match document.bytes {
                        Some(bytes) => drop(self.store.insert(key, bytes)),
                        None => drop(self.store.remove(&key)),
                    }
                }
            }
            Effect::Push(id, topic, bytes) => {
                if self.connected.contains(&id) {
                    sent.push(Sent::Message(id, topic, bytes));
                }
            }
            Effect::SendContent { cluster, target, encoding, offset } => {
                if self.connected.contains(&cluster) {
                    for chunk in self.window(target, encoding, offset) {
                        sent.push(Sent::Message(cluster.clone(), Downward::Blob, chunk));
                    }
                }
            }
            Effect::Kick(id) => sent.push(Sent::Kick(id)),
            Effect::Assignment(app, id, Some(shown)) => {
                let (_, status) = *shown;
                self.news.push((app.clone(), id.clone()));
                self.view.insert((app, id), Seen { bundle: status.bundle, state: status.state });
            }
            Effect::Assignment(app, id, None) => drop(self.view.remove(&(app, id))),
            Effect::ClusterStatus(id, status) => drop(self.statuses.insert(id, *status)),
            Effect::ApplicationStatus(app, status) => {
                self.reasons.insert(app, status.reason.unwrap_or_default());
            }
            Effect::Occurred(_) => {}
        }
    }

    fn window(&self, target: Digest, encoding: Encoding, offset: u64) -> Vec<Vec<u8>> {
        let content: &[u8] = self.contents.get(&target).map_or(&[], |content| content);
        let from = usize::try_from(offset).unwrap_or(usize::MAX).min(content.len());
        let to = content.len().min(from.saturating_add(limits::CHUNK_BYTES * limits::WINDOW_CHUNKS));
        let chunks = messages::window(target, encoding, content.len() as u64, offset, &content[from..to]);
        chunks.iter().map(|chunk| chunk.encode()).collect()
    }
}

fn fleet(charter: &Charter, life: u32) -> Fleet {
    Fleet::new(charter.trust.clone(), Arc::clone(&charter.director), incarnation(life))
}

fn incarnation(life: u32) -> Incarnation {
    let mut bytes = *b"a hub's life    ";
    bytes[Incarnation::LEN - 4..].copy_from_slice(&life.to_be_bytes());
    Incarnation::new(bytes)
}

/// What a right clock says.
pub fn wall(at: Duration) -> UnixSeconds {
    START.plus(at.as_secs())
}
