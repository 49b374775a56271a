//! The fleet: what every cluster should run, what it says it runs, and what to tell it next.
//!
//! One event in, effects out. Every change of what a cluster should run goes through [`rollout::advance`].

pub mod messages;
mod placement;
pub mod rollout;
mod signing;
mod status;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use protocol::{
    documents::{AppReport, Condition, Desired, DesiredRelease, Encoding},
    ids::{AppId, ClusterId, Digest, Incarnation, JournalId, Name},
    keys::{PublicKey, SigningKey},
    limits,
    order::Order,
    time::{Now, UnixSeconds},
    topics::{Downward, Upward},
    verify::{Trust, Verified},
};
use serde::{Deserialize, Serialize};

use crate::resources::{ApplicationSpec, ApplicationStatus, AssignmentStatus, ClusterStatus, OnUnmatch};
use rollout::{Change, Decision};

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// A cluster was registered, changed, or (none) taken out.
    Cluster(ClusterId, Option<ClusterRecord>),
    /// A bundle was published or (none) taken out.
    Bundle(Name, String, Option<BundleRecord>),
    /// An application was made, changed or (none) taken out. What clusters run of it stays.
    Application(AppId, Option<Application>),
    /// A cluster made its keys and joined.
    Enrolled(ClusterId, PublicKey),
    /// A cluster's connection is up.
    Connected(ClusterId),
    /// A cluster's connection is down.
    Gone(ClusterId),
    /// A cluster said something.
    Said(ClusterId, Upward, Vec<u8>),
    /// Time passed.
    Tick,
}

/// What an operator decided about a cluster.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ClusterRecord {
    /// Its labels.
    pub labels: BTreeMap<String, String>,
    /// The opt-in.
    pub accepted: bool,
    /// Why nothing starts there now; none if it is not on hold, or no longer.
    pub hold: Option<HoldRecord>,
}

/// Why nothing starts on a cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HoldRecord {
    /// Why.
    pub reason: String,
    /// When it ends by itself.
    pub until: Option<UnixSeconds>,
}

/// A published bundle.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BundleRecord {
    /// The release's envelope.
    pub release: Vec<u8>,
}

/// An application as the operator wants it.
#[derive(Debug, Clone)]
pub struct Application {
    /// What it says.
    pub spec: ApplicationSpec,
    /// Which version of that.
    pub generation: u64,
    /// The operator's approval of a generation, with its reason, if there is one.
    pub approval: Option<String>,
}

/// What is to be done. Effects happen in order; a [`Effect::Store`] is durable before the next.
#[derive(Debug)]
pub enum Effect {
    /// Writes or removes documents, together.
    Store(Vec<Document>),
    /// Sends a message to a cluster that is connected.
    Push(ClusterId, Downward, Vec<u8>),
    /// Sends a window of content to a cluster, from the blob of this digest.
    SendContent {
        /// To whom.
        cluster: ClusterId,
        /// Digest of the plain content.
        target: Digest,
        /// How it is encoded.
        encoding: Encoding,
        /// Where the window starts in the encoded content.
        offset: u64,
    },
    /// Ends a cluster's connection.
    Kick(ClusterId),
    /// A cluster's status changed.
    ClusterStatus(ClusterId, Box<ClusterStatus>),
    /// An application's status changed.
    ApplicationStatus(AppId, Box<ApplicationStatus>),
    /// How an application is on a cluster changed; none if it is not there any more.
    Assignment(AppId, ClusterId, Option<Box<(BTreeMap<String, String>, AssignmentStatus)>>),
}

/// A document of the fleet's own, by kind and key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Which kind.
    pub kind: DocumentKind,
    /// Which of them.
    pub key: String,
    /// What it holds; none to remove it.
    pub bytes: Option<Vec<u8>>,
}

/// The kinds of documents the fleet keeps.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DocumentKind {
    /// A cluster's public identity key.
    Identity,
    /// A cluster's newest signed desired state.
    Desired,
    /// A cluster's newest report, all applications together.
    Report,
    /// The approval that an application's last dangerous change used up.
    Approval,
}

impl DocumentKind {
    /// Every kind.
    pub const ALL: [Self; 4] = [Self::Identity, Self::Desired, Self::Report, Self::Approval];

    /// The kind's name in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Desired => "desired",
            Self::Report => "report",
            Self::Approval => "approval",
        }
    }
}

/// The fleet's state.
#[derive(Debug)]
pub struct Fleet {
    trust: Trust,
    director: Arc<SigningKey>,
    incarnation: Incarnation,
    clusters: BTreeMap<ClusterId, Cluster>,
    applications: BTreeMap<AppId, Application>,
    bundles: BTreeMap<(Name, String), Result<Release, String>>,
    approvals: BTreeMap<AppId, String>,
    decisions: BTreeMap<AppId, Decision>,
    /// Statuses as they were last put out.
    shown: status::Shown,
    changed: Changed,
    resign_at: Duration,
}

/// What has to be looked at again.
#[derive(Debug, Default)]
struct Changed {
    placement: bool,
    /// Counts of applications: put out with the next tick, so that many reports make one change.
    reports: bool,
    clusters: BTreeSet<ClusterId>,
}

#[derive(Debug, Default)]
struct Cluster {
    registered: bool,
    labels: BTreeMap<String, String>,
    accepted: bool,
    hold: Option<HoldRecord>,
    identity: Option<PublicKey>,
    connected: bool,
    signed: Option<Signed>,
    report: Option<Reported>,
}

#[derive(Debug)]
struct Signed {
    bytes: Vec<u8>,
    desired: Verified<Desired>,
}

#[derive(Debug)]
struct Release {
    bytes: Vec<u8>,
    digest: Digest,
    app: AppId,
}

/// The newest report of a cluster, all applications together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Reported {
    journal: JournalId,
    seq: u64,
    order: Order,
    apps: Vec<AppReport>,
    conditions: Vec<Condition>,
    clock_skew: u64,
    kubernetes: String,
    agent: String,
    at: UnixSeconds,
}

/// A stored document that cannot be taken up.
#[derive(Debug, thiserror::Error)]
pub enum RestoreError {
    /// It is not what it should be.
    #[error("the store's {kind} of {key} is not valid: {problem}")]
    Document {
        /// Which kind.
        kind: &'static str,
        /// Which of them.
        key: String,
        /// What is wrong.
        problem: String,
    },
}

impl Fleet {
    /// A fleet that has heard of nothing yet: objects and documents follow.
    pub fn new(trust: Trust, director: Arc<SigningKey>, incarnation: Incarnation) -> Self {
        Self {
            trust,
            director,
            incarnation,
            clusters: BTreeMap::new(),
            applications: BTreeMap::new(),
            bundles: BTreeMap::new(),
            approvals: BTreeMap::new(),
            decisions: BTreeMap::new(),
            shown: status::Shown::default(),
            changed: Changed { placement: true, ..Changed::default() },
            resign_at: Duration::ZERO,
        }
    }

    /// Takes up a stored document, before the first event.
    pub fn restore(&mut self, kind: DocumentKind, key: &str, bytes: &[u8]) -> Result<(), RestoreError> {
        let wrong =
            |problem: String| RestoreError::Document { kind: kind.name(), key: key.to_owned(), problem };
        if kind == DocumentKind::Approval {
            let id = key.parse::<AppId>().map_err(|error| wrong(error.to_string()))?;
            self.approvals.insert(id, String::from_utf8_lossy(bytes).into_owned());
            return Ok(());
        }
        let id = ClusterId::new(key).map_err(|error| wrong(error.to_string()))?;
        let desired = self.trust.director(&id, bytes);
        let cluster = self.clusters.entry(id).or_default();
        match kind {
            DocumentKind::Identity => {
                let key = <[u8; 32]>::try_from(bytes).map_err(|_| wrong("not 32 bytes".to_owned()))?;
                cluster.identity = Some(PublicKey::new(key));
            }
            DocumentKind::Desired => {
                let desired = desired.map_err(|error| wrong(error.to_string()))?;
                cluster.signed = Some(Signed { bytes: bytes.to_vec(), desired });
            }
            DocumentKind::Report => {
                let report =
                    protocol::codec::decode("report", bytes).map_err(|error| wrong(error.to_string()))?;
                cluster.report = Some(report);
            }
            DocumentKind::Approval => {}
        }
        Ok(())
    }

    /// What happened, and what is to be done about it.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        match event {
            Event::Cluster(id, record) => self.cluster_changed(id, record, &mut effects),
            Event::Bundle(tenant, name, record) => self.bundle_changed(tenant, name, record),
            Event::Application(id, application) => self.application_changed(id, application),
            Event::Enrolled(id, identity) => self.enrolled(id, identity, &mut effects),
            Event::Connected(id) => self.presence(id, true),
            Event::Gone(id) => self.presence(id, false),
            Event::Said(id, topic, bytes) => self.said(now, &id, topic, &bytes, &mut effects),
            Event::Tick => self.tick(now, &mut effects),
        }
        self.settle(now, &mut effects);
        effects
    }

    /// Whether a cluster may connect: registered, accepted and joined.
    pub fn admits(&self, id: &ClusterId) -> bool {
        let cluster = self.clusters.get(id);
        cluster.is_some_and(|cluster| cluster.registered && cluster.accepted && cluster.identity.is_some())
    }

    /// Whether a cluster is registered, and whether it has joined already.
    pub fn joining(&self, id: &ClusterId) -> Option<bool> {
        let cluster = self.clusters.get(id).filter(|cluster| cluster.registered)?;
        Some(cluster.identity.is_some())
    }

    /// Clusters that are connected now.
    pub fn connected(&self) -> usize {
        self.clusters.values().filter(|cluster| cluster.connected).count()
    }

    fn cluster_changed(&mut self, id: ClusterId, record: Option<ClusterRecord>, effects: &mut Vec<Effect>) {
        let cluster = self.clusters.entry(id.clone()).or_default();
        cluster.registered = record.is_some();
        let record = record.unwrap_or_default();
        let accepted = record.accepted && cluster.registered;
        (cluster.labels, cluster.accepted, cluster.hold) = (record.labels, accepted, record.hold);
        if !accepted && cluster.connected {
            effects.push(Effect::Kick(id.clone()));
        }
        self.changed.placement = true;
        self.changed.clusters.insert(id);
    }

    fn bundle_changed(&mut self, tenant: Name, name: String, record: Option<BundleRecord>) {
        let key = (tenant, name);
        match record {
            Some(record) => {
                let release = self.release(&key, record);
                self.bundles.insert(key, release);
            }
            None => drop(self.bundles.remove(&key)),
        }
        self.changed.placement = true;
    }

    /// A bundle whose release is not believed is kept with the reason, for whoever asks why nothing happens.
    fn release(&self, (tenant, name): &(Name, String), record: BundleRecord) -> Result<Release, String> {
        let release =
            self.trust.release(&record.release).map_err(|error| format!("bundle {name}: {error}"))?;
        let named = format!("{}-{}", release.app.name, release.version);
        if &release.app.tenant != tenant || &named != name {
            return Err(format!("bundle {name} holds a release of {} {}", release.app, release.version));
        }
        let app = release.app.clone();
        Ok(Release { bytes: record.release, digest: release.digest(), app })
    }

    fn application_changed(&mut self, id: AppId, application: Option<Application>) {
        match application {
            Some(application) => drop(self.applications.insert(id, application)),
            None => {
                self.applications.remove(&id);
                self.decisions.remove(&id);
                self.shown.applications.remove(&id);
            }
        }
        self.changed.placement = true;
    }

    fn enrolled(&mut self, id: ClusterId, identity: PublicKey, effects: &mut Vec<Effect>) {
        let cluster = self.clusters.entry(id.clone()).or_default();
        cluster.identity = Some(identity);
        let bytes = Some(identity.as_bytes().to_vec());
        effects.push(Effect::Store(vec![Document {
            kind: DocumentKind::Identity,
            key: id.to_string(),
            bytes,
        }]));
        self.changed.clusters.insert(id);
    }

    fn presence(&mut self, id: ClusterId, connected: bool) {
        self.clusters.entry(id.clone()).or_default().connected = connected;
        self.changed.clusters.insert(id);
        self.changed.reports = true;
    }

    fn settle(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if std::mem::take(&mut self.changed.placement) {
            self.roll_out(now, effects);
            self.show_applications(now, effects);
        }
        self.show(now, effects);
    }

    fn tick(&mut self, now: Now, effects: &mut Vec<Effect>) {
        if self.resign_at <= now.monotonic {
            self.resign_at = now.monotonic + Duration::from_secs(limits::HEAD_RESIGN_SECONDS);
            self.resign_heads(now, effects);
        }
        if std::mem::take(&mut self.changed.reports) {
            self.roll_out(now, effects);
            self.show_applications(now, effects);
        }
    }

    /// Looks at every application, and tells clusters what is decided.
    fn roll_out(&mut self, now: Now, effects: &mut Vec<Effect>) {
        let mut edits: BTreeMap<ClusterId, Vec<Edit>> = BTreeMap::new();
        let mut used = Vec::new();
        for (id, application) in &self.applications {
            let decision = match self.change(id, application) {
                Err(reason) => Decision::Hold { reason },
                Ok(mut change) => {
                    let view = self.view(id, application, &change);
                    let decision = rollout::advance(&change, view);
                    if let Decision::Promote { clusters, .. } = &decision {
                        let removes = !change.remove.is_empty();
                        used.extend(
                            application.approval.clone().filter(|_| removes).map(|text| (id.clone(), text)),
                        );
                        for cluster in clusters {
                            let edit = match change.install.remove(cluster) {
                                Some(release) => Edit::Install(release),
                                None => Edit::Remove(id.clone()),
                            };
                            edits.entry(cluster.clone()).or_default().push(edit);
                        }
                    }
                    decision
                }
            };
            self.decisions.insert(id.clone(), decision);
        }
        self.use_up(used, effects);
        for (cluster, edits) in edits {
            self.tell(now, &cluster, edits, effects);
        }
    }

    /// What clusters were told so far against what they shall run.
    fn change(&self, id: &AppId, application: &Application) -> Result<Change, String> {
        let key = (id.tenant.clone(), application.spec.bundle.clone());
        let release = match self.bundles.get(&key) {
            Some(Ok(release)) if &release.app == id => release,
            Some(Ok(release)) => return Err(format!("bundle {} is of application {}", key.1, release.app)),
            Some(Err(problem)) => return Err(problem.clone()),
            None => return Err(format!("bundle {} does not exist in namespace {}: push it", key.1, key.0)),
        };
        let placed = placement::place(id, application, release, &self.clusters);
        let mut change = Change::default();
        for (cluster, wanted) in &placed {
            if self.told(cluster, id) != Some(wanted) {
                change.install.insert(cluster.clone(), wanted.clone());
            }
        }
        if application.spec.placement.on_unmatch == OnUnmatch::Remove {
            let left = self.clusters.iter().filter(|(cluster, _)| !placed.contains_key(*cluster));
            change.remove = left
                .filter(|(cluster, state)| state.accepted && self.told(cluster, id).is_some())
                .map(|(cluster, _)| cluster.clone())
                .collect();
        }
        Ok(change)
    }

    fn view(&self, id: &AppId, application: &Application, change: &Change) -> rollout::View {
        let told: Vec<&ClusterId> =
            self.clusters.keys().filter(|cluster| self.told(cluster, id).is_some()).collect();
        let key = (id.tenant.clone(), application.spec.bundle.clone());
        let release = self.bundles.get(&key).and_then(|release| release.as_ref().ok());
        let placed =
            release.map_or(0, |release| placement::place(id, application, release, &self.clusters).len());
        let counts = self.counts(id);
        let fresh = application.approval.as_ref().filter(|text| self.approvals.get(id) != Some(text));
        let approved = fresh.is_some_and(|text| approves(text, application.generation));
        rollout::View {
            fleet: self.clusters.values().filter(|cluster| cluster.registered).count(),
            placed,
            told: told.len(),
            available: usize::try_from(counts.available).unwrap_or(usize::MAX),
            failed: usize::try_from(counts.failed).unwrap_or(usize::MAX),
            offline: usize::try_from(counts.offline).unwrap_or(usize::MAX),
            approved: approved && (!change.remove.is_empty() || placed == 0),
        }
    }

    fn use_up(&mut self, used: Vec<(AppId, String)>, effects: &mut Vec<Effect>) {
        if used.is_empty() {
            return;
        }
        let document = |(id, text): &(AppId, String)| {
            let bytes = Some(text.clone().into_bytes());
            Document { kind: DocumentKind::Approval, key: id.to_string(), bytes }
        };
        effects.push(Effect::Store(used.iter().map(document).collect()));
        self.approvals.extend(used);
    }

    /// What a cluster was last told about an application.
    fn told(&self, cluster: &ClusterId, id: &AppId) -> Option<&DesiredRelease> {
        self.clusters.get(cluster)?.signed.as_ref()?.desired.release_of(id)
    }
}

/// One change of what a cluster is told.
#[derive(Debug)]
enum Edit {
    Install(DesiredRelease),
    Remove(AppId),
}

/// An approval names the generation it is for and says why: `3: the depot closes`.
fn approves(text: &str, generation: u64) -> bool {
    let (number, reason) = text.split_once(':').unwrap_or((text, ""));
    number.trim().parse() == Ok(generation) && !reason.trim().is_empty()
}
