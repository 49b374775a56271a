//! What one can ask of the program: one file each.

pub(crate) mod run;

/// The answer of a command.
#[allow(clippy::print_stdout, reason = "the answer of a command")]
pub(crate) fn print(text: &str) {
    println!("{text}");
}

/// What is to be known beside the answer.
#[allow(clippy::print_stderr, reason = "what is wrong, beside the answer")]
pub(crate) fn say(text: &str) {
    eprintln!("{text}");
}
