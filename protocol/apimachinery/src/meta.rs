//! Typed views over the JSON of an object: what every Kubernetes object carries, read without copying it.

use std::fmt;
use std::str::FromStr;

use serde_json::{Map, Value};

/// How deep JSON may be nested, which is what the parser accepts, so that no recursion can exhaust a stack.
pub const MAX_JSON_DEPTH: usize = 128;

/// How deep an object may be nested apart from its managedFields. Those are as deep as the object and a few
/// levels of their own, and the parser must accept them too.
pub const MAX_DEPTH: usize = MAX_JSON_DEPTH - 8;

/// A kind within a group and version: `apps/v1, Kind=Deployment`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupVersionKind {
    /// The API group; empty for the core group.
    pub group: String,
    /// The version within the group, such as `v1`.
    pub version: String,
    /// The kind, such as `Deployment`.
    pub kind: String,
}

impl GroupVersionKind {
    /// Names a kind by the `apiVersion` and `kind` an object carries.
    ///
    /// # Errors
    /// When either is empty, or `apiVersion` is neither `version` nor `group/version`.
    pub fn new(api_version: &str, kind: &str) -> Result<Self, ParseGvkError> {
        let (group, version) = api_version.split_once('/').unwrap_or(("", api_version));
        let slash_is_in_place = api_version.contains('/') != group.is_empty() && !version.contains('/');
        if version.is_empty() || kind.is_empty() || !slash_is_in_place {
            return Err(ParseGvkError(format!("{api_version}, Kind={kind}")));
        }
        Ok(Self { group: group.to_owned(), version: version.to_owned(), kind: kind.to_owned() })
    }

    /// The `apiVersion` an object of this kind carries: `v1`, `apps/v1`.
    #[must_use]
    pub fn api_version(&self) -> String {
        if self.group.is_empty() { self.version.clone() } else { format!("{}/{}", self.group, self.version) }
    }
}

impl fmt::Display for GroupVersionKind {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(out, "{}, Kind={}", self.api_version(), self.kind)
    }
}

impl FromStr for GroupVersionKind {
    type Err = ParseGvkError;

    fn from_str(text: &str) -> Result<Self, ParseGvkError> {
        let (api_version, kind) = text.split_once(", Kind=").ok_or_else(|| ParseGvkError(text.to_owned()))?;
        Self::new(api_version, kind)
    }
}

/// A text that names no kind.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "\"{0}\" names no kind: write it as \"group/version, Kind=Kind\", without the group for the core API"
)]
pub struct ParseGvkError(String);

/// One object, seen through its type and metadata. What is absent or of the wrong JSON type reads as absent.
#[derive(Clone, Copy, Debug)]
pub struct ObjectView<'a>(&'a Value);

impl<'a> ObjectView<'a> {
    /// Looks at `object`, whatever it is.
    #[must_use]
    pub fn new(object: &'a Value) -> Self {
        Self(object)
    }

    /// `apiVersion`.
    #[must_use]
    pub fn api_version(self) -> Option<&'a str> {
        self.0.get("apiVersion")?.as_str()
    }

    /// `kind`.
    #[must_use]
    pub fn kind(self) -> Option<&'a str> {
        self.0.get("kind")?.as_str()
    }

    /// The kind within its group and version, if the object names one.
    #[must_use]
    pub fn gvk(self) -> Option<GroupVersionKind> {
        GroupVersionKind::new(self.api_version()?, self.kind()?).ok()
    }

    /// `metadata.name`.
    #[must_use]
    pub fn name(self) -> Option<&'a str> {
        self.text("name")
    }

    /// `metadata.namespace`; absent for what is not namespaced.
    #[must_use]
    pub fn namespace(self) -> Option<&'a str> {
        self.text("namespace")
    }

    /// `metadata.uid`; absent until the object was stored.
    #[must_use]
    pub fn uid(self) -> Option<&'a str> {
        self.text("uid")
    }

    /// `metadata.resourceVersion`, an opaque text.
    #[must_use]
    pub fn resource_version(self) -> Option<&'a str> {
        self.text("resourceVersion")
    }

    /// `metadata.generation`, which counts changes of the specification.
    #[must_use]
    pub fn generation(self) -> Option<i64> {
        self.metadata()?.get("generation")?.as_i64()
    }

    /// The value of one label.
    #[must_use]
    pub fn label(self, key: &str) -> Option<&'a str> {
        self.metadata()?.get("labels")?.get(key)?.as_str()
    }

    /// The value of one annotation.
    #[must_use]
    pub fn annotation(self, key: &str) -> Option<&'a str> {
        self.metadata()?.get("annotations")?.get(key)?.as_str()
    }

    /// `metadata.labels`, in the order of the keys.
    pub fn labels(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts("labels")
    }

    /// `metadata.annotations`, in the order of the keys.
    pub fn annotations(self) -> impl Iterator<Item = (&'a str, &'a str)> {
        self.texts("annotations")
    }

    /// The entries of `metadata.managedFields`.
    pub fn managed_fields(self) -> impl ExactSizeIterator<Item = ManagedFieldsEntry<'a>> {
        let entries = self.metadata().and_then(|metadata| metadata.get("managedFields")?.as_array());
        entries.map_or(&[][..], Vec::as_slice).iter().map(ManagedFieldsEntry)
    }

    fn metadata(self) -> Option<&'a Map<String, Value>> {
        self.0.get("metadata")?.as_object()
    }

    fn text(self, field: &str) -> Option<&'a str> {
        self.metadata()?.get(field)?.as_str()
    }

    fn texts(self, field: &str) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        let map = self.metadata().and_then(|metadata| metadata.get(field)?.as_object());
        map.into_iter().flatten().filter_map(|(key, value)| Some((key.as_str(), value.as_str()?)))
    }
}

/// One entry of `metadata.managedFields`: who owns which fields, by which operation, since when.
#[derive(Clone, Copy, Debug)]
pub struct ManagedFieldsEntry<'a>(&'a Value);

impl<'a> ManagedFieldsEntry<'a> {
    /// The name of the manager.
    #[must_use]
    pub fn manager(self) -> Option<&'a str> {
        self.text("manager")
    }

    /// `Apply` or `Update`.
    #[must_use]
    pub fn operation(self) -> Option<&'a str> {
        self.text("operation")
    }

    /// The version in which the paths of `fieldsV1` are to be read.
    #[must_use]
    pub fn api_version(self) -> Option<&'a str> {
        self.text("apiVersion")
    }

    /// RFC 3339.
    #[must_use]
    pub fn time(self) -> Option<&'a str> {
        self.text("time")
    }

    /// Always `FieldsV1`.
    #[must_use]
    pub fn fields_type(self) -> Option<&'a str> {
        self.text("fieldsType")
    }

    /// The subresource written to; absent for the object itself.
    #[must_use]
    pub fn subresource(self) -> Option<&'a str> {
        self.text("subresource")
    }

    /// The owned fields, as FieldsV1.
    #[must_use]
    pub fn fields(self) -> Option<&'a Value> {
        self.0.get("fieldsV1")
    }

    fn text(self, field: &str) -> Option<&'a str> {
        self.0.get(field)?.as_str()
    }
}

/// The number of seconds since 1970 at `rfc3339`, or nothing if that is not a time.
pub(crate) fn unix_seconds(rfc3339: &str) -> Option<i64> {
    let number = |range: std::ops::Range<usize>| -> Option<i64> {
        let digits = rfc3339.get(range)?;
        digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())?
    };
    let punctuation: Vec<u8> =
        [4, 7, 10, 13, 16].iter().filter_map(|&at| rfc3339.as_bytes().get(at).copied()).collect();
    let (year, month, day) = (number(0..4)?, number(5..7)?, number(8..10)?);
    let (hour, minute, second) = (number(11..13)?, number(14..16)?, number(17..19)?);
    let in_range =
        (1..=12).contains(&month) && (1..=31).contains(&day) && hour < 24 && minute < 60 && second <= 60;
    if !in_range || !matches!(punctuation[..], [b'-', b'-', b'T' | b't', b':', b':']) {
        return None;
    }
    let zone = rfc3339.get(19..)?;
    let zone =
        zone.strip_prefix('.').map_or(zone, |rest| rest.trim_start_matches(|c: char| c.is_ascii_digit()));
    let offset = match zone.as_bytes() {
        [b'Z' | b'z'] => 0,
        [sign @ (b'+' | b'-'), _, _, b':', _, _] => {
            let minutes = zone.get(1..3)?.parse::<i64>().ok()? * 60 + zone.get(4..6)?.parse::<i64>().ok()?;
            if *sign == b'-' { -minutes } else { minutes }
        }
        _ => return None,
    };
    Some(days_since_1970(year, month, day) * 86_400 + hour * 3_600 + (minute - offset) * 60 + second)
}

/// Counts in years that begin in March, so that the leap day is the last of its year.
fn days_since_1970(year: i64, month: i64, day: i64) -> i64 {
    let (year, month) = if month > 2 { (year, month - 3) } else { (year - 1, month + 9) };
    let days_before_year = year * 365 + year.div_euclid(4) - year.div_euclid(100) + year.div_euclid(400);
    days_before_year + (month * 153 + 2) / 5 + day - 719_469
}

/// Whether `value` nests at most `limit` objects and lists within each other.
pub(crate) fn is_at_most_deep(value: &Value, limit: usize) -> bool {
    let Some(below) = limit.checked_sub(1) else { return !value.is_object() && !value.is_array() };
    match value {
        Value::Object(map) => map.values().all(|value| is_at_most_deep(value, below)),
        Value::Array(list) => list.iter().all(|value| is_at_most_deep(value, below)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => true,
    }
}

/// Whether an object apart from its managedFields keeps to [`MAX_DEPTH`].
pub(crate) fn is_shallow(object: &Value) -> bool {
    let is_shallow_field = |(name, value): (&String, &Value)| match value.as_object() {
        Some(metadata) if name == "metadata" => {
            let mut counted = metadata.iter().filter(|(name, _)| *name != "managedFields");
            counted.all(|(_, value)| is_at_most_deep(value, MAX_DEPTH - 2))
        }
        _ => is_at_most_deep(value, MAX_DEPTH - 1),
    };
    match object.as_object() {
        Some(fields) => fields.iter().all(is_shallow_field),
        None => is_at_most_deep(object, MAX_DEPTH),
    }
}

/// Whether two values mean the same: as JSON, but `1` and `1.0` are one number.
pub(crate) fn same(left: &Value, right: &Value) -> bool {
    match (left, right) {
        (Value::Number(left), Value::Number(right)) => left == right || left.as_f64() == right.as_f64(),
        (Value::Array(left), Value::Array(right)) => {
            left.len() == right.len() && left.iter().zip(right).all(|(left, right)| same(left, right))
        }
        (Value::Object(left), Value::Object(right)) => {
            left.len() == right.len()
                && left.iter().all(|(key, left)| right.get(key).is_some_and(|right| same(left, right)))
        }
        _ => left == right,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn kinds_print_as_they_are_parsed() {
        for (api_version, kind, text) in
            [("v1", "Pod", "v1, Kind=Pod"), ("apps/v1", "Deployment", "apps/v1, Kind=Deployment")]
        {
            let gvk = GroupVersionKind::new(api_version, kind).unwrap();
            assert_eq!(gvk.to_string(), text);
            assert_eq!(gvk.api_version(), api_version);
            assert_eq!(text.parse(), Ok(gvk));
        }
        for text in ["", "v1", "v1, Kind=", "/v1, Kind=Pod", "a/b/c, Kind=Pod", "apps/, Kind=Pod"] {
            assert!(text.parse::<GroupVersionKind>().is_err(), "{text}");
        }
    }

    #[test]
    fn an_object_is_read_without_trusting_it() {
        let object = json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {
                "name": "web", "namespace": "shop", "uid": "u", "generation": 3, "resourceVersion": "7",
                "labels": {"app": "web", "broken": 1},
                "managedFields": [{"manager": "kubectl", "operation": "Apply"}]
            }
        });
        let view = ObjectView::new(&object);
        assert_eq!(view.gvk().unwrap().to_string(), "apps/v1, Kind=Deployment");
        assert_eq!((view.name(), view.namespace(), view.uid()), (Some("web"), Some("shop"), Some("u")));
        assert_eq!((view.generation(), view.resource_version()), (Some(3), Some("7")));
        assert_eq!(view.labels().collect::<Vec<_>>(), [("app", "web")]);
        assert_eq!(view.managed_fields().next().unwrap().manager(), Some("kubectl"));
        let nothing = json!("text");
        assert_eq!(ObjectView::new(&nothing).name(), None);
        assert_eq!(ObjectView::new(&nothing).managed_fields().len(), 0);
    }

    #[test]
    fn times_are_read_to_the_second() {
        for (text, seconds) in [
            ("1970-01-01T00:00:00Z", Some(0)),
            ("2000-02-29T12:00:00Z", Some(951_825_600)),
            ("2026-11-21T02:41:03Z", Some(1_795_228_863)),
            ("2026-11-21T03:41:03.75+01:00", Some(1_795_228_863)),
            ("1969-12-31T23:59:59Z", Some(-1)),
            ("2026-11-21", None),
            ("2026-13-21T00:00:00Z", None),
            ("2026-11-21T00:00:00", None),
            ("+026-11-21T00:00:00Z", None),
        ] {
            assert_eq!(unix_seconds(text), seconds, "{text}");
        }
    }

    #[test]
    fn depth_counts_objects_and_lists() {
        for (value, depth) in [(json!(1), 0), (json!({}), 1), (json!({"a": [1]}), 2), (json!([[[]]]), 3)] {
            assert!(is_at_most_deep(&value, depth), "{value}");
            assert!(depth == 0 || !is_at_most_deep(&value, depth - 1), "{value}");
        }
    }
}
