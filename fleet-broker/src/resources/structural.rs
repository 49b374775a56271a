//! Whether a value fits a structural schema, in the words of the API server: types, enumerations, what must be there.

use serde_json::Value;

use super::FieldError;

/// Everything in `value` that does not fit `schema`. The metadata has rules of its own.
pub(super) fn check(schema: &Value, value: &Value) -> Vec<FieldError> {
    let mut errors = Vec::new();
    let fields = schema["properties"].as_object().into_iter().flatten();
    for (name, schema) in fields.filter(|(name, _)| *name != "metadata") {
        if let Some(value) = value.get(name) {
            check_at(name, schema, value, &mut errors);
        }
    }
    required("", schema, value, &mut errors);
    errors
}

fn check_at(path: &str, schema: &Value, value: &Value, errors: &mut Vec<FieldError>) {
    if value.is_null() && schema["nullable"] == true {
        return;
    }
    let expected = schema["type"].as_str().unwrap_or_default();
    let actual = type_of(value);
    if !expected.is_empty() && expected != actual && (expected, actual) != ("number", "integer") {
        let why = format!("{path} in body must be of type {expected}: \"{actual}\"");
        errors.push(FieldError::wrong_type(path, &format!("\"{actual}\": {why}")));
        return;
    }
    if let Some(values) = schema["enum"].as_array().filter(|values| !values.contains(value)) {
        errors.push(FieldError::unsupported(path, value, values));
    }
    if let (Some(minimum), Some(number)) = (schema["minimum"].as_f64(), value.as_f64())
        && number < minimum
    {
        let why = format!("{path} in body should be greater than or equal to {minimum}");
        errors.push(FieldError::out_of_range(path, value, &why));
    }
    check_below(path, schema, value, errors);
}

fn check_below(path: &str, schema: &Value, value: &Value, errors: &mut Vec<FieldError>) {
    for (name, value) in value.as_object().into_iter().flatten() {
        let (named, any) = (schema["properties"].get(name), schema.get("additionalProperties"));
        if let Some(schema) = named.or(any).filter(|schema| schema.is_object()) {
            check_at(&format!("{path}.{name}"), schema, value, errors);
        }
    }
    for (index, value) in value.as_array().into_iter().flatten().enumerate() {
        check_at(&format!("{path}[{index}]"), &schema["items"], value, errors);
    }
    required(path, schema, value, errors);
}

fn required(path: &str, schema: &Value, value: &Value, errors: &mut Vec<FieldError>) {
    let Some(object) = value.as_object() else { return };
    let names = schema["required"].as_array().into_iter().flatten().filter_map(Value::as_str);
    for name in names.filter(|name| !object.contains_key(*name)) {
        let field = if path.is_empty() { name.to_owned() } else { format!("{path}.{name}") };
        errors.push(FieldError::required(&field, ""));
    }
}

fn type_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(number) if number.is_f64() => "number",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    }
}
