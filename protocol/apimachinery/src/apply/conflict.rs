//! What an applier would overwrite of others', and how the API server says so.

use std::collections::BTreeMap;
use std::fmt;

use serde_json::{Value, json};

use super::managed::{ManagerId, Operation};
use crate::fields::{Path, quote};

/// One field that another manager owns and that would change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    manager: ManagerId,
    api_version: String,
    path: Path,
}

impl Conflict {
    pub(super) fn new(manager: &ManagerId, api_version: &str, path: Path) -> Self {
        Self { manager: manager.clone(), api_version: api_version.to_owned(), path }
    }

    /// The name of the manager that owns the field.
    #[must_use]
    pub fn manager(&self) -> &str {
        &self.manager.name
    }

    /// How that manager came to own it.
    #[must_use]
    pub fn operation(&self) -> Operation {
        self.manager.operation
    }

    /// The field.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// The manager as the API server's messages name it.
    fn owner(&self) -> String {
        let mut owner = quote(&self.manager.name);
        if !self.manager.subresource.is_empty() {
            owner.push_str(&format!(" with subresource {}", quote(&self.manager.subresource)));
        }
        if self.manager.operation == Operation::Update {
            owner.push_str(&format!(" using {}", self.api_version));
        }
        owner
    }
}

/// All fields in conflict, by manager. Displayed as the message of the Status.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflicts(Vec<Conflict>);

impl std::error::Error for Conflicts {}

impl Conflicts {
    pub(super) fn new(conflicts: Vec<Conflict>) -> Self {
        Self(conflicts)
    }

    /// Whether there are none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Every conflict.
    pub fn iter(&self) -> impl Iterator<Item = &Conflict> {
        self.0.iter()
    }

    pub(super) fn retain(&mut self, keep: impl Fn(&Conflict) -> bool) {
        self.0.retain(keep);
    }

    /// The `Status` with which the API server refuses: 409, with a cause for each field.
    #[must_use]
    pub fn status(&self) -> Value {
        let cause = |conflict: &Conflict| {
            json!({
                "reason": "FieldManagerConflict",
                "message": format!("conflict with {}", conflict.owner()),
                "field": conflict.path.to_string(),
            })
        };
        json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "reason": "Conflict",
            "details": {"causes": self.0.iter().map(cause).collect::<Vec<_>>()},
            "code": 409,
        })
    }
}

impl fmt::Display for Conflicts {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let [conflict] = &self.0[..] {
            return write!(
                out,
                "Apply failed with 1 conflict: conflict with {}: {}",
                conflict.owner(),
                conflict.path
            );
        }
        let mut of_manager: BTreeMap<_, Vec<_>> = BTreeMap::new();
        for conflict in &self.0 {
            of_manager.entry(&conflict.manager).or_default().push(conflict);
        }
        let mut lines = Vec::new();
        for conflicts in of_manager.values() {
            lines.extend(conflicts.first().map(|first| format!("conflicts with {}:", first.owner())));
            lines.extend(conflicts.iter().map(|conflict| format!("- {}", conflict.path)));
        }
        write!(out, "Apply failed with {} conflicts: {}", self.0.len(), lines.join("\n"))
    }
}
