//! One MQTT connection, served by the `mqtt5` crate; with `session/`, the only file that names it.
//!
//! Each connection has a router of its own, so the crate serves one client and knows of no other: what is
//! pushed to a cluster cannot reach another one, whatever the crate's routing does, and a connection that
//! comes or goes costs nothing that grows with the fleet.

mod access;

use std::{
    future::Future,
    net::{IpAddr, SocketAddr},
    pin::{Pin, pin},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use mqtt5::{
    QoS,
    broker::{
        AuthProvider, BrokerConfig, BrokerEventHandler, ClientConnectEvent, ClientDisconnectEvent,
        ClientPublishEvent, PublishAction, ResourceLimits, ResourceMonitor, client_handler::ClientHandler,
        router::MessageRouter, storage::QueueLimits, sys_topics::BrokerStats, tls_acceptor::TlsStreamWrapper,
        transport::BrokerTransport,
    },
    packet::publish::PublishPacket,
};
use protocol::{
    ids::{ClusterId, TokenId},
    topics::{self, Downward},
};
use tokio::{
    net::TcpStream,
    sync::{broadcast, oneshot, watch},
    time::{Instant, timeout},
};
use tokio_rustls::server::TlsStream;
use tracing::{debug, warn};

use self::access::{BootstrapAccess, ClusterAccess};
use super::{
    ConnectionId, Named, PushError, TransportEvent, limits,
    presence::{Connected, Presence},
};

/// Serves one enrolled cluster until either side ends it.
pub(super) async fn serve_cluster(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    who: Named,
    presence: Arc<Presence>,
    acknowledge_within: Duration,
) {
    let cluster = who.cluster.clone();
    let (stop, stopped) = watch::channel(false);
    let router = Arc::new(router());
    let connection = presence.number();
    let session = Arc::new(ClusterSession {
        outbound: Arc::new(Outbound { router: Arc::clone(&router), cluster: cluster.clone() }),
        presence: Arc::clone(&presence),
        who: who.clone(),
        connection,
        stop,
        left_cleanly: AtomicBool::new(false),
        acknowledge_within,
    });
    let access = Arc::new(ClusterAccess::new(who, Arc::clone(&presence)));
    let config = config(limits::PACKET_BYTES, Arc::clone(&session) as _);
    serve(stream, peer, config, router, access, stopped).await;
    presence.depart(&cluster, connection, session.left_cleanly.load(Ordering::Acquire)).await;
}

/// Serves one bootstrap connection: one ask, one answer.
pub(super) async fn serve_bootstrap(stream: TlsStream<TcpStream>, peer: SocketAddr, presence: Arc<Presence>) {
    let (stop, stopped) = watch::channel(false);
    let router = Arc::new(router());
    let session = Arc::new(BootstrapSession {
        presence,
        router: Arc::clone(&router),
        peer: peer.ip(),
        asked: AtomicBool::new(false),
        stop,
    });
    let config = config(limits::BOOTSTRAP_PACKET_BYTES, session);
    let served = serve(stream, peer, config, router, Arc::new(BootstrapAccess), stopped);
    if timeout(limits::BOOTSTRAP_LIFETIME, served).await.is_err() {
        debug!(%peer, "a bootstrap connection reached the end of its lifetime");
    }
}

/// The way to one connected cluster.
pub(super) struct Outbound {
    router: Arc<MessageRouter>,
    cluster: ClusterId,
}

impl Outbound {
    /// Queues a message for the cluster, and waits a little for room.
    pub(super) async fn push(&self, topic: Downward, payload: Bytes) -> Result<(), PushError> {
        let name = topic.topic(&self.cluster);
        if !self.router.has_subscription(self.cluster.as_str(), &name).await {
            return Err(PushError::NotSubscribed { cluster: self.cluster.clone(), topic });
        }
        if self.router.queue_handle(self.cluster.as_str()).count() >= limits::WAITING {
            return Err(PushError::Slow { cluster: self.cluster.clone() });
        }
        let publish = PublishPacket::new(name, payload, QoS::AtLeastOnce);
        self.router.route_message_with_deadline(&publish, None, Instant::now() + limits::PUSH).await;
        Ok(())
    }
}

/// What the crate tells about a cluster's connection, passed on to the hub.
struct ClusterSession {
    presence: Arc<Presence>,
    outbound: Arc<Outbound>,
    who: Named,
    connection: ConnectionId,
    stop: watch::Sender<bool>,
    left_cleanly: AtomicBool,
    acknowledge_within: Duration,
}

impl ClusterSession {
    async fn connected(&self) {
        let connected = Connected {
            connection: self.connection,
            outbound: Arc::clone(&self.outbound),
            stop: self.stop.clone(),
        };
        if !self.presence.arrive(&self.who, connected).await {
            self.close().await;
        }
    }

    /// Returns once the hub has the message; the crate then acknowledges it.
    async fn published(&self, event: ClientPublishEvent) {
        if event.retain {
            warn!(cluster = %self.who.cluster, topic = %event.topic, "closing: retained messages are not allowed");
            return self.close().await;
        }
        // Access was checked by `ClusterAccess`, so the topic is this cluster's.
        let Ok((_, topic)) = topics::parse_upward(&event.topic) else {
            return self.close().await;
        };
        let wait = self.presence.message(&self.who.cluster, self.connection, topic, event.payload).await;
        let Some(done) = wait else {
            return self.close().await;
        };
        if !matches!(timeout(self.acknowledge_within, done).await, Ok(Ok(()))) {
            warn!(cluster = %self.who.cluster, ?topic, "closing: the hub did not take a message");
            self.close().await;
        }
    }

    /// Ends the connection. It never returns, so that the crate acknowledges nothing before the end.
    async fn close(&self) {
        self.stop.send_replace(true);
        std::future::pending().await
    }
}

type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

impl BrokerEventHandler for ClusterSession {
    fn on_client_connect<'a>(&'a self, _: ClientConnectEvent) -> Later<'a, ()> {
        Box::pin(self.connected())
    }

    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Later<'a, PublishAction> {
        Box::pin(async move {
            self.published(event).await;
            PublishAction::Handled
        })
    }

    fn on_client_disconnect<'a>(&'a self, event: ClientDisconnectEvent) -> Later<'a, ()> {
        self.left_cleanly.store(!event.unexpected, Ordering::Release);
        Box::pin(std::future::ready(()))
    }
}

/// What the crate tells about a bootstrap connection.
struct BootstrapSession {
    presence: Arc<Presence>,
    router: Arc<MessageRouter>,
    peer: IpAddr,
    asked: AtomicBool,
    stop: watch::Sender<bool>,
}

impl BootstrapSession {
    /// Passes the ask to the hub, and its answer back. None: the connection must end.
    async fn ask(&self, event: ClientPublishEvent) -> Option<()> {
        if event.retain || self.asked.swap(true, Ordering::AcqRel) {
            return None;
        }
        let token = TokenId::new(&*event.client_id).ok()?;
        let (answer, wait) = oneshot::channel();
        let ask = TransportEvent::EnrolAsk {
            token: token.clone(),
            peer: self.peer,
            payload: event.payload,
            answer,
        };
        self.presence.ask(ask).await?;
        let answer = PublishPacket::new(topics::enrol_answer(&token), wait.await.ok()?, QoS::AtLeastOnce);
        self.router.route_message_with_deadline(&answer, None, Instant::now() + limits::PUSH).await;
        Some(())
    }
}

impl BrokerEventHandler for BootstrapSession {
    fn on_client_publish<'a>(&'a self, event: ClientPublishEvent) -> Later<'a, PublishAction> {
        Box::pin(async move {
            if self.ask(event).await.is_none() {
                self.stop.send_replace(true);
                std::future::pending::<()>().await;
            }
            PublishAction::Handled
        })
    }
}

async fn serve(
    stream: TlsStream<TcpStream>,
    peer: SocketAddr,
    config: Arc<BrokerConfig>,
    router: Arc<MessageRouter>,
    access: Arc<dyn AuthProvider>,
    mut stopped: watch::Receiver<bool>,
) {
    let (farewell, farewells) = broadcast::channel(1);
    let handler = ClientHandler::new(
        BrokerTransport::tls(TlsStreamWrapper::new(stream)),
        peer,
        config,
        router,
        access,
        None,
        Arc::new(BrokerStats::new()),
        Arc::new(ResourceMonitor::new(resource_limits())),
        farewells,
    );
    let mut run = pin!(handler.run());
    tokio::select! {
        ended = &mut run => return debug!(%peer, ?ended, "connection ended"),
        _ = stopped.wait_for(|stop| *stop) => {}
    }
    // The handler says goodbye if it listens; if it waits for the hub instead, its socket just closes.
    if farewell.send(()).is_err() || timeout(limits::FAREWELL, run).await.is_err() {
        debug!(%peer, "connection closed without a goodbye");
    }
}

/// No session outlives its connection, nothing is retained, every topic is exact.
fn config(packet_bytes: usize, events: Arc<dyn BrokerEventHandler>) -> Arc<BrokerConfig> {
    Arc::new(BrokerConfig {
        bind_addresses: Vec::new(),
        session_expiry_interval: Duration::ZERO,
        max_packet_size: packet_bytes,
        topic_alias_maximum: 0,
        retain_available: false,
        maximum_qos: 1,
        wildcard_subscription_available: false,
        subscription_identifier_available: false,
        shared_subscription_available: false,
        max_subscriptions_per_client: limits::SUBSCRIPTIONS,
        client_channel_capacity: limits::WAITING,
        max_outbound_inflight: limits::INFLIGHT,
        server_receive_maximum: Some(limits::INFLIGHT),
        sys_topics_enabled: false,
        event_handler: Some(events),
        ..BrokerConfig::default()
    })
}

fn router() -> MessageRouter {
    let waiting = QueueLimits { max_messages: limits::WAITING, max_bytes: limits::WAITING_BYTES };
    MessageRouter::new().with_fallback_queue_limits(waiting)
}

/// The crate's own defaults count all connections; ours are counted by the listener.
fn resource_limits() -> ResourceLimits {
    ResourceLimits {
        max_connections: 1,
        max_connections_per_ip: 1,
        max_message_rate_per_client: limits::MESSAGES_PER_WINDOW,
        max_bandwidth_per_client: limits::BYTES_PER_WINDOW,
        max_connection_rate: 1,
        rate_limit_window: limits::RATE_WINDOW,
    }
}
