//! The hub's clock, and somebody who sets it.

use protocol::{limits, time::UnixSeconds};
use serde_json::json;

use super::bench::{Bench, kicks, spec};
use crate::logic::{fleet::Effect, occurrence::Reason};

const TOWERS: [&str; 2] = ["tower-1", "tower-2"];

/// Clusters come back after the hub ended their connections.
fn come_back(bench: &mut Bench) {
    for tower in TOWERS {
        bench.disconnect(tower);
        bench.connect(tower);
    }
    bench.settle();
}

/// What people are told of the clock: once for each application, and here there is one.
fn told_of_clock(effects: &[Effect]) -> String {
    let said = effects.iter().filter_map(|effect| {
        let Effect::Occurred(occurrence) = effect else { return None };
        (occurrence.reason == Reason::ClockSet).then_some(&occurrence.message)
    });
    let said: Vec<&String> = said.collect();
    assert_eq!(said.len(), 1, "{said:?}");
    said[0].clone()
}

#[test]
fn a_clock_that_was_wrong_for_a_while_bricks_nothing() {
    for (wrong, reason) in [(UnixSeconds(0), "available"), (UnixSeconds(4_000_000_000), "expired")] {
        let mut bench = Bench::running(2, json!({}));
        bench.settle();
        let right = bench.now.wall;
        bench.now.wall = wrong;
        assert_eq!(kicks(&bench.tick()), 2, "{wrong}");
        come_back(&mut bench);
        bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "debug"}})), None);
        bench.settle();
        assert!(bench.reason("gateway").contains(reason), "{wrong}: {}", bench.reason("gateway"));
        bench.wait(600);
        bench.now.wall = right.plus(600);
        let effects = bench.tick();
        assert_eq!(kicks(&effects), 2, "{wrong}");
        let set = if wrong.0 == 0 { "ahead" } else { "back" };
        let said = told_of_clock(&effects);
        assert!(said.starts_with(&format!("the hub's clock was set {set} by ")), "{wrong}: {said}");
        come_back(&mut bench);
        for tower in TOWERS {
            assert_eq!(bench.told(tower), ["gateway level=debug"], "{tower} after {wrong}");
            let held = bench.cluster(tower).desired.as_ref().unwrap();
            assert_eq!(held.releases[0].values["level"], "debug", "what {tower} holds after {wrong}");
        }
    }
}

#[test]
fn a_clock_that_is_set_by_little_ends_no_connection() {
    let mut bench = Bench::running(2, json!({}));
    bench.settle();
    for _ in 0..3 {
        bench.wait(3600);
        assert_eq!(kicks(&bench.tick()), 0);
        bench.now.wall = bench.now.wall.plus(limits::CLOCK_SKEW_SECONDS);
        assert_eq!(kicks(&bench.tick()), 0);
        bench.now.wall = UnixSeconds(bench.now.wall.0 - limits::CLOCK_SKEW_SECONDS);
        assert_eq!(kicks(&bench.tick()), 0);
    }
}
