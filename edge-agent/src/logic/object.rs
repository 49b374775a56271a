//! Which Kubernetes object: names that order, compare and print, and nothing else.

use std::fmt;

use serde_json::Value;
use thiserror::Error;

/// A kind of object: API group (empty for the core group), version and kind.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Gvk {
    /// API group, such as `apps`; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
}

impl Gvk {
    /// A kind from an `apiVersion` (`v1`, `apps/v1`) and a `kind`, as manifests write them.
    pub fn new(api_version: &str, kind: &str) -> Self {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        Self { group: group.into(), version: version.into(), kind: kind.into() }
    }

    /// The kind that an object says it is.
    pub fn of(object: &Value) -> Result<Self, ObjectError> {
        Ok(Self::new(text(object, "/apiVersion", "apiVersion")?, text(object, "/kind", "kind")?))
    }

    /// The `apiVersion` of this kind, as manifests write it.
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for Gvk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.kind, self.version)?;
        if self.group.is_empty() { Ok(()) } else { write!(f, ".{}", self.group) }
    }
}

/// One object of a cluster. Prints as an operator would say it: `Deployment radio/gateway`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectRef {
    /// Kind of the object.
    pub gvk: Gvk,
    /// Namespace; none for an object of the whole cluster.
    pub namespace: Option<String>,
    /// Name of the object.
    pub name: String,
}

impl ObjectRef {
    /// The identity that an object carries in itself.
    pub fn of(object: &Value) -> Result<Self, ObjectError> {
        Ok(Self {
            gvk: Gvk::of(object)?,
            namespace: object.pointer("/metadata/namespace").and_then(Value::as_str).map(str::to_owned),
            name: text(object, "/metadata/name", "metadata.name")?.to_owned(),
        })
    }
}

impl fmt::Display for ObjectRef {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.gvk.kind, self.name),
            None => write!(f, "{} {}", self.gvk.kind, self.name),
        }
    }
}

/// Why a JSON document is not a Kubernetes object.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum ObjectError {
    /// A field that every object has is missing, empty or not text.
    #[error("object without {field}: every manifest needs apiVersion, kind and metadata.name")]
    Missing {
        /// The field, as `kubectl explain` names it.
        field: &'static str,
    },
}

fn text<'a>(object: &'a Value, pointer: &str, field: &'static str) -> Result<&'a str, ObjectError> {
    match object.pointer(pointer).and_then(Value::as_str) {
        Some(text) if !text.is_empty() => Ok(text),
        Some(_) | None => Err(ObjectError::Missing { field }),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn an_object_names_itself() {
        let check = |object: Value, expected: Result<&str, &'static str>| {
            let got = ObjectRef::of(&object).map(|object| format!("{object}, {}", object.gvk));
            assert_eq!(got, expected.map(str::to_owned).map_err(|field| ObjectError::Missing { field }));
        };
        check(
            json!({"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"namespace": "radio", "name": "gateway"}}),
            Ok("Deployment radio/gateway, Deployment.v1.apps"),
        );
        check(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "radio"}}),
            Ok("Namespace radio, Namespace.v1"),
        );
        check(json!({"apiVersion": "v1", "metadata": {"name": "radio"}}), Err("kind"));
        check(json!({"kind": "Namespace", "metadata": {"name": "radio"}}), Err("apiVersion"));
        check(
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": ""}}),
            Err("metadata.name"),
        );
    }

    #[test]
    fn api_version_is_written_back() {
        for api_version in ["v1", "apps/v1", "edgefleet.dev/v1alpha1"] {
            assert_eq!(Gvk::new(api_version, "Anything").api_version(), api_version);
        }
    }
}
