//! Joining a fleet: a join code in, a state directory out.
//!
//! Keys are made here and never leave; they are written before the hub is asked, and asked with again if a first
//! try was cut off. The configuration comes last: without it the machine has not joined.

use std::{
    fs, io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use protocol::{
    codec,
    enrol::{EnrolAnswer, EnrolAsk, JoinCode},
    ids::TokenId,
    keys::SigningKey,
    verify::{Trust, VerifyError},
};
use zeroize::Zeroizing;

use crate::{
    boundary::Boundaries,
    clock::{self, NoRandom},
    config::{Address, Config, Kubernetes, LogFormat, LogLevel, StateDir},
    enrol::{Bootstrap, EnrolError, KeyAndRequest},
    files,
    run::{RunError, read_key},
    tls,
};

/// How long the hub may take to answer: an operator may have to say yes first.
const ANSWER_WITHIN: Duration = Duration::from_secs(120);

/// Why a machine did not join.
#[derive(Debug, thiserror::Error)]
pub enum JoinError {
    /// It has joined already.
    #[error("{} exists: this machine has joined; remove the directory to join anew", path.display())]
    Joined {
        /// The configuration.
        path: PathBuf,
    },
    /// The code's addresses are none.
    #[error("the join code is of no use: {0}")]
    Address(String),
    /// A file cannot be written.
    #[error("cannot write {}", path.display())]
    Write {
        /// The file or directory.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// No key can be made.
    #[error("cannot make a key")]
    Random(#[from] NoRandom),
    /// A key that an earlier try wrote cannot be read.
    #[error("cannot go on from an earlier try")]
    Earlier(#[source] RunError),
    /// The hub did not answer.
    #[error("the hub did not let this machine join")]
    Enrol(#[from] EnrolError),
    /// The hub said no.
    #[error("the hub refused: {message}")]
    Refused {
        /// Why.
        message: String,
    },
    /// The hub's answer is not one.
    #[error("the hub's answer is of no use: {0}")]
    Answer(&'static str),
    /// The root document is not the one in the code.
    #[error(
        "the hub's root document is not the one in the join code: ask for a new code, from a person you know"
    )]
    Root(#[source] VerifyError),
}

/// Joins the fleet of `code` and writes the state directory. Returns the configuration's path.
pub async fn join(code: &JoinCode, state: &StateDir, kubernetes: Kubernetes) -> Result<PathBuf, JoinError> {
    let config = state.config();
    if config.exists() {
        return Err(JoinError::Joined { path: config });
    }
    let text = config_of(code, kubernetes)?;
    make_folder(state.folder())?;
    let identity = identity_key(state)?;
    let connection = KeyAndRequest::make(&code.cluster)?;
    let answer = ask(code, &identity, connection.request).await?;
    let (certificates, root) = match answer {
        EnrolAnswer::Granted { certificates, root } => (certificates, root),
        EnrolAnswer::Refused { message } => return Err(JoinError::Refused { message }),
    };
    Trust::pin(&root, &code.fleet, code.root).map_err(JoinError::Root)?;
    let (certificate, ca) = split(&certificates)?;
    if tls::pin(ca.as_bytes()) != Some(code.ca_pin) {
        return Err(JoinError::Answer("it names another certificate authority than the join code"));
    }
    let both = Zeroizing::new([certificate.as_bytes(), connection.key_pem.as_bytes()].concat());
    write_secret(&state.connection(), &both)?;
    write(&state.ca(), ca.as_bytes(), 0o644)?;
    write(&state.root(), &root, 0o644)?;
    write(&config, text.as_bytes(), 0o644)?;
    Ok(config)
}

async fn ask(code: &JoinCode, identity: &SigningKey, request: Vec<u8>) -> Result<EnrolAnswer, JoinError> {
    let Address { host, port } = Address::try_from(code.enrol.clone()).map_err(JoinError::Address)?;
    let (ca_pin, token): (_, TokenId) = (code.ca_pin, code.token.clone());
    let bootstrap = Bootstrap { host, port, ca_pin, token, within: ANSWER_WITHIN };
    let question = codec::encode(&EnrolAsk::new(code, identity, request));
    let answer = bootstrap.ask(question).await?;
    codec::decode("enrolment answer", &answer).map_err(|_| JoinError::Answer("it does not decode"))
}

fn config_of(code: &JoinCode, kubernetes: Kubernetes) -> Result<String, JoinError> {
    let config = Config {
        cluster: code.cluster.clone(),
        fleet: code.fleet.clone(),
        root: code.root,
        broker: Address::try_from(code.broker.clone()).map_err(JoinError::Address)?,
        enrol: Some(Address::try_from(code.enrol.clone()).map_err(JoinError::Address)?),
        state: PathBuf::new(),
        kubernetes,
        heartbeat_seconds: 3600,
        keepalive_seconds: crate::link::KEEPALIVE_SECONDS,
        log: LogFormat::Text,
        log_level: LogLevel::Info,
    };
    config.to_text().map_err(|_| JoinError::Answer("it cannot be written as a configuration"))
}

/// The agent's certificate, and the authority's behind it.
fn split(certificates: &str) -> Result<(&str, &str), JoinError> {
    const BEGIN: &str = "-----BEGIN CERTIFICATE-----";
    let second = certificates.match_indices(BEGIN).nth(1);
    let (at, _) = second.ok_or(JoinError::Answer("it lacks a certificate"))?;
    Ok(certificates.split_at(at))
}

/// The key of an earlier try that was cut off, or a new one.
fn identity_key(state: &StateDir) -> Result<SigningKey, JoinError> {
    let path = state.identity_key();
    if path.exists() {
        return read_key(&path).map_err(JoinError::Earlier);
    }
    let seed = clock::random::<32>()?;
    let text = Zeroizing::new(hex::encode(seed.as_slice()));
    write_secret(&path, text.as_bytes())?;
    Ok(SigningKey::from_seed(seed))
}

fn make_folder(path: &Path) -> Result<(), JoinError> {
    let made = fs::DirBuilder::new().recursive(true).mode(0o700).create(path);
    made.map_err(|source| JoinError::Write { path: path.to_owned(), source })
}

fn write_secret(path: &Path, bytes: &[u8]) -> Result<(), JoinError> {
    write(path, bytes, 0o600)
}

fn write(path: &Path, bytes: &[u8], mode: u32) -> Result<(), JoinError> {
    let written = files::write(path, bytes, mode, &Boundaries::default());
    written.map_err(|source| JoinError::Write { path: path.to_owned(), source })
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_key_is_made_once_and_only_its_owner_reads_it() {
        let folder = tempfile::tempdir().unwrap();
        let state = StateDir::new(&folder.path().join("state"));
        make_folder(state.folder()).unwrap();
        let first = identity_key(&state).unwrap().public();
        assert_eq!(identity_key(&state).unwrap().public(), first);
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!((mode(state.folder()), mode(&state.identity_key())), (0o700, 0o600));
    }

    #[test]
    fn certificates_come_in_a_row() {
        let one = "-----BEGIN CERTIFICATE-----\nQQ==\n-----END CERTIFICATE-----\n";
        let two = one.replace("QQ==", "Qg==");
        assert_eq!(split(&format!("{one}{two}")).unwrap(), (one, two.as_str()));
        assert!(split(one).is_err());
    }
}
