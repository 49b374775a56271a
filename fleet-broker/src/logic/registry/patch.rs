//! Patches: what a client wants changed, without saying the rest.

use json_patch::PatchOperation;
use serde_json::Value;

use super::failure::{self, Failure};
use crate::resources::FieldError;

/// Most operations of one JSON patch, as in the API server.
const OPERATIONS_MAX: usize = 10_000;

/// A patch of one of the two kinds that need no schema.
#[derive(Clone, Debug)]
pub enum Patch {
    /// A JSON merge patch (RFC 7386): null deletes.
    Merge(Value),
    /// A JSON patch (RFC 6902): a list of operations.
    Json(Value),
}

impl Patch {
    /// What `object` becomes.
    ///
    /// # Errors
    /// When a JSON patch is malformed, or one of its operations or tests does not succeed.
    pub(super) fn apply(&self, object: &Value) -> Result<Value, Failure> {
        let mut patched = object.clone();
        match self {
            Patch::Merge(patch) if patch.is_object() => json_patch::merge(&mut patched, patch),
            Patch::Merge(_) => return Err(failure::bad_request("a merge patch of an object is an object")),
            Patch::Json(patch) => {
                let operations = operations(patch)?;
                json_patch::patch(&mut patched, &operations).map_err(|error| {
                    failure::invalid_patch(&[FieldError::invalid(
                        "patch",
                        &patch.to_string(),
                        &error.to_string(),
                    )])
                })?;
            }
        }
        Ok(patched)
    }

    /// The patch as JSON, to be quoted in an error.
    pub(super) fn text(&self) -> String {
        match self {
            Patch::Merge(patch) | Patch::Json(patch) => patch.to_string(),
        }
    }
}

fn operations(patch: &Value) -> Result<Vec<PatchOperation>, Failure> {
    let count = patch.as_array().map_or(0, Vec::len);
    if count > OPERATIONS_MAX {
        return Err(failure::too_large(format!(
            "The allowed maximum operations in a JSON patch is {OPERATIONS_MAX}, got {count}"
        )));
    }
    serde_json::from_value(patch.clone())
        .map_err(|error| failure::bad_request(format!("error decoding patch: {error}")))
}
