//! Freezes: what may not start, where, and until when.

use protocol::topics::Downward;
use serde_json::json;

use super::bench::{Bench, DAY, pushes, removing, spec};

const PROD: &[(&str, &str)] = &[("stage", "prod")];

#[test]
fn nothing_starts_within_a_freeze_and_everything_after_it() {
    let louder = || spec("gateway-1", json!({"parameters": {"level": "debug"}}));
    for (tenant, labels, frozen) in [
        (None, &[][..], ["tower-1", "tower-2"].as_slice()),
        (Some("radio"), &[], &["tower-1", "tower-2"]),
        (Some("power"), &[], &[]),
        (None, &[("region", "north")], &["tower-1"]),
        (Some("radio"), &[("region", "south")], &["tower-2"]),
        (Some("power"), &[("region", "south")], &[]),
        (None, &[("region", "west")], &[]),
    ] {
        let mut bench = Bench::running(2, json!({}));
        bench.register("tower-1", &[("stage", "prod"), ("region", "north")]);
        bench.register("tower-2", &[("stage", "prod"), ("region", "south")]);
        bench.settle();
        bench.freeze("fair", tenant, labels);
        bench.apply("gateway", louder(), None);
        bench.settle();
        for tower in ["tower-1", "tower-2"] {
            let is_frozen = frozen.contains(&tower);
            let told = if is_frozen { "gateway" } else { "gateway level=debug" };
            let case = format!("{tower} under {tenant:?} {labels:?}");
            assert_eq!(bench.told(tower), [told], "{case}");
            assert_eq!(bench.cluster(tower).permits().is_empty(), is_frozen, "{case}");
        }
        if !frozen.is_empty() {
            let waits = match frozen.len() {
                1 => "Hold: 1 cluster waits, frozen by fair (trade fair)",
                _ => "Hold: 2 clusters wait, frozen by fair (trade fair)",
            };
            assert!(bench.reason("gateway").starts_with(waits), "{}", bench.reason("gateway"));
        }
        bench.unfreeze("fair");
        bench.settle();
        for tower in ["tower-1", "tower-2"] {
            assert_eq!(bench.told(tower), ["gateway level=debug"], "{tower} after {tenant:?} {labels:?}");
            assert_eq!(bench.cluster(tower).permits(), ["gateway"]);
        }
    }
}

#[test]
fn what_is_permitted_from_now_on_has_begun() {
    let mut bench = Bench::running(1, json!({}));
    let cluster = bench.cluster("tower-1");
    let head = cluster.head.as_ref().unwrap();
    let begun: Vec<u64> = head.permits.iter().map(|permit| head.hub_time.since(permit.not_before)).collect();
    assert_eq!(begun, [5], "a clock may be that much behind the hub's");
}

#[test]
fn permits_that_were_given_are_taken_back_at_once() {
    let mut bench = Bench::running(2, json!({}));
    bench.disconnect("tower-2");
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    assert_eq!(bench.cluster("tower-1").permits(), ["gateway"]);
    let effects = bench.freeze("fair", None, &[]);
    assert_eq!(["tower-1", "tower-2"].map(|tower| pushes(&effects, tower, Downward::Head)), [1, 0]);
    assert!(bench.cluster("tower-1").permits().is_empty());
    assert_eq!(bench.freeze("fair", None, &[]).len(), 0, "the same again is no news");
    // One that comes later, and every head signed anew, finds it in force.
    bench.connect("tower-2");
    assert!(bench.cluster("tower-2").permits().is_empty());
    bench.wait(DAY / 2);
    bench.tick();
    assert!(bench.cluster("tower-1").permits().is_empty());
    // So does a cluster that a label brings under it, until a label takes it out.
    bench.unfreeze("fair");
    bench.freeze("north", None, &[("region", "north")]);
    assert_eq!(bench.cluster("tower-1").permits(), ["gateway"]);
    bench.register("tower-1", &[("stage", "prod"), ("region", "north")]);
    assert!(bench.cluster("tower-1").permits().is_empty());
    bench.register("tower-1", PROD);
    assert_eq!(bench.cluster("tower-1").permits(), ["gateway"]);
}

#[test]
fn a_freeze_survives_a_restart_and_holds_for_latecomers_and_removals() {
    let mut bench = Bench::running(1, json!({}));
    bench.freeze("fair", None, &[]);
    bench.restart();
    bench.register("tower-2", PROD);
    bench.join("tower-2");
    bench.connect("tower-2");
    bench.connect("tower-1");
    bench.settle();
    assert_eq!(bench.told("tower-2"), Vec::<String>::new());
    assert!(bench.reason("gateway").starts_with("Hold: 1 cluster waits, frozen by fair"));

    bench.apply("gateway", spec("gateway-1", removing()), Some("2: the depot closes"));
    bench.register("tower-1", &[("stage", "retired")]);
    bench.settle();
    assert_eq!(bench.told("tower-1"), ["gateway"], "a removal is a start, too, approved or not");

    bench.unfreeze("fair");
    bench.settle();
    assert_eq!(
        (bench.told("tower-1"), bench.told("tower-2")),
        (vec!["-gateway".to_owned()], vec!["gateway".to_owned()])
    );
}
