//! CBOR (RFC 8949), and the only file that knows which crate encodes it.
//!
//! Structs are written as maps keyed by the fields' positions, so a new field is only ever added at the end
//! of its struct. Decoding is strict: named keys, unknown or doubled fields, and trailing bytes are errors.

use serde::{Deserialize, Deserializer, Serialize, de};
use std::{collections::BTreeMap, fmt, marker::PhantomData};

/// Bytes that do not decode to what was expected.
#[derive(Debug, thiserror::Error)]
#[error("{what} does not decode")]
pub struct DecodeError {
    /// What was being decoded.
    pub what: &'static str,
    /// Why and where.
    #[source]
    source: serde_cbor::Error,
}

/// Encodes a value. Every type of this crate encodes: none holds a map with odd keys or a failing serializer.
pub fn encode<T: Serialize>(value: &T) -> Vec<u8> {
    serde_cbor::ser::to_vec_packed(value).expect("protocol types encode into memory")
}

/// Decodes exactly one value from all of `bytes`.
pub fn decode<'a, T: Deserialize<'a>>(what: &'static str, bytes: &'a [u8]) -> Result<T, DecodeError> {
    let mut deserializer = serde_cbor::Deserializer::from_slice(bytes).disable_named_format();
    T::deserialize(&mut deserializer)
        .and_then(|value| deserializer.end().map(|()| value))
        .map_err(|source| DecodeError { what, source })
}

/// The empty map, and nothing else: what an unprotected header must be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EmptyMap;

impl Serialize for EmptyMap {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        BTreeMap::<u8, u8>::new().serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for EmptyMap {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = EmptyMap;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an empty map")
            }
            fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<EmptyMap, A::Error> {
                match map.next_key::<de::IgnoredAny>()? {
                    None => Ok(EmptyMap),
                    Some(_) => Err(de::Error::custom("the unprotected header must be empty")),
                }
            }
        }
        deserializer.deserialize_map(Visitor)
    }
}

/// For `#[serde(deserialize_with)]`: a map whose keys stand in it once. serde's own maps keep the last of two.
pub fn unique_map<'de, D, V>(deserializer: D) -> Result<BTreeMap<String, V>, D::Error>
where
    D: Deserializer<'de>,
    V: Deserialize<'de>,
{
    struct Visitor<V>(PhantomData<V>);
    impl<'de, V: Deserialize<'de>> de::Visitor<'de> for Visitor<V> {
        type Value = BTreeMap<String, V>;
        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a map with unique keys")
        }
        fn visit_map<A: de::MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut out = BTreeMap::new();
            while let Some((key, value)) = map.next_entry::<String, V>()? {
                if out.insert(key, value).is_some() {
                    return Err(de::Error::custom("a key stands twice in one map"));
                }
            }
            Ok(out)
        }
    }
    deserializer.deserialize_map(Visitor(PhantomData))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Pair {
        left: u8,
        #[serde(default, skip_serializing_if = "Option::is_none")]
        right: Option<u8>,
    }

    #[derive(Debug, PartialEq, Serialize, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Mapped {
        #[serde(deserialize_with = "unique_map")]
        map: BTreeMap<String, u8>,
    }

    #[test]
    fn structs_are_keyed_by_position() {
        let bytes = encode(&Pair { left: 7, right: Some(9) });
        assert_eq!(hex::encode(&bytes), "a200070109");
        assert_eq!(decode::<Pair>("pair", &bytes).unwrap(), Pair { left: 7, right: Some(9) });
    }

    #[test]
    fn decoding_is_strict() {
        let cases = [
            ("a100072a", "trailing byte"),
            ("a2000700", "short"),
            ("a200070008", "the same field twice"),
            ("a200070509", "an unknown field"),
            ("a1646c65667407", "a named field"),
            ("a0", "a missing field"),
            ("820709", "an array"),
            ("", "nothing"),
        ];
        for (bytes, why) in cases {
            assert!(decode::<Pair>("pair", &hex::decode(bytes).unwrap()).is_err(), "{why}");
        }
    }

    #[test]
    fn maps_refuse_a_doubled_key() {
        assert!(decode::<Mapped>("map", &hex::decode("a100a1616101").unwrap()).is_ok());
        assert!(decode::<Mapped>("map", &hex::decode("a100a2616101616102").unwrap()).is_err());
        assert!(decode::<EmptyMap>("header", &[0xa0]).is_ok());
        assert!(decode::<EmptyMap>("header", &hex::decode("a10102").unwrap()).is_err());
    }
}
