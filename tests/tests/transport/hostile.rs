//! Clients that do not keep the rules: the real client library without our link, and MQTT 3.1.1 by hand.

use std::{sync::Arc, time::Duration};

use rumqttc::{
    AsyncClient, ConnectionError, Event, EventLoop, MqttOptions, Packet, PubAckReason, PublishOptions, QoS,
    SubscribeReasonCode, Transport,
    tokio_rustls::{TlsConnector, client::TlsStream},
};
use rustls::{ClientConfig, RootCertStore, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpStream,
};

use crate::harness::{DEADLINE, Site, soon};

/// The client library with a site's certificate, and otherwise as a test likes.
pub(crate) struct Raw {
    pub(crate) client: AsyncClient,
    pub(crate) eventloop: EventLoop,
}

impl Raw {
    /// Options a hub would accept.
    pub(crate) fn options(site: &Site) -> MqttOptions {
        let identity = (site.read("cluster.pem"), site.read("cluster.pem"));
        let mut options = MqttOptions::new(site.cluster.as_str(), ("localhost", site.port));
        options
            .set_transport(Transport::tls(site.read("ca.pem"), Some(identity), None))
            .set_connect_timeout(DEADLINE)
            .set_clean_start(true);
        options
    }

    pub(crate) fn new(options: MqttOptions) -> Self {
        let (client, eventloop) = AsyncClient::builder(options).capacity(100).build();
        Self { client, eventloop }
    }

    /// Connects as the site's own cluster.
    pub(crate) async fn connect(site: &Site) -> Self {
        let mut raw = Self::new(Self::options(site));
        raw.attempt().await.expect("a good certificate is let in");
        raw
    }

    /// Waits for the hub's consent or refusal.
    pub(crate) async fn attempt(&mut self) -> Result<(), ConnectionError> {
        loop {
            if let Event::Incoming(Packet::ConnAck(_)) =
                soon("an answer to CONNECT", self.eventloop.poll()).await?
            {
                return Ok(());
            }
        }
    }

    /// Publishes and waits for what the hub says to it.
    pub(crate) async fn publish(
        &mut self,
        topic: &str,
        payload: &[u8],
    ) -> Result<PubAckReason, ConnectionError> {
        self.client.try_publish(topic, payload, PublishOptions::at_least_once()).unwrap();
        loop {
            if let Event::Incoming(Packet::PubAck(ack)) = soon("a PUBACK", self.eventloop.poll()).await? {
                return Ok(ack.reason);
            }
        }
    }

    /// Subscribes and waits for what the hub says to it.
    pub(crate) async fn subscribe(&mut self, filter: &str) -> Result<SubscribeReasonCode, ConnectionError> {
        self.client.try_subscribe(filter, QoS::AtLeastOnce).unwrap();
        loop {
            if let Event::Incoming(Packet::SubAck(ack)) = soon("a SUBACK", self.eventloop.poll()).await? {
                return Ok(ack.return_codes[0]);
            }
        }
    }

    /// Polls until the connection ends.
    pub(crate) async fn ended(&mut self) -> ConnectionError {
        soon("the end of the connection", async {
            loop {
                if let Err(error) = self.eventloop.poll().await {
                    return error;
                }
            }
        })
        .await
    }
}

/// A TLS socket on which a test writes MQTT 3.1.1 itself, to say what no client library would.
pub(crate) struct Wire(TlsStream<TcpStream>);

impl Wire {
    /// A TLS connection with a site's certificate, or with none.
    pub(crate) async fn open(site: &Site, port: u16, with_certificate: bool) -> std::io::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(&site.read("ca.pem")).unwrap()).unwrap();
        let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
            .with_safe_default_protocol_versions()
            .unwrap()
            .with_root_certificates(roots);
        let config = if with_certificate {
            let certificate = CertificateDer::from_pem_slice(&site.read("cluster.pem")).unwrap();
            let key = PrivateKeyDer::from_pem_slice(&site.read("cluster.pem")).unwrap();
            builder.with_client_auth_cert(vec![certificate], key).unwrap()
        } else {
            builder.with_no_client_auth()
        };
        let socket = TcpStream::connect(("127.0.0.1", port)).await?;
        let name = ServerName::try_from("localhost").unwrap();
        Ok(Self(TlsConnector::from(Arc::new(config)).connect(name, socket).await?))
    }

    /// Opens a connection as the site's own cluster and is accepted.
    pub(crate) async fn connect(site: &Site, keepalive: Duration) -> Self {
        let mut wire = Self::open(site, site.port, true).await.unwrap();
        let seconds = u16::try_from(keepalive.as_secs()).unwrap();
        wire.write(&connect_packet(site.cluster.as_str(), seconds)).await;
        let mut connack = [0; 4];
        soon("a CONNACK", wire.0.read_exact(&mut connack)).await.unwrap();
        assert_eq!(connack, [0x20, 2, 0, 0], "accepted, no session");
        wire
    }

    pub(crate) async fn write(&mut self, bytes: &[u8]) {
        self.0.write_all(bytes).await.unwrap();
        self.0.flush().await.unwrap();
    }

    /// Reads until the hub closes the connection, and returns what it said before.
    pub(crate) async fn closed(&mut self) -> Vec<u8> {
        let mut said = Vec::new();
        // An abrupt end is an error of TLS; either way it is the end.
        let _end = soon("the end of the connection", self.0.read_to_end(&mut said)).await;
        said
    }
}

/// CONNECT of MQTT 3.1.1 (section 3.1), clean session.
pub(crate) fn connect_packet(client: &str, keepalive_seconds: u16) -> Vec<u8> {
    let mut body = text("MQTT");
    body.extend([4, 0b10]);
    body.extend(keepalive_seconds.to_be_bytes());
    body.extend(text(client));
    packet(0x10, &body)
}

/// PUBLISH with QoS 1 and packet id 1 (section 3.3).
pub(crate) fn publish_packet(topic: &str, payload: &[u8], retain: bool) -> Vec<u8> {
    let mut body = text(topic);
    body.extend(1_u16.to_be_bytes());
    body.extend(payload);
    packet(0x32 | u8::from(retain), &body)
}

fn packet(first: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![first];
    let mut length = body.len();
    loop {
        let more = if length >= 128 { 0x80 } else { 0 };
        packet.push((length % 128) as u8 | more);
        length /= 128;
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let mut bytes = u16::try_from(text.len()).unwrap().to_be_bytes().to_vec();
    bytes.extend(text.as_bytes());
    bytes
}
