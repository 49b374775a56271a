//! What an object must be to be written, whoever writes it.

use apimachinery::names;
use serde_json::{Map, Value};

use super::failure::{self, Failure};
use super::{OBJECT_MAX_LEN, Object};
use crate::resources::{API_VERSION, FieldError, FieldPath, Kind, VERSION};

/// Most labels of one object: each is looked at by every selector.
pub(super) const LABELS_MAX: usize = 64;
/// Longest annotations of one object, all keys and values together, in bytes: the API server's limit.
pub(super) const ANNOTATIONS_MAX_LEN: usize = 256 * 1024;
/// Most finalizers of one object.
pub(super) const FINALIZERS_MAX: usize = 16;

/// What to do about fields that the kind does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FieldValidation {
    /// Leave them out.
    Ignore,
    /// Leave them out, and tell.
    Warn,
    /// Refuse the request.
    Strict,
}

/// Where the fields of an object came from, which decides how an unknown one is refused.
#[derive(Clone, Copy, Debug)]
pub(super) enum Origin<'a> {
    Body,
    Patch(&'a str),
}

/// Brings `value` to what is stored: of its kind's type, with defaults, without unknown fields.
pub(super) fn admit(
    kind: Kind,
    value: Value,
    old: Option<&Value>,
    validation: FieldValidation,
    origin: Origin<'_>,
) -> Result<(Value, Vec<String>), Failure> {
    let name = value["metadata"]["name"].as_str().unwrap_or_default().to_owned();
    let mut errors = check_metadata(kind, &value["metadata"]);
    let decoded = match kind.decode(value, old) {
        Ok(decoded) => decoded,
        Err(_) if name.is_empty() => return Err(failure::invalid(kind, &name, &errors)),
        Err(more) => {
            errors.extend(more);
            errors.dedup();
            return Err(failure::invalid(kind, &name, &errors));
        }
    };
    let unknown = decoded.unknown.iter().map(unknown_field).collect();
    let warnings = refuse_or_warn(kind, unknown, validation, origin)?;
    if !errors.is_empty() {
        return Err(failure::invalid(kind, &name, &errors));
    }
    Ok((decoded.value, warnings))
}

/// Checks `apiVersion` and `kind`, and that there is a `metadata` to write to.
pub(super) fn check_type(kind: Kind, value: &mut Value) -> Result<(), Failure> {
    let Some(object) = value.as_object_mut() else {
        return Err(failure::bad_request("the request's body must be a JSON object"));
    };
    check_type_field(object, "apiVersion", "API version", API_VERSION)?;
    check_type_field(object, "kind", "kind", kind.name())?;
    let metadata = object.entry("metadata").or_insert_with(|| Value::Object(Map::new()));
    if metadata.is_object() {
        return Ok(());
    }
    Err(failure::bad_request("metadata must be an object"))
}

/// Checks that an object fits in the store.
pub(super) fn check_size(object: &Object) -> Result<(), Failure> {
    let len = object.text().len();
    if len <= OBJECT_MAX_LEN {
        return Ok(());
    }
    Err(failure::too_large(format!("the object has {len} bytes, more than {OBJECT_MAX_LEN}")))
}

fn check_type_field(
    object: &Map<String, Value>,
    field: &str,
    words: &str,
    expected: &str,
) -> Result<(), Failure> {
    let actual = object.get(field).and_then(Value::as_str).unwrap_or_default();
    if actual == expected {
        return Ok(());
    }
    Err(failure::bad_request(format!(
        "the {words} in the data ({actual}) does not match the expected {words} ({expected})"
    )))
}

fn unknown_field(path: &FieldPath) -> String {
    format!("unknown field \"{path}\"")
}

fn refuse_or_warn(
    kind: Kind,
    unknown: Vec<String>,
    validation: FieldValidation,
    origin: Origin<'_>,
) -> Result<Vec<String>, Failure> {
    match validation {
        FieldValidation::Ignore => Ok(Vec::new()),
        FieldValidation::Warn => Ok(unknown),
        FieldValidation::Strict if unknown.is_empty() => Ok(unknown),
        FieldValidation::Strict => {
            let why = format!("strict decoding error: {}", unknown.join(", "));
            Err(match origin {
                Origin::Body => failure::bad_request(format!(
                    "{name} in version \"{VERSION}\" cannot be handled as a {name}: {why}",
                    name = kind.name()
                )),
                Origin::Patch(patch) => failure::invalid_patch(&[FieldError::invalid("patch", patch, &why)]),
            })
        }
    }
}

fn check_metadata(kind: Kind, metadata: &Value) -> Vec<FieldError> {
    let text = |field: &str| metadata[field].as_str().unwrap_or_default();
    let mut errors = Vec::new();
    if text("name").is_empty() {
        return vec![FieldError::required("metadata.name", "name or generateName is required")];
    }
    if let Err(why) = names::check_dns_subdomain(text("name")) {
        errors.push(FieldError::invalid("metadata.name", text("name"), &why));
    }
    if kind.is_namespaced()
        && let Err(why) = names::check_dns_label(text("namespace"))
    {
        errors.push(FieldError::invalid("metadata.namespace", text("namespace"), &why));
    }
    errors.extend(check_labels(&metadata["labels"]));
    errors.extend(check_annotations(&metadata["annotations"]));
    errors.extend(check_finalizers(&metadata["finalizers"]));
    errors
}

fn check_labels(labels: &Value) -> Vec<FieldError> {
    const FIELD: &str = "metadata.labels";
    let mut errors = Vec::new();
    let labels: Vec<_> = labels.as_object().into_iter().flatten().collect();
    if labels.len() > LABELS_MAX {
        errors.push(FieldError::too_many(FIELD, labels.len(), LABELS_MAX));
    }
    for (key, value) in labels {
        if let Err(why) = names::check_label_key(key) {
            errors.push(FieldError::invalid(FIELD, key, &why));
        }
        let value = value.as_str().unwrap_or_default();
        if let Err(why) = names::check_label_value(value) {
            errors.push(FieldError::invalid(FIELD, value, &why));
        }
    }
    errors
}

fn check_annotations(annotations: &Value) -> Vec<FieldError> {
    const FIELD: &str = "metadata.annotations";
    let mut errors = Vec::new();
    let mut len = 0;
    for (key, value) in annotations.as_object().into_iter().flatten() {
        len += key.len() + value.as_str().map_or(0, str::len);
        if let Err(why) = names::check_label_key(&key.to_lowercase()) {
            errors.push(FieldError::invalid(FIELD, key, &why));
        }
    }
    if len > ANNOTATIONS_MAX_LEN {
        let why = format!("must have at most {ANNOTATIONS_MAX_LEN} bytes");
        errors.push(FieldError::invalid(FIELD, "<annotations>", &why));
    }
    errors
}

fn check_finalizers(finalizers: &Value) -> Vec<FieldError> {
    const FIELD: &str = "metadata.finalizers";
    let finalizers: Vec<_> = finalizers.as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    let mut errors = Vec::new();
    if finalizers.len() > FINALIZERS_MAX {
        errors.push(FieldError::too_many(FIELD, finalizers.len(), FINALIZERS_MAX));
    }
    for finalizer in finalizers {
        if let Err(why) = names::check_label_key(finalizer) {
            errors.push(FieldError::invalid(FIELD, finalizer, &why));
        } else if !finalizer.contains('/') {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            errors.push(FieldError::invalid(FIELD, finalizer, why));
        }
    }
    errors
}
