//! `edgefleet export` and `edgefleet cluster report`: what is carried by hand, to a cluster without a link and back.

use std::{
    fs::{self, File},
    io::BufReader,
    path::{Path, PathBuf},
};

use clap::Args;
use protocol::{
    carry::{Label, Reader, Way},
    ids::ClusterId,
    limits,
};
use tempfile::NamedTempFile;

use super::{CommandError, Context, cluster::HubArguments, hub_runtime};
use crate::{clock::rfc3339, hub::Hub, output::Output};

/// For which cluster, and where to.
#[derive(Debug, Args)]
pub struct Export {
    /// The cluster
    #[arg(required_unless_present = "show")]
    cluster: Option<ClusterId>,
    /// The file to write, in place of the one that is there; CLUSTER.carry if not given
    #[arg(long, short, value_name = "FILE")]
    output: Option<PathBuf>,
    /// With all content, also what the cluster last said it has
    #[arg(long)]
    full: bool,
    /// Check a file instead, and show for whom it is, when it was made and until when it is good
    #[arg(long, value_name = "FILE", conflicts_with_all = ["cluster", "output", "full"])]
    show: Option<PathBuf>,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

impl Export {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        match (&self.show, &self.cluster) {
            (Some(file), _) => show(&inspect(file)?, file, &mut context.output),
            (None, Some(cluster)) => self.make(cluster, context),
            (None, None) => Err(CommandError::Usage("say for which cluster".to_owned())),
        }
    }

    /// Writes a file beside, checks it, and only then gives it its name.
    fn make(&self, cluster: &ClusterId, context: &mut Context<'_>) -> Result<(), CommandError> {
        let path = self.output.clone().unwrap_or_else(|| PathBuf::from(format!("{cluster}.carry")));
        let cannot =
            |source| CommandError::File { action: "write", file: path.display().to_string(), source };
        let folder = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let mut file = NamedTempFile::with_prefix_in(".edgefleet-export-", folder).map_err(cannot)?;
        hub_runtime()?.block_on(async {
            let hub = Hub::open(&self.hub.kubeconfig).await?;
            hub.export(cluster, self.full, file.as_file_mut()).await
        })?;
        file.as_file().sync_all().map_err(cannot)?;
        let label = inspect(file.path())?;
        file.persist(&path).map_err(|error| cannot(error.error))?;
        show(&label, &path, &mut context.output)?;
        context.output.note(&format!(
            "At the site: edge-agent import {}\nIt writes a report beside it, which comes back by: edgefleet cluster \
             report FILE",
            path.display()
        ))?;
        Ok(())
    }
}

/// Has the hub take a file of reports.
pub(super) fn report(file: &Path, hub: &HubArguments, context: &mut Context<'_>) -> Result<(), CommandError> {
    let label = inspect(file)?;
    if label.way != Way::ToHub {
        let text =
            format!("{} carries {}: `edge-agent import` takes it at the site", file.display(), label.way);
        return Err(CommandError::Usage(text));
    }
    let cannot = |source| CommandError::File { action: "read", file: file.display().to_string(), source };
    let bytes = fs::read(file).map_err(cannot)?;
    let taken = hub_runtime()?.block_on(async {
        let hub = Hub::open(&hub.kubeconfig).await?;
        hub.carried_report(&label.cluster, bytes).await
    })?;
    let made = rfc3339(label.made);
    context.output.line(&match taken {
        0 => format!("nothing new: the hub knows all that {} reported until {made}", label.cluster),
        _ => format!("taken: {} as it was at {made}", label.cluster),
    })?;
    Ok(())
}

/// Reads a file from end to end.
fn inspect(path: &Path) -> Result<Label, CommandError> {
    let name = || path.display().to_string();
    let cannot = |source| CommandError::File { action: "read", file: name(), source };
    let wrong = |source| CommandError::Carry { file: name(), source };
    let file = File::open(path).map_err(cannot)?;
    if file.metadata().map_err(cannot)?.len() > limits::CARRY_BYTES {
        return Err(wrong(protocol::carry::CarryError::TooLarge));
    }
    let (mut reader, label) = Reader::open(BufReader::new(file)).map_err(wrong)?;
    while reader.read().map_err(wrong)?.is_some() {}
    Ok(label)
}

fn show(label: &Label, path: &Path, output: &mut Output<'_>) -> Result<(), CommandError> {
    let Label { fleet, cluster, made, way } = label;
    output.line(&format!("{}: {way}", path.display()))?;
    output.line(&format!("cluster  {cluster} (fleet {fleet})"))?;
    output.line(&format!("made     {}", rfc3339(*made)))?;
    let Way::ToCluster { order, valid_until, apps } = way else { return Ok(()) };
    output.line(&format!("until    {}", rfc3339(*valid_until)))?;
    output.line(&format!("desired  {order}"))?;
    for app in apps {
        let content = if app.included { "" } else { " (without content: the cluster has it)" };
        output.line(&format!("  {} {}{content}", app.app, app.version))?;
        if let Some(why) = &app.withheld {
            output.warning(&format!("{} may not start there: {why}", app.app))?;
        }
    }
    Ok(())
}
