//! From signed bytes to the object that is applied: check the digest, parse, set parameters, leave out what
//! belongs to others, and check again that it is still the object that was signed for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    documents::{ObjectEntry, Release},
    ids::Digest,
};

/// An object ready to be applied.
#[derive(Debug, Clone, PartialEq)]
pub struct Rendered {
    /// The object.
    pub object: Value,
    /// Digest of its JSON with sorted keys: what is journaled and compared.
    pub digest: Digest,
}

/// Why an object of a release cannot be made ready.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum RenderError {
    /// The bytes are not those that were signed.
    #[error("{object}: content has digest {found}, the release says {expected}")]
    Digest {
        /// Which object.
        object: String,
        /// What came.
        found: String,
        /// What was signed.
        expected: String,
    },
    /// The bytes are not JSON.
    #[error("{object}: content is not JSON: {problem}")]
    Json {
        /// Which object.
        object: String,
        /// What is wrong and where.
        problem: String,
    },
    /// The content is another object than the release says.
    #[error("{object}: content names {field} {found:?}")]
    Identity {
        /// Which object the release says.
        object: String,
        /// What differs.
        field: &'static str,
        /// What the content says.
        found: String,
    },
    /// A parameter aims at what no parameter may touch.
    #[error("{object}: parameter {parameter} may not set {pointer}: {rule}")]
    Target {
        /// Which object.
        object: String,
        /// Which parameter.
        parameter: String,
        /// Where it aims.
        pointer: String,
        /// What forbids it.
        rule: &'static str,
    },
}

/// Makes the object at `index` of `release` ready. `values` are resolved (see [`Release::resolve`]).
pub fn render(
    release: &Release,
    index: usize,
    bytes: &[u8],
    values: &BTreeMap<String, String>,
) -> Result<Rendered, RenderError> {
    let entry = &release.objects[index];
    let found = Digest::of(bytes);
    if found != entry.sha256 {
        let (found, expected) = (found.short(), entry.sha256.short());
        return Err(RenderError::Digest { object: entry.to_string(), found, expected });
    }
    let mut object: Value = serde_json::from_slice(bytes)
        .map_err(|error| RenderError::Json { object: entry.to_string(), problem: error.to_string() })?;
    check_identity(entry, &object)?;
    for (parameter, value) in values {
        for pointer in targets_in(release, parameter, index) {
            set(entry, &mut object, parameter, pointer, value)?;
        }
    }
    for pointer in release.ignored_pointers(entry) {
        remove(&mut object, pointer);
    }
    check_identity(entry, &object)?;
    let digest = Digest::of(object.to_string().as_bytes());
    Ok(Rendered { object, digest })
}

/// Refuses a parameter whose targets no parameter may set, at the time a release is made.
pub fn check_targets(release: &Release, objects: &[Value]) -> Result<(), RenderError> {
    for parameter in &release.parameters {
        for target in &parameter.targets {
            let (entry, object) =
                (&release.objects[target.object as usize], &objects[target.object as usize]);
            scalar_at(entry, object, &parameter.name, &target.pointer)?;
        }
    }
    Ok(())
}

fn targets_in<'a>(release: &'a Release, parameter: &str, index: usize) -> impl Iterator<Item = &'a str> {
    let declared = release.parameters.iter().find(|declared| declared.name == parameter);
    let targets = declared.into_iter().flat_map(|declared| &declared.targets);
    targets.filter(move |target| target.object as usize == index).map(|target| target.pointer.as_str())
}

fn check_identity(entry: &ObjectEntry, object: &Value) -> Result<(), RenderError> {
    let api_version = match entry.group.as_str() {
        "" => entry.version.clone(),
        group => format!("{group}/{}", entry.version),
    };
    let namespace = entry.namespace.as_ref().map(|namespace| namespace.as_str());
    let fields = [
        ("apiVersion", "/apiVersion", Some(api_version.as_str())),
        ("kind", "/kind", Some(entry.kind.as_str())),
        ("name", "/metadata/name", Some(entry.name.as_str())),
        ("namespace", "/metadata/namespace", namespace),
    ];
    for (field, pointer, expected) in fields {
        let found = object.pointer(pointer);
        if found.and_then(Value::as_str) != expected || found.is_some() != expected.is_some() {
            let found = found.map_or_else(|| "nothing".to_owned(), Value::to_string);
            return Err(RenderError::Identity { object: entry.to_string(), field, found });
        }
    }
    Ok(())
}

fn set(
    entry: &ObjectEntry,
    object: &mut Value,
    parameter: &str,
    pointer: &str,
    value: &str,
) -> Result<(), RenderError> {
    let new = match scalar_at(entry, object, parameter, pointer)? {
        Value::Number(_) => value.parse::<i64>().ok().map(Value::from),
        Value::Bool(_) => value.parse::<bool>().ok().map(Value::from),
        Value::String(_) => Some(Value::from(value)),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    };
    let new = new.ok_or_else(|| refuse(entry, parameter, pointer, "the value is of another type"))?;
    if let Some(place) = object.pointer_mut(pointer) {
        *place = new;
    }
    Ok(())
}

fn scalar_at<'a>(
    entry: &ObjectEntry,
    object: &'a Value,
    parameter: &str,
    pointer: &str,
) -> Result<&'a Value, RenderError> {
    let refuse = |rule| Err(refuse(entry, parameter, pointer, rule));
    if entry.group == "rbac.authorization.k8s.io" {
        return refuse("nothing in RBAC may be set");
    }
    let free_metadata = ["/metadata/labels/", "/metadata/annotations/"];
    let top = pointer.split('/').nth(1).unwrap_or_default();
    let identity = top == "apiVersion" || top == "kind";
    let metadata = top == "metadata" && !free_metadata.iter().any(|start| pointer.starts_with(start));
    if identity || metadata {
        return refuse("an object's identity may not be set");
    }
    match object.pointer(pointer) {
        Some(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => Ok(value),
        Some(Value::Null | Value::Array(_) | Value::Object(_)) => refuse("only a whole scalar may be set"),
        None => refuse("it does not exist"),
    }
}

fn refuse(entry: &ObjectEntry, parameter: &str, pointer: &str, rule: &'static str) -> RenderError {
    let (parameter, pointer) = (parameter.to_owned(), pointer.to_owned());
    RenderError::Target { object: entry.to_string(), parameter, pointer, rule }
}

fn remove(object: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let key = key.replace("~1", "/").replace("~0", "~");
    if let Some(Value::Object(map)) = object.pointer_mut(parent) {
        map.remove(&key);
    }
}
