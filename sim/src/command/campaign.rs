//! `edgefleet-sim campaign`.

use std::{
    path::PathBuf,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};
use edgefleet_sim::{
    campaign::{Campaign as Seeds, Found, State},
    rehearsal::{Ended, Fleet},
    report::grouped,
};
use signal_hook::{
    consts::{SIGINT, SIGTERM},
    flag,
};

use super::{fleet, print, progress::Progress, say};

/// What a program ends with that a signal ended at once.
const INTERRUPTED: i32 = 130;

#[derive(clap::Args)]
pub(crate) struct Campaign {
    #[command(flatten)]
    fleet: fleet::Arguments,
    /// For how long seeds are run.
    #[arg(long, default_value_t = 8.0)]
    hours: f64,
    /// How many seeds are run, all in all, if fewer than there is time for.
    #[arg(long)]
    seeds: Option<u64>,
    /// The first seed of a campaign that begins: 1, if nothing is said.
    #[arg(long)]
    from: Option<u64>,
    /// Where it is kept how far the campaign is.
    #[arg(long, default_value = "edgefleet-campaign.json")]
    state: PathBuf,
    /// How many seeds are run at once: as many as there are processors, if nothing is said.
    #[arg(long)]
    jobs: Option<usize>,
}

impl Campaign {
    /// Whether no rule was broken.
    #[allow(clippy::disallowed_methods, reason = "for how long seeds are run is no part of any run")]
    pub(crate) fn all(&self) -> Result<bool> {
        let fleet = self.fleet.fleet()?;
        let seeds = Seeds::open(&self.state, fleet.clone(), self.from)?;
        let hours = Duration::try_from_secs_f64(self.hours * 3600.0).context("--hours: give some")?;
        let (begin, stop) = (Instant::now(), stop()?);
        let begun = seeds.state().clone();
        let end = self.seeds.map_or(u64::MAX, |seeds| begun.from.saturating_add(seeds));
        let jobs = self.jobs.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
        print(&begins(&self.state.display().to_string(), &begun));
        let progress = Progress::new(self.seeds.unwrap_or(hours.as_secs()));
        let mut simulated = Duration::ZERO;
        let goes_on = |seed| seed < end && begin.elapsed() < hours && !stop.load(Ordering::Relaxed);
        let mut told = |state: &State, seed: u64, ended: &Ended| {
            match ended {
                Ok(report) => simulated += report.simulated,
                Err(violation) => {
                    progress
                        .say(|| print(&format!("{violation}\nseed {seed}: again: {}", fleet.command(seed))));
                }
            }
            let done = if self.seeds.is_some() { state.seeds() } else { begin.elapsed().as_secs() };
            progress.step(done, so_far(state, &begun, begin.elapsed()));
        };
        let ended = seeds.run(jobs, &goes_on, &mut told)?;
        let took = progress.ends();
        if stop.load(Ordering::Relaxed) {
            say(&format!("interrupted: the same command goes on from {}", self.state.display()));
        }
        print(&ends(&fleet, &ended, &begun, simulated, took));
        Ok(ended.found.is_empty())
    }
}

/// Set by the first signal, after which the runs under way end; the second ends the program.
fn stop() -> Result<Arc<AtomicBool>> {
    let stop = Arc::new(AtomicBool::new(false));
    for signal in [SIGINT, SIGTERM] {
        flag::register_conditional_shutdown(signal, INTERRUPTED, Arc::clone(&stop))
            .context("listen to signals")?;
        flag::register(signal, Arc::clone(&stop)).context("listen to signals")?;
    }
    Ok(stop)
}

fn begins(file: &str, state: &State) -> String {
    let State { fleet, from, next, .. } = state;
    match state.seeds() {
        0 => format!("{fleet}, from seed {from}; kept in {file}"),
        seeds => format!(
            "{fleet}, goes on from {file}: {} seeds were run from {from}, the next is {next}",
            grouped(seeds)
        ),
    }
}

fn so_far(state: &State, begun: &State, took: Duration) -> String {
    let seeds = state.seeds() - begun.seeds();
    let minutes = took.as_secs_f64().max(1.0) / 60.0;
    format!(
        "{} seeds, {:.1} a minute, {} broke a rule",
        grouped(state.seeds()),
        seeds as f64 / minutes,
        grouped(state.found.len() as u64)
    )
}

fn ends(fleet: &Fleet, state: &State, begun: &State, simulated: Duration, took: Duration) -> String {
    let again = |found: &Found| {
        format!("seed {}: {}\n  again: {}\n", found.seed, found.what, fleet.command(found.seed))
    };
    let mut found = state.found.clone();
    found.sort_by_key(|found| found.seed);
    let speed = simulated.as_secs_f64() / took.as_secs_f64().max(1e-9);
    format!(
        "{}{} ({:.1} years of a fleet's time in {:.1} hours now, {} times as fast as real time)",
        found.iter().map(again).collect::<String>(),
        so_far(state, begun, took),
        simulated.as_secs_f64() / (365.25 * 86_400.0),
        took.as_secs_f64() / 3600.0,
        grouped(speed as u64)
    )
}
