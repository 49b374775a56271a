use std::collections::BTreeMap;

use fleet_broker::resources::{ApplicationSpec, Assignment, Cluster};
use protocol::ids::AppId;
use serde_json::{Value, json};

use super::*;
use crate::yaml;

fn config(name: &str, level: &str) -> Value {
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "radio"},
           "data": {"level": level}})
}

fn secret(data: Value) -> Value {
    json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "s", "namespace": "radio"}, "data": data})
}

/// What, the objects before, those after; of each that differs its name, how, and parts of the text.
type ObjectCase =
    (&'static str, Vec<Value>, Vec<Value>, &'static [(&'static str, How, &'static [&'static str])]);

/// What, the Application before, that after; how clusters move, and the summary.
type PlanCase = (&'static str, Option<Value>, Value, &'static [&'static str], String);

#[test]
fn objects_differ_as_people_read_it() {
    let role = |version: &str| {
        json!({"apiVersion": format!("rbac.authorization.k8s.io/{version}"), "kind": "ClusterRole",
               "metadata": {"name": "gateway"}})
    };
    let cases: [ObjectCase; 5] = [
        ("nothing", vec![config("a", "info")], vec![config("a", "info")], &[]),
        (
            "in another order",
            vec![config("a", "info"), config("b", "info")],
            vec![config("b", "info"), config("a", "info")],
            &[],
        ),
        (
            "a value",
            vec![config("a", "info")],
            vec![config("a", "debug")],
            &[(
                "ConfigMap radio/a",
                How::Changed,
                &[
                    "--- old ConfigMap radio/a\n+++ new ConfigMap radio/a\n",
                    "\n-  level: info\n+  level: debug\n",
                ],
            )],
        ),
        (
            "one for another",
            vec![config("a", "info")],
            vec![config("b", "info")],
            &[
                (
                    "ConfigMap radio/a",
                    How::Removed,
                    &["--- old ConfigMap radio/a\n+++ /dev/null\n", "-kind: ConfigMap\n"],
                ),
                (
                    "ConfigMap radio/b",
                    How::Added,
                    &["--- /dev/null\n+++ new ConfigMap radio/b\n", "+kind: ConfigMap\n"],
                ),
            ],
        ),
        (
            "the version of an API",
            vec![role("v1beta1")],
            vec![role("v1")],
            &[("ClusterRole gateway", How::Changed, &["-apiVersion: rbac.authorization.k8s.io/v1beta1\n"])],
        ),
    ];
    check_objects(&cases);
}

#[test]
fn secrets_differ_and_are_not_shown() {
    let cases: [ObjectCase; 2] = [
        (
            "a secret",
            vec![secret(json!({"same": "c2FtZQ==", "other": "b25l", "gone": "Z29uZQ=="}))],
            vec![secret(json!({"same": "c2FtZQ==", "other": "dHdv", "come": "Y29tZQ=="}))],
            &[(
                "Secret radio/s",
                How::Changed,
                &[
                    "+  come: \"***\"\n",
                    "-  gone: \"***\"\n",
                    "-  other: \"*** (before)\"\n",
                    "+  other: \"*** (after)\"\n",
                    "   same: \"***\"\n",
                ],
            )],
        ),
        (
            "a new secret",
            vec![],
            vec![secret(json!({"a": "b25l"}))],
            &[("Secret radio/s", How::Added, &["+  a: \"***\"\n"])],
        ),
    ];
    check_objects(&cases);
}

fn check_objects(cases: &[ObjectCase]) {
    for (what, old, new, expected) in cases {
        let from = Side { name: "old", objects: old };
        let found = differences(from, Side { name: "new", objects: new });
        let shown: Vec<_> = found.iter().map(|one| (one.object.as_str(), one.how)).collect();
        let wanted: Vec<_> = expected.iter().map(|(object, how, _)| (*object, *how)).collect();
        assert_eq!(shown, wanted, "{what}");
        for (one, (_, _, parts)) in found.iter().zip(*expected) {
            for part in *parts {
                assert!(one.text.contains(part), "{what}: {}\n  lacks {part}", one.text);
            }
            for hidden in ["c2FtZQ==", "b25l", "dHdv", "Z29uZQ==", "Y29tZQ=="] {
                assert!(!one.text.contains(hidden), "{what}: {}", one.text);
            }
        }
    }
}

#[test]
fn what_is_written_reads_back() {
    let long = "a b ".repeat(100);
    let cases = [
        json!({"script": "#!/bin/sh\nexec \"$@\" # not a comment\n", "last": "no newline\nat the end"}),
        json!({"yes": "yes", "octal": "0755", "float": "1e3", "null": "null", "tilde": "~", "empty": "", "n": 7}),
        json!({"long": long, "colon": "a: b", "hash": "a #b", "dash": "- a", "star": "*a", "percent": "%a"}),
        json!({"list": [{"a": [1, 2.5, true, null]}, [], {}], "tab": "a\tb", "cr": "a\r\nb", "spaces": "  a  "}),
    ];
    for value in cases {
        let text = yaml::write(&value);
        let read = yaml::read(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        assert_eq!(read[0].value, value, "{text}");
    }
}

fn application(spec: Value) -> ApplicationSpec {
    serde_json::from_value(spec).unwrap()
}

fn cluster(name: &str, stage: &str, accepted: bool) -> Cluster {
    serde_json::from_value(json!({
        "apiVersion": "edgefleet.dev/v1alpha1", "kind": "Cluster",
        "metadata": {"name": name, "labels": {"stage": stage}}, "spec": {"accepted": accepted},
    }))
    .unwrap()
}

fn assignment(cluster: &str, bundle: &str) -> Assignment {
    serde_json::from_value(json!({
        "apiVersion": "edgefleet.dev/v1alpha1", "kind": "Assignment",
        "metadata": {"name": format!("gateway.{cluster}"), "namespace": "radio"},
        "status": {"cluster": cluster, "application": "gateway", "bundle": bundle, "state": "Updated"},
    }))
    .unwrap()
}

/// The application on two clusters of stage prod; one of stage test, and one that is not accepted, have none.
fn check(what: &str, live: Option<Value>, wanted: Value, expected: (&[&str], &str)) {
    let clusters = [
        cluster("tower-1", "prod", true),
        cluster("tower-2", "prod", true),
        cluster("tower-3", "test", true),
        cluster("tower-4", "prod", false),
    ];
    let told = [assignment("tower-1", "gateway-1"), assignment("tower-2", "gateway-1")];
    let assignments = if live.is_some() { &told[..] } else { &[] };
    let id: AppId = "radio/gateway".parse().unwrap();
    let fleet = Fleet { clusters: &clusters, assignments };
    let live = live.map(application);
    let plan = plan(&id, &application(wanted), live.as_ref(), fleet).unwrap();
    let moves: Vec<String> = plan.moves.iter().map(headline).collect();
    assert_eq!(moves, expected.0, "{what}");
    assert_eq!(summary(&id, &plan).join("\n"), expected.1, "{what}");
}

fn spec(bundle: &str, stage: &str, more: Value) -> Value {
    let selector = json!({"matchLabels": {"stage": stage}});
    let mut spec = json!({"bundle": bundle, "placement": {"clusterSelector": selector}});
    spec.as_object_mut().unwrap().extend(more.as_object().cloned().unwrap_or_default());
    spec
}

fn live() -> Option<Value> {
    Some(spec("gateway-1", "prod", json!({})))
}

#[test]
fn clusters_go_where_the_hub_would_send_them() {
    let set = |level: &str| json!({"parameters": {"level": level}});
    let on_tower = |level: &str| {
        let selector = json!({"matchExpressions": [{"key": "stage", "operator": "In", "values": ["prod"]}]});
        json!({"overrides": [
            {"clusterSelector": selector, "parameters": {"level": level}},
            {"clusterSelector": {}, "parameters": {"level": "never"}},
        ]})
    };
    let none = "Application radio/gateway: 0 of 2 selected clusters would change, 2 stay";
    let both = "Application radio/gateway: 2 of 2 selected clusters would change, 0 stay";
    let looking = |mode: &str, enforce: Value| json!({"mode": mode, "enforce": enforce});
    let one = json!([{"kind": "Service"}, {"kind": "ConfigMap", "namespace": "radio", "name": "gateway"}]);
    let cases: [PlanCase; 8] = [
        (
            "looking first",
            None,
            spec("gateway-1", "prod", looking("DryRun", json!([]))),
            &["nothing -> gateway-1 (DryRun) on 2 clusters: tower-1, tower-2"],
            both.into(),
        ),
        (
            "taking over",
            Some(spec("gateway-1", "prod", looking("DryRun", json!([])))),
            spec("gateway-1", "prod", looking("Observe", one)),
            &[
                "gateway-1 (DryRun) -> gateway-1 (Observe, enforcing Service *, ConfigMap radio/gateway) on 2 clusters: \
               tower-1, tower-2",
            ],
            both.into(),
        ),
        ("nothing", live(), spec("gateway-1", "prod", json!({})), &[], none.into()),
        (
            "first",
            None,
            spec("gateway-1", "prod", json!({})),
            &["nothing -> gateway-1 on 2 clusters: tower-1, tower-2"],
            both.into(),
        ),
        (
            "upgrade",
            live(),
            spec("gateway-2", "prod", json!({})),
            &["gateway-1 -> gateway-2 on 2 clusters: tower-1, tower-2"],
            both.into(),
        ),
        (
            "parameter",
            live(),
            spec("gateway-1", "prod", set("debug")),
            &["gateway-1 -> gateway-1 on 2 clusters: tower-1, tower-2"],
            both.into(),
        ),
        (
            "an override that says the same",
            Some(spec("gateway-1", "prod", set("debug"))),
            spec("gateway-1", "prod", on_tower("debug")),
            &[],
            none.into(),
        ),
        (
            "dependency",
            live(),
            spec("gateway-1", "prod", json!({"dependsOn": [{"application": "database"}]})),
            &["gateway-1 -> gateway-1 on 2 clusters: tower-1, tower-2"],
            both.into(),
        ),
    ];
    for (what, live, wanted, moves, summary) in cases {
        check(what, live, wanted, (moves, &summary));
    }
}

#[test]
fn clusters_that_are_let_go_are_told() {
    let removing = |stage: &str| {
        let mut spec = spec("gateway-1", stage, json!({}));
        spec["placement"]["onUnmatch"] = "Remove".into();
        spec
    };
    let how = "approve it by annotating the Application with edgefleet.dev/approve=\"GENERATION: reason\"";
    let cases: [PlanCase; 3] = [
        (
            "left",
            live(),
            spec("gateway-1", "test", json!({})),
            &["nothing -> gateway-1 on 1 cluster: tower-3"],
            "Application radio/gateway: 1 of 1 selected cluster would change, 0 stay\n2 clusters would no longer be \
             selected, and would keep what runs there (onUnmatch: Leave)"
                .into(),
        ),
        (
            "removed",
            live(),
            removing("test"),
            &["nothing -> gateway-1 on 1 cluster: tower-3", "gateway-1 -> removed on 2 clusters: tower-1, tower-2"],
            format!(
                "Application radio/gateway: 1 of 1 selected cluster would change, 0 stay\nit would be removed from 2 \
                 clusters\nit would wait for an approval: it would be removed from 2 of 4 clusters: {how}"
            ),
        ),
        (
            "an empty selection",
            live(),
            spec("gateway-1", "none", json!({})),
            &[],
            format!(
                "Application radio/gateway: 0 of 0 selected clusters would change, 0 stay\n2 clusters would no longer \
                 be selected, and would keep what runs there (onUnmatch: Leave)\nit would wait for an approval: the \
                 selector matches no cluster any more, 2 run it: {how}"
            ),
        ),
    ];
    for (what, live, wanted, moves, summary) in cases {
        check(what, live, wanted, (moves, &summary));
    }
}

#[test]
fn values_and_counts_are_told() {
    let values = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
    };
    let (from, to) =
        (values(&[("a", "1"), ("b", "2"), ("c", "3")]), values(&[("a", "1"), ("b", "5"), ("d", "4")]));
    let expected = ["parameter b: 2 -> 5", "parameter c: 3 -> none", "parameter d: none -> 4"];
    assert_eq!(parameters(&from, &to), expected);
    let (old, new) =
        ([config("a", "x"), config("b", "x")], [config("b", "y"), config("c", "x"), config("d", "x")]);
    let found = differences(Side { name: "old", objects: &old }, Side { name: "new", objects: &new });
    assert_eq!(counts(&found, new.len()), "objects: 2 added, 1 changed, 1 removed, 0 the same");
}
