//! What is served here, for clients that ask before they do anything.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde_json::{Value, json};

use super::negotiate;
use super::reply::{self, Refusal, bytes_response, json_response};
use crate::logic::access::{AUTHENTICATION, AUTHORIZATION};
use crate::resources::{GROUP, Kind, VERSION};

/// Without exactly this, clients take the document for one of the older lists.
const AGGREGATED: &str = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
const READ_VERBS: [&str; 3] = ["get", "list", "watch"];
const ALL_VERBS: [&str; 7] = ["create", "delete", "get", "list", "patch", "update", "watch"];
const STATUS_VERBS: [&str; 3] = ["get", "patch", "update"];

/// A group and its only version.
struct Group {
    name: &'static str,
    version: &'static str,
    resources: Vec<Resource>,
}

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

impl Group {
    fn group_version(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}

/// `/api`: the core group.
pub(super) async fn core_versions(headers: HeaderMap) -> Result<Response, Refusal> {
    if negotiate::wants_aggregated_discovery(&headers)? {
        return Ok(aggregated(&[Group { name: "", version: "v1", resources: core() }]));
    }
    let versions = json!({"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []});
    Ok(json_response(StatusCode::OK, &versions))
}

/// `/apis`: the named groups.
pub(super) async fn groups(headers: HeaderMap) -> Result<Response, Refusal> {
    if negotiate::wants_aggregated_discovery(&headers)? {
        return Ok(aggregated(&named()));
    }
    let groups: Vec<Value> = named().iter().map(group_json).collect();
    let groups = json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups});
    Ok(json_response(StatusCode::OK, &groups))
}

/// `/apis/GROUP`: its versions.
pub(super) async fn group(request: Request) -> Result<Response, Refusal> {
    negotiate::json(request.headers())?;
    let mut group = group_json(&named_by(&request)?);
    group["kind"] = json!("APIGroup");
    group["apiVersion"] = json!("v1");
    Ok(json_response(StatusCode::OK, &group))
}

/// `/apis/GROUP/VERSION`: its resources.
pub(super) async fn resources(request: Request) -> Result<Response, Refusal> {
    negotiate::json(request.headers())?;
    let group = named_by(&request)?;
    Ok(json_response(StatusCode::OK, &resource_list(&group.group_version(), &group.resources)))
}

/// The resources of the core group.
pub(super) async fn core_resources(headers: HeaderMap) -> Result<Response, Refusal> {
    negotiate::json(&headers)?;
    Ok(json_response(StatusCode::OK, &resource_list("v1", &core())))
}

/// Every group with a name, the one of all kinds here first.
fn named() -> [Group; 3] {
    let review = |plural, kind: &'static str| Resource {
        plural,
        singular: kind.to_ascii_lowercase(),
        kind,
        namespaced: false,
        verbs: vec!["create"],
        short_names: Vec::new(),
        categories: Vec::new(),
        status_verbs: None,
    };
    let authorization = vec![
        review("selfsubjectaccessreviews", "SelfSubjectAccessReview"),
        review("selfsubjectrulesreviews", "SelfSubjectRulesReview"),
    ];
    let authentication = vec![review("selfsubjectreviews", "SelfSubjectReview")];
    [
        Group { name: GROUP, version: VERSION, resources: edgefleet() },
        Group { name: AUTHENTICATION, version: "v1", resources: authentication },
        Group { name: AUTHORIZATION, version: "v1", resources: authorization },
    ]
}

fn named_by(request: &Request) -> Result<Group, Refusal> {
    let path = request.uri().path();
    let name = path.split('/').nth(2).unwrap_or_default();
    named().into_iter().find(|group| group.name == name).ok_or_else(|| reply::unknown_path(path))
}

fn edgefleet() -> Vec<Resource> {
    let resource = |kind: Kind| {
        let definition = kind.definition();
        Resource {
            plural: kind.plural(),
            singular: definition.singular.clone(),
            kind: kind.name(),
            namespaced: kind.is_namespaced(),
            verbs: if kind.is_writable() { ALL_VERBS.to_vec() } else { READ_VERBS.to_vec() },
            short_names: definition.short_names.clone(),
            categories: definition.categories.clone(),
            status_verbs: (kind.has_status() && kind.is_writable()).then(|| STATUS_VERBS.to_vec()),
        }
    };
    Kind::OWN.into_iter().map(resource).collect()
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
        resource("events", "event", "Event", true, &READ_VERBS, "ev"),
        resource("namespaces", "namespace", "Namespace", false, &["get", "list"], "ns"),
    ]
}

fn aggregated(groups: &[Group]) -> Response {
    let items: Vec<Value> = groups.iter().map(aggregated_group).collect();
    let list = json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": "apidiscovery.k8s.io/v2",
        "metadata": {},
        "items": items,
    });
    bytes_response(StatusCode::OK, AGGREGATED, list.to_string())
}

fn aggregated_group(group: &Group) -> Value {
    let kind_json = |kind: &str| json!({"group": group.name, "version": group.version, "kind": kind});
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
    let resources: Vec<Value> = group.resources.iter().map(resource_json).collect();
    json!({
        "metadata": {"name": group.name},
        "versions": [{"version": group.version, "resources": resources, "freshness": "Current"}],
    })
}

fn group_json(group: &Group) -> Value {
    let version = json!({"groupVersion": group.group_version(), "version": group.version});
    json!({"name": group.name, "versions": [version], "preferredVersion": version})
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
