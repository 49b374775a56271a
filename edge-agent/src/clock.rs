//! The one place that reads clocks and throws dice. Everything else is told.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use protocol::{
    ids::{JournalId, Nonce},
    time::{Now, UnixSeconds},
};
use ring::rand::{SecureRandom, SystemRandom};
use zeroize::Zeroizing;

/// A clock that starts at zero and never goes back, beside the system's, which may do anything.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    start: tokio::time::Instant,
}

/// The operating system gives no random bytes: nothing can be sent or written safely.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the operating system gives no random bytes: check /dev/urandom and the kernel's log")]
pub struct NoRandom;

impl Clock {
    /// Starts at zero now. Must be called on a tokio runtime, whose time it follows, paused or not.
    pub fn start() -> Self {
        Self { start: tokio::time::Instant::now() }
    }

    /// What time it is.
    #[allow(clippy::disallowed_methods, reason = "the agent's one look at the system's clock")]
    pub fn now(&self) -> Now {
        // A clock before 1970 is as wrong as one at 1970.
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Now { monotonic: self.start.elapsed(), wall: UnixSeconds(wall.as_secs()) }
    }

    /// When the runtime's timer reaches `monotonic`; none if it never does.
    pub fn at(&self, monotonic: Duration) -> Option<tokio::time::Instant> {
        self.start.checked_add(monotonic)
    }
}

/// The system's time, for naming files.
#[allow(clippy::disallowed_methods, reason = "the name of a file put aside, once in its life")]
pub(crate) fn unix_seconds() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs()
}

/// A challenge for one connection.
pub(crate) fn nonce() -> Result<Nonce, NoRandom> {
    random().map(|bytes| Nonce::new(*bytes))
}

/// A name for a new life of the journal.
pub(crate) fn journal_id() -> Result<JournalId, NoRandom> {
    random().map(|bytes| JournalId::new(*bytes))
}

/// Secret, uniformly random bytes.
pub(crate) fn random<const LEN: usize>() -> Result<Zeroizing<[u8; LEN]>, NoRandom> {
    let mut bytes = Zeroizing::new([0; LEN]);
    SystemRandom::new().fill(bytes.as_mut_slice()).map_err(|_| NoRandom)?;
    Ok(bytes)
}
