//! The journal on disk: current rows and content, in one SQLite file. The only file that knows `rusqlite`.
//!
//! What is recorded is on disk when [`Journal::record`] returns: write-ahead log, `synchronous=FULL`, one
//! transaction for each call. One process at a time: the file is locked for as long as it is open. A row
//! carries a checksum, as SQLite has none of its own and flash does flip bits; content needs none, since it is
//! compared with signed digests whenever it is used.

mod content;
mod schema;

use std::{
    fs, io,
    path::{Path, PathBuf},
    rc::Rc,
    time::Duration,
};

use protocol::ids::Digest;
use rusqlite::{Connection, ErrorCode, Transaction, params};

pub use self::content::Packed;
use self::schema::{UPGRADES, Upgrade};
use crate::{
    boundary::{At, Boundaries},
    clock,
    logic::entry::{ContentChunk, ContentHeld, Entry, Key, Row},
};

/// Marks the file as ours (`file` and other tools show it): "EdgF".
const APPLICATION_ID: i64 = 0x4564_6746;

/// The unit in which the file is read and written: what flash and every file system handle best.
const PAGE_BYTES: u64 = 4096;

/// Largest journal. Content of all applications together stays below it; a tower's flash has a few GB, which
/// are not ours alone.
pub const MAX_BYTES: u64 = 1 << 30;

/// Pages in the write-ahead log before they are copied to the file. Between two copies a page that is
/// written over and over, as a report's, reaches the file once; 4 MiB of log is still read back in a moment.
const CHECKPOINT_PAGES: u32 = 1000;

/// Pages kept in memory, in KiB: those that one row after another is written to. Rows are read once, at start, and
/// content in passing.
const CACHE_KIB: i64 = 64;

/// Bytes of a row's checksum: a flip goes unnoticed once in 2^64.
const SUM_BYTES: usize = 8;

/// An open journal.
#[derive(Debug)]
pub struct Journal {
    connection: Connection,
    path: PathBuf,
    boundaries: Boundaries,
}

/// What a journal holds.
#[derive(Debug, Default)]
pub struct Held {
    /// All rows.
    pub rows: Vec<Row>,
    /// How much of which content.
    pub content: Vec<ContentHeld>,
}

/// Why the journal cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum JournalError {
    /// Another process has it.
    #[error("{} is in use: another agent runs on this state directory; stop it first", path.display())]
    Locked {
        /// The file.
        path: PathBuf,
    },
    /// No room for what was to be written. What was there before is still there.
    #[error("no room to write {}: free some space on its disk", path.display())]
    Full {
        /// The file.
        path: PathBuf,
    },
    /// What it holds is not what was written.
    #[error("{} is damaged ({problem})", path.display())]
    Corrupt {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        problem: String,
    },
    /// A newer agent wrote it.
    #[error(
        "{} was written by a newer agent (schema {found}, this one knows {known}): install that version again",
        path.display()
    )]
    Newer {
        /// The file.
        path: PathBuf,
        /// Its schema.
        found: usize,
        /// The newest schema this agent knows.
        known: usize,
    },
    /// The database refuses.
    #[error("cannot {operation} {}", path.display())]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: rusqlite::Error,
    },
    /// A damaged file cannot be put aside.
    #[error("cannot put the damaged {} aside", path.display())]
    PutAside {
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
}

impl Journal {
    /// Opens the journal at `path`, making it if there is none, and reads it. It will not grow beyond `max_bytes`.
    pub fn open(path: &Path, max_bytes: u64) -> Result<(Self, Held), JournalError> {
        Self::open_with(path, max_bytes, UPGRADES)
    }

    fn open_with(path: &Path, max_bytes: u64, upgrades: &[Upgrade]) -> Result<(Self, Held), JournalError> {
        let connection = Connection::open(path).map_err(|source| failed("open", path, source))?;
        let journal = Self { connection, path: path.to_owned(), boundaries: Boundaries::default() };
        journal.prepare(max_bytes).map_err(|source| failed("open", path, source))?;
        journal.upgrade(upgrades)?;
        let held = journal.load()?;
        Ok((journal, held))
    }

    /// As [`Self::open`]; a damaged file is put aside as `<path>.corrupt-<unix time>`, never deleted, and a new
    /// one begun. Returns what was wrong, too, if so.
    pub fn open_or_begin(
        path: &Path,
        max_bytes: u64,
    ) -> Result<(Self, Held, Option<JournalError>), JournalError> {
        match Self::open(path, max_bytes) {
            Ok((journal, held)) => Ok((journal, held, None)),
            Err(error @ JournalError::Corrupt { .. }) => {
                put_aside(path)?;
                let (journal, held) = Self::open(path, max_bytes)?;
                Ok((journal, held, Some(error)))
            }
            Err(error) => Err(error),
        }
    }

    /// Passes these boundaries while it writes.
    pub(crate) fn with_boundaries(self, boundaries: Boundaries) -> Self {
        Self { boundaries, ..self }
    }

    /// Reads everything but the content itself.
    pub fn load(&self) -> Result<Held, JournalError> {
        Ok(Held { rows: self.rows()?, content: self.content_held(None)? })
    }

    /// Writes all of `entries`, or nothing. They are on disk when this returns.
    pub fn record(&self, entries: &[Entry]) -> Result<(), JournalError> {
        let failed = |source| failed("write", &self.path, source);
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        for entry in entries {
            self.boundaries.pass(At::Row);
            write(&transaction, entry).map_err(failed)?;
        }
        self.boundaries.pass(At::Commit);
        transaction.commit().map_err(failed)?;
        self.boundaries.pass(At::Committed);
        #[cfg(test)]
        tests::note(entries);
        Ok(())
    }

    /// The stored content with this digest, if all of it is there.
    pub fn content(self: &Rc<Self>, target: &Digest) -> Result<Option<Packed>, JournalError> {
        let held = self.content_held(Some(target))?.into_iter().next();
        let complete = held.filter(|held| held.total > 0 && held.have == held.total);
        Ok(complete.map(|held| Packed::new(Rc::clone(self), held)))
    }

    /// Bytes the journal takes on disk.
    pub fn size_bytes(&self) -> u64 {
        let size = |path: &Path| fs::metadata(path).map_or(0, |metadata| metadata.len());
        size(&self.path) + size(&log_of(&self.path))
    }

    fn prepare(&self, max_bytes: u64) -> rusqlite::Result<()> {
        let connection = &self.connection;
        connection.busy_timeout(Duration::ZERO)?;
        // Before anything reads the file: a log that a power cut left has its index in memory, too, instead of in a
        // shared file.
        connection.pragma_update(None, "locking_mode", "EXCLUSIVE")?;
        connection.pragma_update(None, "page_size", PAGE_BYTES)?;
        // Free pages are used again; moving pages to shorten the file would wear the flash.
        connection.pragma_update(None, "auto_vacuum", "NONE")?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.pragma_update(None, "synchronous", "FULL")?;
        connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES)?;
        // A log that a large write made long is cut back when it starts over.
        connection.pragma_update(None, "journal_size_limit", u64::from(CHECKPOINT_PAGES) * PAGE_BYTES)?;
        connection.pragma_update(None, "cache_size", -CACHE_KIB)?;
        connection.pragma_update(None, "cell_size_check", true)?;
        connection.pragma_update(None, "trusted_schema", false)?;
        connection.pragma_update_and_check(None, "max_page_count", max_bytes / PAGE_BYTES, |_| Ok(()))
    }

    /// Brings the file to the newest schema, or makes the tables in a new one; all or nothing.
    fn upgrade(&self, upgrades: &[Upgrade]) -> Result<(), JournalError> {
        let failed = |source| failed("upgrade", &self.path, source);
        let read = |name| self.connection.pragma_query_value(None, name, |row| row.get(0)).map_err(failed);
        let (found, application): (i64, i64) = (read("user_version")?, read("application_id")?);
        let found = usize::try_from(found).unwrap_or_default();
        let known = upgrades.len();
        let is_new = found == 0 && application == 0;
        if !is_new && (found == 0 || application != APPLICATION_ID) {
            return Err(self.corrupt("it is not an agent's journal"));
        }
        if found > known {
            return Err(JournalError::Newer { path: self.path.clone(), found, known });
        }
        if found == known {
            return Ok(());
        }
        let transaction = self.connection.unchecked_transaction().map_err(failed)?;
        upgrades[found..].iter().try_for_each(|upgrade| upgrade(&transaction)).map_err(failed)?;
        transaction.pragma_update(None, "user_version", known).map_err(failed)?;
        transaction.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
        transaction.commit().map_err(failed)
    }

    fn rows(&self) -> Result<Vec<Row>, JournalError> {
        let failed = |source| failed("read", &self.path, source);
        let mut statement =
            self.connection.prepare("SELECT key, value, sum FROM rows ORDER BY key").map_err(failed)?;
        let mut stored = statement.query([]).map_err(failed)?;
        let mut rows = Vec::new();
        while let Some(row) = stored.next().map_err(failed)? {
            let column = |index| row.get_ref(index).and_then(|value| Ok(value.as_blob()?));
            let (key, value) = (column(0).map_err(failed)?, column(1).map_err(failed)?);
            if column(2).map_err(failed)? != sum(key, value) {
                return Err(self.corrupt(&format!("the row under {} was altered", hex::encode(key))));
            }
            let decoded = Row::decode(value).ok().filter(|row| row.key().encode() == key);
            rows.push(decoded.ok_or_else(|| {
                self.corrupt(&format!("the row under {} does not decode", hex::encode(key)))
            })?);
        }
        Ok(rows)
    }

    fn content_held(&self, target: Option<&Digest>) -> Result<Vec<ContentHeld>, JournalError> {
        content::held(&self.connection, target)
            .map_err(|source| failed("read", &self.path, source))?
            .ok_or_else(|| self.corrupt("pieces of content do not fit together"))
    }

    fn corrupt(&self, problem: &str) -> JournalError {
        JournalError::Corrupt { path: self.path.clone(), problem: problem.to_owned() }
    }
}

fn write(transaction: &Transaction<'_>, entry: &Entry) -> rusqlite::Result<()> {
    match entry {
        Entry::Put(row) => {
            put(transaction, &row.key().encode(), &row.encode())?;
        }
        Entry::Drop(key) => drop_row(transaction, key)?,
        Entry::Chunk(chunk) => write_chunk(transaction, chunk)?,
        Entry::DropContent(target) => {
            for table in ["pieces", "content"] {
                let delete = format!("DELETE FROM {table} WHERE target = ?1");
                transaction.prepare_cached(&delete)?.execute([target.as_bytes().as_slice()])?;
            }
        }
    }
    Ok(())
}

/// Writes an encoded row; one that is the same is not written again.
fn put(transaction: &Transaction<'_>, key: &[u8], value: &[u8]) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO rows (key, value, sum) VALUES (?1, ?2, ?3) ON CONFLICT (key) \
             DO UPDATE SET value = excluded.value, sum = excluded.sum WHERE sum <> excluded.sum",
        )?
        .execute(params![key, value, sum(key, value).as_slice()])
        .map(drop)
}

fn drop_row(transaction: &Transaction<'_>, key: &Key) -> rusqlite::Result<()> {
    transaction.prepare_cached("DELETE FROM rows WHERE key = ?1")?.execute([key.encode()]).map(drop)
}

fn write_chunk(transaction: &Transaction<'_>, chunk: &ContentChunk) -> rusqlite::Result<()> {
    let target = chunk.target.as_bytes().as_slice();
    transaction
        .prepare_cached(
            "INSERT INTO content (target, total) VALUES (?1, ?2) ON CONFLICT (target) \
             DO UPDATE SET total = excluded.total WHERE total <> excluded.total",
        )?
        .execute(params![target, chunk.total])?;
    transaction
        .prepare_cached("INSERT OR REPLACE INTO pieces (target, offset, bytes) VALUES (?1, ?2, ?3)")?
        .execute(params![target, chunk.offset, chunk.bytes])?;
    Ok(())
}

/// Over the key as well, so that a value under another row's key is noticed.
fn sum(key: &[u8], value: &[u8]) -> [u8; SUM_BYTES] {
    let mut bytes = (key.len() as u64).to_be_bytes().to_vec();
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(value);
    let mut out = [0; SUM_BYTES];
    out.copy_from_slice(&Digest::of(&bytes).as_bytes()[..SUM_BYTES]);
    out
}

fn failed(operation: &'static str, path: &Path, source: rusqlite::Error) -> JournalError {
    let path = path.to_owned();
    match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => JournalError::Locked { path },
        Some(ErrorCode::DiskFull) => JournalError::Full { path },
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            JournalError::Corrupt { path, problem: source.to_string() }
        }
        _ if is_of_another_type(&source) => JournalError::Corrupt { path, problem: source.to_string() },
        _ => JournalError::Io { operation, path, source },
    }
}

/// Whether a column holds something else than was ever written there.
fn is_of_another_type(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::{FromSqlConversionFailure, IntegralValueOutOfRange, InvalidColumnType};
    matches!(error, InvalidColumnType(..) | FromSqlConversionFailure(..) | IntegralValueOutOfRange(..))
}

/// Renames a damaged journal, and then its log. The other way round, a power cut between the two might leave what the
/// journal was before its log; a log without its journal is not read.
pub(crate) fn put_aside(path: &Path) -> Result<(), JournalError> {
    let aside = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(format!(".corrupt-{}", clock::unix_seconds()));
        fs::rename(path, PathBuf::from(name))
    };
    aside(path)
        .and_then(|()| match aside(&log_of(path)) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => Err(error),
            Ok(()) | Err(_) => Ok(()),
        })
        .map_err(|source| JournalError::PutAside { path: path.to_owned(), source })
}

fn log_of(path: &Path) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push("-wal");
    PathBuf::from(name)
}

#[cfg(test)]
mod tests;
