//! Content in the journal: pieces, read one after another.

use std::{
    io::{self, BufRead, Read},
    rc::Rc,
};

use protocol::ids::Digest;
use rusqlite::{Connection, OptionalExtension};

use super::Journal;
use crate::logic::entry::ContentHeld;

/// How much of which content is there, of all or of one; none if pieces overlap or leave a gap.
pub(super) fn held(
    connection: &Connection,
    target: Option<&Digest>,
) -> rusqlite::Result<Option<Vec<ContentHeld>>> {
    let mut statement = connection.prepare_cached(
        "SELECT content.target, total, coalesce(sum(length(bytes)), 0), \
                coalesce(max(offset + length(bytes)), 0) \
         FROM content LEFT JOIN pieces USING (target) WHERE ?1 IS NULL OR content.target = ?1 \
         GROUP BY content.target ORDER BY content.target",
    )?;
    let mut found = statement.query([target.map(|target| target.as_bytes().as_slice())])?;
    let mut held = Vec::new();
    while let Some(row) = found.next()? {
        let (target, total): (Vec<u8>, u64) = (row.get(0)?, row.get(1)?);
        let (have, end): (u64, u64) = (row.get(2)?, row.get(3)?);
        let Ok(target) = Digest::try_from(target.as_slice()) else { return Ok(None) };
        // Pieces that neither overlap nor leave a gap add up to where the last one ends.
        if have != end || have > total {
            return Ok(None);
        }
        held.push(ContentHeld { target, have, total });
    }
    Ok(Some(held))
}

/// Stored content, read piece by piece: one is in memory at a time.
#[derive(Debug)]
pub struct Packed {
    journal: Rc<Journal>,
    held: ContentHeld,
    /// Where the next piece starts.
    next: u64,
    piece: Vec<u8>,
    /// How much of the piece was read.
    read: usize,
}

impl Packed {
    pub(super) fn new(journal: Rc<Journal>, held: ContentHeld) -> Self {
        Self { journal, held, next: 0, piece: Vec::new(), read: 0 }
    }

    fn load(&mut self) -> io::Result<()> {
        let piece = self
            .journal
            .connection
            .prepare_cached("SELECT bytes FROM pieces WHERE target = ?1 AND offset = ?2")
            .and_then(|mut statement| {
                let key = (self.held.target.as_bytes().as_slice(), self.next);
                statement.query_row(key, |row| row.get(0)).optional()
            })
            .map_err(io::Error::other)?;
        self.piece = piece.ok_or_else(|| {
            io::Error::new(io::ErrorKind::UnexpectedEof, format!("no piece at {}", self.next))
        })?;
        if self.piece.is_empty() {
            return Err(io::Error::new(io::ErrorKind::InvalidData, format!("empty piece at {}", self.next)));
        }
        self.next += self.piece.len() as u64;
        self.read = 0;
        Ok(())
    }
}

impl BufRead for Packed {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.read == self.piece.len() && self.next < self.held.total {
            self.load()?;
        }
        Ok(&self.piece[self.read..])
    }

    fn consume(&mut self, amount: usize) {
        self.read += amount;
    }
}

impl Read for Packed {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let available = self.fill_buf()?;
        let count = available.len().min(buffer.len());
        buffer[..count].copy_from_slice(&available[..count]);
        self.consume(count);
        Ok(count)
    }
}
