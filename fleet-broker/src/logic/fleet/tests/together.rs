//! Things that happen together are looked at together.

use protocol::{
    documents::AppState,
    ids::ClusterId,
    limits,
    together::Together,
    topics::{Downward, Upward},
};
use serde_json::json;

use super::{
    super::{DocumentKind, Effect, Event},
    bench::{Bench, STRANGER, id, key, stores},
};

/// Every cluster has news.
fn news(bench: &mut Bench) -> Vec<Event> {
    let names: Vec<ClusterId> = bench.clusters.keys().cloned().collect();
    names.into_iter().map(|id| one(bench, id.as_str())).collect()
}

fn one(bench: &mut Bench, name: &str) -> Event {
    let now = bench.now.wall;
    let cluster = bench.cluster(name);
    let mood = if cluster.mood == AppState::Degraded { AppState::Available } else { AppState::Degraded };
    cluster.feel(mood);
    Event::Said(id(name), Upward::Report, cluster.next_report(now))
}

/// Who is acknowledged, and the length of the message where it was signed together with others.
fn acks(effects: &[Effect]) -> Vec<(&str, Option<usize>)> {
    effects.iter().filter_map(acked).collect()
}

fn acked(effect: &Effect) -> Option<(&str, Option<usize>)> {
    let Effect::Push(id, Downward::Ack, bytes) = effect else { return None };
    Some((id.as_str(), Together::is_meant(bytes).then_some(bytes.len())))
}

#[test]
fn reports_that_come_together_are_acknowledged_by_one_signature() {
    let mut bench = Bench::running(5, json!({}));
    bench.cluster("tower-2").documents = vec![1];
    bench.connect("tower-2");
    let reports = news(&mut bench);
    let effects = bench.handle_all(reports);
    let together: Vec<(&str, bool)> =
        acks(&effects).into_iter().map(|(name, len)| (name, len.is_some())).collect();
    let expected =
        [("tower-2", false), ("tower-1", true), ("tower-3", true), ("tower-4", true), ("tower-5", true)];
    assert_eq!(together, expected, "one of version 0.1.0 hears it as ever");
    assert_eq!(stores(&effects), 5);
    for (name, cluster) in &bench.clusters {
        assert_eq!(cluster.acks.last().unwrap().report_seq, cluster.seq, "{name}");
    }
}

#[test]
fn an_acknowledgement_by_itself_is_the_shorter_one() {
    let mut bench = Bench::running(3, json!({}));
    let reports = vec![one(&mut bench, "tower-1")];
    assert_eq!(acks(&bench.handle_all(reports)), [("tower-1", None)]);
}

#[test]
fn who_said_much_at_once_is_answered_once() {
    let mut bench = Bench::running(1, json!({}));
    let reports: Vec<Event> = (0..3).map(|_| one(&mut bench, "tower-1")).collect();
    let effects = bench.handle_all(reports);
    assert_eq!((stores(&effects), acks(&effects)), (3, vec![("tower-1", None)]));
    let cluster = bench.cluster("tower-1");
    assert_eq!(cluster.acks.last().unwrap().report_seq, cluster.seq);
}

#[test]
fn who_left_meanwhile_is_told_nothing_and_hears_it_when_it_comes_back() {
    let mut bench = Bench::running(2, json!({}));
    let mut events = news(&mut bench);
    events.push(Event::Gone(id("tower-1")));
    bench.cluster("tower-1").cut();
    let effects = bench.handle_all(events);
    assert_eq!((stores(&effects), acks(&effects)), (2, vec![("tower-2", None)]));
    bench.connect("tower-1");
    let effects = bench.report("tower-1");
    assert_eq!((stores(&effects), acks(&effects)), (0, vec![("tower-1", None)]));
}

#[test]
fn more_than_one_signature_covers_take_several() {
    let count = limits::ACKS_TOGETHER + 2;
    let mut bench = Bench::running(u16::try_from(count).unwrap(), json!({}));
    let reports = news(&mut bench);
    let effects = bench.handle_all(reports);
    let mut lens: Vec<usize> = acks(&effects).into_iter().filter_map(|(_, len)| len).collect();
    lens.sort_unstable();
    let long = lens.iter().filter(|len| **len > lens[0] + 200).count();
    assert_eq!((lens.len(), long), (count, limits::ACKS_TOGETHER), "{lens:?}");
}

#[test]
fn what_was_verified_counts_for_as_long_as_its_key_does() {
    let name = || id("tower-1");
    for (between, is_taken) in [
        (None, true),
        (Some(Event::Connected(name())), true),
        (Some(Event::Gone(name())), false),
        (Some(Event::Revoke(name(), "stolen".to_owned())), false),
        (Some(Event::Enrolled(name(), key(STRANGER).public())), false),
    ] {
        let mut bench = Bench::running(1, json!({}));
        let what = format!("{between:?}");
        let report = one(&mut bench, "tower-1");
        let heard = bench.fleet.hear(report);
        assert!(matches!(heard, Event::Heard(..)), "{heard:?}");
        let effects = bench.handle_all(between.into_iter().chain([heard]));
        let is_report = |effect: &&Effect| {
            let Effect::Store(documents) = effect else { return false };
            documents.iter().any(|one| one.kind == DocumentKind::Report)
        };
        let reports = effects.iter().filter(is_report);
        assert_eq!(reports.count(), usize::from(is_taken), "{what}");
    }
}

#[test]
fn who_joins_is_heard_with_what_comes_together_with_that() {
    let mut bench = Bench::running(1, json!({}));
    let (now, name) = (bench.now.wall, id("tower-1"));
    bench.handle(Event::Enrolled(name.clone(), key(STRANGER).public()));
    bench.disconnect("tower-1");
    let cluster = bench.cluster("tower-1");
    cluster.feel(AppState::Degraded);
    cluster.connected = true;
    let (public, report) = (cluster.key.public(), cluster.next_report(now));
    let effects = bench.handle_all([
        Event::Enrolled(name.clone(), public),
        Event::Connected(name.clone()),
        Event::Said(name, Upward::Report, report),
    ]);
    assert_eq!(acks(&effects), [("tower-1", None)], "{effects:?}");
}
