//! `edgefleet freeze` and `unfreeze`: stopping every start in the fleet, or in a part of it, and lifting that.

use clap::Args;
use fleet_broker::resources::{FreezeSpec, LabelSelector};
use protocol::ids::Name;

use super::{
    CommandError, Context,
    cluster::{HubArguments, label},
    hub_runtime,
};
use crate::hub::Hub;

/// The freeze that concerns the whole fleet.
const FLEET: &str = "fleet";

/// Where nothing shall start.
#[derive(Debug, Args)]
pub struct Freeze {
    /// Why, for everybody who wonders
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Only applications of this tenant
    #[arg(long, value_name = "NAME")]
    tenant: Option<Name>,
    /// Only clusters with this label; may be repeated
    #[arg(long, short = 'l', value_name = "KEY=VALUE", value_parser = label)]
    label: Vec<(String, String)>,
    /// What to call it; needed with labels [default: the tenant's name, or fleet]
    #[arg(long, value_name = "NAME")]
    name: Option<String>,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

/// What to lift.
#[derive(Debug, Args)]
pub struct Unfreeze {
    /// The freeze's name, as `edgefleet status` shows it
    #[arg(default_value = FLEET)]
    name: String,
    /// Why, for everybody who wonders
    #[arg(long, value_name = "TEXT")]
    reason: String,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

impl Freeze {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let name = self.name()?;
        let spec = FreezeSpec {
            reason: self.reason.clone(),
            tenant: self.tenant.as_ref().map(ToString::to_string),
            cluster_selector: (!self.label.is_empty()).then(|| LabelSelector {
                match_labels: self.label.iter().cloned().collect(),
                ..LabelSelector::default()
            }),
        };
        hub_runtime()?.block_on(async {
            let hub = Hub::open(&self.hub.kubeconfig).await?;
            hub.put_freeze(&name, &spec).await
        })?;
        let until = format!("edgefleet unfreeze {name} --reason TEXT");
        context.output.note(&format!(
            "Frozen: {}. Nothing starts there until you run:\n  {until}\nWhat runs is kept running and healed. A \
             cluster that is offline may still start what it was permitted to, within a day.",
            scope(&spec)
        ))?;
        Ok(())
    }

    fn name(&self) -> Result<String, CommandError> {
        match (&self.name, &self.tenant) {
            (Some(name), _) => Ok(name.clone()),
            (None, _) if !self.label.is_empty() => {
                Err(CommandError::Usage("give a freeze of some clusters a name: --name NAME".to_owned()))
            }
            (None, Some(tenant)) => Ok(tenant.to_string()),
            (None, None) => Ok(FLEET.to_owned()),
        }
    }
}

impl Unfreeze {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        hub_runtime()?.block_on(async {
            let hub = Hub::open(&self.hub.kubeconfig).await?;
            hub.delete_freeze(&self.name, &self.reason).await
        })?;
        context.output.note(&format!("Lifted freeze {}. What waited for it starts now.", self.name))?;
        Ok(())
    }
}

/// What a freeze is about, in words.
pub(super) fn scope(spec: &FreezeSpec) -> String {
    let applications = match &spec.tenant {
        Some(tenant) => format!("applications of {tenant}"),
        None => "all applications".to_owned(),
    };
    match &spec.cluster_selector {
        Some(selector) => format!("{applications} on clusters with {}", labels(selector)),
        None => format!("{applications} on all clusters"),
    }
}

fn labels(selector: &LabelSelector) -> String {
    let equal = selector.match_labels.iter().map(|(key, value)| format!("{key}={value}"));
    let other =
        selector.match_expressions.iter().map(|expression| format!("a rule about {}", expression.key));
    equal.chain(other).collect::<Vec<_>>().join(", ")
}
