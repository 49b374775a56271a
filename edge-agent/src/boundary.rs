//! Places where a power cut is worth trying: before and after each write to disk, each request, each message.
//!
//! With the feature `failpoints` an agent counts the boundaries it passes and aborts at the chosen one, so
//! that a test can kill it at every single one of them and see what the next start makes of it. Without the
//! feature, as in every release, none of this exists.

#[cfg(feature = "failpoints")]
use std::{
    process,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

/// The environment variable that chooses: `0` counts only, `N` aborts at the `N`th boundary.
#[cfg(feature = "failpoints")]
const VARIABLE: &str = "EDGEFLEET_ABORT_AT";

/// What kind of place a boundary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// Within a transaction of the journal, before one of its rows is written.
    Row,
    /// All rows are written, and the transaction is not committed.
    Commit,
    /// A transaction is committed, and nothing that follows from it has begun.
    Committed,
    /// A request to the API server is about to be sent.
    Request,
    /// The API server has answered, and nobody has heard of it.
    Answer,
    /// Watches are about to be opened or closed.
    Watch,
    /// A message to the hub is about to be sent.
    Publish,
    /// A message from the hub is about to be acknowledged.
    Acknowledge,
    /// A file is about to be written, to get its name, or to be followed by what builds on it.
    File,
}

/// The boundaries an agent passes. Clones count together.
#[derive(Clone, Debug, Default)]
pub struct Boundaries {
    #[cfg(feature = "failpoints")]
    counter: Option<Arc<Counter>>,
}

#[cfg(feature = "failpoints")]
#[derive(Debug)]
struct Counter {
    passed: AtomicU64,
    abort_at: u64,
}

#[cfg(not(feature = "failpoints"))]
impl Boundaries {
    /// Nothing is counted and nothing aborts.
    pub fn from_environment() -> Self {
        Self::default()
    }

    pub(crate) fn pass(&self, _: At) {}

    pub(crate) fn total(&self) -> Option<u64> {
        None
    }
}

#[cfg(feature = "failpoints")]
impl Boundaries {
    /// What the environment asks for; nothing is counted where it asks for nothing.
    #[allow(clippy::disallowed_methods, reason = "called once by main, and only in a build for tests")]
    pub fn from_environment() -> Self {
        let abort_at = std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok());
        let counter = abort_at.map(|abort_at| Arc::new(Counter { passed: AtomicU64::new(0), abort_at }));
        Self { counter }
    }

    /// Passes one boundary, or aborts there.
    pub(crate) fn pass(&self, at: At) {
        let Some(counter) = &self.counter else { return };
        let passed = counter.passed.fetch_add(1, Ordering::Relaxed) + 1;
        if passed == counter.abort_at {
            tracing::error!("aborted at boundary {passed}: {at:?}");
            process::abort();
        }
    }

    /// How many were passed, if they are counted.
    pub(crate) fn total(&self) -> Option<u64> {
        self.counter.as_ref().map(|counter| counter.passed.load(Ordering::Relaxed))
    }
}
