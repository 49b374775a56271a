//! A light MQTT 3.1.1 client over TLS: a socket and what is not read of it yet, so that one process holds ten thousand.
//! It speaks to a hub and to Mosquitto alike.

use std::{net::SocketAddr, sync::Arc};

use anyhow::{Context as _, Result, bail, ensure};
use rumqttc::tokio_rustls::{TlsConnector, client::TlsStream};
use rustls::{ClientConfig, RootCertStore, client::Resumption, crypto::ring};
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName, pem::PemObject as _};
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _, ReadHalf, WriteHalf, split},
    net::TcpStream,
};

/// Read at once: a head with a desired state fits.
const READ_BYTES: usize = 4096;

/// Silence after which a client would have to ping: longer than any round.
const KEEPALIVE_SECONDS: u16 = 3600;

/// Packet types, with the flags that the standard demands (MQTT 3.1.1, section 2.2).
const CONNECT: u8 = 0x10;
const CONNACK: u8 = 0x20;
const PUBLISH: u8 = 0x30;
const PUBACK: u8 = 0x40;
const SUBSCRIBE: u8 = 0x82;
const SUBACK: u8 = 0x90;
const QOS_1: u8 = 0x02;

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

/// A packet of the broker's.
#[derive(Debug)]
pub(crate) enum Packet {
    Publish { topic: String, payload: Vec<u8>, id: u16 },
    Confirmed,
}

/// What is read.
pub(crate) struct Reader {
    stream: ReadHalf<TlsStream<TcpStream>>,
    unread: Vec<u8>,
}

/// What is written.
pub(crate) struct Writer(WriteHalf<TlsStream<TcpStream>>);

/// Connects, and subscribes to `topics`.
pub(crate) async fn connect(
    address: SocketAddr,
    identity: &Identity<'_>,
    topics: &[String],
) -> Result<(Reader, Writer)> {
    let socket = TcpStream::connect(address).await.context("connect")?;
    socket.set_nodelay(true)?;
    let name = ServerName::try_from("localhost")?;
    let stream = TlsConnector::from(identity.tls()?).connect(name, socket).await.context("make TLS")?;
    let (stream, writer) = split(stream);
    let (mut reader, mut writer) = (Reader { stream, unread: Vec::new() }, Writer(writer));
    let mut body = text("MQTT");
    // Protocol 3.1.1; a clean session.
    body.extend([4, 0b10]);
    body.extend(KEEPALIVE_SECONDS.to_be_bytes());
    body.extend(text(identity.name));
    writer.send(&packet(CONNECT, &body)).await?;
    let (kind, answer) = reader.packet().await?;
    ensure!(kind == CONNACK && answer.get(1) == Some(&0), "{} is not let in: {answer:?}", identity.name);
    if !topics.is_empty() {
        let mut body = 1_u16.to_be_bytes().to_vec();
        for topic in topics {
            body.extend(text(topic));
            body.push(1);
        }
        writer.send(&packet(SUBSCRIBE, &body)).await?;
        let (kind, answer) = reader.packet().await?;
        ensure!(kind == SUBACK && answer[2..].iter().all(|granted| *granted == 1), "{answer:?}");
    }
    Ok((reader, writer))
}

impl Reader {
    /// The next publication or confirmation.
    pub(crate) async fn next(&mut self) -> Result<Packet> {
        let (kind, body) = self.packet().await?;
        match kind & 0xf0 {
            PUBACK => Ok(Packet::Confirmed),
            PUBLISH => {
                ensure!(kind & QOS_1 != 0, "a publication that nobody confirms");
                let length = usize::from(u16::from_be_bytes([body[0], body[1]]));
                let (topic, rest) = body[2..].split_at(length);
                let id = u16::from_be_bytes([rest[0], rest[1]]);
                Ok(Packet::Publish {
                    topic: str::from_utf8(topic)?.to_owned(),
                    payload: rest[2..].to_vec(),
                    id,
                })
            }
            other => bail!("a packet of type {other:#x}"),
        }
    }

    async fn packet(&mut self) -> Result<(u8, Vec<u8>)> {
        loop {
            if let Some((begin, end)) = bounds(&self.unread) {
                let (kind, body) = (self.unread[0], self.unread[begin..end].to_vec());
                self.unread.drain(..end);
                if self.unread.is_empty() {
                    // Ten thousand of them wait.
                    self.unread = Vec::new();
                }
                return Ok((kind, body));
            }
            let mut bytes = [0; READ_BYTES];
            let length = self.stream.read(&mut bytes).await?;
            ensure!(length > 0, "the broker closed the connection");
            self.unread.extend(&bytes[..length]);
        }
    }
}

impl Writer {
    pub(crate) async fn publish(&mut self, topic: &str, id: u16, payload: &[u8]) -> Result<()> {
        let mut body = text(topic);
        body.extend(id.to_be_bytes());
        body.extend(payload);
        self.send(&packet(PUBLISH | QOS_1, &body)).await
    }

    pub(crate) async fn confirm(&mut self, id: u16) -> Result<()> {
        self.send(&packet(PUBACK, &id.to_be_bytes())).await
    }

    async fn send(&mut self, bytes: &[u8]) -> Result<()> {
        self.0.write_all(bytes).await?;
        Ok(self.0.flush().await?)
    }
}

/// Where the body of the first packet begins and ends, once all of it is there.
fn bounds(bytes: &[u8]) -> Option<(usize, usize)> {
    let (mut length, mut at) = (0, 1);
    loop {
        let byte = usize::from(*bytes.get(at)?);
        length |= (byte & 0x7f) << (7 * (at - 1));
        at += 1;
        if byte & 0x80 == 0 {
            return (bytes.len() >= at + length).then_some((at, at + length));
        }
    }
}

fn packet(kind: u8, body: &[u8]) -> Vec<u8> {
    let mut packet = vec![kind];
    let mut length = body.len();
    loop {
        let more = if length >= 0x80 { 0x80 } else { 0 };
        packet.push((length % 0x80) as u8 | more);
        length /= 0x80;
        if length == 0 {
            break;
        }
    }
    packet.extend(body);
    packet
}

fn text(text: &str) -> Vec<u8> {
    let length = u16::try_from(text.len()).expect("topics and names are short");
    [&length.to_be_bytes(), text.as_bytes()].concat()
}
