//! A change of more clusters than are told at once.

use serde_json::json;

use super::{
    super::{
        Event,
        decide::{SHOWN_AFTER, TOLD_AT_ONCE},
    },
    bench::{Bench, spec},
};

/// Those that are told first, twice as many that are told next, and one more.
const CLUSTERS: usize = 2 * TOLD_AT_ONCE + 1;

/// How many clusters were told `what` last.
fn told(bench: &Bench, what: &str) -> usize {
    (0..CLUSTERS).filter(|index| bench.told(&format!("tower-{index}")).join(", ") == what).count()
}

/// A bench on which a change has reached the first clusters. None of them is connected, which changes nothing of that.
fn begun() -> Bench {
    let mut bench = Bench::new();
    bench.stepwise = true;
    (0..CLUSTERS).for_each(|index| drop(bench.register(&format!("tower-{index}"), &[("stage", "prod")])));
    bench.tick();
    bench.publish("gateway", "1");
    bench.apply("gateway", spec("gateway-1", json!({})), None);
    bench
}

#[test]
fn it_goes_on_to_all_and_is_decided_and_shown_once() {
    let mut bench = begun();
    let mut reached = vec![told(&bench, "gateway")];
    while bench.fleet.has_more() {
        assert!(bench.applications.is_empty(), "shown before all are told");
        bench.handle(Event::More);
        reached.push(told(&bench, "gateway"));
    }
    assert_eq!(reached, [TOLD_AT_ONCE, 2 * TOLD_AT_ONCE, CLUSTERS]);
    assert!(
        bench.applications.is_empty() && bench.assignments.is_empty(),
        "shown while they are about to report"
    );
    bench.now.monotonic += SHOWN_AFTER;
    bench.tick();
    let waits = format!("Hold: 0 of {CLUSTERS} clusters are available, {CLUSTERS} are offline");
    assert_eq!(bench.reason("gateway"), waits);
    assert_eq!(bench.assignments.len(), CLUSTERS);
    let promoted = bench.occurred.iter().filter(|occurrence| occurrence.message.contains("at once")).count();
    assert_eq!(promoted, 1);
}

#[test]
fn another_change_does_not_put_off_what_is_shown() {
    let mut bench = begun();
    let goes_on = |bench: &mut Bench| {
        while bench.fleet.has_more() {
            bench.handle(Event::More);
        }
    };
    goes_on(&mut bench);
    bench.now.monotonic += SHOWN_AFTER / 2;
    bench.apply("gateway", spec("gateway-1", json!({"parameters": {"level": "debug"}})), None);
    goes_on(&mut bench);
    bench.tick();
    assert!(bench.assignments.is_empty());
    bench.now.monotonic += SHOWN_AFTER / 2;
    bench.tick();
    assert_eq!(bench.assignments.len(), CLUSTERS);
}

#[test]
fn what_happens_meanwhile_counts() {
    /// What happens, clusters that are told the first and another thing in the end, the decision.
    type Case = (&'static str, fn(&mut Bench), [usize; 2], &'static str);
    let cases: [Case; 4] = [
        ("time passes", |bench| drop(bench.tick()), [CLUSTERS, 0], "Hold: 0 of 129"),
        (
            "a freeze",
            |bench| drop(bench.freeze("fair", None, &[])),
            [TOLD_AT_ONCE, 0],
            "Hold: 65 clusters wait",
        ),
        (
            "other settings",
            |bench| {
                let louder = json!({"parameters": {"level": "debug"}});
                drop(bench.apply("gateway", spec("gateway-1", louder), None));
            },
            [0, CLUSTERS],
            "Hold: 0 of",
        ),
        ("the hub starts again", |bench| drop(bench.restart()), [CLUSTERS, 0], "Hold: 0 of"),
    ];
    for (what, happens, expected, decision) in cases {
        let mut bench = begun();
        happens(&mut bench);
        while bench.fleet.has_more() {
            bench.handle(Event::More);
        }
        bench.now.monotonic += SHOWN_AFTER;
        bench.settle();
        assert_eq!(["gateway", "gateway level=debug"].map(|one| told(&bench, one)), expected, "{what}");
        assert!(bench.reason("gateway").starts_with(decision), "{what}: {}", bench.reason("gateway"));
    }
}
