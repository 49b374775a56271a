//! What the environment tells the tests.

/// The value of an environment variable, unless it is missing or empty.
#[allow(clippy::disallowed_methods, reason = "the tests have no main of their own that could read it")]
pub(crate) fn setting(name: &str) -> Option<String> {
    std::env::var(name).ok().filter(|value| !value.is_empty())
}
