//! The port on a real API server.
//!
//! Requests and answers are plain JSON, discovery is asked per kind, and watches keep nothing: an agent has
//! a few megabytes, and typed clients with caches would take them all.

mod watch;

use std::{cell::RefCell, collections::BTreeMap, error::Error, rc::Rc, sync::Arc, time::Duration};

use futures::stream::{self, LocalBoxStream, StreamExt};
use http::{
    HeaderValue, Method,
    header::{ACCEPT, AUTHORIZATION, CONTENT_TYPE, USER_AGENT},
};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper_rustls::{FixedServerNameResolver, HttpsConnector, HttpsConnectorBuilder};
use hyper_util::{
    client::legacy::{self, connect::HttpConnector},
    rt::{TokioExecutor, TokioTimer},
};
use kube::{Client, client::Body};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject};
use serde::Deserialize;
use serde_json::{Value, json};
use thiserror::Error;
use tokio::time::timeout;

use self::watch::Watch;
use super::{
    Access, Cluster, ClusterError, MAX_LISTED, MAX_OBJECT_BYTES, REQUEST_TIMEOUT, Request, Response,
    WatchEvent,
    access::Identity,
    addressable,
    status::{Status, Verb, shorten},
};
use crate::logic::{
    object::{Gvk, ObjectRef},
    owned::FIELD_MANAGER,
};

/// How long a connection may take. The API server is on the same machine or in the same rack.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);

/// After this long without a frame the connection is tried with a ping, so that a dead API server is noticed
/// before a watch ends by itself.
const PING_INTERVAL: Duration = Duration::from_secs(30);

/// Bytes that may be on their way on the connection before they are read, for all watches together.
const CONNECTION_WINDOW: u32 = 256 << 10;

/// Kinds remembered. A cluster with many operators serves a few hundred; the agent needs a few dozen.
const MAX_KINDS: usize = 1024;

const JSON: &str = "application/json";

/// A real cluster.
#[derive(Clone)]
pub struct KubeCluster {
    api: Rc<Api>,
}

/// Why the API server cannot be used as [`Access`] says.
#[derive(Debug, Error)]
pub enum ConnectError {
    /// A certificate or key cannot be read.
    #[error("{what} for {server} is not PEM: check the file or data it comes from")]
    Pem {
        /// Which of them.
        what: &'static str,
        /// The server it is for.
        server: String,
        /// Why.
        #[source]
        source: rustls_pki_types::pem::Error,
    },
    /// There is no certificate where one must be.
    #[error("{what} for {server} holds no certificate")]
    Empty {
        /// Which of them.
        what: &'static str,
        /// The server it is for.
        server: String,
    },
    /// A certificate or key cannot be used.
    #[error("{what} for {server} cannot be used for TLS")]
    Tls {
        /// Which of them.
        what: &'static str,
        /// The server it is for.
        server: String,
        /// Why.
        #[source]
        source: rustls::Error,
    },
    /// The name that the server should prove is not one.
    #[error("tls-server-name {name:?} is neither a DNS name nor an IP address")]
    ServerName {
        /// The name.
        name: String,
    },
}

impl KubeCluster {
    /// A cluster reached as `access` says. Nothing is sent yet.
    ///
    /// Must be called on a tokio runtime. Client certificates are read here, once: after
    /// [`ClusterError::Unauthorized`] read the access anew.
    pub fn new(access: Access) -> Result<Self, ConnectError> {
        let client = Client::new(connector(&access)?, "default");
        let api = Api { client, server: access.server, identity: access.identity, kinds: RefCell::default() };
        Ok(Self { api: Rc::new(api) })
    }
}

impl Cluster for KubeCluster {
    async fn send(&self, request: Request) -> Result<Response, ClusterError> {
        match timeout(REQUEST_TIMEOUT, self.api.answer(request)).await {
            Ok(answer) => answer,
            Err(_) => Err(ClusterError::Timeout { after: REQUEST_TIMEOUT }),
        }
    }

    fn watch(&self, kind: Gvk, label_selector: String, seed: u64) -> LocalBoxStream<'static, WatchEvent> {
        let watch = Watch::new(Rc::clone(&self.api), kind, label_selector, seed);
        stream::unfold(watch, |mut watch| async move { Some((watch.next().await, watch)) }).boxed_local()
    }
}

/// The API server and what is known about it.
struct Api {
    client: Client,
    server: String,
    identity: Identity,
    kinds: RefCell<BTreeMap<Gvk, Resource>>,
}

/// How a kind is addressed.
#[derive(Clone, Debug, Deserialize)]
struct Resource {
    #[serde(rename = "name")]
    plural: String,
    namespaced: bool,
}

impl Api {
    async fn answer(&self, request: Request) -> Result<Response, ClusterError> {
        match request {
            Request::Get(object) => self.get(&object).await,
            Request::List { kind, namespace, label_selector } => {
                self.list(&kind, &namespace, &label_selector).await
            }
            Request::Apply { object, body, force, dry_run } => {
                self.apply(&object, body, force, dry_run).await
            }
            Request::Delete { object, uid } => self.delete(&object, &uid).await,
            Request::Version => self.version().await,
        }
    }

    async fn get(&self, object: &ObjectRef) -> Result<Response, ClusterError> {
        let path = self.path(object).await?;
        let answer = self.call(Method::GET, &path, JSON, None).await?;
        self.object(answer, object, Verb::Read).await.map(Response::Object)
    }

    async fn list(&self, kind: &Gvk, namespace: &str, selector: &str) -> Result<Response, ClusterError> {
        let collection = self.collection(kind, Some(namespace)).await?;
        let path = format!("{collection}?limit={MAX_LISTED}&labelSelector={}", encode(selector));
        let answer = self.call(Method::GET, &path, JSON, None).await?;
        let bytes = self.accept(answer, kind).await?;
        let List { mut items } = parse(&bytes)?;
        for item in items.iter_mut().filter_map(Value::as_object_mut) {
            // Items of a list of a built-in kind do not repeat what they are.
            item.insert("apiVersion".into(), json!(kind.api_version()));
            item.insert("kind".into(), json!(kind.kind));
        }
        Ok(Response::List(items))
    }

    async fn apply(
        &self,
        object: &ObjectRef,
        body: Value,
        force: bool,
        dry_run: bool,
    ) -> Result<Response, ClusterError> {
        // The tree takes ten times its text: it goes before the answer comes.
        let text = body.to_string();
        drop(body);
        let body = text;
        if body.len() > MAX_OBJECT_BYTES {
            return Err(ClusterError::TooLarge { what: object.to_string() });
        }
        let path = self.path(object).await?;
        let dry_run = if dry_run { "&dryRun=All" } else { "" };
        let path =
            format!("{path}?fieldManager={FIELD_MANAGER}&fieldValidation=Strict&force={force}{dry_run}");
        // JSON is YAML, and this is the only media type for it that every version accepts.
        let body = Some(("application/apply-patch+yaml", body.into_bytes()));
        let answer = self.call(Method::PATCH, &path, JSON, body).await?;
        self.object(answer, object, Verb::Apply).await.map(Response::Object)
    }

    async fn delete(&self, object: &ObjectRef, uid: &str) -> Result<Response, ClusterError> {
        let path = self.path(object).await?;
        let options = json!({
            "apiVersion": "v1", "kind": "DeleteOptions",
            "propagationPolicy": "Background", "preconditions": {"uid": uid},
        });
        let body = Some((JSON, options.to_string().into_bytes()));
        let answer = self.call(Method::DELETE, &path, JSON, body).await?;
        // Either that it is gone, or the object on its way out, of which no more is read.
        let Answered { kind } = self.object(answer, object, Verb::Delete).await?;
        Ok(if kind == "Status" { Response::Deleted } else { Response::Deleting })
    }

    async fn version(&self) -> Result<Response, ClusterError> {
        let answer = self.call(Method::GET, "/version", JSON, None).await?;
        let bytes = success(answer).await?.map_err(Status::general)?;
        let Version { git_version } = parse(&bytes)?;
        Ok(Response::Version(git_version))
    }

    /// Reads the answer about one object.
    async fn object<T: for<'de> Deserialize<'de>>(
        &self,
        answer: http::Response<Body>,
        object: &ObjectRef,
        verb: Verb,
    ) -> Result<T, ClusterError> {
        match success(answer).await? {
            Ok(bytes) => parse(&bytes),
            Err(status) => {
                self.forget_if_unserved(&status, &object.gvk);
                Err(status.about(object, verb))
            }
        }
    }

    /// Reads the answer about a kind.
    async fn accept(&self, answer: http::Response<Body>, kind: &Gvk) -> Result<Vec<u8>, ClusterError> {
        success(answer).await?.map_err(|status| {
            self.forget_if_unserved(&status, kind);
            if status.code == 404 {
                ClusterError::UnknownKind { gvk: kind.clone() }
            } else {
                status.general()
            }
        })
    }

    fn forget_if_unserved(&self, status: &Status, kind: &Gvk) {
        if status.is_unserved() {
            self.kinds.borrow_mut().remove(kind);
        }
    }

    /// The path of one object.
    async fn path(&self, object: &ObjectRef) -> Result<String, ClusterError> {
        let resource = self.resource(&object.gvk).await?;
        addressable(object, resource.namespaced)?;
        let collection = collection_path(&object.gvk, &resource, object.namespace.as_deref());
        Ok(format!("{collection}/{}", encode(&object.name)))
    }

    /// The path of all objects of a kind, in one namespace or in all.
    async fn collection(&self, kind: &Gvk, namespace: Option<&str>) -> Result<String, ClusterError> {
        let resource = self.resource(kind).await?;
        Ok(collection_path(kind, &resource, namespace))
    }

    /// How a kind is addressed; asked of the API server when it is not known, for all kinds of its group
    /// and version at once. A kind that is not served is not remembered, as its CRD may come at any time.
    async fn resource(&self, kind: &Gvk) -> Result<Resource, ClusterError> {
        if let Some(known) = self.kinds.borrow().get(kind) {
            return Ok(known.clone());
        }
        let unknown = || ClusterError::UnknownKind { gvk: kind.clone() };
        let answer = self.call(Method::GET, &group_path(kind), JSON, None).await?;
        let bytes = match success(answer).await? {
            Ok(bytes) => bytes,
            Err(status) if status.code == 404 => return Err(unknown()),
            Err(status) => return Err(status.general()),
        };
        let Resources { resources } = parse(&bytes)?;
        let mut kinds = self.kinds.borrow_mut();
        if kinds.len() + resources.len() > MAX_KINDS {
            kinds.clear();
        }
        for Named { kind: name, resource } in resources.into_iter().take(MAX_KINDS) {
            // Subresources are listed as `deployments/scale`.
            if !resource.plural.contains('/') {
                kinds.insert(Gvk { kind: name, ..kind.clone() }, resource);
            }
        }
        kinds.get(kind).cloned().ok_or_else(unknown)
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        accept: &'static str,
        body: Option<(&'static str, Vec<u8>)>,
    ) -> Result<http::Response<Body>, ClusterError> {
        let mut request = http::Request::builder()
            .method(method)
            .uri(format!("{}{path}", self.server))
            .header(ACCEPT, accept)
            .header(USER_AGENT, concat!("edgefleet/", env!("CARGO_PKG_VERSION")));
        if let Some(value) = self.authorization()? {
            request = request.header(AUTHORIZATION, value);
        }
        let body = match body {
            Some((content_type, body)) => {
                request = request.header(CONTENT_TYPE, content_type);
                Body::from(body)
            }
            None => Body::empty(),
        };
        let request =
            request.body(body).map_err(|error| ClusterError::Unexpected { message: error.to_string() })?;
        self.client.send(request).await.map_err(|error| ClusterError::Unavailable { message: chain(&error) })
    }

    fn authorization(&self) -> Result<Option<HeaderValue>, ClusterError> {
        let unauthorized = |message: String| ClusterError::Unauthorized { message };
        let Some(token) = self.identity.bearer().map_err(|error| unauthorized(chain(&error)))? else {
            return Ok(None);
        };
        let mut value = HeaderValue::try_from(format!("Bearer {}", token.as_str()))
            .map_err(|_| unauthorized("the token holds characters that no token has".into()))?;
        value.set_sensitive(true);
        Ok(Some(value))
    }
}

#[derive(Deserialize)]
struct List {
    items: Vec<Value>,
}

#[derive(Deserialize)]
struct Answered {
    kind: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Version {
    git_version: String,
}

#[derive(Deserialize)]
struct Resources {
    resources: Vec<Named>,
}

#[derive(Deserialize)]
struct Named {
    kind: String,
    #[serde(flatten)]
    resource: Resource,
}

type Connector = legacy::Client<HttpsConnector<HttpConnector>, Body>;

fn connector(access: &Access) -> Result<Connector, ConnectError> {
    let mut tcp = HttpConnector::new();
    tcp.enforce_http(false);
    tcp.set_nodelay(true);
    tcp.set_connect_timeout(Some(CONNECT_TIMEOUT));
    let mut builder = HttpsConnectorBuilder::new().with_tls_config(tls(access)?).https_only();
    if let Some(name) = &access.tls_server_name {
        let name = ServerName::try_from(name.clone())
            .map_err(|_| ConnectError::ServerName { name: name.clone() })?;
        builder = builder.with_server_name_resolver(FixedServerNameResolver::new(name));
    }
    // One HTTP/2 connection carries all watches; HTTP/1.1 would need one with its own TLS buffers for each.
    let connector = builder.enable_all_versions().wrap_connector(tcp);
    Ok(legacy::Client::builder(TokioExecutor::new())
        .timer(TokioTimer::new())
        .pool_timer(TokioTimer::new())
        .http2_initial_connection_window_size(CONNECTION_WINDOW)
        .http2_keep_alive_interval(PING_INTERVAL)
        .http2_keep_alive_timeout(CONNECT_TIMEOUT)
        .build(connector))
}

fn tls(access: &Access) -> Result<ClientConfig, ConnectError> {
    let unusable = |what, source| ConnectError::Tls { what, server: access.server.clone(), source };
    let mut roots = RootCertStore::empty();
    for certificate in certificates("certificate authority", &access.authorities_pem, access)? {
        roots.add(certificate).map_err(|source| unusable("certificate authority", source))?;
    }
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(|source| unusable("TLS", source))?
        .with_root_certificates(roots);
    match &access.identity {
        Identity::Token(_) | Identity::TokenFile(_) => Ok(builder.with_no_client_auth()),
        Identity::Certificate { chain_pem, key_pem } => {
            let chain = certificates("client certificate", chain_pem, access)?;
            let key = PrivateKeyDer::from_pem_slice(key_pem).map_err(|source| ConnectError::Pem {
                what: "client key",
                server: access.server.clone(),
                source,
            })?;
            builder.with_client_auth_cert(chain, key).map_err(|source| unusable("client certificate", source))
        }
    }
}

fn certificates(
    what: &'static str,
    pem: &[u8],
    access: &Access,
) -> Result<Vec<CertificateDer<'static>>, ConnectError> {
    let server = || access.server.clone();
    let all: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let all = all.map_err(|source| ConnectError::Pem { what, server: server(), source })?;
    if all.is_empty() { Err(ConnectError::Empty { what, server: server() }) } else { Ok(all) }
}

/// The body of an answer: what was asked for, or why not.
async fn success(answer: http::Response<Body>) -> Result<Result<Vec<u8>, Status>, ClusterError> {
    let code = answer.status();
    let body = Limited::new(answer.into_body(), MAX_OBJECT_BYTES).collect().await.map_err(|error| {
        if error.downcast_ref::<LengthLimitError>().is_some() {
            return ClusterError::TooLarge { what: "the API server's answer".into() };
        }
        ClusterError::Unavailable { message: chain(error.as_ref()) }
    })?;
    let bytes = body.to_bytes();
    if code.is_success() {
        return Ok(Ok(bytes.into()));
    }
    // What stands in front of an API server answers in its own words.
    let status = serde_json::from_slice(&bytes).unwrap_or_else(|_| Status {
        message: String::from_utf8_lossy(&bytes).trim().to_owned(),
        ..Status::default()
    });
    Ok(Err(Status { code: code.as_u16(), ..status }))
}

fn parse<T: for<'de> Deserialize<'de>>(bytes: &[u8]) -> Result<T, ClusterError> {
    serde_json::from_slice(bytes).map_err(|error| ClusterError::Unexpected { message: error.to_string() })
}

fn group_path(kind: &Gvk) -> String {
    let (group, version) = (encode(&kind.group), encode(&kind.version));
    if group.is_empty() { format!("/api/{version}") } else { format!("/apis/{group}/{version}") }
}

fn collection_path(kind: &Gvk, resource: &Resource, namespace: Option<&str>) -> String {
    let plural = encode(&resource.plural);
    match namespace.filter(|_| resource.namespaced) {
        Some(namespace) => format!("{}/namespaces/{}/{plural}", group_path(kind), encode(namespace)),
        None => format!("{}/{plural}", group_path(kind)),
    }
}

/// Percent-encodes for one segment of a path or one value of a query (RFC 3986, unreserved characters and
/// the colon of RBAC names stay).
fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' | b':' => {
                encoded.push(char::from(byte));
            }
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

/// An error with its causes, each once: the layers below repeat one another.
fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    shorten(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_those_of_the_api_server() {
        let check = |api_version: &str, plural: &str, namespaced: bool, namespace, expected: &str| {
            let resource = Resource { plural: plural.into(), namespaced };
            assert_eq!(collection_path(&Gvk::new(api_version, "Any"), &resource, namespace), expected);
        };
        check("v1", "pods", true, Some("radio"), "/api/v1/namespaces/radio/pods");
        check("v1", "pods", true, None, "/api/v1/pods");
        check("apps/v1", "deployments", true, Some("radio"), "/apis/apps/v1/namespaces/radio/deployments");
        check("v1", "nodes", false, Some("radio"), "/api/v1/nodes");
    }

    #[test]
    fn a_name_stays_one_segment() {
        assert_eq!(encode("system:node-proxier"), "system:node-proxier");
        assert_eq!(encode("a b/c?d#e%ü=,"), "a%20b%2Fc%3Fd%23e%25%C3%BC%3D%2C");
    }
}
