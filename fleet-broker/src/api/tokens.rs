//! `.../tokens`: tokens are made, listed and revoked. Like join codes they are no objects of the registry: nobody
//! watches or patches them, and what is shown once must be in no version that could be read again.

use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use jiff::Timestamp;
use protocol::time::UnixSeconds;
use serde::Deserialize;
use serde_json::{Value, json};

use super::auth::Actor;
use super::reply::{Refusal, json_response};
use super::{Api, body};
use crate::clock;
use crate::logic::access::{ADMIN, Record, Role, check_name};
use crate::logic::registry::failure::{self, Failure};
use crate::resources::API_VERSION;

/// What is asked for.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "camelCase")]
struct Asked {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    metadata: Metadata,
    spec: Spec,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Metadata {
    name: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Spec {
    role: Role,
    expires: Option<Timestamp>,
}

/// All tokens, without their secrets, which the hub does not have.
pub(super) async fn list(State(api): State<Api>) -> Response {
    let items: Vec<Value> = api.access.list().iter().map(|(name, record)| token_json(name, record)).collect();
    let list = json!({"apiVersion": API_VERSION, "kind": "TokenList", "metadata": {}, "items": items});
    json_response(StatusCode::OK, &list)
}

/// Makes a token: the only answer that ever holds its secret.
pub(super) async fn create(State(api): State<Api>, request: Request) -> Result<Response, Refusal> {
    let actor = Actor::of(&request);
    let asked: Asked = serde_json::from_value(body::json(request).await?)
        .map_err(|error| failure::bad_request(format!("the Token is malformed: {error}")))?;
    let name = asked.metadata.name;
    check_name(&name).map_err(|error| invalid(&name, "metadata.name", &error.to_string()))?;
    let expires =
        asked.spec.expires.map(|expires| UnixSeconds(u64::try_from(expires.as_second()).unwrap_or(0)));
    if expires.is_some_and(|expires| expires <= clock::unix()) {
        return Err(invalid(&name, "spec.expires", "it is over already").into());
    }
    let (token, record) = api.access.create(&name, asked.spec.role, expires).await?;
    tracing::info!(actor = actor.name(), name, role = record.role.name(), "a token was made");
    let mut answer = token_json(&name, &record);
    answer["status"]["token"] = json!(token.expose());
    Ok(json_response(StatusCode::CREATED, &answer))
}

/// Ends a token, and every watch of its bearer.
pub(super) async fn revoke(
    State(api): State<Api>,
    Path(name): Path<String>,
    request: Request,
) -> Result<Response, Refusal> {
    if name == ADMIN {
        let why = "tokens.edgefleet.dev \"admin\" is forbidden: it is the hub's own; to replace it, remove \
                   hub.kubeconfig from the hub's folder and restart the hub";
        return Err(failure::new(403, "Forbidden", why.to_owned()).into());
    }
    let actor = Actor::of(&request);
    api.access.revoke(&name).await?;
    tracing::info!(actor = actor.name(), name, "a token was revoked");
    let details = json!({"name": name, "group": "edgefleet.dev", "kind": "tokens"});
    let status = json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details});
    Ok(json_response(StatusCode::OK, &status))
}

fn token_json(name: &str, record: &Record) -> Value {
    let time = |time: Option<UnixSeconds>| {
        let seconds = i64::try_from(time?.0).ok()?;
        Timestamp::from_second(seconds).ok().map(|time| time.to_string())
    };
    let mut metadata = json!({"name": name});
    // When the hub's own was made is not known.
    if let Some(created) = time(Some(record.created).filter(|created| created.0 > 0)) {
        metadata["creationTimestamp"] = json!(created);
    }
    let mut spec = json!({"role": record.role.name()});
    if let Some(expires) = time(record.expires) {
        spec["expires"] = json!(expires);
    }
    let mut status = json!({});
    if let Some(used) = time(record.last_used) {
        status["lastUsed"] = json!(used);
    }
    json!({"apiVersion": API_VERSION, "kind": "Token", "metadata": metadata, "spec": spec, "status": status})
}

fn invalid(name: &str, field: &str, why: &str) -> Failure {
    let message = format!("Token.edgefleet.dev {name:?} is invalid: {field}: Invalid value: {why}");
    failure::new(422, "Invalid", message)
}
