//! A small live fleet: every phase ends, every figure is there, and no process is left.

use std::{
    fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};

/// Clusters.
const CLUSTERS: usize = 20;

/// What is measured, by phase, and of how many clusters.
const TIMES: [(&str, usize); 7] = [
    ("joins from its question to its certificate", CLUSTERS),
    ("joins from its question until it is connected", CLUSTERS),
    ("joins from its question until the first release runs", CLUSTERS),
    ("change until it has the change", CLUSTERS),
    ("storm from the kill until it is back", CLUSTERS),
    ("storm from the hub's start until it is back", CLUSTERS),
    ("drift from the change by hand until it is taken back", 4),
];

/// The simulator, in a folder of its own for what it writes.
fn live(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgefleet-sim"));
    command.arg("live").args(arguments).env("TMPDIR", folder);
    command
}

/// Command lines of processes that name the folder.
fn processes(folder: &Path) -> Result<Vec<String>> {
    let folder = folder.to_str().context("its name is text")?;
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc")? {
        // Not every entry is a process, and a process may have ended.
        let Ok(line) = fs::read_to_string(entry?.path().join("cmdline")) else { continue };
        if line.contains(folder) {
            found.push(line.replace('\0', " "));
        }
    }
    Ok(found)
}

#[test]
fn every_phase_ends_with_its_figures() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let clusters = CLUSTERS.to_string();
    let told = ["--clusters", &clusters, "--share", "8", "--edits", "4", "--edits-for", "2"];
    let output = live(folder.path(), &told).output()?;
    let (said, complained) =
        (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{said}");
    ensure!(output.status.success(), "{complained}");
    let flat: Vec<String> =
        said.lines().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    let figures = |begin: &str| {
        let line = flat.iter().find_map(|line| line.strip_prefix(begin));
        let words = line.with_context(|| format!("no line of {begin:?}"))?.split_whitespace();
        anyhow::Ok(words.filter_map(|word| word.parse::<f64>().ok()).collect::<Vec<_>>())
    };
    for (what, count) in TIMES {
        let found = figures(what)?;
        let [of, p50, p90, p99, longest] = found[..] else { anyhow::bail!("{what}: {found:?}") };
        ensure!(of == count as f64, "{what}: of {of}");
        let is_spread = p50 <= p90 && p90 <= p99 && p99 <= longest && longest > 0.0;
        ensure!(is_spread, "{what}: {found:?}");
    }
    for phase in ["joins", "change", "storm", "drift"] {
        let line = flat.iter().find(|line| line.starts_with(phase) && line.matches(" s").count() == 3);
        let line = line.with_context(|| format!("no work of {phase}"))?;
        let words = line.split_whitespace().filter_map(|word| word.parse::<f64>().ok());
        let [took, reports, rate, hub, agents] = words.collect::<Vec<_>>()[..] else {
            anyhow::bail!("{line}");
        };
        ensure!(took > 0.0 && reports > 0.0 && rate > 0.0 && hub + agents > 0.0, "{line}");
    }
    // Three processes of agents: no more than eight clusters each.
    for (side, processes) in [("hub", 1.0), ("agents", 3.0)] {
        let found = figures(side)?;
        let [of, connections, ref memory @ ..] = found[..] else { anyhow::bail!("{side}: {found:?}") };
        ensure!(of == processes && connections == CLUSTERS as f64, "{side}: {found:?}");
        ensure!(memory.len() == 3 && memory.iter().all(|bytes| *bytes > 0.0), "{side}: {found:?}");
    }
    nothing_is_left(folder.path())
}

/// A phase that does not end in time says so, and ends everything.
#[test]
fn what_does_not_end_in_time_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = live(folder.path(), &["--clusters", "3", "--within", "0"]).output()?;
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{complained}");
    ensure!(complained.contains("error: joins: 0 of 3 clusters run the first release"), "{complained}");
    nothing_is_left(folder.path())
}

#[test]
fn a_hub_that_is_missing_is_named() -> Result<()> {
    let folder = tempfile::tempdir()?;
    let output = live(folder.path(), &["--clusters", "3", "--hub", "no-such-hub"]).output()?;
    let complained = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.code() == Some(1), "{complained}");
    ensure!(complained.contains("no-such-hub is missing: build the hub"), "{complained}");
    nothing_is_left(folder.path())
}

/// However it is ended, what it started ends with it.
#[test]
fn no_process_outlives_it() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let folder = tempfile::tempdir()?;
        let mut simulator = live(folder.path(), &["--clusters", "3"]).stderr(Stdio::piped()).spawn()?;
        let complaints = BufReader::new(simulator.stderr.take().context("it is a pipe")?);
        let mut complaints = complaints.lines();
        let first = complaints.next().context("it ended")??;
        ensure!(first.starts_with("joins: done"), "{first}");
        // A hub, and a network and agents for each processor.
        ensure!(processes(folder.path())?.len() >= 2, "{:?}", processes(folder.path())?);
        kill_process(Pid::from_child(&simulator), signal)?;
        let status = simulator.wait()?;
        if signal == Signal::KILL {
            // The kernel ends them, each in its time; looking takes longer.
            let ends = (0..1000).any(|_| processes(folder.path()).is_ok_and(|left| left.is_empty()));
            ensure!(ends, "{:?}", processes(folder.path())?);
            continue;
        }
        ensure!(status.code() == Some(1), "{signal:?}: {status}");
        let said = complaints.last().context("it says why")??;
        ensure!(said.ends_with("every process that was started is ended"), "{said}");
        nothing_is_left(folder.path())?;
    }
    Ok(())
}

/// A part of the fleet that ends is named, and all others end.
#[test]
fn a_part_that_ends_is_named() -> Result<()> {
    for (part, expected) in [("agents", "agents-"), ("network", "network-"), ("serve", "hub-1 ended")] {
        let folder = tempfile::tempdir()?;
        let mut simulator = live(folder.path(), &["--clusters", "3"]).stderr(Stdio::piped()).spawn()?;
        let complaints = BufReader::new(simulator.stderr.take().context("it is a pipe")?);
        let mut complaints = complaints.lines();
        complaints.next().context("it ended")??;
        kill_process(part_of(simulator.id(), part)?, Signal::KILL)?;
        ensure!(simulator.wait()?.code() == Some(1), "{part}");
        let said = complaints.collect::<Result<Vec<_>, _>>()?.join("\n");
        ensure!(said.contains("ended (signal: 9") && said.contains(expected), "{part}: {said}");
        nothing_is_left(folder.path())?;
    }
    Ok(())
}

/// A process that this one started, with this word among its arguments.
fn part_of(parent: u32, word: &str) -> Result<Pid> {
    for entry in fs::read_dir("/proc")? {
        let path = entry?.path();
        let read = |name: &str| fs::read_to_string(path.join(name)).unwrap_or_default();
        // Behind the name in parentheses: its state, then its parent.
        let is_child = read("stat")
            .rsplit_once(')')
            .is_some_and(|(_, rest)| rest.split_whitespace().nth(1) == Some(parent.to_string().as_str()));
        if is_child && read("cmdline").split('\0').any(|argument| argument == word) {
            let id = path.file_name().and_then(|name| name.to_str()?.parse().ok());
            return id.and_then(Pid::from_raw).context("a process has a number");
        }
    }
    anyhow::bail!("it started no {word}")
}

fn nothing_is_left(folder: &Path) -> Result<()> {
    let left = processes(folder)?;
    ensure!(left.is_empty(), "{left:?}");
    ensure!(fs::read_dir(folder)?.next().is_none(), "files are left");
    Ok(())
}
