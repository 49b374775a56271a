//! One connection, from connecting to its end.

use std::{
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use futures::{StreamExt as _, stream::FuturesUnordered};
use protocol::topics::{self, Downward, Upward};
use rumqttc::{
    AckMode, AsyncClient, ConnectionError, Event, EventLoop, LastWill, ManualAck, MqttOptions,
    NetworkOptions, Packet, Publish, PublishNotice, PublishNoticeError, PublishOptions, QoS, SubAck,
    SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::{
    sync::{OwnedSemaphorePermit, Semaphore, mpsc, watch},
    time::timeout,
};
use tracing::warn;

use super::{
    AckToken, FAREWELL, INFLIGHT, LinkConfig, LinkEvent, PublishError, PublishId, chain, until_stopped,
};

/// Requests that may wait for the socket: all acknowledgements and all publications in flight.
const REQUESTS: usize = 2 * INFLIGHT as usize;

/// Largest packet: the protocol's largest payload plus a topic and MQTT's own headers.
const PACKET_BYTES: u32 = protocol::limits::MESSAGE_BYTES as u32 + 1024;

/// What acknowledges one message; none for a message that needs no acknowledgement.
pub(super) type Ack = Option<ManualAck>;

/// The handle of the connection that is up.
#[derive(Clone)]
pub(super) struct Current {
    number: u64,
    client: AsyncClient,
    window: Arc<Semaphore>,
    unconfirmed: mpsc::Sender<Unconfirmed>,
}

impl Current {
    pub(super) fn number(&self) -> u64 {
        self.number
    }

    pub(super) async fn publish(
        &self,
        id: PublishId,
        topic: String,
        payload: Vec<u8>,
    ) -> Result<(), PublishError> {
        let window = Arc::clone(&self.window);
        let place = window.acquire_owned().await.map_err(|_| PublishError::Down)?;
        let notice = self
            .client
            .try_publish_tracked(topic, payload, PublishOptions::at_least_once())
            .map_err(|_| PublishError::Down)?;
        self.unconfirmed.try_send(Unconfirmed { id, notice, _place: place }).map_err(|_| PublishError::Down)
    }

    pub(super) fn acknowledge(&self, ack: Ack) {
        // It fails only when the connection is lost, and then there is nothing to acknowledge any more.
        if let Some(ack) = ack
            && let Err(error) = self.client.try_manual_ack(ack)
        {
            warn!(%error, "cannot acknowledge a message of the hub");
        }
    }
}

/// A publication whose confirmation is awaited. It holds its place in the window until then.
struct Unconfirmed {
    id: PublishId,
    notice: PublishNotice,
    _place: OwnedSemaphorePermit,
}

impl Unconfirmed {
    async fn outcome(self) -> (PublishId, Result<(), PublishNoticeError>) {
        (self.id, self.notice.wait_completion_async().await)
    }
}

/// How a connection ended, or did not come about.
pub(super) struct End {
    pub(super) reason: String,
    /// Whether it may be the certificate that the hub did not take.
    pub(super) refused: bool,
}

/// One connection being made, used and lost.
pub(super) struct Connection<'a> {
    pub(super) config: &'a LinkConfig,
    pub(super) events: &'a mpsc::Sender<LinkEvent>,
    pub(super) current: &'a Mutex<Option<Current>>,
    pub(super) number: u64,
}

impl Connection<'_> {
    /// Runs until the connection ends, and says why it did.
    pub(super) async fn run(&self, tls: Arc<ClientConfig>, stopped: watch::Receiver<bool>) -> End {
        let built = AsyncClient::builder(options(self.config, tls)).capacity(REQUESTS).try_build();
        let (client, eventloop) = match built {
            Ok(built) => built,
            Err(error) => return End::other(chain(&error)),
        };
        let (unconfirmed, confirmations) = mpsc::channel(usize::from(INFLIGHT));
        let window = Arc::new(Semaphore::new(usize::from(INFLIGHT)));
        let handle = Current { number: self.number, client, window, unconfirmed };
        let end = self.drive(&handle, eventloop, confirmations, stopped).await;
        // Whoever waits for a place in the window learns that there will be none.
        handle.window.close();
        end
    }

    async fn drive(
        &self,
        handle: &Current,
        mut eventloop: EventLoop,
        mut unconfirmed: mpsc::Receiver<Unconfirmed>,
        mut stopped: watch::Receiver<bool>,
    ) -> End {
        let mut outcomes = FuturesUnordered::new();
        let mut farewell = None;
        let mut welcome = false;
        loop {
            // Polling is not cancelled for what else happens: the crate may be half way through a write.
            let polled = {
                let mut poll = pin!(eventloop.poll());
                loop {
                    tokio::select! {
                        polled = &mut poll => break Some(polled),
                        Some(published) = unconfirmed.recv() => outcomes.push(published.outcome()),
                        Some((id, outcome)) = outcomes.next() => self.confirm(id, outcome).await,
                        () = until_stopped(&mut stopped) => break None,
                    }
                }
            };
            let Some(polled) = polled else {
                return End::other(say_goodbye(handle, eventloop).await);
            };
            match polled {
                Ok(event) => {
                    welcome |= matches!(event, Event::Incoming(Packet::ConnAck(_)));
                    if let Some(reason) = self.handle(handle, event, &mut farewell).await {
                        return End::other(reason);
                    }
                }
                Err(error) => {
                    let reason = farewell.take().unwrap_or_else(|| self.reason(&error));
                    return End { reason, refused: !welcome && may_be_refusal(&error) };
                }
            }
        }
    }

    async fn confirm(&self, id: PublishId, outcome: Result<(), PublishNoticeError>) {
        let event = match outcome {
            Ok(()) => LinkEvent::Published { id },
            Err(PublishNoticeError::V5PubAck(reason)) => {
                LinkEvent::Refused { id, reason: format!("the hub refused it: {reason:?}") }
            }
            // Lost with the connection, whose end is told next.
            Err(_) => return,
        };
        self.tell(event).await;
    }

    /// Handles one event; returns why the connection must end, if it must.
    async fn handle(&self, handle: &Current, event: Event, farewell: &mut Option<String>) -> Option<String> {
        let Event::Incoming(packet) = event else {
            return None;
        };
        if let Packet::ConnAck(_) = packet {
            return self.subscribe(handle);
        }
        if let Packet::SubAck(answer) = packet {
            return self.subscribed(handle, &answer).await;
        }
        if let Packet::Publish(message) = packet {
            self.received(handle, message).await;
        } else if let Packet::Disconnect(goodbye) = packet {
            *farewell = Some(format!("the hub closed the connection: {:?}", goodbye.reason_code));
        }
        None
    }

    fn subscribe(&self, handle: &Current) -> Option<String> {
        let filter =
            |topic: Downward| SubscribeFilter::new(topic.topic(&self.config.cluster), QoS::AtLeastOnce);
        let sent = handle.client.try_subscribe_many(Downward::ALL.map(filter));
        sent.err().map(|error| chain(&error))
    }

    async fn subscribed(&self, handle: &Current, answer: &SubAck) -> Option<String> {
        let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
        if answer.return_codes.len() != Downward::ALL.len()
            || answer.return_codes.iter().any(|code| *code != granted)
        {
            return Some(format!("the hub refused a subscription: {:?}", answer.return_codes));
        }
        self.current.lock().unwrap_or_else(PoisonError::into_inner).replace(handle.clone());
        self.tell(LinkEvent::Up { connection: self.number }).await;
        None
    }

    async fn received(&self, handle: &Current, message: Publish) {
        let ack = handle.client.prepare_ack(&message);
        let topic = std::str::from_utf8(&message.topic).unwrap_or("(not UTF-8)");
        let own = topics::parse_downward(topic).ok().filter(|(cluster, _)| *cluster == self.config.cluster);
        let Some((_, topic)) = own else {
            // Not asked for: taken off the window, and not passed on.
            warn!(topic, "the broker sent a message that is not for this cluster");
            return handle.acknowledge(ack);
        };
        let ack = AckToken { connection: self.number, ack };
        self.tell(LinkEvent::Message { connection: self.number, topic, payload: message.payload, ack }).await;
    }

    async fn tell(&self, event: LinkEvent) {
        // The caller is gone if this fails; the link is then being dropped.
        let _sent = self.events.send(event).await;
    }

    fn reason(&self, error: &ConnectionError) -> String {
        let hub = format!("{}:{}", self.config.host, self.config.port);
        if let ConnectionError::Io(error) = error {
            return format!("cannot reach {hub}: {}", chain(error));
        }
        if let ConnectionError::Tls(error) = error {
            return format!("no trusted TLS connection to {hub}: {}", chain(error));
        }
        if let ConnectionError::Timeout(_) = error {
            return format!("{hub} did not answer in time");
        }
        if let ConnectionError::ConnectionRefused(code) = error {
            return format!(
                "{hub} refused this cluster ({code:?}): it is revoked, not accepted, or not registered there. What runs \
                 here goes on; ask the hub's operator"
            );
        }
        format!("the connection to {hub} was lost: {}", chain(error))
    }
}

impl End {
    fn other(reason: String) -> Self {
        Self { reason, refused: false }
    }
}

/// Whether a connection that the hub did not welcome may have failed for this cluster's certificate. With TLS 1.3 the hub
/// judges it after the client thinks that all is well, and its alert comes as text of the crate's, or is lost where the
/// connection is reset before it is read: so whatever ends a connection that was made, before the welcome, counts.
fn may_be_refusal(error: &ConnectionError) -> bool {
    matches!(error, ConnectionError::MqttState(_) | ConnectionError::ConnectionRefused(_))
}

async fn say_goodbye(handle: &Current, mut eventloop: EventLoop) -> String {
    if handle.client.try_disconnect_now().is_ok() {
        let drained = async { while eventloop.poll().await.is_ok() {} };
        if timeout(FAREWELL, drained).await.is_err() {
            warn!("the hub was left without a goodbye");
        }
    }
    "stopped".to_owned()
}

fn options(config: &LinkConfig, tls: Arc<ClientConfig>) -> MqttOptions {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut options = MqttOptions::new(config.cluster.as_str(), (config.host.as_str(), config.port));
    let will = LastWill::new(Upward::Hello.topic(&config.cluster), Vec::new(), QoS::AtLeastOnce, false, None);
    options
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)))
        .set_network_options(network)
        .set_connect_timeout(config.connect_within)
        .set_username(config.cluster.as_str())
        .set_keep_alive(config.keepalive_seconds)
        .set_clean_start(true)
        .set_last_will(will)
        .set_ack_mode(AckMode::Manual)
        .set_receive_maximum(Some(INFLIGHT))
        .set_outgoing_inflight_upper_limit(INFLIGHT)
        .set_max_packet_size(Some(PACKET_BYTES));
    options
}
