//! A broker that is not to be trusted. It stands between an agent and its hub, reads everything, holds back what it
//! likes, and says what it likes.

use std::{
    collections::BTreeSet,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, Mutex},
    time::Duration,
};

use anyhow::{Context as _, Result};
use bytes::Bytes;
use edge_agent::{
    config::StateDir,
    link::{Backoff, KEEPALIVE_SECONDS, Link, LinkConfig, LinkEvent},
};
use edgefleet::clock;
use fleet_broker::{
    pki::CertificateAuthority,
    presented::Presented,
    transport::{Transport, TransportConfig, TransportEvent},
};
use jiff::Timestamp;
use protocol::{
    codec,
    cose::Envelope,
    documents::{Document as _, Hello},
    ids::ClusterId,
    topics::{Downward, Upward},
};
use tests::wait_for;
use tokio::{sync::mpsc, task::JoinSet};

use crate::harness::SOON;

/// Events that may wait; a test has few.
const EVENTS: usize = 64;

/// A running relay. It ends when it is dropped.
pub(crate) struct Relay {
    cluster: ClusterId,
    transport: Arc<Transport>,
    memory: Arc<Mutex<Memory>>,
    _carrier: JoinSet<()>,
}

/// What the relay knows and does.
#[derive(Default)]
struct Memory {
    /// What the hub said.
    heard: Vec<(Downward, Vec<u8>)>,
    /// What of it does not reach the agent.
    withheld: BTreeSet<Downward>,
    /// The agent's last hello.
    hello: Vec<u8>,
}

impl Relay {
    /// Starts a relay that passes everything on. It has the hub's certificate authority, as whoever runs the hub's
    /// broker has its certificate, and says to the hub that it is the agent of `state`.
    pub(crate) async fn start(
        authority: &CertificateAuthority,
        hub: SocketAddr,
        cluster: ClusterId,
        state: &StateDir,
    ) -> Result<Self> {
        let now = Timestamp::from_second(i64::try_from(clock::now().0)?)?;
        let config = TransportConfig {
            clusters: SocketAddr::from((Ipv4Addr::LOCALHOST, 0)),
            bootstrap: None,
            shown: Presented::new(authority.server_identity(&["127.0.0.1".to_owned()], now)?)?,
            client_ca: authority.certificate().clone(),
            is_accepted: Arc::new(|_| true),
            connections_max: EVENTS,
            acknowledge_within: SOON,
        };
        let (sender, events) = mpsc::channel(EVENTS);
        let transport = Arc::new(Transport::start(config, sender).await?);
        let memory = Arc::<Mutex<Memory>>::default();
        let carrier = Carrier {
            hub: LinkConfig {
                cluster: cluster.clone(),
                host: "127.0.0.1".to_owned(),
                port: hub.port(),
                identity: state.connection(),
                trusted_ca: state.ca(),
                keepalive_seconds: KEEPALIVE_SECONDS,
                connect_within: SOON,
                backoff: Backoff { first: Duration::from_millis(50), cap: SOON, seed: 0 },
                renewed: Arc::default(),
            },
            transport: Arc::clone(&transport),
            memory: Arc::clone(&memory),
            up: None,
        };
        let mut tasks = JoinSet::new();
        tasks.spawn(carrier.run(events));
        Ok(Self { cluster, transport, memory, _carrier: tasks })
    }

    /// Where it listens for the agent.
    pub(crate) fn address(&self) -> SocketAddr {
        self.transport.addresses().clusters
    }

    /// Keeps what the hub says on these topics from the agent from now on, and passes on the others.
    pub(crate) fn withhold(&self, topics: &[Downward]) {
        self.memory.lock().expect("no panic").withheld = topics.iter().copied().collect();
    }

    /// All that the hub has said on a topic, oldest first.
    pub(crate) fn heard(&self, topic: Downward) -> Vec<Vec<u8>> {
        let memory = self.memory.lock().expect("no panic");
        memory.heard.iter().filter(|(on, _)| *on == topic).map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Waits for what the hub says on a topic after `seen` messages, and returns the last of it.
    pub(crate) async fn hears(&self, topic: Downward, seen: usize) -> Result<Vec<u8>> {
        wait_for(&format!("a word of the hub on {topic:?}"), SOON, async || {
            let heard = self.heard(topic);
            heard.get(seen..).and_then(<[_]>::last).cloned().with_context(|| format!("{} heard", heard.len()))
        })
        .await
    }

    /// Says something to the agent.
    pub(crate) async fn say(&self, topic: Downward, bytes: &[u8]) -> Result<()> {
        Ok(self.transport.push(&self.cluster, topic, Bytes::copy_from_slice(bytes)).await?)
    }

    /// Ends the agent's connection.
    pub(crate) fn kick(&self) {
        self.transport.kick(&self.cluster);
    }

    /// What the agent said when it connected last.
    pub(crate) fn hello(&self) -> Result<Hello> {
        let memory = self.memory.lock().expect("no panic");
        let envelope = Envelope::parse_one(Hello::TYPE, &memory.hello)?;
        Ok(codec::decode("hello", envelope.claimed_payload())?)
    }
}

/// Carries messages between the agent and the hub.
struct Carrier {
    hub: LinkConfig,
    transport: Arc<Transport>,
    memory: Arc<Mutex<Memory>>,
    up: Option<Up>,
}

/// The connection to the hub, made anew with each of the agent's.
struct Up {
    link: Link,
    events: mpsc::Receiver<LinkEvent>,
    connection: u64,
}

impl Carrier {
    async fn run(mut self, mut agent: mpsc::Receiver<TransportEvent>) {
        loop {
            tokio::select! {
                said = agent.recv() => match said {
                    Some(TransportEvent::Message { topic, payload, done, .. }) => {
                        self.upward(topic, payload.to_vec()).await;
                        // The connection has ended if nobody takes it.
                        let _taken = done.send(());
                    }
                    Some(TransportEvent::Gone { .. }) => self.up = None,
                    Some(TransportEvent::Connected { .. } | TransportEvent::EnrolAsk { .. }) => {}
                    None => return,
                },
                said = next(&mut self.up) => match said {
                    Some(LinkEvent::Message { topic, payload, ack, .. }) => {
                        self.downward(topic, payload).await;
                        if let Some(up) = &self.up {
                            up.link.ack(ack);
                        }
                    }
                    // The agent learns that the hub is away, and connects again.
                    Some(LinkEvent::Down { .. }) | None => {
                        self.up = None;
                        self.transport.kick(&self.hub.cluster);
                    }
                    Some(LinkEvent::Up { .. } | LinkEvent::Published { .. } | LinkEvent::Refused { .. }) => {}
                },
            }
        }
    }

    async fn upward(&mut self, topic: Upward, bytes: Vec<u8>) {
        if topic == Upward::Hello && !bytes.is_empty() {
            self.memory.lock().expect("no panic").hello.clone_from(&bytes);
            self.up = connect(&self.hub).await;
        }
        if let Some(up) = &self.up {
            // A link that is down says so by itself.
            let _sent = up.link.publish(up.connection, topic, bytes).await;
        }
    }

    async fn downward(&self, topic: Downward, payload: Bytes) {
        let withheld = {
            let mut memory = self.memory.lock().expect("no panic");
            memory.heard.push((topic, payload.to_vec()));
            memory.withheld.contains(&topic)
        };
        if !withheld {
            // An agent that has just gone says hello again.
            let _pushed = self.transport.push(&self.hub.cluster, topic, payload).await;
        }
    }
}

/// What comes from the hub; nothing while there is no connection.
async fn next(up: &mut Option<Up>) -> Option<LinkEvent> {
    match up {
        Some(up) => up.events.recv().await,
        None => std::future::pending().await,
    }
}

async fn connect(hub: &LinkConfig) -> Option<Up> {
    let (link, mut events) = Link::start(hub.clone()).ok()?;
    loop {
        if let LinkEvent::Up { connection } = events.recv().await? {
            return Some(Up { link, events, connection });
        }
    }
}
