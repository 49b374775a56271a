//! What benchmarks print: figures beside what they are compared with, and where and when they were taken.

use std::{fs, process::Command, time::Duration};

use anyhow::{Context, Result};

/// One figure.
#[derive(Debug, Clone)]
pub struct Row {
    /// What was measured.
    pub what: String,
    /// How much.
    pub figure: f64,
    /// Of what.
    pub unit: &'static str,
    /// How it stands to what it is compared with, and what that should be; none for what others are compared with.
    pub ratio: Option<(f64, Target)>,
}

/// What a ratio should be.
#[derive(Debug, Clone, Copy)]
pub enum Target {
    /// This or more.
    AtLeast(f64),
    /// This or less.
    AtMost(f64),
    /// Nothing was set: it explains others.
    None,
}

impl Row {
    /// A figure that others are compared with, or that explains them.
    pub fn plain(what: impl Into<String>, figure: f64, unit: &'static str) -> Self {
        Self { what: what.into(), figure, unit, ratio: None }
    }

    /// A figure beside another.
    pub fn compared(
        what: impl Into<String>,
        figure: f64,
        unit: &'static str,
        ratio: f64,
        target: Target,
    ) -> Self {
        Self { what: what.into(), figure, unit, ratio: Some((ratio, target)) }
    }

    fn cells(&self) -> [String; 6] {
        let (ratio, target, verdict) = match self.ratio {
            None => (String::new(), String::new(), ""),
            Some((ratio, target)) => {
                let (text, verdict) = match target {
                    Target::AtLeast(least) => (format!(">= {least}"), Some(ratio >= least)),
                    Target::AtMost(most) => (format!("<= {most}"), Some(ratio <= most)),
                    Target::None => (String::new(), None),
                };
                (format!("{ratio:.2}"), text, verdict.map_or("", |met| if met { "met" } else { "MISSED" }))
            }
        };
        let figure =
            if self.figure < 10.0 { format!("{:.2}", self.figure) } else { format!("{:.0}", self.figure) };
        [self.what.clone(), figure, self.unit.to_owned(), ratio, target, verdict.to_owned()]
    }
}

/// Prints where and when, then the figures in columns.
///
/// # Errors
///
/// When the machine cannot be described.
#[allow(clippy::print_stdout, reason = "the figures are the benchmark's answer")]
pub fn print(rows: &[Row]) -> Result<()> {
    println!("{}", origin()?);
    let header = ["WHAT", "FIGURE", "UNIT", "RATIO", "TARGET", ""].map(str::to_owned);
    let lines: Vec<[String; 6]> = std::iter::once(header).chain(rows.iter().map(Row::cells)).collect();
    let widths: Vec<usize> =
        (0..6).map(|column| lines.iter().map(|line| line[column].len()).max().unwrap_or(0)).collect();
    for line in &lines {
        let right = |column: usize| matches!(column, 1 | 3 | 4);
        let cells = line.iter().zip(&widths).enumerate().map(|(column, (cell, width))| {
            if right(column) { format!("{cell:>width$}") } else { format!("{cell:<width$}") }
        });
        println!("{}", cells.collect::<Vec<_>>().join("  ").trim_end());
    }
    Ok(())
}

/// The middle one of several measurements.
///
/// # Errors
///
/// When there is none.
pub fn median(mut figures: Vec<f64>) -> Result<f64> {
    figures.sort_by(f64::total_cmp);
    figures.get(figures.len() / 2).copied().context("a median needs a figure")
}

/// Processor time that all threads of this process have taken, to the nanosecond.
pub fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    time.try_into().expect("no process has taken less than no time")
}

/// Processor time that all threads of a process have taken, those excepted that have ended: what one that runs has
/// taken since the scheduler's last tick, some milliseconds, is not in it.
///
/// # Errors
///
/// When the kernel does not tell, or there is no such process.
pub fn cpu_time_of(process: u32) -> Result<Duration> {
    let tasks = format!("/proc/{process}/task");
    let mut nanoseconds = 0;
    for task in fs::read_dir(&tasks).with_context(|| format!("list {tasks}"))? {
        let path = task?.path().join("schedstat");
        // A thread may end between being listed and being asked.
        let Ok(text) = fs::read_to_string(&path) else { continue };
        let first =
            text.split_whitespace().next().context("schedstat begins with the time on a processor")?;
        nanoseconds += first.parse::<u64>().with_context(|| format!("read {}", path.display()))?;
    }
    Ok(Duration::from_nanos(nanoseconds))
}

/// Resident memory of a process, in bytes.
///
/// # Errors
///
/// When it has ended.
pub fn resident_bytes(process: u32) -> Result<u64> {
    let path = format!("/proc/{process}/status");
    let text = fs::read_to_string(&path).with_context(|| format!("read {path}"))?;
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("a process has VmRSS")?;
    let kilobytes: u64 = line.trim().trim_end_matches(" kB").parse().context("VmRSS is in kB")?;
    Ok(kilobytes * 1024)
}

/// Machine, date and commit.
fn origin() -> Result<String> {
    let processor = fs::read_to_string("/proc/cpuinfo").context("read /proc/cpuinfo")?;
    let model = processor.lines().find_map(|line| line.strip_prefix("model name")?.split_once(": "));
    let model = model.map_or("a processor that does not say its name", |(_, model)| model);
    let cores = std::thread::available_parallelism().context("count processors")?;
    let load = fs::read_to_string("/proc/loadavg").context("read /proc/loadavg")?;
    let load = load.split_whitespace().next().unwrap_or_default();
    let date = said("date", &["-u", "+%Y-%m-%d %H:%M UTC"])?;
    let commit = said("git", &["describe", "--always", "--dirty"])?;
    Ok(format!("{cores} x {model}, load {load}; {date}; commit {commit}"))
}

fn said(program: &str, arguments: &[&str]) -> Result<String> {
    let output = Command::new(program).args(arguments).output();
    let output = output.with_context(|| format!("run {program}"))?;
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_says_whether_its_target_is_met() {
        for (ratio, target, verdict) in [
            (0.8, Target::AtLeast(0.8), "met"),
            (0.79, Target::AtLeast(0.8), "MISSED"),
            (1.5, Target::AtMost(1.5), "met"),
            (1.51, Target::AtMost(1.5), "MISSED"),
            (9.0, Target::None, ""),
        ] {
            let cells = Row::compared("a", 1.0, "s", ratio, target).cells();
            assert_eq!(cells[5], verdict, "{ratio} {target:?}");
        }
    }

    #[test]
    fn this_process_takes_time_and_memory() -> Result<()> {
        let (before, elsewhere) = (cpu_time(), cpu_time_of(std::process::id())?);
        while cpu_time() == before || cpu_time_of(std::process::id())? == elsewhere {}
        assert!(resident_bytes(std::process::id())? > 100_000);
        Ok(())
    }

    #[test]
    fn a_median_needs_a_figure() {
        assert!(median(Vec::new()).is_err());
        assert_eq!(median(vec![3.0, 1.0, 2.0]).unwrap(), 2.0);
    }
}
