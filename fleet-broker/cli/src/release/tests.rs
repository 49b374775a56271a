use std::collections::BTreeSet;

use super::*;
use crate::{
    manifest::{self, Rules},
    source::SourceText,
};

const MANIFESTS: &str = "
apiVersion: example.com/v1
kind: Site
metadata: {name: uppsala}
---
apiVersion: apps/v1
kind: Deployment
metadata: {name: gateway}
spec: {replicas: 2, template: {spec: {containers: [{name: a, image: 'gateway:1'}]}}}
---
apiVersion: v1
kind: ConfigMap
metadata: {name: gateway}
data: {LOG_LEVEL: info}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: Role
metadata: {name: gateway, namespace: radio-a}
rules: [{verbs: [get]}]
---
apiVersion: v1
kind: Namespace
metadata: {name: radio-a}
---
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: sites.example.com}
spec: {group: example.com, names: {kind: Site}, scope: Cluster}
";

fn objects(text: &str) -> Vec<Object> {
    let rules = Rules {
        namespace: Name::new("radio").unwrap(),
        cluster_scoped: BTreeSet::new(),
        plaintext_secrets: false,
    };
    let text = SourceText { name: "a.yaml".to_owned(), text: text.to_owned() };
    manifest::parse(&[text], &rules).unwrap().objects
}

fn plan() -> Plan {
    Plan {
        app: "radio/gateway".parse().unwrap(),
        version: "1.4.2".to_owned(),
        counter: 7,
        floor: 5,
        not_after: UnixSeconds(1_000),
        parameters: Vec::new(),
        ignore: Vec::new(),
        adopt: Adopt::IfIdentical,
        max_deletes: Some(3),
        affects_link: true,
    }
}

#[test]
fn objects_come_in_the_order_in_which_they_are_applied() {
    let built = build(&plan(), objects(MANIFESTS)).unwrap();
    let order: Vec<String> = built.release.objects.iter().map(ToString::to_string).collect();
    let expected = [
        "CustomResourceDefinition sites.example.com",
        "Namespace radio-a",
        "Role radio-a/gateway",
        "ConfigMap radio/gateway",
        "Deployment radio/gateway",
        "Site uppsala",
    ];
    assert_eq!(order, expected);
    let scope: Vec<&str> = built.release.scope.iter().map(Name::as_str).collect();
    assert_eq!(scope, ["radio", "radio-a"]);
}

#[test]
fn the_release_describes_the_pack() {
    let Built { release, pack } = build(&plan(), objects(MANIFESTS)).unwrap();
    assert_eq!((release.pack, release.pack_len()), (Digest::of(&pack), pack.len() as u64));
    let start = release.offset_of(3) as usize;
    let document = &pack[start..start + release.objects[3].len as usize];
    let expected = r#"{"apiVersion":"v1","data":{"LOG_LEVEL":"info"},"kind":"ConfigMap","metadata":{"name":"gateway","namespace":"radio"}}"#;
    assert_eq!(std::str::from_utf8(document).unwrap(), expected);
    assert_eq!(release.objects[3].sha256, Digest::of(document));
    assert_eq!((release.ceilings.max_deletes, release.ceilings.affects_link), (Some(3), true));
}

#[test]
fn the_same_objects_are_the_same_bytes_however_their_keys_are_ordered() {
    let one = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: a}\ndata: {b: '1', a: '2'}\n";
    let two = "data:\n  a: '2'\n  b: '1'\nmetadata:\n  name: a\nkind: ConfigMap\napiVersion: v1\n";
    assert_eq!(build(&plan(), objects(one)).unwrap(), build(&plan(), objects(two)).unwrap());
}

#[test]
fn parameters_find_their_objects() {
    let text = "parameters:
- name: logLevel
  enum: [debug, info]
  default: info
  targets: [{kind: ConfigMap, name: gateway, pointer: /data/LOG_LEVEL}]
- name: replicas
  integer: {min: 1, max: 5}
  default: 3
  targets: [{kind: Deployment, name: gateway, namespace: radio, pointer: /spec/replicas}]
- name: image
  text: {charset: 'abc:123', maxBytes: 20}
  targets: [{kind: Deployment, name: gateway, pointer: /spec/template/spec/containers/0/image}]
";
    let parameters = read_parameters("p.yaml", text).unwrap();
    let built = build(&Plan { parameters, ..plan() }, objects(MANIFESTS)).unwrap();
    let targets: Vec<u32> = built.release.parameters.iter().map(|p| p.targets[0].object).collect();
    assert_eq!(targets, [3, 4, 4]);
    assert_eq!(built.release.parameters[1].default.as_deref(), Some("3"));
}

#[test]
fn decisions_that_do_not_fit_are_refused() {
    let parameter = |of: &str, target: &str| {
        let text = format!("[{{name: p, {of}, targets: [{{{target}}}]}}]");
        Plan { parameters: read_parameters("p.yaml", &text).unwrap(), ..plan() }
    };
    let ignore = |text: &str| Plan { ignore: vec![text.parse().unwrap()], ..plan() };
    let level = "kind: ConfigMap, name: gateway, pointer: /data/LOG_LEVEL";
    let cases = [
        (Plan { version: "1.4.2-RC1".to_owned(), ..plan() }, "the version \"1.4.2-RC1\" cannot be part of"),
        (Plan { version: String::new(), ..plan() }, "the version \"\""),
        (Plan { floor: 8, ..plan() }, "the floor 8 lies above the counter 7"),
        (parameter("enum: [a], integer: {min: 1, max: 2}", level), "parameter p: needs exactly one of"),
        (parameter("enum: [[a]]", level), "parameter p: [\"a\"] is not a single value"),
        (
            parameter("enum: [a], default: b", level),
            "the release would not be valid: parameter p: \"b\" is none of a",
        ),
        (
            parameter("enum: [a]", "kind: Pod, name: x, pointer: /a"),
            "its target Pod x is not among the objects",
        ),
        (
            parameter("enum: [a]", "kind: ConfigMap, name: gateway, pointer: /data/NOPE"),
            "a parameter cannot be set: ConfigMap radio/gateway: parameter p may not set /data/NOPE: it does not exist",
        ),
        (
            parameter("enum: [a]", "kind: Role, name: gateway, pointer: /rules/0/verbs/0"),
            "is RBAC, in which nothing may be set",
        ),
        (ignore("StatefulSet:/spec/replicas"), "--ignore StatefulSet:/spec/replicas matches no object"),
        (ignore("Deployment/other:/spec/replicas"), "--ignore Deployment/other:/spec/replicas matches no"),
    ];
    for (plan, expected) in cases {
        let error = build(&plan, objects(MANIFESTS)).unwrap_err();
        let cause =
            std::error::Error::source(&error).map_or_else(String::new, |source| format!(": {source}"));
        let message = format!("{error}{cause}");
        assert!(message.contains(expected), "{message}\n  lacks {expected}");
    }
}

#[test]
fn ignored_fields_of_one_object_become_one_rule() {
    let ignore = ["Deployment:/spec/replicas", "Deployment:/spec/paused", "Deployment/gateway:/spec/x"];
    let ignore = ignore.map(|text| text.parse().unwrap()).to_vec();
    let rules =
        build(&Plan { ignore, ..plan() }, objects(MANIFESTS)).unwrap().release.ceilings.ignore_differences;
    let expected = [
        IgnoreRule {
            kind: "Deployment".to_owned(),
            name: None,
            pointers: vec!["/spec/replicas".to_owned(), "/spec/paused".to_owned()],
        },
        IgnoreRule {
            kind: "Deployment".to_owned(),
            name: Some("gateway".to_owned()),
            pointers: vec!["/spec/x".to_owned()],
        },
    ];
    assert_eq!(rules, expected);
    for text in ["Deployment", "Deployment:", ":/spec", "Deployment/:/spec", "Deployment:spec"] {
        assert!(text.parse::<IgnoreOption>().is_err(), "{text}");
    }
}

#[test]
fn files_of_other_things_are_no_parameters() {
    let cases = [
        ("", "p.yaml is not a list of parameters"),
        ("a: 1", "p.yaml is not a list of parameters"),
        ("- name: a\n  enum: [x]\n  colour: red\n  targets: []", "p.yaml is not a list of parameters"),
        ("- [", "p.yaml:1:3:"),
    ];
    for (text, expected) in cases {
        let error = read_parameters("p.yaml", text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{text}: {error}");
    }
    assert_eq!(read_parameters("p.yaml", "[]").unwrap(), []);
}
