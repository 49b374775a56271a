//! What is served here, for clients that ask before they do anything.

use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::negotiate;
use super::reply::{Refusal, bytes_response, json_response};
use crate::resources::{API_VERSION, GROUP, Kind, VERSION};

/// Without exactly this, clients take the document for one of the older lists.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const READ_VERBS: [&str; 3] = ["get", "list", "watch"];
const ALL_VERBS: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// A resource as discovery describes it.
struct Resource {
    plural: &'static str,
    singular: String,
    kind: &'static str,
    namespaced: bool,
    verbs: Vec<&'static str>,
    short_names: Vec<String>,
    categories: Vec<String>,
    /// The verbs of `/status`, if there is one.
    status_verbs: Option<Vec<&'static str>>,
}

/// `/api`: the core group.
pub(super) async fn core_versions(headers: HeaderMap) -> Result<Response, Refusal> {
    if negotiate::wants_aggregated_discovery(&headers)? {
        return Ok(aggregated("", "v1", &core()));
    }
    let versions = json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []});
    Ok(json_response(StatusCode::OK, &versions))
}

/// `/apis`: the named groups.
pub(super) async fn groups(headers: HeaderMap) -> Result<Response, Refusal> {
    if negotiate::wants_aggregated_discovery(&headers)? {
        return Ok(aggregated(GROUP, VERSION, &edgefleet()));
    }
    let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": [group_json()]});
    Ok(json_response(StatusCode::OK, &groups))
}

/// The group of all kinds here.
pub(super) async fn group(headers: HeaderMap) -> Result<Response, Refusal> {
    negotiate::json(&headers)?;
    let mut group = group_json();
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Ok(json_response(StatusCode::OK, &group))
}

/// The resources of that group.
pub(super) async fn resources(headers: HeaderMap) -> Result<Response, Refusal> {
    negotiate::json(&headers)?;
    Ok(json_response(StatusCode::OK, &resource_list(API_VERSION, &edgefleet())))
}

/// The resources of the core group.
pub(super) async fn core_resources(headers: HeaderMap) -> Result<Response, Refusal> {
    negotiate::json(&headers)?;
    Ok(json_response(StatusCode::OK, &resource_list("v1", &core())))
}

fn edgefleet() -> Vec<Resource> {
    let resource = |kind: Kind| {
        let definition = kind.definition();
        Resource {
            plural: kind.plural(),
            singular: definition.singular.clone(),
            kind: kind.name(),
            namespaced: kind.is_namespaced(),
            verbs: if kind.is_stored() { ALL_VERBS.to_vec() } else { READ_VERBS.to_vec() },
            short_names: definition.short_names.clone(),
            categories: definition.categories.clone(),
            status_verbs: (kind.has_status() && kind.is_stored()).then(|| STATUS_VERBS.to_vec()),
        }
    };
    Kind::ALL.into_iter().map(resource).collect()
}

fn core() -> Vec<Resource> {
    let resource = |plural, singular: &str, kind, namespaced, verbs: &[&'static str], short: &str| Resource {
        plural,
        singular: singular.to_owned(),
        kind,
        namespaced,
        verbs: verbs.to_vec(),
        short_names: vec![short.to_owned()],
        categories: Vec::new(),
        status_verbs: None,
    };
    vec![
        resource("events", "event", "Event", true, &["list"], "ev"),
        resource("namespaces", "namespace", "Namespace", false, &["get", "list"], "ns"),
    ]
}

fn aggregated(group: &str, version: &str, resources: &[Resource]) -> Response {
    let kind_json = |kind: &str| json!({"group": group, "version": version, "kind": kind});
    let resource_json = |resource: &Resource| {
        let subresources: Vec<Value> = resource
            .status_verbs
            .iter()
            .map(|verbs| json!({"subresource": "status", "responseKind": kind_json(resource.kind), "verbs": verbs}))
            .collect();
        json!({
            "resource": resource.plural,
            "responseKind": kind_json(resource.kind),
            "scope": if resource.namespaced { "Namespaced" } else { "Cluster" },
            "singularResource": resource.singular,
            "verbs": resource.verbs,
            "shortNames": resource.short_names,
            "categories": resource.categories,
            "subresources": subresources,
        })
    };
    let resources: Vec<Value> = resources.iter().map(resource_json).collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": [{
            "metadata": {"name": group},
            "versions": [{"version": version, "resources": resources, "freshness": "Current"}],
        }],
    });
    bytes_response(StatusCode::OK, AGGREGATED, list.to_string())
}

fn group_json() -> Value {
    let version = json!({"groupVersion": API_VERSION, "version": VERSION});
    json!({"name": GROUP, "versions": [version], "preferredVersion": version})
}

fn resource_list(group_version: &str, resources: &[Resource]) -> Value {
    let mut entries = Vec::new();
    for resource in resources {
        entries.push(json!({
            "name": resource.plural,
            "singularName": resource.singular,
            "namespaced": resource.namespaced,
            "kind": resource.kind,
            "verbs": resource.verbs,
            "shortNames": resource.short_names,
            "categories": resource.categories,
        }));
        if let Some(verbs) = &resource.status_verbs {
            entries.push(json!({
                "name": format!("{}/status", resource.plural),
                "singularName": "",
                "namespaced": resource.namespaced,
                "kind": resource.kind,
                "verbs": verbs,
            }));
        }
    }
    json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": group_version, "resources": entries})
}
