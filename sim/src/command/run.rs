//! `edgefleet-sim run`.

use std::{
    fs::File,
    io::{BufWriter, Write},
    path::PathBuf,
};

use anyhow::{Context as _, Result};
use edgefleet_sim::{
    html::Page,
    rehearsal::{Fleet, rehearse},
    report::{Cost, Report},
    scenario::Scenario,
};

use super::{fleet, memory, print, progress::Progress};

#[derive(clap::Args)]
pub(crate) struct Run {
    #[command(flatten)]
    fleet: fleet::Arguments,
    /// Decides everything else: the same seed gives the same run.
    #[arg(long, default_value_t = 1)]
    seed: u64,
    /// Runs so many seeds, one after the other, from the first.
    #[arg(long, default_value_t = 1)]
    seeds: u64,
    /// Writes everything that happens to a file.
    #[arg(long)]
    trace: Option<PathBuf>,
    /// Writes a page with plots to a file: how the fleet was over time.
    #[arg(long, conflicts_with = "seeds")]
    html: Option<PathBuf>,
}

impl Run {
    /// Whether no rule was broken.
    pub(crate) fn all(&self) -> Result<bool> {
        let fleet = self.fleet.fleet()?;
        let scenario = fleet.scenario()?;
        for seed in self.seed..self.seed.saturating_add(self.seeds) {
            if !self.one(&fleet, &scenario, seed)? {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn one(&self, fleet: &Fleet, scenario: &Scenario, seed: u64) -> Result<bool> {
        let mut trace =
            self.trace.as_ref().map(|path| File::create(path).with_context(|| path.display().to_string()));
        let mut trace = trace.take().transpose()?.map(BufWriter::new);
        let trace = trace.as_mut().map(|trace| trace as &mut dyn Write);
        memory::forget_most();
        let before = memory::resident();
        let mut progress = Progress::of_run();
        let ended = rehearse(scenario.clone(), seed, trace, |at, end| progress.at(at, end))?;
        let cost = Cost {
            took: progress.ends(),
            before: before.map_or(0, |(now, _)| now),
            peak: memory::resident().map(|(_, most)| most),
        };
        match ended {
            Ok(report) => {
                print(&format!("seed {seed}: no rule was broken\n{}", report.table(&cost)));
                self.page(fleet, scenario, seed, &report, &cost)?;
                Ok(true)
            }
            Err(violation) => {
                print(&format!(
                    "{violation}\nseed {seed}: a rule was broken. Again: {}",
                    fleet.command(seed)
                ));
                Ok(false)
            }
        }
    }

    fn page(
        &self,
        fleet: &Fleet,
        scenario: &Scenario,
        seed: u64,
        report: &Report,
        cost: &Cost,
    ) -> Result<()> {
        let Some(file) = &self.html else { return Ok(()) };
        let command = fleet.command(seed);
        let page =
            Page { scenario: &fleet.scenario, about: &scenario.about, command: &command, report, cost };
        std::fs::write(file, page.write()?).with_context(|| format!("write {}", file.display()))?;
        print(&format!("what it was like over time: {}", file.display()));
        Ok(())
    }
}
