//! `edgefleet doctor` on a hub and its keys: nothing is wrong, then one thing after the other is.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;

use desk::Fleet;
use serde_json::Value;

#[test]
fn what_is_wrong_is_found_and_what_to_do_is_said() {
    let mut fleet = Fleet::new();
    let doctor = format!("doctor --keys keys --data hub --kubeconfig hub/hub.kubeconfig {}", fleet.ports());
    let looked = fleet.desk.run(&doctor).ok().data;
    for part in [
        "ok        keys           keys/director.key",
        "warning   certificates   keys/root.cose",
        "in 0 days",
        "ok        disk           hub",
        "the hub's port for enrolment at 127.0.0.1",
        "good for 1",
        "as the hub's",
        "have never joined: tower-1, tower-2, tower-3",
        "run `edgefleet cluster add NAME` for a new code",
    ] {
        assert!(looked.contains(part), "no {part:?} in\n{looked}");
    }

    let key = fleet.desk.path("keys/director.key");
    fs::set_permissions(&key, Permissions::from_mode(0o644)).unwrap();
    let found = wrong(&fleet, "doctor --keys keys --format json");
    assert_eq!(found, [("keys/director.key".to_owned(), "mode 0644: others may read it".to_owned())]);
    fs::set_permissions(&key, Permissions::from_mode(0o600)).unwrap();

    fs::write(fleet.desk.path("keys/root-1.key"), "no key").unwrap();
    let found = wrong(&fleet, "doctor --keys keys --format json");
    assert_eq!(found[0].0, "keys/root-1.key");

    fs::remove_file(fleet.desk.path("hub/ca.pem")).unwrap();
    let found = wrong(&fleet, "doctor --data hub --format json");
    assert_eq!(found[0].0, "hub/ca.pem");

    let other = "doctor --kubeconfig hub/hub.kubeconfig --broker-port 1 --enrol-port 1 --format json";
    assert_eq!(wrong(&fleet, other).len(), 2, "what else there is to know of the hub is found");
    fleet.stop();
    let found = wrong(&fleet, other);
    assert!(found.iter().any(|(what, _)| what.contains("API")), "{found:?}");

    let found = wrong(&fleet, "doctor --kubeconfig none --keys none --data none --site none --format json");
    assert_eq!(found.len(), 4, "one for each: {found:?}");
    fleet.desk.run("doctor").fails(2, "--kubeconfig <FILE>|--keys <DIR>|--data <DIR>|--site <DIR>");
}

/// What is wrong, and what was found of it.
fn wrong(fleet: &Fleet, arguments: &str) -> Vec<(String, String)> {
    let run = fleet.desk.run(arguments);
    assert_eq!((run.code, &*run.messages), (Some(1), ""), "{}", run.data);
    let findings: Value = serde_json::from_str(&run.data).unwrap();
    let text = |finding: &Value, field: &str| finding[field].as_str().unwrap().to_owned();
    let findings = findings["findings"].as_array().unwrap().iter();
    let wrong = findings.filter(|finding| finding["verdict"] == "wrong");
    wrong.map(|finding| (text(finding, "what"), text(finding, "found"))).collect()
}
