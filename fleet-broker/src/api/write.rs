//! POST, PUT, PATCH and DELETE of objects. What is answered with success is durable.

use axum::extract::Request;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kube::core::response::StatusSummary;
use protocol::verify::Trust;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::auth::Actor;
use super::body::{self, PatchType};
use super::negotiate::{self, Form};
use super::params::{self, Params};
use super::read::object_response;
use super::reply::{Refusal, json_response, with_warnings};
use crate::logic::fleet::believe;
use crate::logic::registry::failure::{self, Failure};
use crate::logic::registry::{
    Deleted, Object, ObjectKey, Part, Patch, Preconditions, Transaction, WriteOptions, Written,
};
use crate::random;
use crate::resources::{FieldError, GROUP, Kind};

/// What the body of a DELETE may say, besides the query.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    dry_run: Vec<String>,
    preconditions: DeletePreconditions,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeletePreconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

pub(super) async fn create(
    api: Api,
    kind: Kind,
    namespace: String,
    params: Params,
    request: Request,
) -> Result<Response, Refusal> {
    let form = negotiate::form(request.headers(), false)?;
    let actor = Actor::of(&request);
    let options = options(&params, request.headers());
    let object = body::json(request).await?;
    if let (Kind::Bundle, Some(trust)) = (kind, &api.trust) {
        believed(trust, &namespace, &object)?;
    }
    let uid = random::uid();
    let written = decide(&api, &actor, params.dry_run, move |transaction| {
        transaction.create(kind, &namespace, object, &options, &uid)
    })
    .await?;
    Ok(written_response(StatusCode::CREATED, &written, kind, form, &params))
}

pub(super) async fn replace(
    api: Api,
    key: ObjectKey,
    part: Part,
    params: Params,
    request: Request,
) -> Result<Response, Refusal> {
    let form = negotiate::form(request.headers(), false)?;
    let actor = Actor::of(&request);
    let options = options(&params, request.headers());
    let object = body::json(request).await?;
    let kind = key.kind;
    let written = decide(&api, &actor, params.dry_run, move |transaction| {
        transaction.replace(&key, part, object, &options)
    })
    .await?;
    Ok(written_response(StatusCode::OK, &written, kind, form, &params))
}

pub(super) async fn patch(
    api: Api,
    key: ObjectKey,
    part: Part,
    params: Params,
    request: Request,
) -> Result<Response, Refusal> {
    let form = negotiate::form(request.headers(), false)?;
    let actor = Actor::of(&request);
    let patch_type = PatchType::of(request.headers())?;
    let options = options(&params, request.headers());
    let patch = body::bytes(request).await?.to_vec();
    let kind = key.kind;
    let patch = match patch_type {
        PatchType::Merge => Patch::Merge(patch),
        PatchType::Json => Patch::Json(patch),
        PatchType::Apply => return apply(&api, &actor, key, part, &params, &patch, form).await,
    };
    if params.force.is_some() {
        return Err(patch_option("force", "Forbidden: may not be specified for non-apply patch").into());
    }
    let written = decide(&api, &actor, params.dry_run, move |transaction| {
        transaction.patch(&key, part, &patch, &options)
    })
    .await?;
    Ok(written_response(StatusCode::OK, &written, kind, form, &params))
}

async fn apply(
    api: &Api,
    actor: &Actor,
    key: ObjectKey,
    part: Part,
    params: &Params,
    declared: &[u8],
    form: Form,
) -> Result<Response, Refusal> {
    if params.field_manager.is_empty() {
        let why = "Required value: is required for apply patch";
        return Err(patch_option("fieldManager", why).into());
    }
    let declared = body::yaml(declared)?;
    if let (Kind::Bundle, Some(trust), true) = (key.kind, &api.trust, part == Part::Main) {
        believed(trust, &key.namespace, &declared)?;
    }
    let (kind, force, uid) = (key.kind, params.force.unwrap_or(false), random::uid());
    let options = WriteOptions { validation: params.field_validation, manager: params.field_manager.clone() };
    let (written, created) = decide(api, actor, params.dry_run, move |transaction| {
        transaction.apply(&key, part, declared, force, &options, &uid)
    })
    .await?;
    let code = if created { StatusCode::CREATED } else { StatusCode::OK };
    Ok(written_response(code, &written, kind, form, params))
}

fn options(params: &Params, headers: &HeaderMap) -> WriteOptions {
    let manager = params::manager(&params.field_manager, headers);
    WriteOptions { validation: params.field_validation, manager }
}

/// A patch is refused for what its query says.
fn patch_option(field: &str, why: &str) -> Failure {
    let message = format!("PatchOptions.meta.k8s.io \"\" is invalid: {field}: {why}");
    failure::new(422, "Invalid", message)
}

pub(super) async fn delete(
    api: Api,
    key: ObjectKey,
    params: Params,
    request: Request,
) -> Result<Response, Refusal> {
    negotiate::json(request.headers())?;
    let actor = Actor::of(&request);
    let options: DeleteOptions = match body::optional_json(request).await? {
        None => DeleteOptions::default(),
        Some(options) => serde_json::from_value(options)
            .map_err(|error| failure::bad_request(format!("the DeleteOptions are malformed: {error}")))?,
    };
    let dry_run = params.dry_run | params::dry_run(&options.dry_run.concat())?;
    let preconditions = Preconditions {
        uid: options.preconditions.uid,
        resource_version: options.preconditions.resource_version,
    };
    let kind = key.kind;
    let deleted =
        decide(&api, &actor, dry_run, move |transaction| transaction.delete(&key, &preconditions)).await?;
    Ok(match deleted {
        Deleted::Gone(object) => json_response(StatusCode::OK, &deletion_json(kind, &object)),
        Deleted::Terminating(object) => json_response(StatusCode::OK, &*object),
    })
}

/// Refuses a bundle that no cluster would believe. What does not read is left to the rules of its kind.
fn believed(trust: &Trust, namespace: &str, bundle: &Value) -> Result<(), Failure> {
    let text = |pointer: &str| bundle.pointer(pointer).and_then(Value::as_str).unwrap_or_default();
    let (name, release) = (text("/metadata/name"), STANDARD.decode(text("/spec/release")));
    let Some(problem) = release.ok().and_then(|release| believe(trust, namespace, name, &release).err())
    else {
        return Ok(());
    };
    let why = format!(
        "{problem}; build it for namespaces of its tenant, and sign it with release keys that this fleet's root \
         names for the tenant (edgefleet bundle sign)"
    );
    Err(failure::invalid(Kind::Bundle, name, &[FieldError::invalid("spec.release", "<bytes>", &why)]))
}

/// Decides a write, and unless it is a dry run, makes it.
async fn decide<T: Send>(
    api: &Api,
    actor: &Actor,
    dry_run: bool,
    decide: impl FnOnce(&mut Transaction<'_>) -> Result<T, Failure> + Send,
) -> Result<T, Refusal> {
    let result = if dry_run {
        api.hub.dry_run(actor.name(), decide)
    } else {
        let told = |transaction: &mut Transaction<'_>| {
            let answer = decide(transaction)?;
            transaction.tell_changes();
            Ok(answer)
        };
        api.hub.write(actor.name(), told).await
    };
    result.map_err(Refusal::from)
}

fn written_response(
    code: StatusCode,
    written: &Written,
    kind: Kind,
    form: Form,
    params: &Params,
) -> Response {
    with_warnings(object_response(code, &written.object, kind, form, params), &written.warnings)
}

fn deletion_json(kind: Kind, object: &Object) -> Value {
    json!({
        "kind": "Status",
        "apiVersion": "v1",
        "metadata": {},
        "status": StatusSummary::Success,
        "details": {"name": object.name(), "group": GROUP, "kind": kind.plural(), "uid": object.uid()},
    })
}
