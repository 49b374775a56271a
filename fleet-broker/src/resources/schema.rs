//! Schemas of fields whose Rust type does not say all of it.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

/// A whole number from 0. Kubernetes knows no unsigned formats.
pub(super) fn unsigned(_: &mut SchemaGenerator) -> Schema {
    json_schema!({ "type": "integer", "format": "int64", "minimum": 0 })
}

/// A label selector as Kubernetes describes it.
pub(super) fn label_selector(generator: &mut SchemaGenerator) -> Schema {
    LabelSelector::json_schema(generator)
}
