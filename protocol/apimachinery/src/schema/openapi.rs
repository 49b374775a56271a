//! The topology of a custom resource, from the `openAPIV3Schema` of its definition.

use serde_json::Value;

use super::{ListKey, ListType, Origin, Topology, Type, TypeId, builtin};
use crate::fields::{Path, Scalar};
use crate::meta::MAX_DEPTH;

/// A schema from which no topology can be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("openAPIV3Schema at \"{at}\": {problem}")]
pub struct SchemaError {
    at: String,
    problem: Problem,
}

/// What is wrong with a schema.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum Problem {
    #[error("is nested deeper than {MAX_DEPTH} levels")]
    TooDeep,
    #[error("{extension} is \"{value}\": use {allowed}")]
    Unknown { extension: &'static str, value: String, allowed: &'static str },
    #[error("a list of type map needs x-kubernetes-list-map-keys: name at least one field of its items")]
    NoKeys,
}

pub(super) fn topology(schema: &Value, origin: Origin) -> Result<Topology, SchemaError> {
    let mut builder = Builder::new();
    let mut root = builder.describe(schema, Position { path: "", depth: 0 })?;
    builder.embed(&mut root);
    Ok(builder.finish(root, origin))
}

pub(super) fn untyped(origin: Origin) -> Topology {
    let builder = Builder::new();
    let mut root = builder.types[TypeId::DEDUCED.0].clone();
    builder.embed(&mut root);
    builder.finish(root, origin)
}

struct Builder {
    types: Vec<Type>,
    object_meta: TypeId,
}

/// Where in the schema a type stands.
#[derive(Clone, Copy)]
struct Position<'a> {
    path: &'a str,
    depth: usize,
}

impl Builder {
    fn new() -> Self {
        let mut types = Type::common();
        let object_meta = builtin::object_meta(&mut types);
        Self { types, object_meta }
    }

    /// Adds what `schema` describes, unless it is one of the types every table has.
    fn visit(&mut self, schema: &Value, position: Position<'_>) -> Result<TypeId, SchemaError> {
        let described = self.describe(schema, position)?;
        let is_plain =
            described.fields.is_empty() && !described.is_atomic && described.list == ListType::Atomic;
        Ok(match (is_plain, described.others) {
            (true, TypeId::PLAIN) if described.others_are_declared => TypeId::PLAIN,
            (true, TypeId::DEDUCED) => TypeId::DEDUCED,
            _ => self.push(described),
        })
    }

    fn describe(&mut self, schema: &Value, position: Position<'_>) -> Result<Type, SchemaError> {
        if position.depth > MAX_DEPTH {
            return Err(position.error(Problem::TooDeep));
        }
        let mut described = Type::PLAIN;
        let kind = schema.get("type").and_then(Value::as_str);
        if matches!(kind, Some("object") | None) {
            self.describe_object(schema, position, &mut described)?;
        }
        if matches!(kind, Some("array") | None) {
            self.describe_list(schema, position, &mut described)?;
        }
        if is_set(schema, "x-kubernetes-embedded-resource") {
            self.embed(&mut described);
        }
        Ok(described)
    }

    fn describe_object(
        &mut self,
        schema: &Value,
        position: Position<'_>,
        described: &mut Type,
    ) -> Result<(), SchemaError> {
        for (name, field) in schema.get("properties").and_then(Value::as_object).into_iter().flatten() {
            let path = format!("{}.{name}", position.path);
            let field = self.visit(field, position.below(&path))?;
            described.fields.insert(name.clone(), field);
        }
        described.others_are_declared = false;
        described.others = match schema.get("additionalProperties") {
            Some(values @ Value::Object(_)) => {
                let path = format!("{}.*", position.path);
                self.visit(values, position.below(&path))?
            }
            // Either everything else is kept as it is, or it was pruned before it came here.
            _ => TypeId::DEDUCED,
        };
        let map_type = schema.get("x-kubernetes-map-type").and_then(Value::as_str);
        described.is_atomic = match map_type {
            None | Some("granular") => false,
            Some("atomic") => true,
            Some(other) => {
                let (extension, allowed) = ("x-kubernetes-map-type", "granular or atomic");
                return Err(position.error(Problem::Unknown { extension, value: other.to_owned(), allowed }));
            }
        };
        Ok(())
    }

    fn describe_list(
        &mut self,
        schema: &Value,
        position: Position<'_>,
        described: &mut Type,
    ) -> Result<(), SchemaError> {
        let items = schema.get("items").unwrap_or(&Value::Null);
        described.list = match schema.get("x-kubernetes-list-type").and_then(Value::as_str) {
            None | Some("atomic") => return Ok(()),
            Some("set") => ListType::Set,
            Some("map") => ListType::Keyed(keys(schema, items, position)?),
            Some(other) => {
                let (extension, allowed) = ("x-kubernetes-list-type", "atomic, set or map");
                return Err(position.error(Problem::Unknown { extension, value: other.to_owned(), allowed }));
            }
        };
        let path = format!("{}[]", position.path);
        described.item = self.visit(items, position.below(&path))?;
        Ok(())
    }

    /// Makes `described` an object with type and metadata of its own.
    fn embed(&self, described: &mut Type) {
        let own = [("apiVersion", TypeId::PLAIN), ("kind", TypeId::PLAIN), ("metadata", self.object_meta)];
        described.fields.extend(own.map(|(name, id)| (name.to_owned(), id)));
    }

    fn finish(mut self, root: Type, origin: Origin) -> Topology {
        let root = self.push(root);
        let status_reset = [Path::of_fields(&["metadata"]), Path::of_fields(&["spec"])].into_iter().collect();
        Topology { types: self.types.into(), root, origin, status_reset }
    }

    fn push(&mut self, new: Type) -> TypeId {
        self.types.push(new);
        TypeId(self.types.len() - 1)
    }
}

impl<'a> Position<'a> {
    fn below(self, path: &'a str) -> Self {
        Self { path, depth: self.depth + 1 }
    }

    fn error(self, problem: Problem) -> SchemaError {
        SchemaError { at: self.path.to_owned(), problem }
    }
}

fn keys(schema: &Value, items: &Value, position: Position<'_>) -> Result<Vec<ListKey>, SchemaError> {
    let names = schema.get("x-kubernetes-list-map-keys").and_then(Value::as_array).into_iter().flatten();
    let key = |name: &str| {
        let default = items.get("properties").and_then(|fields| fields.get(name)?.get("default"));
        ListKey { name: name.to_owned(), default: default.and_then(Scalar::from_value) }
    };
    let keys: Vec<_> = names.filter_map(Value::as_str).map(key).collect();
    if keys.is_empty() { Err(position.error(Problem::NoKeys)) } else { Ok(keys) }
}

fn is_set(schema: &Value, extension: &str) -> bool {
    schema.get(extension) == Some(&Value::Bool(true))
}
