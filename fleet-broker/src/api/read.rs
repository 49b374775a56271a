//! GET of one object and of lists.

use apimachinery::table::partial_metadata;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::Api;
use super::negotiate::{self, Form};
use super::params::Params;
use super::reply::{Refusal, json_response};
use crate::clock;
use crate::logic::registry::failure;
use crate::logic::registry::{Object, ObjectKey, Page};
use crate::resources::Kind;

/// Answers with one object.
pub(super) fn get(
    api: &Api,
    key: &ObjectKey,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let form = negotiate::form(headers, false)?;
    let object = api.hub.read(|registry| registry.get(key).cloned());
    let object = object.ok_or_else(|| failure::not_found(key.kind, &key.name))?;
    Ok(object_response(StatusCode::OK, &object, key.kind, form, params))
}

/// Answers with the selected objects of a kind.
pub(super) fn list(
    api: &Api,
    kind: Kind,
    namespace: Option<String>,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let form = negotiate::form(headers, true)?;
    let filter = params.filter(namespace);
    let page = api.hub.read(|registry| {
        check_version(params, registry.version())?;
        registry.list(kind, &filter, params.limit, &params.continue_token)
    })?;
    Ok(page_response(&page, kind, form, params))
}

/// One object in the form that the client accepts.
pub(super) fn object_response(
    code: StatusCode,
    object: &Object,
    kind: Kind,
    form: Form,
    params: &Params,
) -> Response {
    match form {
        Form::Object => json_response(code, object),
        Form::Metadata => json_response(code, &partial_metadata(&object.value())),
        Form::Table => {
            let metadata = json!({"resourceVersion": object.version().to_string()});
            let columns = &kind.definition().columns;
            let table = columns.table([&object.value()], metadata, params.include_object, true, clock::now());
            json_response(code, &table)
        }
    }
}

/// A list can only be as new as the hub is, and only as old: nothing older is kept.
fn check_version(params: &Params, current: u64) -> Result<(), failure::Failure> {
    let Some(wanted) = params.resource_version else { return Ok(()) };
    if wanted > current {
        return Err(failure::too_large_version(wanted, current));
    }
    match params.resource_version_match.as_str() {
        "" | "NotOlderThan" => Ok(()),
        "Exact" if wanted == current => Ok(()),
        "Exact" => {
            Err(failure::expired(format!("The resourceVersion {wanted} for the provided list is too old.")))
        }
        other => Err(failure::bad_request(format!("invalid resourceVersionMatch {other:?}"))),
    }
}

/// A list as it is sent, its objects as they are kept.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct List<'a> {
    api_version: &'static str,
    kind: String,
    metadata: Value,
    items: Vec<&'a Object>,
}

fn page_response(page: &Page, kind: Kind, form: Form, params: &Params) -> Response {
    let metadata = page_metadata(page);
    let objects = page.items.iter().map(|object| object.value());
    match form {
        Form::Object => {
            let (api_version, kind) = (kind.api_version(), format!("{}List", kind.name()));
            let items = page.items.iter().map(|object| &**object).collect();
            json_response(StatusCode::OK, &List { api_version, kind, metadata, items })
        }
        Form::Metadata => {
            let items: Vec<Value> = objects.map(|object| partial_metadata(&object)).collect();
            let kind = "PartialObjectMetadataList";
            let list =
                json!({"apiVersion": "meta.k8s.io/v1", "kind": kind, "metadata": metadata, "items": items});
            json_response(StatusCode::OK, &list)
        }
        Form::Table => {
            let columns = &kind.definition().columns;
            let table = columns.table(objects, metadata, params.include_object, true, clock::now());
            json_response(StatusCode::OK, &table)
        }
    }
}

fn page_metadata(page: &Page) -> Value {
    let mut metadata = Map::new();
    metadata.insert("resourceVersion".to_owned(), json!(page.version.to_string()));
    if let Some(next) = &page.next {
        metadata.insert("continue".to_owned(), json!(next));
    }
    if let Some(remaining) = page.remaining {
        metadata.insert("remainingItemCount".to_owned(), json!(remaining));
    }
    Value::Object(metadata)
}
