//! Restarts, and whatever order things happen in: same events, same effects, and the same end.

use proptest::prelude::*;
use protocol::documents::AppState;
use serde_json::json;

use super::{
    super::{DocumentKind, Effect},
    bench::{Backup, Bench, app, id, removing, spec, stores},
};

#[test]
fn a_hub_that_starts_again_is_where_it_was() {
    let mut bench = Bench::running(2, json!({}));
    bench.cluster("tower-1").feel(AppState::Degraded);
    bench.report("tower-1");
    bench.settle();
    let (statuses, assignments) = (bench.statuses.clone(), bench.assignments.clone());
    let (applications, store) = (bench.applications.clone(), bench.store.clone());
    bench.wait(60);
    let effects = bench.restart();
    let needless = |effect: &&Effect| matches!(effect, Effect::Store(_) | Effect::Push(..) | Effect::Kick(_));
    assert_eq!(effects.iter().find(needless).map(|effect| format!("{effect:?}")), None);
    assert_eq!(bench.condition("tower-1", "Connected"), ("False".to_owned(), 1_800_000_060));
    for name in ["tower-1", "tower-2"] {
        assert_eq!(stores(&bench.connect(name)) + stores(&bench.report(name)), 0);
    }
    bench.settle();
    assert_eq!((&bench.applications, &bench.store), (&applications, &store));
    // What is not stored began with this start, and what is heard of clusters with their return; all else is as it was.
    for ((key, mut shown), before) in bench.assignments.clone().into_iter().zip(assignments.values()) {
        shown.1.since.clone_from(&before.1.since);
        shown.1.conditions.clone_from(&before.1.conditions);
        assert_eq!(&shown, before, "{key:?}");
    }
    for (id, mut status) in bench.statuses.clone() {
        let before = &statuses[&id];
        for (shown, before) in status.conditions.iter_mut().zip(&before.conditions).skip(1) {
            shown.last_transition_time = before.last_transition_time.clone();
        }
        status.last_report_time.clone_from(&before.last_report_time);
        assert_eq!(&status, before);
    }
}

#[test]
fn an_approval_that_was_used_up_stays_so_through_a_restart() {
    let mut bench = Bench::running(3, removing());
    let approved = |bench: &mut Bench| {
        bench.annotate("gateway", spec("gateway-1", removing()), Some("1: moved"));
        bench.settle();
    };
    bench.register("tower-1", &[]);
    bench.settle();
    approved(&mut bench);
    bench.restart();
    bench.register("tower-2", &[]);
    bench.settle();
    approved(&mut bench);
    assert_eq!(["tower-1", "tower-2"].map(|name| bench.told(name).join("")), ["-gateway", "gateway"]);
}

#[test]
fn documents_that_are_not_what_they_should_be_are_refused_by_name() {
    let cases = [
        (DocumentKind::Identity, "tower-1", "the store's identity of tower-1 is not valid: not 32 bytes"),
        (DocumentKind::Desired, "T", "the store's desired of T is not valid: cluster id"),
        (
            DocumentKind::Desired,
            "tower-1",
            "the store's desired of tower-1 is not valid: ef/desired has a bad",
        ),
        (DocumentKind::Report, "tower-1", "the store's report of tower-1 is not valid: "),
        (DocumentKind::Removals, "radio/gateway", "the store's removals of radio/gateway is not valid: "),
        (DocumentKind::Removals, "gateway", "the store's removals of gateway is not valid: application"),
    ];
    for (kind, key, expected) in cases {
        let error = Bench::new().fleet.restore(kind, key, b"x").unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error}");
    }
}

/// One thing that may happen; numbers choose which cluster, version or approval.
fn step(bench: &mut Bench, saved: &mut Option<Backup>, index: usize, (what, which): (u8, u8)) -> Vec<Effect> {
    let name = &format!("tower-{}", which % 3 + 1);
    let connected = bench.cluster(name).connected;
    let accepted = bench.fleet.admits(&id(name));
    match what {
        0 if !connected && accepted => bench.connect(name),
        1 if connected => bench.disconnect(name),
        2 => bench.register(name, &[("stage", if which < 128 { "prod" } else { "test" })]),
        3 | 4 => {
            let more = if which < 128 { removing() } else { json!({"parameters": {"level": "debug"}}) };
            let bundle = format!("gateway-{}", which % 2 + 1);
            let approval = format!("{}: because", index + 1);
            bench.apply("gateway", spec(&bundle, more), (which % 5 == 0).then_some(&*approval))
        }
        5..=7 if connected => bench.report(name),
        8 => {
            let mood = if which < 64 { AppState::Degraded } else { AppState::Available };
            bench.cluster(name).feel(mood);
            Vec::new()
        }
        9 => {
            bench.wait(u64::from(which) * 600);
            bench.tick()
        }
        10 => bench.hold(name, (which < 128).then(|| bench.now.wall.plus(3600))),
        11 if connected => {
            let effects = bench.record(name, &[], |record| record.accepted = false);
            bench.disconnect(name);
            effects
        }
        12 => {
            bench.cluster(name).deaf = which < 128;
            Vec::new()
        }
        13 => {
            bench.cluster(name).be_reborn(u8::try_from(index % 90).unwrap() + 1);
            Vec::new()
        }
        14 => bench.restart(),
        16 => {
            saved.get_or_insert_with(|| bench.backup());
            Vec::new()
        }
        17 => saved.take().map(|backup| bench.come_back(&backup, Some(which))).unwrap_or_default(),
        18 => bench.accept(),
        _ => bench.tick(),
    }
}

fn play(steps: &[(u8, u8)]) -> (Bench, Vec<String>) {
    let mut bench = Bench::with_clusters(3);
    bench.publish("gateway", "1");
    bench.publish("gateway", "2");
    let (mut trace, mut saved) = (Vec::new(), None);
    for (index, what) in steps.iter().enumerate() {
        trace.extend(step(&mut bench, &mut saved, index, *what).iter().map(|effect| format!("{effect:?}")));
    }
    (bench, trace)
}

/// Whatever happened, once every cluster is there and well, each runs what it was told, and all is quiet.
fn comes_to_rest(bench: &mut Bench) {
    bench.accept();
    bench.apply("gateway", spec("gateway-1", json!({})), None);
    for name in ["tower-1", "tower-2", "tower-3"] {
        bench.register(name, &[("stage", "prod")]);
        bench.cluster(name).deaf = false;
        if bench.cluster(name).connected {
            bench.disconnect(name);
        }
        bench.connect(name);
    }
    bench.tick();
    for name in ["tower-1", "tower-2", "tower-3"] {
        bench.cluster(name).feel(AppState::Available);
        bench.report(name);
        // Whoever's reports were lost with the hub says everything in answer to the answer.
        bench.report(name);
    }
    bench.settle();
    assert_eq!(bench.reason("gateway"), "Complete: 3 of 3 clusters are available");
    for name in ["tower-1", "tower-2", "tower-3"] {
        assert_eq!(bench.told(name), ["gateway"]);
        assert_eq!(bench.cluster(name).permits(), ["gateway"]);
        let order = bench.cluster(name).held.unwrap().order;
        assert_eq!(bench.fleet.clusters[&id(name)].signed.as_ref().unwrap().desired.order, order);
        assert_eq!(stores(&bench.report(name)), 0);
    }
    let (store, applications) = (bench.store.clone(), bench.applications.clone());
    let stored = stores(&bench.restart());
    assert_eq!((stored, &bench.store), (0, &store));
    assert_eq!(bench.applications.len(), applications.len());
    assert!(applications.contains_key(&app("gateway")));
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn same_events_same_effects_and_all_comes_to_rest(
        steps in proptest::collection::vec((0_u8..20, any::<u8>()), 0..60),
    ) {
        let (mut bench, trace) = play(&steps);
        prop_assert_eq!(trace, play(&steps).1);
        comes_to_rest(&mut bench);
    }
}
