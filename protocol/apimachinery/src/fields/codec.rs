//! FieldsV1, the JSON form of a set of paths.
//!
//! Each path element is a key; `{}` below it says that the path is in the set and nothing beneath it is;
//! the key `.` says that the path is in the set as well as something beneath it.

use serde::ser::{Serialize, SerializeMap, Serializer};
use serde_json::{Map, Value};

use super::{FieldSet, MAX_PATHS, Node, PathElement, Scalar};
use crate::meta::MAX_DEPTH;

const SELF: &str = ".";

/// A JSON value that is not FieldsV1.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// The text is not JSON.
    #[error("FieldsV1 is not JSON")]
    NotJson(#[source] SourceText),
    /// A level is not an object.
    #[error("FieldsV1 at \"{at}\" is not an object: write {{}} for a path that is owned itself")]
    NotAnObject {
        /// The key whose value it is; empty at the top.
        at: String,
    },
    /// A key does not begin with a letter and a colon.
    #[error("FieldsV1 key \"{0}\" has no type: begin it with f:, k:, v: or i:")]
    NoType(String),
    /// What follows the colon does not fit the type of the key.
    #[error(
        "FieldsV1 key \"{0}\" does not hold what its type promises: k: an object of scalars, v: a scalar, i: a number"
    )]
    BadContent(String),
    /// Nested deeper than [`MAX_DEPTH`].
    #[error("FieldsV1 is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    /// More keys than [`MAX_PATHS`].
    #[error("FieldsV1 has more than {MAX_PATHS} paths")]
    TooManyPaths,
}

/// What a parser said, kept as text so that errors can be compared.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct SourceText(String);

impl FieldSet {
    /// Reads FieldsV1. Path elements of an unknown type are left out, as the API server leaves them out.
    ///
    /// # Errors
    /// When `fields` is not FieldsV1, or exceeds a limit.
    pub fn from_value(fields: &Value) -> Result<Self, FieldsError> {
        let mut paths_left = MAX_PATHS;
        // The deepest path of an object ends in a level of its own.
        Ok(parse_level(fields, "", MAX_DEPTH + 1, &mut paths_left)?.below)
    }

    /// Reads the text of FieldsV1.
    ///
    /// # Errors
    /// When `text` is not FieldsV1, or exceeds a limit.
    pub fn from_json(text: &str) -> Result<Self, FieldsError> {
        let value = serde_json::from_str(text)
            .map_err(|error| FieldsError::NotJson(SourceText(error.to_string())))?;
        Self::from_value(&value)
    }

    /// Writes FieldsV1.
    #[must_use]
    pub fn to_value(&self) -> Value {
        let entry = |(element, node): (&PathElement, &Node)| {
            let mut below = node.below.to_value();
            if let (Value::Object(map), true) = (&mut below, node.is_owned && !node.below.is_empty()) {
                map.insert(SELF.to_owned(), Value::Object(Map::new()));
            }
            (write_element(element), below)
        };
        Value::Object(self.nodes.iter().map(entry).collect())
    }
}

/// Writes FieldsV1 with its keys in the order in which the API server writes them.
impl Serialize for FieldSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_level(self, false, serializer)
    }
}

impl Serialize for Node {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serialize_level(&self.below, self.is_owned && !self.below.is_empty(), serializer)
    }
}

fn serialize_level<S: Serializer>(set: &FieldSet, with_self: bool, serializer: S) -> Result<S::Ok, S::Error> {
    let mut map = serializer.serialize_map(Some(set.nodes.len() + usize::from(with_self)))?;
    if with_self {
        map.serialize_entry(SELF, &Map::new())?;
    }
    for (element, node) in &set.nodes {
        map.serialize_entry(&write_element(element), node)?;
    }
    map.end()
}

fn parse_level(
    value: &Value,
    at: &str,
    depth_left: usize,
    paths_left: &mut usize,
) -> Result<Node, FieldsError> {
    let depth_left = depth_left.checked_sub(1).ok_or(FieldsError::TooDeep)?;
    let mut node = Node::default();
    let entries = match value {
        Value::Object(entries) => entries.iter(),
        Value::Null => return Ok(Node { is_owned: true, ..node }),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(FieldsError::NotAnObject { at: at.to_owned() });
        }
    };
    for (key, value) in entries {
        if key == SELF {
            node.is_owned = true;
            continue;
        }
        *paths_left = paths_left.checked_sub(1).ok_or(FieldsError::TooManyPaths)?;
        if let Some(element) = parse_element(key)? {
            node.below.put(element, parse_level(value, key, depth_left, paths_left)?);
        }
    }
    node.is_owned |= node.below.is_empty();
    Ok(node)
}

fn parse_element(key: &str) -> Result<Option<PathElement>, FieldsError> {
    let bad_content = || FieldsError::BadContent(key.to_owned());
    let (kind, content) = key
        .split_once(':')
        .filter(|(kind, _)| kind.len() == 1)
        .ok_or_else(|| FieldsError::NoType(key.to_owned()))?;
    let scalar = |value: &Value| Scalar::from_value(value).ok_or_else(bad_content);
    Ok(Some(match kind {
        "f" => PathElement::field(content),
        "v" => PathElement::Value(scalar(&serde_json::from_str(content).map_err(|_| bad_content())?)?),
        "i" => PathElement::Index(content.parse().map_err(|_| bad_content())?),
        "k" => {
            let keys: Map<String, Value> = serde_json::from_str(content).map_err(|_| bad_content())?;
            let pairs = keys.iter().map(|(name, value)| Ok((name.as_str(), scalar(value)?)));
            PathElement::key(pairs.collect::<Result<Vec<_>, FieldsError>>()?)
        }
        _ => return Ok(None),
    }))
}

fn write_element(element: &PathElement) -> String {
    match element {
        PathElement::Field(name) => format!("f:{name}"),
        PathElement::Key(pairs) => {
            let pair = |(name, value): &(String, Scalar)| {
                format!("{}:{}", Scalar::text(name.as_str()).to_json(), value.to_json())
            };
            format!("k:{{{}}}", pairs.iter().map(pair).collect::<Vec<_>>().join(","))
        }
        PathElement::Value(value) => format!("v:{}", value.to_json()),
        PathElement::Index(index) => format!("i:{index}"),
    }
}
