//! `edgefleet status`: the fleet at a glance.

use clap::Args;
use fleet_broker::resources::{AssignmentState, Cluster};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;

use super::{CommandError, Context, backup, cluster::HubArguments, freeze::scope, hub_runtime};
use crate::hub::Hub;

/// Assignments listed below the counts; kubectl lists them all.
const TROUBLES: usize = 20;

/// Which fleet.
#[derive(Debug, Args)]
pub struct Status {
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

impl Status {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let (recovery, freezes, clusters, applications, assignments) = hub_runtime()?.block_on(async {
            let hub = Hub::open(&self.hub.kubeconfig).await?;
            Ok::<_, CommandError>((
                hub.recovery().await?,
                hub.freezes().await?,
                hub.clusters().await?,
                hub.applications().await?,
                hub.assignments().await?,
            ))
        })?;
        backup::tell(recovery.as_ref(), &mut context.output)?;
        let with = |kind: &str| clusters.iter().filter(|cluster| holds(cluster, kind)).count();
        let total = clusters.len();
        let line = format!(
            "{total} {}: {} joined, {} connected, {} up to date, {} available",
            if total == 1 { "cluster" } else { "clusters" },
            with("Joined"),
            with("Connected"),
            with("Synced"),
            with("Available"),
        );
        context.output.line(&line)?;
        for (cluster, reason) in clusters.iter().filter_map(revoked) {
            context.output.line(&format!("{cluster} is revoked: {reason}"))?;
        }
        for freeze in &freezes {
            let name = freeze.metadata.name.as_deref().unwrap_or_default();
            let line = format!("Frozen by {name}: {}: {}", scope(&freeze.spec), freeze.spec.reason);
            context.output.line(&line)?;
        }
        let rows = applications.iter().map(|application| {
            let status = application.status.clone().unwrap_or_default();
            let counts = status.clusters.unwrap_or_default();
            let name = application.metadata.name.clone().unwrap_or_default();
            let namespace = application.metadata.namespace.clone().unwrap_or_default();
            vec![
                format!("{namespace}/{name}"),
                application.spec.bundle.clone(),
                format!("{}/{}", counts.available, counts.desired),
                counts.failed.to_string(),
                status.reason.unwrap_or_default(),
            ]
        });
        context.output.table(&["APPLICATION", "BUNDLE", "AVAILABLE", "FAILED", "REASON"], rows.collect())?;
        let troubled = assignments
            .iter()
            .filter_map(|assignment| assignment.status.as_ref())
            .filter(|status| matches!(status.state, AssignmentState::Failed | AssignmentState::Rejected));
        let rows: Vec<Vec<String>> = troubled
            .take(TROUBLES)
            .map(|status| {
                let text = |text: &Option<String>| text.clone().unwrap_or_default();
                vec![
                    status.cluster.clone(),
                    status.application.clone(),
                    format!("{:?}", status.state),
                    text(&status.worst_object),
                    text(&status.message),
                ]
            })
            .collect();
        if !rows.is_empty() {
            context.output.table(&["CLUSTER", "APPLICATION", "STATE", "OBJECT", "MESSAGE"], rows)?;
        }
        Ok(())
    }
}

/// Name and reason of a cluster whose key is revoked.
fn revoked(cluster: &Cluster) -> Option<(&str, &str)> {
    let conditions: &[Condition] = cluster.status.as_ref().map_or(&[], |status| &status.conditions);
    let revoked = conditions.iter().find(|one| one.type_ == "Revoked" && one.status == "True")?;
    Some((cluster.metadata.name.as_deref()?, &revoked.message))
}

fn holds(cluster: &Cluster, kind: &str) -> bool {
    let conditions: &[Condition] = cluster.status.as_ref().map_or(&[], |status| &status.conditions);
    conditions.iter().any(|condition| condition.type_ == kind && condition.status == "True")
}
