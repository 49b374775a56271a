//! What answers mean: to the agent a refusal is a reason and what it takes to succeed.

use std::fmt;

use protocol::planted::Bug;
use serde_json::Value;

use super::manifest::{PART_OF, text};
use crate::{
    cluster::{self, ClusterError, Response},
    logic::{
        app,
        event::{Failure, Inspection, Outcome, Remedy},
        health::Health,
        owned,
    },
};

/// A refused request as the end of a step.
pub(super) fn failed(error: &ClusterError) -> Outcome {
    Outcome::Failed(failure(error))
}

/// What a refusal means to whoever reads a report.
pub(super) fn failure(error: &ClusterError) -> Failure {
    let remedy = match error.remedy() {
        _ if error.is_outage() => Remedy::Outage,
        cluster::Remedy::Retry { .. } => Remedy::Retry,
        cluster::Remedy::Object | cluster::Remedy::Operator => Remedy::Object,
    };
    Failure { remedy, reason: reason(error).to_owned(), message: format!("{error}{}", advice(error)) }
}

/// What to do where the API server does not say it. It is a person's to decide: the object's pods end with it.
fn advice(error: &ClusterError) -> &'static str {
    let immutable =
        matches!(error, ClusterError::Invalid { message, .. } if message.ends_with("field is immutable"));
    if immutable { "; delete this object, and it is made anew" } else { "" }
}

/// Something that no API server answers.
pub(super) fn internal(what: &impl fmt::Display) -> Outcome {
    Outcome::Failed(app::refuse("Internal", what.to_string()))
}

/// The object in an answer that holds one.
pub(super) fn object(response: Response) -> Result<Value, Outcome> {
    let Response::Object(object) = response else {
        return Err(internal(&format!("{response:?} where an object was asked for")));
    };
    Ok(object)
}

/// How a deletion ended. What is not there, or of a kind that is not served, is deleted.
pub(super) fn deleted(answer: Result<Response, ClusterError>) -> Result<Outcome, Outcome> {
    match answer {
        Ok(Response::Deleted)
        | Err(
            ClusterError::NotFound { .. }
            | ClusterError::UnknownKind { .. }
            | ClusterError::NamespaceMissing { .. },
        ) => Ok(Outcome::Deleted),
        Err(ClusterError::Timeout { .. }) if Bug::UnansweredIsDeleted.is_planted() => Ok(Outcome::Deleted),
        Ok(Response::Deleting) => Ok(Outcome::Deleting),
        Err(ClusterError::UidMismatch { .. }) => Ok(Outcome::Replaced),
        Ok(other) => Err(internal(&format!("{other:?} to a deletion"))),
        Err(error) => Err(failed(&error)),
    }
}

/// What a live object tells. `ignore` points to what is not ours in it.
pub(super) fn inspection(
    live: &Value,
    ignore: &[String],
    health: Health,
    changed_by: Vec<String>,
) -> Inspection {
    Inspection {
        uid: text(live, "/metadata/uid").to_owned(),
        resource_version: text(live, "/metadata/resourceVersion").to_owned(),
        apply_set: part_of(live).map(str::to_owned),
        owned: owned::digest(live, ignore),
        health,
        changed_by,
        deleting: live.pointer("/metadata/deletionTimestamp").is_some(),
    }
}

/// Whether a live object says that it belongs to an ApplySet.
pub(super) fn is_part_of(live: &Value, apply_set: &str) -> bool {
    part_of(live) == Some(apply_set)
}

fn part_of(live: &Value) -> Option<&str> {
    live["metadata"]["labels"][PART_OF].as_str()
}

fn reason(error: &ClusterError) -> &'static str {
    match error {
        ClusterError::NotFound { .. } => "NotFound",
        ClusterError::UnknownKind { .. } => "UnknownKind",
        ClusterError::ScopeMismatch { .. } => "ScopeMismatch",
        ClusterError::NamespaceMissing { .. } => "NamespaceMissing",
        ClusterError::NamespaceTerminating { .. } => "NamespaceTerminating",
        ClusterError::Conflict { .. } => "Conflict",
        ClusterError::Contended { .. } => "Contended",
        ClusterError::UidMismatch { .. } => "Replaced",
        ClusterError::Invalid { .. } => "Invalid",
        ClusterError::Denied { .. } => "Denied",
        ClusterError::QuotaExceeded { .. } => "QuotaExceeded",
        ClusterError::Forbidden { .. } => "Forbidden",
        ClusterError::Unauthorized { .. } => "Unauthorized",
        ClusterError::Throttled { .. } => "Throttled",
        ClusterError::WebhookDown { .. } => "WebhookDown",
        ClusterError::Unavailable { .. } => "Unavailable",
        ClusterError::Timeout { .. } => "Timeout",
        ClusterError::TooLarge { .. } => "TooLarge",
        ClusterError::Expired { .. } => "Expired",
        ClusterError::Unexpected { .. } => "Unexpected",
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use serde_json::json;

    use super::*;
    use crate::logic::{
        health::Status,
        object::{Gvk, ObjectRef},
    };

    fn gateway() -> Box<ObjectRef> {
        let namespace = Some("radio".to_owned());
        Box::new(ObjectRef { gvk: Gvk::new("apps/v1", "Deployment"), namespace, name: "gateway".into() })
    }

    #[test]
    fn a_refusal_says_what_it_takes() {
        let check = |error: ClusterError, reason: &str, remedy: Remedy| {
            let found = failure(&error);
            assert_eq!((found.reason.as_str(), found.remedy), (reason, remedy), "{error}");
            assert_eq!(found.message, error.to_string());
        };
        let message = || "words".to_owned();
        check(ClusterError::Unavailable { message: message() }, "Unavailable", Remedy::Outage);
        check(ClusterError::Timeout { after: Duration::from_secs(1) }, "Timeout", Remedy::Outage);
        let busy = ClusterError::Throttled { retry_after: None, message: message() };
        check(busy, "Throttled", Remedy::Outage);
        check(ClusterError::Unauthorized { message: message() }, "Unauthorized", Remedy::Outage);
        check(ClusterError::Unexpected { message: message() }, "Unexpected", Remedy::Outage);
        check(ClusterError::WebhookDown { message: message() }, "WebhookDown", Remedy::Retry);
        let missing = ClusterError::NamespaceMissing { namespace: "radio".into(), object: gateway() };
        check(missing, "NamespaceMissing", Remedy::Retry);
        check(ClusterError::Forbidden { message: message() }, "Forbidden", Remedy::Object);
        check(ClusterError::Denied { object: gateway(), message: message() }, "Denied", Remedy::Object);
        check(ClusterError::ScopeMismatch { object: gateway() }, "ScopeMismatch", Remedy::Object);
    }

    #[test]
    fn what_cannot_be_changed_is_to_be_deleted() {
        let refused = |message: &str| {
            failure(&ClusterError::Invalid { object: gateway(), message: message.into(), causes: Vec::new() })
        };
        let advice = "Deployment radio/gateway is invalid: spec.selector: field is immutable; \
                      delete this object, and it is made anew";
        assert_eq!(refused("spec.selector: field is immutable").message, advice);
        assert!(refused("spec.selector: Required value").message.ends_with("Required value"));
    }

    #[test]
    fn what_is_not_there_is_deleted() {
        let check = |answer: Result<Response, ClusterError>, expected: &str| {
            let outcome = deleted(answer).unwrap_or_else(|outcome| outcome);
            assert!(format!("{outcome:?}").starts_with(expected), "{outcome:?}");
        };
        check(Ok(Response::Deleted), "Deleted");
        check(Ok(Response::Deleting), "Deleting");
        check(Err(ClusterError::NotFound { object: gateway() }), "Deleted");
        check(Err(ClusterError::UnknownKind { gvk: gateway().gvk }), "Deleted");
        let message = || "words".to_owned();
        check(Err(ClusterError::UidMismatch { object: gateway(), message: message() }), "Replaced");
        check(Err(ClusterError::Forbidden { message: message() }), "Failed");
        check(Ok(Response::Version("v1".into())), "Failed");
    }

    #[test]
    fn an_object_tells_about_itself() {
        let health = Health { status: Status::Current, reason: "Ready".into(), message: String::new() };
        let live = json!({
            "metadata": {"uid": "u", "resourceVersion": "7", "labels": {PART_OF: "set"},
                         "managedFields": [{"manager": "edgefleet", "operation": "Apply",
                                            "fieldsV1": {"f:data": {"f:a": {}, "f:b": {}}}}]},
            "data": {"a": "1", "b": "2"},
        });
        let look = |live: &Value, ignore: &[&str]| {
            let ignore: Vec<String> = ignore.iter().map(|pointer| (*pointer).to_owned()).collect();
            inspection(live, &ignore, health.clone(), vec!["kubectl".into()])
        };
        let found = look(&live, &[]);
        assert_eq!((found.uid.as_str(), found.resource_version.as_str()), ("u", "7"));
        assert_eq!((found.apply_set.as_deref(), found.deleting), (Some("set"), false));
        let mut changed = live.clone();
        changed["data"]["b"] = "3".into();
        assert_ne!(found.owned, look(&changed, &[]).owned);
        assert_eq!(look(&live, &["/data/b"]).owned, look(&changed, &["/data/b"]).owned);
        changed["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z".into();
        assert!(look(&changed, &[]).deleting);
    }
}
