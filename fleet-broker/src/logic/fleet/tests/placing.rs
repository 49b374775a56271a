//! What clusters are told, and why some are not.

use protocol::{
    documents::Release,
    ids::{AppId, ClusterId, Name},
    topics::Downward,
};
use serde_json::{Value, json};

use super::{
    super::{Effect, Event},
    bench::{Bench, DAY, RADIO, START, STRANGER, app, id, pushes, release, signed, spec, stores},
};

#[test]
fn an_application_goes_to_those_it_selects_and_is_sent_to_those_that_are_there() {
    let mut bench = Bench::with_clusters(2);
    bench.register("tower-3", &[("stage", "test")]);
    bench.disconnect("tower-2");
    bench.publish("gateway", "1");
    let effects = bench.apply("gateway", spec("gateway-1", json!({})), None);
    let sent = ["tower-1", "tower-2"].map(|name| pushes(&effects, name, Downward::Desired));
    assert_eq!(sent, [1, 0]);
    assert_eq!(bench.reason("gateway"), "Promote: 2 clusters change at once");
    assert_eq!(["tower-1", "tower-2", "tower-3"].map(|name| bench.told(name).len()), [1, 1, 0]);
    let held = bench.cluster("tower-1").held.unwrap();
    assert_eq!((held.order.seq, bench.cluster("tower-1").permits()), (2, vec!["gateway".to_owned()]));
    bench.tick();
    assert_eq!(bench.reason("gateway"), "Hold: 0 of 2 clusters are available, 1 is offline");
    assert_eq!(pushes(&bench.connect("tower-2"), "tower-2", Downward::Desired), 1);
    assert_eq!(bench.cluster("tower-2").held.unwrap().order.seq, 2);
}

#[test]
fn a_spec_decides_what_each_cluster_runs() {
    let override_of = |labels: Value, level: &str| json!({"clusterSelector": {"matchLabels": labels}, "parameters": {"level": level}});
    let cases = [
        // the spec beside bundle and selector, what tower-1 and tower-2 are told
        (json!({}), ["gateway", "gateway"]),
        (json!({"parameters": {"level": "info"}}), ["gateway level=info", "gateway level=info"]),
        (
            json!({"overrides": [override_of(json!({"region": "north"}), "debug")]}),
            ["gateway level=debug", "gateway"],
        ),
        (
            json!({"parameters": {"level": "info"}, "overrides": [
                override_of(json!({"region": "north"}), "debug"), override_of(json!({}), "info")]}),
            ["gateway level=debug", "gateway level=info"],
        ),
        (
            json!({"overrides": [override_of(json!({}), "info"), override_of(json!({"region": "north"}), "debug")]}),
            ["gateway level=info", "gateway level=info"],
        ),
    ];
    for (more, expected) in cases {
        let mut bench = Bench::with_clusters(2);
        bench.register("tower-1", &[("stage", "prod"), ("region", "north")]);
        bench.publish("gateway", "1");
        bench.apply("gateway", spec("gateway-1", more.clone()), None);
        assert_eq!(["tower-1", "tower-2"].map(|name| bench.told(name).join(", ")), expected, "{more}");
    }
}

#[test]
fn dependencies_are_told_by_name() {
    let bench = Bench::running(1, json!({"dependsOn": [{"application": "database"}]}));
    let desired = bench.clusters[&id("tower-1")].desired.as_ref().unwrap();
    assert_eq!(desired.releases[0].depends_on, [Name::new("database").unwrap()]);
}

#[test]
fn what_cannot_run_is_held_and_says_why() {
    let gateway = release(&app("gateway"), "1");
    let elsewhere = AppId::new("meter", "gateway").unwrap();
    let good = || signed(&gateway, RADIO[0]);
    let cases: [(Option<Vec<u8>>, Value, &str); 10] = [
        // the bundle gateway-1, the spec beside it, the reason
        (None, json!({}), "Hold: bundle gateway-1 does not exist in namespace radio: push it"),
        (Some(vec![1, 2, 3]), json!({}), "Hold: bundle gateway-1: ef/release has a bad envelope: "),
        (Some(signed(&gateway, STRANGER)), json!({}), "is not signed by 1 of the keys that may"),
        (Some(signed(&release(&elsewhere, "1"), RADIO[0])), json!({}), "no key releases for tenant meter"),
        (
            Some(signed(&release(&app("database"), "1"), RADIO[0])),
            json!({}),
            "Hold: bundle gateway-1 holds a release of radio/database 1",
        ),
        (
            Some(signed(&Release { not_after: START, ..gateway.clone() }, RADIO[0])),
            json!({}),
            "Hold: bundle gateway-1 expired at 1800000000: have it signed anew",
        ),
        (
            Some(good()),
            json!({"bundle": "database-1"}),
            "Hold: bundle database-1 is of application radio/database",
        ),
        (Some(good()), json!({"parameters": {"level": "loud"}}), "Hold: parameters: parameter level"),
        (
            Some(good()),
            json!({"overrides": [{"clusterSelector": {}, "parameters": {"colour": "red"}}]}),
            "Hold: overrides[0].parameters: parameter colour",
        ),
        (
            Some(good()),
            json!({"dependsOn": [{"application": "data.base"}]}),
            "Hold: dependsOn: name \"data.base\"",
        ),
    ];
    for (bundle, more, expected) in cases {
        let mut bench = Bench::with_clusters(1);
        bench.wait(1);
        bench.publish("database", "1");
        bundle.into_iter().for_each(|bytes| drop(bench.bundle("gateway-1", bytes)));
        bench.apply("gateway", spec("gateway-1", more), None);
        let reason = bench.reason("gateway");
        assert!(reason.contains(expected) && reason.starts_with("Hold"), "{reason}\nexpected {expected}");
        assert_eq!(bench.told("tower-1").len(), 0, "{expected}");
    }
}

#[test]
fn a_bundle_that_comes_later_lets_its_application_go_on() {
    let mut bench = Bench::with_clusters(1);
    bench.apply("gateway", spec("gateway-1", json!({})), None);
    bench.publish("gateway", "1");
    assert_eq!(bench.told("tower-1"), ["gateway"]);
    // An expired release is never newly installed, and goes on where it is.
    bench.wait(100 * DAY);
    bench.register("tower-2", &[("stage", "prod")]);
    bench.tick();
    assert!(bench.reason("gateway").contains("expired"));
    assert_eq!((bench.told("tower-1").len(), bench.told("tower-2").len()), (1, 0));
}

#[test]
fn only_a_change_is_signed() {
    let mut bench = Bench::running(2, json!({}));
    let same: [fn(&mut Bench) -> Vec<Effect>; 5] = [
        |bench| bench.annotate("gateway", spec("gateway-1", json!({})), None),
        |bench| bench.register("tower-1", &[("stage", "prod")]),
        |bench| bench.bundle("gateway-1", signed(&release(&app("gateway"), "1"), RADIO[0])),
        |bench| bench.bundle("gateway-2", signed(&release(&app("gateway"), "2"), RADIO[0])),
        Bench::tick,
    ];
    for (index, again) in same.into_iter().enumerate() {
        let mut effects = again(&mut bench);
        effects.extend(bench.tick());
        assert!(effects.is_empty(), "case {index}: {effects:?}");
    }
}

#[test]
fn labels_move_an_application_and_what_runs_elsewhere_is_left() {
    let mut bench = Bench::running(2, json!({}));
    bench.register("tower-3", &[("stage", "test"), ("region", "north")]);
    bench.settle();
    bench.register("tower-3", &[("stage", "prod")]);
    assert!(bench.told("tower-3").is_empty(), "labels are looked at together, with the next tick");
    bench.tick();
    assert_eq!(bench.told("tower-3"), ["gateway"]);
    bench.register("tower-1", &[("stage", "retired")]);
    bench.settle();
    assert_eq!(
        (bench.told("tower-1"), bench.told("tower-2")),
        (vec!["gateway".into()], vec!["gateway".into()])
    );
    let labels = &bench.assignments[&(app("gateway"), id("tower-1"))].0;
    assert_eq!(labels["stage"], "retired", "an assignment carries its cluster's labels");
    assert_eq!(bench.handle(Event::Cluster(id("tower-3"), None)).len(), 1, "its assignment goes");
    bench.settle();
    assert_eq!(bench.reason("gateway"), "Complete: 2 of 2 clusters are available");
}

#[test]
fn an_application_that_is_deleted_leaves_clusters_alone() {
    let mut bench = Bench::running(1, json!({}));
    let effects = bench.handle(Event::Application(app("gateway"), None));
    assert!(effects.is_empty(), "{effects:?}");
    assert_eq!((bench.told("tower-1"), stores(&bench.tick())), (vec!["gateway".to_owned()], 0));
    bench.report("tower-1");
    assert!(bench.state("tower-1").is_some());
}

#[test]
fn one_application_too_many_is_held_and_the_others_go_on() {
    let mut bench = Bench::with_clusters(1);
    let names: Vec<String> = (0..=128).map(|index| format!("app-{index:03}")).collect();
    for name in &names {
        bench.publish(name, "1");
        bench.apply(name, spec(&format!("{name}-1"), json!({})), None);
    }
    assert_eq!(bench.told("tower-1").len(), 128);
    let reason = bench.reason("app-128");
    assert!(reason.starts_with("Hold: cluster tower-1 cannot be told: "), "{reason}");
    // Changed together with one that fits, in one go of labels, it takes nothing from it.
    bench.register("tower-1", &[("stage", "prod"), ("region", "north")]);
    for name in ["app-127", "app-128"] {
        let louder = json!({"overrides": [{"clusterSelector": {"matchLabels": {"region": "south"}}, "parameters": {"level": "debug"}}]});
        bench.apply(name, spec(&format!("{name}-1"), louder), None);
    }
    bench.register("tower-1", &[("stage", "prod"), ("region", "south")]);
    bench.settle();
    assert!(bench.told("tower-1").contains(&"app-127 level=debug".to_owned()));
    assert!(bench.reason("app-128").contains("cannot be told"));
}

#[test]
fn what_was_known_can_be_taken_out_again() {
    let mut bench = Bench::running(1, json!({}));
    bench.freeze("fair", None, &[]);
    let removals = bench.fleet.removals();
    let names = |event: &Event| match event {
        Event::Cluster(id, None) => id.to_string(),
        Event::Bundle(_, name, None) => name.clone(),
        Event::Application(id, None) => id.to_string(),
        Event::Freeze(name, None) => name.clone(),
        Event::Cluster(_, Some(_))
        | Event::Bundle(_, _, Some(_))
        | Event::Application(_, Some(_))
        | Event::Freeze(_, Some(_))
        | Event::Enrolled(..)
        | Event::Connected(_)
        | Event::Gone(_)
        | Event::Said(..)
        | Event::Heard(..)
        | Event::Accept(_)
        | Event::More
        | Event::Revoke(..)
        | Event::Tick => panic!("takes nothing out: {event:?}"),
    };
    assert_eq!(
        removals.iter().map(names).collect::<Vec<_>>(),
        ["tower-1", "gateway-1", "radio/gateway", "fair"]
    );
    removals.into_iter().for_each(|event| drop(bench.handle(event)));
    assert_eq!(
        (bench.fleet.removals().len(), bench.fleet.joining(&ClusterId::new("tower-1").unwrap())),
        (0, None)
    );
}
