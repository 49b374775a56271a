//! A copy of the database at one moment, made while the hub works on.

use std::path::Path;

use rusqlite::{
    Connection,
    backup::{Backup, StepResult},
};
use tokio::sync::mpsc;

use super::{Job, StoreError, Writer, failed};

/// Pages copied before what waits is done: 1 MiB, some milliseconds.
const PAGES: i32 = 256;

impl Writer {
    /// Copies the database to `path`. What is written meanwhile goes through the same connection, and SQLite carries
    /// it over into the copy, which is therefore the state at its end.
    pub(super) fn snapshot(&self, path: &Path, queue: &mut mpsc::Receiver<Job>) -> Result<(), StoreError> {
        let copying = || failed("copy itself");
        let mut copy = Connection::open(path).map_err(copying())?;
        // Whoever takes the copy makes it durable; half of one is thrown away.
        copy.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF;").map_err(copying())?;
        let backup = Backup::new(&self.connection, &mut copy).map_err(copying())?;
        while backup.step(PAGES).map_err(copying())? != StepResult::Done {
            // A store that is being closed answers nobody any more.
            if let Ok(job) = queue.try_recv()
                && self.round(job, queue).is_some()
            {
                return Err(StoreError::Closed);
            }
        }
        Ok(())
    }
}
