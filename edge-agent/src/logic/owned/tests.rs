use serde_json::json;

use super::*;

/// A Deployment as the API server stores it after our apply and a controller's status.
fn deployment() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {
            "name": "gateway", "namespace": "radio", "generation": 1, "resourceVersion": "812", "uid": "u-1",
            "labels": {"app.kubernetes.io/name": "gateway"},
            "annotations": {"deployment.kubernetes.io/revision": "1"},
            "managedFields": [
                {
                    "manager": "edgefleet", "operation": "Apply", "apiVersion": "apps/v1",
                    "time": "2026-11-20T10:00:00Z", "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        "f:metadata": {"f:labels": {"f:app.kubernetes.io/name": {}}},
                        "f:spec": {
                            "f:replicas": {},
                            "f:selector": {},
                            "f:template": {"f:spec": {
                                "f:containers": {"k:{\"name\":\"app\"}": {
                                    ".": {}, "f:image": {}, "f:name": {},
                                    "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {
                                        ".": {}, "f:containerPort": {}
                                    }}
                                }},
                                "f:volumes": {"k:{\"name\":\"tmp\"}": {".": {}, "f:emptyDir": {}, "f:name": {}}}
                            }}
                        }
                    }
                },
                {
                    "manager": "kube-controller-manager", "operation": "Update", "apiVersion": "apps/v1",
                    "time": "2026-11-20T10:00:03Z", "subresource": "status", "fieldsType": "FieldsV1",
                    "fieldsV1": {
                        "f:metadata": {"f:annotations": {".": {}, "f:deployment.kubernetes.io/revision": {}}},
                        "f:status": {"f:replicas": {}}
                    }
                }
            ]
        },
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app.kubernetes.io/name": "gateway"}},
            "progressDeadlineSeconds": 600,
            "template": {"spec": {
                "containers": [{
                    "name": "app", "image": "gateway:1", "imagePullPolicy": "IfNotPresent",
                    "ports": [{"containerPort": 80, "protocol": "TCP"}]
                }],
                "volumes": [{"name": "tmp", "emptyDir": {}}]
            }}
        },
        "status": {"replicas": 2}
    })
}

/// What was applied to make [`deployment`].
fn manifest() -> Value {
    json!({
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "gateway", "namespace": "radio", "labels": {"app.kubernetes.io/name": "gateway"}},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": {"app.kubernetes.io/name": "gateway"}},
            "template": {"spec": {
                "containers": [{"name": "app", "image": "gateway:1", "ports": [{"containerPort": 80}]}],
                "volumes": [{"name": "tmp", "emptyDir": {}}]
            }}
        }
    })
}

fn set(object: &mut Value, pointer: &str, value: Value) {
    let (parent, last) = pointer.rsplit_once('/').expect("pointers start with a slash");
    match object.pointer_mut(parent).expect("the parent exists") {
        Value::Array(items) => items.insert(last.parse().expect("an index"), value),
        Value::Object(fields) => drop(fields.insert(last.replace("~1", "/"), value)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => panic!("{parent} has no parts"),
    }
}

fn remove(object: &mut Value, pointer: &str) {
    let (parent, last) = pointer.rsplit_once('/').expect("pointers start with a slash");
    match object.pointer_mut(parent).expect("the parent exists") {
        Value::Array(items) => drop(items.remove(last.parse().expect("an index"))),
        Value::Object(fields) => drop(fields.remove(&last.replace("~1", "/")).expect("it was there")),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => panic!("{parent} has no parts"),
    }
}

#[test]
fn the_digest_moves_with_what_is_ours_and_with_nothing_else() {
    let check = |what: &str, moves: bool, change: &dyn Fn(&mut Value)| {
        let before = deployment();
        let mut after = before.clone();
        change(&mut after);
        assert_ne!(before, after, "{what}: changed nothing");
        assert_eq!(digest(&before, &[]) != digest(&after, &[]), moves, "{what}");
    };
    let ours = "/metadata/managedFields/0/fieldsV1/f:spec";
    let app = "/spec/template/spec/containers/0";

    check("our value changed", true, &|o| set(o, "/spec/replicas", json!(3)));
    check("our value removed", true, &|o| remove(o, "/spec/replicas"));
    check("our label changed", true, &|o| set(o, "/metadata/labels/app.kubernetes.io~1name", json!("x")));
    check("our image changed", true, &|o| set(o, &format!("{app}/image"), json!("gateway:2")));
    check("our container gone", true, &|o| remove(o, app));
    check("our atomic map changed", true, &|o| set(o, "/spec/selector/matchLabels/extra", json!("x")));
    check("number became text", true, &|o| set(o, "/spec/replicas", json!("2")));
    check("ownership lost", true, &|o| remove(o, &format!("{ours}/f:replicas")));
    check("ownership of an item lost", true, &|o| {
        remove(o, &format!("{ours}/f:template/f:spec/f:volumes/k:{{\"name\":\"tmp\"}}"));
    });

    check("status", false, &|o| set(o, "/status/replicas", json!(1)));
    check("versions", false, &|o| set(o, "/metadata/resourceVersion", json!("900")));
    check("generation", false, &|o| set(o, "/metadata/generation", json!(2)));
    check("our time", false, &|o| set(o, "/metadata/managedFields/0/time", json!("2026-12-01T00:00:00Z")));
    check("a default", false, &|o| set(o, "/spec/progressDeadlineSeconds", json!(10)));
    check("another's annotation", false, &|o| set(o, "/metadata/annotations/x", json!("y")));
    check("a container before ours", false, &|o| {
        set(o, "/spec/template/spec/containers/0", json!({"name": "sidecar", "image": "mesh:1"}));
    });
    check("another's field inside a map we own empty", false, &|o| {
        set(o, "/spec/template/spec/volumes/0/emptyDir/sizeLimit", json!("1Gi"));
        set(
            o,
            "/metadata/managedFields/2",
            json!({"manager": "kubectl", "operation": "Apply", "fieldsV1": {"f:spec": {"f:template": {"f:spec": {
                "f:volumes": {"k:{\"name\":\"tmp\"}": {"f:emptyDir": {"f:sizeLimit": {}}}}}}}}}),
        );
    });
}

#[test]
fn an_ignored_pointer_is_neither_owned_nor_changed() {
    let check = |ignore: &str, pointer: &str, value: Value| {
        let before = deployment();
        let mut after = before.clone();
        set(&mut after, pointer, value);
        let ignore = [ignore.to_owned()];
        assert_eq!(digest(&before, &ignore), digest(&after, &ignore), "{pointer}");
        assert_ne!(digest(&before, &[]), digest(&after, &[]), "{pointer}");
        assert_ne!(digest(&before, &[]), digest(&before, &ignore), "{pointer}");
    };
    check("/spec/replicas", "/spec/replicas", json!(9));
    check("/spec/template", "/spec/template/spec/containers/0/image", json!("x"));
    check("/metadata/labels/app.kubernetes.io~1name", "/metadata/labels/app.kubernetes.io~1name", json!("x"));
}

#[test]
fn an_object_that_is_not_ours_has_no_digest() {
    let mut theirs = deployment();
    remove(&mut theirs, "/metadata/managedFields/0");
    assert_eq!(digest(&theirs, &[]), None);
    assert_eq!(digest(&json!({}), &[]), None);
}

#[test]
fn whoever_took_a_field_is_named() {
    let entry = |manager: &str, time: &str, subresource: &str, fields: Value| json!({"manager": manager, "operation": "Update", "time": time, "subresource": subresource, "fieldsV1": fields});
    let check = |added: Vec<Value>, expected: &[&str]| {
        let mut live = deployment();
        added.into_iter().for_each(|entry| set(&mut live, "/metadata/managedFields/0", entry));
        assert_eq!(who_changed(&live, &manifest()), expected);
    };
    let replicas = json!({"f:spec": {"f:replicas": {}}});
    let image = json!({"f:spec": {"f:template": {"f:spec": {"f:containers": {"k:{\"name\":\"app\"}": {"f:image": {}}}}}}});
    let annotation = json!({"f:metadata": {"f:annotations": {"f:note": {}}}});

    check(vec![], &[]);
    check(vec![entry("kubectl", "2026-11-20T11:00:00Z", "scale", replicas.clone())], &["kubectl"]);
    check(
        vec![
            entry("hpa", "2026-11-20T11:00:00Z", "scale", replicas.clone()),
            entry("kubectl-set", "2026-11-20T12:00:00Z", "", image),
            entry("kubectl-annotate", "2026-11-20T13:00:00Z", "", annotation.clone()),
            entry("operator", "2026-11-20T13:00:00Z", "status", replicas.clone()),
        ],
        &["kubectl-set", "hpa"],
    );
    check(
        vec![
            entry("kubectl", "2026-11-20T12:00:00Z", "scale", replicas.clone()),
            entry("kubectl", "2026-11-20T13:00:00Z", "", replicas),
        ],
        &["kubectl"],
    );
    // Nobody owns what we set: a field was removed, and anyone who wrote may have done it.
    check(vec![entry("kubectl-edit", "2026-11-20T11:00:00Z", "", annotation)], &["kubectl-edit"]);
}

#[test]
fn a_conflict_is_ours_if_the_manifest_sets_its_field() {
    let manifest = json!({
        "metadata": {"labels": {"app.kubernetes.io/name": "gateway", "app": "x"}, "finalizers": ["a.b/c]d"]},
        "spec": {
            "replicas": 2,
            "template": {"spec": {"containers": [
                {"name": "app", "image": "gateway:1", "args": ["-v"], "ports": [{"containerPort": 80}]},
                {"name": "we\"ird]", "image": "x"},
            ]}}
        }
    });
    let check = |path: &str, expected: bool| assert_eq!(covers(&manifest, path), expected, "{path}");
    check(".spec.replicas", true);
    check(".spec", true);
    check(".spec.paused", false);
    check(".spec.replicasets", false);
    check(".metadata.labels.app.kubernetes.io/name", true);
    check(".metadata.labels.app.kubernetes.io/part-of", false);
    check(".metadata.labels.app", true);
    check(".spec.template.spec.containers[name=\"app\"].image", true);
    check(".spec.template.spec.containers[name=\"app\"].imagePullPolicy", false);
    check(".spec.template.spec.containers[name=\"sidecar\"].image", false);
    check(".spec.template.spec.containers[name=\"we\\\"ird]\"].image", true);
    check(
        ".spec.template.spec.containers[name=\"app\"].ports[containerPort=80,protocol=\"TCP\"].containerPort",
        true,
    );
    check(
        ".spec.template.spec.containers[name=\"app\"].ports[containerPort=81,protocol=\"TCP\"].containerPort",
        false,
    );
    check(".spec.template.spec.containers[name=\"app\"].args[0]", true);
    check(".spec.template.spec.containers[name=\"app\"].args[1]", false);
    check(".metadata.finalizers[=\"a.b/c]d\"]", true);
    check(".metadata.finalizers[=\"other\"]", false);
    check(".spec.template.spec.containers[name=\"app\"", false);
    check(".spec.template.spec.containers[name]", false);
}
