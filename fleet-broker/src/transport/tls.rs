//! TLS of the two listeners, and the names in a cluster's certificate.

use std::sync::Arc;

use protocol::ids::{ClusterId, IdError, KeyId};
use rustls::{
    RootCertStore, ServerConfig,
    crypto::ring,
    server::{ResolvesServerCert, WebPkiClientVerifier},
    version::TLS13,
};
use rustls_pki_types::CertificateDer;
use x509_parser::x509::AttributeTypeAndValue;

use super::Named;

/// A certificate that does not name one cluster.
#[derive(Debug, thiserror::Error)]
pub(super) enum NameError {
    #[error("the client certificate cannot be read")]
    Unreadable,
    #[error("the client certificate has {0} names of a kind; it must have one common name and one unit")]
    Names(usize),
    #[error("the client certificate's common name is no text")]
    NotText,
    #[error("the client certificate names no cluster or no identity key")]
    Id(#[source] IdError),
}

/// TLS 1.3 with a certificate asked of every client, signed by `ca`.
pub(super) fn for_clusters(
    shown: Arc<dyn ResolvesServerCert>,
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
        .with_cert_resolver(shown);
    Ok(Arc::new(without_resumption(config)))
}

/// TLS 1.3 that asks no certificate: whoever enrols has none yet.
pub(super) fn for_bootstrap(shown: Arc<dyn ResolvesServerCert>) -> Result<Arc<ServerConfig>, rustls::Error> {
    let config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])?
        .with_no_client_auth()
        .with_cert_resolver(shown);
    Ok(Arc::new(without_resumption(config)))
}

/// A resumed session would carry a certificate past its expiry, and its tickets cost bytes on each connect.
fn without_resumption(mut config: ServerConfig) -> ServerConfig {
    config.send_tls13_tickets = 0;
    config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
    config
}

/// Whom a verified client certificate was issued to: the cluster is its only common name, the identity key that asked
/// for it its only unit.
pub(super) fn named(certificate: &CertificateDer<'_>) -> Result<Named, NameError> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).map_err(|_| NameError::Unreadable)?;
    let subject = parsed.subject();
    let cluster = only(subject.iter_common_name())?;
    let identity = only(subject.iter_organizational_unit())?;
    Ok(Named {
        cluster: cluster.parse::<ClusterId>().map_err(NameError::Id)?,
        identity: identity.parse::<KeyId>().map_err(NameError::Id)?,
    })
}

fn only<'a>(mut names: impl Iterator<Item = &'a AttributeTypeAndValue<'a>>) -> Result<&'a str, NameError> {
    let (Some(name), more) = (names.next(), names.count()) else { return Err(NameError::Names(0)) };
    if more > 0 {
        return Err(NameError::Names(1 + more));
    }
    name.as_str().map_err(|_| NameError::NotText)
}
