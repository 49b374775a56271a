//! What passes between an agent and its hub, whatever carries it: MQTT, or a channel to a hub in the same
//! process.

use tokio::{
    sync::{mpsc, watch},
    task::JoinHandle,
};
use tracing::{debug, warn};

use protocol::{
    documents::Condition,
    topics::{Downward, Upward},
};

use crate::link::{AckToken, Link, LinkConfig, LinkError, LinkEvent, PublishError};

/// Messages that may wait, each way. The agent drops what it would publish beyond: messages say what is, and
/// what is lost is said again with the next heartbeat.
const WAITING: usize = 64;

/// What comes from the hub's side, in order.
#[derive(Debug)]
pub enum FromHub {
    /// The hub can be spoken to. What was said before is void.
    Up,
    /// It cannot.
    Down {
        /// Why, and what happens next.
        reason: String,
    },
    /// What is wrong with renewing the certificate, from now on; nothing if it was renewed.
    Certificate(Option<Condition>),
    /// The hub said something.
    Message {
        /// What about.
        topic: Downward,
        /// What.
        bytes: Vec<u8>,
        /// Given back once what the message caused is on disk.
        receipt: Receipt,
    },
}

/// What goes to the hub's side, in order.
#[derive(Debug)]
pub enum ToHub {
    /// A message for the hub.
    Publish {
        /// What about.
        topic: Upward,
        /// What.
        bytes: Vec<u8>,
    },
    /// What a message caused is on disk.
    Acknowledge(Receipt),
    /// Starts over: [`FromHub::Down`] follows, and then [`FromHub::Up`]. Messages before it were not recorded.
    Reconnect,
}

/// Stands for one message until it is recorded.
#[derive(Debug, Default)]
pub struct Receipt(Option<AckToken>);

/// The agent's side.
#[derive(Debug)]
pub struct Uplink {
    pub(crate) events: mpsc::Receiver<FromHub>,
    pub(crate) commands: mpsc::Sender<ToHub>,
}

/// The hub's side.
#[derive(Debug)]
pub struct HubSide {
    /// To the agent.
    pub events: mpsc::Sender<FromHub>,
    /// From the agent.
    pub commands: mpsc::Receiver<ToHub>,
}

/// Both sides of a new uplink, for a hub in the same process.
pub fn channel() -> (Uplink, HubSide) {
    let (to_agent, events) = mpsc::channel(WAITING);
    let (commands, from_agent) = mpsc::channel(WAITING);
    (Uplink { events, commands }, HubSide { events: to_agent, commands: from_agent })
}

/// What the hub thinks of the certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum HubWord {
    /// It was not asked yet.
    #[default]
    Nothing,
    /// A connection came up with it.
    Welcome,
    /// The last attempt failed, and it may be the reason.
    NotThisCertificate,
}

/// Tells the agent how it is with its certificate, as long as there is a link.
pub(crate) struct Notices(mpsc::WeakSender<FromHub>);

impl Notices {
    pub(crate) async fn certificate(&self, trouble: Option<Condition>) {
        if let Some(agent) = self.0.upgrade() {
            // The agent is gone if this fails.
            let _sent = agent.send(FromHub::Certificate(trouble)).await;
        }
    }
}

/// An uplink over MQTT.
pub(crate) struct OverMqtt {
    pub(crate) uplink: Uplink,
    /// Ends, with a goodbye to the hub, when the uplink is dropped.
    pub(crate) carrier: JoinHandle<()>,
    pub(crate) word: watch::Receiver<HubWord>,
    pub(crate) notices: Notices,
}

/// Starts a link, and what carries it to the agent.
pub(crate) fn over_mqtt(config: LinkConfig) -> Result<OverMqtt, LinkError> {
    let (uplink, hub) = channel();
    let (to_renewer, word) = watch::channel(HubWord::Nothing);
    let notices = Notices(hub.events.downgrade());
    let (link, events) = Link::start(config.clone())?;
    let carrier = Carrier { config, link, events, hub, word: to_renewer, connection: None };
    Ok(OverMqtt { uplink, carrier: tokio::spawn(carrier.run()), word, notices })
}

struct Carrier {
    config: LinkConfig,
    link: Link,
    events: mpsc::Receiver<LinkEvent>,
    hub: HubSide,
    word: watch::Sender<HubWord>,
    connection: Option<u64>,
}

enum Came {
    Link(Option<LinkEvent>),
    Agent(Option<ToHub>),
}

impl Carrier {
    async fn run(mut self) {
        loop {
            let came = tokio::select! {
                event = self.events.recv() => Came::Link(event),
                command = self.hub.commands.recv() => Came::Agent(command),
            };
            match came {
                Came::Link(Some(event)) => self.hear(event).await,
                Came::Agent(Some(ToHub::Publish { topic, bytes })) => self.publish(topic, bytes).await,
                Came::Agent(Some(ToHub::Acknowledge(receipt))) => {
                    receipt.0.into_iter().for_each(|token| self.link.ack(token));
                }
                Came::Agent(Some(ToHub::Reconnect)) => match self.reconnect().await {
                    Some(carrier) => self = carrier,
                    None => return,
                },
                Came::Link(None) | Came::Agent(None) => return self.link.stop().await,
            }
        }
    }

    async fn hear(&mut self, event: LinkEvent) {
        let told = match event {
            LinkEvent::Up { connection } => {
                self.connection = Some(connection);
                self.word.send_replace(HubWord::Welcome);
                FromHub::Up
            }
            LinkEvent::Down { reason, refused, retry_in } => {
                self.connection = None;
                if refused {
                    self.word.send_replace(HubWord::NotThisCertificate);
                }
                FromHub::Down { reason: format!("{reason}; next attempt in {} s", retry_in.as_secs()) }
            }
            LinkEvent::Message { topic, payload, ack, .. } => {
                FromHub::Message { topic, bytes: payload.into(), receipt: Receipt(Some(ack)) }
            }
            LinkEvent::Published { id } => return debug!(%id, "the hub has a message"),
            LinkEvent::Refused { id, reason } => return warn!(%id, reason, "the hub refused a message"),
        };
        // The agent is gone if this fails; the next command says so.
        let _sent = self.hub.events.send(told).await;
    }

    async fn publish(&self, topic: Upward, bytes: Vec<u8>) {
        let Some(connection) = self.connection else { return };
        match self.link.publish(connection, topic, bytes).await {
            Ok(_) | Err(PublishError::Down) => {}
            Err(error @ PublishError::TooLarge(_)) => warn!(?topic, %error, "a message was not sent"),
        }
    }

    async fn reconnect(self) -> Option<Self> {
        let Self { config, link, hub, word, .. } = self;
        link.stop().await;
        let down = FromHub::Down { reason: "connecting anew".to_owned() };
        let _sent = hub.events.send(down).await;
        match Link::start(config.clone()) {
            Ok((link, events)) => Some(Self { config, link, events, hub, word, connection: None }),
            Err(error) => {
                warn!(%error, "the link to the hub cannot be started again");
                None
            }
        }
    }
}
