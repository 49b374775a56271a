//! Who owns which field of an object: what every write leaves behind, and what applying goes by (KEP-555).

use apimachinery::apply::{self, ApplyError, Manager};
use serde_json::Value;

use super::failure::{self, Failure};
use super::{ObjectKey, Part};
use crate::resources::{API_VERSION, FieldPath, Kind};

/// Notes who wrote what when `old` became `value`, by a create, a replacement or a patch.
pub(super) fn track(
    kind: Kind,
    part: Part,
    old: Option<&Value>,
    value: &Value,
    name: &str,
    time: &str,
) -> Result<Value, Failure> {
    let manager = manager(part, name, time);
    let tracked = apply::track_update(old, value, &manager, &kind.definition().topology);
    tracked.map(|tracked| tracked.object).map_err(|error| refused(&error))
}

/// What `old`, or nothing, becomes when a manager applies what it declares.
pub(super) fn apply(
    kind: Kind,
    part: Part,
    old: Option<&Value>,
    declared: &Value,
    force: bool,
    name: &str,
    time: &str,
) -> Result<Value, Failure> {
    let manager = manager(part, name, time);
    let topology = &kind.definition().topology;
    let applied = apply::apply(old, declared, &manager, force, topology);
    applied.map(|applied| applied.object).map_err(|error| refused(&error))
}

/// Refuses what was applied with fields that the kind does not have, in the API server's words.
pub(super) fn undeclared(key: &ObjectKey, unknown: &[FieldPath]) -> Result<(), Failure> {
    let lines: Vec<String> =
        unknown.iter().map(|path| format!(".{path}: field not declared in schema")).collect();
    let problem = match lines.as_slice() {
        [] => return Ok(()),
        [one] => one.clone(),
        several => format!("errors:\n  {}", several.join("\n  ")),
    };
    let (object, kind) = (format!("{}/{}", key.namespace, key.name), key.kind.name());
    let what = format!("failed to create typed patch object ({object}; {API_VERSION}, Kind={kind})");
    Err(failure::new(500, "", format!("{what}: {problem}")))
}

const fn manager<'a>(part: Part, name: &'a str, time: &'a str) -> Manager<'a> {
    let subresource = match part {
        Part::Main => "",
        Part::Status => "status",
    };
    Manager { name, api_version: API_VERSION, subresource, time }
}

fn refused(error: &ApplyError) -> Failure {
    match error {
        ApplyError::Conflicts(conflicts) => failure::conflicts(conflicts),
        ApplyError::Version { .. }
        | ApplyError::Kind { .. }
        | ApplyError::ManagedFieldsGiven
        | ApplyError::Time { .. }
        | ApplyError::TooDeep
        | ApplyError::List(_)
        | ApplyError::ManagedFields(_) => failure::bad_request(failure::chain(error)),
    }
}
