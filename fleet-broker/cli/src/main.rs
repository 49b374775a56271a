//! The command line: keys, bundles, clusters, quickstart.

use std::{
    io::{self, IsTerminal},
    process::ExitCode,
};

use clap::Parser;
use edgefleet::{
    clock,
    commands::{Command, CommandError, Context, Exit},
    output::Output,
};
use tikv_jemallocator::Jemalloc;

/// That of the hub, which runs in here too.
#[global_allocator]
static ALLOCATOR: Jemalloc = Jemalloc;

/// Runs fleets of small Kubernetes clusters: makes keys, builds and signs what clusters run.
#[derive(Debug, Parser)]
#[command(
    name = "edgefleet",
    version,
    arg_required_else_help = true,
    after_help = "Exit codes: 0 done, 1 failed or differs, 2 wrong usage, 3 not found, 4 not allowed, 5 hub unreachable, 124 timeout."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let (mut stdin, mut stdout, mut stderr) = (io::stdin().lock(), io::stdout().lock(), io::stderr().lock());
    let (color, data_color) = match no_color() {
        true => (false, false),
        false => (stderr.is_terminal(), stdout.is_terminal()),
    };
    let output = Output { data: &mut stdout, messages: &mut stderr, color, data_color };
    let mut context = Context { now: clock::now(), stdin: &mut stdin, output };
    let exit = match cli.command.run(&mut context) {
        Ok(()) => Exit::Ok,
        // Said already, in what was printed.
        Err(CommandError::Differs) => CommandError::Differs.exit(),
        Err(error) if error.exit() == Exit::Ok => Exit::Ok,
        Err(error) => {
            // Where even this cannot be printed, the exit code still says it.
            let _ = context.output.error(&error);
            error.exit()
        }
    };
    ExitCode::from(exit as u8)
}

/// Whether the user asked for no colours (no-color.org).
#[allow(clippy::disallowed_methods, reason = "configuration is read in main")]
fn no_color() -> bool {
    std::env::var("NO_COLOR").is_ok_and(|value| !value.is_empty())
}
