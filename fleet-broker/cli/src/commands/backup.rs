//! `edgefleet backup` and `edgefleet restore`: a hub that can be lost.

use std::path::{Path, PathBuf};

use clap::{ArgGroup, Args, Subcommand};
use fleet_broker::{
    backup::{self, Manifest},
    logic::fleet::rollout::many,
};
use tempfile::NamedTempFile;

use super::{CommandError, Context, cluster::HubArguments, hub_runtime};
use crate::{
    clock::rfc3339,
    hub::{Hub, Recovery},
    output::Output,
};

/// Clusters named in a message; `kubectl get clusters` lists them all.
const NAMED: usize = 10;

/// Where to.
#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true, subcommand_negates_reqs = true)]
pub struct Backup {
    /// The file to write, which is not there yet
    #[arg(value_name = "FILE", required = true)]
    file: Option<PathBuf>,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
    #[command(subcommand)]
    command: Option<Check>,
}

/// What else can be done with backups.
#[derive(Debug, Subcommand)]
enum Check {
    /// Check that a backup is whole, and show what is in it
    Verify {
        /// The backup
        #[arg(value_name = "FILE")]
        file: PathBuf,
    },
}

/// From what and where to, or leave to go on.
#[derive(Debug, Args)]
#[command(group(ArgGroup::new("what").required(true).args(["file", "accept"])))]
pub struct Restore {
    /// The backup
    #[arg(value_name = "FILE", requires = "directory")]
    file: Option<PathBuf>,
    /// The new hub's folder, which is empty or not there yet
    #[arg(long, value_name = "FOLDER", conflicts_with = "accept")]
    directory: Option<PathBuf>,
    /// Let the restored hub, which runs, change clusters again
    #[arg(long, requires = "reason")]
    accept: bool,
    /// Why, for whoever reads along
    #[arg(long, value_name = "TEXT", conflicts_with = "file")]
    reason: Option<String>,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

impl Backup {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        match (&self.command, &self.file) {
            (Some(Check::Verify { file }), _) => {
                let manifest = backup::verify(file)?;
                show(&manifest, &mut context.output)
            }
            (None, Some(file)) => self.make(file, context),
            (None, None) => Err(CommandError::Usage("say which file to write".to_owned())),
        }
    }

    /// Takes a backup into a file beside, checks it, and only then gives it its name.
    fn make(&self, path: &Path, context: &mut Context<'_>) -> Result<(), CommandError> {
        let cannot =
            |source| CommandError::File { action: "write", file: path.display().to_string(), source };
        if path.exists() {
            return Err(cannot(std::io::ErrorKind::AlreadyExists.into()));
        }
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        // Only its owner may read it, from the first byte on.
        let mut file = NamedTempFile::with_prefix_in(".edgefleet-backup-", folder).map_err(cannot)?;
        hub_runtime()?.block_on(async {
            let hub = Hub::open(&self.hub.kubeconfig).await?;
            hub.backup(file.as_file_mut()).await
        })?;
        file.as_file().sync_all().map_err(cannot)?;
        let manifest = backup::verify(file.path())?;
        file.persist_noclobber(path).map_err(|error| cannot(error.error))?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(cannot)?;
        context.output.warning(&format!(
            "{} holds the hub's private keys, unencrypted: whoever reads it can be this hub. Keep it as you keep \
             those, away from this machine.",
            path.display()
        ))?;
        show(&manifest, &mut context.output)
    }
}

impl Restore {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        match (&self.file, &self.directory, &self.reason) {
            (Some(file), Some(directory), _) => restore(file, directory, &mut context.output),
            (None, _, Some(reason)) => self.accept(reason, &mut context.output),
            (_, _, _) => Err(CommandError::Usage("give a backup and --directory, or --accept".to_owned())),
        }
    }

    fn accept(&self, reason: &str, output: &mut Output<'_>) -> Result<(), CommandError> {
        let recovery = hub_runtime()?.block_on(async {
            let hub = Hub::open(&self.hub.kubeconfig).await?;
            hub.accept_recovery(reason).await
        })?;
        match recovery {
            Some(recovery) => {
                output.line(&format!("accepted: {}", summary(&recovery)))?;
                hints(&recovery, output)
            }
            None => Err(CommandError::NotThere(
                "this hub was not restored: there is nothing to accept".to_owned(),
            )),
        }
    }
}

/// Says of a hub in another life how far it is; nothing of one in its first.
pub(super) fn tell(recovery: Option<&Recovery>, output: &mut Output<'_>) -> Result<(), CommandError> {
    let Some(recovery) = recovery else { return Ok(()) };
    if recovery.accepted.is_none() {
        output.warning(&format!(
            "{}; nothing changes anywhere until you say `edgefleet restore --accept --reason TEXT`",
            summary(recovery)
        ))?;
    } else if !recovery.not_heard_of.is_empty() || !recovery.found_otherwise.is_empty() {
        output.note(&summary(recovery))?;
    }
    hints(recovery, output)
}

fn summary(recovery: &Recovery) -> String {
    let heard = recovery.joined.saturating_sub(recovery.not_heard_of.len());
    format!("{}; {heard} of {} clusters have said what they hold", recovery.message, recovery.joined)
}

fn hints(recovery: &Recovery, output: &mut Output<'_>) -> Result<(), CommandError> {
    let names: Vec<&str> = recovery.not_heard_of.iter().take(NAMED).map(String::as_str).collect();
    if !names.is_empty() {
        let more = recovery.not_heard_of.len() - names.len();
        let more = if more > 0 { format!(" and {more} more") } else { String::new() };
        output.note(&format!(
            "not heard of yet, and told nothing before they say what they hold: {}{more}",
            names.join(", ")
        ))?;
    }
    for found in &recovery.found_otherwise {
        output.note(&format!(
            "{} {} otherwise than its old record says, until it is applied again",
            many(found.clusters as u64, "cluster runs", "clusters run"),
            found.application
        ))?;
    }
    Ok(())
}

fn restore(file: &Path, directory: &Path, output: &mut Output<'_>) -> Result<(), CommandError> {
    let restored = hub_runtime()?.block_on(backup::restore(file, directory))?;
    show(&restored.manifest, output)?;
    let folder = restored.directory.display();
    output.note(&format!(
        "{folder} is a hub in a new life, which knows {} clusters. Join codes of before no longer work, and its \
         kubeconfig is made anew. It learns from its clusters what they run, and changes nothing before you accept \
         that. Start it as the lost one was, under the same host name and ports:\n  \
         fleet-broker serve --data {folder} --root {} --director-key {} --advertise HOST\n\
         then look at it, and accept it:\n  \
         edgefleet status --kubeconfig {folder}/hub.kubeconfig\n  \
         edgefleet restore --accept --reason TEXT --kubeconfig {folder}/hub.kubeconfig",
        restored.clusters,
        restored.root.display(),
        restored.director.display(),
    ))?;
    output.warning("never start the lost hub again: two hubs would speak for one fleet")?;
    output.warning(&format!(
        "clusters that were revoked after {} are let in again: say `edgefleet cluster revoke` of each once more, \
         before you accept",
        rfc3339(restored.manifest.made)
    ))?;
    Ok(())
}

fn show(manifest: &Manifest, output: &mut Output<'_>) -> Result<(), CommandError> {
    let Manifest { fleet, made, version, files, .. } = manifest;
    output.line(&format!("backup of fleet {fleet}, made {} by version {version}", rfc3339(*made)))?;
    let rows = files.iter().map(|file| vec![file.name.clone(), file.len.to_string(), file.sha256.clone()]);
    output.table(&["FILE", "BYTES", "SHA256"], rows.collect())?;
    Ok(())
}
