//! Hellos, holds and content.

use protocol::{
    documents::{Chunk, Encoding, ParameterType},
    ids::Digest,
    limits,
    topics::{Downward, Upward},
};
use serde_json::json;

use super::{
    super::{Effect, Event},
    bench::{Bench, DAY, RADIO, START, app, id, pushes, release, signed, spec, stores},
};
use crate::resources::AssignmentState;

#[test]
fn the_first_hello_is_answered_with_an_empty_desired_state() {
    let bench = Bench::with_clusters(1);
    let tower = &bench.clusters[&id("tower-1")];
    let (desired, head) = (tower.desired.as_ref().unwrap(), tower.head.as_ref().unwrap());
    assert_eq!((desired.order.seq, desired.prev, desired.releases.len()), (1, None, 0));
    assert!(head.nonce.is_some() && head.permits.is_empty());
    assert_eq!((head.hub_time, head.fresh_until), (START, START.plus(DAY)));
}

#[test]
fn a_hello_brings_what_is_missing_and_no_more() {
    let mut bench = Bench::running(1, json!({}));
    bench.disconnect("tower-1");
    let effects = bench.connect("tower-1");
    assert_eq!([Downward::Head, Downward::Desired].map(|topic| pushes(&effects, "tower-1", topic)), [1, 0]);
    // What it holds is never too old; what it has not got is signed anew before it may no longer be installed.
    for (days, held, seq) in [(1, true, 2), (40, true, 2), (14, false, 3), (16, false, 4)] {
        bench.disconnect("tower-1");
        if !held {
            let level = if seq == 3 { "info" } else { "debug" };
            bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": level}})), None);
        }
        bench.wait(days * DAY);
        bench.connect("tower-1");
        let renewed = u64::from(days == 16);
        assert_eq!(bench.cluster("tower-1").held.unwrap().order.seq, seq + renewed, "after {days} days");
    }
}

/// Also on a connection that stays up: what was signed while the hub's clock was wrong may be too old from the beginning.
#[test]
fn a_heartbeat_brings_what_was_missed_and_no_agent_refuses_as_too_old() {
    for (days, anew) in [(1, 0), (16, 1), (40, 1)] {
        let mut bench = Bench::running(1, json!({}));
        bench.report("tower-1");
        bench.cluster("tower-1").deaf = true;
        bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "debug"}})), None);
        let told = bench.fleet.clusters[&id("tower-1")].signed.as_ref().unwrap().desired.order.seq;
        bench.cluster("tower-1").deaf = false;
        bench.wait(days * DAY);
        bench.report("tower-1");
        let held = bench.cluster("tower-1").held.unwrap().order.seq;
        assert_eq!(held, told + anew, "after {days} days");
        assert_eq!(pushes(&bench.report("tower-1"), "tower-1", Downward::Desired), 0, "it holds it");
    }
}

#[test]
fn hellos_that_are_not_the_clusters_own_change_nothing() {
    let mut bench = Bench::running(2, json!({}));
    let own = bench.cluster("tower-1").next_report(START);
    for (topic, bytes) in [
        (Upward::Hello, vec![]),
        (Upward::Hello, vec![0; 40]),
        (Upward::Hello, own.clone()),
        (Upward::Want, own),
    ] {
        assert_eq!(bench.say("tower-1", topic, bytes).len(), 0, "{topic:?}");
    }
    let unknown = Event::Said(id("tower-9"), Upward::Hello, vec![1]);
    assert_eq!(bench.handle(unknown).len(), 0);
    bench.handle(Event::Connected(id("tower-9")));
    assert!(!bench.fleet.admits(&id("tower-9")) && bench.fleet.joining(&id("tower-9")).is_none());
}

#[test]
fn a_hold_takes_the_permits_back_at_once_and_ends_by_itself() {
    let mut bench = Bench::running(1, json!({}));
    assert_eq!(bench.cluster("tower-1").permits(), ["gateway"]);
    let until = START.plus(600);
    assert_eq!(pushes(&bench.hold("tower-1", Some(until)), "tower-1", Downward::Head), 1);
    assert!(bench.cluster("tower-1").permits().is_empty());
    assert_eq!(pushes(&bench.hold("tower-1", Some(until)), "tower-1", Downward::Head), 0, "it was told");
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "info"}})), None);
    bench.tick();
    assert!(bench.cluster("tower-1").permits().is_empty(), "it may fetch, and not start");
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Deferred));
    bench.wait(599);
    assert_eq!(pushes(&bench.tick(), "tower-1", Downward::Head), 0);
    bench.wait(1);
    assert_eq!(pushes(&bench.tick(), "tower-1", Downward::Head), 1);
    assert_eq!(bench.cluster("tower-1").permits(), ["gateway"]);
    assert_eq!(bench.state("tower-1"), Some(AssignmentState::Pending));
    // Without an end it stands until somebody ends it, and through a new connection.
    bench.hold("tower-1", None);
    bench.disconnect("tower-1");
    bench.connect("tower-1");
    assert!(bench.cluster("tower-1").permits().is_empty());
    bench.register("tower-1", &[("stage", "prod")]);
    assert_eq!(bench.cluster("tower-1").permits(), ["gateway"]);
}

#[test]
fn heads_are_signed_again_before_they_go_stale() {
    let mut bench = Bench::with_clusters(2);
    bench.disconnect("tower-2");
    let resent: Vec<usize> = (0..12)
        .map(|_| {
            bench.wait(limits::HEAD_RESIGN_SECONDS / 2);
            pushes(&bench.tick(), "tower-1", Downward::Head)
        })
        .collect();
    assert_eq!(resent, [0, 1, 0, 1, 0, 1, 0, 1, 0, 1, 0, 1]);
    let fresh_until = bench.cluster("tower-1").head.as_ref().unwrap().fresh_until;
    assert_eq!(fresh_until, bench.now.wall.plus(DAY));
}

#[test]
fn content_comes_in_windows() {
    let mut bench = Bench::with_clusters(1);
    // A release of more than one window: one long parameter.
    let mut large = release(&app("gateway"), "1");
    large.parameters[0].of = ParameterType::Enum(vec!["x".repeat(1000); 600]);
    let bytes = signed(&large, RADIO[0]);
    let (target, total) = (Digest::of(&bytes), bytes.len() as u64);
    bench.bundle("gateway-1", bytes.clone());
    let window = (limits::CHUNK_BYTES * limits::WINDOW_CHUNKS) as u64;
    assert!(total > 2 * window && !total.is_multiple_of(window));
    let last = total / window * window;
    let cases = [
        // offset, where chunks start, bytes in all
        (0, 0, window),
        (window, window, window),
        (last, last, total - last),
        (total - 1, total - 1, 1),
        (total, total, 0),
        (total + 1, total, 0),
        (u64::MAX, total, 0),
    ];
    for (offset, start, len) in cases {
        bench.cluster("tower-1").chunks.clear();
        bench.want("tower-1", target, Encoding::Plain, offset);
        let chunks = std::mem::take(&mut bench.cluster("tower-1").chunks);
        let whole: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.clone()).collect();
        let from = usize::try_from(start).unwrap();
        assert_eq!(whole, bytes[from..from + usize::try_from(len).unwrap()], "from {offset}");
        assert!(chunks.iter().all(|chunk| chunk.total == total && chunk.target == target), "from {offset}");
        assert_eq!(chunks[0].offset, start, "from {offset}");
    }
    let unknown = Digest::of(b"unknown");
    bench.want("tower-1", unknown, Encoding::Plain, 7);
    let none = Chunk { target: unknown, encoding: Encoding::Plain, total: 0, offset: 0, bytes: Vec::new() };
    assert_eq!(bench.cluster("tower-1").chunks, [none]);
    // Packs are in the store: the shell reads them.
    for encoding in [Encoding::Zstd, Encoding::ZstdDelta] {
        let effects = bench.want("tower-1", unknown, encoding, 7);
        let [Effect::SendContent { target, encoding: Encoding::Zstd, offset: 7, .. }] = effects.as_slice()
        else {
            panic!("{effects:?}");
        };
        assert_eq!((*target, stores(&effects)), (unknown, 0));
    }
}
