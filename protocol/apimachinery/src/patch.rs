//! The two patches of JSON: merge patch (RFC 7396) and JSON patch (RFC 6902).

use json_patch::{Patch, PatchOperation};
use serde_json::Value;

use crate::meta::{MAX_JSON_DEPTH, is_at_most_deep};

/// How many operations one JSON patch may have; the API server's own limit.
pub const MAX_OPERATIONS: usize = 10_000;

/// How large a patch may be, in bytes: what the API server reads of any request body.
pub const MAX_PATCH_BYTES: usize = 3 * 1024 * 1024;

/// A patch that cannot be read or does not fit.
#[derive(Debug, thiserror::Error)]
pub enum PatchError {
    /// The patch is not JSON.
    #[error("the patch is not JSON")]
    NotJson(#[source] serde_json::Error),
    /// The patch is JSON, but no list of operations.
    #[error("the JSON patch is not a list of operations: each needs op, path, and value or from")]
    NotOperations(#[source] serde_json::Error),
    /// The patch is larger than [`MAX_PATCH_BYTES`].
    #[error("the patch has {0} bytes: {MAX_PATCH_BYTES} are allowed")]
    TooLarge(usize),
    /// The patch has more operations than [`MAX_OPERATIONS`].
    #[error("the JSON patch has {0} operations: {MAX_OPERATIONS} are allowed")]
    TooManyOperations(usize),
    /// The copy operations together copy more than [`MAX_PATCH_BYTES`].
    #[error("the JSON patch copies more than {MAX_PATCH_BYTES} bytes")]
    CopiesTooMuch,
    /// The patched object would be nested too deep.
    #[error("the patched object is nested deeper than {MAX_JSON_DEPTH} levels")]
    TooDeep,
    /// One operation does not fit the object.
    #[error("operation {position} of the JSON patch, {operation} \"{path}\", does not fit the object")]
    Operation {
        /// The place of the operation in the patch, from 0.
        position: usize,
        /// Its `op`.
        operation: &'static str,
        /// Its `path`.
        path: String,
        /// Why it does not fit.
        #[source]
        source: json_patch::PatchErrorKind,
    },
}

/// The object after a merge patch (RFC 7396): null deletes, objects merge, all else replaces.
///
/// # Errors
/// When the patch is no JSON or exceeds a limit.
pub fn merge_patch(object: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let patch = parse(patch)?;
    let mut patched = object.clone();
    json_patch::merge(&mut patched, &patch);
    check_depth(patched)
}

/// The object after a JSON patch (RFC 6902): all its operations, or none.
///
/// # Errors
/// When the patch is no list of operations, exceeds a limit, or has an operation that does not fit.
pub fn json_patch(object: &Value, patch: &[u8]) -> Result<Value, PatchError> {
    let Patch(operations) = serde_json::from_value(parse(patch)?).map_err(PatchError::NotOperations)?;
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooManyOperations(operations.len()));
    }
    let mut patched = object.clone();
    let mut copied_bytes = 0;
    for (position, operation) in operations.iter().enumerate() {
        copied_bytes += bytes_to_copy(operation, &patched);
        if copied_bytes > MAX_PATCH_BYTES {
            return Err(PatchError::CopiesTooMuch);
        }
        // Unsafe as it leaves the document half patched on error; this one is dropped then.
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation)).map_err(|error| {
            PatchError::Operation {
                position,
                operation: name(operation),
                path: error.path.to_string(),
                source: error.kind,
            }
        })?;
    }
    check_depth(patched)
}

fn parse(patch: &[u8]) -> Result<Value, PatchError> {
    if patch.len() > MAX_PATCH_BYTES {
        return Err(PatchError::TooLarge(patch.len()));
    }
    serde_json::from_slice(patch).map_err(PatchError::NotJson)
}

/// A copy can double the document, so a few dozen of them could fill any memory.
fn bytes_to_copy(operation: &PatchOperation, document: &Value) -> usize {
    match operation {
        PatchOperation::Copy(copy) => {
            document.pointer(copy.from.as_str()).map_or(0, |value| value.to_string().len())
        }
        PatchOperation::Add(_)
        | PatchOperation::Remove(_)
        | PatchOperation::Replace(_)
        | PatchOperation::Move(_)
        | PatchOperation::Test(_) => 0,
    }
}

fn name(operation: &PatchOperation) -> &'static str {
    match operation {
        PatchOperation::Add(_) => "add",
        PatchOperation::Remove(_) => "remove",
        PatchOperation::Replace(_) => "replace",
        PatchOperation::Move(_) => "move",
        PatchOperation::Copy(_) => "copy",
        PatchOperation::Test(_) => "test",
    }
}

fn check_depth(patched: Value) -> Result<Value, PatchError> {
    if is_at_most_deep(&patched, MAX_JSON_DEPTH) { Ok(patched) } else { Err(PatchError::TooDeep) }
}

#[cfg(test)]
mod tests {
    use std::error::Error;

    use serde_json::json;

    use super::*;

    #[test]
    fn merge_patches_follow_the_examples_of_rfc_7396() {
        for (object, patch, patched) in [
            (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
            (json!({"a": "b"}), json!({"a": null}), json!({})),
            (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
            (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
            (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
            (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
            (json!([1, 2]), json!({"a": "b", "c": null}), json!({"a": "b"})),
            (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
        ] {
            assert_eq!(merge_patch(&object, patch.to_string().as_bytes()).unwrap(), patched, "{patch}");
        }
    }

    #[test]
    fn json_patches_follow_rfc_6902() {
        let object = json!({"a": {"b": [1, 2]}, "m/n": 1});
        for (patch, patched) in [
            (json!([]), object.clone()),
            (json!([{"op": "add", "path": "/a/b/-", "value": 3}]), json!({"a": {"b": [1, 2, 3]}, "m/n": 1})),
            (json!([{"op": "add", "path": "/a/b/0", "value": 0}]), json!({"a": {"b": [0, 1, 2]}, "m/n": 1})),
            (json!([{"op": "remove", "path": "/m~1n"}]), json!({"a": {"b": [1, 2]}})),
            (json!([{"op": "replace", "path": "/a", "value": 1}]), json!({"a": 1, "m/n": 1})),
            (json!([{"op": "move", "from": "/a/b", "path": "/c"}]), json!({"a": {}, "c": [1, 2], "m/n": 1})),
            (
                json!([{"op": "test", "path": "/m~1n", "value": 1}, {"op": "copy", "from": "/m~1n", "path": "/a"}]),
                json!({"a": 1, "m/n": 1}),
            ),
        ] {
            assert_eq!(json_patch(&object, patch.to_string().as_bytes()).unwrap(), patched, "{patch}");
        }
    }

    #[test]
    fn what_does_not_fit_is_named() {
        let object = json!({"a": 1});
        let test = json!({"op": "test", "path": "/a", "value": 1});
        for (patch, message, cause) in [
            (
                json!([test, {"op": "test", "path": "/a", "value": 2}]),
                "operation 1 of the JSON patch, test \"/a\", does not fit the object",
                "value did not match",
            ),
            (
                json!([{"op": "remove", "path": "/b/c"}]),
                "operation 0 of the JSON patch, remove \"/b/c\", does not fit the object",
                "path is invalid",
            ),
            (
                json!([{"op": "copy", "from": "/b", "path": "/c"}]),
                "operation 0 of the JSON patch, copy \"/c\", does not fit the object",
                "\"from\" path is invalid",
            ),
            (
                json!({"a": 1}),
                "the JSON patch is not a list of operations: each needs op, path, and value or from",
                "invalid type: map, expected a sequence",
            ),
        ] {
            let error = json_patch(&object, patch.to_string().as_bytes()).unwrap_err();
            assert_eq!(error.to_string(), message);
            assert_eq!(error.source().unwrap().to_string(), cause);
        }
        assert!(matches!(merge_patch(&object, b"{"), Err(PatchError::NotJson(_))));
    }

    #[test]
    fn patches_keep_to_their_limits() {
        let object = json!({"a": "x".repeat(1024)});
        let test = json!({"op": "test", "path": "/a", "value": 1});
        let many = Value::Array(vec![test; MAX_OPERATIONS + 1]).to_string();
        assert!(matches!(json_patch(&object, many.as_bytes()), Err(PatchError::TooManyOperations(10_001))));
        let large = " ".repeat(MAX_PATCH_BYTES + 1);
        assert!(matches!(merge_patch(&object, large.as_bytes()), Err(PatchError::TooLarge(_))));
        // Each copies the whole object into itself.
        let doubling: Vec<_> =
            (0..64).map(|n| json!({"op": "copy", "from": "", "path": format!("/{n}")})).collect();
        let doubling = Value::Array(doubling).to_string();
        assert!(matches!(json_patch(&object, doubling.as_bytes()), Err(PatchError::CopiesTooMuch)));
        let down = |depth: usize| json!([{"op": "copy", "from": "", "path": "/a".repeat(depth)}]).to_string();
        let deep = (0..100).fold(json!({}), |below, _| json!({"a": below}));
        assert!(matches!(json_patch(&deep, down(60).as_bytes()), Err(PatchError::TooDeep)));
    }
}
