//! Backups: everything that another machine needs to be this hub, in one file.
//!
//! The file is a tar (POSIX ustar) with the hub's store, its certificate authority, the root document and the
//! director's key, and a manifest of their digests at the end. Private keys are in it: whoever reads it can be this
//! hub. Kubeconfigs are not; a hub that starts without one makes a new one.

mod archive;
mod restore;
#[cfg(test)]
mod tests;

use std::{
    fs::File,
    io::{self, Seek, Write},
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::{ids::FleetId, keys::SigningKey, time::UnixSeconds, verify::VerifyError};
use serde::{Deserialize, Serialize};

use crate::{
    clock,
    hub::HubError,
    keys::{self, KeyError, KeyRole, ROOT_FILE},
    logic::fleet::RestoreError,
    pki::{self, PkiError},
    store::{Store, StoreError},
};
use archive::Archive;

pub use archive::verify;
pub use restore::{Restored, restore};

/// The form of a backup that this program writes and reads.
pub const FORMAT: &str = "edgefleet.dev/backup/v1";

/// The hub's store in its folder and in a backup.
pub const STORE_FILE: &str = "hub.sqlite";

/// The director's key in a backup, and in the folder made of one.
pub const DIRECTOR_FILE: &str = "director.key";

/// What is in every backup, in this order.
pub(crate) const FILES: [&str; 5] =
    [pki::CERTIFICATE_FILE, pki::KEY_FILE, ROOT_FILE, DIRECTOR_FILE, STORE_FILE];

/// Where the store is copied to before it is sent; one backup is made at a time.
const SNAPSHOT_FILE: &str = "hub.sqlite.backup";

/// What a backup says of itself.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Manifest {
    /// [`FORMAT`].
    pub format: String,
    /// Whose hub it is of.
    pub fleet: String,
    /// When it was made.
    pub made: UnixSeconds,
    /// The version of the hub that made it.
    pub version: String,
    /// What is in it, in order.
    pub files: Vec<Listed>,
}

/// One file of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Listed {
    /// Its name.
    pub name: String,
    /// Its length in bytes.
    pub len: u64,
    /// The SHA-256 of its content.
    pub sha256: String,
}

/// A backup that cannot be made, believed or used.
#[derive(Debug, thiserror::Error)]
pub enum BackupError {
    /// A file cannot be read or written.
    #[error("cannot {doing} {path}")]
    File {
        /// What was being done.
        doing: &'static str,
        /// The file.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// The file is cut off, altered, or no backup.
    #[error("{path} is no whole backup: {problem}; take another one")]
    Damaged {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        problem: String,
    },
    /// Another program wrote it.
    #[error(
        "{path} has the form {found:?}, this program reads {FORMAT}: use the version of Edgefleet that wrote it"
    )]
    Format {
        /// The file.
        path: PathBuf,
        /// The form it has.
        found: String,
    },
    /// There is something where the hub is to be.
    #[error("{0} is not empty: restore into a folder of its own")]
    NotEmpty(PathBuf),
    /// What is in it does not belong together.
    #[error("the backup's {what} is not of this fleet: {problem}")]
    Foreign {
        /// Which file.
        what: &'static str,
        /// What is wrong.
        problem: String,
    },
    /// Its root document.
    #[error("the backup's root document is not valid")]
    Root(#[source] Box<VerifyError>),
    /// Its keys.
    #[error("the backup's keys cannot be used")]
    Keys(#[from] KeyError),
    /// Its certificate authority.
    #[error("the backup's certificate authority cannot be used")]
    Pki(#[from] PkiError),
    /// Its store.
    #[error("the backup's store cannot be used")]
    Store(#[from] StoreError),
    /// The objects in its store.
    #[error("the objects in the backup's store cannot be taken up")]
    Hub(#[from] HubError),
    /// The documents in its store.
    #[error("the documents in the backup's store cannot be taken up")]
    Documents(#[from] RestoreError),
}

/// What a running hub makes backups of.
#[derive(Debug)]
pub struct Source {
    pub(crate) directory: PathBuf,
    pub(crate) fleet: FleetId,
    pub(crate) root: Vec<u8>,
    pub(crate) director: Arc<SigningKey>,
    pub(crate) store: Store,
}

/// A backup whose store has been copied, ready to be written.
#[derive(Debug)]
pub(crate) struct Prepared {
    directory: PathBuf,
    fleet: FleetId,
    root: Vec<u8>,
    director: Arc<SigningKey>,
    store: File,
    made: UnixSeconds,
}

impl Source {
    /// Copies the store, while the hub works on. Room for the copy is needed beside the store.
    pub(crate) async fn prepare(&self) -> Result<Prepared, BackupError> {
        let path = self.directory.join(SNAPSHOT_FILE);
        remove(&path)?;
        let copied = self.store.snapshot(&path).await;
        let opened = File::open(&path);
        // The open file goes on being there, and nothing is left of it whatever happens.
        remove(&path)?;
        copied?;
        Ok(Prepared {
            directory: self.directory.clone(),
            fleet: self.fleet.clone(),
            root: self.root.clone(),
            director: Arc::clone(&self.director),
            store: opened.map_err(failed("read", &path))?,
            made: UnixSeconds(u64::try_from(clock::now().as_second()).unwrap_or_default()),
        })
    }
}

impl Prepared {
    /// Writes the backup, piece by piece.
    pub(crate) fn write(mut self, out: impl Write) -> io::Result<()> {
        let mut archive = Archive::new(out, &self.fleet, self.made);
        for name in [pki::CERTIFICATE_FILE, pki::KEY_FILE] {
            let mut file = File::open(self.directory.join(name))?;
            let len = file.metadata()?.len();
            archive.append(name, len, &mut file)?;
        }
        archive.append(ROOT_FILE, self.root.len() as u64, &mut self.root.as_slice())?;
        let director = keys::private_text(KeyRole::Director, &self.fleet, &self.director);
        archive.append(DIRECTOR_FILE, director.len() as u64, &mut director.as_bytes())?;
        let len = self.store.seek(io::SeekFrom::End(0))?;
        self.store.rewind()?;
        archive.append(STORE_FILE, len, &mut self.store)?;
        archive.finish()
    }
}

fn remove(path: &Path) -> Result<(), BackupError> {
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("remove", path)(error)),
        Ok(()) | Err(_) => Ok(()),
    }
}

fn failed(doing: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BackupError + use<> {
    let path = path.to_owned();
    move |source| BackupError::File { doing, path, source }
}
