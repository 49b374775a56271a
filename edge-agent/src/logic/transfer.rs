//! Fetching content: one piece after another, from where it stopped. Release envelopes are small and are put
//! together in memory; packs go to the journal piece by piece, so that a cut link or power loses one piece.

use std::{collections::BTreeMap, time::Duration};

use protocol::{
    documents::{Chunk, Encoding},
    ids::Digest,
    limits,
    planted::Bug,
};

use super::{
    backoff,
    entry::{ContentChunk, ContentHeld},
};

/// How long to wait for the next piece before asking again: several times a piece on a slow link.
const PIECE_TIMEOUT: Duration = Duration::from_secs(30);

/// What is to be fetched.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Need {
    /// Digest of the plain content.
    pub target: Digest,
    /// Length of the plain content in bytes, as signed.
    pub len: u64,
    /// How it travels, and where it is kept.
    pub encoding: Encoding,
}

impl Need {
    /// The longest its encoding may be: plain as long as signed; Zstandard grows incompressible data by less
    /// than a 64th and a header.
    fn encoded_limit(&self) -> u64 {
        match self.encoding {
            Encoding::Plain => self.len,
            Encoding::Zstd | Encoding::ZstdDelta => self.len + self.len / 64 + 1024,
        }
    }
}

/// Stored content.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Content {
    /// How much of it is there.
    pub held: ContentHeld,
    /// Whether it was unpacked and every object checked.
    pub check: Check,
}

/// Whether content was checked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Check {
    /// Not yet, by this process.
    Due,
    /// Under way.
    Busy,
    /// It is what the release says.
    Good,
}

impl Content {
    /// Whether every piece is there.
    pub fn is_complete(&self) -> bool {
        self.held.total > 0 && self.held.have == self.held.total
    }
}

/// Content and its fetching.
#[derive(Debug, Default)]
pub struct Transfers {
    /// What the journal holds.
    pub stored: BTreeMap<Digest, Content>,
    active: Option<Active>,
    failures: BTreeMap<Digest, Failed>,
}

/// Fetching that failed.
#[derive(Debug)]
struct Failed {
    /// How often in a row.
    times: u32,
    /// When to ask again.
    retry_at: Duration,
    /// Why the last time.
    why: &'static str,
}

#[derive(Debug)]
struct Active {
    need: Need,
    /// Pieces of plain content, in memory.
    memory: Vec<u8>,
    /// Up to where pieces were asked for.
    window_end: u64,
    deadline: Duration,
}

/// What a piece led to.
#[derive(Debug, PartialEq, Eq)]
pub enum Piece {
    /// Nothing: it was not asked for, or is here already.
    Ignored,
    /// It goes to the journal.
    Store(ContentChunk),
    /// It was the last of plain content.
    Whole(Digest, Vec<u8>),
    /// It was kept in memory.
    Kept,
    /// It is beyond what was signed, or the hub has no such content, or not all of it.
    Refused(&'static str),
}

/// Why a fetched thing is tried again later.
impl Transfers {
    /// Starts from what the journal holds.
    pub fn restore(held: impl IntoIterator<Item = ContentHeld>) -> Self {
        let stored =
            held.into_iter().map(|held| (held.target, Content { held, check: Check::Due })).collect();
        Self { stored, ..Self::default() }
    }

    /// The offset to ask for now, if anything is to be asked. `needs` come in order of importance.
    pub fn ask(&mut self, needs: &[Need], now: Duration) -> Option<(Need, u64)> {
        self.active = self.active.take().filter(|active| needs.contains(&active.need));
        let (active, late) = match &mut self.active {
            Some(active) => {
                let late = now >= active.deadline;
                (active, late)
            }
            None => {
                let ready = |need: &&Need| {
                    self.failures.get(&need.target).is_none_or(|failed| failed.retry_at <= now)
                };
                let need = *needs.iter().find(ready)?;
                let active = Active { need, memory: Vec::new(), window_end: 0, deadline: now };
                (self.active.insert(active), true)
            }
        };
        let stored = self.stored.get(&active.need.target);
        let have = offset(active, stored);
        if !late && have < active.window_end {
            return None;
        }
        active.window_end = have + (limits::CHUNK_BYTES * limits::WINDOW_CHUNKS) as u64;
        active.deadline = now + PIECE_TIMEOUT;
        Some((active.need, have))
    }

    /// Takes a piece that nobody asked for, of something that is needed: it came by hand.
    pub fn take_carried(&mut self, chunk: Chunk, needs: &[Need], now: Duration) -> Piece {
        let Some(need) = needs.iter().find(|need| need.target == chunk.target) else {
            return Piece::Ignored;
        };
        if self.active.as_ref().is_none_or(|active| active.need != *need) {
            // What comes over the link meanwhile is asked for again later, from where it stopped.
            self.active = Some(Active { need: *need, memory: Vec::new(), window_end: 0, deadline: now });
        }
        self.take(chunk, now)
    }

    /// Takes a piece.
    pub fn take(&mut self, chunk: Chunk, now: Duration) -> Piece {
        let Some(active) = self.active.as_mut().filter(|active| active.need.target == chunk.target) else {
            return Piece::Ignored;
        };
        let stored = self.stored.get(&chunk.target);
        let known = stored.map(|content| content.held.total).filter(|total| *total > 0);
        if chunk.total == 0 {
            return self.fail(chunk.target, "the hub does not have it", now);
        }
        if chunk.total > active.need.encoded_limit() || chunk.encoding != active.need.encoding {
            return self.fail(
                chunk.target,
                "it is longer or otherwise encoded than was signed and asked for",
                now,
            );
        }
        if known.is_some_and(|known| known != chunk.total) {
            return self.fail(chunk.target, "its length changed on the way", now);
        }
        if chunk.offset != offset(active, stored) {
            return Piece::Ignored;
        }
        if chunk.bytes.is_empty() {
            return self.fail(chunk.target, "it ends before its length", now);
        }
        active.deadline = now + PIECE_TIMEOUT;
        match chunk.encoding {
            Encoding::Plain => self.keep(chunk),
            Encoding::Zstd | Encoding::ZstdDelta => self.store(chunk),
        }
    }

    /// Forgets content, or what was fetched of it, after it turned out bad; fetched again later.
    pub fn fail(&mut self, target: Digest, why: &'static str, now: Duration) -> Piece {
        self.active = self.active.take().filter(|active| active.need.target != target);
        self.stored.remove(&target);
        let times = self.failures.get(&target).map_or(0, |failed| failed.times) + 1;
        let retry_at = now + backoff::wait(times, &target.to_string());
        self.failures.insert(target, Failed { times, retry_at, why });
        Piece::Refused(why)
    }

    /// How often content failed to come, and why the last time; empty if it did not.
    pub fn trouble(&self, target: &Digest) -> String {
        let failed = self.failures.get(target);
        failed.map_or_else(String::new, |failed| format!("; failed {} times: {}", failed.times, failed.why))
    }

    /// The link is new: what was asked for on the old one will not come.
    pub fn reconnect(&mut self, now: Duration) {
        if let Some(active) = &mut self.active {
            active.deadline = now;
        }
    }

    /// When to ask again, if nothing comes.
    pub fn next_time(&self, needs: &[Need]) -> Option<Duration> {
        let retry = needs
            .iter()
            .filter_map(|need| self.failures.get(&need.target).map(|failed| failed.retry_at))
            .min();
        self.active.as_ref().map(|active| active.deadline).or(retry)
    }

    /// Content that is held and that none of `wanted` names; forgets it.
    pub fn drop_unwanted(&mut self, wanted: &[Digest]) -> Vec<Digest> {
        let unwanted: Vec<Digest> =
            self.stored.keys().filter(|target| !wanted.contains(target)).copied().collect();
        for target in &unwanted {
            self.stored.remove(target);
        }
        self.failures.retain(|target, _| wanted.contains(target));
        unwanted
    }

    fn keep(&mut self, chunk: Chunk) -> Piece {
        let Some(mut active) = self.active.take() else { return Piece::Ignored };
        active.memory.extend_from_slice(&chunk.bytes);
        if active.memory.len() as u64 == chunk.total {
            return Piece::Whole(chunk.target, active.memory);
        }
        self.active = Some(active);
        Piece::Kept
    }

    fn store(&mut self, chunk: Chunk) -> Piece {
        let have = chunk.offset + chunk.bytes.len() as u64;
        let held = ContentHeld { target: chunk.target, have, total: chunk.total };
        let check = if Bug::ContentUnchecked.is_planted() { Check::Good } else { Check::Due };
        self.stored.insert(chunk.target, Content { held, check });
        if have == chunk.total {
            self.active = None;
        }
        let Chunk { target, total, offset, bytes, .. } = chunk;
        Piece::Store(ContentChunk { target, offset, total, bytes })
    }
}

fn offset(active: &Active, stored: Option<&Content>) -> u64 {
    match active.need.encoding {
        Encoding::Plain => active.memory.len() as u64,
        Encoding::Zstd | Encoding::ZstdDelta => stored.map_or(0, |content| content.held.have),
    }
}
