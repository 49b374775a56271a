//! What the agent may take, and what it took.

use comfy_table::{CellAlignment, Table, presets};

use super::procfs::Memory;

/// Largest static binary for aarch64. An update crosses links of 64 kbit/s: a compressed half of this takes
/// five minutes there.
const AARCH64_BINARY_BYTES: u64 = 4_000_000;

/// Most memory of an idle agent that owns [`IDLE_OBJECTS`]. The smallest towers have 512 MB, and k3s with its
/// pods leaves little of them.
const IDLE_RESIDENT_BYTES: u64 = 6_000_000;

/// Most memory at the peak of applying [`APPLIED_OBJECTS`]. An agent that the kernel kills here would be killed
/// again after every start.
const APPLYING_PEAK_BYTES: u64 = 10_000_000;

/// Most memory at the peak of applying prometheus-operator's bundle of 4.2 MB, the largest known to us: less than its
/// content as text and trees, so that it is never all in memory. Killed here, it would be killed again, too.
const LARGE_PEAK_BYTES: u64 = 24_000_000;

/// An agent has one thread; those that look up names have ended when it is idle.
const THREADS: u64 = 1;

/// Objects that the idle agent owns.
pub(crate) const IDLE_OBJECTS: usize = 50;

/// Objects in the bundle whose applying is measured.
pub(crate) const APPLIED_OBJECTS: usize = 100;

/// All that was measured.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Measured {
    /// Size of the static binary for aarch64.
    pub(crate) aarch64_bytes: u64,
    /// Size of the static binary for x86-64.
    pub(crate) x86_64_bytes: u64,
    /// The agent that owns [`IDLE_OBJECTS`] and has nothing to do. Its peak is the one since its start.
    pub(crate) idle: Memory,
    /// The same agent after it applied [`APPLIED_OBJECTS`]. Its peak is the one since that was delivered.
    pub(crate) applied: Memory,
    /// Another agent after it applied the 4.2 MB bundle. Its peak is the one since that was delivered.
    pub(crate) large: Memory,
}

/// One figure beside what it may be.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Row {
    figure: String,
    measured: u64,
    unit: &'static str,
    budget: Option<u64>,
}

impl Row {
    /// A figure, and its budget if it has one.
    pub(super) fn new(
        figure: impl Into<String>,
        measured: u64,
        unit: &'static str,
        budget: Option<u64>,
    ) -> Self {
        Self { figure: figure.into(), measured, unit, budget }
    }

    /// Whether more was measured than there may be.
    pub(crate) fn is_over(&self) -> bool {
        self.budget.is_some_and(|budget| self.measured > budget)
    }

    /// What was measured.
    pub(crate) fn figure(&self) -> &str {
        &self.figure
    }

    fn cells(&self) -> [String; 5] {
        let amount = |number: u64| format!("{} {}", grouped(number), self.unit).trim_end().to_owned();
        let (budget, share, verdict) = match self.budget {
            None => (String::new(), String::new(), ""),
            Some(budget) => {
                let share = self.measured as f64 / budget as f64 * 100.0;
                let verdict = if self.is_over() { "OVER BUDGET" } else { "within" };
                (amount(budget), format!("{share:.0} %"), verdict)
            }
        };
        [self.figure.clone(), amount(self.measured), budget, share, verdict.to_owned()]
    }
}

/// Every figure beside its budget; one that has none is there to explain the others.
pub(crate) fn compare(measured: &Measured) -> Vec<Row> {
    let Measured { aarch64_bytes, x86_64_bytes, idle, applied, large } = *measured;
    let at_rest = |what: &str| format!("{what}, idle with {IDLE_OBJECTS} objects");
    let bytes =
        |figure: &str, measured: u64, budget: Option<u64>| Row::new(figure, measured, "bytes", budget);
    vec![
        bytes("static binary, aarch64", aarch64_bytes, Some(AARCH64_BINARY_BYTES)),
        bytes("static binary, x86-64", x86_64_bytes, None),
        bytes(&at_rest("resident memory"), idle.resident, Some(IDLE_RESIDENT_BYTES)),
        bytes(&at_rest("private memory"), idle.private, None),
        bytes(&at_rest("heap, stack, variables"), idle.anonymous, None),
        bytes(&format!("peak memory, start to {IDLE_OBJECTS} objects applied"), idle.peak, None),
        bytes(
            &format!("peak memory, applying {APPLIED_OBJECTS} objects"),
            applied.peak,
            Some(APPLYING_PEAK_BYTES),
        ),
        bytes(&format!("resident memory, idle with {APPLIED_OBJECTS} objects"), applied.resident, None),
        bytes("peak memory, applying the 4.2 MB bundle", large.peak, Some(LARGE_PEAK_BYTES)),
        bytes("resident memory, idle with the 4.2 MB bundle", large.resident, None),
        Row::new("threads, idle", idle.threads.max(applied.threads), "", Some(THREADS)),
    ]
}

/// The figures for people, in columns.
pub(crate) fn table(rows: &[Row]) -> String {
    let mut table = Table::new();
    table.load_style(presets::NOTHING);
    table.set_header(["FIGURE", "MEASURED", "BUDGET", "OF IT", "VERDICT"]);
    table.add_rows(rows.iter().map(Row::cells));
    for (index, column) in table.column_iter_mut().enumerate() {
        column.set_padding((0, 3));
        if (1..4).contains(&index) {
            column.set_cell_alignment(CellAlignment::Right);
        }
    }
    table.lines().map(|line| format!("{}\n", line.trim_end())).collect()
}

/// A number with its thousands set apart.
fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at_budget() -> Measured {
        let idle = Memory {
            resident: IDLE_RESIDENT_BYTES,
            private: 1,
            anonymous: 1,
            peak: u64::MAX,
            threads: THREADS,
        };
        let applied = Memory {
            resident: u64::MAX,
            private: 1,
            anonymous: 1,
            peak: APPLYING_PEAK_BYTES,
            threads: THREADS,
        };
        let large = Memory { peak: LARGE_PEAK_BYTES, ..applied };
        Measured { aarch64_bytes: AARCH64_BINARY_BYTES, x86_64_bytes: u64::MAX, idle, applied, large }
    }

    fn over(change: impl Fn(&mut Measured)) -> Vec<String> {
        let mut measured = at_budget();
        change(&mut measured);
        let rows = compare(&measured);
        rows.iter().filter(|row| row.is_over()).map(|row| row.figure().to_owned()).collect()
    }

    #[test]
    fn a_budget_may_be_used_up() {
        assert_eq!(over(|_| {}), Vec::<String>::new());
    }

    #[test]
    fn one_more_is_over_budget() {
        assert_eq!(over(|m| m.aarch64_bytes += 1), ["static binary, aarch64"]);
        assert_eq!(over(|m| m.idle.resident += 1), ["resident memory, idle with 50 objects"]);
        assert_eq!(over(|m| m.applied.peak += 1), ["peak memory, applying 100 objects"]);
        assert_eq!(over(|m| m.large.peak += 1), ["peak memory, applying the 4.2 MB bundle"]);
        assert_eq!(over(|m| m.idle.threads += 1), ["threads, idle"]);
        assert_eq!(over(|m| m.applied.threads += 1), ["threads, idle"]);
    }

    #[test]
    fn the_table_says_which_figure_is_over() {
        let rows = [
            Row::new("static binary", 2_812_345, "bytes", Some(4_000_000)),
            Row::new("private memory", 440, "bytes", None),
            Row::new("threads", 2, "", Some(1)),
        ];
        let expected = "\
FIGURE                MEASURED            BUDGET    OF IT   VERDICT
static binary    2,812,345 bytes   4,000,000 bytes     70 %   within
private memory         440 bytes
threads                        2                 1    200 %   OVER BUDGET
";
        let squeeze = |text: &str| -> Vec<String> {
            text.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect()
        };
        assert_eq!(squeeze(&table(&rows)), squeeze(expected));
    }

    #[test]
    fn thousands_are_set_apart() {
        let cases = [(0, "0"), (999, "999"), (1_000, "1,000"), (12_345_678, "12,345,678")];
        for (number, expected) in cases {
            assert_eq!(grouped(number), expected);
        }
    }
}
