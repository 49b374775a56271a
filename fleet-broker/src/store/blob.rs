//! Blobs in the database: in rows of a fixed length, so that a window is read without the rest.

use rusqlite::{Connection, OptionalExtension, Transaction, params};

use super::{Blob, BlobInfo, StoreError, failed};
use crate::boundary::{self, At};

/// Length of the rows in which blobs are kept, in bytes: a read for one window touches few of them.
pub(super) const BLOB_ROW_LEN: usize = 64 * 1024;

impl Blob {
    pub(super) fn execute(&self, transaction: &Transaction<'_>) -> rusqlite::Result<()> {
        let added = transaction
            .prepare_cached("INSERT OR IGNORE INTO blobs (digest, len, zstd_len) VALUES (?, ?, ?)")?
            .execute(params![self.digest, self.len, self.zstd.len()])?;
        if added == 0 {
            if self.is_kept(transaction)? {
                return Ok(());
            }
            transaction
                .prepare_cached("UPDATE blobs SET len = ?, zstd_len = ? WHERE digest = ?")?
                .execute(params![self.len, self.zstd.len(), self.digest])?;
            transaction.prepare_cached("DELETE FROM blob_rows WHERE digest = ?")?.execute([self.digest])?;
        }
        let mut insert =
            transaction.prepare_cached("INSERT INTO blob_rows (digest, position, bytes) VALUES (?, ?, ?)")?;
        for (position, bytes) in self.zstd.chunks(BLOB_ROW_LEN).enumerate() {
            boundary::pass(At::Piece);
            insert.execute(params![self.digest, position, bytes])?;
        }
        Ok(())
    }

    /// Whether what is kept under the digest is this very blob.
    fn is_kept(&self, transaction: &Transaction<'_>) -> rusqlite::Result<bool> {
        let recorded: u64 = transaction
            .prepare_cached("SELECT zstd_len FROM blobs WHERE digest = ?")?
            .query_row([self.digest], |row| row.get(0))?;
        let mut select =
            transaction.prepare_cached("SELECT bytes FROM blob_rows WHERE digest = ? ORDER BY position")?;
        let mut rows = select.query([self.digest])?;
        let mut wanted = self.zstd.chunks(BLOB_ROW_LEN);
        while let Some(row) = rows.next()? {
            if wanted.next() != Some(row.get_ref(0)?.as_blob()?) {
                return Ok(false);
            }
        }
        Ok(wanted.next().is_none() && recorded == self.zstd.len() as u64)
    }
}

pub(super) fn blob_info(connection: &Connection, digest: [u8; 32]) -> Result<Option<BlobInfo>, StoreError> {
    connection
        .query_row("SELECT len, zstd_len FROM blobs WHERE digest = ?", [digest], |row| {
            Ok(BlobInfo { len: row.get(0)?, zstd_len: row.get(1)? })
        })
        .optional()
        .map_err(failed("read a blob"))
}

pub(super) fn read_blob(
    connection: &Connection,
    digest: [u8; 32],
    offset: u64,
    len: usize,
) -> Result<Vec<u8>, StoreError> {
    let row_len = BLOB_ROW_LEN as u64;
    let (first, end) = (offset / row_len, offset.saturating_add(len as u64));
    let read = || -> rusqlite::Result<Vec<u8>> {
        let mut select = connection.prepare_cached(
            "SELECT bytes FROM blob_rows WHERE digest = ? AND position >= ? AND position < ? ORDER BY position",
        )?;
        let mut rows = select.query(params![digest, first, end.div_ceil(row_len)])?;
        let mut bytes = Vec::new();
        while let Some(row) = rows.next()? {
            bytes.extend_from_slice(row.get_ref(0)?.as_blob()?);
        }
        Ok(bytes)
    };
    let mut bytes = read().map_err(failed("read a blob"))?;
    bytes.drain(..bytes.len().min(usize::try_from(offset % row_len).unwrap_or(usize::MAX)));
    bytes.truncate(len);
    Ok(bytes)
}
