//! Keeps the certificate good: asks for the next one in time, and for one after it ended. No person is needed.
//!
//! The hub is asked where machines join, not over the link: that works with a certificate that ended, and an agent
//! needs no topic that an older hub does not know. The identity key proves who asks.

use std::{fs, io, path::PathBuf, sync::Arc, time::Duration};

use protocol::{
    codec,
    documents::Condition,
    ids::{ClusterId, Digest, FleetId, IdError, TokenId},
    keys::SigningKey,
    renew::{CertificateAsk, RenewAnswer, RenewAsk, Validity},
    time::UnixSeconds,
};
use tokio::{
    sync::{Notify, watch},
    time::timeout,
};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::{
    boundary::Boundaries,
    clock::{self, Clock, NoRandom},
    config::{Address, StateDir},
    enrol::{Bootstrap, EnrolError, KeyAndRequest},
    files,
    logic::{
        renewal::{Next, Renewal},
        report::{self, chain, instant},
    },
    tls::{self, TlsError},
    uplink::{HubWord, Notices},
};

/// How long the hub may take to answer one question: nobody has to say yes first.
const ANSWER_WITHIN: Duration = Duration::from_secs(60);

/// What a certificate that cannot be read is taken for: one that ended, to be replaced with the usual pauses.
const UNREADABLE: Validity =
    Validity { not_before: UnixSeconds(0), not_after: UnixSeconds(180 * 24 * 60 * 60) };

/// What the certificate is about, and where the next one comes from.
pub(crate) struct Renewer {
    pub(crate) fleet: FleetId,
    pub(crate) cluster: ClusterId,
    pub(crate) identity: Arc<SigningKey>,
    pub(crate) state: StateDir,
    /// Where machines join.
    pub(crate) hub: Address,
    pub(crate) boundaries: Boundaries,
    /// Rung when there is a new certificate to connect with.
    pub(crate) renewed: Arc<Notify>,
}

/// A certificate that was not renewed.
#[derive(Debug, thiserror::Error)]
enum RenewError {
    /// A file of the cluster's identity cannot be read or written.
    #[error("cannot {doing} {}", path.display())]
    File {
        doing: &'static str,
        path: PathBuf,
        #[source]
        source: io::Error,
    },
    /// The certificate or the CA there is cannot be read.
    #[error("the certificate or its CA is of no use")]
    Tls(#[from] TlsError),
    /// No key, request or question can be made.
    #[error("cannot make a question")]
    Random(#[from] NoRandom),
    /// The random name of the question is none.
    #[error("cannot name a question")]
    Name(#[from] IdError),
    /// The hub did not answer.
    #[error("the hub did not renew the certificate")]
    Ask(#[from] EnrolError),
    /// The hub's answer is not one.
    #[error("the hub's answer is of no use: {0}")]
    Answer(&'static str),
    /// The hub said no.
    #[error("{message}")]
    Refused { message: String },
}

impl Renewer {
    /// Renews whenever it is time, until it is dropped.
    pub(crate) async fn run(self, mut word: watch::Receiver<HubWord>, notices: Notices) {
        let clock = Clock::start();
        let mut renewal = Renewal::default();
        loop {
            let validity = self.validity().unwrap_or(UNREADABLE);
            match renewal.next(clock.now(), validity, &self.cluster) {
                Next::Ask => self.renew_and_tell(&mut renewal, clock, &notices).await,
                Next::Wait(wait) => match timeout(wait, word.changed()).await {
                    Err(_) => {}
                    Ok(Err(_)) => return,
                    Ok(Ok(())) => match *word.borrow_and_update() {
                        HubWord::Nothing => {}
                        HubWord::Welcome => renewal.link_up(),
                        HubWord::NotThisCertificate => renewal.link_refused(),
                    },
                },
            }
        }
    }

    async fn renew_and_tell(&self, renewal: &mut Renewal, clock: Clock, notices: &Notices) {
        let outcome = self.renew().await;
        let now = clock.now().monotonic;
        match outcome {
            Ok(()) => {
                renewal.granted(now);
                self.renewed.notify_one();
                notices.certificate(None).await;
            }
            Err(error) => {
                warn!(error = %chain(&error), "the certificate was not renewed");
                let again = renewal.failed(now);
                // What the hub says no to will not mend itself.
                if again || matches!(error, RenewError::Refused { .. }) {
                    notices.certificate(Some(self.trouble(&error))).await;
                }
            }
        }
    }

    async fn renew(&self) -> Result<(), RenewError> {
        let ca = read(self.state.ca())?;
        let ca_pin = tls::pin(&ca).ok_or(RenewError::Answer("the CA is none"))?;
        let challenge = RenewAsk::Challenge { cluster: self.cluster.clone() };
        let RenewAnswer::Challenge { challenge } = self.ask(ca_pin, &challenge).await? else {
            return Err(RenewError::Answer("it is no challenge"));
        };
        let KeyAndRequest { key_pem, request } = KeyAndRequest::make(&self.cluster)?;
        let ask = CertificateAsk::new(&self.fleet, &self.cluster, &self.identity, challenge, request)
            .ok_or(RenewError::Answer("its challenge is too long"))?;
        let RenewAnswer::Granted { certificate } = self.ask(ca_pin, &RenewAsk::Certificate { ask }).await?
        else {
            return Err(RenewError::Answer("it is no certificate"));
        };
        // Not kept unless the link can be made of it: key and certificate belong together.
        tls::enrolled(&ca, certificate.as_bytes(), key_pem.as_bytes())?;
        let validity = tls::validity(&ca, certificate.as_bytes())?;
        let both = Zeroizing::new([certificate.as_bytes(), key_pem.as_bytes()].concat());
        let path = self.state.connection();
        files::write(&path, &both, 0o600, &self.boundaries).map_err(|source| RenewError::File {
            doing: "write",
            path,
            source,
        })?;
        info!(until = %instant(validity.not_after), "renewed the certificate");
        Ok(())
    }

    /// One question, on a connection of its own. A refusal is an error.
    async fn ask(&self, ca_pin: Digest, question: &RenewAsk) -> Result<RenewAnswer, RenewError> {
        let Address { host, port } = self.hub.clone();
        let token = TokenId::new(hex::encode(clock::random::<8>()?.as_slice()))?;
        let bootstrap = Bootstrap { host, port, ca_pin, token, within: ANSWER_WITHIN };
        let answer = bootstrap.ask(codec::encode(question)).await?;
        match codec::decode("renewal", &answer).map_err(|_| RenewError::Answer("it does not decode"))? {
            RenewAnswer::Refused { message } => Err(RenewError::Refused { message }),
            answer @ (RenewAnswer::Challenge { .. } | RenewAnswer::Granted { .. }) => Ok(answer),
        }
    }

    fn validity(&self) -> Result<Validity, RenewError> {
        Ok(tls::validity(&read(self.state.ca())?, &read(self.state.connection())?)?)
    }

    fn trouble(&self, error: &RenewError) -> Condition {
        let reason = if matches!(error, RenewError::Refused { .. }) { "HubRefused" } else { "NoAnswer" };
        let until = self.validity().map_or_else(|_| "?".to_owned(), |validity| instant(validity.not_after));
        let text = format!("it ends at {until}, and goes on being tried: {}", chain(error));
        report::condition("CertificateNotRenewed", true, reason, &text)
    }
}

fn read(path: PathBuf) -> Result<Zeroizing<Vec<u8>>, RenewError> {
    fs::read(&path).map(Zeroizing::new).map_err(|source| RenewError::File { doing: "read", path, source })
}
