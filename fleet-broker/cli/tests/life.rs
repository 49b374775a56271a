//! A bundle's whole life on the command line, and every way in which it is refused.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use std::fs;

use desk::{CONFIG, Desk};

const ROLE: &str =
    "apiVersion: rbac.authorization.k8s.io/v1\nkind: ClusterRole\nmetadata: {name: gateway}\nrules: []\n";

#[test]
fn a_bundle_of_a_folder_is_built_signed_and_verified() {
    let desk = Desk::new();
    desk.write("manifests/config.yaml", CONFIG);
    let built = desk.build("manifests").ok();
    assert_eq!(built.data, "out.bundle\n");
    assert!(built.messages.contains("1 object, 112 bytes,"), "{}", built.messages);
    desk.verify().fails(1, "nobody signed it yet; sign it with `edgefleet bundle sign`");
    desk.run("bundle sign out.bundle --key keys/release-1.key").ok();
    let verified = desk.verify().ok();
    assert!(verified.data.contains("ConfigMap   radio       gateway   112"), "{}", verified.data);
    let parameters = "- {name: level, enum: [debug, info], default: debug, \
        targets: [{kind: ConfigMap, name: gateway, pointer: /data/level}]}";
    desk.write("parameters.yaml", parameters);
    desk.build("manifests --parameters parameters.yaml --ignore ConfigMap:/data/other --max-deletes 0").ok();
    desk.run("bundle sign out.bundle --key keys/release-1.key").ok();
    let verified = desk.verify().ok();
    for line in
        ["parameter    level: debug by default", "deletes      at most 0 objects", "ignores      /data/other"]
    {
        assert!(verified.data.contains(line), "{}", verified.data);
    }
    let shown = desk.run("bundle show out.bundle -o json").ok();
    let shown: serde_json::Value = serde_json::from_str(&shown.data).unwrap();
    let keys = desk.run("keys show keys/release-1.pub -o json").ok();
    let keys: serde_json::Value = serde_json::from_str(&keys.data).unwrap();
    assert_eq!(shown["signedBy"][0], keys["keys"][0]["id"]);
}

#[test]
fn cluster_scoped_objects_need_two_keys() {
    let desk = Desk::new();
    let build = "bundle build - --app radio/gateway --version 1.4.2 -o out.bundle";
    desk.run_with(build, &format!("{CONFIG}---\n{ROLE}")).ok();
    let signed = desk.run("bundle sign out.bundle --key keys/release-1.key").ok();
    assert!(signed.messages.contains("need one more"), "{}", signed.messages);
    desk.verify().fails(1, "1 of 2 signatures (it holds cluster-scoped objects)");
    desk.run("bundle sign out.bundle --key keys/release-1.key").ok();
    desk.verify().fails(1, "1 of 2 signatures");
    desk.run("bundle sign out.bundle --key keys/release-2.key").ok();
    desk.verify().ok();
    desk.run_with(build, &format!("{CONFIG}---\n{ROLE}")).ok();
    desk.run("bundle sign out.bundle --key keys/release-1.key --key keys/release-2.key").ok();
    desk.verify().ok();
}

#[test]
fn a_tampered_file_is_refused() {
    let desk = Desk::new();
    desk.write("config.yaml", CONFIG);
    desk.build("config.yaml").ok();
    desk.run("bundle sign out.bundle --key keys/release-1.key").ok();
    let good = fs::read(desk.path("out.bundle")).unwrap();
    // The magic, the release, a signature, the content.
    for position in [3, 120, good.len() / 2, good.len() - 9] {
        let mut bad = good.clone();
        bad[position] ^= 0x10;
        fs::write(desk.path("out.bundle"), bad).unwrap();
        desk.verify().fails(1, "error: cannot verify out.bundle\n  because: ");
    }
    fs::write(desk.path("out.bundle"), good).unwrap();
    desk.verify().ok();
}

#[test]
fn wrong_keys_do_not_sign() {
    let desk = Desk::new();
    desk.write("a.yaml", CONFIG);
    desk.build("a.yaml").ok();
    let before = fs::read(desk.path("out.bundle")).unwrap();
    desk.run("keys init other --fleet other --tenant radio").ok();
    let cases = [
        ("keys/director.key", 2, "keys/director.key is a director key; bundles are signed by release keys"),
        ("keys/release-1.pub", 1, "holds a public key; the private one is in the file"),
        ("a.yaml", 1, "a.yaml: not a key file made by `edgefleet keys init`"),
        ("keys/release-9.key", 3, "cannot read keys/release-9.key"),
        ("keys/release-1.key --key other/release-1.key", 2, "the keys are of two fleets, acme and other"),
    ];
    for (key, code, expected) in cases {
        desk.run(&format!("bundle sign out.bundle --key {key}")).fails(code, expected);
        assert!(fs::read(desk.path("out.bundle")).unwrap() == before, "{key} changed the bundle");
    }
    desk.run("bundle sign out.bundle --key other/release-1.key").ok();
    desk.verify().fails(1, "is not signed by 1 of the keys that may");
}

#[test]
fn keys_are_shown_and_never_overwritten() {
    let desk = Desk::new();
    desk.run("keys init keys --fleet acme --tenant radio").fails(1, "keys are never overwritten");
    let shown = desk.run("keys show keys").ok();
    for expected in ["release-2.key", "director.pub", "fleet acme, version 1", "namespaces radio, radio-*"] {
        assert!(shown.data.contains(expected), "{}\n  lacks {expected}", shown.data);
    }
    let seed = fs::read_to_string(desk.path("keys/root-1.key")).unwrap();
    let secret = seed.lines().nth(5).unwrap();
    assert!(secret.len() == 44 && !shown.data.contains(secret), "a private key is shown");
}

#[test]
fn wrong_usage_is_said_as_such() {
    let desk = Desk::new();
    for arguments in ["nonsense", "bundle build", "keys init x --fleet Bad_Id --tenant radio"] {
        let run = desk.run(arguments);
        assert_eq!(run.code, Some(2), "{arguments}: {}", run.messages);
        assert!(run.data.is_empty(), "{arguments}");
    }
    let help = desk.run("bundle build --help").ok();
    assert!(help.data.contains("kubectl kustomize"), "{}", help.data);
}
