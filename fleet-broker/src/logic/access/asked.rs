//! What a request asks for, read from its method and path as an API server reads it.

use std::fmt;

/// What a request asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// To do something with a resource.
    Resource(ResourceAsked),
    /// To do something with a path that names no resource.
    Path {
        /// The method in lower case.
        verb: String,
        /// The path.
        path: String,
    },
}

/// Something to do with a resource. What is not said is empty.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ResourceAsked {
    /// What to do: `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`.
    pub verb: String,
    /// Its API group; empty for the core group.
    pub group: String,
    /// Its plural: `clusters`.
    pub resource: String,
    /// What of it: `status`.
    pub subresource: String,
    /// Its namespace.
    pub namespace: String,
    /// Which one.
    pub name: String,
}

impl Asked {
    /// What this method on this path asks for. `watch` is whether the query asks for a watch.
    pub fn of(method: &str, path: &str, watch: bool) -> Asked {
        // The router serves HEAD as GET.
        let method = if method == "HEAD" { "GET" } else { method };
        resource(method, path, watch).map_or_else(
            || Asked::Path { verb: method.to_ascii_lowercase(), path: path.to_owned() },
            Asked::Resource,
        )
    }

    /// Whether it is a watch.
    pub fn is_watch(&self) -> bool {
        matches!(self, Asked::Resource(asked) if asked.verb == "watch")
    }

    /// Whether it brings content.
    pub fn is_upload(&self) -> bool {
        matches!(self, Asked::Path { verb, path } if verb == "put" && path.starts_with("/blobs/"))
    }
}

impl ResourceAsked {
    /// `clusters`, or `clusters/status`.
    pub fn full_resource(&self) -> String {
        let slash = if self.subresource.is_empty() { "" } else { "/" };
        format!("{}{slash}{}", self.resource, self.subresource)
    }
}

/// As a refusal words it.
impl fmt::Display for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Asked::Path { verb, path } => write!(f, "{verb} path {path:?}"),
            Asked::Resource(asked) => {
                let (verb, resource, group) = (&asked.verb, asked.full_resource(), &asked.group);
                write!(f, "{verb} resource {resource:?} in API group {group:?} ")?;
                match asked.namespace.as_str() {
                    "" => f.write_str("at the cluster scope"),
                    namespace => write!(f, "in the namespace {namespace:?}"),
                }
            }
        }
    }
}

fn resource(method: &str, path: &str, watch: bool) -> Option<ResourceAsked> {
    // A name of Kubernetes needs no escapes, and two readings of one path must not exist.
    if path.contains('%') {
        return None;
    }
    let segments: Vec<&str> = path.trim_matches('/').split('/').collect();
    let (group, rest) = match segments.as_slice() {
        ["api", "v1", rest @ ..] => ("", rest),
        ["apis", group, _version, rest @ ..] => (*group, rest),
        _ => return None,
    };
    let (namespace, rest) = match rest {
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        // A namespace is in itself.
        ["namespaces", namespace] => (*namespace, rest),
        rest => ("", rest),
    };
    let (resource, rest) = rest.split_first()?;
    let name = rest.first().copied().unwrap_or_default();
    let verb = match (method, rest.is_empty()) {
        ("GET", true) if watch => "watch",
        ("GET", true) => "list",
        ("GET", false) => "get",
        ("POST", _) => "create",
        ("PUT", _) => "update",
        ("PATCH", _) => "patch",
        ("DELETE", true) => "deletecollection",
        ("DELETE", false) => "delete",
        _ => "",
    };
    Some(ResourceAsked {
        verb: verb.to_owned(),
        group: group.to_owned(),
        resource: (*resource).to_owned(),
        subresource: rest.get(1..).unwrap_or_default().join("/"),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
    })
}
