//! What clusters say, and what people see of it.

use protocol::{
    documents::{AppReport, AppState, Condition, ConditionStatus, Report},
    ids::JournalId,
    topics::{Downward, Upward},
};
use serde_json::json;

use super::{
    super::{Effect, Event},
    bench::{Bench, START, STRANGER, app, id, key, pushes, spec, stores},
};
use crate::resources::{ApplicationClusters, AssignmentState, AssignmentStatus};

fn assignment<'a>(bench: &'a Bench, name: &str) -> &'a AssignmentStatus {
    &bench.assignments[&(app("gateway"), id(name))].1
}

fn since(bench: &Bench, name: &str) -> i64 {
    assignment(bench, name).since.as_ref().unwrap().0.as_second() - i64::try_from(START.0).unwrap()
}

#[test]
fn how_an_application_is_on_a_cluster() {
    let broken = Some("ImagePullBackOff: no such image");
    let refused = Some("OutOfScope: beyond its keys");
    let cases = [
        // reported, shown, updated, available and failed clusters, the message, its condition Available
        (AppState::Pending, AssignmentState::Pending, [1, 0, 0], None, "Unknown"),
        (AppState::Applying, AssignmentState::Applying, [1, 0, 0], None, "Unknown"),
        (AppState::Progressing, AssignmentState::Applying, [1, 0, 0], None, "Unknown"),
        (AppState::Available, AssignmentState::Updated, [1, 1, 0], None, "True"),
        (AppState::Degraded, AssignmentState::Failed, [1, 0, 1], broken, "False"),
        (AppState::Rejected, AssignmentState::Rejected, [0, 0, 1], refused, "False"),
        (AppState::Removing, AssignmentState::Pending, [1, 0, 0], None, "Unknown"),
    ];
    for (reported, shown, [updated, available, failed], message, condition) in cases {
        let mut bench = Bench::running(1, json!({}));
        bench.cluster("tower-1").feel(reported);
        bench.report("tower-1");
        bench.tick();
        let status = assignment(&bench, "tower-1");
        assert_eq!((status.state, status.message.as_deref()), (shown, message), "{reported}");
        assert_eq!((status.bundle.as_str(), status.conditions[0].status.as_str()), ("gateway-1", condition));
        let worst =
            broken.is_some_and(|_| reported == AppState::Degraded).then_some("Deployment radio/gateway");
        assert_eq!(status.worst_object.as_deref(), worst);
        let counts = ApplicationClusters { desired: 1, updated, available, failed, offline: 0, observed: 0 };
        assert_eq!(bench.applications[&app("gateway")].clusters, Some(counts), "{reported}");
        let cluster = bench.statuses[&id("tower-1")].applications.unwrap();
        assert_eq!([cluster.updated, cluster.available, cluster.failed], [updated, available, failed]);
        let healthy = if available == 1 { "True" } else { "False" };
        assert_eq!(bench.condition("tower-1", "Available").0, healthy);
        let reason = match (available, failed) {
            (1, _) => "Complete: 1 of 1 clusters are available",
            (_, 1) => "Hold: 1 of 1 clusters failed",
            (..) => "Hold: 0 of 1 clusters are available",
        };
        assert_eq!(bench.reason("gateway"), reason);
    }
}

#[test]
fn what_only_the_agent_knows_is_shown_and_judges_nothing_of_the_hubs() {
    let mut bench = Bench::running(1, json!({}));
    let own = |kind: &str, status| Condition {
        kind: kind.into(),
        status,
        reason: "Rollback".into(),
        message: "1 times, last: 1.1 is older than 1.2".to_owned(),
    };
    let tower = bench.cluster("tower-1");
    let conditions = vec![own("RefusedHead", ConditionStatus::True), own("Joined", ConditionStatus::False)];
    let report = Report { conditions, ..tower.unsigned_report(START) };
    let report = tower.sign(&report);
    bench.say("tower-1", Upward::Report, report);
    assert_eq!(bench.condition("tower-1", "RefusedHead").0, "True");
    assert_eq!(bench.condition("tower-1", "Joined").0, "True");
}

#[test]
fn reports_that_are_not_the_clusters_own_change_nothing() {
    let mut bench = Bench::running(2, json!({}));
    let other = bench.cluster("tower-2").next_report(START);
    let tower = bench.cluster("tower-1");
    tower.feel(AppState::Degraded);
    let report = tower.unsigned_report(START);
    let mut flipped = tower.sign(&report);
    *flipped.last_mut().unwrap() ^= 1;
    let cases = [
        ("empty", Vec::new()),
        ("no envelope", b"report".to_vec()),
        ("flipped", flipped),
        ("a stranger's", tower.sign_as(&report, &key(STRANGER))),
        ("another cluster's", other),
        ("naming another cluster", tower.sign(&Report { cluster: id("tower-2"), ..report })),
    ];
    for (what, bytes) in cases {
        let effects = bench.say("tower-1", Upward::Report, bytes);
        assert!(effects.is_empty(), "{what}: {effects:?}");
    }
    assert!(bench.tick().is_empty());
    bench.report("tower-1");
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Failed), "its own is heard");
}

#[test]
fn older_reports_are_answered_with_what_is_held() {
    let mut bench = Bench::running(1, json!({}));
    let tower = bench.cluster("tower-1");
    let before = tower.next_report(START);
    tower.feel(AppState::Degraded);
    let degraded = tower.next_report(START);
    bench.say("tower-1", Upward::Report, degraded.clone());
    bench.settle();
    is_old(&mut bench, "before", before.clone());
    // Settings alone change nothing of what it reports, but the place of its desired state.
    let same_seq = bench.cluster("tower-1").next_report(START);
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    bench.report("tower-1");
    bench.settle();
    for (what, old) in [("before", before), ("degraded", degraded), ("under an older order", same_seq)] {
        is_old(&mut bench, what, old);
    }
}

fn is_old(bench: &mut Bench, what: &str, report: Vec<u8>) {
    let effects = bench.say("tower-1", Upward::Report, report);
    assert_eq!((effects.len(), pushes(&effects, "tower-1", Downward::Ack)), (1, 1), "{what}: {effects:?}");
    let seq = bench.cluster("tower-1").seq;
    assert_eq!(bench.cluster("tower-1").acks.last().unwrap().report_seq, seq, "{what}");
    assert!(bench.tick().is_empty(), "{what}");
}

#[test]
fn a_heartbeat_changes_and_stores_nothing() {
    let mut bench = Bench::running(2, json!({}));
    for _ in 0..3 {
        bench.wait(3600);
        let effects = bench.report("tower-1");
        assert_eq!((effects.len(), pushes(&effects, "tower-1", Downward::Ack)), (1, 1), "{effects:?}");
        assert!(bench.tick().is_empty());
    }
    // Its clock alone is worth a word.
    let wall = bench.now.wall;
    let mut late = bench.cluster("tower-1").unsigned_report(wall.plus(301));
    let skewed = bench.cluster("tower-1").sign(&late);
    assert_eq!(stores(&bench.say("tower-1", Upward::Report, skewed)), 0);
    assert_eq!(bench.condition("tower-1", "ClockSynced").0, "False");
    late.clock = wall;
    let right = bench.cluster("tower-1").sign(&late);
    bench.say("tower-1", Upward::Report, right);
    assert_eq!(bench.condition("tower-1", "ClockSynced").0, "True");
}

#[test]
fn a_heartbeat_brings_what_was_lost_on_the_way() {
    let mut bench = Bench::running(1, json!({}));
    bench.cluster("tower-1").deaf = true;
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    bench.cluster("tower-1").deaf = false;
    assert_eq!(bench.cluster("tower-1").held.unwrap().order.seq, 2);
    let effects = bench.report("tower-1");
    assert_eq!([Downward::Head, Downward::Desired].map(|topic| pushes(&effects, "tower-1", topic)), [1, 1]);
    assert_eq!(bench.cluster("tower-1").held.unwrap().order.seq, 3);
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Pending), "settings are not confirmed yet");
    let effects = bench.report("tower-1");
    assert_eq!(pushes(&effects, "tower-1", Downward::Desired), 0);
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Updated));
}

#[test]
fn another_life_of_the_journal_starts_anew_and_the_one_before_is_over() {
    let mut bench = Bench::running(1, json!({}));
    let old = bench.cluster("tower-1").next_report(START);
    let first = bench.cluster("tower-1").journal;
    for life in 1..=12 {
        bench.cluster("tower-1").be_reborn(life);
        bench.cluster("tower-1").feel(if life % 2 == 0 { AppState::Available } else { AppState::Degraded });
        bench.report("tower-1");
        let expected = if life % 2 == 0 { AssignmentState::Updated } else { AssignmentState::Failed };
        assert_eq!(bench.state("tower-1"), Some(expected));
        if life <= 8 {
            let effects = bench.say("tower-1", Upward::Report, old.clone());
            assert_eq!((effects.len(), pushes(&effects, "tower-1", Downward::Ack)), (1, 1), "{effects:?}");
            let ack = bench.cluster("tower-1").acks.last().unwrap().clone();
            assert_eq!((ack.journal, ack.report_seq), (first, u64::MAX), "who lives it still begins another");
        }
    }
    let report = bench.fleet.clusters[&id("tower-1")].report.as_ref().unwrap();
    let lives: Vec<JournalId> = (4..=11).map(|life| JournalId::new([life; 16])).collect();
    assert_eq!(*report.past, lives);
}

#[test]
fn many_applications_take_several_reports() {
    let mut bench = Bench::with_clusters(1);
    for index in 0..80 {
        let name = format!("app-{index:02}");
        bench.publish(&name, "1");
        bench.apply(&name, spec(&format!("{name}-1"), json!({})), None);
    }
    // The cluster compares digests once all is acknowledged.
    let acked = [0; 3].map(|_| {
        bench.report("tower-1");
        bench.cluster("tower-1").acks.last().unwrap().report_seq
    });
    assert_eq!(acked, [32, 64, 80]);
    assert_eq!(bench.statuses[&id("tower-1")].applications.unwrap().available, 80);
    bench.settle();
    // One of them changes: no other is looked at again.
    let mut one = bench.cluster("tower-1").apps[&app("app-07")].1.clone();
    one.state = AppState::Degraded;
    bench.cluster("tower-1").note(one);
    let effects = [bench.report("tower-1"), bench.tick()];
    let shown = effects.iter().flatten().filter(|effect| {
        matches!(effect, Effect::Assignment(id, ..) | Effect::ApplicationStatus(id, _) if *id != app("app-07"))
    });
    assert_eq!(shown.count(), 0);
    assert_eq!(bench.reason("app-07"), "Hold: 1 of 1 clusters failed");
}

/// What happens 10 s after the step before, and since when the state and the condition Available then stand.
type Step = (&'static str, fn(&mut Bench), i64, i64);

#[test]
fn states_and_conditions_keep_the_time_they_began() {
    let mut bench = Bench::running(1, json!({}));
    let steps: [Step; 6] = [
        ("nothing", |bench| drop(bench.report("tower-1")), 0, 0),
        (
            "another application",
            |bench| {
                bench.publish("database", "1");
                bench.apply("database", spec("database-1", json!({})), None);
                bench.tick();
            },
            0,
            0,
        ),
        ("the link goes", |bench| drop(bench.disconnect("tower-1")), 0, 0),
        ("the link comes", |bench| drop(bench.connect("tower-1")), 0, 0),
        ("it fails", |bench| fail(bench, "no such image"), 50, 50),
        ("it fails otherwise", |bench| fail(bench, "quota exceeded"), 50, 50),
    ];
    for (what, step, state, condition) in steps {
        bench.wait(10);
        step(&mut bench);
        let status = assignment(&bench, "tower-1");
        let began = status.conditions[0].last_transition_time.0.as_second() - 1_800_000_000;
        assert_eq!((since(&bench, "tower-1"), began), (state, condition), "{what}");
    }
    assert_eq!(assignment(&bench, "tower-1").message.as_deref(), Some("ImagePullBackOff: quota exceeded"));
    assert_eq!(bench.condition("tower-1", "Connected"), ("True".to_owned(), 1_800_000_040));
    assert_eq!(bench.condition("tower-1", "Joined"), ("True".to_owned(), 1_800_000_000));
}

fn fail(bench: &mut Bench, message: &str) {
    let tower = bench.cluster("tower-1");
    tower.feel(AppState::Degraded);
    let mut report: AppReport = tower.apps[&app("gateway")].1.clone();
    report.worst.iter_mut().for_each(|worst| message.clone_into(&mut worst.message));
    tower.note(report);
    bench.report("tower-1");
}

#[test]
fn offline_is_a_state_of_its_own() {
    let mut bench = Bench::running(2, json!({}));
    bench.disconnect("tower-1");
    bench.tick();
    assert_eq!(bench.condition("tower-1", "Connected").0, "False");
    for (name, status) in [("tower-1", "Unknown"), ("tower-2", "True")] {
        for kind in ["Synced", "Available", "ClockSynced"] {
            assert_eq!(bench.condition(name, kind).0, status, "{kind} of {name}");
        }
    }
    let shown = &bench.statuses[&id("tower-1")].conditions;
    let available = shown.iter().find(|one| one.type_ == "Available").unwrap();
    let expected = "True as of 2027-01-15T08:00:00Z: 1 of 1 applications are available";
    assert_eq!((available.reason.as_str(), available.message.as_str()), ("Offline", expected));
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Updated), "what it said last still stands");
    let counts = |bench: &Bench| {
        let counts = bench.applications[&app("gateway")].clusters.unwrap();
        [counts.desired, counts.available, counts.failed, counts.offline]
    };
    assert_eq!(counts(&bench), [2, 2, 0, 1]);
    bench.publish("gateway", "2");
    bench.apply("gateway", spec("gateway-2", json!({})), None);
    bench.report("tower-2");
    bench.settle();
    let states = ["tower-1", "tower-2"].map(|name| bench.state(name).unwrap());
    assert_eq!(states, [AssignmentState::Deferred, AssignmentState::Updated]);
    assert_eq!(counts(&bench), [2, 1, 0, 1]);
    assert_eq!(bench.reason("gateway"), "Hold: 1 of 2 clusters are available, 1 is offline");
    assert_eq!(assignment(&bench, "tower-1").bundle, "gateway-2");
    bench.connect("tower-1");
    bench.report("tower-1");
    bench.settle();
    assert_eq!(bench.reason("gateway"), "Complete: 2 of 2 clusters are available");
    assert_eq!(bench.condition("tower-1", "Available").0, "True");
    bench.handle(Event::Cluster(id("tower-1"), None));
    assert_eq!(bench.state("tower-1"), None);
}
