use serde_json::json;

use super::*;

#[test]
fn definitions_agree_with_the_kinds() {
    for kind in Kind::OWN {
        let crd = custom_resource_definition(kind).unwrap();
        assert_eq!(crd.spec.group, GROUP);
        assert_eq!(crd.spec.names.kind, kind.name());
        assert_eq!(crd.spec.names.plural, kind.plural());
        assert_eq!(crd.spec.scope == "Namespaced", kind.is_namespaced());
        assert_eq!(crd.spec.versions[0].name, VERSION);
        assert_eq!(crd.spec.versions[0].subresources.is_some(), kind.has_status());
        assert_eq!(format!("{GROUP}/{VERSION}"), API_VERSION);
        assert!(kind.definition().schema.get("properties").is_some());
        assert_eq!(Kind::from_name(kind.name()), Some(kind));
        assert_eq!(Kind::from_plural(kind.plural()), Some(kind));
    }
}

fn cluster(spec: Value) -> Value {
    json!({"apiVersion": API_VERSION, "kind": "Cluster", "metadata": {"name": "tower-0001"}, "spec": spec})
}

fn application(spec: Value) -> Value {
    let metadata = json!({"name": "gateway", "namespace": "radio"});
    json!({"apiVersion": API_VERSION, "kind": "Application", "metadata": metadata, "spec": spec})
}

fn bundle(change: impl FnOnce(&mut Value)) -> Value {
    let mut bundle = json!({
        "apiVersion": API_VERSION,
        "kind": "Bundle",
        "metadata": {"name": "gateway-1.0.0", "namespace": "radio"},
        "spec": {
            "application": "gateway",
            "version": "1.0.0",
            // The digest of the four bytes in `release`.
            "digest": "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08",
            "pack": format!("sha256:{}", "0".repeat(64)),
            "release": "dGVzdA==",
        },
    });
    change(&mut bundle);
    bundle
}

/// An object, and the unknown fields or the errors.
type Row<'a> = (Kind, Value, Result<&'a [&'a str], &'a [&'a str]>);

fn check(rows: Vec<Row<'_>>) {
    for (kind, object, expected) in rows {
        match (kind.decode(object.clone(), None), expected) {
            (Ok(decoded), Ok(unknown)) => {
                let actual: Vec<_> = decoded.unknown.iter().map(ToString::to_string).collect();
                assert_eq!(actual, unknown, "{object}");
                let again = kind.decode(decoded.value.clone(), None).unwrap();
                assert_eq!((again.value, again.unknown), (decoded.value, Vec::new()), "{object}");
            }
            (Err(errors), Err(expected)) => {
                assert_eq!(errors.len(), expected.len(), "{object}: {errors:?}");
                for (error, start) in errors.iter().zip(expected) {
                    let actual = format!("{}: {}", error.field, error.message);
                    assert!(actual.starts_with(start), "{object}: {actual}");
                }
            }
            (result, expected) => panic!("{object}: {result:?}, expected {expected:?}"),
        }
    }
}

#[test]
fn decoding_a_cluster_refuses_or_says_what_it_left_out() {
    check(vec![
        (Kind::Cluster, cluster(json!({})), Ok(&[])),
        (Kind::Cluster, cluster(json!({"accepted": true, "hold": {"reason": "crane"}})), Ok(&[])),
        (
            Kind::Cluster,
            cluster(json!({"hold": {"reason": "crane", "untl": 1}, "x": {"y": 2}})),
            Ok(&["spec.hold.untl", "spec.x"]),
        ),
        (
            Kind::Cluster,
            cluster(json!({"accepted": "yes"})),
            Err(&[
                "spec.accepted: Invalid value: \"string\": spec.accepted in body must be of type boolean: \"string\"",
            ]),
        ),
        (Kind::Cluster, cluster(json!({"hold": {}})), Err(&["spec.hold.reason: Required value"])),
        (
            Kind::Cluster,
            cluster(json!({"hold": {"reason": ""}})),
            Err(&["spec.hold.reason: Invalid value: \"\": must have 1 to 1024 bytes"]),
        ),
        (
            Kind::Cluster,
            json!({"apiVersion": API_VERSION, "kind": "Cluster", "metadata": {"name": "a.b"}}),
            Err(&["spec: Required value"]),
        ),
        (
            Kind::Cluster,
            json!({"apiVersion": API_VERSION, "kind": "Cluster", "metadata": {"name": "a.b.c"}, "spec": {}}),
            Err(&["metadata.name: Invalid value: \"a.b.c\": a cluster's name must match"]),
        ),
    ]);
}

#[test]
fn decoding_an_application_refuses_or_says_what_it_left_out() {
    let placed = json!({"clusterSelector": {}});
    check(vec![
        (Kind::Application, application(json!({"bundle": "gateway-1.0.0", "placement": placed})), Ok(&[])),
        (
            Kind::Application,
            application(json!({
                "bundle": "b",
                "placement": placed,
                "rollout": {},
                "overrides": [{"clusterSelector": {"matchLabel": {}}, "parameters": {}}],
            })),
            Ok(&["spec.overrides[0].clusterSelector.matchLabel", "spec.rollout"]),
        ),
        (Kind::Application, application(json!({"bundle": "b"})), Err(&["spec.placement: Required value"])),
        (
            Kind::Application,
            application(json!({"bundle": "b", "placement": placed, "mode": "Watch"})),
            Err(&[
                "spec.mode: Unsupported value: \"Watch\": supported values: \"Enforce\", \"Observe\", \"DryRun\"",
            ]),
        ),
        (
            Kind::Application,
            application(json!({
                "bundle": "B",
                "placement": {"clusterSelector": {"matchLabels": {"a b": "c"}}},
                "dependsOn": [{"application": "gateway"}],
            })),
            Err(&[
                "spec.bundle: Invalid value: \"B\": a lowercase RFC 1123 subdomain",
                "spec.placement.clusterSelector: Invalid value: \"{\\\"matchLabels\\\"",
                "spec.dependsOn[0].application: Invalid value: \"gateway\": cannot depend on itself",
            ]),
        ),
        (
            Kind::Application,
            application(
                json!({"bundle": "b", "placement": placed, "dependsOn": [{"application": "core.api"}]}),
            ),
            Err(&["spec.dependsOn[0].application: Invalid value: \"core.api\": a lowercase RFC 1123 label"]),
        ),
    ]);
}

#[test]
fn decoding_a_bundle_refuses_or_says_what_it_left_out() {
    check(vec![
        (Kind::Bundle, bundle(|_| ()), Ok(&[])),
        (
            Kind::Bundle,
            bundle(|bundle| bundle["spec"]["release"] = json!("dGVzdB==")),
            Err(&["spec.release: Invalid value: \"<bytes>\": must be base64"]),
        ),
        (
            Kind::Bundle,
            bundle(|bundle| bundle["spec"]["release"] = json!("dGVzdDE=")),
            Err(&["spec.digest: Invalid value: \"sha256:9f86"]),
        ),
        (
            Kind::Bundle,
            bundle(|bundle| bundle["spec"]["version"] = json!("1.0.1")),
            Err(&["metadata.name: Invalid value: \"gateway-1.0.0\": must be <application>-<version>"]),
        ),
    ]);
}

#[test]
fn defaults_are_stored() {
    let decoded = Kind::Cluster.decode(cluster(json!({})), None).unwrap();
    assert_eq!(decoded.value["spec"], json!({"accepted": false}));
    let spec = json!({"bundle": "b", "placement": {"clusterSelector": {}}});
    let decoded = Kind::Application.decode(application(spec), None).unwrap();
    assert_eq!(
        decoded.value["spec"],
        json!({"bundle": "b", "placement": {"clusterSelector": {}, "onUnmatch": "Leave"}, "mode": "Enforce"})
    );
}

#[test]
fn a_bundle_never_changes() {
    let old = bundle(|_| ());
    let labelled = bundle(|bundle| bundle["metadata"]["labels"] = json!({"a": "b"}));
    assert!(Kind::Bundle.decode(labelled, Some(&old)).is_ok());
    let changed = bundle(|bundle| bundle["spec"]["pack"] = json!(format!("sha256:{}", "1".repeat(64))));
    let errors = Kind::Bundle.decode(changed, Some(&old)).unwrap_err();
    assert_eq!((errors.len(), errors[0].field.as_str()), (1, "spec"));
}
