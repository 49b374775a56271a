//! MQTT topics, both ways. Every topic is exact: no wildcard is ever subscribed to, and a cluster's id
//! stands in each of its topics, so that a broker's access list can be a comparison of strings.

use crate::ids::{ClusterId, TokenId};

const ROOT: &str = "ef/v1";

/// What the hub writes and one cluster reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Downward {
    /// Root documents the agent lacks.
    Root,
    /// The newest head.
    Head,
    /// The newest desired state.
    Desired,
    /// One piece of content that was asked for.
    Blob,
    /// Acknowledgement of reports.
    Ack,
    /// A question to the agent. Decided place; no question is asked yet.
    Ask,
}

impl Downward {
    /// Every downward topic, in the order an agent subscribes to them.
    pub const ALL: [Self; 6] = [Self::Root, Self::Head, Self::Desired, Self::Blob, Self::Ack, Self::Ask];

    /// The full topic for one cluster, such as `ef/v1/c/tower-1/d/head`.
    pub fn topic(self, cluster: &ClusterId) -> String {
        format!("{ROOT}/c/{cluster}/d/{}", self.leaf())
    }

    fn leaf(self) -> &'static str {
        match self {
            Self::Root => "root",
            Self::Head => "head",
            Self::Desired => "desired",
            Self::Blob => "blob",
            Self::Ack => "ack",
            Self::Ask => "ask",
        }
    }
}

/// What one cluster writes and the hub reads.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Upward {
    /// What the agent holds, and a nonce; an empty payload is the agent's will.
    Hello,
    /// Asks for content.
    Want,
    /// Health and progress.
    Report,
    /// The desired state the agent holds, as the director signed it: for a hub that knows another.
    Held,
}

impl Upward {
    /// Every upward topic.
    pub const ALL: [Self; 4] = [Self::Hello, Self::Want, Self::Report, Self::Held];

    /// The full topic for one cluster, such as `ef/v1/c/tower-1/u/hello`.
    pub fn topic(self, cluster: &ClusterId) -> String {
        format!("{ROOT}/c/{cluster}/u/{}", self.leaf())
    }

    fn leaf(self) -> &'static str {
        match self {
            Self::Hello => "hello",
            Self::Want => "want",
            Self::Report => "report",
            Self::Held => "held",
        }
    }
}

/// A topic that is none of ours.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is not a topic of this protocol")]
pub struct TopicError(pub String);

/// Reads a topic that a cluster writes to.
pub fn parse_upward(topic: &str) -> Result<(ClusterId, Upward), TopicError> {
    let (cluster, leaf) = split(topic, "u").ok_or_else(|| unknown(topic))?;
    let found = Upward::ALL.into_iter().find(|candidate| candidate.leaf() == leaf);
    found.map(|leaf| (cluster, leaf)).ok_or_else(|| unknown(topic))
}

/// Reads a topic that a cluster reads from.
pub fn parse_downward(topic: &str) -> Result<(ClusterId, Downward), TopicError> {
    let (cluster, leaf) = split(topic, "d").ok_or_else(|| unknown(topic))?;
    let found = Downward::ALL.into_iter().find(|candidate| candidate.leaf() == leaf);
    found.map(|leaf| (cluster, leaf)).ok_or_else(|| unknown(topic))
}

/// Where a new agent asks to be enrolled.
pub fn enrol_ask(token: &TokenId) -> String {
    format!("{ROOT}/enrol/{token}/ask")
}

/// Where a new agent reads the answer.
pub fn enrol_answer(token: &TokenId) -> String {
    format!("{ROOT}/enrol/{token}/answer")
}

fn split<'a>(topic: &'a str, direction: &str) -> Option<(ClusterId, &'a str)> {
    let mut parts = topic.strip_prefix(ROOT)?.strip_prefix("/c/")?.split('/');
    let cluster = ClusterId::new(parts.next()?).ok()?;
    let leaf = (parts.next()? == direction).then(|| parts.next()).flatten()?;
    parts.next().is_none().then_some((cluster, leaf))
}

fn unknown(topic: &str) -> TopicError {
    TopicError(topic.chars().take(120).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_topic_reads_back() {
        let cluster = ClusterId::new("tower-1").unwrap();
        for leaf in Upward::ALL {
            assert_eq!(parse_upward(&leaf.topic(&cluster)), Ok((cluster.clone(), leaf)));
            assert!(parse_downward(&leaf.topic(&cluster)).is_err());
        }
        for leaf in Downward::ALL {
            assert_eq!(parse_downward(&leaf.topic(&cluster)), Ok((cluster.clone(), leaf)));
            assert!(parse_upward(&leaf.topic(&cluster)).is_err());
        }
    }

    #[test]
    fn nothing_else_is_a_topic() {
        for topic in [
            "",
            "ef/v1",
            "ef/v1/c/tower-1/u",
            "ef/v1/c/tower-1/u/hello/x",
            "ef/v1/c/+/u/hello",
            "ef/v1/c/#",
            "ef/v1/c/../u/hello",
            "ef/v1/c//u/hello",
            "ef/v1/c/Tower/u/hello",
            "ef/v2/c/tower-1/u/hello",
            "$share/g/ef/v1/c/tower-1/u/hello",
            "$SYS/broker",
            "xef/v1/c/tower-1/u/hello",
        ] {
            assert!(parse_upward(topic).is_err(), "{topic}");
        }
    }
}
