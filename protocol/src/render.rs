//! From signed bytes to the object that is applied: check the digest, parse, set parameters, leave out what
//! belongs to others, and check again that it is still the object that was signed for.

use std::collections::BTreeMap;

use serde_json::Value;

use crate::{
    documents::{ObjectEntry, ParameterType, Release, pointer},
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
            Aim { entry, parameter, pointer }.set(&mut object, value)?;
        }
    }
    for pointer in release.ignored_pointers(entry) {
        remove(&mut object, pointer);
    }
    check_identity(entry, &object)?;
    // serde_json keeps a map's keys sorted, so the digest is the same however the release's author wrote it.
    let digest = Digest::of(object.to_string().as_bytes());
    Ok(Rendered { object, digest })
}

/// Refuses a parameter whose targets no parameter may set or that cannot hold its values, at the time a
/// release is made. `objects` are the release's, in its order.
pub fn check_targets(release: &Release, objects: &[Value]) -> Result<(), RenderError> {
    for (index, (entry, object)) in release.objects.iter().zip(objects).enumerate() {
        for parameter in &release.parameters {
            for pointer in targets_in(release, &parameter.name, index) {
                let aim = Aim { entry, parameter: &parameter.name, pointer };
                let place = aim.scalar_in(object)?;
                examples(&parameter.of).iter().try_for_each(|value| aim.typed(place, value).map(drop))?;
            }
        }
    }
    Ok(())
}

/// Values that fit a place only if every value of the type does.
fn examples(of: &ParameterType) -> Vec<String> {
    match of {
        ParameterType::Enum(values) => values.clone(),
        ParameterType::Integer { min, max } => vec![min.to_string(), max.to_string()],
        ParameterType::Text { .. } => vec![String::new()],
    }
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

/// One parameter aimed at one place.
struct Aim<'a> {
    entry: &'a ObjectEntry,
    parameter: &'a str,
    pointer: &'a str,
}

impl Aim<'_> {
    fn set(&self, object: &mut Value, value: &str) -> Result<(), RenderError> {
        let new = self.typed(self.scalar_in(object)?, value)?;
        if let Some(place) = object.pointer_mut(self.pointer) {
            *place = new;
        }
        Ok(())
    }

    fn scalar_in<'o>(&self, object: &'o Value) -> Result<&'o Value, RenderError> {
        if !self.entry.is_settable() {
            return Err(self.refuse("nothing in RBAC may be set"));
        }
        if !pointer::is_well_formed(self.pointer) || !pointer::may_be_set(self.pointer) {
            return Err(self.refuse("an object's identity may not be set"));
        }
        match object.pointer(self.pointer) {
            Some(value @ (Value::Bool(_) | Value::Number(_) | Value::String(_))) => Ok(value),
            Some(Value::Null | Value::Array(_) | Value::Object(_)) => {
                Err(self.refuse("only a whole scalar may be set"))
            }
            None => Err(self.refuse("it does not exist")),
        }
    }

    /// The value in the type that `place` holds.
    fn typed(&self, place: &Value, value: &str) -> Result<Value, RenderError> {
        let typed = match place {
            Value::Number(_) => value.parse::<i64>().ok().map(Value::from),
            Value::Bool(_) => value.parse::<bool>().ok().map(Value::from),
            Value::String(_) => Some(Value::from(value)),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        };
        typed.ok_or_else(|| self.refuse("the value is of another type"))
    }

    fn refuse(&self, rule: &'static str) -> RenderError {
        let (parameter, pointer) = (self.parameter.to_owned(), self.pointer.to_owned());
        RenderError::Target { object: self.entry.to_string(), parameter, pointer, rule }
    }
}

fn remove(object: &mut Value, pointer: &str) {
    let Some((parent, key)) = pointer.rsplit_once('/') else { return };
    let key = key.replace("~1", "/").replace("~0", "~");
    if let Some(Value::Object(map)) = object.pointer_mut(parent) {
        map.remove(&key);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_is_left_to_others_is_removed() {
        let object = json!({ "a": { "b/c": 1, "d~e": 2, "f": [{ "g": 3 }, 4] }, "": 5 });
        let cases = [
            ("/a/b~1c", json!({ "a": { "d~e": 2, "f": [{ "g": 3 }, 4] }, "": 5 })),
            ("/a/d~0e", json!({ "a": { "b/c": 1, "f": [{ "g": 3 }, 4] }, "": 5 })),
            ("/a/f/0/g", json!({ "a": { "b/c": 1, "d~e": 2, "f": [{}, 4] }, "": 5 })),
            ("/a", json!({ "": 5 })),
            ("/", json!({ "a": { "b/c": 1, "d~e": 2, "f": [{ "g": 3 }, 4] } })),
            // Elements of lists have no name of their own, so they stay; so does all that is not there.
            ("/a/f/1", object.clone()),
            ("/a/x", object.clone()),
            ("/x/y", object.clone()),
            ("a", object.clone()),
            ("", object.clone()),
        ];
        for (pointer, expected) in cases {
            let mut object = object.clone();
            remove(&mut object, pointer);
            assert_eq!(object, expected, "{pointer:?}");
        }
    }
}
