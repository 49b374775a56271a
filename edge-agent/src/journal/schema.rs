//! The journal's tables and rows by schema, and how an older journal becomes one of today.
//!
//! Rows are CBOR by position, and strict: an agent reads exactly the rows it knows, and takes any other for damage.
//! So whoever changes what a journal holds:
//!
//! 1. adds a field only at the end of its struct, as an `Option` with
//!    `#[serde(default, skip_serializing_if = "Option::is_none")]`: rows without it decode as they are, and keep
//!    their bytes. A new kind of row or key comes last in its enum. Where that does not do, an upgrade rewrites
//!    the rows, by way of [`super::put`].
//! 2. adds an upgrade to [`UPGRADES`] in either case, be it one that does nothing. This raises the schema, and an
//!    older agent then refuses the journal by name, where it would otherwise put it aside as damaged.
//! 3. adds the new schema's line to `LAYOUTS` in the tests, which fail until then.
//!
//! Upgrades that are released are never edited. `tests/released` holds journals of every release, which have to open.

use rusqlite::Transaction;

/// Brings a journal from one schema to the next, within one transaction with all others.
pub(super) type Upgrade = fn(&Transaction<'_>) -> rusqlite::Result<()>;

/// Upgrade N brings a journal from schema N to N + 1; the first makes the tables.
pub(super) const UPGRADES: &[Upgrade] = &[tables, previews];

fn tables(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch(
        "CREATE TABLE rows (key BLOB PRIMARY KEY, value BLOB NOT NULL, sum BLOB NOT NULL);
         CREATE TABLE content (target BLOB PRIMARY KEY, total INTEGER NOT NULL);
         CREATE TABLE pieces (target BLOB NOT NULL, offset INTEGER NOT NULL, bytes BLOB NOT NULL,
                              PRIMARY KEY (target, offset));",
    )
}

/// Applications may be looked at only, and reports then say what would change. Rows from before stay as they are.
fn previews(_: &Transaction<'_>) -> rusqlite::Result<()> {
    Ok(())
}

#[cfg(test)]
mod tests;
