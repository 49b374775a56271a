//! Applications that clusters only look at.

use protocol::documents::{AppState, Mode, OBSERVING};
use serde_json::json;

use super::bench::{Bench, app, id, spec};
use crate::resources::{AssignmentState, PreviewCounts};

fn mode(bench: &mut Bench, name: &str) -> Option<Mode> {
    let desired = bench.cluster(name).desired.as_ref()?;
    desired.release_of(&app("gateway")).map(|release| release.mode)
}

#[test]
fn who_does_not_know_how_to_look_is_not_told_to() {
    let mut bench = Bench::running(2, json!({}));
    for name in ["tower-1", "tower-2"] {
        bench.disconnect(name);
        bench.cluster(name).documents = vec![1];
        bench.connect(name);
    }
    bench.apply("gateway", spec("gateway-1", json!({"mode": "DryRun"})), None);
    bench.tick();
    let waits = |clusters: &str| {
        format!(
            "Hold: {clusters} for an agent that knows more modes than Enforce: connect those that are away, upgrade \
             the others"
        )
    };
    assert_eq!(bench.reason("gateway"), waits("2 clusters wait"));

    // One is upgraded; it says so when it is there again.
    bench.disconnect("tower-1");
    bench.cluster("tower-1").documents = vec![1, OBSERVING];
    bench.connect("tower-1");
    bench.tick();
    bench.tick();
    assert_eq!(mode(&mut bench, "tower-1"), Some(Mode::DryRun));
    assert_eq!(mode(&mut bench, "tower-2"), Some(Mode::Enforce));
    assert_eq!(bench.reason("gateway"), waits("1 cluster waits"));

    // One that was told while it was away, and came back as an earlier version, is not sent it.
    bench.disconnect("tower-1");
    bench.apply("gateway", spec("gateway-1", json!({"mode": "Observe"})), None);
    bench.tick();
    bench.cluster("tower-1").documents = vec![1];
    bench.connect("tower-1");
    bench.tick();
    bench.tick();
    assert_eq!(mode(&mut bench, "tower-1"), Some(Mode::DryRun));
    assert_eq!(bench.reason("gateway"), waits("2 clusters wait"));

    // What every agent knows is told to all.
    bench.apply("gateway", spec("gateway-1", json!({})), None);
    bench.tick();
    assert_eq!(mode(&mut bench, "tower-1"), Some(Mode::Enforce));
}

#[test]
fn what_is_looked_at_has_not_failed_and_is_not_said_to_run() {
    let mut bench = Bench::with_clusters(2);
    for name in ["tower-1", "tower-2"] {
        bench.disconnect(name);
        let tower = bench.cluster(name);
        (tower.documents, tower.mood) = (vec![1, OBSERVING], AppState::Observed);
        bench.connect(name);
    }
    bench.publish("gateway", "1");
    bench.apply("gateway", spec("gateway-1", json!({"mode": "Observe"})), None);
    bench.tick();
    for name in ["tower-1", "tower-2"] {
        bench.report(name);
    }
    bench.settle();
    assert_eq!(bench.reason("gateway"), "Complete: 2 of 2 clusters look at it: 4 to change");
    let shown = &bench.assignments[&(app("gateway"), id("tower-1"))].1;
    assert_eq!((shown.state, shown.message.as_deref()), (AssignmentState::Observed, Some("2 to change")));
    let status = &bench.applications[&app("gateway")];
    assert_eq!(status.preview, Some(PreviewCounts { change: 4, ..PreviewCounts::default() }));
    let clusters = status.clusters.unwrap();
    assert_eq!([clusters.observed, clusters.available, clusters.failed], [2, 0, 0]);
    assert_eq!(
        (status.conditions[0].status.as_str(), status.conditions[0].reason.as_str()),
        ("Unknown", "Observed")
    );
    assert_eq!(bench.condition("tower-1", "Available").0, "True");
    assert_eq!(bench.condition("tower-1", "Synced").0, "True");
}
