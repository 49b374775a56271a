//! Small fleets in which everything goes wrong: no rule is broken, and the same seed is the same run.

use std::{collections::BTreeSet, ops::Range, sync::Arc};

use edge_agent::cluster::Request;
use edgefleet_sim::{
    chance::Chance,
    charter::Charter,
    ledger::Ledger,
    report::Report,
    scenario::Scenario,
    site::Site,
    world::{Plan, World},
};
use protocol::{ids::Digest, order::Order};
use serde_json::json;

/// Clusters of each fleet.
const CLUSTERS: usize = 8;

/// Seeds that are run.
const SEEDS: Range<u64> = 1..13;

/// What goes wrong in them, as their reports name it.
const FAULTS: [&str; 28] = [
    "API servers restored",
    "agents whose power failed",
    "clocks wrong",
    "desired states signed by a thief",
    "disks cloned",
    "disks full",
    "floods",
    "flushes that failed",
    "hub's clocks wrong",
    "hubs lost",
    "hubs that ended",
    "journals lost",
    "links cut",
    "links slow",
    "messages doubled",
    "messages late",
    "messages lost",
    "messages replayed",
    "messages to another cluster",
    "messages with a bit flipped",
    "namespaces stuck",
    "objects changed by hand",
    "objects deleted by hand",
    "old disks put back",
    "regions cut",
    "requests contended",
    "requests refused",
    "requests unanswered",
];

fn scenario(name: &str, days: u32) -> Scenario {
    Scenario { clusters: CLUSTERS, days, ..Scenario::read(name).expect("it comes with the program") }
}

fn run(name: &str, seed: u64, days: u32) -> Report {
    let world = World::new(Plan { scenario: scenario(name, days), seed }, None).expect("the fleet is made");
    world.run(|_, _| ()).unwrap_or_else(|violation| {
        panic!("{violation}\nedgefleet-sim run --scenario {name} --seed {seed} --clusters {CLUSTERS} --days {days}")
    })
}

#[test]
fn no_rule_is_broken() {
    let mut faults = BTreeSet::new();
    for seed in SEEDS {
        faults.extend(run("swarm", seed, 1).faults.into_keys());
    }
    println!("seeds {SEEDS:?}, {CLUSTERS} clusters each; what went wrong: {faults:?}");
    let missing: Vec<_> = FAULTS.into_iter().filter(|fault| !faults.contains(fault)).collect();
    assert!(missing.is_empty(), "what did not happen: {missing:?}");
}

#[test]
fn no_rule_is_broken_in_any_scenario() {
    for (name, days) in [
        ("cloned", 1),
        ("clusters-suffer", 1),
        ("everyone-returns", 1),
        ("hostile-broker", 1),
        ("hub-lost", 2),
        ("month-offline", 10),
        ("stolen-key", 1),
        ("tower-outage", 2),
    ] {
        for seed in 1..3 {
            let report = run(name, seed, days);
            assert!(!report.faults.is_empty(), "nothing went wrong in {name}");
        }
    }
}

#[test]
fn the_same_seed_is_the_same_run() {
    assert_eq!(run("swarm", 7, 1), run("swarm", 7, 1));
    assert_ne!(run("swarm", 7, 1).trace, run("swarm", 8, 1).trace);
}

/// Where nothing goes wrong every cluster follows every change, within a minute.
#[test]
fn a_calm_fleet_follows_at_once() {
    let report = run("calm", 3, 3);
    assert!(!report.changes.is_empty() && report.faults.is_empty());
    assert!(report.changes.iter().all(|change| change.took.len() == CLUSTERS), "{:?}", report.changes);
    assert!(report.converged().iter().all(|time| time.as_secs() < 60), "{:?}", report.changes);
}

/// What the book is there for.
#[test]
fn the_ledger_knows_what_nobody_signed() {
    let charter = Arc::new(Charter::new().unwrap());
    let mut ledger = Ledger::new(Arc::clone(&charter), 1);
    let chance = Chance::new(1);
    let site = Site::new(0, &charter, Arc::default(), chance);
    let (object, signed) = charter.releases[0].objects[0].clone();
    let apply = |body| Request::Apply { object: object.clone(), body, force: false, dry_run: false };
    ledger.check_request(&site, &apply(signed.clone())).unwrap();
    let mut altered = signed;
    altered["data"]["level"] = json!("trace");
    let problem = ledger.check_request(&site, &apply(altered)).unwrap_err();
    assert!(problem.contains("applies what nobody signed"), "{problem}");
    ledger.signed(&site.id, Order::default(), Digest::of(b"one")).unwrap();
    ledger.signed(&site.id, Order::default(), Digest::of(b"one")).unwrap();
    let problem = ledger.signed(&site.id, Order::default(), Digest::of(b"other")).unwrap_err();
    assert!(problem.contains("was told two things"), "{problem}");
}
