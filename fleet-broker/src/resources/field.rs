//! What is wrong with one field, in the API server's words.

use serde_json::Value;

/// One field and what is wrong with it: a cause of a Status of reason `Invalid`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldError {
    /// `FieldValueInvalid` and the like.
    pub reason: &'static str,
    /// Its path: `spec.overrides[0].clusterSelector`.
    pub field: String,
    /// What is wrong: `Invalid value: "x": must be y`.
    pub message: String,
}

impl FieldError {
    /// The value breaks a rule.
    pub fn invalid(field: &str, value: &str, why: &str) -> FieldError {
        FieldError::new("FieldValueInvalid", field, format!("Invalid value: {value:?}: {why}"))
    }

    /// The value may not be set or changed.
    pub fn forbidden(field: &str, why: &str) -> FieldError {
        FieldError::new("FieldValueForbidden", field, format!("Forbidden: {why}"))
    }

    /// The value must be there.
    pub fn required(field: &str, why: &str) -> FieldError {
        let message =
            if why.is_empty() { "Required value".to_owned() } else { format!("Required value: {why}") };
        FieldError::new("FieldValueRequired", field, message)
    }

    /// There are more entries than are allowed.
    pub fn too_many(field: &str, count: usize, limit: usize) -> FieldError {
        let message = format!("Too many: {count}: must have at most {limit} items");
        FieldError::new("FieldValueTooMany", field, message)
    }

    /// The value does not fit the type of the field.
    pub fn wrong_type(field: &str, why: &str) -> FieldError {
        FieldError::new("FieldValueTypeInvalid", field, format!("Invalid value: {why}"))
    }

    /// The value is none of those that an enumeration has.
    pub fn unsupported(field: &str, value: &Value, supported: &[Value]) -> FieldError {
        let supported: Vec<String> = supported.iter().map(Value::to_string).collect();
        let message = format!("Unsupported value: {value}: supported values: {}", supported.join(", "));
        FieldError::new("FieldValueNotSupported", field, message)
    }

    /// The number is too small or too large.
    pub fn out_of_range(field: &str, value: &Value, why: &str) -> FieldError {
        FieldError::new("FieldValueInvalid", field, format!("Invalid value: {value}: {why}"))
    }

    fn new(reason: &'static str, field: &str, message: String) -> FieldError {
        FieldError { reason, field: field.to_owned(), message }
    }
}
