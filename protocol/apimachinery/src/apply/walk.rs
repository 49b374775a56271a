//! Walks over one or two objects along a topology: what an applier owns, what merging gives, what changed.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::fields::{FieldSet, Node, Path, PathElement, Scalar};
use crate::meta::same;
use crate::schema::{ListType, Shape};

/// A list that cannot be merged, since its items cannot be told apart.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{path}: {problem}")]
pub struct ListError {
    path: Path,
    problem: ItemProblem,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
enum ItemProblem {
    #[error("element {0}: associative list with keys may not have a null element")]
    Null(usize),
    #[error("element {0}: associative list with keys may not have non-map elements")]
    NotAnObject(usize),
    #[error("element {position}: associative list with keys has an element that omits all key fields {}", .keys.join(", "))]
    NoKeys { position: usize, keys: Vec<String> },
    #[error("element {position}: the key field {key} is not a scalar")]
    BadKey { position: usize, key: String },
    #[error("element {0}: a set may hold only scalars")]
    NotAScalar(usize),
    #[error("duplicate entries for key {0}")]
    Duplicate(PathElement),
}

impl ListError {
    fn below(mut self, element: PathElement) -> Self {
        self.path = self.path.below(element);
        self
    }
}

impl From<ItemProblem> for ListError {
    fn from(problem: ItemProblem) -> Self {
        Self { path: Path::default(), problem }
    }
}

/// What changed from one object to another. No path is in two of the sets.
#[derive(Clone, Debug, Default)]
pub(super) struct Comparison {
    pub(super) added: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) removed: FieldSet,
}

impl Comparison {
    /// The same without `fields` and what is below them.
    pub(super) fn without(&self, fields: &FieldSet) -> Self {
        Self {
            added: self.added.difference_with_below(fields),
            modified: self.modified.difference_with_below(fields),
            removed: self.removed.difference_with_below(fields),
        }
    }
}

/// Refuses lists in which two items are the same by their keys.
pub(super) fn check_unique(value: &Value, shape: Shape<'_>) -> Result<(), ListError> {
    match value {
        Value::Object(map) => map.iter().try_for_each(|(name, value)| {
            check_unique(value, shape.field(name)).map_err(|error| error.below(PathElement::field(name)))
        }),
        Value::Array(list) if *shape.list() != ListType::Atomic => {
            let mut seen = std::collections::BTreeSet::new();
            for (element, item) in items(list, shape)? {
                if !seen.insert(element.clone()) {
                    return Err(ItemProblem::Duplicate(element).into());
                }
                check_unique(item, shape.item()).map_err(|error| error.below(element))?;
            }
            Ok(())
        }
        Value::Array(_) | Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => Ok(()),
    }
}

/// The paths that whoever applies `value` comes to own.
pub(super) fn field_set(value: &Value, shape: Shape<'_>) -> Result<FieldSet, ListError> {
    Ok(owned(value, shape)?.below)
}

fn owned(value: &Value, shape: Shape<'_>) -> Result<Node, ListError> {
    let mut node = Node::default();
    match value {
        Value::Object(map) if !shape.is_atomic_object() => {
            for (name, value) in map {
                let element = PathElement::field(name);
                let mut field =
                    owned(value, shape.field(name)).map_err(|error| error.below(element.clone()))?;
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                field.is_owned |= is_empty || !shape.declares(name);
                node.below.put(element, field);
            }
        }
        Value::Array(list) if *shape.list() != ListType::Atomic => {
            for (element, same_key) in group(items(list, shape)?) {
                let mut item = match same_key[..] {
                    [item] => owned(item, shape.item()).map_err(|error| error.below(element.clone()))?,
                    _ => Node::default(),
                };
                item.is_owned = true;
                node.below.put(element, item);
            }
        }
        Value::Object(_) | Value::Array(_) => node.is_owned = true,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => node.is_owned = true,
    }
    Ok(node)
}

/// `live` with everything that `applied` says. Nothing is removed. A list takes the order of `applied`, and
/// items that only `live` has stay where they were among the others.
pub(super) fn merge(live: &Value, applied: &Value, shape: Shape<'_>) -> Result<Value, ListError> {
    match (live, applied) {
        (Value::Object(live), Value::Object(applied)) if !shape.is_atomic_object() => {
            let mut merged = live.clone();
            for (name, applied) in applied {
                let value = match live.get(name) {
                    Some(live) => merge(live, applied, shape.field(name))
                        .map_err(|error| error.below(PathElement::field(name)))?,
                    None => applied.clone(),
                };
                merged.insert(name.clone(), value);
            }
            Ok(Value::Object(merged))
        }
        (Value::Array(live), Value::Array(applied))
            if *shape.list() != ListType::Atomic && !(live.is_empty() && applied.is_empty()) =>
        {
            Ok(Value::Array(merge_lists(live, applied, shape)?))
        }
        // To null what merges is to say nothing about it.
        (Value::Object(map), Value::Null) if !shape.is_atomic_object() && !map.is_empty() => Ok(live.clone()),
        (Value::Array(list), Value::Null) if *shape.list() != ListType::Atomic && !list.is_empty() => {
            Ok(live.clone())
        }
        _ => Ok(applied.clone()),
    }
}

fn merge_lists(live: &[Value], applied: &[Value], shape: Shape<'_>) -> Result<Vec<Value>, ListError> {
    let (live, applied) = (items(live, shape)?, items(applied, shape)?);
    let in_live = group(live.iter().map(|(element, item)| (element.clone(), *item)).collect());
    let place: BTreeMap<_, _> = applied.iter().enumerate().map(|(at, (element, _))| (element, at)).collect();
    let merge_item = |element: &PathElement, item: &Value| match in_live.get(element).map(Vec::as_slice) {
        Some([live]) => merge(live, item, shape.item()).map_err(|error| error.below(element.clone())),
        _ => Ok(item.clone()),
    };
    let mut next_shared = vec![None; applied.len() + 1];
    for (at, (element, _)) in applied.iter().enumerate().rev() {
        next_shared[at] = if in_live.contains_key(element) { Some(element) } else { next_shared[at + 1] };
    }
    let mut merged = Vec::with_capacity(live.len().max(applied.len()));
    let (mut from_live, mut at) = (0, 0);
    loop {
        let element = live.get(from_live).map(|(element, _)| element);
        let place = element.map(|element| place.get(element).copied());
        match (place, applied.get(at)) {
            (None, None) => return Ok(merged),
            // Only the live list has it.
            (Some(None), _) => {
                merged.push(live[from_live].1.clone());
                from_live += 1;
            }
            // It was applied further down, and other items of the live list come before that.
            (Some(Some(place)), Some(_))
                if place != at && next_shared[at].is_some_and(|next| Some(next) != element) =>
            {
                from_live += 1;
            }
            (place, next) => {
                from_live += usize::from(place.flatten().is_some_and(|place| place <= at));
                if let Some((element, item)) = next {
                    merged.push(merge_item(element, item)?);
                    at += 1;
                }
            }
        }
    }
}

/// What changed from `before` to `after`.
pub(super) fn compare(before: &Value, after: &Value, shape: Shape<'_>) -> Result<Comparison, ListError> {
    let change = changed(Some(before), Some(after), shape)?;
    Ok(Comparison {
        added: change.added.below,
        modified: change.modified.below,
        removed: change.removed.below,
    })
}

#[derive(Default)]
struct Change {
    added: Node,
    modified: Node,
    removed: Node,
}

impl Change {
    fn whole(before: Option<&Value>, after: Option<&Value>) -> Self {
        let mut change = Self::default();
        match (before, after) {
            (None, _) => change.added = Node::leaf(),
            (_, None) => change.removed = Node::leaf(),
            (Some(before), Some(after)) if !same(before, after) => change.modified = Node::leaf(),
            (Some(_), Some(_)) => {}
        }
        change
    }

    fn put(&mut self, element: &PathElement, below: Self) {
        self.added.below.put(element.clone(), below.added);
        self.modified.below.put(element.clone(), below.modified);
        self.removed.below.put(element.clone(), below.removed);
    }

    fn and(mut self, other: Self) -> Self {
        let pairs = [
            (&mut self.added, other.added),
            (&mut self.modified, other.modified),
            (&mut self.removed, other.removed),
        ];
        for (ours, theirs) in pairs {
            ours.is_owned |= theirs.is_owned;
            ours.below = std::mem::take(&mut ours.below).union(&theirs.below);
        }
        self
    }
}

fn changed(before: Option<&Value>, after: Option<&Value>, shape: Shape<'_>) -> Result<Change, ListError> {
    let kind = |value: Option<&Value>| value.map(Kind::of).filter(|kind| *kind != Kind::Null);
    match (kind(before), kind(after)) {
        (Some(was), Some(is)) if was != is => {
            Ok(changed_as(was, before, after, shape)?.and(changed_as(is, before, after, shape)?))
        }
        (was, is) => changed_as(is.or(was).unwrap_or(Kind::Null), before, after, shape),
    }
}

/// What kind of JSON a value is, as far as merging is concerned.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Null,
    Scalar,
    List,
    Object,
}

impl Kind {
    fn of(value: &Value) -> Self {
        match value {
            Value::Null => Self::Null,
            Value::Bool(_) | Value::Number(_) | Value::String(_) => Self::Scalar,
            Value::Array(_) => Self::List,
            Value::Object(_) => Self::Object,
        }
    }
}

/// Compares two values as if both were of this kind: one that is not counts as an empty one.
fn changed_as(
    kind: Kind,
    before: Option<&Value>,
    after: Option<&Value>,
    shape: Shape<'_>,
) -> Result<Change, ListError> {
    let is_merged = match kind {
        Kind::Null | Kind::Scalar => false,
        Kind::List => *shape.list() != ListType::Atomic,
        Kind::Object => !shape.is_atomic_object(),
    };
    let is_empty = |value: Option<&Value>| match (kind, value) {
        (Kind::List, Some(Value::Array(list))) => list.is_empty(),
        (Kind::Object, Some(Value::Object(map))) => map.is_empty(),
        _ => true,
    };
    if !is_merged || (is_empty(before) && is_empty(after)) {
        return Ok(Change::whole(before, after));
    }
    let mut change = if kind == Kind::List {
        changed_items(before, after, shape)?
    } else {
        changed_fields(before, after, shape)?
    };
    change.added.is_owned = before.is_none();
    change.removed.is_owned = after.is_none();
    Ok(change)
}

fn changed_fields(
    before: Option<&Value>,
    after: Option<&Value>,
    shape: Shape<'_>,
) -> Result<Change, ListError> {
    fn fields(value: Option<&Value>) -> impl Iterator<Item = (&String, &Value)> {
        value.and_then(Value::as_object).into_iter().flatten()
    }
    let only_after = fields(after).filter(|(name, _)| before.is_none_or(|before| before.get(name).is_none()));
    let mut change = Change::default();
    for (name, _) in fields(before).chain(only_after) {
        let element = PathElement::field(name);
        let [before, after] = [before, after].map(|value| value.and_then(|value| value.get(name)));
        let below =
            changed(before, after, shape.field(name)).map_err(|error| error.below(element.clone()))?;
        change.put(&element, below);
    }
    Ok(change)
}

fn changed_items(
    before: Option<&Value>,
    after: Option<&Value>,
    shape: Shape<'_>,
) -> Result<Change, ListError> {
    let (before, after) = (grouped(before, shape)?, grouped(after, shape)?);
    let only_after = after.keys().filter(|element| !before.contains_key(element));
    let mut change = Change::default();
    for element in before.keys().chain(only_after) {
        let [was, is] = [&before, &after].map(|groups| groups.get(element).map_or(&[][..], Vec::as_slice));
        let below = changed_item(was, is, shape.item()).map_err(|error| error.below(element.clone()))?;
        change.put(element, below);
    }
    Ok(change)
}

/// Compares the items under one key. Where there are several, the key stands for all of them together.
fn changed_item(was: &[&Value], is: &[&Value], shape: Shape<'_>) -> Result<Change, ListError> {
    let mut change = Change::default();
    match (was, is) {
        ([] | [_], [] | [_]) => change = changed(was.first().copied(), is.first().copied(), shape)?,
        ([_, _, ..], [_, _, ..]) => {
            let is_same = was.len() == is.len() && was.iter().zip(is).all(|(was, is)| same(was, is));
            change.modified.is_owned = !is_same;
        }
        ([_, _, ..], _) => {
            if let Some(is) = is.first() {
                change = changed(None, Some(is), shape)?;
            }
            change.removed.is_owned = true;
        }
        (_, [_, _, ..]) => {
            if let Some(was) = was.first() {
                change = changed(Some(was), None, shape)?;
            }
            change.added.is_owned = true;
        }
    }
    Ok(change)
}

/// `value` without the paths of `set`. What is emptied by it becomes null.
pub(super) fn remove(value: &Value, set: &FieldSet, shape: Shape<'_>) -> Result<Value, ListError> {
    Ok(match value {
        Value::Object(map) if !shape.is_atomic_object() => {
            let mut kept = Map::new();
            for (name, value) in map {
                let element = PathElement::field(name);
                if let Some(value) = remove_at(&element, value, set, shape.field(name))? {
                    kept.insert(name.clone(), value);
                }
            }
            if kept.is_empty() { Value::Null } else { Value::Object(kept) }
        }
        Value::Array(list) if *shape.list() != ListType::Atomic => {
            let mut kept = Vec::new();
            for (element, item) in items(list, shape)? {
                kept.extend(remove_at(&element, item, set, shape.item())?);
            }
            if kept.is_empty() { Value::Null } else { Value::Array(kept) }
        }
        Value::Object(_) | Value::Array(_) => Value::Null,
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => value.clone(),
    })
}

fn remove_at(
    element: &PathElement,
    value: &Value,
    set: &FieldSet,
    shape: Shape<'_>,
) -> Result<Option<Value>, ListError> {
    match set.get(element) {
        None => Ok(Some(value.clone())),
        Some(node) if node.is_owned => Ok(None),
        Some(node) => {
            remove(value, &node.below, shape).map(Some).map_err(|error| error.below(element.clone()))
        }
    }
}

/// `set` and, of the parents of its paths, those that are declared fields: where everything below such a
/// field goes, the field goes.
pub(super) fn with_declared_parents(set: &FieldSet, shape: Option<Shape<'_>>) -> FieldSet {
    set.map(|element, node| {
        let declared =
            matches!((element, shape), (PathElement::Field(name), Some(shape)) if shape.declares(name));
        let below = match element {
            PathElement::Field(_) | PathElement::Key(_) => shape.map(|shape| shape.step(element)),
            PathElement::Value(_) | PathElement::Index(_) => None,
        };
        Node {
            is_owned: node.is_owned || (declared && !node.below.is_empty()),
            below: with_declared_parents(&node.below, below),
        }
    })
}

/// `set` as it reads where the schema has since made a list or a map atomic: who owned something inside
/// owns the whole.
pub(super) fn lift_to_atomic(set: &FieldSet, shape: Shape<'_>) -> FieldSet {
    set.map(|element, node| lifted(node, shape.step(element)))
}

fn lifted(node: &Node, shape: Shape<'_>) -> Node {
    let is_object = matches!(node.below.first(), Some(PathElement::Field(_)));
    let is_atomic = if is_object { shape.is_atomic_object() } else { *shape.list() == ListType::Atomic };
    if node.below.is_empty() || shape.is_deduced() {
        node.clone()
    } else if is_atomic {
        Node::leaf()
    } else {
        Node { is_owned: node.is_owned, below: lift_to_atomic(&node.below, shape) }
    }
}

/// Removes every field that is null, and what is null in lists stays.
pub(super) fn drop_null_fields(value: &mut Value) {
    match value {
        Value::Object(map) => {
            map.retain(|_, value| !value.is_null());
            map.values_mut().for_each(drop_null_fields);
        }
        Value::Array(list) => list.iter_mut().for_each(drop_null_fields),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

fn grouped<'v>(
    list: Option<&'v Value>,
    shape: Shape<'_>,
) -> Result<BTreeMap<PathElement, Vec<&'v Value>>, ItemProblem> {
    let list = list.and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    Ok(group(items(list, shape)?))
}

fn group(items: Vec<(PathElement, &Value)>) -> BTreeMap<PathElement, Vec<&Value>> {
    let mut groups: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (element, item) in items {
        groups.entry(element).or_default().push(item);
    }
    groups
}

/// The items of a list with what tells them apart.
fn items<'v>(list: &'v [Value], shape: Shape<'_>) -> Result<Vec<(PathElement, &'v Value)>, ItemProblem> {
    let identified = |(position, item)| Ok((identify(position, item, shape)?, item));
    list.iter().enumerate().map(identified).collect()
}

fn identify(position: usize, item: &Value, shape: Shape<'_>) -> Result<PathElement, ItemProblem> {
    let keys = match shape.list() {
        ListType::Atomic => return Ok(PathElement::Index(i64::try_from(position).unwrap_or(i64::MAX))),
        ListType::Set => {
            let scalar = Scalar::from_value(item).filter(|scalar| *scalar != Scalar::Null);
            return scalar.map(PathElement::Value).ok_or(ItemProblem::NotAScalar(position));
        }
        ListType::Keyed(keys) => keys,
    };
    let fields = match item {
        Value::Object(fields) => fields,
        Value::Null => return Err(ItemProblem::Null(position)),
        Value::Bool(_) | Value::Number(_) | Value::String(_) | Value::Array(_) => {
            return Err(ItemProblem::NotAnObject(position));
        }
    };
    let mut pairs = Vec::with_capacity(keys.len());
    for key in keys {
        let value = match fields.get(&key.name) {
            Some(value) => Some(
                Scalar::from_value(value)
                    .ok_or_else(|| ItemProblem::BadKey { position, key: key.name.clone() })?,
            ),
            None => key.default.clone(),
        };
        pairs.extend(value.map(|value| (key.name.as_str(), value)));
    }
    if pairs.is_empty() {
        return Err(ItemProblem::NoKeys {
            position,
            keys: keys.iter().map(|key| key.name.clone()).collect(),
        });
    }
    Ok(PathElement::key(pairs))
}
