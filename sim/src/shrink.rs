//! Makes a run that breaks a rule smaller, so that somebody can look at it: fewer clusters, fewer days, fewer faults. What to
//! try next is decided here; whether the rule is still broken is asked.

use std::{collections::BTreeSet, time::Duration};

use crate::rehearsal::Fleet;

const DAY: u64 = 24 * 60 * 60;

/// A run that may be smaller than another.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Candidate {
    /// The fleet.
    pub fleet: Fleet,
    /// Its seed. In another fleet it decides other things, so that some seeds after it are tried too.
    pub seed: u64,
}

/// The search.
#[derive(Debug)]
pub struct Search<F> {
    best: Candidate,
    /// Faults that happen in the smallest so far.
    faults: Vec<String>,
    /// Seeds that are tried of each smaller fleet.
    seeds: u64,
    /// Runs that are left.
    budget: u32,
    /// When a run breaks the same rule, if it does.
    broken: F,
}

impl<F: FnMut(&Candidate) -> Option<Duration>> Search<F> {
    /// Looks for smaller runs than one in which `faults` happen, in at most `budget` runs. `broken` says when a run breaks
    /// the same rule, if it does.
    pub fn new(begin: Candidate, faults: BTreeSet<String>, seeds: u64, budget: u32, broken: F) -> Self {
        Self { best: begin, faults: faults.into_iter().collect(), seeds: seeds.max(1), budget, broken }
    }

    /// The smallest that it finds, and how many runs it made.
    pub fn run(mut self, broken_at: Duration) -> (Candidate, u32) {
        let budget = self.budget;
        self.fewer_days_than(broken_at);
        loop {
            let before = self.best.clone();
            self.fewer_clusters();
            self.fewer_days();
            self.fewer_faults();
            if self.best == before || self.budget == 0 {
                return (self.best, budget - self.budget);
            }
        }
    }

    /// Takes a smaller fleet, if it breaks the rule as well.
    fn takes(&mut self, fleet: &Fleet) -> bool {
        for seed in self.best.seed..self.best.seed.saturating_add(self.seeds) {
            if self.budget == 0 {
                return false;
            }
            self.budget -= 1;
            let candidate = Candidate { fleet: fleet.clone(), seed };
            if let Some(at) = (self.broken)(&candidate) {
                self.best = candidate;
                self.fewer_days_than(at);
                return true;
            }
        }
        false
    }

    /// What happens before the end does not depend on when that is.
    fn fewer_days_than(&mut self, broken_at: Duration) {
        let days = u32::try_from(broken_at.as_secs().div_ceil(DAY)).unwrap_or(u32::MAX).max(1);
        if days < self.best.fleet.days && self.budget > 0 {
            let fleet = Fleet { days, ..self.best.fleet.clone() };
            self.budget -= 1;
            let candidate = Candidate { fleet, seed: self.best.seed };
            if (self.broken)(&candidate).is_some() {
                self.best = candidate;
            }
        }
    }

    fn fewer_clusters(&mut self) {
        let mut step = self.best.fleet.clusters / 2;
        while step > 0 {
            let clusters = self.best.fleet.clusters - step;
            if self.takes(&Fleet { clusters, ..self.best.fleet.clone() }) {
                step = step.min(self.best.fleet.clusters / 2);
            } else {
                step /= 2;
            }
        }
    }

    fn fewer_days(&mut self) {
        let mut step = self.best.fleet.days / 2;
        while step > 0 {
            let days = self.best.fleet.days - step;
            if self.takes(&Fleet { days, ..self.best.fleet.clone() }) {
                step = step.min(self.best.fleet.days / 2);
            } else {
                step /= 2;
            }
        }
    }

    /// Leaves out half of the faults, then quarters, at last each alone.
    fn fewer_faults(&mut self) {
        let mut size = self.faults.len();
        while size > 0 {
            let mut from = 0;
            while from < self.faults.len() {
                let to = (from + size).min(self.faults.len());
                let mut fleet = self.best.fleet.clone();
                fleet.without.extend(self.faults[from..to].iter().cloned());
                if self.takes(&fleet) {
                    self.faults.drain(from..to);
                } else {
                    from = to;
                }
            }
            size = if size == 1 { 0 } else { size.min(self.faults.len()).div_ceil(2) };
        }
    }
}

/// What a violation says but for numbers and ids: two that are equal so break the same rule.
pub fn rule(what: &str) -> String {
    let mut rule = String::new();
    for word in what.split_inclusive(|letter: char| !letter.is_ascii_alphanumeric()) {
        let (name, rest) = match word.char_indices().next_back() {
            Some((at, last)) if !last.is_ascii_alphanumeric() => word.split_at(at),
            Some(_) | None => (word, ""),
        };
        rule.push_str(if name.contains(|letter: char| letter.is_ascii_digit()) { "#" } else { name });
        rule.push_str(rest);
    }
    rule
}

#[cfg(test)]
mod tests {
    use super::*;

    fn names(names: &[&str]) -> BTreeSet<String> {
        names.iter().map(|name| (*name).to_owned()).collect()
    }

    fn begin() -> Candidate {
        let fleet = Fleet { scenario: "swarm".to_owned(), clusters: 100, days: 30, without: BTreeSet::new() };
        Candidate { fleet, seed: 7 }
    }

    const FAULTS: [&str; 9] = ["a", "b", "c", "d", "e", "f", "g", "h", "i"];

    /// It needs 13 clusters, 3 days, and two of the faults.
    fn needs(candidate: &Candidate) -> Option<Duration> {
        let Fleet { clusters, days, without, .. } = &candidate.fleet;
        let is_broken = *clusters >= 13 && *days >= 3 && without.is_disjoint(&names(&["c", "h"]));
        is_broken.then(|| Duration::from_secs(2 * DAY + 1))
    }

    #[test]
    fn nothing_is_left_that_is_not_needed() {
        let mut runs = 0;
        let search = Search::new(begin(), names(&FAULTS), 1, 1000, |candidate: &Candidate| {
            runs += 1;
            needs(candidate)
        });
        let (found, counted) = search.run(Duration::from_secs(20 * DAY));
        assert_eq!((found.fleet.clusters, found.fleet.days, found.seed), (13, 3, 7));
        assert_eq!(found.fleet.without, names(&["a", "b", "d", "e", "f", "g", "i"]));
        assert_eq!(counted, runs);
        assert!(runs < 80, "{runs} runs");
    }

    #[test]
    fn other_seeds_are_tried_and_the_budget_is_kept() {
        // Only every third seed breaks it.
        let rare = |candidate: &Candidate| needs(candidate).filter(|_| candidate.seed % 3 == 1);
        let (found, _) =
            Search::new(begin(), names(&FAULTS), 1, 1000, rare).run(Duration::from_secs(2 * DAY + 1));
        assert_eq!(found.fleet.clusters, 13);
        let rarer = |candidate: &Candidate| {
            let is_begin = candidate.fleet.clusters == 100;
            needs(candidate).filter(|_| is_begin || candidate.seed.is_multiple_of(3))
        };
        let (alone, _) =
            Search::new(begin(), BTreeSet::new(), 1, 1000, rarer).run(Duration::from_secs(25 * DAY));
        assert_eq!(alone.fleet.clusters, 100);
        let (found, _) =
            Search::new(begin(), BTreeSet::new(), 3, 1000, rarer).run(Duration::from_secs(25 * DAY));
        assert_eq!((found.fleet.clusters, found.fleet.days, found.seed % 3), (13, 3, 0));
        for budget in [0, 1, 5] {
            let (found, runs) =
                Search::new(begin(), names(&FAULTS), 3, budget, needs).run(Duration::from_secs(20 * DAY));
            assert_eq!(runs, budget);
            assert!(needs(&found).is_some());
        }
    }

    #[test]
    fn a_rule_is_known_again_whatever_the_numbers() {
        let one = rule("tower-000003 was not told to run 4f0a12bc, 21600s after the last fault");
        assert_eq!(one, rule("tower-000011 was not told to run 99ab00c1, 3600s after the last fault"));
        assert_eq!(one, "tower-# was not told to run #, # after the last fault");
        assert_ne!(one, rule("tower-000003 lacks ConfigMap radio/gateway-settings"));
        assert_ne!(rule("lacks a"), rule("lacks b"));
    }
}
