//! What only a server may set, and what therefore has no place in a bundle.

use serde_json::{Map, Value};

const METADATA: [&str; 8] = [
    "creationTimestamp",
    "deletionGracePeriodSeconds",
    "deletionTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "selfLink",
    "uid",
];

/// Made by `kubectl apply`: a second copy of the whole object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Removes what a server sets. Empty leftovers, such as generators write them, go without a warning.
pub(super) fn remove_server_fields(value: &mut Value, title: &str, warnings: &mut Vec<String>) {
    let mut removed = Vec::new();
    let Value::Object(object) = value else { return };
    take(object, "status", "", &mut removed);
    if let Some(Value::Object(metadata)) = object.get_mut("metadata") {
        for field in METADATA {
            take(metadata, field, "metadata.", &mut removed);
        }
        // With a name, no name is generated.
        metadata.remove("generateName");
        if let Some(Value::Object(annotations)) = metadata.get_mut("annotations") {
            take(annotations, LAST_APPLIED, "annotation ", &mut removed);
        }
    }
    if !removed.is_empty() {
        warnings.push(format!("{title}: left out {}, which only a server sets", removed.join(", ")));
    }
}

fn take(map: &mut Map<String, Value>, field: &str, prefix: &str, removed: &mut Vec<String>) {
    match map.remove(field) {
        None | Some(Value::Null) => {}
        Some(Value::Object(empty)) if empty.is_empty() => {}
        Some(_) => removed.push(format!("{prefix}{field}")),
    }
}
