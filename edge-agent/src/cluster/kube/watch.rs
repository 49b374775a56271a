//! A watch on the metadata of one kind.

use std::{
    collections::{BTreeMap, VecDeque},
    mem,
    rc::Rc,
    time::Duration,
};

use http::Method;
use http_body_util::BodyExt;
use kube::client::Body;
use serde::{Deserialize, de::IgnoredAny};
use tokio::time::timeout;

use super::{Api, chain, encode, parse, success};
use crate::{
    cluster::{
        ClusterError, MAX_OBJECT_BYTES, ObjectMeta, REQUEST_TIMEOUT, WatchEvent, backoff::Backoff,
        status::Status,
    },
    logic::object::{Gvk, ObjectRef},
};

/// Objects in one page of a list: about 100 KB with their `managedFields`, which the API server sends along.
const PAGE: u32 = 50;

/// How long one watch request stays open; at least this many seconds, at most twice. As in client-go, so that
/// a server that was replaced sees its clients again within minutes.
const OPEN_SECONDS: u64 = 300;

const METADATA: &str = "application/json;as=PartialObjectMetadata;g=meta.k8s.io;v=v1";
const METADATA_LIST: &str = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1";

/// A watch that lists, then follows, and starts again as often as it must.
pub(super) struct Watch {
    api: Rc<Api>,
    kind: Gvk,
    selector: String,
    open_seconds: u64,
    backoff: Backoff,
    pause: Option<Duration>,
    ready: VecDeque<WatchEvent>,
    state: State,
}

enum State {
    /// To be listed, from the start or from where a page ended.
    Listing { next_page: Option<String> },
    /// To be followed from a version.
    Listed { version: String },
    /// Being followed.
    Open { version: String, lines: Lines, silent: bool },
}

impl Watch {
    pub(super) fn new(api: Rc<Api>, kind: Gvk, selector: String, seed: u64) -> Self {
        Self {
            api,
            kind,
            selector: encode(&selector),
            open_seconds: OPEN_SECONDS + seed % OPEN_SECONDS,
            backoff: Backoff::new(seed),
            pause: None,
            ready: VecDeque::new(),
            state: State::Listing { next_page: None },
        }
    }

    pub(super) async fn next(&mut self) -> WatchEvent {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return event;
            }
            if let Some(pause) = self.pause.take() {
                wait(pause).await;
            }
            if let Err(error) = self.step().await {
                self.fail(error);
            }
        }
    }

    /// Asks once or reads once. What came is in `ready`, and `state` is where to go on.
    async fn step(&mut self) -> Result<(), ClusterError> {
        match mem::replace(&mut self.state, State::Listing { next_page: None }) {
            State::Listing { next_page } => {
                let page = self.page(next_page.as_deref());
                let page = timeout(REQUEST_TIMEOUT, page).await.map_err(|_| overdue(REQUEST_TIMEOUT))??;
                self.listed(next_page.is_none(), page)
            }
            State::Listed { version } => self.open(version).await,
            State::Open { version, lines, silent } => self.follow(version, lines, silent).await,
        }
    }

    async fn page(&self, next_page: Option<&str>) -> Result<Page, ClusterError> {
        let collection = self.api.collection(&self.kind, None).await?;
        let next_page = next_page.map(|token| format!("&continue={}", encode(token))).unwrap_or_default();
        let path = format!("{collection}?limit={PAGE}&labelSelector={}{next_page}", self.selector);
        let answer = self.api.call(Method::GET, &path, METADATA_LIST, None).await?;
        parse(&self.api.accept(answer, &self.kind).await?)
    }

    fn listed(&mut self, first: bool, page: Page) -> Result<(), ClusterError> {
        if first {
            self.ready.push_back(WatchEvent::Listing);
        }
        for item in page.items.into_iter().flatten() {
            let meta = item.metadata.named(&self.kind)?;
            self.ready.push_back(WatchEvent::Changed(meta));
        }
        self.backoff.reset();
        self.state = match page.metadata.next_page.filter(|token| !token.is_empty()) {
            Some(token) => State::Listing { next_page: Some(token) },
            None => {
                self.ready.push_back(WatchEvent::Synced);
                State::Listed { version: page.metadata.resource_version }
            }
        };
        Ok(())
    }

    async fn open(&mut self, version: String) -> Result<(), ClusterError> {
        self.state = State::Listed { version: version.clone() };
        let lines = timeout(REQUEST_TIMEOUT, self.request(&version)).await;
        let lines = lines.map_err(|_| overdue(REQUEST_TIMEOUT))??;
        self.state = State::Open { version, lines, silent: true };
        Ok(())
    }

    async fn request(&self, version: &str) -> Result<Lines, ClusterError> {
        let collection = self.api.collection(&self.kind, None).await?;
        let path = format!(
            "{collection}?watch=true&allowWatchBookmarks=true&timeoutSeconds={}&labelSelector={}&resourceVersion={}",
            self.open_seconds,
            self.selector,
            encode(version)
        );
        let answer = self.api.call(Method::GET, &path, METADATA, None).await?;
        if answer.status().is_success() {
            return Ok(Lines { body: answer.into_body(), buffer: Vec::new() });
        }
        let status = success(answer).await?.err().unwrap_or_default();
        self.api.forget_if_unserved(&status, &self.kind);
        Err(if status.code == 404 {
            ClusterError::UnknownKind { gvk: self.kind.clone() }
        } else {
            status.general()
        })
    }

    async fn follow(&mut self, version: String, mut lines: Lines, silent: bool) -> Result<(), ClusterError> {
        self.state = State::Listed { version: version.clone() };
        let patience = Duration::from_secs(self.open_seconds) + REQUEST_TIMEOUT;
        let Some(line) = timeout(patience, lines.next()).await.map_err(|_| overdue(patience))?? else {
            // The API server ends every watch in time; one that ended with nothing said is to be waited for.
            let message = "the watch ended before anything was said".to_owned();
            return if silent { Err(ClusterError::Unavailable { message }) } else { Ok(()) };
        };
        let version = self.event(parse(&line)?)?.unwrap_or(version);
        self.backoff.reset();
        self.state = State::Open { version, lines, silent: false };
        Ok(())
    }

    /// Takes in one event; gives the version to resume from.
    fn event(&mut self, line: Line) -> Result<Option<String>, ClusterError> {
        let version = line.object.metadata.resource_version.clone();
        match line.kind.as_str() {
            "BOOKMARK" => {}
            "ADDED" | "MODIFIED" => {
                self.ready.push_back(WatchEvent::Changed(line.object.metadata.named(&self.kind)?));
            }
            "DELETED" => self.ready.push_back(WatchEvent::Gone(line.object.metadata.named(&self.kind)?)),
            "ERROR" => {
                let Item { code, message, .. } = line.object;
                return Err(Status { code, message, ..Status::default() }.general());
            }
            other => return Err(ClusterError::Unexpected { message: format!("watch event {other:?}") }),
        }
        Ok(Some(version).filter(|version| !version.is_empty()))
    }

    /// After an error: go on later where it was, or list anew where the version is too old. A list begins
    /// again from its start, because its pages belong to one version.
    fn fail(&mut self, error: ClusterError) {
        self.pause = Some(self.backoff.wait());
        if matches!(error, ClusterError::Expired { .. }) {
            self.state = State::Listing { next_page: None };
        } else {
            self.ready.push_back(WatchEvent::Lost(error));
        }
    }
}

#[derive(Deserialize)]
struct Page {
    metadata: PageMeta,
    /// An API server writes no items as `null` where it converts a list to its metadata.
    items: Option<Vec<Item>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct PageMeta {
    resource_version: String,
    #[serde(rename = "continue")]
    next_page: Option<String>,
}

#[derive(Deserialize)]
struct Line {
    #[serde(rename = "type")]
    kind: String,
    object: Item,
}

/// An object's metadata; or, in an `ERROR`, a status.
#[derive(Deserialize)]
struct Item {
    #[serde(default)]
    metadata: Metadata,
    #[serde(default)]
    code: u16,
    #[serde(default)]
    message: String,
}

#[derive(Default, Deserialize)]
#[serde(default, rename_all = "camelCase")]
struct Metadata {
    name: String,
    namespace: Option<String>,
    uid: String,
    generation: Option<i64>,
    resource_version: String,
    labels: BTreeMap<String, String>,
    deletion_timestamp: Option<IgnoredAny>,
}

impl Metadata {
    fn named(self, kind: &Gvk) -> Result<ObjectMeta, ClusterError> {
        if self.name.is_empty() || self.uid.is_empty() {
            return Err(ClusterError::Unexpected { message: format!("a {kind} without name or uid") });
        }
        Ok(ObjectMeta {
            object: ObjectRef { gvk: kind.clone(), namespace: self.namespace, name: self.name },
            uid: self.uid,
            generation: self.generation,
            resource_version: self.resource_version,
            labels: self.labels,
            deleting: self.deletion_timestamp.is_some(),
        })
    }
}

/// The lines of a body, as they come.
struct Lines {
    body: Body,
    buffer: Vec<u8>,
}

impl Lines {
    async fn next(&mut self) -> Result<Option<Vec<u8>>, ClusterError> {
        let mut searched = 0;
        loop {
            if let Some(at) = self.buffer[searched..].iter().position(|byte| *byte == b'\n') {
                let rest = self.buffer.split_off(searched + at + 1);
                return Ok(Some(mem::replace(&mut self.buffer, rest)));
            }
            searched = self.buffer.len();
            if searched > MAX_OBJECT_BYTES {
                return Err(ClusterError::TooLarge { what: "a watch event".into() });
            }
            match self.body.frame().await {
                None => return Ok(None),
                Some(Err(error)) => return Err(ClusterError::Unavailable { message: chain(&error) }),
                Some(Ok(frame)) => {
                    if let Ok(data) = frame.into_data() {
                        self.buffer.extend_from_slice(&data);
                    }
                }
            }
        }
    }
}

fn overdue(after: Duration) -> ClusterError {
    ClusterError::Timeout { after }
}

#[allow(clippy::disallowed_methods, reason = "a pause after a failure waits for time and nothing else")]
async fn wait(pause: Duration) {
    tokio::time::sleep(pause).await;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_of_nothing_is_a_list() {
        for (items, expected) in [
            ("null", 0),
            ("[]", 0),
            (r#"[{"metadata": {"name": "a", "uid": "b", "resourceVersion": "1"}}]"#, 1),
        ] {
            let list = format!(r#"{{"metadata": {{"resourceVersion": "1"}}, "items": {items}}}"#);
            let page: Page = parse(list.as_bytes()).unwrap();
            assert_eq!(page.items.into_iter().flatten().count(), expected, "{list}");
        }
    }
}
