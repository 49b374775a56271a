//! From JSON to a typed object and back to what is stored: defaults, unknown fields, types, rules.

use std::fmt;

use serde::de::DeserializeOwned;
use serde_ignored::Path;
use serde_json::{Map, Value};

use super::structural;
use super::validate::Validate;
use super::{Application, Assignment, Bundle, Cluster, FieldError, Freeze, Kind};

/// An object that has the type of its kind.
#[derive(Clone, Debug)]
pub struct Decoded {
    /// With the defaults of its schema and without the fields that its type does not have.
    pub value: Value,
    /// The fields that were left out.
    pub unknown: Vec<FieldPath>,
}

/// Where a field is in an object. Its `Display` is `spec.overrides[0].x`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldPath(Vec<Segment>);

/// One step of a path.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Segment {
    /// Into an object.
    Key(String),
    /// Into a list.
    Index(usize),
}

impl Kind {
    /// Gives an object the type of this kind.
    ///
    /// # Errors
    /// The field that does not fit its type, or the rules that are broken. `old` is what it would replace.
    pub fn decode(self, value: Value, old: Option<&Value>) -> Result<Decoded, Vec<FieldError>> {
        match self {
            Kind::Application => decode::<Application>(self, value, old),
            Kind::Assignment => decode::<Assignment>(self, value, old),
            Kind::Bundle => decode::<Bundle>(self, value, old),
            Kind::Cluster => decode::<Cluster>(self, value, old),
            // The hub makes them itself, as they shall be.
            Kind::Event => Ok(Decoded { value, unknown: Vec::new() }),
            Kind::Freeze => decode::<Freeze>(self, value, old),
        }
    }
}

fn decode<T>(kind: Kind, mut value: Value, old: Option<&Value>) -> Result<Decoded, Vec<FieldError>>
where
    T: DeserializeOwned + Validate,
{
    let schema = &kind.definition().schema;
    add_defaults(schema, &mut value);
    let misfits = structural::check(schema, &value);
    if !misfits.is_empty() {
        return Err(misfits);
    }
    let (typed, unknown) = typed::<T>(&value).map_err(|error| vec![error])?;
    for path in &unknown {
        path.remove_from(&mut value);
    }
    let mut errors = typed.validate();
    if let Some((old, _)) = old.and_then(|old| typed_old::<T>(old).ok()) {
        errors.extend(typed.validate_update(&old));
    }
    if errors.is_empty() { Ok(Decoded { value, unknown }) } else { Err(errors) }
}

/// What is stored had the type once; after an upgrade it may not.
fn typed_old<T: DeserializeOwned>(value: &Value) -> Result<(T, Vec<FieldPath>), FieldError> {
    typed(value)
}

fn typed<T: DeserializeOwned>(value: &Value) -> Result<(T, Vec<FieldPath>), FieldError> {
    let mut unknown = Vec::new();
    let mut track = serde_path_to_error::Track::new();
    let deserializer = serde_path_to_error::Deserializer::new(value, &mut track);
    let result = serde_ignored::deserialize(deserializer, |path| unknown.push(FieldPath::new(&path)));
    // The type is a type's own business, not one of its fields.
    unknown.retain(|path| !path.is_root("apiVersion") && !path.is_root("kind"));
    match result {
        Ok(typed) => Ok((typed, unknown)),
        Err(error) => Err(type_error(&track.path().to_string(), &error.to_string())),
    }
}

/// serde says a missing field at the object that lacks it.
fn type_error(path: &str, why: &str) -> FieldError {
    match why.strip_prefix("missing field `").and_then(|rest| rest.strip_suffix('`')) {
        Some(field) if path == "." => FieldError::required(field, ""),
        Some(field) => FieldError::required(&format!("{path}.{field}"), ""),
        None => FieldError::wrong_type(path, why),
    }
}

/// Adds the defaults that a structural schema states, wherever the surrounding object is there.
fn add_defaults(schema: &Value, value: &mut Value) {
    if let (Some(properties), Some(object)) =
        (schema.get("properties").and_then(Value::as_object), value.as_object_mut())
    {
        add_property_defaults(properties, object);
    }
    if let (Some(items), Some(list)) = (schema.get("items"), value.as_array_mut()) {
        list.iter_mut().for_each(|item| add_defaults(items, item));
    }
    if let (Some(values), Some(object)) = (schema.get("additionalProperties"), value.as_object_mut()) {
        object.values_mut().for_each(|item| add_defaults(values, item));
    }
}

fn add_property_defaults(properties: &Map<String, Value>, object: &mut Map<String, Value>) {
    for (name, schema) in properties {
        if let (Some(default), false) = (schema.get("default"), object.contains_key(name)) {
            object.insert(name.clone(), default.clone());
        }
        if let Some(value) = object.get_mut(name) {
            add_defaults(schema, value);
        }
    }
}

impl FieldPath {
    /// serde_ignored also counts steps that JSON does not have: into an `Option`, into a newtype.
    fn new(path: &Path<'_>) -> FieldPath {
        match path {
            Path::Root => FieldPath(Vec::new()),
            Path::Seq { parent, index } => FieldPath::new(parent).then(Segment::Index(*index)),
            Path::Map { parent, key } => FieldPath::new(parent).then(Segment::Key(key.clone())),
            Path::Some { parent } | Path::NewtypeStruct { parent } | Path::NewtypeVariant { parent } => {
                FieldPath::new(parent)
            }
        }
    }

    fn is_root(&self, field: &str) -> bool {
        matches!(self.0.as_slice(), [Segment::Key(key)] if key == field)
    }

    fn then(mut self, segment: Segment) -> FieldPath {
        self.0.push(segment);
        self
    }

    fn remove_from(&self, value: &mut Value) {
        let Some((Segment::Key(last), parents)) = self.0.split_last() else { return };
        let parent = parents.iter().try_fold(value, |value, segment| match segment {
            Segment::Key(key) => value.get_mut(key),
            Segment::Index(index) => value.get_mut(index),
        });
        if let Some(object) = parent.and_then(Value::as_object_mut) {
            object.remove(last);
        }
    }
}

impl fmt::Display for FieldPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, segment) in self.0.iter().enumerate() {
            match segment {
                Segment::Key(key) if position == 0 => write!(f, "{key}")?,
                Segment::Key(key) => write!(f, ".{key}")?,
                Segment::Index(index) => write!(f, "[{index}]")?,
            }
        }
        Ok(())
    }
}
