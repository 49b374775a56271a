//! `metadata.managedFields`: who owns what, read, changed and written back.

use std::cmp::{Ordering, Reverse};
use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::conflict::{Conflict, Conflicts};
use super::walk::{Comparison, lift_to_atomic};
use super::{MAX_MANAGERS, Manager};
use crate::fields::{FieldSet, FieldsError, MAX_PATHS, Path};
use crate::meta::{ManagedFieldsEntry, ObjectView, unix_seconds};
use crate::schema::Shape;

/// How many managers that update rather than apply are told apart; the API server's own limit. The oldest
/// are merged into one beyond it.
const MAX_UPDATERS: usize = 10;

/// The name under which the oldest updaters are merged.
const ANCIENT: &str = "ancient-changes";

/// Metadata that is the server's own and belongs to no manager.
const UNOWNED: [&[&str]; 12] = [
    &["apiVersion"],
    &["kind"],
    &["metadata"],
    &["metadata", "name"],
    &["metadata", "namespace"],
    &["metadata", "creationTimestamp"],
    &["metadata", "selfLink"],
    &["metadata", "uid"],
    &["metadata", "clusterName"],
    &["metadata", "generation"],
    &["metadata", "managedFields"],
    &["metadata", "resourceVersion"],
];

/// How a manager came to own its fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Operation {
    /// By declaring them, with server-side apply.
    Apply,
    /// By changing them in any other way.
    Update,
}

impl Operation {
    /// As it is written in `managedFields`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// An entry of `managedFields` that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ManagedFieldsError {
    /// The operation is neither Apply nor Update.
    #[error("managedFields entry {0}: operation must be `Apply` or `Update`")]
    Operation(usize),
    /// There is no apiVersion.
    #[error("managedFields entry {0}: apiVersion must not be empty")]
    ApiVersion(usize),
    /// The type of the fields is not FieldsV1.
    #[error("managedFields entry {0}: fieldsType must be FieldsV1")]
    FieldsType(usize),
    /// The time is not RFC 3339.
    #[error("managedFields entry {0}: time must be RFC 3339")]
    Time(usize),
    /// The fields are not FieldsV1.
    #[error("managedFields entry {0}: fieldsV1 cannot be read")]
    Fields(usize, #[source] FieldsError),
    /// More managers than there may be.
    #[error("managedFields has {0} entries: {MAX_MANAGERS} may be told apart")]
    TooMany(usize),
}

/// What tells managers apart. An applier is the same whatever version it applies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct ManagerId {
    pub(super) name: String,
    pub(super) operation: Operation,
    /// Empty for appliers.
    pub(super) api_version: String,
    pub(super) subresource: String,
}

impl ManagerId {
    pub(super) fn new(manager: &Manager<'_>, operation: Operation) -> Self {
        let name = if manager.name.is_empty() { "unknown" } else { manager.name };
        let api_version = if operation == Operation::Apply { "" } else { manager.api_version };
        Self {
            name: name.to_owned(),
            operation,
            api_version: api_version.to_owned(),
            subresource: manager.subresource.to_owned(),
        }
    }
}

impl ManagerId {
    /// As the API server's own identifiers sort, in which a manager of the object itself comes after those
    /// of its subresources.
    fn sort_key(&self) -> impl Ord + use<'_> {
        (&self.name, self.operation, &self.api_version, self.subresource.is_empty(), &self.subresource)
    }
}

impl PartialOrd for ManagerId {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for ManagerId {
    fn cmp(&self, other: &Self) -> Ordering {
        self.sort_key().cmp(&other.sort_key())
    }
}

/// What one manager owns.
#[derive(Clone, Debug)]
pub(super) struct Owned {
    pub(super) fields: FieldSet,
    pub(super) api_version: String,
    /// RFC 3339; absent for who never changed anything.
    pub(super) time: Option<String>,
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managed(BTreeMap<ManagerId, Owned>);

impl Managed {
    pub(super) fn decode(object: &Value) -> Result<Self, ManagedFieldsError> {
        let entries = ObjectView::new(object).managed_fields();
        if entries.len() > MAX_MANAGERS {
            return Err(ManagedFieldsError::TooMany(entries.len()));
        }
        entries.enumerate().map(|(at, entry)| decode_entry(at, entry)).collect::<Result<_, _>>().map(Self)
    }

    /// Refuses what could not be read back.
    pub(super) fn check_limits(&self) -> Result<(), ManagedFieldsError> {
        if self.0.len() > MAX_MANAGERS {
            return Err(ManagedFieldsError::TooMany(self.0.len()));
        }
        match self.0.values().position(|owned| owned.fields.size() > MAX_PATHS) {
            Some(at) => Err(ManagedFieldsError::Fields(at, FieldsError::TooManyPaths)),
            None => Ok(()),
        }
    }

    /// The entries, appliers first, each from the oldest to the newest.
    pub(super) fn encode(&self) -> Value {
        let mut entries: Vec<_> = self.0.iter().collect();
        entries.sort_by_cached_key(|(id, owned)| {
            let version = owned.api_version.clone();
            (id.operation, seconds(owned), id.name.clone(), version, id.subresource.clone())
        });
        Value::Array(entries.into_iter().map(|(id, owned)| encode_entry(id, owned)).collect())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(super) fn get(&self, id: &ManagerId) -> Option<&Owned> {
        self.0.get(id)
    }

    pub(super) fn set(&mut self, id: ManagerId, owned: Owned) {
        self.0.insert(id, owned);
    }

    /// What all managers own together.
    pub(super) fn union(&self) -> FieldSet {
        self.0.values().fold(FieldSet::new(), |all, owned| all.union(&owned.fields))
    }

    /// Reads every manager's fields by the schema of today.
    pub(super) fn lift_to(&mut self, shape: Shape<'_>) {
        for owned in self.0.values_mut() {
            owned.fields = lift_to_atomic(&owned.fields, shape);
        }
    }

    /// What others than `but` own of what was changed or added.
    pub(super) fn conflicts(&self, change: &Comparison, but: Option<&ManagerId>) -> Conflicts {
        let touched = change.modified.clone().union(&change.added);
        let others = self.0.iter().filter(|(id, _)| Some(*id) != but);
        let conflicts = others.flat_map(|(id, owned)| {
            let conflict = |path| Conflict::new(id, &owned.api_version, path);
            owned.fields.intersection(&touched).paths().into_iter().map(conflict)
        });
        Conflicts::new(conflicts.collect())
    }

    /// Takes from everyone but `but` what was changed, added or removed.
    pub(super) fn take(&mut self, change: &Comparison, but: Option<&ManagerId>) {
        let touched = change.modified.clone().union(&change.added).union(&change.removed);
        self.0.retain(|id, owned| {
            if Some(id) != but {
                owned.fields = owned.fields.difference(&touched);
            }
            !owned.fields.is_empty()
        });
    }

    /// Takes from `id` what belongs to no manager.
    pub(super) fn strip(&mut self, id: &ManagerId) {
        if let Some(owned) = self.0.get_mut(id) {
            owned.fields = without_unowned(&owned.fields);
            if owned.fields.is_empty() {
                self.0.remove(id);
            }
        }
    }

    /// Merges the oldest updaters while there are more than [`MAX_UPDATERS`].
    pub(super) fn cap_updaters(&mut self) {
        let is_updater = |id: &&ManagerId| id.operation == Operation::Update;
        let mut updaters: Vec<ManagerId> = self.0.keys().filter(is_updater).cloned().collect();
        let mut surplus = updaters.len().saturating_sub(MAX_UPDATERS);
        updaters.sort_by_cached_key(|id| Reverse((self.0.get(id).map(seconds), id.clone())));
        let mut first_of_version: BTreeMap<String, ManagerId> = BTreeMap::new();
        while surplus > 0
            && let Some(id) = updaters.pop()
        {
            let version = id.api_version.clone();
            let Some(first) = first_of_version.get(&version) else {
                first_of_version.insert(version, id);
                continue;
            };
            let bucket = ManagerId {
                name: ANCIENT.to_owned(),
                operation: Operation::Update,
                api_version: version,
                subresource: String::new(),
            };
            if !self.0.contains_key(&bucket)
                && let Some(owned) = self.0.remove(first)
            {
                self.0.insert(bucket.clone(), owned);
            }
            if let Some(merged) = self.0.remove(&id)
                && let Some(ancient) = self.0.get_mut(&bucket)
            {
                ancient.fields = merged.fields.union(&ancient.fields);
                ancient.time = merged.time;
            }
            surplus -= 1;
        }
    }
}

/// `set` without what belongs to no manager.
pub(super) fn without_unowned(set: &FieldSet) -> FieldSet {
    set.difference(&UNOWNED.iter().map(|names| Path::of_fields(names)).collect())
}

fn seconds(owned: &Owned) -> i64 {
    owned.time.as_deref().and_then(unix_seconds).unwrap_or(0)
}

fn decode_entry(at: usize, entry: ManagedFieldsEntry<'_>) -> Result<(ManagerId, Owned), ManagedFieldsError> {
    let operation = match entry.operation() {
        Some("Apply") => Operation::Apply,
        Some("Update") => Operation::Update,
        _ => return Err(ManagedFieldsError::Operation(at)),
    };
    let api_version = entry.api_version().unwrap_or_default();
    if api_version.is_empty() {
        return Err(ManagedFieldsError::ApiVersion(at));
    }
    if entry.fields_type() != Some("FieldsV1") {
        return Err(ManagedFieldsError::FieldsType(at));
    }
    if entry.time().is_some_and(|time| unix_seconds(time).is_none()) {
        return Err(ManagedFieldsError::Time(at));
    }
    let fields = entry.fields().map_or_else(|| Ok(FieldSet::new()), FieldSet::from_value);
    let id = ManagerId {
        name: entry.manager().unwrap_or_default().to_owned(),
        operation,
        api_version: if operation == Operation::Apply { String::new() } else { api_version.to_owned() },
        subresource: entry.subresource().unwrap_or_default().to_owned(),
    };
    let owned = Owned {
        fields: fields.map_err(|error| ManagedFieldsError::Fields(at, error))?,
        api_version: api_version.to_owned(),
        time: entry.time().map(str::to_owned),
    };
    Ok((id, owned))
}

fn encode_entry(id: &ManagerId, owned: &Owned) -> Value {
    let mut entry = Map::new();
    let texts = [
        ("manager", id.name.as_str()),
        ("operation", id.operation.as_str()),
        ("apiVersion", owned.api_version.as_str()),
        ("time", owned.time.as_deref().unwrap_or_default()),
        ("fieldsType", "FieldsV1"),
        ("subresource", id.subresource.as_str()),
    ];
    for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
        entry.insert(name.to_owned(), text.into());
    }
    entry.insert("fieldsV1".to_owned(), owned.fields.to_value());
    Value::Object(entry)
}
