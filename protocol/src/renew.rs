//! A new certificate for a cluster that has joined, before the old one ends or long after: no join code, the
//! identity key proves who asks.
//!
//! Two questions, since neither side can rely on a clock. The hub answers the first with a challenge that is good
//! for moments and for this cluster, and the second, signed together with that challenge, with the certificate.

use serde::{Deserialize, Serialize};

use crate::{
    codec,
    ids::{ClusterId, FleetId},
    keys::{PublicKey, SIGNATURE_BYTES, SigningKey},
    time::UnixSeconds,
};

/// Longest challenge in bytes: a hub's clock and an authentication code.
pub const CHALLENGE_BYTES: usize = 64;

/// From when until when a certificate is good.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Validity {
    /// From when.
    pub not_before: UnixSeconds,
    /// Until when.
    pub not_after: UnixSeconds,
}

impl Validity {
    /// How long it is good for, in seconds.
    pub fn lifetime(&self) -> u64 {
        self.not_after.since(self.not_before)
    }

    /// Whether it is to be renewed: a third of its life is over, and `later` seconds more. By a clock that stands
    /// before its beginning it is due as well, since such a clock would not tell when it ends.
    pub fn is_due(&self, now: UnixSeconds, later: u64) -> bool {
        now < self.not_before || self.not_before.plus(self.lifetime() / 3).plus(later) <= now
    }
}

/// What an agent asks. Sent where agents join, and told from [`crate::enrol::EnrolAsk`] by its shape.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenewAsk {
    /// Give me a challenge.
    Challenge {
        /// Who asks. Nothing proves it yet, and nothing is given away.
        cluster: ClusterId,
    },
    /// Give me a certificate.
    Certificate {
        /// For what, and the proof.
        ask: CertificateAsk,
    },
}

/// Asks for a certificate, with proof by the identity key.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CertificateAsk {
    /// Who asks.
    pub cluster: ClusterId,
    /// The key it joined with.
    pub identity: PublicKey,
    /// What the hub answered to the first question.
    #[serde(with = "serde_bytes")]
    pub challenge: Vec<u8>,
    /// Certificate request (PKCS #10, DER) for a new connection key.
    #[serde(with = "serde_bytes")]
    pub csr: Vec<u8>,
    /// Proof that it holds the identity key.
    #[serde(with = "serde_bytes")]
    proof: Vec<u8>,
}

/// What the hub answers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum RenewAnswer {
    /// Sign this.
    Challenge {
        /// Opaque to the agent; at most [`CHALLENGE_BYTES`].
        #[serde(with = "serde_bytes")]
        challenge: Vec<u8>,
    },
    /// Here it is.
    Granted {
        /// The agent's certificate in PEM.
        certificate: String,
    },
    /// No, and why.
    Refused {
        /// What the technician should know.
        message: String,
    },
}

impl CertificateAsk {
    /// Asks for `csr` to be signed, proving the identity key. None if the challenge is longer than any is: a
    /// stranger's bytes are not signed without a bound.
    pub fn new(
        fleet: &FleetId,
        cluster: &ClusterId,
        identity: &SigningKey,
        challenge: Vec<u8>,
        csr: Vec<u8>,
    ) -> Option<Self> {
        if challenge.len() > CHALLENGE_BYTES {
            return None;
        }
        let bound = bound_bytes(fleet, cluster, &identity.public(), &challenge, &csr);
        let proof = identity.sign(&bound).to_vec();
        Some(Self { cluster: cluster.clone(), identity: identity.public(), challenge, csr, proof })
    }

    /// Whether the identity key it names signed all that it says, for this fleet. Whether that key is the
    /// cluster's, and the challenge a fresh one of the hub's, is for the hub to say.
    pub fn is_proved(&self, fleet: &FleetId) -> bool {
        let bound = bound_bytes(fleet, &self.cluster, &self.identity, &self.challenge, &self.csr);
        self.proof.len() == SIGNATURE_BYTES && self.identity.verifies(&bound, &self.proof)
    }
}

fn bound_bytes(
    fleet: &FleetId,
    cluster: &ClusterId,
    identity: &PublicKey,
    challenge: &[u8],
    csr: &[u8],
) -> Vec<u8> {
    let (challenge, csr) = (serde_bytes::Bytes::new(challenge), serde_bytes::Bytes::new(csr));
    codec::encode(&("edgefleet/1 renew", fleet, cluster, identity, challenge, csr))
}
