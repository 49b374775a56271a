//! What a run was like, in figures.

use std::{collections::BTreeMap, time::Duration};

use comfy_table::{CellAlignment, Table, presets::NOTHING};
use edge_agent::cluster::{ClusterError, sim::Output};
use protocol::{
    ids::Digest,
    together::Together,
    topics::{Downward, Upward},
};

use crate::{hub::Hub, scenario::Scenario, timeline::Timeline};

/// Seconds of a day.
const DAY: f64 = 86_400.0;

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

/// Signatures of messages. What an agent verifies again when it starts from its journal is not among them, nor are those of
/// releases, which travel as content.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct Signatures {
    /// Made by the hub, of what it sent.
    pub by_hub: u64,
    /// Made by clusters.
    pub by_clusters: u64,
    /// Checked by the hub.
    pub checked_by_hub: u64,
    /// Checked by clusters.
    pub checked_by_clusters: u64,
    /// What the last acknowledgements shared.
    together: Vec<u8>,
}

/// A change that an operator made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When, since the beginning.
    pub at: Duration,
    /// Of which of the fleet's applications.
    pub application: usize,
    /// Until people saw that a cluster runs it: one time for each cluster that came so far before the next change.
    pub took: Vec<Duration>,
}

/// What a run cost the machine.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    /// The time that it took.
    pub took: Duration,
    /// The most memory that the process had, in bytes, where the system says so.
    pub peak: Option<u64>,
    /// What it had before there was a fleet.
    pub before: u64,
}

/// Figures under a title.
pub struct Section {
    /// What they are about.
    pub title: &'static str,
    /// What is counted, and the figure.
    pub rows: Vec<(String, String)>,
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
    pub changes: Vec<Change>,
    /// From clusters to the hub.
    pub up: Traffic,
    /// From the hub to clusters.
    pub down: Traffic,
    /// Signatures.
    pub signatures: Signatures,
    /// Requests to API servers.
    pub requests: u64,
    /// Those that failed, which an agent tries again.
    pub requests_failed: u64,
    /// Connections of agents.
    pub connections: u64,
    /// Transactions of journals.
    pub syncs: u64,
    /// Starts of agents.
    pub starts: u64,
    /// What went wrong, and how often.
    pub faults: BTreeMap<&'static str, u64>,
    /// How the fleet was over time.
    pub timeline: Timeline,
    /// Digest of all that happened: the same for the same seed.
    pub trace: Digest,
}

impl Report {
    /// That of a run that begins.
    pub fn new(scenario: &Scenario) -> Self {
        Self {
            clusters: scenario.clusters,
            simulated: Duration::ZERO,
            events: 0,
            changes: Vec::new(),
            up: Traffic::default(),
            down: Traffic::default(),
            signatures: Signatures::default(),
            requests: 0,
            requests_failed: 0,
            connections: 0,
            syncs: 0,
            starts: 0,
            faults: BTreeMap::new(),
            timeline: Timeline::new(scenario.clusters, scenario.lasts()),
            trace: Digest::of(b""),
        }
    }

    /// Something went wrong.
    pub fn fault(&mut self, what: &'static str) {
        *self.faults.entry(what).or_default() += 1;
    }

    /// Time goes on.
    pub fn pass(&mut self, at: Duration, hub: &Hub) {
        self.timeline.pass(at, hub, self.up, self.down);
    }

    /// An operator changes an application.
    pub fn changed(&mut self, at: Duration, application: usize) {
        self.changes.push(Change { at, application, took: Vec::new() });
    }

    /// People see that a cluster runs what the last change of an application was to.
    pub fn reached(&mut self, application: usize, took: Duration) {
        if let Some(change) = self.changes.iter_mut().rev().find(|change| change.application == application) {
            change.took.push(took);
        }
    }

    /// A cluster says something.
    pub fn said(&mut self, topic: Upward, len: usize) {
        self.up.count(len);
        match topic {
            Upward::Hello | Upward::Want | Upward::Report => self.signatures.by_clusters += 1,
            // What it says again is what the hub once signed.
            Upward::Held => {}
        }
    }

    /// The hub hears something, and checks it.
    pub fn heard(&mut self) {
        self.signatures.checked_by_hub += 1;
    }

    /// The hub sends something. A desired state may be sent again; those that are signed stand in the ledger.
    pub fn sent(&mut self, topic: Downward, bytes: &[u8]) {
        self.down.count(bytes.len());
        match topic {
            Downward::Head => self.signatures.by_hub += 1,
            Downward::Ack => {
                let together = Together::parse(bytes).ok().filter(|_| Together::is_meant(bytes));
                let is_shared = together.is_some_and(|together| {
                    let is_last = self.signatures.together == together.acks();
                    if !is_last {
                        self.signatures.together = together.acks().to_vec();
                    }
                    is_last
                });
                self.signatures.by_hub += u64::from(!is_shared);
            }
            Downward::Root | Downward::Desired | Downward::Blob | Downward::Ask => {}
        }
    }

    /// A cluster receives something, and checks it, unless it is a piece of content.
    pub fn received(&mut self, topic: Downward) {
        self.signatures.checked_by_clusters += u64::from(topic != Downward::Blob);
    }

    /// A cluster does something that it was to do: its API server may answer that a request failed. That there is no such
    /// object is an answer as good as any.
    pub fn answered(&mut self, output: &Output) {
        let has_failed = match output {
            Output::Answer { answer: Err(error), .. } => !matches!(error, ClusterError::NotFound { .. }),
            Output::Answer { answer: Ok(_), .. } | Output::Task(_) | Output::Event { .. } => false,
        };
        self.requests_failed += u64::from(has_failed);
    }

    /// Until people saw what was changed: of all changes and clusters, in order.
    pub fn converged(&self) -> Vec<Duration> {
        let mut times: Vec<Duration> = self.changes.iter().flat_map(|change| &change.took).copied().collect();
        times.sort_unstable();
        times
    }

    /// As tables for people.
    pub fn table(&self, cost: &Cost) -> String {
        let mut table = Table::new();
        table.load_style(NOTHING);
        for section in self.sections(cost) {
            table.add_row([section.title, ""]);
            for (what, figure) in section.rows {
                table.add_row([format!("  {what}"), figure]);
            }
        }
        if let Some(figures) = table.column_mut(1) {
            figures.set_cell_alignment(CellAlignment::Right);
        }
        table.to_string()
    }

    /// All figures.
    pub fn sections(&self, cost: &Cost) -> Vec<Section> {
        vec![self.fleet(cost), self.convergence(), self.traffic(), self.work(), self.survived()]
    }

    fn fleet(&self, cost: &Cost) -> Section {
        let speed = self.simulated.as_secs_f64() / cost.took.as_secs_f64().max(1e-9);
        let mut rows = vec![
            row("clusters", grouped(self.clusters as u64)),
            row("virtual time", format!("{:.1} days", self.days())),
            row("took", seconds(cost.took)),
            row("faster than real time", format!("{} times", grouped(speed as u64))),
        ];
        if let Some(peak) = cost.peak {
            let each = peak.saturating_sub(cost.before) / self.clusters.max(1) as u64;
            rows.push(row("peak memory of the process", format!("{:.1} MB", peak as f64 / 1e6)));
            rows.push(row("  of which for each cluster", format!("{:.1} KB", each as f64 / 1e3)));
        }
        rows.push(row("events", grouped(self.events)));
        rows.push(row("trace", self.trace.short()));
        Section { title: "the run", rows }
    }

    fn convergence(&self) -> Section {
        let times = self.converged();
        let mut rows = vec![
            row("changes", grouped(self.changes.len() as u64)),
            row("times that a cluster was seen to run one", grouped(times.len() as u64)),
        ];
        for (name, parts) in [("p50", 500), ("p90", 900), ("p99", 990), ("max", 1000)] {
            rows.push(row(
                &format!("  after, {name}"),
                quantile(&times, parts).map_or("-".to_owned(), seconds),
            ));
        }
        Section { title: "convergence", rows }
    }

    fn traffic(&self) -> Section {
        let rows = vec![
            row("bytes up", self.each(self.up.bytes)),
            row("bytes down", self.each(self.down.bytes)),
            row("messages up", self.each(self.up.messages)),
            row("messages down", self.each(self.down.messages)),
            row("requests to its API server", self.each(self.requests)),
            row("transactions of its journal", self.each(self.syncs)),
        ];
        Section { title: "of a cluster in a day", rows }
    }

    fn work(&self) -> Section {
        let again = self.connections.saturating_sub(self.clusters as u64);
        let rows = vec![
            row("signatures made by the hub", grouped(self.signatures.by_hub)),
            row("signatures made by clusters", grouped(self.signatures.by_clusters)),
            row("signatures checked by the hub", grouped(self.signatures.checked_by_hub)),
            row("signatures checked by clusters", grouped(self.signatures.checked_by_clusters)),
            row("requests tried again, after they failed", grouped(self.requests_failed)),
            row("connections made again", grouped(again)),
            row("starts of agents", grouped(self.starts)),
        ];
        Section { title: "work", rows }
    }

    fn survived(&self) -> Section {
        let all = row("all", grouped(self.faults.values().sum()));
        let each = self.faults.iter().map(|(what, count)| row(what, grouped(*count)));
        Section { title: "faults survived", rows: std::iter::once(all).chain(each).collect() }
    }

    fn days(&self) -> f64 {
        self.simulated.as_secs_f64() / DAY
    }

    fn each(&self, count: u64) -> String {
        let each = count as f64 / self.clusters.max(1) as f64 / self.days();
        if each < 1000.0 { format!("{each:.1}") } else { grouped(each as u64) }
    }
}

/// The time that so many of a thousand do not exceed; `times` are in order.
pub fn quantile(times: &[Duration], parts: usize) -> Option<Duration> {
    let rank = (times.len() * parts).div_ceil(1000);
    times.get(rank.saturating_sub(1)).copied()
}

/// A number as people read it: `12,345`.
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() * 4 / 3);
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// A time in seconds, as people read it.
pub fn seconds(time: Duration) -> String {
    if time.as_secs() < 1000 {
        format!("{:.1} s", time.as_secs_f64())
    } else {
        format!("{} s", grouped(time.as_secs()))
    }
}

fn row(what: &str, figure: String) -> (String, String) {
    (what.to_owned(), figure)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_as_people_read_them() {
        for (number, text) in
            [(0, "0"), (999, "999"), (1000, "1,000"), (12_345, "12,345"), (1_234_567, "1,234,567")]
        {
            assert_eq!(grouped(number), text);
        }
        let times: Vec<Duration> = (1..=200).map(Duration::from_secs).collect();
        for (parts, second) in [(500, 100), (900, 180), (990, 198), (1000, 200)] {
            assert_eq!(quantile(&times, parts), Some(Duration::from_secs(second)));
        }
        assert_eq!(quantile(&times[..1], 500), Some(Duration::from_secs(1)));
        assert_eq!(quantile(&[], 500), None);
    }
}
