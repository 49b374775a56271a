//! What one request changes, decided against the registry without changing it.

use std::collections::BTreeMap;
use std::sync::Arc;

use apimachinery::apply::settle;
use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use ring::digest::{SHA256, digest};
use serde_json::{Value, json};

use super::admit::{FieldValidation, Origin, admit, check_size, check_type};
use super::failure::{self, Failure};
use super::managed::{self, undeclared};
use super::record::Told;
use super::uuid::Uuid;
use super::{Change, OBJECTS_MAX, Object, ObjectKey, PROJECTIONS_MAX, Patch, Registry};
use crate::resources::{API_VERSION, AssignmentStatus, FieldError, Kind, Status};

/// Longest prefix that `generateName` takes, so that the name made of it is a name: the API server's limit.
const GENERATE_NAME_MAX_LEN: usize = 58;

/// The changes that one actor makes at one time. Later operations see earlier ones; nobody else sees any until
/// [`Registry::apply`].
#[derive(Debug)]
pub struct Transaction<'a> {
    pub(super) base: &'a Registry,
    pub(super) now: Timestamp,
    pub(super) actor: Arc<str>,
    /// Objects changed here; None is deleted.
    pub(super) staged: BTreeMap<ObjectKey, Option<Arc<Object>>>,
    pub(super) changes: Vec<Change>,
    pub(super) told: Told,
}

/// A part of an object that is written by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// Everything but the status.
    Main,
    /// The status alone.
    Status,
}

/// How a client writes.
#[derive(Clone, Debug)]
pub struct WriteOptions {
    /// What to do about fields that the kind does not have.
    pub validation: FieldValidation,
    /// As whom it owns the fields it writes.
    pub manager: String,
}

/// The outcome of a write.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object as it is now.
    pub object: Arc<Object>,
    /// What the client should be told.
    pub warnings: Vec<String>,
}

/// The outcome of a deletion.
#[derive(Clone, Debug)]
pub enum Deleted {
    /// It is gone; this is how it was.
    Gone(Arc<Object>),
    /// It waits for its finalizers.
    Terminating(Arc<Object>),
}

/// What a client knows about the object it means to delete.
#[derive(Clone, Debug, Default)]
pub struct Preconditions {
    /// Its unique id.
    pub uid: Option<String>,
    /// Its version.
    pub resource_version: Option<String>,
}

/// An object that the hub makes itself, from others.
#[derive(Clone, Debug, PartialEq)]
pub struct Projection {
    /// Which.
    pub key: ObjectKey,
    /// By which it is selected.
    pub labels: BTreeMap<String, String>,
    /// All it says.
    pub status: AssignmentStatus,
}

impl<'a> Transaction<'a> {
    pub(super) fn new(base: &'a Registry, now: Timestamp, actor: &str) -> Transaction<'a> {
        let (actor, told) = (Arc::from(actor), Told::default());
        Transaction { base, now, actor, staged: BTreeMap::new(), changes: Vec::new(), told }
    }

    /// What changes, in the order of the versions.
    pub fn finish(self) -> Vec<Change> {
        self.changes
    }

    /// An object, as this transaction leaves it.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Object>> {
        match self.staged.get(key) {
            Some(staged) => staged.as_ref(),
            None => self.base.get(key),
        }
    }

    /// Creates an object. `namespace` is that of the request, `uid` is unique for ever.
    ///
    /// # Errors
    /// A Status: malformed, invalid, already there, or one too many.
    pub fn create(
        &mut self,
        kind: Kind,
        namespace: &str,
        mut body: Value,
        options: &WriteOptions,
        uid: &str,
    ) -> Result<Written, Failure> {
        check_type(kind, &mut body)?;
        let metadata = &mut body["metadata"];
        if !metadata["resourceVersion"].as_str().unwrap_or_default().is_empty() {
            return Err(failure::bad_request("resourceVersion should not be set on objects to be created"));
        }
        set_namespace(kind, metadata, namespace)?;
        generate_name(metadata, uid);
        self.born(metadata, uid);
        if kind.has_status() {
            remove_fields(&mut body, &["status"]);
        }
        let (value, warnings) = admit(kind, body, None, options.validation, Origin::Body)?;
        let value = managed::track(kind, Part::Main, None, &value, &options.manager, &self.timestamp())?;
        let name = value["metadata"]["name"].as_str().unwrap_or_default();
        let key = ObjectKey::new(kind, namespace, name);
        if self.get(&key).is_some() {
            return Err(failure::already_exists(kind, name));
        }
        self.check_room(&key, OBJECTS_MAX)?;
        let object = self.stage(key, value)?;
        Ok(Written { object, warnings })
    }

    /// Replaces an object, or its status, with what a client read and changed.
    ///
    /// # Errors
    /// A Status: not there, malformed, invalid, or changed since the client read it.
    pub fn replace(
        &mut self,
        key: &ObjectKey,
        part: Part,
        body: Value,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let Some(old) = self.get(key).cloned() else {
            // A body that does not read is refused whether or not there is something to replace.
            admit(key.kind, body, None, options.validation, Origin::Body)?;
            return Err(failure::not_found(key.kind, &key.name));
        };
        if body["metadata"]["resourceVersion"].as_str().unwrap_or_default().is_empty() {
            let why = "must be specified for an update";
            let error = FieldError::invalid("metadata.resourceVersion", "0", why);
            return Err(failure::invalid(key.kind, &key.name, &[error]));
        }
        self.update(key, part, &old, body, options, Origin::Body)
    }

    /// Changes an object, or its status, as a patch says.
    ///
    /// # Errors
    /// A Status: not there, invalid, or not of the version that the patch names.
    pub fn patch(
        &mut self,
        key: &ObjectKey,
        part: Part,
        patch: &Patch,
        options: &WriteOptions,
    ) -> Result<Written, Failure> {
        let old = self.existing(key)?;
        let body = patch.apply(&old.value())?;
        let text = patch.text();
        self.update(key, part, &old, body, options, Origin::Patch(&text))
    }

    /// Applies what a manager declares of an object (KEP-555), which creates it if it is not there. Says whether it
    /// did. With `force` the manager takes over what others own.
    ///
    /// # Errors
    /// A Status: conflicts with other managers, or as with [`Self::create`] and [`Self::patch`].
    pub fn apply(
        &mut self,
        key: &ObjectKey,
        part: Part,
        mut declared: Value,
        force: bool,
        options: &WriteOptions,
        uid: &str,
    ) -> Result<(Written, bool), Failure> {
        check_type(key.kind, &mut declared)?;
        let old = match part {
            Part::Main => self.get(key).cloned(),
            Part::Status => Some(self.existing(key)?),
        };
        check_identity(key, old.as_deref(), &mut declared)?;
        let before = old.as_deref().map(Object::value);
        let time = self.timestamp();
        let mut applied =
            managed::apply(key.kind, part, before.as_ref(), &declared, force, &options.manager, &time)?;
        if old.is_none() {
            self.born(&mut applied["metadata"], uid);
            self.check_room(key, OBJECTS_MAX)?;
        }
        let unknown =
            key.kind.decode(applied.clone(), None).map(|decoded| decoded.unknown).unwrap_or_default();
        undeclared(key, &unknown)?;
        let (mut value, warnings) =
            admit(key.kind, applied, before.as_ref(), options.validation, Origin::Body)?;
        let (Some(old), Some(before)) = (old, before) else {
            let object = self.stage(key.clone(), value)?;
            return Ok((Written { object, warnings }, true));
        };
        // Defaults may have made it what it was.
        settle(&before, &mut value);
        Ok((self.put(key, &old, &before, value, warnings)?, false))
    }

    /// Replaces the status of an object, whatever its version is: for the hub's own controllers.
    ///
    /// # Errors
    /// A Status: not there, or not the status of its kind.
    pub fn update_status(&mut self, key: &ObjectKey, status: impl Status) -> Result<Arc<Object>, Failure> {
        let old = self.existing(key)?;
        self.put_status(key.clone(), &old, status)
    }

    /// What has the type of its kind's status is not checked as a client's is. Who wrote it is not kept either: it would
    /// say the same in every object, and cost more than the status.
    fn put_status(
        &mut self,
        key: ObjectKey,
        old: &Arc<Object>,
        status: impl Status,
    ) -> Result<Arc<Object>, Failure> {
        match old.with_status(self.next_version(), &self.second(), status) {
            Some(object) => self.keep_own(key, object),
            None => Ok(Arc::clone(old)),
        }
    }

    fn keep_own(&mut self, key: ObjectKey, object: Object) -> Result<Arc<Object>, Failure> {
        debug_assert!(
            is_admitted(key.kind, &object),
            "a client could not have written {key}: {}",
            object.text()
        );
        self.keep(key, object)
    }

    /// Deletes an object, or marks it as deleted while it has finalizers.
    ///
    /// # Errors
    /// A Status: not there, or not the one that the client means.
    pub fn delete(&mut self, key: &ObjectKey, preconditions: &Preconditions) -> Result<Deleted, Failure> {
        let old = self.existing(key)?;
        preconditions.check(key, &old)?;
        if !old.has_finalizers() {
            self.record(key.clone(), None);
            return Ok(Deleted::Gone(old));
        }
        if old.is_deleting() {
            return Ok(Deleted::Terminating(old));
        }
        let mut value = old.value();
        let metadata = &mut value["metadata"];
        metadata["deletionTimestamp"] = json!(self.timestamp());
        metadata["deletionGracePeriodSeconds"] = json!(0);
        metadata["generation"] = json!(old.generation() + 1);
        Ok(Deleted::Terminating(self.stage(key.clone(), value)?))
    }

    /// Creates or updates an object that the hub makes itself. Its uid follows from its name: whoever made it again
    /// after a restart made the same one.
    ///
    /// # Errors
    /// A Status: invalid, or one too many.
    pub fn project(&mut self, projection: Projection) -> Result<Arc<Object>, Failure> {
        let Projection { key, labels, status } = projection;
        match self.get(&key).cloned() {
            Some(old) if old.has_labels(&labels) => return self.put_status(key, &old, status),
            Some(old) => {
                let mut value = old.value();
                value["metadata"]["labels"] = json!(labels);
                let relabelled = Object::at(self.next_version(), value);
                let object = relabelled.with_status(self.next_version(), &self.second(), status);
                return self.keep_own(key, object.unwrap_or(relabelled));
            }
            None => self.check_room(&key, PROJECTIONS_MAX)?,
        }
        let body = json!({
            "apiVersion": API_VERSION,
            "kind": key.kind.name(),
            "metadata": {
                "name": key.name,
                "namespace": key.namespace,
                "uid": derived_uid(&key),
                "creationTimestamp": self.timestamp(),
                "generation": 1,
                "labels": labels,
            },
        });
        let bare = Object::at(self.next_version(), body);
        self.put_status(key, &Arc::new(bare), status)
    }

    /// Removes an object that the hub made itself; nothing happens if there is none.
    pub fn unproject(&mut self, key: &ObjectKey) {
        if self.get(key).is_some() {
            self.record(key.clone(), None);
        }
    }

    fn update(
        &mut self,
        key: &ObjectKey,
        part: Part,
        old: &Arc<Object>,
        mut body: Value,
        options: &WriteOptions,
        origin: Origin<'_>,
    ) -> Result<Written, Failure> {
        check_type(key.kind, &mut body)?;
        check_identity(key, Some(old), &mut body)?;
        let before = old.value();
        let merged = match part {
            Part::Main => main_part(key.kind, &before, body),
            Part::Status => status_part(before.clone(), &body),
        };
        let WriteOptions { validation, manager } = options;
        let (value, warnings) = admit(key.kind, merged, Some(&before), *validation, origin)?;
        let value = managed::track(key.kind, part, Some(&before), &value, manager, &self.timestamp())?;
        self.put(key, old, &before, value, warnings)
    }

    /// Puts what was admitted in the place of `old`, which was `before`.
    fn put(
        &mut self,
        key: &ObjectKey,
        old: &Arc<Object>,
        before: &Value,
        mut value: Value,
        warnings: Vec<String>,
    ) -> Result<Written, Failure> {
        if specification(&value) != specification(before) {
            value["metadata"]["generation"] = json!(old.generation() + 1);
        }
        if value == *before {
            return Ok(Written { object: Arc::clone(old), warnings });
        }
        let object = self.stage(key.clone(), value)?;
        if object.is_deleting() && !object.has_finalizers() {
            self.record(key.clone(), None);
        }
        Ok(Written { object, warnings })
    }

    /// What the system says of a new object.
    fn born(&self, metadata: &mut Value, uid: &str) {
        metadata["uid"] = json!(uid);
        metadata["creationTimestamp"] = json!(self.timestamp());
        metadata["generation"] = json!(1);
        remove_fields(metadata, &["deletionTimestamp", "deletionGracePeriodSeconds"]);
        clean_metadata(metadata);
    }

    fn existing(&self, key: &ObjectKey) -> Result<Arc<Object>, Failure> {
        self.get(key).cloned().ok_or_else(|| failure::not_found(key.kind, &key.name))
    }

    fn check_room(&self, key: &ObjectKey, limit: usize) -> Result<(), Failure> {
        let plural = key.kind.plural();
        let staged = self.changes.iter().filter(|change| change.key.kind == key.kind).count();
        if self.base.count(key.kind) + staged < limit {
            return Ok(());
        }
        Err(failure::forbidden(
            key.kind,
            &key.name,
            &format!("the hub has {limit} {plural}, which is its limit"),
        ))
    }

    fn stage(&mut self, key: ObjectKey, value: Value) -> Result<Arc<Object>, Failure> {
        self.keep(key, Object::at(self.next_version(), value))
    }

    fn keep(&mut self, key: ObjectKey, object: Object) -> Result<Arc<Object>, Failure> {
        check_size(&object)?;
        let object = Arc::new(object);
        self.record(key, Some(Arc::clone(&object)));
        Ok(object)
    }

    /// # Panics
    /// When an object bears other names than those it is to be found by.
    pub(super) fn record(&mut self, key: ObjectKey, after: Option<Arc<Object>>) {
        let names = (key.namespace.as_str(), key.name.as_str());
        assert!(after.as_ref().is_none_or(|object| object.names() == names), "{key} says that it is another");
        let change = Change {
            version: self.next_version(),
            before: self.get(&key).cloned(),
            after: after.clone(),
            key: key.clone(),
            actor: Arc::clone(&self.actor),
        };
        self.changes.push(change);
        self.staged.insert(key, after);
    }

    pub(super) fn next_version(&self) -> u64 {
        self.changes.last().map_or(self.base.version(), |change| change.version) + 1
    }

    /// `now` as Kubernetes writes times: RFC 3339, UTC, whole seconds.
    pub(super) fn timestamp(&self) -> String {
        self.now.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn second(&self) -> Time {
        Time(Timestamp::from_second(self.now.as_second()).expect("the second of a time is one"))
    }
}

impl Preconditions {
    fn check(&self, key: &ObjectKey, object: &Object) -> Result<(), Failure> {
        let check = |what: &str, expected: &Option<String>, actual: &str| match expected {
            Some(expected) if expected != actual => {
                let why = format!(
                    "Precondition failed: {what} in precondition: {expected}, {what} in object meta: {actual}"
                );
                Err(failure::conflict(key.kind, &key.name, &why))
            }
            Some(_) | None => Ok(()),
        };
        check("UID", &self.uid, &object.uid())?;
        check("ResourceVersion", &self.resource_version, &object.version().to_string())
    }
}

/// Whether an object that the hub made is as one that a client wrote.
fn is_admitted(kind: Kind, object: &Object) -> bool {
    let admitted = admit(kind, object.value(), None, FieldValidation::Strict, Origin::Body);
    admitted.is_ok_and(|(value, _)| value == object.value())
}

fn set_namespace(kind: Kind, metadata: &mut Value, namespace: &str) -> Result<(), Failure> {
    let stated = metadata["namespace"].as_str().unwrap_or_default();
    if !kind.is_namespaced() {
        remove_fields(metadata, &["namespace"]);
    } else if stated.is_empty() || stated == namespace {
        metadata["namespace"] = json!(namespace);
    } else {
        return Err(failure::bad_request(
            "the namespace of the provided object does not match the namespace sent on the request",
        ));
    }
    Ok(())
}

/// `generateName` gets five characters of the uid, which is as unlikely to be taken as any other suffix.
fn generate_name(metadata: &mut Value, uid: &str) {
    let prefix = metadata["generateName"].as_str().unwrap_or_default();
    if metadata["name"].as_str().unwrap_or_default().is_empty() && !prefix.is_empty() {
        let cut = prefix.char_indices().nth(GENERATE_NAME_MAX_LEN).map_or(prefix.len(), |(at, _)| at);
        let suffix: String = uid.chars().filter(|c| *c != '-').take(5).collect();
        metadata["name"] = json!(format!("{}{suffix}", &prefix[..cut]));
    }
}

/// Checks that `body` is the object of this key at the version the client read, and puts in its name and
/// namespace if it left them out. What is not there has no version.
fn check_identity(key: &ObjectKey, old: Option<&Object>, body: &mut Value) -> Result<(), Failure> {
    let metadata = &mut body["metadata"];
    let name = metadata["name"].as_str().unwrap_or_default();
    if !name.is_empty() && name != key.name {
        return Err(failure::bad_request(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            key.name
        )));
    }
    metadata["name"] = json!(key.name);
    set_namespace(key.kind, metadata, &key.namespace)?;
    let uid = metadata["uid"].as_str().unwrap_or_default();
    let Some(old) = old else {
        let version = metadata["resourceVersion"].as_str().unwrap_or_default();
        return if uid.is_empty() && version.is_empty() {
            Ok(())
        } else {
            Err(failure::stale(key.kind, &key.name))
        };
    };
    if !uid.is_empty() {
        Preconditions { uid: Some(uid.to_owned()), resource_version: None }.check(key, old)?;
    }
    let version = metadata["resourceVersion"].as_str().unwrap_or_default();
    if version.is_empty() || version == old.version().to_string() {
        return Ok(());
    }
    Err(failure::stale(key.kind, &key.name))
}

/// The body of a client with what is not the client's: the system's metadata, and the status.
fn main_part(kind: Kind, before: &Value, mut body: Value) -> Value {
    clean_metadata(&mut body["metadata"]);
    for field in [
        "uid",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "generation",
        "resourceVersion",
    ] {
        copy_field(field, &before["metadata"], &mut body["metadata"]);
    }
    if kind.has_status() {
        copy_field("status", before, &mut body);
    }
    body
}

/// The old object with the status of the body.
fn status_part(mut value: Value, body: &Value) -> Value {
    copy_field("status", body, &mut value);
    value
}

fn copy_field(field: &str, from: &Value, to: &mut Value) {
    match from.get(field) {
        Some(value) => to[field] = value.clone(),
        None => remove_fields(to, &[field]),
    }
}

/// Removes what is no more (self links) and what is nothing.
fn clean_metadata(metadata: &mut Value) {
    remove_fields(metadata, &["selfLink"]);
    if let Some(metadata) = metadata.as_object_mut() {
        metadata.retain(|_, value| !value.is_null());
    }
}

fn remove_fields(value: &mut Value, fields: &[&str]) {
    if let Some(object) = value.as_object_mut() {
        object.retain(|key, _| !fields.contains(&key.as_str()));
    }
}

/// What stands in an object beside its metadata and status. A change of it makes a new generation.
fn specification(value: &Value) -> Vec<(&String, &Value)> {
    let fields = value.as_object().into_iter().flatten();
    fields.filter(|(key, _)| !matches!(key.as_str(), "metadata" | "status")).collect()
}

pub(super) fn derived_uid(key: &ObjectKey) -> String {
    let text = format!("{}\n{}\n{}", key.kind.name(), key.namespace, key.name);
    Uuid::of_digest(digest(&SHA256, text.as_bytes()).as_ref()).to_string()
}
