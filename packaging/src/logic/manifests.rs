//! What the measured agent is given to keep: objects of the kinds and sizes that real applications have.

use serde_json::{Value, json};

/// Bytes of data in each ConfigMap: a middling configuration file.
const CONFIGURATION_BYTES: usize = 4096;

/// A bundle's manifests: `count` objects in `namespace`, which is one of them. Every version changes every object
/// that has something to change, so that applying it is work.
pub(crate) fn manifests(namespace: &str, version: u32, count: usize) -> String {
    let home = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace}});
    let parts = (0..).flat_map(|index| part(&format!("part-{index}"), namespace, version));
    let objects: Vec<Value> = std::iter::once(home).chain(parts).take(count).collect();
    json!({"apiVersion": "v1", "kind": "List", "items": objects}).to_string()
}

/// One component of an application, with what it usually brings along.
fn part(name: &str, namespace: &str, version: u32) -> [Value; 7] {
    let labels =
        json!({"app.kubernetes.io/name": name, "app.kubernetes.io/version": format!("1.0.{version}")});
    let selector = json!({"app.kubernetes.io/name": name});
    let object = |api_version: &str, kind: &str, rest: Value| {
        let mut object = json!({
            "apiVersion": api_version, "kind": kind,
            "metadata": {"name": name, "namespace": namespace, "labels": labels},
        });
        if let (Value::Object(object), Value::Object(rest)) = (&mut object, rest) {
            object.extend(rest);
        }
        object
    };
    let subject = json!([{"kind": "ServiceAccount", "name": name, "namespace": namespace}]);
    let role = json!({"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name});
    [
        object("v1", "ServiceAccount", json!({})),
        object("v1", "ConfigMap", json!({"data": {"settings.conf": configuration(name, version)}})),
        object(
            "rbac.authorization.k8s.io/v1",
            "Role",
            json!({"rules": [{"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get", "watch"]}]}),
        ),
        object("rbac.authorization.k8s.io/v1", "RoleBinding", json!({"roleRef": role, "subjects": subject})),
        object(
            "v1",
            "Service",
            json!({"spec": {"selector": selector, "ports": [{"name": "http", "port": 80, "targetPort": "http"}]}}),
        ),
        object(
            "networking.k8s.io/v1",
            "NetworkPolicy",
            json!({"spec": {"podSelector": {"matchLabels": selector}, "policyTypes": ["Ingress"],
                            "ingress": [{"ports": [{"port": "http"}]}]}}),
        ),
        object("apps/v1", "Deployment", deployment(name, &selector, version)),
    ]
}

fn deployment(name: &str, selector: &Value, version: u32) -> Value {
    json!({"spec": {
        "replicas": 1,
        "selector": {"matchLabels": selector},
        "template": {
            "metadata": {"labels": selector},
            "spec": {
                "serviceAccountName": name,
                "containers": [{
                    "name": "main",
                    "image": format!("registry.example.com/{name}:1.0.{version}"),
                    "args": ["--config", "/etc/settings/settings.conf"],
                    "ports": [{"name": "http", "containerPort": 8080}],
                    "resources": {"requests": {"cpu": "10m", "memory": "16Mi"}, "limits": {"memory": "32Mi"}},
                    "readinessProbe": {"httpGet": {"path": "/ready", "port": "http"}, "periodSeconds": 10},
                    "volumeMounts": [{"name": "settings", "mountPath": "/etc/settings"}],
                }],
                "volumes": [{"name": "settings", "configMap": {"name": name}}],
            },
        },
    }})
}

/// Lines that differ, so that they compress as configuration does and not to nothing.
fn configuration(name: &str, version: u32) -> String {
    let mut text = String::new();
    for line in 0_u32.. {
        if text.len() >= CONFIGURATION_BYTES {
            break;
        }
        let value = line.wrapping_add(version).wrapping_mul(2_654_435_761);
        text.push_str(&format!("{name}.setting-{line} = {value:08x}\n"));
    }
    text
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn objects(version: u32, count: usize) -> Vec<Value> {
        let list: Value = serde_json::from_str(&manifests("budget", version, count)).unwrap();
        list["items"].as_array().unwrap().clone()
    }

    fn names(objects: &[Value]) -> BTreeSet<String> {
        objects.iter().map(|object| format!("{} {}", object["kind"], object["metadata"]["name"])).collect()
    }

    #[test]
    fn there_are_as_many_objects_as_asked_for() {
        for count in [1, 50, 100] {
            assert_eq!(names(&objects(1, count)).len(), count);
        }
    }

    #[test]
    fn a_larger_version_keeps_what_a_smaller_one_had_and_changes_it() {
        let (small, large) = (objects(1, 50), objects(2, 100));
        assert!(names(&small).is_subset(&names(&large)));
        let same = small.iter().filter(|object| large.contains(object));
        assert_eq!(same.map(|object| &object["kind"]).collect::<Vec<_>>(), ["Namespace"]);
    }
}
