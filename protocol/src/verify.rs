//! Verification, in one order: size, then shape, then signature, and only then decoding and content.
//! [`Verified`] can be made here only, so code that takes one cannot be handed anything else.

use std::{ops::Deref, sync::Arc};

use crate::{
    codec::{self, DecodeError},
    cose::{self, Binding, Envelope, EnvelopeError},
    documents::{
        Ack, Acks, CarryHead, ContentError, Desired, DesiredRelease, Document, DocumentType, Head, Hello,
        Release, ReleaseRole, Report, Root, Want,
    },
    ids::{ClusterId, Digest, FleetId, KeyId},
    keys::{PublicKey, SigningKey},
    planted::Bug,
    time::UnixSeconds,
    together::Together,
};

/// A document whose signatures were checked against the right keys, fleet, cluster and type.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified<T> {
    document: Arc<T>,
    /// Of what others name by it; of the rest nobody asks for it, and it would take time for each message.
    digest: Option<Digest>,
    signers: Vec<KeyId>,
}

impl<T: Document> Verified<T> {
    /// Digest of the envelope's exact bytes, by which other documents name it.
    pub fn digest(&self) -> Digest {
        const { assert!(T::IS_NAMED, "no document names one of this type") };
        self.digest.expect("the digest of what is named is computed when it is verified")
    }
}

impl<T> Verified<T> {
    /// What it says, for whoever needs no more to know who said it.
    pub fn into_document(self) -> T
    where
        T: Clone,
    {
        Arc::unwrap_or_clone(self.document)
    }

    /// Whose signatures were checked and hold.
    pub fn signers(&self) -> &[KeyId] {
        &self.signers
    }
}

impl Verified<CarryHead> {
    /// What the carried head says. It may be believed where heads that came by hand may be, and nowhere else.
    pub fn into_head(self) -> Verified<Head> {
        let head = Arc::new(self.document.head.clone());
        Verified { document: head, digest: None, signers: self.signers }
    }
}

impl<T> Deref for Verified<T> {
    type Target = T;
    fn deref(&self) -> &T {
        &self.document
    }
}

/// Why a document is not believed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Larger than its type allows.
    #[error("{what} of {len} bytes is larger than {limit}")]
    TooLarge {
        /// The document's type.
        what: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The most it may have.
        limit: usize,
    },
    /// Not a well-formed envelope of its type.
    #[error("{what} has a bad envelope")]
    Envelope {
        /// The document's type.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: EnvelopeError,
    },
    /// Too few of the right keys signed these bytes for this fleet, cluster and type.
    #[error("{what} is not signed by {threshold} of the keys that may; its signatures name {}", list(.named))]
    Signatures {
        /// The document's type.
        what: &'static str,
        /// How many keys must sign.
        threshold: u8,
        /// Which keys the envelope names.
        named: Vec<KeyId>,
    },
    /// Signed, but it does not decode.
    #[error("{what} is signed but does not decode")]
    Decode {
        /// The document's type.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: DecodeError,
    },
    /// Signed, but it says something it must not.
    #[error("{what} is signed but not valid")]
    Content {
        /// The document's type.
        what: &'static str,
        /// What is wrong.
        #[source]
        source: ContentError,
    },
    /// Not one of those that were signed together.
    #[error("{what} is not among those that were signed together")]
    Stray {
        /// The document's type.
        what: &'static str,
    },
    /// Signed for another cluster than its text names.
    #[error("{what} names cluster {named}, expected {expected}")]
    Cluster {
        /// The document's type.
        what: &'static str,
        /// The cluster it names.
        named: ClusterId,
        /// The cluster it should name.
        expected: ClusterId,
    },
    /// Not the root that was pinned.
    #[error("the root's digest is {found}, the pinned one is {expected}")]
    Pin {
        /// Digest of what came.
        found: Digest,
        /// Digest that was pinned.
        expected: Digest,
    },
    /// Not the root that follows the one in force.
    #[error("the root has version {found}, after {held} only the very next is taken")]
    Successor {
        /// Its version.
        found: u32,
        /// The version in force.
        held: u32,
    },
    /// Its objects reach beyond what its signers may release.
    #[error("release of {app} is not signed as its objects need: {problem}")]
    Scope {
        /// Which application.
        app: String,
        /// What is missing.
        problem: String,
    },
}

fn list(keys: &[KeyId]) -> String {
    if keys.is_empty() {
        return "none".to_owned();
    }
    keys.iter().map(|key| key.to_string()[..12].to_owned()).collect::<Vec<_>>().join(", ")
}

/// A document about one cluster.
pub trait ForCluster: Document {
    /// The cluster it names.
    fn cluster(&self) -> &ClusterId;
}

/// A document the director signs.
pub trait ByDirector: ForCluster {}

/// A document a cluster signs.
pub trait ByCluster: ForCluster {}

macro_rules! for_cluster {
    ($marker:ident: $($document:ident),*) => {
        $(
            impl ForCluster for $document {
                fn cluster(&self) -> &ClusterId {
                    &self.cluster
                }
            }
            impl $marker for $document {}
        )*
    };
}

for_cluster!(ByDirector: Desired, Head, Ack);
for_cluster!(ByCluster: Hello, Want, Report);

impl ForCluster for CarryHead {
    fn cluster(&self) -> &ClusterId {
        &self.head.cluster
    }
}

impl ByDirector for CarryHead {}

/// The root everything else is checked against.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Trust {
    root: Verified<Root>,
}

impl Trust {
    /// Trusts the root whose digest was learned by a safe way (a join code), if it is signed as it demands.
    pub fn pin(bytes: &[u8], fleet: &FleetId, expected: Digest) -> Result<Self, VerifyError> {
        let found = Digest::of(bytes);
        if found != expected {
            return Err(VerifyError::Pin { found, expected });
        }
        let what = Root::TYPE.name();
        let envelope = envelope::<Root>(bytes, Envelope::parse_many)?;
        // The pin vouches for these exact bytes, so reading its keys before checking them is no leap of faith.
        let unchecked: Root = codec::decode(what, envelope.claimed_payload())
            .map_err(|source| VerifyError::Decode { what, source })?;
        unchecked.check().map_err(|source| VerifyError::Content { what, source })?;
        let keys = unchecked.keys_of(&unchecked.root.keys);
        let binding = Binding { kind: Root::TYPE, fleet, cluster: None };
        let root: Verified<Root> = open(&envelope, binding, &keys, unchecked.root.threshold, bytes)?;
        same_fleet(&root, fleet)?;
        Ok(Self { root })
    }

    /// The trust that the next root brings: exactly one version on, signed by the thresholds of both this
    /// root and itself, never of an earlier epoch. Whether either has expired does not matter.
    pub fn rotate(&self, bytes: &[u8]) -> Result<Self, VerifyError> {
        let envelope = envelope::<Root>(bytes, Envelope::parse_many)?;
        let fleet = &self.root.fleet;
        let signed_as = |root: &Root| {
            let binding = Binding { kind: Root::TYPE, fleet, cluster: None };
            let keys = root.keys_of(&root.root.keys);
            open::<Root>(&envelope, binding, &keys, root.root.threshold, bytes)
        };
        let next = signed_as(&self.root)?;
        if self.root.version.checked_add(1) != Some(next.version) {
            return Err(VerifyError::Successor { found: next.version, held: self.root.version });
        }
        let next = signed_as(&next)?;
        same_fleet(&next, fleet)?;
        if next.min_epoch < self.root.min_epoch {
            return Err(bad_root("min_epoch", "is below that of the root before"));
        }
        Ok(Self { root: next })
    }

    /// Trusts a root that came whole by a safe way, such as a file on an operator's disk: it says itself which
    /// fleet it rules, and must still be signed as it demands.
    pub fn given(bytes: &[u8]) -> Result<Self, VerifyError> {
        let what = Root::TYPE.name();
        let envelope = envelope::<Root>(bytes, Envelope::parse_many)?;
        let claimed: Root = codec::decode(what, envelope.claimed_payload())
            .map_err(|source| VerifyError::Decode { what, source })?;
        Self::pin(bytes, &claimed.fleet, Digest::of(bytes))
    }

    /// The root in force.
    pub fn root(&self) -> &Root {
        &self.root
    }

    /// Digest of the root's envelope.
    pub fn root_digest(&self) -> Digest {
        self.root.digest()
    }

    /// Checks a document the director made for `cluster`.
    pub fn director<T: ByDirector>(
        &self,
        cluster: &ClusterId,
        bytes: &[u8],
    ) -> Result<Verified<T>, VerifyError> {
        let keys = self.root.keys_of(&self.root.director.keys);
        single(&self.root.fleet, cluster, &keys, bytes)
    }

    /// Signs a document as the director, and takes it as its cluster will: of what was signed here with a director's key
    /// the signature need not be verified, which would cost more than all else about it.
    ///
    /// # Errors
    /// When its cluster would not believe it.
    pub fn direct<T: ByDirector + PartialEq>(
        &self,
        key: &SigningKey,
        document: T,
    ) -> Result<(Vec<u8>, Verified<T>), VerifyError> {
        let (what, cluster) = (T::TYPE.name(), document.cluster());
        document.check().map_err(|source| VerifyError::Content { what, source })?;
        let signer = key.public().id();
        if !self.root.director.keys.contains(&signer) {
            return Err(VerifyError::Signatures { what, threshold: 1, named: vec![signer] });
        }
        let binding = Binding { kind: T::TYPE, fleet: &self.root.fleet, cluster: Some(cluster) };
        let bytes = cose::sign_one(binding, &codec::encode(&document), key);
        within_limit::<T>(&bytes)?;
        let (document, digest) = (Arc::new(document), digest_of::<T>(&bytes));
        let verified = Verified { document, digest, signers: vec![signer] };
        debug_assert!(
            self.director(verified.cluster(), &bytes).is_ok_and(|read: Verified<T>| read == verified)
        );
        Ok((bytes, verified))
    }

    /// Checks an acknowledgement for `cluster`, signed by itself or together with those of others.
    pub fn ack(&self, cluster: &ClusterId, bytes: &[u8]) -> Result<Verified<Ack>, VerifyError> {
        if !Together::is_meant(bytes) {
            return self.director(cluster, bytes);
        }
        let what = Ack::TYPE.name();
        within_limit::<Ack>(bytes)?;
        let together = Together::parse(bytes)
            .map_err(|source| VerifyError::Envelope { what, source: EnvelopeError::Shape(source) })?;
        let acks = self.acks(together.acks())?;
        let ack = together.among(acks.root).ok_or(VerifyError::Stray { what })?;
        of_cluster(cluster, read(ack, bytes, acks.signers)?)
    }

    /// Checks what was signed for the acknowledgements of many clusters.
    pub fn acks(&self, bytes: &[u8]) -> Result<Verified<Acks>, VerifyError> {
        let envelope = envelope::<Acks>(bytes, Envelope::parse_many)?;
        let binding = Binding { kind: Acks::TYPE, fleet: &self.root.fleet, cluster: None };
        open(&envelope, binding, &self.root.keys_of(&self.root.director.keys), 1, bytes)
    }

    /// Checks a release: its signatures, and that its signers may release all that it holds.
    pub fn release(&self, bytes: &[u8]) -> Result<Verified<Release>, VerifyError> {
        let envelope = envelope::<Release>(bytes, Envelope::parse_many)?;
        let ids: Vec<KeyId> = self.root.releases.iter().flat_map(|role| role.keys.iter().copied()).collect();
        let binding = Binding { kind: Release::TYPE, fleet: &self.root.fleet, cluster: None };
        let keys = self.root.keys_of(&ids);
        let release: Verified<Release> = open(&envelope, binding, &keys, 1, bytes)?;
        self.check_scope(&release)?;
        Ok(release)
    }

    fn check_scope(&self, release: &Verified<Release>) -> Result<(), VerifyError> {
        let tenant = &release.app.tenant;
        let mut problems = Vec::new();
        for role in self.root.release_roles(tenant) {
            match role_problem(role, release) {
                Some(problem) => problems.push(problem),
                None => return Ok(()),
            }
        }
        if problems.is_empty() {
            problems.push(format!("no key releases for tenant {tenant}"));
        }
        Err(VerifyError::Scope { app: release.app.to_string(), problem: problems.join("; ") })
    }
}

fn same_fleet(root: &Root, fleet: &FleetId) -> Result<(), VerifyError> {
    if &root.fleet == fleet { Ok(()) } else { Err(bad_root("fleet", "is not the fleet it was signed for")) }
}

fn bad_root(field: &str, problem: &str) -> VerifyError {
    VerifyError::Content { what: Root::TYPE.name(), source: ContentError::new(field, problem) }
}

/// Why `role` does not allow `release`; none if it does.
fn role_problem(role: &ReleaseRole, release: &Verified<Release>) -> Option<String> {
    let signed = release.signers().iter().filter(|key| role.keys.contains(key)).count();
    if let Some(outside) =
        release.scope.iter().find(|name| !role.namespaces.iter().any(|pattern| pattern.covers(name)))
    {
        return Some(format!("namespace {outside} is outside its keys' scope"));
    }
    let (needed, why) = match release.is_privileged() {
        true => (role.privileged_threshold, "it holds cluster-scoped objects"),
        false => (role.threshold, "all its objects are in namespaces"),
    };
    (signed < usize::from(needed)).then(|| format!("{signed} of {needed} signatures ({why})"))
}

/// Checks a document that a cluster made, against the key the hub holds for it.
pub fn by_cluster<T: ByCluster>(
    fleet: &FleetId,
    cluster: &ClusterId,
    key: &PublicKey,
    bytes: &[u8],
) -> Result<Verified<T>, VerifyError> {
    single(fleet, cluster, std::slice::from_ref(key), bytes)
}

/// Why an application's new release is refused, although the desired state that names it is believed.
#[derive(Debug, thiserror::Error)]
pub enum Refusal {
    /// The release itself is not believed.
    #[error("the release is not believed")]
    Unverified(#[from] VerifyError),
    /// The desired state names another release than came.
    #[error("the desired state names {expected}, this is {found}")]
    Mismatch {
        /// What was named.
        expected: String,
        /// What came.
        found: String,
    },
    /// Too old to be newly installed.
    #[error("the release expired at {not_after}; have it signed anew")]
    Expired {
        /// When it expired.
        not_after: UnixSeconds,
    },
    /// Older than the lowest release that may be gone back to.
    #[error("the release's counter {counter} is below the floor {floor}")]
    BelowFloor {
        /// Its counter.
        counter: u64,
        /// The floor.
        floor: u64,
    },
    /// The hub set a parameter beyond what the release allows.
    #[error("a parameter is beyond what the release allows")]
    Parameter(#[source] ContentError),
}

impl Refusal {
    /// The reason of what is too old: another time may say otherwise.
    pub const EXPIRED: &str = "ReleaseExpired";

    /// The refusal in one CamelCase word.
    pub fn reason(&self) -> &'static str {
        match self {
            Self::Unverified(VerifyError::Scope { .. }) => "OutOfScope",
            Self::Unverified(_) => "SignatureInvalid",
            Self::Mismatch { .. } => "ReleaseMismatch",
            Self::Expired { .. } => Self::EXPIRED,
            Self::BelowFloor { .. } => "BelowFloor",
            Self::Parameter(_) => "ParameterInvalid",
        }
    }
}

/// Checks a release that a desired state names, as something to be newly installed at `now`.
pub fn admit_release(
    trust: &Trust,
    named: &DesiredRelease,
    bytes: &[u8],
    floor: u64,
    now: UnixSeconds,
) -> Result<Verified<Release>, Refusal> {
    let found = Digest::of(bytes);
    if found != named.release {
        return Err(Refusal::Mismatch { expected: named.release.short(), found: found.short() });
    }
    let release = trust.release(bytes)?;
    if release.app != named.app {
        return Err(Refusal::Mismatch { expected: named.app.to_string(), found: release.app.to_string() });
    }
    if now > release.not_after {
        return Err(Refusal::Expired { not_after: release.not_after });
    }
    if release.counter < floor {
        return Err(Refusal::BelowFloor { counter: release.counter, floor });
    }
    release.resolve(&named.values).map_err(Refusal::Parameter)?;
    Ok(release)
}

fn single<T: ForCluster>(
    fleet: &FleetId,
    cluster: &ClusterId,
    keys: &[PublicKey],
    bytes: &[u8],
) -> Result<Verified<T>, VerifyError> {
    let envelope = envelope::<T>(bytes, Envelope::parse_one)?;
    let binding = Binding { kind: T::TYPE, fleet, cluster: Some(cluster) };
    of_cluster(cluster, open(&envelope, binding, keys, 1, bytes)?)
}

fn of_cluster<T: ForCluster>(cluster: &ClusterId, document: Verified<T>) -> Result<Verified<T>, VerifyError> {
    if document.cluster() == cluster || Bug::AnothersDocument.is_planted() {
        return Ok(document);
    }
    let (named, expected) = (document.cluster().clone(), cluster.clone());
    Err(VerifyError::Cluster { what: T::TYPE.name(), named, expected })
}

fn envelope<'a, T: Document>(
    bytes: &'a [u8],
    parse: fn(DocumentType, &'a [u8]) -> Result<Envelope<'a>, EnvelopeError>,
) -> Result<Envelope<'a>, VerifyError> {
    within_limit::<T>(bytes)?;
    parse(T::TYPE, bytes).map_err(|source| VerifyError::Envelope { what: T::TYPE.name(), source })
}

fn within_limit<T: Document>(bytes: &[u8]) -> Result<(), VerifyError> {
    if bytes.len() <= T::LIMIT {
        return Ok(());
    }
    Err(VerifyError::TooLarge { what: T::TYPE.name(), len: bytes.len(), limit: T::LIMIT })
}

fn open<T: Document>(
    envelope: &Envelope<'_>,
    binding: Binding<'_>,
    keys: &[PublicKey],
    threshold: u8,
    bytes: &[u8],
) -> Result<Verified<T>, VerifyError> {
    let what = T::TYPE.name();
    let Some((payload, signers)) = envelope.open(binding, keys, threshold) else {
        return Err(VerifyError::Signatures { what, threshold, named: envelope.claimed_signers().collect() });
    };
    read(payload, bytes, signers)
}

/// Reads what was verified to be signed; `bytes` are all that came.
fn read<T: Document>(payload: &[u8], bytes: &[u8], signers: Vec<KeyId>) -> Result<Verified<T>, VerifyError> {
    let what = T::TYPE.name();
    let document: T = codec::decode(what, payload).map_err(|source| VerifyError::Decode { what, source })?;
    document.check().map_err(|source| VerifyError::Content { what, source })?;
    Ok(Verified { document: Arc::new(document), digest: digest_of::<T>(bytes), signers })
}

fn digest_of<T: Document>(bytes: &[u8]) -> Option<Digest> {
    T::IS_NAMED.then(|| Digest::of(bytes))
}
