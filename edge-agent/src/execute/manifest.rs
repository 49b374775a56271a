//! What is sent: manifests with their label, the object that lists an application's kinds, selectors.

use protocol::{
    documents::{ObjectEntry, Release},
    ids::AppId,
};
use serde_json::{Map, Value, json};

use crate::logic::{
    app::{PARENT_NAMESPACE, apply_set, parent_name},
    event::Parent,
    object::{Gvk, ObjectRef},
};

/// Label of every object that belongs to an ApplySet (KEP-3659); watches select by it.
pub const PART_OF: &str = "applyset.kubernetes.io/part-of";

/// Label of an ApplySet's parent: its id (KEP-3659).
const ID: &str = "applyset.kubernetes.io/id";

/// Who manages the ApplySet: `<tool>/<version of how it does>` (KEP-3659).
const TOOLING: &str = "edgefleet/v1";

/// A manifest as it is applied: with the label that says whose it is, and nothing else.
pub(super) fn decorated(mut manifest: Value, apply_set: &str) -> Value {
    if let Some(metadata) = manifest.get_mut("metadata").and_then(Value::as_object_mut) {
        let labels = metadata.entry("labels").or_insert(Value::Null);
        if labels.is_null() {
            *labels = Value::Object(Map::new());
        }
        // Labels that are no map are left for the API server to refuse in its own words.
        if let Some(labels) = labels.as_object_mut() {
            labels.insert(PART_OF.to_owned(), apply_set.into());
        }
    }
    manifest
}

/// Whether a release holds the namespace of that name.
pub(super) fn makes_namespace(release: &Release, name: &str) -> bool {
    let is_it =
        |one: &ObjectEntry| one.group.is_empty() && one.kind == "Namespace" && one.name.as_str() == name;
    release.objects.iter().any(is_it)
}

/// Whether a release may define the kind: a definition is named `<plural>.<group>`.
pub(super) fn defines(release: &Release, kind: &Gvk) -> bool {
    let of_group =
        |one: &ObjectEntry| one.name.as_str().split_once('.').is_some_and(|(_, of)| of == kind.group);
    release.objects.iter().any(|one| one.kind == "CustomResourceDefinition" && of_group(one))
}

/// Where applications' parents stand.
pub(super) fn parent_namespace() -> Value {
    json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": PARENT_NAMESPACE}})
}

/// An application's parent.
pub(super) fn parent_ref(app: &AppId) -> ObjectRef {
    let namespace = Some(PARENT_NAMESPACE.to_owned());
    ObjectRef { gvk: Gvk::new("v1", "ConfigMap"), namespace, name: parent_name(app) }
}

/// The object that lists an application's kinds and namespaces (KEP-3659, "ApplySet parent").
pub(super) fn parent(parent: &Parent) -> Value {
    let elsewhere: Vec<&str> =
        parent.namespaces.iter().map(String::as_str).filter(|name| *name != PARENT_NAMESPACE).collect();
    json!({
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": {
            "namespace": PARENT_NAMESPACE,
            "name": parent_name(&parent.app),
            "labels": {ID: apply_set(&parent.app)},
            "annotations": {
                "applyset.kubernetes.io/tooling": TOOLING,
                "applyset.kubernetes.io/contains-group-kinds": parent.kinds.join(","),
                "applyset.kubernetes.io/additional-namespaces": elsewhere.join(","),
            },
        },
    })
}

/// Whether an object says that it is the parent of `app`.
pub(super) fn is_parent_of(object: &Value, app: &AppId) -> bool {
    object["metadata"]["labels"][ID].as_str() == Some(apply_set(app).as_str())
}

/// Namespace and label selector of a workload's pods; none for what has no pods of its own.
pub(super) fn pods_of(object: &Value) -> Option<(String, String)> {
    let workload = matches!(
        (text(object, "/apiVersion"), text(object, "/kind")),
        ("apps/v1", "Deployment" | "StatefulSet" | "DaemonSet" | "ReplicaSet") | ("batch/v1", "Job")
    );
    let selector = object.pointer("/spec/selector").filter(|_| workload)?;
    // An empty selector selects every pod, and in apps/v1 none.
    let selector = Some(selector_text(selector)).filter(|selector| !selector.is_empty())?;
    Some((text(object, "/metadata/namespace").to_owned(), selector))
}

/// A `LabelSelector` (meta/v1) as a query takes it, such as `app=gateway,tier in (edge,core)`.
fn selector_text(selector: &Value) -> String {
    let equal = selector.get("matchLabels").and_then(Value::as_object).into_iter().flatten();
    let equal = equal.map(|(key, value)| format!("{key}={}", value.as_str().unwrap_or_default()));
    let rules = selector.get("matchExpressions").and_then(Value::as_array).into_iter().flatten();
    equal.chain(rules.filter_map(rule_text)).collect::<Vec<_>>().join(",")
}

fn rule_text(rule: &Value) -> Option<String> {
    let (key, values) = (text(rule, "/key"), rule.get("values").and_then(Value::as_array));
    let values: Vec<&str> = values.into_iter().flatten().filter_map(Value::as_str).collect();
    match text(rule, "/operator") {
        "In" => Some(format!("{key} in ({})", values.join(","))),
        "NotIn" => Some(format!("{key} notin ({})", values.join(","))),
        "Exists" => Some(key.to_owned()),
        "DoesNotExist" => Some(format!("!{key}")),
        _ => None,
    }
}

/// The text at a JSON pointer, or nothing.
pub(super) fn text<'a>(object: &'a Value, pointer: &str) -> &'a str {
    object.pointer(pointer).and_then(Value::as_str).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_label_is_added_and_nothing_else() {
        let check = |metadata: Value, expected: Value| {
            let decorated = decorated(json!({"kind": "ConfigMap", "metadata": metadata}), "set");
            assert_eq!(decorated, json!({"kind": "ConfigMap", "metadata": expected}));
        };
        check(json!({"name": "a"}), json!({"name": "a", "labels": {PART_OF: "set"}}));
        check(json!({"labels": null}), json!({"labels": {PART_OF: "set"}}));
        check(json!({"labels": {"app": "x"}}), json!({"labels": {"app": "x", PART_OF: "set"}}));
        check(json!({"labels": {PART_OF: "other"}}), json!({"labels": {PART_OF: "set"}}));
        check(json!({"labels": "text"}), json!({"labels": "text"}));
    }

    #[test]
    fn a_parent_says_what_the_kep_asks() {
        let app = AppId::new("radio", "gateway").unwrap();
        let described = Parent {
            app: app.clone(),
            kinds: vec!["ConfigMap".into(), "Deployment.apps".into()],
            namespaces: vec![PARENT_NAMESPACE.into(), "radio".into(), "radio-b".into()],
        };
        let object = parent(&described);
        assert_eq!(ObjectRef::of(&object).unwrap(), parent_ref(&app));
        let annotations = &object["metadata"]["annotations"];
        assert_eq!(annotations["applyset.kubernetes.io/tooling"], "edgefleet/v1");
        assert_eq!(annotations["applyset.kubernetes.io/contains-group-kinds"], "ConfigMap,Deployment.apps");
        assert_eq!(annotations["applyset.kubernetes.io/additional-namespaces"], "radio,radio-b");
        assert!(is_parent_of(&object, &app));
        assert!(!is_parent_of(&object, &AppId::new("radio", "other").unwrap()));
    }

    #[test]
    fn pods_are_found_by_their_workloads_selector() {
        let check = |kind: (&str, &str), selector: Value, expected: Option<&str>| {
            let object = json!({"apiVersion": kind.0, "kind": kind.1, "metadata": {"namespace": "radio"},
                                "spec": {"selector": selector}});
            let expected = expected.map(|text| ("radio".to_owned(), text.to_owned()));
            assert_eq!(pods_of(&object), expected, "{object}");
        };
        let deployment = ("apps/v1", "Deployment");
        check(deployment, json!({"matchLabels": {"a": "1", "b": "2"}}), Some("a=1,b=2"));
        let rules = json!({"matchLabels": {"a": "1"}, "matchExpressions": [
            {"key": "t", "operator": "In", "values": ["x", "y"]},
            {"key": "u", "operator": "NotIn", "values": ["z"]},
            {"key": "v", "operator": "Exists"}, {"key": "w", "operator": "DoesNotExist"}]});
        check(("batch/v1", "Job"), rules, Some("a=1,t in (x,y),u notin (z),v,!w"));
        check(deployment, json!({}), None);
        check(("v1", "Service"), json!({"a": "1"}), None);
    }
}
