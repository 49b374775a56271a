//! A disk in memory, as SQLite sees one: a file system of its own, which notes whatever changes it.
//!
//! It behaves as SQLite's own for Unix does: it promises no more of the device, and makes names durable where that one
//! does, with the first flush of a log or rollback journal. Every thread has one disk at a time.

use std::{
    cell::RefCell,
    collections::BTreeMap,
    fmt, fs,
    path::{Path, PathBuf},
    rc::Rc,
    sync::Once,
};

use sqlite_plugin::{
    flags::{AccessFlags, CreateMode, LockLevel, OpenKind, OpenMode, OpenOpts},
    vars,
    vfs::{RegisterOpts, Vfs, VfsHandle, VfsResult, register_static},
};

/// What files are kept in, so that images share what they have in common.
const BLOCK_BYTES: usize = 4096;

type Block = [u8; BLOCK_BYTES];

/// A file, whatever its name.
pub(super) type FileId = u64;

/// A change of the disk, or what makes earlier ones durable.
#[derive(Clone, Debug)]
pub(super) enum Change {
    Create {
        name: String,
        file: FileId,
    },
    Delete {
        name: String,
    },
    Write {
        file: FileId,
        offset: usize,
        bytes: Rc<[u8]>,
    },
    Truncate {
        file: FileId,
        len: usize,
    },
    /// What was written to the file is on the disk.
    Flush {
        file: FileId,
    },
    /// So are all names.
    FlushNames,
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Create { name, file } => write!(f, "creation of {name} as file {file}"),
            Self::Delete { name } => write!(f, "deletion of {name}"),
            Self::Write { file, offset, bytes } => {
                write!(f, "write of {} bytes to file {file} at {offset}", bytes.len())
            }
            Self::Truncate { file, len } => write!(f, "truncation of file {file} to {len} bytes"),
            Self::Flush { file } => write!(f, "flush of file {file}"),
            Self::FlushNames => write!(f, "flush of all names"),
        }
    }
}

/// All files, as somebody sees them.
#[derive(Clone, Debug, Default)]
pub(super) struct Files {
    names: BTreeMap<String, FileId>,
    contents: BTreeMap<FileId, Content>,
}

#[derive(Clone, Debug, Default)]
struct Content {
    blocks: Vec<Rc<Block>>,
    len: usize,
}

impl Files {
    pub(super) fn apply(&mut self, change: &Change) {
        match change {
            Change::Create { name, file } => {
                self.names.insert(name.clone(), *file);
                self.contents.entry(*file).or_default();
            }
            Change::Delete { name } => drop(self.names.remove(name)),
            Change::Write { file, offset, bytes } => self.write(*file, *offset, bytes),
            Change::Truncate { file, len } => self.contents.entry(*file).or_default().resize(*len),
            Change::Flush { .. } | Change::FlushNames => {}
        }
    }

    pub(super) fn write(&mut self, file: FileId, offset: usize, bytes: &[u8]) {
        self.contents.entry(file).or_default().write(offset, bytes);
    }

    /// Makes the file at least so long; what was not written reads as zeros.
    pub(super) fn extend(&mut self, file: FileId, len: usize) {
        let content = self.contents.entry(file).or_default();
        content.resize(len.max(content.len));
    }

    /// Writes them to a folder, to be looked at.
    pub(super) fn save(&self, folder: &Path) {
        for (name, file) in &self.names {
            let content = self.contents.get(file).cloned().unwrap_or_default();
            let mut bytes = vec![0; content.len];
            content.read(0, &mut bytes);
            fs::write(folder.join(name.trim_start_matches('/')), bytes).unwrap();
        }
    }

    fn named(&self, name: &str) -> Option<&Content> {
        self.names.get(name).and_then(|file| self.contents.get(file))
    }
}

impl Content {
    fn resize(&mut self, len: usize) {
        if len < self.len
            && let Some(last) = self.blocks.get_mut(len / BLOCK_BYTES)
        {
            Rc::make_mut(last)[len % BLOCK_BYTES..].fill(0);
        }
        let empty = Rc::new([0; BLOCK_BYTES]);
        self.blocks.resize(len.div_ceil(BLOCK_BYTES), empty);
        self.len = len;
    }

    fn write(&mut self, mut offset: usize, mut bytes: &[u8]) {
        if offset + bytes.len() > self.len {
            self.resize(offset + bytes.len());
        }
        while !bytes.is_empty() {
            let start = offset % BLOCK_BYTES;
            let (now, rest) = bytes.split_at(bytes.len().min(BLOCK_BYTES - start));
            Rc::make_mut(&mut self.blocks[offset / BLOCK_BYTES])[start..start + now.len()]
                .copy_from_slice(now);
            (offset, bytes) = (offset + now.len(), rest);
        }
    }

    /// As much as there is.
    fn read(&self, mut offset: usize, into: &mut [u8]) -> usize {
        let len = into.len().min(self.len.saturating_sub(offset));
        let mut into = &mut into[..len];
        while !into.is_empty() {
            let start = offset % BLOCK_BYTES;
            let (now, rest) = into.split_at_mut(into.len().min(BLOCK_BYTES - start));
            now.copy_from_slice(&self.blocks[offset / BLOCK_BYTES][start..start + now.len()]);
            (offset, into) = (offset + now.len(), rest);
        }
        len
    }
}

/// A disk.
#[derive(Debug, Default)]
pub(super) struct Disk {
    files: Files,
    made: FileId,
    changes: Vec<Change>,
    /// After how many more changes power fails: from then on nothing answers.
    fuse: Option<usize>,
}

impl Disk {
    /// A disk that has these files.
    pub(super) fn new(files: Files) -> Self {
        let made = files.contents.keys().max().map_or(0, |last| last + 1);
        Self { files, made, ..Self::default() }
    }

    fn change(&mut self, change: Change) -> VfsResult<()> {
        self.answers()?;
        if let Some(left) = &mut self.fuse {
            *left -= 1;
        }
        self.files.apply(&change);
        self.changes.push(change);
        Ok(())
    }

    fn answers(&self) -> VfsResult<()> {
        if self.fuse == Some(0) { Err(vars::SQLITE_IOERR) } else { Ok(()) }
    }

    fn content(&self, file: FileId) -> VfsResult<&Content> {
        self.answers()?;
        self.files.contents.get(&file).ok_or(vars::SQLITE_IOERR)
    }
}

thread_local! {
    static PRESENT: RefCell<Disk> = RefCell::default();
}

/// Puts another disk in the place of this thread's, which is returned.
pub(super) fn replace(disk: Disk) -> Disk {
    PRESENT.with(|present| present.replace(disk))
}

/// What changed on this thread's disk since it was asked last.
pub(super) fn changes() -> Vec<Change> {
    with(|disk| std::mem::take(&mut disk.changes))
}

/// Power fails after so many more changes.
pub(super) fn power_fails_after(changes: usize) {
    with(|disk| disk.fuse = Some(changes));
}

fn with<T>(what: impl FnOnce(&mut Disk) -> T) -> T {
    PRESENT.with_borrow_mut(what)
}

/// A journal's name on this thread's disk: SQLite takes from it which file system to use.
pub(super) fn journal() -> PathBuf {
    static REGISTERED: Once = Once::new();
    REGISTERED.call_once(|| {
        register_static(c"power".to_owned(), Power, RegisterOpts { make_default: false })
            .unwrap_or_else(|code| panic!("SQLite refuses the file system: {code}"));
    });
    PathBuf::from("file:/journal?vfs=power")
}

/// The file system.
struct Power;

struct Handle {
    file: FileId,
    /// The first flush of this file makes names durable.
    names_too: bool,
}

impl VfsHandle for Handle {
    fn readonly(&self) -> bool {
        false
    }

    fn in_memory(&self) -> bool {
        false
    }
}

impl Vfs for Power {
    type Handle = Handle;

    fn open(&self, path: Option<&str>, options: OpenOpts) -> VfsResult<Handle> {
        let name = path.ok_or(vars::SQLITE_CANTOPEN)?.to_owned();
        let creates = match options.mode() {
            OpenMode::ReadWrite { create: CreateMode::Create | CreateMode::MustCreate } => true,
            OpenMode::ReadWrite { create: CreateMode::None } | OpenMode::ReadOnly => false,
        };
        let names_too = creates && matches!(options.kind(), OpenKind::MainJournal | OpenKind::Wal);
        with(|disk| {
            if let Some(file) = disk.files.names.get(&name).copied() {
                disk.answers()?;
                return Ok(Handle { file, names_too });
            }
            if !creates {
                return Err(vars::SQLITE_CANTOPEN);
            }
            let file = disk.made;
            disk.made += 1;
            disk.change(Change::Create { name, file })?;
            Ok(Handle { file, names_too })
        })
    }

    fn delete(&self, path: &str) -> VfsResult<()> {
        with(|disk| match disk.files.names.contains_key(path) {
            true => disk.change(Change::Delete { name: path.to_owned() }),
            false => Err(vars::SQLITE_IOERR_DELETE_NOENT),
        })
    }

    /// As on Unix, an empty file is as good as none.
    fn access(&self, path: &str, _: AccessFlags) -> VfsResult<bool> {
        with(|disk| {
            disk.answers()?;
            Ok(disk.files.named(path).is_some_and(|content| content.len > 0))
        })
    }

    fn file_size(&self, handle: &mut Handle) -> VfsResult<usize> {
        with(|disk| disk.content(handle.file).map(|content| content.len))
    }

    fn truncate(&self, handle: &mut Handle, len: usize) -> VfsResult<()> {
        with(|disk| disk.change(Change::Truncate { file: handle.file, len }))
    }

    fn write(&self, handle: &mut Handle, offset: usize, bytes: &[u8]) -> VfsResult<usize> {
        with(|disk| disk.change(Change::Write { file: handle.file, offset, bytes: bytes.into() }))?;
        Ok(bytes.len())
    }

    fn read(&self, handle: &mut Handle, offset: usize, into: &mut [u8]) -> VfsResult<usize> {
        with(|disk| disk.content(handle.file).map(|content| content.read(offset, into)))
    }

    // A disk has one journal, and that one connection.
    fn lock(&self, _: &mut Handle, _: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn unlock(&self, _: &mut Handle, _: LockLevel) -> VfsResult<()> {
        Ok(())
    }

    fn check_reserved_lock(&self, _: &mut Handle) -> VfsResult<bool> {
        Ok(false)
    }

    fn sync(&self, handle: &mut Handle) -> VfsResult<()> {
        with(|disk| {
            disk.change(Change::Flush { file: handle.file })?;
            if std::mem::take(&mut handle.names_too) {
                disk.change(Change::FlushNames)?;
            }
            Ok(())
        })
    }

    fn close(&self, _: Handle) -> VfsResult<()> {
        Ok(())
    }

    /// Only that a write leaves alone what is beside it. More would let SQLite leave out flushes.
    fn device_characteristics(&self, _: &mut Handle) -> VfsResult<i32> {
        Ok(vars::SQLITE_IOCAP_POWERSAFE_OVERWRITE)
    }
}
