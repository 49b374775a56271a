//! Server-side apply, and the ownership of fields that every other write leaves behind.
//!
//! The rules are those of KEP-555 as the API server runs them. An applier owns what it declares; who changes
//! a field in any other way owns it from then on. To apply a field that another owns with another value is a
//! conflict. What an applier owned and declares no more is removed, unless someone else owns it too.
//!
//! Fields are compared as they stand: defaults are for the caller to fill in, after [`apply`] and before
//! [`track_update`], and so is conversion between versions: the fields of every manager are read as if they
//! were of the version of the object.

mod conflict;
mod last_applied;
mod managed;
#[cfg(test)]
mod properties;
#[cfg(test)]
mod tests;
mod walk;

use serde_json::{Map, Value, json};

pub use conflict::{Conflict, Conflicts};
pub use managed::{ManagedFieldsError, Operation};
pub use walk::ListError;

use crate::fields::{FieldSet, PathElement};
use crate::meta::{MAX_DEPTH, ObjectView, is_shallow, same, unix_seconds};
use crate::schema::{Shape, Topology};
use managed::{Managed, ManagerId, Owned};
use walk::{check_unique, compare, drop_null_fields, field_set, merge, remove, with_declared_parents};

/// How many managers an object may have. Updaters are merged beyond ten of them; appliers are few by
/// nature, and an object with more than this is not one that people take care of.
pub const MAX_MANAGERS: usize = 256;

/// Owns what was there before anyone applied.
const BEFORE_FIRST_APPLY: &str = "before-first-apply";

/// Who writes, through which endpoint, and when.
#[derive(Clone, Copy, Debug)]
pub struct Manager<'a> {
    /// The `fieldManager` of the request; empty for one that gave none.
    pub name: &'a str,
    /// The version the request speaks, such as `apps/v1`.
    pub api_version: &'a str,
    /// `status`, or another subresource; empty for the object itself.
    pub subresource: &'a str,
    /// RFC 3339, to the second.
    pub time: &'a str,
}

/// An object after a write.
#[derive(Clone, Debug, PartialEq)]
pub struct Applied {
    /// The object, with its managedFields.
    pub object: Value,
    /// Whether it differs from the live one. An object that does not must not be stored again.
    pub is_changed: bool,
}

/// Why a write cannot be done.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApplyError {
    /// Others own fields that would change.
    #[error(transparent)]
    Conflicts(#[from] Conflicts),
    /// What was applied is of another version than the endpoint.
    #[error(
        "Incorrect version specified in apply patch. Specified patch version: {specified}, expected: {expected}"
    )]
    Version {
        /// The version of the applied object.
        specified: String,
        /// The version of the endpoint.
        expected: String,
    },
    /// What was applied is of another kind than what is there.
    #[error("cannot apply {applied} to the live {live}")]
    Kind {
        /// The kind applied.
        applied: String,
        /// The kind there.
        live: String,
    },
    /// What was applied says who manages what.
    #[error("metadata.managedFields must be nil")]
    ManagedFieldsGiven,
    /// The time of the manager is not RFC 3339.
    #[error("the time of field manager {manager} is \"{time}\": it must be RFC 3339")]
    Time {
        /// The manager.
        manager: String,
        /// What was given as its time.
        time: String,
    },
    /// An object is nested too deep.
    #[error("the object is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// The items of a list cannot be told apart.
    #[error("failed to merge")]
    List(#[from] ListError),
    /// The managedFields of the live object cannot be read.
    #[error("failed to decode managed fields")]
    ManagedFields(#[from] ManagedFieldsError),
}

/// Applies what `manager` declares to the live object, or creates it. `force` takes over what others own.
///
/// # Errors
/// When there are conflicts and `force` is not given, or when either object cannot be merged.
pub fn apply(
    live: Option<&Value>,
    applied: &Value,
    manager: &Manager<'_>,
    force: bool,
    topology: &Topology,
) -> Result<Applied, ApplyError> {
    check_applied(live, applied, manager)?;
    check_unique(applied, topology.root())?;
    let empty = json!({"apiVersion": applied["apiVersion"], "kind": applied["kind"]});
    let bare = without_managed_fields(live.unwrap_or(&empty));
    let mut managed = managed_before(live, &bare, manager, topology)?;
    let id = ManagerId::new(manager, Operation::Apply);
    let before = managed.get(&id).cloned();
    let reset = topology.reset_fields(manager.subresource);

    let fields = field_set(applied, topology.root())?.difference_with_below(&reset);
    let time = before.as_ref().and_then(|owned| owned.time.clone());
    managed.set(id.clone(), Owned { fields, api_version: manager.api_version.to_owned(), time });
    let merged = merge(&bare, applied, topology.root())?;
    let mut object = match &before {
        Some(before) => prune(&merged, &before.fields, &managed.union(), topology.root())?,
        None => merged,
    };

    let change = compare(&bare, &object, topology.root())?.without(&reset);
    let mut conflicts = managed.conflicts(&change, Some(&id));
    if !force && manager.name == last_applied::KUBECTL && !conflicts.is_empty() {
        forgive_client_side_apply(&mut conflicts, &bare, manager, topology);
    }
    if !force && !conflicts.is_empty() {
        return Err(conflicts.into());
    }
    managed.take(&change, Some(&id));
    managed.strip(&id);

    if !same(&bare, &object) {
        stamp(&mut managed, &id, manager.time);
    }
    if manager.name == last_applied::KUBECTL {
        last_applied::refresh(&mut object, applied);
    }
    finish(live, object, &managed, &reset, topology)
}

/// Records who owns what after `before` became `after` by a create, a replacement or a patch. `before` is
/// absent for a create.
///
/// # Errors
/// When the two objects cannot be compared.
pub fn track_update(
    before: Option<&Value>,
    after: &Value,
    manager: &Manager<'_>,
    topology: &Topology,
) -> Result<Applied, ApplyError> {
    check_writer(&[before.unwrap_or(after), after], manager)?;
    let empty = json!({"apiVersion": after["apiVersion"], "kind": after["kind"]});
    let bare = without_managed_fields(before.unwrap_or(&empty));
    let reset = topology.reset_fields(manager.subresource);
    let mut managed = managed_after(before, after, manager);
    let object = without_managed_fields(after);
    // An object that nobody manages is not managed before someone applies it.
    if !managed.is_empty() || before.is_none() {
        managed.lift_to(topology.root());
        own_change(&mut managed, &bare, &object, manager, &reset, topology)?;
    }
    finish(before, object, &managed, &reset, topology)
}

/// Says whether `object` differs from `live` in more than the times of its managers, and takes those back if
/// it does not. For callers that change an object after it was applied, as by filling in defaults.
pub fn settle(live: &Value, object: &mut Value) -> bool {
    let timeless = |object: &Value| {
        let mut object = object.clone();
        let entries = object.pointer_mut("/metadata/managedFields").and_then(Value::as_array_mut);
        for entry in entries.into_iter().flatten().filter_map(Value::as_object_mut) {
            entry.remove("time");
        }
        object
    };
    let is_changed = !same(&timeless(live), &timeless(object));
    if !is_changed {
        object.clone_from(live);
    }
    is_changed
}

fn check_applied(live: Option<&Value>, applied: &Value, manager: &Manager<'_>) -> Result<(), ApplyError> {
    check_writer(&[live.unwrap_or(applied), applied], manager)?;
    let view = ObjectView::new(applied);
    let specified = view.api_version().unwrap_or_default();
    if specified != manager.api_version {
        return Err(ApplyError::Version {
            specified: specified.to_owned(),
            expected: manager.api_version.to_owned(),
        });
    }
    let kind = |object| ObjectView::new(object).kind().unwrap_or_default().to_owned();
    if let Some(live) = live.filter(|live| kind(live) != kind(applied)) {
        return Err(ApplyError::Kind { applied: kind(applied), live: kind(live) });
    }
    if applied.pointer("/metadata/managedFields").is_some_and(|given| !given.is_null()) {
        return Err(ApplyError::ManagedFieldsGiven);
    }
    Ok(())
}

fn check_writer(objects: &[&Value], manager: &Manager<'_>) -> Result<(), ApplyError> {
    if unix_seconds(manager.time).is_none() {
        return Err(ApplyError::Time { manager: manager.name.to_owned(), time: manager.time.to_owned() });
    }
    if objects.iter().all(|object| is_shallow(object)) { Ok(()) } else { Err(ApplyError::TooDeep) }
}

/// Who manages the live object. If nobody does, someone nameless owns what there is.
fn managed_before(
    live: Option<&Value>,
    bare: &Value,
    manager: &Manager<'_>,
    topology: &Topology,
) -> Result<Managed, ApplyError> {
    let Some(live) = live else { return Ok(Managed::default()) };
    let mut managed = Managed::decode(live)?;
    if managed.is_empty() {
        let nothing = json!({"apiVersion": bare["apiVersion"], "kind": bare["kind"]});
        let nameless = Manager { name: BEFORE_FIRST_APPLY, ..*manager };
        let reset = topology.reset_fields(manager.subresource);
        own_change(&mut managed, &nothing, bare, &nameless, &reset, topology)?;
    }
    managed.lift_to(topology.root());
    Ok(managed)
}

/// Who manages the object written. A write to the object itself may change that; to say `[]` or `[{}]`
/// forgets everyone. What cannot be read is as if nobody did.
fn managed_after(before: Option<&Value>, after: &Value, manager: &Manager<'_>) -> Managed {
    let stored = || before.and_then(|before| Managed::decode(before).ok()).unwrap_or_default();
    let given = after.pointer("/metadata/managedFields").and_then(Value::as_array);
    match given.map(Vec::as_slice) {
        _ if !manager.subresource.is_empty() => stored(),
        Some([]) => Managed::default(),
        Some([entry]) if entry.as_object().is_some_and(Map::is_empty) => Managed::default(),
        Some(_) => Managed::decode(after).unwrap_or_else(|_| stored()),
        None => stored(),
    }
}

/// Gives `manager` what changed, and takes it from all others.
fn own_change(
    managed: &mut Managed,
    before: &Value,
    after: &Value,
    manager: &Manager<'_>,
    reset: &FieldSet,
    topology: &Topology,
) -> Result<(), ApplyError> {
    let change = compare(before, after, topology.root())?.without(reset);
    managed.take(&change, None);
    let changed = managed::without_unowned(&change.modified.union(&change.added));
    if !changed.is_empty() {
        let id = ManagerId::new(manager, Operation::Update);
        let fields = match managed.get(&id) {
            Some(owned) => changed.union(&owned.fields),
            None => changed,
        };
        let (api_version, time) = (manager.api_version.to_owned(), Some(manager.time.to_owned()));
        managed.set(id, Owned { fields, api_version, time });
    }
    managed.cap_updaters();
    Ok(())
}

/// Takes from `merged` what the applier owned before and nobody owns now.
fn prune(merged: &Value, before: &FieldSet, now: &FieldSet, root: Shape<'_>) -> Result<Value, ListError> {
    if before.is_empty() {
        return Ok(merged.clone());
    }
    let with_parents = |set: &FieldSet| with_declared_parents(set, Some(root));
    let fields = |object: &Value| Ok::<_, ListError>(with_parents(&field_set(object, root)?));
    let (all, before) = (fields(merged)?, with_parents(before));
    // First everything it owned goes; then what others own, and what is around that, comes back; at last
    // what nobody owns comes back, unless it was the applier's.
    let pruned = remove(merged, &before, root)?;
    let kept = fields(&pruned)?.union(&with_parents(now));
    let pruned = remove(merged, &all.difference(&kept), root)?;
    let gone = all.difference(&fields(&pruned)?).intersection(&before);
    remove(merged, &gone, root)
}

fn forgive_client_side_apply(
    conflicts: &mut Conflicts,
    live: &Value,
    manager: &Manager<'_>,
    topology: &Topology,
) {
    if let Some(uncontested) = last_applied::uncontested(live, manager.api_version, topology) {
        conflicts.retain(|conflict| !uncontested.contains(conflict.path()));
    }
}

fn stamp(managed: &mut Managed, id: &ManagerId, time: &str) {
    if let Some(owned) = managed.get(id).cloned() {
        managed.set(id.clone(), Owned { time: Some(time.to_owned()), ..owned });
    }
}

fn finish(
    live: Option<&Value>,
    mut object: Value,
    managed: &Managed,
    reset: &FieldSet,
    topology: &Topology,
) -> Result<Applied, ApplyError> {
    managed.check_limits()?;
    if topology.drops_nulls() {
        drop_null_fields(&mut object);
    }
    for path in reset.paths() {
        restore(&mut object, live, path.elements());
    }
    if let Some(live) = live {
        keep_server_metadata(&mut object, live);
    }
    if managed.is_empty() {
        object = without_managed_fields(&object);
    } else {
        metadata_of(&mut object).insert("managedFields".to_owned(), managed.encode());
    }
    let is_changed = live.is_none_or(|live| settle(live, &mut object));
    Ok(Applied { object, is_changed })
}

/// Puts the live value of a field back, or its absence.
fn restore(object: &mut Value, live: Option<&Value>, path: &[PathElement]) {
    let [PathElement::Field(name), below @ ..] = path else { return };
    let stored = live.and_then(|live| live.get(name));
    let Some(fields) = object.as_object_mut() else { return };
    if !below.is_empty() {
        if let Some(value) = fields.get_mut(name) {
            restore(value, stored, below);
        }
    } else if let Some(stored) = stored {
        fields.insert(name.clone(), stored.clone());
    } else if name != "metadata" {
        fields.remove(name);
    }
}

/// What only the server sets keeps its stored value, and what identifies the object does if the writer
/// left it out. Whether what the writer gave fits the live object is for the caller to check before.
fn keep_server_metadata(object: &mut Value, live: &Value) {
    let Some(stored) = live.get("metadata").and_then(Value::as_object) else { return };
    let metadata = metadata_of(object);
    for name in ["creationTimestamp", "deletionTimestamp", "generation"] {
        if let Some(stored) = stored.get(name) {
            metadata.insert(name.to_owned(), stored.clone());
        }
    }
    for name in ["deletionGracePeriodSeconds", "resourceVersion", "uid"] {
        let is_given = metadata.get(name).is_some_and(|given| !given.is_null());
        if let (Some(stored), false) = (stored.get(name), is_given) {
            metadata.insert(name.to_owned(), stored.clone());
        }
    }
}

fn metadata_of(object: &mut Value) -> &mut Map<String, Value> {
    if !object.is_object() {
        *object = Value::Object(Map::new());
    }
    let metadata = &mut object["metadata"];
    if !metadata.is_object() {
        *metadata = Value::Object(Map::new());
    }
    metadata.as_object_mut().expect("it was made an object above")
}

fn without_managed_fields(object: &Value) -> Value {
    let mut object = object.clone();
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        metadata.remove("managedFields");
    }
    object
}
