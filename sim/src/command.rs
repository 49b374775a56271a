//! What one can ask of the program: one file each.

use std::io::Write as _;

pub(crate) mod campaign;
mod fleet;
mod memory;
mod progress;
pub(crate) mod run;
pub(crate) mod shrink;

/// The answer of a command.
pub(crate) fn print(text: &str) {
    // Whoever reads it may have gone.
    let _written = writeln!(std::io::stdout(), "{text}");
}

/// What is to be known beside the answer.
#[allow(clippy::print_stderr, reason = "what is wrong, beside the answer")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
