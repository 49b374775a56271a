//! Attacks through parameters: they set whole scalars that exist and nothing else.

use protocol::{
    documents::{ParameterType, Release},
    ids::Digest,
    render::{check_targets, render},
};
use serde_json::{Value, json};

use crate::common::*;

fn text() -> ParameterType {
    ParameterType::Text { charset: ('!'..='~').collect(), max_bytes: 64 }
}

fn numbers() -> ParameterType {
    ParameterType::Integer { min: -5, max: 5 }
}

/// A release with one parameter called `value`.
fn aimed(of: ParameterType, object: u32, pointer: &str) -> Release {
    Release { parameters: vec![parameter(of, object, pointer)], ..release() }
}

fn set(release: &Release, value: &str) -> Result<Value, protocol::render::RenderError> {
    let values = release.resolve(&[("value".to_owned(), value.to_owned())].into()).unwrap();
    let index = release.parameters[0].targets[0].object as usize;
    render(release, index, &contents()[index], &values).map(|rendered| rendered.object)
}

/// Refused in all three places: by whoever makes the release, on receiving it, and on setting it.
fn is_refused_everywhere(pointer: &str) {
    let release = aimed(text(), 0, pointer);
    let received = trust().release(&sign(&release, &RADIO[..1])).map(drop);
    expect(received, "is no JSON pointer, or aims at an object's identity", pointer);
    expect(set(&release, "x").map(drop), "an object's identity may not be set", pointer);
    let objects = contents().map(|bytes| serde_json::from_slice(&bytes).unwrap());
    expect(check_targets(&release, &objects), "an object's identity may not be set", pointer);
}

#[test]
fn aimed_at_names_kind_namespace_and_metadata() {
    for pointer in [
        "/apiVersion",
        "/kind",
        "/metadata/name",
        "/metadata/namespace",
        "/metadata/generateName",
        "/metadata/ownerReferences/0/uid",
        "/metadata/finalizers/0",
        "/metadata",
        "/metadata/labels",
        "/metadata/labels/../name",
        "/metadata/labels/a/b",
    ] {
        is_refused_everywhere(pointer);
    }
}

#[test]
fn aimed_by_something_that_is_no_pointer() {
    for pointer in ["", "kind", "spec/replicas", "/spec/~", "/spec/re~2plicas", "#/spec/replicas", "/a~"] {
        is_refused_everywhere(pointer);
    }
}

#[test]
fn aimed_at_rbac() {
    let object = json!({
        "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding",
        "metadata": { "name": "gateway", "namespace": "radio", "labels": { "tier": "edge" } },
        "roleRef": { "kind": "Role", "name": "reader" }
    });
    let bytes = object.to_string().into_bytes();
    for pointer in ["/roleRef/name", "/metadata/labels/tier"] {
        let mut release = aimed(text(), 0, pointer);
        release.objects[0] =
            entry("rbac.authorization.k8s.io", "RoleBinding", Some("radio"), "gateway", &bytes);
        release.ceilings.ignore_differences.clear();
        let received = trust().release(&sign(&release, &RADIO[..1])).map(drop);
        expect(received, "RBAC, in which nothing may be set", pointer);
        let found = render(&release, 0, &bytes, &[("value".to_owned(), "admin".to_owned())].into()).map(drop);
        expect(found, "nothing in RBAC may be set", pointer);
    }
}

#[test]
fn aimed_at_what_is_no_scalar_or_not_there() {
    for (pointer, expected) in [
        ("/spec", "only a whole scalar"),
        ("/spec/template/spec/containers", "only a whole scalar"),
        ("/spec/template/spec/containers/0", "only a whole scalar"),
        ("/spec/template/spec/containers/0/args", "only a whole scalar"),
        ("/spec/new", "it does not exist"),
        ("/spec/replicas/0", "it does not exist"),
        ("/spec/", "it does not exist"),
        ("/", "it does not exist"),
        ("//kind", "it does not exist"),
        ("/metadata~1name", "it does not exist"),
        ("/spec/template/spec/containers/00/image", "it does not exist"),
        ("/spec/template/spec/containers/+0/image", "it does not exist"),
        ("/spec/template/spec/containers/-/image", "it does not exist"),
        ("/spec/template/spec/containers/1/image", "it does not exist"),
        ("/metadata/labels/other", "it does not exist"),
        ("/metadata/annotations/other", "it does not exist"),
    ] {
        let release = aimed(text(), 0, pointer);
        expect(set(&release, "x").map(drop), expected, pointer);
        let objects = contents().map(|bytes| serde_json::from_slice(&bytes).unwrap());
        expect(check_targets(&release, &objects), expected, pointer);
    }
}

#[test]
fn a_value_of_another_type_than_its_place() {
    let words = |words: &[&str]| ParameterType::Enum(words.iter().map(|word| (*word).to_owned()).collect());
    for (of, object, pointer, value, expected) in [
        (numbers(), 0, "/spec/replicas", "-5", Some(json!(-5))),
        (numbers(), 0, "/spec/weight", "3", Some(json!(3))),
        (numbers(), 1, "/data/band", "3", Some(json!("3"))),
        (words(&["true", "false"]), 0, "/spec/template/spec/containers/0/image", "true", Some(json!("true"))),
        (words(&["4", "x"]), 0, "/spec/replicas", "4", Some(json!(4))),
        (words(&["4", "x"]), 0, "/spec/replicas", "x", None),
        (words(&["0.5"]), 0, "/spec/weight", "0.5", None),
        (text(), 0, "/spec/replicas", "many", None),
        (text(), 0, "/metadata/labels/tier", "core", Some(json!("core"))),
        // What looks like structure stays text.
        (text(), 1, "/data/band", "{\"a\":[1]}", Some(json!("{\"a\":[1]}"))),
        (text(), 1, "/data/band", "\"},\"kind\":\"Secret\"", Some(json!("\"},\"kind\":\"Secret\""))),
    ] {
        let release = aimed(of, object, pointer);
        match (set(&release, value), expected) {
            (Ok(found), Some(expected)) => assert_eq!(found.pointer(pointer), Some(&expected), "{pointer}"),
            (found, None) => expect(found.map(drop), "the value is of another type", pointer),
            (Err(error), Some(_)) => panic!("{pointer} = {value:?}: {error}"),
        }
    }
}

#[test]
fn values_that_would_not_fit_are_found_when_the_release_is_made() {
    let booleans = ParameterType::Enum(vec!["true".to_owned(), "false".to_owned()]);
    let objects = contents().map(|bytes| serde_json::from_slice(&bytes).unwrap());
    for (of, object, pointer, expected) in [
        (numbers(), 0, "/spec/replicas", ""),
        (numbers(), 1, "/data/band", ""),
        (text(), 1, "/data/band", ""),
        (text(), 0, "/spec/replicas", "the value is of another type"),
        (booleans.clone(), 0, "/spec/replicas", "the value is of another type"),
        (booleans, 0, "/spec/paused", ""),
        (numbers(), 0, "/spec/paused", "the value is of another type"),
    ] {
        expect(check_targets(&aimed(of, object, pointer), &objects), expected, pointer);
    }
}

#[test]
fn a_text_beyond_its_charset_or_length() {
    let narrow = ParameterType::Text { charset: "abc-".to_owned(), max_bytes: 4 };
    let release = aimed(narrow, 1, "/data/band");
    for (value, expected) in [
        ("", ""),
        ("ab-c", ""),
        ("abcab", "is longer than 4 bytes"),
        ("abd", "leaves"),
        ("a\n", "leaves"),
        ("ä", "leaves"),
    ] {
        let values = [("value".to_owned(), value.to_owned())].into();
        expect(release.resolve(&values).map(drop), expected, value);
    }
}

#[test]
fn only_what_is_aimed_at_changes() {
    let release = release();
    let [deployment, _] = contents();
    let values = release.resolve(&[("replicas".to_owned(), "5".to_owned())].into()).unwrap();
    let rendered = render(&release, 0, &deployment, &values).unwrap();
    let mut expected: Value = serde_json::from_slice(&deployment).unwrap();
    expected["spec"]["replicas"] = json!(5);
    // The release leaves this field to others.
    expected["spec"].as_object_mut().unwrap().remove("paused");
    assert_eq!(rendered.object, expected);
    assert_eq!(rendered.digest, Digest::of(expected.to_string().as_bytes()));
    let defaults = render(&release, 0, &deployment, &release.resolve(&[].into()).unwrap()).unwrap();
    assert_eq!(defaults.object["spec"]["replicas"], json!(3), "the default");
    assert_ne!(defaults.digest, rendered.digest);
}

#[test]
fn the_digest_does_not_depend_on_the_order_of_keys() {
    let texts = [
        r#"{"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"gateway-settings","namespace":"radio"},"data":{"a":"1","b":"2"}}"#,
        r#"{"data":{"b":"2", "a":"1"},"metadata":{"namespace":"radio","name":"gateway-settings"},"kind":"ConfigMap","apiVersion":"v1"}"#,
    ];
    let digests = texts.map(|text| {
        let mut release = release();
        release.objects[1].sha256 = Digest::of(text.as_bytes());
        render(&release, 1, text.as_bytes(), &[].into()).unwrap().digest
    });
    assert_eq!(digests[0], digests[1]);
}
