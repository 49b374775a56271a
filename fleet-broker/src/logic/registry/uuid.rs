//! Unique ids in their usual form, of which 16 bytes hold all.

use std::fmt;

/// A UUID; written as RFC 9562 has it, in lower case.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Uuid([u8; 16]);

impl Uuid {
    /// The first 16 bytes of a digest as a UUID of version 8 (RFC 9562: made in a way of its own).
    pub(super) fn of_digest(digest: &[u8]) -> Uuid {
        let mut bytes: [u8; 16] = digest[..16].try_into().expect("a SHA-256 digest has 32 bytes");
        bytes[6] = bytes[6] & 0x0f | 0x80;
        bytes[8] = bytes[8] & 0x3f | 0x80;
        Uuid(bytes)
    }

    /// Reads one; none if it is not as it is written here, to the letter.
    pub(super) fn read(text: &str) -> Option<Uuid> {
        let mut bytes = [0; 16];
        hex::decode_to_slice(text.replace('-', ""), &mut bytes).ok()?;
        Some(Uuid(bytes)).filter(|uuid| uuid.to_string() == text)
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let hex = hex::encode(self.0);
        write!(f, "{}-{}-{}-{}-{}", &hex[..8], &hex[8..12], &hex[12..16], &hex[16..20], &hex[20..])
    }
}

/// A unique id in whatever form it came.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Uid<'a> {
    Usual(Uuid),
    Other(&'a str),
}

impl<'a> From<&'a str> for Uid<'a> {
    fn from(text: &'a str) -> Uid<'a> {
        Uuid::read(text).map_or(Uid::Other(text), Uid::Usual)
    }
}

impl fmt::Display for Uid<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Uid::Usual(uuid) => uuid.fmt(f),
            Uid::Other(text) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_is_written_to_the_letter() {
        let usual = "11111111-2222-4333-8444-55555555abcd";
        assert!(matches!(Uid::from(usual), Uid::Usual(_)));
        assert_eq!(Uid::from(usual).to_string(), usual);
        for other in [
            "",
            "uid-tower-a",
            "11111111-2222-4333-8444-55555555ABCD",
            "11111111222243338444-55555555abcd",
            "1111111122224333844455555555abcd",
            "11111111-2222-4333-8444-55555555abcd-",
            "11111111-2222-4333-8444-55555555abcg",
            "11111111-2222-4333-8444-55555555abcdef",
        ] {
            assert_eq!(Uid::from(other), Uid::Other(other));
            assert_eq!(Uid::from(other).to_string(), other);
        }
    }
}
