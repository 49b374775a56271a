//! What the operator writes about a release: ignored fields on the command line, parameters in a file.

use std::{fmt, str::FromStr};

use protocol::documents::ParameterType;
use serde::Deserialize;
use serde_json::Value;

use crate::{
    manifest::Object,
    yaml::{self, YamlError},
};

/// A field that belongs to others: `KIND[/NAME]:POINTER`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IgnoreOption {
    /// The objects' kind.
    pub kind: String,
    /// One object's name; every object of the kind where absent.
    pub name: Option<String>,
    /// JSON pointer (RFC 6901).
    pub pointer: String,
}

impl IgnoreOption {
    pub(super) fn names(&self, object: &Object) -> bool {
        self.kind == object.kind && self.name.as_deref().is_none_or(|name| name == object.name.as_str())
    }
}

impl FromStr for IgnoreOption {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let rule = "write it as KIND[/NAME]:/FIELD/..., such as Deployment/gateway:/spec/replicas";
        let (object, pointer) = text.split_once(":/").ok_or(rule)?;
        let (kind, name) = match object.split_once('/') {
            Some((kind, name)) => (kind, Some(name)),
            None => (object, None),
        };
        if kind.is_empty() || name.is_some_and(str::is_empty) || pointer.is_empty() {
            return Err(rule.to_owned());
        }
        Ok(Self { kind: kind.to_owned(), name: name.map(str::to_owned), pointer: format!("/{pointer}") })
    }
}

impl fmt::Display for IgnoreOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.kind)?;
        self.name.as_ref().map_or(Ok(()), |name| write!(f, "/{name}"))?;
        write!(f, ":{}", self.pointer)
    }
}

/// A parameter that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ParameterError {
    /// None, or more than one, of the three types.
    #[error("needs exactly one of enum, integer and text")]
    Type,
    /// A value that is a list or a mapping.
    #[error("{0} is not a single value")]
    NotAScalar(String),
    /// A target that is not there.
    #[error("its target {0} is not among the objects")]
    NoObject(String),
    /// A target that is not one object.
    #[error("its target {0} matches several objects; name its namespace")]
    SeveralObjects(String),
}

/// A file of parameters that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum ParameterFileError {
    /// Neither YAML nor JSON.
    #[error("{file}:{}:{}: {}", .problem.line, .problem.column, .problem.problem)]
    Syntax {
        /// Which file.
        file: String,
        /// What is wrong in it, and where.
        problem: YamlError,
    },
    /// Not a list of parameters.
    #[error(
        "{file} is not a list of parameters, each with a name, one of enum, integer and text, and targets"
    )]
    Shape {
        /// Which file.
        file: String,
        /// What is wrong.
        #[source]
        source: Option<serde_json::Error>,
    },
}

/// One parameter, as it is written in a file.
#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
pub struct ParameterSpec {
    /// Its name.
    pub name: String,
    /// The values it takes.
    #[serde(rename = "enum")]
    values: Option<Vec<Value>>,
    /// The whole numbers it takes.
    integer: Option<Range>,
    /// The text it takes.
    text: Option<TextRule>,
    default: Option<Value>,
    /// Where it goes.
    pub targets: Vec<TargetSpec>,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Range {
    min: i64,
    max: i64,
}

#[derive(Debug, Clone, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct TextRule {
    charset: String,
    max_bytes: u16,
}

/// Where a parameter goes, as it is written in a file.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TargetSpec {
    kind: String,
    name: String,
    namespace: Option<String>,
    /// JSON pointer (RFC 6901) to an existing scalar.
    pub pointer: String,
}

impl TargetSpec {
    pub(super) fn names(&self, object: &Object) -> bool {
        let namespace = object.namespace.as_ref().map(|name| name.as_str());
        self.kind == object.kind
            && self.name == object.name.as_str()
            && self.namespace.as_deref().is_none_or(|wanted| Some(wanted) == namespace)
    }
}

impl fmt::Display for TargetSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (namespace, slash) = self.namespace.as_deref().map_or(("", ""), |namespace| (namespace, "/"));
        write!(f, "{} {namespace}{slash}{}", self.kind, self.name)
    }
}

impl ParameterSpec {
    pub(super) fn of(&self) -> Result<ParameterType, ParameterError> {
        match (&self.values, &self.integer, &self.text) {
            (Some(values), None, None) => {
                Ok(ParameterType::Enum(values.iter().map(text).collect::<Result<_, _>>()?))
            }
            (None, Some(Range { min, max }), None) => Ok(ParameterType::Integer { min: *min, max: *max }),
            (None, None, Some(TextRule { charset, max_bytes })) => {
                Ok(ParameterType::Text { charset: charset.clone(), max_bytes: *max_bytes })
            }
            _ => Err(ParameterError::Type),
        }
    }

    pub(super) fn default_text(&self) -> Result<Option<String>, ParameterError> {
        self.default.as_ref().map(text).transpose()
    }
}

fn text(value: &Value) -> Result<String, ParameterError> {
    match value {
        Value::String(text) => Ok(text.clone()),
        Value::Bool(_) | Value::Number(_) => Ok(value.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => {
            Err(ParameterError::NotAScalar(value.to_string()))
        }
    }
}

/// Reads a file of parameters: a list of them, or a mapping whose one key `parameters` holds the list.
pub fn read_parameters(file: &str, content: &str) -> Result<Vec<ParameterSpec>, ParameterFileError> {
    let documents = yaml::read(content)
        .map_err(|problem| ParameterFileError::Syntax { file: file.to_owned(), problem })?;
    let shape = |source| ParameterFileError::Shape { file: file.to_owned(), source };
    let [mut document] = <[_; 1]>::try_from(documents).map_err(|_| shape(None))?;
    let inner = document.value.as_object_mut().filter(|map| map.len() == 1);
    let list = inner.and_then(|map| map.remove("parameters")).unwrap_or(document.value);
    serde_json::from_value(list).map_err(|source| shape(Some(source)))
}
