//! Attacks by a stolen director key, by a release key beyond its scope, and on a release's content.

use protocol::{
    documents::{Adopt, DesiredRelease, IgnoreRule, ObjectEntry, ObjectName, Release, SecretSlot},
    ids::{AppId, Digest},
    render::{RenderError, render},
    time::UnixSeconds,
    verify::{Refusal, admit_release},
};
use serde_json::json;

use crate::common::*;

fn admitted(release: &Release, named: &DesiredRelease, floor: u64, now: UnixSeconds) -> Result<(), Refusal> {
    admit_release(trust(), named, &sign(release, &RADIO[..1]), floor, now).map(drop)
}

#[test]
fn the_director_names_a_release_below_its_floor() {
    let (release, named) = (release(), naming(&sign(&release(), &RADIO[..1])));
    for (floor, expected) in [(0, ""), (41, ""), (42, ""), (43, "is below the floor 43")] {
        expect(admitted(&release, &named, floor, NOW), expected, &format!("floor {floor}"));
    }
    assert_eq!(admitted(&release, &named, 43, NOW).unwrap_err().reason(), "BelowFloor");
}

#[test]
fn the_director_names_a_release_after_its_expiry() {
    let (release, named) = (release(), naming(&sign(&release(), &RADIO[..1])));
    let end = release.not_after;
    for (now, expected) in
        [(NOW, ""), (end, ""), (end.plus(1), "expired at"), (end.plus(3650 * DAY), "expired")]
    {
        expect(admitted(&release, &named, 0, now), expected, &format!("at {now}"));
    }
    assert_eq!(admitted(&release, &named, 0, end.plus(1)).unwrap_err().reason(), "ReleaseExpired");
}

#[test]
fn the_director_names_a_release_of_another_application() {
    let release = release();
    let mut named = naming(&sign(&release, &RADIO[..1]));
    for (tenant, name) in [("radio", "telemetry"), ("meter", "gateway")] {
        named.app = AppId::new(tenant, name).unwrap();
        expect(admitted(&release, &named, 0, NOW), "this is radio/gateway", tenant);
    }
    assert_eq!(admitted(&release, &named, 0, NOW).unwrap_err().reason(), "ReleaseMismatch");
}

#[test]
fn mix_and_match_of_releases() {
    let named = naming(&sign(&release(), &RADIO[..1]));
    let newer = Release { counter: 43, ..release() };
    expect(admitted(&newer, &named, 0, NOW), "the desired state names", "a newer release in its place");
    let same_signed_by_another = sign(&release(), &RADIO[1..]);
    let found = admit_release(trust(), &named, &same_signed_by_another, 0, NOW).map(drop);
    expect(found, "the desired state names", "the same release with another signature");
}

#[test]
fn the_director_sets_parameters_beyond_their_type() {
    let release = release();
    for (name, value, expected) in [
        ("replicas", "1", ""),
        ("replicas", "5", ""),
        ("replicas", "0", "not a whole number from 1 to 5"),
        ("replicas", "6", "not a whole number"),
        ("replicas", "+3", "not a whole number"),
        ("replicas", "03", "not a whole number"),
        ("replicas", " 3", "not a whole number"),
        ("replicas", "3.0", "not a whole number"),
        ("replicas", "", "not a whole number"),
        ("replicas", "99999999999999999999", "not a whole number"),
        ("band", "n78", ""),
        ("band", "N78", "is none of n28, n78"),
        ("band", "", "is none of"),
        ("image", "evil", "the release does not declare it"),
        ("", "", "the release does not declare it"),
    ] {
        let mut named = naming(&sign(&release, &RADIO[..1]));
        named.values = [(name.to_owned(), value.to_owned())].into();
        let found = admitted(&release, &named, 0, NOW);
        if let Err(refusal) = &found {
            assert_eq!(refusal.reason(), "ParameterInvalid", "{name} = {value:?}");
        }
        expect(found, expected, &format!("{name} = {value:?}"));
    }
}

/// What trust says to a release of `change` signed by `seeds`.
fn scoped(change: impl Fn(&mut Release), seeds: &[u8], expected: &str, why: &str) {
    let mut release = release();
    change(&mut release);
    expect(trust().release(&sign(&release, seeds)).map(drop), expected, why);
}

fn cluster_role(namespace: Option<&str>) -> ObjectEntry {
    entry("rbac.authorization.k8s.io", "ClusterRole", namespace, "admin-of-all", b"{}")
}

#[test]
fn one_app_key_signs_a_cluster_scoped_object() {
    let with_role = |release: &mut Release| release.objects.push(cluster_role(None));
    scoped(with_role, &RADIO[..1], "1 of 2 signatures (it holds cluster-scoped objects)", "one key");
    scoped(with_role, &[RADIO[0], RADIO[0]], "1 of 2 signatures", "one key twice");
    scoped(with_role, &[RADIO[0], METER], "1 of 2 signatures", "with another tenant's key");
    scoped(with_role, &[RADIO[0], DIRECTOR], "1 of 2 signatures", "with the director's key");
    scoped(with_role, &RADIO, "", "two keys");
}

#[test]
fn a_cluster_scoped_object_in_a_namespaces_clothes() {
    let dressed = |release: &mut Release| release.objects.push(cluster_role(Some("radio")));
    scoped(dressed, &RADIO, "a kind that belongs to the cluster has no namespace", "a ClusterRole");
    for (group, kind) in [
        ("", "Namespace"),
        ("apiextensions.k8s.io", "CustomResourceDefinition"),
        ("admissionregistration.k8s.io", "MutatingWebhookConfiguration"),
    ] {
        let object = entry(group, kind, Some("radio"), "x", b"{}");
        let add = |release: &mut Release| release.objects.push(object.clone());
        scoped(add, &RADIO, "has no namespace", kind);
    }
}

#[test]
fn an_app_key_outside_its_namespaces() {
    for (namespace, expected) in [
        ("radio", ""),
        ("radio-north", ""),
        ("radiology", "outside its keys' scope"),
        ("kube-system", "outside its keys' scope"),
        ("meter", "outside its keys' scope"),
    ] {
        let moved = |release: &mut Release| {
            release.scope = vec![name("radio"), name(namespace)];
            release.objects[1].namespace = Some(name(namespace));
        };
        let moved_quietly = |release: &mut Release| release.objects[1].namespace = Some(name(namespace));
        let claimed = |release: &mut Release| release.scope = vec![name("radio"), name(namespace)];
        if namespace != "radio" {
            scoped(moved, &RADIO, expected, namespace);
            scoped(moved_quietly, &RADIO, "is not in the release's scope", namespace);
        }
        scoped(claimed, &RADIO, expected, namespace);
    }
}

#[test]
fn another_tenants_key() {
    scoped(|_| {}, &[METER], "0 of 1 signatures", "meter signs for radio");
    let as_meter = |release: &mut Release| release.app = AppId::new("meter", "gateway").unwrap();
    scoped(as_meter, &RADIO, "outside its keys' scope", "radio signs as meter, in its own namespace");
    let in_meter = |release: &mut Release| {
        as_meter(release);
        release.scope = vec![name("meter")];
        release.objects.iter_mut().for_each(|object| object.namespace = Some(name("meter")));
        release.ceilings.secret_slots.clear();
    };
    scoped(in_meter, &RADIO, "0 of 1 signatures", "radio signs as meter, in meter's namespace");
    scoped(in_meter, &[METER], "", "meter signs it");
    let as_nobody = |release: &mut Release| release.app = AppId::new("nobody", "gateway").unwrap();
    scoped(as_nobody, &RADIO, "no key releases for tenant nobody", "an unknown tenant");
}

#[test]
fn a_secret_slot_outside_the_scope() {
    let slot = |namespace: &str| SecretSlot {
        namespace: name(namespace),
        name: ObjectName::new("uplink").unwrap(),
        floor: 0,
    };
    let steal = |release: &mut Release| release.ceilings.secret_slots = vec![slot("kube-system")];
    scoped(steal, &RADIO, "secretSlots: namespace kube-system is not in the release's scope", "one");
    let twice = |release: &mut Release| release.ceilings.secret_slots = vec![slot("radio"), slot("radio")];
    scoped(twice, &RADIO, "secretSlots: an entry stands twice", "two floors for one slot");
}

#[test]
fn names_that_leave_their_place_in_a_url() {
    for text in ["v1/namespaces/kube-system", "..", "v1?force=true", "v1#", "v1%2f", "", " "] {
        let mut versions = release();
        versions.objects[0].version = text.to_owned();
        let mut kinds = release();
        kinds.objects[0].kind = text.to_owned();
        for release in [versions, kinds] {
            let found = trust().release(&sign(&release, &RADIO)).map(drop);
            expect(found, "its group, version or kind is not one", text);
        }
        if !text.is_empty() {
            let group = |release: &mut Release| release.objects[0].group = text.to_owned();
            scoped(group, &RADIO, "its group, version or kind is not one", text);
        }
        assert!(ObjectName::new(text).is_err() || text == "v1", "{text:?}");
    }
    for good in ["system:node", "kube-root-ca.crt", "a", "x@y"] {
        assert!(ObjectName::new(good).is_ok(), "{good:?}");
    }
}

#[test]
fn releases_that_say_what_they_must_not() {
    let rule = |pointer: &str| IgnoreRule {
        kind: "Deployment".to_owned(),
        name: None,
        pointers: vec![pointer.to_owned()],
    };
    for pointer in ["", "spec", "/kind", "/apiVersion", "/metadata", "/metadata/name", "/metadata/namespace"]
    {
        let blind = |release: &mut Release| release.ceilings.ignore_differences = vec![rule(pointer)];
        scoped(blind, &RADIO, "aims at an object's identity", pointer);
    }
    type Change = fn(&mut Release);
    let cases: [(Change, &str); 12] = [
        (|r| r.floor = r.counter + 1, "the floor lies above the counter"),
        (|r| r.version.clear(), "is empty"),
        (|r| r.version = "v".repeat(1025), "at most 1024"),
        (|r| r.objects.push(r.objects[0].clone()), "objects: an entry stands twice"),
        (|r| r.objects[0].len = 3 * 1024 * 1024 + 1, "larger than any API server takes"),
        (|r| r.ceilings.splittable = vec![2], "splittable: names an object that is not there"),
        (|r| r.ceilings.splittable = vec![0, 0], "splittable: an entry stands twice"),
        (|r| r.parameters[1].name = r.parameters[0].name.clone(), "parameters: an entry stands twice"),
        (|r| r.parameters[1].targets = r.parameters[0].targets.clone(), "parameter targets: an entry stands"),
        (|r| r.parameters[0].targets[0].object = 2, "a target names an object that is not there"),
        (|r| r.parameters[0].default = Some("9".to_owned()), "not a whole number from 1 to 5"),
        (
            |r| {
                r.objects =
                    (0..2001).map(|n| entry("", "Pod", Some("radio"), &format!("p{n}"), b"{}")).collect();
            },
            "2001 entries, at most 2000",
        ),
    ];
    for (index, (change, expected)) in cases.into_iter().enumerate() {
        scoped(change, &RADIO, expected, &format!("case {index}"));
    }
    scoped(|r| r.ceilings.adopt = Adopt::Always, &RADIO[..1], "", "a ceiling of its own");
}

#[test]
fn together_larger_than_a_release_may_be() {
    let grow = |release: &mut Release| {
        let object = |n| ObjectEntry {
            len: 3 * 1024 * 1024,
            ..entry("", "Pod", Some("radio"), &format!("p{n}"), b"{}")
        };
        release.objects = (0..11).map(object).collect();
    };
    scoped(grow, &RADIO, "together larger than a release may be", "33 MiB");
}

#[test]
fn mix_and_match_of_content() {
    let release = release();
    let [deployment, settings] = contents();
    let values = release.resolve(&[].into()).unwrap();
    assert!(render(&release, 0, &deployment, &values).is_ok());
    assert!(render(&release, 1, &settings, &values).is_ok());
    let mut flipped = deployment.clone();
    flipped[20] ^= 1;
    let cut = &deployment[..deployment.len() - 1];
    let longer = [deployment.as_slice(), b" "].concat();
    for (index, bytes) in
        [(0, &settings[..]), (1, &deployment), (0, &flipped), (0, cut), (0, &longer), (0, b"")]
    {
        let found = render(&release, index, bytes, &values);
        assert!(matches!(found, Err(RenderError::Digest { .. })), "{index}: {found:?}");
    }
}

#[test]
fn content_that_is_another_object_than_its_entry() {
    let check = |change: fn(&mut serde_json::Value), expected: &str| {
        let mut object: serde_json::Value = serde_json::from_slice(&contents()[0]).unwrap();
        change(&mut object);
        let bytes = object.to_string().into_bytes();
        let mut release = release();
        release.objects[0].sha256 = Digest::of(&bytes);
        // With a parameter to set, so that its missing place is not what refuses another object.
        let values = release.resolve(&[].into()).unwrap();
        expect(render(&release, 0, &bytes, &values).map(drop), expected, expected);
    };
    check(|_| {}, "");
    check(|object| object["kind"] = json!("ClusterRole"), "content names kind \"\\\"ClusterRole\\\"\"");
    check(|object| object["apiVersion"] = json!("v1"), "content names apiVersion");
    check(|object| object["apiVersion"] = json!("apps/v2"), "content names apiVersion");
    check(|object| object["metadata"]["name"] = json!("other"), "content names name");
    check(|object| object["metadata"]["namespace"] = json!("kube-system"), "content names namespace");
    check(|object| object["metadata"]["namespace"] = json!(null), "content names namespace");
    check(|object| drop(object["metadata"].as_object_mut().unwrap().remove("namespace")), "names namespace");
    check(|object| object["metadata"] = json!([]), "content names name");
    check(|object| *object = json!("a text"), "content names apiVersion \"nothing\"");
    check(|object| *object = json!([object.clone()]), "content names apiVersion \"nothing\"");
}

#[test]
fn a_cluster_scoped_entry_with_a_namespace_in_its_content() {
    let check = |metadata: serde_json::Value, expected: &str| {
        let object = json!({ "apiVersion": "v1", "kind": "Namespace", "metadata": metadata });
        let bytes = object.to_string().into_bytes();
        let mut release = release();
        release.objects[0] = entry("", "Namespace", None, "radio", &bytes);
        expect(render(&release, 0, &bytes, &[].into()).map(drop), expected, &object.to_string());
    };
    check(json!({ "name": "radio" }), "");
    check(json!({ "name": "radio", "namespace": "radio" }), "content names namespace");
    check(json!({ "name": "radio", "namespace": "" }), "content names namespace");
    check(json!({ "name": "radio", "namespace": null }), "content names namespace");
}

#[test]
fn content_with_a_doubled_key_is_what_the_last_one_says() {
    let text = br#"{"apiVersion":"v1","kind":"ConfigMap","kind":"Secret","metadata":{"name":"gateway-settings","namespace":"radio"}}"#;
    let mut release = release();
    release.objects[1].sha256 = Digest::of(text);
    expect(
        render(&release, 1, text, &[].into()).map(drop),
        "content names kind",
        "a Secret behind a ConfigMap",
    );
}
