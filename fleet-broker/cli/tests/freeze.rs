//! Freezes and approvals at the command line, on a real hub.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

mod desk;

use std::time::Duration;

use desk::Fleet;
use protocol::ids::AppId;

/// Longest wait for anything that should happen; reached only by a test that fails.
const SOON: Duration = Duration::from_secs(60);

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(50);

const CONFIG_MAP: &str = "apiVersion: v1\nkind: ConfigMap\nmetadata: {name: gateway}\ndata: {level: info}\n";

fn application(bundle: &str, stage: &str) -> String {
    format!(
        "apiVersion: edgefleet.dev/v1alpha1\nkind: Application\nmetadata: {{namespace: radio, name: gateway}}\n\
         spec:\n  bundle: {bundle}\n  placement: {{clusterSelector: {{matchLabels: {{stage: {stage}}}}}, \
         onUnmatch: Remove}}\n"
    )
}

/// Writes an application, and waits until the hub says that it waits for this.
fn waits(fleet: &Fleet, application: &str, why: &str) {
    let value = edgefleet::yaml::read(application).unwrap().remove(0).value;
    let id = AppId::new("radio", "gateway").unwrap();
    fleet.runtime.block_on(async {
        fleet.operator.put_application(value).await.unwrap();
        let mut reason = String::new();
        let waiting = async {
            let mut looks = tokio::time::interval(LOOK_EVERY);
            while !reason.contains(why) {
                looks.tick().await;
                let status = fleet.operator.application(&id).await.unwrap().unwrap().status;
                reason = status.and_then(|status| status.reason).unwrap_or_default();
            }
        };
        let in_time = tokio::time::timeout(SOON, waiting).await.is_ok();
        assert!(in_time, "{reason:?} where {why:?} should be");
    });
}

#[test]
fn a_freeze_is_made_shown_and_lifted() {
    let fleet = Fleet::new();
    for version in ["1.0.0", "1.1.0"] {
        fleet.build(version, CONFIG_MAP);
        fleet.hub_run(&format!("bundle push {version}.bundle")).ok();
    }
    let first = [("tower-1", "gateway-1.0.0"), ("tower-2", "gateway-1.0.0")];
    fleet.apply(&application("gateway-1.0.0", "prod"), &first);

    fleet.hub_run("freeze --reason fair -l region=north").fails(2, "give a freeze of some clusters a name");
    let made = fleet.hub_run("freeze --reason fair -l region=north --name north").ok();
    assert!(made.messages.contains("all applications on clusters with region=north"), "{}", made.messages);
    assert!(made.messages.contains("edgefleet unfreeze north --reason"), "{}", made.messages);
    let status = fleet.hub_run("status").ok();
    let shown = "Frozen by north: all applications on clusters with region=north: fair\n";
    assert!(status.data.contains(shown), "{}", status.data);
    let second = application("gateway-1.1.0", "prod");
    fleet.apply(&second, &[("tower-1", "gateway-1.0.0"), ("tower-2", "gateway-1.1.0")]);
    waits(&fleet, &second, "1 cluster waits, frozen by north (fair)");

    fleet.hub_run("unfreeze --reason over").fails(3, "cannot lift freeze fleet");
    fleet.hub_run("unfreeze north --reason over").ok();
    fleet.apply(&second, &[("tower-1", "gateway-1.1.0"), ("tower-2", "gateway-1.1.0")]);
    assert!(!fleet.hub_run("status").ok().data.contains("Frozen"));
}

#[test]
fn what_was_looked_at_is_approved() {
    let fleet = Fleet::new();
    fleet.build("1.0.0", CONFIG_MAP);
    fleet.hub_run("bundle push 1.0.0.bundle").ok();
    let approve = "approve gateway -n radio --reason depot";
    fleet.hub_run(approve).fails(3, "application radio/gateway");
    let placed = [("tower-1", "gateway-1.0.0"), ("tower-2", "gateway-1.0.0")];
    fleet.apply(&application("gateway-1.0.0", "prod"), &placed);
    fleet.hub_run(approve).fails(2, "nothing of radio/gateway waits for an approval");
    let nowhere = application("gateway-1.0.0", "retired");
    waits(&fleet, &nowhere, "the selector matches no cluster any more");
    let approved = fleet.hub_run(approve).ok();
    let text = "Approved for radio/gateway: the selector matches no cluster any more, 2 run it";
    assert!(approved.messages.contains(text), "{}", approved.messages);
    fleet.apply(&nowhere, &[]);
}
