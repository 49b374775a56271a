//! What the cluster's own controllers do: workloads come up or fail, kinds are established, what is deleted
//! takes along what it owns.

use std::time::Duration;

use serde_json::{Value, json};

use super::{
    Effects, Settings, SimCluster,
    store::{Change, metadata, scramble},
    validate::digest,
};
use crate::{
    cluster::MAX_LISTED,
    logic::object::{Gvk, ObjectRef},
};

/// Pods whose label of this name is `true` fail after they start. The name is that of KWOK's chaos stage, so
/// that one manifest fails alike in both.
pub const FAIL_LABEL: &str = "pod-container-running-failed.stage.kwok.x-k8s.io";

/// As whom controllers write.
pub(super) const MANAGER: &str = "kube-controller-manager";

/// How soon a controller sees a change.
pub(super) const CONTROLLER_DELAY: Duration = Duration::from_millis(50);

/// How long a Deployment that does not say it may take to progress.
const PROGRESS_DEADLINE_SECONDS: u64 = 600;

/// What a controller is about to do, to which generation of which object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Work {
    /// See a new generation, which asks for other pods (`true`) or only for more or fewer of them.
    Observe(Target, bool),
    /// Finish what it asked for.
    Finish(Target),
    /// Give up on it.
    GiveUp(Target),
    /// Serve the kinds of a definition.
    Establish(Target),
    /// Delete what a deleted namespace or definition holds.
    Empty(Target),
    /// Delete what a deleted object owned.
    Collect {
        /// UID of the deleted object.
        owner: String,
    },
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    object: ObjectRef,
    uid: String,
    generation: i64,
}

/// How far a workload has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    Started,
    Finished,
    GivenUp,
}

/// Schedules what controllers do about a change.
pub(super) fn notice(change: &Change, settings: &Settings, effects: &mut Effects) {
    let Some(after) = &change.after else { return };
    let before = change.before.as_deref();
    let target = || Target {
        object: change.object.clone(),
        uid: text(after, "/metadata/uid").to_owned(),
        generation: number(after, "/metadata/generation"),
    };
    let deleting = |value: &Value| value.pointer("/metadata/deletionTimestamp").is_some();
    let is_deleted_now = deleting(after) && !before.is_some_and(deleting);
    let is_new = before
        .is_none_or(|before| number(before, "/metadata/generation") != number(after, "/metadata/generation"));
    match change.object.gvk.kind.as_str() {
        "Namespace" | "CustomResourceDefinition" if is_deleted_now => {
            effects.later(CONTROLLER_DELAY, Work::Empty(target()));
        }
        "CustomResourceDefinition" if is_new && !deleting(after) => {
            effects.later(settings.establish_after, Work::Establish(target()));
        }
        "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet" | "Job" | "PodDisruptionBudget"
            if is_new && !deleting(after) =>
        {
            let template = |value: &Value| value["spec"]["template"].clone();
            let replaces = before.is_none_or(|before| template(before) != template(after));
            effects.later(CONTROLLER_DELAY, Work::Observe(target(), replaces));
        }
        "PersistentVolumeClaim" if before.is_none() => {
            effects.later(ready_after(settings, &target()), Work::Finish(target()));
        }
        _ => {}
    }
}

/// The pods of a workload, worked out from its template and its status.
pub(super) fn pods(object: &ObjectRef, workload: &Value, time: &str) -> Vec<Value> {
    let count = match object.gvk.kind.as_str() {
        "Deployment" | "StatefulSet" | "ReplicaSet" => number(workload, "/status/replicas"),
        "DaemonSet" => number(workload, "/status/currentNumberScheduled"),
        "Job" => number(workload, "/status/active").max(number(workload, "/status/failed").min(1)),
        _ => 0,
    };
    let ready = number(workload, "/status/readyReplicas").max(number(workload, "/status/numberReady"));
    (0..count.min(i64::from(MAX_LISTED)))
        .map(|index| pod(object, workload, index, index < ready, time))
        .collect()
}

impl SimCluster {
    /// Does what a controller was about to do, unless its object has changed since.
    pub(super) fn work(&mut self, now: Duration, work: Work, effects: &mut Effects) {
        match work {
            Work::Observe(target, replaces) => self.observe(now, target, replaces, effects),
            Work::Finish(target) => self.advance(now, &target, Stage::Finished, effects),
            Work::GiveUp(target) => self.advance(now, &target, Stage::GivenUp, effects),
            Work::Establish(target) => self.establish(now, &target, effects),
            Work::Empty(target) => self.empty(now, &target, effects),
            Work::Collect { owner } => self.collect(now, &owner, effects),
        }
    }

    fn observe(&mut self, now: Duration, target: Target, replaces: bool, effects: &mut Effects) {
        let Some(value) = self.current(&target) else { return };
        if value["spec"]["suspend"] == true {
            return;
        }
        if target.object.gvk.kind == "PodDisruptionBudget" || !replaces && is_settled(value) {
            return self.advance(now, &target, Stage::Finished, effects);
        }
        let next = if fails(value) {
            let deadline = value["spec"]["progressDeadlineSeconds"].as_u64();
            let deadline = Duration::from_secs(deadline.unwrap_or(PROGRESS_DEADLINE_SECONDS));
            let is_job = target.object.gvk.kind == "Job";
            let delay = if is_job { ready_after(&self.settings, &target) } else { deadline };
            (delay, Work::GiveUp(target.clone()))
        } else {
            (ready_after(&self.settings, &target), Work::Finish(target.clone()))
        };
        self.advance(now, &target, Stage::Started, effects);
        effects.later(next.0, next.1);
    }

    /// Writes the status of an object at a stage.
    fn advance(&mut self, now: Duration, target: &Target, stage: Stage, effects: &mut Effects) {
        let Some(value) = self.current(target) else { return };
        if let Some(status) = status(&target.object, value, stage, &self.time(now)) {
            self.write_status(now, &target.object, status, effects);
        }
    }

    fn establish(&mut self, now: Duration, target: &Target, effects: &mut Effects) {
        let Some(definition) = self.current(target).cloned() else { return };
        self.kinds.serve(&definition);
        let rows =
            [("NamesAccepted", "True", "NoConflicts"), ("Established", "True", "InitialNamesAccepted")];
        let names = &definition["spec"]["names"];
        let versions = definition["spec"]["versions"].as_array().into_iter().flatten();
        let stored: Vec<&Value> =
            versions.filter(|version| version["storage"] == true).map(|version| &version["name"]).collect();
        let status = json!({
            "acceptedNames": names,
            "conditions": conditions(&definition, &rows, &self.time(now)),
            "storedVersions": stored,
        });
        self.write_status(now, &target.object, status, effects);
        self.begin_waiting_watches(effects);
    }

    /// Deletes what is in a namespace or of a definition's kinds, then lets go of it.
    fn empty(&mut self, now: Duration, target: &Target, effects: &mut Effects) {
        let Some(holder) = self.current(target).cloned() else { return };
        let is_namespace = target.object.gvk.kind == "Namespace";
        let kinds = if is_namespace { Vec::new() } else { self.kinds_of(&holder) };
        let name = Some(&target.object.name);
        let held: Vec<ObjectRef> = self
            .store
            .iter()
            .map(|(object, _)| object)
            .filter(|object| kinds.contains(&object.gvk) || is_namespace && object.namespace.as_ref() == name)
            .cloned()
            .collect();
        for object in &held {
            // What has finalizers stays; the holder is looked at again.
            let _ = self.delete(now, object, None, effects);
        }
        if held.iter().any(|object| self.store.get(object).is_some()) {
            return effects.later(Duration::from_secs(1), Work::Empty(target.clone()));
        }
        if !is_namespace {
            self.kinds.withdraw(&holder);
        }
        self.remove(&target.object, effects);
    }

    fn collect(&mut self, now: Duration, owner: &str, effects: &mut Effects) {
        let owned = |value: &Value| {
            let owners = value.pointer("/metadata/ownerReferences").and_then(Value::as_array);
            owners.into_iter().flatten().any(|reference| reference["uid"] == owner)
        };
        let orphans: Vec<ObjectRef> =
            self.store.iter().filter(|(_, value)| owned(value)).map(|(object, _)| object.clone()).collect();
        for object in orphans {
            let _ = self.delete(now, &object, None, effects);
        }
    }

    fn kinds_of(&self, definition: &Value) -> Vec<Gvk> {
        super::kinds::Kinds::default().withdraw(definition)
    }

    /// The object, if it is still the one and the generation that was looked at.
    fn current(&self, target: &Target) -> Option<&Value> {
        let value = self.object(&target.object)?;
        let is_same = text(value, "/metadata/uid") == target.uid
            && number(value, "/metadata/generation") == target.generation;
        is_same.then_some(value)
    }
}

/// Within the settings' range, decided by the seed and by what is made ready.
fn ready_after(settings: &Settings, target: &Target) -> Duration {
    let (least, most) = (*settings.ready_after.start(), *settings.ready_after.end());
    let span = u64::try_from(most.saturating_sub(least).as_millis()).unwrap_or(u64::MAX).max(1);
    let position = digest(&target.uid) ^ target.generation.unsigned_abs();
    least + Duration::from_millis(scramble(settings.seed, position) % span)
}

fn fails(workload: &Value) -> bool {
    workload["spec"]["template"]["metadata"]["labels"][FAIL_LABEL] == "true" || is_unschedulable(workload)
}

/// Whether it asks for a node that is not there: the cluster's one node has no labels to select it by.
fn is_unschedulable(workload: &Value) -> bool {
    let selector = workload["spec"]["template"]["spec"]["nodeSelector"].as_object();
    selector.is_some_and(|selector| !selector.is_empty())
}

/// Whether all that the last generation asked for is there, and this one asks for no more.
fn is_settled(workload: &Value) -> bool {
    let count = |field: &str| number(workload, &format!("/status/{field}"));
    let total = count("replicas");
    count("observedGeneration") + 1 == number(workload, "/metadata/generation")
        && count("updatedReplicas") == total
        && count("readyReplicas") == total
        && number(workload, "/spec/replicas") <= total
}

/// What changes when the pods must be replaced.
fn revision(workload: &Value) -> String {
    format!("{:010x}", digest(&workload["spec"]["template"].to_string()) & 0xff_ffff_ffff)
}

fn status(object: &ObjectRef, value: &Value, stage: Stage, time: &str) -> Option<Value> {
    let observed = number(value, "/metadata/generation");
    let mut status = match object.gvk.kind.as_str() {
        "Deployment" => deployment(value, stage, time),
        "StatefulSet" => stateful_set(object, value, stage),
        "DaemonSet" => daemon_set(stage),
        "ReplicaSet" => {
            let want = number(value, "/spec/replicas");
            let up = if stage == Stage::Finished { want } else { 0 };
            json!({"replicas": want, "fullyLabeledReplicas": zero_is_none(want),
                   "readyReplicas": zero_is_none(up), "availableReplicas": zero_is_none(up)})
        }
        "PodDisruptionBudget" => {
            json!({"currentHealthy": 0, "desiredHealthy": 0, "expectedPods": 0, "disruptionsAllowed": 0})
        }
        "Job" => return Some(job(value, stage, time)),
        "PersistentVolumeClaim" => return Some(json!({"phase": "Bound"})),
        _ => return None,
    };
    status["observedGeneration"] = json!(observed);
    Some(status)
}

fn deployment(value: &Value, stage: Stage, time: &str) -> Value {
    let want = number(value, "/spec/replicas");
    let was_up = number(value, "/status/readyReplicas").min(want);
    // The first pod of the new revision comes up beside those of the old one.
    let (total, updated, up) = match stage {
        Stage::Finished => (want, want, want),
        Stage::Started | Stage::GivenUp if was_up > 0 => (was_up + 1, 1, was_up),
        Stage::Started | Stage::GivenUp => (want, want, 0),
    };
    let available = if up >= want {
        ("Available", "True", "MinimumReplicasAvailable")
    } else {
        ("Available", "False", "MinimumReplicasUnavailable")
    };
    let progressing = match stage {
        Stage::Started => ("Progressing", "True", "ReplicaSetUpdated"),
        Stage::Finished => ("Progressing", "True", "NewReplicaSetAvailable"),
        Stage::GivenUp => ("Progressing", "False", "ProgressDeadlineExceeded"),
    };
    json!({
        "replicas": zero_is_none(total),
        "updatedReplicas": zero_is_none(updated),
        "readyReplicas": zero_is_none(up),
        "availableReplicas": zero_is_none(up),
        "unavailableReplicas": zero_is_none(total - up),
        "conditions": conditions(value, &[available, progressing], time),
    })
}

fn stateful_set(object: &ObjectRef, value: &Value, stage: Stage) -> Value {
    let want = number(value, "/spec/replicas");
    let partition = number(value, "/spec/updateStrategy/rollingUpdate/partition").min(want);
    let update = format!("{}-{}", object.name, revision(value));
    let current = match text(value, "/status/currentRevision") {
        "" => update.clone(),
        current => current.to_owned(),
    };
    let was_up = number(value, "/status/readyReplicas").min(want);
    let finished = stage == Stage::Finished;
    let up = if finished { want } else { was_up };
    let updated = if finished { want - partition } else { 0 };
    let current = if finished && partition == 0 { update.clone() } else { current };
    let is_one_revision = current == update;
    json!({
        "replicas": want, "availableReplicas": up, "readyReplicas": zero_is_none(up),
        "currentReplicas": zero_is_none(if is_one_revision { want } else { want - updated }),
        "updatedReplicas": zero_is_none(if is_one_revision { want } else { updated }),
        "currentRevision": current, "updateRevision": update, "collisionCount": 0,
    })
}

/// An edge cluster has one node.
fn daemon_set(stage: Stage) -> Value {
    let up = i64::from(stage == Stage::Finished);
    json!({
        "desiredNumberScheduled": 1, "currentNumberScheduled": 1, "updatedNumberScheduled": 1,
        "numberMisscheduled": 0, "numberReady": up,
        "numberAvailable": zero_is_none(up), "numberUnavailable": zero_is_none(1 - up),
    })
}

fn job(value: &Value, stage: Stage, time: &str) -> Value {
    let completions = number(value, "/spec/completions");
    match stage {
        Stage::Started => json!({"startTime": time, "active": 1, "ready": 0}),
        Stage::Finished => json!({
            "active": null, "ready": 0, "succeeded": completions, "completionTime": time,
            "conditions": conditions(value, &[("SuccessCriteriaMet", "True", "CompletionsReached"),
                ("Complete", "True", "CompletionsReached")], time),
        }),
        Stage::GivenUp => json!({
            "active": null, "ready": 0, "failed": number(value, "/spec/backoffLimit") + 1,
            "conditions": conditions(value, &[("FailureTarget", "True", "BackoffLimitExceeded"),
                ("Failed", "True", "BackoffLimitExceeded")], time),
        }),
    }
}

/// Conditions, each with the time since when it is so.
fn conditions(value: &Value, rows: &[(&str, &str, &str)], time: &str) -> Value {
    let known = value.pointer("/status/conditions").and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    rows.iter()
        .map(|(kind, status, reason)| {
            let before = known.iter().find(|one| one["type"] == *kind && one["status"] == *status);
            let since = before.and_then(|one| one["lastTransitionTime"].as_str()).unwrap_or(time);
            json!({"type": kind, "status": status, "reason": reason, "message": message(reason),
                   "lastTransitionTime": since})
        })
        .collect()
}

/// The controllers' own words.
fn message(reason: &str) -> &'static str {
    match reason {
        "MinimumReplicasAvailable" => "Deployment has minimum availability.",
        "MinimumReplicasUnavailable" => "Deployment does not have minimum availability.",
        "ReplicaSetUpdated" => "ReplicaSet is progressing.",
        "NewReplicaSetAvailable" => "ReplicaSet has successfully progressed.",
        "ProgressDeadlineExceeded" => "ReplicaSet has timed out progressing.",
        "CompletionsReached" => "Reached expected number of succeeded pods",
        "BackoffLimitExceeded" => "Job has reached the specified backoff limit",
        "NoConflicts" => "no conflicts found",
        "InitialNamesAccepted" => "the initial names have been accepted",
        _ => "",
    }
}

fn pod(object: &ObjectRef, workload: &Value, index: i64, ready: bool, time: &str) -> Value {
    let template = &workload["spec"]["template"];
    let name = match object.gvk.kind.as_str() {
        "StatefulSet" => format!("{}-{index}", object.name),
        _ => format!("{}-{}-{index}", object.name, revision(workload)),
    };
    let is_ready = if ready { "True" } else { "False" };
    let mut conditions = vec![json!({"type": "Ready", "status": is_ready})];
    let (phase, state) = if ready {
        ("Running", json!({"running": {"startedAt": time}}))
    } else if is_unschedulable(workload) {
        let message = "0/1 nodes are available: 1 node(s) didn't match Pod's node affinity/selector.";
        conditions = vec![
            json!({"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": message}),
        ];
        ("Pending", Value::Null)
    } else if fails(workload) {
        let said = |what: &str, otherwise: &str| {
            let annotation = format!("{FAIL_LABEL}/{what}");
            template["metadata"]["annotations"][annotation.as_str()].as_str().unwrap_or(otherwise).to_owned()
        };
        let (reason, message) = (said("reason", "containerFailed"), said("message", "container failed"));
        ("Failed", json!({"terminated": {"exitCode": 1, "reason": reason, "message": message}}))
    } else {
        ("Pending", json!({"waiting": {"reason": "ContainerCreating"}}))
    };
    let containers = template["spec"]["containers"].as_array().into_iter().flatten();
    let containers: Vec<Value> = containers
        .filter(|_| !state.is_null())
        .map(|one| json!({"name": one["name"], "image": one["image"], "ready": ready, "restartCount": 0, "state": state}))
        .collect();
    let mut pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {"name": name, "namespace": object.namespace},
        "spec": template["spec"],
        "status": {
            "phase": phase, "conditions": conditions, "containerStatuses": containers,
        },
    });
    for field in ["labels", "annotations"] {
        if template["metadata"][field].is_object() {
            metadata(&mut pod).insert(field.into(), template["metadata"][field].clone());
        }
    }
    pod
}

fn zero_is_none(count: i64) -> Value {
    if count == 0 { Value::Null } else { json!(count) }
}

fn text<'a>(value: &'a Value, pointer: &str) -> &'a str {
    value.pointer(pointer).and_then(Value::as_str).unwrap_or("")
}

fn number(value: &Value, pointer: &str) -> i64 {
    value.pointer(pointer).and_then(Value::as_i64).unwrap_or(0)
}
