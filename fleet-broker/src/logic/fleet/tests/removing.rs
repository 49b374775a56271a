//! Taking applications away, and who must agree.

use protocol::{documents::Encoding, ids::Digest, topics::Downward};
use serde_json::json;

use super::bench::{Bench, app, id, kicks, pushes, removing, spec};
use crate::resources::AssignmentState;

const AWAY: &[(&str, &str)] = &[("stage", "retired")];

#[test]
fn a_removal_waits_for_an_approval_that_is_used_up_by_it() {
    let mut bench = Bench::running(3, removing());
    let gateway = || spec("gateway-1", removing());
    bench.register("tower-1", AWAY);
    bench.settle();
    let waits = "Hold: it would be removed from 1 of 3 clusters: approve it by annotating";
    assert!(bench.reason("gateway").starts_with(waits), "{}", bench.reason("gateway"));
    for approval in ["", "1", "1:", "1:  ", "2: another generation", "yes: please", "because"] {
        bench.annotate("gateway", gateway(), Some(approval));
        assert!(bench.reason("gateway").starts_with(waits), "{approval:?}");
        assert_eq!(bench.told("tower-1"), ["gateway"]);
    }
    bench.annotate("gateway", gateway(), Some("1: the depot closes"));
    assert_eq!(
        (bench.told("tower-1"), bench.told("tower-2")),
        (vec!["-gateway".to_owned()], vec!["gateway".to_owned()])
    );
    bench.settle();
    assert_eq!(bench.reason("gateway"), "Complete: 2 of 2 clusters are available");
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Removing));
    let shown = &bench.assignments[&(app("gateway"), id("tower-1"))].1;
    assert_eq!(
        (shown.bundle.as_str(), shown.since.as_ref().unwrap().0.as_second()),
        ("gateway-1", 1_800_000_000)
    );
    bench.restart();
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Removing));
    ["tower-1", "tower-2", "tower-3"].into_iter().for_each(|name| drop(bench.connect(name)));
    bench.report("tower-1");
    assert_eq!(bench.state("tower-1"), None, "it said that it is removed");
    bench.settle();

    // It stands there still, and lets nothing more through; another does.
    bench.register("tower-2", AWAY);
    bench.settle();
    assert!(bench.reason("gateway").starts_with("Hold: it would be removed from 1 of 3"));
    bench.annotate("gateway", gateway(), Some("1: so does the next"));
    assert_eq!(bench.told("tower-2"), ["-gateway"]);

    // So it is after an edit: the new generation needs its own.
    bench.register("tower-3", AWAY);
    bench.apply("gateway", gateway(), Some("1: so does the next"));
    assert!(bench.reason("gateway").starts_with("Hold: the selector matches no cluster any more, 1 runs it"));
    bench.annotate("gateway", gateway(), Some("2: all of them"));
    assert_eq!(bench.told("tower-3"), ["-gateway"]);
}

#[test]
fn few_go_by_themselves_and_many_times_few_do_not() {
    let mut bench = Bench::running(3, removing());
    for index in 4..=250 {
        bench.register(&format!("tower-{index}"), &[("stage", "prod")]);
    }
    bench.settle();
    let gone = |bench: &mut Bench, index: u32| {
        bench.register(&format!("tower-{index}"), AWAY);
        bench.settle();
        bench.told(&format!("tower-{index}")) == ["-gateway"]
    };
    // One percent of 250 is 2.5: two go, one by one, and then none.
    assert_eq!([10, 11, 12, 13].map(|index| gone(&mut bench, index)), [true, true, false, false]);
    let waits = "Hold: it would be removed from 2 of 250 clusters, and was from 2 without an approval: ";
    assert!(bench.reason("gateway").starts_with(waits), "{}", bench.reason("gateway"));
    bench.annotate("gateway", spec("gateway-1", removing()), Some("1: decommissioned"));
    bench.settle();
    assert_eq!([12, 13].map(|index| bench.told(&format!("tower-{index}"))), [["-gateway"], ["-gateway"]]);
    // The approval starts the count anew.
    assert_eq!([14, 15, 16].map(|index| gone(&mut bench, index)), [true, true, false]);
}

#[test]
fn a_selector_that_matches_nothing_holds() {
    let mut bench = Bench::running(2, json!({}));
    let nowhere =
        spec("gateway-1", json!({"placement": {"clusterSelector": {"matchLabels": {"stage": "prd"}}}}));
    bench.apply("gateway", nowhere.clone(), None);
    bench.settle();
    let reason = bench.reason("gateway");
    assert!(reason.starts_with("Hold: the selector matches no cluster any more, 2 run it"), "{reason}");
    assert_eq!(bench.told("tower-1"), ["gateway"]);
    bench.annotate("gateway", nowhere, Some("2: it stays where it is"));
    bench.settle();
    assert_eq!(bench.reason("gateway"), "Complete: 2 of 2 clusters are available");
}

#[test]
fn a_removal_is_said_until_it_is_done_and_then_forgotten() {
    let mut bench = Bench::running(2, removing());
    bench.publish("database", "1");
    let database = |level: &str| spec("database-1", json!({"parameters": {"level": level}}));
    let everywhere = |level: &str| {
        let mut spec = database(level);
        spec["placement"]["clusterSelector"] = json!({});
        spec
    };
    bench.apply("database", everywhere("info"), None);
    bench.disconnect("tower-1");
    bench.register("tower-1", AWAY);
    bench.settle();
    bench.annotate("gateway", spec("gateway-1", removing()), Some("1: moved"));
    assert_eq!(bench.told("tower-1"), ["database level=info", "-gateway"]);
    bench.apply("database", everywhere("debug"), None);
    assert_eq!(bench.told("tower-1"), ["database level=debug", "-gateway"], "it was away: said again");
    bench.connect("tower-1");
    bench.report("tower-1");
    let report = bench.fleet.clusters[&id("tower-1")].report.as_ref().unwrap();
    assert!(report.app(&app("gateway")).is_none());
    bench.apply("database", everywhere("info"), None);
    assert_eq!(bench.told("tower-1"), ["database level=info"], "it is removed");
    bench.report("tower-1");

    // Placed there again, and taken away before the cluster heard of it.
    bench.disconnect("tower-1");
    bench.register("tower-1", &[("stage", "prod")]);
    bench.settle();
    assert_eq!(bench.told("tower-1"), ["database level=info", "gateway"]);
    bench.register("tower-1", AWAY);
    bench.settle();
    bench.annotate("gateway", spec("gateway-1", removing()), Some("1: moved again"));
    assert_eq!(bench.told("tower-1"), ["database level=info", "-gateway"]);
    bench.apply("database", everywhere("debug"), None);
    assert_eq!(
        bench.told("tower-1"),
        ["database level=debug", "-gateway"],
        "it may have it, for all that is known"
    );
    bench.connect("tower-1");
    bench.report("tower-1");
    bench.apply("database", everywhere("info"), None);
    assert_eq!(bench.told("tower-1"), ["database level=info"], "what it never had is not said for ever");
}

#[test]
fn a_cluster_that_is_not_accepted_is_kicked_and_told_nothing() {
    let mut bench = Bench::running(2, removing());
    let effects = bench.record("tower-1", &[("stage", "prod")], |record| record.accepted = false);
    assert_eq!(kicks(&effects), 1);
    // What is still under way on its connection is not listened to.
    let quiet =
        bench.report("tower-1").len() + bench.want("tower-1", Digest::of(b""), Encoding::Zstd, 0).len();
    assert_eq!((quiet, bench.fleet.admits(&id("tower-1"))), (0, false));
    bench.disconnect("tower-1");
    assert_eq!(kicks(&bench.arrive("tower-1")), 1, "it slipped in");
    bench.disconnect("tower-1");
    bench.settle();
    assert_eq!(bench.reason("gateway"), "Complete: 1 of 1 clusters are available");
    bench.publish("gateway", "2");
    bench.apply("gateway", spec("gateway-2", removing()), None);
    assert_eq!(
        ["tower-1", "tower-2"].map(|name| bench.fleet.clusters[&id(name)]
            .signed
            .as_ref()
            .unwrap()
            .desired
            .order
            .seq),
        [2, 3]
    );
    // Taken back, it is brought to what the others run.
    bench.register("tower-1", &[("stage", "prod")]);
    bench.settle();
    assert!(bench.fleet.admits(&id("tower-1")));
    assert_eq!(pushes(&bench.connect("tower-1"), "tower-1", Downward::Desired), 1);
}
