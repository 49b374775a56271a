//! Whether an object does what it was applied for, read from the object alone.
//!
//! The rules are those of kstatus (`sigs.k8s.io/cli-utils/pkg/kstatus`), which Flux, kpt and others use,
//! with three overrides, because waves of a rollout wait for this answer:
//! a custom resource that no controller has touched is not healthy before the progress deadline;
//! a running Job is progressing; a claim that waits for its first consumer is fine.

mod workload;

use std::time::Duration;

use serde_json::Value;

use crate::logic::object::Gvk;

/// API groups that the API server itself serves. Every other group is served by a controller of its own,
/// also such as `gateway.networking.k8s.io`, so that the suffix alone does not tell.
const BUILT_IN_GROUPS: [&str; 24] = [
    "",
    "admissionregistration.k8s.io",
    "apiextensions.k8s.io",
    "apiregistration.k8s.io",
    "apps",
    "authentication.k8s.io",
    "authorization.k8s.io",
    "autoscaling",
    "batch",
    "certificates.k8s.io",
    "coordination.k8s.io",
    "discovery.k8s.io",
    "events.k8s.io",
    "extensions",
    "flowcontrol.apiserver.k8s.io",
    "internal.apiserver.k8s.io",
    "networking.k8s.io",
    "node.k8s.io",
    "policy",
    "rbac.authorization.k8s.io",
    "resource.k8s.io",
    "scheduling.k8s.io",
    "storage.k8s.io",
    "storagemigration.k8s.io",
];

/// What an object is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Status {
    /// It is as its spec says.
    Current,
    /// It is on its way, and needs nobody.
    Progressing,
    /// It is being deleted.
    Terminating,
    /// The object does not say enough to tell.
    Unknown,
    /// It cannot get there by itself.
    Failed,
}

/// The health of one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Health {
    /// What it is doing.
    pub status: Status,
    /// Why, as one CamelCase word for machines, such as `CrashLoopBackOff`.
    pub reason: String,
    /// Why, as a sentence for people.
    pub message: String,
}

impl Health {
    fn new(status: Status, reason: &str, message: impl Into<String>) -> Self {
        Self { status, reason: reason.into(), message: message.into() }
    }

    fn current(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Status::Current, reason, message)
    }

    fn progressing(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Status::Progressing, reason, message)
    }

    fn failed(reason: &str, message: impl Into<String>) -> Self {
        Self::new(Status::Failed, reason, message)
    }
}

/// What the object itself does not say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Context {
    /// Time since this spec of the object was applied.
    pub since_applied: Duration,
    /// How long it may take to become healthy.
    pub progress_deadline: Duration,
    /// The object is a PersistentVolumeClaim whose storage class binds when a pod first uses it
    /// (see [`storage_class`]).
    pub waits_for_consumer: bool,
}

/// Assesses an object as the API server returned it.
pub fn assess(object: &Value, context: &Context) -> Health {
    let Ok(gvk) = Gvk::of(object) else {
        return Health::new(Status::Unknown, "NotAnObject", "no apiVersion and kind");
    };
    if object.pointer("/metadata/deletionTimestamp").is_some() {
        return terminating(object);
    }
    if let Some(health) = unobserved(object).or_else(|| standard_conditions(object)) {
        return health;
    }
    match (gvk.group.as_str(), gvk.kind.as_str()) {
        ("apps" | "extensions", "Deployment") => workload::deployment(object),
        ("apps" | "extensions", "ReplicaSet") => workload::replica_set(object),
        ("apps" | "extensions", "DaemonSet") => workload::daemon_set(object),
        ("apps", "StatefulSet") => workload::stateful_set(object),
        ("batch", "Job") => workload::job(object),
        ("", "Pod") => workload::pod(object, context),
        ("", "PersistentVolumeClaim") => claim(object, context),
        ("", "Service") => service(object),
        ("policy", "PodDisruptionBudget") => disruption_budget(object),
        ("apiextensions.k8s.io", "CustomResourceDefinition") => definition(object),
        ("apiregistration.k8s.io", "APIService") => api_service(object),
        (group, _) => other(object, !BUILT_IN_GROUPS.contains(&group), context),
    }
}

/// The health of a workload, with the reason that its pods give when the workload itself knows none:
/// a Deployment says only that replicas are missing, its pods say `ImagePullBackOff`.
pub fn explain(workload: Health, pods: &[Value], context: &Context) -> Health {
    match workload.status {
        Status::Current | Status::Terminating => workload,
        Status::Progressing | Status::Unknown | Status::Failed => {
            let worst = pods.iter().map(|pod| (pod, assess(pod, context))).max_by_key(|(_, pod)| pod.status);
            match worst {
                Some((pod, health)) if health.status == Status::Failed => {
                    let name = string(pod, "/metadata/name");
                    Health::new(workload.status, &health.reason, format!("pod {name}: {}", health.message))
                }
                Some(_) | None => workload,
            }
        }
    }
}

/// The storage class of a claim that is not bound yet, for [`Context::waits_for_consumer`]: the caller
/// reads whether its `volumeBindingMode` is `WaitForFirstConsumer`. None for every other object.
pub fn storage_class(object: &Value) -> Option<&str> {
    let claim = object.get("kind")?.as_str()? == "PersistentVolumeClaim";
    let unbound = claim && string(object, "/status/phase") != "Bound";
    if unbound { object.pointer("/spec/storageClassName")?.as_str() } else { None }
}

fn terminating(object: &Value) -> Health {
    let finalizers: Vec<&str> =
        array(object, "/metadata/finalizers").iter().filter_map(Value::as_str).collect();
    let message = match finalizers.as_slice() {
        [] => "being deleted".to_owned(),
        waiting => format!("being deleted, waiting for {}", waiting.join(", ")),
    };
    Health::new(Status::Terminating, "Deleting", message)
}

/// A controller that has not yet seen this generation says nothing about it.
fn unobserved(object: &Value) -> Option<Health> {
    let generation = object.pointer("/metadata/generation")?.as_i64()?;
    let observed = object.pointer("/status/observedGeneration")?.as_i64()?;
    (observed != generation).then(|| stale(observed, generation))
}

fn stale(observed: i64, generation: i64) -> Health {
    Health::progressing(
        "LatestGenerationNotObserved",
        format!("its controller has seen generation {observed} of {generation}"),
    )
}

fn standard_conditions(object: &Value) -> Option<Health> {
    if let Some(stalled) = condition(object, "Stalled").filter(Condition::is_true) {
        return Some(stalled.health(Status::Failed));
    }
    let reconciling = condition(object, "Reconciling").filter(Condition::is_true)?;
    Some(reconciling.health(Status::Progressing))
}

fn claim(object: &Value, context: &Context) -> Health {
    match string(object, "/status/phase") {
        "Bound" => Health::current("Bound", "bound to a volume"),
        "Lost" => Health::failed("VolumeLost", "the volume it was bound to is gone"),
        _ if context.waits_for_consumer => {
            Health::current("WaitForFirstConsumer", "binds when a pod first uses it")
        }
        _ => Health::progressing("NotBound", "not bound to a volume"),
    }
}

fn service(object: &Value) -> Health {
    let balanced = string(object, "/spec/type") == "LoadBalancer";
    if balanced && string(object, "/spec/clusterIP").is_empty() {
        return Health::progressing("NoIPAssigned", "no cluster IP assigned");
    }
    Health::current("Ready", "")
}

fn disruption_budget(object: &Value) -> Health {
    if object.pointer("/status/observedGeneration").is_none() {
        return Health::progressing("NotObserved", "allowed disruptions not computed yet");
    }
    Health::current("Ready", "allowed disruptions computed")
}

fn definition(object: &Value) -> Health {
    if let Some(names) = condition(object, "NamesAccepted").filter(Condition::is_false) {
        return names.health(Status::Failed);
    }
    match condition(object, "Established") {
        Some(established) if established.is_true() => Health::current("Established", "its kind is served"),
        Some(established) if established.is_false() && established.reason != "Installing" => {
            established.health(Status::Failed)
        }
        Some(_) | None => Health::progressing("Installing", "its kind is not served yet"),
    }
}

fn api_service(object: &Value) -> Health {
    match condition(object, "Available") {
        Some(available) if available.is_true() => Health::current("Available", "its API answers"),
        Some(available) => available.health(Status::Progressing),
        None => Health::progressing("NotObserved", "not checked yet"),
    }
}

/// Any other kind: the condition `Ready` if it has one, else what it is, with one exception: an object of
/// a controller that has not reported.
fn other(object: &Value, custom: bool, context: &Context) -> Health {
    if let Some(ready) = condition(object, "Ready") {
        return if ready.is_true() {
            ready.health(Status::Current)
        } else {
            ready.health(Status::Progressing)
        };
    }
    if custom && untouched(object) && context.since_applied < context.progress_deadline {
        return Health::progressing("NotObserved", "no controller has reported on it yet");
    }
    Health::current("Ready", "")
}

/// Whether no controller has written a status. Conditions that the schema puts there are `Unknown`,
/// as those of a Gateway.
fn untouched(object: &Value) -> bool {
    match object.get("status").and_then(Value::as_object) {
        None => true,
        Some(status) => status.iter().all(|(field, value)| {
            field == "conditions"
                && value
                    .as_array()
                    .is_some_and(|all| all.iter().all(|one| string(one, "/status") == "Unknown"))
        }),
    }
}

/// One of `status.conditions`.
struct Condition<'a> {
    status: &'a str,
    reason: &'a str,
    message: &'a str,
    stale: Option<(i64, i64)>,
}

impl Condition<'_> {
    /// A condition about an older generation is neither true nor false now.
    fn is_true(&self) -> bool {
        self.status == "True" && self.stale.is_none()
    }

    fn is_false(&self) -> bool {
        self.status == "False" && self.stale.is_none()
    }

    fn health(&self, status: Status) -> Health {
        match self.stale {
            Some((observed, generation)) => stale(observed, generation),
            None => Health::new(status, self.reason, self.message),
        }
    }
}

fn condition<'a>(object: &'a Value, kind: &'static str) -> Option<Condition<'a>> {
    let found = array(object, "/status/conditions").iter().find(|one| string(one, "/type") == kind)?;
    let generation = object.pointer("/metadata/generation").and_then(Value::as_i64);
    let observed = found.get("observedGeneration").and_then(Value::as_i64);
    let reason = string(found, "/reason");
    Some(Condition {
        status: string(found, "/status"),
        reason: if reason.is_empty() { kind } else { reason },
        message: string(found, "/message"),
        stale: observed.zip(generation).filter(|(observed, generation)| observed < generation),
    })
}

fn string<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn array<'a>(object: &'a Value, pointer: &str) -> &'a [Value] {
    object.pointer(pointer).and_then(Value::as_array).map_or(&[], Vec::as_slice)
}

/// A count in a status; controllers leave zeros out.
fn count(object: &Value, pointer: &str) -> i64 {
    object.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}

#[cfg(test)]
mod tests;
