//! Hubs that run as programs of their own.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};
use fleet_broker::keys::{self, Charter, ROOT_FILE};
use fleet_broker::serve::KUBECONFIG;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use protocol::ids::{FleetId, Name};
use protocol::time::UnixSeconds;
use tempfile::TempDir;

use crate::network::free_port;
use crate::process::program;

/// How long a fleet's keys are good for: longer than any test.
const KEYS_SECONDS: u64 = 30 * 24 * 60 * 60;

/// The one tenant of such a hub's fleet, and its one namespace.
pub const FLEET_TENANT: &str = "radio";

/// A hub's folder, its fleet's keys, and where it listens through all its lives.
#[derive(Debug)]
pub struct HubFolder {
    folder: TempDir,
    ports: [u16; 3],
}

impl HubFolder {
    /// Makes a folder with the keys of a fleet that has one tenant, [`FLEET_TENANT`]. Any hub may serve it.
    ///
    /// # Errors
    ///
    /// When the keys cannot be written.
    pub fn create(fleet: &str) -> Result<Self> {
        let folder = TempDir::with_prefix(format!("{fleet}-"))?;
        let now = now()?;
        let charter = Charter {
            fleet: FleetId::new(fleet)?,
            tenant: Name::new(FLEET_TENANT)?,
            namespaces: vec![FLEET_TENANT.parse()?],
            ca_pins: Vec::new(),
            issued: now,
            not_after: now.plus(KEYS_SECONDS),
        };
        keys::generate(&charter)?.write(&folder.path().join("keys"))?;
        Ok(Self { folder, ports: [free_port()?, free_port()?, free_port()?] })
    }

    /// The command that serves it. It has printed `ready` once the API answers.
    ///
    /// # Errors
    ///
    /// When the hub was not built.
    pub fn command(&self) -> Result<Command> {
        let keys = self.folder().join("keys");
        let [api, broker, enrol] = self.ports.map(|port| format!("127.0.0.1:{port}"));
        let mut command = Command::new(program("fleet-broker")?);
        command.args(["serve", "--advertise", "127.0.0.1", "--data"]).arg(self.data());
        command.arg("--root").arg(keys.join(ROOT_FILE)).arg("--director-key").arg(keys.join("director.key"));
        command.args(["--api", &api, "--broker", &broker, "--enrol", &enrol]);
        Ok(command)
    }

    /// A client with the administrator's token.
    ///
    /// # Errors
    ///
    /// When no hub has been ready in this folder.
    pub async fn client(&self) -> Result<Client> {
        let path = self.kubeconfig();
        let file = Kubeconfig::read_from(&path).with_context(|| format!("read {}", path.display()))?;
        let config = Config::from_custom_kubeconfig(file, &KubeConfigOptions::default()).await?;
        Ok(Client::try_from(config)?)
    }

    /// The administrator's kubeconfig.
    pub fn kubeconfig(&self) -> PathBuf {
        self.data().join(KUBECONFIG)
    }

    /// The hub's own folder in it.
    pub fn data(&self) -> PathBuf {
        self.folder().join("hub")
    }

    /// The folder, which is removed with this.
    pub fn folder(&self) -> &Path {
        self.folder.path()
    }
}

#[allow(clippy::disallowed_methods, reason = "keys are made for the time at which the test runs")]
fn now() -> Result<UnixSeconds> {
    Ok(UnixSeconds(u64::try_from(jiff::Timestamp::now().as_second())?))
}
