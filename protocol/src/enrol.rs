//! Joining: the code an operator hands to a site, and the one question and answer that follow.

use std::{fmt, str::FromStr};

use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use ring::hmac;
use serde::{Deserialize, Deserializer, Serialize, de::Error};
use zeroize::Zeroizing;

use crate::{
    codec,
    ids::{ClusterId, Digest, FleetId, IdError, TokenId},
    keys::{PublicKey, SIGNATURE_BYTES, SigningKey},
};

const PREFIX: &str = "ef1-";

/// How long a join code can be used, in seconds.
pub const JOIN_CODE_SECONDS: u64 = 24 * 60 * 60;

/// Largest question or answer in bytes: a certificate request, or a certificate chain and a root.
pub const ENROL_BYTES: usize = 64 * 1024;

/// Everything a new agent needs to find its hub and know it: what `edgefleet cluster add` prints.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinCode {
    /// Who it is for.
    pub cluster: ClusterId,
    /// Which fleet it joins.
    pub fleet: FleetId,
    /// Where certificates are given: `host:port`.
    pub enrol: String,
    /// Where agents connect: `host:port`.
    pub broker: String,
    /// Digest of the SubjectPublicKeyInfo of the hub's certificate authority.
    pub ca_pin: Digest,
    /// Digest of the root document's envelope.
    pub root: Digest,
    /// Names the code.
    pub token: TokenId,
    /// Proves it. Used once.
    pub secret: JoinSecret,
}

/// The secret of a join code: 128 random bits. Never prints, and is wiped from memory when it is dropped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct JoinSecret(
    #[serde(serialize_with = "serde_bytes::serialize", deserialize_with = "secret_bytes")] Vec<u8>,
);

impl JoinSecret {
    /// Length in bytes.
    pub const LEN: usize = 16;

    /// Wraps 16 secret, uniformly random bytes.
    pub fn new(bytes: [u8; Self::LEN]) -> Self {
        Self(bytes.to_vec())
    }

    /// The raw bytes, to be kept by the hub until the code is used.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl TryFrom<&[u8]> for JoinSecret {
    type Error = IdError;
    fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
        if bytes.len() == Self::LEN {
            return Ok(Self(bytes.to_vec()));
        }
        // What came may be most of a secret, so the error does not show it.
        Err(IdError { what: "join secret", value: "..".to_owned(), rule: "it must be 16 bytes long" })
    }
}

fn secret_bytes<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u8>, D::Error> {
    let bytes: Vec<u8> = serde_bytes::deserialize(deserializer)?;
    if bytes.len() == JoinSecret::LEN { Ok(bytes) } else { Err(D::Error::custom("the secret has 16 bytes")) }
}

impl fmt::Debug for JoinSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinSecret(..)")
    }
}

impl Drop for JoinSecret {
    fn drop(&mut self) {
        zeroize::Zeroize::zeroize(&mut self.0);
    }
}

/// A join code that cannot be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is not a join code: copy the whole line that starts with {PREFIX:?} from `edgefleet cluster add`"
)]
pub struct JoinCodeError;

impl fmt::Display for JoinCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let bytes = Zeroizing::new(codec::encode(self));
        write!(f, "{PREFIX}{}", URL_SAFE_NO_PAD.encode(&*bytes))
    }
}

impl FromStr for JoinCode {
    type Err = JoinCodeError;
    fn from_str(text: &str) -> Result<Self, JoinCodeError> {
        let text = text.trim().strip_prefix(PREFIX).ok_or(JoinCodeError)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(text).map_err(|_| JoinCodeError)?);
        codec::decode("join code", &bytes).map_err(|_| JoinCodeError)
    }
}

/// A new agent's question: make me this cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EnrolAsk {
    /// Which cluster it will be.
    pub cluster: ClusterId,
    /// The key it will sign its reports with; it never leaves the agent.
    pub identity: PublicKey,
    /// Certificate request (PKCS #10, DER) for its connection key.
    #[serde(with = "serde_bytes")]
    pub csr: Vec<u8>,
    /// Proof that it holds the join code's secret.
    #[serde(with = "serde_bytes")]
    mac: Vec<u8>,
    /// Proof that it holds the identity key.
    #[serde(with = "serde_bytes")]
    proof: Vec<u8>,
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum EnrolAnswer {
    /// Welcome.
    Granted {
        /// The agent's certificate, then the authority's, in PEM.
        certificates: String,
        /// The root document's envelope.
        #[serde(with = "serde_bytes")]
        root: Vec<u8>,
    },
    /// No, and why.
    Refused {
        /// What the technician should know.
        message: String,
    },
}

impl EnrolAsk {
    /// Asks for `csr` to be signed, proving both the code's secret and the identity key.
    pub fn new(code: &JoinCode, identity: &SigningKey, csr: Vec<u8>) -> Self {
        let bound = bound_bytes(&code.cluster, &code.token, &identity.public(), &csr);
        let key = hmac::Key::new(hmac::HMAC_SHA256, code.secret.as_bytes());
        let mac = hmac::sign(&key, &bound).as_ref().to_vec();
        let proof = identity.sign(&bound).to_vec();
        Self { cluster: code.cluster.clone(), identity: identity.public(), csr, mac, proof }
    }

    /// Whether it asks to be the `cluster` its token is for, and both proofs hold. The comparison takes the
    /// same time wherever they differ.
    pub fn is_proved(&self, cluster: &ClusterId, token: &TokenId, secret: &JoinSecret) -> bool {
        let bound = bound_bytes(&self.cluster, token, &self.identity, &self.csr);
        let key = hmac::Key::new(hmac::HMAC_SHA256, secret.as_bytes());
        let signed = self.proof.len() == SIGNATURE_BYTES && self.identity.verifies(&bound, &self.proof);
        signed && &self.cluster == cluster && hmac::verify(&key, &bound, &self.mac).is_ok()
    }
}

fn bound_bytes(cluster: &ClusterId, token: &TokenId, identity: &PublicKey, csr: &[u8]) -> Vec<u8> {
    codec::encode(&("edgefleet/1 enrol", cluster, token, identity, serde_bytes::Bytes::new(csr)))
}
