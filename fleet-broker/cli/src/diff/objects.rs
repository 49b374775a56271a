//! How two sets of objects differ, as `kubectl diff` shows it: YAML, line by line, with secrets masked.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};
use similar::TextDiff;

use crate::yaml;

/// Lines around a difference, as `diff -u` shows them.
const CONTEXT_LINES: usize = 3;

/// What stands for a secret value that is the same on both sides, or on one side alone.
const MASK: &str = "***";

/// The objects on one side, and what to call it.
#[derive(Debug, Clone, Copy)]
pub struct Side<'a> {
    /// What it is called, such as the bundle's name.
    pub name: &'a str,
    /// Its objects.
    pub objects: &'a [Value],
}

/// One object that is not the same on both sides.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// Kind, namespace and name.
    pub object: String,
    /// What happens to it.
    pub how: How,
    /// The difference as `diff -u` writes it.
    pub text: String,
}

/// What happens to an object.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum How {
    /// It is on the new side alone.
    Added,
    /// It is on both sides, and differs.
    Changed,
    /// It is on the old side alone.
    Removed,
}

/// An object to the API server, whichever version of its API it is written in.
type Key<'a> = (&'a str, &'a str, &'a str, &'a str);

/// Every object that is not the same on both sides, by kind, namespace and name.
pub fn differences(from: Side<'_>, to: Side<'_>) -> Vec<Difference> {
    let (old, new) = (by_key(from.objects), by_key(to.objects));
    let keys: BTreeSet<&Key<'_>> = old.keys().chain(new.keys()).collect();
    keys.into_iter()
        .filter_map(|key| difference(key, old.get(key).copied(), new.get(key).copied(), from, to))
        .collect()
}

fn difference(
    key: &Key<'_>,
    old: Option<&Value>,
    new: Option<&Value>,
    from: Side<'_>,
    to: Side<'_>,
) -> Option<Difference> {
    let how = match (old, new) {
        (Some(old), Some(new)) if old == new => return None,
        (Some(_), Some(_)) => How::Changed,
        (Some(_), None) => How::Removed,
        (None, _) => How::Added,
    };
    let (_, kind, namespace, name) = *key;
    let slash = if namespace.is_empty() { "" } else { "/" };
    let object = format!("{kind} {namespace}{slash}{name}");
    let (old, new) = masked(old, new);
    let header = |side: Side<'_>, there: bool| match there {
        true => format!("{} {object}", side.name),
        false => "/dev/null".to_owned(),
    };
    let headers = (header(from, how != How::Added), header(to, how != How::Removed));
    let text = unified(&text(old.as_ref()), &text(new.as_ref()), &headers.0, &headers.1);
    Some(Difference { object, how, text })
}

/// The difference of two texts as `diff -u` writes it; empty where there is none.
pub fn unified(old: &str, new: &str, old_name: &str, new_name: &str) -> String {
    let diff = TextDiff::from_lines(old, new);
    diff.unified_diff().context_radius(CONTEXT_LINES).header(old_name, new_name).to_string()
}

fn by_key(objects: &[Value]) -> BTreeMap<Key<'_>, &Value> {
    objects.iter().map(|object| (key(object), object)).collect()
}

fn key(object: &Value) -> Key<'_> {
    let text = |pointer: &str| object.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let group = text("/apiVersion").rsplit_once('/').map_or("", |(group, _)| group);
    (group, text("/kind"), text("/metadata/namespace"), text("/metadata/name"))
}

fn text(object: Option<&Value>) -> String {
    object.map(yaml::write).unwrap_or_default()
}

/// Both sides without the values of secrets; that one differs is still to be seen.
fn masked(old: Option<&Value>, new: Option<&Value>) -> (Option<Value>, Option<Value>) {
    let (mut left, mut right) = (old.cloned(), new.cloned());
    let is_secret = |side: &Option<Value>| {
        side.as_ref().is_some_and(|object| object["kind"] == "Secret" && object["apiVersion"] == "v1")
    };
    if !is_secret(&left) && !is_secret(&right) {
        return (left, right);
    }
    for field in ["data", "stringData"] {
        let values = |side: Option<&Value>| {
            side.and_then(|object| object[field].as_object()).cloned().unwrap_or_default()
        };
        let (before, after) = (values(old), values(new));
        let mask = |side: &mut Option<Value>, other: &Map<String, Value>, suffix: &str| {
            let values =
                side.as_mut().and_then(|object| object.get_mut(field)).and_then(Value::as_object_mut);
            for (name, value) in values.into_iter().flatten() {
                let differs = other.get(name).is_some_and(|other| other != value);
                *value = if differs { format!("{MASK} ({suffix})").into() } else { MASK.into() };
            }
        };
        mask(&mut left, &after, "before");
        mask(&mut right, &before, "after");
    }
    (left, right)
}
