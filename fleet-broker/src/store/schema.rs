//! The tables, and how older ones become them.

use rusqlite::Connection;

/// Migration N brings a database from `user_version` N to N + 1. What is released is never edited, only added to.
const MIGRATIONS: [&str; 1] = ["
    CREATE TABLE meta (
        key TEXT PRIMARY KEY,
        value ANY NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE objects (
        kind TEXT NOT NULL,
        namespace TEXT NOT NULL,
        name TEXT NOT NULL,
        version INTEGER NOT NULL,
        json TEXT NOT NULL,
        PRIMARY KEY (kind, namespace, name)
    ) STRICT;
    CREATE TABLE documents (
        kind TEXT NOT NULL,
        key TEXT NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (kind, key)
    ) STRICT;
    CREATE TABLE blobs (
        digest BLOB PRIMARY KEY,
        len INTEGER NOT NULL,
        zstd_len INTEGER NOT NULL
    ) STRICT, WITHOUT ROWID;
    CREATE TABLE blob_rows (
        digest BLOB NOT NULL REFERENCES blobs,
        position INTEGER NOT NULL,
        bytes BLOB NOT NULL,
        PRIMARY KEY (digest, position)
    ) STRICT;
"];

/// The newest schema this program knows.
pub(super) const NEWEST: u32 = MIGRATIONS.len() as u32;

/// The schema that a database has, 0 when it is new.
pub(super) fn version(connection: &Connection) -> rusqlite::Result<u32> {
    connection.query_row("PRAGMA user_version", [], |row| row.get(0))
}

/// Brings a database from schema `found` to the newest, all or nothing.
pub(super) fn migrate(connection: &mut Connection, found: u32) -> rusqlite::Result<()> {
    let transaction = connection.transaction()?;
    for (number, migration) in (1..).zip(MIGRATIONS).skip(found as usize) {
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number)?;
    }
    transaction.commit()
}
