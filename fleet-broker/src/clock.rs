//! The only place in the hub's API and store that reads the wall clock.

use jiff::Timestamp;

/// The time now.
#[allow(clippy::disallowed_methods, reason = "the shell's clock; logic gets the time as an argument")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}
