//! Enrolment, as far as keys, certificates and the bootstrap connection go. What the question and its
//! answer say is the protocol's matter; here they are bytes.

use std::{sync::atomic::Ordering, time::Duration};

use bytes::Bytes;
use protocol::{
    ids::{ClusterId, Digest, TokenId},
    topics,
};
use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, PKCS_ECDSA_P256_SHA256};
use zeroize::{Zeroize as _, Zeroizing};

use crate::{
    link::{Exchange, ExchangeError, exchange},
    tls::{self, TlsError},
};

/// An enrolment that did not come about.
#[derive(Debug, thiserror::Error)]
pub enum EnrolError {
    /// Making the key or its certificate request failed.
    #[error("cannot make a key and certificate request for cluster {cluster}")]
    Make {
        /// The cluster.
        cluster: ClusterId,
        /// Why.
        #[source]
        source: rcgen::Error,
    },
    /// What answered at the hub's address is not the hub of the join code.
    #[error(
        "{hub} did not show the CA named in the join code: it is another hub, or someone between. \
         Check the address, and ask for a new join code if the hub's CA was replaced"
    )]
    WrongHub {
        /// Where the hub was looked for.
        hub: String,
    },
    /// TLS cannot be set up.
    #[error("cannot set up TLS to enrol")]
    Tls(#[source] TlsError),
    /// The hub did not answer.
    #[error("cannot enrol at {hub}")]
    Exchange {
        /// Where the hub was looked for.
        hub: String,
        /// Why.
        #[source]
        source: ExchangeError,
    },
}

/// A new private key, and the request for its certificate.
pub struct KeyAndRequest {
    /// The private key (PEM). It never leaves this machine.
    pub key_pem: Zeroizing<String>,
    /// The certificate request (PKCS#10, DER), signed with the key.
    pub request: Vec<u8>,
}

impl KeyAndRequest {
    /// Makes an ECDSA P-256 key and asks for a certificate in the cluster's name.
    pub fn make(cluster: &ClusterId) -> Result<Self, EnrolError> {
        let failed = |source| EnrolError::Make { cluster: cluster.clone(), source };
        let mut key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).map_err(failed)?;
        let mut parameters = CertificateParams::default();
        parameters.distinguished_name = DistinguishedName::new();
        parameters.distinguished_name.push(DnType::CommonName, cluster.as_str());
        let request = parameters.serialize_request(&key).map_err(failed)?.der().to_vec();
        let key_pem = Zeroizing::new(key.serialize_pem());
        key.zeroize();
        Ok(Self { key_pem, request })
    }
}

/// Where to enrol, and how to recognise the hub there: the transport's part of a join code.
#[derive(Debug, Clone)]
pub struct Bootstrap {
    /// The hub's host name or address, as its certificate has it.
    pub host: String,
    /// The hub's port for enrolment.
    pub port: u16,
    /// SHA-256 of the `SubjectPublicKeyInfo` of the hub's CA.
    pub ca_pin: Digest,
    /// The token's public half.
    pub token: TokenId,
    /// How long the whole exchange may take.
    pub within: Duration,
}

impl Bootstrap {
    /// Asks the hub, and returns what it answers. Nothing is sent to a hub that does not show the pinned CA.
    pub async fn ask(&self, question: Vec<u8>) -> Result<Bytes, EnrolError> {
        let (tls, stranger) = tls::enrolling(self.ca_pin).map_err(EnrolError::Tls)?;
        let what = Exchange {
            host: &self.host,
            port: self.port,
            client: self.token.as_str(),
            ask: &topics::enrol_ask(&self.token),
            answer: &topics::enrol_answer(&self.token),
            within: self.within,
        };
        let hub = || format!("{}:{}", self.host, self.port);
        exchange(&what, tls, question).await.map_err(|source| {
            if stranger.load(Ordering::Acquire) {
                EnrolError::WrongHub { hub: hub() }
            } else {
                EnrolError::Exchange { hub: hub(), source }
            }
        })
    }
}
