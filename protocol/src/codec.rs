//! CBOR (RFC 8949), and the only file that knows which crate encodes it.
//!
//! Structs are written as maps keyed by the fields' positions. A value has one encoding, and only that one
//! decodes: other spellings (tags, indefinite or longer lengths, names or arrays for structs, text for bytes,
//! another order, doubled keys) are errors, so nobody can turn signed bytes into others that verify as well.
//! A field is therefore only ever added at the end of its struct, as an `Option` that is left out when `None`.

mod decoder;

use std::io;

use serde::{Deserialize, Serialize, de::Error as _};
use serde_cbor::ser::{IoWrite, Serializer};

pub use self::decoder::Walk;
use self::decoder::{Decoder, Malformed};

/// Bytes that do not decode to what was expected.
#[derive(Debug, thiserror::Error)]
#[error("{what} does not decode")]
pub struct DecodeError {
    /// What was being decoded.
    pub what: &'static str,
    /// Why and where.
    #[source]
    source: Malformed,
}

/// Room for most of what is encoded: to grow into it byte by byte would take longer than to encode it.
const ROOM: usize = 1024;

/// Encodes a value. Every type of this crate encodes: none holds a map with odd keys or a failing serializer. Whoever
/// keeps the bytes for long puts them into a box: the vector has room left.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(ROOM);
    encode_into(&mut bytes, value);
    bytes
}

/// Encodes a value behind what is there.
pub fn encode_into<T: Serialize>(bytes: &mut Vec<u8>, value: &T) {
    let written = value.serialize(&mut Serializer::new(&mut IoWrite::new(bytes)).packed_format());
    written.expect("protocol types encode into memory");
}

/// Encodes a value into room that is there. Says how much of it that took; none if it is too little.
pub(crate) fn encode_within<T: Serialize>(room: &mut [u8], value: &T) -> Option<usize> {
    let (whole, mut rest) = (room.len(), room);
    value.serialize(&mut Serializer::new(&mut IoWrite::new(&mut rest)).packed_format()).ok()?;
    Some(whole - rest.len())
}

/// Decodes exactly one value from all of `bytes`, which must be what [`encode`] makes of it.
pub fn decode<'a, T>(what: &'static str, bytes: &'a [u8]) -> Result<T, DecodeError>
where
    T: Deserialize<'a> + Serialize,
{
    T::deserialize(&mut Decoder::new(bytes))
        .and_then(|value| if is_encoding_of(bytes, &value) { Ok(value) } else { Err(spelled_otherwise()) })
        .map_err(|source| DecodeError { what, source })
}

fn spelled_otherwise() -> Malformed {
    Malformed::custom("the value is not in its one encoding, or bytes follow it")
}

/// Whether these bytes are what [`encode`] makes of a value. It is not encoded for that.
pub(crate) fn is_encoding_of<T: Serialize>(bytes: &[u8], value: &T) -> bool {
    let mut rest = Expected(bytes);
    let written = value.serialize(&mut Serializer::new(&mut IoWrite::new(&mut rest)).packed_format());
    written.is_ok() && rest.0.is_empty()
}

/// Compares what is written with what is expected, so that no copy of a decoded secret is ever made.
struct Expected<'a>(&'a [u8]);

impl io::Write for Expected<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.write_all(bytes)?;
        Ok(bytes.len())
    }

    #[inline]
    fn write_all(&mut self, bytes: &[u8]) -> io::Result<()> {
        let rest = match (bytes, self.0) {
            // Most of what is written is one byte, a head or a field's number: not worth a call of `memcmp`.
            ([byte], [first, rest @ ..]) if byte == first => Some(rest),
            ([_], _) => None,
            (bytes, expected) => expected.strip_prefix(bytes),
        };
        self.0 = rest.ok_or(io::ErrorKind::InvalidData)?;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// The empty map, and nothing else: what an unprotected header must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EmptyMap {}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;
    use serde_bytes::{ByteBuf, Bytes};

    use super::*;

    const TRUE: u8 = 0xf5;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        left: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        right: Option<u8>,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        last: Option<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    enum Choice {
        Plain,
        Range { least: i8 },
    }

    fn check<'a, T: Deserialize<'a> + Serialize>(bytes: &'a [u8], decodes: bool, why: &str) {
        assert_eq!(decode::<T>("test", bytes).is_ok(), decodes, "{why}: {}", hex::encode(bytes));
    }

    fn check_hex<T: for<'a> Deserialize<'a> + Serialize>(cases: &[(&str, bool, &str)]) {
        for (text, decodes, why) in cases {
            check::<T>(&hex::decode(text).unwrap(), *decodes, why);
        }
    }

    #[test]
    fn structs_are_keyed_by_position() {
        for (pair, expected) in [
            (Pair { left: 7, right: Some(9), last: None }, "a200070109"),
            (Pair { left: 7, right: None, last: Some(9) }, "a200070209"),
            (Pair { left: 7, right: None, last: None }, "a10007"),
        ] {
            let bytes = encode(&pair);
            assert_eq!(hex::encode(&bytes), expected);
            assert_eq!(decode::<Pair>("pair", &bytes).unwrap(), pair);
        }
    }

    #[test]
    fn a_value_has_one_encoding() {
        check_hex::<Pair>(&[
            ("a10007", true, "the encoding"),
            ("a100072a", false, "trailing byte"),
            ("a2000700", false, "short"),
            ("a200070008", false, "the same field twice"),
            ("a200070509", false, "an unknown field"),
            ("a1646c65667407", false, "a named field"),
            ("a0", false, "a missing field"),
            ("820709", false, "an array"),
            ("", false, "nothing"),
            ("a201090007", false, "fields in another order"),
            ("bf0007ff", false, "an indefinite map"),
            ("a1001807", false, "a long integer"),
            ("a1180007", false, "a long key"),
            ("b8010007", false, "a long length"),
            ("a2000701f6", false, "null for an absent field"),
            ("c1a10007", false, "a tagged map"),
            ("a100c107", false, "a tagged integer"),
            ("a100f94700", false, "a float for an integer"),
        ]);
        check_hex::<String>(&[
            ("6161", true, "text"),
            ("4161", false, "bytes for text"),
            ("7f6161ff", false, "indefinite text"),
            ("61ff", false, "not UTF-8"),
        ]);
        check_hex::<Vec<u8>>(&[
            ("820102", true, "a list"),
            ("9f0102ff", false, "an indefinite list"),
            ("9b0fffffffffffffff01", false, "a huge declared length"),
            ("9bffffffffffffffff01", false, "the greatest declared length"),
        ]);
        check_hex::<BTreeMap<String, u8>>(&[
            ("a2616101616202", true, "a map"),
            ("a2616101616102", false, "the same key twice"),
            ("a2616202616101", false, "keys in another order"),
        ]);
        check_hex::<Choice>(&[
            ("00", true, "a variant"),
            ("65506c61696e", false, "a named variant"),
            ("8100", false, "a variant in an array"),
        ]);
        check_hex::<EmptyMap>(&[("a0", true, "empty"), ("a10102", false, "filled"), ("80", false, "a list")]);
    }

    #[test]
    fn bytes_are_not_text_nor_longer_than_the_input() {
        check::<&Bytes>(&[0x41, 0x61], true, "bytes");
        check::<&Bytes>(&[0x61, 0x61], false, "text for bytes");
        check::<&Bytes>(&[0x60], false, "empty text for bytes");
        check::<&Bytes>(&[0x5f, 0x41, 0x61, 0xff], false, "indefinite bytes");
        check::<&Bytes>(&[0x5a, 0xff, 0xff, 0xff, 0xff, 0x61], false, "4 GiB declared");
        check::<&Bytes>(&[[0x5b].as_slice(), &[0xff; 8]].concat(), false, "16 EiB declared");
    }

    #[test]
    fn nesting_is_bounded() {
        for (byte, why) in [(0x81, "arrays"), (0xa1, "maps"), (0xc1, "tags"), (0x9f, "indefinite arrays")] {
            let bomb = vec![byte; 100_000];
            check::<Vec<u8>>(&bomb, false, why);
            check::<Pair>(&bomb, false, why);
            check::<EmptyMap>(&bomb, false, why);
        }
    }

    #[test]
    fn variants_with_fields_read_back() {
        let choice = Choice::Range { least: -3 };
        assert_eq!(decode::<Choice>("choice", &encode(&choice)).unwrap(), choice);
        assert_eq!(hex::encode(encode(&choice)), "a101a10022");
    }

    /// Everything that documents are made of.
    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Everything {
        natural: u64,
        integer: i32,
        flag: bool,
        text: String,
        bytes: ByteBuf,
        list: Vec<(u8, Option<bool>)>,
        map: BTreeMap<String, u16>,
        kind: Kind,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        nested: Option<Empty>,
    }

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    struct Empty {}

    #[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
    enum Kind {
        Unit,
        Newtype(u32),
        Tuple(u8, String),
        Struct { least: i64 },
    }

    fn everything() -> impl Strategy<Value = Everything> {
        let kind = prop_oneof![
            Just(Kind::Unit),
            any::<u32>().prop_map(Kind::Newtype),
            any::<(u8, String)>().prop_map(|(number, text)| Kind::Tuple(number, text)),
            any::<i64>().prop_map(|least| Kind::Struct { least }),
        ];
        let scalars = any::<(u64, i32, bool, String, Vec<u8>)>();
        let collections = any::<(Vec<(u8, Option<bool>)>, BTreeMap<String, u16>, bool)>();
        (scalars, collections, kind).prop_map(|(scalars, collections, kind)| {
            let (natural, integer, flag, text, bytes) = scalars;
            let (list, map, nested) = collections;
            let (bytes, nested) = (ByteBuf::from(bytes), nested.then_some(Empty {}));
            Everything { natural, integer, flag, text, bytes, list, map, kind, nested }
        })
    }

    /// Two decoders that share no code agree on what is the one encoding of something.
    fn check_agreement(bytes: &[u8]) {
        let other: Option<Everything> = serde_cbor::from_slice(bytes).ok();
        let other = other.filter(|value| encode(value) == bytes);
        assert_eq!(decode("test", bytes).ok(), other, "{}", hex::encode(bytes));
    }

    #[test]
    fn what_is_cut_short_is_not_walked_through() {
        for (bytes, why) in [
            ("", "nothing"),
            ("8200", "an item is missing"),
            ("a100", "a value is missing"),
            ("9f00ff", "indefinite"),
            ("9bffffffffffffffff00", "the greatest declared length"),
            ("bbffffffffffffffff00", "the greatest declared length"),
            ("7bffffffffffffffff00", "the greatest declared length"),
            ("829bffffffffffffffff00", "the greatest declared length within"),
            ("8162ff", "short text"),
            ("19ff", "a short number"),
            ("c1", "a tag of nothing"),
        ] {
            assert_eq!(Walk::new(&hex::decode(bytes).unwrap()).item(), None, "{why}");
        }
        assert_eq!(Walk::new(&[0x81; 100_000]).item(), None, "arrays without end");
        let mut walk = Walk::new(&[0x82, 0x07, 0xf5]);
        assert_eq!((walk.map(), walk.number(), walk.array()), (None, None, Some(2)));
        assert_eq!((walk.array(), walk.number(), walk.item()), (None, Some(7), Some([TRUE].as_slice())));
        assert_eq!(walk.item(), None);
    }

    proptest! {
        #[test]
        fn items_are_walked_through_as_they_are_encoded(value in everything()) {
            let bytes = encode(&value);
            let mut walk = Walk::new(&bytes);
            let fields = walk.map().unwrap();
            prop_assert_eq!(fields, 8 + u64::from(value.nested.is_some()));
            for position in 0..fields {
                prop_assert_eq!(walk.number(), Some(position));
                let expected = match position {
                    0 => encode(&value.natural),
                    1 => encode(&value.integer),
                    2 => encode(&value.flag),
                    3 => encode(&value.text),
                    4 => encode(&value.bytes),
                    5 => encode(&value.list),
                    6 => encode(&value.map),
                    7 => encode(&value.kind),
                    _ => encode(&value.nested),
                };
                prop_assert_eq!(walk.item(), Some(expected.as_slice()));
            }
            prop_assert_eq!(walk.item(), None);
        }

        #[test]
        fn reads_what_another_decoder_reads(value in everything()) {
            let bytes = encode(&value);
            check_agreement(&bytes);
            prop_assert_eq!(decode::<Everything>("test", &bytes).unwrap(), value);
        }

        #[test]
        fn refuses_what_another_decoder_refuses(
            value in everything(),
            at in any::<prop::sample::Index>(),
            new in any::<u8>(),
            cut in any::<prop::sample::Index>(),
        ) {
            let bytes = encode(&value);
            check_agreement(&bytes[..cut.index(bytes.len())]);
            let mut altered = bytes;
            let at = at.index(altered.len());
            altered[at] = new;
            check_agreement(&altered);
        }
    }
}
