//! `edgefleet approve`: letting a change through that takes an application from many clusters.

use clap::Args;
use fleet_broker::resources::Decision;
use protocol::ids::{AppId, Name};

use super::{CommandError, Context, cluster::HubArguments, hub_runtime};
use crate::hub::Hub;

/// What to approve.
#[derive(Debug, Args)]
pub struct Approve {
    /// The Application's name
    application: Name,
    /// Its namespace
    #[arg(long, short = 'n', value_name = "NAME")]
    namespace: Name,
    /// Why, for everybody who wonders
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

impl Approve {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let id = AppId { tenant: self.namespace.clone(), name: self.application.clone() };
        let waits = hub_runtime()?.block_on(self.approve(&id))?;
        context.output.note(&format!("Approved for {id}: {waits}"))?;
        Ok(())
    }

    /// Approves exactly what was looked at: an Application that was changed meanwhile is refused by the hub.
    async fn approve(&self, id: &AppId) -> Result<String, CommandError> {
        let hub = Hub::open(&self.hub.kubeconfig).await?;
        let application = hub.application(id).await?;
        let application = application.ok_or_else(|| CommandError::NotThere(format!("application {id}")))?;
        let generation = application.metadata.generation.unwrap_or_default();
        let status = application.status.clone().unwrap_or_default();
        let reason = status.reason.unwrap_or_default();
        let waits = reason.split_once(": approve it").map(|(what, _)| what.to_owned());
        if i64::try_from(status.observed_generation) != Ok(generation) {
            let what =
                format!("the hub has not decided on generation {generation} of {id} yet: run this again");
            return Err(CommandError::Usage(what));
        }
        let Some(waits) = waits.filter(|_| status.decision == Some(Decision::Hold)) else {
            return Err(CommandError::Usage(format!("nothing of {id} waits for an approval: {reason}")));
        };
        let text = format!("{generation}: {}", self.reason);
        hub.approve(id, &text, application.metadata.resource_version.as_deref()).await?;
        Ok(waits)
    }
}
