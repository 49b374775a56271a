use serde_json::json;

use super::*;

const CONTEXT: Context = Context {
    since_applied: Duration::from_secs(60),
    progress_deadline: Duration::from_secs(600),
    waits_for_consumer: false,
};

fn object(api_version: &str, kind: &str, spec: Value, status: Value) -> Value {
    json!({
        "apiVersion": api_version, "kind": kind, "metadata": {"name": "x", "namespace": "n", "generation": 2},
        "spec": spec, "status": status,
    })
}

fn check_in(context: &Context, object: &Value, expected: &str) {
    let health = assess(object, context);
    assert_eq!(format!("{:?} {}", health.status, health.reason), expected, "{object}\n{health:?}");
}

fn check(api_version: &str, kind: &str, spec: Value, status: Value, expected: &str) {
    check_in(&CONTEXT, &object(api_version, kind, spec, status), expected);
}

fn conditions(rows: &[(&str, &str, &str)]) -> Value {
    rows.iter()
        .map(|(kind, status, reason)| json!({"type": kind, "status": status, "reason": reason, "message": "m"}))
        .collect()
}

/// `left` with the fields of `right` put over it.
fn with(mut left: Value, right: Value) -> Value {
    let (Value::Object(fields), Value::Object(more)) = (&mut left, right) else { panic!("two objects") };
    fields.extend(more);
    left
}

#[test]
fn deployments() {
    let check = |spec, status, expected| check("apps/v1", "Deployment", spec, status, expected);
    let spec = || json!({"replicas": 2, "progressDeadlineSeconds": 600});
    let rolled = [
        ("Available", "True", "MinimumReplicasAvailable"),
        ("Progressing", "True", "NewReplicaSetAvailable"),
    ];
    let full = || {
        json!({"observedGeneration": 2, "replicas": 2, "updatedReplicas": 2, "readyReplicas": 2,
               "availableReplicas": 2, "conditions": conditions(&rolled)})
    };
    check(spec(), full(), "Current Available");
    check(
        json!({"replicas": 0, "progressDeadlineSeconds": 600}),
        json!({"observedGeneration": 2, "conditions": conditions(&rolled)}),
        "Current Available",
    );
    check(spec(), json!({}), "Progressing LessReplicas");
    check(spec(), with(full(), json!({"observedGeneration": 1})), "Progressing LatestGenerationNotObserved");
    check(spec(), with(full(), json!({"updatedReplicas": 1})), "Progressing LessUpdated");
    check(spec(), with(full(), json!({"replicas": 3})), "Progressing ExtraPods");
    check(spec(), with(full(), json!({"availableReplicas": 1})), "Progressing LessAvailable");
    check(spec(), with(full(), json!({"readyReplicas": 1})), "Progressing LessReady");
    check(
        spec(),
        with(
            full(),
            json!({"conditions": conditions(&[rolled[0], ("Progressing", "True", "ReplicaSetUpdated")])}),
        ),
        "Progressing ReplicaSetNotAvailable",
    );
    check(
        spec(),
        with(
            full(),
            json!({"conditions": conditions(&[rolled[1], ("Available", "False", "MinimumReplicasUnavailable")])}),
        ),
        "Progressing DeploymentNotAvailable",
    );
    check(
        json!({"replicas": 2}),
        with(full(), json!({"conditions": conditions(&[rolled[0]])})),
        "Current Available",
    );
    let deadline = ("Progressing", "False", "ProgressDeadlineExceeded");
    let quota = ("ReplicaFailure", "True", "FailedCreate");
    check(
        spec(),
        json!({"replicas": 1, "conditions": conditions(&[deadline])}),
        "Failed ProgressDeadlineExceeded",
    );
    check(spec(), json!({"replicas": 1, "conditions": conditions(&[quota])}), "Progressing FailedCreate");
    check(
        spec(),
        json!({"replicas": 1, "conditions": conditions(&[quota, deadline])}),
        "Failed FailedCreate",
    );
    check(
        spec(),
        with(full(), json!({"conditions": conditions(&[rolled[0], rolled[1], quota])})),
        "Current Available",
    );
}

#[test]
fn replica_sets() {
    let check = |status, expected| check("apps/v1", "ReplicaSet", json!({"replicas": 2}), status, expected);
    let full =
        || json!({"replicas": 2, "fullyLabeledReplicas": 2, "readyReplicas": 2, "availableReplicas": 2});
    check(full(), "Current Available");
    check(json!({}), "Progressing LessLabelled");
    check(with(full(), json!({"availableReplicas": 0})), "Progressing LessAvailable");
    check(with(full(), json!({"readyReplicas": 1})), "Progressing LessReady");
    check(with(full(), json!({"replicas": 3})), "Progressing ExtraPods");
    check(
        json!({"conditions": conditions(&[("ReplicaFailure", "True", "FailedCreate")])}),
        "Progressing FailedCreate",
    );
}

#[test]
fn stateful_sets() {
    let check = |spec, status, expected| check("apps/v1", "StatefulSet", spec, status, expected);
    let spec = || json!({"replicas": 3});
    let full = || {
        json!({"observedGeneration": 2, "replicas": 3, "readyReplicas": 3, "currentReplicas": 3,
               "updatedReplicas": 3, "currentRevision": "a", "updateRevision": "a"})
    };
    let partition = || json!({"replicas": 3, "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 2}}});
    check(spec(), full(), "Current Ready");
    check(spec(), json!({}), "Progressing LessReplicas");
    check(spec(), with(full(), json!({"readyReplicas": 2})), "Progressing LessReady");
    check(spec(), with(full(), json!({"replicas": 4})), "Progressing ExtraPods");
    check(
        spec(),
        with(full(), json!({"updateRevision": "b", "updatedReplicas": 1})),
        "Progressing RollingUpdate",
    );
    check(
        json!({"replicas": 3, "updateStrategy": {"type": "OnDelete"}}),
        with(full(), json!({"updateRevision": "b"})),
        "Current OnDelete",
    );
    check(
        partition(),
        with(full(), json!({"updateRevision": "b", "updatedReplicas": 0})),
        "Progressing PartitionRollout",
    );
    check(
        partition(),
        with(full(), json!({"updateRevision": "b", "updatedReplicas": 1})),
        "Current PartitionRolloutComplete",
    );
}

#[test]
fn daemon_sets() {
    let check = |spec, status, expected| check("apps/v1", "DaemonSet", spec, status, expected);
    let full = || {
        json!({"observedGeneration": 2, "desiredNumberScheduled": 2, "currentNumberScheduled": 2,
               "updatedNumberScheduled": 2, "numberAvailable": 2, "numberReady": 2})
    };
    check(json!({}), full(), "Current Ready");
    check(json!({}), json!({"observedGeneration": 2, "desiredNumberScheduled": 0}), "Current NoNodes");
    check(json!({}), json!({"desiredNumberScheduled": 0}), "Progressing NotObserved");
    check(json!({}), with(full(), json!({"currentNumberScheduled": 1})), "Progressing LessScheduled");
    check(json!({}), with(full(), json!({"updatedNumberScheduled": 1})), "Progressing LessUpdated");
    check(
        json!({"updateStrategy": {"type": "OnDelete"}}),
        with(full(), json!({"updatedNumberScheduled": 1})),
        "Current Ready",
    );
    check(json!({}), with(full(), json!({"numberAvailable": 1})), "Progressing LessAvailable");
    check(json!({}), with(full(), json!({"numberReady": 1})), "Progressing LessReady");
}

#[test]
fn jobs() {
    let check = |spec, status, expected| check("batch/v1", "Job", spec, status, expected);
    check(json!({}), json!({}), "Progressing NotStarted");
    check(json!({}), json!({"startTime": "2026-11-20T10:00:00Z", "active": 1}), "Progressing Running");
    check(
        json!({}),
        json!({"startTime": "t", "succeeded": 1,
        "conditions": conditions(&[("SuccessCriteriaMet", "True", "CompletionsReached")])}),
        "Progressing Running",
    );
    check(
        json!({}),
        json!({"startTime": "t", "succeeded": 1,
        "conditions": conditions(&[("Complete", "True", "CompletionsReached")])}),
        "Current Complete",
    );
    check(
        json!({}),
        json!({"startTime": "t", "failed": 7,
        "conditions": conditions(&[("Failed", "True", "BackoffLimitExceeded")])}),
        "Failed BackoffLimitExceeded",
    );
    check(
        json!({"suspend": true}),
        json!({"conditions": conditions(&[("Suspended", "True", "JobSuspended")])}),
        "Current Suspended",
    );
}

#[test]
fn pods() {
    let waiting =
        |reason: &str| json!([{"name": "app", "state": {"waiting": {"reason": reason, "message": "m"}}}]);
    let check = |status, expected| check("v1", "Pod", json!({}), status, expected);
    check(json!({"phase": "Succeeded"}), "Current Succeeded");
    check(json!({"phase": "Failed", "reason": "Evicted"}), "Failed Evicted");
    check(
        json!({"phase": "Failed", "containerStatuses": [{"name": "app", "state": {"terminated": {"exitCode": 1}}}]}),
        "Failed PodFailed",
    );
    check(json!({"phase": "Running", "conditions": conditions(&[("Ready", "True", "")])}), "Current Ready");
    let not_ready = conditions(&[("Ready", "False", "ContainersNotReady")]);
    check(json!({"phase": "Running", "conditions": not_ready}), "Progressing PodRunningNotReady");
    check(json!({"phase": "Pending"}), "Progressing PodPending");
    check(
        json!({"phase": "Running", "containerStatuses": waiting("CrashLoopBackOff")}),
        "Failed CrashLoopBackOff",
    );
    check(
        json!({"phase": "Pending", "containerStatuses": waiting("ImagePullBackOff")}),
        "Failed ImagePullBackOff",
    );
    check(
        json!({"phase": "Pending", "containerStatuses": waiting("ErrImagePull")}),
        "Progressing PodPending",
    );
    check(
        json!({"phase": "Pending", "containerStatuses": waiting("ContainerCreating")}),
        "Progressing PodPending",
    );
    check(
        json!({"phase": "Pending", "initContainerStatuses": waiting("CrashLoopBackOff"),
        "containerStatuses": waiting("PodInitializing")}),
        "Failed CrashLoopBackOff",
    );
    let unschedulable = || {
        object(
            "v1",
            "Pod",
            json!({}),
            json!({"phase": "Pending", "conditions": conditions(&[("PodScheduled", "False", "Unschedulable")])}),
        )
    };
    check_in(&CONTEXT, &unschedulable(), "Failed Unschedulable");
    let early = Context { since_applied: Duration::from_secs(14), ..CONTEXT };
    check_in(&early, &unschedulable(), "Progressing Unschedulable");
}

#[test]
fn claims() {
    let claim = |phase: &str| {
        object(
            "v1",
            "PersistentVolumeClaim",
            json!({"storageClassName": "local-path"}),
            json!({"phase": phase}),
        )
    };
    let waits = Context { waits_for_consumer: true, ..CONTEXT };
    check_in(&CONTEXT, &claim("Bound"), "Current Bound");
    check_in(&CONTEXT, &claim("Pending"), "Progressing NotBound");
    check_in(&waits, &claim("Pending"), "Current WaitForFirstConsumer");
    check_in(&waits, &claim("Lost"), "Failed VolumeLost");
    assert_eq!(storage_class(&claim("Pending")), Some("local-path"));
    assert_eq!(storage_class(&claim("Bound")), None);
}

#[test]
fn definitions_and_services() {
    let crd = |rows: &[(&str, &str, &str)], expected: &str| {
        let status = json!({"conditions": conditions(rows)});
        check("apiextensions.k8s.io/v1", "CustomResourceDefinition", json!({}), status, expected);
    };
    crd(&[], "Progressing Installing");
    crd(
        &[("NamesAccepted", "True", "NoConflicts"), ("Established", "False", "Installing")],
        "Progressing Installing",
    );
    crd(
        &[("NamesAccepted", "True", "NoConflicts"), ("Established", "True", "InitialNamesAccepted")],
        "Current Established",
    );
    crd(
        &[("NamesAccepted", "False", "PluralConflict"), ("Established", "False", "NotAccepted")],
        "Failed PluralConflict",
    );
    crd(&[("Established", "False", "NotAccepted")], "Failed NotAccepted");

    let api = |rows: &[(&str, &str, &str)], expected: &str| {
        let status = json!({"conditions": conditions(rows)});
        check("apiregistration.k8s.io/v1", "APIService", json!({}), status, expected);
    };
    api(&[], "Progressing NotObserved");
    api(&[("Available", "True", "Passed")], "Current Available");
    api(&[("Available", "False", "MissingEndpoints")], "Progressing MissingEndpoints");

    check("v1", "Service", json!({"type": "ClusterIP", "clusterIP": "10.0.0.1"}), json!({}), "Current Ready");
    check("v1", "Service", json!({"type": "LoadBalancer"}), json!({}), "Progressing NoIPAssigned");
    check(
        "v1",
        "Service",
        json!({"type": "LoadBalancer", "clusterIP": "10.0.0.1"}),
        json!({}),
        "Current Ready",
    );
    check("policy/v1", "PodDisruptionBudget", json!({}), json!({}), "Progressing NotObserved");
    check("policy/v1", "PodDisruptionBudget", json!({}), json!({"observedGeneration": 2}), "Current Ready");
}

#[test]
fn any_other_kind() {
    let check = |status, expected| check("cert-manager.io/v1", "Certificate", json!({}), status, expected);
    check(json!({}), "Progressing NotObserved");
    check(
        json!({"conditions": conditions(&[("Accepted", "Unknown", "Pending")])}),
        "Progressing NotObserved",
    );
    check(json!({"conditions": conditions(&[("Accepted", "True", "Accepted")])}), "Current Ready");
    check(json!({"revision": 1}), "Current Ready");
    check(json!({"conditions": conditions(&[("Ready", "True", "Issued")])}), "Current Issued");
    check(
        json!({"conditions": conditions(&[("Ready", "False", "DoesNotExist")])}),
        "Progressing DoesNotExist",
    );
    check(json!({"conditions": conditions(&[("Ready", "Unknown", "")])}), "Progressing Ready");
    check(
        json!({"observedGeneration": 1, "conditions": conditions(&[("Ready", "True", "Issued")])}),
        "Progressing LatestGenerationNotObserved",
    );
    check(
        json!({"conditions": [{"type": "Ready", "status": "True", "reason": "Issued", "observedGeneration": 1}]}),
        "Progressing LatestGenerationNotObserved",
    );
    check(
        json!({"conditions": conditions(&[("Reconciling", "True", "Progressing")])}),
        "Progressing Progressing",
    );
    check(
        json!({"conditions": conditions(&[("Stalled", "True", "BuildFailed"), ("Reconciling", "True", "Retrying")])}),
        "Failed BuildFailed",
    );
    check(
        json!({"conditions": conditions(&[("Stalled", "False", ""), ("Ready", "True", "Done")])}),
        "Current Done",
    );

    let untouched = object("example.com/v1", "Widget", json!({}), Value::Null);
    check_in(&CONTEXT, &untouched, "Progressing NotObserved");
    let late = Context { since_applied: Duration::from_secs(600), ..CONTEXT };
    check_in(&late, &untouched, "Current Ready");
    check_in(
        &CONTEXT,
        &json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "x"}}),
        "Current Ready",
    );
    check_in(&CONTEXT, &json!({"kind": "ConfigMap"}), "Unknown NotAnObject");
    check_in(
        &CONTEXT,
        &json!({"apiVersion": "v1", "kind": "Namespace",
        "metadata": {"name": "x", "deletionTimestamp": "t", "finalizers": ["a/b"]}}),
        "Terminating Deleting",
    );
}

#[test]
fn pods_say_what_their_workload_does_not() {
    let pod = |status: Value| object("v1", "Pod", json!({}), status);
    let stuck = pod(json!({"phase": "Pending", "containerStatuses": [
        {"name": "app", "state": {"waiting": {"reason": "ImagePullBackOff", "message": "no such tag"}}}]}));
    let pending = pod(json!({"phase": "Pending"}));
    let check = |workload: Health, pods: &[Value], expected: (Status, &str, &str)| {
        let got = explain(workload, pods, &CONTEXT);
        assert_eq!((got.status, got.reason.as_str(), got.message.as_str()), expected);
    };
    let missing = || Health::progressing("LessReplicas", "0 of 1");
    check(missing(), &[], (Status::Progressing, "LessReplicas", "0 of 1"));
    check(missing(), std::slice::from_ref(&pending), (Status::Progressing, "LessReplicas", "0 of 1"));
    let reason = (Status::Progressing, "ImagePullBackOff", "pod x: container app: no such tag");
    check(missing(), &[pending, stuck.clone()], reason);
    check(
        Health::failed("ProgressDeadlineExceeded", ""),
        std::slice::from_ref(&stuck),
        (Status::Failed, reason.1, reason.2),
    );
    check(Health::current("Available", ""), &[stuck], (Status::Current, "Available", ""));
}
