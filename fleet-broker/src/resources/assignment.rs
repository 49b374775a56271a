//! `Assignment`: one application on one cluster, desired and observed. Written by the hub, never stored.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Preview;

/// By which fields assignments are selected: one cluster's, one application's, those that failed.
pub const ASSIGNMENT_FIELDS: &[&str] =
    &["metadata.name", "metadata.namespace", "status.application", "status.cluster", "status.state"];

/// Nothing of an Assignment is anybody's to decide.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "edgefleet.dev",
    version = "v1alpha1",
    kind = "Assignment",
    plural = "assignments",
    doc = "One application on one cluster, desired and observed. Read-only, with the labels of its cluster.",
    namespaced,
    no_spec,
    status = "AssignmentStatus",
    derive = "PartialEq",
    category = "edgefleet",
    selectable = ".status.application",
    selectable = ".status.cluster",
    selectable = ".status.state",
    printcolumn(name = "Cluster", type_ = "string", json_path = ".status.cluster"),
    printcolumn(name = "Application", type_ = "string", json_path = ".status.application"),
    printcolumn(name = "Bundle", type_ = "string", json_path = ".status.bundle"),
    printcolumn(name = "State", type_ = "string", json_path = ".status.state"),
    printcolumn(name = "Since", type_ = "date", json_path = ".status.since"),
    printcolumn(name = "Object", type_ = "string", json_path = ".status.worstObject", priority = 1),
    printcolumn(name = "Message", type_ = "string", json_path = ".status.message", priority = 1)
)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentSpec {}

/// How one application is on one cluster.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct AssignmentStatus {
    /// The cluster's name.
    pub cluster: String,
    /// The application's name.
    pub application: String,
    /// The bundle it should run there.
    pub bundle: String,
    /// How far it is.
    pub state: AssignmentState,
    /// Applied, Available, Progressing, Degraded and Drifted, as the cluster reports them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// The object that is worst off.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub worst_object: Option<String>,
    /// What is wrong with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message: Option<String>,
    /// What applying it would do, where the cluster only looks at it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub preview: Option<Preview>,
    /// Since when it is in this state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Time>,
}

/// How far one application is on one cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub enum AssignmentState {
    /// Not yet sent, or not yet acknowledged.
    Pending,
    /// The cluster works on it.
    Applying,
    /// The cluster runs it, healthily.
    Updated,
    /// The cluster said that it failed.
    Failed,
    /// The cluster refused it: signature, scope, conflict or quota.
    Rejected,
    /// The cluster was offline or on hold before it was sent.
    Deferred,
    /// The cluster was told to remove it, and has not yet said that it did.
    Removing,
    /// The cluster looks at it, and changes nothing.
    Observed,
}
