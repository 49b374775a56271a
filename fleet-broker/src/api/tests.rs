//! The API by data: requests that kubectl does not make, and what each is answered.

use axum::body::Body;
use axum::http::{HeaderMap, Request};
use http_body_util::BodyExt;
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tower::ServiceExt;

use super::auth::Token;
use super::*;
use crate::store::{BLOB_MAX_LEN, Store};

const G: &str = "/apis/edgefleet.dev/v1alpha1";
const JSON: &str = "Content-Type: application/json";
const CLUSTER: &str =
    r#"{"apiVersion":"edgefleet.dev/v1alpha1","kind":"Cluster","metadata":{"name":"tower-a"},"spec":{}}"#;
const MISSPELT: &str = r#"{"apiVersion":"edgefleet.dev/v1alpha1","kind":"Cluster","metadata":{"name":"tower-b"},"spec":{"x":"é\""}}"#;
const ANN: &str = r#"{"metadata":{"name":"ann"},"spec":{"role":"viewer"}}"#;
const ACCESS: &str = "POST /apis/authorization.k8s.io/v1/selfsubjectaccessreviews";
const CAN_I: &str = r#"{"spec":{"resourceAttributes":{"verb":"delete","resource":"clusters"}}}"#;
const PROTOBUF: &str = "Content-Type: application/vnd.kubernetes.protobuf";
/// The SHA-256 of `test`.
const TEST_DIGEST: &str = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08";

/// One request, and what its answer must be.
struct Row {
    /// Method and path; `G` stands for the group's path.
    request: &'static str,
    /// One header, besides the token.
    header: &'static str,
    body: &'static str,
    code: u16,
    /// Parts of the body.
    parts: &'static [&'static str],
}

const fn row(
    request: &'static str,
    header: &'static str,
    body: &'static str,
    code: u16,
    parts: &'static [&'static str],
) -> Row {
    Row { request, header, body, code, parts }
}

const AGGREGATED: &str = "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";

const ROWS: &[Row] = &[
    // Discovery.
    row("GET /api", "", "", 200, &["APIVersions"]),
    row("GET /apis", "", "", 200, &["APIGroupList", "\"preferredVersion\""]),
    row("GET /apis", AGGREGATED, "", 200, &["APIGroupDiscoveryList", "\"subresource\":\"status\""]),
    row("GET /apis", "Accept: application/vnd.kubernetes.protobuf", "", 406, &["NotAcceptable"]),
    row("GET /apis/edgefleet.dev", "", "", 200, &["\"kind\":\"APIGroup\""]),
    row("GET /openapi/v3", "", "", 200, &["/openapi/v3/apis/edgefleet.dev/v1alpha1?hash="]),
    row("GET /openapi/v2", "", "", 200, &["Edgefleet"]),
    row("GET /openapi/v4", "", "", 404, &["\"kind\":\"Status\"", "\"reason\":\"NotFound\""]),
    row("GET /apis/apps/v1", "", "", 404, &["could not find the requested resource"]),
    row("GET G/rollouts", "", "", 404, &["could not find the requested resource"]),
    // Methods.
    row("POST /version", JSON, "", 405, &["MethodNotAllowed"]),
    row("DELETE /apis", "", "", 405, &["\"reason\":\"MethodNotAllowed\""]),
    row("DELETE G/clusters", "", "", 405, &["MethodNotAllowed"]),
    row("POST G/applications", JSON, "{}", 405, &["MethodNotAllowed"]),
    row("POST G/namespaces/radio/assignments", JSON, "{}", 405, &["MethodNotAllowed"]),
    row("GET /api/v1/namespaces?watch=1", "", "", 405, &["MethodNotAllowed"]),
    // Bodies.
    row("POST G/clusters", JSON, "{", 400, &["\"reason\":\"BadRequest\"", "not JSON", "column 1"]),
    row("POST G/clusters", JSON, "[]", 400, &["must be a JSON object"]),
    row("POST G/clusters", JSON, "", 400, &["not JSON"]),
    row("POST G/clusters", "Content-Type: application/yaml", "a: b", 415, &["UnsupportedMediaType"]),
    row("POST G/clusters?fieldValidation=Maybe", JSON, CLUSTER, 400, &["invalid fieldValidation"]),
    row("POST G/clusters?dryRun=All", JSON, CLUSTER, 201, &["\"uid\""]),
    row("POST G/clusters", JSON, CLUSTER, 201, &["\"generation\":1", "\"accepted\":false"]),
    row("POST G/clusters", JSON, CLUSTER, 409, &["AlreadyExists", "\"kind\":\"clusters\""]),
    row("POST G/clusters?dryRun=All", JSON, MISSPELT, 201, &[]),
    row(
        "PUT G/clusters/tower-a",
        JSON,
        CLUSTER,
        422,
        &["metadata.resourceVersion", "must be specified for an update"],
    ),
    row(
        "PATCH G/clusters/tower-a",
        "Content-Type: application/apply-patch+yaml",
        "a: b",
        422,
        &["fieldManager: Required value: is required for apply patch"],
    ),
    row(
        "PATCH G/clusters/tower-a",
        "Content-Type: application/strategic-merge-patch+json",
        "{}",
        415,
        &["UnsupportedMediaType", "application/apply-patch+yaml"],
    ),
    row(
        "PATCH G/clusters/tower-a",
        "Content-Type: application/merge-patch+json",
        "[1]",
        400,
        &["must be a JSON object"],
    ),
    row(
        "PATCH G/clusters/tower-a",
        "Content-Type: application/json-patch+json",
        "{}",
        400,
        &["error decoding patch"],
    ),
    row("DELETE G/clusters/tower-a", JSON, r#"{"dryRun":["All"]}"#, 200, &["Success", "\"uid\""]),
    row("DELETE G/clusters/tower-a", JSON, r#"{"preconditions":{"uid":"x"}}"#, 409, &["Precondition failed"]),
    row("DELETE G/clusters/tower-a", JSON, r#"{"preconditions":1}"#, 400, &["DeleteOptions"]),
    // Forms.
    row(
        "GET G/clusters/tower-a",
        "Accept: application/json;as=Table;g=meta.k8s.io;v=v1",
        "",
        200,
        &["\"kind\":\"Table\""],
    ),
    row(
        "GET G/clusters",
        "Accept: application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
        "",
        200,
        &["\"kind\":\"PartialObjectMetadataList\""],
    ),
    row("GET G/clusters?resourceVersion=99999999", "", "", 504, &["ResourceVersionTooLarge"]),
    row("GET G/clusters?resourceVersion=1&resourceVersionMatch=Exact", "", "", 410, &["Expired"]),
    row("GET G/clusters?limit=x", "", "", 400, &["limit"]),
    row("GET G/clusters?watch=1&sendInitialEvents=1", "", "", 422, &["NotOlderThan"]),
    row(
        "GET /api/v1/events?fieldSelector=involvedObject.name%3Dx",
        "",
        "",
        200,
        &["EventList", "\"items\":[]"],
    ),
    // Who may.
    row("GET G/tokens", "", "", 200, &["TokenList", "\"name\":\"admin\"", "\"role\":\"admin\""]),
    row("POST G/tokens", JSON, r#"{"metadata":{"name":"ann"}}"#, 400, &["the Token is malformed"]),
    row(
        "POST G/tokens",
        JSON,
        r#"{"metadata":{"name":"A"},"spec":{"role":"viewer"}}"#,
        422,
        &["metadata.name"],
    ),
    row(
        "POST G/tokens",
        JSON,
        r#"{"metadata":{"name":"admin"},"spec":{"role":"viewer"}}"#,
        422,
        &["take another"],
    ),
    row("POST G/tokens", JSON, r#"{"metadata":{"name":"ann"},"spec":{"role":"owner"}}"#, 400, &["owner"]),
    row(
        "POST G/tokens",
        JSON,
        r#"{"metadata":{"name":"ann"},"spec":{"role":"viewer","expires":"2001-01-01T00:00:00Z"}}"#,
        422,
        &["spec.expires"],
    ),
    row("POST G/tokens", JSON, ANN, 201, &["\"token\":\"edgefleet_", "creationTimestamp"]),
    row("POST G/tokens", JSON, ANN, 409, &["AlreadyExists"]),
    row("DELETE G/tokens/bob", "", "", 404, &["tokens.edgefleet.dev \\\"bob\\\" not found"]),
    row("DELETE G/tokens/admin", "", "", 403, &["remove hub.kubeconfig"]),
    row("DELETE G/tokens/ann", "", "", 200, &["Success"]),
    row("GET /apis/authorization.k8s.io", "", "", 200, &["\"kind\":\"APIGroup\""]),
    row("GET /apis/authorization.k8s.io/v1", "", "", 200, &["selfsubjectrulesreviews", "create"]),
    row(
        "POST /apis/authentication.k8s.io/v1/selfsubjectreviews",
        JSON,
        "{}",
        201,
        &["\"username\":\"admin\""],
    ),
    row(ACCESS, JSON, CAN_I, 201, &["\"allowed\":true", "\"verb\":\"delete\""]),
    row(ACCESS, JSON, "{}", 422, &["exactly one of"]),
    row(ACCESS, JSON, "[", 400, &["not JSON"]),
    row(ACCESS, PROTOBUF, CAN_I, 400, &["unrecognized"]),
    row(ACCESS, PROTOBUF, "k8s\0\u{7f}", 400, &["unrecognized"]),
    row(ACCESS, "Content-Type: application/yaml", CAN_I, 415, &["vnd.kubernetes.protobuf"]),
    // Blobs.
    row("GET /blobs/sha256/9f86", "", "", 400, &["no SHA-256 digest"]),
    row("GET /blobs/sha256/TEST", "", "", 404, &["there is no blob"]),
    row("PUT /blobs/sha256/TEST", "", "tset", 400, &["the content has the digest sha256:"]),
    row("PUT /blobs/sha256/TEST", "", "test", 201, &["\"length\":4"]),
    row("PUT /blobs/sha256/TEST", "", "test", 200, &["\"length\":4"]),
    row("POST /blobs/sha256/TEST", "", "test", 405, &["MethodNotAllowed"]),
    row("GET /metrics", "", "", 200, &["edgefleet_objects{kind=\"Cluster\"} 1", "code=\"415\"", "# EOF"]),
];

#[tokio::test]
async fn requests_are_answered() {
    let hub = TestApi::start().await;
    for row in ROWS {
        let (code, _, body) = hub.send(row.request, &["Authorization", row.header], row.body).await;
        let text = String::from_utf8_lossy(&body);
        assert_eq!(code, row.code, "{}: {text}", row.request);
        for part in row.parts {
            assert!(text.contains(part), "{}: {part:?} is not in {text}", row.request);
        }
    }
}

#[tokio::test]
async fn only_who_bears_a_token_may() {
    let hub = TestApi::start().await;
    for (path, code) in
        [("/version", 200), ("/livez", 200), ("/readyz", 200), ("/metrics", 401), ("/nothing", 401)]
    {
        let (actual, headers, _) = hub.send(&format!("GET {path}"), &[], "").await;
        assert_eq!((actual, headers.contains_key("www-authenticate")), (code, code == 401), "{path}");
    }
    for wrong in ["Authorization: Bearer x", "Authorization: Basic x", "Authorization: Bearer"] {
        let (code, _, body) = hub.send("GET G/clusters", &[wrong], "").await;
        assert_eq!(code, 401, "{wrong}");
        assert!(String::from_utf8_lossy(&body).contains("\"reason\":\"Unauthorized\""));
    }
}

#[tokio::test]
async fn documents_that_clients_keep_are_not_sent_again() {
    let hub = TestApi::start().await;
    let path = "GET /openapi/v3/apis/edgefleet.dev/v1alpha1";
    let (code, headers, body) = hub.send(path, &["Authorization"], "").await;
    let etag = headers["etag"].to_str().unwrap();
    assert_eq!((code, body.is_empty()), (200, false));
    let (code, _, body) = hub.send(path, &["Authorization", &format!("If-None-Match: {etag}")], "").await;
    assert_eq!((code, body.is_empty()), (304, true));
}

#[tokio::test]
async fn aggregated_discovery_says_its_exact_type() {
    let hub = TestApi::start().await;
    let accept =
        "Accept: application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList,application/json";
    for path in ["GET /api", "GET /apis"] {
        let (_, headers, _) = hub.send(path, &["Authorization", accept], "").await;
        let expected = "application/json;g=apidiscovery.k8s.io;v=v2;as=APIGroupDiscoveryList";
        assert_eq!(headers["content-type"], expected, "{path}");
    }
}

#[tokio::test]
async fn warnings_are_headers() {
    let hub = TestApi::start().await;
    let (code, headers, _) =
        hub.send("POST G/clusters?fieldValidation=Warn", &["Authorization", JSON], MISSPELT).await;
    assert_eq!((code, headers["warning"].to_str().unwrap()), (201, r#"299 - "unknown field \"spec.x\"""#));
}

#[tokio::test]
async fn bodies_and_uploads_are_limited() {
    let hub = TestApi::start().await;
    let path = format!("PUT /blobs/sha256/{TEST_DIGEST}");
    let limits = [("POST G/clusters", 4 << 20), (path.as_str(), BLOB_MAX_LEN + 1), (ACCESS, (64 << 10) + 1)];
    for (request, len) in limits {
        let (code, _, body) = hub.send(request, &["Authorization", JSON], &" ".repeat(len)).await;
        let text = String::from_utf8_lossy(&body);
        assert_eq!(code, 413, "{request}: {text}");
        assert!(text.contains("\"reason\":\"RequestEntityTooLarge\""), "{request}: {text}");
    }
}

/// Requests are far faster than a bucket fills, or else the last of these many would still be answered.
const REQUESTS: usize = 20_000;

#[tokio::test]
async fn a_token_that_asks_too_much_waits_alone() {
    let hub = TestApi::start().await;
    let ann = hub.bearer("ann").await;
    let mut refused = None;
    for _ in 0..REQUESTS {
        let (code, headers, body) = hub.send("GET /api", &[&ann], "").await;
        if code != 200 {
            refused = Some((code, headers["retry-after"].clone(), body));
            break;
        }
    }
    let (code, wait, body) = refused.expect("nobody may ask without end");
    assert_eq!((code, wait.to_str().unwrap()), (429, "1"));
    let text = String::from_utf8(body).unwrap();
    for part in ["\"kind\":\"Status\"", "\"reason\":\"TooManyRequests\"", "\"retryAfterSeconds\":1"] {
        assert!(text.contains(part), "{text}");
    }
    let (code, _, body) = hub.send("GET /metrics", &["Authorization"], "").await;
    let text = String::from_utf8(body).unwrap();
    assert_eq!(code, 200);
    assert!(text.contains("edgefleet_api_refusals_total{reason=\"rate\"} 1"), "{text}");
    assert!(!text.contains("ann"), "a name is in {text}");
}

#[tokio::test]
async fn a_token_opens_so_many_watches_until_it_ends() {
    let hub = TestApi::start().await;
    let ann = hub.bearer("ann").await;
    let mut watches = Vec::new();
    let refused = loop {
        let response = hub.answer("GET G/clusters?watch=1", &[&ann], "").await;
        if response.status().as_u16() != 200 {
            break response.status().as_u16();
        }
        watches.push(response.into_body());
        assert!(watches.len() <= WATCHES_MAX, "one token took all watches of the hub");
    };
    assert_eq!(refused, 429);
    let other = hub.answer("GET G/clusters?watch=1", &["Authorization"], "").await;
    assert_eq!(other.status().as_u16(), 200);
    let (code, _, _) = hub.send("DELETE G/tokens/ann", &["Authorization"], "").await;
    assert_eq!(code, 200);
    // Nothing happens to clusters: it is the token's end that ends them.
    for watch in watches {
        assert!(watch.collect().await.unwrap().to_bytes().is_empty());
    }
    assert_eq!(hub.send("GET G/clusters", &[&ann], "").await.0, 401);
}

#[tokio::test]
async fn a_token_uploads_only_so_much_at_once() {
    let hub = TestApi::start().await;
    let ann = hub.bearer_as("ann", "operator").await;
    let path = "PUT /blobs/sha256/TEST";
    // Their content never comes.
    let never = || Body::from_stream(futures::stream::pending::<Result<Vec<u8>, io::Error>>());
    let mut slow = JoinSet::new();
    let mut refused = None;
    for _ in 0..1000 {
        // One that comes while the question below is under way is refused itself, and another takes its place.
        while slow.try_join_next().is_some() {}
        while slow.len() < 2 {
            slow.spawn(hub.router.clone().oneshot(hub.request(path, &[&ann], never())));
        }
        pause().await;
        let (code, _, body) = hub.send(path, &[&ann], "not what it is called").await;
        if code == 429 {
            refused = Some(String::from_utf8(body).unwrap());
            break;
        }
    }
    let refused = refused.expect("a third is refused");
    assert!(refused.contains("uploads"), "{refused}");
    let (code, _, _) = hub.send(path, &["Authorization"], "not what it is called").await;
    assert_eq!(code, 400, "others go on");
    assert_eq!(slow.len(), 2, "they still wait for their content");
    slow.shutdown().await;
    wait_for_code(&hub, path, &ann, 400).await;
    let (_, _, body) = hub.send("GET /metrics", &["Authorization"], "").await;
    let text = String::from_utf8(body).unwrap();
    assert!(text.contains("edgefleet_api_refusals_total{reason=\"uploads\"}"), "{text}");
}

/// Asks until the answer has this code: others' requests begin and end when they do.
async fn wait_for_code(hub: &TestApi, request: &str, token: &str, expected: u16) -> String {
    for _ in 0..1000 {
        let (code, _, body) = hub.send(request, &[token], "not what it is called").await;
        if code == expected {
            return String::from_utf8(body).unwrap();
        }
        pause().await;
    }
    panic!("{request} never answered {expected}");
}

/// Longer than a token's bucket takes for the next request.
async fn pause() {
    let _elapsed = tokio::time::timeout(Duration::from_millis(20), std::future::pending::<()>()).await;
}

#[tokio::test]
async fn who_keeps_on_guessing_is_slowed_and_who_knows_is_not() {
    let hub = TestApi::start().await;
    let mut last = 401;
    for _ in 0..REQUESTS {
        last = hub.send("GET /api", &["Authorization: Bearer wrong"], "").await.0;
        if last != 401 {
            break;
        }
    }
    assert_eq!(last, 429);
    assert_eq!(hub.send("GET /api", &["Authorization"], "").await.0, 200);
}

#[tokio::test]
async fn a_secret_is_shown_once() {
    let hub = TestApi::start().await;
    let (_, _, body) = hub.send("POST G/tokens", &["Authorization", JSON], ANN).await;
    let made: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let secret = made["status"]["token"].as_str().unwrap();
    let (_, _, body) = hub.send("GET G/tokens", &["Authorization"], "").await;
    let list = String::from_utf8(body).unwrap();
    let hash = hex::encode(auth::TokenHash::of(secret).as_bytes());
    assert!(list.contains("\"ann\"") && !list.contains(secret) && !list.contains(&hash), "{list}");
}

#[tokio::test]
async fn blobs_come_back_as_they_were() {
    let hub = TestApi::start().await;
    hub.send("PUT /blobs/sha256/TEST", &["Authorization"], "test").await;
    let (code, headers, body) = hub.send("GET /blobs/sha256/TEST", &["Authorization"], "").await;
    assert_eq!(
        (code, &headers["content-type"], &headers["x-edgefleet-content-length"]),
        (200, &"application/zstd".parse().unwrap(), &"4".parse().unwrap())
    );
    assert_eq!(zstd::decode_all(body.as_slice()).unwrap(), b"test");
}

struct TestApi {
    router: Router,
    token: Token,
    _folder: TempDir,
}

impl TestApi {
    async fn start() -> TestApi {
        let folder = TempDir::new().unwrap();
        let hub = Hub::open(Store::open(&folder.path().join("hub.db")).unwrap()).await.unwrap();
        let token = Token::generate();
        let access = Access::open(hub.store().clone(), &token.hash()).await.unwrap();
        TestApi { router: router(hub, access, mpsc::channel(1).0, None, None), token, _folder: folder }
    }

    /// The header of somebody who may only look.
    async fn bearer(&self, name: &str) -> String {
        self.bearer_as(name, "viewer").await
    }

    async fn bearer_as(&self, name: &str, role: &str) -> String {
        let body = format!(r#"{{"metadata":{{"name":"{name}"}},"spec":{{"role":"{role}"}}}}"#);
        let (_, _, body) = self.send("POST G/tokens", &["Authorization", JSON], &body).await;
        let made: serde_json::Value = serde_json::from_slice(&body).unwrap();
        format!("Authorization: Bearer {}", made["status"]["token"].as_str().unwrap())
    }

    /// Sends a request with these headers; `Authorization` alone is the admin's.
    async fn send(&self, request: &str, headers: &[&str], body: &str) -> (u16, HeaderMap, Vec<u8>) {
        let (parts, body) = self.answer(request, headers, body).await.into_parts();
        (parts.status.as_u16(), parts.headers, body.collect().await.unwrap().to_bytes().to_vec())
    }

    async fn answer(&self, request: &str, headers: &[&str], body: &str) -> Response {
        let request = self.request(request, headers, Body::from(body.to_owned()));
        self.router.clone().oneshot(request).await.unwrap()
    }

    fn request(&self, request: &str, headers: &[&str], body: Body) -> Request<Body> {
        let (method, path) = request.split_once(' ').unwrap();
        let path = path.replace("G/", &format!("{G}/")).replace("TEST", TEST_DIGEST);
        let mut builder = Request::builder().method(method).uri(path);
        for header in headers.iter().filter(|header| !header.is_empty()) {
            builder = match header.split_once(": ") {
                Some((name, value)) => builder.header(name, value),
                None => builder.header(*header, format!("Bearer {}", self.token.expose())),
            };
        }
        builder.body(body).unwrap()
    }
}
