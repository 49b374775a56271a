//! TLS to the hub: which hub is believed, and at what time.
//!
//! The hub is recognised by its CA, or while enrolling by the CA's pin. Its certificate's dates are not
//! held against it: this machine's clock may stand at 1970 until the hub has told it the time, and a hub
//! that looks too old or too young must still be able to tell it. What the dates would protect, an old and
//! stolen key of the hub's listener, can delay and drop messages, but nothing it says is applied: documents
//! are signed by other keys.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use protocol::{ids::Digest, renew::Validity, time::UnixSeconds};
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, DistinguishedName, Error, RootCertStore,
    SignatureScheme,
    client::{
        WebPkiServerVerifier,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::{CryptoProvider, ring, verify_tls13_signature},
    version::TLS13,
};
use rustls_pki_types::{
    CertificateDer, PrivateKeyDer, ServerName, TrustAnchor, UnixTime, pem, pem::PemObject as _,
};
use tracing::warn;

/// The end of the year 9999 in seconds since 1970: the last date that a certificate can name.
const LONG_AFTER: u64 = 253_402_300_799;

/// A certificate or key that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum TlsError {
    /// The CA in PEM is not one.
    #[error("the trusted CA is not a certificate in PEM")]
    Ca(#[source] pem::Error),
    /// The cluster's certificate in PEM is not one.
    #[error("the cluster's certificate is not a certificate in PEM")]
    Certificate(#[source] pem::Error),
    /// The cluster's key in PEM is not one.
    #[error("the cluster's key is not a private key in PEM")]
    Key(#[source] pem::Error),
    /// TLS refuses them, for example because key and certificate do not belong together.
    #[error("the cluster's key and certificate cannot be used for TLS")]
    Refused(#[source] Error),
}

/// TLS of an enrolled cluster: it trusts `ca` and shows its own certificate, all in PEM.
pub(crate) fn enrolled(ca: &[u8], certificate: &[u8], key: &[u8]) -> Result<Arc<ClientConfig>, TlsError> {
    let roots = roots(ca)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(certificate)
        .collect::<Result<_, _>>()
        .map_err(TlsError::Certificate)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(TlsError::Key)?;
    let verifier = Arc::new(HubVerifier::new(Trust::Roots(roots)));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Refused)?;
    let mut config = builder
        .dangerous()
        .with_custom_certificate_verifier(verifier)
        .with_client_auth_cert(chain, key)
        .map_err(TlsError::Refused)?;
    config.resumption = rustls::client::Resumption::disabled();
    Ok(Arc::new(config))
}

/// TLS of a cluster that enrols: it knows the CA's pin only, and has no certificate. The flag turns true
/// when a hub showed no CA with that pin.
pub(crate) fn enrolling(pin: Digest) -> Result<(Arc<ClientConfig>, Arc<AtomicBool>), TlsError> {
    let stranger = Arc::new(AtomicBool::new(false));
    let verifier = Arc::new(HubVerifier::new(Trust::Pin { pin, stranger: Arc::clone(&stranger) }));
    let builder = ClientConfig::builder_with_provider(Arc::clone(&verifier.provider))
        .with_protocol_versions(&[&TLS13])
        .map_err(TlsError::Refused)?;
    let mut config = builder.dangerous().with_custom_certificate_verifier(verifier).with_no_client_auth();
    config.resumption = rustls::client::Resumption::disabled();
    Ok((Arc::new(config), stranger))
}

/// Which hub is believed.
#[derive(Debug)]
enum Trust {
    Roots(Arc<RootCertStore>),
    Pin { pin: Digest, stranger: Arc<AtomicBool> },
}

/// Verifies the hub's certificate as WebPKI does, except for its dates.
struct HubVerifier {
    trust: Trust,
    provider: Arc<CryptoProvider>,
}

impl HubVerifier {
    fn new(trust: Trust) -> Self {
        Self { trust, provider: Arc::new(ring::default_provider()) }
    }

    /// The anchors this hub may be verified against: ours, or the CA it shows if it has the pin.
    fn anchors(&self, shown: &[CertificateDer<'_>]) -> Result<Arc<RootCertStore>, Error> {
        let (pin, stranger) = match &self.trust {
            Trust::Roots(roots) => return Ok(Arc::clone(roots)),
            Trust::Pin { pin, stranger } => (pin, stranger),
        };
        for certificate in shown {
            let mut roots = RootCertStore::empty();
            if roots.add(certificate.clone().into_owned()).is_ok()
                && roots.roots.iter().any(|anchor| pin_of(anchor) == *pin)
            {
                return Ok(Arc::new(roots));
            }
        }
        stranger.store(true, Ordering::Release);
        Err(Error::InvalidCertificate(CertificateError::UnknownIssuer))
    }
}

impl fmt::Debug for HubVerifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HubVerifier").field("trust", &self.trust).finish_non_exhaustive()
    }
}

impl ServerCertVerifier for HubVerifier {
    fn verify_server_cert(
        &self,
        hub: &CertificateDer<'_>,
        shown: &[CertificateDer<'_>],
        name: &ServerName<'_>,
        ocsp: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let anchors = self.anchors(shown)?;
        let webpki = WebPkiServerVerifier::builder_with_provider(anchors, Arc::clone(&self.provider))
            .build()
            .map_err(|error| Error::General(error.to_string()))?;
        let verdict = webpki.verify_server_cert(hub, shown, name, ocsp, now);
        let Some(then) = verdict.as_ref().err().and_then(within_its_dates) else {
            return verdict;
        };
        warn!(
            now = now.as_secs(),
            certificate = then.as_secs(),
            "this clock or the hub's is wrong: the hub's certificate is out of its dates"
        );
        webpki.verify_server_cert(hub, shown, name, ocsp, then)
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("only TLS 1.3 is spoken".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        let algorithms = &self.provider.signature_verification_algorithms;
        verify_tls13_signature(message, certificate, signature, algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.provider.signature_verification_algorithms.supported_schemes()
    }

    fn root_hint_subjects(&self) -> Option<&[DistinguishedName]> {
        None
    }
}

/// The nearest time at which a certificate refused for its dates would be good.
fn within_its_dates(error: &Error) -> Option<UnixTime> {
    let Error::InvalidCertificate(error) = error else {
        return None;
    };
    if let CertificateError::ExpiredContext { not_after, .. } = error {
        return Some(*not_after);
    }
    if let CertificateError::NotValidYetContext { not_before, .. } = error {
        return Some(*not_before);
    }
    None
}

/// SHA-256 of an anchor's `SubjectPublicKeyInfo`. An anchor keeps its content only, so the DER header of
/// the sequence (X.690, section 8.1) is put back before it.
fn pin_of(anchor: &TrustAnchor<'_>) -> Digest {
    let content: &[u8] = &anchor.subject_public_key_info;
    let length = content.len().to_be_bytes();
    let significant = &length[length.iter().take_while(|byte| **byte == 0).count()..];
    let mut der = vec![0x30];
    match significant {
        [short] if *short < 0x80 => der.push(*short),
        long => {
            der.push(0x80 | u8::try_from(long.len()).unwrap_or(u8::MAX));
            der.extend_from_slice(long);
        }
    }
    der.extend_from_slice(content);
    Digest::of(&der)
}

/// From when until when a cluster's certificate is good, both in PEM. WebPKI names the date against which a certificate
/// fails, so it is asked long before and long after, which saves this program a parser.
pub(crate) fn validity(ca: &[u8], certificate: &[u8]) -> Result<Validity, TlsError> {
    let certificate = CertificateDer::from_pem_slice(certificate).map_err(TlsError::Certificate)?;
    let webpki =
        WebPkiServerVerifier::builder_with_provider(roots(ca)?, Arc::new(ring::default_provider())).build();
    let unreadable = || TlsError::Refused(Error::InvalidCertificate(CertificateError::BadEncoding));
    let webpki = webpki.map_err(|error| TlsError::Refused(Error::General(error.to_string())))?;
    let date_near = |seconds: u64| {
        let then = UnixTime::since_unix_epoch(Duration::from_secs(seconds));
        let name = ServerName::try_from("localhost").map_err(|_| unreadable())?;
        let verdict = webpki.verify_server_cert(&certificate, &[], &name, &[], then);
        let date = verdict.err().as_ref().and_then(within_its_dates).ok_or_else(unreadable)?;
        Ok(UnixSeconds(date.as_secs()))
    };
    Ok(Validity { not_before: date_near(0)?, not_after: date_near(LONG_AFTER)? })
}

fn roots(ca: &[u8]) -> Result<Arc<RootCertStore>, TlsError> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(ca) {
        roots.add(ca.map_err(TlsError::Ca)?).map_err(TlsError::Refused)?;
    }
    if roots.is_empty() { Err(TlsError::Ca(pem::Error::NoItemsFound)) } else { Ok(Arc::new(roots)) }
}

/// The pin of a certificate authority in PEM; none if it is not one certificate.
pub(crate) fn pin(ca: &[u8]) -> Option<Digest> {
    let mut roots = RootCertStore::empty();
    for ca in CertificateDer::pem_slice_iter(ca) {
        roots.add(ca.ok()?).ok()?;
    }
    if let [anchor] = roots.roots.as_slice() { Some(pin_of(anchor)) } else { None }
}
