use serde_json::json;

use super::*;

fn rules() -> Rules {
    Rules {
        namespace: Name::new("radio").unwrap(),
        cluster_scoped: BTreeSet::from(["Site.example.com".parse().unwrap()]),
        plaintext_secrets: false,
    }
}

fn read(text: &str) -> Result<Manifests, ManifestError> {
    parse(&[SourceText { name: "a.yaml".to_owned(), text: text.to_owned() }], &rules())
}

fn manifest(kind: &str, metadata: &str, rest: &str) -> String {
    let group = match kind {
        "Site" | "Antenna" => "example.com/v1",
        "ClusterRole" => "rbac.authorization.k8s.io/v1",
        _ => "v1",
    };
    format!("apiVersion: {group}\nkind: {kind}\nmetadata: {{{metadata}}}\n{rest}\n")
}

#[test]
fn objects_get_their_place() {
    let definition = "apiVersion: apiextensions.k8s.io/v1\nkind: CustomResourceDefinition\n\
        metadata: {name: antennas.example.com}\nspec: {group: example.com, names: {kind: Antenna}, scope: Namespaced}\n";
    let cases = [
        (manifest("ConfigMap", "name: a", ""), Some("radio")),
        (manifest("ConfigMap", "name: a, namespace: other", ""), Some("other")),
        (manifest("Namespace", "name: a", ""), None),
        (manifest("ClusterRole", "name: 'system:a'", ""), None),
        (manifest("Site", "name: a", ""), None),
        (manifest("Antenna", "name: a, namespace: other", ""), Some("other")),
        (manifest("Antenna", "name: a", &format!("---\n{definition}")), Some("radio")),
    ];
    for (text, expected) in cases {
        let object = &read(&text).unwrap().objects[0];
        assert_eq!(object.namespace.as_ref().map(Name::as_str), expected, "{text}");
        let written = object.value.pointer("/metadata/namespace").and_then(Value::as_str);
        assert_eq!(written, expected, "{text}");
    }
}

#[test]
fn what_is_wrong_is_named_with_file_line_and_object() {
    let huge = "x".repeat(limits::OBJECT_BYTES as usize);
    let cases = [
        ("# nothing\n---\n".to_owned(), "a.yaml holds no object: give manifests"),
        ("kind: [1,\n".to_owned(), "a.yaml:1:7: "),
        ("- 1\n".to_owned(), "a.yaml:1 (document 1): this document is no Kubernetes object"),
        ("\n\nmetadata: {name: a}\n".to_owned(), "a.yaml:3 (document 1): object a has no apiVersion"),
        ("apiVersion: v1\nmetadata: {name: a}\n".to_owned(), "object a has no kind"),
        ("apiVersion: v1\nkind: Pod\n".to_owned(), "Pod has no metadata.name"),
        ("apiVersion: a/b/c\nkind: Pod\nmetadata: {name: a}\n".to_owned(), "has the apiVersion \"a/b/c\""),
        (manifest("ConfigMap", "name: 5", ""), "has the metadata.name 5, which is not text; quote it"),
        (manifest("ConfigMap", "name: a/b", ""), "ConfigMap a/b cannot have its name: object name \"a/b\""),
        (manifest("ConfigMap", "name: a, namespace: A", ""), "cannot be in its namespace: name \"A\""),
        (manifest("Pod", "generateName: a-", ""), "Pod a- has metadata.generateName"),
        (manifest("Antenna", "name: a", ""), "or pass --cluster-scoped Antenna.example.com"),
        (manifest("Secret", "name: a", "stringData: {a: b}"), "Secret a would be readable by everyone"),
        (manifest("ConfigMap", "name: a", &format!("data: {{a: {huge}}}")), "an object may have 3145728, because no API server takes more; split it"),
        (
            format!("{0}---\n{0}", manifest("ConfigMap", "name: a", "")),
            "a.yaml:6 (document 2): ConfigMap a stands twice, first at a.yaml:1 (document 1)",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- {apiVersion: v1, kind: ConfigMap, metadata: {name: a}}\n- 5\n".to_owned(),
            "a.yaml:1 (document 1, item 2): this document is no Kubernetes object",
        ),
    ];
    for (text, expected) in cases {
        let error = read(&text).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}\n  lacks {expected}");
    }
}

#[test]
fn everything_wrong_is_told_at_once() {
    let text = vec![manifest("Pod", "namespace: a", ""); 25].join("---\n");
    let error = read(&text).unwrap_err().to_string();
    assert!(error.starts_with("25 objects cannot be taken:\n  a.yaml:1 (document 1): Pod has no"), "{error}");
    assert!(error.ends_with("\n  and 5 more"), "{error}");
}

#[test]
fn too_many_objects_are_refused() {
    let text: String =
        (0..=limits::RELEASE_OBJECTS).map(|i| manifest("ConfigMap", &format!("name: a{i}"), "---")).collect();
    let error = read(&text).unwrap_err().to_string();
    assert!(error.starts_with("the manifests hold 2001 objects, a bundle may hold 2000;"), "{error}");
}

#[test]
fn what_only_a_server_sets_is_left_out_and_said() {
    let cases = [
        (
            "name: a, uid: x, resourceVersion: '5'",
            "",
            Some("left out metadata.resourceVersion, metadata.uid,"),
        ),
        ("name: a", "status: {phase: Running}", Some("left out status, which only a server sets")),
        ("name: a, creationTimestamp: null", "status: {}", None),
        (
            "name: a, annotations: {kubectl.kubernetes.io/last-applied-configuration: '{}'}",
            "",
            Some("left out annotation kubectl.kubernetes.io/last-applied-configuration"),
        ),
    ];
    for (metadata, rest, expected) in cases {
        let manifests = read(&manifest("Pod", metadata, rest)).unwrap();
        let warning = manifests.warnings.first().map(String::as_str);
        match expected {
            Some(expected) => assert!(warning.unwrap().contains(expected), "{warning:?}"),
            None => assert_eq!(warning, None),
        }
        let value = &manifests.objects[0].value;
        let fields: Vec<_> = value["metadata"].as_object().unwrap().keys().collect();
        assert!(fields.iter().all(|f| ["name", "namespace", "annotations"].contains(&f.as_str())), "{value}");
        assert!(value.get("status").is_none());
    }
}

#[test]
fn a_namespace_where_none_can_be_is_left_out_and_said() {
    let manifests = read(&manifest("ClusterRole", "name: a, namespace: b", "")).unwrap();
    let title = "a.yaml:1 (document 1): ClusterRole.rbac.authorization.k8s.io a";
    let warning = format!("{title}: left out its namespace b, ClusterRole has none");
    assert_eq!(manifests.warnings, [warning]);
}

#[test]
fn lists_stand_for_their_items_and_secrets_may_be_allowed() {
    let text = r#"{"apiVersion": "v1", "kind": "List", "items": [
        {"apiVersion": "v1", "kind": "SecretList", "items": [
            {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s"}, "data": {"a": "Yg=="}}]},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "empty"}}]}"#;
    let texts = [SourceText { name: "a.json".to_owned(), text: text.to_owned() }];
    let allowed = parse(&texts, &Rules { plaintext_secrets: true, ..rules() }).unwrap();
    assert_eq!(allowed.objects[0].value["data"], json!({"a": "Yg=="}));
    assert_eq!(allowed.objects[1].name.as_str(), "empty");
    let error = parse(&texts, &rules()).unwrap_err().to_string();
    assert!(error.starts_with("a.json:1 (document 1, item 1): Secret s would"), "{error}");
}
