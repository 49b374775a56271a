//! TLS of the two listeners, and the name in a cluster's certificate.

use std::sync::Arc;

use protocol::ids::{ClusterId, IdError};
use rustls::{RootCertStore, ServerConfig, crypto::ring, server::WebPkiClientVerifier, version::TLS13};
use rustls_pki_types::CertificateDer;

use crate::pki::ServerIdentity;

/// A certificate that does not name one cluster.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    #[error("the client certificate cannot be read")]
    Unreadable,
    #[error("the client certificate has {0} common names; it must have one")]
    Names(usize),
    #[error("the client certificate's common name is no text")]
    NotText,
    #[error("the client certificate names no cluster")]
    Id(#[source] IdError),
}

/// TLS 1.3 with a certificate asked of every client, signed by `ca`.
pub(super) fn for_clusters(
    identity: &ServerIdentity,
    ca: &CertificateDer<'static>,
) -> Result<Arc<ServerConfig>, rustls::Error> {
    let mut roots = RootCertStore::empty();
    roots.add(ca.clone())?;
    let provider = Arc::new(ring::default_provider());
    let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider))
        .build()
        .map_err(|error| rustls::Error::General(error.to_string()))?;
    let config = ServerConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&TLS13])?
        .with_client_cert_verifier(verifier)
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    Ok(Arc::new(without_resumption(config)))
}

/// TLS 1.3 that asks no certificate: whoever enrols has none yet.
pub(super) fn for_bootstrap(identity: &ServerIdentity) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_single_cert(identity.chain.clone(), identity.key.clone_key())?;
    Ok(Arc::new(without_resumption(config)))
}

/// A resumed session would carry a certificate past its expiry, and its tickets cost bytes on each connect.
fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config
}

/// The cluster a verified client certificate was issued to: its only common name.
pub(super) fn cluster_of(certificate: &CertificateDer<'_>) -> Result<ClusterId, NameError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| NameError::Unreadable)?;
    let names: Vec<_> = parsed.subject().iter_common_name().collect();
    match names.as_slice() {
        [name] => name.as_str().map_err(|_| NameError::NotText)?.parse().map_err(NameError::Id),
        other => Err(NameError::Names(other.len())),
    }
}
