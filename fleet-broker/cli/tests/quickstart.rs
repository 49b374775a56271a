//! `edgefleet quickstart`: stopped or killed anywhere, the same command goes on and ends well.
#![allow(clippy::unwrap_used, reason = "a test says no by panicking")]

use std::{
    io::{BufRead as _, BufReader, Lines},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
};

use rustix::process::{Pid, Signal, kill_process};

/// What each of its steps says when it is done, but for the last.
const STEPS: [&str; 5] = [
    "made keys and a root document",
    "started the hub",
    "tower-1 joined with a one-time code",
    "started its agent on a simulated cluster",
    "signed and published web 1.0.0",
];

const HEALTHY: &str = "is applied and healthy on tower-1";

fn quickstart(folder: &Path, more: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_edgefleet"));
    command.arg("quickstart").arg("--dir").arg(folder.join("quickstart")).args(more);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

/// Runs it to its end and returns what it printed.
fn run_once(folder: &Path) -> String {
    let output = quickstart(folder, &["--once"]).output().unwrap();
    let (data, messages) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{data}\n{messages}");
    data.into_owned()
}

/// Starts it, and waits until it printed `step`.
fn start_until(folder: &Path, step: &str) -> (Killed, Lines<BufReader<ChildStdout>>) {
    let mut child = Killed(quickstart(folder, &[]).spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let said = lines.by_ref().map(Result::unwrap).find(|line| line.contains(step));
    assert!(said.is_some(), "it ended before it said {step:?}");
    (child, lines)
}

/// Starts it, and sends a signal as soon as it printed `step`. Returns what it left behind.
fn interrupt(folder: &Path, step: &str, signal: Signal) -> Option<i32> {
    let (mut child, _) = start_until(folder, step);
    kill_process(Pid::from_child(&child.0), signal).unwrap();
    child.0.wait().unwrap().code()
}

/// Does not outlive its test.
struct Killed(Child);

impl Drop for Killed {
    fn drop(&mut self) {
        // It has ended if this fails.
        let _ended = self.0.kill();
    }
}

#[test]
fn every_step_is_said_with_the_time_it_took() {
    let folder = tempfile::tempdir().unwrap();
    let said = run_once(folder.path());
    for step in STEPS.iter().chain(&[HEALTHY, "in all"]) {
        let line = said.lines().find(|line| line.contains(step));
        let (seconds, _) = line.and_then(|line| line.split_once(" s  ")).unwrap_or_else(|| panic!("{said}"));
        assert!(seconds.trim().parse::<f64>().is_ok(), "{said}");
    }
}

#[test]
fn what_to_do_next_can_be_done() {
    let folder = tempfile::tempdir().unwrap();
    let (mut child, _lines) = start_until(folder.path(), HEALTHY);
    let notes = BufReader::new(child.0.stderr.take().unwrap()).lines();
    let next = notes.map(Result::unwrap).take_while(|line| !line.starts_with("Ctrl-C"));
    let own: Vec<String> = next.filter(|line| line.contains(" status ")).collect();
    assert_eq!(own.len(), 2, "{own:?}");
    for (command, told) in own.iter().zip(["1 cluster: 1 joined, 1 connected", "web-1.0.0"]) {
        let output = Command::new("sh").args(["-c", command]).output().unwrap();
        let (said, problem) =
            (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(output.status.success() && said.contains(told), "{command}: {said}{problem}");
    }
}

#[test]
fn the_same_command_goes_on_wherever_it_was_ended() {
    for signal in [Signal::INT, Signal::KILL] {
        for step in STEPS {
            let folder = tempfile::tempdir().unwrap();
            interrupt(folder.path(), step, signal);
            let said = run_once(folder.path());
            assert!(said.contains("found keys and root document"), "{step}: {said}");
            assert!(said.contains(HEALTHY), "{step}: {said}");
        }
    }
}

#[test]
fn ctrl_c_ends_a_healthy_quickstart_well_and_one_that_is_not_with_1() {
    let folder = tempfile::tempdir().unwrap();
    assert_eq!(interrupt(folder.path(), STEPS[4], Signal::INT), Some(1));
    assert_eq!(interrupt(folder.path(), HEALTHY, Signal::INT), Some(0));
}

#[test]
fn the_doctor_finds_nothing_wrong_and_says_what_is_when_it_was_killed() {
    let folder = tempfile::tempdir().unwrap();
    let doctor = || {
        let mut command = Command::new(env!("CARGO_BIN_EXE_edgefleet"));
        command.args(["doctor", "--site", "quickstart/agent"]).current_dir(folder.path());
        let output = command.output().unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (mut child, _lines) = start_until(folder.path(), HEALTHY);
    let (code, said) = doctor();
    assert!(code == Some(0) && said.ends_with("\nNothing is wrong.\n"), "{said}");
    assert!(said.contains("tower-1") && said.contains("its journal takes"), "{said}");
    child.0.kill().unwrap();
    child.0.wait().unwrap();
    let (code, said) = doctor();
    assert_eq!(code, Some(1), "{said}");
    for part in ["wrong: agent: does not answer", "wrong: the hub's port for clusters", "Connection refused"]
    {
        assert!(said.contains(part), "no {part:?} in {said}");
    }
}
