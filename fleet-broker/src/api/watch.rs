//! Watches: a list's continuation, as a stream of JSON lines that ends with the hub, the client or a timeout.

use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use apimachinery::table::{IncludeObject, partial_metadata};
use axum::body::Body;
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use bytes::Bytes;
use futures::stream;
use serde::Serialize;
use serde_json::{Value, json};
use tokio::sync::OwnedSemaphorePermit;
use tokio::sync::watch::Receiver;
use tokio::time::{Instant, timeout_at};

use super::Api;
use super::metrics::OpenWatch;
use super::negotiate::{self, Form};
use super::params::Params;
use super::reply::{self, Refusal, bytes_response, status_json};
use crate::clock;
use crate::hub::Hub;
use crate::logic::registry::failure::{self, Failure};
use crate::logic::registry::{Event, EventType, Filter, Object};
use crate::resources::{FieldError, Kind};

/// How long a watch lasts when the client does not say: informers begin anew then.
const TIMEOUT_DEFAULT: Duration = Duration::from_secs(30 * 60);
/// How long it lasts at most.
const TIMEOUT_MAX: Duration = Duration::from_secs(24 * 60 * 60);
/// How often a client that asked for bookmarks gets one, so that it can continue from a recent version.
const BOOKMARK_INTERVAL: Duration = Duration::from_secs(60);
/// The annotation of the bookmark after which a client has seen all that was there when it began.
const INITIAL_EVENTS_END: &str = "k8s.io/initial-events-end";

/// Answers with what happens to the selected objects of a kind from now on, or from a version on.
pub(super) fn watch(
    api: &Api,
    kind: Kind,
    namespace: Option<String>,
    params: &Params,
    headers: &HeaderMap,
) -> Result<Response, Refusal> {
    let form = negotiate::form(headers, true)?;
    check_options(params)?;
    let permit = Arc::clone(&api.watches).try_acquire_owned().map_err(|_| reply::too_many("watches"))?;
    let published = api.hub.subscribe();
    let mut watcher = Watcher {
        hub: api.hub.clone(),
        kind,
        filter: params.filter(namespace),
        published,
        since: 0,
        render: Render { kind, form, include: params.include_object, headings_sent: false },
        bookmarks: params.allow_watch_bookmarks,
        ends: Instant::now()
            + params.timeout_seconds.map_or(TIMEOUT_DEFAULT, Duration::from_secs).min(TIMEOUT_MAX),
        finished: false,
        _open: api.metrics.open_watch(kind),
        _permit: permit,
    };
    let first = watcher.begin(params);
    let lines = stream::unfold((watcher, Some(first)), |(mut watcher, first)| async move {
        let lines = match first {
            Some(lines) if !lines.is_empty() => lines,
            Some(_) | None => watcher.next().await?,
        };
        Some((Ok::<Bytes, Infallible>(Bytes::from(lines)), (watcher, None)))
    });
    Ok(bytes_response(StatusCode::OK, "application/json", Body::from_stream(lines)))
}

fn check_options(params: &Params) -> Result<(), Failure> {
    let wrong = |field: &str, why: &str| {
        let mut failure = failure::invalid_patch(&[FieldError::forbidden(field, why)]);
        failure.message = format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: Forbidden: {why}");
        failure
    };
    match (params.send_initial_events, params.resource_version_match.as_str()) {
        (None, "") | (Some(_), "NotOlderThan") => Ok(()),
        (None, _) => Err(wrong(
            "resourceVersionMatch",
            "resourceVersionMatch is forbidden for watch unless sendInitialEvents is provided",
        )),
        (Some(_), _) => Err(wrong(
            "resourceVersionMatch",
            "sendInitialEvents requires setting resourceVersionMatch to NotOlderThan",
        )),
    }
}

struct Watcher {
    hub: Hub,
    kind: Kind,
    filter: Filter,
    published: Receiver<u64>,
    /// The client has been sent everything up to this version.
    since: u64,
    render: Render,
    bookmarks: bool,
    ends: Instant,
    finished: bool,
    _open: OpenWatch,
    _permit: OwnedSemaphorePermit,
}

impl Watcher {
    /// The first lines: what there is already, if the client wants it.
    fn begin(&mut self, params: &Params) -> Vec<u8> {
        let wanted = params.resource_version.unwrap_or(0);
        let initial = params.send_initial_events.unwrap_or(wanted == 0);
        if !initial && wanted > 0 {
            self.since = wanted;
            return self.catch_up();
        }
        let (version, page) =
            self.hub.read(|registry| (registry.version(), registry.list(self.kind, &self.filter, 0, "")));
        if wanted > version {
            return self.fail(&failure::too_large_version(wanted, version));
        }
        self.since = version;
        let mut lines = Vec::new();
        if initial {
            for object in page.map(|page| page.items).unwrap_or_default() {
                self.render.event("ADDED", &object, &mut lines);
            }
        }
        if params.send_initial_events == Some(true) && self.bookmarks {
            self.render.bookmark(version, true, &mut lines);
        }
        lines
    }

    /// The next lines, waiting for them; None at the end.
    async fn next(&mut self) -> Option<Vec<u8>> {
        while !self.finished {
            let until = self.ends.min(Instant::now() + BOOKMARK_INTERVAL);
            match timeout_at(until, self.published.changed()).await {
                Ok(Ok(())) => {
                    let lines = self.catch_up();
                    if !lines.is_empty() {
                        return Some(lines);
                    }
                }
                Ok(Err(_)) => return None,
                Err(_) if Instant::now() >= self.ends => return None,
                Err(_) if self.bookmarks => {
                    let mut lines = Vec::new();
                    self.render.bookmark(self.since, false, &mut lines);
                    return Some(lines);
                }
                Err(_) => {}
            }
        }
        None
    }

    fn catch_up(&mut self) -> Vec<u8> {
        let (version, events) = self
            .hub
            .read(|registry| (registry.version(), registry.events(self.kind, &self.filter, self.since)));
        match events {
            Ok(events) => {
                self.since = version;
                let mut lines = Vec::new();
                events.iter().for_each(|event| self.render.change(event, &mut lines));
                lines
            }
            Err(failure) => self.fail(&failure),
        }
    }

    /// A watch that has begun can only say in the stream that it fails.
    fn fail(&mut self, failure: &Failure) -> Vec<u8> {
        self.finished = true;
        let mut lines = Vec::new();
        write_line("ERROR", &status_json(failure), &mut lines);
        lines
    }
}

/// How objects are put into events.
struct Render {
    kind: Kind,
    form: Form,
    include: IncludeObject,
    /// Only the first Table of a stream has headings.
    headings_sent: bool,
}

impl Render {
    fn change(&mut self, event: &Event, lines: &mut Vec<u8>) {
        let event_type = match event.event_type {
            EventType::Added => "ADDED",
            EventType::Modified => "MODIFIED",
            EventType::Deleted => "DELETED",
        };
        self.event(event_type, &event.object, lines);
    }

    fn event(&mut self, event_type: &str, object: &Object, lines: &mut Vec<u8>) {
        match self.form {
            Form::Object => write_line(event_type, object, lines),
            Form::Metadata => write_line(event_type, &partial_metadata(&object.value()), lines),
            Form::Table => {
                let version = object.version();
                let table = self.table(&[&object.value()], version, json!({}));
                write_line(event_type, &table, lines);
            }
        }
    }

    fn bookmark(&mut self, version: u64, initial_end: bool, lines: &mut Vec<u8>) {
        let annotations = if initial_end { json!({INITIAL_EVENTS_END: "true"}) } else { json!({}) };
        let metadata = json!({"resourceVersion": version.to_string(), "annotations": annotations});
        let object = match self.form {
            Form::Object => {
                json!({"apiVersion": self.kind.api_version(), "kind": self.kind.name(), "metadata": metadata})
            }
            Form::Metadata => partial_metadata(&json!({"metadata": metadata})),
            Form::Table => self.table(&[&json!({"metadata": metadata})], version, annotations),
        };
        write_line("BOOKMARK", &object, lines);
    }

    fn table(&mut self, objects: &[&Value], version: u64, annotations: Value) -> Value {
        let mut metadata = json!({"resourceVersion": version.to_string()});
        if annotations != json!({}) {
            metadata["annotations"] = annotations;
        }
        let headings = !std::mem::replace(&mut self.headings_sent, true);
        let columns = &self.kind.definition().columns;
        columns.table(objects.iter().copied(), metadata, self.include, headings, clock::now())
    }
}

fn write_line(event_type: &str, object: &impl Serialize, lines: &mut Vec<u8>) {
    #[derive(Serialize)]
    struct Line<'a, T> {
        r#type: &'a str,
        object: &'a T,
    }
    let line = Line { r#type: event_type, object };
    serde_json::to_writer(&mut *lines, &line).expect("a value is written to memory");
    lines.push(b'\n');
}
