//! `edgefleet quickstart`.

use std::path::PathBuf;

use clap::Args;

use super::{CommandError, Context, hub_runtime};
use crate::quickstart::{self, Options};

/// Where, and on what.
#[derive(Debug, Args)]
pub struct Quickstart {
    /// Where everything is kept; the same folder again goes on where it stopped
    #[arg(long, value_name = "FOLDER", default_value = "edgefleet-quickstart")]
    dir: PathBuf,
    /// Use a real cluster; without it, a simulated one in this process
    #[arg(long, value_name = "FILE")]
    kubeconfig: Option<PathBuf>,
    /// Stop once the demo is healthy
    #[arg(long)]
    once: bool,
}

impl Quickstart {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        // Whoever installed one before is this same provider.
        let _installed = rustls::crypto::ring::default_provider().install_default();
        let options = Options {
            folder: self.dir.clone(),
            kubeconfig: self.kubeconfig.clone(),
            once: self.once,
            now: context.now,
        };
        hub_runtime()?.block_on(quickstart::run(&options, &mut context.output))
    }
}
