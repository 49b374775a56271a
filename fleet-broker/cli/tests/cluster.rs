//! Clusters at the command line, on a real hub.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use desk::Fleet;

#[test]
fn a_key_is_revoked_where_there_is_one() {
    let fleet = Fleet::new();
    fleet.hub_run("cluster revoke tower-9 --reason sold").fails(3, "\"tower-9\" not found");
    fleet.hub_run("cluster revoke tower-1 --reason sold").fails(1, "tower-1 has not joined");
    fleet.hub_run("cluster revoke tower-1").fails(2, "--reason");
}
