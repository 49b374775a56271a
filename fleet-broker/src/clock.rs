//! The only place in the hub's API and store that reads the wall clock.

use jiff::Timestamp;
use protocol::time::UnixSeconds;

/// The time now.
#[allow(clippy::disallowed_methods, reason = "the shell's clock; logic gets the time as an argument")]
pub(crate) fn now() -> Timestamp {
    Timestamp::now()
}

/// The time now, in seconds.
pub(crate) fn unix() -> UnixSeconds {
    UnixSeconds(u64::try_from(now().as_second()).unwrap_or_default())
}
