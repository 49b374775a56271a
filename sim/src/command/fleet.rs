//! What all commands that rehearse are told.

use std::collections::BTreeSet;

use anyhow::Result;
use edgefleet_sim::{rehearsal::Fleet, scenario::Scenario};

#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// A scenario's name, or a file.
    #[arg(long, default_value = "swarm")]
    scenario: String,
    /// Clusters, if not as many as the scenario says.
    #[arg(long)]
    clusters: Option<usize>,
    /// Days, if not as many as the scenario says.
    #[arg(long)]
    days: Option<u32>,
    /// Faults that do not happen, by their names in the scenario without -every and -for: cut,late,hub-lost
    #[arg(long, value_delimiter = ',', value_name = "FAULTS")]
    without: Vec<String>,
}

impl Arguments {
    pub(crate) fn fleet(&self) -> Result<Fleet> {
        let scenario = Scenario::read(&self.scenario)?;
        let without = self.without.iter().cloned().collect::<BTreeSet<_>>();
        Ok(Fleet {
            scenario: self.scenario.clone(),
            clusters: self.clusters.unwrap_or(scenario.clusters),
            days: self.days.unwrap_or(scenario.days),
            without,
        })
    }
}
