//! What a live fleet was like, in figures.

use std::time::Duration;

use comfy_table::{CellAlignment, Table, presets::NOTHING};

use super::tally::Spread;

/// One phase.
#[derive(Debug)]
pub(super) struct Phase {
    pub(super) name: &'static str,
    /// Until all that it is about was done and the hub showed it.
    pub(super) took: Duration,
    /// Reports that agents sent meanwhile.
    pub(super) reports: u64,
    /// Processor time of the hub, of all of its lives.
    pub(super) hub: Duration,
    /// Processor time of the agents' processes.
    pub(super) agents: Duration,
    /// From when until when, and how these times are spread over the clusters.
    pub(super) times: Vec<(&'static str, Spread)>,
}

/// Memory of one side, in bytes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Memory {
    /// Before the first cluster joined.
    pub(super) empty: u64,
    /// With all connected.
    pub(super) full: u64,
}

/// A whole run.
#[derive(Debug)]
pub(super) struct Report {
    pub(super) clusters: usize,
    /// Processes of agents.
    pub(super) processes: usize,
    pub(super) phases: Vec<Phase>,
    pub(super) hub: Memory,
    pub(super) agents: Memory,
    /// What all agents keep on disk, in bytes.
    pub(super) disk: u64,
}

impl Report {
    /// As tables for people.
    pub(super) fn tables(&self) -> String {
        [self.times(), self.work(), self.memory()].join("\n\n")
    }

    fn times(&self) -> String {
        let mut table = table(&["phase", "time", "clusters", "p50", "p90", "p99", "longest"], 2);
        for phase in &self.phases {
            for (what, spread) in &phase.times {
                let Spread { count, p50, p90, p99, longest } = *spread;
                let mut row = vec![phase.name.to_owned(), (*what).to_owned(), count.to_string()];
                row.extend([p50, p90, p99, longest].map(seconds));
                table.add_row(row);
            }
        }
        table.to_string()
    }

    fn work(&self) -> String {
        let header = ["phase", "took", "reports", "reports a second", "hub's processor", "agents' processor"];
        let mut table = table(&header, 1);
        for phase in &self.phases {
            let rate = phase.reports as f64 / phase.took.as_secs_f64().max(1e-9);
            table.add_row([
                phase.name.to_owned(),
                seconds(phase.took),
                phase.reports.to_string(),
                format!("{rate:.1}"),
                seconds(phase.hub),
                seconds(phase.agents),
            ]);
        }
        table.to_string()
    }

    fn memory(&self) -> String {
        let header = ["side", "processes", "connections", "resident", "of a connection", "more than before"];
        let mut table = table(&header, 1);
        for (side, processes, Memory { empty, full }) in
            [("hub", 1, self.hub), ("agents", self.processes, self.agents)]
        {
            let each = |bytes: u64| kilobytes(bytes as f64 / self.clusters as f64);
            table.add_row([
                side.to_owned(),
                processes.to_string(),
                self.clusters.to_string(),
                format!("{:.1} MiB", full as f64 / f64::from(1 << 20)),
                each(full),
                each(full.saturating_sub(empty)),
            ]);
        }
        let disk = kilobytes(self.disk as f64 / self.clusters as f64);
        format!("{table}\n\n on the disk of an agent: {disk}")
    }
}

fn table(header: &[&str], left: usize) -> Table {
    let mut table = Table::new();
    table.load_style(NOTHING);
    table.set_header(header.to_vec());
    for index in left..header.len() {
        if let Some(column) = table.column_mut(index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table
}

fn seconds(time: Duration) -> String {
    format!("{:.2} s", time.as_secs_f64())
}

fn kilobytes(bytes: f64) -> String {
    format!("{:.1} KiB", bytes / 1024.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_stand_in_their_columns() {
        let seconds = Duration::from_secs;
        let spread =
            Spread { count: 4, p50: seconds(1), p90: seconds(2), p99: seconds(3), longest: seconds(4) };
        let phase = Phase {
            name: "change",
            took: seconds(5),
            reports: 12,
            hub: seconds(6),
            agents: seconds(7),
            times: vec![("until it has it", spread)],
        };
        let report = Report {
            clusters: 4,
            processes: 2,
            phases: vec![phase],
            hub: Memory { empty: 1 << 20, full: 2 << 20 },
            agents: Memory { empty: 4 << 20, full: 8 << 20 },
            disk: 8 << 10,
        };
        let tables = report.tables();
        let expected = [
            "change until it has it 4 1.00 s 2.00 s 3.00 s 4.00 s",
            "change 5.00 s 12 2.4 6.00 s 7.00 s",
            "hub 1 4 2.0 MiB 512.0 KiB 256.0 KiB",
            "agents 2 4 8.0 MiB 2048.0 KiB 1024.0 KiB",
            "on the disk of an agent: 2.0 KiB",
        ];
        let flat: Vec<String> =
            tables.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
        for line in expected {
            assert!(flat.iter().any(|found| found == line), "{line}: {tables}");
        }
    }
}
