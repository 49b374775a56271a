//! `fleet-broker serve`: opens everything, runs it, and stops it in order.

use std::{
    io,
    net::{SocketAddr, TcpListener},
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, Instant},
};

use protocol::{
    ids::{Digest, Incarnation, KeyId},
    keys::SigningKey,
    verify::{Trust, VerifyError},
};
use rustls::ServerConfig;
use tokio::{
    sync::{mpsc, oneshot},
    task::JoinHandle,
};

use crate::{
    api::{
        self,
        access::Access,
        auth::{Token, TokenHash},
    },
    backup::{STORE_FILE, Source},
    clock,
    controller::{self, Admitted, Controller},
    enrolment::{self, TOKEN, Tokens},
    hub::{Hub, HubError},
    kubeconfig::{self, KubeconfigError},
    logic::fleet::{DocumentKind, Fleet, RestoreError},
    pki::{CertificateAuthority, PkiError},
    presented::{OwnCertificate, OwnError, Presented},
    random,
    renewal::Renewals,
    resources::Kind,
    store::{Store, StoreError, Write},
    transport::{Addresses, Transport, TransportConfig, TransportError},
};

/// Name of the kubeconfig in the hub's folder.
pub const KUBECONFIG: &str = "hub.kubeconfig";

/// Events that may wait for the fleet: then clusters wait.
const EVENTS: usize = 1024;

/// Questions that may wait for the fleet.
const QUESTIONS: usize = 16;

/// Connections at once; each takes a file descriptor.
const CONNECTIONS: usize = 16_384;

/// How long the hub may take to have a message.
const ACKNOWLEDGE_WITHIN: Duration = Duration::from_secs(30);

/// The kind of the documents the hub keeps of itself.
const SELF: &str = "hub";

/// What a hub needs to run.
#[derive(Debug)]
pub struct ServeConfig {
    /// Its folder: store, certificate authority, kubeconfig.
    pub directory: PathBuf,
    /// Where the API listens. Port 0 takes a free one.
    pub api: SocketAddr,
    /// Where clusters connect.
    pub broker: SocketAddr,
    /// Where clusters enrol.
    pub enrol: SocketAddr,
    /// The host name or address by which agents and operators reach this hub.
    pub advertise: String,
    /// The root document's envelope.
    pub root: Vec<u8>,
    /// The director's key.
    pub director: SigningKey,
    /// How long certificates last, the clusters' and its own: [`crate::pki::CERTIFICATE_LIFETIME`], or less.
    pub certificate_lifetime: Duration,
}

/// A hub that does not start.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Its folder cannot be made.
    #[error("cannot make the hub's folder {path}")]
    Directory {
        /// The folder.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The root document is not what it should be.
    #[error("the root document is not valid: was it made by `edgefleet keys init`?")]
    Root(#[source] Box<VerifyError>),
    /// The director's key may not sign for this root.
    #[error("key {key} is not the director of this fleet's root: give the director key made with that root")]
    Director {
        /// The key that was given.
        key: KeyId,
    },
    /// The root names other certificate authorities.
    #[error(
        "the root pins other certificate authorities than this hub's ({pin}): make it with --ca-pin {pin}"
    )]
    Pin {
        /// This hub's.
        pin: Digest,
    },
    /// Certificates.
    #[error("the hub has no certificates")]
    Pki(#[from] PkiError),
    /// The hub's own certificate.
    #[error("the hub has no certificate to show")]
    Own(#[from] OwnError),
    /// The store.
    #[error("the hub's store does not open")]
    Store(#[from] StoreError),
    /// The objects in the store.
    #[error("the hub's objects cannot be taken up")]
    Hub(#[from] HubError),
    /// The fleet's documents in the store.
    #[error("the fleet's documents cannot be taken up")]
    Restore(#[from] RestoreError),
    /// A listener.
    #[error("the hub does not listen for clusters")]
    Transport(#[from] TransportError),
    /// The API's listener.
    #[error("cannot listen on {address} for the API")]
    Listen {
        /// Where.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// TLS of the API.
    #[error("cannot set up TLS for the API")]
    Tls(#[source] rustls::Error),
    /// The kubeconfig.
    #[error("operators get no kubeconfig")]
    Kubeconfig(#[from] KubeconfigError),
}

/// A running hub.
pub struct Running {
    /// Where it listens for clusters.
    pub addresses: Addresses,
    /// Where its API listens.
    pub api: SocketAddr,
    /// The operators' kubeconfig.
    pub kubeconfig: PathBuf,
    stop_fleet: oneshot::Sender<()>,
    stop_api: oneshot::Sender<()>,
    store: Store,
    fleet: JoinHandle<Result<(), StoreError>>,
    served: JoinHandle<io::Result<()>>,
}

/// Makes or opens the certificate authority in a hub's folder: its pin belongs into the root document.
pub fn certificate_authority(directory: &Path, fleet: &str) -> Result<CertificateAuthority, ServeError> {
    let path = directory.to_owned();
    std::fs::create_dir_all(directory).map_err(|source| ServeError::Directory { path, source })?;
    Ok(CertificateAuthority::load_or_create(directory, fleet, clock::now())?)
}

/// Starts a hub. It is ready when this returns.
pub async fn start(config: ServeConfig) -> Result<Running, ServeError> {
    let trust = trust(&config)?;
    let fleet_id = trust.root().fleet.clone();
    let authority = certificate_authority(&config.directory, fleet_id.as_str())?;
    let authority = authority.with_lifetime(config.certificate_lifetime);
    let ca_pin = authority.pin();
    if !trust.root().ca_pins.is_empty() && !trust.root().ca_pins.contains(&ca_pin) {
        return Err(ServeError::Pin { pin: ca_pin });
    }
    let ServeConfig { directory, api, broker, enrol, advertise, root, director, .. } = config;
    let store = Store::open(&directory.join(STORE_FILE))?;
    let hub = Hub::open(store.clone()).await?;
    let incarnation = incarnation(&store).await?;
    let director = Arc::new(director);
    let fleet = restore(Fleet::new(trust.clone(), Arc::clone(&director), incarnation), &hub, &store).await?;
    let names = vec![advertise.clone(), "localhost".to_owned(), "127.0.0.1".to_owned()];
    let own = OwnCertificate::make(&authority, names, clock::now())?;
    let admitted = Admitted::default();
    let (events_in, events) = mpsc::channel(EVENTS);
    let listeners = TransportConfig {
        clusters: broker,
        bootstrap: Some(enrol),
        shown: own.presented(),
        client_ca: authority.certificate().clone(),
        is_accepted: acceptance(&admitted),
        connections_max: CONNECTIONS,
        acknowledge_within: ACKNOWLEDGE_WITHIN,
    };
    let transport = Transport::start(listeners, events_in).await?;
    let addresses = transport.addresses();
    let (listener, api) = listen(api)?;
    let kubeconfig = directory.join(KUBECONFIG);
    let server = format!("https://{advertise}:{}", api.port());
    let admin = admin(&kubeconfig, &server, &store, authority.certificate_pem()).await?;
    let (questions_in, questions) = mpsc::channel(QUESTIONS);
    let backup =
        Source { directory, fleet: fleet_id.clone(), root: root.clone(), director, store: store.clone() };
    let access = Access::open(store.clone(), &admin).await?;
    let router =
        api::router(hub.clone(), access, questions_in, Some(Arc::new(trust.clone())), Some(Arc::new(backup)));
    let (stop_api, api_stopped) = oneshot::channel();
    let served = tokio::spawn(api::serve(listener, api_tls(own.presented())?, router, async {
        drop(api_stopped.await);
    }));
    let at = |address: SocketAddr| format!("{advertise}:{}", address.port());
    let join = enrolment::Hub {
        fleet: fleet_id,
        enrol: at(addresses.bootstrap.unwrap_or(enrol)),
        broker: at(addresses.clusters),
        ca_pin,
        root: trust.root_digest(),
    };
    let mut tokens = Tokens::default();
    store.documents(TOKEN).await?.iter().for_each(|(key, bytes)| tokens.restore(key, bytes));
    let renewals = Renewals::new(join.fleet.clone());
    let controller = Controller {
        fleet,
        hub,
        transport,
        authority,
        root,
        tokens,
        renewals,
        own,
        join,
        admitted,
        started: started(),
        seen: 0,
        untold: Vec::new(),
        storing: None,
    };
    let (stop_fleet, fleet_stopped) = oneshot::channel();
    let fleet = tokio::spawn(controller.run(events, questions, fleet_stopped));
    Ok(Running { addresses, api, kubeconfig, stop_fleet, stop_api, store, fleet, served })
}

fn trust(config: &ServeConfig) -> Result<Trust, ServeError> {
    let trust = Trust::given(&config.root).map_err(|error| ServeError::Root(Box::new(error)))?;
    let key = config.director.public().id();
    if trust.root().director.keys.contains(&key) { Ok(trust) } else { Err(ServeError::Director { key }) }
}

impl Running {
    /// Waits until a part of the hub ends by itself, which none should.
    pub async fn failed(&mut self) -> String {
        tokio::select! {
            ended = &mut self.fleet => format!("the fleet stopped: {ended:?}"),
            ended = &mut self.served => format!("the API stopped: {ended:?}"),
        }
    }

    /// Stops the API, then the fleet, then closes the store, and waits for each.
    pub async fn stop(self) {
        let _gone = self.stop_api.send(());
        drop(self.served.await);
        let _gone = self.stop_fleet.send(());
        drop(self.fleet.await);
        // Closed before this returns: whoever copies or removes the folder then finds it whole.
        drop(self.store.close().await);
    }
}

#[allow(clippy::disallowed_methods, reason = "the shell's monotonic clock starts here, once")]
fn started() -> Instant {
    Instant::now()
}

fn acceptance(admitted: &Admitted) -> crate::transport::Acceptance {
    let admitted = Arc::clone(admitted);
    Arc::new(move |who| controller::lock(&admitted).get(&who.cluster) == Some(&who.identity))
}

fn listen(address: SocketAddr) -> Result<(TcpListener, SocketAddr), ServeError> {
    let failed = |source| ServeError::Listen { address, source };
    let listener = TcpListener::bind(address).map_err(failed)?;
    let local = listener.local_addr().map_err(failed)?;
    Ok((listener, local))
}

fn api_tls(shown: Arc<Presented>) -> Result<Arc<ServerConfig>, ServeError> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(ServeError::Tls)?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    tls.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(tls))
}

/// The first life of the store. One that was restored, or rolled back, has a record of its recovery, which names a
/// later one.
async fn incarnation(store: &Store) -> Result<Incarnation, StoreError> {
    let stored = own(store, "incarnation").await?;
    if let Some(incarnation) = stored.and_then(|bytes| Incarnation::try_from(bytes.as_slice()).ok()) {
        return Ok(incarnation);
    }
    let incarnation = Incarnation::new(random::bytes());
    keep(store, "incarnation", incarnation.as_bytes()).await?;
    Ok(incarnation)
}

/// The admin token's hash. The token itself stands in the kubeconfig only; without that file, or where the API has
/// another address now, a new one is made.
async fn admin(
    kubeconfig: &Path,
    server: &str,
    store: &Store,
    ca_pem: &str,
) -> Result<TokenHash, ServeError> {
    let known = own(store, "admin").await?.and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
    let at = own(store, "api").await?;
    if let Some(hash) = known.filter(|_| kubeconfig.exists() && at.as_deref() == Some(server.as_bytes())) {
        return Ok(TokenHash::from_bytes(hash));
    }
    let token = Token::generate();
    keep(store, "admin", token.hash().as_bytes()).await?;
    kubeconfig::write(kubeconfig, server, ca_pem, &token)?;
    keep(store, "api", server.as_bytes()).await?;
    Ok(token.hash())
}

async fn own(store: &Store, key: &str) -> Result<Option<Vec<u8>>, StoreError> {
    let documents = store.documents(SELF).await?;
    Ok(documents.into_iter().find(|(found, _)| found == key).map(|(_, bytes)| bytes))
}

async fn keep(store: &Store, key: &str, bytes: &[u8]) -> Result<(), StoreError> {
    store.commit(vec![Write::PutDocument { kind: SELF, key: key.to_owned(), bytes: bytes.to_vec() }]).await
}

/// Gives the fleet what the store has of it: documents, and statuses for the times of their transitions.
async fn restore(mut fleet: Fleet, hub: &Hub, store: &Store) -> Result<Fleet, ServeError> {
    for kind in DocumentKind::ALL {
        for (key, bytes) in store.documents(kind.name()).await? {
            fleet.restore(kind, &key, &bytes)?;
        }
    }
    hub.read(|registry| {
        for object in registry.objects(Kind::Cluster) {
            fleet.restore_cluster_status(object.name(), &object.value()["status"]);
        }
        for object in registry.objects(Kind::Application) {
            fleet.restore_application_status(object.namespace(), object.name(), &object.value()["status"]);
        }
    });
    Ok(fleet)
}
