//! Answers: JSON, and every refusal as a Status.

use axum::body::Body;
use axum::http::header::{CONTENT_TYPE, RETRY_AFTER};
use axum::http::{HeaderValue, StatusCode};
use axum::response::{IntoResponse, Response};
use kube::core::Status;
use serde::Serialize;
use serde_json::{Value, json};

use crate::logic::registry::failure::{self, Failure};

/// A refused request, as a response.
#[derive(Debug)]
pub(super) struct Refusal(Failure);

impl From<Failure> for Refusal {
    fn from(failure: Failure) -> Refusal {
        Refusal(failure)
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = json_response(code(&self.0), &status_json(&self.0));
        let wait = self.0.details.as_ref().map_or(0, |details| details.retry_after_seconds);
        if wait > 0 {
            response.headers_mut().insert(RETRY_AFTER, HeaderValue::from(wait));
        }
        response
    }
}

/// A Status as it goes over the wire, which the type itself does not say the kind of.
pub(super) fn status_json(status: &Status) -> Value {
    let mut value = serde_json::to_value(status).expect("a Status is JSON");
    value["kind"] = json!("Status");
    value["apiVersion"] = json!("v1");
    if value.get("metadata").is_none() {
        value["metadata"] = json!({});
    }
    value
}

/// An answer in JSON.
pub(super) fn json_response(code: StatusCode, value: &impl Serialize) -> Response {
    bytes_response(code, "application/json", serde_json::to_vec(value).expect("a value is JSON"))
}

/// An answer of some type.
pub(super) fn bytes_response(
    code: StatusCode,
    content_type: &'static str,
    body: impl Into<Body>,
) -> Response {
    let mut response = Response::new(body.into());
    *response.status_mut() = code;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(content_type));
    response
}

/// Puts warnings, which kubectl prints, into an answer.
pub(super) fn with_warnings(mut response: Response, warnings: &[String]) -> Response {
    for warning in warnings {
        let text = format!("299 - \"{}\"", warning.replace('\\', "\\\\").replace('"', "\\\""));
        if let Ok(value) = HeaderValue::from_str(&text) {
            response.headers_mut().append("Warning", value);
        }
    }
    response
}

/// There is nothing at this path.
pub(super) fn unknown_path(path: &str) -> Refusal {
    let mut failure =
        failure::new(404, "NotFound", "the server could not find the requested resource".to_owned());
    failure.message = format!("{}: {path}", failure.message);
    Refusal(failure)
}

/// What is at this path does not take this method.
pub(super) fn unknown_method() -> Refusal {
    let message = "the server does not allow this method on the requested resource";
    Refusal(failure::new(405, "MethodNotAllowed", message.to_owned()))
}

/// The hub does as much of this as it can at once.
pub(super) fn too_many(what: &str) -> Refusal {
    let message = format!("the hub has as many {what} as it takes at once, please try again later");
    Refusal(failure::new(429, "TooManyRequests", message))
}

/// None of the media types that the client accepts can be given.
pub(super) fn not_acceptable() -> Refusal {
    let message = "only the following media types are accepted: application/json";
    Refusal(failure::new(406, "NotAcceptable", message.to_owned()))
}

/// The body is of a media type that is not read here.
pub(super) fn unsupported_media_type(accepted: &str) -> Refusal {
    let message = format!(
        "the body of the request was in an unknown format - accepted media types include: {accepted}"
    );
    Refusal(failure::new(415, "UnsupportedMediaType", message))
}

fn code(status: &Status) -> StatusCode {
    StatusCode::from_u16(status.code).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR)
}
