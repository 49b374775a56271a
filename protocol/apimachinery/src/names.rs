//! What names, label keys and label values may look like, in the words of the Kubernetes API server.

/// Longest RFC 1123 label, and longest name part of a label key or label value, in bytes.
pub const LABEL_MAX_LEN: usize = 63;
/// Longest RFC 1123 subdomain, in bytes.
pub const SUBDOMAIN_MAX_LEN: usize = 253;

/// Checks an RFC 1123 label, which is what namespaces are named by.
///
/// # Errors
/// What is wrong with it, as the API server says it.
pub fn check_dns_label(value: &str) -> Result<(), String> {
    if value.len() > LABEL_MAX_LEN {
        return Err(too_long(LABEL_MAX_LEN));
    }
    if is_dns_label(value) {
        return Ok(());
    }
    Err("a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start \
         and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
        .to_owned())
}

/// Checks an RFC 1123 subdomain, which is what most objects are named by.
///
/// # Errors
/// What is wrong with it, as the API server says it.
pub fn check_dns_subdomain(value: &str) -> Result<(), String> {
    if value.len() > SUBDOMAIN_MAX_LEN {
        return Err(too_long(SUBDOMAIN_MAX_LEN));
    }
    if value.split('.').all(is_dns_label) {
        return Ok(());
    }
    Err("a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must \
         start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is \
         '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
        .to_owned())
}

/// Checks a label key, also called a qualified name: `name` or `prefix/name`.
///
/// # Errors
/// What is wrong with it, as the API server says it.
pub fn check_label_key(key: &str) -> Result<(), String> {
    let name = match key.split_once('/') {
        None => key,
        Some(("", _)) => return Err("prefix part must be non-empty".to_owned()),
        Some((prefix, name)) => {
            check_dns_subdomain(prefix).map_err(|why| format!("prefix part {why}"))?;
            name
        }
    };
    if name.is_empty() {
        return Err("name part must be non-empty".to_owned());
    }
    if name.len() > LABEL_MAX_LEN {
        return Err(format!("name part {}", too_long(LABEL_MAX_LEN)));
    }
    if is_label_text(name) {
        return Ok(());
    }
    Err("name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an \
         alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is \
         '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"
        .to_owned())
}

/// Checks a label value.
///
/// # Errors
/// What is wrong with it, as the API server says it.
pub fn check_label_value(value: &str) -> Result<(), String> {
    if value.len() > LABEL_MAX_LEN {
        return Err(too_long(LABEL_MAX_LEN));
    }
    if value.is_empty() || is_label_text(value) {
        return Ok(());
    }
    Err("a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must \
         start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used \
         for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
        .to_owned())
}

fn too_long(limit: usize) -> String {
    format!("must be no more than {limit} bytes")
}

fn is_dns_label(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    starts_and_ends(value, inner) && value.bytes().all(|b| inner(b) || b == b'-')
}

fn is_label_text(value: &str) -> bool {
    let inner = |b: u8| b.is_ascii_alphanumeric();
    starts_and_ends(value, inner) && value.bytes().all(|b| inner(b) || matches!(b, b'-' | b'_' | b'.'))
}

fn starts_and_ends(value: &str, allowed: impl Fn(u8) -> bool) -> bool {
    value.bytes().next().is_some_and(&allowed) && value.bytes().last().is_some_and(&allowed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_labels() {
        type Check = fn(&str) -> Result<(), String>;
        let long = "a".repeat(64);
        let rows: &[(Check, &str, bool)] = &[
            (check_dns_label, "a", true),
            (check_dns_label, "a-1", true),
            (check_dns_label, "", false),
            (check_dns_label, "a.b", false),
            (check_dns_label, "-a", false),
            (check_dns_label, "A", false),
            (check_dns_label, &long, false),
            (check_dns_subdomain, "a.b-c.9", true),
            (check_dns_subdomain, "a..b", false),
            (check_dns_subdomain, "a.-b", false),
            (check_label_key, "stage", true),
            (check_label_key, "edgefleet.dev/Ring_1.a", true),
            (check_label_key, "a/b/c", false),
            (check_label_key, "/b", false),
            (check_label_key, "b/", false),
            (check_label_key, "Upper.dev/b", false),
            (check_label_key, &long, false),
            (check_label_value, "", true),
            (check_label_value, "v1.2_x", true),
            (check_label_value, "-x", false),
            (check_label_value, "x y", false),
            (check_label_value, &long, false),
        ];
        for (check, text, good) in rows {
            assert_eq!(check(text).is_ok(), *good, "{text:?}");
        }
    }
}
