//! What `edgefleet diff` says of a change is what the hub then does, on a real hub.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use std::fs;

use desk::{Desk, Fleet, Run};

#[track_caller]
fn differs(run: &Run, expected: &[&str]) {
    assert_eq!(run.code, Some(1), "{}{}", run.data, run.messages);
    for part in expected {
        assert!(run.data.contains(part), "{}\n  lacks {part}", run.data);
    }
    assert!(run.messages.is_empty(), "{}", run.messages);
    assert!(!run.data.contains('\x1b'), "colours where no terminal is");
}

fn manifests(level: &str, more: &str) -> String {
    format!(
        "apiVersion: v1\nkind: ConfigMap\nmetadata: {{name: gateway}}\ndata: {{level: {level}, mode: a}}\n---\n{more}"
    )
}

fn application(bundle: &str, stage: &str, more: &str) -> String {
    format!(
        "apiVersion: edgefleet.dev/v1alpha1\nkind: Application\nmetadata: {{namespace: radio, name: gateway}}\n\
         spec:\n  bundle: {bundle}\n  placement: {{clusterSelector: {{matchLabels: {{stage: {stage}}}}}, \
         onUnmatch: Remove}}\n{more}"
    )
}

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {word: SESAME}\n";

#[test]
fn what_it_says_is_what_happens() {
    let fleet = Fleet::new();
    fleet.build("1.0.0", &manifests("info", SECRET));
    fleet
        .build("1.1.0", &manifests("info", SECRET).replace("mode: a", "mode: b").replace("SESAME", "SIMSIM"));
    fleet.hub_run("bundle push 1.0.0.bundle").ok();
    let first = application("gateway-1.0.0", "prod", "");
    fleet.desk.write("first.yaml", &first);

    // Nothing is there yet.
    let new = [
        "Application radio/gateway: 2 of 2 selected clusters would change, 0 stay\n",
        "--- /dev/null\n+++ first.yaml Application radio/gateway\n",
        "nothing -> gateway-1.0.0 on 2 clusters: tower-1, tower-2\n",
        "objects: 2 added, 0 changed, 0 removed, 0 the same\n",
        "+++ gateway-1.0.0 ConfigMap radio/gateway\n",
    ];
    differs(&fleet.diff("first.yaml"), &new);
    fleet.apply(&first, &[("tower-1", "gateway-1.0.0"), ("tower-2", "gateway-1.0.0")]);
    let same = fleet.diff("first.yaml").ok();
    assert_eq!((same.data.as_str(), same.messages.as_str()), ("", ""));

    // A bundle that nobody has published stands for its application.
    let upgrade = [
        "Application radio/gateway: 2 of 2 selected clusters would change, 0 stay\n",
        "-  bundle: gateway-1.0.0\n+  bundle: gateway-1.1.0\n",
        "gateway-1.0.0 -> gateway-1.1.0 on 2 clusters: tower-1, tower-2\n",
        "objects: 0 added, 2 changed, 0 removed, 0 the same\n",
        "--- gateway-1.0.0 ConfigMap radio/gateway\n+++ gateway-1.1.0 ConfigMap radio/gateway\n",
        "-  mode: a\n+  mode: b\n",
        "-  word: \"*** (before)\"\n+  word: \"*** (after)\"\n",
    ];
    let found = fleet.diff("1.1.0.bundle");
    differs(&found, &upgrade);
    assert!(!found.data.contains("SESAME") && !found.data.contains("SIMSIM"), "{}", found.data);

    // An override divides the clusters; both at once.
    let set =
        "  overrides: [{clusterSelector: {matchLabels: {region: north}}, parameters: {level: debug}}]\n";
    let second = application("gateway-1.1.0", "prod", set);
    fleet.desk.write("second.yaml", &second);
    let divided = [
        "gateway-1.0.0 -> gateway-1.1.0 on 1 cluster: tower-2\n",
        "gateway-1.0.0 -> gateway-1.1.0 on 1 cluster: tower-1\nparameter level: info -> debug\n",
        "-  level: info\n-  mode: a\n+  level: debug\n+  mode: b\n",
    ];
    differs(&fleet.diff("1.1.0.bundle second.yaml"), &divided);
    fleet.hub_run("bundle push 1.1.0.bundle").ok();
    fleet.apply(&second, &[("tower-1", "gateway-1.1.0"), ("tower-2", "gateway-1.1.0")]);
    fleet.diff("second.yaml").ok();

    // It moves elsewhere, which has to be approved, and so nothing happens.
    let third = application("gateway-1.1.0", "test", set);
    fleet.desk.write("third.yaml", &third);
    let removed = [
        "Application radio/gateway: 1 of 1 selected cluster would change, 0 stay\nit would be removed from 2 clusters\n",
        "it would wait for an approval: it would be removed from 2 of 3 clusters: approve it by annotating the Application \
         with edgefleet.dev/approve=\"3: reason\"\n",
        "gateway-1.1.0 -> removed on 1 cluster: tower-1\n",
        "objects: 0 added, 0 changed, 2 removed, 0 the same\n",
    ];
    differs(&fleet.diff("third.yaml"), &removed);
    fleet.apply(&third, &[("tower-1", "gateway-1.1.0"), ("tower-2", "gateway-1.1.0")]);
    let approved = "name: gateway, annotations: {edgefleet.dev/approve: '3: the depot moves'}";
    fleet.apply(&third.replace("name: gateway", approved), &[("tower-3", "gateway-1.1.0")]);
}

#[test]
fn what_cannot_be_compared_is_more_than_one() {
    let fleet = Fleet::new();
    fleet.build("1.0.0", &manifests("info", ""));
    fleet.desk.write("a.yaml", &application("gateway-1.0.0", "prod", ""));
    let missing = "bundle gateway-1.0.0 is not in namespace radio: push it, or give its file too";
    fleet.diff("a.yaml").fails(3, missing);
    fleet.diff("1.0.0.bundle").fails(3, "Application radio/gateway is not on the hub; give the file");
    differs(&fleet.diff("1.0.0.bundle a.yaml"), &["nothing -> gateway-1.0.0 on 2 clusters"]);
    fleet.hub_run("bundle push 1.0.0.bundle").ok();
    fleet.build("1.0.0", &manifests("debug", ""));
    fleet
        .diff("1.0.0.bundle a.yaml")
        .fails(2, "the hub has another bundle gateway-1.0.0; build it with another");
    let cases = [
        ("a: 1\n b: 2\n".to_owned(), "a.yaml:2:3: "),
        (
            desk::CONFIG.to_owned(),
            "a.yaml:1 (document 1): this is a ConfigMap of \"v1\"; give an Application of",
        ),
        (
            application("gateway-1.0.0", "prod", "  parametres: {}\n"),
            "has no field spec.parametres; `kubectl explain",
        ),
        (
            application("gateway-1.0.0", "prod", "  mode: Later\n"),
            "Application radio/gateway is not valid: spec.mode",
        ),
        (
            application("gateway-1.0.0", "prod", "  parameters: {level: loud}\n"),
            "a.yaml: Application radio/gateway: spec.parameters: parameter level: ",
        ),
        (
            application("gateway-1.0.0", "prod", "").replace("namespace: radio, ", ""),
            "has no metadata.namespace",
        ),
    ];
    for (text, expected) in cases {
        fleet.desk.write("a.yaml", &text);
        fleet.diff("a.yaml").fails(2, expected);
    }
    fleet.diff("gone.yaml").fails(3, "cannot read gone.yaml");
    let nobody = fleet.desk.run("diff 1.0.0.bundle --kubeconfig gone");
    nobody.fails(3, "cannot use the kubeconfig gone");
    let kubeconfig = fs::read_to_string(fleet.desk.path("hub/hub.kubeconfig")).unwrap();
    let api = fleet.api_port();
    fleet.desk.write("closed", &kubeconfig.replace(&api, "1"));
    fleet.desk.run("diff 1.0.0.bundle --kubeconfig closed").fails(5, "cannot list clusters");
}

#[test]
fn two_files_of_bundles_are_compared_without_a_hub() {
    let desk = Desk::new();
    for (version, level) in [("1", "info"), ("2", "debug")] {
        let build = format!("bundle build - --app radio/gateway --version {version} -o {version}.bundle");
        desk.run_with(&build, &desk::CONFIG.replace("info", level)).ok();
    }
    let found = desk.run("bundle diff 1.bundle 2.bundle");
    differs(
        &found,
        &[
            "--- 1.bundle ConfigMap radio/gateway\n+++ 2.bundle ConfigMap radio/gateway\n",
            "-  level: info\n+  level: debug\n",
        ],
    );
    assert_eq!(desk.run("bundle diff 1.bundle 1.bundle").ok().data, "");
    desk.write("a.yaml", desk::CONFIG);
    desk.run("bundle diff 1.bundle a.yaml")
        .fails(2, "error: cannot compare a.yaml\n  because: it is not a bundle");
    desk.run("bundle diff 1.bundle gone").fails(3, "cannot compare gone");
}
