use std::{cell::RefCell, io::Read, rc::Rc};

use protocol::{
    ids::{AppId, JournalId},
    time::UnixSeconds,
};

use super::*;
use crate::logic::entry::{AppRow, Hold};

#[cfg(feature = "sim")]
mod power;

thread_local! {
    static NOTED: RefCell<Vec<Vec<Entry>>> = RefCell::default();
}

/// Notes what a journal of this thread recorded.
pub(super) fn note(entries: &[Entry]) {
    NOTED.with_borrow_mut(|noted| noted.push(entries.to_vec()));
}

/// What this thread's journals recorded since it was asked last: one list for each transaction.
#[cfg(feature = "sim")]
fn noted() -> Vec<Vec<Entry>> {
    NOTED.take()
}

struct Place {
    folder: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap() }
    }

    fn path(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn open(&self) -> Result<(Journal, Held), JournalError> {
        Journal::open(&self.path(), MAX_BYTES)
    }

    /// Changes the file behind the journal's back, as a flipped bit does.
    fn alter(&self, sql: &str) {
        let altered = Connection::open(self.path()).unwrap().execute_batch(sql);
        altered.unwrap();
    }

    fn names(&self) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path()).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}

fn app(name: &str, floor: u64) -> Row {
    Row::App(AppId::new("radio", name).unwrap(), AppRow { floor, ..AppRow::default() })
}

fn rows() -> Vec<Row> {
    let hold = Hold { reason: "crane on site".into(), since: UnixSeconds(7) };
    vec![
        Row::Life(JournalId::new([1; 16])),
        Row::Root(b"root".to_vec()),
        Row::Clock(UnixSeconds(9)),
        Row::Hold(hold),
        app("database", 3),
        app("gateway", 4),
        Row::Release(Digest::of(b"release"), vec![5; 100_000]),
    ]
}

fn sorted(mut rows: Vec<Row>) -> Vec<Row> {
    rows.sort_by_key(|row| row.key().encode());
    rows
}

fn chunk(target: Digest, offset: u64, total: u64, bytes: &[u8]) -> Entry {
    Entry::Chunk(ContentChunk { target, offset, total, bytes: bytes.to_vec() })
}

fn put_all(rows: &[Row]) -> Vec<Entry> {
    rows.iter().cloned().map(Entry::Put).collect()
}

#[test]
fn what_was_recorded_is_there_after_a_restart() {
    let place = Place::new();
    let (journal, held) = place.open().unwrap();
    assert!(held.rows.is_empty() && held.content.is_empty());
    journal.record(&put_all(&rows())).unwrap();
    journal.record(&[Entry::Put(app("gateway", 5)), Entry::Drop(Key::Hold)]).unwrap();
    drop(journal);

    let mut expected = rows();
    expected.retain(|row| !matches!(row, Row::Hold(_)));
    expected[4] = app("gateway", 5);
    assert_eq!(place.open().unwrap().1.rows, sorted(expected));
    assert_eq!(place.names(), ["journal"], "neither log nor lock is left");
}

#[test]
fn an_altered_row_is_found() {
    let check = |sql: &str, expected: &str| {
        let place = Place::new();
        place.open().unwrap().0.record(&put_all(&rows())).unwrap();
        place.alter(sql);
        let Err(error) = place.open() else { panic!("not noticed: {sql}") };
        let problem = error.to_string();
        assert!(matches!(error, JournalError::Corrupt { .. }) && problem.contains(expected), "{problem}");
    };
    // Each value in turn, in its last byte.
    for skip in 0..rows().len() {
        let flip = format!(
            "UPDATE rows SET value = CAST(substr(value, 1, length(value) - 1) || x'fe' AS BLOB)
             WHERE key = (SELECT key FROM rows ORDER BY key LIMIT 1 OFFSET {skip})"
        );
        check(&flip, "was altered");
    }
    check("UPDATE rows SET sum = x'0000000000000000' WHERE rowid = 1", "was altered");
    check("UPDATE rows SET key = x'99' WHERE rowid = 1", "was altered");
    check(
        "UPDATE rows SET value = (SELECT value FROM rows WHERE rowid = 6),
                         sum = (SELECT sum FROM rows WHERE rowid = 6) WHERE rowid = 5",
        "was altered",
    );
    check("UPDATE rows SET value = 'text' WHERE rowid = 1", "");
    check("DROP TABLE rows; CREATE TABLE rows (key, value, sum); INSERT INTO rows VALUES (1, 2, 3)", "");
    check("PRAGMA application_id = 7", "not an agent's journal");
}

#[test]
fn a_damaged_file_is_put_aside_and_kept() {
    let place = Place::new();
    place.open().unwrap().0.record(&put_all(&rows())).unwrap();
    let mut bytes = fs::read(place.path()).unwrap();
    bytes[100..].iter_mut().for_each(|byte| *byte ^= 0x55);
    fs::write(place.path(), &bytes).unwrap();

    let (_journal, held, damage) = Journal::open_or_begin(&place.path(), MAX_BYTES).unwrap();
    assert!(held.rows.is_empty());
    assert!(matches!(damage, Some(JournalError::Corrupt { .. })), "{damage:?}");
    let aside = place.names().into_iter().find(|name| name.starts_with("journal.corrupt-")).unwrap();
    assert_eq!(fs::read(place.folder.path().join(aside)).unwrap(), bytes);
}

/// As when power fails while they are put aside.
#[test]
fn a_log_without_its_journal_is_not_read() {
    let (place, left) = (Place::new(), Place::new());
    let (journal, _) = place.open().unwrap();
    journal.record(&put_all(&rows())).unwrap();
    fs::copy(log_of(&place.path()), log_of(&left.path())).unwrap();
    let (journal, held, damage) = Journal::open_or_begin(&left.path(), MAX_BYTES).unwrap();
    assert!(held.rows.is_empty() && damage.is_none(), "{damage:?}");
    journal.record(&put_all(&rows()[..1])).unwrap();
    drop(journal);
    assert_eq!(left.open().unwrap().1.rows, rows()[..1]);
}

#[test]
fn one_agent_at_a_time() {
    let place = Place::new();
    let first = place.open().unwrap();
    let error = place.open().unwrap_err();
    assert!(matches!(error, JournalError::Locked { .. }), "{error}");
    drop(first);
    place.open().unwrap();
}

/// Memory that processes share is a file, too, and wears the flash.
#[test]
fn a_log_that_was_left_is_read_without_a_shared_file() {
    let (place, left) = (Place::new(), Place::new());
    let (journal, _) = place.open().unwrap();
    journal.record(&put_all(&rows())).unwrap();
    for (from, to) in [(place.path(), left.path()), (log_of(&place.path()), log_of(&left.path()))] {
        fs::copy(from, to).unwrap();
    }
    let (_journal, held) = left.open().unwrap();
    assert_eq!(held.rows, sorted(rows()));
    assert_eq!(left.names(), ["journal", "journal-wal"]);
}

#[test]
fn a_newer_journal_is_left_alone() {
    let place = Place::new();
    drop(place.open().unwrap());
    place.alter("PRAGMA user_version = 99");
    let error = Journal::open_or_begin(&place.path(), MAX_BYTES).unwrap_err();
    assert!(matches!(error, JournalError::Newer { found: 99, .. }), "{error}");
    assert!(error.to_string().contains("install that version again"), "{error}");
    assert_eq!(place.names(), ["journal"]);
}

/// What a coming version might do: another table, and the rows of one kind written anew.
fn next(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    transaction.execute_batch("CREATE TABLE more (key BLOB PRIMARY KEY); INSERT INTO more VALUES (x'01')")?;
    let row = app("gateway", 77);
    put(transaction, &row.key().encode(), &row.encode())
}

fn fails(transaction: &Transaction<'_>) -> rusqlite::Result<()> {
    next(transaction)?;
    transaction.execute_batch("DELETE FROM rows; SELECT nonsense")
}

fn with(upgrade: Upgrade) -> Vec<Upgrade> {
    UPGRADES.iter().copied().chain([upgrade]).collect()
}

#[test]
fn an_older_journal_is_upgraded() {
    let place = Place::new();
    place.open().unwrap().0.record(&put_all(&rows())).unwrap();
    for _ in 0..2 {
        let (journal, held) = Journal::open_with(&place.path(), MAX_BYTES, &with(next)).unwrap();
        let mut expected = rows();
        expected[5] = app("gateway", 77);
        assert_eq!(held.rows, sorted(expected));
        let more: i64 =
            journal.connection.query_row("SELECT count(*) FROM more", [], |row| row.get(0)).unwrap();
        assert_eq!(more, 1, "an upgrade happens once");
    }
    let error = place.open().unwrap_err();
    let (found, known) = (UPGRADES.len() + 1, UPGRADES.len());
    let is_refused =
        matches!(&error, JournalError::Newer { found: f, known: k, .. } if (*f, *k) == (found, known));
    assert!(is_refused, "{error}");
}

#[test]
fn an_upgrade_that_fails_leaves_the_journal_as_it_was() {
    let place = Place::new();
    place.open().unwrap().0.record(&put_all(&rows())).unwrap();
    let error = Journal::open_with(&place.path(), MAX_BYTES, &with(fails)).unwrap_err();
    assert!(matches!(error, JournalError::Io { operation: "upgrade", .. }), "{error}");
    assert_eq!(place.open().unwrap().1.rows, sorted(rows()));
}

#[test]
fn content_grows_piece_by_piece_and_reads_back() {
    let place = Place::new();
    let (target, other) = (Digest::of(b"target"), Digest::of(b"other"));
    let content: Vec<u8> = (0..100_u8).collect();
    let (journal, _) = place.open().unwrap();
    let journal = Rc::new(journal);
    journal.record(&[chunk(target, 0, 100, &content[..40]), chunk(other, 0, 9, b"123")]).unwrap();
    assert!(journal.content(&target).unwrap().is_none(), "it is not complete");
    drop(journal);

    let (journal, held) = place.open().unwrap();
    let journal = Rc::new(journal);
    let part = |target, have, total| ContentHeld { target, have, total };
    let mut expected = vec![part(target, 40, 100), part(other, 3, 9)];
    expected.sort_by_key(|held| held.target);
    assert_eq!(held.content, expected);
    journal.record(&[chunk(target, 40, 100, &content[40..50])]).unwrap();
    journal.record(&[chunk(target, 50, 100, &content[50..]), Entry::DropContent(other)]).unwrap();
    let mut read = Vec::new();
    journal.content(&target).unwrap().unwrap().read_to_end(&mut read).unwrap();
    assert_eq!(read, content);
    assert_eq!(journal.load().unwrap().content, [part(target, 100, 100)]);
    drop(journal);

    place.alter("DELETE FROM pieces WHERE offset = 40");
    assert!(matches!(place.open(), Err(JournalError::Corrupt { .. })), "a piece is missing");
}

#[test]
fn a_full_disk_loses_nothing_that_was_recorded() {
    let place = Place::new();
    let (journal, _) = Journal::open(&place.path(), 64 * PAGE_BYTES).unwrap();
    journal.record(&put_all(&rows()[..6])).unwrap();
    let large = Row::Release(Digest::of(b"large"), vec![5; 1 << 20]);
    let error = journal.record(&put_all(&[app("gateway", 99), large])).unwrap_err();
    assert!(matches!(error, JournalError::Full { .. }), "{error}");
    // Neither of the two was written, and the journal goes on.
    assert_eq!(journal.load().unwrap().rows, sorted(rows()[..6].to_vec()));
    journal.record(&put_all(&[app("gateway", 6)])).unwrap();
    assert!(journal.size_bytes() > 0);
}

#[test]
fn writing_the_same_again_writes_nothing() {
    let place = Place::new();
    let (journal, _) = place.open().unwrap();
    journal.record(&put_all(&rows())).unwrap();
    let before = journal.size_bytes();
    for _ in 0..10 {
        journal.record(&put_all(&rows())).unwrap();
    }
    assert_eq!(journal.size_bytes(), before);
}
