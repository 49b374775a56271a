//! Files that are there as a whole or not at all, also after a power cut.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use crate::boundary::{At, Boundaries};

/// Writes a file so that its name stands for the old content or for the new, and nothing else.
pub(crate) fn write(path: &Path, bytes: &[u8], mode: u32, boundaries: &Boundaries) -> io::Result<()> {
    let temporary = path.with_extension("new");
    boundaries.pass(At::File);
    // A remnant of an earlier try may have another mode.
    if let Err(error) = fs::remove_file(&temporary)
        && error.kind() != io::ErrorKind::NotFound
    {
        return Err(error);
    }
    let mut file = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    boundaries.pass(At::File);
    fs::rename(&temporary, path)?;
    boundaries.pass(At::File);
    fs::File::open(path.parent().unwrap_or(Path::new(".")))?.sync_all()
}
