//! One object at one version.

use std::fmt;

use serde_json::{Value, json};

use crate::resources::Kind;

/// Which object.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct ObjectKey {
    /// Its kind.
    pub kind: Kind,
    /// Its namespace, empty for a cluster-scoped one.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl ObjectKey {
    /// The key of an object; the namespace is empty for a cluster-scoped one.
    pub fn new(kind: Kind, namespace: &str, name: &str) -> ObjectKey {
        ObjectKey { kind, namespace: namespace.to_owned(), name: name.to_owned() }
    }
}

impl fmt::Display for ObjectKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = if self.namespace.is_empty() { "" } else { "/" };
        write!(f, "{} {}{separator}{}", self.kind.name(), self.namespace, self.name)
    }
}

/// One object at one version: its JSON as clients see it, `metadata.resourceVersion` included.
#[derive(Clone, Debug, PartialEq)]
pub struct Object {
    version: u64,
    value: Value,
}

impl Object {
    /// The object at a version, which is written into its metadata.
    pub(super) fn at(version: u64, mut value: Value) -> Object {
        value["metadata"]["resourceVersion"] = json!(version.to_string());
        Object { version, value }
    }

    /// The object as it was stored.
    pub(super) fn restored(version: u64, value: Value) -> Object {
        Object::at(version, value)
    }

    /// The version of its last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its JSON.
    pub fn value(&self) -> &Value {
        &self.value
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.metadata_text("name")
    }

    /// Its namespace, empty for a cluster-scoped one.
    pub fn namespace(&self) -> &str {
        self.metadata_text("namespace")
    }

    /// Its unique id, which no other object ever has.
    pub fn uid(&self) -> &str {
        self.metadata_text("uid")
    }

    /// When it was created, as RFC 3339.
    pub fn creation_timestamp(&self) -> &str {
        self.metadata_text("creationTimestamp")
    }

    /// The number of its spec: 1, and one more with every change.
    pub fn generation(&self) -> u64 {
        self.value["metadata"]["generation"].as_u64().unwrap_or_default()
    }

    /// The text at a dotted path, by which it is selected; empty if there is none.
    pub(super) fn field(&self, path: &str) -> &str {
        // As an API server takes it: who says what happened, wherever that runs.
        let path = if path == "source" { "source.component" } else { path };
        let found = path.split('.').try_fold(&self.value, |value, step| value.get(step));
        found.and_then(Value::as_str).unwrap_or_default()
    }

    /// The value of one of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.value["metadata"]["labels"].get(key)?.as_str()
    }

    /// The value of one of its annotations.
    pub fn annotation(&self, key: &str) -> Option<&str> {
        self.value["metadata"]["annotations"].get(key)?.as_str()
    }

    /// Whether it is to be deleted once its finalizers are gone.
    pub fn is_deleting(&self) -> bool {
        !self.metadata_text("deletionTimestamp").is_empty()
    }

    /// Whether something must still happen before it can be deleted.
    pub(super) fn has_finalizers(&self) -> bool {
        self.value["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty())
    }

    fn metadata_text(&self, field: &str) -> &str {
        self.value["metadata"][field].as_str().unwrap_or_default()
    }
}
