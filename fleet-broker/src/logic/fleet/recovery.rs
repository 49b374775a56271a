//! A hub whose store is older than what its clusters hold: it was restored from a backup, or an old disk was put back.
//!
//! Such a hub leads a new life. It learns from every cluster what that holds, signs nothing for a cluster before it
//! knows, and changes nothing anywhere until an operator accepts what it learned. No cluster is moved back: what one
//! was found with stays until the application is written again.

use std::collections::BTreeSet;

use protocol::{
    codec,
    documents::{Desired, DesiredRelease, Hello},
    ids::{AppId, ClusterId, Digest, Incarnation, Nonce},
    order::{Held, Order},
    planted::Bug,
    time::{Now, UnixSeconds},
    verify::Verified,
};
use serde::{Deserialize, Serialize};

use super::{
    Application, Cluster, Document, DocumentKind, Effect, Fleet, Signed, chain,
    decide::approves,
    kept,
    rollout::many,
    status::{ADOPTED, Fresh, instant, truth},
    told,
};
use crate::logic::occurrence::Reason;

/// Why the hub leads another life than its first, and since when.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recovery {
    /// This life.
    pub incarnation: Incarnation,
    /// When it began.
    pub began: UnixSeconds,
    /// Why.
    pub cause: Cause,
    /// The applications as the old store had them.
    pub records: Vec<Record>,
    /// An operator's leave to change clusters again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<Acceptance>,
}

/// Why a hub began another life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// An operator restored it.
    Restored {
        /// When the backup was made.
        backed_up: UnixSeconds,
    },
    /// A cluster held what this hub had signed and did not know any more.
    RolledBack {
        /// The first that did.
        cluster: ClusterId,
    },
}

/// An application in an old store. Until it is written again, it does not say what anybody wants now.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Record {
    /// Which.
    pub app: AppId,
    /// Its generation.
    pub generation: u64,
    /// Its approval, which is as old.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub approval: Option<String>,
}

/// An operator's leave to change clusters again.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Acceptance {
    /// When it was given.
    pub at: UnixSeconds,
    /// Why.
    pub reason: String,
}

/// How far a hub is that began another life.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Why, and since when.
    pub recovery: Recovery,
    /// Clusters that have joined and may connect.
    pub joined: usize,
    /// Those of them that have not yet said what they hold.
    pub unheard: Vec<ClusterId>,
    /// Applications that clusters run otherwise than is recorded, and on how many.
    pub found: Vec<(AppId, usize)>,
}

/// What the hub and a cluster agreed on when they met in this life.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Agreement {
    /// In which life.
    incarnation: Incarnation,
    /// The highest place that was signed for the cluster until then: what is signed next comes after it.
    order: Order,
    /// What was signed for that place.
    digest: Digest,
    /// Applications that the cluster was found to run otherwise than was recorded, and was told nothing of since.
    found: Vec<AppId>,
}

/// What a cluster said when it connected.
#[derive(Debug, Clone, Copy)]
pub(super) struct Claim {
    /// What it holds.
    held: Option<Held>,
    nonce: Nonce,
    /// The newest version of the protocol's documents that it knows.
    pub(super) documents: u16,
    /// It agreed with another life of the hub last, and believes this one only in answer to its challenge.
    other_life: bool,
}

impl Fleet {
    /// How far the hub is, if it began another life.
    pub fn standing(&self) -> Option<Standing> {
        let recovery = self.recovery.clone()?;
        let joined = || {
            let member =
                |cluster: &Cluster| cluster.registered && cluster.accepted && cluster.identity.is_some();
            self.clusters.iter().filter(move |(_, cluster)| member(cluster))
        };
        let unheard = joined().filter(|(_, cluster)| !self.has_met(cluster)).map(|(id, _)| id.clone());
        let apps: BTreeSet<&AppId> = self.clusters.values().flat_map(|cluster| cluster.found()).collect();
        let found = apps.into_iter().map(|app| (app.clone(), self.found_on(app))).collect();
        Some(Standing { recovery, joined: joined().count(), unheard: unheard.collect(), found })
    }

    /// Whether an operator has yet to accept what this hub learns.
    pub(super) fn is_paused(&self) -> bool {
        self.recovery.as_ref().is_some_and(|recovery| recovery.accepted.is_none())
    }

    /// Whether it is known what a cluster holds, so that it may be told more.
    pub(super) fn has_met(&self, cluster: &Cluster) -> bool {
        let met = self.recovery.is_none() || cluster.agreed_in(self.incarnation);
        !cluster.ahead && (met || Bug::UnmetAreTold.is_planted())
    }

    /// Why nothing of an application is changed now; none if that is for its rollout to say.
    pub(super) fn waits(&self, application: &Application, found: u64, id: &AppId) -> Option<String> {
        let recovery = self.recovery.as_ref()?;
        if recovery.accepted.is_none() {
            return Some(format!(
                "{}: nothing changes until `edgefleet restore --accept`",
                recovery.cause.text()
            ));
        }
        let record = recovery.records.iter().find(|record| &record.app == id)?;
        let same = application.generation == record.generation && Bug::OldRecordRules.is_planted();
        if application.generation > record.generation || same || found == 0 {
            return None;
        }
        let news = application.approval.as_ref().filter(|text| Some(*text) != record.approval.as_ref());
        if news.is_some_and(|text| approves(text, application.generation)) {
            return None;
        }
        Some(format!(
            "{} it otherwise than this old record says, and nothing changes there: apply it as it should be, or approve the record \
             by annotating the Application with edgefleet.dev/approve=\"GENERATION: reason\"",
            many(found, "cluster runs", "clusters run")
        ))
    }

    /// An operator accepts what was learned: changes go on.
    pub(super) fn accept(&mut self, now: Now, reason: String, effects: &mut Vec<Effect>) {
        let Some(recovery) = self.recovery.as_mut().filter(|recovery| recovery.accepted.is_none()) else {
            return;
        };
        recovery.accepted = Some(Acceptance { at: now.wall, reason });
        let recovery = recovery.clone();
        effects.push(Effect::Store(vec![recovery.document()]));
        let reason = recovery.accepted.map(|accepted| accepted.reason).unwrap_or_default();
        let tell =
            |app| told::of_application(app, Reason::RecoveryAccepted, format!("changes go on: {reason}"));
        effects.extend(self.applications.keys().map(tell));
        self.changed.now.extend(self.applications.keys().cloned());
        // Their heads have permits again, and those that fell behind get what was signed for them.
        for id in self.clusters.keys() {
            self.send_news(now, id, None, true, effects);
        }
    }

    /// A cluster says what it holds. Whether that is known; if not, the cluster is asked for it by a head that names
    /// what is known.
    pub(super) fn meet(
        &mut self,
        now: Now,
        id: &ClusterId,
        hello: &Hello,
        effects: &mut Vec<Effect>,
    ) -> bool {
        let incarnation = self.incarnation;
        let Some(cluster) = self.clusters.get_mut(id) else { return false };
        let held = hello.desired.map(|digest| Held { order: hello.order, digest });
        let other_life = hello.incarnation.is_some_and(|life| life != incarnation);
        // A hello that is late, or said again, says what was so before this one was answered.
        let answered = cluster.claim.is_some_and(|claim| claim.nonce == hello.nonce) && !cluster.ahead;
        let documents = hello.documents.iter().copied().max().unwrap_or_default();
        cluster.claim = Some(Claim { held, nonce: hello.nonce, documents, other_life });
        let known = cluster.signed.as_ref().map(Signed::held);
        let other = held.filter(|held| known.is_none_or(|known| known.digest != held.digest));
        let news = other_life && !answered;
        let unknown = other.filter(|held| news || known.is_none_or(|known| held.order >= known.order));
        cluster.ahead = unknown.is_some();
        if unknown.is_some() {
            effects.push(told::of_cluster(id, Reason::Ahead, AHEAD));
            self.ask_for_held(now, id, hello.nonce, effects);
            self.touch(id);
            return false;
        }
        self.agree(id, BTreeSet::new(), effects);
        true
    }

    /// The desired state that a cluster holds came. Whoever carries messages may have kept one of another day, so it
    /// must be the very one that the cluster named when it said hello.
    pub(super) fn held_came(&mut self, now: Now, id: &ClusterId, bytes: &[u8], effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get(id) else { return };
        let digest = Digest::of(bytes);
        let Some(claim) = cluster.claim.filter(|_| cluster.ahead) else { return };
        let Some(claimed) = claim.held.filter(|held| held.digest == digest) else { return };
        let desired = match self.believe_held(id, claimed.order, bytes) {
            Ok(desired) => desired,
            Err(problem) => return self.refuse_held(id, problem, effects),
        };
        let old =
            cluster.base(self.incarnation).is_some_and(|base| claimed.order < base.order || claimed == base);
        let expected = self.recovery.is_some() && !cluster.agreed_in(self.incarnation);
        if let Some(cluster) = self.clusters.get_mut(id) {
            (cluster.ahead, cluster.refused) = (false, None);
        }
        if old {
            self.agree(id, BTreeSet::new(), effects);
        } else {
            if !expected {
                self.begin_life(now, id, digest, effects);
            }
            self.adopt(id, desired, bytes, effects);
        }
        self.send_news(now, id, Some(claim.nonce), old, effects);
    }

    fn believe_held(
        &self,
        id: &ClusterId,
        claimed: Order,
        bytes: &[u8],
    ) -> Result<Verified<Desired>, String> {
        let desired: Verified<Desired> = self.trust.director(id, bytes).map_err(|error| chain(&error))?;
        let epoch = self.trust.root().min_epoch;
        match desired.order {
            order if order != claimed => Err(format!("its hello names {claimed}, it shows {order}")),
            order if order.epoch != epoch => {
                Err(format!("it shows {order}, the root's epoch is {}", epoch.0))
            }
            _ => Ok(desired),
        }
    }

    fn refuse_held(&mut self, id: &ClusterId, problem: String, effects: &mut Vec<Effect>) {
        effects.push(told::of_cluster(id, Reason::NotBelieved, refused_text(&problem)));
        if let Some(cluster) = self.clusters.get_mut(id) {
            cluster.refused = Some(problem);
        }
        self.touch(id);
    }

    /// What a cluster holds is what it was told. What differs from the records is kept until an operator speaks.
    fn adopt(&mut self, id: &ClusterId, desired: Verified<Desired>, bytes: &[u8], effects: &mut Vec<Effect>) {
        let incarnation = self.incarnation;
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        let base = cluster.base(incarnation);
        let before = cluster.signed.take();
        let told = |app: &AppId| before.as_ref().and_then(|before| before.desired.release_of(app));
        let all = before.iter().flat_map(|before| &before.desired.releases).chain(&desired.releases);
        let differs = |release: &&DesiredRelease| told(&release.app) != desired.release_of(&release.app);
        let found = all.filter(differs).map(|release| release.app.clone()).collect();
        let since = |release: &DesiredRelease| {
            let same = before.as_ref().filter(|_| told(&release.app) == Some(release));
            // An old disk may hold less than it was told.
            same.and_then(|before| before.since(&release.app)).unwrap_or(desired.order).min(desired.order)
        };
        let since = desired.releases.iter().map(since).collect();
        let signed = Signed { desired: kept(desired, bytes), since };
        let held = signed.held();
        let base = base.filter(|base| base.order > held.order).unwrap_or(held);
        cluster.signed = Some(signed);
        let bytes = Some(bytes.to_vec());
        effects.push(Effect::Store(vec![Document {
            kind: DocumentKind::Desired,
            key: id.to_string(),
            bytes,
        }]));
        self.agree_from(id, base, found, effects);
        self.changed.later.extend(self.applications.keys().cloned());
    }

    /// It is known what a cluster holds.
    fn agree(&mut self, id: &ClusterId, found: BTreeSet<AppId>, effects: &mut Vec<Effect>) {
        let Some(cluster) = self.clusters.get(id) else { return };
        if self.recovery.is_none() || cluster.agreed_in(self.incarnation) {
            return;
        }
        let nothing = Held { order: Order::default(), digest: NOTHING };
        let base = cluster.base(self.incarnation).unwrap_or(nothing);
        self.agree_from(id, base, found, effects);
    }

    fn agree_from(&mut self, id: &ClusterId, base: Held, found: BTreeSet<AppId>, effects: &mut Vec<Effect>) {
        let incarnation = self.incarnation;
        let Some(cluster) = self.clusters.get_mut(id) else { return };
        let found = cluster.found().cloned().chain(found).collect::<BTreeSet<_>>().into_iter().collect();
        let agreement = Agreement { incarnation, order: base.order, digest: base.digest, found };
        let mut stores = vec![agreement.document(id)];
        cluster.agreement = Some(Box::new(agreement));
        if let Some(report) = &mut cluster.report {
            // It is old, too. An acknowledgement of nothing makes the cluster say everything again.
            report.forget();
            stores.push(report.document(id));
        }
        effects.push(Effect::Store(stores));
        let found = self.clusters.get(id).map(|cluster| self.found_text(cluster));
        let known =
            found.filter(|text| !text.is_empty()).unwrap_or_else(|| "nothing it holds is news".to_owned());
        effects.push(told::of_cluster(id, Reason::Met, format!("it is known what it holds: {known}")));
        if let Some(cluster) = self.clusters.get_mut(id) {
            self.changed.acknowledge(id, cluster);
        }
        self.touch(id);
        // Applications count it as one that may be told, from now on.
        self.changed.later.extend(self.applications.keys().cloned());
    }

    /// A cluster held what this hub signed and did not know: the store was rolled back. The new life makes every
    /// cluster say what it holds; as nobody restored it, nobody was warned.
    fn begin_life(&mut self, now: Now, id: &ClusterId, held: Digest, effects: &mut Vec<Effect>) {
        let mut seed = self.incarnation.as_bytes().to_vec();
        seed.extend_from_slice(id.as_str().as_bytes());
        seed.extend_from_slice(held.as_bytes());
        let mut life = [0; Incarnation::LEN];
        life.copy_from_slice(&Digest::of(&seed).as_bytes()[..Incarnation::LEN]);
        self.incarnation = Incarnation::new(life);
        let recovery = Recovery {
            incarnation: self.incarnation,
            began: now.wall,
            cause: Cause::RolledBack { cluster: id.clone() },
            records: self
                .applications
                .iter()
                .map(|(app, application)| Record::of(app, application))
                .collect(),
            accepted: None,
        };
        effects.push(Effect::Store(vec![recovery.document()]));
        self.recovery = Some(recovery);
        self.tallies.clear();
        self.changed.now.extend(self.applications.keys().cloned());
        self.changed.clusters.extend(self.clusters.keys().cloned());
        // Heads of the new life are believed only in answer to a hello: on its connection all answer the one that it said.
        if let Some(claim) = self.clusters.get_mut(id).and_then(|cluster| cluster.claim.as_mut()) {
            claim.other_life = true;
        }
        let others = self.clusters.iter().filter(|(other, cluster)| *other != id && cluster.connected);
        effects.extend(others.map(|(other, _)| Effect::Kick(other.clone())));
    }

    /// The condition of a cluster that says whether it is known what it holds: of a hub that leads another life.
    pub(super) fn adopted(&self, cluster: &Cluster) -> Option<Fresh<'static>> {
        if cluster.identity.is_none() || (self.recovery.is_none() && !cluster.ahead) {
            return None;
        }
        let (reason, message) = match (&cluster.refused, cluster.ahead) {
            (Some(refused), true) => ("Refused", refused_text(refused)),
            (None, true) => ("Ahead", AHEAD.to_owned()),
            (_, false) if !self.has_met(cluster) => {
                ("NotHeardOf", "nothing is sent to it before it says what it holds".to_owned())
            }
            (_, false) => ("Known", self.found_text(cluster)),
        };
        let known = reason == "Known";
        Some(Fresh { kind: ADOPTED, status: truth(known), reason, message })
    }

    fn found_text(&self, cluster: &Cluster) -> String {
        let releases = cluster.signed.iter().flat_map(|signed| &signed.desired.releases);
        let unknown = releases.filter(|told| self.bundle_name(told).is_none()).count();
        let mut text = match cluster.found().count() {
            0 => String::new(),
            found => {
                let found = many(found as u64, "application was", "applications were");
                format!("{found} found otherwise than recorded, and nothing changes there")
            }
        };
        if unknown > 0 {
            let comma = if text.is_empty() { "" } else { "; " };
            let bundles = many(unknown as u64, "bundle is", "bundles are");
            text.push_str(&format!("{comma}{bundles} not at this hub: push what is missing"));
        }
        text
    }

    fn found_on(&self, app: &AppId) -> usize {
        self.clusters.values().filter(|cluster| cluster.found().any(|found| found == app)).count()
    }
}

fn refused_text(problem: &str) -> String {
    format!("what it shows is not believed: {problem}")
}

impl Record {
    /// What a store says of an application.
    pub fn of(app: &AppId, application: &Application) -> Self {
        Self { app: app.clone(), generation: application.generation, approval: application.approval.clone() }
    }
}

impl Recovery {
    /// The life of a hub restored from a backup.
    pub fn restored(
        incarnation: Incarnation,
        began: UnixSeconds,
        backed_up: UnixSeconds,
        records: Vec<Record>,
    ) -> Self {
        Self { incarnation, began, cause: Cause::Restored { backed_up }, records, accepted: None }
    }

    /// The record as the store keeps it.
    pub fn document(&self) -> Document {
        let bytes = Some(codec::encode(self));
        Document { kind: DocumentKind::Recovery, key: RECOVERY_KEY.to_owned(), bytes }
    }
}

/// The digest in the place of no document.
pub(super) const NOTHING: Digest = Digest::new([0; 32]);

/// What is said of a cluster that is asked for what it holds.
const AHEAD: &str = "it holds what is not known here, and was asked for it";

/// There is one record of a recovery: the last.
const RECOVERY_KEY: &str = "hub";

impl Cause {
    /// For people.
    pub fn text(&self) -> String {
        match self {
            Self::Restored { backed_up } => {
                format!("the hub was restored from a backup of {}", instant(*backed_up))
            }
            Self::RolledBack { cluster } => {
                format!("the hub's store was rolled back: {cluster} holds what it signed and does not know")
            }
        }
    }
}

impl Agreement {
    pub(super) fn document(&self, id: &ClusterId) -> Document {
        Document { kind: DocumentKind::Agreement, key: id.to_string(), bytes: Some(codec::encode(self)) }
    }
}

impl Cluster {
    /// The challenge that every head on this connection must answer to be believed, if there is one.
    pub(super) fn challenge(&self) -> Option<Nonce> {
        self.claim.filter(|claim| claim.other_life).map(|claim| claim.nonce)
    }

    /// The challenge of a cluster that was asked for what it holds and has not shown it.
    pub(super) fn unanswered(&self) -> Option<Nonce> {
        self.claim.filter(|_| self.ahead).map(|claim| claim.nonce)
    }

    pub(super) fn agreed_in(&self, incarnation: Incarnation) -> bool {
        self.agreement.as_ref().is_some_and(|agreement| agreement.incarnation == incarnation)
    }

    /// The highest place known to be signed for it when it was last met. While it was not met in this life nothing is
    /// signed for it, so that is what the old store has.
    pub(super) fn base(&self, incarnation: Incarnation) -> Option<Held> {
        let agreement = self.agreement.as_ref();
        let agreed = agreement.map(|agreement| Held { order: agreement.order, digest: agreement.digest });
        if self.agreed_in(incarnation) {
            return agreed;
        }
        // What it was told last may be lower: an old disk was met before.
        agreed.into_iter().chain(self.signed.as_ref().map(Signed::held)).max_by_key(|held| held.order)
    }

    /// Applications it was found to run otherwise than was recorded, and was told nothing of since.
    pub(super) fn found(&self) -> impl Iterator<Item = &AppId> {
        self.agreement.iter().flat_map(|agreement| &agreement.found)
    }

    /// It was told of these applications: what it was found with counts no more. The agreement, if it changed.
    pub(super) fn told_of<'a>(&mut self, apps: impl Iterator<Item = &'a AppId>) -> Option<&Agreement> {
        let agreement = self.agreement.as_mut()?;
        let before = agreement.found.len();
        apps.for_each(|app| agreement.found.retain(|found| found != app));
        (agreement.found.len() != before).then_some(agreement)
    }
}

impl Signed {
    pub(super) fn held(&self) -> Held {
        Held { order: self.desired.order, digest: self.desired.digest() }
    }
}
