//! Names and identifiers. Each is a newtype whose constructor checks it, so a value that exists is valid.

use std::{borrow::Cow, fmt, str::FromStr};

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};
use smol_str::SmolStr;

/// A name or identifier that breaks its rule.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{what} {value:?} is not valid: {rule}")]
pub struct IdError {
    /// What kind of identifier was being read, such as "cluster id".
    pub what: &'static str,
    /// The offending text, cut to 80 characters.
    pub value: String,
    /// The rule it breaks.
    pub rule: &'static str,
}

impl IdError {
    fn new(what: &'static str, value: &str, rule: &'static str) -> Self {
        Self { what, value: value.chars().take(80).collect(), rule }
    }
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $rule:literal, $valid:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Deserialize)]
        #[serde(try_from = "SmolStr")]
        pub struct $name(SmolStr);

        impl $name {
            /// Checks the rule and wraps the text.
            pub fn new(text: impl Into<SmolStr>) -> Result<Self, IdError> {
                let text = text.into();
                let valid: fn(&str) -> bool = $valid;
                if valid(&text) { Ok(Self(text)) } else { Err(IdError::new($what, &text, $rule)) }
            }

            /// The identifier as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_str(&self.0)
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<SmolStr> for $name {
            type Error = IdError;
            fn try_from(text: SmolStr) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl TryFrom<String> for $name {
            type Error = IdError;
            fn try_from(text: String) -> Result<Self, IdError> {
                Self::new(text)
            }
        }

        impl From<$name> for String {
            fn from(id: $name) -> String {
                id.0.into()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
    };
}

text_id!(
    /// One edge cluster. It is a topic segment and a certificate's common name, hence the narrow alphabet.
    ClusterId, "cluster id", "use 3 to 63 of a-z, 0-9 and '-'",
    |text| (3..=63).contains(&text.len()) && text.bytes().all(is_id_byte)
);

text_id!(
    /// One fleet: everything that trusts the same chain of roots. Bound into every signature.
    FleetId, "fleet id", "use 3 to 63 of a-z, 0-9 and '-'",
    |text| (3..=63).contains(&text.len()) && text.bytes().all(is_id_byte)
);

text_id!(
    /// One enrolment token: the public half of a join code, and a topic segment.
    TokenId, "token id", "use 8 to 32 of a-z and 0-9",
    |text| (8..=32).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit())
);

text_id!(
    /// A tenant, application or namespace name: an RFC 1123 label, as Kubernetes names namespaces.
    Name, "name", "use at most 63 of a-z, 0-9 and '-', starting and ending with a letter or digit (RFC 1123)",
    |text| {
        (1..=63).contains(&text.len())
            && text.bytes().all(is_id_byte)
            && !text.starts_with('-')
            && !text.ends_with('-')
    }
);

fn is_id_byte(byte: u8) -> bool {
    byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-'
}

/// One application of one tenant. The tenant is the hub's namespace the application lives in.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AppId {
    /// The administrative group that owns the application.
    pub tenant: Name,
    /// The application's name within its tenant.
    pub name: Name,
}

impl AppId {
    /// Builds an id from two texts, checking both.
    pub fn new(tenant: impl Into<SmolStr>, name: impl Into<SmolStr>) -> Result<Self, IdError> {
        Ok(Self { tenant: Name::new(tenant)?, name: Name::new(name)? })
    }
}

impl fmt::Display for AppId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.tenant, self.name)
    }
}

impl FromStr for AppId {
    type Err = IdError;
    fn from_str(text: &str) -> Result<Self, IdError> {
        let (tenant, name) = text
            .split_once('/')
            .ok_or_else(|| IdError::new("application", text, "write it as TENANT/NAME"))?;
        Self::new(tenant, name)
    }
}

macro_rules! byte_id {
    ($(#[$doc:meta])* $name:ident, $what:literal, $len:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name([u8; $len]);

        impl $name {
            /// Length in bytes.
            pub const LEN: usize = $len;

            /// Wraps the bytes.
            pub const fn new(bytes: [u8; $len]) -> Self {
                Self(bytes)
            }

            /// The raw bytes.
            pub const fn as_bytes(&self) -> &[u8; $len] {
                &self.0
            }
        }

        impl TryFrom<&[u8]> for $name {
            type Error = IdError;
            fn try_from(bytes: &[u8]) -> Result<Self, IdError> {
                let bytes = bytes.try_into().map_err(|_| {
                    IdError::new($what, &hex::encode(bytes), concat!("it must be ", $len, " bytes long"))
                })?;
                Ok(Self(bytes))
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&hex::encode(self.0))
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{}({self})", stringify!($name))
            }
        }

        impl FromStr for $name {
            type Err = IdError;
            fn from_str(text: &str) -> Result<Self, IdError> {
                let bytes = hex::decode(text)
                    .map_err(|_| IdError::new($what, text, "it must be written in hexadecimal"))?;
                Self::try_from(bytes.as_slice())
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.serialize_bytes(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                let bytes: Cow<'_, [u8]> = serde_bytes::deserialize(deserializer)?;
                Self::try_from(&*bytes).map_err(de::Error::custom)
            }
        }
    };
}

byte_id!(
    /// SHA-256 of some exact bytes (FIPS 180-4).
    Digest, "digest", 32
);
byte_id!(
    /// SHA-256 of a raw public key: always computed, never declared.
    KeyId, "key id", 32
);
byte_id!(
    /// A single-use challenge an agent makes for one connection and keeps in memory only.
    Nonce, "nonce", 16
);
byte_id!(
    /// One life of an agent's journal: a rebuilt journal gets a new one.
    JournalId, "journal id", 16
);
byte_id!(
    /// One life of a hub's store: a hub restored from a backup gets a new one.
    Incarnation, "incarnation", 16
);

impl Digest {
    /// The digest of `bytes`.
    pub fn of(bytes: &[u8]) -> Self {
        let mut out = [0; 32];
        out.copy_from_slice(ring::digest::digest(&ring::digest::SHA256, bytes).as_ref());
        Self(out)
    }

    /// The first 12 hexadecimal digits, for people.
    pub fn short(&self) -> String {
        hex::encode(&self.0[..6])
    }
}

/// A digest computed piece by piece.
#[derive(Clone)]
pub struct Hasher(ring::digest::Context);

impl Hasher {
    /// Starts with no bytes.
    pub fn new() -> Self {
        Self(ring::digest::Context::new(&ring::digest::SHA256))
    }

    /// Adds bytes.
    pub fn update(&mut self, bytes: &[u8]) {
        self.0.update(bytes);
    }

    /// The digest of everything added.
    pub fn finish(self) -> Digest {
        let mut out = [0; 32];
        out.copy_from_slice(self.0.finish().as_ref());
        Digest(out)
    }
}

impl Default for Hasher {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_follow_their_rules() {
        let cases: [(&str, bool, bool); 9] = [
            // text, cluster id, name
            ("tower-0123", true, true),
            ("-tower", true, false),
            ("ab", false, true),
            ("a", false, true),
            ("", false, false),
            ("Tower", false, false),
            ("tower/1", false, false),
            ("tower#", false, false),
            ("+++", false, false),
        ];
        for (text, cluster, name) in cases {
            assert_eq!(ClusterId::new(text).is_ok(), cluster, "cluster id {text:?}");
            assert_eq!(Name::new(text).is_ok(), name, "name {text:?}");
        }
        assert!(ClusterId::new("a".repeat(63)).is_ok());
        assert!(ClusterId::new("a".repeat(64)).is_err());
    }

    #[test]
    fn an_error_names_the_value_and_the_rule() {
        let error = ClusterId::new("Tower 1").unwrap_err().to_string();
        assert_eq!(error, "cluster id \"Tower 1\" is not valid: use 3 to 63 of a-z, 0-9 and '-'");
    }

    #[test]
    fn digests_read_back_from_their_text() {
        let digest = Digest::of(b"abc");
        assert_eq!(digest.to_string(), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
        assert_eq!(digest.to_string().parse::<Digest>().unwrap(), digest);
        assert!("ba78".parse::<Digest>().is_err());
    }
}
