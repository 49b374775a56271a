//! What a power cut may leave of what was written and not flushed.

use super::disk::{Change, FileId, Files};

/// What a device writes whole, or not at all.
const SECTOR_BYTES: usize = 512;

/// Which of the changes that were not flushed are there.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Way {
    /// None.
    Nothing,
    /// All.
    Everything,
    /// The last one only.
    Newest,
    /// All, and of the last one its first sectors.
    Torn,
    /// Any sectors, any names, few of them or most.
    Any,
}

/// A stream of random numbers: SplitMix64.
#[derive(Clone, Debug)]
pub(super) struct Chance(pub(super) u64);

impl Chance {
    /// A number below `bound`.
    pub(super) fn below(&mut self, bound: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        ((mixed ^ (mixed >> 31)) >> 8) as usize % bound
    }
}

/// What is on the device for sure, and what may be.
#[derive(Debug, Default)]
pub(super) struct Device {
    flushed: Files,
    unflushed: Vec<Change>,
    /// What whoever wrote it sees.
    seen: Files,
}

impl Device {
    /// A device that has these files.
    pub(super) fn new(files: Files) -> Self {
        Self { flushed: files.clone(), unflushed: Vec::new(), seen: files }
    }

    pub(super) fn take(&mut self, change: Change) {
        self.seen.apply(&change);
        let is_flushed: Box<dyn Fn(&Change) -> bool> = match change {
            Change::Flush { file } => Box::new(move |change| written_to(change) == Some(file)),
            Change::FlushNames => Box::new(|change| written_to(change).is_none()),
            Change::Create { .. }
            | Change::Delete { .. }
            | Change::Write { .. }
            | Change::Truncate { .. } => {
                self.unflushed.push(change);
                return;
            }
        };
        let Self { flushed, unflushed, .. } = self;
        unflushed.retain(|change| {
            let is_flushed = is_flushed(change);
            if is_flushed {
                flushed.apply(change);
            }
            !is_flushed
        });
    }

    /// What is there when power comes back.
    pub(super) fn image(&self, way: Way, chance: &mut Chance) -> Files {
        let (last, before) = match self.unflushed.split_last() {
            Some((last, before)) if way != Way::Everything => (last, before),
            Some(_) | None => return self.seen.clone(),
        };
        let mut image = self.flushed.clone();
        match way {
            Way::Nothing | Way::Everything => {}
            Way::Newest => image.apply(last),
            Way::Torn => {
                before.iter().for_each(|change| image.apply(change));
                let kept = chance.below(sectors(last).max(1));
                let mut sector = 0;
                survive(&mut image, last, || {
                    sector += 1;
                    sector <= kept
                });
            }
            Way::Any => {
                let eighths = [1, 4, 7][chance.below(3)];
                for change in &self.unflushed {
                    survive(&mut image, change, || chance.below(8) < eighths);
                }
            }
        }
        image
    }
}

/// The file whose content a change is about; none if it is about a name.
fn written_to(change: &Change) -> Option<FileId> {
    match change {
        Change::Write { file, .. } | Change::Truncate { file, .. } | Change::Flush { file } => Some(*file),
        Change::Create { .. } | Change::Delete { .. } | Change::FlushNames => None,
    }
}

/// In how many parts a change may survive.
fn sectors(change: &Change) -> usize {
    match change {
        Change::Write { offset, bytes, .. } => {
            (offset + bytes.len()).div_ceil(SECTOR_BYTES) - offset / SECTOR_BYTES
        }
        Change::Create { .. }
        | Change::Delete { .. }
        | Change::Truncate { .. }
        | Change::Flush { .. }
        | Change::FlushNames => 1,
    }
}

/// Applies those parts of a change that survive, asked for in order. That a file is longer may survive without what
/// made it so.
fn survive(image: &mut Files, change: &Change, mut survives: impl FnMut() -> bool) {
    let Change::Write { file, offset, bytes } = change else {
        if survives() {
            image.apply(change);
        }
        return;
    };
    let (mut offset, mut rest) = (*offset, &bytes[..]);
    let end = offset + rest.len();
    while !rest.is_empty() {
        let (sector, more) = rest.split_at(rest.len().min(SECTOR_BYTES - offset % SECTOR_BYTES));
        if survives() {
            image.write(*file, offset, sector);
        }
        (offset, rest) = (offset + sector.len(), more);
    }
    if survives() {
        image.extend(*file, end);
    }
}
