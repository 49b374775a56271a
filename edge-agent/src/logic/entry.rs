//! What the journal keeps: current rows, each under a key, so that a change overwrites and nothing grows.
//! An agent is rebuilt from its rows alone; a simulator may keep them in memory.
//!
//! Older and newer agents read these rows: `journal/schema.rs` says how they may change.

use std::collections::BTreeMap;

use protocol::{
    codec::{self, DecodeError},
    documents::{AppReport, Mode, ObjectRule, Rejection, ReleaseRef},
    ids::{AppId, Digest, Incarnation, JournalId, Name},
    planted::Bug,
    time::UnixSeconds,
};
use serde::{Deserialize, Serialize};

use super::object::{Gvk, ObjectRef};

/// One change of the journal.
#[derive(Debug, Clone, PartialEq)]
#[allow(
    clippy::large_enum_variant,
    reason = "an entry lives for one event: a box would be one more allocation"
)]
pub enum Entry {
    /// Writes a row, over the one with its key.
    Put(Row),
    /// Removes the row with this key.
    Drop(Key),
    /// Adds a piece of content behind the pieces that are there.
    Chunk(ContentChunk),
    /// Removes content.
    DropContent(Digest),
}

/// A piece of encoded content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ContentChunk {
    /// Digest of the plain content.
    pub target: Digest,
    /// Where the piece starts in the encoded content.
    pub offset: u64,
    /// Length of the whole encoded content.
    pub total: u64,
    /// The piece.
    pub bytes: Vec<u8>,
}

/// How much of some content the journal has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ContentHeld {
    /// Digest of the plain content.
    pub target: Digest,
    /// How much of the encoded content is there, in bytes.
    pub have: u64,
    /// Length of the whole encoded content.
    pub total: u64,
}

/// Names a row.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Key {
    /// [`Row::Life`].
    Life,
    /// [`Row::Root`].
    Root,
    /// [`Row::Desired`].
    Desired,
    /// [`Row::Clock`].
    Clock,
    /// [`Row::Hold`].
    Hold,
    /// [`Row::Acked`].
    Acked,
    /// [`Row::App`].
    App(AppId),
    /// [`Row::Release`].
    Release(Digest),
    /// [`Row::Object`].
    Object(AppId, ObjectRef),
    /// [`Row::Report`].
    Report(AppId),
}

/// One row of the journal.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Row {
    /// Which life of the journal this is.
    Life(JournalId),
    /// The root in force: its envelope.
    Root(#[serde(with = "serde_bytes")] Vec<u8>),
    /// The desired state in force.
    Desired(DesiredRow),
    /// The last trusted time: time never starts below it.
    Clock(UnixSeconds),
    /// Somebody at the site holds it.
    Hold(Hold),
    /// The newest report the hub acknowledged.
    Acked(u64),
    /// What an application is to run.
    App(AppId, AppRow),
    /// A release's envelope.
    Release(Digest, #[serde(with = "serde_bytes")] Vec<u8>),
    /// One object we applied: the inventory.
    Object(AppId, ObjectRef, Owned),
    /// The newest report of an application.
    Report(AppId, ReportRow),
}

/// The desired state in force.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct DesiredRow {
    /// Its envelope.
    #[serde(with = "serde_bytes")]
    pub bytes: Vec<u8>,
    /// The root it was accepted under.
    pub root_version: u32,
    /// The hub's life it came from.
    pub incarnation: Incarnation,
}

/// Why nobody may change this site.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// Why.
    pub reason: String,
    /// Since when, by trusted time.
    pub since: UnixSeconds,
}

/// What an application is to run.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct AppRow {
    /// What is being enforced.
    pub accepted: Option<Accepted>,
    /// The release before it, until nothing of it is left in the inventory.
    pub previous: Option<Accepted>,
    /// The last release whose objects were all applied.
    pub applied: Option<ReleaseRef>,
    /// What was refused; not tried again until the hub names something else.
    pub rejected: Option<Refused>,
    /// The lowest counter that may still be installed.
    pub floor: u64,
    /// Whether it is to be removed.
    pub removing: bool,
}

/// A release that was accepted, and how it is set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Accepted {
    /// Digest of the release's envelope.
    pub release: Digest,
    /// The values the hub set.
    pub values: BTreeMap<String, String>,
    /// What to do with it.
    pub mode: Mode,
    /// Applications of the same tenant that must be available first.
    pub depends_on: Vec<Name>,
    /// Objects that are enforced although the rest is only looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub enforce: Option<Vec<ObjectRule>>,
}

/// A release that was refused, and how it was to be set.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Refused {
    /// What was refused.
    pub named: Accepted,
    /// Why.
    pub rejection: Rejection,
}

/// An object we applied, or are about to: the row is written before the first apply, so that whatever we
/// made is known to be ours even if the power fails right after.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owned {
    /// Its identity when we applied it: only that one may be deleted. None until it was applied.
    pub uid: Option<String>,
    /// What was applied: see [`super::app::source_digest`].
    pub source: Digest,
    /// What of the live object was ours right after.
    #[serde(with = "serde_bytes")]
    pub owned: Vec<u8>,
    /// Who changed it, until that is set right.
    pub drifted_by: Option<String>,
    /// What was set right since it was last applied anew.
    pub healed: Option<Healed>,
}

/// What was set right. Kept with the object, so that it is reported although the power failed in between.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Healed {
    /// Who had changed it, the last time.
    pub manager: String,
    /// When it was set right, by trusted time.
    pub at: UnixSeconds,
    /// How often.
    pub count: u32,
}

/// The newest report of an application.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReportRow {
    /// Its number.
    pub seq: u64,
    /// What it says.
    pub report: AppReport,
}

impl Owned {
    /// An object that is about to be applied.
    pub fn intended() -> Self {
        let source = Digest::new([0; 32]);
        Self { uid: None, source, owned: Vec::new(), drifted_by: None, healed: None }
    }

    /// Notes who changed it. Whether that is news: whoever was first stays named until it is set right.
    pub fn drift(&mut self, manager: impl FnOnce() -> String) -> bool {
        let is_news = self.drifted_by.is_none();
        self.drifted_by.get_or_insert_with(manager);
        is_news
    }

    /// Notes that it is as it should be. Whether that is news.
    pub fn heal(&mut self, at: UnixSeconds) -> bool {
        let Some(manager) = self.drifted_by.take() else { return false };
        if Bug::HealedCountedAgain.is_planted() {
            self.drifted_by = Some(manager.clone());
        }
        let count = self.healed.as_ref().map_or(0, |healed| healed.count).saturating_add(1);
        self.healed = Some(Healed { manager, at, count });
        true
    }

    /// Whether it was applied from `source`.
    pub fn is_applied(&self, source: Digest) -> bool {
        self.uid.is_some() && self.source == source
    }
}

impl Row {
    /// The key it stands under.
    pub fn key(&self) -> Key {
        match self {
            Self::Life(_) => Key::Life,
            Self::Root(_) => Key::Root,
            Self::Desired(_) => Key::Desired,
            Self::Clock(_) => Key::Clock,
            Self::Hold(_) => Key::Hold,
            Self::Acked(_) => Key::Acked,
            Self::App(app, _) => Key::App(app.clone()),
            Self::Release(digest, _) => Key::Release(*digest),
            Self::Object(app, object, _) => Key::Object(app.clone(), object.clone()),
            Self::Report(app, _) => Key::Report(app.clone()),
        }
    }

    /// The row as the journal stores it.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }

    /// Reads a stored row.
    pub fn decode(bytes: &[u8]) -> Result<Self, DecodeError> {
        codec::decode("journal row", bytes)
    }
}

impl Key {
    /// The key as the journal stores it.
    pub fn encode(&self) -> Vec<u8> {
        codec::encode(self)
    }
}

#[derive(Serialize, Deserialize)]
struct Parts(String, String, String, Option<String>, String);

impl Serialize for ObjectRef {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let Gvk { group, version, kind } = self.gvk.clone();
        Parts(group, version, kind, self.namespace.clone(), self.name.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for ObjectRef {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let Parts(group, version, kind, namespace, name) = Parts::deserialize(deserializer)?;
        Ok(Self { gvk: Gvk { group, version, kind }, namespace, name })
    }
}
