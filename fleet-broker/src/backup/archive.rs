//! The file that a backup is: a tar of POSIX 1003.1-1988 (ustar), so that any tar shows what is in it.

use std::{
    fs::File,
    io::{self, BufReader, Read, Write},
    path::Path,
};

use protocol::{
    ids::{Digest, FleetId, Hasher},
    time::UnixSeconds,
};

use super::{BackupError, FILES, FORMAT, Listed, Manifest, failed};

/// Length of everything in a tar: headers take one block, files as many as they need.
const BLOCK: usize = 512;

/// A block of zeros: two of them end a tar.
const ZEROS: [u8; BLOCK] = [0; BLOCK];

/// Largest file in a backup, in bytes: what eleven octal digits of a header can say.
const FILE_LEN_MAX: u64 = (1 << 33) - 1;

/// The last file, which says what the others are.
const MANIFEST_FILE: &str = "manifest.json";

/// Longest manifest, in bytes: several times what one takes.
const MANIFEST_LEN_MAX: u64 = 16 * 1024;

/// How much is read at once, in bytes.
const PIECE: usize = 64 * 1024;

/// A backup being written.
pub(super) struct Archive<W> {
    out: W,
    manifest: Manifest,
}

impl<W: Write> Archive<W> {
    pub(super) fn new(out: W, fleet: &FleetId, made: UnixSeconds) -> Self {
        let manifest = Manifest {
            format: FORMAT.to_owned(),
            fleet: fleet.to_string(),
            made,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            files: Vec::new(),
        };
        Self { out, manifest }
    }

    /// Adds a file of `len` bytes.
    pub(super) fn append(&mut self, name: &str, len: u64, content: &mut dyn Read) -> io::Result<()> {
        let sha256 = self.put(name, len, content)?.to_string();
        self.manifest.files.push(Listed { name: name.to_owned(), len, sha256 });
        Ok(())
    }

    /// Adds the manifest, and ends.
    pub(super) fn finish(mut self) -> io::Result<()> {
        let manifest = serde_json::to_vec_pretty(&self.manifest)?;
        self.put(MANIFEST_FILE, manifest.len() as u64, &mut manifest.as_slice())?;
        self.out.write_all(&ZEROS)?;
        self.out.write_all(&ZEROS)?;
        self.out.flush()
    }

    fn put(&mut self, name: &str, len: u64, content: &mut dyn Read) -> io::Result<Digest> {
        self.out.write_all(&header(name, len, self.manifest.made)?)?;
        let (copied, digest) = copy(&mut content.take(len), &mut self.out)?;
        if copied != len {
            return Err(io::Error::new(io::ErrorKind::UnexpectedEof, format!("{name} became shorter")));
        }
        self.out.write_all(&ZEROS[..padding(len)])?;
        Ok(digest)
    }
}

/// Reads a backup from end to end, and compares everything in it with its manifest.
///
/// # Errors
/// When it is cut off, altered, or no backup that this program reads.
pub fn verify(path: &Path) -> Result<Manifest, BackupError> {
    read(path, |_, content| copy(content, &mut io::sink()).map(|(_, digest)| digest))
}

/// Reads a backup, gives each file to `take`, which reads all of it and says its digest, and compares.
pub(super) fn read(
    path: &Path,
    mut take: impl FnMut(&'static str, &mut dyn Read) -> io::Result<Digest>,
) -> Result<Manifest, BackupError> {
    let file = File::open(path).map_err(failed("read", path))?;
    let damaged = |problem: String| BackupError::Damaged { path: path.to_owned(), problem };
    let cut = |error: io::Error| {
        let is_content = [io::ErrorKind::UnexpectedEof, io::ErrorKind::InvalidData].contains(&error.kind());
        if is_content { damaged(error.to_string()) } else { failed("read", path)(error) }
    };
    let mut input = BufReader::with_capacity(PIECE, file);
    let mut found = Vec::new();
    for name in FILES {
        let len = expect(&mut input, name, FILE_LEN_MAX).map_err(cut)?;
        let sha256 = contents(&mut input, len, |content| take(name, content)).map_err(cut)?.to_string();
        found.push(Listed { name: name.to_owned(), len, sha256 });
    }
    let len = expect(&mut input, MANIFEST_FILE, MANIFEST_LEN_MAX).map_err(cut)?;
    let mut manifest = Vec::new();
    contents(&mut input, len, |content| copy(content, &mut manifest).map(|(_, digest)| digest))
        .map_err(cut)?;
    let mut end = Vec::new();
    input.take(2 * BLOCK as u64 + 1).read_to_end(&mut end).map_err(cut)?;
    if end != [ZEROS, ZEROS].concat() {
        return Err(damaged("it does not end where it should".to_owned()));
    }
    // The form first: another version's manifest may have other fields.
    let manifest: serde_json::Value =
        serde_json::from_slice(&manifest).map_err(|error| damaged(format!("{MANIFEST_FILE}: {error}")))?;
    let format = manifest["format"].as_str().unwrap_or_default().to_owned();
    if format != FORMAT {
        return Err(BackupError::Format { path: path.to_owned(), found: format });
    }
    let manifest: Manifest =
        serde_json::from_value(manifest).map_err(|error| damaged(format!("{MANIFEST_FILE}: {error}")))?;
    match manifest.files.iter().zip(&found).find(|(listed, found)| listed != found) {
        Some((_, found)) => Err(damaged(format!("{} is not what the manifest says", found.name))),
        None if manifest.files.len() != found.len() => {
            Err(damaged("the manifest lists other files".to_owned()))
        }
        None => Ok(manifest),
    }
}

/// The header of `name`, and nothing else, comes next: how long the file is.
fn expect(input: &mut impl Read, name: &str, len_max: u64) -> io::Result<u64> {
    let invalid = |problem: String| io::Error::new(io::ErrorKind::InvalidData, problem);
    let mut block = ZEROS;
    input.read_exact(&mut block).map_err(|error| {
        let ended = error.kind() == io::ErrorKind::UnexpectedEof;
        if ended { io::Error::new(error.kind(), format!("it ends before {name}")) } else { error }
    })?;
    let number = |range: std::ops::Range<usize>| {
        let text = std::str::from_utf8(&block[range]).ok()?;
        u64::from_str_radix(text.trim_end_matches(['\0', ' ']), 8).ok()
    };
    let (len, made) = (number(124..136), number(136..148));
    let expected = len.zip(made).and_then(|(len, made)| header(name, len, UnixSeconds(made)).ok());
    let len = len.filter(|len| expected == Some(block) && *len <= len_max);
    len.ok_or_else(|| invalid(format!("{name} is missing or its header is not as it should be")))
}

/// Reads a file of `len` bytes by `take`, and what fills its last block.
fn contents(
    input: &mut impl Read,
    len: u64,
    take: impl FnOnce(&mut dyn Read) -> io::Result<Digest>,
) -> io::Result<Digest> {
    let mut content = input.take(len);
    let digest = take(&mut content)?;
    let short = || io::Error::new(io::ErrorKind::UnexpectedEof, "it is cut off");
    if content.limit() > 0 {
        return Err(short());
    }
    let mut rest = vec![0; padding(len)];
    input.read_exact(&mut rest).map_err(|_| short())?;
    if rest.iter().any(|byte| *byte != 0) {
        return Err(io::Error::new(io::ErrorKind::InvalidData, "a file has something behind its end"));
    }
    Ok(digest)
}

/// Copies piece by piece: how much it was, and its digest.
pub(super) fn copy(from: &mut (impl Read + ?Sized), to: &mut impl Write) -> io::Result<(u64, Digest)> {
    let (mut hasher, mut len) = (Hasher::new(), 0);
    let mut piece = vec![0; PIECE];
    loop {
        let read = match from.read(&mut piece) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            read => read?,
        };
        if read == 0 {
            return Ok((len, hasher.finish()));
        }
        hasher.update(&piece[..read]);
        to.write_all(&piece[..read])?;
        len += read as u64;
    }
}

fn padding(len: u64) -> usize {
    let over = usize::try_from(len % BLOCK as u64).expect("less than a block");
    if over == 0 { 0 } else { BLOCK - over }
}

/// A header of a file that only its owner may read.
fn header(name: &str, len: u64, made: UnixSeconds) -> io::Result<[u8; BLOCK]> {
    if len > FILE_LEN_MAX || made.0 > FILE_LEN_MAX {
        return Err(io::Error::other(format!(
            "{name} is larger than a backup can hold ({FILE_LEN_MAX} bytes)"
        )));
    }
    let mut block = ZEROS;
    let mut put = |at: usize, text: &str| block[at..at + text.len()].copy_from_slice(text.as_bytes());
    put(0, name);
    put(100, "0000600\0");
    put(108, "0000000\0");
    put(116, "0000000\0");
    put(124, &format!("{len:011o}\0"));
    put(136, &format!("{:011o}\0", made.0));
    // The checksum is taken with spaces in its own place.
    put(148, "        ");
    put(156, "0");
    put(257, "ustar\x0000");
    let sum: u32 = block.iter().map(|byte| u32::from(*byte)).sum();
    block[148..156].copy_from_slice(format!("{sum:06o}\0 ").as_bytes());
    Ok(block)
}
