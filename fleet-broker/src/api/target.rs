//! Which objects a path below the group names, and which handler its method needs.

use axum::extract::{Path, RawQuery, Request, State};
use axum::http::Method;
use axum::response::Response;

use super::params::Params;
use super::reply::{self, Refusal};
use super::{Api, read, watch, write};
use crate::logic::registry::{ObjectKey, Part};
use crate::resources::Kind;

/// Objects of one kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Target {
    /// All of them, or those of one namespace.
    Collection { kind: Kind, namespace: Option<String> },
    /// One of them, or its status.
    Object { key: ObjectKey, part: Part },
}

/// Serves a request about objects.
pub(super) async fn serve(
    State(api): State<Api>,
    Path(path): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let target = Target::parse(&path).ok_or_else(|| reply::unknown_path(request.uri().path()))?;
    answer(api, target, query.as_deref().unwrap_or_default(), request).await
}

/// Serves a request about the events of all namespaces.
pub(super) async fn all_events(
    State(api): State<Api>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let target = Target::Collection { kind: Kind::Event, namespace: None };
    answer(api, target, query.as_deref().unwrap_or_default(), request).await
}

/// Serves a request about the events of a namespace.
pub(super) async fn events(
    State(api): State<Api>,
    Path(namespace): Path<String>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let target = Target::Collection { kind: Kind::Event, namespace: Some(namespace) };
    answer(api, target, query.as_deref().unwrap_or_default(), request).await
}

/// Serves a request about one event.
pub(super) async fn event(
    State(api): State<Api>,
    Path((namespace, name)): Path<(String, String)>,
    RawQuery(query): RawQuery,
    request: Request,
) -> Result<Response, Refusal> {
    let target = Target::Object { key: ObjectKey::new(Kind::Event, &namespace, &name), part: Part::Main };
    answer(api, target, query.as_deref().unwrap_or_default(), request).await
}

async fn answer(api: Api, target: Target, query: &str, request: Request) -> Result<Response, Refusal> {
    let params = Params::parse_selecting(query, target.kind().selectable_fields())?;
    let method = request.method().clone();
    match target {
        Target::Collection { kind, namespace } if method == Method::GET => {
            let accept = request.headers();
            if params.watch {
                watch::watch(&api, kind, namespace, &params, accept)
            } else {
                read::list(&api, kind, namespace, &params, accept)
            }
        }
        Target::Collection { kind, namespace } if method == Method::POST && kind.is_writable() => {
            let namespaced = namespace.is_some() == kind.is_namespaced();
            if !namespaced {
                return Err(reply::unknown_method());
            }
            write::create(api, kind, namespace.unwrap_or_default(), params, request).await
        }
        Target::Object { key, part: _ } if method == Method::GET => {
            read::get(&api, &key, &params, request.headers())
        }
        Target::Object { key, part } if method == Method::PUT && key.kind.is_writable() => {
            write::replace(api, key, part, params, request).await
        }
        Target::Object { key, part } if method == Method::PATCH && key.kind.is_writable() => {
            write::patch(api, key, part, params, request).await
        }
        Target::Object { key, part: Part::Main } if method == Method::DELETE && key.kind.is_writable() => {
            write::delete(api, key, params, request).await
        }
        Target::Collection { .. } | Target::Object { .. } => Err(reply::unknown_method()),
    }
}

impl Target {
    fn kind(&self) -> Kind {
        match self {
            Target::Collection { kind, .. } => *kind,
            Target::Object { key, .. } => key.kind,
        }
    }

    /// Reads the path below `/apis/edgefleet.dev/v1alpha1/`, percent-decoded.
    fn parse(path: &str) -> Option<Target> {
        let segments: Vec<&str> = path.trim_end_matches('/').split('/').collect();
        let (namespace, rest) = match segments.as_slice() {
            ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (Some(*namespace), rest),
            rest => (None, rest),
        };
        let kind = Kind::from_plural(rest.first()?)?;
        if namespace.is_some() && !kind.is_namespaced() {
            return None;
        }
        let object = |name: &str, part| {
            (namespace.is_some() == kind.is_namespaced()).then(|| {
                let key = ObjectKey::new(kind, namespace.unwrap_or_default(), name);
                Target::Object { key, part }
            })
        };
        match rest[1..] {
            [] => Some(Target::Collection { kind, namespace: namespace.map(str::to_owned) }),
            [name] => object(name, Part::Main),
            [name, "status"] if kind.has_status() => object(name, Part::Status),
            [..] => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        let all = |kind, namespace: Option<&str>| {
            Some(Target::Collection { kind, namespace: namespace.map(str::to_owned) })
        };
        let one = |kind, namespace, name, part| {
            Some(Target::Object { key: ObjectKey::new(kind, namespace, name), part })
        };
        let rows = [
            ("clusters", all(Kind::Cluster, None)),
            ("clusters/", all(Kind::Cluster, None)),
            ("clusters/a", one(Kind::Cluster, "", "a", Part::Main)),
            ("clusters/a/status", one(Kind::Cluster, "", "a", Part::Status)),
            ("clusters/a/scale", None),
            ("bundles", all(Kind::Bundle, None)),
            ("bundles/a", None),
            ("namespaces/radio/bundles", all(Kind::Bundle, Some("radio"))),
            ("namespaces/radio/bundles/a", one(Kind::Bundle, "radio", "a", Part::Main)),
            ("namespaces/radio/bundles/a/status", None),
            ("namespaces/radio/clusters", None),
            ("namespaces/radio", None),
            ("rollouts", None),
            ("", None),
        ];
        for (path, expected) in rows {
            assert_eq!(Target::parse(path), expected, "{path}");
        }
    }
}
