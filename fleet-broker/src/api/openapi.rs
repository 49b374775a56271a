//! OpenAPI v3: what `kubectl explain` shows, and by which `kubectl apply` knows what the server can do.

use std::sync::LazyLock;

use axum::http::header::{ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, HeaderValue, StatusCode};
use axum::response::Response;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use ring::digest::{SHA256, digest};
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use super::negotiate;
use super::reply::{Refusal, bytes_response, json_response};
use crate::resources::{GROUP, Kind, VERSION};

const METADATA_SCHEMA: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ObjectMeta";

/// The document and its hash, which follow from the types alone.
static DOCUMENT: LazyLock<(String, String)> = LazyLock::new(|| {
    let document = document_json().to_string();
    let hash = hex::encode_upper(digest(&SHA256, document.as_bytes()));
    (document, hash)
});

/// Where the documents are. Their addresses change with their content, so that clients may keep them.
pub(super) async fn index(headers: HeaderMap) -> Result<Response, Refusal> {
    negotiate::json(&headers)?;
    let path = format!("apis/{GROUP}/{VERSION}");
    let url = format!("/openapi/v3/{path}?hash={}", DOCUMENT.1);
    Ok(json_response(StatusCode::OK, &json!({"paths": {path: {"serverRelativeURL": url}}})))
}

/// OpenAPI v2, which kubectl asks for a kind that v3 does not have: a document without any.
pub(super) async fn nothing() -> Response {
    const MEDIA_TYPE: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";
    // A Document of gnostic's openapiv2: swagger "2.0"; info with title "Edgefleet" and version "1"; no paths.
    const DOCUMENT: &[u8] = b"\x0a\x032.0\x12\x0e\x0a\x09Edgefleet\x12\x011\x42\x00";
    bytes_response(StatusCode::OK, MEDIA_TYPE, DOCUMENT)
}

/// The document of the hub's group.
pub(super) async fn document(headers: HeaderMap) -> Result<Response, Refusal> {
    negotiate::json(&headers)?;
    let (document, hash) = &*DOCUMENT;
    let etag = format!("\"{hash}\"");
    let known = headers.get(IF_NONE_MATCH).is_some_and(|known| known.as_bytes() == etag.as_bytes());
    let mut response = if known {
        bytes_response(StatusCode::NOT_MODIFIED, "application/json", "")
    } else {
        bytes_response(StatusCode::OK, "application/json", document.as_str())
    };
    response.headers_mut().insert(ETAG, HeaderValue::from_str(&etag).expect("hexadecimal is a header value"));
    Ok(response)
}

fn document_json() -> Value {
    let (mut paths, mut schemas) = (Map::new(), Map::new());
    schemas.insert(METADATA_SCHEMA.to_owned(), metadata_schema());
    for kind in Kind::OWN {
        let collection = collection_path(kind);
        paths.insert(format!("{collection}/{{name}}"), object_operations(kind));
        paths.insert(collection, collection_operations(kind));
        if kind.is_namespaced() {
            let list = json!({"get": operation(kind, "list", &[])});
            paths.insert(format!("/apis/{GROUP}/{VERSION}/{}", kind.plural()), list);
        }
        schemas.insert(schema_name(kind), object_schema(kind));
    }
    json!({
        "openapi": "3.0.0",
        "info": {"title": "Edgefleet", "version": env!("CARGO_PKG_VERSION")},
        "paths": paths,
        "components": {"schemas": schemas},
    })
}

fn collection_path(kind: Kind) -> String {
    let namespace = if kind.is_namespaced() { "namespaces/{namespace}/" } else { "" };
    format!("/apis/{GROUP}/{VERSION}/{namespace}{}", kind.plural())
}

fn collection_operations(kind: Kind) -> Value {
    let mut operations = json!({"get": operation(kind, "list", &[])});
    if kind.is_writable() {
        operations["post"] = operation(kind, "post", &["application/json"]);
    }
    operations
}

fn object_operations(kind: Kind) -> Value {
    let mut operations = json!({"get": operation(kind, "get", &[])});
    if kind.is_writable() {
        let patches =
            ["application/json-patch+json", "application/merge-patch+json", "application/apply-patch+yaml"];
        operations["put"] = operation(kind, "put", &["application/json"]);
        operations["patch"] = operation(kind, "patch", &patches);
        operations["delete"] = operation(kind, "delete", &["application/json"]);
    }
    operations
}

/// An operation whose body may be of these media types. Where there is a body, it can be validated.
fn operation(kind: Kind, action: &str, body: &[&str]) -> Value {
    let query = |name: &str, description: &str| json!({"name": name, "in": "query", "description": description, "schema": {"type": "string"}});
    let mut parameters = Vec::new();
    if !body.is_empty() {
        parameters.push(query("dryRun", "All: do nothing, and answer as if it were done."));
    }
    if matches!(action, "post" | "put" | "patch") {
        parameters.push(query("fieldValidation", "What to do about unknown fields: Ignore, Warn or Strict."));
    }
    let reference = json!({"$ref": format!("#/components/schemas/{}", schema_name(kind))});
    let answer = json!({"description": "OK", "content": {"application/json": {"schema": reference}}});
    let mut operation = json!({
        "operationId": format!("{action}{}", kind.name()),
        "parameters": parameters,
        "responses": {"200": answer},
        "x-kubernetes-action": action,
        "x-kubernetes-group-version-kind": group_version_kind(kind),
    });
    if !body.is_empty() {
        let schema =
            if action == "patch" || action == "delete" { json!({"type": "object"}) } else { reference };
        let content: Map<String, Value> =
            body.iter().map(|media| ((*media).to_owned(), json!({"schema": schema}))).collect();
        operation["requestBody"] = json!({"content": content});
    }
    operation
}

fn object_schema(kind: Kind) -> Value {
    let mut schema = kind.definition().schema.clone();
    let text = |description: &str| json!({"type": "string", "description": description});
    schema["properties"]["apiVersion"] = text("The version of this schema: edgefleet.dev/v1alpha1.");
    schema["properties"]["kind"] = text("The kind of the object.");
    schema["properties"]["metadata"] = json!({
        "description": "Standard object's metadata.",
        "allOf": [{"$ref": format!("#/components/schemas/{METADATA_SCHEMA}")}],
    });
    schema["x-kubernetes-group-version-kind"] = json!([group_version_kind(kind)]);
    schema
}

fn metadata_schema() -> Value {
    let settings = SchemaSettings::openapi3().with(|settings| {
        settings.inline_subschemas = true;
        settings.meta_schema = None;
    });
    settings.into_generator().into_root_schema_for::<ObjectMeta>().to_value()
}

fn schema_name(kind: Kind) -> String {
    format!("dev.edgefleet.{VERSION}.{}", kind.name())
}

fn group_version_kind(kind: Kind) -> Value {
    json!({"group": GROUP, "version": VERSION, "kind": kind.name()})
}
