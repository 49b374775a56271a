//! `edgefleet status`: the fleet, or one cluster, at a glance.

mod one;

use clap::Args;
use fleet_broker::resources::{Application, Assignment, AssignmentState, Cluster, Freeze};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use protocol::ids::ClusterId;
use serde_json::{Value, json};

use super::{
    CommandError, Context, arguments::Format, backup, cluster::HubArguments, freeze::scope, hub_runtime,
};
use crate::hub::Hub;

/// Assignments listed below the counts; kubectl lists them all.
const TROUBLES: usize = 20;

/// What to show.
#[derive(Debug, Args)]
#[command(after_help = "Examples:
  edgefleet status
  edgefleet status tower-0001
  kubectl get assignments -A --field-selector status.state=Failed -o wide")]
pub struct Status {
    /// One cluster, in the words in which `edge-agent status` speaks of it at its site; without it, the fleet
    #[arg(value_name = "CLUSTER")]
    cluster: Option<ClusterId>,
    /// How to print
    #[arg(long, value_enum, default_value_t = Format::Table)]
    format: Format,
    /// Which hub
    #[command(flatten)]
    hub: HubArguments,
}

/// What the hub knows of the fleet.
struct Glance {
    freezes: Vec<Freeze>,
    clusters: Vec<Cluster>,
    applications: Vec<Application>,
    assignments: Vec<Assignment>,
}

impl Status {
    pub(super) fn run(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        if let Some(cluster) = &self.cluster {
            return one::show(cluster, &self.hub, self.format, context);
        }
        let (recovery, fleet) = hub_runtime()?.block_on(async {
            let hub = Hub::open(&self.hub.kubeconfig).await?;
            let recovery = hub.recovery().await?;
            let fleet = Glance {
                freezes: hub.freezes().await?,
                clusters: hub.clusters().await?,
                applications: hub.applications().await?,
                assignments: hub.assignments().await?,
            };
            Ok::<_, CommandError>((recovery, fleet))
        })?;
        backup::tell(recovery.as_ref(), &mut context.output)?;
        match self.format {
            Format::Table => fleet.print(context),
            Format::Json => Ok(context.output.json(&fleet.to_json())?),
        }
    }
}

impl Glance {
    fn print(&self, context: &mut Context<'_>) -> Result<(), CommandError> {
        let total = self.clusters.len();
        let line = format!(
            "{total} {}: {} joined, {} connected, {} up to date, {} available",
            if total == 1 { "cluster" } else { "clusters" },
            self.with("Joined"),
            self.with("Connected"),
            self.with("Synced"),
            self.with("Available"),
        );
        context.output.line(&line)?;
        for (cluster, reason) in self.clusters.iter().filter_map(revoked) {
            context.output.line(&format!("{cluster} is revoked: {reason}"))?;
        }
        for freeze in &self.freezes {
            let name = freeze.metadata.name.as_deref().unwrap_or_default();
            let line = format!("Frozen by {name}: {}: {}", scope(&freeze.spec), freeze.spec.reason);
            context.output.line(&line)?;
        }
        let applications = self.applications.iter().map(|application| {
            let status = application.status.clone().unwrap_or_default();
            let counts = status.clusters.unwrap_or_default();
            vec![
                named(application),
                application.spec.bundle.clone(),
                format!("{}/{}", counts.available, counts.desired),
                counts.failed.to_string(),
                counts.offline.to_string(),
                status.reason.unwrap_or_default(),
            ]
        });
        let heads = ["APPLICATION", "BUNDLE", "AVAILABLE", "FAILED", "OFFLINE", "REASON"];
        context.output.table(&heads, applications.collect())?;
        let mut troubled = self.troubled();
        let rows: Vec<Vec<String>> = troubled.by_ref().take(TROUBLES).map(|one| row(one).to_vec()).collect();
        if !rows.is_empty() {
            context.output.table(&["CLUSTER", "APPLICATION", "STATE", "OBJECT", "MESSAGE"], rows)?;
        }
        let more = troubled.count();
        if more > 0 {
            context.output.line(&format!("and {more} more"))?;
        }
        Ok(())
    }

    fn to_json(&self) -> Value {
        let applications = self.applications.iter().map(|application| {
            let status = application.status.clone().unwrap_or_default();
            let (clusters, reason) = (status.clusters.unwrap_or_default(), status.reason);
            let (bundle, name) = (&application.spec.bundle, named(application));
            json!({"application": name, "bundle": bundle, "clusters": clusters, "reason": reason})
        });
        let freezes = self.freezes.iter().map(|freeze| {
            json!({"name": freeze.metadata.name, "of": scope(&freeze.spec), "reason": freeze.spec.reason})
        });
        let revoked = self.clusters.iter().filter_map(revoked);
        let troubled = self.troubled().map(|one| {
            let [cluster, application, state, object, message] = row(one);
            json!({
                "cluster": cluster, "application": application, "state": state,
                "object": object, "message": message,
            })
        });
        json!({
            "clusters": {
                "registered": self.clusters.len(),
                "joined": self.with("Joined"),
                "connected": self.with("Connected"),
                "synced": self.with("Synced"),
                "available": self.with("Available"),
            },
            "revoked": revoked.map(|(name, why)| json!({"cluster": name, "reason": why})).collect::<Vec<_>>(),
            "freezes": freezes.collect::<Vec<_>>(),
            "applications": applications.collect::<Vec<_>>(),
            "troubled": troubled.collect::<Vec<_>>(),
        })
    }

    /// How many clusters have a condition that is true.
    fn with(&self, kind: &str) -> usize {
        let holds = |one: &Condition| one.type_ == kind && one.status == "True";
        self.clusters.iter().filter(|cluster| conditions(cluster).iter().any(holds)).count()
    }

    /// The assignments that somebody has to look at.
    fn troubled(&self) -> impl Iterator<Item = &Assignment> {
        let is_troubled = |state| matches!(state, AssignmentState::Failed | AssignmentState::Rejected);
        let state = |one: &Assignment| one.status.as_ref().map(|status| status.state);
        self.assignments.iter().filter(move |one| state(one).is_some_and(is_troubled))
    }
}

/// Namespace and name.
fn named(application: &Application) -> String {
    let metadata = &application.metadata;
    let text = |text: &Option<String>| text.clone().unwrap_or_default();
    format!("{}/{}", text(&metadata.namespace), text(&metadata.name))
}

/// Cluster, application, state, worst object and message of an assignment.
fn row(assignment: &Assignment) -> [String; 5] {
    let namespace = assignment.metadata.namespace.clone().unwrap_or_default();
    let Some(status) = assignment.status.clone() else { return Default::default() };
    [
        status.cluster,
        format!("{namespace}/{}", status.application),
        format!("{:?}", status.state),
        status.worst_object.unwrap_or_default(),
        status.message.unwrap_or_default(),
    ]
}

/// Name and reason of a cluster whose key is revoked.
fn revoked(cluster: &Cluster) -> Option<(&str, &str)> {
    let revoked = conditions(cluster).iter().find(|one| one.type_ == "Revoked" && one.status == "True")?;
    Some((cluster.metadata.name.as_deref()?, &revoked.message))
}

fn conditions(cluster: &Cluster) -> &[Condition] {
    cluster.status.as_ref().map_or(&[], |status| &status.conditions)
}
