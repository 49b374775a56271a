//! Whether the hub is alive, ready, and which version it is: for anyone who asks.

use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use serde_json::json;

use super::Api;
use super::reply::{bytes_response, json_response};

/// The Kubernetes version whose API the hub speaks.
const KUBERNETES: (&str, &str) = ("1", "36");

/// The process runs.
pub(super) async fn live() -> Response {
    bytes_response(StatusCode::OK, "text/plain; charset=utf-8", "ok")
}

/// The store takes writes.
pub(super) async fn ready(State(api): State<Api>) -> Response {
    match api.hub.store().commit(Vec::new()).await {
        Ok(()) => bytes_response(StatusCode::OK, "text/plain; charset=utf-8", "ok"),
        Err(error) => {
            bytes_response(StatusCode::SERVICE_UNAVAILABLE, "text/plain; charset=utf-8", error.to_string())
        }
    }
}

/// What `kubectl version` shows of the server.
pub(super) async fn version() -> Response {
    let (major, minor) = KUBERNETES;
    let git_version = format!("v{major}.{minor}.0+edgefleet.{}", env!("CARGO_PKG_VERSION"));
    json_response(
        StatusCode::OK,
        &json!({
            "major": major,
            "minor": minor,
            "gitVersion": git_version,
            "gitCommit": "",
            "gitTreeState": "",
            "buildDate": "",
            "goVersion": "",
            "compiler": "rustc",
            "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
        }),
    )
}
