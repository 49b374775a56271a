//! The hub, as the command line speaks to it: through the same API as kubectl.

use std::{
    fs::File,
    io::{self, Write},
    path::Path,
    pin::pin,
    time::Duration,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use fleet_broker::{
    kubeconfig,
    logic::access::Role,
    resources::{self, Application, Assignment, Cluster, Freeze, FreezeSpec},
};
use futures::AsyncReadExt;
use http::{Method, Request, header::CONTENT_TYPE};
use jiff::Timestamp;
use kube::{
    Api, Client, Config,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
    config::{KubeConfigOptions, Kubeconfig},
    core::Status,
};
use protocol::{
    enrol::JoinCode,
    ids::{AppId, ClusterId, Digest, Name},
    limits,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};

use crate::bundle::{Bundle, BundleError};

/// How long one request may take: a large upload over a thin link.
const TIMEOUT: Duration = Duration::from_secs(120);

/// Most content taken from the hub, compressed: what one release may hold, with room for what does not shrink.
const CONTENT_BYTES: u64 = limits::PACK_BYTES + 1024 * 1024;

/// How much of a backup is taken at once, in bytes.
const PIECE: usize = 64 * 1024;

/// A request to the hub that failed.
#[derive(Debug, thiserror::Error)]
pub enum HubError {
    /// The kubeconfig cannot be used.
    #[error("cannot use the kubeconfig {path}: take the one that `fleet-broker serve` wrote into its folder")]
    Kubeconfig {
        /// Which file.
        path: String,
        /// Why.
        #[source]
        source: Box<kube::config::KubeconfigError>,
    },
    /// The hub answered that it will not do what was asked.
    #[error("cannot {what}: {}", .status.message)]
    Refused {
        /// What was asked.
        what: String,
        /// Its answer.
        status: Box<Status>,
    },
    /// The hub was not reached, or its answer not understood.
    #[error("cannot {what}")]
    Request {
        /// What was asked.
        what: String,
        /// Why.
        #[source]
        source: Box<kube::Error>,
    },
    /// The bundle cannot be published.
    #[error(transparent)]
    Bundle(#[from] BundleError),
    /// What the hub sends cannot be written.
    #[error("cannot write what the hub sends")]
    Write(#[source] io::Error),
    /// The kubeconfig does not say enough to write another one.
    #[error(
        "the kubeconfig's current context has no server with certificate-authority-data: take the one that \
         `fleet-broker serve` wrote"
    )]
    Place,
    /// The hub answered something unexpected.
    #[error("the hub's answer to {what} has no {field}: is it of another version?")]
    Answer {
        /// What was asked.
        what: String,
        /// What is missing.
        field: &'static str,
    },
}

/// How far a hub is that was restored, or whose store was rolled back.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Recovery {
    /// What happened, for people.
    pub message: String,
    /// The operator's leave to change clusters again, if it was given.
    pub accepted: Option<Value>,
    /// Clusters that have joined.
    pub joined: usize,
    /// Those of them that have not said yet what they hold.
    pub not_heard_of: Vec<String>,
    /// Applications that run otherwise than is recorded.
    pub found_otherwise: Vec<Found>,
}

/// An application that clusters run otherwise than is recorded.
#[derive(Debug, Clone, Deserialize)]
pub struct Found {
    /// Which.
    pub application: String,
    /// On how many clusters.
    pub clusters: usize,
}

#[derive(Debug, Deserialize)]
struct Recovering {
    recovery: Option<Recovery>,
}

/// A key that is believed no more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Revoked {
    /// Its id.
    pub key: String,
    /// Why; what was said the first time.
    pub reason: String,
    /// Whether its connection was ended now.
    pub was_connected: bool,
}

/// A hub and the right to change it.
#[derive(Clone)]
pub struct Hub {
    client: Client,
    place: Option<Place>,
}

/// Where a hub is, and by which certificate authority it is known.
#[derive(Clone)]
pub(crate) struct Place {
    pub(crate) server: String,
    /// PEM in base64.
    pub(crate) ca: String,
}

/// A token as the hub lists it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TokenRow {
    /// Its name.
    pub name: String,
    /// What its bearer may.
    pub role: String,
    /// When it was made, as all times here in RFC 3339; empty where there is none.
    pub created: String,
    /// When it ends.
    pub expires: String,
    /// When it was last used.
    pub last_used: String,
}

const TOKENS: &str = "/apis/edgefleet.dev/v1alpha1/tokens";

impl Hub {
    /// Reads a kubeconfig; nothing is sent yet.
    pub async fn open(kubeconfig: &Path) -> Result<Self, HubError> {
        let path = kubeconfig.display().to_string();
        let wrong = |source| HubError::Kubeconfig { path: path.clone(), source: Box::new(source) };
        let file = Kubeconfig::read_from(kubeconfig).map_err(wrong)?;
        let place = Place::of(&file);
        let mut config =
            Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(wrong)?;
        config.read_timeout = Some(TIMEOUT);
        let client = Client::try_from(config).map_err(failed("set up TLS to the hub"))?;
        Ok(Self { client, place })
    }

    /// Registers a cluster, or gives a registered one these labels too.
    pub async fn add_cluster(&self, name: &ClusterId, labels: &[(String, String)]) -> Result<(), HubError> {
        let labels: serde_json::Map<String, Value> =
            labels.iter().map(|(key, value)| (key.clone(), Value::from(value.clone()))).collect();
        let body = json!({
            "apiVersion": "edgefleet.dev/v1alpha1",
            "kind": "Cluster",
            "metadata": {"name": name.as_str(), "labels": labels},
            "spec": {"accepted": true},
        });
        self.put(&Api::<Cluster>::all(self.client.clone()), name.as_str(), body).await
    }

    /// Asks for a join code; the one made before no longer works.
    pub async fn join_code(&self, name: &ClusterId) -> Result<JoinCode, HubError> {
        let what = format!("make a join code for {name}");
        let uri = format!("/apis/edgefleet.dev/v1alpha1/clusters/{name}/join");
        let answer: Value = self.send(&what, Method::POST, &uri, Vec::new()).await?;
        let code = answer.pointer("/status/code").and_then(Value::as_str).and_then(|code| code.parse().ok());
        code.ok_or(HubError::Answer { what, field: "status.code" })
    }

    /// Believes the key with which a cluster joined no more.
    pub async fn revoke(&self, name: &ClusterId, reason: &str) -> Result<Revoked, HubError> {
        let what = format!("revoke the key of {name}");
        let uri = format!("/apis/edgefleet.dev/v1alpha1/clusters/{name}/revoke");
        let body = json!({"spec": {"reason": reason}}).to_string().into_bytes();
        let mut answer: Value = self.send(&what, Method::POST, &uri, body).await?;
        serde_json::from_value(answer["status"].take())
            .map_err(|_| HubError::Answer { what, field: "status of a revocation" })
    }

    /// Publishes a bundle: first its content, then the bundle itself. Publishing the same again changes nothing.
    pub async fn push(&self, bundle: &Bundle) -> Result<(), HubError> {
        let resource = bundle.to_resource()?;
        let content = bundle.content()?;
        let digest = bundle.release().pack;
        let uri = format!("/blobs/sha256/{digest}");
        let what = format!("upload content {}", digest.short());
        self.send_bytes(&what, Method::PUT, &uri, content).await?;
        let namespace = bundle.release().app.tenant.as_str();
        let name = resource["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let bundles = Api::<resources::Bundle>::namespaced(self.client.clone(), namespace);
        self.put(&bundles, &name, resource).await
    }

    /// Creates an application, or changes the one there is.
    pub async fn put_application(&self, application: Value) -> Result<(), HubError> {
        let text = |pointer: &str| {
            application.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        let (namespace, name) = (text("/metadata/namespace"), text("/metadata/name"));
        self.put(&Api::<Application>::namespaced(self.client.clone(), &namespace), &name, application).await
    }

    /// One application, if it is there.
    pub async fn application(&self, id: &AppId) -> Result<Option<Application>, HubError> {
        let applications = Api::<Application>::namespaced(self.client.clone(), id.tenant.as_str());
        applications.get_opt(id.name.as_str()).await.map_err(failed(&format!("read application {id}")))
    }

    /// Approves what an application waits with: `<generation>: <reason>`, if it still is at this version.
    pub async fn approve(&self, id: &AppId, text: &str, version: Option<&str>) -> Result<(), HubError> {
        let applications = Api::<Application>::namespaced(self.client.clone(), id.tenant.as_str());
        let annotations = json!({resources::APPROVE_ANNOTATION: text});
        let patch = json!({"metadata": {"resourceVersion": version, "annotations": annotations}});
        let patched =
            applications.patch(id.name.as_str(), &PatchParams::default(), &Patch::Merge(patch)).await;
        patched.map(drop).map_err(failed(&format!("approve {id}")))
    }

    /// Freezes a part of the fleet, or says the freeze of this name anew.
    pub async fn put_freeze(&self, name: &str, spec: &FreezeSpec) -> Result<(), HubError> {
        let body = json!({
            "apiVersion": "edgefleet.dev/v1alpha1",
            "kind": "Freeze",
            "metadata": {"name": name},
            "spec": {"reason": spec.reason, "tenant": spec.tenant, "clusterSelector": spec.cluster_selector},
        });
        self.put(&Api::<Freeze>::all(self.client.clone()), name, body).await
    }

    /// Lifts a freeze. Why is written on it first, for those who watch.
    pub async fn delete_freeze(&self, name: &str, reason: &str) -> Result<(), HubError> {
        let what = format!("lift freeze {name}");
        let freezes = Api::<Freeze>::all(self.client.clone());
        let patch = json!({"metadata": {"annotations": {resources::UNFREEZE_ANNOTATION: reason}}});
        freezes.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await.map_err(failed(&what))?;
        freezes.delete(name, &DeleteParams::default()).await.map(drop).map_err(failed(&what))
    }

    /// Every freeze.
    pub async fn freezes(&self) -> Result<Vec<Freeze>, HubError> {
        let freezes = Api::<Freeze>::all(self.client.clone()).list(&ListParams::default()).await;
        Ok(freezes.map_err(failed("list freezes"))?.items)
    }

    /// A published bundle, if it is there: the release and content that its digests name.
    pub async fn bundle(&self, tenant: &Name, name: &str) -> Result<Option<Bundle>, HubError> {
        let what = format!("read bundle {tenant}/{name}");
        let bundles = Api::<resources::Bundle>::namespaced(self.client.clone(), tenant.as_str());
        let Some(found) = bundles.get_opt(name).await.map_err(failed(&what))? else { return Ok(None) };
        let spec = found.spec;
        let envelope = STANDARD.decode(&spec.release).ok();
        let envelope = envelope.filter(|bytes| spec.digest == format!("sha256:{}", Digest::of(bytes)));
        let envelope = envelope
            .ok_or_else(|| HubError::Answer { what: what.clone(), field: "release of its digest" })?;
        let pack = spec.pack.strip_prefix("sha256:").unwrap_or_default();
        let content = self.content(&format!("fetch the content of bundle {tenant}/{name}"), pack).await?;
        let bundle = Bundle::published(envelope, content)?;
        // What is under the digest is compared with it when the bundle's objects are made.
        let named = bundle.release().pack.to_string() == pack;
        if named { Ok(Some(bundle)) } else { Err(HubError::Answer { what, field: "content of its release" }) }
    }

    async fn content(&self, what: &str, digest: &str) -> Result<Vec<u8>, HubError> {
        let request = Request::builder().uri(format!("/blobs/sha256/{digest}")).body(Vec::new());
        let wrong = |source| HubError::Request { what: what.to_owned(), source: Box::new(source) };
        let request = request.map_err(|error| wrong(kube::Error::HttpError(error)))?;
        let stream = self.client.request_stream(request).await.map_err(failed(what))?;
        let mut bytes = Vec::new();
        let read = stream.take(CONTENT_BYTES + 1).read_to_end(&mut bytes).await;
        read.map_err(|error| wrong(kube::Error::ReadEvents(error)))?;
        if bytes.len() as u64 > CONTENT_BYTES {
            return Err(HubError::Answer { what: what.to_owned(), field: "content of a bundle's size" });
        }
        Ok(bytes)
    }

    /// Writes a backup of the hub into `file`, made now. What it wrote is to be checked.
    pub async fn backup(&self, file: &mut File) -> Result<(), HubError> {
        self.download("take a backup", Request::builder().uri("/backup").body(Vec::new()), file).await
    }

    /// Writes what a cluster without a link needs into `file`, with all content or without what the cluster said it
    /// has. What it wrote is to be checked.
    pub async fn export(&self, name: &ClusterId, full: bool, file: &mut File) -> Result<(), HubError> {
        let uri = format!("/apis/edgefleet.dev/v1alpha1/clusters/{name}/export?full={full}");
        let request = Request::builder().method(Method::POST).uri(uri).body(Vec::new());
        self.download(&format!("export for {name}"), request, file).await
    }

    /// Has the hub take a file of reports of a cluster. How many were news.
    pub async fn carried_report(&self, name: &ClusterId, file: Vec<u8>) -> Result<u64, HubError> {
        let what = format!("take the reports of {name}");
        let uri = format!("/apis/edgefleet.dev/v1alpha1/clusters/{name}/report");
        let answer: Value = self.send(&what, Method::POST, &uri, file).await?;
        let taken = answer.pointer("/status/taken").and_then(Value::as_u64);
        taken.ok_or(HubError::Answer { what, field: "status.taken" })
    }

    async fn download(
        &self,
        what: &str,
        request: Result<Request<Vec<u8>>, http::Error>,
        file: &mut File,
    ) -> Result<(), HubError> {
        let wrong = |source| HubError::Request { what: what.to_owned(), source: Box::new(source) };
        let request = request.map_err(|error| wrong(kube::Error::HttpError(error)))?;
        let mut stream = pin!(self.client.request_stream(request).await.map_err(failed(what))?);
        let mut piece = vec![0; PIECE];
        loop {
            let read =
                stream.read(&mut piece).await.map_err(|error| wrong(kube::Error::ReadEvents(error)))?;
            if read == 0 {
                return Ok(());
            }
            file.write_all(&piece[..read]).map_err(HubError::Write)?;
        }
    }

    /// How far the hub is, if it was restored, or its store rolled back.
    pub async fn recovery(&self) -> Result<Option<Recovery>, HubError> {
        let what = "ask for the hub's recovery";
        let answer: Recovering = self.send(what, Method::GET, "/recovery", Vec::new()).await?;
        Ok(answer.recovery)
    }

    /// Lets a hub that was restored change clusters again.
    pub async fn accept_recovery(&self, reason: &str) -> Result<Option<Recovery>, HubError> {
        let body = json!({"reason": reason}).to_string().into_bytes();
        let what = "accept what the hub learned";
        let answer: Recovering = self.send(what, Method::POST, "/recovery/accept", body).await?;
        Ok(answer.recovery)
    }

    /// Every cluster.
    pub async fn clusters(&self) -> Result<Vec<Cluster>, HubError> {
        let clusters = Api::<Cluster>::all(self.client.clone()).list(&ListParams::default()).await;
        Ok(clusters.map_err(failed("list clusters"))?.items)
    }

    /// Every application.
    pub async fn applications(&self) -> Result<Vec<Application>, HubError> {
        let applications = Api::<Application>::all(self.client.clone()).list(&ListParams::default()).await;
        Ok(applications.map_err(failed("list applications"))?.items)
    }

    /// How every application is on every cluster.
    pub async fn assignments(&self) -> Result<Vec<Assignment>, HubError> {
        let assignments = Api::<Assignment>::all(self.client.clone()).list(&ListParams::default()).await;
        Ok(assignments.map_err(failed("list assignments"))?.items)
    }

    /// Makes a token, and a kubeconfig for its bearer. The hub gives neither a second time.
    pub async fn create_token(
        &self,
        name: &str,
        role: Role,
        expires: Option<Timestamp>,
    ) -> Result<String, HubError> {
        let what = format!("make a token for {name}");
        let missing = |field| HubError::Answer { what: what.clone(), field };
        let place = self.place.as_ref().ok_or(HubError::Place)?;
        let mut token = json!({"metadata": {"name": name}, "spec": {"role": role.name()}});
        if let Some(expires) = expires {
            token["spec"]["expires"] = json!(expires.to_string());
        }
        let answer: Value = self.send(&what, Method::POST, TOKENS, token.to_string().into_bytes()).await?;
        let secret = answer.pointer("/status/token").and_then(Value::as_str);
        let secret = secret.ok_or_else(|| missing("status.token"))?;
        Ok(kubeconfig::text(&place.server, &place.ca, name, secret))
    }

    /// Every token, by name.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>, HubError> {
        let what = "list tokens";
        let answer: Value = self.send(what, Method::GET, TOKENS, Vec::new()).await?;
        let items = answer["items"].as_array();
        let items = items.ok_or_else(|| HubError::Answer { what: what.to_owned(), field: "items" })?;
        Ok(items.iter().map(TokenRow::of).collect())
    }

    /// Ends a token and what its bearer has open.
    pub async fn revoke_token(&self, name: &str) -> Result<(), HubError> {
        let what = format!("revoke token {name}");
        let _status: Value =
            self.send(&what, Method::DELETE, &format!("{TOKENS}/{name}"), Vec::new()).await?;
        Ok(())
    }

    async fn put<K>(&self, api: &Api<K>, name: &str, body: Value) -> Result<(), HubError>
    where
        K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug + kube::Resource,
    {
        let what = format!("write {} {name}", body["kind"].as_str().unwrap_or_default());
        if api.get_metadata_opt(name).await.map_err(failed(&what))?.is_some() {
            let patch = Patch::Merge(&body);
            api.patch(name, &PatchParams::default(), &patch).await.map_err(failed(&what))?;
            return Ok(());
        }
        let object: K = serde_json::from_value(body).map_err(|error| HubError::Request {
            what: what.clone(),
            source: Box::new(kube::Error::SerdeError(error)),
        })?;
        api.create(&PostParams::default(), &object).await.map_err(failed(&what))?;
        Ok(())
    }

    async fn send<T: DeserializeOwned>(
        &self,
        what: &str,
        method: Method,
        uri: &str,
        body: Vec<u8>,
    ) -> Result<T, HubError> {
        let request =
            Request::builder().method(method).uri(uri).header(CONTENT_TYPE, "application/json").body(body);
        let request = request.map_err(|error| HubError::Request {
            what: what.to_owned(),
            source: Box::new(kube::Error::HttpError(error)),
        })?;
        self.client.request(request).await.map_err(failed(what))
    }

    async fn send_bytes(&self, what: &str, method: Method, uri: &str, body: Vec<u8>) -> Result<(), HubError> {
        let request = Request::builder()
            .method(method)
            .uri(uri)
            .header(CONTENT_TYPE, "application/octet-stream")
            .body(body);
        let request = request.map_err(|error| HubError::Request {
            what: what.to_owned(),
            source: Box::new(kube::Error::HttpError(error)),
        })?;
        self.client.request_text(request).await.map_err(failed(what))?;
        Ok(())
    }
}

impl Place {
    /// That of the current context. Without a certificate authority in the file there is none to hand on.
    pub(crate) fn of(file: &Kubeconfig) -> Option<Place> {
        let current = file.current_context.as_ref()?;
        let context = file.contexts.iter().find(|context| context.name == *current)?.context.as_ref()?;
        let cluster =
            file.clusters.iter().find(|cluster| cluster.name == context.cluster)?.cluster.as_ref()?;
        Some(Place { server: cluster.server.clone()?, ca: cluster.certificate_authority_data.clone()? })
    }
}

impl TokenRow {
    fn of(token: &Value) -> TokenRow {
        let text =
            |pointer: &str| token.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned();
        TokenRow {
            name: text("/metadata/name"),
            role: text("/spec/role"),
            created: text("/metadata/creationTimestamp"),
            expires: text("/spec/expires"),
            last_used: text("/status/lastUsed"),
        }
    }
}

impl HubError {
    /// The API's own code, where the hub answered at all.
    pub fn code(&self) -> Option<u16> {
        if let Self::Refused { status, .. } = self { Some(status.code) } else { None }
    }
}

fn failed(what: &str) -> impl Fn(kube::Error) -> HubError + use<> {
    let what = what.to_owned();
    move |source| {
        if let kube::Error::Api(status) = source {
            return HubError::Refused { what: what.clone(), status };
        }
        HubError::Request { what: what.clone(), source: Box::new(source) }
    }
}
