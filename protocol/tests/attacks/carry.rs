//! Attacks on files that are carried by hand: damage of every kind is noticed, whatever it is.

use std::time::Duration;

use protocol::{
    carry::{CarryError, Label, MAGIC, Reader, Record, Way, Writer},
    codec,
    documents::DocumentType,
    freshness::{ClockBehind, StaleCarried, StaleHead, TrustedTime, check_carried},
    ids::Nonce,
    limits,
    time::{Now, UnixSeconds},
};

use crate::common::*;

fn label() -> Label {
    Label { fleet: fleet(), cluster: tower(), made: NOW, way: Way::ToHub }
}

fn records() -> Vec<Record> {
    let envelope = |kind| envelope(kind);
    vec![
        Record::Head(envelope(DocumentType::CarryHead)),
        Record::Desired(envelope(DocumentType::Desired)),
        Record::Piece(vec![7; 100]),
        Record::Report(envelope(DocumentType::Report)),
    ]
}

fn file(records: &[Record]) -> Vec<u8> {
    let (mut writer, mut bytes) = Writer::begin(label());
    records.iter().for_each(|record| bytes.extend(writer.put(record)));
    bytes.extend(writer.end());
    bytes
}

fn read(bytes: &[u8]) -> Result<Vec<Record>, CarryError> {
    let (mut reader, found) = Reader::open(bytes)?;
    assert_eq!(found, label());
    let mut records = Vec::new();
    while let Some(record) = reader.read()? {
        records.push(record);
    }
    Ok(records)
}

fn framed(record: &Record) -> Vec<u8> {
    let payload = codec::encode(record);
    [&(payload.len() as u32).to_be_bytes(), payload.as_slice()].concat()
}

#[test]
fn a_carried_file_reads_back() {
    assert_eq!(read(&file(&records())).unwrap(), records());
    assert_eq!(read(&file(&[])).unwrap(), []);
}

#[test]
fn a_carried_file_cut_off_after_every_byte() {
    let whole = file(&records());
    for len in 0..whole.len() {
        match read(&whole[..len]) {
            Err(CarryError::Magic) => assert!(len < MAGIC.len(), "{len} bytes"),
            Err(CarryError::Truncated { offset }) => assert_eq!(offset, len as u64),
            other => panic!("{len} bytes: {other:?}"),
        }
    }
}

#[test]
fn every_bit_of_a_carried_file_flipped() {
    let whole = file(&records());
    for bit in 0..whole.len() * 8 {
        let mut bytes = whole.clone();
        bytes[bit / 8] ^= 1 << (bit % 8);
        let opened = Reader::open(bytes.as_slice());
        let refused = opened.and_then(|(mut reader, _)| {
            while reader.read()?.is_some() {}
            Ok(())
        });
        assert!(refused.is_err(), "bit {bit} of {}", whole.len() * 8);
    }
}

#[test]
fn a_carried_file_put_together_otherwise() {
    let check = |parts: &[&[u8]], expected: &str| {
        let error = read(&parts.concat()).unwrap_err().to_string();
        assert!(error.contains(expected), "{error} lacks {expected}");
    };
    let (whole, empty) = (file(&records()), file(&[]));
    let begin = Writer::begin(label()).1;
    let end = framed(&Record::End(digest(1)));
    let [head, desired, ..] = records().map_frames();
    check(&[&whole, &[0]], "bytes follow its end");
    check(&[&whole, &whole], "bytes follow its end");
    check(&[&begin, &end], "its digest differs");
    check(&[&begin, &head, &empty[begin.len()..]], "its digest differs");
    check(&[&begin, &begin[MAGIC.len()..]], "a second label");
    check(&[MAGIC, &head], "it has no label");
    check(&[MAGIC, &end], "it has no label");
    check(&[b"edgefleet carry 2", &head], "newer version");
    check(&[&begin, &u32::MAX.to_be_bytes()], "a record is too long");
    check(&[&begin, &(limits::MESSAGE_BYTES as u32 + 1).to_be_bytes()], "a record is too long");
    check(&[&begin, &(limits::MESSAGE_BYTES as u32).to_be_bytes()], "before its own end");
    check(&[&begin, &0_u32.to_be_bytes()], "it is damaged near byte");
    // In another order the digest differs, though each record is one.
    let swapped = [&begin[..], &desired, &head, &whole[begin.len() + head.len() + desired.len()..]];
    check(&swapped, "its digest differs");
}

trait MapFrames {
    fn map_frames(&self) -> [Vec<u8>; 4];
}

impl MapFrames for Vec<Record> {
    fn map_frames(&self) -> [Vec<u8>; 4] {
        [0, 1, 2, 3].map(|index| framed(&self[index]))
    }
}

/// Longer than any file may be, though nobody had to make it: it is refused after its limit, not read for ever.
#[test]
fn an_endless_carried_file() {
    struct Endless(Vec<u8>, usize);
    impl std::io::Read for Endless {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            let len = buffer.len().min(self.0.len() - self.1);
            buffer[..len].copy_from_slice(&self.0[self.1..self.1 + len]);
            self.1 += len;
            if self.1 == self.0.len() {
                self.1 = Writer::begin(label()).1.len();
            }
            Ok(len)
        }
    }
    let (mut writer, mut bytes) = Writer::begin(label());
    bytes.extend(writer.put(&Record::Piece(vec![0; limits::MESSAGE_BYTES - 100])));
    let (mut reader, _) = Reader::open(Endless(bytes, 0)).unwrap();
    let error = loop {
        match reader.read() {
            Ok(record) => assert!(record.is_some()),
            Err(error) => break error,
        }
    };
    assert!(matches!(error, CarryError::TooLarge), "{error}");
}

fn at(seconds: u64, wall: UnixSeconds) -> Now {
    Now { monotonic: Duration::from_secs(seconds), wall }
}

#[test]
fn a_carried_head_needs_a_clock_and_is_no_older_than_the_newest() {
    let head = carry_head().head;
    let until = head.fresh_until;
    let skew = limits::CLOCK_SKEW_SECONDS;
    let late = until.plus(1);
    let early = UnixSeconds(NOW.0 - skew - 1);
    // The hub's last time here, the clock that somebody vouches for, the newest head's time, the verdict.
    let cases = [
        (0, Some(NOW), None, Ok(())),
        (0, Some(until), None, Ok(())),
        (0, Some(UnixSeconds(NOW.0 - skew)), None, Ok(())),
        (0, None, None, Err(StaleHead::NoClock.into())),
        (0, Some(late), None, Err(StaleHead::Expired { fresh_until: until, now: late }.into())),
        (0, Some(early), None, Err(StaleCarried::Ahead { hub_time: NOW, now: early })),
        (NOW.0, Some(NOW), Some(NOW), Ok(())),
        (
            0,
            Some(NOW.plus(9)),
            Some(NOW.plus(1)),
            Err(StaleCarried::Older { hub_time: NOW, newest: NOW.plus(1) }),
        ),
        (NOW.0 + 2, Some(NOW.plus(9)), None, Err(StaleCarried::Older { hub_time: NOW, newest: NOW.plus(2) })),
    ];
    for (floor, clock, newest, expected) in cases {
        let mut time = TrustedTime::restore(UnixSeconds(floor));
        let wall = clock.unwrap_or(NOW);
        if clock.is_some() {
            time.vouch(at(0, wall)).unwrap();
        }
        assert_eq!(
            check_carried(&head, newest, &time, at(0, wall)),
            expected,
            "{floor} {clock:?} {newest:?}"
        );
    }
}

/// A wrong clock of ours, or of the hub's, keeps nothing from being mended by the next head that answers us.
#[test]
fn nobody_vouches_for_a_clock_past_the_hubs_word() {
    let mut time = TrustedTime::restore(NOW);
    let old = UnixSeconds(0);
    assert_eq!(time.vouch(at(0, old)), Err(ClockBehind { clock: old, floor: NOW }));
    assert_eq!(time.confirmed(at(0, old)), None);
    let wrong = NOW.plus(3650 * DAY);
    time.vouch(at(0, wrong)).unwrap();
    assert_eq!((time.confirmed(at(1, old)), time.floor()), (Some(wrong.plus(1)), NOW), "the floor stays");
    // Somebody sets the clock right and looks again.
    time.vouch(at(2, NOW)).unwrap();
    assert_eq!(time.confirmed(at(2, old)), Some(NOW));
    // The hub speaks: from then on its word stands.
    time.confirm(at(3, wrong), NOW.plus(60));
    time.vouch(at(4, wrong)).unwrap();
    assert_eq!(time.confirmed(at(4, wrong)), Some(NOW.plus(61)));
    let nonce = Some(Nonce::new([1; 16]));
    let head = protocol::documents::Head { nonce, ..head() };
    let checked = check_carried(&head, None, &time, at(5, NOW));
    assert_eq!(checked, Err(StaleHead::Nonce.into()), "a head of the link is none that is carried");
}
