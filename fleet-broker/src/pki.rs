//! The hub's certificate authority: its own certificate for the listeners, and one for each cluster.
//!
//! Keys are ECDSA P-256, which every TLS library an agent or broker may use accepts. A certificate only
//! opens the transport; what a cluster applies is signed by other keys.

use std::{
    fs, io,
    io::Write as _,
    os::unix::fs::OpenOptionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use jiff::Timestamp;
use protocol::ids::{ClusterId, Digest, KeyId};
use rcgen::{
    BasicConstraints, Certificate, CertificateParams, CertificateSigningRequestParams, DistinguishedName,
    DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose, PKCS_ECDSA_P256_SHA256,
    SerialNumber,
};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls_pki_types::{
    CertificateDer, CertificateSigningRequestDer, PrivateKeyDer, PrivatePkcs8KeyDer, pem::PemObject as _,
};
use zeroize::{Zeroize as _, Zeroizing};

use crate::boundary::{self, At};

/// How long a certificate lasts if nothing else is said, a cluster's or the hub's own. Both are renewed after a
/// third, so a site may be away four months and still connect at once.
pub const CERTIFICATE_LIFETIME: Duration = Duration::from_secs(180 * 24 * 60 * 60);

/// How long the CA lasts on paper. It is believed by its key, so nothing stops working on that day.
const CA_LIFETIME: Duration = Duration::from_secs(3650 * 24 * 60 * 60);

/// Largest certificate request read; a P-256 one takes some 300 bytes.
const REQUEST_BYTES: usize = 8 * 1024;

/// How far a certificate's start is set back, because the other side's clock may be behind. One that is short is set
/// back by a tenth of its life at most, or its life would be over when it begins.
const BACKDATED: Duration = Duration::from_secs(protocol::limits::CLOCK_SKEW_SECONDS);

/// The certificate authority's certificate, in the hub's folder.
pub const CERTIFICATE_FILE: &str = "ca.pem";
/// Its private key.
pub const KEY_FILE: &str = "ca.key";

/// A certificate that could not be made, read or kept.
#[derive(Debug, thiserror::Error)]
pub enum PkiError {
    /// A file of the CA could not be read or written.
    #[error("cannot {doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The CA's certificate is there without its key.
    #[error(
        "{present} exists but {missing} does not; restore it from a backup, or remove both to start a new CA"
    )]
    Half {
        /// The file found.
        present: PathBuf,
        /// The file missing.
        missing: PathBuf,
    },
    /// The CA's files are damaged or do not belong together.
    #[error("the CA in {directory} cannot be used: {reason}; restore it from a backup")]
    Unusable {
        /// Where the CA is kept.
        directory: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// Making a key or certificate failed.
    #[error("cannot make {what}")]
    Make {
        /// What was being made.
        what: &'static str,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// The system's random source failed.
    #[error("the system's random source failed")]
    Random,
    /// A time lies outside what a certificate can say.
    #[error("{0} is no time a certificate can hold")]
    Time(Timestamp),
    /// A cluster's certificate request was refused.
    #[error("refused the certificate request of {cluster}: {reason}")]
    Request {
        /// The cluster it was made for.
        cluster: ClusterId,
        /// What is wrong with it.
        reason: String,
    },
}

/// What a listener presents: the chain, CA included so that a newcomer can find its pin, and the key.
pub struct ServerIdentity {
    /// The hub's certificate, then the CA's.
    pub chain: Vec<CertificateDer<'static>>,
    /// The hub's private key.
    pub key: PrivateKeyDer<'static>,
}

/// A certificate made for one cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClusterCertificate {
    /// The certificate in PEM.
    pub pem: String,
    /// Its serial number, by which it can be revoked.
    pub serial: Vec<u8>,
    /// When it ends.
    pub not_after: Timestamp,
}

/// The CA that clusters and the hub's listeners trust.
pub struct CertificateAuthority {
    certificate: CertificateDer<'static>,
    certificate_pem: String,
    issuer: Issuer<'static, SecretKey>,
    pin: Digest,
    lifetime: Duration,
}

impl CertificateAuthority {
    /// Opens the CA kept in `directory`, or makes one there. Its key is readable by this user alone.
    pub fn load_or_create(directory: &Path, fleet: &str, now: Timestamp) -> Result<Self, PkiError> {
        let certificate = directory.join(CERTIFICATE_FILE);
        let key = directory.join(KEY_FILE);
        match (certificate.exists(), key.exists()) {
            (true, true) => Self::load(directory),
            (false, false) => {
                let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256);
                let key = SecretKey(key.map_err(|source| PkiError::Make { what: "the CA", source })?);
                fs::create_dir_all(directory).map_err(failed("create", directory))?;
                let key_pem = Zeroizing::new(key.0.serialize_pem());
                write_whole(&directory.join(KEY_FILE), key_pem.as_bytes(), 0o600)?;
                Self::certify(directory, key, fleet, now)
            }
            (true, false) => Err(PkiError::Half { present: certificate, missing: key }),
            // A first start was cut off here.
            (false, true) => Self::certify(directory, read_key(directory)?, fleet, now),
        }
    }

    /// The same CA, whose certificates last `lifetime`.
    pub fn with_lifetime(self, lifetime: Duration) -> Self {
        Self { lifetime, ..self }
    }

    /// How long its certificates last.
    pub fn lifetime(&self) -> Duration {
        self.lifetime
    }

    /// The CA's certificate, as clusters are given it to trust.
    pub fn certificate_pem(&self) -> &str {
        &self.certificate_pem
    }

    /// The CA's certificate in DER.
    pub fn certificate(&self) -> &CertificateDer<'static> {
        &self.certificate
    }

    /// SHA-256 of the CA's `SubjectPublicKeyInfo` (as RFC 7469 pins keys): what a join code carries.
    pub fn pin(&self) -> Digest {
        self.pin
    }

    /// Makes a key and a certificate for the hub's listeners, valid for these host names and addresses.
    pub fn server_identity(&self, names: &[String], now: Timestamp) -> Result<ServerIdentity, PkiError> {
        let making = |source| PkiError::Make { what: "the hub's certificate", source };
        let key = SecretKey(KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(making)?);
        let mut parameters = CertificateParams::new(names).map_err(making)?;
        parameters.distinguished_name = named("edgefleet hub");
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
        bound(&mut parameters, now, self.lifetime)?;
        let certificate = parameters.signed_by(&key, &self.issuer).map_err(making)?;
        Ok(ServerIdentity {
            chain: vec![certificate.der().clone(), self.certificate.clone()],
            key: PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.0.serialize_der())),
        })
    }

    /// Signs a cluster's certificate request (PKCS#10, DER). Its signature must prove the key, its common
    /// name must be the cluster's id, and nothing else it asks for is granted. The certificate also names the
    /// identity key that asked, so that it is refused together with that key, and with no list of certificates.
    pub fn sign_cluster(
        &self,
        request: &[u8],
        cluster: &ClusterId,
        identity: &KeyId,
        now: Timestamp,
    ) -> Result<ClusterCertificate, PkiError> {
        let refused = |reason: String| PkiError::Request { cluster: cluster.clone(), reason };
        if request.len() > REQUEST_BYTES {
            return Err(refused(format!("it has {} bytes; at most {REQUEST_BYTES} are read", request.len())));
        }
        let request = CertificateSigningRequestParams::from_der(&CertificateSigningRequestDer::from(request))
            .map_err(|error| refused(error.to_string()))?;
        if request.public_key.algorithm() != &PKCS_ECDSA_P256_SHA256 {
            return Err(refused("its key is not ECDSA P-256".to_owned()));
        }
        if request.params.distinguished_name != named(cluster.as_str()) {
            return Err(refused("its subject is not the cluster's id as the only common name".to_owned()));
        }
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(cluster.as_str());
        parameters.distinguished_name.push(DnType::OrganizationalUnitName, identity.to_string());
        parameters.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let (serial, not_after) = bound(&mut parameters, now, self.lifetime)?;
        let certificate = parameters
            .signed_by(&request.public_key, &self.issuer)
            .map_err(|source| PkiError::Make { what: "a cluster's certificate", source })?;
        Ok(ClusterCertificate { pem: certificate.pem(), serial, not_after })
    }

    /// Makes the certificate of a key that is kept already: without the key it would be of no use.
    fn certify(directory: &Path, key: SecretKey, fleet: &str, now: Timestamp) -> Result<Self, PkiError> {
        let making = |source| PkiError::Make { what: "the CA", source };
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = named(&format!("edgefleet CA of {fleet}"));
        parameters.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
        parameters.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        bound(&mut parameters, now, CA_LIFETIME)?;
        let certificate: Certificate = parameters.self_signed(&key).map_err(making)?;

        write_whole(&directory.join(CERTIFICATE_FILE), certificate.pem().as_bytes(), 0o644)?;
        Self::assemble(directory, certificate.der().clone(), certificate.pem(), key)
    }

    fn load(directory: &Path) -> Result<Self, PkiError> {
        let unusable = |reason: String| PkiError::Unusable { directory: directory.to_owned(), reason };
        let path = directory.join(CERTIFICATE_FILE);
        let certificate_pem = fs::read_to_string(&path).map_err(failed("read", &path))?;
        let certificate = CertificateDer::from_pem_slice(certificate_pem.as_bytes())
            .map_err(|error| unusable(format!("{CERTIFICATE_FILE}: {error}")))?;
        Self::assemble(directory, certificate, certificate_pem, read_key(directory)?)
    }

    fn assemble(
        directory: &Path,
        certificate: CertificateDer<'static>,
        certificate_pem: String,
        key: SecretKey,
    ) -> Result<Self, PkiError> {
        let unusable =
            |reason: &str| PkiError::Unusable { directory: directory.to_owned(), reason: reason.to_owned() };
        let spki = public_key_of(&certificate).ok_or_else(|| unusable("its certificate cannot be read"))?;
        if spki != rcgen::PublicKeyData::subject_public_key_info(&key) {
            return Err(unusable("its key does not belong to its certificate"));
        }
        let issuer =
            Issuer::from_ca_cert_der(&certificate, key).map_err(|error| unusable(&error.to_string()))?;
        let pin = Digest::of(&spki);
        Ok(Self { certificate, certificate_pem, issuer, pin, lifetime: CERTIFICATE_LIFETIME })
    }
}

fn read_key(directory: &Path) -> Result<SecretKey, PkiError> {
    let path = directory.join(KEY_FILE);
    let pem = Zeroizing::new(fs::read_to_string(&path).map_err(failed("read", &path))?);
    let key = KeyPair::from_pem(&pem).map_err(|error| PkiError::Unusable {
        directory: directory.to_owned(),
        reason: format!("{KEY_FILE}: {error}"),
    })?;
    Ok(SecretKey(key))
}

/// A certificate's `SubjectPublicKeyInfo` in DER.
fn public_key_of(certificate: &CertificateDer<'_>) -> Option<Vec<u8>> {
    let (_, parsed) = x509_parser::parse_x509_certificate(certificate).ok()?;
    Some(parsed.public_key().raw.to_vec())
}

/// A private key that is wiped from memory when dropped.
struct SecretKey(KeyPair);

impl Drop for SecretKey {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl rcgen::PublicKeyData for SecretKey {
    fn der_bytes(&self) -> &[u8] {
        self.0.der_bytes()
    }

    fn algorithm(&self) -> &'static rcgen::SignatureAlgorithm {
        self.0.algorithm()
    }
}

impl rcgen::SigningKey for SecretKey {
    fn sign(&self, message: &[u8]) -> Result<Vec<u8>, rcgen::Error> {
        self.0.sign(message)
    }
}

fn named(common_name: &str) -> DistinguishedName {
    let mut name = DistinguishedName::new();
    name.push(DnType::CommonName, common_name);
    name
}

/// Sets a fresh serial number and the time a certificate is good for; returns both.
fn bound(
    parameters: &mut CertificateParams,
    now: Timestamp,
    lifetime: Duration,
) -> Result<(Vec<u8>, Timestamp), PkiError> {
    let mut serial = [0_u8; 16];
    SystemRandom::new().fill(&mut serial).map_err(|_| PkiError::Random)?;
    // RFC 5280, section 4.1.2.2: a serial number is positive.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    parameters.serial_number = Some(SerialNumber::from_slice(&serial));

    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    let outside = || PkiError::Time(now);
    let seconds = u64::try_from(now.as_second()).map_err(|_| outside())?;
    let not_after = now.checked_add(lifetime).map_err(|_| outside())?;
    let backdated = BACKDATED.min(lifetime / 10);
    parameters.not_before = epoch + Duration::from_secs(seconds).saturating_sub(backdated);
    parameters.not_after = epoch + Duration::from_secs(seconds) + lifetime;
    Ok((serial.to_vec(), not_after))
}

/// Writes a file whole or not at all: under another name, to disk, then renamed.
fn write_whole(path: &Path, content: &[u8], mode: u32) -> Result<(), PkiError> {
    boundary::pass(At::File);
    let temporary = path.with_extension("new");
    let mut file = fs::OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(true)
        .mode(mode)
        .open(&temporary)
        .map_err(failed("write", &temporary))?;
    file.write_all(content).and_then(|()| file.sync_all()).map_err(failed("write", &temporary))?;
    boundary::pass(At::Rename);
    fs::rename(&temporary, path).map_err(failed("replace", path))?;
    boundary::pass(At::Renamed);
    let directory = path.parent().unwrap_or(Path::new("."));
    fs::File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed("sync", directory))
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> PkiError {
    let path = path.to_owned();
    move |source| PkiError::File { doing, path, source }
}

#[cfg(test)]
mod tests;
