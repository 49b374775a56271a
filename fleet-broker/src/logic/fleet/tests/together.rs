//! Things that happen together are looked at together.

use protocol::{
    documents::AppState,
    ids::ClusterId,
    topics::{Downward, Upward},
};
use serde_json::json;

use super::{
    super::{Effect, Event},
    bench::{Bench, id, stores},
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

/// Who is acknowledged.
fn acks(effects: &[Effect]) -> Vec<&str> {
    effects.iter().filter_map(acked).collect()
}

fn acked(effect: &Effect) -> Option<&str> {
    let Effect::Push(id, Downward::Ack, _) = effect else { return None };
    Some(id.as_str())
}

#[test]
fn who_said_much_at_once_is_answered_once() {
    let mut bench = Bench::running(1, json!({}));
    let reports: Vec<Event> = (0..3).map(|_| one(&mut bench, "tower-1")).collect();
    let effects = bench.handle_all(reports);
    assert_eq!((stores(&effects), acks(&effects)), (3, vec!["tower-1"]));
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
    assert_eq!((stores(&effects), acks(&effects)), (2, vec!["tower-2"]));
    bench.connect("tower-1");
    let effects = bench.report("tower-1");
    assert_eq!((stores(&effects), acks(&effects)), (0, vec!["tower-1"]));
}
