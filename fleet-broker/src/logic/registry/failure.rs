//! Refusals as Kubernetes clients know them: a Status with the API server's reason, code and wording.

use std::time::Duration;

use apimachinery::apply::Conflicts;
use kube::core::Status;
use kube::core::response::{StatusCause, StatusDetails, StatusSummary};

use crate::logic::access::{Asked, ResourceAsked};
use crate::resources::{FieldError, Kind};

/// A refused request. Boxed, because a Status is far larger than what it stands beside in a Result.
pub type Failure = Box<Status>;

/// The object is not there.
pub fn not_found(kind: Kind, name: &str) -> Failure {
    about(kind, name, 404, "NotFound", format!("{} {name:?} not found", resource(kind)))
}

/// There is nothing in a namespace of this name, so there is no such namespace.
pub fn namespace_not_found(name: &str) -> Failure {
    let mut failure = new(404, "NotFound", format!("namespaces {name:?} not found"));
    let details = StatusDetails { name: name.to_owned(), kind: "namespaces".to_owned(), ..no_details() };
    failure.details = Some(details);
    failure
}

/// There is an object of this name.
pub fn already_exists(kind: Kind, name: &str) -> Failure {
    about(kind, name, 409, "AlreadyExists", format!("{} {name:?} already exists", resource(kind)))
}

/// The object has changed since the client read it.
pub fn conflict(kind: Kind, name: &str, why: &str) -> Failure {
    let message = format!("Operation cannot be fulfilled on {} {name:?}: {why}", resource(kind));
    about(kind, name, 409, "Conflict", message)
}

/// The conflict of an update with a stale resourceVersion.
pub fn stale(kind: Kind, name: &str) -> Failure {
    let why = "the object has been modified; please apply your changes to the latest version and try again";
    conflict(kind, name, why)
}

/// Others own fields that an apply would change.
pub fn conflicts(conflicts: &Conflicts) -> Failure {
    serde_json::from_value(conflicts.status()).unwrap_or_else(|_| new(409, "Conflict", conflicts.to_string()))
}

/// A rule or a limit of the hub forbids it.
pub fn forbidden(kind: Kind, name: &str, why: &str) -> Failure {
    about(kind, name, 403, "Forbidden", format!("{} {name:?} is forbidden: {why}", resource(kind)))
}

/// Nobody of this name may do this.
pub fn denied(user: &str, asked: &Asked) -> Failure {
    let message = match asked {
        Asked::Path { .. } => format!("forbidden: User {user:?} cannot {asked}"),
        Asked::Resource(resource) => {
            let dot = if resource.group.is_empty() { "" } else { "." };
            let name = if resource.name.is_empty() { String::new() } else { format!(" {:?}", resource.name) };
            let ResourceAsked { group, resource, .. } = resource;
            format!("{resource}{dot}{group}{name} is forbidden: User {user:?} cannot {asked}")
        }
    };
    let mut failure = new(403, "Forbidden", message);
    if let Asked::Resource(ResourceAsked { group, resource, name, .. }) = asked {
        let (name, group, kind) = (name.clone(), group.clone(), resource.clone());
        failure.details = Some(StatusDetails { name, group, kind, ..no_details() });
    }
    failure
}

/// The client has had as much of this as it may have; it should wait.
pub fn retry_later(what: &str, wait: Duration) -> Failure {
    let message = format!("too many {what}, please try again later");
    let mut failure = new(429, "TooManyRequests", message);
    let seconds = u32::try_from(wait.as_millis().div_ceil(1000)).unwrap_or(u32::MAX).max(1);
    failure.details = Some(StatusDetails { retry_after_seconds: seconds, ..no_details() });
    failure
}

/// The object breaks the rules of its kind.
pub fn invalid(kind: Kind, name: &str, errors: &[FieldError]) -> Failure {
    let message = format!("{}.{} {name:?} is invalid: {}", kind.name(), kind.group(), join(errors));
    let mut failure = about(kind, name, 422, "Invalid", message);
    let details = failure.details.get_or_insert_with(no_details);
    details.kind = kind.name().to_owned();
    details.causes = causes(errors);
    failure
}

/// The patch itself is wrong, whatever it is applied to.
pub fn invalid_patch(errors: &[FieldError]) -> Failure {
    let mut failure = new(422, "Invalid", format!(" \"\" is invalid: {}", join(errors)));
    failure.details = Some(StatusDetails { causes: causes(errors), ..no_details() });
    failure
}

/// The request makes no sense.
pub fn bad_request(message: impl Into<String>) -> Failure {
    new(400, "BadRequest", message.into())
}

/// The history that the client wants to continue from is gone; it must list again.
pub fn expired(message: impl Into<String>) -> Failure {
    new(410, "Expired", message.into())
}

/// The client has seen a version that this hub has not reached, as after a restore from a backup.
pub fn too_large_version(wanted: u64, current: u64) -> Failure {
    let message = format!("Too large resource version: {wanted}, current: {current}");
    let mut failure = new(504, "Timeout", message);
    let cause = StatusCause {
        reason: "ResourceVersionTooLarge".to_owned(),
        message: "Too large resource version".to_owned(),
        field: String::new(),
    };
    failure.details = Some(StatusDetails { causes: vec![cause], retry_after_seconds: 1, ..no_details() });
    failure
}

/// The request or the object is larger than the hub takes.
pub fn too_large(message: impl Into<String>) -> Failure {
    new(413, "RequestEntityTooLarge", message.into())
}

/// An error with its causes: a Status has no other place for them.
pub(in crate::logic) fn chain(error: &dyn std::error::Error) -> String {
    let causes = std::iter::successors(error.source(), |cause| cause.source());
    causes.fold(error.to_string(), |text, cause| format!("{text}: {cause}"))
}

/// A Status of failure.
pub fn new(code: u16, reason: &str, message: String) -> Failure {
    Box::new(Status {
        status: Some(StatusSummary::Failure),
        code,
        message,
        metadata: None,
        reason: reason.to_owned(),
        details: None,
    })
}

/// `clusters.edgefleet.dev`.
fn resource(kind: Kind) -> String {
    let dot = if kind.group().is_empty() { "" } else { "." };
    format!("{}{dot}{}", kind.plural(), kind.group())
}

fn about(kind: Kind, name: &str, code: u16, reason: &str, message: String) -> Failure {
    let mut failure = new(code, reason, message);
    failure.details = Some(StatusDetails {
        name: name.to_owned(),
        group: kind.group().to_owned(),
        kind: kind.plural().to_owned(),
        ..no_details()
    });
    failure
}

fn join(errors: &[FieldError]) -> String {
    let texts: Vec<String> =
        errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect();
    if texts.len() == 1 { texts.concat() } else { format!("[{}]", texts.join(", ")) }
}

fn causes(errors: &[FieldError]) -> Vec<StatusCause> {
    let cause = |error: &FieldError| StatusCause {
        reason: error.reason.to_owned(),
        message: error.message.clone(),
        field: error.field.clone(),
    };
    errors.iter().map(cause).collect()
}

fn no_details() -> StatusDetails {
    StatusDetails {
        name: String::new(),
        group: String::new(),
        kind: String::new(),
        uid: String::new(),
        causes: Vec::new(),
        retry_after_seconds: 0,
    }
}
