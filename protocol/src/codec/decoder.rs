//! Reads CBOR for types that know what they expect. It takes no more than `decode` needs, which compares what was
//! read with its one encoding: lengths in front, no tags, no floats.
//!
//! A type asks for one kind of item at a time, so the code for it is a few instructions. A decoder that looks what
//! comes and tells the type has all kinds for every type: 450 KB of the agent. Nothing is read that was not asked
//! for, so nesting is as deep as the type and no deeper.

use std::fmt::Display;

use serde::de::{self, DeserializeSeed, IntoDeserializer as _, Visitor};

/// Why bytes do not decode. It is as small as it can be, for every step hands it on or a result.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Malformed(Box<Problem>);

#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct Problem(String);

impl de::Error for Malformed {
    fn custom<T: Display>(message: T) -> Self {
        Self(Box::new(Problem(message.to_string())))
    }
}

/// Kinds of items: the three upper bits of their first byte (RFC 8949, 3.1).
const UNSIGNED: u8 = 0;
const NEGATIVE: u8 = 1;
const BYTES: u8 = 2;
const TEXT: u8 = 3;
const ARRAY: u8 = 4;
const MAP: u8 = 5;
const TAG: u8 = 6;

/// Whole items: simple values are their first byte.
const FALSE: u8 = 0xf4;
const TRUE: u8 = 0xf5;
const NULL: u8 = 0xf6;

/// How an item begins.
struct Head<'de> {
    kind: u8,
    number: u64,
    /// What follows it.
    rest: &'de [u8],
}

/// Reads the head of an item; none if there is no whole one. Most numbers stand in the first byte.
#[inline]
fn head(bytes: &[u8]) -> Option<Head<'_>> {
    let (first, rest) = bytes.split_first()?;
    let (kind, number) = (first >> 5, first & 0x1f);
    match number {
        0..24 => Some(Head { kind, number: u64::from(number), rest }),
        24..28 => {
            let (more, rest) = rest.split_at_checked(1 << (number - 24))?;
            let number = more.iter().fold(0, |number, byte| number << 8 | u64::from(*byte));
            Some(Head { kind, number, rest })
        }
        _ => None,
    }
}

/// Goes through what is encoded without decoding it, to find where parts of it stand. Nothing is where bytes are not
/// what was asked for.
#[derive(Debug)]
pub struct Walk<'a> {
    rest: &'a [u8],
}

impl<'a> Walk<'a> {
    /// At the first of these bytes.
    pub fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// Enters a map, or a struct: says how many entries follow, each a key and a value.
    pub fn map(&mut self) -> Option<u64> {
        self.enter(MAP)
    }

    /// Enters an array: says how many items follow.
    pub fn array(&mut self) -> Option<u64> {
        self.enter(ARRAY)
    }

    /// Takes a natural number, such as the position of a struct's field.
    pub fn number(&mut self) -> Option<u64> {
        self.enter(UNSIGNED)
    }

    /// Takes a byte string.
    pub(crate) fn bytes(&mut self) -> Option<&'a [u8]> {
        let len = self.enter(BYTES)?;
        let (bytes, rest) = self.rest.split_at_checked(usize::try_from(len).ok()?)?;
        self.rest = rest;
        Some(bytes)
    }

    /// Takes an item with all that is in it, as it is encoded.
    pub fn item(&mut self) -> Option<&'a [u8]> {
        let (mut rest, mut left) = (self.rest, 1_u64);
        // Each of those that are left takes a byte at least.
        while left > 0 {
            let head = head(rest)?;
            rest = head.rest;
            left -= 1;
            match head.kind {
                BYTES | TEXT => rest = rest.get(usize::try_from(head.number).ok()?..)?,
                ARRAY => left = left.saturating_add(head.number),
                MAP => left = left.saturating_add(head.number.saturating_mul(2)),
                TAG => left += 1,
                // A number, or a simple value: the head is all of it.
                _ => {}
            }
        }
        let item = &self.rest[..self.rest.len() - rest.len()];
        self.rest = rest;
        Some(item)
    }

    fn enter(&mut self, kind: u8) -> Option<u64> {
        let head = head(self.rest).filter(|head| head.kind == kind)?;
        self.rest = head.rest;
        Some(head.number)
    }
}

/// What has not been read yet.
pub(super) struct Decoder<'de> {
    rest: &'de [u8],
}

impl<'de> Decoder<'de> {
    pub(super) fn new(bytes: &'de [u8]) -> Self {
        Self { rest: bytes }
    }

    fn peek(&self) -> Result<u8, Malformed> {
        self.rest.first().copied().ok_or_else(ends_early)
    }

    fn take(&mut self, count: u64) -> Result<&'de [u8], Malformed> {
        let count = usize::try_from(count).ok().and_then(|count| self.rest.split_at_checked(count));
        let (taken, rest) = count.ok_or_else(ends_early)?;
        self.rest = rest;
        Ok(taken)
    }

    fn head(&mut self) -> Result<(u8, u64), Malformed> {
        let head = head(self.rest).ok_or_else(|| no_head(self.rest))?;
        self.rest = head.rest;
        Ok((head.kind, head.number))
    }

    fn expect(&mut self, expected: u8) -> Result<u64, Malformed> {
        match self.head()? {
            (kind, number) if kind == expected => Ok(number),
            (kind, _) => Err(unexpected(expected, kind)),
        }
    }

    fn text(&mut self) -> Result<&'de str, Malformed> {
        let len = self.expect(TEXT)?;
        std::str::from_utf8(self.take(len)?).map_err(|_| problem("text is not UTF-8"))
    }

    fn integer<V: Visitor<'de>>(&mut self, visitor: V) -> Result<V::Value, Malformed> {
        match self.head()? {
            (UNSIGNED, number) => visitor.visit_u64(number),
            (NEGATIVE, number) => match i64::try_from(number) {
                Ok(number) => visitor.visit_i64(-1 - number),
                Err(_) => Err(problem("a number is too small")),
            },
            (kind, _) => Err(problem(&format!("expected a number, found CBOR of major type {kind}"))),
        }
    }
}

#[cold]
fn problem(text: &str) -> Malformed {
    de::Error::custom(text)
}

#[cold]
fn no_head(bytes: &[u8]) -> Malformed {
    match bytes.first() {
        Some(first) if first & 0x1f > 27 => problem("a length is missing"),
        Some(_) | None => ends_early(),
    }
}

#[cold]
fn ends_early() -> Malformed {
    problem("the bytes end too early")
}

#[cold]
fn unexpected(expected: u8, found: u8) -> Malformed {
    problem(&format!("expected CBOR of major type {expected}, found {found}"))
}

/// Methods that read an integer, whose type checks its range.
macro_rules! integers {
    ($($method:ident)*) => {
        $(fn $method<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
            self.integer(visitor)
        })*
    };
}

impl<'de> de::Deserializer<'de> for &mut Decoder<'de> {
    type Error = Malformed;

    integers! {
        deserialize_u8 deserialize_u16 deserialize_u32 deserialize_u64
        deserialize_i8 deserialize_i16 deserialize_i32 deserialize_i64
    }

    fn deserialize_bool<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        match self.take(1)? {
            [FALSE] => visitor.visit_bool(false),
            [TRUE] => visitor.visit_bool(true),
            _ => Err(problem("expected true or false")),
        }
    }

    fn deserialize_str<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        visitor.visit_borrowed_str(self.text()?)
    }

    fn deserialize_string<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.deserialize_str(visitor)
    }

    fn deserialize_bytes<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        let len = self.expect(BYTES)?;
        visitor.visit_borrowed_bytes(self.take(len)?)
    }

    fn deserialize_byte_buf<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        self.deserialize_bytes(visitor)
    }

    fn deserialize_option<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        if self.peek()? == NULL {
            self.take(1)?;
            return visitor.visit_none();
        }
        visitor.visit_some(self)
    }

    fn deserialize_newtype_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        visitor.visit_newtype_struct(self)
    }

    fn deserialize_seq<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        let mut items = Items { left: self.expect(ARRAY)?, decoder: self };
        let value = visitor.visit_seq(&mut items)?;
        items.end()?;
        Ok(value)
    }

    fn deserialize_tuple<V: Visitor<'de>>(self, _: usize, visitor: V) -> Result<V::Value, Malformed> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_tuple_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: usize,
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        self.deserialize_seq(visitor)
    }

    fn deserialize_map<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        let mut items = Items { left: self.expect(MAP)?, decoder: self };
        let value = visitor.visit_map(&mut items)?;
        items.end()?;
        Ok(value)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        self.deserialize_map(visitor)
    }

    /// A variant without content is its number; others are a map of one entry.
    fn deserialize_enum<V: Visitor<'de>>(
        self,
        _: &'static str,
        _: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        match self.head()? {
            (UNSIGNED, number) => {
                visitor.visit_enum(u32::try_from(number).unwrap_or(u32::MAX).into_deserializer())
            }
            (MAP, 1) => visitor.visit_enum(Variant { decoder: self }),
            (kind, _) => Err(problem(&format!("expected a variant, found CBOR of major type {kind}"))),
        }
    }

    /// Fields are numbers, variants with content have names.
    fn deserialize_identifier<V: Visitor<'de>>(self, visitor: V) -> Result<V::Value, Malformed> {
        if self.peek()? >> 5 == TEXT {
            return visitor.visit_borrowed_str(self.text()?);
        }
        visitor.visit_u64(self.expect(UNSIGNED)?)
    }

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Malformed> {
        Err(problem("the type does not say what it expects"))
    }

    serde::forward_to_deserialize_any! { f32 f64 char unit unit_struct ignored_any }

    fn is_human_readable(&self) -> bool {
        false
    }
}

/// What is left of an array, or of a map.
struct Items<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
    left: u64,
}

impl Items<'_, '_> {
    fn next(&mut self) -> bool {
        let more = self.left > 0;
        self.left = self.left.saturating_sub(1);
        more
    }

    fn end(&self) -> Result<(), Malformed> {
        if self.left == 0 { Ok(()) } else { Err(problem("there are more items than expected")) }
    }
}

impl<'de> de::SeqAccess<'de> for &mut Items<'_, 'de> {
    type Error = Malformed;

    fn next_element_seed<T: DeserializeSeed<'de>>(&mut self, seed: T) -> Result<Option<T::Value>, Malformed> {
        if self.next() { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }

    /// For who takes memory for them: each is a byte at least, whatever was declared.
    fn size_hint(&self) -> Option<usize> {
        usize::try_from(self.left).ok().map(|left| left.min(self.decoder.rest.len()))
    }
}

impl<'de> de::MapAccess<'de> for &mut Items<'_, 'de> {
    type Error = Malformed;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, Malformed> {
        if self.next() { seed.deserialize(&mut *self.decoder).map(Some) } else { Ok(None) }
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, Malformed> {
        seed.deserialize(&mut *self.decoder)
    }
}

/// A variant with content.
struct Variant<'a, 'de> {
    decoder: &'a mut Decoder<'de>,
}

impl<'de> de::EnumAccess<'de> for Variant<'_, 'de> {
    type Error = Malformed;
    type Variant = Self;

    fn variant_seed<V: DeserializeSeed<'de>>(self, seed: V) -> Result<(V::Value, Self), Malformed> {
        Ok((seed.deserialize(&mut *self.decoder)?, self))
    }
}

impl<'de> de::VariantAccess<'de> for Variant<'_, 'de> {
    type Error = Malformed;

    fn unit_variant(self) -> Result<(), Malformed> {
        Err(problem("a variant without content has some"))
    }

    fn newtype_variant_seed<T: DeserializeSeed<'de>>(self, seed: T) -> Result<T::Value, Malformed> {
        seed.deserialize(self.decoder)
    }

    fn tuple_variant<V: Visitor<'de>>(self, len: usize, visitor: V) -> Result<V::Value, Malformed> {
        de::Deserializer::deserialize_tuple(self.decoder, len, visitor)
    }

    fn struct_variant<V: Visitor<'de>>(
        self,
        fields: &'static [&'static str],
        visitor: V,
    ) -> Result<V::Value, Malformed> {
        de::Deserializer::deserialize_struct(self.decoder, "", fields, visitor)
    }
}
