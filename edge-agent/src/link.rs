//! The link to the hub: one MQTT connection at a time, opened again whenever it is lost.
//!
//! Nothing outlives a connection here. What was published on a lost one and not confirmed is forgotten, and
//! so are its messages and acknowledgements: the caller says hello on each connection and starts from what
//! its journal holds. With `link/`, the only file that knows the MQTT client, `rumqttc`: each connection has a
//! client of its own, since the crate would otherwise carry requests over from one to the next.

mod backoff;
mod connection;
mod exchange;

use std::{
    fmt, fs, io,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use protocol::{
    ids::ClusterId,
    topics::{Downward, Upward},
};
use rustls::ClientConfig;
use tokio::{
    sync::{Notify, mpsc, watch},
    time::{Instant, timeout},
};
use zeroize::Zeroizing;

use self::connection::{Connection, Current, End};
pub(crate) use self::exchange::{Exchange, exchange};
pub use self::{backoff::Backoff, exchange::ExchangeError};
use crate::tls::{self, TlsError};

/// Keepalive if nothing else is configured: a ping costs some 150 bytes with TLS and TCP, 22 KB a day.
pub const KEEPALIVE_SECONDS: u16 = 600;

/// Unconfirmed messages in flight, each way. More is of no use on a slow link, and each may be large.
pub const INFLIGHT: u16 = 32;

/// Events that may wait for the caller: all that can be in flight both ways, so that reading never stalls.
const EVENTS: usize = 2 * INFLIGHT as usize + 16;

/// A connection that lasted this long was a good one: the next failure is the first again.
const GOOD_AFTER: Duration = Duration::from_secs(60);

/// How long a goodbye may take.
const FAREWELL: Duration = Duration::from_secs(1);

/// Where the hub is and who this cluster is.
#[derive(Debug, Clone)]
pub struct LinkConfig {
    /// This cluster's id, as its certificate has it.
    pub cluster: ClusterId,
    /// The hub's host name or address, as its certificate has it.
    pub host: String,
    /// The hub's port for enrolled clusters.
    pub port: u16,
    /// The cluster's certificate and its private key (PEM). Read on each connect, so that a renewed one is used.
    pub identity: PathBuf,
    /// The CA the hub's certificate is verified against (PEM).
    pub trusted_ca: PathBuf,
    /// Seconds of silence after which either side pings.
    pub keepalive_seconds: u16,
    /// How long connecting may take, from name look-up to the hub's consent.
    pub connect_within: Duration,
    /// Waiting times between attempts.
    pub backoff: Backoff,
    /// Ends such a wait: there is a new certificate.
    pub renewed: Arc<Notify>,
}

/// What happens on the link, in order.
#[derive(Debug)]
pub enum LinkEvent {
    /// Connected, and subscribed to every topic of this cluster.
    Up {
        /// Counts attempts to connect; a later connection has a higher number.
        connection: u64,
    },
    /// Not connected: the connection was lost, or an attempt failed.
    Down {
        /// Why, for the log and the operator.
        reason: String,
        /// Whether it may be the certificate that the hub did not take.
        refused: bool,
        /// When the next attempt is made.
        retry_in: Duration,
    },
    /// The hub said something.
    Message {
        /// On which connection.
        connection: u64,
        /// What about.
        topic: Downward,
        /// The document as received.
        payload: Bytes,
        /// To be given to [`Link::ack`] once the message is recorded.
        ack: AckToken,
    },
    /// The hub has what was published.
    Published {
        /// As returned by [`Link::publish`].
        id: PublishId,
    },
    /// The hub refused what was published; trying again as it is is of no use.
    Refused {
        /// As returned by [`Link::publish`].
        id: PublishId,
        /// Why.
        reason: String,
    },
}

/// One thing published.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublishId(u64);

impl fmt::Display for PublishId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.0)
    }
}

/// The right to acknowledge one message, on the connection it came on.
#[derive(Debug)]
#[must_use = "a message is acknowledged only when its token is given to `Link::ack`"]
pub struct AckToken {
    connection: u64,
    ack: connection::Ack,
}

/// A link that could not start.
#[derive(Debug, thiserror::Error)]
pub enum LinkError {
    /// A file of the cluster's identity cannot be read.
    #[error("cannot read {path}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The files were read but are of no use.
    #[error("cannot set up TLS to the hub")]
    Tls(#[source] TlsError),
}

/// Something that was not published, and will not be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum PublishError {
    /// The connection it was meant for is not up, or not any more.
    #[error("the link to the hub is down")]
    Down,
    /// It is larger than the protocol allows.
    #[error("a message of {0} bytes is too large to publish")]
    TooLarge(usize),
}

/// The running link. Dropping it ends it as [`Link::stop`] does, without waiting for the end.
pub struct Link {
    cluster: ClusterId,
    current: Arc<Mutex<Option<Current>>>,
    published: AtomicU64,
    stopping: watch::Sender<bool>,
    ended: mpsc::Receiver<()>,
}

impl Link {
    /// Reads the cluster's identity and starts connecting, in a task of the current runtime.
    pub fn start(config: LinkConfig) -> Result<(Self, mpsc::Receiver<LinkEvent>), LinkError> {
        identity(&config)?;
        let (events, receiver) = mpsc::channel(EVENTS);
        let (stopping, stopped) = watch::channel(false);
        let (alive, ended) = mpsc::channel(1);
        let cluster = config.cluster.clone();
        let current = Arc::new(Mutex::new(None));
        let keeper = Keeper { config, events, current: Arc::clone(&current), stopped, _alive: alive };
        tokio::spawn(keeper.run());
        Ok((Self { cluster, current, published: AtomicU64::new(1), stopping, ended }, receiver))
    }

    /// Publishes on `connection` and on no other; waits while too much is unconfirmed. `Published` or
    /// `Refused` follows with the same id, or `Down`: then it may or may not have arrived.
    pub async fn publish(
        &self,
        connection: u64,
        topic: Upward,
        payload: Vec<u8>,
    ) -> Result<PublishId, PublishError> {
        if payload.len() > protocol::limits::MESSAGE_BYTES {
            return Err(PublishError::TooLarge(payload.len()));
        }
        let current = self.current().filter(|current| current.number() == connection);
        let id = PublishId(self.published.fetch_add(1, Ordering::Relaxed));
        current.ok_or(PublishError::Down)?.publish(id, topic.topic(&self.cluster), payload).await?;
        Ok(id)
    }

    /// Acknowledges a message. One of an earlier connection is ignored: the hub says it again.
    pub fn ack(&self, token: AckToken) {
        if let Some(current) = self.current().filter(|current| current.number() == token.connection) {
            current.acknowledge(token.ack);
        }
    }

    /// Says goodbye to the hub and ends.
    pub async fn stop(mut self) {
        self.stopping.send_replace(true);
        // Nothing is ever sent; the channel closes when the task is gone.
        let _closed = self.ended.recv().await;
    }

    fn current(&self) -> Option<Current> {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}

/// Keeps a connection open.
struct Keeper {
    config: LinkConfig,
    events: mpsc::Sender<LinkEvent>,
    current: Arc<Mutex<Option<Current>>>,
    stopped: watch::Receiver<bool>,
    _alive: mpsc::Sender<()>,
}

impl Keeper {
    async fn run(mut self) {
        let mut failures = 0_u32;
        for number in 1.. {
            let started = Instant::now();
            let End { reason, refused } = self.connect(number).await;
            self.current.lock().unwrap_or_else(PoisonError::into_inner).take();
            failures = if started.elapsed() >= GOOD_AFTER { 1 } else { failures.saturating_add(1) };
            let retry_in = self.config.backoff.delay(failures);
            if self.events.send(LinkEvent::Down { reason, refused, retry_in }).await.is_err() {
                return;
            }
            tokio::select! {
                () = until_stopped(&mut self.stopped) => return,
                _ = timeout(retry_in, self.config.renewed.notified()) => {}
            }
        }
    }

    /// Runs one connection and says why it ended.
    async fn connect(&mut self, number: u64) -> End {
        let tls = match identity(&self.config) {
            Ok(tls) => tls,
            Err(error) => return End { reason: chain(&error), refused: false },
        };
        let connection =
            Connection { config: &self.config, events: &self.events, current: &self.current, number };
        connection.run(tls, self.stopped.clone()).await
    }
}

/// Returns when the link is stopped or dropped.
async fn until_stopped(stopped: &mut watch::Receiver<bool>) {
    // An error says that the link was dropped.
    let _stopped = stopped.wait_for(|stop| *stop).await;
}

fn identity(config: &LinkConfig) -> Result<Arc<ClientConfig>, LinkError> {
    let ca = read(&config.trusted_ca)?;
    let identity = Zeroizing::new(read(&config.identity)?);
    tls::enrolled(&ca, &identity, &identity).map_err(LinkError::Tls)
}

fn read(path: &Path) -> Result<Vec<u8>, LinkError> {
    fs::read(path).map_err(|source| LinkError::Read { path: path.to_owned(), source })
}

/// An error and its causes in one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        // Many errors repeat their cause in their own text.
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    text
}
