//! `packaging`: makes what is released, and holds it to its budget.

mod cross;
mod fleet;
mod hub;
mod logic;
mod process;
mod proxy;
mod published;
mod traffic;
mod wait;

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode},
};

use anyhow::{Context as _, Result, bail, ensure};
use clap::{Parser, Subcommand};
use serde_json::Value;
use tempfile::TempDir;

use self::{
    cross::Agents,
    fleet::Fleet,
    hub::{Programs, TENANT},
    logic::{
        budget::{self, APPLIED_OBJECTS, IDLE_OBJECTS, Measured, Row},
        manifests::manifests,
        procfs::Memory,
        traffic as counted,
    },
    process::{cargo, run},
};

/// Makes what is released, and holds it to its budget.
#[derive(Debug, Parser)]
#[command(version, arg_required_else_help = true)]
struct Cli {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Build the agent as released, measure its size and memory, and fail if it takes more than its budget
    ///
    /// Needs what tests/run needs, Python 3, and the network. Keeps what it builds in
    /// ${XDG_CACHE_HOME:-~/.cache}/edgefleet.
    Budget,
    /// Count what an idle agent's link carries, and fail if a day of it is more than its budget
    ///
    /// Between the programs themselves, TLS and TCP included. Needs what tests/run needs.
    Traffic,
}

fn main() -> ExitCode {
    let Cli { action } = Cli::parse();
    let done = match action {
        Action::Budget => budget(),
        Action::Traffic => traffic(),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            say(&format!("{error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn budget() -> Result<()> {
    // The agent that is measured runs here: an emulator tells nothing about memory.
    ensure!(
        cfg!(target_arch = "x86_64"),
        "memory can be measured on x86-64 only: run this on such a machine"
    );
    let workspace = &workspace()?;
    let folder = TempDir::with_prefix("edgefleet-budget-")?;
    let agents = cross::build(workspace, &cache()?, folder.path())?;
    judge(&budget::compare(&measure(workspace, &agents, folder.path())?))
}

fn traffic() -> Result<()> {
    let programs = programs(&workspace()?, None)?;
    let folder = TempDir::with_prefix("edgefleet-traffic-")?;
    judge(&counted::compare(&traffic::measure(programs, folder.path())?))
}

/// Prints the figures, and fails if one is over budget.
fn judge(rows: &[Row]) -> Result<()> {
    print(&budget::table(rows));
    let over: Vec<&str> = rows.iter().filter(|row| row.is_over()).map(Row::figure).collect();
    ensure!(over.is_empty(), "over budget: {}", over.join("; "));
    Ok(())
}

fn workspace() -> Result<PathBuf> {
    // Another clone may have built this very program, where they share a target directory: cargo knows better.
    let package = env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    Path::new(&package).parent().map(Path::to_owned).context("this package is in a workspace")
}

fn measure(workspace: &Path, agents: &Agents, folder: &Path) -> Result<Measured> {
    let programs = programs(workspace, Some(&agents.x86_64.path))?;
    let mut fleet = Fleet::start(programs.clone(), &subfolder(folder, "objects")?)?;
    fleet.deliver(1, &manifests(TENANT, 1, IDLE_OBJECTS))?;
    let idle = fleet.idle()?;
    fleet.reset_peak()?;
    fleet.deliver(2, &manifests(TENANT, 2, APPLIED_OBJECTS))?;
    let applied = fleet.idle()?;
    drop(fleet);
    let large = measure_large(workspace, programs, &subfolder(folder, "large")?)?;
    Ok(Measured {
        aarch64_bytes: agents.aarch64.bytes,
        x86_64_bytes: agents.x86_64.bytes,
        idle,
        applied,
        large,
    })
}

/// An agent of its own applies the largest bundle.
fn measure_large(workspace: &Path, programs: Programs, folder: &Path) -> Result<Memory> {
    let manifests = published::large_bundle(workspace)?;
    let mut fleet = Fleet::start(programs, folder)?;
    fleet.reset_peak()?;
    fleet.deliver(1, &manifests)?;
    fleet.idle()
}

fn subfolder(folder: &Path, name: &str) -> Result<PathBuf> {
    let folder = folder.join(name);
    fs::create_dir(&folder).with_context(|| format!("make {}", folder.display()))?;
    Ok(folder)
}

/// Builds the other programs with the very arguments of tests/run, so that after the tests nothing is left to do; the
/// agent among them, with its simulated cluster, where no other is given.
fn programs(workspace: &Path, agent: Option<&Path>) -> Result<Programs> {
    say("building the hub and the operator's tool");
    let mut cargo = cargo(workspace);
    cargo.args(["build", "--locked", "--workspace", "--bins", "--tests"]);
    cargo.args(["--message-format", "json-render-diagnostics"]);
    let built = run(&cargo, "", false)?;
    say("building the Kubernetes control plane, unless it is there");
    let mut build = Command::new(workspace.join("tests/control-plane/build"));
    let tools = PathBuf::from(run(build.current_dir(workspace), "", false)?.trim());
    Ok(Programs {
        agent: agent.map_or_else(|| executable(&built, "edge-agent"), |agent| Ok(agent.to_owned()))?,
        hub: executable(&built, "fleet-broker")?,
        operator: executable(&built, "edgefleet")?,
        control_plane: tools.join("control-plane"),
        kubectl: tools.join("kubectl"),
    })
}

/// Where cargo, by its own messages, put a program.
fn executable(messages: &str, name: &str) -> Result<PathBuf> {
    let messages = messages.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    // A program's own tests have its name, too.
    let mut programs =
        messages.filter(|message| message["target"]["name"] == name && message["profile"]["test"] == false);
    let path = programs.find_map(|message| message["executable"].as_str().map(PathBuf::from));
    path.with_context(|| format!("cargo did not build {name}"))
}

/// The folder that all of the project's tools keep things in.
#[allow(clippy::disallowed_methods, reason = "read once, here")]
fn cache() -> Result<PathBuf> {
    let folder = match (env::var("XDG_CACHE_HOME"), env::var("HOME")) {
        (Ok(cache), _) if !cache.is_empty() => PathBuf::from(cache),
        (_, Ok(home)) => Path::new(&home).join(".cache"),
        (_, Err(_)) => bail!("neither XDG_CACHE_HOME nor HOME is set: set one to where things may be kept"),
    };
    Ok(folder.join("edgefleet"))
}

#[allow(clippy::print_stdout, reason = "the figures are this program's answer")]
fn print(text: &str) {
    print!("{text}");
}

/// Tells a person what goes on.
#[allow(clippy::print_stderr, reason = "progress is not data")]
fn say(text: &str) {
    eprintln!("packaging: {text}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cargo_says_where_a_program_is() {
        let messages = r#"   Compiling something that is not JSON
{"target":{"name":"fleet-broker"},"profile":{"test":false},"executable":null}
{"target":{"name":"fleet-broker"},"profile":{"test":true},"executable":"/t/debug/deps/fleet_broker-1"}
{"target":{"name":"fleet-broker"},"profile":{"test":false},"executable":"/t/debug/fleet-broker"}
{"target":{"name":"edgefleet"},"profile":{"test":false},"executable":null}"#;
        assert_eq!(executable(messages, "fleet-broker").unwrap(), Path::new("/t/debug/fleet-broker"));
        let error = executable(messages, "edgefleet").unwrap_err();
        assert_eq!(error.to_string(), "cargo did not build edgefleet");
    }
}
