//! Whether the simulator is any good: mistakes are planted in the programs on purpose, and it has to find each.

use std::{
    collections::BTreeSet,
    num::NonZero,
    ops::Range,
    panic,
    sync::{
        Mutex,
        atomic::{AtomicU64, Ordering},
    },
    thread,
};

use anyhow::{Context as _, Result, bail};
use protocol::planted::Bug;

use crate::{
    rehearsal::{Fleet, rehearse},
    scenario::Scenario,
};

/// How to build a program in which mistakes can be planted.
const BUILD: &str = "no mistake is planted in this build. tests/planted builds one that has them: \
                     RUSTFLAGS=\"--cfg edgefleet_planted\" cargo run --profile rehearsal --target-dir target/planted \
                     -p edgefleet-sim -- planted";

/// Characters of a broken rule that are shown.
const SHOWN: usize = 90;

/// Plants mistakes, one after the other, and says with which seed each is found.
#[derive(Debug, clap::Args)]
pub struct Planted {
    /// Seeds within which each has to be found, from the first.
    #[arg(long, default_value_t = 1000)]
    seeds: u64,
    /// One of them only, by its name or number.
    #[arg(long, conflicts_with = "clean")]
    bug: Option<String>,
    /// Clusters.
    #[arg(long, default_value_t = 8)]
    clusters: usize,
    /// Days.
    #[arg(long, default_value_t = 1)]
    days: u32,
    /// A scenario's name, or a file.
    #[arg(long, default_value = "swarm")]
    scenario: String,
    /// Runs the seeds without a mistake: nothing may be found.
    #[arg(long)]
    clean: bool,
}

/// A run in which a rule was broken.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Broken {
    seed: u64,
    rule: String,
}

impl Planted {
    /// Runs what is asked for. Whether all mistakes were found; or, without one, none.
    ///
    /// # Errors
    /// When it cannot be run.
    pub fn run(&self, print: fn(&str)) -> Result<bool> {
        let Self { clusters, days, .. } = *self;
        let fleet = Fleet { scenario: self.scenario.clone(), clusters, days, without: BTreeSet::new() };
        let scenario = fleet.scenario()?;
        if !self.clean && !cfg!(edgefleet_planted) {
            bail!(BUILD);
        }
        // A run that ends in a panic has found something too: it is told as a rule that was broken.
        let hook = panic::take_hook();
        panic::set_hook(Box::new(|_| ()));
        let ended = if self.clean { Ok(self.without(&scenario, print)) } else { self.each(&scenario, print) };
        panic::set_hook(hook);
        ended
    }

    fn without(&self, scenario: &Scenario, print: fn(&str)) -> bool {
        let broken = search(scenario, 1..self.seeds.saturating_add(1), false);
        for Broken { seed, rule } in &broken {
            print(&format!("seed {seed}: {rule}"));
        }
        let clean = self.seeds - broken.len() as u64;
        print(&format!("{clean} of {} seeds of {} raised nothing", self.seeds, self.about()));
        broken.is_empty()
    }

    fn each(&self, scenario: &Scenario, print: fn(&str)) -> Result<bool> {
        let bugs = match &self.bug {
            Some(name) => vec![named(name)?],
            None => Bug::ALL.to_vec(),
        };
        print("| | mistake | what it is | seeds | broken rule |\n| --- | --- | --- | --- | --- |");
        let mut missed = Vec::new();
        for bug in &bugs {
            plant(Some(*bug));
            let first = search(scenario, 1..self.seeds.saturating_add(1), true).into_iter().next();
            plant(None);
            let (seeds, rule) = match first {
                Some(Broken { seed, rule }) => (seed.to_string(), rule.chars().take(SHOWN).collect()),
                None => {
                    missed.push(format!("{bug:?}"));
                    (format!("not in {}", self.seeds), String::new())
                }
            };
            print(&format!("| {} | `{bug:?}` | {} | {seeds} | {rule} |", bug.number(), bug.about()));
        }
        let found = bugs.len() - missed.len();
        print(&format!("\n{found} of {} mistakes were found in {}", bugs.len(), self.about()));
        if !missed.is_empty() {
            print(&format!("not found: {}", missed.join(", ")));
        }
        Ok(missed.is_empty())
    }

    fn about(&self) -> String {
        let Self { scenario, clusters, days, .. } = self;
        format!("{scenario} with {clusters} clusters and {days} days")
    }
}

fn named(name: &str) -> Result<Bug> {
    let is_meant =
        |bug: &&Bug| format!("{bug:?}").eq_ignore_ascii_case(name) || bug.number().to_string() == name;
    Bug::ALL.iter().find(is_meant).copied().with_context(|| format!("no mistake is called {name}"))
}

fn plant(bug: Option<Bug>) {
    #[cfg(edgefleet_planted)]
    Bug::plant(bug);
    #[cfg(not(edgefleet_planted))]
    let _nothing_to_plant = bug;
}

/// Runs with which a rule is broken, in the order of their seeds; if `first`, nothing behind the first counts. Every seed
/// before it is run whoever runs it, so that the answer is always the same.
fn search(scenario: &Scenario, seeds: Range<u64>, first: bool) -> Vec<Broken> {
    let (next, end) = (AtomicU64::new(seeds.start), AtomicU64::new(seeds.end));
    let found = Mutex::new(Vec::new());
    thread::scope(|threads| {
        for _ in 0..thread::available_parallelism().map_or(1, NonZero::get) {
            threads.spawn(|| {
                loop {
                    let seed = next.fetch_add(1, Ordering::Relaxed);
                    if seed >= end.load(Ordering::Relaxed) {
                        return;
                    }
                    let Some(rule) = broken_rule(scenario.clone(), seed) else { continue };
                    if first {
                        end.fetch_min(seed, Ordering::Relaxed);
                    }
                    found.lock().expect("nobody panics with it").push(Broken { seed, rule });
                }
            });
        }
    });
    let mut found = found.into_inner().expect("nobody panics with it");
    found.sort();
    found
}

/// The rule that is broken in a run, if one is.
fn broken_rule(scenario: Scenario, seed: u64) -> Option<String> {
    match rehearse(scenario, seed, None, |_, _| ()) {
        Ok(ended) => ended.err().map(|violation| violation.what),
        Err(error) => Some(format!("there is no fleet: {error:#}")),
    }
}
