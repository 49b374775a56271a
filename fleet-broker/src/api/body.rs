//! Request bodies: JSON, up to a limit.

use axum::body::to_bytes;
use axum::extract::Request;
use axum::http::HeaderMap;
use axum::http::header::CONTENT_TYPE;
use bytes::Bytes;
use serde_json::Value;

use super::reply::{self, Refusal};
use crate::logic::registry::failure;

/// Longest body of a request about an object, in bytes: twice the longest object, since JSON can be wordy.
const BODY_MAX_LEN: usize = 3 * 1024 * 1024;

/// The kinds of patch that are served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum PatchType {
    /// RFC 7386.
    Merge,
    /// RFC 6902.
    Json,
    /// What a field manager declares (KEP-555), as YAML or JSON.
    Apply,
}

impl PatchType {
    /// What the Content-Type says the patch is.
    pub(super) fn of(headers: &HeaderMap) -> Result<PatchType, Refusal> {
        match media_type(headers) {
            "application/merge-patch+json" => Ok(PatchType::Merge),
            "application/json-patch+json" => Ok(PatchType::Json),
            "application/apply-patch+yaml" => Ok(PatchType::Apply),
            _ => Err(reply::unsupported_media_type(
                "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml",
            )),
        }
    }
}

/// The JSON in a body of that type.
pub(super) async fn json(request: Request) -> Result<Value, Refusal> {
    if !matches!(media_type(request.headers()), "" | "application/json") {
        return Err(reply::unsupported_media_type("application/json"));
    }
    Ok(parse(&bytes(request).await?)?)
}

/// The JSON in a body, if there is one.
pub(super) async fn optional_json(request: Request) -> Result<Option<Value>, Refusal> {
    let bytes = bytes(request).await?;
    if bytes.is_empty() { Ok(None) } else { Ok(Some(parse(&bytes)?)) }
}

/// A body of whatever type, up to the limit.
pub(super) async fn bytes(request: Request) -> Result<Bytes, Refusal> {
    bytes_up_to(request, BODY_MAX_LEN).await
}

/// A body of whatever type, up to this length.
pub(super) async fn bytes_up_to(request: Request, max_len: usize) -> Result<Bytes, Refusal> {
    let too_large = |_| failure::too_large(format!("the body has more than {max_len} bytes, or was cut off"));
    Ok(to_bytes(request.into_body(), max_len).await.map_err(too_large)?)
}

/// A document of YAML, as kubectl reads it, or JSON.
pub(super) fn yaml(bytes: &[u8]) -> Result<Value, failure::Failure> {
    if let Ok(value) = serde_json::from_slice(bytes) {
        return Ok(value);
    }
    let wrong = |error: &dyn std::fmt::Display| failure::bad_request(format!("error decoding YAML: {error}"));
    let text = std::str::from_utf8(bytes).map_err(|error| wrong(&error))?;
    // Kubernetes reads 0755 as YAML 1.1 does.
    let options = serde_saphyr::options! { legacy_octal_numbers: true };
    serde_saphyr::from_str_with_options(text, options).map_err(|error| wrong(&error))
}

fn parse(bytes: &[u8]) -> Result<Value, failure::Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        failure::bad_request(format!("the object provided is unrecognized: not JSON: {error}"))
    })
}

/// The Content-Type without its parameters, empty when there is none.
pub(super) fn media_type(headers: &HeaderMap) -> &str {
    let content_type = headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    content_type.split(';').next().unwrap_or_default().trim()
}
