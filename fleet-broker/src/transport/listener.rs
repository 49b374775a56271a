//! Accepting connections: a bounded number of handshakes, each in a task of its own and on time.

use std::{
    net::{IpAddr, SocketAddr},
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use tokio::{
    net::{TcpListener, TcpStream},
    sync::{mpsc, watch},
    time::{Instant, timeout},
};
use tokio_rustls::{TlsAcceptor, server::TlsStream};
use tracing::{debug, warn};

use super::{
    Named,
    gate::{Gate, Rate},
    limits,
    presence::Presence,
    session, tls,
};

/// What both listeners share while they run.
#[derive(Clone)]
pub(super) struct Running {
    pub(super) presence: Arc<Presence>,
    /// Turns true when the transport stops; every task ends then.
    pub(super) stopping: watch::Receiver<bool>,
    /// Held by every task, so that the last one to end closes the channel.
    pub(super) alive: mpsc::Sender<()>,
}

impl Running {
    /// Runs `task` until it ends or the transport stops.
    fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut running = self.clone();
        tokio::spawn(async move {
            tokio::select! {
                () = task => {}
                _ = running.stopping.wait_for(|stop| *stop) => {}
            }
            drop(running.alive);
        });
    }
}

/// The listener of enrolled clusters.
pub(super) struct ClusterListener {
    pub(super) listener: TcpListener,
    pub(super) acceptor: TlsAcceptor,
    pub(super) connections: Arc<Gate>,
    pub(super) acknowledge_within: Duration,
}

impl ClusterListener {
    pub(super) fn run(self, running: &Running) {
        let handshakes = Gate::new(limits::HANDSHAKES, limits::HANDSHAKES_PER_ADDRESS);
        let inner = running.clone();
        running.spawn(async move {
            loop {
                let (stream, peer) = accept(&self.listener).await;
                let (Some(pass), Some(seat)) =
                    (handshakes.enter(peer.ip()), self.connections.enter(peer.ip()))
                else {
                    debug!(%peer, "too many connections: closed");
                    continue;
                };
                let acceptor = self.acceptor.clone();
                let presence = Arc::clone(&inner.presence);
                let acknowledge_within = self.acknowledge_within;
                inner.spawn(async move {
                    let _seat = seat;
                    let handshaken = handshake(acceptor, stream, peer).await;
                    drop(pass);
                    let Some(stream) = handshaken else {
                        return;
                    };
                    let Some(who) = named(&stream, peer) else {
                        return;
                    };
                    session::serve_cluster(stream, peer, who, presence, acknowledge_within).await;
                });
            }
        });
    }
}

/// The listener of those who enrol.
pub(super) struct BootstrapListener {
    pub(super) listener: TcpListener,
    pub(super) acceptor: TlsAcceptor,
}

impl BootstrapListener {
    pub(super) fn run(self, running: &Running) {
        let gate = Gate::new(limits::BOOTSTRAPS, limits::BOOTSTRAPS_PER_ADDRESS);
        let rate = Rate::new(limits::BOOTSTRAPS_PER_WINDOW, limits::RATE_WINDOW, limits::BOOTSTRAP_ADDRESSES);
        let rate = Mutex::new(rate);
        let inner = running.clone();
        running.spawn(async move {
            loop {
                let (stream, peer) = accept(&self.listener).await;
                let Some(pass) = gate.enter(peer.ip()).filter(|_| allow(&rate, peer.ip())) else {
                    debug!(%peer, "too many enrolments: closed");
                    continue;
                };
                let acceptor = self.acceptor.clone();
                let presence = Arc::clone(&inner.presence);
                inner.spawn(async move {
                    let _pass = pass;
                    if let Some(stream) = handshake(acceptor, stream, peer).await {
                        session::serve_bootstrap(stream, peer, presence).await;
                    }
                });
            }
        });
    }
}

async fn accept(listener: &TcpListener) -> (TcpStream, SocketAddr) {
    loop {
        match listener.accept().await {
            Ok(accepted) => return accepted,
            Err(error) => {
                warn!(%error, "cannot accept a connection");
                // Nothing tells when there is room again, so the listener looks again after a while.
                let _elapsed = timeout(limits::ACCEPT_PAUSE, std::future::pending::<()>()).await;
            }
        }
    }
}

fn allow(rate: &Mutex<Rate>, peer: IpAddr) -> bool {
    rate.lock().unwrap_or_else(PoisonError::into_inner).allow(peer, Instant::now())
}

async fn handshake(
    acceptor: TlsAcceptor,
    stream: TcpStream,
    peer: SocketAddr,
) -> Option<TlsStream<TcpStream>> {
    if let Err(error) = stream.set_nodelay(true) {
        debug!(%peer, %error, "cannot switch off Nagle's algorithm");
    }
    match timeout(limits::HANDSHAKE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            warn!(%peer, %error, "TLS handshake failed");
            None
        }
        Err(_) => {
            debug!(%peer, "TLS handshake took too long");
            None
        }
    }
}

/// Whom a connection's certificate names.
fn named(stream: &TlsStream<TcpStream>, peer: SocketAddr) -> Option<Named> {
    let certificate = stream.get_ref().1.peer_certificates()?.first()?;
    match tls::named(certificate) {
        Ok(who) => Some(who),
        Err(error) => {
            warn!(%peer, %error, "refused a client certificate");
            None
        }
    }
}
