//! The little of the core group that clients look at beside events: namespaces, which follow from what is in them.

use apimachinery::table::{ColumnDefinition, ColumnType, Columns, partial_metadata};
use axum::extract::{Path, RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::Api;
use super::negotiate::{self, Form};
use super::params::Params;
use super::reply::{self, Refusal, json_response};
use crate::clock;
use crate::logic::registry::failure;

/// Answers with all namespaces.
pub(super) async fn namespaces(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let params = Params::parse(query.as_deref().unwrap_or_default())?;
    if params.watch {
        return Err(reply::unknown_method());
    }
    let form = negotiate::form(&headers, true)?;
    let (version, found) = api.hub.read(|registry| (registry.version(), registry.namespaces()));
    let selected: Vec<Value> = found
        .iter()
        .filter(|(name, _)| {
            let field = |field: &str| if field == "metadata.name" { name.as_str().into() } else { "".into() };
            params.fields.matches_with(field) && params.labels.matches_with(|key| label(key, name))
        })
        .map(|(name, created)| namespace_json(name, created))
        .collect();
    let metadata = json!({"resourceVersion": version.to_string()});
    let list = |api_version: &str, kind: &str, items: Vec<Value>| json!({"apiVersion": api_version, "kind": kind, "metadata": metadata, "items": items});
    let answer = match form {
        Form::Object => list("v1", "NamespaceList", selected),
        Form::Metadata => list(
            "meta.k8s.io/v1",
            "PartialObjectMetadataList",
            selected.iter().map(partial_metadata).collect(),
        ),
        Form::Table => {
            namespace_columns().table(&selected, metadata, params.include_object, true, clock::now())
        }
    };
    Ok(json_response(StatusCode::OK, &answer))
}

/// Answers with one namespace.
pub(super) async fn namespace(
    State(api): State<Api>,
    Path(name): Path<String>,
    RawQuery(query): RawQuery,
    headers: HeaderMap,
) -> Result<Response, Refusal> {
    let params = Params::parse(query.as_deref().unwrap_or_default())?;
    let form = negotiate::form(&headers, false)?;
    let created = api.hub.read(|registry| registry.namespaces().remove(&name));
    let Some(created) = created else {
        return Err(failure::namespace_not_found(&name).into());
    };
    let namespace = namespace_json(&name, &created);
    let answer = match form {
        Form::Object => namespace,
        Form::Metadata => partial_metadata(&namespace),
        Form::Table => {
            namespace_columns().table([&namespace], json!({}), params.include_object, true, clock::now())
        }
    };
    Ok(json_response(StatusCode::OK, &answer))
}

/// The only label of a namespace, which every API server gives it.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn label<'a>(key: &str, name: &'a str) -> Option<&'a str> {
    (key == NAME_LABEL).then_some(name)
}

fn namespace_json(name: &str, created: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "Namespace",
        "metadata": {"name": name, "creationTimestamp": created, "labels": {NAME_LABEL: name}},
        "spec": {},
        "status": {"phase": "Active"},
    })
}

fn namespace_columns() -> Columns {
    let column = |name: &str, column_type, path: &str| ColumnDefinition {
        name: name.to_owned(),
        column_type,
        format: String::new(),
        description: String::new(),
        priority: 0,
        json_path: path.to_owned(),
    };
    Columns::new(vec![
        column("Status", ColumnType::String, ".status.phase"),
        column("Age", ColumnType::Date, ".metadata.creationTimestamp"),
    ])
    .expect("these paths are ones that tables read")
}
