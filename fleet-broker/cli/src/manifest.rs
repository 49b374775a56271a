//! From text to the objects of a bundle: each named, in its place, without what only a server may set.
//!
//! Everything that is wrong is found in one pass and reported together, each with the file, the line and the
//! object it is about.

mod clean;
mod problem;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    str::FromStr,
};

use protocol::{documents::ObjectName, ids::Name, limits};
use serde_json::Value;

pub use problem::{ManifestError, ObjectProblem, Problem};

use crate::{
    kinds::{self, Scope},
    source::SourceText,
    yaml::{self, YamlError},
};

/// What the operator decided about the manifests.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Where objects go that could be in any namespace and name none.
    pub namespace: Name,
    /// Kinds of custom resources that live outside namespaces and whose definitions are not among the manifests.
    pub cluster_scoped: BTreeSet<GroupKind>,
    /// Whether secrets may travel as plain text.
    pub plaintext_secrets: bool,
}

/// A kind with its group, written `Kind.group`, or `Kind` alone in the core group.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct GroupKind {
    /// API group; empty for the core group.
    pub group: String,
    /// Kind.
    pub kind: String,
}

impl FromStr for GroupKind {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, group) = text.split_once('.').unwrap_or((text, ""));
        match kind.starts_with(|first: char| first.is_ascii_uppercase()) {
            true => Ok(Self { group: group.to_owned(), kind: kind.to_owned() }),
            false => Err("write it as Kind.group, such as ClusterIssuer.cert-manager.io".to_owned()),
        }
    }
}

impl fmt::Display for GroupKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let dot = if self.group.is_empty() { "" } else { "." };
        write!(f, "{}{dot}{}", self.kind, self.group)
    }
}

/// Where an object was written.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The file's path, or "standard input".
    pub source: String,
    /// The line its document starts on.
    pub line: usize,
    /// Which document of the source, counted from 1.
    pub document: usize,
    /// Which item of a list, counted from 1.
    pub item: Option<usize>,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{} (document {}", self.source, self.line, self.document)?;
        self.item.map_or(Ok(()), |item| write!(f, ", item {item}"))?;
        f.write_str(")")
    }
}

/// One object, ready to be signed.
#[derive(Debug, Clone, PartialEq)]
pub struct Object {
    /// API group; empty for the core group.
    pub group: String,
    /// API version.
    pub version: String,
    /// Kind.
    pub kind: String,
    /// Namespace; none for cluster-scoped objects.
    pub namespace: Option<Name>,
    /// Name.
    pub name: ObjectName,
    /// All of it.
    pub value: Value,
    /// Where it was written.
    pub origin: Origin,
}

/// What the manifests hold.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Manifests {
    /// The objects, in the order in which they were written.
    pub objects: Vec<Object>,
    /// What was changed or left out, and why, in sentences.
    pub warnings: Vec<String>,
}

/// Reads the objects out of `texts`.
pub fn parse(texts: &[SourceText], rules: &Rules) -> Result<Manifests, ManifestError> {
    let mut problems = Vec::new();
    let mut written = Vec::new();
    for text in texts {
        let documents = yaml::read(&text.text).map_err(|problem| syntax(text, problem))?;
        for document in documents {
            let origin = Origin {
                source: text.name.clone(),
                line: document.line,
                document: document.number,
                item: None,
            };
            expand(document.value, origin, &mut written);
        }
    }
    if written.is_empty() {
        let names: Vec<&str> = texts.iter().map(|text| text.name.as_str()).collect();
        return Err(ManifestError::NoObjects(names.join(", ")));
    }
    let scopes = Scopes::new(&written, rules);
    let mut manifests = Manifests::default();
    for (origin, value) in written {
        let described = describe(&value);
        match object(value, origin.clone(), &scopes, rules, &mut manifests.warnings) {
            Ok(object) => manifests.objects.push(object),
            Err(problem) => problems.push(Problem { origin, object: described, problem }),
        }
    }
    problems.extend(duplicates(&manifests.objects));
    if manifests.objects.len() > limits::RELEASE_OBJECTS {
        return Err(ManifestError::TooManyObjects(manifests.objects.len()));
    }
    if problems.is_empty() { Ok(manifests) } else { Err(ManifestError::Problems(problems)) }
}

fn syntax(text: &SourceText, problem: YamlError) -> ManifestError {
    let line = text.text.lines().nth(problem.line.saturating_sub(1)).unwrap_or_default();
    ManifestError::Syntax { file: text.name.clone(), is_template: line.contains("{{"), problem }
}

/// `kind: List`, and any other kind of list with items, stands for its items.
fn expand(mut value: Value, origin: Origin, written: &mut Vec<(Origin, Value)>) {
    let is_list = value.get("kind").and_then(Value::as_str).is_some_and(|kind| kind.ends_with("List"));
    let items = value.get_mut("items").filter(|_| is_list).and_then(Value::as_array_mut).map(std::mem::take);
    let Some(items) = items else { return written.push((origin, value)) };
    for (index, item) in items.into_iter().enumerate() {
        expand(item, Origin { item: Some(index + 1), ..origin.clone() }, written);
    }
}

/// Which kinds live where: Kubernetes' own, those defined in the bundle, and those the operator named.
struct Scopes<'a> {
    defined: BTreeMap<GroupKind, Scope>,
    named: &'a BTreeSet<GroupKind>,
}

impl<'a> Scopes<'a> {
    fn new(written: &[(Origin, Value)], rules: &'a Rules) -> Self {
        let defined = written.iter().filter_map(|(_, value)| definition(value)).collect();
        Self { defined, named: &rules.cluster_scoped }
    }

    fn of(&self, kind: &GroupKind) -> Option<Scope> {
        let named = || self.named.contains(kind).then_some(Scope::Cluster);
        let defined = || self.defined.get(kind).copied();
        kinds::scope_of(&kind.group, &kind.kind).or_else(defined).or_else(named)
    }
}

fn definition(value: &Value) -> Option<(GroupKind, Scope)> {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    if text("/kind")? != "CustomResourceDefinition" {
        return None;
    }
    let scope = if text("/spec/scope")? == "Cluster" { Scope::Cluster } else { Scope::Namespace };
    let (group, kind) = (text("/spec/group")?.to_owned(), text("/spec/names/kind")?.to_owned());
    Some((GroupKind { group, kind }, scope))
}

fn object(
    mut value: Value,
    origin: Origin,
    scopes: &Scopes<'_>,
    rules: &Rules,
    warnings: &mut Vec<String>,
) -> Result<Object, ObjectProblem> {
    if !value.is_object() {
        return Err(ObjectProblem::NotAMapping);
    }
    let api_version = required(&value, "apiVersion", "/apiVersion")?;
    let (group, version) = api_version.rsplit_once('/').unwrap_or(("", &api_version));
    if version.is_empty() || group.contains('/') || api_version.starts_with('/') {
        return Err(ObjectProblem::ApiVersion(api_version));
    }
    let kind = GroupKind { group: group.to_owned(), kind: required(&value, "kind", "/kind")? };
    let name = ObjectName::new(name(&value)?).map_err(ObjectProblem::Name)?;
    let title = format!("{origin}: {kind} {}", name.as_str());
    let namespace = namespace(&mut value, &kind, scopes, rules, &title, warnings)?;
    clean::remove_server_fields(&mut value, &title, warnings);
    if kind.group.is_empty() && kind.kind == "Secret" && !rules.plaintext_secrets && holds_secret(&value) {
        return Err(ObjectProblem::PlaintextSecret);
    }
    let bytes = value.to_string().len() as u64;
    if bytes > limits::OBJECT_BYTES {
        return Err(ObjectProblem::TooLarge(bytes));
    }
    Ok(Object {
        group: kind.group,
        version: version.to_owned(),
        kind: kind.kind,
        namespace,
        name,
        value,
        origin,
    })
}

fn name(value: &Value) -> Result<String, ObjectProblem> {
    let generated = value.pointer("/metadata/generateName").is_some();
    if generated && value.pointer("/metadata/name").is_none() {
        return Err(ObjectProblem::GenerateName);
    }
    required(value, "metadata.name", "/metadata/name")
}

/// The namespace the object goes to, also written into it.
fn namespace(
    value: &mut Value,
    kind: &GroupKind,
    scopes: &Scopes<'_>,
    rules: &Rules,
    title: &str,
    warnings: &mut Vec<String>,
) -> Result<Option<Name>, ObjectProblem> {
    let written =
        optional(value, "metadata.namespace", "/metadata/namespace")?.filter(|name| !name.is_empty());
    let Some(Value::Object(metadata)) = value.get_mut("metadata") else {
        return Err(ObjectProblem::Missing("metadata"));
    };
    let namespace = match (scopes.of(kind), written) {
        (Some(Scope::Cluster), written) => {
            metadata.remove("namespace");
            if let Some(name) = written {
                warnings.push(format!("{title}: left out its namespace {name}, {} has none", kind.kind));
            }
            return Ok(None);
        }
        (None | Some(Scope::Namespace), Some(written)) => {
            Name::new(written).map_err(ObjectProblem::Namespace)?
        }
        (Some(Scope::Namespace), None) => rules.namespace.clone(),
        (None, None) => return Err(ObjectProblem::UnknownScope(kind.clone())),
    };
    metadata.insert("namespace".to_owned(), Value::from(namespace.as_str()));
    Ok(Some(namespace))
}

fn holds_secret(value: &Value) -> bool {
    ["data", "stringData"].iter().any(|field| match value.get(field) {
        None | Some(Value::Null) => false,
        Some(Value::Object(map)) => !map.is_empty(),
        Some(_) => true,
    })
}

fn required(value: &Value, field: &'static str, pointer: &str) -> Result<String, ObjectProblem> {
    optional(value, field, pointer)?.filter(|text| !text.is_empty()).ok_or(ObjectProblem::Missing(field))
}

fn optional(value: &Value, field: &'static str, pointer: &str) -> Result<Option<String>, ObjectProblem> {
    match value.pointer(pointer) {
        None | Some(Value::Null) => Ok(None),
        Some(Value::String(text)) => Ok(Some(text.clone())),
        Some(other) => Err(ObjectProblem::NotText { field, found: other.to_string() }),
    }
}

/// What to call an object of which little may be known.
fn describe(value: &Value) -> String {
    let text = |pointer: &str| value.pointer(pointer).and_then(Value::as_str);
    match (text("/kind"), text("/metadata/name").or_else(|| text("/metadata/generateName"))) {
        (Some(kind), Some(name)) => format!("{kind} {name}"),
        (Some(kind), None) => kind.to_owned(),
        (None, Some(name)) => format!("object {name}"),
        (None, None) => "this document".to_owned(),
    }
}

fn duplicates(objects: &[Object]) -> Vec<Problem> {
    let mut seen = BTreeMap::new();
    let mut problems = Vec::new();
    for object in objects {
        let key = (&object.group, &object.kind, &object.namespace, &object.name);
        if let Some(first) = seen.insert(key, &object.origin) {
            problems.push(Problem {
                origin: object.origin.clone(),
                object: describe(&object.value),
                problem: ObjectProblem::Duplicate(first.clone()),
            });
        }
    }
    problems
}

#[cfg(test)]
mod tests;
