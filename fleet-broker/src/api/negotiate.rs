//! Which of the forms of an answer a client accepts.

use axum::http::HeaderMap;
use axum::http::header::ACCEPT;

use super::reply::{self, Refusal};

/// Most alternatives of one Accept header that are looked at.
const ALTERNATIVES_MAX: usize = 32;

/// The forms in which objects are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// As they are.
    Object,
    /// As rows of a Table.
    Table,
    /// Only their metadata.
    Metadata,
}

/// The form of an answer about objects: the first alternative that the hub knows. `list` is whether the answer is a
/// list, or a stream of events.
pub(super) fn form(headers: &HeaderMap, list: bool) -> Result<Form, Refusal> {
    let metadata = if list { "PartialObjectMetadataList" } else { "PartialObjectMetadata" };
    first(headers, |media| {
        if !media.is_json() {
            return None;
        }
        match (media.param("as"), media.param("g"), media.param("v")) {
            ("", _, _) => Some(Form::Object),
            ("Table", "meta.k8s.io", "v1") => Some(Form::Table),
            (kind, "meta.k8s.io", "v1") if kind == metadata => Some(Form::Metadata),
            _ => None,
        }
    })
}

/// Whether discovery is wanted in one document (true) or in the older lists (false).
pub(super) fn wants_aggregated_discovery(headers: &HeaderMap) -> Result<bool, Refusal> {
    first(headers, |media| match (media.param("as"), media.param("g"), media.param("v")) {
        _ if !media.is_json() => None,
        ("APIGroupDiscoveryList", "apidiscovery.k8s.io", "v2") => Some(true),
        ("", _, _) => Some(false),
        _ => None,
    })
}

/// Whether plain JSON is accepted.
pub(super) fn json(headers: &HeaderMap) -> Result<(), Refusal> {
    first(headers, |media| media.is_json().then_some(()))
}

fn first<T>(headers: &HeaderMap, choose: impl Fn(&Media<'_>) -> Option<T>) -> Result<T, Refusal> {
    let texts: Vec<&str> = headers.get_all(ACCEPT).iter().filter_map(|value| value.to_str().ok()).collect();
    let accept = if texts.is_empty() { "*/*".to_owned() } else { texts.join(",") };
    let chosen =
        accept.split(',').take(ALTERNATIVES_MAX).filter_map(Media::parse).find_map(|media| choose(&media));
    chosen.ok_or_else(reply::not_acceptable)
}

struct Media<'a> {
    media_type: &'a str,
    params: Vec<(&'a str, &'a str)>,
}

impl<'a> Media<'a> {
    fn parse(text: &'a str) -> Option<Media<'a>> {
        let mut parts = text.split(';').map(str::trim);
        let media_type = parts.next().filter(|media_type| !media_type.is_empty())?;
        let params =
            parts.filter_map(|part| part.split_once('=')).map(|(key, value)| (key.trim(), value.trim()));
        Some(Media { media_type, params: params.collect() })
    }

    fn is_json(&self) -> bool {
        matches!(self.media_type, "application/json" | "application/*" | "*/*")
    }

    fn param(&self, name: &str) -> &'a str {
        self.params.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forms() {
        const TABLE: &str = "application/json;as=Table;v=v1;g=meta.k8s.io";
        let kubectl = format!("{TABLE},application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json");
        let old = "application/json;as=Table;v=v1beta1;g=meta.k8s.io,application/json".to_owned();
        let list = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1".to_owned();
        let rows = [
            (String::new(), Some(Form::Object)),
            ("*/*".to_owned(), Some(Form::Object)),
            ("application/json; charset=utf-8".to_owned(), Some(Form::Object)),
            (kubectl, Some(Form::Table)),
            (old, Some(Form::Object)),
            (list.clone(), Some(Form::Metadata)),
            (format!("application/vnd.kubernetes.protobuf,{list}"), Some(Form::Metadata)),
            ("application/vnd.kubernetes.protobuf,application/json".to_owned(), Some(Form::Object)),
            ("application/vnd.kubernetes.protobuf".to_owned(), None),
            ("application/json;as=Nothing;g=meta.k8s.io;v=v1".to_owned(), None),
        ];
        for (accept, expected) in rows {
            let mut headers = HeaderMap::new();
            if !accept.is_empty() {
                headers.insert(ACCEPT, accept.parse().unwrap());
            }
            assert_eq!(form(&headers, true).ok(), expected, "{accept}");
        }
    }
}
