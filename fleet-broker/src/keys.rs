//! The keys of a fleet: made together, written once, read one at a time.

mod armor;

use std::{
    fs,
    io::{self, Read, Write},
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use protocol::{
    codec,
    cose::{self, Binding},
    documents::{ContentError, Document, NamespacePattern, ReleaseRole, Role, Root},
    ids::{Digest, FleetId, Name},
    keys::{PublicKey, SigningKey},
    order::Epoch,
    time::UnixSeconds,
    verify::{Trust, VerifyError},
};
use zeroize::Zeroizing;

pub use armor::{ArmorError, KeyRole};

use crate::random;
use armor::KEY_FILE_BYTES;

/// Root keys made, and how many of them must sign a root: one may be lost, one may be stolen.
const ROOT_KEYS: usize = 3;
const ROOT_THRESHOLD: u8 = 2;

/// Release keys made: as many as must sign what is privileged.
const RELEASE_KEYS: usize = 2;
const RELEASE_THRESHOLD: u8 = 1;
const PRIVILEGED_THRESHOLD: u8 = 2;

/// The name of the root document in a folder of keys.
pub const ROOT_FILE: &str = "root.cose";

/// Keys that cannot be made, written or read.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// A file or folder cannot be read.
    #[error("cannot read {}", .path.display())]
    Read {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// A file or folder cannot be written.
    #[error("cannot write {}", .path.display())]
    Write {
        /// Which.
        path: PathBuf,
        /// Why.
        #[source]
        source: io::Error,
    },
    /// Something is there already.
    #[error("{} is there already, and keys are never overwritten; name a folder that is not there yet", .0.display())]
    Exists(PathBuf),
    /// Not a key file of the wanted sort.
    #[error("{}: {problem}", .path.display())]
    Format {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        problem: ArmorError,
    },
    /// The root would say something it must not.
    #[error("the root document would not be valid")]
    Root(#[source] ContentError),
    /// A file is no root document.
    #[error("{} is not a root document: give the {ROOT_FILE} that `edgefleet keys init` wrote", .path.display())]
    NotARoot {
        /// Which file.
        path: PathBuf,
        /// Why.
        #[source]
        source: Box<VerifyError>,
    },
}

/// What a new fleet is to trust.
#[derive(Debug, Clone)]
pub struct Charter {
    /// The fleet's id, part of every signature.
    pub fleet: FleetId,
    /// The tenant the release keys are for.
    pub tenant: Name,
    /// The namespaces its releases may reach.
    pub namespaces: Vec<NamespacePattern>,
    /// Digests of the public keys of the authorities the hub's certificates come from.
    pub ca_pins: Vec<Digest>,
    /// When the root is signed.
    pub issued: UnixSeconds,
    /// When the root expires.
    pub not_after: UnixSeconds,
}

/// Every key of a new fleet, and the root document that names them.
#[derive(Debug)]
pub struct FleetKeys {
    /// Kept offline, apart from each other.
    pub root: Vec<SigningKey>,
    /// Goes to the hub.
    pub director: SigningKey,
    /// Go to CI or approvers.
    pub release: Vec<SigningKey>,
    /// What they may do.
    pub document: Root,
    /// The same, signed.
    pub envelope: Vec<u8>,
}

/// Makes the keys of a new fleet and signs its first root.
pub fn generate(charter: &Charter) -> Result<FleetKeys, KeyError> {
    let (root, release) = (signing_keys(ROOT_KEYS), signing_keys(RELEASE_KEYS));
    let director = signing_key();
    let document = first_root(charter, &root, &director, &release);
    document.check().map_err(KeyError::Root)?;
    let binding = Binding { kind: Root::TYPE, fleet: &charter.fleet, cluster: None };
    let signers: Vec<&SigningKey> = root.iter().take(usize::from(ROOT_THRESHOLD)).collect();
    let envelope = cose::sign_many(binding, &codec::encode(&document), &signers);
    Ok(FleetKeys { root, director, release, document, envelope })
}

fn signing_keys(count: usize) -> Vec<SigningKey> {
    (0..count).map(|_| signing_key()).collect()
}

fn signing_key() -> SigningKey {
    SigningKey::from_seed(Zeroizing::new(random::bytes()))
}

fn first_root(charter: &Charter, root: &[SigningKey], director: &SigningKey, release: &[SigningKey]) -> Root {
    let ids = |keys: &[SigningKey]| keys.iter().map(|key| key.public().id()).collect();
    let all = root.iter().chain([director]).chain(release);
    Root {
        fleet: charter.fleet.clone(),
        version: 1,
        min_epoch: Epoch(1),
        issued: charter.issued,
        not_after: charter.not_after,
        keys: all.map(SigningKey::public).collect(),
        root: Role { threshold: ROOT_THRESHOLD, keys: ids(root) },
        director: Role { threshold: 1, keys: vec![director.public().id()] },
        releases: vec![ReleaseRole {
            tenant: charter.tenant.clone(),
            namespaces: charter.namespaces.clone(),
            keys: ids(release),
            threshold: RELEASE_THRESHOLD,
            privileged_threshold: PRIVILEGED_THRESHOLD,
        }],
        ca_pins: charter.ca_pins.clone(),
        prev: None,
    }
}

impl FleetKeys {
    /// Writes all of it as the new folder `folder`: all of it or nothing.
    pub fn write(&self, folder: &Path) -> Result<(), KeyError> {
        if folder.symlink_metadata().is_ok() {
            return Err(KeyError::Exists(folder.to_owned()));
        }
        let unfinished = Unfinished::new(folder)?;
        for (name, role, key) in self.files() {
            let fleet = &self.document.fleet;
            write_signing_key(&unfinished.0.join(format!("{name}.key")), role, fleet, key)?;
            write_public_key(&unfinished.0.join(format!("{name}.pub")), role, fleet, &key.public())?;
        }
        create(&unfinished.0.join(ROOT_FILE), 0o644, &self.envelope)?;
        unfinished.finish(folder)
    }

    fn files(&self) -> Vec<(String, KeyRole, &SigningKey)> {
        let numbered = |name: &'static str, role: KeyRole, keys: &'_ [SigningKey]| {
            (1..=keys.len()).map(move |number| (format!("{name}-{number}"), role)).collect::<Vec<_>>()
        };
        let names = numbered("root", KeyRole::Root, &self.root)
            .into_iter()
            .chain([("director".to_owned(), KeyRole::Director)])
            .chain(numbered("release", KeyRole::Release, &self.release));
        let keys = self.root.iter().chain([&self.director]).chain(&self.release);
        names.zip(keys).map(|((name, role), key)| (name, role, key)).collect()
    }
}

/// A folder beside the wanted one, which disappears unless it is finished.
struct Unfinished(PathBuf);

impl Unfinished {
    fn new(folder: &Path) -> Result<Self, KeyError> {
        let mut name = folder.file_name().unwrap_or_default().to_owned();
        name.push(format!(".unfinished-{}", std::process::id()));
        let path = folder.with_file_name(name);
        let made = fs::DirBuilder::new().mode(0o700).create(&path);
        made.map_err(|source| KeyError::Write { path: folder.to_owned(), source })?;
        Ok(Self(path))
    }

    fn finish(self, folder: &Path) -> Result<(), KeyError> {
        fs::rename(&self.0, folder).map_err(|source| KeyError::Write { path: folder.to_owned(), source })
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        // Renamed where it was finished, so there is nothing left; where not, the error that led here counts.
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// A private key with what its file says about it.
#[derive(Debug)]
pub struct SigningKeyFile {
    /// What the key is for.
    pub role: KeyRole,
    /// Whose key it is.
    pub fleet: FleetId,
    /// The key.
    pub key: SigningKey,
    /// Whether others than the file's owner may read it.
    pub exposed: bool,
}

/// A public key with what its file says about it.
#[derive(Debug)]
pub struct PublicKeyFile {
    /// What the key is for.
    pub role: KeyRole,
    /// Whose key it is.
    pub fleet: FleetId,
    /// The key.
    pub key: PublicKey,
}

/// Writes a private key to a new file that only its owner may read.
pub fn write_signing_key(
    path: &Path,
    role: KeyRole,
    fleet: &FleetId,
    key: &SigningKey,
) -> Result<(), KeyError> {
    create(path, 0o600, armor::private(role, fleet, key).as_bytes())
}

/// The text of a private key's file.
pub(crate) fn private_text(role: KeyRole, fleet: &FleetId, key: &SigningKey) -> Zeroizing<String> {
    armor::private(role, fleet, key)
}

/// Writes a public key to a new file.
pub fn write_public_key(
    path: &Path,
    role: KeyRole,
    fleet: &FleetId,
    key: &PublicKey,
) -> Result<(), KeyError> {
    create(path, 0o644, armor::public(role, fleet, key).as_bytes())
}

/// Reads a private key.
pub fn load_signing_key(path: &Path) -> Result<SigningKeyFile, KeyError> {
    let text = read(path)?;
    let mode = fs::metadata(path).map_err(|source| cannot_read(path, source))?.permissions().mode();
    let (role, fleet, key) = armor::parse_private(&text).map_err(|problem| wrong_format(path, problem))?;
    Ok(SigningKeyFile { role, fleet, key, exposed: mode & 0o077 != 0 })
}

/// Reads a public key.
pub fn load_public_key(path: &Path) -> Result<PublicKeyFile, KeyError> {
    let text = read(path)?;
    let (role, fleet, key) = armor::parse_public(&text).map_err(|problem| wrong_format(path, problem))?;
    Ok(PublicKeyFile { role, fleet, key })
}

/// Reads a root document and trusts it: for a file that the operator vouches for.
pub fn load_root(path: &Path) -> Result<Trust, KeyError> {
    let mut bytes = Vec::new();
    let read =
        fs::File::open(path).and_then(|file| file.take(Root::LIMIT as u64 + 1).read_to_end(&mut bytes));
    read.map_err(|source| cannot_read(path, source))?;
    Trust::given(&bytes)
        .map_err(|source| KeyError::NotARoot { path: path.to_owned(), source: Box::new(source) })
}

fn read(path: &Path) -> Result<Zeroizing<String>, KeyError> {
    // As large as it can get, so that no copy is left behind by growing.
    let mut bytes = Zeroizing::new(Vec::with_capacity(KEY_FILE_BYTES + 1));
    let file = fs::File::open(path).map_err(|source| cannot_read(path, source))?;
    let read = file.take(KEY_FILE_BYTES as u64 + 1).read_to_end(&mut bytes);
    read.map_err(|source| cannot_read(path, source))?;
    let text = std::str::from_utf8(&bytes).ok().filter(|text| text.len() <= KEY_FILE_BYTES);
    text.map(|text| Zeroizing::new(text.to_owned())).ok_or_else(|| wrong_format(path, ArmorError::NotAKey))
}

fn create(path: &Path, mode: u32, bytes: &[u8]) -> Result<(), KeyError> {
    let opened = fs::OpenOptions::new().write(true).create_new(true).mode(mode).open(path);
    let written = opened.and_then(|mut file| file.write_all(bytes).and_then(|()| file.sync_all()));
    written.map_err(|source| {
        let path = path.to_owned();
        let exists = source.kind() == io::ErrorKind::AlreadyExists;
        if exists { KeyError::Exists(path) } else { KeyError::Write { path, source } }
    })
}

fn cannot_read(path: &Path, source: io::Error) -> KeyError {
    KeyError::Read { path: path.to_owned(), source }
}

fn wrong_format(path: &Path, problem: ArmorError) -> KeyError {
    KeyError::Format { path: path.to_owned(), problem }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn charter() -> Charter {
        Charter {
            fleet: FleetId::new("acme").unwrap(),
            tenant: Name::new("radio").unwrap(),
            namespaces: vec!["radio".parse().unwrap(), "radio-*".parse().unwrap()],
            ca_pins: vec![Digest::of(b"authority")],
            issued: UnixSeconds(1_000),
            not_after: UnixSeconds(2_000),
        }
    }

    #[test]
    fn a_new_fleet_trusts_its_own_root() {
        let keys = generate(&charter()).unwrap();
        let trust = Trust::pin(&keys.envelope, &charter().fleet, Digest::of(&keys.envelope)).unwrap();
        assert_eq!(trust.root(), &keys.document);
        assert_eq!((keys.document.root.threshold, keys.document.keys.len()), (2, 6));
        assert_eq!(keys.document.releases[0].privileged_threshold, 2);
    }

    #[test]
    fn keys_come_back_from_their_folder_and_only_their_owner_may_read_them() {
        let parent = tempfile::tempdir().unwrap();
        let folder = parent.path().join("keys");
        let keys = generate(&charter()).unwrap();
        keys.write(&folder).unwrap();
        let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode(&folder), 0o700);
        for (name, role, key) in keys.files() {
            let path = folder.join(format!("{name}.key"));
            let file = load_signing_key(&path).unwrap();
            assert_eq!((file.role, &file.fleet, file.exposed), (role, &charter().fleet, false), "{name}");
            assert_eq!(file.key.public(), key.public(), "{name}");
            assert_eq!(mode(&path), 0o600, "{name}");
            let public = load_public_key(&folder.join(format!("{name}.pub"))).unwrap();
            assert_eq!((public.role, public.key), (role, key.public()), "{name}");
        }
        assert_eq!(load_root(&folder.join(ROOT_FILE)).unwrap().root(), &keys.document);
        assert_eq!(fs::read_dir(&folder).unwrap().count(), 13);
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 1, "nothing unfinished is left");
    }

    #[test]
    fn keys_are_never_overwritten() {
        let parent = tempfile::tempdir().unwrap();
        let keys = generate(&charter()).unwrap();
        let error = keys.write(parent.path()).unwrap_err();
        assert!(matches!(error, KeyError::Exists(_)), "{error}");
        let path = parent.path().join("a.key");
        let write = || write_signing_key(&path, KeyRole::Root, &charter().fleet, &keys.director);
        write().unwrap();
        assert!(matches!(write().unwrap_err(), KeyError::Exists(_)));
    }

    #[test]
    fn a_failure_leaves_nothing() {
        let parent = tempfile::tempdir().unwrap();
        let error = generate(&charter()).unwrap().write(&parent.path().join("gone/keys")).unwrap_err();
        assert!(matches!(error, KeyError::Write { .. }), "{error}");
        assert_eq!(fs::read_dir(parent.path()).unwrap().count(), 0);
        let pins = Charter { not_after: UnixSeconds(0), ..charter() };
        assert!(matches!(generate(&pins).unwrap_err(), KeyError::Root(_)));
    }

    #[test]
    fn an_exposed_key_is_noticed() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("a.key");
        write_signing_key(&path, KeyRole::Release, &charter().fleet, &signing_key()).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o640)).unwrap();
        assert!(load_signing_key(&path).unwrap().exposed);
    }

    #[test]
    fn what_is_no_root_is_refused() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join(ROOT_FILE);
        let mut envelope = generate(&charter()).unwrap().envelope;
        let last = envelope.len() - 1;
        envelope[last] ^= 1;
        for bytes in [b"nothing".to_vec(), envelope] {
            fs::write(&path, bytes).unwrap();
            let error = load_root(&path).unwrap_err();
            assert!(error.to_string().contains("root.cose is not a root document: give"), "{error}");
        }
    }
}
