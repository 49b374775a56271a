//! `edgefleet-sim run`.

use std::{
    fs::File,
    io::{BufWriter, IsTerminal as _, Write},
    path::PathBuf,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use edgefleet_sim::{
    happening::instant,
    scenario::Scenario,
    world::{Plan, World},
};

use super::print;

#[derive(clap::Args)]
pub(crate) struct Run {
    /// A scenario's name, or a file.
    #[arg(long, default_value = "swarm")]
    scenario: String,
    /// Decides everything else: the same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs so many seeds, one after the other, from the first.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Clusters, if not as many as the scenario says.
    #[arg(long)]
    clusters: Option<usize>,
    /// Days, if not as many as the scenario says.
    #[arg(long)]
    days: Option<u32>,
    /// Writes everything that happens to a file.
    #[arg(long)]
    trace: Option<PathBuf>,
}

impl Run {
    /// Whether no rule was broken.
    pub(crate) fn all(&self) -> Result<bool> {
        let mut scenario = Scenario::read(&self.scenario)?;
        scenario.clusters = self.clusters.unwrap_or(scenario.clusters);
        scenario.days = self.days.unwrap_or(scenario.days);
        scenario.check()?;
        for seed in self.seed..self.seed.saturating_add(self.seeds) {
            if !self.one(Plan { scenario: scenario.clone(), seed })? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    #[allow(clippy::disallowed_methods, reason = "how long a run takes is no part of it")]
    fn one(&self, plan: Plan) -> Result<bool> {
        let (clusters, days, seed) = (plan.scenario.clusters, plan.scenario.days, plan.seed);
        let mut trace =
            self.trace.as_ref().map(|path| File::create(path).with_context(|| path.display().to_string()));
        let mut trace = trace.take().transpose()?.map(BufWriter::new);
        let world = World::new(plan, trace.as_mut().map(|trace| trace as &mut dyn Write))?;
        let begin = Instant::now();
        let mut shown = begin;
        let is_watched = std::io::stderr().is_terminal();
        let ended = world.run(|at, end| {
            if is_watched && shown.elapsed() > Duration::from_millis(200) {
                shown = Instant::now();
                let speed = at.as_secs_f64() / begin.elapsed().as_secs_f64();
                progress(&format!(
                    "{} of {}, {speed:.0} times as fast as real time",
                    instant(at),
                    instant(end)
                ));
            }
        });
        if is_watched {
            progress("");
        }
        match ended {
            Ok(report) => {
                print(&format!("seed {seed}: no rule was broken\n{}", report.table(begin.elapsed())));
                Ok(true)
            }
            Err(violation) => {
                print(&format!("{violation}"));
                let scenario = &self.scenario;
                print(&format!(
                    "seed {seed}: a rule was broken. Again: edgefleet-sim run --scenario {scenario} --seed {seed} \
                     --clusters {clusters} --days {days}"
                ));
                Ok(false)
            }
        }
    }
}

#[allow(clippy::print_stderr, reason = "for whoever watches")]
fn progress(text: &str) {
    eprint!("\r\x1b[K{text}");
}
