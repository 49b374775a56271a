//! What the API server answers when it does not do what was asked: a `Status` (meta/v1), read into a
//! [`ClusterError`]. Real and simulated answers come through here alike.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{Cause, ClusterError, FieldConflict};
use crate::logic::object::ObjectRef;

/// Longest message carried on, in bytes: a schema error can repeat the whole object.
const MAX_MESSAGE_BYTES: usize = 1024;

/// Most causes carried on; the rest repeats.
const MAX_CAUSES: usize = 32;

/// A `Status` of the API server, as far as it is read.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Status {
    pub(super) code: u16,
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) details: Box<Details>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub(super) struct Details {
    pub(super) name: String,
    pub(super) kind: String,
    pub(super) causes: Vec<StatusCause>,
    pub(super) retry_after_seconds: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct StatusCause {
    pub(super) reason: String,
    pub(super) message: String,
    pub(super) field: String,
}

/// What a request was about, for the error to name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verb {
    Read,
    Apply,
    Delete,
}

impl Status {
    /// The error for a request about one object.
    pub(super) fn about(self, object: &ObjectRef, verb: Verb) -> ClusterError {
        let message = shorten(self.message.clone());
        let object = Box::new(object.clone());
        match (self.code, self.reason.as_str()) {
            (404, _) => self.not_found(object),
            (409, _) => self.conflict(object, verb, message),
            (403, _) if self.has_cause("NamespaceTerminating") => {
                ClusterError::NamespaceTerminating { object, message }
            }
            (403, _) if message.contains("exceeded quota: ") => {
                ClusterError::QuotaExceeded { object, message }
            }
            (400..=422, _) if denied(&message) => ClusterError::Denied { object, message },
            (400 | 413 | 415 | 422, _) => ClusterError::Invalid { object, message, causes: self.causes() },
            (500, _) if untyped(&message) => ClusterError::Invalid { object, message, causes: self.causes() },
            _ => self.general(),
        }
    }

    /// The error for a request about no object in particular.
    pub(super) fn general(self) -> ClusterError {
        let message = shorten(self.message);
        match self.code {
            401 => ClusterError::Unauthorized { message },
            403 => ClusterError::Forbidden { message },
            410 => ClusterError::Expired { message },
            429 => {
                let seconds = self.details.retry_after_seconds;
                let retry_after = (seconds > 0).then(|| Duration::from_secs(seconds));
                ClusterError::Throttled { retry_after, message }
            }
            500 if message.contains("failed calling webhook") => ClusterError::WebhookDown { message },
            500..=599 => ClusterError::Unavailable { message },
            code => ClusterError::Unexpected { message: format!("status {code}: {message}") },
        }
    }

    /// Whether it says that no such resource is served, rather than that there is no such object.
    pub(super) fn is_unserved(&self) -> bool {
        self.code == 404 && self.details.name.is_empty()
    }

    fn not_found(self, object: Box<ObjectRef>) -> ClusterError {
        if self.is_unserved() {
            return ClusterError::UnknownKind { gvk: object.gvk };
        }
        if self.details.kind == "namespaces" && object.gvk.kind != "Namespace" {
            return ClusterError::NamespaceMissing { namespace: self.details.name, object };
        }
        ClusterError::NotFound { object }
    }

    fn conflict(self, object: Box<ObjectRef>, verb: Verb, message: String) -> ClusterError {
        if verb == Verb::Delete {
            return ClusterError::UidMismatch { object, message };
        }
        let of_fields =
            self.details.causes.into_iter().filter(|cause| cause.reason == "FieldManagerConflict");
        let mut conflicts: Vec<_> = of_fields.map(StatusCause::conflict).collect();
        // The API server names managers in the order of a Go map, which is none.
        conflicts.sort_unstable();
        conflicts.truncate(MAX_CAUSES);
        if conflicts.is_empty() {
            return ClusterError::Contended { object, message };
        }
        ClusterError::Conflict { object, conflicts, message }
    }

    fn causes(self) -> Vec<Cause> {
        let cause = |cause: StatusCause| Cause { field: cause.field, message: shorten(cause.message) };
        self.details.causes.into_iter().take(MAX_CAUSES).map(cause).collect()
    }

    fn has_cause(&self, reason: &str) -> bool {
        self.details.causes.iter().any(|cause| cause.reason == reason)
    }
}

impl StatusCause {
    /// The message is `conflict with "kubectl" using apps/v1` (or `... with subresource "scale" using ...`).
    fn conflict(self) -> FieldConflict {
        let quoted = self.message.split('"').nth(1).unwrap_or(&self.message);
        FieldConflict { manager: quoted.to_owned(), field: self.field }
    }
}

/// Whether admission refused, in the words of webhooks and of validating admission policies.
fn denied(message: &str) -> bool {
    message.contains("denied the request") || message.contains("ValidatingAdmissionPolicy")
}

/// Whether the manifest does not fit the schema, which server-side apply reports as its own failure.
fn untyped(message: &str) -> bool {
    message.contains("failed to create typed") || message.contains("field not declared in schema")
}

/// A message of bounded length.
pub(super) fn shorten(mut message: String) -> String {
    if message.len() > MAX_MESSAGE_BYTES {
        let end = message.floor_char_boundary(MAX_MESSAGE_BYTES);
        message.truncate(end);
        message.push('…');
    }
    message
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::{cluster::Remedy, logic::object::Gvk};

    fn check(verb: Verb, status: Value, expected: &str, remedy: Remedy) {
        let object = ObjectRef {
            gvk: Gvk::new("apps/v1", "Deployment"),
            namespace: Some("radio".into()),
            name: "gateway".into(),
        };
        let status: Status = serde_json::from_value(status).unwrap();
        let error = status.about(&object, verb);
        assert_eq!((error.to_string().as_str(), error.remedy()), (expected, remedy), "{error:?}");
    }

    const LATER: Remedy = Remedy::Retry { after: None };

    #[test]
    fn every_refusal_says_what_it_is() {
        check(
            Verb::Read,
            json!({"code": 404, "reason": "NotFound", "details": {"name": "gateway", "kind": "deployments"}}),
            "Deployment radio/gateway does not exist",
            Remedy::Object,
        );
        check(
            Verb::Apply,
            json!({"code": 404, "reason": "NotFound", "message": "namespaces \"radio\" not found",
                   "details": {"name": "radio", "kind": "namespaces"}}),
            "namespace radio of Deployment radio/gateway does not exist: create it, or add it to a bundle",
            LATER,
        );
        check(
            Verb::Apply,
            json!({"code": 404, "reason": "NotFound", "message": "the server could not find the requested resource"}),
            "the cluster does not serve Deployment.v1.apps: write a version that `kubectl api-versions` lists, or install its CustomResourceDefinition",
            LATER,
        );
        check(
            Verb::Apply,
            json!({"code": 403, "reason": "Forbidden", "message": "because it is being terminated",
                   "details": {"causes": [{"reason": "NamespaceTerminating", "field": "metadata.namespace"}]}}),
            "namespace of Deployment radio/gateway is being deleted: because it is being terminated",
            LATER,
        );
        check(
            Verb::Apply,
            json!({"code": 403, "reason": "Forbidden", "message": "exceeded quota: small, requested: pods=1"}),
            "Deployment radio/gateway does not fit its namespace's quota: exceeded quota: small, requested: pods=1",
            Remedy::Object,
        );
        check(
            Verb::Apply,
            json!({"code": 403, "reason": "Forbidden", "message": "cannot patch"}),
            "not allowed: cannot patch; grant the agent's account this right",
            Remedy::Operator,
        );
        check(
            Verb::Apply,
            json!({"code": 400, "message": "admission webhook \"x\" denied the request: no"}),
            "Deployment radio/gateway was denied by the cluster's policy: admission webhook \"x\" denied the request: no",
            Remedy::Object,
        );
        check(
            Verb::Apply,
            json!({"code": 422, "reason": "Invalid", "message": "spec.selector: Required value"}),
            "Deployment radio/gateway is invalid: spec.selector: Required value",
            Remedy::Object,
        );
        check(
            Verb::Apply,
            json!({"code": 500, "message": "failed calling webhook \"x\": connection refused"}),
            "an admission webhook of the cluster does not answer: failed calling webhook \"x\": connection refused",
            LATER,
        );
        check(
            Verb::Delete,
            json!({"code": 409, "reason": "Conflict", "message": "the UID in the precondition"}),
            "Deployment radio/gateway is another object of the same name: the UID in the precondition",
            Remedy::Object,
        );
        check(
            Verb::Apply,
            json!({"code": 409, "reason": "Conflict", "message": "the object has been modified"}),
            "Deployment radio/gateway changed meanwhile: the object has been modified",
            LATER,
        );
        check(
            Verb::Read,
            json!({"code": 429, "message": "too many", "details": {"retryAfterSeconds": 3}}),
            "the API server is busy: too many",
            Remedy::Retry { after: Some(Duration::from_secs(3)) },
        );
        check(
            Verb::Read,
            json!({"code": 503, "message": "etcd"}),
            "the API server is not available: etcd",
            LATER,
        );
        check(
            Verb::Read,
            json!({"code": 302, "message": "moved"}),
            "unexpected answer from the API server: status 302: moved",
            Remedy::Operator,
        );
    }

    #[test]
    fn a_conflict_names_managers_and_fields() {
        let object = ObjectRef { gvk: Gvk::new("v1", "ConfigMap"), namespace: None, name: "x".into() };
        let cause = |manager: &str, field: &str| {
            json!({"reason": "FieldManagerConflict", "field": field,
                   "message": format!("conflict with \"{manager}\" using v1")})
        };
        let status = json!({"code": 409, "reason": "Conflict", "message": "Apply failed with 2 conflicts",
            "details": {"causes": [cause("kubectl", ".data.a"), cause("helm", ".data.b")]}});
        let status: Status = serde_json::from_value(status).unwrap();
        let conflict =
            |manager: &str, field: &str| FieldConflict { manager: manager.into(), field: field.into() };
        assert_eq!(
            status.about(&object, Verb::Apply),
            ClusterError::Conflict {
                object: Box::new(object),
                conflicts: vec![conflict("helm", ".data.b"), conflict("kubectl", ".data.a")],
                message: "Apply failed with 2 conflicts".into(),
            }
        );
    }
}
