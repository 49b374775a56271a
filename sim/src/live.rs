//! A live fleet: thousands of the production's agents over MQTT and TLS, with journals on disk, against the production's
//! hub. Only Kubernetes is simulated, and the network between them, which gives each site an address of its own.
//!
//! This program is all of it but the hub: it starts itself again for every process of agents and its network.

mod agents;
mod fleet;
mod network;
mod process;
mod report;
mod stage;
mod tally;

use std::{ffi::OsString, path::PathBuf};

use anyhow::{Context as _, Result, bail};
use clap::ValueEnum;
use tokio::{
    runtime::{Builder, Runtime},
    signal::unix::{SignalKind, signal},
};

/// Runs production agents, each with a simulated cluster, against a production hub over real MQTT.
#[derive(Debug, clap::Args)]
pub struct Live {
    /// Clusters.
    #[arg(long, default_value_t = 200)]
    clusters: usize,
    /// The hub's program; the one beside this program if not given.
    #[arg(long, value_name = "FILE")]
    hub: Option<PathBuf>,
    /// Most clusters of one process, if not as many as its open files allow.
    #[arg(long, value_name = "CLUSTERS")]
    share: Option<usize>,
    /// How many clusters have an object changed by hand; one in ten if not given.
    #[arg(long, value_name = "CLUSTERS")]
    edits: Option<usize>,
    /// Over how many seconds these changes are spread.
    #[arg(long, value_name = "SECONDS", default_value_t = 30)]
    edits_for: u64,
    /// Most seconds of one phase; a minute and an eighth of a second for each cluster if not given.
    #[arg(long, value_name = "SECONDS")]
    within: Option<u64>,
    /// What this process is to be in the fleet of another.
    #[arg(long, hide = true)]
    part: Option<Part>,
    /// What that part is told.
    #[arg(last = true, hide = true)]
    told: Vec<OsString>,
}

/// A process of a live fleet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Agents, each with its cluster.
    Agents,
    /// What is between agents and the hub.
    Network,
    /// Becomes the hub.
    Hub,
}

impl Part {
    fn name(self) -> &'static str {
        match self {
            Self::Agents => "agents",
            Self::Network => "network",
            Self::Hub => "hub",
        }
    }
}

impl Live {
    /// Runs the fleet through its phases and prints the figures as tables. `say` is told what goes on.
    ///
    /// # Errors
    /// When a phase does not end in time, or a process of the fleet ends.
    pub fn run(&self, print: fn(&str), say: fn(&str)) -> Result<()> {
        if let Some(part) = self.part {
            return self.play(part);
        }
        // Whoever installed one before is this same provider.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        runtime()?.block_on(async {
            let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
            let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
            // Whatever this is dropped for, its processes end with it.
            tokio::select! {
                done = stage::all(self, print, say) => done,
                _ = interrupt.recv() => bail!("interrupted; every process that was started is ended"),
                _ = terminate.recv() => bail!("told to end; every process that was started is ended"),
            }
        })
    }

    fn play(&self, part: Part) -> Result<()> {
        process::die_with_parent()?;
        match part {
            Part::Agents => agents::run(&self.told),
            Part::Network => network::run(&self.told),
            Part::Hub => process::become_program(&self.told),
        }
    }
}

/// One thread: the agent is made for that, and a process that starts others is to be their parent until it ends.
fn runtime() -> Result<Runtime> {
    Builder::new_current_thread().enable_all().build().context("cannot start a runtime")
}
