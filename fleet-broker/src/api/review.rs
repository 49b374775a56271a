//! `kubectl auth`: clients ask what they may do, and who they are. The questions come in protobuf, which client-go
//! speaks here whatever the server offers, or in JSON; the answers are JSON.

use axum::extract::Request;
use axum::http::StatusCode;
use axum::response::Response;
use prost::Message as _;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::auth::Actor;
use super::body::{bytes_up_to, media_type};
use super::negotiate;
use super::reply::{self, Refusal, json_response};
use crate::logic::access::{AUTHENTICATION, AUTHORIZATION, Asked, ResourceAsked};
use crate::logic::registry::failure::{self, Failure};

/// Longest question, in bytes: a few names.
const QUESTION_MAX_LEN: usize = 64 * 1024;
/// What every protobuf body begins with.
const MAGIC: &[u8] = b"k8s\0";
const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// What stands behind [`MAGIC`]: some object's bytes.
#[derive(Clone, PartialEq, prost::Message)]
struct Unknown {
    #[prost(bytes = "vec", tag = "2")]
    raw: Vec<u8>,
}

/// The part of a SelfSubjectAccessReview that is asked.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct AccessReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<AccessSpec>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct AccessSpec {
    #[prost(message, optional, tag = "1")]
    #[serde(skip_serializing_if = "Option::is_none")]
    resource_attributes: Option<ResourceAttributes>,
    #[prost(message, optional, tag = "2")]
    #[serde(skip_serializing_if = "Option::is_none")]
    non_resource_attributes: Option<NonResourceAttributes>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize, Serialize)]
#[serde(default)]
struct ResourceAttributes {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    verb: String,
    #[prost(string, tag = "3")]
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[prost(string, tag = "4")]
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[prost(string, tag = "5")]
    #[serde(skip_serializing_if = "String::is_empty")]
    resource: String,
    #[prost(string, tag = "6")]
    #[serde(skip_serializing_if = "String::is_empty")]
    subresource: String,
    #[prost(string, tag = "7")]
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize, Serialize)]
#[serde(default)]
struct NonResourceAttributes {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    path: String,
    #[prost(string, tag = "2")]
    #[serde(skip_serializing_if = "String::is_empty")]
    verb: String,
}

/// The part of a SelfSubjectRulesReview that is asked.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
#[serde(default)]
struct RulesReview {
    #[prost(message, optional, tag = "2")]
    spec: Option<RulesSpec>,
}

#[derive(Clone, PartialEq, prost::Message, Deserialize, Serialize)]
#[serde(default)]
struct RulesSpec {
    #[prost(string, tag = "1")]
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
}

/// A SelfSubjectReview asks nothing more.
#[derive(Clone, PartialEq, prost::Message, Deserialize)]
struct IdentityReview {}

/// Whether the client may do one thing.
pub(super) async fn access(request: Request) -> Result<Response, Refusal> {
    let actor = Actor::of(&request);
    let spec = question::<AccessReview>(request).await?.spec.unwrap_or_default();
    let allowed = actor.role().allows(&asked(&spec)?);
    let status = json!({"allowed": allowed});
    let spec = serde_json::to_value(spec).expect("strings are JSON");
    Ok(answer(AUTHORIZATION, "SelfSubjectAccessReview", spec, &status))
}

/// All that the client may do. Roles do not differ between namespaces.
pub(super) async fn rules(request: Request) -> Result<Response, Refusal> {
    let role = Actor::of(&request).role();
    let spec = question::<RulesReview>(request).await?.spec.unwrap_or_default();
    let resources = role
        .resource_rules()
        .map(|rule| json!({"verbs": rule.verbs, "apiGroups": rule.groups, "resources": rule.resources}));
    let paths = role.path_rules().map(|rule| json!({"verbs": rule.verbs, "nonResourceURLs": rule.paths}));
    let status = json!({
        "resourceRules": resources.collect::<Vec<_>>(),
        "nonResourceRules": paths.collect::<Vec<_>>(),
        "incomplete": false,
    });
    let spec = serde_json::to_value(spec).expect("strings are JSON");
    Ok(answer(AUTHORIZATION, "SelfSubjectRulesReview", spec, &status))
}

/// Who the client is.
pub(super) async fn identity(request: Request) -> Result<Response, Refusal> {
    let actor = Actor::of(&request);
    let _nothing: IdentityReview = question(request).await?;
    let groups = [format!("edgefleet:{}", actor.role().name()), "system:authenticated".to_owned()];
    let status = json!({"userInfo": {"username": actor.name(), "groups": groups}});
    Ok(answer(AUTHENTICATION, "SelfSubjectReview", Value::Null, &status))
}

fn answer(group: &str, kind: &str, spec: Value, status: &Value) -> Response {
    let mut review = json!({
        "kind": kind,
        "apiVersion": format!("{group}/v1"),
        "metadata": {},
        "status": status,
    });
    if !spec.is_null() {
        review["spec"] = spec;
    }
    json_response(StatusCode::CREATED, &review)
}

fn asked(spec: &AccessSpec) -> Result<Asked, Failure> {
    match (&spec.resource_attributes, &spec.non_resource_attributes) {
        (Some(asked), None) => Ok(Asked::Resource(ResourceAsked {
            verb: asked.verb.clone(),
            group: asked.group.clone(),
            resource: asked.resource.clone(),
            subresource: asked.subresource.clone(),
            namespace: asked.namespace.clone(),
            name: asked.name.clone(),
        })),
        (None, Some(asked)) => Ok(Asked::Path { verb: asked.verb.clone(), path: asked.path.clone() }),
        (None, None) | (Some(_), Some(_)) => {
            let message = "SelfSubjectAccessReview.authorization.k8s.io \"\" is invalid: spec.resourceAttributes: \
                           Invalid value: null: exactly one of nonResourceAttributes or resourceAttributes must be \
                           specified";
            Err(failure::new(422, "Invalid", message.to_owned()))
        }
    }
}

async fn question<T: prost::Message + Default + DeserializeOwned>(request: Request) -> Result<T, Refusal> {
    negotiate::json(request.headers())?;
    let is_protobuf = match media_type(request.headers()) {
        PROTOBUF => true,
        "" | "application/json" => false,
        _ => return Err(reply::unsupported_media_type(&format!("application/json, {PROTOBUF}"))),
    };
    let bytes = bytes_up_to(request, QUESTION_MAX_LEN).await?;
    Ok(if is_protobuf { protobuf(&bytes) } else { from_json(&bytes) }?)
}

fn protobuf<T: prost::Message + Default>(bytes: &[u8]) -> Result<T, Failure> {
    let wrong = |why: &str| failure::bad_request(format!("the object provided is unrecognized: {why}"));
    let unknown =
        bytes.strip_prefix(MAGIC).ok_or_else(|| wrong("it does not begin as protobuf of Kubernetes"))?;
    let decoded = Unknown::decode(unknown).and_then(|unknown| T::decode(unknown.raw.as_slice()));
    decoded.map_err(|error| wrong(&error.to_string()))
}

fn from_json<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Failure> {
    serde_json::from_slice(bytes).map_err(|error| {
        failure::bad_request(format!("the object provided is unrecognized: not JSON of its kind: {error}"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A field of protobuf that holds bytes.
    fn field(tag: u8, bytes: &[u8]) -> Vec<u8> {
        let len = u8::try_from(bytes.len()).unwrap();
        assert!(len < 128);
        [&[tag << 3 | 2, len], bytes].concat()
    }

    /// As client-go sends it: what it is, then its bytes, then two empty texts.
    fn body(raw: &[u8]) -> Vec<u8> {
        let kind = [field(1, b"authorization.k8s.io/v1"), field(2, b"SelfSubjectAccessReview")].concat();
        [MAGIC, &field(1, &kind), &field(2, raw), &field(3, b""), &field(4, b"")].concat()
    }

    fn delete_tower() -> Vec<u8> {
        let attributes = [
            field(1, b"radio"),
            field(2, b"delete"),
            field(3, b"edgefleet.dev"),
            field(4, b"*"),
            field(5, b"clusters"),
            field(6, b"status"),
            field(7, b"tower-a"),
            // A selector, which later versions send and nothing here reads.
            field(8, b""),
        ];
        [field(1, b""), field(2, &field(1, &attributes.concat())), field(3, &[])].concat()
    }

    #[test]
    fn protobuf_and_json_ask_the_same() {
        let json = r#"{"kind":"SelfSubjectAccessReview","apiVersion":"authorization.k8s.io/v1","spec":{
            "resourceAttributes":{"namespace":"radio","verb":"delete","group":"edgefleet.dev","version":"*",
            "resource":"clusters","subresource":"status","name":"tower-a"}}}"#;
        let from_protobuf: AccessReview = protobuf(&body(&delete_tower())).unwrap();
        let from_json: AccessReview = from_json(json.as_bytes()).unwrap();
        assert_eq!(from_protobuf, from_json);
        let asked = asked(&from_protobuf.spec.unwrap()).unwrap();
        let expected =
            "delete resource \"clusters/status\" in API group \"edgefleet.dev\" in the namespace \"radio\"";
        assert_eq!(asked.to_string(), expected);
    }

    #[test]
    fn what_is_no_question_is_refused() {
        let good = body(&delete_tower());
        let nested = (0..1000)
            .fold(Vec::new(), |inner: Vec<u8>, _| if inner.len() < 120 { field(2, &inner) } else { inner });
        let rows: [(&str, Vec<u8>); 6] = [
            ("nothing", Vec::new()),
            ("no magic", good[4..].to_vec()),
            ("cut off", good[..good.len() - 6].to_vec()),
            ("a length beyond the end", [MAGIC, &[0x12, 0xff, 0xff, 0xff, 0x7f]].concat()),
            ("a text that is none", body(&field(2, &field(1, &field(2, &[0xff, 0xfe]))))),
            ("a number for a message", body(&[0x10, 1])),
        ];
        for (what, bytes) in rows {
            assert!(protobuf::<AccessReview>(&bytes).is_err(), "{what}");
        }
        // Whatever it says, it never panics.
        for end in 0..good.len() {
            let _answer = protobuf::<AccessReview>(&good[..end]);
        }
        let _answer = protobuf::<AccessReview>(&body(&nested));
        for (spec, good) in [
            ("{}", false),
            (r#"{"resourceAttributes":{},"nonResourceAttributes":{}}"#, false),
            (r#"{"nonResourceAttributes":{"path":"/metrics","verb":"get"}}"#, true),
        ] {
            let spec: AccessSpec = serde_json::from_str(spec).unwrap();
            assert_eq!(asked(&spec).is_ok(), good, "{spec:?}");
        }
    }
}
