//! `edgefleet cluster`: registering clusters, and believing them no more.

use std::path::PathBuf;

use clap::{Args, Subcommand};
use protocol::ids::ClusterId;

use super::{CommandError, Context, hub_runtime};
use crate::hub::{Hub, Revoked};

/// Which hub to speak to.
#[derive(Debug, Clone, Args)]
pub struct HubArguments {
    /// The hub's kubeconfig, as `fleet-broker serve` wrote it
    #[arg(long, value_name = "FILE", env = "EDGEFLEET_KUBECONFIG", default_value = "hub.kubeconfig")]
    pub kubeconfig: PathBuf,
}

/// What can be done with clusters.
#[derive(Debug, Subcommand)]
pub enum Clusters {
    /// Register a cluster and print the code with which its agent joins
    Add {
        /// Its name: 3 to 63 of a-z, 0-9 and '-'
        name: ClusterId,
        /// A label, such as `region=eu-north`; may be repeated
        #[arg(long, short = 'l', value_name = "KEY=VALUE", value_parser = label)]
        label: Vec<(String, String)>,
        /// Which hub
        #[command(flatten)]
        hub: HubArguments,
    },
    /// Believe a cluster's identity key no more, for ever; what the cluster runs is left alone
    Revoke {
        /// Its name
        name: ClusterId,
        /// Why; others read it, and so does whoever is at the site
        #[arg(long, value_name = "TEXT")]
        reason: String,
        /// Which hub
        #[command(flatten)]
        hub: HubArguments,
    },
    /// Take reports of a cluster without a link, which were carried here in a file of `edge-agent import` or `report`
    Report {
        /// The file
        #[arg(value_name = "FILE")]
        file: PathBuf,
        /// Which hub
        #[command(flatten)]
        hub: HubArguments,
    },
}

impl Clusters {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        match self {
            Self::Add { name, label, hub } => {
                let code = hub_runtime()?.block_on(async {
                    let hub = Hub::open(&hub.kubeconfig).await?;
                    hub.add_cluster(name, label).await?;
                    hub.join_code(name).await
                })?;
                context.output.note(&format!(
                    "On {name}, within a day and once only, run:\n  edge-agent join CODE\nwith this code, which is a secret:"
                ))?;
                context.output.line(&code.to_string())?;
                Ok(())
            }
            Self::Revoke { name, reason, hub } => {
                let revoked = hub_runtime()?.block_on(async {
                    let hub = Hub::open(&hub.kubeconfig).await?;
                    hub.revoke(name, reason).await
                })?;
                let Revoked { key, reason, was_connected } = revoked;
                context.output.line(&format!("revoked key {key} of {name}: {reason}"))?;
                if was_connected {
                    context.output.line("its connection was ended")?;
                }
                context.output.note(&format!(
                    "Its certificates are refused from now on. Nothing on it was deleted: it goes on with what it \
                     runs.\nTo let it join with a new key: edgefleet cluster add {name}"
                ))?;
                Ok(())
            }
            Self::Report { file, hub } => super::export::report(file, hub, context),
        }
    }
}

pub(super) fn label(text: &str) -> Result<(String, String), String> {
    let (key, value) = text.split_once('=').ok_or("write a label as KEY=VALUE")?;
    Ok((key.to_owned(), value.to_owned()))
}
