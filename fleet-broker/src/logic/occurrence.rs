//! What happens to objects, in the words in which events tell of it.

mod written;

use crate::logic::registry::ObjectKey;

pub use written::of_change;

/// Longest message of an event, in bytes: Kubernetes' limit.
pub const MESSAGE_MAX_LEN: usize = 1024;

/// What ends a message that was longer.
const CUT: &str = "...";

/// Something that happened to an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Occurrence {
    /// To which.
    pub about: ObjectKey,
    /// What.
    pub reason: Reason,
    /// In a sentence, for people. Texts of clusters are in it as they came: whoever keeps it makes it [`plain`].
    pub message: String,
}

/// What happens, as `kubectl get events` says it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Reason {
    /// A cluster may connect.
    Accepted,
    /// A cluster holds what this hub does not know, and was asked for it.
    Ahead,
    /// A release runs on a cluster.
    Applied,
    /// An operator approved a change.
    Approved,
    /// What runs on a cluster is healthy.
    Available,
    /// An application waits for an operator's approval.
    AwaitsApproval,
    /// An application cannot go on.
    Blocked,
    /// An operator wrote an object.
    Changed,
    /// The hub's clock was set.
    ClockSet,
    /// Every cluster has it and is healthy.
    Complete,
    /// A cluster is there.
    Connected,
    /// An object was made.
    Created,
    /// What runs on a cluster is not healthy.
    Degraded,
    /// An object was deleted.
    Deleted,
    /// Somebody else changes what was applied.
    Drifted,
    /// Some clusters failed.
    Failed,
    /// Nothing starts in a part of the fleet.
    Frozen,
    /// What others had changed is as it was again.
    Healed,
    /// Nothing starts on a cluster.
    Held,
    /// A hold has ended.
    HoldEnded,
    /// A cluster has made its keys.
    Joined,
    /// A cluster's key is believed no more.
    KeyRevoked,
    /// A freeze is over.
    Lifted,
    /// In another life of the hub it is known what a cluster holds.
    Met,
    /// A cluster may not connect any more.
    NotAccepted,
    /// What a cluster shows is not believed.
    NotBelieved,
    /// A release is to run on a cluster.
    Offered,
    /// A cluster's connection is down.
    Offline,
    /// A change goes to clusters.
    Promoted,
    /// A cluster does not delete what it was told to.
    PruneRefused,
    /// A bundle was published.
    Published,
    /// Changes go on after a recovery.
    RecoveryAccepted,
    /// The hub leads another life, and changes nothing yet.
    Recovering,
    /// A cluster refused a release.
    Rejected,
    /// A cluster has removed an application.
    Removed,
    /// A cluster is to remove an application.
    Removing,
}

impl Reason {
    /// The word: `Offered`.
    pub const fn word(self) -> &'static str {
        match self {
            Reason::Accepted => "Accepted",
            Reason::Ahead => "Ahead",
            Reason::Applied => "Applied",
            Reason::Approved => "Approved",
            Reason::Available => "Available",
            Reason::AwaitsApproval => "AwaitsApproval",
            Reason::Blocked => "Blocked",
            Reason::Changed => "Changed",
            Reason::ClockSet => "ClockSet",
            Reason::Complete => "Complete",
            Reason::Connected => "Connected",
            Reason::Created => "Created",
            Reason::Degraded => "Degraded",
            Reason::Deleted => "Deleted",
            Reason::Drifted => "Drifted",
            Reason::Failed => "Failed",
            Reason::Frozen => "Frozen",
            Reason::Healed => "Healed",
            Reason::Held => "Held",
            Reason::HoldEnded => "HoldEnded",
            Reason::Joined => "Joined",
            Reason::KeyRevoked => "KeyRevoked",
            Reason::Lifted => "Lifted",
            Reason::Met => "Met",
            Reason::NotAccepted => "NotAccepted",
            Reason::NotBelieved => "NotBelieved",
            Reason::Offered => "Offered",
            Reason::Offline => "Offline",
            Reason::Promoted => "Promoted",
            Reason::PruneRefused => "PruneRefused",
            Reason::Published => "Published",
            Reason::RecoveryAccepted => "RecoveryAccepted",
            Reason::Recovering => "Recovering",
            Reason::Rejected => "Rejected",
            Reason::Removed => "Removed",
            Reason::Removing => "Removing",
        }
    }

    /// Whether somebody should look: else it is `Normal`. Being offline is a state of its own, and no failure.
    pub const fn is_warning(self) -> bool {
        matches!(
            self,
            Reason::Ahead
                | Reason::AwaitsApproval
                | Reason::Blocked
                | Reason::ClockSet
                | Reason::Degraded
                | Reason::Drifted
                | Reason::Failed
                | Reason::KeyRevoked
                | Reason::NotBelieved
                | Reason::PruneRefused
                | Reason::Recovering
                | Reason::Rejected
        )
    }
}

/// A text that a terminal shows as it is: what would control the terminal, or turn what is read around, is escaped,
/// and what is too long is cut. Clusters are not believed to send nothing of this sort.
pub fn plain(text: &str) -> String {
    let mut plain = String::with_capacity(text.len().min(MESSAGE_MAX_LEN));
    for c in text.chars() {
        let before = plain.len();
        if c.is_control() || turns_around(c) {
            plain.extend(c.escape_default())
        } else {
            plain.push(c)
        }
        if plain.len() > MESSAGE_MAX_LEN {
            plain.truncate(before);
            return cut(plain);
        }
    }
    plain
}

/// Makes room for what says that there was more.
fn cut(mut text: String) -> String {
    while text.len() + CUT.len() > MESSAGE_MAX_LEN {
        text.pop();
    }
    text + CUT
}

/// Characters that change the direction of what is around them, and are not seen themselves.
fn turns_around(c: char) -> bool {
    matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_clusters_are_shown_as_they_are() {
        let rows = [
            ("no such image", "no such image"),
            ("Größe über Grenze", "Größe über Grenze"),
            ("a\u{1b}[2Jb\r\nc\t\0", "a\\u{1b}[2Jb\\r\\nc\\t\\u{0}"),
            ("\u{9b}2J", "\\u{9b}2J"),
            ("gpj.\u{202e}exe", "gpj.\\u{202e}exe"),
        ];
        for (text, expected) in rows {
            assert_eq!(plain(text), expected);
        }
        for text in
            ["x".repeat(5000), "ü".repeat(5000), "\u{1b}".repeat(5000), "y".repeat(MESSAGE_MAX_LEN + 1)]
        {
            let short = plain(&text);
            assert!(short.len() <= MESSAGE_MAX_LEN && short.len() > MESSAGE_MAX_LEN - 8, "{}", short.len());
            assert!(short.ends_with(CUT), "{short}");
        }
        assert_eq!(plain(&"x".repeat(MESSAGE_MAX_LEN)).len(), MESSAGE_MAX_LEN);
    }
}
