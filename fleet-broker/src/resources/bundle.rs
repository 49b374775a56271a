//! `Bundle`: one immutable, signed version of an application's manifests.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use kube::CustomResource;
use ring::digest::{SHA256, digest};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::field::FieldError;
use super::{schema, validate};

/// Most signatures of one release: a threshold is at most a few keys.
const SIGNATURES_MAX: usize = 16;
/// Most parameters of one release.
const PARAMETERS_MAX: usize = 64;

/// A release as it was signed. It never changes: a new version is a new Bundle.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "edgefleet.dev",
    version = "v1alpha1",
    kind = "Bundle",
    plural = "bundles",
    doc = "One immutable, signed version of an application's manifests, named <application>-<version>.",
    namespaced,
    derive = "PartialEq",
    category = "edgefleet",
    printcolumn(name = "Application", type_ = "string", json_path = ".spec.application"),
    printcolumn(name = "Version", type_ = "string", json_path = ".spec.version"),
    printcolumn(name = "Signed by", type_ = "string", json_path = ".spec.signatures[0].keyId", priority = 1),
    printcolumn(name = "Digest", type_ = "string", json_path = ".spec.digest", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct BundleSpec {
    /// The application it is a version of.
    pub application: String,
    /// Its version.
    pub version: String,
    /// `sha256:` and the hexadecimal digest of the signed release.
    pub digest: String,
    /// `sha256:` and the hexadecimal digest of the content, which is uploaded to `/blobs`.
    pub pack: String,
    /// Who signed the release; a copy, to be read: clusters check the release itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub signatures: Vec<BundleSignature>,
    /// The signed release: base64 of its COSE bytes.
    pub release: String,
    /// What an Application may set; a copy of what the release says.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub parameters: Vec<BundleParameter>,
    /// What the release allows at most; a copy of what it says.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ceilings: Option<BundleCeilings>,
}

/// One signature of a release.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleSignature {
    /// The hash of the public key.
    pub key_id: String,
}

/// One value that an Application may set.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleParameter {
    /// Its name.
    pub name: String,
    /// The values it may take, if these are all.
    #[serde(rename = "enum", default, skip_serializing_if = "Vec::is_empty")]
    pub allowed: Vec<String>,
    /// The value when nobody sets one.
    #[serde(rename = "default", default, skip_serializing_if = "Option::is_none")]
    pub default_value: Option<String>,
    /// The fields that take the value.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub targets: Vec<ParameterTarget>,
}

/// One field of one object that takes a parameter's value.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ParameterTarget {
    /// The object's kind.
    pub kind: String,
    /// The object's name.
    pub name: String,
    /// The JSON pointer (RFC 6901) of the field.
    pub pointer: String,
}

/// What a release allows at most.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct BundleCeilings {
    /// How many objects one change may delete; without it 10, or a tenth of what a cluster holds if that is more.
    #[schemars(schema_with = "schema::unsigned")]
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_deletes: Option<u64>,
    /// Whether objects that exist already are taken over.
    #[serde(default)]
    pub adopt: Adopt,
    /// Fields left to others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub ignore_differences: Vec<IgnoreDifference>,
    /// Whether it can cut the cluster's link to the hub, so that it is reverted unless the link comes back.
    #[serde(default)]
    pub affects_link: bool,
}

/// Whether objects that exist already are taken over.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Adopt {
    /// Never.
    #[default]
    Never,
    /// Only where nothing would change.
    IfIdentical,
    /// Unless another manager holds a field that would change.
    Always,
}

/// Fields of one kind of object that are left to others.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct IgnoreDifference {
    /// The objects' kind.
    pub kind: String,
    /// One object's name; every object of the kind where absent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The JSON pointers (RFC 6901) of the fields.
    pub pointers: Vec<String>,
}

impl validate::Validate for Bundle {
    fn validate(&self) -> Vec<FieldError> {
        let (spec, name) = (&self.spec, self.metadata.name.as_deref().unwrap_or_default());
        let mut errors = Vec::new();
        if name != format!("{}-{}", spec.application, spec.version) {
            let why = format!("must be <application>-<version>: {}-{}", spec.application, spec.version);
            errors.push(FieldError::invalid("metadata.name", name, &why));
        }
        errors.extend(validate::dns_label("spec.application", &spec.application));
        errors.extend(validate::digest("spec.digest", &spec.digest));
        errors.extend(validate::digest("spec.pack", &spec.pack));
        errors.extend(validate::count("spec.signatures", spec.signatures.len(), SIGNATURES_MAX));
        errors.extend(validate::count("spec.parameters", spec.parameters.len(), PARAMETERS_MAX));
        errors.extend(check_release(&spec.release, &spec.digest));
        errors
    }

    fn validate_update(&self, old: &Bundle) -> Vec<FieldError> {
        if self.spec == old.spec {
            return Vec::new();
        }
        vec![FieldError::forbidden("spec", "a Bundle never changes; create one with another version")]
    }
}

fn check_release(release: &str, expected: &str) -> Option<FieldError> {
    let Ok(bytes) = STANDARD.decode(release) else {
        return Some(FieldError::invalid("spec.release", "<bytes>", "must be base64 (RFC 4648, padded)"));
    };
    let actual = format!("sha256:{}", hex::encode(digest(&SHA256, &bytes)));
    (actual != expected).then(|| {
        FieldError::invalid("spec.digest", expected, &format!("spec.release has the digest {actual}"))
    })
}
