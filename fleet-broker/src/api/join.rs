//! `POST .../clusters/NAME/join`: makes a join code. A subresource that is created and never read, as
//! `serviceaccounts/token` is.

use axum::extract::{Path, State};
use axum::http::StatusCode;
use axum::response::Response;
use protocol::ids::ClusterId;
use serde_json::json;
use tokio::sync::oneshot;

use super::Api;
use super::reply::{self, Refusal};
use crate::controller::{JoinRequest, Question};
use crate::logic::registry::failure;
use crate::resources::{API_VERSION, Kind};

/// Makes a code for a registered cluster; the one made before no longer works.
pub(super) async fn create(State(api): State<Api>, Path(name): Path<String>) -> Result<Response, Refusal> {
    let unknown = || failure::not_found(Kind::Cluster, &name);
    let cluster = ClusterId::new(&*name).map_err(|_| unknown())?;
    let (answer, code) = oneshot::channel();
    let request = Question::Join(JoinRequest { cluster, answer });
    let stopping = || failure::new(503, "ServiceUnavailable", "the hub is stopping".to_owned());
    api.questions.send(request).await.map_err(|_| stopping())?;
    let code = code.await.map_err(|_| stopping())?.map_err(|_| unknown())?;
    let body = json!({
        "apiVersion": API_VERSION,
        "kind": "JoinCode",
        "metadata": {"name": name},
        "status": {"code": code.to_string()},
    });
    Ok(reply::json_response(StatusCode::CREATED, &body))
}
