//! Objects that `kubectl apply` kept before it applied on the server: their annotation is honoured once and
//! kept up to date, for the manager `kubectl` alone.

use serde_json::Value;

use super::walk::{check_unique, compare, field_set};
use crate::fields::FieldSet;
use crate::meta::ObjectView;
use crate::schema::Topology;

/// Where client-side apply keeps what it applied.
pub(super) const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The manager that takes over from client-side apply.
pub(super) const KUBECTL: &str = "kubectl";

/// How much all annotations of an object may hold, keys included; the API server's limit.
const MAX_ANNOTATION_BYTES: usize = 256 * 1024;

/// The fields that client-side apply set and nobody changed since: they are kubectl's to change. Nothing if
/// the object bears no annotation that can be read.
pub(super) fn uncontested(live: &Value, api_version: &str, topology: &Topology) -> Option<FieldSet> {
    let text = ObjectView::new(live).annotation(ANNOTATION).filter(|text| !text.is_empty())?;
    let last_applied: Value = serde_json::from_str(text).ok()?;
    if ObjectView::new(&last_applied).api_version() != Some(api_version) {
        return None;
    }
    check_unique(&last_applied, topology.root()).and_then(|()| check_unique(live, topology.root())).ok()?;
    let change = compare(&last_applied, live, topology.root()).ok()?;
    let fields = field_set(&last_applied, topology.root()).ok()?;
    Some(fields.difference(&change.modified).difference(&change.added).difference(&change.removed))
}

/// Writes what was applied into the annotation of `object`, if it bears one.
pub(super) fn refresh(object: &mut Value, applied: &Value) {
    let Some(annotations) = object.pointer_mut("/metadata/annotations").and_then(Value::as_object_mut) else {
        return;
    };
    match annotations.get(ANNOTATION) {
        Some(Value::String(text)) if !text.is_empty() => {}
        _ => return,
    }
    let mut applied = applied.clone();
    if let Some(metadata) = applied.get_mut("metadata").and_then(Value::as_object_mut) {
        if let Some(annotations) = metadata.get_mut("annotations").and_then(Value::as_object_mut) {
            annotations.remove(ANNOTATION);
        }
        metadata.retain(|name, value| name != "annotations" || !value.is_null());
    }
    annotations.insert(ANNOTATION.to_owned(), (escape(&applied.to_string()) + "\n").into());
    let text_bytes = |value: &Value| value.as_str().map_or(0, str::len);
    if annotations.iter().map(|(key, value)| key.len() + text_bytes(value)).sum::<usize>()
        > MAX_ANNOTATION_BYTES
    {
        annotations.remove(ANNOTATION);
    }
}

/// Escapes within JSON what the API server escapes, which can stand only inside of its texts.
fn escape(json: &str) -> String {
    json.replace('<', "\\u003c").replace('>', "\\u003e").replace('&', "\\u0026")
}
