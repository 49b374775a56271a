//! `Event` of the core group: what happened to an object, made by the hub as every Kubernetes component makes them.

use apimachinery::schema::Topology;
use apimachinery::table::{ColumnDefinition, ColumnType, Columns};
use serde_json::{Value, json};

use super::Definition;

/// Group and version of events.
pub const API_VERSION: &str = "v1";

/// Where events about objects live that are in no namespace, as in Kubernetes.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Who says what happened, as it stands in every event.
pub const COMPONENT: &str = "edgefleet";

/// By which fields events are selected: those of an API server.
pub const FIELDS: &[&str] = &[
    "involvedObject.apiVersion",
    "involvedObject.fieldPath",
    "involvedObject.kind",
    "involvedObject.name",
    "involvedObject.namespace",
    "involvedObject.resourceVersion",
    "involvedObject.uid",
    "metadata.name",
    "metadata.namespace",
    "reason",
    "reportingComponent",
    "source",
    "type",
];

/// What is served of events. Clients do not write them, so nothing is said of how they would.
pub(super) fn definition() -> Definition {
    Definition {
        singular: "event".to_owned(),
        short_names: vec!["ev".to_owned()],
        categories: Vec::new(),
        columns: columns(),
        schema: json!({"type": "object"}),
        topology: Topology::untyped(false),
    }
}

/// Those of an API server.
fn columns() -> Columns {
    let column = |name: &str, column_type, priority| ColumnDefinition {
        name: name.to_owned(),
        column_type,
        format: String::new(),
        description: format!("{name} of the event."),
        priority,
        json_path: String::new(),
    };
    let text = |name, priority| column(name, ColumnType::String, priority);
    Columns::made(vec![
        (column("Last Seen", ColumnType::Date, 0), |event| event["lastTimestamp"].clone()),
        (text("Type", 0), |event| event["type"].clone()),
        (text("Reason", 0), |event| event["reason"].clone()),
        (text("Object", 0), object),
        (text("Subobject", 1), |_| json!("")),
        (text("Source", 1), |event| event["source"]["component"].clone()),
        (text("Message", 0), |event| event["message"].clone()),
        (column("First Seen", ColumnType::Date, 1), |event| event["firstTimestamp"].clone()),
        (column("Count", ColumnType::Integer, 1), |event| event["count"].clone()),
        (text("Name", 1), |event| event["metadata"]["name"].clone()),
    ])
}

/// `cluster/tower-0001`.
fn object(event: &Value) -> Value {
    let text = |field: &str| event["involvedObject"][field].as_str().unwrap_or_default();
    json!(format!("{}/{}", text("kind").to_lowercase(), text("name")))
}
