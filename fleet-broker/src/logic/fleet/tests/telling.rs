//! What is told in events: what happens, and what is told of it.

use protocol::{
    documents::{AppReport, AppState, Condition, ConditionStatus, Drift, ObjectMessage},
    topics::Upward,
};
use serde_json::json;

use super::{
    super::Event,
    bench::{Bench, app, id, removing, spec, stores},
};
use crate::logic::occurrence::Occurrence;

/// What happens, and what is told of it then, of whatever it is about.
type Row = (&'static str, fn(&mut Bench), &'static [&'static str]);

/// Lets things happen, one after the other.
fn check(mut bench: Bench, rows: &[Row]) {
    bench.settle();
    for (what, happen, expected) in rows {
        bench.occurred.clear();
        happen(&mut bench);
        let told: Vec<String> = bench.occurred.iter().map(text).collect();
        assert_eq!(&told, expected, "{what}");
    }
}

fn text(occurrence: &Occurrence) -> String {
    let warning = if occurrence.reason.is_warning() { "!" } else { "" };
    format!("{warning}{} {}: {}", occurrence.about.name, occurrence.reason.word(), occurrence.message)
}

fn mood(bench: &mut Bench, mood: AppState) {
    bench.cluster("tower-1").feel(mood);
    drop(bench.report("tower-1"));
    bench.settle();
}

/// Changes what tower-1 says of its application.
fn note(bench: &mut Bench, change: impl FnOnce(&mut AppReport)) {
    let tower = bench.cluster("tower-1");
    let mut report = tower.apps[&app("gateway")].1.clone();
    change(&mut report);
    tower.note(report);
    drop(bench.report("tower-1"));
    bench.settle();
}

fn heal(bench: &mut Bench, count: u32) {
    let found = bench.now.wall;
    let (object, manager) = ("Deployment radio/web".to_owned(), "kubectl".to_owned());
    note(bench, |report| report.drift = vec![Drift { object, manager, found, count }]);
}

fn drifted(bench: &mut Bench, status: ConditionStatus) {
    let condition = Condition {
        kind: "Drifted".into(),
        status,
        reason: "ChangedByOthers".into(),
        message: "Deployment radio/web was changed by kubectl".to_owned(),
    };
    note(bench, |report| {
        report.conditions.retain(|known| known.kind != "Drifted");
        report.conditions.push(condition);
    });
}

#[test]
fn a_rollout() {
    check(
        Bench::with_clusters(2),
        &[
            (
                "an application without its bundle",
                |bench| drop(bench.apply("gateway", spec("gateway-1", json!({})), None)),
                &["!gateway Blocked: bundle gateway-1 does not exist in namespace radio: push it"],
            ),
            (
                "its bundle",
                |bench| {
                    bench.publish("gateway", "1");
                },
                &[
                    "gateway Promoted: 2 clusters change at once",
                    "gateway.tower-1 Offered: bundle gateway-1 is to run here",
                    "gateway.tower-2 Offered: bundle gateway-1 is to run here",
                ],
            ),
            (
                "both report",
                |bench| {
                    ["tower-1", "tower-2"].into_iter().for_each(|name| drop(bench.report(name)));
                    bench.settle();
                },
                &[
                    "gateway.tower-1 Applied: bundle gateway-1 is applied",
                    "gateway.tower-1 Available: bundle gateway-1 is available",
                    "gateway.tower-2 Applied: bundle gateway-1 is applied",
                    "gateway.tower-2 Available: bundle gateway-1 is available",
                    "gateway Complete: 2 of 2 clusters are available",
                ],
            ),
            (
                "settings",
                |bench| {
                    let more = json!({"parameters": {"level": "debug"}});
                    bench.apply("gateway", spec("gateway-1", more), None);
                },
                &[
                    "gateway Promoted: 2 clusters change at once",
                    "gateway.tower-1 Offered: bundle gateway-1 is to run here",
                    "gateway.tower-2 Offered: bundle gateway-1 is to run here",
                ],
            ),
        ],
    );
}

#[test]
fn what_a_cluster_says_of_an_application() {
    check(
        Bench::running(1, json!({})),
        &[
            (
                "it fails",
                |bench| mood(bench, AppState::Degraded),
                &[
                    "!gateway.tower-1 Degraded: Deployment radio/gateway: ImagePullBackOff: no such image",
                    "!gateway Failed: 1 of 1 clusters failed",
                ],
            ),
            ("it says so again", |bench| drop(bench.report("tower-1")), &[]),
            (
                "it refuses to prune",
                |bench| {
                    note(bench, |report| {
                        let (object, reason) = ("ConfigMap radio/a".to_owned(), "PruneRefused".to_owned());
                        let message = "9 of 9 objects would be deleted".to_owned();
                        report.worst = Some(ObjectMessage { object, reason, message });
                    });
                },
                &[
                    "!gateway.tower-1 PruneRefused: ConfigMap radio/a: PruneRefused: 9 of 9 objects would be deleted",
                ],
            ),
            (
                "it recovers",
                |bench| mood(bench, AppState::Available),
                &[
                    "gateway.tower-1 Available: bundle gateway-1 is available",
                    "gateway Complete: 1 of 1 clusters are available",
                ],
            ),
            (
                "it is changed by somebody",
                |bench| drifted(bench, ConditionStatus::True),
                &["!gateway.tower-1 Drifted: Deployment radio/web was changed by kubectl"],
            ),
            ("it is healed", |bench| drifted(bench, ConditionStatus::False), &[]),
            (
                "it says who",
                |bench| heal(bench, 1),
                &["gateway.tower-1 Healed: Deployment radio/web was changed by kubectl and healed"],
            ),
            ("it says nothing new", |bench| note(bench, |report| report.counts.desired += 1), &[]),
            (
                "once more",
                |bench| heal(bench, 2),
                &["gateway.tower-1 Healed: Deployment radio/web was changed by kubectl and healed"],
            ),
            (
                "it refuses the next",
                |bench| {
                    bench.cluster("tower-1").mood = AppState::Rejected;
                    bench.publish("gateway", "2");
                    bench.apply("gateway", spec("gateway-2", json!({})), None);
                    bench.report("tower-1");
                    bench.settle();
                },
                &[
                    "gateway Promoted: 1 cluster changes at once",
                    "gateway.tower-1 Offered: bundle gateway-2 is to run here",
                    "!gateway.tower-1 Rejected: OutOfScope: beyond its keys",
                    "!gateway Failed: 1 of 1 clusters failed",
                ],
            ),
            (
                "it speaks of what it was not told to run",
                |bench| {
                    let mut other = bench.cluster("tower-1").apps[&app("gateway")].1.clone();
                    other.app = app("another");
                    other.state = AppState::Degraded;
                    bench.cluster("tower-1").note(other);
                    drop(bench.report("tower-1"));
                },
                &[],
            ),
        ],
    );
}

#[test]
fn clusters_come_and_go() {
    let mut bench = Bench::new();
    bench.register("tower-1", &[("stage", "prod")]);
    check(
        bench,
        &[
            (
                "it joins",
                |bench| {
                    bench.join("tower-1");
                    let told = bench.occurred.pop().map(|joined| text(&joined)).unwrap();
                    assert!(told.starts_with("tower-1 Joined: joined with the identity key "), "{told}");
                },
                &[],
            ),
            (
                "it connects",
                |bench| drop(bench.connect("tower-1")),
                &["tower-1 Connected: the cluster is connected"],
            ),
            (
                "its link goes",
                |bench| drop(bench.disconnect("tower-1")),
                &["tower-1 Offline: the connection is down"],
            ),
            ("that is said again", |bench| drop(bench.handle(Event::Gone(id("tower-1")))), &[]),
            (
                "it comes",
                |bench| drop(bench.connect("tower-1")),
                &["tower-1 Connected: the cluster is connected"],
            ),
            ("the hub starts again", |bench| drop(bench.restart()), &[]),
            ("it comes back", |bench| drop(bench.connect("tower-1")), &[]),
            (
                "the hub starts again without it",
                |bench| {
                    bench.restart();
                    bench.wait(9 * 60);
                    bench.tick();
                    assert_eq!(bench.occurred.len(), 0);
                    bench.wait(60);
                    bench.settle();
                },
                &["tower-1 Offline: the connection is down"],
            ),
            (
                "and again",
                |bench| {
                    bench.restart();
                    bench.wait(600);
                    bench.settle();
                },
                &[],
            ),
            (
                "a hold ends",
                |bench| {
                    bench.hold("tower-1", Some(bench.now.wall.plus(60)));
                    bench.wait(61);
                    bench.settle();
                },
                &["tower-1 HoldEnded: its time is over: crane on site"],
            ),
            (
                "it is not accepted for a while",
                |bench| {
                    bench.connect("tower-1");
                    bench.record("tower-1", &[("stage", "prod")], |record| record.accepted = false);
                    bench.disconnect("tower-1");
                    bench.register("tower-1", &[("stage", "prod")]);
                    bench.connect("tower-1");
                },
                &[
                    "tower-1 Connected: the cluster is connected",
                    "tower-1 Connected: the cluster is connected",
                ],
            ),
            (
                "its key is revoked",
                |bench| drop(bench.handle(Event::Revoke(id("tower-1"), "stolen".to_owned()))),
                &["!tower-1 KeyRevoked: stolen"],
            ),
        ],
    );
}

#[test]
fn what_waits_for_an_operator() {
    let mut bench = Bench::running(3, removing());
    bench.register("tower-1", &[("stage", "retired")]);
    check(
        bench,
        &[
            ("nothing new", |bench| bench.settle(), &[]),
            (
                "it is approved",
                |bench| {
                    bench.annotate("gateway", spec("gateway-1", removing()), Some("1: the depot closes"));
                    bench.report("tower-1");
                    bench.settle();
                },
                &[
                    "gateway Promoted: 1 cluster changes at once, as approved for generation 1: the depot closes",
                    "gateway.tower-1 Removing: it is to be removed from here",
                    "gateway.tower-1 Removed: it is removed from here",
                    "gateway Complete: 2 of 2 clusters are available",
                ],
            ),
            (
                "a freeze",
                |bench| {
                    bench.freeze("fair", None, &[]);
                    bench.publish("gateway", "2");
                    bench.apply("gateway", spec("gateway-2", removing()), None);
                },
                &[
                    "gateway Frozen: 2 clusters wait, frozen by fair (trade fair): lift it with edgefleet unfreeze fair",
                ],
            ),
            ("the hub starts again", |bench| drop(bench.restart()), &[]),
            (
                "it is lifted",
                |bench| {
                    ["tower-2", "tower-3"].into_iter().for_each(|name| drop(bench.connect(name)));
                    bench.settle();
                    bench.unfreeze("fair");
                    bench.settle();
                },
                &[
                    "gateway Promoted: 2 clusters change at once",
                    "gateway.tower-2 Offered: bundle gateway-2 is to run here",
                    "gateway.tower-3 Offered: bundle gateway-2 is to run here",
                ],
            ),
        ],
    );
}

#[test]
fn a_restored_hub() {
    let mut bench = Bench::running(1, json!({}));
    let backup = bench.backup();
    bench.publish("gateway", "2");
    bench.apply("gateway", spec("gateway-2", json!({})), None);
    bench.report("tower-1");
    bench.occurred.clear();
    bench.come_back(&backup, Some(8));
    check(
        bench,
        &[
            (
                "a cluster is ahead",
                |bench| drop(bench.connect("tower-1")),
                &[
                    "!tower-1 Ahead: it holds what is not known here, and was asked for it",
                    "tower-1 Met: it is known what it holds: 1 application was found otherwise than recorded, and \
                     nothing changes there; 1 bundle is not at this hub: push what is missing",
                ],
            ),
            (
                "it is accepted",
                |bench| drop(bench.accept()),
                &["gateway RecoveryAccepted: changes go on: the clusters are as they should be"],
            ),
        ],
    );
}

/// Ten hours of 1,000 clusters that report hourly are as many reports as an hour of 10,000.
#[test]
fn a_calm_fleet_tells_and_stores_nothing() {
    const CLUSTERS: u16 = 1_000;
    let mut bench = Bench::running(CLUSTERS, json!({}));
    bench.occurred.clear();
    let mut stored = 0;
    for _hour in 0..10 {
        bench.wait(3600);
        bench.settle();
        stored += (1..=CLUSTERS).map(|index| stores(&bench.report(&format!("tower-{index}")))).sum::<usize>();
    }
    assert_eq!((bench.occurred.len(), stored), (0, 0), "of 10,000 reports that say nothing new");
}

#[test]
fn a_report_that_is_not_the_clusters_own_is_not_told_of() {
    let mut bench = Bench::running(2, json!({}));
    bench.cluster("tower-1").feel(AppState::Degraded);
    let wall = bench.now.wall;
    let report = bench.cluster("tower-1").next_report(wall);
    bench.occurred.clear();
    bench.say("tower-2", Upward::Report, report);
    assert_eq!(bench.occurred, []);
}
