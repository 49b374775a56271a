//! What applying a bundle would do, where clusters only look at it.

use std::fmt;

use protocol::documents;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::schema;

/// What applying a bundle would do to objects, counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewCounts {
    /// As they should be, and Edgefleet's.
    #[schemars(schema_with = "schema::unsigned")]
    pub unchanged: u64,
    /// Not there: they would be made.
    #[schemars(schema_with = "schema::unsigned")]
    pub create: u64,
    /// Different: they would be changed.
    #[schemars(schema_with = "schema::unsigned")]
    pub change: u64,
    /// The same, and not Edgefleet's yet: they would be taken over.
    #[schemars(schema_with = "schema::unsigned")]
    pub adopt: u64,
    /// Different in fields that other managers hold: they would be left alone, and the application would fail.
    #[schemars(schema_with = "schema::unsigned")]
    pub conflict: u64,
    /// Refused, by the bundle's rule of adoption or by the API server: the application would fail.
    #[schemars(schema_with = "schema::unsigned")]
    pub refuse: u64,
    /// Edgefleet's, and no longer in the bundle: they would be deleted.
    #[schemars(schema_with = "schema::unsigned")]
    pub delete: u64,
}

/// What applying a bundle would do on one cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Preview {
    /// Of all objects.
    pub objects: PreviewCounts,
    /// The first of the objects that would not stay as they are, or be taken over unchanged.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<PreviewedObject>,
}

/// What would become of one object.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct PreviewedObject {
    /// Such as `Deployment radio/gateway`.
    pub object: String,
    /// What, in one word, such as `WouldChange`.
    pub reason: String,
    /// Which fields, or why.
    pub message: String,
}

impl PreviewCounts {
    /// Adds what is counted elsewhere.
    pub fn add(&mut self, other: Self) {
        self.unchanged += other.unchanged;
        self.create += other.create;
        self.change += other.change;
        self.adopt += other.adopt;
        self.conflict += other.conflict;
        self.refuse += other.refuse;
        self.delete += other.delete;
    }
}

/// In the words of the cluster that says it.
impl fmt::Display for PreviewCounts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { unchanged, create, change, adopt, conflict, refuse, delete } = *self;
        let count = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        let said = documents::Preview {
            unchanged: count(unchanged),
            create: count(create),
            change: count(change),
            adopt: count(adopt),
            conflict: count(conflict),
            refuse: count(refuse),
            delete: count(delete),
            objects: Vec::new(),
        };
        write!(f, "{said}")
    }
}
