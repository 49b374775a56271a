//! One step of a path into an object, and the scalars that list items are told apart by.

use std::cmp::Ordering;
use std::fmt;

use serde_json::Value;

/// One step of a path. Ordered as the API server orders them: fields, keys, values, indices.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum PathElement {
    /// A field of an object: `f:spec`.
    Field(String),
    /// The item of a list that has these values under these keys, sorted by key: `k:{"name":"app"}`.
    Key(Vec<(String, Scalar)>),
    /// The item of a set that is this value: `v:"kubernetes.io/pvc-protection"`.
    Value(Scalar),
    /// The item of a list at this position: `i:0`.
    Index(i64),
}

impl PathElement {
    /// A field of an object.
    #[must_use]
    pub fn field(name: impl Into<String>) -> Self {
        Self::Field(name.into())
    }

    /// The item of a list with these values under these keys, given in any order.
    #[must_use]
    pub fn key<'a>(pairs: impl IntoIterator<Item = (&'a str, Scalar)>) -> Self {
        let mut pairs: Vec<_> = pairs.into_iter().map(|(name, value)| (name.to_owned(), value)).collect();
        pairs.sort();
        Self::Key(pairs)
    }
}

impl fmt::Display for PathElement {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Field(name) => write!(out, ".{name}"),
            Self::Key(pairs) => {
                for (position, (name, value)) in pairs.iter().enumerate() {
                    write!(out, "{}{name}={value}", if position == 0 { "[" } else { "," })?;
                }
                out.write_str("]")
            }
            Self::Value(value) => write!(out, "[={value}]"),
            Self::Index(index) => write!(out, "[{index}]"),
        }
    }
}

/// A path into an object, from its root. Displayed as in a conflict:
/// `.spec.template.spec.containers[name="app"].image`.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Path(Vec<PathElement>);

impl Path {
    /// A path of fields alone.
    #[must_use]
    pub fn of_fields(names: &[&str]) -> Self {
        names.iter().map(|name| PathElement::field(*name)).collect()
    }

    /// The steps, from the root.
    #[must_use]
    pub fn elements(&self) -> &[PathElement] {
        &self.0
    }

    pub(crate) fn push(&mut self, element: PathElement) {
        self.0.push(element);
    }

    pub(crate) fn pop(&mut self) {
        self.0.pop();
    }

    /// The same path, seen from one step further up.
    pub(crate) fn below(mut self, element: PathElement) -> Self {
        self.0.insert(0, element);
        self
    }
}

impl FromIterator<PathElement> for Path {
    fn from_iter<I: IntoIterator<Item = PathElement>>(elements: I) -> Self {
        Self(elements.into_iter().collect())
    }
}

impl fmt::Display for Path {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|element| write!(out, "{element}"))
    }
}

/// A value that can tell list items apart. Ordered as the API server orders them, and `1` is `1.0`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Scalar {
    /// A number.
    Number(Number),
    /// A text.
    Text(String),
    /// True or false.
    Bool(bool),
    /// The explicit null.
    Null,
}

impl Scalar {
    /// A text.
    #[must_use]
    pub fn text(text: impl Into<String>) -> Self {
        Self::Text(text.into())
    }

    /// A whole number.
    #[must_use]
    pub fn integer(number: i64) -> Self {
        Self::Number(Number(Repr::Whole(number)))
    }

    /// Reads a JSON value; nothing if it is a list or an object.
    #[must_use]
    pub fn from_value(value: &Value) -> Option<Self> {
        Some(match value {
            Value::Number(number) => Self::Number(Number::from_json(number)),
            Value::String(text) => Self::Text(text.clone()),
            Value::Bool(truth) => Self::Bool(*truth),
            Value::Null => Self::Null,
            Value::Array(_) | Value::Object(_) => return None,
        })
    }

    /// The value as JSON, escaped as the API server does it: `<`, `>` and `&` too.
    pub(super) fn to_json(&self) -> String {
        match self {
            Self::Number(number) => number.to_string(),
            Self::Text(text) => quote_json(text),
            Self::Bool(truth) => truth.to_string(),
            Self::Null => "null".to_owned(),
        }
    }
}

impl fmt::Display for Scalar {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => write!(out, "{number}"),
            Self::Text(text) => out.write_str(&quote(text)),
            Self::Bool(truth) => write!(out, "{truth}"),
            Self::Null => out.write_str("null"),
        }
    }
}

/// A JSON number. Whole numbers that fit are kept whole, so that equal numbers have one form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Number(Repr);

#[derive(Clone, Copy, Debug, PartialEq)]
enum Repr {
    Whole(i64),
    /// Neither whole nor within the range of `i64`; never NaN.
    Other(f64),
}

impl Number {
    fn from_json(number: &serde_json::Number) -> Self {
        /// The first float above the range of `i64`, 2^63.
        const ABOVE_RANGE: f64 = 9_223_372_036_854_775_808.0;
        if let Some(whole) = number.as_i64() {
            return Self(Repr::Whole(whole));
        }
        let float = number.as_f64().unwrap_or(f64::MAX);
        let is_whole = float.fract() == 0.0 && (-ABOVE_RANGE..ABOVE_RANGE).contains(&float);
        #[allow(clippy::cast_possible_truncation, reason = "a whole float within the range converts exactly")]
        Self(if is_whole { Repr::Whole(float as i64) } else { Repr::Other(float) })
    }
}

impl Eq for Number {}

impl PartialOrd for Number {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Number {
    /// Total: a float kept as such is never whole within the range where `i64` does not convert exactly.
    fn cmp(&self, other: &Self) -> Ordering {
        #[allow(clippy::cast_precision_loss, reason = "what rounds lies beyond every fractional float")]
        let float = |number: &Self| match number.0 {
            Repr::Whole(whole) => whole as f64,
            Repr::Other(float) => float,
        };
        match (self.0, other.0) {
            (Repr::Whole(left), Repr::Whole(right)) => left.cmp(&right),
            (Repr::Whole(_), Repr::Other(_)) | (Repr::Other(_), Repr::Whole(_) | Repr::Other(_)) => {
                float(self).total_cmp(&float(other))
            }
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Repr::Whole(whole) => write!(out, "{whole}"),
            Repr::Other(float) => match serde_json::Number::from_f64(float) {
                Some(number) => write!(out, "{number}"),
                None => write!(out, "{float}"),
            },
        }
    }
}

/// Quotes a text as the API server's messages do, which is Go's `%q`.
pub(crate) fn quote(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\x07' => quoted.push_str("\\a"),
            '\x08' => quoted.push_str("\\b"),
            '\x0c' => quoted.push_str("\\f"),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\x0b' => quoted.push_str("\\v"),
            control if control.is_ascii_control() => {
                quoted.push_str(&format!("\\x{:02x}", u32::from(control)))
            }
            control if control.is_control() => quoted.push_str(&format!("\\u{:04x}", u32::from(control))),
            printable => quoted.push(printable),
        }
    }
    quoted.push('"');
    quoted
}

fn quote_json(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for character in text.chars() {
        match character {
            '"' | '\\' => quoted.extend(['\\', character]),
            '\n' => quoted.push_str("\\n"),
            '\r' => quoted.push_str("\\r"),
            '\t' => quoted.push_str("\\t"),
            '\0'..='\x1f' | '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => {
                quoted.push_str(&format!("\\u{:04x}", u32::from(character)));
            }
            plain => quoted.push(plain),
        }
    }
    quoted.push('"');
    quoted
}
