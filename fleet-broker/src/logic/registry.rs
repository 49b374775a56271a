//! The hub's objects: their versions, what may be done to them, and who sees the changes.
//!
//! A [`Transaction`] decides what a request changes and changes nothing itself. Its [`Change`]s are made durable
//! first and [`Registry::apply`]d then, so that nobody ever reads what a power cut could take back.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::value::RawValue;
use thiserror::Error;

use crate::resources::Kind;

mod admit;
pub mod failure;
mod list;
mod managed;
mod object;
mod patch;
mod record;
mod shelf;
mod tale;
#[cfg(test)]
mod tests;
mod texts;
mod transaction;
mod uuid;
mod watch;

pub use admit::FieldValidation;
pub use failure::Failure;
pub use list::{Filter, Page};
pub use object::{Object, ObjectKey};
pub use patch::Patch;
pub use record::{EVENT_KEPT_SECONDS, EVENTS_MAX, EVENTS_PER_OBJECT_MAX};
pub use transaction::{Deleted, Part, Preconditions, Projection, Transaction, WriteOptions, Written};
pub use watch::{Change, Event, EventType};

use shelf::Shelf;

/// Most objects of a kind that clients write: ten times the clusters the hub is built for.
pub const OBJECTS_MAX: usize = 100_000;
/// Most objects of a kind that the hub makes itself: ten applications on each of 100,000 clusters.
pub const PROJECTIONS_MAX: usize = 1_000_000;
/// Longest object, in bytes of JSON: what etcd takes, so what users of Kubernetes expect.
pub const OBJECT_MAX_LEN: usize = 1_500_000;

/// Everything the hub serves, in memory, at one version.
#[derive(Debug)]
pub struct Registry {
    kinds: BTreeMap<Kind, Shelf>,
    /// The version of the last change to anything.
    version: u64,
}

/// Why stored objects cannot be taken up.
#[derive(Debug, Error)]
pub enum RestoreError {
    /// Stored by a newer hub, or not by a hub.
    #[error(
        "the store has an object of kind {kind:?} ({namespace:?}/{name:?}), which this hub does not know"
    )]
    UnknownKind {
        /// The kind.
        kind: String,
        /// The object's namespace.
        namespace: String,
        /// The object's name.
        name: String,
    },
    /// A version that was never given out.
    #[error("the stored object {namespace:?}/{name:?} has version {version}, above the reserved {reserved}")]
    Version {
        /// The object's namespace.
        namespace: String,
        /// The object's name.
        name: String,
        /// Its version.
        version: u64,
        /// The highest version that may have been given out.
        reserved: u64,
    },
}

/// An object as the store keeps it.
#[derive(Clone, Debug)]
pub struct StoredObject {
    /// The name of its kind.
    pub kind: String,
    /// Its namespace, empty for a cluster-scoped one.
    pub namespace: String,
    /// Its name.
    pub name: String,
    /// The version of its last change.
    pub version: u64,
    /// Its JSON: kept as it is read, for a tree of it would take many times as much until all are taken up.
    pub text: Box<RawValue>,
}

impl Registry {
    /// Takes up what was stored. `version` is the highest that may ever have been given out: watches of before
    /// end as too old, since their log is gone.
    ///
    /// # Errors
    /// When an object is of no known kind, or newer than `version`.
    pub fn restore(version: u64, objects: Vec<StoredObject>) -> Result<Registry, RestoreError> {
        let shelf = |kind| (kind, Shelf::new(kind, version));
        let mut kinds: BTreeMap<Kind, Shelf> = Kind::ALL.into_iter().map(shelf).collect();
        for stored in objects {
            let StoredObject { kind: word, namespace, name, version: object_version, text } = stored;
            let known = Kind::from_name(&word).and_then(|kind| Some((kind, kinds.get_mut(&kind)?)));
            let Some((kind, shelf)) = known else {
                return Err(RestoreError::UnknownKind { kind: word, namespace, name });
            };
            if object_version > version {
                let (version, reserved) = (object_version, version);
                return Err(RestoreError::Version { namespace, name, version, reserved });
            }
            let key = ObjectKey { kind, namespace, name };
            shelf.put(Arc::new(Object::restored(&key, object_version, text)));
        }
        Ok(Registry { kinds, version })
    }

    /// The version of the last change to anything.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// One object.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        self.shelf(key.kind).get(&key.namespace, &key.name)
    }

    /// How many objects of this kind there are.
    pub fn count(&self, kind: Kind) -> usize {
        self.shelf(kind).len()
    }

    /// All objects of this kind, by namespace and name.
    pub fn objects(&self, kind: Kind) -> impl Iterator<Item = &Arc<Object>> {
        self.shelf(kind).range(Bound::Unbounded)
    }

    /// The namespaces in which clients have put something, each with the oldest creation in it.
    pub fn namespaces(&self) -> BTreeMap<String, String> {
        let mut namespaces: BTreeMap<String, String> = BTreeMap::new();
        for kind in Kind::ALL.into_iter().filter(|kind| kind.is_writable() && kind.is_namespaced()) {
            for object in self.objects(kind) {
                let created = object.creation_timestamp();
                let oldest = namespaces.entry(object.namespace().to_owned());
                let oldest = oldest.or_insert_with(|| created.clone().into_owned());
                if *created < **oldest {
                    *oldest = created.into_owned();
                }
            }
        }
        namespaces
    }

    /// Begins to decide what `actor` changes at `now`.
    pub fn begin<'a>(&'a self, now: Timestamp, actor: &str) -> Transaction<'a> {
        Transaction::new(self, now, actor)
    }

    /// Makes the changes of a transaction visible. They must be of the latest transaction on this version.
    ///
    /// # Panics
    /// When they follow on another version: applying them would undo someone's change.
    pub fn apply(&mut self, changes: Vec<Change>) {
        for change in changes {
            assert_eq!(change.version, self.version + 1, "a change must follow on the registry's version");
            self.version = change.version;
            let shelf = self.kinds.get_mut(&change.key.kind).expect("every kind has its shelf");
            match &change.after {
                Some(object) => shelf.put(Arc::clone(object)),
                None => shelf.remove(&change.key.namespace, &change.key.name),
            }
            shelf.log.push(change);
        }
    }

    fn shelf(&self, kind: Kind) -> &Shelf {
        &self.kinds[&kind]
    }
}
