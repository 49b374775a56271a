//! The text of a key file, in the manner of PEM (RFC 7468) with a few lines that say what the key is for.

use std::fmt::{self, Write};

use base64::{Engine, engine::general_purpose::STANDARD};
use protocol::{
    ids::{FleetId, IdError, KeyId},
    keys::{PublicKey, SigningKey},
};
use zeroize::Zeroizing;

/// Largest key file: several times what one takes.
pub(super) const KEY_FILE_BYTES: usize = 1024;

const PRIVATE: &str = "EDGEFLEET PRIVATE KEY";
const PUBLIC: &str = "EDGEFLEET PUBLIC KEY";

/// What a key is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyRole {
    /// Signs root documents.
    Root,
    /// Signs what each cluster shall run.
    Director,
    /// Signs releases.
    Release,
}

impl KeyRole {
    const ALL: [Self; 3] = [Self::Root, Self::Director, Self::Release];

    /// The role in one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Director => "director",
            Self::Release => "release",
        }
    }
}

impl fmt::Display for KeyRole {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

/// Text that is not the key it should be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ArmorError {
    /// Something else altogether.
    #[error("not a key file made by `edgefleet keys init`")]
    NotAKey,
    /// A public key where a private one is needed.
    #[error("holds a public key; the private one is in the file of the same name that ends in .key")]
    Public,
    /// A private key where a public one is needed.
    #[error("holds a private key; the public one is in the file of the same name that ends in .pub")]
    Private,
    /// A line is missing, doubled, unknown or not as it must be.
    #[error("the line {0:?} is missing or damaged")]
    Line(&'static str),
    /// The fleet it names cannot be one.
    #[error("it names no fleet")]
    Fleet(#[source] IdError),
    /// The key is another than the file says.
    #[error("the key in it is not the one its id names: the file is damaged")]
    Id,
}

/// The text of a private key's file.
pub(super) fn private(role: KeyRole, fleet: &FleetId, key: &SigningKey) -> Zeroizing<String> {
    text(PRIVATE, role, fleet, key.public().id(), key.seed().as_slice())
}

/// The text of a public key's file.
pub(super) fn public(role: KeyRole, fleet: &FleetId, key: &PublicKey) -> Zeroizing<String> {
    text(PUBLIC, role, fleet, key.id(), key.as_bytes())
}

/// Reads the text of a private key's file.
pub(super) fn parse_private(text: &str) -> Result<(KeyRole, FleetId, SigningKey), ArmorError> {
    if text.starts_with(&first_line(PUBLIC)) {
        return Err(ArmorError::Public);
    }
    let (role, fleet, id, seed) = parse(PRIVATE, text)?;
    let key = SigningKey::from_seed(seed);
    if key.public().id() == id { Ok((role, fleet, key)) } else { Err(ArmorError::Id) }
}

/// Reads the text of a public key's file.
pub(super) fn parse_public(text: &str) -> Result<(KeyRole, FleetId, PublicKey), ArmorError> {
    if text.starts_with(&first_line(PRIVATE)) {
        return Err(ArmorError::Private);
    }
    let (role, fleet, id, bytes) = parse(PUBLIC, text)?;
    let key = PublicKey::new(*bytes);
    if key.id() == id { Ok((role, fleet, key)) } else { Err(ArmorError::Id) }
}

fn first_line(label: &str) -> String {
    format!("-----BEGIN {label}-----")
}

fn text(label: &str, role: KeyRole, fleet: &FleetId, id: KeyId, bytes: &[u8]) -> Zeroizing<String> {
    // As large as it can get, so that no copy is left behind by growing.
    let mut out = Zeroizing::new(String::with_capacity(KEY_FILE_BYTES));
    let head = write!(out, "-----BEGIN {label}-----\nrole: {role}\nfleet: {fleet}\nid: {id}\n\n");
    head.expect("writing into a string does not fail");
    STANDARD.encode_string(bytes, &mut out);
    write!(out, "\n-----END {label}-----\n").expect("writing into a string does not fail");
    out
}

type Parsed = (KeyRole, FleetId, KeyId, Zeroizing<[u8; 32]>);

fn parse(label: &str, text: &str) -> Result<Parsed, ArmorError> {
    let body = text.strip_prefix(&first_line(label)).ok_or(ArmorError::NotAKey)?;
    let mut lines = body.trim_start_matches(['\r', '\n']).lines();
    let role = field(lines.next(), "role: ")?;
    let role =
        KeyRole::ALL.into_iter().find(|known| known.name() == role).ok_or(ArmorError::Line("role: "))?;
    let fleet = FleetId::new(field(lines.next(), "fleet: ")?).map_err(ArmorError::Fleet)?;
    let id = field(lines.next(), "id: ")?.parse().map_err(|_| ArmorError::Line("id: "))?;
    lines.next().filter(|line| line.is_empty()).ok_or(ArmorError::Line(""))?;
    let key = lines.next().and_then(decode).ok_or(ArmorError::Line("the key in base64"))?;
    let end = format!("-----END {label}-----");
    lines.next().filter(|line| *line == end).ok_or(ArmorError::Line("-----END"))?;
    if lines.next().is_some() { Err(ArmorError::NotAKey) } else { Ok((role, fleet, id, key)) }
}

fn field<'a>(line: Option<&'a str>, name: &'static str) -> Result<&'a str, ArmorError> {
    line.and_then(|line| line.strip_prefix(name)).ok_or(ArmorError::Line(name))
}

fn decode(line: &str) -> Option<Zeroizing<[u8; 32]>> {
    // base64 asks for a buffer as large as its estimate, one byte more than the key.
    let mut bytes = Zeroizing::new([0_u8; 33]);
    let len = STANDARD.decode_slice(line, bytes.as_mut_slice()).ok()?;
    let mut key = Zeroizing::new([0; 32]);
    key.copy_from_slice(bytes.get(..len).filter(|bytes| bytes.len() == 32)?);
    Some(key)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> SigningKey {
        SigningKey::from_seed(Zeroizing::new([7; 32]))
    }

    fn fleet() -> FleetId {
        FleetId::new("acme").unwrap()
    }

    #[test]
    fn a_key_file_says_what_it_is() {
        let id = key().public().id();
        let expected = format!(
            "-----BEGIN EDGEFLEET PRIVATE KEY-----\nrole: release\nfleet: acme\nid: {id}\n\n\
             BwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwcHBwc=\n-----END EDGEFLEET PRIVATE KEY-----\n"
        );
        let text = private(KeyRole::Release, &fleet(), &key());
        assert_eq!(*text, expected);
        let (role, named, found) = parse_private(&text.replace('\n', "\r\n")).unwrap();
        assert_eq!((role, named, found.public()), (KeyRole::Release, fleet(), key().public()));
    }

    #[test]
    fn damage_is_noticed() {
        let good = private(KeyRole::Release, &fleet(), &key());
        let cases = [
            ("role: release", "role: king", ArmorError::Line("role: ")),
            ("fleet: acme", "fleet acme", ArmorError::Line("fleet: ")),
            ("id: ", "id: 0", ArmorError::Line("id: ")),
            ("BwcH", "BwcI", ArmorError::Id),
            ("BwcH", "", ArmorError::Line("the key in base64")),
            ("-----END", "----END", ArmorError::Line("-----END")),
            ("-----BEGIN", "-----BEGUN", ArmorError::NotAKey),
            ("PRIVATE", "PUBLIC", ArmorError::Public),
        ];
        for (from, to, expected) in cases {
            assert_eq!(parse_private(&good.replacen(from, to, 1)).unwrap_err(), expected, "{from} to {to}");
        }
        assert_eq!(parse_private(&format!("{}more\n", *good)).unwrap_err(), ArmorError::NotAKey);
        assert_eq!(parse_public(&good).unwrap_err(), ArmorError::Private);
    }

    #[test]
    fn public_keys_come_back() {
        let text = public(KeyRole::Director, &fleet(), &key().public());
        assert_eq!(parse_public(&text).unwrap(), (KeyRole::Director, fleet(), key().public()));
        assert_eq!(parse_private(&text).unwrap_err(), ArmorError::Public);
    }
}
