//! Places where a power cut is worth trying: around each file of the first start, within and around each transaction
//! of the store, and before an answer.
//!
//! With the feature `failpoints` a hub counts the boundaries it passes and aborts at the chosen one, so that a test
//! can kill it at every single one of them and see what the next start makes of it. They are counted for the whole
//! process, as some come before there is a store. Without the feature, as in every release, none of this exists.

/// What kind of place a boundary is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum At {
    /// A file is about to be written.
    File,
    /// A file is written under another name, and does not have its own yet.
    Rename,
    /// A file has its name, and nothing that follows from it has begun.
    Renamed,
    /// Within the store's migration, before one of its steps.
    Migrate,
    /// Within a transaction of the store, before an object or a document is written or removed.
    Row,
    /// Within a transaction of the store, before a piece of a blob is written.
    Piece,
    /// Within a transaction of the store, before versions are reserved.
    Reserve,
    /// All rows are written, and the transaction is not committed.
    Commit,
    /// A transaction is committed, and nobody knows.
    Committed,
    /// A change is seen by watchers, and its author is not answered.
    Seen,
}

#[cfg(not(feature = "failpoints"))]
pub(crate) fn pass(_: At) {}

#[cfg(feature = "failpoints")]
pub(crate) use counted::pass;

#[cfg(feature = "failpoints")]
mod counted {
    use std::{
        process,
        sync::{
            OnceLock,
            atomic::{AtomicU64, Ordering},
        },
    };

    use super::At;

    /// The environment variable that chooses: `N` aborts at the `N`th boundary.
    const VARIABLE: &str = "EDGEFLEET_HUB_ABORT_AT";

    static ABORT_AT: OnceLock<Option<u64>> = OnceLock::new();
    static PASSED: AtomicU64 = AtomicU64::new(0);

    /// Passes one boundary, or aborts there.
    pub(crate) fn pass(at: At) {
        let Some(abort_at) = *ABORT_AT.get_or_init(chosen) else { return };
        let passed = PASSED.fetch_add(1, Ordering::Relaxed) + 1;
        if passed == abort_at {
            tracing::error!("aborted at boundary {passed}: {at:?}");
            process::abort();
        }
    }

    #[allow(clippy::disallowed_methods, reason = "read once, and only in a build for tests")]
    fn chosen() -> Option<u64> {
        std::env::var(VARIABLE).ok().and_then(|text| text.parse().ok())
    }
}
