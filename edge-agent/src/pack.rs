//! Packed content: the objects of a release, one behind the other, as one Zstandard frame (RFC 8878).
//!
//! Nothing is believed: what unpacks is compared with what was signed, object by object, and unpacking stops
//! at the signed length. The only file that knows the decoder, `zstd`.

use std::{
    collections::VecDeque,
    fmt,
    io::{self, BufRead, Read},
};

use protocol::{
    documents::{ObjectEntry, Release},
    ids::{Digest, Hasher},
};
use zstd::stream::read::Decoder;

/// Largest window a pack may ask for, as a power of two: 1 MiB. Whoever packs keeps below it; a frame that
/// asks for more could make a small machine hold up to 128 MiB.
pub const WINDOW_LOG: u32 = protocol::limits::PACK_WINDOW_LOG;

/// Bytes compared at a time.
const BLOCK_BYTES: usize = 8 * 1024;

/// Bytes of passed objects that a [`Reader`] keeps: objects are applied several at once and end in any order, so
/// that one is often asked for after those behind it.
const PASSED_BYTES: usize = 64 * 1024;

/// Content that is not what its release says, or that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum PackError {
    /// The pack cannot be read or unpacked.
    #[error("the content does not unpack at {object}")]
    Unpack {
        /// Where in it.
        object: String,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// It ends too early.
    #[error("the content ends within {object}")]
    Short {
        /// Where it ends.
        object: String,
    },
    /// It goes on after its last object.
    #[error("the content is longer than the {len} bytes that were signed")]
    Long {
        /// The signed length.
        len: u64,
    },
    /// An object has other bytes than were signed.
    #[error("{object} has digest {found}, the release says {expected}")]
    Object {
        /// Which object.
        object: String,
        /// What came.
        found: String,
        /// What was signed.
        expected: String,
    },
    /// Every object is right, but the whole has another digest than was signed.
    #[error("the content has digest {found}, the release says {expected}")]
    Whole {
        /// What came.
        found: String,
        /// What was signed.
        expected: String,
    },
}

/// Compares every object of `release` with what `packed` unpacks to. Holds a window and a block at a time.
pub fn check(release: &Release, packed: impl BufRead) -> Result<(), PackError> {
    let mut content = Unpacked::new(packed)?;
    let mut whole = Hasher::new();
    for entry in &release.objects {
        let found = content.digest(entry, &mut whole)?;
        if found != entry.sha256 {
            let (found, expected) = (found.short(), entry.sha256.short());
            return Err(PackError::Object { object: entry.to_string(), found, expected });
        }
    }
    content.end(release)?;
    let found = whole.finish();
    if found == release.pack {
        return Ok(());
    }
    Err(PackError::Whole { found: found.short(), expected: release.pack.short() })
}

/// Reads objects of one release and keeps its place: whoever asks for them in order has the content unpacked once.
/// Holds a window, a block and a few small objects at a time, never the content.
pub struct Reader<R: BufRead> {
    content: Unpacked<R>,
    /// The place in the release of the object that comes next.
    next: usize,
    /// Objects that came before it and were not asked for yet, with their places; the oldest first.
    passed: VecDeque<(usize, Vec<u8>)>,
}

impl<R: BufRead> Reader<R> {
    /// Begins at the first object.
    pub fn new(packed: R) -> Result<Self, PackError> {
        Ok(Self { content: Unpacked::new(packed)?, next: 0, passed: VecDeque::new() })
    }

    /// The bytes of the object at `index` of `release`, as they come: whoever renders them compares their digest.
    /// None if it was passed and is not kept: then a new reader has to begin anew. `release` is the same in every
    /// call.
    pub fn object(&mut self, release: &Release, index: usize) -> Result<Option<Vec<u8>>, PackError> {
        if let Some(at) = self.passed.iter().position(|(passed, _)| *passed == index) {
            return Ok(self.passed.remove(at).map(|(_, bytes)| bytes));
        }
        if index < self.next {
            return Ok(None);
        }
        while self.next < index {
            self.pass(&release.objects[self.next])?;
        }
        self.next += 1;
        self.content.read(&release.objects[index]).map(Some)
    }

    fn pass(&mut self, entry: &ObjectEntry) -> Result<(), PackError> {
        if entry.len as usize > PASSED_BYTES {
            self.content.skip(entry)?;
        } else {
            let bytes = self.content.read(entry)?;
            self.passed.push_back((self.next, bytes));
            while self.passed.iter().map(|(_, bytes)| bytes.len()).sum::<usize>() > PASSED_BYTES {
                self.passed.pop_front();
            }
        }
        self.next += 1;
        Ok(())
    }
}

impl<R: BufRead> fmt::Debug for Reader<R> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Reader").field("next", &self.next).finish_non_exhaustive()
    }
}

struct Unpacked<R: BufRead> {
    decoder: Decoder<'static, R>,
}

impl<R: BufRead> Unpacked<R> {
    fn new(packed: R) -> Result<Self, PackError> {
        let failed = |source| PackError::Unpack { object: "its start".to_owned(), source };
        let mut decoder = Decoder::with_buffer(packed).map_err(failed)?.single_frame();
        decoder.window_log_max(WINDOW_LOG).map_err(failed)?;
        Ok(Self { decoder })
    }

    fn digest(&mut self, entry: &ObjectEntry, whole: &mut Hasher) -> Result<Digest, PackError> {
        let mut hasher = Hasher::new();
        self.blocks(entry, |block| {
            hasher.update(block);
            whole.update(block);
        })?;
        Ok(hasher.finish())
    }

    fn skip(&mut self, entry: &ObjectEntry) -> Result<(), PackError> {
        self.blocks(entry, |_| {})
    }

    fn read(&mut self, entry: &ObjectEntry) -> Result<Vec<u8>, PackError> {
        let mut bytes = Vec::with_capacity(entry.len as usize);
        self.blocks(entry, |block| bytes.extend_from_slice(block))?;
        Ok(bytes)
    }

    /// Reads an object of exactly its signed length, block by block.
    fn blocks(&mut self, entry: &ObjectEntry, mut take: impl FnMut(&[u8])) -> Result<(), PackError> {
        let mut left = entry.len as usize;
        let mut block = [0; BLOCK_BYTES];
        while left > 0 {
            let most = left.min(BLOCK_BYTES);
            let read = self.decoder.read(&mut block[..most]);
            let read = read.map_err(|source| PackError::Unpack { object: entry.to_string(), source })?;
            if read == 0 {
                return Err(PackError::Short { object: entry.to_string() });
            }
            take(&block[..read]);
            left -= read;
        }
        Ok(())
    }

    fn end(&mut self, release: &Release) -> Result<(), PackError> {
        let failed = |source| PackError::Unpack { object: "its end".to_owned(), source };
        if self.decoder.read(&mut [0]).map_err(failed)? == 0 {
            return Ok(());
        }
        Err(PackError::Long { len: release.pack_len() })
    }
}

/// Packs content as whoever signs it does.
#[cfg(test)]
pub(crate) fn packed(content: &[u8], window_log: u32) -> Vec<u8> {
    let mut encoder = zstd::stream::read::Encoder::new(content, 3).unwrap();
    encoder.set_parameter(zstd::zstd_safe::CParameter::WindowLog(window_log)).unwrap();
    let mut out = Vec::new();
    encoder.read_to_end(&mut out).unwrap();
    out
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use protocol::{
        documents::{Ceilings, ObjectEntry, ObjectName},
        ids::AppId,
        time::UnixSeconds,
    };

    use super::*;

    fn release(objects: &[&[u8]]) -> Release {
        let entry = |(index, bytes): (usize, &&[u8])| ObjectEntry {
            group: String::new(),
            version: "v1".into(),
            kind: "ConfigMap".into(),
            namespace: None,
            name: ObjectName::new(format!("c{index}")).unwrap(),
            len: bytes.len() as u32,
            sha256: Digest::of(bytes),
        };
        Release {
            app: AppId::new("radio", "gateway").unwrap(),
            version: "1".into(),
            counter: 1,
            floor: 0,
            pack: Digest::of(&objects.concat()),
            objects: objects.iter().enumerate().map(entry).collect(),
            scope: Vec::new(),
            parameters: Vec::new(),
            ceilings: Ceilings::default(),
            not_after: UnixSeconds(1),
        }
    }

    #[test]
    fn only_the_signed_content_is_believed() {
        let objects: [&[u8]; 3] = [b"first", b"", &[7; 20_000]];
        let signed = release(&objects);
        let whole = objects.concat();
        let compare = |content: &[u8], expected: &str| {
            let verdict = match check(&signed, packed(content, WINDOW_LOG).as_slice()) {
                Ok(()) => "good".to_owned(),
                Err(error) => error.to_string(),
            };
            assert!(verdict.contains(expected), "{verdict}, expected {expected}");
        };
        compare(&whole, "good");
        compare(&whole[..whole.len() - 1], "ends within ConfigMap c2");
        compare(b"", "ends within ConfigMap c0");
        compare(&[whole.as_slice(), b"x"].concat(), "longer than the 20005 bytes");
        compare(&[b"fIrst", &whole[5..]].concat(), "ConfigMap c0 has digest");
        // A bomb: unpacking stops one byte after the signed length.
        compare(&[whole.as_slice(), &vec![0; 64 << 20]].concat(), "longer than the 20005 bytes");
        let other = Release { pack: Digest::of(b"other"), ..signed.clone() };
        let error = check(&other, packed(&whole, WINDOW_LOG).as_slice()).unwrap_err();
        assert!(matches!(error, PackError::Whole { .. }), "{error}");
    }

    #[test]
    fn a_pack_may_not_ask_for_much_memory() {
        let content = vec![1; 8 << 20];
        let signed = release(&[&content]);
        check(&signed, packed(&content, WINDOW_LOG).as_slice()).unwrap();
        let error = check(&signed, packed(&content, 23).as_slice()).unwrap_err();
        assert!(matches!(error, PackError::Unpack { .. }), "{error}");
    }

    #[test]
    fn every_flipped_byte_is_noticed() {
        let objects: [&[u8]; 2] = [b"{\"kind\":\"ConfigMap\"}", b"{\"kind\":\"Secret\"}"];
        let signed = release(&objects);
        let bytes = packed(&objects.concat(), WINDOW_LOG);
        let mut noticed = BTreeMap::new();
        for at in 0..bytes.len() {
            let mut flipped = bytes.clone();
            flipped[at] ^= 0x10;
            // A flip the format ignores changes nothing in what unpacks, and that is what was signed.
            let verdict = check(&signed, flipped.as_slice()).is_ok();
            *noticed.entry(verdict).or_insert(0) += 1;
            if verdict {
                let found = Reader::new(flipped.as_slice()).unwrap().object(&signed, 1).unwrap();
                assert_eq!(found.as_deref(), Some(objects[1]));
            }
        }
        assert!(noticed[&false] > bytes.len() / 2, "{noticed:?}");
    }

    #[test]
    fn objects_are_read_in_order_and_a_little_out_of_it() {
        let (small, large) = ([7; 20_000], [8; PASSED_BYTES + 1]);
        let objects: [&[u8]; 8] = [b"0", b"1", &large, &small, &small, &small, &small, b"last"];
        let signed = release(&objects);
        let bytes = packed(&objects.concat(), WINDOW_LOG);
        // Places asked for one after the other, and whether each is still to be had.
        for asked in [
            &[(0, true), (1, true), (2, true), (3, true), (7, true)][..],
            &[(0, true), (0, false), (1, true)],
            &[(1, true), (0, true), (0, false)],
            &[(3, true), (2, false), (1, true), (0, true)],
            &[(7, true), (6, true), (4, true), (3, false), (5, true), (0, false)],
        ] {
            let mut reader = Reader::new(bytes.as_slice()).unwrap();
            for (index, there) in asked {
                let expected = there.then_some(objects[*index]);
                let found = reader.object(&signed, *index).unwrap();
                assert_eq!(found.as_deref(), expected, "{index} of {asked:?}");
            }
        }
        let short = packed(&objects.concat()[..10], WINDOW_LOG);
        let error = Reader::new(short.as_slice()).unwrap().object(&signed, 2).unwrap_err();
        assert!(matches!(error, PackError::Short { .. }), "{error}");
    }
}
