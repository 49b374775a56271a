//! An agent's journal in memory: what a disk with `synchronous=FULL` keeps when power fails.

use std::{cell::RefCell, collections::BTreeMap, convert::Infallible, io::Cursor, rc::Rc, sync::Arc};

use edge_agent::{
    execute::Contents,
    logic::entry::{ContentChunk, ContentHeld, Entry, Key, Row},
};
use protocol::ids::Digest;

/// The journal of one agent. Clones are the same journal.
#[derive(Debug, Clone, Default)]
pub struct Disk(Rc<RefCell<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    rows: BTreeMap<Key, Row>,
    contents: BTreeMap<Digest, Content>,
    /// Transactions that were written.
    syncs: u64,
}

#[derive(Debug)]
struct Content {
    bytes: Vec<u8>,
    total: u64,
}

impl Disk {
    /// Writes all of `entries`. They are there after a power cut when this returns.
    pub fn record(&self, entries: Vec<Entry>) {
        if entries.is_empty() {
            return;
        }
        let mut kept = self.0.borrow_mut();
        kept.syncs += 1;
        for entry in entries {
            match entry {
                Entry::Put(row) => drop(kept.rows.insert(row.key(), row)),
                Entry::Drop(key) => drop(kept.rows.remove(&key)),
                Entry::Chunk(chunk) => kept.append(chunk),
                Entry::DropContent(digest) => drop(kept.contents.remove(&digest)),
            }
        }
    }

    /// What an agent is rebuilt from: rows in the order of their keys, and how much of which content is there.
    pub fn load(&self) -> (Vec<Row>, Vec<ContentHeld>) {
        let kept = self.0.borrow();
        let held = |(target, content): (&Digest, &Content)| ContentHeld {
            target: *target,
            have: content.bytes.len() as u64,
            total: content.total,
        };
        (kept.rows.values().cloned().collect(), kept.contents.iter().map(held).collect())
    }

    /// Transactions that were written.
    pub fn syncs(&self) -> u64 {
        self.0.borrow().syncs
    }
}

impl Kept {
    fn append(&mut self, chunk: ContentChunk) {
        let ContentChunk { target, offset, total, bytes } = chunk;
        let content = self.contents.entry(target).or_insert(Content { bytes: Vec::new(), total });
        // A piece behind a gap, or over another, is the agent's mistake: what it makes is found when it is unpacked.
        if content.bytes.len() as u64 == offset {
            content.bytes.extend(bytes);
        }
    }
}

impl Contents for Disk {
    type Packed = Cursor<Arc<[u8]>>;
    type Error = Infallible;

    fn content(&self, target: &Digest) -> Result<Option<Self::Packed>, Infallible> {
        let kept = self.0.borrow();
        let content = kept.contents.get(target);
        let complete =
            content.filter(|content| content.total > 0 && content.bytes.len() as u64 == content.total);
        Ok(complete.map(|content| Cursor::new(content.bytes.as_slice().into())))
    }
}
