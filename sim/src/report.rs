//! What a run was like, in figures.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use protocol::ids::Digest;

/// Messages of one direction.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Traffic {
    /// How many.
    pub messages: u64,
    /// Their payloads, in bytes.
    pub bytes: u64,
}

impl Traffic {
    /// One more.
    pub fn count(&mut self, len: usize) {
        self.messages += 1;
        self.bytes += len as u64;
    }
}

/// A run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Report {
    /// Clusters.
    pub clusters: usize,
    /// Virtual time.
    pub simulated: Duration,
    /// Things that happened.
    pub events: u64,
    /// Changes that an operator made.
    pub changes: u64,
    /// From each change until people saw that a cluster runs it: one time for each cluster that came so far before the
    /// next change.
    pub converged: Vec<Duration>,
    /// From clusters to the hub.
    pub up: Traffic,
    /// From the hub to clusters.
    pub down: Traffic,
    /// Requests to API servers.
    pub requests: u64,
    /// Transactions of journals.
    pub syncs: u64,
    /// Starts of agents.
    pub starts: u64,
    /// What went wrong, and how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// Digest of all that happened: the same for the same seed.
    pub trace: Digest,
}

impl Default for Report {
    fn default() -> Self {
        Self {
            clusters: 0,
            simulated: Duration::ZERO,
            events: 0,
            changes: 0,
            converged: Vec::new(),
            up: Traffic::default(),
            down: Traffic::default(),
            requests: 0,
            syncs: 0,
            starts: 0,
            faults: BTreeMap::new(),
            trace: Digest::of(b""),
        }
    }
}

impl Report {
    /// Something went wrong.
    pub fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    /// As tables for people; `took` is the time that the run took.
    pub fn table(&self, took: Duration) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        let days = self.simulated.as_secs_f64() / 86_400.0;
        let each = |count: u64| format!("{:.1}", count as f64 / self.clusters as f64 / days);
        let mut row = |what: &str, figure: String| {
            table.add_row([what.to_owned(), figure]);
        };
        row("clusters", self.clusters.to_string());
        row("virtual time", format!("{days:.1} days"));
        row("took", format!("{:.1} s", took.as_secs_f64()));
        let speed = self.simulated.as_secs_f64() / took.as_secs_f64().max(1e-9);
        row("faster than real time", format!("{speed:.0} times"));
        row("events", self.events.to_string());
        row("changes", self.changes.to_string());
        row("seen to run what was changed", self.converged.len().to_string());
        let mut sorted = self.converged.clone();
        sorted.sort_unstable();
        for (name, parts) in [("p50", 500), ("p90", 900), ("p99", 990), ("longest", 1000)] {
            let index = (sorted.len() * parts / 1000).min(sorted.len().saturating_sub(1));
            let time =
                sorted.get(index).map_or("-".to_owned(), |time| format!("{:.1} s", time.as_secs_f64()));
            row(&format!("  after, {name}"), time);
        }
        row("bytes up, of a cluster a day", each(self.up.bytes));
        row("bytes down, of a cluster a day", each(self.down.bytes));
        row("messages up, of a cluster a day", each(self.up.messages));
        row("messages down, of a cluster a day", each(self.down.messages));
        row("requests, of a cluster a day", each(self.requests));
        row("transactions, of a cluster a day", each(self.syncs));
        row("starts of agents", self.starts.to_string());
        for (what, count) in &self.faults {
            row(what, count.to_string());
        }
        row("trace", self.trace.short());
        if let Some(figures) = table.column_mut(1) {
            figures.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }
}
