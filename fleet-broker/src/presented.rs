//! The hub's own certificate: every listener shows the same one, and it is replaced while they run.

use std::sync::{Arc, PoisonError, RwLock};

use jiff::Timestamp;
use protocol::{renew::Validity, time::UnixSeconds};
use rustls::{
    crypto::ring::sign::any_supported_type,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::pki::{CertificateAuthority, PkiError, ServerIdentity};

/// A certificate of the hub's own that cannot be shown.
#[derive(Debug, thiserror::Error)]
pub enum OwnError {
    /// It cannot be made.
    #[error(transparent)]
    Make(#[from] PkiError),
    /// TLS cannot use it.
    #[error("TLS cannot use the hub's own key")]
    Tls(#[from] rustls::Error),
}

/// The hub's own certificate and what makes the next one.
pub(crate) struct OwnCertificate {
    names: Vec<String>,
    presented: Arc<Presented>,
    validity: Validity,
}

impl OwnCertificate {
    /// Makes the first, good for `names`.
    pub(crate) fn make(
        authority: &CertificateAuthority,
        names: Vec<String>,
        now: Timestamp,
    ) -> Result<Self, OwnError> {
        let presented = Presented::new(authority.server_identity(&names, now)?)?;
        Ok(Self { names, presented, validity: validity(authority, now) })
    }

    /// What listeners show.
    pub(crate) fn presented(&self) -> Arc<Presented> {
        Arc::clone(&self.presented)
    }

    /// Makes the next one when a third of this one's life is over. If that fails the next tick tries again, with two
    /// thirds of a life left.
    pub(crate) fn renew_if_due(&mut self, authority: &CertificateAuthority, now: Timestamp) {
        if !self.validity.is_due(seconds(now), 0) {
            return;
        }
        match self.renew(authority, now) {
            Ok(()) => tracing::info!(until = self.validity.not_after.0, "renewed the hub's own certificate"),
            Err(error) => {
                tracing::error!(error = &error as &dyn std::error::Error, "the hub's own certificate")
            }
        }
    }

    fn renew(&mut self, authority: &CertificateAuthority, now: Timestamp) -> Result<(), OwnError> {
        self.presented.replace(authority.server_identity(&self.names, now)?)?;
        self.validity = validity(authority, now);
        Ok(())
    }
}

fn validity(authority: &CertificateAuthority, now: Timestamp) -> Validity {
    let now = seconds(now);
    Validity { not_before: now, not_after: now.plus(authority.lifetime().as_secs()) }
}

fn seconds(time: Timestamp) -> UnixSeconds {
    UnixSeconds(u64::try_from(time.as_second()).unwrap_or_default())
}

/// What listeners show now. Connections that are up stay up when it is replaced.
#[derive(Debug)]
pub struct Presented(RwLock<Arc<CertifiedKey>>);

impl Presented {
    /// Shows `identity`.
    ///
    /// # Errors
    /// When TLS cannot use its key.
    pub fn new(identity: ServerIdentity) -> Result<Arc<Self>, rustls::Error> {
        Ok(Arc::new(Self(RwLock::new(certified(identity)?))))
    }

    /// Shows `identity` from the next connection on.
    ///
    /// # Errors
    /// When TLS cannot use its key; what was shown before stays.
    pub fn replace(&self, identity: ServerIdentity) -> Result<(), rustls::Error> {
        let key = certified(identity)?;
        *self.0.write().unwrap_or_else(PoisonError::into_inner) = key;
        Ok(())
    }
}

impl ResolvesServerCert for Presented {
    fn resolve(&self, _: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(Arc::clone(&self.0.read().unwrap_or_else(PoisonError::into_inner)))
    }
}

fn certified(identity: ServerIdentity) -> Result<Arc<CertifiedKey>, rustls::Error> {
    Ok(Arc::new(CertifiedKey::new(identity.chain, any_supported_type(&identity.key)?)))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tempfile::TempDir;

    use super::*;

    #[test]
    fn the_hubs_own_certificate_is_replaced_when_a_third_of_its_life_is_over() {
        let directory = TempDir::new().unwrap();
        let start = Timestamp::from_second(1_800_000_000).unwrap();
        let authority = CertificateAuthority::load_or_create(directory.path(), "north", start).unwrap();
        let mut own = OwnCertificate::make(&authority, vec!["localhost".to_owned()], start).unwrap();
        let shown = |own: &OwnCertificate| own.presented.0.read().unwrap().cert[0].clone();
        let cases = [
            // days since the start, replaced
            (59, false),
            (60, true),
            (61, false),
            (119, false),
            (120, true),
            // The clock was wrong, and is set back.
            (10, true),
            (10, false),
        ];
        for (days, replaced) in cases {
            let before = shown(&own);
            let now = start.checked_add(Duration::from_secs(days * 24 * 60 * 60)).unwrap();
            own.renew_if_due(&authority, now);
            assert_eq!(shown(&own) != before, replaced, "after {days} days");
        }
    }
}
