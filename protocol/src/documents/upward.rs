//! What a cluster signs: hello, want, report.

use std::fmt;

use serde::{Deserialize, Serialize};
use smol_str::SmolStr;

use super::{ContentError, Document, DocumentType, at_most, blob::Encoding, short, unique};
use crate::{
    codec,
    ids::{AppId, ClusterId, Digest, Hasher, Incarnation, JournalId, Nonce},
    limits,
    order::Order,
    time::UnixSeconds,
};

/// What an agent holds, said on every connect.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Hello {
    /// Who speaks.
    pub cluster: ClusterId,
    /// Which life of its journal.
    pub journal: JournalId,
    /// Versions of this protocol's documents it can read.
    pub documents: Vec<u16>,
    /// The root it holds.
    pub root_version: u32,
    /// The hub's life it last believed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incarnation: Option<Incarnation>,
    /// The desired state it holds.
    pub order: Order,
    /// Digest of that desired state's envelope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Digest>,
    /// The challenge the next head must echo.
    pub nonce: Nonce,
    /// Its system clock.
    pub clock: UnixSeconds,
    /// Version of the agent's program.
    pub agent: String,
}

/// Asks for one window of some content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Want {
    /// Who asks.
    pub cluster: ClusterId,
    /// Digest of the plain content.
    pub target: Digest,
    /// How it shall be encoded.
    pub encoding: Encoding,
    /// Content the agent has, to encode against. Decided place; nothing is encoded so yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub base: Option<Digest>,
    /// How much of the encoded content it has.
    pub offset: u64,
}

/// How a cluster is. Carries each application that changed since the hub's last acknowledgement; with none
/// it is a heartbeat.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Report {
    /// Who reports.
    pub cluster: ClusterId,
    /// Which life of its journal.
    pub journal: JournalId,
    /// Counts up with every change, within one journal.
    pub report_seq: u64,
    /// The desired state it holds.
    pub order: Order,
    /// Digest over every application's report, changed or not: see [`Report::digest_of`].
    pub digest: Digest,
    /// What changed.
    pub apps: Vec<AppReport>,
    /// Conditions of the cluster as a whole, changed or not.
    pub conditions: Vec<Condition>,
    /// Its system clock.
    pub clock: UnixSeconds,
    /// Version of its Kubernetes API server, once known.
    pub kubernetes: SmolStr,
    /// Version of the agent's program.
    pub agent: SmolStr,
}

/// How one application is on one cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppReport {
    /// Which application.
    pub app: AppId,
    /// In short.
    pub state: AppState,
    /// The release it was told to run and accepted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accepted: Option<ReleaseRef>,
    /// The release whose objects were last all applied.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applied: Option<ReleaseRef>,
    /// The release it went back from. Decided place; agents do not revert by themselves yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reverted: Option<ReleaseRef>,
    /// A release it was told to run and refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rejected: Option<Rejection>,
    /// Its conditions: Applied, Available, Progressing, Degraded, Drifted.
    pub conditions: Vec<Condition>,
    /// The worst object and what is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst: Option<ObjectMessage>,
    /// Its objects, counted.
    pub counts: Counts,
    /// What was healed, newest first.
    pub drift: Vec<Drift>,
    /// What applying its release would do, where that is only looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
}

/// How an application is, in one word.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum AppState {
    /// Known, not started: waiting for content, a permit or another application.
    Pending,
    /// Being applied.
    Applying,
    /// Applied and becoming healthy.
    Progressing,
    /// Applied and healthy.
    Available,
    /// Applied, and something is wrong.
    Degraded,
    /// What it was told to run was refused; what it ran before goes on.
    Rejected,
    /// Being removed.
    Removing,
    /// Removed.
    Removed,
    /// Looked at, as it was told; nothing of it failed, and nothing is said to run.
    Observed,
}

/// One release, for people and for comparing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRef {
    /// Digest of its envelope.
    pub digest: Digest,
    /// Its version.
    pub version: SmolStr,
    /// Its counter.
    pub counter: u64,
}

/// A release that was refused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rejection {
    /// Digest of its envelope.
    pub digest: Digest,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// A condition as the Kubernetes API conventions have it; absent means unknown.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Condition {
    /// An adjective, such as `Available`.
    pub kind: SmolStr,
    /// Whether it holds.
    pub status: ConditionStatus,
    /// Why, in one CamelCase word.
    pub reason: SmolStr,
    /// Why, in a sentence.
    pub message: String,
}

/// Whether a condition holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum ConditionStatus {
    /// It holds.
    True,
    /// It does not.
    False,
    /// Nobody knows.
    Unknown,
}

/// One object and what is to be said of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectMessage {
    /// Such as `Deployment radio/gateway`.
    pub object: String,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// An application's objects, counted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Counts {
    /// In the release.
    pub desired: u32,
    /// Applied as the release has them.
    pub applied: u32,
    /// Applied and healthy.
    pub healthy: u32,
    /// Not applicable, or failed.
    pub failed: u32,
}

/// What applying a release would do to its objects, counted, and the first of those that differ.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Preview {
    /// As they should be, and ours.
    pub unchanged: u32,
    /// Not there.
    pub create: u32,
    /// There, and different.
    pub change: u32,
    /// There and the same, and not ours yet.
    pub adopt: u32,
    /// There, with fields that would change and that other managers hold.
    pub conflict: u32,
    /// Not applicable: there and not to be adopted, or refused by the API server.
    pub refuse: u32,
    /// Ours, and no longer in the release.
    pub delete: u32,
    /// The first objects of which there is more to say than that they are as they should be.
    pub objects: Vec<ObjectMessage>,
}

/// Something that was changed by another and set right.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Drift {
    /// Such as `Deployment radio/gateway`.
    pub object: String,
    /// Who changed it, as far as the API server knows: a field manager's name.
    pub manager: String,
    /// When it was found.
    pub found: UnixSeconds,
    /// How often this object was healed.
    pub count: u32,
}

impl Report {
    /// Applications one report carries, so that it fits in a message; the rest follows in the next.
    pub const APPS: usize = 32;

    /// The position of [`Report::apps`], as it is encoded.
    pub(crate) const APPS_FIELD: u64 = 5;

    /// The position of [`Report::conditions`], as it is encoded.
    pub(crate) const CONDITIONS_FIELD: u64 = 6;

    /// The digest of a complete set of reports, in the order of their applications.
    pub fn digest_of<'a>(apps: impl IntoIterator<Item = &'a AppReport>) -> Digest {
        let (mut hasher, mut bytes) = (Hasher::new(), Vec::new());
        for app in apps {
            bytes.clear();
            codec::encode_into(&mut bytes, app);
            add(&mut hasher, &bytes);
        }
        hasher.finish()
    }

    /// The same of reports that are encoded.
    pub fn digest_of_encoded<'a>(apps: impl IntoIterator<Item = &'a [u8]>) -> Digest {
        let mut hasher = Hasher::new();
        apps.into_iter().for_each(|app| add(&mut hasher, app));
        hasher.finish()
    }
}

fn add(hasher: &mut Hasher, app: &[u8]) {
    hasher.update(&(app.len() as u64).to_be_bytes());
    hasher.update(app);
}

impl Preview {
    /// Objects that applying would not leave as they are, or that it could not apply.
    pub const fn differing(&self) -> u32 {
        let Self { create, change, conflict, refuse, delete, .. } = self;
        // Whoever reports may say any number.
        create
            .saturating_add(*change)
            .saturating_add(*conflict)
            .saturating_add(*refuse)
            .saturating_add(*delete)
    }
}

impl fmt::Display for Preview {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unchanged, create, change, adopt, conflict, refuse, delete, objects: _ } = self;
        let parts = [
            (create, "to create"),
            (change, "to change"),
            (adopt, "to adopt"),
            (conflict, "in conflict"),
            (refuse, "refused"),
            (delete, "to delete"),
            (unchanged, "unchanged"),
        ];
        let mut said = parts.into_iter().filter(|(count, _)| **count > 0);
        let Some((count, what)) = said.next() else { return f.write_str("nothing to do") };
        write!(f, "{count} {what}")?;
        said.try_for_each(|(count, what)| write!(f, ", {count} {what}"))
    }
}

impl fmt::Display for AppState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // The variants' names are the words people read.
        fmt::Debug::fmt(self, f)
    }
}

impl Document for Hello {
    const TYPE: DocumentType = DocumentType::Hello;

    fn check(&self) -> Result<(), ContentError> {
        at_most("documents", &self.documents, 16)?;
        short("agent", &self.agent, limits::TEXT_BYTES)
    }
}

impl Document for Want {
    const TYPE: DocumentType = DocumentType::Want;

    fn check(&self) -> Result<(), ContentError> {
        Ok(())
    }
}

impl Document for Report {
    const TYPE: DocumentType = DocumentType::Report;

    fn check(&self) -> Result<(), ContentError> {
        at_most("apps", &self.apps, Self::APPS)?;
        unique("apps", self.apps.iter().map(|app| &app.app))?;
        check_conditions(&self.conditions)?;
        short("kubernetes", &self.kubernetes, limits::TEXT_BYTES)?;
        short("agent", &self.agent, limits::TEXT_BYTES)?;
        self.apps.iter().try_for_each(AppReport::check)
    }
}

impl AppReport {
    /// Entries of [`AppReport::drift`].
    pub const DRIFTS: usize = 8;

    /// Entries of [`Preview::objects`]: a full report of applications that are looked at has to fit into a document.
    pub const PREVIEWED: usize = 8;

    fn check(&self) -> Result<(), ContentError> {
        check_conditions(&self.conditions)?;
        at_most("drift", &self.drift, Self::DRIFTS)?;
        if let Some(preview) = &self.preview {
            at_most("preview", &preview.objects, Self::PREVIEWED)?;
            preview
                .objects
                .iter()
                .try_for_each(|one| check_texts("preview", [&one.object, &one.reason], &one.message))?;
        }
        if let Some(worst) = &self.worst {
            check_texts("worst", [&worst.object, &worst.reason], &worst.message)?;
        }
        if let Some(rejected) = &self.rejected {
            check_texts("rejected", [&rejected.reason], &rejected.message)?;
        }
        self.drift.iter().try_for_each(|drift| check_texts("drift", [&drift.object, &drift.manager], ""))?;
        let releases = [&self.accepted, &self.applied, &self.reverted].into_iter().flatten();
        releases.into_iter().try_for_each(|release| short("release", &release.version, limits::TEXT_BYTES))
    }
}

fn check_texts<const N: usize>(field: &str, texts: [&str; N], message: &str) -> Result<(), ContentError> {
    texts.into_iter().try_for_each(|text| short(field, text, limits::TEXT_BYTES))?;
    short(field, message, limits::MESSAGE_TEXT_BYTES)
}

fn check_conditions(conditions: &[Condition]) -> Result<(), ContentError> {
    at_most("conditions", conditions, 16)?;
    unique("conditions", conditions.iter().map(|condition| &condition.kind))?;
    conditions.iter().try_for_each(|c| check_texts("conditions", [&c.kind, &c.reason], &c.message))
}
