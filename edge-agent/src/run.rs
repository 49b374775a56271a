//! Runs an agent as its configuration says, on a cluster that the caller gives.

use std::{
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use protocol::{
    keys::SigningKey,
    verify::{Trust, VerifyError},
};
use tokio::{
    sync::{Notify, mpsc, oneshot, watch},
    time::timeout,
};
use tracing::{info, warn};
use zeroize::Zeroizing;

use crate::{
    boundary::Boundaries,
    clock::{self, NoRandom},
    cluster::Cluster,
    config::{Config, StateDir},
    control::{self, ControlError},
    driver::{DriveError, Driver, Seen, Setup},
    files, journal,
    link::{Backoff, LinkConfig, LinkError},
    logic::agent::Identity,
    renew::Renewer,
    uplink::{self, OverMqtt},
};

/// How long connecting to the hub may take: a name look-up, TCP and TLS at 600 ms each way, and the hub's
/// consent.
const CONNECT_WITHIN: Duration = Duration::from_secs(30);

/// Longest first wait before connecting again.
const FIRST_WAIT: Duration = Duration::from_secs(2);

/// Longest wait before connecting again: what an operator may have to wait who mended the link.
const LONGEST_WAIT: Duration = Duration::from_secs(300);

/// How long the link may take to say goodbye.
const FAREWELL: Duration = Duration::from_secs(2);

/// Requests at the control socket that may wait: its clients are served one after another.
const ASKS: usize = 1;

/// Version of this program.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");

/// Why an agent did not start, or stopped.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// A file of the cluster's identity cannot be read.
    #[error("cannot read {}: has this machine joined? (`edge-agent join`)", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The key that signs reports is not one.
    #[error("{} does not hold a key of 64 hexadecimal digits: join again", path.display())]
    Key {
        /// The file.
        path: PathBuf,
    },
    /// The root document is not the one that was pinned.
    #[error("{} is not the root document that this cluster joined with: join again", path.display())]
    Root {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: VerifyError,
    },
    /// The link to the hub cannot start.
    #[error("cannot start the link to the hub")]
    Link(#[from] LinkError),
    /// The control socket cannot be made.
    #[error(transparent)]
    Control(#[from] ControlError),
    /// The agent cannot go on.
    #[error(transparent)]
    Drive(#[from] DriveError),
}

/// Runs the agent of `config` on `cluster` until `shutdown` is ready.
///
/// Must be called on a tokio runtime with one thread.
pub async fn run(
    config: Config,
    cluster: impl Cluster + Clone + 'static,
    boundaries: Boundaries,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    run_seen(config, cluster, boundaries, watch::Sender::default(), shutdown).await
}

/// [`run`], with how it is with the hub told to `seen`: for a program that runs many.
pub async fn run_seen(
    config: Config,
    cluster: impl Cluster + Clone + 'static,
    boundaries: Boundaries,
    seen: watch::Sender<Seen>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let state = config.state_dir();
    files::join_connection(&state, &boundaries)
        .map_err(|source| RunError::Read { path: state.connection(), source })?;
    let setup = Setup { seen, ..setup(&config, &state, boundaries)? };
    let (asks, asked) = mpsc::channel(ASKS);
    let link = link_config(&config, &state).map_err(DriveError::Random)?;
    let renewer = renewer(&config, &setup, state.clone(), Arc::clone(&link.renewed));
    let OverMqtt { uplink, carrier, word, notices } = uplink::over_mqtt(link)?;
    // The journal's lock comes first: it tells whether another agent has the control socket.
    let driver = Driver::new(setup, cluster, uplink, asked)?;
    let serving = tokio::spawn(control::serve(control::listen(&state.control())?, asks));
    let renewing = tokio::spawn(renewer.run(word, notices));
    info!(cluster = %config.cluster, version = VERSION, "running");
    let ended = driver.run(shutdown).await;
    serving.abort();
    renewing.abort();
    if timeout(FAREWELL, carrier).await.is_err() {
        warn!("the hub was left without a goodbye");
    }
    leave(&state);
    Ok(ended?)
}

/// [`run`] without a link: for as long as somebody at the site needs an agent where none runs. Says by `ready` that it
/// answers at the control socket.
pub async fn run_apart(
    config: Config,
    cluster: impl Cluster + Clone + 'static,
    ready: oneshot::Sender<()>,
    shutdown: impl Future<Output = ()>,
) -> Result<(), RunError> {
    let state = config.state_dir();
    let setup = setup(&config, &state, Boundaries::default())?;
    let (asks, asked) = mpsc::channel(ASKS);
    // Held to the end: an agent whose link is gone for good stops.
    let (uplink, _nobody) = uplink::channel();
    let driver = Driver::new(setup, cluster, uplink, asked)?;
    let serving = tokio::spawn(control::serve(control::listen(&state.control())?, asks));
    // Whoever waits for it may have gone.
    let _told = ready.send(());
    let ended = driver.run(shutdown).await;
    serving.abort();
    leave(&state);
    Ok(ended?)
}

fn setup(config: &Config, state: &StateDir, boundaries: Boundaries) -> Result<Setup, RunError> {
    Ok(Setup {
        identity: identity(config, state)?,
        trust: trust(config, state)?,
        journal: state.journal(),
        journal_bytes: journal::MAX_BYTES,
        boundaries,
        seen: watch::Sender::default(),
    })
}

fn leave(state: &StateDir) {
    if let Err(error) = fs::remove_file(state.control()) {
        warn!(%error, "cannot remove the control socket");
    }
}

fn identity(config: &Config, state: &StateDir) -> Result<Identity, RunError> {
    Ok(Identity {
        cluster: config.cluster.clone(),
        fleet: config.fleet.clone(),
        key: Arc::new(read_key(&state.identity_key())?),
        version: VERSION,
        heartbeat: Duration::from_secs(u64::from(config.heartbeat_seconds)),
    })
}

fn renewer(config: &Config, setup: &Setup, state: StateDir, renewed: Arc<Notify>) -> Renewer {
    Renewer {
        fleet: config.fleet.clone(),
        cluster: config.cluster.clone(),
        identity: Arc::clone(&setup.identity.key),
        state,
        hub: config.enrol(),
        boundaries: setup.boundaries.clone(),
        renewed,
    }
}

fn trust(config: &Config, state: &StateDir) -> Result<Trust, RunError> {
    let path = state.root();
    let bytes = read(&path)?;
    Trust::pin(&bytes, &config.fleet, config.root).map_err(|source| RunError::Root { path, source })
}

fn link_config(config: &Config, state: &StateDir) -> Result<LinkConfig, NoRandom> {
    let seed = u64::from_be_bytes(*clock::random()?);
    Ok(LinkConfig {
        cluster: config.cluster.clone(),
        host: config.broker.host.clone(),
        port: config.broker.port,
        identity: state.connection(),
        trusted_ca: state.ca(),
        keepalive_seconds: config.keepalive_seconds,
        connect_within: CONNECT_WITHIN,
        backoff: Backoff { first: FIRST_WAIT, cap: LONGEST_WAIT, seed },
        renewed: Arc::default(),
    })
}

/// Reads the seed of a key: 64 hexadecimal digits.
pub(crate) fn read_key(path: &Path) -> Result<SigningKey, RunError> {
    let text = Zeroizing::new(read(path)?);
    let mut seed = Zeroizing::new([0; 32]);
    hex::decode_to_slice(text.trim_ascii(), seed.as_mut_slice())
        .map_err(|_| RunError::Key { path: path.to_owned() })?;
    Ok(SigningKey::from_seed(seed))
}

fn read(path: &Path) -> Result<Vec<u8>, RunError> {
    fs::read(path).map_err(|source| RunError::Read { path: path.to_owned(), source })
}

#[cfg(test)]
#[cfg(feature = "sim")]
mod tests;
