use serde_json::json;

use super::*;

/// How the field at a dotted path merges; `[]` steps into the items of a list.
fn describe(topology: &Topology, path: &str) -> String {
    let mut shape = topology.root();
    for step in path.split('.') {
        let name = step.trim_end_matches("[]");
        shape = shape.field(name);
        if step.ends_with("[]") {
            shape = shape.item();
        }
    }
    let keys = |key: &ListKey| match &key.default {
        Some(default) => format!("{}={default}", key.name),
        None => key.name.clone(),
    };
    match shape.list() {
        ListType::Set => "set".to_owned(),
        ListType::Keyed(list) => list.iter().map(keys).collect::<Vec<_>>().join(" "),
        ListType::Atomic if shape.is_atomic_object() => "atomic".to_owned(),
        ListType::Atomic if shape.declares("any name at all") => "fields".to_owned(),
        ListType::Atomic => "keys".to_owned(),
    }
}

#[test]
fn built_in_kinds_merge_as_the_api_server_says() {
    for (gvk, path, merges) in [
        ("v1, Kind=ConfigMap", "data", "keys"),
        ("v1, Kind=ConfigMap", "metadata.labels", "keys"),
        ("v1, Kind=ConfigMap", "metadata.finalizers", "set"),
        ("v1, Kind=ConfigMap", "metadata.ownerReferences", "uid=\"\""),
        ("v1, Kind=ConfigMap", "metadata.ownerReferences[]", "atomic"),
        ("v1, Kind=Service", "spec.ports", "port=0 protocol=\"TCP\""),
        ("v1, Kind=Service", "spec.selector", "atomic"),
        ("v1, Kind=ServiceAccount", "secrets", "name"),
        ("v1, Kind=Pod", "spec.tolerations", "fields"),
        ("v1, Kind=Pod", "spec.nodeSelector", "atomic"),
        ("v1, Kind=PersistentVolume", "spec.csi.volumeAttributes", "keys"),
        ("apps/v1, Kind=Deployment", "spec.selector", "atomic"),
        ("apps/v1, Kind=Deployment", "spec.template.metadata.annotations", "keys"),
        ("apps/v1, Kind=Deployment", "spec.template.spec.containers", "name=\"\""),
        (
            "apps/v1, Kind=Deployment",
            "spec.template.spec.containers[].ports",
            "containerPort=0 protocol=\"TCP\"",
        ),
        ("apps/v1, Kind=Deployment", "spec.template.spec.containers[].resources.limits", "keys"),
        ("apps/v1, Kind=Deployment", "spec.template.spec.containers[].env[].valueFrom.fieldRef", "atomic"),
        ("apps/v1, Kind=Deployment", "status.conditions", "type=\"\""),
        ("batch/v1, Kind=CronJob", "spec.jobTemplate.spec.template.spec.volumes", "name=\"\""),
        ("batch/v1, Kind=Job", "status.uncountedTerminatedPods.failed", "set"),
        ("networking.k8s.io/v1, Kind=Ingress", "spec.rules", "fields"),
    ] {
        let topology = Topology::built_in(&gvk.parse().unwrap()).unwrap();
        assert_eq!(describe(&topology, path), merges, "{gvk} {path}");
    }
    assert!(Topology::built_in(&"example.com/v1, Kind=Pod".parse().unwrap()).is_none());
}

#[test]
fn custom_resources_merge_as_their_definition_says() {
    let schema = json!({"type": "object", "properties": {
        "spec": {"type": "object", "properties": {
            "steps": {
                "type": "array", "x-kubernetes-list-type": "map", "x-kubernetes-list-map-keys": ["name", "zone"],
                "items": {"type": "object", "properties": {
                    "name": {"type": "string"}, "zone": {"type": "string", "default": "a"},
                    "tags": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
                }},
            },
            "order": {"type": "array", "items": {"type": "string"}},
            "whole": {"type": "object", "x-kubernetes-map-type": "atomic"},
            "free": {"type": "object", "x-kubernetes-preserve-unknown-fields": true},
            "byName": {"type": "object", "additionalProperties": {"type": "object", "properties": {
                "list": {"type": "array", "x-kubernetes-list-type": "set", "items": {"type": "string"}},
            }}},
            "template": {"type": "object", "x-kubernetes-embedded-resource": true},
            "port": {"x-kubernetes-int-or-string": true},
        }},
    }});
    let topology = Topology::custom(&schema, true).unwrap();
    for (path, merges) in [
        ("metadata.labels", "keys"),
        ("spec.steps", "name zone=\"a\""),
        ("spec.steps[].tags", "set"),
        ("spec.order", "fields"),
        ("spec.whole", "atomic"),
        ("spec.free", "keys"),
        ("spec.free.anything.below", "keys"),
        ("spec.byName.some.list", "set"),
        ("spec.template.metadata.finalizers", "set"),
        ("spec.port", "keys"),
    ] {
        assert_eq!(describe(&topology, path), merges, "{path}");
    }
    assert!(topology.root().field("spec").declares("order"));
    assert!(!topology.root().field("spec").declares("undeclared"));
}

#[test]
fn schemas_that_do_not_say_how_to_merge_are_refused() {
    let deep = (0..200).fold(json!({}), |below, _| json!({"additionalProperties": below}));
    let error = Topology::custom(&deep, true).unwrap_err().to_string();
    assert!(error.ends_with("is nested deeper than 120 levels"), "{error}");
    for (field, message) in [
        (
            json!({"x-kubernetes-list-type": "bag"}),
            "x-kubernetes-list-type is \"bag\": use atomic, set or map",
        ),
        (json!({"x-kubernetes-map-type": "bag"}), "x-kubernetes-map-type is \"bag\": use granular or atomic"),
        (
            json!({"x-kubernetes-list-type": "map"}),
            "a list of type map needs x-kubernetes-list-map-keys: name at least one field of its items",
        ),
    ] {
        let error = Topology::custom(&json!({"properties": {"x": field}}), true).unwrap_err();
        assert_eq!(error.to_string(), format!("openAPIV3Schema at \".x\": {message}"));
    }
}

#[test]
fn an_endpoint_leaves_alone_what_is_not_its_own() {
    let pod = Topology::built_in(&"v1, Kind=Pod".parse().unwrap()).unwrap();
    for (topology, subresource, fields) in [
        (&pod, "", &[".status"][..]),
        (&pod, "status", &[".spec", ".metadata.deletionTimestamp", ".metadata.ownerReferences"]),
        (&pod, "scale", &[]),
        (&Topology::untyped(true), "", &[".status"]),
        (&Topology::untyped(true), "status", &[".metadata", ".spec"]),
        (&Topology::untyped(false), "", &[]),
    ] {
        let reset = topology.reset_fields(subresource).paths();
        assert_eq!(reset.iter().map(ToString::to_string).collect::<Vec<_>>(), fields, "{subresource}");
    }
}
