//! `edgefleet-sim`: rehearses a fleet.

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use tikv_jemallocator::Jemalloc;

mod command;

/// That of the hub.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Rehearses a fleet: hub and clusters in virtual time, with faults, from one seed.
#[derive(Parser)]
#[command(name = "edgefleet-sim", version)]
struct Arguments {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Runs a scenario, and says what broke or how it went.
    Run(command::run::Run),
    /// Makes a run that breaks a rule smaller: fewer clusters, days and faults.
    Shrink(command::shrink::Shrink),
    /// Runs seeds for hours, and says which broke a rule.
    Campaign(command::campaign::Campaign),
    /// Runs production agents against a production hub, over real MQTT; only their clusters are simulated.
    Live(edgefleet_sim::live::Live),
    /// Plants mistakes, and says with which seed each is found.
    Planted(edgefleet_sim::planted::Planted),
}

fn main() -> ExitCode {
    // Each says whether no rule was broken.
    let ended = match Arguments::parse().command {
        Command::Run(run) => run.all(),
        Command::Shrink(shrink) => shrink.all(),
        Command::Campaign(campaign) => campaign.all(),
        Command::Live(live) => live.run(command::print, command::say).map(|()| true),
        Command::Planted(planted) => planted.run(command::print),
    };
    match ended {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            command::say(&format!("error: {error:#}"));
            ExitCode::FAILURE
        }
    }
}
