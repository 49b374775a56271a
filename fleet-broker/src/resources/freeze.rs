//! `Freeze`: while it stands, nothing new starts in its scope.

use apimachinery::selector::LabelSelector;
use kube::CustomResource;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::field::FieldError;
use super::{schema, validate};

/// The annotation by which whoever lifts a freeze says why, right before deleting it.
pub const UNFREEZE_ANNOTATION: &str = "edgefleet.dev/unfreeze";

/// Where nothing new starts, and why.
#[derive(CustomResource, Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[kube(
    group = "edgefleet.dev",
    version = "v1alpha1",
    kind = "Freeze",
    plural = "freezes",
    doc = "While it stands, nothing new starts in its scope; what runs is kept running and healed.",
    derive = "PartialEq",
    category = "edgefleet",
    printcolumn(name = "Tenant", type_ = "string", json_path = ".spec.tenant"),
    printcolumn(name = "Reason", type_ = "string", json_path = ".spec.reason"),
    printcolumn(name = "Age", type_ = "date", json_path = ".metadata.creationTimestamp")
)]
#[serde(rename_all = "camelCase")]
pub struct FreezeSpec {
    /// What the operator wants others to know.
    #[schemars(length(min = 1, max = 1024))]
    pub reason: String,
    /// Only applications in this namespace; without it, those of every tenant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tenant: Option<String>,
    /// Only clusters with such labels; without it, every cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(schema_with = "schema::label_selector")]
    pub cluster_selector: Option<LabelSelector>,
}

impl validate::Validate for Freeze {
    fn validate(&self) -> Vec<FieldError> {
        let spec = &self.spec;
        let mut errors = Vec::new();
        errors.extend(validate::text("spec.reason", &spec.reason, 1, 1024));
        errors.extend(spec.tenant.iter().filter_map(|tenant| validate::dns_label("spec.tenant", tenant)));
        let selector = spec.cluster_selector.iter();
        errors.extend(selector.filter_map(|selector| validate::selector("spec.clusterSelector", selector)));
        errors
    }
}
