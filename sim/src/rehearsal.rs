//! One run from its beginning to its end, and the words that give it again.

use std::{
    any::Any,
    collections::BTreeSet,
    fmt,
    io::Write,
    panic::{AssertUnwindSafe, catch_unwind},
    time::Duration,
};

use anyhow::Result;
use serde::{Deserialize, Serialize};

use crate::{
    happening::Violation,
    report::Report,
    scenario::Scenario,
    world::{Plan, World},
};

/// A fleet to rehearse, as one says it on a command line.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fleet {
    /// The scenario's name, or its file.
    pub scenario: String,
    /// How many clusters.
    pub clusters: usize,
    /// For how many days.
    pub days: u32,
    /// Faults of the scenario that do not happen.
    pub without: BTreeSet<String>,
}

impl Fleet {
    /// The scenario, as it is changed.
    ///
    /// # Errors
    /// When there is none, or it makes no sense so.
    pub fn scenario(&self) -> Result<Scenario> {
        let mut scenario = Scenario::read(&self.scenario)?;
        (scenario.clusters, scenario.days) = (self.clusters, self.days);
        // A small fleet stands in fewer regions.
        scenario.regions = scenario.regions.min(self.clusters.max(1));
        scenario.faults = scenario.faults.without(&self.without)?;
        scenario.check()?;
        Ok(scenario)
    }

    /// The command that runs it.
    pub fn command(&self, seed: u64) -> String {
        format!("edgefleet-sim run {self} --seed {seed}")
    }
}

impl fmt::Display for Fleet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { scenario, clusters, days, without } = self;
        write!(f, "--scenario {scenario} --clusters {clusters} --days {days}")?;
        if without.is_empty() {
            return Ok(());
        }
        let without: Vec<&str> = without.iter().map(String::as_str).collect();
        write!(f, " --without {}", without.join(","))
    }
}

/// How a run ended: a report, or the first rule that was broken.
pub type Ended = Result<Report, Box<Violation>>;

/// Runs a scenario. Events are written to `trace`, if it is given; `progress` is told the time now and then, and the
/// end. That nothing panics is a rule too.
///
/// # Errors
/// When the fleet cannot be made.
pub fn rehearse(
    scenario: Scenario,
    seed: u64,
    trace: Option<&mut dyn Write>,
    mut progress: impl FnMut(Duration, Duration),
) -> Result<Ended> {
    let world = World::new(Plan { scenario, seed }, trace)?;
    let mut last = Duration::ZERO;
    let ended = catch_unwind(AssertUnwindSafe(|| {
        world.run(|at, end| {
            last = at;
            progress(at, end);
        })
    }));
    Ok(ended.unwrap_or_else(|panic| {
        let what = format!("it panics: {}", said(&*panic));
        Err(Box::new(Violation { at: last, what, last: Vec::new() }))
    }))
}

fn said(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    text.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("it does not say why")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fleet_is_what_its_command_says() {
        let without = ["cut", "late"].map(str::to_owned).into();
        let fleet = Fleet { scenario: "swarm".to_owned(), clusters: 3, days: 1, without };
        let command = fleet.command(7);
        assert_eq!(
            command,
            "edgefleet-sim run --scenario swarm --clusters 3 --days 1 --without cut,late --seed 7"
        );
        let scenario = fleet.scenario().unwrap();
        assert_eq!((scenario.clusters, scenario.days, scenario.regions), (3, 1, 3));
        assert_eq!((scenario.faults.late, scenario.faults.cut_every), (0, None));
        assert!(Fleet { clusters: 0, ..fleet }.scenario().is_err());
    }

    #[test]
    fn a_panic_breaks_a_rule() {
        let scenario = Fleet { scenario: "calm".to_owned(), clusters: 1, days: 4, without: BTreeSet::new() };
        let ended = rehearse(scenario.scenario().unwrap(), 1, None, |_, _| panic!("on purpose")).unwrap();
        assert_eq!(ended.err().map(|violation| violation.what), Some("it panics: on purpose".to_owned()));
    }
}
