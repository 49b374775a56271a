//! Label and field selectors: the text behind `kubectl -l`, the structs in a spec, and what they match.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::names::{check_label_key, check_label_value};

mod parse;
#[cfg(test)]
mod tests;

pub use parse::parse;

/// Longest selector text, in bytes: it comes in a URL, which servers and proxies cut at 8 KiB.
pub const TEXT_MAX_LEN: usize = 8 * 1024;
/// Most requirements of one selector: each is tried on every object of a list.
pub const REQUIREMENTS_MAX: usize = 64;

/// A label selector as it stands in a spec: all of both parts must hold. Empty, it matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LabelSelector {
    /// Labels that must have exactly these values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub match_labels: BTreeMap<String, String>,
    /// Further requirements.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub match_expressions: Vec<LabelSelectorRequirement>,
}

/// One entry of `matchExpressions`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LabelSelectorRequirement {
    /// The label it is about.
    pub key: String,
    /// How the label relates to the values.
    pub operator: Operator,
    /// At least one for `In` and `NotIn`, none for the others.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub values: Vec<String>,
}

/// The operators of `matchExpressions`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Operator {
    /// The label is there, with one of the values.
    In,
    /// The label is absent, or has none of the values.
    NotIn,
    /// The label is there.
    Exists,
    /// The label is absent.
    DoesNotExist,
}

/// A valid label selector, ready to match. All requirements must hold; none matches everything.
///
/// Its `Display` is selector text that parses to an equal selector.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Selector(Vec<Requirement>);

/// One thing asked of one label.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    key: String,
    test: Test,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Test {
    In(BTreeSet<String>),
    NotIn(BTreeSet<String>),
    Exists,
    DoesNotExist,
}

/// Why something is not a selector.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// The text does not read as a selector.
    #[error("unable to parse selector {text:?}: column {column}: {why}")]
    Syntax {
        /// The whole text.
        text: String,
        /// Where it went wrong: characters from the left, the first is 1.
        column: usize,
        /// What was found and what was expected.
        why: String,
    },
    /// Longer than [`TEXT_MAX_LEN`].
    #[error("unable to parse selector: it has {len} bytes, more than {TEXT_MAX_LEN}")]
    TooLong {
        /// Its length in bytes.
        len: usize,
    },
    /// More than [`REQUIREMENTS_MAX`] requirements.
    #[error("the selector has {count} requirements, more than {REQUIREMENTS_MAX}")]
    TooMany {
        /// How many it has.
        count: usize,
    },
    /// A label key that no label can have.
    #[error("key {key:?}: {why}")]
    Key {
        /// The key.
        key: String,
        /// The rule it breaks.
        why: String,
    },
    /// A label value that no label can have.
    #[error("value {value:?} of key {key:?}: {why}")]
    Value {
        /// The key.
        key: String,
        /// The value.
        value: String,
        /// The rule it breaks.
        why: String,
    },
    /// `In` or `NotIn` without values, or the other operators with some.
    #[error("key {key:?}: {why}")]
    Values {
        /// The key.
        key: String,
        /// What its operator needs.
        why: &'static str,
    },
    /// A field that is no selectable field.
    #[error("field label not supported: {field}")]
    Field {
        /// The field.
        field: String,
    },
}

impl Selector {
    /// Whether an object with these labels is selected.
    pub fn matches(&self, labels: &BTreeMap<String, String>) -> bool {
        self.matches_with(|key| labels.get(key).map(String::as_str))
    }

    /// Whether an object is selected whose labels `label` looks up.
    pub fn matches_with<'a>(&self, label: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.0.iter().all(|requirement| requirement.test.holds(label(&requirement.key)))
    }

    /// Whether it has no requirement, and so matches everything.
    pub fn is_everything(&self) -> bool {
        self.0.is_empty()
    }

    fn new(requirements: Vec<Requirement>) -> Result<Selector, SelectorError> {
        if requirements.len() > REQUIREMENTS_MAX {
            return Err(SelectorError::TooMany { count: requirements.len() });
        }
        requirements.iter().try_for_each(Requirement::check)?;
        Ok(Selector(requirements))
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = SelectorError;

    fn try_from(spec: &LabelSelector) -> Result<Selector, SelectorError> {
        let equal = spec.match_labels.iter().map(|(key, value)| {
            Ok(Requirement { key: key.clone(), test: Test::In(BTreeSet::from([value.clone()])) })
        });
        let expressions = spec.match_expressions.iter().map(Requirement::try_from);
        Selector::new(equal.chain(expressions).collect::<Result<_, _>>()?)
    }
}

impl TryFrom<&LabelSelectorRequirement> for Requirement {
    type Error = SelectorError;

    fn try_from(spec: &LabelSelectorRequirement) -> Result<Requirement, SelectorError> {
        let wrong = |why| SelectorError::Values { key: spec.key.clone(), why };
        let values: BTreeSet<String> = spec.values.iter().cloned().collect();
        let test = match (spec.operator, values.is_empty()) {
            (Operator::In, false) => Test::In(values),
            (Operator::NotIn, false) => Test::NotIn(values),
            (Operator::Exists, true) => Test::Exists,
            (Operator::DoesNotExist, true) => Test::DoesNotExist,
            (Operator::In | Operator::NotIn, true) => {
                return Err(wrong("must be specified when `operator` is 'In' or 'NotIn'"));
            }
            (Operator::Exists | Operator::DoesNotExist, false) => {
                return Err(wrong("may not be specified when `operator` is 'Exists' or 'DoesNotExist'"));
            }
        };
        Ok(Requirement { key: spec.key.clone(), test })
    }
}

impl Requirement {
    fn check(&self) -> Result<(), SelectorError> {
        check_label_key(&self.key).map_err(|why| SelectorError::Key { key: self.key.clone(), why })?;
        let values = match &self.test {
            Test::In(values) | Test::NotIn(values) => values,
            Test::Exists | Test::DoesNotExist => return Ok(()),
        };
        values.iter().try_for_each(|value| {
            check_label_value(value).map_err(|why| SelectorError::Value {
                key: self.key.clone(),
                value: value.clone(),
                why,
            })
        })
    }
}

impl Test {
    fn holds(&self, value: Option<&str>) -> bool {
        match self {
            Test::In(values) => value.is_some_and(|value| values.contains(value)),
            Test::NotIn(values) => value.is_none_or(|value| !values.contains(value)),
            Test::Exists => value.is_some(),
            Test::DoesNotExist => value.is_none(),
        }
    }
}

impl fmt::Display for Selector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, requirement) in self.0.iter().enumerate() {
            write!(f, "{}{requirement}", if index == 0 { "" } else { "," })?;
        }
        Ok(())
    }
}

impl fmt::Display for Requirement {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = &self.key;
        let list =
            |values: &BTreeSet<String>| values.iter().map(String::as_str).collect::<Vec<_>>().join(",");
        match &self.test {
            Test::In(values) if values.len() == 1 => write!(f, "{key}={}", list(values)),
            Test::NotIn(values) if values.len() == 1 => write!(f, "{key}!={}", list(values)),
            Test::In(values) => write!(f, "{key} in ({})", list(values)),
            Test::NotIn(values) => write!(f, "{key} notin ({})", list(values)),
            Test::Exists => write!(f, "{key}"),
            Test::DoesNotExist => write!(f, "!{key}"),
        }
    }
}

/// A field selector: fields that are equal to a value, or not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(Vec<FieldRequirement>);

/// The fields by which objects of every kind are selected.
pub const METADATA_FIELDS: &[&str] = &["metadata.name", "metadata.namespace"];

#[derive(Clone, Debug, PartialEq, Eq)]
struct FieldRequirement {
    field: &'static str,
    value: String,
    equal: bool,
}

impl FieldSelector {
    /// Reads `metadata.name=a,metadata.namespace!=b`; `==` is `=`. `fields` are those that can be selected by.
    ///
    /// # Errors
    /// When a part has no operator, or is about another field.
    pub fn parse(text: &str, fields: &[&'static str]) -> Result<FieldSelector, SelectorError> {
        if text.len() > TEXT_MAX_LEN {
            return Err(SelectorError::TooLong { len: text.len() });
        }
        let mut column = 1;
        let mut requirements = Vec::new();
        for term in text.split(',') {
            if !term.is_empty() {
                requirements.push(FieldRequirement::parse(text, term, column, fields)?);
            }
            column += term.chars().count() + 1;
        }
        Ok(FieldSelector(requirements))
    }

    /// Whether an object is selected whose fields `value` looks up; one that is not there is empty.
    pub fn matches_with<'a>(&self, value: impl Fn(&str) -> Cow<'a, str>) -> bool {
        self.0.iter().all(|requirement| (value(requirement.field) == requirement.value) == requirement.equal)
    }
}

impl FieldRequirement {
    fn parse(
        text: &str,
        term: &str,
        column: usize,
        fields: &[&'static str],
    ) -> Result<FieldRequirement, SelectorError> {
        let (field, value, equal) = term
            .split_once("!=")
            .map(|(field, value)| (field, value, false))
            .or_else(|| term.split_once("==").map(|(field, value)| (field, value, true)))
            .or_else(|| term.split_once('=').map(|(field, value)| (field, value, true)))
            .ok_or_else(|| SelectorError::Syntax {
                text: text.to_owned(),
                column,
                why: format!("invalid field selector {term:?}: expected '=', '==' or '!='"),
            })?;
        let known = fields.iter().find(|known| **known == field);
        let field = known.ok_or_else(|| SelectorError::Field { field: field.to_owned() })?;
        Ok(FieldRequirement { field, value: value.to_owned(), equal })
    }
}
