//! The release: what an application consists of, and how far the hub may go with it.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use super::{ContentError, Document, DocumentType, at_most, kinds, pointer, short, unique};
use crate::{
    ids::{AppId, Digest, IdError, Name},
    limits,
    time::UnixSeconds,
};

/// One version of one application. Signed by release keys, never on the hub.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Release {
    /// Whose application it is.
    pub app: AppId,
    /// The version people read, such as `1.4.2`.
    pub version: String,
    /// Counts up with every release of this application.
    pub counter: u64,
    /// The lowest counter an agent may still be sent back to once this release proved healthy.
    pub floor: u64,
    /// Digest of the unpacked content: the objects' JSON documents, one behind the other, in this order.
    pub pack: Digest,
    /// What the content consists of, in the order in which it is applied.
    pub objects: Vec<ObjectEntry>,
    /// The namespaces it says its objects live in.
    pub scope: Vec<Name>,
    /// What the hub may set.
    pub parameters: Vec<Parameter>,
    /// How far the hub may go.
    pub ceilings: Ceilings,
    /// After this it is never newly installed. Where it runs, it goes on being healed.
    pub not_after: UnixSeconds,
}

/// One object of a release.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ObjectEntry {
    /// API group; empty for the core group.
    pub group: String,
    /// API version, such as `v1`.
    pub version: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// Namespace; none for cluster-scoped objects.
    pub namespace: Option<Name>,
    /// Name.
    pub name: ObjectName,
    /// Length of its JSON document in bytes.
    pub len: u32,
    /// Digest of its JSON document.
    pub sha256: Digest,
}

/// A Kubernetes object's name: one path segment (RBAC allows more than RFC 1123 does).
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ObjectName(String);

impl ObjectName {
    /// Checks that the text can be one segment of a URL's path, unescaped (`pchar` of RFC 3986, 3.3).
    pub fn new(text: impl Into<String>) -> Result<Self, IdError> {
        let text = text.into();
        let is_segment = text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._~!$&'()*+,;=:@".contains(&b));
        if !is_segment || text.is_empty() || text.len() > 253 || text == "." || text == ".." {
            let rule = "use 1 to 253 letters, digits and -._~!$&'()*+,;=:@, and not '.' or '..'";
            return Err(IdError { what: "object name", value: text.chars().take(80).collect(), rule });
        }
        Ok(Self(text))
    }

    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ObjectName {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        Self::new(text)
    }
}

impl From<ObjectName> for String {
    fn from(name: ObjectName) -> Self {
        name.0
    }
}

impl fmt::Display for ObjectEntry {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.namespace {
            Some(namespace) => write!(f, "{} {namespace}/{}", self.kind, self.name.0),
            None => write!(f, "{} {}", self.kind, self.name.0),
        }
    }
}

/// A value the hub may set in the release's objects.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Parameter {
    /// Its name.
    pub name: String,
    /// What values it takes.
    pub of: ParameterType,
    /// Its value where nobody sets one; without one the objects stay as they were signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub default: Option<String>,
    /// Where it goes.
    pub targets: Vec<ParameterTarget>,
}

/// What values a parameter takes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum ParameterType {
    /// One of these.
    Enum(Vec<String>),
    /// A whole number between these, both included.
    Integer {
        /// The least.
        min: i64,
        /// The greatest.
        max: i64,
    },
    /// Text of these characters, at most so long.
    Text {
        /// The allowed characters.
        charset: String,
        /// The greatest length in bytes.
        max_bytes: u16,
    },
}

/// One place a parameter goes to.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ParameterTarget {
    /// Position of the object in the release.
    pub object: u32,
    /// JSON pointer (RFC 6901) to an existing scalar in it.
    pub pointer: String,
}

/// How far the hub may go with a release. A desired state may only stay below.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Ceilings {
    /// Deletions moving to this release may cause; where absent, the protocol's default share applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_deletes: Option<u32>,
    /// What to do with an object that is already there and not ours.
    #[serde(default)]
    pub adopt: Adopt,
    /// What is left to others, and so left out of the apply.
    #[serde(default)]
    pub ignore_differences: Vec<IgnoreRule>,
    /// Objects whose replicas a rollout may split between two releases, by position.
    #[serde(default)]
    pub splittable: Vec<u32>,
    /// Whether the release can cut the cluster's own link, so that it must confirm itself.
    #[serde(default)]
    pub affects_link: bool,
    /// Secrets that others may fill in.
    #[serde(default)]
    pub secret_slots: Vec<SecretSlot>,
}

/// What to do with an object that is already there and not in the inventory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Adopt {
    /// Report it and leave it alone.
    Never,
    /// Take it over if applying would change nothing in it.
    #[default]
    IfIdentical,
    /// Take it over, unless another manager holds a field that would change.
    Always,
}

/// Fields of some objects that belong to others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct IgnoreRule {
    /// The objects' kind.
    pub kind: String,
    /// One object's name; every object of the kind where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// JSON pointers (RFC 6901) to what is left out.
    pub pointers: Vec<String>,
}

/// A secret that others may fill in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SecretSlot {
    /// The secret's namespace.
    pub namespace: Name,
    /// The secret's name.
    pub name: ObjectName,
    /// The lowest version that may fill it.
    pub floor: u64,
}

impl Release {
    /// Length of the unpacked content in bytes.
    pub fn pack_len(&self) -> u64 {
        self.objects.iter().map(|object| u64::from(object.len)).sum()
    }

    /// Where the object at `index` starts in the unpacked content.
    pub fn offset_of(&self, index: usize) -> u64 {
        self.objects.iter().take(index).map(|object| u64::from(object.len)).sum()
    }

    /// Whether it holds anything that is not in a namespace, and so needs the privileged threshold.
    pub fn is_privileged(&self) -> bool {
        self.objects.iter().any(|object| object.namespace.is_none())
    }

    /// The ceilings' pointers for one object.
    pub fn ignored_pointers(&self, entry: &ObjectEntry) -> Vec<&str> {
        let names = |rule: &IgnoreRule| rule.name.as_deref().is_none_or(|name| name == entry.name.as_str());
        let rules = self.ceilings.ignore_differences.iter();
        rules
            .filter(|rule| rule.kind == entry.kind && names(rule))
            .flat_map(|rule| rule.pointers.iter().map(String::as_str))
            .collect()
    }

    /// The final value of each parameter: `values` over the defaults. Refuses what was not declared.
    pub fn resolve(
        &self,
        values: &BTreeMap<String, String>,
    ) -> Result<BTreeMap<String, String>, ContentError> {
        if let Some(name) = values.keys().find(|name| !self.parameters.iter().any(|p| &p.name == *name)) {
            return Err(ContentError::new(format!("parameter {name}"), "the release does not declare it"));
        }
        let mut resolved = BTreeMap::new();
        for parameter in &self.parameters {
            let Some(value) = values.get(&parameter.name).or(parameter.default.as_ref()) else { continue };
            parameter.check_value(value)?;
            resolved.insert(parameter.name.clone(), value.clone());
        }
        Ok(resolved)
    }

    fn check_objects(&self) -> Result<(), ContentError> {
        at_most("objects", &self.objects, limits::RELEASE_OBJECTS)?;
        let keys = self.objects.iter().map(|o| (&o.group, &o.kind, &o.namespace, &o.name));
        unique("objects", keys)?;
        for object in &self.objects {
            if u64::from(object.len) > limits::OBJECT_BYTES {
                return Err(ContentError::new(object.to_string(), "larger than any API server takes"));
            }
            object.check()?;
            self.check_namespace(&object.to_string(), object.namespace.as_ref())?;
        }
        if self.pack_len() > limits::PACK_BYTES {
            return Err(ContentError::new("objects", "together larger than a release may be"));
        }
        Ok(())
    }

    fn check_namespace(&self, field: &str, namespace: Option<&Name>) -> Result<(), ContentError> {
        match namespace.filter(|name| !self.scope.contains(name)) {
            Some(name) => {
                let problem = format!("namespace {name} is not in the release's scope");
                Err(ContentError::new(field, problem))
            }
            None => Ok(()),
        }
    }

    fn check_parameters(&self) -> Result<(), ContentError> {
        at_most("parameters", &self.parameters, limits::PARAMETERS)?;
        unique("parameters", self.parameters.iter().map(|parameter| &parameter.name))?;
        self.parameters.iter().try_for_each(|parameter| parameter.check(&self.objects))?;
        unique("parameter targets", self.parameters.iter().flat_map(|parameter| &parameter.targets))
    }

    fn check_ceilings(&self) -> Result<(), ContentError> {
        let Ceilings { ignore_differences, splittable, secret_slots, .. } = &self.ceilings;
        at_most("ignoreDifferences", ignore_differences, limits::PARAMETERS)?;
        ignore_differences.iter().try_for_each(IgnoreRule::check)?;
        unique("splittable", splittable.iter())?;
        if splittable.iter().any(|index| *index as usize >= self.objects.len()) {
            return Err(ContentError::new("splittable", "names an object that is not there"));
        }
        at_most("secretSlots", secret_slots, limits::PARAMETERS)?;
        unique("secretSlots", secret_slots.iter().map(|slot| (&slot.namespace, &slot.name)))?;
        secret_slots.iter().try_for_each(|slot| self.check_namespace("secretSlots", Some(&slot.namespace)))
    }
}

impl ObjectEntry {
    /// Whether anything in it may be set by a parameter: nothing in RBAC may.
    pub(crate) fn is_settable(&self) -> bool {
        self.group != "rbac.authorization.k8s.io"
    }

    fn check(&self) -> Result<(), ContentError> {
        let refuse = |problem: &str| Err(ContentError::new(self.to_string(), problem));
        if u64::from(self.len) > limits::OBJECT_BYTES {
            return refuse("larger than any API server takes");
        }
        if !kinds::is_group(&self.group) || !kinds::is_version(&self.version) || !kinds::is_kind(&self.kind) {
            return refuse("its group, version or kind is not one of a Kubernetes API");
        }
        if self.namespace.is_some() && kinds::is_cluster_scoped(&self.group, &self.kind) {
            return refuse("a kind that belongs to the cluster has no namespace");
        }
        Ok(())
    }
}

impl IgnoreRule {
    fn check(&self) -> Result<(), ContentError> {
        at_most("ignoreDifferences", &self.pointers, limits::PARAMETERS)?;
        let harmless = |place: &&String| pointer::is_well_formed(place) && pointer::may_be_ignored(place);
        match self.pointers.iter().find(|place| !harmless(place)) {
            Some(place) => {
                let problem = format!("{place:?} is no JSON pointer, or aims at an object's identity");
                Err(ContentError::new("ignoreDifferences", problem))
            }
            None => Ok(()),
        }
    }
}

impl Document for Release {
    const TYPE: DocumentType = DocumentType::Release;
    const IS_NAMED: bool = true;
    const LIMIT: usize = limits::RELEASE_BYTES;

    fn check(&self) -> Result<(), ContentError> {
        short("version", &self.version, limits::TEXT_BYTES)?;
        if self.version.is_empty() || self.floor > self.counter {
            return Err(ContentError::new("version", "is empty, or the floor lies above the counter"));
        }
        self.check_objects()?;
        self.check_parameters()?;
        self.check_ceilings()
    }
}

impl Parameter {
    /// Refuses a value outside the declared type.
    pub fn check_value(&self, value: &str) -> Result<(), ContentError> {
        let refuse = |problem: String| Err(ContentError::new(format!("parameter {}", self.name), problem));
        match &self.of {
            ParameterType::Enum(values) if values.iter().any(|allowed| allowed == value) => Ok(()),
            ParameterType::Enum(values) => refuse(format!("{value:?} is none of {}", values.join(", "))),
            ParameterType::Integer { min, max } => match value.parse::<i64>() {
                // The text must be the number's own, so that "+1" and "01" are not two more spellings of 1.
                Ok(number) if (*min..=*max).contains(&number) && number.to_string() == value => Ok(()),
                _ => refuse(format!("{value:?} is not a whole number from {min} to {max}")),
            },
            ParameterType::Text { charset, max_bytes } => {
                let fits = value.len() <= usize::from(*max_bytes);
                if fits && value.chars().all(|c| charset.contains(c)) {
                    return Ok(());
                }
                refuse(format!("{value:?} is longer than {max_bytes} bytes or leaves {charset:?}"))
            }
        }
    }

    fn check(&self, objects: &[ObjectEntry]) -> Result<(), ContentError> {
        let field = format!("parameter {}", self.name);
        short(&field, &self.name, limits::TEXT_BYTES)?;
        at_most(&field, &self.targets, limits::PARAMETERS)?;
        self.targets.iter().try_for_each(|target| target.check(&field, objects))?;
        if matches!(self.of, ParameterType::Integer { min, max } if min > max) {
            return Err(ContentError::new(field, "its least value is above its greatest"));
        }
        self.default.as_ref().map_or(Ok(()), |value| self.check_value(value))
    }
}

impl ParameterTarget {
    fn check(&self, field: &str, objects: &[ObjectEntry]) -> Result<(), ContentError> {
        let refuse = |problem: String| Err(ContentError::new(field, problem));
        let Some(object) = objects.get(self.object as usize) else {
            return refuse("a target names an object that is not there".to_owned());
        };
        if !pointer::is_well_formed(&self.pointer) || !pointer::may_be_set(&self.pointer) {
            return refuse(format!("{:?} is no JSON pointer, or aims at an object's identity", self.pointer));
        }
        if !object.is_settable() {
            return refuse(format!("{object} is RBAC, in which nothing may be set"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(kind: &str, name: &str, len: u32) -> ObjectEntry {
        ObjectEntry {
            group: String::new(),
            version: "v1".to_owned(),
            kind: kind.to_owned(),
            namespace: None,
            name: ObjectName::new(name).unwrap(),
            len,
            sha256: Digest::of(b""),
        }
    }

    fn release() -> Release {
        let rule = |kind: &str, name: Option<&str>, pointer: &str| IgnoreRule {
            kind: kind.to_owned(),
            name: name.map(str::to_owned),
            pointers: vec![pointer.to_owned()],
        };
        let ignore_differences = vec![
            rule("Pod", None, "/spec/a"),
            rule("Pod", Some("one"), "/spec/b"),
            rule("Node", None, "/spec/c"),
        ];
        Release {
            app: AppId::new("radio", "gateway").unwrap(),
            version: "1".to_owned(),
            counter: 1,
            floor: 0,
            pack: Digest::of(b""),
            objects: vec![entry("Pod", "one", 10), entry("Pod", "two", u32::MAX), entry("Node", "one", 5)],
            scope: Vec::new(),
            parameters: Vec::new(),
            ceilings: Ceilings { ignore_differences, ..Ceilings::default() },
            not_after: UnixSeconds(0),
        }
    }

    #[test]
    fn objects_lie_one_behind_the_other() {
        let release = release();
        let end = 15 + u64::from(u32::MAX);
        for (index, offset) in [(0, 0), (1, 10), (2, end - 5), (3, end), (9, end)] {
            assert_eq!(release.offset_of(index), offset, "object {index}");
        }
        assert_eq!(release.pack_len(), end);
    }

    #[test]
    fn a_rule_holds_for_its_kind_and_name() {
        let release = release();
        let expected: [&[&str]; 3] = [&["/spec/a", "/spec/b"], &["/spec/a"], &["/spec/c"]];
        for (entry, expected) in release.objects.iter().zip(expected) {
            assert_eq!(release.ignored_pointers(entry), expected, "{entry}");
        }
    }

    #[test]
    fn values_go_over_defaults_and_undeclared_ones_nowhere() {
        let parameter = |name: &str, default: Option<&str>| Parameter {
            name: name.to_owned(),
            of: ParameterType::Integer { min: 0, max: 9 },
            default: default.map(str::to_owned),
            targets: Vec::new(),
        };
        let release =
            Release { parameters: vec![parameter("a", Some("1")), parameter("b", None)], ..release() };
        let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
            pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
        };
        let cases: [(&[_], Option<&[_]>); 5] = [
            (&[], Some(&[("a", "1")])),
            (&[("a", "2")], Some(&[("a", "2")])),
            (&[("b", "3")], Some(&[("a", "1"), ("b", "3")])),
            (&[("a", "10")], None),
            (&[("c", "1")], None),
        ];
        for (values, expected) in cases {
            assert_eq!(release.resolve(&map(values)).ok(), expected.map(map), "{values:?}");
        }
    }
}
