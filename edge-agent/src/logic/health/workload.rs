//! The rules for what runs pods, and for pods.

use std::time::Duration;

use serde_json::Value;

use super::{Condition, Context, Health, array, condition, count, string};

/// How long a pod may be without a node before that counts as a failure: the scheduler retries within
/// seconds, and kstatus waits as long.
const SCHEDULE_WINDOW: Duration = Duration::from_secs(15);

/// Why a container waits that does not pass by itself. `ErrImagePull` is absent: it is the first try, and
/// the second failure is an `ImagePullBackOff`.
const STUCK: [&str; 9] = [
    "CrashLoopBackOff",
    "CreateContainerConfigError",
    "CreateContainerError",
    "ErrImageNeverPull",
    "ImageInspectError",
    "ImagePullBackOff",
    "InvalidImageName",
    "PreCreateHookError",
    "RunContainerError",
];

pub(super) fn deployment(object: &Value) -> Health {
    let progressing = condition(object, "Progressing");
    if let Some(exceeded) = progressing.as_ref().filter(|one| one.reason == "ProgressDeadlineExceeded") {
        return replica_failure(object).unwrap_or_else(|| exceeded.health(super::Status::Failed)).failing();
    }
    let want = wanted(object);
    let total = count(object, "/status/replicas");
    let updated = count(object, "/status/updatedReplicas");
    let available = count(object, "/status/availableReplicas");
    let waiting = less("LessReplicas", "created", total, want)
        .or_else(|| less("LessUpdated", "updated", updated, want))
        .or_else(|| extra(total, want))
        .or_else(|| less("LessAvailable", "available", available, updated))
        .or_else(|| less("LessReady", "ready", count(object, "/status/readyReplicas"), want));
    if let Some(waiting) = waiting {
        return replica_failure(object).unwrap_or(waiting);
    }
    // Without a deadline the controller does not set Progressing.
    let unbounded = object.pointer("/spec/progressDeadlineSeconds").is_none();
    let complete = progressing.is_some_and(|one| one.is_true() && one.reason == "NewReplicaSetAvailable");
    if !unbounded && !complete {
        return Health::progressing("ReplicaSetNotAvailable", "the new ReplicaSet is not available");
    }
    if !condition(object, "Available").is_some_and(|one| one.is_true()) {
        return Health::progressing("DeploymentNotAvailable", "fewer replicas available than it needs");
    }
    Health::current("Available", format!("{total} of {want} replicas available"))
}

pub(super) fn replica_set(object: &Value) -> Health {
    let want = wanted(object);
    let total = count(object, "/status/replicas");
    let waiting = less("LessLabelled", "labelled", count(object, "/status/fullyLabeledReplicas"), want)
        .or_else(|| less("LessAvailable", "available", count(object, "/status/availableReplicas"), want))
        .or_else(|| less("LessReady", "ready", count(object, "/status/readyReplicas"), want))
        .or_else(|| extra(total, want));
    match waiting {
        Some(waiting) => replica_failure(object).unwrap_or(waiting),
        None => Health::current("Available", format!("{total} of {want} replicas available")),
    }
}

pub(super) fn stateful_set(object: &Value) -> Health {
    let want = wanted(object);
    let total = count(object, "/status/replicas");
    let waiting = less("LessReplicas", "created", total, want)
        .or_else(|| less("LessReady", "ready", count(object, "/status/readyReplicas"), want))
        .or_else(|| extra(total, want));
    if let Some(waiting) = waiting {
        return waiting;
    }
    if string(object, "/spec/updateStrategy/type") == "OnDelete" {
        return Health::current("OnDelete", "pods are updated when they are deleted");
    }
    let partition = count(object, "/spec/updateStrategy/rollingUpdate/partition");
    if partition > 0 {
        let updated = count(object, "/status/updatedReplicas");
        return less("PartitionRollout", "updated", updated, want - partition).unwrap_or_else(|| {
            Health::current(
                "PartitionRolloutComplete",
                format!("{updated} replicas above the partition updated"),
            )
        });
    }
    if string(object, "/status/currentRevision") != string(object, "/status/updateRevision") {
        let updated = count(object, "/status/updatedReplicas");
        return Health::progressing("RollingUpdate", format!("{updated} of {want} replicas updated"));
    }
    Health::current("Ready", format!("{total} of {want} replicas ready"))
}

pub(super) fn daemon_set(object: &Value) -> Health {
    if object.pointer("/status/observedGeneration").is_none() {
        return Health::progressing("NotObserved", "its controller has not seen it yet");
    }
    let want = count(object, "/status/desiredNumberScheduled");
    let on_delete = string(object, "/spec/updateStrategy/type") == "OnDelete";
    let updated = if on_delete { want } else { count(object, "/status/updatedNumberScheduled") };
    less("LessScheduled", "scheduled", count(object, "/status/currentNumberScheduled"), want)
        .or_else(|| less("LessUpdated", "updated", updated, want))
        .or_else(|| less("LessAvailable", "available", count(object, "/status/numberAvailable"), want))
        .or_else(|| less("LessReady", "ready", count(object, "/status/numberReady"), want))
        .unwrap_or_else(|| match want {
            0 => Health::current("NoNodes", "no node of this cluster is to run it"),
            _ => Health::current("Ready", format!("ready on {want} nodes")),
        })
}

pub(super) fn job(object: &Value) -> Health {
    if let Some(failed) = condition(object, "Failed").filter(Condition::is_true) {
        return failed.health(super::Status::Failed);
    }
    if condition(object, "Complete").is_some_and(|one| one.is_true()) {
        return Health::current("Complete", format!("{} succeeded", count(object, "/status/succeeded")));
    }
    if object.pointer("/spec/suspend").and_then(Value::as_bool) == Some(true) {
        return Health::current("Suspended", "suspended by its spec");
    }
    if object.pointer("/status/startTime").is_none() {
        return Health::progressing("NotStarted", "not started");
    }
    let part = |field| count(object, field);
    Health::progressing(
        "Running",
        format!(
            "{} active, {} succeeded, {} failed",
            part("/status/active"),
            part("/status/succeeded"),
            part("/status/failed")
        ),
    )
}

pub(super) fn pod(object: &Value, context: &Context) -> Health {
    match string(object, "/status/phase") {
        "Succeeded" => Health::current("Succeeded", "all containers ended well"),
        "Failed" => {
            let reason = string(object, "/status/reason");
            let reason = if reason.is_empty() { "PodFailed" } else { reason };
            Health::failed(reason, ended(object).unwrap_or_else(|| string(object, "/status/message").into()))
        }
        phase => unfinished_pod(object, phase, context),
    }
}

fn unfinished_pod(object: &Value, phase: &str, context: &Context) -> Health {
    if condition(object, "Ready").is_some_and(|one| one.is_true()) {
        return Health::current("Ready", "");
    }
    if let Some(stuck) = containers(object).find_map(stuck) {
        return stuck;
    }
    match condition(object, "PodScheduled").filter(Condition::is_false) {
        Some(unscheduled) if context.since_applied >= SCHEDULE_WINDOW => {
            unscheduled.health(super::Status::Failed)
        }
        Some(unscheduled) => unscheduled.health(super::Status::Progressing),
        None if phase == "Running" => Health::progressing("PodRunningNotReady", "running, not ready"),
        None => Health::progressing("PodPending", "not running yet"),
    }
}

fn containers(pod: &Value) -> impl Iterator<Item = &Value> {
    let init = array(pod, "/status/initContainerStatuses");
    init.iter().chain(array(pod, "/status/containerStatuses"))
}

fn stuck(container: &Value) -> Option<Health> {
    let reason = string(container, "/state/waiting/reason");
    STUCK.contains(&reason).then(|| {
        let message = string(container, "/state/waiting/message");
        Health::failed(reason, format!("container {}: {message}", string(container, "/name")))
    })
}

fn ended(pod: &Value) -> Option<String> {
    let failed = containers(pod).find(|one| count(one, "/state/terminated/exitCode") != 0)?;
    let (name, reason) = (string(failed, "/name"), string(failed, "/state/terminated/reason"));
    Some(format!("container {name}: {reason}, exit code {}", count(failed, "/state/terminated/exitCode")))
}

impl Health {
    fn failing(self) -> Self {
        Self { status: super::Status::Failed, ..self }
    }
}

fn wanted(object: &Value) -> i64 {
    object.pointer("/spec/replicas").and_then(Value::as_i64).unwrap_or(1)
}

fn less(reason: &str, what: &str, have: i64, want: i64) -> Option<Health> {
    (have < want).then(|| Health::progressing(reason, format!("{have} of {want} replicas {what}")))
}

fn extra(total: i64, want: i64) -> Option<Health> {
    (total > want)
        .then(|| Health::progressing("ExtraPods", format!("{} old replicas are still ending", total - want)))
}

/// Why pods could not be created, such as a quota. It lasts only as long as its cause.
fn replica_failure(object: &Value) -> Option<Health> {
    let failure = condition(object, "ReplicaFailure").filter(Condition::is_true)?;
    Some(failure.health(super::Status::Progressing))
}
