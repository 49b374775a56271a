//! One question and its answer, on a connection made for it: how a cluster that is not enrolled yet speaks.

use std::{sync::Arc, time::Duration};

use bytes::Bytes;
use rumqttc::{
    AsyncClient, ClientError, Event, EventLoop, MqttOptions, Packet, PublishOptions, QoS,
    SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::ClientConfig;
use tokio::time::timeout;

/// Largest answer: a certificate, the CA and a root document.
const PACKET_BYTES: u32 = protocol::limits::MESSAGE_BYTES as u32 + 1024;

/// Packets under way: one subscription, one question, one goodbye.
const REQUESTS: usize = 4;

/// Silence is no news here: the deadline of the exchange is much shorter.
const KEEPALIVE_SECONDS: u16 = 60;

/// What to ask, and where.
pub(crate) struct Exchange<'a> {
    pub(crate) host: &'a str,
    pub(crate) port: u16,
    pub(crate) client: &'a str,
    pub(crate) ask: &'a str,
    pub(crate) answer: &'a str,
    pub(crate) within: Duration,
}

/// An exchange that brought no answer.
#[derive(Debug, thiserror::Error)]
pub enum ExchangeError {
    /// The crate refused the request before sending it.
    #[error("cannot send the question")]
    Send(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The connection was not made or was lost.
    #[error("the connection was refused or lost")]
    Lost(#[source] Box<dyn std::error::Error + Send + Sync>),
    /// The hub would not let the answer be read.
    #[error("the hub refused the subscription to the answer")]
    NotSubscribed,
    /// Time is up.
    #[error("no answer within {0:?}")]
    Late(Duration),
}

/// Connects, subscribes to the answer, asks, and returns the first answer.
pub(crate) async fn exchange(
    what: &Exchange<'_>,
    tls: Arc<ClientConfig>,
    question: Vec<u8>,
) -> Result<Bytes, ExchangeError> {
    let mut options = MqttOptions::new(what.client, (what.host, what.port));
    options
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(tls)))
        .set_connect_timeout(what.within)
        .set_keep_alive(KEEPALIVE_SECONDS)
        .set_clean_start(true)
        .set_max_packet_size(Some(PACKET_BYTES));
    let (client, eventloop) = AsyncClient::builder(options).capacity(REQUESTS).build();
    let answered = converse(what, &client, eventloop, question);
    timeout(what.within, answered).await.map_err(|_| ExchangeError::Late(what.within))?
}

async fn converse(
    what: &Exchange<'_>,
    client: &AsyncClient,
    mut eventloop: EventLoop,
    question: Vec<u8>,
) -> Result<Bytes, ExchangeError> {
    let sending = |error: ClientError| ExchangeError::Send(Box::new(error));
    client.try_subscribe(what.answer, QoS::AtLeastOnce).map_err(sending)?;
    let mut question = Some(question);
    loop {
        let event = eventloop.poll().await.map_err(|error| ExchangeError::Lost(Box::new(error)))?;
        let Event::Incoming(packet) = event else {
            continue;
        };
        if let Packet::SubAck(granted) = packet {
            if !matches!(granted.return_codes.as_slice(), [SubscribeReasonCode::Success(_)]) {
                return Err(ExchangeError::NotSubscribed);
            }
            if let Some(question) = question.take() {
                let options = PublishOptions::at_least_once();
                client.try_publish(what.ask, question, options).map_err(sending)?;
            }
        } else if let Packet::Publish(message) = packet
            && message.topic == what.answer.as_bytes()
        {
            return Ok(message.payload);
        }
    }
}
