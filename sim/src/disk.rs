//! An agent's journal in memory: what a disk with `synchronous=FULL` keeps when power fails, and how it fails itself.

use std::{cell::RefCell, collections::BTreeMap, convert::Infallible, io::Cursor, rc::Rc, sync::Arc};

use edge_agent::{
    execute::Contents,
    logic::entry::{ContentChunk, ContentHeld, Entry, Key, Row},
};
use protocol::ids::Digest;

use crate::chance::Chance;

/// Why something is not written.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DiskError {
    /// There is no room.
    #[error("the disk is full")]
    Full,
    /// The flush failed: nobody knows what a power cut would leave.
    #[error("the disk failed to write")]
    Flush,
}

/// All that is on a disk at one moment.
#[derive(Debug, Clone, Default)]
pub struct Image {
    pub(crate) rows: BTreeMap<Key, Row>,
    pub(crate) contents: BTreeMap<Digest, Content>,
}

/// The journal of one agent. Clones are the same journal.
#[derive(Debug, Clone, Default)]
pub struct Disk(Rc<RefCell<Kept>>);

#[derive(Debug, Default)]
struct Kept {
    image: Image,
    full: bool,
    fails: bool,
    /// What was written when a flush failed: it may be found after a power cut, unless something was written since.
    unsure: Vec<Entry>,
    /// Transactions that were written.
    syncs: u64,
}

#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub(crate) bytes: Vec<u8>,
    total: u64,
}

impl Disk {
    /// Writes all of `entries`, or none. They are there after a power cut when this returns.
    ///
    /// # Errors
    /// When the disk fails.
    pub fn record(&self, entries: Vec<Entry>) -> Result<(), DiskError> {
        if entries.is_empty() {
            return Ok(());
        }
        let mut kept = self.0.borrow_mut();
        if kept.full {
            return Err(DiskError::Full);
        }
        if std::mem::take(&mut kept.fails) {
            kept.unsure = entries;
            return Err(DiskError::Flush);
        }
        kept.syncs += 1;
        kept.unsure.clear();
        kept.image.write(entries);
        Ok(())
    }

    /// Whether there is no room, from now on.
    pub fn fill(&self, full: bool) {
        self.0.borrow_mut().full = full;
    }

    /// The next flush fails.
    pub fn fail(&self) {
        self.0.borrow_mut().fails = true;
    }

    /// Power fails. What was written when a flush failed is there, or it is not.
    pub fn power_fails(&self, chance: &mut Chance) {
        let mut kept = self.0.borrow_mut();
        let unsure = std::mem::take(&mut kept.unsure);
        if !unsure.is_empty() && chance.below(2) == 0 {
            kept.image.write(unsure);
        }
    }

    /// All that is on it.
    pub fn image(&self) -> Image {
        self.0.borrow().image.clone()
    }

    /// Looks at all that is on it.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&Image) -> T) -> T {
        look(&self.0.borrow().image)
    }

    /// Puts back what was on it once, or nothing.
    pub fn put_back(&self, image: Image) {
        let mut kept = self.0.borrow_mut();
        kept.unsure.clear();
        kept.image = image;
    }

    /// What an agent is rebuilt from: rows in the order of their keys, and how much of which content is there.
    pub fn load(&self) -> (Vec<Row>, Vec<ContentHeld>) {
        let kept = self.0.borrow();
        let held = |(target, content): (&Digest, &Content)| ContentHeld {
            target: *target,
            have: content.bytes.len() as u64,
            total: content.total,
        };
        let Image { rows, contents } = &kept.image;
        (rows.values().cloned().collect(), contents.iter().map(held).collect())
    }

    /// Transactions that were written.
    pub fn syncs(&self) -> u64 {
        self.0.borrow().syncs
    }
}

impl Image {
    fn write(&mut self, entries: Vec<Entry>) {
        for entry in entries {
            match entry {
                Entry::Put(row) => drop(self.rows.insert(row.key(), row)),
                Entry::Drop(key) => drop(self.rows.remove(&key)),
                Entry::Chunk(chunk) => self.append(chunk),
                Entry::DropContent(digest) => drop(self.contents.remove(&digest)),
            }
        }
    }

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
        let content = kept.image.contents.get(target);
        let complete =
            content.filter(|content| content.total > 0 && content.bytes.len() as u64 == content.total);
        Ok(complete.map(|content| Cursor::new(content.bytes.as_slice().into())))
    }
}

#[cfg(test)]
mod tests {
    use protocol::time::UnixSeconds;

    use super::*;

    fn floor(seconds: u64) -> Vec<Entry> {
        vec![Entry::Put(Row::Clock(UnixSeconds(seconds)))]
    }

    fn rows(disk: &Disk) -> Vec<Row> {
        disk.load().0
    }

    #[test]
    fn what_a_failed_flush_wrote_is_there_after_a_power_cut_or_it_is_not() {
        let outcomes = (0..16).map(|seed| {
            let disk = Disk::default();
            disk.record(floor(1)).unwrap();
            disk.fail();
            assert_eq!(disk.record(floor(2)), Err(DiskError::Flush));
            assert_eq!(rows(&disk), [Row::Clock(UnixSeconds(1))], "while power is on");
            disk.power_fails(&mut Chance::new(seed));
            rows(&disk)
        });
        let outcomes: Vec<_> = outcomes.collect();
        for seconds in [1, 2] {
            assert!(outcomes.contains(&vec![Row::Clock(UnixSeconds(seconds))]), "{seconds}");
        }

        let disk = Disk::default();
        disk.fail();
        disk.record(floor(2)).unwrap_err();
        disk.record(floor(3)).unwrap();
        disk.power_fails(&mut Chance::new(1));
        assert_eq!(rows(&disk), [Row::Clock(UnixSeconds(3))], "what came later was written over it");
    }

    #[test]
    fn a_full_disk_takes_nothing_and_an_image_is_what_it_was() {
        let disk = Disk::default();
        disk.record(floor(1)).unwrap();
        let image = disk.image();
        disk.record(floor(2)).unwrap();
        disk.fill(true);
        assert_eq!(disk.record(floor(3)), Err(DiskError::Full));
        disk.fill(false);
        assert_eq!(rows(&disk), [Row::Clock(UnixSeconds(2))]);
        disk.put_back(image);
        assert_eq!((rows(&disk), disk.syncs()), (vec![Row::Clock(UnixSeconds(1))], 2));
    }
}
