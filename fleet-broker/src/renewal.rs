//! Certificates for clusters that have joined. Who asks is known by the identity key alone, so it makes no difference
//! whether the certificate before is good, about to end, or ended months ago.

use jiff::Timestamp;
use protocol::{
    ids::FleetId,
    renew::{CertificateAsk, RenewAnswer, RenewAsk},
    time::Now,
};

use crate::{
    logic::{fleet::Fleet, renewal::Challenges},
    pki::CertificateAuthority,
    random,
};

/// Answers clusters that renew.
pub(crate) struct Renewals {
    fleet: FleetId,
    challenges: Challenges,
}

impl Renewals {
    /// Challenges of a hub that ran before are void.
    pub(crate) fn new(fleet: FleetId) -> Self {
        Self { fleet, challenges: Challenges::new(&random::bytes()) }
    }

    /// Answers a question. `date` is what the certificate says; nothing is judged by it.
    pub(crate) fn answer(
        &mut self,
        ask: &RenewAsk,
        known: &Fleet,
        authority: &CertificateAuthority,
        now: Now,
        date: Timestamp,
    ) -> RenewAnswer {
        match ask {
            RenewAsk::Challenge { cluster } => {
                RenewAnswer::Challenge { challenge: self.challenges.make(now.monotonic, cluster) }
            }
            RenewAsk::Certificate { ask } => match self.certificate(ask, known, authority, now, date) {
                Ok(certificate) => RenewAnswer::Granted { certificate },
                Err(message) => {
                    tracing::warn!(cluster = %ask.cluster, identity = %ask.identity.id(), message, "no new certificate");
                    RenewAnswer::Refused { message }
                }
            },
        }
    }

    fn certificate(
        &mut self,
        ask: &CertificateAsk,
        known: &Fleet,
        authority: &CertificateAuthority,
        now: Now,
        date: Timestamp,
    ) -> Result<String, String> {
        if !ask.is_proved(&self.fleet) {
            return Err("the proof by the identity key does not hold".to_owned());
        }
        known.may_renew(&ask.cluster, &ask.identity)?;
        if !self.challenges.take(now.monotonic, &ask.cluster, &ask.challenge) {
            return Err("the challenge was used, is too old or is not this hub's: ask for another".to_owned());
        }
        let signed = authority.sign_cluster(&ask.csr, &ask.cluster, &ask.identity.id(), date);
        let signed = signed.map_err(|error| error.to_string())?;
        tracing::info!(cluster = %ask.cluster, until = %signed.not_after, "renewed a certificate");
        Ok(signed.pem)
    }
}

#[cfg(test)]
mod tests;
