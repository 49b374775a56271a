//! Files that are there as a whole or not at all, also after a power cut.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::OpenOptionsExt as _,
    path::Path,
};

use zeroize::Zeroizing;

use crate::{
    boundary::{At, Boundaries},
    config::StateDir,
};

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
    // The parent of a bare name is the empty path, which does not open.
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
    fs::File::open(folder.unwrap_or(Path::new(".")))?.sync_all()
}

/// Puts certificate and key of the connection, which versions before 0.2 kept in two files, into one.
pub(crate) fn join_connection(state: &StateDir, boundaries: &Boundaries) -> io::Result<()> {
    let former = state.former_connection_key();
    let key = match fs::read(&former) {
        Ok(key) => Zeroizing::new(key),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
    };
    let path = state.connection();
    let certificate = Zeroizing::new(fs::read(&path)?);
    // Ended after the write, it has both already.
    if !certificate.windows(key.len()).any(|window| window == key.as_slice()) {
        let both = Zeroizing::new([certificate.as_slice(), key.as_slice()].concat());
        write(&path, &both, 0o600, boundaries)?;
    }
    fs::remove_file(former)
}
