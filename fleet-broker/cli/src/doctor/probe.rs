//! Looks at files, ports and servers. What cannot be looked at is a fact as well; nothing here takes long.

use std::{
    fs,
    net::IpAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use edge_agent::{config::Kubernetes, logic::report::chain};
use http::{Request, header::DATE};
use k8s_openapi::api::authorization::v1::{
    ResourceAttributes, SelfSubjectAccessReview, SelfSubjectAccessReviewSpec,
};
use kube::{
    Api, Client, Config,
    api::PostParams,
    config::{KubeConfigOptions, Kubeconfig},
};
use protocol::{renew::Validity, time::UnixSeconds};
use rustls::{
    ClientConfig, RootCertStore,
    pki_types::{CertificateDer, ServerName, pem::PemObject as _},
};
use serde_json::Value;
use tokio::{net::TcpStream, time::timeout};
use tokio_rustls::TlsConnector;
use x509_parser::parse_x509_certificate;

use super::{ApiServer, Ending, Looked, Port, PrivateFile, Room};
use crate::clock;

/// How long one question may take.
const WITHIN: Duration = Duration::from_secs(5);

/// A server that speaks Kubernetes' API, and when it answered.
#[derive(Debug)]
pub struct Answer {
    /// Its version.
    pub version: String,
    /// What its clock said, if it did, and what ours did.
    pub clocks: Option<(UnixSeconds, UnixSeconds)>,
}

/// A file that only its owner should read.
pub fn private_file(path: &Path) -> PrivateFile {
    let mode = fs::metadata(path).map(|found| found.permissions().mode() & 0o777).map_err(text);
    PrivateFile { path: path.display().to_string(), mode }
}

/// Room in the file system of a folder.
pub fn room(folder: &Path) -> Room {
    Room { folder: folder.display().to_string(), free: free(folder) }
}

fn free(folder: &Path) -> Looked<u64> {
    let found = rustix::fs::statvfs(folder).map_err(text)?;
    if found.f_flag.contains(rustix::fs::StatVfsMountFlags::RDONLY) {
        return Err("nothing can be written there: it is mounted read-only".to_owned());
    }
    let writable = rustix::fs::access(folder, rustix::fs::Access::WRITE_OK);
    writable.map_err(|error| format!("this user cannot write there: {error}"))?;
    Ok(found.f_bavail.saturating_mul(found.f_frsize))
}

/// The certificate in a file of PEM. An authority's own does not renew by itself.
pub fn certificate(path: &Path, renews: bool) -> Ending {
    let validity = CertificateDer::from_pem_file(path).map_err(text).and_then(|found| validity(&found));
    Ending { what: path.display().to_string(), validity, renews }
}

/// Connects with TLS and says how long the certificate that was shown is good.
pub async fn listens(what: &str, host: &str, port: u16, authority: &[u8]) -> (Port, Ending) {
    let address = format!("{what} at {host}:{port}");
    let shown = match timeout(WITHIN, shake_hands(host, port, authority)).await {
        Ok(shown) => shown,
        Err(_) => Err(format!("no answer within {} s", WITHIN.as_secs())),
    };
    let answers = shown.as_ref().map(drop).map_err(Clone::clone);
    (Port { what: address.clone(), answers }, Ending { what: address, validity: shown, renews: true })
}

async fn shake_hands(host: &str, port: u16, authority: &[u8]) -> Looked<Validity> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(authority) {
        roots.add(certificate.map_err(text)?).map_err(text)?;
    }
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .map_err(text)?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = match host.parse::<IpAddr>() {
        Ok(address) => ServerName::IpAddress(address.into()),
        Err(_) => ServerName::try_from(host.to_owned()).map_err(text)?,
    };
    let stream = TcpStream::connect((host, port)).await.map_err(text)?;
    let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(text)?;
    let (_, session) = stream.get_ref();
    let shown = session.peer_certificates().and_then(<[_]>::first);
    validity(shown.ok_or("it showed no certificate")?)
}

fn validity(certificate: &CertificateDer<'_>) -> Looked<Validity> {
    let (_, parsed) = parse_x509_certificate(certificate).map_err(text)?;
    let time = |time: x509_parser::time::ASN1Time| UnixSeconds(u64::try_from(time.timestamp()).unwrap_or(0));
    let of = parsed.validity();
    Ok(Validity { not_before: time(of.not_before), not_after: time(of.not_after) })
}

/// A client for what a kubeconfig names.
pub async fn client(kubeconfig: &Path) -> Looked<Client> {
    let file = Kubeconfig::read_from(kubeconfig).map_err(text)?;
    let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await.map_err(text)?;
    Client::try_from(config).map_err(text)
}

/// Asks a server for its version.
pub async fn version(client: &Client) -> Looked<Answer> {
    let request = Request::get("/version").body(kube::client::Body::empty()).map_err(text)?;
    let asked = clock::now();
    let sent = timeout(WITHIN, client.send(request)).await;
    let response = sent.map_err(|_| format!("no answer within {} s", WITHIN.as_secs()))?.map_err(text)?;
    let ours = UnixSeconds(u64::midpoint(asked.0, clock::now().0));
    let date = response.headers().get(DATE).and_then(|date| date.to_str().ok());
    let theirs = date.and_then(|date| jiff::fmt::rfc2822::parse(date).ok());
    let theirs = theirs.and_then(|date| u64::try_from(date.timestamp().as_second()).ok());
    let status = response.status();
    let body = timeout(WITHIN, response.into_body().collect_bytes()).await;
    let body = body.map_err(|_| "the answer did not end".to_owned())?.map_err(text)?;
    let version: Value = serde_json::from_slice(&body).map_err(|_| format!("it answers {status}"))?;
    let version = version["gitVersion"].as_str().ok_or_else(|| format!("it answers {status}"))?.to_owned();
    Ok(Answer { version, clocks: theirs.map(|theirs| (UnixSeconds(theirs), ours)) })
}

/// An agent's API server, and its clock. None: the agent simulates one.
pub async fn api_server(kubernetes: &Kubernetes) -> Option<(Looked<ApiServer>, Option<Answer>)> {
    let client = match kubernetes {
        Kubernetes::Simulated => return None,
        Kubernetes::Kubeconfig(path) => client(path).await,
        Kubernetes::InCluster => {
            Config::incluster().map_err(text).and_then(|config| Client::try_from(config).map_err(text))
        }
    };
    let client = match client {
        Ok(client) => client,
        Err(why) => return Some((Err(why), None)),
    };
    Some(match version(&client).await {
        Ok(answer) => {
            let version = answer.version.clone();
            (Ok(ApiServer { version, is_allowed: may_do_all(client).await }), Some(answer))
        }
        Err(why) => (Err(why), None),
    })
}

/// Whether a client may do everything with everything.
async fn may_do_all(client: Client) -> Looked<bool> {
    let everything = || Some("*".to_owned());
    let attributes = ResourceAttributes {
        verb: everything(),
        group: everything(),
        resource: everything(),
        ..ResourceAttributes::default()
    };
    let spec = SelfSubjectAccessReviewSpec { resource_attributes: Some(attributes), ..Default::default() };
    let review = SelfSubjectAccessReview { spec, ..SelfSubjectAccessReview::default() };
    let params = PostParams::default();
    let reviews = Api::all(client);
    let answer = timeout(WITHIN, reviews.create(&params, &review)).await;
    let review = answer.map_err(|_| format!("no answer within {} s", WITHIN.as_secs()))?.map_err(text)?;
    Ok(review.status.is_some_and(|status| status.allowed))
}

/// The files of a folder that hold private keys.
pub fn keys_in(folder: &Path) -> Looked<Vec<PathBuf>> {
    let mut keys = Vec::new();
    for entry in fs::read_dir(folder).map_err(text)? {
        let path = entry.map_err(text)?.path();
        if path.extension().is_some_and(|extension| extension == "key") {
            keys.push(path);
        }
    }
    keys.sort();
    Ok(keys)
}

fn text(error: impl std::error::Error) -> String {
    chain(&error)
}
