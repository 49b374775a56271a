//! The signed envelope: COSE_Sign1 for one signer, COSE_Sign for several (RFC 9052), untagged.
//!
//! Each signer's protected header is exactly `{1: -19, 4: key id, 16: type}` (Ed25519 by RFC 9864, typ by
//! RFC 9596) and is compared as bytes, never decoded. Unprotected headers are empty. The signature covers
//! `["edgefleet/1", type, fleet, cluster]` as external data, so a document made for one fleet, cluster or
//! purpose is nothing anywhere else.

use serde::Serialize;
use serde_bytes::Bytes;

use crate::{
    codec::{self, DecodeError, EmptyMap},
    documents::DocumentType,
    ids::{ClusterId, FleetId, KeyId},
    keys::{PublicKey, SIGNATURE_BYTES, SigningKey},
    limits,
    planted::Bug,
};

/// The label of a header's `typ` (RFC 9596), as it is encoded.
const TYPE_LABEL: u8 = 0x10;

/// Room for what a signature is bound to: two names of at most 63 characters and two words.
const AAD_ROOM: usize = 192;

/// Room for a protected header.
const HEADER_ROOM: usize = 64;

/// Room for what is signed beside the payload: a header, what it is bound to, and lengths.
const STRUCTURE_ROOM: usize = 320;

/// What a signature is bound to beside the payload.
#[derive(Debug, Clone, Copy)]
pub struct Binding<'a> {
    /// What the payload is.
    pub kind: DocumentType,
    /// Whose fleet it is for.
    pub fleet: &'a FleetId,
    /// Which cluster it is for or from; none for documents that are the whole fleet's.
    pub cluster: Option<&'a ClusterId>,
}

/// Why bytes are not a well-formed envelope.
#[derive(Debug, thiserror::Error)]
pub enum EnvelopeError {
    /// Not an array of the right shape.
    #[error("the envelope is malformed")]
    Shape(#[source] DecodeError),
    /// A header says more, less or other than it must.
    #[error("a signature's header is not exactly algorithm, key id and type {0:?}")]
    Header(&'static str),
    /// A signature is not 64 bytes long.
    #[error("a signature is {0} bytes long, not 64")]
    SignatureLength(usize),
    /// No signature at all, or more than any threshold needs.
    #[error("the envelope carries {0} signatures")]
    SignatureCount(usize),
}

/// An envelope whose shape is right and whose signatures nobody has checked yet.
#[derive(Debug)]
pub struct Envelope<'a> {
    payload: &'a [u8],
    signatures: Signatures<'a>,
}

#[derive(Debug)]
enum Signatures<'a> {
    /// Of a COSE_Sign1.
    One(Signature<'a>),
    /// Of a COSE_Sign, one at least.
    Many(Vec<Signature<'a>>),
}

impl<'a> Signatures<'a> {
    fn all(&self) -> &[Signature<'a>] {
        match self {
            Self::One(signature) => std::slice::from_ref(signature),
            Self::Many(signatures) => signatures,
        }
    }
}

#[derive(Debug)]
struct Signature<'a> {
    header: &'a [u8],
    key: KeyId,
    bytes: &'a [u8],
}

type Sign1<'a> = (&'a Bytes, EmptyMap, &'a Bytes, &'a Bytes);
type Sign<'a> = (&'a Bytes, EmptyMap, &'a Bytes, Vec<(&'a Bytes, EmptyMap, &'a Bytes)>);

impl<'a> Envelope<'a> {
    /// Reads the shape of a COSE_Sign1.
    pub fn parse_one(kind: DocumentType, bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (header, EmptyMap {}, payload, signature): Sign1<'a> =
            codec::decode("COSE_Sign1", bytes).map_err(EnvelopeError::Shape)?;
        let signature = Signature::parse(kind, header, signature)?;
        Ok(Self { payload, signatures: Signatures::One(signature) })
    }

    /// Reads the shape of a COSE_Sign.
    pub fn parse_many(kind: DocumentType, bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let (header, EmptyMap {}, payload, signatures): Sign<'a> =
            codec::decode("COSE_Sign", bytes).map_err(EnvelopeError::Shape)?;
        if !header.is_empty() {
            return Err(EnvelopeError::Header(kind.name()));
        }
        if signatures.is_empty() || signatures.len() > limits::SIGNATURES {
            return Err(EnvelopeError::SignatureCount(signatures.len()));
        }
        let signatures = signatures
            .into_iter()
            .map(|(header, EmptyMap {}, bytes)| Signature::parse(kind, header, bytes))
            .collect::<Result<_, _>>()?;
        Ok(Self { payload, signatures: Signatures::Many(signatures) })
    }

    /// The first signature, by whomever.
    pub(crate) fn first_signature(&self) -> &'a [u8] {
        self.signatures.all()[0].bytes
    }

    /// Who claims to have signed, in the order of the envelope. Claims only.
    pub fn claimed_signers(&self) -> impl Iterator<Item = KeyId> {
        self.signatures.all().iter().map(|signature| signature.key)
    }

    /// What it claims to carry: to be shown as such, or because its digest was pinned and its signatures are
    /// checked next.
    pub fn claimed_payload(&self) -> &'a [u8] {
        self.payload
    }

    /// The payload and who signed it, if at least `threshold` (and at least one) of `keys` did. Every key
    /// counts once, however often it signed; signatures by other keys count for nothing.
    pub fn open(
        &self,
        binding: Binding<'_>,
        keys: &[PublicKey],
        threshold: u8,
    ) -> Option<(&'a [u8], Vec<KeyId>)> {
        let aad = ExternalAad::of(binding);
        let mut signers = Vec::with_capacity(self.signatures.all().len());
        for signature in self.signatures.all() {
            let Some(key) = keys.iter().find(|key| key.id() == signature.key) else { continue };
            let message = self.signed_bytes(signature, aad.bytes());
            if !signers.contains(&signature.key) && key.verifies(&message, signature.bytes) {
                signers.push(signature.key);
            }
        }
        let enough = usize::from(threshold.max(1)) - usize::from(Bug::OneSignatureLess.is_planted());
        (signers.len() >= enough).then_some((self.payload, signers))
    }

    fn signed_bytes(&self, signature: &Signature<'_>, aad: &[u8]) -> Vec<u8> {
        match self.signatures {
            Signatures::One(_) => signature_structure_1(signature.header, aad, self.payload),
            Signatures::Many(_) => signature_structure(signature.header, aad, self.payload),
        }
    }
}

impl<'a> Signature<'a> {
    fn parse(kind: DocumentType, header: &'a [u8], bytes: &'a [u8]) -> Result<Self, EnvelopeError> {
        let key = header_key(kind, header).ok_or(EnvelopeError::Header(kind.name()))?;
        if bytes.len() != SIGNATURE_BYTES {
            return Err(EnvelopeError::SignatureLength(bytes.len()));
        }
        Ok(Self { header, key, bytes })
    }
}

/// What a COSE_Sign1 carries, found without reading the rest of it: none in what is no such envelope. For who has
/// verified it before.
pub(crate) fn payload_of_one(envelope: &[u8]) -> Option<&[u8]> {
    let mut walk = codec::Walk::new(envelope);
    let (_parts, _header, _unprotected) = (walk.array()?, walk.item()?, walk.item()?);
    walk.bytes()
}

/// Signs `payload` as a COSE_Sign1.
pub fn sign_one(binding: Binding<'_>, payload: &[u8], key: &SigningKey) -> Vec<u8> {
    let header = protected_header(binding.kind, &key.public().id());
    let message = signature_structure_1(&header, ExternalAad::of(binding).bytes(), payload);
    encode_one(&header, payload, &key.sign(&message))
}

/// Puts a COSE_Sign1 together again from what was signed as a `kind` and the signature that `key` made. Whether it holds
/// is not checked.
pub(crate) fn reassemble_one(kind: DocumentType, payload: &[u8], key: &KeyId, signature: &[u8]) -> Vec<u8> {
    encode_one(&protected_header(kind, key), payload, signature)
}

fn encode_one(header: &[u8], payload: &[u8], signature: &[u8]) -> Vec<u8> {
    codec::encode(&(Bytes::new(header), EmptyMap {}, Bytes::new(payload), Bytes::new(signature)))
}

/// Signs `payload` as a COSE_Sign with one signature for each key.
pub fn sign_many(binding: Binding<'_>, payload: &[u8], keys: &[&SigningKey]) -> Vec<u8> {
    let signatures: Vec<_> = keys.iter().map(|key| signature_for(binding, payload, key)).collect();
    encode_many(payload, signatures)
}

/// Adds a signature to a COSE_Sign, or replaces the one this key made before.
pub fn add_signature(
    binding: Binding<'_>,
    envelope: &[u8],
    key: &SigningKey,
) -> Result<Vec<u8>, EnvelopeError> {
    let parsed = Envelope::parse_many(binding.kind, envelope)?;
    let mut signatures: Vec<_> = parsed
        .signatures
        .all()
        .iter()
        .filter(|signature| signature.key != key.public().id())
        .map(|signature| (signature.header.to_vec(), signature.bytes.to_vec()))
        .collect();
    signatures.push(signature_for(binding, parsed.payload, key));
    Ok(encode_many(parsed.payload, signatures))
}

fn signature_for(binding: Binding<'_>, payload: &[u8], key: &SigningKey) -> (Vec<u8>, Vec<u8>) {
    let header = protected_header(binding.kind, &key.public().id());
    let message = signature_structure(&header, ExternalAad::of(binding).bytes(), payload);
    let signature = key.sign(&message).to_vec();
    (header, signature)
}

fn encode_many(payload: &[u8], signatures: Vec<(Vec<u8>, Vec<u8>)>) -> Vec<u8> {
    let signatures: Vec<_> = signatures
        .iter()
        .map(|(header, bytes)| (Bytes::new(header), EmptyMap {}, Bytes::new(bytes)))
        .collect();
    codec::encode(&(Bytes::new(&[]), EmptyMap {}, Bytes::new(payload), signatures))
}

/// `{1: -19, 4: key id, 16: type}` in its one deterministic encoding (RFC 8949, 4.2).
fn protected_header(kind: DocumentType, key: &KeyId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_ROOM);
    out.extend_from_slice(&header_start());
    out.extend_from_slice(key.as_bytes());
    out.push(TYPE_LABEL);
    codec::encode_into(&mut out, &kind.name());
    out
}

fn header_start() -> [u8; 6] {
    // A map of three; 1: -19; 4: a byte string of 32 bytes.
    [0xa3, 0x01, 0x32, 0x04, 0x58, 0x20]
}

fn header_key(kind: DocumentType, header: &[u8]) -> Option<KeyId> {
    let rest = header.strip_prefix(&header_start())?;
    let (key, rest) = rest.split_at_checked(KeyId::LEN)?;
    let claimed = rest.strip_prefix(&[TYPE_LABEL])?;
    codec::is_encoding_of(claimed, &kind.name()).then(|| KeyId::try_from(key).ok())?
}

/// What a signature is bound to, as it is signed. It takes no memory: reports are verified by the thousand.
struct ExternalAad {
    room: [u8; AAD_ROOM],
    len: usize,
}

impl ExternalAad {
    fn of(binding: Binding<'_>) -> Self {
        let cluster = binding.cluster.filter(|_| !Bug::AnothersDocument.is_planted());
        let cluster = cluster.map_or("", ClusterId::as_str);
        let mut room = [0; AAD_ROOM];
        let parts = ("edgefleet/1", binding.kind.name(), binding.fleet.as_str(), cluster);
        let len = codec::encode_within(&mut room, &parts).expect("names have limits");
        Self { room, len }
    }

    fn bytes(&self) -> &[u8] {
        &self.room[..self.len]
    }
}

fn signature_structure_1(header: &[u8], aad: &[u8], payload: &[u8]) -> Vec<u8> {
    structure(payload, &("Signature1", Bytes::new(header), Bytes::new(aad), Bytes::new(payload)))
}

fn signature_structure(header: &[u8], aad: &[u8], payload: &[u8]) -> Vec<u8> {
    let [body_header, header, aad, content] = [&[], header, aad, payload].map(Bytes::new);
    structure(payload, &("Signature", body_header, header, aad, content))
}

/// What is signed, in room that is there at once: reports are verified by the thousand.
fn structure(payload: &[u8], parts: &impl Serialize) -> Vec<u8> {
    let mut out = Vec::with_capacity(payload.len() + STRUCTURE_ROOM);
    codec::encode_into(&mut out, parts);
    out
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn the_longest_names_are_bound_too() {
        let longest = "a".repeat(63);
        let (fleet, cluster) = (FleetId::new(&longest).unwrap(), ClusterId::new(&longest).unwrap());
        let key = SigningKey::from_seed(Zeroizing::new([7; 32]));
        for kind in DocumentType::ALL {
            let binding = Binding { kind, fleet: &fleet, cluster: Some(&cluster) };
            let envelope = sign_one(binding, b"payload", &key);
            let parsed = Envelope::parse_one(kind, &envelope).unwrap();
            let signed = parsed.open(binding, &[key.public()], 1).unwrap();
            assert_eq!(signed, (b"payload".as_slice(), vec![key.public().id()]));
            assert_eq!(payload_of_one(&envelope), Some(b"payload".as_slice()));
            assert!(parsed.open(Binding { cluster: None, ..binding }, &[key.public()], 1).is_none());
        }
    }
}
