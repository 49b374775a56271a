//! Query parameters, read the way an API server reads them: unknown ones are ignored, booleans are Go's.

use apimachinery::selector::{FieldSelector, METADATA_FIELDS, Selector, parse};
use apimachinery::table::IncludeObject;
use axum::extract::Query;
use axum::http::HeaderMap;
use axum::http::Uri;
use axum::http::header::USER_AGENT;
use axum::http::uri::InvalidUri;

use crate::logic::registry::failure::{self, Failure};
use crate::logic::registry::{FieldValidation, Filter};

/// Longest query, in bytes: two selectors and a token.
const QUERY_MAX_LEN: usize = 32 * 1024;

/// What a request asks for beside its path.
#[derive(Clone, Debug)]
pub(super) struct Params {
    pub(super) watch: bool,
    pub(super) labels: Selector,
    pub(super) fields: FieldSelector,
    /// 0 for all.
    pub(super) limit: usize,
    pub(super) continue_token: String,
    /// None when absent; `0` is any version.
    pub(super) resource_version: Option<u64>,
    pub(super) resource_version_match: String,
    pub(super) send_initial_events: Option<bool>,
    pub(super) allow_watch_bookmarks: bool,
    pub(super) timeout_seconds: Option<u64>,
    pub(super) include_object: IncludeObject,
    pub(super) field_validation: FieldValidation,
    pub(super) dry_run: bool,
    /// As whom the client owns what it writes, if it says so.
    pub(super) field_manager: String,
    pub(super) force: Option<bool>,
}

/// Whether a query that reads asks for a watch.
pub(super) fn asks_for_watch(query: &str) -> bool {
    Pairs::parse(query).and_then(|pairs| pairs.boolean("watch")).is_ok_and(|watch| watch == Some(true))
}

impl Params {
    /// Reads the query of a request about objects that are selected by their metadata.
    pub(super) fn parse(query: &str) -> Result<Params, Failure> {
        Params::parse_selecting(query, METADATA_FIELDS)
    }

    /// Reads the query of a request about objects that are selected by these fields.
    pub(super) fn parse_selecting(query: &str, fields: &[&'static str]) -> Result<Params, Failure> {
        let pairs = Pairs::parse(query)?;
        let selector = |error: &dyn std::fmt::Display| failure::bad_request(error.to_string());
        Ok(Params {
            watch: pairs.boolean("watch")?.unwrap_or(false),
            labels: parse(pairs.text("labelSelector")).map_err(|error| selector(&error))?,
            fields: FieldSelector::parse(pairs.text("fieldSelector"), fields)
                .map_err(|error| selector(&error))?,
            limit: pairs.number("limit")?.unwrap_or(0),
            continue_token: pairs.text("continue").to_owned(),
            resource_version: pairs.number("resourceVersion")?,
            resource_version_match: pairs.text("resourceVersionMatch").to_owned(),
            send_initial_events: pairs.boolean("sendInitialEvents")?,
            allow_watch_bookmarks: pairs.boolean("allowWatchBookmarks")?.unwrap_or(false),
            timeout_seconds: pairs.number("timeoutSeconds")?,
            include_object: pairs.include_object()?,
            field_validation: pairs.field_validation()?,
            dry_run: dry_run(pairs.text("dryRun"))?,
            field_manager: field_manager(pairs.text("fieldManager"))?,
            force: pairs.boolean("force")?,
        })
    }

    /// The selection that these parameters make in a namespace, or everywhere.
    pub(super) fn filter(&self, namespace: Option<String>) -> Filter {
        Filter { namespace, labels: self.labels.clone(), fields: self.fields.clone() }
    }
}

/// Reads `dryRun`, which is `All` or absent.
pub(super) fn dry_run(text: &str) -> Result<bool, Failure> {
    match text {
        "" => Ok(false),
        "All" => Ok(true),
        other => Err(failure::bad_request(format!("invalid dryRun {other:?}: supported is \"All\""))),
    }
}

/// Longest name of a field manager, in bytes: the API server's limit.
const FIELD_MANAGER_MAX_LEN: usize = 128;

fn field_manager(text: &str) -> Result<String, Failure> {
    if text.len() > FIELD_MANAGER_MAX_LEN || text.chars().any(char::is_control) {
        let why = format!("fieldManager must have at most {FIELD_MANAGER_MAX_LEN} printable bytes");
        return Err(failure::bad_request(why));
    }
    Ok(text.to_owned())
}

/// As whom a client owns what it writes: as whom it says, else as the first word of its User-Agent.
pub(super) fn manager(field_manager: &str, headers: &HeaderMap) -> String {
    if !field_manager.is_empty() {
        return field_manager.to_owned();
    }
    let agent = headers.get(USER_AGENT).and_then(|agent| agent.to_str().ok()).unwrap_or_default();
    let word = agent.split('/').next().unwrap_or_default();
    word.chars().filter(|c| !c.is_control()).take(FIELD_MANAGER_MAX_LEN).collect()
}

struct Pairs(Vec<(String, String)>);

impl Pairs {
    fn parse(query: &str) -> Result<Pairs, Failure> {
        let wrong =
            |why: &dyn std::fmt::Display| failure::bad_request(format!("the query is malformed: {why}"));
        if query.len() > QUERY_MAX_LEN {
            return Err(wrong(&format!("it has more than {QUERY_MAX_LEN} bytes")));
        }
        let uri: Uri = format!("/?{query}").parse().map_err(|error: InvalidUri| wrong(&error))?;
        let Query(pairs) = Query::try_from_uri(&uri).map_err(|error| wrong(&error))?;
        Ok(Pairs(pairs))
    }

    fn text(&self, name: &str) -> &str {
        self.0.iter().find(|(key, _)| key == name).map_or("", |(_, value)| value)
    }

    /// As Go's `strconv.ParseBool`; a parameter without a value is true.
    fn boolean(&self, name: &str) -> Result<Option<bool>, Failure> {
        match self.0.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str()) {
            None => Ok(None),
            Some("" | "1" | "t" | "T" | "true" | "TRUE" | "True") => Ok(Some(true)),
            Some("0" | "f" | "F" | "false" | "FALSE" | "False") => Ok(Some(false)),
            Some(other) => Err(failure::bad_request(format!("{name}: {other:?} is no boolean"))),
        }
    }

    fn number<N: std::str::FromStr>(&self, name: &str) -> Result<Option<N>, Failure> {
        match self.text(name) {
            "" => Ok(None),
            text => text
                .parse()
                .map(Some)
                .map_err(|_| failure::bad_request(format!("{name}: {text:?} is no whole number from 0"))),
        }
    }

    fn include_object(&self) -> Result<IncludeObject, Failure> {
        match self.text("includeObject") {
            "" | "Metadata" => Ok(IncludeObject::Metadata),
            "None" => Ok(IncludeObject::None),
            "Object" => Ok(IncludeObject::Object),
            other => Err(failure::bad_request(format!("unrecognized includeObject value: {other:?}"))),
        }
    }

    fn field_validation(&self) -> Result<FieldValidation, Failure> {
        match self.text("fieldValidation") {
            "" | "Warn" => Ok(FieldValidation::Warn),
            "Strict" => Ok(FieldValidation::Strict),
            "Ignore" => Ok(FieldValidation::Ignore),
            other => Err(failure::bad_request(format!(
                "invalid fieldValidation {other:?}: supported are \"Ignore\", \"Strict\" and \"Warn\""
            ))),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn queries() {
        let rows = [
            ("", "watch: false"),
            ("watch", "watch: true"),
            ("watch=1&unknown=x", "watch: true"),
            ("watch=False", "watch: false"),
            ("limit=500&continue=abc", "limit: 500, continue_token: \"abc\""),
            ("resourceVersion=0", "resource_version: Some(0)"),
            ("includeObject=Object", "include_object: Object"),
            ("fieldValidation=Strict", "field_validation: Strict"),
            ("dryRun=All", "dry_run: true"),
            ("labelSelector=a%3Db%2C%21c", "key: \"c\", test: DoesNotExist"),
        ];
        for (query, expected) in rows {
            let actual = format!("{:?}", Params::parse(query).unwrap());
            assert!(actual.contains(expected), "{query}: {actual}");
        }
        for query in [
            "watch=maybe",
            "limit=-1",
            "labelSelector=a+b",
            "fieldSelector=spec.x%3D1",
            "dryRun=Some",
            "includeObject=x",
        ] {
            assert_eq!(Params::parse(query).unwrap_err().code, 400, "{query}");
        }
    }
}
