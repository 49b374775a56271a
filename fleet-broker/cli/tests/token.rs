//! Tokens on the command line: made, used, listed, revoked.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use std::fs;
use std::os::unix::fs::PermissionsExt;

use desk::Fleet;

#[test]
fn a_token_is_made_used_and_revoked() {
    let fleet = Fleet::new();
    let desk = &fleet.desk;
    let made = fleet.hub_run("token create ann --role viewer --expires 90d --output ann.kubeconfig").ok();
    assert!(made.data.is_empty() && made.messages.contains("kubectl --kubeconfig"), "{}", made.messages);
    assert_eq!(fs::metadata(desk.path("ann.kubeconfig")).unwrap().permissions().mode() & 0o777, 0o600);
    fleet
        .hub_run("token create bob --role viewer --output ann.kubeconfig")
        .fails(2, "ann.kubeconfig is there already; name a new file");

    desk.run("status --kubeconfig ann.kubeconfig").ok();
    desk.run("cluster add tower-b --kubeconfig ann.kubeconfig")
        .fails(4, "User \"ann\" cannot create resource");
    desk.run("token list --kubeconfig ann.kubeconfig")
        .fails(4, "User \"ann\" cannot list resource \"tokens\"");

    let printed = fleet.hub_run("token create ci --role operator").ok();
    let kubeconfig: serde_json::Value = serde_json::from_str(&printed.data).unwrap();
    assert_eq!(kubeconfig["users"][0]["name"], "ci");
    fleet.hub_run("token create ann --role admin").fails(1, "tokens.edgefleet.dev \"ann\" already exists");
    fleet.hub_run("token create Ann --role admin").fails(1, "a token's name has 1 to 63 of");
    fleet.hub_run("token create eve --role owner").fails(2, "viewer");

    let listed = fleet.hub_run("token list").ok().data;
    let row = |name: &str| listed.lines().find(|line| line.starts_with(name)).unwrap().to_owned();
    assert!(listed.starts_with("NAME    ROLE       CREATED"), "{listed}");
    assert!(row("ci").contains("operator") && row("ci").ends_with(" never"), "{listed}");
    // Used: its last column is a time.
    assert!(row("ann").contains("viewer") && row("ann").ends_with('Z'), "{listed}");

    fleet.hub_run("token revoke ann").ok();
    desk.run("status --kubeconfig ann.kubeconfig").fails(4, "Unauthorized");
    fleet.hub_run("token revoke ann").fails(3, "tokens.edgefleet.dev \"ann\" not found");
    fleet.hub_run("token revoke admin").fails(4, "remove hub.kubeconfig");
    desk.run("token list --kubeconfig none").fails(3, "cannot use the kubeconfig none");
}
