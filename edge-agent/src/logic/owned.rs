//! What of a live object is ours, read from its `metadata.managedFields`.
//!
//! The API server records for every manager the fields it set, as a tree in the `FieldsV1` form of the
//! `sigs.k8s.io/structured-merge-diff` project: `f:<name>` a field, `k:<keys>` an item of a keyed list,
//! `v:<value>` a member of a set, `i:<index>` an item by position, `.` the thing itself.

use std::{collections::BTreeSet, fmt};

use ring::digest::{Context, SHA256};
use serde_json::{Map, Value};

/// The name under which the agent applies.
pub const FIELD_MANAGER: &str = "edgefleet";

/// Nesting beyond which a tree is no longer followed. The API server refuses objects nested deeper than
/// this, so reaching it means the answer did not come from one.
const MAX_DEPTH: usize = 128;

/// SHA-256 over the fields we own and their live values.
///
/// Two digests of one object differ if and only if a value we applied was changed, or was taken over by
/// another manager. Nothing else moves it: neither status, nor versions, nor other managers' fields.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct OwnedDigest(pub [u8; 32]);

impl fmt::Debug for OwnedDigest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

/// Digest of what we own in `live`, or none if we own nothing there.
///
/// Fields under the JSON pointers (RFC 6901) in `ignore` count neither as owned nor as changed.
pub fn digest(live: &Value, ignore: &[String]) -> Option<OwnedDigest> {
    let (ours, others): (Vec<_>, Vec<_>) =
        entries(live).filter(|entry| !entry.is_status()).partition(|entry| entry.is_ours());
    if ours.is_empty() {
        return None;
    }
    let others: Vec<&Tree> = others.iter().map(|entry| entry.fields).collect();
    let mut walk = Walk { hash: Context::new(&SHA256), ignore, pointer: String::new() };
    for entry in &ours {
        walk.tree(entry.fields, Some(live), &others, 0);
    }
    let digest = walk.hash.finish();
    Some(OwnedDigest(digest.as_ref().try_into().expect("a SHA-256 digest is 32 bytes")))
}

/// Who may have changed what `applied` set: names of other managers, newest first, each once.
///
/// Those who now own a field that `applied` sets come alone. If there is none, a field was removed, which
/// leaves no trace of its own: then every other manager that wrote more than status is named.
pub fn who_changed(live: &Value, applied: &Value) -> Vec<String> {
    let mut others: Vec<Entry<'_>> =
        entries(live).filter(|entry| entry.manager != FIELD_MANAGER && !entry.is_status()).collect();
    // Times are RFC 3339 in UTC with whole seconds, so that text order is time order.
    others.sort_by(|a, b| b.time.cmp(a.time));
    let overlapping: Vec<&Entry<'_>> =
        others.iter().filter(|entry| overlaps(entry.fields, applied, 0)).collect();
    let named = if overlapping.is_empty() { others.iter().collect() } else { overlapping };
    let mut seen = BTreeSet::new();
    named
        .into_iter()
        .map(|entry| entry.manager)
        .filter(|manager| seen.insert(*manager))
        .map(str::to_owned)
        .collect()
}

/// Whether `manifest` sets the field that a `FieldManagerConflict` cause names, such as
/// `.spec.template.spec.containers[name="app"].image`.
///
/// Field names may hold dots (`.metadata.labels.app.kubernetes.io/name`), so that a path alone is
/// ambiguous: it is read along the manifest.
pub fn covers(manifest: &Value, path: &str) -> bool {
    reaches(manifest, path, 0)
}

type Tree = Map<String, Value>;

/// One entry of `metadata.managedFields`.
struct Entry<'a> {
    manager: &'a str,
    operation: &'a str,
    subresource: &'a str,
    time: &'a str,
    fields: &'a Tree,
}

impl Entry<'_> {
    fn is_ours(&self) -> bool {
        self.manager == FIELD_MANAGER && self.operation == "Apply" && self.subresource.is_empty()
    }

    fn is_status(&self) -> bool {
        self.subresource == "status"
    }
}

fn entries(live: &Value) -> impl Iterator<Item = Entry<'_>> {
    let list = live.pointer("/metadata/managedFields").and_then(Value::as_array);
    list.into_iter().flatten().filter_map(|entry| {
        let text = |field| entry.get(field).and_then(Value::as_str).unwrap_or("");
        Some(Entry {
            manager: text("manager"),
            operation: text("operation"),
            subresource: text("subresource"),
            time: text("time"),
            fields: entry.get("fieldsV1")?.as_object()?,
        })
    })
}

/// A step of a `FieldsV1` tree.
enum Step<'a> {
    Itself,
    Field(&'a str),
    Keyed(Value),
    Member(Value),
    Index(usize),
}

impl<'a> Step<'a> {
    fn parse(key: &'a str) -> Option<Self> {
        if key == "." {
            return Some(Self::Itself);
        }
        let (kind, rest) = key.split_once(':')?;
        match kind {
            "f" => Some(Self::Field(rest)),
            "k" => serde_json::from_str(rest).ok().map(Self::Keyed),
            "v" => serde_json::from_str(rest).ok().map(Self::Member),
            "i" => rest.parse().ok().map(Self::Index),
            _ => None,
        }
    }

    /// The value one step down, and its token in a JSON pointer.
    fn descend<'v>(&self, value: &'v Value) -> Option<(&'v Value, String)> {
        match self {
            Self::Itself => None,
            Self::Field(name) => {
                Some((value.as_object()?.get(*name)?, name.replace('~', "~0").replace('/', "~1")))
            }
            Self::Keyed(keys) => find(value, |item| matches_keys(item, keys)),
            Self::Member(member) => find(value, |item| item == member),
            Self::Index(index) => Some((value.as_array()?.get(*index)?, index.to_string())),
        }
    }
}

fn find(list: &Value, accept: impl Fn(&Value) -> bool) -> Option<(&Value, String)> {
    let (index, item) = list.as_array()?.iter().enumerate().find(|(_, item)| accept(item))?;
    Some((item, index.to_string()))
}

/// Whether a list item is the one with these keys. A manifest may leave out a key that has a default
/// (`protocol: TCP`), so a missing key does not speak against it as long as another one speaks for it.
fn matches_keys(item: &Value, keys: &Value) -> bool {
    let (Some(item), Some(keys)) = (item.as_object(), keys.as_object()) else { return false };
    let mut present = keys.iter().filter_map(|(key, value)| Some(item.get(key)? == value)).peekable();
    present.peek().is_some() && present.all(|equal| equal)
}

/// A walk along our tree and the live object at once, hashing as it goes.
///
/// What is hashed is prefix-free: every part starts with a tag, every text with its length.
struct Walk<'a> {
    hash: Context,
    ignore: &'a [String],
    pointer: String,
}

impl Walk<'_> {
    fn tree(&mut self, tree: &Tree, live: Option<&Value>, others: &[&Tree], depth: usize) {
        if depth > MAX_DEPTH {
            return;
        }
        let mut keys: Vec<&String> = tree.keys().collect();
        keys.sort_unstable();
        for key in keys {
            let subtree = tree.get(key).and_then(Value::as_object);
            let below: Vec<&Tree> = others.iter().filter_map(|other| other.get(key)?.as_object()).collect();
            self.step(key, subtree, live, &below, depth);
        }
    }

    fn step(
        &mut self,
        key: &str,
        subtree: Option<&Tree>,
        live: Option<&Value>,
        others: &[&Tree],
        depth: usize,
    ) {
        let step = Step::parse(key);
        if matches!(step, Some(Step::Itself)) {
            self.tag(b'.');
            self.tag(if live.is_some() { b'+' } else { b'-' });
            return;
        }
        let found = step.and_then(|step| step.descend(live?));
        let mark = self.pointer.len();
        if let Some((_, token)) = &found {
            self.pointer.push('/');
            self.pointer.push_str(token);
        }
        if !self.ignored() {
            self.tag(b'>');
            self.text(key);
            let value = found.map(|(value, _)| value);
            match subtree {
                Some(subtree) if !subtree.is_empty() => self.tree(subtree, value, others, depth + 1),
                Some(_) | None => self.leaf(value, others, depth + 1),
            }
            self.tag(b'<');
        }
        self.pointer.truncate(mark);
    }

    /// A field owned as a whole: its value, but for what others own inside it. They can own something inside
    /// only where the field is not atomic, as `emptyDir: {}`, and there their parts are not ours.
    fn leaf(&mut self, value: Option<&Value>, others: &[&Tree], depth: usize) {
        match value {
            None => self.tag(b'-'),
            Some(value) if others.iter().all(|tree| tree.is_empty()) => self.value(value, depth),
            Some(value) => {
                let mut rest = value.clone();
                others.iter().for_each(|tree| remove_owned(&mut rest, tree, depth));
                self.value(&rest, depth);
            }
        }
    }

    fn value(&mut self, value: &Value, depth: usize) {
        match value {
            Value::Null => self.tag(b'n'),
            Value::Bool(true) => self.tag(b't'),
            Value::Bool(false) => self.tag(b'f'),
            Value::Number(number) => {
                self.tag(b'#');
                self.text(&number.to_string());
            }
            Value::String(text) => {
                self.tag(b'"');
                self.text(text);
            }
            Value::Array(_) | Value::Object(_) if depth > MAX_DEPTH => self.tag(b'!'),
            Value::Array(items) => {
                self.tag(b'[');
                items.iter().for_each(|item| self.value(item, depth + 1));
                self.tag(b']');
            }
            Value::Object(fields) => self.object(fields, depth),
        }
    }

    fn object(&mut self, fields: &Tree, depth: usize) {
        self.tag(b'{');
        let mut names: Vec<&String> = fields.keys().collect();
        names.sort_unstable();
        for name in names {
            self.text(name);
            self.value(&fields[name], depth + 1);
        }
        self.tag(b'}');
    }

    fn ignored(&self) -> bool {
        self.ignore.contains(&self.pointer)
    }

    fn tag(&mut self, tag: u8) {
        self.hash.update(&[tag]);
    }

    fn text(&mut self, text: &str) {
        self.hash.update(&(text.len() as u64).to_be_bytes());
        self.hash.update(text.as_bytes());
    }
}

/// Takes out of `value` the leaves of `tree`.
fn remove_owned(value: &mut Value, tree: &Tree, depth: usize) {
    if depth > MAX_DEPTH {
        return;
    }
    let mut gone = Vec::new();
    for (key, subtree) in tree {
        let Some((child, token)) = Step::parse(key).and_then(|step| {
            let (child, token) = step.descend(value)?;
            Some((child.clone(), token))
        }) else {
            continue;
        };
        match subtree.as_object() {
            Some(subtree) if !subtree.is_empty() => {
                let mut child = child;
                remove_owned(&mut child, subtree, depth + 1);
                put(value, &token, child);
            }
            Some(_) | None => gone.push(token),
        }
    }
    drop_children(value, &gone);
}

fn put(value: &mut Value, token: &str, child: Value) {
    if let Some(slot) = value.pointer_mut(&format!("/{token}")) {
        *slot = child;
    }
}

fn drop_children(value: &mut Value, tokens: &[String]) {
    match value {
        Value::Object(fields) => {
            fields.retain(|name, _| !tokens.contains(&name.replace('~', "~0").replace('/', "~1")));
        }
        Value::Array(items) => {
            let mut index = 0_usize;
            items.retain(|_| {
                index += 1;
                !tokens.contains(&(index - 1).to_string())
            });
        }
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// Whether `tree` holds a leaf that `manifest` sets.
fn overlaps(tree: &Tree, manifest: &Value, depth: usize) -> bool {
    depth <= MAX_DEPTH
        && tree.iter().any(|(key, subtree)| {
            let Some(step) = Step::parse(key) else { return false };
            let Some((value, _)) = step.descend(manifest) else { return false };
            match subtree.as_object() {
                Some(subtree) if !subtree.is_empty() => overlaps(subtree, value, depth + 1),
                Some(_) | None => true,
            }
        })
}

fn reaches(value: &Value, path: &str, depth: usize) -> bool {
    if path.is_empty() {
        return true;
    }
    if depth > MAX_DEPTH {
        return false;
    }
    if let Some(rest) = path.strip_prefix('.') {
        let Some(fields) = value.as_object() else { return false };
        return fields.iter().any(|(name, child)| {
            rest.strip_prefix(name.as_str()).is_some_and(|rest| {
                (rest.is_empty() || rest.starts_with(['.', '['])) && reaches(child, rest, depth + 1)
            })
        });
    }
    let Some((selector, rest)) = path.strip_prefix('[').and_then(split_bracket) else { return false };
    selected(value, selector).is_some_and(|child| reaches(child, rest, depth + 1))
}

/// Splits at the bracket that closes, which is the first one outside a quoted text.
fn split_bracket(text: &str) -> Option<(&str, &str)> {
    let (mut quoted, mut escaped) = (false, false);
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b']' if !quoted => return Some((&text[..at], &text[at + 1..])),
            _ => {}
        }
    }
    None
}

/// The list item that a bracket names: `0`, `="member"` or `containerPort=80,protocol="TCP"`.
fn selected<'v>(list: &'v Value, selector: &str) -> Option<&'v Value> {
    if let Ok(index) = selector.parse::<usize>() {
        return list.as_array()?.get(index);
    }
    if let Some(member) = selector.strip_prefix('=') {
        let member: Value = serde_json::from_str(member).ok()?;
        return find(list, |item| *item == member).map(|(item, _)| item);
    }
    let keys = Value::Object(parse_keys(selector)?);
    find(list, |item| matches_keys(item, &keys)).map(|(item, _)| item)
}

/// `containerPort=80,protocol="TCP"` as an object. Values are JSON, but for Go's quoting, whose common
/// escapes are JSON's too.
fn parse_keys(mut selector: &str) -> Option<Tree> {
    let mut keys = Tree::new();
    while !selector.is_empty() {
        let (name, rest) = selector.split_once('=')?;
        let mut values = serde_json::Deserializer::from_str(rest).into_iter::<Value>();
        let value = values.next()?.ok()?;
        let rest = &rest[values.byte_offset()..];
        selector = match rest.strip_prefix(',') {
            Some(rest) => rest,
            None if rest.is_empty() => rest,
            None => return None,
        };
        keys.insert(name.to_owned(), value);
    }
    Some(keys)
}

#[cfg(test)]
mod tests;
