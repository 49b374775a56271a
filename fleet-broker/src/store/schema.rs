//! The tables, and how older ones become them.
//!
//! A new table or column is a migration of its own, added at the end, and a line in `RELEASED` once it is released.
//! `tests/released` holds stores of every release, which have to open.

use rusqlite::Connection;

use crate::boundary::{self, At};

/// Migration N brings a database from `user_version` N to N + 1. What is released is never edited, only added to.
pub(super) const MIGRATIONS: &[&str] = &["
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

/// Brings a database from schema `found` to that of all `migrations`, all or nothing.
pub(super) fn migrate(connection: &mut Connection, found: u32, migrations: &[&str]) -> rusqlite::Result<()> {
    if migrations.len() <= found as usize {
        return Ok(());
    }
    let transaction = connection.transaction()?;
    for (number, migration) in (1..).zip(migrations).skip(found as usize) {
        boundary::pass(At::Migrate);
        transaction.execute_batch(migration)?;
        transaction.pragma_update(None, "user_version", number)?;
    }
    boundary::pass(At::Commit);
    transaction.commit()?;
    boundary::pass(At::Committed);
    Ok(())
}

#[cfg(test)]
mod tests;
