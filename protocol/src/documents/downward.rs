//! What the director signs for one cluster: its desired state, the head that makes it believed, acknowledgements.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{ContentError, Document, DocumentType, OBSERVING, ObjectEntry, at_most, short, unique};
use crate::{
    ids::{AppId, ClusterId, Digest, Incarnation, JournalId, Name, Nonce},
    limits,
    order::Order,
    time::UnixSeconds,
};

/// What one cluster shall run. Removal is said, never meant by leaving out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Desired {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Its place.
    pub order: Order,
    /// Digest of the envelope before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
    /// When it was signed.
    pub issued: UnixSeconds,
    /// After this it is never newly installed.
    pub install_by: UnixSeconds,
    /// Every application the cluster shall run.
    pub releases: Vec<DesiredRelease>,
    /// Applications to be removed with all their objects.
    pub remove: Vec<AppId>,
    /// Digest of the fleet-wide policy's release. Decided place; none is signed yet.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Digest>,
}

/// One application of a desired state.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DesiredRelease {
    /// Which application.
    pub app: AppId,
    /// Digest of the release's envelope.
    pub release: Digest,
    /// Length of the release's envelope in bytes.
    pub len: u32,
    /// Final values of its parameters.
    pub values: BTreeMap<String, String>,
    /// What the agent does with it.
    pub mode: Mode,
    /// Applications of the same tenant and cluster that must be available first.
    pub depends_on: Vec<Name>,
    /// Objects that are enforced although the rest is only looked at; none with [`Mode::Enforce`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<Vec<ObjectRule>>,
}

/// Selects objects of a release.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectRule {
    /// Their kind.
    pub kind: String,
    /// Their namespace; any, or none, where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// One object's name; every object of the kind where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// What an agent does with a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Mode {
    /// Apply it and keep it applied.
    #[default]
    Enforce,
    /// Say how its objects are and how they differ from it. Nothing is changed, healed or deleted.
    Observe,
    /// Say what applying it would do. Nothing is changed, healed or deleted.
    DryRun,
}

/// Which desired state is the newest, and until when that may be believed.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Head {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which life of the hub's store speaks.
    pub incarnation: Incarnation,
    /// The newest desired state's place.
    pub order: Order,
    /// Digest of its envelope.
    pub desired: Digest,
    /// The newest root's version.
    pub root_version: u32,
    /// The hub's clock.
    pub hub_time: UnixSeconds,
    /// After this nothing new starts on the strength of this head.
    pub fresh_until: UnixSeconds,
    /// Which applications may start their new release, and when.
    pub permits: Vec<Permit>,
    /// The connection's challenge, where the head answers a hello.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub nonce: Option<Nonce>,
}

/// Leave to start an application's new release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Permit {
    /// Which application.
    pub app: AppId,
    /// Not before this.
    pub not_before: UnixSeconds,
    /// Not after this.
    pub not_after: UnixSeconds,
}

/// A head carried to a site by hand. Accepted only from an import, never from the network.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CarryHead {
    /// What it says; fresh until the desired state's `install_by`, and without a nonce.
    pub head: Head,
}

/// What the hub has of a cluster's reports, durably.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ack {
    /// Which cluster.
    pub cluster: ClusterId,
    /// Which life of its journal.
    pub journal: JournalId,
    /// Everything up to this report is stored.
    pub report_seq: u64,
    /// Digest of all that the hub now holds of this journal's reports.
    pub digest: Digest,
}

impl DesiredRelease {
    /// Rules of [`DesiredRelease::enforce`]: a desired state of many applications has to fit into a message.
    pub const RULES: usize = 64;

    /// The version of the protocol's documents that an agent must know to read this.
    pub const fn version(&self) -> u16 {
        match (self.mode, &self.enforce) {
            (Mode::Enforce, None) => 1,
            (Mode::Enforce | Mode::Observe | Mode::DryRun, _) => OBSERVING,
        }
    }

    fn check(&self) -> Result<(), ContentError> {
        let field = self.app.to_string();
        if self.len as usize > limits::RELEASE_BYTES {
            return Err(ContentError::new(field, "names a release larger than any may be"));
        }
        at_most(&field, &self.depends_on, limits::APPLICATIONS)?;
        if self.values.len() > limits::PARAMETERS {
            return Err(ContentError::new(field, "sets more parameters than a release may have"));
        }
        self.values.values().try_for_each(|value| short(&field, value, limits::TEXT_BYTES))?;
        let rules = self.enforce.as_deref().unwrap_or_default();
        at_most(&field, rules, Self::RULES)?;
        if self.mode == Mode::Enforce && self.enforce.is_some() {
            return Err(ContentError::new(field, "enforces some objects and all of them"));
        }
        let texts =
            rules.iter().flat_map(|rule| [Some(&rule.kind), rule.namespace.as_ref(), rule.name.as_ref()]);
        texts.flatten().try_for_each(|text| short(&field, text, limits::TEXT_BYTES))
    }
}

impl ObjectRule {
    /// Whether it selects an object.
    pub fn selects(&self, object: &ObjectEntry) -> bool {
        let namespace = object.namespace.as_ref().map(Name::as_str);
        self.kind == object.kind
            && self.namespace.as_deref().is_none_or(|wanted| Some(wanted) == namespace)
            && self.name.as_deref().is_none_or(|wanted| wanted == object.name.as_str())
    }
}

/// What the hub has of the reports of many clusters: one signature for all of their [`Ack`]s.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Acks {
    /// Root of the [tree](crate::together::Tree) over them.
    pub root: Digest,
}

impl Desired {
    /// The entry for an application.
    pub fn release_of(&self, app: &AppId) -> Option<&DesiredRelease> {
        self.releases.iter().find(|release| &release.app == app)
    }
}

impl Document for Desired {
    const TYPE: DocumentType = DocumentType::Desired;
    const IS_NAMED: bool = true;

    fn check(&self) -> Result<(), ContentError> {
        at_most("releases", &self.releases, limits::APPLICATIONS)?;
        at_most("remove", &self.remove, limits::APPLICATIONS)?;
        if self.install_by > self.issued.plus(limits::INSTALL_BY_SECONDS) {
            return Err(ContentError::new("install_by", "lies too long after it was issued"));
        }
        unique("applications", self.releases.iter().map(|release| &release.app).chain(&self.remove))?;
        self.releases.iter().try_for_each(DesiredRelease::check)
    }
}

impl Document for Head {
    const TYPE: DocumentType = DocumentType::Head;

    fn check(&self) -> Result<(), ContentError> {
        self.check_within(limits::HEAD_FRESH_SECONDS)
    }
}

impl Head {
    fn check_within(&self, fresh_seconds: u64) -> Result<(), ContentError> {
        at_most("permits", &self.permits, limits::APPLICATIONS)?;
        unique("permits", self.permits.iter().map(|permit| &permit.app))?;
        if self.fresh_until > self.hub_time.plus(fresh_seconds) {
            return Err(ContentError::new("fresh_until", "lies too long after the hub's time"));
        }
        Ok(())
    }
}

impl Document for CarryHead {
    const TYPE: DocumentType = DocumentType::CarryHead;

    fn check(&self) -> Result<(), ContentError> {
        if self.head.nonce.is_some() {
            return Err(ContentError::new("nonce", "a head carried by hand answers no challenge"));
        }
        self.head.check_within(limits::INSTALL_BY_SECONDS)
    }
}

impl Document for Ack {
    const TYPE: DocumentType = DocumentType::Ack;

    fn check(&self) -> Result<(), ContentError> {
        Ok(())
    }
}

impl Document for Acks {
    const TYPE: DocumentType = DocumentType::Acks;

    fn check(&self) -> Result<(), ContentError> {
        Ok(())
    }
}
