//! What the hub keeps: one SQLite database, written by one thread that commits what is waiting together.
//!
//! Only this file knows SQL. A commit has happened when [`Store::commit`] returns, power cut or not.

use std::cell::Cell;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use protocol::limits;
use ring::digest::{Context, SHA256};
use rusqlite::{
    CachedStatement, Connection, ErrorCode, OpenFlags, OptionalExtension, Transaction, params_from_iter,
};
use serde_json::value::RawValue;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use crate::boundary::{self, At};
use crate::logic::registry::StoredObject;

mod blob;
mod schema;
mod snapshot;
#[cfg(test)]
pub(crate) mod tests;

/// Most jobs that wait for the store: a full queue slows their senders down instead of growing.
const QUEUE_MAX_LEN: usize = 1024;
/// Most commits made durable together, so that the first does not wait for long.
const BATCH_MAX_LEN: usize = 256;
/// Longest blob, in bytes before compression: content of a bundle for a tiny cluster, with room to spare.
pub const BLOB_MAX_LEN: usize = 32 * 1024 * 1024;
/// How hard blobs are compressed: they go over thin links again and again, yet an upload must not block others.
const BLOB_ZSTD_LEVEL: i32 = 9;
/// Pages of the log after which they go into the database (16 MB): a page that changes often is copied and flushed once
/// for many changes.
const CHECKPOINT_PAGES: u32 = 4096;
/// How long to wait for another process to let go of the database.
const LOCK_WAIT: Duration = Duration::from_secs(2);

/// A handle on the store; clones share it. The last one dropped closes it.
#[derive(Clone, Debug)]
pub struct Store {
    jobs: mpsc::Sender<Job>,
}

/// One thing to write. Writes given to [`Store::commit`] together happen all or not at all.
#[derive(Clone, Debug)]
pub enum Write {
    /// Writes an object, new or not.
    PutObject {
        /// The name of its kind.
        kind: &'static str,
        /// Its namespace, empty for a cluster-scoped one.
        namespace: String,
        /// Its name.
        name: String,
        /// The version of its last change.
        version: u64,
        /// Its JSON.
        json: String,
    },
    /// Removes an object.
    DeleteObject {
        /// The name of its kind.
        kind: &'static str,
        /// Its namespace, empty for a cluster-scoped one.
        namespace: String,
        /// Its name.
        name: String,
    },
    /// Promises that no version above this one was ever given out.
    ReserveVersions(u64),
    /// Writes a document, new or not.
    PutDocument {
        /// What sort of document.
        kind: &'static str,
        /// Which of them.
        key: String,
        /// Its bytes.
        bytes: Vec<u8>,
    },
    /// Removes a document.
    DeleteDocument {
        /// What sort of document.
        kind: &'static str,
        /// Which of them.
        key: String,
    },
    /// Writes a blob; one that is there already is left as it is, unless it is damaged.
    PutBlob(Blob),
}

/// Content under the name of its digest, compressed.
#[derive(Clone, Debug)]
pub struct Blob {
    digest: [u8; 32],
    len: u64,
    zstd: Vec<u8>,
}

/// Takes content in pieces, and makes a [`Blob`] of it if it is what it was said to be.
pub struct BlobWriter {
    hash: Context,
    len: u64,
    encoder: zstd::stream::write::Encoder<'static, Vec<u8>>,
}

/// What a blob is, without its bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct BlobInfo {
    /// The length of the content, in bytes.
    pub len: u64,
    /// The length of its zstd frame, in bytes: what [`Store::read_blob`] reads from.
    pub zstd_len: u64,
}

/// All objects, as they were committed last.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The highest version that may have been given out.
    pub reserved_version: u64,
    /// The objects.
    pub objects: Vec<StoredObject>,
}

/// Why something could not be kept or read back.
#[derive(Clone, Debug, Error)]
pub enum StoreError {
    /// The database does not open.
    #[error("cannot open the store {path}")]
    Open {
        /// The database file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// Another process has it open.
    #[error("the store {path} is used by another process; stop that one first")]
    Locked {
        /// The database file.
        path: PathBuf,
    },
    /// It was written by a newer hub.
    #[error(
        "the store {path} has schema {found}, this hub knows {known}; run the newer hub, or restore a backup"
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// Its schema.
        found: u32,
        /// The newest schema this program knows.
        known: u32,
    },
    /// The disk or file system is full. Nothing was written; the same may work later.
    #[error("the store's disk is full; free some space")]
    Full,
    /// The file is damaged.
    #[error("the store is damaged ({what}); restore a backup")]
    Corrupt {
        /// What was found.
        what: String,
    },
    /// Reading or writing failed.
    #[error("the store failed to {operation}")]
    Failed {
        /// What it was to do.
        operation: &'static str,
        /// Why.
        #[source]
        source: Arc<rusqlite::Error>,
    },
    /// An earlier commit failed in a way that leaves open what is on disk, so nothing more is written.
    #[error("the store takes no more writes since one failed; restart the hub")]
    Broken,
    /// The store's thread has ended.
    #[error("the store is closed")]
    Closed,
}

/// Why content did not become a blob.
#[derive(Debug, Error)]
pub enum BlobError {
    /// More than [`BLOB_MAX_LEN`].
    #[error("the content has more than {BLOB_MAX_LEN} bytes")]
    TooLong,
    /// The content has another digest than it was said to have.
    #[error("the content has the digest sha256:{}", hex::encode(.actual))]
    Digest {
        /// The digest it has.
        actual: [u8; 32],
    },
    /// It could not be compressed.
    #[error("the content could not be compressed")]
    Compress(#[source] std::io::Error),
}

enum Job {
    Commit { writes: Vec<Write>, done: Done<()> },
    Load { done: Done<Loaded> },
    Documents { kind: &'static str, done: Done<Vec<(String, Vec<u8>)>> },
    Blob { digest: [u8; 32], done: Done<Option<BlobInfo>> },
    ReadBlob { digest: [u8; 32], offset: u64, len: usize, done: Done<Vec<u8>> },
    Snapshot { path: PathBuf, done: Done<()> },
    Close { done: Done<()> },
}

type Done<T> = oneshot::Sender<Result<T, StoreError>>;

impl Store {
    /// Opens the database, creating or migrating it, and starts its thread.
    ///
    /// # Errors
    /// When it cannot be opened, is in use, is damaged, or is from a newer hub.
    pub fn open(path: &Path) -> Result<Store, StoreError> {
        Ok(Store::on(open(path)?))
    }

    fn on(connection: Connection) -> Store {
        let (jobs, queue) = mpsc::channel(QUEUE_MAX_LEN);
        #[allow(
            clippy::disallowed_methods,
            reason = "SQLite blocks, and the order of commits is that of one thread"
        )]
        std::thread::spawn(move || Writer { connection, broken: Cell::new(false) }.run(queue));
        Store { jobs }
    }

    /// Writes all of `writes`, or nothing. They are durable when this returns, and in the order of the calls.
    ///
    /// # Errors
    /// When they are not written.
    pub async fn commit(&self, writes: Vec<Write>) -> Result<(), StoreError> {
        self.ask(|done| Job::Commit { writes, done }).await
    }

    /// All objects.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn load(&self) -> Result<Loaded, StoreError> {
        self.ask(|done| Job::Load { done }).await
    }

    /// All documents of a kind, with their keys, in the order of these.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn documents(&self, kind: &'static str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
        self.ask(|done| Job::Documents { kind, done }).await
    }

    /// What the blob of this SHA-256 digest is, if it is here.
    ///
    /// # Errors
    /// When that cannot be read.
    pub async fn blob(&self, digest: [u8; 32]) -> Result<Option<BlobInfo>, StoreError> {
        self.ask(|done| Job::Blob { digest, done }).await
    }

    /// At most `len` bytes of a blob's zstd frame from `offset`; none past its end.
    ///
    /// # Errors
    /// When they cannot be read.
    pub async fn read_blob(&self, digest: [u8; 32], offset: u64, len: usize) -> Result<Vec<u8>, StoreError> {
        self.ask(|done| Job::ReadBlob { digest, offset, len, done }).await
    }

    /// Copies the database as it is at one moment into a new file, while jobs go on. The copy is not made durable.
    ///
    /// # Errors
    /// When it cannot be read or copied; a file may be left.
    pub async fn snapshot(&self, path: &Path) -> Result<(), StoreError> {
        self.ask(|done| Job::Snapshot { path: path.to_owned(), done }).await
    }

    /// Ends the store's thread, whoever else has a handle, and waits until the database is closed.
    ///
    /// # Errors
    /// When it was closed before.
    pub async fn close(self) -> Result<(), StoreError> {
        self.ask(|done| Job::Close { done }).await
    }

    async fn ask<T>(&self, job: impl FnOnce(Done<T>) -> Job) -> Result<T, StoreError> {
        let (done, answer) = oneshot::channel();
        self.jobs.send(job(done)).await.map_err(|_| StoreError::Closed)?;
        answer.await.map_err(|_| StoreError::Closed)?
    }
}

impl BlobWriter {
    /// A writer that has taken nothing yet.
    ///
    /// # Errors
    /// When the compressor does not start, for lack of memory.
    pub fn new() -> Result<BlobWriter, BlobError> {
        let mut encoder =
            zstd::stream::write::Encoder::new(Vec::new(), BLOB_ZSTD_LEVEL).map_err(BlobError::Compress)?;
        let window = zstd::zstd_safe::CParameter::WindowLog(limits::PACK_WINDOW_LOG);
        encoder.set_parameter(window).map_err(BlobError::Compress)?;
        Ok(BlobWriter { hash: Context::new(&SHA256), len: 0, encoder })
    }

    /// Takes the next piece.
    ///
    /// # Errors
    /// When it is one too many, or cannot be compressed.
    pub fn write(&mut self, piece: &[u8]) -> Result<(), BlobError> {
        self.len += piece.len() as u64;
        if self.len > BLOB_MAX_LEN as u64 {
            return Err(BlobError::TooLong);
        }
        self.hash.update(piece);
        std::io::Write::write_all(&mut self.encoder, piece).map_err(BlobError::Compress)
    }

    /// The blob, if its content has this SHA-256 digest.
    ///
    /// # Errors
    /// When it has another.
    pub fn finish(self, digest: [u8; 32]) -> Result<Blob, BlobError> {
        let actual: [u8; 32] = self.hash.finish().as_ref().try_into().expect("a SHA-256 digest has 32 bytes");
        if actual != digest {
            return Err(BlobError::Digest { actual });
        }
        let zstd = self.encoder.finish().map_err(BlobError::Compress)?;
        Ok(Blob { digest, len: self.len, zstd })
    }
}

fn open(path: &Path) -> Result<Connection, StoreError> {
    let open_error = |source: rusqlite::Error| match source.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            StoreError::Locked { path: path.to_owned() }
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { what: source.to_string() }
        }
        Some(_) | None => StoreError::Open { path: path.to_owned(), source: Arc::new(source) },
    };
    let flags =
        OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut connection = Connection::open_with_flags(path, flags).map_err(open_error)?;
    connection.busy_timeout(LOCK_WAIT).map_err(open_error)?;
    // Exclusive: the lock is held from the first write until the process ends, so that two hubs never share a file.
    connection
        .execute_batch(
            "PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL;
             PRAGMA foreign_keys = ON; BEGIN IMMEDIATE; COMMIT;",
        )
        .map_err(open_error)?;
    connection.pragma_update(None, "wal_autocheckpoint", CHECKPOINT_PAGES).map_err(open_error)?;
    let found = schema::version(&connection).map_err(open_error)?;
    if found > schema::NEWEST {
        return Err(StoreError::Newer { path: path.to_owned(), found, known: schema::NEWEST });
    }
    schema::migrate(&mut connection, found, schema::MIGRATIONS).map_err(open_error)?;
    Ok(connection)
}

struct Writer {
    connection: Connection,
    /// A commit failed so that nobody knows what is on disk.
    broken: Cell<bool>,
}

/// A commit that waits for its batch.
type Waiting = (Vec<Write>, Done<()>);

impl Writer {
    /// Does jobs in order until nobody can send more. Commits that follow each other share one flush.
    fn run(self, mut queue: mpsc::Receiver<Job>) {
        while let Some(first) = queue.blocking_recv() {
            if let Some(done) = self.round(first, &mut queue) {
                drop(self);
                return drop(done.send(Ok(())));
            }
        }
    }

    /// Does what is waiting now. Says whom to tell that the database is closed, if it is to be.
    fn round(&self, first: Job, queue: &mut mpsc::Receiver<Job>) -> Option<Done<()>> {
        let mut batch: Vec<Waiting> = Vec::new();
        let mut next = Some(first);
        while let Some(job) = next {
            match job {
                Job::Commit { writes, done } => batch.push((writes, done)),
                Job::Close { done } => {
                    self.commit(&mut batch);
                    return Some(done);
                }
                Job::Snapshot { path, done } => {
                    self.commit(&mut batch);
                    drop(done.send(self.snapshot(&path, queue)));
                }
                read @ (Job::Load { .. }
                | Job::Documents { .. }
                | Job::Blob { .. }
                | Job::ReadBlob { .. }) => {
                    self.commit(&mut batch);
                    self.read(read);
                }
            }
            next = if batch.len() < BATCH_MAX_LEN { queue.try_recv().ok() } else { None };
        }
        self.commit(&mut batch);
        None
    }

    fn commit(&self, batch: &mut Vec<Waiting>) {
        if batch.is_empty() {
            return;
        }
        let result = if self.broken.get() { Err(StoreError::Broken) } else { self.write(batch) };
        if let Err(error) = &result {
            tracing::error!(%error, commits = batch.len(), "nothing of a batch was stored");
            self.broken.set(self.broken.get() || !matches!(error, StoreError::Full));
        }
        for (_, done) in batch.drain(..) {
            // Whoever asked may have gone; what is written is written.
            let _ = done.send(result.clone());
        }
    }

    fn write(&self, batch: &[Waiting]) -> Result<(), StoreError> {
        // Nothing else on this thread has one open.
        let transaction = self.connection.unchecked_transaction().map_err(failed("begin"))?;
        let mut rows = Rows::new(&transaction);
        for write in batch.iter().flat_map(|(writes, _)| writes) {
            rows.write(write).map_err(failed("write"))?;
        }
        drop(rows);
        boundary::pass(At::Commit);
        transaction.commit().map_err(failed("commit"))?;
        boundary::pass(At::Committed);
        Ok(())
    }

    /// Answers may find nobody waiting any more.
    fn read(&self, job: Job) {
        match job {
            Job::Commit { done, .. } | Job::Snapshot { done, .. } | Job::Close { done } => {
                drop(done.send(Err(StoreError::Closed)));
            }
            Job::Load { done } => drop(done.send(load(&self.connection))),
            Job::Documents { kind, done } => drop(done.send(documents(&self.connection, kind))),
            Job::Blob { digest, done } => drop(done.send(blob::blob_info(&self.connection, digest))),
            Job::ReadBlob { digest, offset, len, done } => {
                drop(done.send(blob::read_blob(&self.connection, digest, offset, len)));
            }
        }
    }
}

fn failed(operation: &'static str) -> impl Fn(rusqlite::Error) -> StoreError {
    move |source| match source.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => StoreError::Full,
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            StoreError::Corrupt { what: source.to_string() }
        }
        Some(_) | None => StoreError::Failed { operation, source: Arc::new(source) },
    }
}

/// Writes rows, with the statements for most of them at hand: to look one up takes a tenth of a write.
struct Rows<'a> {
    transaction: &'a Transaction<'a>,
    put_object: Option<CachedStatement<'a>>,
    put_document: Option<CachedStatement<'a>>,
}

impl<'a> Rows<'a> {
    fn new(transaction: &'a Transaction<'a>) -> Self {
        Self { transaction, put_object: None, put_document: None }
    }

    fn write(&mut self, write: &Write) -> rusqlite::Result<()> {
        let transaction = self.transaction;
        let run =
            |sql: &str, values: &[&str]| transaction.prepare_cached(sql)?.execute(params_from_iter(values));
        boundary::pass(if matches!(write, Write::ReserveVersions(_)) { At::Reserve } else { At::Row });
        // A row that is there is changed in place: to replace it is to delete it and its entry in the index first.
        match write {
            Write::PutObject { kind, namespace, name, version, json } => {
                let put = prepared(
                    &mut self.put_object,
                    transaction,
                    "INSERT INTO objects (kind, namespace, name, version, json) VALUES (?, ?, ?, ?, ?)
                     ON CONFLICT (kind, namespace, name) DO UPDATE SET version = excluded.version, json = excluded.json",
                )?;
                put.execute((kind, namespace, name, version, json))?
            }
            Write::DeleteObject { kind, namespace, name } => run(
                "DELETE FROM objects WHERE kind = ? AND namespace = ? AND name = ?",
                &[kind, namespace, name],
            )?,
            Write::ReserveVersions(version) => transaction
                .prepare_cached("INSERT OR REPLACE INTO meta (key, value) VALUES ('reserved_version', ?)")?
                .execute([version])?,
            Write::PutDocument { kind, key, bytes } => {
                let put = prepared(
                    &mut self.put_document,
                    transaction,
                    "INSERT INTO documents (kind, key, bytes) VALUES (?, ?, ?)
                     ON CONFLICT (kind, key) DO UPDATE SET bytes = excluded.bytes",
                )?;
                put.execute((kind, key, bytes))?
            }
            Write::DeleteDocument { kind, key } => {
                run("DELETE FROM documents WHERE kind = ? AND key = ?", &[kind, key])?
            }
            Write::PutBlob(blob) => return blob.execute(transaction),
        };
        Ok(())
    }
}

fn prepared<'s, 'a>(
    slot: &'s mut Option<CachedStatement<'a>>,
    transaction: &'a Transaction<'a>,
    sql: &str,
) -> rusqlite::Result<&'s mut CachedStatement<'a>> {
    match slot {
        Some(statement) => Ok(statement),
        empty @ None => Ok(empty.insert(transaction.prepare_cached(sql)?)),
    }
}

fn load(connection: &Connection) -> Result<Loaded, StoreError> {
    let read = || -> rusqlite::Result<(u64, Vec<Result<StoredObject, StoreError>>)> {
        let reserved = connection
            .query_row("SELECT value FROM meta WHERE key = 'reserved_version'", [], |row| row.get(0))
            .optional()?;
        let mut select = connection.prepare("SELECT kind, namespace, name, version, json FROM objects")?;
        let rows = select.query_map([], |row| {
            let (kind, namespace, name) = (row.get(0)?, row.get(1)?, row.get(2)?);
            Ok(stored_object(kind, namespace, name, row.get(3)?, row.get(4)?))
        })?;
        Ok((reserved.unwrap_or(0), rows.collect::<Result<_, _>>()?))
    };
    let (reserved_version, objects) = read().map_err(failed("load the objects"))?;
    Ok(Loaded { reserved_version, objects: objects.into_iter().collect::<Result<_, _>>()? })
}

fn stored_object(
    kind: String,
    namespace: String,
    name: String,
    version: u64,
    json: String,
) -> Result<StoredObject, StoreError> {
    match RawValue::from_string(json) {
        Ok(text) => Ok(StoredObject { kind, namespace, name, version, text }),
        Err(error) => {
            Err(StoreError::Corrupt { what: format!("{kind} {namespace}/{name} is not JSON: {error}") })
        }
    }
}

fn documents(connection: &Connection, kind: &str) -> Result<Vec<(String, Vec<u8>)>, StoreError> {
    let read = || {
        connection
            .prepare_cached("SELECT key, bytes FROM documents WHERE kind = ? ORDER BY key")?
            .query_map([kind], |row| Ok((row.get(0)?, row.get(1)?)))?
            .collect::<rusqlite::Result<_>>()
    };
    read().map_err(failed("read documents"))
}
