//! Backups at the command line: taken of a running hub, checked, restored, accepted; and what is said when not.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use std::{fs, os::unix::fs::PermissionsExt};

use desk::Fleet;

const ACCEPT: &str = "restore --accept --reason because --kubeconfig";

#[test]
fn a_hub_is_backed_up_lost_and_restored() {
    let mut fleet = Fleet::new();
    let taken = fleet.desk.run("backup hub.backup --kubeconfig hub/hub.kubeconfig").ok();
    assert!(
        taken.messages.contains("warning: hub.backup holds the hub's private keys, unencrypted"),
        "{}",
        taken.messages
    );
    assert_eq!(fs::metadata(fleet.desk.path("hub.backup")).unwrap().permissions().mode() & 0o777, 0o600);
    let left = fs::read_dir(fleet.desk.0.path()).unwrap().count();
    let verified = fleet.desk.run("backup verify hub.backup").ok();
    assert_eq!((&verified.data, &*verified.messages), (&taken.data, ""));
    assert!(verified.data.starts_with("backup of fleet acme, made 2"), "{}", verified.data);
    for name in ["ca.pem", "ca.key", "root.cose", "director.key", "hub.sqlite"] {
        assert!(verified.data.contains(name), "{}", verified.data);
    }
    fleet.desk.run("backup hub.backup --kubeconfig hub/hub.kubeconfig").fails(1, "cannot write hub.backup");
    fleet
        .desk
        .run("backup none/hub.backup --kubeconfig hub/hub.kubeconfig")
        .fails(3, "cannot write none/hub.backup");
    assert_eq!(fs::read_dir(fleet.desk.0.path()).unwrap().count(), left, "nothing half is left");
    fleet.desk.run(&format!("{ACCEPT} hub/hub.kubeconfig")).fails(3, "this hub was not restored");

    fleet.stop();
    fleet.desk.run("backup late.backup --kubeconfig hub/hub.kubeconfig").fails(5, "cannot take a backup");
    fleet
        .desk
        .run("restore hub.backup --directory hub")
        .fails(1, "hub is not empty: restore into a folder of its own");
    fs::remove_dir_all(fleet.desk.path("hub")).unwrap();
    let restored = fleet.desk.run("restore hub.backup --directory hub").ok();
    for part in [
        "knows 3 clusters",
        "fleet-broker serve --data hub --root hub/root.cose",
        "never start the lost hub again",
        "clusters that were revoked after 2",
    ] {
        assert!(restored.messages.contains(part), "{}", restored.messages);
    }
    fleet.start();
    let status = fleet.desk.run("status --kubeconfig hub/hub.kubeconfig").ok();
    assert!(
        status.messages.contains("warning: the hub was restored from a backup of "),
        "{}",
        status.messages
    );
    assert!(status.data.starts_with("3 clusters: "), "{}", status.data);
    let accepted = fleet.desk.run(&format!("{ACCEPT} hub/hub.kubeconfig")).ok();
    assert!(accepted.data.starts_with("accepted: the hub was restored"), "{}", accepted.data);
    assert_eq!(fleet.desk.run("status --kubeconfig hub/hub.kubeconfig").ok().messages, "");
}

#[test]
fn what_is_no_backup_and_what_makes_no_sense_is_refused() {
    let desk = desk::Desk::new();
    desk.write("no.backup", "once upon a time");
    desk.run("backup verify no.backup")
        .fails(1, "no.backup is no whole backup: it ends before ca.pem; take another one");
    desk.run("backup verify none").fails(3, "cannot read none");
    desk.run("restore no.backup --directory new").fails(1, "no.backup is no whole backup");
    assert!(!desk.path("new").exists());
    for wrong in [
        "backup",
        "restore",
        "restore no.backup",
        "restore --accept",
        "restore no.backup --directory new --accept --reason because",
        "restore --directory new",
    ] {
        assert_eq!(desk.run(wrong).code, Some(2), "{wrong}");
    }
}
