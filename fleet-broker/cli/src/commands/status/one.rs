//! One cluster: what `edge-agent status` says at its site, as far as the hub has heard of it.

use fleet_broker::resources::{Assignment, Cluster, ClusterStatus, Revision};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use protocol::ids::ClusterId;
use serde_json::{Value, json};

use super::{super::CommandError, conditions, row};
use crate::{
    commands::{Context, arguments::Format, cluster::HubArguments, hub_runtime},
    hub::Hub,
};

/// Conditions that are good when they are true, beside those whose name ends in `Ready`; all others name something
/// that is wrong.
const GOOD: [&str; 7] = ["Joined", "Connected", "Synced", "Available", "ClockSynced", "Adopted", "Carried"];

/// Reads one cluster and prints it.
pub(super) fn show(
    name: &ClusterId,
    hub: &HubArguments,
    format: Format,
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let (cluster, assignments) = hub_runtime()?.block_on(async {
        let hub = Hub::open(&hub.kubeconfig).await?;
        Ok::<_, CommandError>((hub.cluster(name).await?, hub.assignments_of(name).await?))
    })?;
    let cluster = cluster.ok_or_else(|| {
        CommandError::NotThere(format!("there is no cluster {name}; see `kubectl get clusters`"))
    })?;
    match format {
        Format::Table => print(name, &cluster, &assignments, context),
        Format::Json => Ok(context.output.json(&to_json(name, &cluster, &assignments))?),
    }
}

fn print(
    name: &ClusterId,
    cluster: &Cluster,
    assignments: &[Assignment],
    context: &mut Context<'_>,
) -> Result<(), CommandError> {
    let status = cluster.status.clone().unwrap_or_default();
    let output = &mut context.output;
    output.line(&format!("cluster    {name}{}", labels(cluster)))?;
    output.line(&format!("hub        {}", link(cluster, &status)))?;
    output.line(&format!("desired    {}", orders(&status)))?;
    if let Some(hold) = &cluster.spec.hold {
        output.line(&format!("hold       at the hub: {}", hold.reason))?;
    }
    if let Some(held) = conditions(cluster).iter().find(|one| one.type_ == "Held" && one.status == "True") {
        output.line(&format!("hold       at the site: {}", held.message))?;
    }
    if let Some(agent) = &status.agent {
        let kubernetes = status.kubernetes.iter().map(|version| format!(", Kubernetes {version}"));
        output.line(&format!("agent      {agent}{}", kubernetes.collect::<String>()))?;
    }
    if !assignments.is_empty() {
        output.line("")?;
        let rows = assignments.iter().map(|assignment| {
            let [_, application, state, object, message] = row(assignment);
            let status = assignment.status.as_ref();
            let bundle = status.map(|status| status.bundle.clone()).unwrap_or_default();
            let since = status.and_then(|status| status.since.as_ref()).map(|since| since.0.to_string());
            vec![application, state, bundle, since.unwrap_or_default(), object, message]
        });
        output.table(&["APPLICATION", "STATE", "BUNDLE", "SINCE", "OBJECT", "MESSAGE"], rows.collect())?;
    }
    let mut troubles = conditions(cluster).iter().filter(|condition| is_trouble(condition)).peekable();
    if troubles.peek().is_some() {
        output.line("")?;
    }
    for Condition { type_, status, reason, message, .. } in troubles {
        let mark = if status == "Unknown" { '?' } else { '!' };
        let colon = if message.is_empty() { "" } else { ": " };
        output.line(&format!("{mark} {type_}: {reason}{colon}{message}"))?;
    }
    Ok(())
}

fn to_json(name: &ClusterId, cluster: &Cluster, assignments: &[Assignment]) -> Value {
    let status = cluster.status.clone().unwrap_or_default();
    let applications = assignments.iter().map(|assignment| {
        let [_, application, state, object, message] = row(assignment);
        let bundle = assignment.status.as_ref().map(|status| &status.bundle);
        json!({
            "application": application, "state": state, "bundle": bundle,
            "object": object, "message": message,
        })
    });
    json!({
        "cluster": name,
        "connected": is_true(cluster, "Connected"),
        "lastReportTime": status.last_report_time,
        "desired": status.desired.map(order),
        "observed": status.observed.map(order),
        "hold": cluster.spec.hold,
        "agent": status.agent,
        "kubernetes": status.kubernetes,
        "applications": applications.collect::<Vec<_>>(),
        "conditions": status.conditions,
    })
}

fn labels(cluster: &Cluster) -> String {
    let labels = cluster.metadata.labels.iter().flatten().map(|(key, value)| format!("{key}={value}"));
    let labels = labels.collect::<Vec<_>>().join(", ");
    if labels.is_empty() { labels } else { format!(" ({labels})") }
}

fn link(cluster: &Cluster, status: &ClusterStatus) -> String {
    let Some(connected) = conditions(cluster).iter().find(|one| one.type_ == "Connected") else {
        return "nothing is known of it yet".to_owned();
    };
    let since = &connected.last_transition_time.0;
    match (connected.status.as_str(), &status.last_report_time) {
        ("True", _) => format!("connected since {since}"),
        (_, Some(heard)) => format!("not connected since {since}; its newest report is of {}", heard.0),
        (_, None) => "not connected, and never has reported".to_owned(),
    }
}

fn orders(status: &ClusterStatus) -> String {
    match (status.desired.map(order), status.observed.map(order)) {
        (None, _) => "nothing signed for it yet".to_owned(),
        (Some(desired), None) => format!("{desired}, which it has not confirmed"),
        (Some(desired), Some(observed)) if desired == observed => desired,
        (Some(desired), Some(observed)) => format!("{desired}; its newest report is of {observed}"),
    }
}

/// As agents write it: `epoch.sequence`.
fn order(revision: Revision) -> String {
    format!("{}.{}", revision.epoch, revision.sequence)
}

fn is_true(cluster: &Cluster, kind: &str) -> bool {
    conditions(cluster).iter().any(|one| one.type_ == kind && one.status == "True")
}

fn is_trouble(condition: &Condition) -> bool {
    let kind = condition.type_.as_str();
    let good = GOOD.contains(&kind) || kind.ends_with("Ready");
    // Two have lines of their own.
    !["Held", "Connected"].contains(&kind) && (condition.status == "True") != good
}
