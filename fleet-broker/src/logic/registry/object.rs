//! One object at one version.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use serde::{Deserialize, Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};
use serde_json::{Value, json};

use super::tale::Tale;
use super::texts::Texts;
use super::uuid::Uuid;
use crate::resources::{Before, Kind, Status};

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
///
/// It is kept as text, which takes a fraction of what a [`Value`] of it takes and is what lists and watches send; what
/// every request asks of many objects stands beside it. Of events there are many, and they are all of one form: of them
/// only what differs is kept.
#[derive(Clone, Debug)]
pub struct Object {
    version: u64,
    body: Body,
}

#[derive(Clone, Debug)]
enum Body {
    Text {
        /// A change of the status alone leaves it as it is.
        metadata: Arc<Metadata>,
        text: Box<RawValue>,
    },
    Tale(Box<Tale>),
}

/// What selects and orders objects.
#[derive(Clone, Debug)]
struct Metadata {
    /// Namespace, name and time of creation, then key and value of each label.
    texts: Texts<Box<[u32]>>,
    /// In its usual form; any other is in the JSON alone.
    uid: Option<Uuid>,
    generation: u64,
    is_deleting: bool,
    has_finalizers: bool,
}

/// The part of an object's text that is kept beside it.
#[derive(Deserialize)]
struct Stored {
    metadata: Value,
}

/// The part of an object's text that holds its annotations.
#[derive(Deserialize)]
struct Annotated<'a> {
    #[serde(borrow)]
    metadata: Annotations<'a>,
}

#[derive(Deserialize)]
struct Annotations<'a> {
    #[serde(borrow)]
    annotations: Option<&'a RawValue>,
}

impl Object {
    /// The object at a version, which is written into its metadata.
    pub(super) fn at(version: u64, mut value: Value) -> Object {
        value["metadata"]["resourceVersion"] = json!(version.to_string());
        let (metadata, text) = (Arc::new(Metadata::of(&value["metadata"])), raw(&value));
        Object { version, body: Body::Text { metadata, text } }
    }

    /// An event at a version.
    pub(super) fn told(version: u64, tale: Tale) -> Object {
        Object { version, body: Body::Tale(Box::new(tale)) }
    }

    /// The object as it was stored: its text, unless that says another version or other names than its row. Rows are
    /// what writes find and what tells objects apart: under its text's names an object could take another's place, and
    /// its row would outlive it.
    pub(super) fn restored(key: &ObjectKey, version: u64, text: Box<RawValue>) -> Object {
        let names = (key.namespace.as_str(), key.name.as_str());
        if key.kind == Kind::Event
            && let Some(tale) = Tale::read(version, text.get()).filter(|tale| tale.names() == names)
        {
            return Object::told(version, tale);
        }
        let said = |metadata: &Value| metadata["resourceVersion"].as_str()?.parse().ok();
        if let Ok(Stored { metadata }) = serde_json::from_str(text.get())
            && said(&metadata) == Some(version)
            && names_in(&metadata) == names
        {
            let metadata = Arc::new(Metadata::of(&metadata));
            return Object { version, body: Body::Text { metadata, text } };
        }
        let mut value: Value = serde_json::from_str(text.get()).expect("it is JSON");
        for (field, name) in [("namespace", names.0), ("name", names.1)] {
            if value["metadata"][field].as_str().unwrap_or_default() != name {
                value["metadata"][field] = json!(name);
            }
        }
        Object::at(version, value)
    }

    /// The object with another status, at a version; none if it has this status already. The status is dated by what it
    /// follows. Of the text only that is read, and else where the parts stand: statuses are most of what a hub writes.
    pub(super) fn with_status(&self, version: u64, now: &Time, mut status: impl Status) -> Option<Object> {
        let Body::Text { metadata: selecting, text } = &self.body else { return None };
        let mut parts = parts(text.get());
        let before = parts.get("status").map(|old| Before::read(old.get()));
        status.date(now, &before.unwrap_or_default());
        let status = raw(&status);
        if parts.get("status").map(|old| old.get()) == Some(status.get()) {
            return None;
        }
        let mut metadata = parts.get("metadata").map(|metadata| self::parts(metadata.get()))?;
        let version_text = raw(&version.to_string());
        metadata.insert("resourceVersion", &version_text);
        let metadata = raw(&metadata);
        parts.extend([("metadata", &*metadata), ("status", &*status)]);
        Some(Object { version, body: Body::Text { metadata: Arc::clone(selecting), text: raw(&parts) } })
    }

    /// The version of its last change.
    pub fn version(&self) -> u64 {
        self.version
    }

    /// Its JSON, read anew.
    pub fn value(&self) -> Value {
        serde_json::from_str(&self.text()).expect("it was written from a value")
    }

    /// Its JSON as text.
    pub fn text(&self) -> Cow<'_, str> {
        match &self.body {
            Body::Text { text, .. } => text.get().into(),
            Body::Tale(tale) => tale.text(self.version).into(),
        }
    }

    /// What an event tells; none if it is no event, or was stored in another form than this hub writes.
    pub(super) fn tale(&self) -> Option<&Tale> {
        match &self.body {
            Body::Text { .. } => None,
            Body::Tale(tale) => Some(tale),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.names().1
    }

    /// Its namespace, empty for a cluster-scoped one.
    pub fn namespace(&self) -> &str {
        self.names().0
    }

    /// Its namespace and name, by which objects of a kind are ordered.
    pub(super) fn names(&self) -> (&str, &str) {
        match &self.body {
            Body::Text { metadata, .. } => metadata.names(),
            Body::Tale(tale) => tale.names(),
        }
    }

    /// Its key, as it is of this kind.
    pub(super) fn key(&self, kind: Kind) -> ObjectKey {
        ObjectKey::new(kind, self.namespace(), self.name())
    }

    /// Its unique id, which no other object ever has.
    pub fn uid(&self) -> Cow<'_, str> {
        match &self.body {
            Body::Text { metadata, text } => match metadata.uid {
                Some(uid) => uid.to_string().into(),
                None => text_at(text.get(), "metadata.uid").unwrap_or_default(),
            },
            Body::Tale(tale) => tale.uid().into(),
        }
    }

    /// When it was created, as RFC 3339.
    pub fn creation_timestamp(&self) -> Cow<'_, str> {
        match &self.body {
            Body::Text { metadata, .. } => metadata.creation_timestamp().into(),
            Body::Tale(tale) => tale.first.text().into(),
        }
    }

    /// The number of its spec: 1, and one more with every change.
    pub fn generation(&self) -> u64 {
        self.metadata().map_or(0, |metadata| metadata.generation)
    }

    /// The text at a dotted path, by which it is selected; empty if there is none.
    pub(super) fn field(&self, path: &str) -> Cow<'_, str> {
        match (&self.body, path) {
            (_, "metadata.name") => self.name().into(),
            (_, "metadata.namespace") => self.namespace().into(),
            (Body::Tale(tale), path) => tale.field(path),
            // As an API server takes it: who says what happened, wherever that runs.
            (Body::Text { text, .. }, "source") => {
                text_at(text.get(), "source.component").unwrap_or_default()
            }
            (Body::Text { text, .. }, path) => text_at(text.get(), path).unwrap_or_default(),
        }
    }

    /// The value of one of its labels.
    pub fn label(&self, key: &str) -> Option<&str> {
        self.labels().find(|(label, _)| *label == key).map(|(_, value)| value)
    }

    /// The value of one of its annotations.
    pub fn annotation(&self, key: &str) -> Option<String> {
        self.value()["metadata"]["annotations"].get(key)?.as_str().map(str::to_owned)
    }

    /// Whether it has these labels and no others.
    pub(super) fn has_labels(&self, labels: &BTreeMap<String, String>) -> bool {
        let is_there = |(key, value): (&String, &String)| self.label(key) == Some(value);
        self.labels().count() == labels.len() && labels.iter().all(is_there)
    }

    /// Whether another object has the same labels.
    pub fn is_labelled_as(&self, other: &Object) -> bool {
        self.labels().eq(other.labels())
    }

    /// Whether another object has the same labels and annotations.
    pub fn is_marked_as(&self, other: &Object) -> bool {
        self.is_labelled_as(other) && self.annotations() == other.annotations()
    }

    /// Whether it is to be deleted once its finalizers are gone.
    pub fn is_deleting(&self) -> bool {
        self.metadata().is_some_and(|metadata| metadata.is_deleting)
    }

    /// Whether something must still happen before it can be deleted.
    pub(super) fn has_finalizers(&self) -> bool {
        self.metadata().is_some_and(|metadata| metadata.has_finalizers)
    }

    /// An event has none but what follows from what it tells.
    fn metadata(&self) -> Option<&Metadata> {
        match &self.body {
            Body::Text { metadata, .. } => Some(metadata),
            Body::Tale(_) => None,
        }
    }

    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        self.metadata().into_iter().flat_map(Metadata::labels)
    }

    fn annotations(&self) -> Option<&str> {
        let Body::Text { text, .. } = &self.body else { return None };
        let annotated: Annotated<'_> = serde_json::from_str(text.get()).expect("it has metadata");
        annotated.metadata.annotations.map(RawValue::get)
    }
}

/// The fields of an object in JSON, each as its text.
fn parts(json: &str) -> BTreeMap<&str, &RawValue> {
    serde_json::from_str(json).expect("what is stored has the fields of its type")
}

fn raw(value: &impl Serialize) -> Box<RawValue> {
    to_raw_value(value).expect("what has fields for keys is JSON")
}

/// A string in JSON; what is beside the way to it is only skipped.
fn text_at<'a>(json: &'a str, path: &str) -> Option<Cow<'a, str>> {
    /// Text that is copied only where it is escaped.
    #[derive(Deserialize)]
    struct Text<'a>(#[serde(borrow)] Cow<'a, str>);
    let step = |json: &'a str, step: &str| -> Option<&'a str> {
        let fields: BTreeMap<&str, &RawValue> = serde_json::from_str(json).ok()?;
        fields.get(step).map(|found| found.get())
    };
    let found = path.split('.').try_fold(json, step)?;
    serde_json::from_str(found).ok().map(|Text(text)| text)
}

/// As its JSON. A [`Value`] of a list of objects would read each anew: serialise a type that holds them.
impl Serialize for Object {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match &self.body {
            Body::Text { text, .. } => text.serialize(serializer),
            Body::Tale(tale) => tale.write(self.version).serialize(serializer),
        }
    }
}

impl PartialEq for Object {
    fn eq(&self, other: &Object) -> bool {
        self.text() == other.text()
    }
}

impl Metadata {
    fn of(metadata: &Value) -> Metadata {
        let (namespace, name) = names_in(metadata);
        let created = metadata["creationTimestamp"].as_str().unwrap_or_default();
        let labels = metadata["labels"].as_object().into_iter().flatten();
        let mut texts = vec![namespace, name, created];
        texts.extend(labels.filter_map(|(key, value)| Some([key, value.as_str()?])).flatten());
        Metadata {
            texts: Texts::new(&texts),
            uid: metadata["uid"].as_str().and_then(Uuid::read),
            generation: metadata["generation"].as_u64().unwrap_or_default(),
            is_deleting: !metadata["deletionTimestamp"].as_str().unwrap_or_default().is_empty(),
            has_finalizers: metadata["finalizers"].as_array().is_some_and(|list| !list.is_empty()),
        }
    }

    fn names(&self) -> (&str, &str) {
        (self.texts.at(0), self.texts.at(1))
    }

    fn creation_timestamp(&self) -> &str {
        self.texts.at(2)
    }

    fn labels(&self) -> impl Iterator<Item = (&str, &str)> {
        (3..self.texts.len()).step_by(2).map(|index| (self.texts.at(index), self.texts.at(index + 1)))
    }
}

/// Namespace and name as metadata say them.
fn names_in(metadata: &Value) -> (&str, &str) {
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    (text("namespace"), text("name"))
}
