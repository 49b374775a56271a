//! A hub's transport with its own CA, directories and ports, and sites enrolled with it.

use std::{
    collections::BTreeSet,
    fs,
    future::Future,
    net::SocketAddr,
    path::PathBuf,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use edge_agent::{
    enrol::KeyAndRequest,
    link::{AckToken, Backoff, Link, LinkConfig, LinkEvent},
};
use fleet_broker::{
    pki::CertificateAuthority,
    presented::Presented,
    transport::{ConnectionId, Transport, TransportConfig, TransportEvent},
};
use jiff::Timestamp;
use protocol::{
    ids::{ClusterId, KeyId},
    topics::{Downward, Upward},
};
use tempfile::TempDir;
use tokio::sync::{mpsc, oneshot};

/// Longest wait for anything that should happen; reached only by a test that fails.
pub(crate) const DEADLINE: Duration = Duration::from_secs(20);

/// When every certificate of these tests is made.
#[allow(clippy::disallowed_methods, reason = "TLS compares certificates with the real time")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The identity key of every cluster: the transport passes it on and compares nothing.
pub(crate) fn identity() -> KeyId {
    KeyId::new([7; 32])
}

pub(crate) fn id(text: &str) -> ClusterId {
    text.parse().unwrap()
}

/// Waits for what must come.
pub(crate) async fn soon<T>(what: &str, coming: impl Future<Output = T>) -> T {
    match tokio::time::timeout(DEADLINE, coming).await {
        Ok(came) => came,
        Err(_) => panic!("{what} did not come within {DEADLINE:?}"),
    }
}

pub(crate) struct Hub {
    pub(crate) transport: Transport,
    pub(crate) events: mpsc::Receiver<TransportEvent>,
    pub(crate) ca: CertificateAuthority,
    pub(crate) revoked: Arc<Mutex<BTreeSet<ClusterId>>>,
    directory: TempDir,
}

/// What a test may want otherwise.
pub(crate) struct Options {
    pub(crate) clusters: SocketAddr,
    pub(crate) acknowledge_within: Duration,
    /// When the hub's own certificate was made.
    pub(crate) hub_clock: Timestamp,
}

impl Default for Options {
    fn default() -> Self {
        let clusters = SocketAddr::from(([127, 0, 0, 1], 0));
        Self { clusters, acknowledge_within: DEADLINE, hub_clock: now() }
    }
}

impl Hub {
    pub(crate) async fn start() -> Self {
        Self::start_with(Options::default()).await
    }

    pub(crate) async fn start_with(options: Options) -> Self {
        let directory = TempDir::new().unwrap();
        Self::start_in(directory, options).await
    }

    /// Stops, and starts again with the same CA on the same port.
    pub(crate) async fn restart(self) -> Self {
        let clusters = self.transport.addresses().clusters;
        soon("the end of the transport", self.transport.stop()).await;
        Self::start_in(self.directory, Options { clusters, ..Options::default() }).await
    }

    async fn start_in(directory: TempDir, options: Options) -> Self {
        let ca = CertificateAuthority::load_or_create(directory.path(), "test-fleet", now()).unwrap();
        let revoked = Arc::new(Mutex::new(BTreeSet::new()));
        let refused = Arc::clone(&revoked);
        let names = ["localhost".to_owned(), "127.0.0.1".to_owned()];
        let config = TransportConfig {
            clusters: options.clusters,
            bootstrap: Some(SocketAddr::from(([127, 0, 0, 1], 0))),
            shown: Presented::new(ca.server_identity(&names, options.hub_clock).unwrap()).unwrap(),
            client_ca: ca.certificate().clone(),
            is_accepted: Arc::new(move |who| !refused.lock().unwrap().contains(&who.cluster)),
            connections_max: 100,
            acknowledge_within: options.acknowledge_within,
        };
        let (sender, events) = mpsc::channel(64);
        let transport = Transport::start(config, sender).await.unwrap();
        Self { transport, events, ca, revoked, directory }
    }

    /// Enrols a site: a directory with its key, its certificate and the hub's CA.
    pub(crate) fn enrol(&self, cluster: &str) -> Site {
        let cluster = id(cluster);
        let made = KeyAndRequest::make(&cluster).unwrap();
        let certificate = self.ca.sign_cluster(&made.request, &cluster, &identity(), now()).unwrap();
        let directory = TempDir::new().unwrap();
        fs::write(directory.path().join("cluster.pem"), certificate.pem + &made.key_pem).unwrap();
        fs::write(directory.path().join("ca.pem"), self.ca.certificate_pem()).unwrap();
        Site { cluster, directory, port: self.transport.addresses().clusters.port() }
    }

    pub(crate) async fn next(&mut self) -> TransportEvent {
        soon("an event at the hub", self.events.recv()).await.expect("the transport runs")
    }

    pub(crate) async fn connected(&mut self, who: &ClusterId) -> ConnectionId {
        match self.next().await {
            TransportEvent::Connected { cluster, connection } if cluster == *who => connection,
            other => panic!("expected {who} to connect, got {other:?}"),
        }
    }

    pub(crate) async fn gone(&mut self, who: &ClusterId, which: ConnectionId) -> bool {
        match self.next().await {
            TransportEvent::Gone { cluster, connection, clean } if cluster == *who && connection == which => {
                clean
            }
            other => panic!("expected {who} to be gone, got {other:?}"),
        }
    }

    pub(crate) async fn message(&mut self, who: &ClusterId) -> (Upward, Bytes, oneshot::Sender<()>) {
        match self.next().await {
            TransportEvent::Message { cluster, topic, payload, done, .. } if cluster == *who => {
                (topic, payload, done)
            }
            other => panic!("expected a message of {who}, got {other:?}"),
        }
    }
}

/// One enrolled cluster.
pub(crate) struct Site {
    pub(crate) cluster: ClusterId,
    pub(crate) directory: TempDir,
    pub(crate) port: u16,
}

impl Site {
    pub(crate) fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn read(&self, name: &str) -> Vec<u8> {
        fs::read(self.file(name)).unwrap()
    }

    pub(crate) fn config(&self) -> LinkConfig {
        LinkConfig {
            cluster: self.cluster.clone(),
            host: "localhost".to_owned(),
            port: self.port,
            identity: self.file("cluster.pem"),
            trusted_ca: self.file("ca.pem"),
            keepalive_seconds: edge_agent::link::KEEPALIVE_SECONDS,
            connect_within: DEADLINE,
            backoff: Backoff { first: Duration::from_millis(20), cap: Duration::from_millis(200), seed: 7 },
            renewed: Arc::default(),
        }
    }

    pub(crate) fn connect(&self) -> Agent {
        let (link, events) = Link::start(self.config()).unwrap();
        Agent { link, events }
    }
}

/// An agent's end of the link.
pub(crate) struct Agent {
    pub(crate) link: Link,
    pub(crate) events: mpsc::Receiver<LinkEvent>,
}

impl Agent {
    pub(crate) async fn next(&mut self) -> LinkEvent {
        soon("an event at the agent", self.events.recv()).await.expect("the link runs")
    }

    /// Waits until the link is up; attempts may fail before.
    pub(crate) async fn up(&mut self) -> u64 {
        loop {
            match self.next().await {
                LinkEvent::Up { connection } => return connection,
                LinkEvent::Down { .. } => {}
                other => panic!("expected the link to come up, got {other:?}"),
            }
        }
    }

    pub(crate) async fn down(&mut self) -> String {
        match self.next().await {
            LinkEvent::Down { reason, .. } => reason,
            other => panic!("expected the link to be down, got {other:?}"),
        }
    }

    pub(crate) async fn message(&mut self) -> (Downward, Bytes, AckToken) {
        match self.next().await {
            LinkEvent::Message { topic, payload, ack, .. } => (topic, payload, ack),
            other => panic!("expected a message of the hub, got {other:?}"),
        }
    }
}
