//! The fleet: what every cluster should run, what it says it runs, and what to tell it next.
//!
//! One event in, effects out. Every change of what a cluster should run goes through [`rollout::advance`].

mod acks;
pub mod carry;
mod clock;
mod clusters;
mod decide;
mod freeze;
mod labels;
pub mod messages;
pub mod placement;
mod preview;
pub mod recovery;
mod reported;
mod revocation;
pub mod rollout;
mod shown;
mod signing;
mod status;
mod tally;
#[cfg(test)]
mod tests;
mod told;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use protocol::{
    codec,
    documents::{self, Desired, DesiredRelease, Encoding},
    ids::{AppId, ClusterId, Digest, Incarnation, KeyId, Name},
    kept::Kept,
    keys::{PublicKey, SigningKey},
    limits,
    order::Order,
    time::{Now, UnixSeconds},
    topics::{Downward, Upward},
    verify::{Trust, Verified},
};

use crate::logic::occurrence::{Occurrence, Reason};
use crate::logic::registry::failure::chain;
use crate::resources::{ApplicationSpec, ApplicationStatus, AssignmentStatus, ClusterStatus};
pub use freeze::FreezeRecord;
pub use labels::Labels;

use clusters::Clusters;
use decide::Removals;
pub use decide::believe;
use messages::Heard;
use recovery::{Agreement, Claim, Recovery};
use reported::Reported;
pub use revocation::Revocation;
use rollout::Decision;
use tally::Tally;
pub use told::assignment_key;

/// How often every head is signed again.
const RESIGN_EVERY: Duration = Duration::from_secs(limits::HEAD_RESIGN_SECONDS);

/// What happens.
#[derive(Debug, Clone)]
pub enum Event {
    /// A cluster was registered, changed, or (none) taken out.
    Cluster(ClusterId, Option<ClusterRecord>),
    /// A bundle was published or (none) taken out.
    Bundle(Name, String, Option<BundleRecord>),
    /// An application was made, changed or (none) taken out. What clusters run of it stays.
    Application(AppId, Option<Application>),
    /// An operator froze a part of the fleet, or (none) lifted that.
    Freeze(String, Option<FreezeRecord>),
    /// A cluster made its keys and joined.
    Enrolled(ClusterId, PublicKey),
    /// An operator revoked the key that a cluster joined with, and said why.
    Revoke(ClusterId, String),
    /// A cluster's connection is up.
    Connected(ClusterId),
    /// A cluster's connection is down.
    Gone(ClusterId),
    /// A cluster said something.
    Said(ClusterId, Upward, Vec<u8>),
    /// The same, once it is verified: see [`Fleet::hear`].
    Heard(ClusterId, Heard),
    /// An operator accepts what a hub in another life learned, and says why: changes go on.
    Accept(String),
    /// What was decided goes on to more clusters: see [`Fleet::has_more`].
    More,
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
    /// Something happened to an object, which an event is to tell.
    Occurred(Occurrence),
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
    /// From how many clusters an application was removed, and which approval that used up.
    Removals,
    /// Why the hub leads another life than its first.
    Recovery,
    /// What hub and cluster agreed on when they met in this life.
    Agreement,
    /// Why an identity key is believed no more.
    Revocation,
}

impl DocumentKind {
    /// Every kind.
    pub const ALL: [Self; 7] = [
        Self::Identity,
        Self::Desired,
        Self::Report,
        Self::Removals,
        Self::Recovery,
        Self::Agreement,
        Self::Revocation,
    ];

    /// The kind's name in the store.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Identity => "identity",
            Self::Desired => "desired",
            Self::Report => "report",
            Self::Removals => "removals",
            Self::Recovery => "recovery",
            Self::Agreement => "agreement",
            Self::Revocation => "revocation",
        }
    }
}

/// The fleet's state.
#[derive(Debug)]
pub struct Fleet {
    trust: Trust,
    director: Arc<SigningKey>,
    incarnation: Incarnation,
    recovery: Option<Recovery>,
    clusters: Clusters,
    applications: BTreeMap<AppId, Application>,
    bundles: BTreeMap<(Name, String), Result<Release, String>>,
    freezes: BTreeMap<String, FreezeRecord>,
    removals: BTreeMap<AppId, Removals>,
    revoked: BTreeMap<KeyId, Revocation>,
    decisions: BTreeMap<AppId, Decision>,
    /// Counts of applications that were decided on. One that is not there is counted anew.
    tallies: BTreeMap<AppId, Tally>,
    /// Clusters that operators hold: for some the time runs out.
    on_hold: BTreeSet<ClusterId>,
    /// Applications whose change was told to some clusters and not yet to all.
    under_way: BTreeMap<AppId, ClusterId>,
    /// What was put out last of applications, undated.
    shown: BTreeMap<AppId, ApplicationStatus>,
    changed: Changed,
    resign_at: Duration,
    /// When time was last looked at.
    looked: Option<Now>,
    /// Whether it was told which clusters did not come back after the hub started.
    told_missing: bool,
}

/// What has to be looked at again.
#[derive(Debug, Default)]
struct Changed {
    /// Applications to decide on now.
    now: BTreeSet<AppId>,
    /// Applications to decide on with the next tick, so that many reports, or labels, make one change.
    later: BTreeSet<AppId>,
    /// Applications that were decided on and not shown since.
    decided: BTreeSet<AppId>,
    clusters: BTreeSet<ClusterId>,
    /// Until when these wait: a change was just told to many, and they are about to report.
    shown_from: Option<Duration>,
    /// Of these, the ones whose assignments carry old labels.
    relabelled: BTreeSet<ClusterId>,
    /// Clusters that are to hear what is held of their reports, each once.
    heard: Vec<ClusterId>,
}

#[derive(Debug, Default)]
struct Cluster {
    registered: bool,
    labels: Labels,
    accepted: bool,
    hold: Option<HoldRecord>,
    /// Whether it was on hold when that was last looked at: heads are sent when it changes.
    held: bool,
    identity: Option<PublicKey>,
    connected: bool,
    /// Which of both was told last in an event; none before it was connected.
    told_connected: Option<bool>,
    signed: Option<Signed>,
    /// There is one only if the hub began another life.
    agreement: Option<Box<Agreement>>,
    /// Whether it reads acknowledgements that are signed together, as it said on this connection.
    reads_together: bool,
    /// What it said that it holds, on this connection.
    claim: Option<Claim>,
    /// It holds something that is not known here, and was asked for it.
    ahead: bool,
    /// Why what it showed is not believed.
    refused: Option<String>,
    report: Option<Reported>,
    /// It is to hear what is held of its reports.
    awaits_ack: bool,
    shown: shown::Shown,
    /// The number of its last change.
    change: u64,
}

#[derive(Debug)]
struct Signed {
    desired: Kept<Desired>,
    /// For each of its releases, the place of the desired state under which it became what it is. After a restart, that
    /// of the newest.
    since: Box<[Order]>,
}

#[derive(Debug)]
struct Release {
    bytes: Arc<[u8]>,
    verified: Verified<documents::Release>,
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
            recovery: None,
            clusters: Clusters::default(),
            applications: BTreeMap::new(),
            bundles: BTreeMap::new(),
            freezes: BTreeMap::new(),
            removals: BTreeMap::new(),
            revoked: BTreeMap::new(),
            decisions: BTreeMap::new(),
            tallies: BTreeMap::new(),
            on_hold: BTreeSet::new(),
            under_way: BTreeMap::new(),
            shown: BTreeMap::new(),
            changed: Changed::default(),
            resign_at: RESIGN_EVERY,
            looked: None,
            told_missing: false,
        }
    }

    /// Takes up a stored document, before the first event.
    pub fn restore(&mut self, kind: DocumentKind, key: &str, bytes: &[u8]) -> Result<(), RestoreError> {
        let wrong =
            |problem: String| RestoreError::Document { kind: kind.name(), key: key.to_owned(), problem };
        let cluster_id = || ClusterId::new(key).map_err(|error| wrong(error.to_string()));
        match kind {
            DocumentKind::Identity => {
                let key = <[u8; 32]>::try_from(bytes).map_err(|_| wrong("not 32 bytes".to_owned()))?;
                self.clusters.entry(cluster_id()?).identity = Some(PublicKey::new(key));
            }
            DocumentKind::Desired => {
                let id = cluster_id()?;
                let desired = self.trust.director(&id, bytes).map_err(|error| wrong(chain(&error)))?;
                let desired = kept(desired, bytes);
                let since = vec![desired.order; desired.releases.len()].into();
                self.clusters.entry(id).signed = Some(Signed { desired, since });
            }
            DocumentKind::Report => {
                let report = Reported::restored(bytes).map_err(|error| wrong(chain(&error)))?;
                self.clusters.entry(cluster_id()?).report = Some(report);
            }
            DocumentKind::Removals => {
                let id = key.parse::<AppId>().map_err(|error| wrong(error.to_string()))?;
                let removals = codec::decode("removals", bytes).map_err(|error| wrong(chain(&error)))?;
                self.removals.insert(id, removals);
            }
            DocumentKind::Recovery => {
                let recovery: Recovery =
                    codec::decode("recovery", bytes).map_err(|error| wrong(chain(&error)))?;
                self.incarnation = recovery.incarnation;
                self.recovery = Some(recovery);
            }
            DocumentKind::Agreement => {
                let agreement = codec::decode("agreement", bytes).map_err(|error| wrong(chain(&error)))?;
                self.clusters.entry(cluster_id()?).agreement = Some(Box::new(agreement));
            }
            DocumentKind::Revocation => {
                let id = key.parse::<KeyId>().map_err(|error| wrong(error.to_string()))?;
                let revocation = codec::decode("revocation", bytes).map_err(|error| wrong(chain(&error)))?;
                self.revoked.insert(id, revocation);
            }
        }
        Ok(())
    }

    /// What happened, and what is to be done about it at once. [`Self::settle`] says what follows when all that
    /// happened together was handled.
    pub fn handle(&mut self, now: Now, event: Event) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.handle_into(now, event, &mut effects);
        effects
    }

    /// The same, where much happens: what is to be done comes behind what is there.
    pub fn handle_into(&mut self, now: Now, event: Event, effects: &mut Vec<Effect>) {
        self.looked.get_or_insert(now);
        match event {
            Event::Cluster(id, record) => self.cluster_changed(now, id, record, effects),
            Event::Bundle(tenant, name, record) => self.bundle_changed(tenant, name, record),
            Event::Application(id, application) => self.application_changed(id, application),
            Event::Freeze(name, record) => self.freeze_changed(now, name, record, effects),
            Event::Enrolled(id, identity) => self.enrolled(id, identity, effects),
            Event::Revoke(id, reason) => self.revoke(now, id, reason, effects),
            Event::Connected(id) => self.presence(id, true, effects),
            Event::Gone(id) => self.presence(id, false, effects),
            Event::Said(id, topic, bytes) => self.said(now, &id, topic, bytes, effects),
            Event::Heard(id, heard) => self.heard(now, &id, heard, effects),
            Event::Accept(reason) => self.accept(now, reason, effects),
            Event::More => self.changed.now.extend(self.under_way.keys().cloned()),
            Event::Tick => self.tick(now, effects),
        }
    }

    /// With which identity key a cluster may connect: it is registered, accepted and joined, and the key is not
    /// revoked.
    pub fn admitted_key(&self, id: &ClusterId) -> Option<KeyId> {
        let cluster = self.clusters.get(id).filter(|cluster| cluster.is_let_in(&self.revoked))?;
        cluster.identity.as_ref().map(PublicKey::id)
    }

    /// Whether a cluster may connect at all.
    pub fn admits(&self, id: &ClusterId) -> bool {
        self.admitted_key(id).is_some()
    }

    /// Whether a cluster is registered, and whether it has joined already.
    pub fn joining(&self, id: &ClusterId) -> Option<bool> {
        let cluster = self.clusters.get(id).filter(|cluster| cluster.registered)?;
        Some(cluster.identity.is_some())
    }

    /// What would take out everything that was registered, published or made: for whoever missed what was taken
    /// out, and knows what is still there.
    pub fn removals(&self) -> Vec<Event> {
        let registered = self.clusters.iter().filter(|(_, cluster)| cluster.registered);
        let clusters = registered.map(|(id, _)| Event::Cluster(id.clone(), None));
        let bundles =
            self.bundles.keys().map(|(tenant, name)| Event::Bundle(tenant.clone(), name.clone(), None));
        let applications = self.applications.keys().map(|id| Event::Application(id.clone(), None));
        let freezes = self.freezes.keys().map(|name| Event::Freeze(name.clone(), None));
        clusters.chain(bundles).chain(applications).chain(freezes).collect()
    }

    /// Clusters that are connected now.
    pub fn connected(&self) -> usize {
        self.clusters.values().filter(|cluster| cluster.connected).count()
    }

    fn cluster_changed(
        &mut self,
        now: Now,
        id: ClusterId,
        record: Option<ClusterRecord>,
        effects: &mut Vec<Effect>,
    ) {
        let cluster = self.clusters.entry(id.clone());
        let registered = record.is_some();
        let ClusterRecord { labels, accepted, hold } = record.unwrap_or_default();
        let labels = Labels::from(labels);
        let relabelled = cluster.labels != labels;
        if relabelled || (cluster.registered, cluster.accepted) != (registered, accepted) {
            self.changed.later.extend(self.applications.keys().cloned());
        }
        if relabelled {
            self.changed.relabelled.insert(id.clone());
        }
        (cluster.registered, cluster.labels, cluster.accepted) = (registered, labels, accepted);
        let is_on_hold = hold.is_some();
        cluster.hold = hold;
        cluster.told_connected = cluster.told_connected.filter(|_| accepted);
        if !accepted && cluster.connected {
            effects.push(Effect::Kick(id.clone()));
        }
        match is_on_hold {
            true => drop(self.on_hold.insert(id.clone())),
            false => drop(self.on_hold.remove(&id)),
        }
        self.look_at_hold(now, &id, effects);
        if relabelled && !self.freezes.is_empty() {
            self.send_news(now, &id, None, false, effects);
        }
        self.changed.clusters.insert(id);
    }

    /// Whatever is said about a cluster and its applications is said again if it changed.
    fn touch(&mut self, id: &ClusterId) {
        let signed = self.clusters.get(id).and_then(|cluster| cluster.signed.as_ref());
        let told = signed.iter().flat_map(|signed| &signed.desired.releases);
        self.changed.later.extend(told.map(|release| release.app.clone()));
        self.changed.clusters.insert(id.clone());
    }

    fn bundle_changed(&mut self, tenant: Name, name: String, record: Option<BundleRecord>) {
        let uses = |(id, application): &(&AppId, &Application)| {
            id.tenant == tenant && application.spec.bundle == name
        };
        for (id, _) in self.applications.iter().filter(uses) {
            self.changed.now.insert(id.clone());
            self.tallies.remove(id);
        }
        let key = (tenant, name);
        let Some(record) = record else {
            self.bundles.remove(&key);
            return;
        };
        let release = self.release(&key, record);
        if let Ok(Release { verified, .. }) = &release {
            // Their assignments name the bundle.
            let is_told = |cluster: &Cluster| {
                let told = cluster.told(&verified.app).filter(|_| cluster.registered);
                told.is_some_and(|told| told.release == verified.digest())
            };
            let told = self.clusters.iter().filter(|(_, cluster)| is_told(cluster));
            self.changed.clusters.extend(told.map(|(id, _)| id.clone()));
        }
        self.bundles.insert(key, release);
    }

    /// A bundle whose release is not believed is kept with the reason, for whoever asks why nothing happens.
    fn release(&self, (tenant, name): &(Name, String), record: BundleRecord) -> Result<Release, String> {
        let verified = believe(&self.trust, tenant.as_str(), name, &record.release)?;
        Ok(Release { bytes: record.release.into(), verified })
    }

    fn application_changed(&mut self, id: AppId, application: Option<Application>) {
        self.under_way.remove(&id);
        self.tallies.remove(&id);
        match application {
            Some(application) => {
                self.changed.now.insert(id.clone());
                self.applications.insert(id, application);
            }
            None => {
                self.applications.remove(&id);
                self.decisions.remove(&id);
                self.shown.remove(&id);
            }
        }
    }

    fn enrolled(&mut self, id: ClusterId, identity: PublicKey, effects: &mut Vec<Effect>) {
        let cluster = self.clusters.entry(id.clone());
        let before = cluster.identity.replace(identity);
        let (key, bytes) = (id.to_string(), Some(identity.as_bytes().to_vec()));
        effects.push(Effect::Store(vec![Document { kind: DocumentKind::Identity, key, bytes }]));
        if before != Some(identity) {
            let message = format!("joined with the identity key {}", identity.id());
            effects.push(told::of_cluster(&id, Reason::Joined, message));
        }
        // Who is connected with the key before is somebody else now.
        if cluster.connected && before != Some(identity) {
            effects.push(Effect::Kick(id.clone()));
        }
        self.changed.clusters.insert(id);
    }

    fn presence(&mut self, id: ClusterId, connected: bool, effects: &mut Vec<Effect>) {
        let cluster = self.clusters.entry(id.clone());
        (cluster.connected, cluster.claim, cluster.reads_together) = (connected, None, false);
        if connected && !cluster.accepted {
            effects.push(Effect::Kick(id.clone()));
        }
        self.tell_presence(&id, effects);
        self.touch(&id);
    }
}

impl Cluster {
    /// Whether it may speak to the hub: it is registered and accepted, and joined with a key that is not revoked.
    fn is_let_in(&self, revoked: &BTreeMap<KeyId, Revocation>) -> bool {
        // A key's id is its digest: it is not computed for each message as long as no key is revoked.
        let is_good = |key: PublicKey| revoked.is_empty() || !revoked.contains_key(&key.id());
        self.registered && self.accepted && self.identity.is_some_and(is_good)
    }

    /// What it was last told about an application.
    fn told(&self, id: &AppId) -> Option<&DesiredRelease> {
        self.signed.as_ref()?.desired.release_of(id)
    }
}

/// Keeps a desired state that was verified in this envelope.
fn kept(desired: Verified<Desired>, envelope: &[u8]) -> Kept<Desired> {
    Kept::new(desired, envelope).expect("what a director made has one signature")
}
