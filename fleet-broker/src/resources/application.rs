//! `Application`: which bundle goes where, and how.

use std::collections::BTreeMap;

use apimachinery::selector::LabelSelector;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::field::FieldError;
use super::{PreviewCounts, schema, validate};

/// The annotation by which an operator approves one dangerous change: `<generation>: <reason>`.
pub const APPROVE_ANNOTATION: &str = "edgefleet.dev/approve";
/// Most overrides of one Application: each is tried on every cluster it is placed on.
pub const OVERRIDES_MAX: usize = 64;
/// Most applications that one may wait for.
pub const DEPENDENCIES_MAX: usize = 16;
/// Most rules about what is enforced already.
pub const RULES_MAX: usize = protocol::documents::DesiredRelease::RULES;
/// Most parameters that one Application sets.
pub const PARAMETERS_MAX: usize = 64;

/// Which bundle goes where, and how.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "edgefleet.dev",
    version = "v1alpha1",
    kind = "Application",
    plural = "applications",
    doc = "Which bundle goes to which clusters, and how.",
    shortname = "app",
    namespaced,
    status = "ApplicationStatus",
    derive = "PartialEq",
    category = "edgefleet",
    printcolumn(name = "Bundle", type_ = "string", json_path = ".spec.bundle"),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.clusters.desired"),
    printcolumn(name = "Updated", type_ = "integer", json_path = ".status.clusters.updated"),
    printcolumn(name = "Available", type_ = "integer", json_path = ".status.clusters.available"),
    printcolumn(name = "Failed", type_ = "integer", json_path = ".status.clusters.failed"),
    printcolumn(name = "Offline", type_ = "integer", json_path = ".status.clusters.offline"),
    printcolumn(name = "Decision", type_ = "string", json_path = ".status.decision"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".status.reason", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationSpec {
    /// The name of a Bundle in the same namespace.
    pub bundle: String,
    /// The clusters it goes to.
    pub placement: Placement,
    /// Values for the bundle's parameters, everywhere.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// Values for some clusters only: the first override that matches a cluster wins.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub overrides: Vec<Override>,
    /// What must be available on the same cluster before this starts there; each cluster decides it by itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub depends_on: Vec<Dependency>,
    /// What the clusters do with it.
    #[serde(default)]
    pub mode: Mode,
    /// Objects that are enforced already, while the clusters only look at the rest.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub enforce: Vec<ObjectRule>,
}

/// Selects objects of a bundle.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ObjectRule {
    /// Their kind.
    pub kind: String,
    /// Their namespace. Any, or none, where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub namespace: Option<String>,
    /// One object's name. Every object of the kind where it is left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

/// The clusters an Application goes to.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Placement {
    /// Selects clusters by their labels. An empty selector selects every cluster.
    #[schemars(schema_with = "schema::label_selector")]
    pub cluster_selector: LabelSelector,
    /// What happens on a cluster that is no longer selected.
    #[serde(default)]
    pub on_unmatch: OnUnmatch,
}

/// What happens on a cluster that is no longer selected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum OnUnmatch {
    /// What runs there stays as it is.
    #[default]
    Leave,
    /// It is removed there.
    Remove,
}

/// Parameter values for some clusters.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Override {
    /// Selects clusters by their labels.
    #[schemars(schema_with = "schema::label_selector")]
    pub cluster_selector: LabelSelector,
    /// The values that differ there.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
}

/// Another application that must be available first.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Dependency {
    /// The name of an Application in the same namespace.
    pub application: String,
}

/// What the clusters do with an Application.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Mode {
    /// They apply it, and keep it applied.
    #[default]
    Enforce,
    /// They say how its objects are and how they differ, and change nothing.
    Observe,
    /// They say what applying it would do, and change nothing.
    DryRun,
}

/// How far an Application is.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ApplicationStatus {
    /// Progressing, Available and Degraded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The generation that the rest of this status is about.
    #[schemars(schema_with = "schema::unsigned")]
    #[serde(default)]
    pub observed_generation: u64,
    /// How many clusters are in which state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clusters: Option<ApplicationClusters>,
    /// What the hub decided about it last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decision: Option<Decision>,
    /// Why, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// What applying it would do, over all clusters that only look at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<PreviewCounts>,
}

/// How many clusters are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ApplicationClusters {
    /// How many should run it.
    #[schemars(schema_with = "schema::unsigned")]
    pub desired: u64,
    /// How many of them run the desired bundle with the desired parameters.
    #[schemars(schema_with = "schema::unsigned")]
    pub updated: u64,
    /// How many of those are healthy.
    #[schemars(schema_with = "schema::unsigned")]
    pub available: u64,
    /// How many said that they failed.
    #[schemars(schema_with = "schema::unsigned")]
    pub failed: u64,
    /// How many cannot be reached now.
    #[schemars(schema_with = "schema::unsigned")]
    pub offline: u64,
    /// How many only look at it.
    #[schemars(schema_with = "schema::unsigned")]
    #[serde(default)]
    pub observed: u64,
}

/// What the hub decided about an Application.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub enum Decision {
    /// It waits, and the reason says for what.
    Hold,
    /// It goes on.
    Promote,
    /// Too much failed: nothing more starts.
    Halt,
    /// It is where it should be.
    Complete,
}

impl validate::Validate for Application {
    fn validate(&self) -> Vec<FieldError> {
        let spec = &self.spec;
        let mut errors = Vec::new();
        // It is part of what releases and desired states are signed for, where a name is an RFC 1123 label.
        let name = self.metadata.name.as_deref().unwrap_or_default();
        errors.extend(validate::dns_label("metadata.name", name));
        errors.extend(validate::dns_subdomain("spec.bundle", &spec.bundle));
        errors.extend(validate::selector("spec.placement.clusterSelector", &spec.placement.cluster_selector));
        errors.extend(validate::count("spec.parameters", spec.parameters.len(), PARAMETERS_MAX));
        errors.extend(validate::count("spec.overrides", spec.overrides.len(), OVERRIDES_MAX));
        errors.extend(validate::count("spec.dependsOn", spec.depends_on.len(), DEPENDENCIES_MAX));
        for (index, entry) in spec.overrides.iter().enumerate() {
            let field = format!("spec.overrides[{index}]");
            errors.extend(validate::selector(&format!("{field}.clusterSelector"), &entry.cluster_selector));
            let parameters = entry.parameters.len();
            errors.extend(validate::count(&format!("{field}.parameters"), parameters, PARAMETERS_MAX));
        }
        errors.extend(validate::count("spec.enforce", spec.enforce.len(), RULES_MAX));
        if spec.mode == Mode::Enforce && !spec.enforce.is_empty() {
            let why = "spec.mode is Enforce, which enforces every object: set it to Observe or DryRun";
            errors.push(FieldError::forbidden("spec.enforce", why));
        }
        for (index, dependency) in spec.depends_on.iter().enumerate() {
            let field = format!("spec.dependsOn[{index}].application");
            errors.extend(validate::dns_label(&field, &dependency.application));
            if self.metadata.name.as_ref() == Some(&dependency.application) {
                errors.push(FieldError::invalid(&field, &dependency.application, "cannot depend on itself"));
            }
        }
        errors
    }
}
