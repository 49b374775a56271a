//! The real journal on a disk that lies: power fails at every write, and what was not flushed survives in every way that
//! a device may choose.
//!
//! What a real agent recorded in its life is recorded once more, on a disk in memory. Whatever changes that disk gives
//! images of it, in which some of what was not flushed is there and some is not. The real journal opens each, and a real
//! agent is made of what it holds. A book tells what has to be there.

mod disk;
mod history;
mod survival;

use std::collections::BTreeMap;

use protocol::{
    documents::Desired,
    order::Order,
    time::{Now, UnixSeconds},
    verify::Verified,
};

use self::{
    disk::{Change, Disk, FileId, Files},
    history::{History, Life},
    survival::{Chance, Device, Way},
};
use super::*;
use crate::{
    logic::{agent::Agent, event::Event, report::chain},
    testing::{Fleet, TIME},
};

/// Updates in the agent's life.
const UPDATES: u64 = 24;

/// Decides what survives. What the agent records is not the same in each run, as it draws challenges.
const SEED: u64 = 1;

/// Fewest images that are looked at.
const IMAGES: u64 = 10_000;

/// Every so many transactions power fails within one, and the agent goes on from what is left.
const CUT_EVERY: usize = 37;

/// Changes of the disk within which it fails then.
const CUT_WITHIN: usize = 24;

/// Of so many images, one is written to and opened again.
const GOES_ON_EVERY: u64 = 16;

/// The journal's file: the first that is made.
const JOURNAL: FileId = 0;

/// What a log begins with, as no other file of SQLite's does.
const LOG_HEADER_BYTES: usize = 32;

/// What a journal has to hold.
#[derive(Clone, Default)]
struct Book {
    rows: BTreeMap<Vec<u8>, Row>,
    totals: BTreeMap<Digest, u64>,
    pieces: BTreeMap<(Digest, u64), Rc<[u8]>>,
}

impl Book {
    fn write(&mut self, entries: &[Entry]) {
        for entry in entries {
            match entry {
                Entry::Put(row) => drop(self.rows.insert(row.key().encode(), row.clone())),
                Entry::Drop(key) => drop(self.rows.remove(&key.encode())),
                Entry::Chunk(ContentChunk { target, offset, total, bytes }) => {
                    self.totals.insert(*target, *total);
                    self.pieces.insert((*target, *offset), bytes.as_slice().into());
                }
                Entry::DropContent(target) => {
                    self.totals.remove(target);
                    self.pieces.retain(|(of, _), _| of != target);
                }
            }
        }
    }

    fn and(&self, entries: &[Entry]) -> Self {
        let mut book = self.clone();
        book.write(entries);
        book
    }

    /// What a journal holds that it should not, or the other way round.
    fn differs(&self, journal: &Journal, held: &Held) -> Option<String> {
        let rows = || held.rows.iter().map(|row| format!("{:?}", row.key())).collect::<Vec<_>>();
        if !self.rows.values().eq(&held.rows) {
            let expected: Vec<_> = self.rows.values().map(|row| format!("{:?}", row.key())).collect();
            return Some(format!("rows {:?} instead of {expected:?}, or with other values", rows()));
        }
        if !self.totals.iter().eq(held.content.iter().map(|held| (&held.target, &held.total))) {
            return Some(format!("content {:?} instead of {:?}", held.content, self.totals));
        }
        self.pieces_differ(journal)
            .unwrap_or_else(|error| Some(format!("its pieces cannot be read: {error}")))
    }

    fn pieces_differ(&self, journal: &Journal) -> rusqlite::Result<Option<String>> {
        let select = "SELECT target, offset, bytes FROM pieces ORDER BY target, offset";
        let mut statement = journal.connection.prepare(select)?;
        let mut found = statement.query([])?;
        for ((target, offset), bytes) in &self.pieces {
            let is_same = match found.next()? {
                Some(row) => {
                    row.get_ref(0)?.as_blob()? == target.as_bytes()
                        && row.get::<_, u64>(1)? == *offset
                        && row.get_ref(2)?.as_blob()? == &bytes[..]
                }
                None => false,
            };
            if !is_same {
                return Ok(Some(format!("no piece, or another, at {offset} of {target}")));
            }
        }
        Ok(found.next()?.map(|_| "more pieces than were written".to_owned()))
    }
}

/// What must never go back.
#[derive(Debug, Default, PartialEq, Eq)]
struct Trusted {
    place: Option<Order>,
    floor: Option<UnixSeconds>,
    root: Option<u32>,
}

impl Trusted {
    fn of<'a>(fleet: &Fleet, rows: impl Iterator<Item = &'a Row>) -> Self {
        let mut trusted = Self::default();
        for row in rows {
            match row {
                Row::Desired(row) => {
                    let desired: Verified<Desired> =
                        fleet.trust.director(&fleet.cluster, &row.bytes).unwrap();
                    (trusted.place, trusted.root) = (Some(desired.order), Some(row.root_version));
                }
                Row::Clock(floor) => trusted.floor = Some(*floor),
                Row::Life(_)
                | Row::Root(_)
                | Row::Hold(_)
                | Row::Acked(_)
                | Row::App(..)
                | Row::Release(..)
                | Row::Object(..)
                | Row::Report(..) => {}
            }
        }
        trusted
    }

    fn went_back_to(&self, now: &Self) -> bool {
        now.place < self.place || now.floor < self.floor || now.root < self.root
    }
}

/// Whether a device neglects a change.
type Neglects = fn(&Change) -> bool;

/// One journal on a disk whose power fails.
struct Trial<'a> {
    fleet: &'a Fleet,
    synchronous: &'static str,
    /// What the device does not do though it says so.
    neglects: Neglects,
    device: Device,
    chance: Chance,
    /// What was acknowledged.
    book: Book,
    trusted: Trusted,
    images: BTreeMap<Way, u64>,
    writes: u64,
    flushes: u64,
    /// How often a log began, whose file this is.
    begun: BTreeMap<FileId, u64>,
    transactions: usize,
    cuts: u64,
    /// What no agent came up from.
    failed: Files,
}

impl<'a> Trial<'a> {
    fn new(fleet: &'a Fleet, synchronous: &'static str, neglects: Neglects) -> Self {
        Self {
            fleet,
            synchronous,
            neglects,
            device: Device::default(),
            chance: Chance(SEED),
            book: Book::default(),
            trusted: Trusted::default(),
            images: BTreeMap::new(),
            writes: 0,
            flushes: 0,
            begun: BTreeMap::new(),
            transactions: 0,
            cuts: 0,
            failed: Files::default(),
        }
    }

    /// All lives, on a new disk, with a journal that an older agent began.
    fn outlive(&mut self, lives: &[Life]) -> Result<(), String> {
        disk::replace(Disk::default());
        drop(Journal::open_with(&disk::journal(), MAX_BYTES, &UPGRADES[..1]).unwrap());
        self.look_at_changes(&[&Book::default()])?;
        lives.iter().try_for_each(|life| self.live(life))
    }

    fn images(&self) -> u64 {
        self.images.values().sum()
    }

    /// From one start of the agent to the next.
    fn live(&mut self, life: &Life) -> Result<(), String> {
        let (mut journal, held) = self.open()?;
        if let Some(difference) = self.book.differs(&journal, &held) {
            return Err(difference);
        }
        for entries in life {
            self.transactions += 1;
            journal = match self.transactions.is_multiple_of(CUT_EVERY) {
                true => self.record_through_a_cut(journal, entries)?,
                false => self.record(journal, entries)?,
            };
        }
        drop(journal);
        let book = self.book.clone();
        self.look_at_changes(&[&book])
    }

    fn open(&mut self) -> Result<(Journal, Held), String> {
        let (journal, held) = open()?;
        journal.connection.pragma_update(None, "synchronous", self.synchronous).unwrap();
        Ok((journal, held))
    }

    fn record(&mut self, journal: Journal, entries: &[Entry]) -> Result<Journal, String> {
        let (before, after) = (self.book.clone(), self.book.and(entries));
        // What opening it changed is still to be looked at, too: it leaves what was there.
        journal.record(entries).unwrap();
        self.look_at_changes(&[&before, &after])?;
        self.acknowledged(after)?;
        Ok(journal)
    }

    /// Power fails meanwhile, and the agent goes on from what is left: it records the same, unless that is there.
    fn record_through_a_cut(&mut self, journal: Journal, entries: &[Entry]) -> Result<Journal, String> {
        let (before, after) = (self.book.clone(), self.book.and(entries));
        disk::power_fails_after(self.chance.below(CUT_WITHIN));
        let is_acknowledged = journal.record(entries).is_ok();
        self.look_at_changes(&[&before, &after])?;
        if is_acknowledged {
            self.acknowledged(after.clone())?;
        }
        // The disk does not answer any more, or what this writes is lost.
        drop(journal);
        let left = self.device.image(Way::Any, &mut self.chance);
        disk::replace(Disk::new(left.clone()));
        self.device = Device::new(left);
        self.cuts += 1;
        let (journal, held) = self.open()?;
        if after.differs(&journal, &held).is_some() {
            if let Some(difference) = self.book.differs(&journal, &held) {
                return Err(format!("after a power cut: {difference}"));
            }
            return self.record(journal, entries);
        }
        self.acknowledged(after)?;
        Ok(journal)
    }

    /// A transaction was acknowledged: from now on it has to be there.
    fn acknowledged(&mut self, book: Book) -> Result<(), String> {
        self.trusted = Trusted::of(self.fleet, book.rows.values());
        for way in [Way::Nothing, Way::Any] {
            self.look(way, &[&book]).map_err(|problem| format!("after it was acknowledged: {problem}"))?;
        }
        self.book = book;
        Ok(())
    }

    /// Power may have failed at each change of the disk since.
    fn look_at_changes(&mut self, books: &[&Book]) -> Result<(), String> {
        for change in disk::changes() {
            let what = change.to_string();
            let ways: &[Way] = match change {
                Change::Flush { .. } | Change::FlushNames => {
                    self.flushes += 1;
                    &[Way::Nothing, Way::Any, Way::Newest]
                }
                Change::Create { .. }
                | Change::Delete { .. }
                | Change::Write { .. }
                | Change::Truncate { .. } => {
                    self.writes += 1;
                    if self.writes.is_multiple_of(2) {
                        &[Way::Everything, Way::Torn]
                    } else {
                        &[Way::Everything, Way::Any]
                    }
                }
            };
            let is_flush = matches!(change, Change::Flush { .. } | Change::FlushNames);
            if let Change::Write { file, offset: 0, bytes } = &change
                && bytes.len() == LOG_HEADER_BYTES
            {
                *self.begun.entry(*file).or_default() += 1;
            }
            if !is_flush {
                self.device.take(change.clone());
            }
            for way in ways {
                self.look(*way, books).map_err(|problem| format!("at the {what}: {problem}"))?;
            }
            if is_flush && !(self.neglects)(&change) {
                self.device.take(change);
            }
        }
        Ok(())
    }

    fn look(&mut self, way: Way, books: &[&Book]) -> Result<(), String> {
        let image = self.device.image(way, &mut self.chance);
        *self.images.entry(way).or_default() += 1;
        let disk = disk::replace(Disk::new(image.clone()));
        let looked = self.comes_up(books);
        disk::replace(disk);
        looked.map_err(|problem| {
            self.failed = image;
            format!("with {way:?} of what was not flushed, in transaction {}: {problem}", self.transactions)
        })
    }

    /// An agent comes up from this thread's disk, with what one of `books` says.
    fn comes_up(&self, books: &[&Book]) -> Result<(), String> {
        let (journal, held) = open()?;
        let mut differences = Vec::new();
        let is_one = books.iter().any(|book| match book.differs(&journal, &held) {
            Some(difference) => {
                differences.push(difference);
                false
            }
            None => true,
        });
        if !is_one {
            return Err(differences.join("; nor: "));
        }
        if held.rows.is_empty() {
            return Ok(());
        }
        let trusted = Trusted::of(self.fleet, held.rows.iter());
        if self.trusted.went_back_to(&trusted) {
            return Err(format!("trust goes back from {:?} to {trusted:?}", self.trusted));
        }
        let agent = Agent::restore(self.fleet.identity(), self.fleet.trust.clone(), held.rows, held.content);
        let mut agent = agent.map_err(|error| format!("no agent comes up: {}", chain(&error)))?;
        agent.handle(Now { monotonic: Duration::ZERO, wall: TIME }, Event::Tick);
        if self.images().is_multiple_of(GOES_ON_EVERY) {
            let row = Row::Clock(TIME.plus(self.images()));
            journal.record(&[Entry::Put(row.clone())]).map_err(|error| chain(&error))?;
            drop(journal);
            if !open()?.1.rows.contains(&row) {
                return Err("it does not go on".to_owned());
            }
        }
        Ok(())
    }
}

/// Opens the journal of this thread's disk.
fn open() -> Result<(Journal, Held), String> {
    let opened = Journal::open(&disk::journal(), MAX_BYTES);
    opened.map_err(|error| format!("the journal does not open: {}", chain(&error)))
}

#[tokio::test(start_paused = true)]
#[allow(clippy::disallowed_methods, reason = "says how long it took, by a real clock")]
async fn what_is_acknowledged_outlives_power_cuts() {
    let history = History::of(UPDATES).await;
    let begin = std::time::Instant::now();
    let mut trial = Trial::new(&history.fleet, "FULL", |_| false);
    if let Err(problem) = trial.outlive(&history.lives) {
        let folder = tempfile::tempdir().unwrap().keep();
        trial.failed.save(&folder);
        panic!("{problem}; the files are in {}", folder.display());
    }
    let started_over: u64 = trial.begun.values().map(|times| times - 1).sum();
    println!(
        "{} images of a disk after {} changes and {} flushes, in {} transactions and {} power cuts; the log started over {} \
         times; {:?}; {:.1} s",
        trial.images(),
        trial.writes,
        trial.flushes,
        trial.transactions,
        trial.cuts,
        started_over,
        trial.images,
        begin.elapsed().as_secs_f64()
    );
    assert!(trial.images() >= IMAGES, "{} images", trial.images());
    assert!(started_over > 0, "the log never starts over: the life is too short");
}

/// With less than the journal asks of SQLite, or of its disk, it does lose what was acknowledged: book and disk notice.
#[tokio::test(start_paused = true)]
async fn without_each_of_its_flushes_it_would_not() {
    let history = History::of(1).await;
    let problem = |synchronous, neglects: Neglects| {
        let outlived = Trial::new(&history.fleet, synchronous, neglects).outlive(&history.lives);
        outlived.expect_err("it loses what was acknowledged")
    };
    let lost = problem("NORMAL", |_| false);
    assert!(lost.starts_with("after it was acknowledged"), "{lost}");
    // Of names, of log and rollback journal, of the journal itself.
    problem("FULL", |change| matches!(change, Change::FlushNames));
    problem("FULL", |change| matches!(change, Change::Flush { file } if *file != JOURNAL));
    problem("FULL", |change| matches!(change, Change::Flush { file: JOURNAL }));
}
