//! Input that cannot be taken is refused by name, with what to do about it, and nothing is left half done.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use std::{collections::BTreeMap, fs, path::Path};

use protocol::limits;

use desk::{CONFIG, Desk, Fleet};

const SECRET: &str = "apiVersion: v1\nkind: Secret\nmetadata: {name: s}\nstringData: {a: b}\n";

const BUILD: &str = "bundle build a.yaml --app radio/gateway --version 1.4.2 -o out.bundle";

/// What the folder holds, files in folders too.
fn snapshot(folder: &Path) -> BTreeMap<String, Vec<u8>> {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let inside = |path: std::path::PathBuf| match path.is_dir() {
        true => snapshot(&path).into_iter().collect::<Vec<_>>(),
        false => vec![(path.display().to_string(), fs::read(&path).unwrap())],
    };
    entries.flat_map(inside).collect()
}

/// Runs a command that must fail, name all of this, and leave the folder as it was.
#[track_caller]
fn check(desk: &Desk, command: &str, code: i32, expected: &[&str]) {
    let before = snapshot(desk.0.path());
    let run = desk.run(command);
    for part in expected {
        run.fails(code, part);
    }
    let causes: Vec<&str> = run.messages.lines().collect();
    assert!(
        causes.windows(2).all(|two| !two[0].ends_with(&two[1]["  because: ".len()..])),
        "twice: {}",
        run.messages
    );
    assert!(snapshot(desk.0.path()) == before, "{command} left something behind or changed something");
}

#[test]
fn manifests_are_refused_by_file_line_and_object() {
    let cases: [(&str, &[&str]); 13] = [
        ("a: 1\n b: 2\n", &["error: a.yaml:2:3: mapping values are not allowed"]),
        ("kind: ConfigMap\n\tname: x\n", &["error: a.yaml:1:7: ", "found a tab"]),
        ("a: *b\n", &["error: a.yaml:1:4: ", "unknown anchor"]),
        ("a: 1\na: 2\n", &["error: a.yaml:2:1: the key \"a\" stands twice in one mapping"]),
        (
            "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: {{ .Values.name }}}\n",
            &[
                "error: a.yaml:3:19: ",
                "the line is a template's: render it before it is built (a Helm chart: helm template)",
            ],
        ),
        ("{\"kind\": \"a\" \"b\"}", &["error: a.yaml:1:14: expected `,` or `}`"]),
        ("metadata: {name: a}\napiVersion: v1\n", &["error: a.yaml:1 (document 1): object a has no kind"]),
        (
            "kind: ConfigMap\nmetadata: {name: a}\n",
            &["error: a.yaml:1 (document 1): ConfigMap a has no apiVersion"],
        ),
        (
            "- 1\n",
            &[
                "error: a.yaml:1 (document 1): this document is no Kubernetes object",
                "apiVersion, kind and metadata",
            ],
        ),
        (
            &format!("{CONFIG}---\n{CONFIG}"),
            &[
                "error: a.yaml:6 (document 2): ConfigMap gateway stands twice, first at a.yaml:1 (document 1); remove one",
            ],
        ),
        (
            SECRET,
            &["a.yaml:1 (document 1): Secret s would be readable by everyone", "--allow-plaintext-secrets"],
        ),
        (
            "# nothing\n",
            &["error: a.yaml holds no object: give manifests, each with apiVersion, kind and metadata"],
        ),
        (
            "apiVersion: example.com/v1\nkind: Site\nmetadata: {name: s}\n",
            &["a.yaml:1 (document 1): Site s names no namespace", "pass --cluster-scoped Site.example.com"],
        ),
    ];
    let desk = Desk::new();
    for (text, expected) in cases {
        desk.write("a.yaml", text);
        check(&desk, BUILD, 1, expected);
    }
    fs::remove_file(desk.path("a.yaml")).unwrap();
    check(&desk, BUILD, 3, &["error: cannot read a.yaml"]);
    desk.write("a.yaml", SECRET);
    desk.build("a.yaml --allow-plaintext-secrets").ok();
    // What stood there before is still whole when its successor is refused.
    desk.write("a.yaml", "a: 1\n b: 2\n");
    check(&desk, BUILD, 1, &["error: a.yaml:2:3: "]);
}

#[test]
fn manifests_over_a_limit_are_refused_with_the_limit() {
    let object = |name: &str, data: &str| CONFIG.replace("gateway", name).replace("level: info", data);
    let huge = object("huge", &format!("a: {}", "x".repeat(limits::OBJECT_BYTES as usize)));
    let many: Vec<String> = (0..=limits::RELEASE_OBJECTS).map(|n| object(&format!("a{n}"), "")).collect();
    let large = limits::OBJECT_BYTES as usize - 1024;
    let heavy = (0..=limits::PACK_BYTES as usize / large)
        .map(|n| object(&format!("a{n}"), &format!("a: {}", "x".repeat(large))));
    let heavy: Vec<String> = heavy.collect();
    let cases: [(&str, &[&str]); 3] = [
        (
            &huge,
            &["error: a.yaml:1 (document 1): ConfigMap huge has ", "an object may have 3145728", "split it"],
        ),
        (
            &many.join("---\n"),
            &["hold 2001 objects, a bundle may hold 2000; split them into several applications"],
        ),
        (
            &heavy.join("---\n"),
            &["have 34", "a bundle may have 33554432; split them into several applications"],
        ),
    ];
    let desk = Desk::new();
    for (text, expected) in cases {
        desk.write("a.yaml", text);
        check(&desk, BUILD, 1, expected);
    }
}

#[test]
fn files_that_are_cut_short_or_others_are_refused() {
    let desk = Desk::new();
    desk.write("a.yaml", CONFIG);
    desk.build("a.yaml").ok();
    desk.run("bundle sign out.bundle --key keys/release-1.key").ok();
    let [bundle, key, root] =
        ["out.bundle", "keys/release-1.key", "keys/root.cose"].map(|name| fs::read(desk.path(name)).unwrap());
    desk.run("keys init other --fleet acme --tenant radio").ok();
    let again = "copy it again, or build and sign it anew";
    for len in [0, 7, 19, 30, bundle.len() / 2, bundle.len() - 1] {
        fs::write(desk.path("cut.bundle"), &bundle[..len]).unwrap();
        for (action, command) in [
            ("verify", "verify cut.bundle --root keys/root.cose"),
            ("show", "show cut.bundle"),
            ("sign", "sign cut.bundle --key keys/release-2.key"),
            ("publish", "push cut.bundle --kubeconfig nowhere"),
        ] {
            check(
                &desk,
                &format!("bundle {command}"),
                1,
                &[&format!("error: cannot {action} cut.bundle\n"), again],
            );
        }
    }
    fs::write(desk.path("cut.key"), &key[..100]).unwrap();
    fs::write(desk.path("cut.cose"), &root[..100]).unwrap();
    let show = "`edgefleet keys show` says of a root document which keys may sign, and for which namespaces";
    let cases: [(&str, i32, &[&str]); 7] = [
        (
            "verify a.yaml --root keys/root.cose",
            1,
            &["error: cannot verify a.yaml\n  because: it is not a bundle made by"],
        ),
        (
            "verify out.bundle --root cut.cose",
            1,
            &["error: cut.cose is not a root document: give the root.cose that"],
        ),
        (
            "verify out.bundle --root other/root.cose",
            1,
            &["error: cannot verify out.bundle\n", show, "is not signed by 1 of"],
        ),
        ("sign out.bundle --key cut.key", 1, &["error: cut.key: the line \"id: \" is missing or damaged"]),
        (
            "sign out.bundle --key keys/root.cose",
            1,
            &["error: keys/root.cose: not a key file made by `edgefleet keys init`"],
        ),
        (
            "sign out.bundle --key keys/root-1.key",
            2,
            &["error: keys/root-1.key is a root key; bundles are signed by release keys"],
        ),
        ("verify gone.bundle --root keys/root.cose", 3, &["error: cannot verify gone.bundle\n"]),
    ];
    for (command, code, expected) in cases {
        check(&desk, &format!("bundle {command}"), code, expected);
    }
}

/// The hub takes no bundle that no cluster would believe, and says why.
#[test]
fn a_bundle_by_the_wrong_key_or_of_a_foreign_namespace_goes_to_no_cluster() {
    let fleet = Fleet::new();
    fleet.desk.run("keys init other --fleet acme --tenant radio").ok();
    let elsewhere = CONFIG.replace("{name: gateway}", "{name: gateway, namespace: core}");
    let cases = [
        (
            "1.0.0",
            CONFIG,
            "other/release-1.key",
            "bundle gateway-1.0.0: ef/release is not signed by 1 of the keys that may",
        ),
        ("2.0.0", &elsewhere, "keys/release-1.key", "namespace core is outside its keys' scope"),
    ];
    for (version, manifest, key, expected) in cases {
        let build = format!("bundle build - --app radio/gateway --version {version} -o {version}.bundle");
        fleet.desk.run_with(&build, manifest).ok();
        fleet.desk.run(&format!("bundle sign {version}.bundle --key {key}")).ok();
        fleet.hub_run(&format!("bundle push {version}.bundle")).fails(1, expected);
    }
}
