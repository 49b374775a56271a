//! The objects of a cluster, their versions and their UIDs.

use std::{collections::BTreeMap, sync::Arc};

use serde_json::{Map, Value, json};

use crate::{
    cluster::ObjectMeta,
    logic::object::{Gvk, ObjectRef},
};

/// What is in a cluster.
#[derive(Clone, Debug)]
pub(super) struct Store {
    /// Shared with answers, so that reading copies nothing.
    objects: BTreeMap<ObjectRef, Arc<Value>>,
    version: u64,
    seed: u64,
    created: u64,
}

/// One change of one object.
#[derive(Clone, Debug)]
pub(super) struct Change {
    pub(super) object: ObjectRef,
    pub(super) before: Option<Arc<Value>>,
    pub(super) after: Option<Arc<Value>>,
    /// Version of the store with this change.
    pub(super) version: u64,
}

impl Store {
    pub(super) fn new(seed: u64) -> Self {
        Self { objects: BTreeMap::new(), version: 0, seed, created: 0 }
    }

    /// Takes back earlier objects and versions. UIDs that were given since are not given again.
    pub(super) fn restore(&mut self, earlier: &Self) {
        *self = Self { created: self.created, ..earlier.clone() };
    }

    pub(super) fn get(&self, object: &ObjectRef) -> Option<&Arc<Value>> {
        self.objects.get(object)
    }

    pub(super) fn iter(&self) -> impl Iterator<Item = (&ObjectRef, &Arc<Value>)> {
        self.objects.iter()
    }

    /// All objects of a kind: they stand together, as the kind comes first in their order.
    pub(super) fn of_kind(&self, kind: &Gvk) -> impl Iterator<Item = (&ObjectRef, &Arc<Value>)> {
        let first = ObjectRef { gvk: kind.clone(), namespace: None, name: String::new() };
        self.objects.range(first..).take_while(move |(object, _)| object.gvk == *kind)
    }

    /// A UID that no other object has or had, of the form of RFC 9562 version 4.
    pub(super) fn next_uid(&mut self) -> String {
        self.created += 1;
        let (high, low) = (scramble(self.seed, self.created * 2), scramble(self.seed, self.created * 2 + 1));
        format!(
            "{:08x}-{:04x}-4{:03x}-{:04x}-{:012x}",
            high >> 32,
            (high >> 16) & 0xffff,
            high & 0xfff,
            (low >> 48) & 0x3fff | 0x8000,
            low & 0xffff_ffff_ffff
        )
    }

    /// Stores an object under a new version. One that is being deleted and waits for nobody is removed.
    pub(super) fn put(&mut self, object: ObjectRef, mut value: Value) -> Change {
        self.version += 1;
        metadata(&mut value).insert("resourceVersion".into(), json!(self.version.to_string()));
        if is_deleted(&value) {
            let before = self.objects.remove(&object);
            return Change { object, before, after: None, version: self.version };
        }
        let value = Arc::new(value);
        let before = self.objects.insert(object.clone(), Arc::clone(&value));
        Change { object, before, after: Some(value), version: self.version }
    }

    /// Removes an object at once.
    pub(super) fn remove(&mut self, object: &ObjectRef) -> Option<Change> {
        let before = self.objects.remove(object)?;
        self.version += 1;
        Some(Change { object: object.clone(), before: Some(before), after: None, version: self.version })
    }
}

/// A namespace waits for its content besides its finalizers.
fn is_deleted(value: &Value) -> bool {
    let is_empty = |pointer: &str| {
        value.pointer(pointer).and_then(Value::as_array).is_none_or(|finalizers| finalizers.is_empty())
    };
    value.pointer("/metadata/deletionTimestamp").is_some()
        && is_empty("/metadata/finalizers")
        && is_empty("/spec/finalizers")
}

/// The metadata of an object that has passed through the API.
pub(super) fn metadata(value: &mut Value) -> &mut Map<String, Value> {
    let metadata = &mut value["metadata"];
    if !metadata.is_object() {
        *metadata = json!({});
    }
    metadata.as_object_mut().expect("it was just made one")
}

pub(super) fn meta(object: &ObjectRef, value: &Value) -> ObjectMeta {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str).unwrap_or("").to_owned();
    let labels = value.pointer("/metadata/labels").and_then(Value::as_object);
    let label = |(key, label): (&String, &Value)| Some((key.clone(), label.as_str()?.to_owned()));
    ObjectMeta {
        object: object.clone(),
        uid: text("/metadata/uid"),
        generation: value.pointer("/metadata/generation").and_then(Value::as_i64),
        resource_version: text("/metadata/resourceVersion"),
        labels: labels.into_iter().flatten().filter_map(label).collect(),
        deleting: value.pointer("/metadata/deletionTimestamp").is_some(),
    }
}

/// Whether an object's labels satisfy a selector in the API's text form: terms joined by commas, each `key`,
/// `!key`, `key=value`, `key!=value`, `key in (a,b)` or `key notin (a,b)`.
pub(super) fn selected(value: &Value, selector: &str) -> bool {
    let mut depth = 0_usize;
    let outside_parentheses = |character: char| {
        match character {
            '(' => depth += 1,
            ')' => depth = depth.saturating_sub(1),
            _ => {}
        }
        character == ',' && depth == 0
    };
    let mut terms = selector.split(outside_parentheses).map(str::trim).filter(|term| !term.is_empty());
    terms.all(|term| satisfies(value, term))
}

fn satisfies(value: &Value, term: &str) -> bool {
    let label = |key: &str| value["metadata"]["labels"][key.trim()].as_str();
    let one_of = |key: &str, set: &str| {
        let set = set.trim().trim_start_matches('(').trim_end_matches(')');
        label(key).is_some_and(|label| set.split(',').any(|one| one.trim() == label))
    };
    if let Some((key, set)) = term.split_once(" notin ") {
        !one_of(key, set)
    } else if let Some((key, set)) = term.split_once(" in ") {
        one_of(key, set)
    } else if let Some((key, wanted)) = term.split_once("!=") {
        label(key) != Some(wanted.trim())
    } else if let Some((key, wanted)) = term.split_once('=') {
        label(key) == Some(wanted.trim_start_matches('=').trim())
    } else if let Some(key) = term.strip_prefix('!') {
        label(key).is_none()
    } else {
        label(term).is_some()
    }
}

/// A number decided by a seed and a position (SplitMix64).
pub(super) fn scramble(seed: u64, position: u64) -> u64 {
    let mut mixed = seed.wrapping_add(position.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    mixed ^ (mixed >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn selectors_are_read_as_the_api_reads_them() {
        let object = json!({"metadata": {"labels": {"app": "gateway", "tier": "edge"}}});
        let check =
            |selector: &str, expected: bool| assert_eq!(selected(&object, selector), expected, "{selector}");
        check("", true);
        check("app", true);
        check("!app", false);
        check("other", false);
        check("!other", true);
        check("app=gateway", true);
        check("app==gateway,tier=edge", true);
        check("app = gateway, tier = core", false);
        check("app!=gateway", false);
        check("other!=x", true);
        check("app in (gateway,other),tier", true);
        check("app in (other)", false);
        check("tier notin (core, hub)", true);
        check("tier notin (edge)", false);
        check("other notin (x)", true);
    }
}
