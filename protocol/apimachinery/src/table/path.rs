//! The simple JSONPath of printer columns: `.spec.bundle`, `.items[0]`, `['a.b']`, `[?(@.type=="Ready")]`.

use serde_json::Value;
use thiserror::Error;

/// Where a column finds its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Path(Vec<Step>);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Step {
    Field(String),
    Index(usize),
    /// The first element whose field has this text.
    Where {
        field: String,
        equals: String,
    },
}

/// A path that this module does not read.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
#[error(
    "JSONPath {path:?}: cannot read {rest:?}; known are .field, ['field'], [0] and [?(@.field==\"text\")]"
)]
pub struct PathError {
    /// The whole path.
    pub path: String,
    /// From where it cannot be read.
    pub rest: String,
}

impl Path {
    /// Reads a path.
    ///
    /// # Errors
    /// When it uses more of JSONPath than the module's head lists.
    pub fn parse(path: &str) -> Result<Path, PathError> {
        let mut steps = Vec::new();
        let mut rest = path;
        while !rest.is_empty() {
            let (step, len) = Step::parse(rest)
                .ok_or_else(|| PathError { path: path.to_owned(), rest: rest.to_owned() })?;
            steps.push(step);
            rest = &rest[len..];
        }
        Ok(Path(steps))
    }

    /// The value at this path, if the object has one.
    pub fn first<'a>(&self, object: &'a Value) -> Option<&'a Value> {
        self.0.iter().try_fold(object, |value, step| step.first(value))
    }
}

impl Step {
    /// The step that `rest` begins with, and its length in bytes.
    fn parse(rest: &str) -> Option<(Step, usize)> {
        if let Some(field) = rest.strip_prefix('.') {
            let len = field.find(['.', '[']).unwrap_or(field.len());
            return (len > 0).then(|| (Step::Field(field[..len].to_owned()), len + 1));
        }
        let inner = &rest.strip_prefix('[')?[..rest.find(']')? - 1];
        let step = if let Some(filter) = inner.strip_prefix("?(@.").and_then(|f| f.strip_suffix(')')) {
            let (field, text) = filter.split_once("==")?;
            Step::Where { field: field.to_owned(), equals: unquote(text)?.to_owned() }
        } else if let Some(field) = unquote(inner) {
            Step::Field(field.to_owned())
        } else {
            Step::Index(inner.parse().ok()?)
        };
        Some((step, inner.len() + 2))
    }

    fn first<'a>(&self, value: &'a Value) -> Option<&'a Value> {
        match self {
            Step::Field(field) => value.get(field),
            Step::Index(index) => value.get(index),
            Step::Where { field, equals } => value
                .as_array()?
                .iter()
                .find(|element| element.get(field).and_then(Value::as_str) == Some(equals)),
        }
    }
}

fn unquote(text: &str) -> Option<&str> {
    let quoted = |quote| text.strip_prefix(quote)?.strip_suffix(quote);
    quoted('"').or_else(|| quoted('\''))
}
