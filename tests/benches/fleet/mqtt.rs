//! A light client's connection, by the crate that the agent's link is made with. It speaks to a hub and to Mosquitto
//! alike.

use std::{cell::Cell, net::SocketAddr, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, bail, ensure};
use bytes::Bytes;
use rumqttc::{
    AckMode, AsyncClient, Event, EventLoop, MqttOptions, NetworkOptions, Packet, Publish, PublishOptions,
    QoS, SubscribeFilter, SubscribeReasonCode, TlsConfiguration, Transport,
};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _};

/// Silence after which a client would have to ping: longer than any round.
const KEEPALIVE_SECONDS: u16 = 3600;

/// Longest wait for a connection: many are made at once, on a machine that may be busy.
const CONNECT_WITHIN: Duration = Duration::from_secs(60);

/// Messages in flight each way: what the hub allows.
const INFLIGHT: u16 = 32;

/// Whom a client trusts and who it is.
pub(crate) struct Identity<'a> {
    pub(crate) name: &'a str,
    pub(crate) ca: &'a CertificateDer<'static>,
    /// Certificate and key.
    pub(crate) pem: &'a str,
}

impl Identity<'_> {
    /// No session is resumed: each client connects once, and would keep what to resume from.
    fn tls(&self) -> Result<Arc<ClientConfig>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.ca.clone())?;
        let certificate = CertificateDer::from_pem_slice(self.pem.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(self.pem.as_bytes())?;
        let mut config = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots)
            .with_client_auth_cert(vec![certificate], key)?;
        config.resumption = Resumption::disabled();
        Ok(Arc::new(config))
    }
}

/// One connection. It is kept up by whoever waits for [`Connection::next`].
pub(crate) struct Connection {
    client: AsyncClient,
    incoming: EventLoop,
}

impl Connection {
    /// Connects, and subscribes to `topics`.
    pub(crate) async fn open(
        address: SocketAddr,
        identity: &Identity<'_>,
        topics: &[String],
    ) -> Result<Self> {
        let options = options(address, identity)?;
        let (client, incoming) =
            AsyncClient::builder(options).capacity(2 * usize::from(INFLIGHT)).try_build()?;
        let mut connection = Self { client, incoming };
        let welcome = connection.packet().await.context("connect")?;
        ensure!(matches!(welcome, Packet::ConnAck(_)), "{} is not let in: {welcome:?}", identity.name);
        if !topics.is_empty() {
            let filters = topics.iter().map(|topic| SubscribeFilter::new(topic.clone(), QoS::AtLeastOnce));
            connection.client.try_subscribe_many(filters)?;
            let answer = connection.packet().await.context("subscribe")?;
            let granted = SubscribeReasonCode::Success(QoS::AtLeastOnce);
            let Packet::SubAck(answer) = answer else { bail!("{answer:?}") };
            ensure!(answer.return_codes.iter().all(|code| *code == granted), "{answer:?}");
        }
        Ok(connection)
    }

    /// What the broker says next: a publication, to be confirmed, or none: it has one of this client's.
    pub(crate) async fn next(&mut self) -> Result<Option<Publish>> {
        let packet = self.packet().await?;
        if let Packet::Publish(publish) = packet {
            return Ok(Some(publish));
        }
        ensure!(matches!(packet, Packet::PubAck(_)), "{packet:?}");
        Ok(None)
    }

    /// Confirms a publication.
    pub(crate) fn confirm(&self, publish: &Publish) -> Result<()> {
        let ack = self.client.prepare_ack(publish).context("a publication that nobody confirms")?;
        Ok(self.client.try_manual_ack(ack)?)
    }

    /// Publishes; it goes while somebody waits for what comes.
    pub(crate) fn publish(&self, topic: String, payload: Vec<u8>) -> Result<()> {
        self.client.try_publish(topic, payload, PublishOptions::at_least_once())?;
        Ok(())
    }

    /// Publishes all of `messages`, and waits until the broker has them.
    pub(crate) async fn publish_all(
        &mut self,
        messages: impl Iterator<Item = (String, Bytes)>,
    ) -> Result<()> {
        let Self { client, incoming } = self;
        let count = Cell::new(None);
        let writing = async {
            let mut published = 0;
            for (topic, payload) in messages {
                client.publish(topic, payload, PublishOptions::at_least_once()).await?;
                published += 1;
            }
            count.set(Some(published));
            anyhow::Ok(())
        };
        let reading = async {
            let mut confirmed = 0;
            while count.get() != Some(confirmed) {
                if let Event::Incoming(Packet::PubAck(_)) = incoming.poll().await? {
                    confirmed += 1;
                }
            }
            anyhow::Ok(())
        };
        tokio::try_join!(writing, reading).map(drop)
    }

    async fn packet(&mut self) -> Result<Packet> {
        loop {
            if let Event::Incoming(packet) = self.incoming.poll().await? {
                return Ok(packet);
            }
        }
    }
}

fn options(address: SocketAddr, identity: &Identity<'_>) -> Result<MqttOptions> {
    let mut network = NetworkOptions::new();
    network.set_tcp_nodelay(true);
    let mut options = MqttOptions::new(identity.name, (address.ip().to_string(), address.port()));
    options
        .set_transport(Transport::Tls(TlsConfiguration::Rustls(identity.tls()?)))
        .set_network_options(network)
        .set_connect_timeout(CONNECT_WITHIN)
        .set_username(identity.name)
        .set_keep_alive(KEEPALIVE_SECONDS)
        .set_clean_start(true)
        .set_ack_mode(AckMode::Manual)
        .set_receive_maximum(Some(INFLIGHT))
        .set_outgoing_inflight_upper_limit(INFLIGHT);
    Ok(options)
}
