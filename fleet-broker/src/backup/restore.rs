//! Making a hub of a backup.

use std::{
    ffi::OsString,
    fs::{self, DirBuilder, File, OpenOptions},
    io,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt},
    path::{Path, PathBuf},
    sync::Arc,
};

use protocol::{ids::Incarnation, keys::SigningKey, time::UnixSeconds, verify::Trust};

use super::{
    BackupError, DIRECTOR_FILE, FILES, Manifest, STORE_FILE,
    archive::{self, copy, verify},
    failed,
};
use crate::{
    api::access,
    clock, enrolment,
    hub::Hub,
    keys::{self, ROOT_FILE},
    logic::{
        fleet::{
            DocumentKind, Fleet,
            recovery::{Record, Recovery},
        },
        registry::Object,
    },
    pki::CertificateAuthority,
    random,
    resources::{APPROVE_ANNOTATION, Kind},
    store::{Store, Write as StoreWrite},
};

/// How many versions a restored hub skips: more than a hub can have given out since any backup, at a million changes a
/// second for twelve days, so that whoever watched the lost hub is told to list again.
const VERSIONS_SKIPPED: u64 = 1 << 40;

/// A hub that was made of a backup, and has not been started.
#[derive(Debug)]
pub struct Restored {
    /// What the backup said of itself.
    pub manifest: Manifest,
    /// The hub's folder.
    pub directory: PathBuf,
    /// Its root document.
    pub root: PathBuf,
    /// Its director's key.
    pub director: PathBuf,
    /// Clusters it knows.
    pub clusters: usize,
}

/// Makes a hub of the backup in `file`, in `directory`, which is empty or not there. All of it is there when this
/// returns, or nothing: everything is checked first, in a folder beside.
///
/// # Errors
/// When the backup is not whole, does not belong together, or cannot be written.
pub async fn restore(file: &Path, directory: &Path) -> Result<Restored, BackupError> {
    is_free(directory)?;
    verify(file)?;
    let staging = Staging::beside(directory)?;
    let manifest = archive::read(file, |name, content| {
        let mut out = create(&staging.0.join(name))?;
        let (_, digest) = copy(content, &mut out)?;
        out.sync_all()?;
        Ok(digest)
    })?;
    let trust = belong_together(&staging.0)?;
    let clusters = begin_life(&staging.0, &trust, manifest.made).await?;
    staging.become_folder(directory)?;
    let (root, director) = (directory.join(ROOT_FILE), directory.join(DIRECTOR_FILE));
    Ok(Restored { manifest, directory: directory.to_owned(), root, director, clusters })
}

fn is_free(directory: &Path) -> Result<(), BackupError> {
    match fs::read_dir(directory).map(|mut entries| entries.next().is_none()) {
        Ok(true) => Ok(()),
        Ok(false) => Err(BackupError::NotEmpty(directory.to_owned())),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(failed("read", directory)(error)),
    }
}

/// Whether root, director's key and certificate authority are of one fleet.
fn belong_together(folder: &Path) -> Result<Trust, BackupError> {
    let root = fs::read(folder.join(ROOT_FILE)).map_err(failed("read", &folder.join(ROOT_FILE)))?;
    let trust = Trust::given(&root).map_err(|error| BackupError::Root(Box::new(error)))?;
    let director = keys::load_signing_key(&folder.join(DIRECTOR_FILE))?;
    let key = director.key.public().id();
    if !trust.root().director.keys.contains(&key) {
        let problem = format!("the root names no director {key}");
        return Err(BackupError::Foreign { what: DIRECTOR_FILE, problem });
    }
    let fleet = trust.root().fleet.as_str();
    let pin = CertificateAuthority::load_or_create(folder, fleet, clock::now())?.pin();
    let pins = &trust.root().ca_pins;
    if !pins.is_empty() && !pins.contains(&pin) {
        let problem = format!("the root does not pin {pin}");
        return Err(BackupError::Foreign { what: crate::pki::CERTIFICATE_FILE, problem });
    }
    Ok(trust)
}

/// Checks all that is in the store as a hub does that starts, and begins the hub's next life in it. How many clusters
/// it knows.
async fn begin_life(folder: &Path, trust: &Trust, backed_up: UnixSeconds) -> Result<usize, BackupError> {
    let store = Store::open(&folder.join(STORE_FILE))?;
    let hub = Hub::open(store.clone()).await?;
    let director: SigningKey = keys::load_signing_key(&folder.join(DIRECTOR_FILE))?.key;
    let incarnation = Incarnation::new(random::bytes());
    let mut fleet = Fleet::new(trust.clone(), Arc::new(director), incarnation);
    for kind in DocumentKind::ALL {
        for (key, bytes) in store.documents(kind.name()).await? {
            fleet.restore(kind, &key, &bytes)?;
        }
    }
    let (records, version, clusters) = hub.read(|registry| {
        let records = registry.objects(Kind::Application).filter_map(|object| record(object)).collect();
        (records, registry.version(), registry.count(Kind::Cluster))
    });
    let now = UnixSeconds(u64::try_from(clock::now().as_second()).unwrap_or_default());
    let recovery = Recovery::restored(incarnation, now, backed_up, records).document();
    let mut writes = vec![StoreWrite::ReserveVersions(version.saturating_add(VERSIONS_SKIPPED))];
    writes.extend(recovery.bytes.map(|bytes| StoreWrite::PutDocument {
        kind: recovery.kind.name(),
        key: recovery.key,
        bytes,
    }));
    // Join codes that were used since, and tokens that were revoked, must not come back.
    for kind in [enrolment::TOKEN, access::TOKEN] {
        let void = store.documents(kind).await?;
        writes.extend(void.into_iter().map(|(key, _)| StoreWrite::DeleteDocument { kind, key }));
    }
    store.commit(writes).await?;
    drop(hub);
    store.close().await?;
    Ok(clusters)
}

/// What an old store says of an application.
fn record(object: &Object) -> Option<Record> {
    let app = protocol::ids::AppId::new(object.namespace(), object.name()).ok()?;
    let approval = object.value()["metadata"]["annotations"][APPROVE_ANNOTATION].as_str().map(str::to_owned);
    Some(Record { app, generation: object.generation(), approval })
}

/// A folder that becomes the hub's, or goes away.
struct Staging(PathBuf);

impl Staging {
    fn beside(directory: &Path) -> Result<Self, BackupError> {
        let mut name = OsString::from(".");
        name.push(directory.file_name().unwrap_or(directory.as_os_str()));
        name.push(".restoring");
        let path = directory.with_file_name(name);
        match fs::remove_dir_all(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("remove", &path)(error));
            }
            Ok(()) | Err(_) => {}
        }
        DirBuilder::new().mode(0o700).recursive(true).create(&path).map_err(failed("create", &path))?;
        Ok(Self(path))
    }

    fn become_folder(self, directory: &Path) -> Result<(), BackupError> {
        for name in FILES {
            let path = self.0.join(name);
            File::open(&path).and_then(|file| file.sync_all()).map_err(failed("write", &path))?;
        }
        sync(&self.0)?;
        // An empty folder is replaced as a whole.
        fs::rename(&self.0, directory).map_err(failed("write", directory))?;
        sync(directory.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new(".")))
    }
}

impl Drop for Staging {
    fn drop(&mut self) {
        // Nothing is there any more if it became the hub's.
        let _removed = fs::remove_dir_all(&self.0);
    }
}

fn sync(folder: &Path) -> Result<(), BackupError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(failed("write", folder))
}

fn create(path: &Path) -> io::Result<File> {
    OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)
}
