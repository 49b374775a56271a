//! The clock, read once when a command starts.

use std::time::SystemTime;

use protocol::time::UnixSeconds;

/// What the system's clock says.
#[allow(
    clippy::disallowed_methods,
    reason = "commands take the time as an argument; it has to start somewhere"
)]
pub fn now() -> UnixSeconds {
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixSeconds(since.map_or(0, |since| since.as_secs()))
}

/// A time as people and scripts read it (RFC 3339, UTC).
pub fn rfc3339(time: UnixSeconds) -> String {
    let timestamp = i64::try_from(time.0).ok().and_then(|seconds| jiff::Timestamp::from_second(seconds).ok());
    timestamp.map_or_else(|| format!("{time} seconds after 1970"), |timestamp| timestamp.to_string())
}
