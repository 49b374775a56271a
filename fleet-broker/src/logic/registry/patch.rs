//! Patches: what a client wants changed, without saying the rest.

use apimachinery::patch::{PatchError, json_patch, merge_patch};
use serde_json::Value;

use super::failure::{self, Failure, chain};
use crate::resources::FieldError;

/// A patch of one of the two kinds that need no schema, as the client sent it.
#[derive(Clone, Debug)]
pub enum Patch {
    /// A JSON merge patch (RFC 7396): null deletes.
    Merge(Vec<u8>),
    /// A JSON patch (RFC 6902): a list of operations.
    Json(Vec<u8>),
}

impl Patch {
    /// What `object` becomes.
    ///
    /// # Errors
    /// When the patch is malformed or too large, or one of its operations or tests does not succeed.
    pub(super) fn apply(&self, object: &Value) -> Result<Value, Failure> {
        let patched = match self {
            Patch::Merge(patch) => merge_patch(object, patch),
            Patch::Json(patch) => json_patch(object, patch),
        };
        patched.map_err(|error| self.refused(&error))
    }

    /// The patch as text, to be quoted in an error.
    pub(super) fn text(&self) -> String {
        let (Patch::Merge(bytes) | Patch::Json(bytes)) = self;
        String::from_utf8_lossy(bytes).into_owned()
    }

    fn refused(&self, error: &PatchError) -> Failure {
        let why = chain(error);
        match error {
            PatchError::NotJson(_) | PatchError::NotOperations(_) => {
                failure::bad_request(format!("error decoding patch: {why}"))
            }
            PatchError::TooLarge(_)
            | PatchError::TooManyOperations(_)
            | PatchError::CopiesTooMuch
            | PatchError::TooDeep => failure::too_large(why),
            PatchError::Operation { .. } => {
                failure::invalid_patch(&[FieldError::invalid("patch", &self.text(), &why)])
            }
        }
    }
}
