//! Events as they are kept: what differs between them. The JSON that clients see is made of it when it is asked for.

use std::borrow::Cow;

use jiff::Timestamp;
use ring::digest::{SHA256, digest};
use serde::{Deserialize, Serialize};

use super::ObjectKey;
use super::texts::Texts;
use super::uuid::{Uid, Uuid};
use crate::resources::{Kind, event};

/// A time of whole seconds, as Kubernetes writes it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Second(pub(super) i64);

/// What an event tells.
#[derive(Clone, Copy, Debug)]
pub(super) struct Facts<'a> {
    pub(super) namespace: &'a str,
    pub(super) name: &'a str,
    /// The object that it happened to, in this namespace or in none.
    pub(super) about: Kind,
    pub(super) about_name: &'a str,
    pub(super) about_uid: Uid<'a>,
    pub(super) reason: &'a str,
    pub(super) message: &'a str,
    pub(super) is_warning: bool,
    pub(super) first: Second,
    pub(super) last: Second,
    /// Each time is a write, so there are no more.
    pub(super) count: u32,
}

/// What an event tells, as it is kept: there are several for each cluster.
#[derive(Clone, Debug)]
pub(super) struct Tale {
    /// Namespace, name, the object's name and uid, reason and message. The object's name is empty where the event's
    /// begins with it and a dot, the uid where it is of the usual form.
    texts: Texts<[u32; 6]>,
    about_uid: Option<Uuid>,
    about: Kind,
    is_warning: bool,
    count: u32,
    pub(super) first: Second,
    pub(super) last: Second,
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
        let tale = Tale::of(&Facts {
            namespace: &written.metadata.namespace,
            name: &written.metadata.name,
            about: Kind::from_name(&written.involved_object.kind)?,
            about_name: &written.involved_object.name,
            about_uid: written.involved_object.uid.as_str().into(),
            reason: &written.reason,
            message: &written.message,
            is_warning: written.type_ == type_of(true),
            first: Second::read(&written.first_timestamp)?,
            last: Second::read(&written.last_timestamp)?,
            count: written.count.try_into().ok()?,
        });
        (tale.write(version) == written).then_some(tale)
    }

    pub(super) fn of(facts: &Facts<'_>) -> Tale {
        let Facts { namespace, name, about_name, reason, message, .. } = *facts;
        let odd_name = if name_before_dot(name) == about_name { "" } else { about_name };
        let (about_uid, odd_uid) = match facts.about_uid {
            Uid::Usual(uuid) => (Some(uuid), ""),
            Uid::Other(text) => (None, text),
        };
        Tale {
            texts: Texts::new(&[namespace, name, odd_name, odd_uid, reason, message]),
            about_uid,
            about: facts.about,
            is_warning: facts.is_warning,
            count: facts.count,
            first: facts.first,
            last: facts.last,
        }
    }

    pub(super) fn facts(&self) -> Facts<'_> {
        let (namespace, name) = self.names();
        Facts {
            namespace,
            name,
            about: self.about,
            about_name: self.about_name(),
            about_uid: self.about_uid(),
            reason: self.reason(),
            message: self.message(),
            is_warning: self.is_warning,
            first: self.first,
            last: self.last,
            count: self.count,
        }
    }

    /// Its namespace and name.
    pub(super) fn names(&self) -> (&str, &str) {
        (self.texts.at(0), self.texts.at(1))
    }

    fn about_name(&self) -> &str {
        let odd_name = self.texts.at(2);
        if odd_name.is_empty() { name_before_dot(self.texts.at(1)) } else { odd_name }
    }

    fn about_namespace(&self) -> &str {
        if self.about.is_namespaced() { self.texts.at(0) } else { "" }
    }

    fn about_uid(&self) -> Uid<'_> {
        self.about_uid.map_or_else(|| Uid::Other(self.texts.at(3)), Uid::Usual)
    }

    fn reason(&self) -> &str {
        self.texts.at(4)
    }

    fn message(&self) -> &str {
        self.texts.at(5)
    }

    /// Its JSON at a version.
    pub(super) fn text(&self, version: u64) -> String {
        serde_json::to_string(&self.write(version)).expect("an event is JSON")
    }

    /// Whoever makes the same event at the same time again makes the same one.
    pub(super) fn uid(&self) -> String {
        let (namespace, name) = self.names();
        let key = ObjectKey::new(Kind::Event, namespace, name);
        let text = format!("{key} {}", self.first.text());
        Uuid::of_digest(digest(&SHA256, text.as_bytes()).as_ref()).to_string()
    }

    /// The text at a path by which events are selected; empty if there is none.
    pub(super) fn field(&self, path: &str) -> Cow<'_, str> {
        match path {
            "involvedObject.apiVersion" => self.about.api_version(),
            "involvedObject.kind" => self.about.name(),
            "involvedObject.name" => self.about_name(),
            "involvedObject.namespace" => self.about_namespace(),
            "involvedObject.uid" => return self.about_uid().to_string().into(),
            "message" => self.message(),
            "reason" => self.reason(),
            "reportingComponent" | "source" => event::COMPONENT,
            "type" => type_of(self.is_warning),
            _ => "",
        }
        .into()
    }

    /// What clients see of it at a version.
    pub(super) fn write(&self, version: u64) -> Written {
        let (facts, first) = (self.facts(), self.first.text());
        Written {
            api_version: Kind::Event.api_version().to_owned(),
            count: facts.count.into(),
            event_time: None,
            first_timestamp: first.clone(),
            involved_object: Involved {
                api_version: facts.about.api_version().to_owned(),
                kind: facts.about.name().to_owned(),
                name: facts.about_name.to_owned(),
                namespace: self.about_namespace().to_owned(),
                uid: facts.about_uid.to_string(),
            },
            kind: Kind::Event.name().to_owned(),
            last_timestamp: facts.last.text(),
            message: facts.message.to_owned(),
            metadata: Metadata {
                creation_timestamp: first,
                name: facts.name.to_owned(),
                namespace: facts.namespace.to_owned(),
                resource_version: version.to_string(),
                uid: self.uid(),
            },
            reason: facts.reason.to_owned(),
            reporting_component: event::COMPONENT.to_owned(),
            reporting_instance: String::new(),
            source: Source { component: event::COMPONENT.to_owned() },
            type_: type_of(facts.is_warning).to_owned(),
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

/// The name of the object that an event of this name is about, unless that was too long for it.
fn name_before_dot(name: &str) -> &str {
    name.rsplit_once('.').map_or("", |(about, _)| about)
}

fn type_of(is_warning: bool) -> &'static str {
    if is_warning { "Warning" } else { "Normal" }
}
