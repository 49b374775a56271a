//! A bundle: one release with its content, in one file. `docs/bundle-format.md` describes the file.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read, Write},
    path::Path,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::{
    codec::{self, DecodeError},
    cose::{self, Binding, Envelope, EnvelopeError},
    documents::{
        Ceilings, ContentError, Document, IgnoreRule, Parameter, ParameterTarget, ParameterType, Release,
    },
    ids::{Digest, FleetId, KeyId},
    keys::SigningKey,
    limits,
    render::{self, RenderError},
    time::UnixSeconds,
    verify::{Trust, Verified, VerifyError},
};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::{
    clock,
    pack::{self, PackError},
    release::{Built, UNSIGNED_BYTES},
};

/// What a bundle's file starts with; the number counts the format's versions.
const MAGIC: &[u8] = b"edgefleet bundle 1\n";

/// Largest file: the release and the content at their limits, with room for content that does not shrink.
const FILE_BYTES: u64 = limits::PACK_BYTES + limits::RELEASE_BYTES as u64 + 1024 * 1024;

/// A bundle that cannot be read, written, signed or believed. Which one, its caller knows.
#[derive(Debug, thiserror::Error)]
pub enum BundleError {
    /// The file cannot be read.
    #[error("the file cannot be read")]
    Read(#[source] io::Error),
    /// The file cannot be written.
    #[error("the file cannot be written")]
    Write(#[source] io::Error),
    /// The file is something else.
    #[error("it is not a bundle made by `edgefleet bundle build`")]
    NotABundle,
    /// The file ends before anything is said in it.
    #[error("the file is cut short: copy it again, or build and sign it anew")]
    CutShort,
    /// The file is larger than any bundle.
    #[error("it is larger than {} MiB, so no bundle", FILE_BYTES >> 20)]
    TooLarge,
    /// The file is damaged.
    #[error("the file is damaged or cut short: copy it again, or build and sign it anew")]
    Damaged(#[source] DecodeError),
    /// The release in it cannot be read.
    #[error("the release in it is damaged")]
    Release(#[source] DecodeError),
    /// The release in it says something it must not.
    #[error("the release in it is not valid")]
    Content(#[source] ContentError),
    /// The release does not take these parameters.
    #[error("its parameters cannot be set so")]
    Parameters(#[source] ContentError),
    /// The envelope around the release cannot be read.
    #[error("the release's signatures are damaged")]
    Envelope(#[source] EnvelopeError),
    /// The release is larger than a document may be.
    #[error(
        "the release lists so many objects that it takes {len} bytes, {UNSIGNED_BYTES} are allowed; split the application"
    )]
    ReleaseTooLarge {
        /// Its length.
        len: usize,
    },
    /// The content cannot be compressed.
    #[error("cannot compress the content")]
    Compress(#[source] io::Error),
    /// Nobody signed it yet.
    #[error("nobody signed it yet; sign it with `edgefleet bundle sign`")]
    Unsigned,
    /// The signatures do not suffice, or are not by the right keys.
    #[error(
        "the release is not to be believed: `edgefleet keys show` says of a root document which keys may sign, \
         and for which namespaces"
    )]
    Verify(#[source] VerifyError),
    /// It may no longer be installed anywhere.
    #[error("the release expired at {}; build and sign it anew", clock::rfc3339(*.0))]
    Expired(UnixSeconds),
    /// The content does not unpack.
    #[error("the content does not unpack")]
    Pack(#[source] PackError),
    /// The content is not what the release says.
    #[error("the content has digest {found}, the release says {expected}")]
    Digest {
        /// What the file holds.
        found: String,
        /// What was signed.
        expected: String,
    },
    /// An object is not what the release says.
    #[error("an object is not what the release says")]
    Object(#[source] RenderError),
}

/// A release with its content, signed or not.
#[derive(Debug, Clone, PartialEq)]
pub struct Bundle {
    signed: bool,
    /// The release document; inside its envelope once somebody signed.
    release_bytes: Vec<u8>,
    release: Release,
    pack_zstd: Vec<u8>,
}

/// What the file holds behind [`MAGIC`].
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    signed: bool,
    #[serde(with = "serde_bytes")]
    release: Vec<u8>,
    #[serde(with = "serde_bytes")]
    pack: Vec<u8>,
}

impl Bundle {
    /// The bundle of what was built, not signed yet.
    pub fn new(built: &Built) -> Result<Self, BundleError> {
        let release_bytes = codec::encode(&built.release);
        if release_bytes.len() > UNSIGNED_BYTES {
            return Err(BundleError::ReleaseTooLarge { len: release_bytes.len() });
        }
        let pack_zstd = pack::compress(&built.pack).map_err(BundleError::Compress)?;
        Ok(Self { signed: false, release_bytes, release: built.release.clone(), pack_zstd })
    }

    /// A published bundle: its signed release, and its content as the hub keeps it. What it says is not to be
    /// believed before [`Bundle::verify`].
    pub fn published(envelope: Vec<u8>, pack_zstd: Vec<u8>) -> Result<Self, BundleError> {
        Self::of_parts(true, envelope, pack_zstd)
    }

    /// Reads a bundle's file. What it says is not to be believed before [`Bundle::verify`].
    pub fn open(path: &Path) -> Result<Self, BundleError> {
        let mut bytes = Vec::new();
        let read = fs::File::open(path).and_then(|file| file.take(FILE_BYTES + 1).read_to_end(&mut bytes));
        read.map_err(BundleError::Read)?;
        Self::decode(&bytes)
    }

    /// Writes the bundle's file: all of it or nothing, in place of what stood there.
    pub fn save(&self, path: &Path) -> Result<(), BundleError> {
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let write = || {
            let mut file = tempfile::Builder::new().prefix(".bundle-").tempfile_in(folder)?;
            file.write_all(&self.encode())?;
            file.as_file().sync_all()?;
            let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
            file.as_file().set_permissions(mode)?;
            file.persist(path).map(|_| ()).map_err(|error| error.error)
        };
        write().map_err(BundleError::Write)
    }

    /// Decodes a bundle's file.
    pub fn decode(bytes: &[u8]) -> Result<Self, BundleError> {
        if bytes.len() as u64 > FILE_BYTES {
            return Err(BundleError::TooLarge);
        }
        let body = match bytes.strip_prefix(MAGIC) {
            Some(body) => body,
            None if MAGIC.starts_with(bytes) => return Err(BundleError::CutShort),
            None => return Err(BundleError::NotABundle),
        };
        let file: File = codec::decode("bundle", body).map_err(BundleError::Damaged)?;
        Self::of_parts(file.signed, file.release, file.pack)
    }

    fn of_parts(signed: bool, release_bytes: Vec<u8>, pack_zstd: Vec<u8>) -> Result<Self, BundleError> {
        let payload = match signed {
            true => envelope(&release_bytes)?.claimed_payload(),
            false => release_bytes.as_slice(),
        };
        let release: Release = codec::decode("release", payload).map_err(BundleError::Release)?;
        release.check().map_err(BundleError::Content)?;
        Ok(Self { signed, release_bytes, release, pack_zstd })
    }

    /// Whether a file starts as a bundle's does.
    pub fn is_bundle(bytes: &[u8]) -> bool {
        bytes.starts_with(MAGIC)
    }

    /// Encodes the bundle's file.
    pub fn encode(&self) -> Vec<u8> {
        let (release, pack) = (self.release_bytes.clone(), self.pack_zstd.clone());
        let mut bytes = MAGIC.to_vec();
        bytes.extend(codec::encode(&File { signed: self.signed, release, pack }));
        bytes
    }

    /// The release it claims to hold.
    pub fn release(&self) -> &Release {
        &self.release
    }

    /// The release's envelope (COSE_Sign), once somebody signed.
    pub fn envelope(&self) -> Option<&[u8]> {
        self.signed.then_some(self.release_bytes.as_slice())
    }

    /// The content: one Zstandard frame.
    pub fn pack_zstd(&self) -> &[u8] {
        &self.pack_zstd
    }

    /// The keys that claim to have signed.
    pub fn claimed_signers(&self) -> Vec<KeyId> {
        let envelope = self.envelope().and_then(|bytes| envelope(bytes).ok());
        envelope.map_or_else(Vec::new, |envelope| envelope.claimed_signers().collect())
    }

    /// Adds a signature, or replaces the one this key made before. Refuses to sign for content that is not
    /// what the release says.
    pub fn sign(&mut self, fleet: &FleetId, key: &SigningKey) -> Result<(), BundleError> {
        self.check_content(&self.release)?;
        let binding = Binding { kind: Release::TYPE, fleet, cluster: None };
        let signed = match self.envelope() {
            Some(bytes) => cose::add_signature(binding, bytes, key).map_err(BundleError::Envelope)?,
            None => cose::sign_many(binding, &self.release_bytes, &[key]),
        };
        envelope(&signed)?;
        (self.release_bytes, self.signed) = (signed, true);
        Ok(())
    }

    /// The content, unpacked, of the length that the release says.
    pub fn content(&self) -> Result<Vec<u8>, BundleError> {
        pack::unpack(&self.pack_zstd, self.release.pack_len()).map_err(BundleError::Pack)
    }

    /// Checks all that an agent checks before it newly installs a release: who signed, what they may, expiry,
    /// and every object with the parameters' defaults.
    pub fn verify(&self, trust: &Trust, now: UnixSeconds) -> Result<Verified<Release>, BundleError> {
        let envelope = self.envelope().ok_or(BundleError::Unsigned)?;
        let release = trust.release(envelope).map_err(BundleError::Verify)?;
        if now > release.not_after {
            return Err(BundleError::Expired(release.not_after));
        }
        self.check_content(&release)?;
        Ok(release)
    }

    fn check_content(&self, release: &Release) -> Result<(), BundleError> {
        self.render(release, &BTreeMap::new()).map(drop)
    }

    /// The objects as a cluster applies them, with `values` over the parameters' defaults. Compares the content
    /// with the digests that the release states.
    pub fn objects(&self, values: &BTreeMap<String, String>) -> Result<Vec<Value>, BundleError> {
        self.render(&self.release, values)
    }

    fn render(
        &self,
        release: &Release,
        values: &BTreeMap<String, String>,
    ) -> Result<Vec<Value>, BundleError> {
        let content = self.content()?;
        let found = Digest::of(&content);
        if found != release.pack {
            return Err(BundleError::Digest { found: found.short(), expected: release.pack.short() });
        }
        let values = release.resolve(values).map_err(BundleError::Parameters)?;
        let mut rest = content.as_slice();
        let mut objects = Vec::with_capacity(release.objects.len());
        for (index, object) in release.objects.iter().enumerate() {
            // The lengths add up to the content's, which `unpack` checked.
            let (document, behind) = rest.split_at(object.len as usize);
            objects
                .push(render::render(release, index, document, &values).map_err(BundleError::Object)?.object);
            rest = behind;
        }
        Ok(objects)
    }

    /// The bundle as the hub's API takes it; the content is sent beside it.
    pub fn to_resource(&self) -> Result<Value, BundleError> {
        let envelope = self.envelope().ok_or(BundleError::Unsigned)?;
        let release = &self.release;
        let signatures: Vec<Value> =
            self.claimed_signers().iter().map(|key| json!({ "keyId": key.to_string() })).collect();
        Ok(json!({
            "apiVersion": "edgefleet.dev/v1alpha1",
            "kind": "Bundle",
            "metadata": {
                "namespace": release.app.tenant.as_str(),
                "name": format!("{}-{}", release.app.name, release.version),
            },
            "spec": {
                "application": release.app.name.as_str(),
                "version": release.version,
                "digest": format!("sha256:{}", Digest::of(envelope)),
                "pack": format!("sha256:{}", release.pack),
                "release": STANDARD.encode(envelope),
                "signatures": signatures,
                "parameters": release.parameters.iter().map(|parameter| described(release, parameter)).collect::<Vec<_>>(),
                "ceilings": ceilings(&release.ceilings),
            },
        }))
    }
}

/// A parameter as the hub shows it, its targets by name.
fn described(release: &Release, parameter: &Parameter) -> Value {
    let target = |target: &ParameterTarget| {
        let object = release.objects.get(target.object as usize)?;
        Some(json!({ "kind": object.kind, "name": object.name.as_str(), "pointer": target.pointer }))
    };
    let targets: Vec<Value> = parameter.targets.iter().filter_map(target).collect();
    let mut described = json!({ "name": parameter.name, "targets": targets });
    if let ParameterType::Enum(values) = &parameter.of {
        described["enum"] = json!(values);
    }
    if let Some(default) = &parameter.default {
        described["default"] = json!(default);
    }
    described
}

fn ceilings(ceilings: &Ceilings) -> Value {
    let rules = ceilings.ignore_differences.iter();
    let described = |rule: &IgnoreRule| {
        let mut described = json!({ "kind": rule.kind, "pointers": rule.pointers });
        if let Some(name) = &rule.name {
            described["name"] = json!(name);
        }
        described
    };
    let rules: Vec<Value> = rules.map(described).collect();
    let mut described = json!({
        "adopt": format!("{:?}", ceilings.adopt),
        "ignoreDifferences": rules,
        "affectsLink": ceilings.affects_link,
    });
    if let Some(most) = ceilings.max_deletes {
        described["maxDeletes"] = json!(most);
    }
    described
}

fn envelope(bytes: &[u8]) -> Result<Envelope<'_>, BundleError> {
    Envelope::parse_many(Release::TYPE, bytes).map_err(BundleError::Envelope)
}

#[cfg(test)]
mod tests;
