//! Campaigns: what ends one in between, each seed is run once, and what is found is kept.

use std::{
    collections::BTreeSet,
    path::Path,
    sync::atomic::{AtomicUsize, Ordering},
};

use edgefleet_sim::{
    campaign::{Campaign, State},
    rehearsal::{Ended, Fleet},
};

const SEEDS: u64 = 7;

/// Runs seeds until so many were begun, and says which ended.
fn run(fleet: &Fleet, file: &Path, jobs: usize, begun_at_most: usize) -> (State, Vec<u64>) {
    let (begun, mut ended) = (AtomicUsize::new(0), Vec::new());
    let campaign = Campaign::open(file, fleet.clone(), None).expect("it begins or goes on");
    let goes_on = |seed| seed <= SEEDS && begun.fetch_add(1, Ordering::Relaxed) < begun_at_most;
    let state = campaign
        .run(jobs, &goes_on, &mut |state: &State, seed, _: &Ended| {
            ended.push(seed);
            // What is told is kept already.
            let kept = std::fs::read(file).expect("the file is there");
            assert_eq!(serde_json::from_slice::<State>(&kept).expect("it is a state"), *state);
        })
        .expect("the seeds are run");
    (state, ended)
}

#[test]
fn each_seed_is_run_once_whatever_ends_it() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("campaign.json");
    let fleet = Fleet { scenario: "swarm".to_owned(), clusters: 3, days: 1, without: BTreeSet::new() };
    let mut all = Vec::new();
    for (jobs, begun, seeds) in [(2, 3, 3), (1, 1, 4), (2, 100, SEEDS)] {
        let (state, ended) = run(&fleet, &file, jobs, begun);
        all.extend(ended);
        assert_eq!((state.seeds(), state.found), (seeds, Vec::new()));
    }
    all.sort_unstable();
    assert_eq!(all, (1..=SEEDS).collect::<Vec<_>>());
    // What is done is not done again.
    assert_eq!(run(&fleet, &file, 2, 100).1, Vec::<u64>::new());
}

#[test]
fn it_goes_on_after_a_rule_was_broken() {
    let folder = tempfile::tempdir().unwrap();
    let (file, scenario) = (folder.path().join("campaign.json"), folder.path().join("hasty.toml"));
    // Nobody can be up to date at once.
    let hasty = "about = 'x'\nclusters = 2\ndays = 1\nchange-every = '6h'\nsettles-within = '1s'\n\
                 [faults]\ncut-every = '2h'\ncut-for = '2h'\n";
    std::fs::write(&scenario, hasty).unwrap();
    let scenario = scenario.to_str().unwrap().to_owned();
    let fleet = Fleet { scenario, clusters: 3, days: 1, without: BTreeSet::new() };
    let (state, ended) = run(&fleet, &file, 1, 100);
    assert_eq!(ended, (1..=SEEDS).collect::<Vec<_>>());
    assert!(!state.found.is_empty(), "all of them were up to date");
    for found in &state.found {
        assert!(found.what.contains("after the last fault") || found.what.contains("applied"), "{found:?}");
    }
    let again = Campaign::open(&file, fleet, None).unwrap();
    assert_eq!(again.state(), &state);
}
