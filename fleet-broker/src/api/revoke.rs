//! `POST .../clusters/NAME/revoke`: believes the key that a cluster joined with no more. What it runs is left alone.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use protocol::ids::ClusterId;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::reply::{self, Refusal};
use super::{Api, body};
use crate::controller::{Question, RevokeRequest};
use crate::logic::registry::{ObjectKey, failure};
use crate::resources::{API_VERSION, Kind};

/// Longest reason: what a condition's message shows without being cut.
const REASON_MAX_LEN: usize = 1024;

/// Revokes the cluster's key, whether or not the Cluster object is still there. Revoking again changes nothing.
pub(super) async fn create(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    let unknown = || failure::not_found(Kind::Cluster, &name);
    let cluster = ClusterId::new(&*name).map_err(|_| unknown())?;
    let reason = reason(&body::json(request).await?)?;
    let (answer, revoked) = oneshot::channel();
    let request = Question::Revoke(RevokeRequest { cluster, reason, answer });
    let stopping = || failure::new(503, "ServiceUnavailable", "the hub is stopping".to_owned());
    api.questions.send(request).await.map_err(|_| stopping())?;
    let no_key = || {
        let key = ObjectKey::new(Kind::Cluster, "", &name);
        if api.hub.read(|registry| registry.get(&key).is_none()) {
            return unknown();
        }
        let message = format!("cluster {name} has not joined: it has no key to revoke");
        failure::new(409, "Conflict", message)
    };
    let revoked = revoked.await.map_err(|_| stopping())?.ok_or_else(no_key)?;
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": "Revocation",
        "metadata": {"name": name},
        "status": {
            "key": revoked.key.to_string(),
            "reason": revoked.reason,
            "wasConnected": revoked.was_connected,
        },
    });
    Ok(reply::json_response(StatusCode::CREATED, &body))
}

fn reason(body: &Value) -> Result<String, Refusal> {
    let reason = body.pointer("/spec/reason").and_then(Value::as_str).unwrap_or_default().trim();
    if reason.is_empty() || reason.len() > REASON_MAX_LEN {
        let problem = format!("spec.reason must be 1 to {REASON_MAX_LEN} bytes long");
        return Err(failure::bad_request(problem).into());
    }
    Ok(reason.to_owned())
}
