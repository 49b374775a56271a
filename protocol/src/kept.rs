//! Documents that are kept for long, and sent again as they were signed.

use std::ops::Deref;

use crate::{
    codec,
    cose::{self, Envelope},
    documents::Document,
    keys::SIGNATURE_BYTES,
    verify::Verified,
};

/// A document that one key signed, and its envelope. What was signed has one encoding, so of the envelope only the
/// signature is kept: thousands of documents take half the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kept<T> {
    document: Verified<T>,
    signature: [u8; SIGNATURE_BYTES],
}

impl<T: Document> Kept<T> {
    /// Keeps a document that was verified in this envelope; none if the envelope is not one of a single signature.
    pub fn new(document: Verified<T>, envelope: &[u8]) -> Option<Self> {
        let parsed = Envelope::parse_one(T::TYPE, envelope).ok()?;
        let kept = Self { document, signature: parsed.first_signature().try_into().ok()? };
        debug_assert_eq!(kept.envelope(), envelope, "a document was kept with another one's envelope");
        Some(kept)
    }

    /// The envelope, to the byte.
    pub fn envelope(&self) -> Vec<u8> {
        let signer = self.document.signers().first().expect("what is verified was signed");
        cose::reassemble_one(T::TYPE, &codec::encode(&*self.document), signer, &self.signature)
    }
}

impl<T> Deref for Kept<T> {
    type Target = Verified<T>;
    fn deref(&self) -> &Verified<T> {
        &self.document
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::{
        cose::Binding,
        documents::{DocumentType, Encoding, Want},
        ids::{ClusterId, Digest, FleetId},
        keys::SigningKey,
        verify,
    };

    #[test]
    fn an_envelope_comes_back_to_the_byte() {
        let (fleet, cluster) = (FleetId::new("north").unwrap(), ClusterId::new("tower-1").unwrap());
        let key = SigningKey::from_seed(Zeroizing::new([7; 32]));
        let binding = Binding { kind: DocumentType::Want, fleet: &fleet, cluster: Some(&cluster) };
        for offset in [0, 23, 24, u64::MAX] {
            let want = Want {
                cluster: cluster.clone(),
                target: Digest::of(b"content"),
                encoding: Encoding::Plain,
                base: None,
                offset,
            };
            let envelope = cose::sign_one(binding, &codec::encode(&want), &key);
            let verified = verify::by_cluster(&fleet, &cluster, &key.public(), &envelope).unwrap();
            let kept: Kept<Want> = Kept::new(verified, &envelope).unwrap();
            assert_eq!((kept.envelope(), kept.offset), (envelope, offset));
        }
    }
}
