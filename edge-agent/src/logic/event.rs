//! Everything that can happen to an agent, and everything it can have done: two enums.

use std::{sync::Arc, time::Duration};

use protocol::{
    carry,
    documents::{Condition, Release},
    ids::{AppId, Digest, Nonce},
    render::{self, RenderError, Rendered},
    topics::{Downward, Upward},
    verify::Verified,
};
use std::collections::BTreeMap;

use super::{
    carry::CarryRefusal,
    entry::Entry,
    health::Health,
    object::{Gvk, ObjectRef},
    owned::OwnedDigest,
};

/// What happens.
#[derive(Debug)]
pub enum Event {
    /// The link is up, subscriptions and all. The nonce is fresh from the shell's random source.
    Connected {
        /// The challenge of this connection.
        nonce: Nonce,
    },
    /// The link is down.
    Disconnected {
        /// Why, for the status.
        reason: String,
    },
    /// A message came on this connection.
    Received {
        /// On which topic.
        topic: Downward,
        /// Its payload.
        bytes: Vec<u8>,
    },
    /// A watch told something.
    Observed(Observation),
    /// A step ended.
    StepDone {
        /// Which.
        id: StepId,
        /// How.
        outcome: Outcome,
    },
    /// Somebody at the site asked for something.
    Command(Command),
    /// Somebody at the site brought something from the hub. [`Effect::Judged`] says what became of it.
    Carried(Carried),
    /// What is wrong with the journal, from now on: nothing, or conditions that the hub is to know of.
    Journal(Vec<Condition>),
    /// Time passed.
    Tick,
}

/// What a watch tells.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Observation {
    /// A list of everything of a kind begins.
    Listing(Gvk),
    /// An object is there, in this version.
    Changed(Seen),
    /// An object is gone.
    Gone(Seen),
    /// The list is complete: what was not told is not there.
    Synced(Gvk),
    /// A watch broke off as if the API server were away. What is missed meanwhile is told later.
    Interrupted,
    /// A kind is not watched, and will not be before somebody does something about this.
    Blind(Gvk, String),
}

/// An object as a metadata-only watch sees it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Seen {
    /// Which object.
    pub object: ObjectRef,
    /// Its identity for its lifetime.
    pub uid: String,
    /// Version of everything in it; opaque.
    pub resource_version: String,
}

/// What somebody at the site asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Command {
    /// Nobody changes this site now.
    Hold {
        /// Why.
        reason: String,
    },
    /// The hold is over.
    Release,
}

/// Names one running step, so that its end can be told from others.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct StepId(pub u64);

/// What the agent has done. Effects start in order; only a [`Effect::Record`] must finish, on disk, before the
/// next starts. A step's end comes back as an event.
#[derive(Debug)]
pub enum Effect {
    /// Writes these rows in one transaction.
    Record(Vec<Entry>),
    /// Watches these kinds, and no others.
    Observe(Vec<Gvk>),
    /// Starts a step.
    Execute {
        /// What to call it when it ends.
        id: StepId,
        /// What to do.
        step: Step,
    },
    /// Sends a message to the hub.
    Publish {
        /// On which topic.
        topic: Upward,
        /// Its payload.
        bytes: Vec<u8>,
    },
    /// What became of what was brought. What was recorded before it is on disk once this is told.
    Judged(Result<(), CarryRefusal>),
}

/// What somebody at the site brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Carried {
    /// A look at the machine's clock: it is right.
    Clock,
    /// A record of a file from the hub.
    Record(carry::Record),
}

/// One thing to do on the cluster or with content. Every step may run twice.
#[derive(Debug, Clone)]
pub enum Step {
    /// Reads an object and says how it is.
    Inspect {
        /// Which object.
        object: ObjectRef,
        /// What was last applied, to name who changed it and to leave out what is ignored.
        source: Option<Source>,
        /// Time since it was last applied.
        since_applied: Duration,
    },
    /// Applies an object.
    Apply {
        /// What to apply.
        source: Source,
        /// What was applied before it, if anything: a field it set is ours.
        previous: Option<Source>,
        /// How.
        how: How,
    },
    /// Deletes an object, if it still is the one that was recorded.
    Delete {
        /// Which object.
        object: ObjectRef,
        /// Its recorded identity.
        uid: String,
    },
    /// Writes the object that lists an application's kinds (KEP-3659's ApplySet parent).
    Parent(Parent),
    /// Deletes that object.
    DeleteParent(AppId),
    /// Unpacks stored content and checks every object of the release in it.
    CheckContent(Verified<Release>),
    /// Asks for the API server's version.
    Version,
}

/// How to apply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// Changes nothing and says what would change.
    DryRun,
    /// Leaves other managers' fields alone and reports them as conflicts.
    Normal,
    /// Takes other managers' fields.
    Forced,
}

/// The object that lists an application's kinds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    /// Whose objects it lists.
    pub app: AppId,
    /// Their kinds, as `Kind.group`, sorted.
    pub kinds: Vec<String>,
    /// Their namespaces, sorted.
    pub namespaces: Vec<String>,
}

/// Where an object's manifest comes from: a place in a verified release, and the values set in it.
#[derive(Debug, Clone)]
pub struct Source {
    /// The release.
    pub release: Verified<Release>,
    /// The object's place in it.
    pub index: usize,
    /// Resolved parameters.
    pub values: Arc<BTreeMap<String, String>>,
}

impl Source {
    /// Which object it is.
    pub fn object(&self) -> ObjectRef {
        object_ref(&self.release, self.index)
    }

    /// Digest of the unpacked content that holds it.
    pub fn pack(&self) -> Digest {
        self.release.pack
    }

    /// Makes the manifest ready from its bytes.
    pub fn render(&self, bytes: &[u8]) -> Result<Rendered, RenderError> {
        render::render(&self.release, self.index, bytes, &self.values)
    }
}

/// The object at `index` of a release.
pub fn object_ref(release: &Release, index: usize) -> ObjectRef {
    let entry = &release.objects[index];
    ObjectRef {
        gvk: Gvk { group: entry.group.clone(), version: entry.version.clone(), kind: entry.kind.clone() },
        namespace: entry.namespace.as_ref().map(|name| name.as_str().to_owned()),
        name: entry.name.as_str().to_owned(),
    }
}

/// How a step ended.
#[derive(Debug, Clone)]
pub enum Outcome {
    /// The object is not there.
    Absent,
    /// The object is there, or was applied.
    Present(Box<Inspection>),
    /// A dry run ended.
    Foreseen(Foreseen),
    /// The object is deleted, or was not there.
    Deleted,
    /// The object goes when its finalizers are done.
    Deleting,
    /// The object of that name is another one.
    Replaced,
    /// Other managers hold fields that would change.
    Conflict {
        /// Which fields.
        fields: Vec<FieldTaken>,
        /// The API server's words.
        message: String,
    },
    /// The step failed.
    Failed(Failure),
    /// The content is what the release says.
    ContentGood,
    /// The content is not what the release says; nothing of it is used.
    ContentBad(String),
    /// The API server's version.
    Version(String),
    /// The parent is written, or deleted.
    ParentDone,
}

impl Outcome {
    /// Why it failed, if it did because the API server is away.
    pub fn outage(&self) -> Option<&Failure> {
        let failure = if let Self::Failed(failure) = self { Some(failure) } else { None };
        failure.filter(|failure| failure.remedy == Remedy::Outage)
    }
}

/// What applying an object would do, as the API server says of a dry run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Foreseen {
    /// It would be made.
    Create,
    /// Nothing would change but whose it is.
    Same,
    /// These fields would change, such as `.spec.replicas`.
    Change(Vec<String>),
    /// Other managers hold these fields, and keep them.
    Conflict(Vec<FieldTaken>),
}

/// A field another manager holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FieldTaken {
    /// Who holds it.
    pub manager: String,
    /// Which field, such as `.spec.replicas`.
    pub field: String,
    /// Whether we had set it, so that it was taken from us.
    pub ours: bool,
}

/// An object as it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Inspection {
    /// Its identity for its lifetime.
    pub uid: String,
    /// Version of everything in it; opaque.
    pub resource_version: String,
    /// The ApplySet it says it belongs to.
    pub apply_set: Option<String>,
    /// What of it is ours; none if nothing is.
    pub owned: Option<OwnedDigest>,
    /// How it is.
    pub health: Health,
    /// Who may have changed what we set, newest first.
    pub changed_by: Vec<String>,
    /// Whether it is being deleted.
    pub deleting: bool,
}

/// A step that failed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failure {
    /// What it takes to succeed.
    pub remedy: Remedy,
    /// Why, in one CamelCase word.
    pub reason: String,
    /// Why, in a sentence.
    pub message: String,
}

/// What it takes for a failed step to succeed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Remedy {
    /// Time.
    Retry,
    /// Another object, or a change of what stands in its way.
    Object,
    /// The API server is away or refuses the agent as a whole: no step fares better.
    Outage,
}
