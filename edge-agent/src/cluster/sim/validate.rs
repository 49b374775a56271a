//! What the API server fills in, and what it refuses, as far as the agent can tell the difference.

use serde_json::{Map, Value, json};

use super::store::metadata;
use crate::{cluster::status::StatusCause, logic::object::ObjectRef};

/// Longest name of an object (a DNS subdomain, RFC 1123).
const MAX_NAME_BYTES: usize = 253;

const SUBDOMAIN: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or \
    '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
    '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')";

/// Puts into an object what the path of its request says.
pub(super) fn address(object: &ObjectRef, value: &mut Value) {
    let fields = metadata(value);
    fields.insert("name".into(), json!(object.name));
    match &object.namespace {
        Some(namespace) => drop(fields.insert("namespace".into(), json!(namespace))),
        None => drop(fields.remove("namespace")),
    }
    value["apiVersion"] = json!(object.gvk.api_version());
    value["kind"] = json!(object.gvk.kind);
}

/// Fills in the defaults that health, ownership and generations depend on.
pub(super) fn fill_in(object: &ObjectRef, value: &mut Value) {
    match (object.gvk.group.as_str(), object.gvk.kind.as_str()) {
        ("", "Namespace") => {
            defaults(value, &["metadata", "labels"], json!({"kubernetes.io/metadata.name": object.name}));
            defaults(
                value,
                &[],
                json!({"spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"}}),
            );
        }
        ("", "Service") => defaults(
            value,
            &["spec"],
            json!({"type": "ClusterIP", "sessionAffinity": "None", "clusterIP": cluster_ip(object)}),
        ),
        ("", "PersistentVolumeClaim") => {
            defaults(value, &["spec"], json!({"volumeMode": "Filesystem"}));
            defaults(value, &[], json!({"status": {"phase": "Pending"}}));
        }
        ("apps", "Deployment") => {
            let spec = json!({
                "replicas": 1, "progressDeadlineSeconds": 600, "revisionHistoryLimit": 10,
                "strategy": {"type": "RollingUpdate", "rollingUpdate": {"maxSurge": "25%", "maxUnavailable": "25%"}},
            });
            defaults(value, &["spec"], spec);
            fill_in_pod(value);
        }
        ("apps", "StatefulSet") => {
            let spec = json!({
                "replicas": 1, "revisionHistoryLimit": 10, "podManagementPolicy": "OrderedReady",
                "updateStrategy": {"type": "RollingUpdate", "rollingUpdate": {"partition": 0}},
            });
            defaults(value, &["spec"], spec);
            fill_in_pod(value);
        }
        ("apps", "DaemonSet") => {
            defaults(
                value,
                &["spec"],
                json!({"revisionHistoryLimit": 10, "updateStrategy": {"type": "RollingUpdate"}}),
            );
            fill_in_pod(value);
        }
        ("batch", "Job") => {
            defaults(
                value,
                &["spec"],
                json!({"parallelism": 1, "completions": 1, "backoffLimit": 6, "suspend": false}),
            );
            fill_in_pod(value);
        }
        _ => {}
    }
}

/// What is wrong with an object that is to replace `live`.
pub(super) fn check(object: &ObjectRef, live: Option<&Value>, value: &Value) -> Vec<StatusCause> {
    let mut causes = Vec::new();
    // RBAC names may hold anything that a path may.
    if object.gvk.group != "rbac.authorization.k8s.io" && !is_subdomain(&object.name) {
        let message = format!("Invalid value: {}: {SUBDOMAIN}", json!(object.name));
        causes.push(cause("FieldValueInvalid", "metadata.name", message));
    }
    if matches!(
        (object.gvk.group.as_str(), object.gvk.kind.as_str()),
        ("apps", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet")
    ) {
        check_workload(live, value, &mut causes);
    }
    causes
}

fn check_workload(live: Option<&Value>, value: &Value, causes: &mut Vec<StatusCause>) {
    let selector = &value["spec"]["selector"];
    let labels = &value["spec"]["template"]["metadata"]["labels"];
    if selector.is_null() {
        causes.push(cause("FieldValueRequired", "spec.selector", "Required value".into()));
    } else if !selects(selector, labels) {
        let labels = if labels.is_null() { &json!({}) } else { labels };
        let message = format!("Invalid value: {labels}: `selector` does not match template `labels`");
        causes.push(cause("FieldValueInvalid", "spec.template.metadata.labels", message));
    }
    if value["spec"]["template"]["spec"]["containers"].as_array().is_none_or(Vec::is_empty) {
        causes.push(cause("FieldValueRequired", "spec.template.spec.containers", "Required value".into()));
    }
    if live.is_some_and(|live| live["spec"]["selector"] != *selector) {
        let message = format!("Invalid value: {selector}: field is immutable");
        causes.push(cause("FieldValueInvalid", "spec.selector", message));
    }
}

fn selects(selector: &Value, labels: &Value) -> bool {
    let wanted = selector["matchLabels"].as_object().into_iter().flatten();
    wanted.into_iter().all(|(key, value)| labels[key.as_str()] == *value)
}

fn is_subdomain(name: &str) -> bool {
    let edge = |byte: &u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        bytes.first().is_some_and(edge)
            && bytes.last().is_some_and(edge)
            && bytes.iter().all(|byte| edge(byte) || *byte == b'-')
    };
    name.len() <= MAX_NAME_BYTES && name.split('.').all(label)
}

fn cause(reason: &str, field: &str, message: String) -> StatusCause {
    StatusCause { reason: reason.into(), message, field: field.into() }
}

fn fill_in_pod(value: &mut Value) {
    let is_job = value["kind"] == "Job";
    let restart = if is_job { "Never" } else { "Always" };
    let pod = json!({
        "restartPolicy": restart, "dnsPolicy": "ClusterFirst", "terminationGracePeriodSeconds": 30,
        "schedulerName": "default-scheduler", "securityContext": {},
    });
    defaults(value, &["spec", "template", "spec"], pod);
    let containers = value.pointer_mut("/spec/template/spec/containers").and_then(Value::as_array_mut);
    for container in containers.into_iter().flatten() {
        let latest = !container["image"].as_str().unwrap_or("").contains([':', '@']);
        let pull = if latest { "Always" } else { "IfNotPresent" };
        let container_defaults = json!({
            "imagePullPolicy": pull, "resources": {}, "terminationMessagePath": "/dev/termination-log",
            "terminationMessagePolicy": "File",
        });
        defaults(container, &[], container_defaults);
        let ports = container.get_mut("ports").and_then(Value::as_array_mut);
        ports.into_iter().flatten().for_each(|port| defaults(port, &[], json!({"protocol": "TCP"})));
    }
}

/// An address of the service network of k3s (10.43.0.0/16), decided by the name.
fn cluster_ip(object: &ObjectRef) -> String {
    let [.., third, fourth] = digest(&object.to_string()).to_be_bytes();
    format!("10.43.{third}.{fourth}")
}

/// A number decided by a text (FNV-1a).
pub(super) fn digest(text: &str) -> u64 {
    text.bytes()
        .fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// Adds the fields that are missing at a place, at any depth.
fn defaults(value: &mut Value, place: &[&str], fields: Value) {
    let mut here = value;
    for name in place {
        if here[*name].is_null() {
            here[*name] = json!({});
        }
        here = &mut here[*name];
    }
    if let (Value::Object(have), Value::Object(fields)) = (here, fields) {
        add(have, fields);
    }
}

fn add(have: &mut Map<String, Value>, fields: Map<String, Value>) {
    for (name, value) in fields {
        match (have.get_mut(&name), value) {
            (Some(Value::Object(have)), Value::Object(value)) => add(have, value),
            (Some(_), _) => {}
            (None, value) => drop(have.insert(name, value)),
        }
    }
}
