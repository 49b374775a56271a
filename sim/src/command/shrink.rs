//! `edgefleet-sim shrink`.

use std::time::Duration;

use anyhow::Result;
use edgefleet_sim::{
    happening::Violation,
    rehearsal::rehearse,
    shrink::{Candidate, Search, rule},
};

use super::{fleet, print, progress::Progress, say};

#[derive(clap::Args)]
pub(crate) struct Shrink {
    #[command(flatten)]
    fleet: fleet::Arguments,
    /// The seed that breaks a rule.
    #[arg(long)]
    seed: u64,
    /// Seeds that are tried of each smaller fleet, since a seed decides other things there.
    #[arg(long, default_value_t = 3)]
    tries: u64,
    /// Runs that may be made.
    #[arg(long, default_value_t = 200)]
    runs: u32,
}

impl Shrink {
    /// Whether no rule was broken.
    pub(crate) fn all(&self) -> Result<bool> {
        let begin = Candidate { fleet: self.fleet.fleet()?, seed: self.seed };
        let faults = begin.fleet.scenario()?.faults.happening();
        let Some(violation) = breaks(&begin)? else {
            print(&format!("seed {}: no rule was broken, so there is nothing to shrink", self.seed));
            return Ok(true);
        };
        let wanted = rule(&violation.what);
        print(&format!("{}\nto be kept: {wanted}\nin at most {} runs", violation.what, self.runs));
        let progress = Progress::new(self.runs.into());
        let (mut runs, mut problem, mut smallest) = (0, None, None);
        let broken = |candidate: &Candidate| -> Option<Duration> {
            runs += 1;
            let Candidate { fleet, seed } = candidate;
            progress.step(runs, format!("run {runs} of {}: {fleet} --seed {seed}", self.runs));
            let ended = breaks(candidate);
            let violation = ended.unwrap_or_else(|error| {
                problem = Some(error);
                None
            });
            let violation = violation.filter(|violation| rule(&violation.what) == wanted)?;
            progress.say(|| say(&format!("run {runs}: smaller: {}", fleet.command(*seed))));
            let at = violation.at;
            smallest = Some(violation);
            Some(at)
        };
        let search = Search::new(begin, faults, self.tries, self.runs, broken);
        let (found, runs) = search.run(violation.at);
        progress.ends();
        if let Some(problem) = problem {
            return Err(problem);
        }
        print(&format!(
            "{}\nafter {runs} runs, the smallest that breaks the rule: {}",
            smallest.unwrap_or(violation),
            found.fleet.command(found.seed)
        ));
        Ok(false)
    }
}

/// How a run breaks a rule, if it does. One that makes no sense breaks none.
fn breaks(candidate: &Candidate) -> Result<Option<Box<Violation>>> {
    let Ok(scenario) = candidate.fleet.scenario() else { return Ok(None) };
    Ok(rehearse(scenario, candidate.seed, None, |_, _| ())?.err())
}
