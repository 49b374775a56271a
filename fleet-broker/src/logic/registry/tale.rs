//! Events as they are kept: what differs between them. The JSON that clients see is made of it when it is asked for.

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::ObjectKey;
use super::transaction::uuid;
use crate::resources::{Kind, event};

/// A time of whole seconds, as Kubernetes writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Second(pub(super) i64);

/// What an event tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tale {
    pub(super) namespace: Box<str>,
    pub(super) name: Box<str>,
    /// The object that it happened to, in this namespace or in none.
    pub(super) about: Kind,
    pub(super) about_name: Box<str>,
    pub(super) about_uid: Box<str>,
    pub(super) reason: Box<str>,
    pub(super) message: Box<str>,
    pub(super) is_warning: bool,
    pub(super) first: Second,
    pub(super) last: Second,
    pub(super) count: i64,
}

/// An event as clients see it.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Written {
    api_version: String,
    count: i64,
    event_time: Option<String>,
    first_timestamp: String,
    involved_object: Involved,
    kind: String,
    last_timestamp: String,
    message: String,
    metadata: Metadata,
    reason: String,
    reporting_component: String,
    reporting_instance: String,
    source: Source,
    #[serde(rename = "type")]
    type_: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Involved {
    api_version: String,
    kind: String,
    name: String,
    namespace: String,
    uid: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Metadata {
    creation_timestamp: String,
    name: String,
    namespace: String,
    resource_version: String,
    uid: String,
}

#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Source {
    component: String,
}

impl Tale {
    /// Reads an event at a version; none if it is not as this hub writes it, to the letter.
    pub(super) fn read(version: u64, text: &str) -> Option<Tale> {
        let written: Written = serde_json::from_str(text).ok()?;
        let tale = Tale {
            namespace: written.metadata.namespace.as_str().into(),
            name: written.metadata.name.as_str().into(),
            about: Kind::from_name(&written.involved_object.kind)?,
            about_name: written.involved_object.name.as_str().into(),
            about_uid: written.involved_object.uid.as_str().into(),
            reason: written.reason.as_str().into(),
            message: written.message.as_str().into(),
            is_warning: written.type_ == type_of(true),
            first: Second::read(&written.first_timestamp)?,
            last: Second::read(&written.last_timestamp)?,
            count: written.count,
        };
        (tale.write(version) == written).then_some(tale)
    }

    /// Its JSON at a version.
    pub(super) fn text(&self, version: u64) -> String {
        serde_json::to_string(&self.write(version)).expect("an event is JSON")
    }

    /// Whoever makes the same event at the same time again makes the same one.
    pub(super) fn uid(&self) -> String {
        let key = ObjectKey::new(Kind::Event, &self.namespace, &self.name);
        uuid(digest(&SHA256, format!("{key} {}", self.first.text()).as_bytes()).as_ref())
    }

    /// The text at a path by which events are selected; empty if there is none.
    pub(super) fn field(&self, path: &str) -> &str {
        match path {
            "involvedObject.apiVersion" => self.about.api_version(),
            "involvedObject.kind" => self.about.name(),
            "involvedObject.name" => &self.about_name,
            "involvedObject.namespace" => self.about_namespace(),
            "involvedObject.uid" => &self.about_uid,
            "message" => &self.message,
            "reason" => &self.reason,
            "reportingComponent" | "source" => event::COMPONENT,
            "type" => type_of(self.is_warning),
            _ => "",
        }
    }

    fn about_namespace(&self) -> &str {
        if self.about.is_namespaced() { &self.namespace } else { "" }
    }

    /// What clients see of it at a version.
    pub(super) fn write(&self, version: u64) -> Written {
        let first = self.first.text();
        Written {
            api_version: Kind::Event.api_version().to_owned(),
            count: self.count,
            event_time: None,
            first_timestamp: first.clone(),
            involved_object: Involved {
                api_version: self.about.api_version().to_owned(),
                kind: self.about.name().to_owned(),
                name: self.about_name.to_string(),
                namespace: self.about_namespace().to_owned(),
                uid: self.about_uid.to_string(),
            },
            kind: Kind::Event.name().to_owned(),
            last_timestamp: self.last.text(),
            message: self.message.to_string(),
            metadata: Metadata {
                creation_timestamp: first,
                name: self.name.to_string(),
                namespace: self.namespace.to_string(),
                resource_version: version.to_string(),
                uid: self.uid(),
            },
            reason: self.reason.to_string(),
            reporting_component: event::COMPONENT.to_owned(),
            reporting_instance: String::new(),
            source: Source { component: event::COMPONENT.to_owned() },
            type_: type_of(self.is_warning).to_owned(),
        }
    }
}

impl Second {
    pub(super) fn text(self) -> String {
        Timestamp::from_second(self.0).unwrap_or_default().strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
    }

    fn read(text: &str) -> Option<Second> {
        text.parse::<Timestamp>().ok().map(|time| Second(time.as_second()))
    }
}

fn type_of(is_warning: bool) -> &'static str {
    if is_warning { "Warning" } else { "Normal" }
}
