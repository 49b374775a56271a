//! The rules of a resource that its schema cannot state.

use apimachinery::names;
use apimachinery::selector::{LabelSelector, Selector};

use super::field::FieldError;

/// The rules of one kind, beyond its types.
pub trait Validate {
    /// What is wrong with an object by itself.
    fn validate(&self) -> Vec<FieldError> {
        Vec::new()
    }

    /// What is wrong with it as a change of `old`.
    fn validate_update(&self, _old: &Self) -> Vec<FieldError> {
        Vec::new()
    }
}

impl Validate for super::Assignment {}

pub(super) fn text(field: &str, value: &str, min: usize, max: usize) -> Option<FieldError> {
    let why = format!("must have {min} to {max} bytes");
    (value.len() < min || value.len() > max).then(|| FieldError::invalid(field, value, &why))
}

pub(super) fn count(field: &str, count: usize, limit: usize) -> Option<FieldError> {
    (count > limit).then(|| FieldError::too_many(field, count, limit))
}

pub(super) fn dns_label(field: &str, value: &str) -> Option<FieldError> {
    names::check_dns_label(value).err().map(|why| FieldError::invalid(field, value, &why))
}

pub(super) fn dns_subdomain(field: &str, value: &str) -> Option<FieldError> {
    names::check_dns_subdomain(value).err().map(|why| FieldError::invalid(field, value, &why))
}

pub(super) fn digest(field: &str, value: &str) -> Option<FieldError> {
    let hex = value.strip_prefix("sha256:").unwrap_or_default();
    let good = hex.len() == 64 && hex.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
    (!good).then(|| FieldError::invalid(field, value, "must be sha256: and 64 lower case hexadecimal digits"))
}

pub(super) fn selector(field: &str, value: &LabelSelector) -> Option<FieldError> {
    let error = Selector::try_from(value).err()?;
    let shown = serde_json::to_string(value).unwrap_or_default();
    Some(FieldError::invalid(field, &shown, &error.to_string()))
}
