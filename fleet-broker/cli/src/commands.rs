//! The subcommands: what they take, what they do with it, and what they print.

mod approve;
mod arguments;
mod backup;
mod bundle;
mod cluster;
mod diff;
mod doctor;
mod error;
mod export;
mod freeze;
mod keys;
mod quickstart;
mod status;
mod token;

use std::io::Read;

use clap::Subcommand;
use protocol::time::UnixSeconds;

pub use error::{CommandError, Exit};

use crate::output::Output;

/// What a command gets from the process it runs in.
pub struct Context<'a> {
    /// The time at which the command started.
    pub now: UnixSeconds,
    /// Standard input.
    pub stdin: &'a mut dyn Read,
    /// Where it prints to.
    pub output: Output<'a>,
}

/// Everything `edgefleet` does.
#[derive(Debug, Subcommand)]
pub enum Command {
    /// Make a fleet's keys, and show what they may do
    #[command(subcommand)]
    Keys(keys::Keys),
    /// Build, sign and check what is sent to clusters
    #[command(subcommand)]
    Bundle(bundle::Bundles),
    /// Register clusters
    #[command(subcommand)]
    Cluster(cluster::Clusters),
    /// Show what a change would do before it is made
    ///
    /// Takes Applications as they would be applied, and bundles as they would be published, signed or not. A bundle
    /// alone stands for its Application with that bundle in place of the one it has. Compares them with what the hub
    /// holds: which clusters would go from what to what, and how the objects on them would differ. Changes nothing.
    ///
    /// The hub does not show which parameters a cluster was told, so the Application's own are taken for them. Content
    /// is compared with its digests; who signed it is for `bundle verify`.
    Diff(diff::Diff),
    /// Say what is wrong with a hub, a fleet's keys or a site, and what to do
    Doctor(doctor::Doctor),
    /// Take a backup of a running hub: all that another machine needs to be that hub
    ///
    /// The hub goes on working meanwhile. The backup holds private keys: only you may read it, and whoever else does can
    /// be the hub.
    Backup(backup::Backup),
    /// Write all that a cluster without a link needs into a file, to be carried there by hand
    ///
    /// At the site, `edge-agent import FILE` takes it. It holds no key, and only that cluster takes it; but bundles are
    /// signed and not sealed, so that whoever has the file can read them. What is frozen, on hold or waits for an approval here does not start there either. A freeze that comes later does not
    /// reach it: nothing of it starts after the day that is printed.
    Export(export::Export),
    /// Make a hub of a backup, and let it change clusters again
    ///
    /// A restored hub knows less than its clusters. It learns from them what they run, moves none back, and changes
    /// nothing anywhere until it is told so with --accept.
    Restore(backup::Restore),
    /// Let a change through that takes an application from many clusters
    ///
    /// Such a change waits, and `edgefleet status` says what it would do. What is approved is what was looked at: an
    /// Application that was changed in between has to be approved again.
    Approve(approve::Approve),
    /// Stop every start in the fleet, for one tenant or on some clusters, until it is lifted
    Freeze(freeze::Freeze),
    /// Lift a freeze
    Unfreeze(freeze::Unfreeze),
    /// Show the fleet at a glance
    Status(status::Status),
    /// Say who else may use the hub, and how far
    #[command(subcommand)]
    Token(token::Tokens),
    /// Run a hub and one agent here, and deliver a demo bundle
    Quickstart(quickstart::Quickstart),
}

/// A runtime for talking to the hub.
fn hub_runtime() -> Result<tokio::runtime::Runtime, CommandError> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    runtime.map_err(CommandError::Runtime)
}

impl Command {
    /// Does it.
    pub fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        match self {
            Self::Keys(command) => command.run(context),
            Self::Bundle(command) => command.run(context),
            Self::Cluster(command) => command.run(context),
            Self::Diff(command) => command.run(context),
            Self::Doctor(command) => command.run(context),
            Self::Backup(command) => command.run(context),
            Self::Export(command) => command.run(context),
            Self::Restore(command) => command.run(context),
            Self::Approve(command) => command.run(context),
            Self::Freeze(command) => command.run(context),
            Self::Unfreeze(command) => command.run(context),
            Self::Status(command) => command.run(context),
            Self::Token(command) => command.run(context),
            Self::Quickstart(command) => command.run(context),
        }
    }
}
