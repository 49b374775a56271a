//! How the parts of an object merge: which lists have keys, which are sets, what is taken as a whole.
//!
//! This is the part of a schema that server-side apply needs and nothing more: whether a value is of the
//! right type is for others to say.

mod builtin;
mod openapi;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

pub use openapi::SchemaError;
use serde_json::Value;

use crate::fields::{FieldSet, Path, PathElement, Scalar};
use crate::meta::GroupVersionKind;

/// How the objects of one kind merge.
#[derive(Clone)]
pub struct Topology {
    types: Arc<[Type]>,
    root: TypeId,
    origin: Origin,
    /// What the status endpoint may not write.
    status_reset: FieldSet,
}

/// Where a topology comes from, which decides what an endpoint may write and what becomes of nulls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Origin {
    /// A type compiled into the API server. Its nulls vanish, since they decode to absent fields.
    BuiltIn,
    /// A custom resource, with or without the status subresource.
    Custom { has_status: bool },
}

impl Topology {
    /// The topology of a kind that is built into Kubernetes, from the table in this module.
    #[must_use]
    pub fn built_in(gvk: &GroupVersionKind) -> Option<Self> {
        builtin::find(gvk)
    }

    /// The topology of a custom resource, from the `openAPIV3Schema` of its definition. `has_status` says
    /// whether the definition enables the status subresource.
    ///
    /// # Errors
    /// When the schema is not structural where merging depends on it.
    pub fn custom(open_api_v3_schema: &Value, has_status: bool) -> Result<Self, SchemaError> {
        openapi::topology(open_api_v3_schema, Origin::Custom { has_status })
    }

    /// The topology of a custom resource without a schema: lists are atomic, maps are merged.
    #[must_use]
    pub fn untyped(has_status: bool) -> Self {
        openapi::untyped(Origin::Custom { has_status })
    }

    /// What the endpoint of `subresource` (empty for the object itself) may not write: these fields keep
    /// their stored value and nobody comes to own them through it.
    #[must_use]
    pub fn reset_fields(&self, subresource: &str) -> FieldSet {
        match (self.origin, subresource) {
            (Origin::BuiltIn | Origin::Custom { has_status: true }, "") => {
                FieldSet::from_iter([Path::of_fields(&["status"])])
            }
            (Origin::BuiltIn | Origin::Custom { .. }, "status") => self.status_reset.clone(),
            (Origin::BuiltIn | Origin::Custom { .. }, _) => FieldSet::new(),
        }
    }

    /// Whether an explicit null in an object of this kind means that the field is absent.
    pub(crate) fn drops_nulls(&self) -> bool {
        self.origin == Origin::BuiltIn
    }

    /// The shape of the whole object.
    pub(crate) fn root(&self) -> Shape<'_> {
        Shape { types: &self.types, id: self.root }
    }
}

/// Without the table of types, which is long and the same for all built-in kinds.
impl fmt::Debug for Topology {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.debug_struct("Topology")
            .field("root", &self.root)
            .field("origin", &self.origin)
            .finish_non_exhaustive()
    }
}

/// A place in a table of types.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct TypeId(usize);

/// How a value at one position merges. One type says so for lists and for objects: which of the two applies
/// is seen from the value.
#[derive(Clone, Debug)]
struct Type {
    /// Whether an object here is taken as a whole.
    is_atomic: bool,
    /// The declared fields that do not merge as `others` do.
    fields: BTreeMap<String, TypeId>,
    /// The fields not listed.
    others: TypeId,
    /// Whether the fields not listed count as declared, as those of a struct do, or are free, as the keys of
    /// a map are. An applier owns a free key along with what is below it.
    others_are_declared: bool,
    list: ListType,
    /// The items of a list.
    item: TypeId,
}

/// How a list merges.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum ListType {
    /// It is taken as a whole.
    Atomic,
    /// It is a set of scalars.
    Set,
    /// Its items are told apart by the values of these keys.
    Keyed(Vec<ListKey>),
}

/// A key of a list: the name of a field of every item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ListKey {
    pub(crate) name: String,
    /// What an item without the field is taken to hold.
    pub(crate) default: Option<Scalar>,
}

/// The first types of every table.
impl TypeId {
    /// Merges objects field by field, all fields declared; takes lists as a whole. What a struct without
    /// anything special is, and a scalar.
    const PLAIN: Self = Self(0);
    /// Merges objects key by key, no key declared; takes lists as a whole.
    const DEDUCED: Self = Self(1);
    /// Takes everything as a whole.
    const ATOMIC: Self = Self(2);
    /// An object of scalars, merged key by key.
    const MAP: Self = Self(3);
}

impl Type {
    const PLAIN: Self = Self {
        is_atomic: false,
        fields: BTreeMap::new(),
        others: TypeId::PLAIN,
        others_are_declared: true,
        list: ListType::Atomic,
        item: TypeId::ATOMIC,
    };

    /// The types every table begins with, in the order of the constants of [`TypeId`].
    fn common() -> Vec<Self> {
        let deduced = Self { others: TypeId::DEDUCED, others_are_declared: false, ..Self::PLAIN };
        let atomic = Self { is_atomic: true, others: TypeId::ATOMIC, ..deduced.clone() };
        let map = Self { others: TypeId::PLAIN, ..deduced.clone() };
        vec![Self::PLAIN, deduced, atomic, map]
    }
}

/// The type at one position of an object.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Shape<'a> {
    types: &'a [Type],
    id: TypeId,
}

impl<'a> Shape<'a> {
    /// Whether an object here is taken as a whole.
    pub(crate) fn is_atomic_object(self) -> bool {
        self.here().is_atomic
    }

    /// How a list here merges.
    pub(crate) fn list(self) -> &'a ListType {
        &self.here().list
    }

    /// The items of a list here.
    pub(crate) fn item(self) -> Self {
        Self { id: self.here().item, ..self }
    }

    /// A field of an object here.
    pub(crate) fn field(self, name: &str) -> Self {
        let here = self.here();
        Self { id: here.fields.get(name).copied().unwrap_or(here.others), ..self }
    }

    /// Whether the schema declares this field of an object here, as opposed to it being a key of a map.
    pub(crate) fn declares(self, name: &str) -> bool {
        let here = self.here();
        here.others_are_declared || here.fields.contains_key(name)
    }

    /// What lies one step further.
    pub(crate) fn step(self, element: &PathElement) -> Self {
        match element {
            PathElement::Field(name) => self.field(name),
            PathElement::Key(_) | PathElement::Value(_) | PathElement::Index(_) => self.item(),
        }
    }

    /// Whether nothing is known of the objects here but that their keys are merged.
    pub(crate) fn is_deduced(self) -> bool {
        self.id == TypeId::DEDUCED
    }

    fn here(self) -> &'a Type {
        &self.types[self.id.0]
    }
}
