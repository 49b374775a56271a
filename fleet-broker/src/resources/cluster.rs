//! `Cluster`: the hub's record of one edge cluster.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::field::FieldError;
use super::{schema, validate};

/// The shortest cluster name: it is also the cluster's id in topics and certificates.
pub const NAME_MIN_LEN: usize = 3;

/// What an operator decides about one cluster.
#[derive(CustomResource, Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "edgefleet.dev",
    version = "v1alpha1",
    kind = "Cluster",
    plural = "clusters",
    doc = "One edge cluster, as the hub knows it.",
    status = "ClusterStatus",
    derive = "PartialEq",
    category = "edgefleet",
    printcolumn(name = "Accepted", type_ = "boolean", json_path = ".spec.accepted"),
    printcolumn(
        name = "Connected",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Connected\")].status"
    ),
    printcolumn(
        name = "Synced",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Synced\")].status"
    ),
    printcolumn(
        name = "Available",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Available\")].status"
    ),
    printcolumn(
        name = "Revoked",
        type_ = "string",
        json_path = ".status.conditions[?(@.type==\"Revoked\")].message"
    ),
    printcolumn(name = "Desired", type_ = "integer", json_path = ".status.desired.sequence", priority = 1),
    printcolumn(name = "Observed", type_ = "integer", json_path = ".status.observed.sequence", priority = 1),
    printcolumn(name = "Hold", type_ = "string", json_path = ".spec.hold.reason", priority = 1),
    printcolumn(name = "Agent", type_ = "string", json_path = ".status.agent", priority = 1),
    printcolumn(name = "Kubernetes", type_ = "string", json_path = ".status.kubernetes", priority = 1),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct ClusterSpec {
    /// The operator's opt-in. While it is false the hub sends this cluster nothing new; nothing on it is deleted.
    #[serde(default)]
    pub accepted: bool,
    /// While it stands, nobody changes this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<Hold>,
}

/// Why, and until when, a cluster must not be changed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hold {
    /// What the operator wants others to know.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// When it ends by itself; without it, it stands until it is removed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<Time>,
}

/// What the hub knows about one cluster.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct ClusterStatus {
    /// Joined, Connected, Synced, Available and ClockSynced; Revoked while its key is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub conditions: Vec<Condition>,
    /// When the report behind these conditions was made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_report_time: Option<Time>,
    /// The desired state that the hub has signed for this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub desired: Option<Revision>,
    /// The desired state that the cluster last said it works on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub observed: Option<Revision>,
    /// The version of the agent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub agent: Option<String>,
    /// The version of the cluster's API server.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kubernetes: Option<String>,
    /// How its applications are.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub applications: Option<ClusterApplications>,
}

/// The order of one signed desired state: first the epoch, then the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Revision {
    /// Raised only by the root keys.
    #[schemars(schema_with = "schema::unsigned")]
    pub epoch: u64,
    /// Raised with every change.
    #[schemars(schema_with = "schema::unsigned")]
    pub sequence: u64,
}

/// How many of a cluster's applications are in which state.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ClusterApplications {
    /// How many it should run.
    #[schemars(schema_with = "schema::unsigned")]
    pub desired: u64,
    /// How many of them run the desired bundle.
    #[schemars(schema_with = "schema::unsigned")]
    pub updated: u64,
    /// How many of them are healthy.
    #[schemars(schema_with = "schema::unsigned")]
    pub available: u64,
    /// How many of them failed.
    #[schemars(schema_with = "schema::unsigned")]
    pub failed: u64,
    /// How many of them it only looks at.
    #[schemars(schema_with = "schema::unsigned")]
    #[serde(default)]
    pub observed: u64,
}

impl validate::Validate for Cluster {
    fn validate(&self) -> Vec<FieldError> {
        let name = self.metadata.name.as_deref().unwrap_or_default();
        let mut errors = Vec::new();
        if name.len() < NAME_MIN_LEN || name.contains('.') {
            let why = "a cluster's name must match [a-z0-9-]{3,63}: it is its id in topics and certificates";
            errors.push(FieldError::invalid("metadata.name", name, why));
        }
        if let Some(hold) = &self.spec.hold {
            errors.extend(validate::text("spec.hold.reason", &hold.reason, 1, 1024));
        }
        errors
    }
}
