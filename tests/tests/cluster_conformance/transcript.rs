//! What a case saw, in words that are the same for every cluster.

use edge_agent::cluster::{ClusterError, ObjectMeta, Response, WatchEvent};
use serde_json::Value;

use crate::side::Side;

/// Lines, with what differs from cluster to cluster named in order of appearance.
pub(crate) struct Transcript {
    namespace: String,
    lines: Vec<String>,
    uids: Vec<String>,
    versions: Vec<String>,
}

impl Transcript {
    pub(crate) fn new(side: &Side) -> Self {
        let (uids, versions) = (Vec::new(), Vec::new());
        Self { namespace: side.namespace().to_owned(), lines: Vec::new(), uids, versions }
    }

    pub(crate) fn lines(self) -> Vec<String> {
        self.lines
    }

    pub(crate) fn line(&mut self, text: impl Into<String>) {
        let mut text: String = text.into();
        for (index, uid) in self.uids.iter().enumerate() {
            text = text.replace(uid.as_str(), &format!("u{}", index + 1));
        }
        self.lines.push(text.replace(&self.namespace, "NS"));
    }

    /// An answer: of an object its identity, version and what is at the pointers.
    pub(crate) fn answer(&mut self, answer: &Result<Response, ClusterError>, pointers: &[&str]) {
        let line = match answer {
            Ok(Response::Object(value)) => self.object(value, pointers),
            Ok(Response::List(values)) => format!("{} objects", values.len()),
            Ok(Response::Deleted) => "deleted".into(),
            Ok(Response::Deleting) => "deleting".into(),
            Ok(Response::Version(_)) => "a version".into(),
            Err(error) => format!("{error}; {:?}", error.remedy()),
        };
        self.line(line);
    }

    pub(crate) fn event(&mut self, event: &WatchEvent) {
        let line = match event {
            WatchEvent::Listing => "listing".into(),
            WatchEvent::Synced => "synced".into(),
            WatchEvent::Changed(meta) => format!("changed {}", self.meta(meta)),
            WatchEvent::Gone(meta) => format!("gone {}", self.meta(meta)),
            WatchEvent::Lost(error) => format!("lost: {error}"),
        };
        self.line(line);
    }

    fn meta(&mut self, meta: &ObjectMeta) -> String {
        let uid = number(&mut self.uids, &meta.uid);
        let version = number(&mut self.versions, &meta.resource_version);
        let generation = meta.generation.map_or("-".to_owned(), |generation| generation.to_string());
        let labels: Vec<String> = meta.labels.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let deleting = if meta.deleting { " deleting" } else { "" };
        format!("{} u{uid} v{version} generation {generation} [{}]{deleting}", meta.object, labels.join(" "))
    }

    fn object(&mut self, value: &Value, pointers: &[&str]) -> String {
        let text = |pointer| value.pointer(pointer).and_then(Value::as_str).unwrap_or("-").to_owned();
        let uid = number(&mut self.uids, &text("/metadata/uid"));
        let version = number(&mut self.versions, &text("/metadata/resourceVersion"));
        let generation = value.pointer("/metadata/generation").map_or("-".to_owned(), Value::to_string);
        let mut line = format!("u{uid} v{version} generation {generation}");
        for pointer in pointers {
            let found = value.pointer(pointer).map_or("-".to_owned(), Value::to_string);
            line.push_str(&format!(" {}={found}", pointer.rsplit('/').next().unwrap_or(pointer)));
        }
        line
    }
}

fn number(known: &mut Vec<String>, text: &str) -> usize {
    let index = known.iter().position(|one| one == text).unwrap_or_else(|| {
        known.push(text.to_owned());
        known.len() - 1
    });
    index + 1
}
