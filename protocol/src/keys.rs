//! Ed25519 keys (RFC 8032), by `ring`.

use std::fmt;

use ring::signature::{ED25519, Ed25519KeyPair, KeyPair, UnparsedPublicKey};
use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use zeroize::Zeroizing;

use crate::ids::{Digest, KeyId};

/// Length of an Ed25519 signature in bytes.
pub const SIGNATURE_BYTES: usize = 64;

/// The public half of a key pair.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct PublicKey([u8; 32]);

impl PublicKey {
    /// Wraps the raw 32 bytes.
    pub const fn new(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// The raw bytes.
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The key's id: the digest of its raw bytes.
    pub fn id(&self) -> KeyId {
        KeyId::new(*Digest::of(&self.0).as_bytes())
    }

    /// Whether `signature` over `message` was made by this key's private half. For a key of low order, which
    /// has none, it never was: such a key would verify signatures that anybody can make.
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        !self.has_low_order() && UnparsedPublicKey::new(&ED25519, &self.0).verify(message, signature).is_ok()
    }
}

impl PublicKey {
    fn has_low_order(&self) -> bool {
        let mut y = self.0;
        y[31] &= 0x7f; // The top bit is the sign of x.
        LOW_ORDER.contains(&y)
    }
}

/// The y coordinates of the points of Edwards25519 whose order divides 8, in every spelling that decodes.
const LOW_ORDER: [[u8; 32]; 7] = [
    y_near_zero(0),
    y_near_zero(1),
    [
        0x26, 0xe8, 0x95, 0x8f, 0xc2, 0xb2, 0x27, 0xb0, 0x45, 0xc3, 0xf4, 0x89, 0xf2, 0xef, 0x98, 0xf0, 0xd5,
        0xdf, 0xac, 0x05, 0xd3, 0xc6, 0x33, 0x39, 0xb1, 0x38, 0x02, 0x88, 0x6d, 0x53, 0xfc, 0x05,
    ],
    [
        0xc7, 0x17, 0x6a, 0x70, 0x3d, 0x4d, 0xd8, 0x4f, 0xba, 0x3c, 0x0b, 0x76, 0x0d, 0x10, 0x67, 0x0f, 0x2a,
        0x20, 0x53, 0xfa, 0x2c, 0x39, 0xcc, 0xc6, 0x4e, 0xc7, 0xfd, 0x77, 0x92, 0xac, 0x03, 0x7a,
    ],
    y_near_prime(0xec),
    y_near_prime(0xed),
    y_near_prime(0xee),
];

const fn y_near_zero(lowest: u8) -> [u8; 32] {
    let mut y = [0; 32];
    y[0] = lowest;
    y
}

/// The prime 2^255 - 19 ends in 0xed, the lowest byte here.
const fn y_near_prime(lowest: u8) -> [u8; 32] {
    let mut y = [0xff; 32];
    y[0] = lowest;
    y[31] = 0x7f;
    y
}

impl fmt::Display for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&hex::encode(self.0))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({self})")
    }
}

impl Serialize for PublicKey {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_bytes(&self.0)
    }
}

impl<'de> Deserialize<'de> for PublicKey {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes = serde_bytes::ByteBuf::deserialize(deserializer)?;
        let bytes = <[u8; 32]>::try_from(bytes.as_slice())
            .map_err(|_| de::Error::custom("a public key must be 32 bytes long"))?;
        Ok(Self(bytes))
    }
}

/// A private key. Its seed is wiped from memory when it is dropped, and it never prints.
pub struct SigningKey {
    pair: Ed25519KeyPair,
    seed: Zeroizing<[u8; 32]>,
}

impl SigningKey {
    /// The key that grows from 32 secret, uniformly random bytes.
    pub fn from_seed(seed: Zeroizing<[u8; 32]>) -> Self {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed.as_slice()).expect("a seed of 32 bytes is a key");
        Self { pair, seed }
    }

    /// The secret seed, to be kept in a file with mode 0600.
    pub fn seed(&self) -> &Zeroizing<[u8; 32]> {
        &self.seed
    }

    /// The public half.
    pub fn public(&self) -> PublicKey {
        let mut bytes = [0; 32];
        bytes.copy_from_slice(self.pair.public_key().as_ref());
        PublicKey(bytes)
    }

    /// Signs `message`.
    pub fn sign(&self, message: &[u8]) -> [u8; SIGNATURE_BYTES] {
        let mut out = [0; SIGNATURE_BYTES];
        out.copy_from_slice(self.pair.sign(message).as_ref());
        out
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SigningKey({})", self.public().id())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_vector_of_rfc_8032() {
        let bytes = |text| hex::decode(text).unwrap();
        let seed = bytes("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = SigningKey::from_seed(Zeroizing::new(seed.try_into().unwrap()));
        let public = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a";
        assert_eq!(key.public().to_string(), public);
        let signature = bytes(
            "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
        );
        assert_eq!(key.sign(b"").as_slice(), signature);
        assert!(key.public().verifies(b"", &signature) && !key.public().verifies(b"x", &signature));
        assert_eq!(format!("{key:?}"), format!("SigningKey({})", key.public().id()), "no seed in it");
    }

    #[test]
    fn a_key_of_low_order_verifies_nothing() {
        let signs = [0x00, 0x80];
        let points = || LOW_ORDER.into_iter().flat_map(move |y| signs.map(|sign| with_sign(y, sign)));
        for key in points() {
            // A signature that needs no private key: s is zero and R a multiple of the key, for one message
            // in eight at worst.
            let mut forgeries = 0;
            for (r, message) in points().flat_map(|r| (0..64_u8).map(move |message| (r, [message]))) {
                let signature = [r, [0; 32]].concat();
                let works = UnparsedPublicKey::new(&ED25519, key).verify(&message, &signature).is_ok();
                forgeries += u32::from(works);
                assert!(!PublicKey::new(key).verifies(&message, &signature), "{key:02x?}");
            }
            assert!(forgeries > 0, "no forgery works, even without the check: {key:02x?}");
        }
    }

    fn with_sign(mut y: [u8; 32], sign: u8) -> [u8; 32] {
        y[31] |= sign;
        y
    }
}
