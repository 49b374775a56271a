//! YAML and JSON as kubectl reads them: what a plain `0755`, `yes` or `1e3` becomes is decided by the rules of
//! the library that kubectl uses (`sigs.k8s.io/yaml`, which carries go-yaml v2), not by YAML 1.2.
//!
//! The syntax is read by `granit_parser`; the meaning of scalars, keys and merges is decided here. One thing
//! is stricter than kubectl: a key that stands twice in a mapping is refused, where kubectl keeps the last.

mod compose;
mod scalar;

use serde_json::Value;

/// Nesting of one document. Everything that reads the JSON made of it stops at 128.
const DEPTH: usize = 100;

/// Values in one stream, after aliases are replaced by what they stand for: several times what the largest
/// release can hold, and little enough that a few lines of aliases to aliases cannot fill memory.
const NODES: usize = 2_000_000;

/// One document of a stream.
#[derive(Debug, Clone, PartialEq)]
pub struct Document {
    /// What it says.
    pub value: Value,
    /// Its place in the stream, counted from 1 and with empty documents counted too.
    pub number: usize,
    /// The line it starts on, counted from 1.
    pub line: usize,
}

/// Text that is neither YAML nor JSON, or that kubectl could not turn into JSON.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct YamlError {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1.
    pub column: usize,
    /// What is wrong, and what would be right.
    pub problem: String,
}

/// Reads every document that is not empty. Text that starts with `{` is a stream of JSON if it is JSON at all.
pub fn read(text: &str) -> Result<Vec<Document>, YamlError> {
    if !text.trim_start().starts_with('{') {
        return compose::documents(text);
    }
    let json = read_json(text);
    json.or_else(|error| compose::documents(text).map_err(|_| error))
}

/// Writes a value as YAML that [`read`] reads back: texts of several lines as blocks, no other line broken.
pub fn write(value: &Value) -> String {
    let mut options = serde_saphyr::SerializerOptions::default();
    options.folded_wrap_chars = usize::MAX;
    options.compact_list_indent = true;
    // JSON can always be written as YAML; as JSON it is YAML too.
    serde_saphyr::to_string_with_options(value, options).unwrap_or_else(|_| format!("{value:#}\n"))
}

fn read_json(text: &str) -> Result<Vec<Document>, YamlError> {
    let mut stream = serde_json::Deserializer::from_str(text).into_iter::<Value>();
    let mut documents = Vec::new();
    loop {
        let rest = &text[stream.byte_offset()..];
        let start = text.len() - rest.trim_start().len();
        let Some(value) = stream.next() else { return Ok(documents) };
        let mut value = value.map_err(|error| YamlError {
            line: error.line(),
            column: error.column(),
            problem: without_place(&error.to_string()),
        })?;
        fold_numbers(&mut value);
        let line = 1 + text[..start].matches('\n').count();
        documents.push(Document { value, number: documents.len() + 1, line });
    }
}

/// serde_json ends its messages with the place, which [`YamlError`] says already.
fn without_place(message: &str) -> String {
    message.split(" at line ").next().unwrap_or(message).to_owned()
}

/// Makes `1.0` the `1` that a typed field of the API would otherwise refuse.
fn fold_numbers(value: &mut Value) {
    match value {
        Value::Number(number) if number.as_i64().is_none() => {
            if let Some(folded) = number.as_f64().and_then(scalar::json_number) {
                *number = folded;
            }
        }
        Value::Array(items) => items.iter_mut().for_each(fold_numbers),
        Value::Object(map) => map.values_mut().for_each(fold_numbers),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[cfg(test)]
mod tests;
