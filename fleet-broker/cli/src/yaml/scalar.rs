//! What a scalar means to go-yaml v2 (`resolve.go`), and what of it is left in JSON.

use base64::{Engine, engine::general_purpose::STANDARD};
use serde_json::{Number, Value};

/// A resolved scalar.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Scalar {
    Null,
    Bool(bool),
    Integer(i64),
    /// Also every integer beyond `i64`: kubectl keeps it as a float.
    Float(f64),
    Text(String),
}

/// A tag, as far as it changes what a scalar means. Any other tag makes it text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Tag {
    Null,
    Bool,
    Integer,
    Float,
    Binary,
    Text,
}

/// What `text` means; `plain` says that it stands without quotes.
pub(super) fn resolve(text: &str, plain: bool, tag: Option<Tag>) -> Result<Scalar, String> {
    match (tag, plain_scalar(text)) {
        (None, scalar) if plain => Ok(scalar),
        (None | Some(Tag::Text), _) => Ok(Scalar::Text(text.to_owned())),
        (Some(Tag::Binary), _) => binary(text),
        (Some(Tag::Float), Scalar::Integer(number)) => Ok(Scalar::Float(number as f64)),
        (Some(Tag::Null), scalar @ Scalar::Null)
        | (Some(Tag::Bool), scalar @ Scalar::Bool(_))
        | (Some(Tag::Integer), scalar @ Scalar::Integer(_))
        | (Some(Tag::Float), scalar @ Scalar::Float(_)) => Ok(scalar),
        (Some(tag), _) => Err(format!("{text:?} is not what its tag says ({tag:?})")),
    }
}

impl Scalar {
    /// As a JSON value.
    pub(super) fn into_json(self) -> Result<Value, String> {
        match self {
            Self::Null => Ok(Value::Null),
            Self::Bool(value) => Ok(Value::Bool(value)),
            Self::Integer(number) => Ok(Value::from(number)),
            Self::Float(number) => json_number(number)
                .map(Value::Number)
                .ok_or_else(|| format!("JSON has no {number}; quote it if it is text")),
            Self::Text(text) => Ok(Value::String(text)),
        }
    }

    /// As the key of a JSON object.
    pub(super) fn into_key(self) -> Result<String, String> {
        match self {
            Self::Text(text) => Ok(text),
            Self::Bool(value) => Ok(value.to_string()),
            Self::Integer(number) => Ok(number.to_string()),
            Self::Float(number) => Err(format!("the key {number} is a fraction; quote it")),
            Self::Null => Err("a key is empty; quote it if that is meant".to_owned()),
        }
    }
}

/// A number as Go writes it to JSON and reads it back: an integer where the digits are one and fit 64 bits.
pub(super) fn json_number(number: f64) -> Option<Number> {
    /// From here on Go writes an exponent, which is never read back as an integer.
    const EXPONENT_FROM: f64 = 1e21;
    let integer = || number.to_string().parse::<i64>().ok().filter(|_| number.abs() < EXPONENT_FROM);
    integer().map(Number::from).or_else(|| Number::from_f64(number))
}

fn plain_scalar(text: &str) -> Scalar {
    match text {
        "" | "~" | "null" | "Null" | "NULL" => Scalar::Null,
        "y" | "Y" | "yes" | "Yes" | "YES" | "true" | "True" | "TRUE" | "on" | "On" | "ON" => {
            Scalar::Bool(true)
        }
        "n" | "N" | "no" | "No" | "NO" | "false" | "False" | "FALSE" | "off" | "Off" | "OFF" => {
            Scalar::Bool(false)
        }
        ".nan" | ".NaN" | ".NAN" => Scalar::Float(f64::NAN),
        ".inf" | ".Inf" | ".INF" | "+.inf" | "+.Inf" | "+.INF" => Scalar::Float(f64::INFINITY),
        "-.inf" | "-.Inf" | "-.INF" => Scalar::Float(f64::NEG_INFINITY),
        _ => number(text).unwrap_or_else(|| Scalar::Text(text.to_owned())),
    }
}

fn number(text: &str) -> Option<Scalar> {
    match text.as_bytes().first()? {
        b'.' => float(text),
        b'+' | b'-' | b'0'..=b'9' => {
            let digits = text.replace('_', "");
            integer(&digits).or_else(|| float(&digits))
        }
        _ => None,
    }
}

/// Go's `ParseInt` and `ParseUint` with base 0: a leading 0 means octal.
fn integer(text: &str) -> Option<Scalar> {
    let (negative, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    let (radix, digits) = match unsigned.as_bytes() {
        [b'0', b'x' | b'X', ..] => (16, &unsigned[2..]),
        [b'0', b'o' | b'O', ..] => (8, &unsigned[2..]),
        [b'0', b'b' | b'B', ..] => (2, &unsigned[2..]),
        [b'0', _, ..] => (8, &unsigned[1..]),
        _ => (10, unsigned),
    };
    if !digits.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return None;
    }
    let magnitude = u64::from_str_radix(digits, radix).ok()?;
    let signed = if negative { 0i64.checked_sub_unsigned(magnitude) } else { i64::try_from(magnitude).ok() };
    match signed {
        Some(number) => Some(Scalar::Integer(number)),
        // Only a bare number may use the 64th bit for its value.
        None => (text == unsigned).then_some(Scalar::Float(magnitude as f64)),
    }
}

/// `[-+]?(\.[0-9]+|[0-9]+(\.[0-9]*)?)([eE][-+]?[0-9]+)?`
fn float(text: &str) -> Option<Scalar> {
    let unsigned = text.strip_prefix(['-', '+']).unwrap_or(text);
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, Some(exponent)),
        None => (unsigned, None),
    };
    let digits = |part: &str| part.bytes().all(|byte| byte.is_ascii_digit());
    let (whole, fraction) = mantissa.split_once('.').unwrap_or((mantissa, "0"));
    let some = !(whole.is_empty() && fraction.is_empty());
    let exponent_is_one = exponent.is_none_or(|exponent| {
        let exponent = exponent.strip_prefix(['-', '+']).unwrap_or(exponent);
        !exponent.is_empty() && digits(exponent)
    });
    let well_formed = some && digits(whole) && digits(fraction) && exponent_is_one;
    // Too large for a float: go-yaml leaves it text.
    let value = text.parse::<f64>().ok().filter(|value| well_formed && value.is_finite())?;
    Some(Scalar::Float(value))
}

fn binary(text: &str) -> Result<Scalar, String> {
    let compact: String = text.split_ascii_whitespace().collect();
    let bytes = STANDARD.decode(compact).map_err(|error| format!("!!binary is not base64: {error}"))?;
    let text = String::from_utf8(bytes).map_err(|_| "!!binary is not text; use binaryData".to_owned())?;
    Ok(Scalar::Text(text))
}
