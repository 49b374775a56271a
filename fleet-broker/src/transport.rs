//! MQTT, as the hub sees it: clusters come, say something, and go; the hub pushes to those that are here.
//!
//! The hub owns the TLS listeners and knows a cluster by the common name of its verified certificate. What
//! speaks MQTT on an accepted connection is one file behind this interface (`session`), so that another
//! broker can take its place. Nothing is remembered for a cluster that is away: delivery is state, pushed
//! again after its next hello.

mod gate;
mod limits;
mod listener;
mod presence;
mod session;
mod tls;

use std::{
    fmt, io,
    net::{IpAddr, SocketAddr},
    sync::Arc,
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    ids::{ClusterId, KeyId, TokenId},
    topics::{Downward, Upward},
};
use rustls::server::ResolvesServerCert;
use rustls_pki_types::CertificateDer;
use tokio::{
    net::TcpListener,
    sync::{mpsc, oneshot, watch},
};
use tokio_rustls::TlsAcceptor;

use self::{
    gate::Gate,
    listener::{BootstrapListener, ClusterListener, Running},
    presence::Presence,
};
use crate::presented::Presented;

/// Whether the registry lets a cluster in. Asked on each connect, under a lock: it must answer at once and
/// must not call the transport.
pub type Acceptance = Arc<dyn Fn(&Named) -> bool + Send + Sync>;

/// Whom a client certificate names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Named {
    /// The cluster.
    pub cluster: ClusterId,
    /// The identity key that asked for the certificate.
    pub identity: KeyId,
}

/// One connection of one cluster. A later connection has a higher number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ConnectionId(u64);

impl fmt::Display for ConnectionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// What the transport tells the hub. Events of one cluster come in order: `Connected`, its messages,
/// `Gone`, and then nothing more of that connection.
#[derive(Debug)]
pub enum TransportEvent {
    /// A cluster's connection was accepted. It subscribes and says hello next; until then there is
    /// nothing to push to.
    Connected {
        /// The certificate's common name.
        cluster: ClusterId,
        /// The new connection; an older one of this cluster is `Gone` by now.
        connection: ConnectionId,
    },
    /// A cluster said something.
    Message {
        /// Who, by its certificate.
        cluster: ClusterId,
        /// On which of its connections.
        connection: ConnectionId,
        /// What about.
        topic: Upward,
        /// The document as received, of at most `protocol::limits::MESSAGE_BYTES` bytes.
        payload: Bytes,
        /// Sent when the hub has the message; only then is it acknowledged, and only then does this
        /// cluster's next message come. Dropped, or not sent in time: the connection is closed and nothing
        /// is acknowledged.
        done: oneshot::Sender<()>,
    },
    /// A connection ended.
    Gone {
        /// Whose.
        cluster: ClusterId,
        /// Which.
        connection: ConnectionId,
        /// True if the cluster said goodbye; false if it fell silent, broke a rule, was kicked or replaced.
        clean: bool,
    },
    /// Someone without a certificate asks to enrol.
    EnrolAsk {
        /// The token the asker names. The ask must prove it.
        token: TokenId,
        /// Where the ask came from.
        peer: IpAddr,
        /// The ask as received.
        payload: Bytes,
        /// Takes the answer. Dropped: the connection is closed without one.
        answer: oneshot::Sender<Bytes>,
    },
}

/// What a transport needs to run.
pub struct TransportConfig {
    /// Where enrolled clusters connect. Port 0 takes a free one.
    pub clusters: SocketAddr,
    /// Where new clusters enrol; none if enrolment is closed.
    pub bootstrap: Option<SocketAddr>,
    /// The hub's own certificate chain, CA included, and its key, as they are at the time.
    pub shown: Arc<Presented>,
    /// The CA that signs clusters' certificates.
    pub client_ca: CertificateDer<'static>,
    /// Whether a cluster with a good certificate is let in now.
    pub is_accepted: Acceptance,
    /// Connections of clusters at once; each takes a file descriptor and some 80 KB.
    pub connections_max: usize,
    /// How long the hub may take over one message.
    pub acknowledge_within: Duration,
}

/// Where a running transport listens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Addresses {
    /// Where enrolled clusters connect.
    pub clusters: SocketAddr,
    /// Where new clusters enrol.
    pub bootstrap: Option<SocketAddr>,
}

/// A transport that could not start.
#[derive(Debug, thiserror::Error)]
pub enum TransportError {
    /// The address is taken or is not ours.
    #[error("cannot listen on {address} for MQTT")]
    Listen {
        /// The address asked for.
        address: SocketAddr,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The certificate, key or CA cannot be used.
    #[error("cannot set up TLS with the hub's certificate")]
    Tls(#[source] rustls::Error),
}

/// A message that was not pushed. Nothing is kept of it: the next hello asks for the state again.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PushError {
    /// The cluster is away.
    #[error("cluster {0} is not connected")]
    NotConnected(ClusterId),
    /// The cluster has not subscribed to this topic yet.
    #[error("cluster {cluster} is connected but has not subscribed to {topic:?}")]
    NotSubscribed {
        /// The cluster.
        cluster: ClusterId,
        /// The topic.
        topic: Downward,
    },
    /// The cluster takes messages more slowly than they are pushed.
    #[error("cluster {cluster} has too many messages waiting")]
    Slow {
        /// The cluster.
        cluster: ClusterId,
    },
    /// The payload is larger than the protocol allows.
    #[error("a message of {bytes} bytes for cluster {cluster} is too large")]
    TooLarge {
        /// The cluster.
        cluster: ClusterId,
        /// The payload's size.
        bytes: usize,
    },
}

/// The running MQTT side of the hub.
pub struct Transport {
    presence: Arc<Presence>,
    addresses: Addresses,
    stopping: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

impl Transport {
    /// Opens the listeners and serves them until [`Transport::stop`]. `events` needs room for two events
    /// or more; while it is full, clusters wait.
    pub async fn start(
        config: TransportConfig,
        events: mpsc::Sender<TransportEvent>,
    ) -> Result<Self, TransportError> {
        let shown = || Arc::clone(&config.shown) as Arc<dyn ResolvesServerCert>;
        let cluster_tls = tls::for_clusters(shown(), &config.client_ca).map_err(TransportError::Tls)?;
        let bootstrap_tls = tls::for_bootstrap(shown()).map_err(TransportError::Tls)?;
        let clusters = listen(config.clusters).await?;
        let bootstrap = match config.bootstrap {
            Some(address) => Some(listen(address).await?),
            None => None,
        };
        let addresses = Addresses {
            clusters: local(&clusters, config.clusters)?,
            bootstrap: bootstrap
                .as_ref()
                .zip(config.bootstrap)
                .map(|(listener, asked)| local(listener, asked))
                .transpose()?,
        };

        let presence = Arc::new(Presence::new(events, config.is_accepted));
        let (stopping, stopped) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let running = Running { presence: Arc::clone(&presence), stopping: stopped, alive };
        let listener = ClusterListener {
            listener: clusters,
            acceptor: TlsAcceptor::from(cluster_tls),
            connections: Gate::new(config.connections_max, config.connections_max),
            acknowledge_within: config.acknowledge_within,
        };
        listener.run(&running);
        if let Some(listener) = bootstrap {
            BootstrapListener { listener, acceptor: TlsAcceptor::from(bootstrap_tls) }.run(&running);
        }
        Ok(Self { presence, addresses, stopping, ended })
    }

    /// Where this transport listens.
    pub fn addresses(&self) -> Addresses {
        self.addresses
    }

    /// Queues a message for a cluster that is connected and subscribed. Success means queued, not read:
    /// what a cluster holds is known from its reports.
    pub async fn push(&self, cluster: &ClusterId, topic: Downward, payload: Bytes) -> Result<(), PushError> {
        if payload.len() > protocol::limits::MESSAGE_BYTES {
            return Err(PushError::TooLarge { cluster: cluster.clone(), bytes: payload.len() });
        }
        let outbound = self.presence.outbound(cluster);
        outbound.ok_or_else(|| PushError::NotConnected(cluster.clone()))?.push(topic, payload).await
    }

    /// Ends a cluster's connection, if it has one; its `Gone` follows. To keep it out, let `is_accepted`
    /// refuse it first.
    pub fn kick(&self, cluster: &ClusterId) -> bool {
        self.presence.kick(cluster)
    }

    /// Closes the listeners and every connection, and waits for their tasks to end.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        // No task sends anything; the channel closes when the last of them is gone.
        let _closed = self.ended.recv().await;
    }
}

async fn listen(address: SocketAddr) -> Result<TcpListener, TransportError> {
    TcpListener::bind(address).await.map_err(|source| TransportError::Listen { address, source })
}

fn local(listener: &TcpListener, address: SocketAddr) -> Result<SocketAddr, TransportError> {
    listener.local_addr().map_err(|source| TransportError::Listen { address, source })
}
