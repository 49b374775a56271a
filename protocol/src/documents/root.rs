//! The root document: who may sign what. Its shape follows TUF's root role.

use std::{collections::BTreeSet, fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use super::{ContentError, Document, DocumentType, at_most, unique};
use crate::{
    ids::{Digest, FleetId, IdError, KeyId, Name},
    keys::PublicKey,
    limits,
    order::Epoch,
    time::UnixSeconds,
};

/// Who may sign what in one fleet. Signed by root keys, kept offline.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Root {
    /// The fleet it rules.
    pub fleet: FleetId,
    /// Counts up by exactly one.
    pub version: u32,
    /// The epoch every desired state must carry. Only a root raises it.
    pub min_epoch: Epoch,
    /// When it was signed.
    pub issued: UnixSeconds,
    /// After this it is expired, which never stops a valid successor.
    pub not_after: UnixSeconds,
    /// Every key that any role names.
    pub keys: Vec<PublicKey>,
    /// Who signs the next root.
    pub root: Role,
    /// Who signs desired states, heads and acknowledgements.
    pub director: Role,
    /// Who signs releases, each within a scope.
    pub releases: Vec<ReleaseRole>,
    /// Digests of the SubjectPublicKeyInfo of certificate authorities the hub's certificates come from.
    pub ca_pins: Vec<Digest>,
    /// Digest of the envelope of the version before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<Digest>,
}

/// Keys of which a number must sign together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Role {
    /// How many different keys must sign.
    pub threshold: u8,
    /// Which keys may.
    pub keys: Vec<KeyId>,
}

/// Keys that may sign the releases of one tenant, in its namespaces.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ReleaseRole {
    /// The tenant whose applications these keys release.
    pub tenant: Name,
    /// Where its objects may live.
    pub namespaces: Vec<NamespacePattern>,
    /// Which keys may sign.
    pub keys: Vec<KeyId>,
    /// How many must sign a release whose objects all live in these namespaces.
    pub threshold: u8,
    /// How many must sign one that holds a cluster-scoped object, policy or an agent update. At least two.
    pub privileged_threshold: u8,
}

/// A namespace, or with a `*` at its end every namespace that starts so.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct NamespacePattern(String);

impl NamespacePattern {
    /// Whether the pattern covers `namespace`.
    pub fn covers(&self, namespace: &Name) -> bool {
        match self.0.strip_suffix('*') {
            Some(start) => namespace.as_str().starts_with(start),
            None => namespace.as_str() == self.0,
        }
    }
}

impl FromStr for NamespacePattern {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let stem = text.strip_suffix('*').unwrap_or(text);
        // A stem may end in '-', which a whole name may not: "radio-*".
        if !(stem.is_empty() && text == "*") {
            Name::new(if stem.len() < text.len() { format!("{stem}x") } else { stem.to_owned() })?;
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for NamespacePattern {
    type Error = IdError;
    fn try_from(text: String) -> Result<Self, IdError> {
        text.parse()
    }
}

impl From<NamespacePattern> for String {
    fn from(pattern: NamespacePattern) -> Self {
        pattern.0
    }
}

impl fmt::Display for NamespacePattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Root {
    /// The public keys that `ids` name.
    pub fn keys_of(&self, ids: &[KeyId]) -> Vec<PublicKey> {
        self.keys.iter().filter(|key| ids.contains(&key.id())).copied().collect()
    }

    /// The roles that release for `tenant`.
    pub fn release_roles(&self, tenant: &Name) -> impl Iterator<Item = &ReleaseRole> {
        self.releases.iter().filter(move |role| &role.tenant == tenant)
    }

    fn check_role(&self, field: &str, keys: &[KeyId], threshold: u8) -> Result<(), ContentError> {
        unique(field, keys.iter())?;
        if threshold == 0 || usize::from(threshold) > keys.len() {
            let problem = format!("threshold {threshold} of {} keys can never hold as meant", keys.len());
            return Err(ContentError::new(field, problem));
        }
        match keys.iter().find(|id| !self.keys.iter().any(|key| &key.id() == *id)) {
            Some(id) => Err(ContentError::new(field, format!("key {id} is not among the root's keys"))),
            None => Ok(()),
        }
    }

    /// What two roles must agree on is only as strong as the keys they do not share. One release key may
    /// serve several tenants.
    fn check_roles_apart(&self) -> Result<(), ContentError> {
        let releases: BTreeSet<&KeyId> = self.releases.iter().flat_map(|role| &role.keys).collect();
        let keys = self.root.keys.iter().chain(&self.director.keys).chain(releases.iter().copied());
        unique("keys of root, director and releases", keys)
    }
}

impl Document for Root {
    const TYPE: DocumentType = DocumentType::Root;
    const IS_NAMED: bool = true;

    fn check(&self) -> Result<(), ContentError> {
        at_most("keys", &self.keys, limits::ROOT_KEYS)?;
        unique("keys", self.keys.iter())?;
        at_most("releases", &self.releases, limits::ROOT_KEYS)?;
        self.check_role("root", &self.root.keys, self.root.threshold)?;
        self.check_role("director", &self.director.keys, self.director.threshold)?;
        if self.director.threshold != 1 {
            return Err(ContentError::new("director", "its documents carry one signature: threshold 1"));
        }
        for role in &self.releases {
            let field = format!("releases of {}", role.tenant);
            self.check_role(&field, &role.keys, role.threshold)?;
            if role.privileged_threshold < 2.max(role.threshold) {
                return Err(ContentError::new(field, "cluster-scoped objects need two signatures or more"));
            }
        }
        self.check_roles_apart()?;
        if self.version == 0 || self.not_after <= self.issued {
            return Err(ContentError::new("version", "counts from 1 and expires after it was issued"));
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pattern_covers_its_name_or_its_start() {
        let cases = [
            // pattern, namespace, whether it covers it
            ("radio", "radio", true),
            ("radio", "radio-north", false),
            ("radio", "radi", false),
            ("radio-*", "radio-north", true),
            ("radio-*", "radio", false),
            ("radio-*", "radiology", false),
            ("radio*", "radiology", true),
            ("radio*", "radio", true),
            ("*", "kube-system", true),
        ];
        for (pattern, namespace, covers) in cases {
            let parsed: NamespacePattern = pattern.parse().unwrap();
            assert_eq!(parsed.covers(&Name::new(namespace).unwrap()), covers, "{pattern} and {namespace}");
            assert_eq!(parsed.to_string(), pattern);
        }
    }

    #[test]
    fn a_star_stands_only_at_the_end_of_a_name() {
        let long = format!("{}*", "a".repeat(63));
        for text in ["", "**", "*a", "a*b", "a**", "-*", "A*", "a.*", "a/*", "a-", "kube_*", "?", &long] {
            assert!(text.parse::<NamespacePattern>().is_err(), "{text:?}");
        }
    }
}
